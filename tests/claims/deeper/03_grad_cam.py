"""What lesson 03, deeper, says of its numbers. Names that are not imported are the notebook's."""

import numpy as np
import pytest
import torch

from xailab.datasets import scenes


def test_boxes_and_mistakes():
    error = missed.mean(0)
    assert thresholds[[0, best]] == pytest.approx([0.15, 0.45])
    assert error[best] < error[0] / 3 and error[best] == error.min() and error[-1] > 0.9
    assert error[0] == pytest.approx(0.5651, abs=0.05)  # "lies near the published one"
    assert len(mistakes) == 4 and len(wrong) == pytest.approx(34, abs=3)
    assert on_named.mean() > 0.8 > on_true.mean()


def test_agreement():
    assert max(agreement["block5"], agreement["block11"]) < 0.5 and agreement["relu1"] == pytest.approx(1, abs=1e-4)


def test_attacks():
    """The targeted attack leaves the maps of the true classes, the untargeted one does not."""
    sums = {name: heats.relu().sum((2, 3)) for name, heats in signed.items()}
    assert 0.8 < sums["targeted"].sum() / sums["clean"].sum() < 1.05
    assert sums["untargeted"].sum() / sums["clean"].sum() < 0.3
    half = {name: each > sums["clean"] / 2 for name, each in sums.items()}
    assert half["targeted"].all() and half["untargeted"].flatten().tolist() == [True] + 7 * [False]  # the cat's
    assert share_on_own_half(signed["targeted"]) > 0.8
    with torch.no_grad():
        probability = network(fooled["targeted"]).softmax(1)
    assert (probability[range(4), airliner] > 0.9).all()
    std = torch.tensor(network.preprocess.std).view(1, 3, 1, 1)
    for pictures in fooled.values():
        assert float(((pictures - clean) * std).abs().max()) <= 2 / 255 + 1e-5


def test_bias():
    biased, balanced = (accuracy[name] for name in ("scenes_biased", "scenes_balanced"))
    assert biased["bird, balloon"] == 1 and biased["bird, none"] < 0.1
    assert biased["other, balloon"] < 0.3 and biased["other, none"] > 0.95 and min(balanced.values()) > 0.95
    at = {name: [np.mean(each) for each in both] for name, both in found.items()}
    assert at["scenes_biased"][0] > 0.9 > 0.1 > at["scenes_biased"][1]
    assert at["scenes_balanced"][0] < 0.1 and at["scenes_balanced"][1] > 0.9
    assert len(birds) >= 20


def test_limits():
    factor = by_probability / by_score
    assert torch.allclose(factor, 1 - probability_of_own, atol=0.02)
    assert scenes.CLASSES[two[1]] == "umbrella"
    assert absent[1].max() < 0.1 * absent[0].max()
