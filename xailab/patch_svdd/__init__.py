"""Patch SVDD: embeddings of small patches, learned from normal images, and the distance to the nearest normal one.

Yi, Yoon, "Patch SVDD: Patch-level SVDD for Anomaly Detection and Segmentation", ACCV 2020, arXiv 2006.16067.

``PatchSVDD`` (detector.py) is what one uses. The rooms behind it: the encoders (network.py), pairs of patches
(sampling.py), losses and their minimisation (training.py), nearest neighbours and maps (scoring.py).
"""

from xailab.patch_svdd.detector import PatchSVDD
from xailab.patch_svdd.network import Embeddings, Encoder, PositionClassifier
from xailab.patch_svdd.sampling import Pairs, close_pairs, cut, position_pairs, rectangles, shaken
from xailab.patch_svdd.scoring import Maps, MemoryBank, Nearest, greedy_coreset, nearest, to_pixels
from xailab.patch_svdd.shipped import shipped
from xailab.patch_svdd.training import COURSE, PAPER, Collapse, Settings, Step, Trainer

__all__ = [
    "COURSE",
    "PAPER",
    "Collapse",
    "Embeddings",
    "Encoder",
    "Maps",
    "MemoryBank",
    "Nearest",
    "Pairs",
    "PatchSVDD",
    "PositionClassifier",
    "Settings",
    "Step",
    "Trainer",
    "close_pairs",
    "cut",
    "greedy_coreset",
    "nearest",
    "position_pairs",
    "rectangles",
    "shaken",
    "shipped",
    "to_pixels",
]
