"""Accumulate n, mean and scatter matrix of normal images; ``gaussians`` derives the formulas."""

import math
from collections.abc import Sequence

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from xailab.padim.levels import Level, stack_children, strips

Batch = list[Tensor]  # features by level, (n, channels, rows, columns)
SINGLE = 1000  # largest variance, in units of epsilon, for which single precision keeps distances to better than 1e-4


class Statistics:
    """Accumulate number, mean and scatter matrix S of images, in blocks that cells share.

    Args:
        levels: Layers by grid, coarse to fine.
        epsilon: What is added to the diagonal of the covariance later.
        dtype: Type of the numbers. Single precision becomes double where a variance is more than SINGLE * epsilon.
        device: Device of the numbers.

    Attributes:
        n: Number of images.
        mean: Mean by level, (cells, channels).
        scatter: S by levels k and j <= k, (cells of k, channels of k, channels of j).
    """

    def __init__(self, levels: Sequence[Level], epsilon: float, dtype: torch.dtype, device: torch.device) -> None:
        self.levels, self.epsilon, self.n = levels, epsilon, 0
        self.mean = [torch.zeros(level.size, level.channels, dtype=dtype, device=device) for level in levels]
        self.scatter = [
            [mean.new_zeros(*mean.shape, coarser.channels) for coarser in levels[: k + 1]]
            for k, mean in enumerate(self.mean)
        ]

    @property
    def dtype(self) -> torch.dtype:
        """Type of the numbers, single or double precision."""
        return self.mean[0].dtype

    @property
    def blocks(self) -> list[Tensor]:
        """All blocks of S."""
        return [block for row in self.scatter for block in row]

    def accumulate(self, batches: Sequence[Batch]) -> None:
        """Add images, given as batches of features by level."""
        new = sum(len(batch[0]) for batch in batches)
        if new == 0:
            return
        for strip in strips(self.levels, new * sum(level.size * level.channels for level in self.levels)):
            shifts, deviations = self._centre(batches, strip)
            if self.dtype != torch.float64 and self._exceeds_single(deviations):
                self.convert(torch.float64)
                shifts, deviations = self._centre(batches, strip)
            for level, mean, shift in zip(self.levels, self.mean, shifts, strict=True):
                mean[level.cells(strip)] += shift * (new / (self.n + new))
            self._add_products(deviations, strip)
        self.n += new

    def merge(self, other: "Statistics") -> None:
        """Add the statistics of other images (Chan et al. 1979)."""
        if other.dtype == torch.float64:
            self.convert(torch.float64)
        total = self.n + other.n
        shifts = [theirs.to(mine) - mine for mine, theirs in zip(self.mean, other.mean, strict=True)]
        for mean, shift in zip(self.mean, shifts, strict=True):
            mean += shift * (other.n / total)
        for block, theirs in zip(self.blocks, other.blocks, strict=True):
            block += theirs.to(block)
        self._add_products([shift.unsqueeze(-1) for shift in shifts], weight=self.n * other.n / total)
        self.n = total

    def all_reduce(self, total: int) -> None:
        """Add up the statistics of all processes of ``torch.distributed``, which have so many images in total."""
        wide = torch.tensor(self.dtype == torch.float64, dtype=torch.int64, device=self.mean[0].device)
        dist.all_reduce(wide)
        if wide:
            self.convert(torch.float64)
        shifts = []
        for mean in self.mean:
            whole = mean.double() * self.n
            dist.all_reduce(whole)
            shifts.append((mean - whole / total).to(mean).unsqueeze(-1))
            mean.copy_(whole / total)
        self._add_products(shifts, weight=self.n)
        for block in self.blocks:
            dist.all_reduce(block)
        self.n = total

    def convert(self, to: torch.dtype | torch.device) -> None:
        """Change the type or the device of the numbers."""
        self.mean = [mean.to(to) for mean in self.mean]
        self.scatter = [[block.to(to) for block in row] for row in self.scatter]

    def clone(self) -> "Statistics":
        """Copy the statistics."""
        copied = Statistics.__new__(Statistics)
        copied.levels, copied.epsilon, copied.n = self.levels, self.epsilon, self.n
        copied.mean = [mean.clone() for mean in self.mean]
        copied.scatter = [[block.clone() for block in row] for row in self.scatter]
        return copied

    def _centre(self, batches: Sequence[Batch], strip: slice) -> tuple[list[Tensor], list[Tensor]]:
        """Return by level how far new images shift the mean, and the columns D whose products D D^T are added to S.

        The last column of D is the shift, scaled as in Chan's sum of two states; the others are the deviations from
        the new images' own mean.
        """
        shifts, deviations = [], []
        for k, level in enumerate(self.levels):
            vectors = level.to_cells(stacked(batches, k, level.rows(strip)).to(self.mean[k]))
            average, new = vectors.mean(-1), vectors.shape[-1]
            shifts.append(average - self.mean[k][level.cells(strip)])
            deviations.append(vectors.new_empty(*average.shape, new + 1))
            torch.sub(vectors, average.unsqueeze(-1), out=deviations[-1][..., :new])
            deviations[-1][..., new] = shifts[-1] * math.sqrt(self.n * new / (self.n + new))
        return shifts, deviations

    def _exceeds_single(self, deviations: Sequence[Tensor]) -> bool:
        """Return whether a variance is too large for single precision."""
        variances = (level.square().sum(-1).max() / level.shape[-1] for level in deviations if level.numel())
        return any(variance > SINGLE * self.epsilon for variance in variances)

    def _add_products(
        self, columns: Sequence[Float[Tensor, "_cells _d _m"]], strip: slice | None = None, weight: float = 1
    ) -> None:
        """Add weight * D D^T to S, or to a strip of it, given D by level."""
        strip = strip or slice(0, self.levels[0].grid[0])
        for k, (level, finer) in enumerate(zip(self.levels, columns, strict=True)):
            for block, coarser in zip(self.scatter[k], columns, strict=False):
                target = stack_children(block[level.cells(strip)], coarser)
                target.baddbmm_(stack_children(finer, coarser), coarser.mT, alpha=weight)


def stacked(batches: Sequence[Batch], k: int, rows: slice = slice(None)) -> Float[Tensor, "n c _h _w"]:
    """Put the images of all batches together, of level k and some of its rows."""
    parts = [batch[k][:, :, rows] for batch in batches]
    return torch.cat(parts) if len(parts) > 1 else parts[0]
