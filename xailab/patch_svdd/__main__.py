"""``python -m xailab.patch_svdd DATA``: train Patch SVDD, score, and compare with the published figures.

What is the method's own: its options, and how it is trained. The rest is ``xailab.detection``, for all
detectors.
"""

import argparse
import dataclasses
import sys
from typing import get_args

from torch.utils.data import DataLoader, Dataset

from xailab.detection import Method, Prepared, run
from xailab.patch_svdd import PatchSVDD
from xailab.patch_svdd.detector import check_memory
from xailab.patch_svdd.network import STRIDES
from xailab.patch_svdd.scoring import Maps, Search, Subset
from xailab.patch_svdd.settings import COURSE, PAPER

PRESETS = {"course": COURSE, "paper": PAPER}


def _add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("Patch SVDD").add_argument
    add("--steps", type=_steps, default=200, metavar="N", help="number of training steps (default: 200)")
    add(
        "--preset",
        choices=PRESETS,
        default="course",
        help="pairs, learning rate and lambda: the course's or the paper's (default: course)",
    )
    add("--pairs", type=int, metavar="N", help="pairs of patches a step for each loss (default: the preset's)")
    add("--lr", type=float, help="learning rate of Adam (default: the preset's)")
    add("--lambda", type=float, dest="lambda_", metavar="L", help="weight of L_SVDD' (default: the preset's)")
    add("--encoders", metavar="FILE", help="take the encoders of this detector file, and do not train")
    apart = {"nargs": 2, "type": int, "default": list(STRIDES), "metavar": "N"}
    add("--strides", **apart, help="pixels from one patch to the next, fine and coarse (default: 4 16)")
    add(
        "--keep",
        type=float,
        default=1.0,
        metavar="SHARE",
        help="share of the normal patches in the memory banks (default: 1)",
    )
    add("--subset", choices=get_args(Subset), default="random", help="which patches to keep (default: random)")
    add("--search", choices=get_args(Search), default="exact", help="search for the nearest neighbour (default: exact)")
    add("--map", choices=Maps._fields, default="product", help="anomaly map to score (default: product)")


def _steps(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0")
    return int(text)


def _prepare(options: argparse.Namespace) -> Prepared:
    changes = {"batch": options.pairs, "lr": options.lr, "lambda_": options.lambda_}
    changes = {name: value for name, value in changes.items() if value is not None}
    settings = dataclasses.replace(PRESETS[options.preset], **changes)
    check_memory(options.keep, options.subset, options.search)
    progress = sys.stderr.isatty()

    def fresh() -> PatchSVDD:
        made = {"strides": options.strides, "kind": options.map, "seed": options.seed}
        if options.encoders is None:
            return PatchSVDD(**made).to(options.device)
        trained = PatchSVDD.load(options.encoders)
        detector = PatchSVDD(trained.dimensions, **made)
        detector.encoder, detector.mean, detector.history = trained.encoder, trained.mean, trained.history
        return detector.to(options.device)

    fresh()  # so that wrong options are known before any work

    def loader(data: Dataset) -> DataLoader:
        return DataLoader(data, options.batch, num_workers=options.workers)

    def fit(normal: Dataset, held_out: Dataset | None) -> PatchSVDD:
        detector = fresh()
        if options.encoders is None:
            detector.fit(loader(normal), settings, steps=options.steps, progress=progress)
        bank = {"keep": options.keep, "subset": options.subset, "search": options.search}
        detector.fill_memory_bank(loader(normal), progress=progress, **bank)
        if held_out is not None:
            detector.calibrate(loader(held_out), options.calibrate, progress=progress)
        return detector

    trained = f"{options.steps} steps of {settings.batch} pairs" if options.encoders is None else options.encoders
    return Prepared(
        preprocess=PatchSVDD.preprocess,
        fit=fit,
        published="Patch SVDD",
        description=f"{trained}, {options.map} map, patches {options.strides[0]} and {options.strides[1]} pixels apart",
    )


PATCH_SVDD = Method("Patch SVDD", "xailab.patch_svdd", _add_options, _prepare)

if __name__ == "__main__":
    raise SystemExit(run(PATCH_SVDD))
