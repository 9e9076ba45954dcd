"""The three rules of the input gradient, against hand cases, captum where it is right, and ReLUs written out."""

import gc
import warnings

import pytest
import torch
import torch.nn.functional as F
from networks import (
    GapNet,
    OneConv,
    Rectified,
    Swish,
    assert_unchanged,
    live_tensors,
    ruled_gradient,
    snapshot,
    trained_looking,
)
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from xailab.guided_backprop import MixedActivations, backward_rule, deconvnet, guided_backprop, input_gradient
from xailab.models import zoo
from xailab.targets import ZeroGradient

captum = pytest.importorskip("captum.attr")
RULES = ("gradient", "guided", "deconvnet")
pytestmark = pytest.mark.filterwarnings("ignore:Setting backward hooks", "ignore:Input Tensor 0 did not already")


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def arange_picture() -> torch.Tensor:
    return torch.arange(16.0).view(1, 1, 4, 4)


def close(ours: torch.Tensor, theirs: torch.Tensor, digits: float = 1e-5) -> bool:
    assert theirs.abs().max() > 0, "nothing to compare"
    return ours.shape == theirs.shape and (ours - theirs).abs().max().item() <= digits * theirs.abs().max().item()


# Hand cases


@pytest.mark.parametrize("inplace", [False, True])
def test_the_hand_case_of_the_literature(inplace):
    model = OneConv(inplace)
    guided = torch.tensor([[0, 1, 1, 1], [1, 3, 3, 2], [1, 3, 3, 2], [1, 2, 2, 1.0]])
    zeiler = torch.tensor([[2, 3, 3, 1], [3, 5, 5, 2], [3, 5, 5, 2], [1, 2, 2, 1.0]])
    true = torch.tensor([[0, 1, 1, 1], [0, 1, 1, 1], [0, 1, 1, 1], [0, 0, 0, 0.0]])
    assert torch.equal(guided_backprop(model, arange_picture(), 0)[0, 0], guided)
    assert torch.equal(deconvnet(model, arange_picture(), 0)[0, 0], zeiler)
    assert torch.equal(input_gradient(model, arange_picture(), 0)[0, 0], true)


@pytest.mark.parametrize(
    "rule, expected",
    [
        ("gradient", [[-2, 0, -1], [6, 0, 0], [0, -1, 3]]),
        ("deconvnet", [[0, 3, 0], [6, 0, 1], [2, 0, 3]]),
        ("guided", [[0, 0, 0], [6, 0, 0], [0, 0, 3]]),
    ],
)
def test_the_rule_on_nine_numbers(rule, expected):
    """The 3 x 3 example of Springenberg et al.'s Figure 1: R = -2 3 -1 / 6 -3 1 / 2 -1 3 arrives at a ReLU."""
    arriving = torch.tensor([[-2, 3, -1], [6, -3, 1], [2, -1, 3.0]])
    picture = torch.tensor([[1, -1, 5], [2, -5, -7], [-3, 2, 4.0]]).view(1, 1, 3, 3)

    class Scored(nn.Module):
        def forward(self, x):
            return (x.relu() * arriving).sum((1, 2, 3)).unsqueeze(1)

    assert torch.equal(input_gradient(Scored(), picture, 0, rule=rule)[0, 0], torch.tensor(expected).float())


def test_zero_is_no_positive_input():
    """At z = 0 the true derivative, and so the guided rule, passes nothing."""
    model = nn.Sequential(nn.ReLU(), nn.Flatten())
    for rule in ("gradient", "guided"):
        with pytest.warns(ZeroGradient, match="class 0 is zero everywhere"):
            assert not input_gradient(model, torch.zeros(1, 1, 1, 1), 0, rule=rule).any()
    assert (input_gradient(model, torch.zeros(1, 1, 1, 1), 0, rule="deconvnet") == 1).all()


# Every way of calling a ReLU, against the rule written out

