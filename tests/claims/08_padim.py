"""What lesson 08 says of its numbers and pictures. Names that are not imported are the lesson's."""

import numpy as np
import pytest
import torch

from xailab.datasets import inspection
from xailab.metrics import aupro, interval

SEVEN = inspection.CATEGORIES


def column(network, figure):
    return np.array([getattr(table[network, product], figure) for product in SEVEN])


def test_the_hand_example():
    centre = normal.mean(0)
    a, b = (points[name] - centre for name in "AB")
    assert np.array_equal(covariance, [[4, 2], [2, 2]]) and np.array_equal(centre, [5, 3])
    assert np.hypot(*a) == pytest.approx(4.47, abs=0.01) and np.hypot(*b) == pytest.approx(2.83, abs=0.01)
    for value in points["B"]:
        assert value in normal
    above = normal[:, 0] > centre[0]
    assert (normal[above, 1] >= centre[1]).all() and points["B"][0] > centre[0] and points["B"][1] < centre[1]


def test_a_detector_and_its_threshold():
    assert torch.allclose(detector.distances(batch_of([cracked])), by_hand, rtol=1e-3)
    bound = 39 / np.sqrt(40)
    by_group = {name: detector.scores(batch_of(samples[:8])) for name, samples in groups.items()}
    assert (by_group["used for the fit"] < bound).all() and by_group["used for the fit"].min() > 5.5
    assert by_group["held out"].min() > 20 * bound and (by_group["test, good"] < detector.threshold).all()
    assert [len(samples) for samples in groups.values()] == [40, 20, 8, 16]


def test_light():
    assert not np.concatenate(alarms["biscuit"]).any()
    rates = [np.mean(each) for each in alarms["circuit"]]
    assert rates[0] < 0.1 and rates == sorted(rates) and rates[-1] == 1


def test_networks():
    gain = {
        figure: column("drawings", figure) - column("random weights", figure) for figure in ("image", "pixel", "pro")
    }
    assert all(interval(each)[0] > 0 for each in gain.values())
    gain = {figure: column("photographs", figure) - column("drawings", figure) for figure in ("image", "pixel", "pro")}
    assert all(each.mean() > 0 and interval(each)[0] < 0 < interval(each)[1] for each in gain.values())
    assert column("photographs", "image").mean() == pytest.approx(0.99, abs=0.01)
    assert column("photographs", "pro").mean() == pytest.approx(0.95, abs=0.01)
    assert table["photographs", "wood"].interval[0] == pytest.approx(0.81, abs=0.005)
    assert np.concatenate([table["random weights", p].hits for p in SEVEN]).mean() > 0.5  # "many defects"
    for product in SEVEN:
        shown = lesson.median_defect(product, recorded[product], maps[product], limits[product])
        assert (shown.heat > shown.threshold).numpy()[shown.mask].any()


def test_overlap():
    assert two.sum() == 10 and aupro(two, only_large) == pytest.approx(0.575)


def test_choosing():
    cases = np.array(list(judged.values()))
    ratio, synthetic, real = cases.mean(1).T
    assert np.corrcoef(synthetic, real)[0, 1] > 0.8 and abs(np.corrcoef(ratio, real)[0, 1]) < 0.4
    assert real[synthetic.argmax()] > real.max() - 0.005 and real[ratio.argmin()] < real.max() - 0.015
    lost = [each[:, 2].max() - each[each[:, 1].argmax(), 2] for each in cases.swapaxes(0, 1)]
    assert lost[SEVEN.index("gravel")] == pytest.approx(0.14, abs=0.01) and max(lost) == lost[SEVEN.index("gravel")]
    order = ["random weights", "drawings", "photographs"]
    for figure in ("synthetic", "pro"):
        values = [column(name, figure).mean() for name in order]
        assert values == sorted(values)


def test_turned():
    (_, (board, turned_board), heats), (_, _, fabric_heats) = pairs
    assert not np.array_equal(board.pictures, turned_board.pictures)
    assert float(heats[0].max()) > 1.2 * float(heats[1].max()) and float(fabric_heats[1].max()) > 0.7
