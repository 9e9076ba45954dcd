"""Train and ship a ProtoPNet for the rendered slices of heads.

    python recipes/phantoms.py usual
    python recipes/phantoms.py shortcut
    python recipes/phantoms.py decoys

With --dry, nothing is shipped. The second network is trained on slices whose lesions come with a letter in the corner,
and is measured with the letter and without. The third sees decoys among the slices without a lesion: flat pictures,
blurred slices and noise, of which no prototype may become a part; and half of its slices are a little blurred, so that
blur does not tell the classes apart. The file is measured as it is shipped, on slices that were not used to choose
settings.
"""

import argparse
import hashlib
import json
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from tqdm import tqdm
from training import record

from xailab.datasets import phantoms
from xailab.datasets.phantoms import CLASSES, KINDS, Batch
from xailab.protopnet import (
    Epoch,
    ProtoPNet,
    Settings,
    SmallFeatures,
    accuracy,
    candidate_boxes,
    load,
    occlude,
    save,
    top_pixels_in_mask,
    train,
)
from xailab.protopnet.shipped import WEIGHTS

LESION = CLASSES.index("lesion")
CHOICE, REPORT = 1, 7  # seeds of the held-out slices: to choose settings by, and to report on


def mirrored(images: Tensor, generator: Generator) -> Tensor:
    """Half of a batch mirrored, left for right."""
    flip = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(flip.view(-1, 1, 1, 1), images.flip(3), images)


def blurred(images: Tensor, sigma: float) -> Tensor:
    """Images blurred by a Gaussian."""
    reach = max(1, math.ceil(3 * sigma))
    kernel = torch.exp(-(torch.arange(-reach, reach + 1.0) ** 2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).view(1, 1, 1, -1)
    padded = F.pad(images, (reach, reach, reach, reach), mode="reflect")
    return F.conv2d(F.conv2d(padded, kernel), kernel.mT)


def softened(images: Tensor, generator: Generator) -> Tensor:
    """Half of a batch mirrored, and another half of it blurred a little."""
    images = mirrored(images, generator)
    soft = torch.rand(len(images), generator=generator) < 0.5
    sigma = 0.3 + 0.9 * float(torch.rand((), generator=generator))
    return torch.where(soft.view(-1, 1, 1, 1), blurred(images, sigma), images)


def decoys(healthy: Tensor, generator: Generator) -> Tensor:
    """A picture of nothing for each slice without a lesion: by turns a flat grey, the slice blurred, and noise."""
    drawn = torch.empty_like(healthy)

    def between(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator))

    for i in range(len(healthy)):
        if i % 3 == 0:
            drawn[i] = between(0, 1)
        elif i % 3 == 1:
            drawn[i] = blurred(healthy[i : i + 1], math.exp(between(0, math.log(8))))[0]
        else:
            noise = torch.randn(1, 1, *healthy.shape[2:], generator=generator)
            sigma = between(0, 6)
            noise = blurred(noise, sigma) if sigma > 0.3 else noise
            drawn[i] = (between(0.15, 0.75) + between(0.02, 0.25) * noise[0] / noise.std()).clamp(0, 1)
    return drawn


def slices(count: int, title: str, **options) -> Batch:
    """Rendered slices."""
    return phantoms.batch(tqdm(range(count), title, leave=False), **options)


def untrained(args: argparse.Namespace) -> ProtoPNet:
    """The network before its training."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(args.seed)
        features = SmallFeatures()
    return ProtoPNet(features, args.prototypes, CLASSES, dimensions=args.dimensions, seed=args.seed)


def measured(model: ProtoPNet, data: Batch) -> dict:
    """Accuracy; where the lesion's prototypes look; and what is left of a prototype when its receptive field is."""
    lesion = data.labels == LESION
    with torch.inference_mode():
        maps = torch.cat([model.forward_details(some).maps for some in data.images[lesion].split(64)])
    shares = top_pixels_in_mask(maps, data.masks[lesion])[:, model.prototype_classes == LESION].mean(0)
    some = data.images[lesion][:32]
    nearest = model.forward_details(some).similarities.argmax(1).detach()
    kept = occlude(model, some, nearest, candidate_boxes(model, some, nearest, "receptive field"))
    return {
        "accuracy": round(accuracy(model, data.images, data.labels), 4),
        "on_lesion": [round(share, 3) for share in shares.tolist()],
        "receptive_field_ratio": [round(float(ratio), 6) for ratio in (kept.ratio.min(), kept.ratio.max())],
    }


