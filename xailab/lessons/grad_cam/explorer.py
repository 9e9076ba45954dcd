"""The explorer of Grad-CAM."""

from collections.abc import Sequence

import ipywidgets as widgets
import numpy as np
from matplotlib.figure import Figure

from xailab.lessons.explorer import class_menu, explorer
from xailab.lessons.grad_cam.drawings import LAYERS, draw_grad_cam
from xailab.models.classifier import Classifier


def grad_cam_explorer(network: Classifier, pictures: Sequence[np.ndarray]) -> widgets.VBox:
    """Choose picture, class, layer, sign and opacity; see ``draw_grad_cam``."""

    def draw(picture=1, label=0, layer="layer4", relu=True, counterfactual=False, opacity=0.75) -> Figure:
        return draw_grad_cam(network, pictures[picture - 1], label, layer, relu, counterfactual, opacity)

    return explorer(
        draw,
        picture=(1, len(pictures)),
        label=class_menu(network.classes),
        layer=widgets.Dropdown(options=LAYERS, value="layer4", description="layer"),
        relu=widgets.Checkbox(True, description="ReLU: positive part only"),
        counterfactual=widgets.Checkbox(False, description="counterfactual: against the class"),
        opacity=widgets.FloatSlider(0.75, min=0.0, max=1.0, step=0.05),
    )
