"""Draw pairs of patches for training, vectorised: no Python loop over patches.

There are two tasks with two kinds of pairs (Yi and Yoon 2020, arXiv 2006.16067, Sections 3.1 and 3.2; the numbers are
those of the authors' code). For patches of K pixels the position task takes the neighbour 3K/4 to K - 1 pixels away in
one of eight directions. The colours of both patches are jittered, since colour fringes and common borders would give
the answer away. The other task takes a neighbour at most K/32 pixels away, which looks almost the same. A neighbour
that would leave the picture is moved to the edge; a pair of twice the same patch is drawn again.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int, UInt8
from torch import Generator, Tensor

from xailab.boxes import Box

# from the main patch to its neighbour: (rows, columns)
DIRECTIONS = torch.tensor([(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)])
JITTER = 0.02  # standard deviation of the colour shift and of the noise; pixel values go from 0 to 1


class Pairs(NamedTuple):
    """The places of pairs of patches.

    Attributes:
        images: Number of each pair's image, (n,).
        main, neighbour: Top left pixels of the patches, (row, column).
        directions: Direction of each neighbour, the number of a row of `DIRECTIONS`; None for close pairs.
    """

    images: Int[Tensor, "n"]
    main: Int[Tensor, "n 2"]
    neighbour: Int[Tensor, "n 2"]
    directions: Int[Tensor, "n"] | None


def position_pairs(
    count: int, images: int, size: tuple[int, int], patch: int, generator: Generator | None = None
) -> Pairs:
    """Draw pairs for the position task.

    >>> pairs = position_pairs(5, images=2, size=(80, 80), patch=32)
    >>> pairs.main.shape, pairs.neighbour.shape, pairs.directions.shape
    (torch.Size([5, 2]), torch.Size([5, 2]), torch.Size([5]))

    Args:
        count: Number of pairs.
        images: Number of images to draw from.
        size: Their (height, width) in pixels.
        patch: Side of a patch in pixels.
        generator: Generator of the random numbers.

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
    """Draw pairs of patches a pixel or two apart; arguments and errors as for ``position_pairs``.

    >>> pairs = close_pairs(5, images=2, size=(80, 80), patch=32)
    >>> int((pairs.main - pairs.neighbour).abs().max())
    1
    """
    most = max(1, patch // 32)

    def draw(n: int) -> Pairs:
        which, main = _mains(n, images, size, patch, generator)
        away = torch.randint(-most, most + 1, (n, 2), generator=generator)
        return Pairs(which, main, _inside(main + away, size, patch), None)

    return _apart(draw, count, images, size, patch)


def crop(
    images: UInt8[Tensor, "N 3 h w"] | Float[Tensor, "N 3 h w"],
    which: Int[Tensor, "n"],
    corners: Int[Tensor, "n 2"],
    patch: int,
) -> UInt8[Tensor, "n 3 {patch} {patch}"] | Float[Tensor, "n 3 {patch} {patch}"]:
    """Crop patches out of images, all at once: patch i has its top left pixel at ``corners[i]`` of ``which[i]``.

    >>> image = torch.arange(12.0).reshape(1, 1, 3, 4).expand(1, 3, 3, 4)
    >>> crop(image, torch.tensor([0]), torch.tensor([[1, 2]]), 2)[0, 0]
    tensor([[ 6.,  7.],
            [10., 11.]])
    """
    every = images.unfold(2, patch, 1).unfold(3, patch, 1)  # a view, (N, 3, rows, columns, patch, patch)
    return every[which, :, corners[:, 0], corners[:, 1]]


def jittered(
    patches: Float[Tensor, "n 3 k k"], generator: Generator | None = None, strength: float = JITTER
) -> Float[Tensor, "n 3 k k"]:
    """Jitter the colours of patches: add a random shift to each channel of each patch, and noise to each pixel.

    >>> jittered(torch.zeros(2, 3, 32, 32), strength=0.0).abs().max()
    tensor(0.)

    Args:
        patches: Patches with values from 0 to 1.
        generator: Generator of the random numbers.
        strength: Standard deviation of the shift, and of the noise.
    """
    shift = torch.randn(len(patches), 3, 1, 1, generator=generator)
    noise = torch.randn(patches.shape, generator=generator)
    return patches + strength * (shift + noise).to(patches)


def rectangles(pairs: Pairs, patch: int) -> list[tuple[Box, Box]]:
    """Make boxes of the main patches and their neighbours, to draw them on pictures."""

    def box(top: int, left: int) -> Box:
        return Box(left, top, left + patch, top + patch)

    both = zip(pairs.main.tolist(), pairs.neighbour.tolist(), strict=True)
    return [(box(*main), box(*neighbour)) for main, neighbour in both]


def _mains(
    n: int, images: int, size: tuple[int, int], patch: int, generator: Generator | None
) -> tuple[Int[Tensor, "n"], Int[Tensor, "n 2"]]:
    """Draw images, and corners of patches in them, all equally likely."""
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
        for values, again in zip(pairs, draw(int(same.sum())), strict=True):
            if values is not None and again is not None:
                values[same] = again
    return pairs
