"""Pictures and explorers of one layer: its steps, its cost, and the gain of making it separable."""

from collections.abc import Sequence

import ipywidgets as widgets
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from xailab import figures
from xailab.figures import BLACK, BLUE, GREEN, GREY, ORANGE, SKY, VERMILLION
from xailab.flops import conv_cost
from xailab.lessons.explorer import explorer

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
