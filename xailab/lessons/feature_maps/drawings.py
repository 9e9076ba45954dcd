"""Pictures full of edges, measures of feature maps, and their drawings."""

import copy
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor, nn

from xailab import figures, images
from xailab.feature_maps import feature_maps
from xailab.hooks import eval_mode, recording
from xailab.models.classifier import Classifier
from xailab.receptive_field import receptive_field

PAPER, INK = 238, 28  # grey values of the test picture


def edges_picture(size: int = 224) -> UInt8[np.ndarray, "size size 3"]:
    """Draw a picture full of edges: all orientations, many widths, circles, corners, letters, two colours.

    Drawn at four times its size and averaged down, so that slanted edges are smooth.
    """
    unit, side = 112, 896
    canvas = np.full((side, side, 3), PAPER, np.uint8)
    dark = (INK,) * 3
    y, x = np.mgrid[:side, :side].astype(np.float32)

    def fill(mask: np.ndarray) -> None:
        canvas[mask] = INK

    radius, angle = np.hypot(x - 2 * unit, y - 2 * unit), np.arctan2(y - 2 * unit, x - 2 * unit)
    fill((radius < 195) & (np.sin(16 * angle) > 0))  # a star: every orientation, every width
    radius = np.hypot(x - 6 * unit, y - 2 * unit)
    fill((radius < 195) & (np.sin(radius**2 / 950) > 0))  # rings that become narrower outwards
    for k, slope in enumerate((0, 90, 45, 135)):  # bars that become wider, in four orientations
        left, top = 2 * unit * k, 4 * unit
        inside = (x >= left + 14) & (x < left + 2 * unit - 14) & (y >= top + 14) & (y < top + 2 * unit - 14)
        radians = np.deg2rad(slope)
        along = (x - left - unit) * np.cos(radians) + (y - top - unit) * np.sin(radians)
        fill(inside & (np.sin(260 * np.log1p((along.clip(-140, 140) + 150) / 60) / 11) > 0))
    left, top = 14, 6 * unit + 14
    inside = (x >= left) & (x < left + 196) & (y >= top) & (y < top + 196)
    fill(inside & (((x - left) // 28 + (y - top) // 28) % 2 == 0))
    corner = 2 * unit + 14, 6 * unit + 14
    cv2.fillPoly(canvas, [np.array(corner) + np.array([(0, 190), (95, 6), (190, 190)])], dark, cv2.LINE_AA)
    cv2.circle(canvas, (corner[0] + 95, corner[1] + 128), 40, (PAPER,) * 3, -1, cv2.LINE_AA)
    cv2.rectangle(canvas, (corner[0] + 130, corner[1] + 6), (corner[0] + 188, corner[1] + 64), dark, 9)
    for line, (text, scale, thickness) in enumerate((("EDGES", 1.95, 6), ("abcdefgh", 1.3, 4), ("0123456789", 1.0, 3))):
        place = 4 * unit + 14, 6 * unit + (66, 126, 170)[line]
        cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, dark, thickness, cv2.LINE_AA)
    canvas[6 * unit + 190 : 6 * unit + 206 : 8, 4 * unit + 14 : 6 * unit - 14] = INK
    left, top = 6 * unit + 14, 6 * unit + 14
    canvas[top : top + 196, left : left + 196] = (0, 140, 190)
    cv2.circle(canvas, (left + 98, top + 98), 74, (215, 95, 60), -1, cv2.LINE_AA)
    cv2.circle(canvas, (left + 98, top + 98), 36, (0, 140, 190), -1, cv2.LINE_AA)
    return cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)


def photograph(name: str, size: int = 224) -> UInt8[np.ndarray, "size size 3"]:
    """Cut the middle square out of one of scikit-image's photographs.

    Args:
        name: One that comes with the package: "chelsea" (a cat), "rocket", "coffee", "astronaut".
        size: Side of the result in pixels.
    """
    import skimage.data

    whole = getattr(skimage.data, name)()
    height, width = whole.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return cv2.resize(whole[top : top + side, left : left + side], (size, size), interpolation=cv2.INTER_AREA)


def layers_of(network: nn.Module) -> nn.Sequential:
    """Return the convolutional part of a VGG, its ``features``."""
    features = network.get_submodule("features")
    if not isinstance(features, nn.Sequential):
        raise TypeError(f"expected a VGG, whose features are an nn.Sequential, got {type(features).__name__}")
    return features


def convolutions(network: nn.Module) -> dict[str, str]:
    """Name the convolutions of a VGG as its paper does: ``{"conv1_1": "features.0", ...}``."""
    names, block, number = {}, 1, 0
    for name, module in layers_of(network).named_children():
        if isinstance(module, nn.Conv2d):
            number += 1
            names[f"conv{block}_{number}"] = f"features.{name}"
        elif isinstance(module, nn.MaxPool2d):
            block, number = block + 1, 0
    return names


@torch.no_grad()
def activations(network: nn.Module, batch: Float[Tensor, "n 3 h w"], kind: type[nn.Module] = nn.ReLU) -> dict:
    """What a VGG's convolutions put out, (n, k, rows, columns) by the paper's names: behind their ReLU, or before it.

    Args:
        network: A VGG without batch norms.
        batch: Pictures, normalised for it.
        kind: ``nn.ReLU`` (behind it) or ``nn.Conv2d`` (before it).
    """
    maps = feature_maps(layers_of(network), batch, kind)
    return dict(zip(convolutions(network), maps.values(), strict=True))


def untrained(network: nn.Module, seed: int = 0) -> nn.Module:
    """Copy a network with fresh convolutions: He et al.'s normal weights, no bias. The rest stays."""
    network = copy.deepcopy(network)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
    return network


def sobel(picture: UInt8[np.ndarray, "h w 3"]) -> Float[Tensor, "h w"]:
    """How strong the edges are: the length of Sobel's gradient of the grey picture, in grey values a pixel."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    across, down = (cv2.Sobel(grey, cv2.CV_32F, *order) / 8 for order in ((1, 0), (0, 1)))
    return torch.from_numpy(np.hypot(across, down))


def correlation(a: Float[Tensor, "n *shape"], b: Float[Tensor, "n *shape"]) -> Float[Tensor, " n"]:
    """Pearson's correlation of each pair; 0 where one of the two is constant."""
    a, b = (each.flatten(1).double() for each in (a, b))
    a, b = (each - each.mean(1, keepdim=True) for each in (a, b))
    length = a.norm(dim=1) * b.norm(dim=1)
    return ((a * b).sum(1) / length.clamp(min=1e-12)).float()


def edge_likeness(maps: Float[Tensor, "n k h w"], edges: Float[Tensor, "n H W"]) -> Float[Tensor, " n"]:
    """How much a layer looks like an edge detector: correlation of mean |map| over the channels with Sobel's picture.

    Sobel's picture is averaged down to the layer's cells.
    """
    small = F.adaptive_avg_pool2d(edges.unsqueeze(1), (maps.shape[-2], maps.shape[-1])).squeeze(1)
    return correlation(maps.abs().mean(1), small)


def dead_channels(maps: Float[Tensor, "n k h w"]) -> Int[Tensor, " dead"]:
    """Find the channels that are 0 at every place of every picture (maps behind the ReLU)."""
    return (maps.amax((0, 2, 3)) <= 0).nonzero().flatten()


def selectivity(maps: Float[Tensor, "n k h w"], labels: Sequence[int]) -> Float[Tensor, " k"]:
    """How much each channel prefers its best class, 0 (not at all) to 1 (it answers to nothing else).

    The index of Morcos et al. 2018: (m - r) / (m + r), with m the mean activation on the best class and r
    that on all other pictures. A dead channel gets 0.

    Args:
        maps: Behind the ReLU.
        labels: Class of each picture.
    """
    return _preference(maps, labels)[0]


def best_class(maps: Float[Tensor, "n k h w"], labels: Sequence[int]) -> Int[Tensor, " k"]:
    """The class that each channel answers to most, on average."""
    return _preference(maps, labels)[1]


def _preference(maps: Tensor, labels: Sequence[int]) -> tuple[Tensor, Tensor]:
    mean, of_class = maps.mean((2, 3)), torch.as_tensor(labels)
    classes = sorted(set(of_class.tolist()))
    means = torch.stack([mean[of_class == c].mean(0) for c in classes])
    largest, best = means.max(0)
    rest = torch.stack([mean[of_class != classes[i]].mean(0)[k] for k, i in enumerate(best.tolist())])
    return (largest - rest) / (largest + rest).clamp(min=1e-12), torch.tensor(classes)[best]


def all_positive(network: nn.Module) -> nn.Module:
    """Copy a network so that gradients reach all that a cell can see: nothing cancels, is closed, or loses a maximum.

    Weights become 0.1, biases 0, and of each pooling's window the mean is taken.
    """
    network = copy.deepcopy(network)
    for parameter in layers_of(network).parameters():
        nn.init.constant_(parameter, 0.1 if parameter.ndim > 1 else 0.0)
    layers = layers_of(network)
    for i, module in enumerate(layers):
        if isinstance(module, nn.MaxPool2d):
            layers[i] = nn.AvgPool2d(module.kernel_size, module.stride, module.padding)
    return network


def cell_gradient(
    network: nn.Module, batch: Float[Tensor, "n 3 h w"], layer: str, cell: int | None = None
) -> Float[Tensor, "n h w"]:
    """|Gradient| of one cell (row and column ``cell``; the middle one if None) by each pixel, summed over colours.

    Differentiated is the sum over the cell's channels.
    """
    batch = batch.detach().clone().requires_grad_()
    with torch.enable_grad(), eval_mode(network), recording(network, layer) as outputs:
        layers_of(network)(batch)
        middle = outputs[layer].shape[-1] // 2 if cell is None else cell
        score = outputs[layer][:, :, middle, middle].sum()
        return torch.autograd.grad(score, batch)[0].abs().sum(1)


def seen_square(network: nn.Module, layer: str, side: int, cell: int | None = None) -> tuple[int, int]:
    """First pixel, and first pixel behind, that a cell sees of a picture with this side, by ``receptive_field``."""
    field = receptive_field(network, layer, side)
    middle = (side // field.stride) // 2 if cell is None else cell
    start = field.start + middle * field.stride
    return start, start + field.size


def side_holding(mass: Float[Tensor, "h w"], square: tuple[int, int], share: float = 0.9) -> int:
    """Side of the smallest square, with the centre of ``square``, that holds this share of all mass."""
    start, end = square
    for cut in range((end - start) // 2, -1, -1):
        low, high = max(start + cut, 0), end - cut
        if high > low and mass[low:high, low:high].sum() >= share * mass.sum():
            return end - start - 2 * cut
    return end - start


def number_grid(axes: Axes, values: Float[Tensor, "h w"], title: str, mark: Sequence[int] = ()) -> None:
    """Draw a small matrix as numbers: orange where positive, blue where negative, pale where zero.

    Args:
        axes: Where.
        values: Of few digits.
        title: Above it.
        mark: A box (left, top, right, bottom; cells, ends exclusive) to draw round some of them, or none.
    """
    rows, columns = values.shape
    bound = float(values.abs().max()) or 1.0
    for (y, x), value in np.ndenumerate(values.numpy()):
        colour = figures.ORANGE if value > 0 else figures.SKY if value < 0 else "#F2F2F2"
        axes.add_patch(Rectangle((x, y), 1, 1, facecolor="#F2F2F2", edgecolor="white", linewidth=2))
        axes.add_patch(
            Rectangle((x, y), 1, 1, facecolor=colour, alpha=0.25 + 0.75 * abs(value) / bound, edgecolor="white")
        )
        axes.text(x + 0.5, y + 0.53, f"{value:g}".replace("-", "−"), ha="center", va="center", fontsize=13)
    if len(mark):
        left, top, right, bottom = mark
        axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor="black", linewidth=2.5))
    axes.set(xlim=(-0.05, columns + 0.05), ylim=(rows + 0.05, -0.05), aspect="equal")
    axes.set_axis_off()
    axes.set_title(title)


def chain_strips(
    picture: UInt8[np.ndarray, "h w 3"], rows: Mapping[str, Sequence[Float[Tensor, "_ _"]]], shown: Sequence[int]
) -> Figure:
    """Draw chains of maps, one in each row, each panel stretched by itself from black to white.

    Args:
        picture: What went in; drawn on the left.
        rows: Maps by the name of the way, one for each convolution (its mean over the channels, say).
        shown: Which convolutions, from 1.
    """
    columns = 1 + len(shown)
    figure, axes = figures.new(len(rows), columns, width=1.62 * columns, height=1.93 * len(rows), squeeze=False)
    for row, (name, maps) in enumerate(rows.items()):
        figures.picture(axes[row, 0], picture, f"{picture.shape[0]} px")
        axes[row, 0].text(-0.08, 0.5, name, transform=axes[row, 0].transAxes, rotation=90, ha="right", va="center")
        for axis, number in zip(axes[row, 1:], shown, strict=True):
            drawn = maps[number - 1]
            title = f"{number}: {drawn.shape[0]} px" if row else f"convolution {number}\n{drawn.shape[0]} px"
            figures.picture(axis, images.normalise(drawn).numpy(), title, cmap="gray", vmin=0, vmax=1)
    for axis in axes.flat:
        axis.title.set_fontsize(10.5)
    return figure


def contact_sheet(
    axes: Axes,
    maps: Float[Tensor, "k h w"],
    title: str | None = None,
    *,
    columns: int = 8,
    shared: bool = True,
    mark: int | None = None,
) -> None:
    """Draw all channels of a layer as one sheet of little panels, row by row.

    Args:
        axes: Where; its picture carries the scale, for ``figures.colour_bar``.
        maps: Of one picture.
        title: Above it.
        columns: Channels in a row.
        shared: One scale for all channels, dark for 0 and bright for the largest value; else each channel is stretched
            by itself, from its own smallest to its own largest value.
        mark: Channel to draw a box around.
    """
    count, height, width = maps.shape
    gap = max(1, round(0.08 * height))
    rows = -(-count // columns)
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap), np.nan)
    values = maps if shared else images.normalise(maps)
    for k, value in enumerate(values.numpy()):
        top, left = gap + k // columns * (height + gap), gap + k % columns * (width + gap)
        sheet[top : top + height, left : left + width] = value
    scale = figures.map_scale(maps.numpy()) if shared else {"cmap": "inferno", "vmin": 0.0, "vmax": 1.0}
    figures.picture(axes, sheet, title, **scale)
    if mark is not None:
        top, left = mark // columns * (height + gap), mark % columns * (width + gap)
        figures.outline(axes, (left, top, left + width + 2 * gap, top + height + 2 * gap), figures.SKY)


