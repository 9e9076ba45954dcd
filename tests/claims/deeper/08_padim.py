"""What lesson 08, deeper, says of its numbers and pictures. Names that are not imported are the lesson's."""

import numpy as np
import pytest
import torch

from xailab.metrics import auroc


def means(results):
    return np.mean(results, 0)


def test_repetition_and_light():
    assert torch.equal(by_fold, by_interpolate)
    bad = recorded["circuit"].masks.any((1, 2))
    before, after = (lesson.scores_of(each, warm[2]) for each in (old, new_detector))
    assert (before[~bad] > old.threshold).all() and np.mean(before[~bad] > again) < 0.2
    assert np.mean(before[bad] > again) < 1 == np.mean(after[bad] > new_detector.threshold)
    assert auroc(bad, after) > 0.99


def test_curves_and_scales():
    places = [int(np.abs(curve.thresholds - threshold).argmin()) for threshold in at]
    assert curve.alarms[places] == pytest.approx([0.001, 0.02, 0.2], rel=0.1)
    assert curve.hits[places[0]] < 0.4 and curve.hits[places[2]] > 0.99
    assert stretched(raw[[i]]).max() == 1 and stretched(raw)[i].max() < stretched(raw[others])[others.index(i)].max()


def test_layers():
    of_drawn = {name: means([figures_of(r, r.distances([name])[1]) for r in of_drawings.values()]) for name in RESNET}
    every = means([figures_of(r, r.distances(RESNET)[1]) for r in of_drawings.values()])
    assert (of_drawn["layer3"] < of_drawn["layer2"]).all() and (of_drawn["layer2"] < of_drawn["layer1"]).all()
    assert np.abs(of_drawn["layer1"] - every).max() < 0.03
    of_photographs = {
        name: means([figures_of(r, r.distances([name])[1]) for r in recorded.values()]) for name in LAYERS
    }
    assert max(of_photographs, key=lambda name: of_photographs[name][0]) == "block11"


def test_channels():
    for d in sizes:
        first, last = (means([found[p, d, way] for p in ("circuit", "gear")]) for way in ("first", "last"))
        drawn = means([found[p, d, f"random {s}"] for p in ("circuit", "gear") for s in range(draws)])
        assert (first >= drawn).all() and (drawn > last).all()
    assert means([found[p, 10, "first"] for p in ("circuit", "gear")])[0] > every[0] + 0.02
    assert ten[0] - whole[0] == pytest.approx(0.07, abs=0.02) and whole[2] > ten[2]  # of 120 gears


def test_memory_banks():
    padim = means([figures_of(r, r.distances(LAYERS, 100)[1]) for r in recorded.values()])
    bank = means([figures_of(r, core[product][0]) for product, r in recorded.items()])
    drawn = means([figures_of(r, each) for r, each in zip(recorded.values(), random_bank, strict=True)])
    assert (padim > bank).all() and bank[0] - drawn[0] == pytest.approx(0.09, abs=0.03)
    loose = [figures_of(r, r.distances(LAYERS, 100)[1]) for r in turned.values()]
    free = [figures_of(r, patchcore(r.fit, r.test)[0]) for r in turned.values()]
    assert (means(free) > means(loose)).all() and free[2][0] > loose[2][0] + 0.1 and max(free[0][0], loose[0][0]) < 0.7


def test_growth_and_limits():
    assert state[3] == state[4] == pytest.approx(160 * numbers * 4, rel=0.01) and state[2] == 100 * numbers * 4
    assert torch.allclose(merged, at_once, rtol=1e-3, atol=1e-3)
    fewer = {n: [figures_of(r, lesson.fitted([x[:n].float() for x in r.fit]).distances([x.float() for x in r.test]))
                 for r in recorded.values()] for n in (5, 20, 40)}  # fmt: skip
    assert np.abs(np.subtract(fewer[5][1], fewer[40][1])).max() < 0.02
    assert fewer[40][2][0] - fewer[20][2][0] > fewer[20][2][0] - fewer[5][2][0]
