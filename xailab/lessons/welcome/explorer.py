"""The explorer of the embedded scenes."""

import ipywidgets as widgets

from xailab.datasets import scenes
from xailab.lessons.explorer import explorer
from xailab.lessons.welcome.drawings import draw_scene


def scene_explorer() -> widgets.VBox:
    """Choose kind and number of a scene; see ``draw_scene``."""
    return explorer(draw_scene, kind=list(scenes.KINDS), index=(0, 199), show_masks=True)
