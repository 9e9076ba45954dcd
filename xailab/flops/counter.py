"""Count the operations of one forward pass as they reach the dispatcher of torch."""

import math
import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from xailab.flops.rules import CONVOLUTION, COUNTED, Rule, Rules, all_rules, is_free, known_output
from xailab.flops.table import CostTable, Factor, Row
from xailab.tracing import META, Skeleton, Tracer, name_of, storage_of, tensors_in


class UncountedOperation(UserWarning):
    """The network uses an operation whose cost is unknown; its MACs are missing from the totals."""


class HookLeftOut(UserWarning):
    """A hook of the network looks at values and was not called; if the network needs it, the totals are wrong."""


def count(model: nn.Module, *inputs: Any, rules: Rules | None = None, **keywords: Any) -> CostTable:
    """Count the operations of one forward pass, without computing or changing anything.

    A copy of the network without its values runs on torch's meta device, where tensors have a shape and no content:
    this takes milliseconds and no memory for a network of any size. The network is counted as in evaluation, with the
    hooks that it has. It is itself not called: its parameters, buffers, hooks and flags stay as they are.

    >>> table = count(nn.Conv2d(5, 7, 3), (1, 5, 6, 6))
    >>> table.macs, table.weights
    (5040, 315)

    ``rules`` has the costs of your own operations, or other costs than here. A rule is a function of the output and the
    operation's arguments that returns MACs, or a `Rule`, which also names its kind and operands:

    >>> fft = lambda out, x, *_: 5 * x.numel() * round(math.log2(x.numel())) // 4
    >>> class Spectrum(nn.Module):
    ...     def forward(self, x):
    ...         return torch.fft.rfft(x)
    >>> count(Spectrum(), (1024,), rules={"aten::_fft_r2c": fft}).macs
    12800

    Args:
        model: Any module that runs on the meta device: no control flow may depend on tensor values.
        inputs: The arguments of its forward pass, each a tensor on any device, or a shape with the batch, such as
            ``(1, 3, 224, 224)``, which stands for values of the network's own dtype.
        rules: Costs of further operations, by name (as in ``CostTable.unknown``, such as ``"aten::_fft_r2c"`` or
            ``"mine::attention"``) or by operation (``torch.ops.mine.attention``). They come before those of `COUNTED`,
            and before a composite operation is decomposed.
        keywords: Further arguments of the forward pass, treated in the same way.

    Raises:
        TypeError: if the model is not a module in Python, or a rule is neither a function nor a `Rule`.
        ValueError: if it cannot run on the meta device with these inputs.

    Warns:
        UncountedOperation: for operations of unknown cost, listed in ``CostTable.unknown``.
        HookLeftOut: for hooks that look at values.
    """
    if not isinstance(model, nn.Module) or isinstance(model, torch.jit.ScriptModule):
        raise TypeError(f"count needs a torch.nn.Module that is not scripted, got {type(model).__name__}")
    if any(nn.parameter.is_lazy(p) for p in (*model.parameters(), *model.buffers())):
        raise ValueError("the network has lazy layers without a shape yet; run it on one input first")
    known = all_rules(rules or {})
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    left_out: set[tuple[str, int]] = set()
    with torch.inference_mode():
        arguments = [_to_meta(x, dtype) for x in inputs]
        named = {name: _to_meta(x, dtype) for name, x in keywords.items()}
        while (counter := _counted(model, arguments, named, known, left_out)) is None:
            continue  # without the hook that looked at values
    _warn(counter, left_out)
    unknown = {name: tuple(modules) for name, modules in counter.unknown.items()}
    return CostTable(tuple(counter.rows), sum(counter.sizes.values()), unknown, counter.sizes)


def _counted(
    model: nn.Module, arguments: list, named: dict[str, Any], rules: dict[str, Rule], left_out: set[tuple[str, int]]
) -> "_Counter | None":
    """Count once; if a hook fails, leave it out from now on and return None."""
    skeleton = Skeleton(model)
    counter = _Counter(skeleton, rules, left_out)
    try:
        with counter:
            skeleton.network(*arguments, **named)
    except Exception as error:
        if error in counter.failed:
            left_out.add(counter.failed[error])
            return None
        where = f" in {counter.origin[error]}" if counter.origin.get(error) else ""
        raise ValueError(
            f"the network cannot be counted{where}: {error}. It must run on torch's meta device, where tensors have "
            f"no content, with inputs of these shapes: {_described(arguments, named)}"
        ) from error
    return counter


def _warn(counter: "_Counter", left_out: set[tuple[str, int]]) -> None:
    if counter.unknown:
        names = ", ".join(f"{name} ({len(modules)} times)" for name, modules in counter.unknown.items())
        warnings.warn(
            f"operations of unknown cost are missing from the totals: {names}; say what they cost with rules=",
            UncountedOperation,
            stacklevel=3,
        )
    if left_out:
        layers = ", ".join(sorted({name or "(network)" for name, _ in left_out}))
        warnings.warn(
            f"{len(left_out)} hooks of the network (at {layers}) need the values of tensors and were left out: "
            "if the network needs what they do, the totals are wrong",
            HookLeftOut,
            stacklevel=3,
        )


def _to_meta(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, (tuple, list)) and value and all(type(n) is int for n in value):
        return torch.empty(tuple(value), dtype=dtype, device=META)
    return tree_map_only(Tensor, lambda x: torch.empty_like(x, device=META), value)


