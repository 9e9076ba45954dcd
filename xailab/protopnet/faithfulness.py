"""Tests of whether a box is faithful: does it show what the prototype saw?

A latent cell sees its receptive field and nothing else. The box that an analysis draws is another thing: the extent of
the brightest pixels of an upsampled map. Two experiments tell them apart. One keeps only the box, or deletes only the
box, and compares the similarity. The other is an attack: it changes the image a little, outside the box only, and
measures how far the similarity falls (Sacha et al., "Interpretability Benchmark for Evaluating Spatial Misalignment of
Prototypical Parts Explanations", arXiv 2308.08162).
"""

from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from xailab.hooks import check_differentiable, eval_mode
from xailab.protopnet import geometry
from xailab.protopnet.geometry import size_of
from xailab.protopnet.network import Output, ProtoPNet, check_images, of_a_protopnet
from xailab.receptive_field import receptive_field

Kind = Literal["activation", "cell", "receptive field", "gradient", "random"]
KINDS: tuple[Kind, ...] = get_args(Kind)
SHARE = 0.05  # of the pixels: the brightest, around which "activation" and "gradient" lie
MOVED = 0.10  # of the pixels: the brightest, whose overlap says whether a map moved (PLC)


class Occlusion(NamedTuple):
    """Similarity of a prototype to images before and after an occlusion.

    Attributes:
        before: Similarity to the whole image, which is that of the nearest cell.
        at_cell: Similarity of the same cell afterwards.
        anywhere: Similarity of the cell that is the nearest afterwards.
    """

    before: Float[Tensor, "n"]
    at_cell: Float[Tensor, "n"]
    anywhere: Float[Tensor, "n"]

    @property
    def ratio(self) -> Float[Tensor, "n"]:
        """``at_cell`` as a share of ``before``."""
        return self.at_cell / self.before


class Attack(NamedTuple):
    """The effect of an attack from outside the boxes, one number for each image.

    Attributes:
        images: The attacked images.
        before, after: Similarity of the prototype to its nearest cell.
        pac: Prototype activation change, 100 (1 - after / before).
        prc: Prototype ranking change: how many more prototypes of other classes score above it.
        plc: Prototype location change, 100 (1 - IoU) for the brightest tenth of its upsampled map.
    """

    images: Float[Tensor, "n c H W"]
    before: Float[Tensor, "n"]
    after: Float[Tensor, "n"]
    pac: Float[Tensor, "n"]
    prc: Int[Tensor, "n"]
    plc: Float[Tensor, "n"]


@of_a_protopnet
def candidate_boxes(
    model: ProtoPNet, images: Float[Tensor, "n c H W"], prototypes: Int[Tensor, "n"], kind: Kind, *, seed: int = 0
) -> Int[Tensor, "n 4"]:
    """Compute one kind of box for a prototype in each image, as (left, top, right, bottom), ends exclusive.

    >>> from xailab.protopnet import shipped
    >>> candidate_boxes(shipped(), torch.rand(3, 1, 96, 96), torch.tensor([9, 9, 7]), "receptive field").shape
    torch.Size([3, 4])

    Args:
        model: The network; it runs in eval mode and is left as it was.
        images: Pixel values from 0 to 1.
        prototypes: Number of a prototype for each image.
        kind: "activation" (around the brightest 5 % of the upsampled map, what the authors draw), "cell" (where
            upsampling puts the most similar cell), "receptive field" (what that cell can see), "gradient" (around the
            5 % of the pixels to which the similarity is most sensitive), "random" (as large as "activation",
            anywhere).
        seed: Seed of the random boxes.

    Raises:
        ValueError: if there is no such kind.
    """
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r}: expected one of {', '.join(map(repr, KINDS))}")
    check_images(model, images)
    size = size_of(images)
    if kind == "gradient":
        sensitive = gradient(model, images, prototypes)
        return geometry.hot_boxes(sensitive[:, None], 100 * (1 - SHARE))[:, 0]
    output = _details(model, images)
    cells, maps = _of(output.cells, prototypes), _of(output.maps, prototypes)
    if kind == "receptive field":
        field = receptive_field(model, "add_on", size, model.channels, everywhere=True)
        return geometry.receptive_boxes(field, cells, size)
    if kind == "cell":
        return _squares(cells, size_of(maps), size)
    hot = geometry.hot_boxes(geometry.upsampled(maps[:, None], size), 100 * (1 - SHARE))[:, 0]
    return hot if kind == "activation" else _elsewhere(hot, size, seed)


