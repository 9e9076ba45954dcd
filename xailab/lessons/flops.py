"""Lesson 01: what was published, the pictures, the measurements and the checks of the exercises.

Published numbers are marked as such: the MobileNet paper (arXiv 1704.04861, Tables 2 to 9) and the table of
retrained networks that TensorFlow shipped.  Everything else on the page is computed by `xailab.flops`.
"""

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import ipywidgets as widgets
import torch
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import nn

from xailab import figures
from xailab.flops import CostTable, Table, conv_cost, count, separable_cost
from xailab.lessons import Wrong, exercise
from xailab.lessons.explorer import explorer
from xailab.models.mobilenet import MobileNetV1

BLUE, VERMILLION, GREEN, PINK, ORANGE, SKY, YELLOW, BLACK = figures.PALETTE
GREY = "#8A8A8A"
COLOURS = {"convolution": BLUE, "depthwise": VERMILLION, "pointwise": GREEN, "linear": PINK}

# -------------------------------------------------------------------------------------------- published

ALPHAS = (1.0, 0.75, 0.5, 0.25)
RESOLUTIONS = (224, 192, 160, 128)

TABLE_2 = {  # share of mult-adds and of parameters, in percent
    "pointwise": (94.86, 74.59),
    "depthwise": (3.06, 1.06),
    "convolution": (1.19, 0.02),
    "linear": (0.18, 24.33),
}
TABLE_3 = (
    ("convolution", 462, 2.36),
    ("separable", 52.3, 0.27),
    ("alpha = 0.75", 29.6, 0.15),
    ("rho = 0.714", 15.1, 0.15),
)
# alpha, input size, ImageNet top-1 in percent, million mult-adds, million parameters
TABLE_6 = (
    (1.0, 224, 70.6, 569, 4.2),
    (0.75, 224, 68.4, 325, 2.6),
    (0.5, 224, 63.7, 149, 1.3),
    (0.25, 224, 50.6, 41, 0.5),
)
TABLE_7 = (
    (1.0, 224, 70.6, 569, 4.2),
    (1.0, 192, 69.1, 418, 4.2),
    (1.0, 160, 67.2, 290, 4.2),
    (1.0, 128, 64.4, 186, 4.2),
)
SMALL = (0.5, 160, 60.2, 76, 1.32)  # Table 9's first row
# network, top-1 in percent, million mult-adds, million parameters
TABLE_8 = (("MobileNet 1.0-224", 70.6, 569, 4.2), ("GoogLeNet", 69.8, 1550, 6.8), ("VGG 16", 71.5, 15300, 138.0))
TABLE_9 = (("MobileNet 0.50-160", 60.2, 76, 1.32), ("SqueezeNet", 57.5, 1700, 1.25), ("AlexNet", 57.2, 720, 60.0))

# TensorFlow's own table, (million MACs, top-1 in percent): retrained, so a series of its own.
TENSORFLOW = {
    (1.0, 224): (569, 70.9), (1.0, 192): (418, 70.0), (1.0, 160): (291, 68.0), (1.0, 128): (186, 65.2),
    (0.75, 224): (317, 68.4), (0.75, 192): (233, 67.2), (0.75, 160): (162, 65.3), (0.75, 128): (104, 62.1),
    (0.5, 224): (150, 63.3), (0.5, 192): (110, 61.7), (0.5, 160): (77, 59.1), (0.5, 128): (49, 56.3),
    (0.25, 224): (41, 49.8), (0.25, 192): (34, 47.7), (0.25, 160): (21, 45.5), (0.25, 128): (14, 41.5),
}  # fmt: skip

# What five counters said about five networks in one run (billions, each read as the tool prints it).
TOOLS = {
    "torch FlopCounterMode / 2": (1.8141, 0.3008, 4.4555, 17.5638, 4.4906),
    "... on CPU tensors": (1.8141, 0.3008, 4.4555, 16.849, 4.4906),
    "fvcore": (1.819, 0.314, 4.470, 16.867, 4.509),
    "ptflops": (1.825, 0.320, 4.488, 17.606, 3.128),
    "thop": (1.824, 0.327, 4.464, 11.286, 2.978),
    "torchinfo": (1.814, 0.301, 0.322, 0.173, 0.034),
}
TOOL_NETWORKS = ("resnet18", "mobilenet_v2", "convnext_tiny", "vit_b_16", "swin_t")


