"""Cat, dog, bird, fish and butterfly: drawing recipes in about [-1, 1], x to the right and y down."""

import numpy as np

from xailab.datasets.drawing.colours import BLACK, BRIGHT, PINK, WHITE, darker, lighter, mix, pick, rgb, tinted, two
from xailab.datasets.drawing.paths import blob, box, curve, ellipse, polygon, symmetric, tube
from xailab.datasets.drawing.pen import Pen


def both(paths) -> list[np.ndarray]:
    """The paths and their mirror images."""
    return [path * (side, 1) for path in paths for side in (-1, 1)]


def spark(pen: Pen, x: float, y: float, r: float):
    """A highlight."""
    pen.mark(ellipse(x, y, r), colour=WHITE)


# --- cat --------------------------------------------------------------------------------------------------------

CAT_FURS = [rgb(c) for c in ("#E9994E", "#8F97A6", "#E8C48E", "#4A4A5A", "#A67C58", "#C9C2BC")]


def cat(pen: Pen, rng):
    fur = tinted(rng, pick(rng, CAT_FURS), 8)
    pick(rng, (_cat_sitting, _cat_walking, _cat_lying))(pen, rng, fur, darker(fur, 0.55), mix(fur, WHITE, 0.62))


def _cat_sitting(pen, rng, fur, stripe, pale):
    sway = rng.uniform(-0.08, 0.12)
    _cat_tail(pen, [(0.25, 0.84), (0.7, 0.82), (0.9, 0.5), (0.78 + sway, 0.2), (0.92 + sway, -0.06)], fur, stripe)
    body = symmetric((0, -0.3), (0.3, -0.1), (0.44, 0.4), (0.47, 0.84), (0, 0.95))
    pen.fill(body, colour=fur)
    bands = [tube((0.5, y), (0.24, y + 0.06), width=0.09, end=0.02) for y in (0.12, 0.32, 0.52)]
    pen.fill(*both(bands), colour=stripe, line=0, inside=body)
    chest = symmetric((0, -0.05), (0.2, 0.1), (0.16, 0.5), (0, 0.62))
    pen.fill(chest, colour=pale, line=0, shade=0.3)
    for side in (-1, 1):
        pen.fill(ellipse(side * 0.4, 0.76, 0.17, 0.2), colour=fur)
        leg = tube((side * 0.13, 0.3), (side * 0.15, 0.86), width=0.2, end=0.18)
        pen.fill(leg, colour=mix(fur, pale, 0.2), shade=0.4)
        _paw(pen, side * 0.17, 0.9, 0.13, pale)
    _cat_head(pen.moved(rng.uniform(-0.04, 0.04), -0.42, turn=rng.uniform(-10, 10)), rng, fur, stripe, pale)


def _cat_walking(pen, rng, fur, stripe, pale):
    step, lift = rng.uniform(-0.14, 0.14), rng.uniform(-0.1, 0.1)
    _cat_tail(pen, [(0.6, 0.1), (0.82, -0.12), (0.8, -0.45), (0.9 + lift, -0.72), (0.7 + lift, -0.82)], fur, stripe)
    far = darker(fur, 0.25)
    for x, s in ((-0.26, step), (0.6, -step)):
        pen.fill(tube((x, 0.3), (x + s, 0.6), (x + s, 0.84), width=0.2, end=0.13), colour=far)
    back = [(-0.55, -0.05), (-0.2, -0.1), (0.2, -0.1), (0.6, -0.04), (0.72, 0.22)]
    belly = [(0.5, 0.44), (0, 0.46), (-0.48, 0.44), (-0.62, 0.2)]
    body = blob(*back, *belly)
    pen.fill(body, colour=fur)
    _stripes(pen, body, stripe, (-0.16, 0.06, 0.28, 0.5))
    pen.fill(ellipse(0.02, 0.5, 0.42, 0.12), colour=pale, line=0, inside=body, shade=0.3)
    for x, s in ((-0.46, -step), (0.42, step)):
        pen.fill(tube((x, 0.22), (x + s, 0.6), (x + s, 0.86), width=0.24, end=0.15), colour=fur, shade=0.35)
        _paw(pen, x + s - 0.04, 0.89, 0.11, pale)
    _cat_head(pen.moved(-0.56, -0.24, turn=rng.uniform(-12, 8), scale=0.88), rng, fur, stripe, pale)


