r"""What a convolution costs, by formula and by counting.

A standard convolution that turns an input of M channels into N channels of D_G x D_G values with D_K x D_K
kernels multiplies and adds

.. math:: D_K \cdot D_K \cdot M \cdot N \cdot D_G \cdot D_G

times; a depthwise convolution followed by a pointwise (1 x 1) one

.. math:: D_K \cdot D_K \cdot M \cdot D_G \cdot D_G + M \cdot N \cdot D_G \cdot D_G

times, which is 1/N + 1/D_K^2 of it (MobileNets, arXiv 1704.04861, equations 2 to 5; the paper writes D_F for
D_G because its layers keep their size).

Two units, always named: one MAC (multiply-accumulate, "mult-add" in the paper) is two FLOPs.  Counted are
the operations that sum products: convolutions, linear layers, matrix products and attention.  What does a
few operations for each value (`FREE`) is by the field's convention not counted: it is a hundredth of the
whole, and every published table leaves it out.  An operation that is neither is named in a warning and in
`CostTable.unknown`, since a silent 0 would make the total a lie.
"""

import copy
import html
import math
import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from numbers import Integral

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only


class UncountedOperation(UserWarning):
    """The network uses an operation whose cost is unknown; its MACs are missing from the totals."""


@dataclass(frozen=True)
class Cost:
    """Multiply-accumulates and parameters.  Costs of layers add up with ``+`` and `sum`."""

    macs: int = 0
    params: int = 0

    @property
    def flops(self) -> int:
        """Floating-point operations: a multiplication and an addition for each MAC."""
        return 2 * self.macs

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.macs + other.macs, self.params + other.params)

    def __radd__(self, other: int) -> "Cost":
        return self if other == 0 else NotImplemented  # sum() starts from 0


# ------------------------------------------------------------------------------------------ by formula


