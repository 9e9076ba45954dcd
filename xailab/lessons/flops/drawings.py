"""Drawings of one layer: how it depends on its input, how it counts, what it costs, what its separable pair saves."""

from collections.abc import Sequence, Set

from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from xailab import figures
from xailab.figures import BLACK, BLUE, GREEN, GREY, ORANGE, SKY, VERMILLION
from xailab.flops import Cost, conv_cost

EDGES = {"3 × 3 kernel": BLUE, "1 × 1 kernel": GREEN}


def draw_idea(
    inputs: Float[Tensor, "m h w"], filtered: Float[Tensor, "m h w"], outputs: Float[Tensor, "n h w"]
) -> Figure:
    """Draw how maps depend on maps: by a standard convolution, and by a depthwise and a pointwise one.

    Args:
        inputs: A few of the input's maps.
        filtered: The same maps after the depthwise convolution.
        outputs: A few of the maps after the pointwise convolution.
    """
    figure, page = figures.new(width=12, height=5.6)
    page.set(xlim=(0, 12), ylim=(0, 5.6))
    page.set_axis_off()
    columns = {0.2: inputs, 3.7: outputs, 5.9: inputs, 8.4: filtered, 10.9: outputs}
    places = {x: _column(page, x, maps) for x, maps in columns.items()}
    _edges(page, places, 0.2, 3.7, "3 × 3 kernel")
    _edges(page, places, 5.9, 8.4, "3 × 3 kernel", straight=True)
    _edges(page, places, 8.4, 10.9, "1 × 1 kernel")
    for x, text in ((2.4, "standard"), (7.6, "depthwise"), (10.1, "then pointwise")):
        page.text(x, 5.35, text, ha="center", va="center", fontsize=14)
    page.axvline(5.4, 0.06, 0.97, color=GREY, linewidth=1)
    for label, colour in EDGES.items():
        page.plot([], [], color=colour, linewidth=3, label=f"one {label}")
    page.legend(loc="lower center", bbox_to_anchor=(0.5, -0.07), ncols=2, fontsize=12, frameon=False)
    return figure


def _column(page: Axes, x: float, maps: Float[Tensor, "m h w"]) -> list[float]:
    """Draw maps below each other, and return the heights of their middles."""
    middles = [2.75 - 1.18 * (i - (len(maps) - 1) / 2) for i in range(len(maps))]
    for middle, each in zip(middles, maps, strict=True):
        inset = page.inset_axes((x, middle - 0.5, 1.0, 1.0), transform=page.transData)
        figures.picture(inset, each.numpy(), cmap="gray")
    return middles


