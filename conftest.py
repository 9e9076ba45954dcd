"""All tests, of the library and of the notebooks: no data that was downloaded here, and no network.

What the lessons' sections "On real data" show depends on what is on the disk; compared is what they say where there is
nothing. Processes started from here, the notebooks' kernels among them, have the same environment.
"""

import os
import sys
from pathlib import Path

from build_notebooks import NO_DATA

OFFLINE = str(Path(__file__).parent / "tests" / "offline")

os.environ |= NO_DATA
if getattr(sys.modules.get("sitecustomize"), "__file__", None) != os.path.join(OFFLINE, "sitecustomize.py"):
    sys.path.insert(0, OFFLINE)
    sys.modules.pop("sitecustomize", None)  # the system's own
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [OFFLINE, os.environ.get("PYTHONPATH")]))
import sitecustomize  # noqa: E402, F401
