"""Train and ship ``scenes_vgg``: VGG16's 13 convolutions at an eighth of its width, on the rendered scenes.

    python recipes/scenes_vgg.py

It is trained with batch norms, which are then folded into the convolutions: what is shipped has VGG16's own layers.
"""

import argparse

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from training import all_in_top, render, scores, ship, train

from xailab.datasets import scenes
from xailab.images import Preprocess
from xailab.models import zoo

PREPROCESS = Preprocess(resize=96, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
OPTIONS = {"num_classes": len(scenes.CLASSES), "width": 8}


def folded(network: nn.Module) -> nn.Module:
    """The same network, in eval mode, without batch norms."""
    plain = zoo.build("SmallVGG", **OPTIONS).eval()
    layers = list(network.eval().features)
    kept = [
        fuse_conv_bn_eval(layer, layers[i + 1]) if isinstance(layer, nn.Conv2d) else layer
        for i, layer in enumerate(layers)
        if not isinstance(layer, nn.BatchNorm2d)
    ]
    plain.features.load_state_dict(nn.Sequential(*kept).state_dict())
    plain.classifier.load_state_dict(network.classifier.state_dict())
    return plain


def main() -> None:
    """Render, train, fold, measure on unseen scenes, ship."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=6000)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    recipe = "python recipes/scenes_vgg.py " + " ".join(f"--{key} {value}" for key, value in vars(args).items())

    pictures, targets = render(args.pictures, kind="single", split="train", size=PREPROCESS.resize)
    torch.manual_seed(args.seed)
    network = zoo.build("SmallVGG", **OPTIONS, batch_norm=True)
    train(network, pictures, targets, PREPROCESS, epochs=args.epochs, seed=args.seed, bfloat16=False)
    network = folded(network).half().float()  # as it is shipped, so that the results are those of the file
    unseen, truth = render(1000, kind="single", split="test", size=PREPROCESS.resize)
    results = {"single_top1": round(all_in_top(scores(network, unseen, PREPROCESS), truth, 1), 4)}
    print(results)
    entry = {"architecture": "SmallVGG", "options": OPTIONS, "recipe": recipe, "results": results}
    print(ship("scenes_vgg", network, entry, PREPROCESS))


if __name__ == "__main__":
    main()
