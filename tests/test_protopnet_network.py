"""The network against a re-derivation in double precision; geometry against the gradient's support."""

import cv2
import numpy as np
import pytest
import torch
import torchvision
from networks import assert_unchanged, snapshot
from protopnet_networks import data, network
from torch import nn
from torchvision.models._utils import IntermediateLayerGetter

from xailab.protopnet import (
    ProtoPNet,
    SmallFeatures,
    candidate_boxes,
    features_of,
    fit_last_layer,
    hot_boxes,
    project,
    receptive_boxes,
    train,
    upsampled,
)
from xailab.protopnet.geometry import inside
from xailab.receptive_field import ReceptiveField, receptive_field

COLOURS = {"mean": (0.5,) * 3, "std": (0.25,) * 3}


def textbook(model, images):
    """Distances, similarities and logits, one prototype and one cell after another, in double precision."""
    with torch.no_grad():
        latent = model.embed(images).double().numpy()
    prototypes = model.prototypes.detach().double().numpy()
    n, _, h, w = latent.shape
    distances = np.empty((n, len(prototypes), h, w))
    for i, p, y, x in np.ndindex(distances.shape):
        distances[i, p, y, x] = ((latent[i, :, y, x] - prototypes[p]) ** 2).sum()
    nearest = distances.min((2, 3))
    scores = np.log((nearest + 1) / (nearest + 1e-4))
    return distances, scores, scores @ model.last_layer.weight.detach().double().numpy().T


