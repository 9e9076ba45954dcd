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
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from xailab import storage
from xailab.datasets.catalogue.archive import UnsafeArchive, extract
from xailab.datasets.catalogue.download import DownloadError, WrongFile, arrived, disk_errors, fetch
from xailab.datasets.catalogue.registry import Entry, File
from xailab.extras import needed_for

with needed_for("xailab.datasets.catalogue", extra="data"):
    from filelock import AcquireReturnProxy, FileLock, Timeout

LIMIT = 8  # times an archive's size that its content may take
HERE, DAMAGED, NOT_HERE = "here and verified", "damaged", "not here"


class LicenceError(DownloadError):
    """The terms of a licence have not been accepted."""


def state(entry: Entry, root: Path) -> str:
    """Say what of an entry is installed, by names and sizes of its files: `HERE`, `NOT_HERE`, or what else there is."""
    found = [_state_of(place, root) for place in entry.places]
    if NOT_HERE not in found:
        return next((each for each in found if each != HERE), HERE)
    if come := sum(arrived(file, root / "downloads") for file in entry.files):
        return f"part ({megabytes(come)} of {megabytes(entry.size)})"
    return f"part ({found.count(HERE)} of {len(found)})" if HERE in found else NOT_HERE


def get(entry: Entry, root: Path, *, accepted: bool = False) -> bool:
    """Download and install an entry, or go on with it; return whether there was anything to do.

    Raises:
        LicenceError: if it has terms that are not ``accepted``.
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
            _install(entry, root)
    return True


def verify(entry: Entry, root: Path) -> list[str]:
    """Read every file again; say what is wrong, and note it, so that `get` installs the place again."""
    problems = []
    for place in entry.places:
        record = _record(place, root)
        if not record or not os.path.lexists(root / place):
            problems.append(f"{root / place} was not downloaded here: there is nothing to compare")
            continue
        wrong = _changed(place, root, read=True)
        problems += [f"{root / place / name}: missing or changed" for name in wrong]
        sizes = {name: -1 if name in wrong else (root / place / name).stat().st_size for name in record}
        with suppress(OSError):  # where nothing may be written, the list goes on by the sizes
            _write_record(place, root, {name: [size, record[name][1]] for name, size in sizes.items()})
    return problems


def megabytes(size: int) -> str:
    """A size for people."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _record(place: str, root: Path) -> dict[str, list]:
    """Size and SHA-256 of the files that were installed at a place; empty if none were, or the record is damaged."""
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        files = json.loads((root / "records" / f"{place}.json").read_text(encoding="utf-8"))["files"]
        if all([*map(type, each)] == [int, str] for each in files.values()):
            return files
    return {}


def _write_record(place: str, root: Path, files: dict[str, list]) -> None:
    (root / "records" / place).parent.mkdir(parents=True, exist_ok=True)
    with storage.atomic(root / "records" / f"{place}.json") as part:
        part.write_text(json.dumps({"files": files}, indent=1), encoding="utf-8")


def _changed(place: str, root: Path, read: bool = False) -> list[str]:
    """Names of the recorded files that are missing or of another size, or, if they are read, with another content."""
    wrong = []
    for name, (size, sha256) in tqdm(_record(place, root).items(), place, leave=False, disable=None if read else True):
        path = root / place / name
        if not path.is_file() or (storage.sha256(path) != sha256 if read else path.stat().st_size != size):
            wrong.append(name)
    return wrong


def _state_of(place: str, root: Path) -> str:
    """Whether a place is here and as it was recorded."""
    if not os.path.lexists(root / place):
        return NOT_HERE
    if not (record := _record(place, root)):
        return f"{place} is here, but not from this program: not verified"
    wrong = len(_changed(place, root))
    return f"{DAMAGED} ({wrong} of {len(record)} files of {place} missing or changed)" if wrong else HERE


def _contents(place: Path) -> dict[str, Path]:
    """Files and links at a place, by name below it; a place that is one itself has the name "."."""
    if not place.is_dir() or place.is_symlink():
        return {".": place} if os.path.lexists(place) else {}
    found = (path for path in place.rglob("*") if path.is_symlink() or not path.is_dir())
    return {path.relative_to(place).as_posix(): path for path in found}


def _check_places(entry: Entry, root: Path) -> None:
    """Refuse to replace what this program did not put there."""
    for place in (place for place in entry.places if _state_of(place, root) != HERE):
        ours = {name or "." for name in _record(place, root)}
        found = _contents(root / place).items()
        if strange := sorted(path.name for name, path in found if name not in ours or path.is_symlink()):
            what = f"holds what was not downloaded here ({', '.join(strange[:3])})"
            raise DownloadError(f"{root / place} is there already and {what}: move it away first, or leave it as it is")


def _alone(entry: Entry, root: Path) -> AcquireReturnProxy:
    """Let only one process work on a thing, and on what shares its folder."""
    family = (entry.name if entry.into == "." else entry.into).replace("/", "-")
    lock = FileLock(root / "downloads" / f"{family}.lock")
    with suppress(Timeout):
        return lock.acquire(timeout=0)
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
                (root / "records" / f"{file.name}.sha256").write_text(storage.sha256(path), encoding="utf-8")
        _check_places(entry, root)  # once more: a download takes its time, and somebody may have put something there
        for place in (place for place in entry.places if _state_of(place, root) != HERE):
            _move_in(place, root, staging)
    except (UnsafeArchive, ValueError) as error:
        for path in archives:
            path.unlink()  # lest the same is tried again
        raise UnsafeArchive(str(error)) from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    for path in archives:
        path.unlink()


def _fetch(file: File, root: Path) -> Path:
    """Download a file; one whose hash is not published must be what it was at the first time."""
    first = root / "records" / f"{file.name}.sha256"
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
    storage.convert(path, folder / entry.places[0])


def _move_in(place: str, root: Path, staging: Path) -> None:
    """Put a place where readers look, with its record; stopped anywhere in here, the place is not there."""
    new, old = staging / "new" / place, staging / "old" / place
    files = {name: [path.stat().st_size, storage.sha256(path)] for name, path in _contents(new).items()}
    for folder in (old.parent, (root / place).parent):
        folder.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(root / place):
        os.replace(root / place, old)
    _write_record(place, root, files)
    os.replace(new, root / place)
