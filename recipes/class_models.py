"""Record class models of ten ImageNet classes, by EfficientNet-Lite0: the poster of lesson 05.

    python recipes/class_models.py

It takes four minutes on one processor core, which is more than a notebook may. The classes were chosen before the first
ascent, as things that everybody can name, and none was exchanged afterwards; rates, size and blur were chosen by eye.
"""

import argparse
import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from xailab import figures
from xailab.class_model import Affine, Blur, Clip, Jitter, class_model, colour_root
from xailab.datasets import photographs
from xailab.models import zoo
from xailab.models.classifier import Classifier

ROOT = Path(__file__).resolve().parents[1]
CLASSES = ["strawberry", "goldfish", "daisy", "flamingo", "pineapple"]
CLASSES += ["zebra", "monarch", "ladybug", "umbrella", "jellyfish"]
ORDER = np.random.default_rng(5).permutation(len(CLASSES))  # so that the picture does not tell which is which
STAGES = ({"steps": 80, "lr": 0.015}, 0.8), ({"steps": 50, "lr": 0.008}, 0.6)  # and sigma of the blur


def climb(network: Classifier, chosen: list[int], size: int, seed: int, colours: Tensor) -> tuple[Tensor, Tensor]:
    """Climb from faint noise for all classes; return the images and their scores."""
    generator = torch.Generator().manual_seed(seed)
    images = 0.05 * torch.randn(len(chosen), 3, size, size, generator=generator)
    for stage, (options, sigma) in enumerate(STAGES):
        images = class_model(
            network, chosen, size=size, start=images, l2=5e-4, parametrisation="fourier", decorrelate=colours,
            transforms=[Affine(degrees=12, scale=0.25), Jitter(12)], seed=2 * seed + stage,
            projections=[Blur(sigma, every=4), Clip(network.preprocess)], **options,
        ).images  # fmt: skip
    with torch.no_grad():
        return images, network(images)[range(len(chosen)), chosen]


def main() -> None:
    """Climb from some starts, keep the highest score of each class, save the poster."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "class_models.jpg")
    args = parser.parse_args()

    network = zoo.load("efficientnet_lite0")
    chosen = [network.classes.index(name) for name in CLASSES]
    pictures = [photographs.photograph(name).image for name in photographs.names() if name != "cameraman"]  # it is grey
    seen = network.preprocess.undo(network.preprocess(pictures))
    colours = colour_root(torch.from_numpy(seen), network.preprocess)
    runs = [climb(network, chosen, args.size, seed, colours) for seed in range(args.starts)]
    images, scores = (torch.stack(each) for each in zip(*runs, strict=True))
    best = images[scores.argmax(0), range(len(chosen))]
    with torch.no_grad():
        sure = network(best).softmax(1)[range(len(chosen)), chosen]
    for place, i in enumerate(ORDER, 1):
        print(f"{place:2d} {CLASSES[i]:10s} score {scores[:, i].max():.1f}, probability {sure[i]:.3f}")
    shown = list(network.preprocess.undo(best[ORDER]))
    poster = figures.grid(shown, [str(i + 1) for i in range(len(shown))], columns=5, panel=2.4)
    Image.open(io.BytesIO(figures.png(poster, 100))).convert("RGB").save(args.output, quality=88)


if __name__ == "__main__":
    main()
