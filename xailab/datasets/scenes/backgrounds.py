"""The places the objects stand in, none of them tied to a class: recipes in [0, 1], x to the right and y down."""

import numpy as np

from xailab.datasets.drawing.colours import WHITE, darker, lighter, mix, rgb
from xailab.datasets.drawing.paths import box, curve, ellipse, polygon, tube
from xailab.datasets.drawing.pen import Pen

FRAME = box(-0.02, -0.02, 1.02, 1.02)


def one_of(rng, *codes) -> np.ndarray:
    return rgb(codes[rng.integers(len(codes))])


def ridge(rng, y: float, height: float, n: int = 6) -> np.ndarray:
    """A rolling skyline at y that reaches down to the lower edge."""
    x = np.linspace(-0.1, 1.1, n)
    return np.concatenate(
        [curve(*zip(x, y + rng.uniform(-height, height, n), strict=True)), polygon((1.1, 1.1), (-0.1, 1.1))]
    )


def clouds(pen, rng, n: int, alpha: float = 0.85):
    for _ in range(n):
        x, y, s = rng.uniform(0, 1), rng.uniform(0.05, 0.32), rng.uniform(0.04, 0.09)
        puffs = [
            ellipse(x + d * s, y - h * s, r * s, r * s * 0.7)
            for d, h, r in ((-1.3, 0, 0.8), (0, 0.35, 1.1), (1.2, 0.05, 0.9))
        ]
        pen.fill(*puffs, colour=rgb("#F7F8FA"), shade=0.25, line=0, alpha=alpha)


def tufts(pen, rng, colour, n: int, y0: float):
    for _ in range(n):
        x, y, s = rng.uniform(0, 1), rng.uniform(y0, 1), rng.uniform(0.02, 0.045)
        for lean in (-0.6, 0, 0.6):
            pen.mark(polygon((x - 0.2 * s, y), (x + lean * s, y - s), (x + 0.2 * s, y)), colour=colour)


def stones(pen, rng, colour, n: int, y0: float):
    for _ in range(n):
        s = rng.uniform(0.015, 0.04)
        pen.fill(ellipse(rng.uniform(0, 1), rng.uniform(y0, 1), s, s * 0.6), colour=colour, shade=0.6, line=0)


def meadow(pen: Pen, rng):
    pen.wash(one_of(rng, "#7FC4EC", "#9AD0E8", "#F7C9A0"), rgb("#F3F1DC"), y1=0.6)
    clouds(pen, rng, int(rng.integers(1, 4)))
    green = one_of(rng, "#8CC152", "#79B560", "#A9C452", "#6BAF7A")
    for k, y in enumerate((0.42, 0.52, 0.66)):
        pen.fill(ridge(rng, y, 0.06), colour=mix(mix(green, rgb("#BFDDE0"), 0.45), green, k / 2), shade=0.3, line=0)
    tufts(pen, rng, darker(green, 0.25), 9, 0.7)


def beach(pen: Pen, rng):
    pen.wash(one_of(rng, "#6EC1E4", "#8FD3E8", "#F5A97F"), rgb("#FDEFD2"), y1=0.45)
    clouds(pen, rng, int(rng.integers(0, 3)))
    sea = one_of(rng, "#2E9CB8", "#3FB3B0", "#3A7FB5")
    pen.wash(sea, lighter(sea, 0.35), 0.4, 0.72)
    for _ in range(9):
        x, y = rng.uniform(0, 1), rng.uniform(0.43, 0.6)
        pen.mark(tube((x, y), (x + rng.uniform(0.05, 0.16), y), width=0.007), colour=lighter(sea, 0.6))
    sand = one_of(rng, "#F2D8A0", "#EBCB94", "#F5E1BB")
    shore = ridge(rng, 0.64, 0.03)
    pen.mark(shore - (0, 0.02), colour=WHITE)
    pen.fill(shore, colour=sand, shade=0.3, line=0)
    stones(pen, rng, darker(sand, 0.3), 6, 0.7)


