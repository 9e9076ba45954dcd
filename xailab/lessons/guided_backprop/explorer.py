"""The explorer of the rules at a ReLU."""

from collections.abc import Sequence

import ipywidgets as widgets
import numpy as np
from matplotlib.figure import Figure

from xailab.lessons.explorer import class_menu, explorer
from xailab.lessons.guided_backprop.drawings import METHODS, STAGES, draw_rule
from xailab.models.classifier import Classifier


def rule_explorer(network: Classifier, pictures: Sequence[np.ndarray]) -> widgets.VBox:
    """Choose picture, class, method and randomised depth; see ``draw_rule``."""

    def draw(picture: int = 1, label: int = 0, method: str = "guided backprop", depth: int = 2) -> Figure:
        return draw_rule(network, pictures[picture - 1], label, method, depth)

    return explorer(
        draw,
        picture=(1, len(pictures)),
        label=class_menu(network.classes),
        method=list(METHODS),
        depth=widgets.IntSlider(2, min=0, max=len(STAGES), description="randomised stages"),
    )
