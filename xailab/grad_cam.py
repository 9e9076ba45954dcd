r"""Grad-CAM: which places of a layer speak for a class, in any network that can be differentiated.

Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017,
arXiv 1610.02391. With the feature maps A^k of a layer, Z cells each, and the score y^c of class c before the softmax,

    alpha^c_k = (1/Z) sum_ij d y^c / d A^k_ij            (equation 1)
    L^c = ReLU(sum_k alpha^c_k A^k)                      (equation 2)

A counterfactual map takes -d y^c / d A^k instead (Section 3.3): it shows what speaks against c. Guided Grad-CAM
(Section 3.2) multiplies L^c, enlarged to the picture, with guided backpropagation.
"""

import warnings
from collections.abc import Sequence
from typing import overload

import torch
from jaxtyping import Float
from torch import Tensor, nn

from xailab.guided_backprop import RecordedReLUs, backward_rule
from xailab.hooks import find_layer, graph_from, unwrapped
from xailab.images import upsample
from xailab.targets import (
    Target,
    check_images,
    class_gradients,
    classes_of,
    image_gradients,
    is_zero,
    opened,
    resolve,
    saturation,
    score_images,
    warn_of_zero,
)
from xailab.token_maps import ChannelAxes, Grid, as_maps

Layer = nn.Module | str
Maps = Float[Tensor, "n h w"] | Float[Tensor, "n k h w"]


class NoPositiveEvidence(UserWarning):
    """A map is zero everywhere: the message says for which class, and what to try."""


@overload
def grad_cam(
    model: nn.Module,
    images: Float[Tensor, "n c height width"],
    layer: Layer,
    target: Target = None,
    *,
    counterfactual: bool = False,
    relu: bool = True,
    grid: Grid | None = None,
) -> Maps: ...
@overload
def grad_cam(
    model: nn.Module,
    images: Float[Tensor, "n c height width"],
    layer: Sequence[Layer],
    target: Target = None,
    *,
    counterfactual: bool = False,
    relu: bool = True,
    grid: Grid | None = None,
) -> dict[str, Maps]: ...
def grad_cam(
    model: nn.Module,
    images: Float[Tensor, "n c height width"],
    layer: Layer | Sequence[Layer],
    target: Target = None,
    *,
    counterfactual: bool = False,
    relu: bool = True,
    grid: Grid | None = None,
) -> Maps | dict[str, Maps]:
    """Compute L^c = ReLU(sum_k alpha^c_k A^k), equations 1 and 2 of Selvaraju et al. 2017 (arXiv 1610.02391).

    One forward pass in eval mode, without a graph up to the layer, and a backward pass from the score to the layer and
    no further (one for each of k classes). The network is left as it was.

    Args:
        model: Any network of images to scores (n, classes).
        images: A batch, normalised for the network.
        layer: A layer or its dotted name; usually the last one that still has space in it. Several give a dict by name.
            Its output is (n, k, h, w), or tokens: (n, tokens, k) as in ViT, (n, h, w, k) as in Swin; which of them, the
            forward pass tells. A layer that is called several times is explained at its last call.
        target: One class, one for each image, several for each (shape (n, k)), or None for each image's top class.
        counterfactual: Negate the gradient: what speaks against the class.
        relu: Keep the positive part only, as the paper does; False keeps the sign.
        grid: Rows and columns of the tokens; found from the picture's shape if None. Tokens in front of the grid (a
            class token) are left out.

    Returns:
        Raw maps at the layer's resolution, (n, h, w), or (n, k, h, w) where k classes were asked for; of several
        layers a dict of them.

    Raises:
        ValueError: if a class or layer does not exist, the layer has no space in it (or one cell), its first dimension
            is not the batch, it was not called, or does not lead to the scores, or the scores are not finite.
        TypeError: if images are no floating-point tensor, or a target is no class number.

    Warns:
        NoPositiveEvidence: if a map is zero everywhere.
        ZeroGradient: with ``relu=False``, if the gradient at the first layer named is zero everywhere.
        MixedBatch: if the score of an image changes with the images beside it.

    >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 6 * 6, 5))
    >>> grad_cam(network, torch.rand(2, 3, 8, 8), "0", target=3, relu=False).shape
    torch.Size([2, 6, 6])
    """
    named = layer if isinstance(layer, Sequence) and not isinstance(layer, str) else [layer]
    check_images(images)
    images = images.clone() if images.is_inference() else images  # else it could not be saved for the way back
    with opened(model, images) as entry:
        layers = _find(entry.network, named)
        with graph_from(entry.network, *layers) as activations, ChannelAxes(images) as channels:
            scores = entry.scores(images)
        chosen = resolve(target, scores)
        _check_batches(layers, activations, scores)
        maps: dict[str, list[Tensor]] = {name: [] for name in layers}
        flat: list[Tensor] = []
        for gradients in class_gradients(scores, chosen, [activations[name] for name in layers]):
            reached = [_reached(name, gradient) for name, gradient in zip(layers, gradients, strict=True)]
            for (name, module), gradient in zip(layers.items(), reached, strict=True):
                features = activations[name]
                both = [features, gradient]
                features, gradient = as_maps(name, module, both, images.shape[2:], channels.of(features), grid)
                maps[name].append(_weighted_sum(features, -gradient if counterfactual else gradient))
            flat.append(is_zero(reached[0]))
    found = {name: torch.stack(each, 1) if chosen.ndim == 2 else each[0] for name, each in maps.items()}
    if relu:
        found = {name: each.relu_() for name, each in found.items()}
        _warn_of_empty(found, chosen, scores, "evidence against" if counterfactual else "positive evidence for")
    else:
        warn_of_zero(torch.stack(flat, 1), chosen, scores)
    return found if named is layer else next(iter(found.values()))


