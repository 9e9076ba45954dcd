"""Drawings of Grad-CAM maps and of what is measured with them."""

import warnings
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from xailab import figures, images
from xailab.boxes import iou
from xailab.datasets import photographs
from xailab.grad_cam import NoPositiveEvidence, grad_cam, guided_grad_cam
from xailab.localization import boxes, ground_truth_box
from xailab.metrics import interval
from xailab.models.classifier import Classifier

LAYERS = ("conv1", "layer1", "layer2", "layer3", "layer4")
Picture = UInt8[np.ndarray, "height width 3"]
ARROW = {"arrowstyle": "-|>", "linewidth": 2.0, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 16}


def draw_grad_cam(
    network: Classifier,
    picture: np.ndarray,
    label: int,
    layer: str = "layer4",
    relu: bool = True,
    counterfactual: bool = False,
    opacity: float = 0.75,
) -> Figure:
    """Draw a picture, the raw Grad-CAM map of a class at a layer with its colour bar, and the overlay.

    Args:
        network: Any that ``grad_cam`` takes, with ``.preprocess`` and ``.classes``.
        picture: uint8 RGB; of a network that crops, its crop is drawn.
        label: Class to explain.
        layer: Dotted name of a layer.
        relu: Keep the positive part only.
        counterfactual: Show what speaks against the class.
        opacity: Opacity of the overlay where the map is strongest.
    """
    batch = network.preprocess(picture)
    if network.preprocess.crop is not None:  # the map covers what the network saw, not what was cut off
        picture = network.preprocess.frame(picture)
    with torch.no_grad():
        scores = network(batch)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoPositiveEvidence)
        heat = grad_cam(network, batch, layer, label, relu=relu, counterfactual=counterfactual)[0]
    figure, axes = figures.new(1, 3, width=10.4, height=3.8)
    said = f"score {scores[0, label]:.1f}, probability {scores.softmax(1)[0, label]:.2f}"
    figures.picture(axes[0], picture, f"{network.classes[label]}: {said}")
    size = f"{heat.shape[0]} × {heat.shape[1]} cells"
    empty = "no evidence at all: " if not heat.any() else ""
    figures.picture(axes[1], heat.numpy(), f"{empty}{layer}, {size}", **figures.map_scale(heat.numpy()))
    figures.colour_bar(figure, axes[1], f"evidence {'against' if counterfactual else 'for'} the class")
    draw = images.overlay if relu else images.signed_overlay
    figures.picture(axes[2], draw(picture, heat, opacity=opacity), "overlay")
    if not relu:
        axes[2].set_title("overlay, red speaks against" if counterfactual else "overlay, red for and blue against")
    return figure


def draw_idea(
    picture: Picture, features: Float[Tensor, "k h w"], alpha: Float[Tensor, "k"], name: str, score: float
) -> Figure:
    """Draw the method from left to right: forward to the score, back to the weights, and the weighted sum.

    Args:
        picture: What the network saw.
        features: Its last feature maps.
        alpha: The weight of each for the class.
        name: Name of the class.
        score: Its score.
    """
    figure, page = figures.new(width=12, height=5.2)
    page.set(xlim=(0, 12), ylim=(0, 5.2))
    page.set_axis_off()
    share = alpha * features.mean((1, 2))  # of the score
    shown = [*share.topk(2).indices.tolist(), int(share.argmin())]
    heat = torch.einsum("k,khw->hw", alpha, features).relu()
    red = figures.VERMILLION

    def put(image: np.ndarray, x: float, y: float, title: str = "", **options) -> None:
        figures.picture(page.inset_axes((x, y, 1.4, 1.4), transform=page.transData), image, title or None, **options)

    def arrow(start: tuple, end: tuple, colour: str = "black") -> None:
        page.annotate("", end, start, arrowprops=ARROW | {"color": colour})

    def box(x: float, text: str) -> None:
        page.text(x, 4.0, text, ha="center", va="center", bbox={"boxstyle": "round,pad=0.5", "facecolor": "#EEEEEE"})

    put(picture, 0.1, 3.3, "picture")
    box(2.35, "convolutions")
    box(8.95, "the rest of\nthe network")
    box(11.1, f"$S_c$ = {score:.1f}\n“{name}”")
    for start, end in ((1.55, 1.75), (2.95, 3.35), (7.95, 8.25), (9.65, 10.35)):
        arrow((start, 4.0), (end, 4.0))
    bound = float((alpha.view(-1, 1, 1) * features)[shown].abs().max())
    for x, k in zip((3.4, 4.95, 6.5), shown, strict=True):
        put(features[k].numpy(), x, 3.3, f"$f_{{{k}}}$", cmap="inferno", vmin=0)
        page.text(x + 0.7, 2.75, f"$\\alpha$ = {alpha[k]:+.4f}".replace("-", "−"), ha="center", color=red, fontsize=12)
        arrow((x + 0.7, 2.6), (x + 0.7, 2.15))
        put((alpha[k] * features[k]).numpy(), x, 0.7, cmap="RdBu_r", vmin=-bound, vmax=bound)
    arrow((11.1, 3.45), (11.1, 2.85), red)
    arrow((11.1, 2.85), (7.95, 2.85), red)
    page.text(
        9.5, 2.45, "backward: gradient at each cell,\naveraged over the cells", ha="center", va="center", color=red
    )
    page.text(5.65, 0.35, "each map times its weight: red for, blue against the class", ha="center")
    arrow((8.0, 1.4), (10.3, 1.4))
    page.text(9.15, 1.55, f"add all {len(alpha)}", ha="center")
    page.text(9.15, 1.1, "ReLU", ha="center")
    put(images.overlay(images.grey(picture), heat), 10.4, 0.7)
    page.text(11.1, 0.35, "Grad-CAM map", ha="center")
    return figure


