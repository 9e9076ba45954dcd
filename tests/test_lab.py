"""`make lab`: the reader's copies, and a JupyterLab that answers."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import lab
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

import xailab

ROOT = Path(__file__).resolve().parents[1]


def write(path: Path, *sources: str, output: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    outputs = [new_output("stream", text=output)] if output else []
    nbformat.write(new_notebook(cells=[new_code_cell(source, outputs=outputs) for source in sources]), path)


def sources(path: Path) -> list[str]:
    return [cell.source for cell in nbformat.read(path, as_version=4).cells]


@pytest.fixture
def course(tmp_path):
    """A course of one lesson and its solutions, copied once."""
    write(tmp_path / "notebooks/01_a.ipynb", "original")
    write(tmp_path / "notebooks/solutions/01_a.ipynb", "solution")
    copy = lambda: lab.copy_lessons(tmp_path / "notebooks", tmp_path / "work")  # noqa: E731
    assert copy() == {"01_a.ipynb": "new", "solutions/01_a.ipynb": "new"}
    return tmp_path / "notebooks/01_a.ipynb", tmp_path / "work/01_a.ipynb", copy


def test_first_copy(course):
    _, mine, _ = course
    assert sources(mine) == ["original"]
    assert sources(mine.parent / "solutions/01_a.ipynb") == ["solution"]


def test_nothing_changed(course):
    assert course[2]() == {"01_a.ipynb": "unchanged", "solutions/01_a.ipynb": "unchanged"}


def test_who_deletes_the_newer_original_is_not_given_it_again(course):
    original, mine, copy = course
    write(mine, "my own")
    write(original, "newer")
    assert copy()["01_a.ipynb"] == "beside"
    beside = mine.with_suffix(".new.ipynb")
    beside.unlink()
    copy()
    assert not beside.exists()
    write(original, "newest")
    copy()
    assert sources(beside) == ["newest"]


def test_running_a_notebook_is_no_edit(course):
    original, mine, copy = course
    write(mine, "original", output="the reader's own run")
    before = mine.read_bytes()
    assert copy()["01_a.ipynb"] == "unchanged"
    assert mine.read_bytes() == before
    write(original, "newer")
    assert copy()["01_a.ipynb"] == "updated"
    assert sources(mine) == ["newer"]


def test_an_edit_is_kept(course):
    _, mine, copy = course
    write(mine, "edited")
    assert [copy()["01_a.ipynb"] for _ in range(2)] == ["kept", "kept"]
    assert sources(mine) == ["edited"]
    assert not mine.with_suffix(".new.ipynb").exists()


def test_an_edit_is_kept_beside_a_newer_original(course):
    original, mine, copy = course
    beside = mine.with_suffix(".new.ipynb")
    write(mine, "edited")
    for newer in ["newer", "newest"]:
        write(original, newer)
        assert [copy()["01_a.ipynb"] for _ in range(2)] == ["beside", "beside"]
        assert (sources(mine), sources(beside)) == (["edited"], [newer])
    write(beside, "edited too")
    write(original, "newest of all")
    assert copy()["01_a.ipynb"] == "beside"
    assert (sources(mine), sources(beside)) == (["edited"], ["edited too"])


def test_a_reader_who_takes_over_the_newer_original_is_up_to_date(course):
    original, mine, copy = course
    write(mine, "edited")
    write(original, "newer")
    copy()
    mine.with_suffix(".new.ipynb").rename(mine)
    assert copy()["01_a.ipynb"] == "unchanged"


def test_a_file_of_unknown_origin_is_kept(course):
    _, mine, copy = course
    (mine.parent / ".copied.json").unlink()
    write(mine, "from somewhere")
    assert copy()["01_a.ipynb"] == "beside"
    assert sources(mine) == ["from somewhere"]


@pytest.mark.parametrize("content", [b"", b"{ half a note", b"[1, 2]", b"\xff\xfe"])
def test_a_broken_copy_is_kept(course, content):
    _, mine, copy = course
    mine.write_bytes(content)
    assert copy()["01_a.ipynb"] == "kept"
    assert mine.read_bytes() == content


def test_a_deleted_copy_comes_back(course):
    _, mine, copy = course
    mine.unlink()
    assert copy()["01_a.ipynb"] == "new"


def test_a_damaged_memory_stops_nothing(course):
    _, mine, copy = course
    write(mine, "edited")
    (mine.parent / ".copied.json").write_text("{")
    assert copy()["01_a.ipynb"] == "beside"
    assert sources(mine) == ["edited"]


def test_the_report_names_what_was_done():
    said = lab.report({"00.ipynb": "unchanged", "01.ipynb": "new", "02.ipynb": "beside", "03.ipynb": "new"})
    assert "new: 01.ipynb, 03.ipynb" in said
    assert "newer original lies beside it as *.new.ipynb: 02.ipynb" in said
    assert "00.ipynb" not in said


# JupyterLab itself

TOKEN = "a-token-for-the-test"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """`make lab`, as a reader starts it, with its copies in a folder of the test's."""
    work = tmp_path_factory.mktemp("lab") / "work"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = f"--no-browser --ip 127.0.0.1 --port {port} --IdentityProvider.token={TOKEN} --work {work}"
    log = (work.parent / "log").open("w+")
    command = ["make", "lab", f"VENV={sys.prefix}", f"ARGS={arguments}"]
    if not shutil.which("make"):
        command = [sys.executable, str(ROOT / "tools/lab.py"), *arguments.split()]
    process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                get(f"{address}/api/status")
                break
            except OSError:
                assert process.poll() is None, Path(log.name).read_text()
                time.sleep(0.25)
        yield address, work
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)
        log.close()
    with pytest.raises(OSError):
        get(f"{address}/api/status")


