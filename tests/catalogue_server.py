"""A server on the loopback that fails as servers do, for the tests of the catalogue."""

import socket
import struct
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import urllib3

BRIEF = urllib3.Retry(2, status_forcelist=(503,), raise_on_status=False)  # without a wait


@dataclass
class Served:
    """What the server gives at a path, and how it fails.

    Attributes:
        data: The content.
        headers: Sent with it.
        ranges: Whether it answers Range requests.
        cuts: Bytes of the body after which each next answer breaks off; None lets one pass.
        statuses: What the next answers say instead.
        length: What Content-Length claims, None for none.
        chunked: Whether the body comes in chunks, and whether the last one comes.
        stall: Seconds without a byte, after the first cut's bytes.
        shift: How many bytes too early a range begins.
    """

    data: bytes = b""
    headers: dict = field(default_factory=lambda: {"ETag": '"1"'})
    ranges: bool = True
    cuts: list = field(default_factory=list)
    statuses: list = field(default_factory=list)
    length: int | None = -1
    chunked: bool = False
    stall: float = 0.0
    shift: int = 0
    asked: list = field(default_factory=list)
    sent: int = 0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        served = self.server.site[self.path]
        served.asked.append(dict(self.headers))
        if served.statuses and (status := served.statuses.pop(0)) is not None:
            self.send_response(status)
            for name, value in served.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        start, total = self._start(served), len(served.data)
        if start is not None and start >= total:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{total}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self.send_response(200 if start is None else 206)
        if start is not None:
            self.send_header("Content-Range", f"bytes {start - served.shift}-{total - 1}/{total}")
        body = served.data[(start or 0) - (served.shift if start else 0) :]
        for name, value in served.headers.items():
            self.send_header(name, value)
        if served.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif served.length is not None:
            self.send_header("Content-Length", str(len(body) if served.length < 0 else served.length))
        self.end_headers()
        self._send(served, body)

    def end_headers(self):
        self.send_header("Connection", "close")
        super().end_headers()

    def _start(self, served):
        """Where a range begins, None if the whole is wanted."""
        wanted, condition = self.headers.get("Range"), self.headers.get("If-Range")
        if not wanted or not served.ranges or (condition and condition not in served.headers.values()):
            return None
        return int(wanted.removeprefix("bytes=").partition("-")[0])

    def _send(self, served, body):
        cut = served.cuts.pop(0) if served.cuts else None
        body = body if cut is None else body[:cut]
        try:
            for i in range(0, len(body), 1 << 14):
                piece = body[i : i + (1 << 14)]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if served.chunked else piece)
                served.sent += len(piece)
            if cut is None:
                self.wfile.write(b"0\r\n\r\n" if served.chunked else b"")
            elif served.stall:
                self.wfile.flush()
                self.server.closing.wait(served.stall)
            elif cut % 2:  # a reset, where an even number of bytes ends the connection in good order
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            pass  # the client has gone


@contextmanager
def serving():
    """The address of a server, and what it serves by path."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads, server.site, server.closing = True, {}, threading.Event()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", server.site
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


def closed_port() -> int:
    """A port of the loopback where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def wait_for(condition, seconds: float = 30.0):
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)
    return found
