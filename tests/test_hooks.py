import pytest
import torch
from networks import GapNet, assert_unchanged, snapshot
from torch import nn

from xailab.hooks import evaluating, find_layer, recording


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
        with torch.no_grad(), evaluating(model), recording(model, "features.3", "fc"):
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


def test_a_compiled_network_is_refused():
    """It would record nothing: what was compiled does not call hooks that come later."""
    model = torch.compile(GapNet(), backend="eager")
    with pytest.raises(ValueError, match="_orig_mod"), recording(model, "_orig_mod.fc"):
        pass


def test_output_must_be_a_tensor():
    class Pair(nn.Module):
        def forward(self, x):
            return x, x

    model = nn.Sequential(Pair())
    with pytest.raises(TypeError, match="returns tuple"), recording(model, "0"):
        model(torch.zeros(1))
    assert not model[0]._forward_hooks
