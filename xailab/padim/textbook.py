r"""PaDiM as the paper has it, all positions at once: easy to read, and what the faster statistics are compared with.

At each position of the finest grid the features of all layers stand in one vector x. From the n vectors of normal
images come (equation 1 of Defard et al. 2020, arXiv 2011.08785)

    mean = (1/n) sum_i x_i,    C = 1/(n - 1) sum_i (x_i - mean)(x_i - mean)^T + epsilon I = L L^T,

L being the Cholesky factor, and a new vector's Mahalanobis distance to them (equation 2) is

    M(x) = sqrt((x - mean)^T C^-1 (x - mean)) = |y|,    L y = x - mean.

A factor takes 8 d^2 bytes a position, all of which are held at once: ``Gaussians`` takes a part of that.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

Vectors = Float[Tensor, "n d h w"]
Mean = Float[Tensor, "h w 1 d"]
Factor = Float[Tensor, "h w d d"]


def embed(layers: Sequence[Float[Tensor, "n _c _h _w"]]) -> Vectors:
    """Repeat the cells of all layers to the grid that has most, and put their channels together, in float64."""
    h, w = max((layer.shape[2:] for layer in layers), key=lambda grid: grid[0] * grid[1])
    rows, columns = torch.arange(h)[:, None], torch.arange(w)
    repeated = (x[:, :, rows * x.shape[2] // h, columns * x.shape[3] // w] for x in layers)
    return torch.cat([x.double() for x in repeated], 1)


def fit(normal: Vectors, epsilon: float = 0.01) -> tuple[Mean, Factor]:
    """Give the means of the vectors of n normal images, and the Cholesky factors of their covariances.

    Raises:
        ValueError: if there are fewer than two images.
    """
    if len(normal) < 2:
        raise ValueError(f"a covariance needs at least 2 normal images, and there are {len(normal)}")
    x = normal.permute(2, 3, 0, 1)
    mean = x.mean(2, keepdim=True)
    covariance = (x - mean).mT @ (x - mean) / (len(normal) - 1)
    return mean, torch.linalg.cholesky(covariance + epsilon * torch.eye(x.shape[-1]).to(x))


def distances(new: Vectors, mean: Mean, factor: Factor) -> Float[Tensor, "n h w"]:
    """Give the Mahalanobis distances of new images at each position."""
    x = new.permute(2, 3, 0, 1)
    y = torch.linalg.solve_triangular(factor, (x - mean).mT, upper=False)
    return y.norm(dim=-2).permute(2, 0, 1)
