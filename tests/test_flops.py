"""The cost of convolutions against loops that count, published tables, torchvision and torch's own counter."""

import warnings

import pytest
import torch
import torch.nn.functional as F
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import regnet

from xailab.flops import Cost, UncountedOperation, conv_cost, count, separable_cost
from xailab.models.mobilenet import MobileNetV1


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


@pytest.mark.parametrize("name", torchvision.models.list_models(module=torchvision.models))
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
    ["resnet18", "mobilenet_v2", "convnext_tiny", "vit_b_16", "swin_t", "maxvit_t", "densenet121", "regnet_y_400mf"],
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
