"""What is here: places below the root of the data, each with a record of what was put there.

    <root>/<place>                what a reader sees, whole or not there: it is unpacked elsewhere and moved in one step
    <root>/records/<place>.json   size and SHA-256 of each of its files, and of the archive that they came from
    <root>/downloads/             what is on its way

A record is written before its place appears, so that a place without a record is somebody else's: it is never touched.
"""

import datetime
import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout
from tqdm import tqdm

from .entries import Entry
from .extracting import Bounds, Contents, extract
from .fetching import (
    PATIENCE,
    DownloadError,
    Fetched,
    Patience,
    arrived,
    digests,
    disk_error,
    fetch,
    read_json,
    write_json,
)

DOWNLOADS, RECORDS = "downloads", "records"
WRONG = "wrong"  # in a record: the files that were not as they should be when they were last read
UNPACKED = 1.25  # times the archive's size that its content may take, to see whether there is room
BOUND = 8  # times the archive's size that its content may take at most
LITTER = {".DS_Store", "Thumbs.db", "desktop.ini"}  # what a desktop leaves in folders
HERE, NOT_VERIFIED, NOT_HERE = "here and verified", "here, not verified", "not here"


class LicenceError(DownloadError):
    """The terms of a licence have not been accepted."""


class State(NamedTuple):
    """Whether something is here.

    Attributes:
        here: Whole, and recorded when it was verified; the sizes are still those.
        text: As the list says it.
        arrived: Bytes of the download that are here, where it is not whole.
    """

    here: bool
    text: str
    arrived: int = 0


def state(entry: Entry, root: Path) -> State:
    """Whether it is here, from what is on the disk; names and sizes are compared, not contents (see `verify`)."""
    found = [_look(place, root) for place in entry.places]
    if all(each == HERE for each in found):
        return State(True, HERE)
    damaged = [each for each in found if each not in (HERE, NOT_HERE)]
    if damaged:
        return State(False, damaged[0] + (f", and {len(damaged) - 1} more like it" if len(damaged) > 1 else ""))
    sizes = [arrived(file, root / DOWNLOADS) for file in entry.files]
    size, totals = sum(size for size, _ in sizes), [total for _, total in sizes]
    places = found.count(HERE)
    if size and None not in totals and size == sum(totals):
        return State(False, "part (downloaded, not unpacked)", size)
    if size:
        of = f" of {megabytes(sum(totals))}" if None not in totals else ""
        return State(False, f"part ({megabytes(size)}{of})", size)
    if places:
        return State(False, f"part ({places} of {len(found)})")
    return State(False, NOT_VERIFIED if _zoo_has(entry, root) else NOT_HERE)


def verify(entry: Entry, root: Path, *, quiet: bool = False) -> list[str]:
    """Read every file again; what is wrong with it, by name, nothing if all is well.

    What is wrong is noted in the record, so that the list says it and `get` brings it again.

    Raises:
        FileNotFoundError: if no part of it was downloaded here.
    """
    written = {place: _written(place, root) for place in entry.places}
    problems, records = [], {place: _record(place, root) for place in entry.places}
    if not any(records.values()):
        raise FileNotFoundError(f"{entry.name} was not downloaded to {root}: there is nothing to compare it with")
    for place, record in records.items():
        if not record or not _there(root / place):
            problems.append(f"{place}: {NOT_HERE}")
            continue
        wrong = {}
        bar = tqdm(record["files"].items(), desc=place, leave=False, disable=True if quiet else None)
        for name, (size, sha256) in bar:
            path = _path(place, name, root)
            if not path.is_file():
                wrong[name] = "missing"
            elif path.stat().st_size != size or digests(path)[0] != sha256:
                wrong[name] = "changed"
        problems += [f"{_path(place, name, root)}: {what}" for name, what in wrong.items()]
        if list(wrong) != record.get(WRONG, []) and _written(place, root) == written[place]:  # or else `get` was there
            with suppress(OSError):  # a disk that may only be read: the list will not say it, this does
                write_json(root / RECORDS / f"{place}.json", record | {WRONG: list(wrong)})
    return problems


def present(catalogue: Sequence[Entry], root: Path) -> list[Entry]:
    """What is here of all there is, each place once: as the whole where that is whole, otherwise as its parts."""
    lacking = {entry.name: sum(not _is_ours(place, root) for place in entry.places) for entry in catalogue}
    taken: set[str] = set()
    found = []
    for entry in sorted(catalogue, key=lambda entry: (lacking[entry.name], -len(entry.places))):
        here = [place for place in entry.places if place not in taken and _there(root / place)]
        taken.update(here)
        ours = tuple(place for place in here if _is_ours(place, root))
        others = tuple(place for place in here if place not in ours)
        found += [replace(entry, places=places) for places in (ours, others) if places]
    return found


