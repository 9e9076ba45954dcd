"""Projection ("push"): each prototype becomes the nearest training patch of its own class (Section 2.2, stage 2).

It takes one pass over the images, in eval mode: distances (B, p, h, w), the smallest of each image, and the best so
far. Then the images found are embedded again, each by itself, so that a prototype does not depend on the other images
of its batch.
"""

import warnings
from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor
from torch.utils.data import DataLoader, SequentialSampler

from xailab import fingerprints
from xailab.hooks import eval_mode
from xailab.protopnet.geometry import size_of
from xailab.protopnet.network import Labels, ProtoPNet, check_images, check_labels, nearest_cells, of_a_protopnet
from xailab.protopnet.provenance import Provenance
from xailab.receptive_field import receptive_field


class Collapse(UserWarning):
    """All prototypes of a class became one and the same patch."""


class Nearest(NamedTuple):
    """The nearest cell of each image to each prototype.

    Attributes:
        distances: Squared distances to these cells.
        cells: The (row, column) of these cells.
        labels: Classes of the images.
    """

    distances: Float[Tensor, "n p"]
    cells: Int[Tensor, "n p 2"]
    labels: Int[Tensor, "n"]


class Best(NamedTuple):
    """The nearest own-class patch of each prototype, among the images seen so far.

    Attributes:
        distances: Squared distances; infinite where the class had no image.
        cells: The (row, column) of the patches.
        names: Numbers of the images.
        images: The images.
    """

    distances: Float[Tensor, "p"]
    cells: Int[Tensor, "p 2"]
    names: Int[Tensor, "p"]
    images: Float[Tensor, "p c H W"]


@of_a_protopnet
@torch.no_grad()
def project(
    model: ProtoPNet,
    data: Float[Tensor, "n c H W"] | DataLoader,
    labels: Labels | None = None,
    *,
    ids: Integer[Tensor, "_n"] | None = None,
    batch: int = 64,
) -> Provenance:
    """Project each prototype to the nearest latent patch of its own class, and note where it comes from.

    >>> from xailab.protopnet import SmallFeatures
    >>> model = ProtoPNet(SmallFeatures(), 1, dimensions=8)
    >>> project(model, torch.rand(4, 1, 64, 64), [0, 0, 1, 1]).labels
    tensor([0, 1])

    Args:
        model: A network; its prototypes are replaced, while weights, modes and statistics stay.
        data: All training images, unaugmented, pixel values from 0 to 1; or a loader that gives (images, labels), in
            the order of its data set.
        labels: Class numbers of the images, of any integer type; None with a loader.
        ids: Numbers of the images; if None, their places in the data.
        batch: Number of images in a forward pass; the outcome does not depend on it.

    Returns:
        The new ``model.provenance``.

    Raises:
        ValueError: if images are not from 0 to 1, or of different sizes, a class has none, there are more or fewer ids
            than images, or the loader shuffles or augments.
        TypeError: if labels are not integers.
    """
    with eval_mode(model):
        best = _search(model, _batches(model, data, labels, batch), ids)
        if best is None or not torch.isfinite(best.distances).all():
            empty = slice(None) if best is None else ~torch.isfinite(best.distances)
            missing = sorted({model.classes[int(k)] for k in model.prototype_classes[empty]})
            raise ValueError(f"no training image of class {', '.join(missing)}: its prototypes have nothing to become")
        if isinstance(data, DataLoader) and ids is None:
            _check_again(data, best)
        vectors = torch.cat([model.embed(image[None]) for image in best.images])
    _warn_of_collapse(model, best.names, best.cells)
    each = torch.arange(len(vectors))
    model.prototypes.copy_(vectors[each, :, best.cells[:, 0], best.cells[:, 1]])
    model.provenance = Provenance(
        images=best.images.cpu(),
        ids=best.names,
        labels=model.prototype_classes.clone().cpu(),
        cells=best.cells.cpu(),
        moved=best.distances.cpu(),
        maps=model.distance_to_similarity(model.distances(vectors))[each, each].cpu(),
        field=_field(model, size_of(best.images)),
        embedding=fingerprints.fingerprint(model.embedding()),
    )
    return model.provenance


@of_a_protopnet
@torch.no_grad()
def nearest(model: ProtoPNet, images: Float[Tensor, "n c H W"], labels: Labels, *, batch: int = 64) -> Nearest:
    """Find the nearest cell of each image to each prototype, whatever their classes, in eval mode."""
    parts = []
    with eval_mode(model):
        for some, classes in _batches(model, images, labels, batch):
            parts.append(_nearest(model, some, classes))
    return Nearest(*(torch.cat(each) for each in zip(*parts, strict=True)))


@of_a_protopnet
def check_projected(model: ProtoPNet) -> Provenance:
    """Return the provenance of a network whose prototypes are training patches.

    Raises:
        ValueError: if they were never projected, or anything that decides embeddings changed since.
    """
    if model.provenance is None:
        raise ValueError(
            "the prototypes are not projected, so that there is no training patch to show: call project(model, images, "
            "labels) with the training images first"
        )
    differs = fingerprints.difference(model.provenance.embedding, model.embedding())
    if differs is not None:
        raise ValueError(
            f"the prototypes are no longer their training patches, for the network changed since: {differs}; call "
            "project(model, images, labels) again"
        )
    return model.provenance