def room(pen: Pen, rng):
    wall = one_of(rng, "#E9D8C4", "#BFD4D9", "#D9C7DD", "#C8D8BC", "#F0D5C0", "#93AEB8")
    pen.wash(lighter(wall, 0.2), darker(wall, 0.08), y1=0.72)
    floor = one_of(rng, "#B98458", "#9C6F4E", "#CDA074", "#8D7B78")
    pen.wash(darker(floor, 0.15), floor, 0.7)
    for x in np.linspace(-0.6, 1.6, 10):
        pen.fill(
            polygon((x, 1.02), (0.5 + (x - 0.5) * 0.55, 0.7), (0.504 + (x - 0.5) * 0.55, 0.7), (x + 0.012, 1.02)),
            colour=darker(floor, 0.35),
            shade=0,
            line=0,
        )
    pen.fill(box(-0.02, 0.675, 1.02, 0.71), colour=lighter(wall, 0.6), shade=0.1, line=0)
    _window(pen, rng, rng.uniform(0.05, 0.62))
    if rng.random() < 0.6:
        rug = one_of(rng, "#C9686B", "#5C8A9C", "#D8A755")
        for s, colour in ((1, rug), (0.82, lighter(rug)), (0.74, rug)):
            pen.fill(ellipse(0.5, 0.86, 0.42 * s, 0.1 * s), colour=colour, shade=0.2, line=0)


def _window(pen, rng, x):
    pen.fill(box(x - 0.02, 0.08, x + 0.34, 0.5), colour=rgb("#F7F2EA"), shade=0.2, line=0.006)
    sky = one_of(rng, "#9FD3EE", "#F6C89B", "#41507F")
    for x0 in (x, x + 0.17):
        for y0 in (0.1, 0.295):
            pen.fill(box(x0, y0, x0 + 0.15, y0 + 0.185), colour=sky, shade=0.5, line=0)


def night(pen: Pen, rng):
    sky = one_of(rng, "#1B2550", "#2A2258", "#17385A")
    pen.wash(sky, mix(sky, rgb("#8E77B8"), 0.6), y1=0.8)
    for x, y, r in zip(rng.uniform(0, 1, 40), rng.uniform(0, 0.65, 40), rng.uniform(0.002, 0.006, 40), strict=True):
        pen.mark(ellipse(x, y, r), colour=rgb("#FDF4CF"))
    x, y = rng.uniform(0.1, 0.9), rng.uniform(0.1, 0.28)
    pen.glow(x, y, 0.24, colour=rgb("#FFF2C4"), alpha=0.5)
    pen.fill(ellipse(x, y, 0.075), colour=rgb("#FFF3CC"), shade=0.3, line=0)
    for k, y in enumerate((0.66, 0.8)):
        pen.fill(ridge(rng, y, 0.06), colour=mix(rgb("#4C4A86"), rgb("#2B2C5E"), k), shade=0.3, line=0)


def forest(pen: Pen, rng):
    mist = one_of(rng, "#DCE9D5", "#E9E6C9", "#CFE3E2")
    pen.wash(mist, mix(mist, rgb("#8DB58A"), 0.5))
    green = one_of(rng, "#3E7D5A", "#4C7F44", "#2F6F6B")
    for k, (y, h, n) in enumerate(((0.6, 0.36, 12), (0.72, 0.46, 9))):
        tone = mix(mist, green, 0.4 + 0.35 * k)
        for x in np.linspace(-0.05, 1.05, n) + rng.uniform(-0.03, 0.03, n):
            _fir(pen, x, y + rng.uniform(-0.02, 0.05), h * rng.uniform(0.8, 1.15), tone)
    ground = mix(green, rgb("#A9C063"), 0.55)
    pen.fill(ridge(rng, 0.645, 0.015), colour=ground, shade=0.3, line=0)
    tufts(pen, rng, darker(ground, 0.2), 8, 0.74)


def _fir(pen, x, y, h, colour):
    pen.mark(box(x - 0.01, y - 0.1, x + 0.01, y + 0.08), colour=darker(colour, 0.3))
    boughs = []
    for k in range(3):
        top, w = y - h + k * h * 0.24, h * (0.13 + 0.06 * k)
        boughs.append(polygon((x, top), (x + w, top + h * 0.42), (x - w, top + h * 0.42)))
    pen.fill(*boughs, colour=colour, shade=0.5, line=0)


