"""PaDiM: what normal looks like at each place of a picture, as one Gaussian, and how far a new picture is from it.

Defard, Setkov, Loesch, Audigier, "PaDiM: a Patch Distribution Modeling Framework for Anomaly Detection and
Localization", ICPR 2020, arXiv 2011.08785.

``PaDiM`` (detector.py) is what one uses. ``Gaussians`` (gaussians.py) is the statistics, and knows of no network;
``textbook.py`` is the same in three short functions, to read first.
"""

from xailab.padim.detector import PaDiM
from xailab.padim.gaussians import Gaussians

__all__ = ["Gaussians", "PaDiM"]
