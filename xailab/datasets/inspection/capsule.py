"""A two-coloured capsule with an imprint on a white sheet."""

import cv2
import numpy as np

from xailab.datasets.drawing.shapes import (
    Plane,
    cover,
    fill,
    fractal,
    lettering,
    moved,
    moved_point,
    placed,
    ramp,
    sliver,
    spot,
    walk,
)
from xailab.datasets.inspection.flaws import Flaw
from xailab.datasets.inspection.light import Picture, between, grey, lamp, lay, mottled, rgb, shade

DEFECTS = ("crack", "imprint", "squeeze", "poke", "leak")

LENGTH, RADIUS = 0.76, 0.158
SEAM, COLLAR = -0.02, 0.006  # where the cap ends, how far it stands out
CAPITALS, MIDDLE = 0.046, 0.16  # height and middle of the imprint
SHEET, CAP, BODY, INK = rgb("#EBECEA"), rgb("#1F6F78"), rgb("#F1E9D8"), rgb("#35424C")


def draw(side: int, rng, flaw: Flaw, split: str) -> Picture:
    angle = -80 + 4 * rng.standard_normal()
    place = (0.008 * rng.standard_normal(), 0.008 * rng.standard_normal(), 1.2 * rng.standard_normal())
    u, v = placed(side, *place)
    seam = SEAM + 0.004 * rng.standard_normal()
    cap = cover(u - seam)
    radius = RADIUS + COLLAR * (cap - 1)
    along = np.maximum(np.abs(u) - (LENGTH / 2 - RADIUS), 0)
    alpha = cover(cv2.magnitude(along, v) - radius)
    sheet = mottled(rng, side, SHEET, 10, -0.008)
    sheet *= grey(shade(alpha, -70, 0.03, 0.028, 0.42) * shade(alpha, -80, 0.012, 0.008, 0.3))
    hollow = None
    if flaw.kind == "squeeze":
        hollow, v = _squeezed(u, v, flaw)
        alpha = cover(cv2.magnitude(along, v) - radius)

    nx, ny = np.sign(u) * along / radius, v / radius  # the surface's normal
    nz = np.sqrt(np.maximum(1 - nx * nx - ny * ny, 0.02))

    paint = between(BODY, CAP, cap) * grey(1 + 0.012 * fractal(rng, side, 10, 3))
    paint = lay(paint, INK, 0.88 * _imprint(u + 0.004 * rng.standard_normal(), v, flaw))
    if flaw.kind == "poke":
        paint = _poke(flaw, paint, place)
    light = 0.5 + 0.62 * np.maximum(-0.62 * ny - 0.18 * nx + 0.75 * nz, 0)
    light *= 1 - 0.3 * np.exp(-(((u - seam - 0.004) / 0.007) ** 2)) * (u > seam - 0.002)  # below the collar
    shine = 0.85 * _window(nx, ny, -0.5, 0.13, 0.9) + 0.22 * _window(nx, ny, 0.66, 0.06, 0.85)
    shine *= 1 - 0.5 * np.exp(-(((u - seam) / 0.006) ** 2))
    if hollow is not None:
        light, shine = light * (1 - hollow), shine * (1 - ramp(hollow, 0.02, 0.2))
    picture = paint * grey(light)
    if flaw.kind == "crack":
        picture = _crack(flaw, picture, place)
    picture += (255 - picture) * grey(shine)

    whole = lay(sheet, picture, alpha)
    if flaw.kind == "leak":
        whole = _leak(flaw, whole, place)
    return whole * lamp(rng, side, angle, 0.03)


def _window(nx: Plane, ny: Plane, height: float, width: float, reach: float) -> Plane:
    """The reflection of a long soft box."""
    return (1 - ramp(np.abs(ny - height), width * 0.55, width)) * (1 - ramp(np.abs(nx), reach - 0.45, reach - 0.25))


