"""A head, cut across: scalp, skull, folded cortex, white matter, ventricles and nuclei, as tissues and brightness.

Everything is measured in the head's own frame: its middle is (0, 0), its brow is at y = -1 and the back of it at y = 1.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float

from xailab.datasets.drawing.paths import Path, curve, ellipse, tube
from xailab.datasets.drawing.shapes import SHIFT, Plane, fill, moved, noise, placed, ramp

Paths = Float[np.ndarray, "_ _ 2"]

# Brightness of the tissues in a T1-weighted picture, 0 to 1.
AIR, FAT, MARROW, BONE, FLUID, GREY, WHITE, NUCLEUS, VESSEL = 0.012, 0.84, 0.4, 0.07, 0.1, 0.4, 0.68, 0.49, 0.88
SPREAD = 0.025  # standard deviation of grey and white from one head to the next
CORTEX = 0.062  # thickness of the grey matter
SULCUS = 0.011  # half the width of a sulcus
BRAIN, SKULL = 0.872, 0.945  # where they end, as a share of the outline
AROUND = 1024  # angles of a table


class Frame(NamedTuple):
    """How a head lies in its picture.

    Attributes:
        x, y: Its middle, in sides of the picture from the picture's middle.
        turn: In degrees, clockwise.
        length: From the middle to the brow, in sides of the picture.
        breadth: Of the head, as a share of its length.
        level: Where the head is cut, from 0 (through the nuclei) to 1 (above the ventricles).
    """

    x: float
    y: float
    turn: float
    length: float
    breadth: float
    level: float

    def on_canvas(self, path: Path) -> Path:
        """A path of the head's frame in that of the picture, in sides from its middle."""
        return moved(path * self.length, self.x, self.y, self.turn)


class Head(NamedTuple):
    """A head in the pixels of a canvas.

    Attributes:
        across, down: Each pixel in the head's frame.
        brightness: Of each pixel, 0 to 1.
        inside: How much of each pixel lies within the skull.
        brain: How much is grey or white matter.
        white: How much is white matter.
    """

    across: Plane
    down: Plane
    brightness: Plane
    inside: Plane
    brain: Plane
    white: Plane


def frame(rng) -> Frame:
    """How a head lies, at random."""
    x, y = rng.uniform(-0.015, 0.015, 2).tolist()
    return Frame(x, y, rng.normal(0, 4), rng.uniform(0.455, 0.485), rng.uniform(0.79, 0.87), rng.uniform(0, 1))


def head(rng, side: int, place: Frame) -> Head:
    """Draw a head without a lesion."""
    across, down = (each * (1 / place.length) for each in placed(side, place.x, place.y, place.turn))
    angle = ((cv2.phase(across, down) * (AROUND / (2 * math.pi))).astype(np.int32)) % AROUND
    radius = cv2.magnitude(across / (place.breadth * (1 + 0.05 * down - 0.05 * down * down)), down)
    radius *= 1 + 0.012 * _around(rng, 5)[angle]
    pixel = 1 / (side * place.length)

    inside = _edge(radius - BRAIN, pixel)
    depth = _depth(rng, inside, place)
    ventricles = _cover(side, place, _ventricles(rng, place), soft=0.008)
    nuclei = _cover(side, place, _nuclei(rng, place), soft=0.03)
    cortex = CORTEX * rng.uniform(0.85, 1.15) * (1 + 0.22 * noise(rng, side, 12))
    white = ramp(depth - cortex, -0.012, 0.022) * (1 - 0.75 * nuclei)
    open_ = np.clip(0.75 + 0.3 * noise(rng, side, 9), 0.25, 1)  # sulci gape here, and are closed there
    fluid = np.maximum((1 - ramp(depth, 0, SULCUS * 3)) * open_, ventricles)

    grey, bright = (value + rng.normal(0, SPREAD) for value in (GREY, WHITE))
    tissue = grey + (bright - grey) * white
    tissue *= 1 + 0.03 * noise(rng, side, 30) + 0.03 * noise(rng, side, 7)
    tissue += (FLUID - tissue) * fluid
    vessels = _cover(side, place, _vessels(rng, place))
    tissue += (VESSEL - tissue) * vessels * rng.uniform(0.6, 1.0)
    picture = _wrapped(rng, FLUID + (tissue - FLUID) * inside, radius, angle, pixel)
    brain = inside * (1 - fluid)
    return Head(across, down, picture, inside, brain, white * brain)


