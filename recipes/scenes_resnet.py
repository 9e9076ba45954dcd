"""Train and ship ``scenes_resnet``: a small ResNet that names the objects of the rendered scenes.

    python recipes/scenes_resnet.py

It sees single objects and pairs; in a pair each of the two classes is the target with weight 1/2.
"""

import argparse

import numpy as np
import torch
from training import all_in_top, render, scores, ship, train

from xailab.datasets import scenes
from xailab.images import Preprocess
from xailab.models import zoo

PREPROCESS = Preprocess(resize=128, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
OPTIONS = {"num_classes": len(scenes.CLASSES), "width": 16}


def main() -> None:
    """Render, train, measure on unseen scenes, ship."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--singles", type=int, default=6000)
    parser.add_argument("--pairs", type=int, default=6000)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    singles, pairs = (
        render(n, kind=kind, split="train") for n, kind in ((args.singles, "single"), (args.pairs, "pair"))
    )
    torch.manual_seed(args.seed)
    network = zoo.build("SmallResNet", **OPTIONS)
    pictures, targets = np.concatenate([singles[0], pairs[0]]), torch.cat([singles[1], pairs[1]])
    train(network, pictures, targets, PREPROCESS, epochs=args.epochs, seed=args.seed)

    network.half().float()  # as it is shipped, so that the results are those of the file
    results = {}
    for kind, tops in (("single", (1,)), ("pair", (2, 3))):
        unseen, truth = render(2000, kind=kind, split="test")
        logits = scores(network, unseen, PREPROCESS)
        results |= {f"{kind}_top{k}": round(all_in_top(logits, truth, k), 4) for k in tops}
    print(results)
    recipe = "python recipes/scenes_resnet.py " + " ".join(f"--{key} {value}" for key, value in vars(args).items())
    entry = {"architecture": "SmallResNet", "options": OPTIONS, "recipe": recipe, "results": results}
    print(ship("scenes_resnet", network, entry, PREPROCESS))


if __name__ == "__main__":
    main()
