"""What lesson 03 says of its numbers and pictures. Names that are not imported are the lesson's."""

import numpy as np
import pytest

from xailab.metrics import interval


def test_cat_and_cup():
    assert share_above(heat_cat[0]) > 0.8 and share_above(heat_espresso[0]) < 0.2
    strength = [each.abs()[:, :224].sum() / each.abs().sum() for each in (guided, *product)]
    assert strength[0] < 0.75 and strength[1] > 0.9 and strength[2] < 0.2  # guided backprop draws the cup as well
    probability = scores.softmax(1)[0, [cat, espresso]]
    assert (probability > 0.1).all() and (probability < 0.14).all()


def test_layers():
    differences = {name: interval(cases.astype(float) - hits["centre"]) for name, cases in hits.items()}
    assert min(differences["layer3"][0], differences["layer4"][0]) > 0.1
    for layer in ("conv1", "layer1"):  # "may be chance"
        assert differences[layer][0] < 0.005 and differences[layer][1] > 0.05
    assert differences["layer2"][1] < -0.05
    assert hits["conv1"].mean() == pytest.approx(0.76, abs=0.01)  # in the self-test
    assert hits["centre"].mean() == pytest.approx(0.72, abs=0.005)


def test_signs():
    negative = (-for_cat).relu()
    assert ((negative * on_dog).sum((1, 2)) / negative.sum((1, 2))).mean() > 1 / 3
    assert on_dog.float().mean() == pytest.approx(0.1, abs=0.01)


def test_counterfactuals():
    region, elsewhere, dog, background = names
    share = {name: np.mean(each) for name, each in covered.items()}
    assert rises[region].mean() == pytest.approx(1.44, abs=0.1) and interval(better)[0] > 0.2
    assert share[elsewhere] > share[region] > 0.45 and share[region] < 0.6
    assert rises[region].mean() >= rises[dog].mean() and np.abs(rises[background]).max() < 0.2
    assert all(each >= before for each, before in zip(covered[elsewhere], covered[region], strict=True))


def test_average():
    means = {way: {layer: each.mean() for layer, each in by_layer.items()} for way, by_layer in shares.items()}
    assert max(means["Grad-CAM"][layer] for layer in ("block5", "block11")) < 0.6
    assert min(means["HiResCAM"].values()) > 0.63
    assert np.allclose(shares["Grad-CAM"]["relu1"], shares["HiResCAM"]["relu1"], atol=1e-4)
    assert (shares["Grad-CAM"]["relu1"] > 0.5).all()
    averaged, cell_by_cell, last = (1 - share_above(heat[0]) for heat in heats.values())
    assert averaged < 0.3 and cell_by_cell > 0.8 and last > 0.8
