"""The circuit board without its parts: green mask over copper, pads, vias, white print."""

from functools import cache

import cv2
import numpy as np
from jaxtyping import Float

from xailab.datasets.drawing.paths import rotation
from xailab.datasets.drawing.shapes import OVERSAMPLING, SHIFT, Plane, axes, box, cover, disc, ramp, slopes, written
from xailab.datasets.inspection.light import Picture, between, lay, painted, rgb
from xailab.datasets.inspection.parts import PINS, PITCH, ROW, SIZES, SOLDER, pins

WIDTH, HEIGHT = 0.93, 0.86
MASK, TRACE, GOLD, PRINT, TABLE = rgb("#0F5A3C"), rgb("#2A9266"), rgb("#C9A45A"), rgb("#E6EBE6"), rgb("#22252A")

# what it is, where its middle lies, its turn in degrees
PARTS = (
    ("chip", 0.0, 0.0, 0),
    ("resistor", -0.345, -0.29, 0),
    ("resistor", -0.345, -0.2, 0),
    ("resistor", -0.345, -0.11, 0),
    ("capacitor", -0.345, 0.02, 0),
    ("capacitor", -0.345, 0.12, 0),
    ("capacitor", -0.1, -0.3, 90),
    ("resistor", 0.02, -0.3, 90),
    ("can", 0.3, -0.24, 0),
    ("crystal", 0.32, 0.06, 90),
    ("diode", 0.0, 0.255, 0),
    ("diode", -0.16, 0.255, 0),
    ("resistor", 0.17, 0.255, 90),
)
SPANS = {"resistor": 0.088, "capacitor": 0.09, "diode": 0.1, "crystal": 0.19, "can": 0.09}  # between the two pads
SCREWS = [(a, b) for a in (-0.425, 0.425) for b in (-0.39, 0.39)]
SOCKETS = [(-0.33 + 0.055 * k, 0.365) for k in range(9)]
LABELS = (
    ("R1", -0.24, -0.326), ("R2", -0.258, -0.165), ("C1", -0.258, 0.072), ("C3", -0.16, -0.385), ("R4", 0.078, -0.345),
    ("Y1", 0.405, 0.1), ("D1", 0.1, 0.235), ("R5", 0.24, 0.265), ("+", 0.19, -0.32), ("XAILAB 05", 0.25, 0.4),
)  # fmt: skip

_T = [(k - (PINS - 1) / 2) * PITCH for k in range(PINS)]  # the chip's pins from left to right
WIRES = (
    ((-0.3, -0.29), (-0.26, -0.29), (_T[0], -0.2), (_T[0], -ROW)),
    ((-0.3, -0.2), (-0.25, -0.2), (-0.22, -0.23), (-0.22, -0.35)),
    ((-0.3, -0.11), (-0.24, -0.11), (-0.2, -0.07), (-0.2, 0.06), (-0.24, 0.12), (-0.3, 0.12)),
    ((-0.3, 0.02), (-0.25, 0.02), (-0.23, 0.04), (-0.23, 0.2), (-0.21, 0.255)),
    ((-0.39, -0.29), (-0.42, -0.26), (-0.42, 0.3), (-0.385, 0.335), (-0.33, 0.365)),
    ((-0.1, -0.255), (_T[2], -0.19), (_T[2], -ROW)),
    ((-0.1, -0.345), (-0.1, -0.385), (0.02, -0.385), (0.02, -0.345)),
    ((0.02, -0.255), (_T[4], -0.22), (_T[4], -ROW)),
    ((0.1, -0.4), (0.1, -0.26), (_T[6], -0.23), (_T[6], -ROW)),
    ((_T[7], -ROW), (_T[7], -0.19), (0.2, -0.24), (0.255, -0.24)),
    ((0.345, -0.24), (0.4, -0.2), (0.43, -0.17), (0.43, 0.25), (0.37, 0.31), (0.33, 0.33)),
    ((0.02, -0.385), (0.08, -0.42), (0.34, -0.42), (0.34, -0.36)),
    ((_T[7], ROW), (_T[7], 0.18), (0.22, 0.18), (0.32, 0.155)),
    ((_T[6], ROW), (_T[6], 0.07), (0.2, 0.02), (0.25, -0.035), (0.32, -0.035)),
    ((_T[5], ROW), (_T[5], 0.19), (0.14, 0.21), (0.17, 0.21)),
    ((0.17, 0.3), (0.17, 0.34), (0.2, 0.34)),
    ((_T[4], ROW), (_T[4], 0.2), (0.05, 0.255)),
    ((_T[3], ROW), (_T[3], 0.19), (-0.05, 0.22), (-0.05, 0.255)),
    ((_T[1], ROW), (_T[1], 0.21), (-0.11, 0.255)),
    ((_T[0], ROW), (_T[0], 0.18), (-0.21, 0.22), (-0.27, 0.28), (-0.275, 0.365)),
    ((_T[2], ROW), (_T[2], 0.31), (-0.11, 0.345), (-0.11, 0.365)),
    ((-0.21, 0.255), (-0.22, 0.3), (-0.22, 0.365)),
    ((0.05, 0.255), (0.05, 0.31), (0.0, 0.365)),
    ((-0.05, 0.255), (-0.055, 0.365)),
    *(((-0.39, y), (-0.42, y)) for y in (-0.2, -0.11, 0.02, 0.12)),
    *(((_T[k], -ROW), (_T[k], -0.2), (_T[k] + 0.02, -0.22)) for k in (1, 3, 5)),
)


