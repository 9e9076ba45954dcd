"""Lesson 09: its drawings of patches, losses and maps, its explorer, and its exercises' checks."""

from xailab.lessons.patch_svdd import exercises
from xailab.lessons.patch_svdd.drawings import (
    WINDOW,
    LiveLosses,
    Searched,
    ablation,
    as_pictures,
    draw_centre,
    draw_embeddings,
    draw_four_maps,
    draw_hierarchy,
    draw_lambda,
    draw_losses,
    draw_matches,
    draw_pairs,
    draw_search,
    position_colours,
)
from xailab.lessons.patch_svdd.explorer import search_explorer
