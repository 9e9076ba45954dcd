"""The command of a detector, as ``python -m xailab.padim DATA``.

It looks at all the data first, then fits, scores and writes one category after the other, each of them whole or not at
all. ``run`` is the same for every method; a method brings along a `Method`.
"""

import argparse
import csv
import dataclasses
import hashlib
import io
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils.data import Dataset, Subset
from tqdm import tqdm

from xailab import storage
from xailab.datasets.folders import GOOD, MVTecAD, categories
from xailab.detection.drawing import drawn, window
from xailab.detection.literature import Published, published
from xailab.detection.measuring import FIGURES, Detector, evaluate
from xailab.images import Preprocess, load
from xailab.metrics import min_calibration_size

HELD_OUT = 5  # one normal picture in so many sets the threshold and is not fitted
WRITTEN = (*FIGURES, "image_f1", "pixel_f1")
OK, BAD, INTERRUPTED = 0, 2, 130  # exit codes


class Prepared(NamedTuple):
    """A method with its options filled in.

    Attributes:
        preprocess: How it wants its pictures; the options --size and --crop change that.
        fit: Makes a detector of normal pictures. Others, which are None without --calibrate, set its ``threshold``.
        published: The variant that others' figures are of (see ``published``), None where there are none.
        description: What it is, for the reader of the output.
    """

    preprocess: Preprocess
    fit: Callable[[Dataset, Dataset | None], Detector]
    published: str | None
    description: str


class Method(NamedTuple):
    """What a method brings along to its command.

    Attributes:
        name: As in ``published``.
        module: As in ``python -m module``.
        add_options: Adds its own options to the parser.
        prepare: Loads what it needs, once; raises ValueError or FileNotFoundError where the options are wrong.
    """

    name: str
    module: str
    add_options: Callable[[argparse.ArgumentParser], None]
    prepare: Callable[[argparse.Namespace], Prepared]


NOT_SETTINGS = ("data", "category", "output", "force", "look", "batch", "workers", "device")


def run(method: Method, arguments: Sequence[str] | None = None) -> int:
    """The command of a method.

    Args:
        method: What is run.
        arguments: As from the command line, which is what None takes.

    Returns:
        The exit code: 0, 2 where the options or the data are wrong, 130 where it was interrupted.
    """
    parser = _parser(method)
    done: list[str] = []
    try:
        options = parser.parse_args(arguments)
        _run(method, options, done)
    except SystemExit as left:  # of argparse
        return int(left.code or 0)
    except (ValueError, OSError) as error:
        print(f"\n{parser.prog}: {error}", file=sys.stderr)
        return BAD
    except KeyboardInterrupt:
        kept = f"{', '.join(done)} done" if done else "no category was done"
        again = "; the same command goes on from there" if options.output and done else ""
        print(f"\n{parser.prog}: interrupted, {kept}{again}", file=sys.stderr)
        return INTERRUPTED
    return OK


def _parser(method: Method) -> argparse.ArgumentParser:
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
    add(
        "--calibrate",
        type=_rate,
        metavar="RATE",
        help="set a threshold that this share of normal pictures may exceed, as 0.05",
    )
    add("--raw", action="store_true", help="write the maps' values too (.npy, as large as the network saw the picture)")
    add("--seed", type=int, default=0, help="of every random choice (default: 0)")
    add("--batch", type=_positive, default=16, metavar="N", help="pictures at a time (default: 16)")
    add("--workers", type=int, default=0, metavar="N", help="processes that read pictures for the fit (default: 0)")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda (default: %(default)s)")
    add("--look", action="store_true", help="only look at the data")
    add("--force", action="store_true", help="do again what is done, and replace results of other settings")
    method.add_options(parser)
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 1")
    return int(text)


def _rate(text: str) -> float:
    with suppress(ValueError):
        if 0 < float(text) < 1:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text} is not a share between 0 and 1, as 0.05")


