"""How good is a map? Numbers that compare it with the truth.

Those of anomaly detection (``auroc``, ``aupro``, ``f1_max``) are exact, ties included: the normal scores are sorted,
and each score of a defect finds its place among them by bisection. Nothing is counted in single precision.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from scipy.optimize import root_scalar
from scipy.stats import binomtest, norm
from torch import Tensor

from xailab.images import as_array, is_constant
from xailab.localization import components

Values = Shaped[np.ndarray, "*n"] | Shaped[Tensor, "*n"] | Sequence
Mask = Bool[np.ndarray, "_ _"] | Bool[Tensor, "_ _"]  # each of its own size
Map = Float[np.ndarray, "_ _"] | Float[Tensor, "_ _"]
Masks = Bool[np.ndarray, "n h w"] | Bool[Tensor, "n h w"] | Sequence[Mask]
Maps = Float[np.ndarray, "n h w"] | Float[Tensor, "n h w"] | Sequence[Map]

ROUNDING = 1e-9  # 0.1 * (29 + 1) is 3, not a little less


def pointing_game(mask: Mask, heatmap: Map) -> bool:
    """Play the pointing game: does the maximum of a map lie on the object? (Zhang et al. 2016, arXiv 1608.00507)

    A map that is constant to rounding points nowhere, which is a miss.

    Args:
        mask: True on the object.
        heatmap: A map at the mask's resolution (see ``images.upsample``).

    Raises:
        ValueError: if the shapes differ, or a value is not finite.

    >>> pointing_game(np.array([[True, False]]), np.array([[0.7, 0.3]]))
    True
    """
    values, mask = as_array(heatmap), as_array(mask)
    if values.shape != mask.shape:
        raise ValueError(f"map {values.shape} and mask {mask.shape} differ in shape: upsample the map first")
    if not np.isfinite(values).all():
        raise ValueError("the map has values that are NaN or infinite: look at the network's output first")
    return bool(not is_constant(values) and mask.flat[values.argmax()])


def auroc(labels: Values, scores: Values) -> float:
    """Compute the area under the receiver operating characteristic: how often does a defect score above the normal?

    Over all pairs of a positive and a negative, the share in which the positive scores higher; a tie counts half.

    Args:
        labels: True (or 1) for the positives, of any shape: images (n,), or pixels (n, h, w).
        scores: As many, higher for more anomalous; they may be infinite.

    Returns:
        0 to 1; 0.5 for scores that say nothing.

    Raises:
        ValueError: if a class is absent, a score is NaN, labels are neither True nor False, or shapes differ.

    >>> auroc([False, False, True, True], [0.1, 0.4, 0.3, 0.8])
    0.75
    """
    positive, negative = _classes(labels, scores)
    wins_twice = sum(int(np.searchsorted(negative, positive, side).sum(dtype=np.int64)) for side in ("left", "right"))
    return wins_twice / (2 * len(positive) * len(negative))


def auroc_interval(labels: Values, scores: Values, *, confidence: float = 0.95) -> tuple[float, float]:
    """Give an interval for the AUROC of independent images, as Wilson's does for a share.

    It holds all values from which the observed one is no further than chance would take it: the score interval with the
    variance of Hanley and McNeil, Newcombe's method 5 (Statistics in Medicine 2006, "Part 2: asymptotic methods").
    Where all pairs are won it does not shrink to a point, as a bootstrap does. Pixels are not independent: give images.

    Args:
        labels, scores: As for ``auroc``.
        confidence: How often such intervals hold the truth, a share between 0 and 1.

    Returns:
        The lower and the upper end.

    Raises:
        ValueError: as ``auroc``, and if ``confidence`` is not between 0 and 1.

    >>> low, high = auroc_interval([False] * 8 + [True] * 16, range(24))
    >>> round(low, 2), round(high, 2)
    (0.81, 1.0)
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is a share between 0 and 1, got {confidence}")
    found, positive = auroc(labels, scores), int(np.sum(_array(labels)))
    negative, z = _array(labels).size - positive, float(norm.ppf((1 + confidence) / 2))

    def below(value: float) -> float:
        """The lower end, for an AUROC of this value."""

        def beyond(truth: float) -> float:
            spread = 1 + ((positive + negative) / 2 - 1) * ((1 - truth) / (2 - truth) + truth / (1 + truth))
            return value - truth - z * math.sqrt(truth * (1 - truth) * spread / (positive * negative))

        return float(root_scalar(beyond, bracket=(0.0, min(value, 1 - ROUNDING))).root) if value else 0.0

    return below(found), 1 - below(1 - found)


