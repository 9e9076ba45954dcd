"""Car, sailboat, rocket, umbrella and mug: drawing recipes in about [-1, 1], x to the right and y down."""

from itertools import pairwise

import numpy as np

from xailab.datasets.drawing.colours import BLACK, BRIGHT, CREAM, WHITE, darker, lighter, mix, pick, rgb, tinted, two
from xailab.datasets.drawing.paths import blob, curve, ellipse, polygon, symmetric, tube
from xailab.datasets.drawing.pen import Pen

# --- car --------------------------------------------------------------------------------------------------------


def car(pen: Pen, rng):
    paint = tinted(rng, pick(rng, BRIGHT))
    pen = pen.moved(0, 0.08)
    back, roof = rng.uniform(0.45, 0.8), rng.uniform(-0.62, -0.5)
    nose = rng.uniform(-0.5, -0.36)
    front = [(nose - 0.14, 0.02), (nose + 0.14, roof + 0.06), (nose + 0.42, roof - 0.02)]
    rear = [(back - 0.32, roof), (back - 0.08, roof + 0.12), (back + 0.1, 0.02)]
    cabin = blob(*front, *rear, (0, 0.1))
    pen.fill(cabin, colour=paint, shade=0.5)
    bonnet = [(-0.98, 0.12), (-0.86, -0.04), (-0.5, -0.1), (0, -0.1), (0.6, -0.1), (0.9, -0.05)]
    sill = [(0.99, 0.14), (0.97, 0.36), (0.6, 0.42), (0, 0.42), (-0.6, 0.42), (-0.97, 0.38)]
    body = blob(*bonnet, *sill)
    pen.fill(body, colour=paint, shade=0.7)
    pen.fill(cabin, colour=paint, shade=0.5, line=0)
    glass = rgb("#CFE8F2")
    for x0, x1 in ((nose + 0.02, (nose + back) / 2 - 0.04), ((nose + back) / 2 + 0.04, back - 0.1)):
        lean, slope = (0.16, 0) if x0 < -0.2 else (0, 0.1)
        pane = polygon((x0, -0.08), (x0 + lean, roof + 0.12), (x1 - slope, roof + 0.12), (x1, -0.08))
        pen.fill(pane, colour=glass, shade=0.7, line=0.03)
        gleam = polygon((x0 + 0.16, -0.08), (x0 + 0.3, roof), (x0 + 0.4, roof), (x0 + 0.26, -0.08))
        pen.mark(gleam, colour=WHITE, inside=pane, alpha=0.6)
    pen.fill(tube((-0.95, 0.31), (0.95, 0.31), width=0.06), colour=lighter(paint, 0.6), shade=0.2, line=0, inside=body)
    pen.fill(tube((0.06, 0.06), (0.18, 0.06), width=0.05), colour=rgb("#E9E4DA"), shade=0.3, line=0.015)
    pen.mark(tube(((nose + back) / 2, -0.06), ((nose + back) / 2 + 0.01, 0.3), width=0.02), colour=darker(paint))
    pen.fill(ellipse(-0.88, 0.1, 0.08, 0.1), colour=rgb("#FFE9A3"), shade=0.4, line=0.025)
    pen.fill(ellipse(0.93, 0.1, 0.045, 0.09), colour=rgb("#D7383F"), shade=0.4, line=0.025)
    turn = rng.uniform(0, 72)
    for x in (-0.56, 0.56):
        _wheel(pen.moved(x, 0.4, turn=turn, scale=0.23))


def _wheel(pen):
    pen.fill(ellipse(0, 0, 1), colour=rgb("#3A3644"), shade=0.5, line=0.1)
    pen.fill(ellipse(0, 0, 0.6), colour=rgb("#D9D9E0"), shade=0.6, line=0.06)
    for angle in np.radians(np.arange(5) * 72):
        pen.mark(ellipse(0.36 * np.cos(angle), 0.36 * np.sin(angle), 0.13), colour=rgb("#6B6878"))
    pen.mark(ellipse(0, 0, 0.14), colour=rgb("#8E8B9A"))


# --- sailboat ---------------------------------------------------------------------------------------------------


