"""``python data_download.py``: list what there is, get it, verify it."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from ...storage import data_root
from .entries import Entry, entries
from .fetching import PATIENCE, DownloadError, Patience
from .keeping import LicenceError, get, megabytes, present, room, room_needed, state, verify

FAILED, WRONG_USE, INTERRUPTED = 1, 2, 130  # exit codes, besides 0

DESCRIPTION = """\
Without arguments: list what there is, and what of it is here. With names: get it, or go on with what was interrupted.
Whole and verified, or not there: what is on its way is never taken for data."""
EXAMPLES = """\
  python data_download.py stl10 weights/resnet50
  python data_download.py mvtec-ad/hazelnut --accept-licence
  python data_download.py --lesson 08 --dry-run

Exit codes: 0 all is well; 1 something could not be got, or is damaged; 2 wrong use, or a licence to accept;
130 interrupted. A proxy is taken from https_proxy and http_proxy, its certificates from REQUESTS_CA_BUNDLE."""


def main(
    arguments: Sequence[str] | None = None,
    catalogue: Mapping[str, Entry] | None = None,
    patience: Patience = PATIENCE,
) -> int:
    """Run the command.

    Args:
        arguments: Of the command line; None takes the process's.
        catalogue: What there is; None takes `entries`.
        patience: When to give up.

    Returns:
        The exit code.
    """
    try:
        options = _parser().parse_args(arguments)
        catalogue = entries() if catalogue is None else catalogue
        chosen = _chosen(options, catalogue)
        if options.verify:
            named = bool(chosen)
            return _verify(chosen if named else present([*catalogue.values()], options.root), options.root, named=named)
        if not chosen:
            print(listing(list(catalogue.values()), options.root))
            return 0
        if options.dry_run:
            print("\n".join(_plan(entry, options.root) for entry in chosen))
            return 0
        return _get(chosen, options, patience)
    except ValueError as error:
        print(error, file=sys.stderr)
        return WRONG_USE
    except OSError as error:
        print(f"{error.filename}: {error.strerror}" if error.filename else error, file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("\nInterrupted. What has come is kept; the same command goes on from there.", file=sys.stderr)
        return INTERRUPTED


def listing(catalogue: Sequence[Entry], root: Path) -> str:
    """What there is and what of it is here, as a table."""
    rows = [("name", "lessons", "size", "licence", "source", "state")]
    for entry in catalogue:
        site = urlsplit(entry.files[0].urls[0]).hostname or ""
        row = (entry.name, " ".join(entry.lessons), _size(entry), entry.licence, site, state(entry, root).text)
        rows.append(row)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(
        [
            *lines,
            "",
            f"The data lies in {root} ({megabytes(room(root))} free); XAILAB_DATA or --root say otherwise.",
            "To get some of it, name it: python data_download.py stl10 weights/resnet18. More: --help",
        ]
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "data_download.py",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="what to get, as the list calls it")
    parser.add_argument("--all", action="store_true", help="everything")
    parser.add_argument("--lesson", action="append", default=[], metavar="NN", help="what a lesson uses, as in 08")
    where = "where the data lies (default: $XAILAB_DATA, or data)"
    parser.add_argument("--root", type=_folder, default=data_root(), metavar="FOLDER", help=where)
    parser.add_argument("--verify", action="store_true", help="read every file that is here again and compare it")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, without any network")
    parser.add_argument("--accept-licence", action="store_true", help="accept the terms of what is named")
    return parser


def _folder(text: str) -> Path:
    """A folder, with ``~`` for somebody's home."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise argparse.ArgumentTypeError(f"nobody's home is known as in {text}") from None


