from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import precision_recall_curve, roc_auc_score

from xailab.boxes import Box, iou
from xailab.metrics import (
    aupro,
    auroc,
    auroc_interval,
    conformal_threshold,
    f1_max,
    interval,
    min_calibration_size,
    pointing_game,
)


def test_iou_by_hand():
    assert iou(Box(0, 0, 4, 2), Box(2, 0, 6, 2)) == pytest.approx(4 / 12)
    assert iou(Box(0, 0, 2, 2), Box(2, 0, 4, 2)) == 0
    assert iou(Box(0, 0, 2, 2), Box(3, 3, 4, 4)) == 0


def test_boxes_agree_with_their_masks_and_torchvision():
    from torchvision.ops import box_iou

    generator = np.random.default_rng(0)
    for _ in range(50):
        (x0, x1), (y0, y1) = (np.sort(generator.choice(20, (2,), replace=False)) for _ in range(2))
        (u0, u1), (v0, v1) = (np.sort(generator.choice(20, (2,), replace=False)) for _ in range(2))
        a, b = Box(int(x0), int(y0), int(x1), int(y1)), Box(int(u0), int(v0), int(u1), int(v1))
        expected = box_iou(torch.tensor([a]), torch.tensor([b])).item()
        assert iou(a, b) == pytest.approx(expected) == pytest.approx(iou(a.mask(20, 20), b.mask(20, 20)))


def test_iou_errors(unchecked):
    mask = np.ones((2, 2), dtype=bool)
    with pytest.raises(TypeError, match="two boxes or two masks"):
        iou(Box(0, 0, 1, 1), mask)
    with pytest.raises(TypeError, match="two boxes or two masks"):
        iou((0, 0, 1, 1), (0, 0, 1, 1))
    with pytest.raises(ValueError, match="different shapes"):
        iou(mask, np.ones((2, 3), dtype=bool))
    with pytest.raises(ValueError, match="empty"):
        iou(~mask, ~mask)


def test_pointing(unchecked):
    values = torch.zeros(3, 4)
    values[2, 1] = 1
    mask = np.zeros((3, 4), dtype=bool)
    mask[2, 1] = True
    assert pointing_game(mask, values) and not pointing_game(~mask, values)
    assert pointing_game(mask, values.numpy())
    assert not pointing_game(np.ones((3, 4), dtype=bool), torch.zeros(3, 4)), "a constant map points nowhere"
    with pytest.raises(ValueError, match="NaN"):
        pointing_game(mask, torch.full((3, 4), torch.nan))
    with pytest.raises(ValueError, match="upsample"):
        pointing_game(mask, torch.zeros(2, 2))


# Anomaly detection: AUROC, F1-max, PRO

DTYPES = (np.float16, np.float32, np.float64)


def numbers(dtype):
    """Few different values, so that many are tied; now and then an infinite or any other one."""
    width = 8 * np.dtype(dtype).itemsize
    tied = st.sampled_from([-np.inf, -1.0, -0.0, 0.0, 0.5, 1.0, np.inf])
    return st.one_of(tied, st.floats(allow_nan=False, width=width))


@st.composite
def labelled(draw):
    n = draw(st.integers(2, 30))
    labels = draw(arrays(bool, n))
    assume(labels.any() and not labels.all())
    dtype = draw(st.sampled_from(DTYPES))
    return labels, draw(arrays(dtype, n, elements=numbers(dtype)))


@st.composite
def maps_with_masks(draw):
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5)))
    masks = draw(arrays(bool, shape))
    assume(masks.any() and not masks.all())
    dtype = draw(st.sampled_from(DTYPES))
    return masks, draw(arrays(dtype, shape, elements=numbers(dtype)))


def regions(mask) -> list[list[tuple[int, int]]]:
    """The 8-connected regions of a mask, grown pixel by pixel."""
    left, found = {tuple(map(int, place)) for place in np.argwhere(mask)}, []
    while left:
        grown = [left.pop()]
        for y, x in grown:
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            grown += near
        found.append(grown)
    return found


def plain_aupro(masks, maps, limit) -> Fraction:
    """Move the threshold over every score, mean the overlap region by region, add up trapezoids, in exact fractions."""
    places = [(i, *zip(*region, strict=True)) for i, mask in enumerate(masks) for region in regions(mask)]
    curve = [(Fraction(0), Fraction(0))]
    for threshold in np.unique(maps)[::-1]:
        found = maps >= threshold
        rate = Fraction(int((found & ~masks).sum()), int((~masks).sum()))
        overlaps = [Fraction(int(found[i][ys, xs].sum()), len(ys)) for i, ys, xs in places]
        curve.append((rate, sum(overlaps) / len(overlaps)))
    area, limit = Fraction(0), Fraction(limit)
    for (x0, y0), (x1, y1) in pairwise(curve):
        if x0 >= limit or x0 == x1:
            continue
        end = min(x1, limit)
        area += (end - x0) * (y0 + y0 + (y1 - y0) * (end - x0) / (x1 - x0)) / 2
    return area / limit


