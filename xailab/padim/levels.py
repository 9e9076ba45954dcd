"""Nest the grids of several layers, and order features by their cells."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

Shape = tuple[int, int, int]
STRIP = 2**22  # numbers that one step works with, where the grid allows: 16 MiB in single precision


@dataclass(frozen=True)
class Level:
    """Group layers that share one grid.

    Attributes:
        layers: Numbers of these layers. A layer of another grid is repeated to this one.
        channels: Number of channels of all these layers together.
        grid: Numbers of rows and columns.
        splits: (rows, columns) into which the picture is split first, and then each coarser level's cell. A layer of
            2 x 2 cells under one of 6 x 4 has ((2, 2),), and the other ((2, 2), (3, 2)).
    """

    layers: tuple[int, ...]
    channels: int
    grid: tuple[int, int]
    splits: tuple[tuple[int, int], ...]

    @property
    def shape(self) -> Shape:
        """(channels, rows, columns)."""
        return self.channels, *self.grid

    @property
    def size(self) -> int:
        """Number of cells."""
        return math.prod(self.grid)

    def rows(self, strip: slice) -> slice:
        """Return the rows of this grid under some rows of the coarsest one."""
        return self._under(strip, self.grid[0])

    def cells(self, strip: slice) -> slice:
        """Return the cells of this grid under some rows of the coarsest one, in the order of ``to_cells``."""
        return self._under(strip, self.size)

    def _under(self, strip: slice, total: int) -> slice:
        each = total // self.splits[0][0]
        return slice(strip.start * each, strip.stop * each)

    def to_cells(self, features: Float[Tensor, "n c _h _w"]) -> Float[Tensor, "cells c n"]:
        """Order features by cells, the children of one coarser cell after one another, and put the images last."""
        n, channels = features.shape[:2]
        rows, columns = zip(*self.splits, strict=True)
        rows = (features.shape[2] // math.prod(rows[1:]), *rows[1:])  # perhaps a strip of the grid only
        images_last = features.reshape(n, -1).t().contiguous().view(channels, *rows, *columns, n)
        axes = [axis for split in range(1, len(rows) + 1) for axis in (split, len(rows) + split)]
        cells = images_last.permute(*axes, 0, -1).reshape(math.prod(rows) * self.grid[1], channels, n)
        return cells.contiguous()

    def to_maps(self, values: Float[Tensor, "cells n"]) -> Float[Tensor, "n h w"]:
        """Put one value for each cell back into rows and columns."""
        split = values.view(*(size for pair in self.splits for size in pair), values.shape[1])
        rows, columns = range(0, split.ndim - 1, 2), range(1, split.ndim - 1, 2)
        return split.permute(-1, *rows, *columns).reshape(values.shape[1], *self.grid)


def shape_of(layer: Float[Tensor, "n _c _h _w"]) -> Shape:
    """Return the (channels, rows, columns) of a layer's output."""
    channels, rows, columns = layer.shape[1:]
    return channels, rows, columns


def finest(shapes: Sequence[Shape]) -> tuple[int, int]:
    """Return the rows and columns of the layer with the most cells, the first of several."""
    return max((shape[1:] for shape in shapes), key=math.prod)


def nested(shapes: Sequence[Shape]) -> list[Level]:
    """Sort layers into levels, coarse to fine, each grid a multiple of the one before.

    >>> [level.layers for level in nested([(8, 4, 4), (9, 2, 2), (7, 3, 3)])]  # 3 does not divide 4
    [(1,), (0, 2)]
    """
    groups: dict[tuple[int, int], list[int]] = {}  # fine to coarse
    for layer in sorted(range(len(shapes)), key=lambda layer: -math.prod(shapes[layer][1:])):
        grid = shapes[layer][1:]
        first, last = (next(iter(groups)), next(reversed(groups))) if groups else (grid, grid)
        nests = all(fine % coarse == 0 for fine, coarse in zip(last, grid, strict=True))
        groups.setdefault(grid if nests else first, []).append(layer)
    levels, splits, coarser = [], (), (1, 1)
    for grid, layers in reversed(groups.items()):
        splits = (*splits, (grid[0] // coarser[0], grid[1] // coarser[1]))
        levels.append(Level(tuple(layers), sum(shapes[layer][0] for layer in layers), grid, splits))
        coarser = grid
    return levels


def strips(levels: Sequence[Level], numbers: int) -> Iterator[slice]:
    """Yield slices of whole rows of the coarsest grid, each with about STRIP of so many numbers."""
    rows = levels[0].grid[0]
    step = max(1, rows * STRIP // max(numbers, STRIP))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def stack_children(
    block: Float[Tensor, "cells d m"], parents: Float[Tensor, "coarse _d _m"]
) -> Float[Tensor, "coarse _r m"]:
    """View the rows of all children of one coarser cell as rows of one matrix.

    >>> import torch
    >>> stack_children(torch.zeros(8, 3, 5), torch.zeros(2, 4, 5)).shape  # 4 children with 3 rows each
    torch.Size([2, 12, 5])
    """
    cells, rows, columns = block.shape
    return block.view(len(parents), cells // len(parents) * rows, columns)


def add_parents(
    parents: Float[Tensor, "_coarse *rest"], values: Float[Tensor, "cells *rest"]
) -> Float[Tensor, "cells *rest"]:
    """Add each coarser cell's value to the values of its children.

    >>> import torch
    >>> add_parents(torch.tensor([[10.0], [20.0]]), torch.tensor([[1.0], [2], [3], [4]])).flatten()
    tensor([11., 12., 23., 24.])
    """
    return (values.unflatten(0, (len(parents), -1)) + parents.unsqueeze(1)).flatten(0, 1)
