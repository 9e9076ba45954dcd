"""Published numbers, and a table that compares our counts with them.

Tables 2 to 9 of the MobileNet paper (arXiv 1704.04861), the networks that TensorFlow retrained, six counters.
"""

from collections.abc import Sequence
from functools import cache

import torch

from xailab.flops import CostTable, Table, count
from xailab.models.mobilenet import MobileNetV1

ALPHAS = (1.0, 0.75, 0.5, 0.25)
RESOLUTIONS = (224, 192, 160, 128)

TABLE_2 = {  # share of mult-adds and of parameters, in percent
    "pointwise": (94.86, 74.59),
    "depthwise": (3.06, 1.06),
    "convolution": (1.19, 0.02),
    "linear": (0.18, 24.33),
}
TABLE_3 = (
    ("convolution", 462, 2.36),
    ("separable", 52.3, 0.27),
    ("alpha = 0.75", 29.6, 0.15),
    ("rho = 0.714", 15.1, 0.15),
)
# alpha, input size, ImageNet top-1 in percent, million mult-adds, million parameters
TABLE_6 = (
    (1.0, 224, 70.6, 569, 4.2),
    (0.75, 224, 68.4, 325, 2.6),
    (0.5, 224, 63.7, 149, 1.3),
    (0.25, 224, 50.6, 41, 0.5),
)
TABLE_7 = (
    (1.0, 224, 70.6, 569, 4.2),
    (1.0, 192, 69.1, 418, 4.2),
    (1.0, 160, 67.2, 290, 4.2),
    (1.0, 128, 64.4, 186, 4.2),
)
SMALL = (0.5, 160, 60.2, 76, 1.32)  # Table 9's first row
# network, top-1 in percent, million mult-adds, million parameters
TABLE_8 = (("MobileNet 1.0-224", 70.6, 569, 4.2), ("GoogLeNet", 69.8, 1550, 6.8), ("VGG 16", 71.5, 15300, 138.0))
TABLE_9 = (("MobileNet 0.50-160", 60.2, 76, 1.32), ("SqueezeNet", 57.5, 1700, 1.25), ("AlexNet", 57.2, 720, 60.0))

# TensorFlow's own table, (million MACs, top-1 in percent): retrained, so a series of its own.
TENSORFLOW = {
    (1.0, 224): (569, 70.9), (1.0, 192): (418, 70.0), (1.0, 160): (291, 68.0), (1.0, 128): (186, 65.2),
    (0.75, 224): (317, 68.4), (0.75, 192): (233, 67.2), (0.75, 160): (162, 65.3), (0.75, 128): (104, 62.1),
    (0.5, 224): (150, 63.3), (0.5, 192): (110, 61.7), (0.5, 160): (77, 59.1), (0.5, 128): (49, 56.3),
    (0.25, 224): (41, 49.8), (0.25, 192): (34, 47.7), (0.25, 160): (21, 45.5), (0.25, 128): (14, 41.5),
}  # fmt: skip

# Results of the counters for five networks in one run (billions, each read as the tool prints it).
TOOLS = {
    "torch FlopCounterMode / 2": (1.8141, 0.3008, 4.4555, 17.5638, 4.4906),
    "... on CPU tensors": (1.8141, 0.3008, 4.4555, 16.849, 4.4906),
    "fvcore": (1.819, 0.314, 4.470, 16.867, 4.509),
    "ptflops": (1.825, 0.320, 4.488, 17.606, 3.128),
    "thop": (1.824, 0.327, 4.464, 11.286, 2.978),
    "torchinfo": (1.814, 0.301, 0.322, 0.173, 0.034),
}
TOOL_NETWORKS = ("resnet18", "mobilenet_v2", "convnext_tiny", "vit_b_16", "swin_t")


@cache
def mobilenet(alpha: float = 1.0, size: int = 224, *, separable: bool = True, shallow: bool = False) -> CostTable:
    """Count the costs of one MobileNet on one image of `size` pixels."""
    with torch.device("meta"):
        network = MobileNetV1(alpha, separable=separable, shallow=shallow)
    return count(network, (1, 3, size, size))


def beside(header: Sequence[str], *rows: Sequence) -> Table:
    """Make a table of counted and published numbers: published ones as printed, counted ones rounded."""

    def text(column: str, cell) -> str:
        if isinstance(cell, str):
            return cell
        if "published" in column:
            return f"{cell:,}"
        return f"{cell:,.1f}" if column == "M MACs" else f"{cell:,.2f}"

    return Table(tuple(header), tuple(tuple(map(text, header, row)) for row in rows))
