"""Explanations in several ways, their measures, and honest pictures of gradients."""

from collections.abc import Mapping, Sequence

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

RULES: dict[str, Rule] = {"gradient": "gradient", "deconvnet": "deconvnet", "guided backprop": "guided"}
METHODS = (*RULES, "Grad-CAM", "Guided Grad-CAM")


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
    """Take the largest absolute value over the colour channels, at each pixel."""
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
    """Compute Spearman's rank correlation of two explanations of one picture.

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
    networks: Mapping[str, Classifier], picture: np.ndarray, label: int, method: str = "guided backprop", step: str = ""
) -> Figure:
    """Draw a picture, its explanation by the trained network, and that by a randomised one.

    Args:
        networks: Networks with ``.preprocess`` and ``.classes``, by name; the first is the trained one.
        picture: uint8 RGB.
        label: Class to explain.
        method: One of ``METHODS``.
        step: Name of the other network; the trained one's if it is empty.
    """
    first = next(iter(networks))
    network, step = networks[first], step or first
    batch = network.preprocess(picture)
    with torch.no_grad():
        probability = network(batch).softmax(1)[0, label].item()
    trained, other = (explanations(networks[name], batch, label, [method])[method][0] for name in (first, step))
    figure, axes = figures.new(1, 3, width=10.4, height=3.9)
    figures.picture(axes[0], picture, f"{network.classes[label]}: probability {probability:.2f}")
    quantile = 0.999 if "uided" in method else 0.995  # most of their frame is empty
    draw_explanation(axes[1], trained, f"{method}, {first}", quantile)
    draw_explanation(axes[2], other, f"{step}: ρ = {rank_correlation(trained, other):.2f}", quantile)
    return figure


def draw_explanation(axes: Axes, explanation: Tensor, title: str | None = None, quantile: float = 0.995) -> None:
    """Draw a signed picture (3, h, w) on grey, clipped at a quantile, or a map (h, w) in blue, white (0) and red."""
    if explanation.ndim == 3:
        figures.picture(axes, images.signed(explanation, quantile), title)
    else:
        bound = float(explanation.abs().max()) or 1.0
        figures.picture(axes, explanation.numpy(), title, cmap="RdBu_r", vmin=-bound, vmax=bound)


def schematic(network: Classifier, name: str) -> Figure:
    """Draw the way of a photograph to its score, and the way of the gradient back through a gate at each ReLU."""
    shot = photograph(name)
    batch = network.preprocess(shot.image)
    found = input_gradient(network, batch, network.classes.index(shot.label), rule="guided")
    figure, axes = figures.new(width=10.4, height=3.9)
    up, down, half = 2.85, 0.85, 0.38  # the middles of both rows, and half the height of a box
    for middle, shown in ((up, network.preprocess.undo(batch)[0]), (down, images.signed(found[0]))):
        axes.imshow(shown, extent=(-0.25, 1.45, middle - 0.85, middle + 0.85))
    axes.set(xlim=(-0.3, 9.6), ylim=(-0.05, 3.75), aspect="equal")
    axes.set_axis_off()
    for i, word in enumerate(("convolution", "ReLU", "convolution", "ReLU", "score $S_c$")):
        x, gate = 1.9 + 1.6 * i, word == "ReLU"
        _box(axes, (x, up - half), word, figures.SKY if gate else "#EDEDED")
        axes.annotate("", (x - 0.03, up), (x - 0.42, up), arrowprops={"arrowstyle": "->", "lw": 1.8})
        if i == 4:
            continue
        back = "z > 0 ?\nR > 0 ?" if gate else "convolution,\nbackwards"
        _box(axes, (x, down - half), back, figures.ORANGE if gate else "#EDEDED")
        axes.annotate("", (x - 0.42, down), (x - 0.03, down), arrowprops={"arrowstyle": "->", "lw": 1.8})
        if gate:
            arrow = {"arrowstyle": "->", "ls": ":", "lw": 1.5}
            axes.annotate("", (x + 0.6, down + half + 0.02), (x + 0.6, up - half - 0.02), arrowprops=arrow)
            axes.text(x + 0.7, 1.8, "z", fontsize=12)
    axes.plot([8.9, 8.9], [up - half, down], color="black", linewidth=1.8)
    axes.annotate("", (7.93, down), (8.9, down), arrowprops={"arrowstyle": "->", "lw": 1.8})
    axes.text(9.0, 1.8, "R", fontsize=12)
    return figure


def _box(axes: Axes, corner: tuple[float, float], word: str, colour: str) -> None:
    """Draw a box with words in it, by its lower left corner."""
    axes.add_patch(Rectangle(corner, 1.2, 0.76, facecolor=colour, edgecolor="black"))
    axes.text(corner[0] + 0.6, corner[1] + 0.38, word, ha="center", va="center", fontsize=11)


def nine_numbers(z: Tensor, R: Tensor, results: dict[str, Tensor]) -> Figure:
    """Draw a ReLU's input, its output, the gradient from above, and what each rule hands down."""
    figure, axes = figures.new(2, 3, width=7.8, height=5.7)
    grids = {"input z": z, "output max(z, 0)": z.relu(), "gradient R from above": R} | results
    for axis, (title, values) in zip(axes.flat, grids.items(), strict=True):
        number_grid(axis, values + 0, title)  # without the minus of a negative zero
    return figure


