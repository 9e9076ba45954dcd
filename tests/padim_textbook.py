"""PaDiM's distances as a textbook has them: float64, one position after another, the covariance inverted."""

import numpy as np


def repeated(features: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Repeat cells of (n, c, h, w) to a grid: position i of n takes cell floor(i * cells / n)."""
    rows, columns = (np.arange(size) * old // size for size, old in zip(grid, features.shape[2:], strict=True))
    return features[:, :, rows][:, :, :, columns]


def embeddings(layers) -> np.ndarray:
    """All layers (n, c, h, w) at the grid of the one with most cells, one after another, in float64."""
    layers = [np.asarray(layer, dtype=np.float64) for layer in layers]
    grid = max((layer.shape[2:] for layer in layers), key=np.prod)
    return np.concatenate([repeated(layer, grid) for layer in layers], 1)


def distances(normal, new, epsilon: float = 0.01) -> np.ndarray:
    """Mahalanobis distances (n, h, w) of new images to normal ones; both are given as layers of features."""
    normal, new = embeddings(normal), embeddings(new)
    found = np.empty((len(new), *new.shape[2:]))
    for i, j in np.ndindex(*new.shape[2:]):
        covariance = np.cov(normal[:, :, i, j], rowvar=False).reshape(2 * normal.shape[1:2])
        precision = np.linalg.inv(covariance + epsilon * np.eye(len(covariance)))
        apart = new[:, :, i, j] - normal[:, :, i, j].mean(0)
        found[:, i, j] = np.sqrt(np.einsum("nd,de,ne->n", apart, precision, apart))
    return found
