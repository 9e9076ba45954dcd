"""Read files of weights that others have saved: safetensors and state dicts of torch, alone or in a checkpoint."""

import re
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load as read_safetensors
from torch import Tensor, nn

KEEP_WEIGHTS = "save the weights alone where it was made, by torch.save(network.state_dict(), path)"


def fill(network: nn.Module, path: Path, name: str) -> None:
    """Read the weights of a network from a file; nothing in the file is ever executed.

    Args:
        network: The network; its values change, its names and shapes say what is expected.
        path: Safetensors or a file of ``torch.save``: a state dict, alone or in a checkpoint ({"state_dict": ...}).
        name: The network's name, for the messages.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, or not of this network.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}: check the spelling and the folder you started in")
    expected = network.state_dict()
    try:
        found = _named_alike(_state_dict(_read(path), expected), expected)
        problems = _differences(found, expected)
        if problems:
            raise ValueError(f"{'; '.join(problems)}: name the network that it is of, or get another file")
    except ValueError as error:
        raise ValueError(f"{path} holds no weights of {name}: {error}") from None
    network.load_state_dict(found)


def _read(path: Path) -> object:
    """What a file of safetensors or of ``torch.save`` holds, whatever its name ends in.

    Raises:
        ValueError: if it cannot be read, or only by executing what is in it.
    """
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of scripted networks, which are refused below
            if file.read(9)[8:] == b"{":  # what follows the header's length in safetensors
                return read_safetensors(path.read_bytes())
            file.seek(0)
            return torch.load(file, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # whatever a foreign file brings about
        reason = str(error)
    if "TorchScript" in reason:
        raise ValueError(f"it is a scripted network; {KEEP_WEIGHTS}")
    if needed := re.search(r"GLOBAL ([\w.]+)", reason):
        what = f"it holds pickled objects besides tensors ({needed[1]}), which could do anything when they are read"
        raise ValueError(f"{what}; {KEEP_WEIGHTS}")
    raise ValueError("it cannot be read, damaged or of another kind than safetensors and torch.save: get it again")


def _state_dict(held: object, expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors by name that a file holds, alone or as one entry of a checkpoint ({"state_dict": ..., "epoch": 1}).

    Raises:
        ValueError: if there are none, or several entries could be meant.
    """
    if not isinstance(held, Mapping):
        raise ValueError(f"it holds a {type(held).__name__}, expected tensors by name; {KEEP_WEIGHTS}")
    if _are_tensors(held):
        return dict(held)
    inside = {key: dict(value) for key, value in held.items() if isinstance(value, Mapping) and _are_tensors(value)}
    fitting = {k: v for k, v in inside.items() if not _differences(_named_alike(v, expected), expected)} or inside
    usual = [key for key in ("state_dict", "model_state_dict", "model") if key in fitting]
    if not usual and len(fitting) != 1:
        among = ", ".join(map(repr, fitting or held)) or "nothing"
        wanted = "several entries could be meant" if fitting else "expected tensors by name"
        raise ValueError(f"it holds {among}: {wanted}; save the state dict alone")
    return fitting[usual[0] if usual else next(iter(fitting))]


def _are_tensors(values: Mapping) -> bool:
    return bool(values) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in values.items())


def _named_alike(found: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors without what wrappers add to names: ``module.``, ``_orig_mod.``, a name before all of them.

    DenseNets' published files have "norm.1" for "norm1", as torchvision's own loading knows.
    """
    parts = {part for name in expected for part in name.split(".")}
    added = {"module", "_orig_mod"} - parts
    named = {".".join(part for part in name.split(".") if part not in added): x for name, x in found.items()}
    starts = {name.split(".")[0] for name in named}
    if len(starts) == 1 and not starts & {name.split(".")[0] for name in expected}:
        named = {name.partition(".")[2] or name: x for name, x in named.items()}
    named = {re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2", name): x for name, x in named.items()}
    return named if len(named) == len(found) else found


def _differences(found: dict[str, Tensor], expected: dict[str, Tensor]) -> list[str]:
    """Say which tensors are missing, foreign or of another shape: of each kind the first, and how many there are."""
    # files of old versions do not count batches, and nothing that is explained depends on that
    missing = [name for name in expected if name not in found and not name.endswith("num_batches_tracked")]
    foreign = [name for name in found if name not in expected]
    shapes = [(x, *map(tuple, (found[x].shape, y.shape))) for x, y in expected.items() if x in found]
    shapes = [(name, there, wanted) for name, there, wanted in shapes if there != wanted]
    problems = []
    if missing:
        problems.append(f"it lacks {len(missing)} of {len(expected)} tensors, the first is {missing[0]}")
    if foreign:
        problems.append(f"it has {len(foreign)} that the network has not, the first is {foreign[0]}")
    if shapes:
        name, there, wanted = shapes[0]
        problems.append(f"{len(shapes)} have another shape, the first is {name}, {there} instead of {wanted}")
    return problems
