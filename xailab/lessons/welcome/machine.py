"""Check that this machine is ready for the course."""

import os
import sys
from collections.abc import Mapping
from importlib import metadata

EXTRAS = ("", "data", "course")  # what a reader needs; "" is the library


def problems(required: list[str], installed: Mapping[str, str], python: tuple[int, int]) -> list[str]:
    """Compare what the course needs with what there is.

    Args:
        required: Requirements as in ``pyproject.toml`` (``"torch>=2.6"``).
        installed: Versions by package name, in lower case with hyphens.
        python: Version of Python.

    Returns:
        One line for each problem, with what to do; empty if all is well.
    """
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    found = []
    if python < (3, 11):
        found.append(
            f"Python is {python[0]}.{python[1]}, the course needs 3.11 or newer: install it and run `make lab`"
        )
    for requirement in map(Requirement, required):
        if requirement.marker and not any(requirement.marker.evaluate({"extra": each}) for each in EXTRAS):
            continue
        version = installed.get(canonicalize_name(requirement.name))
        if version is None:
            found.append(f"{requirement.name} is missing: run `make lab`, or `pip install {requirement.name}`")
        elif not requirement.specifier.contains(version, prereleases=True):
            found.append(f"{requirement.name} is {version}, needed is {requirement.specifier}: run `make lab`")
    return found


def check_machine() -> None:
    """Print whether this machine can run the course, with its versions, processors and GPU."""
    import torch
    from packaging.utils import canonicalize_name

    required = metadata.requires("xailab") or []
    installed = {str(canonicalize_name(package.name)): package.version for package in metadata.distributions()}
    found = problems(required, installed, sys.version_info[:2])
    for problem in found:
        print("✗", problem)
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none, and none is needed"
    python = sys.version.split()[0]
    print("✗" if found else "✓", f"Python {python}, torch {torch.__version__}, {os.cpu_count()} processors, GPU: {gpu}")
