"""Drawings of patches, losses and maps, and the numbers behind them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import ipywidgets as widgets
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from xailab import figures
from xailab.boxes import Box
from xailab.lessons.drawings import outline, tight
from xailab.patch_svdd import Embeddings, Maps, Pairs, PatchSVDD, Step, nearest_neighbours, rectangles
from xailab.patch_svdd.network import COARSE, FINE, starts

SIZES = {"fine": FINE, "coarse": COARSE}
TRUTH = figures.SKY
BRIGHT = 1.25  # times the largest value in good pictures: where a map's colours end
WINDOW = 20  # steps over which a line of losses is averaged
CHANCE = float(np.log(8))  # cross-entropy of guessing one of eight directions
ABLATION = Path(__file__).with_name("ablation.json")
Picture = UInt8[np.ndarray, "h w 3"]
Mask = Bool[np.ndarray, "h w"]


@cache
def ablation() -> dict:
    """Read the results of recipes/patch_svdd_ablation.py: category, objective, lambda, AUROC by map, spread."""
    return json.loads(ABLATION.read_text(encoding="utf-8"))


def as_pictures(images: Float[Tensor, "n 3 h w"]) -> UInt8[np.ndarray, "n h w 3"]:
    """Convert tensors with values from 0 to 1 to pictures."""
    return (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


def draw_centre(
    normal: Float[Tensor, "n 2"], others: Float[Tensor, "m 2"], share: float = 0.95, reach: float = 3.4
) -> Figure:
    """Draw points of two dimensions with two notions of "far": from one centre, and from the nearest normal point.

    Args:
        normal: Normal points.
        others: Anomalous points.
        share: Share of the normal points inside the contours.
        reach: Half the side of the drawing.
    """
    side = torch.linspace(-reach, reach, 160)
    places = torch.stack(torch.meshgrid(side, side, indexing="xy"), -1).view(-1, 2)
    centre = normal.mean(0)
    gaps = torch.cdist(normal, normal).fill_diagonal_(torch.inf).amin(1)  # without itself
    figure, axes = figures.new(1, 2, width=9.6, height=4.4, sharex=True, sharey=True)
    for axis, title, of_places, of_normal in (
        (axes[0], "far from one centre", (places - centre).norm(dim=1), (normal - centre).norm(dim=1)),
        (axes[1], "far from the nearest normal point", nearest_neighbours(places, normal)[0], gaps),
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
    tight(figure)
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
        column[0].axhline(CHANCE, color=figures.BLACK, linestyle="--", linewidth=1.3)
        column[0].set(title=name, ylim=(0, 3.2))
        column[1].set(xlabel="step")
    axes[0, 0].annotate(
        "guessing: ln 8", (0.03, CHANCE + 0.2), xycoords=("axes fraction", "data"), va="bottom", fontsize=10
    )
    axes[0, 0].set(ylabel="position loss")
    axes[0, 0].legend(loc="lower left", fontsize=10)
    axes[1, 0].set(ylabel="spread of embeddings (line),\nneighbours' distance (dots)")
    return figure


class LiveLosses:
    """Draw the losses of a training while it runs: ``display(live.picture)``, then ``fit(images, on_step=live)``.

    Args:
        every: Steps from one drawing to the next.

    Attributes:
        picture: An image widget.
        history: The measurements of the steps.
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
    """Choose a colour for each place (row, column; from 0 to 1): blue to orange across, light to dark down."""
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
        down, across = np.mgrid[0:h, 0:w]
        key = position_colours(np.stack([down / h, across / w], -1))
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
    """A category's test pictures with their embeddings and anomaly maps.

    Attributes:
        detector: With the patches of ``normal`` in its memory bank, all of them.
        normal: The pictures in the memory bank.
        pictures, masks, kinds: The test pictures, their masks and their kinds of defect.
        embeddings, maps: The detector's embeddings and maps of the test pictures.
    """

    detector: PatchSVDD
    normal: UInt8[np.ndarray, "m h w 3"]
    pictures: UInt8[np.ndarray, "n h w 3"]
    masks: Bool[np.ndarray, "n h w"]
    kinds: Sequence[str]
    embeddings: Embeddings
    maps: Maps

    def scale(self, kind: str) -> dict:
        """Choose the colours of a kind of map: from 0 to a quarter above the largest value in a good test picture."""
        good = getattr(self.maps, kind)[torch.from_numpy(~self.masks.any((1, 2)))]
        return {"cmap": "inferno", "vmin": 0.0, "vmax": BRIGHT * float(good.max())}

    def place(self, size: str, at: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
        """Find the patch whose middle is nearest to a pixel: its cell, and its top left pixel."""
        stride = self.detector.strides[list(SIZES).index(size)]
        begin = [np.array(starts(side, SIZES[size], stride)) for side in self.masks.shape[1:]]
        i, j = (int(np.abs(b + SIZES[size] / 2 - x).argmin()) for b, x in zip(begin, at, strict=True))
        return (i, j), (int(begin[0][i]), int(begin[1][j]))

    def matches(self, size: str, picture: int, cell: tuple[int, int], count: int = 3) -> list[Match]:
        """Find the nearest patches of ``count`` different normal pictures, the nearest first."""
        bank = (self.detector.memory_banks or {})[size]
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
        outline(row[0], s.masks[number], TRUTH)
        figures.outline(row[0], _box(corner, SIZES[size]))
        figures.picture(row[1], _crop(s.pictures[number], corner, SIZES[size]), "this patch")
        for axis, match in zip(row[2:], s.matches(size, number, cell, count), strict=True):
            patch = _crop(s.normal[match.picture], match.corner, SIZES[size])
            figures.picture(axis, patch, f"at {match.distance:.3g}")
    return figure


def draw_four_maps(rows: Sequence[tuple[str, Searched, int]]) -> Figure:
    """Draw, for each name, category and number, a test picture with its truth, and its four maps."""
    figure, axes = figures.new(len(rows), 5, width=10.6, height=2.2 * len(rows) + 0.1, squeeze=False)
    tight(figure)
    for line, (name, s, number) in zip(axes, rows, strict=True):
        figures.picture(line[0], s.pictures[number], f"{name}: {s.kinds[number]}")
        outline(line[0], s.masks[number], TRUTH)
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
        s: Pictures of one category.
        picture: Number of the test picture.
        row, column: Pixel at the middle of the patch.
        size: "fine" or "coarse".
        kind: Kind of map.
    """
    cell, corner = s.place(size, (row, column))
    box, patch, heat = _box(corner, SIZES[size]), SIZES[size], getattr(s.maps, kind)[picture]
    figure, axes = figures.new(1, 6, width=12.0, height=2.9, width_ratios=[1.5, 1.7, 1, 1, 1, 1])
    figures.picture(axes[0], s.pictures[picture], f"{s.kinds[picture]}, and the truth")
    outline(axes[0], s.masks[picture], TRUTH)
    figures.outline(axes[0], box)
    figures.picture(axes[1], heat.numpy(), f"{kind} map", **s.scale(kind))
    figures.outline(axes[1], box)
    figures.colour_bar(figure, axes[1], "anomaly score")
    figures.picture(axes[2], _crop(s.pictures[picture], corner, patch), "this patch")
    for axis, match in zip(axes[3:], s.matches(size, picture, cell), strict=True):
        found = _crop(s.normal[match.picture], match.corner, patch)
        figures.picture(axis, found, f"normal {match.picture + 1}\nat {match.distance:.3g}")
    return figure
