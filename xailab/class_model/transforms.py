"""Transforms of images before each forward pass of gradient ascent, and projections after each step.

A transform is any function ``transform(images, generator)`` that can be differentiated: the network sees its result,
and the gradient passes through it. A projection is any function ``projection(images, step)``: its result replaces the
images, without a gradient. Images are normalised, (k, c, h, w).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from xailab.images import Preprocess

Images = Float[Tensor, "k c h w"]
Transform = Callable[[Tensor, torch.Generator], Tensor]
Projection = Callable[[Tensor, int], Tensor]


@dataclass(frozen=True)
class Jitter:
    """Shift all images alike by a random number of pixels; edges wrap round (Mordvintsev et al. 2015, "Inceptionism").

    Attributes:
        pixels: Largest shift, in both directions.

    >>> images = torch.arange(9.0).view(1, 1, 3, 3)
    >>> sorted(Jitter(1)(images, torch.Generator()).flatten().tolist()) == images.flatten().tolist()
    True
    """

    pixels: int

    def __call__(self, images: Images, generator: torch.Generator) -> Images:
        shift = torch.randint(-self.pixels, self.pixels + 1, (2,), generator=generator).tolist()
        return torch.roll(images, shift, dims=(2, 3))


@dataclass(frozen=True)
class Affine:
    """Rotate and scale each image at random, in one bilinear interpolation; edges are mirrored (Olah et al. 2017).

    Attributes:
        degrees: Largest rotation, in both directions.
        scale: Largest change of size, as a share of it.

    >>> Affine(degrees=8, scale=0.1)(torch.zeros(2, 3, 5, 7), torch.Generator()).shape
    torch.Size([2, 3, 5, 7])
    """

    degrees: float = 0.0
    scale: float = 0.0

    def __call__(self, images: Images, generator: torch.Generator) -> Images:
        uniform = 2 * torch.rand(2, len(images), generator=generator) - 1
        angle, scale = math.radians(self.degrees) * uniform[0], 1 + self.scale * uniform[1]
        across, down = scale * angle.cos(), scale * angle.sin()
        zero = torch.zeros_like(angle)
        matrices = torch.stack([across, -down, zero, down, across, zero], 1).view(-1, 2, 3).to(images)
        grid = F.affine_grid(matrices, list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


@dataclass(frozen=True)
class Blur:
    """Blur the images by a Gaussian after every so many steps (Yosinski et al. 2015, arXiv 1506.06579).

    Attributes:
        sigma: Standard deviation of the Gaussian in pixels.
        every: Number of steps from one blur to the next.

    >>> images = torch.zeros(1, 1, 9, 9).index_fill(3, torch.tensor(4), 1.0)
    >>> [round(Blur(0.7, every=4)(images, step).max().item(), 2) for step in (3, 4)]
    [1.0, 0.57]
    """

    sigma: float = 0.7
    every: int = 1

    def __call__(self, images: Images, step: int) -> Images:
        from torchvision.transforms.functional import gaussian_blur

        side = 2 * math.ceil(3 * self.sigma) + 1
        return images if step % self.every else gaussian_blur(images, [side, side], [self.sigma, self.sigma])


@dataclass(frozen=True)
class Clip:
    """Keep the pixels between black and white.

    Attributes:
        preprocess: Preprocessing of the network, whose mean and standard deviation say what black and white are.

    >>> clip = Clip(Preprocess(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)))
    >>> clip(torch.tensor([-3.0, 0.5, 3.0]).view(1, 1, 1, 3).expand(1, 3, 1, 3), 1)[0, 0].tolist()
    [[-1.0, 0.5, 1.0]]
    """

    preprocess: Preprocess

    def __call__(self, images: Images, step: int) -> Images:
        mean, std = (torch.tensor(v).to(images).view(1, -1, 1, 1) for v in (self.preprocess.mean, self.preprocess.std))
        return torch.minimum(torch.maximum(images, -mean / std), (1 - mean) / std)
