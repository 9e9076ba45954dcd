r"""Grad-CAM: which places of a layer speak for a class, in any network that can be differentiated.

Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017,
arXiv 1610.02391. With the feature maps A^k of a layer, Z cells each, and the score y^c of class c before the softmax,

    alpha^c_k = (1/Z) sum_ij d y^c / d A^k_ij            (equation 1)
    L^c = ReLU(sum_k alpha^c_k A^k)                      (equation 2)

A counterfactual map takes -d y^c / d A^k instead (Section 3.3): it shows what speaks against c. Guided Grad-CAM
(Section 3.2) multiplies L^c, enlarged to the picture, with guided backpropagation.
"""

import math
import warnings
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from xailab.guided_backprop import RecordedReLUs, backward_rule
from xailab.hooks import evaluating, find_layer, graph_behind, unwrapped
from xailab.images import upsample
from xailab.targets import Target, check_images, check_scores, class_gradients, resolve, score_images

Layer = nn.Module | str
Grid = Sequence[int]
Maps = Float[Tensor, "n h w"] | Float[Tensor, "n k h w"]


class NoPositiveEvidence(UserWarning):
    """A map is zero everywhere: the message says for which class, and what to try."""


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
            picture's shape tells. A layer that is called several times is explained at its last call.
        target: One class, one for each image, several for each (shape (n, k)), or None for each image's top class.
        counterfactual: Negate the gradient: what speaks against the class.
        relu: Keep the positive part only, as the paper does; False keeps the sign.
        grid: Rows and columns of the tokens; found from the picture's shape if None. Tokens in front of the grid (a
            class token) are left out.

    Returns:
        Raw maps at the layer's resolution, (n, h, w), or (n, k, h, w) where k classes were asked for; of several
        layers a dict of them.

    Raises:
        ValueError: if a class or layer does not exist, the layer has no space in it, was not called, or does not lead
            to the scores, or the scores are not finite.
        TypeError: if images are no floating-point tensor, or a target is no class number.

    Warns:
        NoPositiveEvidence: if a map is zero everywhere.
    """
    check_images(images)
    several = isinstance(layer, Sequence) and not isinstance(layer, str)
    layers = _inside(model, layer if several else [layer])
    with graph_behind(unwrapped(model), *layers) as activations, evaluating(model):
        # what was made under inference_mode could not be saved for the way back, if the network uses it again
        scores = check_scores(model, unwrapped(model)(images.clone() if images.is_inference() else images))
        _check_called(layers, activations)
        chosen = resolve(target, scores)
        maps: dict[str, list[Tensor]] = {name: [] for name in layers}
        for gradients in class_gradients(scores, chosen, [activations[name] for name in layers]):
            for (name, module), gradient in zip(layers.items(), gradients, strict=True):
                features, gradient = _as_maps(name, module, activations[name], gradient, grid, images.shape[-2:])
                maps[name].append(_weighted_sum(features, -gradient if counterfactual else gradient))
    found = {name: torch.stack(each, 1) if chosen.ndim == 2 else each[0] for name, each in maps.items()}
    if relu:
        found = {name: each.relu_() for name, each in found.items()}
        _warn_of_empty(found, chosen, "evidence against" if counterfactual else "positive evidence for")
    return found if several else next(iter(found.values()))


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
    """
    layers = _inside(model, [layer])
    ((name, module),) = layers.items()
    with graph_behind(unwrapped(model), name) as activations, RecordedReLUs() as relus:
        pictures, scores = score_images(model, images)
    _check_called(layers, activations)
    relus.check(model)
    chosen = resolve(target, scores)
    maps = []
    for (gradient,) in class_gradients(scores, chosen, [activations[name]], keep_graph=True):
        halves = _as_maps(name, module, activations[name], gradient, grid, images.shape[-2:])
        maps.append(_weighted_sum(*halves).relu_())
    with backward_rule(relus.nodes, "guided"):
        guided = [gradient for (gradient,) in class_gradients(scores, chosen, [pictures])]
    if guided[0] is None:
        raise ValueError(f"the scores of this {type(model).__name__} do not depend on its images")
    several = torch.stack(maps, 1)
    _warn_of_empty({name: several}, chosen, "positive evidence for")
    product = torch.stack(guided, 1) * upsample(several, images.shape[-2:]).unsqueeze(2)
    return product if chosen.ndim == 2 else product[:, 0]


