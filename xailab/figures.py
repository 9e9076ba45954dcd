"""Draw the figures of all lessons in one style.

Figures are made with matplotlib's object interface, so that nothing is registered in ``pyplot`` and nothing has to be
closed. ``show`` puts one into a notebook together with the sentence that says what is to be seen in it.
"""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib import RcParams, rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from xailab.extras import needed_for
from xailab.images import as_array

LARGEST_PNG = 60_000  # bytes

# Okabe and Ito's eight colours, distinct for all common kinds of colour vision.
PALETTE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000"]
BLUE, VERMILLION, GREEN, PINK, ORANGE, SKY, YELLOW, BLACK = PALETTE
GREY = "#8A8A8A"

STYLE = RcParams(
    {
        "figure.dpi": 100,
        "figure.facecolor": "white",
        "font.family": "DejaVu Sans",
        "font.size": 11,
        "axes.titlesize": 12,
        "axes.labelsize": 11,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.prop_cycle": f"cycler('color', {PALETTE})",
        "grid.color": "#E4E4E4",
        "legend.frameon": False,
        "lines.linewidth": 2.2,
        "image.interpolation": "nearest",
    }
)


def new(rows: int = 1, columns: int = 1, *, width: float = 8.0, height: float = 4.0, **options) -> tuple:
    """Make an empty figure in the course's style.

    >>> figure, axes = new(1, 2, width=6)
    >>> len(axes), figure.get_size_inches().tolist()
    (2, [6.0, 4.0])

    Args:
        rows, columns: Number of panels.
        width, height: Size of the whole figure in inches, at 100 pixels an inch.
        **options: Passed on to ``Figure.subplots`` (``sharey``, ``width_ratios``, ``squeeze``, ...).

    Returns:
        ``(figure, axes)``; ``axes`` is one ``Axes`` or an array of them, as ``subplots`` gives them.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        return figure, figure.subplots(rows, columns, **options)


def png(figure: Figure) -> bytes:
    """Render a figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    with rc_context(STYLE):
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def show(figure: Figure, alt: str) -> None:
    """Display a figure in a notebook, with a sentence for readers who cannot see it.

    >>> show(new()[0], "An empty pair of axes from 0 to 1.")  # doctest: +SKIP

    Drawings are stored as PNG; where photographs would make that large, as JPEG, so that notebooks stay small.

    Args:
        figure: A figure of ``new`` or of one of the functions below.
        alt: The alternative text: what is to be seen, in words.

    Raises:
        ValueError: if there is no alternative text.
    """
    with needed_for("xailab.figures.show", extra="course"):
        from IPython.display import display

    if not alt.strip():
        raise ValueError("a picture needs alt text: say in a sentence what is to be seen in it")
    kind, data = "image/png", png(figure)
    if len(data) > LARGEST_PNG:
        buffer = io.BytesIO()
        Image.open(io.BytesIO(data)).convert("RGB").save(buffer, "JPEG", quality=90, subsampling=0)
        if buffer.tell() < len(data):
            kind, data = "image/jpeg", buffer.getvalue()
    display({kind: data, "text/plain": alt}, raw=True, metadata={kind: {"alt": alt}})


def picture(axes: Axes, image: np.ndarray, title: str | None = None, **options) -> None:
    """Draw one picture (h, w, 3) or map (h, w) on ``axes``, without ticks or frame.

    >>> figure, axes = new()
    >>> picture(axes, np.zeros((2, 3, 3), np.uint8), "black")
    >>> axes.get_title()
    'black'
    """
    axes.imshow(as_array(image), **options)
    axes.set_axis_off()
    if title is not None:
        axes.set_title(title)


