"""Drawings of class activation maps."""

import numpy as np
import torch
from matplotlib.figure import Figure

from xailab import figures, images
from xailab.cam import class_activation_map
from xailab.localization import boxes
from xailab.models.classifier import Classifier


def draw_cam(
    network: Classifier, picture: np.ndarray, label: int, threshold: float = 0.6, opacity: float = 0.75
) -> Figure:
    """Draw a picture with boxes, its raw map with a colour bar in units of the score, and the overlay.

    Args:
        network: One that ``class_activation_map`` takes, with ``.preprocess`` and ``.classes``.
        picture: uint8 RGB; of a network that crops, its crop is drawn.
        label: Class to explain.
        threshold: Of the boxes, as a share of the map's maximum.
        opacity: Of the overlay at the map's maximum.
    """
    batch = network.preprocess(picture)
    if network.preprocess.crop is not None:  # the map covers what the network saw, not what was cut off
        picture = network.preprocess.frame(picture)
    with torch.no_grad():
        probability = network(batch).softmax(1)[0, label].item()
    cam = class_activation_map(network, batch, label)[0]
    large = images.upsample(cam, picture.shape[:2])
    figure, axes = figures.new(1, 3, width=10.4, height=3.7)
    figures.picture(axes[0], picture, f"{network.classes[label]}: probability {probability:.2f}")
    figures.picture(axes[1], cam.numpy(), "the map itself", **figures.map_scale(cam.numpy()))
    figures.colour_bar(figure, axes[1], "evidence of a cell (units of the score)")
    figures.picture(axes[2], images.overlay(picture, cam, opacity), f"boxes at {100 * threshold:.0f} % of the maximum")
    for box in boxes(large, threshold):
        figures.outline(axes[0], box)
        figures.outline(axes[2], box)
    return figure
