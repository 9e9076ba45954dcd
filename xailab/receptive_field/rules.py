"""How each operation of torch changes a receptive field."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from xailab.receptive_field.recurrence import Seen, Side
from xailab.tracing import is_pointwise, name_of


class Call(NamedTuple):
    """One operation on tensors that depend on the picture.

    Attributes:
        inputs: These tensors and their fields.
        arguments: All arguments by name.
        output: One of the outputs.
    """

    inputs: list[tuple[Tensor, Seen]]
    arguments: dict[str, Any]
    output: Tensor


Rule = Callable[[Call], Seen | str]  # the field of the output, or words that say why it is not known


def constant(call: Call) -> str:
    """Mark operations whose output has the shape of the inputs and none of their values: it sees nothing."""
    raise NotImplementedError


def at_its_place(call: Call) -> Seen | str:
    """Join the fields of all inputs, where each cell of the output depends on the cells at its own place alone."""
    if any(x.shape[-2:] != call.output.shape[-2:] or x.ndim < 2 for x, _ in call.inputs):
        return "spreads cells over others"
    sides = zip(*(field for _, field in call.inputs), strict=True)
    joined = []
    for same in sides:
        if len({side.stride for side in same}) > 1:
            return "joins branches with cells of different sizes"
        joined.append(functools.reduce(Side.joined, same))
    return Seen(*joined)


def along_channels(call: Call) -> Seen | str:
    """Join the fields, where the operation works along dimensions that are neither rows nor columns."""
    dims = call.arguments.get("dim", call.arguments.get("dims"))
    ndim = max(call.inputs[0][0].ndim, call.output.ndim)
    dims = tuple(range(ndim)) if dims is None or dims == [] else dims
    if any(d % ndim >= ndim - 2 for d in ((dims,) if isinstance(dims, int) else dims)):
        return "works along rows or columns"
    return at_its_place(call)


def batch_norm(call: Call) -> Seen | str:
    """Keep the field, unless the mean and the variance are those of the picture."""
    if any(call.arguments.get(name) for name in ("training", "train", "use_input_stats")):
        return "takes the statistics of the whole picture"
    return at_its_place(call)


def view(call: Call) -> Seen | str:
    """Keep the field where rows and columns stay as they are."""
    if call.inputs[0][0].shape[-2:] != call.output.shape[-2:]:
        return "changes the layout"
    return at_its_place(call)


def permute(call: Call) -> Seen | str:
    """Keep the field where rows and columns stay the last dimensions."""
    ndim = call.output.ndim
    dims = [d % ndim for d in call.arguments.get("dims", ())]
    if "dim0" in call.arguments:
        dims = list(range(ndim))
        for d in ("dim0", "dim1"):
            dims[call.arguments[d]] = -1
    return at_its_place(call) if dims[-2:] == [ndim - 2, ndim - 1] else "changes the layout"


def squeeze(call: Call) -> Seen | str:
    """Keep the field, unless rows or columns are squeezed away."""
    x = call.inputs[0][0]
    dims = call.arguments.get("dim", range(x.ndim))
    dims = (dims,) if isinstance(dims, int) else dims
    if any(d % x.ndim >= x.ndim - 2 and x.shape[d] == 1 for d in dims):
        return "changes the layout"
    return at_its_place(call)


def crop(call: Call) -> Seen | str:
    """Move the first cell, and step over cells, as a slice does."""
    x, seen = call.inputs[0]
    dim = call.arguments["dim"] % x.ndim
    if dim < x.ndim - 2:
        return at_its_place(call)
    first, _, step = slice(call.arguments["start"], None, call.arguments["step"]).indices(x.shape[dim])
    sides = list(seen)
    sides[dim - x.ndim + 2] = sides[dim - x.ndim + 2].through(0, step, -first)
    return Seen(*sides)


def convolution(call: Call) -> Seen | str:
    """Follow the recurrence; a transposed convolution of stride 1 is one with another padding."""
    weight, padding = call.arguments["weight"], call.arguments["padding"]
    if any(x is not call.arguments["input"] for x, _ in call.inputs):
        return "has weights that depend on the picture"
    if weight.ndim < 4:
        return "has a window along one dimension"
    strides, dilation = call.arguments["stride"], call.arguments["dilation"]
    reaches = [d * (k - 1) for d, k in zip(_pair(dilation), weight.shape[-2:], strict=True)]
    paddings = _pair(padding)
    if call.arguments["transposed"]:
        if set(_pair(strides)) != {1}:
            return "enlarges, so that neighbouring cells see differently"
        paddings = [reach - p for reach, p in zip(reaches, paddings, strict=True)]
    return _window(call.inputs[0][1], reaches, _pair(strides), paddings)


def pooling(call: Call) -> Seen | str:
    """Follow the recurrence."""
    kernel = call.arguments["kernel_size"]
    dilation, padding = call.arguments.get("dilation", 1), call.arguments["padding"]
    reaches = [d * (k - 1) for d, k in zip(_pair(dilation), _pair(kernel), strict=True)]
    return _window(call.inputs[0][1], reaches, _pair(call.arguments["stride"] or kernel), _pair(padding))


def adaptive_pooling(call: Call) -> Seen | str:
    """Keep the field where the size does not change."""
    if call.inputs[0][0].shape[-2:] != call.output.shape[-2:]:
        return "has windows that depend on the picture's size, as a global average"
    return at_its_place(call)


def padding(mode: str | None, call: Call) -> Seen | str:
    """Move the first cell; where the padding repeats cells, those near the edge see pixels beyond their square."""
    amounts = call.arguments["pad" if "pad" in call.arguments else "padding"]
    amounts = [*amounts, 0, 0][: max(4, len(amounts))]
    sides = []
    for side, (before, after) in zip(call.inputs[0][1], (amounts[2:4], amounts[:2]), strict=True):
        cells = _repeated(mode or call.arguments.get("mode", "constant"), max(before, after, 0))
        moved = side.through(0, padding=before)
        sides.append(moved._replace(beyond=side.beyond + cells * side.stride))
    return Seen(*sides)


def _repeated(mode: str, widest: int) -> float:
    """Count how far from the edge the cells lie that a padding repeats, added to its own width."""
    return {"constant": 0, "replicate": widest, "reflect": 2 * widest, "circular": math.inf if widest else 0}[mode]


def _window(seen: Seen, reaches: Sequence[int], strides: Sequence[int], paddings: Sequence[int]) -> Seen:
    each = zip(seen, reaches, strides, paddings, strict=True)
    return Seen(*(side.through(reach, stride, padding) for side, reach, stride, padding in each))


def _pair(value: int | Sequence[int]) -> list[int]:
    """List the values of rows and of columns: the last two of a window in three dimensions."""
    values = [value] if isinstance(value, int) else list(value)
    return (values * 2)[-2:] if len(values) == 1 else values[-2:]


RULES: dict[Rule, str] = {
    constant: "zeros_like ones_like empty_like full_like rand_like randn_like randint_like new_zeros new_ones new_full "
    "new_empty new_empty_strided is_same_size",
    at_its_place: "alias detach clone copy _to_copy lift_fresh expand zero fill native_channel_shuffle channel_shuffle",
    along_channels: "sum mean amax amin max min argmax argmin aminmax var std var_mean std_mean prod all any norm "
    "linalg_vector_norm logsumexp _softmax _log_softmax cumsum cumprod logcumsumexp cummax cummin sort topk kthvalue "
    "median glu cat stack unsqueeze select unbind split split_with_sizes index_select flip roll",
    batch_norm: "batch_norm native_batch_norm cudnn_batch_norm miopen_batch_norm _native_batch_norm_legit "
    "_native_batch_norm_legit_no_training _batch_norm_with_update _batch_norm_no_update",
    view: "view _unsafe_view reshape _reshape_alias",
    permute: "permute transpose",
    squeeze: "squeeze",
    crop: "slice",
    convolution: "convolution",
    pooling: "max_pool2d_with_indices avg_pool2d max_pool3d_with_indices avg_pool3d",
    adaptive_pooling: "_adaptive_avg_pool2d adaptive_max_pool2d",
    functools.partial(padding, None): "pad",
    functools.partial(padding, "constant"): "constant_pad_nd",
    functools.partial(padding, "reflect"): "reflection_pad2d reflection_pad3d",
    functools.partial(padding, "replicate"): "replication_pad2d replication_pad3d",
    functools.partial(padding, "circular"): "_pad_circular",
}
"""The rules of ATen's operations; besides these, all that torch tags as pointwise are known."""

_BY_NAME = {name: rule for rule, names in RULES.items() for name in names.split()}


@functools.cache
def rule_of(func: torch._ops.OpOverload) -> Rule | None:
    """Find the rule of an operation; None where there is none."""
    if is_pointwise(func):
        return at_its_place
    name = name_of(func)
    return _BY_NAME.get(name.removeprefix("aten::").rstrip("_")) if name.startswith("aten::") else None
