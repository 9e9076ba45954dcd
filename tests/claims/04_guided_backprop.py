"""What lesson 04 says of its numbers and pictures. Names that are not imported are the lesson's."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from xailab import metrics
from xailab.guided_backprop import input_gradient


def test_hooks_on_modules():
    """The lesson's code equals the library's, and returns the plain gradient where a ReLU is a function."""

    class Functional(nn.Conv2d):
        def forward(self, x):
            means = super().forward(x).relu().mean((2, 3))
            return means - means.flip(1)

    torch.manual_seed(0)
    functional, noise = Functional(3, 2, 3), torch.randn(1, 3, 8, 8)
    found = guided_gradient(functional, noise, 1)
    torch.testing.assert_close(found, input_gradient(functional, noise, 1))
    assert not torch.allclose(found, input_gradient(functional, noise, 1, rule="guided"))
    torch.testing.assert_close(own, library, rtol=1e-4, atol=1e-5)
    assert lesson.rank_correlation(of_cat, of_cup) > 0.99
    assert not any(isinstance(module, nn.MaxPool2d) for module in photo_network.modules())


def test_a_cat_and_a_cup():
    shares = {}
    for name, found in (("Grad-CAM", images.upsample(cams, 224)), ("guided", backs), ("Guided Grad-CAM", fine)):
        mass = lesson.strength(found) if found.ndim == 4 else found
        shares[name] = (mass[:, :112].sum((1, 2)) / mass.sum((1, 2))).tolist()
    assert shares["guided"][0] - shares["guided"][1] == pytest.approx(0.11, abs=0.02)
    for name in ("Grad-CAM", "Guided Grad-CAM"):
        assert shares[name][0] > 0.8 and shares[name][1] < 0.2
    assert lesson.rank_correlation(*backs) > 0.95


def test_two_classes():
    found = {}
    for name, rule in lesson.RULES.items():
        first, second = (lesson.strength(input_gradient(network, pair_batch, [c] * 40, rule=rule)) for c in (cat, dog))
        whole = [lesson.rank_correlation(x, y) for x, y in zip(first, second, strict=True)]
        on = [lesson.rank_correlation(x[m][None], y[m][None]) for x, y, m in zip(first, second, animals, strict=True)]
        found[name] = np.mean(whole), np.mean(on)
    assert found["gradient"] == pytest.approx((0.76, 0.39), abs=0.01)
    assert found["deconvnet"] == pytest.approx((0.97, 0.98), abs=0.01)
    assert found["guided backprop"] == pytest.approx((0.97, 0.87), abs=0.01)


def test_randomised():
    """It touches the stages that it says, batch norms whole, and nothing else."""
    before = {name: value.clone() for name, value in network.state_dict().items()}
    for depth in range(7):
        shuffled, again = (randomised(network, STAGES[:depth], seed=1) for _ in range(2))
        values = shuffled.state_dict().items()
        changed = {name.split(".")[0] for name, value in values if not torch.equal(value, before[name])}
        assert changed == {*STAGES[:depth], *(["bn1"] if depth == 6 else [])}
        assert all(torch.equal(*pair) for pair in zip(shuffled.parameters(), again.parameters(), strict=True))
    assert not torch.equal(randomised(network, STAGES[:1], seed=2).fc.weight, shuffled.fc.weight)
    for module in shuffled.modules():
        if isinstance(module, nn.BatchNorm2d):
            values = (module.weight, module.bias, module.running_mean, module.running_var)
            assert [set(value.tolist()) for value in values] == [{1.0}, {0.0}, {0.0}, {1.0}]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_sanity_check():
    mean = {name: values.mean(0) for name, values in rho.items()}
    order = ["guided backprop", "gradient", "Guided Grad-CAM", "Grad-CAM"]
    for above, below in itertools.pairwise(order):
        assert (mean[above][1:] > mean[below][1:]).all()
    assert mean["guided backprop"][1:4] == pytest.approx([0.98, 0.95, 0.90], abs=0.01)
    assert mean["gradient"][1] == pytest.approx(0.73, abs=0.01)
    assert np.abs(mean["Grad-CAM"][1:]).max() < 0.15
    assert mean["Guided Grad-CAM"][1:].max() < 0.5
    assert mean["gradient"][6] == pytest.approx(yardstick["gradient"], abs=0.05)
    assert 0 < mean["guided backprop"][6] - yardstick["guided backprop"] < 0.1
    assert min(kept) > 0.3 and max(kept) < 2 / 3  # "a third to two thirds"


def test_why_so_sharp():
    mean = {name: values.mean() for name, values in shares.items()}
    expected = [0.88, 0.87, 0.88, 0.82, 0.69, 0.46]
    assert [mean[step] for step in STEPS[:6]] == pytest.approx(expected, abs=0.02)
    low, high = metrics.interval(shares["edges"])
    assert high < mean["trained"] - 0.2 and mean["… layer1"] < low
    assert mean["edges, cubed"] == pytest.approx(mean["trained"], abs=0.04)
    assert mean["area"] == pytest.approx(0.25, abs=0.01)
    ratio = {name: np.exp(values.mean()) for name, values in logs.items()}
    assert ratio["trained"] > 10 and ratio["edges"] < 1.5 and 1.5 < ratio["… layer1"] < 3
    assert all(np.isfinite(values).all() for values in logs.values())
    assert likeness["trained"] - likeness["… layer1"] > 0.1 and likeness["… layer1"] > 0.3