def _wrapped(rng, picture, radius, angle, pixel) -> Plane:
    """Lay the skull with its marrow, and the scalp, around the brain."""
    inner, outer = BRAIN + 0.014, SKULL + 0.008 * _around(rng, 6)[angle]
    marrow = 1 - np.abs(radius - 0.5 * (inner + SKULL)) * (1 / 0.024) + 0.35 * _around(rng, 9)[angle]
    shell = BONE + (MARROW - BONE) * np.clip(marrow, 0, 1)
    picture = picture + (shell - picture) * _edge(inner - radius, pixel)
    fat = FAT * (0.86 + 0.1 * _around(rng, 11)[angle]) * (0.6 + 0.4 * ramp(1 - radius, 0.0, 0.03))
    picture += (fat - picture) * _edge(outer - radius, pixel)
    return picture + (AIR - picture) * _edge(1 - radius, pixel)


def _depth(rng, inside, place: Frame) -> Plane:
    """How far each pixel lies from the nearest sulcus, fissure or surface: what makes a cortex of even thickness."""
    side = len(inside)
    free = (inside > 0.5).astype(np.uint8)
    for paths in (_fissures(rng, place), *_sulci(rng, place)):
        points = (place.on_canvas(paths.reshape(-1, 2)) + 0.5) * side - 0.5
        lines = np.rint(points * (1 << SHIFT)).astype(np.int32).reshape(paths.shape)
        cv2.polylines(free, list(lines), False, 0, 1, cv2.LINE_8, SHIFT)
    return cv2.distanceTransform(free, cv2.DIST_L2, cv2.DIST_MASK_5) * np.float32(1 / (side * place.length))


def _fissures(rng, place: Frame) -> Paths:
    """Between the halves; and, low in the head, between brow and temple."""
    bend = rng.normal(0, 0.016, 5)
    front, back = (-0.42, 0.42) if place.level < 0.75 else (-0.05, -0.05)
    paths = [
        [(bend[0], -0.9), (bend[1], -0.6), (bend[4], front)],
        [(bend[4], back), (bend[2], 0.65), (bend[3], 0.9)],
    ]
    if place.level < 0.5:
        for sign in (-1, 1):
            y = rng.uniform(-0.2, -0.08)
            paths.append([(sign * 0.75, y - 0.05), (sign * 0.58, y), (sign * 0.46, y + 0.02)])
            paths.append([(sign * 0.47, y - 0.09), (sign * 0.445, y + 0.04), (sign * 0.47, y + 0.2)])
    return np.array([curve(*path) for path in paths])


def _sulci(rng, place: Frame) -> tuple[Paths, Paths, Paths]:
    """Lines that run inwards from the surface, their forks, and those that leave the fissure between the halves."""
    count = int(rng.integers(25, 31))
    turns = (np.arange(count) + rng.uniform(0.25, 0.75, count)) * (2 * math.pi / count)
    starts = 0.865 * np.stack([place.breadth * np.cos(turns), np.sin(turns)], 1)
    lengths = np.where(rng.random(count) < 0.6, rng.uniform(0.17, 0.34, count), rng.uniform(0.06, 0.15, count))
    lengths = np.where(np.abs(starts[:, 0]) < 0.3, np.minimum(lengths, 0.13), lengths)  # there the fissure folds
    inwards = np.arctan2(-0.7 * starts[:, 1], -starts[:, 0]) + rng.normal(0, 0.28, count)
    mains = _walks(rng, starts, lengths, inwards, 6)

    long = np.flatnonzero(lengths > 0.15)
    forked = np.concatenate([long, long[rng.random(len(long)) < 0.35]])
    sides = np.where(np.arange(len(forked)) < len(long), 1, -1) * rng.choice((-1, 1), len(forked))
    stems = mains[forked, rng.integers(4, 7, len(forked))]
    arms = _walks(rng, stems, rng.uniform(0.05, 0.12, len(forked)), inwards[forked] + 1.1 * sides, 4)

    heights = [-0.74, -0.56, 0.55, 0.73] + ([-0.38, -0.2, 0.0, 0.18, 0.36] if place.level > 0.75 else [])
    heights = np.repeat(heights, 2) + rng.uniform(-0.06, 0.06, 2 * len(heights))
    outwards = np.arange(len(heights)) % 2 * math.pi + rng.normal(0, 0.3, len(heights))
    middle = np.stack([np.zeros(len(heights)), heights], 1)
    return mains, arms, _walks(rng, middle, rng.uniform(0.1, 0.24, len(heights)), outwards, 5)


