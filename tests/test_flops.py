"""The cost of convolutions against loops that count, published tables, torchvision and torch's own counter."""

import contextlib
import functools
import logging
import random
import threading
import warnings
import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torch.nn.utils.prune as prune
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import regnet

from xailab.flops import Cost, HookLeftOut, Rule, UncountedOperation, conv_cost, count, separable_cost
from xailab.models.mobilenet import MobileNetV1
from xailab.receptive_field import receptive_field


def multiplications(image, kernel, groups=1):
    """Convolve without padding by loops over lists; count every multiplication as it happens."""
    height, width = image.shape[1:]
    channels_out, per_group, k, _ = kernel.shape
    output = torch.zeros(channels_out, height - k + 1, width - k + 1)
    counter = 0
    for n in range(channels_out):
        first = n // (channels_out // groups) * per_group  # the first input channel of this filter's group
        for i in range(height - k + 1):
            for j in range(width - k + 1):
                for m in range(per_group):
                    for a in range(k):
                        for b in range(k):
                            output[n, i, j] += image[first + m, i + a, j + b] * kernel[n, m, a, b]
                            counter += 1
    assert torch.allclose(output, F.conv2d(image, kernel, groups=groups), atol=1e-4)
    return counter


class TestFormula:
    def test_worked_example(self):
        """6x6x5 -> 4x4x7: by formula, by the counter and by a loop that counts multiplications."""
        image = torch.randn(5, 6, 6)
        full, depthwise, pointwise = 5040, 720, 560
        assert multiplications(image, torch.randn(7, 5, 3, 3)) == full
        assert multiplications(image, torch.randn(5, 1, 3, 3), groups=5) == depthwise
        assert multiplications(torch.randn(5, 4, 4), torch.randn(7, 5, 1, 1)) == pointwise
        assert conv_cost(5, 7, 3, 4).macs == full
        assert conv_cost(5, 5, 3, 4, groups=5).macs == depthwise
        assert conv_cost(5, 7, 1, 4).macs == pointwise
        assert separable_cost(5, 7, 3, 4).macs == depthwise + pointwise == 1280
        assert count(nn.Conv2d(5, 7, 3), (1, 5, 6, 6)).macs == full
        pair = nn.Sequential(nn.Conv2d(5, 5, 3, groups=5), nn.Conv2d(5, 7, 1))
        assert [row.macs for row in count(pair, (1, 5, 6, 6)).rows] == [depthwise, pointwise]
        assert separable_cost(5, 7, 3, 4).macs / conv_cost(5, 7, 3, 4).macs == pytest.approx(1 / 7 + 1 / 9)

    def test_the_input_size_is_the_wrong_size(self):
        assert (conv_cost(5, 7, 3, 6).macs, separable_cost(5, 7, 3, 6).macs) == (11_340, 2_880)

    def test_table_3(self):
        """The layer 14 x 14 x 512 and what each step saves; parameters to the paper's two decimals."""
        full, separable = conv_cost(512, 512, 3, 14), separable_cost(512, 512, 3, 14)
        thin, small = separable_cost(384, 384, 3, 14), separable_cost(384, 384, 3, int(14 * 0.714 + 0.5))
        assert [c.macs for c in (full, separable, thin, small)] == [462_422_016, 52_283_392, 29_578_752, 15_091_200]
        assert [round(c.params / 1e6, 2) for c in (full, separable, thin, small)] == [2.36, 0.27, 0.15, 0.15]

    def test_bias_adds_parameters_only(self):
        assert conv_cost(3, 8, 3, 10, bias=True) == conv_cost(3, 8, 3, 10) + Cost(0, 8)
        assert separable_cost(3, 8, 3, 10, bias=True) == separable_cost(3, 8, 3, 10) + Cost(0, 3 + 8)

    def test_flops_are_twice_the_macs_and_costs_add_up(self):
        total = sum([conv_cost(3, 8, 3, 10), conv_cost(8, 4, 1, 10)])
        assert total == Cost(27 * 8 * 100 + 8 * 4 * 100, 27 * 8 + 32)
        assert total.flops == 2 * total.macs

    def test_one_and_three_dimensions(self):
        assert conv_cost(2, 3, (5,), (7,)) == Cost(2 * 3 * 5 * 7, 30)
        assert conv_cost(2, 3, 3, (4, 5, 6)) == Cost(2 * 3 * 27 * 120, 162)
        assert conv_cost(2, 3, (1, 7), 4).macs == 2 * 3 * 7 * 16
        assert separable_cost(2, 3, (3,), (4,)) == Cost(2 * 3 * 4 + 6 * 4, 12)

    @pytest.mark.parametrize(
        ("arguments", "groups", "message"),
        [
            ((0, 7, 3, 4), 1, "in_channels must be at least 1, got 0"),
            ((5, 7, 0, 4), 1, "kernel_size must be at least 1"),
            ((5, 7, 3, -1), 1, "output_size must be at least 1"),
            ((5, 7, 3, 4), 5, "groups=5 must divide in_channels=5 and out_channels=7"),
            ((5, 7, (3, 3), (4,)), 1, "as many dimensions"),
        ],
    )
    def test_impossible_layers(self, arguments, groups, message):
        with pytest.raises(ValueError, match=message):
            conv_cost(*arguments, groups=groups)

    @settings(max_examples=60, deadline=None)
    @given(st.data())
    def test_formula_and_counter_agree(self, data):
        integers = lambda low, high: data.draw(st.integers(low, high))  # noqa: E731
        groups, kernel, batch = integers(1, 4), integers(1, 5), integers(1, 3)
        channels_in, channels_out = groups * integers(1, 4), groups * integers(1, 4)
        stride, padding, dilation, bias = integers(1, 3), integers(0, 3), integers(1, 2), data.draw(st.booleans())
        size = integers(dilation * (kernel - 1) + 1, 24)
        layer = nn.Conv2d(channels_in, channels_out, kernel, stride, padding, dilation, groups, bias)
        table = count(layer, (batch, channels_in, size, size))
        output = layer(torch.zeros(1, channels_in, size, size)).shape[-1]
        cost = conv_cost(channels_in, channels_out, kernel, output, groups=groups, bias=bias)
        assert (table.macs, table.params) == (batch * cost.macs, cost.params)
        assert table.rows[0].params == cost.params
        assert table.rows[0].groups == groups