@cache
def mobilenet(alpha: float = 1.0, size: int = 224, *, separable: bool = True, shallow: bool = False) -> CostTable:
    """The costs of one MobileNet on one image of `size` pixels."""
    with torch.device("meta"):
        network = MobileNetV1(alpha, separable=separable, shallow=shallow)
    return count(network, (1, 3, size, size))


def beside(header: Sequence[str], *rows: Sequence) -> Table:
    """A table of counted and published numbers: published ones as printed, counted ones with as many digits as help."""

    def text(column: str, cell) -> str:
        if isinstance(cell, str):
            return cell
        if "published" in column:
            return f"{cell:,}"
        return f"{cell:,.1f}" if column == "M MACs" else f"{cell:,.2f}"

    return Table(tuple(header), tuple(tuple(map(text, header, row)) for row in rows))


# ------------------------------------------------------------------------------- full, depthwise, pointwise

# For the 6 x 6 x 5 -> 4 x 4 x 7 example: title, input side, kernel side, output channels, channels that a filter sees.
STEPS = {
    "standard": ("standard 3 × 3", 6, 3, 7, 5),
    "depthwise": ("depthwise 3 × 3", 6, 3, 5, 1),
    "pointwise": ("then pointwise 1 × 1", 4, 1, 7, 5),
}
CHANNELS, SIDE = 5, 4


def draw_step(layer: str = "standard", step: int = 40) -> Figure:
    """One output value of the worked example being made; `step` counts the outputs from 1."""
    figure, axes = figures.new(width=7.0, height=4.6)
    _step(axes, layer, step)
    return figure


def draw_steps(steps: Sequence[int] = (40, 24, 40)) -> Figure:
    """The three layers of the worked example side by side, each caught at one step."""
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
    """Where a plane begins when `planes` of them share a width of 34 cells."""
    pitch = 34 / planes
    return index * pitch + (pitch - side) / 2


def _plane(axes: Axes, left: float, bottom: float, side: int, marked: set, colour: str, strong=frozenset()) -> None:
    cells = [(a, b) for a in range(side) for b in range(side)]
    patches = [Rectangle((left + b, bottom + side - 1 - a), 1, 1) for a, b in cells]
    faces = [VERMILLION if cell in strong else colour if cell in marked else "#F2F2F2" for cell in cells]
    axes.add_collection(PatchCollection(patches, facecolors=faces, edgecolors="#777777", linewidths=0.7))


# --------------------------------------------------------------------------------------------- the gain


def gain(out_channels: float, kernel_size: int) -> float:
    """How many times cheaper the separable layer is: 1 / (1/N + 1/K^2)."""
    return 1 / (1 / out_channels + 1 / kernel_size**2)


