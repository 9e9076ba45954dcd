"""The explorers of class models and of segments."""

from collections.abc import Mapping, Sequence

import ipywidgets as widgets
from matplotlib.figure import Figure

from xailab.lessons.explorer import class_menu, explorer
from xailab.lessons.saliency.drawings import TRICKS, draw_class_model, draw_segment
from xailab.models.classifier import Classifier


def class_model_explorer(networks: Mapping[str, Classifier]) -> widgets.VBox:
    """Choose network, class, lambda, steps and tricks; see ``draw_class_model``."""
    names = next(iter(networks.values())).classes

    def draw(network, label=9, l2=1e-3, steps=60, **switches) -> Figure:
        chosen = [name for name in TRICKS if switches[name.replace(" ", "_")]]
        return draw_class_model(networks[network], label, l2, steps, chosen)

    return explorer(
        draw,
        network=list(networks),
        label=class_menu(names, 9),
        l2=widgets.SelectionSlider(options=[0.0, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2], value=1e-3, description="lambda"),
        steps=widgets.IntSlider(60, min=10, max=80, step=10, description="steps"),
        **{name.replace(" ", "_"): widgets.Checkbox(name == "jitter", description=name) for name in TRICKS},
    )


def segment_explorer(networks: Mapping[str, Classifier], drawn: Sequence) -> widgets.VBox:
    """Choose picture, network and the two quantiles; see ``draw_segment``.

    Args:
        networks: By name.
        drawn: Scenes with ``.image``, ``.masks`` and ``.labels``.
    """

    def draw(network, picture=1, foreground=0.95, background=0.30) -> Figure:
        scene = drawn[picture - 1]
        return draw_segment(
            networks[network], scene.image, scene.masks[0], scene.labels[0], foreground, background
        )  # fmt: skip

    return explorer(
        draw,
        network=list(networks),
        picture=(1, len(drawn)),
        foreground=widgets.FloatSlider(0.95, min=0.7, max=0.99, step=0.01, description="object from quantile"),
        background=widgets.FloatSlider(0.30, min=0.05, max=0.65, step=0.05, description="background up to quantile"),
    )
