"""The committed notebooks as files, and the comparison that nbval runs them with (notebooks/conftest.py)."""

import ast
import base64
import copy
import functools
import importlib.util
import io
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as xml
from pathlib import Path

import build_notebooks as builder
import claims
import jupytext
import nbformat
import numpy as np
import pytest
from matplotlib.figure import Figure
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image, ImageFilter

ROOT = Path(__file__).resolve().parents[1]


specification = importlib.util.spec_from_file_location("comparison", ROOT / "notebooks" / "conftest.py")
comparison = importlib.util.module_from_spec(specification)
specification.loader.exec_module(comparison)


# The files

JOBS = builder.lessons(ROOT / "notebooks")
TARGETS = [target for _, target, _ in JOBS if target.exists()]  # of the others one test complains


def code_cells(path: Path) -> list:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def printed(cell) -> str:
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


def test_sources_and_notebooks_agree():
    found = [builder.difference(source, target, solved=solved) for source, target, solved in JOBS]
    assert not any(found), "\n".join(filter(None, found))


def test_every_notebook_has_a_source():
    expected = {target for _, target, _ in JOBS}
    found = {path for path in (ROOT / "notebooks").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts}
    assert found == expected


def test_notebooks_are_small_and_without_traces_of_their_run():
    for target in TARGETS:
        assert target.stat().st_size <= 2.5e6, target
        assert "widgets" not in nbformat.read(target, as_version=4).metadata, target
        text = target.read_text(encoding="utf-8")
        assert str(ROOT) not in text, f"{target} shows a path of the machine that built it"
        for cell in code_cells(target):
            assert cell.execution_count is not None, (target, cell.source)
            assert all(output.output_type != "error" for output in cell.outputs), (target, cell.source)
            assert all(output.get("name") != "stderr" for output in cell.outputs), (target, cell.source)


def is_exempt(cell) -> bool:
    return any(tag.startswith("nbval") for tag in cell.metadata.get("tags", [])) or "NBVAL" in cell.source


def test_at_most_two_cells_of_a_notebook_are_exempt_from_comparison():
    for target in TARGETS:
        exempt = [cell.source for cell in code_cells(target) if is_exempt(cell)]
        assert len(exempt) <= 2, (target, exempt)


def test_every_picture_has_alternative_text():
    for target in TARGETS:
        for cell in code_cells(target):
            for output in cell.outputs:
                for kind in {"image/png", "image/jpeg"} & output.get("data", {}).keys():
                    alt = output.metadata.get(kind, {}).get("alt", "")
                    assert len(alt.split()) >= 4, f"{target}: say in words what is to be seen: {cell.source}"


def test_checks_pass_in_solutions_and_wait_in_lessons():
    for _, target, solved in JOBS:
        for cell in code_cells(target):
            checks = len(re.findall(r"^\s*check\(", cell.source, flags=re.MULTILINE))
            verdicts = re.findall(r"^([✓✗]) \d\d\.\d+ (.*)", printed(cell), flags=re.MULTILINE)
            assert len(verdicts) == checks, (target, cell.source)
            for mark, words in verdicts:
                assert (mark == "✓") if solved else ("not written yet" in words), (target, cell.source, words)


def test_solutions_show_what_their_lesson_shows():
    """Of the cells that both have, the lesson's are run and compared; so the solution's have to be the same."""
    for _, target, solved in JOBS:
        if not solved:
            continue
        lesson = ROOT / "notebooks" / target.relative_to(ROOT / "notebooks/solutions")
        shown = {cell.id: cell.outputs for cell in code_cells(lesson)}
        for cell in code_cells(target):
            if cell.id in shown and not is_exempt(cell):
                both = (comparison.by_kind(outputs, pictures=False) for outputs in (shown[cell.id], cell.outputs))
                assert not comparison.differences(*both), (target, cell.source)


def bound(source: str, imports: bool = True) -> set[str]:
    """Names that a cell leaves behind; with `imports` False those that it makes itself."""
    found = set()
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            found.add(statement.name)
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            found |= {(each.asname or each.name).partition(".")[0] for each in statement.names if imports}
        else:
            found |= names(statement, ast.Store)
    return found


def names(tree: ast.AST, context: type[ast.expr_context]) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, context)}


