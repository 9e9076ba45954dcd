"""Which class is explained: the one meaning of ``target`` for every method."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor

Classes = Integer[Tensor, "n"] | Integer[Tensor, "n k"] | Integer[np.ndarray, "n"] | Integer[np.ndarray, "n k"]
Target = int | np.integer | Sequence[int] | Sequence[Sequence[int]] | Classes | None


def resolve(target: Target, logits: Float[Tensor, "n classes"]) -> Int[Tensor, "n"] | Int[Tensor, "n k"]:
    """Turn a target into class numbers for each image of a batch.

    Args:
        target: One class for all images; one for each image; several for each image, shape (n, k); or None for each
            image's own top class.
        logits: What the network says, (n, classes).

    Returns:
        Class numbers of shape (n,), or (n, k) where several were asked for.

    Raises:
        TypeError: if a target is no whole number.
        ValueError: if there is no such class, or the number of targets is not the number of images.
    """
    n, classes = logits.shape
    if target is None:
        return logits.argmax(1)
    chosen = torch.as_tensor(target, device=logits.device)
    if chosen.is_floating_point() or chosen.is_complex() or chosen.dtype == torch.bool:
        raise TypeError(f"a target is a class number (int), got {chosen.dtype}")
    chosen = chosen.long()
    if chosen.ndim == 0:
        chosen = chosen.expand(n)
    if chosen.ndim > 2 or chosen.shape[0] != n:
        raise ValueError(
            f"expected one class, {n} classes (one for each image) or shape ({n}, k); got shape {tuple(chosen.shape)}"
        )
    if chosen.numel() and (chosen.min() < 0 or chosen.max() >= classes):
        raise ValueError(f"class numbers go from 0 to {classes - 1}, got {sorted(set(chosen.flatten().tolist()))}")
    return chosen
