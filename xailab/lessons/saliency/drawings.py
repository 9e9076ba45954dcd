"""Drawings of saliency, segments and class models."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from torch import Tensor, nn

from xailab import figures, images
from xailab.boxes import Box, iou
from xailab.class_model import Affine, Blur, Clip, Jitter, class_model
from xailab.datasets.photographs import photograph
from xailab.localization import grabcut
from xailab.metrics import interval
from xailab.models.classifier import Classifier
from xailab.saliency import saliency

Picture = UInt8[np.ndarray, "height width 3"]
ARROW = {"arrowstyle": "-|>", "linewidth": 2.0, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 16}
TRICKS = ("clip", "jitter", "turn and zoom", "blur", "Fourier")


def glow(heat: Float[Tensor, "h w"], quantile: float = 0.99) -> UInt8[np.ndarray, "h w 3"]:
    """Colour a saliency map: black is 0, the brightest colour its quantile (one pixel in a hundred is clipped)."""
    bound = float(heat.flatten().quantile(quantile)) or float(heat.max()) or 1.0
    return images.heatmap(heat / bound)


def seeds(
    heat: Float[Tensor, "h w"], foreground: float = 0.95, background: float = 0.30
) -> tuple[Bool[np.ndarray, "h w"], Bool[np.ndarray, "h w"]]:
    """Pixels that GraphCut starts from: surely the object, surely not (arXiv 1312.6034, Section 3.2)."""
    values = heat.numpy()
    low, high = np.quantile(values, [background, foreground])
    return (values >= high) & (values > low), values <= low


def draw_seeds(
    picture: UInt8[np.ndarray, "h w 3"], heat: Float[Tensor, "h w"], foreground: float = 0.95, background: float = 0.30
) -> UInt8[np.ndarray, "h w 3"]:
    """Tint a picture: orange is surely the object, blue surely not, grey is for the cut to decide."""
    sure, surely_not = seeds(heat, foreground, background)
    grey = np.repeat(picture.mean(2, keepdims=True), 3, axis=2).astype(np.float32)
    for region, colour, share in ((surely_not, figures.SKY, 0.6), (sure, figures.ORANGE, 0.9)):
        grey[region] = share * (255 * np.array(to_rgb(colour), np.float32)) + (1 - share) * grey[region]
    return grey.round().astype(np.uint8)


def cut_out(picture: UInt8[np.ndarray, "h w 3"], mask: Bool[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """Keep a segment of a picture and whiten the rest."""
    faded = (0.12 * picture + 0.88 * 255).round().astype(np.uint8)
    return np.where(mask[..., None], picture, faded)


def overlap(a: Bool[np.ndarray, "h w"], b: Bool[np.ndarray, "h w"]) -> float:
    """IoU of a segment with the truth; 0 for an empty segment."""
    return iou(a, b) if a.any() else 0.0


def soft_spots(n: int, size: int, seed: int) -> Float[Tensor, "n 3 size size"]:
    """Starts for class models: faint, soft spots of colour, normalised, with a standard deviation of 0.5."""
    spots = torch.randn(n, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    spots = nn.functional.interpolate(spots, size=(size, size), mode="bicubic")
    return 0.5 * spots / spots.std()


def tricks(names: Sequence[str], network: Classifier) -> dict:
    """Compose the options of ``class_model`` for some of ``TRICKS``."""
    transforms = {"jitter": Jitter(8), "turn and zoom": Affine(degrees=8, scale=0.1)}
    projections = {"blur": Blur(0.7, every=4), "clip": Clip(network.preprocess)}
    return {
        "transforms": [transform for name, transform in transforms.items() if name in names],
        "projections": [projection for name, projection in projections.items() if name in names],
        "parametrisation": "fourier" if "Fourier" in names else "pixels",
    }


def draw_class_model(
    network: Classifier, label: int, l2: float = 1e-3, steps: int = 60, names: Sequence[str] = (), size: int = 96
) -> Figure:
    """Draw the class model of one class, a few snapshots on its way, and the score of each step.

    The ascent is that of the lesson, or Adam on Fourier coefficients.

    Args:
        network: With ``.preprocess`` and ``.classes``.
        label: Class.
        l2: lambda.
        steps: Of the ascent.
        names: Of ``TRICKS``, those switched on.
        size: Side of the image in pixels.
    """
    way = {"lr": 0.02} if "Fourier" in names else {"lr": 30.0, "optimizer": "ascent"}
    every = max(1, steps // 4)
    found = class_model(
        network, label, size=size, steps=steps, l2=l2, snapshot_every=every, progress=False,
        start=soft_spots(1, size, 2), **way, **tricks(names, network),
    )  # fmt: skip
    with torch.no_grad():
        scores = network(found.images)[0]
    figure, axes = figures.new(1, 4, width=10, height=2.7, width_ratios=[1, 1, 1, 1.25])
    first = sorted(found.snapshots)
    for axis, step in zip(axes, (first[0], first[1 if len(first) > 1 else 0]), strict=False):
        figures.picture(axis, network.preprocess.undo(found.snapshots[step])[0], f"after {step} steps")
    title = f"{network.classes[label]}: {scores[label]:.1f}, p = {scores.softmax(0)[label]:.2f}"
    figures.picture(axes[2], network.preprocess.undo(found.images)[0], title)
    axes[3].plot(range(1, steps + 1), found.scores[:, 0].numpy())
    axes[3].set(title="the score as it was climbed", xlabel="step", ylabel="score before the softmax")
    return figure


def draw_segment(
    network: Classifier,
    picture: UInt8[np.ndarray, "h w 3"],
    mask: Bool[np.ndarray, "h w"],
    label: int,
    foreground: float = 0.95,
    background: float = 0.30,
) -> Figure:
    """Draw a picture's saliency, the seeds at two quantiles, and the segment that GrabCut grows from them.

    Args:
        network: With ``.preprocess`` and ``.classes``.
        picture: uint8 RGB.
        mask: The object's true mask.
        label: Class to explain.
        foreground: Quantile from which a pixel is surely the object.
        background: Quantile up to which a pixel is surely not.
    """
    heat = images.upsample(saliency(network, network.preprocess(picture), label)[0], picture.shape[:2])
    segment = grabcut(picture, heat, foreground, background)
    titles = [
        network.classes[label],
        "saliency",
        f"seeds: ≥ {foreground:.0%}, ≤ {background:.0%}",
        f"segment, IoU {overlap(segment, mask):.2f}",
    ]
    panels = [picture, glow(heat), draw_seeds(picture, heat, foreground, background), cut_out(picture, segment)]
    return figures.strip(panels, titles, panel=2.2)


def share_on(heats: Float[Tensor, "n h w"], masks: Bool[Tensor, "n height width"]) -> Float[np.ndarray, "n"]:
    """Measure which share of each map lies on its mask.

    >>> share_on(torch.ones(1, 2, 2), torch.tensor([[[True, False], [False, False]]])).tolist()
    [0.25]
    """
    large = images.upsample(heats, (masks.shape[1], masks.shape[2])).double()
    return ((large * masks).sum((1, 2)) / large.sum((1, 2))).numpy()


def averaged(heats: Float[Tensor, "n h w"], side: int = 17) -> Float[Tensor, "n h w"]:
    """Average maps over squares, in which single grains no longer count; ``side`` is odd.

    >>> averaged(torch.ones(1, 3, 3).cumsum(2), 3)[0, 1].tolist()
    [1.5, 2.0, 2.5]
    """
    return nn.functional.avg_pool2d(heats[:, None], side, stride=1, padding=side // 2, count_include_pad=False)[:, 0]


def by_position(heats: Float[Tensor, "n h w"], period: int = 4) -> Float[Tensor, "period period"]:
    """Average maps over all pixels of one position modulo ``period``, relative to the mean of all pixels.

    >>> by_position(torch.tensor([[[1.0, 3.0], [1.0, 3.0]]]), 2).tolist()
    [[0.5, 1.5], [0.5, 1.5]]
    """
    n, height, width = heats.shape
    blocks = heats.view(n, height // period, period, width // period, period)
    return blocks.mean((0, 1, 3)) / heats.mean()


def draw_idea(network: Classifier, climber: Classifier) -> Figure:
    """Draw the two uses of the gradient: read it once at a picture, or climb along it from a faint start.

    Args:
        network: It looks at the photograph of a cat, and has the class "tiger cat".
        climber: It draws a mug, and has the class "mug".
    """
    names = ("tiger cat", "mug")
    batch = network.preprocess(photograph("cat").image)
    heat, picture = saliency(network, batch, network.classes.index(names[0]))[0], network.preprocess.undo(batch)[0]
    begin, mug = soft_spots(1, 96, 2), climber.classes.index(names[1])
    found = class_model(
        climber, mug, size=96, steps=60, lr=30, optimizer="ascent", start=begin, transforms=[Jitter(8)],
        snapshot_every=10, progress=False,
    )  # fmt: skip
    steps = [climber.preprocess.undo(each)[0] for each in (begin, found.snapshots[10], found.images)]
    figure, page = figures.new(width=12, height=5.4)
    page.set(xlim=(0, 12), ylim=(0, 5.4))
    page.set_axis_off()
    red = figures.VERMILLION

    def put(image: Picture, x: float, y: float, title: str) -> None:
        figures.picture(page.inset_axes((x, y, 1.75, 1.75), transform=page.transData), image, title)

    def arrow(start: tuple, end: tuple, colour: str = "black", **options) -> None:
        page.annotate("", end, start, arrowprops=ARROW | {"color": colour} | options)

    for y, name in ((4.0, names[0]), (1.2, names[1])):
        page.text(6.1, y, "network,\nweights fixed", ha="center", va="center", fontsize=12,
                  bbox={"boxstyle": "round,pad=0.6", "facecolor": "#EEEEEE"})  # fmt: skip
        page.text(8.6, y, f"$S_c$\n“{name}”", ha="center", va="center", fontsize=12,
                  bbox={"boxstyle": "round,pad=0.5", "facecolor": "#EEEEEE"})  # fmt: skip
        arrow((7.0, y), (7.9, y))
    put(picture, 2.4, 3.1, "the picture stays")
    arrow((4.25, 4.0), (5.2, 4.0))
    put(glow(heat), 10.0, 3.1, "saliency")
    arrow((8.6, 3.45), (8.6, 3.05), red)
    arrow((8.6, 3.05), (10.0, 3.05), red)
    page.text(8.5, 2.85, "gradient for the pixels, read once", ha="center", va="top", color=red)
    for x, image, title in zip((0.2, 2.4), steps, ("faint start", "a few steps"), strict=False):
        put(image, x, 0.3, title)
    put(steps[-1], 10.0, 0.3, "class model")
    arrow((4.25, 1.2), (5.2, 1.2))
    arrow((8.6, 0.65), (8.6, 0.1), red)
    arrow((8.6, 0.1), (3.3, 0.1), red)
    arrow((3.3, 0.1), (3.3, 0.3), red)
    page.text(6.1, 0.15, "add the gradient to the picture, and again", ha="center", va="bottom", color=red)
    return figure


def draw_taylor(levels: Float[np.ndarray, "l"], changes: Mapping[str, tuple[Tensor, Tensor]]) -> Figure:
    """Draw true and predicted changes of the score against the strength of the change of the picture.

    Args:
        levels: Strengths, in grey levels.
        changes: By title: true and predicted changes, each (levels, pictures).
    """
    figure, axes = figures.new(1, len(changes), width=4.2 * len(changes), height=3.7)
    for axis, (title, (true, said)) in zip(axes, changes.items(), strict=True):
        for values, line, colour, label in ((said, "--", 4, "predicted, w · d"), (true, "o-", 0, "true")):
            axis.plot(levels, values.square().mean(1).sqrt(), line, color=figures.PALETTE[colour], label=label)
        axis.set(title=title, xlabel="strength, grey levels of 255", xscale="log", yscale="log")
        axis.set_xticks(levels, [f"{v:g}" for v in levels])
        axis.minorticks_off()
    low = min(axis.get_ylim()[0] for axis in axes)
    for axis in axes:
        axis.set_ylim(low, max(axis.get_ylim()[1] for axis in axes))
    axes[0].set_ylabel("change of the score, r.m.s.")
    axes[0].legend(loc="upper left")
    return figure


def draw_lattice(
    picture: Picture, heat: Float[Tensor, "h w"], corner: tuple[int, int], means: Mapping[str, Float[Tensor, "4 4"]]
) -> Figure:
    """Draw a map, a piece of it enlarged with lines every four pixels, and the mean by position in the lattice.

    Args:
        picture: What the network saw.
        heat: Its saliency.
        corner: Row and column of the piece's corner, multiples of four.
        means: By network: mean saliency by row and column modulo 4, relative to the mean of all.
    """
    figure, axes = figures.new(1, 3 + len(means), width=3.0 * (3 + len(means)), height=3.5)
    y, x = corner
    figures.picture(axes[0], picture, "picture")
    figures.picture(axes[1], glow(heat), "saliency")
    figures.outline(axes[1], Box(x, y, x + 32, y + 32), "#FFFFFF")
    figures.picture(axes[2], glow(heat)[y : y + 32, x : x + 32], "32 × 32 pixels of it")
    for at in range(4, 32, 4):
        axes[2].axhline(at - 0.5, color="white", linewidth=0.5, alpha=0.7)
        axes[2].axvline(at - 0.5, color="white", linewidth=0.5, alpha=0.7)
    for axis, (name, table) in zip(axes[3:], means.items(), strict=True):
        figures.picture(axis, table.numpy(), f"{name}: mean by\nposition modulo 4", cmap="RdBu_r", vmin=0.7, vmax=1.3)
        for i, j in np.ndindex(4, 4):
            axis.text(j, i, f"{table[i, j]:.2f}", ha="center", va="center", fontsize=10)
    return figure


def draw_climb(
    begin: Picture, ends: Mapping[str, Picture], trails: Mapping[str, Tensor], names: Mapping[str, int]
) -> Figure:
    """Draw a start, and for each objective the picture at the end and the scores on the way.

    Args:
        begin: The picture at the start.
        ends: By objective, the picture at the end.
        trails: By objective, the scores on the way (steps, classes).
        names: Classes whose scores are drawn.
    """
    figure, axes = figures.new(1, 5, width=13, height=3.0, width_ratios=[1, 1, 1.25, 1, 1.25])
    figures.picture(axes[0], begin, "start")
    low, high = min(float(t.min()) for t in trails.values()), max(float(t.max()) for t in trails.values())
    for i, (objective, picture) in enumerate(ends.items()):
        figures.picture(axes[1 + 2 * i], picture, f"up the {objective} of “cat”")
        for (name, c), line, colour in zip(names.items(), ("-", "--"), (0, 4), strict=False):
            axes[2 + 2 * i].plot(trails[objective][:, c], line, color=figures.PALETTE[colour], label=name)
        axes[2 + 2 * i].set(title="scores on the way", xlabel="step", ylim=(low - 1, high + 1))
    axes[2].legend(fontsize=10, loc="upper left")
    return figure


def _curve(axis: Axes, x: Float[np.ndarray, "n"], cases: Sequence, colour: str, marker: str, label: str) -> None:
    """Draw means with their intervals."""
    means = np.array([np.mean(each) for each in cases])
    ends = np.array([interval(each) for each in cases]).T
    axis.errorbar(x, means, np.abs(ends - means), marker=marker, color=colour, capsize=4, label=label)


def draw_smooth(
    sigmas: Sequence[float], shares: Mapping[str, Sequence], right: Mapping[str, Sequence], area: float
) -> Figure:
    """Draw SmoothGrad's share on the object, and the share of noisy pictures that are named correctly, by sigma.

    Args:
        sigmas: Shares of the pictures' range.
        shares: By network, for each sigma the share on the object of each picture.
        right: By network, for each sigma, whether each noisy picture is named correctly.
        area: Share of the picture that the object covers.
    """
    figure, axes = figures.new(1, 2, width=10.4, height=3.8)
    for axis, curves in zip(axes, (shares, right), strict=True):
        for (name, cases), colour, marker, shift in zip(
            curves.items(), figures.PALETTE[1::-1], "os", (-0.04, 0.04), strict=True
        ):
            _curve(axis, np.arange(len(sigmas)) + shift, cases, colour, marker, name)
        axis.set(xlabel="σ, share of the range", ylim=(0, 1.05))
        axis.set_xticks(range(len(sigmas)), [f"{s:g}" for s in sigmas])
    axes[0].axhline(area, color="black", linestyle=":", linewidth=1.5, label="object's area")
    axes[0].set_title("share of the map on the object")
    axes[1].set_title("noisy pictures named correctly")
    axes[0].legend(loc="upper right")
    return figure


def draw_posters(posters: Mapping[str, Sequence[Picture]], names: Sequence[str]) -> Figure:
    """Draw the class models of two or more networks in rows of five, in the same order and size."""
    rows = [(title, list(pictures)[i : i + 5]) for i in (0, 5) for title, pictures in posters.items()]
    figure, axes = figures.new(len(rows), 5, width=10, height=2.1 * len(rows))
    for row, (title, pictures) in enumerate(rows):
        for column, picture in enumerate(pictures):
            name = names[column + 5 * (row // len(posters))] if row % len(posters) == 0 else None
            figures.picture(axes[row, column], picture, name)
        axes[row, 0].text(-0.06, 0.5, title, transform=axes[row, 0].transAxes, rotation=90, ha="right", va="center")
    return figure


def draw_rounding(
    pictures: Sequence[Picture], climbs: Float[np.ndarray, "steps n"], titles: Sequence[str], names: Sequence[str]
) -> Figure:
    """Draw class models of the tutorials, and the score on the way for each rate, rounded and exact.

    Args:
        pictures: Some of the class models, with ``titles``.
        climbs: The scores on the way.
        names: Of all ways; rounded and exact ones take turns.
    """
    widths = [1] * len(pictures) + [2.4]
    figure, axes = figures.new(1, len(pictures) + 1, width=13, height=3.3, width_ratios=widths)
    for axis, picture, title in zip(axes, pictures, titles, strict=False):
        figures.picture(axis, picture, title)
    for k, name in enumerate(names):
        axes[-1].plot(climbs[:, k], "--" if k % 2 else "-", color=figures.PALETTE[k // 2], label=name)
    axes[-1].set(title="the score on the way", xlabel="step")
    figure.legend(*axes[-1].get_legend_handles_labels(), loc="outside right center")
    return figure


def fine_share(pictures: Float[Tensor, "n c h w"]) -> float:
    """Measure the share of the variance in the upper half of the frequencies, on average.

    >>> fine_share(torch.tensor([1.0, -1.0]).repeat(4).view(1, 1, 1, 8).expand(1, 1, 8, 8))
    1.0
    """
    power = torch.fft.fft2(pictures - pictures.mean((2, 3), keepdim=True)).abs().square()
    rows, columns = (torch.fft.fftfreq(side) for side in pictures.shape[2:])
    fine = (rows[:, None].abs() > 0.25) | (columns.abs() > 0.25)
    return float((power * fine).sum((1, 2, 3)).div(power.sum((1, 2, 3))).mean())


def draw_overlaps(cut: Mapping[str, Float[np.ndarray, "n"]], top: Mapping[str, Float[np.ndarray, "n"]]) -> Figure:
    """Draw the IoU of segments by the map that they grew from, a dot for each picture, and the mean with its interval.

    Args:
        cut: IoU of the segments.
        top: IoU of the most salient pixels alone.
    """
    figure, axis = figures.new(width=10, height=0.8 * len(cut) + 1.2)
    rng = np.random.default_rng(0)
    rows = [(row, cut[name], figures.BLUE) for row, name in enumerate(cut)]
    rows += [(row + 0.32, top[name], figures.GREY) for row, name in enumerate(cut)]
    for row, values, colour in rows:
        axis.scatter(values, row + rng.uniform(-0.08, 0.08, len(values)), s=14, color=colour, alpha=0.5, linewidth=0)
        axis.plot(interval(values), [row, row], color="black", linewidth=3, solid_capstyle="butt")
        axis.plot(values.mean(), row, "o", color=colour, markeredgecolor="black", markersize=9)
    axis.set_yticks(range(len(cut)), list(cut))
    axis.set(
        xlabel="IoU with the true mask; grey: the top 5 % of the map alone", xlim=(0, 1), ylim=(len(cut) - 0.4, -0.4)
    )
    axis.grid(axis="y", visible=False)
    return figure
