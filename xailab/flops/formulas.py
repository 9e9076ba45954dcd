r"""The cost of a convolution, by formula (MobileNets, arXiv 1704.04861, equations 2 to 5).

A standard convolution costs :math:`D_K D_K M N D_G D_G` multiply-accumulates (`conv_cost`). A depthwise convolution and
a pointwise one cost :math:`D_K D_K M D_G D_G + M N D_G D_G` (`separable_cost`), which is 1/N + 1/D_K^2 of it.
"""

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """Hold multiply-accumulates and parameters; the costs of layers add up with ``+`` and ``sum``.

    Attributes:
        macs: Multiply-accumulates.
        params: Parameters, counted in elements.
    """

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


def conv_cost(
    in_channels: int,
    out_channels: int,
    kernel_size: int | Sequence[int],
    output_size: int | Sequence[int],
    *,
    groups: int = 1,
    bias: bool = False,
) -> Cost:
    """Compute the cost of one convolution on one image (MobileNets, equation 2, with groups).

    >>> conv_cost(5, 7, 3, 4)
    Cost(macs=5040, params=315)

    Args:
        in_channels: M, the channels of the input.
        out_channels: N, the channels of the output.
        kernel_size: D_K, or one number for each spatial dimension.
        output_size: D_G, the size of the *output*; stride and padding matter only through it.
        groups: Each output channel sees M / groups input channels; groups = M is a depthwise convolution.
        bias: Whether there is one. It adds N parameters; its additions are not MACs.

    Raises:
        ValueError: if a size is not positive, or ``groups`` does not divide M and N.
    """
    kernel = _spatial("kernel_size", kernel_size, output_size)
    output = _spatial("output_size", output_size, kernel_size)
    _check(in_channels, out_channels, groups, kernel, output)
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
    """Compute the cost of a depthwise convolution and the pointwise one after it (MobileNets, equation 5).

    >>> separable_cost(5, 7, 3, 4).macs
    1280

    Args:
        in_channels: M, the channels of the input.
        out_channels: N, the channels of the output.
        kernel_size: D_K of the depthwise convolution, or one number for each spatial dimension.
        output_size: D_G, the size of the output.
        bias: Whether both convolutions have one.

    Raises:
        ValueError: if a size is not positive.
    """
    pointwise = (1,) * len(_spatial("kernel_size", kernel_size, output_size))
    depthwise = conv_cost(in_channels, in_channels, kernel_size, output_size, groups=in_channels, bias=bias)
    return depthwise + conv_cost(in_channels, out_channels, pointwise, output_size, bias=bias)


def _spatial(name: str, size: int | Sequence[int], other: int | Sequence[int]) -> tuple[int, ...]:
    """Repeat a number for each spatial dimension: two, or as many as the other size has."""
    if not isinstance(size, Sequence):
        size = (operator.index(size),) * (len(other) if isinstance(other, Sequence) else 2)
    if not size or any(s < 1 for s in size):
        raise ValueError(f"{name} must be at least 1, got {size}")
    return tuple(size)


def _check(in_channels: int, out_channels: int, groups: int, kernel: tuple[int, ...], output: tuple[int, ...]) -> None:
    if len(kernel) != len(output):
        raise ValueError(f"kernel_size {kernel} and output_size {output} must have as many dimensions")
    for name, value in (("in_channels", in_channels), ("out_channels", out_channels), ("groups", groups)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if in_channels % groups or out_channels % groups:
        raise ValueError(f"groups={groups} must divide in_channels={in_channels} and out_channels={out_channels}")
