"""What was downloaded, as data sets: small copies in the layouts of the real ones."""

import re

import numpy as np
import pytest
import small_copies
import torch
from small_copies import write
from torch.utils.data import DataLoader

from xailab.boxes import Box
from xailab.datasets import catalogue, downloaded
from xailab.images import Preprocess

RNG = np.random.default_rng(0)
SMALL = Preprocess(resize=16, crop=16)


def pictures(n, side):
    return RNG.integers(0, 256, (n, side, side, 3), dtype=np.uint8)


@pytest.fixture
def stl10(tmp_path, monkeypatch):
    train, test = pictures(3, 96), pictures(2, 96)
    small_copies.stl10(
        tmp_path, monkeypatch, {"train": (train, [2, 1, 2]), "test": (test, [1, 2])}, ["airplane", "bird"]
    )
    return train, test


def test_stl10(tmp_path, stl10):
    for split, images, labels in (("train", stl10[0], [1, 0, 1]), ("test", stl10[1], [0, 1])):
        data = downloaded.stl10(split, root=tmp_path)
        assert data.classes == ("airplane", "bird") and data.labels.tolist() == labels
        assert all(np.array_equal(data.photograph(i).image, image) for i, image in enumerate(images))
        image, label = data[1]
        assert image.shape == (3, 96, 96) and image.dtype == torch.float32 and label == labels[1]
        assert torch.equal((image * 255).round().byte(), torch.from_numpy(images[1]).permute(2, 0, 1))
    with pytest.raises(IndexError, match="expected 0 to 1"):
        data[2]


def test_batches_come_as_a_network_wants_them(tmp_path, stl10):
    images, labels = next(iter(DataLoader(downloaded.stl10(root=tmp_path, preprocess=SMALL), 3)))
    assert images.shape == (3, 3, 16, 16) and labels.tolist() == [1, 0, 1]
    assert torch.equal(images, SMALL(list(stl10[0])))


def test_damage_is_found_before_it_is_shown(tmp_path, stl10):
    (tmp_path / "stl10_binary" / "train_y.bin").write_bytes(bytes([1, 1, 1]))
    with pytest.raises(ValueError, match=r"stl10 .* is damaged"):
        downloaded.stl10(root=tmp_path)


def test_cifar10(tmp_path, monkeypatch):
    images, labels = pictures(4, 32), [3, 0, 1, 2]
    small_copies.cifar10(tmp_path, monkeypatch, images, labels, ["a", "b", "c", "d"])
    for split in ("train", "test"):
        data = downloaded.cifar10(split, root=tmp_path)
        assert data.classes == ("a", "b", "c", "d") and data.labels.tolist() == labels
        assert np.array_equal(data.photograph(2).image, images[2]) and data[2][1] == 1
    batch = tmp_path / "cifar-10-batches-py" / "test_batch"
    batch.write_bytes(batch.read_bytes()[:-1])
    with pytest.raises(ValueError, match="damaged"):  # and nothing is unpickled
        downloaded.cifar10(root=tmp_path)


def test_oxford_pets(tmp_path):
    base = tmp_path / "oxford-iiit-pet"
    trimap = np.full((40, 50), 2, np.uint8)
    trimap[10:30, 10:30], trimap[12:28, 12:28] = 3, 1
    for name in ("Abyssinian_1", "beagle_7"):
        write(base / "images" / f"{name}.jpg", np.full((40, 50, 3), (200, 100, 50), np.uint8))
        write(base / "annotations" / "trimaps" / f"{name}.png", trimap)
    for split in ("trainval", "test"):
        (base / "annotations" / f"{split}.txt").write_text("Abyssinian_1 1 1 1\nbeagle_7 2 2 1\n")
    data = downloaded.oxford_pets("test", root=tmp_path)
    assert data.classes == ("Cat", "Dog") and data.labels.tolist() == [0, 1]
    photograph = data.photograph(1)
    assert photograph.image.shape == (40, 50, 3) and abs(photograph.image[5, 5].astype(int) - (200, 100, 50)).max() < 5
    assert np.array_equal(photograph.mask, trimap == 1) and np.array_equal(photograph.border, trimap == 3)
    breeds = downloaded.oxford_pets("train", breeds=True, root=tmp_path)
    assert breeds.classes == ("Abyssinian", "Beagle") and breeds[1][1] == 1


