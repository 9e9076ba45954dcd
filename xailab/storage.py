"""Find the data folder, write files whole or not at all, and keep tensors with a JSON description in safetensors files.

Nothing in a file is ever executed. State dicts and fingerprints of networks are in ``xailab.fingerprints``.
"""

import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save, save_file
from torch import Tensor

KEY, CHECK = "xailab", "sha256"


def data_root(folder: str | Path | None = None) -> Path:
    """Find the folder of downloaded data and weights: ``folder``, ``$XAILAB_DATA``, or ``data`` in the working folder.

    >>> data_root("somewhere").name
    'somewhere'

    Raises:
        ValueError: if it begins with ``~`` and the name of an unknown user.
    """
    named = "XAILAB_DATA" if folder is None else "the folder of the data"
    folder = Path(folder or os.environ.get("XAILAB_DATA") or "data")
    try:
        return folder.expanduser()
    except RuntimeError:
        raise ValueError(f"{named} is {folder}, and nobody's home is known by that name") from None


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Write a file whole, or not at all: yield a file to fill, which takes the place of ``path`` at the end.

        with storage.atomic("notes.txt") as part:
            part.write_text("All of it.")

    Args:
        path: The file; what was there before is replaced, unless an error is raised.

    Raises:
        FileNotFoundError: if there is no such folder.
    """
    path = Path(path)
    check_folder(path)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")  # each process and thread has its own
    try:
        part.touch(exist_ok=False)
        mode = part.stat().st_mode
        yield part
        part.chmod(mode)  # safetensors makes files that nobody else may read
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def whole_of(part: Path) -> Path | None:
    """Find the file that `atomic` was writing when the computer stopped; None if this is another file."""
    found = re.fullmatch(r"\.(.+?)(\.[0-9a-f]{8})?\.part", part.name)
    return part.with_name(found[1]) if found else None


def write(path: str | Path, kind: str, description: dict, tensors: dict[str, Tensor]) -> None:
    """Write a file as a whole, or not at all.

    Args:
        path: The file; what was there before is replaced.
        kind: What it holds, in words: "PaDiM detector".
        description: What JSON can hold.
        tensors: By name. Those that share memory, as a layer that a network uses under two names, are written apart.

    Raises:
        FileNotFoundError: if there is no such folder.
    """
    tensors = _apart({name: x.detach().cpu().contiguous() for name, x in tensors.items()})
    text = json.dumps([kind, description])
    with atomic(path) as part:
        save_file(tensors, part, {KEY: text, CHECK: _check(text, tensors)})


def read(path: str | Path, kind: str) -> tuple[dict, dict[str, Tensor]]:
    """Read the description and the tensors of a file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, cut off, or something else.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no {kind} at {path}: check the spelling and the folder you started in")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            # Copied, as they lie in the file at any byte: some kernels compute otherwise where a tensor is not aligned.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        if metadata[CHECK] != _check(metadata[KEY], tensors):
            raise ValueError
        found, description = json.loads(metadata[KEY])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError):
        raise ValueError(f"{path} is damaged, cut off, or no {kind} of xailab's: make it again") from None
    if found != kind:
        raise ValueError(f"{path} holds a {found}, expected a {kind}")
    return description, tensors


def convert(source: Path, target: Path) -> None:
    """Write a state dict that torch saved as safetensors.

    Raises:
        ValueError: if the source holds something else.
    """
    try:
        weights = torch.load(source, map_location="cpu", weights_only=True)
        data = save({name: tensor.contiguous().clone() for name, tensor in weights.items()})
    except (OSError, MemoryError):
        raise
    except Exception as error:  # whatever a foreign file brings about
        raise ValueError(f"{source.name} holds no weights ({(str(error) or repr(error)).splitlines()[0]})") from None
    with atomic(target) as part:
        part.write_bytes(data)


def check_folder(path: str | Path) -> None:
    """Raise FileNotFoundError, before work is lost, if a file cannot be written for want of its folder."""
    if not Path(path).parent.is_dir():
        raise FileNotFoundError(f"there is no folder {Path(path).parent}: make it first")


def digest(tensor: Tensor) -> str:
    """Compute the SHA-256 of a tensor's values, in hexadecimal."""
    data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return hashlib.sha256(data.data).hexdigest()


def sha256(path: Path) -> str:
    """Compute the SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _apart(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors, no two of them in the same memory, which safetensors refuses."""
    taken, apart = set(), {}
    for name, x in tensors.items():
        place = x.untyped_storage().data_ptr()
        apart[name] = x.clone() if place in taken else x
        taken.add(place)
    return apart


def _check(text: str, tensors: dict[str, Tensor]) -> str:
    """SHA-256 of a whole file's content."""
    parts = [text, *(f"{name} {x.dtype} {tuple(x.shape)} {digest(x)}" for name, x in sorted(tensors.items()))]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