def _described(arguments: list, named: dict[str, Any]) -> str:
    def text(value: Any) -> str:
        shapes = tree_map_only(Tensor, lambda x: _Text(f"{tuple(x.shape)} {str(x.dtype)[6:]}"), value)
        return repr(shapes)

    return ", ".join([*map(text, arguments), *(f"{name}={text(value)}" for name, value in named.items())]) or "none"


class _Text(str):
    """A word that is printed without quotation marks inside a list, too."""

    __repr__ = str.__str__


class _Counter(Tracer):
    """Add up the costs of a forward pass, operation by operation.

    Attributes:
        rows: The counted operations.
        unknown: The modules that called each operation of unknown cost.
        sizes: Number of elements of each parameter.
    """

    def __init__(self, skeleton: Skeleton, rules: dict[str, Rule], left_out: Iterable[tuple[str, int]]) -> None:
        super().__init__(skeleton, left_out)
        self.rows: list[Row] = []
        self.unknown: dict[str, list[str]] = {}
        parameters = dict(self.network.named_parameters())
        self.sizes = {name: p.numel() for name, p in parameters.items()}
        self._rules = rules
        # Which parameters a tensor is, or is computed from, by its storage, which slices share; none for constants.
        self._sources: dict[int, tuple[str, ...]] = {storage_of(b): () for b in self.network.buffers()}
        self._sources |= {storage_of(p): (name,) for name, p in parameters.items()}
        self._parameters = {storage_of(p) for p in parameters.values()}
        self._kept: list[Tensor] = []  # storages live as long as they are keys

    def operation(self, func: torch._ops.OpOverload, args: tuple, kwargs: dict[str, Any]) -> Any:
        name = name_of(func)
        rule = self._rules.get(name)
        tensors = tensors_in((*args, *kwargs.values()))
        out = known_output(name, args) if rule is None or rule is COUNTED["linear"] else None
        if out is None and rule is None and tensors and not is_free(func):
            return NotImplemented  # a composite operation, such as einsum, is the sum of its parts
        if out is None:
            out = func(*args, **kwargs)
        if rule is not None:
            self._add(rule, out[0] if isinstance(out, (tuple, list)) else out, args, kwargs, tensors)
        self._follow(func, tensors, out)
        return out

    def unknown_operation(self, func: torch._ops.OpOverload, args: tuple, kwargs: dict[str, Any]) -> Any:
        self.unknown.setdefault(name_of(func), []).append(self.stack[-1])
        out = func(*args, **kwargs)
        self._follow(func, tensors_in((*args, *kwargs.values())), out)
        return out

    def joined(self, original: Tensor, empty: Tensor) -> Tensor:
        self._sources[storage_of(empty)] = self._sources.get(storage_of(original), ())
        return empty

    def _follow(self, func: torch._ops.OpOverload, tensors: list[Tensor], out: Any) -> None:
        """Note tensors that are computed from parameters and constants alone, such as a weight that a hook makes."""
        sources = [names for x in tensors if (names := self._sources.get(storage_of(x))) is not None]
        for made in tensors_in((out,)):
            if len(sources) < len(tensors):  # it depends on the input
                if func._schema.is_mutable:
                    self._sources.pop(storage_of(made), None)
            elif storage_of(made) not in self._sources:
                self._sources[storage_of(made)] = tuple(dict.fromkeys(name for names in sources for name in names))
                self._kept.append(made)

    def _add(self, rule: Rule, out: Tensor, args: tuple, kwargs: dict[str, Any], tensors: list[Tensor]) -> None:
        first, second = (None if i is None or i >= len(args) else args[i] for i in rule.operands)
        read = [(x, names) for x in tensors if (names := self._sources.get(storage_of(x)))]
        factors = [(x, names) for x, names in read if x is first or x is second]
        names = (name for _, names in (*factors, *read) for name in names)
        self.rows.append(
            Row(
                module=self.stack[-1],
                kind=_kind(rule, first, second, args),
                input_shape=_shape(first),
                weight_shape=_shape(second),
                output_shape=_shape(out),
                groups=args[8] if rule is CONVOLUTION else 1,
                macs=int(rule.macs(out, *args, **kwargs)),
                weights=sum(x.numel() for x, _ in factors),
                params=sum(self._elements(x, names) for x, names in read),
                bytes=sum(_stored(x) * x.element_size() for x in (*tensors, *tensors_in((out,)))),
                parameters=tuple(dict.fromkeys(names)),
                factors=tuple(self._factor(x, names) for x, names in factors),
            )
        )

    def _elements(self, x: Tensor, names: tuple[str, ...]) -> int:
        """Count the elements of a parameter or its slice, or of all parameters that a tensor is computed from."""
        return x.numel() if storage_of(x) in self._parameters else sum(self.sizes[name] for name in names)

    def _factor(self, x: Tensor, names: tuple[str, ...]) -> Factor:
        return names, x.untyped_storage().nbytes() // x.element_size()


def _shape(x: Any) -> tuple[int, ...]:
    return tuple(x.shape) if isinstance(x, Tensor) else ()


def _kind(rule: Rule, x: Any, weight: Any, args: tuple) -> str:
    if rule is not CONVOLUTION:
        return rule.kind
    groups = args[8]
    if args[6]:
        return "transposed"
    if groups == x.shape[1] > 1:  # torch gives an input without a batch one before it comes here
        return "depthwise"
    return "pointwise" if groups == 1 and weight[0, 0].numel() == 1 else "convolution"


def _stored(x: Tensor) -> int:
    """Count the elements in memory: an expanded dimension (stride 0) is stored once."""
    return math.prod(size for size, stride in zip(x.shape, x.stride(), strict=True) if stride)