CALLS = {
    "module": nn.ReLU(),
    "in-place module": nn.ReLU(inplace=True),
    "F.relu": lambda z: F.relu(z),
    "F.relu in place": lambda z: F.relu(z, inplace=True),
    "F.relu by keyword": lambda z: F.relu(input=z, inplace=True),
    "torch.relu": lambda z: torch.relu(z),
    "torch.relu_": lambda z: torch.relu_(z),
    "x.relu()": lambda z: z.relu(),
    "x.relu_()": lambda z: z.relu_(),
    "ReLU6": nn.ReLU6(),
    "in-place ReLU6": nn.ReLU6(inplace=True),
    "F.relu6": lambda z: F.relu6(z * 3) / 3,
    "hardtanh from zero": lambda z: F.hardtanh(z, min_val=0.0, max_val=0.5),
}


@pytest.mark.parametrize("call", CALLS)
def test_every_call_of_a_relu_gets_the_rule(call, monkeypatch):
    model = Rectified(CALLS[call]).eval()
    images = torch.randn(2, 3, 11, 11)
    if call == "F.relu6":  # written out as the F.hardtanh that it is
        written_out = Rectified(lambda z: F.hardtanh(z * 3, 0.0, 6.0) / 3).eval()
        written_out.load_state_dict(model.state_dict())
    else:
        written_out = model
    results = []
    for rule in RULES:
        ours = input_gradient(model, images, 3, rule=rule)
        assert close(ours, ruled_gradient(monkeypatch, written_out, images, 3, rule)), rule
        results.append(ours)
    plain = images.clone().requires_grad_()
    (autograd,) = torch.autograd.grad(model(plain)[:, 3].sum(), plain)
    assert close(results[0], autograd, 1e-6), "the true rule is the gradient"
    assert not close(results[1], results[0], 0.1) and not close(results[1], results[2], 0.1)


def test_peers_are_wrong_where_no_module_is_called(monkeypatch):
    """Why the rule belongs to the call: captum's guided backprop of a functional network is the plain gradient."""
    images = torch.randn(2, 3, 11, 11)
    model = Rectified(lambda z: F.relu(z)).eval()
    theirs = captum.GuidedBackprop(model).attribute(images.clone(), target=3)
    assert close(theirs, input_gradient(model, images, 3, rule="gradient"), 1e-6)
    assert not close(theirs, ruled_gradient(monkeypatch, model, images, 3, "guided"), 0.1)
    pytest.importorskip("pytorch_grad_cam")
    from pytorch_grad_cam import GuidedBackpropReLUModel

    theirs = torch.from_numpy(GuidedBackpropReLUModel(model)(images[:1].clone(), 3)).permute(2, 0, 1)[None]
    assert close(theirs, input_gradient(model, images[:1], 3, rule="gradient"), 1e-6)


@pytest.mark.filterwarnings("ignore::xailab.guided_backprop.MixedActivations")  # a product of two maps
@pytest.mark.parametrize("inplace", [False, True])
def test_a_view_of_a_tensor_that_is_used_again(inplace, monkeypatch):
    """In place, the ReLU changes the tensor behind the view too; out of place it does not."""

    class Views(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4 * 36, 5)

        def forward(self, x):
            whole = self.conv(x)
            part = F.relu(whole[:, :2], inplace=inplace)
            return self.fc(torch.cat([part.flatten(1), (whole[:, 2:] * whole[:, :2]).flatten(1)], 1))

    model, images = Views(), torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        scores = model(images)
    for rule in RULES:
        assert close(input_gradient(model, images, 1, rule=rule), ruled_gradient(monkeypatch, model, images, 1, rule))
    with torch.no_grad():
        assert torch.equal(model(images), scores)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "googlenet", "densenet121", "shufflenet_v2_x0_5"])
