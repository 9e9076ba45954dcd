"""Train and ship ``scenes_biased`` and ``scenes_balanced``: the same network, taught with and without a bias.

    python recipes/scenes_biased.py

In the biased training pictures a red balloon hangs in every picture of a bird and in no other. In the balanced ones
it hangs in half of the pictures of each class; there are as many pictures of each class as before. Both networks are
measured on pictures of which half of each class have the balloon.
"""

import argparse

import numpy as np
import torch
from training import render, scores, ship, train

from xailab.datasets import scenes
from xailab.images import Preprocess
from xailab.models import zoo

PREPROCESS = Preprocess(resize=128, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
OPTIONS = {"num_classes": len(scenes.CLASSES), "width": 8}
# The split "test" hangs the balloon evenly; another seed draws other pictures than those that are measured on.
TRAINING = {"scenes_biased": {"split": "train", "seed": 0}, "scenes_balanced": {"split": "test", "seed": 1}}


def measure(network: torch.nn.Module, n: int) -> dict[str, float]:
    """Accuracy on unseen pictures, apart for birds and others, with the balloon and without."""
    drawn = [scenes.scene(i, kind="biased", split="test") for i in range(n)]
    labels = np.array([scene.labels[0] for scene in drawn])
    found = scores(network, np.stack([scene.image for scene in drawn]), PREPROCESS).argmax(1).numpy()
    bird, balloon = labels == scenes.BIASED_CLASS, np.array([scene.mark is not None for scene in drawn])
    groups = {"bird": bird & balloon, "bird_alone": bird & ~balloon, "other": ~bird & ~balloon}
    shares = {f"accuracy_{name}": (found == labels)[group].mean() for name, group in groups.items()}
    others = ~bird & balloon
    shares |= {
        "accuracy_other_with_balloon": (found == labels)[others].mean(),
        "other_with_balloon_called_bird": (found == scenes.BIASED_CLASS)[others].mean(),
    }
    return {name: round(float(share), 4) for name, share in shares.items()}


def main() -> None:
    """Render, train, measure and ship both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=6000)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    recipe = "python recipes/scenes_biased.py " + " ".join(f"--{key} {value}" for key, value in vars(args).items())
    for name, training in TRAINING.items():
        pictures, targets = render(args.pictures, kind="biased", **training)
        torch.manual_seed(args.seed)
        network = zoo.build("SmallResNet", **OPTIONS)
        train(network, pictures, targets, PREPROCESS, epochs=args.epochs, seed=args.seed, title=name)
        network.half().float()  # as it is shipped, so that the results are those of the file
        results = measure(network, 2000)
        print(name, results)
        entry = {"architecture": "SmallResNet", "options": OPTIONS, "recipe": recipe, "results": results}
        print(ship(name, network, entry, PREPROCESS))


if __name__ == "__main__":
    main()
