"""Train small MobileNets on the rendered scenes, to set their accuracy against their cost (lesson 01).

    python recipes/scenes_mobilenets.py

Every network sees the same pictures equally often, with the same settings and one seed; differences of one or two
percent mean nothing. Writes ``xailab/lessons/mobilenets.json``; the networks themselves are not kept.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from training import all_in_top, render, scores, train

from xailab import flops
from xailab.datasets import scenes
from xailab.images import Preprocess
from xailab.models import zoo

RESULTS = Path(__file__).parents[1] / "xailab" / "lessons" / "mobilenets.json"
GRID = [
    *(("separable", alpha, 64) for alpha in (0.25, 0.5, 0.75, 1.0)),
    *(("separable", alpha, resolution) for alpha in (0.25, 0.5) for resolution in (32, 48, 96)),
    *(("full", 0.25, resolution) for resolution in (32, 48, 64)),
]
NORMALISE = Preprocess(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


def measure(architecture: str, alpha: float, resolution: int, data: dict[str, tuple], epochs: int, seed: int) -> dict:
    """Train one network and count its cost."""
    torch.manual_seed(seed)
    options = {"width": alpha, "num_classes": len(scenes.CLASSES), "separable": architecture == "separable"}
    network = zoo.build("MobileNetV1", **options)
    shrink = Preprocess(resize=resolution)
    (pictures, targets), (unseen, truth) = (
        (np.stack([shrink.frame(picture) for picture in large]), targets)
        for large, targets in (data["train"], data["test"])
    )
    title = f"{architecture} alpha {alpha} at {resolution}"
    train(network, pictures, targets, NORMALISE, epochs=epochs, seed=seed, title=title)
    cost = flops.count(network, (1, 3, resolution, resolution))
    return {
        "architecture": architecture,
        "alpha": alpha,
        "resolution": resolution,
        "macs": cost.macs,
        "params": cost.params,
        "accuracy": round(all_in_top(scores(network, unseen, NORMALISE), truth, 1), 4),
    }


def main() -> None:
    """Render once, train every network of the grid, write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=int, default=5000)
    parser.add_argument("--test", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    data: dict[str, tuple[np.ndarray, Tensor]] = {
        split: render(getattr(args, split), kind="single", split=split, size=128) for split in ("train", "test")
    }
    rows = []
    for architecture, alpha, resolution in GRID:
        rows.append(measure(architecture, alpha, resolution, data, args.epochs, args.seed))
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
