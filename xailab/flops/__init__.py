r"""What a convolution costs, by formula and by counting.

A standard convolution that turns an input of M channels into N channels of D_G x D_G values with D_K x D_K
kernels multiplies and adds

.. math:: D_K \cdot D_K \cdot M \cdot N \cdot D_G \cdot D_G

times; a depthwise convolution followed by a pointwise (1 x 1) one

.. math:: D_K \cdot D_K \cdot M \cdot D_G \cdot D_G + M \cdot N \cdot D_G \cdot D_G

times, which is 1/N + 1/D_K^2 of it (MobileNets, arXiv 1704.04861, equations 2 to 5; the paper writes D_F for
D_G because its layers keep their size).

There are two units, which are always named: one MAC (multiply-accumulate, "mult-add" in the paper) is two FLOPs.
Counted are the operations that sum products: convolutions, linear layers, matrix products and attention. By
convention, operations that do a few steps for each value (`FREE`) are not counted: they are about 1 % of the total, and
published tables leave them out. An operation that is neither is named in a warning and in ``CostTable.unknown``,
since a silent 0 would make the total wrong.

Rooms: ``formulas`` (the equations), ``rules`` (what each operation of torch costs), ``counter`` (one forward pass),
``table`` (what was counted).
"""

from xailab.flops.counter import HookLeftOut, UncountedOperation, count
from xailab.flops.formulas import Cost, conv_cost, separable_cost
from xailab.flops.rules import COUNTED, FREE, Rule
from xailab.flops.table import CostTable, Row, Table

__all__ = [
    "COUNTED",
    "FREE",
    "Cost",
    "CostTable",
    "HookLeftOut",
    "Row",
    "Rule",
    "Table",
    "UncountedOperation",
    "conv_cost",
    "count",
    "separable_cost",
]
