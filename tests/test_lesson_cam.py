"""Lesson 02: its drawing, its explorer when it is moved, and its checks with right and plausibly wrong answers."""

import functools

import numpy as np
import pytest
import torch
from scipy import ndimage

from xailab import images
from xailab.boxes import Box
from xailab.cam import class_activation_map
from xailab.datasets import photographs, scenes
from xailab.lessons import cam, verdict
from xailab.lessons.cam import exercises
from xailab.localization import boxes
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


def test_the_idea_is_drawn_with_the_networks_own_weights():
    network = zoo.load("efficientnet_lite0")
    batch, c = network.preprocess(photographs.photograph("cat").image), network.classes.index("tiger cat")
    figure = cam.draw_idea(network, batch, c)
    words = " ".join(text.get_text() for text in figure.axes[0].texts)
    assert "tiger cat" in words and "add all 1280" in words
    assert len(figure.axes[0].child_axes) == 8  # the picture, three maps, three weighted maps, and their sum
    with pytest.raises(TypeError, match="linear layer"):
        cam.draw_idea(torch.nn.ModuleDict({"fc": torch.nn.ReLU()}), batch, c)


def test_an_honest_overlay_of_nothing_is_the_picture(network, pictures):
    heats = torch.tensor([[[1.0, -1], [0, 3]], [[-1, -2], [-1, -4]]])
    figure = cam.draw_trap(pictures[0], heats, ["there", "not there"])
    stretched_nothing, honest_nothing = (np.asarray(figure.axes[k].images[0].get_array()) for k in (3, 4))
    assert np.array_equal(honest_nothing, images.grey(pictures[0]))
    assert not np.array_equal(stretched_nothing, honest_nothing)


def test_signed_and_raw_maps_share_their_scales(network, pictures):
    heats = class_activation_map(network, network.preprocess(pictures), [[0, 1]] * 2)
    pairs = [scenes.scene(i, kind="pair", split="test", size=128) for i in range(2)]
    signed = cam.draw_signed(pairs, heats, ["cat", "dog"])
    limits = {axes.images[0].get_clim() for i, axes in enumerate(signed.axes[:6]) if i % 3}
    assert limits == {(float(heats.min()), float(heats.max()))}
    raw = cam.draw_raw(pictures[0], list(heats[0]), ["cat", "dog"])
    assert len({axes.images[0].get_clim() for axes in raw.axes[1:3]}) == 1


def test_the_measures_and_the_boxes_are_drawn_as_given(pictures):
    masks = np.zeros((4, 8, 8), bool)
    masks[:3, 2:6, 2:6] = True
    overlaps = {name: np.linspace(0, 1, 12).reshape(4, 3) for name in ("training", "test")}
    figure = cam.draw_measures(np.array([True] * 4), masks, np.array([0.2, 0.4, 0.6]), overlaps, 1)
    assert [bar.get_height() for bar in figure.axes[0].patches] == [0.75, 1.0]
    assert "chosen, 0.40" in [line.get_label() for line in figure.axes[1].lines]
    large = torch.zeros(2, 128, 128)
    large[:, 10:30, 20:60] = 1
    drawn = cam.draw_boxes(pictures, large, [Box(20, 10, 60, 30)] * 2, {"a": 0.2, "b": 0.5})
    assert [axes.get_title() for axes in drawn.axes] == ["IoU 1.00 and 1.00"] * 2


def test_a_network_of_the_tutorials_is_shown_on_the_composite():
    figure, lines = cam.draw_composite(zoo.load("squeezenet1_1", weights=None), "a network")
    assert len(figure.axes) == 3 and lines.count("on the half of the cat") == 2


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


def zero_of(name, photograph):
    network = zoo.load("efficientnet_lite0")
    batch = network.preprocess(photographs.photograph(photograph).image)
    heat = class_activation_map(network, batch, network.classes.index(name))
    return float(-heat.min() / (heat.max() - heat.min()))


def opacity(maps):
    return maps.clamp(min=0) / maps.max().clamp(min=1e-9)


def totals(network, batch, names):
    kept, hooks = {}, []
    for name in names:
        keep = functools.partial(lambda name, module, inputs, output: kept.update({name: output}), name)
        hooks.append(network.get_submodule(name).register_forward_hook(keep))
    with torch.no_grad():
        scores = network(batch)
        for hook in hooks:
            hook.remove()
        return {name: (network.fc(each.mean((2, 3))) - scores).abs() for name, each in kept.items()}


def right_layer(network, batch, names):
    errors = totals(network, batch, names)
    return min(names, key=lambda name: errors[name].max())


def layer_by_library(network, batch, names):
    for name in names:
        try:
            class_activation_map(network, batch, 1, layer=name)
        except ValueError:
            continue
        return name


def layer_with_a_hook_left(network, batch, names):
    network.get_submodule(names[0]).register_forward_hook(lambda *_: None)
    return right_layer(network, batch, names)


def layer_by(choose):
    return lambda network, batch, names: choose(names, totals(network, batch, names))


def flat(features, weight, c):
    return (weight[c].reshape(features.shape) * features).sum(0)


def flat_by_cells(features, weight, c):
    _, rows, columns = features.shape
    found = torch.zeros(rows, columns)
    for y in range(rows):
        for x in range(columns):
            for k in range(len(features)):
                found[y, x] += weight[c, (k * rows + y) * columns + x] * features[k, y, x]
    return found


