"""Feature maps, chains of layers, filters, and receptive fields against the textbook and against gradients."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networks import GapNet, assert_unchanged, snapshot
from torch import nn

from xailab.feature_maps import chain, feature_maps, filters
from xailab.models import zoo
from xailab.receptive_field import ReceptiveField, receptive_field


@pytest.fixture(scope="module")
def vgg():
    return zoo.load("vgg16", weights=None)


def test_vgg16_has_thirteen_convolutions(vgg):
    maps = feature_maps(vgg, torch.randn(1, 3, 64, 64))
    channels = [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6
    sides = [64] * 2 + [32] * 2 + [16] * 3 + [8] * 3 + [4] * 3
    assert [m.shape[1:] for m in maps.values()] == [(c, s, s) for c, s in zip(channels, sides, strict=True)]
    assert list(maps)[:2] == ["features.0", "features.2"]


def test_feature_maps_are_those_of_the_whole_network(vgg):
    """In-place ReLUs behind the convolutions must not show."""
    image = torch.randn(1, 3, 32, 32)
    maps = feature_maps(vgg, image, [nn.Conv2d, nn.ReLU])
    with torch.no_grad():
        first = F.conv2d(image, vgg.features[0].weight, vgg.features[0].bias, padding=1)
    assert torch.equal(maps["features.0"], first) and torch.equal(maps["features.1"], first.relu())


def test_the_three_ways(vgg):
    image = torch.randn(1, 3, 64, 64)
    alone = chain(vgg, image, nn.Conv2d)
    rectified = chain(vgg, image, (nn.Conv2d, nn.ReLU))
    pooled = chain(vgg.features, image, (nn.Conv2d, nn.MaxPool2d))
    everything = chain(vgg.features, image, (nn.Conv2d, nn.ReLU, nn.MaxPool2d))
    assert [len(outputs) for outputs in (alone, pooled, everything)] == [13, 18, 31]
    assert all(output.shape[2:] == (64, 64) for output in alone)
    assert pooled[-1].shape[2:] == (2, 2)
    with torch.no_grad():
        assert torch.equal(everything[-1], vgg.features(image))
        by_hand = image
        for module in vgg.features:
            if isinstance(module, nn.Conv2d):
                by_hand = module(by_hand)
        assert torch.equal(alone[-1], by_hand)
    assert rectified[0].min() < 0 == rectified[1].min()  # the ReLU in place left the output before it alone


def test_chain_refuses_branches_and_absent_kinds(vgg):
    resnet = zoo.load("resnet18", weights=None)
    with pytest.raises(ValueError, match=r"layer2\.0\.downsample\.0.* do not form one chain"):
        chain(resnet, torch.randn(1, 3, 64, 64), nn.Conv2d)
    with pytest.raises(ValueError, match="no layer of the kinds"):
        chain(vgg, torch.randn(1, 3, 64, 64), nn.Conv1d)
    with pytest.raises(ValueError, match="no layer of the kinds"):
        feature_maps(vgg, torch.randn(1, 3, 64, 64), [nn.GELU])


def test_leaves_the_network_alone():
    model = GapNet().train()
    before = snapshot(model)
    feature_maps(model, torch.randn(1, 3, 16, 16))
    chain(model.features, torch.randn(1, 3, 16, 16), (nn.Conv2d, nn.BatchNorm2d, nn.ReLU))
    receptive_field(model, "features", 32)
    filters(model)
    assert_unchanged(model, before)


def test_filters_share_a_scale_and_keep_grey_for_zero():
    model = nn.Sequential(nn.Conv2d(3, 2, 2), nn.Conv2d(2, 4, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.linspace(-2, 1, 24).view(2, 3, 2, 2))
    pictures = filters(model)
    assert pictures.shape == (2, 2, 2, 3) and pictures.min() == 0
    expected = (model[0].weight.detach().numpy() / 2 + 1) * 127.5
    assert np.abs(pictures.transpose(0, 3, 1, 2) - expected).max() <= 0.5
    with pytest.raises(ValueError, match="three input channels"):
        filters(model, "1")


@pytest.mark.parametrize(
    ("name", "layer", "size"),
    [
        # Araujo, Norris, Sim 2019, and the literature's tables
        ("alexnet", "features.12", 195), ("vgg16", "features.28", 196), ("vgg16", "features.30", 212),
        ("resnet18", "conv1", 7), ("resnet18", "layer4", 435), ("resnet50", "layer4", 427),
    ],
)  # fmt: skip
def test_receptive_fields_of_the_textbook(name, layer, size):
    found = receptive_field(zoo.load(name, weights=None), layer)
    assert found.size == size


class Odd(nn.Module):
    """Branches, functions, dilation, unequal padding, average pooling: what a formula in a hurry forgets."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.b = nn.Conv2d(4, 4, 3, dilation=3, padding="same")
        self.c = nn.Conv2d(4, 4, 5, padding=2)
        self.last = nn.Identity()

    def forward(self, x):
        x = F.avg_pool2d(self.a(x), 3, stride=1, padding=1)
        x = torch.cat([self.b(x) + x, F.max_pool2d(self.c(x), 3, stride=1, padding=1)], 1)
        return self.last(F.relu(x)).mean((2, 3))


