"""Lesson 02: the explorer of class activation maps, and the checks of its exercises."""

from collections.abc import Sequence

import ipywidgets as widgets
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from xailab import figures, images
from xailab.cam import class_activation_map
from xailab.lessons import Wrong, exercise
from xailab.lessons.explorer import explorer
from xailab.localization import boxes


def draw_cam(
    network: nn.Module, picture: np.ndarray, label: int, threshold: float = 0.6, opacity: float = 0.75
) -> Figure:
    """Draw a picture with boxes, its raw map with a colour bar in units of the score, and the overlay.

    Args:
        network: One that ``class_activation_map`` takes, with ``.preprocess`` and ``.classes``.
        picture: uint8 RGB; of a network that crops, its crop is drawn.
        label: Class to explain.
        threshold: Of the boxes, as a share of the map's maximum.
        opacity: Of the overlay at the map's maximum.
    """
    batch = network.preprocess(picture)
    if network.preprocess.crop is not None:  # the map covers what the network saw, not what was cut off
        picture = network.preprocess.frame(picture)
    with torch.no_grad():
        probability = network(batch).softmax(1)[0, label].item()
    map = class_activation_map(network, batch, label)[0]
    large = images.upsample(map, picture.shape[:2])
    figure, axes = figures.new(1, 3, width=10.4, height=3.7)
    figures.picture(axes[0], picture, f"{network.classes[label]}: probability {probability:.2f}")
    figures.picture(axes[1], map.numpy(), "the map itself", **figures.map_scale(map.numpy()))
    figures.colour_bar(figure, axes[1], "evidence of a cell (units of the score)")
    figures.picture(axes[2], images.overlay(picture, map, opacity), f"boxes at {100 * threshold:.0f} % of the maximum")
    for box in boxes(large, threshold):
        figures.outline(axes[0], box)
        figures.outline(axes[2], box)
    return figure


def cam_explorer(network: nn.Module, pictures: Sequence[np.ndarray]) -> widgets.VBox:
    """Choose picture, class, threshold and opacity; see ``draw_cam``."""

    def draw(picture: int = 1, label: int = 0, threshold: float = 0.6, opacity: float = 0.75) -> Figure:
        return draw_cam(network, pictures[picture - 1], label, threshold, opacity)

    return explorer(
        draw,
        picture=(1, len(pictures)),
        label=widgets.Dropdown(options=[(name, i) for i, name in enumerate(network.classes)], description="class"),
        threshold=widgets.FloatSlider(0.6, min=0.05, max=1.0, step=0.05),
        opacity=widgets.FloatSlider(0.75, min=0.0, max=1.0, step=0.05),
    )


def _case(classes: int = 3) -> tuple[Tensor, Tensor]:
    """Features (k=4, h=3, w=5) and weights (classes, k), signed, so that a stray ReLU shows."""
    generator = torch.Generator().manual_seed(7)
    return torch.rand(4, 3, 5, generator=generator), torch.randn(classes, 4, generator=generator)


def _tensor(value, shape: tuple[int, ...]) -> Tensor:
    value = torch.as_tensor(value, dtype=torch.float32)
    if tuple(value.shape) != shape:
        raise Wrong(f"expected a result of shape {shape}, got {tuple(value.shape)}.")
    return value


@exercise("02.1")
def _(my_cam) -> str:
    features, weight = _case()
    expected = torch.stack([sum(weight[c, k] * features[k] for k in range(4)) for c in range(3)])
    for c in range(3):
        map = torch.as_tensor(my_cam(features, weight, c), dtype=torch.float32)
        if map.shape == (4, 3, 5):
            raise Wrong("one map is left for each channel: add the weighted channels up.")
        map = _tensor(map, (3, 5))
        if torch.allclose(map, expected[c].relu(), atol=1e-5) and (expected[c] < 0).any():
            raise Wrong("CAM has no ReLU: negative cells speak against the class, and without them the mean is wrong.")
        if torch.allclose(map, features.mean(0), atol=1e-5) or torch.allclose(map, features.sum(0), atol=1e-5):
            raise Wrong("every channel counts alike here: weight it with weight[c, k] first.")
        if torch.allclose(map, expected[c] / 15, atol=1e-5) or torch.allclose(map, expected[c] / 4, atol=1e-5):
            raise Wrong("nothing is divided in M_c: the average over space comes afterwards.")
        low, high = expected[c].min(), expected[c].max()
        if torch.allclose(map, (expected[c] - low) / (high - low), atol=1e-4):
            raise Wrong("return the raw map; stretched to [0, 1] it no longer adds up to the score.")
        if not torch.allclose(map, expected[c], atol=1e-5):
            raise Wrong(f"the map of class {c} is wrong: in cell (0, 0) it should be {expected[c][0, 0]:.3f}, "
                        f"yours is {map[0, 0]:.3f}. Is it sum_k weight[c, k] * features[k]?")  # fmt: skip
    return "your map is the library's."


