"""Train small MobileNets on the rendered scenes, to set their accuracy against their cost (lesson 01).

    python recipes/scenes_mobilenets.py

Every network sees the same pictures equally often, with the same settings and one seed; differences of one or two
percent mean nothing. Writes ``xailab/lessons/flops/mobilenets.json``; the networks themselves are not kept.
"""

import argparse
import json
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from training import all_in_top, render, scores, train

from xailab import flops
from xailab.datasets import scenes
from xailab.images import Preprocess
from xailab.models import zoo

RESULTS = Path(__file__).parents[1] / "xailab" / "lessons" / "flops" / "mobilenets.json"
GRID = [
    (architecture, alpha, resolution)
    for architecture, alphas in (("separable", (0.5, 0.25)), ("full", (0.25,)))
    for alpha in alphas
    for resolution in (64, 48, 32)
]
NORMALISE = Preprocess(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


def measure(
    architecture: str, alpha: float, resolution: int, seen: tuple, unseen: tuple, epochs: int, seed: int
) -> dict:
    """Train one network, on one processor, and count its cost; seen and unseen are (pictures, targets)."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    options = {"width": alpha, "num_classes": len(scenes.CLASSES), "separable": architecture == "separable"}
    network = zoo.build("MobileNetV1", **options)
    title = f"{architecture} alpha {alpha} at {resolution}"
    train(network, *seen, NORMALISE, epochs=epochs, seed=seed, title=title)
    cost = flops.count(network, (1, 3, resolution, resolution))
    return {
        "architecture": architecture,
        "alpha": alpha,
        "resolution": resolution,
        "macs": cost.macs,
        "params": cost.params,
        "accuracy": round(all_in_top(scores(network, unseen[0], NORMALISE), unseen[1], 1), 4),
    }


def shrink(data: tuple[np.ndarray, Tensor], resolution: int) -> tuple[np.ndarray, Tensor]:
    """The same pictures and targets at a smaller size."""
    pictures, targets = data
    return np.stack([Preprocess(resize=resolution).frame(picture) for picture in pictures]), targets


def main() -> None:
    """Render once, train every network of the grid, write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=int, default=5000)
    parser.add_argument("--test", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    seen, unseen = (render(n, kind="single", split=split) for n, split in ((args.train, "train"), (args.test, "test")))
    rows = []
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        runs = []
        for network in GRID:
            small = (shrink(data, network[2]) for data in (seen, unseen))
            runs.append(pool.submit(measure, *network, *small, args.epochs, args.seed))
        for run in runs:
            rows.append(run.result())
            print(rows[-1], flush=True)
    options = " ".join(f"--{key} {value}" for key, value in vars(args).items())
    result = {
        "command": f"python recipes/scenes_mobilenets.py {options}",
        "images": {"train": args.train, "test": args.test},
        "rows": rows,
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