def f1_max(labels: Values, scores: Values) -> tuple[float, float]:
    """Compute the largest F1 = 2 TP / (2 TP + FP + FN) of all thresholds, and its threshold.

    The threshold is chosen with the answers in hand: always report it as an oracle (best-case) value.

    Args:
        labels, scores: As for ``auroc``.

    Returns:
        F1, and the threshold: what scores at least that is called positive. Of several, the highest.

    Raises:
        ValueError: as ``auroc``.

    >>> f1_max([False, False, True, True], [0.1, 0.4, 0.3, 0.8])
    (0.8, 0.3)
    """
    positive, negative = _classes(labels, scores)
    thresholds, first = np.unique(positive, return_index=True)  # lower ones add nothing but false alarms
    hits = len(positive) - first
    alarms = len(negative) - np.searchsorted(negative, thresholds, side="left")
    f1 = 2 * hits / (hits + alarms + len(positive))
    best = len(f1) - 1 - int(np.argmax(f1[::-1]))
    return float(f1[best]), float(thresholds[best])


def conformal_threshold(scores: Values, false_alarm_rate: float) -> float:
    """Compute a threshold from the scores of normal pictures alone, none of which the detector was trained on.

    With n scores it is the k-th largest, k = floor(false_alarm_rate (n + 1)). If a new normal picture comes from where
    these came from, its score is as likely to take any of the n + 1 places among theirs, so that it lies above the
    threshold with probability at most k / (n + 1) (split conformal prediction, Vovk et al. 2005).

    Args:
        scores: Scores of the normal pictures.
        false_alarm_rate: Share of normal pictures that may lie above the threshold.

    Raises:
        ValueError: if there are fewer scores than ``min_calibration_size`` says, or ``false_alarm_rate`` is not between
            0 and 1.

    >>> conformal_threshold([5, 1, 4, 2, 3, 6, 9, 8, 7], false_alarm_rate=0.2)
    8.0
    """
    needed, scores = min_calibration_size(false_alarm_rate), _array(scores)
    if len(scores) < needed:
        raise ValueError(
            f"a share of {false_alarm_rate:g} false alarms takes at least {needed} normal images, and there are "
            f"{len(scores)}"
        )
    place = math.floor(false_alarm_rate * (len(scores) + 1) + ROUNDING)
    return float(np.sort(scores)[-place])


def min_calibration_size(false_alarm_rate: float) -> int:
    """Compute the number of normal pictures that ``conformal_threshold`` needs.

    Raises:
        ValueError: if ``false_alarm_rate`` is not between 0 and 1.

    >>> min_calibration_size(0.05)
    19
    """
    if not 0 < false_alarm_rate < 1:
        raise ValueError(f"false_alarm_rate={false_alarm_rate}: expected a share between 0 and 1")
    return math.ceil(1 / false_alarm_rate - ROUNDING) - 1


def aupro(masks: Masks, maps: Maps, limit: float = 0.3) -> float:
    """Compute the area under the per-region overlap curve (Bergmann et al. 2020, arXiv 1911.02357).

    For a threshold, the overlap is the share of a defect region that scores at least as much, averaged over all regions
    (8-connected, per image), so that small defects count as much as large ones. It is drawn over the share of normal
    pixels, in all images, that score as much; the thresholds are all distinct scores, with straight lines between.

    Args:
        masks: True on the defects, (n, h, w); or one (h, w) for each image, which may differ in size.
        maps: Anomaly maps of the same shapes, higher for more anomalous; they may be infinite.
        limit: False-positive rate up to which the area is taken, above 0, at most 1.

    Returns:
        The area divided by the limit: 0 to 1. (limit / 2 for maps that say nothing.)

    Raises:
        ValueError: if there is no region, no normal pixel or no such limit, a score is NaN, or shapes differ.

    >>> mask = np.array([[True, False, False, False]])
    >>> round(aupro([mask], [np.array([[0.9, 0.1, 0.2, 0.3]])]), 2)
    1.0
    """
    if not 0 < limit <= 1:
        raise ValueError(f"limit is a false-positive rate above 0 and at most 1, got {limit}")
    if len(masks) != len(maps):
        raise ValueError(f"{len(masks)} masks for {len(maps)} maps: give one mask to each map")
    normal, defective, weights = [], [], []
    for mask, heatmap in zip(masks, maps, strict=True):
        labels, scores = _checked(mask, heatmap)
        normal.append(scores[~labels])
        if labels.any():
            regions = components(labels)[labels]
            defective.append(scores[labels])
            weights.append(1 / np.bincount(regions)[regions])
    if not defective:
        raise ValueError("no mask has a defect in it: the overlap with regions is not defined, measure something else")
    normal, defective, weights = (np.concatenate(each) for each in (normal, defective, weights))
    if not len(normal):
        raise ValueError("the masks cover all images: without normal pixels there is no false-positive rate")

    # Each normal pixel is a step of the curve to the right, as high as the overlap reached there. From the other side:
    # each defective pixel adds its weight to the steps of all the normal pixels that it beats (a tie counts half).
    weights /= weights.sum()
    allowed = limit * len(normal)
    kth = len(normal) - math.ceil(allowed)
    last = np.partition(normal, kth)[kth]
    steps = np.sort(normal[normal > last])
    beaten = sum(np.searchsorted(steps, defective, side) for side in ("left", "right")) / 2
    area = (weights * beaten).sum()
    # The last step is as wide as its ties; the limit cuts it where a straight line goes from one height to the next.
    low, high = weights[defective > last].sum(), weights[defective >= last].sum()
    part = allowed - len(steps)
    area += part * (low + (high - low) * part / np.count_nonzero(normal == last) / 2)
    return float(area / allowed)


