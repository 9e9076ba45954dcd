"""Draw the README's picture, docs/cat_and_cup.jpg: where a network sees the cat and where the cup, in one picture.

python tools/readme_picture.py
"""

import io
from pathlib import Path

import torch
from PIL import Image

from xailab import figures, images
from xailab.cam import class_activation_map
from xailab.datasets import photographs
from xailab.models import zoo

network = zoo.load("efficientnet_lite0")
batch = network.preprocess(photographs.stacked("cat", "cup"))
picture = network.preprocess.undo(batch)[0]
targets = torch.tensor([[network.classes.index(name) for name in ("tiger cat", "espresso")]])
maps = class_activation_map(network, batch, targets)[0]
panels = [picture, *(images.overlay(images.grey(picture), evidence, scale=float(maps.max())) for evidence in maps)]
titles = ["two photographs", "the network's evidence for “tiger cat”", "… and for “espresso”"]
figure = figures.strip(panels, titles, panel=3.4)
path = Path(__file__).parents[1] / "docs" / "cat_and_cup.jpg"
Image.open(io.BytesIO(figures.png(figure))).convert("RGB").save(path, quality=85)
