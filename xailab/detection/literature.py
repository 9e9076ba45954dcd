"""What others published of their detectors on MVTec AD, to be shown beside what is measured, and marked as theirs."""

import json
from functools import cache
from pathlib import Path
from typing import NamedTuple

from xailab.detection.measuring import FIGURES


class Published(NamedTuple):
    """One column of others' figures: what, of which network, from where, by category (and "mean")."""

    figure: str
    name: str
    source: str
    categories: dict[str, float]


@cache
def published(method: str, name: str) -> tuple[Published, ...]:
    """Figures of a method ("PaDiM", "Patch SVDD") and its variant ("ResNet18-Rd100", ...) on MVTec AD, by their authors
    or by a reimplementation. For each figure the first source that has it, which is the paper where the paper has it.
    """
    runs = json.loads((Path(__file__).parent / "literature.json").read_text(encoding="utf-8"))["runs"]
    found: dict[str, Published] = {}
    for each in runs:
        if (each["method"], each["name"]) == (method, name):
            for i, figure in enumerate(each["figures"]):
                values = {category: values[i] for category, values in each["categories"].items()}
                found.setdefault(figure, Published(figure, name, each["source"], values))
    return tuple(found[figure] for figure in FIGURES if figure in found)