def test_known_networks_with_relus_written_out(name, monkeypatch):
    """Residual sums, ReLU6, F.relu, concatenations, chunks."""
    model = trained_looking(zoo.load(name, weights=None))
    images = torch.randn(1, 3, 64, 64)
    for rule in ("guided", "deconvnet"):
        ours = input_gradient(model, images, 7, rule=rule)
        assert close(ours, ruled_gradient(monkeypatch, model, images, 7, rule), 1e-4), rule
    if name == "googlenet":  # all its ReLUs are functions: captum meets none
        theirs = captum.GuidedBackprop(model).attribute(images.clone(), target=7)
        assert close(theirs, input_gradient(model, images, 7), 1e-4)
        assert not close(theirs, guided_backprop(model, images, 7), 0.1)


@pytest.mark.parametrize("name", ["resnet18", "vgg11_bn", "squeezenet1_1"])
def test_captum_where_it_is_right(name):
    model = trained_looking(zoo.load(name, weights=None))
    images, target = torch.randn(2, 3, 64, 64), [5, 281]
    for method, ours in ((captum.GuidedBackprop, guided_backprop), (captum.Deconvolution, deconvnet)):
        theirs = method(model).attribute(images.clone(), target=target)
        assert close(ours(model, images, target), theirs.detach(), 1e-4), method.__name__


# Targets, batches, forms of input


def test_every_form_of_target_and_the_batch():
    model = trained_looking(GapNet().eval())
    images = torch.randn(3, 3, 16, 24)
    several = guided_backprop(model, images, [[0, 1, 2, 3, 4]] * 3)
    assert several.shape == (3, 5, 3, 16, 24)
    for c in range(5):
        assert close(several[:, c], guided_backprop(model, images, c))
    each = guided_backprop(model, images, torch.tensor([4, 0, 2]))
    assert close(each, several[torch.arange(3), [4, 0, 2]])
    top = model(images).argmax(1)
    assert close(guided_backprop(model, images), several[torch.arange(3), top])
    assert close(guided_backprop(model, images[1:2], 0)[0], several[1, 0]), "images of a batch do not mix"


@pytest.mark.parametrize("rule", RULES)
def test_layouts_of_memory(rule):
    model = Rectified(nn.ReLU(inplace=True))
    images = torch.randn(2, 3, 11, 11)
    expected = input_gradient(model, images, 1, rule=rule)
    wide = torch.zeros(2, 3, 11, 22)
    wide[..., ::2] = images
    assert close(input_gradient(model, wide[..., ::2], 1, rule=rule), expected)
    last = images.to(memory_format=torch.channels_last)
    assert close(input_gradient(model, last, 1, rule=rule), expected)
    assert close(input_gradient(model.to(memory_format=torch.channels_last), last, 1, rule=rule), expected)


# The conventions


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("frozen", [False, True])
def test_leaves_network_and_images_alone(mode, frozen):
    model = trained_looking(GapNet()).train().requires_grad_(not frozen)
    model.features[1].eval()
    model.fc.bias.grad = torch.ones(5)
    images = torch.randn(2, 3, 16, 16)
    wanting = images.clone().requires_grad_()
    wanting.grad = torch.ones_like(images)
    expected = guided_backprop(model, images, 1)
    before = snapshot(model)
    with mode():
        made_here = images.clone()
        for given in (images, wanting, made_here):
            ours = guided_backprop(model, given, 1)
            assert close(ours, expected, 1e-6) and not ours.requires_grad
        assert torch.is_inference_mode_enabled() == (mode is torch.inference_mode)
        assert torch.is_grad_enabled() == (mode is torch.enable_grad)
    assert torch.equal(wanting, images) and torch.equal(made_here, images)
    assert wanting.requires_grad and not images.requires_grad and torch.equal(wanting.grad, torch.ones_like(images))
    assert images.grad is None
    for target, given in ((9, images), (1, torch.randn(2, 4, 16, 16))):
        with pytest.raises((ValueError, RuntimeError)):
            guided_backprop(model, given, target)
    assert_unchanged(model, before)


