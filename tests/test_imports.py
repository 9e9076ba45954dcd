"""The modules of xailab import each other in one direction: following the imports never leads back to the start."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]


def modules(root: Path, package: str) -> dict[str, Path]:
    """The files of a package by module name; a package's own name stands for its ``__init__``."""
    found = {}
    for path in sorted((root / package).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(tree: ast.AST) -> list[ast.Import | ast.ImportFrom]:
    """All imports, in functions too, but not those for type checkers only."""
    if isinstance(tree, ast.If) and ast.unparse(tree.test).endswith("TYPE_CHECKING"):
        return [each for node in tree.orelse for each in imports(node)]
    if isinstance(tree, ast.Import | ast.ImportFrom):
        return [tree]
    return [each for node in ast.iter_child_nodes(tree) for each in imports(node)]


def edges(name: str, path: Path, names: dict[str, Path]) -> set[str]:
    """The modules that a module names in its imports; of ``from a import b`` it is a.b, if that is a module."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in imports(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
            continue
        above = package.rsplit(".", node.level - 1)[0] if node.level else ""
        base = ".".join(part for part in (above, node.module) if part)
        inner = {f"{base}.{alias.name}" for alias in node.names}
        found |= {each if each in names else base for each in inner}
    return (found & set(names)) - {name}


def cycle(graph: dict[str, set[str]]) -> list[str] | None:
    """The names along one cycle, the first again at the end; None if there is none."""
    done: set[str] = set()

    def walk(name: str, path: list[str]) -> list[str] | None:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return None
        found = next(filter(None, (walk(each, [*path, name]) for each in sorted(graph[name]))), None)
        done.add(name)
        return found

    return next(filter(None, (walk(name, []) for name in sorted(graph))), None)


def graph_of(root: Path, package: str) -> dict[str, set[str]]:
    names = modules(root, package)
    return {name: edges(name, path, names) for name, path in names.items()}


def test_no_module_imports_itself_by_way_of_others():
    graph = graph_of(ROOT, "xailab")
    assert "xailab.hooks" in graph["xailab.cam"] and "xailab.protopnet.network" in graph["xailab.protopnet"]
    found = cycle(graph)
    assert found is None, " -> ".join(found)


def test_a_cycle_is_found_wherever_the_import_stands(tmp_path):
    (tmp_path / "p").mkdir()
    for name, text in {
        "__init__": "",
        "a": "from p import b",
        "b": "def f():\n    from .c import x",
        "c": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import p.a",
    }.items():
        (tmp_path / "p" / f"{name}.py").write_text(text)
    assert cycle(graph_of(tmp_path, "p")) is None
    (tmp_path / "p" / "c.py").write_text("import p.a")
    assert cycle(graph_of(tmp_path, "p")) == ["p.a", "p.b", "p.c", "p.a"]
