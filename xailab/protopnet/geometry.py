"""Where a latent cell lies in the image: what it can see, and where an upsampled map puts it.

A window of k pixels, s apart, d dilated and p padded turns a cell's (size r, stride j, first pixel b) into

    (r + d (k - 1) j,  j s,  b - p j)

(Araujo, Norris, Sim, "Computing Receptive Fields of Convolutional Neural Networks", Distill 2019.)
"""

from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from xailab.hooks import evaluating
from xailab.protopnet.network import ProtoPNet

POINTWISE = (nn.BatchNorm2d, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.SiLU, nn.GELU, nn.Sigmoid, nn.Identity, nn.Dropout)
WINDOWS = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)
SHORTCUTS = ("downsample", "shortcut")  # of residual blocks: they see less than the way beside them


class Field(NamedTuple):
    """What the cells of a grid see, in pixels along one side (rows; columns are alike).

    Attributes:
        size: Side of the square that a cell sees.
        stride: Distance between the squares of neighbouring cells.
        start: First pixel of the first cell's square; negative where padding lies outside the image.
    """

    size: int
    stride: int
    start: int

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


def receptive_field(model: ProtoPNet, size: tuple[int, int]) -> Field:
    """Compute from its layers what a latent cell of the network sees.

    Args:
        model: Its features may be a chain of convolutions and poolings with square windows, with residual blocks.
        size: (height, width) of an image that it takes.

    Raises:
        ValueError: if a layer sees all of the image at once (a group norm, an instance norm, squeeze-and-excitation, a
            global average), or is unknown.
    """
    field = [Field(1, 1, 0)]

    def enter(module, inputs, output) -> None:
        field.append(_through(module, field[-1]))

    handles = []
    for part in (model.features, model.add_on):
        for name, module in part.named_modules():
            leaf = not list(module.children())
            if leaf and not set(SHORTCUTS) & set(name.split(".")):
                handles.append(module.register_forward_hook(enter))
    try:
        with torch.no_grad(), evaluating(model):
            model.embed(torch.zeros(1, model.channels, *size, device=model.prototypes.device))
    finally:
        for handle in handles:
            handle.remove()
    return field[-1]


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


def _through(module: nn.Module, field: Field) -> Field:
    if isinstance(module, POINTWISE):
        return field
    if not isinstance(module, WINDOWS):
        raise ValueError(
            f"a {type(module).__name__} may see all of the image at once, so that a cell has no receptive field; "
            "networks of convolutions, batch norms and poolings have one"
        )
    kernel = _side(module.kernel_size)
    stride = _side(kernel if module.stride is None else module.stride)
    dilation = _side(getattr(module, "dilation", 1))
    reach = dilation * (kernel - 1)
    padding = {"same": reach // 2, "valid": 0}.get(module.padding) if isinstance(module.padding, str) else None
    padding = _side(module.padding) if padding is None else padding
    return Field(field.size + reach * field.stride, field.stride * stride, field.start - padding * field.stride)


def _side(value) -> int:
    sides = set(value) if isinstance(value, tuple) else {value}
    if len(sides) != 1:
        raise ValueError(f"the window {tuple(value)} is not square: its receptive field is no square either")
    return int(sides.pop())


def _clipped(first: Tensor, last: Tensor, size: tuple[int, int]) -> Int[Tensor, "*n 4"]:
    limit = torch.tensor(size, device=first.device)
    first, last = torch.minimum(first.clamp(min=0), limit - 1), torch.minimum(last.clamp(min=1), limit)
    return torch.stack([first[..., 1], first[..., 0], last[..., 1], last[..., 0]], -1)