def test_a_lesson_needs_nothing_of_its_solutions():
    """The tests run both in one kernel; a reader who solves no exercise has the lesson alone."""
    for source in (ROOT / "notebooks/source").rglob("*.py"):
        lesson, solved = set(), set()
        for cell in jupytext.read(source, fmt="py:percent").cells:
            tags = cell.metadata.get("tags", [])
            if cell.cell_type == "code" and "solution" in tags:
                solved |= bound(cell.source) - lesson
            elif cell.cell_type == "code":
                solved -= bound(cell.source)
                assert not solved & names(ast.parse(cell.source), ast.Load), (source.name, cell.source)
                lesson |= bound(cell.source)
                if "exercise" in tags:  # what it leaves is not the solution's, but for what it imports
                    lesson -= bound(cell.source, imports=False)


@pytest.mark.parametrize("source", sorted((ROOT / "notebooks/source").glob("*.py")), ids=lambda path: path.stem)
def test_every_exercise_of_a_lesson_has_its_check_and_its_solution(source):
    from xailab import lessons

    number = source.stem[:2]
    with pytest.raises(ValueError, match=f"no exercise '{number}.none'"):
        lessons.verdict(f"{number}.none", None)  # loads the lesson's checks
    text = source.read_text(encoding="utf-8")
    known = {exercise for exercise in lessons._checks if exercise.startswith(f"{number}.")}
    assert set(re.findall(r'^check\("([^"]+)"', text, flags=re.MULTILINE)) == known
    assert text.count('"exercise"') == text.count('"solution"')


def test_claims_are_of_lessons():
    lessons = {source.relative_to(ROOT / "notebooks/source") for source, _, _ in JOBS}
    for path in (ROOT / "tests/claims").rglob("*.py"):
        assert path.relative_to(ROOT / "tests/claims") in lessons and claims.names(path), path


# The comparison: one notebook, executed, whose saved outputs are then changed cell by cell

CURVE = """
figure, axes = figures.new(width=6, height=3)
axes.plot(x, x**2)
axes.set_title("A curve")
figures.show(figure, "A curve that rises from 0 to 1.")
"""


def picture_of(figure: Figure) -> str:
    from xailab import figures

    return base64.b64encode(figures.png(figure)).decode()


def text(new):
    return lambda outputs: outputs[0].update(text=new)


def data(**new):
    return lambda outputs: outputs[0].data.update({key.replace("_", "/"): value for key, value in new.items()})


def perturbed(outputs):
    """The picture one pixel to the right, softer and with a little noise: as it might be drawn elsewhere."""
    before = comparison.decode(outputs[0].data["image/png"]).filter(ImageFilter.GaussianBlur(0.5))
    before = np.asarray(before).astype(int)
    after = np.roll(before, 1, axis=1) + np.random.default_rng(0).integers(-4, 5, before.shape)
    buffer = io.BytesIO()
    Image.fromarray(after.clip(0, 255).astype(np.uint8)).save(buffer, "png")
    outputs[0].data["image/png"] = base64.b64encode(buffer.getvalue()).decode()


def as_jpeg(outputs):
    """The picture as figures.show would store it, had it been large."""
    buffer = io.BytesIO()
    comparison.decode(outputs[0].data.pop("image/png")).save(buffer, "jpeg", quality=90)
    outputs[0].data["image/jpeg"] = base64.b64encode(buffer.getvalue()).decode()


def another_curve(outputs):
    figure = Figure(figsize=(6, 3), layout="constrained")
    x = np.linspace(0, 1, 50)
    figure.subplots().plot(x, x**3)
    outputs[0].data["image/png"] = picture_of(figure)


def blank(outputs):
    outputs[0].data["image/png"] = picture_of(Figure(figsize=(6, 3)))


def an_error(outputs):
    outputs[:] = [new_output("error", ename="ValueError", evalue="no", traceback=[])]


