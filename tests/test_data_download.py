"""The command `python data_download.py`, and that nothing else asks the network for anything."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import lab
import pytest
from catalogue_server import BRIEF, Served, serving, wait_for
from test_catalogue import PHOTOS, zipped

import data_download
from xailab.datasets.catalogue import Entry, File, command, download, entries, state

ROOT = Path(__file__).resolve().parents[1]
ARCHIVE = zipped(PHOTOS)


@pytest.fixture
def web(monkeypatch):
    """What a server has, and a catalogue of it."""
    monkeypatch.setattr(download, "RETRIES", BRIEF)
    with serving() as (address, site):
        site["/photos.zip"], site["/birds.zip"] = Served(ARCHIVE), Served(zipped({"birds/1": b"one"}))
        photos = (File("photos.zip", (f"{address}/photos.zip",), size=len(ARCHIVE)),)
        birds = (File("birds.zip", (f"{address}/birds.zip",), about=1_000),)
        asks = {"terms": "Birds are not for sale", "hint": "Look out of the window."}
        catalogue = {
            "photos": Entry(
                "photos", "Photographs", ("02", "03"), "CC0", "https://photos.example", photos, ("photos",)
            ),
            "birds": Entry("birds", "Birds", ("07",), "CC BY", "https://birds.example", birds, ("birds",), **asks),
        }
        monkeypatch.setattr(command, "entries", lambda: catalogue)
        yield site, catalogue


def run(root, *arguments):
    return command.main([*map(str, arguments), "--root", str(root)])


def test_the_list_says_what_there_is_and_what_is_here(web, tmp_path, capsys):
    assert run(tmp_path) == 0
    table = capsys.readouterr().out
    assert re.search(r"^photos +02 03 +0\.4 MB +CC0 +127\.0\.0\.1 +not here$", table, re.MULTILINE)
    assert re.search(r"^birds +07 +about 0\.0 MB +CC BY +127\.0\.0\.1 +not here$", table, re.MULTILINE)
    assert f"The data lies in {tmp_path}" in table
    assert run(tmp_path, "photos") == 0
    assert run(tmp_path) == 0
    assert re.search(r"^photos .* here and verified$", capsys.readouterr().out, re.MULTILINE)
    web[0]["/photos.zip"].cuts, web[0]["/photos.zip"].ranges = [200_000] * 3, False
    (tmp_path / "photos").rename(tmp_path / "gone")
    assert run(tmp_path, "photos") == command.FAILED
    assert run(tmp_path) == 0
    assert re.search(r"^photos .* part \(0\.2 MB of 0\.4 MB\)$", capsys.readouterr().out, re.MULTILINE)


def test_the_real_list_fits_and_names_all(tmp_path):
    table = command.listing(tmp_path)
    assert all(re.search(rf"^{name} .* not here$", table, re.MULTILINE) for name in entries())
    rows = table.split("\n\n")[0].splitlines()  # below them stands a path, of any length
    assert max(map(len, rows)) <= 140


def test_names_get_things_and_a_second_time_does_nothing(web, tmp_path, capsys):
    assert run(tmp_path, "photos") == 0
    assert capsys.readouterr().out == "photos: here and verified\n"
    assert run(tmp_path, "photos") == 0
    assert capsys.readouterr().out == "photos: here and verified already\n"


def test_a_licence_must_be_accepted(web, tmp_path, capsys):
    assert run(tmp_path, "birds") == command.WRONG_USE
    said = capsys.readouterr().err
    assert "Birds are not for sale" in said and "--accept-licence" in said and "window" not in said
    assert not list(tmp_path.iterdir())
    assert run(tmp_path, "birds", "--accept-licence") == 0


def test_what_fails_does_not_stop_the_rest(web, tmp_path, capsys):
    web[0]["/birds.zip"].statuses = [404]
    assert run(tmp_path, "birds", "photos", "--accept-licence") == command.FAILED
    said = capsys.readouterr()
    assert "photos: here and verified" in said.out
    assert "404" in said.err and "Look out of the window." in said.err and "Not here: birds" in said.err


def test_lessons_and_all(web, tmp_path, capsys):
    assert run(tmp_path, "--lesson", "3", "--dry-run") == 0
    assert re.findall(r"^(\w+):", capsys.readouterr().out, re.MULTILINE) == ["photos"]
    assert run(tmp_path, "--all", "--dry-run", "photos") == 0
    assert re.findall(r"^(\w+):", capsys.readouterr().out, re.MULTILINE) == ["photos", "birds"]
    assert run(tmp_path, "--lesson", "08") == command.WRONG_USE
    assert "there is something for 02, 03, 07" in capsys.readouterr().err


def test_what_is_in_the_whole_is_not_fetched_twice(tmp_path, capsys):
    assert command.main(["--all", "--dry-run", "--root", str(tmp_path)]) == 0
    named = re.findall(r"^([\w/.-]+): ", capsys.readouterr().out, re.MULTILINE)
    assert "mvtec-ad" in named and not [name for name in named if name.startswith("mvtec-ad/")]
    assert command.main(["--lesson", "08", "--dry-run", "--root", str(tmp_path)]) == 0
    named = re.findall(r"^([\w/.-]+): ", capsys.readouterr().out, re.MULTILINE)
    assert [name for name in named if "mvtec" in name] == ["mvtec-ad/hazelnut"], "a lesson does not need 5 GB"


def test_a_dry_run_touches_nothing(web, tmp_path, capsys):
    assert run(tmp_path / "data", "photos", "birds", "--dry-run") == 0
    plan = capsys.readouterr().out
    assert f"{web[1]['photos'].files[0].urls[0]}\n" in plan and "Birds are not for sale" in plan
    assert not list(tmp_path.iterdir()) and not web[0]["/photos.zip"].asked
    run(tmp_path, "photos")
    assert run(tmp_path, "photos", "--dry-run") == 0
    assert "nothing to do" in capsys.readouterr().out


def test_unknown_names_are_answered_with_the_known(web, tmp_path, capsys):
    assert run(tmp_path, "photos", "dogs") == command.WRONG_USE
    assert capsys.readouterr().err == "there is no dogs; there are photos, birds\n"
    assert not web[0]["/photos.zip"].asked


def test_verify(web, tmp_path, capsys):
    assert run(tmp_path, "--verify") == 0, "nothing is here: nothing is wrong"
    assert run(tmp_path, "--verify", "photos") == command.FAILED
    assert "not downloaded" in capsys.readouterr().out
    run(tmp_path, "photos")
    (tmp_path / "birds").mkdir()
    assert run(tmp_path, "--verify") == 0
    said = capsys.readouterr().out
    assert "photos: verified" in said and "birds" not in said, "what is somebody else's is not compared"
    for photo in (tmp_path / "photos").iterdir():
        photo.write_bytes(bytes(36_000))
    (tmp_path / "photos" / "0.jpg").unlink()
    assert run(tmp_path, "--verify") == command.FAILED
    said = capsys.readouterr().out
    assert "photos: not well" in said and said.count("missing or changed") == 10
    assert run(tmp_path) == 0
    assert "damaged (10 of 10 files" in capsys.readouterr().out
    assert run(tmp_path, "photos") == 0
    assert run(tmp_path, "--verify", "photos") == 0


def test_verify_looks_at_what_is_here_and_at_each_place_once(web, tmp_path, capsys):
    site, catalogue = web
    site["/a.zip"], site["/all.zip"] = Served(zipped({"a/1": b"a"})), Served(zipped({"a/1": b"a", "b/1": b"b"}))
    url = catalogue["photos"].files[0].urls[0]
    for name, places in (("all", ("mv/a", "mv/b")), ("a", ("mv/a",)), ("b", ("mv/b",))):
        files = (File(f"{name}.zip", (url.replace("photos", name),)),)
        catalogue[name] = Entry(name, "", ("08",), "", "", files, places, into="mv")
    verified = lambda: re.findall(r"^(\w+): verified$", capsys.readouterr().out, re.MULTILINE)  # noqa: E731
    assert run(tmp_path, "a") == 0
    assert run(tmp_path, "--verify") == 0 and verified() == ["a"]
    assert run(tmp_path, "--verify", "all") == command.FAILED, "what was named must be here"
    assert run(tmp_path, "all") == 0
    capsys.readouterr()
    assert run(tmp_path, "--verify") == 0 and verified() == ["all"]
    (tmp_path / "mv/b/1").write_bytes(b"c")
    assert run(tmp_path, "--verify") == command.FAILED


def test_a_home_is_found_behind_an_equals_sign_too(web, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert command.main(["photos", "--root=~/data"]) == 0
    assert [each.name for each in tmp_path.iterdir()] == ["home"]
    assert command.main(["--root=~nobody-at-all/data"]) == command.WRONG_USE
    monkeypatch.setenv("XAILAB_DATA", "~nobody-at-all/data")
    assert command.main([]) == command.WRONG_USE
    assert capsys.readouterr().err.count("nobody's home is known") == 2


def test_a_folder_that_cannot_be_looked_into_is_said(web, tmp_path, capsys):
    for arguments in ([], ["--verify"], ["photos"], ["photos", "--dry-run"]):
        assert run(tmp_path / ("x" * 300), *arguments) == command.FAILED
        assert re.search(r"x{300}.*: File name too long\n$", capsys.readouterr().err)


def test_the_lab_sees_the_data_that_the_command_line_sees(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XAILAB_DATA", "mine")
    assert lab.data_folder() == str(tmp_path / "mine")
    monkeypatch.setenv("XAILAB_DATA", "")
    assert lab.data_folder() == str(ROOT / "data")


INTERRUPTIBLE = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started the tests may have had it ignored
from xailab.datasets.catalogue import Entry, File, command
files = (File("photos.zip", (sys.argv[1],), size=int(sys.argv[3])),)
entry = Entry("photos", "", ("02",), "", "", files, ("photos",))
command.entries = lambda: {"photos": entry}
sys.exit(command.main(["photos", "--root", sys.argv[2]]))
"""


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
@pytest.mark.parametrize("number, code", [(signal.SIGINT, command.INTERRUPTED), (signal.SIGKILL, -signal.SIGKILL)])
def test_interrupted_in_the_middle_it_goes_on_later(web, tmp_path, number, code):
    served = web[0]["/photos.zip"]
    served.cuts, served.stall = [200_000], 60.0
    arguments = [web[1]["photos"].files[0].urls[0], str(tmp_path), str(len(ARCHIVE))]
    command_line = [sys.executable, "-c", INTERRUPTIBLE, *arguments]
    process = subprocess.Popen(command_line, stderr=subprocess.PIPE, text=True)
    part = tmp_path / "downloads" / "photos.zip.part"
    try:
        wait_for(lambda: process.poll() is not None or (part.exists() and part.stat().st_size > 100_000), 60)
        process.send_signal(number)
        said = process.communicate(timeout=60)[1]
    finally:
        process.kill()
    assert process.returncode == code, said
    if number == signal.SIGINT:
        assert "the same command goes on from there" in said and "Traceback" not in said
    there = part.read_bytes()
    assert len(there) > 100_000 and ARCHIVE.startswith(there)
    assert state(web[1]["photos"], tmp_path).startswith("part (")
    assert run(tmp_path, "photos") == 0
    assert served.asked[1]["Range"] == f"bytes={len(there)}-"
    assert state(web[1]["photos"], tmp_path) == "here and verified"


