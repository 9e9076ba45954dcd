"""Charts of whole networks: where their cost is, what it buys, what counters say, and the roofline."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from xailab import figures
from xailab.figures import BLACK, BLUE, GREEN, GREY, ORANGE, PINK, VERMILLION
from xailab.flops import CostTable
from xailab.lessons.flops.machine import Machine
from xailab.lessons.flops.published import (
    ALPHAS,
    RESOLUTIONS,
    SMALL,
    TABLE_6,
    TABLE_7,
    TENSORFLOW,
    TOOL_NETWORKS,
    TOOLS,
    mobilenet,
)

COLOURS = {"convolution": BLUE, "depthwise": VERMILLION, "pointwise": GREEN, "linear": PINK}


def shares(table: CostTable) -> dict[str, tuple[float, float, float]]:
    """Compute the percentage of MACs, of weights and of bytes of each kind of layer."""
    moved = {kind: sum(row.bytes for row in table.rows if row.kind == kind) for kind in table.by_kind()}
    return {
        kind: (100 * cost.macs / table.macs, 100 * cost.params / table.weights, 100 * moved[kind] / table.bytes)
        for kind, cost in table.by_kind().items()
    }


def draw_shares(table: CostTable) -> Figure:
    """Draw the shares of MACs, weights and bytes by kind of layer."""
    figure, axes = figures.new(width=8.5, height=3.2)
    columns = zip(*shares(table).values(), strict=True)
    bars = {name: list(column) for name, column in zip(("MACs", "weights", "bytes"), columns, strict=True)}
    draw_share_bars(axes, bars, list(table.by_kind()))
    axes.set_title("MobileNet 1.0-224, by kind of layer")
    return figure


def draw_share_bars(axes: Axes, bars: dict[str, list[float]], kinds: Sequence[str]) -> None:
    """Draw a bar for each quantity, divided by kind of layer; `bars` holds percents in the order of `kinds`."""
    for y, (_, parts) in enumerate(reversed(bars.items())):
        left = 0.0
        for kind, part in zip(kinds, parts, strict=True):
            axes.barh([y], [part], left=[left], color=COLOURS[kind], edgecolor="white", label=None if y else kind)
            if part > 2.5:
                text = f"{part:.0f} %" if part > 6 else f"{part:.0f}"
                axes.text(left + part / 2, y, text, ha="center", va="center", color="white", fontsize=11)
            left += part
    axes.set_yticks(range(len(bars)), list(reversed(bars)))
    axes.set(xlabel="percent of the network", xlim=(0, 100), ylim=(-0.6, len(bars) - 0.4))
    axes.grid(visible=False)
    axes.figure.legend(loc="outside lower center", ncols=4, fontsize=11, frameon=False)


def draw_blocks(table: CostTable, views: dict[str, Float[Tensor, "h w"]]) -> Figure:
    """Draw the MACs and the weights of each part of a network, with a few of its maps above.

    Args:
        table: Costs of a network whose layers are named by part, such as "block1.depthwise".
        views: A map after some of the parts, by name of the part.
    """
    parts = list(dict.fromkeys(row.module.split(".")[0] for row in table.rows))
    figure, axes = figures.new(3, 1, width=12, height=6.8, height_ratios=(1.25, 1, 1), sharex=True)
    axes[0].set(xlim=(-0.6, len(parts) - 0.4), ylim=(0, 1))
    axes[0].set_axis_off()
    for part, view in views.items():
        x = parts.index(part)
        inset = axes[0].inset_axes((x - 0.95, 0.0, 1.9, 0.8), transform=axes[0].transData)
        figures.picture(inset, view.numpy(), f"{part}\n{len(view)} × {len(view)}", cmap="gray")
    for axis, quantity, label in ((axes[1], "macs", "million MACs"), (axes[2], "weights", "million weights")):
        bottom = np.zeros(len(parts))
        for kind, colour in COLOURS.items():
            height = np.zeros(len(parts))
            for row in table.rows:
                if row.kind == kind:
                    height[parts.index(row.module.split(".")[0])] += getattr(row, quantity) / 1e6
            axis.bar(range(len(parts)), height, bottom=bottom, color=colour, label=kind)
            bottom += height
        axis.set_ylabel(label)
        axis.grid(axis="x", visible=False)
        axis.set_ylim(0, 1.1 * bottom.max())
    axes[2].set_xticks(range(len(parts)), [part.removeprefix("block") for part in parts])
    axes[2].set_xlabel("stem, blocks 1 to 16, head, fc")
    figure.legend(*axes[1].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return figure


def draw_sizes(
    sizes: Sequence[int], millions: Sequence[float], views: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    probabilities: Float[np.ndarray, "s n"],
) -> Figure:  # fmt: skip
    """Draw what a network sees at several sizes, and how much it trusts the right class against the cost.

    Args:
        sizes: Of the picture, in pixels.
        millions: MACs at each size, in millions.
        views: One photograph at each size.
        probabilities: Of the right class, by size and photograph.
    """
    figure, (above, axes) = figures.new(2, 1, width=11, height=6.6, height_ratios=(1, 1.9))
    low, high = 0.72 * min(millions), 1.4 * max(millions)
    above.set(xlim=(math.log(low), math.log(high)), ylim=(0, 1))
    above.set_axis_off()
    for size, million, view in zip(sizes, millions, views, strict=True):
        inset = above.inset_axes((math.log(million) - 0.3, 0, 0.6, 0.85), transform=above.transData)
        figures.picture(inset, view, f"{size} pixels")
    axes.plot(millions, probabilities, color="#C4C4C4", linewidth=1.5, marker=".")
    axes.plot([], [], color="#C4C4C4", label="one photograph")
    axes.plot(millions, probabilities.mean(1), color=BLUE, linewidth=3, marker="o", label="their mean")
    _millions(axes, "million MACs (log)", (50, 100, 200, 500, 1000, 2000))
    axes.set(ylabel="probability of the right class", ylim=(0, 1.04), xlim=(low, high))
    axes.legend(loc="upper right", frameon=False)
    return figure


def draw_networks(networks: dict[str, tuple[float, float]]) -> Figure:
    """Draw published ImageNet accuracies against counted MACs: of networks, and of TensorFlow's sixteen MobileNets.

    Args:
        networks: Million MACs and top-1 accuracy in percent, by name.
    """
    figure, axes = figures.new(width=10, height=5.4)
    for alpha in ALPHAS:
        points = [(mobilenet(alpha, size).macs / 1e6, TENSORFLOW[alpha, size][1]) for size in RESOLUTIONS]
        x, y = zip(*points, strict=True)
        axes.plot(x, y, ".-", color=GREY, markersize=9, linewidth=1.4)
    axes.text(55, 53, "sixteen MobileNets,\nretrained by TensorFlow", fontsize=11, color="#555555", va="center")
    for name, (millions, accuracy) in networks.items():
        axes.plot(millions, accuracy, "o", color=VERMILLION if "lite" in name else BLUE, markersize=11)
        left = millions > 8000
        axes.annotate(name, (millions, accuracy), (-10 if left else 10, 0), va="center",
                      ha="right" if left else "left", textcoords="offset points", fontsize=12)  # fmt: skip
    _millions(axes, "million MACs for one picture, counted (log)", (10, 30, 100, 300, 1000, 3000, 10000, 30000))
    axes.set(ylabel="ImageNet top-1 in %, published", ylim=(38, 88), xlim=(10, 40000), title="Accuracy against cost")
    return figure


def draw_dashboard(alpha: float = 1.0, resolution: int = 224) -> Figure:
    """Draw the exact cost of each of the sixteen MobileNets, and the accuracy that TensorFlow published for it."""
    table, (_, top1) = mobilenet(alpha, resolution), TENSORFLOW[alpha, resolution]
    figure, (left, right) = figures.new(1, 2, width=11.0, height=4.9, width_ratios=(1, 1.15))
    figure.suptitle(
        f"alpha = {alpha}, {resolution} pixels (rho = {resolution / 224:.3f}):  {table.macs / 1e6:.1f} M MACs = "
        f"{table.flops / 1e6:.1f} M FLOPs,  {table.params / 1e6:.2f} M parameters,  {top1} % top-1 (TensorFlow's)",
        fontsize=11,
    )
    millions = [[mobilenet(a, r).macs / 1e6 for r in RESOLUTIONS] for a in ALPHAS]
    left.imshow(np.log(millions), cmap="Blues", vmin=2, vmax=11, aspect="auto")  # light enough for black numbers
    for y, row in enumerate(millions):
        for x, value in enumerate(row):
            left.text(x, y, f"{value:.0f}", ha="center", va="center", color="black", fontsize=13)
    x, y = RESOLUTIONS.index(resolution), ALPHAS.index(alpha)
    left.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, edgecolor=VERMILLION, linewidth=4, clip_on=False))
    left.set_xticks(range(4), [f"{r}\n{(r / 224) ** 2:.2f}" for r in RESOLUTIONS])
    left.set_yticks(range(4), [f"{a}\n{a * a:.2f}" for a in ALPHAS])
    left.set(xlabel="input size, and rho² below it", ylabel="alpha, and alpha² below it", title="million MACs, counted")
    left.grid(visible=False)
    _tensorflow(right)
    right.plot(table.macs / 1e6, top1, "o", markersize=15, markerfacecolor="none", color=VERMILLION, markeredgewidth=3)
    right.set_title("accuracy against cost")
    return figure


MARKERS = {1.0: "o", 0.75: "s", 0.5: "^", 0.25: "D"}


def _tensorflow(axes: Axes, x=lambda alpha, size: mobilenet(alpha, size).macs / 1e6) -> None:
    for alpha, colour in zip(ALPHAS, (BLUE, GREEN, PINK, ORANGE), strict=True):
        points = [(x(alpha, size), TENSORFLOW[alpha, size][1]) for size in RESOLUTIONS]
        axes.plot(*zip(*points, strict=True), MARKERS[alpha] + "-", color=colour, markersize=7, linewidth=1.4,
                  label=f"alpha = {alpha}")  # fmt: skip
    _millions(axes, "million MACs (log)", (10, 20, 50, 100, 200, 500))
    axes.set(ylabel="ImageNet top-1, %  (published)")
    axes.legend(loc="lower right", frameon=False, fontsize=10)


def _millions(axes: Axes, label: str, ticks: Sequence[float]) -> None:
    axes.set(xscale="log", xlabel=label)
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.minorticks_off()


def draw_tradeoff() -> Figure:
    """Draw the paper's Figures 4 and 5: accuracy against MACs and against parameters, for two published series."""
    figure, (cost, size) = figures.new(1, 2, width=11.5, height=4.6, sharey=True)
    _tensorflow(cost)
    _tensorflow(size, lambda alpha, resolution: mobilenet(alpha, resolution).weights / 1e6)
    points = dict.fromkeys((*TABLE_6, *TABLE_7, SMALL))
    for alpha, resolution, top1, *_ in points:
        table = mobilenet(alpha, resolution)
        for axes, x in ((cost, table.macs / 1e6), (size, table.weights / 1e6)):
            axes.plot(
                x, top1, "x", color=BLACK, markersize=8, markeredgewidth=2, label="paper" if alpha == 0.25 else None
            )
    _millions(size, "million weights (log)", (0.5, 1, 2, 4))
    cost.legend(loc="lower right", frameon=False, fontsize=10, title="retrained by TensorFlow")
    size.get_legend().remove()
    size.set_ylabel("")
    cost.set_title("against the cost")
    size.set_title("against the size of the file")
    return figure


