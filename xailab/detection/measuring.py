"""A detector's figures on one category: image and pixel AUROC, PRO, F1, and why one of them is missing."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
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
    """What `evaluate` asks of a detector."""

    def anomaly_maps(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n h w"]:
        """Score every pixel; higher is more anomalous."""


@dataclass(frozen=True)
class Results:
    """A detector's figures on one category. What is not defined is None, and ``reasons`` says why.

    Attributes:
        image_auroc: Of the images' scores, the maxima of their maps.
        pixel_auroc, pro: Of the maps at the size at which the network saw the pictures; PRO up to a rate of 0.3.
        image_f1, pixel_f1: The largest F1 of any threshold, chosen with the answers in hand: an oracle's.
        defects: image_auroc and pixel_auroc of each kind of defect against the good pictures.
        reasons: By the name of a figure.
        names, kinds, scores: Of each image; kinds are "good" or the defect's name.
        unseen: Names of defective images whose mask has nothing left in the frame that the network sees.
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
    data: Dataset | Iterable[Sample],
    *,
    batch: int = 16,
    device: torch.device | str = "cpu",
    progress: bool = False,
    each: Callable[[Sample, Float[Tensor, "n h w"]], None] | None = None,
) -> Results:
    """Measure a detector on a test set, at the resolution of the preprocessed images.

    Images go through one batch at a time; their maps are kept (4 bytes a pixel) until all are there.

    Args:
        detector: Gives anomaly maps at the images' size.
        data: A data set made with ``preprocess=`` (`MVTecAD`, `Inspection`), or a loader of its batches.
        batch: Images at a time, where data is a data set.
        device: Where the detector wants its images.
        progress: Show a bar.
        each: Called with every batch and its maps.

    Raises:
        ValueError: if there are no images, they are not preprocessed, or maps are not finite or not of their size.
        TypeError: if maps are no tensor.
    """
    names, kinds, masks, maps = [], [], [], []
    batches = _batches(data, batch) if isinstance(data, Dataset) else data
    for group in tqdm(batches, total=_count(data, batch), disable=not progress, desc="scoring", unit="batch"):
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
        names += group.name
        kinds += group.defect
        masks += list(group.mask.numpy())
        maps += list(found.numpy())
        if each is not None:
            each(group, found)
    if not names:
        raise ValueError("there are no images to score: the data set is empty")
    return _figures(names, kinds, masks, maps)


def _batches(data: Dataset, batch: int) -> Iterator[Sample]:
    """Batches of images of one size."""
    waiting: list[Sample] = []
    for i in range(len(data)):
        sample = data[i]
        if waiting and (len(waiting) == batch or sample.image.shape != waiting[0].image.shape):
            yield default_collate(waiting)
            waiting = []
        waiting.append(sample)
    if waiting:
        yield default_collate(waiting)


def _count(data: Dataset | Iterable[Sample], batch: int) -> int | None:
    if isinstance(data, Dataset):
        return -(-len(data) // batch)
    return len(data) if hasattr(data, "__len__") else None


def _figures(names: list[str], kinds: list[str], masks: list[np.ndarray], maps: list[np.ndarray]) -> Results:
    reasons: dict[str, str] = {}

    def figure(name: str, metric: Callable[[], float]) -> float | None:
        try:
            return metric()
        except ValueError as error:  # a class is absent, or the masks are
            reasons[name] = str(error)

    def pixels(some: Sequence[int]) -> list[np.ndarray]:
        return [np.concatenate([each[i].ravel() for i in some]) for each in (_known(masks), maps)]

    labels, scores = np.array(kinds) != GOOD, np.array([map.max() for map in maps])
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
