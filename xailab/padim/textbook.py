r"""Compute PaDiM as the paper does, all positions at once: read this first, and the tests compare all else with it.

At each position of the finest grid the features of all layers are concatenated into one vector x. From the n vectors of
normal images come (equation 1 of Defard et al. 2020, arXiv 2011.08785)

    mean = (1/n) sum_i x_i,    C = 1/(n - 1) sum_i (x_i - mean)(x_i - mean)^T + epsilon I = L L^T,

L being the Cholesky factor, and a new vector's Mahalanobis distance to them (equation 2) is

    M(x) = sqrt((x - mean)^T C^-1 (x - mean)) = |y|,    L y = x - mean.

All factors are held at once, each of 8 d^2 bytes: ``Gaussians`` takes a part of that.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

Vectors = Float[Tensor, "n d h w"]
Mean = Float[Tensor, "h w 1 d"]
Factor = Float[Tensor, "h w d d"]


def embed(layers: Sequence[Float[Tensor, "n _c _h _w"]]) -> Vectors:
    """Repeat the cells of all layers to the finest grid, and concatenate their channels.

    >>> embed([torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([[[[7.0]]]])]).tolist()
    [[[[1.0, 2.0]], [[7.0, 7.0]]]]
    """
    h, w = max((layer.shape[2:] for layer in layers), key=lambda grid: grid[0] * grid[1])
    rows, columns = torch.arange(h)[:, None], torch.arange(w)
    repeated = (x[:, :, rows * x.shape[2] // h, columns * x.shape[3] // w] for x in layers)
    return torch.cat([x.double() for x in repeated], 1)


def fit(normal: Vectors, epsilon: float = 0.01) -> tuple[Mean, Factor]:
    """Compute mean and Cholesky factor of the covariance at each position (equation 1).

    >>> mean, factor = fit(torch.tensor([3.0, 3.0, 6.0]).view(3, 1, 1, 1), epsilon=1.0)
    >>> mean.item(), factor.item()  # variance 3 + 1
    (4.0, 2.0)

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
    """Compute the Mahalanobis distance of new images at each position (equation 2).

    >>> distances(torch.full((1, 1, 1, 1), 5.0), torch.full((1, 1, 1, 1), 4.0), torch.full((1, 1, 1, 1), 2.0)).item()
    0.5
    """
    x = new.permute(2, 3, 0, 1)
    y = torch.linalg.solve_triangular(factor, (x - mean).mT, upper=False)
    return y.norm(dim=-2).permute(2, 0, 1)
