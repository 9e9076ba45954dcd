"""The receptive field beside a measurement: which pixels have a gradient, in double precision, over many pictures."""

import functools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torchvision.ops import DeformConv2d

from xailab.models import zoo
from xailab.protopnet import ProtoPNet, local_analysis, project
from xailab.receptive_field import Fields, ReceptiveField, receptive_field, square
from xailab.tracing import Skeleton

SIZE = 33


class Do(nn.Module):
    """A module that calls a function, with modules that it may use."""

    def __init__(self, function, *modules):
        super().__init__()
        self.function, self.parts = function, nn.ModuleList(modules)

    def forward(self, x):
        return self.function(x, *self.parts)


def measured(network, cell, size=SIZE, pictures=48):
    """(first row, end, first column, end) of the pixels that a cell depends on: the gradients of random pictures."""
    network = network.double().eval()
    x = torch.randn(pictures, 1, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    y = network(x.requires_grad_())
    value = y[..., cell[0], cell[1]].flatten(1)
    weights = torch.rand(value.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) + 0.5
    (gradient,) = torch.autograd.grad((value * weights).sum(), x)
    seen = gradient.abs().amax((0, 1)) > 0
    rows, columns = seen.any(1).nonzero().flatten(), seen.any(0).nonzero().flatten()
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def box(field, cell, size=SIZE):
    """The same of a computed field, as far as it lies in the picture."""
    ends = []
    for i in cell:
        first = field.start + i * field.stride
        ends += [min(max(first, 0), size), min(max(first + field.size, 0), size)]
    return tuple(ends)


def shape_of(network, size=SIZE):
    return tuple(network.double().eval()(torch.zeros(1, 1, size, size, dtype=torch.float64)).shape[-2:])


def conv(*args, channels=(4, 4), **keywords):
    return nn.Conv2d(*channels, *args, **keywords)


first = functools.partial(conv, 3, channels=(1, 4), padding=1)
KNOWN = {
    "convolution": conv(3, padding=1),
    "stride, dilation, groups": conv(3, stride=2, dilation=2, groups=4),
    "even kernel, padding='same'": conv(4, padding="same"),
    "padding='valid'": conv(5, padding="valid"),
    "padding_mode circular": conv(3, padding=1, padding_mode="circular"),
    "padding_mode reflect": conv(5, padding=2, padding_mode="reflect"),
    "padding_mode replicate": conv(3, padding=1, padding_mode="replicate"),
    "padding_mode zeros, two sides": conv(3, padding=(1, 1), stride=(2, 2)),
    "transposed, stride 1": nn.ConvTranspose2d(4, 4, 3, padding=1),
    "transposed, dilated": nn.ConvTranspose2d(4, 4, 3, dilation=2),
    "3-d convolution": Do(lambda x, c: c(x[:, None]).flatten(1, 2), nn.Conv3d(1, 2, (2, 3, 3))),
    "ReflectionPad2d": nn.Sequential(nn.ReflectionPad2d(2), conv(5)),
    "ReplicationPad2d": nn.Sequential(nn.ReplicationPad2d(1), conv(3)),
    "CircularPad2d": nn.Sequential(nn.CircularPad2d(1), conv(3)),
    "ZeroPad2d, one side": nn.Sequential(nn.ZeroPad2d((1, 0, 1, 0)), conv(3)),
    "ConstantPad2d, negative": nn.Sequential(nn.ConstantPad2d(-2, 1.0), conv(3)),
    "F.pad of channels": Do(lambda x: F.pad(x, (1, 1, 1, 1, 0, 2))),
    "max pooling": nn.MaxPool2d(3, 2, 1),
    "max pooling, dilated, ceil": nn.MaxPool2d(3, 2, dilation=2, ceil_mode=True),
    "max pooling with indices": Do(lambda x: F.max_pool2d(x, 2, return_indices=True)[0]),
    "average pooling": nn.AvgPool2d(2),
    "average pooling, padded": nn.AvgPool2d(3, 1, 1, count_include_pad=False),
    "LP pooling": nn.LPPool2d(2, 3),
    "adaptive pooling that keeps the size": nn.AdaptiveAvgPool2d(SIZE),
    "batch norm": nn.BatchNorm2d(4),
    "instance norm with running statistics": nn.InstanceNorm2d(4, track_running_stats=True),
    "local response norm": nn.LocalResponseNorm(3),
    "dropout": nn.Sequential(nn.Dropout(), nn.Dropout2d(), nn.AlphaDropout()),
    "softmax of channels": nn.Sequential(nn.Softmax(1), nn.LogSoftmax(-3)),
    "Softmax2d": nn.Softmax2d(),
    "mean of channels": Do(lambda x: x.mean(1, keepdim=True) + x.amax(-3, keepdim=True)),
    "channel norm": Do(lambda x: x / x.norm(dim=1, keepdim=True) + F.normalize(x)),
    "cumsum of channels": Do(lambda x: x.cumsum(1).flip(1).roll(1, 1)),
    "glu, maxout": Do(lambda x: F.glu(x, 1) + x.unflatten(1, (2, 2)).amax(2)),
    "channel shuffle": nn.ChannelShuffle(2),
    "shuffle by view and transpose": Do(lambda x: x.view(-1, 2, 2, *x.shape[2:]).transpose(1, 2).flatten(1, 2)),
    "permuted channels": Do(lambda x: x.permute(1, 0, 2, 3).movedim(0, 1)),
    "chunks, stacks": Do(lambda x: torch.stack([torch.mul(*x.chunk(2, 1)), *x.split(2, 1)]).sum(0)),
    "activations": nn.Sequential(nn.SiLU(), nn.GELU(), nn.Hardswish(), nn.PReLU(), nn.ELU(inplace=True), nn.Softsign()),
    "more activations": nn.Sequential(nn.LogSigmoid(), nn.Mish(), nn.Softplus(), nn.Tanhshrink(), nn.Threshold(-9, 0)),
    "in place": Do(lambda x: x.add_(x.relu()).mul_(2)),
    "a mask, a clamp": Do(lambda x: torch.where(x > 0, x, 0.1 * x).masked_fill(x > 9, 0).clamp(-9, 9).maximum(-x)),
    "residual": Do(lambda x, c: F.relu(x + c(x)), conv(3, padding=1)),
    "branches": Do(lambda x, a, b: torch.cat([a(x), b(x)], 1), conv(5, padding=2), conv(3, padding=1)),
    "branches that lie unevenly": Do(lambda x, c: F.pad(x, (2, 0, 2, 0)) + F.pad(c(x), (0, 4, 0, 4)), conv(3)),
    "crops": Do(lambda x: x[..., 2:-2, 2:-2] + x[..., 4:, 4:] * x[..., :-4, :-4]),
    "space to depth by slices": Do(lambda x: torch.cat([x[..., i:32:2, j:32:2] for i in (0, 1) for j in (0, 1)], 1)),
    "1 x 7, then 7 x 1": nn.Sequential(conv((1, 7), padding=(0, 3)), conv((7, 1), padding=(3, 0))),
    "without a batch": Do(lambda x, c: torch.stack([c(picture) for picture in x]), conv(3)),
    "autocast to itself": Do(lambda x: x.to(x.dtype).contiguous().detach() * 0 + x.clone()),
    "constants like the picture": Do(lambda x: x * torch.ones_like(x) + torch.zeros(x.shape[-2:], device=x.device)),
    "old weight norm": nn.utils.parametrizations.weight_norm(conv(3)),
}  # fmt: skip
UNKNOWN = {
    "transposed, stride 2": nn.ConvTranspose2d(4, 4, 3, stride=2),
    "LayerNorm": nn.LayerNorm([4, SIZE, SIZE]),
    "LayerNorm of columns": nn.LayerNorm(SIZE),
    "RMSNorm": nn.RMSNorm(SIZE),
    "GroupNorm": nn.GroupNorm(2, 4),
    "InstanceNorm2d": nn.InstanceNorm2d(4),
    "batch statistics": nn.BatchNorm2d(4, track_running_stats=False),
    "Softmax(-1)": nn.Softmax(-1),
    "LogSoftmax(2)": nn.LogSoftmax(2),
    "softmax of all cells": Do(lambda x: x * x.flatten(2).softmax(2).view(x.shape)),
    "roll": Do(lambda x: x + x.roll(5, 2)),
    "flattened roll": Do(lambda x: x + x.roll(5)),
    "flip": Do(lambda x: x + x.flip(3)),
    "transpose": Do(lambda x: x + x.mT),
    "permute": Do(lambda x: x + x.permute(0, 1, 3, 2)),
    "rot90": Do(lambda x: x + x.rot90(1, (2, 3))),
    "cumsum": Do(lambda x: x.cumsum(3)),
    "sort": Do(lambda x: x.sort().values),
    "glu of columns": Do(lambda x: F.glu(x[..., :32])),
    "matmul": Do(lambda x: x @ x),
    "linear over columns": nn.Linear(SIZE, SIZE),
    "einsum": Do(lambda x: torch.einsum("nchw,ncvw->nchv", x, x)),
    "fft": Do(lambda x: torch.fft.ifft2(torch.fft.fft2(x)).real),
    "interpolate nearest": nn.Upsample(scale_factor=2),
    "interpolate bilinear, same size": Do(lambda x: F.interpolate(x[..., ::2, ::2], (SIZE, SIZE), mode="bilinear")),
    "pixel shuffle": nn.PixelShuffle(2),
    "unfold": Do(lambda x: F.unfold(x, 3, padding=1).view(len(x), -1, SIZE, SIZE)),
    "grid sample": Do(lambda x: F.grid_sample(x, x[:, :2].permute(0, 2, 3, 1), align_corners=False)),
    "squeeze and excitation": Do(lambda x: x * x.mean((2, 3), keepdim=True)),
    "pooled and spread": Do(lambda x: x * F.adaptive_avg_pool2d(x, 1)),
    "mean of rows, spread": Do(lambda x: x + x.mean(2, keepdim=True)),
    "maximum of all": Do(lambda x: x / x.amax()),
    "variance of all": Do(lambda x: x / x.std()),
    "standardised": Do(lambda x: (x - x.mean()) / x.flatten(1).norm(dim=1)[:, None, None, None]),
    "attention": Do(lambda x: F.scaled_dot_product_attention(x, x, x)),
    "multi-head attention": Do(lambda x, m: m(*3 * [x.flatten(2).mT])[0].mT.view(x.shape), nn.MultiheadAttention(4, 2)),
    "index": Do(lambda x: x[..., torch.arange(SIZE - 1, -1, -1)]),
    "gather": Do(lambda x: x.gather(3, torch.zeros(len(x), 4, SIZE, SIZE, dtype=torch.long, device=x.device))),
    "written by slices": Do(lambda x: _written(x)),
    "written through a view": Do(lambda x: _written_through(x)),
    "weights from the picture": Do(lambda x: F.conv2d(x, x[:1, :, :3, :3].expand(4, -1, -1, -1), padding=1)),
    "branches with other strides": Do(lambda x: x[..., ::2, ::2] + x[..., :17, :17]),
    "reshape of cells": Do(lambda x: x.reshape(len(x), 4, -1).reshape(len(x), SIZE, SIZE, 4).permute(0, 3, 1, 2)),
    "triangular": Do(lambda x: x.mT.tril().mT),
    "deformable": Do(lambda x, d: d(x, x.repeat(1, 5, 1, 1)[:, :18]), DeformConv2d(4, 4, 3, padding=1)),
    "column convolution": Do(lambda x, c: c(x.flatten(0, 1)).view(x.shape), nn.Conv1d(SIZE, SIZE, 3, padding=1)),
    "recurrent": Do(lambda x, m: m(x.flatten(0, 1))[0].view(x.shape), nn.LSTM(SIZE, SIZE, batch_first=True)),
    "unpooling": Do(lambda x: F.max_unpool2d(*F.max_pool2d(x[..., :32, :32], 2, return_indices=True), 2)),
    "adaptive pooling": nn.AdaptiveMaxPool2d(7),
    "fractional pooling": nn.FractionalMaxPool2d(3, output_size=9),
    "sees in a loop": Do(lambda x: torch.stack([x[:, :, i] for i in reversed(range(SIZE))], 2)),
}  # fmt: skip


def _written(x):
    out = torch.zeros_like(x)
    out[:, :2] = x[:, :2]
    out[:, 2:] = x[:, 2:].roll(4, 3)
    return out + x


def _written_through(x):
    y = x + 0
    y.flatten(2)[:, :, 40:] += y.flatten(2)[:, :, :-40].clone()
    return y


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("name", KNOWN)
def test_known_layers_see_what_gradients_reach(name):
    torch.manual_seed(0)
    network = nn.Sequential(first(), KNOWN[name])
    field = receptive_field(network, "1", SIZE, 1)
    assert isinstance(field, ReceptiveField) and min(shape_of(network)) > 0
    middle = [side // 2 for side in shape_of(network)]
    for cell in (middle, [middle[0], middle[1] + 1]):
        assert box(field, cell) == measured(network, cell)


@pytest.mark.parametrize("name", UNKNOWN)
def test_other_layers_are_not_known_and_say_why(name):
    written = r"a part of a tensor is written in place"
    with pytest.raises(ValueError, match=rf"'1' is not known: before it, ({written}|'[a-z_0-9:]+' \(in 1.*\) .*)"):
        receptive_field(nn.Sequential(first(), UNKNOWN[name]), "1", SIZE, 1)


def test_values_cannot_be_looked_at():
    for look in (lambda x: x * float(x.max()), lambda x: x if x.sum() > 0 else -x, lambda x: x[x > 0]):
        with pytest.raises(ValueError, match=r"is not known: the network fails in 1 .* without values"):
            receptive_field(nn.Sequential(first(), Do(look)), "1", SIZE, 1)


def layers():
    """Windows, paddings, steps at each place, and blocks of them, for 4 channels."""
    small, amounts = st.integers(1, 3), st.integers(0, 2)
    modes = st.sampled_from(["zeros", "reflect", "replicate", "circular"])
    convolutions = st.builds(
        lambda k, s, p, d, mode: conv(k, stride=s, padding=p, dilation=d, padding_mode=mode),
        small, st.integers(1, 2), amounts, st.integers(1, 2), modes,
    )  # fmt: skip
    pads = st.builds(
        lambda kind, n: kind(n),
        st.sampled_from([nn.ReflectionPad2d, nn.ReplicationPad2d, nn.CircularPad2d, nn.ZeroPad2d]),
        st.tuples(*4 * [amounts]),
    )
    simple = st.one_of(
        convolutions,
        pads,
        st.builds(nn.AvgPool2d, small, small),
        st.builds(nn.MaxPool2d, st.integers(2, 3), small, st.just(1)),
        st.builds(lambda k: nn.ConvTranspose2d(4, 4, k, padding=k // 2), small),
        st.builds(lambda i, j: Do(lambda x: x[..., i:, : -j or None]), amounts, amounts),
        st.builds(lambda: nn.Sequential(nn.BatchNorm2d(4), nn.LeakyReLU())),
    )
    unlike = st.builds(
        lambda k: Do(lambda x, c: c(x) + x[..., : x.shape[2] - k + 1, : x.shape[3] - k + 1], conv(k)), small
    )
    return st.lists(st.one_of(simple, unlike), min_size=1, max_size=5)


@settings(max_examples=200, deadline=None)
@given(layers(), st.data())
def test_random_networks(parts, data):
    """No cell sees beyond its square, unless it says so; what lies far from the edges sees exactly its square."""
    size, far = 65, 20
    torch.manual_seed(0)
    network = nn.Sequential(first(), *parts)
    try:
        shape = shape_of(network, size)
    except RuntimeError:  # too small for a padding or a window
        return
    assume(min(shape) > 0)
    sides = sides_of(network, size)
    cell = [data.draw(st.integers(0, side - 1)) for side in shape]
    try:
        found = measured(network, cell, size, pictures=2)
    except IndexError:  # a cell that sees nothing but padding
        return
    for i, side, (low, high) in zip(cell, sides, (found[:2], found[2:]), strict=True):
        start = side.start + i * side.stride
        end = start + side.size
        if side.beyond == 0:
            assert max(start, 0) <= low and high <= min(end, size)
        averages = not any(isinstance(module, nn.MaxPool2d) for module in network.modules())
        if averages and start >= far and end <= size - far and side.stride <= 2:
            assert (low, high) == (start, end)


def sides_of(network, size=SIZE):
    skeleton = Skeleton(network)
    with torch.inference_mode():
        picture = torch.empty(1, 1, size, size, device="meta", dtype=network[0].weight.dtype)
        with Fields(skeleton, picture) as fields:
            return fields.of(fields.run(lambda: skeleton.network(picture)))


@pytest.mark.parametrize(
    ("part", "strays"),
    [
        (conv(3, padding=1), False),
        (conv(5, padding=2, padding_mode="reflect"), False),
        (conv(3, padding=1, padding_mode="replicate"), False),
        (nn.Sequential(nn.ReflectionPad2d(2), conv(3)), True),
        (nn.Sequential(nn.ReflectionPad2d(2), conv(3), conv(3)), False),
        (nn.Sequential(nn.ReplicationPad2d(3), conv(3)), True),
        (conv(3, padding=1, padding_mode="circular"), True),
    ],
)
def test_cells_at_the_edge(part, strays):
    """A padding that repeats cells may let those at the edge see beyond their square: this is told, and is so."""
    network = nn.Sequential(first(), part)
    field, beyond_square = square(sides_of(network), "it")
    assert (beyond_square > 0) == strays
    shape = shape_of(network)
    beyond = []
    for cell in ([0, 0], [0, shape[1] - 1], [shape[0] - 1, 1]):
        low, high, left, right = box(field, cell)
        found = measured(network, cell)
        beyond.append(low > found[0] or high < found[1] or left > found[2] or right < found[3])
    assert any(beyond) == strays


def test_boxes_of_prototypes():
    """They are squares where cells see squares, and all of the image where cells at the edge do not."""

    def prototypes(*parts):
        return ProtoPNet(nn.Sequential(nn.Conv2d(1, 4, 8, 8), *parts), 1, 2, dimensions=5)

    images, labels = torch.rand(8, 1, 32, 32), torch.arange(8) % 2
    assert project(prototypes(conv(3, padding=1, padding_mode="reflect")), images, labels).field == (24, 8, -8)
    for part, reason in {
        conv(3, padding=1, padding_mode="circular"): "one square everywhere: a padding .*repeats other parts",
        nn.Softmax(-1): "'softmax' .in features.1. works along rows or columns",
        nn.BatchNorm2d(4, track_running_stats=False): "statistics of the whole picture",
    }.items():
        model = prototypes(part)
        with pytest.raises(ValueError, match=f"the receptive field of layer 'add_on' is not .*{reason}"):
            receptive_field(model, "add_on", (32, 40), 1, everywhere=True)
        assert project(model, images, labels).field is None
        boxes = local_analysis(model, images[:1], top=1).receptive_boxes
        assert boxes.tolist() == [[[0, 0, 32, 32]]]


@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch's own, of tracing
def test_wrapped_networks_and_other_names():
    network = zoo.load("resnet18", weights=None)
    network.again = network.layer1
    for wrapped in (network, nn.DataParallel(network), torch.compile(network, backend="eager")):
        for name in ("layer1", "module.layer1", "_orig_mod.layer1", "again", network.layer1):
            assert receptive_field(wrapped, name, 64) == (43, 4, -21)
    inside = nn.Sequential(nn.Conv2d(3, 4, 3), nn.DataParallel(nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU())))
    inside[1].device_ids, inside[1].src_device_obj = [0], torch.device("cuda:0")  # as on a computer with a GPU
    assert receptive_field(inside, "1.0", 32).size == receptive_field(inside, "1.module.1", 32).size == 5
    scripted = torch.jit.trace(nn.Sequential(nn.Conv2d(3, 4, 3)), torch.zeros(1, 3, 8, 8))
    with pytest.raises(ValueError, match="scripted or traced"):
        receptive_field(scripted, "0", 32)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions(dtype):
    assert receptive_field(zoo.load("resnet18", weights=None).to(dtype), "layer4", 64) == (435, 32, -217)


def test_hooks_that_a_network_needs_count():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))
    network[0].register_forward_hook(lambda module, inputs, output: F.avg_pool2d(output, 3, 1))
    assert receptive_field(network, "1", 32).size == 7
    network[0].register_forward_hook(lambda module, inputs, output: output * float(output.mean()))
    with pytest.raises(ValueError, match="is not known: a hook of the network fails in 0"):
        receptive_field(network, "1", 32)


def test_layers_that_are_no_tensor_or_see_no_picture():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.pair, self.table = Do(lambda x: (x, x)), nn.Embedding(4, 4)

        def forward(self, x):
            return self.pair(x)[0] + self.table(torch.arange(4, device=x.device)).mean()

    with pytest.raises(ValueError, match="returns tuple, not a tensor"):
        receptive_field(Two(), "pair", 32)
    with pytest.raises(ValueError, match="the picture does not lead to it"):
        receptive_field(Two(), "table", 32)
    with pytest.raises(ValueError, match="not square: 3 pixels along the rows and 5"):
        receptive_field(nn.Sequential(nn.Conv2d(3, 4, (3, 5))), "0", 32)
