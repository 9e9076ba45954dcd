"""The explorer of the rules at a ReLU."""

from collections.abc import Sequence

import ipywidgets as widgets
import numpy as np
from matplotlib.figure import Figure
from torch import nn

from xailab.lessons.explorer import explorer
from xailab.lessons.guided_backprop.drawings import METHODS, STAGES, draw_rule


def rule_explorer(network: nn.Module, pictures: Sequence[np.ndarray]) -> widgets.VBox:
    """Choose picture, class, method and randomised depth; see ``draw_rule``."""

    def draw(picture: int = 1, label: int = 0, method: str = "guided backprop", depth: int = 2) -> Figure:
        return draw_rule(network, pictures[picture - 1], label, method, depth)

    return explorer(
        draw,
        picture=(1, len(pictures)),
        label=widgets.Dropdown(options=[(name, i) for i, name in enumerate(network.classes)], description="class"),
        method=list(METHODS),
        depth=widgets.IntSlider(2, min=0, max=len(STAGES), description="randomised stages"),
    )
