"""Lesson 03: its drawings, its explorer when it is moved, what it says of its pictures, and its checks."""

import copy

import numpy as np
import pytest
import torch
from scipy import ndimage

from xailab import images
from xailab.boxes import iou
from xailab.datasets import scenes
from xailab.grad_cam import grad_cam
from xailab.lessons import grad_cam as lesson
from xailab.lessons import verdict
from xailab.localization import boxes, ground_truth_box
from xailab.metrics import pointing_game
from xailab.models import zoo


@pytest.fixture(scope="module")
def network():
    return zoo.load("scenes_resnet")


@pytest.fixture(scope="module")
def pictures():
    return [scenes.scene(i, kind="pair", split="test", size=128).image for i in range(2)]


def test_drawing_says_what_it_shows(network, pictures):
    figure = lesson.draw_grad_cam(network, pictures[0], 0, "layer3")
    assert "cat" in figure.axes[0].get_title() and figure.axes[1].get_title() == "layer3, 8 × 8 cells"
    against = lesson.draw_grad_cam(network, pictures[0], 0, relu=False, counterfactual=True)
    signed = lesson.draw_grad_cam(network, pictures[0], 0, relu=False)
    shown = [np.asarray(f.axes[1].images[0].get_array()) for f in (against, signed)]
    assert np.allclose(shown[0], -shown[1], atol=1e-6)
    assert "red speaks against" in against.axes[2].get_title()


def test_the_map_beside_a_cropping_networks_picture_is_of_what_it_saw():
    network, picture = zoo.load("squeezenet1_1", weights=None), scenes.scene(3, size=300).image
    figure = lesson.draw_grad_cam(network, picture, 0, "features.12", relu=False)
    shown, heat = (np.asarray(axes.images[0].get_array()) for axes in figure.axes[:2])
    assert np.array_equal(shown, network.preprocess.frame(picture))
    expected = grad_cam(network, network.preprocess(picture), "features.12", 0, relu=False)[0]
    assert np.allclose(heat, expected.numpy(), atol=1e-6)


def test_a_map_of_zeros_is_drawn_and_named(network):
    """A map that would warn (which fails tests) says so in its title instead."""
    empty = 0
    for i in range(12):
        scene = scenes.scene(i, split="test")
        title = lesson.draw_grad_cam(network, scene.image, scene.labels[0], "layer2").axes[1].get_title()
        empty += title.startswith("no evidence")
    assert empty >= 1


def test_explorer_follows_every_control(network, pictures):
    box = lesson.grad_cam_explorer(network, pictures)
    seen = {box.picture.value}
    changes = [("picture", 2), ("label", 5), ("layer", "layer3"), ("opacity", 0.1), ("counterfactual", True)]
    for name, value in (*changes, ("relu", False)):
        box.controls[name].value = value
        assert box.message.value == ""
        seen.add(box.picture.value)
    assert len(seen) == len(changes) + 2


def test_a_region_moves_as_a_whole_and_covers_as_much():
    region, target, spared = np.zeros((3, 20, 20), bool)
    region[2:5, 0:4], target[4:16, 3:15], spared[12:18, 0:20] = True, True, True
    for seed in range(20):
        place = lesson.moved(region, target, spared, np.random.default_rng(seed))
        assert place.sum() == 12 and (place & target).sum() >= (region & target).sum() and not (place & spared).any()
        off = lesson.moved_off(region, target, np.random.default_rng(seed))
        assert off.sum() == 12 and not (off & target).any()


def alpha(gradient):
    return gradient.mean((1, 2))


def weighted(weights, features):
    return torch.einsum("k,khw->hw", weights, features)


def stretched(heat):
    return (heat - heat.min()) / (heat.max() - heat.min())


def right_map(features, gradient):
    return weighted(alpha(gradient), features).relu()


def gradient_of(head, features, score):
    leaf = features.clone().requires_grad_()
    return torch.autograd.grad(score(head(leaf)), leaf)[0][0]


