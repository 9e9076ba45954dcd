"""Look at all the data of a detector's command before any work, and describe it."""

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from torch.utils.data import Subset
from tqdm import tqdm

from xailab import tables
from xailab.datasets.folders import MVTecAD
from xailab.detection.drawing import window
from xailab.images import Preprocess
from xailab.metrics import min_calibration_size

HELD_OUT = 5  # one normal picture in so many sets the threshold and is not fitted


class Category(NamedTuple):
    """The pictures of a category; test is None where there are only normal ones."""

    name: str
    train: MVTecAD
    test: MVTecAD | None

    def is_of_mvtec(self) -> bool:
        """Return whether it is one of MVTec AD's own, by the texts beside the pictures."""
        texts = [self.train.folder / name for name in ("readme.txt", "license.txt")]
        return any(text.is_file() and "mvtec" in text.read_text(errors="ignore").lower() for text in texts)

    def fingerprint(self) -> str:
        """Digest the files' names and sizes."""
        paths = [path for data in (self.train, self.test) if data for path in (*data.pictures, *data.masks) if path]
        files = [f"{path.relative_to(self.train.folder).as_posix()} {path.stat().st_size}" for path in paths]
        return hashlib.sha256("\n".join(files).encode()).hexdigest()


def scan(data: str, names: Iterable[str], preprocess: Preprocess, rate: float | None) -> list[Category]:
    """Open all categories.

    Args:
        data: Folder of the categories.
        names: Names of the categories.
        preprocess: Preprocessing of the pictures.
        rate: Share of false alarms for the threshold; None without one.

    Raises:
        ValueError: with the problems of all of them.
    """
    found, problems = [], []
    for name in tqdm(dict.fromkeys(names), desc="looking", leave=False, disable=None):
        try:
            train = MVTecAD(data, name, "train", preprocess=preprocess)
            tested = (train.folder / "test").is_dir()
            test = MVTecAD(data, name, "test", preprocess=preprocess) if tested else None
            if len(train) < 2:
                raise ValueError(f"{train.folder}: one normal picture is too few to fit, expected 2 or more")
            _check_frames(train, test, preprocess)
            _check_calibration(train, rate)
            found.append(Category(train.category, train, test))
        except (ValueError, FileNotFoundError) as error:
            problems.append(error)
    if problems:
        raise ValueError("\n".join(str(problem) for problem in problems))
    return found


def describe(found: Iterable[Category], preprocess: Preprocess) -> str:
    """Describe the categories in a table."""
    rows: list[list[object]] = [["category", "normal", "good", "defective", "masks", "pixels", "seen", "defects"]]
    for name, train, test in found:
        sizes = {*train.sizes, *(test.sizes if test else ())}
        height, width = train.sizes[0]
        seen = np.prod(window((height, width), preprocess)[2:]) / (height * width)
        masks = "-" if test is None or not test.defects else "yes" if test.has_masks else "none"
        tests = ["-", "-"] if test is None else [(~test.labels).sum(), test.labels.sum()]
        pixels = f"{height} x {width}" + (f" and {len(sizes) - 1} more" if len(sizes) > 1 else "")
        defects = ", ".join(test.defects) if test else ""
        rows.append([name, len(train), *tests, masks, pixels, f"{seen:.0%}", defects])
    note = "good, defective: test pictures; seen: what the crop leaves of a picture"
    return "\n".join([*tables.lines(rows, left=(0, 7)), "", note])


def split(train: MVTecAD, seed: int) -> tuple[Subset, Subset]:
    """Split normal pictures into those to fit and those for the threshold.

    Pictures that were fitted lie too close to the normal ones for a threshold. So do copies of them, which are
    therefore fitted.
    """
    order = np.random.default_rng(seed).permutation(len(train)).tolist()
    order.sort(key=_copies(train).__contains__)  # stable: copies come last
    held = len(train) // HELD_OUT
    return Subset(train, sorted(order[held:])), Subset(train, sorted(order[:held]))


def _check_frames(train: MVTecAD, test: MVTecAD | None, preprocess: Preprocess) -> None:
    """Check that all pictures of a category have one size once they are preprocessed, as a detector has one grid."""
    sizes = dict.fromkeys((*train.sizes, *(test.sizes if test else ())))
    frames = {preprocess.frame(np.zeros((*size, 3), np.uint8)).shape[:2]: size for size in sizes}
    if len(frames) > 1:
        listed = ", ".join(f"{h} x {w} (from {a} x {b})" for (h, w), (a, b) in list(frames.items())[:4])
        raise ValueError(
            f"{train.folder}: the network would see pictures of {len(frames)} sizes: {listed}; give --size and --crop"
        )


def _check_calibration(train: MVTecAD, rate: float | None) -> None:
    """Check that enough normal pictures are left for a threshold."""
    if rate is None:
        return
    held, needed, copied = len(train) // HELD_OUT, min_calibration_size(rate), len(_copies(train))
    if len(train) - copied < held:
        raise ValueError(
            f"{train.folder}: --calibrate keeps {held} normal pictures for the threshold, and only "
            f"{len(train) - copied} of {len(train)} have no copy among the others: remove the copies"
        )
    if held < needed:
        raise ValueError(
            f"{train.folder}: --calibrate {rate:g} takes {needed} normal pictures that are not fitted; one in "
            f"{HELD_OUT} is kept for it, {held} of {len(train)}: give a larger share of false alarms, or more pictures"
        )


def _copies(train: MVTecAD) -> set[int]:
    """Find the pictures whose file is equal to another's."""
    digests = [hashlib.sha256(path.read_bytes()).digest() for path in train.pictures]
    return {i for i, digest in enumerate(digests) if digests.count(digest) > 1}
