"""What all explanations of a network share: one entry, one meaning of a target, the same errors, no trace."""

import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networks import GapNet, assert_unchanged, snapshot, trained_looking
from torch import nn

from xailab.cam import class_activation_map
from xailab.class_model import Jitter, class_model
from xailab.grad_cam import NoPositiveEvidence, grad_cam, guided_grad_cam
from xailab.guided_backprop import MixedActivations, deconvnet, guided_backprop, input_gradient
from xailab.saliency import integrated_gradients, saliency, smooth_grad
from xailab.targets import MixedBatch, ZeroGradient

LAYER = "features"
METHODS = {
    "cam": class_activation_map,
    "grad_cam": lambda model, images, target=None: grad_cam(model, images, LAYER, target, relu=False),
    "guided_grad_cam": lambda model, images, target=None: guided_grad_cam(model, images, LAYER, target),
    "input_gradient": input_gradient,
    "guided_backprop": guided_backprop,
    "deconvnet": deconvnet,
    "saliency": saliency,
    "smooth_grad": lambda model, images, target=None: smooth_grad(model, images, target, samples=3),
    "integrated_gradients": lambda model, images, target=None: integrated_gradients(model, images, target, steps=12),
}
GRADIENTS = {name: METHODS[name] for name in METHODS if name != "cam"}
OF_PIXELS = {name: METHODS[name] for name in METHODS if name not in ("cam", "grad_cam")}


def each(methods: dict):
    return pytest.mark.parametrize("method", methods.values(), ids=methods)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def maps_of_zeros_may_be():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoPositiveEvidence)
        yield


@pytest.fixture
def model() -> nn.Module:
    return trained_looking(GapNet()).eval()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(3, 3, 16, 24)


def close(a, b, share=1e-5):
    return a.shape == b.shape and (a - b).abs().max() <= share * b.abs().max()


# Inputs


@each(METHODS)
def test_what_is_no_batch_is_named(method, model, unchecked):
    for wrong, kind, words in (
        (np.zeros((1, 3, 16, 24)), TypeError, "got ndarray"),
        ([torch.zeros(1, 3, 16, 24)], TypeError, "got list"),
        (torch.zeros(1, 3, 16, 24, dtype=torch.uint8), TypeError, "got torch.uint8"),
        (torch.zeros(3, 16, 24), ValueError, r"one is image\[None\]"),
    ):
        with pytest.raises(kind, match=words):
            method(model, wrong, 1)


@each(METHODS)
def test_what_is_no_class_is_named(method, model, images, unchecked):
    for wrong, kind, words in (
        ("dog", TypeError, "class number"),
        (1.0, TypeError, "class number"),
        (5, ValueError, r"from 0 to 4, got \[5\]"),
        ([1, 2], ValueError, "expected one class, 3 classes"),
    ):
        with pytest.raises(kind, match=words):
            method(model, images, wrong)


@each(METHODS)
def test_images_of_another_precision_than_the_network(method, model, images):
    with pytest.raises(ValueError, match=r"images are torch.float64 on cpu, the network's weights torch.float32"):
        method(model, images.double(), 1)


@each(METHODS)
def test_each_image_alone_as_in_the_batch(method, model, images):
    together = method(model, images, [0, 1, 4])
    for i, target in enumerate([0, 1, 4]):
        assert close(method(model, images[i : i + 1], target), together[i : i + 1])


@each(METHODS)
def test_every_form_of_target(method, model, images):
    top = model(images).argmax(1)
    assert close(method(model, images), method(model, images, top))
    assert close(method(model, images, np.array([0, 1, 4])), method(model, images, [0, 1, 4]))
    several = method(model, images, [[0, 1], [1, 3], [4, 4]])
    assert close(several[:, 1], method(model, images, [1, 3, 4]))


# Networks


class Several(GapNet):
    """A network that wants a table beside the images."""

    def forward(self, x, table):
        return super().forward(x) + table


@each(METHODS)
@pytest.mark.parametrize("nested", [False, True])
def test_other_inputs_besides_the_images(method, nested, images):
    network = nn.Sequential(Several()) if nested else Several()
    network.features = nn.Identity()
    with pytest.raises(TypeError, match=r"wants more .*table.* wrap it in a module"):
        method(network, images, 1)


class OtherScores(GapNet):
    def __init__(self, scores):
        super().__init__()
        self.scores = scores

    def forward(self, x):
        return self.scores(super().forward(x))