def counter(score=lambda s, c: s[0, c], finish=lambda signed: (-signed).relu()):
    """The right answer, with another score or another end where they are given."""

    def my_counterfactual(head, features, c):
        return finish(weighted(alpha(gradient_of(head, features, lambda s: score(s, c))), features[0]))

    return my_counterfactual


def leaves_gradients(head, features, c):
    leaf = features.clone().requires_grad_()
    head(leaf)[0, c].backward()
    return weighted(alpha(-leaf.grad[0]), features[0]).relu()


def hit_rate(maps, masks, threshold, *, enlarge=True, limit=0.5, pick=lambda found, heat: found[0], scale=1):
    """The right answer, with one thing that can be done wrongly at a time."""
    large = images.upsample(maps, masks.shape[1:]) if enlarge else maps
    hits = [iou(pick(boxes(m, threshold), m), ground_truth_box(k)) >= limit for m, k in zip(large, masks, strict=True)]
    return scale * np.mean(hits)


def by_backward(head, features, c):
    """The right answer with backward(), which takes what it left on the weights away again."""
    leaf = features.clone().requires_grad_()
    head(leaf)[0, c].backward()
    for weight in head.parameters():
        weight.grad = None
    return weighted(alpha(-leaf.grad[0]), features[0]).relu()


def by_nudges(head, features, c):
    """The right answer without autograd: every cell moved by a little, in double precision."""
    head, x = copy.deepcopy(head).double(), features.double()
    with torch.no_grad():
        moved = x + 1e-6 * torch.eye(x.numel(), dtype=x.dtype).view(-1, *x.shape[1:])
        g = (head(moved)[:, c] - head(x)[0, c]).view(x.shape[1:]) / 1e-6
    return weighted(alpha(-g), x[0]).relu()


def freezes(head, features, c):
    head.requires_grad_(False)
    return counter()(head, features, c)


def leaves_a_hook(head, features, c):
    kept = []
    head[0].register_forward_hook(lambda module, given, out: kept.append(out))
    return counter()(head, features, c)


def by_the_weights_alone(head, features, c):
    """The gradient of the first head, layer by layer; another one has other layers."""
    active = (head[1](features.flatten(1)) > 0).float()
    g = (head[3].weight[c] * active) @ head[1].weight
    return weighted(alpha(-g.view(features.shape[1:])), features[0]).relu()


def rate_by_hand(maps, masks, threshold):
    """The right answer with numpy and scipy alone, but for the enlarging."""
    hits = 0
    for heat, mask in zip(images.upsample(maps, masks.shape[1:]).numpy(), masks, strict=True):
        regions, _ = ndimage.label(heat >= threshold * heat.max(), np.ones((3, 3)))
        y, x = np.nonzero(regions == np.bincount(regions.ravel())[1:].argmax() + 1)
        v, u = np.nonzero(mask)
        shared = [max(0, min(a.max(), b.max()) - max(a.min(), b.min()) + 1) for a, b in ((y, v), (x, u))]
        areas = [np.prod([np.ptp(side) + 1 for side in sides]) for sides in ((y, x), (v, u))]
        hits += np.prod(shared) >= 0.5 * (sum(areas) - np.prod(shared))
    return hits / len(maps)


def best_of_all(maps, masks, threshold):
    large = images.upsample(maps, masks.shape[1:])
    return np.mean(
        [
            max(iou(box, ground_truth_box(mask)) for box in boxes(heat, threshold)) >= 0.5
            for heat, mask in zip(large, masks, strict=True)
        ]
    )


def pixels_of_the_mask(maps, masks, threshold):
    large = images.upsample(maps, masks.shape[1:])
    found = [boxes(heat, threshold)[0].mask(*mask.shape) for heat, mask in zip(large, masks, strict=True)]
    return np.mean([iou(box, mask) >= 0.5 for box, mask in zip(found, masks, strict=True)])


