"""Lesson 05: its drawings, its explorers when they are moved, and its checks."""

import copy

import numpy as np
import pytest
import torch

from xailab.datasets import scenes
from xailab.guided_backprop import input_gradient
from xailab.lessons import saliency as lesson
from xailab.lessons import verdict
from xailab.models import zoo
from xailab.saliency import saliency


@pytest.fixture(scope="module")
def networks():
    return {"robust": zoo.load("scenes_robust"), "ordinary": zoo.load("scenes_resnet")}


@pytest.fixture(scope="module")
def drawn():
    return [scenes.scene(i, split="test", size=64) for i in range(2)]


def test_glow_is_black_at_zero_and_brightest_at_its_quantile():
    map = torch.arange(100.0).view(10, 10)
    picture = lesson.glow(map, quantile=0.5)
    assert picture[0, 0].max() < 10 and np.array_equal(picture[-1, -1], picture[6, 0])
    assert not np.array_equal(picture[4, 0], picture[6, 0])
    assert lesson.glow(torch.zeros(4, 4)).max() < 10  # an empty map is black, no error


def test_seeds_are_quantiles_and_are_tinted():
    map = torch.arange(100.0).view(10, 10)
    sure, surely_not = lesson.seeds(map, 0.9, 0.3)
    assert sure.sum() == 10 and sure[9].all() and surely_not.sum() == 30 and surely_not[:3].all()
    assert not lesson.seeds(torch.zeros(4, 4))[0].any()
    tinted = lesson.draw_seeds(np.full((10, 10, 3), 100, dtype=np.uint8), map, 0.9, 0.3)
    assert tinted[9, 0, 0] > tinted[9, 0, 2] and tinted[0, 0, 2] > tinted[0, 0, 0]
    assert tinted[5, 5].tolist() == [100, 100, 100]


def test_cutting_out_whitens_the_rest():
    picture = np.full((4, 4, 3), 50, dtype=np.uint8)
    mask = np.eye(4, dtype=bool)
    out = lesson.cut_out(picture, mask)
    assert (out[mask] == 50).all() and (out[~mask] > 220).all()
    assert lesson.overlap(mask, mask) == 1 and lesson.overlap(np.zeros_like(mask), mask) == 0


def test_class_models_are_drawn_with_their_score(networks):
    figure = lesson.draw_class_model(networks["robust"], 5, steps=8, names=lesson.TRICKS, size=32)
    assert [axis.get_title() for axis in figure.axes[:2]] == ["after 2 steps", "after 4 steps"]
    assert figure.axes[2].get_title().startswith("car: ")
    assert len(figure.axes[3].lines[0].get_xdata()) == 8


def test_explorers_follow_every_control(networks, drawn):
    box = lesson.class_model_explorer(networks)
    changes = [("steps", 10), ("network", "ordinary"), ("label", 2), ("l2", 1e-4), ("jitter", False), ("clip", True)]
    changes += [("turn_and_zoom", True), ("blur", True), ("Fourier", True)]
    _moves(box, changes)
    box = lesson.segment_explorer(networks, drawn)
    _moves(box, [("network", "ordinary"), ("picture", 2), ("foreground", 0.8), ("background", 0.6)])


def test_shares_are_of_whole_maps_on_masks_of_another_size():
    heats, masks = torch.tensor([[[1.0, 3.0], [0.0, 0.0]]]), torch.zeros(1, 4, 4, dtype=torch.bool)
    masks[:, :, 2:] = True
    assert 0.5 < lesson.share_on(heats, masks)[0] < 1 and lesson.share_on(heats, ~masks | masks)[0] == 1
    assert lesson.averaged(heats, 3).shape == heats.shape


def test_grain_is_found_where_it_is():
    noise = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert lesson.fine_share(noise) > 0.6 and lesson.fine_share(lesson.soft_spots(2, 32, 0)) < 0.05
    means = lesson.by_position(torch.ones(2, 8, 8).index_fill(1, torch.tensor([0, 4]), 3.0))
    assert torch.allclose(means, torch.tensor([2.0, 2 / 3, 2 / 3, 2 / 3]).view(4, 1).expand(4, 4))


def _moves(box, changes):
    seen = {box.picture.value}
    for name, value in changes:
        box.controls[name].value = value
        assert box.message.value == ""
        seen.add(box.picture.value)
    assert len(seen) == len(changes) + 1


def smooth(spread=lambda image, sigma: sigma * (image.max() - image.min()), end=lambda g: g.mean(0).abs().amax(0)):
    """The right answer, with another spread or another end where they are given."""

    def my_smooth_grad(gradient_of, image, noise, sigma):
        return end(torch.stack([gradient_of(image + spread(image, sigma) * each) for each in noise]))

    return my_smooth_grad


