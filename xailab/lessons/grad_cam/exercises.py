"""The exercises: their cases, their wrong answers, and their checks."""

from collections.abc import Sequence
from typing import SupportsFloat

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor, nn
from torchvision.models import resnet18

from xailab import images
from xailab.boxes import Box, iou
from xailab.datasets import scenes
from xailab.grad_cam import grad_cam
from xailab.hooks import graph_from
from xailab.lessons import Wrong, exercise
from xailab.lessons.grad_cam.measuring import moved
from xailab.lessons.judging import judge
from xailab.lessons.traces import watched
from xailab.localization import boxes, ground_truth_box
from xailab.models import zoo

MAP = "one map, without its leading axis"


def _sum(alpha: Tensor, features: Tensor) -> Tensor:
    return (alpha.view(-1, 1, 1) * features).sum(0)


def _stretched(heat: Tensor) -> Tensor:
    return (heat - heat.min()) / (heat.max() - heat.min())


@exercise("03.1")
def _(my_grad_cam) -> str:
    generator = torch.Generator().manual_seed(31)
    for shape in ((4, 3, 5), (6, 2, 7)):
        features, gradient = torch.rand(shape, generator=generator), torch.randn(shape, generator=generator)
        signed = _sum(gradient.mean((1, 2)), features)
        expected = signed.relu()
        mistakes = {
            "the ReLU of equation 2 is missing: cells below zero speak against the class.": signed,
            "one map is left for each channel: add the weighted channels up.": (
                gradient.mean((1, 2)).view(-1, 1, 1) * features
            ),
            "the ReLU comes after the sum over channels: applied to each channel before, it drops what is against.": (
                gradient.mean((1, 2)).view(-1, 1, 1) * features
            )
            .relu()
            .sum(0),
            "equation 1 takes the mean of the gradient over the cells, not its maximum.": _sum(
                gradient.amax((1, 2)), features
            ).relu(),
            "equation 1 divides by Z: yours is Z times too large (a sum over space where the mean belongs).": shape[1]
            * shape[2]
            * expected,
            "the gradient is multiplied cell by cell here: equation 1 first averages it, a weight for each channel.": (
                gradient * features
            )
            .sum(0)
            .relu(),
            "alpha is averaged over the channels here: it has one value for each channel, a mean over its cells.": (
                gradient.mean(0) * features.sum(0)
            ).relu(),
            "features and gradient have changed places: the weights come from the gradient.": _sum(
                features.mean((1, 2)), gradient
            ).relu(),
            "the mean over the channels is taken where equation 2 adds them up.": expected / shape[0],
            "return the raw map; stretching it to [0, 1] is for pictures, and loses what classes can be compared by.": (
                _stretched(expected)
            ),
            "stretched to [0, 1] before the ReLU: the zero has moved, and evidence against the class counts for it.": (
                _stretched(signed)
            ),
        }
        judge(my_grad_cam(features, gradient), expected, mistakes, MAP, "the map is not equation 2's.")
    return "one weight for each channel, the weighted sum, and only then the ReLU."


def _heads(seed: int = 47) -> list[tuple[nn.Module, Tensor]]:
    """Two rests of networks in eval mode, with features for them; all classes have cells for and against them."""
    found = []
    for head, shape in (
        (nn.Sequential(nn.Flatten(), nn.Linear(60, 6), nn.ReLU(), nn.Linear(6, 3)), (1, 4, 3, 5)),
        (nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten(), nn.Linear(40, 4)), (1, 3, 6, 4)),
    ):
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for values in (*head.parameters(), *head.buffers()):
                drawn = torch.randn(values.shape, generator=generator)
                values.copy_(drawn / 2 if values.ndim > 1 else drawn.abs())
        found.append((head.eval(), torch.randn(shape, generator=generator)))
    return found