class TestIntensity:
    """FLOP per byte at the least float32 traffic, batch 1 (computed by hand in the lesson's notes)."""

    def test_layers_of_512_channels(self):
        def row(layer):
            return count(layer, (1, 512, 14, 14)).rows[0]

        full, depthwise, pointwise = (
            row(nn.Conv2d(512, 512, 3, padding=1, bias=False)),
            row(nn.Conv2d(512, 512, 3, padding=1, groups=512, bias=False)),
            row(nn.Conv2d(512, 512, 1, bias=False)),
        )
        assert full.bytes == 4 * (2 * 14 * 14 * 512 + 9 * 512 * 512)
        assert [round(r.intensity, 2) for r in (full, depthwise, pointwise)] == [90.32, 2.20, 55.50]

    def test_mobilenet(self):
        table = count(MobileNetV1(), (1, 3, 224, 224))
        rows = {kind: [r for r in table.rows if r.kind == kind] for kind in table.by_kind()}
        intensity = {kind: sum(r.flops for r in rs) / sum(r.bytes for r in rs) for kind, rs in rows.items()}
        assert {kind: round(value, 2) for kind, value in intensity.items()} == {
            "convolution": 9.80, "depthwise": 1.73, "pointwise": 34.67, "linear": 0.50,
        }  # fmt: skip
        assert round(table.intensity, 2) == 19.75
        assert sum(r.bytes for r in rows["depthwise"]) / table.bytes == pytest.approx(0.35, abs=0.005)

    def test_half_precision_halves_the_traffic(self):
        layer = nn.Conv2d(8, 8, 3, bias=False)
        single = count(layer, (1, 8, 9, 9))
        assert 2 * count(layer.half(), (1, 8, 9, 9)).bytes == single.bytes

    def test_an_expanded_tensor_is_read_once(self):
        class Product(nn.Module):
            def forward(self, a, b):
                return torch.bmm(a, b.expand(5, -1, -1))

        row = count(Product(), (5, 2, 3), (1, 3, 4)).rows[0]
        assert row.bytes == 4 * (5 * 2 * 3 + 3 * 4 + 5 * 2 * 4)


@pytest.fixture
def regnet_on_meta(monkeypatch):
    """RegNet's constructor looks at numbers, which a network built on the meta device has not."""
    original = regnet.BlockParams.from_init_params.__func__

    def on_cpu(cls, *args, **kwargs):
        with torch.device("cpu"):
            return original(cls, *args, **kwargs)

    monkeypatch.setattr(regnet.BlockParams, "from_init_params", classmethod(on_cpu))


def on_meta(name, size):
    options = {"weights": None}
    if name == "googlenet":
        options["aux_logits"] = False  # the published weights have no auxiliary heads
    if name.startswith("vit"):
        options["image_size"] = size
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return torchvision.models.get_model(name, **options)


ONE_OF_EACH = {
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "maxvit_t", "mnasnet0_5", "mobilenet_v2",
    "mobilenet_v3_small", "regnet_y_400mf", "resnet18", "resnext50_32x4d", "shufflenet_v2_x0_5", "squeezenet1_0",
    "swin_t", "swin_v2_t", "vgg11_bn", "vit_b_16",
}  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in ONE_OF_EACH else pytest.mark.slow)
        for name in torchvision.models.list_models(module=torchvision.models)
    ],
)
def test_torchvision(name, regnet_on_meta):
    """Every published classification network: MACs to three decimals, parameters exactly, nothing unknown."""
    tables = {}
    for weights in torchvision.models.get_model_weights(name):
        size = weights.transforms().crop_size[0]
        if size not in tables:
            tables[size] = count(on_meta(name, size), (1, 3, size, size))
        table = tables[size]
        assert round(table.macs / 1e9, 3) == weights.meta["_ops"], weights
        assert table.params == weights.meta["num_params"], weights
        assert not table.unknown
    assert tables


@pytest.mark.parametrize(
    "name",
    ["resnet18", "mobilenet_v2", "convnext_tiny", "vit_b_16"]
    + [pytest.param(name, marks=pytest.mark.slow) for name in ("swin_t", "maxvit_t", "densenet121", "regnet_y_400mf")],
)
def test_torch_counter(name, regnet_on_meta):
    """Agreement with torch's own counter, whose "flop" is a true FLOP, to the last digit."""
    model = on_meta(name, 224).eval()
    with FlopCounterMode(display=False) as counter:
        model(torch.empty(2, 3, 224, 224, device="meta"))
    assert count(model, (2, 3, 224, 224)).flops == counter.get_total_flops()


def call(function):
    """A module that calls a function."""
    module = nn.Module()
    module.forward = function
    return module


