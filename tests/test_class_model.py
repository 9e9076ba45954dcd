"""Class models: the closed form of a linear model, each option against what it promises, the conventions."""

import numpy as np
import pytest
import torch
from networks import GapNet, assert_unchanged, snapshot, trained_looking
from torch import nn

from xailab.class_model import Affine, Blur, Clip, Jitter, class_model, colour_root
from xailab.images import Preprocess
from xailab.models import zoo

QUIET = {"progress": False}
MIXED = torch.tensor([[0.9, 0.1, 0], [0.1, 1.0, 0.2], [0, 0.2, 0.8]])


def linear(height=6, width=7) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * height * width, 4))


class Recorder(nn.Module):
    """A network that keeps what it was shown."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.seen = inner, []

    def forward(self, x):
        self.seen.append(x.detach().clone())
        return self.inner(x)


@pytest.mark.parametrize("l2", [0.5, 0.05])
@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "ascent", "lr": 0.4},
        {"optimizer": "adam", "lr": 0.02},
        {"optimizer": "adam", "lr": 0.003, "parametrisation": "fourier"},
        {
            "optimizer": "ascent",
            "lr": 0.4,
            "decorrelate": torch.tensor([[0.9, 0.1, 0], [0.1, 1.0, 0.2], [0, 0.2, 0.8]]),
        },
    ],
    ids=["ascent", "adam", "fourier", "colours"],
)
def test_of_a_linear_model_it_is_the_weights_over_two_lambda(l2, options):
    """S = w I + b - l2 |I|^2 has its maximum at I = w / (2 l2), in whatever coordinates it is climbed."""
    network = linear()
    weight = network[1].weight.detach().view(4, 3, 6, 7)
    found = class_model(network, [2, 0], size=(6, 7), steps=1500, l2=l2, **options, **QUIET)
    expected = weight[[2, 0]] / (2 * l2)
    assert torch.allclose(found.images, expected, atol=0.02 * expected.abs().max().item())


def test_one_step_of_ascent_is_the_gradient():
    network = linear()
    weight = network[1].weight.detach().view(4, 3, 6, 7)
    start = torch.randn(1, 3, 6, 7)
    found = class_model(network, 1, size=(6, 7), steps=1, lr=0.3, l2=0.2, optimizer="ascent", start=start, **QUIET)
    assert torch.allclose(found.images[0], start[0] + 0.3 * (weight[1] - 2 * 0.2 * start[0]), atol=1e-6)
    assert torch.allclose(found.scores[0, 0], network(start)[0, 1])


def test_scores_rise_and_snapshots_are_taken():
    network = trained_looking(GapNet())
    found = class_model(network, [0, 3, 4], size=16, steps=30, snapshot_every=10, **QUIET)
    assert found.images.shape == (3, 3, 16, 16) and found.scores.shape == (30, 3)
    assert list(found.snapshots) == [10, 20, 30] and torch.equal(found.snapshots[30], found.images)
    network.eval()
    assert not torch.equal(found.snapshots[10], found.snapshots[20])
    assert (found.scores[-1] > found.scores[0] + 0.02).all()
    network.eval()
    alone = class_model(network, 3, size=16, steps=30, **QUIET)
    assert torch.allclose(alone.images[0], found.images[1], atol=1e-5)  # the classes of a batch do not mix


def test_jitter_turns_and_zooms_move_what_the_network_sees():
    start = torch.zeros(1, 3, 16, 16)
    start[0, :, 8, 8] = 1.0
    options = {"size": 16, "steps": 12, "lr": 1e-9, "start": start, **QUIET}
    network = Recorder(GapNet().eval())
    class_model(network, 1, transforms=[Jitter(2)], **options)
    peaks = {divmod(int(x[0, 0].argmax()), 16) for x in network.seen}
    assert len(peaks) > 3 and all(abs(y - 8) <= 2 and abs(x - 8) <= 2 for y, x in peaks)
    assert all(np.isclose(float(x.sum()), 3, atol=1e-4) for x in network.seen)
    for affine in (Affine(degrees=30), Affine(scale=0.3)):
        network = Recorder(GapNet().eval())
        class_model(network, 1, transforms=[affine], **options)
        assert len({float(x.std()) for x in network.seen}) > 3
    again = Recorder(GapNet().eval())
    class_model(again, 1, transforms=[Affine(scale=0.3)], **options)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(network.seen, again.seen, strict=True))
    other = Recorder(GapNet().eval())
    class_model(other, 1, transforms=[Affine(scale=0.3)], seed=5, **options)
    assert not torch.allclose(network.seen[0], other.seen[0])


def test_a_quarter_turn_turns(monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda *shape, generator: torch.ones(*shape))  # the largest turn there is
    start = torch.arange(48.0).view(1, 3, 4, 4)
    network = Recorder(linear(4, 4))
    class_model(network, 1, size=4, steps=1, transforms=[Affine(degrees=90)], start=start, **QUIET)
    assert torch.allclose(network.seen[0], torch.rot90(start, 1, (2, 3)), atol=1e-3)


def test_blur_takes_fine_detail_away():
    network = trained_looking(GapNet())
    rough, smooth = (
        class_model(network, 2, size=24, steps=20, projections=blurs, **QUIET).images for blurs in ([], [Blur(1.0)])
    )
    assert smooth.diff(dim=-1).abs().mean() / smooth.std() < 0.5 * rough.diff(dim=-1).abs().mean() / rough.std()


@pytest.mark.parametrize("parametrisation", ["pixels", "fourier"])
def test_clip_keeps_pixels_between_black_and_white(parametrisation):
    preprocess = Preprocess(mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (preprocess.mean, preprocess.std))
    options = {"size": 12, "steps": 20, "lr": 1.0, "l2": 0.0, "parametrisation": parametrisation, **QUIET}
    free = class_model(GapNet().eval(), 2, **options).images * std + mean
    kept = class_model(GapNet().eval(), 2, projections=[Clip(preprocess)], **options).images * std + mean
    assert free.min() < -0.2 and free.max() > 1.2
    assert kept.min() > -1e-4 and kept.max() < 1 + 1e-4


def test_projections_are_applied_after_each_step_in_their_order():
    seen = []

    def noted(images, step):
        seen.append((step, float(images.max())))
        return images

    half, double = (lambda images, step, by=by: images * by for by in (0.5, 2.0))
    start = torch.ones(1, 3, 6, 7)
    options = {"size": (6, 7), "steps": 2, "lr": 1e-9, "start": start, **QUIET}
    found = class_model(linear(), 1, projections=[half, noted, double, half], **options)
    assert seen == [(1, pytest.approx(0.5)), (2, pytest.approx(0.25))]
    assert torch.allclose(found.images, start / 4, atol=1e-6)


def test_fourier_grows_coarse_and_fine_alike():
    """From the same gradient, a step on scaled coefficients has far less of its energy in fine detail."""
    network = trained_looking(GapNet())
    options = {"size": 32, "steps": 1, "lr": 0.01, **QUIET}
    pixels, waves = (class_model(network, 1, parametrisation=p, **options).images[0] for p in ("pixels", "fourier"))
    fine = [float(image.diff(dim=-1).square().mean() / image.var()) for image in (pixels, waves)]
    assert fine[1] < 0.5 * fine[0]


def test_colour_root_is_the_root_of_the_covariance():
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (3, 8, 9, 3), generator=generator, dtype=torch.uint8)
    pictures[..., 1] = pictures[..., 0] // 2
    preprocess = Preprocess(std=(0.2, 0.3, 0.4))
    root = colour_root(pictures, preprocess)
    pixels = (pictures.reshape(-1, 3).numpy() / 255 - preprocess.mean) / preprocess.std
    assert np.allclose(root @ root, np.cov(pixels.T), atol=1e-4) and torch.allclose(root, root.T, atol=1e-6)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_leaves_the_network_alone(mode):
    model = trained_looking(GapNet()).train()
    model.features[0].weight.requires_grad_(False)
    model.fc.bias.grad = torch.ones(5)
    before = snapshot(model)
    with mode():
        class_model(model, [1, 2], size=16, steps=3, transforms=[Jitter(1)], **QUIET)
    assert_unchanged(model, before)


def test_errors():
    network = linear()
    with pytest.raises(ValueError, match="from 0 to 3"):
        class_model(network, 4, size=(6, 7), **QUIET)
    with pytest.raises(ValueError, match="steps=0"):
        class_model(network, 1, size=(6, 7), steps=0, **QUIET)
    with pytest.raises(ValueError, match=r"NaN or infinite at step \d+: take a learning rate lr below"):
        class_model(network, 1, size=(6, 7), optimizer="ascent", lr=1e30, l2=1e10, steps=50, **QUIET)


@pytest.mark.real
def test_espresso_of_the_real_network(real_data):
    model = zoo.load("squeezenet1_0", weights=real_data / "weights" / "squeezenet1_0_imagenet.safetensors")
    label = model.classes.index("espresso")
    options = {"transforms": [Jitter(8)], "projections": [Clip(model.preprocess)], "parametrisation": "fourier"}
    found = class_model(model, label, size=224, steps=60, **options, **QUIET)
    picture = model.preprocess.undo(found.images)[0]
    probability = model(model.preprocess(picture)).softmax(1)[0, label]  # of the 8-bit picture, not only of the floats
    assert probability > 0.99