def _run(method: Method, options: argparse.Namespace, done: list[str]) -> None:
    if not _is_there(options.device):
        raise ValueError(f"--device {options.device}: there is none in this machine, or torch was built without it")
    names = categories(options.data)
    prepared = method.prepare(options)
    preprocess = _resized(prepared.preprocess, options.size, options.crop)
    found = _look(options, options.category or names, preprocess)
    print(f"{method.name}: {prepared.description}\n\n{_looked(found, preprocess)}\n", flush=True)
    if options.look:
        return
    settings = {"method": method.name, **{k: v for k, v in vars(options).items() if k not in NOT_SETTINGS}}
    settings |= {"size": preprocess.resize, "crop": preprocess.crop}
    output = None if options.output is None else Path(options.output).expanduser()
    old = {} if output is None else _what_is_there(output, found, settings, options.force)
    columns = published(method.name, prepared.published) if prepared.published else ()
    reports: dict[str, dict] = {}
    try:
        for category in found:
            print(f"{category.name}{': done before' if category.name in old else ''}", file=sys.stderr)
            if category.name in old:
                reports[category.name] = old[category.name]
            else:
                with _whole_folder(output, category.name) as folder:
                    report = _one(prepared, category, options, settings, columns, folder)
                reports[category.name] = report
            done.append(category.name)
    finally:
        if reports:
            print(_table(reports, columns))
        if reports and output is not None:
            _write_summary(output, settings, columns)
            print(f"\nin {output}: results.json, results.csv, and a folder for each category")


def _is_there(device: str) -> bool:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        return False
    return True


def _resized(preprocess: Preprocess, size: int | None, crop: int | None) -> Preprocess:
    if size is None:
        return preprocess if crop is None else dataclasses.replace(preprocess, crop=crop)
    if crop is not None and crop > size:
        raise ValueError(f"--crop {crop} is larger than --size {size}")
    return dataclasses.replace(preprocess, resize=size, crop=crop)


class _Category(NamedTuple):
    """The pictures of a category that was looked at; test is None where there are only normal ones."""

    name: str
    train: MVTecAD
    test: MVTecAD | None

    def is_of_mvtec(self) -> bool:
        """Whether it is one of MVTec AD's own, by the texts beside the pictures."""
        texts = [self.train.folder / name for name in ("readme.txt", "license.txt")]
        return any(text.is_file() and "mvtec" in text.read_text(errors="ignore").lower() for text in texts)

    def fingerprint(self) -> str:
        """Of the files' names and sizes."""
        paths = [path for data in (self.train, self.test) if data for path in (*data.pictures, *data.masks) if path]
        files = [f"{path.relative_to(self.train.folder).as_posix()} {path.stat().st_size}" for path in paths]
        return hashlib.sha256("\n".join(files).encode()).hexdigest()


def _look(options: argparse.Namespace, names: Sequence[str], preprocess: Preprocess) -> list[_Category]:
    """Open all categories.

    Raises:
        ValueError, FileNotFoundError: with the problems of all of them.
    """
    found, problems = [], []
    for name in tqdm(dict.fromkeys(names), desc="looking", leave=False, disable=None):
        try:
            train = MVTecAD(options.data, name, "train", preprocess=preprocess)
            tested = (train.folder / "test").is_dir()
            test = MVTecAD(options.data, name, "test", preprocess=preprocess) if tested else None
            if len(train) < 2:
                raise ValueError(f"{train.folder}: one normal picture is too few to learn from, expected 2 or more")
            _check_frames(train, test, preprocess)
            _check_calibration(train, options.calibrate)
            found.append(_Category(train.category, train, test))
        except (ValueError, FileNotFoundError) as error:
            problems.append(error)
    if problems:
        raise ValueError("\n".join(str(problem) for problem in problems))
    return found


def _check_frames(train: MVTecAD, test: MVTecAD | None, preprocess: Preprocess) -> None:
    """A detector has one grid: all pictures of a category must be of one size once they are preprocessed."""
    sizes = dict.fromkeys((*train.sizes, *(test.sizes if test else ())))
    frames = {preprocess.frame(np.zeros((*size, 3), np.uint8)).shape[:2]: size for size in sizes}
    if len(frames) > 1:
        listed = ", ".join(f"{h} x {w} (from {a} x {b})" for (h, w), (a, b) in list(frames.items())[:4])
        raise ValueError(
            f"{train.folder}: the network would see pictures of {len(frames)} sizes: {listed}; give --size and --crop"
        )


