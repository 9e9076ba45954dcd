r"""The gradient of a class score with respect to the picture, and two other rules for passing a ReLU backwards.

With f = ReLU(z) in the forward pass and the gradient R arriving from above, a layer hands down (Springenberg et al.,
"Striving for Simplicity: The All Convolutional Net", ICLR 2015 workshop, arXiv 1412.6806, Section 3.4)

    gradient    R * [z > 0]             backpropagation: the derivative
    deconvnet   R * [R > 0]             Zeiler and Fergus 2013, arXiv 1311.2901
    guided      R * [z > 0] * [R > 0]   both at once

The rules belong to the call of a ReLU, not to a module: the calls are noted in the forward pass, and the nodes that
they leave in the backward graph get the rule. So modules, functions, methods, in-place, reused and shared ReLUs are all
the same, and the network is never touched.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.overrides import TorchFunctionMode

from xailab.graph import NORMS, POOLINGS, nonlinear_steps
from xailab.hooks import is_scripted, unwrapped
from xailab.targets import Target, image_gradients, is_zero, resolve, score_images, warn_of_zero

Rule = Literal["gradient", "guided", "deconvnet"]


class MixedActivations(UserWarning):
    """A rule for ReLUs was used on a network that calls other activations too; the message names them."""


Gradients = Float[Tensor, "n c h w"] | Float[Tensor, "n k c h w"]


def input_gradient(
    model: nn.Module,
    images: Float[Tensor, "n c h w"],
    target: Target = None,
    *,
    rule: Rule = "gradient",
) -> Gradients:
    """Compute d score / d image, with one of three rules for the ReLUs on the way back.

    One forward and one backward pass in eval mode (a backward pass for each of k classes); weight gradients are not
    computed, and the network is left as it was. What cuts off at zero is a ReLU: ReLU6 and ``clamp(min=0)`` too.

    Args:
        model: Any network of images to scores (n, classes). Activations other than ReLU pass their true derivative.
        images: A batch, normalised for the network.
        target: One class, one for each image, several for each (shape (n, k)), or None for each image's top class.
        rule: What a ReLU hands down: "gradient" (the derivative), "guided" or "deconvnet".

    Returns:
        Signed and unscaled, of the images' shape, or (n, k, c, h, w) where k classes were asked for. In units of the
        score for one unit of normalised image.

    Raises:
        ValueError: if a rule other than "gradient" is asked for and no ReLU was met; the message names the activations
            that were. Also if no gradient reaches the images, a class does not exist, or the scores are not finite.
        TypeError: if images are no floating-point tensor, or a target is no class number.

    Warns:
        MixedActivations: if a rule other than "gradient" met other nonlinear steps besides ReLUs, poolings and norms.
        ZeroGradient, MixedBatch: as ``saliency`` does.

    >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 5))
    >>> input_gradient(network, torch.rand(2, 3, 8, 8), [0, 4]).shape
    torch.Size([2, 3, 8, 8])
    """
    if rule not in ("gradient", "guided", "deconvnet"):
        raise ValueError(f"rule={rule!r}: expected 'gradient', 'guided' or 'deconvnet'")
    with RecordedReLUs() as relus:
        images, scores = score_images(model, images)
    chosen = resolve(target, scores)
    if rule != "gradient":
        relus.check(model, scores, images)
    with backward_rule(relus.nodes, rule):
        gradients = image_gradients(model, images, scores, chosen)
    warn_of_zero(is_zero(gradients.flatten(0, 1)).view(gradients.shape[:2]), chosen, scores)
    return gradients if chosen.ndim == 2 else gradients[:, 0]


def guided_backprop(model: nn.Module, images: Float[Tensor, "n c h w"], target: Target = None) -> Gradients:
    """Compute guided backpropagation (Springenberg et al. 2015): ``input_gradient`` with ``rule="guided"``.

    >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 5))
    >>> guided_backprop(network, torch.rand(2, 3, 8, 8), [[0, 4], [1, 2]]).shape
    torch.Size([2, 2, 3, 8, 8])
    """
    return input_gradient(model, images, target, rule="guided")


def deconvnet(model: nn.Module, images: Float[Tensor, "n c h w"], target: Target = None) -> Gradients:
    """Compute the deconvnet's backward pass (Zeiler and Fergus 2013): ``input_gradient`` with ``rule="deconvnet"``."""
    return input_gradient(model, images, target, rule="deconvnet")


