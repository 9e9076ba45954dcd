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
    def size(self) -> int:
        """Bytes to download, at least roughly."""
        return sum(file.size or file.about or 0 for file in self.files)


@cache
def entries() -> dict[str, Entry]:
    """All that can be downloaded, by name."""
    tables = tomllib.loads(Path(__file__).with_name("registry.toml").read_text(encoding="utf-8"))
    found = {}
    for name, table in tables.items():
        for key, own in table.pop("each", {"": {}}).items():
            words, fields = {"name": key} | own, {"name": name} | table | own
            entry = _entry({field: _filled(value, words) for field, value in fields.items()})
            found[entry.name] = entry
    return found


def without_parts(chosen: Collection[Entry]) -> list[Entry]:
    """Leave out the entries that another one contains."""
    places = {entry.name: set(entry.places) for entry in chosen}
    return [each for each in chosen if not any(places[each.name] < others for others in places.values())]


def _filled(value: Any, words: dict[str, Any]) -> Any:
    """Put words in the place of the names in braces."""
    if isinstance(value, list):
        return [_filled(each, words) for each in value]
    return value.format_map(words) if isinstance(value, str) else value


def _entry(table: dict[str, Any]) -> Entry:
    files = []
    for each in table.get("files", [table]):
        sha256 = None if each["sha256"] == "unknown" else each["sha256"]
        files.append(File(each["file"], tuple(each["urls"]), each.get("size"), each.get("about"), sha256))
    lists = {"lessons": tuple(table["lessons"].split()), "files": tuple(files), "places": tuple(table["places"])}
    return Entry(**{key: value for key, value in table.items() if key in Entry.__dataclass_fields__} | lists)
