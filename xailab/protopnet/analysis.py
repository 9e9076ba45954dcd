"""Local analysis: why this image got this class. Global analysis: what each prototype stands for. Pruning.

All of it for whole batches. An analysis is refused where it could not be true: when the prototypes were never
projected, or the network changed since.
"""

import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from xailab.hooks import evaluating
from xailab.protopnet import geometry
from xailab.protopnet.network import Labels, Output, ProtoPNet, check_images, of_a_protopnet
from xailab.protopnet.projection import check_projected, nearest
from xailab.protopnet.provenance import Provenance
from xailab.targets import Target, resolve

PERCENTILE = 95.0  # of an upsampled map, from which on a pixel is within the box


@dataclass(frozen=True)
class Origin:
    """The training patches that the prototypes are.

    Attributes:
        provenance: Images, ids, classes, cells and maps.
    """

    provenance: Provenance

    @cached_property
    def large(self) -> Float[Tensor, "p H W"]:
        """Each prototype's similarity to its own image, at the image's size (bicubic)."""
        return geometry.upsampled(self.provenance.maps[None], tuple(self.provenance.images.shape[2:]))[0]

    @cached_property
    def boxes(self) -> Int[Tensor, "p 4"]:
        """Around the pixels of ``large`` from its 95th percentile on: (left, top, right, bottom), ends exclusive."""
        return geometry.hot_boxes(self.large[None], PERCENTILE)[0]

    @cached_property
    def receptive_boxes(self) -> Int[Tensor, "p 4"]:
        """What the prototype's cell can see of its image."""
        return _receptive(self.provenance, self.provenance.cells, tuple(self.provenance.images.shape[2:]))


@dataclass(frozen=True)
class LocalAnalysis:
    """Why images got their classes. Boxes are (left, top, right, bottom) in pixels, ends exclusive.

    Attributes:
        images: That were explained.
        classes: Names of the classes.
        target: The class explained, of each image.
        output: Logits, similarities and maps of all prototypes.
        weights: Of the last layer.
        prototypes: The k most similar prototypes of each image, the most similar first.
        large: Their maps at the image's size (bicubic).
        boxes: Around the pixels of ``large`` from its 95th percentile on.
        receptive_boxes: What the most similar cell can see.
        origin: Where all prototypes come from.
    """

    images: Float[Tensor, "n c H W"]
    classes: tuple[str, ...]
    target: Int[Tensor, "n"]
    output: Output
    weights: Float[Tensor, "classes p"]
    prototypes: Int[Tensor, "n k"]
    large: Float[Tensor, "n k H W"]
    boxes: Int[Tensor, "n k 4"]
    receptive_boxes: Int[Tensor, "n k 4"]
    origin: Origin

    def __len__(self) -> int:
        return len(self.images)

    @property
    def predicted(self) -> Int[Tensor, "n"]:
        """The class with the highest logit."""
        return self.output.logits.argmax(1)

    @property
    def similarities(self) -> Float[Tensor, "n k"]:
        """Of the prototypes listed."""
        return self.output.similarities.gather(1, self.prototypes)

    @property
    def cells(self) -> Int[Tensor, "n k 2"]:
        """The most similar cell, (row, column), of the prototypes listed."""
        return _pick(self.output.cells, self.prototypes)

    @property
    def maps(self) -> Float[Tensor, "n k h w"]:
        """Similarity of the prototypes listed to each cell."""
        return _pick(self.output.maps, self.prototypes)

    @cached_property
    def contributions(self) -> Float[Tensor, "n p"]:
        """What each of all prototypes adds to the target's logit: weight times similarity. They sum to the logit."""
        return self.weights[self.target] * self.output.similarities

    def write(self, folder: str | Path, *, epoch: int = 0) -> Path:
        """Write the files of the authors' analysis; ``xailab.protopnet.pictures.write`` says which.

        Raises:
            FileNotFoundError: if the folder that is to hold the folder does not exist.
        """
        from xailab.protopnet.pictures import write

        return write(self, folder, epoch=epoch)


