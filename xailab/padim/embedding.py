"""Embed images: the outputs of some layers of a network, with fewer channels (Section III-A of arXiv 2011.08785)."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Literal

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn

from xailab.detection.base import Images, Source, batches, is_distributed, naming_batch
from xailab.padim.backbone import Backbone, Layer
from xailab.padim.levels import Shape, finest, shape_of
from xailab.padim.reduction import Moments, project, random_channels

Reduction = Literal["random", "pca"]


class Embedding:
    """Embed images by the layers of a network.

    Args:
        backbone: Network.
        layers: Layers or their dotted names.
        dimensions: Number of channels or components that are kept; None for all.
        reduction: "random" for channels drawn at random, or "pca" for principal components.
        seed: Seed for the random channels.

    Attributes:
        size: Height and width of the images; None before the first image.
        shapes: (channels, rows, columns) of each layer's output.
        dtype: Type of the outputs, single or double precision.
        kept: Numbers of each layer's channels that are kept, or each layer's part of the principal components.

    Raises:
        ValueError: if a layer does not exist, or an option is out of its range.
    """

    def __init__(
        self,
        backbone: nn.Module,
        layers: Layer | Sequence[Layer],
        dimensions: int | None,
        reduction: Reduction,
        seed: int,
    ) -> None:
        if dimensions is not None and dimensions < 1:
            raise ValueError(f"dimensions={dimensions}: expected a number from 1, or None for all")
        if reduction not in ("random", "pca"):
            raise ValueError(f"reduction={reduction!r}: expected 'random' or 'pca'")
        self.backbone = Backbone(backbone, layers)
        self.dimensions, self.reduction, self.seed = dimensions, reduction, seed
        self.forget()

    def forget(self) -> None:
        """Forget the sizes and the components."""
        self.size: tuple[int, int] | None = None
        self.shapes: list[Shape] = []
        self.dtype = torch.float32
        self.kept: list[Tensor] = []

    @property
    def device(self) -> torch.device:
        """Device of the statistics: the network's, but for Apple's GPUs, which have no double precision."""
        device = self.backbone.like.device
        return torch.device("cpu") if device.type == "mps" else device

    @property
    def width(self) -> int:
        """Number of channels or components that are kept."""
        return self.dimensions or sum(channels for channels, *_ in self.shapes)

    @property
    def kept_shapes(self) -> list[Shape]:
        """(channels, rows, columns) of each tensor of an embedding."""
        if self.reduction == "pca":
            return [(self.width, *finest(self.shapes))]
        return [(len(kept), *shape[1:]) for kept, shape in zip(self.kept, self.shapes, strict=True)]

    def __call__(self, images: Images) -> list[Float[Tensor, "n _d _h _w"]]:
        """Return the kept channels of each layer at its own resolution, or the components at the finest grid.

        Raises:
            ValueError: if sizes differ from those before, or components are not known yet.
        """
        layers = self._outputs(images)
        if self.reduction == "random":
            return [x if len(kept) == x.shape[1] else x[:, kept] for x, kept in zip(layers, self.kept, strict=True)]
        if not self.kept:
            raise ValueError("principal components are found by fit: call it first")
        return [project(layers, self.kept)]

    def fit(self, source: Source, progress: bool) -> None:
        """Find the principal components of normal images, in a pass of its own; random channels need none.

        Raises:
            ValueError: if there are no images, or they cannot be read twice.
        """
        if self.reduction == "random":
            return
        if isinstance(source, Iterator):
            raise ValueError("principal components take two passes: give a loader that starts again, not an iterator")
        moments = None
        for number, images in enumerate(batches(source, "principal components", progress=progress)):
            with naming_batch(number):
                layers = self._outputs(images)
            moments = moments or Moments(self.shapes, self.device)
            moments.update(layers)
        if is_distributed():
            self.share_sizes()
            moments = moments or Moments(self.shapes, self.device)
            moments.all_reduce()
        if moments is None or moments.n == 0:
            raise ValueError("there are no images to learn from")
        self.kept = moments.principal_components(self.dimensions)

    def share_sizes(self) -> None:
        """Give the sizes to those processes of ``torch.distributed`` that got no images.

        Raises:
            ValueError: if processes got different sizes, or none got any images.
        """
        numbers = [*(self.size or (0, 0)), self.dtype.itemsize if self.size else 0]
        numbers += chain(*(self.shapes or [(0, 0, 0)] * len(self.backbone.names)))
        most = torch.tensor(numbers, device=self.device)
        least = torch.where(most == 0, 2**31, most)
        dist.all_reduce(most, dist.ReduceOp.MAX)
        dist.all_reduce(least, dist.ReduceOp.MIN)
        if not most.any():
            raise ValueError("no process got any images")
        if not torch.equal(most, least):
            raise ValueError(f"processes got different sizes (image, bytes a number, layers): {least} to {most}")
        if self.size is None:
            height, width, itemsize, *rest = most.tolist()
            shapes = list(zip(*[iter(rest)] * 3, strict=True))
            self._set_sizes((height, width), shapes, torch.float64 if itemsize == 8 else torch.float32)

    def describe(self) -> dict:
        """Return the sizes, as a file holds them."""
        return {"size": self.size, "shapes": self.shapes, "dtype": str(self.dtype).removeprefix("torch.")}

    def tensors(self) -> dict[str, Tensor]:
        """Return what is kept, as a file holds it."""
        return {f"kept.{i}": tensor for i, tensor in enumerate(self.kept)}

    def restore(self, description: dict, tensors: dict[str, Tensor]) -> None:
        """Restore what ``describe`` and ``tensors`` gave.

        Raises:
            ValueError, KeyError, TypeError: if something is missing or does not fit the network's layers.
        """
        height, width = description["size"]
        shapes = [(channels, rows, columns) for channels, rows, columns in description["shapes"]]
        numbers = (height, width, *chain(*shapes))
        if len(shapes) != len(self.backbone.names) or not all(type(n) is int and n > 0 for n in numbers):
            raise ValueError(f"it has {len(self.backbone.names)} layers, and sizes {numbers}")
        dtype = {"float32": torch.float32, "float64": torch.float64}[description["dtype"]]
        self._set_sizes((height, width), shapes, dtype)
        self.kept = [tensors[f"kept.{i}"] for i in range(len(shapes))]
        if not all(self._fits(kept, channels) for kept, (channels, *_) in zip(self.kept, shapes, strict=True)):
            raise ValueError("the reduction does not fit the layers")

    def _fits(self, kept: Tensor, channels: int) -> bool:
        if self.reduction == "pca":
            return kept.shape == (channels, self.width) and bool(kept.isfinite().all())
        return kept.ndim == 1 and kept.dtype == torch.int64 and bool(((kept >= 0) & (kept < channels)).all())

    def _outputs(self, images: Images) -> list[Tensor]:
        """Run the network; the first images set the sizes, and those of all others are compared with them."""
        layers = self.backbone.outputs(images)
        height, width = images.shape[-2:]
        shapes = [shape_of(layer) for layer in layers]
        if self.size is None:
            self._set_sizes((height, width), shapes, layers[0].dtype)
        elif (height, width) != self.size:
            raise ValueError(
                f"the images have {height} x {width} pixels, those before {self.size[0]} x {self.size[1]}: resize or "
                "crop all to one size"
            )
        elif shapes != self.shapes:
            raise ValueError(
                f"the layers put out {shapes} (channels, rows, columns), and {self.shapes} before: this is not the "
                "network that the detector was fitted with"
            )
        return layers

    def _set_sizes(self, size: tuple[int, int], shapes: list[Shape], dtype: torch.dtype) -> None:
        counts = [channels for channels, *_ in shapes]
        if self.dimensions is not None and self.dimensions > sum(counts):
            raise ValueError(
                f"dimensions={self.dimensions}, but the layers have {sum(counts)} channels together: ask for fewer, or "
                "None for all"
            )
        self.size, self.shapes, self.dtype = size, shapes, dtype
        if self.reduction == "random":
            self.kept = random_channels(counts, self.dimensions, self.seed)
