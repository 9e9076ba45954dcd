"""Small networks for small pictures, which the course trains and ships."""

from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock


class SmallResNet(nn.Module):
    """ResNet18 (He et al. 2015, arXiv 1512.03385) at reduced width, with torchvision's names for its parts.

    >>> SmallResNet(10).fc
    Linear(in_features=128, out_features=10, bias=True)

    ``conv1, bn1, relu, maxpool, layer1 .. layer4, avgpool, fc``, two basic blocks in each layer. The last layer keeps
    its resolution, so that a picture of 128 pixels still has 8 x 8 cells before the average.

    Args:
        num_classes: Number of logits.
        width: Channels of layer1; 2, 4 and 8 times as many follow (ResNet18: 64).
    """

    def __init__(self, num_classes: int, width: int = 16) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.layer1 = _layer(width, width, stride=1)
        self.layer2 = _layer(width, 2 * width, stride=2)
        self.layer3 = _layer(2 * width, 4 * width, stride=2)
        self.layer4 = _layer(4 * width, 8 * width, stride=1)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8 * width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n classes"]:
        """Score each class."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


class SmallVGG(nn.Module):
    """VGG16 (Simonyan and Zisserman 2014, arXiv 1409.1556, column D) at reduced width, with torchvision's names.

    >>> SmallVGG(10).classifier[-1]
    Linear(in_features=128, out_features=10, bias=True)

    ``features`` holds 13 convolutions of 3 x 3, a ReLU after each, and five poolings, under the same numbers as in
    torchvision's ``vgg16``; then come ``avgpool`` (to 3 x 3 cells) and ``classifier`` (three linear layers).

    Args:
        num_classes: Number of logits.
        width: Channels of the first convolutions; 2, 4, 8 and 8 times as many follow (VGG16: 64).
        batch_norm: A batch norm after each convolution, as torchvision's ``vgg16_bn`` has. It helps training, and can
            be folded into the convolution afterwards.
    """

    def __init__(self, num_classes: int, width: int = 8, batch_norm: bool = False) -> None:
        super().__init__()
        layers, inputs = [], 3
        for repeats, multiple in ((2, 1), (2, 2), (3, 4), (3, 8), (3, 8)):
            for _ in range(repeats):
                outputs = multiple * width
                layers.append(nn.Conv2d(inputs, outputs, kernel_size=3, padding=1))
                layers += [nn.BatchNorm2d(outputs)] * batch_norm + [nn.ReLU(inplace=True)]
                inputs = outputs
            layers.append(nn.MaxPool2d(kernel_size=2, stride=2))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(3)
        hidden = 16 * width
        self.classifier = nn.Sequential(
            nn.Linear(9 * inputs, hidden), nn.ReLU(inplace=True), nn.Dropout(),
            nn.Linear(hidden, hidden), nn.ReLU(inplace=True), nn.Dropout(),
            nn.Linear(hidden, num_classes),
        )  # fmt: skip
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n classes"]:
        """Score each class."""
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


def _layer(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    shortcut = None
    if stride != 1 or inputs != outputs:
        convolution = nn.Conv2d(inputs, outputs, kernel_size=1, stride=stride, bias=False)
        shortcut = nn.Sequential(convolution, nn.BatchNorm2d(outputs))
    return nn.Sequential(BasicBlock(inputs, outputs, stride, shortcut), BasicBlock(outputs, outputs))
