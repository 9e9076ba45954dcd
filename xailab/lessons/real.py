"""Data of the lessons' sections "On real data": tell whether it is on this disk, and load photographs."""

import numpy as np
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from xailab.datasets import catalogue, downloaded
from xailab.datasets.folders import mask_frame
from xailab.datasets.photographs import photograph
from xailab.images import Preprocess
from xailab.models import zoo
from xailab.storage import data_root

WEIGHTS = "weights/"  # before the names of networks in the catalogue


def here(*names: str) -> bool:
    """Tell whether downloads are on this disk; if not, print one line that says how to get them.

    Args:
        names: As `python data_download.py` lists them, "oxford-pets" or "weights/resnet18".
    """
    missing = [name for name in names if not _here(name)]
    if unknown := [name for name in missing if name not in catalogue.entries()]:
        print(f"Not run. No {', '.join(unknown)} is here, and python data_download.py does not list it.")
    elif missing:
        entries = [catalogue.entries()[name] for name in missing]
        terms = " --accept-licence" if any(entry.terms for entry in entries) else ""
        size = catalogue.megabytes(sum(entry.size or 0 for entry in entries))
        print(f"Not run. Bring what it needs, about {size}: python data_download.py {' '.join(missing)}{terms}")
    return not missing


def weights(*names: str) -> str | None:
    """Find the first of some networks that has its ImageNet weights on this disk; if none, print a line as `here` does.

    Args:
        names: Names of the zoo; the last is the one to download.
    """
    found = next((name for name in names if _here(WEIGHTS + name)), None)
    if found is None:
        here(WEIGHTS + names[-1])
    return found


def photographs() -> list[UInt8[np.ndarray, "h w 3"]]:
    """Load four of `xailab.datasets.photographs`: a cat, a cup, a motorcycle, a rocket."""
    return [photograph(name).image for name in ("cat", "cup", "motorcycle", "rocket")]


def pets(
    preprocess: Preprocess, count: int = 100
) -> tuple[Float[Tensor, "n 3 h w"], UInt8[np.ndarray, "n h w 3"], Bool[np.ndarray, "n h w"]]:
    """Load cats and dogs of Oxford-IIIT Pet, spread over its test set, as a network that crops sees them.

    Args:
        preprocess: Preprocessing of the network.
        count: The largest number of pictures; pictures whose animal lies outside of the crop are left out.

    Returns:
        The batch, the pictures, and their masks.
    """
    data = downloaded.oxford_pets("test")
    chosen = [data.photograph(i) for i in np.linspace(0, len(data) - 1, min(count, len(data))).astype(int)]
    framed = [(each.image, mask_frame(each.mask, preprocess)) for each in chosen if each.mask is not None]
    visible = [(image, mask) for image, mask in framed if mask.any()]
    batch = preprocess([image for image, _ in visible])
    return batch, preprocess.undo(batch), np.stack([mask for _, mask in visible])


def _here(name: str) -> bool:
    if name.startswith(WEIGHTS):
        return zoo.weights_file(name.removeprefix(WEIGHTS)) is not None
    entry = catalogue.entries().get(name)
    places = entry.places if entry else (name.replace("mvtec-ad/", "mvtec_ad/"),)  # a product of one's own
    return all((data_root() / place).is_dir() and any((data_root() / place).iterdir()) for place in places)