class RecordedReLUs(TorchFunctionMode):
    """While it is entered, every call of a ReLU leaves its node of the backward graph in ``nodes``.

    What cuts off at zero is a ReLU, under whatever name: ``clamp(min=0)`` and ``maximum(x, 0)`` too, and ReLU6, which
    also cuts off above.

    Attributes:
        nodes: One for each call that can be differentiated.
        calls: How many ReLUs were called.
        hidden: Names of nonlinear steps that leave no node of their own in the graph.
    """

    RELUS = (F.relu, torch.relu, Tensor.relu, torch.relu_, Tensor.relu_, F.relu6)
    CUT_OFFS: ClassVar = {  # where they cut off, or how steep they are below: the argument after the input
        F.hardtanh: "min_val", F.hardtanh_: "min_val", F.threshold: "threshold", torch.threshold_: "threshold",
        torch.clamp: "min", Tensor.clamp: "min", torch.clamp_: "min", Tensor.clamp_: "min",
        torch.clip: "min", Tensor.clip: "min", torch.clip_: "min", Tensor.clip_: "min",
        torch.clamp_min: "min", Tensor.clamp_min: "min", torch.clamp_min_: "min", Tensor.clamp_min_: "min",
        F.leaky_relu: "negative_slope", F.leaky_relu_: "negative_slope",
    }  # fmt: skip
    MAXIMA = (torch.maximum, Tensor.maximum, torch.fmax, Tensor.fmax, torch.max, Tensor.max)
    COMPARISONS = (
        torch.gt, Tensor.gt, Tensor.__gt__, torch.ge, Tensor.ge, Tensor.__ge__, torch.greater, torch.greater_equal,
        torch.lt, Tensor.lt, Tensor.__lt__, torch.le, Tensor.le, Tensor.__le__, torch.less, torch.less_equal,
        torch.heaviside, Tensor.heaviside,
    )  # fmt: skip
    LINEAR_IN_PLACE = ("add_", "sub_", "mul_", "div_", "copy_", "zero_", "fill_", "neg_", "requires_grad_", "detach_")

    def __init__(self) -> None:
        super().__init__()
        self.nodes: list[Node] = []
        self.calls = 0
        self.hidden: set[str] = set()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        options = dict(kwargs or {})
        if func in self.MAXIMA and (rectified := _beside_zero(args, options)) is not None:
            func, args, options = torch.relu, (rectified,), {}
        if not (func in self.RELUS or self._cuts_off_at_zero(func, args, options)):
            self._note_hidden(func, args, options)
            return func(*args, **options)
        self.calls += 1
        given, *rest = args or (options.pop("input"),)
        # In place on a view, autograd would hide the ReLU's node inside another: a copy is rectified instead.
        source = given.clone() if given.requires_grad and given._is_view() else given
        output = func(source, *rest, **options)
        if output.grad_fn is not None:
            self.nodes.append(output.grad_fn)
        return given.copy_(output) if output is source is not given else output

    def _cuts_off_at_zero(self, func, args, options) -> bool:
        if func not in self.CUT_OFFS:
            return False
        given = dict(zip(("input", self.CUT_OFFS[func], "value"), args, strict=False)) | options
        bounds = [given.get(self.CUT_OFFS[func])] + [given.get("value")] * (func in (F.threshold, torch.threshold_))
        return all(isinstance(bound, (int, float)) and bound == 0 for bound in bounds)

    def _note_hidden(self, func, args, options) -> None:
        """Masks made by comparing cut a graph unseen, and so does what works in place on a view."""
        given = args[0] if args else options.get("input")
        if not (isinstance(given, Tensor) and given.requires_grad):
            return
        name = getattr(func, "__name__", "")
        in_place = name.endswith("_") and not name.endswith("__") and name not in self.LINEAR_IN_PLACE
        if func in self.COMPARISONS or (in_place and given._is_view()):
            self.hidden.add(name.strip("_"))

    def check(self, model: nn.Module, scores: Tensor, images: Tensor) -> None:
        """Raise ValueError if no ReLU was called, or calls may have been hidden; warn of other nonlinear steps."""
        name = type(unwrapped(model)).__name__
        if is_scripted(model):
            raise ValueError(
                f"this {name}, or a part of it, is scripted or traced, which hides its ReLUs: give the network that "
                "it was made from"
            )
        others = ", ".join(sorted(self.hidden | nonlinear_steps(scores, images, POOLINGS | NORMS, self.nodes)))
        if not self.calls:
            why = f"its activations are {others}" if others else "no activation of a known name was called"
            raise ValueError(f"the rule is one for ReLUs, and this {name} called none; {why}: use rule='gradient'")
        if others:
            message = f"the rule is one for ReLUs; this {name} also calls {others}, which pass their true derivative"
            warnings.warn(message, MixedActivations, stacklevel=4)


def _beside_zero(args, options) -> Tensor | None:
    """x, if these are the arguments of max(x, 0) or max(0, x); None for any other maximum."""
    operands = [*args, *(options[name] for name in ("input", "other") if name in options)]
    if len(operands) != 2 or not all(isinstance(each, Tensor) for each in operands) or "out" in options:
        return None
    for given, zero in (operands, operands[::-1]):
        same = torch.broadcast_shapes(given.shape, zero.shape) == given.shape
        if same and torch.result_type(given, zero) == given.dtype and not zero.requires_grad and not zero.any():
            return given
    return None


@contextmanager
def backward_rule(nodes: Sequence[Node], rule: Rule) -> Iterator[None]:
    """Let the nodes of ReLUs hand gradients down by another rule for the length of a block."""

    def guided(downwards, upwards):  # what the true derivative hands down, and what arrived
        return (downwards[0].clamp_(min=0),)

    def deconvnet(downwards, upwards):
        return (upwards[0].clamp(min=0),)

    hook = {"gradient": None, "guided": guided, "deconvnet": deconvnet}[rule]
    handles = [node.register_hook(hook) for node in nodes if hook]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
