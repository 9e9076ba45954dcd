"""Blue twill: dyed warp over a pale weft, which shows at every fourth crossing."""

import cv2
import numpy as np

from xailab.datasets.drawing.shapes import fill, noise, placed, spot, thread, walk
from xailab.datasets.inspection.flaws import Flaw
from xailab.datasets.inspection.light import Picture, grey, lamp, lay, painted, rgb, shade

DEFECTS = ("hole", "stain", "thread", "missing")

WARPS, WEFTS = 50, 50  # threads across the picture
INDIGO, PALE, GAP = rgb("#46689F"), rgb("#C9D0DA"), rgb("#141A26")


def draw(side: int, rng, flaw: Flaw, split: str) -> Picture:
    u, v = placed(side, turn=0.8 * rng.standard_normal())
    wave = 0.003 * noise(rng, side, 6), 0.003 * noise(rng, side, 6)
    u = (u + wave[0] + 1) * WARPS + rng.uniform(0, 8)
    v = (v + wave[1] + 1) * WEFTS + rng.uniform(0, 8)
    warp, weft = u.astype(np.int32), v.astype(np.int32)
    across, down = (each - np.floor(each) - 0.5 for each in (u, v))  # from the middle of each crossing
    step = ((warp - weft) & 3).astype(np.float32)  # 0 where the weft lies on top; then the warp rises, lies and sinks
    rise = (step - 2 - down) * (1 / 1.6)
    dyed = np.sqrt(np.maximum(1 - 3.4 * across * across, 0.03)) * (1 - 0.4 * rise * rise)
    pale = np.sqrt(np.maximum(1 - 3.4 * down * down, 0.03)) * (1 - 2.2 * across * across)
    fuzz = 0.07 * noise(rng, side, 180)
    threads = 0.06 * rng.standard_normal((2, 64)).astype(np.float32)
    dyed *= 1 + fuzz + threads[0].take(warp, mode="wrap") + 0.05 * noise(rng, side, WARPS, 8)
    pale *= 1 + fuzz + threads[1].take(weft, mode="wrap")
    weft_on_top = step == 0
    bare = None
    if flaw.kind == "missing":
        bare = _missing(flaw, warp, v, weft)
        pale[bare] *= np.where(weft_on_top, 0.7, 0.35).astype(np.float32)[bare]  # slack, and in the shade
        weft_on_top |= bare
    yarn = np.where(weft_on_top, pale, dyed)
    ground, tops = GAP.tolist(), zip((PALE - GAP).tolist(), (INDIGO - GAP).tolist(), strict=True)
    parts = [g + yarn * np.where(weft_on_top, *map(np.float32, top)) for g, top in zip(ground, tops, strict=True)]
    picture = cv2.merge(parts)
    picture = cv2.GaussianBlur(picture, (0, 0), side * 0.0021)
    if flaw.kind in FLAWS:
        picture = FLAWS[flaw.kind](side, flaw, picture)
    return picture * lamp(rng, side, -120)


def _missing(flaw, warp, v, weft):
    """Where a warp thread, or two, should lie and does not."""
    first = WARPS + flaw.rng.integers(6, WARPS - 6) - WARPS // 2 + 4
    middle, half = (1 + flaw.rng.uniform(-0.2, 0.2)) * WEFTS + 4, flaw.grade(0.15, 0.5) * WEFTS
    count = 1 + (flaw.severity > 0.5)
    return (warp >= first) & (warp < first + count) & (np.abs(v - middle) < half)


def _hole(side, flaw, picture):
    """A hole with frayed ends of thread."""
    at = flaw.rng.uniform(-0.35, 0.35, 2)
    radius = flaw.grade(0.02, 0.06)
    alpha = spot(flaw.rng, side, at[0].item(), at[1].item(), radius, ragged=0.35, soft=0.12)
    picture = lay(picture, GAP, alpha)
    for k in range(int(flaw.grade(5, 12))):
        heading = flaw.rng.uniform(0, 360)
        out = np.array([np.cos(np.radians(heading)), np.sin(np.radians(heading))])
        x, y = at + 1.25 * radius * out
        end = walk(flaw.rng, x, y, flaw.rng.uniform(0.5, 1.3) * radius, heading + 180, wander=30)
        picture = lay(picture, (INDIGO, PALE)[k % 2] * 0.85, fill(side, thread(end, 0.007, 0.003)))
    return picture


def _stain(side, flaw, picture):
    """A dark, greasy blot."""
    x, y = flaw.rng.uniform(-0.33, 0.33, 2).tolist()
    alpha = spot(flaw.rng, side, x, y, flaw.grade(0.06, 0.14), ragged=0.4, soft=0.3)
    return lay(picture, picture * (rgb("#C8B49A") / 255 * flaw.grade(1.0, 0.6)), alpha)


def _thread(side, flaw, picture):
    """A loose thread on top."""
    at = flaw.rng.uniform(-0.35, 0.1), flaw.rng.uniform(-0.3, 0.3)
    path = walk(flaw.rng, *at, flaw.grade(0.15, 0.6), flaw.rng.uniform(-70, 70), wander=35, steps=7)
    width = flaw.grade(0.009, 0.015)
    alpha = fill(side, thread(path, width))
    picture = picture * grey(shade(alpha, -120, 0.008, 0.004, 0.6))
    twist = 0.85 + 0.12 * noise(flaw.rng, side, 90)
    return lay(picture, painted(PALE, twist), alpha)


FLAWS = {"hole": _hole, "stain": _stain, "thread": _thread}