def test_an_input_that_the_network_changes_in_place():
    """A ReLU on the picture itself, in place: the user's tensor stays, the rule holds."""
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(12, 2))
    images = torch.randn(2, 3, 2, 2)
    before = images.clone()
    ours = guided_backprop(model, images, 1)
    assert torch.equal(images, before)
    assert torch.equal(ours, (model[2].weight[1].view(3, 2, 2) * (before > 0)).clamp(min=0).detach())


@pytest.mark.parametrize("dtype, digits", [(torch.float64, 1e-6), (torch.float16, 2e-2), (torch.bfloat16, 1e-1)])
def test_precision(dtype, digits):
    model = trained_looking(GapNet()).eval()
    images = torch.randn(2, 3, 16, 16)
    single = guided_backprop(model, images, 1)
    other = guided_backprop(model.to(dtype), images.to(dtype), 1)
    assert other.dtype == dtype and close(other.double(), single.double(), digits)


def test_autocast():
    model = trained_looking(GapNet()).eval()
    images = torch.randn(2, 3, 16, 16)
    single = guided_backprop(model, images, 1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        other = guided_backprop(model, images, 1)
    assert close(other.float(), single, 1e-1)


def test_data_parallel():
    model, images = trained_looking(GapNet()).eval(), torch.randn(2, 3, 16, 16)
    assert close(guided_backprop(nn.DataParallel(model), images, 1), guided_backprop(model, images, 1), 1e-6)


def test_costs_one_forward_and_one_backward_to_the_picture():
    """No gradient of a weight: each convolution costs as much backwards as forwards."""
    model, images = trained_looking(zoo.load("resnet18", weights=None)), torch.randn(1, 3, 64, 64)
    with FlopCounterMode(display=False) as bare, torch.no_grad():
        model(images)
    for classes in (1, 2):
        with FlopCounterMode(display=False) as ours:
            guided_backprop(model, images, [list(range(classes))])
        assert ours.get_total_flops() == (1 + classes) * bare.get_total_flops()


def test_nothing_is_left_after_many_calls():
    model, images = trained_looking(GapNet()).eval(), torch.randn(1, 3, 16, 16)
    before = snapshot(model)
    guided_backprop(model, images, 1)
    gc.collect()
    gc.disable()
    try:
        live = live_tensors()
        for _ in range(100):
            guided_backprop(model, images, 1)
        assert live_tensors() <= live
    finally:
        gc.enable()
    assert_unchanged(model, before)


def test_the_rule_goes_with_its_block():
    """Hooks on the graph are removed, however the block ends: the same graph is differentiated truly again."""
    z = torch.tensor([1.0, 2.0], requires_grad=True)
    y = z.relu()
    with pytest.raises(KeyError), backward_rule([y.grad_fn], "guided"):
        assert torch.autograd.grad((-y).sum(), z, retain_graph=True)[0].tolist() == [0, 0]
        raise KeyError
    assert torch.autograd.grad((-y).sum(), z)[0].tolist() == [-1, -1]


# Messages


@pytest.mark.parametrize(
    "activation, named",
    [
        (nn.GELU(), "gelu"),
        (nn.SiLU(), "silu"),
        (nn.Hardswish(), "hardswish"),
        (nn.Hardtanh(), "hardtanh"),
        (nn.Sequential(nn.Tanh(), nn.Sigmoid()), "sigmoid, tanh"),
        (nn.Identity(), "no activation of a known name"),
    ],
)
def test_a_network_without_relus_is_refused(activation, named):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), activation, nn.Flatten(), nn.Linear(4 * 36, 3))
    images = torch.randn(1, 3, 8, 8)
    for method in (guided_backprop, deconvnet):
        with pytest.raises(ValueError, match=named):
            method(model, images, 1)
    assert input_gradient(model, images, 1).abs().sum() > 0  # the true gradient needs no ReLU


