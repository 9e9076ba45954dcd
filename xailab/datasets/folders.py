"""Read folders of pictures for anomaly detection, in the layout of MVTec AD (Bergmann et al., CVPR 2019).

    <category>/train/good/*.png
    <category>/test/<good or a defect>/*.png
    <category>/ground_truth/<defect>/<stem>_mask.png

Own pictures need less: ``test`` and ``ground_truth`` may be missing (without the latter the masks are unknown), and a
folder that holds nothing but pictures is a category of normal ones.
"""

import os
import re
import warnings
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, SupportsIndex

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset

from xailab.images import Preprocess, load

SPLITS = ("train", "test")
LAYOUT = (*SPLITS, "ground_truth")
GOOD = "good"
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
ENDS = {"PNG": b"IEND", "JPEG": b"\xff\xd9"}  # what the last bytes of a whole file hold
GOOD_NAMES = {
    *(
        "good",
        "goods",
        "ok",
        "okay",
        "normal",
        "normals",
        "healthy",
        "intact",
        "fine",
        "clean",
        "gut",
        "perfect",
        "pass",
    ),
    *("passed", "flawless", "faultless", "defectfree", "nodefect", "nodefects", "noanomaly", "anomalyfree", "nominal"),
}
GOOD_WORDS, BAD_WORDS = {"good", "ok", "okay", "normal"}, {"not", "no", "non", "bad"}
MASKS = ("groundtruth", "mask", "gt", "annotation", "label")
NAMED = ("", ".")  # ways to say that the root is itself the category, besides None


class Sample(NamedTuple):
    """A picture with its truth; ``torch.utils.data.default_collate`` makes batches of it.

    Attributes:
        image: RGB, or, where a ``Preprocess`` was given, normalised for the network.
        mask: True on the defect, in the same frame as the image. Shape (0, 0) where the masks are unknown.
        defect: "good" where there is none.
        name: "<split>/<defect>/<stem>".
    """

    image: UInt8[np.ndarray, "h w 3"] | Float[Tensor, "3 h w"]
    mask: Bool[np.ndarray, "h w"]
    defect: str
    name: str

    def preprocessed(self, preprocess: Preprocess) -> "Sample":
        """Preprocess the image for a network, and put the mask into the same frame."""
        return self._replace(image=preprocess(self.image)[0], mask=mask_frame(self.mask, preprocess))


def mask_frame(mask: Bool[np.ndarray, "h w"], preprocess: Preprocess) -> Bool[np.ndarray, "H W"]:
    """Resize and crop a mask as ``preprocess.frame`` does with its picture, by the nearest pixel.

    >>> mask_frame(np.eye(4, dtype=bool), Preprocess(resize=8, crop=4)).sum().item()
    8
    """
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import functional as transforms

    if 0 in mask.shape:
        return mask
    frame = torch.from_numpy(mask.astype(np.uint8))[None]
    if preprocess.resize is not None:
        frame = transforms.resize(frame, [preprocess.resize], interpolation=InterpolationMode.NEAREST_EXACT)
    if preprocess.crop is not None:
        frame = transforms.center_crop(frame, [preprocess.crop])
    return frame[0].bool().numpy()


def categories(root: str | Path) -> tuple[str, ...]:
    """List the categories in a folder, in natural order; ``(".",)`` where the folder is itself one.

    Raises:
        FileNotFoundError: if there is no such folder, or no category in it.
    """
    root = _folder(root)
    inside = _folders(root)
    if (root / "train").is_dir():
        return (".",)
    found = tuple(each.name for each in inside if (each / "train").is_dir())
    if not found:
        found = (".",) if _pictures(root) else tuple(each.name for each in inside if _pictures(each))
    if not found:
        deeper = next((each for each in inside if any(each.glob("*/train"))), None)
        hint = _deeper(root) if deeper is None else f"there are categories one folder deeper, in {deeper}"
        raise FileNotFoundError(
            f"no category in {root}: expected <category>/train/good/ with pictures ({', '.join(SUFFIXES)}), "
            f"or folders of pictures{hint and '; '}{hint}"
        )
    return found


