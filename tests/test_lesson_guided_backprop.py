"""Lesson 04: its measurements and drawings, its explorer when it is moved, its checks with right and wrong answers."""

import copy
import itertools
import warnings

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from xailab import images
from xailab.datasets import scenes
from xailab.grad_cam import guided_grad_cam
from xailab.guided_backprop import guided_backprop
from xailab.lessons import guided_backprop as lesson
from xailab.lessons import verdict
from xailab.models import zoo

CAT, DOG = (scenes.CLASSES.index(name) for name in ("cat", "dog"))


@pytest.fixture(scope="module")
def network():
    return zoo.load("scenes_resnet")


@pytest.fixture(scope="module")
def networks(network):
    other = copy.deepcopy(network)
    torch.manual_seed(0)
    other.fc.reset_parameters()
    return {"trained": network, "fc random": other}


@pytest.fixture(scope="module")
def ten():
    return [scenes.scene(i, split="test", size=128) for i in range(10)]


def alike(a, b):
    return float((lesson.ranks(a) * lesson.ranks(b)).sum(1).mean())


def test_explanations_are_the_library_s(network, ten):
    batch, labels = network.preprocess([s.image for s in ten[:3]]), [s.labels[0] for s in ten[:3]]
    found = lesson.explanations(network, batch, labels)
    assert tuple(found) == lesson.METHODS
    torch.testing.assert_close(found["guided backprop"], guided_backprop(network, batch, labels))
    torch.testing.assert_close(found["Guided Grad-CAM"], guided_grad_cam(network, batch, "layer4", labels))
    assert found["Grad-CAM"].shape == (3, 8, 8) and found["Grad-CAM"].min() < 0
    only = lesson.explanations(network, batch, labels, ["Guided Grad-CAM"])
    assert list(only) == ["Guided Grad-CAM"]
    with warnings.catch_warnings():  # an empty map passes without a warning
        warnings.simplefilter("error")
        lesson.explanations(network, batch, [scenes.CLASSES.index("umbrella")] * 3)


def test_rank_correlation():
    a = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert lesson.rank_correlation(a, -a.exp()) == pytest.approx(-1)
    assert lesson.rank_correlation(torch.stack([a, -2 * a]), -a[None]) == pytest.approx(1)
    assert lesson.rank_correlation(a, torch.zeros(2, 2)) == 0
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(4, 3, 6, 5, generator=generator).round()  # with ties
    for x, y in itertools.combinations(maps, 2):
        expected = spearmanr(x.abs().amax(0).flatten(), y.abs().amax(0).flatten()).statistic
        assert lesson.rank_correlation(x, y) == pytest.approx(expected)
    assert lesson.ranks(maps).shape == (4, 30)


def test_what_the_lesson_says_of_two_classes(network):
    pairs = [scenes.scene(i, kind="pair", label=(CAT, DOG), split="test", size=128) for i in range(40)]
    batch = network.preprocess([s.image for s in pairs])
    masks = [torch.from_numpy(np.stack([s.masks[i] for s in pairs])) for i in (0, 1)]
    answers = [lesson.explanations(network, batch, [c] * 40) for c in (CAT, DOG)]
    similarity = {name: alike(answers[0][name], answers[1][name]) for name in lesson.METHODS}
    expected = {"gradient": 0.76, "deconvnet": 0.97, "guided backprop": 0.97, "Grad-CAM": -0.90}
    assert {name: similarity[name] for name in expected} == pytest.approx(expected, abs=0.01)
    assert similarity["Guided Grad-CAM"] < 0

    def shares(name):
        mass = [
            lesson.strength(a[name]) if a[name].ndim == 4 else images.upsample(a[name].relu(), 128) for a in answers
        ]
        on = [[float(((m * mask).sum((1, 2)) / m.sum((1, 2))).mean()) for mask in masks] for m in mass]
        return (on[0][0] + on[1][1]) / 2, (on[0][1] + on[1][0]) / 2

    assert shares("guided backprop") == pytest.approx((0.48, 0.27), abs=0.01)
    assert shares("Guided Grad-CAM") == pytest.approx((0.80, 0.0), abs=0.01)
    named, other = shares("gradient")
    assert named < other
    area = float(torch.stack(masks).float().mean())
    assert 2.5 < shares("guided backprop")[1] / area < 3


