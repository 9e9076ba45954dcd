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
from xailab.patch_svdd.training import COURSE, PAPER

PRESETS = {"course": COURSE, "paper": PAPER}


def _add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("Patch SVDD").add_argument
    add("--steps", type=_steps, default=200, metavar="N", help="of the training (default: 200)")
    add(
        "--preset",
        choices=PRESETS,
        default="course",
        help="whose pairs, learning rate and lambda to take (default: course)",
    )
    add("--pairs", type=int, metavar="N", help="of patches a step, for each of the losses (default: the preset's)")
    add("--rate", type=float, help="learning rate of Adam (default: the preset's)")
    add("--lambda", type=float, dest="lambda_", metavar="L", help="weight of the pull (default: the preset's)")
    add("--encoders", metavar="FILE", help="take those of a detector that was written before, and do not train")
    apart = {"nargs": 2, "type": int, "default": list(STRIDES), "metavar": "N"}
    add("--strides", **apart, help="from one patch to the next, small and large (default: 4 16)")
    add(
        "--keep",
        type=float,
        default=1.0,
        metavar="SHARE",
        help="of the normal patches in the memory banks (default: 1)",
    )
    add("--subset", choices=get_args(Subset), default="random", help="which of them (default: random)")
    add("--search", choices=get_args(Search), default="exact", help="for the nearest (default: exact)")
    add("--map", choices=Maps._fields, default="product", help="that is scored (default: product)")


def _steps(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0")
    return int(text)


def _prepare(options: argparse.Namespace) -> Prepared:
    changes = {"batch": options.pairs, "lr": options.rate, "lambda_": options.lambda_}
    changes = {name: value for name, value in changes.items() if value is not None}
    settings = dataclasses.replace(PRESETS[options.preset], **changes)
    memory = {"keep": options.keep, "subset": options.subset, "search": options.search}
    check_memory(**memory)
    made = {"strides": options.strides, "kind": options.map, "seed": options.seed}
    shown = {"progress": sys.stderr.isatty()}

    def fresh() -> PatchSVDD:
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
            detector.fit(loader(normal), settings, steps=options.steps, **shown)
        detector.fill_memory_bank(loader(normal), **memory, **shown)
        if held_out is not None:
            detector.calibrate(loader(held_out), options.calibrate, **shown)
        return detector

    learned = f"{options.steps} steps of {settings.batch} pairs" if options.encoders is None else options.encoders
    return Prepared(
        preprocess=PatchSVDD.preprocess,
        fit=fit,
        published="Patch SVDD",
        description=f"{learned}, {options.map} map, patches {options.strides[0]} and {options.strides[1]} pixels apart",
    )


PATCH_SVDD = Method("Patch SVDD", "xailab.patch_svdd", _add_options, _prepare)

if __name__ == "__main__":
    raise SystemExit(run(PATCH_SVDD))
