"""A type checker reads the whole library and finds nothing."""

import subprocess
import sys
from pathlib import Path


def test_the_type_checker_passes():
    root = Path(__file__).parents[1]
    command = [sys.executable, "-m", "basedpyright", "--pythonpath", sys.executable]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr
