"""Lesson 08: its drawings of Gaussians, maps and thresholds, its explorer, and its exercises' checks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import ipywidgets as widgets
import numpy as np
import scipy.ndimage
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from xailab import figures
from xailab.lessons import exercise
from xailab.lessons.explorer import explorer
from xailab.lessons.judging import judge
from xailab.metrics import aupro, auroc
from xailab.padim import Gaussians
from xailab.padim.detector import enlarged
from xailab.padim.reduction import random_channels

TRUTH, FOUND = figures.SKY, figures.YELLOW
Picture = UInt8[np.ndarray, "h w 3"]
Mask = Bool[np.ndarray, "h w"]
Layers = Sequence[Float[Tensor, "n _c _h _w"]]


def outline(axes: Axes, mask: Mask, colour: str, width: float = 1.4) -> None:
    """Draw the border of a mask on a picture, on a black line, so that it is seen on any background."""
    if mask.any() and not mask.all():
        lines = axes.contour(mask.astype(float), [0.5], colors=[colour], linewidths=width)
        lines.set_path_effects([patheffects.withStroke(linewidth=width + 1.2, foreground="black")])


def _tight(figure: Figure) -> None:
    """Leave less room between pictures."""
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)


def scaled_map(axes: Axes, map: Float[Tensor, "h w"], largest: float, title: str | None = None) -> None:
    """Draw an anomaly map from 0 (dark) to ``largest`` (bright)."""
    figures.picture(axes, map.numpy(), title, cmap="inferno", vmin=0.0, vmax=largest)


def draw_ellipses(
    normal: Float[np.ndarray, "n 2"], covariance: Float[np.ndarray, "2 2"], others: Mapping[str, Float[np.ndarray, "2"]]
) -> Figure:
    """Draw points of two channels twice: with circles of equal distance, and ellipses of equal Mahalanobis distance.

    Args:
        normal: What the Gaussian was fitted to.
        covariance: Its covariance.
        others: Further points by name.
    """
    mean, factor = normal.mean(0), np.linalg.cholesky(covariance)
    circle = np.stack([np.cos(angles := np.linspace(0, 2 * np.pi, 200)), np.sin(angles)])
    figure, axes = figures.new(1, 2, width=9.6, height=4.3, sharex=True, sharey=True)
    for axis, title, shape in zip(
        axes, ("circles of equal distance", "ellipses of equal Mahalanobis distance"), (np.eye(2), factor), strict=True
    ):
        for radius in (1, 2, 3, 4):
            x, y = mean[:, None] + radius * shape @ circle
            axis.plot(x, y, color=figures.GREY, linewidth=1.2)
            axis.annotate(f"{radius}", (x[y.argmin()], y.min()), fontsize=9, ha="center", va="center",
                          bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8})  # fmt: skip
        axis.plot(*normal.T, "o", color=figures.BLUE, label="normal")
        for (name, point), marker, colour in zip(
            others.items(), "s^", (figures.GREEN, figures.VERMILLION), strict=False
        ):
            axis.plot(*point, marker, color=colour, markersize=10, label=name)
        axis.set(title=title, xlabel="channel 1", xlim=(mean[0] - 6.5, mean[0] + 6.5), ylim=(mean[1] - 5, mean[1] + 5))
        axis.set_aspect("equal")
    axes[0].set(ylabel="channel 2")
    axes[0].legend(loc="upper left")
    return figure


def draw_cells(picture: Picture, grids: Mapping[str, int], at: tuple[float, float]) -> Figure:
    """Draw a picture once for each layer, with its grid of cells and the one over a place.

    Args:
        picture: Square.
        grids: Layer's name to cells a side.
        at: (row, column) of the place, as shares of the picture's side.
    """
    figure, axes = figures.new(1, len(grids), width=2.9 * len(grids), height=3.2)
    side = len(picture)
    for axis, (name, cells) in zip(axes, grids.items(), strict=True):
        figures.picture(axis, picture, f"{name}: {cells} × {cells} cells")
        for line in np.linspace(0, side, cells + 1)[1:-1] - 0.5:
            axis.axhline(line, color="white", linewidth=0.5, alpha=0.6)
            axis.axvline(line, color="white", linewidth=0.5, alpha=0.6)
        size = side / cells
        top, left = (int(share * cells) * size for share in at)
        figures.outline(axis, (left, top, left + size, top + size))
    return figure


def draw_scores(groups: Mapping[str, Float[np.ndarray, "_n"]], threshold: float | None = None) -> Figure:
    """Draw scores as dots, one row for each group, and a threshold."""
    figure, axis = figures.new(width=8.6, height=0.62 * len(groups) + 1.2)
    for row, (scores, colour) in enumerate(zip(groups.values(), figures.PALETTE, strict=False)):
        height = row + np.linspace(-0.22, 0.22, 5)[np.arange(len(scores)) % 5]
        axis.plot(scores, height, "o", color=colour, markersize=6, alpha=0.75)
    axis.set(
        yticks=range(len(groups)), yticklabels=list(groups), xlabel="score: largest distance in the map", xlim=(0, None)
    )
    axis.set_ylim(len(groups) - 0.5, -0.5)
    axis.grid(axis="y")
    if threshold is not None:
        axis.axvline(threshold, color="black", linestyle="--", linewidth=1.5)
        axis.annotate("threshold", (threshold, -0.4), xytext=(4, 0), textcoords="offset points", va="center")
    return figure


@dataclass(frozen=True)
class Shown:
    """One column of the gallery."""

    title: str
    normal: UInt8[np.ndarray, "_ _ 3"]
    picture: Picture
    mask: Mask
    map: Float[Tensor, "h w"]
    threshold: float


def draw_gallery(columns: Sequence[Shown], panel: float = 1.5) -> Figure:
    """Draw, for each category, a normal picture, a defective one with its truth, its map, and what the threshold finds.

    Each map is drawn from 0 to twice its category's threshold.
    """
    figure, axes = figures.new(4, len(columns), width=panel * len(columns) + 1.0, height=4 * panel + 0.3, squeeze=False)
    _tight(figure)
    for column, shown in zip(axes.T, columns, strict=True):
        figures.picture(column[0], shown.normal, shown.title)
        figures.picture(column[1], shown.picture)
        outline(column[1], shown.mask, TRUTH)
        scaled_map(column[2], shown.map, 2 * shown.threshold)
        figures.picture(column[3], shown.picture)
        outline(column[3], (shown.map > shown.threshold).numpy(), FOUND)
    for axis, name in zip(
        axes[:, 0], ("normal", "defective,\nand the truth", "map", "above the\nthreshold"), strict=True
    ):
        axis.text(-0.06, 0.5, name, transform=axis.transAxes, ha="right", va="center")
    return figure


@dataclass(frozen=True)
class Curves:
    """What happens to a test set's pixels as the threshold falls: see `curves`."""

    thresholds: Float[np.ndarray, "t"]
    alarms: Float[np.ndarray, "t"]  # share of the normal pixels
    hits: Float[np.ndarray, "t"]  # share of the defective pixels
    overlap: Float[np.ndarray, "t"]  # mean share of a region


