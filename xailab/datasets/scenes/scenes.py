"""Draw scenes: pictures of ten classes of drawn objects with pixel-exact masks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from xailab.datasets.arguments import check_choice, check_numbers
from xailab.datasets.drawing.colours import rgb
from xailab.datasets.drawing.paths import ellipse, rotation, tube
from xailab.datasets.drawing.pen import Pen
from xailab.datasets.scenes.backgrounds import BACKGROUNDS
from xailab.datasets.scenes.objects import AIRBORNE, OBJECTS

CLASSES = tuple(OBJECTS)
KINDS = ("single", "pair", "biased")
SPLITS = ("train", "test")
BIASED_CLASS = CLASSES.index("bird")  # in training, and only there, it comes with a red balloon

SMALLEST = 16  # pixels a side
OVERSAMPLING = 3  # canvas pixels per picture pixel and axis
DIAMETERS = {"single": (0.42, 0.8), "pair": (0.38, 0.52), "biased": (0.4, 0.62)}  # of the picture's side


@dataclass(frozen=True)
class Scene:
    """A picture with its truth.

    Attributes:
        image: RGB.
        labels: The objects' classes.
        masks: The visible pixels of each object, in the order of the labels.
        mark: The visible pixels of the red balloon in a biased picture, None where there is none.
    """

    image: UInt8[np.ndarray, "size size 3"]
    labels: tuple[int, ...]
    masks: Bool[np.ndarray, "k size size"]
    mark: Bool[np.ndarray, "size size"] | None = None


@dataclass(frozen=True)
class _Place:
    """Where an object goes: centre and diameter as parts of the picture's side, turn in degrees."""

    x: float
    y: float
    diameter: float
    turn: float
    flipped: bool


def scene(
    index: int,
    *,
    kind: str = "single",
    split: str = "train",
    seed: int = 0,
    size: int = 128,
    label: int | tuple[int, int] | None = None,
) -> Scene:
    """Draw one scene.

    >>> drawn = scene(3, size=32)
    >>> CLASSES[drawn.labels[0]], drawn.image.shape, drawn.masks.shape
    ('dog', (32, 32, 3), (1, 32, 32))

    Args:
        index: Number of the scene, from 0; of ten that follow one another, each class has one.
        kind: "single" (one object), "pair" (two objects of different classes) or "biased" (one object, and a red
            balloon: in split "train" with every picture of `BIASED_CLASS` and no other, elsewhere with exactly half
            of the pictures of each class).
        split: "train" or "test", drawn from separate random streams.
        seed: Seed of all scenes; another seed gives other pictures.
        size: Side in pixels; it changes the resolution, not the drawing.
        label: Class that the (rear) object must have, or, as two classes, both objects of a pair.

    Raises:
        ValueError: if an argument is none of the valid ones.
    """
    _check(kind, split, index=index, seed=seed, size=size)
    if label is not None:
        _check_label(kind, label)
    stream = (seed, SPLITS.index(split), KINDS.index(kind))
    rng = np.random.default_rng(np.random.SeedSequence((*stream, index)))
    labels = (_balanced(stream, index),) if label is None else tuple(int(k) for k in np.atleast_1d(label))
    if kind == "pair":  # the other class is drawn even where it is forced, so that the rest of the scene stays
        labels = (*labels, (labels[0] + int(rng.integers(1, len(CLASSES)))) % len(CLASSES))[:2]
    corner = int(rng.choice((-1, 1)))

    angle = np.radians(rng.uniform(-150, -30))
    light = (np.cos(angle), np.sin(angle))
    image = _background(rng.spawn(1)[0], light, size)
    places = _places(rng, kind, corner)
    masks = []
    for k, place in zip(labels, places, strict=True):
        alpha = _place(image, CLASSES[k], place, rng.spawn(1)[0], light)
        masks = [m & (alpha <= 0.5) for m in masks] + [alpha > 0.5]
    mark = None
    if kind == "biased" and (labels[0] == BIASED_CLASS if split == "train" else _coin(stream, index, labels[0])):
        place = _Place(0.5 + corner * 0.36, 0.17, 0.26, 0.0, corner < 0)
        mark = _place(image, "balloon", place, rng.spawn(1)[0], light) > 0.5
        masks = [m & ~mark for m in masks]
    return Scene(_photographed(image, rng), labels, np.stack(masks), mark)


