"""Saliency and SmoothGrad: a linear model, finite differences in double precision, captum, the conventions."""

import numpy as np
import pytest
import torch
from networks import GapNet, assert_unchanged, snapshot, trained_looking
from torch import nn

from xailab.datasets import scenes
from xailab.models import zoo
from xailab.saliency import integrated_gradients, saliency, smooth_grad
from xailab.targets import ZeroGradient


@pytest.fixture
def model():
    torch.manual_seed(0)
    return trained_looking(GapNet()).eval()


def linear(channels: int = 3, classes: int = 4) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * 5 * 6, classes))


@pytest.mark.parametrize("channels", [1, 3])
def test_of_a_linear_model_it_is_the_weights(channels):
    network = linear(channels)
    weight = network[1].weight.detach().view(4, channels, 5, 6)
    maps = saliency(network, torch.randn(2, channels, 5, 6), [1, 3])
    assert torch.equal(maps, weight[[1, 3]].abs().amax(1))
    smooth = smooth_grad(network, torch.randn(2, channels, 5, 6), [1, 3], samples=7)
    assert torch.allclose(smooth, maps, atol=1e-6)  # a constant gradient is its own average


def test_it_is_what_finite_differences_say():
    torch.manual_seed(2)
    network = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.Softplus(), nn.Conv2d(4, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    network = network.double()
    image = torch.randn(1, 2, 7, 8, dtype=torch.float64)
    differences = torch.zeros(2, 7, 8, dtype=torch.float64)
    with torch.no_grad():
        for c, y, x in np.ndindex(2, 7, 8):
            step = torch.zeros_like(image)
            step[0, c, y, x] = 1e-6
            differences[c, y, x] = (network(image + step) - network(image - step))[0, 1] / 2e-6
    assert torch.allclose(saliency(network, image, 1)[0], differences.abs().amax(0), atol=1e-8)


@pytest.mark.parametrize("name", ["resnet18", "vgg11", "convnext_tiny"])
def test_captum_agrees(name):
    from captum.attr import Saliency

    network, images = trained_looking(zoo.load(name, weights=None)), torch.randn(2, 3, 64, 64)
    theirs = Saliency(network).attribute(images.clone().requires_grad_(), target=[5, 7]).amax(1)
    ours = saliency(network, images, [5, 7])
    assert torch.allclose(ours, theirs, atol=1e-6 * theirs.max().item())


class Saturating(nn.Module):
    """1 - ReLU(1 - x): it rises up to x = 1 and stays."""

    def forward(self, x):
        return (1 - torch.relu(1 - x)).flatten(1)


def test_integrated_gradients_see_what_the_gradient_does_not():
    """At x = 2 the gradient is 0; the path from 0 passes the slope, half of the time."""
    two = torch.full((1, 1, 1, 1), 2.0)
    half = torch.full_like(two, 0.5)
    assert integrated_gradients(Saturating(), two, 0, steps=10).item() == pytest.approx(1)
    assert integrated_gradients(Saturating(), two, 0, baseline=half, steps=9).item() == pytest.approx(0.5)
    with pytest.warns(ZeroGradient):
        assert integrated_gradients(Saturating(), two, 0, baseline=two - 0.5).item() == 0


def test_integrated_gradients_are_complete():
    """A map adds up to what the score gains on the way, the better the more steps."""
    network = zoo.load("scenes_resnet")
    images = network.preprocess([scenes.scene(i, split="test", size=64).image for i in range(2)])
    white = torch.tensor([1.0, 0.5, 0.0]).view(1, 3, 1, 1)
    with torch.no_grad():
        gain = (network(images) - network(white.expand_as(images)))[:, [2, 5]]
    errors = []
    for steps in (4, 128):
        maps = integrated_gradients(network, images, [[2, 5]] * 2, baseline=white, steps=steps)
        errors.append((maps.sum((2, 3)) - gain).abs().max().item())
    assert errors[1] < 0.05 * gain.abs().max() and errors[1] < errors[0] / 2, errors


def test_integrated_gradients_agree_with_captum(model):
    from captum.attr import IntegratedGradients

    images, baseline = torch.randn(2, 3, 12, 12), torch.randn(2, 3, 12, 12)
    theirs = IntegratedGradients(model).attribute(images, baseline, [1, 3], n_steps=8, method="riemann_middle").sum(1)
    ours = integrated_gradients(model, images, [1, 3], baseline=baseline, steps=8)
    assert torch.allclose(ours, theirs.float(), atol=1e-5 * theirs.abs().max().item())
    with pytest.raises(ValueError, match="steps from 1"):
        integrated_gradients(model, images, 1, steps=0)


def test_smooth_grad_averages_gradients_at_noisy_copies(model):
    """Against captum's NoiseTunnel on the same noise, and by hand: sigma is a share of each image's own range."""
    images = torch.randn(2, 3, 12, 12) * torch.tensor([1.0, 5.0]).view(2, 1, 1, 1)
    ranges = images.amax((1, 2, 3)) - images.amin((1, 2, 3))
    generator = torch.Generator().manual_seed(3)
    total = torch.zeros_like(images)
    for _ in range(4):
        noisy = images + 0.2 * ranges.view(2, 1, 1, 1) * torch.randn((1, 3, 12, 12), generator=generator)
        noisy.requires_grad_()
        total += torch.autograd.grad(model(noisy)[:, 2].sum(), noisy)[0]
    expected = (total / 4).abs().amax(1)
    assert torch.allclose(smooth_grad(model, images, 2, samples=4, sigma=0.2, seed=3), expected, atol=1e-7)
    assert torch.equal(smooth_grad(model, images, 2, samples=1, sigma=0.0), saliency(model, images, 2))


def test_smooth_grad_keeps_to_the_class_of_the_clean_image(model):
    images = torch.randn(4, 3, 12, 12)
    top = model(images).argmax(1)
    assert torch.equal(
        smooth_grad(model, images, samples=3, sigma=2.0), smooth_grad(model, images, top, samples=3, sigma=2.0)
    )
    assert not torch.equal(
        smooth_grad(model, images, top, seed=1, samples=3), smooth_grad(model, images, top, samples=3)
    )


def test_targets_and_batches(model):
    images = torch.randn(3, 3, 16, 16)
    several = saliency(model, images, [[0, 4], [1, 1], [2, 0]])
    assert several.shape == (3, 2, 16, 16)
    for i, j, c in ((0, 0, 0), (0, 1, 4), (1, 0, 1), (2, 1, 0)):
        assert torch.allclose(several[i, j], saliency(model, images[i : i + 1], c)[0], atol=1e-7)
    assert torch.equal(saliency(model, images), saliency(model, images, model(images).argmax(1)))
    with pytest.raises(ValueError, match="from 0 to 4"):
        saliency(model, images, 5)
    with pytest.raises(ValueError, match="samples from 1"):
        smooth_grad(model, images, 1, samples=0)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("method", [saliency, lambda *args: smooth_grad(*args, samples=2)])
def test_leaves_the_network_alone(model, mode, method):
    model.train()
    model.features[0].weight.requires_grad_(False)
    model.fc.bias.grad = torch.ones(5)
    before = snapshot(model)
    with mode():
        images = torch.randn(2, 3, 16, 16)
        maps = method(model, images, 1)
    assert maps.min() >= 0 and maps.max() > 0 and not maps.requires_grad
    assert_unchanged(model, before)