def sailboat(pen: Pen, rng):
    hull, trim = two(rng, BRIGHT)
    sail = pick(rng, [WHITE, CREAM, lighter(trim, 0.5)])
    puff = rng.uniform(0.05, 0.22)
    pen.fill(tube((0.0, 0.45), (0.0, -0.92), width=0.065, end=0.05), colour=rgb("#9B6A41"), shade=0.3)
    pen.fill(polygon((0.02, -0.98), (0.3, -0.9), (0.02, -0.82)), colour=hull, line=0.02)
    main = _sail((0.07, -0.78), (0.86 - puff / 2, 0.24), (0.07, 0.26), puff)
    pen.fill(main, colour=sail, shade=0.6)
    bands = [polygon((0, y), (1, y + 0.04), (1, y + 0.15), (0, y + 0.11)) for y in (-0.16, 0.06)]
    pen.fill(*bands, colour=trim, shade=0.3, line=0, inside=main)
    jib = _sail((-0.06, -0.7), (-0.78, 0.28), (-0.08, 0.24), -puff * 0.7)
    pen.fill(jib, colour=mix(sail, trim, pick(rng, (0.0, 0.75))), shade=0.6)
    bow, stern = curve((-0.98, 0.38), (-0.8, 0.68), (-0.5, 0.86)), curve((0.52, 0.86), (0.78, 0.68), (0.9, 0.4))
    body = polygon(*bow, *stern, *curve((0.4, 0.47), (-0.4, 0.47), (-0.98, 0.38)))
    pen.fill(body, colour=hull, shade=0.8)
    pen.fill(tube((-1, 0.46), (0, 0.56), (1, 0.47), width=0.09), colour=WHITE, shade=0.2, line=0, inside=body)
    for x in (-0.3, 0.0, 0.3):
        pen.fill(ellipse(x, 0.68, 0.06), colour=rgb("#CFE8F2"), shade=0.4, line=0.025)


def _sail(top, out, foot, puff) -> np.ndarray:
    middle = ((top[0] + out[0]) / 2 + puff, (top[1] + out[1]) / 2 - abs(puff) * 0.3)
    return np.concatenate([curve(top, middle, out), polygon(foot)])


# --- rocket -----------------------------------------------------------------------------------------------------


def rocket(pen: Pen, rng):
    trim, second = two(rng, BRIGHT)
    hull = pick(rng, [WHITE, CREAM, lighter(second, 0.7)])
    pen = pen.moved(0, -0.05, turn=rng.uniform(-30, 30), scale=0.95)
    reach = rng.uniform(1.0, 1.16)
    for width, tone, less in ((0.24, "#F26B3A", 0), (0.16, "#F9B53C", 0.16), (0.08, "#FFF0B0", 0.3)):
        jet = symmetric((0, 0.5), (width, 0.6), (width * 0.6, reach - less - 0.2), (0, reach - less))
        pen.fill(jet, colour=rgb(tone), shade=0.1, line=0.015)
    for side in (-1, 1):
        fin = polygon(*curve((0.26, 0.1), (0.52, 0.3), (0.6, 0.72)), *curve((0.42, 0.6), (0.26, 0.52)))
        pen.fill(fin * (side, 1), colour=trim, shade=0.6)
    body = symmetric((0, -1.0), (0.22, -0.72), (0.35, -0.3), (0.36, 0.12), (0.24, 0.54), (0, 0.58))
    pen.fill(body, colour=hull, shade=0.8)
    nose = polygon((-0.5, -1.1), (0.5, -1.1), *curve((0.5, -0.62), (0, -0.54), (-0.5, -0.62)))
    pen.fill(nose, colour=trim, line=0, inside=body, shade=0.7)
    pen.fill(tube((-0.5, 0.36), (0, 0.42), (0.5, 0.36), width=0.1), colour=second, line=0, inside=body, shade=0.5)
    pen.fill(ellipse(0, -0.22, 0.2), colour=mix(trim, BLACK, 0.15), shade=0.6)
    pen.fill(ellipse(0, -0.22, 0.14), colour=rgb("#9FD3E8"), shade=0.9, line=0.02)
    pen.mark(tube((-0.07, -0.2), (-0.02, -0.29), width=0.035), colour=WHITE)
    pen.fill(tube((0, 0.24), (0, 0.58), width=0.09, end=0.11), colour=darker(trim, 0.2), shade=0.6)


# --- umbrella ---------------------------------------------------------------------------------------------------


