"""The recurrence of receptive fields, along rows or columns.

A window of k cells, with stride s, dilation d and padding p, turns (size r, stride j, start b) into

    (r + d (k - 1) j,  j s,  b - p j);

where branches meet, the field is the smallest one that holds both. (Araujo, Norris, Sim, "Computing Receptive Fields of
Convolutional Neural Networks", Distill 2019.)
"""

from typing import NamedTuple


class ReceptiveField(NamedTuple):
    """The pixels that one cell of a layer can see along one side of the picture; rows and columns are alike.

    Attributes:
        size: Side of the square that it sees, in pixels.
        stride: Distance between the squares of neighbouring cells.
        start: First pixel of the first cell's square; negative where the square begins in the padding.
    """

    size: int
    stride: int
    start: int

    @property
    def centre(self) -> float:
        """Middle of the first cell's square, in pixels from the picture's edge (0.5: middle of the first pixel)."""
        return self.start + self.size / 2

    @property
    def shift(self) -> float:
        """How far an upsampled map puts a cell beyond the middle of what it sees, in pixels (right and down).

        Upsampling draws cell i on the square from i to i + 1 strides, with its middle at i + 1/2.
        """
        return self.stride / 2 - self.centre


class Side(NamedTuple):
    """A receptive field along rows or columns.

    Attributes:
        size, stride, start: As in ``ReceptiveField``.
        beyond: How many pixels beyond its square a cell near the edge may see, because a padding repeats pixels from
            there; infinite for circular padding.
    """

    size: int
    stride: int
    start: int
    beyond: float = 0

    def through(self, reach: int, stride: int = 1, padding: int = 0) -> "Side":
        """Compute the field after a window of ``reach = d (k - 1)`` cells more than one."""
        pixels = reach * self.stride
        # A window brings back the cells that a padding repeats, unless it begins in another padding outside of that.
        beyond = self.beyond and max(0, self.beyond + max(0, padding) * self.stride - pixels)
        return Side(self.size + pixels, self.stride * stride, self.start - padding * self.stride, beyond)

    def joined(self, other: "Side") -> "Side":
        """Compute the field of two branches with the same stride that meet."""
        start = min(self.start, other.start)
        end = max(self.start + self.size, other.start + other.size)
        return Side(end - start, self.stride, start, max(self.beyond, other.beyond))


class Seen(NamedTuple):
    """The field of each cell of a tensor whose last two dimensions are rows and columns."""

    rows: Side
    columns: Side


class Unknown(NamedTuple):
    """The reason why the field of a tensor's cells is not known."""

    reason: str


PIXEL = Side(1, 1, 0)
