"""Draw the README's picture, docs/cat_and_dog.png: one scene, and where the network sees the cat and the dog.

python tools/readme_picture.py
"""

from pathlib import Path

from xailab import figures, images
from xailab.cam import class_activation_map
from xailab.datasets import scenes
from xailab.models import zoo

network = zoo.load("scenes_resnet")
animals = [scenes.CLASSES.index("cat"), scenes.CLASSES.index("dog")]
scene = scenes.scene(1, kind="pair", split="test", size=288, label=tuple(animals))
maps = class_activation_map(network, network.preprocess(scene.image), [animals])[0]
panels = [scene.image, *(images.overlay(scene.image, map) for map in maps)]
figure = figures.strip(panels, ["a picture", "the network's evidence for “cat”", "… and for “dog”"], panel=3.1)
(Path(__file__).parents[1] / "docs" / "cat_and_dog.png").write_bytes(figures.png(figure))
