"""The explorer of prototypes and their boxes."""

import ipywidgets as widgets
from matplotlib.figure import Figure

from xailab.lessons.explorer import explorer
from xailab.lessons.protopnet.drawings import draw_box
from xailab.protopnet import KINDS, Kind, LocalAnalysis, ProtoPNet


def box_explorer(model: ProtoPNet, analysis: LocalAnalysis) -> widgets.VBox:
    """Choose an image, a prototype by its rank, and a kind of box; see ``draw_box``."""

    def draw(image: int = 1, rank: int = 1, kind: Kind = "activation") -> Figure:
        return draw_box(model, analysis, image - 1, rank - 1, kind)

    return explorer(
        draw,
        image=(1, len(analysis)),
        rank=widgets.IntSlider(1, 1, analysis.prototypes.shape[1], 1, description="prototype, by rank"),
        kind=widgets.Dropdown(options=list(KINDS), value="activation", description="box"),
    )