def ship(name: str, model: ProtoPNet, entry: dict, folder: Path = WEIGHTS) -> Path:
    """Write the network, and what is known of it into the manifest."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.safetensors"
    save(model, path)
    record(path, entry)
    return path


def parser() -> argparse.ArgumentParser:
    """The options that a training takes."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("kind", choices=(*KINDS, "decoys"))
    options.add_argument("--size", type=int, default=96, help="of the slices, in pixels")
    options.add_argument("--train", type=int, default=2000, help="slices to train on")
    options.add_argument("--decoys", type=int, default=600, help="pictures of nothing, for the network of this name")
    options.add_argument("--test", type=int, default=400, help="slices to measure with")
    options.add_argument("--prototypes", type=int, default=5, help="of each class")
    options.add_argument("--dimensions", type=int, default=32)
    options.add_argument("--batch", type=int, default=32)
    options.add_argument("--features", type=int, default=9, help="epochs of the features")
    options.add_argument("--warm", type=int, default=1, help="epochs of the warm-up")
    options.add_argument("--joint", type=int, default=5, help="epochs of the joint training")
    options.add_argument("--again", type=int, default=4, help="and of that after the first projection")
    options.add_argument("--separation", type=float, default=0.12, help="weight of the loss (the paper: 0.08)")
    options.add_argument("--prototype-to-patch", type=float, default=0.2, help="weight of the loss (the paper: none)")
    options.add_argument("--diversity", type=float, default=0.4, help="weight of the loss (the paper: none)")
    options.add_argument("--seed", type=int, default=0)
    return options


def drawn_kind(args: argparse.Namespace) -> str:
    """The kind of slices that a network is trained on."""
    return "usual" if args.kind == "decoys" else args.kind


def with_decoys(data: Batch, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Images and labels with so many decoys after the slices, and which of them are slices."""
    healthy = data.images[data.labels != LESION][:count]
    nothing = decoys(healthy, Generator().manual_seed(11))
    images = torch.cat([data.images, nothing])
    labels = torch.cat([data.labels, data.labels.new_zeros(len(nothing))])
    return images, labels, torch.arange(len(images)) < len(data.images)


def trained(args: argparse.Namespace) -> tuple[ProtoPNet, list[Epoch], str]:
    """Render slices and train a network on them; the last is the SHA-256 of the slices."""
    options = {"kind": drawn_kind(args), "size": args.size}
    data = slices(args.train, "training slices", **options)
    choice = slices(min(args.test, 200), "slices to choose by", split="test", seed=CHOICE, **options)
    images, labels, sources = with_decoys(data, args.decoys if args.kind == "decoys" else 0)
    model = untrained(args)
    names = ("batch", "features", "warm", "joint", "again", "separation", "prototype_to_patch", "diversity", "seed")
    history = train(
        model,
        images,
        labels,
        Settings(**{name: getattr(args, name) for name in names}),
        held_out=(choice.images, choice.labels),
        sources=sources,
        augment=softened if args.kind == "decoys" else mirrored,
        on_epoch=lambda epoch: tqdm.write(f"{epoch.stage:10} " + " ".join(f"{value:.3f}" for value in epoch[1:])),
    )
    pixels = (images * 255).round().to(torch.uint8)
    return model, history, hashlib.sha256(pixels.numpy().tobytes() + labels.numpy().tobytes()).hexdigest()


def main(arguments: Sequence[str] | None = None) -> None:
    """Render, train, measure on unseen slices, ship."""
    options = parser()
    options.add_argument("--dry", action="store_true", help="ship nothing")
    args = options.parse_args(arguments)
    unused = {"kind", "dry"} | (set() if args.kind == "decoys" else {"decoys"})
    recipe = f"python recipes/phantoms.py {args.kind} " + " ".join(
        f"--{name.replace('_', '-')} {value}" for name, value in vars(args).items() if name not in unused
    )
    model, history, data_hash = trained(args)
    with tempfile.TemporaryDirectory() as folder:
        shipped = load(ship(args.kind, model, {}, Path(folder)))
    shown = {"kind": drawn_kind(args), "size": args.size, "split": "test", "seed": REPORT}
    results = measured(shipped, slices(args.test, "test slices", **shown))
    results["patches"] = len(
        {(int(i), *cell) for i, cell in zip(shipped.provenance.ids, shipped.provenance.cells.tolist(), strict=True)}
    )
    results["projections"] = [  # accuracy before, after, and with the last layer fitted to it
        [round(each.held_out, 4) for each in history[i - 1 : i + 2]]
        for i, epoch in enumerate(history)
        if epoch.stage == "projection"
    ]
    if args.kind == "shortcut":
        for mark in (True, False):
            data = slices(args.test, f"slices, letter: {mark}", mark=mark, **shown)
            name = "with" if mark else "without"
            results[f"accuracy_{name}_letter"] = round(accuracy(shipped, data.images, data.labels), 4)
    print(recipe, json.dumps(results, indent=1))
    if not args.dry:
        print(ship(args.kind, model, {"recipe": recipe, "size": args.size, "data": data_hash, "results": results}))


if __name__ == "__main__":
    main()