class GlobalAnalysis(NamedTuple):
    """What is most similar to each prototype: its k nearest patches, one an image, the nearest first.

    Attributes:
        ids: Which images.
        similarities: Of these patches.
        cells: Where they lie, (row, column).
        labels: Of the images.
        boxes: Around the 95th percentile of the prototype's map, (left, top, right, bottom).
        receptive_boxes: What the cells can see.
        own: Whether an image is of the prototype's class.
    """

    ids: Int[Tensor, "p k"]
    similarities: Float[Tensor, "p k"]
    cells: Int[Tensor, "p k 2"]
    labels: Int[Tensor, "p k"]
    boxes: Int[Tensor, "p k 4"]
    receptive_boxes: Int[Tensor, "p k 4"]
    own: Bool[Tensor, "p k"]


class Pruned(NamedTuple):
    """A network with fewer prototypes.

    Attributes:
        model: A copy; fit its last layer again.
        kept: Which prototypes of the old network it has.
        dropped: Which it has not.
        own: How many of the nearest training patches were of each old prototype's class.
    """

    model: ProtoPNet
    kept: Int[Tensor, "kept"]
    dropped: Int[Tensor, "dropped"]
    own: Int[Tensor, "p"]


@of_a_protopnet
@torch.no_grad()
def local_analysis(
    model: ProtoPNet,
    images: Float[Tensor, "n c H W"],
    *,
    top: int | None = None,
    target: Target = None,
) -> LocalAnalysis:
    """Explain images: which prototypes they look like, where, and what each gives to the logit.

    Args:
        model: A projected network; it runs in eval mode and is left as it was.
        images: Pixel values from 0 to 1.
        top: How many prototypes to list for each image; 5, or all if there are fewer.
        target: The class explained; each image's own prediction if None.

    Raises:
        ValueError: if the prototypes are not projected or the network changed since, the images are not what it takes,
            or there are fewer prototypes than asked for.
    """
    provenance = check_projected(model)
    check_images(model, images)
    top = min(5, len(model.prototypes)) if top is None else top
    if not 1 <= top <= len(model.prototypes):
        raise ValueError(f"top={top}: the network has {len(model.prototypes)} prototypes, expected 1 to that")
    images = images.to(model.prototypes.device)
    size = tuple(images.shape[2:])
    with evaluating(model):
        output = model.look(images)
    prototypes = output.similarities.sort(dim=1, descending=True, stable=True).indices[:, :top]
    large = geometry.upsampled(_pick(output.maps, prototypes), size)
    return LocalAnalysis(
        images=images,
        classes=model.classes,
        target=resolve(target, output.logits),
        output=output,
        weights=model.last_layer.weight.detach().clone(),
        prototypes=prototypes,
        large=large,
        boxes=geometry.hot_boxes(large, PERCENTILE),
        receptive_boxes=_receptive(provenance, _pick(output.cells, prototypes), size),
        origin=Origin(provenance),
    )


@of_a_protopnet
@torch.no_grad()
def global_analysis(
    model: ProtoPNet, images: Float[Tensor, "n c H W"], labels: Labels, *, k: int = 6, batch: int = 64
) -> GlobalAnalysis:
    """Find the k images with the patches nearest to each prototype, whatever their class.

    Args:
        model: A projected network; it runs in eval mode and is left as it was.
        images, labels: Training images, to learn what a prototype stands for; or test images, to see whether it does.
        k: How many.
        batch: Images a forward pass.

    Raises:
        ValueError: if the prototypes are not projected or the network changed since, or there are fewer than k images.
    """
    provenance = check_projected(model)
    if not 1 <= k <= len(images):
        raise ValueError(f"k={k} nearest of {len(images)} images: expected 1 to that")
    found = nearest(model, images, labels, batch=batch)
    order = found.distances.sort(dim=0, stable=True).indices[:k].mT
    at = torch.arange(len(order), device=order.device)[:, None]
    cells = found.cells[order, at]
    size = tuple(images.shape[2:])
    with evaluating(model):
        maps = [model.look(images[ids.cpu()].to(order.device)).maps[:, j] for j, ids in enumerate(order)]
    large = geometry.upsampled(torch.stack(maps), size)
    of = found.labels[order]
    return GlobalAnalysis(
        ids=order,
        similarities=model.similar(found.distances[order, at]),
        cells=cells,
        labels=of,
        boxes=geometry.hot_boxes(large, PERCENTILE),
        receptive_boxes=_receptive(provenance, cells, size),
        own=of == model.prototype_classes[:, None],
    )