def _cat_lying(pen, rng, fur, stripe, pale):
    back = [(-0.5, 0.05), (0.0, -0.08), (0.55, -0.02), (0.88, 0.3)]
    belly = [(0.82, 0.56), (0.2, 0.6), (-0.55, 0.6), (-0.72, 0.35)]
    body = blob(*back, *belly)
    pen.fill(body, colour=fur)
    _stripes(pen, body, stripe, (-0.02, 0.2, 0.42, 0.64))
    pen.fill(ellipse(0.56, 0.36, 0.28, 0.25), colour=fur)
    lift = rng.uniform(-0.1, 0.1)
    _cat_tail(pen, [(0.8, 0.48), (0.5, 0.62), (0.1, 0.6), (-0.1, 0.52 + lift / 3)], fur, stripe)
    for x in (-0.62, -0.34):
        pen.fill(tube((x + 0.1, 0.45), (x - 0.12, 0.56), width=0.2, end=0.17), colour=pale, shade=0.35)
    _cat_head(pen.moved(-0.42, -0.08, turn=rng.uniform(-14, 14), scale=0.95), rng, fur, stripe, pale)


def _stripes(pen, body, colour, positions):
    stripes = [tube((x, -0.2), (x + 0.05, 0.2), width=0.1, end=0.02) for x in positions]
    pen.fill(*stripes, colour=colour, line=0, inside=body)


def _cat_tail(pen, points, fur, stripe):
    tail = tube(*points, width=0.17, end=0.12)
    pen.fill(tail, colour=fur, shade=0.4)
    middle = curve(*points)
    rings = []
    for i in range(9, len(middle) - 3, 5):
        across = (middle[i] - middle[i - 1])[::-1] * (1, -1)
        across *= 0.12 / np.hypot(*across)
        rings.append(tube(middle[i] - across, middle[i] + across, width=0.05))
    x, y = middle[-1]
    pen.fill(*rings, ellipse(x, y, 0.08), colour=stripe, line=0, inside=tail)


def _cat_head(pen, rng, fur, stripe, pale):
    perk = rng.uniform(-0.04, 0.05)
    for side in (-1, 1):
        ear = polygon((0.46, -0.05), (0.43 + perk, -0.58 - perk), (0.36, -0.55), (0.06, -0.3))
        inner = polygon((0.4, -0.14), (0.4 + perk, -0.46 - perk), (0.17, -0.28))
        pen.fill(ear * (side, 1), colour=fur)
        pen.fill(inner * (side, 1), colour=PINK, line=0)
    head = symmetric((0, -0.37), (0.28, -0.31), (0.46, -0.05), (0.5, 0.14), (0.3, 0.3), (0, 0.35))
    pen.fill(head, colour=fur)
    brow = [tube((x * 1.1, -0.4), (x, y), width=0.08, end=0.03) for x, y in ((-0.13, -0.17), (0, -0.12), (0.13, -0.17))]
    cheeks = [tube((0.54, y), (0.36, y + 0.03), width=0.06, end=0.02) for y in (0.02, 0.13)]
    pen.fill(*brow, *both(cheeks), colour=stripe, line=0, inside=head)
    muzzle = both([ellipse(0.1, 0.17, 0.14, 0.11), ellipse(0, 0.25, 0.1, 0.08)])
    pen.fill(*muzzle, colour=pale, line=0, shade=0.3)
    iris = pick(rng, [rgb("#A7C957"), rgb("#F2C14E"), rgb("#6EC1B8")])
    for side in (-1, 1):
        _cat_eye(pen.moved(side * 0.21, -0.04, turn=side * -14), iris, side)
    drops = ((0.12, -0.06), (0.17, 0.02), (0.22, 0.1))
    whiskers = [tube((0.18, y), (0.4, y + d * 0.4), (0.64, y + d), width=0.018, end=0.01) for y, d in drops]
    pen.fill(*both(whiskers), colour=mix(WHITE, stripe, 0.15), shade=0, line=0.008)
    pen.fill(polygon((-0.065, 0.06), (0.065, 0.06), (0, 0.13)), colour=rgb("#D9727A"), shade=0.2, line=0.02)
    pen.mark(*both([tube((0, 0.13), (0.04, 0.2), (0.12, 0.19), width=0.025)]), colour=darker(pale, 0.95))