class Scenes(Dataset):
    """The first n scenes of a stream as a torch data set.

    >>> image, label = Scenes(10, size=32)[3]
    >>> image.shape, label
    (torch.Size([3, 32, 32]), 1)

    Items are (image, label): a Float[Tensor, "3 h w"] in [0, 1], or what `preprocess` makes of the picture, and the
    class as an int, for pairs as a vector of ten with two ones.

    Args:
        n: Number of scenes.
        kind, split, seed, size: See `scene`.
        preprocess: A function that makes a batch of one from a uint8 picture (h, w, 3), as ``network.preprocess``.
    """

    def __init__(
        self,
        n: int,
        *,
        kind: str = "single",
        split: str = "train",
        seed: int = 0,
        size: int = 128,
        preprocess: Callable | None = None,
    ):
        _check(kind, split, n=n, seed=seed, size=size)
        self.n, self.preprocess = n, preprocess
        self.options = {"kind": kind, "split": split, "seed": seed, "size": size}

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> tuple[Float[Tensor, "3 h w"], int | Float[Tensor, "10"]]:
        drawn = self.scene(i)
        if self.preprocess is None:
            image = torch.from_numpy(drawn.image).permute(2, 0, 1).float() / 255
        else:
            image = self.preprocess(drawn.image)[0]
        if self.options["kind"] != "pair":
            return image, drawn.labels[0]
        return image, torch.zeros(len(CLASSES)).index_fill(0, torch.tensor(drawn.labels), 1.0)

    def scene(self, i: int) -> Scene:
        """Draw the i-th scene with its masks."""
        if not 0 <= i < self.n:
            raise IndexError(f"scene {i} of a data set of {self.n}: expected 0 to {self.n - 1}")
        return scene(int(i), **self.options)


def batch(indices: Sequence[int], **options) -> tuple[UInt8[np.ndarray, "n size size 3"], list[tuple[int, ...]]]:
    """Draw several scenes; return their pictures and labels. The options are those of `scene`."""
    drawn = [scene(int(i), **options) for i in indices]
    return np.stack([d.image for d in drawn]), [d.labels for d in drawn]


def _check(kind: str, split: str, **numbers: int) -> None:
    check_choice("kind", kind, KINDS)
    check_choice("split", split, SPLITS)
    check_numbers(SMALLEST, **numbers)


def _check_label(kind: str, label: int | tuple[int, int]) -> None:
    forced = np.atleast_1d(label).tolist()
    allowed = len(forced) == 1 or (kind == "pair" and len(forced) == 2 and forced[0] != forced[1])
    if not allowed or not set(forced) <= set(range(len(CLASSES))):
        names = ", ".join(f"{i} {name}" for i, name in enumerate(CLASSES))
        raise ValueError(f"label={label!r}: expected the number of a class, or two different ones for a pair: {names}")


def _balanced(stream, index) -> int:
    """The class of a picture: each ten that follow one another show all ten."""
    block, position = divmod(index, len(CLASSES))
    return int(_order(stream, block, 1000)[position])


def _coin(stream, index, label) -> bool:
    """Heads or tails, so that of two pictures of a class in each twenty one is heads."""
    pair, odd = divmod(index // len(CLASSES), 2)
    return bool((_order(stream, pair, 1001)[label] % 2 == 0) != odd)


def _order(stream, block, purpose) -> np.ndarray:
    """The classes in an order of its own for each block; `purpose` keeps the streams apart from the pictures'."""
    seeds = np.random.SeedSequence((*stream, block), spawn_key=(purpose,))
    return np.random.default_rng(seeds).permutation(len(CLASSES))


def _background(rng, light, size) -> np.ndarray:
    """One of the backgrounds as float32 (size, size, 3), slightly out of focus."""
    side = 2 * size
    canvas = np.zeros((side, side, 3), np.uint8)
    BACKGROUNDS[rng.integers(len(BACKGROUNDS))](Pen(canvas, np.eye(2) * side, (0, 0), light), rng)
    small = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), size * rng.uniform(0.003, 0.009))
    return cv2.addWeighted(small, 0.9, np.full_like(small, 205), 0.1, 0).astype(np.float32)


def _places(rng, kind, corner) -> list[_Place]:
    diameters = rng.uniform(*DIAMETERS[kind], 2 if kind == "pair" else 1)
    turns, flips = rng.uniform(-14, 14, 2), rng.random(2) < 0.5
    if kind == "pair":
        left, right = rng.uniform(0.24, 0.31), rng.uniform(0.69, 0.76)
        centres = [(left, rng.uniform(0.3, 0.7)), (right, rng.uniform(0.3, 0.7))]
        centres = centres[:: rng.choice((-1, 1))]
    else:
        reach = 0.5 - diameters[0] * 0.47
        x, y = rng.uniform(-reach, reach), rng.uniform(-0.6 * reach, reach)
        centres = [(0.5 + x, 0.5 + y)] if kind == "single" else [(0.5 - corner * abs(x), 0.54 + abs(y) * 0.9)]
    return [_Place(*c, d, t, bool(f)) for c, d, t, f in zip(centres, diameters, turns, flips, strict=False)]


