"""The cost of each operation of torch.

`COUNTED` has the operations that sum products, each with the rule that reads its cost from its arguments. `FREE` has
those that do a few steps for each value, and that by convention are not counted. `count(..., rules=...)` adds to
`COUNTED`.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from xailab.tracing import is_pointwise


@dataclass(frozen=True)
class Rule:
    """Read the cost of one operation from its arguments.

    Attributes:
        kind: Name of the operation in tables.
        macs: A function of (output, *arguments of the operation) that returns its multiply-accumulates. Where the
            operation returns several tensors, the output is the first.
        operands: Positions of the input and of the weight (or second factor) among the arguments; None for a second
            one that does not exist.
    """

    kind: str
    macs: Callable[..., int]
    operands: tuple[int, int | None] = (0, 1)


Rules = Mapping[object, Rule | Callable[..., int]]


def _convolution_macs(out: Tensor, x: Tensor, weight: Tensor, bias, stride, padding, dilation, transposed, *_) -> int:
    # Each output value of a convolution sums over one filter; each input value of a transposed one feeds one.
    return (x if transposed else out).numel() * weight[0].numel()


def _attention_macs(out: Tensor, query: Tensor, key: Tensor, value: Tensor, *_, **__) -> int:
    # Q K^T, then the weights times V, for every query and every key: a mask saves nothing by convention.
    queries = out.numel() // max(1, value.shape[-1])
    return queries * key.shape[-2] * (query.shape[-1] + value.shape[-1])


def _product(first: int, second: int) -> Rule:
    """Make the rule of a matrix product: each output value is a sum over the last dimension of the first factor."""
    return Rule("matmul", lambda out, *args, **_: out.numel() * args[first].shape[-1], (first, second))


CONVOLUTION = Rule("convolution", _convolution_macs)
ATTENTION = Rule("attention", _attention_macs)
COUNTED: dict[str, Rule] = {
    "convolution": CONVOLUTION,
    "linear": Rule("linear", lambda out, x, *_: out.numel() * x.shape[-1]),
    "mm": _product(0, 1),
    "bmm": _product(0, 1),
    "mv": _product(0, 1),
    "dot": _product(0, 1),
    "vdot": _product(0, 1),
    "addmm": _product(1, 2),
    "baddbmm": _product(1, 2),
    "addmv": _product(1, 2),
    "addbmm": Rule("matmul", lambda out, bias, a, b, **_: a.numel() * b.shape[-1], (1, 2)),
    "scaled_dot_product_attention": ATTENTION,
    "_scaled_dot_product_flash_attention": ATTENTION,
    "_scaled_dot_product_flash_attention_for_cpu": ATTENTION,
    "_scaled_dot_product_efficient_attention": ATTENTION,
    "_scaled_dot_product_cudnn_attention": ATTENTION,
    "_scaled_dot_product_fused_attention_overrideable": ATTENTION,
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
"""Operations that do a few steps for each value and are not counted, by the reason.

So are all that torch itself tags as elementwise, all views, and all that take no tensor.
"""
SAME_SHAPE = frozenset(
    {"batch_norm", "layer_norm", "group_norm", "dropout", "relu", "relu6", "hardtanh", "leaky_relu", "elu", "selu",
     "celu", "gelu", "silu", "mish", "sigmoid", "tanh", "hardswish", "hardsigmoid", "softplus"}
)  # fmt: skip
"""Free operations whose output has the shape and the type of their first argument."""
SUMS = frozenset({"add", "sub", "mul", "div"})
"""Those of which this holds if the second argument is like the first, or a number."""

_FREE_NAMES = frozenset(name for names in FREE.values() for name in names.split())


@functools.cache
def is_free(operation: torch._ops.OpOverload) -> bool:
    """Tell whether an operation is not counted, by convention."""
    namespace, _, name = operation._schema.name.partition("::")
    if namespace == "prim" or operation.is_view or torch.Tag.inplace_view in operation.tags or is_pointwise(operation):
        return True
    return namespace == "aten" and not _FREE_NAMES.isdisjoint((name, name.rstrip("_")))


def known_output(name: str, args: tuple) -> Tensor | None:
    """Make an output whose shape needs no computation, where nothing can be wrong with the arguments; else None.

    Without this, most of the time of a count is spent in torch's own checks of shapes, which are written in Python.
    """
    first, second = (*args, None, None)[:2]
    if not isinstance(first, Tensor) or not first.is_floating_point():
        return None
    plain = name.removeprefix("aten::").rstrip("_")
    if plain == "linear" and isinstance(second, Tensor):
        fits = first.dtype == second.dtype and first.ndim and first.shape[-1:] == second.shape[1:]
        return first.new_empty((*first.shape[:-1], second.shape[0])) if fits else None
    if (plain in SAME_SHAPE and _fits(first, args[1:])) or (plain in SUMS and _alike(first, second)):
        return first if name.endswith("_") else torch.empty_like(first)
    return None


def _alike(x: Tensor, other: object) -> bool:
    """Tell whether a sum of both has the shape and the type of the first."""
    if isinstance(other, Tensor):
        return (x.shape, x.dtype) == (other.shape, other.dtype)
    return not isinstance(other, complex)


def _fits(x: Tensor, rest: tuple) -> bool:
    """Tell whether a normalisation has as many weights as channels; if not, torch must raise its error."""
    return all(not isinstance(w, Tensor) or w.ndim > 1 or w.numel() in x.shape for w in rest)


def all_rules(own: Rules) -> dict[str, Rule]:
    """Join the rules of torch's operations and the user's, by the operation's name with its namespace.

    Raises:
        TypeError: if a key names no operation, or a value is neither a `Rule` nor a function.
    """
    rules = {f"aten::{name}": rule for name, rule in COUNTED.items()}
    for operation, rule in own.items():
        name = _name(operation)
        if not isinstance(rule, Rule):
            if not callable(rule):
                raise TypeError(f"rules[{name!r}] must be a Rule or a function of (output, *arguments), got {rule!r}")
            rule = Rule(name.partition("::")[2], rule)
        rules[name] = rule
    return rules


def _name(operation: object) -> str:
    """Find the name of an operation: a name, ``torch.ops.namespace.name``, or an operation made by ``custom_op``."""
    if not isinstance(operation, str):
        found = getattr(operation, "_qualified_op_name", None) or getattr(operation, "_qualname", None)
        found = operation._schema.name if isinstance(operation, torch._ops.OpOverload) else found
        if not isinstance(found, str):
            raise TypeError(f"rules needs operations by name, as CostTable.unknown has them, got {operation!r}")
        operation = found
    return operation if "::" in operation else f"aten::{operation}"