@exercise("03.2")
def _(my_counterfactual) -> str:
    for head, features in _heads():
        cells = features[0, 0].numel()

        def gradient(c: int, score=lambda s, c: s[0, c], head=head, features=features) -> Tensor:
            leaf = features.clone().requires_grad_()
            with torch.enable_grad():
                return torch.autograd.grad(score(head(leaf), c), leaf)[0][0]

        def against(alpha: Tensor, features=features) -> Tensor:
            return _sum(-alpha, features[0]).relu()

        scores = head(features)[0].detach()
        for c in range(len(scores)):
            g = gradient(c)
            signed = _sum(g.mean((1, 2)), features[0])
            expected = (-signed).relu()
            mistakes = {
                "the ReLU is missing: keep only what speaks against the class.": -signed,
                "this is the ordinary map, what speaks for the class: negate the gradient before it is averaged.": (
                    signed.relu()
                ),
                "the ReLU came first: negated after it, only zeros and the evidence *for* the class are left.": (
                    -signed.relu()
                ),
                "the absolute value holds evidence for and against: negate the gradient, then take the ReLU.": (
                    signed.abs()
                ),
                "the score *before* the softmax is differentiated, not the probability.": against(
                    gradient(c, lambda s, c: s.softmax(1)[0, c]).mean((1, 2))
                ),
                "the score itself is differentiated, not the logarithm of the probability.": against(
                    gradient(c, lambda s, c: s.log_softmax(1)[0, c]).mean((1, 2))
                ),
                "one minus the stretched map is no counterfactual: cells without any evidence become the brightest.": (
                    1 - _stretched(signed.relu())
                ),
                "the gradient is that of the top class: take the class that was asked for.": against(
                    gradient(int(scores.argmax())).mean((1, 2))
                ),
                "the gradient is that of the sum of all scores: take the class that was asked for.": against(
                    gradient(c, lambda s, c: s.sum()).mean((1, 2))
                ),
                "the gradient is that of class 0, whatever class is asked for.": against(gradient(0).mean((1, 2))),
                "equation 1 divides by Z: take the mean of the gradient over the cells, not its sum.": cells * expected,
                "the gradient is multiplied cell by cell: equation 1 first averages it.": (
                    (-g * features[0]).sum(0).relu()
                ),
            }
            mistakes = {words: heat for words, heat in mistakes.items() if not torch.allclose(heat, expected)}
            found = my_counterfactual(head, features, c)
            judge(found, expected, mistakes, MAP, f"the counterfactual map of class {c} is wrong.")
    return "what speaks against a class, and nothing left behind on the network."


def _overlaps(
    maps: Tensor,
    masks: np.ndarray,
    threshold: float,
    *,
    large=lambda maps, masks: images.upsample(maps, masks.shape[1:]),
    of=lambda heat, threshold: boxes(heat, threshold)[:1],
    overlap=lambda box, mask: iou(box, ground_truth_box(mask)),
) -> list[float]:
    """The overlap of each scene in 03.3 (0 without a box), with one thing that can be done wrongly at a time."""
    return [
        max((overlap(box, mask) for box in of(heat, threshold)), default=0.0)
        for heat, mask in zip(large(maps, masks), masks, strict=True)
    ]


def _brightest(heat: Tensor, threshold: float) -> list[Box]:
    y, x = divmod(int(heat.argmax()), heat.shape[1])
    found = boxes(heat, threshold)
    return [box for box in found if box.left <= x < box.right and box.top <= y < box.bottom][:1]


def _absolute(heat: Tensor, threshold: float) -> list[Box]:
    return boxes(heat, min(1.0, threshold / float(heat.max())))[:1]


def _hits(limit: float = 0.5, scale: float = 1, **options):
    return lambda *scene: [scale * (overlap >= limit) for overlap in _overlaps(*scene, **options)]


