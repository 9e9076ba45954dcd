"""The exercises: their cases, their wrong answers, and their checks."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from xailab.lessons import exercise
from xailab.lessons.judging import judge


def _squared(latent: Float[Tensor, "n C h w"], prototypes: Float[Tensor, "p C"]) -> Float[Tensor, "n p h w"]:
    return (latent[:, None] - prototypes[None, :, :, None, None]).square().sum(2)


def _similar(distances: Tensor) -> Tensor:
    return ((distances + 1) / (distances + 1e-4)).log()


@exercise("07.1")
def _(my_logits) -> str:
    generator = torch.Generator().manual_seed(71)
    for n, c, h, w, p, classes in ((3, 4, 2, 5, 6, 2), (1, 2, 3, 1, 3, 3)):
        latent, prototypes = (  # whole eighths, whose squares are exact however the distances are computed
            torch.randint(9, shape, generator=generator).double() / 8 for shape in ((n, c, h, w), (p, c))
        )
        prototypes[0] = latent[0, :, 1, 0]  # one that finds itself
        weight = torch.randn(classes, p, generator=generator).double()
        d = _squared(latent, prototypes).flatten(2)
        g = _similar(d)
        expected = g.amax(2) @ weight.T
        mistakes = {
            "these are the similarities: the last layer, `weight`, is missing.": g.amax(2),
            "the distances are not squared: the paper's d is the sum of squared differences.": (
                _similar(d.sqrt()).amax(2) @ weight.T
            ),
            "this is the mean over the cells: a prototype scores by the cell that is most like it.": (
                g.mean(2) @ weight.T
            ),
            "the similarities are summed over the cells: a prototype scores by its most similar cell alone.": (
                g.sum(2) @ weight.T
            ),
            "this takes the cell that is *least* like the prototype: similarity falls as the distance grows.": (
                g.amin(2) @ weight.T
            ),
            "distances went into the last layer: turn them into similarities first.": d.amin(2) @ weight.T,
            "the logarithm is missing.": g.exp().amax(2) @ weight.T,
            "the fraction stands on its head: d + 1 above, d + 1e-4 below.": -g.amax(2) @ weight.T,
            "the 1 above the fraction is missing: log((d + 1) / (d + 1e-4)).": (-(d + 1e-4).log().amin(2) @ weight.T),
            "the squared differences are averaged over the C numbers: they are summed.": (
                _similar(d / c).amax(2) @ weight.T
            ),
        }
        judge(
            my_logits(latent.float(), prototypes.float(), weight.float()),
            expected,
            mistakes,
            "a score for each image and class",
            f"with {p} prototypes on {h} × {w} cells, these are not the logits.",
        )
    return "the whole of ProtoPNet after its convolutions."


@exercise("07.2")
def _(my_projection) -> str:
    generator = torch.Generator().manual_seed(72)
    for n, c, h, w, owners in ((6, 3, 2, 3, (0, 0, 1, 1)), (4, 2, 1, 2, (1, 0, 0)), (7, 4, 2, 2, (2, 0, 1, 2))):
        latent = torch.rand(n, c, h, w, generator=generator)
        labels = torch.arange(n) % (1 + max(owners))
        owners = torch.tensor(owners)
        # some beside patches of the other class, lest the labels make no difference
        beside = [int(((labels == o) == bool(j % 2)).nonzero()[0]) for j, o in enumerate(owners)]
        prototypes = latent[beside, :, 0, -1] + 0.01
        cells = latent.permute(0, 2, 3, 1).flatten(0, 2)
        of = labels.repeat_interleave(h * w)
        every = torch.cdist(prototypes, cells)
        own = of == owners[:, None]
        expected = cells[every.masked_fill(~own, torch.inf).argmin(1)]
        means, mixed = latent.mean((2, 3)), latent.reshape(-1, c)
        mistakes = {
            "nothing moved: return the patches that the prototypes become.": prototypes,
            "reshape alone mixes channels and cells: move the channels to the end first (permute).": mixed[
                torch.cdist(prototypes, mixed).masked_fill(~own, torch.inf).argmin(1)
            ],
            "the labels lie in another order than the cells: repeat each for its own cells (repeat_interleave).": (
                cells[every.masked_fill(labels.repeat(h * w) != owners[:, None], torch.inf).argmin(1)]
            ),
            "some became patches of another class: look at images of their own class only.": cells[every.argmin(1)],
            "these are patches of the *other* class.": cells[every.masked_fill(own, torch.inf).argmin(1)],
            "d * mask makes foreign distances 0, which is the smallest: hide them with infinity.": (
                cells[(every * own).argmin(1)]
            ),
            "these are the farthest patches of the class: the nearest are asked for.": (
                cells[every.masked_fill(~own, -torch.inf).argmax(1)]
            ),
            "this is a mean of patches: a prototype must become one that exists.": torch.stack(
                [cells[row].mean(0) for row in own]
            ),
            "these are means over images: a prototype becomes one cell of one image.": means[
                torch.cdist(prototypes, means).masked_fill(labels != owners[:, None], torch.inf).argmin(1)
            ],
        }
        judge(
            my_projection(latent, labels, prototypes, owners),
            expected,
            mistakes,
            "one patch for each prototype",
            f"with {n} images of {h} × {w} cells, this is not the nearest patch of the class.",
        )
    return "each prototype is a patch that exists, of its own class."


@exercise("07.3")
def _(my_cluster) -> str:
    generator = torch.Generator().manual_seed(73)
    for n, p, h, w, classes in ((6, 4, 2, 3, 2), (3, 6, 3, 1, 2), (5, 6, 2, 2, 3)):
        distances = torch.rand(n, p, h, w, generator=generator).double() + 0.2
        labels, owners = torch.arange(n) % classes, torch.arange(p) * classes // p
        if classes == 3:
            labels, owners = labels.flip(0), owners.roll(1)
        own = owners == labels[:, None]
        least = distances.flatten(2).amin(2)
        hidden = least.masked_fill(~own, torch.inf)
        average = distances.flatten(2).mean(2).masked_fill(~own, torch.inf)
        expected = hidden.amin(1).mean()
        mistakes = {
            "0 for every network: d * mask makes all foreign distances 0. Hide them with infinity.": 0 * expected,
            "this looks at the prototypes of all classes: the image's own are asked for.": least.amin(1).mean(),
            "these are the *other* classes' prototypes: this is the separation cost.": (
                least.masked_fill(own, torch.inf).amin(1).mean()
            ),
            "one for each image: take their mean.": hidden.amin(1),
            "the images are summed: take their mean.": hidden.amin(1).sum(),
            "the smallest of the whole batch: each image counts, so take the mean over images.": hidden.amin(),
            "the mean over the image's own prototypes: one near prototype is enough, so take the smallest.": (
                (least * own).sum(1) / own.sum(1)
            ).mean(),
            "the mean over the cells: one near cell is enough, so take the smallest.": average.amin(1).mean(),
            "a mean over all own-class distances: the smallest of each image counts.": (
                distances.flatten(2).mean(2)[own].mean()
            ),
        }
        judge(
            my_cluster(distances, labels, owners),
            expected,
            mistakes,
            "a single number",
            f"with {n} images and {p} prototypes, this is not the cluster cost.",
        )
    return "what pulls a patch of every image to a prototype of its class."


def _fields(layers: Sequence[tuple[int, int, int]]) -> tuple[int, int, int]:
    size, stride, start = 1, 1, 0
    for kernel, step, padding in layers:
        size, start, stride = size + (kernel - 1) * stride, start - padding * stride, stride * step
    return size, stride, start


@exercise("07.4")
def _(my_field) -> str:
    for layers in (
        [(7, 2, 3), (3, 2, 1), (3, 1, 1)],
        [(3, 1, 1), (2, 2, 0), (5, 3, 1), (3, 1, 0)],
        [(1, 1, 0)],
    ):
        expected = torch.tensor(_fields(layers))
        size, stride, start = expected.tolist()
        late, ends = [1, 1, 0], [1, 1, 0]
        for kernel, step, padding in layers:  # the stride is multiplied too early
            late[1] *= step
            late[0] += (kernel - 1) * late[1]
            late[2] -= padding * late[1]
            ends[0] += kernel * ends[1]
            ends[1] *= step
        plain = 1 + sum(kernel - 1 for kernel, _, _ in layers)
        margin = sum(padding for _, _, padding in layers)
        backwards = _fields([layer for layer in reversed(layers)])
        mistakes = {
            "the stride is multiplied too early: a window's pixels lie as far apart as the strides *before* it say.": (
                torch.tensor(late)
            ),
            "a window of k adds k - 1 steps, not k.": torch.tensor([ends[0], stride, start]),
            "the strides are left out of the size: k - 1 steps are of `stride` pixels each.": torch.tensor(
                [plain, stride, start]
            ),
            "the strides are left out of size and start: steps are of `stride` pixels each.": torch.tensor(
                [plain, stride, -margin]
            ),
            "the paddings count in steps of `stride` pixels, too.": torch.tensor([size, stride, -margin]),
            "padding lies outside, so the first pixel is negative: subtract it.": torch.tensor([size, stride, -start]),
            "0 is the first window's middle, or the padding is left out: it moves the window to the left.": (
                torch.tensor([size, stride, 0])
            ),
            "the stride is multiplied too early for the padding: it counts in the steps *before* the window.": (
                torch.tensor([size, stride, late[2]])
            ),
            "the layers go from the image to the cells: begin with the first.": torch.tensor(backwards),
        }
        judge(
            my_field(layers),
            expected,
            mistakes,
            "size, stride and first pixel, three numbers",
            f"for the layers {layers}, size, stride and first pixel should be {size}, {stride} and {start}.",
        )
    return "and that is how ResNet18's 435 pixels come about."
