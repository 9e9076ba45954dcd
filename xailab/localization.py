"""From a map to a place: boxes around what is bright."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor


class Box(NamedTuple):
    """A box in pixels, ends exclusive: x runs along the width, y along the height."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def area(self) -> int:
        """Area in pixels."""
        return (self.right - self.left) * (self.bottom - self.top)

    def mask(self, height: int, width: int) -> Bool[np.ndarray, "h w"]:
        """The box as a mask of a picture of this size."""
        inside = np.zeros((height, width), dtype=bool)
        inside[self.top : self.bottom, self.left : self.right] = True
        return inside


def boxes(map: Float[Tensor, "h w"] | Float[np.ndarray, "h w"], threshold: float = 0.6) -> list[Box]:
    """Box each connected region in which a map reaches a share of its maximum.

    Pixels with map >= threshold * max(map) are grouped into 8-connected components (CAM paper, Section 3.1.1, with
    20 %; Grad-CAM uses 15 %). A map without a positive value has no evidence and gives no box.

    Args:
        map: One map (h, w), raw or upsampled; only the positive part counts.
        threshold: Share of the maximum, above 0 and at most 1.

    Returns:
        Boxes, the one of the largest component first.
    """
    from scipy import ndimage

    if not 0 < threshold <= 1:
        raise ValueError(f"threshold is a share of the map's maximum, above 0 and at most 1; got {threshold}")
    values = map.detach().float().cpu().numpy() if isinstance(map, torch.Tensor) else np.asarray(map)
    if values.ndim != 2:
        raise ValueError(f"expected one map (h, w), got shape {values.shape}: find the boxes of one map at a time")
    if not np.isfinite(values).all():
        raise ValueError("the map has values that are NaN or infinite: look at the network's output first")
    if values.size == 0 or values.max() <= 0:
        return []
    labels, _ = ndimage.label(values >= threshold * values.max(), structure=np.ones((3, 3)))
    sizes = np.bincount(labels.ravel())[1:]
    slices = ndimage.find_objects(labels)
    order = np.argsort(-sizes, kind="stable")
    return [Box(x.start, y.start, x.stop, y.stop) for y, x in (slices[i] for i in order)]


def ground_truth_box(mask: Bool[np.ndarray, "h w"]) -> Box:
    """The smallest box around a mask."""
    if not mask.any():
        raise ValueError("the mask is empty: there is nothing to put a box around")
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
