"""Lesson 04: randomised networks, honest pictures of gradients, the explorer, and the checks of the exercises."""

from xailab.lessons.drawings import number_grid
from xailab.lessons.guided_backprop import exercises
from xailab.lessons.guided_backprop.drawings import (
    METHODS,
    RULES,
    STAGES,
    draw_explanation,
    draw_rule,
    explanations,
    randomised,
    rank_correlation,
    ranks,
    strength,
    verdict_table,
)
from xailab.lessons.guided_backprop.exercises import picture_cases
from xailab.lessons.guided_backprop.explorer import rule_explorer
