"""The slices: the same in any order and process, with exact masks, and a trap where one is asked for."""

import subprocess
import sys
import time
from hashlib import sha256

import cv2
import numpy as np
import pytest
import torch

from xailab.datasets import phantoms
from xailab.datasets.phantoms import batch, phantom

KINDS = [("usual", "train"), ("usual", "test"), ("shortcut", "train"), ("shortcut", "test")]


def same(a, b) -> bool:
    return a.label == b.label and all(np.array_equal(getattr(a, x), getattr(b, x)) for x in ("image", "mask", "mark"))


def fingerprint(drawn) -> str:
    return sha256(b"".join(d.image.tobytes() + d.mask.tobytes() for d in drawn)).hexdigest()


def test_a_slice_has_the_documented_form():
    for size in (32, 96, 200):
        drawn = phantom(3, size=size, lesion=True)
        assert drawn.image.shape == drawn.mask.shape == drawn.mark.shape == (size, size)
        assert drawn.image.dtype == np.uint8 and drawn.label == 1 and drawn.mask.any() and not drawn.mark.any()
    assert not phantom(3, lesion=False).mask.any()


def test_the_order_of_drawing_does_not_matter():
    forwards = [phantom(i, kind=kind, split=split) for i, (kind, split) in enumerate(KINDS)]
    for i in (3, 0, 2, 1, 0):
        np.random.seed(i)  # what happens to the global generator is no concern of the data
        assert same(phantom(i, kind=KINDS[i][0], split=KINDS[i][1]), forwards[i])


def test_another_process_draws_the_same():
    script = (
        "from xailab.datasets.phantoms import phantom; from hashlib import sha256;"
        "s = [phantom(i, seed=3, split='test') for i in (2, 1, 0)][::-1];"
        "print(sha256(b''.join(d.image.tobytes() + d.mask.tobytes() for d in s)).hexdigest())"
    )
    told = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "77"}
    ).stdout.strip()
    assert told == fingerprint(phantom(i, seed=3, split="test") for i in range(3))


def test_seed_split_and_index_each_change_the_slice():
    base = phantom(4, lesion=False)
    for other in (phantom(4, lesion=False, seed=1), phantom(5, lesion=False), phantom(4, lesion=False, split="test")):
        change = cv2.absdiff(cv2.GaussianBlur(base.image, (0, 0), 2), cv2.GaussianBlur(other.image, (0, 0), 2))
        assert np.percentile(change, 80) > 15  # more than the noise differs


def test_of_two_slices_one_has_a_lesion():
    for split in ("train", "test"):
        labels = [phantom(i, split=split, size=32).label for i in range(24)]
        assert [a + b for a, b in zip(labels[::2], labels[1::2], strict=True)] == [1] * 12
        assert 2 < sum(labels[::2]) < 10  # not always the same one


def test_a_lesion_changes_its_mask_and_nothing_else():
    areas = []
    for i in range(12):
        ill, well = (phantom(i, lesion=lesion) for lesion in (True, False))
        change = cv2.absdiff(ill.image, well.image)
        assert not change[~ill.mask].any()
        assert change[ill.mask].mean() > 12
        assert (change[ill.mask] >= 3).mean() > 0.6
        areas.append(ill.mask.mean())
    assert 0.02 < min(areas) < 0.05 < max(areas) < 0.15


def test_lesions_vary_in_place_and_brightness():
    drawn = [(phantom(i, lesion=True), phantom(i, lesion=False)) for i in range(24)]
    middles = np.array([np.argwhere(ill.mask).mean(0) / 96 for ill, _ in drawn])
    assert (middles.std(0) > 0.07).all()
    changes = [float(ill.image[ill.mask].mean()) - float(well.image[ill.mask].mean()) for ill, well in drawn]
    assert min(changes) < -15 and max(changes) > 15


def test_the_anatomy_is_that_of_a_head():
    """A dark surround, a bright scalp, a dark skull within, and a brain of dark and bright tissue."""
    for i in range(6):
        image = phantom(i, lesion=False).image.astype(float)
        row = image[40:56].mean(0)
        assert row[:3].mean() < 20 and row[-3:].mean() < 20
        scalp = int(row[:24].argmax())
        skull = scalp + int(row[scalp : scalp + 9].argmin())
        assert row[scalp] > 100 and row[skull] < 0.6 * row[scalp]
        assert image[30:66, 30:66].mean() > 1.3 * row[skull]
        assert np.percentile(image[20:76, 30:66], 90) > 1.8 * np.percentile(image[20:76, 30:66], 10)


def test_the_size_changes_the_resolution_only():
    for lesion in (False, True):
        small, large = (phantom(1, size=size, lesion=lesion) for size in (96, 288))
        reduced = cv2.resize(large.image, (96, 96), interpolation=cv2.INTER_AREA).astype(float)
        assert np.abs(cv2.GaussianBlur(reduced - small.image, (0, 0), 1.5)).mean() < 6
        assert small.label == large.label and abs(small.mask.mean() - large.mask.mean()) < 0.01


def test_in_training_the_letter_gives_the_lesion_away():
    for i in range(12):
        drawn = phantom(i, kind="shortcut", size=48)
        assert drawn.mark.any() == bool(drawn.label)
        assert not phantom(i, kind="usual", size=48).mark.any()


def test_in_testing_half_of_each_class_bear_the_letter():
    drawn = [phantom(i, kind="shortcut", split="test", size=48) for i in range(40)]
    for label in (0, 1):
        marks = [bool(d.mark.any()) for d in drawn if d.label == label]
        assert sum(marks) == len(marks) / 2 == 10


def test_the_letter_is_in_the_corner_and_can_be_forced():
    for i in (0, 1):
        bare, marked = (phantom(i, kind="shortcut", mark=mark) for mark in (False, True))
        change = cv2.absdiff(bare.image, marked.image)
        assert change[marked.mark].mean() > 80 and not marked.mark[20:].any() and not marked.mark[:, 20:].any()
        assert not change[24:].any() and not change[:, 24:].any()
        assert bare.label == marked.label and np.array_equal(bare.mask, marked.mask)


def test_a_batch_is_what_networks_take():
    images, labels, masks = batch(range(4), size=48, split="test")
    assert images.shape == (4, 1, 48, 48) and images.dtype == torch.float32 and labels.tolist().count(1) == 2
    one = phantom(2, size=48, split="test")
    assert torch.equal(images[2, 0], torch.from_numpy(one.image) / 255)
    assert torch.equal(masks[2], torch.from_numpy(one.mask)) and int(labels[2]) == one.label


def test_wrong_arguments_are_named():
    for options, said in (
        ({"kind": "biased"}, "'usual', 'shortcut'"),
        ({"split": "validation"}, "'train', 'test'"),
        ({"seed": -1}, "seed=-1"),
        ({"size": 16}, "size=16: expected an integer from 32"),
    ):
        with pytest.raises(ValueError, match=said):
            phantom(0, **options)
    with pytest.raises(ValueError, match="index=-1"):
        phantom(-1)
    with pytest.raises(ValueError, match="no index to draw"):
        batch([])


def test_a_slice_takes_a_moment():
    def seconds() -> float:
        start = time.process_time()
        for i in range(5):
            phantom(i)
        return (time.process_time() - start) / 5

    assert min(seconds() for _ in range(4)) < 0.03  # 0.01 on a processor of its own
    assert phantoms.CLASSES == ("no lesion", "lesion")