def _cat_eye(pen, iris, side):
    pen.fill(blob((-0.13, 0.0), (0, -0.1), (0.13, 0.0), (0, 0.085)), colour=iris, shade=0.3, line=0.03)
    pen.mark(ellipse(0, -0.005, 0.038, 0.085), colour=BLACK)
    spark(pen, 0.035, -0.04, 0.024)


def _paw(pen, x, y, r, colour):
    pen.fill(ellipse(x, y, r, r * 0.68), colour=colour, shade=0.35, line=0.025)
    toes = [box(x + dx * r - 0.01, y + 0.1 * r, x + dx * r + 0.01, y + 0.6 * r) for dx in (-0.3, 0.3)]
    pen.mark(*toes, colour=darker(colour, 0.5))


# --- dog --------------------------------------------------------------------------------------------------------

DOG_FURS = [rgb(c) for c in ("#F4EBDD", "#C58B54", "#8A5A3B", "#E6BE85", "#F2E6D2", "#6B5B57")]
TONGUE = rgb("#EE7A86")
DOG_EARS = [rgb(c) for c in ("#6B4430", "#3D3440", "#9C5B2E")]


def dog(pen: Pen, rng):
    fur, ear = tinted(rng, pick(rng, DOG_FURS), 7), tinted(rng, pick(rng, DOG_EARS), 6)
    collar = pick(rng, BRIGHT[:5])
    pick(rng, (_dog_sitting, _dog_standing))(pen, rng, fur, ear, collar)


def _dog_sitting(pen, rng, fur, ear, collar):
    wag = rng.uniform(-0.15, 0.15)
    pen.fill(tube((0.36, 0.8), (0.66, 0.62), (0.82, 0.3 + wag), width=0.17, end=0.08), colour=fur, shade=0.4)
    body = symmetric((0, -0.2), (0.34, -0.05), (0.47, 0.45), (0.5, 0.84), (0, 0.95))
    pen.fill(body, colour=fur)
    x, y = rng.uniform(0.25, 0.4) * pick(rng, (-1, 1)), rng.uniform(0.3, 0.5)
    pen.fill(ellipse(x, y, 0.2, 0.24), colour=ear, line=0, inside=body)
    chest = symmetric((0, 0.02), (0.22, 0.2), (0.14, 0.6))
    pen.fill(chest, colour=lighter(fur, 0.6), line=0, shade=0.3)
    for side in (-1, 1):
        pen.fill(ellipse(side * 0.42, 0.75, 0.2, 0.21), colour=fur)
        leg = tube((side * 0.17, 0.3), (side * 0.18, 0.84), width=0.25, end=0.22)
        pen.fill(leg, colour=mix(fur, WHITE, 0.15), shade=0.4)
        _paw(pen, side * 0.2, 0.88, 0.16, lighter(fur, 0.5))
    pen.fill(tube((-0.3, 0.03), (0, 0.13), (0.3, 0.03), width=0.13), colour=collar, shade=0.3)
    pen.fill(ellipse(0, 0.24, 0.085), colour=rgb("#F2C14E"), shade=0.7, line=0.025)
    _dog_face(pen.moved(0, -0.4, turn=rng.uniform(-13, 13)), rng, fur, ear)