def draw_gain(kernels: Sequence[int] = (3, 5, 7), *, mark: tuple[int, int] | None = None) -> Figure:
    """The gain against the output channels for some kernels, each with the line K^2 that it cannot pass."""
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
    """The cost explorer: the formula with its numbers, the bars, and the line 1/N + 1/K^2.

    Args:
        size: of the input, D_F; the formulae use the output's, D_G = (D_F + 2 padding - K) // stride + 1.
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
    unit, name = (1e6, "million MACs") if max(full.macs, pair.macs) >= 1e6 else (1e3, "thousand MACs")
    bars.barh([1], [full.macs / unit], color=BLUE, label="standard" if groups == 1 else f"{groups} groups")
    bars.barh([0], [depthwise.macs / unit], color=VERMILLION, label="depthwise")
    bars.barh([0], [pointwise.macs / unit], left=[depthwise.macs / unit], color=GREEN, label="pointwise")
    parts = f" depthwise {depthwise.macs / unit:,.1f} + pointwise {pointwise.macs / unit:,.1f}"
    bars.annotate(parts, (pair.macs / unit, 0), va="center", fontsize=10)
    bars.set_yticks([0, 1], ["separable", "standard" if groups == 1 else "grouped"])
    bars.set(xlabel=name, ylim=(-0.6, 2.1), title=f"separable: {full.macs / pair.macs:.2f} times fewer MACs")
    bars.legend(loc="upper right", ncols=3, fontsize=10, columnspacing=1.0, handlelength=1.2, frameon=False)
    bars.grid(axis="y", visible=False)

    channels = [2 ** (e / 8) for e in range(8 * 10 + 1)]
    line.plot(channels, [1 / n + 1 / kernel**2 for n in channels], color=BLUE)
    line.axhline(1 / kernel**2, color=GREY, linestyle=":")
    line.text(1.15, 1 / kernel**2 * 0.93, f"1/K² = {1 / kernel**2:.3f}", color="#555555", va="top")
    line.plot(out_channels, pair.macs / full.macs, "o", color=VERMILLION, markersize=10, zorder=5)
    line.set(xscale="log", yscale="log", xlabel="output channels N", ylabel="separable / standard")
    line.set(title="the share that is left: 1/N + 1/K²", xlim=(1, 1024))
    line.set_xticks([1, 4, 16, 64, 256, 1024], ["1", "4", "16", "64", "256", "1024"])
    line.set_ylim(min(0.5 / kernel**2, 0.7 * pair.macs / full.macs), max(3, 1.5 * pair.macs / full.macs))
    line.minorticks_off()
    if groups > 1:
        line.annotate("grouped: off the line", (out_channels, pair.macs / full.macs), (0.97, 0.93), ha="right",
                      textcoords="axes fraction", fontsize=10)  # fmt: skip
    return figure


def cost_explorer() -> widgets.VBox:
    """`draw_cost` with a control for each number; groups are offered where they divide both channel numbers."""
    channels = [1, 2, 3, 4, 5, 7, 8, 16, 32, 64, 128, 256, 512, 1024]
    slider = widgets.SelectionSlider
    return explorer(
        draw_cost,
        kernel=(1, 11, 2),
        in_channels=slider(options=channels, value=512),
        out_channels=slider(options=channels, value=512),
        size=(1, 224, 1),
        stride=(1, 4, 1),
        padding=(0, 5, 1),
        groups=slider(options=[1, 2, 4, 8, 16, 32], value=1),
    )


def step_explorer() -> widgets.VBox:
    """`draw_step`, to be walked through from the first output value to the last."""
    return explorer(draw_step, layer=list(STEPS), step=(1, 7 * SIDE * SIDE, 1))


# ------------------------------------------------------------------------------------------- MobileNet


def shares(table: CostTable) -> dict[str, tuple[float, float, float]]:
    """Percent of MACs, of weights and of bytes of each kind of layer."""
    moved = {kind: sum(row.bytes for row in table.rows if row.kind == kind) for kind in table.by_kind()}
    return {
        kind: (100 * cost.macs / table.macs, 100 * cost.params / table.weights, 100 * moved[kind] / table.bytes)
        for kind, cost in table.by_kind().items()
    }


def draw_shares(table: CostTable) -> Figure:
    """Where the MACs, the weights and the bytes are, by kind of layer."""
    figure, axes = figures.new(width=8.5, height=3.2)
    columns = zip(*shares(table).values(), strict=True)
    bars = {name: list(column) for name, column in zip(("MACs", "weights", "bytes"), columns, strict=True)}
    _shares(axes, bars, list(table.by_kind()))
    axes.set_title("MobileNet 1.0-224: depthwise layers compute little and move much")
    return figure


def _shares(axes: Axes, bars: dict[str, list[float]], kinds: Sequence[str]) -> None:
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
    """The sixteen MobileNets: exact cost of each, and the accuracy that TensorFlow published for it."""
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


def dashboard() -> widgets.VBox:
    """`draw_dashboard`, snapping to the sixteen models."""
    slider = widgets.SelectionSlider
    return explorer(
        draw_dashboard,
        alpha=slider(options=sorted(ALPHAS), value=1.0),
        resolution=slider(options=sorted(RESOLUTIONS), value=224),
    )


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
    """The paper's Figures 4 and 5: accuracy against MACs and against parameters, two published series apart."""
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
    """What six counters print for five networks, as a share of the exact MACs."""
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


# ----------------------------------------------------------------------------------- measured: the roofline


@dataclass(frozen=True)
class Machine:
    """Peaks of one processor core: FLOP and bytes for each second."""

    flops: float
    bytes: float


def best_time(run, *, seconds: float = 0.12) -> float:
    """The shortest of repeated runs, in seconds: whatever else the machine does can only add time."""
    run()
    best, end = math.inf, time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best


def layer_time(layer: nn.Module, *shape: int, seconds: float = 0.12) -> float:
    """Seconds that a layer takes for an input of this shape."""
    x = torch.randn(shape)
    with torch.inference_mode():
        return best_time(lambda: layer(x), seconds=seconds)


def peaks() -> Machine:
    """What one core reaches: in products of matrices, and in a copy of 128 MB, which no cache holds."""
    fastest = 0.0
    for n in (256, 512, 1024):  # the large ones are disturbed more often, the small ones are less efficient
        a, b = torch.randn(n, n), torch.randn(n, n)
        fastest = max(fastest, 2 * n**3 / best_time(lambda a=a, b=b: a @ b, seconds=0.25))
    source = torch.zeros(2**25)
    target = torch.zeros_like(source)
    return Machine(fastest, 2 * source.nbytes / best_time(lambda: target.copy_(source), seconds=0.4))


