"""Grad-CAM: hand cases, identities, oracles, what it leaves behind (nothing) and what it costs."""

import copy
import dataclasses
import gc
import math
import warnings
import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networks import (
    GapNet,
    OneConv,
    Rectified,
    assert_unchanged,
    live_tensors,
    ruled_gradient,
    snapshot,
    trained_looking,
)
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from xailab.cam import class_activation_map
from xailab.grad_cam import NoPositiveEvidence, grad_cam, guided_grad_cam
from xailab.guided_backprop import guided_backprop
from xailab.hooks import recording
from xailab.images import upsample
from xailab.models import zoo

pytestmark = [
    pytest.mark.filterwarnings("ignore::xailab.grad_cam.NoPositiveEvidence"),
    pytest.mark.filterwarnings("ignore:Setting (forward|backward).*hooks", "ignore:Input Tensor 0 did not already"),
]

# Network -> the layer that is explained, and the output that pytorch-grad-cam can be trusted with if it is another one:
# DenseNet rectifies its `features` in place behind the layer.
ORACLES = {
    "resnet18": ("layer4", None),
    "resnet50": ("layer4", None),
    "vgg16": ("features.29", None),
    "mobilenet_v2": ("features.18", None),
    "densenet121": ("features", "features.denseblock4"),
    "googlenet": ("inception5b", None),
    "squeezenet1_0": ("features.12", None),
    "efficientnet_b0": ("features.8", None),
    "convnext_tiny": ("features.7", None),
}


def random_network(name: str) -> nn.Module:
    return trained_looking(zoo.load(name, weights=None))


@pytest.fixture(scope="module")
def network(request) -> nn.Module:
    """A network with random weights, shared by the tests that ask for it (by name, indirectly)."""
    return random_network(request.param)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def model(seeded) -> nn.Module:
    return trained_looking(GapNet().eval())


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(3, 3, 16, 24, generator=torch.Generator().manual_seed(1))


def close(ours: torch.Tensor, theirs: torch.Tensor, digits: float = 1e-5) -> bool:
    assert theirs.abs().max() > 0, "nothing to compare"
    return ours.shape == theirs.shape and (ours - theirs).abs().max().item() <= digits * theirs.abs().max().item()


# Hand cases


@pytest.mark.parametrize("inplace", [False, True])
def test_the_hand_case_of_the_literature(inplace):
    """conv1 puts out -5 4 31 40 and -30 -21 6 15; alpha is 3/4 and -1/2 there, 1 and -1/2 behind the ReLU."""
    hand, picture = OneConv(inplace), torch.arange(16.0).view(1, 1, 4, 4)
    maps = grad_cam(hand, picture, ["conv1", "relu1"], 0)
    assert torch.equal(maps["conv1"], torch.tensor([[[11.25, 13.5], [20.25, 22.5]]]))
    assert torch.equal(maps["relu1"], torch.tensor([[[0, 4], [28, 32.5]]]))
    product = guided_grad_cam(hand, picture, "relu1", 0)
    guided = torch.tensor([[0, 1, 1, 1], [1, 3, 3, 2], [1, 3, 3, 2], [1, 2, 2, 1.0]])
    assert torch.equal(product[0, 0], guided * upsample(maps["relu1"], 4)[0])


def test_the_captum_peer_has_the_same_hand_case():
    captum = pytest.importorskip("captum.attr")
    hand = OneConv()
    theirs = captum.LayerGradCam(hand, hand.conv1).attribute(torch.arange(16.0).view(1, 1, 4, 4), target=0)
    assert torch.equal(theirs.detach()[0, 0], torch.tensor([[11.25, 13.5], [20.25, 22.5]]))


# Identities


@pytest.mark.parametrize(
    "name, layer", [("scenes_resnet", "layer4"), ("resnet18", "layer4"), ("googlenet", "inception5b")]
)
def test_generalises_cam(name, layer):
    """A network that ends in a global average over Z cells and a linear layer: Grad-CAM == ReLU(CAM) / Z."""
    network = zoo.load(name) if name in zoo.manifest() else trained_looking(zoo.load(name, weights=None))
    pictures = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    target = [[0, 5, 9], [1, 2, 3]]
    cams = class_activation_map(network, pictures, target)
    cells = cams.shape[-2] * cams.shape[-1]
    assert close(grad_cam(network, pictures, layer, target), cams.relu() / cells)
    assert close(grad_cam(network, pictures, layer, target, relu=False), cams / cells)
    assert close(grad_cam(network, pictures, layer, target, counterfactual=True), (-cams).relu() / cells)