def _dog_face(pen, rng, fur, ear):
    head = symmetric((0, -0.45), (0.27, -0.4), (0.4, -0.15), (0.36, 0.16), (0.22, 0.36), (0, 0.4))
    pen.fill(head, colour=fur)
    if rng.random() < 0.7:
        pen.fill(ellipse(pick(rng, (-1, 1)) * 0.2, -0.12, 0.17, 0.2), colour=ear, line=0, inside=head)
    pen.fill(tube((0, -0.42), (0, 0.05), width=0.09, end=0.2), colour=lighter(fur, 0.6), line=0, inside=head, shade=0.2)
    flop = rng.uniform(-0.08, 0.1)
    flap = blob((0.22, -0.42), (0.44, -0.4), (0.6 + flop, -0.02), (0.56 + flop, 0.26), (0.42, 0.22), (0.34, -0.1))
    for side in (-1, 1):
        pen.fill(flap * (side, 1), colour=ear, shade=0.6)
    if rng.random() < 0.75:
        pen.fill(symmetric((0.09, 0.28), (0.1, 0.48), (0, 0.56)), colour=TONGUE, shade=0.4)
        pen.mark(tube((0, 0.34), (0, 0.47), width=0.02), colour=rgb("#B84A5C"))
    muzzle = lighter(fur, 0.7)
    jowls = both([ellipse(0.12, 0.2, 0.17, 0.14), ellipse(0, 0.1, 0.15, 0.14)])
    pen.fill(*jowls, colour=muzzle, shade=0.4, line=0.02)
    pen.mark(*both([tube((0, 0.18), (0.05, 0.28), (0.17, 0.26), width=0.03)]), colour=darker(muzzle, 0.95))
    pen.mark(*both([tube((0.1, -0.28), (0.26, -0.24), width=0.035)]), colour=darker(ear, 0.3))
    for side in (-1, 1):
        pen.fill(ellipse(side * 0.19, -0.1, 0.072, 0.085), colour=BLACK, shade=0.2, line=0.012)
        spark(pen, side * 0.19 + 0.022, -0.13, 0.027)
    pen.fill(symmetric((0, 0.02), (0.12, 0.05), (0.06, 0.16), (0, 0.18)), colour=BLACK, shade=0.4, line=0)
    pen.mark(ellipse(-0.03, 0.06, 0.035, 0.018), colour=rgb("#9A93A8"))


def _dog_standing(pen, rng, fur, ear, collar):
    step, wag = rng.uniform(-0.14, 0.14), rng.uniform(-0.14, 0.12)
    pen.fill(tube((0.58, 0.02), (0.82, -0.2), (0.86 + wag, -0.52), width=0.18, end=0.08), colour=fur, shade=0.4)
    for x, s in ((-0.2, step), (0.6, -step)):
        pen.fill(tube((x, 0.3), (x + s, 0.6), (x + s, 0.84), width=0.24, end=0.18), colour=darker(fur, 0.25))
    back = [(-0.5, -0.2), (-0.2, -0.12), (0.3, -0.12), (0.62, -0.06), (0.72, 0.2)]
    belly = [(0.5, 0.42), (0, 0.46), (-0.4, 0.5), (-0.58, 0.2)]
    body = blob(*back, *belly)
    pen.fill(body, colour=fur)
    for x, y, r in ((rng.uniform(0, 0.2), -0.02, 0.2), (rng.uniform(0.4, 0.6), 0.12, 0.18)):
        pen.fill(blob((x - r, y), (x, y - r), (x + r, y - 0.03), (x + 0.1, y + r)), colour=ear, line=0, inside=body)
    for x, s in ((-0.4, -step), (0.42, step)):
        pen.fill(tube((x, 0.22), (x + s, 0.6), (x + s, 0.85), width=0.3, end=0.2), colour=fur, shade=0.35)
        _paw(pen, x + s - 0.05, 0.87, 0.14, lighter(fur, 0.5))
    pen.fill(tube((-0.62, 0.14), (-0.44, 0.1), (-0.3, -0.1), width=0.14), colour=collar, shade=0.3)
    _dog_profile(pen.moved(-0.52, -0.36, turn=rng.uniform(-14, 10)), rng, fur, ear)


