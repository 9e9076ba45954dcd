"""Lesson 03: the explorer of Grad-CAM, and the checks of its exercises."""

import warnings
from collections.abc import Sequence

import ipywidgets as widgets
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from xailab import figures, images
from xailab.datasets import scenes
from xailab.grad_cam import NoPositiveEvidence, grad_cam
from xailab.lessons import Wrong, exercise
from xailab.lessons.explorer import explorer
from xailab.lessons.judging import judge
from xailab.models import zoo

LAYERS = ("conv1", "layer1", "layer2", "layer3", "layer4")


def draw_grad_cam(
    network: nn.Module,
    picture: np.ndarray,
    label: int,
    layer: str = "layer4",
    relu: bool = True,
    counterfactual: bool = False,
    opacity: float = 0.75,
) -> Figure:
    """Draw a picture, the raw Grad-CAM map of a class at a layer with its colour bar, and the overlay.

    Args:
        network: Any that ``grad_cam`` takes, with ``.preprocess`` and ``.classes``.
        picture: uint8 RGB; of a network that crops, its crop is drawn.
        label: Class to explain.
        layer: Dotted name of a layer.
        relu: Keep the positive part only.
        counterfactual: Show what speaks against the class.
        opacity: Of the overlay where the map is strongest.
    """
    batch = network.preprocess(picture)
    if network.preprocess.crop is not None:  # the map covers what the network saw, not what was cut off
        picture = network.preprocess.frame(picture)
    with torch.no_grad():
        scores = network(batch)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoPositiveEvidence)
        map = grad_cam(network, batch, layer, label, relu=relu, counterfactual=counterfactual)[0]
    figure, axes = figures.new(1, 3, width=10.4, height=3.8)
    said = f"score {scores[0, label]:.1f}, probability {scores.softmax(1)[0, label]:.2f}"
    figures.picture(axes[0], picture, f"{network.classes[label]}: {said}")
    size = f"{map.shape[0]} × {map.shape[1]} cells"
    empty = "no evidence at all: " if not map.any() else ""
    figures.picture(axes[1], map.numpy(), f"{empty}{layer}, {size}", **figures.map_scale(map.numpy()))
    figures.colour_bar(figure, axes[1], f"evidence {'against' if counterfactual else 'for'} the class")
    over = images.overlay(picture, map, opacity) if relu else images.signed_overlay(picture, map, opacity)
    figures.picture(axes[2], over, "overlay" if relu else "overlay, red for and blue against")
    if counterfactual and not relu:
        axes[2].set_title("overlay, red speaks against")
    return figure


def grad_cam_explorer(network: nn.Module, pictures: Sequence[np.ndarray]) -> widgets.VBox:
    """Choose picture, class, layer, sign and opacity; see ``draw_grad_cam``."""

    def draw(picture=1, label=0, layer="layer4", relu=True, counterfactual=False, opacity=0.75) -> Figure:
        return draw_grad_cam(network, pictures[picture - 1], label, layer, relu, counterfactual, opacity)

    return explorer(
        draw,
        picture=(1, len(pictures)),
        label=widgets.Dropdown(options=[(name, i) for i, name in enumerate(network.classes)], description="class"),
        layer=widgets.Dropdown(options=LAYERS, value="layer4", description="layer"),
        relu=widgets.Checkbox(True, description="ReLU: positive part only"),
        counterfactual=widgets.Checkbox(False, description="counterfactual: against the class"),
        opacity=widgets.FloatSlider(0.75, min=0.0, max=1.0, step=0.05),
    )


MAP = "one map, without its leading axis"


def _sum(alpha: Tensor, features: Tensor) -> Tensor:
    return (alpha.view(-1, 1, 1) * features).sum(0)


def _stretched(map: Tensor) -> Tensor:
    return (map - map.min()) / (map.max() - map.min())