def test_counterfactual_and_sign(model, images):
    signed = grad_cam(model, images, "features.3", 2, relu=False)
    assert (signed < 0).any() and (signed > 0).any()
    assert close(grad_cam(model, images, "features.3", 2), signed.relu(), 1e-6)
    assert close(grad_cam(model, images, "features.3", 2, counterfactual=True), (-signed).relu(), 1e-6)
    assert close(grad_cam(model, images, "features.3", 2, counterfactual=True, relu=False), -signed, 1e-6)


def test_every_form_of_target_and_the_batch(model, images):
    several = grad_cam(model, images, "features.2", [[0, 1, 2, 3, 4]] * 3, relu=False)
    assert several.shape == (3, 5, 8, 12)
    for c in range(5):
        assert close(grad_cam(model, images, "features.2", c, relu=False), several[:, c])
    each = grad_cam(model, images, "features.2", torch.tensor([4, 0, 2]), relu=False)
    assert close(each, several[torch.arange(3), [4, 0, 2]])
    top = model(images).argmax(1)
    assert close(grad_cam(model, images, "features.2", relu=False), several[torch.arange(3), top])
    alone = grad_cam(model, images[1:2], "features.2", 0, relu=False)
    assert close(alone[0], several[1, 0]), "images of a batch do not mix"


def test_several_layers_equal_one_by_one(model, images):
    layers = ["features.4", model.features[0], "features.2"]
    for target in (1, [[0, 4], [2, 2], [1, 3]]):
        together = grad_cam(model, images, layers, target, relu=False)
        assert list(together) == ["features.4", "features.0", "features.2"]
        for name, maps in together.items():
            assert close(maps, grad_cam(model, images, name, target, relu=False)), name
    assert list(grad_cam(model, images, ["features.4"], 1)) == ["features.4"]
    assert torch.equal(grad_cam(model, images, model.features[2], 1), grad_cam(model, images, "features.2", 1))


def test_guided_grad_cam_is_the_product_of_its_halves(model, images):
    target = [[0, 4], [2, 1], [1, 3]]
    ours = guided_grad_cam(model, images, "features.3", target)
    maps = upsample(grad_cam(model, images, "features.3", target), (16, 24))
    assert ours.shape == (3, 2, 3, 16, 24)
    assert close(ours, guided_backprop(model, images, target) * maps.unsqueeze(2))
    assert close(guided_grad_cam(model, images, "features.3", [4, 1, 3]), ours[:, 1])
    assert close(guided_grad_cam(model, images[1:2], "features.3", 1), ours[1:2, 1])
    top = model(images).argmax(1)
    assert close(guided_grad_cam(model, images, "features.3"), guided_grad_cam(model, images, "features.3", top), 1e-6)


# Re-derivations in float64


