"""The settings of other processors reach torch, and a test that fails under one of them fails the command."""

import os
import subprocess
import sys

import processors
import pytest


def capability(setting: dict) -> str:
    """Ask torch for its instructions under a setting; what these tests themselves run under does not count."""
    environment = {name: value for name, value in os.environ.items() if name != "ATEN_CPU_CAPABILITY"} | setting
    ask = [sys.executable, "-c", "import torch; print(torch.backends.cpu.get_cpu_capability())"]
    return subprocess.run(ask, env=environment, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module")
def own() -> str:
    return capability({})


@pytest.mark.parametrize("setting", processors.SETTINGS.values(), ids=processors.SETTINGS)
def test_a_setting_reaches_torch(own, setting):
    assert capability(setting) == ("DEFAULT" if setting.get("ATEN_CPU_CAPABILITY") == "default" else own)


def test_what_is_selected_is_there():
    assert all((processors.ROOT / each).exists() for each in processors.SELECTION)


def test_a_failure_under_one_setting_fails_the_command(tmp_path, capfd):
    (tmp_path / "test_it.py").write_text(
        "import os\n\n\ndef test_it():\n    assert os.environ.get('ONEDNN_MAX_CPU_ISA') != 'SSE41'\n"
    )
    options = ["-n", "0", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "-c", os.devnull]
    assert processors.main([*options, str(tmp_path / "test_it.py")]) == 1
    printed = capfd.readouterr().out
    assert printed.count("1 passed") == 3 and printed.rstrip().endswith("failed: convolutions with SSE 4.1")
    assert processors.main([*options, str(tmp_path / "test_it.py"), "--collect-only"]) == 0
