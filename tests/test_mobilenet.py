"""MobileNet V1 against the exact counts of its paper's tables."""

import pytest
import torch
from torch import nn

from xailab.flops import count
from xailab.models.mobilenet import MobileNetV1

ALPHAS, SIZES = (1.0, 0.75, 0.5, 0.25), (224, 192, 160, 128)
# M MACs of the sixteen models at each size, then weights, then all parameters.
SIXTEEN = {
    1.0: ((568.740, 418.122, 290.675, 186.401), 4_209_088, 4_231_976),
    0.75: ((325.400, 239.273, 166.397, 106.770), 2_568_144, 2_585_560),
    0.5: ((149.497, 109.970, 76.525, 49.160), 1_319_648, 1_331_592),
    0.25: ((41.030, 30.213, 21.059, 13.570), 463_600, 470_072),
}


def cost(size=224, **options):
    with torch.device("meta"):
        model = MobileNetV1(**options)
    return count(model, (1, 3, size, size))


@pytest.mark.parametrize("alpha", ALPHAS)
def test_sixteen_models(alpha):
    expected, weights, params = SIXTEEN[alpha]
    tables = [cost(size, width=alpha) for size in SIZES]
    assert [int(t.macs / 1e3) / 1e3 for t in tables] == pytest.approx(expected, abs=1.01e-3)
    assert {t.weights for t in tables} == {weights}
    assert {t.params for t in tables} == {params}


def test_table_1():
    """28 layers, depthwise and pointwise counted apart; input sizes as printed."""
    table = cost()
    assert table.macs == 568_740_352
    assert len(table.rows) == 28
    assert [row.input_shape[-1] for row in table.rows if row.kind == "depthwise"] == [
        112, 112, 56, 56, 28, 28, 14, 14, 14, 14, 14, 14, 7,
    ]  # fmt: skip
    assert {kind: c.macs for kind, c in table.by_kind().items()} == {
        "convolution": 10_838_016, "depthwise": 17_385_984, "pointwise": 539_492_352, "linear": 1_024_000,
    }  # fmt: skip


def test_stride_2_on_the_last_depthwise_layer_would_be_wrong():
    model = MobileNetV1()
    model.block13.depthwise.stride = (2, 2)
    assert count(model, (1, 3, 224, 224)).macs / 1e6 == pytest.approx(533.8, abs=0.05)


def test_table_2():
    """Shares in percent of MACs and of weights; 1.19 % for the first convolution is the paper's misprint."""
    table = cost()
    shares = {k: (100 * c.macs / table.macs, 100 * c.params / table.weights) for k, c in table.by_kind().items()}
    assert {kind: (round(macs, 2), round(weights, 2)) for kind, (macs, weights) in shares.items()} == {
        "pointwise": (94.86, 74.59), "depthwise": (3.06, 1.06), "convolution": (1.91, 0.02), "linear": (0.18, 24.33),
    }  # fmt: skip


def test_table_4():
    full = cost(separable=False)
    assert (full.macs, full.weights) == (4_867_293_184, 29_281_120)
    assert int((full.macs - 1_024_000) / 1e6) == 4866


def test_table_5():
    shallow = cost(shallow=True)
    assert shallow.macs == 307_323_392
    assert round(shallow.weights / 1e6, 1) == 2.9


@pytest.mark.parametrize("size", [32, 45, 96])
@pytest.mark.parametrize("options", [{}, {"separable": False}, {"shallow": True}])
def test_forward_on_any_size(size, options):
    model = MobileNetV1(0.25, 10, **options).eval()
    with torch.no_grad():
        logits = model(torch.randn(2, 3, size, size))
    assert logits.shape == (2, 10)
    assert logits.isfinite().all()


def test_kaiming_keeps_the_signal():
    """Each convolution of a fresh network keeps its signal's size within a factor, depthwise ones too."""
    torch.manual_seed(0)
    model, sizes = MobileNetV1(0.5, 10), []

    def gain(module, inputs, output):
        sizes.append((output.square().mean() / inputs[0].square().mean()).item())

    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(gain)
    model(torch.randn(4, 3, 64, 64))
    assert all(0.5 < size < 6 for size in sizes), sizes
    assert len(sizes) == 27


def test_too_thin():
    with pytest.raises(ValueError, match=r"width must be at least 1/32, got 0.01"):
        MobileNetV1(0.01)
