"""Measure a detector on one category: image and pixel AUROC, PRO, F1, and why one of them is missing."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import length_hint
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset, default_collate
from tqdm import tqdm

from xailab.datasets.folders import GOOD, Sample
from xailab.metrics import aupro, auroc, f1_max

FIGURES = {"image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC", "pro": "PRO"}  # by their names in `Results`


@runtime_checkable
class Detector(Protocol):
    """The one method that `evaluate` asks of a detector."""

    def anomaly_maps(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n h w"]:
        """Score every pixel; higher is more anomalous."""
        ...


@runtime_checkable
class Batch(Protocol):
    """A batch of samples, as a loader collates them."""

    @property
    def image(self) -> Tensor: ...
    @property
    def mask(self) -> Tensor: ...
    @property
    def defect(self) -> Sequence[str]: ...
    @property
    def name(self) -> Sequence[str]: ...


@dataclass(frozen=True)
class Results:
    """Hold a detector's figures on one category; one that is not defined is None, and ``reasons`` says why.

    Attributes:
        image_auroc: AUROC of the images' scores, the maxima of their maps.
        pixel_auroc, pro: AUROC and PRO of the maps at the size at which the network saw the pictures; PRO up to a
            false alarm rate of 0.3.
        image_f1, pixel_f1: Largest F1 of any threshold. It is chosen with the truth: an oracle (best-case) value.
        defects: image_auroc and pixel_auroc of each kind of defect against the good pictures.
        reasons: Why a figure is not defined, by its name.
        names, kinds, scores: Name, kind and score of each image; kinds are "good" or the defect's name.
        unseen: Names of defective images whose defect lies outside the frame that the network sees.
    """

    image_auroc: float | None
    pixel_auroc: float | None
    pro: float | None
    image_f1: float | None
    pixel_f1: float | None
    defects: dict[str, dict[str, float | None]]
    reasons: dict[str, str]
    names: tuple[str, ...]
    kinds: tuple[str, ...]
    scores: tuple[float, ...]
    unseen: tuple[str, ...] = ()


def evaluate(
    detector: Detector,
    data: Dataset | Iterable[Batch],
    *,
    batch: int = 16,
    device: torch.device | str = "cpu",
    progress: bool = False,
    each: Callable[[Batch, Float[Tensor, "n h w"]], None] | None = None,
) -> Results:
    """Measure a detector on a test set, at the resolution of the preprocessed images.

    Images go through one batch at a time; their maps are kept (4 bytes a pixel) until all are there.

    >>> class Brightness:
    ...     def anomaly_maps(self, images):
    ...         return images.mean(1)
    >>> images = torch.tensor([1.0, 2.0]).view(2, 1, 1, 1).expand(2, 3, 4, 4)
    >>> batch = Sample(images, images[:, 0] > 1, ["good", "scratch"], ["a", "b"])
    >>> evaluate(Brightness(), [batch]).pixel_auroc
    1.0

    Args:
        detector: Detector whose anomaly maps have the images' size.
        data: Data set made with ``preprocess=`` (`MVTecAD`, `Inspection`), or a loader of its batches.
        batch: Number of images at a time, where data is a data set.
        device: Device on which the detector wants its images.
        progress: Whether to show a progress bar.
        each: Function that is called with every batch and its maps.

    Raises:
        ValueError: if there are no images, they are not preprocessed, or maps are not finite or not of their size.
        TypeError: if maps are no tensor.
    """
    names: list[str] = []
    kinds: list[str] = []
    masks: list[np.ndarray] = []
    maps: list[np.ndarray] = []
    if isinstance(data, Dataset):
        total, groups = -(-length_hint(data) // batch), _batches(data, batch)
    else:
        total, groups = length_hint(data) or None, data
    for group in tqdm(groups, total=total, disable=not progress, desc="scoring", unit="batch"):
        found = _maps(detector, group, device)
        names += group.name
        kinds += group.defect
        masks += list(group.mask.numpy())
        maps += list(found.numpy())
        if each is not None:
            each(group, found)
    if not names:
        raise ValueError("there are no images to score: the data set is empty")
    return _figures(names, kinds, masks, maps)


def _maps(detector: Detector, group: Batch, device: torch.device | str) -> Float[Tensor, "n h w"]:
    """Compute the maps of a batch on the processor, and check them."""
    if not group.image.is_floating_point():
        raise ValueError("the images are not preprocessed: make the data set with preprocess=network.preprocess")
    found = detector.anomaly_maps(group.image.to(device))
    if not isinstance(found, Tensor):
        raise TypeError(f"anomaly_maps gives a {type(found).__name__}, expected one tensor (n, height, width)")
    found = found.detach().float().cpu()
    expected = (len(group.image), *group.image.shape[2:])
    for what, shape in (("maps", found.shape), ("masks", group.mask.shape)):
        if shape != expected and 0 not in shape[1:]:
            raise ValueError(f"{what} {tuple(shape)} for images {tuple(group.image.shape)}: expected {expected}")
    if not torch.isfinite(found).all():
        raise ValueError(f"among {', '.join(group.name)} is a map with values that are NaN or infinite")
    return found


def _batches(data: Dataset, batch: int) -> Iterator[Batch]:
    """Yield batches of images of one size."""
    waiting: list[Sample] = []
    for i in range(length_hint(data)):
        sample = data[i]
        if waiting and (len(waiting) == batch or sample.image.shape != waiting[0].image.shape):
            yield default_collate(waiting)
            waiting = []
        waiting.append(sample)
    if waiting:
        yield default_collate(waiting)


def _figures(names: list[str], kinds: list[str], masks: list[np.ndarray], maps: list[np.ndarray]) -> Results:
    reasons: dict[str, str] = {}

    def figure(name: str, metric: Callable[[], float]) -> float | None:
        try:
            return metric()
        except ValueError as error:  # a class is absent, or the masks are
            reasons[name] = str(error)
            return None

    def pixels(some: Sequence[int]) -> list[np.ndarray]:
        return [np.concatenate([each[i].ravel() for i in some]) for each in (_known(masks), maps)]

    labels, scores = np.array(kinds) != GOOD, np.array([heat.max() for heat in maps])
    defects = {}
    for defect in dict.fromkeys(kind for kind in kinds if kind != GOOD):
        some = [i for i, kind in enumerate(kinds) if kind in (GOOD, defect)]
        defects[defect] = {
            "image_auroc": figure(f"image_auroc of {defect}", lambda s=some: auroc(labels[s], scores[s])),
            "pixel_auroc": figure(f"pixel_auroc of {defect}", lambda s=some: auroc(*pixels(s))),
        }
    every = range(len(names))
    return Results(
        image_auroc=figure("image_auroc", lambda: auroc(labels, scores)),
        pixel_auroc=figure("pixel_auroc", lambda: auroc(*pixels(every))),
        pro=figure("pro", lambda: aupro(_known(masks), maps)),
        image_f1=figure("image_f1", lambda: f1_max(labels, scores)[0]),
        pixel_f1=figure("pixel_f1", lambda: f1_max(*pixels(every))[0]),
        defects=defects,
        reasons=reasons,
        names=tuple(names),
        kinds=tuple(kinds),
        scores=tuple(scores.tolist()),
        unseen=tuple(names[i] for i in np.flatnonzero(labels) if masks[i].size and not masks[i].any()),
    )


def _known(masks: list[np.ndarray]) -> list[np.ndarray]:
    if not all(mask.size for mask in masks):
        raise ValueError("the masks of the defects are unknown: there is no ground_truth")
    return masks
