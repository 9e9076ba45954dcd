import io

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from xailab import figures

PICTURE = np.full((20, 30, 3), 90, dtype=np.uint8)


def pixels(figure):
    return np.asarray(Image.open(io.BytesIO(figures.png(figure))).convert("RGB"))


def test_grid_draws_every_picture():
    images = [np.full((10, 10, 3), value, dtype=np.uint8) for value in (10, 60, 110, 160, 210)]
    drawn = pixels(figures.grid(images, columns=3))
    for value in (10, 60, 110, 160, 210):
        assert (drawn == value).all(2).mean() > 0.05


@pytest.mark.parametrize("panel", [1.6, 2.2, 2.7, 3.4, 4.8])
@pytest.mark.parametrize("rows", [1, 2])
def test_titles_are_not_cut_off(panel, rows):
    square = np.full((40, 40, 3), 200, dtype=np.uint8)
    drawn = pixels(figures.grid([square] * 4 * rows, ["IoU of lf 0.56"] * 4 * rows, columns=4, panel=panel))
    assert (drawn[0] > 150).all() and (drawn[-1] > 150).all()


def test_grid_errors():
    assert len(figures.grid(np.stack([PICTURE, PICTURE])).axes) == 2
    with pytest.raises(ValueError, match="no pictures"):
        figures.grid([])
    with pytest.raises(ValueError, match="one title for each of the 2"):
        figures.grid([PICTURE, PICTURE], ["only one"])


def test_signed_maps_are_symmetric_about_white():
    signed, plain = figures.map_scale(np.array([-1.0, 3.0])), figures.map_scale(np.array([0.5, 3.0]))
    assert (signed["vmin"], signed["vmax"]) == (-3.0, 3.0)
    assert (plain["vmin"], plain["vmax"]) == (0.0, 3.0)
    assert figures.map_scale(np.zeros(3))["vmax"] > 0


def test_shared_scale_means_equal_values_have_equal_colours():
    a, b = np.array([[0.0, 1.0]]), np.array([[0.0, 2.0]])
    figure = figures.maps([a, b], ["a", "b"], label="value")
    assert len({axes.images[0].get_clim() for axes in figure.axes if axes.images}) == 1
    apart = figures.maps([a, b], ["a", "b"], label="value", shared=False)
    limits = {axes.images[0].get_clim() for axes in apart.axes if axes.images and axes.get_title()}
    assert limits == {(0.0, 1.0), (0.0, 2.0)}


def test_map_errors():
    with pytest.raises(ValueError, match="2 maps and 1 titles"):
        figures.maps([np.zeros((2, 2))] * 2, ["one"], label="value")
    with pytest.raises(ValueError, match="NaN"):
        figures.maps([np.full((2, 2), np.nan)], ["one"], label="value")


def test_png_is_reproducible_and_not_blank():
    figure = figures.strip([PICTURE, PICTURE], ["left", "right"])
    assert figures.png(figure) == figures.png(figures.strip([PICTURE, PICTURE], ["left", "right"]))
    assert pixels(figure).std() > 1


def test_show_carries_alt_text(monkeypatch):
    shown = {}
    monkeypatch.setattr("IPython.display.display", lambda bundle, **options: shown.update(bundle=bundle, **options))
    figures.show(figures.grid([PICTURE]), "a grey rectangle")
    assert shown["metadata"]["image/png"]["alt"] == shown["bundle"]["text/plain"] == "a grey rectangle"
    assert shown["bundle"]["image/png"].startswith(b"\x89PNG")
    noise = np.random.default_rng(0).integers(0, 256, (600, 900, 3), dtype=np.uint8)
    figures.show(figures.grid([noise], panel=6), "noise, which PNG cannot compress")
    assert shown["bundle"]["image/jpeg"].startswith(b"\xff\xd8") and "image/png" not in shown["bundle"]
    assert shown["metadata"]["image/jpeg"]["alt"] == shown["bundle"]["text/plain"]
    with pytest.raises(ValueError, match="alt text"):
        figures.show(figures.grid([PICTURE]), " ")


def test_no_figure_is_left_in_pyplot():
    import matplotlib.pyplot as plt

    figures.grid([PICTURE])
    assert plt.get_fignums() == []


def test_palette_is_told_apart_by_deuteranopes():
    """Machado et al. 2009's matrix for missing green cones; lightness and hue together must still differ."""
    matrix = np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]])
    colours = np.array([to_rgb(colour) for colour in figures.PALETTE]) @ matrix.T
    distance = np.linalg.norm(colours[:, None] - colours[None], axis=2) + np.eye(len(colours))
    assert distance.min() > 0.12


def test_outline_lies_around_the_pixels():
    figure = figures.grid([PICTURE])
    figures.outline(figure.axes[0], (5, 2, 10, 8))
    bbox = figure.axes[0].patches[-1].get_bbox()
    assert (bbox.x0, bbox.y0, bbox.x1, bbox.y1) == (4.5, 1.5, 9.5, 7.5)


def test_outline_at_the_frame_stays_inside():
    figure = figures.grid([PICTURE])
    figures.outline(figure.axes[0], (0, 0, 30, 20))
    bbox = figure.axes[0].patches[-1].get_bbox()
    assert (bbox.x0, bbox.y0, bbox.x1, bbox.y1) == (0.5, 0.5, 28.5, 18.5)
