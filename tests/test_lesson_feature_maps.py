"""Lesson 06: what it draws, measures and says, its explorer, and its checks with right and wrong answers."""

import copy
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networks import assert_unchanged, snapshot
from torch import nn

from xailab import images
from xailab.datasets import photographs, scenes
from xailab.feature_maps import chain, feature_maps
from xailab.lessons import feature_maps as lesson
from xailab.lessons import verdict
from xailab.lessons.feature_maps.exercises import DETECTOR_MISTAKES, EDGE_CHANNELS, _answers, edge_detector_cases
from xailab.models import zoo
from xailab.receptive_field import receptive_field

ALL = (nn.Conv2d, nn.ReLU, nn.MaxPool2d)
WAYS = {"i": (nn.Conv2d,), "ii": (nn.Conv2d, nn.ReLU), "iii": (nn.Conv2d, nn.MaxPool2d), "all": ALL}


@pytest.fixture(scope="module")
def network():
    return zoo.load("scenes_vgg")


@pytest.fixture(scope="module")
def drawn():
    return [scenes.scene(i, split="test", size=96) for i in range(200)]


@pytest.fixture(scope="module")
def labels(drawn):
    return [s.labels[0] for s in drawn]


@pytest.fixture(scope="module")
def batch(network, drawn):
    return network.preprocess([s.image for s in drawn])


@pytest.fixture(scope="module")
def trained(network, batch):
    return lesson.activations(network, batch)


@pytest.fixture(scope="module")
def random_ones(network, batch):
    return [lesson.activations(lesson.untrained(network, seed), batch[:40]) for seed in range(3)]


def test_the_chart_has_edges_everywhere_and_is_the_same_at_every_size():
    chart = lesson.edges_picture()
    assert chart.shape == (224, 224, 3) and np.array_equal(chart, lesson.edges_picture())
    strength = lesson.sobel(chart)
    blocks = F.max_pool2d(strength[None, None], 28)[0, 0]
    assert (blocks > 15).all()  # no empty part
    small = cv2.resize(lesson.edges_picture(448), (112, 112), interpolation=cv2.INTER_AREA)
    assert np.abs(small.astype(int) - lesson.edges_picture(112)).mean() < 1


@pytest.fixture(scope="module")
def temple():
    return photographs.middle(photographs.photograph("temple").image, 224, 224)


def test_names_are_those_of_the_paper(network):
    names = lesson.convolutions(network)
    assert list(names) == [f"conv{b}_{i}" for b, n in enumerate((2, 2, 3, 3, 3), 1) for i in range(1, n + 1)]
    assert names == lesson.convolutions(zoo.load("vgg16", weights=None))
    assert names["conv5_3"] == "features.28"


def test_activations_are_the_library_s(network, batch):
    before, after = (lesson.activations(network, batch[:2], kind) for kind in (nn.Conv2d, nn.ReLU))
    maps = feature_maps(network, batch[:2])
    for name, layer in lesson.convolutions(network).items():
        assert torch.equal(before[name], maps[layer]) and torch.equal(after[name], maps[layer].relu())


def test_untrained_touches_convolutions_alone(network):
    before, state = snapshot(network), torch.random.get_rng_state()
    other, again = lesson.untrained(network, 1), lesson.untrained(network, 1)
    changed = {n for n, v in other.state_dict().items() if not torch.equal(v, before["values"][n])}
    assert changed == {n for n in before["values"] if n.startswith("features")}
    assert all(torch.equal(*pair) for pair in zip(other.parameters(), again.parameters(), strict=True))
    assert_unchanged(network, before)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_correlation_and_edge_likeness():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(3, 5, 6, generator=generator), torch.randn(3, 5, 6, generator=generator)
    expected = [np.corrcoef(x.flatten(), y.flatten())[0, 1] for x, y in zip(a, b, strict=True)]
    assert lesson.correlation(a, b).tolist() == pytest.approx(expected, abs=1e-6)
    assert lesson.correlation(a, torch.ones(3, 5, 6)).tolist() == [0, 0, 0]
    edges = torch.rand(2, 8, 8, generator=generator)
    small = F.avg_pool2d(edges[:, None], 2)
    maps = torch.cat([small, -3 * small, torch.zeros_like(small)], 1)
    assert lesson.edge_likeness(maps, edges).tolist() == pytest.approx([1, 1])


