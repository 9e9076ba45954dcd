"""Fields over the unit square: smooth noise, coverages of shapes, lines and cracks.

Everything is measured in parts of the picture's side, x to the right and y down from its middle, so that a drawing is
the same at any resolution. A coverage is how much of each pixel a shape fills, 0 to 1.
"""

import math
from functools import cache

import cv2
import numpy as np
from jaxtyping import Float

from xailab.datasets.drawing.paths import Path, rotation, tube

Plane = Float[np.ndarray, "h w"]

OVERSAMPLING = 4  # of filled paths, per axis
SHIFT = 4  # fractional bits of OpenCV's coordinates


@cache
def axes(side: int) -> tuple[Plane, Plane]:
    """x and y of each pixel's centre, from -0.5 to 0.5."""
    at = (np.arange(side, dtype=np.float32) + 0.5) / side - 0.5
    across, down = np.meshgrid(at, at)
    return np.ascontiguousarray(across), np.ascontiguousarray(down)


def placed(side: int, x: float = 0.0, y: float = 0.0, turn: float = 0.0) -> tuple[Plane, Plane]:
    """Each pixel's coordinates in the frame of an object at (x, y), turned by degrees (clockwise)."""
    across, down = axes(side)
    c, s = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    u = across * c + (down * s - float(c * x + s * y))
    v = down * c - (across * s + float(c * y - s * x))
    return u, v


def noise(rng, side: int, columns: int, rows: int | None = None) -> Plane:
    """A smooth random field of mean 0 and standard deviation near 0.8, with so many bumps across and down."""
    field = rng.random((rows or columns, columns), np.float32) * 3.46 - 1.73
    return cv2.resize(field, (side, side), interpolation=cv2.INTER_CUBIC)


def fractal(rng, side: int, columns: int, octaves: int = 3) -> Plane:
    """Noise of several scales: each octave has twice as many bumps, at 0.55 of the height."""
    layers = [0.55**k * noise(rng, side, columns * 2**k) for k in range(octaves)]
    return sum(layers[1:], layers[0])


def cover(distance: Plane, side: int | None = None) -> Plane:
    """The coverage of a shape from the signed distance to its edge, negative inside; `side` is that of the picture."""
    return np.clip(0.5 - distance * (side or len(distance)), 0, 1)


def ramp(values: Plane, low: float, high: float) -> Plane:
    """0 below `low`, 1 above `high`, and a smooth step in between."""
    t = np.clip((values - low) * (1 / (high - low)), 0, 1)
    return t * t * (3 - 2 * t)


def slopes(height: Plane) -> tuple[Plane, Plane]:
    """The slopes of a relief across and down; height and distance both in parts of the side."""
    scale = len(height) / 8
    return cv2.Sobel(height, cv2.CV_32F, 1, 0, scale=scale), cv2.Sobel(height, cv2.CV_32F, 0, 1, scale=scale)


def disc(u: Plane, v: Plane, radius: float) -> Plane:
    """Signed distance to a circle around the origin of u and v."""
    return cv2.magnitude(u, v) - radius


def box(u: Plane, v: Plane, width: float, height: float, radius: float = 0.0) -> Plane:
    """Signed distance to a box around the origin, with rounded corners."""
    a, b = np.abs(u) - (width / 2 - radius), np.abs(v) - (height / 2 - radius)
    return cv2.magnitude(np.maximum(a, 0), np.maximum(b, 0)) + np.minimum(np.maximum(a, b), 0) - radius