def _looked(found: list[_Category], preprocess: Preprocess) -> str:
    """What there is, as a table."""
    rows = [["category", "normal", "good", "defective", "masks", "pixels", "seen", "defects"]]
    for name, train, test in found:
        sizes = {*train.sizes, *(test.sizes if test else ())}
        height, width = train.sizes[0]
        seen = np.prod(window((height, width), preprocess)[2:]) / (height * width)
        masks = "-" if test is None or not test.defects else "yes" if test.has_masks else "none"
        tests = ["-", "-"] if test is None else [(~test.labels).sum(), test.labels.sum()]
        pixels = f"{height} x {width}" + (f" and {len(sizes) - 1} more" if len(sizes) > 1 else "")
        defects = ", ".join(test.defects) if test else ""
        rows.append([name, len(train), *tests, masks, pixels, f"{seen:.0%}", defects])
    return _aligned(rows, left=(0, 7)) + "\n\ngood, defective: test pictures; seen: what the crop leaves of a picture"


def _aligned(rows: list[list], left: Sequence[int] = (0,)) -> str:
    """Rows of text; some columns flush left, the others flush right."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for row in cells:
        padded = (
            cell.ljust(w) if i in left else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def _what_is_there(output: Path, found: list[_Category], settings: dict, force: bool) -> dict[str, dict]:
    """The reports of categories that are done, with these settings and pictures.

    Raises:
        ValueError: if there is something else where results would go.
    """
    root, there = output.resolve(), {}
    for category in found:
        data, folder = category.train.folder.resolve(), output / category.name
        if root == data or data in root.parents or folder.resolve() == data or data.parent == root:
            raise ValueError(f"--output {output} lies in the data, or the data in it: choose a folder beside it")
        if not folder.exists():
            continue
        try:
            report = json.loads((folder / "results.json").read_text(encoding="utf-8"))
            before = report["settings"]
        except (OSError, ValueError, KeyError, TypeError):
            raise ValueError(f"{folder} is there and not from this command: choose another --output") from None
        if force:
            continue
        if before != settings:
            keys = sorted(key for key in {*before, *settings} if before.get(key) != settings.get(key))
            changes = ", ".join(f"{key} was {before.get(key)} and is {settings.get(key)}" for key in keys)
            raise ValueError(
                f"{folder} holds results of other settings ({changes}): choose another --output, or --force"
            )
        if report["fingerprint"] != category.fingerprint():
            raise ValueError(f"{folder} holds results of other pictures: choose another --output, or --force")
        there[category.name] = report
    return there


@contextmanager
def _whole_folder(output: Path | None, name: str) -> Iterator[Path | None]:
    """A folder that takes its place (an older one's, too) when all is written, and leaves nothing otherwise."""
    if output is None:
        yield None
        return
    target, partial, older = output / name, output / f".{name}.partial", output / f".{name}.older"
    shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
    partial.mkdir(parents=True)
    try:
        yield partial
        if target.exists():
            os.replace(target, older)
        os.replace(partial, target)
    finally:
        if older.exists() and not target.exists():
            os.replace(older, target)
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(older, ignore_errors=True)


def _one(
    prepared: Prepared,
    category: _Category,
    options: argparse.Namespace,
    settings: dict,
    columns: Sequence[Published],
    folder: Path | None,
) -> dict:
    """Fit, score and write one category; returns its report."""
    name, train, test = category
    scoring = {"batch": options.batch, "device": options.device, "progress": sys.stderr.isatty()}
    start = time.perf_counter()
    learnt, held = (train, None) if options.calibrate is None else _split(train, options.seed)
    detector = prepared.fit(learnt, held)
    threshold = None if held is None else detector.threshold
    fitted = time.perf_counter()
    report = {
        "category": name,
        "settings": settings,
        "fingerprint": category.fingerprint(),
        "normal": len(learnt),
        "threshold": threshold,
        "figures": None,
    }
    if test is not None:
        maps: list[Float[Tensor, "h w"]] = []
        results = evaluate(detector, test, **scoring, each=lambda _, found: maps.extend(found))
        report["figures"] = {figure: getattr(results, figure) for figure in WRITTEN}
        report |= {key: getattr(results, key) for key in ("defects", "reasons", "unseen")}
        report["colours"] = _scale(maps, test.labels)
        report["scores"] = list(zip(results.names, results.kinds, results.scores, strict=True))
    report["seconds"] = {"fit": round(fitted - start, 2), "score": round(time.perf_counter() - fitted, 2)}
    if category.is_of_mvtec():
        report["published"] = [
            {"figure": each.figure, "of": each.name, "source": each.source, "value": each.categories[name]}
            for each in columns
            if name in each.categories
        ]
    if folder is not None:
        if hasattr(detector, "save"):
            detector.save(folder / "detector.safetensors")
        if test is not None:
            _write_maps(folder, test, maps, report["colours"], threshold, options.raw)
            _write_scores(folder / "scores.csv", report["scores"], threshold)
        (folder / "results.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return report


def _split(train: MVTecAD, seed: int) -> tuple[Subset, Subset]:
    """Normal pictures to fit, and others for the threshold: those that were fitted, and copies, lie too close."""
    order = np.random.default_rng(seed).permutation(len(train)).tolist()
    order.sort(key=_copies(train).__contains__)  # stable: copies come last, and are fitted
    held = len(train) // HELD_OUT
    return Subset(train, sorted(order[held:])), Subset(train, sorted(order[:held]))


def _copies(train: MVTecAD) -> set[int]:
    """The pictures whose file is equal to another's."""
    digests = [hashlib.sha256(path.read_bytes()).digest() for path in train.pictures]
    return {i for i, digest in enumerate(digests) if digests.count(digest) > 1}


def _check_calibration(train: MVTecAD, rate: float | None) -> None:
    if rate is not None and len(train) - (copied := len(_copies(train))) < (held := len(train) // HELD_OUT):
        raise ValueError(
            f"{train.folder}: --calibrate keeps {held} normal pictures for the threshold, and only "
            f"{len(train) - copied} of {len(train)} have no copy among the others: remove the copies"
        )
    if rate is not None and (held := len(train) // HELD_OUT) < (needed := min_calibration_size(rate)):
        raise ValueError(
            f"{train.folder}: --calibrate {rate:g} takes {needed} normal pictures that are not fitted; one in "
            f"{HELD_OUT} is kept for it, {held} of {len(train)}: give a larger share of false alarms, or more pictures"
        )


def _scale(maps: Sequence[Float[Tensor, "h w"]], labels: Bool[np.ndarray, "n"]) -> tuple[float, float]:
    """Scores without colour and with full colour, the same for all pictures of a category.

    They are the median of all pixels, and the median of the defective pictures' maxima: a glaring defect does not make
    the others pale. Where no picture is defective, it is the largest score.
    """
    maxima = np.array([float(map.max()) for map in maps])
    return float(np.median(np.stack(maps))), float(np.median(maxima[labels]) if labels.any() else maxima.max())


def _write_maps(
    folder: Path,
    test: MVTecAD,
    maps: Sequence[Float[Tensor, "h w"]],
    scale: tuple[float, float],
    threshold: float | None,
    raw: bool,
) -> None:
    pictures = tqdm(test.pictures, desc="writing", leave=False, disable=None)
    for path, name, map in zip(pictures, test.names, maps, strict=True):
        name = name.removeprefix("test/")
        target, values = folder / "maps" / f"{name}.png", folder / "raw" / f"{name}.npy"
        target.parent.mkdir(parents=True, exist_ok=True)
        painted = drawn(load(path), map, test.preprocess, scale, threshold)
        target.write_bytes(cv2.imencode(".png", painted[..., ::-1])[1].tobytes())
        if raw:
            values.parent.mkdir(parents=True, exist_ok=True)
            np.save(values, map.numpy(), allow_pickle=False)


def _write_scores(path: Path, scores: Sequence[Sequence], threshold: float | None) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "defect", "score", *(["anomalous"] if threshold is not None else [])])
        for name, kind, score in scores:
            writer.writerow([name, kind, score, *([int(score > threshold)] if threshold is not None else [])])


def _write_summary(output: Path, settings: dict, columns: Sequence[Published]) -> None:
    """results.json and results.csv of all categories that were done with these settings, each written whole."""
    reports = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(output.glob("[!.]*/results.json"))]
    reports = {report["category"]: report for report in reports if report["settings"] == settings}
    beside = _shown(reports, columns)
    summary = {
        "settings": settings,
        "measured": {name: report["figures"] for name, report in reports.items()},
        "mean": {figure: _mean([_measured(each, figure) for each in reports.values()]) for figure in WRITTEN},
        "published": [each._asdict() for each in beside],
    }
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["category", *WRITTEN, *(f"published {c.figure} ({c.name}, {c.source})" for c in beside)])
    for name, report in reports.items():
        measured = [_measured(report, figure) for figure in WRITTEN]
        writer.writerow([name, *measured, *(_value(report, column) for column in beside)])
    for name, content in (("results.json", json.dumps(summary, indent=1) + "\n"), ("results.csv", text.getvalue())):
        with storage.atomic(output / name) as part:
            part.write_text(content, encoding="utf-8", newline="")


