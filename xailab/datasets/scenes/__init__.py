"""Scenes: rendered pictures of ten classes of drawn objects with pixel-exact masks.

    >>> from xailab.datasets import scenes
    >>> picture = scenes.scene(7, kind="pair")
    >>> [scenes.CLASSES[label] for label in picture.labels]
    ['mug', 'car']

A scene is a pure function of (seed, split, kind, index): the same picture in any order, worker and process.
"""

from xailab.datasets.scenes.scenes import BIASED_CLASS, CLASSES, KINDS, SPLITS, Scene, Scenes, batch, scene

__all__ = ["BIASED_CLASS", "CLASSES", "KINDS", "SPLITS", "Scene", "Scenes", "batch", "scene"]
