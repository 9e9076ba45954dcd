"""What is installed: places below the root of the data, each whole and recorded, or not there.

    <root>/<place>                what a reader sees; it is unpacked elsewhere and moved in one step
    <root>/records/<place>.json   size and SHA-256 of each of its files, written before the place appears
    <root>/records/<file>.sha256  hash of the first download, where none is published
    <root>/downloads/             what is on its way

A place that is damaged is downloaded again; one that holds what this program did not put there is never touched.
"""

import json
import os
import shutil
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from filelock import AcquireReturnProxy, FileLock, Timeout
from tqdm import tqdm

from xailab import storage
from xailab.datasets.catalogue.archive import UnsafeArchive, extract
from xailab.datasets.catalogue.download import DownloadError, WrongFile, arrived, disk_errors, fetch
from xailab.datasets.catalogue.registry import Entry, File, without_parts

UNPACKED, LIMIT = 1.25, 8  # times an archive's size that its content takes, as a rule and at most
LITTER = {".DS_Store", "Thumbs.db", "desktop.ini"}  # what a desktop leaves in folders
HERE, NOT_HERE = "here and verified", "not here"


class LicenceError(DownloadError):
    """The terms of a licence have not been accepted."""


def state(entry: Entry, root: Path) -> str:
    """Say what of an entry is installed, by names and sizes of its files: `HERE`, `NOT_HERE`, or what else there is."""
    found = [_state_of(place, root) for place in entry.places]
    if others := [each for each in found if each not in (HERE, NOT_HERE)]:
        return others[0]
    if NOT_HERE not in found:
        return HERE
    sizes, totals = zip(*(arrived(file, root / "downloads") for file in entry.files), strict=True)
    if any(sizes):
        of = "" if None in totals else f" of {megabytes(sum(totals))}"
        return "part (downloaded, not unpacked)" if sizes == totals else f"part ({megabytes(sum(sizes))}{of})"
    return f"part ({found.count(HERE)} of {len(found)})" if HERE in found else NOT_HERE