def draw_tools() -> Figure:
    """Draw the MACs that six counters print for five networks, in percent of the exact ones."""
    truth = np.array([1.8141, 0.3008, 4.4555, 17.5638, 4.4906])
    percent = 100 * np.array(list(TOOLS.values())) / truth
    figure, axes = figures.new(width=9.0, height=4.2)
    axes.imshow(percent, cmap="RdBu", vmin=-110, vmax=310, aspect="auto")  # light enough for black numbers
    for (y, x), value in np.ndenumerate(percent):
        weight = "bold" if abs(value - 100) > 10 else "normal"
        axes.text(x, y, f"{value:.0f}", ha="center", va="center", fontsize=13, fontweight=weight)
    axes.set_xticks(range(len(TOOL_NETWORKS)), TOOL_NETWORKS)
    axes.set_yticks(range(len(TOOLS)), list(TOOLS))
    axes.set(xlabel="network", title="Percent of the exact MACs (recorded once, not run here)")
    axes.grid(visible=False)
    return figure


MEASURED = Path(__file__).with_name("mobilenets.json")


def measured_mobilenets() -> dict:
    """Read the measurements of MobileNets trained on `scenes`; "command" makes them again.

    Returns:
        "command", "images" and "rows"; each row has architecture ("separable" or "full"), alpha, resolution, macs,
        params, and accuracy (a share of 1) on held-out scenes.

    Raises:
        FileNotFoundError: the data file of the package is missing.
    """
    if not MEASURED.is_file():
        raise FileNotFoundError(f"{MEASURED.name} is missing; make it with: python recipes/scenes_mobilenets.py")
    return json.loads(MEASURED.read_text(encoding="utf-8"))


