"""Randomised networks, measures of explanations, and honest pictures of gradients."""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from scipy.stats import rankdata
from torch import Tensor, nn

from xailab import figures, images
from xailab.grad_cam import grad_cam
from xailab.guided_backprop import Rule, input_gradient
from xailab.models.classifier import Classifier

STAGES = ("fc", "layer4", "layer3", "layer2", "layer1", "conv1")  # of a ResNet, from the score down
RULES: dict[str, Rule] = {"gradient": "gradient", "deconvnet": "deconvnet", "guided backprop": "guided"}
METHODS = (*RULES, "Grad-CAM", "Guided Grad-CAM")


def randomised(network: nn.Module, depth: int, seed: int = 0) -> nn.Module:
    """Copy a ResNet with its topmost stages as they are before any training (Adebayo et al. 2018, Section 3).

    Convolutions are drawn anew from He et al.'s normal distribution, the linear layer from torch's uniform one. Batch
    norms forget their scale and shift and their running statistics too, which belonged to the trained weights.

    Args:
        network: With stages named as in ``STAGES``; it is left as it is.
        depth: How many stages, from the top: 0 (none) to 6 (all).
        seed: Of the new weights.
    """
    network = copy.deepcopy(network)
    parts = [network.get_submodule(stage) for stage in STAGES[:depth]]
    if depth == len(STAGES):
        parts.append(network.get_submodule("bn1"))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for module in (module for part in parts for module in part.modules()):
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, (nn.Linear, nn.BatchNorm2d)):
                module.reset_parameters()
    return network


def explanations(
    network: nn.Module,
    batch: Float[Tensor, "n c h w"],
    target: int | Sequence[int],
    methods: Sequence[str] = METHODS,
    layer: str = "layer4",
) -> dict[str, Tensor]:
    """Explain a batch in several ways: signed pictures (n, c, h, w), and Grad-CAM before its ReLU (n, rows, columns).

    Args:
        network: One with ReLUs.
        batch: Pictures, normalised for it.
        target: Class to explain, one for all or one for each.
        methods: Of ``METHODS``.
        layer: Of Grad-CAM.
    """
    wanted = {*methods, *(("guided backprop", "Grad-CAM") if "Guided Grad-CAM" in methods else ())}
    found = {name: input_gradient(network, batch, target, rule=RULES[name]) for name in RULES if name in wanted}
    if "Grad-CAM" in wanted:
        found["Grad-CAM"] = grad_cam(network, batch, layer, target, relu=False)
    if "Guided Grad-CAM" in wanted:  # an empty map is a result here, not worth the library's warning
        mask = images.upsample(found["Grad-CAM"].relu(), (batch.shape[-2], batch.shape[-1]))
        found["Guided Grad-CAM"] = found["guided backprop"] * mask.unsqueeze(1)
    return {name: found[name] for name in methods}


def strength(picture: Float[Tensor, "*n c h w"]) -> Float[Tensor, "*n h w"]:
    """The largest absolute value over the colour channels, at each pixel."""
    return picture.abs().amax(-3)


