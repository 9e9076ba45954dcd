"""Parts of drawings that several lessons share."""

import numpy as np
from jaxtyping import Bool
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine


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