def draw_layer(
    network: Classifier,
    picture: UInt8[np.ndarray, "h w 3"],
    layer: str = "conv3_3",
    channel: int = 0,
    shared: bool = True,
) -> Figure:
    """Draw a picture with the square that one cell sees, one channel, and the contact sheet of its layer.

    Args:
        network: A VGG with ``.preprocess``.
        picture: Square, at the size at which the network shall see it, or larger.
        layer: Of ``convolutions(network)``; maps are those behind its ReLU.
        channel: To draw large; the last one if there are fewer.
        shared: One scale for the whole sheet, or one for each channel.
    """
    frame = network.preprocess.frame(picture)
    maps = activations(network, network.preprocess(picture))[layer][0]
    channel = min(channel, len(maps) - 1)
    start, end = seen_square(network, convolutions(network)[layer], frame.shape[0])
    figure, axes = figures.new(1, 3, width=12.4, height=4.1, width_ratios=[1, 1.1, 1.1])
    figures.picture(axes[0], frame, f"one cell of {layer} sees {end - start} px")
    figures.outline(axes[0], (start, start, end, end))
    chosen = maps[channel]
    figures.picture(
        axes[1], chosen.numpy(), f"{layer}, channel {channel} of {len(maps)}", **figures.map_scale(chosen.numpy())
    )
    figures.colour_bar(figure, axes[1], "activation")
    zero = int((maps.amax((1, 2)) <= 0).sum())
    columns = int(np.ceil(len(maps) ** 0.5))
    title = f"all channels, {'one scale' if shared else 'each stretched'} ({zero} silent)"
    contact_sheet(axes[2], maps, title, columns=columns, shared=shared, mark=channel)
    figures.colour_bar(figure, axes[2], "activation" if shared else "share of each one's range")
    return figure