@of_a_protopnet
def gradient(
    model: ProtoPNet, images: Float[Tensor, "n c H W"], prototypes: Int[Tensor, "n"]
) -> Float[Tensor, "n H W"]:
    """Compute the gradient of a prototype's similarity with respect to each pixel: the channels' largest |ds/dI|."""
    check_differentiable(model)
    with torch.inference_mode(False), torch.enable_grad(), eval_mode(model):
        leaf = images.detach().clone().requires_grad_()
        scores = _of(model.forward_details(leaf).similarities, prototypes)
        return torch.autograd.grad(scores.sum(), leaf)[0].abs().amax(1)


@of_a_protopnet
@torch.no_grad()
def occlude(
    model: ProtoPNet,
    images: Float[Tensor, "n c H W"],
    prototypes: Int[Tensor, "n"],
    boxes: Int[Tensor, "n 4"],
    *,
    delete: bool = False,
    fill: float | None = None,
) -> Occlusion:
    """Keep only a box of each image, or delete only the box, and compare the prototype's similarity.

    >>> from xailab.protopnet import shipped
    >>> images, which = torch.rand(1, 1, 96, 96), torch.tensor([9])
    >>> box = candidate_boxes(shipped(), images, which, "receptive field")
    >>> round(float(occlude(shipped(), images, which, box).ratio), 2)  # the cell sees nothing else
    1.0

    Args:
        model: The network; it runs in eval mode and is left as it was.
        images: Pixel values from 0 to 1.
        prototypes: Number of a prototype for each image.
        boxes: (left, top, right, bottom), ends exclusive; keeping the receptive field keeps the similarity at the cell.
        delete: Whether to delete the box, instead of all else.
        fill: Pixel value of the deleted part; the image's mean if None.
    """
    check_images(model, images)
    before, after = _details(model, images), _details(model, masked(images, boxes, delete=delete, fill=fill))
    cells = _of(before.cells, prototypes)
    maps = _of(after.maps, prototypes)
    at_cell = maps[torch.arange(len(maps)), cells[:, 0], cells[:, 1]]
    return Occlusion(_of(before.similarities, prototypes), at_cell, _of(after.similarities, prototypes))


def masked(
    images: Float[Tensor, "n c H W"], boxes: Int[Tensor, "n 4"], *, delete: bool = False, fill: float | None = None
) -> Float[Tensor, "n c H W"]:
    """Keep only a box of each image, or delete only the box; arguments as for ``occlude``."""
    keep = geometry.inside(boxes, size_of(images)) ^ delete
    empty = images.mean((1, 2, 3), keepdim=True) if fill is None else torch.as_tensor(fill, dtype=images.dtype)
    return torch.where(keep[:, None], images, empty)


@of_a_protopnet
def attack(
    model: ProtoPNet,
    images: Float[Tensor, "n c H W"],
    prototypes: Int[Tensor, "n"],
    boxes: Int[Tensor, "n 4"],
    *,
    budget: float = 8 / 255,
    steps: int = 40,
    step_size: float = 2 / 255,
    seed: int = 0,
) -> Attack:
    """Lower a prototype's similarity by changing the image outside its box only (projected gradient descent).

    >>> from xailab.protopnet import shipped
    >>> whole = torch.tensor([[0, 0, 96, 96]])
    >>> attack(shipped(), torch.rand(1, 1, 96, 96), torch.tensor([9]), whole, steps=1).pac.tolist()
    [0.0]

    Args:
        model: The network; it runs in eval mode and is left as it was.
        images: Pixel values from 0 to 1.
        prototypes: Number of a prototype for each image.
        boxes: The parts that must stay as they are.
        budget: Largest change of a pixel.
        steps: Number of steps, each along the sign of the gradient.
        step_size: Change of a pixel in one step.
        seed: Seed of the initial, random change.

    Raises:
        ValueError: if budget or step_size are not above 0, or the images are not what the network takes.
    """
    if not budget > 0 or not step_size > 0 or steps < 0:
        raise ValueError(
            f"budget={budget}, step_size={step_size}, steps={steps}: expected above 0, above 0, and from 0"
        )
    check_images(model, images)
    check_differentiable(model)
    free = ~geometry.inside(boxes, size_of(images))[:, None]
    start = torch.rand(images.shape, generator=torch.Generator().manual_seed(seed)).to(images) * 2 - 1
    with torch.inference_mode(False), torch.enable_grad(), eval_mode(model):
        base = images.detach().clone()
        change = start * budget * free
        for _ in range(steps):
            leaf = (base + change).clamp(0, 1).requires_grad_()
            # the similarity is flat far from the prototype; its squared distance has the same order, and a slope
            nearest = _of(model.distances(model.embed(leaf)).flatten(2), prototypes).amin(1)
            slope = torch.autograd.grad(nearest.sum(), leaf)[0]
            change = ((change + step_size * slope.sign()) * free).clamp(-budget, budget)
        attacked = (base + change).clamp(0, 1)
    return _measured(model, images, attacked, prototypes)


