"""Write the results of a detector's command, and print them beside published figures.

A category's report is a dictionary, as its results.json holds it.
"""

import csv
import io
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from xailab import storage, tables
from xailab.datasets.folders import GOOD, MVTecAD
from xailab.detection.checks import Category
from xailab.detection.drawing import drawn
from xailab.detection.literature import Published
from xailab.detection.measuring import FIGURES
from xailab.images import Preprocess, load

WRITTEN = (*FIGURES, "image_f1", "pixel_f1")
Reports = dict[str, dict]  # by the category's name


def previous_reports(output: Path, found: Iterable[Category], settings: dict, force: bool) -> Reports:
    """Read the reports of categories that are done, with these settings and pictures.

    Raises:
        ValueError: if there is something else where results would go.
    """
    root, reports = output.resolve(), {}
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
        reports[category.name] = report
    return reports


@contextmanager
def whole_folder(output: Path | None, name: str) -> Iterator[Path | None]:
    """Yield a folder that takes its place (an older one's, too) when all is written, and leaves nothing otherwise."""
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


def colour_scale(maps: Sequence[Float[Tensor, "h w"]], labels: np.ndarray) -> tuple[float, float]:
    """Return the scores without colour and with full colour, the same for all pictures of a category.

    They are the median of all pixels, and the median of the defective pictures' maxima: a glaring defect does not make
    the others pale. Where no picture is defective, it is the largest score.
    """
    maxima = np.array([float(heat.max()) for heat in maps])
    return float(np.median(np.stack(maps))), float(np.median(maxima[labels]) if labels.any() else maxima.max())


def write_category(
    folder: Path, report: dict, test: MVTecAD, maps: Sequence[Float[Tensor, "h w"]], preprocess: Preprocess, raw: bool
) -> None:
    """Write the maps and the scores of one category's test pictures.

    Args:
        folder: Folder of the category's results.
        report: Report of the category.
        test: Test pictures.
        maps: Anomaly map of each test picture.
        preprocess: Preprocessing of the pictures.
        raw: Whether to write the maps' values, too.
    """
    pictures = tqdm(test.pictures, desc="writing", leave=False, disable=None)
    for path, name, heat in zip(pictures, test.names, maps, strict=True):
        name = name.removeprefix("test/")
        target, values = folder / "maps" / f"{name}.png", folder / "raw" / f"{name}.npy"
        target.parent.mkdir(parents=True, exist_ok=True)
        painted = drawn(load(path), heat, preprocess, report["colours"], report["threshold"])
        target.write_bytes(cv2.imencode(".png", painted[..., ::-1])[1].tobytes())
        if raw:
            values.parent.mkdir(parents=True, exist_ok=True)
            np.save(values, heat.numpy(), allow_pickle=False)
    _write_scores(folder / "scores.csv", report["scores"], report["threshold"])


def _write_scores(path: Path, scores: Sequence[Sequence], threshold: float | None) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "defect", "score", *(["anomalous"] if threshold is not None else [])])
        for name, kind, score in scores:
            writer.writerow([name, kind, score, *([int(score > threshold)] if threshold is not None else [])])


def write_summary(output: Path, settings: dict, columns: Sequence[Published]) -> None:
    """Write results.json and results.csv of all categories that were done with these settings."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(output.glob("[!.]*/results.json"))]
    reports = {report["category"]: report for report in found if report["settings"] == settings}
    beside = _published_columns(reports, columns)
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


def table(reports: Reports, columns: Sequence[Published]) -> str:
    """Return the figures of all categories beside the published ones as a table, with notes."""
    beside = _published_columns(reports, columns)
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
    return "\n".join(["", *tables.lines(rows), *([""] if notes else []), *notes])


def _notes(name: str, report: dict) -> list[str]:
    """Explain why figures are missing, what the crop hides, and what the threshold does."""
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
        above: dict[bool, list[bool]] = {True: [], False: []}
        for _, kind, score in report["scores"]:
            above[kind == GOOD].append(score > report["threshold"])
        hits, alarms = (f"{sum(above[good])} of {len(above[good])}" for good in (False, True))
        notes.append(
            f"{name}: {hits} defective and {alarms} good pictures exceed the threshold {report['threshold']:.4g}"
        )
    return notes


def _published_columns(reports: Reports, columns: Sequence[Published]) -> list[Published]:
    """Return the published columns that have a figure of one of these categories."""
    return [column for column in columns if any(_value(report, column) is not None for report in reports.values())]


def _value(report: dict, column: Published) -> float | None:
    """Return the published figure of a report's category."""
    for each in report.get("published", ()):
        if (each["figure"], each["source"]) == (column.figure, column.source):
            return each["value"]
    return None


def _measured(report: dict, figure: str) -> float | None:
    return report["figures"] and report["figures"][figure]


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None
