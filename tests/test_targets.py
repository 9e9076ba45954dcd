import pytest
import torch

from xailab.targets import resolve

LOGITS = torch.tensor([[0.0, 3.0, 1.0], [5.0, 2.0, 1.0]])


@pytest.mark.parametrize(
    "target, expected",
    [
        (None, [1, 0]),
        (2, [2, 2]),
        ([0, 2], [0, 2]),
        (torch.tensor([1, 1]), [1, 1]),
        ([[0, 1], [2, 1]], [[0, 1], [2, 1]]),
    ],
)
def test_every_form(target, expected):
    assert resolve(target, LOGITS).tolist() == expected


@pytest.mark.parametrize(
    "target, error, message",
    [
        (3, ValueError, "from 0 to 2"),
        (-1, ValueError, "from 0 to 2"),
        ([0, 1, 2], ValueError, "2 classes"),
        ([[[0]], [[1]]], ValueError, r"shape \(2, k\)"),
        (torch.tensor([0.0, 1.0]), TypeError, "class number"),
        (True, TypeError, "class number"),
    ],
)
def test_says_what_is_wrong(target, error, message, unchecked):
    with pytest.raises(error, match=message):
        resolve(target, LOGITS)
