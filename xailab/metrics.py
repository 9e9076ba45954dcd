"""How good is a map? Numbers that compare it with the truth."""

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from xailab.localization import Box


def iou(a: Box | Bool[np.ndarray, "h w"], b: Box | Bool[np.ndarray, "h w"]) -> float:
    """Intersection over union of two boxes or of two masks: |a and b| / |a or b|.

    Args:
        a, b: Both boxes, or both masks of the same shape.

    Returns:
        0 (disjoint) to 1 (equal).

    Raises:
        ValueError: if shapes differ, or both are empty.
        TypeError: if one is a box and the other a mask (``box.mask(height, width)`` turns it into one).
    """
    if isinstance(a, Box) != isinstance(b, Box) or not isinstance(a, (Box, np.ndarray)):
        raise TypeError("compare two boxes or two masks; box.mask(height, width) turns a box into a mask")
    if isinstance(a, Box):
        width = min(a.right, b.right) - max(a.left, b.left)
        height = min(a.bottom, b.bottom) - max(a.top, b.top)
        both = max(0, width) * max(0, height)
        either = a.area + b.area - both
    else:
        if a.shape != b.shape:
            raise ValueError(f"the masks have different shapes: {a.shape} and {b.shape}")
        both, either = int(np.logical_and(a, b).sum()), int(np.logical_or(a, b).sum())
    if either == 0:
        raise ValueError("both regions are empty: their overlap is not defined")
    return both / either


def pointing(map: Float[Tensor, "h w"] | Float[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"]) -> bool:
    """The pointing game: does the maximum of a map lie on the object? (Zhang et al. 2016, arXiv 1608.00507)

    A constant map points nowhere, which is a miss.

    Args:
        map: A map at the mask's resolution (see ``images.upsample``).
        mask: True on the object.

    Raises:
        ValueError: if the shapes differ, or a value is not finite.
    """
    map = torch.as_tensor(map).detach()
    if tuple(map.shape) != mask.shape:
        raise ValueError(f"map {tuple(map.shape)} and mask {mask.shape} differ in shape: upsample the map first")
    if not torch.isfinite(map).all():
        raise ValueError("the map has values that are NaN or infinite: look at the network's output first")
    return bool(map.max() > map.min() and mask.flat[int(map.argmax())])
