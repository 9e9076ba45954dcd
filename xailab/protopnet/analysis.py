"""Local analysis: why this image got this class. Global analysis: what each prototype stands for. Pruning.

Each function works on whole batches. It refuses a network whose prototypes were never projected, or which changed since
the projection: its prototypes are not training patches.
"""

import copy
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from xailab import fingerprints
from xailab.hooks import eval_mode
from xailab.protopnet import geometry
from xailab.protopnet.geometry import size_of
from xailab.protopnet.network import Labels, Output, ProtoPNet, check_images, of_a_protopnet
from xailab.protopnet.projection import check_projected, nearest
from xailab.protopnet.provenance import Provenance
from xailab.receptive_field import ReceptiveField
from xailab.targets import Target, resolve

PERCENTILE = 95.0  # of an upsampled map; the box holds all pixels that reach it


@dataclass(frozen=True)
class Origin:
    """The training patches that the prototypes are, with boxes in their images.

    Attributes:
        provenance: Images, ids, classes, cells and maps.
    """

    provenance: Provenance

    @cached_property
    def large(self) -> Float[Tensor, "p H W"]:
        """Each prototype's similarity map of its own image, upsampled to the image's size (bicubic)."""
        return geometry.upsampled(self.provenance.maps[None], size_of(self.provenance.images))[0]

    @cached_property
    def boxes(self) -> Int[Tensor, "p 4"]:
        """Boxes around the pixels of ``large`` that reach its 95th percentile: (left, top, right, bottom)."""
        return geometry.hot_boxes(self.large[None], PERCENTILE)[0]

    @cached_property
    def receptive_boxes(self) -> Int[Tensor, "p 4"]:
        """Receptive fields of the prototypes' cells, as boxes in their images."""
        return _receptive(self.provenance, self.provenance.cells, size_of(self.provenance.images))


@dataclass(frozen=True)
class LocalAnalysis:
    """Why images got their classes. Boxes are (left, top, right, bottom) in pixels, right and bottom exclusive.

    Attributes:
        images: The images that were explained.
        classes: Names of the classes.
        target: The class explained, of each image.
        output: Logits, similarities and maps of all prototypes.
        weights: Weights of the last layer.
        prototypes: The k most similar prototypes of each image, the most similar first.
        large: Their maps, upsampled to the image's size (bicubic).
        boxes: Boxes around the pixels of ``large`` that reach its 95th percentile.
        receptive_boxes: Receptive fields of the most similar cells.
        origin: The training patches that all prototypes are.
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
        """Similarities of the prototypes listed."""
        return self.output.similarities.gather(1, self.prototypes)

    @property
    def cells(self) -> Int[Tensor, "n k 2"]:
        """Most similar cell, (row, column), of each prototype listed."""
        return _pick(self.output.cells, self.prototypes)

    @property
    def maps(self) -> Float[Tensor, "n k h w"]:
        """Similarity of each prototype listed to each cell."""
        return _pick(self.output.maps, self.prototypes)

    @cached_property
    def contributions(self) -> Float[Tensor, "n p"]:
        """Contribution of each prototype to the target's logit, weight times similarity. They sum to the logit."""
        return self.weights[self.target] * self.output.similarities


class GlobalAnalysis(NamedTuple):
    """The k images with the patches nearest to each prototype, the nearest first.

    Attributes:
        ids: Indices of these images.
        similarities: Similarities of their nearest patches.
        cells: The (row, column) of these patches.
        labels: Classes of the images.
        boxes: Boxes around the pixels of the prototype's upsampled map that reach its 95th percentile.
        receptive_boxes: Receptive fields of the cells.
        of_own_class: Whether the image is of the prototype's class.
    """

    ids: Int[Tensor, "p k"]
    similarities: Float[Tensor, "p k"]
    cells: Int[Tensor, "p k 2"]
    labels: Int[Tensor, "p k"]
    boxes: Int[Tensor, "p k 4"]
    receptive_boxes: Int[Tensor, "p k 4"]
    of_own_class: Bool[Tensor, "p k"]


class Pruned(NamedTuple):
    """A network with fewer prototypes.

    Attributes:
        model: A copy of the network; fit its last layer again.
        kept: Indices of the prototypes that it still has.
        dropped: Indices of those that it has not.
        of_own_class: Number of nearest training patches that were of each old prototype's own class.
    """

    model: ProtoPNet
    kept: Int[Tensor, "kept"]
    dropped: Int[Tensor, "dropped"]
    of_own_class: Int[Tensor, "p"]


