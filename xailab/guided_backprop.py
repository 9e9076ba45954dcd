r"""The gradient of a class score with respect to the picture, and two other rules for passing a ReLU backwards.

With f = ReLU(z) in the forward pass and the gradient R arriving from above, a layer hands down (Springenberg et al.,
"Striving for Simplicity: The All Convolutional Net", ICLR 2015 workshop, arXiv 1412.6806, Section 3.4)

    true        R * [z > 0]             backpropagation: the derivative
    deconvnet   R * [R > 0]             Zeiler and Fergus 2013, arXiv 1311.2901
    guided      R * [z > 0] * [R > 0]   both at once

The rules belong to the call of a ReLU, not to a module: the calls are noted in the forward pass, and the nodes that
they leave in the backward graph get the rule. So modules, functions, methods, in-place, reused and shared ReLUs are all
the same, and the network is never touched.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.overrides import TorchFunctionMode

from xailab.hooks import is_compiled
from xailab.targets import Target, class_gradients, resolve, score_images

Rule = Literal["true", "guided", "deconvnet"]
Gradients = Float[Tensor, "n c h w"] | Float[Tensor, "n k c h w"]


def input_gradient(
    model: nn.Module,
    images: Float[Tensor, "n c h w"],
    target: Target = None,
    *,
    relu: Rule = "true",
) -> Gradients:
    """Compute d score / d image, with one of three rules for the ReLUs on the way back.

    One forward and one backward pass in eval mode (a backward pass for each of k classes); weight gradients are not
    computed, and the network is left as it was. ReLU6 counts as a ReLU: its derivative is also zero above 6.

    Args:
        model: Any network of images to scores (n, classes). Activations other than ReLU pass their true derivative.
        images: A batch, normalised for the network.
        target: One class, one for each image, several for each (shape (n, k)), or None for each image's top class.
        relu: "true" (the gradient), "guided" or "deconvnet".

    Returns:
        Signed and unscaled, of the images' shape, or (n, k, c, h, w) where k classes were asked for. In units of the
        score for one unit of normalised image.

    Raises:
        ValueError: if a rule other than "true" is asked for and no ReLU was met; the message names the activations
            that were. Also if a class does not exist or the scores are not finite.
    """
    if relu not in ("true", "guided", "deconvnet"):
        raise ValueError(f"relu={relu!r}: expected 'true', 'guided' or 'deconvnet'")
    with RecordedReLUs() as relus:
        images, scores = score_images(model, images)
    chosen = resolve(target, scores)
    if relu != "true":
        relus.check(model)
    with backward_rule(relus.nodes, relu):
        gradients = [gradient for (gradient,) in class_gradients(scores, chosen, [images])]
    if gradients[0] is None:
        raise ValueError(f"the scores of this {type(model).__name__} do not depend on its images")
    return torch.stack(gradients, 1) if chosen.ndim == 2 else gradients[0]


def guided_backprop(model: nn.Module, images: Float[Tensor, "n c h w"], target: Target = None) -> Gradients:
    """Guided backpropagation (Springenberg et al. 2015): ``input_gradient`` with ``relu="guided"``."""
    return input_gradient(model, images, target, relu="guided")


def deconvnet(model: nn.Module, images: Float[Tensor, "n c h w"], target: Target = None) -> Gradients:
    """The deconvnet's way back (Zeiler and Fergus 2013): ``input_gradient`` with ``relu="deconvnet"``."""
    return input_gradient(model, images, target, relu="deconvnet")


class RecordedReLUs(TorchFunctionMode):
    """While it is entered, every call of a ReLU leaves its node of the backward graph in ``nodes``.

    Attributes:
        nodes: One for each call that can be differentiated.
        calls: How many ReLUs were called.
        others: Names of the other activations that were called.
    """

    RELUS = (F.relu, torch.relu, Tensor.relu, torch.relu_, Tensor.relu_, F.relu6, F.hardtanh, F.hardtanh_)
    OTHERS = (F.gelu, F.silu, F.hardswish, F.mish, F.elu, F.selu, F.celu, F.leaky_relu, F.prelu, F.softplus,
              F.sigmoid, F.tanh, torch.sigmoid, torch.tanh, Tensor.sigmoid, Tensor.tanh)  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.nodes: list[Node] = []
        self.calls = 0
        self.others: set[str] = set()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        options = dict(kwargs or {})
        if func not in self.RELUS:
            if func in self.OTHERS:
                self.others.add(func.__name__)
            return func(*args, **options)
        given, *rest = args or (options.pop("input"),)
        if func in (F.hardtanh, F.hardtanh_) and options.get("min_val", rest[0] if rest else -1) != 0:
            self.others.add("hardtanh")
            return func(given, *rest, **options)
        self.calls += 1
        # In place on a view, autograd would hide the ReLU's node inside another: a copy is rectified instead.
        source = given.clone() if given.requires_grad and given._is_view() else given
        output = func(source, *rest, **options)
        if output.grad_fn is not None:
            self.nodes.append(output.grad_fn)
        return given.copy_(output) if output is source is not given else output

    def check(self, model: nn.Module) -> None:
        """Raise ValueError if no ReLU was called, and say what was; also if calls may have been hidden."""
        if is_compiled(model) or any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
            raise ValueError(
                f"this {type(model).__name__}, or a part of it, is compiled or scripted, which hides its ReLUs: "
                "give the network that it was made from"
            )
        if self.calls:
            return
        if self.others:
            why = f"its activations are {', '.join(sorted(self.others))}: use relu='true'"
        else:
            why = "no activation of a known name was called (clamp and max are not recognised): use relu='true'"
        raise ValueError(f"the rule is one for ReLUs, and this {type(model).__name__} called none; {why}")


@contextmanager
def backward_rule(nodes: Sequence[Node], rule: Rule) -> Iterator[None]:
    """Let the nodes of ReLUs hand gradients down by another rule for the length of a block."""

    def guided(downwards, upwards):  # what the true derivative hands down, and what arrived
        return (downwards[0].clamp(min=0),)

    def deconvnet(downwards, upwards):
        return (upwards[0].clamp(min=0),)

    hook = {"true": None, "guided": guided, "deconvnet": deconvnet}[rule]
    handles = [node.register_hook(hook) for node in nodes if hook]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
