"""PaDiM: fit one Gaussian of a network's features to each place of a picture, and measure how far a new picture is.

Defard, Setkov, Loesch, Audigier, "PaDiM: a Patch Distribution Modeling Framework for Anomaly Detection and
Localization", ICPR 2020, arXiv 2011.08785.

Read ``textbook`` first: the method in three short functions. ``PaDiM`` is the detector: ``backbone`` runs the network,
``embedding`` and ``reduction`` choose channels, ``gaussians`` fits and measures, ``upsampling`` makes the maps.
``Gaussians`` knows of no network; ``statistics``, ``levels`` and ``solvers`` make it stream and share blocks.
"""

from xailab.padim.detector import PaDiM
from xailab.padim.gaussians import Gaussians

__all__ = ["Gaussians", "PaDiM"]
