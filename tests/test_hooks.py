import pytest
import torch
from networks import GapNet, assert_unchanged, snapshot
from torch import nn

from xailab.hooks import check_differentiable, eval_mode, find_layer, graph_from, recording, unwrapped


def test_records_what_the_layer_puts_out():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))
    x = torch.randn(5, 3)
    with recording(model, "0", model[2]) as outputs:
        result = model(x)
    assert torch.equal(outputs["0"], model[0](x)), "the in-place ReLU behind the layer changed the record"
    assert torch.equal(outputs["2"], result)
    assert list(outputs) == ["0", "2"]


def test_keeps_the_graph():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))
    with recording(model, "0") as outputs:
        model(torch.randn(5, 3))
    outputs["0"].sum().backward()
    assert model[0].weight.grad is not None


@pytest.mark.parametrize("failing", [False, True])
def test_leaves_no_trace(failing):
    model = GapNet().train()
    model.features[1].eval()  # mixed flags must come back as they were
    model.fc.weight.requires_grad_(False)
    model.fc.bias.grad = torch.ones(5)
    before = snapshot(model)
    try:
        with torch.no_grad(), eval_mode(model), recording(model, "features.3", "fc"):
            assert not any(module.training for module in model.modules())
            model(torch.randn(2, 3 - failing, 16, 16))
            assert not failing
    except RuntimeError:
        assert failing
    assert_unchanged(model, before)


def test_names_the_near_layers(unchecked):
    model = GapNet()
    with pytest.raises(ValueError, match=r"GapNet has no layer 'feature.3'.*features\.3"):
        find_layer(model, "feature.3")
    with pytest.raises(ValueError, match="features, pool, drop, fc"):
        find_layer(model, "zzz")
    with pytest.raises(ValueError, match="not part of the GapNet"):
        find_layer(model, nn.ReLU())
    with pytest.raises(TypeError, match="got int"):
        find_layer(model, 3)
    with pytest.raises(ValueError, match="has no layer"), recording(model, "fc", "nothing"):
        pass
    assert not model.fc._forward_hooks


@pytest.mark.parametrize(
    "compile_", [lambda m: torch.compile(m, backend="eager"), lambda m: m.compile(backend="eager") or m]
)
@pytest.mark.parametrize("ran", [False, True])
def test_a_compiled_network_is_run_as_it_was_before(compile_, ran):
    """Compiled code would call no hooks that come later, however it was compiled, and whether it ran already."""
    images = torch.randn(1, 3, 16, 16)
    model = GapNet().eval()
    expected = model.features(images)
    compiled = compile_(model)
    if ran:
        compiled(images)
    for name in ("features", "_orig_mod.features"):
        with recording(compiled, name) as outputs, torch.no_grad():
            compiled(images)
        assert torch.equal(outputs["features"], expected)
    with graph_from(compiled, "features") as activations:
        compiled(images)
    assert torch.equal(activations["features"], expected)


def test_output_must_be_a_tensor():
    class Pair(nn.Module):
        def forward(self, x):
            return x, x

    model = nn.Sequential(Pair())
    with pytest.raises(TypeError, match="returns tuple"), recording(model, "0"):
        model(torch.zeros(1))
    assert not model[0]._forward_hooks


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("frozen", [False, True])
def test_graph_from_the_layer_only(mode, frozen):
    model = GapNet().eval().requires_grad_(not frozen)
    images = torch.randn(2, 3, 16, 16)
    reference = model.features[:3](images).detach().requires_grad_()
    expected = model.fc(model.pool(model.features[3:](reference)).flatten(1))
    (gradient,) = torch.autograd.grad(expected[:, 1].sum(), reference)
    with mode():
        with graph_from(model, "features.2") as activations:
            scores = model(images)
            leaf = activations["features.2"]
            assert leaf.is_leaf and leaf.requires_grad and scores.requires_grad
            assert torch.allclose(torch.autograd.grad(scores[:, 1].sum(), leaf)[0], gradient, atol=1e-7)
            assert not any(parameter.grad is not None for parameter in model.parameters())
        assert torch.is_grad_enabled() == (mode is torch.enable_grad)
        assert torch.is_inference_mode_enabled() == (mode is torch.inference_mode)
    assert torch.allclose(scores, expected, atol=1e-6) and torch.allclose(leaf, reference, atol=1e-6)


def test_graph_from_several_layers():
    """The first is the leaf; the later one is on the graph behind it, and both can be differentiated for."""
    model = GapNet().eval()
    with graph_from(model, "features.4", "features.0") as activations:
        scores = model(torch.randn(2, 3, 16, 16))
        assert list(activations) == ["features.0", "features.4"]
        assert activations["features.0"].is_leaf and not activations["features.4"].is_leaf
        gradients = torch.autograd.grad(scores[:, 1].sum(), list(activations.values()))
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_graph_from_goes_on_with_copies():
    """An in-place ReLU behind the layer, or a hook of the user's, cannot change what was recorded."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(4 * 36, 2))
    images = torch.randn(2, 3, 8, 8)
    with graph_from(model, "0", "1") as activations:
        model(images)
    with torch.no_grad():
        assert torch.equal(activations["0"], model[0](images)) and (activations["0"] < 0).any()
        assert torch.equal(activations["1"], model[0](images).relu())


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad])
def test_graph_from_leaves_no_trace_after_an_exception(mode):
    model = GapNet().train()
    before = snapshot(model)
    with mode():
        with pytest.raises(KeyError), graph_from(model, "features.2"):
            model.eval()(torch.randn(2, 3, 16, 16))
            raise KeyError
        assert torch.is_grad_enabled() == (mode is torch.enable_grad)
    model.train()
    assert_unchanged(model, before)


def test_graph_from_refuses(unchecked):
    model = GapNet()
    with pytest.raises(ValueError, match="has no layer 'fd'"), graph_from(model, "fd"):
        pass

    class Pair(nn.Module):
        def forward(self, x):
            return x, x

    pair = nn.Sequential(Pair())
    with pytest.raises(TypeError, match="returns tuple"), graph_from(pair, "0"):
        pair(torch.zeros(1))
    assert not pair[0]._forward_hooks


@pytest.mark.parametrize("moved", [False, True])
def test_what_was_made_in_inference_mode_cannot_be_differentiated(moved):
    """Built there, or only brought to another precision there."""
    with torch.inference_mode(not moved):
        model = GapNet()
    if moved:
        with torch.inference_mode():
            model.double()
    with pytest.raises(ValueError, match=r"GapNet was made under torch\.inference_mode"):
        check_differentiable(model)
    check_differentiable(GapNet())


def test_a_buffer_made_in_inference_mode_counts_as_well():
    """Statistics of batch norm, say: autograd refuses to save them."""
    model = GapNet()
    with torch.inference_mode():
        model.features[1].running_mean = torch.zeros(8)
    with pytest.raises(ValueError, match=r"inference_mode"):
        check_differentiable(model)


def test_unwrapped():
    model = GapNet()
    assert unwrapped(model) is model and unwrapped(nn.DataParallel(model)) is model
    assert unwrapped(torch.nn.Sequential(model)) is not model


def test_graph_from_a_layer_that_hands_its_input_on():
    """What it puts out is the user's tensor: the leaf is a copy of it."""
    model = nn.Sequential(nn.Identity(), nn.Flatten(), nn.Linear(12, 2))
    images = torch.randn(2, 3, 2, 2)
    with graph_from(model, "0") as activations:
        model(images)
    assert activations["0"].requires_grad and not images.requires_grad
