"""Lesson 09: its drawings of patches, losses and maps, its explorer, and its exercises' checks."""

import json
import tracemalloc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import ipywidgets as widgets
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from xailab import figures
from xailab.lessons import Wrong, exercise
from xailab.lessons.explorer import explorer
from xailab.lessons.judging import judge
from xailab.lessons.traces import watched
from xailab.localization import Box
from xailab.patch_svdd import Embeddings, Maps, Pairs, PatchSVDD, Step, nearest, rectangles
from xailab.patch_svdd.network import COARSE, FINE, starts

SIZES = {"fine": FINE, "coarse": COARSE}
TRUTH = figures.SKY
BRIGHT = 1.25  # times the largest value in good pictures: where a map's colours end
WINDOW = 20  # steps over which a line of losses is averaged
GUESS = float(np.log(8))  # cross-entropy of who guesses one of eight directions
ABLATION = Path(__file__).with_suffix("").with_name("patch_svdd_ablation.json")
Picture = UInt8[np.ndarray, "h w 3"]
Mask = Bool[np.ndarray, "h w"]


@cache
def ablation() -> dict:
    """What recipes/patch_svdd_ablation.py found; ``rows`` hold category, objective, lambda, AUROC by map, spread."""
    return json.loads(ABLATION.read_text(encoding="utf-8"))


def as_pictures(images: Float[Tensor, "n 3 h w"]) -> UInt8[np.ndarray, "n h w 3"]:
    """Tensors with values from 0 to 1 as pictures."""
    return (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


def _outline(axes: Axes, mask: Mask) -> None:
    """Draw the border of the true defect, on a black line, so that it is seen on any background."""
    if mask.any() and not mask.all():
        lines = axes.contour(mask.astype(float), [0.5], colors=[TRUTH], linewidths=1.4)
        lines.set_path_effects([patheffects.withStroke(linewidth=2.6, foreground="black")])


def _tight(figure: Figure) -> None:
    """Leave less room between pictures."""
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)


def draw_centre(
    normal: Float[Tensor, "n 2"], others: Float[Tensor, "m 2"], share: float = 0.95, reach: float = 3.4
) -> Figure:
    """Draw points of two dimensions with two notions of "far": from one centre, and from the nearest normal point.

    Args:
        normal: What was learned from.
        others: Anomalous points.
        share: Of the normal points inside the contours.
        reach: Half the side of the drawing.
    """
    side = torch.linspace(-reach, reach, 160)
    places = torch.stack(torch.meshgrid(side, side, indexing="xy"), -1).view(-1, 2)
    centre = normal.mean(0)
    gaps = torch.cdist(normal, normal).fill_diagonal_(torch.inf).amin(1)  # without itself
    figure, axes = figures.new(1, 2, width=9.6, height=4.4, sharex=True, sharey=True)
    for axis, title, of_places, of_normal in (
        (axes[0], "far from one centre", (places - centre).norm(dim=1), (normal - centre).norm(dim=1)),
        (axes[1], "far from the nearest normal point", nearest(places, normal)[0], gaps),
    ):
        level = float(of_normal.quantile(share))
        axis.contourf(side, side, of_places.view(160, 160), [0, level], colors=["#DCEBF5"])
        axis.contour(side, side, of_places.view(160, 160), [level], colors=[figures.BLACK], linewidths=1.4)
        axis.plot(*normal.T, "o", color=figures.BLUE, markersize=4, label="normal")
        axis.plot(*others.T, "^", color=figures.VERMILLION, markersize=8, label="anomalous")
        axis.set(title=title, xlabel="embedding, first number", xlim=(-reach, reach), ylim=(-reach, reach))
        axis.set_aspect("equal")
    axes[0].plot(*centre, "+", color=figures.BLACK, markersize=14, label="centre")
    axes[0].set(ylabel="second number")
    axes[0].legend(loc="upper left", fontsize=10)
    return figure