def _dog_profile(pen, rng, fur, ear):
    if rng.random() < 0.75:
        tongue = blob((-0.3, 0.22), (-0.16, 0.22), (-0.17, 0.44), (-0.24, 0.5), (-0.31, 0.42))
        pen.fill(tongue, colour=TONGUE, shade=0.4)
    skull = [(-0.02, -0.36), (0.24, -0.28), (0.36, 0.0), (0.28, 0.3), (0.02, 0.38), (-0.16, 0.28)]
    snout = [(-0.4, 0.26), (-0.54, 0.14), (-0.5, 0.0), (-0.3, -0.06), (-0.2, -0.26)]
    head = blob(*skull, *snout)
    pen.fill(head, colour=fur)
    pen.fill(ellipse(-0.42, 0.16, 0.22, 0.15), colour=lighter(fur, 0.7), line=0, inside=head, shade=0.3)
    pen.mark(tube((-0.5, 0.16), (-0.32, 0.2), (-0.16, 0.14), width=0.03), colour=darker(fur, 0.95))
    pen.fill(ellipse(-0.52, 0.0, 0.1, 0.085), colour=BLACK, shade=0.4, line=0)
    spark(pen, -0.55, -0.03, 0.022)
    pen.fill(ellipse(-0.12, -0.08, 0.07, 0.08), colour=BLACK, shade=0.2, line=0.012)
    spark(pen, -0.14, -0.11, 0.026)
    swing = rng.uniform(-0.05, 0.1)
    tip = [(0.38 + swing, 0.36), (0.22 + swing, 0.4)]
    pen.fill(blob((0.06, -0.26), (0.28, -0.28), (0.44, 0.04), *tip, (0.1, 0.1)), colour=ear, shade=0.6)


# --- bird -------------------------------------------------------------------------------------------------------


def bird(pen: Pen, rng):
    coat, breast = two(rng, BRIGHT)
    coat, breast = tinted(rng, coat), lighter(tinted(rng, breast), 0.25)
    pick(rng, (_bird_perched, _bird_flying))(pen, rng, coat, breast)


def _bird_perched(pen, rng, coat, breast):
    pen = pen.moved(0, 0, turn=rng.uniform(-10, 12))
    for x in (-0.02, 0.18):
        leg = tube((x, 0.5), (x - 0.02, 0.88), width=0.06)
        toes = tube((x - 0.16, 0.92), (x - 0.02, 0.87), (x + 0.12, 0.92), width=0.05)
        pen.fill(leg, toes, colour=rgb("#C9782F"), shade=0.2, line=0.015)
    pen.fill(polygon((0.45, 0.1), (1.0, 0.36), (0.92, 0.54), (0.35, 0.42)), colour=darker(coat, 0.25))
    _bird_body(pen, coat, breast)
    lift = rng.uniform(-0.08, 0.08)
    wing = [(-0.12, -0.05), (0.2, -0.12), (0.52, 0.14 + lift), (0.84, 0.34 + lift), (0.4, 0.44 + lift), (0.0, 0.3)]
    pen.fill(blob(*wing), colour=darker(coat, 0.3), shade=0.6)
    for k, scale in enumerate((0.8, 0.55)):
        feathers = np.array(wing) * scale + (0.02, 0.02)
        pen.fill(blob(*feathers), colour=mix(darker(coat, 0.3), lighter(coat), 0.3 + 0.25 * k), shade=0.5, line=0.015)


def _bird_body(pen, coat, breast):
    back = [(-0.4, -0.66), (-0.1, -0.62), (0.08, -0.3), (0.5, 0.1), (0.52, 0.36)]
    belly = [(0.2, 0.6), (-0.2, 0.56), (-0.5, 0.22), (-0.58, -0.1), (-0.62, -0.42)]
    body = blob(*back, *belly)
    pen.fill(polygon((-0.56, -0.46), (-0.94, -0.28), (-0.54, -0.24)), colour=rgb("#F2A541"), shade=0.5)
    pen.fill(body, colour=coat)
    chest = blob((-0.62, -0.2), (-0.3, -0.22), (-0.08, 0.16), (0.1, 0.62), (-0.3, 0.7), (-0.7, 0.3))
    pen.fill(chest, colour=breast, line=0, inside=body, shade=0.4)
    pen.fill(ellipse(-0.36, -0.4, 0.12), colour=WHITE, shade=0.1, line=0.015)
    pen.mark(ellipse(-0.38, -0.4, 0.075), colour=BLACK)
    spark(pen, -0.4, -0.43, 0.028)