def test_drawing_says_which_network_explains(networks, ten):
    picture = ten[4].image
    titles = [
        axes.get_title() for axes in lesson.draw_rule(networks, picture, DOG, "guided backprop", "fc random").axes
    ]
    assert "dog" in titles[0] and titles[1] == "guided backprop, trained"
    assert titles[2].startswith("fc random: ρ = 0.9")
    same = lesson.draw_rule(networks, picture, DOG, "Grad-CAM")
    assert same.axes[2].get_title() == "trained: ρ = 1.00"


def test_table_of_verdicts_tells_silent_from_loud():
    figure = lesson.verdict_table([["right", "neither"], ["RuntimeError", "refuses"]], ["a", "b"], ["x", "y"])
    assert lesson.verdict_table([["warns"]], ["a"], ["x"]).axes[0].patches[0].get_facecolor() == (
        figure.axes[0].patches[3].get_facecolor()
    )
    colours = [patch.get_facecolor() for patch in figure.axes[0].patches]
    assert colours[2] == colours[3] and len(set(colours)) == 3


def test_explorer_follows_every_control(networks, ten):
    box = lesson.rule_explorer(networks, [s.image for s in ten[:2]])
    seen = {box.picture.value}
    for name, value in (
        ("picture", 2),
        ("label", 5),
        ("method", "Guided Grad-CAM"),
        ("step", "trained"),
        ("method", "gradient"),
    ):
        box.controls[name].value = value
        assert box.message.value == ""
        seen.add(box.picture.value)
    assert len(seen) == 6


def gradient_with(hook, *, where=("lower", "upper"), before=False, end=lambda g: g, c=None):
    """The right answer to 04.4, with one thing that can be done wrongly at a time."""

    def my_gradient(x, first, second, third, target):
        x = x.requires_grad_()
        z = first @ x
        lower = z.relu()
        above = second @ lower
        upper = above.relu()
        for name, tensor in (("lower", z if before else lower), ("upper", above if before else upper)):
            if name in where:
                tensor.register_hook(hook)
        return end(torch.autograd.grad((third @ upper)[target if c is None else c], x)[0])

    return my_gradient


class Deconvnet(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z):
        return z.clamp(min=0)

    @staticmethod
    def backward(ctx, R):
        return R.clamp(min=0)


def by_deconvnet(x, first, second, third, c):
    x = x.requires_grad_()
    upper = Deconvnet.apply(second @ Deconvnet.apply(first @ x))
    return torch.autograd.grad((third @ upper)[c], x)[0]


def guided_by_autograd(z, R):
    z = z.clone().requires_grad_()
    return torch.autograd.grad(z.relu(), z, R)[0].clamp(min=0)


def guided_in_a_loop(z, R):
    found = torch.zeros(z.numel())
    for i, (below, above) in enumerate(zip(z.flatten(), R.flatten(), strict=True)):
        if below > 0 and above > 0:
            found[i] = above
    return found.view(z.shape)


def by_matrix_products(x, first, second, third, c):
    below = first @ x
    above = second @ below.relu()
    return first.T @ ((second.T @ (third[c].clamp(min=0) * (above > 0))).clamp(min=0) * (below > 0))


def by_numpy_products(x, first, second, third, c):
    x, first, second, third = (each.numpy() for each in (x, first, second, third))
    below = first @ x
    above = second @ np.maximum(below, 0)
    return first.T @ (np.maximum(second.T @ (np.maximum(third[c], 0) * (above > 0)), 0) * (below > 0))


def by_backward(x, first, second, third, c):
    x = x.detach().clone().requires_grad_()
    lower = (first @ x).relu()
    upper = (second @ lower).relu()
    for activation in (lower, upper):
        activation.register_hook(clamp)
    (third @ upper)[c].backward()
    return x.grad


class GuidedReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z):
        ctx.save_for_backward(z)
        return z.clamp(min=0)

    @staticmethod
    def backward(ctx, R):
        return R.clamp(min=0) * (ctx.saved_tensors[0] > 0)


def by_own_function(x, first, second, third, c):
    x = x.requires_grad_()
    upper = GuidedReLU.apply(second @ GuidedReLU.apply(first @ x))
    return torch.autograd.grad((third @ upper)[c], x)[0]


def by_node_hooks(x, first, second, third, c):
    x = x.requires_grad_()
    lower = (first @ x).relu()
    upper = (second @ lower).relu()
    for activation in (lower, upper):
        activation.grad_fn.register_prehook(lambda gradients: (gradients[0].clamp(min=0),))
    return torch.autograd.grad((third @ upper)[c], x)[0]


