"""Trained networks that come with the course, for the rendered slices."""

from pathlib import Path

from xailab.models import manifest as manifests
from xailab.protopnet.files import load
from xailab.protopnet.network import ProtoPNet

WEIGHTS = Path(__file__).parent / "weights"


def manifest() -> dict[str, dict]:
    """Read what is known of each network: the recipe that made it, and its results.

    >>> sorted(manifest())
    ['decoys', 'shortcut', 'usual']
    """
    return manifests.read(WEIGHTS)


def shipped(name: str = "usual") -> ProtoPNet:
    """Load a trained network for the rendered slices.

    "usual"; "shortcut", whose training slices had a letter in the corner; or "decoys", which was trained on flat,
    blurred and noisy pictures too, as pictures without a lesion.

    >>> shipped("usual").prototypes.shape
    torch.Size([10, 32])

    Raises:
        ValueError: if there is none of that name, or the file is damaged.
    """
    if name not in manifest():
        raise ValueError(
            f"no trained network {name!r}: there are {', '.join(manifest())}; recipes/phantoms.py makes others"
        )
    return load(manifests.file(WEIGHTS, name))