class MVTecAD(Dataset):
    """One split of one category as a torch data set of `Sample`.

    >>> data = MVTecAD("data/mvtec_ad", "hazelnut", "test")  # doctest: +SKIP
    >>> image, mask, defect, name = data[0]  # doctest: +SKIP

    The headers and ends of all files are read first, so that a missing or damaged file is known before any work; each
    picture is decoded when it is asked for.

    Args:
        root: The folder of the categories.
        category: A category's folder in it; None or "." where the root is itself the category's folder.
        split: "train" (normal pictures) or "test".
        preprocess: Preprocessing of a network (``network.preprocess``). None gives the pictures as in their files.

    Attributes:
        defects: The kinds of defect in this split, without "good".
        kinds: The kind of each picture, "good" or a defect.
        labels: True for each picture with a defect, (n,).
        names: The name of each sample.
        sizes: (height, width) of each picture in its file, in pixels.
        has_masks: Whether the masks are known: False where there are defects and no ``ground_truth`` folder.

    Raises:
        FileNotFoundError: if the folder, the category or the split is not there.
        ValueError: if files are unreadable, missing, ambiguous or of the wrong size: one error that names them all.
    """

    def __init__(
        self, root: str | Path, category: str | None, split: str = "train", *, preprocess: Preprocess | None = None
    ):
        if split not in SPLITS:
            raise ValueError(f"split={split!r}: expected 'train' or 'test'")
        self.folder = _category(root, category)
        self.category, self.split, self.preprocess = self.folder.resolve().name, split, preprocess
        problems: list[str] = []
        self.pictures, kinds = [], []
        for kind, folder in _kinds(self.folder, split, problems).items():
            found = _pictures(folder)
            deeper = _deeper(folder, LAYOUT if folder == self.folder else ())
            if not found:
                problems.append(
                    f"{folder}: no pictures ({', '.join(SUFFIXES)}) in this folder{deeper and '; '}{deeper}"
                )
            elif deeper:
                warnings.warn(f"{folder}: only its own {len(found)} pictures are read; {deeper}", stacklevel=2)
            if kind != GOOD and _looks_good(kind):
                warnings.warn(
                    f"{folder}: its {len(found)} pictures count as defective, of a kind called {kind!r}, which looks "
                    f"like a name of the good ones: they belong into {folder.with_name(GOOD)}",
                    stacklevel=2,
                )
            problems += _doubles(found)
            self.pictures += found
            kinds += [kind] * len(found)
        self.kinds = tuple(kinds)
        self.defects = tuple(dict.fromkeys(kind for kind in kinds if kind != GOOD))
        self.labels = np.array([kind != GOOD for kind in kinds], dtype=bool)
        self.names = tuple(f"{split}/{k}/{path.stem}" for k, path in zip(kinds, self.pictures, strict=True))
        truth = self.folder / "ground_truth"
        self.has_masks = not self.defects or truth.is_dir()
        if not self.has_masks and (others := _alike(self.folder, *MASKS)):
            warnings.warn(
                f"{self.folder}: the masks are taken for unknown, expected {truth.name}; is it {others}?", stacklevel=2
            )
        self.masks: list[Path | None] = [None] * len(kinds)
        if self.defects and self.has_masks:
            self._find_masks(truth, problems)
        self.sizes = self._sizes(problems)
        if problems:
            count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
            raise ValueError(f"{count} in {self.folder}, {split}:\n  " + "\n  ".join(problems))

    def _find_masks(self, truth: Path, problems: list[str]) -> None:
        """Give each defective picture its mask; what is left over on either side is a problem."""
        for defect in self.defects:
            indices = [i for i, kind in enumerate(self.kinds) if kind == defect]
            files = _pictures(truth / defect) if (truth / defect).is_dir() else []
            problems += _doubles(files)
            named = {path.stem.removesuffix("_mask"): path for path in files}
            for i in indices:
                picture = self.pictures[i]
                self.masks[i] = named.pop(picture.stem, None)
                if self.masks[i] is None:
                    problems.append(f"{picture}: no mask, expected {truth / defect / (picture.stem + '_mask.png')}")
            problems += [f"{mask}: a mask without a picture" for mask in named.values()]
        for folder in _sorted(truth.iterdir()):
            if folder.is_dir() and folder.name not in (*self.defects, GOOD) and _pictures(folder):
                problems.append(f"{folder}: masks without pictures, expected those in test/{folder.name}")

    def _sizes(self, problems: list[str]) -> tuple[tuple[int, int], ...]:
        """The sizes of the readable pictures."""
        sizes = []
        for picture, mask in zip(self.pictures, self.masks, strict=True):
            both = []
            for path in (picture, mask):
                try:
                    both.append(None if path is None else _size(path))
                except ValueError as problem:
                    both.append(None)
                    problems.append(str(problem))
            if None not in both and both[0] != both[1]:
                problems.append(f"{mask}: a mask of {_by(both[1])} pixels for a picture of {_by(both[0])}")
            sizes.append(both[0])
        return tuple(size for size in sizes if size is not None)

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, i: SupportsIndex) -> Sample:
        image = load(self.pictures[i])
        mask = np.zeros(image.shape[:2] if self.has_masks else (0, 0), dtype=bool)
        if (file := self.masks[i]) is not None:
            mask = load_mask(file)
            if mask.shape != image.shape[:2]:
                raise ValueError(f"{file}: a mask of {_by(mask.shape)} pixels for a picture of {_by(image.shape)}")
        sample = Sample(image, mask, self.kinds[i], self.names[i])
        try:
            return sample if self.preprocess is None else sample.preprocessed(self.preprocess)
        except ValueError as error:
            raise ValueError(_naming(self.pictures[i], error)) from None