HIT_MISTAKES = {
    "a rate is a share between 0 and 1, not a percentage.": _hits(scale=100),
    "enlarge each map to the mask's size first (images.upsample), then look for boxes.": _hits(
        large=lambda maps, _: maps
    ),
    "in the third scene the brightest cell is not in the largest region: boxes()[0] is the largest.": _hits(
        of=_brightest
    ),
    "the best of all boxes was counted: what counts is that of the largest region, boxes()[0], right or wrong.": _hits(
        of=boxes
    ),
    "this is the last box of the list, of the smallest region: the largest comes first.": _hits(
        of=lambda heat, threshold: boxes(heat, threshold)[-1:]
    ),
    "negative cells are counted: the threshold is a share of the raw maximum, and a map stretched to [0, 1] has lost "
    "its zero.": _hits(large=lambda maps, masks: images.upsample(images.normalise(maps), masks.shape[1:])),
    "a box that overlaps by less than 0.5 was counted as a hit: a hit has an IoU of at least 0.5.": _hits(0.3),
    "an IoU of exactly 0.5 is a hit, too: at least 0.5.": _hits(0.5 + 1e-9),
    "the threshold is a share of each map's maximum, and here it is compared with the values themselves.": _hits(
        of=_absolute
    ),
    "the threshold that was given is not used: this is 0.15, whatever is asked for.": _hits(
        of=lambda heat, threshold: boxes(heat, 0.15)[:1]
    ),
    "the threshold that was given is not used: this is 0.6, whatever is asked for.": _hits(
        of=lambda heat, _: boxes(heat, 0.6)[:1]
    ),
    "the box is compared with the object's pixels: compare it with the box of the mask (ground_truth_box).": _hits(
        overlap=lambda box, mask: iou(box.mask(*mask.shape), mask)
    ),
    "this is the mean overlap: a rate counts the scenes in which it is at least 0.5.": _overlaps,
}


def hit_cases() -> list[tuple[Tensor, np.ndarray, float]]:
    """Maps, masks and a threshold, twice, on which each of these mistakes shows; three scenes of five are hits."""
    maps, masks = torch.zeros(5, 4, 4), np.zeros((5, 32, 32), dtype=bool)
    maps[0, 1:3, 1:3], masks[0, 8:24, 8:24] = 1.0, True  # a hit
    maps[1, 0:2, 0:2], masks[1, 16:32, 16:32] = 1.0, True  # a miss
    maps[2, 0, 0], maps[2, 2:4, 1:4], masks[2, 16:32, 8:32] = 1.0, 0.5, True  # a hit of the largest, not the brightest
    maps[3], maps[3, 3, 3] = -0.2, -1.0
    maps[3, 0:2, 0:2], masks[3, 0:16, 0:16] = 1.0, True  # negative cells must not count
    maps[4, 0:2, 0:2], masks[4, 0:18, 0:8] = 1.0, True  # a miss by its overlap, which a looser limit would pass

    fine, truth = torch.zeros(5, 32, 32), np.zeros((5, 32, 32), dtype=bool)  # boxes to the pixel
    fine[0, 0:16, 0:16], truth[0, 0:16, 0:32] = 1.0, True  # a hit: half of the box
    fine[1, 0:16, 0:32], fine[1, 24:32, 24:32], truth[1, 24:32, 24:32] = (
        2.0,
        2.0,
        True,
    )  # the smaller one would be a hit
    fine[2] = 1.0  # little of 9, but much by itself
    fine[2, 8:24, 8:24] = 9.0
    truth[2, range(8, 24), range(8, 24)] = True  # few pixels in a large box
    fine[3] = 1.0
    fine[3, 0:8, 0:8], truth[3, 8:32, 8:32] = 10.0, True  # a miss
    fine[4] = 0.4
    fine[4, 8:24, 8:24], truth[4, 8:24, 8:24] = 1.0, True  # a hit at half of the maximum, not at a sixth
    fine[4, 12:20, 12:20] = 1.75  # and not at 0.6
    return [(maps, masks, 0.15), (fine, truth, 0.5)]


