"""Look up published results on MVTec AD, for comparison tables."""

import json
from functools import cache
from pathlib import Path
from typing import NamedTuple

from xailab.detection.measuring import FIGURES


class Published(NamedTuple):
    """Hold one column of published figures.

    Attributes:
        figure: Name of the figure, as in `Results`.
        name: Variant of the method.
        source: Paper or reimplementation that it comes from.
        categories: Value by category, and "mean".
    """

    figure: str
    name: str
    source: str
    categories: dict[str, float]


@cache
def published(method: str, name: str) -> tuple[Published, ...]:
    """Look up the figures of a method on MVTec AD, by its authors or by a reimplementation.

    For each figure the first source is taken that has it, which is the paper where the paper has it.

    >>> [(p.figure, p.categories["hazelnut"]) for p in published("PaDiM", "ResNet18-Rd100")]
    [('image_auroc', 0.841), ('pixel_auroc', 0.977), ('pro', 0.914)]

    Args:
        method: Name of the method, "PaDiM" or "Patch SVDD".
        name: Variant of the method, as "ResNet18-Rd100".
    """
    runs = json.loads((Path(__file__).parent / "literature.json").read_text(encoding="utf-8"))["runs"]
    found: dict[str, Published] = {}
    for each in runs:
        if (each["method"], each["name"]) == (method, name):
            for i, figure in enumerate(each["figures"]):
                values = {category: values[i] for category, values in each["categories"].items()}
                found.setdefault(figure, Published(figure, name, each["source"], values))
    return tuple(found[figure] for figure in FIGURES if figure in found)