@exercise("03.1")
def _(my_grad_cam) -> str:
    generator = torch.Generator().manual_seed(31)
    features, gradient = torch.rand(4, 3, 5, generator=generator), torch.randn(4, 3, 5, generator=generator)
    signed = _sum(gradient.mean((1, 2)), features)
    expected = signed.relu()
    mistakes = {
        "the ReLU of equation 2 is missing: cells below zero speak against the class.": signed,
        "one map is left for each channel: add the weighted channels up.": (
            gradient.mean((1, 2)).view(-1, 1, 1) * features
        ),
        "the ReLU comes after the sum over channels: applied to each channel before, it drops what speaks against.": (
            gradient.mean((1, 2)).view(-1, 1, 1) * features
        )
        .relu()
        .sum(0),
        "equation 1 takes the mean of the gradient over the cells, not its maximum.": _sum(
            gradient.amax((1, 2)), features
        ).relu(),
        "equation 1 divides by Z: yours is Z times too large (a sum over space where the mean belongs).": 15 * expected,
        "the gradient is multiplied cell by cell here: equation 1 first averages it, one weight for each channel.": (
            gradient * features
        )
        .sum(0)
        .relu(),
        "alpha is averaged over the channels here: it has one value for each channel, a mean over rows and columns.": (
            gradient.mean(0) * features.sum(0)
        ).relu(),
        "features and gradient have changed places: the weights come from the gradient.": _sum(
            features.mean((1, 2)), gradient
        ).relu(),
        "the mean over the channels is taken where equation 2 adds them up.": expected / 4,
        "return the raw map; stretching it to [0, 1] is for pictures, and loses what classes can be compared by.": (
            _stretched(expected)
        ),
        "stretched to [0, 1] before the ReLU: the zero has moved, and evidence against the class counts as for it.": (
            _stretched(signed)
        ),
    }
    judge(my_grad_cam(features, gradient), expected, mistakes, MAP, "the map is not equation 2's.")
    return "one weight for each channel, the weighted sum, and only then the ReLU."


@exercise("03.2")
def _(my_counterfactual) -> str:
    torch_state = torch.random.get_rng_state()
    torch.manual_seed(32)
    head = nn.Sequential(nn.Flatten(), nn.Linear(60, 6), nn.ReLU(), nn.Linear(6, 3))
    features = torch.rand(1, 4, 3, 5)
    torch.random.set_rng_state(torch_state)

    def gradient(c: int, score=lambda s, c: s[0, c]) -> Tensor:
        leaf = features.clone().requires_grad_()
        return torch.autograd.grad(score(head(leaf), c), leaf)[0][0]

    top = int(head(features).argmax())
    for c in range(3):
        signed = _sum(gradient(c).mean((1, 2)), features[0])
        soft = _sum(gradient(c, lambda s, c: s.softmax(1)[0, c]).mean((1, 2)), features[0])
        log = _sum(gradient(c, lambda s, c: s.log_softmax(1)[0, c]).mean((1, 2)), features[0])
        other = _sum(gradient(top).mean((1, 2)), features[0])
        expected = (-signed).relu()
        mistakes = {
            "the ReLU is missing: keep only what speaks against the class.": -signed,
            "this is the ordinary map, what speaks for the class: negate the gradient before it is averaged.": (
                signed.relu()
            ),
            "the ReLU came first: negated after it, only zeros and the evidence *for* the class are left.": (
                -signed.relu()
            ),
            "the score *before* the softmax is differentiated, not the probability.": (-soft).relu(),
            "the score itself is differentiated, not the logarithm of the probability.": (-log).relu(),
            "one minus the stretched map is no counterfactual: cells without any evidence become the brightest.": (
                1 - _stretched(signed.relu())
            ),
            "the gradient is that of the top class: take the class that was asked for.": (-other).relu(),
            "equation 1 divides by Z: take the mean of the gradient over the cells, not its sum.": 15 * expected,
        }
        given = features.clone()
        found = my_counterfactual(head, given, c)
        judge(found, expected, mistakes, MAP, f"the counterfactual map of class {c} is wrong.")
    if any(parameter.grad is not None for parameter in head.parameters()):
        raise Wrong("the map is right, but .grad was left on the network's weights: torch.autograd.grad leaves none.")
    return "what speaks against a class, and nothing left behind on the network."


