"""Run ``python -m xailab.padim DATA``: fit PaDiM, score, and compare with the published figures.

Here are PaDiM's own options and its fit. The rest is ``xailab.detection``, for all detectors.
"""

import argparse
import dataclasses
import sys

from torch import nn
from torch.utils.data import DataLoader, Dataset

from xailab.detection import Method, Prepared, run
from xailab.models import zoo
from xailab.padim import PaDiM

RANDOM = "random"
SHIPPED = "scenes_resnet"  # runs without any weights to download
FRAMES = {SHIPPED: {"resize": 192, "crop": None}}  # it was trained at 128 pixels, and finds finer defects at 192
BACKBONES = f"resnet18 and wide_resnet50_2 are the paper's, {SHIPPED} (default) comes with the course"
DIMENSIONS = {"wide_resnet50_2": 550}  # as in the paper; 100 for other networks
PUBLISHED = {"wide_resnet50_2": "WR50-Rd550"}  # variant in the paper; that of ResNet18 for other networks
LAYERS = {  # for networks whose layers are not called layer1, layer2, layer3
    "squeezenet1_0": ("features.5", "features.10", "features.12"),
    "squeezenet1_1": ("features.4", "features.7", "features.12"),
    "efficientnet_b5": ("features.2", "features.5.0", "features.5"),
    "scenes_vgg": ("features.9", "features.16", "features.23"),
}


def _add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("PaDiM").add_argument
    add("--backbone", default=SHIPPED, metavar="NAME", help=f"network: {BACKBONES}")
    add("--weights", default=zoo.TRAINED, metavar="PATH", help="file of its weights, or random (default: trained)")
    add("--layers", nargs="+", metavar="NAME", help="layers by their dotted names (default: layer1 layer2 layer3)")
    add("--dimensions", metavar="D", help="channels that are kept, or all (default: 100; 550 for wide_resnet50_2)")
    add("--reduction", choices=("random", "pca"), default="random", help="how they are chosen (default: random)")
    add("--epsilon", type=float, default=0.01, help="added to the covariances' diagonals (default: 0.01)")
    add("--blur", type=float, default=4.0, help="smoothing of the maps in pixels (default: 4)")


def _prepare(options: argparse.Namespace) -> Prepared:
    name = options.backbone
    network = zoo.load(name, weights=None if options.weights == RANDOM else options.weights).to(options.device)
    layers = options.layers or _layers(network, name)
    dimensions = _dimensions(options.dimensions, name)
    made = {"reduction": options.reduction, "epsilon": options.epsilon, "blur": options.blur, "seed": options.seed}
    PaDiM(network, layers, dimensions, **made)  # so that wrong options are known before any work

    def loader(data: Dataset) -> DataLoader:
        return DataLoader(data, options.batch, num_workers=options.workers)

    def fit(normal: Dataset, held_out: Dataset | None) -> PaDiM:
        detector = PaDiM(network, layers, dimensions, **made).fit(loader(normal), progress=sys.stderr.isatty())
        if held_out is not None:
            detector.calibrate(loader(held_out), options.calibrate, progress=sys.stderr.isatty())
        return detector

    weights = " with random weights" if options.weights == RANDOM else ""
    kept = "all channels" if dimensions is None else f"{dimensions} channels ({options.reduction})"
    return Prepared(
        preprocess=dataclasses.replace(network.preprocess, **FRAMES.get(name, {})),
        fit=fit,
        published=PUBLISHED.get(name, "ResNet18-Rd100"),
        description=f"{name}{weights}, {', '.join(layers)}, {kept}",
    )


def _layers(network: nn.Module, name: str) -> tuple[str, ...]:
    usual = ("layer1", "layer2", "layer3")
    found = LAYERS.get(name, usual)
    if found is usual and not all(hasattr(network, layer) for layer in usual):
        parts = ", ".join(each for each, _ in network.named_children())
        raise ValueError(f"{name} has no layer1, layer2 and layer3 but {parts}: say which to use with --layers")
    return found


def _dimensions(text: str | None, name: str) -> int | None:
    if text is None:
        return DIMENSIONS.get(name, 100)
    if text == "all":
        return None
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ValueError(f"--dimensions {text}: expected a number from 1, or all")
    return int(text)


PADIM = Method("PaDiM", "xailab.padim", _add_options, _prepare)

if __name__ == "__main__":
    raise SystemExit(run(PADIM))
