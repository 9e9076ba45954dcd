"""Lesson 01: published numbers, pictures and explorers, measurements, and the checks of its exercises.

Published numbers are marked as such (``published``); everything else on the page is computed by ``xailab.flops``.
"""

from xailab.lessons.flops import exercises
from xailab.lessons.flops.charts import (
    draw_blocks,
    draw_dashboard,
    draw_measured,
    draw_networks,
    draw_roofline,
    draw_shares,
    draw_sizes,
    draw_times,
    draw_tools,
    draw_tradeoff,
    measured_mobilenets,
    pareto,
    shares,
)
from xailab.lessons.flops.drawings import draw_cost, draw_gain, draw_idea, draw_step, gain
from xailab.lessons.flops.explorer import cost_explorer, dashboard, step_explorer
from xailab.lessons.flops.machine import Machine, best_time, layer_time, layer_times, peaks, time_by_kind
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
