"""Record what a layer puts out, without leaving a trace on the network."""

import difflib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn


def find_layer(model: nn.Module, layer: nn.Module | str) -> tuple[str, nn.Module]:
    """Find a layer by its dotted name, or the name of a layer.

    Args:
        model: The network.
        layer: A module inside ``model``, or its name as in ``model.named_modules()``.

    Returns:
        (name, module).

    Raises:
        ValueError: if the network has no such layer; the message lists the nearest names.
        TypeError: if ``layer`` is neither a module nor a name.
    """
    if not isinstance(layer, (nn.Module, str)):
        raise TypeError(f"expected a layer or its name, got {type(layer).__name__}: names are in model.named_modules()")
    for name, module in model.named_modules():
        if name and (module is layer or name == layer):
            return name, module
    if isinstance(layer, nn.Module):
        raise ValueError(
            f"this {type(layer).__name__} is not part of the {type(model).__name__}; give its name instead"
        )
    names = [name for name, _ in model.named_modules() if name]
    tail = layer.rsplit(".", 1)[-1]
    near = difflib.get_close_matches(layer, names, n=5, cutoff=0.5) or [n for n in names if tail and tail in n][:5]
    near = near or [name for name, _ in model.named_children()][:12]
    raise ValueError(f"{type(model).__name__} has no layer {layer!r}; did you mean one of {', '.join(near)}?")


@contextmanager
def recording(model: nn.Module, *layers: nn.Module | str) -> Iterator[dict[str, Tensor]]:
    """Record the outputs of layers while the network runs.

    ``with recording(model, "layer4") as outputs: model(images)`` leaves ``outputs["layer4"]``. Outputs are copies of
    what the layer returned, so that an in-place operation behind it cannot change them; the scores do not depend on
    these copies, so gradients for them need ``graph_behind``. A layer that runs twice keeps its last output. The hooks
    go with the block, however it ends.

    Args:
        model: The network.
        *layers: Modules inside it or their dotted names.

    Yields:
        A dict by layer name, filled when the network runs.

    Raises:
        ValueError: if there is no such layer, or the network is compiled.
        TypeError: when a recorded layer returns something other than a tensor.
    """
    outputs: dict[str, Tensor] = {}

    def record(name: str, output: Tensor) -> None:
        outputs[name] = output.clone()

    with _calling(record, model, layers):
        yield outputs


@contextmanager
def graph_behind(model: nn.Module, *layers: nn.Module | str) -> Iterator[dict[str, Tensor]]:
    """Run a network without a graph up to its first named layer, and with one from there on.

    ``with graph_behind(model, "layer4") as activations: scores = model(images)`` leaves ``activations["layer4"]``, a
    leaf that ``torch.autograd.grad(scores[:, 3].sum(), activations["layer4"])`` differentiates for, frozen network or
    not, at the cost of the layers behind it alone. Of several layers, those behind the first are no leaves, but can be
    differentiated for alike. The network goes on with copies, so that an in-place operation behind a layer cannot
    change what was recorded. The block runs outside ``no_grad`` and ``inference_mode``, whatever surrounds it.

    Args:
        model: The network.
        *layers: Modules inside it or their dotted names.

    Yields:
        A dict by layer name, filled in the order in which the layers run. A layer that runs twice keeps its last
        output.

    Raises:
        ValueError: if there is no such layer, the network is compiled, or its weights were made under
            ``inference_mode``.
        TypeError: when a recorded layer returns something other than a tensor.
    """
    check_differentiable(model)
    activations: dict[str, Tensor] = {}

    def branch_off(name: str, output: Tensor) -> Tensor:
        if not output.requires_grad:
            output = output.clone().requires_grad_()
        torch.set_grad_enabled(True)
        activations[name] = output
        return output.clone()

    with torch.inference_mode(False), torch.no_grad(), _calling(branch_off, model, layers):
        yield activations


def check_differentiable(model: nn.Module) -> None:
    """Raise ValueError if autograd cannot work with a network's weights or buffers."""
    if any(tensor.is_inference() for tensor in (*model.parameters(), *model.buffers())):
        raise ValueError(
            f"this {type(model).__name__} was made under torch.inference_mode, so that no gradient can pass its "
            "weights: make or load it outside (calling this under inference_mode is fine)"
        )


@contextmanager
def _calling(
    function: Callable[[str, Tensor], Tensor | None], model: nn.Module, layers: tuple[nn.Module | str, ...]
) -> Iterator[None]:
    """Call ``function(name, output)`` whenever one of the layers has run; what it returns replaces the output."""
    if is_compiled(model):
        raise ValueError("a compiled network does not call new hooks: record the one that you compiled (._orig_mod)")
    found = dict(find_layer(model, layer) for layer in layers)
    for name, module in found.items():
        if isinstance(module, torch.jit.ScriptModule):
            raise ValueError(f"layer {name!r} is scripted or traced and calls no hooks: use the network it came from")

    def hook_of(name: str):
        def hook(module, inputs, output) -> Tensor | None:
            if not isinstance(output, Tensor):
                raise TypeError(
                    f"layer {name!r} returns {type(output).__name__}, not a tensor: choose a layer inside it"
                )
            return function(name, output)

        return hook

    with ExitStack() as stack:
        for name, module in found.items():
            stack.callback(module.register_forward_hook(hook_of(name)).remove)
        yield


def is_compiled(model: nn.Module) -> bool:
    """Whether a network, or a part of it, went through ``torch.compile``."""
    return any(
        getattr(module, "_compiled_call_impl", None) or hasattr(module, "_orig_mod") for module in model.modules()
    )


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put every submodule in eval mode for the length of a block, then back as each was."""
    training = [module for module in model.modules() if module.training]
    if training:
        model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside ``DataParallel`` or ``DistributedDataParallel``; any other network as it is."""
    wrappers = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    return model.module if isinstance(model, wrappers) else model
