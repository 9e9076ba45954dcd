"""Lesson 01: published numbers, pictures and explorers, measurements, and the checks of its exercises.

Published numbers are marked as such (``published``); everything else on the page is computed by ``xailab.flops``.
"""

from xailab.lessons.flops import exercises, layers, networks, published, roofline
from xailab.lessons.flops.layers import (
    cost_explorer,
    draw_cost,
    draw_gain,
    draw_step,
    draw_steps,
    gain,
    step_explorer,
)
from xailab.lessons.flops.networks import (
    dashboard,
    draw_dashboard,
    draw_measured,
    draw_shares,
    draw_tools,
    draw_tradeoff,
    measured_mobilenets,
    pareto,
    shares,
)
from xailab.lessons.flops.published import (
    ALPHAS,
    RESOLUTIONS,
    SMALL,
    TABLE_2,
    TABLE_3,
    TABLE_6,
    TABLE_7,
    TABLE_8,
    TABLE_9,
    TENSORFLOW,
    beside,
    mobilenet,
)
from xailab.lessons.flops.roofline import Machine, best_time, draw_roofline, layer_time, peaks, time_by_kind