@torch.no_grad()
def _weighted_sum(features: Float[Tensor, "n k h w"], gradient: Float[Tensor, "n k h w"]) -> Float[Tensor, "n h w"]:
    alpha = gradient.mean((2, 3))  # equation 1
    return torch.einsum("nk, nkhw -> nhw", alpha, features)  # equation 2, before its ReLU


def _inside(model: nn.Module, layers: Sequence[Layer]) -> dict[str, nn.Module]:
    """The layers by their names in the network, or in the network that ``DataParallel`` wraps."""
    network = unwrapped(model)
    if network is not model:
        layers = [layer.removeprefix("module.") if isinstance(layer, str) else layer for layer in layers]
    found = dict(find_layer(network, layer) for layer in layers)
    if not found:
        raise ValueError("name at least one layer")
    return found


def _check_called(layers: dict[str, nn.Module], activations: dict[str, Tensor]) -> None:
    for name in layers:
        if name not in activations:
            raise ValueError(f"layer {name!r} was not called in the forward pass: choose one that leads to the scores")


def _as_maps(
    name: str, layer: nn.Module, features: Tensor, gradient: Tensor | None, grid: Grid | None, picture: Sequence[int]
) -> tuple[Float[Tensor, "n k h w"], Float[Tensor, "n k h w"]]:
    """Lay a layer's output and its gradient out as feature maps."""
    if gradient is None:
        raise ValueError(
            f"the scores do not depend on layer {name!r}, or the network runs it under torch.no_grad itself: choose a "
            "layer that leads to them, or one behind that block"
        )
    shape, grid = tuple(features.shape), grid and tuple(grid)
    if len(shape) == 4:
        last = _channels_last(layer, shape, grid, picture)
        if grid in (None, shape[1:3] if last else shape[2:]):
            return tuple(each.permute(0, 3, 1, 2) if last else each for each in (features, gradient))
    if len(shape) == 3 and (rows_columns := grid or _grid(shape[1], picture)):
        cells = math.prod(rows_columns)
        if cells <= shape[1]:
            tokens = (each[:, shape[1] - cells :].mT.unflatten(2, rows_columns) for each in (features, gradient))
            return tuple(tokens)
    wanted = "choose a layer whose output has rows and columns" if grid is None else f"grid={grid} does not fit it"
    if len(shape) == 3 and grid is None:
        wanted = "its tokens form no grid that fits the picture: give grid=(rows, columns)"
    raise ValueError(f"layer {name!r} puts out shape {shape}; {wanted}")


def _channels_last(layer: nn.Module, shape: tuple[int, ...], grid: Grid | None, picture: Sequence[int]) -> bool:
    """Whether an output is (n, h, w, k), as in Swin, rather than (n, k, h, w).

    The picture's shape tells: rows and columns share it, up to a cell. Where both readings fit, or neither does, the
    layer's own modules tell: channels come last where a linear layer or layer norm is as wide as the last dimension,
    and no convolution is among them.
    """

    def fits(rows: int, columns: int) -> bool:
        if grid is not None:
            return (rows, columns) == grid
        height, width = picture
        return abs(rows * width - columns * height) <= max(height, width)

    last, first = fits(*shape[1:3]), fits(*shape[2:])
    if last != first:
        return last
    widths = {module.normalized_shape[-1] for module in layer.modules() if isinstance(module, nn.LayerNorm)}
    widths |= {module.out_features for module in layer.modules() if isinstance(module, nn.Linear)}
    return shape[3] in widths and not any(isinstance(module, nn.Conv2d) for module in layer.modules())


def _grid(tokens: int, picture: Sequence[int]) -> Grid | None:
    """Rows and columns of square patches that cover a picture; one token more may be a class token."""
    height, width = picture
    for patches in (tokens, tokens - 1):
        side = math.isqrt(height * width // max(patches, 1))
        if side and side * side * patches == height * width and height % side == width % side == 0:
            return height // side, width // side
    return None


def _warn_of_empty(maps: dict[str, Tensor], chosen: Tensor, evidence: str) -> None:
    """Warn once of all classes whose map is zero everywhere."""
    for name, each in maps.items():
        empty = (each.amax((-2, -1)) == 0).reshape(chosen.shape)
        if empty.any():
            classes = sorted(set(chosen[empty].tolist()))
            named = f"class{'es' if len(classes) > 1 else ''} {', '.join(map(str, classes))}"
            warnings.warn(
                f"no {evidence} {named} at layer {name!r}: the map is zero everywhere. relu=False shows what lies "
                "below zero; if that is zero too, the score does not depend on these cells: choose an earlier layer",
                NoPositiveEvidence,
                stacklevel=3,
            )
