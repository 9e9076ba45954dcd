"""Measure anomaly detectors on a test set, and run them from the command line.

``evaluate`` measures, ``run`` is the command, ``ThresholdedDetector`` is what detectors share.
"""

from xailab.detection.base import ThresholdedDetector, batches
from xailab.detection.command import run
from xailab.detection.drawing import drawn, window
from xailab.detection.literature import Published, published
from xailab.detection.measuring import Detector, Results, evaluate
from xailab.detection.options import Method, Prepared

__all__ = [
    "Detector",
    "Method",
    "Prepared",
    "Published",
    "Results",
    "ThresholdedDetector",
    "batches",
    "drawn",
    "evaluate",
    "published",
    "run",
    "window",
]
