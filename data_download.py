#!/usr/bin/env python3
"""Bring the papers' own data and weights; without arguments, list what there is. ``--help`` says more."""

import sys
from pathlib import Path

try:
    from xailab.datasets.catalogue import Entry
    from xailab.datasets.catalogue.command import main
    from xailab.models import zoo
except ModuleNotFoundError as error:
    sys.exit(f"{error}: run this with the Python of the course's environment, as in .venv/bin/python data_download.py")


def elsewhere(entry: Entry, root: Path) -> bool:
    """Whether the zoo finds these weights, though they were not downloaded by this program."""
    kind, _, name = entry.name.partition("/")
    return kind == "weights" and any(path.is_file() for path in zoo.weights_paths(name, entry.files[0].name, root))


if __name__ == "__main__":
    raise SystemExit(main(elsewhere=elsewhere))
