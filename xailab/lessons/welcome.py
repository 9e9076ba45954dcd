"""Lesson 00: is this machine ready, a look at the embedded data, and a first exercise."""

import os
import sys
from importlib import metadata

import ipywidgets as widgets
import numpy as np
from matplotlib.figure import Figure

from xailab import figures
from xailab.datasets import scenes
from xailab.lessons import Wrong, exercise
from xailab.lessons.explorer import explorer


def problems(required: list[str], installed: dict[str, str], python: tuple[int, int]) -> list[str]:
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
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = installed.get(canonicalize_name(requirement.name))
        if version is None:
            found.append(f"{requirement.name} is missing: run `make lab`, or `pip install {requirement.name}`")
        elif not requirement.specifier.contains(version, prereleases=True):
            found.append(f"{requirement.name} is {version}, needed is {requirement.specifier}: run `make lab`")
    return found


def check_machine() -> None:
    """Print whether this machine can run the course, and what it has to offer."""
    import torch
    from packaging.utils import canonicalize_name

    required = metadata.requires("xailab") or []
    installed = {canonicalize_name(package.name): package.version for package in metadata.distributions()}
    found = problems(required, installed, sys.version_info[:2])
    for problem in found:
        print("✗", problem)
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none, and none is needed"
    python = sys.version.split()[0]
    print("✗" if found else "✓", f"Python {python}, torch {torch.__version__}, {os.cpu_count()} processors, GPU: {gpu}")


def draw_scene(kind: str = "single", index: int = 0, show_masks: bool = True) -> Figure:
    """Draw a scene, its objects' names, and their masks in colour on grey."""
    scene = scenes.scene(index, kind=kind, split="test", size=256)
    names = " and ".join(scenes.CLASSES[label] for label in scene.labels)
    panels, titles = [scene.image], [f"{names}{' with a mark' if scene.mark is not None else ''}"]
    if show_masks:
        panels.append(tint(scene.image, scene.masks))
        titles.append("its exact mask" + ("s" if len(scene.masks) > 1 else ""))
    return figures.strip(panels, titles, panel=3.2)


def tint(image: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Colour the pixels of each mask (k, h, w), grey the rest."""
    from matplotlib.colors import to_rgb

    grey = image.mean(2, keepdims=True).repeat(3, 2) * 0.4 + 140
    for mask, colour in zip(masks, (figures.PALETTE[1], figures.PALETTE[0]), strict=False):
        grey[mask] = 0.5 * grey[mask] + 0.5 * 255 * np.array(to_rgb(colour))
    return grey.astype(np.uint8)


def scene_explorer() -> widgets.VBox:
    """Choose kind and number of a scene; see ``draw_scene``."""
    return explorer(draw_scene, kind=list(scenes.KINDS), index=(0, 199), show_masks=True)


@exercise("00.1")
def _(my_mirror) -> str:
    for shape in ((2, 3, 3), (4, 2, 3), (3, 5, 3)):
        picture = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
        mirrored = np.asarray(my_mirror(picture))
        if mirrored.shape != shape:
            raise Wrong(f"a mirrored picture keeps its shape {shape}, yours has {mirrored.shape}.")
        if np.array_equal(mirrored, picture):
            raise Wrong("that is the picture as it was: reverse the columns.")
        if np.array_equal(mirrored, picture[::-1]):
            raise Wrong("that is upside down: rows come first, columns second.")
        if np.array_equal(mirrored, picture[::-1, ::-1]):
            raise Wrong("that is turned by half a turn: reverse the columns alone.")
        if np.array_equal(mirrored, picture[:, :, ::-1]):
            raise Wrong("that exchanges red and blue: the last dimension is colour, the middle one is x.")
        if not np.array_equal(mirrored, picture[:, ::-1]):
            raise Wrong("expected the columns in reverse order, and nothing else changed.")
    return "pictures are (rows, columns, colours), and you know your way around them."
