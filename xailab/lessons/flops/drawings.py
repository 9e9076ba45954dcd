"""Drawings of one layer, of whole networks, and of the roofline; what they count and measured."""

import json
import math
from collections.abc import Sequence, Set
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from xailab import figures
from xailab.figures import BLACK, BLUE, GREEN, GREY, ORANGE, PINK, SKY, VERMILLION
from xailab.flops import Cost, CostTable, conv_cost
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

# For the 6 x 6 x 5 -> 4 x 4 x 7 example: title, input side, kernel side, output channels, channels that a filter sees.
STEPS = {
    "standard": ("standard 3 × 3", 6, 3, 7, 5),
    "depthwise": ("depthwise 3 × 3", 6, 3, 5, 1),
    "pointwise": ("then pointwise 1 × 1", 4, 1, 7, 5),
}
CHANNELS, SIDE = 5, 4


def draw_step(layer: str = "standard", step: int = 40) -> Figure:
    """Draw how one output value of the worked example is computed; `step` counts the outputs from 1."""
    figure, axes = figures.new(width=7.0, height=4.6)
    _step(axes, layer, step)
    return figure


def draw_steps(steps: Sequence[int] = (40, 24, 40)) -> Figure:
    """Draw the three layers of the worked example side by side, each at one step."""
    figure, axes = figures.new(1, 3, width=12.0, height=3.9)
    for axis, layer, step in zip(axes, STEPS, steps, strict=True):
        _step(axis, layer, step)
    figure.supxlabel(
        "blue: values read     orange: the filter     red: being made     light blue: made before", fontsize=11
    )
    return figure


def _step(axes: Axes, layer: str, step: int) -> None:
    title, side, kernel, filters, seen = STEPS[layer]
    step = min(max(1, step), filters * SIDE * SIDE)
    n, position = divmod(step - 1, SIDE * SIDE)
    i, j = divmod(position, SIDE)
    each = kernel * kernel * seen
    channels = range(CHANNELS) if seen > 1 else [n]

    for c in range(CHANNELS):
        window = {(i + a, j + b) for a in range(kernel) for b in range(kernel)} if c in channels else set()
        _plane(axes, _left(c, CHANNELS, side), 14, side, window, BLUE)
    for c in channels:  # the filter, under the channels that it reads
        everything = {(a, b) for a in range(kernel) for b in range(kernel)}
        _plane(axes, _left(c, CHANNELS, side) + (side - kernel) / 2, 7.6, kernel, everything, ORANGE)
    for k in range(filters):
        done = {divmod(p, SIDE) for p in range(SIDE * SIDE) if (k, p) < (n, position)}
        _plane(axes, _left(k, filters, SIDE), 0, SIDE, done, SKY, strong={(i, j)} if k == n else set())
    axes.text(17, 20.9, f"input {side} × {side} × {CHANNELS}", ha="center", va="bottom", fontsize=10)
    which = f"filter {n + 1} of {filters}: {kernel} × {kernel} × {seen} = {each} multiplications"
    axes.text(17, 11.3, which, ha="center", va="bottom", fontsize=10)
    axes.text(17, 4.5, f"output {SIDE} × {SIDE} × {filters}", ha="center", va="bottom", fontsize=10)
    axes.set_title(f"{title}\noutput {step}: {step} × {each} = {step * each:,} of {filters * SIDE * SIDE * each:,}")
    axes.set(xlim=(-0.5, 34.5), ylim=(-0.5, 22.5), aspect="equal")
    axes.set_axis_off()


def _left(index: int, planes: int, side: int) -> float:
    """Compute where a plane begins when `planes` of them share a width of 34 cells."""
    pitch = 34 / planes
    return index * pitch + (pitch - side) / 2


def _plane(
    axes: Axes, left: float, bottom: float, side: int, marked: set, colour: str, strong: Set = frozenset()
) -> None:
    cells = [(a, b) for a in range(side) for b in range(side)]
    patches = [Rectangle((left + b, bottom + side - 1 - a), 1, 1) for a, b in cells]
    faces = [VERMILLION if cell in strong else colour if cell in marked else "#F2F2F2" for cell in cells]
    axes.add_collection(PatchCollection(patches, facecolors=faces, edgecolors="#777777", linewidths=0.7))


def gain(out_channels: float, kernel_size: int) -> float:
    """Compute how many times cheaper the separable layer is: 1 / (1/N + 1/K^2)."""
    return 1 / (1 / out_channels + 1 / kernel_size**2)


