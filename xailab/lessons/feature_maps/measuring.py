"""Measures of feature maps: what is active, what looks like edges, what a cell sees, what a channel prefers."""

import copy
import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from xailab.feature_maps import feature_maps
from xailab.hooks import eval_mode, recording
from xailab.receptive_field import receptive_field

TRAINED_WITHOUT = Path(__file__).with_name("trained_without.json")


def trained_without() -> dict[str, list[float]]:
    """Read the accuracies of recipes/feature_maps_without.py: by what stands between layers, one for each seed."""
    rows = json.loads(TRAINED_WITHOUT.read_text(encoding="utf-8"))["rows"]
    return {name: [row["unseen"] for row in rows if row["between"] == name] for name in {r["between"]: 0 for r in rows}}


def layers_of(network: nn.Module) -> nn.Sequential:
    """Return the convolutional part of a VGG, its ``features``."""
    features = network.get_submodule("features")
    if not isinstance(features, nn.Sequential):
        raise TypeError(f"expected a VGG, whose features are an nn.Sequential, got {type(features).__name__}")
    return features


def convolutions(network: nn.Module) -> dict[str, str]:
    """Name the convolutions of a VGG as its paper does: ``{"conv1_1": "features.0", ...}``."""
    names, block, number = {}, 1, 0
    for name, module in layers_of(network).named_children():
        if isinstance(module, nn.Conv2d):
            number += 1
            names[f"conv{block}_{number}"] = f"features.{name}"
        elif isinstance(module, nn.MaxPool2d):
            block, number = block + 1, 0
    return names


@torch.no_grad()
def activations(network: nn.Module, batch: Float[Tensor, "n 3 h w"], kind: type[nn.Module] = nn.ReLU) -> dict:
    """Compute the maps (n, k, rows, columns) of a VGG's convolutions, by the paper's names: after or before their ReLU.

    Args:
        network: A VGG without batch norms.
        batch: Pictures, normalised for it.
        kind: ``nn.ReLU`` (after it) or ``nn.Conv2d`` (before it).
    """
    maps = feature_maps(layers_of(network), batch, kind)
    return dict(zip(convolutions(network), maps.values(), strict=True))


def untrained(network: nn.Module, seed: int = 0) -> nn.Module:
    """Copy a network with fresh convolutions: He et al.'s normal weights, no bias. The rest stays."""
    network = copy.deepcopy(network)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
    return network


def sobel(picture: UInt8[np.ndarray, "h w 3"]) -> Float[Tensor, "h w"]:
    """Compute the strength of edges: the length of Sobel's gradient of the grey picture, in grey values a pixel."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    across, down = (cv2.Sobel(grey, cv2.CV_32F, *order) / 8 for order in ((1, 0), (0, 1)))
    return torch.from_numpy(np.hypot(across, down))


def correlation(a: Float[Tensor, "n *shape"], b: Float[Tensor, "n *shape"]) -> Float[Tensor, " n"]:
    """Compute Pearson's correlation of each pair; 0 where one of the two is constant."""
    a, b = (each.flatten(1).double() for each in (a, b))
    a, b = (each - each.mean(1, keepdim=True) for each in (a, b))
    length = a.norm(dim=1) * b.norm(dim=1)
    return ((a * b).sum(1) / length.clamp(min=1e-12)).float()


def edge_likeness(maps: Float[Tensor, "n k h w"], edges: Float[Tensor, "n H W"]) -> Float[Tensor, " n"]:
    """Correlate the mean |map| over a layer's channels with Sobel's picture: is the layer an edge detector?

    Sobel's picture is averaged down to the layer's cells.
    """
    small = F.adaptive_avg_pool2d(edges.unsqueeze(1), (maps.shape[-2], maps.shape[-1])).squeeze(1)
    return correlation(maps.abs().mean(1), small)


def dead_channels(maps: Float[Tensor, "n k h w"]) -> Int[Tensor, " dead"]:
    """Find the channels that are 0 at every place of every picture (maps after the ReLU)."""
    return (maps.amax((0, 2, 3)) <= 0).nonzero().flatten()


def selectivity(maps: Float[Tensor, "n k h w"], labels: Sequence[int]) -> Float[Tensor, " k"]:
    """Compute how much each channel prefers its best class, 0 (not at all) to 1 (it answers to nothing else).

    The index of Morcos et al. 2018: (m - r) / (m + r), with m the mean activation on the best class and r
    that on all other pictures. A dead channel gets 0.

    Args:
        maps: After the ReLU.
        labels: Class of each picture.
    """
    return _preference(maps, labels)[0]


def best_class(maps: Float[Tensor, "n k h w"], labels: Sequence[int]) -> Int[Tensor, " k"]:
    """Find the class that each channel answers to most, on average."""
    return _preference(maps, labels)[1]


def _preference(maps: Tensor, labels: Sequence[int]) -> tuple[Tensor, Tensor]:
    mean, of_class = maps.mean((2, 3)), torch.as_tensor(labels)
    classes = sorted(set(of_class.tolist()))
    means = torch.stack([mean[of_class == c].mean(0) for c in classes])
    largest, best = means.max(0)
    rest = torch.stack([mean[of_class != classes[i]].mean(0)[k] for k, i in enumerate(best.tolist())])
    return (largest - rest) / (largest + rest).clamp(min=1e-12), torch.tensor(classes)[best]


def all_positive(network: nn.Module) -> nn.Module:
    """Copy a network so that gradients reach all that a cell can see: nothing cancels, is closed, or loses a maximum.

    Weights become 0.1, biases 0, and of each pooling's window the mean is taken.
    """
    network = copy.deepcopy(network)
    for parameter in layers_of(network).parameters():
        nn.init.constant_(parameter, 0.1 if parameter.ndim > 1 else 0.0)
    layers = layers_of(network)
    for i, module in enumerate(layers):
        if isinstance(module, nn.MaxPool2d):
            layers[i] = nn.AvgPool2d(module.kernel_size, module.stride, module.padding)
    return network


def cell_gradient(
    network: nn.Module, batch: Float[Tensor, "n 3 h w"], layer: str, cell: int | None = None
) -> Float[Tensor, "n h w"]:
    """Compute |gradient| of one cell by each pixel, summed over colours.

    The cell stands in row and column ``cell``, in the middle if None. Differentiated is the sum over its channels.
    """
    batch = batch.detach().clone().requires_grad_()
    with torch.enable_grad(), eval_mode(network), recording(network, layer) as outputs:
        layers_of(network)(batch)
        middle = outputs[layer].shape[-1] // 2 if cell is None else cell
        score = outputs[layer][:, :, middle, middle].sum()
        return torch.autograd.grad(score, batch)[0].abs().sum(1)


def seen_square(network: nn.Module, layer: str, side: int, cell: int | None = None) -> tuple[int, int]:
    """Compute the first pixel that a cell sees of a picture with this side, and the first one after these."""
    field = receptive_field(network, layer, side)
    middle = (side // field.stride) // 2 if cell is None else cell
    start = field.start + middle * field.stride
    return start, start + field.size


def side_holding(mass: Float[Tensor, "h w"], square: tuple[int, int], share: float = 0.9) -> int:
    """Find the side of the smallest square, with the centre of ``square``, that holds this share of all mass."""
    start, end = square
    for cut in range((end - start) // 2, -1, -1):
        low, high = max(start + cut, 0), end - cut
        if high > low and mass[low:high, low:high].sum() >= share * mass.sum():
            return end - start - 2 * cut
    return end - start