@exercise("02.2")
def _(my_box) -> str:
    def box(map: Tensor, threshold: float) -> tuple[int, ...]:
        return tuple(int(value) for value in my_box(map, threshold))

    map = torch.zeros(6, 10)
    map[1:3, 4:9] = 1.0
    map[4:6, 0:2] = 0.65
    hints = {
        (1, 4, 3, 9): "rows and columns are exchanged: left and right run along the width, top and bottom the height.",
        (4, 1, 8, 2): "the last row and column are missing: right and bottom are one past the last bright pixel.",
        (0, 1, 9, 6): "this box spans both bright regions: keep the largest connected one (scipy.ndimage.label).",
        (0, 0, 10, 6): "that is the whole map: label 0 is the background, so the regions are numbered from 1.",
        (0, 4, 2, 6): "that is the smaller region: count the pixels of each, without the background.",
    }
    found = box(map, 0.6)
    if found != (4, 1, 9, 3):
        usual = f"expected (left, top, right, bottom) = (4, 1, 9, 3) for this map, got {found}."
        raise Wrong(hints.get(found, usual))
    if box(torch.tensor([[0.0, 3.0, 5.0, 10.0]]), 0.6) != (3, 0, 4, 1):
        raise Wrong("the threshold is a share of the maximum: in the row 0, 3, 5, 10 only the 10 reaches 0.6 of it.")
    map = torch.zeros(8, 10)
    map[0:2, 0:2] = 2.0
    map[4, 2:7] = 1.0
    map[5, 7:9] = 1.0
    hints = {
        (
            0,
            0,
            2,
            2,
        ): "the largest region has the most pixels, not the highest value; and what reaches 0.5 counts (>=).",
        (2, 4, 7, 5): "diagonal neighbours are connected too: pass structure=np.ones((3, 3)) to label.",
    }
    found = box(map, 0.5)
    if found != (2, 4, 9, 6):
        usual = f"a small bright square and a longer, paler line: expected the line's box (2, 4, 9, 6), got {found}."
        raise Wrong(hints.get(found, usual))
    return "the largest connected region, in the right order, ends exclusive."


@exercise("02.3")
def _(my_half) -> str:
    generator = torch.Generator().manual_seed(104)
    features, weight = torch.rand(4, 6, 8, generator=generator), torch.randn(5, 4, generator=generator)
    maps = torch.einsum("ck,khw->chw", weight, features)
    left = maps[..., :4]
    answer = int(my_half(features, weight))
    if not 0 <= answer < 5:
        raise Wrong(f"the answer is a class number from 0 to 4, got {answer}.")
    if answer == int(left.sum((1, 2)).argmax()):
        return "evidence adds up over any region, since nothing was normalised."
    others = {
        "in the left half without the negative cells: evidence against a class counts too": left.relu().sum((1, 2)),
        "in the single strongest cell of the left half: add up all of them": left.amax((1, 2)),
        "in the right half": maps[..., 4:].sum((1, 2)),
        "in the upper half: columns are the last dimension": maps[:, :3].sum((1, 2)),
        "in the whole picture": maps.sum((1, 2)),
    }
    same = [words for words, evidence in others.items() if int(evidence.argmax()) == answer]
    if same:
        raise Wrong(f"class {answer} has the most evidence {same[0]}. The left half is columns 0 to w // 2 - 1.")
    raise Wrong(f"class {answer} is wrong: weight the features into maps first, then add up the left half of each.")
