"""Lesson 03: the explorer of Grad-CAM, and the checks of its exercises."""

from xailab.lessons.grad_cam import exercises
from xailab.lessons.grad_cam.drawings import LAYERS, draw_grad_cam
from xailab.lessons.grad_cam.exercises import CHEAT_SCENES, HIT_MISTAKES, cheat_networks, hit_cases
from xailab.lessons.grad_cam.explorer import grad_cam_explorer
