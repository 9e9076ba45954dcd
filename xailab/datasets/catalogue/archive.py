"""Unpack archives from strangers: nothing is written outside the folder, no link is made, and the size is limited.

The standard library does the work, with ``tarfile.data_filter`` for tar; names, kinds, number and total size of the
members are checked here, before they are written.
"""

import gzip
import posixpath
import stat
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tqdm import tqdm

from xailab.datasets.catalogue.download import DownloadError

MOST_FILES = 100_000
COLLISION = (FileExistsError, IsADirectoryError, NotADirectoryError)  # a file and a folder of one name


class UnsafeArchive(DownloadError):
    """An archive that would write where it must not or more than it may, is damaged, or holds something else."""


def extract(archive: Path, folder: Path, limit: int) -> None:
    """Unpack an archive, zip or tar, into a folder that has no file of it yet.

    Raises:
        UnsafeArchive: if it is hostile, damaged or of another kind, or holds more than ``limit`` bytes.
    """
    taken, total = set(), 0

    def check(name: str, size: int, is_folder: bool) -> None:
        nonlocal total
        if name.startswith("/") or ".." in name.split("/") or "\\" in name or ":" in name:
            raise UnsafeArchive(f"{archive.name} would write {name[:200]!r} outside its folder")
        plain, total = posixpath.normpath(name).casefold(), total + size
        if plain in taken and not is_folder:
            raise UnsafeArchive(f"{archive.name} holds {name!r} twice")
        taken.add(plain)
        if total > limit or len(taken) > MOST_FILES:
            raise UnsafeArchive(f"{archive.name} unpacks to more than {limit:,} bytes or {MOST_FILES:,} files")

    bar = {"total": archive.stat().st_size, "desc": f"unpacking {archive.name}", "leave": False, "disable": None}
    try:
        with open(archive, "rb") as file, tqdm.wrapattr(file, "read", **bar) as stream:
            (_unzip if archive.suffix == ".zip" else _untar)(stream, folder, check)
    except (DownloadError, MemoryError):
        raise
    except Exception as error:  # whatever a foreign archive brings about, but for errors of the disk
        if getattr(error, "errno", None) and not isinstance(error, COLLISION):
            raise
        raise UnsafeArchive(f"{archive.name} is unsafe or damaged, or cannot be read ({error!r})") from None


def _unzip(stream, folder: Path, check: Callable[[str, int, bool], None]) -> None:
    with zipfile.ZipFile(stream) as file:
        for info in file.infolist():
            check(info.orig_filename, info.file_size, info.is_dir())
            if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise UnsafeArchive(f"{info.filename!r} is neither a file nor a folder")
        file.extractall(folder)


def _untar(stream, folder: Path, check: Callable[[str, int, bool], None]) -> None:
    if not hasattr(tarfile, "data_filter"):
        raise DownloadError("it takes Python 3.11.4 or newer to unpack this safely")

    def checked(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo | None:
        check(member.name, member.size, member.isdir())
        member = tarfile.data_filter(member, folder)
        return None if member.issym() or member.islnk() else member  # links that stay inside are left out

    with tarfile.open(fileobj=stream) as tar:
        tar.extractall(str(folder), filter=checked)
        with suppress(gzip.BadGzipFile):  # bytes after the end of a gzip file do no harm
            while tar.fileobj.read(1 << 20):  # to the checksum of an xz file
                pass
