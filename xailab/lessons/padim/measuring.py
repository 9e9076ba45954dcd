"""Record a network's layers for a product, and change its pictures as a factory might."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from xailab.datasets import inspection
from xailab.datasets.folders import GOOD, mask_frame
from xailab.detection import Results, published
from xailab.detection.measuring import FIGURES
from xailab.metrics import aupro, auroc, auroc_interval, interval
from xailab.models.classifier import Classifier
from xailab.padim import Gaussians, PaDiM
from xailab.padim.reduction import random_channels
from xailab.padim.upsampling import upsampled

Picture = UInt8[np.ndarray, "h w 3"]
Mask = Bool[np.ndarray, "h w"]
FIT, HELD_OUT, TEST, SIZE = 40, 20, 24, 192  # pictures of each product; pixels a side that the networks see
SIGMA = 4.0
LAYERS_OF = {name: ["layer1", "layer2", "layer3"] for name in ("resnet18", "wide_resnet50_2")} | {
    "squeezenet1_0": ["features.5", "features.10", "features.12"],
    "efficientnet_b5": ["features.2", "features.5.0", "features.5"],  # blocks 7, 20 and 26, as in the paper
}
AT_ONCE = 4  # pictures in a batch: what a processor's cache can hold


@dataclass(frozen=True)
class Recorded:
    """Hold the layers' outputs for one product, recorded once, and the truth of the test pictures.

    Attributes:
        layers: Names of the layers.
        fit, held_out, test: Outputs of each layer, (n, channels, rows, columns).
        pictures, masks, kinds: Test pictures, their masks and their kinds of defect.
        synthetic, pasted: Outputs for the held-out pictures with a pasted piece, and the masks of the pieces.
    """

    layers: tuple[str, ...]
    fit: list[Tensor]
    held_out: list[Tensor]
    test: list[Tensor]
    pictures: UInt8[np.ndarray, "n h w 3"]
    masks: Bool[np.ndarray, "n h w"]
    kinds: Sequence[str]
    synthetic: list[Tensor] | None = None
    pasted: Bool[np.ndarray, "m h w"] | None = None

    def distances(
        self, layers: Sequence[str], d: int | None = None, seed: int = 0
    ) -> tuple[Float[Tensor, "_ rows columns"], ...]:
        """Compute distances of the held-out, the test and any synthetic pictures from d random channels of some layers.

        None keeps all channels, and so does a number that exceeds theirs.
        """
        chosen = [self.layers.index(name) for name in layers]
        counts = [self.fit[i].shape[1] for i in chosen]
        kept = random_channels(counts, None if d is None or d >= sum(counts) else d, seed)
        splits = [self.fit, self.held_out, self.test, *([self.synthetic] if self.synthetic else [])]
        fit, *others = (
            [split[i][:, channels].float() for i, channels in zip(chosen, kept, strict=True)] for split in splits
        )
        gaussians = fitted(fit)
        return tuple(gaussians.distances(other) for other in others)

    def maps(self, layers: Sequence[str] | None = None, d: int | None = None) -> tuple[Float[Tensor, "_ h w"], ...]:
        """Compute the anomaly maps for ``distances``, at the pictures' size."""
        height, width = self.masks.shape[1:]
        return tuple(upsampled(each, (height, width), SIGMA) for each in self.distances(layers or self.layers, d))


def fitted(layers: Sequence[Tensor]) -> Gaussians:
    """Fit the library's Gaussians to the outputs of layers, (n, channels, rows, columns)."""
    gaussians = Gaussians([tuple(x.shape[1:]) for x in layers])
    gaussians.update(list(layers))
    return gaussians


@lru_cache(maxsize=7)
def samples(product: str) -> tuple[list, list, list]:
    """Draw the normal samples to fit to, those held out, and the test samples of a product.

    >>> [len(split) for split in samples("fabric")]
    [40, 20, 24]
    """
    normal = [inspection.sample(product, i) for i in range(FIT + HELD_OUT)]
    tested = [inspection.sample(product, i, split="test") for i in range(TEST)]
    return normal[:FIT], normal[FIT:], tested


