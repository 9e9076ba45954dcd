"""Say which network a file belongs to: names that wrappers do not change, state dicts by these, fingerprints."""

import torch
from torch import Tensor, nn

from xailab.hooks import unwrapped
from xailab.storage import digest


def state(network: nn.Module) -> dict[str, Tensor]:
    """Read the state dict of a network, by names without the additions of wrappers inside it."""
    return {plain_name(network, name): x for name, x in network.state_dict().items()}


def load_state(network: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Load a state dict of ``state`` into a network, wrapped or not.

    Raises:
        RuntimeError: if a tensor is missing, unexpected or of another shape, or a layer that the network uses under two
            names has other values under each.
    """
    names = {plain_name(network, name): name for name in network.state_dict()}
    network.load_state_dict({names.get(name, name): x for name, x in tensors.items()})
    for name, x in state(network).items():
        if not torch.equal(x, tensors[name].to(x)) and not x.isnan().any():
            raise RuntimeError(f"{name} shares its values with another layer, and the file has others for each")


def fingerprint(network: nn.Module) -> dict[str, str]:
    """Compute type, shape and SHA-256 of each parameter and buffer, by its name without the additions of wrappers.

    >>> fingerprint(nn.Linear(3, 2))["bias"]
    'float32 (2,) ...'
    """
    network = unwrapped(network)
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    tensors = {plain_name(network, name): x for name, x in tensors.items()}
    return {name: f"{str(x.dtype)[6:]} {tuple(x.shape)} {digest(x)}" for name, x in sorted(tensors.items())}


def difference(fitted: dict[str, str], network: nn.Module) -> str | None:
    """Describe how a network differs from a fingerprint; None if it does not.

    >>> network = nn.Linear(3, 2)
    >>> difference(fingerprint(network), network) is None
    True
    """
    found = fingerprint(network)
    differing = [name for name in {**fitted, **found} if fitted.get(name) != found.get(name)]
    if not differing:
        return None
    name = differing[0]
    then, now = (prints.get(name, "nothing - -").rsplit(" ", 1)[0] for prints in (fitted, found))
    what = f"{then} then, {now} now" if then != now else "other values"
    return f"{len(differing)} of {len(fitted)} parameters and buffers differ, the first is {name} ({what})"


def plain_name(network: nn.Module, name: str) -> str:
    """Remove from a tensor's name the additions of ``DataParallel``, ``torch.compile`` and other wrappers.

    >>> plain_name(nn.Sequential(nn.DataParallel(nn.Linear(3, 2))), "0.module.weight")
    '0.weight'
    """
    parts: list[str] = []
    here: nn.Module | None = network
    for part in name.split("."):
        inside = here._modules.get(part) if here is not None else None
        if here is None or inside is None or unwrapped(here) is here:
            parts.append(part)
        here = inside
    return ".".join(parts)
