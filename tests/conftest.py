"""All tests: shapes in annotations are enforced, and tests on real data are skipped where there is none."""

import os
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # workers with several threads each get in each other's way
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import jaxtyping
import pytest
from jaxtyping import install_import_hook

# An int will do where a float is asked for, as everywhere in Python.
install_import_hook("xailab", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")


def pytest_collection_modifyitems(items):
    if "XAILAB_REAL_DATA" not in os.environ:
        reason = "needs real weights and photographs: XAILAB_REAL_DATA is not set"
        for item in items:
            if item.get_closest_marker("real"):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real weights and data sets, for tests marked `real`."""
    return Path(os.environ["XAILAB_REAL_DATA"]).resolve()


@pytest.fixture
def unchecked():
    """Switch the checks of annotations off, for tests of our own messages, which they would forestall."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
