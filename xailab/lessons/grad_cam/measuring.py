"""Measurements of lesson 03: blurred regions, a control for them, and evidence on the half of a class."""

from collections.abc import Sequence
from itertools import permutations

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8

from xailab import images
from xailab.datasets import photographs
from xailab.hooks import graph_from
from xailab.localization import ground_truth_box
from xailab.models.classifier import Classifier


def blurred(image: UInt8[np.ndarray, "h w 3"], region: Bool[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """Replace a region by a strongly blurred copy of the picture.

    >>> picture = np.zeros((20, 20, 3), np.uint8)
    >>> picture[8:12, 8:12] = 200
    >>> bool(blurred(picture, picture[..., 0] > 0).max() < 150)
    True
    """
    return np.where(region[..., None], cv2.GaussianBlur(image, (0, 0), image.shape[0] / 10), image)


def moved(
    region: Bool[np.ndarray, "h w"],
    target: Bool[np.ndarray, "h w"],
    rng: np.random.Generator,
    *,
    off: bool = False,
) -> Bool[np.ndarray, "h w"]:
    """Move a region to a random place where it covers at least as much of a target as before.

    >>> region, target = np.zeros((2, 6, 6), bool)
    >>> region[0, 0] = target[3, 3] = True
    >>> moved(region, target, np.random.default_rng(0)).sum(), moved(target, target, np.random.default_rng(0))[3, 3]
    (np.int64(1), np.True_)

    Args:
        region: The shape to move; none of it leaves the picture.
        target: An object's mask.
        rng: The source of chance.
        off: Choose among the places that cover least of the target instead.
    """
    left, top, right, bottom = ground_truth_box(region)
    shape, place = region[top:bottom, left:right], np.zeros_like(region)
    pixels, pattern = target.astype(np.float32), shape.astype(np.float32)
    covered = cv2.matchTemplate(pixels, pattern, cv2.TM_CCORR).round()  # pixels of the target, at each place
    allowed = covered == covered.min() if off else covered >= (region & target).sum()
    y, x = rng.choice(np.argwhere(allowed))
    place[y : y + bottom - top, x : x + right - left] = shape
    return place


def shares_by_layer(network: Classifier, layers: Sequence[str]) -> dict[str, dict[str, Float[np.ndarray, "n"]]]:
    """Measure which share of the evidence lies on the half of its class, for all composites of two photographs.

    Args:
        network: A network of ImageNet classes, with ``.preprocess`` and ``.classes``.
        layers: Names of layers.

    Returns:
        By method ("Grad-CAM", "HiResCAM") and layer, a share for each composite and class; 0.5 for an empty map.
    """
    found = {way: {layer: [] for layer in layers} for way in ("Grad-CAM", "HiResCAM")}
    for pair in permutations(photographs.names(), 2):
        batch = network.preprocess(photographs.stacked(*pair))
        with graph_from(network, *layers) as kept:
            scores = network(batch)[0]
        for lower, name in enumerate(pair):
            c = network.classes.index(photographs.photograph(name).label)
            gradients = torch.autograd.grad(scores[c], [kept[layer] for layer in layers], retain_graph=True)
            for layer, gradient in zip(layers, gradients, strict=True):
                features = kept[layer].detach()
                for way, weights in (("Grad-CAM", gradient.mean((2, 3), keepdim=True)), ("HiResCAM", gradient)):
                    heat = images.upsample((weights * features).sum(1)[0].relu(), batch.shape[-1])
                    above = float(heat[: len(heat) // 2].sum() / heat.sum()) if heat.any() else 0.5
                    found[way][layer].append(1 - above if lower else above)
    return {way: {layer: np.array(each) for layer, each in by_layer.items()} for way, by_layer in found.items()}