def city(pen: Pen, rng):
    sky = one_of(rng, "#F7B98B", "#A8D3EA", "#C3B3E0", "#5A6BA8")
    pen.wash(sky, lighter(sky, 0.6), y1=0.8)
    for k in range(2):
        tone = mix(lighter(sky, 0.2), rgb("#4B5378"), 0.35 + 0.35 * k)
        x = -0.05
        while x < 1.05:
            w, top = rng.uniform(0.09, 0.18), rng.uniform(0.18, 0.45) + 0.12 * k
            pen.fill(box(x, top, x + w, 0.85), colour=mix(tone, sky, rng.uniform(0, 0.2)), shade=0.3, line=0)
            _lights(pen, x, top, w, lighter(tone, 0.45 + 0.2 * k))
            x += w + rng.uniform(0, 0.03)
    pen.wash(rgb("#8A8A98"), rgb("#B6B4BD"), 0.78)
    pen.fill(box(-0.02, 0.77, 1.02, 0.8), colour=rgb("#D5D2D6"), shade=0.1, line=0)


def _lights(pen, x, top, w, colour):
    rows = np.arange(top + 0.04, 0.74, 0.07)
    columns = np.arange(x + 0.02, x + w - 0.03, 0.04)
    panes = [box(c, r, c + 0.018, r + 0.032) for r in rows for c in columns]
    if panes:
        pen.mark(*panes, colour=colour)


def wallpaper(pen: Pen, rng):
    paper = one_of(rng, "#F1DFC7", "#C9DDE2", "#E6CFDD", "#D4E2C6", "#39597A", "#5E8577")
    ink = mix(paper, one_of(rng, "#FFFFFF", "#B0647C", "#4E7C8C", "#D99A4E"), 0.45)
    pen.fill(FRAME, colour=paper, shade=0.25, line=0)
    motif, step = rng.integers(3), rng.uniform(0.1, 0.16)
    grid = np.arange(-step, 1 + step, step)
    for row, y in enumerate(grid):
        if motif == 0:
            pen.mark(box(y, -0.02, y + step * 0.45, 1.02), colour=ink)
            continue
        for x in grid + step / 2 * (row % 2):
            shape = (
                ellipse(x, y, step * 0.2)
                if motif == 1
                else polygon((x - step / 4, y), (x, y - step / 2.6), (x + step / 4, y), (x, y + step / 2.6))
            )
            pen.mark(shape, colour=ink)
    _boards(pen, rng, 0.82)


def table(pen: Pen, rng):
    wall = one_of(rng, "#D9E4DF", "#E8D4C8", "#C6CFE3", "#6F8F8C", "#EFE3C2")
    pen.wash(lighter(wall, 0.3), darker(wall, 0.18), y1=0.66)
    for x in (rng.uniform(0, 0.3), rng.uniform(0.6, 0.9)):
        pen.glow(x, rng.uniform(0.1, 0.4), rng.uniform(0.15, 0.3), colour=rgb("#FFF6DC"), alpha=0.4)
    _boards(pen, rng, 0.62)


def _boards(pen, rng, y):
    wood = one_of(rng, "#B07B4F", "#C99A68", "#8C5E40", "#D8B58A")
    pen.wash(darker(wood, 0.2), lighter(wood, 0.15), y)
    for k in (0.16, 0.42, 0.72):
        h = y + (1 - y) * k
        pen.mark(box(-0.02, h, 1.02, h + 0.006), colour=darker(wood, 0.4))
        for _ in range(3):
            x = rng.uniform(0, 0.9)
            grain = tube((x, h + 0.03), (x + 0.1, h + 0.035), (x + 0.2, h + 0.028), width=0.004)
            pen.mark(grain, colour=darker(wood, 0.2))


