"""An explorer: a figure, and the controls that redraw it.

``explorer(draw, opacity=(0.0, 1.0, 0.1), label=["cat", "dog"])`` calls ``draw(opacity=..., label=...)``, a
pure function that returns a figure, at every change of a control. Shorthand for controls is that of
ipywidgets' ``interact``: a tuple is a slider, a list or dict a choice, a bool a box to tick; any widget with
a value will do.
"""

import html
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets as widgets
from matplotlib.figure import Figure

from xailab import figures


class Explorer(widgets.VBox):
    """Controls above the figure that a function draws of their values.

    Attributes:
        controls: The widgets, by the name of the argument.
        picture: The image widget. (An output widget's picture would be lost when the notebook is saved.)
        message: An HTML widget, empty unless the function raises an error.
    """

    def __init__(self, draw: Callable[..., Figure], controls: dict[str, Any]) -> None:
        self.draw, self.controls = draw, controls
        self.picture = widgets.Image(format="png", layout=widgets.Layout(max_width="100%", object_fit="contain"))
        self.message = widgets.HTML()
        row = widgets.HBox(list(controls.values()), layout=widgets.Layout(flex_flow="row wrap"))
        super().__init__([row, self.message, self.picture])
        for control in controls.values():
            control.observe(self.redraw, names="value")
        self.redraw()

    def redraw(self, _=None) -> None:
        """Draw the figure of the controls' present values, or show the error."""
        try:
            figure = self.draw(**{name: control.get_interact_value() for name, control in self.controls.items()})
            self.picture.value = figures.png(figure)
            self.message.value = ""
        except Exception as error:
            self.message.value = f"<b>{type(error).__name__}</b>: {html.escape(str(error))}"


def explorer(draw: Callable[..., Figure], **controls: Any) -> Explorer:
    """Make an explorer: controls above the figure that ``draw`` makes of their values.

    Each control begins at the default that ``draw`` gives its argument, if any.

    Raises:
        TypeError: if a control is neither a widget with a value nor shorthand for one.
    """
    defaults = {name: p.default for name, p in inspect.signature(draw).parameters.items()}
    empty = inspect.Parameter.empty
    return Explorer(draw, {name: _control(name, given, defaults.get(name, empty)) for name, given in controls.items()})


def class_menu(names: Sequence[str], value: int = 0) -> widgets.Dropdown:
    """Make a menu of class names whose value is the number of the class."""
    return widgets.Dropdown(options=[(name, i) for i, name in enumerate(names)], value=value, description="class")


def _control(name: str, given: Any, default: Any) -> widgets.DOMWidget:
    """Make the widget of one control, with its whole label in sight, that reports when it is released."""
    control = widgets.interactive.widget_from_abbrev(given, default)
    if not (isinstance(control, widgets.DOMWidget) and isinstance(control, widgets.ValueWidget)):
        raise TypeError(f"{name}: expected a widget with a value, or a tuple, list or bool, got {given!r}")
    control.description = control.description or name.replace("_", " ")
    control.style.description_width = "initial"  # the default width cuts long labels
    control.layout.width, control.layout.min_width = "auto", "18em"
    for trait in ("continuous_update", "indent"):
        if control.has_trait(trait):
            control.set_trait(trait, False)
    return control
