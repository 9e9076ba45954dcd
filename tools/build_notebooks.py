"""Build the course: from each notebooks/source/NN_name.py a lesson and its solutions, executed.

notebooks/source/deeper/NN_name.py becomes notebooks/deeper/NN_name.ipynb in the same way.

    python tools/build_notebooks.py                build and execute everything (`make notebooks`)
    python tools/build_notebooks.py --only 01      ... one lesson
    python tools/build_notebooks.py --check        execute nothing; say where notebooks and sources differ

A source is a Python file in jupytext's percent format. Tags decide what becomes of a cell:

    exercise   a skeleton for the reader: only in notebooks/NN_name.ipynb
    solution   its solution: only in notebooks/solutions/NN_name.ipynb
    exempt     its output differs from run to run (times, say) and is not compared by the tests

Where a text has {reading}, {exercises} or {minutes NN_name}, the minutes are put in (tools/lesson_minutes.py).

Building twice gives the same files but for what the cells themselves compute: cell ids come from the sources,
and versions, times and widget states are left out. Solutions keep their text output only: their pictures are
those of the lesson.
"""

import argparse
import difflib
import hashlib
import os
import re
import sys
import time
from pathlib import Path

import jupytext
import lesson_minutes
import nbformat
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python", "file_extension": ".py", "mimetype": "text/x-python"},
}
WIDGET = "An explorer: run this cell to use it."  # notebooks/conftest.py knows this sentence too
NO_DATA = {"XAILAB_DATA": os.devnull, "TORCH_HOME": os.devnull}  # what was downloaded here is not for everybody's eyes
SECONDS, GIB, MEGABYTES = 60, 2.0, 2.5  # what one notebook may take


class Failed(Exception):
    """A lesson could not be built; the message says which cell and why."""


class OverBudget(Exception):
    """A lesson was built and takes too long or too much memory for a reader's laptop."""


class ThisPython(AsyncKernelManager):
    """Starts kernels of the Python that runs this file, whatever kernels are installed on the machine."""

    @property
    def kernel_spec(self) -> KernelSpec:
        return KernelSpec(**get_kernel_dict())


def build(source: Path, *, solved: bool) -> NotebookNode:
    """The notebook of a source, not executed: the reader's, or the solved one."""
    left_out = "exercise" if solved else "solution"
    notebook = nbformat.v4.new_notebook(metadata=METADATA)
    seen: dict[str, int] = {}
    for cell in jupytext.read(source, fmt="py:percent").cells:
        tags = cell.metadata.get("tags", [])
        if unknown := set(tags) - {"exercise", "solution", "exempt"}:
            raise Failed(f"{source.name}: unknown tag {', '.join(sorted(unknown))} in the cell\n{cell.source}")
        if left_out in tags or not cell.source.strip():
            continue
        if "exempt" in tags:
            tags = [*tags, "nbval-ignore-output"]
        code = cell.cell_type == "code"
        text = cell.source if code else lesson_minutes.fill_in(cell.source, source)
        digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:12]
        seen[digest] = seen.get(digest, 0) + 1
        new = nbformat.v4.new_code_cell if code else nbformat.v4.new_markdown_cell
        notebook.cells.append(new(text, id=f"{digest}-{seen[digest]}", metadata={"tags": tags} if tags else {}))
    return notebook


def execute(notebook: NotebookNode, folder: Path, *, pictures: bool = True) -> float:
    """Run a notebook in place, in a folder; return the kernel's largest memory in GiB (0 where unknown).

    Raises:
        Failed: a cell raised an error, wrote to stderr (a warning, say) or took too long.
    """
    memory = [0.0]

    def cell_done(**_):
        memory[0] = max(memory[0], _peak_memory(client.km.provisioner.pid))

    client = NotebookClient(
        notebook,
        kernel_manager_class=ThisPython,
        resources={"metadata": {"path": str(folder)}},
        timeout=600,
        extra_arguments=["--log-level=ERROR"],
        coalesce_streams=True,
        store_widget_state=False,
        record_timing=False,
        on_cell_executed=cell_done,
    )
    try:
        client.execute(env=os.environ | NO_DATA)
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        raise Failed(re.sub(r"\x1b\[[0-9;]*m", "", str(error))) from error
    notebook.metadata = nbformat.from_dict(METADATA)  # the kernel has added its version
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [_tidy(output, pictures) for output in cell.outputs if _kept(output, cell)]
    return memory[0]


def _peak_memory(process: int) -> float:
    status = Path(f"/proc/{process}/status")  # Linux
    peak = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(peak[1]) / 2**20 if peak else 0.0


def _kept(output: NotebookNode, cell: NotebookNode) -> bool:
    """Whether an output is saved. stderr is not: exempt cells may show progress there, others stay silent."""
    if output.output_type != "stream" or output.name != "stderr":
        return True
    if "exempt" not in cell.metadata.get("tags", []):
        raise Failed(f"this cell\n\n{cell.source}\n\nwrote to stderr:\n\n{output.text}")
    return False


