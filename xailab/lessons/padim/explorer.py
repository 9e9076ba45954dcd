"""The explorer of an inspection."""

from collections.abc import Mapping
from functools import lru_cache

import ipywidgets as widgets
from matplotlib.figure import Figure
from torch import Tensor

from xailab.lessons.explorer import explorer
from xailab.lessons.padim.drawings import draw_inspection
from xailab.lessons.padim.measuring import Recorded


def inspection_explorer(recorded: Mapping[str, Recorded]) -> widgets.VBox:
    """Choose category, picture, threshold, blur, layers and dimensions; see ``draw_inspection``."""
    names = next(iter(recorded.values())).layers
    choices = {" + ".join(some): some for some in (names, *((name,) for name in names), names[:2], names[1:])}
    count = min(len(each.pictures) for each in recorded.values())

    @lru_cache(maxsize=4)
    def distances(category: str, layers: tuple[str, ...], d: int | None) -> tuple[Tensor, ...]:
        return recorded[category].distances(layers, d)

    def draw(category, picture=6, threshold=1.0, sigma=4.0, layers=names, d=None) -> Figure:
        found = distances(category, tuple(layers), d)
        return draw_inspection(recorded[category], picture - 1, threshold, sigma, distances=found)

    return explorer(
        draw,
        category=list(recorded),
        picture=(1, count),
        threshold=widgets.FloatSlider(1.0, min=0.3, max=2.0, step=0.05, description="threshold (1: calibrated)"),
        sigma=widgets.FloatSlider(4.0, min=0.0, max=16.0, step=1.0, description="sigma of the blur, pixels"),
        layers=widgets.Dropdown(options=list(choices.items()), description="layers"),
        d=widgets.Dropdown(options=[("all", None), *((str(n), n) for n in (50, 20, 10, 5))], description="d"),
    )
