"""The inspection data: the same in any order and process, with masks that are exact."""

import os
import socket
import subprocess
import sys
from functools import cache
from hashlib import sha256
from itertools import product

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from xailab.datasets import inspection
from xailab.datasets.folders import MVTecAD
from xailab.datasets.inspection import CATEGORIES, OBJECTS, TEXTURES, Inspection, defects, gravel, sample, write
from xailab.datasets.inspection.flaws import Flaw
from xailab.images import Preprocess

KINDS = [(category, kind) for category in CATEGORIES for kind in defects(category)]


def same(a, b) -> bool:
    return np.array_equal(a.image, b.image) and np.array_equal(a.mask, b.mask) and a[2:] == b[2:]


def fingerprint(samples) -> str:
    return sha256(b"".join(s.image.tobytes() + s.mask.tobytes() for s in samples)).hexdigest()


def difference(category, kind, i, **options):
    """Largest change of a pixel's channels by a defect, and the mask."""
    bad = sample(category, i, split="test", defect=kind, **options)
    good = sample(category, i, split="test", defect="good", **options)
    return np.abs(bad.image.astype(int) - good.image).max(2), bad.mask


@cache
def drawn(category, i, flaw=None):
    """A picture before the mask and the noise."""
    return inspection.inspection.DRAWINGS[category].draw(256, np.random.default_rng([i, 4]), flaw or Flaw(), "test")


def reduced(plane, size):
    return cv2.resize(plane.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)


def test_there_are_enough_categories_and_defects():
    assert len(TEXTURES) >= 3 and len(OBJECTS) >= 3 and CATEGORIES == TEXTURES + OBJECTS
    assert all(len(set(defects(category))) >= 4 and "good" not in defects(category) for category in CATEGORIES)


@pytest.mark.parametrize("category", CATEGORIES)
def test_a_sample_has_the_documented_form(category):
    s = sample(category, 1, split="test", size=96)
    assert s.image.shape == (96, 96, 3) and s.image.dtype == np.uint8
    assert s.mask.shape == (96, 96) and s.mask.dtype == bool and s.mask.any()
    assert s.defect == defects(category)[0] and s.name == f"test/{s.defect}/001"
    normal = sample(category, 1, size=96)
    assert not normal.mask.any() and normal[2:] == ("good", "train/good/001")


def test_the_order_of_drawing_does_not_matter():
    forwards = [sample(c, i, split="test") for i, c in enumerate(CATEGORIES)]
    for i in (5, 0, 3, 6, 0):
        np.random.seed(i)  # what happens to the global generator is no concern of the data
        assert same(sample(CATEGORIES[i], i, split="test"), forwards[i])


def test_another_process_draws_the_same():
    script = (
        "from xailab.datasets.inspection import CATEGORIES, sample; from hashlib import sha256;"
        "s = [sample(c, 8, split='test', seed=3) for c in reversed(CATEGORIES)];"
        "print(sha256(b''.join(s.image.tobytes() + s.mask.tobytes() for s in s)).hexdigest())"
    )
    told = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "77"}
    ).stdout.strip()
    assert told == fingerprint(sample(c, 8, split="test", seed=3) for c in reversed(CATEGORIES))


@pytest.mark.parametrize("category", CATEGORIES)
def test_seed_split_and_index_each_change_the_picture(category):
    base = sample(category, 4)
    others = [sample(category, 4, seed=1), sample(category, 5), sample(category, 4, split="test", defect="good")]
    for other in others:  # more than the noise differs
        change = np.abs(cv2.GaussianBlur(base.image, (0, 0), 2).astype(int) - cv2.GaussianBlur(other.image, (0, 0), 2))
        assert np.percentile(change, 90) > 3


