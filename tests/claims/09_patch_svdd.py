"""What lesson 09 says of its numbers and pictures. Names that are not imported are the lesson's."""

import numpy as np
import pytest


def test_hand_examples():
    assert one_centre < 0.1 and any_normal > 0.99
    assert position_loss(0 * right) == pytest.approx(np.log(8)) and pull == 1
    losses = [position_loss(scale * (right - main)) for scale in (1, 0.1, 0.01)]
    assert losses[0] < 0.6 and losses[0] < losses[1] < losses[2] and losses[2] > 2
    assert right_answers["as they are"] > 0.8 and right_answers["jittered"] < 0.25
    by_patch, at_once = in_all[256]
    assert 19 < by_patch / at_once < 21


def test_trainings():
    assert (end[2:4] < start[2:4] / 2).all() and np.abs(end[:2] - np.log(8)).max() < 0.2
    assert kept["PyTorch's own"] < 1e-3 and kept["He et al."] > 0.05
    for category, detector in detectors.items():
        first, last = (np.mean(detector.history[part], 0) for part in (slice(0, 20), slice(-20, None)))
        if category == "capsule":
            assert (
                last[0] < 0.5
                and 1.8 < last[1] < 2.1
                and (last[4:] > first[4:]).all()
                and (last[2:4] < last[4:] / 3).all()
            )
        else:
            assert np.abs(last[:2] - np.log(8)).max() < 0.02 and (last[4:] < first[4:] / 50).all()
    assert apart["capsule"][0] < 8 and apart["fabric"][0] > 0.9 * apart["fabric"][1]


def test_matches():
    (bad_capsule, good_capsule), (bad_fabric, good_fabric) = ratio.values()
    assert bad_capsule > 1.8 * good_capsule and bad_fabric > 3 * good_fabric and good_capsule > 50 * good_fabric
    s, number = searched["capsule"], chosen[1][1]
    cell, corner = s.place("fine", (64, 64))
    for match in s.matches("fine", number, cell):
        assert np.abs(np.subtract(match.corner, corner)).max() <= 12
    assert s.kinds[middle["capsule"]] == "leak"


def test_padim():
    both = ("capsule", "fabric")
    product, fine, padim = ([table[name][c] for c in both] for name in ("product", "fine", "PaDiM"))
    assert padim[0][0] == 1 and product[0][0] < 0.8 and 0.9 < product[0][1] < padim[0][1] < product[0][1] + 0.05
    assert all(p[1] >= 0.9 for p in product)
    ahead = [(name, c, i) for name in list(table)[:-1] for c in both for i in range(3)
             if round(table[name][c][i], 2) > round(table["PaDiM"][c][i], 2)]  # fmt: skip
    assert ahead == [("fine", "fabric", 2)]
    assert np.abs(np.subtract(fine[1], padim[1])).max() < 0.05
    assert all(
        f[1] > max(table[name][c][1] for name in ("coarse", "sum", "product")) - 0.002
        for c, f in zip(both, fine, strict=True)
    )
    here, there = theirs.values()
    assert here[0] < there[0] and here[1] < there[1]


def test_costs():
    ours, padims = encode + search, backbone + substitute
    assert 25 * padims < ours < 35 * padims and training > 2000 * ours
    assert 0.5 < kept_bytes["PaDiM"] / kept_bytes["Patch SVDD"] < 1
    whole = table["product"]["capsule"]
    assert 0.02 < whole[1] - fewer[1] < 0.06 and whole[2] - fewer[2] > whole[1] - fewer[1]


def test_turned_capsules():
    for name, row in (("Patch SVDD", "product"), ("PaDiM", "PaDiM")):
        before, after = table[row]["capsule"], moved[name]
        assert after[0] < before[0] - 0.2 and after[1] < before[1] - 0.01
    assert abs(moved["Patch SVDD"][0] - 0.5) < 0.1


def test_troubles():
    assert "lambda_=100 pulls harder" in str(collapsed[0].message)
    assert spreads[-5:].mean() < spreads[:5].mean() / 50
    assert np.mean(means) == pytest.approx(0.8, abs=0.015) and np.mean(bests) > 0.86
    by_patch, at_once = in_all[256]
    assert search_256[300] * 1e9 > by_patch and search_256[30] * 1e9 > at_once
