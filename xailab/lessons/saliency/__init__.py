"""Lesson 05: its drawings of saliency, segments and class models, its explorers, and its exercises' checks."""

from xailab.lessons.saliency import exercises
from xailab.lessons.saliency.drawings import (
    TRICKS,
    cut_out,
    draw_class_model,
    draw_seeds,
    draw_segment,
    glow,
    overlap,
    seeds,
    soft_spots,
)
from xailab.lessons.saliency.explorer import class_model_explorer, segment_explorer