@pytest.mark.parametrize("options", [{}, {"channels": 3, "classes": 3}])
def test_distances_similarities_and_logits(options):
    model = network(**options).eval()
    images, _ = data(3, channels=options.get("channels", 1))
    with torch.no_grad():
        output, logits = model.forward_details(images), model(images)
    distances, scores, expected = textbook(model, images)
    np.testing.assert_allclose(output.distances.numpy(), distances, rtol=1e-5, atol=1e-10)
    np.testing.assert_allclose(output.similarities.numpy(), scores, rtol=1e-5)
    np.testing.assert_allclose(output.logits.numpy(), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(output.logits, logits)
    for i, p in np.ndindex(*output.similarities.shape):
        y, x = output.cells[i, p].tolist()
        assert output.maps[i, p, y, x] == output.maps[i, p].max() == output.similarities[i, p]


def test_no_cancellation_where_a_prototype_is_its_patch():
    """|z|^2 - 2 z p + |p|^2 in single precision would be off by 1e-5, and the similarity by 0.1."""
    model = network(dimensions=128).eval()
    images, _ = data(2)
    with torch.no_grad():
        latent = model.embed(images)
        model.prototypes[0] = latent[1, :, 2, 1]
        output = model.forward_details(images)
    assert output.distances[1, 0, 2, 1] == 0
    assert float(output.similarities[1, 0]) == pytest.approx(np.log(1 / 1e-4), abs=1e-6)
    assert float(output.similarities[1, 0]) == pytest.approx(9.2103, abs=1e-4)


def test_the_gradient_is_that_of_the_formula():
    model = network().double().eval()
    images, _ = data(2)
    leaf = model.embed(images.double()).detach().requires_grad_()
    assert torch.autograd.gradcheck(model.distances, (leaf,))


def test_first_weights_and_classes():
    model = ProtoPNet(SmallFeatures(), 4, 3)
    own = torch.arange(12) // 4
    assert torch.equal(model.prototype_classes, own)
    assert all(model.last_layer.weight[k, j] == (1 if own[j] == k else -0.5) for k in range(3) for j in range(12))
    assert model.last_layer.bias is None and 0 <= model.prototypes.min() <= model.prototypes.max() <= 1


def test_a_seed_decides_and_torch_is_left_alone():
    state = torch.get_rng_state()
    one, two, other = (ProtoPNet(SmallFeatures(), seed=seed) for seed in (1, 1, 2))
    torch.set_rng_state(state)
    assert torch.equal(one.prototypes, two.prototypes) and not torch.equal(one.prototypes, other.prototypes)
    assert torch.equal(one.add_on[0].weight, two.add_on[0].weight)
    before = torch.get_rng_state()
    ProtoPNet(nn.Sequential(nn.Conv2d(1, 4, 3)))
    assert (torch.get_rng_state() != before).any()  # the user's own layer has drawn from it
    drawn = torch.rand(1)
    torch.set_rng_state(before)
    nn.Conv2d(1, 4, 3)
    assert torch.equal(torch.rand(1), drawn)


def test_bottlenecks_halve_the_channels():
    model = ProtoPNet(SmallFeatures(widths=(4, 4, 6, 6, 40)), dimensions=8, add_on="bottleneck")
    outputs = [layer.out_channels for layer in model.add_on if isinstance(layer, nn.Conv2d)]
    assert outputs == [20, 20, 10, 10, 8, 8] and isinstance(model.add_on[-1], nn.Sigmoid)
    assert sum(isinstance(layer, nn.Sigmoid) for layer in model.add_on) == 1
    few = ProtoPNet(SmallFeatures(widths=(4, 4, 6, 6, 8)), dimensions=8, add_on="bottleneck")
    assert [type(layer) for layer in few.add_on][-1] is nn.Sigmoid


@pytest.mark.parametrize("name, channels, cells", [("resnet18", 512, 2), ("resnet50", 2048, 2), ("vgg11_bn", 512, 2)])
def test_features_of_torchvision(name, channels, cells):
    torch.manual_seed(0)
    whole = torchvision.models.get_model(name, weights=None).eval()
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        features = features_of(whole)
        latent = features(images)
        assert latent.shape == (1, channels, cells, cells)
        if name.startswith("resnet"):
            assert torch.allclose(whole.fc(latent.mean((2, 3))), whole(images), atol=1e-5)
        model = ProtoPNet(features, 2, 3, dimensions=16, mean=(0.5,) * 3, std=(0.25,) * 3).eval()
        assert model(images).shape == (1, 3) and model.add_on[0].in_channels == channels
        grey = features_of(whole, channels=1)
        assert torch.allclose(grey(images[:, :1]), features_of(whole)(images[:, :1].expand(-1, 3, -1, -1)), atol=1e-4)


@pytest.mark.filterwarnings("ignore")  # of the quantised network
def test_what_is_no_use_is_refused():
    with pytest.raises(ValueError, match="no ResNet and no VGG"):
        features_of(nn.Linear(3, 2))
    with pytest.raises(ValueError, match="a ReLU, have no weights"):
        ProtoPNet(nn.ReLU())
    for make, said in (
        (lambda: torchvision.models.resnet18(), r"\(2, 1000\), .* expected a network without its pooling"),
        (lambda: features_of(torchvision.models.swin_t()), r"\(2, 2, 2, 768\).* channels come last: put .*Permute"),
        (lambda: torchvision.models.swin_t().features, r"\(2, 2, 2, 768\), .*\(2, 4, 4, 768\): .*Permute"),
        (lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1)), r"\(2, 8, 1, 1\)"),
        (lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(2)), r"\(2, 8, 3844\)"),
        (lambda: nn.Conv3d(1, 3, 3, padding=1), "cannot take images of 3 channels"),
        (lambda: nn.Conv2d(1, 8, 3), r"cannot take images of 3 channels \(as mean and std have\).*RuntimeError"),
        (lambda: torchvision.models.vit_b_16(), "cannot take|expected a network without"),
        (lambda: nn.LSTM(64, 8), "put out a tuple|cannot take"),
        (lambda: IntermediateLayerGetter(torchvision.models.resnet18(), {"layer2": "x"}), "put out a OrderedDict"),
        (lambda: torchvision.models.quantization.resnet18(quantize=True), "is quantised .*floating-point network"),
    ):
        with pytest.raises(ValueError, match=said):
            ProtoPNet(make(), **COLOURS)
    with pytest.raises(ValueError, match="begin with a Conv2dNormActivation"):
        features_of(torchvision.models.mobilenet_v2(), channels=1)
    for options, said in (
        ({"classes": 1}, "1 classes"),
        ({"prototypes_per_class": 0}, "0 prototypes"),
        ({"mean": (0.5, 0.5), "std": (1, 1)}, "1 value each"),
        ({"std": (0.0,)}, "std above 0"),
    ):
        with pytest.raises(ValueError, match=said):
            ProtoPNet(SmallFeatures(), **options)
    with pytest.raises(ValueError, match="channels=2"):
        features_of(torchvision.models.resnet18(), channels=2)


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Sequential(torchvision.models.swin_t().features, torchvision.ops.Permute((0, 3, 1, 2))),
        lambda: features_of(torchvision.models.densenet121()),
        lambda: features_of(torchvision.models.efficientnet_b0()),
        lambda: features_of(torchvision.models.quantization.resnet18(weights=None, quantize=False)),
        lambda: features_of(nn.DataParallel(torchvision.models.resnet18())),
        lambda: nn.DataParallel(SmallFeatures(3)),
        lambda: nn.Sequential(SmallFeatures(3), nn.AdaptiveAvgPool2d(4)),
        lambda: nn.Sequential(nn.Conv2d(3, 8, 70), nn.ReLU()),  # for no image of 64 pixels
    ],
)
def test_features_of_many_kinds(make):
    model = ProtoPNet(make(), 2, 3, dimensions=8, **COLOURS).eval()
    before = {name: x.clone() for name, x in model.state_dict().items()}
    images = torch.rand(2, 3, 96, 96)
    with torch.no_grad():
        logits = model(images)
        assert logits.shape == (2, 3) and torch.equal(model(images.double()), logits)
    assert not any("module" in name for name in before)