def get(address: str, **data) -> bytes:
    body = json.dumps(data).encode() if data else None
    request = urllib.request.Request(address, data=body, headers={"Authorization": f"token {TOKEN}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read()


def test_the_page_opens_at_the_welcome(server):
    address, _ = server
    with urllib.request.urlopen(f"{address}/?token={TOKEN}", timeout=30) as page:
        assert page.url.partition("?")[0].endswith("/lab/tree/00_welcome.ipynb")
        html = page.read().decode()
    assert "<title>JupyterLab</title>" in html
    settings = json.loads(html.partition('id="jupyter-config-data"')[2].partition(">")[2].partition("</script>")[0])
    assert settings["news"] == {"disabled": True}
    assert "@jupyterlab/apputils-extension:announcements" in str(settings["disabledExtensions"])


def test_the_lessons_are_there(server):
    address, work = server
    listed = {entry["name"] for entry in json.loads(get(f"{address}/api/contents/"))["content"]}
    originals = {path.name for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert originals <= listed
    assert originals <= {path.name for path in work.iterdir()}


def test_strangers_are_not_let_in(server):
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"{server[0]}/api/kernels", timeout=30)


def test_a_kernel_answers(server):
    websocket = pytest.importorskip("websocket")
    address, _ = server
    kernel = json.loads(get(f"{address}/api/kernels", name="python3"))["id"]
    channel = f"{address.replace('http', 'ws')}/api/kernels/{kernel}/channels?token={TOKEN}"
    connection = websocket.create_connection(channel, timeout=60)
    code = "import sys, xailab; print(1 + 1, xailab.__version__, sys.prefix)"
    header = {"msg_id": "1", "msg_type": "execute_request", "username": "", "session": "test", "version": "5.3"}
    content = {"code": code, "silent": False, "store_history": False, "allow_stdin": False, "stop_on_error": True}
    message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
    connection.send(json.dumps(message))
    printed = ""
    while not printed.endswith("\n"):
        answer = json.loads(connection.recv())
        assert answer["msg_type"] != "error", answer["content"]
        printed += answer["content"].get("text", "") if answer["msg_type"] == "stream" else ""
    connection.close()
    assert printed == f"2 {xailab.__version__} {sys.prefix}\n"