def draw_gain(kernels: Sequence[int] = (3, 5, 7), *, mark: tuple[int, int] | None = None) -> Figure:
    """Draw the gain against the output channels for some kernels, each with its limit K^2."""
    figure, axes = figures.new(width=8.0, height=4.0)
    _gain(axes, kernels, mark)
    axes.set_title("Separable convolutions: the gain stays below K²")
    return figure


def _gain(axes: Axes, kernels: Sequence[int], mark: tuple[int, int] | None) -> None:
    channels = [2 ** (e / 8) for e in range(8 * 10 + 1)]
    for kernel, colour in zip(kernels, (BLUE, VERMILLION, GREEN), strict=False):
        axes.plot(channels, [gain(n, kernel) for n in channels], color=colour)
        axes.axhline(kernel**2, color=colour, linestyle=":", linewidth=1.4)
        axes.text(1.1, kernel**2, f"K² = {kernel**2}", color=colour, va="bottom", fontsize=11)
        axes.text(1100, gain(1024, kernel), f"K = {kernel}", color=colour, va="center", fontsize=11)
    if mark:
        axes.plot(mark[0], gain(*mark), "o", color=BLACK, markersize=9, zorder=5)
    axes.set(xscale="log", xlabel="output channels N", ylabel="times fewer MACs", xlim=(1, 1024))
    axes.set_xticks([1, 4, 16, 64, 256, 1024], ["1", "4", "16", "64", "256", "1024"])
    axes.minorticks_off()
    axes.set_ylim(0, 1.12 * max(kernels) ** 2)


def draw_cost(
    kernel: int = 3,
    in_channels: int = 512,
    out_channels: int = 512,
    size: int = 14,
    stride: int = 1,
    padding: int = 1,
    groups: int = 1,
) -> Figure:
    """Draw the costs of a layer and of its separable pair: the formula with its numbers, bars, and 1/N + 1/K^2.

    Args:
        size: Size of the input, D_F; the formulae use the output's, D_G = (D_F + 2 padding - K) // stride + 1.
    """
    out = (size + 2 * padding - kernel) // stride + 1
    if out < 1:
        raise ValueError(f"a {kernel} x {kernel} kernel does not fit into {size} + 2 x {padding} pixels")
    full = conv_cost(in_channels, out_channels, kernel, out, groups=groups)
    depthwise = conv_cost(in_channels, in_channels, kernel, out, groups=in_channels)
    pointwise = conv_cost(in_channels, out_channels, 1, out)
    pair = depthwise + pointwise

    figure, (bars, line) = figures.new(1, 2, width=11.0, height=5.0, width_ratios=(1.25, 1))
    per_group = f"{in_channels}" if groups == 1 else f"{in_channels}/{groups}"
    k, grid = f"{kernel}·{kernel}", f"{out}·{out}"
    figure.suptitle(
        f"output size  ({size} + 2·{padding} − {kernel}) // {stride} + 1 = {out}\n"
        f"{'standard' if groups == 1 else 'grouped'}  {k}·{per_group}·{out_channels}·{grid} = {full.macs:,} MACs"
        f" = {full.flops:,} FLOPs\n"
        f"separable  {k}·{in_channels}·{grid} + {in_channels}·{out_channels}·{grid} = {pair.macs:,} MACs"
        f" = {pair.flops:,} FLOPs",
        fontsize=11,
        ha="left",
        x=0.02,
    )
    _cost_bars(bars, full, depthwise, pointwise, groups)
    _cost_line(line, kernel, out_channels, pair.macs / full.macs, groups)
    return figure


def _cost_bars(axes: Axes, full: Cost, depthwise: Cost, pointwise: Cost, groups: int) -> None:
    pair = depthwise + pointwise
    unit, name = (1e6, "million MACs") if max(full.macs, pair.macs) >= 1e6 else (1e3, "thousand MACs")
    axes.barh([1], [full.macs / unit], color=BLUE, label="standard" if groups == 1 else f"{groups} groups")
    axes.barh([0], [depthwise.macs / unit], color=VERMILLION, label="depthwise")
    axes.barh([0], [pointwise.macs / unit], left=[depthwise.macs / unit], color=GREEN, label="pointwise")
    parts = f" depthwise {depthwise.macs / unit:,.1f} + pointwise {pointwise.macs / unit:,.1f}"
    axes.annotate(parts, (pair.macs / unit, 0), va="center", fontsize=10)
    axes.set_yticks([0, 1], ["separable", "standard" if groups == 1 else "grouped"])
    axes.set(xlabel=name, ylim=(-0.6, 2.1), title=f"separable: {full.macs / pair.macs:.2f} times fewer MACs")
    axes.legend(loc="upper right", ncols=3, fontsize=10, columnspacing=1.0, handlelength=1.2, frameon=False)
    axes.grid(axis="y", visible=False)