def get(
    entry: Entry,
    root: Path,
    *,
    accepted: bool = False,
    patience: Patience = PATIENCE,
    quiet: bool = False,
) -> bool:
    """Bring something here, or go on with it.

    Args:
        entry: What.
        root: Where the data lies; made if it is not there.
        accepted: Whether the licence's terms are accepted, where it has some.
        patience: When to give up.
        quiet: Without progress bars.

    Returns:
        Whether anything had to be done.

    Raises:
        LicenceError: if the terms are not accepted.
        DownloadError: if it cannot be got; the message says why. What has come is kept.
    """
    if state(entry, root).here:
        return False
    if entry.terms is not None and not accepted:
        raise LicenceError(f"{entry.terms}. If you accept that, add --accept-licence.")
    try:
        for folder in (DOWNLOADS, RECORDS):
            (root / folder).mkdir(parents=True, exist_ok=True)
        with _alone(entry, root, quiet):
            if state(entry, root).here:  # another process has done it meanwhile
                return False
            _check_places(entry, root)
            _check_room(entry, root)
            _bring(entry, root, patience, quiet)
    except OSError as error:
        raise disk_error(error, root) from None
    return True


def room_needed(entry: Entry, root: Path) -> int:
    """Bytes of disk that are needed besides what has come, roughly: the download, and what is made of it."""
    whole = sum(file.expected or 0 for file in entry.files)
    return round((1 + UNPACKED) * whole) - sum(arrived(file, root / DOWNLOADS)[0] for file in entry.files)


def room(root: Path) -> int:
    """Free bytes on the disk of a folder, which need not be there yet."""
    there = root.absolute()
    while not there.is_dir():
        there = there.parent
    return shutil.disk_usage(there).free


def megabytes(size: int) -> str:
    """A size for people."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _record(place: str, root: Path) -> dict:
    """What was put at a place; empty if nothing was, or the record is damaged."""
    record = read_json(root / RECORDS / f"{place}.json")
    files, archives, wrong = (record.get(key, empty) for key, empty in (("files", {}), ("archives", 0), (WRONG, [])))
    if not (isinstance(files, dict) and files and isinstance(archives, dict) and isinstance(wrong, list)):
        return {}
    known = (*files.values(), *archives.values())
    sound = all(isinstance(each, list) and [*map(type, each)] == [int, str] for each in known)
    return record if sound and all(isinstance(name, str) for name in wrong) else {}


def _written(place: str, root: Path) -> tuple[int, int] | None:
    """What tells one writing of a record from another, though both may hold the same."""
    with suppress(OSError):
        found = (root / RECORDS / f"{place}.json").stat()
        return found.st_mtime_ns, found.st_ino
    return None


def _zoo_has(entry: Entry, root: Path) -> bool:
    """Whether these are weights that `zoo.load` finds, though they were not downloaded by this program."""
    if not entry.name.startswith("weights/"):
        return False
    from xailab.models.zoo import weights_paths

    name = entry.name.removeprefix("weights/")
    return any(path.is_file() for path in weights_paths(name, entry.files[0].name, root))


def _is_ours(place: str, root: Path) -> bool:
    """Whether a place is here, and was put there by this program."""
    return _there(root / place) and bool(_record(place, root))


def _there(path: Path) -> bool:
    """Whether something is there, be it a link that leads nowhere.

    Raises:
        OSError: if that cannot be told.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _look(place: str, root: Path) -> str:
    """Whether a place is here and as it was recorded."""
    record, path = _record(place, root), root / place
    if not _there(path):
        return NOT_HERE
    if not record:
        return f"{place} is here, but not from this program: not verified"
    wrong = set(record.get(WRONG, ()))
    for name, (size, _) in record["files"].items():
        try:
            same = _path(place, name, root).stat().st_size == size
        except (OSError, ValueError):
            same = False
        if not same:
            wrong.add(name)
    return f"damaged ({len(wrong)} of {len(record['files'])} files of {place} missing or changed)" if wrong else HERE


def _path(place: str, name: str, root: Path) -> Path:
    """A file of a place; a place that is a file has one without a name."""
    return root / place / name if name else root / place