def record(network: Classifier, layers: Sequence[str], product: str, *, turned: bool = False) -> Recorded:
    """Run a network once on all pictures of a product, and keep the outputs of some layers.

    They are kept in half precision, in half of the memory: rounding is small beside 0.1, the root of PaDiM's epsilon.

    Args:
        network: Network of the zoo.
        layers: Names of its layers.
        product: Product of ``datasets.inspection``.
        turned: Whether all pictures are turned and cropped first (`rd`); there are no synthetic defects then.
    """
    view, rng = replace(network.preprocess, resize=SIZE, crop=None), np.random.default_rng(0)
    fast = copy.deepcopy(network).to(memory_format=torch.channels_last)  # the same numbers, in two thirds of the time
    detector = PaDiM(fast, layers, dimensions=None)

    def outputs(pictures: Sequence[Picture]) -> list[Tensor]:
        batches = view(pictures).to(memory_format=torch.channels_last).split(AT_ONCE)
        found = [[x.half().contiguous() for x in detector.embed(batch)] for batch in batches]
        return [torch.cat(each) for each in zip(*found, strict=True)]

    splits = samples(product)
    fit, held_out, test = ([rd(sample, rng) for sample in split] for split in splits) if turned else splits
    pieces = [] if turned else [pasted(sample.image, rng) for sample in held_out]
    normal, calibration, new = (outputs([sample.image for sample in split]) for split in (fit, held_out, test))
    return Recorded(
        layers=tuple(layers),
        fit=normal,
        held_out=calibration,
        test=new,
        pictures=np.stack([view.frame(sample.image) for sample in test]),
        masks=np.stack([mask_frame(sample.mask, view) for sample in test]),
        kinds=[sample.defect for sample in test],
        synthetic=outputs([picture for picture, _ in pieces]) if pieces else None,
        pasted=np.stack([mask_frame(mask, view) for _, mask in pieces]) if pieces else None,
    )


