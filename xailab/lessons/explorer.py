"""An explorer: a figure, and the controls that redraw it.

``explorer(draw, opacity=(0.0, 1.0, 0.1), label=["cat", "dog"])`` calls ``draw(opacity=..., label=...)``, a
pure function that returns a figure, at every change of a control. Shorthand for controls is that of
ipywidgets' ``interact``: a tuple is a slider, a list or dict a choice, a bool a box to tick; any widget with
a value will do.
"""

import html
import inspect
from collections.abc import Callable
from typing import Any

import ipywidgets as widgets
from matplotlib.figure import Figure

from xailab import figures


def explorer(draw: Callable[..., Figure], **controls: Any) -> widgets.VBox:
    """Controls above the figure that ``draw`` makes of their values.

    Each control begins at the default that ``draw`` gives its argument, if any.

    Returns:
        A box with ``.controls`` (name to widget), ``.picture`` (the image widget) and ``.message``
        (an HTML widget that is empty, or says what went wrong in ``draw``).

    Raises:
        TypeError: a control is neither a widget with a value nor shorthand for one.
    """
    defaults = {name: p.default for name, p in inspect.signature(draw).parameters.items()}
    box = widgets.VBox()
    box.controls = {
        name: _control(name, given, defaults.get(name, inspect.Parameter.empty)) for name, given in controls.items()
    }
    # An image widget, not an output widget: an output widget's picture is lost when the notebook is saved.
    box.picture = widgets.Image(format="png", layout=widgets.Layout(max_width="100%", object_fit="contain"))
    box.message = widgets.HTML()

    def redraw(_=None):
        try:
            figure = draw(**{name: control.get_interact_value() for name, control in box.controls.items()})
            box.picture.value = figures.png(figure)
            box.message.value = ""
        except Exception as error:
            box.message.value = f"<b>{type(error).__name__}</b>: {html.escape(str(error))}"

    for control in box.controls.values():
        control.observe(redraw, names="value")
    row = widgets.HBox(list(box.controls.values()), layout=widgets.Layout(flex_flow="row wrap"))
    box.children = [row, box.message, box.picture]
    redraw()
    return box


def _control(name: str, given: Any, default: Any) -> widgets.DOMWidget:
    """A widget for one control, with its whole label in sight, that reports when it is let go."""
    control = widgets.interactive.widget_from_abbrev(given, default)
    if not (isinstance(control, widgets.DOMWidget) and isinstance(control, widgets.ValueWidget)):
        raise TypeError(f"{name}: expected a widget with a value, or a tuple, list or bool, got {given!r}")
    control.description = control.description or name.replace("_", " ")
    control.style.description_width = "initial"  # the default width cuts long labels
    control.layout.width, control.layout.min_width = "auto", "18em"
    if control.has_trait("continuous_update"):
        control.continuous_update = False
    if control.has_trait("indent"):
        control.indent = False
    return control
