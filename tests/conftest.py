"""All tests: shapes in annotations are enforced, and tests on real data are skipped where there is none."""

import os
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # workers with several threads each get in each other's way
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import jaxtyping
import pytest
import sitecustomize  # the guard of tests/offline
from jaxtyping import install_import_hook

# An int will do where a float is asked for, as everywhere in Python.
install_import_hook("xailab", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")


def pytest_configure(config):
    """A warning of ours, or of a figure that shows nothing, fails a test that does not expect it.

    (The classes are imported by their names, so not before the hook above.)
    """
    from xailab import flops, grad_cam, guided_backprop, targets
    from xailab.patch_svdd import training
    from xailab.protopnet import projection

    ours = (
        *(flops.UncountedOperation, grad_cam.NoPositiveEvidence, guided_backprop.MixedActivations),
        *(training.Collapse, projection.Collapse, targets.MixedBatch, targets.ZeroGradient),
    )
    for warning in ours:
        config.addinivalue_line("filterwarnings", f"error::{warning.__module__}.{warning.__qualname__}")
    config.addinivalue_line("filterwarnings", "error:Data has no positive values")


def pytest_collection_modifyitems(items):
    if "XAILAB_REAL_DATA" not in os.environ:
        reason = "needs real weights and photographs: XAILAB_REAL_DATA is not set"
        for item in items:
            if item.get_closest_marker("real"):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def nothing_outside_this_computer():
    """No test tries to connect to anything but this computer, nor swallows that it was refused."""
    before = len(sitecustomize.attempts)
    yield
    assert not sitecustomize.attempts[before:], "a test connects to the outside"


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
