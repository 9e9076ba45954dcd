"""Record what a layer puts out, without leaving a trace on the network."""

import difflib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

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
    modules = dict(model.named_modules())
    if isinstance(layer, nn.Module):
        for name, module in modules.items():
            if module is layer:
                return name, module
        raise ValueError(
            f"this {type(layer).__name__} is not part of the {type(model).__name__}; give its name instead"
        )
    if not isinstance(layer, str):
        raise TypeError(f"expected a layer or its name, got {type(layer).__name__}")
    if layer not in modules or not layer:
        names = [name for name in modules if name]
        tail = layer.rsplit(".", 1)[-1]
        near = difflib.get_close_matches(layer, names, n=5, cutoff=0.5) or [n for n in names if tail and tail in n][:5]
        near = near or [name for name, _ in model.named_children()][:12]
        raise ValueError(f"{type(model).__name__} has no layer {layer!r}; did you mean one of {', '.join(near)}?")
    return layer, modules[layer]


@contextmanager
def recording(model: nn.Module, *layers: nn.Module | str) -> Iterator[dict[str, Tensor]]:
    """Record the outputs of layers while the network runs.

    ``with recording(model, "layer4") as outputs: model(images)`` leaves ``outputs["layer4"]``. Outputs are what the
    layer returned, with its graph where there is one; they are copies, so that an in-place operation behind the layer
    cannot change them. A layer that runs twice keeps its last output. The hooks go with the block, however it ends.

    Args:
        model: The network.
        *layers: Modules inside it or their dotted names.

    Yields:
        A dict by layer name, filled when the network runs.

    Raises:
        ValueError: if there is no such layer, or the network is compiled.
        TypeError: when a recorded layer returns something other than a tensor.
    """
    if any(getattr(module, "_compiled_call_impl", None) or hasattr(module, "_orig_mod") for module in model.modules()):
        raise ValueError("a compiled network does not call new hooks: record the one that you compiled (._orig_mod)")
    found = dict(find_layer(model, layer) for layer in layers)
    outputs: dict[str, Tensor] = {}

    def record(name: str):
        def hook(module, inputs, output) -> None:
            if not isinstance(output, Tensor):
                raise TypeError(
                    f"layer {name!r} returns {type(output).__name__}, not a tensor: choose a layer inside it"
                )
            outputs[name] = output.clone()

        return hook

    with ExitStack() as stack:
        for name, module in found.items():
            stack.callback(module.register_forward_hook(record(name)).remove)
        yield outputs


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put every submodule in eval mode for the length of a block, then back as each was."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
