"""Download one file over HTTP, resumably and atomically.

While it comes, it is called ``<name>.part``, and ``<name>.part.version`` says from where, and which version of it. It
goes on with a Range request for this version only (If-Range, RFC 9110); where nothing tells versions apart and no hash
is known, it starts afresh. Proxies and certificates are taken from https_proxy, no_proxy and REQUESTS_CA_BUNDLE.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tqdm import tqdm

from xailab import storage
from xailab.datasets.catalogue.registry import File
from xailab.extras import needed_for

with needed_for("xailab.datasets.catalogue", extra="data"):
    import requests
    import urllib3
    from requests.adapters import HTTPAdapter

BUSY = {"status_forcelist": (408, 425, 429, 500, 502, 503, 504), "raise_on_status": False}
RETRIES = urllib3.Retry(3, backoff_factor=1, respect_retry_after_header=False, **BUSY)  # after 0, 2 and 4 seconds
TIMEOUT = 30.0  # seconds without a byte
PROGRESS = 1 << 16  # bytes that a request must bring for another one to go on from there at once


class DownloadError(Exception):
    """Something could not be got; the message says what, why, and what to do."""


class WrongFile(DownloadError):
    """What came is not the file that was asked for."""


def fetch(file: File, folder: Path) -> Path:
    """Download a file to a folder, or go on with it; return it whole and verified. One process at a time may do so.

    Raises:
        WrongFile: if no source has the file with this hash and size.
        DownloadError: if no source can be reached, or the disk is full or may not be written.
    """
    whole, part, problems = folder / file.name, folder / f"{file.name}.part", []
    with disk_errors(folder):
        if whole.is_file():
            with suppress(WrongFile):
                return _verified(file, whole)
            whole.unlink()
        for url in file.urls:
            try:
                _fetch_from(url, file, part)
            except DownloadError as problem:
                problems.append(type(problem)(f"{url}: {problem}"))
            else:
                _version(part).unlink(missing_ok=True)
                os.replace(part, whole)
                return whole
    raise type(problems[-1])("\n".join(map(str, problems)))


def arrived(file: File, folder: Path) -> int:
    """How many bytes of a file are there."""
    return _size(folder / file.name) or _size(folder / f"{file.name}.part")


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Say what to do about an error of the disk (or a lack of memory), as a DownloadError."""
    try:
        yield
    except (OSError, MemoryError) as error:
        where, why = getattr(error, "filename", None) or folder, getattr(error, "strerror", None) or repr(error)
        how = "make room, or choose another folder with --root or XAILAB_DATA, and run the same command again"
        raise DownloadError(f"{where}: {why}. What has come is kept: {how}") from None


def _verified(file: File, path: Path) -> Path:
    """Raise WrongFile if a file has another size or hash than is known of it."""
    size, sha256 = path.stat().st_size, storage.sha256(path)
    if size != (file.size or size) or not sha256.startswith(file.sha256 or ""):
        known = f"{file.size or size:,} bytes and SHA-256 {file.sha256 or 'unknown'}"
        raise WrongFile(f"it is not the file that was expected: {size:,} bytes and SHA-256 {sha256}, expected {known}")
    return path


def _fetch_from(url: str, file: File, part: Path) -> None:
    """Complete a part from one source, with as many requests as it takes."""
    resumed = part.is_file()
    while True:
        before = _size(part)
        try:
            _request(url, file, part)
            _verified(file, part)
            return
        except WrongFile:
            _discard(part)
            if not resumed:
                raise
            resumed = False  # the part of an earlier run was damaged, say: start afresh, once
        except (OSError, urllib3.exceptions.HTTPError, ValueError) as error:  # those of requests are OSErrors
            if isinstance(getattr(error, "errno", None), int):
                raise  # the disk's
            size = _size(part)
            if size < before + PROGRESS:
                kept = f"{size:,} bytes are kept, the same command goes on from there; " if size else ""
                reason = str(error).rpartition(": ")[2].strip("'\")")
                why = f"it cannot be reached, or the connection broke ({reason})"
                raise DownloadError(f"{why}; {kept}check the network, https_proxy and REQUESTS_CA_BUNDLE") from None


def _request(url: str, file: File, part: Path) -> None:
    """Ask for what is missing, and write what comes."""
    noted = _version(part).read_text("utf-8", "replace") if _version(part).is_file() else ""
    source, _, version = noted.partition("\n")
    version = version if source == url and version.isascii() and version.isprintable() else ""
    start = _size(part) if file.sha256 or version else 0
    headers = {"Accept-Encoding": "identity", "User-Agent": "xailab"}
    if start:
        headers |= {"Range": f"bytes={start}-"} | ({"If-Range": version} if version else {})
    with requests.Session() as session:
        for scheme in ("https://", "http://"):
            session.mount(scheme, HTTPAdapter(max_retries=RETRIES))
        with session.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
            span, _, total = answer.headers.get("Content-Range", "").partition("/")
            if start and answer.status_code == 416 and total == str(start):
                return  # nothing is left to come
            if start and answer.status_code in (206, 416) and not span.startswith(f"bytes {start}-"):
                _discard(part)  # the server has another version of the file
                return _request(url, file, part)
            if answer.status_code not in ((200, 206) if start else (200,)):
                said = f"{answer.status_code} ({answer.reason}): is it busy, has the file moved, or is there a log-in?"
                raise DownloadError(f"the server answers {said}")
            _receive(url, file, part, answer, start if answer.status_code == 206 else 0)


def _receive(url: str, file: File, part: Path, answer: requests.Response, start: int) -> None:
    """Write what an answer brings, from byte ``start`` of the file on."""
    if answer.headers.get("Content-Type", "").startswith("text/html"):
        raise DownloadError("it gives a web page, not a file: has the file moved, or does this network want a log-in?")
    encrypted = all(each.url.startswith("https:") for each in (*answer.history, answer))
    if url.startswith("https:") and not file.sha256 and not encrypted:
        raise DownloadError("it leads to an address that is not encrypted, and no hash is known")
    length = answer.headers.get("Content-Length", "")
    total = start + int(length) if length.isdecimal() else file.size
    if total is None and not file.sha256 and "chunked" not in answer.headers.get("Transfer-Encoding", ""):
        raise DownloadError("the server does not say how long the file is, and no hash is known: it may be cut")
    if total == 0 or total != (file.size or total):
        raise DownloadError(f"it has {total:,} bytes, expected {file.size or 'more'}: the source has changed it")
    if start == 0:
        _discard(part)
        etag = answer.headers.get("ETag", "")  # If-Range takes a strong one, or else the date
        version = etag if etag.startswith('"') else answer.headers.get("Last-Modified", "")
        _version(part).write_text(f"{url}\n{version}", encoding="utf-8")
    scale = {"desc": file.name, "unit": "B", "unit_scale": True, "disable": None, "leave": False}
    with open(part, "ab") as stream, tqdm(total=total, initial=start, **scale) as bar:
        for chunk in answer.raw.stream(1 << 15, decode_content=False):
            stream.write(chunk)
            bar.update(len(chunk))
    if _size(part) < (total or 0):
        raise requests.ConnectionError(f"{_size(part):,} of {total:,} bytes came")


def _version(part: Path) -> Path:
    """The file that says where a part comes from, and its version there: an ETag or a date."""
    return part.with_name(f"{part.name}.version")


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _version(part).unlink(missing_ok=True)
