"""What the deeper notebook of lesson 07 says. Names that are not imported are the notebook's."""

import pytest

from xailab.protopnet import KINDS, candidate_boxes, occlude
from xailab.receptive_field import ReceptiveField


def test_the_last_layer():
    assert weight.sum(0).abs().tolist() == pytest.approx([0.1] * 10, abs=0.02)


def test_a_wrong_answer():
    assert wrong == [4] and labels[4] == 1
    logits, found = explained.output.logits[4], explained.output.similarities[4]
    assert 0 < float(logits[0] - logits[1]) < 0.2 and (found[8:] < typical[8:] / 2).all()


def test_the_letter():
    assert (common.receptive_boxes[[1, 5, 7]][..., 2:] < 60).all()
    assert not common.labels[1].any() and common.labels[5].all()


def test_pruning():
    own = nearest_six.of_own_class.sum(1)
    assert (own[:5] < 3).all() and (own[5:] == 6).all() and pruned.dropped.tolist() == [4]


def test_what_a_cell_sees():
    assert fields["resnet"] == ReceptiveField(435, 32, -217) and fields["small"] == ReceptiveField(27, 8, -13)
    assert fields["resnet"].shift == 15.5 and fields["small"].shift == 3.5
    assert round(100 * shares.min()) == 57 and (shares == 1).sum() == 16


def test_boxes():
    medians = {name: float(sorted(kept)[30]) for name, (_, kept) in cases.items()}
    assert medians["receptive field"] == pytest.approx(1, abs=1e-4) and medians["gradient"] > 0.99
    assert (
        0.6 < medians["activation"] < 0.85 and abs(medians["activation, moved by 4 px"] - medians["activation"]) < 0.15
    )
    assert medians["cell"] < 0.4 and nothing == pytest.approx(0.3, abs=0.03)
    one = {kind: float(occlude(network, images[50:51], which[:1] * 0 + 9, candidate_boxes(
        network, images[50:51], which[:1] * 0 + 9, kind)).ratio) for kind in KINDS}  # fmt: skip
    assert one["receptive field"] == pytest.approx(1, abs=1e-5) and one["gradient"] > 0.99 > one["activation"]
