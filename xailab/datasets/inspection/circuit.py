"""A populated circuit board."""

import math

import cv2
import numpy as np

from xailab.datasets.drawing.paths import rotation
from xailab.datasets.drawing.shapes import box, cover, fill, noise, placed, sliver, spot, walk
from xailab.datasets.inspection.board import PARTS, PINS, PITCH, ROW, TABLE, board
from xailab.datasets.inspection.flaws import Flaw
from xailab.datasets.inspection.light import Picture, grey, lamp, lay, painted, rgb
from xailab.datasets.inspection.parts import SOLDER, part

DEFECTS = ("missing", "turned", "bridge", "cut", "burnt")


def draw(side: int, rng, flaw: Flaw, split: str) -> Picture:
    angle = -130 + 4 * rng.standard_normal()
    x, y = (0.004 * rng.standard_normal(2)).tolist()
    turn = 0.7 * rng.standard_normal()
    canvas = board(2 * side).copy()
    if flaw.kind == "cut":
        canvas = _cut(flaw, canvas)
    odd = 1 + flaw.rng.integers(len(PARTS) - 1) if flaw.kind in ("missing", "turned") else None
    for k, (kind, a, b, quarter) in enumerate(PARTS):
        shift_x, shift_y, lean = (rng.standard_normal(3) * (0.0015, 0.0015, 0.8)).tolist()
        tint = 1 + 0.05 * rng.standard_normal()
        if k == odd and flaw.kind == "turned":
            lean += (-1, 1)[flaw.rng.integers(2)] * flaw.grade(10, 40)
        if k != odd or flaw.kind != "missing":
            _mount(canvas, kind, a + shift_x, b + shift_y, quarter + lean, tint)
    picture = cv2.resize(canvas, (side, side), interpolation=cv2.INTER_AREA)
    if flaw.kind in ("bridge", "burnt"):
        picture = _bridge(flaw, picture) if flaw.kind == "bridge" else _burnt(flaw, picture)
    middle = np.full(2, (side - 1) / 2)
    move = np.column_stack([rotation(turn), middle - rotation(turn) @ middle + np.array([x, y]) * side])
    picture = cv2.warpAffine(picture, move, (side, side), flags=cv2.INTER_LINEAR, borderValue=TABLE.tolist())
    picture *= grey(1 + 0.012 * noise(rng, side, 128) + 0.02 * noise(rng, side, 4))
    return picture * lamp(rng, side, angle)


def _mount(canvas: Picture, kind: str, x: float, y: float, turn: float, tint: float):
    """Lays a part with its shadow on the board, in place."""
    side = len(canvas)
    paint, shadow = part(kind, side)
    rows, columns = shadow.shape
    matrix = rotation(turn)
    wide, high = np.abs(matrix) @ (columns, rows) / 2 + 0.014 * side
    left, top = int((x + 0.5) * side - wide), int((y + 0.5) * side - high)
    below = canvas[max(top, 0) : top + 2 * math.ceil(high), max(left, 0) : left + 2 * math.ceil(wide)]
    size = below.shape[1::-1]
    corner = np.array([(x + 0.5) * side - max(left, 0), (y + 0.5) * side - max(top, 0)])
    move = np.column_stack([matrix, corner - matrix @ ((columns - 1) / 2, (rows - 1) / 2)])
    *colours, alpha = cv2.split(cv2.warpAffine(paint, move, size, flags=cv2.INTER_LINEAR))
    move[:, 2] += 0.007 * side, 0.009 * side
    dark = cv2.warpAffine(shadow, move, size, flags=cv2.INTER_LINEAR)
    below *= grey((1 - 0.6 * dark) * (1 - alpha))
    below += cv2.merge([each * tint for each in colours])


def _cut(flaw, canvas):
    """A scratch through the green mask and the copper; parts hide it."""
    side = len(canvas)
    start = flaw.rng.uniform(-0.3, 0.1), flaw.rng.uniform(-0.35, 0.2)
    path = walk(flaw.rng, *start, flaw.grade(0.12, 0.4), flaw.rng.uniform(-40, 70), wander=4)
    path = np.clip(path, -0.42, 0.42)  # it ends on the board
    width = flaw.grade(0.009, 0.015)
    canvas = lay(canvas, rgb("#E3DDB4"), 0.9 * fill(side, sliver(path, width)))
    return lay(canvas, rgb("#5A4A2C"), 0.7 * fill(side, sliver(path, width * 0.4)))


def _bridge(flaw, picture):
    """Solder between two neighbouring pins of the chip."""
    side = len(picture)
    k, row = int(flaw.rng.integers(PINS - 1)), (-ROW, ROW)[flaw.rng.integers(2)]
    u, v = placed(side, (k + 0.5 - (PINS - 1) / 2) * PITCH, row)
    stray = 0.003 * noise(flaw.rng, side, 40)
    alpha = cover(box(u, v, PITCH * 1.15, flaw.grade(0.016, 0.04), 0.008) + stray)
    shine = 0.75 + 0.45 * np.exp(-(((v + 0.004) / 0.006) ** 2)) - 5 * u
    return lay(picture, painted(SOLDER, shine), alpha)


def _burnt(flaw, picture):
    """Scorched by a part that ran hot."""
    side = len(picture)
    a, b = PARTS[flaw.rng.integers(len(PARTS))][1:3]
    at = a + flaw.rng.uniform(-0.05, 0.05), b + flaw.rng.uniform(-0.05, 0.05)
    alpha = spot(flaw.rng, side, *at, flaw.grade(0.05, 0.11), ragged=0.4, soft=0.6)
    return lay(picture, picture * 0.25 + 0.12 * rgb("#6B3F1A"), alpha * flaw.grade(0.55, 0.95))
