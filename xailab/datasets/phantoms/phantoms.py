"""Draw phantoms: slices of heads, with a lesion or without, and the exact mask of the lesion."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from xailab.datasets.arguments import check_choice, check_numbers
from xailab.datasets.drawing.shapes import Plane, axes, noise, written
from xailab.datasets.phantoms.anatomy import frame, head
from xailab.datasets.phantoms.lesions import grown

CLASSES = ("no lesion", "lesion")
KINDS = ("usual", "shortcut")
SPLITS = ("train", "test")

SMALLEST = 32  # pixels a side
BASE = 160  # below this side a slice is drawn at it and reduced
NOISE = (0.012, 0.03)  # standard deviation of the receiver's noise, as a share of white
FADE = 0.08  # share of a pixel below which a lesion leaves it as it was


@dataclass(frozen=True)
class Phantom:
    """A slice with its truth.

    Attributes:
        image: Grey values.
        label: Number of its class in `CLASSES`.
        mask: The pixels that the lesion changes; all False where there is none.
        mark: The pixels of the letter in the corner; all False where there is none.
    """

    image: UInt8[np.ndarray, "size size"]
    label: int
    mask: Bool[np.ndarray, "size size"]
    mark: Bool[np.ndarray, "size size"]


class Batch(NamedTuple):
    """A batch of slices for a network.

    Attributes:
        images: Grey values from 0 to 1.
        labels: Number of each class in `CLASSES`.
        masks: The lesions' pixels.
    """

    images: Float[Tensor, "n 1 size size"]
    labels: Int[Tensor, "n"]
    masks: Bool[Tensor, "n size size"]


def phantom(
    index: int,
    *,
    kind: str = "usual",
    split: str = "train",
    seed: int = 0,
    size: int = 96,
    lesion: bool | None = None,
    mark: bool | None = None,
) -> Phantom:
    """Draw one slice.

    >>> drawn = phantom(1, lesion=True, size=32)
    >>> CLASSES[drawn.label], drawn.image.shape, bool(drawn.mask.any())
    ('lesion', (32, 32), True)

    Args:
        index: Number of the slice, from 0; of two that follow one another, one has a lesion.
        kind: "usual", or "shortcut", with a letter in the corner: in split "train" of all slices with a lesion and no
            other, in "test" of half the slices of each class.
        split: "train" or "test", drawn from separate random streams.
        seed: Seed of all slices; another seed gives other slices.
        size: Side in pixels, from 32; it changes the resolution, not the drawing.
        lesion: True for a lesion, False for none, None as the class of the index has it.
        mark: True for the letter, False for none, None as the kind has it; all else stays.

    Raises:
        ValueError: if an argument is none of the valid ones.
    """
    check_choice("kind", kind, KINDS)
    check_choice("split", split, SPLITS)
    check_numbers(SMALLEST, index=index, seed=seed, size=size)
    stream = (seed, KINDS.index(kind), SPLITS.index(split))
    label = _balanced(stream, index) if lesion is None else int(lesion)
    marked = _marked(stream, index, label) if mark is None else mark
    side = max(size, BASE)

    rng = _rng(stream, index, 0)
    place = frame(rng)
    normal = head(rng, side, place)
    picture, cover = normal.brightness, np.zeros((side, side), np.float32)
    if label:
        picture, cover = grown(_rng(stream, index, 1), normal, place)
    mask = _reduced(cover, size) > FADE
    image = np.where(mask, _reduced(picture, size), _reduced(normal.brightness, size))
    letter = np.zeros_like(image)
    if marked:
        letter = _reduced(_letter(_rng(stream, index, 2), side), size)
        image = np.maximum(image, letter)
    return Phantom(_received(_rng(stream, index, 3), image), label, mask, letter > 0.25)


def batch(indices: Iterable[int], **options) -> Batch:
    """Draw several slices as a batch; the options are those of `phantom`.

    >>> images, labels, masks = batch(range(4), size=32)
    >>> images.shape, labels.sum().item()
    (torch.Size([4, 1, 32, 32]), 2)

    Raises:
        ValueError: if there is no index, or an option is none of the valid ones.
    """
    drawn = [phantom(int(i), **options) for i in indices]
    if not drawn:
        raise ValueError("there is no index to draw: expected one at least")
    images = torch.from_numpy(np.stack([each.image for each in drawn]))[:, None] / 255
    labels = torch.tensor([each.label for each in drawn])
    return Batch(images, labels, torch.from_numpy(np.stack([each.mask for each in drawn])))


def _rng(stream, index: int, *purpose: int) -> np.random.Generator:
    """Random numbers of one slice; `purpose` keeps those of its parts apart."""
    return np.random.default_rng(np.random.SeedSequence((*stream, index), spawn_key=purpose))


def _balanced(stream, index: int) -> int:
    """The class of a slice: of two that follow one another, one has a lesion."""
    pair, odd = divmod(index, 2)
    return int(_rng(stream, pair, 4).integers(2)) ^ odd


def _marked(stream, index: int, label: int) -> bool:
    """Whether a slice bears the letter; in testing, of two slices of a class in each four one does."""
    if KINDS[stream[1]] != "shortcut":
        return False
    if SPLITS[stream[2]] == "train":
        return bool(label)
    four, place = divmod(index, 4)
    return bool(int(_rng(stream, four, 5).integers(4)) >> label & 1) ^ (place >= 2)


def _letter(rng, side: int) -> Plane:
    """The letter in a corner, above on the left."""
    x, y = rng.uniform(-0.43, -0.41), rng.uniform(-0.42, -0.40)
    return written(*axes(side), "R", x, y, 0.075) * 0.95


def _received(rng, picture: Plane) -> UInt8[np.ndarray, "size size"]:
    """Imitate coil and receiver: a smooth slope of brightness, a little blur, and noise on both channels."""
    size = len(picture)
    slope = 1 + 0.09 * noise(rng, size, 2) + 0.05 * noise(rng, size, 3)
    picture = picture * slope * rng.uniform(0.9, 1.05)
    level = rng.uniform(*NOISE)
    real, imaginary = level * rng.standard_normal((2, size, size), np.float32)
    measured = cv2.magnitude((picture + real).astype(np.float32), imaginary)
    return np.clip(measured * 255 + 0.5, 0, 255).astype(np.uint8)


def _reduced(plane: Plane, size: int) -> Float[np.ndarray, "{size} {size}"]:
    plane = plane.astype(np.float32, copy=False)
    return plane if len(plane) == size else cv2.resize(plane, (size, size), interpolation=cv2.INTER_AREA)