def get(entry: Entry, root: Path, *, accepted: bool = False) -> bool:
    """Download and install an entry below the root of the data, or go on with it.

    Args:
        accepted: Whether the terms of the licence are accepted, where it has some.

    Returns:
        Whether anything had to be done.

    Raises:
        LicenceError: if the terms are not accepted.
        DownloadError: if it cannot be installed; the message says why. What has come is kept.
    """
    if state(entry, root) == HERE:
        return False
    if entry.terms is not None and not accepted:
        raise LicenceError(f"{entry.terms}. If you accept that, add --accept-licence.")
    with disk_errors(root):
        for folder in ("downloads", "records"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        with _alone(entry, root):
            if state(entry, root) == HERE:  # another process has done it meanwhile
                return False
            _check_places(entry, root)
            if needed(entry, root) > room(root):
                what = f"{megabytes(needed(entry, root))} in {root} (the download and what is unpacked)"
                free = f"{megabytes(room(root))} are free: make room, or choose another folder with --root"
                raise DownloadError(f"{entry.name} needs about {what}, and {free}")
            _install(entry, root)
    return True


def verify(entry: Entry, root: Path) -> list[str]:
    """Read every file again; say what is wrong, and note it, so that `get` installs the place again."""
    problems = []
    for place in entry.places:
        record = _record(place, root)
        if not record or not _exists(root / place):
            problems.append(f"{root / place} was not downloaded here: there is nothing to compare")
        elif wrong := _changed(place, root, read=True):
            problems += [f"{root / place / name}: missing or changed" for name in wrong]
            with suppress(OSError):  # where nothing may be written, the list goes on by the sizes
                _write_record(place, root, record | {name: [-1, ""] for name in wrong})
    return problems


def installed(entries: Iterable[Entry], root: Path) -> list[Entry]:
    """The entries that are here and were installed by this program, those apart that are part of another one."""
    here = lambda place: _exists(root / place) and _record(place, root)  # noqa: E731
    return without_parts([each for each in entries if all(map(here, each.places))])


def needed(entry: Entry, root: Path) -> int:
    """Bytes of disk that are needed besides what has come, roughly: the download, and what is made of it."""
    come = sum(arrived(file, root / "downloads")[0] for file in entry.files)
    return max(0, round((1 + UNPACKED) * (entry.size or 0)) - come)


def room(root: Path) -> int:
    """Free bytes on the disk of a folder, which need not be there yet."""
    return shutil.disk_usage(next(each for each in (root, *root.absolute().parents) if each.is_dir())).free


def megabytes(size: int) -> str:
    """A size for people."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _record(place: str, root: Path) -> dict[str, list]:
    """Size and SHA-256 of the files that were installed at a place; empty if none were, or the record is damaged."""
    try:
        files = json.loads((root / "records" / f"{place}.json").read_text(encoding="utf-8"))["files"]
        return files if all([*map(type, each)] == [int, str] for each in files.values()) else {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}


def _write_record(place: str, root: Path, files: dict[str, list]) -> None:
    (root / "records" / place).parent.mkdir(parents=True, exist_ok=True)
    with storage.atomic(root / "records" / f"{place}.json") as part:
        part.write_text(json.dumps({"files": files}, indent=1), encoding="utf-8")


def _changed(place: str, root: Path, read: bool = False) -> list[str]:
    """Names of the recorded files that are missing or of another size, or, if they are read, of other content."""
    wrong = []
    for name, (size, sha256) in tqdm(_record(place, root).items(), place, leave=False, disable=None if read else True):
        path = root / place / name
        if not path.is_file() or path.stat().st_size != size or (read and storage.sha256(path) != sha256):
            wrong.append(name)
    return wrong


def _exists(path: Path) -> bool:
    """Whether something is there, be it a link that leads nowhere; an OSError if that cannot be told."""
    with suppress(FileNotFoundError, NotADirectoryError):
        return bool(path.lstat())
    return False


def _state_of(place: str, root: Path) -> str:
    """Whether a place is here and as it was recorded."""
    if not _exists(root / place):
        return NOT_HERE
    if not (record := _record(place, root)):
        return f"{place} is here, but not from this program: not verified"
    wrong = len(_changed(place, root))
    return f"damaged ({wrong} of {len(record)} files of {place} missing or changed)" if wrong else HERE


def _contents(place: Path) -> dict[str, Path]:
    """Files and links at a place, by name below it; a place that is one itself has the name "."."""
    if not place.is_dir() or place.is_symlink():
        return {".": place} if _exists(place) else {}
    found = (path for path in place.rglob("*") if path.is_symlink() or not path.is_dir())
    return {path.relative_to(place).as_posix(): path for path in found}


def _check_places(entry: Entry, root: Path) -> None:
    """Refuse to replace what this program did not put there."""
    for place in (place for place in entry.places if _state_of(place, root) != HERE):
        ours = {name or "." for name in _record(place, root)}
        found = [(name, path) for name, path in _contents(root / place).items() if path.name not in LITTER]
        if strange := sorted(path.name for name, path in found if name not in ours or path.is_symlink()):
            what = f"holds what was not downloaded here ({', '.join(strange[:3])})"
            raise DownloadError(f"{root / place} is there already and {what}: move it away first, or leave it as it is")


def _alone(entry: Entry, root: Path) -> AcquireReturnProxy:
    """Let only one process work on a thing, and on what shares its folder."""
    family = entry.name if entry.into == "." else entry.into
    lock = FileLock(root / "downloads" / f"{family.replace('/', '-')}.lock")
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        tqdm.write(f"{entry.name}: another process is at it; waiting for it to end", file=sys.stderr)
        return lock.acquire()


def _install(entry: Entry, root: Path) -> None:
    staging = root / "downloads" / f"{entry.name.replace('/', '-')}.unpacking"
    shutil.rmtree(staging, ignore_errors=True)  # of a run that was stopped
    archives = [_fetch(file, root) for file in entry.files]
    try:
        for path in archives:
            _unpack(entry, path, staging / "new")
        if missing := [place for place in entry.places if not _contents(staging / "new" / place)]:
            raise UnsafeArchive(f"{entry.name}: the archive holds no {', '.join(missing)}; its source has changed it")
        for file, path in zip(entry.files, archives, strict=True):
            if file.sha256 is None:
                _first(file, root).write_text(storage.sha256(path), encoding="utf-8")
        _check_places(entry, root)  # once more: a download takes its time, and somebody may have put something there
        for place in (place for place in entry.places if _state_of(place, root) != HERE):
            _move_in(place, root, staging)
    except UnsafeArchive:
        for path in archives:
            path.unlink()  # lest the same is tried again
        raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    for path in archives:
        path.unlink()


def _first(file: File, root: Path) -> Path:
    """Where the hash of the first download is noted, of a file whose hash is not published."""
    return root / "records" / f"{file.name}.sha256"


def _fetch(file: File, root: Path) -> Path:
    """Download a file; one whose hash is not published must be what it was at the first time."""
    first = _first(file, root)
    known = file.sha256 or (first.read_text(encoding="utf-8") if first.is_file() else None)
    try:
        return fetch(replace(file, sha256=known), root / "downloads")
    except WrongFile as error:
        hint = "" if file.sha256 else f" at the first download here (to take the new one, delete {first})"
        raise WrongFile(f"{error}{hint}") from None


def _unpack(entry: Entry, path: Path, folder: Path) -> None:
    """Unpack an archive below a folder; a state dict of torch's becomes safetensors."""
    (folder / entry.into).mkdir(parents=True, exist_ok=True)
    if path.suffix != ".pth":
        return extract(path, folder / entry.into, LIMIT * path.stat().st_size + (16 << 20))
    (folder / entry.places[0]).parent.mkdir(parents=True)
    try:
        storage.convert(path, folder / entry.places[0])
    except ValueError as error:
        raise UnsafeArchive(str(error)) from None
    except MemoryError:
        raise DownloadError(f"{path.name} does not fit into the memory: close other programs, and try again") from None


def _move_in(place: str, root: Path, staging: Path) -> None:
    """Put a place where readers look, with its record; stopped anywhere in here, the place is not there."""
    new, old = staging / "new" / place, staging / "old" / place
    files = {name: [path.stat().st_size, storage.sha256(path)] for name, path in _contents(new).items()}
    for folder in (old.parent, (root / place).parent):
        folder.mkdir(parents=True, exist_ok=True)
    if _exists(root / place):
        os.replace(root / place, old)
    _write_record(place, root, files)
    os.replace(new, root / place)
