"""Grad-CAM and Guided Grad-CAM: our time and memory beside captum's, pytorch-grad-cam's and torch-cam's, in one run.

    python benchmarks/grad_cam.py

README.md in this folder says what the columns mean.
"""

import argparse
import copy
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from report import machine, table
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from xailab.grad_cam import grad_cam, guided_grad_cam
from xailab.models import zoo

BARE, OURS = "bare forward pass + head backward", "xailab"
Call = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """A network, a layer of it, the part behind the layer, and a batch with a class for each picture."""

    network: nn.Module
    layer: str
    head: nn.Module
    images: Tensor
    classes: list[int]

    @property
    def module(self) -> nn.Module:
        return self.network.get_submodule(self.layer)


def case(name: str, batch: int, size: int) -> Case:
    """One of torchvision's networks with random weights, and random pictures of ``size`` pixels."""
    network = zoo.load(name, weights=None)
    if name.startswith("vgg"):
        *_, rectified, pool = (i for i, module in enumerate(network.features) if not isinstance(module, nn.Conv2d))
        layer, head = f"features.{rectified}", [network.features[pool], network.avgpool, nn.Flatten()]
        head = nn.Sequential(*head, network.classifier)
    elif name.startswith("resnet"):
        layer, head = "layer4", nn.Sequential(network.avgpool, nn.Flatten(), network.fc)
    else:
        raise ValueError(f"{name}: only ResNets and VGGs are known here")
    images = torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0))
    return Case(network, layer, head.eval(), images, [(7 * i + 281) % 1000 for i in range(batch)])


# Grad-CAM. Each builder raises ImportError if its library is not there.


def ours(case: Case) -> Call:
    return lambda: grad_cam(case.network, case.images, case.layer, case.classes)


def captum(case: Case) -> Call:
    from captum.attr import LayerGradCam

    method = LayerGradCam(case.network, case.module)
    return lambda: method.attribute(case.images, target=case.classes, relu_attributions=True)


def pytorch_grad_cam(case: Case) -> Call:
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    targets = [ClassifierOutputTarget(c) for c in case.classes]

    def call():
        with GradCAM(case.network, [case.module]) as method:
            maps = method(input_tensor=case.images, targets=targets)
        return maps

    return call


def torch_cam(case: Case) -> Call:
    from torchcam.methods import GradCAM

    def call():
        with GradCAM(case.network, case.layer) as method:
            return method(case.classes, case.network(case.images))

    return call


# Guided Grad-CAM


def ours_guided(case: Case) -> Call:
    return lambda: guided_grad_cam(case.network, case.images, case.layer, case.classes)


def captum_guided(case: Case) -> Call:
    from captum.attr import GuidedGradCam

    method = GuidedGradCam(case.network, case.module)
    return lambda: method.attribute(case.images.clone(), target=case.classes, interpolate_mode="bilinear")


def pytorch_grad_cam_guided(case: Case) -> Call:
    """On a network of its own, whose ReLUs it swaps; guided backpropagation takes one picture at a time."""
    from pytorch_grad_cam import GuidedBackpropReLUModel

    maps_of = pytorch_grad_cam(case)
    method = GuidedBackpropReLUModel(copy.deepcopy(case.network))

    def call():
        maps = maps_of()
        each = zip(case.images.split(1), case.classes, maps, strict=True)
        return [method(picture.clone(), c) * enlarged[..., None] for picture, c, enlarged in each]

    return call


GRAD_CAM = {OURS: ours, "captum": captum, "pytorch-grad-cam": pytorch_grad_cam, "torch-cam": torch_cam}
GUIDED = {OURS: ours_guided, "captum": captum_guided, "pytorch-grad-cam": pytorch_grad_cam_guided}


# What is measured


def installed(methods: dict[str, Callable[[Case], Call]], case: Case) -> dict[str, Call]:
    """The calls of the libraries that are there; the others get a line."""
    calls = {}
    for name, build in methods.items():
        try:
            calls[name] = build(case)
        except ImportError as error:
            print(f"{name} is left out: {error}")
    return calls


