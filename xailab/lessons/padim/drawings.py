"""Draw Gaussians, maps and thresholds, and compute the numbers for them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from xailab import figures
from xailab.datasets import downloaded
from xailab.datasets.folders import GOOD, MVTecAD
from xailab.detection import Results, evaluate
from xailab.images import Preprocess
from xailab.lessons.drawings import outline, tight
from xailab.lessons.padim.measuring import (
    LAYERS_OF,
    Mask,
    Picture,
    Recorded,
    beside_published,
    most_deviating,
    one_of_each,
    samples,
)
from xailab.lessons.padim.regions import components
from xailab.metrics import aupro, auroc, interval
from xailab.models import zoo
from xailab.padim import PaDiM
from xailab.padim.upsampling import upsampled

TRUTH, FOUND = figures.SKY, figures.YELLOW
ARROW = {"arrowstyle": "-|>", "linewidth": 1.8, "shrinkA": 0, "shrinkB": 0}


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


def draw_idea(
    pictures: Sequence[Picture],
    kept: Int[Tensor, "d"],
    vectors: Float[Tensor, "rows columns n d"],
    new: Float[Tensor, "rows columns 1 d"],
    heat: Float[Tensor, "rows columns"],
    counts: Sequence[int] = (24, 40, 112),
) -> Figure:
    """Draw the method from left to right: pictures, three layers, the vectors of the most anomalous place, and the map.

    Args:
        pictures: Three normal pictures, and the one to be judged.
        kept: The channels that are kept, of all layers together.
        vectors: The vectors of the normal pictures.
        new: The vectors of the picture to be judged.
        heat: Its distances.
        counts: Number of channels of each layer, the finest first; each layer has half of the cells of the one before.
    """
    *normal, picture = pictures
    y, x = np.unravel_index(int(heat.argmax()), heat.shape)
    at = ((y + 0.5) / heat.shape[0], (x + 0.5) / heat.shape[1])
    first = [new[:: 2**k, :: 2**k, 0, i] for k, i in enumerate(one_of_each(kept, counts))]
    cloud, point = vectors[y, x], new[y, x, 0]
    two = most_deviating(cloud, point)
    figure, page = figures.new(width=12.4, height=4.7)
    page.set(xlim=(0, 12.4), ylim=(0, 4.7))
    page.set_axis_off()

    def put(image: np.ndarray, x: float, y: float, size: float, title: str = "", **options) -> Axes:
        axis = page.inset_axes((x, y, size, size), transform=page.transData)
        figures.picture(axis, image, title or None, **options)
        return axis

    def arrow(start: tuple, end: tuple, colour: str = "black") -> None:
        page.annotate("", end, start, arrowprops=ARROW | {"color": colour})

    for number, each in enumerate(normal):
        put(each, 0.05 + 0.16 * number, 2.75 - 0.16 * number, 1.5)
    page.text(0.95, 4.45, "40 normal pictures", ha="center")
    put(picture, 0.25, 0.35, 1.5)
    page.text(1.0, 0.1, "a new picture", ha="center")
    for layer, y in zip(first, (3.2, 1.75, 0.3), strict=True):
        size, cells = 1.2, len(layer)
        axis = put(layer.numpy(), 3.0, y, size, cmap="cividis")
        row, column = (int(share * cells) for share in at)
        axis.plot(column, row, "s", markersize=7, markerfacecolor="none", markeredgecolor=figures.VERMILLION)
        page.text(4.3, y + 0.6, f"{cells} × {cells}", va="center", fontsize=10)
        arrow((5.15, y + 0.6), (5.65, 2.35))
    page.text(3.6, 4.55, "three layers of one network", ha="center")
    for y in (2.9, 1.1):
        arrow((2.05, y), (2.85, 2.0 + 0.5 * (y - 2.0)))
    page.text(6.1, 2.35, "100 numbers\nat this place", ha="center", va="center",
              bbox={"boxstyle": "round,pad=0.4", "facecolor": "#EEEEEE"})  # fmt: skip
    arrow((6.85, 2.35), (7.3, 2.35))
    _draw_gaussian(page.inset_axes((7.65, 0.95, 2.0, 2.6), transform=page.transData), cloud[:, two], point[two])
    page.text(8.65, 3.85, "one Gaussian for each place\n(two of its 100 channels)", ha="center", va="center")
    arrow((9.85, 2.35), (10.3, 2.35))
    put(heat.numpy(), 10.4, 1.4, 1.9, cmap="inferno", vmin=0)
    page.text(11.35, 3.5, "distance at each place", ha="center")
    return figure


def _draw_gaussian(axis: Axes, vectors: Float[Tensor, "n 2"], new: Float[Tensor, "2"]) -> None:
    """Draw points, their ellipses of Mahalanobis distance 1, 2 and 3, and a new point."""
    points = vectors.double().numpy()
    mean, factor = points.mean(0), np.linalg.cholesky(np.cov(points.T) + 1e-9 * np.eye(2))
    circle = np.stack([np.cos(angles := np.linspace(0, 2 * np.pi, 200)), np.sin(angles)])
    for radius in (1, 2, 3):
        axis.plot(*(mean[:, None] + radius * factor @ circle), color=figures.GREY, linewidth=1.2)
    axis.plot(*points.T, "o", color=figures.BLUE, markersize=3.5)
    axis.plot(*new.double().numpy(), "^", color=figures.VERMILLION, markersize=11)
    axis.set(xticks=[], yticks=[])


def draw_drift(rates: Mapping[str, Sequence[Bool[np.ndarray, "_n"]]], shares: Sequence[float], asked: float) -> Figure:
    """Draw the rate of false alarms against a change of the light, with intervals.

    Args:
        rates: For each product and change, which of the good pictures were called anomalous.
        shares: The changes.
        asked: Rate of false alarms that was asked for.
    """
    figure, axis = figures.new(width=7.6, height=3.8)
    for number, ((name, cases), colour) in enumerate(zip(rates.items(), figures.PALETTE, strict=False)):
        means = np.array([each.mean() for each in cases])
        ends = np.array([interval(each) for each in cases]).T
        places = 100 * np.asarray(shares) + 0.15 * number
        axis.errorbar(places, means, np.abs(ends - means), fmt="o-", color=colour, capsize=4, label=name)
    axis.axhline(asked, color="black", linestyle="--", linewidth=1.2)
    axis.annotate(
        f"asked for: {asked:.0%}", (100 * shares[-1], asked), xytext=(0, 5), textcoords="offset points", ha="right"
    )
    axis.set(
        xlabel="light warmer by (red up, blue down), %", ylabel="good pictures called anomalous", ylim=(-0.03, 1.05)
    )
    axis.legend(loc="center left")
    return figure


def draw_choice(table: Mapping[str, tuple[float, float, float]]) -> Figure:
    """Draw settings by what normal pictures say of them, and by what real defects say.

    Args:
        table: For each setting: the highest score of held-out pictures over their median, PRO on synthetic defects, and
            PRO on the real ones.
    """
    figure, axes = figures.new(1, 2, width=10.6, height=4.0, sharey=True)
    for axis, column, label in zip(
        axes, (0, 1), ("held-out normal pictures: highest score / median", "PRO on synthetic defects"), strict=True
    ):
        for (name, values), colour in zip(table.items(), [*figures.PALETTE, figures.GREY, "#7B4B94"], strict=False):
            axis.plot(values[column], values[2], "o", color=colour, markersize=9, label=name)
        axis.set(xlabel=label)
        axis.margins(0.12)
    axes[0].set(ylabel="PRO on the real defects")
    axes[1].legend(loc="center left", bbox_to_anchor=(1.02, 0.5), fontsize=10)
    return figure


def draw_pairs(pairs: Sequence[tuple[int, Sequence[Recorded], Sequence[Float[Tensor, "h w"]]]]) -> Figure:
    """Draw the same defects aligned and turned, with all maps on one scale in units of their thresholds.

    Args:
        pairs: For each product the number of a test picture, the product aligned and turned, and the picture's two maps
            divided by their thresholds.
    """
    figure, axes = figures.new(2, 2 * len(pairs), width=2.15 * 2 * len(pairs) + 0.8, height=4.6, squeeze=False)
    tight(figure)
    for columns, (i, both, heats) in zip(np.split(axes, len(pairs), axis=1), pairs, strict=True):
        for (top, bottom), how, recorded, heat in zip(columns.T, ("aligned", "turned"), both, heats, strict=True):
            figures.picture(top, recorded.pictures[i], f"{recorded.kinds[i]}, {how}")
            outline(top, recorded.masks[i], TRUTH)
            scaled_map(bottom, heat, 2.0)
    figures.colour_bar(figure, axes[1, -1], "in units of the threshold")
    return figure


def draw_reduction(
    found: Mapping[tuple[str, int, str], tuple[float, float, float]], sizes: Sequence[int], every: Sequence[float]
) -> Figure:
    """Draw figures against the number of dimensions, for components and for random channels.

    Args:
        found: Image AUROC, pixel AUROC and PRO by product, number of dimensions and way.
        sizes: The numbers of dimensions.
        every: The three figures with all 112 channels, the mean over the products.
    """
    figure, axes = figures.new(1, 3, width=10.8, height=3.5)
    labels = {"first": "first components", "random": "random channels", "last": "last components"}
    ticks = [*sizes, 112]
    for k, title in enumerate(("image AUROC", "pixel AUROC", "PRO")):
        for (start, label), colour, marker in zip(labels.items(), figures.PALETTE, "so^", strict=False):
            ways = sorted({way for _, _, way in found if way.startswith(start)})
            values = np.array([
                [np.mean([v[k] for (_, size, name), v in found.items() if (size, name) == (d, way)]) for way in ways]
                for d in sizes
            ])  # fmt: skip
            values = np.concatenate([values, np.full((1, len(ways)), every[k])])
            axes[k].plot(ticks, values.mean(1), marker=marker, color=colour, label=label)
            axes[k].fill_between(ticks, values.min(1), values.max(1), color=colour, alpha=0.2, linewidth=0)
        axes[k].set(title=title, xlabel="dimensions d", xscale="log")
        axes[k].set_xticks(ticks, [*(str(d) for d in sizes), "all"])
        axes[k].minorticks_off()
    axes[0].set(ylabel="mean of circuit and gear")
    axes[0].legend(loc="lower right", fontsize=10)
    return figure


def draw_growth(
    pictures: Sequence[int], kept: Mapping[str, Sequence[float]], work: Mapping[str, Sequence[float]]
) -> Figure:
    """Draw bytes that detectors keep and mult-adds to score a picture against the number of normal pictures."""
    figure, axes = figures.new(1, 2, width=10.4, height=3.7)
    for axis, values, unit in zip(axes, (kept, work), (2**20, 1), strict=True):
        for (name, line), colour, marker in zip(values.items(), figures.PALETTE, "os^D", strict=False):
            axis.loglog(pictures, np.array(line) / unit, marker + "-", color=colour, label=name)
        axis.set(xlabel="normal pictures")
        axis.legend(fontsize=10)
    axes[0].set(title="What has to be kept", ylabel="MiB")
    axes[1].set(title="Work to score one picture", ylabel="mult-adds")
    return figure


def median_defect(product: str, recorded: Recorded, maps: Float[Tensor, "n h w"], threshold: float) -> Shown:
    """Choose the defective test picture with the median score, for `draw_gallery`."""
    bad, scores = recorded.masks.any((1, 2)), maps.amax((1, 2)).numpy()
    i = np.flatnonzero(bad)[scores[bad].argsort()[bad.sum() // 2]]
    normal = samples(product)[0][0].image
    return Shown(product, normal, recorded.pictures[i], recorded.masks[i], maps[i], threshold)


def draw_defects(detector: PaDiM, view: Preprocess, train: MVTecAD, test: MVTecAD, results: Results) -> Figure:
    """Draw one photograph of each kind of defect as `draw_gallery` does, each beside a normal one.

    Args:
        detector: Detector with a threshold.
        view: Preprocessing of the data sets.
        train, test: Data sets made with it.
        results: The detector's figures on the test set.
    """
    columns = []
    kinds = [kind for kind in dict.fromkeys(results.kinds) if kind != GOOD] or [GOOD]
    for i, kind in enumerate(kinds):
        sample = test[results.kinds.index(kind)]
        normal, new = (torch.as_tensor(each.image)[None] for each in (train[i], sample))
        heat = detector.anomaly_maps(new)[0]
        threshold = detector.threshold or float(heat.max())
        columns.append(Shown(kind, view.undo(normal)[0], view.undo(new)[0], np.asarray(sample.mask), heat, threshold))
    return draw_gallery(columns, panel=1.9)


def photographed(product: str, network: str) -> tuple[Figure, str]:
    """Fit PaDiM to a product of MVTec AD on this disk, and draw and describe what it finds.

    It is fitted to four in five of the normal photographs; the rest give a threshold for one false alarm in ten.
    """
    net = zoo.load(network)
    view = replace(net.preprocess, resize=256, crop=None)
    train, test = (downloaded.mvtec_ad(product, split, preprocess=view) for split in ("train", "test"))
    fit, held_out = ([i for i in range(len(train)) if (i % 5 == 4) == last] for last in (False, True))
    detector = PaDiM(net, LAYERS_OF[network], dimensions=100)
    detector.fit(DataLoader(Subset(train, fit), 10), progress=False)
    share = max(0.1, 1 / (len(held_out) + 1))  # nine pictures are the fewest for one in ten
    detector.calibrate(DataLoader(Subset(train, held_out), 10), false_alarm_rate=share, progress=False)
    results = evaluate(detector, test)
    return draw_defects(detector, view, train, test, results), beside_published(product, network, results)


def draw_inspection(
    recorded: Recorded,
    picture: int = 0,
    threshold: float = 1.0,
    sigma: float = 4.0,
    layers: Sequence[str] | None = None,
    d: int | None = None,
    distances: tuple[Tensor, ...] | None = None,
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
    held_out, test, *_ = distances or recorded.distances(layers or recorded.layers, d)
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