def pareto(rows: Sequence[dict]) -> list[dict]:
    """Select the rows that no other row beats in both MACs and accuracy, cheapest first."""
    best, kept = -math.inf, []
    for row in sorted(rows, key=lambda r: (r["macs"], -r["accuracy"])):
        if row["accuracy"] > best:
            best = row["accuracy"]
            kept.append(row)
    return kept


def draw_measured(rows: Sequence[dict]) -> Figure:
    """Draw the accuracy on held-out scenes against MACs, for separable and full convolutions."""
    figure, axes = figures.new(width=9.0, height=5.0)
    front = pareto(rows)
    axes.plot([r["macs"] / 1e6 for r in front], [100 * r["accuracy"] for r in front], color="#D5D5D5", linewidth=9,
              solid_capstyle="round", zorder=1, label="best for its cost")  # fmt: skip
    for architecture, colour in {"separable": BLUE, "full": VERMILLION}.items():
        chosen = [r for r in rows if r["architecture"] == architecture]
        for alpha in sorted({r["alpha"] for r in chosen}):
            line = sorted((r for r in chosen if r["alpha"] == alpha), key=lambda r: r["macs"])
            x, y = [r["macs"] / 1e6 for r in line], [100 * r["accuracy"] for r in line]
            axes.plot(x, y, MARKERS.get(alpha, "P") + "-", color=colour, markersize=9, linewidth=1.4)
            offset = (12, -4) if y[-1] - y[0] > 3 else (0, 14)
            axes.annotate(f"{architecture}, alpha {alpha:g}", (x[0], y[0]), offset, textcoords="offset points",
                          color=colour, fontsize=11)  # fmt: skip
    low, high = (f(r["macs"] for r in rows) / 1e6 for f in (min, max))
    ticks = [t for t in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000) if low / 2 < t < high * 2]
    _millions(axes, "million MACs for one picture (log)", ticks)
    axes.set(ylabel="accuracy on held-out scenes, %", title="Small MobileNets on rendered scenes")
    axes.set_xlim(0.8 * low, 1.4 * high)
    axes.margins(y=0.1)
    axes.legend(fontsize=11, loc="lower right")
    return figure