def load_mask(path: str | Path) -> Bool[np.ndarray, "h w"]:
    """Read a mask: True where any colour is not 0 (transparency is ignored); in JPEGs, from half of white.

    Raises:
        ValueError: if the file is damaged or no picture.
    """
    try:
        with Image.open(path) as image:
            lossy, image = image.format == "JPEG", ImageOps.exif_transpose(image)
            if image.mode in ("P", "PA"):
                image = image.convert("RGB")
            values = np.asarray(image).reshape(image.height, image.width, -1)
            colours = values[..., :-1] if image.mode in ("RGBA", "LA") else values
    except MemoryError:
        raise
    except Exception as error:  # whatever a damaged file brings about
        raise ValueError(f"{path}: damaged or no picture ({error}); download or export it again") from None
    return np.any(colours > (127 if lossy else 0), axis=2)


def _category(root: str | Path, category: str | None) -> Path:
    root = _folder(root)
    if category is None or category in NAMED:
        return root
    if (root / category).is_dir():
        return root / category
    there = categories(root)
    hint = "it is itself a category: leave out the name" if there == (".",) else f"there are {', '.join(there)}"
    raise FileNotFoundError(f"no category {category!r} in {root}; {hint}")


def _folder(root: str | Path) -> Path:
    root = Path(root).expanduser()
    if not root.is_dir():
        kind = "is a file" if root.exists() else "does not exist"
        raise FileNotFoundError(f"the folder {root} {kind}: check the spelling and the folder you started in")
    return root


def _kinds(folder: Path, split: str, problems: list[str]) -> dict[str, Path]:
    """The folders of a split's pictures by kind, "good" first."""
    inside = folder / split
    if split == "train":
        inside = inside if inside.is_dir() else folder
        if not (inside / GOOD).is_dir():
            return {GOOD: inside}
    elif not inside.is_dir():
        others = _alike(folder, split)
        raise FileNotFoundError(
            f"{folder} has no test pictures: expected {inside / GOOD} and {inside}/<a folder for each kind of defect>"
            f"{others and f'; is it {others}?'}"
        )
    kinds = _folders(inside)
    if loose := _pictures(inside):
        warnings.warn(
            f"{inside}: {len(loose)} pictures lie beside the folders of their kinds, and are not read: {loose[0].name}"
            f"{', ...' if len(loose) > 1 else ''}",
            stacklevel=3,
        )
    if split == "train":
        problems += [
            f"{each}: its name looks like that of the good ones, move these to {inside / GOOD}"
            if _looks_good(each.name)
            else f"{each}: a detector learns from normal pictures only, move these to {folder / 'test' / each.name}"
            for each in kinds
            if each.name != GOOD
        ]
        kinds = [inside / GOOD]
    if not kinds:
        problems.append(f"{inside}: expected a folder for each kind of picture, {GOOD!r} and the defects")
    return {each.name: each for each in sorted(kinds, key=lambda each: each.name != GOOD)}


