"""Python programs that start with this folder in PYTHONPATH connect to nothing but this computer: tests and lessons.

What tries is told so, on stderr too, where a lesson that is compared must not write; `attempts` remembers it. (It
guards against accidents, not against intent: code outside of Python's own sockets is not seen.)
"""

import sys

INSIDE = {None, "", "localhost", "127.0.0.1", "::1", "0.0.0.0", "::"}
attempts: list = []


def _guard(event: str, arguments: tuple) -> None:
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else None  # a path, of a socket that is a file
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        host = arguments[0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    if host in INSIDE or host == _own_name():
        return
    attempts.append(host)
    print(f"offline: a connection to {host} was refused", file=sys.stderr)
    raise PermissionError(f"tests and lessons connect to this computer only, not to {host}")


def _own_name() -> str:
    import socket

    return socket.gethostname()


sys.addaudithook(_guard)
