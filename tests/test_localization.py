import numpy as np
import pytest
import torch

from xailab.localization import Box, boxes, ground_truth_box


def test_boxes_of_a_drawn_map():
    """Width 8, height 6: x must come from the width and y from the height."""
    values = torch.zeros(6, 8)
    values[1:3, 4:8] = 1.0  # 8 pixels
    values[4, 0:2] = 0.7  # 2 pixels
    values[3, 2] = 0.5  # below the threshold
    assert boxes(values, 0.6) == [Box(4, 1, 8, 3), Box(0, 4, 2, 5)]
    assert boxes(values.numpy(), 0.71) == [Box(4, 1, 8, 3)]


def test_diagonal_neighbours_are_connected():
    assert boxes(torch.eye(4), 0.5) == [Box(0, 0, 4, 4)]


def test_equal_to_skimage():
    """The seed's way: label and regionprops."""
    from skimage.measure import label, regionprops

    generator = np.random.default_rng(0)
    for _ in range(20):
        values = generator.random((12, 17)).astype(np.float32)
        regions = regionprops(label(values >= 0.6 * values.max(), connectivity=2))
        expected = {(x0, y0, x1, y1): region.area for region in regions for y0, x0, y1, x1 in [region.bbox]}
        found = boxes(values, 0.6)
        assert len(found) == len(regions) and set(found) == set(expected)
        assert found[0] in [box for box, area in expected.items() if area == max(expected.values())]


def test_no_evidence_gives_no_box():
    assert boxes(torch.zeros(4, 4)) == []
    assert boxes(-torch.ones(4, 4)) == []


def test_errors(unchecked):
    with pytest.raises(ValueError, match="one map at a time"):
        boxes(torch.ones(1, 2, 2))
    with pytest.raises(ValueError, match="share of the map's maximum"):
        boxes(torch.ones(2, 2), 0.0)
    with pytest.raises(ValueError, match="NaN"):
        boxes(torch.tensor([[1.0, float("nan")]]))
    with pytest.raises(ValueError, match="empty"):
        ground_truth_box(np.zeros((3, 3), dtype=bool))


def test_box_and_mask_are_inverse():
    box = Box(2, 1, 5, 3)
    mask = box.mask(6, 8)
    assert mask.sum() == box.area == 6 and mask[1, 4] and not mask[3, 4]
    assert ground_truth_box(mask) == box
