"""Boxes and masks in the image: what latent cells see, and where an upsampled map is high.

Boxes are (left, top, right, bottom) in pixels; right and bottom are exclusive.
"""

from functools import cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from xailab.receptive_field import ReceptiveField


def size_of(images: Float[Tensor, "*n H W"]) -> tuple[int, int]:
    """Return the (height, width) of images or maps."""
    height, width = images.shape[-2:]
    return height, width


def receptive_boxes(field: ReceptiveField, cells: Int[Tensor, "*n 2"], size: tuple[int, int]) -> Int[Tensor, "*n 4"]:
    """Compute what cells (row, column) see of an image.

    >>> receptive_boxes(ReceptiveField(size=27, stride=8, start=-13), torch.tensor([[0, 0], [5, 3]]), (96, 96)).tolist()
    [[0, 0, 14, 14], [11, 27, 38, 54]]

    Args:
        field: The receptive field of the cells.
        cells: Row and column of each.
        size: (height, width) of the image, at whose edge the boxes end.
    """
    first = cells * field.stride + field.start
    limit = torch.tensor(size, device=cells.device)
    last = torch.minimum((first + field.size).clamp(min=1), limit)
    first = torch.minimum(first.clamp(min=0), limit - 1)
    return torch.stack([first[..., 1], first[..., 0], last[..., 1], last[..., 0]], -1)


def upsampled(maps: Float[Tensor, "n p h w"], size: tuple[int, int]) -> Float[Tensor, "n p H W"]:
    """Upsample maps bicubically, as the authors do with OpenCV's INTER_CUBIC.

    An interpolation is a matrix product along the rows and one along the columns. Written so, it is several times as
    fast as ``interpolate``.
    """
    down, across = (_weights(few, many).to(maps) for few, many in zip(maps.shape[2:], size, strict=True))
    return down @ maps @ across.mT


def hot_boxes(maps: Float[Tensor, "n p H W"], percentile: float = 95.0) -> Int[Tensor, "n p 4"]:
    """Compute the box around all pixels of each map that reach its percentile.

    Two hot spots give one large box.
    """
    threshold = np.percentile(maps.flatten(2).cpu().numpy(), percentile, axis=2, keepdims=True)
    bound = torch.as_tensor(threshold).to(maps)
    ends = []
    for side in (2, 3):  # along the width, then along the height
        hit = (maps.amax(side) >= bound).to(torch.uint8)
        ends.append((hit.argmax(-1), hit.shape[-1] - hit.flip(-1).argmax(-1)))
    (left, right), (top, bottom) = ends
    return torch.stack([left, top, right, bottom], -1)


def inside(boxes: Int[Tensor, "*n 4"], size: tuple[int, int]) -> Bool[Tensor, "*n H W"]:
    """Turn boxes into masks of the image's (height, width)."""
    rows, columns = (torch.arange(side, device=boxes.device) for side in size)
    left, top, right, bottom = boxes[..., None].unbind(-2)
    within = (rows >= top) & (rows < bottom)
    beside = (columns >= left) & (columns < right)
    return within[..., :, None] & beside[..., None, :]


@cache
def _weights(few: int, many: int) -> Float[Tensor, "many few"]:
    """Compute the matrix of a bicubic interpolation along one side, from few cells to many pixels."""
    unit = torch.eye(few)[None, :, :, None]
    return nn.functional.interpolate(unit, (many, 1), mode="bicubic", align_corners=False)[0, :, :, 0].mT.contiguous()
