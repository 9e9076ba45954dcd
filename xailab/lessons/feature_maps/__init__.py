"""Lesson 06: pictures full of edges, measures of feature maps, the explorer, and the checks of the exercises."""

from xailab.lessons.feature_maps import exercises
from xailab.lessons.feature_maps.drawings import (
    chain_strips,
    contact_sheet,
    draw_best,
    draw_depth,
    draw_fields,
    draw_filters,
    draw_idea,
    draw_layer,
    draw_sheets,
    draw_steps,
    draw_traps,
    edges_picture,
)
from xailab.lessons.feature_maps.exercises import DEAD_MISTAKES, dead_cases
from xailab.lessons.feature_maps.explorer import layer_explorer
from xailab.lessons.feature_maps.measuring import (
    activations,
    all_positive,
    best_class,
    cell_gradient,
    convolutions,
    correlation,
    dead_channels,
    edge_likeness,
    seen_square,
    selectivity,
    side_holding,
    sobel,
    trained_without,
    untrained,
)