def test_auroc_by_hand():
    assert auroc([0, 0, 1, 1], [1.0, 2.0, 3.0, 4.0]) == 1
    assert auroc([0, 0, 1, 1], [4.0, 3.0, 2.0, 1.0]) == 0
    assert auroc([False, True, False, True], [1.0, 2.0, 3.0, 4.0]) == 0.75
    assert auroc([0, 1, 0], [1.0, 1.0, 2.0]) == 0.25, "a tie counts half"


@given(labelled())
def test_auroc_is_the_share_of_pairs(case):
    labels, scores = case
    pairs = [Fraction(int(p > n) + int(p >= n), 2) for p in scores[labels] for n in scores[~labels]]
    assert auroc(labels, scores) == float(sum(pairs) / len(pairs))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
def test_auroc_beside_scikit_learn(dtype, share):
    generator = np.random.default_rng(0)
    labels = generator.random((4, 50, 61)) < share
    scores = (generator.standard_normal(labels.shape) + labels).astype(dtype)
    expected = roc_auc_score(labels.ravel(), scores.ravel())
    assert auroc(labels, scores) == pytest.approx(expected, abs=1e-12)
    assert auroc(torch.tensor(labels), torch.tensor(scores)) == auroc(labels, scores)


@given(labelled())
def test_f1_max_is_reached_and_not_surpassed(case):
    labels, scores = case

    def f1(threshold):
        called = scores >= threshold
        return 2 * (called & labels).sum() / (called.sum() + labels.sum())

    best, threshold = f1_max(labels, scores)
    assert best == f1(threshold) == max(f1(each) for each in scores)
    assert all(f1(each) < best for each in scores if each > threshold), "of several, the highest"


@pytest.mark.parametrize("decimals", [0, 1, 6])
def test_f1_max_beside_scikit_learn(decimals):
    generator = np.random.default_rng(1)
    labels = generator.random(2000) < 0.1
    scores = (generator.standard_normal(2000) + 2 * labels).round(decimals)
    precision, recall, thresholds = precision_recall_curve(labels, scores)
    curve = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
    best, threshold = f1_max(labels, scores)
    assert best == pytest.approx(curve.max(), abs=1e-12)
    assert threshold in thresholds


def test_more_pixels_than_single_precision_counts():
    """Beside 2^24 = 16.8 M ones, another one is lost in float32."""
    normal = 2**24 + 3
    scores, labels = np.zeros(normal + 3, np.uint8), np.zeros(normal + 3, bool)
    labels[-3:] = True
    scores[0], scores[-1] = 1, 2  # the defects: two tie with all normal pixels but one, the last beats all
    expected = (Fraction(2 * (normal - 1), 2) + normal) / (3 * normal)
    assert auroc(labels, scores) == float(expected)
    assert auroc(~labels, scores) == float(1 - expected)
    assert f1_max(~labels, scores) == (float(Fraction(2 * normal, 2 * normal + 3)), 0)


def test_aupro_by_hand():
    masks = np.zeros((1, 4, 5), bool)
    masks[0, 0, :4] = masks[0, 3, 4] = True  # regions of 4 pixels and of 1, 15 normal ones
    maps = np.zeros((1, 4, 5), np.float32)
    maps[0, 0, :2], maps[0, 1, 0], maps[0, 3, 4] = 3, 2, 1
    # Thresholds 3, 2, 1, 0 give (rate, overlap) = (0, 1/4), (1/15, 1/4), (1/15, 3/4), (1, 1).
    assert aupro(masks, maps, 1 / 15) == pytest.approx(1 / 4)
    assert aupro(masks, maps, 1.0) == pytest.approx(1 / 15 / 4 + 14 / 15 * 7 / 8)
    assert aupro(masks, maps, 8 / 15) == pytest.approx((1 / 15 / 4 + 7 / 15 * (3 / 4 + 7 / 8) / 2) * 15 / 8)
    assert aupro(masks, masks.astype(np.float32)) == 1
    assert aupro(masks, (~masks).astype(np.float32)) == 0
    assert aupro(masks, np.ones((1, 4, 5))) == pytest.approx(0.15), "a constant map: the diagonal, up to the limit"


