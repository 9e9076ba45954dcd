"""Catalogue: what the papers used, brought here safely; ``python data_download.py`` is its command.

    >>> from xailab.datasets import catalogue
    >>> from xailab.storage import data_root
    >>> entry = catalogue.entries()["stl10"]
    >>> catalogue.state(entry, data_root()).text
    'not here'

Downloading happens when `get` is called and at no other time.
"""

from .entries import Entry, entries
from .extracting import Bounds, UnsafeArchive, extract
from .fetching import DownloadError, Fetched, File, Patience, WrongFile, fetch
from .keeping import LicenceError, State, get, megabytes, state, verify

__all__ = [
    "Bounds",
    "DownloadError",
    "Entry",
    "Fetched",
    "File",
    "LicenceError",
    "Patience",
    "State",
    "UnsafeArchive",
    "WrongFile",
    "entries",
    "extract",
    "fetch",
    "get",
    "megabytes",
    "state",
    "verify",
]