def test_sobel_is_in_grey_values_a_pixel():
    ramp = np.repeat(np.arange(0, 200, 10, dtype=np.uint8)[None], 20, 0)
    inner = lesson.sobel(np.stack([ramp] * 3, 2))[2:-2, 2:-2]
    assert torch.allclose(inner, torch.full_like(inner, 10.0))


def test_selectivity_by_hand():
    maps = torch.zeros(6, 4, 1, 2)
    labels = [0, 0, 3, 3, 7, 7]
    maps[2:4, 0] = 5.0  # answers to class 3 alone
    maps[:, 1] = 2.0  # answers to everything alike
    maps[:2, 2], maps[2:, 2] = 3.0, 1.0
    assert lesson.selectivity(maps, labels).tolist() == pytest.approx([1, 0, 0.5, 0])
    assert lesson.best_class(maps, labels)[[0, 2]].tolist() == [3, 0]
    assert lesson.dead_channels(maps).tolist() == [3]


def test_gradients_prove_the_receptive_field(network):
    before = snapshot(network)
    positive = lesson.all_positive(network)
    for name, layer in lesson.convolutions(network).items():
        if name[-1] == "1":
            continue
        start, end = lesson.seen_square(network, layer, 224)
        expected = torch.zeros(224, 224, dtype=torch.bool)
        expected[max(start, 0) : end, max(start, 0) : end] = True
        reached = lesson.cell_gradient(positive, torch.ones(1, 3, 224, 224), layer)[0] > 0
        assert torch.equal(reached, expected), name
    assert_unchanged(network, before)


def test_side_holding():
    mass = torch.zeros(20, 20)
    mass[8:12, 8:12] = 1.0
    assert lesson.side_holding(mass, (2, 18)) == 4
    assert lesson.side_holding(mass, (2, 18), 0.2) == 2
    assert lesson.side_holding(torch.ones(20, 20), (0, 20), 0.99) == 20


def mean_maps(network, picture, kinds):
    layers = [layer for layer in network.features if isinstance(layer, kinds)]
    last = nn.ReLU if nn.ReLU in kinds else nn.Conv2d
    preprocess = replace(network.preprocess, resize=224)
    outputs = chain(network.features, preprocess(picture), kinds)
    return [x[0].mean(0) for layer, x in zip(layers, outputs, strict=True) if isinstance(layer, last)]


def test_what_the_lesson_says_of_the_three_ways(network, batch, labels, temple):
    """Mean greys, ranges, the border, and what is left of the network's knowledge."""
    chart = lesson.edges_picture()
    maps = {way: mean_maps(network, chart, kinds) for way, kinds in WAYS.items()}
    grey = {way: [float(images.normalise(m[i]).mean()) for i in (0, 12)] for way, m in maps.items()}
    assert grey["i"] == pytest.approx([0.49, 0.49], abs=0.01)
    assert grey["ii"] == pytest.approx([0.24, 0.17], abs=0.01)
    assert grey["iii"] == pytest.approx([0.49, 0.50], abs=0.01)
    assert [m[12].shape[0] for m in maps.values()] == [224, 224, 14, 14]
    assert float(maps["i"][0].abs().max()) == pytest.approx(2.9, abs=0.1)
    assert float(maps["i"][12].abs().max()) == pytest.approx(247, abs=1)
    assert float(maps["ii"][12].min()) < 0.05

    band = torch.ones(224, 224, dtype=torch.bool)  # is anything lost near the border?
    band[28:-28, 28:-28] = False
    for picture, ways in ((chart, maps), (temple, {way: mean_maps(network, temple, WAYS[way]) for way in ("i", "ii")})):
        edges = lesson.sobel(picture)
        for way in ("i", "ii"):
            last = (ways[way][12] - ways[way][12].median()).abs()
            near, whole = (float(each[band].mean() / each[~band].mean()) for each in (last, edges))
            assert near > whole - 0.05

    right = {}
    for way, kinds in WAYS.items():
        with torch.no_grad():
            last = [chain(network.features, ten, kinds)[-1] for ten in batch[:50].split(10)]
            named = torch.cat([network.classifier(network.avgpool(x).flatten(1)).argmax(1) for x in last])
        right[way] = float((named == torch.tensor(labels[:50])).float().mean())
    assert right.pop("all") == 1 and max(right.values()) <= 0.14


