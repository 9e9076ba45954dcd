"""Lesson 03: the explorer of Grad-CAM, its drawings and measurements, and the checks of its exercises."""

from xailab.lessons.grad_cam import exercises
from xailab.lessons.grad_cam.drawings import (
    LAYERS,
    draw_changes,
    draw_composite,
    draw_grad_cam,
    draw_hits,
    draw_idea,
    draw_localisation,
    draw_shares,
    on_black,
)
from xailab.lessons.grad_cam.exercises import CHEAT_SCENES, HIT_MISTAKES, cheat_networks, hit_cases
from xailab.lessons.grad_cam.explorer import grad_cam_explorer
from xailab.lessons.grad_cam.measuring import blurred, moved, moved_off, shares_by_layer
