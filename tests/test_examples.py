"""The examples in docstrings run, and what a lesson calls has one."""

import ast
import doctest
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest
import torch

import xailab

SOURCES = sorted((Path(__file__).parents[1] / "notebooks" / "source").glob("*.py"))
MODULES = [m.name for m in pkgutil.walk_packages(xailab.__path__, "xailab.") if not m.name.endswith("__main__")]


def called(source: str) -> set[tuple[str, str]]:
    """The names of xailab's rooms that a text uses, as (module, name); a lesson's own room is not meant."""
    tree, modules, names = ast.parse(source), {}, set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "xailab":
            for alias in node.names:
                if f"{node.module}.{alias.name}" in MODULES:
                    modules[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                else:
                    names.add((node.module, alias.name))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            names.add((modules[node.value.id], node.attr))
    return {(module, name) for module, name in names if not module.startswith("xailab.lessons")}


def of_lessons() -> list:
    """The functions and classes that the lessons call."""
    used = set().union(*(called(source.read_text(encoding="utf-8")) for source in SOURCES))
    things = [getattr(importlib.import_module(module), name, None) for module, name in used]
    return sorted(
        {
            thing
            for thing in things
            if inspect.isfunction(thing) or (inspect.isclass(thing) and not issubclass(thing, Warning))
        },
        key=lambda thing: (thing.__module__, thing.__qualname__),
    )


@pytest.mark.parametrize("module", MODULES)
def test_examples_run(module):
    """Random networks come from a seed: a few of all have no evidence to show, of which the library warns."""
    torch.manual_seed(0)
    assert doctest.testmod(importlib.import_module(module), optionflags=doctest.ELLIPSIS).failed == 0


@pytest.mark.parametrize("thing", of_lessons(), ids=lambda thing: f"{thing.__module__}.{thing.__qualname__}")
def test_what_a_lesson_calls_has_an_example(thing):
    assert ">>>" in inspect.getdoc(thing), f"{thing.__module__}.{thing.__qualname__} has no example in its docstring"
