"""The exercises: their cases, their wrong answers, and their checks."""

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn

from xailab.cam import class_activation_map
from xailab.datasets import photographs, scenes
from xailab.hooks import recording
from xailab.lessons import Wrong, exercise
from xailab.lessons.judging import judge
from xailab.lessons.traces import watched
from xailab.models import zoo


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


def _stretched(values):
    return (values - values.min()) / (values.max() - values.min())


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


@exercise("02.2")
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


@exercise("02.3")
def _(my_trap) -> str:
    photograph, name = my_trap()
    network = zoo.load("efficientnet_lite0")
    if photograph not in photographs.names():
        raise Wrong(f"there is no photograph {photograph!r}; there are {', '.join(photographs.names())}.")
    if name not in network.classes:
        raise Wrong(f"there is no class {name!r}: choose one of network.classes, in its spelling.")
    if (photograph, name) == ("cat", "gibbon"):
        raise Wrong("this is the lesson's own trap: find another one.")
    batch, c = network.preprocess(photographs.photograph(photograph).image), network.classes.index(name)
    with torch.no_grad():
        probability = float(network(batch).softmax(1)[0, c])
    cam = class_activation_map(network, batch, c)[0]
    low, high = float(cam.min()), float(cam.max())
    zero = -low / (high - low)
    if probability >= 0.001:
        raise Wrong(
            f"{name!r} has a probability of {probability:.3f} in this photograph: evidence that is there is no trap."
        )
    if zero < 0.9:
        raise Wrong(
            f"the map goes from {low:.1f} to {high:.1f}, so stretching draws zero at {zero:.2f} of the scale, not at "
            "0.9 or more: look for a class whose cells are nearly all negative."
        )
    return f"from {low:.1f} to {high:.1f}, zero is drawn at {zero:.2f}: what glows there is evidence against {name!r}."


def _shared(maps: Tensor, largest: float) -> Tensor:
    return maps / largest if largest > 0 else torch.zeros_like(maps)


OPACITY_MISTAKES = {
    "each class has a scale of its own here: equal evidence gets equal opacity, so divide all maps by one number.": (
        lambda maps: torch.stack([_shared(each, float(each.max())) for each in maps.relu()])
    ),
    "each map was stretched from its minimum to its maximum, the trap of the lesson: zero is not transparent.": (
        lambda maps: torch.stack([_stretched(each) for each in maps])
    ),
    "all maps were stretched together, from their minimum to their maximum: zero is not transparent.": _stretched,
    "evidence against a class is drawn as well: no absolute values.": lambda maps: maps.abs() / maps.abs().max(),
    "1 belongs to the largest evidence for a class: do not divide by the largest absolute value.": (
        lambda maps: maps.relu() / maps.abs().max()
    ),
    "the opacity is not divided by the largest evidence.": lambda maps: maps.relu(),
    "the opacity is negative where the evidence is: cells against the class are transparent, 0.": (
        lambda maps: maps / maps.max()
    ),
    "the values are cut at 1: divide by the largest evidence of all maps.": lambda maps: maps.clamp(0, 1),
    "the classes of each cell compete here: equal evidence must get equal opacity at all places.": (
        lambda maps: torch.stack([_shared(each, float(each.max())) for each in maps.relu().transpose(0, 1)]).transpose(
            0, 1
        )
    ),
}


def opacity_cases() -> list[Tensor]:
    """Raw maps on which each of these mistakes shows; in the last ones no class has any evidence."""
    maps = torch.tensor([[[-9.0, 2, 0], [4, -1, 1]], [[3.0, -2, 0], [6, 2, -7]], [[-3.0, -1, -2], [-5, -2, -1]]])
    return [maps, 0.1 * maps[:2], -maps.abs() - 1]


@exercise("02.4")
def _(my_opacity) -> str:
    *cases, without = opacity_cases()
    for maps in cases:
        expected = _shared(maps.relu(), float(maps.max()))
        mistakes = {words: mistaken(maps) for words, mistaken in OPACITY_MISTAKES.items()}
        judge(my_opacity(maps), expected, mistakes, "one opacity for each cell of each map", "an opacity is wrong.")
    empty = torch.as_tensor(my_opacity(without))
    if empty.shape != without.shape or empty.any() or not torch.isfinite(empty).all():
        raise Wrong(
            "no class has any evidence in one of the cases, and everything must be transparent. Do you divide by zero, "
            "or by a negative number?"
        )
    return "zero is transparent, and the classes can be compared."