def test_cub_200(tmp_path):
    base = tmp_path / "CUB_200_2011"
    names = {"1": "001.Black_footed_Albatross/a.jpg", "2": "001.Black_footed_Albatross/b.jpg", "3": "002.Owl/c.jpg"}
    for name in names.values():
        image = np.zeros((60, 80, 3), np.uint8)
        image[20:50, 10:50] = 255
        write(base / "images" / name, image)
    lists = {
        "images": names,
        "image_class_labels": {"1": "1", "2": "1", "3": "2"},
        "train_test_split": {"1": "1", "2": "0", "3": "1"},
        "bounding_boxes": dict.fromkeys(names, "10.0 20.0 40.0 30.0") | {"3": "60.0 50.0 40.0 30.0"},
        "classes": {"1": "001.Black_footed_Albatross", "2": "002.Owl"},
    }
    for name, lines in lists.items():
        (base / f"{name}.txt").write_text("".join(f"{key} {value}\n" for key, value in lines.items()))
    data = downloaded.cub_200(root=tmp_path)
    assert data.classes == ("Black footed Albatross", "Owl") and data.labels.tolist() == [0, 1]
    assert len(downloaded.cub_200("test", root=tmp_path)) == 1
    assert data.photograph(0).boxes == (Box(10, 20, 50, 50),)
    assert data.photograph(1).boxes == (Box(60, 50, 80, 60),), "a box ends with its picture"
    cut = downloaded.cub_200(root=tmp_path, crop=True).photograph(0)
    assert cut.image.shape == (30, 40, 3) and cut.image.mean() > 245 and cut.boxes == (Box(0, 0, 40, 30),)
    (base / "classes.txt").unlink()
    with pytest.raises(ValueError, match=r"classes\.txt is missing"):
        downloaded.cub_200(root=tmp_path)


@pytest.mark.parametrize("inside", ["", "brain-tumor"])
@pytest.mark.parametrize("order", [("train/{}", "valid/{}"), ("{}/train", "{}/val")])
def test_brain_mri(tmp_path, inside, order):
    base = tmp_path / "brain_mri" / inside
    notes = {"a": "1 0.5 0.25 0.5 0.5\n", "b": "0 0.5 0.5 0.1 0.1\n", "c": "", "nobody knows": None}
    for folder in order:
        labels = base / folder.format("labels")
        labels.mkdir(parents=True)
        for name, text in notes.items():
            write(base / folder.format("images") / f"{name}.jpg", np.full((40, 80), 90, np.uint8))
            if text is not None:
                (labels / f"{name}.txt").write_text(text)
    for split in ("train", "test"):
        data = downloaded.brain_mri(split, root=tmp_path)
        assert data.classes == ("no tumour", "tumour") and data.labels.tolist() == [1, 0, 0]
        assert data.photograph(0).boxes == (Box(20, 0, 60, 20),) and data.photograph(1).boxes == ()
        assert data[0][0].shape == (3, 40, 80)


def test_mvtec_ad(tmp_path):
    for i in range(2):
        write(tmp_path / "mvtec_ad" / "nut" / "train" / "good" / f"{i}.png", pictures(1, 20)[0])
    data = downloaded.mvtec_ad("nut", root=tmp_path, preprocess=SMALL)
    assert len(data) == 2 and data[0].image.shape == (3, 16, 16)


READERS = {
    "stl10": downloaded.stl10,
    "cifar10": downloaded.cifar10,
    "oxford-pets": downloaded.oxford_pets,
    "cub-200": downloaded.cub_200,
    "brain-mri": downloaded.brain_mri,
    "mvtec-ad/bottle": lambda **options: downloaded.mvtec_ad("bottle", **options),
}


@pytest.mark.parametrize("name", READERS)
def test_what_is_not_here_says_how_to_get_it(tmp_path, monkeypatch, name):
    monkeypatch.setenv("XAILAB_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=rf"python data_download\.py {name}") as said:
        READERS[name]()
    entry = catalogue.entries()[name]
    assert any(str(tmp_path / place) in str(said.value) for place in entry.places), "it looks elsewhere"
    assert bool(entry.terms) == ("--accept-licence" in str(said.value))


@pytest.mark.parametrize("name", list(READERS)[:-1])
def test_unknown_splits(tmp_path, name):
    for place in catalogue.entries()[name].places:
        (tmp_path / place).mkdir(parents=True)
    with pytest.raises(ValueError, match=re.escape("split='validation': expected 'train' or 'test'")):
        READERS[name](split="validation", root=tmp_path)
