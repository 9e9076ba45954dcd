"""Parts of drawings that several lessons share."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle
from torch import Tensor

from xailab import figures

PALE = "#F2F2F2"


def outline(axes: Axes, mask: Bool[np.ndarray, "h w"], colour: str, width: float = 1.4) -> None:
    """Draw the border of a mask on a picture, on a black line, so that it is seen on any background."""
    if mask.any() and not mask.all():
        lines = axes.contour(mask.astype(float), [0.5], colors=[colour], linewidths=width)
        lines.set_path_effects([patheffects.withStroke(linewidth=width + 1.2, foreground="black")])


def tight(figure: Figure, pad: float = 0.02) -> None:
    """Leave less room between pictures; ``pad`` is the margin around each of them, in inches."""
    engine = figure.get_layout_engine()
    if not isinstance(engine, ConstrainedLayoutEngine):
        raise TypeError("expected a figure of figures.new, whose layout is constrained")
    engine.set(w_pad=pad, h_pad=pad, wspace=0.01, hspace=0.01)


def number_grid(
    axes: Axes,
    values: Float[Tensor, "h w"],
    title: str,
    *,
    mark: Sequence[int] = (),
    shaded: bool = True,
    fontsize: float = 13,
) -> None:
    """Draw a small matrix as numbers: orange where positive, blue where negative, pale where zero.

    Args:
        axes: Axes to draw on.
        values: Numbers of few digits.
        title: Title of the axes.
        mark: Box (left, top, right, bottom; cells, ends exclusive) to draw round some of the cells, or none.
        shaded: Whether small numbers have paler colours.
        fontsize: Size of the numbers in points.
    """
    rows, columns = values.shape
    bound = float(values.abs().max()) or 1.0
    for (y, x), value in np.ndenumerate(values.numpy()):
        colour = figures.ORANGE if value > 0 else figures.SKY if value < 0 else PALE
        strength = 0.25 + 0.75 * abs(value) / bound if shaded else 1.0
        axes.add_patch(Rectangle((x, y), 1, 1, facecolor=PALE, edgecolor="white", linewidth=2))
        axes.add_patch(Rectangle((x, y), 1, 1, facecolor=colour, alpha=strength, edgecolor="white"))
        ink = "black" if value or shaded else "#8A8A8A"
        text = f"{value:g}".replace("-", "−")
        axes.text(x + 0.5, y + 0.53, text, ha="center", va="center", fontsize=fontsize, color=ink)
    if len(mark):
        left, top, right, bottom = mark
        axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor="black", linewidth=2.5))
    axes.set(xlim=(-0.05, columns + 0.05), ylim=(rows + 0.05, -0.05), aspect="equal")
    axes.set_axis_off()
    axes.set_title(title)
