"""What the papers used, brought here safely; ``python data_download.py`` is the command.

    >>> from xailab.datasets import catalogue
    >>> from xailab.storage import data_root
    >>> catalogue.state(catalogue.entries()["stl10"], data_root())
    'not here'

Rooms: registry (what there is), download (one file), archive (unpacking), store (what is installed), command.
"""

from xailab.datasets.catalogue.archive import UnsafeArchive, extract
from xailab.datasets.catalogue.download import DownloadError, WrongFile, fetch
from xailab.datasets.catalogue.registry import Entry, File, entries
from xailab.datasets.catalogue.store import LicenceError, get, megabytes, state, verify

__all__ = ["DownloadError", "Entry", "File", "LicenceError", "UnsafeArchive", "WrongFile"]
__all__ += ["entries", "extract", "fetch", "get", "megabytes", "state", "verify"]
