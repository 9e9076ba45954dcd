"""What lesson 08 says of its numbers and pictures. Names that are not imported are the lesson's."""

import numpy as np
import pytest
import scipy.ndimage
import torch

from xailab.metrics import aupro

EIGHT = np.ones((3, 3))  # pixels that touch at a corner belong together


def test_the_hand_example():
    a, b = (points[name] - mean for name in "AB")
    assert np.array_equal(covariance, [[4, 2], [2, 2]]) and np.array_equal(mean, [5, 3])
    assert np.hypot(*a) == pytest.approx(4.47, abs=0.01) and np.hypot(*b) == pytest.approx(2.83, abs=0.01)
    assert by_hand == pytest.approx([2, 10**0.5])
    for value in points["B"]:
        assert value in normal
    deviations = np.abs(np.stack([b, a]) @ vectors) / np.sqrt(values)
    assert deviations[0, 1] < 0.5 < 3 < deviations[0, 0] and deviations[1, 0] < 0.6 < 1.8 < deviations[1, 1]


def test_a_threshold():
    threshold = detector.threshold
    assert (groups["learnt from"] < bound).all() and groups["learnt from"].min() > 5
    assert groups["held out"].min() > 10 and groups["held out"].max() == pytest.approx(threshold)
    assert (groups["test, good"] > bound).all()
    assert (groups["test, good"] < threshold).all() and (groups["test, defective"] > threshold).all()
    assert large.max() > smooth.max() > 0.6 * large.max()


def test_seven_products():
    assert means[0] > 0.94 and means[1] > 0.97 and means[2] > 0.89
    assert len(alarms) == 56 and sum(alarms) <= 6
    assert len(hits) == 112 and sum(hits) > 90
    gear = gallery[-1]
    regions, count = scipy.ndimage.label(gear.mask, EIGHT)
    above = (gear.heat > gear.threshold).numpy()
    assert count == 2 and sorted(above[regions == k].any() for k in (1, 2)) == [False, True]
    assert all((shown.heat > shown.threshold).numpy()[shown.mask].any() for shown in gallery)


def test_curves_and_scales():
    a, b, c = at
    places = [int(np.abs(curve.thresholds - threshold).argmin()) for threshold in (a, b, c)]
    assert curve.alarms[places] == pytest.approx([0.005, 0.02, 0.2], rel=0.1)
    assert curve.hits[places[0]] < 0.35 and curve.hits[places[2]] > 0.95
    mask, shown = truth([test["gear"][chosen]])[0][0], maps["gear"][chosen].numpy()
    regions, count = scipy.ndimage.label(mask, EIGHT)
    found = [[(shown[regions == k] >= threshold).mean() for k in (1, 2)] for threshold in (a, b, c)]
    assert count == 2 and 0.4 < max(found[0]) < 0.6
    assert min(found[0]) == 0 and min(found[1]) > 0.1 and min(found[2]) == 1
    assert two.sum() == 10 and aupro(two, only_large) == pytest.approx(0.575)
    assert stretched(raw)[i].max() < 0.6 and stretched(raw[[i]]).max() == 1


def test_layers():
    mean = {name: np.mean(results, 0) for name, results in rows.items()}
    assert (mean["layer1"] >= mean["layer3"] + [0.05, 0.02, 0.1]).all()
    assert (mean["layer1"] > mean["layer2"]).all() and (mean["layer2"] > mean["layer3"]).all()
    assert (mean["one Gaussian"] > mean["sum of the three"]).all()
    assert np.abs(mean["layer1"] - mean["one Gaussian"]).max() < 0.03


def test_dimensions():
    first, random, last = (by_size[name] for name in ("first components", "random", "last components"))
    for d in sizes:
        assert (first[d].mean(0) >= random[d].mean(0)).all() and (random[d].mean(0) > last[d].mean(0)).all()
    assert (first[10].mean(0) > every - 0.02).all()
    assert (random[50].mean(0) > every - 0.05).all() and (random[10].mean(0) < every - 0.02).all()


def test_alignment_and_growth():
    (circuit, fabric, gear), aligned = unaligned, rows["one Gaussian"]
    assert fabric[0] > 0.95 and fabric[2] > aligned[1][2] - 0.06
    for turned, before in ((circuit, aligned[0]), (gear, aligned[2])):
        assert turned[0] < 0.7 and turned[2] < before[2] - 0.2
    assert nearest[0][2] < aligned[0][2] - 0.03
    for found, padim in ((nearest[1], aligned[1]), (nearest[2], aligned[2])):
        assert np.abs(np.subtract(found, padim)).max() < 0.04
    size = dict(zip(growing, state, strict=True))
    assert size[50] == 50 * numbers * 4 and size[105] == size[150] < size[100] * 1.05
    assert 80 < padim_work / numbers < 95
    assert torch.allclose(merged, whole, rtol=1e-3, atol=1e-3)


def test_its_limits():
    assert {("wood", "stain"), ("capsule", "squeeze"), ("circuit", "turned"), ("circuit", "cut")} <= set(hardest)
    circuit, fabric, gear = np.array([learnt_from[n] for n in (5, 10, 20, 40)]).swapaxes(0, 1)
    assert np.ptp(fabric, 0).max() < 0.05 and np.ptp(circuit[:, 1:], 0).max() < 0.05
    steps = np.diff(gear[:, 0])
    assert (steps > 0).all() and steps.argmax() == 2
