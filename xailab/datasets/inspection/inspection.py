"""Draw inspection pictures: seven products, normal and defective, with pixel-exact masks."""

from collections.abc import Sequence
from itertools import count
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
from jaxtyping import Bool, Float
from torch.utils.data import Dataset

from xailab import storage
from xailab.datasets.arguments import check_choice, check_numbers
from xailab.datasets.drawing.shapes import ramp
from xailab.datasets.folders import GOOD, SPLITS, Sample
from xailab.datasets.inspection import biscuit, capsule, circuit, fabric, gear, gravel, wood
from xailab.datasets.inspection.flaws import Flaw
from xailab.datasets.inspection.light import Picture, grain, lay
from xailab.images import Preprocess, as_picture

TEXTURES = ("fabric", "gravel", "wood")
OBJECTS = ("biscuit", "capsule", "circuit", "gear")
CATEGORIES = TEXTURES + OBJECTS
# each has DEFECTS and draw(side, rng, flaw, split) -> the picture before the sensor's noise, float32, 0 to 255
DRAWN: tuple[ModuleType, ...] = (fabric, gravel, wood, biscuit, capsule, circuit, gear)
DRAWINGS: dict[str, ModuleType] = dict(zip(CATEGORIES, DRAWN, strict=True))
N_TRAIN, N_TEST = 60, 60  # 60 tests hold 20 normal ones and the defects equally often

SMALLEST = 64  # pixels a side
BASE = 256  # below this side a picture is drawn at it and reduced
NOISE = 1.5  # standard deviation of the sensor's noise, in grey levels
VISIBLE = 8  # grey levels, of 255, that a defect must change a pixel by
FADE = (6, 14)  # a change of so few grey levels is taken out, of so many kept, lest shadows end in a line at the mask
SPECK = 0.0001  # share of the picture: a smaller changed area that is near no other is left as it was
LEAST, MOST = 0.0008, 0.28  # share of the picture that a defect covers


def defects(category: str) -> tuple[str, ...]:
    """List the kinds of defect of a category.

    >>> defects("gear")
    ('tooth', 'rust', 'scratch', 'dent')

    Raises:
        ValueError: if there is no such category.
    """
    if category not in DRAWINGS:
        raise ValueError(f"category={category!r}: expected one of {', '.join(CATEGORIES)}")
    return DRAWINGS[category].DEFECTS


def sample(
    category: str, i: int, *, split: str = "train", defect: str | None = None, seed: int = 0, size: int = 256
) -> Sample:
    """Draw one picture.

    >>> image, mask, defect, name = sample("gear", 4, split="test", size=64)
    >>> image.shape, bool(mask.any()), defect
    ((64, 64, 3), True, 'scratch')

    Args:
        category: One of `CATEGORIES`.
        i: Number of the picture, from 0.
        split: "train" (normal pictures) or "test", drawn from separate random streams.
        defect: The kind of defect in a test picture, or "good". If None, every third picture is good, from 0 on, and
            the others show the category's kinds in turn.
        seed: Seed of all pictures; another seed gives other pictures.
        size: Side in pixels, from 64; it changes the resolution, not the drawing.

    Returns:
        The picture, the pixels that its defect changes, the kind of defect, and "<split>/<defect>/<i>".

    Raises:
        ValueError: if an argument is none of the valid ones.
    """
    kinds = defects(category)
    check_choice("split", split, SPLITS)
    check_numbers(SMALLEST, i=i, seed=seed, size=size)
    kind = _kind(category, i, split) if defect is None else defect
    valid = (GOOD, *kinds) if split == "test" else (GOOD,)
    if kind not in valid:
        reason = f"expected one of {', '.join(valid)}" if split == "test" else 'pictures of split="train" are normal'
        raise ValueError(f"defect={defect!r}: {reason}")

    stream = (seed, CATEGORIES.index(category), SPLITS.index(split), i)
    side = max(size, BASE)
    normal = _draw(category, split, stream, side)
    picture, mask = normal, np.zeros((side, side), dtype=bool)
    if kind != GOOD:
        picture, mask = _with_defect(category, split, stream, normal, kind)
    picture, mask = _reduced(picture, mask, normal, size)
    noisy = picture + grain(_rng(stream, 0), size, NOISE)
    return Sample(np.clip(noisy + 0.5, 0, 255).astype(np.uint8), mask, kind, f"{split}/{kind}/{i:03d}")