CASES = {  # what is done to the saved outputs: (code, change, what the failure says; None if it passes)
    "nothing": ("print('mean 0.2500 of 20')", lambda outputs: None, None),
    "a number within the tolerance": ("print('mean 0.25')", text("mean 0.25004\n"), None),
    "a number rounded the other way": ("print('mean 0.251')", text("mean 0.252\n"), None),
    "another number": ("print('mean 0.25')", text("mean 0.75\n"), "saved 'mean 0.75', computed 'mean 0.25'"),
    "another count": ("print('19 of 20, 97.5 %')", text("18 of 20, 97.5 %\n"), "saved '18 of 20"),
    "another word": ("print('mean 0.25')", text("sum 0.25\n"), "saved 'sum 0.25', computed 'mean 0.25'"),
    "a line more": ("print('mean 0.25')", text("mean 0.25\nand\n"), "2 lines saved, 1 computed"),
    "no output": ("print('mean 0.25')", lambda outputs: outputs.clear(), "0 saved, 1 computed: stdout"),
    "stale output": (
        "mean = 0.25",
        lambda o: o.append(new_output("stream", text="old")),
        "1 saved, 0 computed: stdout",
    ),
    "an error": ("print('mean 0.25')", an_error, "1 saved, 0 computed: error"),
    "a warning": ("import sys; print('careful', file=sys.stderr)", lambda o: o.clear(), "0 saved, 1 computed: stderr"),
    "nothing to a picture": (CURVE, lambda outputs: None, None),
    "a picture drawn elsewhere": (CURVE, perturbed, None),
    "a picture stored as JPEG": (CURVE, as_jpeg, None),
    "a picture deleted": (CURVE, lambda o: o[0].data.pop("image/png"), "0 saved, 1 computed: picture"),
    "a picture with its output": (CURVE, lambda o: o.clear(), "0 saved, 1 computed: picture"),
    "a blank picture": (CURVE, blank, "the saved picture is blank"),
    "another picture": (CURVE, another_curve, "picture: the pictures differ by 0"),
    "a broken picture": (CURVE, data(image_png="iVBORw0KGgo="), "the saved picture cannot be read"),
    "another alternative text": (CURVE, data(text_plain="A cat."), "saved 'A cat.'"),
    "nothing to a widget": ("ipywidgets.IntSlider()", lambda outputs: None, None),
    "a widget deleted": ("ipywidgets.IntSlider()", lambda o: o.clear(), "0 saved, 1 computed: widget"),
    "nothing to an exempt cell": ("#NBVAL_IGNORE_OUTPUT\nprint('0.25')", text("0.75\n"), None),
    "a cell that fails now": ("raise ValueError('no')", lambda outputs: None, "Cell execution caused an exception"),
}