def gradient(network, images, c, score=lambda s: s):
    images = images.requires_grad_()
    return torch.autograd.grad(score(network(images))[:, c].sum(), images)[0]


def top_class(network, images):
    images = images.requires_grad_()
    return torch.autograd.grad(network(images).amax(1).sum(), images)[0].abs().amax(1)


def leaves_gradients(network, images, c):
    images = images.requires_grad_()
    network(images)[:, c].sum().backward()
    return images.grad.abs().amax(1)


def by_backward(network, images, c):
    """The right answer with backward(), which takes what it left on the weights away again."""
    images = images.clone().requires_grad_()
    network(images)[:, c].sum().backward()
    network.zero_grad(set_to_none=True)
    return images.grad.abs().amax(1)


def one_by_one(network, images, c):
    return np.stack([gradient(network, image[None].clone(), c)[0].abs().amax(0).numpy() for image in images])


def in_training_mode(network, images, c, back=False):
    found = gradient(network.train(), images, c).abs().amax(1)
    network.train(not back)
    return found


def left_in_training_mode(network, images, c):
    found = gradient(network, images, c).abs().amax(1)
    network.train()
    return found


def on_a_frozen_network(network, images, c):
    return gradient(network.requires_grad_(False), images, c).abs().amax(1)


def with_a_hook(network, images, c):
    """Leaves the hook on the first layer."""
    seen = []
    network[0].register_full_backward_hook(lambda module, below, above: seen.append(above))
    return gradient(network, images, c).abs().amax(1)


def own_noise(gradient_of, image, noise, sigma):
    return smooth()(gradient_of, image, torch.randn(50, *image.shape), sigma)


def smooth_by_numpy(gradient_of, image, noise, sigma):
    spread = sigma * np.ptp(image.numpy())
    return np.abs(np.mean([gradient_of(image + spread * each).numpy() for each in noise], axis=0)).max(0)


def smooth_in_place(gradient_of, image, noise, sigma):
    noise *= sigma * (image.max() - image.min())
    return torch.stack([gradient_of(image + each) for each in noise]).mean(0).abs().amax(0)


def step_in_place(image, w, l2, rate):
    image += rate * (w - 2 * l2 * image)
    return image


def step_by_autograd(image, w, l2, rate):
    x = image.detach().clone().requires_grad_()
    objective = (w * x).sum() - l2 * x.square().sum()
    return (x + rate * torch.autograd.grad(objective, x)[0]).detach()


def step_by_optimiser(image, w, l2, rate):
    x = torch.nn.Parameter(image.clone())
    x.grad = -w.clone()
    torch.optim.SGD([x], lr=rate, weight_decay=2 * l2).step()
    return x


def seeds_by_sorting(map, foreground, background):
    order, n = map.flatten().argsort(), map.numel()
    masks = torch.zeros(2, n, dtype=torch.bool)
    masks[0, order[round(foreground * n) :]], masks[1, order[: round(background * n)]] = True, True
    return tuple(masks.view(2, *map.shape))


def remembers():
    momentum = []

    def my_step(image, w, l2, rate):
        momentum.append(0)
        return image + rate * (w - 2 * l2 * image) * (1 if len(momentum) < 2 else 0.01)

    return my_step


def seeds(high=lambda m, f, b: m >= m.flatten().quantile(f), low=lambda m, f, b: m <= m.flatten().quantile(b)):
    return lambda m, f, b: (high(m, f, b), low(m, f, b))


def integrated(
    places=lambda n: (torch.arange(n) + 0.5) / n, end=lambda mean, image, baseline: (image - baseline) * mean
):
    """The right answer, with other places on the way or another end where they are given."""

    def my_integrated(gradient_of, image, baseline, steps):
        mean = torch.stack([gradient_of(baseline + a * (image - baseline)) for a in places(steps)]).mean(0)
        return end(mean, image, baseline)

    return my_integrated


def named(saliency="saliency", probability="probability", rest="another network"):
    """The right answer, with other names where they are given."""

    def my_names(network, image, c, maps):
        w, w_p = (gradient(network, image.clone(), c, score)[0] for score in (lambda s: s, lambda s: s.softmax(1)))
        own = {saliency: w.abs().amax(0), "signs cancel": w.sum(0).abs()}
        own |= {"gradient times image": (w * image[0]).sum(0).abs(), probability: w_p.abs().amax(0)}
        return [
            next((name for name, heat in own.items() if torch.allclose(heat / heat.max(), each, atol=1e-4)), rest)
            for each in maps
        ]

    return my_names


