"""The set-up: what is said where something is missing, and that a second start does nothing."""

import ast
import shutil
import subprocess
import sys
import time
import venv as virtual
from pathlib import Path

import environment
import pytest
from environment import Stop

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the stand-ins are shell scripts")


def script(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def first_line(stop) -> str:
    return str(stop.value).splitlines()[0]


def test_the_file_can_be_read_by_an_old_python():
    ast.parse((ROOT / "tools/environment.py").read_text(), feature_version=(3, 6))


def test_the_first_python_that_is_new_enough_is_taken(tmp_path):
    old, new = script(tmp_path / "old", "echo 3 9"), script(tmp_path / "new", "echo 3 12")
    broken = script(tmp_path / "broken", "echo not a version; exit 127")
    assert environment.find_python(candidates=(old, broken, str(tmp_path / "missing"), new)) == new


def test_python_too_old(tmp_path):
    with pytest.raises(Stop) as stop:
        environment.find_python(candidates=(script(tmp_path / "old", "echo 3 9"),))
    assert first_line(stop).startswith("Install Python 3.11 or newer")
    assert "old is 3.9" in str(stop.value)


def test_a_wanted_python_is_taken_or_refused(tmp_path):
    assert environment.find_python(wanted=sys.executable) == sys.executable
    with pytest.raises(Stop, match="nowhere does not run"):
        environment.find_python(wanted=str(tmp_path / "nowhere"))


def test_no_room(tmp_path):
    environment.check_room(tmp_path, 8, free=8.1)
    with pytest.raises(Stop) as stop:
        environment.check_room(tmp_path, 8, free=2.5)
    assert first_line(stop) == f"Make room: the course needs about 8 GB in {tmp_path}, and 2.5 GB are free."


def test_no_venv_module(tmp_path):
    with pytest.raises(Stop) as stop:
        environment.make_environment(script(tmp_path / "python", "exit 1"), tmp_path / "venv")
    assert "sudo apt install python3-venv" in first_line(stop)


@pytest.mark.parametrize(
    ("complaint", "said"),
    [
        ("connection broken by 'NewConnectionError(...)'\nERROR: No matching distribution", "Connect to the internet"),
        ("ERROR: Could not install packages: [Errno 28] No space left on device", "Make room on the disk"),
        ("ERROR: No matching distribution found for torch", "Read what pip says below"),
        ("/usr/bin/python: No module named pip", "Read what pip says below"),
    ],
)
def test_pip_fails(tmp_path, complaint, said):
    script(environment.python_in(tmp_path), f"cat >&2 << END\n{complaint}\nEND\nexit 1")
    with pytest.raises(Stop) as stop:
        environment.install(tmp_path)
    assert first_line(stop).startswith(said)
    assert str(tmp_path / "pip.log") in str(stop.value)
    assert complaint.rpartition("ERROR: ")[2] in str(stop.value)  # pip's own words follow


def test_pip_is_asked_for_the_exact_versions(tmp_path):
    python = environment.python_in(tmp_path)
    script(python, f'echo "$PWD" "$@" > "{tmp_path}/asked"')
    environment.install(tmp_path, ["--extra", "argument"])
    asked = (tmp_path / "asked").read_text()
    assert asked.startswith(f"{ROOT} -m pip install")
    assert "-c constraints.txt -e .[course,dev] --extra argument" in asked


@pytest.fixture
def pip_works(tmp_path, monkeypatch):
    """An environment in which pip only counts how often it was called."""
    venv = tmp_path / "a folder" / ".venv"
    calls = []
    monkeypatch.setenv("PYTHON", sys.executable)
    monkeypatch.setenv("PIP_ARGS", "")
    monkeypatch.setattr(environment, "install", lambda venv, arguments: calls.append(arguments))
    monkeypatch.setattr(environment, "check_room", lambda folder, needed: None)
    monkeypatch.setattr(environment, "make_environment", lambda python, folder: virtual.create(folder, symlinks=True))
    return venv, calls


def test_a_second_start_does_nothing(pip_works, monkeypatch):
    venv, calls = pip_works
    assert environment.main(venv) == 0
    assert environment.python_in(venv).exists()
    begin = time.perf_counter()
    assert environment.main(venv) == 0
    assert time.perf_counter() - begin < 2
    assert calls == [[]]


def test_changed_requirements_are_installed(pip_works, monkeypatch, tmp_path):
    venv, calls = pip_works
    assert environment.main(venv) == 0
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "constraints.txt").write_text("numpy==1")
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    monkeypatch.setenv("PIP_ARGS", "--one 'two three'")
    assert environment.main(venv) == 0
    assert calls == [[], ["--one", "two three"]]


def test_an_install_that_failed_is_tried_again(pip_works, monkeypatch, capsys):
    venv, calls = pip_works

    def fails(venv, arguments):
        raise Stop("Connect to the internet")

    with monkeypatch.context() as offline:
        offline.setattr(environment, "install", fails)
        assert environment.main(venv) == 1
    assert "Connect to the internet" in capsys.readouterr().err
    assert environment.main(venv) == 0
    assert len(calls) == 1


def test_make_says_what_to_do_without_python(tmp_path):
    make = shutil.which("make")
    if make is None:
        pytest.skip("make is not installed")
    for tool in ("sh", "echo"):
        (tmp_path / tool).symlink_to(shutil.which(tool))
    command = [make, "environment", "PYTHON=", f"SHELL={tmp_path / 'sh'}"]
    done = subprocess.run(command, cwd=ROOT, env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode != 0
    assert done.stdout.startswith("Install Python 3.11 or newer")


def test_make_help_lists_the_commands():
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for command in ("help", "lab", "test", "notebooks", "format", "clean"):
        assert f"  make {command} " in listed