def _classes(labels: Values, scores: Values) -> tuple[Shaped[np.ndarray, "p"], Shaped[np.ndarray, "q"]]:
    """The sorted scores of the positives and of the negatives; neither is empty."""
    labels, scores = _checked(labels, scores)
    positive, negative = np.sort(scores[labels]), np.sort(scores[~labels])
    if not len(positive) or not len(negative):
        absent = "positive (no defect)" if not len(positive) else "negative (nothing normal)"
        raise ValueError(f"of {labels.size} labels none is {absent}: with one class alone this number is not defined")
    return positive, negative


def _checked(labels: Values, scores: Values) -> tuple[Bool[np.ndarray, "*n"], Shaped[np.ndarray, "*n"]]:
    """Labels and scores as arrays in a precision that loses nothing."""
    labels, scores = _array(labels), _array(scores)
    if labels.shape != scores.shape:
        raise ValueError(f"labels {labels.shape} and scores {scores.shape} differ in shape: one score to each label")
    if labels.dtype != bool:
        if not ((labels == 0) | (labels == 1)).all():
            raise ValueError("labels are True and False, or 1 and 0: binarise masks first, with mask > 0")
        labels = labels.astype(bool)
    if np.isnan(scores).any():
        raise ValueError(f"{np.isnan(scores).sum()} of {scores.size} scores are NaN: look at the maps first")
    return labels, scores


def _array(values: Values) -> np.ndarray:
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    values = np.asarray(values)
    return values.astype(np.float32) if values.dtype == np.float16 else values  # half precision is slow to compare


def interval(
    values: Values,
    statistic: Callable[..., np.ndarray] = np.mean,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Give an interval for a statistic of independent cases.

    Shares of yes and no get Wilson's interval (1927), which is sensible for 0 and n hits of n, too. Other statistics
    get the percentile bootstrap (Efron 1979): the cases are drawn anew with replacement, the statistic is computed of
    each draw, and the interval is what the middle of these values covers.

    Args:
        values: One for each case; bool for a share.
        statistic: A function of an array and ``axis``; the mean or, for instance, ``np.median``.
        confidence: How often such intervals hold the truth, a share between 0 and 1.
        resamples: Draws of the bootstrap.
        seed: Seed for these draws.

    Returns:
        The lower and the upper end.

    Raises:
        ValueError: if there are no cases, a value is not finite, or ``confidence`` is not between 0 and 1.

    Example:
        >>> tuple(round(end, 2) for end in interval([True] * 97 + [False] * 3))
        (0.92, 0.99)
    """
    cases = _array(values)
    if cases.ndim != 1 or not cases.size or not np.isfinite(cases).all():
        raise ValueError(f"expected one finite number for each case, got shape {cases.shape}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is a share between 0 and 1, got {confidence}")
    if cases.dtype == bool and statistic is np.mean:
        ends = binomtest(int(cases.sum()), cases.size).proportion_ci(confidence, method="wilson")
        return float(ends.low), float(ends.high)
    drawn = np.random.default_rng(seed).integers(0, cases.size, (resamples, cases.size))
    low, high = np.quantile(statistic(cases[drawn], axis=1), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
