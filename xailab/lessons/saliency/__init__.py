"""Lesson 05: its drawings of saliency, segments and class models, its explorers, and its exercises' checks."""

from xailab.lessons.saliency import exercises
from xailab.lessons.saliency.cifar import trained_on_cifar10
from xailab.lessons.saliency.drawings import (
    TRICKS,
    averaged,
    by_position,
    cut_out,
    draw_class_model,
    draw_climb,
    draw_idea,
    draw_lattice,
    draw_overlaps,
    draw_posters,
    draw_rounding,
    draw_seeds,
    draw_segment,
    draw_smooth,
    draw_taylor,
    fine_share,
    glow,
    overlap,
    seeds,
    share_on,
    soft_spots,
)
from xailab.lessons.saliency.explorer import class_model_explorer, segment_explorer
