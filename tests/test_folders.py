import os
import re
import shutil
import warnings

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from xailab.datasets.folders import MVTecAD, Sample, categories, load_mask, mask_frame
from xailab.images import Preprocess, load


def save(path, height=20, width=30, value=120, mode="L"):
    """A picture of one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (width, height), value).save(path)
    return path


@pytest.fixture
def root(tmp_path):
    """A category `nut` with 12 normal pictures, 2 good ones and 2 + 1 defective ones, of 20 x 30 pixels."""
    nut = tmp_path / "data" / "nut"
    for i in range(12):
        save(nut / f"train/good/{i}.png", value=i)
    for name in ("test/good/000", "test/good/001", "test/dent/000", "test/dent/001", "test/cut/000"):
        save(nut / f"{name}.png")
        if "good" not in name:
            mask = np.zeros((20, 30), np.uint8)
            mask[5:10, 20:24] = 255
            path = nut / f"{name.replace('test', 'ground_truth')}_mask.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(path)
    return tmp_path / "data"


def problems(*arguments) -> list[str]:
    with pytest.raises(ValueError) as caught:
        MVTecAD(*arguments)
    return str(caught.value).splitlines()


def test_the_layout(root):
    train, test = MVTecAD(root, "nut"), MVTecAD(root, "nut", "test")
    assert categories(root) == ("nut",) and train.category == "nut"
    assert [int(each.image[0, 0, 0]) for each in train] == list(range(12)), "2 comes before 10"
    assert train.defects == () and not train.labels.any() and train.has_masks
    assert test.defects == ("cut", "dent") and test.has_masks and set(test.sizes) == {(20, 30)}
    assert test.names == ("test/good/000", "test/good/001", "test/cut/000", "test/dent/000", "test/dent/001")
    assert test.labels.tolist() == [False, False, True, True, True]
    assert [each.name for each in test] == list(test.names)
    assert [each.defect for each in test] == ["good", "good", "cut", "dent", "dent"]
    sample = test[2]
    assert sample.image.shape == (20, 30, 3) and sample.image.dtype == np.uint8
    assert sample.mask.dtype == bool and sample.mask[5:10, 20:24].all() and sample.mask.sum() == 20
    assert not test[0].mask.any() and test[-1].name == "test/dent/001"
    with pytest.raises(IndexError):
        test[5]


def test_batches(root):
    data = MVTecAD(root, "nut", "test", preprocess=Preprocess(16, 12))
    batch = next(iter(DataLoader(data, 4, num_workers=0)))
    assert isinstance(batch, Sample)
    assert batch.image.shape == (4, 3, 12, 12) and batch.image.dtype == torch.float32
    assert batch.mask.shape == (4, 12, 12) and batch.mask.dtype == torch.bool
    assert list(batch.defect) == ["good", "good", "cut", "dent"] and batch.name[3] == "test/dent/000"


@pytest.mark.parametrize("category", [None, ".", ""])
def test_the_root_can_be_the_category(root, category):
    assert categories(root / "nut") == (".",)
    data = MVTecAD(root / "nut", category, "test")
    assert len(data) == 5 and data.category == "nut"


def test_only_normal_pictures(tmp_path):
    for folder in ("a/train/good", "b/train", "c"):
        save(tmp_path / folder / "0.png")
        data = MVTecAD(tmp_path, folder[0])
        assert data.names == ("train/good/0",) and not data.labels.any()
        with pytest.raises(FileNotFoundError, match="has no test pictures"):
            MVTecAD(tmp_path, folder[0], "test")
    assert categories(tmp_path) == ("a", "b"), "where some folders have the layout, others are no categories"
    shutil.rmtree(tmp_path / "a"), shutil.rmtree(tmp_path / "b")
    assert categories(tmp_path) == ("c",) and categories(tmp_path / "c") == (".",)


def test_unknown_masks_are_not_empty_ones(root):
    shutil.rmtree(root / "nut/ground_truth")
    data = MVTecAD(root, "nut", "test", preprocess=Preprocess(16, 12))
    assert not data.has_masks and data.labels.sum() == 3
    batch = next(iter(DataLoader(data, 5)))
    assert batch.mask.shape == (5, 0, 0), "a mask that says nothing, not one that says 'no defect'"


def test_every_problem_is_named_at_once(root):
    nut = root / "nut"
    (nut / "test/good/000.png").write_bytes(b"")
    (nut / "test/good/001.png").write_text("a text")
    noise = np.random.default_rng(0).integers(0, 256, (20, 30), dtype=np.uint8)
    Image.fromarray(noise).save(nut / "test/dent/000.png")
    whole = (nut / "test/dent/000.png").read_bytes()
    (nut / "test/dent/000.png").write_bytes(whole[: len(whole) // 2])
    (nut / "ground_truth/dent/001_mask.png").unlink()
    save(nut / "ground_truth/cut/000_mask.png", 20, 31)
    save(nut / "ground_truth/cut/007_mask.png")
    save(nut / "ground_truth/scratch/000_mask.png")
    (nut / "test/hole").mkdir()
    save(nut / "test/cut/000.bmp")
    os.symlink(nut / "nowhere.png", nut / "test/cut/link.png")
    first, *lines = problems(root, "nut", "test")
    assert first.startswith("12 problems in") and len(lines) == 12
    for path, reason in (
        ("test/good/000.png", "empty (0 bytes)"),
        ("test/good/001.png", "no picture that can be read"),
        ("test/dent/000.png", "damaged or cut off"),
        ("test/dent/001.png", "no mask, expected"),
        ("ground_truth/cut/000_mask.png", "a mask of 20 x 31 pixels for a picture of 20 x 30"),
        ("ground_truth/cut/007_mask.png", "a mask without a picture"),
        ("ground_truth/scratch", "masks without pictures, expected those in test/scratch"),
        ("test/hole", "no pictures"),
        ("test/cut/000.png", "has the name of 000.bmp"),
        ("test/cut/000.png", "no mask"),
        ("test/cut/link.png", "no mask"),
        ("test/cut/link.png", "missing (a link that leads nowhere)"),
    ):
        assert any(f"{nut / path}" in line and reason in line for line in lines), (path, reason, lines)


def test_no_pictures_in_a_folder(root):
    save(root / "nut/train/bad/0.png")
    for picture in (root / "nut/train/good").iterdir():
        picture.unlink()
    (root / "nut/train/good/notes.txt").write_text("no picture")
    first, *lines = problems(root, "nut")
    assert first.startswith("2 problems") and "normal pictures only" in lines[0] and "no pictures" in lines[1]
    shutil.rmtree(root / "nut/test")
    (root / "nut/test").mkdir()
    assert "expected a folder for each kind" in problems(root, "nut", "test")[1]


def test_a_file_damaged_in_its_middle_is_named_when_it_is_read(root):
    path = root / "nut/train/good/3.png"
    noise = np.random.default_rng(0).integers(0, 256, (20, 30), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    content = bytearray(path.read_bytes())
    content[100:120] = bytes(20)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"3\.png is damaged"):
        MVTecAD(root, "nut")[3]


ALIKE = ["Good", "GOOD", "ok", "OK", "Okay", "normal", "Normal", "good_parts", "defect-free", "no defects", "gut"]


@pytest.mark.parametrize("name", ALIKE)
def test_a_defect_with_a_name_of_good_ones_is_told_of(root, name):
    save(root / "nut/test" / name / "0.png")
    shutil.rmtree(root / "nut/ground_truth")
    with pytest.warns(UserWarning, match=rf"test/{name}: its 1 pictures count as defective.*belong into .*test/good"):
        data = MVTecAD(root, "nut", "test")
    assert name in data.defects and data.labels.sum() == 4


@pytest.mark.parametrize("name", ["not_good", "not ok", "abnormal", "bad", "no-good", "gold", "normalised", "broken"])
def test_other_names_are_those_of_defects(root, name):
    save(root / "nut/test" / name / "0.png")
    shutil.rmtree(root / "nut/ground_truth")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert name in MVTecAD(root, "nut", "test").defects


@pytest.mark.parametrize("name", ALIKE)
def test_the_folder_that_looks_like_the_good_one_is_named(tmp_path, name):
    save(tmp_path / "a/train" / name / "0.png")
    save(tmp_path / "b" / name / "0.png")
    save(tmp_path / "c/train/good/0.png")
    save(tmp_path / "c/train" / name / "0.png")
    for category in ("a", "b"):
        (line,) = problems(tmp_path, category)[1:]
        assert "no pictures" in line and f"in {name} (1); {name} looks like the good ones: rename it to 'good'" in line
    (line,) = problems(tmp_path, "c")[1:]
    assert f"{name}: its name looks like that of the good ones, move these to {tmp_path / 'c/train/good'}" in line


def test_pictures_in_deeper_folders_are_told_of(root, tmp_path):
    nut = root / "nut"
    save(nut / "train/good/camera2/0.png"), save(nut / "train/good/camera3/monday/0.png")
    with pytest.warns(
        UserWarning, match=r"its own 12 pictures .* deeper, in camera2 \(1\), camera3 \(1\); move them up"
    ):
        assert len(MVTecAD(root, "nut")) == 12
    save(nut / "test/hole/camera1/0.png"), save(nut / "test/lost.png")
    with pytest.warns(UserWarning, match=r"test: 1 pictures lie beside .* not read: lost\.png"):
        (line,) = problems(root, "nut", "test")[1:]
    assert "test/hole: no pictures" in line and "deeper, in camera1 (1); move them up" in line
    with pytest.raises(FileNotFoundError, match=f"one folder deeper, in {root}"):
        categories(tmp_path)
    save(tmp_path / "flat/0.png"), save(tmp_path / "flat/test/good/0.png"), save(tmp_path / "flat/.hidden/0.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(MVTecAD(tmp_path / "flat", None)) == 1


@pytest.mark.parametrize(
    "old, new, call",
    [
        ("test", "Test", lambda root: MVTecAD(root, "nut", "test")),
        ("test", "testing", lambda root: MVTecAD(root, "nut", "test")),
        ("ground_truth", "Ground Truth", lambda root: MVTecAD(root, "nut", "test")),
        ("ground_truth", "masks", lambda root: MVTecAD(root, "nut", "test")),
    ],
)
def test_folders_whose_names_are_nearly_right(root, old, new, call):
    (root / "nut" / old).rename(root / "nut" / new)
    if old == "test":
        with pytest.raises(FileNotFoundError, match=f"no test pictures.*is it .*{new}"):
            call(root)
    else:
        with pytest.warns(UserWarning, match=f"taken for unknown, expected ground_truth; is it .*{new}"):
            assert not call(root).has_masks


def test_a_picture_that_cannot_be_used_is_named(root, tmp_path):
    """In whatever its values are out of range, when it is looked at or when it is read; and by its preprocessing."""
    good = root / "nut/train/good"
    grey = np.linspace(0, 1, 600, dtype=np.float32).reshape(20, 30)
    for name, values, said in (
        ("scan.tif", 255 * grey, r"go from 0 to 255, expected 0 to 1 \(floating-point values are shares of white\)"),
        ("scan.tiff", grey - 0.5, r"go from -0\.5 to 0\.5, expected 0 to 1"),
        ("nan.tif", grey * np.nan, "go from nan to nan"),
        ("deep.tif", (1e6 * grey).astype(np.int32), r"expected 0 to 65535 .*divide them by what is white"),
        ("below.tif", (10 * grey - 5).astype(np.int32), r"from -5 to 5, expected 0 to 65535"),
    ):
        Image.fromarray(values).save(good / name)
        (line,) = problems(root, "nut")[1:]
        assert line.strip().startswith(f"{good / name}: ") and re.search(said, line), line
        with pytest.raises(ValueError, match=rf"{name}: the picture's values .*{said}"):
            load(good / name)
        (good / name).unlink()
    data = MVTecAD(root, "nut", preprocess=Preprocess(None, 25))
    with pytest.raises(ValueError, match=r"train/good/3\.png: a picture of 20 x 30 pixels is smaller than the crop"):
        data[3]


def test_where_there_is_nothing(root, tmp_path):
    with pytest.raises(FileNotFoundError, match="there are nut"):
        MVTecAD(root, "hazelnut")
    with pytest.raises(FileNotFoundError, match="leave out the name"):
        MVTecAD(root / "nut", "nut")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        MVTecAD(tmp_path / "nowhere", "nut")
    with pytest.raises(FileNotFoundError, match="is a file"):
        MVTecAD(root / "nut/train/good/0.png", None)
    with pytest.raises(ValueError, match="'train' or 'test'"):
        MVTecAD(root, "nut", "val")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no category in"):
        categories(tmp_path / "empty")


def test_many_kinds_of_picture(tmp_path):
    good = tmp_path / "x/train/good"
    good.mkdir(parents=True)
    ramp = np.linspace(0, 1, 600).reshape(20, 30)
    grey8, grey16 = (ramp * 255).round().astype(np.uint8), (ramp * 65535).round().astype(np.uint16)
    for i, (suffix, values) in enumerate((s, v) for s in (".png", ".TIF", ".tiff") for v in (grey8, grey16)):
        assert cv2.imwrite(str(good / f"{i}{suffix}"), values)
    for i, (suffix, mode) in enumerate([(".BMP", "L"), (".Jpg", "L"), (".PNG", "P"), (".png", "LA"), (".webp", "RGB")]):
        Image.fromarray(grey8).convert(mode).save(good / f"{6 + i}{suffix}", quality=100)
    (good / "._0.png").write_bytes(b"what macOS leaves on foreign disks")
    (good / "Thumbs.db").write_bytes(b"what Windows leaves")
    data = MVTecAD(tmp_path, "x")
    assert len(data) == 11 and set(data.sizes) == {(20, 30)}
    for sample in data:
        assert np.abs(sample.image.astype(int) - grey8[..., None]).max() <= 8, sample.name


def test_turned_by_the_camera(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    for folder, suffix in (("train/good", "jpg"), ("test/cut", "png")):
        (tmp_path / folder).mkdir(parents=True)
        Image.new("L", (30, 20)).save(tmp_path / folder / f"0.{suffix}", exif=exif)
    save(tmp_path / "ground_truth/cut/0_mask.png", 30, 20, 255)
    for split in ("train", "test"):
        data = MVTecAD(tmp_path, None, split)
        assert data.sizes == ((30, 20),) and data[0].image.shape == (30, 20, 3) and data[0].mask.shape == (30, 20)


def test_masks_of_many_kinds(tmp_path):
    truth = np.zeros((20, 30), dtype=bool)
    truth[3:9, 4:16] = True
    one = truth.astype(np.uint8)
    palette = Image.fromarray(one, "P")
    palette.putpalette([0, 0, 0, 128, 0, 0])
    coloured = np.zeros((20, 30, 4), np.uint8)
    coloured[truth, 2] = 7
    kinds = {
        "1.png": Image.fromarray(one),
        "255.png": Image.fromarray(255 * one),
        "16bit.png": Image.fromarray(one.astype(np.uint16)),
        "bits.png": Image.fromarray(truth),
        "palette.png": palette,
        "transparent.png": Image.fromarray(coloured),
        "grey_and_opacity.png": Image.fromarray(one).convert("LA"),
        "lossy.jpg": Image.fromarray(255 * one),
    }
    for name, image in kinds.items():
        image.save(tmp_path / name)
        assert np.array_equal(load_mask(tmp_path / name), truth), name
    (tmp_path / "bad.png").write_bytes(b"bad")
    with pytest.raises(ValueError, match=r"bad\.png: damaged or no picture"):
        load_mask(tmp_path / "bad.png")


@pytest.mark.parametrize("preprocess", [Preprocess(), Preprocess(24), Preprocess(64, 48), Preprocess(None, 40)])
@pytest.mark.parametrize("shape", [(50, 50), (50, 83), (97, 61)])
def test_a_mask_stays_on_its_picture(preprocess, shape):
    """A white disc in a picture and its mask go through the same frame: their outlines differ by less than a pixel."""
    y, x = np.ogrid[: shape[0], : shape[1]]
    mask = (y - shape[0] * 0.45) ** 2 + (x - shape[1] * 0.55) ** 2 < 14**2
    picture = np.repeat((mask * 255).astype(np.uint8)[..., None], 3, 2)
    frame, moved = preprocess.frame(picture)[..., 0], mask_frame(mask, preprocess)
    assert moved.shape == frame.shape and moved.dtype == bool
    core, around = frame == 255, frame > 0
    assert (moved | ~core).all() and (around | ~moved).all()
    assert moved.mean() == pytest.approx(frame.mean() / 255, abs=0.01), "nothing shrinks"


@pytest.mark.parametrize("side", [24, 50, 64, 131])
@pytest.mark.parametrize("shape", [(50, 50), (50, 83), (97, 61)])
def test_the_nearest_pixel_is_the_one_under_the_centre_as_in_pillow(side, shape):
    mask = np.random.default_rng(0).random(shape) < 0.5
    moved = mask_frame(mask, Preprocess(side))
    assert np.array_equal(moved, Image.fromarray(mask).resize(moved.shape[::-1], Image.Resampling.NEAREST))


@pytest.mark.real
def test_the_real_layout(real_data):
    assert categories(real_data / "mvtec_ad") == ("hazelnut",)
    train, test = (MVTecAD(real_data / "mvtec_ad", "hazelnut", split) for split in ("train", "test"))
    assert len(train) == 50 and len(test) == 10
    assert test.defects == ("crack", "cut", "hole", "print")
    assert [sample.mask.any() for sample in test] == test.labels.tolist()