def _place(image, name, place: _Place, rng, light) -> np.ndarray:
    """Draw an object with its shadow into the picture, in place, and return its opacity (size, size)."""
    size = len(image)
    side = size * OVERSAMPLING
    canvas, cover = np.zeros((side, side, 3), np.uint8), np.zeros((side, side), np.uint8)
    matrix = rotation(place.turn) @ np.diag((-1 if place.flipped else 1, 1)) * (place.diameter / 2 * side)
    pen = Pen(canvas, matrix, (place.x * side, place.y * side), light, cover)
    (_balloon if name == "balloon" else OBJECTS[name])(pen, rng)
    colour = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32)  # times opacity
    alpha = cv2.resize(cover, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    _shadow(image, alpha, place, light, hanging=name in AIRBORNE or name == "balloon")
    image *= _grey(1 - alpha)
    image += colour * _grey(_sunlit(place, light, size))
    return alpha


def _shadow(image, alpha, place, light, hanging):
    """Darken the picture: softly behind a hanging object, in a flat patch under a standing one."""
    size, small = len(image), 48
    radius = place.diameter * size
    depth = cv2.resize(alpha, (small, small), interpolation=cv2.INTER_AREA)
    depth = cv2.GaussianBlur(depth, (0, 0), small * place.diameter * 0.04)
    zoom, away = size / small, -0.06 * radius * np.array(light)
    move = np.array([[zoom, 0, away[0] + (zoom - 1) / 2], [0, zoom, away[1] + (zoom - 1) / 2]])
    depth = 0.4 * cv2.warpAffine(depth, move, (size, size))
    if not hanging:
        rows = np.flatnonzero(alpha.max(1) > 0.5)
        foot = alpha[max(rows[-1] - int(radius * 0.2), 0) : rows[-1] + 1].max(0)
        columns = np.flatnonzero(foot > 0.5)
        middle, half = (columns[0] + columns[-1]) / 2, (columns[-1] - columns[0]) / 2 + radius * 0.08
        ground = rows[-1] - radius * 0.03
        u, v = (np.arange(size) - middle + light[0] * radius * 0.06) / half, (np.arange(size) - ground) / (radius * 0.1)
        patch = np.clip(1.15 - u * u - (v * v)[:, None], 0, 1).astype(np.float32)
        depth = np.maximum(depth * 0.7, 0.5 * patch)
    image *= cv2.merge([1 - depth * strength for strength in (0.9, 0.85, 0.7)])


def _sunlit(place, light, size) -> np.ndarray:
    """A factor that brightens the object towards the light."""
    at = (np.arange(size, dtype=np.float32) + 0.5) / size
    return np.clip(1 + 0.3 * ((at - place.x) * light[0] + ((at - place.y) * light[1])[:, None]), 0.8, 1.12).astype(
        np.float32
    )


def _balloon(pen: Pen, rng):
    pen.fill(tube((0, 0.4), (0.08, 0.65), (-0.03, 0.98), width=0.05), colour=rgb("#EFEAF2"), shade=0, line=0.02)
    pen.fill(np.array([(-0.1, 0.46), (0, 0.3), (0.1, 0.46)]), colour=rgb("#D8303A"), shade=0.3, line=0.04)
    pen.fill(ellipse(0, -0.25, 0.55, 0.65), colour=rgb("#E23B42"), shade=0.8, line=0.05)
    pen.fill(ellipse(-0.2, -0.5, 0.09, 0.15, 25), colour=rgb("#FFD9D4"), shade=0, line=0)


def _photographed(image, rng) -> np.ndarray:
    """Saturation, brightness, a little vignetting and sensor noise; back to uint8."""
    size = len(image)
    at = 0.05 * np.linspace(-1, 1, size, dtype=np.float32) ** 2
    saturation, brightness = rng.uniform((1.0, 0.94), (1.35, 1.1))
    mixing = saturation * np.eye(3) + (1 - saturation) * np.array([0.3, 0.59, 0.11])
    image = cv2.transform(image, brightness * mixing) * _grey(1 - at - at[:, None])
    image += _grey(rng.standard_normal((size, size), np.float32) * np.float32(rng.uniform(0.8, 2.4)))
    return np.clip(image, 0, 255).astype(np.uint8)


def _grey(plane) -> np.ndarray:
    """A plane (h, w) as float32 (h, w, 3)."""
    return cv2.cvtColor(plane.astype(np.float32, copy=False), cv2.COLOR_GRAY2RGB)
