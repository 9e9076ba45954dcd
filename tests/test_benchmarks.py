"""The benchmarks run, at a tiny size; what they measure is read on a quiet machine."""

import runpy
import sys
import warnings
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def benchmark() -> dict:
    return runpy.run_path(str(BENCHMARKS / "grad_cam.py"), run_name="benchmark")


def run(benchmark: dict, capsys, *arguments: str) -> str:
    threads = torch.get_num_threads()
    with warnings.catch_warnings():
        benchmark["main"]([*arguments, "--batches", "2", "--repeats", "1", "--size", "48"])
    torch.set_num_threads(threads)
    return capsys.readouterr().out


def rows(text: str, method: str) -> list[list[str]]:
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    return [cells for cells in lines if len(cells) > 3 and cells[2] == method]


def test_tables_of_all_methods(benchmark, capsys):
    pytest.importorskip("captum"), pytest.importorskip("pytorch_grad_cam"), pytest.importorskip("torchcam")
    text = run(benchmark, capsys, "--networks", "resnet18", "--threads", "1")
    assert "left out" not in text and text.startswith("1 threads of")
    (bare,) = rows(text, benchmark["BARE"])
    assert bare[:2] == ["resnet18 layer4", "2"] and bare[3].endswith(" ms") and bare[4].endswith(" MiB")
    ours, ours_guided = rows(text, "xailab")
    captums, captums_guided = rows(text, "captum")
    (torch_cam,) = rows(text, "torch-cam")
    peers, peers_guided = rows(text, "pytorch-grad-cam")
    assert captums_guided[4] == "1.00"
    for cells in (ours, ours_guided, captums, captums_guided, torch_cam, peers, peers_guided):
        assert all(float(cell) > 0 for cell in cells[3:])
    # Counted in bytes, so that it holds on any computer.
    assert float(ours[4]) <= 1.05 < min(float(captums[4]), float(torch_cam[4]), float(peers[4]))
    assert float(ours_guided[5]) < min(float(captums_guided[5]), float(peers_guided[5]))
    assert rows(text, "Grad-CAM, memory / forward pass")[0][4:] == ["1.05", "True"]


def test_libraries_that_are_not_installed_are_left_out(benchmark, capsys, monkeypatch):
    for name in ("captum", "captum.attr", "torchcam", "torchcam.methods", "pytorch_grad_cam"):
        monkeypatch.setitem(sys.modules, name, None)
    text = run(benchmark, capsys, "--networks", "resnet18")
    for name in ("captum", "torch-cam", "pytorch-grad-cam"):
        assert f"{name} is left out: " in text and not rows(text, name)
    assert [cells[4] for cells in rows(text, "xailab")][1] == ""


def test_the_readme_tells_the_command():
    text = (BENCHMARKS / "README.md").read_text(encoding="utf-8")
    assert "python benchmarks/grad_cam.py" in text and "python benchmarks/flops.py" in text


@pytest.mark.parametrize("name, layer", [("resnet18", "layer4"), ("vgg11", "features.19")])
def test_the_head_is_the_part_behind_the_layer(benchmark, name, layer):
    case = benchmark["case"](name, 1, 48)
    assert case.layer == layer
    outputs = []
    case.module.register_forward_hook(lambda module, inputs, output: outputs.append(output.clone()))
    with torch.no_grad():
        scores = case.network(case.images)
        assert torch.equal(case.head(outputs[0]), scores)
    with pytest.raises(ValueError, match="only ResNets and VGGs"):
        benchmark["case"]("squeezenet1_0", 1, 48)


def test_peak_of_memory(benchmark):
    def call():
        first = torch.ones(1000)
        second = torch.ones(500)
        del first
        return second, torch.ones(100)

    assert benchmark["peak_bytes"](call) == pytest.approx(6000, abs=64)


def test_padim_beside_the_loops(capsys):
    padim = runpy.run_path(str(BENCHMARKS / "padim.py"), run_name="benchmark")
    arguments = ["--normal", "24", "--test", "4", "--size", "64", "--repeats", "1", "--threads", "1"]
    padim["main"]([*arguments, "--cases", "resnet18:20", "--methods", "xailab", "loops"])
    text = capsys.readouterr().out
    (ours,), (loops,) = (rows(text, method) for method in ("xailab", "loops"))
    assert ours[:2] == ["resnet18:20", "24"] and ours[5] == "1.0" and float(loops[5]) > 0
    assert float(loops[8]) < 1e-3, "the same distances"


def test_patch_svdd_beside_patch_by_patch_and_other_searches(capsys):
    pytest.importorskip("faiss")
    benchmark = runpy.run_path(str(BENCHMARKS / "patch_svdd.py"), run_name="benchmark")
    threads = torch.get_num_threads()
    benchmark["main"](
        ["--size", "96", "--images", "1", "--normal", "4", "--repeats", "1", "--threads", "1", "--categories"]
    )
    torch.set_num_threads(threads)
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in capsys.readouterr().out.splitlines()]
    found = {cells[0]: cells for cells in lines if len(cells) == 5}
    assert float(found["patch by patch"][4]) < 1e-5, "the same embeddings"
    for name in benchmark["SEARCHES"]:
        assert float(found[name][1]) > 0 and float(found[name][4]) < 1e-5, "the same distances"


def test_counting_beside_the_peers(capsys, monkeypatch):
    """Every library that is there gets a line for each network; the others are named, and nothing fails."""
    benchmark = runpy.run_path(str(BENCHMARKS / "flops.py"), run_name="benchmark")
    peers = [name for name in benchmark["METHODS"] if name not in ("xailab", "torch")]
    monkeypatch.setitem(sys.modules, "fvcore", None)
    threads = torch.get_num_threads()
    with warnings.catch_warnings():
        benchmark["main"](["--networks", "resnet18", "--repeats", "1", "--size", "64", "--threads", "1"])
    torch.set_num_threads(threads)
    text = capsys.readouterr().out
    lines = {cells[1]: cells for cells in map(cells_of, text.splitlines()) if len(cells) == 5}
    assert "fvcore is left out: " in text and "fvcore" not in lines
    assert all((name in lines) != (f"{name} is left out: " in text) for name in peers)
    assert lines["xailab"][0] == "resnet18" and lines["xailab"][3] == "1.0" and lines["xailab"][2].endswith(" ms")
    assert lines["xailab"][4] == lines["torch"][4] == "148.6"


def cells_of(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]