def _cost_line(axes: Axes, kernel: int, out_channels: int, share: float, groups: int) -> None:
    channels = [2 ** (e / 8) for e in range(8 * 10 + 1)]
    axes.plot(channels, [1 / n + 1 / kernel**2 for n in channels], color=BLUE)
    axes.axhline(1 / kernel**2, color=GREY, linestyle=":")
    axes.text(1.15, 1 / kernel**2 * 0.93, f"1/K² = {1 / kernel**2:.3f}", color="#555555", va="top")
    axes.plot(out_channels, share, "o", color=VERMILLION, markersize=10, zorder=5)
    axes.set(xscale="log", yscale="log", xlabel="output channels N", ylabel="separable / standard")
    axes.set(title="the share that is left: 1/N + 1/K²", xlim=(1, 1024))
    axes.set_xticks([1, 4, 16, 64, 256, 1024], ["1", "4", "16", "64", "256", "1024"])
    axes.set_ylim(min(0.5 / kernel**2, 0.7 * share), max(3, 1.5 * share))
    axes.minorticks_off()
    if groups > 1:
        axes.annotate("grouped: off the line", (out_channels, share), (0.97, 0.93), ha="right",
                      textcoords="axes fraction", fontsize=10)  # fmt: skip


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
    axes.set_title("MobileNet 1.0-224: depthwise layers compute little and move much")
    return figure


def draw_share_bars(axes: Axes, bars: dict[str, list[float]], kinds: Sequence[str]) -> None:
    """Draw a bar for each quantity, divided by kind of layer; `bars` holds percents in the order of `kinds`."""
    for y, (_, parts) in enumerate(reversed(bars.items())):
        left = 0.0
        for kind, part in zip(kinds, parts, strict=True):
            axes.barh([y], [part], left=[left], color=COLOURS[kind], edgecolor="white", label=None if y else kind)
            if part > 4:
                axes.text(left + part / 2, y, f"{part:.0f} %", ha="center", va="center", color="white", fontsize=11)
            left += part
    axes.set_yticks(range(len(bars)), list(reversed(bars)))
    axes.set(xlabel="percent of the network", xlim=(0, 100), ylim=(-0.6, len(bars) - 0.4))
    axes.grid(visible=False)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.28), ncols=4, fontsize=10, frameon=False)


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
    left.imshow([[math.log(m) for m in row] for row in millions], cmap="cividis", aspect="auto")
    for y, row in enumerate(millions):
        for x, value in enumerate(row):
            left.text(x, y, f"{value:.0f}", ha="center", va="center", color="white" if value < 60 else "black")
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
    cost.set_title("each halving of the cost takes a few points")
    size.set_title("resolution changes no weight: vertical lines")
    return figure


