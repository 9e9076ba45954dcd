"""What contributors read and what runs for them: names that exist, examples that run, versions that agree."""

import ast
import importlib
import itertools
import re
import tomllib
from pathlib import Path

import lesson_minutes
import pytest
import yaml

import xailab
from xailab.lessons import LESSONS

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"]
MADE = {"work", "data", "dist", "other", ".venv"}  # by commands of the pages, not part of the checkout


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


# The pages


def missing_paths(text: str) -> list[str]:
    """Paths in backticks and links that are no files or folders here; NN and name stand for any number and name."""
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    words = [word for span in spans for word in span.split()] + re.findall(r"\]\(([^)#:\s]+)\)", text)
    looks_like_one = re.compile(r"\.?[\w-]+(/[\w.-]*)+|[\w-]*\.(py|md|toml|txt|yml|yaml|cff|json|ipynb)")
    paths = [word for word in words if looks_like_one.fullmatch(word) and word.split("/")[0] not in MADE]
    paths = [path for path in paths if not re.match(r"(weights|mvtec-ad)/", path)]  # names of downloads
    pattern = {path: re.sub(r"\bname\b|(?<=_)name\b", "*", path.replace("NN", "[0-9][0-9]")) for path in paths}
    return [path for path in paths if not any(ROOT.glob(pattern[path].rstrip("/")))]


def missing_names(text: str) -> list[str]:
    """Dotted names that begin with ``xailab`` and do not exist."""
    found = []
    for name in re.findall(r"`(xailab(?:\.\w+)+)", text):
        parts = name.split(".")
        try:
            try:
                importlib.import_module(name)
            except ModuleNotFoundError:
                getattr(importlib.import_module(".".join(parts[:-1])), parts[-1])
        except (ModuleNotFoundError, AttributeError):
            found.append(name)
    return found


def targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", read("Makefile"), flags=re.MULTILINE))


def missing_commands(text: str) -> list[str]:
    """`make` targets that the Makefile has not, and files that are given to a Python and do not exist."""
    parts = re.findall(r"```\n(.*?)```|`([^`\n]+)`", text, flags=re.DOTALL)
    return unknown_commands("\n".join(part for pair in parts for part in pair))


def unknown_commands(code: str) -> list[str]:
    makes = set(re.findall(r"^\s*make ([a-z]+)", code, flags=re.MULTILINE)) - targets()
    scripts = set(re.findall(r"\b(?:python3?|py) ([\w./\\-]+\.py)", code))
    return sorted(makes) + sorted(name for name in scripts if not (ROOT / name.replace("\\", "/")).is_file())


@pytest.mark.parametrize("page", PAGES)
def test_paths_names_and_commands_exist(page):
    text = read(page)
    assert missing_paths(text) == []
    assert missing_names(text) == []
    assert missing_commands(text) == []


def test_what_does_not_exist_is_found():
    text = "`xailab/cam.py` `tests/test_none.py -k x` [it](docs/none.md) `NN_none.py` `notebooks/source/NN_name.py`"
    assert missing_paths(text) == ["tests/test_none.py", "NN_none.py", "docs/none.md"]
    assert missing_names("`xailab.cam` `xailab.cam.none(x)` `xailab.none`") == ["xailab.cam.none", "xailab.none"]
    assert missing_commands("`make test`, `make none`\n```\nmake noise ARGS=1\npython tools/none.py\n```\n") == [
        "noise",
        "none",
        "tools/none.py",
    ]


@pytest.mark.parametrize("example", re.findall(r"```python\n(.*?)```", read("CONTRIBUTING.md"), flags=re.DOTALL))
def test_examples_for_contributors_run(example, capsys):
    exec(compile(example, "CONTRIBUTING.md", "exec"), {})


# The house


@pytest.mark.parametrize("number", LESSONS)
def test_a_lesson_is_a_notebook_a_module_and_a_test_with_the_same_name(number):
    name = LESSONS[number]
    assert (ROOT / f"notebooks/source/{number}_{name}.py").is_file()
    assert (ROOT / f"tests/test_lesson_{name}.py").is_file()
    assert importlib.import_module(f"xailab.lessons.{name}")
    if number != "00":
        assert importlib.import_module(f"xailab.{name}")
        assert [path for path in (ROOT / "tests").glob(f"test_{name}*.py")]


@pytest.mark.parametrize("name", LESSONS.values())
def test_a_lesson_keeps_drawings_explorer_and_exercises_in_a_file_each(name):
    package = f"xailab.lessons.{name}"
    trees = {
        path.stem: ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "xailab/lessons" / name).glob("*.py")
    }
    assert misplaced(trees, package) == []