def _bird_flying(pen, rng, coat, breast):
    pen = pen.moved(-0.08, 0.24, turn=rng.uniform(-12, 14), scale=0.86)
    flap = rng.uniform(-0.12, 0.3)
    front = [(-0.16, -0.2), (-0.28, -0.7), (-0.5, -1.12 + flap), (-0.42, -1.24 + flap)]
    rear = [(-0.04, -1.08 + flap), (0.26, -0.72 + flap), (0.3, -0.1)]
    far = blob(*front, *rear)
    pen.fill(far, colour=darker(coat, 0.45), shade=0.6)
    pen.fill(polygon((0.35, 0.16), (1.0, 0.2), (0.86, 0.34), (0.98, 0.5), (0.3, 0.46)), colour=darker(coat, 0.25))
    _bird_body(pen, coat, breast)
    front = [(-0.26, 0.04), (-0.2, -0.34), (0.12, -0.78 + flap), (0.62, -1.12 + flap), (1.0, -1.2 + flap)]
    feathers = [(x, y + flap) for x, y in ((0.98, -0.98), (0.82, -0.94), (0.84, -0.72), (0.66, -0.66), (0.66, -0.4))]
    rear = [*feathers, (0.48, -0.36 + flap / 2), (0.46, -0.06), (0.3, 0.2), (-0.02, 0.26)]
    outline = np.concatenate([curve(*front), curve(*rear)])
    pen.fill(outline, colour=darker(coat, 0.3), shade=0.6)
    for scale, tone in ((0.76, mix(coat, darker(coat, 0.3), 0.4)), (0.5, lighter(coat, 0.3))):
        pen.fill(outline * scale + (-0.02, 0.02), colour=tone, shade=0.5, line=0.015)


# --- fish -------------------------------------------------------------------------------------------------------


def fish(pen: Pen, rng):
    base, band = two(rng, BRIGHT)
    base, band = tinted(rng, base), lighter(band, 0.55)
    tall, sweep = rng.uniform(0.38, 0.62), rng.uniform(-0.1, 0.1)
    fin = darker(mix(base, band, 0.3), 0.15)
    tail = blob((0.5, 0.0), (0.78, -0.3), (1.0, -0.46 + sweep), (0.9, -0.02 + sweep), (1.0, 0.44 + sweep), (0.78, 0.28))
    spine = [(-0.26, -tall - 0.16), (-0.02, -tall - 0.24), (0.2, -tall - 0.16), (0.42, -tall * 0.8 - 0.1)]
    top = polygon(*curve((-0.5, -tall * 0.6), *spine, (0.56, -0.2)), (0.3, 0.1), (-0.3, 0.1))
    low = blob((-0.12, tall * 0.6), (0.1, tall + 0.16), (0.3, tall + 0.18), (0.38, tall * 0.8), (0.5, 0.1))
    for part in (tail, top, low):
        pen.fill(part, colour=fin, shade=0.6)
    rays = [tube((x, 0), (x + 0.03, -tall - 0.1 + 0.3 * x * x), width=0.025) for x in (-0.22, 0.0, 0.2, 0.38)]
    rays += [tube((0.62, y * 0.4), (0.88, y + sweep), width=0.03) for y in (-0.24, 0, 0.22)]
    pen.mark(*rays, colour=darker(fin, 0.6))
    back = [(-0.74, -tall * 0.66), (-0.2, -tall), (0.34, -tall * 0.6), (0.66, -0.07)]
    body = blob((-0.96, 0.04), *back, *[(x, -y) for x, y in reversed(back)])
    pen.fill(body, colour=base, shade=0.8)
    pen.fill(ellipse(-0.15, tall * 0.98, 0.8, tall * 0.52), colour=lighter(base, 0.6), line=0, inside=body, alpha=0.6)
    pick(rng, (_fish_bands, _fish_scales))(pen, body, base, band)
    gill = tube((-0.42, -tall * 0.55), (-0.32, 0.0), (-0.42, tall * 0.55), width=0.035)
    pen.mark(gill, colour=darker(base), inside=body)
    flipper = blob((-0.2, 0.06), (0.12, 0.02), (0.2, 0.24 + sweep), (-0.08, 0.26))
    pen.fill(flipper, colour=lighter(fin, 0.25), shade=0.6, line=0.02)
    pen.fill(ellipse(-0.62, -tall * 0.22, 0.125), colour=WHITE, shade=0.2, line=0.02)
    pen.mark(ellipse(-0.645, -tall * 0.22, 0.075), colour=BLACK)
    spark(pen, -0.67, -tall * 0.22 - 0.035, 0.028)
    pen.mark(tube((-0.93, 0.13), (-0.83, 0.16), (-0.75, 0.11), width=0.035), colour=darker(base, 0.6))