class Smooth(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2)
        self.tail = nn.Sequential(
            nn.GELU(), nn.Conv2d(4, 5, 3), nn.Tanh(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(5 * 2, 6)
        )

    def forward(self, x):
        return self.tail(self.stem(x))


def test_equal_to_finite_differences_and_to_the_jacobian():
    """alpha from a perturbation of each cell by itself, and from the full Jacobian of what lies behind the layer."""
    smooth, pictures = Smooth().double(), torch.randn(2, 3, 10, 13, dtype=torch.float64)
    ours = grad_cam(smooth, pictures, "stem", [[2], [4]], relu=False)[:, 0]
    for i, c in enumerate((2, 4)):
        with torch.no_grad():
            features = smooth.stem(pictures[i : i + 1])
            steps = 1e-6 * torch.eye(features.numel(), dtype=torch.float64).view(-1, *features.shape[1:])
            difference = (smooth.tail(features + steps) - smooth.tail(features - steps))[:, c] / 2e-6
        jacobian = torch.autograd.functional.jacobian(smooth.tail, features)[0, c, 0]
        for derivative, digits in ((difference.view(features.shape[1:]), 1e-7), (jacobian, 1e-12)):
            expected = torch.zeros(features.shape[-2:], dtype=torch.float64)
            for k, feature_map in enumerate(features[0]):
                expected += derivative[k].sum() / feature_map.numel() * feature_map
            assert close(ours[i], expected, digits)


# Oracles


def captum_map(network: nn.Module, pictures: torch.Tensor, layer: str, target: list[int]) -> torch.Tensor:
    captum = pytest.importorskip("captum.attr")
    theirs = captum.LayerGradCam(network, network.get_submodule(layer)).attribute(pictures, target=target)
    return theirs.detach()[:, 0]


def peer_map(network, pictures, layer, target, reshape=None) -> torch.Tensor:
    """pytorch-grad-cam's map before it rectifies, scales and enlarges it."""
    peer = pytest.importorskip("pytorch_grad_cam")
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    class Raw(peer.GradCAM):
        def get_cam_image(self, *arguments, **options):
            self.raw = super().get_cam_image(*arguments, **options)
            return self.raw

    with Raw(network, [network.get_submodule(layer)], reshape_transform=reshape) as method:
        method(input_tensor=pictures, targets=[ClassifierOutputTarget(c) for c in target])
    network.zero_grad(set_to_none=True)
    return torch.from_numpy(np.asarray(method.raw))


@pytest.mark.parametrize("network", ORACLES, indirect=True)
def test_captum_and_pytorch_grad_cam_agree(network, request):
    layer, safe = ORACLES[request.node.callspec.params["network"]]
    pictures = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        target = network(pictures).topk(2).indices.diag().tolist()  # SqueezeNet's scores are rectified: not of zeros
    before = snapshot(network)
    ours = grad_cam(network, pictures, layer, target, relu=False)
    assert_unchanged(network, before)
    assert len(ours) == 2 and ours[0].numel() >= 6 and ours.abs().amax((1, 2)).all()
    assert close(ours, captum_map(network, pictures, layer, target), 1e-4)
    if safe is not None:  # an in-place ReLU behind the layer: the peer multiplies what the layer did not put out
        assert not close(ours, peer_map(network, pictures, layer, target), 0.05)
        ours = grad_cam(network, pictures, safe, target, relu=False)
    assert close(ours, peer_map(network, pictures, safe or layer, target), 1e-4)


@pytest.mark.parametrize("network", ["resnet18", "vgg16"], indirect=True)
def test_captum_agrees_on_guided_grad_cam(network, request):
    captum = pytest.importorskip("captum.attr")
    layer = ORACLES[request.node.callspec.params["network"]][0]
    pictures = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    method = captum.GuidedGradCam(network, network.get_submodule(layer))
    theirs = method.attribute(pictures.clone(), target=[281, 7], interpolate_mode="bilinear")
    assert close(guided_grad_cam(network, pictures, layer, [281, 7]), theirs.detach(), 1e-4)


def test_the_peers_are_wrong_on_functional_relus_and_ours_is_right(monkeypatch):
    captum = pytest.importorskip("captum.attr")
    network, pictures = Rectified(lambda z: F.relu(z)).eval(), torch.randn(2, 3, 11, 11)
    maps = grad_cam(network, pictures, "conv1", 3)
    expected = ruled_gradient(monkeypatch, network, pictures, 3, "guided") * upsample(maps, 11).unsqueeze(1)
    assert close(guided_grad_cam(network, pictures, "conv1", 3), expected)
    method = captum.GuidedGradCam(network, network.conv1)
    theirs = method.attribute(pictures.clone(), target=3, interpolate_mode="bilinear").detach()
    assert not close(theirs, expected, 0.1)


# Token layers


def with_a_random_head(network: nn.Module, head: nn.Linear) -> nn.Module:
    nn.init.normal_(head.weight, std=0.02, generator=torch.Generator().manual_seed(0))  # torchvision's ViT: all zero
    return network


def test_vit_b_16_against_pytorch_grad_cam():
    network = random_network("vit_b_16")
    with_a_random_head(network, network.heads.head)
    pictures, layer = torch.randn(1, 3, 224, 224), "encoder.layers.encoder_layer_11.ln_1"
    ours = grad_cam(network, pictures, layer, 7, relu=False)
    theirs = peer_map(network, pictures, layer, [7], lambda t: t[:, 1:].reshape(-1, 14, 14, 768).permute(0, 3, 1, 2))
    assert ours.shape == (1, 14, 14) and close(ours, theirs, 1e-3)
    assert torch.equal(grad_cam(network, pictures, layer, 7, relu=False, grid=(14, 14)), ours)
    with pytest.warns(NoPositiveEvidence, match="choose an earlier layer"):  # only the class token goes on from there
        assert not grad_cam(network, pictures, "encoder.layers.encoder_layer_11", 7).any()


@pytest.mark.parametrize("layer, grid", [("features.7", (2, 3)), ("norm", (2, 3)), ("features.3", (8, 12))])
def test_swin_t_against_pytorch_grad_cam(layer, grid, swin):
    pictures = torch.randn(2, 3, 64, 96)
    ours = grad_cam(swin, pictures, layer, [7, 3], relu=False)
    assert ours.shape == (2, *grid)
    assert close(ours, peer_map(swin, pictures, layer, [7, 3], lambda t: t.permute(0, 3, 1, 2)), 1e-3)
    assert torch.equal(grad_cam(swin, pictures, layer, [7, 3], relu=False, grid=grid), ours)


@pytest.fixture(scope="module")
def swin() -> nn.Module:
    network = random_network("swin_t")
    return with_a_random_head(network, network.head)


class Tokens(nn.Module):
    """Patches of 4 x 4 pixels as tokens (n, tokens, 6), ``extra`` others in front of them."""

    def __init__(self, extra: int = 0):
        super().__init__()
        self.extra, self.patches, self.block = extra, nn.Conv2d(3, 6, 4, stride=4), nn.Linear(6, 6)
        self.fc = nn.Linear(6, 4)

    def forward(self, x):
        tokens = self.patches(x).flatten(2).mT
        tokens = torch.cat([torch.ones(len(x), self.extra, 6), tokens], 1)
        return self.fc(self.block(tokens).relu().mean(1))


@pytest.mark.parametrize("extra", [0, 1, 5])
def test_the_grid_of_tokens_on_pictures_that_are_not_square(extra):
    network, pictures = Tokens(extra).eval(), torch.randn(2, 3, 8, 20)
    tokens = network.block(torch.cat([torch.ones(2, extra, 6), network.patches(pictures).flatten(2).mT], 1)).detach()
    tokens.requires_grad_()
    (gradient,) = torch.autograd.grad(network.fc(tokens.relu().mean(1))[:, 1].sum(), tokens)
    features, gradient = tokens.detach()[:, extra:], gradient[:, extra:]
    expected = (features * gradient.mean(1, keepdim=True)).sum(2).view(2, 2, 5)
    assert close(grad_cam(network, pictures, "block", 1, relu=False, grid=(2, 5)), expected)
    if extra <= 1:
        assert close(grad_cam(network, pictures, "block", 1, relu=False), expected)
    else:
        with pytest.raises(ValueError, match=r"shape \(2, 15, 6\); its tokens form no grid.*grid=\(rows, columns\)"):
            grad_cam(network, pictures, "block", 1)
    with pytest.raises(ValueError, match=r"grid=\(9, 9\) does not fit"):
        grad_cam(network, pictures, "block", 1, grid=(9, 9))


def test_a_grid_that_does_not_fit_the_feature_maps(model, images, swin):
    assert grad_cam(model, images, "features.2", 1, grid=(8, 12)).shape == (3, 8, 12)
    for network, layer in ((model, "features.2"), (swin, "features.7")):
        with pytest.raises(ValueError, match=r"grid=\(5, 5\) does not fit"):
            grad_cam(network, torch.randn(1, 3, 64, 64), layer, 1, grid=(5, 5))


@pytest.mark.parametrize("layer", ["features.7.1.stochastic_depth", "features.7.1.mlp.1", "features.7.1.mlp.4"])
def test_parts_of_swin_that_have_no_width_of_their_own(swin, layer):
    """The picture's shape tells which dimensions are rows and columns."""
    assert grad_cam(swin, torch.randn(1, 3, 96, 64), layer, 1, relu=False).shape == (1, 3, 2)


def test_rows_and_columns_of_a_picture_that_is_not_square(swin):
    from torchvision.models import SwinTransformer

    small = SwinTransformer([4, 4], embed_dim=16, depths=[2], num_heads=[2], window_size=[4, 4], num_classes=5).eval()
    assert grad_cam(small, torch.randn(1, 3, 64, 96), "features.1", 1, relu=False).shape == (1, 16, 24)
    gated = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 5))
    gated[0].gate = nn.Linear(32, 8)  # in the layer, and as wide as the picture
    assert grad_cam(gated, torch.randn(1, 3, 8, 8), "0", 1, relu=False).shape == (1, 8, 8)


