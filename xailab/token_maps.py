"""Where a layer's output has its channels, and how tokens lie in rows and columns.

Convolutions put out (n, k, h, w), Swin's blocks (n, h, w, k), ViT's (n, tokens, k). ``ChannelAxes`` follows the
channels of every tensor of a forward pass through the operations that make it; the picture's shape tells the rest.
"""

import math
import weakref
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Grid = Sequence[int]


class ChannelAxes(TorchFunctionMode):
    """While it is entered, follow which dimension of each tensor holds the channels."""

    SECOND = (  # they put channels second
        F.conv1d, F.conv2d, F.conv3d, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d,
        F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d, F.adaptive_max_pool2d, F.lp_pool2d,
        F.batch_norm, F.group_norm, F.instance_norm, F.local_response_norm, F.interpolate,
        F.pixel_shuffle, F.pixel_unshuffle,
    )  # fmt: skip
    LAST = (F.linear, F.layer_norm, F.rms_norm, F.embedding)  # ... last, unless the input's are known to be elsewhere
    MOVES = (
        torch.permute, Tensor.permute, torch.transpose, Tensor.transpose, torch.swapaxes, Tensor.swapaxes,
        torch.swapdims, Tensor.swapdims, torch.movedim, Tensor.movedim, torch.moveaxis, Tensor.moveaxis,
        torch.adjoint, Tensor.adjoint,
        Tensor.mT.__get__,  # pyright: ignore[reportAttributeAccessIssue] torch declares this property as a tensor
    )  # fmt: skip
    VIEWS = (
        torch.flatten, Tensor.flatten, torch.reshape, Tensor.reshape, Tensor.view, torch.unflatten, Tensor.unflatten,
    )  # fmt: skip
    MIXED = (
        torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm, Tensor.bmm, torch.einsum, torch.baddbmm,
        F.scaled_dot_product_attention, F.multi_head_attention_forward, F.unfold, F.fold, torch.stack,
    )  # fmt: skip

    def __init__(self, images: Float[Tensor, "n c h w"]) -> None:
        super().__init__()
        self._axes: dict[int, tuple[weakref.ref, int]] = {}  # by id, which another tensor may have afterwards
        self._put(images, 1)

    def of(self, tensor: Tensor) -> int | None:
        """The dimension that holds a tensor's channels; None where it is not known."""
        found = self._axes.get(id(tensor))
        return found[1] if found is not None and found[0]() is tensor else None

    def _put(self, tensor: Tensor, axis: int | None) -> None:
        if axis is None:
            self._axes.pop(id(tensor), None)
        else:
            self._axes[id(tensor)] = weakref.ref(tensor), axis

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        if isinstance(output, Tensor) and output.ndim > 2:
            self._put(output, self._axis(func, args, kwargs, output))
        return output

    def _axis(self, func, args, kwargs, output: Tensor) -> int | None:
        if func in self.SECOND:
            return 1
        if func in self.MIXED:
            return None
        known = [(each, axis) for each in _tensors((*args, *kwargs.values())) if (axis := self.of(each)) is not None]
        if func in self.LAST and not known:
            return output.ndim - 1
        if func in self.VIEWS:
            return _after_view(*known[0], output) if known else None
        if func in self.MOVES:
            return _after_move(func, args, kwargs, *known[0]) if known else None
        found = {axis for each, axis in known if each.ndim == output.ndim}
        return found.pop() if len(found) == 1 else None


def _tensors(values: Sequence) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from _tensors(value)


def _after_view(given: Tensor, axis: int, output: Tensor) -> int | None:
    if axis == 1 and output.shape[:2] == given.shape[:2]:
        return 1
    if axis == given.ndim - 1 and (output.shape[0], output.shape[-1]) == (given.shape[0], given.shape[-1]):
        return output.ndim - 1
    return None


def _after_move(func, args, kwargs, given: Tensor, axis: int) -> int | None:
    """Try the move on a tensor whose dimensions all differ."""
    with torch._C.DisableTorchFunction():
        probe = torch.empty(tuple(range(2, 2 + given.ndim)), device="meta")
        moved = func(*(probe if each is given else each for each in args), **kwargs)
    return moved.shape.index(2 + axis) if 2 + axis in moved.shape else None