def on_black(values: Float[Tensor, "3 height width"], blur: float = 0.0) -> Picture:
    """Draw the strength of a gradient in white on black: the largest of the three channels, brightened.

    The strongest 0.2 % of the pixels are drawn white.

    >>> on_black(torch.tensor([[[0.0, 1.0]]]).expand(3, 1, 2))[..., 0].tolist()
    [[0, 255]]

    Args:
        values: A gradient of the picture, or Guided Grad-CAM.
        blur: Standard deviation of a blur in pixels, which shows lines where single pixels flicker.
    """
    strength = values.abs().amax(0).numpy()
    if blur:
        strength = cv2.GaussianBlur(strength, (0, 0), blur)
    return images.heatmap((strength / (np.quantile(strength, 0.998) or 1.0)).clip(max=1) ** 0.7, "gray")


def _bars(axis: Axes, cases: Mapping[str, Shaped[np.ndarray, "n"]], colour: str, shift: float = 0.0, **options) -> None:
    """Draw the mean of each group of cases as a bar, with its interval."""
    means = np.array([np.mean(each) for each in cases.values()])
    ends = np.array([interval(each) for each in cases.values()]).T
    places = np.arange(len(cases)) + shift
    axis.bar(places, means, color=colour, yerr=np.abs(ends - means), capsize=5, **options)
    for x, mean in zip(places, means, strict=True):
        axis.text(x, 0.03, f"{mean:.2f}", ha="center", color="white", fontweight="bold")
    axis.set_xticks(np.arange(len(cases)), list(cases))
    axis.grid(axis="x", visible=False)


def draw_hits(hits: Mapping[str, Bool[np.ndarray, "n"]], chance: float) -> Figure:
    """Draw the share of maps that point to the object, by layer, with bands for the centre and for a random pixel."""
    figure, axis = figures.new(width=8.5, height=4.0)
    centre = hits["centre"]
    _bars(axis, {layer: cases for layer, cases in hits.items() if layer != "centre"}, figures.BLUE, width=0.6)
    low, high = interval(centre)
    axis.axhspan(low, high, color=figures.ORANGE, alpha=0.25, linewidth=0)
    axis.axhline(centre.mean(), color=figures.ORANGE, label=f"centre of the picture, {centre.mean():.2f}")
    axis.axhline(chance, color="black", linestyle=":", label=f"random pixel, {chance:.2f}")
    axis.set(title=f"The pointing game on {len(centre)} unseen scenes", ylabel="share of hits", ylim=(0, 1))
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def draw_changes(changes: Mapping[str, Float[np.ndarray, "n"]], label: str) -> Figure:
    """Draw one row of dots for each way to blur, a dot for each picture, and the mean with its interval."""
    figure, axis = figures.new(width=9.5, height=0.85 * len(changes) + 1.0)
    rng = np.random.default_rng(0)
    for row, (values, colour) in enumerate(zip(changes.values(), figures.PALETTE, strict=False)):
        axis.scatter(values, row + rng.uniform(-0.22, 0.22, len(values)), s=14, color=colour, alpha=0.45, linewidth=0)
        axis.plot(interval(values), [row, row], color="black", linewidth=4, solid_capstyle="butt")
        axis.plot(values.mean(), row, "o", color=colour, markeredgecolor="black", markersize=10)
    axis.axvline(0, color="black", linewidth=1)
    axis.set_yticks(range(len(changes)), list(changes))
    axis.set(xlabel=label, ylim=(len(changes) - 0.5, -0.5))
    axis.grid(axis="y", visible=False)
    return figure