@pytest.mark.parametrize("rule", ["guided", "deconvnet"])
@pytest.mark.parametrize(
    "cut",
    [
        lambda z: z.clamp(min=0), lambda z: z.clamp(0), lambda z: torch.clamp(z, min=0.0), lambda z: z.clip(0),
        lambda z: torch.clamp_min(z, 0), lambda z: z.clamp_min(0), lambda z: (z * 1).clamp_(min=0),
        lambda z: F.threshold(z, 0, 0), nn.Threshold(0.0, 0.0), lambda z: (z * 1).clamp_min_(0),
        lambda z: F.threshold_(z * 1, 0, 0), lambda z: F.leaky_relu(z, 0.0), nn.LeakyReLU(0), nn.ReLU6(),
        lambda z: torch.maximum(z, torch.zeros_like(z)), lambda z: torch.maximum(torch.tensor(0.0), z),
        lambda z: z.maximum(torch.zeros(())), lambda z: torch.max(z, torch.zeros(1)), lambda z: z.fmax(torch.zeros(1)),
        lambda z: torch.max(input=z, other=torch.zeros(1)), lambda z: z.max(torch.zeros_like(z)),
    ],
)  # fmt: skip
def test_what_cuts_off_at_zero_is_a_relu(cut, rule):
    images = torch.randn(2, 3, 12, 12)
    torch.manual_seed(1)
    expected = input_gradient(Rectified(torch.relu), images, 2, rule=rule)
    torch.manual_seed(1)
    assert torch.allclose(input_gradient(Rectified(cut), images, 2, rule=rule), expected, atol=1e-7)


@pytest.mark.parametrize("cut", [lambda z: z.clamp(min=-1), lambda z: z.clamp(max=0), lambda z: F.threshold(z, 0, 1)])
def test_what_cuts_off_elsewhere_is_none(cut):
    with pytest.raises(ValueError, match="called none"):
        guided_backprop(Rectified(cut), torch.randn(1, 3, 12, 12), 2)


def test_other_activations_beside_relus_are_warned_of():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.SiLU(), nn.Flatten(), nn.Linear(64, 3))
    images = torch.randn(1, 3, 8, 8)
    for method in (guided_backprop, deconvnet):
        with pytest.warns(MixedActivations, match="also calls silu") as caught:
            method(model, images, 1)
        assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        input_gradient(model, images, 1)


OTHERS = {
    "silu": F.silu, "silu in place": nn.SiLU(inplace=True), "gelu": nn.GELU("tanh"), "mish": F.mish, "elu_": F.elu_,
    "selu": F.selu, "celu": F.celu, "softplus": F.softplus, "softsign": F.softsign, "tanhshrink": F.tanhshrink,
    "logsigmoid": F.logsigmoid, "hardshrink": F.hardshrink, "softshrink": F.softshrink, "hardswish": F.hardswish,
    "glu": lambda x: F.glu(torch.cat([x, x], 1), 1), "prelu": lambda x: F.prelu(x, torch.tensor([0.2])),
    "rrelu": lambda x: F.rrelu(x, 0.1, 0.3), "leaky_relu_": lambda x: F.leaky_relu_(x * 1),
    "gelu by erf": lambda x: 0.5 * x * (1 + torch.erf(x / 2**0.5)), "swish by hand": lambda x: x * torch.sigmoid(x),
    "method": lambda x: x.tanh(), "in place": lambda x: (x * 1).tanh_(), "softmax": lambda x: x.softmax(1),
    "in place on a view": lambda x: (lambda y: (y[:, :4].sigmoid_(), y)[1])(x * 1), "function": Swish.apply,
    "square": lambda x: x * x, "power": lambda x: x**2, "sine": torch.sin, "absolute": torch.abs, "exp": torch.exp,
    "a mask": lambda x: x * (x > 0), "where": lambda x: torch.where(x > 0, x, torch.zeros(())),
    "masked_fill": lambda x: x.masked_fill(x < 0, 0), "capped": lambda x: x.clamp(max=1), "hardtanh": F.hardtanh,
    "maximum of maps": lambda x: torch.maximum(x, x.flip(1)), "maximum": lambda x: torch.maximum(x, torch.tensor(-0.1)),
    "minimum": lambda x: torch.minimum(x, x.new_zeros(1)), "maxout": lambda x: torch.maximum(x[:, ::2], x[:, 1::2]),
}  # fmt: skip


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("method", [guided_backprop, deconvnet])
def test_every_other_nonlinear_step_is_warned_of(other, method):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.fc = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.LazyLinear(5)

        def forward(self, x):
            return self.fc(other(self.second(F.relu(self.first(x)))).mean((2, 3)))

    torch.manual_seed(0)
    model, images = Net(), torch.randn(1, 3, 16, 16)
    model(images)
    with pytest.warns(MixedActivations, match="also calls"):
        method(model, images, 1)


