"""Sieved gravel, cut from a photograph that scikit-image carries; the test pictures from another part of it."""

from functools import cache

import cv2
import numpy as np

from xailab.datasets.drawing.shapes import Plane, fill, fractal, moved, noise, sliver, slopes, spot, thread, walk
from xailab.datasets.inspection.flaws import Flaw
from xailab.datasets.inspection.light import Picture, between, grey, lamp, lay, painted, relief, rgb, shade
from xailab.extras import needed_for

DEFECTS = ("wood", "wire", "clay", "oil")

PARTS = {"train": slice(0, 256), "test": slice(256, 512)}  # columns of the photograph
SHADOW, STONE = rgb("#4B4C4E"), rgb("#D2C8B9")  # dusty stones under an overcast sky


def draw(side: int, rng, flaw: Flaw, split: str) -> Picture:
    photo = photograph()[:, PARTS[split]]
    window = rng.integers(232, 257)
    top, left = (int(rng.integers(0, n - window + 1)) for n in photo.shape)
    stones = np.rot90(photo[top : top + window, left : left + window], rng.integers(4))[:, :: (-1, 1)[rng.integers(2)]]
    stones = cv2.resize(stones, (side, side), interpolation=cv2.INTER_CUBIC)
    tone = 1 + 0.03 * rng.standard_normal()
    picture = between(SHADOW, STONE, stones * tone)
    hue = noise(rng, side, 12)
    picture *= 1 + 0.015 * cv2.merge([hue, 0 * hue, -hue])
    if flaw.kind != "good":
        picture = FLAWS[flaw.kind](side, flaw, picture)
    return picture * lamp(rng, side, -90)


@cache
def photograph() -> Plane:
    """The whole photograph, black to white as 0 to 1."""
    with needed_for('category="gravel"', extra="course"):
        from skimage import data

    photo = data.gravel().astype(np.float32)
    even = photo / cv2.GaussianBlur(photo, (0, 0), 50)  # without the photograph's own fall of light
    low, high = np.percentile(even, (0.5, 99.5)).tolist()
    return (even - low) / (high - low)


def _wood(side, flaw, picture):
    """A splinter on top of the stones."""
    at = flaw.rng.uniform(-0.3, 0.05), flaw.rng.uniform(-0.3, 0.3)
    path = walk(flaw.rng, *at, flaw.grade(0.18, 0.45), flaw.rng.uniform(-70, 70), wander=5, steps=8)
    width = flaw.grade(0.024, 0.055)
    alpha = fill(side, sliver(path, width))
    _, down = slopes(cv2.GaussianBlur(alpha, (0, 0), side * width / 4))
    fibre = noise(flaw.rng, side, 70) - 0.07 * down
    bark = between(rgb("#7C532F"), rgb("#C59A63"), 0.5 + 0.25 * fibre)
    return lay(picture * grey(shade(alpha, -60, 0.012, 0.008, 0.6)), bark, alpha)


def _wire(side, flaw, picture):
    """A bent piece of wire."""
    at = flaw.rng.uniform(-0.35, 0.1), flaw.rng.uniform(-0.35, 0.35)
    path = walk(flaw.rng, *at, flaw.grade(0.2, 0.6), flaw.rng.uniform(-60, 60), wander=30, steps=5)
    width = flaw.grade(0.012, 0.022)
    alpha = fill(side, thread(path, width))
    gloss = fill(side, thread(moved(path, 0, -0.22 * width), width * 0.3))
    picture = lay(picture * grey(shade(alpha, -60, 0.01, 0.005, 0.65)), rgb("#B4602F"), alpha)
    return lay(picture, rgb("#FFD9B0"), gloss * 0.9)


def _clay(side, flaw, picture):
    """A lump of clay between the stones."""
    at = flaw.rng.uniform(-0.35, 0.35), flaw.rng.uniform(-0.35, 0.35)
    alpha = spot(flaw.rng, side, *at, flaw.grade(0.04, 0.1), ragged=0.4, soft=0.1)
    dome = cv2.GaussianBlur(alpha, (0, 0), side * 0.012) * 0.03 + 0.0012 * fractal(flaw.rng, side, 30, 3)
    clay = painted(rgb("#A5815C"), relief(dome, -60, 0.8))
    return lay(picture * grey(shade(alpha, -60, 0.012, 0.008, 0.5)), clay, alpha)


def _oil(side, flaw, picture):
    """Oil has wetted the stones: they are darker and more saturated."""
    at = flaw.rng.uniform(-0.3, 0.3), flaw.rng.uniform(-0.3, 0.3)
    alpha = spot(flaw.rng, side, *at, flaw.grade(0.09, 0.17), ragged=0.5, soft=0.3)
    wet = np.maximum(picture / 255, 0) ** 1.5 * (255 * flaw.grade(0.9, 0.6)) * rgb("#FFF3DC") / 255
    return lay(picture, wet, alpha)


FLAWS = {"wood": _wood, "wire": _wire, "clay": _clay, "oil": _oil}