def fill(side: int, *paths: Path) -> Plane:
    """The coverage of the union of closed paths."""
    whole = np.zeros((side, side), np.float32)
    ends = np.concatenate(paths)
    left, top = np.clip(np.floor((ends.min(0) + 0.5) * side).astype(int) - 1, 0, side).tolist()
    right, bottom = np.clip(np.ceil((ends.max(0) + 0.5) * side).astype(int) + 1, 0, side).tolist()
    if left >= right or top >= bottom:
        return whole
    canvas = np.zeros((OVERSAMPLING * (bottom - top), OVERSAMPLING * (right - left)), np.uint8)
    for path in paths:
        corner = ((path + 0.5) * side - (left, top)) * (OVERSAMPLING << SHIFT)
        cv2.fillPoly(canvas, [np.rint(corner - (1 << SHIFT - 1)).astype(np.int32)], 255, cv2.LINE_8, SHIFT)
    small = cv2.resize(canvas, (right - left, bottom - top), interpolation=cv2.INTER_AREA)
    whole[top:bottom, left:right] = small * np.float32(1 / 255)
    return whole


@cache
def lettering(word: str) -> Plane:
    """A word as a sheet 64 pixels high; its capitals fill half of that."""
    face, scale, stroke = cv2.FONT_HERSHEY_DUPLEX, 1.5, 4
    (width, _), _ = cv2.getTextSize(word, face, scale, stroke)
    sheet = np.zeros((64, width + 32), np.uint8)
    cv2.putText(sheet, word, (16, 48), face, scale, 255, stroke, cv2.LINE_AA)
    return cv2.GaussianBlur(sheet.astype(np.float32) / 255, (0, 0), 1.2)


def written(u: Plane, v: Plane, word: str, x: float, y: float, height: float) -> Plane:
    """The coverage of a word around (x, y), with capitals of a height."""
    sheet = lettering(word)
    rows, columns = sheet.shape
    unit = 32 / height
    across, down = (u - x) * unit + (columns - 1) / 2, (v - y) * unit + (rows - 1) / 2
    return cv2.remap(sheet, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)


def bounds(alpha: Plane) -> tuple[slice, slice]:
    """The rows and columns that a shape reaches."""
    x, y, w, h = cv2.boundingRect((alpha > 0).view(np.uint8))
    return slice(y, y + h), slice(x, x + w)


def spot(rng, side: int, x: float, y: float, radius: float, *, ragged: float = 0.35, soft: float = 0.1) -> Plane:
    """The coverage of an irregular blot.

    Args:
        ragged: how far its edge strays, in radii.
        soft: width of the edge, in radii.
    """
    u, v = placed(side, x, y)
    distance = cv2.magnitude(u, v) * (1 / radius)
    stray = fractal(rng, side, round(0.8 / radius), 3) * ragged
    return 1 - ramp(distance + np.clip(stray, -0.6, 0.6), 1 - soft, 1 + soft)


def walk(rng, x: float, y: float, length: float, heading: float, *, steps: int = 12, wander: float = 25.0) -> Path:
    """A random path from (x, y); at each step its heading, in degrees, strays by about `wander`."""
    headings = np.radians(heading + wander * rng.standard_normal(steps))
    moves = np.stack([np.cos(headings), np.sin(headings)], 1) * (length / steps)
    return np.cumsum([(x, y), *moves], axis=0)


def thread(path: Path, width: float, end: float | None = None) -> Path:
    """A closed path around an open one: a smooth stroke with round ends, its width going from `width` to `end`."""
    return tube(*path, width=width, end=end)


def sliver(path: Path, width: float) -> Path:
    """A closed path around an open one: pointed at both ends, straight between its points."""
    along = np.gradient(path, axis=0)
    normal = along[:, ::-1] * (1, -1) / (np.linalg.norm(along, axis=1, keepdims=True) + 1e-9)
    half = width / 2 * np.sin(np.linspace(0, np.pi, len(path)))[:, None] ** 0.6
    return np.concatenate([path + normal * half, (path - normal * half)[::-1]])


def moved(path: Path, x: float, y: float, turn: float = 0.0) -> Path:
    """A path in the frame of an object, turned by degrees and moved to where the object lies."""
    return path @ rotation(turn).T + np.array([x, y])


def moved_point(x: float, y: float, place: tuple[float, float, float]) -> tuple[float, float]:
    """A point in the frame of an object at a place (x, y, turn)."""
    return tuple(moved(np.array([(x, y)]), *place)[0].tolist())