def test_poolings_and_norms_and_residuals_are_no_activations():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.ReLU(), nn.MaxPool2d(2), nn.BatchNorm2d(8), nn.Dropout(),
        nn.ConvTranspose2d(8, 8, 2), nn.InstanceNorm2d(8), nn.ReLU(), nn.AdaptiveMaxPool2d(2), nn.Flatten(),
        nn.LayerNorm(32), nn.Linear(32, 5),
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        guided_backprop(model, torch.randn(2, 3, 16, 16), 1)


def test_a_hardtanh_from_minus_one_is_no_relu():
    """Its lower limit is -1 unless told."""

    class Clipped(nn.Module):
        def forward(self, x):
            return F.hardtanh(x).flatten(1)

    with pytest.raises(ValueError, match="hardtanh"):
        guided_backprop(Clipped(), torch.randn(1, 3, 8, 8), 1)


def test_other_activations_keep_their_derivative(monkeypatch):
    """A ReLU and a GELU in one network: the rule is for the ReLU alone."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    images = torch.randn(2, 3, 8, 8)
    with pytest.warns(MixedActivations, match="gelu"):
        guided = guided_backprop(model, images, 1)
    assert close(guided, ruled_gradient(monkeypatch, model, images, 1, "guided"))


@pytest.mark.parametrize("part", [False, True])
def test_scripted_networks_are_refused(part):
    """Whole, or a part of a network that calls other ReLUs: never silently half the rule."""
    model, images = Rectified(nn.ReLU()).eval(), torch.rand(1, 3, 11, 11)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.trace(model, images)
    with pytest.raises(ValueError, match="scripted"):
        guided_backprop(nn.Sequential(nn.ReLU(), scripted) if part else scripted, images, 1)


def test_says_what_is_wrong(unchecked):
    model, images = GapNet(), torch.randn(1, 3, 16, 16)
    with pytest.raises(ValueError, match="expected 'gradient', 'guided' or 'deconvnet'"):
        input_gradient(model, images, 1, rule="relu")
    with pytest.raises(ValueError, match="from 0 to 4, got \\[5\\]"):
        guided_backprop(model, images, 5)
    model.fc.bias.data[0] = torch.inf
    with pytest.raises(ValueError, match="NaN or infinite"):
        guided_backprop(model, images, 1)


@pytest.mark.parametrize("frozen", [False, True])
def test_scores_that_do_not_depend_on_the_images(frozen):
    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(3))

        def forward(self, x):
            return self.bias.expand(len(x), 3) * 1

    with pytest.raises(ValueError, match="do not depend on its images"):
        input_gradient(Constant().requires_grad_(not frozen), torch.randn(1, 3, 8, 8), 1)


def test_a_network_made_in_inference_mode():
    with torch.inference_mode():
        model = GapNet()
    with pytest.raises(ValueError, match="was made under torch"):
        guided_backprop(model, torch.randn(1, 3, 16, 16), 1)