def _tidy(output: NotebookNode, pictures: bool) -> NotebookNode:
    """A saved widget would be an error box, as its kernel is gone: a sentence stands in its place."""
    data = output.get("data", {})
    if "application/vnd.jupyter.widget-view+json" in data:
        output.data = NotebookNode({"text/plain": WIDGET})
    for kind in () if pictures else ("image/png", "image/jpeg"):
        data.pop(kind, None)
        output.get("metadata", {}).pop(kind, None)
    return output


def difference(source: Path, target: Path, *, solved: bool) -> str | None:
    """Where a built notebook departs from its source, in a sentence; None if nowhere. Outputs do not count."""
    folder = next(parent for parent in source.parents if parent.name == "source").parent
    name = target.relative_to(folder).as_posix()
    if not target.exists():
        return f"{name} has not been built"
    expected, found = build(source, solved=solved), nbformat.read(target, as_version=4)
    if found.metadata != expected.metadata:
        return f"{name}: its metadata was not written by the builder"
    for i, (ours, theirs) in enumerate(zip(expected.cells, found.cells, strict=False)):
        if any(ours[key] != theirs[key] for key in ("cell_type", "source", "metadata", "id")):
            pair = [[*cell.source.splitlines(), f"tags: {cell.metadata.get('tags', [])}"] for cell in (theirs, ours)]
            lines = difflib.unified_diff(*pair, "the notebook", "its source", lineterm="", n=1)
            return "\n".join([f"{name}: cell {i} differs", *lines])
        if ours.cell_type == "code" and theirs.execution_count is None:
            return f"{name}: cell {i} was never run:\n{ours.source}"
    if len(expected.cells) != len(found.cells):
        return f"{name}: {len(found.cells)} cells; the source makes {len(expected.cells)}"
    return None


def lessons(notebooks: Path) -> list[tuple[Path, Path, bool]]:
    """What is built: (source, target, solved) of each lesson and of its solutions, if it has any."""
    found = []
    folder = notebooks / "source"
    for source in [*sorted(folder.glob("[0-9][0-9]_*.py")), *sorted(folder.glob("deeper/[0-9][0-9]_*.py"))]:
        name = source.relative_to(folder).with_suffix(".ipynb")
        found.append((source, notebooks / name, False))
        if '"solution"' in source.read_text(encoding="utf-8"):
            found.append((source, notebooks / "solutions" / name, True))
    return found


def make(source: Path, target: Path, solved: bool) -> str:
    """Build, execute and save one notebook; return a line on what it took.

    Raises:
        Failed: a cell failed, or the file is too large; the old file stays.
        OverBudget: the new file is saved, and took too long or too much memory.
    """
    begin = time.perf_counter()
    notebook = build(source, solved=solved)
    target.parent.mkdir(parents=True, exist_ok=True)
    memory = execute(notebook, target.parent, pictures=not solved)
    new = target.with_suffix(".new")
    nbformat.write(notebook, new)
    size = new.stat().st_size / 1e6
    if size > MEGABYTES:
        new.unlink()
        raise Failed(f"the notebook would take {size:.1f} MB, more than {MEGABYTES}: draw fewer or smaller pictures")
    os.replace(new, target)
    seconds = time.perf_counter() - begin
    used = f"{seconds:5.1f} s  {memory:4.2f} GiB  {size:4.2f} MB"
    if seconds > SECONDS or memory > GIB:
        raise OverBudget(f"{used}  is more than {SECONDS} s or {GIB} GiB: do less, or on smaller data")
    return used


def main(arguments: list[str] | None = None, notebooks: Path = NOTEBOOKS) -> int:
    parser = argparse.ArgumentParser(description="Build the notebooks from notebooks/source.")
    parser.add_argument("--only", metavar="NN", default="", help="the lessons whose file name begins so")
    parser.add_argument("--check", action="store_true", help="say where notebooks and sources differ; write nothing")
    options = parser.parse_args(arguments)
    chosen = [job for job in lessons(notebooks) if job[0].name.startswith(options.only)]
    if not chosen:
        print(f"no lesson in {notebooks / 'source'} begins with {options.only!r}")
        return 1
    failed = False
    for source, target, solved in chosen:
        name = str(target.relative_to(notebooks).with_suffix(""))
        if options.check:
            wrong = difference(source, target, solved=solved)
            failed |= wrong is not None
            if wrong:
                print(f"{wrong}\n  -> make notebooks ONLY={source.name[:2]}")
            continue
        print(f"{name:34}", end="", flush=True)
        try:
            print(make(source, target, solved), flush=True)
        except OverBudget as error:
            failed = True
            print(error, flush=True)
        except Failed as error:
            failed = True
            print(f"FAILED; the old notebook stays as it was\n{error}\n", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
