import numpy as np
import pytest
import torch

from xailab.boxes import Box, iou
from xailab.images import upsample
from xailab.localization import boxes, grabcut, ground_truth_box


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
    assert boxes(torch.zeros(4, 4), 0.6) == []
    assert boxes(-torch.ones(4, 4), 0.6) == []


def test_errors(unchecked):
    with pytest.raises(ValueError, match="one map at a time"):
        boxes(torch.ones(1, 2, 2), 0.6)
    with pytest.raises(ValueError, match="share of the map's maximum"):
        boxes(torch.ones(2, 2), 0.0)
    with pytest.raises(ValueError, match="NaN"):
        boxes(torch.tensor([[1.0, float("nan")]]), 0.6)
    with pytest.raises(ValueError, match="empty"):
        ground_truth_box(np.zeros((3, 3), dtype=bool))


def test_box_and_mask_are_inverse():
    box = Box(2, 1, 5, 3)
    mask = box.mask(6, 8)
    assert mask.sum() == box.area == 6 and mask[1, 4] and not mask[3, 4]
    assert ground_truth_box(mask) == box


def disc(size=64, seed=0):
    """A red disc on green, both noisy; a map that is highest in the disc's middle; the disc's mask."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    distance = np.hypot(y - 0.45 * size, x - 0.55 * size)
    mask = distance < 0.25 * size
    image = np.where(mask[..., None], (200, 60, 40), (60, 150, 80)) + rng.normal(0, 12, (size, size, 3))
    return image.clip(0, 255).astype(np.uint8), torch.from_numpy(np.exp(-((distance / (0.3 * size)) ** 2))), mask


def test_grabcut_grows_the_object_out_of_its_seeds():
    image, map, mask = disc()
    found = grabcut(image, map)
    assert iou(found, mask) > 0.95
    assert iou((map > map.quantile(0.95)).numpy(), mask) < 0.4  # the seeds alone are far too small


def test_grabcut_keeps_the_largest_component():
    image, map, mask = disc()
    image[2:8, 2:8] = (200, 60, 40)  # of the object's colour, elsewhere
    found = grabcut(image, map)
    assert not found[2:8, 2:8].any() and iou(found, mask) > 0.9


@pytest.mark.parametrize("clipped", [(0.3, 1.0), (0.0, 0.5)])
def test_grabcut_takes_maps_with_many_equal_values(clipped):
    """As a ReLU leaves them: more zeros than the background's share, or a saturated top."""
    image, map, mask = disc()
    assert iou(grabcut(image, map.clamp(*clipped)), mask) > 0.9


def test_grabcut_works_on_rgb_and_is_repeatable():
    image, map, _ = disc()
    assert np.array_equal(grabcut(image, map), grabcut(image, map.numpy()))
    before = image.copy()
    grabcut(image, map, 0.9, 0.5)
    assert np.array_equal(image, before)


def test_grabcut_says_what_is_missing(unchecked):
    image, map, _ = disc()
    for value in (0.0, 7.77):
        with pytest.raises(ValueError, match=f"the map is constant \\({value:.3g} everywhere"):
            grabcut(image, upsample(torch.full((7, 7), value), (64, 64)))
    few = np.ones((64, 64))
    few[0, :10] = 0
    with pytest.raises(ValueError, match=r"no pixel is a seed of the foreground: so many share one value"):
        grabcut(image, few)
    with pytest.raises(ValueError, match="upsample the map first"):
        grabcut(image, map[:8, :8])
    with pytest.raises(ValueError, match="0 < background < foreground < 1"):
        grabcut(image, map, 0.3, 0.95)
    with pytest.raises(ValueError, match="NaN or infinite"):
        grabcut(image, map * torch.nan)
    with pytest.raises(ValueError, match="one map"):
        grabcut(image, map[None])
