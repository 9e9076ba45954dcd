"""Where prototypes come from: the training patches that a projection has made them."""

from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor


class Provenance(NamedTuple):
    """The training patch that each prototype is.

    Attributes:
        images: The whole training images, pixel values from 0 to 1.
        ids: Which training image, by its place in the training set.
        labels: Its class, which is the prototype's.
        cells: The latent cell, (row, column).
        moved: Squared distance by which the projection moved the prototype.
        maps: Similarity of the prototype to every cell of its own image.
        field: What a cell can see along one side: size, stride and first pixel (``geometry.Field``); None if that is
            all of the image.
        embedding: Fingerprint of all that decided the patch's embedding, prototypes included
            (``fingerprints.fingerprint``).
    """

    images: Float[Tensor, "p c H W"]
    ids: Int[Tensor, "p"]
    labels: Int[Tensor, "p"]
    cells: Int[Tensor, "p 2"]
    moved: Float[Tensor, "p"]
    maps: Float[Tensor, "p h w"]
    field: tuple[int, int, int] | None
    embedding: dict[str, str]

    def tensors(self) -> dict[str, Tensor]:
        """All that are tensors, by name; each has one entry a prototype."""
        return {name: value for name, value in self._asdict().items() if isinstance(value, Tensor)}
