"""Drawings of Grad-CAM maps."""

import warnings

import numpy as np
import torch
from matplotlib.figure import Figure

from xailab import figures, images
from xailab.grad_cam import NoPositiveEvidence, grad_cam
from xailab.models.classifier import Classifier

LAYERS = ("conv1", "layer1", "layer2", "layer3", "layer4")


def draw_grad_cam(
    network: Classifier,
    picture: np.ndarray,
    label: int,
    layer: str = "layer4",
    relu: bool = True,
    counterfactual: bool = False,
    opacity: float = 0.75,
) -> Figure:
    """Draw a picture, the raw Grad-CAM map of a class at a layer with its colour bar, and the overlay.

    Args:
        network: Any that ``grad_cam`` takes, with ``.preprocess`` and ``.classes``.
        picture: uint8 RGB; of a network that crops, its crop is drawn.
        label: Class to explain.
        layer: Dotted name of a layer.
        relu: Keep the positive part only.
        counterfactual: Show what speaks against the class.
        opacity: Of the overlay where the map is strongest.
    """
    batch = network.preprocess(picture)
    if network.preprocess.crop is not None:  # the map covers what the network saw, not what was cut off
        picture = network.preprocess.frame(picture)
    with torch.no_grad():
        scores = network(batch)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoPositiveEvidence)
        cam = grad_cam(network, batch, layer, label, relu=relu, counterfactual=counterfactual)[0]
    figure, axes = figures.new(1, 3, width=10.4, height=3.8)
    said = f"score {scores[0, label]:.1f}, probability {scores.softmax(1)[0, label]:.2f}"
    figures.picture(axes[0], picture, f"{network.classes[label]}: {said}")
    size = f"{cam.shape[0]} × {cam.shape[1]} cells"
    empty = "no evidence at all: " if not cam.any() else ""
    figures.picture(axes[1], cam.numpy(), f"{empty}{layer}, {size}", **figures.map_scale(cam.numpy()))
    figures.colour_bar(figure, axes[1], f"evidence {'against' if counterfactual else 'for'} the class")
    over = images.overlay(picture, cam, opacity) if relu else images.signed_overlay(picture, cam, opacity)
    figures.picture(axes[2], over, "overlay" if relu else "overlay, red for and blue against")
    if counterfactual and not relu:
        axes[2].set_title("overlay, red speaks against")
    return figure
