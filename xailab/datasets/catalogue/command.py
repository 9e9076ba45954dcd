"""``python data_download.py``: list what there is, get it, verify it."""

import os
import shutil
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from xailab import tables
from xailab.datasets.catalogue.download import DownloadError
from xailab.datasets.catalogue.registry import Entry, entries, without_parts
from xailab.datasets.catalogue.store import DAMAGED, HERE, NOT_HERE, LicenceError, get, megabytes, state, verify
from xailab.storage import data_root

FAILED, WRONG_USE, INTERRUPTED = 1, 2, 130  # exit codes, besides 0
DESCRIPTION = """\
Without arguments: list what there is, and what of it is here. With names: get it, or go on with what was interrupted.
Whole and verified, or not there: what is on its way is never taken for data."""
EXAMPLES = """\
  python data_download.py stl10 weights/resnet50
  python data_download.py mvtec-ad/hazelnut --accept-licence

Exit codes: 0 all is well; 1 something could not be got, or is damaged; 2 wrong use, or a licence to accept;
130 interrupted. A proxy is taken from https_proxy and http_proxy, its certificates from REQUESTS_CA_BUNDLE."""


def main(arguments: Sequence[str] | None = None, elsewhere: Callable[[Entry, Path], bool] | None = None) -> int:
    """Run the command and return its exit code; ``elsewhere`` tells what can be used though it was not got here."""
    try:
        options = _parser().parse_args(arguments)
        root, chosen = data_root(options.root), _chosen(options)
        with suppress(FileNotFoundError, NotADirectoryError):
            os.stat(f"{root}/.")  # a folder that cannot be looked into is not an empty one
        if options.verify:
            here = [each for each in entries().values() if state(each, root).startswith((HERE, DAMAGED))]
            return _verify(chosen or without_parts(here), root)
        if chosen and not options.dry_run:
            return _get(chosen, root, options.accept_licence)
        print("\n".join(_plan(entry, root) for entry in chosen) if chosen else listing(root, elsewhere))
        return 0
    except ValueError as error:
        print(error, file=sys.stderr)
        return WRONG_USE
    except OSError as error:
        print(f"{error.filename}: {error.strerror}" if error.filename else error, file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("\nInterrupted. What has come is kept; the same command goes on from there.", file=sys.stderr)
        return INTERRUPTED


def listing(root: Path, elsewhere: Callable[[Entry, Path], bool] | None = None) -> str:
    """What there is and what of it is here, as a table."""
    rows: list[tuple[str, ...]] = [("name", "lessons", "size", "licence", "source", "state")]
    for entry in entries().values():
        text = state(entry, root)
        if text == NOT_HERE and elsewhere and elsewhere(entry, root):
            text = "here, not verified"
        site = urlsplit(entry.files[0].urls[0]).hostname or ""
        rows.append((entry.name, " ".join(entry.lessons), _size(entry), entry.licence, site, text))
    lines = tables.lines(rows, range(len(rows[0])), rule=True)
    free = shutil.disk_usage(next(each for each in (root, *root.absolute().parents) if each.is_dir())).free
    lines += ["", f"The data lies in {root} ({megabytes(free)} free); XAILAB_DATA or --root say otherwise."]
    lines += ["To get some of it, name it: python data_download.py stl10 weights/resnet18. More: --help"]
    return "\n".join(lines)


def _parser() -> ArgumentParser:
    parser = ArgumentParser("data_download.py", description=DESCRIPTION, epilog=EXAMPLES)
    parser.formatter_class = RawDescriptionHelpFormatter
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="what to get, as the list calls it")
    add("--all", action="store_true", help="everything")
    add("--lesson", action="append", default=[], metavar="NN", help="what a lesson uses, as in 08")
    add("--root", metavar="FOLDER", help="where the data lies (default: $XAILAB_DATA, or data)")
    add("--verify", action="store_true", help="read every file that is here again and compare it")
    add("--dry-run", action="store_true", help="say what would be done, without any network")
    add("--accept-licence", action="store_true", help="accept the terms of what is named")
    return parser


def _chosen(options: Namespace) -> list[Entry]:
    """The entries that the options name, each once; a ValueError if there is no such name or lesson."""
    known = entries()
    chosen = dict.fromkeys([name.rstrip("/") for name in options.names] + [*known] * options.all)
    if unknown := [name for name in chosen if name not in known]:
        raise ValueError(f"there is no {', '.join(unknown)}; there are {', '.join(known)}")
    for lesson in options.lesson:
        found = [each.name for each in known.values() if each.small and lesson.zfill(2) in each.lessons]
        if not found:
            lessons = sorted({lesson for each in known.values() for lesson in each.lessons})
            raise ValueError(f"nothing to download for lesson {lesson!r}: there is something for {', '.join(lessons)}")
        chosen |= dict.fromkeys(found)
    return without_parts([known[name] for name in chosen])


def _get(chosen: Sequence[Entry], root: Path, accepted: bool) -> int:
    """Get one after another; what fails does not stop the rest."""
    failed: dict[str, DownloadError] = {}
    for entry in chosen:
        try:
            print(f"{entry.name}: {HERE}{'' if get(entry, root, accepted=accepted) else ' already'}")
        except DownloadError as error:
            failed[entry.name] = error
            hint = f"\n  {entry.hint}" if entry.hint and not isinstance(error, LicenceError) else ""
            print(f"{entry.name}: {error}{hint}", file=sys.stderr)
    if not failed:
        return 0
    print(f"Not here: {', '.join(failed)}", file=sys.stderr)
    return WRONG_USE if all(isinstance(error, LicenceError) for error in failed.values()) else FAILED


def _verify(chosen: Sequence[Entry], root: Path) -> int:
    """Read what is here again."""
    problems = {entry.name: verify(entry, root) for entry in chosen}
    for name, wrong in problems.items():
        more = [f"... and {len(wrong) - 10} more"] * (len(wrong) > 10)
        print("\n  ".join([f"{name}: {'not well' if wrong else 'verified'}", *wrong[:10], *more]))
    return FAILED if any(problems.values()) else 0


def _plan(entry: Entry, root: Path) -> str:
    """What getting an entry would do."""
    if (now := state(entry, root)) == HERE:
        return f"{entry.name}: {now}, nothing to do"
    lines = [f"{entry.name}: {entry.title}", f"  state    {now}", f"  licence  {entry.licence}; {entry.page}"]
    lines += [f"  terms    {entry.terms} (--accept-licence)"] * (entry.terms is not None)
    for file in entry.files:
        lines += [f"  {'or' if i else 'from':7}  {url}" for i, url in enumerate(file.urls)]
        lines.append(f"  SHA-256  {file.sha256 or 'not published: recorded at the first download'}")
    lines.append(f"  to       {', '.join(str(root / place) for place in entry.places)}")
    return "\n".join([*lines, f"  size     {_size(entry)}, and what is unpacked of it"])


def _size(entry: Entry) -> str:
    return ("" if all(file.size for file in entry.files) else "about ") + megabytes(entry.size)
