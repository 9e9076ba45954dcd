"""What one cell of a layer can see of the picture, computed from the windows of the layers before it.

A window of k cells, s apart, d dilated and p padded turns (size r, stride j, start b) into

    (r + d (k - 1) j,  j s,  b - p j);

where branches meet, the field is the smallest one that holds both. (Araujo, Norris, Sim, "Computing Receptive Fields of
Convolutional Neural Networks", Distill 2019.) Operations that are known to work on each place by itself change
nothing. After any other operation, the field is not known, and the reason is kept.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from xailab.hooks import find_layer
from xailab.tracing import META, Skeleton, Tracer, is_pointwise, name_of, storage_of, tensors_in


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

    @property
    def centre(self) -> float:
        """Middle of the first cell's square, in pixels from the picture's edge (0.5: middle of the first pixel)."""
        return self.start + self.size / 2

    @property
    def shift(self) -> float:
        """How far an upsampled map puts a cell beyond the middle of what it sees, in pixels (right and down).

        Upsampling draws cell i on the square from i to i + 1 strides, with its middle at i + 1/2.
        """
        return self.stride / 2 - self.centre


class Side(NamedTuple):
    """A receptive field along rows or columns.

    Attributes:
        size, stride, start: As of ``ReceptiveField``.
        astray: How many pixels beyond its square a cell near the edge may see, because a padding repeats what lies
            there; infinite for circular padding.
    """

    size: int
    stride: int
    start: int
    astray: float = 0

    def through(self, reach: int, stride: int = 1, padding: int = 0) -> "Side":
        """After a window that reaches over so many more cells than one."""
        pixels = reach * self.stride
        # A window brings back the cells that a padding repeats, unless it begins in another padding outside of that.
        astray = self.astray and max(0, self.astray + max(0, padding) * self.stride - pixels)
        return Side(self.size + pixels, self.stride * stride, self.start - padding * self.stride, astray)

    def joined(self, other: "Side") -> "Side":
        """What two branches with the same stride see together."""
        start = min(self.start, other.start)
        end = max(self.start + self.size, other.start + other.size)
        return Side(end - start, self.stride, start, max(self.astray, other.astray))


class Seen(NamedTuple):
    """What each cell of a tensor sees, whose last two dimensions are rows and columns."""

    rows: Side
    columns: Side


class Unknown(NamedTuple):
    """Why it is not known what the cells of a tensor see."""

    reason: str


PIXEL = Side(1, 1, 0)


def receptive_field(
    model: nn.Module,
    layer: nn.Module | str,
    size: int | tuple[int, int] = 224,
    channels: int = 3,
    *,
    everywhere: bool = False,
) -> ReceptiveField:
    """Compute what a cell of a layer sees. The network is not called: a copy without values is.

    >>> receptive_field(nn.Sequential(nn.Conv2d(3, 8, 5, stride=2), nn.Conv2d(8, 8, 3)), "1")
    ReceptiveField(size=9, stride=2, start=0)

    Args:
        model: A network of convolutions and poolings, wrapped or not.
        layer: One of its layers with rows and columns.
        size: Side of a picture that the network takes, or its (height, width).
        channels: Channels of the picture.
        everywhere: Whether the field has to hold for the cells near the edge, too. A padding that repeats parts of the
            picture can show them pixels outside of their square.

    Raises:
        ValueError: if a layer does not exist or was not called, or its field is not known or not square (the message
            names the operation), or does not hold everywhere.
    """
    name, module = find_layer(model, layer)
    if isinstance(module, torch.jit.ScriptModule):
        raise ValueError(f"layer {name!r} is scripted or traced and calls no hooks: use the network it came from")
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    skeleton = Skeleton(model)
    found: list[Seen | Unknown | None] = []
    with torch.inference_mode():
        sides = (size, size) if isinstance(size, int) else size
        picture = torch.empty(1, channels, *sides, device=META, dtype=dtype)
        with Fields(skeleton, picture) as fields:
            copied = skeleton.copy_of(module)
            copied.register_forward_hook(lambda module, inputs, output: found.append(fields.of(output)))
            fields.run(lambda: skeleton.network(picture))
    if not found:
        raise ValueError(f"layer {name!r} was not called in the forward pass: choose one that leads to the scores")
    field, astray = square(found[-1], f"the receptive field of layer {name!r}")
    if everywhere and astray:
        raise ValueError(
            f"the receptive field of layer {name!r} is not one square everywhere: a padding (circular, or wider than "
            "the windows after it) repeats other parts of the picture, so that cells near the edge see them"
        )
    return field


def square(seen: Seen | Unknown | None, what: str) -> tuple[ReceptiveField, float]:
    """The field along one side, and how far cells near the edge see beyond it.

    Raises:
        ValueError: if it is not known, or differs between rows and columns.
    """
    if not isinstance(seen, Seen):
        reason = seen.reason if seen else "the picture does not lead to it"
        raise ValueError(f"{what} is not known: {reason}")
    rows, columns = seen
    if rows[:3] != columns[:3]:
        raise ValueError(
            f"{what} is not square: {rows.size} pixels along the rows and {columns.size} along the columns, "
            f"{rows.stride} and {columns.stride} apart, from {rows.start} and {columns.start} on"
        )
    return ReceptiveField(*rows[:3]), max(rows.astray, columns.astray)


class Fields(Tracer):
    """Follow the receptive field of every tensor of a skeleton's forward pass.

    Args:
        skeleton: The network.
        picture: Its input, on the meta device.
    """

    def __init__(self, skeleton: Skeleton, picture: Tensor) -> None:
        super().__init__(skeleton)
        self._fields: dict[int, tuple[Tensor, Seen | Unknown]] = {}
        self._sharing: dict[int, list[Tensor]] = {}  # of each storage, the tensors whose fields are followed
        self._overwritten: dict[int, Tensor] = {}  # by storage
        self._note(picture, Seen(PIXEL, PIXEL))

    def of(self, output: Any) -> Seen | Unknown | None:
        """The field of a layer's output, or why it is not known; None where the picture does not lead to it."""
        if not isinstance(output, Tensor):
            return Unknown(f"the layer returns {type(output).__name__}, not a tensor: choose a layer inside it")
        if id(output) in self._fields:
            return self._fields[id(output)][1]
        return OVERWRITTEN if output.is_meta and storage_of(output) in self._overwritten else None

    def run(self, call: Callable[[], Any]) -> Any:
        """Run the network in this mode.

        Raises:
            ValueError: if it cannot run without values.
        """
        try:
            return call()
        except Exception as error:
            where = f" in {self.origin[error]}" if self.origin.get(error) else ""
            hook = "a hook of " if error in self.failed else ""
            raise ValueError(
                f"the receptive field is not known: {hook}the network fails{where} on a picture of this size without "
                f"values, as if what a cell sees depended on them: {error}"
            ) from error

    def operation(self, func: torch._ops.OpOverload, args: tuple, kwargs: dict[str, Any]) -> Any:
        arguments = _by_name(func, args, kwargs)
        inputs = tensors_in(arguments.values())
        rule = _rule(func)
        known = [(x, field) for x in inputs if (field := self.of(x)) is not None]
        if known and rule is None:
            return NotImplemented  # its parts may be known
        out = func(*args, **kwargs)
        written = _written(func, arguments)
        for y in (*tensors_in((out,)), *written) if known and rule is not constant else ():
            field = next((f for _, f in known if isinstance(f, Unknown)), None) or rule(Call(known, arguments, y))
            self._note(y, Unknown(f"before it, {self._name(func)} {field}") if isinstance(field, str) else field)
        if known:
            self._write(written)
        return out

    def unknown_operation(self, func: torch._ops.OpOverload, args: tuple, kwargs: dict[str, Any]) -> Any:
        out = func(*args, **kwargs)
        written = _written(func, _by_name(func, args, kwargs))
        for y in (*tensors_in((out,)), *written):
            self._note(y, Unknown(f"before it, {self._name(func)} may see other parts of the picture"))
        self._write(written)
        return out

    def _note(self, tensor: Tensor, field: Seen | Unknown) -> None:
        if id(tensor) not in self._fields:
            self._sharing.setdefault(storage_of(tensor), []).append(tensor)
        self._fields[id(tensor)] = (tensor, field)

    def _write(self, written: list[Tensor]) -> None:
        """Note what a write in place does to the other tensors that share the memory."""
        for tensor in written:
            storage = storage_of(tensor)
            self._overwritten[storage] = tensor
            for other in self._sharing.get(storage, ()):
                field = self._fields[id(tensor)][1] if _laid_out(other) == _laid_out(tensor) else OVERWRITTEN
                self._fields[id(other)] = (other, field)

    def _name(self, func: torch._ops.OpOverload) -> str:
        name = name_of(func).removeprefix("aten::").strip("_")
        return f"{name!r} (in {self.stack[-1]})" if self.stack[-1] else repr(name)


