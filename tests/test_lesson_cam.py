"""Lesson 02: its drawing, its explorer when it is moved, and its checks with right and plausibly wrong answers."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from xailab import images
from xailab.cam import class_activation_map
from xailab.datasets import scenes
from xailab.hooks import recording
from xailab.lessons import cam, verdict
from xailab.localization import boxes, ground_truth_box
from xailab.metrics import iou, pointing
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
    figure = cam.draw_cam(zoo.load("squeezenet1_1-random"), picture, 0)
    assert figure.axes[0].images[0].get_array().shape == (224, 224, 3)


def test_the_map_beside_the_crop_is_of_the_crop():
    """And not of a crop of the crop, which would show less than the picture beside it."""
    network, picture = zoo.load("squeezenet1_1-random"), scenes.scene(3, size=300).image
    figure = cam.draw_cam(network, picture, 0)
    shown, map = (np.asarray(axes.images[0].get_array()) for axes in figure.axes[:2])
    assert np.array_equal(shown, network.preprocess.frame(picture))
    assert np.allclose(map, class_activation_map(network, network.preprocess(picture), 0)[0].numpy())


def test_what_the_lesson_says_of_its_pictures(network):
    """The sentences beside the figures, on the same scenes: a change of data or network must change the prose."""
    first = [scenes.scene(i, split="test", size=160) for i in range(20)]
    maps = class_activation_map(network, network.preprocess([s.image for s in first]))
    assert all(pointing(images.upsample(m, 160), s.masks[0]) for m, s in zip(maps, first, strict=True))
    fit = [iou(boxes(images.upsample(maps[i], 160), 0.6)[0], ground_truth_box(first[i].masks[0])) for i in range(3, 7)]
    assert sum(value < 0.5 for value in fit) == 2

    for i in (1, 2):  # each animal is evidence against the other
        pair = scenes.scene(i, kind="pair", label=(0, 1), split="test", size=256)
        both = images.upsample(class_activation_map(network, network.preprocess(pair.image), [[0, 1]])[0], 256)
        on = [[float(both[c][torch.from_numpy(mask)].mean()) for mask in pair.masks] for c in (0, 1)]
        assert on[0][0] > 10 > 0 > on[0][1] and on[1][1] > 10 > 0 > on[1][0]

    dog = network.preprocess(scenes.scene(2, label=1, split="test", size=256).image)
    with torch.no_grad(), recording(network, "layer4", "layer4.1.bn2") as recorded:
        network(dog)
    weight = network.fc.weight[1].detach()
    right, early = (torch.einsum("k,khw->hw", weight, recorded[name][0]) for name in ("layer4", "layer4.1.bn2"))
    assert float((early - right).abs().max() / right.max()) == pytest.approx(0.37, abs=0.005)
    umbrella = class_activation_map(network, dog, scenes.CLASSES.index("umbrella"))[0]
    assert float(-umbrella.min() / (umbrella.max() - umbrella.min())) == pytest.approx(0.8, abs=0.05)


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


def largest(regions, map):
    return np.bincount(regions.ravel())[1:].argmax() + 1


def brightest(regions, map):
    return regions.ravel()[int(map.argmax())]


def box_of(map, threshold, *, choose=largest, first=1, structure=((1, 1, 1),) * 3):
    """The right answer, with one thing that can be done wrongly at a time."""
    regions, _ = ndimage.label(np.asarray(map) >= threshold * float(map.max()), structure=structure)
    chosen = choose(regions, map) if first else np.bincount(regions.ravel()).argmax()
    y, x = np.nonzero(regions == chosen)
    return x.min(), y.min(), x.max() + 1, y.max() + 1


right_box = box_of


def box_around_everything(map, threshold):
    y, x = np.nonzero(np.asarray(map) >= threshold * float(map.max()))
    return x.min(), y.min(), x.max() + 1, y.max() + 1


def maps_of(features, weight):
    return torch.einsum("ck,khw->chw", weight, features)


def stretched(map):
    return (map - map.min()) / (map.max() - map.min())


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
        ("02.2", right_box, None),
        ("02.2", lambda m, t: [right_box(m, t)[i] for i in (1, 0, 3, 2)], "exchanged"),
        ("02.2", lambda m, t: (*right_box(m, t)[:2], *(v - 1 for v in right_box(m, t)[2:])), "one past the last"),
        ("02.2", box_around_everything, "largest connected one"),
        ("02.2", lambda m, t: box_of(m, t, first=0), "label 0 is the background"),
        ("02.2", lambda m, t: box_of(m, t, choose=lambda regions, map: 1), "most pixels"),
        ("02.2", lambda m, t: box_of(m, t, choose=brightest), "most pixels"),
        ("02.2", lambda m, t: box_of(m, t + 1e-6), "what reaches 0.5 counts"),
        ("02.2", lambda m, t: box_of(m, t, structure=None), "diagonal"),
        ("02.2", lambda m, t: box_of(m, t / float(m.max())), "share of the maximum"),
        ("02.2", lambda m, t: (0, 0, 1, 1), "expected (left, top, right, bottom)"),
        ("02.3", lambda f, w: maps_of(f, w)[..., : f.shape[2] // 2].sum((1, 2)).argmax(), None),
        ("02.3", lambda f, w: maps_of(f, w)[..., f.shape[2] // 2 :].sum((1, 2)).argmax(), "left half is columns"),
        ("02.3", lambda f, w: maps_of(f, w)[:, : f.shape[1] // 2].sum((1, 2)).argmax(), "left half is columns"),
        ("02.3", lambda f, w: maps_of(f, w).sum((1, 2)).argmax(), "left half is columns"),
        ("02.3", lambda f, w: maps_of(f, w)[..., :4].relu().sum((1, 2)).argmax(), "evidence against a class counts"),
        ("02.3", lambda f, w: f[..., :4].sum((1, 2)).argmax(), "weight the features"),
        ("02.3", lambda f, w: 0, "is wrong"),
        ("02.3", lambda f, w: 17, "class number"),
    ],
)
def test_checks(number, answer, part):
    found = verdict(number, answer)
    assert found.passed == (part is None), found.message
    assert part is None or part in found.message, found.message