def test_what_the_lesson_says_of_the_first_filters(network):
    weight = network.features[0].weight.detach()
    sums = weight.sum((1, 2, 3))
    assert sums[[1, 3, 5]].tolist() == pytest.approx([0.01, -1.19, -0.09], abs=0.01)
    preprocess, chart = replace(network.preprocess, resize=224), lesson.edges_picture()
    with torch.no_grad():
        black, white = (network.features[0](preprocess(np.full_like(chart, v)))[0, :, 112, 112] for v in (28, 238))
        z = network.features[0](preprocess(chart))[0]
    silent = [k for k in range(8) if max(abs(float(black[k])), abs(float(white[k]))) < 0.5]
    assert silent == [1, 5]
    assert [float(black[3]), float(white[3])] == pytest.approx([2.38, -1.54], abs=0.01)
    like = lesson.correlation(z.abs(), lesson.sobel(chart).expand_as(z))
    assert float(like[1]) == pytest.approx(0.72, abs=0.01) and int(like.argmax()) == 1
    assert float(like[5]) < 0.2 < 0.4 < float(like[3]) and float(like[[2, 4]].max()) < 0.1
    colours = weight[5].sum((1, 2))
    assert float(colours.abs().min()) > 0.5  # they cancel between the colours


def test_convolutions_alone_are_one_filter(network):
    exact = copy.deepcopy(network.features).double()
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(1, 3, 40, 40, dtype=torch.double, generator=generator) for _ in range(2))
    for way, kinds in WAYS.items():
        zero, of_a, of_b, of_sum = (chain(exact, x, kinds)[-1] for x in (0 * a, a, b, a + b))
        affine = torch.allclose(of_sum - of_b, of_a - zero, rtol=1e-9, atol=1e-9 * float(of_a.abs().max()))
        assert affine == (way == "i")
    assert sum(m.weight.numel() for m in network.features if isinstance(m, nn.Conv2d)) == pytest.approx(230e3, abs=1e3)
    alone = nn.Sequential(*(m for m in network.features if isinstance(m, nn.Conv2d)))
    assert receptive_field(alone, "12", 32).size == 27


def test_what_the_lesson_says_of_active_values(trained, random_ones):
    forty = {name: a[:40] for name, a in trained.items()}
    active = [[float((a > 0).float().mean()) for a in maps.values()] for maps in (forty, *random_ones)]
    assert all(0.4 < share < 0.6 for share in active[0][:-1])
    assert [active[0][i] for i in (9, 12)] == pytest.approx([0.41, 0.37], abs=0.01)
    assert np.mean(active[1:], 0)[[9, 12]].tolist() == pytest.approx([0.49, 0.52], abs=0.01)
    below = [i for i in range(13) if active[0][i] < min(maps[i] for maps in active[1:]) - 0.02]
    assert [i for i in below if i > 3] == [9, 12]


def test_what_the_lesson_says_of_edges_and_depth(trained, drawn, network, batch):
    """The trained curve ends at its maximum, the difference declines, and the first layer answers to flat ground."""
    edges = torch.stack([lesson.sobel(s.image) for s in drawn])

    def likeness(maps, edges=edges):
        return np.array([float(lesson.edge_likeness(a, edges).mean()) for a in maps.values()])

    ours, other = likeness(trained), likeness(trained, edges.roll(1, 0))
    assert ours.argmin() == 0 and ours.argmax() == 12
    assert ours[[0, 12]].tolist() == pytest.approx([0.26, 0.61], abs=0.01) and other[12] > ours[12] / 2
    difference = ours - other
    assert difference.argmax() == 3 and difference[[3, 12]].tolist() == pytest.approx([0.46, 0.28], abs=0.01)

    theirs, above = np.zeros((2, 3, 13))
    for seed in range(3):
        guess = lesson.activations(lesson.untrained(network, seed), batch)
        theirs[seed] = likeness(guess)
        above[seed] = theirs[seed] - likeness(guess, edges.roll(1, 0))
    assert (ours[:4] > theirs.mean(0)[:4] + 0.2).all()
    assert (theirs.mean(0)[7:12] > ours[7:12] + 0.05).all()
    assert difference[12] > above[:, 12].max() + 0.1 and (difference[9:] > above.mean(0)[9:]).all()

    for each, before in ((network, 0.26), (lesson.untrained(network), 0.04)):
        changed = copy.deepcopy(each)
        with torch.no_grad():
            changed.features[0].weight -= changed.features[0].weight.mean((2, 3), keepdim=True)
            changed.features[0].bias.zero_()
        found = [
            float(lesson.edge_likeness(lesson.activations(x, batch)["conv1_1"], edges).mean()) for x in (each, changed)
        ]
        assert found == pytest.approx([before, 0.64], abs=0.02) and found[1] > ours.max()


