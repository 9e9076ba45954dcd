"""Draw Gaussians, maps and thresholds, and compute the numbers for them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from xailab import figures
from xailab.lessons.drawings import outline, tight
from xailab.lessons.padim.regions import components
from xailab.metrics import aupro, auroc
from xailab.padim import Gaussians
from xailab.padim.reduction import random_channels
from xailab.padim.upsampling import upsampled

TRUTH, FOUND = figures.SKY, figures.YELLOW
Picture = UInt8[np.ndarray, "h w 3"]
Mask = Bool[np.ndarray, "h w"]
Layers = Sequence[Float[Tensor, "n _c _h _w"]]


def scaled_map(axes: Axes, heat: Float[Tensor, "h w"], largest: float, title: str | None = None) -> None:
    """Draw an anomaly map from 0 (dark) to ``largest`` (bright)."""
    figures.picture(axes, heat.numpy(), title, cmap="inferno", vmin=0.0, vmax=largest)


def draw_ellipses(
    normal: Float[np.ndarray, "n 2"], covariance: Float[np.ndarray, "2 2"], others: Mapping[str, Float[np.ndarray, "2"]]
) -> Figure:
    """Draw points of two channels twice: with circles of equal distance, and ellipses of equal Mahalanobis distance.

    Args:
        normal: Points that the Gaussian was fitted to.
        covariance: Covariance of these points.
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
        picture: Square picture.
        grids: Number of cells a side, by the layer's name.
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
    heat: Float[Tensor, "h w"]
    threshold: float


def draw_gallery(columns: Sequence[Shown], panel: float = 1.5) -> Figure:
    """Draw, for each category, a normal picture, a defective one with its truth, its map, and what the threshold finds.

    Each map is drawn from 0 to twice its category's threshold.
    """
    figure, axes = figures.new(4, len(columns), width=panel * len(columns) + 1.0, height=4 * panel + 0.3, squeeze=False)
    tight(figure)
    for column, shown in zip(axes.T, columns, strict=True):
        figures.picture(column[0], shown.normal, shown.title)
        figures.picture(column[1], shown.picture)
        outline(column[1], shown.mask, TRUTH)
        scaled_map(column[2], shown.heat, 2 * shown.threshold)
        figures.picture(column[3], shown.picture)
        outline(column[3], (shown.heat > shown.threshold).numpy(), FOUND)
    for axis, name in zip(
        axes[:, 0], ("normal", "defective,\nand the truth", "map", "above the\nthreshold"), strict=True
    ):
        axis.text(-0.06, 0.5, name, transform=axis.transAxes, ha="right", va="center")
    return figure


@dataclass(frozen=True)
class Curves:
    """Shares of a test set's pixels above falling thresholds: see `curves`."""

    thresholds: Float[np.ndarray, "t"]
    alarms: Float[np.ndarray, "t"]  # share of the normal pixels
    hits: Float[np.ndarray, "t"]  # share of the defective pixels
    overlap: Float[np.ndarray, "t"]  # mean share of a region


def curves(masks: Bool[np.ndarray, "n h w"], maps: Float[Tensor, "n h w"], steps: int = 300) -> Curves:
    """Compute false alarms, hits and per-region overlap at thresholds spaced by how many normal pixels lie above."""
    values = maps.numpy()
    falling = np.sort(values[~masks])[::-1]
    places = np.unique(np.geomspace(1, len(falling), steps).astype(int)) - 1
    thresholds = np.append(values.max() + 1, falling[places])
    regions = []
    for mask, heat in zip(masks, values, strict=True):
        labels = components(mask)
        regions += [heat[labels == k] for k in range(1, labels.max() + 1)]

    def above(some: np.ndarray) -> np.ndarray:
        return 1 - np.searchsorted(np.sort(some), thresholds) / len(some)

    overlap = np.mean([above(region) for region in regions], axis=0)
    return Curves(thresholds, above(values[~masks]), above(values[masks]), overlap)


def draw_threshold(
    found: Curves, picture: Picture, mask: Mask, heat: Float[Tensor, "h w"], at: Sequence[float]
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
        outline(axis, (heat > threshold).numpy(), FOUND)
    return figure


def draw_maps(
    columns: Sequence[tuple[str, Picture, Mask, Float[Tensor, "h w"], float]], panel: float = 1.7, rows: int = 1
) -> Figure:
    """Draw pictures with their truth, and below each its map.

    Args:
        columns: Title, picture, mask, map and largest value of the colours, for each column.
        panel: Width of a picture in inches.
        rows: Number of rows of such pairs.
    """
    across = -(-len(columns) // rows)
    figure, axes = figures.new(2 * rows, across, width=panel * across, height=rows * (2 * panel + 0.35), squeeze=False)
    tight(figure)
    for number, (title, picture, mask, heat, largest) in enumerate(columns):
        top, bottom = axes[2 * (number // across) :, number % across][:2]
        figures.picture(top, picture, title)
        outline(top, mask, TRUTH)
        scaled_map(bottom, heat, largest)
    return figure


def rd(sample, generator: np.random.Generator, crop: int = 224):
    """Turn a picture and its mask by up to 10 degrees and crop it at random, as for the paper's Rd-MVTec AD.

    Args:
        sample: Sample with .image and .mask, larger than the crop.
        generator: Random numbers for the angle and the place of the crop.
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
    """Hold the layers' outputs for one category, recorded once, and the truth of the test pictures.

    Attributes:
        layers: Names of the layers.
        fit, held_out, test: Outputs of each layer, (n, channels, rows, columns).
        pictures, masks, kinds: Test pictures, their masks and their kinds of defect.
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
        """Compute distances of the held-out and the test pictures from some layers and d random channels of them."""
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
        recorded: Layers' outputs of one category.
        picture: Number of the test picture.
        threshold: Threshold in units of the calibrated one, the largest score of the held-out normal pictures.
        sigma: Standard deviation of the blur in pixels.
        layers: Names of the layers; None for all.
        d: Number of their channels, chosen at random; None for all.
        distances: Result of ``recorded.distances(layers, d)``, if it is known.
    """
    held_out, test = distances or recorded.distances(layers or recorded.layers, d)
    _, height, width = recorded.masks.shape
    size = (height, width)
    maps = upsampled(test, size, sigma)
    scores, bad = maps.amax((1, 2)).numpy(), np.asarray(recorded.masks.any((1, 2)))
    limit = threshold * float(upsampled(held_out, size, sigma).amax())
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
