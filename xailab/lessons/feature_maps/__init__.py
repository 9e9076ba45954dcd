"""Lesson 06: pictures full of edges, measures of feature maps, the explorer, and the checks of the exercises."""

from xailab.lessons.drawings import number_grid
from xailab.lessons.feature_maps import exercises
from xailab.lessons.feature_maps.drawings import (
    activations,
    all_positive,
    best_class,
    cell_gradient,
    chain_strips,
    contact_sheet,
    convolutions,
    correlation,
    dead_channels,
    draw_layer,
    edge_likeness,
    edges_picture,
    photograph,
    seen_square,
    selectivity,
    side_holding,
    sobel,
    untrained,
)
from xailab.lessons.feature_maps.exercises import DEAD_MISTAKES, dead_cases
from xailab.lessons.feature_maps.explorer import layer_explorer
