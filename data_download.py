#!/usr/bin/env python3
"""Bring the papers' own data and weights; without arguments, list what there is. ``--help`` says more."""

import sys

try:
    from xailab.datasets.catalogue.command import main
except ModuleNotFoundError as error:
    sys.exit(f"{error}: run this with the Python of the course's environment, as in .venv/bin/python data_download.py")

if __name__ == "__main__":
    raise SystemExit(main())