def curves(masks: Bool[np.ndarray, "n h w"], maps: Float[Tensor, "n h w"], steps: int = 300) -> Curves:
    """False alarms, hits and per-region overlap at falling thresholds, spaced by how many normal pixels lie above."""
    maps = maps.numpy()
    falling = np.sort(maps[~masks])[::-1]
    places = np.unique(np.geomspace(1, len(falling), steps).astype(int)) - 1
    thresholds = np.append(maps.max() + 1, falling[places])
    regions = []
    for mask, map in zip(masks, maps, strict=True):
        labels, count = scipy.ndimage.label(mask, np.ones((3, 3)))
        regions += [map[labels == k] for k in range(1, count + 1)]

    def above(values: np.ndarray) -> np.ndarray:
        return 1 - np.searchsorted(np.sort(values), thresholds) / len(values)

    overlap = np.mean([above(region) for region in regions], axis=0)
    return Curves(thresholds, above(maps[~masks]), above(maps[masks]), overlap)


def draw_threshold(
    found: Curves, picture: Picture, mask: Mask, map: Float[Tensor, "h w"], at: Sequence[float]
) -> Figure:
    """Draw ROC and PRO curve with a point for each of some thresholds, and what each of them cuts out of one map."""
    figure, axes = figures.new(1, 2 + len(at), width=11.4, height=3.3, width_ratios=[1.25, 1.25, *[1.0] * len(at)])
    names, values = ("ROC", "PRO"), (found.hits, found.overlap)
    labels = ("share of defective pixels found", "mean share of a region found")
    for axis, name, line, label in zip(axes, names, values, labels, strict=False):
        axis.plot(found.alarms, line, color=figures.BLUE)
        axis.set(title=name, xlabel="false alarms, share", ylabel=label, ylim=(0, 1.03))
        axis.set_xlim((-0.02, 1.02) if name == "ROC" else (-0.006, 0.306))
        axis.fill_between(found.alarms, line, color=figures.BLUE, alpha=0.12)
    for number, threshold in enumerate(at):
        nearest = int(np.abs(found.thresholds - threshold).argmin())
        for axis, line in zip(axes, values, strict=False):
            axis.plot(found.alarms[nearest], line[nearest], "o", color=figures.VERMILLION, markersize=8)
            axis.annotate("ABC"[number], (found.alarms[nearest], line[nearest]), xytext=(7, -10),
                          textcoords="offset points", fontweight="bold")  # fmt: skip
        axis = axes[2 + number]
        figures.picture(axis, picture, f"{'ABC'[number]}: above {threshold:.0f}")
        outline(axis, mask, TRUTH)
        outline(axis, (map > threshold).numpy(), FOUND)
    return figure


