"""Where channels lie: followed through every operation that moves them, and against the right maps."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from xailab.grad_cam import grad_cam
from xailab.token_maps import ChannelAxes

LAST = lambda x: x.permute(0, 2, 3, 1)  # noqa: E731
PATHS = {  # of a convolution's output: what becomes of it, and where its channels are then
    "itself": (lambda x: x, 1),
    "relu": (F.relu, 1),
    "scaled and added": (lambda x: 2 * x + x.mean((2, 3), keepdim=True), 1),
    "pooled": (lambda x: F.max_pool2d(x, 2), 1),
    "sliced": (lambda x: x[:, :, ::2, 1:], 1),
    "concatenated": (lambda x: torch.cat([x, x], 1), 1),
    "permute": (LAST, 3),
    "movedim": (lambda x: x.movedim(1, -1), 3),
    "two transposes": (lambda x: x.transpose(1, 2).transpose(2, 3), 3),
    "there and back": (lambda x: torch.permute(LAST(x), (0, 3, 1, 2)), 1),
    "linear on channels last": (lambda x: F.linear(LAST(x), torch.ones(7, 6)), 3),
    "layer norm": (lambda x: F.layer_norm(LAST(x), (6,)), 3),
    "flattened": (lambda x: x.flatten(2), 1),
    "viewed": (lambda x: x.reshape(*x.shape[:2], -1), 1),
    "tokens": (lambda x: x.flatten(2).mT, 2),
    "tokens of channels last": (lambda x: LAST(x).flatten(1, 2), 2),
    "unflattened": (lambda x: x.flatten(2).mT.unflatten(1, x.shape[2:]), 3),
    "tokens mixed": (lambda x: F.linear(x.flatten(2), torch.ones(5, x[0, 0].numel())), 1),
    "windows": (lambda x: x.reshape(-1, 6, 2, 2), None),
    "attention": (lambda x: x @ x.mT, None),
}


@pytest.mark.parametrize("path, axis", PATHS.values(), ids=PATHS)
def test_channels_are_followed(path, axis):
    images = torch.randn(2, 3, 8, 8)
    with ChannelAxes(images) as channels:
        output = path(F.conv2d(images, torch.randn(6, 3, 3, 3), padding=1))
    assert channels.of(output) == axis


class Scores(nn.Module):
    """Any cells (n, k, h, w), what comes after them, the average over places, a linear layer."""

    def __init__(self, cells, after, classes=5):
        super().__init__()
        self.cells, self.after = cells, after
        self.fc = nn.LazyLinear(classes)

    def forward(self, x):
        return self.fc(self.after(self.cells(x)))


class Call(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


STRIDES = [(2, 8), (8, 2), (2, 2), (4, 2)]
LAYERS = {
    "convolution": nn.Identity,
    "relu": nn.ReLU,
    "batch norm": lambda: nn.BatchNorm2d(32),
    "function": lambda: Call(lambda x: x * x.sigmoid()),
    "sequence with a norm of the width": lambda: nn.Sequential(nn.Dropout(), nn.GroupNorm(4, 32)),
}


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("last", [False, True])
def test_maps_of_any_shape_are_read_rightly(make, stride, last):
    """k x h may look like the picture, rows and columns not: 32 channels of 32 x 8 cells for 64 x 64 pixels."""
    torch.manual_seed(0)
    images, layer = torch.randn(2, 1, 64, 64), nn.Sequential(make(), Call(LAST if last else lambda x: x))
    cells = nn.Sequential(nn.Conv2d(1, 32, 3, stride=stride, padding=1), layer)
    network = Scores(cells, lambda a: a.mean((1, 2) if last else (2, 3))).eval()
    network(images)
    a = cells(images).detach().requires_grad_()
    (g,) = torch.autograd.grad(network.fc(network.after(a))[:, 1].sum(), a)
    a, g = (LAST(LAST(each)) if last else each for each in (a, g))  # (n, h, w, k) to (n, k, h, w)
    right = (g.mean((2, 3), keepdim=True) * a).sum(1)
    for name in ("cells.1", "cells.1.1"):
        assert torch.allclose(grad_cam(network, images, name, 1, relu=False), right, atol=1e-5)


def test_where_neither_reading_fits_the_grid_is_asked_for():
    """A layer whose input was cut into windows: nothing is known but its shape."""

    class Windows(nn.Module):
        def __init__(self):
            super().__init__()
            self.inside, self.fc = nn.Identity(), nn.Linear(12, 5)

        def forward(self, x):
            return self.fc(self.inside(x.reshape(len(x), 12, 5, -1) * 1).mean((2, 3)))

    images, network = torch.randn(2, 3, 20, 20), Windows()
    with pytest.raises(ValueError, match=r"neither .*fits a picture of 20 x 20: give grid=\(rows, columns\)"):
        grad_cam(network, images, "inside", 1)
    right = grad_cam(network, images, "inside", 1, grid=(5, 20), relu=False)
    assert right.shape == (2, 5, 20)


class SequenceFirst(nn.Module):
    def __init__(self, windows):
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 16, 16)
        self.block, self.fc, self.windows = nn.TransformerEncoderLayer(16, 2, 32), nn.Linear(16, 5), windows

    def forward(self, x):
        tokens = self.patches(x).flatten(2).permute(2, 0, 1)
        if not self.windows:
            return self.fc(self.block(tokens).mean(0))
        windows = self.block(tokens.transpose(0, 1).reshape(-1, 4, 16).transpose(0, 1))  # four in each picture
        return self.fc(windows.transpose(0, 1).reshape(len(x), 16, 16).mean(1))


@pytest.mark.parametrize("n", [1, 2, 16])
@pytest.mark.parametrize("windows", [False, True])
@pytest.mark.parametrize("options", [{"relu": False}, {"grid": (4, 4)}, {"counterfactual": True}])
def test_a_layer_whose_first_dimension_is_not_the_batch(n, windows, options):
    """Sixteen pictures of sixteen tokens too: the shape alone would not tell."""
    images = torch.randn(n, 3, 64, 64)
    with pytest.raises(ValueError, match="first dimension is not the batch"):
        grad_cam(SequenceFirst(windows).eval(), images, "block", 1, **options)


def test_as_many_pictures_as_channels():
    images = torch.randn(8, 3, 16, 16)
    network = Scores(nn.Conv2d(3, 8, 3), lambda a: a.mean((2, 3))).eval()
    network(images)
    together = grad_cam(network, images, "cells", 1, relu=False)
    assert torch.allclose(together[3:4], grad_cam(network, images[3:4], "cells", 1, relu=False), atol=1e-6)


@pytest.mark.parametrize("layer", ["cells", "after"])
def test_a_layer_of_one_cell_is_refused(layer):
    network = Scores(nn.Conv2d(3, 8, 16), nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    network.after = network.after[0] if layer == "after" else network.after
    network.fc = nn.Sequential(nn.Flatten(), nn.LazyLinear(5))
    images = torch.randn(2, 3, 16, 16)
    network(images)
    with pytest.raises(ValueError, match=rf"'{layer}' puts out one cell \(1 x 1\) for a picture of 16 x 16"):
        grad_cam(network.eval(), images, layer, 1)
