"""Make `.venv` with the exact versions of constraints.txt, or see at once that it is there.

`make` runs this before every command. It needs nothing but the standard library, and keeps to the syntax of
Python 3.6, so that an old Python gets far enough to say that it is too old. Whatever goes wrong, the first line
says what to do. On Windows: `py tools\\environment.py`.

PYTHON     the Python to use, instead of the first on the PATH that is new enough
PIP_ARGS   more arguments for pip
"""

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST = (3, 11)
CANDIDATES = ("python3", "python3.14", "python3.13", "python3.12", "python3.11")
NETWORK = ("name resolution", "NewConnectionError", "Network is unreachable", "ConnectTimeout", "ReadTimeout",
           "ProxyError", "Connection refused", "ConnectionResetError", "SSLError", "getaddrinfo")  # fmt: skip


class Stop(Exception):
    """Nothing can be done here; the message's first line says what the reader can do."""


def version_of(python):
    """(major, minor) of a Python command; None if it does not run."""
    try:
        code = "import sys; print(*sys.version_info[:2])"
        said = subprocess.run([python, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
        major, minor = said.stdout.split()
        return int(major), int(minor)
    except (OSError, subprocess.CalledProcessError, ValueError):
        return None


def find_python(wanted="", candidates=(sys.executable, *CANDIDATES)):
    """The Python command to make the environment with: the one that is wanted, or the first new enough."""
    versions = [(python, version_of(python)) for python in ([wanted] if wanted else candidates)]
    for python, version in versions:
        if version and version >= OLDEST:
            return python
    found = ", ".join("{} is {}.{}".format(p, *v) for p, v in versions if v) or f"{wanted or 'none'} does not run"
    raise Stop(
        "Install Python {}.{} or newer (python.org, or your system's packages) and run this again, or name one that "
        "you have: make lab PYTHON=/path/to/python\nFound on this machine: {}.".format(*OLDEST, found)
    )


def check_room(folder, needed, free=None):
    """Stop before a long download that would not fit (sizes in GB)."""
    free = shutil.disk_usage(folder).free / 1e9 if free is None else free
    if free < needed:
        raise Stop(
            f"Make room: the course needs about {needed} GB in {folder}, and {free:.1f} GB are free.\n"
            "PyTorch for the CPU alone takes much less; README.md says how to install it."
        )


def make_environment(python, venv):
    """A fresh virtual environment."""
    has_venv = subprocess.run([python, "-c", "import venv, ensurepip"], stderr=subprocess.DEVNULL).returncode == 0
    if has_venv and subprocess.run([python, "-m", "venv", "--clear", str(venv)]).returncode == 0:
        return
    raise Stop(
        "Install Python's venv module and run this again; on Debian and Ubuntu: sudo apt install python3-venv\n"
        f"({python} could not make {venv}.)"
    )


def python_in(venv):
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def install(venv, arguments=()):
    """pip installs the course; its progress is shown, its complaints go to pip.log."""
    log = venv / "pip.log"
    log.write_text("")
    command = [str(python_in(venv)), "-m", "pip", "install", "--disable-pip-version-check", "--log", str(log)]
    command += ["-c", "constraints.txt", "-e", ".[course,dev]"]
    with log.open("ab") as complaints:
        done = subprocess.run(command + list(arguments), cwd=str(ROOT), stderr=complaints)
    if done.returncode == 0:
        return
    words = log.read_text(errors="replace")
    if "No space left" in words:
        advice = "Make room on the disk and run this again: it was full before everything was installed."
    elif any(word in words for word in NETWORK):
        advice = "Connect to the internet and run this again: the packages could not be downloaded."
    else:
        advice = "Read what pip says below, or ask for help with it: a package could not be installed."
    errors = [line.partition("ERROR: ")[2] for line in words.splitlines() if "ERROR: " in line]
    told = list(dict.fromkeys(errors))[:3] or words.splitlines()[-1:]
    raise Stop("\n  ".join([advice, *told, f"All of pip's words are in {log}"]))


def fingerprint(venv):
    """What the environment was made from and with: if this is unchanged, there is nothing to do."""
    parts = [str(ROOT).encode()]
    parts += [(ROOT / name).read_bytes() for name in ("pyproject.toml", "constraints.txt")]
    parts += [(venv / "pyvenv.cfg").read_bytes() if (venv / "pyvenv.cfg").exists() else b""]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def main(venv=ROOT / ".venv"):
    wanted, arguments = os.environ.get("PYTHON", ""), shlex.split(os.environ.get("PIP_ARGS", ""))
    stamp = venv / "installed"
    usable = python_in(venv).exists() and (not wanted or version_of(wanted) == version_of(str(python_in(venv))))
    if usable and stamp.exists() and stamp.read_text() == fingerprint(venv):
        return 0
    try:
        python = str(python_in(venv)) if usable else find_python(wanted)
        check_room(ROOT, 4 if "cpu" in " ".join(arguments) else 8)
        if not usable:
            print("Making {} with Python {}.{}".format(venv, *version_of(python)), flush=True)
            make_environment(python, venv)
        print("Installing the course and what it needs: some minutes the first time.", flush=True)
        install(venv, arguments)
    except Stop as stop:
        print(f"\n{stop}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped half-way; the same command goes on from here.", file=sys.stderr)
        return 130
    stamp.write_text(fingerprint(venv))
    return 0


if __name__ == "__main__":
    sys.exit(main())
