"""Projection ("push"): each prototype becomes the nearest training patch of its own class (Section 2.2, stage 2).

One pass over the images, in eval mode: distances (B, p, h, w), the smallest of each image, and the best so far. Then
the winners are embedded again, each image by itself, so that a prototype does not depend on who shared its batch.
"""

import warnings
from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor
from torch.utils.data import DataLoader, SequentialSampler

from xailab import fingerprints
from xailab.hooks import evaluating
from xailab.protopnet.geometry import receptive_field
from xailab.protopnet.network import Labels, ProtoPNet, check_images, check_labels, of_a_protopnet
from xailab.protopnet.provenance import Provenance


class Collapse(UserWarning):
    """All prototypes of a class became one and the same patch."""


class Nearest(NamedTuple):
    """The nearest cell of each image to each prototype.

    Attributes:
        distances: Squared, (images, prototypes).
        cells: (row, column).
        labels: Of the images.
    """

    distances: Float[Tensor, "n p"]
    cells: Int[Tensor, "n p 2"]
    labels: Int[Tensor, "n"]


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
    """Make each prototype the nearest latent patch of its own class, and remember where it comes from.

    Args:
        model: Its prototypes are replaced; weights, modes and statistics stay.
        data: All training images, unaugmented, pixel values from 0 to 1; or a loader that gives (images, labels), in
            the order of its data set.
        labels: Of the images, class numbers of any integer type; none with a loader.
        ids: What to call the images; if None, by their order.
        batch: Images a forward pass; the outcome does not depend on it.

    Returns:
        What ``model.provenance`` is from now on.

    Raises:
        ValueError: if images are not from 0 to 1, or of different sizes, a class has none, there are more or fewer ids
            than images, or the loader shuffles or augments.
        TypeError: if labels are no integers.
    """
    best: list[Tensor] = []
    pictures = None
    with evaluating(model):
        start = 0
        for images, classes in _batches(model, data, labels, batch):
            found = _nearest(model, images, classes)
            name = torch.arange(start, start + len(images)) if ids is None else ids[start : start + len(images)].long()
            if len(name) != len(images):
                raise ValueError(f"{len(ids)} ids for more than {start} images: expected one for each")
            pictures, best = _better(model, found, images, name, pictures, best)
            start += len(images)
        if ids is not None and len(ids) != start:
            raise ValueError(f"{len(ids)} ids for {start} images: expected one for each")
        if pictures is None or not torch.isfinite(best[0]).all():
            missing = sorted({model.classes[int(k)] for k in model.prototype_classes[~torch.isfinite(best[0])]})
            raise ValueError(f"no training image of class {', '.join(missing)}: its prototypes have nothing to become")
        moved, cells, names = best
        if isinstance(data, DataLoader) and ids is None:
            _check_again(data, names, pictures)
        vectors = torch.cat([model.embed(picture[None]) for picture in pictures])
    _warn_of_collapse(model, names, cells)
    each = torch.arange(len(cells))
    model.prototypes.copy_(vectors[each, :, cells[:, 0], cells[:, 1]])
    model.provenance = Provenance(
        images=pictures.cpu(),
        ids=names,
        labels=model.prototype_classes.clone().cpu(),
        cells=cells.cpu(),
        moved=moved.cpu(),
        maps=model.similar(model.distances(vectors))[each, each].cpu(),
        field=_field(model, tuple(pictures.shape[2:])),
        embedding=fingerprints.fingerprint(model.embedding()),
    )
    return model.provenance


@of_a_protopnet
@torch.no_grad()
def nearest(model: ProtoPNet, images: Float[Tensor, "n c H W"], labels: Labels, *, batch: int = 64) -> Nearest:
    """Find the nearest cell of each image to each prototype, whatever their classes, in eval mode."""
    parts = []
    with evaluating(model):
        for some, classes in _batches(model, images, labels, batch):
            parts.append(_nearest(model, some, classes))
    return Nearest(*(torch.cat(each) for each in zip(*parts, strict=True)))


@of_a_protopnet
def check_projected(model: ProtoPNet) -> Provenance:
    """The provenance of a network whose prototypes are training patches.

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
    for owner in model.prototype_classes.unique().tolist():
        own = (model.prototype_classes == owner).cpu()
        places = torch.cat([names[own][:, None], cells.cpu()[own]], 1)
        patches = set(map(tuple, places.tolist()))
        if int(own.sum()) > 1 == len(patches):
            name, *cell = patches.pop()
            warnings.warn(
                f"all {int(own.sum())} prototypes of class {model.classes[owner]} became one patch, image {name} at "
                f"cell {tuple(cell)}: train with Settings(crowding=0.4, anchor=0.2), or less separation",
                Collapse,
                stacklevel=5,
            )


def _field(model: ProtoPNet, size: tuple[int, int]) -> tuple[int, int, int] | None:
    try:
        return tuple(receptive_field(model, size))
    except ValueError:
        return None


def _batches(model: ProtoPNet, data, labels, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
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
    """Images and labels of each batch."""
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
    distances = model.distances(model.embed(images))
    least, cell = distances.flatten(2).min(2)
    columns = distances.shape[3]
    return Nearest(least, torch.stack([cell // columns, cell % columns], 2), classes)


def _better(model: ProtoPNet, found: Nearest, images: Tensor, names: Tensor, pictures, best):
    """The best of own-class patches so far; of equal ones, that of the lower name."""
    foreign = model.prototype_classes != found.labels[:, None]
    order = names.argsort()
    distances = found.distances.masked_fill(foreign, torch.inf)[order]
    least, which = distances.min(0)
    which = order.to(which.device)[which]
    here = [least, found.cells[which, torch.arange(len(least))], names[which.cpu()]]
    if pictures is None:
        return images[which].clone(), here
    wins = (least < best[0]) | ((least == best[0]) & (here[2] < best[2]).to(least.device))
    pictures = torch.where(wins[:, None, None, None], images[which], pictures)
    cells = torch.where(wins[:, None], here[1], best[1])
    return pictures, [torch.minimum(least, best[0]), cells, torch.where(wins.cpu(), here[2], best[2])]


def _check_again(loader: DataLoader, names: Tensor, pictures: Tensor) -> None:
    """Read the winners once more: who augments, gives another image each time."""
    for name, picture in zip(names.tolist(), pictures, strict=True):
        if not torch.equal(torch.as_tensor(loader.dataset[name][0]).to(picture), picture):
            raise ValueError(
                f"image {name} of the data set differs from one reading to the next: project on unaugmented images, "
                "lest a prototype shows a patch that nobody can find"
            )