class TestMatrixProducts:
    a, b = (2, 3, 4), (2, 4, 5)

    @pytest.mark.parametrize(
        ("function", "shapes", "macs"),
        [
            (torch.mm, [(3, 4), (4, 5)], 60),
            (torch.bmm, [a, b], 120),
            (torch.matmul, [(7, 2, 3, 4), (4, 5)], 7 * 2 * 60),
            (torch.matmul, [(7, 1, 3, 4), (2, 4, 5)], 7 * 2 * 60),
            (torch.matmul, [(4,), (4,)], 4),
            (torch.mv, [(3, 4), (4,)], 12),
            (torch.dot, [(9,), (9,)], 9),
            (torch.addmm, [(5,), (3, 4), (4, 5)], 60),
            (torch.addmv, [(3,), (3, 4), (4,)], 12),
            (torch.baddbmm, [(2, 3, 5), a, b], 120),
            (torch.addbmm, [(3, 5), a, b], 120),
            (F.linear, [(2, 3, 4), (5, 4), (5,)], 120),
            (lambda a, b: torch.einsum("bij,bjk->bik", a, b), [a, b], 120),
            (lambda a, b: torch.einsum("bij,bjk->", a, b), [a, b], None),
            (lambda a, b: torch.tensordot(a, b, 1), [(2, 3, 4), (4, 5)], 120),
            (lambda a, b: a @ b, [(3, 4), (4, 5)], 60),
            (lambda a, b: torch.linalg.multi_dot([a, b]), [(3, 4), (4, 5)], 60),
            (F.conv1d, [(2, 3, 9), (4, 3, 3)], 2 * 4 * 7 * 9),
            (F.conv2d, [(3, 9, 9), (4, 3, 3, 3)], 4 * 49 * 27),
            (F.conv3d, [(1, 3, 5, 5, 5), (4, 3, 3, 3, 3)], 4 * 27 * 81),
            (F.conv_transpose2d, [(1, 3, 5, 5), (3, 4, 3, 3)], 3 * 25 * 4 * 9),
            (lambda x, w: F.conv_transpose2d(x, w, stride=2, groups=3), [(2, 6, 5, 5), (6, 4, 3, 3)], 2 * 6 * 25 * 36),
        ],
    )
    def test_by_hand(self, function, shapes, macs):
        table = count(call(function), *shapes)
        if macs is None:  # a full contraction may be split in several ways; none of them is free
            macs = table.macs
            assert macs > 0
        assert table.macs == macs
        assert not table.unknown

    def test_lstm(self):
        """Four gates from the input and from the state, for each step of each sequence."""
        assert count(nn.LSTM(6, 8), (5, 2, 6)).macs == 5 * 2 * 4 * (6 * 8 + 8 * 8)


class TestAttention:
    batch, heads, queries, keys, width, value_width = 2, 3, 5, 7, 8, 4
    macs = batch * heads * queries * keys * (width + value_width)

    def shapes(self, heads=None):
        b, h = self.batch, heads or self.heads
        query = (b, self.heads, self.queries, self.width)
        return query, (b, h, self.keys, self.width), (b, h, self.keys, self.value_width)

    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"dropout_p": 0.1},
            {"scale": 2.0},
            {"is_causal": True},
            {"attn_mask": torch.zeros(5, 7)},
            {"attn_mask": torch.ones(5, 7, dtype=torch.bool)},
        ],
    )
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
    def test_variants(self, options, dtype):
        function = call(lambda q, k, v, **kw: F.scaled_dot_product_attention(q, k, v, **kw))
        table = count(function, *(torch.zeros(s, dtype=dtype) for s in self.shapes()), **{
            name: value.to(dtype) if name == "attn_mask" and value.is_floating_point() else value
            for name, value in options.items()
        })  # fmt: skip
        assert table.macs == self.macs
        assert [row.kind for row in table.rows] == ["attention"]

    def test_grouped_queries(self):
        function = call(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, enable_gqa=True))
        assert count(function, *self.shapes(heads=1)).macs == self.macs

    @pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad, torch.inference_mode])
    def test_under_any_mode(self, mode):
        def forward(q, k, v):
            with torch.inference_mode(False), mode():
                return F.scaled_dot_product_attention(q.clone(), k.clone(), v.clone())

        assert count(call(forward), *self.shapes()).macs == self.macs

    @pytest.mark.parametrize("training", [True, False])
    @pytest.mark.parametrize("need_weights", [True, False])
    def test_multi_head(self, training, need_weights):
        """Four projections of width 8 and the attention, on every path through torch's module."""
        layer = nn.MultiheadAttention(8, 2, batch_first=True).train(training)
        table = count(layer, (3, 5, 8), (3, 6, 8), (3, 6, 8), need_weights=need_weights)
        assert table.macs == 3 * ((5 + 6 + 6 + 5) * 64 + 2 * 5 * 6 * 8)
        assert table.params == sum(p.numel() for p in layer.parameters())
        assert table.weights == 4 * 64  # the slices of in_proj_weight are one parameter

    def test_transformer_encoder(self):
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()  # has a fused path in evaluation
        assert count(layer, (3, 5, 8)).macs == 3 * (4 * 5 * 64 + 2 * 5 * 5 * 8 + 2 * 5 * 8 * 16)


