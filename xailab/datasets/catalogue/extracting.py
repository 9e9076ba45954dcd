"""Archives from strangers: nothing is written outside the folder, no link is made, size and count are bounded.

``extractall`` is not used: names are checked here, every file is written as a new one, and what is counted are the
bytes that come out, not those that a header promises. Links that stay inside are left out; those that lead out, devices
and pipes are refused.
"""

import gzip
import hashlib
import lzma
import posixpath
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import SEEK_SET, BufferedIOBase, RawIOBase
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tqdm import tqdm

from .fetching import DownloadError

CHUNK = 1 << 20
LARGEST_HEADER = 1 << 22  # bytes that a tar header may ask for at once
LONGEST_NAME, DEEPEST = 1000, 32
TARS = {".tar": open, ".tar.gz": gzip.open, ".tgz": gzip.open, ".tar.xz": lzma.open}
DAMAGED = (
    tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, gzip.BadGzipFile, struct.error,
    EOFError, ValueError, OverflowError,
)  # fmt: skip
UNREADABLE = (NotImplementedError, RuntimeError)  # a compression that is not supported, a password


class UnsafeArchive(DownloadError):
    """An archive that would write where it must not, or more than it may."""


class Bounds(NamedTuple):
    """What an archive may hold.

    Attributes:
        size: Bytes of all files together.
        count: Files and folders.
    """

    size: int
    count: int = 100_000


Contents = dict[str, tuple[int, str]]  # size in bytes and SHA-256 by name, with / between the folders


def extract(archive: Path, folder: Path, bounds: Bounds, *, quiet: bool = False) -> Contents:
    """Unpack an archive into a folder.

    Args:
        archive: zip, tar, tar.gz, tgz or tar.xz.
        folder: It must be there; no file of the archive may be there already.
        bounds: What the archive may hold at most.
        quiet: Without a progress bar.

    Returns:
        The files that were written.

    Raises:
        UnsafeArchive: if it is hostile, or holds more than the bounds allow.
        DownloadError: if it is damaged or of another kind.
        OSError: if the disk is full, say.
    """
    members = _zip if archive.suffix == ".zip" else _tar
    written: Contents = {}
    taken: set[str] = set()
    size = 0
    bar = tqdm(desc=f"unpacking {archive.name}", unit=" files", leave=False, disable=True if quiet else None)
    try:
        with bar, members(archive, bounds) as found:
            for count, (name, stream) in enumerate(found, 1):
                if count > bounds.count:
                    raise UnsafeArchive(f"{archive.name} holds more than {bounds.count:,} files")
                path = _inside(archive, name)
                if stream is None:
                    (folder / path).mkdir(parents=True, exist_ok=True)
                    continue
                if str(path).casefold() in taken:
                    raise UnsafeArchive(f"{archive.name} holds {name!r} twice")
                taken.add(str(path).casefold())
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                written[str(path)] = _write(stream, folder / path, bounds.size - size, archive)
                size += written[str(path)][0]
                bar.update()
    except DAMAGED as error:
        raise DownloadError(f"{archive.name} is damaged ({error or type(error).__name__})") from None
    except UNREADABLE as error:
        raise DownloadError(f"{archive.name} cannot be read ({error})") from None
    except (FileExistsError, NotADirectoryError) as error:
        raise UnsafeArchive(f"{archive.name} holds a file and a folder of one name ({error.filename})") from None
    return written


def _write(stream: BufferedIOBase, path: Path, room: int, archive: Path) -> tuple[int, str]:
    """Write one new file; its size and SHA-256."""
    size, hash = 0, hashlib.sha256()
    with open(path, "xb") as out:
        while chunk := stream.read(CHUNK):
            size += len(chunk)
            if size > room:
                raise UnsafeArchive(f"{archive.name} unpacks to more than it may: {path.name} was the last straw")
            hash.update(chunk)
            out.write(chunk)
    return size, hash.hexdigest()