@exercise("03.3")
def _(my_hit_rate) -> str:
    cases = hit_cases()
    alone = [
        (maps[i : i + 1], masks[i : i + 1], threshold) for maps, masks, threshold in cases for i in range(len(maps))
    ]
    rates = [float(torch.as_tensor(my_hit_rate(*case))) for case in cases]
    each = [float(torch.as_tensor(my_hit_rate(*scene))) for scene in alone]

    def same(values: Sequence[float], others: Sequence[SupportsFloat]) -> bool:
        return bool(np.allclose(values, [float(other) for other in others], atol=1e-6))

    right = _hits()
    if same(rates, [np.mean(right(*case)) for case in cases]) and same(each, [right(*scene)[0] for scene in alone]):
        return "the largest component at a share of the maximum, judged at an IoU of 0.5."
    for words, mistaken in HIT_MISTAKES.items():
        if same(each, [mistaken(*scene)[0] for scene in alone]):
            raise Wrong(words)
    if same(each, [right(*scene)[0] for scene in alone]):
        if same(rates, [sum(right(*case)) for case in cases]):
            raise Wrong("a rate is a share: divide the number of hits by that of the scenes.")
        raise Wrong(
            "each scene alone is judged rightly, five together are not: the threshold is a share of each map's "
            "own maximum."
        )
    raise Wrong(
        f"three of these five scenes are hits, a rate of 0.6; yours is {rates[0]:.3f}, and {rates[1]:.3f} of five more."
    )


class _Shifted(nn.Module):
    """A layer whose maps lie some rows too high; an average over all cells does not notice."""

    def __init__(self, layer: nn.Module, rows: int) -> None:
        super().__init__()
        self.layer, self.rows = layer, rows

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).roll(-self.rows, dims=2)


# Scenes in which the cheat's maximum lies beside the balloon, and an honest one beside the bird, in the upper half. In
# the first the cheat's happens to lie on the bird, in the last one of the honest networks' on the balloon.
CHEAT_SCENES = (534, 19, 97, 281, 572, 1042, 1150, 1348, 1585, 1734, 1768, 13)


def cheat_networks() -> dict[str, nn.Module]:
    """The cheat, two honest networks, and one of them with maps that peak at nothing in particular."""
    networks: dict[str, nn.Module] = {
        name: zoo.load(name) for name in ("scenes_biased", "scenes_balanced", "scenes_resnet")
    }
    elsewhere = zoo.load("scenes_balanced")
    elsewhere.layer4 = _Shifted(elsewhere.get_submodule("layer4"), 3)
    return networks | {"elsewhere": elsewhere}


@exercise("03.4")
def _(my_verdict) -> str:
    drawn = [scenes.scene(i, kind="biased", split="test", label=scenes.BIASED_CLASS) for i in CHEAT_SCENES]
    networks = cheat_networks()
    said = {name: bool(my_verdict(network, drawn)) for name, network in networks.items()}
    if said == {name: name == "scenes_biased" for name in networks}:
        return "the cheat is found, without a single label."
    if all(said.values()):
        raise Wrong("every network is called a cheat, also one that has never seen a balloon in training.")
    if not any(said.values()):
        if my_verdict(networks["scenes_biased"], drawn[1:]):
            raise Wrong(
                "no network is called a cheat: the answer hangs on the first scene alone; judge by all of them."
            )
        raise Wrong(
            "no network is called a cheat, and one of them is. Its map has cells about as large as the balloon, "
            "and peaks on it or beside it: allow 15 pixels around it. If you compare mass, divide it by the area."
        )
    if not said["scenes_biased"]:
        raise Wrong("the honest networks are accused and the cheat is not: are balloon and bird exchanged?")
    if said["scenes_balanced"]:
        raise Wrong(
            "scenes_balanced is accused, and its maps peak on the bird or right beside it: a maximum in the upper "
            "half, or off the bird, is not yet one at the balloon. Count the maxima within 15 pixels of either."
        )
    if said["scenes_resnet"]:
        raise Wrong(
            "scenes_resnet is accused, and its maps peak on the bird in nearly all scenes (not in the last one): judge "
            "by all scenes, and by where the maxima lie."
        )
    raise Wrong(
        "a network is accused whose maps peak at nothing, above the bird and far from the balloon: not on the bird is "
        "not yet at the balloon. Count the maxima within 15 pixels of it."
    )


