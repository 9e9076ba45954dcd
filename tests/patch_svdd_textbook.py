"""Patch SVDD as a textbook has it: float64, one patch after another, all distances, a double loop over the pixels."""

import numpy as np
from torch import nn

DIRECTIONS = [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)]


def parameters(encoder: nn.Module) -> dict[str, np.ndarray]:
    """In float64, by the names that they have in the authors' files."""
    return {name: value.double().numpy() for name, value in encoder.state_dict().items()}


def leaky(x):
    return np.where(x > 0, x, 0.1 * x)


def convolution(x, weight, bias, stride=1):
    """Of one image (c, h, w), without padding."""
    windows = np.lib.stride_tricks.sliding_window_view(x, weight.shape[2:], axis=(1, 2))[:, ::stride, ::stride]
    return np.tensordot(weight, windows, axes=((1, 2, 3), (0, 3, 4))) + bias[:, None, None]


def small(p, patch):
    """The embedding (d,) of a patch (3, 32, 32)."""
    for i in range(1, 9):
        patch = convolution(patch, p[f"enc.conv{i}.weight"], p[f"enc.conv{i}.bias"], stride=2 if i == 1 else 1)
        patch = leaky(patch) if i < 8 else np.tanh(patch)
    return patch[:, 0, 0]


def large(p, patch):
    """The embedding (d,) of a patch (3, 64, 64): that of its quadrants, in two rows of two, and a head."""
    rows = [[small(p, patch[:, i : i + 32, j : j + 32]) for j in (0, 32)] for i in (0, 32)]
    grid = np.array(rows).transpose(2, 0, 1)
    hidden = leaky(convolution(grid, p["conv1.weight"], p["conv1.bias"]))
    return np.tanh(convolution(hidden, p["conv2.weight"], p["conv2.bias"]))[:, 0, 0]


def embed(p, patch):
    """The embedding of a patch of either size."""
    return (small if patch.shape[1] == 32 else large)(p, np.asarray(patch, dtype=np.float64))


def corners(side, patch, stride):
    """Where patches begin: at multiples of the stride, and at the last even pixel that leaves room for one."""
    last = max(start for start in range(0, side - patch + 1, 2))
    return sorted({*(start for start in range(0, last, stride)), last})


def nearest(queries, bank):
    """All distances (n, m), of which the smallest, and its column."""
    distances = np.sqrt(((np.asarray(queries, float)[:, None] - np.asarray(bank, float)[None]) ** 2).sum(2))
    return distances.min(1), distances.argmin(1)


def distribute(scores, size, patch, stride):
    """Give each pixel the mean of the patches over it, patch after patch; a left over edge takes its neighbour's."""
    total, count = np.zeros(size), np.zeros(size)
    for i, top in enumerate(corners(size[0], patch, stride)):
        for j, left in enumerate(corners(size[1], patch, stride)):
            total[top : top + patch, left : left + patch] += scores[i, j]
            count[top : top + patch, left : left + patch] += 1
    covered = (count.any(1).sum(), count.any(0).sum())
    inner = (total / np.maximum(count, 1))[: covered[0], : covered[1]]
    return np.pad(inner, [(0, side - have) for side, have in zip(size, covered, strict=True)], mode="edge")


def classify(p, difference):
    """Log-probabilities (8,) of the directions, of the difference (d,) of two embeddings."""
    x = leaky(p["fc1.weight"] @ difference + p["fc1.bias"])
    x = leaky(p["fc2.weight"] @ x + p["fc2.bias"])
    weight = p["fc3.weight"] / np.sqrt((p["fc3.weight"] ** 2).sum(0))
    scores = weight @ x + p["fc3.bias"]
    return scores - scores.max() - np.log(np.exp(scores - scores.max()).sum())