def _inside(archive: Path, name: str) -> PurePosixPath:
    """A member's name as a path that stays in the folder."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    odd = "\\" in name or ":" in name or any(ord(letter) < 32 for letter in name)
    if odd or name.startswith("/") or ".." in parts or len(name) > LONGEST_NAME or len(parts) > DEEPEST:
        raise UnsafeArchive(f"{archive.name} holds {name[:200]!r}, which would be written outside its folder")
    return PurePosixPath(*parts)


Members = Iterator[tuple[str, BufferedIOBase | None]]  # names with their content, None for a folder


@contextmanager
def _tar(archive: Path, bounds: Bounds) -> Iterator[Members]:
    suffix = next((s for s in sorted(TARS, key=len, reverse=True) if archive.name.endswith(s)), None)
    if suffix is None:
        raise DownloadError(f"{archive.name}: expected zip, {', '.join(sorted(x[1:] for x in TARS))}")
    with TARS[suffix](archive, "rb") as stream:
        headers = 4096 * (bounds.count + 64)  # besides the files' content
        bounded = _Bounded(stream, bounds.size + headers, archive)
        with tarfile.open(fileobj=bounded, mode="r:") as tar:
            yield _members_of_tar(tar, archive)
        _to_the_end(bounded)


def _members_of_tar(tar: tarfile.TarFile, archive: Path) -> Members:
    while (member := tar.next()) is not None:
        tar.members = []  # else it keeps all headers
        if member.isdir():
            yield member.name, None
        elif member.isreg():
            yield member.name, tar.extractfile(member)
        elif member.issym() or member.islnk():
            _check_link(member, archive)
        else:
            raise UnsafeArchive(f"{archive.name} holds {member.name!r}, which is neither a file nor a folder")


def _to_the_end(stream: RawIOBase) -> None:
    """Read what follows the tar, so that the checksum at the end of the compressed stream is compared."""
    try:
        while stream.read(CHUNK):
            pass
    except gzip.BadGzipFile as error:
        if not str(error).startswith("Not a gzipped file"):  # some archives have rubbish behind their checksum
            raise


def _check_link(member: tarfile.TarInfo, archive: Path) -> None:
    """Pass over a link that stays inside; it is not made."""
    base = posixpath.dirname(member.name) if member.issym() else ""
    target = posixpath.normpath(posixpath.join(base, member.linkname))
    if target.startswith(("/", "..")) or "\\" in member.linkname or ":" in member.linkname:
        raise UnsafeArchive(f"{archive.name} holds {member.name!r}, a link that leads out, to {member.linkname!r}")


@contextmanager
def _zip(archive: Path, bounds: Bounds) -> Iterator[Members]:
    with zipfile.ZipFile(archive) as file:
        if sum(each.file_size for each in file.infolist()) > bounds.size:
            raise UnsafeArchive(f"{archive.name} unpacks to more than it may, {bounds.size:,} bytes")
        yield _members_of_zip(file, archive)


def _members_of_zip(file: zipfile.ZipFile, archive: Path) -> Members:
    for member in file.infolist():
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise UnsafeArchive(f"{archive.name} holds {member.filename!r}, which is neither a file nor a folder")
        if member.is_dir():
            yield member.orig_filename, None
        else:
            with file.open(member) as stream:
                yield member.orig_filename, stream


class _Bounded(RawIOBase):
    """A stream that gives so many bytes and no more, and never many at once: headers lie about their length."""

    def __init__(self, stream: BufferedIOBase, most: int, archive: Path) -> None:
        self.stream, self.most, self.archive = stream, most, archive

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= LARGEST_HEADER:
            raise UnsafeArchive(f"{self.archive.name} has a header of {size:,} bytes")
        data = self.stream.read(size)
        self._check(self.stream.tell())
        return data

    def seek(self, position: int, whence: int = SEEK_SET) -> int:
        self._check(position)
        return self.stream.seek(position, whence)

    def tell(self) -> int:
        return self.stream.tell()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def _check(self, position: int) -> None:
        if position > self.most:
            raise UnsafeArchive(f"{self.archive.name} unpacks to more than {self.most:,} bytes")