NEW_CHECKS = [
    ("02.3", lambda: ("flower", "missile"), None),
    ("02.3", lambda: ("motorcycle", "airliner"), None),
    ("02.3", lambda: ["cat", "giant panda"], None),  # all cells are negative
    ("02.3", lambda: ("cat", "gibbon"), "the lesson's own"),
    ("02.3", lambda: ("cat", "tiger cat"), "a probability of 0.3"),
    ("02.3", lambda: ("cat", "volcano"), "zero at 0.6"),
    ("02.3", lambda: ("dog", "gibbon"), "there is no photograph 'dog'"),
    ("02.3", lambda: ("gibbon", "cat"), "there is no photograph 'gibbon'"),
    ("02.3", lambda: ("cat", "Gibbon"), "there is no class"),
    ("02.3", lambda: ..., "not written yet"),
    ("02.4", opacity, None),
    ("02.4", lambda m: (m / max(float(m.max()), 1e-9)).clamp(0, 1), None),
    ("02.4", lambda m: np.maximum(m.numpy(), 0) / max(m.numpy().max(), 1e-9), None),
    ("02.4", lambda m: torch.stack([opacity(each) for each in m]), "a scale of its own"),
    ("02.4", lambda m: torch.stack([stretched(each) for each in m]), "the trap of the lesson"),
    ("02.4", stretched, "stretched together"),
    ("02.4", lambda m: m.abs() / m.abs().max(), "no absolute values"),
    ("02.4", lambda m: m.relu() / m.abs().max(), "largest absolute value"),
    ("02.4", lambda m: m.relu(), "not divided"),
    ("02.4", lambda m: m / m.max(), "cells against the class are transparent"),
    ("02.4", lambda m: m.clamp(0, 1), "cut at 1"),
    ("02.4", lambda m: m.relu() / m.relu().max(), "Do you divide by zero"),
    ("02.4", lambda m: m.relu() / m.relu().amax((0, 1)).clamp(min=1e-9), "an opacity is wrong"),
    ("02.4", lambda m: m[0].relu(), "expected shape"),
    ("02.5", right_layer, None),
    ("02.5", layer_by(lambda names, errors: names[-1]), "Compare all pictures"),
    ("02.5", layer_by(lambda names, errors: names[0]), "Compare all pictures"),
    ("02.5", layer_by(lambda names, errors: names[1]), "Compare all pictures"),
    ("02.5", layer_by(lambda names, errors: list(errors)[-1]), "Compare all pictures"),  # the last that runs
    ("02.5", layer_by(lambda names, errors: min(names, key=lambda n: errors[n][0].max())), "Compare all pictures"),
    ("02.5", layer_by(lambda names, errors: min(names, key=lambda n: errors[n][:, 0].max())), "Compare all pictures"),
    ("02.5", lambda network, batch, names: "layer4", "one of the names"),
    (
        "02.5",
        lambda network, batch, names: network.get_submodule(right_layer(network, batch, names)),
        "one of the names",
    ),
    ("02.5", layer_by_library, "they come from xailab"),
    ("02.5", layer_with_a_hook_left, "a hook was left"),
    ("02.7", flat, None),
    ("02.7", flat_by_cells, None),
    ("02.7", lambda f, w, c: (w[c] * f.flatten()).view(f.shape).sum(0), None),
    ("02.7", lambda f, w, c: (w[c].reshape(*f.shape[1:], -1).permute(2, 0, 1) * f).sum(0), "in another order"),
    ("02.7", lambda f, w, c: (w[c].reshape(f.shape).mean((1, 2), keepdim=True) * f).sum(0), "as Grad-CAM does"),
    ("02.7", lambda f, w, c: flat(f, w, c) * f[0].numel(), "not their mean"),
    ("02.7", lambda f, w, c: flat(f, w, c) / f[0].numel(), "nothing is divided by the number of cells"),
    ("02.7", lambda f, w, c: flat(f, w, c) / len(f), "nothing is divided"),
    ("02.7", lambda f, w, c: flat(f, w, c).relu(), "no ReLU"),
    ("02.7", lambda f, w, c: w[c].reshape(f.shape) * f, "add the channels up"),
    ("02.7", lambda f, w, c: w[c].reshape(f.shape).sum(0), "the weights alone"),
    ("02.7", lambda f, w, c: flat(f, w, 0), "the map of class 0"),
    ("02.7", lambda f, w, c: flat(f, w, c).T, "expected shape"),
    ("02.7", lambda f, w, c: flat(f, w, c) + 1, "the map of class 0 is wrong"),
]


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
        *NEW_CHECKS,
    ],
)
def test_checks(number, answer, part):
    found = verdict(number, answer)
    assert found.passed == (part is None), found.message
    assert part is None or part in found.message, found.message


def same_as_others(found):
    return len({str(each) for each in found}) < len(found)


def test_each_mistake_shows_alone():
    """No mistake gives the right answer in all cases, nor the same answers as another."""
    cases = exercises.box_cases()
    answers = [exercises._box, *exercises.BOX_MISTAKES.values()]
    assert not same_as_others([[answer(*case) for case in cases] for answer in answers])
    maps = [maps_of(*case) for case in exercises.half_cases()]
    answers = [exercises._left, *exercises.HALF_MISTAKES.values()]
    assert not same_as_others(
        [[int(of(each).reshape(len(each), -1).sum(1).argmax()) for each in maps] for of in answers]
    )
    raw = exercises.opacity_cases()[:2]
    assert not same_as_others([[answer(m).tolist() for m in raw] for answer in exercises.OPACITY_MISTAKES.values()])


def test_the_traps_of_the_tests_are_traps():
    assert zero_of("missile", "flower") > 0.9 and zero_of("giant panda", "cat") > 1 and zero_of("volcano", "cat") < 0.7
