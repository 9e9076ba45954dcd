"""What a drawing is told of its defect."""

from dataclasses import dataclass, field

import numpy as np

from xailab.datasets.folders import GOOD


@dataclass(frozen=True)
class Flaw:
    """A defect that a drawing is to have.

    Attributes:
        kind: "good" for none.
        rng: where its place and form come from; the drawing takes its own from elsewhere, so that it stays the same.
        severity: 0 (subtle) to 1 (plain).
    """

    kind: str = GOOD
    rng: np.random.Generator = field(default_factory=np.random.default_rng)
    severity: float = 0.0

    def grade(self, subtle: float, plain: float) -> float:
        """A number between what is subtle and what is plain, by the severity."""
        return subtle + self.severity * (plain - subtle)
