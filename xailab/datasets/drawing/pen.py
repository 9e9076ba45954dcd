"""A pen that draws shaded, outlined vector shapes on a large canvas.

Paths are in the pen's own coordinates, y pointing down. Shapes are filled without antialiasing on a canvas several
times too large; reducing that canvas by area averaging makes the edges smooth.
"""

from copy import copy

import cv2
import numpy as np

from xailab.datasets.drawing.colours import INK, SHADE, SUN, darker
from xailab.datasets.drawing.paths import ellipse, rotation

SHIFT = 4  # fractional bits of the coordinates that OpenCV takes


class Pen:
    """Draws on `canvas` (uint8 (h, w, 3)) through an affine transform, and notes in `cover` what it touched.

    Args:
        canvas: drawn upon in place.
        matrix: 2 x 2, local units to canvas pixels.
        origin: where the local origin lies on the canvas, in pixels.
        light: unit vector on the canvas that points to the light.
        cover: uint8 (h, w), set to 255 where something is drawn; None where nobody asks.
    """

    def __init__(self, canvas, matrix, origin, light, cover=None):
        self.canvas, self.cover = canvas, cover
        self.matrix, self.origin = np.asarray(matrix, float), np.asarray(origin, float)
        self.scale = _scale(self.matrix)
        u = np.linspace(-1, 1, 5)
        facing = np.clip(u * light[0] + u[:, None] * light[1], -1, 1)[:, :, None]
        lit, dim = 0.5 * np.maximum(facing, 0), 0.6 * np.maximum(-facing, 0)
        self._tint, self._weight = lit * SUN + dim * 0.6 * INK, lit + dim * (1 - SHADE)  # added, taken away

    def moved(self, x: float, y: float, *, turn: float = 0.0, scale: float | tuple[float, float] = 1.0) -> "Pen":
        """A pen with its origin at (x, y), turned by degrees and scaled (a number, or one for x and one for y)."""
        pen = copy(self)
        pen.origin = self.matrix @ (x, y) + self.origin
        pen.matrix = self.matrix @ rotation(turn) * scale  # scales the columns
        pen.scale = _scale(pen.matrix)
        return pen

    def fill(self, *paths, colour, shade: float = 0.5, line: float = 0.03, inside=None, alpha: float = 1.0):
        """Fills the union of the paths.

        Args:
            colour: the middle colour; the side to the light is lighter, the other one darker, by `shade`.
            line: width in local units of the dark outline around the union; 0 for none.
            inside: path that the filling (not the outline) is clipped to.
            alpha: opacity.
        """
        polygons = self._fixed(paths)
        if line:
            self._outline(polygons, darker(colour, 0.7), line)
        if not shade and alpha == 1 and inside is None:
            return self._flat(polygons, colour)
        area = self._area(np.concatenate(polygons) if len(polygons) > 1 else polygons[0])
        if area is None:
            return
        mask = self._mask(polygons, area)
        if inside is not None:
            mask &= self._mask(self._fixed([inside]), area)
        target = self.canvas[area]
        paint = cv2.resize(self._shaded(colour, shade), mask.shape[::-1], interpolation=cv2.INTER_LINEAR)
        if alpha < 1:
            paint = cv2.addWeighted(paint, alpha, target, 1 - alpha, 0)
        cv2.copyTo(paint, mask, target)
        if self.cover is not None and inside is None:
            self.cover[area] |= mask

    def mark(self, *paths, colour, inside=None, alpha: float = 1.0):
        """Fills the paths flatly, without outline."""
        self.fill(*paths, colour=colour, shade=0, line=0, inside=inside, alpha=alpha)

    def glow(self, x: float, y: float, radius: float, *, colour, alpha: float = 0.5):
        """Lays a soft round spot over what has been drawn already."""
        (corners,) = self._fixed([ellipse(x, y, radius)])
        area = self._area(corners)
        if area is None:
            return
        centre, reach = self.matrix @ (x, y) + self.origin, radius * self.scale
        v, u = ((np.arange(a.start, a.stop) - c) / reach for a, c in zip(area, centre[::-1], strict=True))
        soft = np.maximum(0, 1 - (u * u + (v * v)[:, None])) ** 2 * alpha
        target = self.canvas[area]
        target[:] = target + soft[:, :, None] * (colour - target)

    def wash(self, top, bottom, y0: float = 0.0, y1: float = 1.0):
        """Lays a smooth vertical gradient between the heights y0 and y1 over the whole width."""
        width = self.canvas.shape[1]
        rows = (np.array([y0, y1]) * self.scale + self.origin[1]).round().astype(int)
        t = (np.arange(rows[0], rows[1]) - rows[0])[:, None] / (rows[1] - rows[0])
        column = (top + (bottom - top) * t).astype(np.uint8)[:, None]
        part = self.canvas[rows[0] : rows[1]]
        part[:] = cv2.resize(column, (width, len(column)), interpolation=cv2.INTER_NEAREST)[: len(part)]

    def _flat(self, polygons, colour):
        for p in polygons:
            cv2.fillPoly(self.canvas, [p], colour.tolist(), cv2.LINE_8, SHIFT)
            if self.cover is not None:
                cv2.fillPoly(self.cover, [p], 255, cv2.LINE_8, SHIFT)

    def _fixed(self, paths) -> list[np.ndarray]:
        """The paths in the fixed-point pixel coordinates of OpenCV."""
        turned = self.matrix.T * (1 << SHIFT)
        moved = self.origin * (1 << SHIFT) - (1 << SHIFT - 1)
        return [np.rint(path @ turned + moved).astype(np.int32) for path in paths]

    def _area(self, points):
        """The slices of rows and columns around the points, None where the canvas has none of them."""
        height, width = self.canvas.shape[:2]
        x, y, w, h = cv2.boundingRect(points)
        x0, y0 = max((x >> SHIFT) - 1, 0), max((y >> SHIFT) - 1, 0)
        x1, y1 = min((x + w >> SHIFT) + 2, width), min((y + h >> SHIFT) + 2, height)
        return (slice(y0, y1), slice(x0, x1)) if x0 < x1 and y0 < y1 else None

    def _mask(self, polygons, area) -> np.ndarray:
        rows, columns = area
        mask = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
        corner = np.array([columns.start, rows.start], np.int32) << SHIFT
        for p in polygons:
            cv2.fillPoly(mask, [p - corner], 255, cv2.LINE_8, SHIFT)
        return mask

    def _outline(self, polygons, colour, width):
        thickness = max(1, round(width * self.scale))
        cv2.polylines(self.canvas, polygons, True, colour.tolist(), thickness, cv2.LINE_8, SHIFT)
        if self.cover is not None:
            cv2.polylines(self.cover, polygons, True, 255, thickness, cv2.LINE_8, SHIFT)

    def _shaded(self, colour, shade) -> np.ndarray:
        return (colour + shade * (self._tint - self._weight * colour)).astype(np.uint8)


def _scale(matrix) -> float:
    """Pixels per local unit."""
    return abs(matrix[0, 0] * matrix[1, 1] - matrix[0, 1] * matrix[1, 0]) ** 0.5
