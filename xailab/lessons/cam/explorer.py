"""The explorer of class activation maps."""

from collections.abc import Sequence

import ipywidgets as widgets
import numpy as np
from matplotlib.figure import Figure

from xailab.lessons.cam.drawings import draw_cam
from xailab.lessons.explorer import class_menu, explorer
from xailab.models.classifier import Classifier


def cam_explorer(network: Classifier, pictures: Sequence[np.ndarray]) -> widgets.VBox:
    """Choose picture, class, threshold and opacity; see ``draw_cam``."""

    def draw(picture: int = 1, label: int = 0, threshold: float = 0.6, opacity: float = 0.75) -> Figure:
        return draw_cam(network, pictures[picture - 1], label, threshold, opacity)

    return explorer(
        draw,
        picture=(1, len(pictures)),
        label=class_menu(network.classes),
        threshold=widgets.FloatSlider(0.6, min=0.05, max=1.0, step=0.05),
        opacity=widgets.FloatSlider(0.75, min=0.0, max=1.0, step=0.05),
    )