def _measured(model: ProtoPNet, images: Tensor, attacked: Tensor, prototypes: Tensor) -> Attack:
    """Compare images before and after an attack."""
    first, second = _details(model, images), _details(model, attacked)
    before, after = (_of(output.similarities, prototypes) for output in (first, second))
    foreign = model.foreign(model.prototype_classes[prototypes])
    above = [((o.similarities > s[:, None]) & foreign).sum(1) for o, s in ((first, before), (second, after))]
    size = size_of(images)
    bright = [_brightest(geometry.upsampled(_of(o.maps, prototypes)[:, None], size)[:, 0]) for o in (first, second)]
    overlap = (bright[0] & bright[1]).sum((1, 2)) / (bright[0] | bright[1]).sum((1, 2))
    return Attack(attacked, before, after, 100 * (1 - after / before), above[1] - above[0], 100 * (1 - overlap))


def top_pixels_in_mask(
    maps: Float[Tensor, "n p h w"], masks: Bool[Tensor, "n H W"], share: float = SHARE
) -> Float[Tensor, "n p"]:
    """Compute the share of each map's brightest pixels that lies in a mask.

    This is the relevance rank accuracy of Arras et al. (Information Fusion 2022), with a fixed number of pixels.

    >>> maps = torch.zeros(1, 1, 8, 8)
    >>> maps[0, 0, 1:3, 1:3] = 1
    >>> mask = torch.zeros(1, 64, 64, dtype=torch.bool)
    >>> mask[0, 4:28, 4:28] = True
    >>> top_pixels_in_mask(maps, mask).tolist()
    [[1.0]]

    Args:
        maps: Maps at the cells' resolution; they are upsampled bicubically, as they are drawn.
        masks: Masks at the images' resolution.
        share: Share of the pixels that count as the brightest.
    """
    height, width = masks.shape[1:]
    count = round(share * height * width)
    bright = geometry.upsampled(maps, (height, width)).flatten(2).topk(count, dim=2).indices
    return masks.flatten(1)[:, None].expand(-1, maps.shape[1], -1).gather(2, bright).float().mean(2)


def _brightest(large: Float[Tensor, "n H W"]) -> Bool[Tensor, "n H W"]:
    """Mark the brightest tenth of each map."""
    flat = large.flatten(1)
    bright = flat.topk(round(MOVED * flat.shape[1]), dim=1).indices
    return torch.zeros_like(flat, dtype=torch.bool).scatter(1, bright, True).view_as(large)


def _details(model: ProtoPNet, images: Tensor) -> Output:
    with torch.no_grad(), eval_mode(model):
        return model.forward_details(images)


def _of(values: Tensor, prototypes: Int[Tensor, "n"]) -> Tensor:
    """Take from values (n, p, ...) those of one prototype for each image."""
    return values[torch.arange(len(values), device=values.device), prototypes]


def _squares(cells: Int[Tensor, "n 2"], grid: tuple[int, int], size: tuple[int, int]) -> Int[Tensor, "n 4"]:
    """Compute the squares on which upsampling draws cells."""
    steps = torch.tensor([side / count for side, count in zip(size, grid, strict=True)])
    first, last = (((cells.cpu() + more) * steps).round().long() for more in (0, 1))
    return torch.stack([first[:, 1], first[:, 0], last[:, 1], last[:, 0]], 1).to(cells.device)


def _elsewhere(boxes: Int[Tensor, "n 4"], size: tuple[int, int], seed: int) -> Int[Tensor, "n 4"]:
    """Draw boxes of the same sizes, anywhere in the image."""
    extent = (boxes[:, 2:] - boxes[:, :2]).cpu()
    room = torch.tensor([size[1], size[0]]) - extent + 1
    first = (torch.rand(len(boxes), 2, generator=torch.Generator().manual_seed(seed)) * room).long()
    return torch.cat([first, first + extent], 1).to(boxes.device)