class TestUnknown:
    def test_fft_is_named(self):
        model = nn.Sequential(nn.Conv2d(1, 1, 3), call(torch.fft.rfft2))
        with pytest.warns(UncountedOperation, match="aten::_fft_r2c"):
            table = count(model, (1, 1, 8, 8))
        assert table.unknown == {"aten::_fft_r2c": ("1",)}
        assert table.macs == 9 * 36
        assert "not counted, cost unknown: aten::_fft_r2c in 1" in str(table)
        assert "aten::_fft_r2c" in table._repr_html_()

    def test_custom_operation_is_named(self):
        @torch.library.custom_op("xailab_test::secret", mutates_args=())
        def secret(x: torch.Tensor) -> torch.Tensor:
            return x @ x

        secret.register_fake(torch.empty_like)
        with pytest.warns(UncountedOperation, match=r"xailab_test::secret \(2 times\)"):
            table = count(call(lambda x: secret(secret(x))), (4, 4))
        assert table.unknown == {"xailab_test::secret": ("", "")}

    @pytest.mark.parametrize(
        "function", [torch.linalg.inv, torch.linalg.svd, lambda x: torch.cdist(x, x), torch.linalg.solve_triangular]
    )
    def test_linear_algebra_is_named(self, function):
        solve = function is torch.linalg.solve_triangular
        model = call((lambda x: function(x, x, upper=True)) if solve else function)
        with pytest.warns(UncountedOperation):
            assert count(model, (4, 4)).unknown

    def test_cheap_operations_are_free_and_silent(self):
        def forward(x):
            x = F.hardswish(F.gelu(F.relu(x, inplace=True)), inplace=True) * torch.ones(8)
            x = x + x.mean((2, 3), keepdim=True)
            x = F.group_norm(F.layer_norm(F.batch_norm(x, None, None, training=True), [8]), 2)
            x = F.max_pool2d(F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), 2), 2).softmax(1)
            x = F.interpolate(x, scale_factor=2, mode="bilinear").flatten(1).roll(1, 1)
            return torch.cat([x.sort(1).values, x.cumsum(1), x.var(1, keepdim=True), F.dropout(x)], 1)[:, ::2].topk(3)

        with warnings.catch_warnings():
            warnings.simplefilter("error", UncountedOperation)
            table = count(call(forward), (2, 4, 8, 8))
        assert table.macs == 0 == table.flops
        assert table.intensity == 0.0


def state(model):
    """All that counting could leave behind, values included."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_state_dict_hooks")
    return {
        "values": {k: v.clone() for k, v in model.state_dict().items()},
        "identity": [id(t) for t in (*model.parameters(), *model.buffers())],
        "versions": [t._version for t in (*model.parameters(), *model.buffers())],
        "requires_grad": [p.requires_grad for p in model.parameters()],
        "grads": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        "training": [m.training for m in model.modules()],
        "hooks": [{name: list(getattr(m, name)) for name in hooks} for m in model.modules()],
        "attributes": [sorted(vars(m)) for m in model.modules()],
    }


def assert_same(before, after):
    for name in ("identity", "versions", "requires_grad", "training", "hooks", "attributes"):
        assert before[name] == after[name], name
    torch.testing.assert_close(before["values"], after["values"], rtol=0, atol=0)
    for a, b in zip(before["grads"], after["grads"], strict=True):
        assert (a is None) == (b is None) and (a is None or torch.equal(a, b))


class TestNoTrace:
    @pytest.fixture
    def model(self):
        """In every mixture of states that a reader may be in the middle of."""
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten(), nn.Linear(64, 2))
        model(torch.randn(2, 3, 6, 6)).sum().backward()
        model[1].eval()
        model[0].weight.requires_grad_(False)
        self.calls = []
        model[0].register_forward_hook(lambda *_: self.calls.append("forward"))
        model[4].register_forward_pre_hook(lambda *_: self.calls.append("pre"))
        return model

    def test_counting(self, model):
        before = state(model)
        assert count(model, (2, 3, 6, 6)).macs == 2 * (27 * 4 * 16 + 64 * 2)
        assert_same(before, state(model))
        assert self.calls == []

    def test_after_an_exception(self, model):
        before = state(model)
        with pytest.raises(ValueError, match=r"cannot be counted in 4: .*\(2, 3, 9, 9\)"):
            count(model, (2, 3, 9, 9))
        assert_same(before, state(model))
        assert torch.zeros(1).device.type == "cpu"
        assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()

    def test_training_mode_is_counted_as_evaluation(self):
        """Batch norm of one value for each channel refuses to train; auxiliary heads run in training only."""
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train()
        assert count(model, (1, 3, 3, 3)).macs == 27 * 4
        assert model.training

    def test_the_inputs(self):
        images = torch.randn(1, 3, 8, 8, requires_grad=True)
        copy = images.detach().clone()
        count(call(lambda x: F.relu(x.mul_(2), inplace=True)), images)
        assert torch.equal(images, copy)

    def test_tensors_outside_the_registry(self):
        """Plain attributes, computed tensors and modules hidden in a list come along without their numbers."""
        model = nn.Linear(4, 4)
        model.scale, model.computed, model.hidden = torch.ones(4), model.weight * 2, [nn.Linear(4, 2)]
        model.forward = lambda x: x  # replaced below by a method that sees the copy
        del model.forward

        class Odd(nn.Linear):
            def forward(self, x):
                return self.hidden[0](super().forward(x * self.scale) @ self.computed)

        model.__class__ = Odd
        assert count(model, (3, 4)).macs == 3 * (16 + 16 + 8)
        assert model.scale.device.type == model.computed.device.type == model.hidden[0].weight.device.type == "cpu"

    def test_weight_norm(self):
        layer = torch.nn.utils.parametrizations.weight_norm(nn.Linear(4, 5, bias=False))
        assert count(layer, (2, 4)).macs == 40


ACTIVATIONS = {}
LAST = None


class Decoder(nn.Module):
    """A network that reads what a hook took inside another one, as DPT does; subclasses say how."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 6, 3), nn.Conv2d(6, 5, 3))
        self.head, self.kept = nn.Conv2d(6, 2, 1), {}
        self.body[1].register_forward_hook(self.hook())

    def forward(self, x):
        self.body(x)
        return self.head(self.read())

    def read(self):
        return self.kept.pop("1")


