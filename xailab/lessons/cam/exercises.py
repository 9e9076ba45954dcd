"""The exercises: their cases, their wrong answers, and their checks."""

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from xailab.lessons import Wrong, exercise
from xailab.lessons.judging import judge
from xailab.lessons.traces import watched


@exercise("02.1")
def _(my_cam) -> str:
    generator = torch.Generator().manual_seed(7)
    for k, h, w, classes in ((4, 3, 5, 3), (6, 2, 7, 4)):
        features, weight = torch.rand(k, h, w, generator=generator), torch.randn(classes, k, generator=generator)
        maps = torch.einsum("ck,khw->chw", weight, features)
        for c in range(classes):
            expected = maps[c]
            mistakes = {
                "one map is left for each channel: add the weighted channels up.": weight[c].view(-1, 1, 1) * features,
                "CAM has no ReLU: negative cells speak against the class, and without them the mean is wrong.": (
                    expected.relu()
                ),
                "every channel counts alike here: weight it with weight[c, k] first.": features.mean(0),
                "every channel counts alike here, summed: weight it with weight[c, k] first.": features.sum(0),
                "nothing is divided in M_c: the average over space comes afterwards.": expected / (h * w),
                "nothing is divided in M_c: the channels are added up, not averaged.": expected / k,
                "return the raw map; stretched to [0, 1] it no longer adds up to the score.": (
                    (expected - expected.min()) / (expected.max() - expected.min())
                ),
                "return the raw map; divided by its maximum it no longer adds up to the score.": (
                    expected / expected.max()
                ),
                "these are the maps of all classes: return that of class c.": maps,
                f"the map of class {c} is wrong: it is that of class 0, whatever class is asked for.": maps[0],
                f"the map of class {c} is wrong: it is that of the class with the largest score.": (
                    maps[maps.sum((1, 2)).argmax()]
                ),
            }
            found = torch.as_tensor(my_cam(features, weight, c))
            if found.shape not in {value.shape for value in mistakes.values()}:
                raise Wrong(f"expected a result of shape {(h, w)}, got {tuple(found.shape)}.")
            otherwise = f"the map of class {c} is wrong. Is it sum_k weight[c, k] * features[k]?"
            judge(found, expected, mistakes, "one map, (h, w)", otherwise)
    few, many = (watched(my_cam, torch.ones(4, *size), torch.ones(3, 4), 0) for size in ((3, 5), (6, 10)))
    if few.steps != many.steps:
        raise Wrong("the map is right, but made in a loop over the cells: weight whole channels, and add those up.")
    return "your map is the library's."


def _box(
    cam: np.ndarray,
    threshold: float,
    *,
    of=lambda cam: cam,
    level=lambda threshold, values: threshold * values.max(),
    reaches=np.greater_equal,
    structure=((1, 1, 1),) * 3,
    largest=lambda region, values: region.sum(),
    labels=lambda count: range(1, count + 1),
) -> tuple[int, ...]:
    """The box of 02.2, with one thing that can be done wrongly at a time; ``labels`` says which regions may be it."""
    values = of(cam)
    regions = np.empty(values.shape, np.int32)
    count = ndimage.label(reaches(values, level(threshold, values)), structure, regions)
    chosen = max([regions == label for label in labels(count)], key=lambda region: largest(region, values))
    y, x = np.nonzero(chosen)
    return int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1


def _box_area(region: np.ndarray, values: np.ndarray) -> int:
    return int(np.prod([np.ptp(places) + 1 for places in np.nonzero(region)]))


def _box_around_all(cam: np.ndarray, threshold: float) -> tuple[int, ...]:
    y, x = np.nonzero(cam >= threshold * cam.max())
    return int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1


def _box_of_background(cam: np.ndarray, threshold: float) -> tuple[int, ...]:
    return _box(cam, threshold, labels=lambda count: range(count + 1))


def _stretched(values):
    return (values - values.min()) / (values.max() - values.min())