def umbrella(pen: Pen, rng):
    first, second = two(rng, BRIGHT)
    first, second = tinted(rng, first), pick(rng, [second, WHITE, lighter(first, 0.55)])
    pen = pen.moved(0, 0, turn=rng.uniform(-22, 22))
    wood = rgb("#8A5A3B")
    pen.fill(tube((0, -0.2), (0, 0.7), width=0.06), colour=rgb("#B9B4C2"), shade=0.3)
    hook = [(0, 0.6), (0, 0.76), (0.04, 0.88), (0.14, 0.94), (0.24, 0.9), (0.29, 0.78), (0.29, 0.74)]
    pen.fill(tube(*hook, width=0.1), colour=wood, shade=0.4)
    pen.fill(tube((0, -0.95), (0, -0.8), width=0.06), colour=wood, shade=0.3)
    height = rng.uniform(0.8, 0.95)
    edges = np.linspace(-1, 1, 7)
    rim = np.concatenate([_scallop(a, b) for a, b in pairwise(edges)])
    dome = np.stack([np.cos(np.linspace(0, np.pi, 30)), 0.05 - height * np.sin(np.linspace(0, np.pi, 30))], 1)
    canopy = np.concatenate([rim, dome])
    pen.fill(canopy, colour=first, shade=0.8)
    for k in (0, 2, 4):
        panel = [_rib(edges[k], height), _scallop(edges[k], edges[k + 1]), _rib(edges[k + 1], height)[::-1]]
        pen.fill(np.concatenate(panel), colour=second, shade=0.8, line=0, inside=canopy)
    for x in edges[1:-1]:
        pen.mark(tube(*_rib(x, height)[::3], width=0.022), colour=darker(first, 0.35), inside=canopy)


def _scallop(a, b) -> np.ndarray:
    return curve((a, 0.05), ((a + b) / 2, -0.05), (b, 0.05))[:-1]


def _rib(x, height) -> np.ndarray:
    t = np.linspace(0, np.pi / 2, 10)
    return np.stack([x * np.sin(t), 0.05 - height * np.cos(t)], 1)


# --- mug --------------------------------------------------------------------------------------------------------


def mug(pen: Pen, rng):
    glaze, motif = two(rng, BRIGHT)
    glaze, motif = tinted(rng, pick(rng, [glaze, lighter(glaze, 0.6)])), pick(rng, [WHITE, motif])
    taper, tilt = rng.uniform(0.0, 0.14), rng.uniform(0.14, 0.24)
    pen = pen.moved(-0.16, 0)
    handle = tube((0.5, -0.4), (0.92, -0.4), (1.02, 0.05), (0.8, 0.38), (0.48, 0.42), width=0.19, end=0.16)
    pen.fill(handle, colour=darker(glaze, 0.1), shade=0.7)
    side = np.linspace(0, np.pi, 24)
    bottom = np.stack([(0.64 - taper) * np.cos(side), 0.72 + tilt * 0.9 * np.sin(side)], 1)
    body = np.concatenate([polygon((0.66, -0.68)), bottom, polygon((-0.66, -0.68))])
    pen.fill(body, colour=glaze, shade=0.9)
    pick(rng, (_mug_heart, _mug_stripes, _mug_dots))(pen, body, motif)
    pen.mark(tube((-0.5, -0.4), (-0.48 + taper * 0.6, 0.5), width=0.08, end=0.05), colour=WHITE, alpha=0.45)
    pen.fill(ellipse(0, -0.68, 0.66, tilt), colour=lighter(glaze, 0.35), shade=0.3)
    drink = pick(rng, [rgb("#5B3A29"), rgb("#B9773F"), rgb("#7A4B2C")])
    pen.fill(ellipse(0, -0.66, 0.56, tilt * 0.74), colour=drink, shade=0.6, line=0.02)


def _mug_heart(pen, body, colour):
    half = curve((0, 0.42), (-0.3, 0.1), (-0.24, -0.12), (-0.08, -0.14), (0, -0.02))
    heart = np.concatenate([half, half[::-1] * (-1, 1)])
    pen.fill(heart, colour=colour, shade=0.4, line=0.02)


def _mug_stripes(pen, body, colour):
    bands = [tube((-0.8, y - 0.12), (0, y + 0.08), (0.8, y - 0.12), width=0.13) for y in (-0.15, 0.15, 0.45)]
    pen.fill(*bands, colour=colour, shade=0.5, line=0, inside=body)


def _mug_dots(pen, body, colour):
    rows = [(x + 0.15 * (i % 2), 0.28 * i - 0.18) for i in range(4) for x in np.arange(-0.6, 0.7, 0.3)]
    pen.fill(*[ellipse(x, y, 0.075) for x, y in rows], colour=colour, shade=0.5, line=0, inside=body)
