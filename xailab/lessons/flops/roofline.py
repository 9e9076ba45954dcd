"""The reader's own machine: its peaks, the time of layers, and the roofline."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from matplotlib.figure import Figure
from torch import nn

from xailab import figures
from xailab.figures import BLACK, GREY
from xailab.flops import CostTable, count
from xailab.lessons.flops.networks import COLOURS, draw_share_bars, shares


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
    draw_share_bars(bars, {**rows, "time": [100 * by_kind[k] / total for k in kinds]}, kinds)
    bars.set_title("A MobileNet's MACs, bytes and time")
    return figure