@of_a_protopnet
@torch.no_grad()
def local_analysis(
    model: ProtoPNet,
    images: Float[Tensor, "n c H W"],
    *,
    top: int | None = None,
    target: Target = None,
) -> LocalAnalysis:
    """Explain images: which prototypes they look like, where, and what each contributes to the logit.

    >>> from xailab.protopnet import shipped
    >>> analysis = local_analysis(shipped(), torch.rand(2, 1, 96, 96), top=3)
    >>> analysis.prototypes.shape, analysis.contributions.shape  # three are listed; all ten contribute
    (torch.Size([2, 3]), torch.Size([2, 10]))

    Args:
        model: A projected network; it runs in eval mode and is left as it was.
        images: Pixel values from 0 to 1.
        top: Number of prototypes to list for each image; 5, or all if there are fewer.
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
    size = size_of(images)
    with eval_mode(model):
        output = model.forward_details(images)
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

    >>> from xailab.protopnet import shipped
    >>> found = global_analysis(shipped(), torch.rand(8, 1, 96, 96), torch.arange(8) % 2, k=3)
    >>> found.ids.shape, found.of_own_class.shape
    (torch.Size([10, 3]), torch.Size([10, 3]))

    Args:
        model: A projected network; it runs in eval mode and is left as it was.
        images: Training images, to see what a prototype stands for; or test images, to see whether it still does.
        labels: Their classes.
        k: Number of images for each prototype.
        batch: Number of images in a forward pass.

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
    size = size_of(images)
    with eval_mode(model):
        maps = [model.forward_details(images[ids.cpu()].to(order.device)).maps[:, j] for j, ids in enumerate(order)]
    large = geometry.upsampled(torch.stack(maps), size)
    labels_found = found.labels[order]
    return GlobalAnalysis(
        ids=order,
        similarities=model.distance_to_similarity(found.distances[order, at]),
        cells=cells,
        labels=labels_found,
        boxes=geometry.hot_boxes(large, PERCENTILE),
        receptive_boxes=_receptive(provenance, cells, size),
        of_own_class=labels_found == model.prototype_classes[:, None],
    )


@of_a_protopnet
def prune(
    model: ProtoPNet,
    images: Float[Tensor, "n c H W"],
    labels: Labels,
    *,
    k: int = 6,
    min_same_class: int = 3,
    batch: int = 64,
) -> Pruned:
    """Drop the prototypes of which too few of the nearest training patches are of their own class.

    >>> from xailab.protopnet import shipped
    >>> prune(shipped(), torch.rand(8, 1, 96, 96), torch.arange(8) % 2, k=4, min_same_class=0).dropped.tolist()
    []

    Args:
        model: A projected network; it stays as it is.
        images, labels: Training images and their classes.
        k: Number of nearest patches (the paper, supplement S8: 6).
        min_same_class: How many of them must be of the prototype's class (the paper's tau: 3).
        batch: Number of images in a forward pass.

    Raises:
        ValueError: if the prototypes are not projected or the network changed since, or a class would lose them all:
            the last layer has no bias, so a class without prototypes could never get a positive logit.
    """
    check_projected(model)
    same = global_analysis(model, images, labels, k=k, batch=batch).of_own_class.sum(1)
    keep = same >= min_same_class
    kept, dropped = keep.nonzero().flatten(), (~keep).nonzero().flatten()
    lost = set(model.prototype_classes.tolist()) - set(model.prototype_classes[kept].tolist())
    if lost:
        names = ", ".join(model.classes[owner] for owner in sorted(lost))
        raise ValueError(
            f"class {names} would lose all its prototypes: of the {k} nearest patches of each, {same.tolist()} are "
            "of its class; ask for a smaller min_same_class, or train the network longer"
        )
    return Pruned(drop_prototypes(model, dropped), kept, dropped, same)


@of_a_protopnet
def drop_prototypes(model: ProtoPNet, dropped: Int[Tensor, "dropped"]) -> ProtoPNet:
    """Copy a network without some prototypes: its logits are those with their columns of the last layer at 0.

    Raises:
        ValueError: if no prototype would be left.
    """
    keep = torch.ones(len(model.prototypes), dtype=torch.bool)
    keep[dropped.cpu()] = False
    if not keep.any():
        raise ValueError("no prototype would be left: ask for less, or train the network longer")
    small = copy.deepcopy(model)
    small.prototypes = nn.Parameter(model.prototypes.detach()[keep].clone())
    small.prototype_classes = model.prototype_classes[keep].clone()
    last = nn.Linear(int(keep.sum()), len(model.classes), bias=False).to(model.last_layer.weight)
    last.weight = nn.Parameter(model.last_layer.weight.detach()[:, keep].clone())
    small.last_layer = last
    origin = model.provenance
    if origin is not None:
        same = fingerprints.difference(origin.embedding, model.embedding()) is None
        kept = {name: each[keep] for name, each in origin.tensors().items()}
        small.provenance = (
            origin._replace(**kept, embedding=fingerprints.fingerprint(small.embedding())) if same else None
        )
    return small


def _receptive(provenance: Provenance, cells: Int[Tensor, "*n 2"], size: tuple[int, int]) -> Int[Tensor, "*n 4"]:
    """Compute what cells can see; all of the image where that is not known."""
    if provenance.field is None:
        return torch.tensor([0, 0, size[1], size[0]]).expand(*cells.shape[:-1], 4).to(cells)
    return geometry.receptive_boxes(ReceptiveField(*provenance.field), cells, size)


def _pick(values: Tensor, prototypes: Int[Tensor, "n k"]) -> Tensor:
    """Take from values (n, p, ...) those of the prototypes listed."""
    return values[torch.arange(len(values), device=values.device)[:, None], prototypes]