@pytest.mark.parametrize("place", ["weights/resnet18_imagenet.safetensors", "hub/checkpoints/resnet18-f37072fd.pth"])
def test_weights_that_the_zoo_finds_elsewhere_are_listed(tmp_path, monkeypatch, place):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    line = re.compile(r"^weights/resnet18 .* (here, not verified|not here)$", re.MULTILINE)
    assert line.search(command.listing(tmp_path, data_download.elsewhere))[1] == "not here"
    (tmp_path / place).parent.mkdir(parents=True)
    (tmp_path / place).touch()
    assert line.search(command.listing(tmp_path, data_download.elsewhere))[1] == "here, not verified"


def test_the_script_runs_from_anywhere(tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "data_download.py", "--help"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0 and "Exit codes" in done.stdout, done.stderr


OFFLINE = """
import importlib, pkgutil, socket

def refuse(*arguments, **options):
    raise AssertionError(f"a connection is made: {arguments}")

for name in ("connect", "connect_ex", "sendto", "bind"):
    setattr(socket.socket, name, refuse)
socket.getaddrinfo = socket.create_connection = refuse

import xailab
names = [each.name for each in pkgutil.walk_packages(xailab.__path__, "xailab.") if not each.name.endswith("__main__")]
for name in names:
    importlib.import_module(name)
assert {"xailab.datasets.catalogue.download", "xailab.lessons.padim", "xailab.models.zoo"} <= set(names), names
"""


def test_importing_xailab_and_all_its_modules_asks_the_network_for_nothing(tmp_path):
    done = subprocess.run([sys.executable, "-c", OFFLINE], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir()), "importing writes files"
