"""What lesson 03 says of its numbers and pictures. Names that are not imported are the lesson's."""

import numpy as np
import pytest
import torch

from xailab import images
from xailab.boxes import iou
from xailab.datasets import scenes
from xailab.grad_cam import grad_cam
from xailab.localization import boxes, ground_truth_box


def test_layers_and_signs():
    hits = hits_by_layer
    assert sorted(hits, key=hits.get)[-2:] == ["layer3", "layer4"] and min(hits, key=hits.get) == "layer2"
    assert agreement[-1] == pytest.approx(1, abs=1e-5)
    assert max(agreement[:3]) < 0.5 < agreement[3]  # before layer3 most of the gradient cancels
    assert agreement[0] < agreement[2] and hits["conv1"] > hits["layer2"] + 0.2
    assert empty > 0
    assert share_on(for_cat, on_cat) > 0.3 > 0.02 > share_on(for_cat, on_dog)
    on, near = share_on(against_cat, on_dog), share_on(against_cat, at_dog)
    assert on > 1 / 3 and near - on > (1 - on) / 2  # most of the rest lies within a cell of the dog
    assert share_on(against_cat, on_cat) < 0.01
    assert np.mean(on_dog) == pytest.approx(0.1, abs=0.01)


def test_counterfactuals():
    of_cats = [scores.softmax(1)[[1, 11], 0] for scores in (before, after, elsewhere)]
    assert (of_cats[1] > 0.9).all()
    assert torch.allclose(of_cats[0], of_cats[2], atol=0.01)
    assert (rise > 0).mean() > 0.9 and rise.mean() == pytest.approx(1.4, abs=0.1)
    assert ((rise > 0.5) & (rise < 2.5)).mean() > 0.5
    assert np.abs(rise_elsewhere).max() < 0.1 and on_animals < 0.05
    every = np.concatenate([rise, rise_elsewhere])
    assert bins[0] < every.min() and every.max() < bins[-1]  # the histogram leaves none out


def test_localisation_and_mistakes():
    assert thresholds[[0, best]] == pytest.approx([0.15, 0.45])
    assert error[best] < error[0] / 3 and error[best] == error.min() and error[-1] > 0.9
    assert error[0] == pytest.approx(0.5651, abs=0.05)  # "lies near the published one"
    tight = boxes(images.upsample(grad_cam(network, batch[7:8], "layer4"), 128)[0], 0.45)[0]
    assert iou(tight, ground_truth_box(unseen[7].masks[0])) < 0.5  # the cat's face alone
    assert len(mistakes) == 4 and len(wrong) == pytest.approx(34, abs=3)
    assert on_named == pytest.approx(0.91, abs=0.04) and on_true == pytest.approx(0.68, abs=0.06)
    names = [(scenes.CLASSES[labels[i]], scenes.CLASSES[top_of_blurred[i]]) for i in mistakes]
    assert ("car", "umbrella") in names and ("fish", "bird") in names


def test_attacks():
    """Both attacks are believed, and lower sum and score; only the first takes the evidence from the object."""
    (maps, scores, left, hits), (kept_maps, kept_scores, kept, kept_hits) = attacked
    rows = range(8)
    assert (scores.softmax(1)[rows, false] > 0.999).all() and (kept_scores.softmax(1)[rows, false] > 0.9).all()
    assert left < 0.05 and hits < 4 and kept == pytest.approx(0.6, abs=0.05) and kept_hits >= 7
    for total in (maps.sum((1, 2)), kept_maps.sum((1, 2))):
        assert (total < clean_maps.sum((1, 2)) - 2).all()
    blue_before, blue_after = ((-m).relu().sum((1, 2)) for m in (clean_maps, kept_maps))
    assert (blue_after > blue_before).all()
    red_before, red_after = (images.upsample(m.relu(), 128) * ~masks for m in (clean_maps, kept_maps))
    assert (red_after.sum((1, 2)) / red_before.sum((1, 2))).mean() < kept - 0.05  # beside the object it lost more
    _, scores, left, hits = vgg_attacked
    assert (scores.softmax(1)[rows, false] > 0.99).all() and left < 0.1 and hits < 4
    assert max(float((each - x).abs().max()) for each in fooled) <= 12 / 255 / 0.25 + 1e-5


def test_bias():
    accuracy = {
        name: {group: (found == label)[inside].mean() for group, inside in groups.items()}
        for name, found in said.items()
    }
    assert accuracy["scenes_biased"]["bird, balloon"] == 1 and accuracy["scenes_biased"]["bird, none"] < 0.1
    assert accuracy["scenes_biased"]["other, balloon"] < 0.3 and accuracy["scenes_biased"]["other, none"] > 0.95
    assert min(accuracy["scenes_balanced"].values()) > 0.95
    (balloon, bird, mass), (cured_balloon, cured_bird, cured_mass) = rows
    assert balloon > 0.9 and bird == 0 and cured_bird > 0.6 and cured_balloon < 0.1
    assert mass / size == pytest.approx(2.1, abs=0.3) and cured_mass < size / 10
    assert len(chosen) >= 20


def test_its_limits():
    factor = wrong_score.amax((1, 2)) / right.amax((1, 2))
    assert torch.allclose(factor, 1 - p, atol=0.02)
    peaks = absent_maps.amax((1, 2))
    assert peaks[1] < 0.1 * peaks[0]
