"""What can be downloaded: the entries of registry.toml."""

import tomllib
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class File:
    """A file on the net."""

    name: str  # on this disk
    urls: tuple[str, ...]  # the source, then its mirrors
    size: int | None = None  # in bytes, exact
    about: int | None = None  # in bytes, where the exact size is not known
    sha256: str | None = None  # hexadecimal, whole or its beginning; None if it is not known

    @property
    def expected(self) -> int | None:
        """Size in bytes, at least roughly."""
        return self.about if self.size is None else self.size


@dataclass(frozen=True)
class Entry:
    """Something to download."""

    name: str  # on the command line
    title: str
    lessons: tuple[str, ...]  # two-digit numbers of the lessons that use it
    licence: str  # its short name
    page: str  # web page that describes it
    files: tuple[File, ...]
    places: tuple[str, ...]  # folders (or the one file) that are made of the files, below the root of the data
    into: str = "."  # folder below the root that the archives are unpacked in
    terms: str | None = None  # what must be accepted first
    small: bool = True  # whether --lesson brings it; False where a smaller entry serves as well
    hint: str | None = None  # what to do when it cannot be downloaded

    @property
    def size(self) -> int | None:
        """Bytes to download, at least roughly; None if the size of a file is not known."""
        sizes = [file.expected for file in self.files]
        return None if None in sizes else sum(sizes)


@cache
def entries() -> dict[str, Entry]:
    """All that can be downloaded, by name."""
    tables = tomllib.loads(Path(__file__).with_name("registry.toml").read_text(encoding="utf-8"))
    found = {}
    for name, table in tables.items():
        for key, own in table.pop("each", {"": {}}).items():
            fields = {"name": name} | table | own
            entry = _entry({field: _filled(value, {"name": key} | own) for field, value in fields.items()})
            found[entry.name] = entry
    return found


def without_parts(chosen: Collection[Entry]) -> list[Entry]:
    """Leave out the entries that another one contains."""
    places = {entry.name: set(entry.places) for entry in chosen}
    return [each for each in chosen if not any(places[each.name] < others for others in places.values())]


def _filled(value: Any, words: dict[str, Any]) -> Any:
    """Put words in the place of the names in braces."""
    if isinstance(value, str):
        return value.format_map(words)
    return [_filled(each, words) for each in value] if isinstance(value, list) else value


def _entry(table: dict[str, Any]) -> Entry:
    simple = ("name", "title", "licence", "page", "into", "terms", "small", "hint")
    return Entry(
        lessons=tuple(table["lessons"].split()),
        files=tuple(map(_file, table.get("files", [table]))),
        places=tuple(table["places"]),
        **{key: table[key] for key in simple if key in table},
    )


def _file(table: dict[str, Any]) -> File:
    sha256 = None if table["sha256"] == "unknown" else table["sha256"]
    return File(table["file"], tuple(table["urls"]), table.get("size"), table.get("about"), sha256)