def grid(
    images: Sequence[np.ndarray] | np.ndarray,
    titles: Sequence[str] | None = None,
    *,
    columns: int = 5,
    title: str | None = None,
    panel: float = 1.6,
) -> Figure:
    """Draw pictures in rows of ``columns``.

    >>> figure = grid([np.zeros((2, 2, 3), np.uint8)] * 3, ["a", "b", "c"], columns=3)
    >>> [axes.get_title() for axes in figure.axes]
    ['a', 'b', 'c']

    Args:
        images: uint8 RGB pictures (h, w, 3).
        titles: One line for each picture, or None.
        columns: Pictures in a row.
        title: Title of the whole figure.
        panel: Width of a picture in inches.

    Raises:
        ValueError: if there are no pictures, or not one title for each.
    """
    if not len(images):
        raise ValueError("there are no pictures to draw: images is empty")
    if titles is not None and len(titles) != len(images):
        raise ValueError(f"expected one title for each of the {len(images)} pictures, got {len(titles)}")
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    tall = panel * images[0].shape[0] / images[0].shape[1]
    height = rows * (tall + (0.25 if titles else 0.04)) + (0.2 if title else 0.0)
    if titles and not title and rows == 1:
        height += 0.16  # or the tops of its letters are cut off
    figure, axes = new(rows, columns, width=columns * panel, height=height, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for i, (axis, image) in enumerate(zip(axes.flat, images, strict=False)):
        picture(axis, image, titles[i] if titles else None)
        axis.title.set_fontsize(11 if panel < 2 else 12)
    if title:
        figure.suptitle(title, fontsize=13)
    return figure


def strip(
    images: Sequence[np.ndarray] | np.ndarray, titles: Sequence[str], *, title: str | None = None, panel: float = 2.4
) -> Figure:
    """Draw a few pictures side by side, each with its title.

    >>> len(strip([np.zeros((2, 2, 3), np.uint8)] * 3, ["a", "b", "c"]).axes)
    3
    """
    return grid(images, titles, columns=len(images), title=title, panel=panel)


def map_scale(values: np.ndarray) -> dict:
    """Choose colours for a raw map: blue-white-red around 0 if it is signed, else dark to bright from 0.

    >>> map_scale(np.array([-1.0, 2.0]))
    {'cmap': 'RdBu_r', 'vmin': -2.0, 'vmax': 2.0}

    Args:
        values: Raw map(s) of any shape.

    Returns:
        ``cmap``, ``vmin`` and ``vmax`` for ``imshow``. A signed map is scaled symmetrically, so that white is 0.
    """
    values = as_array(values)
    low, high = float(values.min()), float(values.max())
    if low < 0:
        bound = max(-low, high)
        return {"cmap": "RdBu_r", "vmin": -bound, "vmax": bound}
    return {"cmap": "inferno", "vmin": 0.0, "vmax": high or 1.0}


def colour_bar(figure: Figure, axes: Axes, label: str) -> None:
    """Put a colour bar with its unit beside the picture last drawn on ``axes``.

    >>> figure, axes = new()
    >>> picture(axes, np.eye(2))
    >>> colour_bar(figure, axes, "activation")
    >>> figure.axes[1].get_ylabel()
    'activation'
    """
    bar = figure.colorbar(axes.images[-1], ax=axes, fraction=0.046, pad=0.03)
    bar.set_label(label)
    bar.outline.set_visible(False)


def maps(
    values: Sequence[np.ndarray],
    titles: Sequence[str],
    *,
    label: str,
    shared: bool = True,
    title: str | None = None,
    panel: float = 3.0,
) -> Figure:
    """Draw raw maps side by side with colour bars that carry their values.

    >>> figure = maps([np.eye(2), -np.eye(2)], ["plus", "minus"], label="score")
    >>> [axes.images[0].get_clim() for axes in figure.axes[:2]]
    [(-1.0, 1.0), (-1.0, 1.0)]

    Args:
        values: Maps (h, w), signed or not.
        titles: One for each map.
        label: What the values are, with their unit; written at the colour bar.
        shared: One colour scale, and one bar, for all maps; else each has its own.
        title: Title of the whole figure.
        panel: Width of a map in inches.

    Raises:
        ValueError: if there are no maps, or not one title for each, or a value is not finite.
    """
    values = [as_array(value) for value in values]
    if not values or len(titles) != len(values):
        raise ValueError(f"expected maps and one title for each, got {len(values)} maps and {len(titles)} titles")
    if not all(np.isfinite(value).all() for value in values):
        raise ValueError("a map has values that are NaN or infinite: look at the network's output first")
    width, height = len(values) * panel + (0.9 if shared else 0.9 * len(values)), panel + (0.75 if title else 0.35)
    figure, axes = new(1, len(values), width=width, height=height, squeeze=False)
    together = map_scale(np.stack([[v.min(), v.max()] for v in values]))
    for axis, value, name in zip(axes[0], values, titles, strict=True):
        picture(axis, value, name, **(together if shared else map_scale(value)))
        if not shared:
            colour_bar(figure, axis, label)
    if shared:
        bar = figure.colorbar(axes[0, -1].images[0], ax=list(axes[0]), fraction=0.046 / len(values), pad=0.02)
        bar.set_label(label)
        bar.outline.set_visible(False)
    if title:
        figure.suptitle(title, fontsize=13)
    return figure


def outline(axes: Axes, box: tuple, colour: str = PALETTE[4], label: str | None = None) -> None:
    """Draw a box on a picture, its line inside the frame.

    >>> figure, axes = new()
    >>> picture(axes, np.zeros((8, 8)))
    >>> outline(axes, (1, 2, 5, 6))
    >>> axes.patches[1].get_bbox().extents.tolist()
    [0.5, 1.5, 4.5, 5.5]

    Args:
        axes: Axes with a picture.
        box: (left, top, right, bottom) in pixels, ends exclusive.
        colour: Colour of the line.
        label: Entry in a legend.
    """
    left, top, right, bottom = box[:4]
    if axes.images:
        height, width = axes.images[0].get_size()
        edge = max(1, round(0.015 * width))
        left, top, right, bottom = max(left, edge), max(top, edge), min(right, width - edge), min(bottom, height - edge)
    corner, width, height = (left - 0.5, top - 0.5), right - left, bottom - top
    axes.add_patch(Rectangle(corner, width, height, fill=False, edgecolor="black", linewidth=4.5))
    axes.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=colour, linewidth=2.5, label=label))
