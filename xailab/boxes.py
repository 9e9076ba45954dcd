"""Boxes around objects, and how much two of them, or two masks, overlap."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool


class Box(NamedTuple):
    """A box in pixels, ends exclusive: x runs along the width, y along the height.

    >>> box = Box(left=1, top=0, right=4, bottom=2)
    >>> box.area, box.mask(3, 4).sum(1).tolist()
    (6, [3, 3, 0])
    """

    left: int
    top: int
    right: int
    bottom: int

    @property
    def area(self) -> int:
        """Area in pixels."""
        return (self.right - self.left) * (self.bottom - self.top)

    def mask(self, height: int, width: int) -> Bool[np.ndarray, "h w"]:
        """Make a mask of the box in a picture of this size."""
        inside = np.zeros((height, width), dtype=bool)
        inside[self.top : self.bottom, self.left : self.right] = True
        return inside


def iou(a: Box | Bool[np.ndarray, "h w"], b: Box | Bool[np.ndarray, "h w"]) -> float:
    """Compute the intersection over union (IoU) of two boxes or of two masks: |a and b| / |a or b|.

    >>> round(iou(Box(0, 0, 4, 2), Box(2, 0, 6, 2)), 2)
    0.33

    Args:
        a, b: Both boxes, or both masks of the same shape.

    Returns:
        0 (disjoint) to 1 (equal).

    Raises:
        ValueError: if shapes differ, or both are empty.
        TypeError: if one is a box and the other a mask (``box.mask(height, width)`` turns it into one).
    """
    if isinstance(a, Box) and isinstance(b, Box):
        width = min(a.right, b.right) - max(a.left, b.left)
        height = min(a.bottom, b.bottom) - max(a.top, b.top)
        both = max(0, width) * max(0, height)
        either = a.area + b.area - both
    elif isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        if a.shape != b.shape:
            raise ValueError(f"the masks have different shapes: {a.shape} and {b.shape}")
        both, either = int(np.logical_and(a, b).sum()), int(np.logical_or(a, b).sum())
    else:
        raise TypeError("compare two boxes or two masks; box.mask(height, width) turns a box into a mask")
    if either == 0:
        raise ValueError("both regions are empty: their overlap is not defined")
    return both / either
