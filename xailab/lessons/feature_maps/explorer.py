"""The explorer of a layer's channels."""

from collections.abc import Mapping

import ipywidgets as widgets
import numpy as np
from jaxtyping import UInt8
from matplotlib.figure import Figure
from torch import nn

from xailab.lessons.explorer import explorer
from xailab.lessons.feature_maps.drawings import draw_layer
from xailab.lessons.feature_maps.measuring import convolutions, layers_of
from xailab.models.classifier import Classifier


def layer_explorer(network: Classifier, pictures: Mapping[str, UInt8[np.ndarray, "h w 3"]]) -> widgets.VBox:
    """Choose picture, layer, channel and scale; see ``draw_layer``."""
    names = list(convolutions(network))
    most = max(module.out_channels for module in layers_of(network).modules() if isinstance(module, nn.Conv2d))

    def draw(picture: str, layer: int = 7, channel: int = 3, shared: bool = True) -> Figure:
        return draw_layer(network, pictures[picture], names[layer - 1], channel, shared)

    return explorer(
        draw,
        picture=list(pictures),
        layer=widgets.IntSlider(7, min=1, max=len(names), description="convolution"),
        channel=(0, most - 1),
        shared=widgets.Checkbox(True, description="one scale for all channels"),
    )