def frozen_resnet() -> tuple[nn.Module, Tensor]:
    """ResNet18 of random weights, frozen and in eval mode, and a batch of two pictures."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(35)
        network, batch = resnet18(weights=None, num_classes=5).eval(), torch.randn(2, 3, 64, 64)
    return network.requires_grad_(False), batch


def _mistaken(network: nn.Module, batch: Tensor, layer: str, c: int) -> dict[str, Tensor]:
    """Wrong answers to 03.5 by what their makers are told."""
    with graph_from(network, "layer3", "layer4") as kept:
        scores = network(batch)
    features = kept[layer]
    cells = features[0, 0].numel()

    def gradient(score: Tensor, name: str = layer) -> Tensor:
        return torch.autograd.grad(score.sum(), kept[name], retain_graph=True)[0]

    def signed(weights: Tensor, features: Tensor = features) -> Tensor:
        return (weights * features).sum(1).detach()

    def averaged(score: Tensor, name: str = layer) -> Tensor:
        return signed(gradient(score, name).mean((2, 3), keepdim=True), kept[name])

    score = scores[:, c]
    return {
        "the ReLU of equation 2 is missing: cells below zero speak against the class.": averaged(score),
        "the score *before* the softmax is differentiated, not the probability.": averaged(
            scores.softmax(1)[:, c]
        ).relu(),
        "the gradient is that of the sum of all scores: take the class that was asked for.": averaged(scores).relu(),
        "the gradient is that of the top class: take the class that was asked for.": averaged(scores.amax(1)).relu(),
        "equation 1 divides by Z: take the mean of the gradient over the cells, not its sum.": cells
        * averaged(score).relu(),
        "this is HiResCAM: equation 1 first averages the gradient over the cells.": signed(gradient(score)).relu(),
        "this is layer4, whatever layer is asked for: network.get_submodule(layer) finds it.": (
            averaged(score, "layer4").relu()
        ),
        "the weights of both pictures are averaged: each picture has its own alpha, of shape (n, k).": (
            signed(gradient(score).mean((0, 2, 3), keepdim=True)).relu()
        ),
    }


@exercise("03.5")
def _(my_hooks) -> str:
    network, batch = frozen_resnet()
    seen = watched(my_hooks, network, batch, "layer3", 4)
    for layer, c in (("layer3", 4), ("layer4", 1)):
        expected = grad_cam(network, batch, layer, c)
        mistakes = {
            words: heat
            for words, heat in _mistaken(network, batch, layer, c).items()
            if heat.shape != expected.shape or not torch.allclose(heat, expected)
        }
        form = "one map (rows, columns) for each of the pictures"
        judge(my_hooks(network, batch, layer, c), expected, mistakes, form, f"the maps of {layer} are wrong.")
    if seen.uses("xailab"):
        raise Wrong("the maps are right, but they come from xailab: use a hook and torch.autograd.grad.")
    return "Grad-CAM without a library, on a frozen network that stays as it was."


def adding_heads() -> dict[str, tuple[nn.Module, bool]]:
    """Heads by name, and for which of them the cells of HiResCAM add up to the score but for a constant."""

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(36)
        first = nn.Linear(72, 20)
        nn.init.normal_(first.bias)
        without = nn.Linear(72, 20, bias=False), nn.ReLU(), nn.Linear(20, 3, bias=False)
        heads = {
            "an average and a linear layer": ((nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)), True),
            "a linear layer on the flattened maps": ((nn.Flatten(), nn.Linear(72, 3)), True),
            "two linear layers with a ReLU between them, with biases": (
                (nn.Flatten(), first, nn.ReLU(), nn.Linear(20, 3)),
                False,
            ),
            "two linear layers with a ReLU between them, without biases": ((nn.Flatten(), *without), True),
        }
    return {name: (nn.Sequential(*layers).eval(), truth) for name, (layers, truth) in heads.items()}


@exercise("03.6")
def _(my_adds_up) -> str:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(37)
        features = torch.randn(8, 6, 3, 4)
    heads = adding_heads()
    said = {name: [bool(my_adds_up(head, features, c)) for c in range(3)] for name, (head, _) in heads.items()}
    wrong = [name for name, (_, truth) in heads.items() if said[name] != [truth] * 3]
    average, flat, _, unbiased = heads
    if not wrong:
        return "with one linear layer, or with ReLUs but no biases. Grad-CAM adds up for the first head alone."
    if all(not any(answers) for answers in said.values()):
        raise Wrong(
            "no head adds up here, and the first one does even for Grad-CAM. Compare the rest, the score minus the sum "
            "of the map, between the pictures, with room for rounding. It need not be zero: a bias is in it."
        )
    if all(all(answers) for answers in said.values()):
        raise Wrong("every head adds up here, and one of them does not: compare the rest between the pictures.")
    if wrong == [flat, unbiased]:
        raise Wrong(
            "this is right for Grad-CAM, whose weights are averaged. HiResCAM multiplies the gradient of each cell by "
            "the feature in this cell, and then adds the channels up."
        )
    if wrong in ([average, flat], [average]):
        raise Wrong(
            "one linear layer ends the network, and its bias is the same for all pictures: a constant is allowed."
        )
    if wrong == [unbiased]:
        raise Wrong(
            "a ReLU alone does not break the sum, its biases do: test it, do not look for layers by their names."
        )
    raise Wrong(
        f"for {wrong[0]} your answers for three classes are {said[wrong[0]]}; measure the rest for each picture."
    )


def control_cases() -> list[tuple[Bool[np.ndarray, "h w"], ...]]:
    """Regions, targets, and what is to be spared: a shape at the picture's edge, and one with a hole."""
    edge, target = np.zeros((2, 16, 20), bool)
    edge[0:4, 17:20] = edge[0, 16] = True
    target[2:14, 8:20] = True
    spared = np.zeros_like(target)
    spared[11:16, 0:20] = True  # below the target, and over its lower rows
    ring, second = np.zeros((2, 18, 14), bool)
    ring[5:10, 4:9], ring[6:9, 5:8] = True, False
    second[6:16, 2:12] = True
    beside = np.zeros_like(second)
    beside[4:12, 0:5] = True  # the ring covers some of it, and may cover as much
    return [(edge, target, spared), (ring, second, beside)]


