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

from xailab.graph import nonlinear_steps
from xailab.hooks import check_differentiable, is_scripted, recording
from xailab.targets import Target, class_gradients, opened, resolve
from xailab.token_maps import ChannelAxes, check_places


class GlobalAverage(ChannelAxes):
    """While it is entered, find the last global average of feature maps, by its numbers, under any name.

    From that average on, the network runs with a graph, so that the weights of what follows can be read off.

    Attributes:
        features: What is averaged, (n, k, h, w).
        pooled: Their averages, a leaf with n k numbers.
    """

    POOLINGS = (F.adaptive_avg_pool2d, F.avg_pool2d, torch.mean, Tensor.mean)  # these average, be it one cell

    def __init__(self, images: Float[Tensor, "n c h w"]) -> None:
        super().__init__(images)
        self.features: Tensor | None = None
        self.pooled: Tensor | None = None
        self._recent: list[Tensor] = []  # the last feature maps, the newest first

    def __torch_function__(self, func, types, args=(), kwargs=None):
        with torch.set_grad_enabled(self.pooled is not None):
            output = super().__torch_function__(func, types, args, kwargs)
        if not isinstance(output, Tensor) or not output.is_floating_point():
            return output
        if output.ndim == 4 and 1 not in (output.shape[1:3].numel(), output.shape[2:].numel()):
            # feature maps again: what was averaged is not the last
            features = output.detach()
            self._put(features, self.of(output))
            self._recent, self.pooled = [features, *self._recent[:3]], None
            return features if output.requires_grad else output
        if output.requires_grad:  # computed from the average
            return output
        given = args[0] if args else None
        candidates = self._recent
        if func in self.POOLINGS and isinstance(given, Tensor) and given.shape[2:].numel() == 1:
            candidates = [given.detach()]
        for features in candidates:
            averaged = _averaged(features, self.of(features), output)
            if averaged is not None:
                self.features, self.pooled = averaged, output.detach().clone().requires_grad_()
                with torch.enable_grad():
                    return self.pooled.clone()  # the network may work on it in place
        return output


def _averaged(features: Float[Tensor, "n _ _ _"], axis: int | None, output: Tensor) -> Float[Tensor, "n k h w"] | None:
    """The features with their channels second, if the output is their mean over rows and columns, else None."""
    if features.shape[0] == 0 or output.shape[:1] != features.shape[:1]:
        return None
    rounding = 8 * torch.finfo(output.dtype).eps * features.abs().max().item()
    for second, maps in ((1, features), (3, features.permute(0, 3, 1, 2))):
        n, k = maps.shape[:2]
        if axis in (second, None) and output.numel() == n * k:
            average = maps.mean((2, 3), dtype=torch.promote_types(maps.dtype, torch.float32))
            if torch.allclose(average, output.reshape(n, k).to(average), rtol=0, atol=rounding):
                return maps
    return None


def class_activation_map(
    model: nn.Module,
    images: Float[Tensor, "n c height width"],
    target: Target = None,
    *,
    layer: nn.Module | str | None = None,
) -> Float[Tensor, "n h w"] | Float[Tensor, "n k h w"]:
    """Compute M_c(x, y) = sum_k w^c_k f_k(x, y), equation 2 of Zhou et al. 2016 (arXiv 1512.04150).

    One forward pass in eval mode; the network is left as it was. What is averaged is found by its numbers, and w is
    the score's derivative by the averages, so that every spelling of a global average and of a linear layer will
    do: ResNet, DenseNet, GoogLeNet, EfficientNet, MobileNet (dropout in between does nothing in eval mode), Swin, and
    SqueezeNet, where the average comes last.

    Args:
        model: A network that ends in global average pooling and one linear layer, or in global average pooling.
        images: A batch, normalised for the network.
        target: One class, one for each image, several for each (shape (n, k)), or None for each image's top class.
        layer: The last feature maps' layer, if you want to be sure which it is; it is checked.

    Returns:
        Raw maps at the layer's resolution, (n, h, w), or (n, k, h, w) where k classes were asked for. In units of the
        score: ``maps.mean((-2, -1)) + bias`` equals the logit.

    Raises:
        ValueError: if the network does not end so (use ``grad_cam`` then) or is scripted, its feature maps have one
            cell, ``layer`` is not what is averaged, a class or layer does not exist, or the scores are not finite.
        TypeError: if images are no floating-point tensor, or a target is no class number.

    Warns:
        MixedBatch: if the score of an image changes with the images beside it.

    >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    >>> images = torch.rand(2, 3, 8, 8)
    >>> cam = class_activation_map(network, images, target=3)
    >>> torch.allclose(cam.mean((1, 2)) + network[4].bias[3], network(images)[:, 3], atol=1e-5)
    True
    """
    check_differentiable(model)
    if is_scripted(model):
        raise ValueError(
            f"this {type(model).__name__}, or a part of it, is scripted or traced, which hides its last layers: give "
            "the network that it was made from"
        )
    with torch.inference_mode(False), torch.no_grad(), opened(model, images) as entry:
        images = images.clone() if images.is_inference() else images
        with recording(entry.network, *([] if layer is None else [layer])) as outputs, GlobalAverage(images) as average:
            scores = entry.scores(images)
        f, pooled = _head(entry.network, average, scores, images)
    if layer is not None:
        _check_averaged(layer, next(iter(outputs.values()), None), f)
    chosen = resolve(target, scores)
    weights = class_gradients(scores, chosen, [pooled])
    maps = [torch.einsum("nk, nkhw -> nhw", w.reshape(f.shape[:2]), f) for (w,) in weights if w is not None]  # eq. 2
    return torch.stack(maps, 1) if chosen.ndim == 2 else maps[0]


def _head(network: nn.Module, average: GlobalAverage, scores: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the last feature maps and their averages; raise ValueError if the scores are not linear in these."""
    features, pooled = average.features, average.pooled
    if features is None or pooled is None or not scores.requires_grad or nonlinear_steps(scores, pooled):
        raise ValueError(
            f"{type(network).__name__} does not end in global average pooling and one linear layer (or in global "
            "average pooling), so it has no class activation map; xailab.grad_cam.grad_cam explains any layer of any "
            "network"
        )
    check_places("the last before the average", features.shape[2:], images.shape[2:])
    return features, pooled


def _check_averaged(layer: nn.Module | str, output: Tensor | None, features: Tensor) -> None:
    name = repr(layer) if isinstance(layer, str) else type(layer).__name__
    if output is None:
        raise ValueError(f"layer {name} was not called in the forward pass: choose the last layer before the average")
    if output.shape != features.shape or not torch.equal(output, features):
        raise ValueError(
            f"layer {name} is not what this network averages: something (a residual sum, a ReLU, a layer) comes "
            "between it and the average, so its weighted maps do not add up to the score; leave out layer=, or choose "
            "the last layer before the average"
        )