def mean_overlap(maps, masks, threshold):
    large = images.upsample(maps, masks.shape[1:])
    found = [boxes(heat, threshold)[0] for heat in large]
    return np.mean([iou(box, ground_truth_box(mask)) for box, mask in zip(found, masks, strict=True)])


def repaints(network, drawn):
    answer = fall(network, drawn)
    for scene in drawn:
        scene.image[scene.mark] = 0
    return answer


def brightest(found, heat):
    y, x = divmod(int(heat.argmax()), heat.shape[1])
    return next(box for box in found if box.left <= x < box.right and box.top <= y < box.bottom)


def bird_maps(network, drawn):
    batch = network.preprocess([scene.image for scene in drawn])
    return images.upsample(grad_cam(network, batch, "layer4", scenes.BIASED_CLASS), 128)


def right_verdict(network, drawn):
    large = bird_maps(network, drawn)

    def hits(regions):
        near = [ndimage.distance_transform_edt(~region) <= 15 for region in regions]
        return sum(pointing_game(region, m) for m, region in zip(large, near, strict=True))

    return hits([s.mark for s in drawn]) > hits([s.masks[0] for s in drawn])


def within_15(network, drawn):
    near = [ndimage.distance_transform_edt(~s.mark) <= 15 for s in drawn]
    return np.mean([pointing_game(region, m) for m, region in zip(bird_maps(network, drawn), near, strict=True)]) > 0.5


def by_mass(network, drawn, measure=np.sum):
    """By the mass on balloon and bird, or by its mean value there, which is mass divided by area."""
    large = bird_maps(network, drawn).numpy()
    return sum(measure(m[s.mark]) - measure(m[s.masks[0]]) for m, s in zip(large, drawn, strict=True)) > 0


def peaks(network, drawn):
    return [divmod(int(m.argmax()), 128) for m in bird_maps(network, drawn)]


def high_up(network, drawn, rows=64):
    return np.mean([y < rows for y, _ in peaks(network, drawn)]) > 0.5


def not_on_the_bird(network, drawn, tolerance=0):
    near = [ndimage.distance_transform_edt(~s.masks[0]) <= tolerance for s in drawn]
    return np.mean([near[i][p] for i, p in enumerate(peaks(network, drawn))]) < 0.5


def without_tolerance(network, drawn):
    found = peaks(network, drawn)
    return sum(s.mark[p] for s, p in zip(drawn, found, strict=True)) > sum(
        s.masks[0][p] for s, p in zip(drawn, found, strict=True)
    )


def nearer(network, drawn):
    """By which of the two the maximum is nearer to."""
    votes = []
    for s, p in zip(drawn, peaks(network, drawn), strict=True):
        ball, bird = (ndimage.distance_transform_edt(~region)[p] for region in (s.mark, s.masks[0]))
        votes.append(ball < bird and ball <= 20)
    return np.mean(votes) > 0.5


def erased(region, fill):
    """The right answer by another way: is it still a bird without the balloon?"""

    def my_verdict(network, drawn):
        pictures = []
        for s in drawn:
            picture = s.image.copy()
            picture[region(s)] = fill(s)
            pictures.append(picture)
        with torch.no_grad():
            called = network(network.preprocess(pictures)).argmax(1)
        return float((called != scenes.BIASED_CLASS).float().mean()) > 0.5

    return my_verdict


def fall(network, drawn):
    """The right answer by what erasing either of the two costs the score."""
    with torch.no_grad():
        before = network(network.preprocess([s.image for s in drawn]))[:, scenes.BIASED_CLASS]
        falls = []
        for region in (lambda s: s.mark, lambda s: s.masks[0]):
            pictures = [np.where(region(s)[..., None], s.image.mean((0, 1)), s.image).astype(np.uint8) for s in drawn]
            falls.append(before - network(network.preprocess(pictures))[:, scenes.BIASED_CLASS])
    return bool(falls[0].mean() > falls[1].mean())