def test_regions_touch_at_corners():
    touching, apart = np.zeros((1, 3, 4), bool), np.zeros((1, 3, 4), bool)
    touching[0, 0, 0] = touching[0, 1, 1] = touching[0, 1, 2] = True
    apart[0, 0, 0] = apart[0, 2, 1] = apart[0, 2, 2] = True
    found = np.zeros((1, 3, 4))
    found[0, 0, 0] = 1
    assert aupro(touching, found + 2 * touching * (found == 0), 0.3) == 1
    assert aupro(touching, found, 1e-9) == pytest.approx(1 / 3), "one region of three pixels"
    assert aupro(apart, found, 1e-9) == pytest.approx(1 / 2), "a region of one and a region of two"


@settings(deadline=None, max_examples=150)
@given(maps_with_masks(), st.one_of(st.sampled_from([0.3, 1.0, 1 / 3, 0.25]), st.floats(1e-3, 1)))
@example((np.array([[[True, False]], [[True, True]]]), np.array([[[0.0, 0.0]], [[1.0, -1.0]]])), 0.3)  # a full mask
@example((np.eye(4, dtype=bool)[None], np.eye(4)[None]), 0.3)  # one region along the diagonal
@example((np.eye(4, dtype=bool)[None], np.full((1, 4, 4), -np.inf)), 0.3)
def test_aupro_beside_a_plain_derivation(case, limit):
    masks, maps = case
    assert aupro(masks, maps, limit) == pytest.approx(float(plain_aupro(masks, maps, limit)), abs=1e-12)


def test_aupro_of_larger_maps():
    generator = np.random.default_rng(2)
    masks = generator.random((3, 16, 20)) < 0.1
    masks[0] = False
    maps = (generator.standard_normal(masks.shape) + masks).astype(np.float32)
    expected = float(plain_aupro(masks, maps, 0.3))
    assert aupro(masks, maps) == pytest.approx(expected, abs=1e-12)
    assert aupro(torch.tensor(masks), torch.tensor(maps)) == pytest.approx(expected, abs=1e-12)
    order = generator.permutation(3)
    assert aupro(masks[order], np.exp(maps[order].astype(float))) == pytest.approx(expected, abs=1e-12)
    cut = [masks[0, :9], *masks[1:]], [maps[0, :9], *maps[1:]]
    whole = masks.copy(), np.concatenate([maps[0, :9], np.full((7, 20), -np.inf), *maps[1:]]).reshape(3, 16, 20)
    share = (~masks[0, :9]).sum() + (~masks[1:]).sum()
    assert aupro(*cut, 0.3) == pytest.approx(aupro(*whole, 0.3 * share / (~masks).sum())), "images of different sizes"


def test_half_precision_of_torchs_own_kind():
    labels, scores = torch.tensor([False, True, True]), torch.tensor([1.0, 0.5, 2.0], dtype=torch.bfloat16)
    assert auroc(labels, scores) == 0.5 and f1_max(labels, scores) == (0.8, 0.5)


def test_what_is_not_defined_is_an_error(unchecked):
    scores = np.array([1.0, 2.0, 3.0])
    for metric in (auroc, f1_max):
        with pytest.raises(ValueError, match="none is positive"):
            metric([0, 0, 0], scores)
        with pytest.raises(ValueError, match="none is negative"):
            metric([1, 1, 1], scores)
        with pytest.raises(ValueError, match="none is positive"):
            metric([], [])
        with pytest.raises(ValueError, match="1 of 3 scores are NaN"):
            metric([0, 1, 1], [1.0, np.nan, 2.0])
        with pytest.raises(ValueError, match="differ in shape"):
            metric([0, 1], scores)
        with pytest.raises(ValueError, match="binarise"):
            metric([0, 255, 255], scores)
    masks, maps = np.zeros((2, 3, 3), bool), np.zeros((2, 3, 3))
    with pytest.raises(ValueError, match="no mask has a defect"):
        aupro(masks, maps)
    with pytest.raises(ValueError, match="cover all images"):
        aupro(~masks, maps)
    masks[0, 0, 0] = True
    with pytest.raises(ValueError, match="NaN"):
        aupro(masks, np.full((2, 3, 3), np.nan))
    with pytest.raises(ValueError, match="2 masks for 1 maps"):
        aupro(masks, maps[:1])
    with pytest.raises(ValueError, match="differ in shape"):
        aupro(masks, maps[:, :2])
    for limit in (0, -0.1, 1.1, np.nan):
        with pytest.raises(ValueError, match="false-positive rate"):
            aupro(masks, maps, limit)


# --- a threshold from normal scores alone


