"""Lesson 07: its drawings of prototypes and of boxes under test, its explorer, and its exercises' checks."""

from xailab.lessons.protopnet import exercises
from xailab.lessons.protopnet.downloaded import birds, heads
from xailab.lessons.protopnet.drawings import (
    LITTLE,
    draw_architecture,
    draw_box,
    draw_else,
    draw_geometry,
    draw_kept,
    draw_kinds,
    draw_looks_like,
    draw_nearest,
    draw_neighbours,
    draw_origins,
    draw_sentence,
    draw_stages,
    highest,
    look_alikes,
    seen_shares,
)
from xailab.lessons.protopnet.explorer import box_explorer
from xailab.protopnet.pictures import picture