def misplaced(trees: dict[str, ast.Module], package: str) -> list[str]:
    """What is missing from a lesson's folder, or stands in another of its files than it should."""
    found = [f"no {file}.py" for file in ("__init__", "drawings", "explorer", "exercises") if file not in trees]
    for file, tree in trees.items():
        imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        names = {f"{node.module}.{alias.name}" for node in imports for alias in node.names}
        if "xailab.lessons.exercise" in names and file != "exercises":
            found.append(f"a check in {file}.py")
        if "xailab.lessons.explorer.explorer" in names and file != "explorer":
            found.append(f"an explorer in {file}.py")
        if any(f"{name}.".startswith(f"{package}.exercises.") for name in names) and file != "__init__":
            found.append(f"{file}.py imports the exercises")
        if file == "__init__" and not all(isinstance(node, ast.ImportFrom | ast.Expr) for node in tree.body):
            found.append("an implementation in __init__.py")
    return found


def test_what_a_lesson_misplaces_is_found():
    check, controls = "from xailab.lessons import Wrong, exercise", "from xailab.lessons.explorer import explorer"
    right = {"__init__": "from a.b import exercises", "drawings": "", "explorer": controls, "exercises": check}
    for change, found in (
        ({}, []),
        ({"drawings": check}, ["a check in drawings.py"]),
        ({"exercises": controls}, ["an explorer in exercises.py"]),
        ({"drawings": "from a.b.exercises import x"}, ["drawings.py imports the exercises"]),
        ({"__init__": "def draw(): ..."}, ["an implementation in __init__.py"]),
    ):
        assert misplaced({file: ast.parse(code) for file, code in (right | change).items()}, "a.b") == found
    assert misplaced({"__init__": ast.parse("")}, "a.b") == ["no drawings.py", "no explorer.py", "no exercises.py"]


def test_every_lesson_has_a_number_a_row_in_both_tables_and_is_the_next_of_the_one_before():
    sources = sorted((ROOT / "notebooks/source").glob("*.py"))
    assert [source.stem for source in sources] == [f"{number}_{name}" for number, name in LESSONS.items()]
    for page, link in (("README.md", "(notebooks/{}.ipynb)"), ("notebooks/source/00_welcome.py", "({}.ipynb)")):
        rows = [line for line in read(page).splitlines() if re.match(r"(# )?\|", line)]
        for source in sources[page != "README.md" :]:
            assert any(link.format(source.stem) in row for row in rows), f"{page} has no row for {source.stem}"
    for before, after in itertools.pairwise(sources):
        last = before.read_text(encoding="utf-8").rpartition("\n\n")[2]
        assert "Next: " in last and f"{after.stem[:2]} ·" in last, before.name


def test_a_lesson_takes_as_many_minutes_in_both_tables_as_in_its_header():
    for source in sorted((ROOT / "notebooks/source").glob("*.py"))[1:]:
        header = re.search(r"About (\S+) minutes to read, (\S+) for the exercises", source.read_text(encoding="utf-8"))
        expected = lesson_minutes.fill_in(f"{header[1]} + {header[2]}", source)
        for page in ("README.md", "notebooks/source/00_welcome.py"):
            rows = [
                lesson_minutes.fill_in(row, source) for row in read(page).splitlines() if f"{source.stem}.ipynb)" in row
            ]
            named = re.findall(r"\| (\d+ \+ \d+) \|", "\n".join(rows))
            assert named == [expected], f"{page}, {source.stem}"


# Versions and licences


def disagreements(version: str, changelog: str, citation: dict) -> list[str]:
    """Where the changelog's top entry and the citation do not fit the package's version."""
    number, date = re.search(r"^## \[([^\]]+)\] - (.+)$", changelog, flags=re.MULTILINE).groups()
    released = ".dev" not in version
    found = []
    if number != version.partition(".dev")[0]:
        found.append(f"CHANGELOG.md begins with {number}, the package is {version}")
    if citation["version"] != version:
        found.append(f"CITATION.cff is of {citation['version']}, the package is {version}")
    if released != bool(re.fullmatch(r"\d{4}-\d\d-\d\d", date)) or not (released or date == "unreleased"):
        found.append(f"CHANGELOG.md says {date} of {version}")
    if str(citation.get("date-released", "unreleased")) != date:
        found.append(f"CITATION.cff says {citation.get('date-released')}, CHANGELOG.md {date}")
    return found


