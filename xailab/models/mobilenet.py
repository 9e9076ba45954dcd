"""MobileNet V1 (Howard et al. 2017, arXiv 1704.04861), its twin of standard convolutions and its shallow variant."""

from jaxtyping import Float
from torch import Tensor, nn

# Table 1: output channels at width 1 and stride of each block after the first convolution. The paper prints
# stride 2 for the last depthwise layer, but its input and output are both 7 x 7.
BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
STEM = 32


class DepthwiseSeparableConv(nn.Module):
    """A depthwise and a pointwise convolution, each with batch norm and ReLU (Figure 3, right)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.depthwise = nn.Conv2d(in_channels, in_channels, 3, stride, 1, groups=in_channels, bias=False)
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU()
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.relu2 = nn.ReLU()

    def forward(self, x: Float[Tensor, "n m h w"]) -> Float[Tensor, "n c i j"]:
        """Compute maps of c channels from maps of m channels, smaller by the stride."""
        x = self.relu1(self.norm1(self.depthwise(x)))
        return self.relu2(self.norm2(self.pointwise(x)))


class StandardConv(nn.Module):
    """A standard 3 x 3 convolution with batch norm and ReLU (Figure 3, left)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU()

    def forward(self, x: Float[Tensor, "n m h w"]) -> Float[Tensor, "n c i j"]:
        """Compute maps of c channels from maps of m channels, smaller by the stride."""
        return self.relu(self.norm(self.conv(x)))


class MobileNetV1(nn.Module):
    """The network of Table 1: conv1, block1 ... block13, global average pooling, fc.

    >>> MobileNetV1(width=0.25, num_classes=10).fc
    Linear(in_features=256, out_features=10, bias=True)

    It takes images of any size from 32 pixels: the resolution multiplier rho of the paper is a smaller input.

    Args:
        width: The width multiplier alpha; every layer has int(alpha x channels) channels.
        num_classes: Number of logits.
        separable: False gives the twin of Table 4, with a standard convolution in place of each pair.
        shallow: True leaves out the five blocks of 14 x 14 x 512 (Table 5).

    Raises:
        ValueError: if the width leaves the first layer without a channel.
    """

    def __init__(self, width: float = 1.0, num_classes: int = 1000, *, separable: bool = True, shallow: bool = False):
        super().__init__()
        if int(width * STEM) < 1:
            raise ValueError(f"width must be at least 1/{STEM}, got {width}")
        block = DepthwiseSeparableConv if separable else StandardConv
        channels = int(width * STEM)
        self.conv1 = StandardConv(3, channels, stride=2)
        plan = BLOCKS[:6] + BLOCKS[11:] if shallow else BLOCKS
        self.blocks = len(plan)
        for i, (wide, stride) in enumerate(plan, start=1):
            setattr(self, f"block{i}", block(channels, int(width * wide), stride))
            channels = int(width * wide)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # Fan-in of a depthwise filter is 9; fan-out (9 x channels) would start it far too small.
                nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
        nn.init.normal_(self.fc.weight, std=0.01)
        nn.init.zeros_(self.fc.bias)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n k"]:
        """Score each of the k classes."""
        x = self.conv1(images)
        for i in range(1, self.blocks + 1):
            x = getattr(self, f"block{i}")(x)
        return self.fc(self.pool(x).flatten(1))
