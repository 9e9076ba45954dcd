"""A turned steel gear on a dark mat."""

import math

import cv2
import numpy as np

from xailab.datasets.drawing.shapes import (
    Plane,
    box,
    cover,
    disc,
    fill,
    fractal,
    moved_point,
    noise,
    placed,
    ramp,
    sliver,
    spot,
    walk,
)
from xailab.datasets.inspection.flaws import Flaw
from xailab.datasets.inspection.light import Picture, between, grey, lamp, lay, mottled, painted, relief, rgb, shade

DEFECTS = ("tooth", "rust", "scratch", "dent")

TEETH, TIP, ROOT = 20, 0.425, 0.352  # radii of the toothed ring
RIM, WEB, HUB, BORE = 0.292, 0.278, 0.128, 0.062  # radii from the outside inwards
HOLES, HOLE, RING = 5, 0.042, 0.204  # how many, their radius, how far out they are
MAT, STEEL, BARE, RUST = rgb("#2B333B"), rgb("#D6D9DC"), rgb("#E9EDF0"), rgb("#8A4A22")


def draw(side: int, rng, flaw: Flaw, split: str) -> Picture:
    angle = -55 + 5 * rng.standard_normal()
    place = (0.006 * rng.standard_normal(), 0.006 * rng.standard_normal(), 2 * rng.standard_normal())
    u, v = placed(side, *place)
    radius, around = cv2.cartToPolar(u, v)
    shape = np.maximum(_teeth(radius, around, flaw), BORE - radius)
    shape = np.maximum(shape, -box(u, v + BORE, 0.036, 0.05))  # the keyway
    for k in range(HOLES):
        at = 2 * math.pi / HOLES * (k + 0.25)
        shape = np.maximum(shape, -disc(u - RING * math.cos(at), v - RING * math.sin(at), HOLE))
    alpha = cover(shape)

    height = 0.012 * (ramp(radius, WEB, RIM) + 1 - ramp(radius, HUB, HUB + 0.014)) - 0.008 * ramp(shape, -0.013, 0)
    height += 0.00004 * noise(rng, side, 128)
    shine = _turned(rng, radius, around, angle - place[2])
    scratches = None
    if flaw.kind == "scratch":
        scratches = _scratches(side, flaw, place)
        height -= 0.005 * cv2.GaussianBlur(scratches, (0, 0), side * 0.003)
    if flaw.kind == "dent":
        height -= _dent(side, flaw, place)
    picture = painted(STEEL, shine * relief(height, angle, 0.9))
    if scratches is not None:
        picture = lay(picture, BARE, scratches * flaw.grade(0.6, 1.0))
    if flaw.kind == "rust":
        picture = _rust(flaw, picture, place)

    mat = mottled(rng, side, MAT, 12, 0.02) * grey(shade(alpha, angle, 0.022, 0.012, 0.75))
    return lay(mat, picture, alpha) * lamp(rng, side, angle)


def _teeth(radius: Plane, around: Plane, flaw: Flaw) -> Plane:
    """Signed distance to the toothed outline; one tooth may be broken."""
    phase = around * (TEETH / (2 * math.pi))
    across = phase - np.floor(phase) - 0.5  # 0 in a tooth's middle, 0.5 between two
    half = 0.31 - 0.15 / (TIP - ROOT) * (radius - ROOT)
    flank = (np.abs(across) - half) * radius * (2 * math.pi / TEETH * 0.93)
    top = radius - TIP
    if flaw.kind == "tooth":
        broken = np.floor(phase) == flaw.rng.integers(TEETH)
        slant, wave = flaw.rng.uniform(-0.03, 0.03), flaw.rng.uniform(0, 6)
        lost = (TIP - ROOT) * flaw.grade(0.4, 1.0) + slant * across + 0.004 * np.sin(17 * across + wave)
        top += broken * lost
    return np.minimum(radius - ROOT, np.maximum(top, flank))


def _turned(rng, radius: Plane, around: Plane, angle: float) -> Plane:
    """How bright the grooves of turning are: they shine in fans, above all towards the lamp and away from it."""
    fans = np.full_like(radius, 0.58)
    for offset, power, strength in ((90, 9, 0.46), (152, 14, 0.14), (208, 10, 0.12)):
        facing = np.cos(around - math.radians(angle + offset + 2 * rng.standard_normal()))
        fans += strength * np.abs(facing) ** power
    groove = rng.standard_normal((1, 512), np.float32)
    groove = 0.045 * (0.6 * groove + cv2.GaussianBlur(groove, (0, 0), 3))[0]
    fans *= 1 + groove.take((radius * 1000).astype(np.int32), mode="clip")
    return fans * (1 - 0.14 * ((radius > HUB) & (radius < WEB + 0.007)).astype(np.float32))


def _anywhere(flaw: Flaw, place) -> tuple[float, float]:
    """A point of the web, between the holes, or of the rim."""
    at, far = flaw.rng.uniform(0, 2 * math.pi), (0.16, 0.245, 0.32)[flaw.rng.integers(3)]
    return moved_point(far * math.cos(at), far * math.sin(at), place)


def _scratches(side, flaw, place) -> Plane:
    paths = []
    for _ in range(flaw.rng.integers(1, 4)):
        x, y = _anywhere(flaw, place)
        inwards = math.degrees(math.atan2(-y, -x))
        path = walk(flaw.rng, x, y, flaw.grade(0.09, 0.24), inwards + flaw.rng.uniform(-50, 50), wander=5)
        paths.append(sliver(path, flaw.grade(0.008, 0.013)))
    return fill(side, *paths)


def _dent(side, flaw, place) -> Plane:
    """The depth of an oval bowl."""
    radius = flaw.grade(0.021, 0.036)
    u, v = placed(side, *_anywhere(flaw, place), flaw.rng.uniform(0, 180))
    return radius * flaw.grade(0.5, 0.75) * np.exp(-(u * u + 2 * v * v) * (1 / radius**2))


def _rust(flaw, picture, place):
    side = len(picture)
    alpha = spot(flaw.rng, side, *_anywhere(flaw, place), flaw.grade(0.035, 0.08), ragged=0.6, soft=0.2)
    crust = 0.35 + 0.3 * fractal(flaw.rng, side, 24, 3) + 0.25 * noise(flaw.rng, side, 128)
    crust = between(RUST, rgb("#C4803F"), crust)
    return lay(picture, crust, alpha * flaw.grade(0.6, 0.92))
