"""How a surface looks under a lamp: relief, shadows, layers, and the camera's own part."""

import math

import cv2
import numpy as np
from jaxtyping import Float

from xailab.datasets.drawing.shapes import Plane, axes, bounds, noise, slopes

Picture = Float[np.ndarray, "h w 3"]
Colour = Float[np.ndarray, "3"]


def rgb(code: str) -> Colour:
    """The colour "#rrggbb" as three floats from 0 to 255."""
    return np.array([int(code[i : i + 2], 16) for i in (1, 3, 5)], np.float32)


def grey(plane: Plane) -> Picture:
    """A plane as a picture of three equal channels."""
    return cv2.cvtColor(plane.astype(np.float32, copy=False), cv2.COLOR_GRAY2RGB)


def painted(colour: Colour, plane: Plane) -> Picture:
    """A colour times a plane."""
    return cv2.merge([plane * part for part in colour.tolist()])


def lay(picture: Picture, paint: Picture | Colour, alpha: Plane) -> Picture:
    """Lay paint over a picture with an opacity per pixel."""
    laid = picture.copy()
    area = bounds(alpha)
    below = laid[area]
    if not below.size:
        return laid
    paint = paint[area] if paint.ndim == 3 else paint
    below += (paint - below) * grey(alpha[area])
    return laid


def between(low: Colour, high: Colour, share: Plane) -> Picture:
    """The mixture of two colours, `share` of the second; shares beyond 0 and 1 go on along the line."""
    return cv2.merge([share * float(b - a) + float(a) for a, b in zip(low, high, strict=True)])


def relief(height: Plane, angle: float, strength: float = 1.0) -> Plane:
    """How bright a matt surface is under a lamp, 1 where it is flat.

    Args:
        height: in parts of the side.
        angle: where the lamp stands, in degrees clockwise from the right (-90 is above).
        strength: how low the lamp stands: the tangent of its zenith angle.
    """
    across, down = slopes(height)
    x, y = strength * math.cos(math.radians(angle)), strength * math.sin(math.radians(angle))
    lit = np.maximum(1 - (across * x + down * y), 0)
    return lit / np.sqrt(1 + across * across + down * down)


def shade(alpha: Plane, angle: float, distance: float, blur: float, depth: float) -> Plane:
    """The factor by which an object of coverage alpha darkens what lies below it."""
    side = len(alpha)
    x, y = -distance * side * math.cos(math.radians(angle)), -distance * side * math.sin(math.radians(angle))
    coarse = side // 4
    zoom = side / coarse
    small = cv2.resize(alpha, (coarse, coarse), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), blur * coarse)
    move = np.array([[zoom, 0, x + (zoom - 1) / 2], [0, zoom, y + (zoom - 1) / 2]])
    return 1 - depth * cv2.warpAffine(small, move, (side, side), borderMode=cv2.BORDER_REPLICATE)


def lamp(rng, side: int, angle: float, fall: float = 0.05) -> Picture:
    """What the lamp and the camera make of a white sheet: brightness, a slope of light, a tint, and dark corners."""
    x, y = axes(32)
    fall, gain = fall * rng.uniform(0.6, 1.4), 1 + 0.025 * rng.standard_normal()
    slope = 2 * fall * (math.cos(math.radians(angle)) * x + math.sin(math.radians(angle)) * y)
    plane = gain * (1 + slope - 0.16 * (x * x + y * y))
    tints = (1 + 0.004 * rng.standard_normal(3)).tolist()
    return cv2.resize(cv2.merge([plane * tint for tint in tints]), (side, side), interpolation=cv2.INTER_LINEAR)


def grain(rng, size: int, level: float) -> Picture:
    """The sensor's noise: mostly brightness, some colour."""
    plane = (rng.random((size, size), np.float32) + rng.random((size, size), np.float32) - 1) * (2.45 * level)
    colour = (rng.random((size // 2, size // 2, 3), np.float32) - 0.5) * (1.7 * level)
    return grey(plane) + cv2.resize(colour, (size, size), interpolation=cv2.INTER_LINEAR)


def mottled(rng, side: int, colour: Colour, cells: int, depth: float) -> Picture:
    """A ground of one colour with faint clouds."""
    return between(colour, colour * (1 + depth), noise(rng, side, cells))