@exercise("03.3")
def _(my_hit_rate) -> str:
    maps, masks = torch.zeros(5, 4, 4), np.zeros((5, 32, 32), dtype=bool)
    maps[0, 1:3, 1:3], masks[0, 8:24, 8:24] = 1.0, True  # a hit
    maps[1, 0:2, 0:2], masks[1, 16:32, 16:32] = 1.0, True  # a miss
    maps[2, 0, 0], maps[2, 2:4, 1:4], masks[2, 16:32, 8:32] = 1.0, 0.5, True  # a hit of the largest, not the brightest
    maps[3], maps[3, 3, 3] = -0.2, -1.0
    maps[3, 0:2, 0:2], masks[3, 0:16, 0:16] = 1.0, True  # negative cells must not count
    maps[4, 0:2, 0:2], masks[4, 0:18, 0:8] = 1.0, True  # a miss by its overlap, which a looser limit would pass
    rate = float(torch.as_tensor(my_hit_rate(maps, masks, 0.15)))
    if abs(rate - 60) < 1e-6:
        raise Wrong("a rate is a share between 0 and 1, not a percentage.")
    if abs(rate - 0.4) < 1e-6 and abs(float(my_hit_rate(maps[2:3], masks[2:3], 0.15))) < 1e-6:
        raise Wrong("in the third scene the brightest cell is not in the largest region: boxes()[0] is the largest.")
    if abs(rate - 0.4) < 1e-6 and abs(float(my_hit_rate(maps[3:4], masks[3:4], 0.15))) < 1e-6:
        raise Wrong(
            "in the fourth scene negative cells are counted: the threshold is a share of the raw maximum, and a map "
            "stretched to [0, 1] has lost its zero."
        )
    if abs(rate) < 1e-6:
        raise Wrong("no hit at all: enlarge each map to the mask's size first (images.upsample), then look for boxes.")
    if abs(rate - 0.8) < 1e-6:
        raise Wrong("a box that overlaps by less than 0.5 was counted as a hit: a hit has an IoU of at least 0.5.")
    if abs(rate - 0.6) > 1e-6:
        raise Wrong(f"three of these five scenes are hits, a rate of 0.6; yours is {rate:.3f}.")
    if abs(float(my_hit_rate(maps[:1] * 7, masks[:1], 0.15)) - 1) > 1e-6:
        raise Wrong("a map seven times as strong has the same box: the threshold is a share of each map's maximum.")
    wide = torch.zeros(1, 4, 4)
    wide[0, 0:2, 0:2], wide[0, 2:4, 2:4] = 1.0, 0.5
    mask = np.ones((1, 32, 32), dtype=bool)
    if abs(float(my_hit_rate(wide, mask, 0.9))) > 1e-6:
        raise Wrong("the threshold that was given is not used: at 0.9 of the maximum only the brightest part is left.")
    return "the largest component at a share of the maximum, judged at an IoU of 0.5."


@exercise("03.4")
def _(my_verdict) -> str:
    drawn = [scenes.scene(i, kind="biased", split="test", label=scenes.BIASED_CLASS) for i in range(40)]
    drawn = [scene for scene in drawn if scene.mark is not None][:12]
    said = {}
    for name in ("scenes_biased", "scenes_balanced", "scenes_resnet"):
        said[name] = bool(my_verdict(zoo.load(name), drawn))
    if all(said.values()):
        raise Wrong("every network is called a cheat, also one that has never seen a balloon in training.")
    if not any(said.values()):
        raise Wrong(
            "no network is called a cheat, and one of the three is. Its map has cells about as large as the balloon, "
            "and peaks on it or beside it: allow 15 pixels around it. If you compare mass, divide it by the area."
        )
    if not said["scenes_biased"]:
        raise Wrong("the honest networks are accused and the cheat is not: are balloon and bird exchanged?")
    if said["scenes_balanced"] or said["scenes_resnet"]:
        accused = "scenes_balanced" if said["scenes_balanced"] else "scenes_resnet"
        raise Wrong(f"{accused} is accused, and its maps peak on the bird: count maxima there and at the balloon.")
    return "the cheat is found by where it looks, without a single label."