CLAIMS = """
largest = float(x.max())

def test_what_holds():
    assert 0 <= largest <= 1

def test_what_does_not_hold():
    assert largest < 0.5
"""
SOLVED = "print(f'{x.min():.2f} {kept()}')"  # after the lesson's cell that waits
EXPECTED = {  # what is run after the cases above: what a failure says
    "test_what_holds": None,
    "test_what_does_not_hold": "assert 1.0 < 0.5",
    f"Cell {len(CASES) + 1}": None,
    f"Solution {len(CASES) + 1}": "saved '0.50 None', computed '0.00 None'",
}


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory) -> dict[str, str]:
    """What nbval and our comparison say of each case: the failure's text, empty where the cell passed."""
    root = tmp_path_factory.mktemp("changed")
    folder, claimed = root / "notebooks", root / "tests" / "claims"
    for each in (folder / "solutions", claimed):
        each.mkdir(parents=True)
    notebook = changed_notebook(folder)
    waiting = new_code_cell("def kept(): ...", execution_count=1)
    solved = new_code_cell(SOLVED, execution_count=1, outputs=[new_output("stream", text="0.50 None\n")])
    both = [*notebook.cells, new_markdown_cell("---\n## Explorer")]
    nbformat.write(new_notebook(cells=[*both, waiting]), folder / "changed.ipynb")
    nbformat.write(new_notebook(cells=[*both, solved]), folder / "solutions" / "changed.ipynb")
    (claimed / "changed.py").write_text(CLAIMS)
    shutil.copy(ROOT / "notebooks" / "conftest.py", folder)
    (root / "pytest.ini").write_text(f"[pytest]\npythonpath = {ROOT / 'tools'}\nmarkers = slow\n")
    command = [sys.executable, "-m", "pytest", "--nbval", "--nbval-current-env", "-m", "not slow"]
    done = subprocess.run(
        [*command, "--junitxml=report.xml", "-p", "no:xdist"], cwd=root, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 1, done.stdout + done.stderr
    cases = xml.parse(root / "report.xml").getroot().findall(".//testcase")
    said = {case.get("name"): re.sub(r"\x1b\S*?m|#x1B\S*?m", "", "".join(case.itertext())) for case in cases}
    assert said.pop("Cell 0") == ""
    return dict(zip([*CASES, *list(said)[len(CASES) :]], said.values(), strict=True))


def changed_notebook(folder: Path) -> NotebookNode:
    """A first cell and then one for each of the cases: executed, its outputs changed."""
    first = "import ipywidgets, numpy as np\nfrom xailab import figures\nx = np.linspace(0, 1, 50)"
    good = [code for code, _, _ in CASES.values() if not code.startswith("raise")]
    notebook = new_notebook(cells=[new_code_cell(source) for source in [first, *good]])
    for cell in notebook.cells:
        cell.metadata.tags = ["exempt"] if "stderr" in cell.source else []
    builder.execute(notebook, folder)
    outputs = dict(zip([first, *good], notebook.cells, strict=True)) | {"raise ValueError('no')": None}
    cells = [notebook.cells[0]]
    for code, change, _ in CASES.values():
        cell = new_code_cell(code, execution_count=1)
        cell.outputs = copy.deepcopy(outputs[code].outputs) if outputs[code] else []
        change(cell.outputs)
        cells.append(cell)
    notebook.cells = cells
    return notebook


@pytest.mark.parametrize("case", CASES)
def test_comparison(verdicts, case):
    expected = CASES[case][2]
    if expected is None:
        assert verdicts[case] == ""
    else:
        assert expected in verdicts[case]


def test_claims_and_solutions_are_run_with_their_lesson(verdicts):
    assert list(verdicts)[len(CASES) :] == list(EXPECTED)
    for name, expected in EXPECTED.items():
        assert verdicts[name] == "" if expected is None else expected in verdicts[name], verdicts[name]


@functools.cache
def draw(kind: str, change: float) -> str:
    """A picture of one of the kinds that lessons show, with its content changed by a few per cent."""
    from xailab import figures

    figure, axes = figures.new(width=8, height=4)
    x = np.linspace(0, 1, 200)
    if kind == "curve":
        axes.plot(x, np.sin(6 * x) * (1 + change))
        axes.set_ylim(-2, 2)
    elif kind == "bars":
        axes.bar(range(10), np.arange(10) + 1.0 + 10 * change * (np.arange(10) == 4))
        axes.set_ylim(0, 12)
    elif kind == "map":
        axes.imshow(np.exp(-((x[:, None] - 0.4 - change) ** 2 + (x - 0.5) ** 2) * 20), cmap="inferno")
    elif kind == "noise":
        axes.imshow(np.random.default_rng(0).random((60, 60)) + change * 10 * (x[:60] > 0.1), vmin=0, vmax=2)
    else:
        axes.set_title("Evidence for a cat" if change < 0.05 else "What speaks against a dog", fontsize=16)
    return picture_of(figure)


@pytest.mark.parametrize("kind", ["curve", "bars", "map", "noise", "title"])
def test_pictures_are_told_apart(kind):
    assert comparison.compare_pictures(draw(kind, 0.0), draw(kind, 0.0)) is None
    assert comparison.compare_pictures(draw(kind, 0.0), draw(kind, 0.001)) is None
    assert "differ" in comparison.compare_pictures(draw(kind, 0.0), draw(kind, 0.1))


@functools.cache
def draw_large(change: str = "") -> str:
    """A figure of twenty panels, in which one thing is changed."""
    from xailab import figures

    pixels = np.random.default_rng(0).integers(60, 200, (20, 8, 8, 3), dtype=np.uint8)
    titles = ["sailboat"] * 20
    titles[7] = "dog" if change == "title" else "sailboat"
    panels = [picture.repeat(20, 0).repeat(20, 1) for picture in pixels]
    if change == "panel":
        panels[12] = panels[3]
    if change == "dot":
        panels[12][70:82, 70:82] = 255
    return picture_of(figures.grid(panels, titles))


@pytest.mark.parametrize("change", ["title", "panel", "dot"])
def test_one_change_in_a_large_figure_is_seen(change):
    assert comparison.compare_pictures(draw_large(), draw_large()) is None
    assert "in one place" in comparison.compare_pictures(draw_large(), draw_large(change))


@pytest.mark.parametrize(
    ("saved", "computed", "same"),
    [
        ("[ 0.00 1.00]", "[-0.00 1.00]", True),
        ("97.4 %", "97.5 %", True),
        ("97.4 %", "97.6 %", False),
        ("0.1", "0.2", False),
        ("3.1e-08", "-4.5e-08", True),
        ("1.20e+09", "1.21e+09", True),
        ("1.20e+09", "1.22e+09", False),
        ("569 million", "568 million", False),
        ("1,234,567", "1,234,568", False),
        ("layer1.0.conv2", "layer1.1.conv2", False),
        ("exercise 02.1", "exercise 02.2", False),
        ("nan", "0.50", False),
        ("0.50", "0.50 0.50", False),
    ],
)
def test_texts(saved, computed, same):
    assert (comparison.compare_texts(saved, computed) is None) is same
    assert (comparison.compare_texts(computed, saved) is None) is same