def ground(scene):
    return np.median(scene.image[~scene.mark & ~scene.masks[0]], axis=0)


def exactly_on_it(network, drawn):
    return np.mean([pointing_game(s.mark, m) for m, s in zip(bird_maps(network, drawn), drawn, strict=True)]) > 0.5


def hooks(score=lambda s, c: s[:, c], weigh=lambda g: g.mean((2, 3), keepdim=True), finish=torch.relu, leave=False):
    """The right answer to 03.5, with one thing that can be done wrongly at a time."""

    def my_hooks(network, batch, layer, c):
        kept = []
        hook = network.get_submodule(layer).register_forward_hook(lambda m, x, out: kept.append(out.requires_grad_()))
        scores = network(batch)
        if not leave:
            hook.remove()
        (gradient,) = torch.autograd.grad(score(scores, c).sum(), kept[0])
        return finish((weigh(gradient) * kept[0]).sum(1)).detach()

    return my_hooks


def as_in_the_text(network, batch, layer, c):
    kept = []
    hook = network.get_submodule(layer).register_forward_hook(lambda m, x, out: kept.append(out))
    scores = network(batch)
    hook.remove()
    (gradient,) = torch.autograd.grad(scores[:, c].sum(), kept[0])
    return torch.einsum("nk,nkhw->nhw", gradient.mean((2, 3)), kept[0]).relu()


def thaws(network, batch, layer, c):
    network.requires_grad_(True)
    return as_in_the_text(network, batch, layer, c).detach()


def adds_up(weigh=lambda g: g, same=lambda rest: (rest - rest[0]).abs().max() < 1e-4):
    """The right answer to 03.6, with other weights or another comparison."""

    def my_adds_up(head, features, c):
        leaf = features.clone().requires_grad_()
        scores = head(leaf)[:, c]
        (gradient,) = torch.autograd.grad(scores.sum(), leaf)
        return same(scores - (weigh(gradient) * leaf).sum((1, 2, 3)))

    return my_adds_up


def control(allowed=lambda covered, needed: covered >= needed, wrap=False, fixed=False, careless=False):
    """The right answer to 03.7, with one thing that can be done wrongly at a time."""

    def my_control(region, target, spared, rng):
        rows, columns = np.nonzero(region)
        height, width = region.shape
        places = []
        for dy in range(-height, height):
            for dx in range(-width, width):
                inside = rows.min() + dy >= 0 and rows.max() + dy < height
                inside &= columns.min() + dx >= 0 and columns.max() + dx < width
                place = np.roll(region, (dy, dx), (0, 1))
                spares = careless or (place & spared).sum() <= (region & spared).sum()
                if (inside or wrap) and spares and allowed((place & target).sum(), (region & target).sum()):
                    places.append(place)
        return places[0 if fixed else rng.integers(len(places))]

    return my_control


