import pytest
import torch
from networks import GapNet, assert_unchanged, snapshot, trained_looking
from torch import nn

from xailab.cam import class_activation_map
from xailab.models import zoo

LINEAR_HEADS = {
    "resnet18": "fc",
    "densenet121": "classifier",
    "googlenet": "fc",
    "efficientnet_b0": "classifier.1",
    "mobilenet_v2": "classifier.1",
}


def network(name: str) -> nn.Module:
    return trained_looking(zoo.load(name, weights=None))


@pytest.mark.parametrize("name", LINEAR_HEADS)
def test_mean_plus_bias_is_the_logit(name):
    model = network(name)
    images = torch.randn(2, 3, 96, 128)
    target = torch.tensor([[3, 281], [7, 0]])
    with torch.no_grad():
        logits = model(images)
    bias = model.get_submodule(LINEAR_HEADS[name]).bias
    maps = class_activation_map(model, images, target)
    assert maps.shape[:2] == (2, 2) and maps.shape[2:] == (3, 4)
    scale = logits.abs().max()
    assert torch.allclose(maps.mean((-2, -1)) + bias[target], logits.gather(1, target), rtol=0, atol=2e-6 * scale)


@pytest.mark.parametrize("name", ["squeezenet1_0", "squeezenet1_1"])
def test_convolutional_head_needs_no_bias(name):
    model = network(name)
    images = torch.randn(2, 3, 96, 128)
    logits = model(images)
    maps = class_activation_map(model, images, [5, 9])
    assert torch.allclose(maps.mean((-2, -1)), logits[[0, 1], [5, 9]], atol=1e-6)
    with torch.no_grad():
        scored = model.classifier[:3](model.features(images))  # dropout is off in eval mode
    assert torch.equal(maps[0], scored[0, 5]) and torch.equal(maps[1], scored[1, 9])


def test_equal_to_the_textbook_loop():
    """The loop over channels, on the output of the last block: after the residual sum and the ReLU."""
    model = network("resnet18")
    image = torch.randn(1, 3, 64, 96)
    features = {}
    handle = model.layer4.register_forward_hook(lambda module, inputs, output: features.update(f=output.double()))
    with torch.no_grad():
        model(image)
    handle.remove()
    expected = torch.zeros(2, 3, dtype=torch.float64)
    for k in range(512):
        for y in range(2):
            for x in range(3):
                expected[y, x] += model.fc.weight[17, k].item() * features["f"][0, k, y, x]
    assert torch.allclose(class_activation_map(model, image, 17)[0].double(), expected, atol=1e-5)


def test_every_form_of_target_and_the_batch():
    model = trained_looking(GapNet().eval())
    images = torch.randn(3, 3, 16, 24)
    several = class_activation_map(model, images, [[0, 1, 2, 3, 4]] * 3)
    assert several.shape == (3, 5, 4, 6)
    for c in range(5):
        assert torch.allclose(class_activation_map(model, images, c), several[:, c], atol=1e-6)
    each = class_activation_map(model, images, torch.tensor([4, 0, 2]))
    assert torch.allclose(each, several[torch.arange(3), [4, 0, 2]], atol=1e-6)
    top = model(images).argmax(1)
    assert torch.allclose(class_activation_map(model, images), several[torch.arange(3), top], atol=1e-6)
    alone = class_activation_map(model, images[1:2], 0)
    assert torch.allclose(alone[0], several[1, 0], atol=1e-6)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_leaves_the_network_alone(mode):
    model = trained_looking(GapNet()).train()
    model.features[0].weight.requires_grad_(False)
    model.fc.bias.grad = torch.ones(5)
    before = snapshot(model)
    with mode():
        maps = class_activation_map(model, torch.randn(2, 3, 16, 16), 1)
    assert not maps.requires_grad
    assert_unchanged(model, before)
    with pytest.raises(RuntimeError):
        class_activation_map(model, torch.randn(2, 4, 16, 16), 1)
    with pytest.raises(ValueError, match="from 0 to 4"):
        class_activation_map(model, torch.randn(2, 3, 16, 16), 5)
    assert_unchanged(model, before)


class FunctionalNet(nn.Module):
    """Pools with a method, scores with a function, under no layer's name."""

    def __init__(self, pool) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 6, 3)
        self.pool = pool
        self.weight = nn.Parameter(torch.randn(4, 6))

    def forward(self, x):
        return nn.functional.linear(self.pool(self.convolution(x).relu()), self.weight)


