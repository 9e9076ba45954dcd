"""Judging answers that are tensors, for the checks of the exercises."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from xailab.lessons import Wrong


def judge(value, expected: Tensor, mistakes: Mapping[str, Tensor], form: str, otherwise: str) -> None:
    """Raise Wrong with the words of the mistake that gives this very answer; ``form`` says what shape is expected."""
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
    i = int((found - expected).abs().flatten().nan_to_num(torch.inf).argmax())
    first, yours = float(expected.flatten()[i]), float(found.flatten()[i])
    raise Wrong(f"{otherwise} Where it differs most, the value should be {first:.4g}, yours is {yours:.4g}.")