@pytest.mark.parametrize(
    ("number", "answer", "part"),
    [
        ("03.1", right_map, None),
        ("03.1", lambda f, g: weighted(alpha(g), f), "ReLU of equation 2 is missing"),
        ("03.1", lambda f, g: (alpha(g).view(-1, 1, 1) * f).relu().sum(0), "after the sum over channels"),
        ("03.1", lambda f, g: weighted(g.amax((1, 2)), f).relu(), "not its maximum"),
        ("03.1", lambda f, g: weighted(g.sum((1, 2)), f).relu(), "Z times too large"),
        ("03.1", lambda f, g: (g * f).sum(0).relu(), "cell by cell"),
        ("03.1", lambda f, g: (g.mean(0) * f.sum(0)).relu(), "averaged over the channels"),
        ("03.1", lambda f, g: weighted(alpha(f), g).relu(), "changed places"),
        ("03.1", lambda f, g: (alpha(g).view(-1, 1, 1) * f).mean(0).relu(), "adds them up"),
        ("03.1", lambda f, g: stretched(right_map(f, g)), "return the raw map"),
        ("03.1", lambda f, g: stretched(weighted(alpha(g), f)), "before the ReLU"),
        ("03.1", lambda f, g: alpha(g).view(-1, 1, 1) * f, "one map is left for each channel"),
        ("03.1", lambda f, g: right_map(f, g)[None], "without its leading axis"),
        ("03.1", lambda f, g: images.upsample(right_map(f, g), 32), "expected shape (3, 5)"),
        ("03.1", lambda f, g: right_map(f, g) + 1, "is not equation 2's"),
        ("03.1", lambda f, g: ..., "not written yet"),
        ("03.2", counter(), None),
        ("03.2", counter(finish=lambda m: -m), "ReLU is missing"),
        ("03.2", counter(finish=torch.relu), "negate the gradient"),
        ("03.2", counter(finish=lambda m: -m.relu()), "ReLU came first"),
        ("03.2", counter(lambda s, c: s.softmax(1)[0, c]), "before* the softmax"),
        ("03.2", counter(lambda s, c: s.log_softmax(1)[0, c]), "logarithm"),
        ("03.2", counter(lambda s, c: s.max()), "top class"),
        ("03.2", counter(finish=lambda m: 1 - stretched(m.relu())), "no counterfactual"),
        ("03.2", counter(finish=lambda m: 15 * (-m).relu()), "divides by Z"),
        ("03.2", counter(finish=lambda m: (-m).relu() + 1), "is wrong"),
        ("03.2", lambda h, f, c: counter()(h, f, c)[None], "without its leading axis"),
        ("03.2", leaves_gradients, ".grad was left"),
        ("03.3", hit_rate, None),
        ("03.3", lambda m, k, t: hit_rate(m, k, t, enlarge=False), "enlarge each map"),
        ("03.3", lambda m, k, t: hit_rate(m, k, t, limit=0.3), "less than 0.5 was counted"),
        ("03.3", lambda m, k, t: hit_rate(m, k, t, scale=100), "not a percentage"),
        ("03.3", lambda m, k, t: hit_rate(m, k, t, pick=brightest), "boxes()[0] is the largest"),
        ("03.3", lambda m, k, t: hit_rate(images.normalise(m), k, t), "negative cells are counted"),
        ("03.3", lambda m, k, t: hit_rate(m, k, 0.15), "not used"),
        ("03.3", lambda m, k, t: hit_rate(m, k, min(1.0, t / float(m[0].max()))), "share of each map's maximum"),
        ("03.3", lambda m, k, t: 0.3, "a rate of 0.6"),
        ("03.4", right_verdict, None),
        ("03.4", lambda n, d: True, "every network is called a cheat"),
        ("03.4", lambda n, d: False, "no network is called a cheat"),
        ("03.4", within_15, None),
        ("03.4", lambda n, d: by_mass(n, d, np.mean), None),
        ("03.4", by_mass, "divide it by the area"),
        ("03.4", exactly_on_it, "allow 15 pixels"),
        ("03.4", lambda n, d: not right_verdict(n, d), "the cheat is not"),
        ("03.4", lambda n, d: n.fc.in_features == 64, "scenes_balanced is accused"),
        ("03.1", lambda f, g: torch.clamp((f * g.mean((1, 2), keepdim=True)).sum(0), min=0), None),
        ("03.1", lambda f, g: np.maximum(np.tensordot(g.numpy().mean((1, 2)), f.numpy(), 1), 0), None),
        ("03.1", lambda f, g: sum(a * each for a, each in zip(alpha(g), f, strict=True)).relu().double(), None),
        ("03.1", lambda f, g: weighted(alpha(g), f).relu().view(3, 5), "your function stopped"),
        ("03.1", lambda f, g: weighted(g.sum((1, 2)) / 15, f).relu(), "is not equation 2's"),
        ("03.1", lambda f, g: weighted(alpha(g), f).relu_(), None),
        ("03.1", lambda f, g: f.mul_(alpha(g)[:, None, None]).sum(0).relu(), "it changed `f`"),
        ("03.1", lambda f, g: weighted(alpha(g), f).abs(), "is not equation 2's"),
        ("03.2", counter(finish=torch.abs), "evidence for and against"),
        ("03.2", counter(lambda s, c: s.sum()), "sum of all scores"),
        ("03.2", counter(lambda s, c: s[0, 0]), "class 0"),
        ("03.2", by_backward, None),
        ("03.2", by_nudges, None),
        ("03.2", freezes, "requires_grad of the network's weights was switched off"),
        ("03.2", leaves_a_hook, "a hook was left"),
        ("03.2", by_the_weights_alone, "your function stopped"),
        ("03.3", lambda m, k, t: torch.tensor(hit_rate(m, k, t)), None),
        (
            "03.3",
            lambda m, k, t: float(np.mean([hit_rate(m[i : i + 1], k[i : i + 1], t) for i in range(len(m))])),
            None,
        ),
        ("03.3", lambda m, k, t: hit_rate(m.double(), k, t), None),
        ("03.3", rate_by_hand, None),
        ("03.3", best_of_all, "the best of all boxes"),
        ("03.3", lambda m, k, t: hit_rate(m, k, t, limit=0.5 + 1e-9), "exactly 0.5"),
        ("03.3", lambda m, k, t: hit_rate(m, k, t, pick=lambda found, heat: found[-1]), "last box"),
        ("03.3", lambda m, k, t: hit_rate(m, k, 0.6), "not used"),
        ("03.3", lambda m, k, t: hit_rate(m, k, t) * len(m), "divide the number of hits"),
        ("03.3", lambda m, k, t: hit_rate(m, k, min(1.0, t * float(m.max()) / float(m[0].max()))), "own maximum"),
        ("03.3", pixels_of_the_mask, "the object's pixels"),
        ("03.3", mean_overlap, "mean overlap"),
        ("03.3", lambda m, k, t: 0.6, "of five more"),
        ("03.4", nearer, None),
        ("03.4", lambda n, d: np.bool_(right_verdict(n, d)), None),
        ("03.4", erased(lambda s: s.mark, lambda s: 128), None),
        ("03.4", erased(lambda s: s.mark, lambda s: s.image.mean((0, 1))), None),
        ("03.4", erased(lambda s: s.mark, ground), None),
        ("03.4", fall, None),
        ("03.4", lambda n, d: not fall(n, d), "the honest networks are accused and the cheat is not"),
        ("03.4", high_up, "in the upper half"),
        ("03.4", lambda n, d: high_up(n, d, 32), "peak at nothing"),
        ("03.4", not_on_the_bird, "off the bird"),
        ("03.4", lambda n, d: not_on_the_bird(n, d, 15), "peak at nothing"),
        ("03.4", without_tolerance, "allow 15 pixels"),
        ("03.4", lambda n, d: right_verdict(n, d[:1]), "the first scene alone"),
        ("03.4", lambda n, d: within_15(n, d[:1]), "the first scene alone"),
        ("03.4", lambda n, d: right_verdict(n, d[-1:]), "scenes_resnet is accused"),
        ("03.4", repaints, "it changed `drawn`"),
        ("03.5", hooks(), None),
        ("03.5", as_in_the_text, "does not require grad"),
        ("03.5", thaws, "switched on"),
        ("03.5", hooks(leave=True), "a hook was left"),
        ("03.5", hooks(finish=lambda m: m), "ReLU of equation 2 is missing"),
        ("03.5", hooks(lambda s, c: s.softmax(1)[:, c]), "not the probability"),
        ("03.5", hooks(lambda s, c: s), "sum of all scores"),
        ("03.5", hooks(lambda s, c: s.amax(1)), "top class"),
        ("03.5", hooks(weigh=lambda g: g.sum((2, 3), keepdim=True)), "divides by Z"),
        ("03.5", hooks(weigh=lambda g: g), "this is HiResCAM"),
        ("03.5", hooks(weigh=lambda g: g.mean((0, 2, 3), keepdim=True)), "weights of both pictures"),
        ("03.5", lambda n, b, layer, c: hooks()(n, b, "layer4", c), "whatever layer is asked for"),
        ("03.5", lambda n, b, layer, c: grad_cam(n, b, layer, c), "they come from xailab"),
        ("03.6", adds_up(), None),
        ("03.6", lambda h, f, c: True, "every head adds up"),
        ("03.6", lambda h, f, c: False, "no head adds up"),
        ("03.6", adds_up(weigh=lambda g: g.mean((2, 3), keepdim=True)), "right for Grad-CAM"),
        ("03.6", adds_up(same=lambda rest: rest.abs().max() < 1e-4), "a constant is allowed"),
        ("03.6", lambda h, f, c: not any(type(m).__name__ == "ReLU" for m in h), "a ReLU alone does not break"),
        ("03.7", control(), None),
        ("03.7", control(lambda covered, needed: covered == needed), "cover more as well"),
        ("03.7", control(lambda covered, needed: True), "could not have won"),
        ("03.7", control(wrap=True), "np.roll"),
        ("03.7", control(fixed=True), "draw one of the allowed places"),
        ("03.7", control(careless=True), "loses for another reason"),
        ("03.7", lambda region, target, spared, rng: region, "draw one of the allowed places"),
        ("03.7", lambda region, target, spared, rng: target, "pixels"),
    ],
)
def test_checks(number, answer, part):
    found = verdict(number, answer)
    assert found.passed == (part is None), found.message
    assert part is None or part in found.message, found.message


