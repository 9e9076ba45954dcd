"""Lesson 03, deeper: what the notebook says of its numbers."""

from pathlib import Path

import numpy as np
import pytest
import torch

from xailab.datasets import scenes

SOURCE = Path(__file__).parents[1] / "notebooks" / "source" / "deeper" / "03_grad_cam.py"


@pytest.fixture(autouse=True)
def nothing_downloaded(monkeypatch):
    monkeypatch.setenv("XAILAB_DATA", "/dev/null")


def test_boxes_and_mistakes(said):
    error, best = said["missed"].mean(0), said["best"]
    assert said["thresholds"][[0, best]] == pytest.approx([0.15, 0.45])
    assert error[best] < error[0] / 3 and error[best] == error.min() and error[-1] > 0.9
    assert error[0] == pytest.approx(0.5651, abs=0.05)  # "lies near the published one"
    assert len(said["mistakes"]) == 4 and len(said["wrong"]) == pytest.approx(34, abs=3)
    assert said["on_named"].mean() > 0.8 > said["on_true"].mean()


def test_agreement(said):
    by_layer = said["agreement"]
    assert max(by_layer["block5"], by_layer["block11"]) < 0.5 and by_layer["relu1"] == pytest.approx(1, abs=1e-4)


def test_attacks(said):
    """The targeted attack leaves the maps of the true classes, the untargeted one does not."""
    sums = {name: heats.relu().sum((2, 3)) for name, heats in said["signed"].items()}
    assert 0.8 < sums["targeted"].sum() / sums["clean"].sum() < 1.05
    assert sums["untargeted"].sum() / sums["clean"].sum() < 0.3
    assert sums["untargeted"].argmax() == 0  # most of what is left is the cat's
    assert said["share_on_own_half"](said["signed"]["targeted"]) > 0.8
    network, clean = said["network"], said["clean"]
    with torch.no_grad():
        probability = network(said["fooled"]["targeted"]).softmax(1)
    assert (probability[range(4), said["airliner"]] > 0.9).all()
    std = torch.tensor(network.preprocess.std).view(1, 3, 1, 1)
    for pictures in said["fooled"].values():
        assert float(((pictures - clean) * std).abs().max()) <= 2 / 255 + 1e-5


def test_bias(said):
    biased, balanced = (said["accuracy"][name] for name in ("scenes_biased", "scenes_balanced"))
    assert biased["bird, balloon"] == 1 and biased["bird, none"] < 0.1
    assert biased["other, balloon"] < 0.3 and biased["other, none"] > 0.95 and min(balanced.values()) > 0.95
    at = {name: [np.mean(each) for each in both] for name, both in said["found"].items()}
    assert at["scenes_biased"][0] > 0.9 > 0.1 > at["scenes_biased"][1]
    assert at["scenes_balanced"][0] < 0.1 and at["scenes_balanced"][1] > 0.9
    assert len(said["birds"]) >= 20


def test_limits(said):
    factor = said["by_probability"] / said["by_score"]
    assert torch.allclose(factor, 1 - said["probability_of_own"], atol=0.02)
    assert scenes.CLASSES[said["two"][1]] == "umbrella"
    heats = said["absent"]
    assert heats[1].max() < 0.1 * heats[0].max()
