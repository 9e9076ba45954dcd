"""What lesson 05 says of its numbers and pictures. Names that are not imported are the lesson's."""

import numpy as np
import pytest
import torch

from xailab.datasets import scenes
from xailab.models import zoo


def test_the_prediction():
    assert levels.tolist() == [0.03, 0.1, 0.3, 1, 3]
    assert error[1] < 0.1 and 0.25 < error[3] < 0.5
    assert 0.9 < along_said.mean(1)[3] < 1.2 and 0.4 < along.mean(1)[3] < 0.7
    assert along.mean(1)[4] < 0.3 and along_said.mean(1)[4] > 2.5
    size = np.sqrt(np.square(aside).mean(1))
    assert size[3] < along.mean(1)[3] / 30


def test_saliency():
    on, area = share_on(maps, masks), float(masks.double().mean())
    assert on == pytest.approx(0.41, abs=0.01) and area == pytest.approx(0.18, abs=0.01)
    alike = {name: rank_correlation(way, maps) for name, way in ways.items()}
    assert alike["mean |w|"] > 0.97 and alike["length of w"] > 0.97 and alike["|sum of w|, signs cancel"] < 0.88
    assert same and 0.78 < rank_correlation(shaken, maps) < 0.9
    assert 0.1 < neighbours < 0.3


def test_two_classes():
    for k, named, other in ((0, on_cat, on_dog), (1, on_dog, on_cat)):
        assert share_on(asked[:, k], named) < share_on(asked[:, k], other)
    assert rank_correlation(asked[:, 0], asked[:, 1]) == pytest.approx(0.76, abs=0.03)
    assert rank_correlation(asked[:, 0], asked[:, 2]) == pytest.approx(0.77, abs=0.03)


def test_the_softmax():
    for name in ("ordinary", "robust"):
        share = ratio[name] / doubt[name]
        assert share.min() > 0.4 and share.max() < 3
    assert doubt["robust"].min() < 1e-3 < 0.01 < doubt["ordinary"].min()
    change = {name: trail[-1] - trail[0] for name, trail in climbed.items()}
    assert change["score"][cat] > change["probability"][cat] + 2 and change["score"][dog] > 2
    assert climbed["score"][-1].argmax() == dog and climbed["probability"][-1].argmax() == cat
    assert change["probability"][dog] / change["probability"][cat] == pytest.approx(-0.66, abs=0.12)


def test_smooth_grad():
    assert sigmas == [0, 0.05, 0.1, 0.2]
    assert right["ordinary"][1] > 0.95 and 0.1 < right["ordinary"][3] < 0.35 and min(right["robust"]) > 0.9
    assert mass["ordinary"][0] > max(mass["ordinary"][2:]) + 0.1
    lost = {name: shares[0] - shares[2] for name, shares in mass.items()}
    assert lost["robust"] < lost["ordinary"] / 2
    for values in alike.values():
        assert values == sorted(values, reverse=True)
    assert agreement == sorted(agreement)


def test_class_models():
    assert loud == sorted(loud) and height[-1] > height[2] > height[0]
    assert ways_up == [(20, True), (20, False), (0.3, True), (0.3, False)]
    share, ends = held.mean(0), climbs[-1]
    assert 0.28 < share[0] < 0.4 and share[2] > 0.95
    assert abs(ends[0] - ends[1]) < 2 and ends[3] > ends[2] + 2
    results = zoo.manifest()
    assert (
        0.95 < results["scenes_robust"]["results"]["single_top1"] < results["scenes_resnet"]["results"]["single_top1"]
    )
    sure = {}
    for name, net in networks.items():
        with torch.no_grad():
            sure[name] = net(poster[name]).softmax(1).diagonal()
    assert (sure["robust"] > 0.85).all()
    assert [scenes.CLASSES[c] for c in shuffled][:3] == ["rocket", "dog", "sailboat"]
    assert error_robust[at_one] < 0.7 * error[at_one]


def test_segments():
    mean = {name: values.mean() for name, values in cut.items()}
    for name in ("saliency, ordinary", "saliency, robust"):
        assert plain[name] == pytest.approx(0.4, abs=0.05) and 0.55 < mean[name] < 0.75
        assert abs(mean["CAM, ordinary"] - mean[name]) < 0.12
        hits = box_hits(box_of(segments[name]))
        assert hits > box_hits(cam_boxes)
    assert mean["saliency, robust"] > mean["saliency, ordinary"] + 0.03
    assert mean["SmoothGrad, ordinary"] < 0.35
    best, worst, good, bad = cut["saliency, robust"][order[[-1, 0, -4, 3]]]
    assert min(best, good) > 0.75 and max(worst, bad) < 0.5


def test_its_limits():
    assert (begun.scores[-1] > 9).all()
    alike = np.corrcoef(begun.images.flatten(1))[np.triu_indices(4, 1)].mean()
    assert alike < 0.3