def weights_in_place(x, first, second, third, c):
    found = gradient_with(clamp)(x, first, second, third, c)
    first.mul_(0)
    return found


def picture_of_values(g):
    return 128 + 127 * (g / g.abs().flatten().quantile(0.99)).clamp(-1, 1)


def rounded_with_numpy(g):
    g = g.numpy()
    share = np.clip(g / np.quantile(np.abs(g), 0.99), -1, 1)
    return np.rint(128 + 127 * share).astype(np.uint8).transpose(1, 2, 0)


def strengths(g):
    return g.abs().amax(0).flatten()


def ranks_by_hand(a, b):
    x, y = (g.abs().amax(0).flatten().argsort().argsort().double() for g in (a, b))
    return np.corrcoef(x, y)[0, 1]


def clamp(R):
    return R.clamp(min=0)


def picture_of(g, *, bound=None, values=None, clip=True, zero=128.0, keep=lambda g: g):
    """The right answer to 04.2, with one thing that can be done wrongly at a time."""
    bound = g.abs().flatten().quantile(0.99) if bound is None else bound
    share = (g if values is None else values) / bound
    grey = zero + 127 * (share.clamp(-1, 1) if clip else share)
    return keep(grey.round()).remainder(256).to(torch.uint8).permute(1, 2, 0)


def min_max(g):
    return (255 * (g - g.min()) / (g.max() - g.min())).to(torch.uint8).permute(1, 2, 0)


def mean_std(g):
    return (255 * (0.5 + 0.1 * (g - g.mean()) / (g.std() + 1e-5)).clamp(0, 1)).to(torch.uint8).permute(1, 2, 0)


def positive_part(g):
    return (255 * (g / g.abs().flatten().quantile(0.99)).clamp(0, 1)).to(torch.uint8).permute(1, 2, 0)


def similarity(a, b, *, of=lambda g: g.abs().amax(0)):
    return spearmanr(of(a).flatten(), of(b).flatten()).statistic


def likeness(a, b):
    return np.mean([lesson.rank_correlation(x, y) for x, y in zip(a, b, strict=True)])


def object_share(gradients, masks, margin):
    strength = gradients.abs().amax(1)
    grown = torch.nn.functional.max_pool2d(masks[:, None].float(), 2 * margin + 1, 1, margin)[:, 0]
    return (strength * grown).sum((1, 2)) / strength.sum((1, 2))


