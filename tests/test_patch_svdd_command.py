import json

import pytest

from xailab.datasets import inspection
from xailab.datasets.folders import MVTecAD
from xailab.detection import evaluate, run
from xailab.images import Preprocess
from xailab.patch_svdd import PatchSVDD
from xailab.patch_svdd.__main__ import PATCH_SVDD


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    inspection.write(root, ["wood"], n_train=6, n_test=6, size=96)
    return root


def command(capsys, *arguments):
    return run(PATCH_SVDD, [str(each) for each in arguments]), capsys.readouterr()


def test_from_folder_to_figures_and_back_from_the_file(data, tmp_path, capsys):
    options = ("--size", 96, "--strides", 8, 16, "--steps", 2, "--pairs", 2, "--output", tmp_path / "out")
    code, shown = command(capsys, data, *options)
    assert code == 0, shown.err
    assert "Patch SVDD: 2 steps of 2 pairs, product map, patches 8 and 16 pixels apart" in shown.out
    report = json.loads((tmp_path / "out/wood/results.json").read_text())
    path = tmp_path / "out/wood/detector.safetensors"
    test = MVTecAD(data, "wood", "test", preprocess=Preprocess(96, None, (0.0,) * 3, (1.0,) * 3))
    found = evaluate(PatchSVDD.load(path), test)
    assert report["figures"]["pixel_auroc"] == pytest.approx(found.pixel_auroc, abs=1e-6)

    code, shown = command(capsys, data, *options, "--steps", 3)
    assert code == 2 and "steps was 2 and is 3" in shown.err

    again = (*options[:-1], tmp_path / "again", "--encoders", path, "--map", "fine", "--calibrate", 0.5)
    code, shown = command(capsys, data, *again)
    assert code == 0, shown.err
    assert f"{path}, fine map" in shown.out
    detector = PatchSVDD.load(tmp_path / "again/wood/detector.safetensors")
    report = json.loads((tmp_path / "again/wood/results.json").read_text())
    assert detector.kind == "fine" and detector.threshold == report["threshold"]
    assert len(detector.history) == 2, "not trained again"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "-1"], "--steps"),
        (["--pairs", "1"], "batch=1"),
        (["--lr", "0"], "lr=0.0"),
        (["--lambda", "-1"], "lambda_=-1.0"),
        (["--strides", "3", "16"], "two even numbers"),
        (["--keep", "0"], "keep=0.0"),
        (["--encoders", "nowhere"], "no Patch SVDD detector at nowhere"),
        (["--map", "best"], "--map"),
    ],
)
def test_options_are_checked_first(data, arguments, message, capsys):
    code, shown = command(capsys, data, *arguments)
    assert code == 2 and message in shown.err and "Traceback" not in shown.err


@pytest.mark.real
def test_on_the_real_hazelnuts(real_data, tmp_path, capsys):
    """Random encoders: the search and the maps alone, on real pictures."""
    code, shown = command(
        capsys, real_data / "mvtec_ad", "--steps", 0, "--strides", 16, 16, "--output", tmp_path / "out"
    )
    assert code == 0, shown.err
    assert "published, not measured here" in shown.out and "0.975" in shown.out
    measured = json.loads((tmp_path / "out/results.json").read_text())["measured"]["hazelnut"]
    assert measured["pixel_auroc"] >= 0.95
