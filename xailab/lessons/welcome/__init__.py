"""Lesson 00: is this machine ready, a look at the embedded data, and a first exercise."""

from xailab.lessons.welcome import exercises
from xailab.lessons.welcome.drawings import draw_classes, draw_kinds, draw_probabilities, draw_scene, tint
from xailab.lessons.welcome.explorer import scene_explorer
from xailab.lessons.welcome.machine import check_machine, problems