def ranks(maps: Tensor) -> Float[Tensor, "n pixels"]:
    """Rank the pixels of each map, centre the ranks and give them length 1; all 0 for a constant map.

    The dot product of two of these is Spearman's rank correlation: each map is sorted once, whatever it is compared to.

    Args:
        maps: Maps (n, h, w), ranked with their sign, or signed pictures (n, c, h, w), ranked by ``strength``.
    """
    maps = strength(maps) if maps.ndim == 4 else maps
    order = torch.from_numpy(rankdata(maps.flatten(1).numpy(), axis=1))
    return nn.functional.normalize(order - order.mean(1, keepdim=True), dim=1)


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Spearman's rank correlation of two explanations of one picture.

    Args:
        a, b: Maps (h, w), compared with their sign, or signed pictures (c, h, w), compared by ``strength``.

    Returns:
        -1 to 1; 0 if one of them is constant, since it orders nothing.
    """
    return float(ranks(a[None])[0] @ ranks(b[None])[0])


def number_grid(axes: Axes, values: Sequence[Sequence[float]], title: str) -> None:
    """Draw a small matrix as numbers, orange where positive, blue where negative, pale where zero."""
    rows, columns = len(values), len(values[0])
    for y, row in enumerate(values):
        for x, value in enumerate(row):
            colour = figures.ORANGE if value > 0 else figures.SKY if value < 0 else "#F2F2F2"
            axes.add_patch(Rectangle((x, y), 1, 1, facecolor=colour, edgecolor="white", linewidth=3))
            ink = "black" if value else "#8A8A8A"
            text = f"{value:g}".replace("-", "−")
            axes.text(x + 0.5, y + 0.52, text, ha="center", va="center", fontsize=19, color=ink)
    axes.set(xlim=(0, columns), ylim=(rows, 0), aspect="equal")
    axes.set_axis_off()
    axes.set_title(title)


def verdict_table(verdicts: Sequence[Sequence[str]], rows: Sequence[str], columns: Sequence[str]) -> Figure:
    """Draw a table of words: blue for "right", grey for an answer that speaks up, orange for a silent wrong one."""
    figure, axes = figures.new(width=1.9 + 1.95 * len(columns), height=0.55 + 0.5 * len(rows))
    for y, line in enumerate(verdicts):
        axes.text(-0.06, y + 0.5, rows[y], ha="right", va="center", fontsize=11.5)
        for x, word in enumerate(line):
            loud = word in ("refuses", "warns") or word.endswith("Error")
            colour = figures.SKY if word == "right" else "#DDDDDD" if loud else figures.ORANGE
            axes.add_patch(Rectangle((x, y), 1, 1, facecolor=colour, edgecolor="white", linewidth=3))
            axes.text(x + 0.5, y + 0.5, word, ha="center", va="center", fontsize=11.5)
    for x, name in enumerate(columns):
        axes.text(x + 0.5, -0.14, name, ha="center", va="bottom", fontsize=11.5, fontweight="bold")
    axes.set(xlim=(-1.0, len(columns)), ylim=(len(rows), -0.55))
    axes.set_axis_off()
    return figure


def draw_rule(
    network: Classifier, picture: np.ndarray, label: int, method: str = "guided backprop", depth: int = 0
) -> Figure:
    """Draw a picture, its explanation, and that of the network with its topmost stages randomised.

    Args:
        network: A ResNet with ``.preprocess`` and ``.classes``, and stages named as in ``STAGES``.
        picture: uint8 RGB.
        label: Class to explain.
        method: Of ``METHODS``.
        depth: Stages to randomise, from the top, 0 to 6.
    """
    batch = network.preprocess(picture)
    with torch.no_grad():
        probability = network(batch).softmax(1)[0, label].item()
    trained, other = (
        explanations(each, batch, label, [method])[method][0] for each in (network, randomised(network, depth))
    )
    figure, axes = figures.new(1, 3, width=10.4, height=3.9)
    figures.picture(axes[0], picture, f"{network.classes[label]}: probability {probability:.2f}")
    quantile = 0.999 if "uided" in method else 0.995  # most of their frame is empty
    draw_explanation(axes[1], trained, f"{method}, trained", quantile)
    done = "nothing" if depth == 0 else STAGES[0] if depth == 1 else f"{STAGES[0]} to {STAGES[depth - 1]}"
    draw_explanation(axes[2], other, f"{done} random: ρ = {rank_correlation(trained, other):.2f}", quantile)
    return figure


def draw_explanation(axes: Axes, explanation: Tensor, title: str | None = None, quantile: float = 0.995) -> None:
    """Draw a signed picture (3, h, w) on grey, clipped at a quantile, or a map (h, w) in blue, white (0) and red."""
    if explanation.ndim == 3:
        figures.picture(axes, images.signed(explanation, quantile), title)
    else:
        bound = float(explanation.abs().max()) or 1.0
        figures.picture(axes, explanation.numpy(), title, cmap="RdBu_r", vmin=-bound, vmax=bound)