def time_by_kind(network: nn.Module, size: int, *, seconds: float = 0.05) -> dict[str, float]:
    """Seconds spent in each kind of layer of a network, every layer timed alone."""
    times: dict[str, float] = {}
    for row in count(network, (1, 3, size, size)).rows:
        layer = network.get_submodule(row.module)
        times[row.kind] = times.get(row.kind, 0.0) + layer_time(layer, *row.input_shape, seconds=seconds)
    return times


def draw_roofline(machine: Machine, layers: Sequence[tuple], by_kind: dict[str, float], table: CostTable) -> Figure:
    """The roofline of one machine with measured layers, and where a MobileNet's time goes.

    Args:
        layers: (name, row of the cost table, seconds) of each; maps of the first one's size are drawn round.
        by_kind: seconds in each kind of layer.
        table: the costs of the same network.
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
    _shares(bars, {**rows, "time": [100 * by_kind[k] / total for k in kinds]}, kinds)
    bars.set_title("A MobileNet's MACs, bytes and time")
    return figure


# --------------------------------------------------------------------------- measured: accuracy on `scenes`

MEASURED = Path(__file__).with_name("mobilenets.json")


def measured_mobilenets() -> dict:
    """MobileNets trained on `scenes`, as they were measured once: see "command" for how to make them again.

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
    """The rows that no other row beats in both MACs and accuracy, cheapest first."""
    best, kept = -math.inf, []
    for row in sorted(rows, key=lambda r: (r["macs"], -r["accuracy"])):
        if row["accuracy"] > best:
            best = row["accuracy"]
            kept.append(row)
    return kept


def draw_measured(rows: Sequence[dict]) -> Figure:
    """Accuracy on held-out scenes against MACs: separable and full convolution."""
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


# --------------------------------------------------------------------------------------------- exercises

# kernel, in, out, size, stride, padding, groups; the last three differ so that each mistake shows alone.
_LAYERS = (
    (3, 5, 7, 6, 1, 0, 1),
    (3, 16, 24, 20, 1, 1, 1),
    (3, 3, 32, 224, 2, 1, 1),
    (5, 12, 24, 15, 1, 2, 4),
    (3, 64, 64, 14, 1, 1, 64),
)