@pytest.mark.parametrize(
    "pool",
    [
        lambda f: f.mean((2, 3)),
        lambda f: torch.mean(f, dim=[-2, -1]),
        lambda f: nn.functional.adaptive_avg_pool2d(f, 1).flatten(1),
        lambda f: nn.functional.avg_pool2d(f, f.shape[-1]).flatten(1),
        lambda f: torch.mean(input=f, dim=(2, 3)),
    ],
)
def test_functional_heads(pool):
    model = FunctionalNet(pool)
    images = torch.randn(2, 3, 9, 9)
    maps = class_activation_map(model, images, 3)
    assert torch.allclose(maps.mean((-2, -1)), model(images)[:, 3], atol=1e-6)


@pytest.mark.parametrize(
    "pool",
    [
        lambda f: nn.functional.avg_pool2d(f, 5).flatten(1),  # 7 x 7 cells: the border is dropped
        lambda f: f[:, :, :6, :6].mean((1, 2)),  # of 6 channels and rows
        lambda f: f.flatten(2).median(2).values,
        lambda f: f.amax((2, 3)),
    ],
)
def test_other_poolings_are_no_global_average(pool):
    with pytest.raises(ValueError, match="does not end in global average pooling"):
        class_activation_map(FunctionalNet(pool), torch.randn(2, 3, 9, 9), 3)


def test_scores_that_are_not_finite_are_named():
    model = GapNet()
    model.fc.bias.data[2] = torch.nan
    with pytest.raises(ValueError, match="NaN or infinite"):
        class_activation_map(model, torch.randn(1, 3, 16, 16), 1)


@pytest.mark.parametrize("name", ["vgg11", "convnext_tiny", "mobilenet_v3_small", "vit_b_16"])
def test_other_heads_are_sent_to_grad_cam(name):
    with pytest.raises(ValueError, match="grad_cam"):
        class_activation_map(zoo.load(name, weights=None), torch.randn(1, 3, 224, 224))


def test_the_layer_is_checked():
    """The mistake of hooking the last batch norm: before the residual sum and the ReLU."""
    model = network("resnet18")
    images = torch.randn(1, 3, 64, 64)
    assert torch.equal(class_activation_map(model, images, 1, layer="layer4"), class_activation_map(model, images, 1))
    assert torch.equal(
        class_activation_map(model, images, 1, layer=model.layer4[1]), class_activation_map(model, images, 1)
    )
    with pytest.raises(ValueError, match=r"'layer4\.1\.bn2' is not what this network averages"):
        class_activation_map(model, images, 1, layer="layer4.1.bn2")
    with pytest.raises(ValueError, match="has no layer 'layer5'"):
        class_activation_map(model, images, 1, layer="layer5")
    googlenet = zoo.load("googlenet", weights=None)
    with pytest.raises(ValueError, match="was not called"):
        class_activation_map(googlenet, images, 1, layer="aux1")


def test_double_and_half_precision():
    model = trained_looking(GapNet()).eval()
    images = torch.randn(2, 3, 16, 16)
    single = class_activation_map(model, images, 1)
    double = class_activation_map(model.double(), images.double(), 1)
    assert double.dtype == torch.float64 and torch.allclose(single.double(), double, atol=1e-5)
    for dtype, digits in ((torch.float16, 3e-3), (torch.bfloat16, 3e-2)):
        half = class_activation_map(model.to(dtype), images.to(dtype), 1)
        assert half.dtype == dtype and (single - half.float()).abs().max() < digits * single.abs().max()


@pytest.mark.real
def test_cat_and_coffee_on_photographs(real_data):
    """A real ImageNet network, two of scikit-image's photographs side by side: each class lights up its own half."""
    from skimage.data import chelsea, coffee

    model = zoo.load("squeezenet1_0", weights=real_data / "weights" / "squeezenet1_0_imagenet.safetensors")
    cat, cup = model.preprocess(chelsea()), model.preprocess(coffee())
    probability, top = model(cat).softmax(1).max(1)
    assert model.classes[int(top)] == "Egyptian cat" and probability.item() > 0.6
    classes = [model.classes.index("Egyptian cat"), model.classes.index("espresso")]
    for left, right in ((cat, cup), (cup, cat)):
        of_cat, of_cup = class_activation_map(model, torch.cat([left, right], dim=3), [classes])[0]
        of_left, of_right = (of_cat, of_cup) if left is cat else (of_cup, of_cat)
        middle = of_left.shape[1] // 2
        assert of_left[:, :middle].sum() > 0.75 * of_left.sum()
        assert of_right[:, middle:].sum() > 0.75 * of_right.sum()


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("resnext50_32x4d", "fc"),
        ("regnet_y_400mf", "fc"),
        ("shufflenet_v2_x0_5", "fc"),
        ("mnasnet0_5", "classifier.1"),
        ("inception_v3", "fc"),
        ("efficientnet_v2_s", "classifier.1"),
        ("swin_t", "head"),
    ],
)
def test_more_families(name, head):
    """Found without having been thought of: a global average and a linear layer are all that it takes."""
    model = network(name)
    images = torch.randn(1, 3, 128, 128)
    logits = model(images)
    total = class_activation_map(model, images, 3).mean() + model.get_submodule(head).bias[3]
    assert torch.allclose(total, logits[0, 3], rtol=0, atol=3e-6 * logits.abs().max().item())