def _looks_good(name: str) -> bool:
    """Whether a folder's name is one that people give to normal pictures, other than "good" itself."""
    words = re.findall("[a-z0-9]+", name.lower())
    return "".join(words) in GOOD_NAMES or bool(GOOD_WORDS & set(words) and not BAD_WORDS & set(words))


def _alike(folder: Path, *names: str) -> str:
    """Folders whose names look like one of these, as text; empty if there are none."""
    plain = {each: "".join(re.findall("[a-z]+", each.name.lower())) for each in _folders(folder)}
    return " or ".join(str(each) for each, name in plain.items() if name.startswith(names))


def _deeper(folder: Path, read: Sequence[str] = ()) -> str:
    """Say how many pictures lie in folders of this one that are not read, and which looks like the good one's."""
    counts = {}
    for each in _folders(folder):
        with suppress(OSError):  # folders that one may not look into
            found = sum(len(_pictures(place)) for place in (each, *_folders(each)))
            if found and each.name not in read:
                counts[each.name] = found
    if not counts:
        return ""
    places = ", ".join(f"{name} ({count})" for name, count in counts.items())
    good = [name for name in counts if _looks_good(name)]
    advice = f"{good[0]} looks like the good ones: rename it to {GOOD!r}" if good else "move them up"
    return f"there are others deeper, in {places}; {advice}"


def _folders(folder: Path) -> list[Path]:
    """The folders in a folder, in natural order; hidden ones are left out."""
    return _sorted(each for each in folder.iterdir() if each.is_dir() and not each.name.startswith("."))


def _pictures(folder: Path) -> list[Path]:
    """The pictures in a folder, by their suffixes, in natural order; hidden files are left out."""
    return _sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and not path.is_dir()
    )


def _sorted(paths: Iterable[Path]) -> list[Path]:
    """In natural order: 2 before 10."""

    def key(path: Path):
        parts = re.split(r"([0-9]+)", path.name.lower())  # every second part is a number
        return [int(part) if i % 2 else part for i, part in enumerate(parts)], path.name

    return sorted(paths, key=key)


def _doubles(paths: list[Path]) -> list[str]:
    """Say which files share a stem with one before them."""
    first: dict[str, Path] = {}
    return [
        f"{path}: has the name of {first[path.stem].name}, keep one of them"
        for path in paths
        if first.setdefault(path.stem, path) is not path
    ]


def _size(path: Path) -> tuple[int, int]:
    """Height and width after turning by EXIF, from a file whose beginning and end are those of a whole picture.

    Where the end is not the usual one, or the format has none, the file is decoded.

    Raises:
        ValueError: if it is no picture, or damaged.
    """
    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter("ignore")
            kind, (width, height) = image.format, image.size
            exif = image.getexif() if kind == "JPEG" or "exif" in image.info else {}
            if exif.get(ExifTags.Base.Orientation, 1) >= 5:
                width, height = height, width
        if kind not in ENDS or ENDS[kind] not in _end(path):
            height, width = load(path).shape[:2]
    except FileNotFoundError:
        raise ValueError(f"{path}: missing (a link that leads nowhere)") from None
    except UnidentifiedImageError:
        what = "no picture that can be read" if path.stat().st_size else "empty (0 bytes)"
        raise ValueError(f"{path}: {what}") from None
    except MemoryError:
        raise
    except Exception as error:  # whatever a damaged file brings about
        raise ValueError(_naming(path, error)) from None
    return height, width


def _naming(path: Path, error: Exception) -> str:
    """What an error says, with the file."""
    return str(error) if str(path) in str(error) else f"{path}: {error}"


def _end(path: Path) -> bytes:
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 64))
        return file.read()


def _by(shape) -> str:
    return f"{shape[0]} x {shape[1]}"
