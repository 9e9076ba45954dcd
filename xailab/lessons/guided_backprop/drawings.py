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
from xailab.datasets.photographs import photograph
from xailab.grad_cam import grad_cam
from xailab.guided_backprop import Rule, input_gradient
from xailab.lessons.drawings import number_grid
from xailab.metrics import interval
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


def schematic() -> Figure:
    """Draw the way of a picture to its score, and the way of the gradient back through a gate at each ReLU."""
    figure, axes = figures.new(width=9.4, height=3.2)
    axes.set(xlim=(0, 9.4), ylim=(0, 3.2))
    axes.set_axis_off()
    steps = ("image", "convolution", "ReLU", "convolution", "ReLU", "score $S_c$")
    for i, name in enumerate(steps):
        x, gate = 0.15 + 1.56 * i, name == "ReLU"
        colour = figures.SKY if gate else "#EDEDED"
        axes.add_patch(Rectangle((x, 2.1), 1.2, 0.7, facecolor=colour, edgecolor="black"))
        axes.text(x + 0.6, 2.45, name, ha="center", va="center")
        label = "z > 0 ?\nR > 0 ?" if gate else ("explanation" if i == 0 else "" if i == 5 else "backwards")
        if label:
            axes.add_patch(
                Rectangle((x, 0.5), 1.2, 0.7, facecolor=figures.ORANGE if gate else "#EDEDED", edgecolor="black")
            )
            axes.text(x + 0.6, 0.85, label, ha="center", va="center")
        if i < 5:
            axes.annotate("", (x + 1.54, 2.45), (x + 1.22, 2.45), arrowprops={"arrowstyle": "->", "lw": 1.8})
        if 0 < i < 5:
            axes.annotate("", (x - 0.34, 0.85), (x - 0.02, 0.85), arrowprops={"arrowstyle": "->", "lw": 1.8})
        if gate:
            axes.annotate("", (x + 0.6, 1.22), (x + 0.6, 2.08), arrowprops={"arrowstyle": "->", "ls": ":", "lw": 1.5})
            axes.text(x + 0.68, 1.62, "z")
    axes.plot([8.55, 8.55], [2.08, 0.85], color="black", linewidth=1.8)
    axes.annotate("", (7.61, 0.85), (8.55, 0.85), arrowprops={"arrowstyle": "->", "lw": 1.8})
    axes.text(8.62, 1.4, "R")
    return figure


def nine_numbers(z: Tensor, R: Tensor, results: dict[str, Tensor]) -> Figure:
    """Draw a ReLU's input, its output, the gradient from above, and what each rule hands down."""
    figure, axes = figures.new(2, 3, width=7.8, height=5.7)
    grids = {"input z": z, "output max(z, 0)": z.relu(), "gradient R from above": R} | results
    for axis, (title, values) in zip(axes.flat, grids.items(), strict=True):
        number_grid(axis, values + 0, title)  # without the minus of a negative zero
    return figure


def sanity_curves(rho: dict[str, np.ndarray], yardstick: dict[str, float]) -> Figure:
    """Draw rank correlations (seeds, depths) of each method with the trained explanation, beside a yardstick."""
    figure, axis = figures.new(width=9.6, height=4.8)
    depths = range(len(STAGES) + 1)
    for i, (name, values) in enumerate(rho.items()):
        colour, marker = figures.PALETTE[i], "osD^"[i]
        axis.fill_between(depths, values.min(0), values.max(0), color=colour, alpha=0.15, linewidth=0)
        axis.plot(depths, values.mean(0), color=colour, marker=marker, label=name)
        axis.plot([7.05 + 0.1 * i], [yardstick[name]], color=colour, marker=marker, markersize=9, linestyle="none")
    axis.axvline(6.6, color=figures.GREY, linewidth=1, linestyle=":")
    axis.set_xticks([*depths, 7.2], ["trained", "fc", *(f"… {s}" for s in STAGES[1:]), "another\npicture"])
    axis.set(ylim=(-0.35, 1.05), xlabel="randomised, from the top down to", ylabel="rank correlation with the original")
    axis.set_title("Likeness to the trained network's explanation (band: three seeds)")
    figure.legend(loc="outside lower center", ncols=4)
    return figure