def test_what_the_lesson_says_of_networks_without_layers():
    """Recorded: mean pooling is as linear as none, ReLU helps, max pooling helps more."""
    found = lesson.trained_without()
    assert list(found) == ["convolutions alone", "with ReLU", "with mean pooling", "with max pooling",
                           "with ReLU and max pooling"]  # fmt: skip
    assert all(len(seeds) == 3 for seeds in found.values())
    alone, relu, mean, largest, both = ((min(seeds), max(seeds)) for seeds in found.values())
    assert max(alone[1], mean[1]) < relu[0] < relu[1] < largest[0]
    assert min(alone[0], mean[0]) > 0.13 and both[1] > largest[0]


def test_what_the_lesson_says_of_channels_and_classes(trained, labels, network, batch):
    last = trained["conv5_3"]
    index, best = lesson.selectivity(last, labels), lesson.best_class(last, labels)
    ranked = index.argsort(descending=True).tolist()
    for k in (ranked[0], ranked[21], ranked[42]):
        assert {labels[i] for i in last[:, k].amax((1, 2)).topk(5).indices.tolist()} == {int(best[k])}
    tip = {scenes.CLASSES[labels[i]] for i in last[:, ranked[-1]].amax((1, 2)).topk(5).indices.tolist()}
    assert ranked[-1] == 48 and tip == {"bird"} and scenes.CLASSES[int(best[48])] == "car"
    assert not any(len(lesson.dead_channels(a)) for a in trained.values())

    shuffled = np.random.default_rng(0).permutation(labels).tolist()
    medians = [float(lesson.selectivity(a, labels).median()) for a in trained.values()]
    floor = [float(lesson.selectivity(a, shuffled).median()) for a in trained.values()]
    assert (min(medians[:9]), max(medians[:9])) == pytest.approx((0.13, 0.22), abs=0.01)
    assert (min(floor[:9]), max(floor[:9])) == pytest.approx((0.04, 0.13), abs=0.01)
    assert medians[-1] == pytest.approx(0.67, abs=0.01) and medians[8] < medians[9]
    assert medians[9] < medians[10] < medians[11] < medians[12]
    assert min(floor) > 0 and medians[-1] > 3 * floor[-1]
    unlearnt = lesson.activations(lesson.untrained(network), batch)["conv5_3"]
    assert float(lesson.selectivity(unlearnt, labels).median()) < 0.1


def test_what_the_lesson_says_of_contact_sheets(trained, network, labels):
    silent = (trained["conv5_3"].amax((2, 3)) <= 0).sum(1)
    chosen = int((silent == silent.median()).nonzero()[0])
    assert scenes.CLASSES[labels[chosen]] == "car" and int(silent[chosen]) == 6
    assert (int(silent.min()), int(silent.max())) == (0, 24) and float(silent.float().mean()) == pytest.approx(
        7.7, abs=0.1
    )


def test_what_the_lesson_says_of_a_hand_picked_channel(network, temple):
    edges, preprocess = lesson.sobel(temple)[None], replace(network.preprocess, resize=224)
    found, typical = [], []
    for each in (network, *(lesson.untrained(network, seed) for seed in range(3))):
        a = lesson.activations(each, preprocess(temple))["conv3_1"][0]
        likeness = lesson.correlation(a, F.adaptive_avg_pool2d(edges, a.shape[-2:]).expand_as(a))
        found.append(float(likeness.max()))
        typical.append(float((likeness > 0.3).float().mean()))
    assert found[0] == pytest.approx(0.69, abs=0.01)
    assert (min(found[1:]), max(found[1:])) == pytest.approx((0.52, 0.63), abs=0.01)
    assert typical[0] > 2 * max(typical[1:])