def _shown(reports: dict[str, dict], columns: Sequence[Published]) -> list[Published]:
    """The published columns that have a figure of one of these categories."""
    return [column for column in columns if any(_value(report, column) is not None for report in reports.values())]


def _value(report: dict, column: Published) -> float | None:
    """A published figure of a report's category."""
    for each in report.get("published", ()):
        if (each["figure"], each["source"]) == (column.figure, column.source):
            return each["value"]
    return None


def _measured(report: dict, figure: str) -> float | None:
    return report["figures"] and report["figures"][figure]


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None


def _table(reports: dict[str, dict], columns: Sequence[Published]) -> str:
    """The figures of all categories beside the published ones, and what there is to say about them."""
    beside = _shown(reports, columns)
    sources = list(dict.fromkeys(column.source for column in beside))
    values = {
        name: [_measured(report, figure) for figure in FIGURES] + [_value(report, column) for column in beside]
        for name, report in reports.items()
    }
    if len(values) > 1:
        values["mean"] = [_mean(column) for column in zip(*values.values(), strict=True)]
    rows = [[name, *("-" if value is None else f"{value:.3f}" for value in row)] for name, row in values.items()]
    marked = [f"{FIGURES[column.figure]} [{sources.index(column.source) + 1}]" for column in beside]
    rows.insert(0, ["", *FIGURES.values(), *marked])
    notes = [
        f"[{i}] published, not measured here: {beside[0].name} on all of MVTec AD; {source}"
        for i, source in enumerate(sources, 1)
    ]
    notes += [note for name, report in reports.items() for note in _notes(name, report)]
    return "\n".join(["", _aligned(rows), *([""] if notes else []), *notes])


def _notes(name: str, report: dict) -> list[str]:
    """Why figures are missing, what the crop hides, what the threshold does."""
    if report["figures"] is None:
        return [f"{name}: no test pictures, nothing to measure"]
    reasons: dict[str, list[str]] = {}
    for figure, reason in report["reasons"].items():
        if figure in FIGURES:
            reasons.setdefault(reason, []).append(FIGURES[figure])
    notes = [f"{name}: no {', '.join(figures)}: {reason}" for reason, figures in reasons.items()]
    if report["unseen"]:
        notes.append(f"{name}: {len(report['unseen'])} defective pictures show no defect in the part that is seen")
    if report["threshold"] is not None:
        above = {True: [], False: []}
        for _, kind, score in report["scores"]:
            above[kind == GOOD].append(score > report["threshold"])
        hits, alarms = (f"{sum(above[good])} of {len(above[good])}" for good in (False, True))
        notes.append(
            f"{name}: {hits} defective and {alarms} good pictures exceed the threshold {report['threshold']:.4g}"
        )
    return notes