def draw_roofline(machine: Machine, layers: Sequence[tuple]) -> Figure:
    """Draw the roofline of one machine, and how far below their roof measured layers stay.

    Args:
        machine: Peaks of the machine.
        layers: (name, row of the cost table, seconds) of each; round markers have the output size of the first.
    """
    figure, axes = figures.new(width=10.0, height=5.6)
    speeds = [row.flops / seconds / 1e9 for _, row, seconds in layers]
    peak, memory = max(machine.flops / 1e9, *speeds), machine.bytes / 1e9  # the peak is the best ever seen
    ridge = peak / memory
    axes.plot([0.5, ridge, 400], [0.5 * memory, peak, peak], color=BLACK)
    note = {"textcoords": "offset points", "fontsize": 11}
    axes.annotate(f"peak {peak:.0f} GFLOP/s", (ridge, peak), (10, 6), **note)
    axes.annotate(f"memory {memory:.0f} GB/s", (ridge / 3, peak / 3), (-10, 4), ha="right", **note)
    for (name, row, _), speed in zip(layers, speeds, strict=True):
        first = row.output_shape[-1] == layers[0][1].output_shape[-1]
        roof = min(peak, memory * row.intensity)
        axes.plot([row.intensity] * 2, [speed, roof], ":", color=COLOURS[row.kind], linewidth=1.8)
        said = f"{name} pixels: {100 * speed / roof:.0f} % of its roof"
        marker = {"marker": "o", "markersize": 13} if first else {"marker": "s", "markersize": 10}
        style = {"color": COLOURS[row.kind], "markeredgecolor": "white", "linestyle": "", "label": said}
        axes.plot(row.intensity, speed, **marker, **style)
    axes.legend(loc="lower right", fontsize=11, frameon=False)
    axes.set(xscale="log", yscale="log", xlabel="arithmetic intensity, FLOP per byte", ylabel="GFLOP/s, measured")
    axes.set(xlim=(0.5, 400), ylim=(min(0.3 * memory, 0.4 * min(speeds)), 2.2 * peak))
    axes.set_xticks(
        [0.5, 1, 2, 4, 8, 16, 32, 64, 128, 256], ["0.5", "1", "2", "4", "8", "16", "32", "64", "128", "256"]
    )
    ticks = [t for t in (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000) if axes.get_ylim()[0] < t < axes.get_ylim()[1]]
    axes.set_yticks(ticks, [f"{t:g}" for t in ticks])
    axes.minorticks_off()
    axes.set_title("Six layers under the roof of this machine, one thread")
    return figure


def draw_times(table: CostTable, by_kind: dict[str, float]) -> Figure:
    """Draw the shares of MACs, bytes and time by kind of layer.

    Args:
        table: Costs of a network.
        by_kind: Seconds in each kind of its layers.
    """
    figure, axes = figures.new(width=9.0, height=3.4)
    share, total = shares(table), sum(by_kind.values())
    bars = {name: [parts[i] for parts in share.values()] for i, name in ((0, "MACs"), (2, "bytes"))}
    draw_share_bars(axes, {**bars, "time": [100 * by_kind[kind] / total for kind in share]}, list(share))
    axes.set_title("A MobileNet's MACs, bytes and time")
    return figure
