"""The explorer of a search for the nearest patches."""

from collections.abc import Mapping

import ipywidgets as widgets
from matplotlib.figure import Figure

from xailab.lessons.explorer import explorer
from xailab.lessons.patch_svdd.drawings import SIZES, Searched, draw_search
from xailab.patch_svdd import Maps


def search_explorer(searched: Mapping[str, Searched]) -> widgets.VBox:
    """Choose category, picture, the patch's middle, its size and the map; see ``draw_search``."""
    first = next(iter(searched.values()))
    height, width = first.masks.shape[1:]
    count = min(len(each.pictures) for each in searched.values())

    def draw(category, picture=2, row=56, column=40, size="fine", kind="product") -> Figure:
        return draw_search(searched[category], picture - 1, row, column, size, kind)

    return explorer(
        draw,
        category=list(searched),
        picture=(1, count),
        row=widgets.IntSlider(56, 0, height, 4, description="row, pixels"),
        column=widgets.IntSlider(40, 0, width, 4, description="column, pixels"),
        size=widgets.Dropdown(options=[(f"{p} × {p}", name) for name, p in SIZES.items()], description="patch"),
        kind=widgets.Dropdown(options=list(Maps._fields), value="product", description="map"),
    )
