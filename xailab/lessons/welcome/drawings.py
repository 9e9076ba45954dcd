"""Pictures of the embedded scenes."""

import numpy as np
from matplotlib.figure import Figure

from xailab import figures
from xailab.datasets import scenes


def draw_scene(kind: str = "single", index: int = 0, show_masks: bool = True) -> Figure:
    """Draw a scene, its objects' names, and their masks in colour on grey."""
    scene = scenes.scene(index, kind=kind, split="test", size=256)
    names = " and ".join(scenes.CLASSES[label] for label in scene.labels)
    panels, titles = [scene.image], [f"{names}{' with a mark' if scene.mark is not None else ''}"]
    if show_masks:
        panels.append(tint(scene.image, scene.masks))
        titles.append("its exact mask" + ("s" if len(scene.masks) > 1 else ""))
    return figures.strip(panels, titles, panel=3.2)


def tint(image: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Colour the pixels of each mask (k, h, w), grey the rest."""
    from matplotlib.colors import to_rgb

    grey = image.mean(2, keepdims=True).repeat(3, 2) * 0.4 + 140
    for mask, colour in zip(masks, (figures.VERMILLION, figures.BLUE), strict=False):
        grey[mask] = 0.5 * grey[mask] + 0.5 * 255 * np.array(to_rgb(colour))
    return grey.astype(np.uint8)
