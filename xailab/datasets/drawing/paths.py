"""Paths: float arrays (n, 2) of points x, y, with y pointing down."""

from functools import cache

import numpy as np
from jaxtyping import Float

Path = Float[np.ndarray, "_ 2"]


def polygon(*points) -> np.ndarray:
    """A path (n, 2) through points (x, y)."""
    return np.array(points, float)


def box(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    """A rectangle between two opposite corners."""
    return polygon((x0, y0), (x1, y0), (x1, y1), (x0, y1))


def ellipse(x: float, y: float, rx: float, ry: float | None = None, turn: float = 0.0) -> np.ndarray:
    """An ellipse with half axes rx and ry (a circle without ry), turned by `turn` degrees."""
    circle = _circle(40) * (rx, rx if ry is None else ry)
    return (circle @ rotation(turn).T if turn else circle) + (x, y)


def blob(*points) -> np.ndarray:
    """A smooth closed curve through the points (Catmull-Rom spline)."""
    p = np.array(points, float)
    return _spline(np.roll(p, 1, 0), p, np.roll(p, -1, 0), np.roll(p, -2, 0))


def symmetric(*points) -> np.ndarray:
    """A blob of the points, given from top to bottom on the right side, and their mirror images."""
    return blob(*points, *[(-x, y) for x, y in reversed(points) if x])


def curve(*points) -> np.ndarray:
    """A smooth open curve through the points."""
    p = np.array([points[0], *points, points[-1]], float)
    return np.concatenate([_spline(p[:-3], p[1:-2], p[2:-1], p[3:]), p[-1:]])


def tube(*points, width: float, end: float | None = None) -> np.ndarray:
    """A smooth stroke through the points with round ends, its width going from `width` to `end`."""
    line = curve(*points)
    tangent = np.empty_like(line)
    tangent[1:-1] = line[2:] - line[:-2]
    tangent[0], tangent[-1] = line[1] - line[0], line[-1] - line[-2]
    end = width if end is None else end
    half = (width + (end - width) * np.arange(len(line))[:, None] / (len(line) - 1)) / 2
    tangent *= half / (np.sqrt((tangent**2).sum(1, keepdims=True)) + 1e-9)
    normal = tangent[:, ::-1] * (1, -1)
    across, along = _circle(16)[1:8, :1], _circle(16)[1:8, 1:]
    tip = line[-1] + normal[-1] * across + tangent[-1] * along
    tail = line[0] - normal[0] * across - tangent[0] * along
    return np.concatenate([line + normal, tip, (line - normal)[::-1], tail])


def rotation(degrees: float) -> np.ndarray:
    """The matrix (2, 2) that turns points (x, y) by an angle, clockwise as y points down."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s], [s, c]])


@cache
def _circle(n: int) -> np.ndarray:
    angle = np.arange(n) * 2 * np.pi / n
    return np.stack([np.cos(angle), np.sin(angle)], 1)


@cache
def _weights(n: int) -> np.ndarray:
    t = np.arange(n) / n
    return np.stack([-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2], 1) / 2


def _spline(before, start, stop, after) -> np.ndarray:
    ends = np.stack([before, start, stop, after], 1)
    return (_weights(6) @ ends).reshape(-1, 2)
