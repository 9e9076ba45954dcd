r"""Class activation maps: where in the picture is the evidence for a class?

Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016, arXiv 1512.04150.

A network whose last feature maps f_k(x, y) are averaged over space (global average pooling) and then weighted linearly
has the score (equation 1; the paper leaves out the average's 1/Z and the bias b_c)

    S_c = sum_k w^c_k (1/Z) sum_xy f_k(x, y) + b_c = (1/Z) sum_xy M_c(x, y) + b_c,

with the class activation map (equation 2)

    M_c(x, y) = sum_k w^c_k f_k(x, y).

The map is no approximation: its mean plus the bias *is* the score. Where the average comes last (SqueezeNet: a 1x1
convolution scores every cell, ReLU, average), the scored cells are the map already and there is no bias.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from xailab.hooks import evaluating, find_layer, recording
from xailab.targets import Target, check_scores, resolve


class _Head(TorchFunctionMode):
    """Watch a forward pass for its last global average pooling and the last linear layer behind it.

    Watching the calls instead of the modules finds pooling and linear layers under any name, functional ones too.
    """

    POOLINGS = (F.adaptive_avg_pool2d, F.avg_pool2d, torch.mean, Tensor.mean)

    def __init__(self) -> None:
        super().__init__()
        self.features: Tensor | None = None  # (n, k, h, w), what is averaged
        self.pooled: Tensor | None = None  # (n, k)
        self.linear: tuple[Tensor, Tensor, Tensor] | None = None  # input, weight, output

    def __torch_function__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        given = dict(zip(("input", "weight"), args, strict=False)) | (kwargs or {})
        if func in self.POOLINGS and _is_global_average(given["input"], output):
            self.features, self.pooled = given["input"], output.flatten(1)
        elif func is F.linear:
            self.linear = given["input"], given["weight"], output
        return output


def _is_global_average(features: Tensor, output: Tensor) -> bool:
    """Whether every cell counted, and alike: a 4 x 4 window on 5 x 5 cells, say, gives other numbers."""
    if features.ndim != 4 or output.numel() != features.shape[0] * features.shape[1]:
        return False
    average, rounding = features.mean((2, 3)), 8 * torch.finfo(output.dtype).eps * features.abs().max().item()
    return torch.allclose(average, output.view_as(average), rtol=0, atol=rounding)


@torch.no_grad()
def class_activation_map(
    model: nn.Module,
    images: Float[Tensor, "n c height width"],
    target: Target = None,
    *,
    layer: nn.Module | str | None = None,
) -> Float[Tensor, "n h w"] | Float[Tensor, "n k h w"]:
    """Compute M_c(x, y) = sum_k w^c_k f_k(x, y), equation 2 of Zhou et al. 2016 (arXiv 1512.04150).

    One forward pass in eval mode; the network is left as it was. What is averaged and how it is weighted is read off
    that pass, so ResNet, DenseNet, GoogLeNet, EfficientNet, MobileNet (dropout in between does nothing in eval mode)
    and SqueezeNet (the average comes last) all work without being told about.

    Args:
        model: A network that ends in global average pooling and one linear layer, or in global average pooling.
        images: A batch, normalised for the network.
        target: One class, one for each image, several for each (shape (n, k)), or None for each image's top class.
        layer: The last feature maps' layer, if you want to be sure which it is; it is checked.

    Returns:
        Raw maps at the layer's resolution, (n, h, w), or (n, k, h, w) where k classes were asked for. In units of the
        score: ``maps.mean((-2, -1)) + bias`` equals the logit.

    Raises:
        ValueError: if the network does not end so (use ``grad_cam`` then), or ``layer`` is not what is averaged, or a
            class or layer does not exist, or the scores are not finite.
    """
    names = [] if layer is None else [find_layer(model, layer)[0]]
    with evaluating(model), recording(model, *names) as outputs, _Head() as head:
        logits = check_scores(model, model(images))
    weight = _class_weights(model, logits, head)
    for name in names:
        _check_averaged(name, outputs.get(name), head.features)
    chosen = resolve(target, logits)
    several = chosen.view(len(chosen), -1)
    if weight is None:
        maps = torch.take_along_dim(head.features, several[..., None, None], dim=1)
    else:
        maps = torch.einsum("nck, nkhw -> nchw", weight[several], head.features)
    return maps if chosen.ndim == 2 else maps[:, 0]


def _class_weights(model: nn.Module, logits: Tensor, head: _Head) -> Float[Tensor, "classes k"] | None:
    """Find w in S = w pooled + b; None where the averaged maps are the classes' scores themselves."""
    if head.pooled is not None:
        if torch.equal(logits, head.pooled):
            return None
        if head.linear is not None:
            scored, weight, scores = head.linear
            if torch.equal(scored, head.pooled) and torch.equal(scores, logits):
                return weight
    raise ValueError(
        f"{type(model).__name__} does not end in global average pooling and one linear layer (or in global average "
        "pooling), so it has no class activation map; xailab.grad_cam.grad_cam explains any layer of any network"
    )


def _check_averaged(name: str, output: Tensor | None, features: Tensor) -> None:
    if output is None:
        raise ValueError(f"layer {name!r} was not called in the forward pass: choose the last layer before the average")
    if output.shape != features.shape or not torch.equal(output, features):
        raise ValueError(
            f"layer {name!r} is not what this network averages: something (a residual sum, a ReLU, a layer) comes "
            "between it and the average, so its weighted maps do not add up to the score; leave out layer=, or choose "
            "the last layer before the average"
        )
