import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from xailab import images

RGB = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    return tmp_path


def test_png_comes_back_exactly(folder):
    Image.fromarray(RGB).save(folder / "a.png")
    assert np.array_equal(images.load(folder / "a.png"), RGB)


def test_jpeg_keeps_the_order_of_colours(folder):
    red = np.zeros((32, 32, 3), dtype=np.uint8)
    red[..., 0] = 250
    Image.fromarray(red).save(folder / "a.jpg", quality=95)
    assert images.load(folder / "a.jpg").mean((0, 1)) == pytest.approx([250, 0, 0], abs=6)


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "1"])
def test_other_modes_become_rgb(folder, mode):
    suffix = "tiff" if mode == "CMYK" else "png"
    Image.fromarray(RGB).convert(mode).save(folder / f"a.{suffix}")
    loaded = images.load(folder / f"a.{suffix}")
    assert loaded.shape == RGB.shape and loaded.dtype == np.uint8
    if mode == "L":
        assert (loaded == loaded[..., :1]).all()


def test_transparency_lies_over_white(folder):
    rgba = np.dstack([RGB, np.zeros(RGB.shape[:2], dtype=np.uint8)])
    rgba[:, :10, 3] = 255
    Image.fromarray(rgba).save(folder / "a.png")
    loaded = images.load(folder / "a.png")
    assert np.array_equal(loaded[:, :10], RGB[:, :10]) and (loaded[:, 10:] == 255).all()


@pytest.mark.parametrize("top", [200, 65535])
def test_16_bit_grey_is_divided_by_257(folder, top):
    """Also a dark one, whose values happen to fit into 8 bits."""
    grey = np.linspace(0, top, 240).reshape(12, 20).astype(np.uint16)
    Image.fromarray(grey).save(folder / "a.png")
    assert np.abs(images.load(folder / "a.png")[..., 0] - grey / 257).max() <= 0.5


def test_camera_orientation_is_applied(folder):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to view
    Image.fromarray(RGB).save(folder / "a.png", exif=exif)
    assert np.array_equal(images.load(folder / "a.png"), np.rot90(RGB, -1))


def test_pil_images_are_turned_upright_too(folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RGB).save(folder / "a.png", exif=exif)
    with Image.open(folder / "a.png") as image:
        assert np.array_equal(images.as_picture(image), np.rot90(RGB, -1))


def test_loaded_pictures_may_be_drawn_on(folder):
    Image.fromarray(RGB).save(folder / "a.png")
    images.load(folder / "a.png")[:3] = 0


def test_floating_point_pictures_are_shares_of_white(folder):
    grey = np.linspace(0, 1, 240, dtype=np.float32).reshape(12, 20)
    Image.fromarray(grey).save(folder / "a.tiff")
    assert np.abs(images.load(folder / "a.tiff")[..., 0] - 255 * grey).max() <= 0.5
    for values in (grey * 255, grey - 0.5, np.full_like(grey, np.nan)):
        Image.fromarray(values).save(folder / "b.tiff")
        with pytest.raises(ValueError, match="expected 0 to 1"):
            images.load(folder / "b.tiff")


def test_16_bit_colour_keeps_its_high_byte(folder):
    import cv2

    deep = np.random.default_rng(0).integers(0, 65536, (12, 20, 3), dtype=np.uint16)
    cv2.imwrite(str(folder / "a.png"), deep)
    assert np.abs(images.load(folder / "a.png")[..., ::-1] - deep / 257).max() <= 1


def test_very_large_pictures_are_read_small(folder):
    Image.new("RGB", (11000, 9000), (10, 200, 30)).save(folder / "a.jpg")
    loaded = images.load(folder / "a.jpg", size=100)
    assert loaded.shape == (82, 100, 3)
    assert loaded.mean((0, 1)) == pytest.approx([10, 200, 30], abs=3)


def test_small_pictures_are_not_enlarged(folder):
    Image.fromarray(RGB).save(folder / "a.png")
    assert np.array_equal(images.load(folder / "a.png", size=500), RGB)