def as_maps(
    name: str,
    layer: nn.Module,
    tensors: Sequence[Float[Tensor, "n ..."]],
    picture: Sequence[int],
    axis: int | None = None,
    grid: Grid | None = None,
) -> list[Float[Tensor, "n k h w"]]:
    """Lay a layer's output, and what has its shape, out as feature maps.

    Args:
        name, layer: The layer, for messages and for what its own modules tell.
        tensors: Its output (n, k, h, w), (n, h, w, k), (n, tokens, k) or (n, k, tokens), and others of that shape.
        picture: Height and width of the network's pictures.
        axis: Where the output has its channels, if that is known.
        grid: Rows and columns; found from the picture's shape if None. Tokens in front of the grid are left out.

    Raises:
        ValueError: if the output has no rows and columns, only one cell, or they are not known.
    """
    shape, grid = tuple(tensors[0].shape), grid and tuple(grid)
    maps = None
    if len(shape) == 4:
        last = _channels_last(layer, shape, axis, grid, picture)
        if last is None:
            raise ValueError(
                f"layer {name!r} puts out shape {shape}, and neither (n, k, h, w) nor (n, h, w, k) fits a picture of "
                f"{picture[0]} x {picture[1]}: give grid=(rows, columns)"
            )
        if grid in (None, shape[1:3] if last else shape[2:]):
            maps = [each.permute(0, 3, 1, 2) if last else each for each in tensors]
    elif len(shape) == 3:
        tokens = [each.mT if axis == 1 else each for each in tensors]
        count = tokens[0].shape[1]
        rows_columns = grid or _grid(count, picture)
        if rows_columns and math.prod(rows_columns) <= count:
            maps = [each[:, count - math.prod(rows_columns) :].mT.unflatten(2, rows_columns) for each in tokens]
    if maps is None:
        wanted = "choose a layer whose output has rows and columns" if grid is None else f"grid={grid} does not fit it"
        if len(shape) == 3 and grid is None:
            wanted = "its tokens form no grid that fits the picture: give grid=(rows, columns)"
        raise ValueError(f"layer {name!r} puts out shape {shape}; {wanted}")
    check_places(repr(name), maps[0].shape[2:], picture)
    return maps


def check_places(name: str, cells: Sequence[int], picture: Sequence[int]) -> None:
    """Raise ValueError if a layer has one cell only, which tells no place."""
    if math.prod(cells) == 1:
        raise ValueError(
            f"layer {name} puts out one cell (1 x 1) for a picture of {picture[0]} x {picture[1]}, so that there are "
            "no places to compare: choose an earlier layer, or give larger pictures"
        )


def _channels_last(
    layer: nn.Module, shape: tuple[int, ...], axis: int | None, grid: Grid | None, picture: Sequence[int]
) -> bool | None:
    """Whether an output is (n, h, w, k) rather than (n, k, h, w); None if that is not known.

    A given grid decides if it fits one of the two only. Then what the forward pass showed counts, then the layer's own
    modules, then the picture's shape, which rows and columns share up to a cell.
    """
    if grid is not None and (grid == shape[1:3]) != (grid == shape[2:]):
        return grid == shape[1:3]
    if axis in (1, 3):
        return axis == 3
    parts = list(layer.modules())
    if any(isinstance(part, nn.modules.conv._ConvNd) for part in parts):
        return False
    height, width = picture
    last, first = (
        abs(rows * width - columns * height) <= max(height, width) for rows, columns in (shape[1:3], shape[2:])
    )
    if last != first:
        return last
    widths = {part.normalized_shape[-1] for part in parts if isinstance(part, nn.LayerNorm)}
    widths |= {part.out_features for part in parts if isinstance(part, nn.Linear)}
    return shape[3] in widths if last else None


def _grid(tokens: int, picture: Sequence[int]) -> Grid | None:
    """Rows and columns of square patches that cover a picture; one token more may be a class token."""
    height, width = picture
    for patches in (tokens, tokens - 1):
        side = math.isqrt(height * width // max(patches, 1))
        if side and side * side * patches == height * width and height % side == width % side == 0:
            return height // side, width // side
    return None