def test_a_grid_may_be_a_list(model, images):
    assert torch.equal(grad_cam(model, images, "features.2", 1, grid=[8, 12]), grad_cam(model, images, "features.2", 1))


@pytest.mark.parametrize("target", [1, torch.zeros(0, 2, dtype=torch.long)])
def test_an_empty_batch(model, target):
    none = torch.zeros(0, 3, 16, 24)
    for method in (grad_cam, guided_grad_cam):
        assert method(model, none, "features.2", target).shape[0] == 0


class OwnNoGrad(nn.Module):
    """A network that runs its trunk without a graph, as frozen backbones often are."""

    def __init__(self):
        super().__init__()
        self.trunk, self.head = nn.Conv2d(3, 4, 3), nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))

    def forward(self, x):
        with torch.no_grad():
            x = self.trunk(x)
        return self.head(x)


def test_a_network_that_runs_its_trunk_without_a_graph():
    network, images = OwnNoGrad(), torch.randn(1, 3, 8, 8)
    with pytest.raises(ValueError, match=r"or the network runs it under torch\.no_grad itself"):
        grad_cam(network, images, "trunk", 1)
    assert grad_cam(network, images, "head.0", 1, relu=False).shape == (1, 6, 6)
    with pytest.raises(ValueError, match="do not depend on its images"):
        guided_grad_cam(network, images, "head.0", 1)