def seen_by(model: nn.Module, layer: str, size: int, cell: int) -> tuple[int, int]:
    """First and last row of the picture that a cell's value depends on, found by gradients.

    All weights are positive and all poolings averages, so that nothing cancels and nothing is switched off.
    """
    for parameter in model.parameters():
        torch.nn.init.constant_(parameter, 0.1)
    picture = torch.rand(1, 3, size, size).double().requires_grad_()
    outputs = []
    handle = model.double().eval().get_submodule(layer).register_forward_hook(lambda m, i, o: outputs.append(o))
    model(picture)
    handle.remove()
    (gradient,) = torch.autograd.grad(outputs[0][:, :, cell, cell].sum(), picture)
    rows = gradient.abs().amax((0, 1, 3)).nonzero()
    return int(rows.min()), int(rows.max())


@pytest.mark.parametrize(("make", "layer", "size"), [(Odd, "last", 64), ("scenes_resnet", "layer2.0", 256)])
def test_gradients_reach_as_far_as_the_field(make, layer, size, monkeypatch):
    model = make() if callable(make) else zoo.load(make)
    found = receptive_field(model, layer, size)
    averages = {"max_pool2d": F.avg_pool2d}
    for module in model.modules():  # of the windows of a maximum, only one cell would get a gradient
        if isinstance(module, nn.MaxPool2d):
            module.forward = lambda x, m=module: F.avg_pool2d(x, m.kernel_size, m.stride, m.padding)
    monkeypatch.setattr(F, "max_pool2d", averages["max_pool2d"])
    cells = [size // found.stride // 2, size // found.stride // 2 + 1]
    (first, last), (second, _) = (seen_by(model, layer, size, cell) for cell in cells)
    assert found == ReceptiveField(last - first + 1, second - first, first - cells[0] * found.stride)


def test_fields_that_are_not_known_are_refused():
    with pytest.raises(ValueError, match="'fc' is not known"):
        receptive_field(zoo.load("resnet18", weights=None), "fc")
    with pytest.raises(ValueError, match="is not known"):  # squeeze and excitation looks at all of the picture
        receptive_field(zoo.load("efficientnet_b0", weights=None), "features.8")
    for layer in (nn.GroupNorm(2, 4), nn.InstanceNorm2d(4), nn.AdaptiveAvgPool2d(4)):
        with pytest.raises(ValueError, match="'1' is not known"):
            receptive_field(nn.Sequential(nn.Conv2d(3, 4, 3), layer), "1", 32)
    with pytest.raises(ValueError, match="was not called"):
        receptive_field(zoo.load("googlenet", weights=None), "aux1")
    with pytest.raises(ValueError, match="not square"):
        receptive_field(nn.Sequential(nn.Conv2d(3, 4, (1, 3))), "0", 32)
