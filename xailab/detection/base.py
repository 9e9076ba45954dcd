"""Share between detectors: images in batches, one score for each image, a threshold, a file."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from operator import length_hint
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

import torch
import torch.distributed as dist
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset
from tqdm import tqdm

from xailab import storage
from xailab.detection.seen import Seen
from xailab.metrics import conformal_threshold, min_calibration_size
from xailab.targets import check_images

Images = Float[Tensor, "n c height width"]
Maps = Float[Tensor, "n height width"]
Source = Tensor | Dataset | Iterable  # of images, as `batches` takes them
Self = TypeVar("Self", bound="ThresholdedDetector")


class ThresholdedDetector(ABC):
    """Call an image anomalous where its score, the maximum of its anomaly map, exceeds a threshold.

    Another detector implements ``fit``, ``anomaly_maps``, ``to``, ``save``, ``load`` and ``_restore``. It calls
    ``_forget`` in its constructor and whenever it is fitted anew, and ``_seen.add`` with the images it is fitted to.

    Attributes:
        threshold: Score above which an image is called anomalous; None before ``calibrate``.
    """

    _KIND: ClassVar[str]  # as files say
    _OPTIONS: ClassVar[tuple[str, ...]]  # arguments of the constructor that files hold
    _SEEN: ClassVar[str] = "among those that the detector was fitted to, and score lower than new ones"

    threshold: float | None
    _seen: Seen

    @abstractmethod
    def fit(self: Self, images: Source, *, progress: bool = True) -> Self:
        """Fit the detector to normal images, and forget those of before."""

    @abstractmethod
    def anomaly_maps(self, images: Images) -> Maps:
        """Compute one map at the size of each image; a map does not depend on the other images of the batch."""

    @abstractmethod
    def to(self: Self, device: torch.device | str) -> Self:
        """Move the detector to a device, and return it."""

    @abstractmethod
    def save(self, path: str | Path) -> None:
        """Write the detector to one file, as a whole or not at all."""

    @classmethod
    @abstractmethod
    def load(cls: type[Self], path: str | Path, *args: Any, **kwargs: Any) -> Self:
        """Read a detector that ``save`` wrote."""

    @abstractmethod
    def _restore(self, description: dict, tensors: dict[str, Tensor]) -> None:
        """Restore the detector from a file's description and tensors; raises an error where they do not fit."""

    def scores(self, images: Images) -> Float[Tensor, "n"]:
        """Compute one number for each image: the maximum of its anomaly map.

        Raises:
            ValueError, TypeError: as ``anomaly_maps`` does.
        """
        return self.scores_of_maps(self.anomaly_maps(images))

    @staticmethod
    def scores_of_maps(maps: Maps) -> Float[Tensor, "n"]:
        """Compute the scores of images from their anomaly maps.

        Raises:
            ValueError: if they have not three dimensions.
        """
        if maps.ndim != 3:
            raise ValueError(
                f"expected anomaly maps (n, height, width), got {tuple(maps.shape)}: one map is map[None], and images "
                "go to scores"
            )
        return maps.amax((-2, -1))

    def predict(self, images: Images) -> Bool[Tensor, "n"]:
        """Return whether each image is anomalous: its score lies above the threshold.

        ``anomaly_maps(images) > detector.threshold`` says where.

        Raises:
            ValueError: if there is no threshold yet.
            ValueError, TypeError: as ``anomaly_maps`` does.
        """
        if self.threshold is None:
            raise ValueError("there is no threshold yet: call calibrate with normal images, or set .threshold")
        return self.scores(images) > self.threshold

    def calibrate(self: Self, images: Source, false_alarm_rate: float = 0.05, *, progress: bool = True) -> Self:
        """Set the threshold by normal images that the detector was not fitted to (``metrics.conformal_threshold``).

        Images that it was fitted to score lower than new ones: they are part of their own mean and covariance, or
        their own nearest neighbours. A threshold from them would give more false alarms than asked for.

        Args:
            images: Normal images, as for ``fit``.
            false_alarm_rate: Share of normal images that may be called anomalous.
            progress: Whether to show a progress bar.

        Returns:
            The detector itself.

        Raises:
            ValueError: if there are too few images for that share (the message says how many it takes), or one of them
                is among those that it was fitted to.
        """
        min_calibration_size(false_alarm_rate)
        scores = []
        for number, batch in enumerate(batches(images, "calibrating", progress=progress)):
            with naming_batch(number):
                if known := int(self._seen.among(batch).sum()):
                    raise ValueError(f"{known} of {len(batch)} images are {self._SEEN}: calibrate with others")
                scores.append(self.scores(batch))
        self.threshold = conformal_threshold(torch.cat(scores) if scores else torch.empty(0), false_alarm_rate)
        return self

    def _forget(self) -> None:
        """Forget the images and the threshold."""
        self._seen, self.threshold = Seen(), None

    def _options(self) -> dict:
        return {name: getattr(self, name) for name in self._OPTIONS}

    @classmethod
    def _restored(cls: type[Self], path: str | Path, description: dict, tensors: dict[str, Tensor], **made) -> Self:
        """Make a detector from a file, and from arguments of the constructor that are in no file.

        Raises:
            ValueError: if something is missing or does not fit.
        """
        try:
            detector = cls(**made, **{name: description[name] for name in cls._OPTIONS})
            detector._restore(description, tensors)
            threshold = description["threshold"]
            detector.threshold = threshold if threshold is None else float(threshold)
            detector._seen = Seen(tensors.get("seen"))
        except (KeyError, AttributeError, TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"{path} is no whole detector ({error}): fit and save it again") from None
        return detector

    def _write(self, path: str | Path, description: dict, tensors: dict[str, Tensor]) -> None:
        storage.write(path, self._KIND, {**self._options(), "threshold": self.threshold, **description}, tensors)


