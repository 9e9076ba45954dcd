"""The builder of the notebooks, on a small course of its own."""

import json

import build_notebooks as builder
import nbformat
import pytest

SOURCE = """
# %% [markdown]
# # A lesson
#
# with $x^2$ in it

# %%
print("one")
print("two")

# %% tags=["exempt"]
import sys, time
print(time.time())
print("progress", file=sys.stderr)

# %% tags=["exercise"]
def square(x): ...

# %% tags=["solution"]
def square(x):
    return x * x

# %%
print(square(3))

# %%
print("one")
print("two")

# %%
from IPython.display import display
for kind in ("image/png", "image/jpeg"):
    display({kind: "aGk=", "text/plain": "Words."}, raw=True, metadata={kind: {"alt": "Words."}})

# %%
import ipywidgets
ipywidgets.IntSlider()
"""

NOISE = """
import os
from PIL import Image
display(Image.frombytes("L", (2000, 1000), os.urandom(2_000_000)))  # here
"""


@pytest.fixture
def course(tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source/01_demo.py").write_text(SOURCE)
    return tmp_path


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The small course, built twice; the notebooks of the first time beside it in first/."""
    folder = tmp_path_factory.mktemp("course")
    (folder / "source").mkdir()
    (folder / "source/01_demo.py").write_text(SOURCE)
    assert builder.main([], folder) == 0
    (folder / "first").mkdir()
    (folder / "first/01_demo.ipynb").write_bytes((folder / "01_demo.ipynb").read_bytes())
    assert builder.main(["--only", "01"], folder) == 0
    return folder


def read(path):
    return nbformat.read(path, as_version=4)


def test_exercises_and_solutions_go_their_ways(built):
    lesson, solved = read(built / "01_demo.ipynb"), read(built / "solutions/01_demo.ipynb")
    assert [cell.cell_type for cell in lesson.cells] == ["markdown"] + 7 * ["code"]
    assert lesson.cells[0].source == "# A lesson\n\nwith $x^2$ in it"
    assert lesson.cells[3].source == "def square(x): ..."
    assert solved.cells[3].source == "def square(x):\n    return x * x"
    assert [c.source for i, c in enumerate(lesson.cells) if i != 3] == [
        c.source for i, c in enumerate(solved.cells) if i != 3
    ]
    assert lesson.cells[4].outputs[0].text == "None\n"
    assert solved.cells[4].outputs[0].text == "9\n"


def test_exempt_cells_are_marked_for_nbval_and_lose_their_progress(built):
    cell = read(built / "01_demo.ipynb").cells[2]
    assert cell.metadata.tags == ["exempt", "nbval-ignore-output"]
    assert [output.name for output in cell.outputs] == ["stdout"]


def test_nothing_of_the_run_is_left(built):
    notebook = read(built / "01_demo.ipynb")
    assert notebook.metadata == builder.METADATA
    assert [cell.execution_count for cell in notebook.cells[1:]] == [1, 2, 3, 4, 5, 6, 7]
    assert all(set(cell.metadata) <= {"tags"} for cell in notebook.cells)
    assert notebook.cells[1].outputs == [{"output_type": "stream", "name": "stdout", "text": "one\ntwo\n"}]
    assert notebook.cells[7].outputs[0].data == {"text/plain": builder.WIDGET}


def test_what_was_downloaded_here_is_not_seen(tmp_path, monkeypatch):
    """The saved outputs are those of a reader who has nothing, whatever lies on the disk that they were made on."""
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/squeezenet1_0.safetensors").touch()
    monkeypatch.setenv("XAILAB_DATA", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cell = "from xailab.lessons import real\nprint(real.weights('squeezenet1_0'))"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
    builder.execute(notebook, tmp_path)
    assert notebook.cells[0].outputs[0].text.endswith("data_download.py weights/squeezenet1_0\nNone\n")


def test_the_same_source_gives_the_same_file(built):
    one, two = ((built / name).read_text() for name in ("first/01_demo.ipynb", "01_demo.ipynb"))
    differing = [pair for pair in zip(one.splitlines(), two.splitlines(), strict=True) if pair[0] != pair[1]]
    assert len(differing) == 1  # the time that the exempt cell prints
    assert len({cell.id for cell in read(built / "01_demo.ipynb").cells}) == 8


@pytest.mark.parametrize("budget", ["SECONDS", "GIB"])
def test_a_lesson_over_its_budget_is_built_and_reported(course, monkeypatch, capsys, budget):
    monkeypatch.setattr(builder, budget, 0)
    (course / "source/01_demo.py").write_text("# %%\nprint('one')\n")
    assert builder.main([], course) == 1
    assert "is more than" in capsys.readouterr().out
    assert read(course / "01_demo.ipynb").cells[0].outputs[0].text == "one\n"


def test_solutions_keep_text_only(built):
    outputs = read(built / "01_demo.ipynb").cells[6].outputs
    assert [set(output.data) for output in outputs] == [{"image/png", "text/plain"}, {"image/jpeg", "text/plain"}]
    outputs = read(built / "solutions/01_demo.ipynb").cells[6].outputs
    assert [(output.data, output.metadata) for output in outputs] == 2 * [({"text/plain": "Words."}, {})]


def test_the_committed_sentence_for_widgets_is_the_one_that_the_comparison_knows():
    conftest = (builder.NOTEBOOKS / "conftest.py").read_text()
    assert f'WIDGET = "{builder.WIDGET}"' in conftest


def edit_a_cell(notebook):
    notebook["cells"][1]["source"] = "print('three')"


def drop_a_cell(notebook):
    notebook["cells"].pop()


def drop_a_tag(notebook):
    notebook["cells"][2]["metadata"] = {}


def forget_a_run(notebook):
    notebook["cells"][4]["execution_count"] = None


def add_widgets(notebook):
    notebook["metadata"]["widgets"] = {}


def change_an_output(notebook):
    notebook["cells"][1]["outputs"][0]["text"] = "other\n"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (edit_a_cell, "01_demo.ipynb: cell 1 differs"),
        (drop_a_cell, "01_demo.ipynb: 7 cells; the source makes 8"),
        (drop_a_tag, "01_demo.ipynb: cell 2 differs"),
        (forget_a_run, "01_demo.ipynb: cell 4 was never run"),
        (add_widgets, "01_demo.ipynb: its metadata was not written by the builder"),
        (change_an_output, None),  # nbval's business
    ],
)
def test_check_names_the_cell_that_differs(built, tmp_path, capsys, change, said):
    for name in ("source/01_demo.py", "01_demo.ipynb", "solutions/01_demo.ipynb"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((built / name).read_bytes())
    assert builder.main(["--check"], tmp_path) == 0
    notebook = json.loads((tmp_path / "01_demo.ipynb").read_text())
    change(notebook)
    (tmp_path / "01_demo.ipynb").write_text(json.dumps(notebook))
    assert builder.main(["--check"], tmp_path) == (said is not None)
    printed = capsys.readouterr().out
    assert (said in printed and "make notebooks ONLY=01" in printed) if said else printed == ""


def test_check_misses_a_notebook_that_was_never_built(course, capsys):
    assert builder.main(["--check"], course) == 1
    assert "01_demo.ipynb has not been built" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("1 / 0  # here", "ZeroDivisionError"),
        ("import warnings  # here\nwarnings.warn('careful')", "wrote to stderr"),
        ("import os  # here\nos._exit(1)", "died"),
        ("# %% tags=['typo']\n1  # here", "unknown tag typo"),
        (NOISE, "more than 2.5"),
    ],
)
def test_a_lesson_that_fails_leaves_the_old_notebook_whole(course, capsys, cell, said):
    (course / "source/01_demo.py").write_text(f"# %%\nprint('fine')\n\n# %%\n{cell}\n")
    (course / "01_demo.ipynb").write_text("the old one")
    assert builder.main([], course) == 1
    printed = capsys.readouterr().out
    assert "01_demo" in printed
    assert "FAILED" in printed
    assert said in printed
    assert "\x1b" not in printed
    assert (course / "01_demo.ipynb").read_text() == "the old one"
    assert {path.name for path in course.iterdir()} == {"source", "01_demo.ipynb"}


def test_the_cell_that_failed_is_shown(course, capsys):
    (course / "source/01_demo.py").write_text("# %%\nvalue = 0\n1 / value\n")
    builder.main([], course)
    assert "1 / value" in capsys.readouterr().out


def test_only_an_unknown_lesson(course, capsys):
    assert builder.main(["--only", "77"], course) == 1
    assert "begins with '77'" in capsys.readouterr().out
