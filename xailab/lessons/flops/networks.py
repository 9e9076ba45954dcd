"""Pictures and explorers of whole networks: shares, multipliers, counters, and accuracy measured on `scenes`."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import ipywidgets as widgets
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from xailab import figures
from xailab.figures import BLACK, BLUE, GREEN, GREY, ORANGE, PINK, SKY, VERMILLION
from xailab.flops import CostTable
from xailab.lessons.explorer import explorer
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
