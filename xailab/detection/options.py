"""Parse the options of a detector's command."""

import argparse
import dataclasses
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import torch
from torch.utils.data import Dataset

from xailab.detection.base import ThresholdedDetector
from xailab.images import Preprocess

NOT_SETTINGS = ("data", "category", "output", "force", "look", "batch", "workers", "device")  # change no result


class Prepared(NamedTuple):
    """Hold a method with its options filled in.

    Attributes:
        preprocess: Preprocessing of its pictures; the options --size and --crop change it.
        fit: Function that makes a detector of normal pictures. A second set of them, which is None without
            --calibrate, sets its ``threshold``.
        published: Variant whose published figures stand beside (see ``published``); None where there are none.
        description: Description for the reader of the output.
    """

    preprocess: Preprocess
    fit: Callable[[Dataset, Dataset | None], ThresholdedDetector]
    published: str | None
    description: str


class Method(NamedTuple):
    """Hold those parts of a command that are the method's own.

    Attributes:
        name: Name as in ``published``.
        module: Name as in ``python -m module``.
        add_options: Function that adds the method's options to the parser.
        prepare: Function that loads what the method needs, once; it raises ValueError or FileNotFoundError where the
            options are wrong.
    """

    name: str
    module: str
    add_options: Callable[[argparse.ArgumentParser], None]
    prepare: Callable[[argparse.Namespace], Prepared]


def parser_of(method: Method) -> argparse.ArgumentParser:
    """Make the parser of a method's command."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {method.module}",
        description=f"Fit {method.name} to the normal pictures of each category, score the test pictures, measure.",
    )
    add = parser.add_argument
    add("data", help="folder of categories in the layout of MVTec AD, or one category, or a folder of normal pictures")
    add("--category", nargs="+", metavar="NAME", help="only these (default: all)")
    add("--output", metavar="DIR", help="write maps, scores, figures and detectors there (default: only print figures)")
    add("--size", type=_positive, metavar="N", help="shorter side in pixels, nothing cropped (default: the network's)")
    add("--crop", type=_positive, metavar="N", help="side of the centre crop in pixels, after --size")
    share = "set a threshold that this share of normal pictures may exceed, as 0.05"
    add("--calibrate", type=_rate, metavar="RATE", help=share)
    add("--raw", action="store_true", help="write the maps' values too (.npy, as large as the network saw the picture)")
    add("--seed", type=int, default=0, help="seed for every random choice (default: 0)")
    add("--batch", type=_positive, default=16, metavar="N", help="pictures at a time (default: 16)")
    add("--workers", type=int, default=0, metavar="N", help="processes that read pictures for the fit (default: 0)")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda (default: %(default)s)")
    add("--look", action="store_true", help="only look at the data")
    add("--force", action="store_true", help="do again what is done, and replace results of other settings")
    method.add_options(parser)
    return parser


def settings_of(method: Method, options: argparse.Namespace, preprocess: Preprocess) -> dict:
    """Return the options that change results, by name."""
    settings = {"method": method.name, **{k: v for k, v in vars(options).items() if k not in NOT_SETTINGS}}
    return settings | {"size": preprocess.resize, "crop": preprocess.crop}


def resized(preprocess: Preprocess, size: int | None, crop: int | None) -> Preprocess:
    """Change the preprocessing as --size and --crop say.

    Raises:
        ValueError: if the crop is larger than the size.
    """
    if size is None:
        return preprocess if crop is None else dataclasses.replace(preprocess, crop=crop)
    if crop is not None and crop > size:
        raise ValueError(f"--crop {crop} is larger than --size {size}")
    return dataclasses.replace(preprocess, resize=size, crop=crop)


def check_device(device: str) -> None:
    """Check that this machine has a device.

    Raises:
        ValueError: if it has not.
    """
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        raise ValueError(f"--device {device}: there is none in this machine, or torch was built without it") from None


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 1")
    return int(text)


def _rate(text: str) -> float:
    with suppress(ValueError):
        if 0 < float(text) < 1:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text} is not a share between 0 and 1, as 0.05")