def sanity_curves(rho: dict[str, np.ndarray], yardstick: dict[str, float], steps: Sequence[str]) -> Figure:
    """Draw rank correlations (seeds, steps) of each method with the trained explanation, beside a yardstick."""
    figure, axis = figures.new(width=9.6, height=4.8)
    depths = range(len(steps))
    for i, (name, values) in enumerate(rho.items()):
        colour, marker = figures.PALETTE[i], "osD^"[i]
        axis.fill_between(depths, values.min(0), values.max(0), color=colour, alpha=0.15, linewidth=0)
        axis.plot(depths, values.mean(0), color=colour, marker=marker, label=name)
        axis.plot([7.05 + 0.1 * i], [yardstick[name]], color=colour, marker=marker, markersize=9, linestyle="none")
    axis.axvline(6.6, color=figures.GREY, linewidth=1, linestyle=":")
    axis.set_xticks([*depths, 7.2], [*steps, "another\nscene"])
    axis.set(ylim=(-0.35, 1.05), xlabel="randomised, from the top down to", ylabel="rank correlation with the original")
    axis.set_title("Likeness to the trained network's explanation (band: three seeds)")
    figure.legend(loc="outside lower center", ncols=4)
    return figure


def sanity_strips(picture: np.ndarray, by_step: Mapping[str, dict[str, Tensor]], index: int) -> Figure:
    """Draw one picture's explanations by each method (rows) and randomised network (columns)."""
    methods = list(next(iter(by_step.values())))
    figure, axes = figures.new(len(methods), 1 + len(by_step), width=11.8, height=6.3)
    for row, name in enumerate(methods):
        figures.picture(axes[row, 0], picture, None if row else "the scene")
        axes[row, 0].text(-0.06, 0.5, name, transform=axes[row, 0].transAxes, rotation=90, ha="right", va="center")
        for column, (title, found) in enumerate(by_step.items(), start=1):
            draw_explanation(axes[row, column], found[name][index], None if row else title)
    return figure


def share_chart(shares: dict[str, np.ndarray], logs: dict[str, np.ndarray]) -> Figure:
    """Draw shares on the object, and ratios at strong edges by their logarithms, with the intervals of their means."""
    figure, axes = figures.new(1, 2, width=10.8, height=4.4)
    ratios = {name: np.exp([each.mean(), *interval(each)]) for name, each in logs.items()}
    means = {name: np.array([each.mean(), *interval(each)]) for name, each in shares.items()}
    for axis, bars, label in (
        (axes[0], means, "share of the strength on or next to the object"),
        (axes[1], ratios, "strength at strong edges: on the object / elsewhere"),
    ):
        for y, (name, (middle, low, high)) in enumerate(bars.items()):
            control = name.startswith(("edges", "area"))
            axis.barh(y, middle, color=figures.GREY if control else figures.BLUE)
            axis.plot([low, high], [y, y], color="black", linewidth=1.8)
        axis.set_yticks(range(len(bars)), list(bars))
        axis.invert_yaxis()
        axis.set_xlabel(label)
    axes[0].set_xlim(0, 1)
    axes[1].axvline(1, color="black", linewidth=1, linestyle=":")
    return figure


def three_rules(network: Classifier, names: Sequence[str]) -> Figure:
    """Draw photographs and what each rule makes of their class."""
    panels, titles = [], []
    for name in names:
        shot = photograph(name)
        batch = network.preprocess(shot.image)
        found = explanations(network, batch, network.classes.index(shot.label), list(RULES))
        panels += [network.preprocess.undo(batch)[0], *(images.signed(each[0]) for each in found.values())]
        titles += [shot.label, *RULES]
    return figures.grid(panels, titles, columns=4, panel=2.5)


def two_classes(picture: np.ndarray, names: Sequence[str], cams: Tensor, backs: Tensor, fine: Tensor) -> Figure:
    """Draw a row for each class: the picture, Grad-CAM on one scale, guided backprop, and Guided Grad-CAM."""
    panels, titles = [], []
    for i, name in enumerate(names):
        overlay = images.overlay(images.grey(picture), cams[i], scale=float(cams.max()))
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