class ByClosure(Decoder):
    def hook(self):
        return lambda module, inputs, output: self.kept.__setitem__("1", output)


class ByMethod(Decoder):
    def hook(self):
        return self.keep

    def keep(self, module, inputs, output):
        self.kept["1"] = output


class ByPartial(Decoder):
    def hook(self):
        return functools.partial(self.keep, "1")

    def keep(self, name, module, inputs, output):
        self.kept[name] = output


class ByDefault(Decoder):
    def hook(self):
        def hook(module, inputs, output, *, kept=self.kept):
            kept.update({"1": output})

        return hook


class ByWeakReference(Decoder):
    def hook(self):
        owner = weakref.ref(self)
        return lambda module, inputs, output: owner().kept.update({"1": output})


class ByObject(Decoder):
    class Keeper:
        __slots__ = ("lock", "output")

        def __init__(self):
            self.lock = threading.Lock()

        def __call__(self, module, inputs, output):
            with self.lock:
                self.output = output

    def hook(self):
        self.keeper = self.Keeper()
        return self.keeper

    def read(self):
        return self.keeper.output


class ByAttribute(Decoder):
    def hook(self):
        return lambda module, inputs, output: setattr(module, "output", output)

    def read(self):
        return self.body[1].output


class ByGlobalDict(Decoder):
    def hook(self):
        def hook(module, inputs, output):
            ACTIVATIONS["1"] = output

        return hook

    def read(self):
        return ACTIVATIONS["1"]


class ByGlobalDictInside(ByGlobalDict):
    def hook(self):
        self.kept = ACTIVATIONS
        return super().hook()

    def read(self):
        return self.kept["1"]


class ByGlobalName(Decoder):
    def hook(self):
        def hook(module, inputs, output):
            global LAST
            LAST = output

        return hook

    def read(self):
        return LAST


class ByBuiltin(Decoder):
    def hook(self):
        self.outputs = []
        append = self.outputs.append
        return lambda module, inputs, output: append(output)

    def read(self):
        return self.outputs[-1]


def by_enclosing_variable():
    last = None

    class Enclosed(Decoder):
        def hook(self):
            def hook(module, inputs, output):
                nonlocal last
                last = output

            return hook

        def read(self):
            return last

    return Enclosed()


class Enough(Exception):
    """Raised by a hook that has all that it needs."""


class Early(Decoder):
    def hook(self):
        def hook(module, inputs, output):
            self.kept["1"] = output
            raise Enough

        return hook

    def forward(self, x):
        with contextlib.suppress(Enough):
            self.body(x)
        return self.head(self.read())


class TestHooks:
    ways = (ByClosure, ByMethod, ByPartial, ByDefault, ByWeakReference, ByObject, ByAttribute, ByGlobalDict,
            ByGlobalDictInside, ByGlobalName, ByBuiltin, by_enclosing_variable, Early)  # fmt: skip

    @pytest.mark.parametrize("make", ways)
    def test_a_network_reads_what_its_hooks_took(self, make):
        ACTIVATIONS.clear()
        model = make().eval()
        expected = FlopCounterMode(display=False)
        with torch.no_grad(), expected:
            model(torch.zeros(2, 3, 16, 16))
        real = {id(t): t.clone() for t in ACTIVATIONS.values()}
        assert count(model, (2, 3, 16, 16)).flops == expected.get_total_flops()
        assert {id(t) for t in ACTIVATIONS.values()} == set(real), "counting wrote into a global of the hook"
        assert LAST is None or LAST.device.type == "cpu"
        with torch.no_grad():
            model(torch.zeros(2, 3, 16, 16))

    def test_hooks_that_change_what_passes(self):
        layer = nn.Conv2d(3, 8, 3)
        layer.register_forward_pre_hook(lambda module, inputs: (F.pad(inputs[0], (1, 1, 1, 1)),))
        assert count(layer, (1, 3, 16, 16)).macs == 16 * 16 * 8 * 27
        layer.register_forward_pre_hook(lambda m, args, kw: ((args[0][..., 2:],), kw), with_kwargs=True)
        layer.register_forward_hook(lambda module, inputs, output: F.interpolate(output, scale_factor=2))
        table = count(nn.Sequential(layer, nn.Conv2d(8, 1, 1)), (1, 3, 16, 16))
        assert [row.macs for row in table.rows] == [16 * 14 * 8 * 27, 32 * 28 * 8]

    def test_products_in_hooks_belong_to_their_module(self):
        model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
        model[1].register_forward_hook(lambda module, inputs, output: output @ output.mT)
        assert [(row.module, row.macs) for row in count(model, (3, 4)).rows] == [("0", 48), ("1", 36)]

    def test_hooks_that_look_at_values_are_left_out_and_told(self):
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))
        means = []
        for layer in model:
            layer.register_forward_hook(lambda module, inputs, output: means.append(output.mean().item()))
        with pytest.warns(HookLeftOut, match=r"2 hooks of the network \(at 0, 1\)"):
            table = count(model, (1, 3, 8, 8))
        assert table.macs == 36 * 4 * 27 + 16 * 4 * 36
        assert means == []

    def test_hooks_of_gradients_have_nothing_to_do(self):
        model = nn.Conv2d(3, 4, 3)
        model.register_full_backward_hook(lambda *_: pytest.fail("no gradient flows"))
        model.register_full_backward_pre_hook(lambda *_: pytest.fail("no gradient flows"))
        assert count(model, (1, 3, 8, 8)).macs == 36 * 4 * 27


