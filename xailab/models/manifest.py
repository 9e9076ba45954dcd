"""Weights that come with the package: a folder of safetensors files and a ``manifest.json`` that describes each."""

import json
from functools import cache
from pathlib import Path

from xailab.storage import sha256


@cache
def read(folder: Path) -> dict[str, dict]:
    """Read what is known of each file in a folder, by its name without the suffix: recipe, results, SHA-256.

    Raises:
        FileNotFoundError: if the folder has no manifest.
    """
    return json.loads((folder / "manifest.json").read_text(encoding="utf-8"))


def file(folder: Path, name: str) -> Path:
    """Find one of the files, and check that it is the one that was shipped.

    Raises:
        ValueError: if its SHA-256 differs from the manifest's.
    """
    path = folder / f"{name}.safetensors"
    if sha256(path) != read(folder)[name]["sha256"]:
        raise ValueError(f"{path.name} is not the file that was shipped (its SHA-256 differs): restore it from git")
    return path
