"""What lesson 05 says of its numbers and pictures. Names that are not imported are the lesson's."""

import numpy as np
import pytest
import torch

from xailab.lessons import saliency as lesson
from xailab.models import zoo


def test_smoothing_makes_the_gradient_much_smaller():
    assert smooth.mean() < plain.mean() / 3


def test_the_promise():
    assert levels.tolist() == [0.03, 0.1, 0.3, 1, 3]
    true, said = (each.mean(1) for each in found["ordinary, along the gradient"])
    assert 0.9 < said[3] < 1.1 and 0.4 < true[3] < 0.6 and true[4] < 0.3 < 2.5 < said[4]
    firm, promised = (each.mean(1) for each in found["robust, along the gradient"])
    assert firm[3] / promised[3] > 0.75 and firm[4] / promised[4] > 0.5
    for name in networks:
        true, said = found[f"{name}, along the gradient"]
        assert true.mean(1)[1] == pytest.approx(float(said.mean(1)[1]), rel=0.1)
        aside = found[f"{name}, along noise"][0].square().mean(1).sqrt()
        assert aside[3] < true.square().mean(1).sqrt()[3] / 50  # "about a hundredth of that"


def test_the_classes_maps_look_alike():
    halves = [float(heat[:112].sum() / heat.sum()) for heat in several]
    assert max(halves) - min(halves) < 0.2 and min(halves) > 0.3 and max(halves) < 0.6


def test_smooth_grad():
    assert sigmas == [0, 0.02, 0.05, 0.15]
    gains = {name: [np.mean(each - shares[name][0]) for each in shares[name]] for name in networks}
    assert min(gains["ordinary"][1:3]) > 0 and gains["ordinary"][3] < -0.05
    assert gains["robust"][3] > gains["ordinary"][3] and min(np.mean(each) for each in right["robust"]) > 0.9
    assert np.mean(right["ordinary"][2]) > 0.9 and np.mean(right["ordinary"][3]) < 0.5


def test_lambda():
    contrast = [float(each.square().mean()) for each in mugs]
    with torch.no_grad():
        heights = [float(robust(each)[0, mug]) for each in mugs]
    assert contrast == sorted(contrast) and heights == sorted(heights)


def test_both_ascents_succeed_and_only_one_draws_forms():
    for name, net in networks.items():
        with torch.no_grad():
            scores, real = net(posters[name]), net(seen[name])[range(30), labels]
        assert scores.softmax(1).diagonal().min() > 0.7 and scores.diagonal().median() > real.median() + 3
    assert lesson.fine_share(posters["ordinary"]) > 5 * lesson.fine_share(posters["robust"])
    results = {name: zoo.manifest()[name]["results"]["single_top1"] for name in ("scenes_resnet", "scenes_robust")}
    assert results == {"scenes_resnet": 1.0, "scenes_robust": 0.991}
