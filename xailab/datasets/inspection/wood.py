"""A planed oak board, its grain upright."""

import cv2
import numpy as np

from xailab.datasets.drawing.shapes import (
    Plane,
    axes,
    cover,
    disc,
    fill,
    moved,
    noise,
    placed,
    ramp,
    sliver,
    spot,
    walk,
)
from xailab.datasets.inspection.flaws import Flaw
from xailab.datasets.inspection.light import Picture, between, lamp, lay, rgb

DEFECTS = ("scratch", "hole", "stain", "crack")

PALE, DARK, PORE = rgb("#D9AE78"), rgb("#A06A38"), rgb("#5E3A1C")


def draw(side: int, rng, flaw: Flaw, split: str) -> Picture:
    x, y = axes(side)
    bend = 0.02 * noise(rng, side, 3) + 0.006 * noise(rng, side, 8, 5) + rng.uniform(-0.06, 0.06) * y
    rings = sum(height * _bands(rng, x + bend, count) for count, height in ((7, 0.5), (26, 0.42), (90, 0.3)))
    fibre = noise(rng, side, 200, 14)
    pores = ramp(noise(rng, side, 150, 20) + 0.4 * rings, 1.15, 2.0)
    picture = between(PALE, DARK, np.clip(0.42 + 0.3 * rings + 0.1 * fibre, -0.1, 1.2))
    picture = lay(picture, PORE, 0.42 * pores)
    if flaw.kind != "good":
        picture = FLAWS[flaw.kind](side, flaw, picture)
    return picture * lamp(rng, side, -150)


def _bands(rng, across: Plane, count: int) -> Plane:
    """Year rings: the same noise all along the grain."""
    table = cv2.resize(rng.standard_normal((1, 2 * count), np.float32), (2048, 1), interpolation=cv2.INTER_CUBIC)[0]
    return table.take(((across + 1) * 1024).astype(np.int32), mode="clip")


def _scratch(side, flaw, picture):
    """Scratches across the grain; their edges are torn up and pale, their bottom is dark."""
    for _ in range(flaw.rng.integers(1, 4)):
        at = flaw.rng.uniform(-0.35, 0.15), flaw.rng.uniform(-0.35, 0.35)
        path = walk(flaw.rng, *at, flaw.grade(0.1, 0.4), flaw.rng.uniform(-50, 50), wander=4)
        width = flaw.grade(0.012, 0.018)
        picture = lay(picture, rgb("#F3DDB4"), flaw.grade(0.75, 0.95) * fill(side, sliver(path, width)))
        picture = lay(picture, PORE, 0.75 * fill(side, sliver(moved(path, 0, width / 3), width / 2.5)))
    return picture


def _hole(side, flaw, picture):
    """Holes of beetles."""
    middle = flaw.rng.uniform(-0.28, 0.28, 2)
    far = np.ones((side, side), np.float32)
    for _ in range(flaw.rng.integers(1, 5)):
        x, y = (middle + 0.07 * flaw.rng.standard_normal(2)).tolist()
        u, v = placed(side, x, y, flaw.rng.uniform(0, 180))
        far = np.minimum(far, disc(u, v * 1.2, flaw.grade(0.009, 0.024) * flaw.rng.uniform(0.8, 1.3)))
    picture = lay(picture, rgb("#C79A63"), 0.6 * cover(far - 0.006))
    return lay(picture, rgb("#24160C"), 0.94 * cover(far))


def _stain(side, flaw, picture):
    """Where something wet has stood: a ring, or a whole blot, along the grain."""
    x, y = flaw.rng.uniform(-0.28, 0.28, 2).tolist()
    if flaw.rng.random() < 0.5:
        radius = flaw.rng.uniform(0.09, 0.15)
        u, v = placed(side, x, y)
        stray = 0.008 * noise(flaw.rng, side, 6)
        alpha = np.exp(-(((disc(u, v, radius) + stray) / flaw.grade(0.009, 0.016)) ** 2))
        alpha *= 0.8 + 0.3 * noise(flaw.rng, side, 7)
        alpha = np.maximum(alpha, 0.25 * cover(disc(u, v, radius)))
    else:
        alpha = spot(flaw.rng, side, x, y, flaw.grade(0.06, 0.12), ragged=0.5, soft=0.25)
    return lay(picture, picture * (rgb("#6E5548") / 255), np.clip(alpha, 0, 1) * flaw.grade(0.4, 0.95))


def _crack(side, flaw, picture):
    """A split along the grain."""
    start = flaw.rng.uniform(-0.35, 0.35), flaw.rng.uniform(-0.45, 0.0)
    path = walk(flaw.rng, *start, flaw.grade(0.12, 0.5), 90, wander=10, steps=16)
    alpha = fill(side, sliver(path, flaw.grade(0.007, 0.018)))
    return lay(picture, rgb("#2A190D"), 0.92 * alpha)


FLAWS = {"scratch": _scratch, "hole": _hole, "stain": _stain, "crack": _crack}
