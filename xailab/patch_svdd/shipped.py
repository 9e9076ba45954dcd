"""Trained encoders that come with the course, for categories of the rendered inspection pictures."""

import json
from functools import cache
from pathlib import Path

from xailab.patch_svdd.detector import PatchSVDD

WEIGHTS = Path(__file__).parent / "weights"


@cache
def manifest() -> dict[str, dict]:
    """What is known of the encoders of each category: the recipe that made them, and its results."""
    return json.loads((WEIGHTS / "manifest.json").read_text(encoding="utf-8"))


def shipped(category: str) -> PatchSVDD:
    """Load the trained encoders of a category, with their mean image and without memory banks.

    Call ``fill_memory_bank`` with normal images next.

    Raises:
        ValueError: if there are none of that name, or the file is damaged.
    """
    if category not in manifest():
        raise ValueError(
            f"no trained encoders for {category!r}: there are {', '.join(manifest())}; "
            "recipes/patch_svdd.py makes others"
        )
    return PatchSVDD.load(WEIGHTS / f"{category}.safetensors")