@exercise("01.1")
def _(macs):
    for kernel, m, n, size, stride, padding, groups in _LAYERS:
        with torch.device("meta"):
            layer = nn.Conv2d(m, n, kernel, stride, padding, groups=groups)
        right = count(layer, (1, m, size, size)).macs
        out = (size + 2 * padding - kernel) // stride + 1
        came = macs(kernel, m, n, size, stride, padding, groups)
        if came == right:
            continue
        one = kernel * kernel * m * n  # the weights, groups left out
        outputs = {  # where two mistakes give one size, the last line speaks
            size: "this uses the size of the input; a filter is applied once for each output value.",
            size - kernel + 1: "stride and padding are missing: output = (size + 2 padding - K) // stride + 1.",
            (size + 2 * padding - kernel) // stride: "the output size ends with + 1: the first position counts too.",
            (size + padding - kernel) // stride + 1: "the padding is there on both sides: 2 padding.",
            (size - kernel) // stride + 1: "the padding is missing: it adds pixels on both sides.",
            size + 2 * padding - kernel + 1: "the stride is missing: the kernel jumps.",
        }
        hints = {one * size**2: outputs[size]}
        hints |= {one * wrong**2 // groups: words for wrong, words in outputs.items() if wrong != out}
        hints |= {
            2 * right: "these are FLOPs; one MAC is one multiplication and one addition, so divide by 2.",
            one * out**2: "the groups are missing: with g groups a filter sees only M / g channels.",
            one * out**2 // groups**2: "divide by the groups once: M / g channels in, but still N out.",
            right // kernel: "this has K once; a kernel is K high and K wide.",
            one // groups: "these are the weights; each of them is used once for each output position.",
            right // out: "this has the output's height or width once; it needs both.",
        }
        if came != int(came):
            raise Wrong(f"{came:,} is no whole number of MACs: the output size is rounded down, with //.")
        layer = f"K={kernel}, M={m}, N={n}, size {size}, stride {stride}, padding {padding}, groups {groups}"
        raise Wrong(
            f"{layer}: expected {right:,} MACs, got {came:,}. {hints.get(came, 'Write D_G first, then the product.')}"
        )
    return "standard, grouped and depthwise are one formula with another number of groups."


@exercise("01.2")
def _(channels_for):
    for wanted, kernel in ((2, 2), (2, 3), (4, 3), (8, 3), (8.8, 3), (9, 3), (20, 3), (20, 5), (3, 1)):
        right = next((n for n in range(1, 2000) if gain(n, kernel) >= wanted - 1e-9), math.inf)
        came = channels_for(wanted, kernel)
        if came == right:
            continue
        where = f"a gain of {wanted} with K={kernel}: expected {right}, got {came}."
        if right == math.inf:
            raise Wrong(
                f"{where} The gain stays below K² = {kernel**2} however many channels there are: return math.inf."
            )
        if isinstance(came, float) and came != int(came):
            raise Wrong(f"{where} Channels are whole: round up.")
        if came == right - 1:
            raise Wrong(
                f"{where} With {came} channels the gain is {gain(came, kernel):.3f}, which is too little: round up."
            )
        if came == right + 1:
            raise Wrong(f"{where} With {right} channels the gain is {wanted} already: it may be reached, not passed.")
        raise Wrong(f"{where} Solve 1 / (1/N + 1/K²) >= gain for N.")
    return "no number of channels buys more than K², which is why MobileNet's gain is 8 to 9."


@exercise("01.3")
def _(as_counted):
    for size, published in ((size, TENSORFLOW[0.75, size][0]) for size in RESOLUTIONS):
        table = mobilenet(0.75, size)
        right = table.macs - table.rows[0].macs
        came = as_counted(table)
        if abs(came - right) < 1:
            continue
        where = f"0.75-{size}: got {came:,.0f} MACs, TensorFlow printed {published} million."
        if came == table.macs:
            raise Wrong(f"{where} That is the whole network; which row is as large as the difference?")
        if came == table.macs - table.rows[-1].macs:
            raise Wrong(f"{where} That leaves out the linear layer, which does not depend on the size; the gap does.")
        if abs(came - right / 1e6) < 1:
            raise Wrong(f"{where} Return MACs, not millions of them.")
        if came == table.rows[0].macs:
            raise Wrong(f"{where} You found the row that is missing: now return what is left without it.")
        if came == 2 * right:
            raise Wrong(f"{where} These are FLOPs, 2 for each MAC.")
        raise Wrong(f"{where} Print the gap for each size beside the MACs of each row of the table.")
    return "all four rows round to the printed numbers: the first convolution was left out."


@exercise("01.4")
def _(separable):
    for m, n, kernel, stride, padding in ((5, 7, 3, 1, 0), (8, 16, 3, 2, 1), (6, 4, 5, 1, 2)):
        layer, shape = nn.Conv2d(m, n, kernel, stride, padding, bias=False), (1, m, 12, 12)
        where = f"{m} -> {n} channels, K={kernel}, stride {stride}, padding {padding}:"
        pair, wanted = separable(layer), count(layer, shape).rows[0].output_shape
        try:
            table = count(pair, shape)
        except ValueError as error:
            hint = f"the layers do not fit together; the depthwise one keeps the {m} channels. ({error.__cause__})"
            raise Wrong(f"{where} {hint}") from error
        kinds = [row.kind for row in table.rows]
        if kinds != ["depthwise", "pointwise"]:
            hint = "" if "depthwise" in kinds else " The first needs groups=M."
            raise Wrong(f"{where} expected a depthwise and then a pointwise layer, got {' and '.join(kinds)}.{hint}")
        came = table.rows[-1].output_shape
        if came != wanted:
            unpadded, unstrided = (12 - kernel) // stride + 1, 12 + 2 * padding - kernel + 1
            hint = {
                unpadded: "the depthwise layer keeps the padding.",
                unstrided: "the depthwise layer keeps the stride.",
                wanted[-1] + 2 * padding: "the pointwise layer needs no padding.",
            }.get(came[-1], "stride and padding belong to the depthwise layer alone.")
            raise Wrong(f"{where} expected an output of {wanted}, got {came}: {hint}")
        right = separable_cost(m, n, kernel, wanted[-1])
        if table.macs != right.macs:
            hint = "the stride belongs to the depthwise layer, so that the pointwise one works on the small map."
            raise Wrong(f"{where} expected {right.macs:,} MACs, got {table.macs:,}: {hint}")
    return "the same shapes for a fraction of the MACs."