def test_what_the_lesson_says_of_the_effective_field(network, drawn):
    preprocess = replace(network.preprocess, resize=224)
    pictures = [cv2.resize(s.image, (224, 224), interpolation=cv2.INTER_CUBIC) for s in drawn[:16]]
    areas, uniform = [], []
    for layer in ("features.7", "features.14", "features.21", "features.28"):
        square = start, end = lesson.seen_square(network, layer, 224)
        mass = lesson.cell_gradient(network, preprocess(pictures), layer).mean(0)
        areas.append((lesson.side_holding(mass, square) / (end - start)) ** 2)
        even = torch.zeros(224, 224)
        even[start:end, start:end] = 1
        uniform.append((lesson.side_holding(even, square) / (end - start)) ** 2)
    assert areas == sorted(areas, reverse=True)
    assert areas[-1] == pytest.approx(0.33, abs=0.03) and uniform[1:] == pytest.approx([0.9] * 3, abs=0.02)


def test_sheet_and_strips_draw_what_they_say(network):
    from xailab import figures

    maps = torch.zeros(6, 4, 4)
    maps[1, 0, 0], maps[2] = 8.0, 3.0
    figure, axes = figures.new(1, 2)
    lesson.contact_sheet(axes[0], maps, columns=3)
    lesson.contact_sheet(axes[1], maps, columns=3, shared=False, mark=4)
    one, each = (np.asarray(axis.images[0].get_array()) for axis in axes)
    assert one.shape == each.shape == (11, 16)
    assert one[1, 6] == 8 and one[1, 11] == 3 and each[1, 6] == 1 and each[1, 11] == 0
    assert axes[0].images[0].get_clim() == (0, 8) and len(axes[1].patches) == 2
    chart = lesson.edges_picture(64)
    strips = {"a": [torch.rand(8, 8), torch.rand(4, 4)], "b": [torch.zeros(8, 8), torch.rand(4, 4)]}
    figure = lesson.chain_strips(chart, strips, (1, 2))
    assert [axis.get_title() for axis in figure.axes[-2:]] == ["1: 8 px", "2: 4 px"]


def test_explorer_follows_every_control(network, drawn):
    pictures = {"one": drawn[0].image, "chart": lesson.edges_picture()}
    box = lesson.layer_explorer(network, pictures)
    seen = {box.picture.value}
    for name, value in (("picture", "chart"), ("layer", 13), ("channel", 40), ("shared", False), ("layer", 1)):
        box.controls[name].value = value
        assert box.message.value == ""
        seen.add(box.picture.value)
    assert len(seen) == 6
    figure = lesson.draw_layer(network, pictures["one"], "conv1_1", 99)
    assert figure.axes[1].get_title() == "conv1_1, channel 7 of 8"
    wide = zoo.load("vgg16", weights=None)
    assert "channel 3 of 256" in lesson.draw_layer(wide, pictures["chart"], "conv3_3", 3).axes[1].get_title()
    assert "sees 196 px" in lesson.draw_layer(network, pictures["one"], "conv5_3").axes[0].get_title()