@each(METHODS)
@pytest.mark.parametrize(
    "scores, kind, words",
    [
        (lambda s: {"out": s}, TypeError, "returns dict: wrap it"),
        (lambda s: (s, s), TypeError, "returns tuple: wrap it"),
        (lambda s: s[:, :, None], ValueError, r"expected scores of shape \(n, classes\)"),
        (lambda s: s[:1], ValueError, "1 rows of scores for 3 images"),
        (lambda s: s / 0, ValueError, "NaN or infinite"),
    ],
)
def test_scores_that_are_none(method, scores, kind, words, images):
    with pytest.raises(kind, match=words):
        method(OtherScores(scores), images, 1)


WRAPPED = {
    "DataParallel": nn.DataParallel,
    "compiled": lambda network: torch.compile(network, backend="eager"),
    "compiled in place": lambda network: network.compile(backend="eager") or network,
    "a compiled part": lambda network: (
        setattr(network, "pool", torch.compile(network.pool, backend="eager")) or network
    ),
    "a wrapped part": lambda network: setattr(network, "features", nn.DataParallel(network.features)) or network,
    "averaged": torch.optim.swa_utils.AveragedModel,
    "compiled and DataParallel": lambda network: nn.DataParallel(torch.compile(network, backend="eager")),
}


@each(METHODS)
@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_wrapped_networks(method, wrap, model, images):
    expected = method(model, images, 1)
    assert close(method(wrap(model), images, 1), expected)


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
@pytest.mark.parametrize("name", ["features.3", "module.features.3", "_orig_mod.features.3", "features.module.3"])
def test_names_of_wrapped_layers(wrap, name, model, images):
    expected = grad_cam(model, images, "features.3", 1, relu=False)
    wrapped = wrap(model)
    if name == "features.module.3" and not isinstance(model.features, nn.DataParallel):
        pytest.skip("this network has no layer of that name")
    assert close(grad_cam(wrapped, images, name, 1, relu=False), expected)
    assert close(guided_grad_cam(wrapped, images, name, 1), guided_grad_cam(model, images, "features.3", 1))


def test_each_name_of_a_shared_layer(model, images):
    model.again, model.nested = model.features[3], nn.ModuleDict({"third": model.features[3]})
    expected = grad_cam(model, images, "features.3", 1)
    for name in ("again", "nested.third"):
        assert torch.equal(grad_cam(model, images, name, 1), expected)
    assert set(grad_cam(model, images, ["again", "features.3"], 1)) == {"again", "features.3"}


def quantised(network: nn.Module, images) -> nn.Module:
    class Stubbed(nn.Module):
        def __init__(self):
            super().__init__()
            self.quant, self.features, self.fc = torch.ao.quantization.QuantStub(), nn.Conv2d(3, 4, 3), nn.Linear(4, 5)
            self.dequant = torch.ao.quantization.DeQuantStub()

        def forward(self, x):
            return self.dequant(self.fc(self.features(self.quant(x)).mean((2, 3))))

    network = Stubbed().eval()
    network.qconfig = torch.ao.quantization.get_default_qconfig(torch.backends.quantized.engine)
    prepared = torch.ao.quantization.prepare(network)
    prepared(images)
    return torch.ao.quantization.convert(prepared)


@each(METHODS)
@pytest.mark.parametrize("dynamic", [False, True])
def test_quantised_networks_are_refused(method, dynamic, model, images):
    if torch.backends.quantized.engine == "none":
        pytest.skip("torch has no engine for quantised networks on this machine")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces that its quantisation moves house
        network = torch.ao.quantization.quantize_dynamic(model) if dynamic else quantised(model, images)
    with pytest.raises(ValueError, match=r"quantised .*floating-point network that it was made from"):
        method(network, images, 1)


@each({name: METHODS[name] for name in ("cam", "guided_grad_cam", "guided_backprop", "deconvnet")})
def test_scripted_networks_get_their_own_reason(method, model, images):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(model)
    with pytest.raises(ValueError, match="scripted"):
        method(scripted, images, 1)


class Cut(GapNet):
    """The images' gradient is cut, while that of the head's weights goes on."""

    def __init__(self, how):
        super().__init__()
        self.how = how

    def forward(self, x):
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.how != "no_grad"):
            x = self.features(x)
        x = {"no_grad": lambda: x, "detach": x.detach, "numpy": lambda: torch.from_numpy(x.detach().numpy())}[
            self.how
        ]()
        return self.fc(self.pool(x).flatten(1))