class Twice(nn.Module):
    def forward(self, weight):
        return 2 * weight


def parametrised(kind):
    """A convolution whose weight of 8 x 3 x 3 x 3 is computed in each forward pass."""
    layer = nn.Conv2d(3, 8, 3)
    if kind == "own":
        nn.utils.parametrize.register_parametrization(layer, "weight", Twice())
    elif kind == "pruning":
        prune.l1_unstructured(layer, "weight", 0.5)
    elif kind.startswith("old"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            getattr(nn.utils, kind.removeprefix("old "))(layer)
    else:
        getattr(nn.utils.parametrizations, kind)(layer)
    return layer


class TestComputedWeights:
    @pytest.mark.parametrize(
        ("kind", "params", "more"),
        [
            ("own", 216 + 8, 0),
            ("pruning", 216 + 8, 0),
            ("old weight_norm", 216 + 8 + 8, 0),
            ("weight_norm", 216 + 8 + 8, 0),
            ("old spectral_norm", 216 + 8, 216 + 8),  # the norm is u^T W v, and computed anew in each pass
            ("spectral_norm", 216 + 8, 216 + 8),
        ],
    )
    def test_weights_of_a_convolution(self, kind, params, more):
        layer = parametrised(kind)
        table = count(layer, (1, 3, 16, 16))
        assert table.macs == 14 * 14 * 216 + more
        assert (table.weights, table.params, table.rows[-1].weights) == (216, params, 216)
        assert table.rows[-1].params == params
        twice = count(nn.Sequential(layer, nn.Conv2d(8, 3, 1), layer), (1, 3, 16, 16))
        assert twice.weights == 216 + 24
        total = twice.table()
        assert total.total[total.header.index("params")] == f"{params + 27:,}"

    def test_weights_made_in_the_forward_pass(self):
        class LowRank(nn.Module):
            def __init__(self):
                super().__init__()
                self.base, self.down, self.up = (nn.Parameter(torch.ones(n)) for n in ((8, 6), (2, 6), (8, 2)))

            def forward(self, x):
                return F.linear(x, self.base + self.up @ self.down)

        class Joined(nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.b = nn.Linear(4, 3), nn.Linear(4, 5)

            def forward(self, x):
                return F.linear(x, torch.cat([self.a.weight, self.b.weight]).half().float())

        table = count(LowRank(), (4, 6))
        assert [(row.macs, row.weights) for row in table.rows] == [(8 * 2 * 6, 16 + 12), (4 * 48, 48)]
        assert table.weights == 48 + 16 + 12
        table = count(Joined(), (2, 4))
        assert (table.weights, table.rows[0].weights, table.rows[0].parameters) == (32, 32, ("a.weight", "b.weight"))

    def test_weights_that_depend_on_the_input_are_none(self):
        class Dynamic(nn.Linear):
            def forward(self, x):
                return F.linear(x, self.weight * x.mean())

        assert count(Dynamic(4, 4, bias=False), (2, 4)).weights == 0

    def test_autocast(self):
        class Cast(nn.Linear):
            def forward(self, x):
                with torch.autocast("cpu", torch.bfloat16):
                    return super().forward(x)

        assert count(Cast(4, 5), (2, 4)).weights == 20

    def test_a_recurrent_layer(self):
        layer = nn.utils.parametrizations.weight_norm(nn.LSTM(6, 8), "weight_hh_l0")
        assert count(layer, (5, 2, 6)).weights == 4 * 8 * (6 + 8)


class TestWrapped:
    @pytest.mark.parametrize("wrap", [nn.DataParallel, lambda n: torch.compile(n, backend="eager")])
    @pytest.mark.parametrize("inside", [False, True])
    def test_as_the_network_inside(self, wrap, inside):
        network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1))
        wrapped = wrap(network)
        if isinstance(wrapped, nn.DataParallel):  # as it is made on a computer with GPUs
            wrapped.device_ids, wrapped.output_device, wrapped.src_device_obj = [0, 1], 0, torch.device("cuda:0")
        alone = count(network, (2, 3, 8, 8))
        table = count(nn.Sequential(wrapped) if inside else wrapped, (2, 3, 8, 8))
        assert (table.macs, table.params, table.weights) == (alone.macs, alone.params, alone.weights)
        if not inside:
            assert table.rows == alone.rows

    def test_distributed(self):
        import torch.distributed as dist

        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        try:
            network = nn.parallel.DistributedDataParallel(nn.Conv2d(3, 4, 3))
            for model in (network, nn.Sequential(network)):
                assert count(model, (1, 3, 8, 8)).macs == 36 * 4 * 27
        finally:
            dist.destroy_process_group()

    def test_compiled_in_place_and_functions(self):
        model = nn.Sequential(nn.Conv2d(3, 4, 3), call(torch.compile(lambda x: x @ x, backend="eager")))
        model[0].compile(backend="eager")
        assert count(model, (1, 3, 8, 8)).macs == 36 * 4 * 27 + 4 * 6**3

    def test_a_scripted_part(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            part = torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout()))
        table = count(nn.Sequential(part, nn.Conv2d(4, 2, 1)), (1, 3, 8, 8))
        assert (table.macs, table.weights) == (36 * 4 * 27 + 36 * 8, 108 + 8)
        assert part.training


