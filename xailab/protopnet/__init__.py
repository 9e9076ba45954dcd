"""ProtoPNet: a network that says "this looks like that", and tests of whether that explanation is faithful.

Chen et al., "This Looks Like That: Deep Learning for Interpretable Image Recognition", NeurIPS 2019, arXiv 1806.10574.

The modules: the network (network.py), its training in stages (training.py, settings.py, losses.py, initialisation.py,
last_layer.py), the projection of prototypes to training patches (projection.py, provenance.py), analyses (analysis.py,
pictures.py), files (files.py, shipped.py), boxes in the image (geometry.py), and tests of such boxes (faithfulness.py).
"""

from xailab.protopnet.analysis import (
    GlobalAnalysis,
    LocalAnalysis,
    Origin,
    Pruned,
    drop_prototypes,
    global_analysis,
    local_analysis,
    prune,
)
from xailab.protopnet.faithfulness import (
    KINDS,
    Attack,
    Kind,
    Occlusion,
    attack,
    candidate_boxes,
    gradient,
    masked,
    occlude,
    top_pixels_in_mask,
)
from xailab.protopnet.files import load, save
from xailab.protopnet.geometry import hot_boxes, receptive_boxes, size_of, upsampled
from xailab.protopnet.last_layer import Fit, fit_last_layer
from xailab.protopnet.losses import Losses, accuracy, losses
from xailab.protopnet.network import Output, ProtoPNet, SmallFeatures, features_of
from xailab.protopnet.projection import Collapse, check_projected, nearest, project
from xailab.protopnet.provenance import Provenance
from xailab.protopnet.settings import Settings
from xailab.protopnet.shipped import shipped
from xailab.protopnet.training import Epoch, Trainer, train

__all__ = [
    "KINDS",
    "Attack",
    "Collapse",
    "Epoch",
    "Fit",
    "GlobalAnalysis",
    "Kind",
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
    "candidate_boxes",
    "check_projected",
    "drop_prototypes",
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
    "project",
    "prune",
    "receptive_boxes",
    "save",
    "shipped",
    "size_of",
    "top_pixels_in_mask",
    "train",
    "upsampled",
]
