"""What sits on the circuit board: each part seen from above, lit from the upper left."""

import math
from functools import cache

import cv2
import numpy as np
from jaxtyping import Float

from xailab.datasets.drawing.shapes import Plane, box, cover, disc, written
from xailab.datasets.inspection.light import lay, painted, rgb

SIZES = {
    "chip": (0.4, 0.34),
    "resistor": (0.12, 0.06),
    "capacitor": (0.12, 0.08),
    "diode": (0.14, 0.07),
    "can": (0.2, 0.2),
    "crystal": (0.24, 0.1),
}  # width and height, in parts of the board's side
PITCH, PINS, ROW = 0.043, 8, 0.128  # of the chip: between pins, pins a side, from its middle to a row of pads

SOLDER, BLACK, MARK = rgb("#C6CBD1"), rgb("#25272B"), rgb("#B4BAC0")


@cache
def part(kind: str, side: int) -> tuple[Float[np.ndarray, "h w 4"], Plane]:
    """Colours times coverage, and coverage, of a part upright; and how dark its shadow is."""
    rows, columns = (math.ceil((each + 0.03) * side) for each in SIZES[kind][::-1])
    across, down = ((np.arange(n, dtype=np.float32) - (n - 1) / 2) / side for n in (columns, rows))
    x, y = np.meshgrid(across, down)
    paint, alpha = DRAWN[kind](x, y, side)
    colours = np.clip(paint, 0, 255) * alpha[..., None]
    return np.dstack([colours, alpha]).astype(np.float32), cv2.GaussianBlur(alpha, (0, 0), side * 0.006)


def pins() -> list[tuple[float, float]]:
    """The middles of the chip's pads."""
    return [((k - (PINS - 1) / 2) * PITCH, row) for row in (-ROW, ROW) for k in range(PINS)]


def _block(u, v, width, height, colour, side, *, radius=0.004, bevel=0.008):
    """A block with bevelled edges."""
    distance = box(u, v, width, height, radius)
    down, across = np.gradient(np.clip(-distance / bevel, 0, 1))
    lit = 1 + 0.26 * bevel * side * (across + down) - 0.1 * (u / width + v / height)
    return painted(colour, lit.astype(np.float32)), cover(distance, side)


def _capped(u, v, width, height, end, colour, side):
    """A block with metal caps, which begin at `end` from the middle."""
    paint, alpha = _block(u, v, width, height, colour, side)
    metal, _ = _block(u, v, width, height, SOLDER, side, bevel=0.012)
    return lay(paint, metal, cover(end - np.abs(u), side)), alpha


def _resistor(u, v, side):
    paint, alpha = _capped(u, v, 0.108, 0.05, 0.036, BLACK, side)
    return lay(paint, MARK, 0.95 * written(u, v, "103", 0, 0, 0.022)), alpha


def _capacitor(u, v, side):
    return _capped(u, v, 0.11, 0.064, 0.034, rgb("#B58A5C"), side)


def _diode(u, v, side):
    paint, alpha = _capped(u, v, 0.125, 0.05, 0.046, rgb("#B4542E"), side)
    glass = cover(np.abs(u) - 0.046, side) * np.exp(-(((v + 0.009) / 0.006) ** 2))
    paint = lay(paint, rgb("#F6D9C4"), 0.75 * glass)
    return lay(paint, BLACK * 0.8, cover(np.abs(u - 0.024) - 0.008, side)), alpha


def _can(u, v, side):
    base, alpha = _block(u, v, 0.185, 0.185, BLACK * 0.75, side, radius=0.02)
    radius, around = cv2.cartToPolar(u, v)
    rim = 0.35 * np.exp(-(((radius - 0.079) / 0.005) ** 2)) * (-(u + v) / 0.11)
    top = painted(SOLDER, (0.8 + 0.2 * np.cos(2 * (around - 0.7)) ** 2 - 1.2 * (u + v)) * (1 + rim))
    top = lay(top, BLACK, cover(np.maximum(v + 0.045, radius - 0.076), side))
    for word, y in (("47", -0.002), ("16V", 0.036)):
        top = lay(top, BLACK * 1.2, 0.9 * written(u, v, word, 0, y, 0.024))
    return lay(base, top, cover(radius - 0.086, side)), alpha


def _crystal(u, v, side):
    distance = box(u, v, 0.215, 0.084, 0.041)
    flat = cover(distance + 0.012, side)
    lit = 0.9 - 1.0 * (u + v) + 0.12 * np.exp(-(((u + v + 0.02) / 0.02) ** 2))
    paint = painted(SOLDER, flat * lit + (1 - flat) * (0.8 - 5 * v))
    return lay(paint, rgb("#4B5158"), 0.9 * written(u, v, "16.000", 0, 0, 0.024)), cover(distance, side)


def _chip(u, v, side):
    legs, feet = np.zeros((*u.shape, 3), np.float32), np.zeros_like(u)
    for a, b in pins():
        leg = cover(box(u - a, v - b * 0.92, 0.017, 0.06, 0.003), side)
        legs = lay(legs, painted(SOLDER, 0.72 + 0.4 * np.exp(-(((v - b * 0.9) / 0.012) ** 2)) - 9 * (u - a)), leg)
        feet = np.maximum(feet, leg)
    paint, alpha = _block(u, v, 0.36, 0.185, BLACK * 1.1, side, radius=0.006, bevel=0.012)
    paint = lay(paint, BLACK * 0.7, cover(disc(u + 0.15, v - 0.062, 0.013), side))
    for word, y in (("XL-0816", -0.024), ("2611 A", 0.028)):
        paint = lay(paint, MARK, 0.85 * written(u, v, word, -0.01, y, 0.03))
    return lay(legs, paint, alpha), np.maximum(alpha, feet)


DRAWN = {
    "chip": _chip,
    "resistor": _resistor,
    "capacitor": _capacitor,
    "diode": _diode,
    "can": _can,
    "crystal": _crystal,
}
