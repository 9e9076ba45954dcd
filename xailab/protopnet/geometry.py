"""Where a latent cell lies in the image: what it can see, and where an upsampled map puts it."""

from functools import cache

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from xailab.protopnet.network import ProtoPNet, of_a_protopnet
from xailab.receptive_field import Fields, ReceptiveField, square
from xailab.tracing import META, Skeleton


class Field(ReceptiveField):
    """What the cells of a grid see, in pixels along one side: size, stride and start, and what follows from them."""

    @property
    def centre(self) -> float:
        """Middle of the first cell's square, in pixels from the image's edge (0.5 is the middle of the first pixel)."""
        return self.start + self.size / 2

    @property
    def shift(self) -> float:
        """How far an upsampled map puts a cell beyond the middle of what it sees, in pixels (right and down).

        Upsampling a grid to the image takes cell i for the square from i to i + 1 strides, with its middle at i + 1/2.
        """
        return self.stride / 2 - self.centre

    def boxes(self, cells: Int[Tensor, "*n 2"], size: tuple[int, int]) -> Int[Tensor, "*n 4"]:
        """What cells (row, column) see of an image of this (height, width), as (left, top, right, bottom)."""
        first = cells * self.stride + self.start
        return _clipped(first, first + self.size, size)

    def tiles(self, cells: Int[Tensor, "*n 2"], size: tuple[int, int]) -> Int[Tensor, "*n 4"]:
        """The squares of one stride's side in the middle of what cells see; upsampling puts them off by the shift."""
        first = (cells * self.stride + self.centre - self.stride / 2).round().long()
        return _clipped(first, first + self.stride, size)


@of_a_protopnet
def receptive_field(model: ProtoPNet, size: tuple[int, int]) -> Field:
    """Compute what a latent cell of the network sees.

    Args:
        model: Its features are convolutions and poolings with square windows.
        size: (height, width) of an image that it takes.

    Raises:
        ValueError: if it is not known, since a layer may see all of the image at once (a group norm,
            squeeze-and-excitation, attention), if it is not square, or if cells near the edge see what lies outside
            of it (circular padding); the message names the operation.
    """
    skeleton = Skeleton(model)
    network = skeleton.network
    with torch.inference_mode():
        image = torch.empty(1, network.channels, *size, device=META, dtype=network.prototypes.dtype)
        with Fields(skeleton, image) as fields:
            seen = fields.of(fields.run(lambda: network.embed(image)))
    field, astray = square(seen, "the receptive field of a latent cell, which may see all of the image at once,")
    if astray:
        raise ValueError(
            "the receptive field of a latent cell is not one square everywhere: a padding (circular, or wider than the "
            "windows after it) repeats other parts of the image, so that cells near the edge may see all of the image"
        )
    return Field(*field)


def upsampled(maps: Float[Tensor, "n p h w"], size: tuple[int, int]) -> Float[Tensor, "n p H W"]:
    """Enlarge maps bicubically, as OpenCV's INTER_CUBIC does and the authors do.

    Rows and columns are weighed by matrices, which is what an interpolation is, and several times as fast.
    """
    down, across = (_weights(few, many).to(maps) for few, many in zip(maps.shape[2:], size, strict=True))
    return down @ maps @ across.mT


def hot_boxes(maps: Float[Tensor, "n p H W"], percentile: float = 95.0) -> Int[Tensor, "n p 4"]:
    """The box around all pixels of each map that reach its percentile: (left, top, right, bottom), ends exclusive.

    Two hot spots give one large box.
    """
    flat = maps.flatten(2).cpu().numpy()
    at = (flat.shape[2] - 1) * percentile / 100  # as numpy.percentile, without sorting what lies below
    low = int(at)
    ordered = np.partition(flat, (low, min(low + 1, flat.shape[2] - 1)), axis=2)
    below, above = ordered[..., low], ordered[..., min(low + 1, flat.shape[2] - 1)]
    bound = torch.from_numpy(below + np.float32(at - low) * (above - below)).to(maps)
    ends = []
    for side in (2, 3):  # along the width, then along the height
        hit = (maps.amax(side) >= bound[..., None]).to(torch.uint8)
        ends.append((hit.argmax(-1), hit.shape[-1] - hit.flip(-1).argmax(-1)))
    (left, right), (top, bottom) = ends
    return torch.stack([left, top, right, bottom], -1)


def inside(boxes: Int[Tensor, "*n 4"], size: tuple[int, int]) -> Tensor:
    """Boxes as masks (..., H, W)."""
    rows, columns = (torch.arange(side, device=boxes.device) for side in size)
    left, top, right, bottom = boxes[..., None].unbind(-2)
    within = (rows >= top) & (rows < bottom)
    beside = (columns >= left) & (columns < right)
    return within[..., :, None] & beside[..., None, :]


@cache
def _weights(few: int, many: int) -> Float[Tensor, "many few"]:
    """How much each of few cells counts for each of many pixels in a bicubic interpolation."""
    unit = torch.eye(few)[None, :, :, None]
    return nn.functional.interpolate(unit, (many, 1), mode="bicubic", align_corners=False)[0, :, :, 0].mT.contiguous()


def _clipped(first: Tensor, last: Tensor, size: tuple[int, int]) -> Int[Tensor, "*n 4"]:
    limit = torch.tensor(size, device=first.device)
    first, last = torch.minimum(first.clamp(min=0), limit - 1), torch.minimum(last.clamp(min=1), limit)
    return torch.stack([first[..., 1], first[..., 0], last[..., 1], last[..., 0]], -1)