def seconds(call: Call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def warm_seconds(call: Call) -> float:
    """Time a call right after one like it, so that none pays for what the method before it left in the caches."""
    call()
    return seconds(call)


def bare_seconds(case: Case) -> float:
    """The bound: a forward pass under ``no_grad``, and the way back from the scores to the layer."""
    outputs = []
    handle = case.module.register_forward_hook(lambda module, inputs, output: outputs.append(output.clone()))
    with torch.no_grad():
        case.network(case.images)
    handle.remove()
    leaf = outputs[0].requires_grad_()
    total = case.head(leaf.clone())[range(len(leaf)), case.classes].sum()
    backward = seconds(lambda: torch.autograd.grad(total, leaf))
    with torch.no_grad():
        return backward + seconds(lambda: case.network(case.images))


def peak_bytes(call: Call) -> int:
    """Most bytes of tensors alive at once during a call, beyond those from before it, as the CPU allocator counts."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as trace:
        call()
    changes = [event for event in trace.profiler.kineto_results.events() if event.name() == "[memory]"]
    alive = peak = 0
    for change in sorted(changes, key=lambda event: event.start_ns()):
        alive += change.nbytes()
        peak = max(peak, alive)
    return peak


def rounds(calls: dict[str, Call], bare: Callable[[], float], repeats: int, clean: Call) -> Iterator[dict[str, float]]:
    """Time all methods and the bound once a round, in an order that rotates; the first round warms up."""
    timers = {BARE: bare} | {name: (lambda call=call: warm_seconds(call)) for name, call in calls.items()}
    names = list(timers)
    for i in range(repeats + 1):
        times = {}
        for name in names[i % len(names) :] + names[: i % len(names)]:
            times[name] = timers[name]()
            clean()
        if i:
            yield times


def ratio(times: Sequence[dict[str, float]], name: str, to: str) -> float:
    """A method's shortest time as a ratio to another's shortest: what disturbs a computer only ever adds time."""
    return min(each[name] for each in times) / min(each[to] for each in times)


def measure(case: Case, repeats: int) -> tuple[list[list[str]], list[list[str]], dict[str, float]]:
    """Rows of the two tables for one case, and what is bounded."""

    def clean() -> None:
        case.network.zero_grad(set_to_none=True)  # what pytorch-grad-cam leaves behind

    def forward():
        with torch.no_grad():
            return case.network(case.images)

    found = {}
    simple = installed(GRAD_CAM, case)
    times = list(rounds(simple, lambda: bare_seconds(case), repeats, clean))
    least = peak_bytes(forward)
    rows = [[BARE, f"{1000 * min(each[BARE] for each in times):.0f} ms", f"{least / 2**20:.0f} MiB"]]
    for name, call in simple.items():
        time_ratio, memory_ratio = ratio(times, name, BARE), peak_bytes(call) / least
        clean()
        rows.append([name, f"{time_ratio:.2f}", f"{memory_ratio:.2f}"])
        if name == OURS:
            found |= {"Grad-CAM, time / bound": time_ratio, "Grad-CAM, memory / forward pass": memory_ratio}
    guided = installed(GUIDED, case)
    times = list(rounds(guided, lambda: bare_seconds(case), repeats, clean))
    guided_rows = []
    for name, call in guided.items():
        to_captum = ratio(times, name, "captum") if "captum" in guided else None
        told = "" if to_captum is None else f"{to_captum:.2f}"
        guided_rows.append([name, f"{ratio(times, name, BARE):.2f}", told, f"{peak_bytes(call) / least:.2f}"])
        clean()
        if name == OURS and to_captum is not None:
            found["Guided Grad-CAM, time / captum's"] = to_captum
    return rows, guided_rows, found


LIMITS = {
    "Grad-CAM, time / bound": 1.05,
    "Grad-CAM, memory / forward pass": 1.05,
    "Guided Grad-CAM, time / captum's": 0.75,
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=["resnet50", "vgg16"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--repeats", type=int, default=9, help="rounds, after one that warms up")
    parser.add_argument("--threads", type=int, default=None, help="of torch; its own choice if left out")
    parser.add_argument("--size", type=int, default=224, help="of the pictures, in pixels")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler's log
    warnings.simplefilter("ignore")  # captum's, and our own of maps without positive evidence: weights are random
    print(machine())
    simple, guided, verdicts = [], [], []
    for name in options.networks:
        for batch in options.batches:
            here = case(name, batch, options.size)
            rows, guided_rows, found = measure(here, options.repeats)
            simple += [[f"{name} {here.layer}", str(batch), *row] for row in rows]
            guided += [[f"{name} {here.layer}", str(batch), *row] for row in guided_rows]
            verdicts += [
                [
                    f"{name} {here.layer}",
                    str(batch),
                    what,
                    f"{value:.3f}",
                    f"{LIMITS[what]}",
                    str(value <= LIMITS[what]),
                ]
                for what, value in found.items()
            ]
    print("\nGrad-CAM\n\n" + table(["network", "batch", "method", "time / bound", "memory / forward pass"], simple))
    head = ["network", "batch", "method", "time / bound", "time / captum's", "memory / forward pass"]
    print("\nGuided Grad-CAM\n\n" + table(head, guided))
    print("\nOurs\n\n" + table(["network", "batch", "what", "measured", "at most", "holds"], verdicts))


if __name__ == "__main__":
    main()
