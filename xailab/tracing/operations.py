"""Properties of torch's operations and tensors that everything needs that follows a forward pass."""

import functools
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

META = torch.device("meta")
UNTAGGED = frozenset({"hardswish", "prelu", "_prelu_kernel", "log_sigmoid_forward", "log_sigmoid", "softsign", "relu6"})


def is_pointwise(operation: torch._ops.OpOverload) -> bool:
    """Tell whether each value of an operation's output depends on the values at the same place alone."""
    return torch.Tag.pointwise in operation.tags or name_of(operation).removeprefix("aten::").rstrip("_") in UNTAGGED


@functools.cache
def name_of(operation: torch._ops.OpOverload) -> str:
    """Return the name of an operation with its namespace, such as ``aten::convolution``; overloads share it."""
    return operation._schema.name


def tensors_in(values: Iterable[Any]) -> list[Tensor]:
    """List the tensors among the arguments of an operation, also those in lists."""
    found = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found += tensors_in(value)
    return found


def storage_of(x: Tensor) -> int:
    """Return a number for the memory of a tensor, which its views share."""
    return x.untyped_storage()._cdata


@functools.cache
def takes_device(func: torch._ops.OpOverload) -> bool:
    """Tell whether an operation has an argument for a device."""
    return any(argument.name == "device" for argument in func._schema.arguments)
