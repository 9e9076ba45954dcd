"""The settings of a training, in two presets: the course's and the authors'."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

Objective = Literal["neighbours and position", "neighbours", "centre"]


def check_dimensions(dimensions: int) -> None:
    """Raise ValueError unless embeddings have at least one value."""
    if dimensions < 1:
        raise ValueError(f"dimensions={dimensions}: expected a number from 1")


@dataclass(frozen=True)
class Settings:
    """Choose how the encoders are trained.

    The defaults are the course's (``COURSE``), minutes of work for a laptop. ``PAPER`` has the authors' settings; they
    train for 300 epochs, about 470 steps for each image.

    Attributes:
        dimensions: Number of values in an embedding.
        batch: Pairs of patches for each of the four losses in a step.
        lr: Learning rate of Adam.
        lambda_: Weight of L_SVDD' against the position task. The authors take 1, and 1e-3 for bottles, from smaller
            initial weights. If it is too large, the embeddings collapse.
        objective: "neighbours and position" is Patch SVDD; "neighbours" leaves the position task out; "centre" pulls
            all patches to one point, as Deep SVDD does.
        frozen: Leave the last weights of the position classifiers as they were drawn, as the authors' code does.
        seed: Seed of the initial weights, and of all pairs and jitter.

    Raises:
        ValueError: if a setting is out of its range.
    """

    dimensions: int = 64
    batch: int = 16
    lr: float = 1e-3
    lambda_: float = 0.3
    objective: Objective = "neighbours and position"
    frozen: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        check_dimensions(self.dimensions)
        if self.batch < 2:
            raise ValueError(f"batch={self.batch}: expected a number of pairs from 2")
        if not 0 < self.lr < math.inf:
            raise ValueError(f"lr={self.lr}: expected a number above 0; Adam's usual ones are 1e-4 to 1e-3")
        if not 0 <= self.lambda_ < math.inf:
            raise ValueError(f"lambda_={self.lambda_}: expected a number from 0")
        if self.objective not in get_args(Objective):
            choices = ", ".join(map(repr, get_args(Objective)))
            raise ValueError(f"objective={self.objective!r}: expected one of {choices}")


COURSE = Settings()
PAPER = Settings(batch=64, lr=1e-4, lambda_=1.0)
