"""Compute squared Mahalanobis distances from triangular factors: shared blocks, or few images (see ``gaussians``)."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from xailab.padim.levels import Level, add_parents, stack_children, strips
from xailab.padim.statistics import Statistics


class BlockCholesky:
    """Factorise each position's covariance C = L L^T in blocks that cells share.

    Args:
        statistics: Number, mean and scatter matrix of the normal images.
        epsilon: What is added to the diagonal of the covariance.

    Attributes:
        mean: Mean by level, (cells, channels).
        numbers: How many numbers ``squares`` works with for one image.

    Raises:
        ValueError: if a covariance is not positive definite in its precision.
    """

    def __init__(self, statistics: Statistics, epsilon: float) -> None:
        self.levels, self.mean = statistics.levels, statistics.mean
        self.numbers = 2 * sum(level.size * level.channels for level in self.levels)
        self.factor = [[block / (statistics.n - 1) for block in row] for row in statistics.scatter]
        for row in self.factor:
            row[-1].diagonal(dim1=1, dim2=2).add_(epsilon)
        for strip in strips(self.levels, sum(block.numel() for row in self.factor for block in row)):
            parts = zip(self.levels, self.factor, strict=True)
            block_cholesky_([[block[level.cells(strip)] for block in row] for level, row in parts])

    def squares(self, vectors: Sequence[Tensor], strip: slice) -> Float[Tensor, "cells n"]:
        """Compute M^2 = |y|^2 by forward substitution in L y = x - mean, level by level.

        Args:
            vectors: Features by level, (cells, channels, n).
            strip: Rows of the coarsest grid that they belong to.
        """
        solved: list[Tensor] = []
        total = vectors[0].new_zeros(1, vectors[0].shape[-1])
        for level, x, mean, row in zip(self.levels, vectors, self.mean, self.factor, strict=True):
            cells = level.cells(strip)
            rest = x - mean[cells].unsqueeze(-1)
            for y, block in zip(solved, row, strict=False):
                stack_children(rest, y).baddbmm_(stack_children(block[cells], y), y, alpha=-1)
            solved.append(torch.linalg.solve_triangular(row[-1][cells], rest, upper=False))
            total = add_parents(total, solved[-1].square().sum(1))
        return total


def block_cholesky_(rows: list[list[Tensor]]) -> None:
    """Factorise covariances in place, given by rows of blocks C_k0 .. C_kk, coarse to fine."""
    for k, row in enumerate(rows):
        for j, block in enumerate(row):
            factors = rows[j]  # L_j0 .. L_jj; for j = k this row, as far as it is done
            for left, right in zip(row[:j], factors, strict=False):
                stack_children(block, right).baddbmm_(stack_children(left, right), right.mT, alpha=-1)
            if j < k:
                children = stack_children(block, factors[j])
                children.copy_(torch.linalg.solve_triangular(factors[j].mT, children, upper=True, left=False))
            else:
                block.copy_(_cholesky(block))


class Woodbury:
    """Factorise the n x n products K K^T of few images' centred vectors A at each position, by the Woodbury identity.

    Args:
        levels: Layers by grid, coarse to fine.
        features: Features of each level, (n, channels, rows, columns).
        epsilon: What is added to the diagonal of the covariance.

    Attributes:
        mean: Mean by level, (cells, channels).
        numbers: How many numbers ``squares`` works with for one image.
    """

    def __init__(self, levels: Sequence[Level], features: Sequence[Tensor], epsilon: float) -> None:
        n, positions = len(features[0]), levels[-1].size
        self.levels, self.epsilon = levels, epsilon
        self.numbers = 3 * positions * n
        vectors = [level.to_cells(x.double()) for level, x in zip(levels, features, strict=True)]
        self.mean = [x.mean(-1) for x in vectors]
        self.centred = [x - mean.unsqueeze(-1) for x, mean in zip(vectors, self.mean, strict=True)]
        self.factor = self.mean[-1].new_empty(positions, n, n)
        for strip in strips(levels, 3 * self.factor.numel()):
            self.factor[levels[-1].cells(strip)] = _cholesky(self._products(strip))

    def _products(self, strip: slice) -> Float[Tensor, "cells n n"]:
        """Compute A^T A + (n - 1) epsilon I."""
        n = self.centred[0].shape[-1]
        total = (n - 1) * self.epsilon * torch.eye(n).to(self.factor).unsqueeze(0)
        for level, centred in zip(self.levels, self.centred, strict=True):
            part = centred[level.cells(strip)]
            total = add_parents(total, part.mT @ part)
        return total

    def squares(self, vectors: Sequence[Tensor], strip: slice) -> Float[Tensor, "cells n"]:
        """Compute M^2 = (|x|^2 - |K^-1 A^T x|^2) / epsilon, with the arguments of ``BlockCholesky.squares``."""
        images = vectors[0].shape[-1]
        products = vectors[0].new_zeros(1, self.factor.shape[-1], images)
        lengths = vectors[0].new_zeros(1, images)
        for level, x, mean, centred in zip(self.levels, vectors, self.mean, self.centred, strict=True):
            cells = level.cells(strip)
            x = x - mean[cells].unsqueeze(-1)
            products = add_parents(products, centred[cells].mT @ x)
            lengths = add_parents(lengths, x.square().sum(1))
        solved = torch.linalg.solve_triangular(self.factor[self.levels[-1].cells(strip)], products, upper=False)
        return ((lengths - solved.square().sum(1)) / self.epsilon).clamp_(min=0)


def _cholesky(matrices: Float[Tensor, "cells d d"]) -> Float[Tensor, "cells d d"]:
    factor, failed = torch.linalg.cholesky_ex(matrices)
    if failed.any():
        raise ValueError("a covariance is not positive definite in this precision: take a larger epsilon")
    return factor
