"""Drawings of saliency, segments and class models."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from torch import Tensor, nn

from xailab import figures, images
from xailab.boxes import iou
from xailab.class_model import Affine, Blur, Clip, Jitter, class_model
from xailab.localization import grabcut
from xailab.models.classifier import Classifier
from xailab.saliency import saliency

TRICKS = ("clip", "jitter", "turn and zoom", "blur", "Fourier")


def glow(heat: Float[Tensor, "h w"], quantile: float = 0.99) -> UInt8[np.ndarray, "h w 3"]:
    """Colour a saliency map: black is 0, the brightest colour its quantile (one pixel in a hundred is clipped)."""
    bound = float(heat.flatten().quantile(quantile)) or float(heat.max()) or 1.0
    return images.heatmap(heat / bound)


def seeds(
    heat: Float[Tensor, "h w"], foreground: float = 0.95, background: float = 0.30
) -> tuple[Bool[np.ndarray, "h w"], Bool[np.ndarray, "h w"]]:
    """Pixels that GraphCut starts from: surely the object, surely not (arXiv 1312.6034, Section 3.2)."""
    values = heat.numpy()
    low, high = np.quantile(values, [background, foreground])
    return (values >= high) & (values > low), values <= low


def draw_seeds(
    picture: UInt8[np.ndarray, "h w 3"], heat: Float[Tensor, "h w"], foreground: float = 0.95, background: float = 0.30
) -> UInt8[np.ndarray, "h w 3"]:
    """Tint a picture: orange is surely the object, blue surely not, grey is for the cut to decide."""
    sure, surely_not = seeds(heat, foreground, background)
    grey = np.repeat(picture.mean(2, keepdims=True), 3, axis=2).astype(np.float32)
    for region, colour, share in ((surely_not, figures.SKY, 0.6), (sure, figures.ORANGE, 0.9)):
        grey[region] = share * (255 * np.array(to_rgb(colour), np.float32)) + (1 - share) * grey[region]
    return grey.round().astype(np.uint8)


def cut_out(picture: UInt8[np.ndarray, "h w 3"], mask: Bool[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """Keep a segment of a picture and whiten the rest."""
    faded = (0.12 * picture + 0.88 * 255).round().astype(np.uint8)
    return np.where(mask[..., None], picture, faded)


def overlap(a: Bool[np.ndarray, "h w"], b: Bool[np.ndarray, "h w"]) -> float:
    """IoU of a segment with the truth; 0 for an empty segment."""
    return iou(a, b) if a.any() else 0.0


def soft_spots(n: int, size: int, seed: int) -> Float[Tensor, "n 3 size size"]:
    """Starts for class models: faint, soft spots of colour, normalised, with a standard deviation of 0.5."""
    spots = torch.randn(n, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    spots = nn.functional.interpolate(spots, size=(size, size), mode="bicubic")
    return 0.5 * spots / spots.std()


def tricks(names: Sequence[str], network: Classifier) -> dict:
    """Compose the options of ``class_model`` for some of ``TRICKS``."""
    transforms = {"jitter": Jitter(4), "turn and zoom": Affine(degrees=8, scale=0.1)}
    projections = {"blur": Blur(0.7, every=4), "clip": Clip(network.preprocess)}
    return {
        "transforms": [transform for name, transform in transforms.items() if name in names],
        "projections": [projection for name, projection in projections.items() if name in names],
        "parametrisation": "fourier" if "Fourier" in names else "pixels",
    }


def draw_class_model(
    network: Classifier, label: int, l2: float = 1e-3, steps: int = 40, names: Sequence[str] = (), size: int = 72
) -> Figure:
    """Draw the class model of one class, a few snapshots on its way, and the score of each step.

    Args:
        network: With ``.preprocess`` and ``.classes``.
        label: Class.
        l2: lambda.
        steps: Of the ascent.
        names: Of ``TRICKS``, those switched on.
        size: Side of the image in pixels.
    """
    lr = 0.02 if "Fourier" in names else 0.05  # a Fourier coefficient moves many pixels at once
    every = max(1, steps // 4)
    found = class_model(
        network, label, size=size, steps=steps, lr=lr, l2=l2, snapshot_every=every, progress=False,
        start=soft_spots(1, size, 2), **tricks(names, network),
    )  # fmt: skip
    with torch.no_grad():
        scores = network(found.images)[0]
    figure, axes = figures.new(1, 4, width=10, height=2.7, width_ratios=[1, 1, 1, 1.25])
    first = sorted(found.snapshots)
    for axis, step in zip(axes, (first[0], first[1 if len(first) > 1 else 0]), strict=False):
        figures.picture(axis, network.preprocess.undo(found.snapshots[step])[0], f"after {step} steps")
    title = f"{network.classes[label]}: {scores[label]:.1f}, p = {scores.softmax(0)[label]:.2f}"
    figures.picture(axes[2], network.preprocess.undo(found.images)[0], title)
    axes[3].plot(range(1, steps + 1), found.scores[:, 0].numpy())
    axes[3].set(title="the score as it was climbed", xlabel="step", ylabel="score before the softmax")
    return figure


def draw_segment(
    network: Classifier,
    picture: UInt8[np.ndarray, "h w 3"],
    mask: Bool[np.ndarray, "h w"],
    label: int,
    foreground: float = 0.95,
    background: float = 0.30,
) -> Figure:
    """Draw a picture's saliency, the seeds at two quantiles, and the segment that GrabCut grows from them.

    Args:
        network: With ``.preprocess`` and ``.classes``.
        picture: uint8 RGB.
        mask: The object's true mask.
        label: Class to explain.
        foreground: Quantile from which a pixel is surely the object.
        background: Quantile up to which a pixel is surely not.
    """
    heat = images.upsample(saliency(network, network.preprocess(picture), label)[0], picture.shape[:2])
    segment = grabcut(picture, heat, foreground, background)
    titles = [
        network.classes[label],
        "saliency",
        f"seeds: ≥ {foreground:.0%}, ≤ {background:.0%}",
        f"segment, IoU {overlap(segment, mask):.2f}",
    ]
    panels = [picture, glow(heat), draw_seeds(picture, heat, foreground, background), cut_out(picture, segment)]
    return figures.strip(panels, titles, panel=2.2)