def conv_cost(
    in_channels: int,
    out_channels: int,
    kernel_size: int | Sequence[int],
    output_size: int | Sequence[int],
    *,
    groups: int = 1,
    bias: bool = False,
) -> Cost:
    """Cost of one convolution on one image (MobileNets, equation 2, with groups).

    Args:
        in_channels: M.
        out_channels: N.
        kernel_size: D_K, or one number for each spatial dimension.
        output_size: D_G, the size of the *output*: stride and padding act through it alone.
        groups: each output channel sees M / groups input channels; groups = M is a depthwise convolution.
        bias: adds N parameters; its additions are not MACs.

    Raises:
        ValueError: a size is not positive, or the groups divide M or N with a remainder.
    """
    numbers = {"in_channels": in_channels, "out_channels": out_channels, "groups": groups}
    kernel, output = (
        _spatial("kernel_size", kernel_size, output_size),
        _spatial("output_size", output_size, kernel_size),
    )
    if len(kernel) != len(output):
        raise ValueError(f"kernel_size {kernel} and output_size {output} must have as many dimensions")
    for name, value in numbers.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if in_channels % groups or out_channels % groups:
        raise ValueError(f"groups={groups} must divide in_channels={in_channels} and out_channels={out_channels}")
    weights = math.prod(kernel) * (in_channels // groups) * out_channels
    return Cost(macs=weights * math.prod(output), params=weights + (out_channels if bias else 0))


def separable_cost(
    in_channels: int,
    out_channels: int,
    kernel_size: int | Sequence[int],
    output_size: int | Sequence[int],
    *,
    bias: bool = False,
) -> Cost:
    """Cost of a depthwise convolution and the pointwise one after it (MobileNets, equation 5).

    Arguments as in `conv_cost`.
    """
    pointwise = (1,) * len(_spatial("kernel_size", kernel_size, output_size))
    return conv_cost(in_channels, in_channels, kernel_size, output_size, groups=in_channels, bias=bias) + conv_cost(
        in_channels, out_channels, pointwise, output_size, bias=bias
    )


def _spatial(name: str, size: int | Sequence[int], other: int | Sequence[int]) -> tuple[int, ...]:
    """A number stands for a square, or for a cube where the other size has three dimensions."""
    if isinstance(size, Integral):
        size = (size,) * (2 if isinstance(other, Integral) else len(other))
    if not size or any(s < 1 for s in size):
        raise ValueError(f"{name} must be at least 1, got {size}")
    return tuple(size)


# ----------------------------------------------------------------------------------------- by counting


def _convolution_macs(out, x, weight, bias, stride, padding, dilation, transposed, *_):
    # Each output value of a convolution sums over one filter; each input value of a transposed one feeds one.
    return (x if transposed else out).numel() * weight[0].numel()


def _attention_macs(out, query, key, value, *_, **__):
    # Q K^T, then the weights times V, for every query and every key: a mask saves nothing by convention.
    queries = out.numel() // max(1, value.shape[-1])
    return queries * key.shape[-2] * (query.shape[-1] + value.shape[-1])


@dataclass(frozen=True)
class _Rule:
    """How to read the cost of one operation from its arguments."""

    kind: str
    macs: Callable[..., int]
    operands: tuple[int, int]  # positions of the input and of the weight (or second factor)


def _product(first: int, second: int) -> _Rule:
    """A matrix product: each output value is a sum over the first factor's last dimension."""
    return _Rule("matmul", lambda out, *args, **_: out.numel() * args[first].shape[-1], (first, second))


_ATTENTION = _Rule("attention", _attention_macs, (0, 1))
_CONVOLUTION = _Rule("convolution", _convolution_macs, (0, 1))
COUNTED: dict[str, _Rule] = {
    "convolution": _CONVOLUTION,
    "linear": _Rule("linear", lambda out, x, *_: out.numel() * x.shape[-1], (0, 1)),
    "mm": _product(0, 1),
    "bmm": _product(0, 1),
    "mv": _product(0, 1),
    "dot": _product(0, 1),
    "vdot": _product(0, 1),
    "addmm": _product(1, 2),
    "baddbmm": _product(1, 2),
    "addmv": _product(1, 2),
    "addbmm": _Rule("matmul", lambda out, bias, a, b, **_: a.numel() * b.shape[-1], (1, 2)),
    "scaled_dot_product_attention": _ATTENTION,
    "_scaled_dot_product_flash_attention": _ATTENTION,
    "_scaled_dot_product_flash_attention_for_cpu": _ATTENTION,
    "_scaled_dot_product_efficient_attention": _ATTENTION,
    "_scaled_dot_product_cudnn_attention": _ATTENTION,
    "_scaled_dot_product_fused_attention_overrideable": _ATTENTION,
}
"""Operations of torch that sum products, by their name in ATen."""

FREE: dict[str, str] = {
    "elementwise, where torch has no tag for it": "hardswish hardsigmoid hardtanh relu6 mish silu elu celu selu "
    "gelu leaky_relu prelu _prelu_kernel rrelu softplus softshrink hardshrink threshold log_sigmoid_forward "
    "glu clamp clamp_min clamp_max lerp addcmul addcdiv frac fmod remainder relu sigmoid tanh",
    "normalisation": "native_batch_norm cudnn_batch_norm miopen_batch_norm _native_batch_norm_legit "
    "_native_batch_norm_legit_no_training _batch_norm_with_update native_layer_norm native_group_norm "
    "_fused_rms_norm rms_norm _weight_norm_interface",
    "pooling": "max_pool1d max_pool2d max_pool3d max_pool2d_with_indices max_pool3d_with_indices avg_pool1d "
    "avg_pool2d avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d "
    "adaptive_max_pool3d fractional_max_pool2d max_unpool2d",
    "softmax": "_softmax _log_softmax _safe_softmax logsumexp",
    "reduction": "sum mean amax amin aminmax max min argmax argmin var std var_mean std_mean prod cumsum "
    "cumprod any all norm linalg_vector_norm sort topk kthvalue median count_nonzero nansum",
    "resampling": "upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact2d "
    "upsample_linear1d upsample_bilinear2d _upsample_bilinear2d_aa upsample_bicubic2d "
    "_upsample_bicubic2d_aa upsample_trilinear3d grid_sampler_2d grid_sampler_3d",
    "moving data": "cat stack copy clone _to_copy index index_select index_put _unsafe_index "
    "_unsafe_index_put index_add index_copy index_fill gather scatter scatter_add scatter_reduce "
    "embedding roll flip constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d "
    "replication_pad1d replication_pad2d replication_pad3d repeat repeat_interleave masked_fill "
    "masked_scatter masked_select fill zero tril triu im2col col2im native_channel_shuffle pixel_shuffle "
    "pixel_unshuffle take nonzero unique_dim _unique2 bucketize searchsorted unsafe_split "
    "unsafe_split_with_sizes split_with_sizes_copy _unsafe_view _reshape_alias _reshape_copy resize lift "
    "lift_fresh set_ slice_scatter select_scatter diagonal_scatter new_zeros new_ones new_full new_empty "
    "new_empty_strided zeros_like ones_like full_like empty_like rand_like randn_like randint_like "
    "equal is_same_size _local_scalar_dense item",
    "random": "bernoulli native_dropout normal uniform random exponential multinomial rrelu_with_noise",
}
"""Operations that cost a few steps for each value they touch and are not counted, by reason.

To these come all that torch itself tags as elementwise, all views and all that take no tensor.
"""
_FREE_NAMES = frozenset(name for names in FREE.values() for name in names.split())


@dataclass(frozen=True)
class Row:
    """One counted operation.

    Attributes:
        module: dotted name of the module that called it ("" for the network itself).
        kind: convolution, depthwise, pointwise, transposed, linear, matmul or attention.
        input_shape, weight_shape, output_shape: with the batch; the "weight" of a matmul is its second factor.
        groups: of a convolution, else 1.
        macs: multiply-accumulates.
        weights: elements of the factor that is a parameter (0 where none is): the paper's "parameters".
        params: weights and bias.
        bytes: the least traffic with memory: every operand read once, the output written once.
        parameters: names of the parameters it reads, the factor first.
    """

    module: str
    kind: str
    input_shape: tuple[int, ...]
    weight_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    groups: int
    macs: int
    weights: int
    params: int
    bytes: int
    parameters: tuple[str, ...] = field(default=(), repr=False)

    @property
    def flops(self) -> int:
        """Floating-point operations, 2 x MACs."""
        return 2 * self.macs

    @property
    def output_elements(self) -> int:
        """Values that it puts out, over the whole batch."""
        return math.prod(self.output_shape)

    @property
    def intensity(self) -> float:
        """Arithmetic intensity: FLOP per byte."""
        return self.flops / self.bytes if self.bytes else 0.0


@dataclass(frozen=True, repr=False)
class Table:
    """A table that prints aligned and that a notebook shows as HTML."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    total: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    text_columns: int = 1  # the first columns are words and align left

    def without(self, *columns: str) -> "Table":
        """The same table without these columns, for a narrow page."""
        if unknown := set(columns) - set(self.header):
            raise ValueError(f"no column {', '.join(sorted(unknown))}: there are {', '.join(self.header)}")
        kept = [i for i, name in enumerate(self.header) if name not in columns]

        def pick(cells: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(cells[i] for i in kept) if cells else ()

        words = sum(i < self.text_columns for i in kept)
        return Table(pick(self.header), tuple(map(pick, self.rows)), pick(self.total), self.notes, words)

    def _aligned(self, cells: tuple[str, ...]) -> list[tuple[str, bool]]:
        return [(cell, i < self.text_columns) for i, cell in enumerate(cells)]

    def __str__(self) -> str:
        lines = [self.header, *self.rows, *([self.total] if self.total else [])]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = []
        for line in lines:
            cells = zip(self._aligned(line), widths, strict=True)
            text.append("  ".join(c.ljust(w) if left else c.rjust(w) for (c, left), w in cells).rstrip())
        rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
        text.insert(1, rule)
        if self.total:
            text.insert(-1, rule)
        return "\n".join([*text, *self.notes])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        def line(cells, tag):
            inner = (
                f'<{tag} style="text-align:{"left" if left else "right"}">{html.escape(cell)}</{tag}>'
                for cell, left in self._aligned(cells)
            )
            return f"<tr>{''.join(inner)}</tr>"

        body = "".join(line(row, "td") for row in self.rows)
        foot = f"<tfoot>{line(self.total, 'th')}</tfoot>" if self.total else ""
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)
        return f"<table><thead>{line(self.header, 'th')}</thead><tbody>{body}</tbody>{foot}</table>{notes}"


@dataclass(frozen=True, repr=False)
class CostTable:
    """Every counted operation of one forward pass.

    Attributes:
        rows: one for each operation, in the order of the forward pass.
        params: all parameters of the network, normalisation and biases too, each once.
        unknown: operations of unknown cost, with the modules that called them.
    """

    rows: tuple[Row, ...]
    params: int
    unknown: dict[str, tuple[str, ...]]
    sizes: dict[str, int]  # elements of each parameter

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the whole network."""
        return sum(row.macs for row in self.rows)

    @property
    def flops(self) -> int:
        """Floating-point operations, 2 x MACs."""
        return 2 * self.macs

    @property
    def weights(self) -> int:
        """Elements of all factors that are parameters: no bias, no normalisation, as papers print it."""
        return sum(self.sizes[name] for name in {row.parameters[0] for row in self.rows if row.weights})

    @property
    def bytes(self) -> int:
        """The least traffic with memory of the counted operations."""
        return sum(row.bytes for row in self.rows)

    @property
    def intensity(self) -> float:
        """Arithmetic intensity of the counted operations: FLOP per byte."""
        return self.flops / self.bytes if self.bytes else 0.0

    def by_kind(self) -> dict[str, Cost]:
        """MACs and weights of each kind of operation."""
        costs: dict[str, Cost] = {}
        for row in self.rows:
            costs[row.kind] = costs.get(row.kind, Cost()) + Cost(row.macs, row.weights)
        return costs

    def at(self, depth: int) -> dict[str, tuple[Row, ...]]:
        """The rows gathered by module, names cut after `depth` parts; depth 0 is the whole network."""
        if depth < 0:
            raise ValueError(f"depth must be 0 or more, got {depth}")
        groups: dict[str, tuple[Row, ...]] = {}
        for row in self.rows:
            name = ".".join(row.module.split(".")[:depth])
            groups[name] = (*groups.get(name, ()), row)
        return groups

    def table(self, depth: int | None = None) -> Table:
        """The costs as a table: every operation, or one line for each module down to `depth`."""
        if depth is None:
            header = ("module", "kind", "input", "weight", "output", "groups")
            lines = [
                (row.module or "(network)", row.kind, _shape(row.input_shape), _shape(row.weight_shape),
                 _shape(row.output_shape), str(row.groups), *self._numbers([row]))
                for row in self.rows
            ]  # fmt: skip
        else:
            header = ("module", "operations")
            lines = [
                (name or "(network)", str(len(rows)), *self._numbers(rows)) for name, rows in self.at(depth).items()
            ]
        blank = ("",) * (len(header) - 1)
        rest = self.params - self._params(self.rows)
        if rest:
            lines.append(("(not counted)", *blank, "", "", f"{rest:,}", "", "", ""))
        macs, flops, _, *traffic = self._numbers(self.rows)
        notes = tuple(
            f"not counted, cost unknown: {name} in {', '.join(dict.fromkeys(m or '(network)' for m in modules))}"
            for name, modules in self.unknown.items()
        )
        return Table(
            header=(*header, "MACs", "FLOPs", "params", "outputs", "bytes", "FLOP/byte"),
            rows=tuple(lines),
            total=("total", *blank, macs, flops, f"{self.params:,}", *traffic),
            notes=notes,
            text_columns=5 if depth is None else 1,
        )

    def _params(self, rows: Sequence[Row]) -> int:
        return sum(self.sizes[name] for name in {name for row in rows for name in row.parameters})

    def _numbers(self, rows: Sequence[Row]) -> tuple[str, ...]:
        macs, moved = sum(row.macs for row in rows), sum(row.bytes for row in rows)
        counts = (macs, 2 * macs, self._params(rows), sum(row.output_elements for row in rows), moved)
        return (*(f"{n:,}" for n in counts), f"{2 * macs / moved:.2f}" if moved else "")

    def __str__(self) -> str:
        return str(self.table())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def count(model: nn.Module, *inputs, **keywords) -> CostTable:
    """Count the operations of one forward pass, without computing or touching anything.

    A copy of the network without its numbers runs on torch's meta device, where tensors have a shape and
    no content: this takes milliseconds and no memory for a network of any size.  The network is counted as
    in evaluation; it is itself not called, so that its parameters, buffers, hooks and flags stay as they
    are.

    Args:
        model: any module that runs on the meta device (no step may look at the numbers of a tensor).
        inputs: the arguments of its forward pass, each a tensor on any device or a shape with the batch,
            such as ``(1, 3, 224, 224)``; a shape stands for values of the network's own dtype.
        keywords: further arguments of the forward pass, treated in the same way.

    Raises:
        TypeError: the model is not a module in Python.
        ValueError: it cannot run on the meta device with these inputs.

    Warns:
        UncountedOperation: for operations of unknown cost, listed in `CostTable.unknown`.
    """
    if not isinstance(model, nn.Module) or isinstance(model, torch.jit.ScriptModule):
        raise TypeError(f"count needs a torch.nn.Module that is not scripted, got {type(model).__name__}")
    model = getattr(model, "_orig_mod", model)  # what torch.compile wrapped
    if any(nn.parameter.is_lazy(p) for p in (*model.parameters(), *model.buffers())):
        raise ValueError("the network has lazy layers without a shape yet; run it on one input first")
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    try:
        skeleton = _skeleton(model)
    except TypeError as error:
        raise ValueError(f"the network's structure cannot be copied: {error}; take out what is no module") from error
    with torch.inference_mode(), torch.device("meta"):
        arguments = [_to_meta(x, dtype) for x in inputs]
        named = {name: _to_meta(x, dtype) for name, x in keywords.items()}
        counter = _Counter(skeleton)
        try:
            with counter:
                skeleton(*arguments, **named)
        except Exception as error:
            where = f" in {counter.origin[error]}" if counter.origin.get(error) else ""
            raise ValueError(
                f"the network cannot be counted{where}: {error}. It must run on torch's meta device, where "
                "tensors have no content, with inputs of these shapes: "
                f"{[tuple(x.shape) if isinstance(x, Tensor) else x for x in arguments]}"
            ) from error
    unknown = {name: tuple(modules) for name, modules in counter.unknown.items()}
    if unknown:
        names = ", ".join(f"{name} ({len(modules)} times)" for name, modules in unknown.items())
        warnings.warn(
            f"operations of unknown cost are missing from the totals: {names}", UncountedOperation, stacklevel=2
        )
    sizes = {name: p.numel() for name, p in skeleton.named_parameters()}
    return CostTable(tuple(counter.rows), sum(sizes.values()), unknown, sizes)


class _Weightless(TorchFunctionMode):
    """Copies of tensors made under this mode keep shape and type, and no content."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in (Tensor.__deepcopy__, Tensor.clone):
            return torch.empty_like(args[0], device="meta")
        return func(*args, **(kwargs or {}))


def _skeleton(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode with every tensor on the meta device and without hooks."""
    memo = {}
    for module in model.modules():
        for name, value in vars(module).items():
            if name.startswith(("_forward_", "_backward_")) and "hooks" in name:
                memo[id(value)] = OrderedDict()  # the user's hooks must neither run nor be copied
    with _Weightless():
        return copy.deepcopy(model, memo).eval()


def _to_meta(value, dtype: torch.dtype):
    if isinstance(value, (tuple, list)) and value and all(type(n) is int for n in value):
        return torch.empty(tuple(value), dtype=dtype, device="meta")
    return tree_map_only(Tensor, lambda x: torch.empty_like(x, device="meta"), value)


class _Counter(TorchDispatchMode):
    """Sees every operation that reaches torch's dispatcher and writes down what it costs."""

    def __init__(self, skeleton: nn.Module):
        super().__init__()
        self.rows: list[Row] = []
        self.unknown: dict[str, list[str]] = {}
        self.stack = [""]  # names of the modules that are running
        self.origin: dict[Exception, str] = {}  # the module in which an exception was raised
        for name, module in skeleton.named_modules():
            module.forward = self._named(module.forward, name)
        # A slice of a parameter (the query weights of an attention layer) shares the parameter's storage.
        self._owner = {p.untyped_storage()._cdata: name for name, p in skeleton.named_parameters()}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        namespace, _, name = func._schema.name.partition("::")
        if namespace == "aten" and name in COUNTED:
            out = func(*args, **kwargs)
            self._add(COUNTED[name], out[0] if isinstance(out, tuple) else out, args, kwargs)
            return out
        if not self._is_free(func, namespace, name, args, kwargs):
            with self:  # a composite operation, such as einsum, is the sum of its parts
                out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
            self.unknown.setdefault(func._schema.name, []).append(self.stack[-1])
        return func(*args, **kwargs)

    def _named(self, forward: Callable, name: str) -> Callable:
        """The same forward pass, with the module's name on top of the stack while it runs."""

        def call(*args, **kwargs):
            self.stack.append(name)
            try:
                return forward(*args, **kwargs)
            except Exception as error:
                self.origin.setdefault(error, name)
                raise
            finally:
                self.stack.pop()

        return call

    @staticmethod
    def _is_free(func, namespace: str, name: str, args, kwargs) -> bool:
        if namespace == "prim" or not any(isinstance(x, Tensor) for x in tree_flatten((args, kwargs))[0]):
            return True
        if torch.Tag.pointwise in func.tags or torch.Tag.inplace_view in func.tags or func.is_view:
            return True
        return namespace == "aten" and not _FREE_NAMES.isdisjoint((name, name.rstrip("_")))

    def _add(self, rule: _Rule, out: Tensor, args, kwargs) -> None:
        first, second = (args[i] for i in rule.operands)
        tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor)]
        owners = [self._owner.get(x.untyped_storage()._cdata) for x in tensors]
        factors = [
            (x, owner) for x, owner in zip(tensors, owners, strict=True) if owner and (x is first or x is second)
        ]
        self.rows.append(
            Row(
                module=self.stack[-1],
                kind=_kind(rule, first, second, args),
                input_shape=tuple(first.shape),
                weight_shape=tuple(second.shape),
                output_shape=tuple(out.shape),
                groups=args[8] if rule is _CONVOLUTION else 1,
                macs=rule.macs(out, *args, **kwargs),
                weights=sum(x.numel() for x, _ in factors),
                params=sum(x.numel() for x, owner in zip(tensors, owners, strict=True) if owner),
                bytes=sum(_stored(x) * x.element_size() for x in (*tensors, out)),
                parameters=tuple(dict.fromkeys([*(o for _, o in factors), *filter(None, owners)])),
            )
        )


def _kind(rule: _Rule, x: Tensor, weight: Tensor, args) -> str:
    if rule is not _CONVOLUTION:
        return rule.kind
    groups = args[8]
    if args[6]:
        return "transposed"
    if groups == x.shape[1] > 1:  # batched by torch: an input without a batch got one before it came here
        return "depthwise"
    return "pointwise" if groups == 1 and weight[0, 0].numel() == 1 else "convolution"


def _stored(x: Tensor) -> int:
    """Elements in memory: an expanded dimension (stride 0) is stored once."""
    return math.prod(size for size, stride in zip(x.shape, x.stride(), strict=True) if stride)
