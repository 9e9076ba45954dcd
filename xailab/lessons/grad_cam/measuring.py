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
    spared: Bool[np.ndarray, "h w"],
    rng: np.random.Generator,
) -> Bool[np.ndarray, "h w"]:
    """Move a region to a random place where it covers no less of a target, and no more of what is spared, than before.

    >>> region, target, spared = np.zeros((3, 6, 6), bool)
    >>> region[3, 3], target[3, 3:5], spared[3, 4] = True, True, True
    >>> np.argwhere(moved(region, target, spared, np.random.default_rng(0))).tolist()
    [[3, 3]]

    Args:
        region: The shape to move; none of it leaves the picture.
        target: Mask of the object to cover.
        spared: Mask of another object.
        rng: The source of chance.
    """
    on_target, on_spared = _covered(region, target), _covered(region, spared)
    return _placed(region, (on_target >= (region & target).sum()) & (on_spared <= (region & spared).sum()), rng)


def moved_off(
    region: Bool[np.ndarray, "h w"], objects: Bool[np.ndarray, "h w"], rng: np.random.Generator
) -> Bool[np.ndarray, "h w"]:
    """Move a region to a random one of the places where it covers least of some objects.

    >>> region, objects = np.zeros((2, 3, 3), bool)
    >>> region[0, 0], objects[:, :2] = True, True
    >>> np.argwhere(moved_off(region, objects, np.random.default_rng(0)))[:, 1].tolist()
    [2]
    """
    covered = _covered(region, objects)
    return _placed(region, covered == covered.min(), rng)


def _covered(region: Bool[np.ndarray, "h w"], target: Bool[np.ndarray, "h w"]) -> Float[np.ndarray, "rows columns"]:
    """Count the pixels of a target that a region's shape covers, by the place of its upper left corner."""
    left, top, right, bottom = ground_truth_box(region)
    shape = region[top:bottom, left:right].astype(np.float32)
    return cv2.matchTemplate(target.astype(np.float32), shape, cv2.TM_CCORR).round()


def _placed(
    region: Bool[np.ndarray, "h w"], allowed: Bool[np.ndarray, "rows columns"], rng: np.random.Generator
) -> Bool[np.ndarray, "h w"]:
    """Put a region's shape at a random one of the allowed places."""
    left, top, right, bottom = ground_truth_box(region)
    y, x = rng.choice(np.argwhere(allowed))
    place = np.zeros_like(region)
    place[y : y + bottom - top, x : x + right - left] = region[top:bottom, left:right]
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