def brick(pen: Pen, rng):
    clay = one_of(rng, "#B5654A", "#A88B7A", "#D8CFC4", "#7D8796")
    pen.fill(FRAME, colour=lighter(clay, 0.4), shade=0.2, line=0)
    for row, y in enumerate(np.arange(0, 0.8, 0.08)):
        tones = rng.uniform(0, 0.22, 7)
        for tone, x in zip(tones, np.arange(-0.1, 1.2, 0.2) - 0.1 * (row % 2), strict=True):
            pen.mark(box(x, y, x + 0.188, y + 0.068), colour=darker(clay, tone))
    stone = one_of(rng, "#A9A5A0", "#8F8B95", "#C4B9A6")
    pen.wash(darker(stone, 0.2), lighter(stone, 0.1), 0.79)
    stones(pen, rng, darker(stone, 0.25), 5, 0.84)


def mountains(pen: Pen, rng):
    sky = one_of(rng, "#8EC5EA", "#F4B6A0", "#B9C6EE")
    pen.wash(sky, lighter(sky, 0.7), y1=0.7)
    clouds(pen, rng, int(rng.integers(0, 3)), 0.7)
    for x in rng.permutation([0.08, 0.42, 0.85]):
        _peak(pen, x, rng.uniform(0.14, 0.34), mix(sky, rgb("#56698F"), rng.uniform(0.5, 0.9)))
    ground = one_of(rng, "#EEF3F7", "#8DB27A", "#C9B48A")
    for k, y in enumerate((0.64, 0.76)):
        pen.fill(ridge(rng, y, 0.03), colour=mix(mix(ground, sky, 0.3), ground, k), shade=0.3, line=0)
    stones(pen, rng, darker(ground, 0.3), 5, 0.82)


def _peak(pen, x, top, colour):
    rock = polygon((x, top), (x + 0.4, 0.8), (x - 0.4, 0.8))
    pen.fill(rock, colour=colour, shade=0.2, line=0)
    pen.fill(
        polygon((x, top), (x + 0.4, 0.8), (x + 0.02, 0.8), (x - 0.05, top + 0.2)),
        colour=darker(colour, 0.25),
        shade=0.1,
        line=0,
    )
    pen.fill(
        polygon(
            (x - 0.12, top + 0.18),
            (x - 0.05, top + 0.13),
            (x, top + 0.2),
            (x + 0.06, top + 0.13),
            (x + 0.12, top + 0.18),
            (x, top - 0.1),
        ),
        colour=WHITE,
        shade=0.2,
        line=0,
        inside=rock,
    )


def bokeh(pen: Pen, rng):
    base = one_of(rng, "#2D3E5E", "#3B5B4C", "#6B4266", "#8C5A3C", "#C98B7B", "#6D9FB5")
    pen.wash(darker(base, 0.3), lighter(base, 0.3))
    for _ in range(14):
        x, y, r = rng.uniform(0, 1), rng.uniform(0, 1), rng.uniform(0.03, 0.1)
        tone = mix(base, one_of(rng, "#FFD98E", "#FFB3A0", "#BFE6F2", "#E9C6FF"), 0.7)
        pen.fill(ellipse(x, y, r), colour=tone, shade=0.1, line=0, alpha=rng.uniform(0.2, 0.5))


def lake(pen: Pen, rng):
    sky = one_of(rng, "#BFE3EE", "#F9D9B0", "#D5C8EA")
    pen.wash(sky, lighter(sky, 0.6), y1=0.5)
    green = one_of(rng, "#5F9E78", "#7FA25C", "#4F8A94")
    for k, y in enumerate((0.36, 0.42)):
        pen.fill(ridge(rng, y, 0.06), colour=mix(sky, green, 0.4 + 0.4 * k), shade=0.3, line=0)
    water = mix(rgb("#4FA3C7"), sky, 0.3)
    pen.wash(lighter(water, 0.3), water, 0.47, 0.85)
    for _ in range(8):
        x, y = rng.uniform(0, 1), rng.uniform(0.5, 0.72)
        pen.fill(
            tube((x, y), (x + rng.uniform(0.05, 0.2), y), width=0.006), colour=lighter(water, 0.6), shade=0, line=0
        )
    pen.fill(ridge(rng, 0.77, 0.025), colour=mix(green, rgb("#C2CF78"), 0.4), shade=0.3, line=0)
    tufts(pen, rng, darker(green, 0.1), 8, 0.8)


BACKGROUNDS = (meadow, beach, room, night, forest, city, wallpaper, table, brick, mountains, bokeh, lake)