def pasted(picture: Picture, rng: np.random.Generator) -> tuple[Picture, Mask]:
    """Paste a piece of a picture onto another place of it, as CutPaste does (Li et al. 2021, arXiv 2104.04015).

    >>> picture, mask = pasted(np.zeros((60, 60, 3), np.uint8), np.random.default_rng(0))
    >>> bool(mask.any()), picture.shape
    (True, (60, 60, 3))
    """
    side = min(picture.shape[:2])
    height, width = rng.integers(side // 20, side // 6, 2)
    y, x = (int(rng.integers(0, side - length)) for length in (height, width))  # cut here
    to_y, to_x = (int(rng.integers(side // 5, side * 4 // 5 - length)) for length in (height, width))
    changed, mask = picture.copy(), np.zeros(picture.shape[:2], bool)
    place = slice(to_y, to_y + height), slice(to_x, to_x + width)
    changed[place], mask[place] = picture[y : y + height, x : x + width], True
    return changed, mask


def warmer(picture: Picture, share: float) -> Picture:
    """Change the light from white to warm: more red, and less blue, by a share.

    >>> warmer(np.full((1, 1, 3), 100, np.uint8), 0.1).tolist()
    [[[110, 100, 90]]]
    """
    return np.clip(picture * np.array([1 + share, 1, 1 - share]), 0, 255).round().astype(np.uint8)


def rd(sample, generator: np.random.Generator, crop: int = 224):
    """Turn a picture and its mask by up to 10 degrees and crop it at random, as for the paper's Rd-MVTec AD.

    Args:
        sample: Sample with .image and .mask, larger than the crop.
        generator: Random numbers for the angle and the place of the crop.
        crop: Side of the result in pixels.
    """
    side = len(sample.image)
    turn = cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), float(generator.uniform(-10, 10)), 1)
    top, left = generator.integers(0, side - crop + 1, 2)
    turned = (
        cv2.warpAffine(each, turn, (side, side), flags=how, borderMode=cv2.BORDER_REFLECT_101)
        for each, how in ((sample.image, cv2.INTER_LINEAR), (sample.mask.astype(np.uint8), cv2.INTER_NEAREST))
    )
    image, mask = (each[top : top + crop, left : left + crop] for each in turned)
    return sample._replace(image=np.ascontiguousarray(image), mask=mask.astype(bool))


def most_deviating(normal: Float[Tensor, "n d"], new: Float[Tensor, "d"]) -> list[int]:
    """Find two channels in which a vector is far from normal ones: the two with the most standard deviations.

    >>> most_deviating(torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]), torch.tensor([0.5, 9.0, 4.0]))
    [1, 2]
    """
    away = (new - normal.mean(0)).abs() / normal.std(0).clamp(min=0.1)
    return away.topk(2).indices.tolist()


def one_of_each(kept: Int[Tensor, "d"], counts: Sequence[int]) -> list[int]:
    """Find the place, among the channels that are kept, of the first channel of each layer.

    >>> one_of_each(torch.tensor([1, 2, 5, 8]), [3, 4, 2])
    [0, 2, 3]
    """
    starts = np.cumsum([0, *counts[:-1]])
    return [int((kept >= int(start)).int().argmax()) for start in starts]


def scores_of(detector: PaDiM, images: Float[Tensor, "n 3 h w"]) -> Float[np.ndarray, "n"]:
    """Compute a detector's scores, a few images at a time, which takes less memory."""
    return torch.cat([detector.scores(batch) for batch in images.split(AT_ONCE)]).numpy()


def beside_published(product: str, network: str, results: Results) -> str:
    """Describe a detector's figures on a product of MVTec AD, and the published ones of ResNet18 below them."""
    good = results.kinds.count(GOOD)
    ours = {title: getattr(results, figure) for figure, title in FIGURES.items()}
    theirs = {FIGURES[p.figure]: p.categories.get(product) for p in published("PaDiM", "ResNet18-Rd100")}
    lines = [f"{product}, {network}: {good} good and {len(results.kinds) - good} defective photographs tested"]
    for name, values in (("here:     ", ours), ("published:", theirs)):
        known = ", ".join(f"{title} {value:.3f}" for title, value in values.items() if value is not None)
        lines += [f"{name} {known}"] if known else []
    return "\n".join(lines)


def described(masks: Bool[np.ndarray, "n h w"], maps: Float[Tensor, "n h w"]) -> str:
    """Describe maps by image AUROC with its interval, pixel AUROC and PRO."""
    bad, scores = np.asarray(masks.any((1, 2))), maps.amax((1, 2))
    low, high = auroc_interval(bad, scores)
    return (
        f"image AUROC {auroc(bad, scores):.3f} ({low:.2f} to {high:.2f}), pixel AUROC {auroc(masks, maps):.3f}, "
        f"PRO {aupro(masks, maps):.3f}"
    )


class Judged(NamedTuple):
    """What a detector does on the test pictures of one product.

    Attributes:
        image, interval: AUROC of the pictures, and its interval.
        pixel, pro: Of the maps.
        alarms, hits: Which good and which defective pictures lie above the threshold.
        synthetic: PRO on synthetic defects.
    """

    image: float
    interval: tuple[float, float]
    pixel: float
    pro: float
    alarms: Bool[np.ndarray, "g"]
    hits: Bool[np.ndarray, "b"]
    synthetic: float


Table = Mapping[tuple[str, str], Judged]  # by network and product


def print_products(table: Table) -> None:
    """Print a table of several networks on several products, with means and intervals."""
    for network in dict.fromkeys(name for name, _ in table):
        rows = {product: judged for (name, product), judged in table.items() if name == network}
        print(f"{network:15s}image AUROC (95 % interval)  pixel    PRO  false alarms  found")
        for product, row in rows.items():
            image = f"{row.image:.3f} ({row.interval[0]:.2f} to {row.interval[1]:.2f})"
            shares = f"{row.alarms.mean():12.2f}  {row.hits.mean():.2f}"
            print(f"  {product:12s} {image:27s} {row.pixel:.3f}  {row.pro:.3f}  {shares}")
        means = np.mean([(row.image, row.pixel, row.pro) for row in rows.values()], 0)
        print("  {:12s} {:<27.3f} {:.3f}  {:.3f}".format("mean", *means))
        for what, cases in (("false alarms", "alarms"), ("found", "hits")):
            every = np.concatenate([getattr(row, cases) for row in rows.values()])
            low, high = interval(every)
            print(f"  {what} in all: {every.mean():.3f} ({low:.2f} to {high:.2f})")


def print_gains(table: Table, before: str, after: str) -> None:
    """Print what a second network gains over a first one, with intervals; the products are the cases."""
    products = [product for name, product in table if name == after]
    for figure, title in (("image", "image AUROC"), ("pixel", "pixel AUROC"), ("pro", "PRO")):
        gain = np.array([getattr(table[after, p], figure) - getattr(table[before, p], figure) for p in products])
        low, high = interval(gain)
        print(f"from {before} to {after}: {title:11s} {gain.mean():+.3f} ({low:+.3f} to {high:+.3f})")


def print_choice(judged: Mapping[str, Sequence[Sequence[float]]], table: Table) -> None:
    """Print how well two ways that need no defects order the settings and the networks.

    Args:
        judged: For each setting and product: ratio of held-out scores, PRO on synthetic and on real defects.
        table: The networks on the products.
    """
    cases = np.array(list(judged.values()))  # (settings, products, 3)
    ratio, synthetic, real = cases.mean(1).T
    for way, good in (("held-out ratio", -ratio), ("synthetic defects", synthetic)):
        best = int(good.argmax())
        agreement, chosen = np.corrcoef(good, real)[0, 1], list(judged)[best]
        print(f"{way}: correlation with the real PRO {agreement:.2f}; chooses {chosen}, "
              f"real PRO {real[best]:.3f} (best {real.max():.3f})")  # fmt: skip
    lost = [each[:, 2].max() - each[each[:, 1].argmax(), 2] for each in cases.swapaxes(0, 1)]
    products = list(dict.fromkeys(product for _, product in table))
    said = ", ".join(f"{product} {loss:.3f}" for product, loss in zip(products, lost, strict=True))
    print(f"chosen by synthetic defects of one product alone, PRO lost: {said}")
    for network in dict.fromkeys(name for name, _ in table):
        rows = [judged for (name, _), judged in table.items() if name == network]
        print(f"network of {network}: PRO on synthetic defects {np.mean([row.synthetic for row in rows]):.3f}, "
              f"on real ones {np.mean([row.pro for row in rows]):.3f}")  # fmt: skip