def draw_shares(
    panels: Sequence[Picture], titles: Sequence[str], shares: Mapping[str, Mapping[str, Float[np.ndarray, "n"]]]
) -> Figure:
    """Draw three examples, and the mean share of the evidence on the half of the class, by layer and method."""
    figure, axes = figures.new(1, len(panels) + 1, width=13, height=3.9, width_ratios=[1] * len(panels) + [2])
    for axis, panel, title in zip(axes, panels, titles, strict=False):
        figures.picture(axis, panel, title)
    for (way, by_layer), colour, shift in zip(shares.items(), figures.PALETTE[::2], (-0.2, 0.2), strict=False):
        _bars(axes[-1], by_layer, colour, shift, width=0.36, label=way)
    axes[-1].axhline(0.5, color="black", linestyle=":")
    axes[-1].set(title="Evidence on the half of the class, 84 maps", ylabel="mean share", ylim=(0, 1))
    figure.legend(loc="outside lower right", ncols=2)
    return figure


def draw_composite(network: Classifier, layer: str, title: str) -> tuple[Figure, str]:
    """Draw Grad-CAM and Guided Grad-CAM on the composite of cat and cup, for what a network calls each photograph.

    Args:
        network: A network with ``.preprocess`` and ``.classes``.
        layer: Name of its last layer with rows and columns.
        title: Title of the figure.

    Returns:
        The figure, and lines that say which share of the evidence lies on the half of the cat.
    """
    with torch.no_grad():
        pair = [photographs.photograph(name).image for name in ("cat", "cup")]
        top = network(network.preprocess(pair)).argmax(1).tolist()
    batch = network.preprocess(photographs.stacked("cat", "cup"))
    heats, fine = (explain(network, batch, layer, [top])[0] for explain in (grad_cam, guided_grad_cam))
    seen = network.preprocess.undo(batch)[0]
    panels = [images.overlay(images.grey(seen), heat, scale=float(heats.max()) or None) for heat in heats]
    panels += [on_black(each) for each in fine]
    titles = [f"{way} “{network.classes[c]}”" for way in ("Grad-CAM", "Guided Grad-CAM") for c in top]
    evidence = [*images.upsample(heats, len(seen)), *fine.abs().amax(1)]
    shares = [float(each[: len(seen) // 2].sum() / each.sum()) for each in evidence]
    lines = [f"{name:35s} {share:4.0%} on the half of the cat" for name, share in zip(titles, shares, strict=True)]
    return figures.grid(panels, titles, columns=2, title=title, panel=4.2), "\n".join(lines)


def draw_localisation(
    thresholds: Float[np.ndarray, "t"],
    missed: Bool[np.ndarray, "n t"],
    best: int,
    pictures: Sequence[Picture],
    masks: Sequence[Bool[np.ndarray, "rows columns"]],
    heats: Float[Tensor, "m rows columns"],
) -> Figure:
    """Draw the localisation error by threshold, and scenes with the true box and the boxes of two thresholds.

    Args:
        thresholds: Shares of a map's maximum.
        missed: For each scene and threshold, whether its box is a miss.
        best: Which threshold was chosen.
        pictures, masks, heats: Examples, their objects, and their maps at the size of the masks.
    """
    figure, axes = figures.new(1, 1 + len(pictures), width=13, height=3.6, width_ratios=[1.7] + [1] * len(pictures))
    white, wide, tight = "#FFFFFF", figures.ORANGE, figures.SKY
    means, ends = missed.mean(0), np.array([interval(each) for each in missed.T]).T
    colours = [wide if i == 0 else tight if i == best else figures.GREY for i in range(len(thresholds))]
    axes[0].bar(100 * thresholds, means, 10, color=colours, yerr=np.abs(ends - means), capsize=4)
    axes[0].set(xlabel="threshold, % of the maximum", ylabel="localisation error", ylim=(0, 1.02))
    axes[0].set_xticks(100 * thresholds)
    axes[0].set_title(f"{len(missed)} unseen scenes")
    for axis, image, mask, heat in zip(axes[1:], pictures, masks, heats, strict=True):
        true = ground_truth_box(mask)
        found = [boxes(heat, thresholds[i])[0] for i in (0, best)]
        figures.picture(axis, image, "IoU {:.2f} and {:.2f}".format(*(iou(box, true) for box in found)))
        for box, colour in zip((true, *found), (white, wide, tight), strict=True):
            figures.outline(axis, box, colour)
    names = ("true box", f"{thresholds[0]:.0%}, as in the paper", f"{thresholds[best]:.0%}, chosen on training scenes")
    keys = [
        Patch(facecolor=colour, edgecolor="black", label=name.replace("%", " %"))
        for name, colour in zip(names, (white, wide, tight), strict=True)
    ]
    figure.legend(handles=keys, loc="outside lower right", ncols=3)
    return figure