def pool(a, size, stride, *, start=-np.inf, how="max", step=None, ceil=False):
    """The right answer to 06.1, with one thing that can be done wrongly at a time."""
    step = step or stride
    extra = step - 1 if ceil else 0
    rows, columns = ((side - size + extra) // step + 1 for side in a.shape)
    found = torch.zeros(rows, columns)
    for y in range(rows):
        for x in range(columns):
            window = a[y * step : y * step + size, x * step : x * step + size]
            found[y, x] = max(start, float(getattr(window, how)()))
    return found


def likeliest(image, filters, feature_map, *, of=torch.relu, flip=False, scaled=True, sign=True):
    answers = of(F.conv2d(image[None, None], (filters.flip(1, 2) if flip else filters)[:, None])[0])
    if not scaled:
        return (answers - feature_map).abs().sum((1, 2)).argmin()
    found = lesson.correlation(answers, feature_map.expand_as(answers))
    return (found if sign else found.abs()).argmax()


def like(maps, edges):
    return lesson.correlation(maps, edges.expand_as(maps))


def same(x):
    return x


def by_two_1d_poolings(a, size, stride):
    rows = F.max_pool1d(a[None], size, stride)[0]
    return F.max_pool1d(rows.T[None], size, stride)[0].T


def by_unfold(a, size, stride):
    windows = F.unfold(a[None, None], size, stride=stride)[0].amax(0)
    return windows.view([(side - size) // stride + 1 for side in a.shape])


def by_numpy_windows(a, size, stride):
    return np.lib.stride_tricks.sliding_window_view(a.numpy(), (size, size))[::stride, ::stride].max((2, 3))


def last_value_wrong(a, size, stride):
    found = pool(a, size, stride)
    found[-1, -1] += 1
    return found


def hooked(
    model, image, *, keep=torch.clone, kinds=nn.Conv2d, layers=nn.Module.named_modules, remove=True, shared=False
):
    """The right answer to 06.3, with one thing that can be done wrongly at a time."""
    kept, handles = {}, []
    for name, layer in layers(model):
        if isinstance(layer, kinds):

            def hook(module, inputs, output, name=name):
                kept["one" if shared else name] = keep(output)

            handles.append(layer.register_forward_hook(hook))
    with torch.no_grad():
        model(image)
    for handle in handles if remove else ():
        handle.remove()
    return kept


def with_the_loops_variable(model, image):
    kept, handles = {}, []
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d):

            def hook(module, inputs, output):
                kept[name] = output.clone()  # noqa: B023

            handles.append(layer.register_forward_hook(hook))
    with torch.no_grad():
        model(image)
    for handle in handles:
        handle.remove()
    return kept


def one_after_another(model, image):
    kept = {}
    with torch.no_grad():
        for name, layer in model.named_modules():
            if isinstance(layer, nn.Conv2d):
                image = kept[name] = layer(image)
    return kept


def with_a_graph(model, image):
    kept, handles = {}, []
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d):
            handles.append(
                layer.register_forward_hook(lambda m, i, output, name=name: kept.update({name: output.clone()}))
            )
    model(image)
    for handle in handles:
        handle.remove()
    return kept


def detached_afterwards(model, image):
    return {name: values.detach() for name, values in with_a_graph(model, image).items()}


def in_training_mode(model, image):
    model.train()
    return hooked(model, image)


@pytest.mark.parametrize(
    ("number", "answer", "part"),
    [
        ("06.1", pool, None),
        ("06.1", lambda a, size, stride: F.max_pool2d(a[None, None], size, stride)[0, 0], "they are torch's"),
        ("06.1", lambda a, size, stride: torch.max_pool2d(a[None, None], size, stride)[0, 0], "they are torch's"),
        ("06.1", lambda a, size, stride: torch.nn.MaxPool2d(size, stride)(a[None])[0], "they are torch's"),
        ("06.1", lambda a, size, stride: F.max_pool2d(a[None, None], size, stride)[0, 0].numpy(), "they are torch's"),
        ("06.1", lambda a, size, stride: F.max_pool2d(pool(a, size, stride)[None], 1)[0], "they are torch's"),
        ("06.1", by_two_1d_poolings, "they are torch's"),
        ("06.1", lambda a, size, stride: a.unfold(0, size, stride).unfold(1, size, stride).amax((2, 3)), None),
        ("06.1", by_unfold, None),
        ("06.1", by_numpy_windows, None),
        ("06.1", lambda a, size, stride: pool(a, size, stride).tolist(), None),
        ("06.1", lambda a, size, stride: pool(a.double(), size, stride), None),
        ("06.1", lambda a, size, stride: pool(a, 2, 2), "for a map of 8"),
        ("06.1", lambda a, size, stride: pool(a.clamp_(max=0), size, stride), "should be"),
        ("06.1", last_value_wrong, "row 2, column 3"),
        ("06.1", lambda a, size, stride: pool(a, size, stride, start=0.0), "loses negative values"),
        ("06.1", lambda a, size, stride: pool(a, size, stride, how="mean"), "mean of each window"),
        ("06.1", lambda a, size, stride: pool(a, size, stride, how="min"), "smallest"),
        ("06.1", lambda a, size, stride: pool(a.abs(), size, stride), "with its sign"),
        ("06.1", lambda a, size, stride: pool(a, size, size), "side by side"),
        ("06.1", lambda a, size, stride: pool(a, stride, stride), "side `size`"),
        ("06.1", lambda a, size, stride: pool(a, size, 1), "one cell at a time"),
        ("06.1", lambda a, size, stride: pool(a, size, stride, ceil=True), "only whole ones"),
        ("06.1", lambda a, size, stride: pool(a, size, stride).T, "windows fit"),
        ("06.1", lambda a, size, stride: pool(a, size, stride) + 1, "first value"),
        ("06.1", lambda a, size, stride: ..., "not written yet"),
        ("06.2", lambda z: (z.amax((0, 2, 3)) <= 0).nonzero().flatten().tolist(), None),
        ("06.2", lambda z: (z.relu().sum((0, 2, 3)) == 0).nonzero().flatten(), None),
        ("06.2", lambda z: (z[0].amax((1, 2)) <= 0).nonzero().flatten().tolist(), "first picture"),
        ("06.2", lambda z: (z.amax((2, 3)) <= 0).any(0).nonzero().flatten().tolist(), "all have to be off"),
        ("06.2", lambda z: (z.mean((0, 2, 3)) <= 0).nonzero().flatten().tolist(), "one positive value"),
        ("06.2", lambda z: (z.amax((0, 2, 3)) < 0).nonzero().flatten().tolist(), "exactly 0"),
        ("06.2", lambda z: (z.abs().sum((0, 2, 3)) == 0).nonzero().flatten().tolist(), "before the ReLU"),
        ("06.2", lambda z: (z.amin((0, 2, 3)) <= 0).nonzero().flatten().tolist(), "look at the largest"),
        ("06.2", lambda z: (z.amax((0, 2, 3)) > 0).nonzero().flatten().tolist(), "channels that live"),
        ("06.2", lambda z: z.amax((0, 2, 3)) <= 0, "mask"),
        ("06.2", lambda z: (z.amax((0, 2, 3)) <= 0).nonzero(), "flat list"),
        ("06.2", lambda z: int((z.amax((0, 2, 3)) <= 0).sum()), "one number"),
        ("06.2", lambda z: float((z <= 0).float().mean()), "one number"),
        ("06.2", lambda z: [0], "expected the channels"),
        ("06.2", lambda z: [1, 4, 8], "expected the channels [0, 3] of 5"),
        ("06.2", lambda z: (z.mean(0).amax((1, 2)) <= 0).nonzero().flatten().tolist(), "mean over the pictures"),
        ("06.2", lambda z: (z.mean((2, 3)).amax(0) <= 0).nonzero().flatten().tolist(), "mean over rows and columns"),
        ("06.2", lambda z: (z.sum(0).amax((1, 2)) <= 0).nonzero().flatten().tolist(), "mean over the pictures"),
        ("06.2", lambda z: (z[-1].amax((1, 2)) <= 0).nonzero().flatten().tolist(), "only the last picture"),
        ("06.2", lambda z: (z.amax((1, 2, 3)) <= 0).nonzero().flatten().tolist(), "numbers of pictures"),
        ("06.2", lambda z: (z.mean(2).amax((0, 2)) <= 0).nonzero().flatten().tolist(), "expected the channels"),
        ("06.2", lambda z: (z.relu_().amax((0, 2, 3)) == 0).nonzero().flatten().tolist(), "it changed `z`"),
        ("06.2", lambda z: [k for k in range(z.shape[1]) if not (z[:, k] > 0).any()], None),
        ("06.2", lambda z: np.flatnonzero((z.numpy() <= 0).all((0, 2, 3))), None),
        ("06.2", lambda z: {k for k in range(z.shape[1]) if z[:, k].max() <= 0}, None),
        ("06.2", lambda z: torch.where(z.transpose(0, 1).flatten(1).max(1).values <= 0)[0], None),
        ("06.3", hooked, None),
        ("06.3", detached_afterwards, None),
        ("06.3", with_a_graph, "a graph hangs on them"),
        ("06.3", lambda m, x: hooked(m, x, keep=lambda output: output), "overwritten it"),
        ("06.3", lambda m, x: hooked(m, x, remove=False), "a hook was left"),
        ("06.3", lambda m, x: hooked(m, x, layers=nn.Module.named_children), "lists no layers inside of layers"),
        ("06.3", lambda m, x: hooked(m, x, kinds=(nn.Conv2d, nn.ReLU)), "only convolutions"),
        ("06.3", lambda m, x: hooked(m, x, keep=lambda output: output[0].clone()), "lacks its batch axis"),
        ("06.3", lambda m, x: hooked(m, x, keep=lambda output: output.mean(1)), "mean over its channels"),
        ("06.3", lambda m, x: hooked(m, x, keep=torch.relu), "no negative values"),
        ("06.3", lambda m, x: hooked(m, x, shared=True), "is no name in"),
        ("06.3", with_the_loops_variable, "its last value"),
        ("06.3", one_after_another, "one after another"),
        ("06.3", in_training_mode, "another mode"),
        ("06.3", lambda m, x: list(hooked(m, x).values()), "return a dict"),
        ("06.3", lambda m, x: feature_maps(m, x), "come from xailab"),
        ("06.3", lambda m, x: ..., "not written yet"),
        ("06.4", lambda t, r, e: like(t, e).max() > max(like(a, e).max() for a in r), None),
        ("06.4", lambda t, r, e: all(bool(like(t, e).max() > like(a, e).max()) for a in r), None),
        ("06.4", lambda t, r, e: True, "the answer is False"),
        ("06.4", lambda t, r, e: like(t, e).max() > 0.5, "random layers may reach as much"),
        ("06.4", lambda t, r, e: like(t, e).max() > np.mean([like(a, e).max() for a in r]), "easy to beat"),
        ("06.4", lambda t, r, e: like(t, e).max() > like(r[0], e).max(), "only one random layer"),
        ("06.4", lambda t, r, e: like(t, e).max() > like(r[-1], e).max(), "the last random layer"),
        ("06.4", lambda t, r, e: like(t, e).max() > max(like(a, e).median() for a in r), "the claim is about the best"),
        ("06.4", lambda t, r, e: like(t, e).median() > max(like(a, e).median() for a in r), "how typical"),
        ("06.4", lambda t, r, e: like(t, e).abs().max() > max(like(a, e).abs().max() for a in r), "keep the sign"),
        ("06.4", lambda t, r, e: (t * e).sum((1, 2)).max() > max((a * e).sum((1, 2)).max() for a in r), "products"),
        ("06.4", lambda t, r, e: ..., "not written yet"),
        ("06.5", likeliest, None),
        ("06.5", lambda i, f, m: likeliest(i, f, m, of=same), "apply one first"),
        ("06.5", lambda i, f, m: likeliest(i, f, m, flip=True), "mirrored"),
        ("06.5", lambda i, f, m: likeliest(i, f, m, of=same, sign=False), "keep the sign"),
        ("06.5", lambda i, f, m: likeliest(i, f, m, of=torch.abs), "clamp at 0"),
        ("06.5", lambda i, f, m: _answers(i, f).relu().sum((1, 2)).argmax(), "largest answer"),
        ("06.5", lambda i, f, m: (_answers(i, f).relu() - m).flatten(1).norm(dim=1).argmin(), "compares bright"),
        ("06.5", lambda i, f, m: (_answers(i, f) - m).flatten(1).norm(dim=1).argmin(), "then correlate"),
        ("06.5", lambda i, f, m: 0, "in case"),
    ],
)  # fmt: skip
def test_checks(number, answer, part):
    found = verdict(number, answer)
    assert found.passed == (part is None), found.message
    assert part is None or part in found.message, found.message


def test_each_mistake_of_dead_channels_shows_alone():
    """No mistake names the right channels in all cases, nor those of another."""
    answers = [lambda z: z.amax((0, 2, 3)) <= 0, *lesson.DEAD_MISTAKES.values()]
    found = [[answer(z).nonzero().flatten().tolist() for z in lesson.dead_cases()] for answer in answers]
    assert len({str(each) for each in found}) == len(answers)


def test_each_mistake_of_the_edge_detector_shows_alone():
    """No rule names the right cases, nor those of another; the correlations are those of the table."""
    cases = edge_detector_cases()
    for (trained, random, edges, _), (shares, others) in zip(cases, EDGE_CHANNELS, strict=True):
        assert like(trained, edges).tolist() == pytest.approx(list(shares), abs=1e-3)
        for maps, each in zip(random, others, strict=True):
            assert like(maps, edges).tolist() == pytest.approx(list(each), abs=1e-3)
    answers = {tuple(bool(rule(*case[:3])) for case in cases) for rule in DETECTOR_MISTAKES.values()}
    assert len(answers) == len(DETECTOR_MISTAKES) and tuple(case[3] for case in cases) not in answers
