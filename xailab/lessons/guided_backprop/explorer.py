"""The explorer of the rules at a ReLU."""

from collections.abc import Mapping, Sequence

import ipywidgets as widgets
import numpy as np
from matplotlib.figure import Figure

from xailab.lessons.explorer import class_menu, explorer
from xailab.lessons.guided_backprop.drawings import METHODS, draw_rule
from xailab.models.classifier import Classifier


def rule_explorer(networks: Mapping[str, Classifier], pictures: Sequence[np.ndarray]) -> widgets.VBox:
    """Make an explorer of picture, class, method and randomised network; see ``draw_rule``."""
    names = list(networks)

    def draw(
        picture: int = 1, label: int = 0, method: str = "guided backprop", step: str = names[min(2, len(names) - 1)]
    ) -> Figure:
        return draw_rule(networks, pictures[picture - 1], label, method, step)

    return explorer(
        draw,
        picture=(1, len(pictures)),
        label=class_menu(networks[names[0]].classes),
        method=list(METHODS),
        step=names,
    )