@cache
def board(side: int) -> Picture:
    """The bare board on a dark table. Draw on a copy."""
    x, y = axes(side)
    edge, pads = box(x, y, WIDTH, HEIGHT, 0.03), _pads()
    copper = np.maximum(_lines(side, 0.011, WIRES), cover(box(x - 0.3, y - 0.33, 0.2, 0.09, 0.01)))
    across, down = slopes(cv2.GaussianBlur(copper, (0, 0), side * 0.0018))
    picture = between(MASK, TRACE, copper)
    picture *= cv2.merge([1 - 0.0012 * (across + down)] * 3)
    for a, b, w, h in pads:
        part, u, v = _around(picture, a, b, 0.035)
        shine = 0.78 + 6 * np.maximum(0, 0.03 - np.abs(u + 0.006) - np.abs(v + 0.006))
        part[:] = lay(part, painted(SOLDER, shine), cover(box(u, v, w, h, 0.006), side))
    ends = [end for wire in WIRES for end in (wire[0], wire[-1])]
    vias = [(*end, 0.0125, 0.006) for end in ends if not any(_on(end, pad) for pad in pads)]
    for a, b, outer, inner in vias + [(*each, 0.03, 0.019) for each in SCREWS]:
        part, u, v = _around(picture, a, b, 0.035)
        ring = lay(part, painted(GOLD, 0.95 - 12 * (u + v)), cover(disc(u, v, outer), side))
        part[:] = lay(ring, TABLE, cover(disc(u, v, inner), side))
    picture = lay(picture, PRINT, 0.85 * _print(side, x, y))
    picture *= cv2.merge([1 + 0.1 * ramp(edge, -0.006, 0)] * 3)
    return np.clip(lay(between(TABLE, TABLE, edge), picture, cover(edge)), 0, 255)


def _around(
    picture: Float[np.ndarray, "side side 3"], x: float, y: float, reach: float
) -> tuple[Picture, Plane, Plane]:
    """The part of a picture around a point, to draw upon, and its coordinates from there."""
    side = len(picture)
    columns, rows = (slice(int((c - reach + 0.5) * side), int((c + reach + 0.5) * side) + 1) for c in (x, y))
    across, down = axes(side)
    return picture[rows, columns], across[rows, columns] - x, down[rows, columns] - y


def _pads() -> list[tuple[float, float, float, float]]:
    """Middle and size of each pad."""
    pads = [(a, b, 0.024, 0.05) for a, b in pins()] + [(a, b, 0.036, 0.036) for a, b in SOCKETS]
    for kind, a, b, turn in PARTS[1:]:
        shift = rotation(turn) @ (SPANS[kind] / 2, 0)
        size = (0.042, 0.056) if turn == 0 else (0.056, 0.042)
        pads += [(*((a, b) + sign * shift).tolist(), *size) for sign in (-1, 1)]
    return pads


def _on(point, pad) -> bool:
    """Whether a wire that ends at a point ends at a pad."""
    return abs(point[0] - pad[0]) < 0.03 and abs(point[1] - pad[1]) < 0.04


def _lines(side: int, width: float, paths, closed: bool = False) -> Plane:
    """The coverage of broken lines."""
    large = side * OVERSAMPLING // 2
    canvas = np.zeros((large, large), np.uint8)
    points = [np.rint((np.array(path) + 0.5) * (large << SHIFT) - (1 << SHIFT - 1)).astype(np.int32) for path in paths]
    cv2.polylines(canvas, points, closed, 255, max(1, round(width * large)), cv2.LINE_8, SHIFT)
    return cv2.resize(canvas, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def _print(side: int, x: Plane, y: Plane) -> Plane:
    """Frames around the parts, their names, and a dot at the chip's first pin."""
    frames = [_frame(-0.11, 0.365, 0.51, 0.06)]
    for kind, a, b, turn in PARTS:
        if kind not in ("chip", "can"):
            w, h = (each + 0.016 for each in SIZES[kind])
            frames.append(_frame(a, b, w, h) if turn == 0 else _frame(a, b, h, w))
    ink = np.maximum(_lines(side, 0.003, frames, closed=True), cover(disc(x + 0.19, y - 0.15, 0.009)))
    ink = np.maximum(ink, cover(np.abs(disc(x - 0.3, y + 0.24, 0.106)) - 0.002))
    for word, a, b in LABELS:
        ink = np.maximum(ink, written(x, y, word, a, b, 0.025))
    return ink


def _frame(x, y, width, height):
    return [(x + a * width / 2, y + b * height / 2) for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