# Every spelling of a global average and of a linear layer


AVERAGES = {
    "sum over places": lambda f: f.sum((2, 3)) / f[0, 0].numel(),
    "flatten": lambda f: f.flatten(2).mean(2),
    "view": lambda f: f.view(*f.shape[:2], -1).mean(dim=-1),
    "one after the other": lambda f: f.mean(3).mean(2),
    "einsum": lambda f: torch.einsum("nkhw -> nk", f) / f[0, 0].numel(),
    "matrix product": lambda f: (f.flatten(2) @ torch.full((f[0, 0].numel(), 1), 1 / f[0, 0].numel()))[:, :, 0],
    "channels last": lambda f: f.permute(0, 2, 3, 1).mean((1, 2)),
    "layer": nn.Sequential(nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten()),
    "window": nn.Sequential(nn.AvgPool2d(7), nn.Flatten()),
    "area": lambda f: torch.nn.functional.interpolate(f, size=1, mode="area").flatten(1),
    "keepdim": lambda f: f.mean((-1, -2), keepdim=True).squeeze(),
    "then scaled": lambda f: 3 * f.mean((2, 3)) - 1,
    "then batch norm": nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(6)),
}
LINEARS = {
    "matrix product": lambda p, w: p @ w.T + 1,
    "einsum": lambda p, w: torch.einsum("nk, ck -> nc", p, w),
    "1 x 1 convolution": lambda p, w: nn.functional.conv2d(p[:, :, None, None], w[:, :, None, None]).flatten(1),
    "two layers": lambda p, w: nn.functional.linear(nn.functional.linear(p, w), torch.ones(3, 4)) * 0.5,
    "with dropout": lambda p, w: nn.functional.dropout(p, training=False) @ w.T,
}


class Spelt(nn.Module):
    def __init__(self, average, linear) -> None:
        super().__init__()
        self.convolution, self.average, self.linear = nn.Conv2d(3, 6, 3), average, linear
        self.weight = nn.Parameter(torch.randn(4, 6))

    def forward(self, x):
        return self.linear(self.average(self.convolution(x).relu()), self.weight)


@pytest.mark.parametrize(
    "average, linear",
    [(average, LINEARS["matrix product"]) for average in AVERAGES.values()]
    + [(AVERAGES["flatten"], linear) for linear in LINEARS.values()],
    ids=[*AVERAGES, *(f"average, {name}" for name in LINEARS)],
)
def test_every_spelling(average, linear):
    """The map's mean and the score rise alike: their difference, the bias, is the same for all images."""
    torch.manual_seed(0)
    model, images = Spelt(average, linear).eval(), torch.randn(5, 3, 9, 9)
    with torch.no_grad():
        features, scores = model.convolution(images).relu(), model(images)
    maps = class_activation_map(model, images, 2)
    bias = scores[:, 2] - maps.mean((-2, -1))
    assert maps.shape == features[:, 0].shape and maps.std() > 0
    assert torch.allclose(bias, bias.mean().expand(5), atol=1e-5)
    weights = torch.linalg.lstsq(features.permute(0, 2, 3, 1).reshape(-1, 6), maps.reshape(-1, 1)).solution[:, 0]
    assert torch.allclose(torch.einsum("k, nkhw -> nhw", weights, features), maps, atol=1e-4)  # one weight a channel


@pytest.mark.parametrize(
    "linear",
    [
        lambda p, w: (p @ w.T).relu() @ torch.ones(4, 3),
        lambda p, w: nn.functional.layer_norm(p, (6,)) @ w.T,
        lambda p, w: nn.functional.normalize(p) @ w.T,
        lambda p, w: (p @ w.T).softmax(1),
        lambda p, w: p * p,
    ],
)
def test_a_head_that_is_not_linear_has_no_class_activation_map(linear):
    with pytest.raises(ValueError, match="does not end in global average pooling and one linear layer"):
        class_activation_map(Spelt(AVERAGES["flatten"], linear), torch.randn(2, 3, 9, 9), 1)


def test_features_of_one_cell_have_no_map():
    with pytest.raises(ValueError, match=r"one cell \(1 x 1\) for a picture of 32 x 32"):
        class_activation_map(network("resnet18"), torch.randn(2, 3, 32, 32), 1)
