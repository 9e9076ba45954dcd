"""The reader's own machine: its peaks, and the time of layers."""

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from xailab.flops import count


@dataclass(frozen=True)
class Machine:
    """Peaks of one processor core: FLOP and bytes for each second."""

    flops: float
    bytes: float


def best_time(run, *, seconds: float = 0.12) -> float:
    """Measure the shortest of repeated runs, in seconds: other work of the machine can only add time."""
    run()
    best, end = math.inf, time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best


def layer_time(layer: nn.Module, *shape: int, seconds: float = 0.12) -> float:
    """Measure the seconds that a layer takes for an input of this shape."""
    x = torch.randn(shape)
    with torch.inference_mode():
        return best_time(lambda: layer(x), seconds=seconds)


def layer_times(layers: Iterable[nn.Module], *shape: int, turns: int = 6) -> list[float]:
    """Measure the seconds that layers take for an input of this shape, in turns.

    Other work of the machine then disturbs all of them alike, and the shortest turn of each counts.
    """
    layers = list(layers)
    measured = [[layer_time(layer, *shape, seconds=0.06) for layer in layers] for _ in range(turns)]
    return [min(times) for times in zip(*measured, strict=True)]


def peaks() -> Machine:
    """Measure the peaks of one core: in products of matrices, and in a copy of 128 MB, which no cache holds."""
    fastest = 0.0
    for n in (256, 512, 1024):  # the large ones are disturbed more often, the small ones are less efficient
        a, b = torch.randn(n, n), torch.randn(n, n)
        fastest = max(fastest, 2 * n**3 / best_time(lambda a=a, b=b: a @ b, seconds=0.25))
    source = torch.zeros(2**25)
    target = torch.zeros_like(source)
    return Machine(fastest, 2 * source.nbytes / best_time(lambda: target.copy_(source), seconds=0.4))


def time_by_kind(network: nn.Module, size: int, *, seconds: float = 0.05) -> dict[str, float]:
    """Measure the seconds in each kind of layer of a network, every layer timed alone."""
    times: dict[str, float] = {}
    for row in count(network, (1, 3, size, size)).rows:
        layer = network.get_submodule(row.module)
        times[row.kind] = times.get(row.kind, 0.0) + layer_time(layer, *row.input_shape, seconds=seconds)
    return times