class _Named(nn.Module):
    """A network whose layers have misleading names; the layer that is averaged is not the last that runs."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.ReLU())
        self.first = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.ReLU())
        self.relu = nn.ReLU6()
        self.fc = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        features = self.first(self.last(x))
        self.relu(3 * features)  # an auxiliary branch that the score does not use
        return self.fc(features.mean((2, 3)))


def layer_cases() -> list[tuple[nn.Module, Tensor, list[str], str]]:
    """Networks, batches and names of layers, and which one is averaged.

    In the last case all layers agree in the first picture, which is black, and in class 0, which has no weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(25)
        named, batch = _Named().eval(), 3 * torch.rand(3, 3, 8, 8)
    with torch.no_grad():
        named.fc.weight[0], batch[0] = 0, 0
    resnet, efficientnet = zoo.load("scenes_resnet"), zoo.load("efficientnet_lite0")
    drawn = resnet.preprocess([scenes.scene(i, split="test").image for i in range(2)])
    photograph = efficientnet.preprocess(photographs.photograph("cup").image)
    return [
        (resnet, drawn, ["layer4.0", "layer4", "layer4.1.bn2"], "layer4"),
        (efficientnet, photograph, ["relu1", "norm1", "head"], "relu1"),
        (named, batch, ["last", "relu", "first"], "first"),
    ]


def _totals(network: nn.Module, batch: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """Return the means of a layer's weighted maps plus the bias, and the scores, each (n, classes)."""
    fc = network.get_submodule("fc")
    with torch.no_grad(), recording(network, name) as recorded:
        scores = network(batch)
        return fc(recorded[name].mean((2, 3))), scores


@exercise("02.5")
def _(my_layer) -> str:
    cases = layer_cases()
    for network, batch, names, right in cases:
        found = my_layer(network, batch, names)
        if found not in names:
            raise Wrong(f"the answer is one of the names {names}, got {found!r}.")
        if found != right:
            totals, scores = _totals(network, batch, found)
            i, c = divmod(int((totals - scores).abs().argmax()), scores.shape[1])
            raise Wrong(
                f"of {names} your answer is {found!r}, but for class {c} of picture {i} its weighted maps give "
                f"{totals[i, c]:.2f} where the score is {scores[i, c]:.2f}. Compare all pictures and all classes."
            )
    if watched(my_layer, *cases[-1][:3]).uses("xailab"):  # whose network is none of the zoo's
        raise Wrong("the layers are right, but they come from xailab: use hooks and the identity.")
    return "the identity has decided, whatever the layers are called."


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
    """The box of 02.6, with one thing that can be done wrongly at a time; ``labels`` says which regions may be it."""
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


@exercise("02.6")
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


FLAT_MISTAKES = {
    "the weights are in another order: Flatten counts the columns fastest, then the rows, then the channels.": (
        lambda features, weight: (weight.reshape(*features.shape[1:], len(features)).permute(2, 0, 1) * features).sum(0)
    ),
    "the weights of a channel were averaged over its cells, as Grad-CAM does: each cell has its own weight here.": (
        lambda features, weight: (weight.reshape(features.shape).mean((1, 2), keepdim=True) * features).sum(0)
    ),
    "there is no average in this network: the sum of the cells plus the bias is the score, not their mean.": (
        lambda features, weight: (weight.reshape(features.shape) * features).sum(0) * features[0].numel()
    ),
    "nothing is divided: the sum of the cells plus the bias is the score.": (
        lambda features, weight: (weight.reshape(features.shape) * features).mean(0)
    ),
    "nothing is divided by the number of cells: the sum of the cells plus the bias is the score.": (
        lambda features, weight: (weight.reshape(features.shape) * features).sum(0) / features[0].numel()
    ),
    "cells below zero speak against the class, and without them the sum is wrong: no ReLU.": (
        lambda features, weight: (weight.reshape(features.shape) * features).sum(0).relu()
    ),
    "one map is left for each channel: add the channels up.": (
        lambda features, weight: weight.reshape(features.shape) * features
    ),
    "these are the weights alone: multiply each with the feature in its cell.": (
        lambda features, weight: weight.reshape(features.shape).sum(0)
    ),
}


def flat_cases() -> list[tuple[Tensor, Tensor]]:
    """Features (k, h, w) and weights (classes, k h w) of a flattened head."""
    generator = torch.Generator().manual_seed(27)
    sizes = ((3, 2, 4, 3), (5, 4, 3, 2))
    return [
        (torch.rand(k, h, w, generator=generator), torch.randn(classes, k * h * w, generator=generator))
        for k, h, w, classes in sizes
    ]


@exercise("02.7")
def _(my_flat_map) -> str:
    for features, weight in flat_cases():
        for c, each in enumerate(weight):
            expected = (each.reshape(features.shape) * features).sum(0)
            mistakes = {words: mistaken(features, each) for words, mistaken in FLAT_MISTAKES.items()}
            if c:
                mistakes["this is the map of class 0, whatever class is asked for."] = (
                    weight[0].reshape(features.shape) * features
                ).sum(0)
            judge(
                my_flat_map(features, weight, c),
                expected,
                mistakes,
                "one map, (h, w)",
                f"the map of class {c} is wrong.",
            )
    return "the sum of the map plus the bias is the score, without any average."
