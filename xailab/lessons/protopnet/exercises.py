"""The exercises: their cases, their wrong answers, and their checks."""

import torch
from jaxtyping import Float
from torch import Tensor

from xailab.datasets import phantoms
from xailab.lessons import Wrong, exercise
from xailab.lessons.judging import judge
from xailab.protopnet import shipped


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


def _reasons(given: Float[Tensor, "p"]) -> tuple[list[int], list[int]]:
    """The at most three largest positive and the at most three smallest negative, strongest first."""
    order = given.argsort(descending=True).tolist()
    return [j for j in order if given[j] > 0][:3], [j for j in reversed(order) if given[j] < 0][:3]


@exercise("07.4")
def _(my_reasons) -> str:
    cases = (
        ([4.0, 3.0, 2.0, 0.0, 5.0, 1.0], [[1.0, -0.2, 0.5, 2.0, 0.1, -1.5], [-0.5, 0.3, 0.2, -1.0, 0.4, 0.2]]),
        (
            [1.0, 6.0, 2.5, 3.0, 0.5, 4.0, 2.0],
            [
                [0.2, 0.1, -0.4, 0.3, 0.1, -0.6, 0.0],
                [1.0, 0.8, 0.3, -0.9, 2.0, 0.1, 0.4],
                [0.4, 0.9, 0.6, 0.2, -1.0, -0.3, 0.4],
            ],
        ),
        ([2.0, 1.0], [[0.5, 0.0], [-0.5, 0.0]]),
        (
            [1.0, 2.0, 3.0, 4.0, 5.0, 1.0, 2.0, 3.0, 4.0, 5.0],
            [
                [0.9, 0.4, 0.1, 0.6, 0.5, -0.3, -0.3, -0.1, -0.3, -0.1],
                [0.0, 0.1, 0.0, -0.2, 0.1, 0.2, 0.1, 0.0, 0.1, 0.0],
            ],
        ),
    )
    for similarities, weight in ((torch.tensor(s), torch.tensor(w)) for s, w in cases):
        first, second = (weight @ similarities).argsort(descending=True)[:2].tolist()
        margin = (weight[first] - weight[second]) * similarities
        expected, own = _reasons(margin), _reasons(weight[first] * similarities)
        order = margin.argsort(descending=True).tolist()
        mistakes = {
            "these are the reasons for the class alone: subtract the second-best class's weight first.": own,
            "these are differences of weights: a weight counts with its similarity.": (
                _reasons(weight[first] - weight[second])
            ),
            "for and against are the wrong way round.": (expected[1], expected[0]),
            "a prototype that gives the other sign, or nothing, is no reason: keep positive for the first list and "
            "negative for the second.": (order[:3], order[::-1][:3]),
            "the strongest come first, in both lists.": (expected[0], expected[1][::-1]),
            "at most three in each list.": (
                [j for j in order if margin[j] > 0],
                [j for j in order[::-1] if margin[j] < 0],
            ),
        }
        given = my_reasons(similarities, weight)
        if not isinstance(given, tuple | list) or len(given) != 2:
            raise Wrong(f"expected two lists, for and against, got {given!r}.")
        answer = tuple([int(j) for j in part] for part in given)
        if answer != expected:
            said = next((words for words, wrong in mistakes.items() if answer == wrong), None)
            raise Wrong(said or f"for the similarities {similarities.tolist()} expected {expected}, got {answer}.")
    return "both kinds of reasons, and in the order of their strength."


@exercise("07.5")
def _(my_suspects) -> str:
    slices = phantoms.batch([i for i in range(40) if phantoms.phantom(i, split="test").label], split="test").images
    for name in ("usual", "decoys", "shortcut"):
        model = shipped(name).requires_grad_(False)
        levels = torch.linspace(0, 1, 21).view(-1, 1, 1, 1).expand(-1, 1, 96, 96).contiguous()
        with torch.no_grad():
            empty = model.forward_details(levels).similarities
            found = model.forward_details(slices).similarities
        own = model.prototype_classes == 1

        def numbers(which: Tensor) -> list[int]:
            return which.nonzero().flatten().tolist()

        usual = found.median(0).values
        expected = numbers((empty.amax(0) >= usual) & own)
        mistakes = {
            "prototypes of “no lesion” are among them: only those of “lesion” are asked for.": (
                numbers(empty.amax(0) >= usual)
            ),
            "one grey level is enough: take the largest over the levels, not the mean.": (
                numbers((empty.mean(0) >= usual) & own)
            ),
            "these are the others: those that the empty pictures do *not* reach.": (
                numbers((empty.amax(0) < usual) & own)
            ),
            "compare with the median slice, not with the weakest.": (numbers((empty.amax(0) >= found.amin(0)) & own)),
        }
        answer = [int(j) for j in my_suspects(model, slices)]
        if answer != expected:
            said = next((words for words, wrong in mistakes.items() if answer == wrong), None)
            raise Wrong(said or f"for the network “{name}” expected {expected}, got {answer}.")
    return "a prototype that an empty picture satisfies says little about a lesion."
