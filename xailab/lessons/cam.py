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
        picture: uint8 RGB, square.
        label: Class to explain.
        threshold: Of the boxes, as a share of the map's maximum.
        opacity: Of the overlay at the map's maximum.
    """
    batch = network.preprocess(picture)
    with torch.no_grad():
        probability = network(batch).softmax(1)[0, label].item()
    map = class_activation_map(network, batch, label)[0]
    large = images.upsample(map, picture.shape[:2])
    figure, axes = figures.new(1, 3, width=10.4, height=3.7)
    figures.picture(axes[0], picture, f"{network.classes[label]}: probability {probability:.2f}")
    figures.picture(axes[1], map.numpy(), "the map itself", **figures.map_scale(map.numpy()))
    figures.colour_bar(figure, axes[1], "evidence of a cell (units of the score)")
    figures.picture(axes[2], images.overlay(picture, map, opacity), f"boxes at {threshold:.0%} of the maximum")
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
    map = torch.zeros(6, 10)
    map[1:3, 4:9] = 1.0
    map[4:6, 0:2] = 0.65
    found = tuple(int(v) for v in my_box(map, 0.6))
    if found == (1, 4, 3, 9):
        raise Wrong(
            "rows and columns are exchanged: left and right run along the width, top and bottom along the height."
        )
    if found == (4, 1, 8, 2):
        raise Wrong(
            "the last row and column are missing: right and bottom are exclusive, one past the last bright pixel."
        )
    if found == (0, 1, 9, 6):
        raise Wrong("this box spans both bright regions: keep the largest connected one (scipy.ndimage.label).")
    if found != (4, 1, 9, 3):
        raise Wrong(f"expected (left, top, right, bottom) = (4, 1, 9, 3) for this map, got {found}.")
    if tuple(int(v) for v in my_box(torch.tensor([[0.0, 3.0, 5.0, 10.0]]), 0.6)) != (3, 0, 4, 1):
        raise Wrong(
            "the threshold is a share of the map's maximum: in the row 0, 3, 5, 10 only the 10 reaches 0.6 of it."
        )
    corner = torch.zeros(4, 4)
    corner[3, 0] = 5.0
    if tuple(int(v) for v in my_box(corner, 0.6)) != (0, 3, 1, 4):
        raise Wrong("a single bright pixel in the corner should give the box (0, 3, 1, 4).")
    return "connected, in the right order, ends exclusive."


@exercise("02.3")
def _(my_half) -> str:
    features = torch.zeros(4, 6, 8)
    features[0, 3:, :4] = 1.0  # left, below
    features[1, :3, 3:7] = 1.5  # above, in the middle
    features[2, 3:, 4:] = 1.2  # right, below
    features[3] = 0.4  # a little everywhere
    weight = torch.eye(4)  # class c has its evidence in channel c
    maps = torch.einsum("ck,khw->chw", weight, features)
    left, right, whole = maps[..., :4].sum((1, 2)), maps[..., 4:].sum((1, 2)), maps.sum((1, 2))
    top = maps[:, :3].sum((1, 2))
    answer = int(my_half(features, weight))
    if not 0 <= answer < 4:
        raise Wrong(f"the answer is a class number from 0 to 3, got {answer}.")
    truth = int(left.argmax())
    others = {
        int(right.argmax()): "that is the class with the most evidence in the right half.",
        int(
            top.argmax()
        ): "that is the class with the most evidence in the upper half: columns are the last dimension.",
        int(whole.argmax()): "that is the class with the most evidence in the whole picture.",
    }
    if answer != truth:
        raise Wrong(
            others.get(answer, f"expected class {truth}, got {answer}: add each class's map over the left half.")
        )
    return "evidence adds up over any region, since nothing was normalised."
