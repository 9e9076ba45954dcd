"""What the shipped backbone reaches on the rendered inspection pictures, as the command runs it by default."""

import dataclasses

import numpy as np
import pytest
from torch.utils.data import DataLoader

from xailab.datasets.inspection import CATEGORIES, Inspection
from xailab.detection import evaluate
from xailab.models import zoo
from xailab.padim import PaDiM
from xailab.padim.__main__ import FRAMES, SHIPPED


@pytest.mark.parametrize("seed", range(3))
def test_the_shipped_backbone_finds_and_locates_defects(seed):
    network = zoo.load(SHIPPED)
    preprocess = dataclasses.replace(network.preprocess, **FRAMES[SHIPPED])
    figures = []
    for category in CATEGORIES:
        normal, test = (
            Inspection(category, split, n=40, seed=seed, preprocess=preprocess) for split in ("train", "test")
        )
        detector = PaDiM(network, ("layer1", "layer2", "layer3"), 100, seed=seed)
        results = evaluate(detector.fit(DataLoader(normal, 16), progress=False), test)
        figures.append((results.image_auroc, results.pixel_auroc, results.pro))
        print(seed, category, *(f"{figure:.3f}" for figure in figures[-1]))
    image, pixel, pro = np.mean(figures, 0)
    print(seed, "mean", f"{image:.3f} {pixel:.3f} {pro:.3f}")
    assert image >= 0.95 and pixel >= 0.95 and pro >= 0.85