@pytest.mark.parametrize(
    ("number", "answer", "part"),
    [
        ("04.1", lambda z, R: R * (z > 0) * (R > 0), None),
        ("04.1", lambda z, R: torch.where((z > 0) & (R > 0), R, 0.0), None),
        ("04.1", lambda z, R: (R * (z > 0)).clamp(min=0), None),
        ("04.1", lambda z, R: R * (z > 0), "true gradient"),
        ("04.1", lambda z, R: R.clamp(min=0), "deconvnet"),
        ("04.1", lambda z, R: R * (z >= 0) * (R > 0), "without the equals sign"),
        ("04.1", lambda z, R: (R * (z > 0)).abs(), "instead of abs"),
        ("04.1", lambda z, R: z * (z > 0) * (R > 0), "not z"),
        ("04.1", lambda z, R: ((z > 0) & (R > 0)).float(), "mask alone"),
        ("04.1", lambda z, R: R * ((z > 0) | (R > 0)), "both conditions"),
        ("04.1", lambda z, R: (R * (z > 0) * (R > 0)).sum(), "expected shape"),
        ("04.1", lambda z, R: R, "is handed down"),
        ("04.1", lambda z, R: ..., "not written yet"),
        ("04.4", gradient_with(clamp), None),
        ("04.4", gradient_with(clamp, before=True), None),  # after the derivative, the clamp does the same
        ("04.4", gradient_with(lambda R: None), "true gradient"),
        ("04.4", gradient_with(clamp, where=(), end=clamp), "at the input alone"),
        ("04.4", gradient_with(clamp, end=clamp), "nothing is clamped at the input"),
        ("04.4", gradient_with(clamp, where=("lower",)), "only the lower"),
        ("04.4", gradient_with(clamp, where=("upper",)), "only the upper"),
        ("04.4", gradient_with(torch.abs), "not turned round"),
        ("04.4", by_deconvnet, "deconvnet"),
        ("04.4", gradient_with(clamp, c=0), "class 0"),
        ("04.4", lambda x, first, second, third, c: first, "expected shape"),
        ("04.4", lambda x, first, second, third, c: x, "is what arrives at each"),
        ("04.2", picture_of, None),
        ("04.2", lambda g: picture_of(g).numpy(), None),
        ("04.2", min_max, "min-max"),
        ("04.2", mean_std, "subtracts the mean"),
        ("04.2", lambda g: picture_of(g, bound=g.abs().max()), "one outlier"),
        ("04.2", lambda g: picture_of(g, clip=False), "wrap round"),
        ("04.2", lambda g: picture_of(g, bound=g.abs().flatten(1).quantile(0.99, dim=1).view(3, 1, 1)), "one scale"),
        ("04.2", lambda g: picture_of(g, values=g.abs()), "sign is lost"),
        ("04.2", positive_part, "zero is black"),
        ("04.2", lambda g: picture_of(g).flip(2), "order RGB"),
        ("04.2", lambda g: picture_of(g, bound=g.flatten().quantile(0.99)), "of their absolute values"),
        ("04.2", lambda g: picture_of(g, zero=127.0), "128 exactly"),
        ("04.2", lambda g: picture_of(g, bound=1.0), "should be"),
        ("04.2", lambda g: picture_of(g).permute(1, 0, 2), "exchanged"),
        ("04.2", lambda g: picture_of(g).permute(2, 0, 1), "expected shape"),
        ("04.2", lambda g: picture_of(g).float(), "expected uint8"),
        ("04.3", similarity, None),
        ("04.3", lambda a, b: spearmanr(a.abs().amax(0).flatten(), b.abs().amax(0).flatten()), "hand back its"),
        ("04.3", lambda a, b: spearmanr(a.abs().amax(0), b.abs().amax(0)).statistic, "flatten both"),
        ("04.3", lambda a, b: np.corrcoef(a.abs().amax(0).flatten(), b.abs().amax(0).flatten())[0, 1], "Rank them"),
        ("04.3", lambda a, b: similarity(a, b, of=lambda g: g), "signs were ranked"),
        ("04.3", lambda a, b: similarity(a, b, of=lambda g: g.amax(0)), "signs were ranked"),
        ("04.3", lambda a, b: similarity(a, b, of=lambda g: g.abs()), "one place"),
        ("04.3", lambda a, b: similarity(a, b, of=lambda g: g.abs().mean(0)), "the mean over"),
        ("04.3", lambda a, b: similarity(a, b, of=lambda g: g.mean(0).abs()), "cancel"),
        ("04.3", lambda a, b: spearmanr(a.abs().amax(0).flatten(), b.abs().amax(0).flatten()).pvalue, "p-value"),
        ("04.3", lambda a, b: spearmanr(a.abs().max(0), b.abs().max(0)).statistic, "by .amax(0)"),
        ("04.3", lambda a, b: spearmanr(a.abs().max(0).flatten(), b).statistic, "by .amax(0)"),
        ("04.3", lambda a, b: spearmanr(a, b).statistic, "by .amax(0)"),
        ("04.3", lambda a, b: a.no_such_method(), "your function stopped"),
        ("04.3", lambda a, b: 0.5, "for this pair"),
        ("04.1", lambda z, R: np.where((z.numpy() > 0) & (R.numpy() > 0), R.numpy(), 0), None),
        ("04.1", lambda z, R: R.clamp(min=0) * (z > 0), None),
        ("04.1", lambda z, R: torch.relu(R.double()) * torch.heaviside(z, torch.tensor(0.0)), None),
        ("04.1", lambda z, R: R * (z > 0).float() * R.gt(0).float(), None),
        ("04.1", guided_by_autograd, None),
        ("04.1", guided_in_a_loop, "in a loop"),
        ("04.1", lambda z, R: R.masked_fill_((z <= 0) | (R <= 0), 0), "it changed `R`"),
        ("04.1", lambda z, R: torch.tensor([[0.0, 0, 0, 0], [6, 0, 0, 0], [0, 0, 3, 0.5]]), "expected shape"),
        ("04.4", by_matrix_products, "you wrote out the chain rule"),
        ("04.4", by_numpy_products, "you wrote out the chain rule"),
        ("04.4", by_backward, None),
        ("04.4", by_own_function, None),
        ("04.4", by_node_hooks, None),
        ("04.4", lambda x, *rest: gradient_with(clamp)(x.clone(), *rest), None),
        ("04.4", lambda x, *rest: gradient_with(clamp)(x, *rest) * x.detach(), "times x"),
        ("04.4", lambda x, a, b, c, k: gradient_with(clamp)(x, a, b, c, 2), "for class 1"),
        ("04.4", weights_in_place, "it changed `first`"),
        ("04.2", rounded_with_numpy, None),
        ("04.2", lambda g: picture_of(g.double()), None),
        ("04.2", lambda g: (picture_of_values(g) + 0.5).floor().to(torch.uint8).permute(1, 2, 0), None),
        ("04.2", lambda g: np.array(picture_of(g).tolist(), np.uint8), None),
        ("04.2", lambda g: picture_of_values(g).to(torch.uint8).permute(1, 2, 0), "not rounded"),
        ("04.2", lambda g: picture_of_values(g).ceil().to(torch.uint8).permute(1, 2, 0), "should be"),
        ("04.2", lambda g: picture_of(g, bound=g.abs().flatten().quantile(0.995)), "99.5 % quantile"),
        ("04.2", lambda g: picture_of(g, bound=g.abs().flatten().quantile(0.95)), "95 % quantile"),
        ("04.2", lambda g: picture_of(g, bound=127.0), "should be"),
        ("04.2", lambda g: (picture_of_values(g) * 127.5 / 127 - 1.004).round().to(torch.uint8).permute(1, 2, 0),
         "127 steps"),
        ("04.2", lambda g: picture_of(g.mul_(1.5)), "it changed `g`"),
        ("04.2", lambda g: np.full((8, 10, 3), 128, np.uint8), "should be"),
        ("04.3", ranks_by_hand, "share their mean rank"),
        ("04.3", lambda a, b: torch.tensor(similarity(a, b)), None),
        ("04.3", lambda a, b: lesson.rank_correlation(a, b), None),
        ("04.3", lambda a, b: similarity(a, a), "with itself"),
        ("04.3", lambda a, b: similarity(a, b, of=lambda g: g.norm(dim=0)), "the length over"),
        ("04.3", lambda a, b: abs(similarity(a, b)), "sign of the correlation"),
        ("04.3", lambda a, b: np.corrcoef(*(strengths(g).argsort() for g in (a, b)))[0, 1], "not the ranks"),
        ("04.3", lambda a, b: similarity(a.abs_(), b), "it changed `a`"),
        ("04.6", lambda a, b: bool(likeness(a, b) < (1 + likeness(a, a.roll(1, 0))) / 2), None),
        ("04.6", lambda a, b: bool(likeness(a, b) < 0.5), "objects stand in the middle"),
        ("04.6", lambda a, b: True, "edge detector"),
        ("04.6", lambda a, b: False, "do notice"),
        ("04.6", lambda a, b: not torch.equal(a, b), "far more like"),
        ("04.6", lambda a, b: a, "True or False"),
        ("04.5", object_share, None),
        ("04.5", lambda g, m, k: object_share(g, m, 0), "alone"),
        ("04.5", lambda g, m, k: object_share(g.sum(1, keepdim=True).relu(), m, k), "a share is wrong"),
        ("04.5", lambda g, m, k: object_share(g**2, m, k), "squares"),
        ("04.5", lambda g, m, k: object_share(g.abs().sum(1, keepdim=True), m, k), "largest of the three"),
        ("04.5", lambda g, m, k: 1 - object_share(g, m, k), "off the object"),
        ("04.5", lambda g, m, k: object_share(torch.ones_like(g), m, k), "area"),
    ],
)  # fmt: skip
def test_checks(number, answer, part):
    found = verdict(number, answer)
    assert found.passed == (part is None), found.message
    assert part is None or part in found.message, found.message


def test_the_gradients_of_the_picture_have_one_right_picture():
    """Their quantile is exact, by torch and by NumPy, and no grey value is near a half."""
    for gradient, bound in lesson.picture_cases():
        assert float(gradient.abs().flatten().quantile(0.99)) == bound == np.quantile(gradient.abs().numpy(), 0.99)
        grey = 128 + 127 * (gradient.double() / bound).clamp(-1, 1)
        assert ((grey - grey.floor() - 0.5).abs() >= 0.2).all() and (grey != grey.round()).any()
        assert (gradient.abs() > bound).sum() >= 2 and (gradient < -bound).any()
