"""Follow the receptive field of every tensor through one forward pass without values."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from xailab.hooks import find_layer
from xailab.receptive_field.recurrence import PIXEL, ReceptiveField, Seen, Unknown
from xailab.receptive_field.rules import Call, Rule, constant, rule_of
from xailab.tracing import META, Skeleton, Tracer, name_of, storage_of, tensors_in

OVERWRITTEN = Unknown("before it, a part of a tensor is written in place")


def receptive_field(
    model: nn.Module,
    layer: nn.Module | str,
    size: int | tuple[int, int] = 224,
    channels: int = 3,
    *,
    everywhere: bool = False,
) -> ReceptiveField:
    """Compute the receptive field of a layer. The network itself is not called: a copy without values runs.

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
    """Return the field along one side, and how many pixels beyond it cells near the edge see.

    Raises:
        ValueError: if the field is not known, or differs between rows and columns.
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
    return ReceptiveField(*rows[:3]), max(rows.beyond, columns.beyond)


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
        """Look up the field of a layer's output, or why it is not known; None if it does not depend on the picture."""
        if not isinstance(output, Tensor):
            return Unknown(f"the layer returns {type(output).__name__}, not a tensor: choose a layer inside it")
        if id(output) in self._fields:
            return self._fields[id(output)][1]
        return OVERWRITTEN if output.is_meta and storage_of(output) in self._overwritten else None

    def run(self, call: Callable[[], Any]) -> Any:
        """Run the network.

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
        known = [(x, field) for x in tensors_in(arguments.values()) if (field := self.of(x)) is not None]
        if not known:
            return func(*args, **kwargs)
        rule = rule_of(func)
        if rule is None:
            return NotImplemented  # its parts may be known
        out = func(*args, **kwargs)
        written = _written(func, arguments)
        for output in (*tensors_in((out,)), *written) if rule is not constant else ():
            self._note(output, self._after(func, rule, known, arguments, output))
        self._write(written)
        return out

    def _after(
        self,
        func: torch._ops.OpOverload,
        rule: Rule,
        known: list[tuple[Tensor, Seen | Unknown]],
        arguments: dict[str, Any],
        output: Tensor,
    ) -> Seen | Unknown:
        """Compute the field of an output of an operation from those of its inputs."""
        seen = []
        for x, field in known:
            if isinstance(field, Unknown):
                return field
            seen.append((x, field))
        after = rule(Call(seen, arguments, output))
        return Unknown(f"before it, {self._name(func)} {after}") if isinstance(after, str) else after

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
