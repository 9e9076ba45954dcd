"""Lesson 02: the drawings and the explorer of class activation maps, and the checks of its exercises."""

from xailab.lessons.cam import exercises
from xailab.lessons.cam.drawings import (
    draw_boxes,
    draw_cam,
    draw_composite,
    draw_idea,
    draw_measures,
    draw_raw,
    draw_signed,
    draw_trap,
)
from xailab.lessons.cam.explorer import cam_explorer