class TestAttributes:
    """What cannot be copied is no obstacle, and what a forward pass changes stays as it was."""

    def test_odd_attributes(self):
        layer = nn.Conv2d(3, 4, 3)
        layer.noise, layer.lock, layer.event = torch.Generator(), threading.RLock(), threading.Event()
        layer.log, layer.steps, layer.library = logging.getLogger("x"), (i for i in range(3)), torch
        layer.local, layer.context, layer.table = threading.local(), torch.no_grad(), np.ones(3)
        with open(__file__, encoding="utf-8") as layer.file:
            assert count(layer, (1, 3, 8, 8)).macs == 36 * 4 * 27

    def test_random_numbers_of_a_generator(self):
        class Noisy(nn.Linear):
            def forward(self, x):
                noise = torch.randn(x.shape, generator=self.noise) + torch.empty_like(x).normal_(generator=self.noise)
                return super().forward(x + noise)

        layer = Noisy(4, 5)
        layer.noise = torch.Generator().manual_seed(0)
        before = layer.noise.get_state()
        assert count(layer, (2, 4)).macs == 40
        assert torch.equal(layer.noise.get_state(), before)

    def test_the_forward_pass_changes_the_copy_only(self):
        class Counting(nn.Linear):
            def forward(self, x):
                self.calls += 1
                self.seen.append(x)
                self.settings["last"] = x
                self.numbers[0] += 1
                self.inner.value = x
                self.numbers[0] += self.random.random() + self.generator.random()
                return super().forward(x)

        layer = Counting(4, 5)
        layer.calls, layer.seen, layer.settings, layer.numbers = 0, [], {}, np.zeros(1)
        layer.inner = type("Inner", (), {"value": None})()
        layer.random, layer.generator = random.Random(0), np.random.default_rng(0)
        count(layer, (2, 4))
        assert (layer.calls, layer.seen, layer.settings, layer.numbers[0], layer.inner.value) == (0, [], {}, 0, None)
        assert layer.random.random() == random.Random(0).random()
        assert layer.generator.random() == np.random.default_rng(0).random()

    def test_modules_and_constants_outside_the_network(self):
        outside = nn.Linear(4, 3)
        scale = torch.ones(4)
        assert count(call(lambda x: outside(x * scale)), (2, 4)).macs == 24
        steps = call(lambda x: sum(x @ x for _ in torch.tensor([1, 2]).tolist()))
        assert count(steps, (4, 4)).macs == 2 * 64
        assert outside.weight.device.type == scale.device.type == "cpu"

    def test_very_deep_networks(self):
        chain = None
        for _ in range(5000):
            chain = {"before": chain}
        layer = nn.Linear(4, 5)
        layer.chain = chain
        assert count(layer, (2, 4)).macs == 40


class TestRules:
    def test_an_operation_of_ones_own(self):
        @torch.library.custom_op("xailab_test::mixer", mutates_args=())
        def mixer(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
            return x @ w

        mixer.register_fake(lambda x, w: x.new_empty(x.shape[0], w.shape[1]))

        class Mixer(nn.Module):
            def __init__(self):
                super().__init__()
                self.weight = nn.Parameter(torch.ones(4, 5))

            def forward(self, x):
                return mixer(x, self.weight)

        def macs(out, x, w):
            return out.numel() * x.shape[1]

        for key in ("xailab_test::mixer", mixer, torch.ops.xailab_test.mixer, torch.ops.xailab_test.mixer.default):
            table = count(Mixer(), (3, 4), rules={key: macs})
            assert not table.unknown
            (row,) = table.rows
            assert (row.kind, row.macs, row.weights, row.input_shape, row.weight_shape) == (
                "mixer",
                60,
                20,
                (3, 4),
                (4, 5),
            )
        assert count(Mixer(), (3, 4), rules={mixer: Rule("product", macs, (1, 0))}).rows[0].kind == "product"

    def test_overriding(self):
        """A rule comes before those of the library, and before an operation is taken apart."""
        layer = nn.Conv2d(3, 4, 3)
        assert count(layer, (1, 3, 8, 8), rules={"convolution": lambda out, *_: out.numel()}).macs == 36 * 4
        einsum = call(lambda a, b: torch.einsum("ij,jk->ik", a, b))
        assert count(einsum, (2, 3), (3, 4)).macs == 24
        assert count(einsum, (2, 3), (3, 4), rules={"aten::einsum": lambda out, *_: 7}).macs == 7
        table = count(call(torch.fft.rfft2), (1, 1, 8, 8), rules={"aten::_fft_r2c": lambda out, x, *_: 0})
        assert (table.macs, table.unknown, table.rows[0].weight_shape) == (0, {}, (1, 1, 8, 8)[:0])
        assert count(layer, (1, 3, 8, 8)).macs == 36 * 4 * 27

    def test_what_is_no_rule(self, unchecked):
        with pytest.raises(TypeError, match=r"rules\['aten::mm'\] must be a Rule or a function"):
            count(nn.Linear(2, 2), (1, 2), rules={"mm": 3})
        with pytest.raises(TypeError, match="operations by name"):
            count(nn.Linear(2, 2), (1, 2), rules={nn.Linear: lambda *_: 3})


class TestInputs:
    def test_tensors_shapes_and_nests(self):
        model = call(lambda pair, *, scale: pair["a"] @ pair["b"] * scale)
        assert count(model, {"a": torch.ones(2, 3), "b": torch.ones(3, 4)}, scale=2.0).macs == 24

    def test_indices_are_given_as_a_tensor(self):
        model = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 3))
        assert count(model, torch.zeros(2, 5, dtype=torch.long)).macs == 2 * 5 * 12

    def test_a_network_on_the_meta_device(self):
        with torch.device("meta"):
            model = nn.Linear(10**5, 10**5)
        assert count(model, (1, 10**5)).macs == 10**10

    def test_no_module(self):
        with pytest.raises(TypeError):
            count(lambda x: x, (1,))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            scripted = torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2))
        with pytest.raises(TypeError, match=r"a torch.nn.Module that is not scripted, got TopLevelTracedModule"):
            count(scripted, (1, 2))

    def test_a_look_at_the_numbers(self):
        with pytest.raises(ValueError, match="meta device, where tensors have no content"):
            count(call(lambda x: x if x.sum() > 0 else -x), (3,))

    @pytest.mark.filterwarnings("ignore")  # torch's own, of its quantisation
    def test_quantised_layers(self):
        model = torchvision.models.quantization.mobilenet_v2(weights=None, quantize=True).eval()
        for run in (lambda: count(model, (1, 3, 32, 32)), lambda: receptive_field(model, "features.2", 32)):
            with pytest.raises(ValueError, match=r"is quantised .*give the floating-point network"):
                run()
        floating = torchvision.models.quantization.mobilenet_v2(weights=None, quantize=False).eval()
        assert count(floating, (1, 3, 224, 224)).macs == count(on_meta("mobilenet_v2", 224), (1, 3, 224, 224)).macs

    def test_errors_list_all_inputs(self):
        class Masked(nn.Module):
            def forward(self, x=None, mask=None):
                return x if mask.all() else -x

        with pytest.raises(ValueError, match=r"x=\(1, 3\) float32, mask=\(1, 3\) bool$"):
            count(Masked(), x=(1, 3), mask=torch.ones(1, 3, dtype=torch.bool))
        with pytest.raises(ValueError, match=r"\{'a': \(2, 3\) float32\}, 'word', scale=2$"):
            count(call(lambda pair, word, scale: pair["b"]), {"a": torch.ones(2, 3)}, "word", scale=2)
        with pytest.raises(ValueError, match=r"in 0: .*indices.* \(2, 5\) float32"):
            count(nn.Sequential(nn.Embedding(10, 4)), (2, 5))

    def test_lazy_layers(self):
        with pytest.raises(ValueError, match="lazy layers"):
            count(nn.LazyLinear(3), (1, 4))

    def test_compiled(self):
        assert count(torch.compile(nn.Linear(4, 5)), (2, 4)).macs == 40