@exercise("03.7")
def _(my_control) -> str:
    for region, target, spared in control_cases():
        needed, limit, drawn = int((region & target).sum()), int((region & spared).sum()), []
        for seed in range(60):
            place = np.asarray(my_control(region, target, spared, np.random.default_rng(seed)))
            if place.shape != region.shape or place.dtype != bool:
                raise Wrong(f"expected a mask of shape {region.shape}, got {place.dtype} of shape {place.shape}.")
            if place.sum() != region.sum():
                raise Wrong(
                    f"the region has {region.sum()} pixels, and the moved one {place.sum()}: none of it may leave the "
                    "picture, and a hole in it stays a hole."
                )
            if not np.array_equal(_cut(place), _cut(region)):
                raise Wrong(
                    "the shape has changed: it must move as a whole. np.roll lets it leave at one edge and return at "
                    "the other."
                )
            if (place & target).sum() < needed:
                raise Wrong(
                    f"the region covers {needed} pixels of the target, one of your places {(place & target).sum()}: a "
                    "control that covers less could not have won."
                )
            if (place & spared).sum() > limit:
                raise Wrong(
                    f"the region covers {limit} pixels of what is spared, one of your places {(place & spared).sum()}: "
                    "a blur of the cat lowers its score, so that such a control loses for another reason."
                )
            drawn.append(place)
        found = {place.tobytes() for place in drawn}
        possible = {moved(region, target, spared, np.random.default_rng(seed)).tobytes() for seed in range(60)}
        if len(found) == 1:
            raise Wrong("all seeds give the same place: draw one of the allowed places at random, with rng.")
        if len(found) < 0.6 * len(possible):
            raise Wrong(
                f"60 seeds give {len(found)} places, about {len(possible)} are expected: all places that cover at "
                "least as much are equally likely, those that cover more as well."
            )
    return "the same shape, elsewhere on the target, and it could have won."


def _cut(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "rows columns"]:
    box = ground_truth_box(mask)
    return mask[box.top : box.bottom, box.left : box.right]