def draw_pairs(pictures: Sequence[Picture], position: Sequence[Pairs], close: Sequence[Pairs], patch: int) -> Figure:
    """Draw pairs of patches: above one of the position task, below, enlarged, one that is pulled together.

    Args:
        pictures: One for each column.
        position, close: A pair in each of them.
        patch: Side in pixels.
    """
    figure, axes = figures.new(2, len(pictures), width=2.5 * len(pictures), height=5.3, squeeze=False)
    _tight(figure)
    for above, below, picture, apart, near in zip(*axes, pictures, position, close, strict=True):
        ((main, neighbour),) = rectangles(apart, patch)
        figures.picture(above, picture)
        figures.outline(above, neighbour, figures.YELLOW)
        figures.outline(above, main, figures.SKY)
        ends = [((box.left + box.right) / 2 - 0.5, (box.top + box.bottom) / 2 - 0.5) for box in (neighbour, main)]
        above.annotate("", *ends, arrowprops={"arrowstyle": "-|>", "color": "black", "linewidth": 2})
        ((main, neighbour),) = rectangles(near, patch)
        figures.picture(below, picture)
        for box, colour in ((main, figures.SKY), (neighbour, figures.YELLOW)):
            corner = box.left - 0.5, box.top - 0.5
            below.add_patch(Rectangle(corner, patch, patch, fill=False, edgecolor=colour, linewidth=2.5))
        height, width = picture.shape[:2]
        middle = np.clip([main.left + patch / 2, main.top + patch / 2], patch, [width - patch, height - patch])
        below.set(xlim=middle[0] + np.array([-0.5, 0.5]) * 2 * patch - 0.5)
        below.set(ylim=middle[1] + np.array([0.5, -0.5]) * 2 * patch - 0.5)
    words = ("position:\nwhere does\nyellow lie,\nfrom blue?", "pull:\nblue and\nyellow\ntogether\n(enlarged)")
    for axis, name in zip(axes[:, 0], words, strict=True):
        axis.text(-0.06, 0.5, name, transform=axis.transAxes, ha="right", va="center")
    return figure


