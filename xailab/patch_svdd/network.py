r"""The two encoders of Patch SVDD, and the classifier of relative positions.

Yi and Yoon, "Patch SVDD: Patch-level SVDD for Anomaly Detection and Segmentation", ACCV 2020, arXiv 2006.16067. The
small encoder f maps a patch of 32 x 32 pixels to a vector. The large one is hierarchical: f of the four quadrants of a
patch of 64 x 64 pixels, side by side, and a small head g on top (Section 3.3: f_large = g(f_small)).

Dense. f is made of convolutions without padding, so that one pass over a whole picture gives f of every patch in it:
one at every second pixel, as the first convolution has a stride of 2. The quadrants of a large patch are then 16 of
those steps apart, and g's 2 x 2 convolution becomes one with a dilation of 16. Values that overlapping patches share
are computed once, and the embeddings are the same.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

FINE, COARSE = 32, 64  # sides of the patches in pixels
STEP = 2  # pixels from one dense embedding to the next
STRIDES = (4, 16)  # pixels from one scored patch to the next, fine and coarse
CHANNELS = (3, 32, 64, 128, 128, 64, 32, 32)  # into each convolution of f
SLOPE = 0.1  # of the leaky ReLUs below zero


class Embeddings(NamedTuple):
    """Embeddings of the patches of whole images, at their places: (n, d, rows, columns)."""

    fine: Float[Tensor, "n d i j"]
    coarse: Float[Tensor, "n d k l"]


class SmallEncoder(nn.Module):
    """f: eight convolutions without padding, of which the last ends in tanh; 32 -> 15 -> 1 pixels."""

    def __init__(self, dimensions: int = 64):
        super().__init__()
        widths = (*CHANNELS, dimensions)
        for i in range(len(CHANNELS)):
            self.add_module(f"conv{i + 1}", nn.Conv2d(widths[i], widths[i + 1], 3, stride=1 if i else STEP))

    def forward(self, images: Float[Tensor, "n 3 _h _w"]) -> Float[Tensor, "n d _i _j"]:
        """Embed the patches at all even rows and columns."""
        x = images.contiguous(memory_format=torch.channels_last)  # a quarter faster than rows of one channel
        *convolutions, last = self.children()
        for convolution in convolutions:
            x = F.leaky_relu(convolution(x), SLOPE, inplace=True)
        return torch.tanh(last(x))


class Encoder(nn.Module):
    """Embed small and large patches: f_small and f_large, which share f.

    Parameters have the names that they have in the authors' files.

    >>> fine, coarse = Encoder(8).patches(torch.zeros(3, 3, 32, 32), torch.zeros(2, 3, 64, 64))
    >>> fine.shape, coarse.shape
    (torch.Size([3, 8]), torch.Size([2, 8]))

    Args:
        dimensions: Number of values in an embedding.
    """

    def __init__(self, dimensions: int = 64):
        super().__init__()
        self.enc = SmallEncoder(dimensions)
        self.conv1 = nn.Conv2d(dimensions, 128, 2)
        self.conv2 = nn.Conv2d(128, dimensions, 1)

    @property
    def dimensions(self) -> int:
        """Number of values in an embedding."""
        return self.conv2.out_channels

    def head(self, small: Float[Tensor, "n d _i _j"], dilation: int = 1) -> Float[Tensor, "n d _k _l"]:
        """Compute g of quadrants whose embeddings are ``dilation`` cells apart."""
        hidden = F.conv2d(small, self.conv1.weight, self.conv1.bias, dilation=dilation)
        return torch.tanh(self.conv2(F.leaky_relu(hidden, SLOPE, inplace=True)))

    def patches(
        self, fine: Float[Tensor, "n 3 32 32"], coarse: Float[Tensor, "m 3 64 64"]
    ) -> tuple[Float[Tensor, "n d"], Float[Tensor, "m d"]]:
        """Embed single patches, as the paper does; all of them and all quadrants go through f in one batch."""
        quadrants = coarse.unflatten(3, (2, FINE)).unflatten(2, (2, FINE)).permute(0, 2, 4, 1, 3, 5)
        small = self.enc(torch.cat([fine, quadrants.flatten(0, 2)])).flatten(1)
        grids = small[len(fine) :].view(len(coarse), 2, 2, self.dimensions).permute(0, 3, 1, 2)
        return small[: len(fine)], self.head(grids).flatten(1)

    def dense(self, images: Float[Tensor, "n 3 _h _w"], strides: Sequence[int] = STRIDES) -> Embeddings:
        """Embed all patches of whole images in one pass: what ``patches`` gives for each, at its place.

        Args:
            images: Each side from 64 pixels; the mean image subtracted, as ``PatchSVDD`` does.
            strides: Pixels from one patch to the next, fine and coarse, both even; ``starts`` has the places.

        Raises:
            ValueError: if the images hold no patch, or a stride is not even.
        """
        check_size(images.shape[2:])
        check_strides(strides)
        small = self.enc(images)
        large = self.head(small, dilation=FINE // STEP)
        return Embeddings(
            _at_patches(small, images.shape[2:], FINE, strides[0]),
            _at_patches(large, images.shape[2:], COARSE, strides[1]),
        )


class PositionClassifier(nn.Module):
    """Classify in which of eight directions the second patch lies, seen from the first: the paper's C.

    It takes the difference of their embeddings. The weights of the last layer are normalised: those of each of its
    inputs have length 1.

    Args:
        dimensions: Number of values in an embedding.
        frozen: Leave those weights as they were drawn, and train the bias only. So does the authors' code, which
            normalises the weights where no gradient is recorded.
    """

    def __init__(self, dimensions: int = 64, *, frozen: bool = False):
        super().__init__()
        self.fc1 = nn.Linear(dimensions, 128)
        self.fc2 = nn.Linear(128, 128)
        self.fc3 = nn.Linear(128, 8)
        self.fc3.weight.requires_grad_(not frozen)

    def forward(self, main: Float[Tensor, "n d"], neighbour: Float[Tensor, "n d"]) -> Float[Tensor, "n 8"]:
        """Compute the scores of the directions, before the softmax."""
        x = F.leaky_relu(self.fc1(main - neighbour), SLOPE)
        x = F.leaky_relu(self.fc2(x), SLOPE)
        return F.linear(x, F.normalize(self.fc3.weight, dim=0), self.fc3.bias)


def initial_encoder(dimensions: int, seed: int) -> Encoder:
    """Draw the weights of an encoder before training, as He et al. (2015, arXiv 1502.01852) do.

    PyTorch's own initial weights are small: over eight layers the difference between two patches shrinks a
    thousandfold, and in many first steps of the training nothing improves.

    >>> one, other = initial_encoder(8, seed=0), initial_encoder(8, seed=0)
    >>> torch.equal(one.conv1.weight, other.conv1.weight)
    True
    """
    with seeded(seed):
        encoder = Encoder(dimensions)
        for name, parameter in encoder.named_parameters():
            if name.endswith("weight"):
                nn.init.kaiming_normal_(parameter, SLOPE)
            else:
                nn.init.zeros_(parameter)
    return encoder


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's own generator inside a block, and leave it as it was before.

    >>> with seeded(0):
    ...     a = torch.rand(2)
    >>> with seeded(0):
    ...     print(torch.equal(a, torch.rand(2)))
    True
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def starts(side: int, patch: int, stride: int) -> list[int]:
    """List the first pixel of each patch along a side of a picture: multiples of the stride, and the last place.

    The last patch ends where the side ends, so that every pixel is covered. All patches begin at even pixels: of an odd
    side, the last pixel is left over.

    >>> starts(72, patch=32, stride=16)
    [0, 16, 32, 40]
    """
    last = (side - patch) // STEP * STEP
    return [*range(0, last, stride), last]


def check_size(size: Sequence[int]) -> None:
    """Raise ValueError if pictures of this (height, width) hold no large patch."""
    if min(size) < COARSE:
        raise ValueError(
            f"images of {size[0]} x {size[1]} pixels are smaller than a patch of {COARSE} x {COARSE}: enlarge them, "
            "the paper's are 256 x 256"
        )


def check_strides(strides: Sequence[int]) -> None:
    """Raise ValueError unless there are two even numbers of pixels, and patches that far apart leave no gaps."""
    even = len(strides) == 2 and not any(stride % STEP for stride in strides)
    if not even or not STEP <= strides[0] <= FINE or not STEP <= strides[1] <= COARSE:
        raise ValueError(
            f"strides={tuple(strides)}: expected two even numbers of pixels, fine up to {FINE} and coarse up to "
            f"{COARSE}; the paper's are {STRIDES}"
        )


def _at_patches(
    every: Float[Tensor, "n d _i _j"], size: Sequence[int], patch: int, stride: int
) -> Float[Tensor, "n d _k _l"]:
    """Select, of the embeddings at every second pixel, those of the patches that are scored."""
    rows, columns = (torch.tensor(starts(side, patch, stride), device=every.device) // STEP for side in size)
    return every[:, :, rows[:, None], columns]
