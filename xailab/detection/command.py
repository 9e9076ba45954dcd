"""Run a detector from the command line, as ``python -m xailab.padim DATA``.

The command looks at all the data first, then fits, scores and writes one category after the other, each of them whole
or not at all. ``run`` is the same for every method; a `Method` has what is the method's own.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from xailab.datasets.folders import MVTecAD, categories
from xailab.detection import report as reporting
from xailab.detection.checks import Category, describe, scan, split
from xailab.detection.literature import Published, published
from xailab.detection.measuring import Detector, evaluate
from xailab.detection.options import Method, Prepared, check_device, parser_of, resized, settings_of
from xailab.images import Preprocess

OK, BAD, INTERRUPTED = 0, 2, 130  # exit codes


def run(method: Method, arguments: Sequence[str] | None = None) -> int:
    """Run the command of a method.

    Args:
        method: Method to run.
        arguments: Arguments of the command line; None takes those of this process.

    Returns:
        The exit code: 0, 2 where the options or the data are wrong, 130 where it was interrupted.
    """
    parser = parser_of(method)
    try:
        options = parser.parse_args(arguments)
    except SystemExit as left:
        return int(left.code or 0)
    done: list[str] = []
    try:
        _run(method, options, done)
    except (ValueError, OSError) as error:
        print(f"\n{parser.prog}: {error}", file=sys.stderr)
        return BAD
    except KeyboardInterrupt:
        kept = f"{', '.join(done)} done" if done else "no category was done"
        again = "; the same command goes on from there" if options.output and done else ""
        print(f"\n{parser.prog}: interrupted, {kept}{again}", file=sys.stderr)
        return INTERRUPTED
    return OK


@dataclass(frozen=True)
class _Run:
    """What all categories of one run share."""

    prepared: Prepared
    preprocess: Preprocess
    options: argparse.Namespace
    settings: dict
    columns: Sequence[Published]
    output: Path | None


def _run(method: Method, options: argparse.Namespace, done: list[str]) -> None:
    """Run the command with its options, and add each category to ``done`` when it is."""
    check_device(options.device)
    names = categories(options.data)
    prepared = method.prepare(options)
    preprocess = resized(prepared.preprocess, options.size, options.crop)
    found = scan(options.data, options.category or names, preprocess, options.calibrate)
    print(f"{method.name}: {prepared.description}\n\n{describe(found, preprocess)}\n", flush=True)
    if options.look:
        return
    settings = settings_of(method, options, preprocess)
    output = None if options.output is None else Path(options.output).expanduser()
    columns = published(method.name, prepared.published) if prepared.published else ()
    previous = {} if output is None else reporting.previous_reports(output, found, settings, options.force)
    _run_categories(_Run(prepared, preprocess, options, settings, columns, output), found, previous, done)


def _run_categories(shared: _Run, found: Sequence[Category], previous: reporting.Reports, done: list[str]) -> None:
    """Run all categories that are not done yet, and print and write the figures, also after an error."""
    reports: reporting.Reports = {}
    try:
        for category in found:
            name = category.name
            print(f"{name}{': done before' if name in previous else ''}", file=sys.stderr)
            reports[name] = previous[name] if name in previous else _run_category(shared, category)
            done.append(name)
    finally:
        if reports:
            print(reporting.table(reports, shared.columns))
        if reports and shared.output is not None:
            reporting.write_summary(shared.output, shared.settings, shared.columns)
            print(f"\nin {shared.output}: results.json, results.csv, and a folder for each category")


def _run_category(shared: _Run, category: Category) -> dict:
    """Fit, score and write one category, and return its report."""
    name, train, test = category
    start = time.perf_counter()
    with reporting.whole_folder(shared.output, name) as folder:
        fitted, held_out = train, None
        if shared.options.calibrate is not None:
            fitted, held_out = split(train, shared.options.seed)
        detector = shared.prepared.fit(fitted, held_out)
        seconds = {"fit": round(time.perf_counter() - start, 2)}
        report = {
            "category": name,
            "settings": shared.settings,
            "fingerprint": category.fingerprint(),
            "normal": len(fitted),
            "threshold": None if held_out is None else detector.threshold,
            "figures": None,
        }
        maps = []
        if test is not None:
            start = time.perf_counter()
            found, maps = _score(detector, test, shared.options)
            report |= found
            seconds["score"] = round(time.perf_counter() - start, 2)
        report["seconds"] = seconds
        if category.is_of_mvtec():
            report["published"] = [
                {"figure": each.figure, "of": each.name, "source": each.source, "value": each.categories[name]}
                for each in shared.columns
                if name in each.categories
            ]
        if folder is not None:
            detector.save(folder / "detector.safetensors")
            if test is not None:
                reporting.write_category(folder, report, test, maps, shared.preprocess, shared.options.raw)
            (folder / "results.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return report


def _score(detector: Detector, test: MVTecAD, options: argparse.Namespace) -> tuple[dict, list[Float[Tensor, "h w"]]]:
    """Measure a detector on the test pictures; returns the report's part of it, and the maps."""
    maps: list[Float[Tensor, "h w"]] = []
    results = evaluate(
        detector,
        test,
        batch=options.batch,
        device=options.device,
        progress=sys.stderr.isatty(),
        each=lambda _, found: maps.extend(found),
    )
    report = {key: getattr(results, key) for key in ("defects", "reasons", "unseen")}
    report["figures"] = {figure: getattr(results, figure) for figure in reporting.WRITTEN}
    report["colours"] = reporting.colour_scale(maps, test.labels)
    report["scores"] = list(zip(results.names, results.kinds, results.scores, strict=True))
    return report, maps
