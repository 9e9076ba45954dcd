"""Drawings of class activation maps and of what is measured with them."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor, nn

from xailab import figures, images
from xailab.boxes import Box, iou
from xailab.cam import class_activation_map
from xailab.datasets import photographs
from xailab.datasets.scenes import Scene
from xailab.hooks import recording
from xailab.lessons.drawings import outline
from xailab.localization import boxes
from xailab.metrics import interval
from xailab.models.classifier import Classifier

ARROW = {"arrowstyle": "-|>", "linewidth": 2.0, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 16, "color": "black"}
EVIDENCE = "evidence of a cell\n(units of the score)"


def draw_idea(network: Classifier, batch: Float[Tensor, "1 3 height width"], c: int, layer: str = "relu1") -> Figure:
    """Draw both ways from the feature maps to the score: average and then weight, or weight and then average.

    Args:
        network: A network with ``.preprocess``, ``.classes``, and ``.fc`` after the average.
        batch: One picture.
        c: Class to explain.
        layer: Name of the layer that is averaged.
    """
    head = network.get_submodule("fc")
    if not isinstance(head, nn.Linear):
        raise TypeError(f"expected a network whose fc is a linear layer, got {type(head).__name__}")
    with torch.no_grad(), recording(network, layer) as recorded:
        network(batch)
    features, seen = recorded[layer][0], network.preprocess.undo(batch)[0]
    weight = head.weight[c].detach()
    weighted = weight.view(-1, 1, 1) * features
    heat, share = weighted.sum(0), weighted.mean((1, 2))
    shown = [*share.topk(2).indices.tolist(), int(share.argmin())]
    figure, page = figures.new(width=12, height=5.05)
    page.set(xlim=(0, 12), ylim=(0.55, 5.6))
    page.set_axis_off()

    def put(image: np.ndarray, x: float, y: float, title: str = "", **options) -> None:
        figures.picture(page.inset_axes((x, y, 1.4, 1.4), transform=page.transData), image, title or None, **options)

    def arrow(start: tuple, end: tuple) -> None:
        page.annotate("", end, start, arrowprops=ARROW)

    def write(x: float, y: float, text: str, **options) -> None:
        page.text(x, y, text, ha="center", va="center", **options)

    put(seen, 0.1, 3.7, "picture")
    write(2.4, 4.4, "convolutions", bbox={"boxstyle": "round,pad=0.5", "facecolor": "#EEEEEE"})
    arrow((1.55, 4.4), (1.75, 4.4))
    arrow((3.05, 4.4), (3.35, 4.4))
    bound = float(weighted[shown].abs().max())
    for x, k in zip((3.4, 4.95, 6.5), shown, strict=True):
        put(features[k].numpy(), x, 3.7, f"$f_{{{k}}}$", cmap="inferno", vmin=0)
        write(x + 0.7, 3.35, f"$\\times\\ w^c_{{{k}}}$ = {weight[k]:+.2f}".replace("-", "−"), color=figures.VERMILLION)
        arrow((x + 0.7, 3.1), (x + 0.7, 2.55))
        put(weighted[k].numpy(), x, 1.1, cmap="RdBu_r", vmin=-bound, vmax=bound)
    write(5.65, 0.75, "each map times its weight: red for, blue against the class")
    arrow((8.0, 4.4), (10.0, 4.4))
    write(9.0, 4.85, "average each map,\nweight, add")
    write(9.0, 4.1, "and add the bias $b_c$")
    write(
        11.05, 4.4, f"score $S_c$\n“{network.classes[c]}”", bbox={"boxstyle": "round,pad=0.5", "facecolor": "#EEEEEE"}
    )
    arrow((8.0, 1.8), (10.25, 1.8))
    write(9.1, 2.05, f"add all {len(weight)}")
    put(images.overlay(images.grey(seen), heat), 10.35, 1.1)
    write(11.05, 0.75, "class activation map $M_c$")
    arrow((11.05, 2.6), (11.05, 3.75))
    write(10.1, 3.15, "average the cells,\nadd the bias $b_c$")
    return figure


def draw_cam(
    network: Classifier, picture: np.ndarray, label: int, threshold: float = 0.6, opacity: float = 0.75
) -> Figure:
    """Draw a picture with boxes, its raw map with a colour bar in units of the score, and the overlay.

    Args:
        network: One that ``class_activation_map`` takes, with ``.preprocess`` and ``.classes``.
        picture: uint8 RGB; of a network that crops, its crop is drawn.
        label: Class to explain.
        threshold: Threshold of the boxes, as a share of the map's maximum.
        opacity: Opacity of the overlay at the map's maximum.
    """
    batch = network.preprocess(picture)
    if network.preprocess.crop is not None:  # the map covers what the network saw, not what was cut off
        picture = network.preprocess.frame(picture)
    with torch.no_grad():
        probability = network(batch).softmax(1)[0, label].item()
    cam = class_activation_map(network, batch, label)[0]
    large = images.upsample(cam, picture.shape[:2])
    figure, axes = figures.new(1, 3, width=10.4, height=3.7)
    figures.picture(axes[0], picture, f"{network.classes[label]}: probability {probability:.2f}")
    figures.picture(axes[1], cam.numpy(), "the map itself", **figures.map_scale(cam.numpy()))
    figures.colour_bar(figure, axes[1], "evidence of a cell (units of the score)")
    figures.picture(
        axes[2],
        images.overlay(images.grey(picture), cam, opacity=opacity),
        f"boxes at {100 * threshold:.0f} % of the maximum",
    )
    for box in boxes(large, threshold):
        figures.outline(axes[0], box)
        figures.outline(axes[2], box)
    return figure


def draw_signed(pairs: Sequence[Scene], cams: Float[Tensor, "n classes h w"], names: Sequence[str]) -> Figure:
    """Draw scenes and their raw maps with the outlines of the objects; red and blue have scales of their own."""
    columns = 1 + len(names)
    figure, axes = figures.new(len(pairs), columns, width=3.3 * columns + 1.1, height=3.5 * len(pairs))
    signs = TwoSlopeNorm(0, float(cams.min()), float(cams.max()))
    for row, scene, heats in zip(axes, pairs, cams, strict=True):
        height, width = scene.image.shape[:2]
        figures.picture(row[0], scene.image, "picture")
        for axis, heat, name in zip(row[1:], heats, names, strict=True):
            extent = (-0.5, width - 0.5, height - 0.5, -0.5)
            figures.picture(axis, heat.numpy(), f"map for “{name}”", cmap="RdBu_r", norm=signs, extent=extent)
            for mask in scene.masks:
                outline(axis, mask, "white", 2.0)
    bar = figure.colorbar(axes[0, -1].images[0], ax=axes, fraction=0.03, pad=0.02)
    bar.set_label("evidence of a cell (units of the score); blue is drawn stronger than red")
    bar.outline.set_visible(False)
    return figure


def draw_raw(
    picture: UInt8[np.ndarray, "height width 3"], cams: Sequence[Float[Tensor, "h w"]], titles: Sequence[str]
) -> Figure:
    """Draw a picture and raw maps beside it, on one colour scale with its bar."""
    figure, axes = figures.new(1, 1 + len(cams), width=3.1 * (1 + len(cams)) + 0.9, height=3.5)
    figures.picture(axes[0], picture, "picture")
    scale = figures.map_scale(torch.stack(list(cams)).numpy())
    for axis, cam, title in zip(axes[1:], cams, titles, strict=True):
        figures.picture(axis, cam.numpy(), title, **scale)
    figures.colour_bar(figure, axes[-1], EVIDENCE)
    return figure


def draw_trap(
    picture: UInt8[np.ndarray, "height width 3"], cams: Float[Tensor, "classes h w"], names: Sequence[str]
) -> Figure:
    """Draw for each class the stretched overlay, the overlay on the scale of all classes, and the raw map."""
    figure, axes = figures.new(len(cams), 3, width=11, height=3.6 * len(cams))
    grey, largest = images.grey(picture), float(cams.max())
    for row, cam, name in zip(axes, cams, names, strict=True):
        figures.picture(row[0], images.stretched_overlay(grey, cam), f"“{name}”, stretched")
        figures.picture(row[1], images.overlay(grey, cam, scale=largest), f"“{name}”, zero is transparent")
        figures.picture(row[2], cam.numpy(), f"“{name}”, raw", **figures.map_scale(cams.numpy()))
        figures.colour_bar(figure, row[2], EVIDENCE)
    return figure


def draw_measures(
    hits: Bool[np.ndarray, "n"],
    masks: Bool[np.ndarray, "n height width"],
    thresholds: Float[np.ndarray, "t"],
    overlaps: Mapping[str, Float[np.ndarray, "m t"]],
    chosen: int,
) -> Figure:
    """Draw the pointing game as bars with intervals, and the mean overlap of the boxes by threshold.

    Args:
        hits: Whether the map hits, scene by scene.
        masks: The objects.
        thresholds: Thresholds of the boxes, as shares of the maximum.
        overlaps: IoU of each scene at each threshold, for two sets of scenes.
        chosen: Place of the threshold that was chosen.
    """
    figure, axes = figures.new(1, 2, width=11, height=4.0, width_ratios=[1, 1.5])
    height, width = masks.shape[1:]
    ways = {"centre of\nthe picture": masks[:, height // 2, width // 2], "CAM": hits}
    means = [cases.mean() for cases in ways.values()]
    ends = np.array([interval(cases) for cases in ways.values()]).T
    axes[0].bar(list(ways), means, 0.55, color=[figures.GREY, figures.BLUE], yerr=abs(ends - means), capsize=6)
    for x, mean in enumerate(means):
        axes[0].text(x, 0.04, f"{mean:.2f}", ha="center", color="white", fontweight="bold")
    axes[0].axhline(masks.mean(), color="black", linestyle=":", label=f"random pixel, {masks.mean():.2f}")
    axes[0].set(title="The pointing game", ylabel="share of hits", ylim=(0, 1.05))
    axes[0].grid(axis="x", visible=False)
    for (name, cases), colour, line in zip(overlaps.items(), (figures.ORANGE, figures.BLUE), "-o", strict=True):
        ends = np.array([interval(each) for each in cases.T]).T
        options = {"marker": "o", "linestyle": "none"} if line == "o" else {}
        axes[1].plot(thresholds, cases.mean(0), color=colour, label=name, **options)
        axes[1].fill_between(thresholds, *ends, color=colour, alpha=0.25, linewidth=0)
    axes[1].axvline(thresholds[chosen], color="black", linestyle="--", label=f"chosen, {thresholds[chosen]:.2f}")
    axes[1].set(title="Boxes", xlabel="threshold, share of the map's maximum", ylabel="mean IoU", ylim=(0, 0.8))
    figure.legend(loc="outside lower center", ncols=4)
    return figure


def draw_boxes(
    pictures: Sequence[UInt8[np.ndarray, "height width 3"]],
    cams: Float[Tensor, "n height width"],
    true: Sequence[Box],
    thresholds: Mapping[str, float],
) -> Figure:
    """Draw the true box and the found boxes of two thresholds on each picture, over its overlay.

    Args:
        pictures: Pictures.
        cams: Their maps at the size of the pictures.
        true: The true boxes.
        thresholds: Two thresholds by their names in the legend.
    """
    colours = (figures.ORANGE, figures.SKY)
    figure, axes = figures.new(1, len(pictures), width=2.8 * len(pictures), height=3.4)
    for axis, picture, cam, box in zip(axes, pictures, cams, true, strict=True):
        found = [boxes(cam, threshold)[0] for threshold in thresholds.values()]
        figures.picture(axis, images.overlay(images.grey(picture), cam, opacity=0.6))
        axis.set_title("IoU " + " and ".join(f"{iou(each, box):.2f}" for each in found))
        for each, colour in zip((box, *found), ("#FFFFFF", *colours), strict=True):
            figures.outline(axis, each, colour)
    names = ("true box", *thresholds)
    keys = [Patch(facecolor=c, edgecolor="black", label=n) for c, n in zip(("#FFFFFF", *colours), names, strict=True)]
    figure.legend(handles=keys, loc="outside lower center", ncols=3)
    return figure


def draw_composite(network: Classifier, title: str) -> tuple[Figure, str]:
    """Draw the maps on the composite of cat and cup, for what a network calls each photograph.

    Args:
        network: A network that ``class_activation_map`` takes, with ``.preprocess`` and ``.classes``.
        title: Title of the figure.

    Returns:
        The figure, and lines that say which share of the positive evidence lies on the half of the cat.
    """
    with torch.no_grad():
        both = [photographs.photograph(name).image for name in ("cat", "cup")]
        top = network(network.preprocess(both)).argmax(1).tolist()
    batch = network.preprocess(photographs.stacked("cat", "cup"))
    heats = class_activation_map(network, batch, [top])[0].relu()
    seen = network.preprocess.undo(batch)[0]
    overlays = [images.overlay(images.grey(seen), heat, scale=float(heats.max()) or None) for heat in heats]
    names = [f"“{network.classes[c]}”" for c in top]
    large = images.upsample(heats, len(seen))
    shares = large[:, : len(seen) // 2].sum((1, 2)) / large.sum((1, 2))
    lines = [f"{name:20s} {share:4.0%} on the half of the cat" for name, share in zip(names, shares, strict=True)]
    return figures.strip([seen, *overlays], ["what the network saw", *names], title=title, panel=4.0), "\n".join(lines)