def sanity_strips(picture: np.ndarray, by_depth: Sequence[dict[str, Tensor]], index: int) -> Figure:
    """Draw one picture's explanations by each method (rows) and randomised depth (columns)."""
    methods, steps = list(by_depth[0]), ["trained", "fc random", *(f"… {stage}" for stage in STAGES[1:])]
    figure, axes = figures.new(len(methods), 1 + len(steps), width=11.8, height=6.3)
    for row, name in enumerate(methods):
        figures.picture(axes[row, 0], picture, None if row else "the scene")
        axes[row, 0].text(-0.06, 0.5, name, transform=axes[row, 0].transAxes, rotation=90, ha="right", va="center")
        for depth, title in enumerate(steps):
            draw_explanation(axes[row, 1 + depth], by_depth[depth][name][index], None if row else title)
    return figure


def share_chart(shares: dict[str, np.ndarray], times: dict[str, float]) -> Figure:
    """Draw shares on the object with their intervals, and ratios at strong edges."""
    figure, axes = figures.new(1, 2, width=10.8, height=4.4)
    for axis, values, label in (
        (axes[0], {name: each.mean() for name, each in shares.items()}, "share on or next to the object"),
        (axes[1], times, "strength at strong edges, object / elsewhere"),
    ):
        names = list(values)
        control = [name.startswith(("edges", "area")) for name in names]
        colours = [figures.GREY if each else figures.BLUE for each in control]
        axis.barh(range(len(names)), list(values.values()), color=colours)
        axis.set_yticks(range(len(names)), names)
        axis.invert_yaxis()
        axis.set_xlabel(label)
    for y, values in enumerate(shares.values()):
        axes[0].plot(interval(values), [y, y], color="black", linewidth=1.8)
    axes[0].set_xlim(0, 1)
    axes[1].axvline(1, color="black", linewidth=1, linestyle=":")
    return figure


def three_rules(network: Classifier, names: Sequence[str]) -> Figure:
    """Draw photographs and what each rule makes of their class."""
    panels = []
    for name in names:
        shot = photograph(name)
        batch = network.preprocess(shot.image)
        found = explanations(network, batch, network.classes.index(shot.label), list(RULES))
        panels += [network.preprocess.undo(batch)[0], *(images.signed(each[0]) for each in found.values())]
    titles = ["photograph", *RULES] + [""] * 4 * (len(names) - 1)
    return figures.grid(panels, titles, columns=4, panel=2.5)


def two_classes(picture: np.ndarray, names: Sequence[str], cams: Tensor, backs: Tensor, fine: Tensor) -> Figure:
    """Draw a row for each class: the picture, Grad-CAM on one scale, guided backprop, and Guided Grad-CAM."""
    panels, titles = [], []
    for i, name in enumerate(names):
        overlay = images.overlay(picture, cams[i], scale=float(cams.max()))
        panels += [picture, overlay, images.signed(backs[i]), images.signed(fine[i])]
        titles += [f"asked: {name}", *(METHODS[3], METHODS[2], METHODS[4])]
    return figures.grid(panels, titles, columns=4, panel=2.7)


def side_by_side(network: Classifier, name: str, layer: str) -> Figure:
    """Draw each rule for the classes of two photographs side by side, and print how alike the explanations are."""
    batch = network.preprocess([photograph(each).image for each in ("cat", "cup")])
    with torch.no_grad():
        top = network(batch).argmax(1).tolist()
    both = torch.cat([*batch], dim=2)[None]
    ways = [explanations(network, both, [label], [*RULES, "Grad-CAM"], layer) for label in top]
    print("rank correlation of both; share on the cat's half, for the cat's class and the cup's")
    for method in ways[0]:
        pair = torch.cat([way[method] for way in ways])
        mass = strength(pair) if pair.ndim == 4 else images.upsample(pair.relu(), (both.shape[-2], both.shape[-1]))
        cat, cup = mass[..., : mass.shape[-1] // 2].sum((1, 2)) / mass.sum((1, 2))
        print(f"{method:16s} correlation {rank_correlation(*pair):5.2f}   cat's half {cat:.2f} and {cup:.2f}")
    panels = [images.signed(way[rule][0]) for rule in RULES for way in ways]
    titles = [f"{rule} “{network.classes[label]}”" for rule in RULES for label in top]
    return figures.grid(panels, titles, columns=2, title=name, panel=4.8)