def draw_hierarchy(picture: Picture, corner: tuple[int, int]) -> Figure:
    """Draw a large patch as four small ones, and where their embeddings lie on the dense map.

    Args:
        picture: What the encoder looks at.
        corner: (row, column) of the large patch's top left pixel, even numbers.
    """
    top, left = corner
    corners = [(top + FINE * i, left + FINE * j) for i in (0, 1) for j in (0, 1)]
    figure, axes = figures.new(1, 2, width=8.8, height=4.4)
    figures.picture(axes[0], picture, "a large patch: four small ones")
    cells = [(side - FINE) // 2 + 1 for side in picture.shape[:2]]
    axes[1].set(xlim=(-1, cells[1]), ylim=(cells[0], -1), xlabel="column", ylabel="row", aspect="equal")
    axes[1].set_title("the dense map: an embedding at every dot")
    axes[1].plot(*np.meshgrid(np.arange(cells[1]), np.arange(cells[0])), ".", color="#C8C8C8", markersize=1.6)
    axes[1].grid(False)
    for (y, x), colour in zip(corners, (figures.SKY, figures.VERMILLION, figures.YELLOW, figures.PINK), strict=True):
        figures.outline(axes[0], (x, y, x + FINE, y + FINE), colour)
        axes[1].plot(x // 2, y // 2, "o", color=colour, markersize=11, markeredgecolor="black")
    y, x, apart = top // 2, left // 2, FINE // 2
    axes[1].annotate("", (x + apart, y - 3), (x, y - 3), arrowprops={"arrowstyle": "<->"})
    axes[1].annotate(f"{apart} apart", (x + apart / 2, y - 4), ha="center", va="bottom", fontsize=10)
    return figure


def draw_losses(runs: Mapping[str, Sequence[Step]]) -> Figure:
    """Draw, for each training, the position losses with the level of guessing, and how far embeddings are spread."""
    figure, axes = figures.new(2, len(runs), width=3.5 * len(runs) + 0.6, height=5.0, squeeze=False, sharey="row")
    for column, (name, history) in zip(axes.T, runs.items(), strict=True):
        values = np.array(history)
        width = WINDOW if len(values) >= 5 * WINDOW else 1
        steps = np.arange(width, len(values) + 1)

        def mean(i: int, values=values, width=width) -> np.ndarray:
            return np.convolve(values[:, i], np.ones(width) / width, "valid")

        for i, label, colour in ((0, "64 pixels", figures.BLUE), (1, "32 pixels", figures.VERMILLION)):
            column[0].plot(steps, mean(i), color=colour, label=label)
            column[1].semilogy(steps, mean(i + 4), color=colour, label="spread")
            column[1].semilogy(steps, mean(i + 2), color=colour, linestyle=":", label="pull")
        column[0].axhline(GUESS, color=figures.BLACK, linestyle="--", linewidth=1.3)
        column[0].set(title=name, ylim=(0, 3.2))
        column[1].set(xlabel="step")
    axes[0, 0].annotate(
        "guessing: ln 8", (0.03, GUESS + 0.2), xycoords=("axes fraction", "data"), va="bottom", fontsize=10
    )
    axes[0, 0].set(ylabel="position loss")
    axes[0, 0].legend(loc="lower left", fontsize=10)
    axes[1, 0].set(ylabel="spread of embeddings (line),\nneighbours' distance (dots)")
    return figure


class LiveLosses:
    """The losses of a training while it runs: ``display(live.picture)``, then ``fit(images, on_step=live)``.

    Args:
        every: Steps from one drawing to the next.

    Attributes:
        picture: An image widget.
        history: What the steps measured.
    """

    def __init__(self, every: int = 10):
        self.every, self.history = every, []
        self.picture = widgets.Image(format="png", layout=widgets.Layout(max_width="100%", object_fit="contain"))

    def __call__(self, number: int, measured: Step) -> None:
        """Take in one step; ``number`` counts from 1."""
        self.history.append(measured)
        if number % self.every == 0:
            self.picture.value = figures.png(draw_losses({f"{number} steps": self.history}))


def position_colours(places: Float[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n 3"]:
    """A colour for each place (row, column; shares of the way): blue to orange across, light to dark down."""
    down, across = places[..., :1], places[..., 1:]
    across = (1 - across) * to_rgb(figures.BLUE) + across * np.array(to_rgb(figures.ORANGE))
    return np.clip(across + 0.55 * (0.5 - down), 0, 1)


def draw_embeddings(
    groups: Mapping[str, tuple[Picture, Float[np.ndarray, "n 2"], Float[np.ndarray, "n 2"]]],
) -> Figure:
    """Draw embeddings in the plane, coloured by where their patch lies.

    Args:
        groups: By name: a picture, the points, and their patches' places (row, column; shares of
            the way from the first patch to the last).
    """
    figure, axes = figures.new(
        1, 2 * len(groups), width=5.4 * len(groups), height=3.7, width_ratios=[1, 2.2] * len(groups)
    )
    for (left, right), (name, (picture, points, places)) in zip(axes.reshape(-1, 2), groups.items(), strict=True):
        h, w = picture.shape[:2]
        key = position_colours(np.stack(np.mgrid[0:h, 0:w] / np.array([h, w])[:, None, None], -1))
        grey = picture.mean(2, keepdims=True) / picture.max()
        figures.picture(left, np.clip(key * (0.6 + 0.4 * grey), 0, 1), f"{name}: the key")
        right.scatter(*points.T, c=position_colours(places), s=14)
        right.set(title=f"{name}: embeddings", xticks=[], yticks=[])
        right.grid(False)
    return figure


class Match(NamedTuple):
    """A normal patch: its picture's number in the memory bank, its top left pixel (row, column), and how far it is."""

    picture: int
    corner: tuple[int, int]
    distance: float


@dataclass(frozen=True)
class Searched:
    """A category's test pictures, and all that a detector (with all patches in its memory bank) has to say of them.

    Attributes:
        detector: With the patches of ``normal`` in its memory bank, all of them.
        normal: Its pictures.
        pictures, masks, kinds: Of the test pictures.
        embeddings, maps: What the detector made of them.
    """

    detector: PatchSVDD
    normal: UInt8[np.ndarray, "m h w 3"]
    pictures: UInt8[np.ndarray, "n h w 3"]
    masks: Bool[np.ndarray, "n h w"]
    kinds: Sequence[str]
    embeddings: Embeddings
    maps: Maps

    def scale(self, kind: str) -> dict:
        """Colours of a kind of map: from 0 to somewhat above the largest value in a good test picture."""
        good = getattr(self.maps, kind)[torch.from_numpy(~self.masks.any((1, 2)))]
        return {"cmap": "inferno", "vmin": 0.0, "vmax": BRIGHT * float(good.max())}

    def place(self, size: str, at: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
        """Of the patches of a size, the one whose middle is nearest to a pixel: its cell, and its top left pixel."""
        stride = self.detector.strides[list(SIZES).index(size)]
        begin = [np.array(starts(side, SIZES[size], stride)) for side in self.masks.shape[1:]]
        cell = [int(np.abs(b + SIZES[size] / 2 - x).argmin()) for b, x in zip(begin, at, strict=True)]
        return tuple(cell), tuple(int(b[i]) for b, i in zip(begin, cell, strict=True))

    def matches(self, size: str, picture: int, cell: tuple[int, int], count: int = 3) -> list[Match]:
        """The nearest patches of as many different normal pictures, the nearest first."""
        bank = self.detector.banks[size]
        query = getattr(self.embeddings, size)[picture, :, *cell]
        distances = (bank.vectors - query).norm(dim=1).view(len(self.normal), -1)
        places = bank.places.view(*distances.shape, 3)
        best, where = distances.min(1)
        chosen = best.argsort()[:count].tolist()
        return [Match(i, tuple(places[i, where[i], 1:].tolist()), float(best[i])) for i in chosen]


def _box(corner: tuple[int, int], patch: int) -> Box:
    top, left = corner
    return Box(left, top, left + patch, top + patch)


def _crop(picture: Picture, corner: tuple[int, int], patch: int) -> UInt8[np.ndarray, "{patch} {patch} 3"]:
    return picture[corner[0] : corner[0] + patch, corner[1] : corner[1] + patch]


def draw_matches(
    searched: Mapping[str, Searched], chosen: Sequence[tuple[str, int, tuple[int, int]]], size: str = "fine", count=3
) -> Figure:
    """Draw patches and the nearest patches of normal pictures, each row one patch.

    Args:
        searched: By category.
        chosen: Category, number of the test picture, and a pixel (row, column) at the middle of the patch.
        size: "fine" or "coarse".
        count: How many normal pictures.
    """
    columns = 2 + count
    figure, axes = figures.new(
        len(chosen), columns, width=2.0 * columns + 0.4, height=2.25 * len(chosen), squeeze=False
    )
    for row, (category, number, at) in zip(axes, chosen, strict=True):
        s = searched[category]
        cell, corner = s.place(size, at)
        figures.picture(row[0], s.pictures[number], f"{category}: {s.kinds[number]}")
        _outline(row[0], s.masks[number])
        figures.outline(row[0], _box(corner, SIZES[size]))
        figures.picture(row[1], _crop(s.pictures[number], corner, SIZES[size]), "this patch")
        for axis, match in zip(row[2:], s.matches(size, number, cell, count), strict=True):
            patch = _crop(s.normal[match.picture], match.corner, SIZES[size])
            figures.picture(axis, patch, f"at {match.distance:.3g}")
    return figure


def draw_four_maps(rows: Sequence[tuple[str, Searched, int]]) -> Figure:
    """Draw, for each name, category and number, a test picture with its truth, and its four maps."""
    figure, axes = figures.new(len(rows), 5, width=10.6, height=2.2 * len(rows) + 0.1, squeeze=False)
    _tight(figure)
    for line, (name, s, number) in zip(axes, rows, strict=True):
        figures.picture(line[0], s.pictures[number], f"{name}: {s.kinds[number]}")
        _outline(line[0], s.masks[number])
        for axis, kind in zip(line[1:], Maps._fields, strict=True):
            figures.picture(axis, getattr(s.maps, kind)[number].numpy(), kind, **s.scale(kind))
    return figure


def draw_lambda(rows: Sequence[Mapping]) -> Figure:
    """Draw AUROC of the product map, and what is left of the spread, over lambda; dashed, the untrained encoders."""
    categories = list(dict.fromkeys(row["category"] for row in rows))
    figure, axes = figures.new(2, len(categories), width=4.6 * len(categories), height=5.6, squeeze=False, sharey="row")
    for column, category in zip(axes.T, categories, strict=True):
        own = [row for row in rows if row["category"] == category]
        trained = sorted((r for r in own if r["lambda"] is not None), key=lambda r: r["lambda"])
        untrained = next(r for r in own if r["objective"] == "untrained")
        x = [r["lambda"] for r in trained]
        for kind, colour, marker in (("pixel", figures.BLUE, "o"), ("image", figures.VERMILLION, "s")):
            column[0].semilogx(x, [r[kind]["product"] for r in trained], marker=marker, color=colour, label=kind)
            column[0].axhline(untrained[kind]["product"], color=colour, linestyle="--", linewidth=1.3)
        column[1].loglog(x, [r["spread"][1] / r["spread"][0] for r in trained], "^-", color=figures.GREEN)
        column[0].set(title=category, ylim=(0.4, 1.02))
        column[1].set(xlabel="lambda")
    axes[0, 0].set(ylabel="AUROC, product map")
    axes[0, 0].legend(loc="lower left", fontsize=10)
    axes[1, 0].set(ylabel="spread, last steps : first steps")
    return figure


def draw_search(
    s: Searched, picture: int = 1, row: int = 56, column: int = 40, size: str = "fine", kind: str = "product"
) -> Figure:
    """Draw a test picture and a map with one patch framed, the patch, and the nearest of three normal pictures.

    Args:
        s: Of one category.
        picture: Number of the test picture.
        row, column: Pixel at the middle of the patch.
        size: "fine" or "coarse".
        kind: Of the map.
    """
    cell, corner = s.place(size, (row, column))
    box, patch, map = _box(corner, SIZES[size]), SIZES[size], getattr(s.maps, kind)[picture]
    figure, axes = figures.new(1, 6, width=12.0, height=2.9, width_ratios=[1.5, 1.7, 1, 1, 1, 1])
    figures.picture(axes[0], s.pictures[picture], f"{s.kinds[picture]}, and the truth")
    _outline(axes[0], s.masks[picture])
    figures.outline(axes[0], box)
    figures.picture(axes[1], map.numpy(), f"{kind} map", **s.scale(kind))
    figures.outline(axes[1], box)
    figures.colour_bar(figure, axes[1], "anomaly score")
    figures.picture(axes[2], _crop(s.pictures[picture], corner, patch), "this patch")
    for axis, match in zip(axes[3:], s.matches(size, picture, cell), strict=True):
        found = _crop(s.normal[match.picture], match.corner, patch)
        figures.picture(axis, found, f"normal {match.picture + 1}\nat {match.distance:.3g}")
    return figure


def search_explorer(searched: Mapping[str, Searched]) -> widgets.VBox:
    """Choose category, picture, the patch's middle, its size and the map; see ``draw_search``."""
    first = next(iter(searched.values()))
    height, width = first.masks.shape[1:]
    count = min(len(each.pictures) for each in searched.values())

    def draw(category, picture=2, row=56, column=40, size="fine", kind="product") -> Figure:
        return draw_search(searched[category], picture - 1, row, column, size, kind)

    return explorer(
        draw,
        category=list(searched),
        picture=(1, count),
        row=widgets.IntSlider(56, 0, height, 4, description="row, pixels"),
        column=widgets.IntSlider(40, 0, width, 4, description="column, pixels"),
        size=widgets.Dropdown(options=[(f"{p} × {p}", name) for name, p in SIZES.items()], description="patch"),
        kind=widgets.Dropdown(options=list(Maps._fields), value="product", description="map"),
    )


STEPS = torch.tensor([(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)])


@exercise("09.1")
def _(my_neighbours) -> str:
    generator = torch.Generator().manual_seed(91)
    for size, patch in (((40, 56), 16), ((64, 40), 32)):
        n = 48
        main = torch.stack([torch.randint(side - patch + 1, (n,), generator=generator) for side in size], 1)
        steps = STEPS[torch.randint(8, (n,), generator=generator)]
        away = torch.randint(3 * patch // 4, patch, (n, 2), generator=generator)

        def inside(corners: Tensor, limit=torch.tensor(size) - patch) -> Int[Tensor, "n 2"]:  # noqa: B008
            return torch.minimum(corners.clamp(min=0), limit)

        free = main + steps * away
        expected = inside(free)
        mistakes = {
            "some neighbours leave the picture: move them to its edge.": free,
            "a patch's top left pixel may lie at size - patch at most, or its other end leaves the picture.": inside(
                free, torch.tensor(size)
            ),
            "a patch may lie flush with the edge, at size - patch: this stops one pixel before.": inside(
                free, torch.tensor(size) - patch - 1
            ),
            "the sides are swapped: rows end at the height, columns at the width.": inside(
                free, torch.tensor(size[::-1]) - patch
            ),
            "rows and columns of the direction are swapped: main, directions and away are all (row, column).": inside(
                main + steps.flip(1) * away
            ),
            "the neighbours lie on the other side: add what the direction says.": inside(main - steps * away),
            "each neighbour lies only one pixel away: multiply the direction by away.": inside(main + steps),
            "the direction is left out: each row of `directions` says along which sides to move.": inside(main + away),
            "no more than the upper end is limited: a corner below 0 leaves the picture, too.": torch.minimum(
                free, torch.tensor(size) - patch
            ),
        }
        found = my_neighbours(main, steps, away, size, patch)
        otherwise = f"with pictures of {size[0]} × {size[1]} and patches of {patch}, this is another place."
        judge(found, expected, mistakes, "a (row, column) for each patch", otherwise)
    return "all inside, and in the direction asked for unless the edge was in the way."


@exercise("09.2")
def _(my_dense_head) -> str:
    generator = torch.Generator().manual_seed(92)
    for gap, shape in ((3, (2, 2, 7, 9)), (1, (1, 3, 4, 3))):
        small = torch.randn(*shape, generator=generator)
        weight = torch.randn(4, shape[1], 2, 2, generator=generator)

        def head(small=small, weight=weight, **options) -> Tensor:
            return F.conv2d(small, weight, **options)

        expected = head(dilation=gap)
        mistakes = {
            "the four quarters lie `gap` cells apart, not side by side: that is what dilation is for.": head(),
            "stride leaves out places: it moves the patch; what lies apart are its four inputs (dilation).": (
                head(stride=gap)
            ),
            "padding invents quarters outside the picture.": head(dilation=gap, padding=gap),
            "the weights are flipped: the first of the weights belongs to the top left.": head(
                weight=weight.flip(2, 3), dilation=gap
            ),
            "rows and columns of the weights are swapped.": head(weight=weight.mT.contiguous(), dilation=gap),
            "this is the mean of the four: the weights say what each counts.": F.avg_pool2d(small, 2, 1),
        }
        found = my_dense_head(small, weight, gap)
        form = "one for each place where all four quarters are inside; a batch of one keeps its first axis"
        judge(found, expected, mistakes, form, f"this is not the head of quarters {gap} cells apart.")
    return "every large patch of a picture at once, and for a gap of 1 the ordinary convolution."


@exercise("09.3")
def _(my_nearest) -> str:
    generator = torch.Generator().manual_seed(93)
    for n, m, d in ((6, 9, 4), (1, 5, 7)):
        queries, bank = (torch.randn(k, d, generator=generator).double() * 2 + 1 for k in (n, m))
        every = torch.cdist(queries, bank)
        expected = every.amin(1)
        lengths = bank.norm(dim=1)
        cosine = 1 - F.cosine_similarity(queries[:, None], bank, dim=2)
        mistakes = {
            "these are the squares of the distances: take the root.": expected**2,
            "this is the largest distance: a normal patch is near *one* normal patch, not all.": every.amax(1),
            "this is the mean distance: a normal patch is near *one* normal patch, not all.": every.mean(1),
            "this is the distance to the bank's mean: one centre, Deep SVDD's way.": (queries - bank.mean(0)).norm(
                dim=1
            ),
            "these are the numbers of the nearest patches: the distance to them is asked for.": every.argmin(
                1
            ).double(),
            "the smallest of each normal patch's distances: take it for each query.": every.amin(0),
            "the inner product's sign: the nearest has the *smallest* |b|^2 - 2 q.b.": (
                (queries[:, None] - bank[(lengths**2 + 2 * queries @ bank.T).argmin(1)][:, None]).norm(dim=2)[:, 0]
            ),
            "the largest inner product need not be the nearest: |b|^2 belongs to it.": (
                queries - bank[(queries @ bank.T).argmax(1)]
            ).norm(dim=1),
            "this is the cosine distance: here lengths count.": cosine.amin(1),
            "the absolute differences are summed: square, sum, take the root.": torch.cdist(queries, bank, p=1).amin(1),
            "|q|^2 is missing: it does not matter for who is nearest, but for how near.": (
                (every**2 - (queries**2).sum(1, keepdim=True)).amin(1).clamp(min=0).sqrt()
            ),
        }
        found = my_nearest(queries.float(), bank.float())
        otherwise = f"with {n} queries and {m} normal patches of {d} numbers, this is no distance to the nearest."
        judge(found, expected, mistakes, "one distance for each query", otherwise)
    _by_a_matrix_product(my_nearest)
    return "the nearest of each, for a single query, too."


PRODUCTS = (
    "matmul",
    "__matmul__",
    "__rmatmul__",
    "mm",
    "bmm",
    "addmm",
    "baddbmm",
    "einsum",
    "inner",
    "tensordot",
    "linear",
)
READY_MADE = (
    "cdist",
    "_cdist",
    "pairwise_distance",
    "pairwise_distances",
    "euclidean_distances",
    "kneighbors",
    "query",
)


def _needs_all_differences(my_nearest, n: int = 60, m: int = 70, d: int = 40) -> bool:
    """Whether NumPy, whose operators cannot be watched, is asked for as much memory as all differences fill."""
    tracing = tracemalloc.is_tracing()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    my_nearest(torch.ones(n, d), torch.ones(m, d))
    needed = tracemalloc.get_traced_memory()[1] - before
    if not tracing:
        tracemalloc.stop()
    return needed >= 4 * n * m * d


def _by_a_matrix_product(my_nearest) -> None:
    """Refuse a loop, a ready-made distance, and all differences at once, which tensors of two sizes tell apart."""
    sizes = ((12, 18), (24, 36))
    few, many = (watched(my_nearest, *(torch.ones(k, 5) for k in size)) for size in sizes)
    if made := few.calls(*READY_MADE):
        raise Wrong(f"the distances are right, but {sorted(made)[0]} made them: write the matrix product yourself.")
    if few.steps != many.steps:
        raise Wrong(
            "the distances are right, but made in a loop: one matrix product holds all the inner products at once."
        )
    if not few.calls(*PRODUCTS) if not few.calls("numpy", "__array__") else _needs_all_differences(my_nearest):
        raise Wrong(
            "the distances are right, but all differences at once take n · m · d numbers, too many for a bank: a "
            "matrix product takes n · m."
        )


def _folded(scores: Tensor, patch: int, stride: int) -> tuple[Tensor, Tensor]:
    """Sum, and count, of the scores of the patches over each pixel."""
    size = [(k - 1) * stride + patch for k in scores.shape]

    def fold(x: Tensor) -> Tensor:
        columns = x.reshape(1, 1, -1).expand(1, patch * patch, -1)
        return F.fold(columns, size, patch, stride=stride)[0, 0]

    return fold(scores), fold(torch.ones_like(scores))


@exercise("09.4")
def _(my_pixels) -> str:
    generator = torch.Generator().manual_seed(94)
    for (rows, columns), patch, stride in (((3, 4), 4, 2), ((2, 3), 6, 3), ((3, 1), 5, 2)):
        scores = torch.rand(rows, columns, generator=generator) + 0.5
        total, count = _folded(scores, patch, stride)
        expected = total / count
        size = tuple(expected.shape)
        highest = torch.stack([_folded(torch.where(scores == s, s, 0.0), patch, stride)[0] for s in scores.flatten()])
        last = torch.zeros(size)
        for i in range(rows):
            for j in range(columns):
                last[i * stride : i * stride + patch, j * stride : j * stride + patch] = scores[i, j]
        mistakes = {
            "the patches' scores are summed: divide by how many cover the pixel.": total,
            "this is the highest of the patches that cover a pixel: their mean is asked for.": highest.amax(0),
            "the last patch overwrites those before it: take the mean of all that cover a pixel.": last,
            "divided by the largest number of patches over a pixel: at the edges there are fewer.": total / count.max(),
            "divided by the patch's area: divide by how many patches cover the pixel.": total / patch**2,
            "divided by the number of all patches: only those count that cover the pixel.": total / scores.numel(),
            "enlarging is something else: a patch's score counts for all of its pixels.": F.interpolate(
                scores[None, None], size, mode="bilinear"
            )[0, 0],
            "nearest enlargement gives each pixel one patch: take the mean of all that cover it.": F.interpolate(
                scores[None, None], size
            )[0, 0],
        }
        found = my_pixels(scores, patch, stride)
        form = "(rows - 1) * stride + patch pixels high, and so for the columns"
        judge(found, expected, mistakes, form, f"with patches of {patch}, {stride} pixels apart, this is not the mean.")
    return "every pixel has the mean of its patches, at the edges, too."
