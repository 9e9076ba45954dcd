"""Lesson 02: its drawing, its explorer when it is moved, and its checks with right and plausibly wrong answers."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from xailab import images
from xailab.boxes import iou
from xailab.cam import class_activation_map
from xailab.datasets import scenes
from xailab.hooks import recording
from xailab.lessons import cam, verdict
from xailab.localization import boxes, ground_truth_box
from xailab.metrics import pointing_game
from xailab.models import zoo


@pytest.fixture(scope="module")
def network():
    return zoo.load("scenes_resnet")


@pytest.fixture(scope="module")
def pictures():
    return [scenes.scene(i, kind="pair", split="test", size=128).image for i in range(2)]


def test_drawing_shows_the_boxes_of_the_threshold(network, pictures):
    strict, loose = (cam.draw_cam(network, pictures[0], 0, threshold=t) for t in (0.95, 0.2))
    widths = [max(patch.get_width() for patch in figure.axes[0].patches) for figure in (strict, loose)]
    assert widths[0] < widths[1]
    assert "cat" in strict.axes[0].get_title() and "95 %" in strict.axes[2].get_title()


def test_of_a_cropping_network_the_crop_is_drawn():
    picture = np.zeros((300, 600, 3), dtype=np.uint8)
    figure = cam.draw_cam(zoo.load("squeezenet1_1", weights=None), picture, 0)
    assert figure.axes[0].images[0].get_array().shape == (224, 224, 3)


def test_the_map_beside_the_crop_is_of_the_crop():
    """And not of a crop of the crop, which would show less than the picture beside it."""
    network, picture = zoo.load("squeezenet1_1", weights=None), scenes.scene(3, size=300).image
    figure = cam.draw_cam(network, picture, 0)
    shown, heat = (np.asarray(axes.images[0].get_array()) for axes in figure.axes[:2])
    assert np.array_equal(shown, network.preprocess.frame(picture))
    assert np.allclose(heat, class_activation_map(network, network.preprocess(picture), 0)[0].numpy())


def test_explorer_follows_every_control(network, pictures):
    box = cam.cam_explorer(network, pictures)
    seen = {box.picture.value}
    for name, value in (("picture", 2), ("label", 5), ("threshold", 0.3), ("opacity", 0.1)):
        box.controls[name].value = value
        assert box.message.value == ""
        seen.add(box.picture.value)
    assert len(seen) == 5


def right_cam(features, weight, c):
    return torch.einsum("k,khw->hw", weight[c], features)


def largest(regions, heat):
    return np.bincount(regions.ravel())[1:].argmax() + 1


def brightest(regions, heat):
    return regions.ravel()[int(heat.argmax())]


def box_of(heat, threshold, *, choose=largest, first=1, structure=((1, 1, 1),) * 3):
    """The right answer, with one thing that can be done wrongly at a time."""
    regions, _ = ndimage.label(np.asarray(heat) >= threshold * float(heat.max()), structure=structure)
    chosen = choose(regions, heat) if first else np.bincount(regions.ravel()).argmax()
    y, x = np.nonzero(regions == chosen)
    return x.min(), y.min(), x.max() + 1, y.max() + 1


right_box = box_of


def box_around_everything(heat, threshold):
    y, x = np.nonzero(np.asarray(heat) >= threshold * float(heat.max()))
    return x.min(), y.min(), x.max() + 1, y.max() + 1


def heaviest(regions, heat):
    return np.bincount(regions.ravel(), np.asarray(heat).ravel())[1:].argmax() + 1


def widest(regions, heat):
    areas = [np.prod([place.stop - place.start for place in places]) for places in ndimage.find_objects(regions)]
    return int(np.argmax(areas)) + 1


def box_by_growing(heat, threshold):
    """The right answer without scipy: regions grow from pixel to pixel."""
    left = {(y, x) for y, x in np.argwhere(np.asarray(heat) >= threshold * float(heat.max())).tolist()}
    regions = []
    while left:
        region = edge = {left.pop()}
        while edge:
            edge = {(y + i, x + j) for y, x in edge for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left, region = left - edge, region | edge
        regions.append(np.array(list(region)))
    y, x = max(regions, key=len).T
    return [x.min(), y.min(), x.max() + 1, y.max() + 1]


def box_in_place(heat, threshold):
    heat[heat < 0] = 0
    return box_of(heat, threshold)


def cam_by_cells(features, weight, c):
    found = torch.zeros(features.shape[1:])
    for y in range(features.shape[1]):
        for x in range(features.shape[2]):
            found[y, x] = weight[c] @ features[:, y, x]
    return found


def cam_in_place(features, weight, c):
    features *= weight[c, :, None, None]
    return features.sum(0)


def maps_and_ignored_class(features, weight, c):
    return maps_of(features, weight)


def half_of(maps):
    return maps[..., : maps.shape[2] // 2].sum((1, 2))


def half_by_loops(features, weight):
    evidence = [0.0] * len(weight)
    for c in range(len(weight)):
        for k in range(len(features)):
            for y in range(features.shape[1]):
                for x in range(features.shape[2] // 2):
                    evidence[c] += float(weight[c, k] * features[k, y, x])
    return evidence.index(max(evidence))


def maps_of(features, weight):
    return torch.einsum("ck,khw->chw", weight, features)


def stretched(heat):
    return (heat - heat.min()) / (heat.max() - heat.min())


@pytest.mark.parametrize(
    ("number", "answer", "part"),
    [
        ("02.1", right_cam, None),
        ("02.1", lambda f, w, c: right_cam(f, w, c).relu(), "no ReLU"),
        ("02.1", lambda f, w, c: w[c].view(-1, 1, 1) * f, "add the weighted channels up"),
        ("02.1", lambda f, w, c: f.mean(0), "weight it with"),
        ("02.1", lambda f, w, c: right_cam(f, w, c).mean(), "expected a result of shape"),
        ("02.1", lambda f, w, c: right_cam(f, w, c) / 15, "nothing is divided"),
        ("02.1", lambda f, w, c: stretched(right_cam(f, w, c)), "return the raw map"),
        ("02.1", lambda f, w, c: right_cam(f, w, 0), "the map of class 1 is wrong"),
        ("02.1", lambda f, w, c: ..., "not written yet"),
        ("02.1", lambda f, w, c: (w[c][:, None, None] * f).sum(0), None),
        ("02.1", lambda f, w, c: sum(weight * each for weight, each in zip(w[c], f, strict=True)), None),
        ("02.1", lambda f, w, c: np.tensordot(w[c].numpy(), f.numpy(), 1), None),
        ("02.1", lambda f, w, c: right_cam(f.double(), w.double(), c), None),
        ("02.1", lambda f, w, c: maps_of(f, w)[maps_of(f, w).sum((1, 2)).argmax()], "largest score"),
        ("02.1", maps_and_ignored_class, "maps of all classes"),
        ("02.1", lambda f, w, c: sum(w[c, k] * f[k] for k in range(4)), "the map of class 0 is wrong"),
        ("02.1", lambda f, w, c: right_cam(f, w, c) / right_cam(f, w, c).max(), "divided by its maximum"),
        ("02.1", lambda f, w, c: f.sum(0), "counts alike here, summed"),
        ("02.1", cam_by_cells, "loop over the cells"),
        ("02.1", cam_in_place, "it changed `features`"),
        ("02.6", right_box, None),
        ("02.6", lambda m, t: [right_box(m, t)[i] for i in (1, 0, 3, 2)], "exchanged"),
        ("02.6", lambda m, t: (*right_box(m, t)[:2], *(v - 1 for v in right_box(m, t)[2:])), "one past the last"),
        ("02.6", box_around_everything, "largest connected one"),
        ("02.6", lambda m, t: box_of(m, t, first=0), "label 0 is the background"),
        ("02.6", lambda m, t: box_of(m, t, choose=lambda regions, heat: 1), "most pixels"),
        ("02.6", lambda m, t: box_of(m, t, choose=brightest), "most pixels"),
        ("02.6", lambda m, t: box_of(m, t + 1e-6), "what reaches 0.5 counts"),
        ("02.6", lambda m, t: box_of(m, t, structure=None), "diagonal"),
        ("02.6", lambda m, t: box_of(m, t / float(m.max())), "share of the maximum"),
        ("02.6", lambda m, t: (0, 0, 1, 1), "expected (left, top, right, bottom)"),
        ("02.2", lambda f, w: maps_of(f, w)[..., : f.shape[2] // 2].sum((1, 2)).argmax(), None),
        ("02.2", lambda f, w: maps_of(f, w)[..., f.shape[2] // 2 :].sum((1, 2)).argmax(), "left half is columns"),
        ("02.2", lambda f, w: maps_of(f, w)[:, : f.shape[1] // 2].sum((1, 2)).argmax(), "left half is columns"),
        ("02.2", lambda f, w: maps_of(f, w).sum((1, 2)).argmax(), "left half is columns"),
        (
            "02.2",
            lambda f, w: maps_of(f, w)[..., : f.shape[2] // 2].relu().sum((1, 2)).argmax(),
            "evidence against a class counts",
        ),
        ("02.2", lambda f, w: f[: len(w), :, :4].sum((1, 2)).argmax(), "weight the features"),
        ("02.2", lambda f, w: 0, "is wrong"),
        ("02.2", lambda f, w: 17, "class number"),
        ("02.6", lambda m, t: boxes(m, t)[0], None),
        ("02.6", lambda m, t: torch.tensor(right_box(m, t)), None),
        ("02.6", box_by_growing, None),
        ("02.6", lambda m, t: box_of(m.double(), t), None),
        ("02.6", lambda m, t: box_of(m.relu(), t), None),
        ("02.6", lambda m, t: box_of(stretched(m), t), "its zero has moved"),
        ("02.6", lambda m, t: box_of(images.normalise(m), t), "its zero has moved"),
        ("02.6", lambda m, t: box_of(m.abs(), t), "no absolute values"),
        ("02.6", lambda m, t: box_of(m, t, choose=heaviest), "not the largest sum"),
        ("02.6", lambda m, t: box_of(m, t, choose=brightest), "not the highest value"),
        ("02.6", lambda m, t: box_of(m, t, choose=widest), "not the largest box"),
        ("02.6", lambda m, t: box_of(m, t, choose=lambda regions, heat: regions.max()), "expected (left"),
        ("02.6", lambda m, t: box_of(m, 0.6), "not used"),
        ("02.6", lambda m, t: box_of(m, 0.5), "not used"),
        ("02.6", lambda m, t: (4, 1, 9, 3), "expected (left, top, right, bottom)"),
        ("02.6", box_in_place, "it changed `heat`"),
        ("02.2", lambda f, w: maps_of(f, w)[..., : f.shape[2] // 2].mean((1, 2)).argmax(), None),
        ("02.2", lambda f, w: (w @ f[..., : f.shape[2] // 2].sum((1, 2))).argmax(), None),
        ("02.2", lambda f, w: np.argmax(w.numpy() @ f.numpy()[..., : f.shape[2] // 2].sum((1, 2))), None),
        ("02.2", half_by_loops, None),
        ("02.2", lambda f, w: 2, "depend on what you are given"),
        ("02.2", lambda f, w: maps_of(f, w)[..., :4].sum((1, 2)).argmax(), "first 4 columns"),
        ("02.2", lambda f, w: maps_of(f, w)[..., : -(-f.shape[2] // 2)].sum((1, 2)).argmax(), "middle column"),
        ("02.2", lambda f, w: maps_of(f, w)[..., : f.shape[2] // 2].abs().sum((1, 2)).argmax(), "absolute"),
        ("02.2", lambda f, w: maps_of(f, w)[..., : f.shape[2] // 2].amax((1, 2)).argmax(), "single strongest"),
        ("02.2", lambda f, w: half_of(torch.stack([stretched(m) for m in maps_of(f, w)])).argmax(), "stretched"),
        ("02.2", lambda f, w: half_of(maps_of(f, w)).argmin(), "is wrong"),
        ("02.2", lambda f, w: half_of(f.sum(0)[None] * w.sum(1)[:, None, None]).argmax(), "weight the features"),
    ],
)
def test_checks(number, answer, part):
    found = verdict(number, answer)
    assert found.passed == (part is None), found.message
    assert part is None or part in found.message, found.message


@pytest.mark.parametrize("kind", ["box", "half"])
def test_each_mistake_shows_alone(kind):
    """No mistake gives the right answer in all cases, nor the same answers as another."""
    if kind == "box":
        cases = cam.box_cases()
        answers = [cam.exercises._box, *cam.BOX_MISTAKES.values()]
        found = [[answer(*case) for case in cases] for answer in answers]
    else:
        maps = [maps_of(*case) for case in cam.half_cases()]
        answers = [cam.exercises._left, *cam.HALF_MISTAKES.values()]
        found = [[int(of(each).reshape(len(each), -1).sum(1).argmax()) for each in maps] for of in answers]
    assert len({str(each) for each in found}) == len(answers), found
