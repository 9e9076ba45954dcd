"""The guard of tests/offline holds: in tests, in processes that they start, and in the notebooks' kernels."""

import socket
import urllib.request

import build_notebooks as builder
import pytest
import sitecustomize
from nbformat.v4 import new_code_cell, new_notebook

OUTSIDE = "192.0.2.1"  # an address that is nobody's (RFC 5737)
TRY = f"import socket\nsocket.create_connection(('{OUTSIDE}', 80), 0.1)"


@pytest.fixture
def forgotten():
    """What a test here tries on purpose is not held against it."""
    before = len(sitecustomize.attempts)
    yield
    del sitecustomize.attempts[before:]


@pytest.mark.parametrize(
    "attempt",
    [
        lambda: socket.create_connection((OUTSIDE, 80), 0.1),
        lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"", (OUTSIDE, 53)),
        lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendmsg([b""], [], 0, (OUTSIDE, 53)),
        lambda: socket.getaddrinfo("example.org", 80),
        lambda: socket.gethostbyname("example.org"),
        lambda: urllib.request.urlopen("http://example.org", timeout=0.1),
    ],
)
def test_a_connection_is_refused_and_remembered(attempt, forgotten, capsys):
    before = len(sitecustomize.attempts)
    with pytest.raises(OSError, match="connect to this computer only"):
        attempt()
    assert len(sitecustomize.attempts) == before + 1 and "was refused" in capsys.readouterr().err


def test_this_computer_is_not_the_outside():
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        (TRY, "connect to this computer only"),
        (f"try:\n    exec({TRY!r})\nexcept OSError:\n    pass", "wrote to stderr"),
    ],
)
def test_a_lesson_that_connects_fails_even_if_it_hides_it(cell, said, tmp_path):
    with pytest.raises(builder.Failed, match=said):
        builder.execute(new_notebook(cells=[new_code_cell(cell)]), tmp_path)