BOX_MISTAKES = {
    "rows and columns are exchanged: left and right run along the width, top and bottom the height.": (
        lambda cam, t: tuple(_box(cam, t)[i] for i in (1, 0, 3, 2))
    ),
    "the last row and column are missing: right and bottom are one past the last bright pixel.": (
        lambda cam, t: (*_box(cam, t)[:2], _box(cam, t)[2] - 1, _box(cam, t)[3] - 1)
    ),
    "this is (left, top, width, height): right and bottom are places.": (
        lambda cam, t: (*_box(cam, t)[:2], _box(cam, t)[2] - _box(cam, t)[0], _box(cam, t)[3] - _box(cam, t)[1])
    ),
    "this box spans all bright regions: keep the largest connected one (scipy.ndimage.label).": _box_around_all,
    "label 0 is the background, and may be the largest: the regions are numbered from 1.": _box_of_background,
    "region 1 is only the first from above: take the one with the most pixels.": (
        lambda cam, t: _box(cam, t, labels=lambda count: [1])
    ),
    "the largest region has the most pixels, not the highest value.": (
        lambda cam, t: _box(cam, t, largest=lambda region, values: values[region].max())
    ),
    "the largest region has the most pixels, not the largest sum of values: few bright ones do not outweigh many.": (
        lambda cam, t: _box(cam, t, largest=lambda region, values: values[region].sum())
    ),
    "the largest region has the most pixels, not the largest box around it.": (
        lambda cam, t: _box(cam, t, largest=_box_area)
    ),
    "this is the smallest region: take the one with the most pixels.": (
        lambda cam, t: _box(cam, t, largest=lambda region, values: -region.sum())
    ),
    "a region reaches the threshold where it is equal, too: what reaches 0.5 counts (>=, not >).": (
        lambda cam, t: _box(cam, t, reaches=np.greater)
    ),
    "diagonal neighbours are connected too: pass structure=np.ones((3, 3)) to label.": (
        lambda cam, t: _box(cam, t, structure=None)
    ),
    "the threshold is a share of the maximum: in a row 0, 3, 5, 10 only the 10 reaches 0.6 of it.": (
        lambda cam, t: _box(cam, t, level=lambda t, values: t)
    ),
    "the map was stretched to [0, 1] first: its zero has moved, and the threshold with it. Take a share of the raw "
    "maximum.": lambda cam, t: _box(cam, t, of=_stretched),
    "cells below zero speak against the class, and are no part of its region: no absolute values.": (
        lambda cam, t: _box(cam, t, of=np.abs)
    ),
    "the threshold that was given is not used: this is 0.5, whatever is asked for.": lambda cam, t: _box(cam, 0.5),
    "the threshold that was given is not used: this is 0.6, whatever is asked for.": lambda cam, t: _box(cam, 0.6),
}


def box_cases() -> list[tuple[np.ndarray, float]]:
    """Maps and thresholds on which each of these mistakes gives boxes of its own; all numbers are exact."""
    plain, unlike, corner, negative, slanted = (np.zeros((7, 10), np.float32) for _ in range(5))
    plain[0:2, 0:2], plain[3:5, 4:9] = 6, 8
    plain[0, 0] = 9
    unlike[0, 2:8], unlike[3:5, 0:2] = 9, 16  # six pale pixels, and four bright ones
    corner[1, 0:3], corner[2, 3:5], corner[5, 6:10] = 4, 4, 4  # five pixels that touch at a corner, and four in a row
    negative[:] = -4
    negative[0, 0:3], negative[4, 3:5], negative[5:7, 2:7] = 6, 4, 2  # 2 is halfway and more from -4 to 6
    slanted[0:3, 0:3] = 2
    slanted[range(6), range(4, 10)] = 2  # six pixels in a box of 36, and nine in one of nine
    row = np.array([[0, 3, 5, 10]], np.float32)
    return [(plain, 0.5), (plain, 0.875), (unlike, 0.5), (corner, 0.5), (negative, 0.5), (slanted, 0.5), (row, 0.6),
            (row, 0.5), (row, 0.25)]  # fmt: skip


