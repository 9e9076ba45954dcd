"""Train and ship ``scenes_robust``: a small ResNet taught on pictures that were disturbed to mislead it.

    python recipes/scenes_robust.py

What it then finds in a picture must be large and plain, so that its class models show forms instead of texture.
"""

import argparse

import numpy as np
import torch
from training import disturbed, render, scores, ship, train

from xailab.datasets import scenes
from xailab.images import Preprocess
from xailab.models import zoo

PREPROCESS = Preprocess(resize=96, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
OPTIONS = {"num_classes": len(scenes.CLASSES), "width": 16}


def accuracies(network: torch.nn.Module, pictures: np.ndarray, targets: torch.Tensor, budget: float) -> dict:
    """Accuracy on unseen pictures, as they are and disturbed within the budget of the training."""
    truth = targets.argmax(1)
    moved, generator = [], torch.Generator().manual_seed(1)
    for i in range(0, len(pictures), 100):
        images = PREPROCESS(pictures[i : i + 100])
        images = disturbed(network, images, targets[i : i + 100], budget, PREPROCESS, generator)
        with torch.inference_mode():
            moved.append(network(images))
    shares = {
        "single_top1": (scores(network, pictures, PREPROCESS).argmax(1) == truth).double().mean(),
        "single_top1_disturbed": (torch.cat(moved).argmax(1) == truth).double().mean(),
    }
    return {name: round(share.item(), 4) for name, share in shares.items()}


def main() -> None:
    """Render, train, measure, ship."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=12000)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--budget", type=float, default=6.0, help="length of a disturbance; pixel values from 0 to 1")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    recipe = "python recipes/scenes_robust.py " + " ".join(f"--{key} {value}" for key, value in vars(args).items())

    pictures, targets = render(args.pictures, kind="single", split="train", size=PREPROCESS.resize)
    torch.manual_seed(args.seed)
    network = zoo.build("SmallResNet", **OPTIONS)
    options = {"epochs": args.epochs, "budget": args.budget, "seed": args.seed, "smoothing": 0.0}
    train(network, pictures, targets, PREPROCESS, bfloat16=False, **options)
    network.half().float()  # as it is shipped, so that the results are those of the file
    unseen = render(1000, kind="single", split="test", size=PREPROCESS.resize)
    results = accuracies(network, *unseen, args.budget)
    print(results)
    entry = {"architecture": "SmallResNet", "options": OPTIONS, "recipe": recipe, "results": results}
    print(ship("scenes_robust", network, entry, PREPROCESS))


if __name__ == "__main__":
    main()
