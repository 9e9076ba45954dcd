"""Judging answers that are tensors, for the checks of the exercises."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from xailab.lessons import Wrong


def judge(
    value, expected: Tensor, mistakes: Mapping[str, Tensor], form: str, otherwise: str | Callable[[int], str]
) -> None:
    """Raise Wrong if an answer is not the expected one; say which of the known mistakes gives this very answer.

    Args:
        value: The answer, anything that NumPy makes an array of.
        expected: The right answer.
        mistakes: Wrong answers by the words for them.
        form: What shape is expected, in words.
        otherwise: What to say of any other answer; a function gets the place (of the flat tensor) where the answer
            differs most.
    """
    found = (value if isinstance(value, Tensor) else torch.tensor(np.array(value))).detach().cpu().double()

    def same(a: Tensor) -> bool:
        return a.shape == found.shape and torch.allclose(found, a.double(), atol=1e-4, rtol=1e-4)

    if same(expected):
        return
    for words, mistaken in mistakes.items():
        if same(mistaken):
            raise Wrong(words)
    if found.shape != expected.shape:
        raise Wrong(f"expected shape {tuple(expected.shape)}, got {tuple(found.shape)}: {form}.")
    i = int((found - expected.double()).abs().flatten().nan_to_num(torch.inf).argmax())
    if not isinstance(otherwise, str):
        raise Wrong(otherwise(i))
    first, yours = float(expected.flatten()[i]), float(found.flatten()[i])
    raise Wrong(f"{otherwise} Where it differs most, the value should be {first:.4g}, yours is {yours:.4g}.")