@exercise("02.2")
def _(my_box) -> str:
    cases = box_cases()
    found = [tuple(int(end) for end in my_box(torch.from_numpy(cam), threshold)) for cam, threshold in cases]
    right = [_box(*case) for case in cases]

    def otherwise(_: int) -> str:
        i = next(i for i, ends in enumerate(found) if ends != right[i])
        cam, threshold = cases[i]
        return (
            f"expected (left, top, right, bottom) = {right[i]} at {threshold} of the maximum, got {found[i]}, for the "
            f"map {cam.astype(int).tolist()}."
        )

    mistakes = {words: torch.tensor([mistaken(*case) for case in cases]) for words, mistaken in BOX_MISTAKES.items()}
    judge(found, torch.tensor(right), mistakes, "four numbers for each map", otherwise)
    return "the largest connected region, in the right order, ends exclusive."


def _left(maps: Tensor) -> Tensor:
    return maps[..., : maps.shape[2] // 2]


HALF_MISTAKES = {
    "in the left half without the negative cells: evidence against a class counts too": lambda maps: _left(maps).relu(),
    "in the left half by absolute value: evidence against a class counts against it": lambda maps: _left(maps).abs(),
    "in the single strongest cell of the left half: add up all of them": lambda maps: _left(maps).amax((1, 2)),
    "in the right half": lambda maps: maps[..., maps.shape[2] // 2 :],
    "in the upper half: columns are the last dimension": lambda maps: maps[:, : maps.shape[1] // 2],
    "in the whole picture": lambda maps: maps,
    "in the left half with the middle column, which belongs to neither": (
        lambda maps: maps[..., : (maps.shape[2] + 1) // 2]
    ),
    "in the first 4 columns, which are the half of one width only": lambda maps: maps[..., :4],
    "in its stretched map: raw maps add up over a region, stretched ones do not": (
        lambda maps: _left(torch.stack([_stretched(cam) for cam in maps]))
    ),
    "as a share of its own: compare the evidence itself": (
        lambda maps: _left(maps).sum((1, 2)) / maps.sum((1, 2)).masked_fill(maps.sum((1, 2)) == 0, 1)
    ),
}


def half_cases(count: int = 12) -> list[tuple[Tensor, Tensor]]:
    """Features (k, h, w) and weights (classes, k), whole numbers; one class leads on the left, another over all."""
    generator, cases = torch.Generator().manual_seed(104), []
    while len(cases) < count:
        k, h, w, classes = (
            int(torch.randint(*ends, (1,), generator=generator)) for ends in ((2, 6), (3, 7), (5, 12), (4, 8))
        )
        features = torch.randint(-30, 10, (k, h, w), generator=generator).relu().float()  # few cells are active
        weight = torch.randint(-5, 6, (classes, k), generator=generator).float()
        maps = torch.einsum("ck,khw->chw", weight, features)
        left = _left(maps).sum((1, 2))
        first, second = left.topk(2).values
        if first > second and left.argmax() != maps.sum((1, 2)).argmax():
            cases.append((features, weight))
    return cases


@exercise("02.3")
def _(my_half) -> str:
    cases = half_cases()
    maps = [torch.einsum("ck,khw->chw", weight, features) for features, weight in cases]

    def strongest(evidence) -> list[int]:
        return [int(evidence(each).reshape(len(each), -1).sum(1).argmax()) for each in maps]

    right, found = strongest(_left), []
    for (features, weight), each in zip(cases, maps, strict=True):
        found.append(int(my_half(features, weight)))
        if not 0 <= found[-1] < len(each):
            raise Wrong(f"the answer is a class number from 0 to {len(each) - 1}, got {found[-1]}.")
    if found != right and len(set(found)) == 1:
        raise Wrong(f"class {found[0]} is wrong for most pictures: the answer has to depend on what you are given.")

    def otherwise(i: int) -> str:
        k, h, w = cases[i][0].shape
        return (
            f"class {found[i]} is wrong, it is class {right[i]}, for {k} channels of {h} × {w} cells: weight the "
            "features into maps first, then add up the left half of each."
        )

    mistakes = {
        f"yours is the class with the most evidence {words}. The left half is columns 0 to w // 2 - 1.": (
            torch.tensor(strongest(evidence))
        )
        for words, evidence in HALF_MISTAKES.items()
    }
    judge(found, torch.tensor(right), mistakes, "one class for each picture", otherwise)
    return "evidence adds up over any region, since nothing was normalised."
