"""The exercises: their cases, their wrong answers, and their checks."""

from collections.abc import Sequence
from typing import SupportsFloat

import numpy as np
import torch
from torch import Tensor, nn

from xailab import images
from xailab.boxes import Box, iou
from xailab.datasets import scenes
from xailab.lessons import Wrong, exercise
from xailab.lessons.judging import judge
from xailab.localization import boxes, ground_truth_box
from xailab.models import zoo

MAP = "one map, without its leading axis"


def _sum(alpha: Tensor, features: Tensor) -> Tensor:
    return (alpha.view(-1, 1, 1) * features).sum(0)


def _stretched(cam: Tensor) -> Tensor:
    return (cam - cam.min()) / (cam.max() - cam.min())


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
            found = my_counterfactual(head, features, c)
            judge(found, expected, mistakes, MAP, f"the counterfactual map of class {c} is wrong.")
    return "what speaks against a class, and nothing left behind on the network."


def _overlaps(
    maps: Tensor,
    masks: np.ndarray,
    threshold: float,
    *,
    large=lambda maps, masks: images.upsample(maps, masks.shape[1:]),
    of=lambda cam, threshold: boxes(cam, threshold)[:1],
    overlap=lambda box, mask: iou(box, ground_truth_box(mask)),
) -> list[float]:
    """The overlap of each scene in 03.3 (0 without a box), with one thing that can be done wrongly at a time."""
    return [
        max((overlap(box, mask) for box in of(cam, threshold)), default=0.0)
        for cam, mask in zip(large(maps, masks), masks, strict=True)
    ]


def _brightest(cam: Tensor, threshold: float) -> list[Box]:
    y, x = divmod(int(cam.argmax()), cam.shape[1])
    found = boxes(cam, threshold)
    return [box for box in found if box.left <= x < box.right and box.top <= y < box.bottom][:1]


def _absolute(cam: Tensor, threshold: float) -> list[Box]:
    return boxes(cam, min(1.0, threshold / float(cam.max())))[:1]


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
        of=lambda cam, threshold: boxes(cam, threshold)[-1:]
    ),
    "negative cells are counted: the threshold is a share of the raw maximum, and a map stretched to [0, 1] has lost "
    "its zero.": _hits(large=lambda maps, masks: images.upsample(images.normalise(maps), masks.shape[1:])),
    "a box that overlaps by less than 0.5 was counted as a hit: a hit has an IoU of at least 0.5.": _hits(0.3),
    "an IoU of exactly 0.5 is a hit, too: at least 0.5.": _hits(0.5 + 1e-9),
    "the threshold is a share of each map's maximum, and here it is compared with the values themselves.": _hits(
        of=_absolute
    ),
    "the threshold that was given is not used: this is 0.15, whatever is asked for.": _hits(
        of=lambda cam, threshold: boxes(cam, 0.15)[:1]
    ),
    "the threshold that was given is not used: this is 0.6, whatever is asked for.": _hits(
        of=lambda cam, _: boxes(cam, 0.6)[:1]
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
        return "the cheat is found by where it looks, without a single label."
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
