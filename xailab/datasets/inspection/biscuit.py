"""A butter biscuit on a blue conveyor belt."""

import math
from functools import cache

import cv2
import numpy as np

from xailab.datasets.drawing.shapes import (
    Plane,
    axes,
    box,
    cover,
    fill,
    fractal,
    moved,
    moved_point,
    noise,
    placed,
    ramp,
    sliver,
    spot,
    thread,
    walk,
    written,
)
from xailab.datasets.inspection.flaws import Flaw
from xailab.datasets.inspection.light import Picture, between, grey, lamp, lay, painted, relief, rgb, shade

DEFECTS = ("broken", "crack", "burnt", "hair")

WIDTH, HEIGHT = 0.8, 0.6
BELT, PALE, BROWN, CRUMB = rgb("#2C5C8F"), rgb("#E5B871"), rgb("#8C4E1C"), rgb("#EBCB92")


def draw(side: int, rng, flaw: Flaw, split: str) -> Picture:
    angle = -125 + 5 * rng.standard_normal()
    place = (0.007 * rng.standard_normal(), 0.007 * rng.standard_normal(), 1.6 * rng.standard_normal())
    u, v = placed(side, *place)
    edge, bitten = _outline(u, v), None
    if flaw.kind == "broken":
        bitten = _bite(side, flaw, place)
        edge = np.maximum(edge, bitten)
    alpha = cover(edge)

    dough = fractal(rng, side, 22, 4)
    pressed = cv2.remap(_stamp(side), (u + 0.5) * side - 0.5, (v + 0.5) * side - 0.5, cv2.INTER_LINEAR)
    height = 0.014 * ramp(edge, 0.004, -0.035) + 0.0007 * dough - 0.007 * pressed
    baked = 0.22 + 0.75 * ramp(edge, -0.06, 0.0) + 0.1 * noise(rng, side, 5) + 0.035 * dough + 0.5 * pressed
    gap = None
    if flaw.kind == "crack":
        gap = _crack(side, flaw, place)
        height -= 0.012 * cv2.GaussianBlur(gap, (0, 0), side * 0.004)
    if flaw.kind == "burnt":
        baked += flaw.grade(0.3, 1.0) * _burnt(side, flaw, place)
    paint = between(PALE, BROWN, np.clip(baked, 0, 1.35))
    if bitten is not None:
        inside = ramp(bitten, -0.034, -0.026)
        paint = lay(paint, painted(CRUMB, 0.86 + 0.12 * fractal(flaw.rng, side, 60, 2)), inside)
        height += 0.004 * ramp(bitten, 0, -0.03) + 0.0009 * inside * noise(flaw.rng, side, 50)
    picture = paint * grey(relief(height, angle, 0.75))
    if gap is not None:
        picture = lay(picture, rgb("#4A260E"), 0.8 * gap)

    belt = painted(BELT, 1 + 0.02 * noise(rng, side, 8) + 0.03 * noise(rng, side, 128))
    belt *= grey(shade(alpha, angle, 0.022, 0.012, 0.6))
    whole = lay(belt, picture, alpha)
    if flaw.kind == "hair":
        whole = _hair(flaw, whole)
    return whole * lamp(rng, side, angle)


def _outline(u: Plane, v: Plane) -> Plane:
    """Signed distance to a rectangle with a scalloped edge."""
    upright = np.abs(u) * (1 / WIDTH) > np.abs(v) * (1 / HEIGHT)  # along the edges on the left and right
    waves = np.where(upright, np.cos(v * (2 * math.pi * 9 / HEIGHT)), np.cos(u * (2 * math.pi * 12 / WIDTH)))
    return box(u, v, WIDTH, HEIGHT, 0.05) - 0.011 * np.sqrt(np.abs(0.5 + 0.5 * waves))


@cache
def _stamp(side: int) -> Plane:
    """What is pressed into the dough, 0 to 1: letters, a frame and rows of holes."""
    u, v = axes(side)
    letters = np.maximum(written(u, v, "XAI", 0, -0.068, 0.1), written(u, v, "LAB", 0, 0.1, 0.1))
    pressed = 0.95 * cv2.GaussianBlur(letters, (0, 0), side * 0.0028)
    frame = np.abs(box(u, v, WIDTH - 0.12, HEIGHT - 0.12, 0.03))
    pressed = np.maximum(pressed, 0.5 * np.exp(-((frame / 0.006) ** 2)))
    holes = [(a, b) for a in (-0.285, -0.19, -0.095, 0, 0.095, 0.19, 0.285) for b in (-0.19, 0.19)]
    holes += [(a, b) for a in (-0.285, -0.21, 0.21, 0.285) for b in (-0.063, 0.063)]
    for a, b in holes:
        pressed = np.maximum(pressed, np.exp(-((u - a) ** 2 + (v - b) ** 2) * (1 / 0.011**2)))
    return pressed


def _bite(side, flaw, place) -> Plane:
    """Signed distance from what is left (negative) to the part that broke off a corner or an edge."""
    across, down = (-1, 1)[flaw.rng.integers(2)], (-1, 1)[flaw.rng.integers(2)]
    u, v = placed(side, *moved_point(across * flaw.rng.uniform(0.22, 0.41), down * 0.31, place))
    return flaw.grade(0.055, 0.16) - cv2.magnitude(u, v) + 0.012 * fractal(flaw.rng, side, 9, 4)


def _crack(side, flaw, place) -> Plane:
    start = flaw.rng.uniform(-0.3, 0.1), flaw.rng.uniform(-0.22, 0.05)
    path = walk(flaw.rng, *start, flaw.grade(0.12, 0.4), flaw.rng.uniform(0, 70), wander=35, steps=16)
    return fill(side, sliver(moved(path, *place), flaw.grade(0.006, 0.014)))


def _burnt(side, flaw, place) -> Plane:
    at = moved_point(flaw.rng.uniform(-0.3, 0.3), flaw.rng.uniform(-0.2, 0.2), place)
    return spot(flaw.rng, side, *at, flaw.grade(0.06, 0.13), ragged=0.45, soft=0.45)


def _hair(flaw, whole):
    """A hair with its shadow."""
    at = flaw.rng.uniform(-0.3, 0.1), flaw.rng.uniform(-0.2, 0.2)
    path = walk(flaw.rng, *at, flaw.grade(0.15, 0.5), flaw.rng.uniform(-60, 60), wander=22, steps=7)
    width = flaw.grade(0.0045, 0.0065)
    whole = lay(whole, whole * 0.6, 0.5 * fill(len(whole), thread(moved(path, 0.006, 0.006), width * 1.2)))
    return lay(whole, rgb("#2B1A14"), 0.92 * fill(len(whole), thread(path, width)))
