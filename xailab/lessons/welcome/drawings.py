"""Pictures of the embedded scenes."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure
from torch import Tensor

from xailab import figures
from xailab.datasets import scenes
from xailab.datasets.scenes import Scene


def draw_classes(pictures: Sequence[np.ndarray]) -> Figure:
    """Draw ten pictures of each class, a class in a row, with its name beside the row."""
    figure = figures.grid(pictures, columns=10, panel=1.0)
    for label, name in enumerate(scenes.CLASSES):
        axes = figure.axes[10 * label]
        axes.text(-0.1, 0.5, name, transform=axes.transAxes, rotation=90, ha="right", va="center")
    return figure


def draw_kinds(examples: Sequence[Scene]) -> Figure:
    """Draw one scene of each kind, and beside each scene its masks in colour."""
    panels, titles = [], []
    for kind, scene in zip(scenes.KINDS, examples, strict=True):
        panels += [scene.image, tint(scene.image, scene.masks)]
        titles += [f"{kind}: " + " and ".join(scenes.CLASSES[k] for k in scene.labels), "exact masks"]
    return figures.grid(panels, titles, columns=6, panel=1.85)


def draw_probabilities(
    picture: UInt8[np.ndarray, "h w 3"], probabilities: Float[Tensor, "k"], classes: Sequence[str]
) -> Figure:
    """Draw a picture, and what a network says about the picture as bars."""
    figure, axes = figures.new(1, 2, width=8.4, height=3.4, width_ratios=[1, 1.3])
    figures.picture(axes[0], picture, "a pair")
    order = probabilities.argsort().tolist()
    axes[1].barh([classes[i] for i in order], probabilities[order], color=figures.PALETTE[0])
    axes[1].set(title="what the network says", xlabel="probability", xlim=(0, 1))
    axes[1].grid(axis="y", visible=False)
    return figure


def draw_scene(kind: str = "single", index: int = 0, show_masks: bool = True) -> Figure:
    """Draw a scene, its objects' names, and their masks in colour on grey."""
    scene = scenes.scene(index, kind=kind, split="test", size=256)
    names = " and ".join(scenes.CLASSES[label] for label in scene.labels)
    panels, titles = [scene.image], [f"{names}{' with a mark' if scene.mark is not None else ''}"]
    if show_masks:
        panels.append(tint(scene.image, scene.masks))
        titles.append("its exact mask" + ("s" if len(scene.masks) > 1 else ""))
    return figures.strip(panels, titles, panel=3.2)


def tint(image: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Colour the pixels of each mask (k, h, w), grey the rest."""
    from matplotlib.colors import to_rgb

    grey = image.mean(2, keepdims=True).repeat(3, 2) * 0.4 + 140
    for mask, colour in zip(masks, (figures.VERMILLION, figures.BLUE), strict=False):
        grey[mask] = 0.5 * grey[mask] + 0.5 * 255 * np.array(to_rgb(colour))
    return grey.astype(np.uint8)
