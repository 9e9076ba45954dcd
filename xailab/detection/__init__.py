"""What every anomaly detector needs once it is there: its figures on a test set, and a command that measures it.

>>> from xailab.detection import evaluate
>>> evaluate(detector, MVTecAD("data/mvtec_ad", "hazelnut", "test", preprocess=network.preprocess)).pixel_auroc
"""

from xailab.detection.base import ThresholdedDetector, batches
from xailab.detection.command import Method, Prepared, run
from xailab.detection.drawing import drawn, window
from xailab.detection.literature import Published, published
from xailab.detection.measuring import Detector, Results, evaluate

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