def test_every_third_test_picture_is_good_and_the_defects_are_balanced():
    for category in CATEGORIES:
        kinds = Inspection(category, "test").kinds
        assert kinds[::3] == ("good",) * 20
        counts = [kinds.count(kind) for kind in defects(category)]
        assert set(counts) == {40 // len(counts)}
        assert [sample(category, i, split="test", size=64).defect for i in (0, 1, 2)] == list(kinds[:3])


@pytest.mark.parametrize(("category", "kind"), KINDS)
def test_the_mask_is_what_the_defect_changes(category, kind):
    for i in (0, 7):
        change, mask = difference(category, kind, i)
        assert not change[~mask].any()
        assert 0.0005 < mask.mean() < 0.3
        assert (change[mask] >= 4).mean() > 0.7  # beside the gaps that are closed
        assert change[mask].mean() > 12
        near = cv2.dilate((change >= 6).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
        assert near[mask].all()
        areas = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)[2][:, cv2.CC_STAT_AREA]
        assert areas.min() >= 6  # no specks


@pytest.mark.parametrize(("category", "kind"), KINDS)
def test_severity_goes_from_subtle_to_plain(category, kind):
    normal, changes = [drawn(category, i) for i in (0, 1)], []
    for severity in (0.0, 1.0):
        pictures = [drawn(category, i, Flaw(kind, np.random.default_rng([i, 5]), severity)) for i in (0, 1)]
        assert all(picture.dtype == np.float32 for picture in pictures)  # float64 takes twice as long
        changes.append(np.abs(np.stack(pictures) - normal).mean())
    if (category, kind) != ("circuit", "missing"):  # a part is there or not
        assert changes[0] < 0.8 * changes[1]


def test_a_defect_behind_a_part_is_drawn_anew(monkeypatch):
    def mask(i, size=256):
        return sample("circuit", i, split="test", defect="cut", size=size).mask

    with monkeypatch.context() as patch:
        patch.setattr(inspection.inspection, "LEAST", 0.0)
        hidden = next(i for i in range(60) if mask(i).mean() < 0.0008)
    shown, large = mask(hidden), reduced(mask(hidden, 300), 256) >= 0.25
    assert shown.mean() >= inspection.inspection.LEAST
    assert (shown & large).sum() > 0.5 * (shown | large).sum()  # at the same place in any size


@pytest.mark.parametrize(("category", "kind"), [(c, defects(c)[0]) for c in CATEGORIES])
def test_size_changes_the_resolution_only(category, kind):
    small, base, large = (sample(category, 2, split="test", defect=kind, size=n) for n in (128, 256, 384))
    for a, b in ((small, base), (base, large)):
        size = len(a.image)
        again = cv2.resize(b.image, (size, size), interpolation=cv2.INTER_AREA).astype(int)
        assert np.abs(again - a.image).mean() < 5
        mask = reduced(b.mask, size) >= 0.25
        assert (mask & a.mask).sum() / (mask | a.mask).sum() > 0.7


@pytest.mark.parametrize("size", [64, 96, 200])
def test_defects_are_seen_in_small_pictures_too(size):
    for category, kind in KINDS[:: 2 if size == 64 else 7]:
        change, mask = difference(category, kind, 1, size=size)
        assert mask.any() and not change[~mask].any() and change[mask].max() > 12


@pytest.mark.parametrize("category", OBJECTS)
def test_objects_vary_little(category):
    pictures = np.stack([sample(category, i).image for i in range(8)]).astype(np.float32)
    blurred = np.stack([cv2.GaussianBlur(p, (0, 0), 4) for p in pictures])
    spread = blurred.std(0).mean()
    contrast = blurred.mean(0).std((0, 1)).mean()
    assert 0.5 < spread < 0.4 * contrast


def test_gravel_is_a_photograph_that_needs_no_network(monkeypatch):
    def refuse(*args, **options):
        raise AssertionError("no connection is wanted here")

    monkeypatch.setattr(socket, "socket", refuse)
    gravel.photograph.cache_clear()
    photo = gravel.photograph()
    assert photo.shape == (512, 512) and 0.4 < photo.mean() < 0.8


def test_train_and_test_cut_gravel_from_different_parts(monkeypatch):
    halves = np.zeros((512, 512), np.float32)
    halves[:, 256:] = 1
    monkeypatch.setattr(gravel, "photograph", lambda: halves)
    for i in range(4):
        dark, bright = sample("gravel", i), sample("gravel", i, split="test", defect="good")
        assert dark.image.max() < bright.image.min()


def test_the_data_set_has_the_items_and_attributes_of_a_folder():
    data = Inspection("wood", "test", n=7, size=64)
    assert len(data) == 7 and data.defects == defects("wood")
    assert data.labels.tolist() == [False, True, True, False, True, True, False] and data.labels.dtype == bool
    assert all(same(s, sample("wood", i, split="test", size=64)) for i, s in enumerate(data))
    assert [s.name for s in data] == list(data.names) and [s.defect for s in data] == list(data.kinds)
    train = Inspection("wood", n=3, size=64)
    assert train.defects == () and not train.labels.any() and len(Inspection("wood")) == inspection.inspection.N_TRAIN
    assert Inspection("wood", "test", n=2, size=64).defects == ("scratch",)


def test_the_data_set_preprocesses_image_and_mask_alike():
    preprocess = Preprocess(resize=96, crop=80)
    plain, (image, mask, defect, name) = (
        Inspection("gear", "test", n=3, size=128, preprocess=p)[1] for p in (None, preprocess)
    )
    assert torch.equal(image, preprocess(plain.image)[0]) and image.shape == (3, 80, 80)
    assert mask.shape == (80, 80) and mask.any() and (defect, name) == plain[2:]


def test_batches_go_through_workers():
    data = Inspection("gravel", "test", n=4, size=64, preprocess=Preprocess())
    alone, shared = (list(DataLoader(data, batch_size=2, num_workers=n)) for n in (0, 2))
    for a, b in zip(alone, shared, strict=True):
        assert torch.equal(a.image, b.image) and torch.equal(a.mask, b.mask)
        assert list(a.defect) == list(b.defect) and list(a.name) == list(b.name)


@pytest.mark.parametrize("i", [-1, 4])
def test_the_data_set_ends(i):
    with pytest.raises(IndexError, match="expected 0 to 3"):
        Inspection("gear", n=4)[i]


def test_what_is_written_reads_back_as_the_data_set(tmp_path):
    root = write(tmp_path / "data", ("gear", "fabric"), n_train=2, n_test=6, size=64, seed=5, progress=False)
    assert sorted(path.name for path in root.iterdir()) == ["fabric", "gear"]
    for category, split, n in product(("gear", "fabric"), ("train", "test"), (2, 6)):
        if (split == "train") == (n == 2):
            drawn = {s.name: s for s in Inspection(category, split, n=n, size=64, seed=5)}
            read = MVTecAD(root, category, split)
            assert set(read.names) == set(drawn) and set(read.defects) <= set(defects(category))
            assert all(same(s, drawn[s.name]) for s in read)
    mask = cv2.imread(str(next((root / "gear" / "ground_truth").rglob("*_mask.png"))), cv2.IMREAD_UNCHANGED)
    assert mask.shape == (64, 64) and set(np.unique(mask)) == {0, 255}


def test_writing_goes_on_where_it_was_interrupted(tmp_path, monkeypatch):
    options = {"categories": ("gravel",), "n_train": 3, "n_test": 2, "size": 64, "progress": False}
    replace, count = os.replace, iter(range(99))

    def interrupted(part, path):
        if next(count) == 2:
            raise KeyboardInterrupt
        replace(part, path)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", interrupted)
        write(tmp_path, **options)
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.name for path in sorted(left)] == ["000.png", "001.png"]  # whole files only
    for name in (".002.png.part", ".002.png.0123abcd.part"):  # as a power cut leaves it, now and before
        (tmp_path / "gravel/train/good" / name).write_bytes(b"half")
    write(tmp_path, **options)
    assert len(MVTecAD(tmp_path, "gravel", "train")) == 3 and len(MVTecAD(tmp_path, "gravel", "test")) == 2
    assert not list(tmp_path.rglob("*.part"))
    write(tmp_path, "wood", n_train=1, n_test=1, size=64, progress=False)  # beside another category
    assert len(MVTecAD(tmp_path, "gravel", "train")) == 3