def test_making_one_leaves_the_features_as_they_were():
    features = SmallFeatures(3)
    before = snapshot(features)
    ProtoPNet(features, **COLOURS)
    assert_unchanged(features, before)


def test_other_networks_are_no_protopnets():
    images, labels = data()
    for call in (
        lambda: project(nn.DataParallel(SmallFeatures()), images, labels),
        lambda: fit_last_layer(SmallFeatures(), images, labels),
        lambda: train(SmallFeatures(), images, labels),
    ):
        with pytest.raises(TypeError, match=r"expected a ProtoPNet, got a SmallFeatures: ProtoPNet\(features"):
            call()


def support(model, size, cell):
    """The rows and columns of the image that a latent cell depends on: all weights positive, no ReLU, no norm."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data.abs_().add_(0.1)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.running_var), nn.init.zeros_(module.running_mean)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.ReLU):
                setattr(parent, name, nn.Identity())
            if isinstance(child, nn.MaxPool2d):
                setattr(parent, name, nn.AvgPool2d(child.kernel_size, child.stride, child.padding))
    image = torch.zeros(1, model.channels, size, size, dtype=torch.float64, requires_grad=True)
    latent = model.double().eval().features(image)
    (slope,) = torch.autograd.grad(latent[0, :, *cell].sum(), image)
    hit = slope[0].abs().amax(0) > 0
    rows, columns = hit.any(1).nonzero().flatten(), hit.any(0).nonzero().flatten()
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]


def built(name):
    if name == "small":
        return network()
    if name == "deep":
        return ProtoPNet(SmallFeatures(widths=(4,) * 6))
    colours = {"mean": (0.5,) * 3, "std": (0.25,) * 3}
    return ProtoPNet(features_of(torchvision.models.get_model(name, weights=None)), **colours)


@pytest.mark.parametrize(
    "name, size, expected",
    [
        ("small", 96, ReceptiveField(27, 8, -13)),
        ("deep", 96, ReceptiveField(43, 8, -21)),
        ("resnet18", 288, ReceptiveField(435, 32, -217)),
        ("vgg11", 160, ReceptiveField(150, 32, -59)),
    ],
)
def test_the_receptive_field_is_the_gradients_support(name, size, expected):
    model = built(name)
    field = receptive_field(model, "add_on", size, model.channels, everywhere=True)
    assert field == expected
    for cell in ([0, 0], [2, 3]):
        assert receptive_boxes(field, torch.tensor(cell), (size, size)).tolist() == support(model, size, cell)


def test_upsampling_is_off_by_half_a_stride():
    resnet = ReceptiveField(435, 32, -217)
    assert resnet.centre == 0.5 and resnet.shift == 15.5
    small = ReceptiveField(27, 8, -13)
    assert small.centre == 0.5 and small.shift == 3.5
    cells = torch.cartesian_prod(torch.arange(9), torch.arange(9))
    covered = inside(receptive_boxes(resnet, cells, (288, 288)), (288, 288))
    areas = covered.flatten(1).sum(1)
    assert int((areas == 288 * 288).sum()) == 16 and int(areas.min()) == 218 * 218


def test_layers_that_see_everything_have_no_receptive_field():
    images, labels = data(6)
    for layer in (nn.GroupNorm(2, 4), nn.InstanceNorm2d(4), nn.AdaptiveAvgPool2d(4)):
        model = ProtoPNet(nn.Sequential(nn.Conv2d(1, 4, 3), layer), 2)
        assert project(model, images, labels).field is None
        with pytest.raises(ValueError, match=r"is not known: before it, .*\(in features\.1\)"):
            candidate_boxes(model, images, torch.zeros(6, dtype=torch.long), "receptive field")
    wide = ProtoPNet(nn.Conv2d(1, 4, (3, 5)), 2)
    assert project(wide, images, labels).field is None
    with pytest.raises(ValueError, match="not square"):
        candidate_boxes(wide, images, torch.zeros(6, dtype=torch.long), "receptive field")


def test_upsampling_and_boxes_are_opencvs_and_numpys():
    maps = torch.rand(2, 3, 6, 5, generator=torch.Generator().manual_seed(0))
    large = upsampled(maps, (48, 40))
    found = hot_boxes(large)
    for i, p in np.ndindex(2, 3):
        theirs = cv2.resize(maps[i, p].numpy(), (40, 48), interpolation=cv2.INTER_CUBIC)
        np.testing.assert_allclose(large[i, p].numpy(), theirs, atol=1e-5)
        rows, columns = np.nonzero(large[i, p].numpy() >= np.percentile(large[i, p].numpy(), 95))
        assert found[i, p].tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_two_hot_spots_give_one_large_box():
    maps = torch.zeros(1, 1, 40, 40)
    maps[0, 0, 2:8, 2:8] = maps[0, 0, 30:38, 31:39] = 1
    assert hot_boxes(maps)[0, 0].tolist() == [2, 2, 39, 38]