@contextmanager
def _alone(entry: Entry, root: Path, quiet: bool) -> Iterator[None]:
    """Only one process works on a thing, and on what shares its places."""
    family = entry.name if entry.into == "." else entry.into
    lock = FileLock(root / DOWNLOADS / f"{family.replace('/', '-')}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if not quiet:
            tqdm.write(f"{entry.name}: another process is at it; waiting for it to end", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _check_places(entry: Entry, root: Path) -> None:
    """Refuse to replace what this program did not put there."""
    for place in entry.places:
        path, record = root / place, _record(place, root)
        if not _there(path) or _look(place, root) == HERE:
            continue
        if path.is_dir() and not path.is_symlink():
            strange = [name for name, is_link in _below(path) if is_link or name not in record.get("files", ())]
        else:
            strange = [] if record and path.is_file() and not path.is_symlink() else [path.name]
        if strange:
            raise DownloadError(
                f"{path} is there already and holds what was not downloaded here ({', '.join(sorted(strange)[:3])}"
                f"{', ...' if len(strange) > 3 else ''}): move it away first, or leave it as it is"
            )


def _below(folder: Path) -> Iterator[tuple[str, bool]]:
    """Files and links below a folder, without litter, and whether each is a link."""
    for path in folder.rglob("*"):
        if path.is_symlink() or not (path.is_dir() or path.name in LITTER):
            yield path.relative_to(folder).as_posix(), path.is_symlink()


def _check_room(entry: Entry, root: Path) -> None:
    needed, free = room_needed(entry, root), room(root)
    if needed > free:
        raise DownloadError(
            f"{entry.name} needs about {megabytes(needed)} in {root} (the download and what is unpacked), and "
            f"{megabytes(free)} are free: make room, or choose another folder with --root"
        )


def _bring(entry: Entry, root: Path, patience: Patience, quiet: bool) -> None:
    downloads, staging = root / DOWNLOADS, root / DOWNLOADS / f"{entry.name.replace('/', '-')}.unpacking"
    shutil.rmtree(staging, ignore_errors=True)
    fetched = [
        fetch(file, downloads, first=_first(file.name, root), patience=patience, quiet=quiet) for file in entry.files
    ]
    try:
        (staging / "new").mkdir(parents=True)
        if entry.places[0].endswith(".safetensors"):
            contents = {entry.places[0]: _convert(fetched[0].path, staging / "new" / entry.places[0])}
        else:
            contents = _unpack(entry, fetched, staging / "new", quiet)
        archives = {each.path.name: [each.size, each.sha256] for each in fetched}
        _check_places(entry, root)  # once more: a download takes its time, and somebody may have put something there
        for place, files in contents.items():
            if _look(place, root) != HERE:
                _install(entry, place, {"archives": archives, "files": files}, root, staging)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    for each in fetched:
        each.path.unlink()


def _first(name: str, root: Path) -> str | None:
    """The SHA-256 of a file when it was downloaded first, if it was."""
    for path in sorted((root / RECORDS).rglob("*.json")):
        place = path.relative_to(root / RECORDS).as_posix().removesuffix(".json")
        if found := _record(place, root).get("archives", {}).get(name):
            return found[1]
    return None


def _unpack(entry: Entry, fetched: Sequence[Fetched], folder: Path, quiet: bool) -> dict[str, Contents]:
    """Unpack the archives below a folder; the files of each place."""
    written: Contents = {}
    base = folder / entry.into
    base.mkdir(parents=True, exist_ok=True)
    for each in fetched:
        bounds = Bounds(BOUND * each.size + (16 << 20))
        prefix = "" if entry.into == "." else f"{entry.into}/"
        try:
            found = extract(each.path, base, bounds, quiet=quiet)
        except DownloadError:
            each.path.unlink()  # what is damaged, or hostile, is not kept to be tried again
            raise
        written |= {prefix + name: what for name, what in found.items()}
    contents = {
        place: {name[len(place) + 1 :]: what for name, what in written.items() if name.startswith(f"{place}/")}
        for place in entry.places
    }
    missing = [place for place, files in contents.items() if not files]
    if missing:
        for each in fetched:
            each.path.unlink()
        raise DownloadError(f"{entry.name}: the archive holds no {', '.join(missing)}; its source has changed it")
    return contents


def _convert(path: Path, target: Path) -> Contents:
    """Torchvision's weights as safetensors, as the zoo looks for them; nothing in the file is executed."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
        weights = {name: tensor.contiguous().clone() for name, tensor in weights.items()}
    except OSError:
        raise
    except MemoryError:
        raise DownloadError(f"{path.name} does not fit into the memory: close other programs, and try again") from None
    except Exception as error:  # whatever a foreign file brings about
        path.unlink()
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DownloadError(f"{path.name} holds no weights ({reason})") from None
    target.parent.mkdir(parents=True)
    target.touch()
    mode = target.stat().st_mode
    try:
        save_file(weights, target)
    except SafetensorError as error:  # it tells the disk's errors in words only
        number = re.search(r"os error (\d+)", str(error))
        raise OSError(int(number[1]) if number else 0, str(error), str(target)) from None
    target.chmod(mode)  # save_file lets nobody else read
    return {"": (target.stat().st_size, digests(target)[0])}


def _install(entry: Entry, place: str, found: dict, root: Path, staging: Path) -> None:
    """Put a place where readers look, in one step, after its record, which calls it damaged until that is done."""
    record, target, before = root / RECORDS / f"{place}.json", root / place, _record(place, root)
    for path in (record, target):
        path.parent.mkdir(parents=True, exist_ok=True)
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    new = {"entry": entry.name, "page": entry.page, "licence": entry.licence, "date": today, **found}
    new["archives"] = before.get("archives", {}) | found["archives"]  # the first download is remembered of each
    files = before.get("files", {}) | found["files"]
    replaced = _there(target)
    write_json(record, new | {"files": files, WRONG: list(files)} if replaced else new)
    if target.is_dir():
        old = staging / "old" / place
        old.parent.mkdir(parents=True, exist_ok=True)
        target.rename(old)
    os.replace(staging / "new" / place, target)
    if replaced:
        write_json(record, new)
