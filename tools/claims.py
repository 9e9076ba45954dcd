"""Run a function of tests/claims in a lesson's kernel, as notebooks/conftest.py asks for.

A file of claims checks what a lesson says of its numbers and pictures. Names that it does not define are the lesson's,
which has them computed by then. What the file defines does not get into the lesson.
"""

import ast
from pathlib import Path

from _pytest.assertion.rewrite import rewrite_asserts


def names(path: Path) -> list[str]:
    """List the functions of a file of claims; none if there is no such file."""
    tree = ast.parse(path.read_text(encoding="utf-8")) if path.exists() else ast.Module([], [])
    return [each.name for each in tree.body if isinstance(each, ast.FunctionDef) and each.name.startswith("test_")]


def check(path: str, name: str, lesson: dict) -> None:
    """Run one function of a file beside a lesson's values; an `assert` that fails shows the values in it."""
    source = Path(path).read_bytes()
    tree = ast.parse(source, path)
    rewrite_asserts(tree, source, path)
    values = dict(lesson)
    exec(compile(tree, path, "exec"), values)
    values[name]()
