"""Lesson 02: the explorer of class activation maps, and the checks of its exercises."""

from xailab.lessons.cam import exercises
from xailab.lessons.cam.drawings import draw_cam
from xailab.lessons.cam.exercises import BOX_MISTAKES, HALF_MISTAKES, box_cases, half_cases
from xailab.lessons.cam.explorer import cam_explorer
