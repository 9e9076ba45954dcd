"""Lesson 08: its drawings of Gaussians, maps and thresholds, its explorer, and its exercises' checks."""

from xailab.lessons.drawings import outline
from xailab.lessons.padim import exercises
from xailab.lessons.padim.drawings import (
    TRUTH,
    Shown,
    curves,
    draw_choice,
    draw_drift,
    draw_ellipses,
    draw_gallery,
    draw_growth,
    draw_idea,
    draw_inspection,
    draw_maps,
    draw_pairs,
    draw_reduction,
    draw_scores,
    draw_threshold,
    median_defect,
    photographed,
    scaled_map,
)
from xailab.lessons.padim.explorer import inspection_explorer
from xailab.lessons.padim.measuring import (
    Judged,
    Recorded,
    described,
    fitted,
    pasted,
    print_choice,
    print_gains,
    print_products,
    rd,
    record,
    samples,
    scores_of,
    warmer,
)