def test_bad_files_are_named(folder):
    with pytest.raises(ValueError, match="from 1"):
        images.load(folder / "missing.png", size=0)
    with pytest.raises(FileNotFoundError, match="no picture at"):
        images.load(folder / "missing.png")
    (folder / "empty.png").touch()
    with pytest.raises(ValueError, match="is empty"):
        images.load(folder / "empty.png")
    (folder / "text.png").write_text("this is no picture")
    with pytest.raises(ValueError, match="no picture that can be read"):
        images.load(folder / "text.png")
    for suffix in ("png", "jpg"):
        noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8))
        noise.save(folder / f"whole.{suffix}")
        data = (folder / f"whole.{suffix}").read_bytes()
        (folder / f"cut.{suffix}").write_bytes(data[: len(data) // 2])
        with pytest.raises(ValueError, match="damaged or cut off"):
            images.load(folder / f"cut.{suffix}")


def test_too_many_pixels_are_refused(folder, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)  # Pillow's limit is twice this
    Image.fromarray(RGB).save(folder / "a.png")
    with pytest.raises(ValueError, match="megapixels"):
        images.load(folder / "a.png")


def test_preprocess_equals_torchvision():
    """Resize, crop and normalisation as torchvision does them, on a landscape and a portrait picture.

    But for a few values so near a half that torchvision's single precision decides their grey level.
    """
    from torchvision.models import EfficientNet_B0_Weights, ResNet18_Weights

    picture = np.random.default_rng(1).integers(0, 256, (300, 410, 3), dtype=np.uint8)
    for usual in (ResNet18_Weights.IMAGENET1K_V1.transforms(), EfficientNet_B0_Weights.IMAGENET1K_V1.transforms()):
        ours = images.Preprocess(
            usual.resize_size[0], usual.crop_size[0], tuple(usual.mean), tuple(usual.std), usual.interpolation.value
        )
        for image in (picture, picture.transpose(1, 0, 2).copy()):
            expected = usual(torch.from_numpy(image).permute(2, 0, 1))
            apart = (ours(image)[0] - expected).abs()
            assert (apart > 1e-5).float().mean() < 1e-3 and apart.max() < 1.001 / (255 * min(usual.std))


def test_preprocess_and_undo_are_inverse():
    preprocess = images.Preprocess()
    batch = preprocess([RGB, RGB[::-1].copy()])
    assert batch.shape == (2, 3, 12, 20)
    assert np.array_equal(preprocess.undo(batch), np.stack([RGB, RGB[::-1]]))
    assert torch.equal(preprocess(np.stack([RGB])), preprocess(RGB))
    assert torch.equal(preprocess(Image.fromarray(RGB)), preprocess(RGB))


def test_preprocess_errors():
    with pytest.raises(ValueError, match="differ in size"):
        images.Preprocess()([RGB, RGB[:5]])
    with pytest.raises(ValueError, match="no pictures"):
        images.Preprocess()([])
    with pytest.raises(ValueError, match="smaller than the crop"):
        images.Preprocess(crop=50)(RGB)
    with pytest.raises(ValueError, match="uint8 array"):
        images.Preprocess()(RGB / 255)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.floats(-6e4, 6e4, width=32), min_size=6, max_size=6),
    st.sampled_from([(torch.float16, 1), (torch.float32, 1), (torch.float32, 5e33), (torch.float64, 1e300)]),
)
def test_normalise_is_monotone_from_0_to_1(values, kind):
    dtype, scale = kind
    raw = (torch.tensor(values, dtype=torch.float64) * scale).to(dtype).view(1, 2, 3)
    out = images.normalise(raw)
    assert torch.isfinite(out).all() and out.min() == 0
    assert out.max() == (1 if raw.max() > raw.min() else 0)
    order = raw.flatten().argsort()
    assert (out.flatten()[order].diff() >= 0).all()


def test_normalise_works_map_by_map():
    maps = torch.stack([torch.full((3, 3), 7.0), torch.arange(9.0).view(3, 3)])
    assert torch.equal(images.normalise(maps)[0], torch.zeros(3, 3))
    assert torch.allclose(images.normalise(maps)[1], torch.arange(9.0).view(3, 3) / 8)
    with pytest.raises(ValueError, match="NaN"):
        images.normalise(torch.tensor([[float("nan"), 1.0]]))


def test_upsample_keeps_cells_in_place():
    """Non-square, any number of leading dimensions, and half-pixel centres as scipy computes them."""
    from scipy.ndimage import map_coordinates

    raw = torch.randn(2, 4, 3, 5)
    large = images.upsample(raw, (12, 30))
    assert large.shape == (2, 4, 12, 30)
    y = (np.arange(12) + 0.5) * 3 / 12 - 0.5
    x = (np.arange(30) + 0.5) * 5 / 30 - 0.5
    grid = np.meshgrid(y.clip(0, 2), x.clip(0, 4), indexing="ij")
    expected = map_coordinates(raw[1, 2].double().numpy(), grid, order=1)
    assert np.abs(large[1, 2].numpy() - expected).max() < 1e-5
    assert images.upsample(raw[0, 0], 6).shape == (6, 6)


def test_heatmap_rises_in_lightness():
    colours = images.heatmap(torch.linspace(0, 1, 50).view(1, 50))
    assert colours.shape == (1, 50, 3) and colours.dtype == np.uint8
    luminance = colours[0] @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(luminance) > -0.5).all() and luminance[-1] - luminance[0] > 150


