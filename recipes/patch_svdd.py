"""Train and ship the encoders of Patch SVDD for a category of the rendered inspection pictures.

    python recipes/patch_svdd.py gear

With --dry, nothing is shipped. What is measured is the file as it is shipped, in half precision, with the normal
pictures of the training in the memory banks.
"""

import argparse
import tempfile
from pathlib import Path

from tqdm import tqdm
from training import record

from xailab.datasets.inspection import CATEGORIES, Inspection
from xailab.detection import evaluate
from xailab.images import Preprocess
from xailab.patch_svdd import COURSE, PatchSVDD
from xailab.patch_svdd.scoring import Maps
from xailab.patch_svdd.shipped import WEIGHTS


def pictures(category: str, split: str, count: int, size: int) -> Inspection:
    """Rendered pictures as the encoders want them."""
    return Inspection(category, split, n=count, preprocess=Preprocess(resize=size, mean=(0,) * 3, std=(1,) * 3))


def measured(detector: PatchSVDD, test: Inspection) -> dict[str, list[float]]:
    """Image and pixel AUROC of each kind of map."""
    found = {}
    for detector.kind in tqdm(Maps._fields, "measuring", leave=False):
        results = evaluate(detector, test)
        found[detector.kind] = [round(results.image_auroc, 4), round(results.pixel_auroc, 4)]
    return found


def ship(category: str, detector: PatchSVDD, entry: dict, folder: Path = WEIGHTS) -> Path:
    """Write the encoders in half precision, and what is known of them into the manifest."""
    path = folder / f"{category}.safetensors"
    detector.save(path, memory_banks=False, half=True)
    record(path, entry)
    return path


def parser() -> argparse.ArgumentParser:
    """The options that a training takes."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("category", choices=CATEGORIES)
    options.add_argument("--size", type=int, default=128, help="of the pictures, in pixels")
    options.add_argument("--normal", type=int, default=60, help="pictures to learn from")
    options.add_argument("--test", type=int, default=60, help="pictures to measure with")
    options.add_argument("--steps", type=int, default=200)
    options.add_argument("--pairs", type=int, default=COURSE.batch)
    options.add_argument("--lr", type=float, default=COURSE.lr)
    options.add_argument("--lambda", type=float, default=COURSE.lambda_, dest="lambda_")
    options.add_argument("--seed", type=int, default=0)
    return options


def main() -> None:
    """Render, train, measure on unseen pictures, ship."""
    options = parser()
    options.add_argument("--dry", action="store_true", help="ship nothing")
    args = options.parse_args()
    recipe = f"python recipes/patch_svdd.py {args.category} " + " ".join(
        f"--{name.removesuffix('_')} {value}" for name, value in vars(args).items() if name not in ("category", "dry")
    )
    normal = pictures(args.category, "train", args.normal, args.size)
    detector = PatchSVDD(seed=args.seed)
    detector.fit(normal, steps=args.steps, batch=args.pairs, lr=args.lr, lambda_=args.lambda_)
    with tempfile.TemporaryDirectory() as folder:
        shipped = PatchSVDD.load(ship(args.category, detector, {}, Path(folder))).fill_memory_bank(normal)
    results = measured(shipped, pictures(args.category, "test", args.test, args.size))
    print(recipe, results)
    if not args.dry:
        print(ship(args.category, detector, {"recipe": recipe, "size": args.size, "auroc": results}))


if __name__ == "__main__":
    main()
