"""Copy the lessons into work/, where the reader may change them, and open JupyterLab there (`make lab`).

A reader's edits are never overwritten. What counts as an edit is a change of the cells' text: running a notebook,
which changes only outputs, does not. What was copied is remembered in work/.copied.json, so that next time

    the copy is missing                                    -> new: it is copied
    the copy has the original's cells                      -> nothing happens
    the copy is as it was copied, the original is newer    -> updated: it is copied again
    the reader has changed the copy                        -> kept
    ... and the original is newer too                      -> kept, and the original is put beside it as *.new.ipynb

Arguments are passed on to JupyterLab: make lab ARGS="--no-browser --port 8899".
"""

import argparse
import hashlib
import json
import os
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SAID = {
    "new": "new",
    "updated": "updated to the newer original",
    "kept": "kept with your changes",
    "beside": "kept with your changes; the newer original lies beside it as *.new.ipynb",
}


def cells_of(notebook: Path) -> str:
    """A digest of the text of a notebook's cells; of its bytes, if it cannot be read as a notebook."""
    content = notebook.read_bytes()
    try:
        cells = [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(content)["cells"]]
        content = json.dumps(cells).encode()
    except (ValueError, KeyError, TypeError):
        pass
    return hashlib.sha256(content).hexdigest()


def copy_one(original: Path, copy: Path, remembered: str | None) -> tuple[str, str | None]:
    """Bring one copy up to date; return what was done, and what to remember of it."""
    newest = cells_of(original)
    if not copy.exists():
        state = "new"
    elif (mine := cells_of(copy)) == newest:
        return "unchanged", newest
    elif remembered == newest:
        return "kept", remembered
    elif remembered == mine:
        state = "updated"
    else:
        return "beside", remembered
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(original, copy)
    return state, newest


def copy_lessons(originals: Path, work: Path) -> dict[str, str]:
    """Bring all copies up to date; return what was done with each (new, unchanged, updated, kept, beside)."""
    memory = work / ".copied.json"
    try:
        remembered = dict(json.loads(memory.read_text()))
    except (OSError, ValueError, TypeError):  # then every changed copy counts as the reader's own
        remembered = {}
    states = {}
    folders = ("", "deeper/", "solutions/", "solutions/deeper/")
    for original in (path for folder in folders for path in sorted(originals.glob(f"{folder}[0-9]*.ipynb"))):
        copy = work / original.relative_to(originals)
        name = copy.relative_to(work).as_posix()
        states[name], remembered[name] = copy_one(original, copy, remembered.get(name))
        if states[name] == "beside":
            beside = copy.with_suffix(".new.ipynb")
            name = beside.relative_to(work).as_posix()
            if remembered.get(name) != cells_of(original):  # once; who has merged it by hand may delete it
                _, remembered[name] = copy_one(original, beside, remembered.get(name))
    work.mkdir(parents=True, exist_ok=True)
    memory.write_text(json.dumps(remembered, indent=1))
    return states


def report(states: dict[str, str]) -> str:
    """Lines that say what was done, where something was."""
    lines = ["Your copies of the lessons are in work/; change them as you like."]
    for state, words in SAID.items():
        if names := [name for name in states if states[name] == state]:
            lines.append(f"  {words}: {', '.join(names)}")
    return "\n".join(lines)


def data_folder() -> str:
    """Where the data lies, wherever the notebooks run: ``$XAILAB_DATA`` as seen from here, or data beside them."""
    return os.path.abspath(os.path.expanduser(os.environ.get("XAILAB_DATA") or ROOT / "data"))


def main() -> None:
    parser = argparse.ArgumentParser(description="Open the course in JupyterLab.", add_help=False)
    parser.add_argument("--work", type=Path, default=ROOT / "work", help=argparse.SUPPRESS)
    options, arguments = parser.parse_known_args()
    print(report(copy_lessons(ROOT / "notebooks", options.work)), flush=True)

    # tools/jupyter holds JupyterLab's settings for the course: no news, no look for updates.
    settings = [str(ROOT / "tools" / "jupyter"), os.environ.get("JUPYTER_CONFIG_PATH")]
    os.environ["JUPYTER_CONFIG_PATH"] = os.pathsep.join(filter(None, settings))
    os.environ["XAILAB_DATA"] = data_folder()  # the notebooks run in folders of their own
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"  # this environment's kernel, not another one of the user's
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        arguments.append("--allow-root")  # in a container
    os.chdir(options.work)
    from jupyterlab.labapp import main as jupyterlab

    sys.exit(jupyterlab(["--LabApp.default_url=/lab/tree/00_welcome.ipynb", *arguments]))


if __name__ == "__main__":
    main()
