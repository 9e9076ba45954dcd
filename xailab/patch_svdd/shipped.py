"""Trained encoders that come with the course, for categories of the rendered inspection pictures."""

from pathlib import Path

from xailab.models import manifest as manifests
from xailab.patch_svdd.detector import PatchSVDD

WEIGHTS = Path(__file__).parent / "weights"


def manifest() -> dict[str, dict]:
    """Read the recipe that made the encoders of each category, and its results.

    >>> list(manifest())
    ['biscuit', 'capsule', 'fabric']
    """
    return manifests.read(WEIGHTS)


def shipped(category: str) -> PatchSVDD:
    """Load the trained encoders of a category, with their mean image and without memory banks.

    Call ``fill_memory_bank`` with normal images next.

    >>> shipped("capsule").mean.shape
    torch.Size([3, 128, 128])

    Raises:
        ValueError: if there are none of that name, or the file is damaged.
    """
    if category not in manifest():
        raise ValueError(
            f"no trained encoders for {category!r}: there are {', '.join(manifest())}; "
            "recipes/patch_svdd.py makes others"
        )
    return PatchSVDD.load(manifests.file(WEIGHTS, category))
