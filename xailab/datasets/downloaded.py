"""Read the data sets that ``python data_download.py`` downloads.

    >>> from xailab.datasets import downloaded
    >>> pets = downloaded.oxford_pets("test")  # doctest: +SKIP
    >>> image, label = pets[0]  # doctest: +SKIP
    >>> mask = pets.photograph(0).mask  # doctest: +SKIP

Items are (image, label), as those of `scenes.Scenes`; ``photograph`` gives the picture in its file with its truth.
Nothing is downloaded here: if a data set is not on the disk, the error says how to get it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import SupportsIndex, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from xailab.boxes import Box
from xailab.datasets import folders
from xailab.images import Preprocess, load
from xailab.storage import data_root

Read = TypeVar("Read")
PET, BACKGROUND = 1, 2  # values of the trimaps of Oxford-IIIT Pet; 3 is the border between them


@dataclass(frozen=True)
class Photograph:
    """A photograph with its truth.

    Attributes:
        image: RGB.
        label: Number of its class.
        mask: The object's pixels; None where they are not known.
        border: Pixels that the annotators left undecided; None where there is no mask.
        boxes: Boxes around the objects; empty where none are known.
    """

    image: UInt8[np.ndarray, "h w 3"]
    label: int
    mask: Bool[np.ndarray, "h w"] | None = None
    border: Bool[np.ndarray, "h w"] | None = None
    boxes: tuple[Box, ...] = ()


class Photographs(Dataset):
    """One split of a downloaded data set.

    Items are (image, label): a Float[Tensor, "3 h w"] in [0, 1], or what ``preprocess`` makes of the picture, and the
    class as an int.

    Attributes:
        classes: Names of the classes.
        labels: The class of each photograph, (n,).
    """

    def __init__(
        self,
        classes: Sequence[str],
        labels: Sequence[int] | np.ndarray,
        read: Callable[[int], Photograph],
        preprocess: Preprocess | None = None,
    ) -> None:
        self.classes, self.labels = tuple(classes), np.asarray(labels, dtype=np.int64)
        self._read, self.preprocess = read, preprocess

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: SupportsIndex) -> tuple[Float[Tensor, "3 h w"], int]:
        photograph = self.photograph(i)
        if self.preprocess is not None:
            return self.preprocess(photograph.image)[0], photograph.label
        return torch.from_numpy(photograph.image.copy()).permute(2, 0, 1).float() / 255, photograph.label

    def photograph(self, i: SupportsIndex) -> Photograph:
        """Read the i-th photograph with its truth."""
        i = int(i)
        if not 0 <= i < len(self):
            raise IndexError(f"photograph {i} of a data set of {len(self)}: expected 0 to {len(self) - 1}")
        return self._read(i)


def stl10(split: str = "train", *, root: str | Path | None = None, preprocess: Preprocess | None = None) -> Photographs:
    """Read STL-10 (Coates, Ng and Lee 2011): 5000 and 8000 photographs of 96 x 96 pixels, ten classes.

    >>> stl10("test").classes  # doctest: +SKIP
    ('airplane', 'bird', 'car', 'cat', 'deer', 'dog', 'horse', 'monkey', 'ship', 'truck')

    Args:
        split: "train" or "test".
        root: Folder of the data; None takes ``$XAILAB_DATA``, or ``data``.
        preprocess: Preprocessing of a network, ``network.preprocess``; None gives values in [0, 1].

    Raises:
        FileNotFoundError: if the data set is not on this disk.
        ValueError: if it is damaged.
    """
    from torchvision.datasets import STL10

    class Labelled(STL10):
        train_list = STL10.train_list[:2]  # without the 2.8 GB that have no labels, whose MD5 it would compute

    data = _torchvision(Labelled, "stl10", _root(root, "stl10", STL10.base_folder), split=_split(split))
    return Photographs(data.classes, np.asarray(data.labels), _pairs(data), preprocess)


def cifar10(
    split: str = "train", *, root: str | Path | None = None, preprocess: Preprocess | None = None
) -> Photographs:
    """Read CIFAR-10 (Krizhevsky 2009): 50000 and 10000 photographs of 32 x 32 pixels, ten classes.

    >>> len(cifar10("test"))  # doctest: +SKIP
    10000

    The arguments are those of `stl10`. Torchvision compares the MD5 of each file with its own before it unpickles it.
    """
    from torchvision.datasets import CIFAR10

    root = _root(root, "cifar10", CIFAR10.base_folder)
    data = _torchvision(CIFAR10, "cifar10", root, train=_split(split) == "train")
    return Photographs(data.classes, data.targets, _pairs(data), preprocess)


def oxford_pets(
    split: str = "train",
    *,
    breeds: bool = False,
    root: str | Path | None = None,
    preprocess: Preprocess | None = None,
) -> Photographs:
    """Read Oxford-IIIT Pet (Parkhi et al. 2012): 3680 and 3669 photographs of cats and dogs, with masks.

    >>> oxford_pets("test", breeds=True).classes[:2]  # doctest: +SKIP
    ('Abyssinian', 'American Bulldog')

    Args:
        split: "train" (torchvision's "trainval") or "test".
        breeds: Take the 37 breeds as classes, instead of cat and dog.
        root, preprocess: See `stl10`.
    """
    from torchvision.datasets import OxfordIIITPet

    root = _root(root, "oxford-pets", "oxford-iiit-pet")
    kinds = ["category" if breeds else "binary-category", "segmentation"]
    part = "trainval" if _split(split) == "train" else "test"
    data = _torchvision(OxfordIIITPet, "oxford-pets", root, split=part, target_types=kinds)

    def read(i: int) -> Photograph:
        image, (label, trimap) = data[i]
        trimap = np.asarray(trimap)
        inside = trimap == PET
        return Photograph(np.asarray(image), label, inside, ~inside & (trimap != BACKGROUND))

    classes, labels = (data.classes, data._labels) if breeds else (data.bin_classes, data._bin_labels)
    return Photographs(classes, labels, read, preprocess)


def cub_200(
    split: str = "train",
    *,
    crop: bool = False,
    root: str | Path | None = None,
    preprocess: Preprocess | None = None,
) -> Photographs:
    """Read CUB-200-2011 (Wah et al. 2011): 5994 and 5794 photographs of birds of 200 kinds, with boxes.

    >>> cub_200("test").photograph(0).boxes  # doctest: +SKIP
    (Box(left=60, top=27, right=385, bottom=331),)

    Args:
        split: "train" or "test".
        crop: Crop each picture to the bird's box, as ProtoPNet does.
        root, preprocess: See `stl10`.
    """
    base = _root(root, "cub-200 --accept-licence", "CUB_200_2011") / "CUB_200_2011"
    wanted = "1" if _split(split) == "train" else "0"
    paths, kinds, split_of, boxes = (
        _lines(base / f"{name}.txt") for name in ("images", "image_class_labels", "train_test_split", "bounding_boxes")
    )
    names = [key for key in paths if split_of[key] == wanted]
    labels = [int(kinds[key]) - 1 for key in names]

    def read(i: int) -> Photograph:
        image = load(base / "images" / paths[names[i]])
        left, top, width, height = (round(float(value)) for value in boxes[names[i]].split())
        box = _box(left, top, left + width, top + height, image)
        if crop:
            image = image[box.top : box.bottom, box.left : box.right]
            box = Box(0, 0, image.shape[1], image.shape[0])
        return Photograph(image, labels[i], boxes=(box,))

    classes = [name.partition(".")[2].replace("_", " ") for name in _lines(base / "classes.txt").values()]
    return Photographs(classes, labels, read, preprocess)


def brain_mri(
    split: str = "train", *, root: str | Path | None = None, preprocess: Preprocess | None = None
) -> Photographs:
    """Read slices of brains with and without a tumour, with boxes around the tumours.

    >>> brain_mri("test").classes  # doctest: +SKIP
    ('no tumour', 'tumour')

    The arguments are those of `stl10`. Pictures without a label are left out. The origin of this teaching set is not
    known: nothing that is measured on it says anything about patients.

    Raises:
        FileNotFoundError: if the data set is not on this disk.
        ValueError: if there is no such split, or the folder holds no pictures with labels.
    """
    base = _root(root, "brain-mri", "brain_mri") / "brain_mri"
    names = ("train",) if _split(split) == "train" else ("valid", "val")
    inner = [order for name in names for order in (f"{name}/{{}}", f"{{}}/{name}")]  # sets of this form have either
    folders = [outer + order for outer in ("", "brain-tumor/") for order in inner]
    folder = next((each for each in folders if (base / each.format("images")).is_dir()), folders[0])
    notes = {path.stem: path.read_text(encoding="utf-8") for path in (base / folder.format("labels")).glob("*.txt")}
    files = [path for path in sorted((base / folder.format("images")).glob("*")) if path.stem in notes]
    if not files:
        raise ValueError(f"{base} holds no pictures with labels: is it damaged? python data_download.py --verify")
    found = [[line.split() for line in notes[path.stem].splitlines() if line.strip()] for path in files]
    labels = [int(any(line[0] == "1" for line in lines)) for lines in found]

    def read(i: int) -> Photograph:
        image = load(files[i])
        height, width = image.shape[:2]
        boxes = []
        for x, y, w, h in ([float(value) for value in line[1:5]] for line in found[i] if line[0] == "1"):
            corners = ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)
            left, top, right, bottom = map(round, corners)
            boxes.append(_box(left, top, right, bottom, image))
        return Photograph(image, labels[i], boxes=tuple(boxes))

    return Photographs(("no tumour", "tumour"), labels, read, preprocess)


def mvtec_ad(
    category: str, split: str = "train", *, root: str | Path | None = None, preprocess: Preprocess | None = None
) -> folders.MVTecAD:
    """Read a category of MVTec AD (Bergmann et al. 2019) as a `folders.MVTecAD`.

    >>> mvtec_ad("hazelnut", "test").defects  # doctest: +SKIP
    ('crack', 'cut', 'hole', 'print')

    The other arguments are those of `stl10`.
    """
    root = _root(root, f"mvtec-ad/{category} --accept-licence", f"mvtec_ad/{category}")
    return folders.MVTecAD(root / "mvtec_ad", category, split, preprocess=preprocess)


def _root(root: str | Path | None, name: str, place: str) -> Path:
    """The folder of the data, if this is in it."""
    root = data_root() if root is None else Path(root).expanduser()
    if not (root / place).is_dir():
        raise FileNotFoundError(
            f"{root / place} is not here: python data_download.py {name} gets it (XAILAB_DATA says where the data lies)"
        )
    return root


def _split(split: str) -> str:
    if split not in folders.SPLITS:
        raise ValueError(f"split={split!r}: expected 'train' or 'test'")
    return split


def _torchvision(kind: Callable[..., Read], name: str, root: Path, **options) -> Read:
    """Make a data set of torchvision, or say how to repair it."""
    try:
        return kind(root, **options)
    except (RuntimeError, OSError) as error:
        raise ValueError(
            f"{name} in {root} is damaged ({error}): python data_download.py --verify {name} says more; after that, "
            "the same without --verify brings it again"
        ) from None


def _pairs(data: Dataset) -> Callable[[int], Photograph]:
    def read(i: int) -> Photograph:
        image, label = data[i]
        return Photograph(np.array(image.convert("RGB")), int(label))

    return read


def _box(left: int, top: int, right: int, bottom: int, image: np.ndarray) -> Box:
    """A box, cut to its picture."""
    height, width = image.shape[:2]
    return Box(max(left, 0), max(top, 0), min(right, width), min(bottom, height))


def _lines(path: Path) -> dict[str, str]:
    """What follows each line's number."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is missing or damaged ({error}): python data_download.py cub-200") from None
    return dict(line.split(" ", 1) for line in lines if line.strip())
