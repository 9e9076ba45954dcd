"""The stages of a training, and the settings for them."""

import math
from dataclasses import dataclass

from xailab.protopnet.last_layer import L1, RIDGE

FEATURES, WARM, JOINT, PROJECTION, LAST = "features", "warm-up", "joint", "projection", "last layer"
TRAINED = (FEATURES, WARM, JOINT)  # by steps of Adam


@dataclass(frozen=True)
class Settings:
    """Set how a network is trained.

    >>> [stage for stage, *_ in Settings(features=0, warm=1, joint=2, again=0).plan()]
    ['warm-up', 'joint', 'joint', 'projection', 'last layer']

    Attributes:
        features: Number of epochs for features from scratch; 0 for features that are trained already.
        warm, joint, again: Number of epochs of the warm-up, of the joint training, and of the joint training after the
            first projection.
        batch: Number of images in a step.
        lr: Learning rate of Adam for add-on layers and prototypes; it falls to 0 along a cosine in each stage.
        feature_lr: Learning rate for the features in joint training (the paper: 1e-4).
        decay: Weight decay of features and add-on layers.
        cluster, separation, l1: Weights of the paper's losses.
        prototype_to_patch, diversity: Weights of two further losses; 0 in the paper.
        ridge: Weight of the squared connections, see ``fit_last_layer``.
        seed: Seed of order, augmentation and initial prototypes.

    Raises:
        ValueError: if one is out of its range.
    """

    features: int = 6
    warm: int = 2
    joint: int = 6
    again: int = 4
    batch: int = 64
    lr: float = 3e-3
    feature_lr: float = 1e-3
    decay: float = 1e-3
    cluster: float = 0.8
    separation: float = 0.08
    l1: float = L1
    prototype_to_patch: float = 0.0
    diversity: float = 0.0
    ridge: float = RIDGE
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.features, self.warm, self.joint, self.again) < 0 or self.batch < 2:
            raise ValueError(
                f"features={self.features}, warm={self.warm}, joint={self.joint}, again={self.again}, "
                f"batch={self.batch}: expected epochs from 0, and a batch from 2"
            )
        for name in ("lr", "feature_lr", "ridge"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name}={getattr(self, name)}: expected a number above 0")
        for name in ("decay", "cluster", "separation", "l1", "prototype_to_patch", "diversity"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}={getattr(self, name)}: expected a number from 0")

    def plan(self) -> list[tuple[str, int, int]]:
        """List every step of the training in order: (stage, epoch within it, number of its epochs)."""
        ends = [(PROJECTION, 0, 1), (LAST, 0, 1)]
        steps = _epochs(FEATURES, self.features) + _epochs(WARM, self.warm) + _epochs(JOINT, self.joint) + ends
        return steps + _epochs(JOINT, self.again) + ends if self.again else steps


def _epochs(stage: str, count: int) -> list[tuple[str, int, int]]:
    return [(stage, epoch, count) for epoch in range(count)]