def _fish_bands(pen, body, base, band):
    bands = [tube((x, -0.8), (x + 0.06, 0), (x, 0.8), width=w) for x, w in ((-0.12, 0.22), (0.26, 0.15))]
    pen.fill(*bands, colour=band, shade=0.3, line=0, inside=body)


def _fish_scales(pen, body, base, band):
    scale = tube((0, -0.09), (0.07, 0), (0, 0.09), width=0.025)
    places = [(0.16 * i - 0.2, 0.2 * j + 0.1 * (i % 2) - 0.5) for i in range(5) for j in range(6)]
    pen.fill(*[scale + place for place in places], colour=darker(base, 0.45), shade=0.2, line=0, inside=body)


# --- butterfly --------------------------------------------------------------------------------------------------


def butterfly(pen: Pen, rng):
    wing, spot = two(rng, BRIGHT)
    wing, spot = tinted(rng, wing), lighter(spot, 0.4)
    spread, dip = rng.uniform(0.72, 1.0), rng.uniform(-0.08, 0.1)
    edge = darker(wing, 0.72)
    tips = [(0.62, -0.86), (0.96, -0.82 + dip), (0.98, -0.44 + dip), (0.7, -0.06)]
    upper = polygon((0.05, -0.12), (0.22, -0.55), *tips, (0.3, 0.06), (0.05, 0.06))
    tips = [(0.74, 0.14), (0.82, 0.44), (0.62, 0.78 - dip), (0.4, 0.8 - dip)]
    lower = polygon((0.05, 0.02), (0.4, 0.04), *tips, (0.2, 0.5), (0.05, 0.2))
    for side in (-1, 1):
        half = pen.moved(0, 0, scale=(side * spread, 1))
        for shape, colour in ((lower, mix(wing, spot, 0.35)), (upper, wing)):
            _wing(half, shape, colour, edge, spot)
    pen.fill(tube((0, -0.3), (0, 0.45), width=0.13, end=0.07), colour=BLACK, shade=0.7, line=0.02)
    pen.fill(ellipse(0, -0.36, 0.09), colour=BLACK, shade=0.7, line=0.02)
    for side in (-1, 1):
        pen.mark(tube((side * 0.03, -0.42), (side * 0.12, -0.66), (side * 0.28, -0.8), width=0.03), colour=BLACK)
        pen.mark(ellipse(side * 0.28, -0.8, 0.04), colour=BLACK)


def _wing(pen, shape, colour, edge, spot):
    centre = shape.mean(0)
    outer = blob(*shape)
    pen.fill(outer, colour=edge, shade=0.4, line=0.02)
    pen.fill(blob(*(centre + (shape - centre) * 0.8 - (0.04, 0))), colour=colour, shade=0.8, line=0)
    for target in (shape[3], shape[4], shape[5]):
        x, y = mix(centre, target, 0.9)
        pen.mark(ellipse(x, y, 0.04), colour=WHITE)
        vein = tube((0.06, 0), mix(shape[0], centre, 0.5), mix(centre, target, 0.66), width=0.025, end=0.015)
        pen.mark(vein, colour=edge)
    pen.fill(ellipse(centre[0] + 0.1, centre[1] - 0.02, 0.13), colour=spot, shade=0.4, line=0.03)