def _walks(rng, starts, lengths, headings, steps: int) -> Paths:
    """Random paths, all at once, whose headings (in radians) wander."""
    turns = headings[:, None] + 0.3 * rng.standard_normal((len(starts), steps))
    moves = np.stack([np.cos(turns), np.sin(turns)], 2) * (lengths / steps)[:, None, None]
    return np.cumsum(np.concatenate([starts[:, None], moves], 1), axis=1)


def _ventricles(rng, place: Frame) -> list[Path]:
    """The butterfly of the lateral ventricles, and the slit of the third between them."""
    low = place.level < 0.45
    size = rng.uniform(0.7, 1.3) * (1 - 0.5 * _step(place.level, 0.4, 0.8))
    if place.level > 0.82:
        return []
    y, paths = rng.uniform(-0.03, 0.03), []
    for sign in (-1, 1):
        wide = size * rng.uniform(0.88, 1.12)
        if low:
            horns = [
                ((0.16, -0.34), (0.1, -0.27), (0.065, -0.16), (0.04, -0.05)),
                ((0.1, 0.12), (0.15, 0.24), (0.22, 0.4)),
            ]
            widths = [(0.105, 0.035), (0.06, 0.085)]
        else:
            horns, widths = [((0.105, -0.3), (0.075, -0.15), (0.08, 0.05), (0.13, 0.22), (0.17, 0.32))], [(0.11, 0.07)]
        for horn, (start, end) in zip(horns, widths, strict=True):
            points = [(sign * a, b + y) for a, b in horn]
            paths.append(tube(*points, width=start * wide, end=end * wide))
    if low:
        paths.append(tube((0.0, y - 0.02), (0.004, y + 0.08), (0.0, y + 0.18), width=0.03 * size, end=0.022 * size))
    return paths


def _nuclei(rng, place: Frame) -> list[Path]:
    """Thalamus, head of the caudate and putamen: grey matter that lies deep."""
    if place.level > 0.5:
        return []
    y = rng.uniform(-0.02, 0.02)
    parts = ((0.11, 0.07, 0.08, 0.13, -12), (0.17, -0.24, 0.055, 0.11, 16), (0.305, -0.05, 0.055, 0.17, -10))
    return [ellipse(sign * a, b + y, rx, ry, sign * turn) for a, b, rx, ry, turn in parts for sign in (-1, 1)]


def _vessels(rng, place: Frame) -> list[Path]:
    """Bright dots that are no lesion: the sinus behind, choroid plexus, and some vessels in the sulci."""
    dots = [(0.0, 0.845, 0.022), (rng.normal(0, 0.01), -0.84, 0.013)]
    if place.level < 0.6:
        dots += [
            (sign * 0.16 + rng.normal(0, 0.01), 0.27 + rng.normal(0, 0.02), rng.uniform(0.012, 0.026))
            for sign in (-1, 1)
        ]
    for _ in range(int(rng.integers(2, 7))):
        turn, far = rng.uniform(0, 2 * math.pi), rng.uniform(0.6, 0.84)
        dots.append((place.breadth * far * math.cos(turn), far * math.sin(turn), rng.uniform(0.007, 0.014)))
    return [ellipse(x, y, radius) for x, y, radius in dots]


def _cover(side: int, place: Frame, paths: list[Path], soft: float = 0.0) -> Plane:
    """How much of each pixel some closed paths cover, with an edge so soft."""
    if not paths:
        return np.zeros((side, side), np.float32)
    cover = fill(side, *(place.on_canvas(path) for path in paths))
    return cv2.GaussianBlur(cover, (0, 0), soft * side * place.length) if soft else cover


def _around(rng, bumps: int) -> Float[np.ndarray, "angles"]:
    """Smooth noise along the angle, of standard deviation near 0.8, as a table."""
    ring = rng.random((1, bumps), np.float32) * 3.46 - 1.73
    table = cv2.resize(np.tile(ring, 3), (3 * AROUND, 1), interpolation=cv2.INTER_CUBIC)
    return table[0, AROUND : 2 * AROUND]


def _step(value: float, low: float, high: float) -> float:
    """0 below ``low``, 1 above ``high``, straight between."""
    return min(max((value - low) / (high - low), 0.0), 1.0)


def _edge(distance, width: float) -> Plane:
    """1 where a signed distance is negative, 0 where it is positive, and a slope as wide as given between."""
    return np.clip(0.5 - distance * (1 / width), 0, 1).astype(np.float32, copy=False)
