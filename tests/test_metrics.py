import numpy as np
import pytest
import torch

from xailab.localization import Box
from xailab.metrics import iou, pointing


def test_iou_by_hand():
    assert iou(Box(0, 0, 4, 2), Box(2, 0, 6, 2)) == pytest.approx(4 / 12)
    assert iou(Box(0, 0, 2, 2), Box(2, 0, 4, 2)) == 0
    assert iou(Box(0, 0, 2, 2), Box(3, 3, 4, 4)) == 0


def test_boxes_agree_with_their_masks_and_torchvision():
    from torchvision.ops import box_iou

    generator = np.random.default_rng(0)
    for _ in range(50):
        (x0, x1), (y0, y1) = (np.sort(generator.choice(20, (2,), replace=False)) for _ in range(2))
        (u0, u1), (v0, v1) = (np.sort(generator.choice(20, (2,), replace=False)) for _ in range(2))
        a, b = Box(int(x0), int(y0), int(x1), int(y1)), Box(int(u0), int(v0), int(u1), int(v1))
        expected = box_iou(torch.tensor([a]), torch.tensor([b])).item()
        assert iou(a, b) == pytest.approx(expected) == pytest.approx(iou(a.mask(20, 20), b.mask(20, 20)))


def test_iou_errors(unchecked):
    mask = np.ones((2, 2), dtype=bool)
    with pytest.raises(TypeError, match="two boxes or two masks"):
        iou(Box(0, 0, 1, 1), mask)
    with pytest.raises(TypeError, match="two boxes or two masks"):
        iou((0, 0, 1, 1), (0, 0, 1, 1))
    with pytest.raises(ValueError, match="different shapes"):
        iou(mask, np.ones((2, 3), dtype=bool))
    with pytest.raises(ValueError, match="empty"):
        iou(~mask, ~mask)


def test_pointing(unchecked):
    values = torch.zeros(3, 4)
    values[2, 1] = 1
    mask = np.zeros((3, 4), dtype=bool)
    mask[2, 1] = True
    assert pointing(values, mask) and not pointing(values, ~mask)
    assert pointing(values.numpy(), mask)
    assert not pointing(torch.zeros(3, 4), np.ones((3, 4), dtype=bool)), "a constant map points nowhere"
    with pytest.raises(ValueError, match="NaN"):
        pointing(torch.full((3, 4), torch.nan), mask)
    with pytest.raises(ValueError, match="upsample"):
        pointing(torch.zeros(2, 2), mask)
