"""What one cell of a layer can see of the picture, computed from the windows of the layers in front of it.

A window of k cells, s apart, d dilated and p padded turns (size r, stride j, start b) into

    (r + d (k - 1) j,  j s,  b - p j);

where branches meet, the largest counts. Everything else must work on each cell by itself. (Araujo, Norris, Sim,
"Computing Receptive Fields of Convolutional Neural Networks", Distill 2019.)
"""

from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from xailab.hooks import evaluating, find_layer


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
    """Compute what a cell of a layer sees.

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
    with torch.no_grad(), evaluating(model), Windows(picture) as windows:
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


class Windows(TorchFunctionMode):
    """Follow the receptive field of every tensor of a forward pass.

    Attributes:
        fields: By tensor; None where it is not known, and nothing where the picture does not lead to it.
    """

    WINDOWS: ClassVar = {  # how the arguments behind the input are called
        F.conv2d: ("weight", "bias", "stride", "padding", "dilation"),
        F.max_pool2d: ("kernel_size", "stride", "padding", "dilation"),
        F.avg_pool2d: ("kernel_size", "stride", "padding"),
    }
    EVERYTHING = (F.group_norm, F.instance_norm)  # they keep the picture's shape, and look at all of it

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
        if None in fields or func in self.EVERYTHING:
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
