"""What lesson 07 says of its numbers and pictures. Names that are not imported are the lesson's."""

import numpy as np
import pytest
import torch

from xailab.lessons import protopnet as lesson
from xailab.protopnet import KINDS, candidate_boxes, occlude
from xailab.receptive_field import ReceptiveField


def test_hand_examples():
    assert [round(float(v), 2) for v in scores] == [9.21, 1.98]
    others = torch.tensor([1.0, 2.0, 0.5, 1.16, 1.36])
    assert float(((others + 1) / (others + 1e-4)).log().max()) < 1.2
    gaps = ((loose[1] - cells) ** 2).sum(1)
    assert int(labels[gaps.argmin()]) == 0 and chosen.tolist() == [2, 3]


def test_training():
    assert all(e.held_out > 0.85 for e in history)
    (before, after, fitted), (_, last, _) = projections
    assert 0.08 < before - after < 0.1 and fitted > before and projections[1][0] - last == pytest.approx(0.005)
    assert 0.95 < right < 0.99


def test_prototypes():
    healthy, ill = typical
    assert (on_lesion[5:] > 0.7).all() and (on_lesion[:5] < 0.3).all()
    assert (healthy[5:] < 0.2).all() and (ill[5:] > 3 * healthy[5:]).all()
    assert abs(float(healthy[3] - ill[3])) < 0.3 and float(constant.min()) > 3
    weight = network.last_layer.weight
    assert (weight[0, :2] < 0).all() and weight[0, 3] > 0.5 and ill[1] > 1.8 * healthy[1]
    assert float(own_distance.max()) < 1e-6


def test_explanations():
    order = first.contributions[9].abs().argsort(descending=True)[:3].tolist()
    assert order == [9, 8, 3] and first.contributions[9, 3] < 0
    assert np.mean(np.array(top) == 3) > 0.5 and all(j >= 5 for j in strongest)
    assert wrong == [4] and test_set.labels[4] == 1
    assert 0 < float(explained.output.logits[4, 0] - explained.output.logits[4, 1]) < 0.2
    here, usual = explained.output.similarities[4], typical[1]
    assert float(here[5:].max()) < lesson.LITTLE and (here[8:] < usual[8:] / 2).all() and here[4] > 1.8 * usual[4]
    assert set(weight[1].argsort()[-2:].tolist()) == {8, 9}
    for i, j in enumerate((9, 7)):
        assert float(opening.output.similarities[i, j]) > lesson.LITTLE


def test_the_seeds_network():
    assert tuple(seed_maps.shape) == (1, 40, 9, 9)
    assert fields["seed"] == ReceptiveField(435, 32, -217) and fields["small"] == ReceptiveField(27, 8, -13)
    assert fields["seed"].shift == 15.5 and fields["small"].shift == 3.5
    assert round(100 * shares.min()) == 57 and (shares == 1).sum() == 16


def test_the_letter():
    assert letter == [0] * 5 + [5] * 5
    assert called == {"with letter": 1, "without": 0}
    assert [len(own) for own in patches] == [3, 5] and {cell[1:] for cell in patches[0]} == {(0, 0)}
    corner = common.receptive_boxes[1]
    assert (corner[:, 2:] < 40).all() and not common.labels[1].any()


def test_pruning():
    own = nearest_six.of_own_class.sum(1)
    assert (own[:5] < 3).all() and (own[5:] == 6).all()
    assert pruned.dropped.tolist() == [4] and fitted_right >= right


def test_one_box():
    one, which = test_set.images[50:51], torch.tensor([9])
    ratios = {k: float(occlude(network, one, which, candidate_boxes(network, one, which, k)).ratio) for k in KINDS}
    assert ratios["activation"] == pytest.approx(0.25, abs=0.03) and max(ratios["cell"], ratios["random"]) < 0.3
    assert ratios["receptive field"] == pytest.approx(1, abs=1e-5) and ratios["gradient"] > 0.99
    drawn, seen = (candidate_boxes(network, one, which, k)[0] for k in ("activation", "receptive field"))
    assert (drawn[:2] > seen[:2]).all()


def test_the_doubt():
    area, kept, deleted, pac = (dict(zip(table, column, strict=True)) for column in zip(*table.values(), strict=True))
    assert abs(area["activation"] - area["receptive field"]) < 0.005
    assert kept["activation"] == pytest.approx(0.7, abs=0.03)
    assert kept["receptive field"] == pytest.approx(1, abs=1e-5) and abs(pac["receptive field"]) < 0.5
    assert deleted["receptive field"] == pytest.approx(1 / 3, abs=0.03)
    assert (drawn["gradient"] == drawn["receptive field"]).float().mean() > 0.9
    assert 33 < pac["activation"] < 50 and pac["cell"] > 80 and kept["cell"] < kept["random"]
    assert 9 < area["random"] / area["cell"] < 13
    nothing = float(occlude(network, some, nearest_one, pixel).ratio.mean())
    assert nothing == pytest.approx(1 / 3, abs=0.03) and kept["cell"] - nothing < 0.03
    assert (1 - kept["activation"]) / (1 - nothing) > 0.4
    low, high = sides.min() / 27, sides.max() / 27
    assert 0.45 < low < 0.6 and 2 < high < 2.5
    won = (moved_ratio - kept["activation"]) / (1 - kept["activation"])
    assert won == pytest.approx(1 / 3, abs=0.06)