def guided_grad_cam(
    model: nn.Module,
    images: Float[Tensor, "n c height width"],
    layer: Layer,
    target: Target = None,
    *,
    grid: Grid | None = None,
) -> Float[Tensor, "n c height width"] | Float[Tensor, "n k c height width"]:
    """Multiply guided backpropagation with the Grad-CAM map, enlarged bilinearly (Section 3.2 of the paper).

    Both halves share one forward pass: the gradient at the layer is the true one, that at the picture the guided one.

    Args:
        model: A network with ReLUs.
        images, layer, target, grid: As for ``grad_cam``.

    Returns:
        Signed and unscaled, of the images' shape, or (n, k, c, height, width) where k classes were asked for.

    Raises:
        ValueError: as ``grad_cam`` and ``input_gradient`` do.

    Warns:
        NoPositiveEvidence: if a map is zero everywhere.

    >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 5))
    >>> guided_grad_cam(network, torch.rand(2, 3, 8, 8), "1").shape
    torch.Size([2, 3, 8, 8])
    """
    check_images(images)
    network = unwrapped(model)
    ((name, module),) = _find(network, [layer]).items()
    with graph_from(network, name) as activations, RecordedReLUs() as relus, ChannelAxes(images) as channels:
        pictures, scores = score_images(network, images)
    relus.check(model, scores, pictures)
    chosen = resolve(target, scores)
    _check_batches({name: module}, activations, scores)
    features, maps = activations[name], []
    for (gradient,) in class_gradients(scores, chosen, [features], keep_graph=True):
        both = [features, _reached(name, gradient)]
        halves = as_maps(name, module, both, images.shape[2:], channels.of(features), grid)
        maps.append(_weighted_sum(*halves).relu_())
    with backward_rule(relus.nodes, "guided"):
        guided = image_gradients(model, pictures, scores, chosen)
    several = torch.stack(maps, 1)
    _warn_of_empty({name: several}, chosen, scores, "positive evidence for")
    height, width = images.shape[-2:]
    product = guided * upsample(several, (height, width)).unsqueeze(2)
    return product if chosen.ndim == 2 else product[:, 0]


@torch.no_grad()
def _weighted_sum(features: Float[Tensor, "n k h w"], gradient: Float[Tensor, "n k h w"]) -> Float[Tensor, "n h w"]:
    alpha = gradient.mean((2, 3))  # equation 1
    return torch.einsum("nk, nkhw -> nhw", alpha, features)  # equation 2, before its ReLU


def _find(network: nn.Module, layers: Sequence[Layer]) -> dict[str, nn.Module]:
    found = dict(find_layer(network, layer) for layer in layers)
    if not found:
        raise ValueError("name at least one layer")
    return found


def _check_batches(layers: dict[str, nn.Module], activations: dict[str, Tensor], scores: Tensor) -> None:
    """Raise ValueError if a layer was not called, or its first dimension is not the batch."""
    for name in layers:
        if name not in activations:
            raise ValueError(f"layer {name!r} was not called in the forward pass: choose one that leads to the scores")
        features, n = activations[name], len(scores)
        if (
            features.ndim == 0
            or len(features) != n
            or (n > 1 and features.shape[1:2] == (n,) and _crossed(features, scores))
        ):
            raise ValueError(
                f"layer {name!r} puts out shape {tuple(features.shape)} for {n} image{'s' * (n > 1)}: its first "
                "dimension is not the batch, as inside windows or where the sequence comes first; choose a layer "
                "before or after that part, whose output has the images first"
            )


def _crossed(features: Tensor, scores: Float[Tensor, "n classes"]) -> bool:
    """Whether the first image's scores depend on other rows of the features than the first."""
    if not scores.requires_grad:
        return False
    with torch.enable_grad():
        total = scores[0].sum()
    (gradient,) = torch.autograd.grad(total, features, retain_graph=True, allow_unused=True)
    return gradient is not None and bool(gradient[1:].any())


def _reached(name: str, gradient: Tensor | None) -> Tensor:
    if gradient is None:
        raise ValueError(
            f"the scores do not depend on layer {name!r}, or the network runs it under torch.no_grad itself: choose a "
            "layer that leads to them, or one after that block"
        )
    return gradient


def _warn_of_empty(maps: dict[str, Tensor], chosen: Tensor, scores: Tensor, evidence: str) -> None:
    """Warn once of all classes whose map is zero everywhere."""
    for name, each in maps.items():
        empty = (each.amax((-2, -1)) == 0).reshape(chosen.shape)
        if empty.any():
            why = saturation(scores) or "the score does not depend on these cells: choose an earlier layer"
            warnings.warn(
                f"no {evidence} {classes_of(chosen[empty])} at layer {name!r}: the map is zero everywhere. relu=False "
                f"shows what lies below zero; if that is zero too, {why}",
                NoPositiveEvidence,
                stacklevel=3,
            )