def draw_tools() -> Figure:
    """Draw the MACs that six counters print for five networks, as a share of the exact ones."""
    figure, axes = figures.new(width=9.0, height=4.2)
    truth = (1.8141, 0.3008, 4.4555, 17.5638, 4.4906)
    for (tool, values), marker, colour in zip(
        TOOLS.items(), "os^Dvx", (BLUE, SKY, GREEN, PINK, ORANGE, VERMILLION), strict=True
    ):
        x = [100 * v / t for v, t in zip(values, truth, strict=True)]
        jitter = 0.2 - 0.08 * list(TOOLS).index(tool)
        axes.plot(x, [i + jitter for i in range(5)], marker, color=colour, markersize=8, label=tool, markeredgewidth=2)
    axes.axvline(100, color=GREY, linewidth=1.2)
    axes.set_yticks(range(5), TOOL_NETWORKS)
    axes.invert_yaxis()
    axes.set(
        xlabel="percent of the exact MACs",
        xlim=(-3, 113),
        title="What six counters reported (recorded once, not run here)",
    )
    axes.legend(loc="center left", fontsize=10, bbox_to_anchor=(1.0, 0.5), frameon=False)
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
    figure, axes = figures.new(width=9.0, height=4.8)
    front = pareto(rows)
    axes.plot([r["macs"] / 1e6 for r in front], [100 * r["accuracy"] for r in front], color="#BDBDBD", linewidth=6,
              solid_capstyle="round", zorder=1, label="best for its cost")  # fmt: skip
    colours = {"separable": BLUE, "full": VERMILLION}
    for architecture, colour in colours.items():
        chosen = [r for r in rows if r["architecture"] == architecture]
        for alpha in sorted({r["alpha"] for r in chosen}):
            line = sorted((r for r in chosen if r["alpha"] == alpha), key=lambda r: r["macs"])
            x, y = [r["macs"] / 1e6 for r in line], [100 * r["accuracy"] for r in line]
            axes.plot(x, y, MARKERS.get(alpha, "P") + "-", color=colour, markersize=8, linewidth=1.2,
                      label=f"{architecture}, alpha = {alpha:g}")  # fmt: skip
    low, high = (f(r["macs"] for r in rows) / 1e6 for f in (min, max))
    ticks = [t for t in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000) if low / 2 < t < high * 2]
    _millions(axes, "million MACs for one picture (log)", ticks)
    axes.set(
        ylabel="accuracy on held-out scenes, %",
        title="Small MobileNets on rendered scenes (each line: one alpha, several sizes)",
    )
    axes.legend(fontsize=10, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return figure


def draw_roofline(machine: Machine, layers: Sequence[tuple], by_kind: dict[str, float], table: CostTable) -> Figure:
    """Draw the roofline of one machine with measured layers, and a MobileNet's time by kind of layer.

    Args:
        machine: Peaks of the machine.
        layers: (name, row of the cost table, seconds) of each; round markers have the output size of the first.
        by_kind: Seconds in each kind of layer.
        table: Costs of the same network.
    """
    figure, (roof, bars) = figures.new(2, 1, width=9.0, height=8.2, height_ratios=(1.75, 1))
    speeds = [row.flops / seconds / 1e9 for _, row, seconds in layers]
    peak, memory = max(machine.flops / 1e9, *speeds), machine.bytes / 1e9  # the peak is the best ever seen
    ridge = peak / memory
    roof.plot([0.2, ridge, 400], [0.2 * memory, peak, peak], color=BLACK)
    roof.axvline(ridge, color=GREY, linestyle=":", linewidth=1.4)
    note = {"textcoords": "offset points", "fontsize": 10}
    roof.annotate(f"peak {peak:.0f} GFLOP/s", (ridge, peak), (6, 6), **note)
    roof.annotate(f"memory {memory:.0f} GB/s", (ridge / 2, peak / 2), (-8, 4), ha="right", **note)
    for (name, row, _), speed in zip(layers, speeds, strict=True):
        marker, wide = ("o", 13) if row.output_shape[-1] == layers[0][1].output_shape[-1] else ("s", 9)
        style = {"color": COLOURS[row.kind], "markersize": wide, "markeredgecolor": "white"}
        roof.plot(row.intensity, speed, marker, label=f"{name} pixels", **style)
    roof.legend(loc="lower right", fontsize=10, frameon=False)
    roof.set(xscale="log", yscale="log", xlabel="arithmetic intensity, FLOP per byte", ylabel="GFLOP/s, measured")
    roof.set(xlim=(0.2, 400), ylim=(min(0.15 * memory, 0.5 * min(speeds)), 2.2 * peak))
    roof.set_xticks([0.25, 1, 4, 16, 64, 256], ["0.25", "1", "4", "16", "64", "256"])
    ticks = [t for t in (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000) if roof.get_ylim()[0] < t < roof.get_ylim()[1]]
    roof.set_yticks(ticks, [f"{t:g}" for t in ticks])
    roof.minorticks_off()
    roof.set_title("This machine's roofline, one thread")
    share = shares(table)
    total = sum(by_kind.values())
    kinds = list(share)
    rows = {name: [share[k][i] for k in kinds] for i, name in ((0, "MACs"), (2, "bytes"))}
    draw_share_bars(bars, {**rows, "time": [100 * by_kind[k] / total for k in kinds]}, kinds)
    bars.set_title("A MobileNet's MACs, bytes and time")
    return figure
