"""One file over HTTP: as often interrupted as need be, and in the end whole and verified, or not there.

While it comes, a file is called ``<name>.part``, with ``<name>.part.json`` beside it, which says where it comes from
and which version of it. A download goes on with a Range request that holds for this version only (If-Range, RFC 9110);
where nothing tells versions apart, and no hash is known that would in the end, it starts afresh. Proxies and
certificates are taken from the usual variables (https_proxy, no_proxy, REQUESTS_CA_BUNDLE).
"""

import errno
import hashlib
import json
import os
import shutil
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import requests
import urllib3
from tqdm import tqdm

CHUNK = 1 << 15
PROGRESS = 1 << 16  # bytes that must have come for a further break not to count as one more failure
MOST = 20 << 30  # bytes; no file of the catalogue is larger
LATER = (408, 425, 429, 500, 502, 503, 504)  # what a server says when trying again may help
LONGEST_WAIT = 60.0  # seconds, whatever a server asks for
NO_ROOM = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS)


class DownloadError(Exception):
    """Something could not be got; the message says what, why, and what to do."""


class WrongFile(DownloadError):
    """What came is not the file that was asked for."""


class _Passing(Exception):
    """A failure after which trying again may help."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass(frozen=True)
class File:
    """A file somewhere on the net.

    Attributes:
        name: On this disk.
        urls: The source, then its mirrors.
        size: In bytes, where it is known.
        about: In bytes, where it is known only roughly.
        sha256: In hexadecimal, the whole or its first eight digits or more; None where it is not known.
        md5: Likewise, whole.
    """

    name: str
    urls: tuple[str, ...]
    size: int | None = None
    about: int | None = None
    sha256: str | None = None
    md5: str | None = None

    @property
    def expected(self) -> int | None:
        """Its size in bytes, at least roughly."""
        return self.about if self.size is None else self.size


class Patience(NamedTuple):
    """When to give up.

    Attributes:
        tries: How many failures in a row, without any progress between them.
        wait: Seconds after the first; twice as many after each further one.
        timeout: Seconds without a sign from the server.
    """

    tries: int = 4
    wait: float = 1.0
    timeout: float = 30.0


PATIENCE = Patience()


class Fetched(NamedTuple):
    """A whole and verified file.

    Attributes:
        path: Where it is.
        sha256: Of its content.
        size: In bytes.
    """

    path: Path
    sha256: str
    size: int


def fetch(
    file: File, folder: Path, *, first: str | None = None, patience: Patience = PATIENCE, quiet: bool = False
) -> Fetched:
    """Download a file, or go on with it, or find that it is there.

    Args:
        file: What to get.
        folder: Where to; it must be there, and no other process may fetch the same file into it meanwhile.
        first: The SHA-256 of the first download, for a file whose hash is not known otherwise.
        patience: When to give up.
        quiet: Without a progress bar.

    Raises:
        WrongFile: if no source has the file whose hash is known.
        DownloadError: if no source can be reached, the disk is full, or may not be written.
    """
    there = folder / file.name
    try:
        if there.is_file():
            fetched, wrong = _checked(file, there, first, quiet)
            if wrong is None:
                (folder / f"{file.name}.part.json").unlink(missing_ok=True)  # where it was stopped just after the end
                return fetched
            there.unlink()
        problems: list[DownloadError] = []
        for url in file.urls:
            try:
                return _Download(file, url, folder, first, patience, quiet).run()
            except DownloadError as problem:
                problems.append(problem)
    except OSError as error:
        raise disk_error(error, folder) from None
    kind = WrongFile if all(isinstance(each, WrongFile) for each in problems) else DownloadError
    raise kind("\n".join(dict.fromkeys(map(str, problems))))


def arrived(file: File, folder: Path) -> tuple[int, int | None]:
    """How many bytes of a file are there, and how many it has in all (None if nobody knows)."""
    for path in (folder / file.name, _part(file, folder)):
        if path.is_file():
            total = path.stat().st_size if path.name == file.name else _journal(file, folder).get("total")
            return path.stat().st_size, file.size or total or file.about
    return 0, file.expected


def disk_error(error: OSError, folder: Path) -> DownloadError:
    """What an error of the disk means to whoever reads it."""
    if error.errno in NO_ROOM:
        return DownloadError(
            f"the disk of {folder} is full: make room, and run the same command again; what has come is kept"
        )
    if error.errno in NOT_ALLOWED:
        return DownloadError(
            f"{error.filename or folder} may not be written: choose another folder with --root or XAILAB_DATA, or ask "
            "its owner"
        )
    return DownloadError(f"{error.filename or folder}: {error.strerror or error}")


def digests(path: Path, quiet: bool = True) -> tuple[str, str]:
    """SHA-256 and MD5 of a file."""
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    size = path.stat().st_size
    with open(path, "rb") as stream, _bar(f"checking {path.name}", size, 0, quiet or size < 1 << 26) as bar:
        while chunk := stream.read(1 << 20):
            sha256.update(chunk)
            md5.update(chunk)
            bar.update(len(chunk))
    return sha256.hexdigest(), md5.hexdigest()


def write_json(path: Path, content: dict) -> None:
    """Write a file as a whole, or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def read_json(path: Path) -> dict:
    """Read what `write_json` wrote; what is missing or damaged is empty."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _part(file: File, folder: Path) -> Path:
    return folder / f"{file.name}.part"


def _journal(file: File, folder: Path) -> dict:
    """What is known of a part: its url, validator and total, those of them that are not damaged."""
    kinds = {"url": str, "validator": str, "total": int}
    journal = read_json(folder / f"{file.name}.part.json")
    return {key: value for key, value in journal.items() if isinstance(value, kinds.get(key, ()))}


def _checked(file: File, path: Path, first: str | None, quiet: bool) -> tuple[Fetched, str | None]:
    """A file with its hash, and what is wrong with it, if anything."""
    sha256, md5 = digests(path, quiet)
    size, wrong = path.stat().st_size, None
    if file.size is not None and size != file.size:
        wrong = f"it has {size:,} bytes, expected {file.size:,}"
    elif file.sha256 is not None and not sha256.startswith(file.sha256.lower()):
        wrong = f"its SHA-256 is {sha256}, expected {file.sha256}{'...' if len(file.sha256) < 64 else ''}"
    elif file.md5 is not None and md5 != file.md5.lower():
        wrong = f"its MD5 is {md5}, expected {file.md5}"
    elif first is not None and sha256 != first:
        wrong = (
            f"its SHA-256 is {sha256}, but was {first} at the first download here: the source has changed it, or "
            "somebody else has (to take the new one, delete the record of the old one in records/)"
        )
    return Fetched(path, sha256, size), wrong


def _bar(what: str, total: int | None, start: int, quiet: bool) -> tqdm:
    scale = {"unit": "B", "unit_scale": True, "unit_divisor": 1000}
    return tqdm(desc=what, total=total, initial=start, leave=False, disable=True if quiet else None, **scale)


class _Download:
    """The download of one file from one source."""

    def __init__(self, file: File, url: str, folder: Path, first: str | None, patience: Patience, quiet: bool) -> None:
        self.file, self.url, self.folder, self.first = file, url, folder, first
        self.patience, self.quiet = patience, quiet
        self.part, self.journal = _part(file, folder), folder / f"{file.name}.part.json"
        self.host = urlsplit(url).hostname or url
        self.hash_known = bool(file.sha256 or file.md5 or first)
        self.pieced = self._size() > 0  # whether what is there has come in several pieces

    def run(self) -> Fetched:
        """Try until it is whole or patience ends; a wrong file in several pieces gets one fresh start."""
        for last in (False, True):
            self._complete()
            fetched, wrong = _checked(self.file, self.part, self.first, self.quiet)
            if wrong is None:
                break
            self._discard()
            if last or not self.pieced:
                raise WrongFile(f"{self.file.name} from {self.host} is not the file that was expected: {wrong}")
        whole = self.folder / self.file.name
        with open(self.part, "rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(self.part, whole)
        self.journal.unlink(missing_ok=True)
        return fetched._replace(path=whole)

    def _complete(self) -> None:
        failures, furthest = 0, self._size()
        while True:
            if self._size() and self._size() == (self.file.size or _journal(self.file, self.folder).get("total")):
                return
            try:
                return self._request()
            except _Passing as problem:
                size = self._size()
                failures = 1 if size >= furthest + PROGRESS else failures + 1
                furthest = max(furthest, size)
                if failures >= self.patience.tries:
                    kept = f"; {size:,} bytes are kept, the same command goes on from there" if size else ""
                    raise DownloadError(f"{self.file.name} from {self.host}: {problem}{kept}") from None
                wait = max(problem.wait, self.patience.wait * 2 ** (failures - 1))
                if not self.quiet:
                    again = f"{self.file.name} from {self.host}: {problem}; again in {wait:.0f} s"
                    tqdm.write(again, file=sys.stderr)
                time.sleep(wait)

    def _request(self) -> None:
        """Ask for what is missing and write what comes."""
        start, headers = self._start(), {"Accept-Encoding": "identity", "User-Agent": "xailab"}
        if start:
            headers["Range"] = f"bytes={start}-"
            if validator := self._validator():
                headers["If-Range"] = validator
        try:
            with requests.get(self.url, headers=headers, stream=True, timeout=self.patience.timeout) as answer:
                if self._answered(answer, start):
                    self._receive(answer, start if answer.status_code == 206 else 0)
        except requests.exceptions.SSLError as error:
            raise DownloadError(
                f"{self.host}: its certificate cannot be checked ({_reason(error)}); behind a company's proxy, name "
                "the file of its certificates in REQUESTS_CA_BUNDLE"
            ) from None
        except requests.exceptions.ProxyError as error:
            raise DownloadError(
                f"the proxy cannot be used ({_reason(error)}): see the variables https_proxy and no_proxy"
            ) from None
        except requests.exceptions.Timeout:
            raise _Passing(f"no answer within {self.patience.timeout:g} s") from None
        except requests.exceptions.ConnectionError as error:
            raise _Passing(
                f"it cannot be reached ({_reason(error)}): check the network, or name a proxy in https_proxy"
            ) from None
        except urllib3.exceptions.ReadTimeoutError:
            raise _Passing(f"nothing came for {self.patience.timeout:g} s") from None
        except urllib3.exceptions.HTTPError as error:
            raise _Passing(f"the connection broke ({_reason(error)})") from None
        except (requests.RequestException, ValueError) as error:  # ValueError: an address that is none, say
            raise DownloadError(f"{self.url}: {_reason(error)}") from None
        except OSError as error:
            if error.errno is not None:  # the disk's
                raise
            raise DownloadError(
                f"{self.host}: {error}; see the variables REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE"
            ) from None

    def _start(self) -> int:
        """Where to go on: at the end of what is there, if it can be told that it belongs together."""
        size = self._size()
        return size if size and (self.hash_known or self._validator()) else 0

    def _validator(self) -> str | None:
        journal = _journal(self.file, self.folder)
        return journal.get("validator") if journal.get("url") == self.url else None

    def _answered(self, answer: requests.Response, start: int) -> bool:
        """Whether the file follows; False if there is nothing left to come."""
        status = answer.status_code
        if status == 416 and start:
            if answer.headers.get("Content-Range", "").replace(" ", "") in (f"bytes*/{start}", f"*/{start}"):
                return False
            self._discard()
            raise _Passing("the server has another version of the file")
        if status in LATER:
            raise _Passing(f"the server is busy ({status})", _seconds(answer.headers.get("Retry-After")))
        if status in (401, 403):
            raise DownloadError(f"{self.url} is refused ({status}): open its source in a browser, and see what it asks")
        if status not in (200, 206):
            gone = " (not found): it may have moved" if status in (404, 410) else ": an unexpected answer"
            raise DownloadError(f"{self.url} answers {status}{gone}")
        hops = [each.url for each in (*answer.history, answer)]
        if not self.hash_known and self.url.startswith("https:") and any(not u.startswith("https:") for u in hops):
            raise DownloadError(f"{self.url} leads to {answer.url}, which is not encrypted, and no hash is known")
        if answer.headers.get("Content-Type", "").startswith("text/html"):
            raise WrongFile(
                f"{self.url} gives a web page, not a file: is there a page to sign in to this network, or has the file "
                "moved?"
            )
        return True

    def _receive(self, answer: requests.Response, start: int) -> None:
        total = self._total(answer, start)
        if start == 0:
            self._discard()
            self.part.touch()
            write_json(self.journal, {"url": self.url, "validator": _version(answer), "total": total})
        self.pieced = self.pieced or start > 0
        missing = (total or 0) - start
        if missing > shutil.disk_usage(self.folder).free:
            raise DownloadError(
                f"{self.file.name} needs {missing / 1e6:,.0f} MB more, and the disk of {self.folder} has "
                f"{shutil.disk_usage(self.folder).free / 1e6:,.0f} MB: make room, or choose another folder with --root"
            )
        most, size = total or 2 * (self.file.about or MOST), start
        with open(self.part, "ab") as stream, _bar(self.file.name, total, start, self.quiet) as bar:
            for chunk in answer.raw.stream(CHUNK, decode_content=False):
                size += len(chunk)
                if size > most:
                    break
                stream.write(chunk)
                bar.update(len(chunk))
        if size > most:
            self._discard()
            raise WrongFile(f"{self.url} sends more than {most:,} bytes, more than the file can have")
        if total is not None and size < total:
            raise _Passing(f"the connection broke after {size:,} of {total:,} bytes")

    def _total(self, answer: requests.Response, start: int) -> int | None:
        """How many bytes the file has, from the answer's headers.

        Raises:
            WrongFile: if it is not as many as the file has.
            DownloadError: if nobody could tell a whole file from a cut one.
        """
        if answer.status_code == 206:
            unit, _, rest = answer.headers.get("Content-Range", "").partition(" ")
            span, _, length = rest.partition("/")
            total = int(length) if length.isdigit() else None
            before = _journal(self.file, self.folder).get("total") if start else total
            if unit != "bytes" or span.partition("-")[0] != str(start) or total != before:
                self._discard()
                raise _Passing("the server sends something else than the rest of the file")
        else:
            length = answer.headers.get("Content-Length", "")
            total = int(length) if length.isdigit() else None
        if total is None and "chunked" not in answer.headers.get("Transfer-Encoding", "").lower():
            total = self.file.size
            if total is None and not self.hash_known:
                raise DownloadError(f"{self.url}: the server does not say how long the file is, so that it may be cut")
        if total is not None and total != (self.file.size or total):
            raise WrongFile(f"{self.url} has {total:,} bytes, expected {self.file.size:,}: the source has changed it")
        if total == 0:
            raise WrongFile(f"{self.url} is empty (0 bytes)")
        return total or self.file.size

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.is_file() else 0

    def _discard(self) -> None:
        self.part.unlink(missing_ok=True)
        self.journal.unlink(missing_ok=True)


def _version(answer: requests.Response) -> str | None:
    """What If-Range may carry: a strong ETag, or else the date."""
    etag = answer.headers.get("ETag", "")
    return etag if etag.startswith('"') else answer.headers.get("Last-Modified")


def _seconds(text: str | None) -> float:
    seconds = 0.0
    with suppress(TypeError, ValueError):
        seconds = float(text)
    return min(max(seconds, 0.0), LONGEST_WAIT)


def _reason(error: Exception) -> str:
    """The innermost reason of an error of the network, without addresses of objects."""
    reason = error
    while True:
        inner = getattr(reason, "reason", None) or next((a for a in reason.args if isinstance(a, Exception)), None)
        if not isinstance(inner, Exception):
            break
        reason = inner
    text = getattr(reason, "strerror", None) or str(reason).rpartition(">: ")[2].rpartition("): ")[2]
    return text or type(reason).__name__
