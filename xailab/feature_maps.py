"""What does each layer see? Feature maps, filters, receptive fields.

``feature_maps`` looks into a network while it runs as a whole. ``chain`` takes some kinds of its layers out and applies
them one after another, which shows what each kind does: convolutions alone, with their ReLUs, with the pooling.
"""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from xailab.hooks import evaluating, find_layer, recording

Kinds = type[nn.Module] | Sequence[type[nn.Module]]


@torch.no_grad()
def feature_maps(model: nn.Module, images: Float[Tensor, "n c h w"], kinds: Kinds = (nn.Conv2d,)) -> dict[str, Tensor]:
    """Record what every layer of some kinds puts out while the network runs as a whole.

    Args:
        model: Any network; it runs in eval mode and is left as it was.
        images: A batch, normalised for the network.
        kinds: Classes of layers.

    Returns:
        Outputs by layer name, usually (n, k, h, w), in the order in which the layers ran.

    Raises:
        ValueError: if the network has no layer of these kinds.
    """
    names = list(_layers(model, kinds))
    with evaluating(model), recording(model, *names) as outputs:
        model(images)
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
    """
    outputs, x = [], images
    with evaluating(model):
        for name, layer in _layers(model, kinds).items():
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
    """Turn the weights of a convolution on colour pictures into pictures.

    Grey is 0, and all filters share one scale: the largest absolute weight is black or white.

    Args:
        model: A network.
        layer: A convolution with three input channels; the network's first convolution if None.
    """
    if layer is None:
        layer = next(iter(_layers(model, nn.Conv2d)))
    name, convolution = find_layer(model, layer)
    weight = getattr(convolution, "weight", torch.empty(0)).detach().float().cpu()
    if weight.ndim != 4 or weight.shape[1] != 3:
        raise ValueError(
            f"layer {name!r} has weights of shape {tuple(weight.shape)}; only filters of three input channels, "
            "(k, 3, h, w), are colour pictures: usually those of the first convolution"
        )
    share = weight / weight.abs().max().clamp(min=torch.finfo(weight.dtype).tiny)
    return ((share + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def _layers(model: nn.Module, kinds: Kinds) -> dict[str, nn.Module]:
    kinds = kinds if isinstance(kinds, type) else tuple(kinds)
    found = {name: module for name, module in model.named_modules() if isinstance(module, kinds) and name}
    if not found:
        raise ValueError(f"{type(model).__name__} has no layer of the kinds {kinds}")
    return found


class ReceptiveField(NamedTuple):
    """What one cell of a layer can see of the picture, in pixels along one side (rows; columns are alike).

    Attributes:
        size: Side of the square that it sees.
        stride: Distance between the squares of neighbouring cells.
        start: First pixel of the first cell's square; negative where padding lies outside the picture.
    """

    size: int
    stride: int
    start: int


def receptive_field(model: nn.Module, layer: nn.Module | str, size: int = 224, channels: int = 3) -> ReceptiveField:
    """Compute a layer's receptive field from the windows of the layers in front of it.

    A window of k cells, s apart, d dilated and p padded turns (size r, stride j, start b) into

        (r + d (k - 1) j,  j s,  b - p j);

    where branches meet, the largest counts. Everything else must work on each cell by itself. (Araujo, Norris, Sim,
    "Computing Receptive Fields of Convolutional Neural Networks", Distill 2019.)

    Args:
        model: A network of convolutions and poolings with square windows.
        layer: One of its layers with rows and columns.
        size: Side of a picture that the network takes.
        channels: Of the picture.

    Raises:
        ValueError: if a layer does not exist, was not called, or something before it
            is no window, as a global average.
    """
    name, module = find_layer(model, layer)
    found: list[ReceptiveField | None] = []
    device = next((parameter.device for parameter in model.parameters()), "cpu")
    picture = torch.zeros(1, channels, size, size, device=device)
    with torch.no_grad(), evaluating(model), _Windows(picture) as windows:
        handle = module.register_forward_hook(lambda module, inputs, output: found.append(windows.fields.get(output)))
        try:
            model(picture)
        finally:
            handle.remove()
    if not found:
        raise ValueError(f"layer {name!r} was not called in the forward pass: choose one that leads to the scores")
    if found[-1] is None:
        raise ValueError(
            f"the receptive field of layer {name!r} is not known: before it, something (a global average, attention, a "
            "change of layout) may see all of the picture at once"
        )
    return found[-1]


class _Windows(TorchFunctionMode):
    """Follow the receptive field of every tensor of a forward pass; None where it is not known."""

    WINDOWS: ClassVar = {  # how the arguments behind the input are called
        F.conv2d: ("weight", "bias", "stride", "padding", "dilation"),
        F.max_pool2d: ("kernel_size", "stride", "padding", "dilation"),
        F.avg_pool2d: ("kernel_size", "stride", "padding"),
    }

    def __init__(self, picture: Tensor) -> None:
        super().__init__()
        self.fields = WeakTensorKeyDictionary()
        self.fields[picture] = ReceptiveField(1, 1, 0)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        before = [x for x in _tensors((args, kwargs)) if x in self.fields]
        output = func(*args, **kwargs)
        for y in _tensors(output):
            if before:
                self.fields[y] = self._field(func, args, kwargs, before, y)
        return output

    def _field(self, func, args, kwargs, before: list[Tensor], output: Tensor) -> ReceptiveField | None:
        fields = [self.fields[x] for x in before]
        if None in fields:
            return None
        if func in self.WINDOWS:
            names = self.WINDOWS[func]
            return _through_window(fields[0], **(dict(zip(names, args[1:], strict=False)) | kwargs))
        same = min(x.ndim for x in (output, *before)) > 2 and {x.shape[-2:] for x in before} == {output.shape[-2:]}
        return max(fields) if same else None  # where nothing moves, each cell is taken to be worked on by itself


def _through_window(
    field: ReceptiveField, *, weight=None, kernel_size=None, stride=None, padding=0, dilation=1, **_
) -> ReceptiveField:
    kernel = _side(weight.shape[2:] if kernel_size is None else kernel_size)
    stride = 1 if stride is None and kernel_size is None else _side(stride or kernel_size)
    reach = _side(dilation) * (kernel - 1)
    padding = {"same": reach // 2, "valid": 0}[padding] if isinstance(padding, str) else _side(padding)
    return ReceptiveField(
        field.size + reach * field.stride, field.stride * stride, field.start - padding * field.stride
    )


def _side(value) -> int:
    sides = set(value) if isinstance(value, (tuple, list, torch.Size)) else {value}
    if len(sides) != 1:
        raise ValueError(f"the window {tuple(value)} is not square: its receptive field is no square either")
    return int(sides.pop())


def _tensors(values) -> list[Tensor]:
    return [value for value in torch.utils._pytree.tree_leaves(values) if isinstance(value, Tensor)]
