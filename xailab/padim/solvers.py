"""Squared Mahalanobis distances by triangular factors, no matrix inverted: shared blocks, or few images."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from xailab.padim.levels import Level, added, grouped, strips


class BlockCholesky:
    """The Cholesky factor L of each position's covariance, in blocks that cells share.

    Args:
        levels: The layers by grid, coarse to fine.
        n: Number of images.
        mean: By level, (cells, channels).
        scatter: S by levels k and j <= k, (cells of k, channels of k, channels of j).
        epsilon: What is added to the diagonal of the covariance.

    Raises:
        ValueError: if a covariance is not positive definite in its precision.
    """

    def __init__(
        self, levels: Sequence[Level], n: int, mean: list[Tensor], scatter: list[list[Tensor]], epsilon: float
    ) -> None:
        self.levels, self.mean = levels, mean
        self.numbers = 2 * sum(level.size * level.channels for level in levels)  # that one image takes in ``squares``
        self.factor = [[block / (n - 1) for block in row] for row in scatter]
        for row in self.factor:
            row[-1].diagonal(dim1=1, dim2=2).add_(epsilon)
        for strip in strips(levels, sum(block.numel() for row in self.factor for block in row)):
            parts = zip(levels, self.factor, strict=True)
            block_cholesky_([[block[level.cells(strip)] for block in row] for level, row in parts])

    def squares(self, vectors: Sequence[Tensor], strip: slice) -> Float[Tensor, "cells n"]:
        """M^2 = |y|^2 by forward substitution in L y = x - mean, level by level.

        Args:
            vectors: By level, (cells, channels, n).
            strip: Rows of the coarsest grid that they belong to.
        """
        solved, total = [], None
        for level, x, mean, row in zip(self.levels, vectors, self.mean, self.factor, strict=True):
            cells = level.cells(strip)
            rest = x - mean[cells].unsqueeze(-1)
            for y, block in zip(solved, row, strict=False):
                grouped(rest, y).baddbmm_(grouped(block[cells], y), y, alpha=-1)
            solved.append(torch.linalg.solve_triangular(row[-1][cells], rest, upper=False))
            total = added(total, solved[-1].square().sum(1))
        return total


def block_cholesky_(rows: list[list[Tensor]]) -> None:
    """Factor covariances in place, given by rows of blocks C_k0 .. C_kk, coarse to fine."""
    for k, row in enumerate(rows):
        for j, block in enumerate(row):
            above = rows[j]  # L_j0 .. L_jj; for j = k this row, as far as it is done
            for left, right in zip(row[:j], above, strict=False):
                grouped(block, right).baddbmm_(grouped(left, right), right.mT, alpha=-1)
            if j < k:
                together = grouped(block, above[j])
                together.copy_(torch.linalg.solve_triangular(above[j].mT, together, upper=True, left=False))
            else:
                block.copy_(_cholesky(block))


class Woodbury:
    """What the distance needs of few images: their centred vectors A, and the Cholesky factor K of their products.

    Args:
        levels: The layers by grid, coarse to fine.
        features: Of each level, (n, channels, rows, columns).
        epsilon: What is added to the diagonal of the covariance.
    """

    def __init__(self, levels: Sequence[Level], features: Sequence[Tensor], epsilon: float) -> None:
        n, positions = len(features[0]), levels[-1].size
        self.levels, self.epsilon = levels, epsilon
        self.numbers = 3 * positions * n  # that one image takes in ``squares``
        vectors = [level.as_cells(x.double()) for level, x in zip(levels, features, strict=True)]
        self.mean = [x.mean(-1) for x in vectors]
        self.centred = [x - mean.unsqueeze(-1) for x, mean in zip(vectors, self.mean, strict=True)]
        self.factor = self.mean[-1].new_empty(positions, n, n)
        for strip in strips(levels, 3 * self.factor.numel()):
            products = None
            for level, centred in zip(levels, self.centred, strict=True):
                part = centred[level.cells(strip)]
                products = added(products, part.mT @ part)
            products.diagonal(dim1=1, dim2=2).add_((n - 1) * epsilon)
            self.factor[levels[-1].cells(strip)] = _cholesky(products)

    def squares(self, vectors: Sequence[Tensor], strip: slice) -> Float[Tensor, "cells n"]:
        """M^2 = (|x|^2 - |K^-1 A^T x|^2) / epsilon, with the arguments of ``BlockCholesky.squares``."""
        products = lengths = None
        for level, x, mean, centred in zip(self.levels, vectors, self.mean, self.centred, strict=True):
            cells = level.cells(strip)
            x = x - mean[cells].unsqueeze(-1)
            products = added(products, centred[cells].mT @ x)
            lengths = added(lengths, x.square().sum(1))
        solved = torch.linalg.solve_triangular(self.factor[self.levels[-1].cells(strip)], products, upper=False)
        return ((lengths - solved.square().sum(1)) / self.epsilon).clamp_(min=0)


def _cholesky(matrices: Float[Tensor, "cells d d"]) -> Float[Tensor, "cells d d"]:
    factor, failed = torch.linalg.cholesky_ex(matrices)
    if failed.any():
        raise ValueError("a covariance is not positive definite in this precision: take a larger epsilon")
    return factor