def _chosen(options: argparse.Namespace, catalogue: Mapping[str, Entry]) -> list[Entry]:
    """What the options name, each once.

    Raises:
        ValueError: if there is no such name or lesson.
    """
    chosen = dict.fromkeys(name.rstrip("/") for name in options.names)
    unknown = [name for name in chosen if name not in catalogue]
    if unknown:
        raise ValueError(f"there is no {', '.join(unknown)}; there are {', '.join(catalogue)}")
    for lesson in options.lesson:
        found = [each.name for each in catalogue.values() if each.small and lesson.zfill(2) in each.lessons]
        if not found:
            lessons = sorted({lesson for each in catalogue.values() for lesson in each.lessons})
            raise ValueError(f"nothing to download for lesson {lesson!r}: there is something for {', '.join(lessons)}")
        chosen |= dict.fromkeys(found)
    if options.all:
        chosen |= dict.fromkeys(catalogue)
    places = {name: set(catalogue[name].places) for name in chosen}
    parts = {name for name in chosen for other in chosen if places[name] < places[other]}
    return [catalogue[name] for name in chosen if name not in parts]


def _get(chosen: Sequence[Entry], options: argparse.Namespace, patience: Patience) -> int:
    """Get one after another; what fails does not stop the rest."""
    failed: dict[str, DownloadError] = {}
    for entry in chosen:
        try:
            brought = get(entry, options.root, accepted=options.accept_licence, patience=patience)
        except DownloadError as error:
            failed[entry.name] = error
            hint = f"\n  {entry.hint}" if entry.hint and not isinstance(error, LicenceError) else ""
            print(f"{entry.name}: {error}{hint}", file=sys.stderr)
        else:
            print(f"{entry.name}: {state(entry, options.root).text}{'' if brought else ' already'}")
    if not failed:
        return 0
    print(f"Not here: {', '.join(failed)}", file=sys.stderr)
    return WRONG_USE if all(isinstance(error, LicenceError) for error in failed.values()) else FAILED


def _verify(chosen: Sequence[Entry], root: Path, *, named: bool) -> int:
    """Read again what is here; what was named must be."""
    damaged = False
    for entry in chosen:
        try:
            problems = verify(entry, root)
        except FileNotFoundError as error:
            if not named:
                print(f"{entry.name}: {state(entry, root).text}")
                continue
            problems = [str(error)]
        except OSError as error:
            problems = [f"{error.filename}: {error.strerror}"]
        damaged |= bool(problems)
        shown = [f"  {problem}" for problem in problems[:10]]
        more = [f"  ... and {len(problems) - 10} more"] if len(problems) > 10 else []
        print("\n".join([f"{entry.name}: {'not well' if problems else 'verified'}", *shown, *more]))
    return FAILED if damaged else 0


def _plan(entry: Entry, root: Path) -> str:
    """What getting it would do."""
    now = state(entry, root)
    lines = [f"{entry.name}: {entry.title}", f"  state    {now.text}", f"  licence  {entry.licence}; {entry.page}"]
    if now.here:
        return "\n".join([*lines, "  nothing to do"])
    if entry.terms:
        lines.append(f"  terms    {entry.terms} (--accept-licence)")
    for file in entry.files:
        known = "SHA-256 known" if file.sha256 and len(file.sha256) == 64 else "beginning of SHA-256 known"
        known = known if file.sha256 else "MD5 known" if file.md5 else "hash recorded at the first download"
        lines += [f"  {'from' if i == 0 else 'or':7}  {url}" for i, url in enumerate(file.urls)]
        lines.append(f"           {known}")
    lines.append(f"  to       {', '.join(str(root / place) for place in entry.places[:3])}{_more(entry.places)}")
    needed = megabytes(max(0, room_needed(entry, root)))
    lines.append(f"  size     {_size(entry)}; on the way about {needed} of {megabytes(room(root))} free")
    return "\n".join(lines)


def _more(places: Sequence[str]) -> str:
    return f" and {len(places) - 3} more" if len(places) > 3 else ""


def _size(entry: Entry) -> str:
    if entry.size is None:
        return "unknown"
    return megabytes(entry.size) if entry.exact else f"about {megabytes(entry.size)}"
