"""Pairs of patches to learn from, drawn as tensors: no step of Python for a single patch.

Two tasks, two kinds of pairs (Yi and Yoon 2020, arXiv 2006.16067, Sections 3.1 and 3.2; the numbers are those of the
authors' code). For a patch of K pixels the position task takes the neighbour 3K/4 to K - 1 pixels away in one of eight
directions, and shakes the colours of both patches, lest colour fringes and common borders give the answer away. The
other takes one at most K/32 pixels away, which should look all but the same. Where a neighbour would leave the picture
it is moved to the edge; a pair that comes out as one patch twice is drawn anew.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int, UInt8
from torch import Generator, Tensor

from xailab.boxes import Box

# from the main patch: (rows, columns)
DIRECTIONS = torch.tensor([(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)])
SHAKE = 0.02  # standard deviation of the colour shift and of the noise; pixel values go from 0 to 1


class Pairs(NamedTuple):
    """Where pairs of patches lie.

    Attributes:
        images: Which image a pair is from, (n,).
        main, neighbour: The patches' top left pixels, (row, column).
        directions: Where the neighbour lies, a row of `DIRECTIONS`; None for the task that does not ask.
    """

    images: Int[Tensor, "n"]
    main: Int[Tensor, "n 2"]
    neighbour: Int[Tensor, "n 2"]
    directions: Int[Tensor, "n"] | None


def position_pairs(
    count: int, images: int, size: tuple[int, int], patch: int, generator: Generator | None = None
) -> Pairs:
    """Draw pairs for the position task.

    Args:
        count: How many pairs.
        images: How many images there are to draw from.
        size: Their (height, width) in pixels.
        patch: Side of a patch in pixels.
        generator: Of the random numbers.

    Raises:
        ValueError: if the images hold one patch at most, or there are none.
    """

    def draw(n: int) -> Pairs:
        which, main = _mains(n, images, size, patch, generator)
        directions = torch.randint(len(DIRECTIONS), (n,), generator=generator)
        away = torch.randint(3 * patch // 4, patch, (n, 2), generator=generator)
        return Pairs(which, main, _inside(main + DIRECTIONS[directions] * away, size, patch), directions)

    return _apart(draw, count, images, size, patch)


def close_pairs(
    count: int, images: int, size: tuple[int, int], patch: int, generator: Generator | None = None
) -> Pairs:
    """Draw pairs of patches that overlap all but a pixel or two; arguments and errors as for ``position_pairs``."""
    most = max(1, patch // 32)

    def draw(n: int) -> Pairs:
        which, main = _mains(n, images, size, patch, generator)
        away = torch.randint(-most, most + 1, (n, 2), generator=generator)
        return Pairs(which, main, _inside(main + away, size, patch), None)

    return _apart(draw, count, images, size, patch)


def cut(
    images: UInt8[Tensor, "N 3 h w"] | Float[Tensor, "N 3 h w"],
    which: Int[Tensor, "n"],
    corners: Int[Tensor, "n 2"],
    patch: int,
) -> UInt8[Tensor, "n 3 {patch} {patch}"] | Float[Tensor, "n 3 {patch} {patch}"]:
    """Cut patches out of images, all at once: those of image ``which[i]`` from ``corners[i]`` on."""
    every = images.unfold(2, patch, 1).unfold(3, patch, 1)  # a view, (N, 3, rows, columns, patch, patch)
    return every[which, :, corners[:, 0], corners[:, 1]]


def shaken(
    patches: Float[Tensor, "n 3 k k"], generator: Generator | None = None, strength: float = SHAKE
) -> Float[Tensor, "n 3 k k"]:
    """Add a random shift to each colour of each patch, and noise to each pixel."""
    shift = torch.randn(len(patches), 3, 1, 1, generator=generator)
    noise = torch.randn(patches.shape, generator=generator)
    return patches + strength * (shift + noise).to(patches)


def rectangles(pairs: Pairs, patch: int) -> list[tuple[Box, Box]]:
    """The main patch and its neighbour as boxes, to draw them on pictures."""
    both = zip(pairs.main.tolist(), pairs.neighbour.tolist(), strict=True)
    return [tuple(Box(left, top, left + patch, top + patch) for top, left in pair) for pair in both]


def _mains(n: int, images: int, size: tuple[int, int], patch: int, generator: Generator | None):
    """Images, and corners of patches in them, each as likely as any other."""
    which = torch.randint(images, (n,), generator=generator)
    main = [torch.randint(side - patch + 1, (n,), generator=generator) for side in size]
    return which, torch.stack(main, 1)


def _inside(corners: Int[Tensor, "n 2"], size: tuple[int, int], patch: int) -> Int[Tensor, "n 2"]:
    return torch.minimum(corners.clamp(min=0), torch.tensor(size) - patch)


def _apart(draw: Callable[[int], Pairs], count: int, images: int, size: tuple[int, int], patch: int) -> Pairs:
    """Draw pairs until all are of two different patches."""
    if images < 1 or min(size) < patch or max(size) == patch:
        raise ValueError(
            f"no pairs of patches of {patch} x {patch} pixels in {images} images of {size[0]} x {size[1]}: there must "
            "be an image, and room for more than one patch in it"
        )
    pairs = draw(count)
    while (same := (pairs.main == pairs.neighbour).all(1)).any():
        for values, anew in zip(pairs, draw(int(same.sum())), strict=True):
            if values is not None:
                values[same] = anew
    return pairs