@pytest.mark.parametrize("other", ["notes.txt", "gear/train/good/900.png", "bottle/train/good/000.png"])
def test_a_folder_with_other_things_in_it_is_refused(tmp_path, other):
    (tmp_path / other).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / other).write_bytes(b"mine")
    with pytest.raises(FileExistsError, match=r"other things in it .*new or empty"):
        write(tmp_path, ("gear",), n_train=1, n_test=1, size=64, progress=False)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / other]


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="is a file"):
        write(tmp_path / "file", ("gear",), n_train=1, n_test=1, progress=False)


@pytest.mark.parametrize(
    "call", [lambda c: sample(c, 0), defects, Inspection, lambda c: write("never", ("gear", c), progress=False)]
)
def test_an_unknown_category_is_answered_with_the_names(call):
    with pytest.raises(ValueError, match=r"category='bottle'.*fabric, gravel, wood, biscuit"):
        call("bottle")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"split": "validation"}, "'train', 'test'"),
        ({"split": "test", "defect": "leak"}, "expected one of good, tooth, rust, scratch, dent"),
        ({"split": "train", "defect": "rust"}, 'pictures of split="train" are normal'),
        ({"i": -2}, "i=-2"),
        ({"seed": -1}, "seed=-1"),
        ({"size": 32}, "size=32: expected an integer from 64"),
    ],
)
def test_wrong_arguments_are_named(wrong, told):
    with pytest.raises(ValueError, match=told):
        sample("gear", **{"i": 0} | wrong)
    if not {"defect", "i"} & set(wrong):
        with pytest.raises(ValueError, match=told):
            Inspection("gear", **wrong)
    with pytest.raises(ValueError, match="n=-1"):
        Inspection("gear", n=-1)