@pytest.mark.parametrize(
    ("number", "answer", "part"),
    [
        ("05.5", integrated(), None),
        ("05.5", lambda f, x, b, n: integrated()(f, x.double(), b.double(), n).numpy(), None),
        ("05.5", lambda f, x, b, n: (x - b) * f(x), "at the image alone"),
        ("05.5", lambda f, x, b, n: (x - b) * f((x + b) / 2), "half way"),
        ("05.5", integrated(end=lambda mean, x, b: mean), "multiply it with the way"),
        ("05.5", integrated(end=lambda mean, x, b: x * mean), "multiplied with the image"),
        ("05.5", lambda f, x, b, n: integrated()(f, x, 0 * b, n), "begins at 0: it begins"),
        (
            "05.5",
            lambda f, x, b, n: (x - b) * integrated(end=lambda m, x, b: m)(f, x, 0 * b, n),
            "though it is multiplied",
        ),
        ("05.5", lambda f, x, b, n: n * integrated()(f, x, b, n), "divide by their number"),
        ("05.5", lambda f, x, b, n: integrated()(f, x, b, n).abs(), "without its signs"),
        ("05.5", integrated(end=lambda mean, x, b: (b - x) * mean), "that sign"),
        ("05.5", integrated(lambda n: torch.arange(n) / n), "beginnings of the parts"),
        ("05.5", integrated(lambda n: (torch.arange(n) + 1) / n), "ends of the parts"),
        ("05.5", integrated(lambda n: torch.linspace(0, 1, n + 1)), "steps + 1 places"),
        ("05.5", integrated(lambda n: torch.linspace(0, 1, n)), "from 0 to 1"),
        ("05.5", lambda f, x, b, n: integrated()(f, x, b, n).sum(0), "expected shape"),
        ("05.5", lambda f, x, b, n: integrated()(f, x, b, 100), "not the mean gradient"),
        ("05.6", named(), None),
        ("05.6", lambda *given: tuple(named()(*given)), None),
        ("05.6", named("probability", "saliency"), "are exchanged"),
        ("05.6", named(rest="saliency"), "4 of the five"),
        ("05.6", named(rest="liar"), "'liar' is none of the names"),
        ("05.6", lambda *given: list(lesson.exercises.NAMES), "of the five names are right"),
        ("05.6", lambda *given: named()(*given)[:4], "a list of five names"),
        ("05.6", lambda *given: dict(enumerate(named()(*given))), "a list of five names"),
        ("05.1", lambda n, x, c: gradient(n, x, c).abs().amax(1), None),
        ("05.1", lambda n, x, c: gradient(n, x, c).abs().mean(1), "the mean over the channels"),
        ("05.1", lambda n, x, c: gradient(n, x, c).abs().sum(1), "the sum over the channels"),
        ("05.1", lambda n, x, c: gradient(n, x, c).amax(1), "absolute value is missing"),
        ("05.1", lambda n, x, c: gradient(n, x, c).amax(1).abs(), "comes before the maximum"),
        ("05.1", lambda n, x, c: gradient(n, x, c).mean(1).abs(), "opposite signs cancel"),
        ("05.1", lambda n, x, c: gradient(n, x, c).sum(1).abs(), "cancel here, summed"),
        ("05.1", lambda n, x, c: gradient(n, x, c).norm(dim=1), "Euclidean"),
        ("05.1", lambda n, x, c: gradient(n, x, c, lambda s: s.softmax(1)).abs().amax(1), "the probability"),
        ("05.1", lambda n, x, c: gradient(n, x, c, lambda s: s.log_softmax(1)).abs().amax(1), "the logarithm"),
        (
            "05.1",
            lambda n, x, c: (lambda m: m / m.amax((1, 2), keepdim=True))(gradient(n, x, c).abs().amax(1)),
            "raw map",
        ),
        ("05.1", lambda n, x, c: (gradient(n, x, c) * x).abs().amax(1), "multiplied with the image"),
        ("05.1", lambda n, x, c: gradient(n, x, c).abs().amax(1) / 2, "Take the sum"),
        ("05.1", lambda n, x, c: gradient(n, x, c).abs(), "expected shape (2, 5, 6)"),
        ("05.1", lambda n, x, c: gradient(n, x, c).abs().amax(1) + 1, "is not equation"),
        ("05.1", lambda n, x, c: gradient(n, x, 1).abs().amax(1), "is not equation"),
        ("05.1", leaves_gradients, ".grad was left"),
        ("05.1", lambda n, x, c: ..., "not written yet"),
        ("05.1", by_backward, None),
        ("05.1", one_by_one, None),
        ("05.1", lambda n, x, c: gradient(n, x.clone(), c).abs().max(1).values, None),
        ("05.1", lambda n, x, c: gradient(n, x, c).norm(p=torch.inf, dim=1), None),
        ("05.1", lambda n, x, c: gradient(copy.deepcopy(n).double(), x.double(), c).abs().amax(1), None),
        ("05.1", lambda n, x, c: saliency(n, x, c), "it is the library's"),
        ("05.1", lambda n, x, c: input_gradient(n, x, c).abs().amax(1), "it is the library's"),
        ("05.1", in_training_mode, "in training mode"),
        ("05.1", lambda n, x, c: in_training_mode(n, x, c, back=True), "in training mode"),
        ("05.1", left_in_training_mode, "left the network in another mode"),
        ("05.1", on_a_frozen_network, "was switched off"),
        ("05.1", with_a_hook, "a hook was left"),
        ("05.1", lambda n, x, c: gradient(n, x, n(x).argmax(1)[0]).abs().amax(1), "is not equation"),
        ("05.1", lambda n, x, c: top_class(n, x), "the class with the largest score"),
        ("05.1", lambda n, x, c: gradient(n, x, c).abs().amax(1)[:1].expand(len(x), 5, 6), "is not equation"),
        ("05.1", lambda n, x, c: gradient(n, x, slice(None)).abs().amax(1), "the sum of all scores"),
        ("05.1", lambda n, x, c: gradient(n, x.mul_(2), c).abs().amax(1), "is not equation"),
        ("05.1", lambda n, x, c: (gradient(n, x, c).abs().amax(1), x.data.zero_())[0], "it changed `x`"),
        ("05.4", smooth(lambda x, s: 0.2 * (x.max() - x.min())), "sigma that was given is not used"),
        ("05.4", smooth(lambda x, s: 0.15 * (x.max() - x.min())), "sigma that was given is not used"),
        ("05.4", lambda f, x, n, s: smooth()(f, x, n[:1], s), "only the first noisy picture"),
        (
            "05.4",
            lambda f, x, n, s: smooth(end=lambda g: (g.sum(0) / 6).abs().amax(0))(f, x, n, s),
            "is not SmoothGrad",
        ),
        ("05.4", own_noise, "draw none of your own"),
        ("05.4", smooth_by_numpy, None),
        ("05.4", lambda f, x, n, s: smooth()(f, x.double(), n.double(), s), None),
        ("05.4", lambda f, x, n, s: sum(f(x + s * (x.max() - x.min()) * e) for e in n).abs().amax(0) / len(n), None),
        ("05.4", smooth_in_place, "it changed `noise`"),
        ("05.4", smooth(), None),
        ("05.4", smooth(end=lambda g: g.abs().mean(0).amax(0)), "before the average"),
        ("05.4", smooth(end=lambda g: g.abs().amax(1).mean(0)), "saliency maps are averaged"),
        ("05.4", smooth(lambda x, s: s**0.5 * (x.max() - x.min())), "for a variance"),
        ("05.4", smooth(lambda x, s: s**2 * (x.max() - x.min())), "is squared"),
        ("05.4", smooth(lambda x, s: (s * (x.max() - x.min())) ** 0.5), "square root is taken"),
        ("05.4", smooth(lambda x, s: s), "used as it is"),
        ("05.4", smooth(lambda x, s: s * x.max()), "share of the maximum"),
        ("05.4", smooth(lambda x, s: s * x.std()), "pixels' standard deviation"),
        ("05.4", smooth(lambda x, s: s * (x.amax((1, 2), True) - x.amin((1, 2), True))), "each channel"),
        ("05.4", smooth(end=lambda g: g.sum(0).abs().amax(0)), "divide by their number"),
        ("05.4", smooth(end=lambda g: g.mean(0).abs().mean(0)), "mean over the channels"),
        ("05.4", smooth(end=lambda g: g.mean(0).amax(0)), "missing after the average"),
        ("05.4", smooth(lambda x, s: 0), "no noise"),
        (
            "05.4",
            lambda f, x, n, s: f(x + s * (x.max() - x.min()) * n.mean(0)).abs().amax(0),
            "*pictures* are averaged",
        ),
        ("05.4", smooth(end=lambda g: g.mean(0).abs().amax(0) + 1), "not SmoothGrad's"),
        ("05.4", smooth(end=lambda g: g.mean(0).abs()), "expected shape (4, 5)"),
        ("05.2", lambda x, w, l2, rate: x + rate * (w - 2 * l2 * x), None),
        ("05.2", lambda x, w, l2, rate: x - rate * (w - 2 * l2 * x), "downhill"),
        ("05.2", lambda x, w, l2, rate: x + rate * (w + 2 * l2 * x), "wrong sign"),
        ("05.2", lambda x, w, l2, rate: x + rate * (w - l2 * x), "factor of 2"),
        ("05.2", lambda x, w, l2, rate: x + rate * w, "penalty is missing"),
        ("05.2", lambda x, w, l2, rate: x + rate * w - 2 * l2 * x, "not multiplied by the rate"),
        ("05.2", lambda x, w, l2, rate: x + w - 2 * rate * l2 * x, "multiplies the decay alone"),
        ("05.2", lambda x, w, l2, rate: x + rate * (w - l2 * x / x.norm()), "length |I|"),
        ("05.2", lambda x, w, l2, rate: x + rate * (w - l2 * x.sign()), "L1"),
        ("05.2", lambda x, w, l2, rate: rate * (w - 2 * l2 * x), "only the step"),
        ("05.2", lambda x, w, l2, rate: x + rate * (w - l2 * x.square().sum()), "a number"),
        ("05.2", lambda x, w, l2, rate: x + 1, "not one step"),
        ("05.2", remembers(), "kept from call to call"),
        ("05.2", step_by_autograd, None),
        ("05.2", step_by_optimiser, None),
        ("05.2", lambda x, w, l2, rate: (x * (1 - 2 * rate * l2) + rate * w).numpy(), None),
        ("05.2", lambda x, w, l2, rate: x.double() + rate * (w.double() - 2 * l2 * x.double()), None),
        ("05.2", lambda x, w, l2, rate: x + 0.2 * (w - 2 * l2 * x), "rate that was given is not used"),
        ("05.2", lambda x, w, l2, rate: x + rate * (w - 2 * 0.3 * x), "penalty that was given is not used"),
        ("05.2", lambda x, w, l2, rate: x + 0.2 * (w - 2 * 0.3 * x), "penalty and the rate"),
        ("05.2", lambda x, w, l2, rate: x + l2 * (w - 2 * rate * x), "changed places"),
        ("05.2", step_in_place, "it changed `image`"),
        ("05.3", seeds_by_sorting, None),
        ("05.3", lambda m, f, b: [np.asarray(m) >= np.quantile(m, f), np.asarray(m) <= np.quantile(m, b)], None),
        ("05.3", lambda m, f, b: seeds()(m.double(), f, b), None),
        ("05.3", lambda m, f, b: seeds()(m, 0.95, b), "seeds of the object"),
        ("05.3", lambda m, f, b: seeds()(m, f, 0.30), "seeds of the object"),
        ("05.3", lambda m, f, b: seeds()(m.add_(1), f, b), "it changed `m`"),
        ("05.3", seeds(), None),
        ("05.3", seeds(lambda m, f, b: m > m.flatten().quantile(f)), None),
        ("05.3", lambda m, f, b: seeds()(m, f, b)[::-1], "changed places"),
        (
            "05.3",
            seeds(lambda m, f, b: m <= m.flatten().quantile(f), lambda m, f, b: m >= m.flatten().quantile(b)),
            "sides are exchanged",
        ),
        ("05.3", seeds(lambda m, f, b: m >= f * m.max(), lambda m, f, b: m <= b * m.max()), "*maximum*"),
        ("05.3", seeds(lambda m, f, b: m >= m.flatten().quantile(1 - f)), "nearly every pixel"),
        ("05.3", seeds(lambda m, f, b: m <= m.flatten().quantile(1 - f)), "*least* salient"),
        ("05.3", seeds(low=lambda m, f, b: m <= m.flatten().quantile(1 - b)), "1 - background"),
        ("05.3", seeds(low=lambda m, f, b: m < m.flatten().quantile(f)), "between the two quantiles"),
        ("05.3", lambda m, f, b: seeds()(m, 0.95, 0.30), "are not used"),
        ("05.3", lambda m, f, b: seeds()(m, f, b)[0], "return two masks"),
        ("05.3", seeds(lambda m, f, b: (m >= m.flatten().quantile(f)).float()), "boolean"),
        ("05.3", seeds(lambda m, f, b: m > 2), "seeds of the object"),
        ("05.3", lambda m, f, b: seeds()(m, 100 * f, 100 * b), "your function stopped"),
    ],
)
def test_checks(number, answer, part):
    found = verdict(number, answer)
    assert found.passed == (part is None), found.message
    assert part is None or part in found.message, found.message