def test_changelog_and_citation_are_of_this_version():
    assert disagreements(xailab.__version__, read("CHANGELOG.md"), yaml.safe_load(read("CITATION.cff"))) == []


@pytest.mark.parametrize(
    ("version", "heading", "citation", "count"),
    [
        ("0.3.0", "[0.3.0] - 2030-01-31", {"version": "0.3.0", "date-released": "2030-01-31"}, 0),
        ("0.3.0.dev0", "[0.3.0] - unreleased", {"version": "0.3.0.dev0"}, 0),
        ("0.3.0", "[0.2.0] - 2030-01-31", {"version": "0.3.0", "date-released": "2030-01-31"}, 1),
        ("0.3.0", "[0.3.0] - 2030-01-31", {"version": "0.2.0", "date-released": "2030-01-31"}, 1),
        ("0.3.0", "[0.3.0] - unreleased", {"version": "0.3.0"}, 1),
        ("0.3.0.dev0", "[0.3.0] - 2030-01-31", {"version": "0.3.0.dev0", "date-released": "2030-01-31"}, 1),
        ("0.3.0", "[0.3.0] - 2030-01-31", {"version": "0.3.0", "date-released": "2030-01-30"}, 1),
        ("0.3.0", "[0.3.0] - 2030-01-31", {"version": "0.3.0"}, 1),
    ],
)
def test_a_release_with_a_step_forgotten_is_found(version, heading, citation, count):
    assert len(disagreements(version, f"# Changelog\n\n## {heading}\n\n## [0.1.0] - 2026-11-22\n", citation)) == count


def test_the_licences_are_those_of_the_file():
    text = read("LICENSE")
    named = [spdx for spdx, words in (("MIT", "MIT licence"), ("CC-BY-4.0", "CC BY 4.0")) if words in text]
    assert PROJECT["license"].split(" AND ") == named
    assert yaml.safe_load(read("CITATION.cff"))["license"] in named


# What runs for contributors


def jobs() -> dict:
    return yaml.safe_load(read(".github/workflows/tests.yml"))["jobs"]


def cases(job: dict) -> list[dict]:
    return job.get("strategy", {}).get("matrix", {}).get("include", [{}])


def test_the_workflow_calls_the_commands_of_everybody():
    commands = {name: [step["run"] for step in job["steps"] if "run" in step] for name, job in jobs().items()}
    assert unknown_commands("\n".join(line for lines in commands.values() for line in lines)) == []
    assert any(line.startswith("make test") for line in commands["exact"])
    assert any(line.startswith("make test") for line in commands["ranges"])
    windows = re.search(r"\*\*Windows\*\*.*?```\n(.*?)```", read("README.md"), flags=re.DOTALL)[1].splitlines()
    for line, told in zip(commands["windows"], (windows[0].replace("py ", "python "), windows[-1]), strict=True):
        assert line.startswith(told)


def test_the_workflow_runs_on_every_system_and_on_the_ends_of_the_ranges():
    from packaging.specifiers import SpecifierSet

    found = jobs()
    systems = {case.get("system") for case in cases(found["exact"])} | {found["windows"]["runs-on"]}
    assert systems == {"ubuntu-latest", "macos-latest", "windows-latest"}
    assert {case["versions"] for case in cases(found["ranges"])} == {"oldest", "newest", "nightly"}
    assert found["ranges"]["continue-on-error"] == "${{ matrix.versions == 'nightly' }}"
    pythons = [case["python"] for job in found.values() for case in cases(job) if "python" in case]
    named = [c.rpartition(" ")[2] for c in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", c)]
    assert set(pythons) <= set(named)
    assert {named[0], named[-1]} <= set(pythons)
    assert all(python in SpecifierSet(PROJECT["requires-python"]) for python in named)
    assert "3." + str(int(named[0][2:]) - 1) not in SpecifierSet(PROJECT["requires-python"])


def test_style_is_checked_by_the_same_ruff():
    hooks = {repository["repo"]: repository for repository in yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]}
    exact = re.search(r"^ruff==(.+)$", read("constraints.txt"), flags=re.MULTILINE)[1]
    assert hooks["https://github.com/astral-sh/ruff-pre-commit"]["rev"] == f"v{exact}"


def test_the_citation_names_the_authors():
    citation = yaml.safe_load(read("CITATION.cff"))
    assert citation["cff-version"] == "1.2.0" and citation["message"] and citation["title"]
    assert citation["authors"] == [{"name": author["name"]} for author in PROJECT["authors"]]