class Inspection(Dataset):
    """One split of one category as a torch data set of `Sample`, like ``folders.MVTecAD``.

    >>> data = Inspection("gear", "test", n=4)
    >>> data.kinds, data.labels.tolist()
    (('good', 'tooth', 'rust', 'good'), [False, True, True, False])

    Args:
        category, split, seed, size: See `sample`.
        n: Number of pictures; None for 60.
        preprocess: Preprocessing of a network (``network.preprocess``). None gives the pictures as drawn.

    Attributes:
        defects: The kinds of defect in this split, without "good".
        kinds: The kind of each picture, "good" or a defect.
        labels: True for each picture with a defect, (n,).
        names: The name of each sample.
    """

    def __init__(
        self,
        category: str,
        split: str = "train",
        *,
        n: int | None = None,
        seed: int = 0,
        size: int = BASE,
        preprocess: Preprocess | None = None,
    ):
        kinds = defects(category)
        check_choice("split", split, SPLITS)
        check_numbers(SMALLEST, n=n or 0, seed=seed, size=size)
        n = (N_TRAIN if split == "train" else N_TEST) if n is None else n
        self.category, self.split, self.preprocess = category, split, preprocess
        self.options = {"split": split, "seed": seed, "size": size}
        self.kinds = tuple(_kind(category, i, split) for i in range(n))
        self.defects = tuple(kind for kind in kinds if kind in self.kinds)
        self.labels = np.array([kind != GOOD for kind in self.kinds], dtype=bool)
        self.names = tuple(f"{split}/{kind}/{i:03d}" for i, kind in enumerate(self.kinds))

    def __len__(self) -> int:
        return len(self.kinds)

    def __getitem__(self, i: int) -> Sample:
        if not 0 <= i < len(self):
            raise IndexError(f"sample {i} of a data set of {len(self)}: expected 0 to {len(self) - 1}")
        drawn = sample(self.category, int(i), **self.options)
        return drawn if self.preprocess is None else drawn.preprocessed(self.preprocess)


def write(
    root: str | Path,
    categories: str | Sequence[str] = CATEGORIES,
    *,
    n_train: int = N_TRAIN,
    n_test: int = N_TEST,
    size: int = BASE,
    seed: int = 0,
    progress: bool = True,
) -> Path:
    """Write pictures and masks as PNG in the folders of MVTec AD; ``folders.MVTecAD`` reads them.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     sorted(path.name for path in write(folder, "gear", n_train=1, n_test=2, progress=False).rglob("*.png"))
    ['000.png', '000.png', '001.png', '001_mask.png']

    Each file is written whole or not at all. An interrupted run continues when it is started again.

    Args:
        root: A folder that is new, empty, or holds the files of an earlier run.
        categories: One of `CATEGORIES`, or several.
        n_train, n_test: Number of pictures in each category's splits.
        size, seed: See `sample`.
        progress: Show a progress bar.

    Returns:
        The folder.

    Raises:
        ValueError: if an argument is none of the valid ones.
        FileExistsError: if the folder has other things in it; nothing is written then.
    """
    from tqdm import tqdm

    root = Path(root).expanduser()
    chosen = (categories,) if isinstance(categories, str) else tuple(dict.fromkeys(categories))
    counts = dict(zip(SPLITS, (n_train, n_test), strict=True))
    data = [Inspection(c, split, n=n, seed=seed, size=size) for c in chosen for split, n in counts.items()]
    files = [(each, i, *_paths(root / each.category, name)) for each in data for i, name in enumerate(each.names)]
    ours = {path for _, _, *paths in files for path in paths}
    _check_folder(root, ours)
    for part in root.rglob(".*.part"):  # of a run that was stopped by force
        if storage.whole_of(part) in ours:
            part.unlink()
    for each, i, picture, mask in tqdm(files, desc="inspection", unit="picture", disable=not progress):
        drawn = each[i]
        _write_png(picture, cv2.cvtColor(as_picture(drawn.image), cv2.COLOR_RGB2BGR))
        if drawn.defect != GOOD:
            _write_png(mask, drawn.mask.astype(np.uint8) * 255)
    return root