def _edges(page: Axes, places: dict, left: float, right: float, label: str, *, straight: bool = False) -> None:
    """Draw a line for each kernel between two columns, with the kernel's cells on it."""
    kernel = int(label[0])
    for i, start in enumerate(places[left]):
        for k, end in enumerate(places[right]):
            if straight and i != k:
                continue
            first, last = left + 1.05, right - 0.05
            page.plot((first, last), (start, end), color=EDGES[label], linewidth=1.6)
            at = 0.5 if straight else 0.27
            x, y, cell = first + at * (last - first), start + at * (end - start), 0.065
            corner = (x - cell * kernel / 2, y - cell * kernel / 2)
            cells = [
                Rectangle((corner[0] + cell * a, corner[1] + cell * b), cell, cell)
                for a in range(kernel)
                for b in range(kernel)
            ]
            page.add_collection(
                PatchCollection(cells, facecolors="white", edgecolors=EDGES[label], linewidths=1, zorder=3)
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
    figure, axes = figures.new(width=8.0, height=5.4)
    _step(axes, layer, step)
    figure.supxlabel("blue: read now    orange: the filter    red: made now    light blue: made before", fontsize=11)
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
        before = {divmod(p, SIDE) for p in range(SIDE * SIDE) if (k, p) < (n, position)}
        _plane(axes, _left(k, filters, SIDE), 0, SIDE, before, SKY, strong={(i, j)} if k == n else set())
    total = filters * SIDE * SIDE
    axes.text(17, 20.4, f"input {side} × {side} × {CHANNELS}", ha="center", va="bottom", fontsize=11)
    which = f"filter {n + 1} of {filters}: {kernel} × {kernel} × {seen} = {each} multiplications for each output value"
    axes.text(17, 11.3, which, ha="center", va="bottom", fontsize=11)
    axes.text(17, 4.5, f"output {SIDE} × {SIDE} × {filters}", ha="center", va="bottom", fontsize=11)
    done = f"{step} × {each} = {step * each:,} of {total * each:,} multiplications"
    axes.set_title(f"{title}: output value {step} of {total}\n{done}")
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
    figure, axes = figures.new(width=8.5, height=4.4)
    _gain(axes, kernels, mark)
    axes.set_title("How many times fewer MACs the separable layer needs")
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

    figure, (bars, line) = figures.new(1, 2, width=12.0, height=5.2, width_ratios=(1.5, 1))
    per_group = f"{in_channels}" if groups == 1 else f"{in_channels}/{groups}"
    k, grid = f"{kernel}·{kernel}", f"{out}·{out}"
    figure.suptitle(
        f"output size:  ({size} + 2·{padding} − {kernel}) // {stride} + 1 = {out}\n"
        f"{'standard' if groups == 1 else 'grouped'}:  {k}·{per_group}·{out_channels}·{grid} = {full.macs:,} MACs"
        f" = {full.flops:,} FLOPs\n"
        f"separable:  {k}·{in_channels}·{grid} + {in_channels}·{out_channels}·{grid} = {pair.macs:,} MACs"
        f" = {pair.flops:,} FLOPs",
        fontsize=12,
        ha="left",
        x=0.02,
    )
    _cost_bars(bars, full, depthwise, pointwise, groups)
    _cost_line(line, kernel, out_channels, pair.macs / full.macs, groups)
    return figure


def _cost_bars(axes: Axes, full: Cost, depthwise: Cost, pointwise: Cost, groups: int) -> None:
    pair = depthwise + pointwise
    most = max(full.macs, pair.macs)
    unit, name = (1e6, "million MACs") if most >= 1e6 else (1e3, "thousand MACs")
    enlarged = most / pair.macs
    axes.barh([2], [full.macs / unit], color=BLUE)
    for y, factor in ((1, 1.0), (0, enlarged)):
        width = depthwise.macs / unit * factor
        axes.barh([y], [width], color=VERMILLION)
        axes.barh([y], [pointwise.macs / unit * factor], left=[width], color=GREEN)
    note = {"va": "center", "fontsize": 11, "xytext": (5, 0), "textcoords": "offset points"}
    for y, cost in ((2, full), (1, pair)):
        axes.annotate(f"{cost.macs / unit:,.1f}", (cost.macs / unit, y), **note)
    for x, cost, kind, colour in (
        (0.0, depthwise, "depthwise", VERMILLION),
        (most / unit, pointwise, "pointwise", GREEN),
    ):
        text = f"{kind} {cost.macs / unit:,.1f}"
        axes.text(x, -0.5, text, ha="right" if x else "left", va="top", color=colour, fontsize=12, fontweight="bold")
    axes.set_yticks(
        [0, 1, 2], [f"its two parts,\n{enlarged:.1f} × enlarged", "separable", "standard" if groups == 1 else "grouped"]
    )
    axes.set(xlabel=name, ylim=(-0.95, 2.5), xlim=(0, 1.12 * most / unit))
    axes.set_title(f"{full.macs / pair.macs:.2f} times fewer MACs")
    axes.grid(axis="y", visible=False)


def _cost_line(axes: Axes, kernel: int, out_channels: int, share: float, groups: int) -> None:
    channels = [2 ** (e / 8) for e in range(8 * 10 + 1)]
    axes.plot(channels, [1 / n + 1 / kernel**2 for n in channels], color=BLUE)
    axes.axhline(1 / kernel**2, color=GREY, linestyle=":")
    axes.text(1.15, 1 / kernel**2 - 0.02, f"1/K² = {1 / kernel**2:.3f}", color="#555555", va="top")
    axes.plot(out_channels, share, "o", color=VERMILLION, markersize=10, zorder=5, clip_on=False)
    axes.set(xscale="log", xlabel="output channels N", ylabel="separable / standard")
    axes.set(title="the share that is left", xlim=(1, 1024), ylim=(0, max(1.15, 1.1 * share, 1.3 / kernel**2)))
    axes.set_xticks([1, 4, 16, 64, 256, 1024], ["1", "4", "16", "64", "256", "1024"])
    axes.minorticks_off()
    if groups > 1:
        axes.annotate("grouped: off the line", (out_channels, share), (0.97, 0.93), ha="right",
                      textcoords="axes fraction", fontsize=10)  # fmt: skip
