"""The benchmark and the recipe run, at a tiny size; ours and the loops find the same."""

import json
import runpy
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from xailab.protopnet import load

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def benchmark() -> dict:
    return runpy.run_path(str(ROOT / "benchmarks" / "protopnet.py"), run_name="benchmark")


def test_ours_and_the_loops_find_the_same(benchmark):
    model, images = benchmark["case"](6, 48, 4)
    found = [method(model, images) for method in benchmark["METHODS"].values()]
    for other in found[1:]:
        np.testing.assert_allclose(found[0].contributions, other.contributions, atol=1e-4)
        for mine, theirs in zip(found[0][1:], other[1:], strict=True):
            assert np.array_equal(mine, theirs)


def test_the_table(benchmark, capsys):
    threads = torch.get_num_threads()
    with warnings.catch_warnings():
        benchmark["main"](["--cases", "40:48", "--batch", "2", "--repeats", "1", "--threads", "1"])
    torch.set_num_threads(threads)
    out = capsys.readouterr().out
    assert out.startswith("1 threads of") and out.count("| 40 ") == 3 and "at least 10 x as fast as the loops: " in out


@pytest.mark.filterwarnings("ignore::xailab.protopnet.Collapse")  # so short a training may well collapse
def test_the_recipe(tmp_path, capsys, monkeypatch):
    recipe = runpy.run_path(str(ROOT / "recipes" / "phantoms.py"), run_name="recipe")
    ship = recipe["ship"]
    monkeypatch.setitem(
        recipe["main"].__globals__, "ship", lambda name, model, entry, folder=tmp_path: ship(name, model, entry, folder)
    )
    sizes = ["--size", "32", "--train", "40", "--test", "8", "--prototypes", "2", "--dimensions", "8"]
    short = ["--batch", "8", "--features", "1", "--warm", "1", "--joint", "1", "--again", "1"]
    recipe["main"](["shortcut", *sizes, *short])
    recipe["main"](["decoys", "--decoys", "6", *sizes, *short])
    entries = json.loads((tmp_path / "manifest.json").read_text())
    assert "--decoys 6" in entries["decoys"]["recipe"] and "--decoys" not in entries["shortcut"]["recipe"]
    assert int(load(tmp_path / "decoys.safetensors").provenance.ids.max()) < 40
    entry = entries["shortcut"]
    assert entry["recipe"].startswith("python recipes/phantoms.py shortcut --size 32 --train 40")
    assert len(entry["results"]["on_lesion"]) == 2 and len(entry["results"]["projections"]) == 2
    assert {"accuracy_with_letter", "accuracy_without_letter", "patches"} <= set(entry["results"])
    assert len(load(tmp_path / "shortcut.safetensors").prototypes) == 4
    assert entry["recipe"] in capsys.readouterr().out