def _kind(category: str, i: int, split: str) -> str:
    """What a picture shows unless it is told: every third one is good, the others take the defects in turn."""
    kinds = defects(category)
    return GOOD if split == "train" or i % 3 == 0 else kinds[(i - i // 3 - 1) % len(kinds)]


def _rng(stream: tuple[int, ...], *purpose: int) -> np.random.Generator:
    """Random numbers of one picture; `purpose` keeps those of its parts apart."""
    return np.random.default_rng(np.random.SeedSequence(stream, spawn_key=purpose))


def _draw(
    category: str, split: str, stream: tuple[int, ...], side: int, flaw: Flaw | None = None
) -> Float[np.ndarray, "side side 3"]:
    picture = DRAWINGS[category].draw(side, _rng(stream), Flaw() if flaw is None else flaw, split)
    return np.clip(picture, 0, 255)


def _with_defect(
    category: str, split: str, stream: tuple[int, ...], normal: Picture, kind: str
) -> tuple[Picture, Bool[np.ndarray, "side side"]]:
    """The picture with its defect, and the mask; where the defect hardly shows, behind a part say, it is drawn anew."""
    usual = normal if len(normal) == BASE else _draw(category, split, stream, BASE)  # the size changes no decision
    attempts = (_attempt(category, split, stream, usual, kind, attempt) for attempt in count())
    attempt, found = next((i, each) for i, each in enumerate(attempts) if LEAST <= each[1].mean() <= MOST)
    return found if usual is normal else _attempt(category, split, stream, normal, kind, attempt)


def _attempt(
    category: str, split: str, stream: tuple[int, ...], normal: Picture, kind: str, attempt: int
) -> tuple[Picture, Bool[np.ndarray, "side side"]]:
    rng = _rng(stream, 1 + defects(category).index(kind), attempt)
    picture = _draw(category, split, stream, len(normal), Flaw(kind, rng, rng.uniform()))
    change = np.abs(picture - normal).max(2)
    return lay(normal, picture, ramp(change, *FADE)), _area(change > VISIBLE)


def _area(visible: Bool[np.ndarray, "side side"]) -> Bool[np.ndarray, "side side"]:
    """The area of a visible change: gaps of a few pixels are closed, specks left out."""
    side = len(visible)
    change = visible.view(np.uint8)
    reach = 2 * round(side * 0.006) + 1
    closed = cv2.morphologyEx(change, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach)))
    _, pieces, numbers, _ = cv2.connectedComponentsWithStats(closed, connectivity=8)
    large = numbers[:, cv2.CC_STAT_AREA] >= SPECK * side * side
    large[0] = False  # what is not changed
    return large[np.asarray(pieces, np.intp)]


def _reduced(picture, mask, normal, size):
    """All at the size wanted. A pixel is in the mask if a quarter of it is; no other one differs from the normal."""
    if len(picture) != size:
        picture, normal = (cv2.resize(each, (size, size), interpolation=cv2.INTER_AREA) for each in (picture, normal))
        mask = cv2.resize(mask.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA) >= 0.25
    return np.where(mask[..., None], picture, normal), mask


def _paths(folder: Path, name: str) -> tuple[Path, Path]:
    """Where a picture and its mask go."""
    split, kind, stem = name.split("/")
    return folder / split / kind / f"{stem}.png", folder / "ground_truth" / kind / f"{stem}_mask.png"


def _check_folder(root: Path, ours: set[Path]):
    """Refuse a folder with anything in it that would not be written over, other categories of ours excepted."""
    if not root.exists():
        return
    if not root.is_dir():
        raise FileExistsError(f"{root} is a file: expected a folder, or a name that is free")
    others = [path for path in sorted(root.iterdir()) if path.name not in CATEGORIES]
    if not others:
        inside = [
            path
            for category in sorted({root / path.relative_to(root).parts[0] for path in ours})
            for path in category.rglob("*")
            if not path.is_dir()
        ]
        others = [path for path in inside if path not in ours and storage.whole_of(path) not in ours]
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise FileExistsError(
            f"{root} has other things in it ({others[0]}{more}): choose a folder that is new or empty"
        )


def _write_png(path: Path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    _, data = cv2.imencode(".png", image)
    with storage.atomic(path) as part:
        part.write_bytes(data.tobytes())
