"""Record the outputs of layers without leaving a trace on the network."""

import difflib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)
WRAPPERS_NAMES = ("module.", "_orig_mod.")
QUANTISED = (
    "torch.ao.nn.quantized",
    "torch.ao.nn.intrinsic.quantized",
    "torch.nn.quantized",
    "torch.nn.intrinsic.quantized",
)


def find_layer(model: nn.Module, layer: nn.Module | str) -> tuple[str, nn.Module]:
    """Find a layer by its dotted name, or the name of a layer.

    Wrappers (``DataParallel``, ``torch.compile`` ...) count as what they wrap, wherever they stand: their own part of a
    name (``module``, ``_orig_mod``) may be given or left out. A layer with several names is found by each of them.

    Args:
        model: The network.
        layer: A module inside ``model`` or its name as in ``model.named_modules()``; "" is the network itself.

    Returns:
        (name, module), the name without the parts of wrappers: the given one, or the first of a given module.

    Raises:
        ValueError: if the network has no such layer; the message lists the nearest names.
        TypeError: if ``layer`` is neither a module nor a name.
    """
    if not isinstance(layer, (nn.Module, str)):
        raise TypeError(f"expected a layer or its name, got {type(layer).__name__}: names are in model.named_modules()")
    if isinstance(layer, nn.Module):
        inside = unwrapped(layer)
        for name, module in _named(model):
            if module is inside:
                return name, module
        raise ValueError(
            f"this {type(layer).__name__} is not part of the {type(model).__name__}; give its name instead"
        )
    layers = dict(_named(model))
    written = dict(model.named_modules(remove_duplicate=False))
    if layer not in layers and layer in written:  # the name of a wrapped layer, written out
        layer = next(name for name, module in layers.items() if module is unwrapped(written[layer]))
    bare = layer
    while bare not in layers and bare.startswith(WRAPPERS_NAMES):  # from a wrapped copy of this network
        bare = bare.partition(".")[2]
    if bare in layers:
        return bare, layers[bare]
    names = [name for name in layers if name]
    tail = layer.rsplit(".", 1)[-1]
    near = difflib.get_close_matches(layer, names, n=5, cutoff=0.5) or [n for n in names if tail and tail in n][:5]
    near = near or [name for name in names if "." not in name][:12]
    raise ValueError(
        f"{type(unwrapped(model)).__name__} has no layer {layer!r}; did you mean one of {', '.join(near)}?"
    )


def _named(model: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """All layers with all of their names; a wrapper stands for what it wraps."""
    network = unwrapped(model)
    yield name, network
    for part, child in network._modules.items():
        if child is not None:
            yield from _named(child, f"{name}.{part}" if name else part)


@contextmanager
def recording(model: nn.Module, *layers: nn.Module | str) -> Iterator[dict[str, Tensor]]:
    """Record the outputs of layers while the network runs.

    ``with recording(model, "layer4") as outputs: model(images)`` leaves ``outputs["layer4"]``. Outputs are copies of
    what the layer returned, so that an in-place operation after it cannot change them; the scores do not depend on
    these copies, so gradients with respect to them need ``graph_from``. A layer that runs twice keeps its last output.
    The hooks are removed at the end of the block, also after an error.

    Args:
        model: The network.
        *layers: Modules inside it or their dotted names.

    Yields:
        A dict by layer name, filled when the network runs.

    Raises:
        ValueError: if there is no such layer, or it calls no hooks (it is scripted or traced) or is quantised.
        TypeError: when a recorded layer returns something other than a tensor.

    >>> network = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    >>> with recording(network, "0") as outputs:
    ...     scores = network(torch.rand(2, 3))
    >>> torch.equal(outputs["0"].relu(), scores)
    True
    """
    outputs: dict[str, Tensor] = {}

    def record(name: str, output: Tensor) -> None:
        outputs[name] = output.clone()

    with _calling(record, model, layers):
        yield outputs


@contextmanager
def graph_from(model: nn.Module, *layers: nn.Module | str) -> Iterator[dict[str, Tensor]]:
    """Run a network without a graph up to its first named layer, and with one from there on.

    ``with graph_from(model, "layer4") as activations: scores = model(images)`` leaves ``activations["layer4"]``, a
    leaf with respect to which ``torch.autograd.grad(scores[:, 3].sum(), activations["layer4"])`` differentiates, also
    in a frozen network, at the cost of the later layers alone. With several layers, only the first is a leaf; gradients
    with respect to the later ones are available as well. The network continues with copies, so that an in-place
    operation after a layer cannot change what was recorded. The block runs outside ``no_grad`` and ``inference_mode``,
    whatever surrounds it.

    Args:
        model: The network.
        *layers: Modules inside it or their dotted names.

    Yields:
        A dict by layer name, filled in the order in which the layers run. A layer that runs twice keeps its last
        output.

    Raises:
        ValueError: if there is no such layer, it calls no hooks (it is scripted or traced), the network is quantised,
            or its weights were made under ``inference_mode``.
        TypeError: when a recorded layer returns something other than a tensor.

    >>> network = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    >>> with graph_from(network, "0") as activations:
    ...     scores = network(torch.rand(2, 3))
    >>> activations["0"].is_leaf and scores.requires_grad
    True
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
    check_not_quantised(model)
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

    with running_eagerly(model), ExitStack() as stack:
        for name, module in found.items():
            stack.callback(module.register_forward_hook(hook_of(name)).remove)
        yield


@contextmanager
def running_eagerly(model: nn.Module) -> Iterator[None]:
    """Run a compiled network, or its compiled parts, as they were before ``torch.compile``: hooks are called again."""
    compiled = any(
        getattr(module, "_compiled_call_impl", None) or "_orig_mod" in module._modules for module in model.modules()
    )
    with torch.compiler.set_stance("force_eager") if compiled else nullcontext():
        yield


def is_scripted(model: nn.Module) -> bool:
    """Say whether a network, or a part of it, is scripted or traced, so that its calls cannot be followed."""
    return any(isinstance(module, torch.jit.ScriptModule) for module in model.modules())


def check_not_quantised(model: nn.Module) -> None:
    """Raise ValueError if a part of a network computes with integers, which nothing can be differentiated through."""
    for name, module in model.named_modules():
        room, kind = type(module).__module__, type(module).__name__
        if room.startswith(QUANTISED) and "FloatFunctional" not in kind:
            raise ValueError(
                f"layer {name!r} of this {type(unwrapped(model)).__name__} is quantised ({kind}): integers have no "
                "gradient. Give the floating-point network that it was made from"
            )


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
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
    """Return the network inside its wrappers, any other network as it is.

    Wrappers are ``DataParallel``, ``DistributedDataParallel``, ``torch.compile``'s and ``AveragedModel``.
    """
    while True:
        if isinstance(model, WRAPPERS):
            model = model.module
        elif "_orig_mod" in model._modules:  # torch.compile's
            model = model.get_submodule("_orig_mod")
        else:
            return model