@given(st.integers(1, 60), st.sampled_from([Fraction(1, k) for k in range(2, 30)] + [Fraction(3, 10), Fraction(9, 10)]))
def test_a_conformal_threshold_is_the_kth_largest_score(n, share):
    scores = np.random.default_rng(n).permutation(n).astype(float)
    place = int(share * (n + 1))  # exact, rounded down
    if place < 1:
        assert n < min_calibration_size(float(share))
        with pytest.raises(ValueError, match=f"and there are {n}$"):
            conformal_threshold(scores, float(share))
    else:
        assert n >= min_calibration_size(float(share))
        assert conformal_threshold(scores, float(share)) == sorted(scores)[-place]
        assert (scores > conformal_threshold(torch.tensor(scores), float(share))).sum() == place - 1


def test_new_normal_scores_exceed_a_conformal_threshold_as_often_as_it_says():
    generator, alarms = np.random.default_rng(0), []
    for _ in range(2000):
        scores = generator.exponential(size=20)
        alarms.append(scores[19] > conformal_threshold(scores[:19], 0.1))
    assert abs(np.mean(alarms) - 2 / 20) < 4 * (0.1 * 0.9 / 2000) ** 0.5


@pytest.mark.parametrize("share", [0, 1, -0.1, float("nan")])
def test_a_share_of_false_alarms_lies_between_0_and_1(share):
    with pytest.raises(ValueError, match="expected a share between 0 and 1"):
        conformal_threshold(np.zeros(3), share)


def test_wilson_interval_by_its_formula():
    """(p + z²/2n ± z sqrt(p(1 - p)/n + z²/4n²)) / (1 + z²/n), with z = 1.959964."""
    p, n, z = 0.7, 50, 1.959964
    middle, half = p + z**2 / (2 * n), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    expected = ((middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n))
    assert interval([True] * 35 + [False] * 15) == pytest.approx(expected, abs=1e-6)
    assert interval([True] * 50)[0] == pytest.approx(1 / (1 + z**2 / n), abs=1e-6)  # all hits: not (1, 1)


def test_bootstrap_interval_beside_scipy():
    values = np.random.default_rng(1).exponential(size=80)
    for statistic in (np.mean, np.median):
        theirs = scipy.stats.bootstrap(
            (values,), statistic, n_resamples=20_000, method="percentile"
        ).confidence_interval
        assert interval(values, statistic, resamples=20_000) == pytest.approx(tuple(theirs), abs=0.03)


def test_bootstrap_interval_covers_the_truth_as_often_as_it_says():
    generator = np.random.default_rng(0)
    covered = [low <= 0 <= high for low, high in (interval(generator.normal(size=60)) for _ in range(300))]
    assert 0.90 <= np.mean(covered) <= 0.98


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [[1.0, 2.0]]])
def test_interval_refuses_what_are_no_cases(values):
    with pytest.raises(ValueError, match="one finite number for each case"):
        interval(values)


@pytest.mark.parametrize("shift", [0.0, 1.5, 2.3])
def test_auroc_interval_covers_the_truth_as_often_as_it_says(shift):
    generator, labels = np.random.default_rng(0), np.arange(24) < 16
    truth = scipy.stats.norm.cdf(shift / np.sqrt(2))  # two normal distributions
    drawn = generator.normal(size=(400, 24)) + shift * labels
    covered = [low <= truth <= high for low, high in (auroc_interval(labels, scores) for scores in drawn)]
    assert 0.92 <= np.mean(covered) <= 0.99


def test_auroc_interval_by_its_equation():
    labels, scores = np.arange(24) < 16, np.r_[np.arange(16) + 4.5, np.arange(8)]
    found, n = auroc(labels, scores), 12
    low, high = auroc_interval(labels, scores, confidence=0.9)
    assert low < found < high < 1
    for end in (low, high):
        variance = end * (1 - end) * (1 + (n - 1) * ((1 - end) / (2 - end) + end / (1 + end))) / 128
        assert abs(end - found) == pytest.approx(scipy.stats.norm.ppf(0.95) * np.sqrt(variance), abs=1e-6)
    assert auroc_interval(~labels, -scores, confidence=0.9) == pytest.approx((low, high))


def test_auroc_interval_of_perfect_and_of_useless_scores():
    labels = np.arange(10) < 5
    assert auroc_interval(labels, labels)[1] == 1 and 0.5 < auroc_interval(labels, labels)[0] < 0.8
    assert auroc_interval(labels, ~labels)[0] == 0
    with pytest.raises(ValueError, match="between 0 and 1"):
        auroc_interval(labels, labels, confidence=1)
