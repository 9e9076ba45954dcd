"""Counting a network: our time and result beside torch's, fvcore's, thop's, ptflops' and torchinfo's, in one run.

    python benchmarks/flops.py

README.md in this folder says what the columns mean.
"""

import argparse
import copy
import logging
import warnings
from collections.abc import Callable, Sequence

import torch
from report import machine, seconds, table
from torch import nn

from xailab.flops import count
from xailab.models import zoo

OURS = "xailab"
LIMIT = 0.1  # seconds, for ResNet50
Call = Callable[[], float]  # counts, and returns multiply-accumulates


# Each builder raises ImportError if its library is not there.


def ours(network: nn.Module, size: int) -> Call:
    return lambda: count(network, (1, 3, size, size)).macs


def torch_counter(network: nn.Module, size: int) -> Call:
    from torch.utils.flop_counter import FlopCounterMode

    def call() -> float:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(torch.zeros(1, 3, size, size))
        return counter.get_total_flops() / 2

    return call


def fvcore(network: nn.Module, size: int) -> Call:
    from fvcore.nn import FlopCountAnalysis

    logging.getLogger("fvcore").setLevel(logging.ERROR)  # what it does not count
    return lambda: FlopCountAnalysis(network, torch.zeros(1, 3, size, size)).total()


def thop(network: nn.Module, size: int) -> Call:
    from thop import profile

    network = copy.deepcopy(network)  # it leaves attributes behind
    return lambda: profile(network, inputs=(torch.zeros(1, 3, size, size),), verbose=False)[0]


def ptflops(network: nn.Module, size: int) -> Call:
    from ptflops import get_model_complexity_info

    options = {"as_strings": False, "print_per_layer_stat": False, "verbose": False}
    return lambda: get_model_complexity_info(network, (3, size, size), **options)[0]


def torchinfo(network: nn.Module, size: int) -> Call:
    from torchinfo import summary

    return lambda: summary(network, (1, 3, size, size), verbose=0).total_mult_adds


METHODS = {
    OURS: ours,
    "torch": torch_counter,
    "fvcore": fvcore,
    "thop": thop,
    "ptflops": ptflops,
    "torchinfo": torchinfo,
}


def installed(network: nn.Module, size: int) -> dict[str, Call]:
    """The calls of the libraries that are there; the others get a line."""
    calls = {}
    for name, build in METHODS.items():
        try:
            calls[name] = build(network, size)
        except ImportError as error:
            print(f"{name} is left out: {error}")
    return calls


def measure(calls: dict[str, Call], repeats: int) -> tuple[dict[str, float], dict[str, float]]:
    """What each library counts, and its shortest time; the libraries take turns, in an order that rotates."""
    macs = {name: call() for name, call in calls.items()}  # also warms up
    times: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    for i in range(repeats):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            times[name].append(seconds(calls[name]))
    return macs, {name: min(each) for name, each in times.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=["resnet50", "mobilenet_v2", "vit_b_16"])
    parser.add_argument("--repeats", type=int, default=7, help="rounds, after one that warms up")
    parser.add_argument("--threads", type=int, default=None, help="of torch; its own choice if left out")
    parser.add_argument("--size", type=int, default=224, help="of the pictures, in pixels")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")  # the libraries' own, of deprecated calls
    print(machine())
    rows, verdicts = [], []
    for name in options.networks:
        network = zoo.load(name, weights=None)
        macs, times = measure(installed(network, options.size), options.repeats)
        for library, time in times.items():
            rows.append(
                [name, library, f"{1000 * time:.0f} ms", f"{time / times[OURS]:.1f}", f"{macs[library] / 1e6:,.1f}"]
            )
        if name == "resnet50":
            verdicts.append([name, f"{1000 * times[OURS]:.0f} ms", f"{1000 * LIMIT:.0f} ms", str(times[OURS] <= LIMIT)])
    print("\n" + table(["network", "library", "time", "time / ours", "million MACs"], rows))
    if verdicts:
        print("\nOurs\n\n" + table(["network", "measured", "at most", "holds"], verdicts))


if __name__ == "__main__":
    main()
