"""The picture full of edges, and the drawings of feature maps and of what is measured in them."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from torch import Tensor

from xailab import figures, images
from xailab.lessons.drawings import number_grid
from xailab.lessons.feature_maps.measuring import activations, convolutions, seen_square
from xailab.models.classifier import Classifier

PAPER, INK = 238, 28  # grey values of the test picture
COLOURS = (figures.SKY, figures.PINK, figures.ORANGE, figures.VERMILLION)
LINES = (figures.BLUE, figures.ORANGE, figures.GREY, figures.VERMILLION)


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


def draw_idea(picture: UInt8[np.ndarray, "h w 3"]) -> Figure:
    """Draw one channel from picture to pooled map, and below it the order of VGG16's layers."""
    figure, (upper, lower) = figures.new(2, 1, width=12, height=4.2, height_ratios=[2.75, 1.2])
    for page in (upper, lower):
        page.set_axis_off()
    grey = torch.from_numpy(images.grey(picture)[..., 0]).float() / 255
    w = torch.tensor([[-1.0, 0, 1], [-1, 0, 1], [-1, 0, 1]])
    z = F.conv2d(grey[None, None], w[None, None])[0]
    a = z.relu()
    pooled, bound = F.max_pool2d(a, 2)[0], float(z.abs().max())
    upper.set(xlim=(0, 12), ylim=(0, 2.75))

    def put(image: np.ndarray, x: float, title: str, side: float = 2.2, **options) -> None:
        axis = upper.inset_axes((x, (2.2 - side) / 2, side, side), transform=upper.transData)
        figures.picture(axis, image, title, **options)

    put(picture, 0.0, "picture $a$")
    number_grid(upper.inset_axes((2.55, 0.7, 0.8, 0.8), transform=upper.transData), w, "filter $w$", fontsize=9)
    put(z[0].numpy(), 3.7, "map $z$: red +, blue −", cmap="RdBu_r", vmin=-bound, vmax=bound)
    put(a[0].numpy(), 6.75, "max($z$, 0)", cmap="inferno", vmin=0)
    put(pooled.numpy(), 10.3, "pooled map", 1.1, cmap="inferno", vmin=0)
    arrow = {"arrowstyle": "-|>", "linewidth": 2.0, "color": "black", "mutation_scale": 16}
    for start, end, word in ((3.4, 3.68, ""), (5.95, 6.7, "ReLU"), (9.0, 10.25, "2 × 2\nmax pooling")):
        upper.annotate("", (end, 1.1), (start, 1.1), arrowprops=arrow)
        upper.text((start + end) / 2, 1.25, word, ha="center", va="bottom")
    _draw_vgg16(lower)
    return figure


def _draw_vgg16(page: Axes) -> None:
    """Draw VGG16's layers as bars, the lower the smaller the maps."""
    x = 0.0
    page.set(xlim=(-0.6, 24), ylim=(-0.45, 1.05))
    for block, number in enumerate((2, 2, 3, 3, 3)):
        height, start = 1 - 0.16 * block, x
        for _ in range(number):
            for colour, width in ((figures.BLUE, 0.7), (figures.ORANGE, 0.35)):
                page.add_patch(Rectangle((x, 0), width, height, facecolor=colour, edgecolor="white"))
                x += width
        page.add_patch(Rectangle((x, 0), 0.35, height - 0.16, facecolor=figures.GREEN, edgecolor="white"))
        page.text((start + x) / 2, -0.1, f"{224 >> block} px", ha="center", va="top")
        x += 0.8
    keys = (("13 convolutions 3 × 3", figures.BLUE), ("13 ReLUs", figures.ORANGE), ("5 max poolings", figures.GREEN))
    page.legend(handles=[Patch(color=colour, label=label) for label, colour in keys], loc="center right")
    page.text(-0.15, 0.5, "VGG16", ha="right", va="center", rotation=90)


def draw_steps(steps: Mapping[str, Float[Tensor, "_ _"]], marks: Sequence[Sequence[int]]) -> Figure:
    """Draw small matrices side by side, each with a box around some of its cells (or with none)."""
    sides = [max(values.shape[1], 2.6) for values in steps.values()]
    figure, axes = figures.new(1, len(steps), width=11.6, height=3.0, width_ratios=sides)
    for axis, (title, values), mark in zip(axes, steps.items(), marks, strict=True):
        number_grid(axis, values, title, mark=mark)
    return figure


def draw_sheets(
    picture: UInt8[np.ndarray, "h w 3"], maps: Mapping[str, Float[Tensor, "k h w"]], columns: int = 6
) -> Figure:
    """Draw a picture and one contact sheet for each layer: its first channels, on one scale for the sheet.

    Args:
        picture: What the network saw.
        maps: After the ReLU, by the name of the layer; the strongest 0.5 % is clipped.
        columns: Channels in a row, and rows.
    """
    figure, axes = figures.new(1, 1 + len(maps), width=13.2, height=3.3)
    figures.picture(axes[0], picture, "what the network saw")
    for axis, (layer, values) in zip(axes[1:], maps.items(), strict=True):
        shown, side = values[: columns**2], values.shape[-1]
        title = f"{layer}: {len(values)} maps\nof {side} × {side}"
        contact_sheet(axis, shown.clamp(max=float(shown.flatten()[::3].quantile(0.995))), title, columns=columns)
    return figure


