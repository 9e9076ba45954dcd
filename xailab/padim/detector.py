"""PaDiM: one Gaussian of a network's features for each position, and the distance of new images to it."""

import copy
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from xailab import fingerprints, storage
from xailab.detection.base import Images, Maps, Source, ThresholdedDetector, batches, is_distributed, naming_batch
from xailab.detection.seen import Seen
from xailab.hooks import unwrapped
from xailab.padim.backbone import Layer
from xailab.padim.embedding import Embedding, Reduction
from xailab.padim.gaussians import Gaussians
from xailab.padim.upsampling import upsampled
from xailab.targets import check_images


class PaDiM(ThresholdedDetector):
    """Detect anomalies by PaDiM (Defard et al. 2020), on any network whose layers have rows and columns.

    The network is used in eval mode, up to the last of the layers, and left as it was.

    >>> normal, network = torch.rand(8, 3, 16, 16), nn.Sequential(nn.Conv2d(3, 6, 4, 4), nn.Conv2d(6, 9, 2, 2))
    >>> detector = PaDiM(network, ["0", "1"], dimensions=10).fit(normal, progress=False)
    >>> detector.distances(normal[:2]).shape, detector.anomaly_maps(normal[:2]).shape
    (torch.Size([2, 4, 4]), torch.Size([2, 16, 16]))

    Args:
        backbone: Network, on any device and in any precision.
        layers: Layers or their dotted names, whose outputs are (n, channels, rows, columns), or, as Swin's, (n, rows,
            columns, channels).
        dimensions: Number of channels of all layers together that are kept; None keeps all. The paper takes 100 of
            ResNet18's 448 and 550 of Wide-ResNet50-2's 1792.
        reduction: "random" keeps channels drawn at random. "pca" projects on the principal components of the normal
            images' embeddings over all positions; ``fit`` then reads the images twice, and as components mix layers,
            no part of the covariances is shared between positions, which takes several times more memory.
        epsilon: What is added to the diagonals of the covariances, above 0.
        blur: Standard deviation in pixels of the Gaussian that smooths the maps; 0 or None leaves them.
        seed: Seed for the random channels.

    Attributes:
        backbone, layers: The network, and the layers' names.
        n: Number of normal images so far.
        threshold: Score above which an image is called anomalous; None before ``calibrate``.
        gaussians: Mean and covariance of each position; None before there are any.

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
        reduction: Reduction = "random",
        epsilon: float = 0.01,
        blur: float | None = 4.0,
        seed: int = 0,
    ) -> None:
        if not 0 < epsilon < math.inf:
            raise ValueError(f"epsilon={epsilon}: expected a number above 0, without which covariances have no inverse")
        if blur is not None and not 0 <= blur < math.inf:
            raise ValueError(f"blur={blur}: expected a standard deviation in pixels, or 0 for none")
        self._embedding = Embedding(backbone, layers, dimensions, reduction, seed)
        self.dimensions, self.reduction = dimensions, reduction
        self.epsilon, self.blur, self.seed = epsilon, blur or 0.0, seed
        self._forget()

    @property
    def backbone(self) -> nn.Module:
        """The network."""
        return self._embedding.backbone.network

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers' names."""
        return self._embedding.backbone.names

    @property
    def n(self) -> int:
        """Number of normal images so far."""
        return self.gaussians.n if self.gaussians else 0

    def fit(self, images: Source, *, progress: bool = True) -> "PaDiM":
        """Fit the Gaussians to normal images in one pass ("pca": two), and forget those of before.

        Memory does not grow with the number of images, but for 3 KB each by which ``calibrate`` knows them again. Where
        ``torch.distributed`` is initialised, each process gives its own part of the images (none will do), and every
        one ends up with the statistics of all.

        Args:
            images: Images normalised for the network, all of one size: a tensor (n, c, h, w), a data set, or batches,
                as a ``DataLoader`` makes them (see ``detection.batches``).
            progress: Whether to show a progress bar.

        Returns:
            The detector itself.

        Raises:
            ValueError: if there are fewer than two images, sizes differ, the layers have fewer channels than
                ``dimensions``, a layer's output has no rows and columns, or a value is NaN or infinite.
            TypeError: if a batch holds no floating-point images.
        """
        self._forget()
        try:
            self._embedding.fit(images, progress)
            for number, batch in enumerate(batches(images, "PaDiM", progress=progress)):
                with naming_batch(number):
                    self.update(batch)
            if is_distributed():
                self._all_reduce()
            if self.n < 2:
                raise ValueError(f"a covariance needs at least 2 normal images, and there are {self.n}")
        except BaseException:
            self._forget()  # rather than go on with a part of the images
            raise
        return self

    def update(self, images: Images) -> "PaDiM":
        """Add a batch of normal images; a threshold has to be calibrated again.

        Returns:
            The detector itself.

        Raises:
            ValueError: as ``fit`` does; and if components are to be found first ("pca").
            TypeError: as ``fit`` does.
        """
        features = self.embed(check_images(images))
        self.gaussians = self.gaussians or self._new_gaussians()
        self.gaussians.update(features)
        self._seen.add(images)
        self.threshold = None
        return self

    def embed(self, images: Images) -> list[Float[Tensor, "n _d _h _w"]]:
        """Return the kept channels of each layer at its own resolution; with "pca", the components as one tensor."""
        return self._embedding(images)

    def distances(self, images: Images) -> Float[Tensor, "n rows columns"]:
        """Compute the Mahalanobis distance at each position of the finest layer's grid (equation 2).

        Raises:
            ValueError: if the detector is not fitted, the images have another size than those it was fitted to, or a
                value is NaN or infinite.
            TypeError: if the images are no floating-point tensor.
        """
        if self.gaussians is None:
            raise ValueError("this detector has learned nothing yet: call fit with normal images first")
        return self.gaussians.distances(self.embed(check_images(images)))

    def anomaly_maps(self, images: Images) -> Maps:
        """Compute distances at the images' size: upsampled bilinearly, then smoothed.

        They are raw distances, on one scale for all images; nothing depends on the other images of the batch.

        Raises:
            ValueError, TypeError: as ``distances`` does.
        """
        height, width = images.shape[-2:]
        return upsampled(self.distances(images), (height, width), self.blur)

    def merge(self, other: "PaDiM") -> "PaDiM":
        """Return one detector of the images of two, as if it had seen them all.

        Returns:
            A new detector without a threshold; the two stay as they are.

        Raises:
            ValueError: if they do not have the same layers and options, or one is not fitted.
        """
        if self.gaussians is None or other.gaussians is None:
            raise ValueError("a detector that has learned nothing cannot be merged: fit it first")
        mine, theirs = (each._options() | each._embedding.describe() for each in (self, other))
        for name, value in mine.items():
            if value != theirs[name]:
                raise ValueError(f"the detectors differ in {name}: {value} and {theirs[name]}")
        kept = zip(self._embedding.kept, other._embedding.kept, strict=True)
        if not all(torch.equal(a, b.to(a.device)) for a, b in kept):
            raise ValueError("the detectors have different principal components: fit one, and update it instead")
        merged = PaDiM(self.backbone, **self._options())
        merged._embedding = copy.copy(self._embedding)
        merged.gaussians = self.gaussians.merge(other.gaussians)
        merged._seen = Seen(torch.cat([self._seen.prints, other._seen.prints]))
        return merged

    @torch.inference_mode(False)
    def to(self, device: torch.device | str) -> "PaDiM":
        """Move the network and the Gaussians to a device, and return the detector."""
        self.backbone.to(device)
        if self.gaussians is not None:
            self.gaussians.to(self._embedding.device)
        return self

    def save(self, path: str | Path) -> None:
        """Write the Gaussians to one safetensors file, without the network, as a whole or not at all.

        Raises:
            ValueError: if the detector is not fitted.
            FileNotFoundError: if there is no such folder.
        """
        if self.gaussians is None:
            raise ValueError("this detector has learned nothing yet: there is nothing to save")
        description = self._embedding.describe() | {"n": self.n, "backbone": fingerprints.fingerprint(self.backbone)}
        self._write(path, description, self._embedding.tensors() | self.gaussians.state() | {"seen": self._seen.prints})

    @classmethod
    def load(cls, path: str | Path, backbone: nn.Module) -> "PaDiM":
        """Read a detector that ``save`` wrote; it gives the same scores, and can be updated and merged.

        Args:
            path: Path of the file.
            backbone: Network that it was fitted with, on any device.

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

    def _restore(self, description: dict, tensors: dict[str, Tensor]) -> None:
        n = description["n"]
        if type(n) is not int or n < 1:
            raise ValueError(f"it has n={n}")
        self._embedding.restore(description, tensors)
        self.gaussians = self._new_gaussians()
        self.gaussians.load_state(n, tensors)

    def _forget(self) -> None:
        super()._forget()
        self._embedding.forget()
        self.gaussians: Gaussians | None = None

    def _new_gaussians(self) -> Gaussians:
        found = self._embedding
        return Gaussians(found.kept_shapes, epsilon=self.epsilon, dtype=found.dtype, device=found.device)

    def _all_reduce(self) -> None:
        """Put the parts of all processes together."""
        self._embedding.share_sizes()
        self.gaussians = self.gaussians or self._new_gaussians()
        self.gaussians.all_reduce()
        self._seen.all_gather(self._embedding.device)