@each(OF_PIXELS)
@pytest.mark.parametrize("how", ["no_grad", "detach", "numpy"])
@pytest.mark.parametrize("frozen", [False, True])
def test_no_gradient_reaches_the_images(method, how, frozen, images):
    network = Cut(how).requires_grad_(not frozen)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MixedActivations)
        with pytest.raises(ValueError, match=r"depend on|called none"):
            method(network, images, 1)
    with pytest.raises(ValueError, match="do not depend on its images, or no gradient reaches them"):
        saliency(network, images, 1)
    with pytest.raises(ValueError, match="do not depend on its images, or no gradient reaches them"):
        class_model(network, 1, size=16, steps=3, progress=False)


MIXING = {
    "batch norm without statistics": nn.BatchNorm2d(3, track_running_stats=False),
    "functional batch norm": lambda x: F.batch_norm(x, None, None, training=True),
    "batch norm of one cell": lambda x: F.batch_norm(x.flatten(1), None, None, training=True),
    "centred": lambda x: x - x.mean(0),
    "normalised": lambda x: F.normalize(x, dim=0),
    "softmax": lambda x: x.softmax(0),
    "attention along the batch": lambda x: (torch.einsum("nchw, mchw -> nm", x, x) / 1e3).softmax(1) @ x.flatten(1),
    "neighbours": lambda x: x + x.roll(1, 0),
}


class Mixing(GapNet):
    def __init__(self, mix):
        super().__init__()
        self.mix = mix

    def forward(self, x):
        return super().forward(self.mix(x).reshape(x.shape))


@each(METHODS)
@pytest.mark.parametrize("mix", MIXING.values(), ids=MIXING)
def test_networks_that_mix_a_batch_are_told_of(method, mix, images):
    network = Mixing(mix)
    with pytest.warns(MixedBatch, match="Explain one image at a time"), warnings.catch_warnings():
        warnings.simplefilter("ignore", MixedActivations)
        method(network, images, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", MixedBatch)
        warnings.simplefilter("ignore", MixedActivations)
        warnings.simplefilter("ignore", ZeroGradient)
        if mix is not MIXING["batch norm of one cell"]:  # which does not run on one image
            method(network, images[:1], 1)


def test_class_models_of_a_network_that_mixes():
    network, options = Mixing(MIXING["neighbours"]), {"size": 16, "steps": 1, "progress": False}
    start = torch.randn(2, 3, 16, 16)
    with pytest.warns(MixedBatch):
        class_model(network, [0, 1], start=start, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        class_model(GapNet(), [0, 1], start=start, transforms=[Jitter(3)], **options)


@each(METHODS)
def test_other_networks_are_not(method, model, images):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", NoPositiveEvidence)
        method(model, images, 1)


# Gradients


@each({name: GRADIENTS[name] for name in ("grad_cam", "input_gradient", "guided_backprop", "saliency", "smooth_grad")})
@pytest.mark.parametrize(
    "last, why",
    [(nn.Softmax(1), "saturated softmax"), (nn.Sigmoid(), "saturated sigmoid"), (lambda s: (s - 1e9).relu(), "ReLUs")],
)
def test_saturated_scores_are_told_of(method, last, why, images):
    network = OtherScores(lambda s: last(1e5 * s)).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MixedActivations)
        with pytest.warns(ZeroGradient, match=rf"is zero everywhere: .*{why}"):
            assert not method(network, images).any()


def test_a_positive_map_of_zeros_says_that_the_softmax_is_saturated(images):
    network = OtherScores(lambda s: (1e5 * s).softmax(1)).eval()
    with pytest.warns(NoPositiveEvidence, match="saturated softmax"):
        grad_cam(network, images, "features")


@each(METHODS)
@pytest.mark.parametrize("dtype, share", [(torch.float64, 1e-4), (torch.float16, 3e-2), (torch.bfloat16, 3e-1)])
def test_precisions(method, dtype, share, model, images):
    single = method(model, images, 1)
    other = method(model.to(dtype), images.to(dtype), 1)
    assert other.dtype == dtype and close(other.float(), single, share)


@each(METHODS)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("frozen", [False, True])
def test_nothing_is_left_behind(method, mode, frozen, model, images):
    model.requires_grad_(not frozen).train()
    model.drop.eval()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    before, copies = snapshot(model), images.clone()
    expected = method(model, images, 1)
    with mode():
        found = method(model, images, 1)
        assert torch.is_grad_enabled() == (mode is torch.enable_grad)
        assert torch.is_inference_mode_enabled() == (mode is torch.inference_mode)
    assert close(found.clone(), expected) and not found.requires_grad
    assert torch.equal(images, copies)
    assert_unchanged(model, before)
    with pytest.raises(ValueError):
        method(model, images, 5)
    assert_unchanged(model, before)