@pytest.mark.parametrize("method", [grad_cam, guided_grad_cam])
def test_what_is_no_batch_is_named(method, model, unchecked):
    for images, kind, words in (
        (np.zeros((1, 3, 16, 24)), TypeError, "got ndarray"),
        (torch.zeros(1, 3, 16, 24, dtype=torch.uint8), TypeError, "got torch.uint8"),
        (torch.zeros(3, 16, 24), ValueError, r"one is image\[None\]"),
    ):
        with pytest.raises(kind, match=words):
            method(model, images, "features.2", 1)
    with pytest.raises(TypeError, match="expected a layer or its name, got int"):
        method(model, torch.zeros(1, 3, 16, 24), 1, 1)


def test_feature_maps_as_wide_as_a_norm_inside_the_layer():
    """A block as ConvNeXt's, with a layer norm over its 8 channels, on maps of 5 x 8 cells: rows and columns stay."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.LayerNorm(8)

        def forward(self, x):
            return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    network = nn.Sequential(nn.Conv2d(3, 8, 1), Block(), nn.Flatten(), nn.Linear(8 * 40, 4))
    pictures = torch.randn(2, 3, 5, 8)
    features = network[:2](pictures).detach()
    expected = torch.einsum("k, nkhw -> nhw", network[3].weight[1].view(8, 40).mean(1).detach(), features)
    assert close(grad_cam(network, pictures, "1", 1, relu=False), expected)


# What is explained: the layer's own output


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("grid_layer", ["features.0", "features.1"])
def test_an_in_place_relu_right_behind_the_layer(inplace, grid_layer, model, images):
    expected = grad_cam(model, images, grid_layer, 1, relu=False)
    other = copy.deepcopy(model)
    other.features[2].inplace = other.features[5].inplace = inplace
    assert torch.equal(grad_cam(other, images, grid_layer, 1, relu=False), expected)
    assert torch.equal(guided_grad_cam(other, images, grid_layer, 1), guided_grad_cam(model, images, grid_layer, 1))


@pytest.mark.parametrize("layer", ["features.2", ["features.2", "features.0"], ["features.0", "features.2"]])
def test_a_layer_that_works_in_place_itself(layer, model, images):
    """The ReLU's own output is explained, and the batch norm's in front of it is not spoilt."""
    other = copy.deepcopy(model)
    other.features[2].inplace = False
    expected, ours = (grad_cam(each, images, layer, 1, relu=False) for each in (other, model))
    pairs = zip(ours.values(), expected.values(), strict=True) if isinstance(ours, dict) else [(ours, expected)]
    assert all(close(a, b, 1e-6) for a, b in pairs)


def test_a_layer_that_runs_twice_is_explained_where_it_ran_last():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 3, 3, padding=1), nn.Linear(3, 4)

        def forward(self, x):
            return self.fc(self.conv(self.conv(x).tanh()).tanh().mean((2, 3)))

    network, pictures = Twice(), torch.randn(2, 3, 8, 8)
    last = network.conv(network.conv(pictures).tanh()).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(network.fc(last.tanh().mean((2, 3)))[:, 1].sum(), last)
    expected = (gradient.mean((2, 3), keepdim=True) * last.detach()).sum(1)
    assert close(grad_cam(network, pictures, "conv", 1, relu=False), expected)


# The conventions


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("method", [grad_cam, guided_grad_cam])
def test_leaves_network_and_images_alone(method, mode, frozen, model, images):
    model.train().requires_grad_(not frozen)
    model.features[1].eval()
    model.fc.bias.grad = torch.ones(5)
    wanting = images.clone().requires_grad_()
    wanting.grad = torch.ones_like(images)
    expected = method(model, images, "features.3", 2)
    before = snapshot(model)
    with mode():
        made_here = images.clone()
        for given in (images, wanting, made_here):
            ours = method(model, given, "features.3", 2)
            assert close(ours, expected, 1e-6) and not ours.requires_grad
        assert torch.is_inference_mode_enabled() == (mode is torch.inference_mode)
        assert torch.is_grad_enabled() == (mode is torch.enable_grad)
    assert torch.equal(wanting, images) and torch.equal(made_here, images)
    assert wanting.requires_grad and not images.requires_grad and torch.equal(wanting.grad, torch.ones_like(images))
    assert images.grad is None
    assert_unchanged(model, before)
    wrong = [(images, "features.3", 9), (torch.randn(2, 4, 16, 16), "features.3", 1), (images, "fc", 1)]
    for given, layer, target in wrong:
        with pytest.raises((ValueError, RuntimeError)), mode():
            method(model, given, layer, target)
        assert_unchanged(model, before)
    model.fc.weight.data[0] = torch.nan
    with pytest.raises(ValueError, match="NaN or infinite"):
        method(model, images, "features.3", 1)


@pytest.mark.filterwarnings("ignore::xailab.guided_backprop.MixedActivations")  # a product of two maps
@pytest.mark.parametrize("method", [grad_cam, guided_grad_cam])
def test_tensors_made_in_inference_mode(method, model, images):
    """Targets that come from a prediction under it; pictures that the network uses again behind the layer."""

    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 3, 1), nn.Linear(3, 4)

        def forward(self, x):
            return self.fc((self.conv(x) * x).relu().mean((2, 3)))

    with torch.inference_mode():
        top, copied = model(images).argmax(1), images.clone()
    expected = method(model, images, "features.3", top.tolist())
    assert close(method(model, images, "features.3", top), expected, 1e-6)
    gated = Gated()
    expected = method(gated, images, "conv", 1)
    assert close(method(gated, copied, "conv", 1), expected, 1e-6)


@pytest.mark.parametrize("dtype, digits", [(torch.float64, 1e-5), (torch.float16, 1e-2), (torch.bfloat16, 6e-2)])
def test_precision(dtype, digits, model, images):
    single, guided = grad_cam(model, images, "features.3", 2), guided_grad_cam(model, images, "features.3", 2)
    model, images = model.to(dtype), images.to(dtype)
    other = grad_cam(model, images, "features.3", 2)
    assert other.dtype == dtype and close(other.double(), single.double(), digits)
    other = guided_grad_cam(model, images, "features.3", 2)
    assert other.dtype == dtype and close(other.double(), guided.double(), 5 * digits)


def test_autocast(model, images):
    single, guided = grad_cam(model, images, "features.3", 2), guided_grad_cam(model, images, "features.3", 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert close(grad_cam(model, images, "features.3", 2).float(), single, 6e-2)
        assert close(guided_grad_cam(model, images, "features.3", 2).float(), guided, 0.2)


@pytest.mark.parametrize("name", ["features.3", "module.features.3"])
def test_data_parallel(name, model, images):
    wrapped = nn.DataParallel(model)
    before = snapshot(wrapped)
    assert torch.equal(grad_cam(wrapped, images, name, 2), grad_cam(model, images, "features.3", 2))
    assert torch.equal(guided_grad_cam(wrapped, images, name, 2), guided_grad_cam(model, images, "features.3", 2))
    assert torch.equal(grad_cam(wrapped, images, model.features[3], 2), grad_cam(model, images, "features.3", 2))
    assert_unchanged(wrapped, before)


def test_layouts_of_memory(model, images):
    wide = torch.zeros(3, 3, 16, 48)
    wide[..., ::2] = images
    last = images.to(memory_format=torch.channels_last)
    for method in (grad_cam, guided_grad_cam):
        expected = method(model, images, "features.3", 2)
        assert close(method(model, wide[..., ::2], "features.3", 2), expected)
        assert close(method(model, last, "features.3", 2), expected)
        other = copy.deepcopy(model).to(memory_format=torch.channels_last)
        assert close(method(other, last, "features.3", 2), expected)


# The cost


def flops(method, *arguments) -> int:
    with FlopCounterMode(display=False) as counter:
        method(*arguments)
    return counter.get_total_flops()


@pytest.mark.parametrize("network", ["resnet18", "vgg16"], indirect=True)
def test_costs_a_forward_pass_and_the_way_back_to_the_layer(network, request):
    """Without weight gradients, a convolution or linear layer costs as much backwards as forwards."""
    name = request.node.callspec.params["network"]
    pictures = torch.randn(2, 3, 64, 64)
    with FlopCounterMode(display=False, depth=9) as bare, torch.no_grad():
        network(pictures)

    counts = bare.get_flop_counts()
    prefix = type(network).__name__ + "."
    forward = bare.get_total_flops()
    layers = {
        "resnet18": {"layer4": ["fc"], "layer3": ["layer4", "fc"]},
        "vgg16": {"features.29": ["classifier"], "features.24": ["features.26", "features.28", "classifier"]},
    }[name]
    cost = {layer: sum(sum(counts[prefix + part].values()) for part in parts) for layer, parts in layers.items()}
    assert min(cost.values()) > 0 and max(cost.values()) < forward
    with recording(network, *cost) as features, torch.no_grad():
        network(pictures)
    equation2 = {layer: 2 * maps.numel() for layer, maps in features.items()}  # times alpha, and summed
    for layer, behind in cost.items():
        once, back = forward, behind + equation2[layer]
        assert flops(grad_cam, network, pictures, layer, 1) == once + back
        assert flops(grad_cam, network, pictures, layer, [[1, 2, 3]] * 2) == once + 3 * back
        assert flops(guided_grad_cam, network, pictures, layer, 1) == once + back + forward
    deep, shallow = cost
    both = forward + cost[shallow] + sum(equation2.values())
    assert flops(grad_cam, network, pictures, [deep, shallow], 1) == both
    network.requires_grad_(False)
    assert flops(grad_cam, network, pictures, deep, 1) == forward + cost[deep] + equation2[deep]
    network.requires_grad_(True)


def saved_bytes(network: nn.Module, call) -> int:
    """Bytes that the graphs of a call keep for the way back, weights aside."""
    weights = {p.untyped_storage().data_ptr() for p in (*network.parameters(), *network.buffers())}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        call()
    return sum(storage.nbytes() for storage in kept.values())


@pytest.mark.parametrize("network", ["resnet18", "vgg16"], indirect=True)
def test_keeps_no_graph_below_the_layer(network, request):
    layer = ORACLES[request.node.callspec.params["network"]][0]
    pictures = torch.randn(1, 3, 160, 160)
    whole = saved_bytes(network, lambda: network(pictures))
    assert whole > 10 * pictures.nbytes
    assert saved_bytes(network, lambda: grad_cam(network, pictures, layer, 1)) < 0.03 * whole
    network.requires_grad_(False)
    assert saved_bytes(network, lambda: grad_cam(network, pictures, layer, 1)) < 0.03 * whole
    network.requires_grad_(True)


class Watched(nn.Identity):
    """Keeps weak references to what passes: they die with the graph."""

    def __init__(self):
        super().__init__()
        self.seen: list[weakref.ref] = []

    def forward(self, x):
        x = x * 1
        self.seen.append(weakref.ref(x))
        return x


@pytest.mark.parametrize("method", [grad_cam, guided_grad_cam])
def test_nothing_is_left_after_many_calls(method, model):
    model.features.append(Watched())
    pictures, seen = torch.randn(2, 3, 16, 16), model.features[-1].seen
    method(model, pictures, "features.3", [[0, 1]] * 2)  # the first call looks at one picture alone as well
    before = snapshot(model)
    gc.collect()
    gc.disable()
    try:
        live = live_tensors()
        for _ in range(100):
            method(model, pictures, "features.3", [[0, 1]] * 2)
        assert live_tensors() <= live, "tensors are left"
        assert len(seen) == 102 and not any(each() is not None for each in seen), "a graph is left"
    finally:
        gc.enable()
    assert_unchanged(model, before)


# Warnings


@pytest.fixture
def negative(model) -> nn.Module:
    """Classes 1 and 3 find evidence against them only, the others for them only; 4 depends on nothing."""
    with torch.no_grad():
        model.fc.weight.abs_()
        model.fc.weight[[1, 3]] *= -1
        model.fc.weight[4] = 0
    return model


@pytest.mark.parametrize(
    "method, options, target, message",
    [
        (grad_cam, {}, [[0, 1, 2, 3]] * 3, "no positive evidence for classes 1, 3 at layer 'features'"),
        (grad_cam, {}, 3, "no positive evidence for class 3 at"),
        (grad_cam, {}, [0, 3, 2], "no positive evidence for class 3 at"),
        (grad_cam, {"counterfactual": True}, [0, 1, 2], "no evidence against classes 0, 2 at"),
        (guided_grad_cam, {}, [[0, 1, 2, 3]] * 3, "no positive evidence for classes 1, 3 at"),
        (grad_cam, {}, 4, "no positive evidence for class 4 at"),
    ],
)
def test_maps_of_zeros_are_announced_once(method, options, target, message, negative, images):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = method(negative, images, "features", target, **options)
    assert [each.category for each in caught] == [NoPositiveEvidence] and issubclass(NoPositiveEvidence, UserWarning)
    assert message in str(caught[0].message) and "relu=False" in str(caught[0].message)
    if np.ndim(target) == 0:
        assert not found.any()


def test_no_warning_without_reason(negative, images):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert grad_cam(negative, images, "features", [0, 2, 0]).any()
        assert (grad_cam(negative, images, "features", 1, relu=False) <= 0).all()
        grad_cam(negative, images, "features", 1, counterfactual=True)


# Messages


def test_layers_that_cannot_be_explained(model, images, unchecked):
    with pytest.raises(ValueError, match=r"has no layer 'feature\.3'.*features\.3"):
        grad_cam(model, images, "feature.3", 1)
    with pytest.raises(ValueError, match="not part of the GapNet"):
        grad_cam(model, images, nn.ReLU(), 1)
    with pytest.raises(ValueError, match="at least one layer"):
        grad_cam(model, images, [], 1)
    with pytest.raises(ValueError, match=r"'fc' puts out shape \(3, 5\); choose a layer whose output has rows"):
        grad_cam(model, images, "fc", 1)
    with pytest.raises(ValueError, match=r"'fc' puts out shape \(3, 5\)"):
        guided_grad_cam(model, images, "fc", 1)
    googlenet = zoo.load("googlenet", weights=None)
    for method in (grad_cam, guided_grad_cam):
        with pytest.raises(ValueError, match="'aux1' was not called in the forward pass"):
            method(googlenet, torch.randn(1, 3, 64, 64), "aux1", 1)


class Aside(nn.Module):
    """``aside`` runs, but its output goes nowhere; ``cut`` leads to the scores without a graph."""

    def __init__(self):
        super().__init__()
        self.aside, self.cut, self.main = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        self.aside(x)
        return self.fc((self.main(x) + self.cut(x).detach()).relu().mean((2, 3)))


@pytest.mark.parametrize("layer", ["aside", "cut"])
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("method", [grad_cam, guided_grad_cam])
def test_a_layer_that_does_not_lead_to_the_scores(method, frozen, layer):
    network = Aside().requires_grad_(not frozen)
    with pytest.raises(ValueError, match=f"the scores do not depend on layer '{layer}'"):
        method(network, torch.randn(2, 3, 8, 8), layer, 1)


@pytest.mark.parametrize("method", [grad_cam, guided_grad_cam])
def test_networks_that_cannot_be_explained(method, model, images, unchecked):
    with torch.inference_mode():
        made_there = GapNet()
    with pytest.raises(ValueError, match="was made under torch"):
        method(made_there, images, "features", 1)

    class Pair(GapNet):
        def forward(self, x):
            return super().forward(x), x

    with pytest.raises(TypeError, match="Pair returns tuple: wrap it"):
        method(Pair(), images, "features", 1)
    with pytest.raises(ValueError, match=r"shape \(n, classes\) from Sequential, got \(3, 12, 4, 6\)"):
        method(nn.Sequential(model.features), images, "0", 1)
    with pytest.raises(ValueError, match="from 0 to 4, got \\[5\\]"):
        method(model, images, "features", 5)
    with pytest.raises(TypeError, match="class number"):
        method(model, images, "features", torch.tensor([1.0, 2.0, 3.0]))
    with pytest.raises(ValueError, match="expected one class, 3 classes"):
        method(model, images, "features", [1, 2])
    model.fc.bias.data[0] = torch.nan
    with pytest.raises(ValueError, match="NaN or infinite"):
        method(model, images, "features", 1)


@pytest.mark.parametrize(
    "script", [torch.jit.script, lambda network: torch.jit.trace(network, torch.randn(3, 3, 16, 24))]
)
@pytest.mark.parametrize("method", [grad_cam, guided_grad_cam])
def test_scripted_networks_are_refused(method, script, images):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = script(network)
    with pytest.raises(ValueError, match="scripted"):
        method(scripted, images, "0", 1)


def test_guided_grad_cam_of_a_network_without_relus(images):
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.GELU(), nn.Conv2d(4, 4, 3), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    with pytest.raises(ValueError, match="gelu, silu"):
        guided_grad_cam(network, images, "2", 1)
    assert grad_cam(network, images, "2", 1, relu=False).shape == (3, 12, 20)


# Photographs


@pytest.mark.real
def test_the_cats_face_on_a_photograph(real_data):
    """scikit-image's whole photograph of Chelsea in a grey frame, so that the face is a third of the picture."""
    from skimage.data import chelsea

    network = zoo.load("squeezenet1_0", weights=real_data / "weights" / "squeezenet1_0_imagenet.safetensors")
    framed = np.full((451, 451, 3), 124, np.uint8)
    framed[75:375] = chelsea()
    picture = dataclasses.replace(network.preprocess, resize=224, crop=None)(framed)
    assert network.classes[int(network(picture).argmax())] == "Egyptian cat"
    left, top, right, bottom = 60, 50, 185, 175  # brows to mouth, in the 224 pixels of the picture
    maps = upsample(grad_cam(network, picture, "features.12"), 224)[0]
    row, column = divmod(int(maps.argmax()), 224)
    assert top <= row < bottom and left <= column < right
    mass = guided_grad_cam(network, picture, "features.12")[0].abs().sum(0)
    share = mass[top:bottom, left:right].sum() / mass.sum()
    area = (bottom - top) * (right - left) / math.prod(mass.shape)
    assert area < 0.32 and share > 0.6


@pytest.mark.real
def test_the_cat_and_not_the_cup(real_data):
    from skimage.data import chelsea, coffee

    network = zoo.load("squeezenet1_0", weights=real_data / "weights" / "squeezenet1_0_imagenet.safetensors")
    pair = torch.cat([network.preprocess(chelsea()), network.preprocess(coffee())], 3)
    classes = [[network.classes.index("Egyptian cat"), network.classes.index("espresso")]]
    maps = upsample(grad_cam(network, pair, "features.12", classes), (224, 448))[0]
    assert maps[0].argmax() % 448 < 224 <= maps[1].argmax() % 448
    cat, cup = guided_grad_cam(network, pair, "features.12", classes)[0].abs().sum(1)
    assert cat[:, :224].sum() > 0.7 * cat.sum() and cup[:, 224:].sum() > 0.7 * cup.sum()
