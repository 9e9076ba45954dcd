"""Which nonlinear steps lie between a score and an input? Read off the graph that autograd has built.

A node of the graph has one name under all spellings of an operation: function, method, module, operator, in place.
"""

import re
from collections.abc import Collection, Iterator

from torch import Tensor
from torch.autograd.graph import Node


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Names of nodes without "Backward0". Steps that are linear, or affine, in all of their inputs together:
SUMS = _names(
    """Add Sub Rsub Neg Cat Stack IndexAdd ScatterAdd SliceScatter SelectScatter IndexPut CopySlices Copy Sum Nansum
    Mean Cumsum T Transpose Permute View UnsafeView ReshapeAlias Reshape Squeeze Unsqueeze Expand Repeat Clone ToCopy
    Alias Select Slice Index IndexSelect Gather Take Split SplitWithSizes UnsafeSplit UnsafeSplitWithSizes Unbind
    AsStrided Diagonal Tril Triu Roll Flip Unfold Im2Col Col2Im PixelShuffle PixelUnshuffle ConstantPadNd
    ReflectionPad1D ReflectionPad2D ReflectionPad3D ReplicationPad1D ReplicationPad2D ReplicationPad3D
    AvgPool2D AvgPool3D AdaptiveAvgPool2D AdaptiveAvgPool3D MaxUnpool2D
    UpsampleNearest1D UpsampleNearest2D UpsampleNearest3D UpsampleNearestExact1D UpsampleNearestExact2D
    UpsampleLinear1D UpsampleBilinear2D UpsampleBilinear2DAa UpsampleBicubic2D UpsampleBicubic2DAa UpsampleTrilinear3D
    FftR2C FftC2R FftC2C Real Imag ViewAsReal ViewAsComplex MaskedFill MaskedSelect ToMkldnn ToDense MkldnnReshape"""
)
# Steps that are linear in each of their inputs, but not in two at once:
PRODUCTS = _names(
    """Mul Div Mm Bmm Mv Dot Vdot Addmm Addmv Addbmm Baddbmm Addcmul Linear MkldnnLinear Lerp Trilinear Convolution
    MkldnnConvolution SlowConv2D CudnnConvolution CudnnConvolutionTranspose MiopenConvolution ConvDepthwise3D
    GridSampler2D GridSampler3D"""
)
POOLINGS = _names(
    """MaxPool2DWithIndices MaxPool3DWithIndices MkldnnMaxPool2D AdaptiveMaxPool2D AdaptiveMaxPool3D
    FractionalMaxPool2D FractionalMaxPool3D Max Amax"""
)
BATCH_NORMS = _names("NativeBatchNorm CudnnBatchNorm MiopenBatchNorm")
NORMS = BATCH_NORMS | _names("NativeLayerNorm NativeGroupNorm FusedRmsNorm NativeDropout")


def nonlinear_steps(
    output: Tensor, source: Tensor, allowed: Collection[str] = (), known: Collection[Node] = ()
) -> set[str]:
    """Name the steps between a tensor and the leaf that it was computed from that are not affine.

    Args:
        output: What was computed.
        source: A leaf that requires a gradient.
        allowed: Names of nodes that are not reported, as ``POOLINGS``.
        known: Nodes that are not reported.

    Returns:
        Names as functions have them ("silu", "softmax"); "product" where two things that both depend on the source
        are multiplied. Batch norm counts as nonlinear where it uses the batch's own statistics.
    """
    if output.grad_fn is None:
        return set()
    leads = _leading(output.grad_fn, source)
    known, found = set(known), set()
    for node, children in leads.items():
        kind, arriving = _kind(node), [child in leads for child in children]
        if not any(arriving) or node in known or kind in allowed or kind in SUMS:
            continue
        if kind in BATCH_NORMS and not getattr(node, "_saved_training", True):
            continue
        if kind not in PRODUCTS:
            found.add(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", kind).lower())
        elif sum(arriving) > 1:
            found.add("product")
        elif kind == "Div" and not arriving[0]:
            found.add("division")
    return found


def _leading(top: Node, source: Tensor) -> dict[Node, list[Node | None]]:
    """The nodes from ``top`` down to that of the source, each with the nodes that it hands its gradient to."""
    leads: dict[Node, list[Node | None]] = {}
    for node, children in _upwards(top):
        if getattr(node, "variable", None) is source or any(child in leads for child in children):
            leads[node] = children
    return leads


def _upwards(top: Node) -> Iterator[tuple[Node, list[Node | None]]]:
    """All nodes below ``top``, each after those that it hands its gradient to."""

    def below(node: Node) -> list[Node | None]:
        return [child for child, _ in node.next_functions]

    seen, stack = {top}, [(top, children := below(top), iter(children))]
    while stack:
        node, children, rest = stack[-1]
        child = next((child for child in rest if child is not None and child not in seen), None)
        if child is None:
            stack.pop()
            yield node, children
        else:
            seen.add(child)
            stack.append((child, grand := below(child), iter(grand)))


def _kind(node: Node) -> str:
    return re.sub(r"Backward\w*$", "", node.name().rsplit("::", 1)[-1])