def _imprint(u: Plane, v: Plane, flaw: Flaw) -> Plane:
    """The letters, on the unrolled wall."""
    sheet = lettering("XAI 50")
    if flaw.kind == "imprint":
        sheet = _misprinted(sheet, flaw)
    (rows, columns), unit = sheet.shape, 32 / CAPITALS
    unrolled = np.arcsin(np.clip(v / RADIUS, -1, 1)) * RADIUS
    across, down = (u - MIDDLE) * unit + (columns - 1) / 2, unrolled * unit + (rows - 1) / 2
    return cv2.remap(sheet, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)


def _misprinted(sheet: Plane, flaw: Flaw) -> Plane:
    """Part of the imprint is not there, or it is printed twice."""
    rows, columns = sheet.shape
    if flaw.rng.random() < 0.5:
        bare = fractal(flaw.rng, columns, 6, 2)[:rows] + 1.2 * np.linspace(-1, 1, columns, dtype=np.float32)
        return sheet * (1 - 0.95 * ramp(bare, flaw.grade(0.7, -0.6), flaw.grade(0.9, -0.4)))
    across, down = flaw.grade(9, 24), flaw.grade(4, 12) * flaw.rng.uniform(-1, 1)
    again = cv2.warpAffine(sheet, np.array([[1, 0, across], [0, 1, down]]), (columns, rows))
    return np.maximum(0.85 * sheet, 0.75 * again)


def _squeezed(u: Plane, v: Plane, flaw: Flaw) -> tuple[Plane, Plane]:
    """A hollow in the wall: how much darker it is, and v as the hollow pulls it in."""
    at, reach = flaw.rng.uniform(-0.25, 0.25), flaw.grade(0.05, 0.09)
    below = (-1, 1)[flaw.rng.integers(2)]
    bowl = np.exp(-(((u - at) / reach) ** 2) - ((v - below * RADIUS) / (0.8 * reach)) ** 2)
    return 0.45 * bowl * ramp(np.abs(v), 0.2, 0), v + below * flaw.grade(0.018, 0.05) * bowl


def _poke(flaw, paint, place):
    """A puncture in a dirty ring."""
    at = moved_point(flaw.rng.uniform(-0.3, 0.3), flaw.rng.uniform(-0.03, 0.1), place)
    radius = flaw.grade(0.012, 0.026)
    paint = lay(paint, paint * 0.7, spot(flaw.rng, len(paint), *at, radius * 1.7, ragged=0.2, soft=0.5))
    return lay(paint, rgb("#3A2F2A"), spot(flaw.rng, len(paint), *at, radius, ragged=0.3, soft=0.3))


def _crack(flaw, picture, place):
    """A jagged crack; the edge below it catches light."""
    start = flaw.rng.uniform(-0.3, 0.24), flaw.rng.uniform(-0.1, 0.02)
    path = walk(flaw.rng, *start, flaw.grade(0.14, 0.34), flaw.rng.uniform(10, 80), wander=38)
    path, width = moved(path, *place), flaw.grade(0.009, 0.016)
    edge = sliver(moved(path, 0.3 * width, 0.6 * width), width)
    picture = lay(picture, picture * 1.25, fill(len(picture), edge))
    return lay(picture, rgb("#2A2624"), 0.85 * fill(len(picture), sliver(path, width)))


def _leak(flaw, whole, place):
    """Powder that has come out at the seam."""
    at = moved_point(SEAM + flaw.rng.uniform(-0.1, 0.1), (-RADIUS, RADIUS)[flaw.rng.integers(2)], place)
    alpha = spot(flaw.rng, len(whole), *at, flaw.grade(0.035, 0.085), ragged=0.7, soft=0.25)
    powder = between(rgb("#C98F2E"), rgb("#F0C765"), 0.5 + 0.4 * fractal(flaw.rng, len(whole), 40, 2))
    return lay(whole, powder, alpha * flaw.grade(0.75, 0.95))