@of_a_protopnet
def prune(
    model: ProtoPNet,
    images: Float[Tensor, "n c H W"],
    labels: Labels,
    *,
    k: int = 6,
    least: int = 3,
    batch: int = 64,
) -> Pruned:
    """Drop the prototypes of which fewer than ``least`` of the k nearest training patches are of their class.

    Args:
        model: A projected network; it stays as it is.
        images, labels: Training images.
        k, least: The paper: 6 and 3 (supplement, Section S8).
        batch: Images a forward pass.

    Raises:
        ValueError: if the prototypes are not projected or the network changed since, or a class would lose them all
            (without a bias, nothing could speak for it any more: what is the absence of something finds itself in all
            images, and is told by what others lack).
    """
    check_projected(model)
    own = global_analysis(model, images, labels, k=k, batch=batch).own.sum(1)
    kept, dropped = (own >= least).nonzero().flatten(), (own < least).nonzero().flatten()
    lost = set(model.prototype_classes.tolist()) - set(model.prototype_classes[kept].tolist())
    if lost:
        names = ", ".join(model.classes[owner] for owner in sorted(lost))
        raise ValueError(
            f"class {names} would lose all its prototypes: of the {k} nearest patches of each, {own.tolist()} are "
            "of its class; ask for a smaller least, or train the network longer"
        )
    return Pruned(without(model, dropped), kept, dropped, own)


@of_a_protopnet
def without(model: ProtoPNet, dropped: Int[Tensor, "dropped"]) -> ProtoPNet:
    """A copy of a network without some prototypes: the same logits as with their columns of the last layer at 0.

    Raises:
        ValueError: if no prototype would be left.
    """
    keep = torch.ones(len(model.prototypes), dtype=torch.bool)
    keep[dropped.cpu()] = False
    if not keep.any():
        raise ValueError("no prototype would be left: ask for less, or train the network longer")
    small = copy.deepcopy(model)
    small.prototypes = nn.Parameter(model.prototypes.detach()[keep].clone())
    small.register_buffer("prototype_classes", model.prototype_classes[keep].clone())
    last = nn.Linear(int(keep.sum()), len(model.classes), bias=False).to(model.last_layer.weight)
    last.weight = nn.Parameter(model.last_layer.weight.detach()[:, keep].clone())
    small.last_layer = last
    if model.provenance is not None:
        from xailab import fingerprints

        origin = model.provenance
        same = fingerprints.difference(origin.embedding, model.embedding()) is None
        kept = {name: each[keep] for name, each in origin.tensors().items()}
        small.provenance = (
            origin._replace(**kept, embedding=fingerprints.fingerprint(small.embedding())) if same else None
        )
    return small


def _receptive(provenance: Provenance, cells: Int[Tensor, "*n 2"], size: tuple[int, int]) -> Int[Tensor, "*n 4"]:
    """What cells can see; all of the image where that has no bound."""
    if provenance.field is None:
        return torch.tensor([0, 0, size[1], size[0]]).expand(*cells.shape[:-1], 4).to(cells)
    return geometry.Field(*provenance.field).boxes(cells, size)


def _pick(values: Tensor, prototypes: Int[Tensor, "n k"]) -> Tensor:
    """Of values (n, p, ...), those of the prototypes listed."""
    return values[torch.arange(len(values), device=values.device)[:, None], prototypes]