def _warn_of_collapse(model: ProtoPNet, names: Tensor, cells: Tensor) -> None:
    """Warn of classes with several prototypes that all became one patch."""
    for owner in model.prototype_classes.unique().tolist():
        own = (model.prototype_classes == owner).cpu()
        places = torch.cat([names[own][:, None], cells.cpu()[own]], 1)
        patches = set(map(tuple, places.tolist()))
        if int(own.sum()) > 1 == len(patches):
            name, *cell = patches.pop()
            warnings.warn(
                f"all {int(own.sum())} prototypes of class {model.classes[owner]} became one patch, image {name} at "
                f"cell {tuple(cell)}: train with Settings(prototype_to_patch=0.2, diversity=0.4), or less separation",
                Collapse,
                stacklevel=5,
            )


def _field(model: ProtoPNet, size: tuple[int, int]) -> tuple[int, int, int] | None:
    """Compute the receptive field of a latent cell; None where it is not known, or not one square everywhere."""
    try:
        field = receptive_field(model, "add_on", size, model.channels, everywhere=True)
    except ValueError:
        return None
    return field.size, field.stride, field.start


def _batches(
    model: ProtoPNet, data: Tensor | DataLoader, labels: Labels | None, batch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images and labels of a tensor or a loader, checked, on the network's device."""
    device = model.prototypes.device
    if isinstance(data, DataLoader):
        if labels is not None:
            raise ValueError("a loader brings its own labels: leave out labels=")
        if not isinstance(data.sampler, SequentialSampler):
            raise ValueError(
                f"the loader's order is that of a {type(data.sampler).__name__}: its images lose their identities; "
                "make one with shuffle=False"
            )
        pairs = _pairs(data)
    else:
        if labels is None:
            raise ValueError("a tensor of images needs labels=")
        check_images(model, data)
        labels = check_labels(model, data, labels)
        pairs = zip(data.split(batch), labels.split(batch), strict=True)
    size = None
    for images, classes in pairs:
        check_images(model, images)
        if size not in (None, images.shape[2:]):
            now, before = ("{} x {}".format(*each) for each in (images.shape[2:], size))
            raise ValueError(f"images of {now} pixels, those before of {before}: resize or crop all to one size")
        size = images.shape[2:]
        yield images.to(device), check_labels(model, images, classes).to(device)


def _pairs(loader: DataLoader) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images and labels of each batch of a loader."""
    batches = iter(loader)
    while True:
        try:
            batch = next(batches, None)
        except RuntimeError as error:
            if "equal size" not in str(error):
                raise
            reason = str(error).splitlines()[-1]
            raise ValueError(f"images of one batch differ in size ({reason}): resize or crop all to one size") from None
        if batch is None:
            return
        if not isinstance(batch, (tuple, list)) or len(batch) < 2 or not isinstance(batch[0], Tensor):
            raise ValueError(f"the loader gives a {type(batch).__name__}, expected (images, labels)")
        yield batch[0], batch[1]


def _nearest(model: ProtoPNet, images: Tensor, classes: Tensor) -> Nearest:
    return Nearest(*nearest_cells(model.distances(model.embed(images))), classes)


def _search(model: ProtoPNet, batches: Iterator[tuple[Tensor, Tensor]], ids: Tensor | None) -> Best | None:
    """Find the nearest own-class patch of each prototype; None if there is no batch."""
    best, start = None, 0
    for images, classes in batches:
        end = start + len(images)
        names = torch.arange(start, end) if ids is None else ids[start:end].long()
        if ids is not None and len(names) != len(images):
            raise ValueError(f"{len(ids)} ids for more than {start} images: expected one for each")
        here = _best(model, images, classes, names)
        best, start = here if best is None else _nearer(best, here), end
    if ids is not None and len(ids) != start:
        raise ValueError(f"{len(ids)} ids for {start} images: expected one for each")
    return best


def _best(model: ProtoPNet, images: Tensor, classes: Tensor, names: Tensor) -> Best:
    """Find the nearest own-class patch of each prototype in a batch; of equal ones, that with the lower number."""
    found = _nearest(model, images, classes)
    order = names.argsort().to(images.device)
    distances, place = found.distances.masked_fill(model.foreign(classes), torch.inf)[order].min(0)
    which = order[place]
    cells = found.cells[which, torch.arange(len(which), device=which.device)]
    return Best(distances, cells, names[which.cpu()], images[which])


def _nearer(one: Best, other: Best) -> Best:
    """Take for each prototype the nearer of two patches; of equal ones, that with the lower number."""
    lower = (other.names < one.names).to(one.distances.device)
    wins = (other.distances < one.distances) | ((other.distances == one.distances) & lower)
    return Best(
        torch.minimum(other.distances, one.distances),
        torch.where(wins[:, None], other.cells, one.cells),
        torch.where(wins.cpu(), other.names, one.names),
        torch.where(wins[:, None, None, None], other.images, one.images),
    )


def _check_again(loader: DataLoader, best: Best) -> None:
    """Read the images found once more: a data set that augments gives another image each time."""
    for name, image in zip(best.names.tolist(), best.images, strict=True):
        if not torch.equal(torch.as_tensor(loader.dataset[name][0]).to(image), image):
            raise ValueError(
                f"image {name} of the data set differs from one reading to the next: project on unaugmented images, "
                "lest a prototype shows a patch that nobody can find"
            )
