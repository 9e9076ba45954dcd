"""The explorers of a layer's steps, of its cost, and of the sixteen MobileNets."""

import ipywidgets as widgets

from xailab.lessons.explorer import explorer
from xailab.lessons.flops.charts import draw_dashboard
from xailab.lessons.flops.drawings import SIDE, STEPS, draw_cost, draw_step
from xailab.lessons.flops.published import ALPHAS, RESOLUTIONS


def cost_explorer() -> widgets.VBox:
    """Choose each number of `draw_cost`; it raises an error where groups do not divide the channels."""
    channels = [1, 2, 3, 4, 5, 7, 8, 16, 32, 64, 128, 256, 512, 1024]
    slider = widgets.SelectionSlider
    return explorer(
        draw_cost,
        kernel=(1, 11, 2),
        in_channels=slider(options=channels, value=512),
        out_channels=slider(options=channels, value=512),
        size=(1, 224, 1),
        stride=(1, 4, 1),
        padding=(0, 5, 1),
        groups=slider(options=[1, 2, 4, 8, 16, 32], value=1),
    )


def step_explorer() -> widgets.VBox:
    """Choose a layer and walk through its output values; see `draw_step`."""
    return explorer(draw_step, layer=list(STEPS), step=(1, 7 * SIDE * SIDE, 1))


def dashboard() -> widgets.VBox:
    """Choose one of the sixteen models; see `draw_dashboard`."""
    slider = widgets.SelectionSlider
    return explorer(
        draw_dashboard,
        alpha=slider(options=sorted(ALPHAS), value=1.0),
        resolution=slider(options=sorted(RESOLUTIONS), value=224),
    )
