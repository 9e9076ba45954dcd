"""Patch SVDD: embeddings of small patches, trained on normal images, and the distance to the nearest normal one.

Yi, Yoon, "Patch SVDD: Patch-level SVDD for Anomaly Detection and Segmentation", ACCV 2020, arXiv 2006.16067.

``PatchSVDD`` (detector.py) is the detector. In the order of the paper: the encoders (network.py), pairs of patches
(sampling.py), the losses and their minimisation (training.py, with settings.py), nearest neighbours and anomaly maps
(scoring.py).
"""

from xailab.patch_svdd.detector import PatchSVDD
from xailab.patch_svdd.network import Embeddings, Encoder, PositionClassifier
from xailab.patch_svdd.sampling import Pairs, close_pairs, crop, jittered, position_pairs, rectangles
from xailab.patch_svdd.scoring import Maps, MemoryBank, NearestPatches, greedy_coreset, nearest_neighbours, to_pixels
from xailab.patch_svdd.settings import COURSE, PAPER, Settings
from xailab.patch_svdd.shipped import shipped
from xailab.patch_svdd.training import Collapse, Step, Trainer

__all__ = [
    "COURSE",
    "PAPER",
    "Collapse",
    "Embeddings",
    "Encoder",
    "Maps",
    "MemoryBank",
    "NearestPatches",
    "Pairs",
    "PatchSVDD",
    "PositionClassifier",
    "Settings",
    "Step",
    "Trainer",
    "close_pairs",
    "crop",
    "greedy_coreset",
    "jittered",
    "nearest_neighbours",
    "position_pairs",
    "rectangles",
    "shipped",
    "to_pixels",
]
