"""Record a network's layers for a product, and change its pictures as a factory might."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from xailab.datasets import inspection
from xailab.datasets.folders import mask_frame
from xailab.padim import Gaussians, PaDiM
from xailab.padim.reduction import random_channels
from xailab.padim.upsampling import upsampled

Picture = UInt8[np.ndarray, "h w 3"]
Mask = Bool[np.ndarray, "h w"]
FIT, HELD_OUT, TEST, SIZE = 40, 20, 24, 192  # pictures of each product; pixels a side that the networks see
SIGMA = 4.0


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
        fit, *others = ([split[i][:, channels] for i, channels in zip(chosen, kept, strict=True)] for split in splits)
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


def record(network: nn.Module, layers: Sequence[str], product: str, size: int = SIZE) -> Recorded:
    """Run a network once on all pictures of a product, and keep the outputs of some layers."""
    view = replace(network.preprocess, resize=size, crop=None)
    detector = PaDiM(network, layers, dimensions=None)

    def outputs(pictures: Sequence[Picture]) -> list[Tensor]:
        found = [detector.embed(batch) for batch in view(pictures).split(10)]
        return [torch.cat(each) for each in zip(*found, strict=True)]

    fit, held_out, test = samples(product)
    rng = np.random.default_rng(0)
    pieces = [pasted(sample.image, rng) for sample in held_out]
    return Recorded(
        tuple(layers),
        *(outputs([sample.image for sample in split]) for split in (fit, held_out, test)),
        np.stack([view.frame(sample.image) for sample in test]),
        np.stack([mask_frame(sample.mask, view) for sample in test]),
        [sample.defect for sample in test],
        outputs([picture for picture, _ in pieces]),
        np.stack([mask_frame(mask, view) for _, mask in pieces]),
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
    """Compute a detector's scores, ten images at a time, which takes less memory."""
    return torch.cat([detector.scores(batch) for batch in images.split(10)]).numpy()
