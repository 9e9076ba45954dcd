"""How the grids of several layers lie in one another, and features in the order of their cells."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

Shape = tuple[int, int, int]
STRIP = 2**22  # numbers that one step works with, where the picture allows: 16 MiB in single precision


@dataclass(frozen=True)
class Level:
    """Layers that share one grid.

    Attributes:
        layers: Their numbers. Those of another grid are repeated to this one.
        channels: All that they have.
        grid: Rows and columns.
        splits: Into how many rows and columns the picture, then each coarser level's cell, is split: the first is the
            coarsest grid, and their product is this one.
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
        """How many cells the grid has."""
        return math.prod(self.grid)

    def rows(self, strip: slice) -> slice:
        """Rows of this grid under rows of the coarsest one."""
        return self._under(strip, self.grid[0])

    def cells(self, strip: slice) -> slice:
        """Cells of this grid under rows of the coarsest one, in the order of ``as_cells``."""
        return self._under(strip, self.size)

    def _under(self, strip: slice, total: int) -> slice:
        each = total // self.splits[0][0]
        return slice(strip.start * each, strip.stop * each)

    def as_cells(self, features: Float[Tensor, "n c _h _w"]) -> Float[Tensor, "cells c n"]:
        """Put the cells of some rows first, those under one coarser cell after one another, and the images last."""
        n, channels = features.shape[:2]
        rows, columns = zip(*self.splits, strict=True)
        rows = (features.shape[2] // math.prod(rows[1:]), *rows[1:])
        images_last = features.reshape(n, -1).t().contiguous().view(channels, *rows, *columns, n)
        axes = [axis for split in range(1, len(rows) + 1) for axis in (split, len(rows) + split)]
        cells = images_last.permute(*axes, 0, -1).reshape(math.prod(rows) * self.grid[1], channels, n)
        return cells.contiguous()

    def as_maps(self, values: Float[Tensor, "cells n"]) -> Float[Tensor, "n h w"]:
        """Put the cells back in their rows and columns."""
        split = values.view(*(size for pair in self.splits for size in pair), values.shape[1])
        rows, columns = range(0, split.ndim - 1, 2), range(1, split.ndim - 1, 2)
        return split.permute(-1, *rows, *columns).reshape(values.shape[1], *self.grid)


def nested(shapes: Sequence[Shape]) -> list[Level]:
    """Sort layers of (channels, rows, columns) into levels, coarse to fine, each grid a multiple of the one before."""
    groups: dict[tuple[int, int], list[int]] = {}  # fine to coarse
    for layer in sorted(range(len(shapes)), key=lambda layer: -math.prod(shapes[layer][1:])):
        grid = shapes[layer][1:]
        finest, last = (next(iter(groups)), next(reversed(groups))) if groups else (grid, grid)
        nests = all(fine % coarse == 0 for fine, coarse in zip(last, grid, strict=True))
        groups.setdefault(grid if nests else finest, []).append(layer)
    levels, splits, coarser = [], (), (1, 1)
    for grid, layers in reversed(groups.items()):
        splits = (*splits, (grid[0] // coarser[0], grid[1] // coarser[1]))
        levels.append(Level(tuple(layers), sum(shapes[layer][0] for layer in layers), grid, splits))
        coarser = grid
    return levels


def strips(levels: Sequence[Level], numbers: int) -> Iterator[slice]:
    """Go through the coarsest grid in strips of whole rows, each with about STRIP of so many numbers."""
    rows = levels[0].grid[0]
    step = max(1, rows * STRIP // max(numbers, STRIP))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def grouped(block: Float[Tensor, "cells d m"], coarser: Float[Tensor, "coarse _d _m"]) -> Float[Tensor, "coarse _r m"]:
    """View the rows of all cells under one coarser cell as rows of one matrix."""
    cells, rows, columns = block.shape
    return block.view(len(coarser), cells // len(coarser) * rows, columns)


def added(total: Tensor | None, values: Float[Tensor, "cells *rest"]) -> Float[Tensor, "cells *rest"]:
    """Add what each coarser cell has to the values of the cells under it."""
    if total is None:
        return values
    return (values.unflatten(0, (len(total), -1)) + total.unsqueeze(1)).flatten(0, 1)