def draw_maps(
    columns: Sequence[tuple[str, Picture, Mask, Float[Tensor, "h w"], float]], panel: float = 1.7, rows: int = 1
) -> Figure:
    """Draw pictures with their truth, and below each its map.

    Args:
        columns: Title, picture, mask, map and the map's largest colour, of each.
        panel: Width of a picture in inches.
        rows: Of pairs.
    """
    across = -(-len(columns) // rows)
    figure, axes = figures.new(2 * rows, across, width=panel * across, height=rows * (2 * panel + 0.35), squeeze=False)
    _tight(figure)
    for number, (title, picture, mask, map, largest) in enumerate(columns):
        top, bottom = axes[2 * (number // across) :, number % across][:2]
        figures.picture(top, picture, title)
        outline(top, mask, TRUTH)
        scaled_map(bottom, map, largest)
    return figure


def rd(sample, generator: np.random.Generator, crop: int = 224):
    """Turn a picture and its mask by up to 10 degrees and crop it at random, as for the paper's Rd-MVTec AD.

    Args:
        sample: With .image and .mask, larger than the crop.
        generator: Of the angle and the place of the crop.
        crop: Side of the result in pixels.
    """
    side = len(sample.image)
    turn = cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), float(generator.uniform(-10, 10)), 1)
    top, left = generator.integers(0, side - crop + 1, 2)
    turned = (
        cv2.warpAffine(each, turn, (side, side), flags=how, borderMode=cv2.BORDER_REFLECT_101)
        for each, how in ((sample.image, cv2.INTER_LINEAR), (sample.mask.astype(np.uint8), cv2.INTER_NEAREST))
    )
    image, mask = (each[top : top + crop, left : left + crop] for each in turned)
    return sample._replace(image=np.ascontiguousarray(image), mask=mask.astype(bool))


@dataclass(frozen=True)
class Recorded:
    """What the explorer needs of one category: the layers' outputs, recorded once, and the test pictures' truth.

    Attributes:
        layers: Names of the layers.
        fit, held_out, test: By layer, (n, channels, rows, columns).
        pictures, masks, kinds: Of the test pictures.
    """

    layers: tuple[str, ...]
    fit: list[Tensor]
    held_out: list[Tensor]
    test: list[Tensor]
    pictures: UInt8[np.ndarray, "n h w 3"]
    masks: Bool[np.ndarray, "n h w"]
    kinds: Sequence[str]

    def distances(
        self, layers: Sequence[str], d: int | None = None, seed: int = 0
    ) -> tuple[Float[Tensor, "m rows columns"], Float[Tensor, "n rows columns"]]:
        """Of the held-out and of the test pictures, from some layers and d of their channels, chosen at random."""
        chosen = [self.layers.index(name) for name in layers]
        counts = [self.fit[i].shape[1] for i in chosen]
        kept = random_channels(counts, None if d is None or d >= sum(counts) else d, seed)
        fit, held_out, test = (
            [split[i][:, channels] for i, channels in zip(chosen, kept, strict=True)]
            for split in (self.fit, self.held_out, self.test)
        )
        gaussians = Gaussians([tuple(x.shape[1:]) for x in fit])
        gaussians.update(fit)
        return gaussians.distances(held_out), gaussians.distances(test)


def draw_inspection(
    recorded: Recorded,
    picture: int = 0,
    threshold: float = 1.0,
    sigma: float = 4.0,
    layers: Sequence[str] | None = None,
    d: int | None = None,
    distances: tuple[Tensor, Tensor] | None = None,
) -> Figure:
    """Draw a test picture with its truth, its map, what lies above the threshold, and the scores of all pictures.

    Args:
        recorded: Of one category.
        picture: Number of the test picture.
        threshold: In units of the calibrated one, the largest score of the held-out normal pictures.
        sigma: Of the blur, in pixels.
        layers: Which of the layers; None for all.
        d: How many of their channels, at random; None for all.
        distances: What ``recorded.distances(layers, d)`` gave, if it is known.
    """
    held_out, test = distances or recorded.distances(layers or recorded.layers, d)
    size = recorded.masks.shape[1:]
    maps = enlarged(test, size, sigma)
    scores, bad = maps.amax((1, 2)).numpy(), recorded.masks.any((1, 2))
    limit = threshold * float(enlarged(held_out, size, sigma).amax())
    figure, axes = figures.new(1, 4, width=11.4, height=3.1, width_ratios=[1, 1, 1, 1.5])
    figures.picture(axes[0], recorded.pictures[picture], f"{recorded.kinds[picture]}, and the truth")
    outline(axes[0], recorded.masks[picture], TRUTH)
    scaled_map(axes[1], maps[picture], max(2 * limit, 1e-6), "map")
    figures.colour_bar(figure, axes[1], "Mahalanobis distance")
    verdict = "anomalous" if scores[picture] > limit else "normal"
    figures.picture(axes[2], recorded.pictures[picture], f"called {verdict}")
    outline(axes[2], (maps[picture] > limit).numpy(), FOUND)
    axis = axes[3]
    for row, (name, some, colour) in enumerate((("good", ~bad, figures.BLUE), ("defective", bad, figures.VERMILLION))):
        height = row + np.linspace(-0.25, 0.25, 5)[np.arange(some.sum()) % 5]
        axis.plot(scores[some], height, "o", color=colour, alpha=0.7, label=name)
    axis.plot(scores[picture], int(bad[picture]), "o", markersize=14, markerfacecolor="none", markeredgecolor="black")
    axis.axvline(limit, color="black", linestyle="--", linewidth=1.5)
    axis.set(yticks=[0, 1], yticklabels=["good", "bad"], ylim=(1.6, -0.6), xlim=(0, None), xlabel="score")
    axis.grid(axis="y")
    image, pixel, pro = auroc(bad, scores), auroc(recorded.masks, maps), aupro(recorded.masks, maps)
    axis.set_title(f"AUROC {image:.2f}, pixels {pixel:.2f}, PRO {pro:.2f}", fontsize=11)
    return figure


def inspection_explorer(recorded: Mapping[str, Recorded]) -> widgets.VBox:
    """Choose category, picture, threshold, blur, layers and dimensions; see ``draw_inspection``."""
    names = next(iter(recorded.values())).layers
    choices = {" + ".join(some): some for some in (names, *((name,) for name in names), names[:2], names[1:])}
    count = min(len(each.pictures) for each in recorded.values())

    @lru_cache(maxsize=4)
    def distances(category: str, layers: tuple[str, ...], d: int | None) -> tuple[Tensor, Tensor]:
        return recorded[category].distances(layers, d)

    def draw(category, picture=6, threshold=1.0, sigma=4.0, layers=names, d=None) -> Figure:
        found = distances(category, tuple(layers), d)
        return draw_inspection(recorded[category], picture - 1, threshold, sigma, distances=found)

    return explorer(
        draw,
        category=list(recorded),
        picture=(1, count),
        threshold=widgets.FloatSlider(1.0, min=0.3, max=2.0, step=0.05, description="threshold (1: calibrated)"),
        sigma=widgets.FloatSlider(4.0, min=0.0, max=16.0, step=1.0, description="sigma of the blur, pixels"),
        layers=widgets.Dropdown(options=list(choices.items()), description="layers"),
        d=widgets.Dropdown(options=[("all", None), *((str(n), n) for n in (50, 20, 10, 5))], description="d"),
    )


@exercise("08.1")
def _(my_embedding) -> str:
    generator = torch.Generator().manual_seed(81)
    for n, shapes in (
        (2, ((2, 4, 8), (3, 2, 4), (1, 1, 2))),
        (1, ((2, 4, 8), (3, 2, 4), (1, 1, 2))),
        (3, ((1, 6, 9), (4, 2, 9), (2, 3, 3), (2, 1, 1))),
    ):
        layers = [torch.randn(n, *shape, generator=generator) for shape in shapes]
        grid = shapes[0][1:]

        def joined(enlarge, layers=layers, grid=grid) -> Tensor:
            return torch.cat([x if x.shape[2:] == grid else enlarge(x) for x in layers], 1)

        expected = joined(lambda x, grid=grid: F.interpolate(x, grid))
        mistakes = {
            "the coarse maps are interpolated: each fine cell takes the vector of the coarse cell over it.": joined(
                lambda x, grid=grid: F.interpolate(x, grid, mode="bilinear")
            ),
            "the coarse maps are interpolated, with align_corners: each fine cell takes one coarse cell's vector.": (
                joined(lambda x, grid=grid: F.interpolate(x, grid, mode="bilinear", align_corners=True))
            ),
            "the coarse maps are laid side by side like tiles: each of their *cells* is to be repeated.": joined(
                lambda x, grid=grid: x.repeat(1, 1, grid[0] // x.shape[2], grid[1] // x.shape[3])
            ),
            "the layers are in another order: keep the order in which they are given.": torch.cat(
                [F.interpolate(x, grid) for x in reversed(layers)], 1
            ),
            "a coarse cell's vector is shared out over the fine cells: it is repeated, not divided.": joined(
                lambda x, grid=grid: F.interpolate(x, grid) * x[0, 0].numel() / (grid[0] * grid[1])
            ),
        }
        hint = "all channels at each cell of the first layer's grid; a batch of one keeps its first axis"
        found = my_embedding(layers)
        judge(found, expected, mistakes, hint, "this is not the vector at each place.")
    return "every place has its vector, for grids that are not square and a batch of one, too."


@exercise("08.2")
def _(my_mahalanobis) -> str:
    generator = torch.Generator().manual_seed(82)
    mix = torch.tensor([[2.0, 0, 0, 0], [1, 0.5, 0, 0], [0, 1, 1, 0], [1, 0, 1, 1]])
    for n, m, channels, epsilon in ((7, 4, 3, 0.3), (3, 4, 3, 0.05), (9, 2, 4, 0.5), (6, 5, 2, 0.01)):
        middle = torch.tensor([4.0, -1, 2, 1])[:channels]
        normal = torch.randn(n, channels, generator=generator) @ mix[:channels, :channels].T + middle
        x = 2 * torch.randn(m, channels, generator=generator) + middle

        def distance(
            c=None, centred=True, root=True, plus=None, n=n, normal=normal, x=x, epsilon=epsilon, invert=True
        ) -> Tensor:
            a, mean = normal.double(), normal.double().mean(0)
            c = (a - mean).T @ (a - mean) / (n - 1) if c is None else c
            c = c + (epsilon * torch.eye(len(c)) if plus is None else plus)
            d = x.double() - (mean if centred else 0)
            squares = (d @ (torch.linalg.pinv(c) if invert else c) * d).sum(1)
            return squares.sqrt() if root else squares

        a = (normal - normal.mean(0)).double()
        c = a.T @ a / (n - 1)
        expected = distance()
        mistakes = {
            "this is the square of the distance: take the root.": distance(root=False),
            "the covariance is divided by n: the sample covariance has n - 1.": distance(a.T @ a / n),
            "epsilon is missing: add it to the diagonal of the covariance before you invert.": distance(plus=0 * c),
            "epsilon is added to all entries: only the diagonal gets it (epsilon times the identity).": distance(
                plus=epsilon
            ),
            "only the channels' own variances are used: the correlations are what Mahalanobis adds.": distance(
                torch.diag(c.diag())
            ),
            "this is the Euclidean distance to the mean: weigh it with the inverse covariance.": (
                (x - normal.mean(0)).double().norm(dim=1)
            ),
            "the covariance itself stands in the middle: it has to be its inverse.": distance(invert=False),
            "the mean is not subtracted from x.": distance(centred=False),
            "the products are taken around 0: centre the normal vectors on their mean first.": distance(
                normal.double().T @ normal.double() / (n - 1)
            ),
            "the mean of x is subtracted: what counts is the mean of the *normal* vectors.": distance(
                x=x - x.mean(0) + normal.mean(0)
            ),
        }
        for used in (0.01, 0.05, 0.3):
            mistakes[f"the epsilon that was given is not used: this is {used:g}, whatever is asked for."] = distance(
                plus=used * torch.eye(channels)
            )
        mistakes = {words: value for words, value in mistakes.items() if not torch.allclose(value.double(), expected)}
        found = my_mahalanobis(normal, x, epsilon)
        otherwise = f"this is not equation 2, with {n} normal vectors of {channels} channels."
        judge(found, expected, mistakes, "one distance for each row of x", otherwise)
    return "also with as many vectors as channels, where the covariance alone has no inverse."


@exercise("08.3")
def _(my_threshold) -> str:
    generator = np.random.default_rng(83)
    for n, share in ((39, 0.1), (19, 0.05), (52, 0.2), (99, 0.29)):
        scores = generator.gamma(4, 3, n)
        falling = np.sort(scores)[::-1]
        k = int(share * (n + 1) + 1e-9)  # for 0.29 of 100, int alone gives 28

        def at_share(share: float, falling=falling, n=n) -> float:
            return falling[int(share * (n + 1) + 1e-9) - 1]

        span = scores.max() - scores.min()
        mistakes = {
            "this is numpy's quantile: it counts among n, but the next picture's score has n + 1 places to take.": (
                np.quantile(scores, 1 - share)
            ),
            "the place is counted from the smallest score: the largest are to give the alarms.": falling[::-1][k - 1],
            "the share that was given is not used: this is 0.1, whatever is asked for.": at_share(0.1),
            "the share that was given is not used: this is 0.05, whatever is asked for.": at_share(0.05),
            "one place too far down: there are k + 1 of the n + 1 places above it.": falling[k],
            "one place too high up: 0.29 * 100 is 28.999999999999996 here, and int cuts it to 28. Add 1e-9 before.": (
                falling[max(int(share * (n + 1)), 1) - 1]
            ),
            "the place is counted among n, but with the next picture there are n + 1 places to take.": (
                falling[max(int(share * n + 1e-9), 1) - 1]
            ),
            "this is the k that was asked for: return the score in that place.": k,
            "mean and standard deviation assume a normal distribution, which scores (they are maxima) do not have.": (
                scores.mean() + 2 * scores.std()
            ),
            "three standard deviations assume a normal distribution, which scores (they are maxima) do not have.": (
                scores.mean() + 3 * scores.std()
            ),
            "the scores are stretched to [0, 1] first: then no new picture can be compared with the threshold.": (
                (falling[k - 1] - scores.min()) / span
            ),
            "this is the largest score whatever share is asked for.": falling[0],
            "this is the share itself of the largest score: count pictures.": (1 - share) * scores.max(),
        }  # fmt: skip
        tensors = {words: torch.tensor(value) for words, value in mistakes.items() if value != falling[k - 1]}
        otherwise = f"with {n} scores and a share of {share:g}, k is {k}."
        judge(my_threshold(scores, share), torch.tensor(falling[k - 1]), tensors, "one number", otherwise)
    return "at most this share of normal pictures will lie above it, whatever their distribution is."


@exercise("08.4")
def _(my_overlap) -> str:
    generator = np.random.default_rng(84)
    masks = np.zeros((3, 8, 9), bool)
    masks[0, 1:4, 1:5] = masks[0, 6, 6] = masks[0, 7, 7] = True  # a block, and two pixels that touch at a corner
    masks[1, 2:4, 2:4] = masks[1, 6, 1:8] = True  # lies partly behind the first picture's regions
    maps = generator.gamma(2, 2, masks.shape)
    maps[1, 2:4, 2:4] += 4
    maps[0, 1, 1:4], maps[0, 6, 6], maps[1, 6, 1:3] = (3.0, 5.0, 3.0), 5.0, 5.0  # reach a threshold exactly
    wide, other = np.zeros((2, 5, 12), bool), generator.gamma(2, 2, (2, 5, 12))
    wide[0, 0:2, 0:3] = wide[0, 4, 5:12] = wide[1, 2, 2] = wide[1, 2, 8] = wide[1, 4, 0] = True
    other[0, 4, 5:8], other[1, 2, 2] = 4.0, 4.0
    for masks, maps, threshold in ((masks, maps, 3.0), (masks, maps, 5.0), (wide, other, 4.0)):  # noqa: B020
        above = maps >= threshold

        def shares(structure, stack=False, above=above, masks=masks) -> float:
            labels = [scipy.ndimage.label(masks, np.ones((3, 3, 3)))[0]] if stack else [
                scipy.ndimage.label(mask, structure)[0] for mask in masks]  # fmt: skip
            found = [above] if stack else above
            return float(
                np.mean([f[r == k].mean() for r, f in zip(labels, found, strict=True) for k in range(1, r.max() + 1)])
            )

        expected = shares(np.ones((3, 3)))
        bad = [(m, a) for m, a in zip(masks, above, strict=True) if m.any()]
        mistakes = {
            "all defective pixels are pooled, so that large regions count more: average over the regions.": (
                above[masks].mean()
            ),
            "the average is over pictures: a picture's regions count one by one.": np.mean(
                [a[m].mean() for m, a in bad]
            ),
            "pixels that touch at a corner belong to one region (8-connected): give label a structure of ones.": shares(
                None
            ),
            "the regions of different pictures are joined: label each picture by itself.": shares(None, stack=True),
            "this is the IoU: the overlap asks only how much of the region is found.": (
                (above & masks).sum() / (above | masks).sum()
            ),
            "this is the precision: the overlap asks how much of the region is found.": masks[above].mean(),
            "what lies *below* the threshold is counted.": 1 - expected,
            "pictures without a defect have no region, and do not count as 0.": (
                sum(a[m].mean() for m, a in bad) / len(masks)
            ),
            "a pixel with a value of exactly the threshold is found, too: at least, >=.": shares(
                np.ones((3, 3)), above=maps > threshold
            ),
            "the background, label 0, is counted as a region: begin with label 1.": np.mean(
                [a[r == k].mean() for r, a in zip(
                    (scipy.ndimage.label(mask, np.ones((3, 3)))[0] for mask in masks), above, strict=True)
                 for k in range(r.max() + 1)]
            ),
        }  # fmt: skip
        found = my_overlap(masks, maps, threshold)
        tensors = {words: torch.tensor(float(value)) for words, value in mistakes.items() if value != expected}
        count = sum(scipy.ndimage.label(mask, np.ones((3, 3)))[1] for mask in masks)
        otherwise = f"this is not the mean share over the {count} regions."
        judge(found, torch.tensor(expected), tensors, "one number", otherwise)
    return "small regions count as much as large ones."