def draw_filters(
    tiles: UInt8[np.ndarray, "k h w 3"], maps: Float[Tensor, "k h w"], notes: Sequence[str] | None = None
) -> Figure:
    """Draw filters of a first layer, each beside its map, all maps on one scale; the strongest 1 % is clipped."""
    bound = float(maps.abs().flatten()[::7].quantile(0.99))
    figure, axes = figures.new(2, 8, width=11.8, height=4.3, width_ratios=[0.42, 1] * 4)
    for k, tile in enumerate(tiles):
        left, right = axes[k // 4, 2 * (k % 4)], axes[k // 4, 2 * (k % 4) + 1]
        figures.picture(left, tile, f"filter {k}")
        figures.picture(right, maps[k].numpy(), f"map $z_{k}$", cmap="RdBu_r", vmin=-bound, vmax=bound)
    bar = figure.colorbar(axes[0, 1].images[0], ax=list(axes[:, -1]), fraction=0.06, pad=0.03, extend="both")
    bar.set_label("z")
    bar.outline.set_visible(False)
    return figure


def draw_fields(
    picture: UInt8[np.ndarray, "h w 3"],
    masses: Mapping[str, Float[Tensor, "h w"]],
    squares: Mapping[str, tuple[int, int]],
    holding: Mapping[str, int],
) -> Figure:
    """Draw what a cell of each layer can see, and where its gradient lies, enlarged, with the square that holds 90 %.

    Args:
        picture: What the network saw.
        masses: Mean |gradient| of the middle cell by each pixel, by the name of the layer.
        squares: First pixel, and first pixel after, that this cell can see.
        holding: Side of the square that holds 90 % of the gradient.
    """
    figure, axes = figures.new(1, 1 + len(masses), width=12.4, height=2.9)
    figures.picture(axes[0], picture, "what a cell can see")
    for axis, (name, mass), colour in zip(axes[1:], masses.items(), COLOURS, strict=False):
        start, end = squares[name]
        figures.outline(axes[0], (start, start, end, end), colour)
        figures.picture(axis, mass[start:end, start:end].numpy(), f"{name}: {end - start} px", cmap="inferno", vmin=0)
        margin = (end - start - holding[name]) // 2
        figures.outline(axis, (margin, margin, margin + holding[name], margin + holding[name]), colour)
    return figure


def draw_depth(
    curves: Mapping[str, Float[np.ndarray, "runs layers"]],
    names: Sequence[str],
    title: str,
    label: str,
    limits: tuple[float, float] = (0.0, 1.0),
) -> Figure:
    """Draw something that each layer has against depth: the mean of some runs, and their range as a band.

    Args:
        curves: Runs by the name of the curve.
        names: Of the layers.
        title: Of the figure.
        label: Of the upright axis.
        limits: Of the upright axis.
    """
    figure, axis = figures.new(width=9.0, height=4.0)
    depth = np.arange(1, len(names) + 1)
    for (name, runs), colour, style in zip(curves.items(), LINES, ("o-", "s--", "^:", "d-."), strict=False):
        runs = np.atleast_2d(runs)
        axis.plot(depth, runs.mean(0), style, color=colour, label=name)
        axis.fill_between(depth, runs.min(0), runs.max(0), color=colour, alpha=0.2, linewidth=0)
    axis.set_xticks(depth, [name.removeprefix("conv").replace("_", ".") for name in names])
    axis.set(ylim=limits, xlabel="convolution", ylabel=label, title=title)
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def draw_traps(
    picture: UInt8[np.ndarray, "h w 3"],
    title: str,
    before: Float[Tensor, "k h w"],
    after: Float[Tensor, "k h w"],
) -> Figure:
    """Draw a picture and three sheets of one layer: before the ReLU, after it, after it on one scale."""
    figure, axes = figures.new(1, 4, width=12.6, height=3.6, width_ratios=[0.85, 1, 1, 1.08])
    figures.picture(axes[0], picture, title)
    contact_sheet(axes[1], before, "before the ReLU, each stretched", shared=False)
    contact_sheet(axes[2], after, "after it, each stretched", shared=False)
    contact_sheet(axes[3], after, "after it, one scale")
    figures.colour_bar(figure, axes[3], "activation")
    return figure


def draw_best(
    rows: Mapping[str, Sequence[UInt8[np.ndarray, "h w 3"]]], titles: Sequence[Sequence[str]], panel: float = 1.72
) -> Figure:
    """Draw one row of pictures for each channel, with its name at the left."""
    columns = max(map(len, rows.values()))
    figure, axes = figures.new(len(rows), columns, width=panel * columns, height=1.9 * len(rows), squeeze=False)
    for row, (name, pictures), words in zip(axes, rows.items(), titles, strict=True):
        for axis, picture, title in zip(row, pictures, words, strict=True):
            figures.picture(axis, picture, title)
            axis.title.set_fontsize(10.5)
        row[0].text(-0.1, 0.5, name, transform=row[0].transAxes, rotation=90, ha="right", va="center", fontsize=10.5)
    return figure


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
        layer: Of ``convolutions(network)``; maps are those after its ReLU.
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
