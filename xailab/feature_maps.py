"""What does each layer see? Feature maps and filters.

``feature_maps`` looks into a network while it runs as a whole. ``chain`` takes some kinds of its layers out and applies
them one after another, which shows what each kind does: convolutions alone, with their ReLUs, with the pooling.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from xailab.hooks import eval_mode, find_layer, recording, running_eagerly, unwrapped
from xailab.targets import check_images

Kinds = type[nn.Module] | Sequence[type[nn.Module]]


@torch.no_grad()
def feature_maps(model: nn.Module, images: Float[Tensor, "n c h w"], kinds: Kinds = (nn.Conv2d,)) -> dict[str, Tensor]:
    """Record the outputs of every layer of some kinds while the network runs as a whole.

    Args:
        model: Any network; it runs in eval mode and is left as it was.
        images: A batch, normalised for the network.
        kinds: Classes of layers.

    Returns:
        Outputs by layer name, usually (n, k, h, w), in the order in which the layers ran; of a single layer that is
        given as the network, by the name "".

    Raises:
        ValueError: if the network has no layer of these kinds.

    >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2))
    >>> {name: tuple(output.shape) for name, output in feature_maps(network, torch.rand(1, 3, 8, 8)).items()}
    {'0': (1, 4, 6, 6)}
    """
    network = unwrapped(model)
    with eval_mode(network), recording(network, *_layers(network, kinds)) as outputs:
        network(check_images(images))
    return outputs


@torch.no_grad()
def chain(model: nn.Module, images: Float[Tensor, "n c h w"], kinds: Kinds) -> list[Tensor]:
    """Apply only the layers of some kinds, one after another, in the order of the network.

    Of VGG16, ``nn.Conv2d`` gives the 13 convolutions without what lies between them; with ``nn.ReLU`` and
    ``nn.MaxPool2d`` as well, the last output is that of ``model.features``.

    Args:
        model: A network whose layers follow one another, or a part of one (``model.features``).
        images: A batch, normalised for the network.
        kinds: Classes of layers.

    Returns:
        The output of each layer. Smaller than the network's own, or larger, where layers that change the size are
        left out.

    Raises:
        ValueError: if there is no such layer, or one does not take what the one before it puts out.

    >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2))
    >>> [tuple(output.shape) for output in chain(network, torch.rand(1, 3, 8, 8), [nn.Conv2d, nn.MaxPool2d])]
    [(1, 4, 6, 6), (1, 4, 3, 3)]
    """
    outputs, x = [], check_images(images)
    with eval_mode(model), running_eagerly(model):
        for name, layer in _layers(unwrapped(model), kinds).items():
            try:
                x = layer(x.clone())  # an in-place layer must not change the output before it
            except RuntimeError as error:
                raise ValueError(
                    f"layer {name!r} does not take the {tuple(x.shape)} that comes before it: its layers do not form "
                    "one chain; choose other kinds, or a part of the network (model.features)"
                ) from error
            outputs.append(x)
    return outputs


def filters(model: nn.Module, layer: nn.Module | str | None = None) -> UInt8[np.ndarray, "k h w 3"]:
    """Draw the weights of a convolution on colour pictures as pictures.

    Grey is 0, and all filters share one scale: the largest absolute weight is black or white.

    Args:
        model: A network.
        layer: A convolution with three input channels; the network's first convolution if None.

    Raises:
        ValueError: if there is no such layer, or its weights are not (k, 3, h, w).

    >>> filters(nn.Sequential(nn.Conv2d(3, 4, 5), nn.ReLU())).shape
    (4, 5, 5, 3)
    """
    if layer is None:
        layer = next(iter(_layers(unwrapped(model), nn.Conv2d)))
    name, convolution = find_layer(model, layer)
    weight = getattr(convolution, "weight", torch.empty(0)).detach().float().cpu()
    if weight.ndim != 4 or weight.shape[1] != 3:
        raise ValueError(
            f"layer {name!r} has weights of shape {tuple(weight.shape)}; only filters of three input channels, "
            "(k, 3, h, w), are colour pictures: usually those of the first convolution"
        )
    share = weight / weight.abs().max().clamp(min=torch.finfo(weight.dtype).tiny)
    return ((share + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def _layers(network: nn.Module, kinds: Kinds) -> dict[str, nn.Module]:
    kinds = kinds if isinstance(kinds, type) else tuple(kinds)
    parts = dict(network.named_modules())
    found = {name: part for name, part in parts.items() if isinstance(part, kinds) and (name or len(parts) == 1)}
    if not found:
        raise ValueError(f"{type(network).__name__} has no layer of the kinds {kinds}")
    return found
