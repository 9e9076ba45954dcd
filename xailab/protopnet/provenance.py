"""The training patches that prototypes became in their projection."""

from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor


class Provenance(NamedTuple):
    """The training patch that each prototype is.

    Attributes:
        images: The whole training images, pixel values from 0 to 1.
        ids: Index of each in the training set.
        labels: Class of each, which is the prototype's.
        cells: The latent cell, (row, column).
        moved: Squared distance by which the projection moved the prototype.
        maps: Similarity of the prototype to every cell of its own image.
        field: Receptive field of a cell: size, stride and start (``xailab.receptive_field.ReceptiveField``); None if
            it is not known, and a cell may see all of the image.
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
        """Return all tensors by name; each has one entry for each prototype."""
        return {name: value for name, value in self._asdict().items() if isinstance(value, Tensor)}