def test_overlay_draws_zero_as_transparent_and_follows_the_map():
    """The picture where the map is zero or negative, the colour where it is largest, the stated blend between."""
    picture = np.full((8, 8, 3), 100, dtype=np.uint8)
    raw = torch.tensor([[-3.0, 2.0], [-3.0, 2.0]])
    assert np.array_equal(images.overlay(picture, raw, opacity=0.0), picture)
    full = images.overlay(picture, raw, opacity=1.0)
    assert (full[:, :4] == 100).all()  # up to the middle, where the enlarged map is still below zero
    assert np.array_equal(full[0, -1], images.heatmap(torch.ones(1, 1))[0, 0])
    value = images.upsample(raw, 8)[0, 5].item() / 2
    expected = 0.5 * value * images.heatmap(torch.full((1, 1), value))[0, 0] + (1 - 0.5 * value) * 100
    assert np.abs(images.overlay(picture, raw, opacity=0.5)[0, 5] - expected).max() <= 1
    assert np.array_equal(images.overlay(Image.fromarray(picture), raw), images.overlay(picture, raw))
    assert np.array_equal(images.overlay(picture, -raw.abs()), picture)


def test_overlays_that_share_a_scale_can_be_compared():
    picture = np.full((4, 4, 3), 100, dtype=np.uint8)
    one, two = torch.full((2, 2), 1.0), torch.full((2, 2), 2.0)
    assert np.array_equal(images.overlay(picture, one), images.overlay(picture, two))  # each by its own maximum
    assert np.array_equal(images.overlay(picture, one, scale=4), images.overlay(picture, two, scale=8))
    assert not np.array_equal(images.overlay(picture, one, scale=2), images.overlay(picture, two, scale=2))
    assert np.array_equal(images.overlay(picture, two, scale=1), images.overlay(picture, one, scale=1))  # cut at 1
    for scale in (0, -1, float("inf")):
        with pytest.raises(ValueError, match="drawn brightest"):
            images.overlay(picture, one, scale=scale)


def test_a_stretched_overlay_glows_for_nothing():
    picture = np.full((4, 4, 3), 100, dtype=np.uint8)
    nothing = torch.tensor([[-3.0, -1.0], [-3.0, -1.0]])
    assert np.array_equal(images.overlay(picture, nothing), picture)
    assert np.array_equal(images.stretched_overlay(picture, nothing), images.overlay(picture, nothing + 3))
    assert np.array_equal(images.stretched_overlay(picture, torch.ones(2, 2)), picture)


def test_overlay_takes_one_map(unchecked):
    with pytest.raises(ValueError, match="one map at a time"):
        images.overlay(RGB, torch.zeros(2, 3, 3))


def test_a_signed_overlay_leaves_the_picture_where_the_map_is_zero():
    picture = np.full((8, 8, 3), 100, dtype=np.uint8)
    assert np.array_equal(images.signed_overlay(picture, torch.zeros(4, 4)), picture)
    over = images.signed_overlay(picture, torch.tensor([[1.0, 0.0], [0.0, -0.5]]))
    assert over[0, 0, 0] > over[0, 0, 2] and over[-1, -1, 2] > over[-1, -1, 0]  # red for, blue against
    assert np.array_equal(images.signed_overlay(picture, torch.ones(4, 4), opacity=0.0), picture)


def test_signed_keeps_zero_grey_and_both_signs_on_one_scale():
    gradient = torch.zeros(3, 10, 10)
    gradient[0, 0, 0], gradient[1, 0, 0], gradient[2, 0, 0] = 4.0, -1.0, 8.0
    picture = images.signed(gradient, quantile=1 - 1 / 299)  # the second largest of 300 values
    assert picture[0, 0].tolist() == [255, 96, 255] and (picture[1:] == 128).all()
    assert images.signed(gradient)[0, 0, 2] == 255
    assert (images.signed(torch.zeros(3, 4, 4)) == 128).all()


def test_signed_pictures_say_what_they_take(unchecked):
    picture = np.full((8, 8, 3), 100, dtype=np.uint8)
    with pytest.raises(ValueError, match="share"):
        images.signed_overlay(picture, torch.ones(2, 2), opacity=3.0)
    with pytest.raises(ValueError, match="one map"):
        images.signed_overlay(picture, torch.ones(1, 2, 2))
    with pytest.raises(ValueError, match="NaN"):
        images.signed_overlay(picture, torch.full((2, 2), torch.nan))
    for wrong in (torch.full((3, 2, 2), torch.nan), torch.zeros(1, 3, 2, 2)):
        with pytest.raises(ValueError, match="finite values of shape"):
            images.signed(wrong)


def test_resizing_rounds_halves_up_on_every_processor():
    """Columns of 0 and 1: half as large, every inner value is exactly one half, which the last bit would decide."""
    picture = np.tile(np.array([0, 1], np.uint8)[None, :, None], (64, 32, 3))
    for interpolation in ("bilinear", "bicubic"):
        frame = images.Preprocess(resize=32, interpolation=interpolation).frame(picture)
        assert (frame[2:-2, 2:-2] == 1).all()
    squares = np.kron(np.arange(16).reshape(4, 4) % 3 == 0, np.ones((3, 3))).astype(np.uint8)
    extremes = np.stack(3 * [255 * squares], -1)
    frame = images.Preprocess(resize=24, interpolation="bicubic").frame(
        extremes
    )  # overshoots at edges, and is clipped there
    assert frame.min() == 0 and frame.max() == 255
