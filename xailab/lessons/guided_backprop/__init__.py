"""Lesson 04: honest pictures of gradients, the explorer, and the checks of the exercises."""

from xailab.lessons.guided_backprop import exercises
from xailab.lessons.guided_backprop.drawings import (
    METHODS,
    RULES,
    draw_explanation,
    draw_rule,
    explanations,
    nine_numbers,
    rank_correlation,
    ranks,
    sanity_curves,
    sanity_strips,
    schematic,
    share_chart,
    side_by_side,
    strength,
    three_rules,
    two_classes,
    verdict_table,
)
from xailab.lessons.guided_backprop.exercises import picture_cases
from xailab.lessons.guided_backprop.explorer import rule_explorer