OVERWRITTEN = Unknown("before it, a part of a tensor is written in place")


class Call(NamedTuple):
    """One operation on tensors that depend on the picture.

    Attributes:
        inputs: These tensors and their fields.
        arguments: All arguments by their names.
        output: One of its outputs.
    """

    inputs: list[tuple[Tensor, Seen]]
    arguments: dict[str, Any]
    output: Tensor


Rule = Callable[[Call], "Seen | str"]  # a str says what the operation does that makes the field unknown


def constant(call: Call) -> str:
    """The output has the shape of the inputs, and none of their values."""
    raise NotImplementedError


def at_its_place(call: Call) -> Seen | str:
    """Each cell of the output depends on the cells at the same place alone; the field holds those of all inputs."""
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
    """As ``at_its_place``, if the dimensions that the operation works along are neither rows nor columns."""
    dims = call.arguments.get("dim", call.arguments.get("dims"))
    ndim = max(call.inputs[0][0].ndim, call.output.ndim)
    dims = tuple(range(ndim)) if dims is None or dims == [] else dims
    if any(d % ndim >= ndim - 2 for d in ((dims,) if isinstance(dims, int) else dims)):
        return "works along rows or columns"
    return at_its_place(call)


def batch_norm(call: Call) -> Seen | str:
    if any(call.arguments.get(name) for name in ("training", "train", "use_input_stats")):
        return "takes the statistics of the whole picture"
    return at_its_place(call)


