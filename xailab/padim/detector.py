"""The detector: embeddings from a network, distances to what is normal, maps, a file."""

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Literal

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn

from xailab import fingerprints, storage
from xailab.detection.base import Images, Maps, Source, ThresholdedDetector, batches, naming_batch
from xailab.detection.seen import Seen
from xailab.hooks import unwrapped
from xailab.images import upsample
from xailab.padim.backbone import Backbone, Layer
from xailab.padim.gaussians import Gaussians
from xailab.padim.levels import Shape
from xailab.padim.reduction import Moments, finest, project, random_channels
from xailab.targets import check_images


class PaDiM(ThresholdedDetector):
    """PaDiM (Defard et al. 2020, arXiv 2011.08785) on any network whose layers have rows and columns.

    ``PaDiM(network, ["layer1", "layer2", "layer3"]).fit(normal).anomaly_maps(images)``. The network is used in eval
    mode, up to the last of the layers, and left as it was.

    Args:
        backbone: The network, on any device and in any precision.
        layers: Layers or their dotted names, whose outputs are (n, channels, rows, columns), or, as Swin's, (n, rows,
            columns, channels).
        dimensions: How many of the layers' channels together are kept; None keeps all. The paper takes 100 of
            ResNet18's 448 and 550 of Wide-ResNet50-2's 1792.
        reduction: "random" keeps channels drawn at random. "pca" projects on the principal components of the normal
            images' embeddings over all positions; ``fit`` then reads the images twice, and as components mix layers,
            no part of the covariances is shared between positions, which takes several times more memory.
        epsilon: What is added to the diagonals of the covariances, above 0.
        blur: Standard deviation in pixels of the Gaussian that smooths the maps; 0 or None leaves them.
        seed: Of the random channels.

    Attributes:
        backbone, layers: The network, and the layers' names.
        n: Number of normal images so far.
        threshold: Score above which an image is called anomalous; None before ``calibrate``.
        gaussians: The statistics; None before there are any.

    Raises:
        ValueError: if a layer does not exist, or an option is out of its range.
    """

    _KIND = "PaDiM detector"
    _OPTIONS = ("layers", "dimensions", "reduction", "epsilon", "blur", "seed")

    def __init__(
        self,
        backbone: nn.Module,
        layers: Layer | Sequence[Layer],
        dimensions: int | None = 100,
        *,
        reduction: Literal["random", "pca"] = "random",
        epsilon: float = 0.01,
        blur: float | None = 4.0,
        seed: int = 0,
    ) -> None:
        self._backbone = Backbone(backbone, layers)
        if dimensions is not None and dimensions < 1:
            raise ValueError(f"dimensions={dimensions}: expected a number from 1, or None for all")
        if reduction not in ("random", "pca"):
            raise ValueError(f"reduction={reduction!r}: expected 'random' or 'pca'")
        if not 0 < epsilon < math.inf:
            raise ValueError(f"epsilon={epsilon}: expected a number above 0, without which covariances have no inverse")
        if blur is not None and not 0 <= blur < math.inf:
            raise ValueError(f"blur={blur}: expected a standard deviation in pixels, or 0 for none")
        self.dimensions, self.reduction = dimensions, reduction
        self.epsilon, self.blur, self.seed = epsilon, blur or 0.0, seed
        self._forget()

    @property
    def backbone(self) -> nn.Module:
        """The network."""
        return self._backbone.network

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers' names."""
        return self._backbone.names

    @property
    def n(self) -> int:
        """Number of normal images so far."""
        return self.gaussians.n if self.gaussians else 0

    def fit(self, images: Source, *, progress: bool = True) -> "PaDiM":
        """Learn from normal images, one pass ("pca": two), and forget what was learned before.

        Memory does not grow with the number of images, but for 3 KB each by which ``calibrate`` knows them again. Where
        ``torch.distributed`` is initialised, each process gives its own part of the images (none will do), and every
        one ends up with the statistics of all.

        Args:
            images: Images normalised for the network, all of one size: a tensor (n, c, h, w), a data set, or batches,
                as a ``DataLoader`` makes them (see ``detection.batches``).
            progress: Show a progress bar.

        Returns:
            The detector itself.

        Raises:
            ValueError: if there are fewer than two images, sizes differ, the layers have fewer channels than
                ``dimensions``, a layer's output has no rows and columns, or a value is NaN or infinite.
            TypeError: if a batch holds no floating-point images.
        """
        self._forget()
        distributed = dist.is_available() and dist.is_initialized()
        try:
            if self.reduction == "pca":
                self._find_components(images, distributed, progress)
            for number, batch in enumerate(batches(images, "PaDiM", progress=progress)):
                with naming_batch(number):
                    self._add(batch)
            if distributed:
                self._share_sizes()
                self.gaussians.all_reduce()
                self._seen.all_gather(self._device)
            if self.n < 2:
                raise ValueError(f"a covariance needs at least 2 normal images, and there are {self.n}")
        except BaseException:
            self._forget()  # rather than go on with a part of the images
            raise
        return self

    def update(self, images: Images) -> "PaDiM":
        """Add a batch of normal images to what was learned; a threshold has to be calibrated again.

        Returns:
            The detector itself.

        Raises:
            ValueError: as ``fit`` does; and if components are to be found first ("pca").
            TypeError: as ``fit`` does.
        """
        self._add(check_images(images))
        return self

    def merge(self, other: "PaDiM") -> "PaDiM":
        """Put together what two detectors learned of different images, as if one had seen them all.

        Returns:
            A new detector without a threshold; the two stay as they are.

        Raises:
            ValueError: if they do not have the same layers and options, or one has learned nothing yet.
        """
        if self.gaussians is None or other.gaussians is None:
            raise ValueError("a detector that has learned nothing cannot be merged: fit it first")
        mine, theirs = self._description(), other._description()
        for name, value in mine.items():
            if name not in ("n", "threshold") and value != theirs[name]:
                raise ValueError(f"the detectors differ in {name}: {value} and {theirs[name]}")
        if not all(torch.equal(a, b.to(a.device)) for a, b in zip(self._kept, other._kept, strict=True)):
            raise ValueError("the detectors have different principal components: fit one, and update it instead")
        merged = PaDiM(self.backbone, **self._options())
        merged._size, merged._shapes, merged._dtype, merged._kept = self._size, self._shapes, self._dtype, self._kept
        merged.gaussians = self.gaussians.merge(other.gaussians)
        merged._seen = Seen(torch.cat([self._seen.prints, other._seen.prints]))
        return merged

    def embed(self, images: Images) -> list[Float[Tensor, "n _d _h _w"]]:
        """What ``gaussians`` works with: the kept channels of each layer at its own resolution.

        With "pca" it is one tensor, the components at the finest grid.
        """
        layers = self._backbone.outputs(images)
        self._meet(images, layers)
        if self.reduction == "pca":
            if self._kept is None:
                raise ValueError("principal components are found by fit: call it first")
            return [project(layers, self._kept)]
        return [x if len(kept) == x.shape[1] else x[:, kept] for x, kept in zip(layers, self._kept, strict=True)]

    def distances(self, images: Images) -> Float[Tensor, "n rows columns"]:
        """Mahalanobis distance at each position of the finest layer's grid (equation 2), neither enlarged nor smoothed.

        Raises:
            ValueError: if the detector is not fitted, the images have another size than those it learned from, or a
                value is NaN or infinite.
            TypeError: if the images are no floating-point tensor.
        """
        if self.gaussians is None:
            raise ValueError("this detector has learned nothing yet: call fit with normal images first")
        return self.gaussians.distances(self.embed(check_images(images)))

    def anomaly_maps(self, images: Images) -> Maps:
        """Distances at the images' size: enlarged bilinearly, then smoothed.

        They are raw distances, on one scale for all images; nothing depends on the other images of the batch.

        Raises:
            ValueError, TypeError: as ``distances`` does.
        """
        return enlarged(self.distances(images), tuple(images.shape[-2:]), self.blur)

    @torch.inference_mode(False)
    def to(self, device: torch.device | str) -> "PaDiM":
        """Move the network and what was learned to a device; returns itself."""
        self.backbone.to(device)
        if self.gaussians is not None:
            self.gaussians.to(self._device)
        return self

    def save(self, path: str | Path) -> None:
        """Write what was learned to one safetensors file, without the network, as a whole or not at all.

        Raises:
            ValueError: if nothing was learned yet.
            FileNotFoundError: if there is no such folder.
        """
        if self.gaussians is None:
            raise ValueError("this detector has learned nothing yet: there is nothing to save")
        kept = {f"kept.{i}": tensor for i, tensor in enumerate(self._kept)}
        description = self._description() | {"backbone": fingerprints.fingerprint(self.backbone)}
        self._write(path, description, kept | self.gaussians.state() | {"seen": self._seen.prints})

    @classmethod
    def load(cls, path: str | Path, backbone: nn.Module) -> "PaDiM":
        """Read a detector that ``save`` wrote; it gives the same scores, and can be updated and merged.

        Args:
            path: The file.
            backbone: The network that it was fitted with, on any device.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is damaged or something else, or the network is another one; the message says in what.
        """
        description, tensors = storage.read(path, cls._KIND)
        try:
            fitted = description["backbone"]
            differs = fingerprints.difference(fitted, unwrapped(backbone))
        except (KeyError, AttributeError, TypeError, ValueError):
            raise ValueError(f"{path} lacks a description of its backbone: fit and save it again") from None
        if differs:
            raise ValueError(f"{path} was fitted with another backbone: {differs}")
        return cls._restored(path, description, tensors, backbone=backbone)

    def _description(self) -> dict:
        """What a file says of the detector, and what two of them must share to be merged (but for n and threshold)."""
        sizes = {"size": self._size, "shapes": self._shapes, "dtype": str(self._dtype).removeprefix("torch.")}
        return {**self._options(), **sizes, "n": self.n, "threshold": self.threshold}

    def _restore(self, description: dict, tensors: dict[str, Tensor]) -> None:
        """Take over what a file says, or raise whatever shows that it cannot be."""
        height, width = description["size"]
        shapes = [(channels, rows, columns) for channels, rows, columns in description["shapes"]]
        numbers = (height, width, description["n"], *chain(*shapes))
        if len(shapes) != len(self.layers) or not all(type(number) is int and number > 0 for number in numbers):
            raise ValueError(f"it has {len(self.layers)} layers, and sizes {numbers}")
        dtype = {"float32": torch.float32, "float64": torch.float64}[description["dtype"]]
        self._learn_sizes((height, width), shapes, dtype)
        self._kept = [tensors[f"kept.{i}"] for i in range(len(shapes))]
        for kept, (channels, *_) in zip(self._kept, shapes, strict=True):
            if self.reduction == "pca":
                fits = kept.shape == (channels, self._width) and kept.isfinite().all()
            else:
                fits = kept.ndim == 1 and kept.dtype == torch.int64 and ((kept >= 0) & (kept < channels)).all()
            if not fits:
                raise ValueError("the reduction does not fit the layers")
        self.gaussians = self._no_statistics()
        self.gaussians.load_state(description["n"], tensors)

    def _forget(self) -> None:
        super()._forget()
        self._size: tuple[int, int] | None = None  # of the images
        self._shapes: list[Shape] = []  # of the layers' whole outputs, without the images
        self._dtype = torch.float32  # of the statistics
        self._kept: list[Tensor] | None = None  # numbers of each layer's channels, or its part of the components
        self.gaussians: Gaussians | None = None

    @property
    def _width(self) -> int:
        """How many dimensions are kept."""
        return self.dimensions or sum(channels for channels, *_ in self._shapes)

    @property
    def _device(self) -> torch.device:
        """Of the statistics: the network's, but for Apple's GPUs, which have no double precision."""
        device = self._backbone.like.device
        return torch.device("cpu") if device.type == "mps" else device

    def _add(self, images: Images) -> None:
        """Add normal images to the statistics."""
        features = self.embed(images)
        if self.gaussians is None:
            self.gaussians = self._no_statistics()
        self.gaussians.update(features)
        self._seen.add(images)
        self.threshold = None

    def _no_statistics(self) -> Gaussians:
        if self.reduction == "pca":
            shapes = [(self._width, *finest(self._shapes))]
        else:
            shapes = [(len(kept), *shape[1:]) for kept, shape in zip(self._kept, self._shapes, strict=True)]
        return Gaussians(shapes, epsilon=self.epsilon, dtype=self._dtype, device=self._device)

    def _meet(self, images: Images, layers: list[Tensor]) -> None:
        """Learn the sizes from the first images, and check those of all others."""
        size, shapes = tuple(images.shape[-2:]), [tuple(layer.shape[1:]) for layer in layers]
        if self._size is None:
            self._learn_sizes(size, shapes, torch.float64 if layers[0].dtype == torch.float64 else torch.float32)
        elif size != self._size:
            raise ValueError(
                f"the images have {size[0]} x {size[1]} pixels, those before {self._size[0]} x {self._size[1]}: resize "
                "or crop all to one size"
            )
        elif shapes != self._shapes:
            raise ValueError(
                f"the layers put out {shapes} (channels, rows, columns), and {self._shapes} before: this is not the "
                "network that the detector was fitted with"
            )

    def _learn_sizes(self, size: tuple[int, int], shapes: list[Shape], dtype: torch.dtype) -> None:
        counts = [channels for channels, *_ in shapes]
        if self.dimensions is not None and self.dimensions > sum(counts):
            raise ValueError(
                f"dimensions={self.dimensions}, but the layers have {sum(counts)} channels together: ask for fewer, or "
                "None for all"
            )
        self._size, self._shapes, self._dtype = size, shapes, dtype
        if self.reduction == "random":
            self._kept = random_channels(counts, self.dimensions, self.seed)

    def _find_components(self, source: Source, distributed: bool, progress: bool) -> None:
        """The first of the two passes of "pca"."""
        if isinstance(source, Iterator):
            raise ValueError("principal components take two passes: give a loader that starts again, not an iterator")
        moments = None
        for number, images in enumerate(batches(source, "principal components", progress=progress)):
            with naming_batch(number):
                layers = self._backbone.outputs(images)
                self._meet(images, layers)
            moments = moments or Moments(self._shapes, self._device)
            moments.update(layers)
        if distributed:
            self._share_sizes()
            moments = moments or Moments(self._shapes, self._device)
            moments.all_reduce()
        if moments is None or moments.n == 0:
            raise ValueError("there are no images to learn from")
        self._kept = moments.principal_components(self.dimensions)

    def _share_sizes(self) -> None:
        """Tell processes that got no images the sizes, and let all find out if they differ."""
        numbers = [*(self._size or (0, 0)), self._dtype.itemsize if self._size else 0]
        numbers += chain(*(self._shapes or [(0, 0, 0)] * len(self.layers)))
        most = torch.tensor(numbers, device=self._device)
        least = torch.where(most == 0, 2**31, most)
        dist.all_reduce(most, dist.ReduceOp.MAX)
        dist.all_reduce(least, dist.ReduceOp.MIN)
        if not most.any():
            raise ValueError("no process got any images")
        if not torch.equal(most, least):
            raise ValueError(f"processes got different sizes (image, bytes a number, layers): {least} to {most}")
        height, width, itemsize, *shapes = most.tolist()
        if self._size is None:
            shapes = list(zip(*[iter(shapes)] * 3, strict=True))
            self._learn_sizes((height, width), shapes, torch.float64 if itemsize == 8 else torch.float32)
        if self._kept is not None and self.gaussians is None:
            self.gaussians = self._no_statistics()


def enlarged(maps: Float[Tensor, "n rows columns"], size: tuple[int, int], blur: float) -> Maps:
    """Enlarge maps bilinearly and smooth them with a Gaussian of standard deviation ``blur`` in pixels; 0 does not.

    Both are linear along each axis, so that one matrix an axis does them at once. The blur is that of
    ``scipy.ndimage.gaussian_filter``: cut off at four standard deviations, mirrored at the border with the edge pixel
    repeated.
    """
    down, across = (_enlarging(*sizes, blur).to(maps) for sizes in zip(maps.shape[-2:], size, strict=True))
    return down @ maps @ across.mT


@lru_cache(maxsize=32)
def _enlarging(cells: int, pixels: int, blur: float) -> Float[Tensor, "pixels cells"]:
    from scipy.ndimage import gaussian_filter1d

    with torch.inference_mode(False):
        matrix = upsample(torch.eye(cells, dtype=torch.float64), (pixels, cells))
        return torch.from_numpy(gaussian_filter1d(matrix.numpy(), blur, axis=0)) if blur else matrix