def test_each_mistake_of_a_rate_shows_alone():
    """No mistake judges all scenes rightly, nor as another one does."""
    alone = [(maps[i : i + 1], masks[i : i + 1], t) for maps, masks, t in lesson.hit_cases() for i in range(len(maps))]
    answers = [lesson.exercises._hits(), *lesson.HIT_MISTAKES.values()]
    assert len({str([float(answer(*scene)[0]) for scene in alone]) for answer in answers}) == len(answers)


def test_where_the_networks_of_the_last_exercise_look():
    """Its scenes are such that a maximum in the upper half, off the bird, or exactly on the balloon decides nothing."""
    drawn = [scenes.scene(i, kind="biased", split="test", label=scenes.BIASED_CLASS) for i in lesson.CHEAT_SCENES]
    balloon, bird = ([ndimage.distance_transform_edt(~region) for region in regions] for regions in (
        [s.mark for s in drawn], [s.masks[0] for s in drawn]))  # fmt: skip
    at = {}
    for name, network in lesson.cheat_networks().items():
        with torch.no_grad():
            assert (network(network.preprocess([s.image for s in drawn])).argmax(1) == scenes.BIASED_CLASS).all()
        at[name] = peaks(network, drawn)

    def near(name, distances, tolerance):
        return [bool(d[p] <= tolerance) for d, p in zip(distances, at[name], strict=True)]

    assert near("scenes_biased", balloon, 15) == [False] + 11 * [True]
    assert not any(near("scenes_biased", balloon, 0))
    assert not any(near("scenes_balanced", balloon, 30)) and sum(near("scenes_balanced", bird, 15)) == 12
    assert sum(near("scenes_balanced", bird, 0)) <= 2 and sum(y < 64 for y, _ in at["scenes_balanced"]) >= 11
    assert near("scenes_resnet", balloon, 15) == 11 * [False] + [True]
    assert not any(near("elsewhere", balloon, 25) + near("elsewhere", bird, 15))