class TestTable:
    @pytest.fixture
    def table(self):
        with torch.device("meta"):
            return count(MobileNetV1(), (1, 3, 224, 224))

    def test_rows(self, table):
        row = table.rows[1]
        assert (row.module, row.kind, row.groups) == ("block1.depthwise", "depthwise", 32)
        assert (row.input_shape, row.weight_shape) == ((1, 32, 112, 112), (32, 1, 3, 3))
        assert (row.output_shape, row.output_elements) == ((1, 32, 112, 112), 32 * 112 * 112)
        assert (row.macs, row.flops, row.params, row.weights) == (3_612_672, 7_225_344, 288, 288)
        assert [r.kind for r in table.rows] == ["convolution", *["depthwise", "pointwise"] * 13, "linear"]

    @pytest.mark.parametrize("depth", [None, 0, 1, 2, 9])
    def test_columns_sum_to_the_totals(self, table, depth):
        shown = table.table(depth)
        totals = {"MACs": table.macs, "FLOPs": table.flops, "params": table.params, "bytes": table.bytes}
        for title, total in totals.items():
            column = shown.header.index(title)
            numbers = [int(row[column].replace(",", "")) for row in shown.rows if row[column]]
            assert sum(numbers) == total == int(shown.total[column].replace(",", "")), title

    def test_depth(self, table):
        assert list(table.at(0)) == [""]
        assert list(table.at(1)) == ["conv1", *(f"block{i}" for i in range(1, 14)), "fc"]
        assert len(table.at(2)) == 28
        with pytest.raises(ValueError, match="depth must be 0 or more, got -1"):
            table.at(-1)

    def test_a_module_used_twice_costs_twice_and_weighs_once(self):
        layer = nn.Linear(4, 4)
        table = count(nn.Sequential(layer, nn.ReLU(), layer), (1, 4))
        assert (table.macs, table.params, table.weights) == (32, 20, 16)
        assert table.table(0).total[2:5] == ("32", "64", "20")

    def test_text_is_aligned(self, table):
        lines = str(table).splitlines()
        assert len(lines) == 28 + 5
        assert {line.rindex(".") for line in lines if line.startswith("block")} == {lines[2].rindex(".")}
        assert "568,740,352" in lines[-1] and "1,137,480,704" in lines[-1]

    def test_html(self, table):
        html = table.table(1)._repr_html_()
        assert html.count("<tr>") == 1 + 15 + 1 + 1
        assert "568,740,352" in html

    def test_module_after_a_caught_exception(self):
        class Tries(nn.Module):
            def __init__(self):
                super().__init__()
                self.wrong, self.right = nn.Linear(9, 9), nn.Linear(4, 2)

            def forward(self, x):
                try:
                    self.wrong(x)
                except RuntimeError:
                    x = self.right(x)
                return x @ torch.ones(2, 2)

        assert [row.module for row in count(Tries(), (1, 4)).rows][-2:] == ["right", ""]


def test_columns_can_be_left_out():
    table = count(nn.Conv2d(3, 8, 3), (1, 3, 8, 8)).table()
    narrow = table.without("groups", "outputs")
    assert [name for name in table.header if name not in ("groups", "outputs")] == list(narrow.header)
    assert narrow.rows[0] == tuple(c for c, n in zip(table.rows[0], table.header, strict=True) if n in narrow.header)
    assert len(narrow.total) == len(narrow.header) and "groups" not in str(narrow)
    with pytest.raises(ValueError, match="no column colour"):
        table.without("colour")
