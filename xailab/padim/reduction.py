"""Reduce dimensions by random channels or principal components (Section III-A of arXiv 2011.08785)."""

import math
from collections.abc import Sequence
from functools import reduce
from itertools import combinations_with_replacement

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from xailab.padim.levels import finest, shape_of

Layers = Sequence[Float[Tensor, "n _c _h _w"]]


def random_channels(counts: Sequence[int], dimensions: int | None, seed: int) -> list[Int[Tensor, "_kept"]]:
    """Choose channels at random from all layers together, without replacement.

    A layer's share thus follows its number of channels.

    >>> [len(kept) for kept in random_channels([64, 128, 256], 448, seed=0)]
    [64, 128, 256]

    Args:
        counts: Number of channels of each layer.
        dimensions: Number of channels to keep; None for all.
        seed: Seed of the choice.

    Returns:
        Numbers of the channels to keep in each layer, in rising order.
    """
    total = sum(counts)
    chosen = torch.randperm(total, generator=torch.Generator().manual_seed(seed))[:dimensions].sort().values
    ends = torch.tensor(counts).cumsum(0).tolist()
    return [chosen[(chosen >= end - n) & (chosen < end)] - (end - n) for n, end in zip(counts, ends, strict=True)]


def project(layers: Layers, basis: Sequence[Float[Tensor, "_c d"]]) -> Float[Tensor, "n d h w"]:
    """Project the channels of all layers on d components, at the grid of the finest layer.

    Each layer is projected at its own resolution and repeated to the finest grid (nearest) afterwards, which is the
    same and cheaper.

    >>> layers = [torch.rand(2, 3, 4, 4), torch.rand(2, 5, 2, 2)]
    >>> project(layers, [torch.rand(3, 6), torch.rand(5, 6)]).shape
    torch.Size([2, 6, 4, 4])
    """
    grid = finest([shape_of(layer) for layer in layers])
    parts = (torch.einsum("nchw, cd -> ndhw", x, part.to(x)) for x, part in zip(layers, basis, strict=True))
    return reduce(torch.add, (part if part.shape[2:] == grid else F.interpolate(part, grid) for part in parts))


class Moments:
    """Accumulate mean and covariance of the channels of all layers, over all images and positions of the finest grid.

    No layer is repeated: a cell counts as often as it covers positions, and a pair of cells of two layers as often as
    they cover the same ones.

    >>> moments = Moments([(3, 4, 4), (5, 2, 2)])
    >>> moments.update([torch.rand(2, 3, 4, 4), torch.rand(2, 5, 2, 2)])
    >>> [tuple(part.shape) for part in moments.principal_components(6)]
    [(3, 6), (5, 6)]

    Args:
        shapes: (channels, rows, columns) of each layer.
        device: Device of the sums, which are in double precision.
    """

    def __init__(self, shapes: Sequence[Sequence[int]], device: torch.device | str = "cpu") -> None:
        counts = [shape[0] for shape in shapes]
        self.counts, grid = counts, finest([(channels, rows, columns) for channels, rows, columns in shapes])
        self.n = torch.zeros((), dtype=torch.float64, device=device)  # positions of all images
        self.sums = self.n.new_zeros(sum(counts))
        self.products = self.n.new_zeros(sum(counts), sum(counts))
        self.covered = [
            [_covered(cells, size).to(self.n) for cells, size in zip(shape[1:], grid, strict=True)] for shape in shapes
        ]

    def update(self, layers: Layers) -> None:
        """Add a batch."""
        layers = [layer.to(self.n.device) for layer in layers]
        sums = self.sums.split(self.counts)
        products = [block.split(self.counts, dim=1) for block in self.products.split(self.counts)]
        coarse_to_fine = sorted(range(len(layers)), key=lambda layer: layers[layer][0, 0].numel())
        for i, j in combinations_with_replacement(coarse_to_fine, 2):
            shared = [a @ b.mT for a, b in zip(self.covered[i], self.covered[j], strict=True)]  # positions, by cells
            down, across = (each.to(layers[j]) for each in shared)
            gathered = down @ layers[j] @ across.mT  # for each cell of i, the sum over the cells of j on it
            block = torch.einsum("nchw, ndhw -> cd", layers[i], gathered)
            products[i][j].add_(block)
            if i == j:
                sums[i].add_(gathered.sum((0, 2, 3)))
            else:
                products[j][i].add_(block.mT)
        self.n += len(layers[0]) * math.prod(cover.shape[1] for cover in self.covered[0])

    def all_reduce(self) -> None:
        """Add up the sums of all processes of ``torch.distributed``."""
        for tensor in (self.n, self.sums, self.products):
            dist.all_reduce(tensor)

    def principal_components(self, dimensions: int | None) -> list[Float[Tensor, "_c d"]]:
        """Return the unit vectors along which the variance is largest, in falling order, split by layer.

        Raises:
            ValueError: if a value was NaN or infinite.
        """
        if not self.products.isfinite().all():
            raise ValueError("features are NaN or infinite: look at the images and the network's weights first")
        mean = self.sums / self.n
        covariance = self.products / self.n - torch.outer(mean, mean)
        vectors = torch.linalg.eigh(covariance).eigenvectors.flip(1)[:, :dimensions]
        as_in_files = torch.contiguous_format
        return [part.clone(memory_format=as_in_files) for part in vectors.split(self.counts)]


def _covered(cells: int, positions: int) -> Float[Tensor, "cells positions"]:
    """Return 1 where a cell covers a position, along one axis."""
    return F.interpolate(torch.eye(cells).unsqueeze(0), positions)[0]