def view(call: Call) -> Seen | str:
    if call.inputs[0][0].shape[-2:] != call.output.shape[-2:]:
        return "changes the layout"
    return at_its_place(call)


def permute(call: Call) -> Seen | str:
    ndim = call.output.ndim
    dims = [d % ndim for d in call.arguments.get("dims", ())]
    if "dim0" in call.arguments:
        dims = list(range(ndim))
        for d in ("dim0", "dim1"):
            dims[call.arguments[d]] = -1
    return at_its_place(call) if dims[-2:] == [ndim - 2, ndim - 1] else "changes the layout"


def squeeze(call: Call) -> Seen | str:
    x = call.inputs[0][0]
    dims = call.arguments.get("dim", range(x.ndim))
    dims = (dims,) if isinstance(dims, int) else dims
    if any(d % x.ndim >= x.ndim - 2 and x.shape[d] == 1 for d in dims):
        return "changes the layout"
    return at_its_place(call)


def crop(call: Call) -> Seen | str:
    x, seen = call.inputs[0]
    dim = call.arguments["dim"] % x.ndim
    if dim < x.ndim - 2:
        return at_its_place(call)
    first, _, step = slice(call.arguments["start"], None, call.arguments["step"]).indices(x.shape[dim])
    sides = list(seen)
    sides[dim - x.ndim + 2] = sides[dim - x.ndim + 2].through(0, step, -first)
    return Seen(*sides)


def convolution(call: Call) -> Seen | str:
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
    kernel = call.arguments["kernel_size"]
    dilation, padding = call.arguments.get("dilation", 1), call.arguments["padding"]
    reaches = [d * (k - 1) for d, k in zip(_pair(dilation), _pair(kernel), strict=True)]
    return _window(call.inputs[0][1], reaches, _pair(call.arguments["stride"] or kernel), _pair(padding))


def adaptive_pooling(call: Call) -> Seen | str:
    if call.inputs[0][0].shape[-2:] != call.output.shape[-2:]:
        return "has windows that depend on the picture's size, as a global average"
    return at_its_place(call)


def padding(mode: str | None, call: Call) -> Seen | str:
    """A padding moves the first cell; where it repeats cells, those near the edge see others than in their square."""
    mode = mode or call.arguments.get("mode", "constant")
    amounts = call.arguments.get("pad", call.arguments.get("padding"))
    amounts = [*amounts, 0, 0][: max(4, len(amounts))]
    sides = []
    for side, (before, after) in zip(call.inputs[0][1], (amounts[2:4], amounts[:2]), strict=True):
        widest = max(before, after, 0)
        cells = {"constant": 0, "replicate": widest, "reflect": 2 * widest, "circular": math.inf if widest else 0}[mode]
        moved = side.through(0, padding=before)
        sides.append(moved._replace(astray=side.astray + cells * side.stride))
    return Seen(*sides)


def _window(seen: Seen, reaches: Sequence[int], strides: Sequence[int], paddings: Sequence[int]) -> Seen:
    each = zip(seen, reaches, strides, paddings, strict=True)
    return Seen(*(side.through(reach, stride, padding) for side, reach, stride, padding in each))


def _pair(value: int | Sequence[int]) -> list[int]:
    """Of rows and of columns; the last two of a window in three dimensions."""
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
"""What operations of ATen do to a field; they and those that torch tags as pointwise are all that are known."""

_BY_NAME = {name: rule for rule, names in RULES.items() for name in names.split()}


@functools.cache
def _rule(func: torch._ops.OpOverload) -> Rule | None:
    if is_pointwise(func):
        return at_its_place
    name = name_of(func)
    return _BY_NAME.get(name.removeprefix("aten::").rstrip("_")) if name.startswith("aten::") else None


def _by_name(func: torch._ops.OpOverload, args: tuple, kwargs: dict[str, Any]) -> dict[str, Any]:
    given = {argument.name: value for argument, value in zip(func._schema.arguments, args, strict=False)}
    return _defaults(func) | given | kwargs


@functools.cache
def _defaults(func: torch._ops.OpOverload) -> dict[str, Any]:
    return {a.name: a.default_value for a in func._schema.arguments if a.has_default_value()}


def _written(func: torch._ops.OpOverload, arguments: dict[str, Any]) -> list[Tensor]:
    """The tensors that an operation writes into."""
    if not func._schema.is_mutable:
        return []
    names = [a.name for a in func._schema.arguments if a.alias_info is not None and a.alias_info.is_write]
    return tensors_in(arguments[name] for name in names if name in arguments)


def _laid_out(x: Tensor) -> tuple:
    return x.shape, x.stride(), x.storage_offset()
