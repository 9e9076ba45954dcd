"""Pairs of patches: where they may lie, that all of it happens, and that a seed decides it."""

import numpy as np
import patch_svdd_textbook as textbook
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xailab.boxes import Box
from xailab.patch_svdd import close_pairs, crop, jittered, position_pairs, rectangles
from xailab.patch_svdd.sampling import DIRECTIONS


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def on_the_edge(corner, size, patch):
    return any(place in (0, side - patch) for place, side in zip(corner, size, strict=True))


@given(st.sampled_from([32, 64]), st.integers(0, 40), st.integers(0, 200), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_position_pairs_lie_as_the_paper_says(patch, more, much_more, seed):
    """The neighbour: 3K/4 to K - 1 pixels off in its direction, moved to the edge where that leads out."""
    size = (patch + more, patch + 1 + much_more)
    pairs = position_pairs(50, 3, size, patch, generator(seed))
    assert set(pairs.images.tolist()) <= {0, 1, 2}
    for main, neighbour, direction in zip(*(pairs[i].tolist() for i in (1, 2, 3)), strict=True):
        assert main != neighbour
        for axis, side in enumerate(size):
            sign = textbook.DIRECTIONS[direction][axis]
            away = {min(max(main[axis] + sign * pixels, 0), side - patch) for pixels in range(3 * patch // 4, patch)}
            assert 0 <= main[axis] <= side - patch and neighbour[axis] in away


@given(st.sampled_from([32, 64]), st.integers(0, 5), st.integers(1, 50), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_close_pairs_are_a_pixel_or_two_apart(patch, more, much_more, seed):
    size = (patch + more, patch + much_more)
    pairs = close_pairs(50, 1, size, patch, generator(seed))
    apart = (pairs.main - pairs.neighbour).abs()
    assert pairs.directions is None and apart.amax() <= patch // 32 and apart.sum(1).min() > 0
    for corners in (pairs.main, pairs.neighbour):
        assert (corners >= 0).all() and (corners <= torch.tensor(size) - patch).all()


def test_everything_that_may_happen_happens_equally_often():
    pairs = position_pairs(20_000, 4, (300, 300), 32, generator())
    free = (pairs.main >= 32).all(1) & (pairs.main <= 300 - 64).all(1)  # nothing is moved to the edge
    apart = ((pairs.neighbour - pairs.main) * DIRECTIONS[pairs.directions])[free]
    assert set(apart[:, 0].tolist()) == {0, *range(24, 32)} == set(apart[:, 1].tolist())
    for values, kinds in ((pairs.images, 4), (pairs.directions, 8), (pairs.main[:, 0], 269), (pairs.main[:, 1], 269)):
        counts = np.bincount(values, minlength=kinds)
        chi_squared = ((counts - 20_000 / kinds) ** 2 / (20_000 / kinds)).sum()
        assert len(counts) == kinds and chi_squared < kinds + 5 * np.sqrt(2 * kinds)
    close = close_pairs(5_000, 1, (300, 300), 64, generator())
    assert len({tuple(pair) for pair in (close.neighbour - close.main).tolist()}) == 24


@pytest.mark.parametrize("draw", [position_pairs, close_pairs])
def test_a_seed_decides_and_torch_is_left_alone(draw):
    before = torch.get_rng_state()
    a, b, c = (draw(30, 5, (80, 90), 64, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(a.main, b.main) and torch.equal(a.neighbour, b.neighbour) and torch.equal(a.images, b.images)
    assert not torch.equal(a.main, c.main)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("draw", [position_pairs, close_pairs])
def test_where_there_is_room_for_one_patch(draw):
    for images, size in ((2, (64, 64)), (2, (63, 100)), (0, (100, 100))):
        with pytest.raises(ValueError, match="no pairs of patches of 64 x 64 pixels"):
            draw(10, images, size, 64, generator())
    assert (draw(10, 1, (64, 65), 64, generator()).main[:, 0] == 0).all()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_patches_are_cut_where_they_lie(dtype):
    images = (255 * torch.rand(4, 3, 70, 90, generator=generator())).to(dtype)
    pairs = position_pairs(40, 4, (70, 90), 32, generator())
    found = crop(images, pairs.images, pairs.neighbour, 32)
    for patch, image, (top, left) in zip(found, pairs.images, pairs.neighbour, strict=True):
        assert torch.equal(patch, images[image, :, top : top + 32, left : left + 32])


def test_shaking_shifts_colours_and_adds_noise():
    patches = torch.full((400, 3, 32, 32), 0.5)
    found = jittered(patches, generator()) - 0.5
    shift = found.mean((2, 3))
    assert shift.std() == pytest.approx(0.02, rel=0.1) and abs(shift.mean()) < 0.002
    assert (found - shift[:, :, None, None]).std() == pytest.approx(0.02, rel=0.01)
    assert abs(np.corrcoef(shift.T.numpy()) - np.eye(3)).max() < 0.2  # each colour by itself
    assert torch.equal(patches, torch.full_like(patches, 0.5))
    assert torch.equal(jittered(patches, generator(3)), jittered(patches, generator(3)))
    assert torch.equal(jittered(patches, strength=0.0), patches)


def test_pairs_can_be_drawn_on_a_picture():
    pairs = position_pairs(7, 1, (80, 100), 32, generator())
    boxes = rectangles(pairs, 32)
    assert len(boxes) == 7
    for (main, neighbour), (top, left), (below, beside) in zip(boxes, pairs.main, pairs.neighbour, strict=True):
        assert main == Box(int(left), int(top), int(left) + 32, int(top) + 32) and main.area == 32 * 32
        assert neighbour == Box(int(beside), int(below), int(beside) + 32, int(below) + 32)
        assert neighbour.bottom <= 80 and neighbour.right <= 100