def batches(images: Source, what: str = "", *, progress: bool = False, size: int = 16) -> Iterator[Images]:
    """Yield batches of images from a tensor, a data set or a loader.

    >>> [len(batch) for batch in batches(torch.zeros(20, 3, 8, 8))]
    [16, 4]

    Args:
        images: One tensor (n, c, h, w); a data set; or an iterable of batches, as a ``DataLoader``, or of single images
            (c, h, w). Batches and images are tensors, or tuples or lists that begin with one.
        what: Text of the progress bar.
        progress: Whether to show a progress bar; in several processes of ``torch.distributed`` the first shows it.
        size: Number of images in a batch, where they do not come in batches. Images that differ in size, type or device
            come in batches of their own.

    Yields:
        Floating-point tensors (n, c, h, w).

    Raises:
        TypeError: if there are no images to iterate over, or they are no floating-point tensors.
        ValueError: if they have not three or four dimensions.
    """
    if isinstance(images, Tensor):
        items: Iterable = check_images(images).split(size) if images.numel() else ()
    elif isinstance(images, Dataset) and isinstance(images, _Indexed) and not isinstance(images, IterableDataset):
        items = _Items(images)
    elif isinstance(images, Iterable):
        items = images
    elif hasattr(images, "__getitem__"):
        items = iter(images)
    else:
        raise TypeError(f"expected a tensor of images, a data set or a loader, got {type(images).__name__}")
    first = not is_distributed() or dist.get_rank() == 0
    total = length_hint(items, 0) or None
    return _grouped(tqdm(items, what, total, disable=not (progress and first), leave=False), size)


def is_distributed() -> bool:
    """Return whether there are several processes of ``torch.distributed``."""
    return dist.is_available() and dist.is_initialized()


@runtime_checkable
class _Indexed(Protocol):
    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Any: ...


class _Items:
    """Iterate over a data set up to its length: beyond it, it need not raise IndexError."""

    def __init__(self, data: _Indexed) -> None:
        self._data = data

    def __len__(self) -> int:
        return len(self._data)

    def __iter__(self) -> Iterator:
        return (self._data[i] for i in range(len(self)))


def _grouped(items: Iterable, size: int) -> Iterator[Images]:
    """Yield batches as they come, and stack the single images between them."""
    waiting: list[Tensor] = []
    for item in items:
        image = item[0] if isinstance(item, (tuple, list)) and len(item) else item
        single = image if isinstance(image, Tensor) and image.ndim == 3 else None
        if single is not None and isinstance(item, list):
            _check_list(item)
        if waiting and (single is None or len(waiting) == size or not _alike(single, waiting[0])):
            yield check_images(torch.stack(waiting))
            waiting = []
        if single is None:
            yield check_images(image)
        else:
            waiting.append(single)
    if waiting:
        yield check_images(torch.stack(waiting))


def _check_list(item: list) -> None:
    """Refuse a list of images: only its first one would be taken."""
    first, *others = item
    if others and all(isinstance(other, Tensor) and other.shape == first.shape for other in others):
        raise ValueError(f"got a list of {len(item)} images as a batch: torch.stack makes a tensor of them")


def _alike(a: Tensor, b: Tensor) -> bool:
    return (a.shape, a.dtype, a.device) == (b.shape, b.dtype, b.device)


@contextmanager
def naming_batch(number: int) -> Iterator[None]:
    """Name the batch in a ValueError that is raised inside."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"batch {number}: {error}") from None
