"""ProtoPNet: a network that says "this looks like that", and what becomes of it when one asks whether it is so.

Chen et al., "This Looks Like That: Deep Learning for Interpretable Image Recognition", NeurIPS 2019, arXiv 1806.10574.

The rooms: the network (network.py), training in stages (training.py, last_layer.py), prototypes that become training
patches (projection.py), analyses (analysis.py, pictures.py), files (files.py, shipped.py), what a cell sees
(geometry.py), and boxes put to the test (doubt.py).
"""

from xailab.protopnet.analysis import (
    GlobalAnalysis,
    LocalAnalysis,
    Origin,
    Pruned,
    global_analysis,
    local_analysis,
    prune,
    without,
)
from xailab.protopnet.doubt import KINDS, Attack, Occlusion, attack, boxes, gradient, masked, occlude, on_mask
from xailab.protopnet.files import describe, load, save
from xailab.protopnet.geometry import Field, hot_boxes, receptive_field, upsampled
from xailab.protopnet.last_layer import Fit, fit_last_layer
from xailab.protopnet.network import Output, ProtoPNet, SmallFeatures, features_of
from xailab.protopnet.projection import Collapse, check_projected, nearest, project
from xailab.protopnet.provenance import Provenance
from xailab.protopnet.shipped import shipped
from xailab.protopnet.training import Epoch, Losses, Settings, Trainer, accuracy, losses, train

__all__ = [
    "KINDS",
    "Attack",
    "Collapse",
    "Epoch",
    "Field",
    "Fit",
    "GlobalAnalysis",
    "LocalAnalysis",
    "Losses",
    "Occlusion",
    "Origin",
    "Output",
    "ProtoPNet",
    "Provenance",
    "Pruned",
    "Settings",
    "SmallFeatures",
    "Trainer",
    "accuracy",
    "attack",
    "boxes",
    "check_projected",
    "describe",
    "features_of",
    "fit_last_layer",
    "global_analysis",
    "gradient",
    "hot_boxes",
    "load",
    "local_analysis",
    "losses",
    "masked",
    "nearest",
    "occlude",
    "on_mask",
    "project",
    "prune",
    "receptive_field",
    "save",
    "shipped",
    "train",
    "upsampled",
    "without",
]
