"""Lesson 08: its drawings of Gaussians, maps and thresholds, its explorer, and its exercises' checks."""

from xailab.lessons.drawings import outline
from xailab.lessons.padim import exercises
from xailab.lessons.padim.drawings import (
    TRUTH,
    Recorded,
    Shown,
    curves,
    draw_cells,
    draw_ellipses,
    draw_gallery,
    draw_inspection,
    draw_maps,
    draw_scores,
    draw_threshold,
    rd,
    scaled_map,
)
from xailab.lessons.padim.explorer import inspection_explorer
