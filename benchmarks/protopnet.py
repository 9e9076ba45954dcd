"""ProtoPNet's local analysis: a batch at once, beside image by image with a loop over the prototypes, in one run.

    python benchmarks/protopnet.py

README.md in this folder says what the columns mean.
"""

import argparse
import os
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from report import machine, table
from torch import Tensor
from tqdm import tqdm

from xailab.datasets import phantoms
from xailab.protopnet import ProtoPNet, SmallFeatures, local_analysis, project
from xailab.protopnet.network import EPSILON

BATCH, TOP, MANY = 32, 5, 40
CASES = ["10:96", "40:96"]
LEAST = 10.0  # times as fast as the loops, with as many prototypes as usual for two classes


class Explained(NamedTuple):
    """What both say of a batch: contributions to the predicted logit, top prototypes, their two boxes."""

    contributions: np.ndarray
    prototypes: np.ndarray
    boxes: np.ndarray
    receptive: np.ndarray


def ours(model: ProtoPNet, images: Tensor) -> Explained:
    """The whole batch at once."""
    return _told(local_analysis(model, images, top=TOP))


def ours_one_by_one(model: ProtoPNet, images: Tensor) -> Explained:
    """The same function, called once for each image."""
    found = [ours(model, image[None]) for image in images]
    return Explained(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


@torch.no_grad()
def loops(model: ProtoPNet, images: Tensor) -> Explained:
    """As programs for one image do it: two forward passes, then one prototype after another.

    Where the prototypes come from is taken to be known, ours looks it up anew in each call.
    """
    model.eval()
    weights, found = model.last_layer.weight, []
    for image in images:
        scores, maps = [], []
        latent = model.embed(image[None])
        for prototype in model.prototypes:
            scores.append(_similarity((latent - prototype.view(1, -1, 1, 1)).square().sum(1)).max().item())
        predicted = int((weights @ torch.tensor(scores)).argmax())
        latent = model.embed(image[None])
        for prototype in model.prototypes:
            maps.append(_similarity((latent - prototype.view(1, -1, 1, 1)).square().sum(1))[0].numpy())
        boxes, receptive, size = [], [], image.shape[1]
        for large in (cv2.resize(each, (size, size), interpolation=cv2.INTER_CUBIC) for each in maps):
            rows, columns = np.nonzero(large >= np.percentile(large, 95))
            boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        for each in maps:
            y, x = np.unravel_index(each.argmax(), each.shape)
            receptive.append([max(8 * x - 13, 0), max(8 * y - 13, 0), min(8 * x + 14, size), min(8 * y + 14, size)])
        order = np.argsort(-np.array(scores), kind="stable")[:TOP]
        contributions = weights[predicted].numpy() * np.array(scores)
        found.append((contributions, order, np.array(boxes)[order], np.array(receptive)[order]))
    return Explained(*(np.stack(parts) for parts in zip(*found, strict=True)))


METHODS: dict[str, Callable[[ProtoPNet, Tensor], Explained]] = {
    "xailab, the batch": ours,
    "xailab, image by image": ours_one_by_one,
    "loops": loops,
}


def _similarity(distances: Tensor) -> Tensor:
    return torch.log((distances + 1) / (distances + EPSILON))


def _told(analysis) -> Explained:
    parts = (analysis.contributions, analysis.prototypes, analysis.boxes, analysis.receptive_boxes)
    return Explained(*(part.numpy() for part in parts))


def case(prototypes: int, size: int, batch: int) -> tuple[ProtoPNet, Tensor]:
    """A projected network with random weights, and slices."""
    torch.manual_seed(0)
    model = ProtoPNet(SmallFeatures(), prototypes // 2, phantoms.CLASSES, dimensions=32)
    drawn = phantoms.batch(tqdm(range(batch), f"slices of {size} pixels", leave=False), size=size)
    with torch.no_grad():
        model.train().embed(drawn.images)
        project(model, drawn.images, drawn.labels)
    return model.eval(), drawn.images


def apart(one: Explained, other: Explained) -> str:
    """How far two findings differ: the largest difference of a contribution, and of a box in pixels."""
    same = one.prototypes == other.prototypes  # near ties may swap places
    pixels = max(int(np.abs(a - b)[same].max(initial=0)) for a, b in zip(one[2:], other[2:], strict=True))
    return f"{np.abs(one.contributions - other.contributions).max():.0e}, {pixels} px, {(~same).mean():.1%}"


def measure(model: ProtoPNet, images: Tensor, repeats: int) -> dict[str, float]:
    """The shortest of some rounds of each method, in turns."""
    best = dict.fromkeys(METHODS, float("inf"))
    for _ in range(repeats):
        for name, method in METHODS.items():
            start = time.perf_counter()
            method(model, images)
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all cases and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cases", nargs="+", default=CASES, help="prototypes:pixels")
    parser.add_argument("--batch", type=int, default=BATCH, help="images")
    parser.add_argument("--repeats", type=int, default=5, help="rounds; the quickest counts")
    parser.add_argument("--threads", type=int, default=int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    print(machine())
    lines = []
    for each in options.cases:
        prototypes, size = map(int, each.split(":"))
        model, images = case(prototypes, size, options.batch)
        reference = loops(model, images)
        differences = {name: apart(method(model, images), reference) for name, method in METHODS.items()}
        times = measure(model, images, options.repeats)
        mine = times["xailab, the batch"]
        for name, seconds in times.items():
            ratio = f"{seconds / mine:.1f}"
            lines.append([str(prototypes), str(size), name, f"{1000 * seconds:.1f} ms", ratio, differences[name]])
    print("\n" + table(["prototypes", "pixels", "method", "batch", "to ours", "apart"], lines))
    wanted = [float(line[4]) for line in lines if line[2] == "loops" and int(line[0]) >= MANY]
    if wanted:
        print(f"\n{MANY} prototypes, at least {LEAST:.0f} x as fast as the loops: {min(wanted) >= LEAST}")


if __name__ == "__main__":
    main()
