r"""From embeddings to anomaly maps: the nearest normal patch, and the mean over the patches that cover a pixel.

The anomaly score of a patch is its distance to the nearest normal one, in the space of embeddings (equation 7 of Yi and
Yoon 2020, arXiv 2006.16067). Exact search is a matrix product: |q - b|^2 = |q|^2 + |b|^2 - 2 q.b, where |q|^2 does not
change which b is nearest. It runs in blocks, so that its memory does not grow with the bank.

Precision. The sum cancels: in single precision, an error of about 1e-7 |q|^2 remains in the square of a small distance.
Therefore the bank's mean is first subtracted from both sides, which makes |q| small where embeddings lie in a cluster
far from 0, and the distance to the nearest is computed again, from the differences. One error remains possible: of two
patches that are equally near, up to that error, the wrong one may be found.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor
from tqdm import tqdm

from xailab.patch_svdd.network import starts

Subset = Literal["random", "coreset"]
Search = Literal["exact", "faiss"]

QUERIES, BLOCK = 1024, 2048  # of one matrix product: 8 MiB in single precision, which a processor's cache can hold
PROBED = 0.1  # share of its cells in which the approximate index looks


class Maps(NamedTuple):
    """Anomaly maps at the images' size, higher for more anomalous; the paper scores the product.

    The values of fine, coarse and sum are Euclidean distances between embeddings, not squared; the product is one of
    two distances.
    """

    fine: Float[Tensor, "n h w"]
    coarse: Float[Tensor, "n h w"]
    sum: Float[Tensor, "n h w"]
    product: Float[Tensor, "n h w"]


class NearestPatches(NamedTuple):
    """The nearest normal patch of each patch.

    Attributes:
        distances: Euclidean distances in the space of embeddings, not squared.
        places: The normal patch's image, in the order in which they went into the bank, and its top left pixel (row,
            column).
    """

    distances: Float[Tensor, "*n"]
    places: Int[Tensor, "*n 3"]


@dataclass
class MemoryBank:
    """Hold the embeddings of normal patches of one size, and the places of these patches.

    Attributes:
        vectors: The embeddings, one row a patch.
        places: Image, row and column of each patch's top left pixel.
        index: An approximate index of the vectors, None for exact search.
    """

    vectors: Float[Tensor, "m d"]
    places: Int[Tensor, "m 3"]
    index: Any = None

    @classmethod
    def of(
        cls, embeddings: Float[Tensor, "n d i j"], size: Sequence[int], patch: int, stride: int, first: int = 0
    ) -> "MemoryBank":
        """Make a bank of the embedded patches of images.

        Args:
            embeddings: The embeddings at their places.
            size: (height, width) of the images.
            patch: Side of a patch.
            stride: Pixels from one patch to the next.
            first: Number of the first image.
        """
        images = torch.arange(first, first + len(embeddings))
        places = torch.cartesian_prod(images, *(torch.tensor(starts(side, patch, stride)) for side in size))
        return cls(as_rows(embeddings), places.to(embeddings.device, torch.int32))

    @classmethod
    def joined(cls, parts: Sequence["MemoryBank"]) -> "MemoryBank":
        """Join the banks of several batches, without their indices."""
        return cls(torch.cat([part.vectors for part in parts]), torch.cat([part.places for part in parts]))

    def nearest_patches(self, queries: Float[Tensor, "n d"]) -> NearestPatches:
        """Find the nearest normal patch of each query."""
        if self.index is None:
            distances, found = nearest_neighbours(queries, self.vectors)
        else:
            found = torch.from_numpy(self.index.search(queries.cpu().numpy(), 1)[1][:, 0]).to(self.vectors.device)
            distances = (queries - self.vectors[found]).norm(dim=1)
        return NearestPatches(distances, self.places[found])

    def subsample(self, share: float, subset: Subset, generator: Generator, progress: bool = False) -> "MemoryBank":
        """Keep a share of the bank.

        Args:
            share: Share of the vectors, above 0 and at most 1.
            subset: "random", or "coreset": see ``greedy_coreset``.
            generator: Generator of the random numbers.
            progress: Show a progress bar.
        """
        count = max(1, round(share * len(self.vectors)))
        if count == len(self.vectors):
            return self
        if subset == "coreset":
            chosen = greedy_coreset(self.vectors, count, generator, progress)
        else:
            chosen = torch.randperm(len(self.vectors), generator=generator)[:count].sort().values
        chosen = chosen.to(self.vectors.device)
        return MemoryBank(self.vectors[chosen], self.places[chosen])

    def indexed(self, seed: int = 0) -> "MemoryBank":
        """Build faiss's approximate index of the bank: an inverted file (Jégou et al., PAMI 2011).

        k-means divides the vectors into about 4 sqrt(m) cells; a query is compared with those in the nearest tenth.

        Raises:
            ImportError: if faiss is not installed.
        """
        try:
            import faiss
        except ImportError:
            raise ImportError(
                'search="faiss" needs faiss, which is not installed: pip install faiss-cpu, or take search="exact"'
            ) from None
        vectors, d = self.vectors.cpu().numpy(), self.vectors.shape[1]
        cells = max(1, min(int(4 * len(vectors) ** 0.5), len(vectors) // 39))  # k-means asks for 39 vectors a cell
        index = faiss.IndexIVFFlat(faiss.IndexFlatL2(d), d, cells)
        index.cp.seed = seed
        index.train(vectors)
        index.add(vectors)
        index.nprobe = max(1, round(PROBED * cells))
        return replace(self, index=index)

    def to(self, device: torch.device | str) -> "MemoryBank":
        """Copy the bank to another device."""
        return replace(self, vectors=self.vectors.to(device), places=self.places.to(device))


def as_rows(embeddings: Float[Tensor, "n d i j"]) -> Float[Tensor, "m d"]:
    """Reshape embeddings to one row a patch, image after image."""
    return embeddings.permute(0, 2, 3, 1).flatten(0, 2)


@torch.no_grad()
def nearest_neighbours(
    queries: Float[Tensor, "n d"], vectors: Float[Tensor, "m d"], *, block: int = BLOCK
) -> tuple[Float[Tensor, "n"], Int[Tensor, "n"]]:
    """Find the nearest of m vectors to each query, exactly (see the precision above).

    >>> nearest_neighbours(torch.tensor([[0.0, 0.0]]), torch.tensor([[6.0, 8.0], [3.0, 4.0]]))
    (tensor([5.]), tensor([1]))

    Args:
        queries: Vectors whose neighbours are searched.
        vectors: Vectors to search among, in the same precision.
        block: How many vectors go into one matrix product; memory is 1024 times that many numbers.

    Returns:
        Euclidean distances, and the numbers of the nearest vectors; of equally near ones, the first.
    """
    centre = vectors.mean(0)
    lifted = torch.cat([queries - centre, queries.new_ones(len(queries), 1)], 1)  # so that |b|^2 / 2 is a product too
    best = queries.new_full((len(queries),), torch.inf)
    where = torch.zeros(len(queries), dtype=torch.int64, device=queries.device)  # the block of the nearest
    found = torch.zeros_like(where)
    blocks = vectors.split(block)
    for number, part in enumerate(blocks):
        half_squares = _half_squares(part - centre)
        for start in range(0, len(queries), QUERIES):
            some = slice(start, start + QUERIES)
            values = (lifted[some] @ half_squares).amin(1)
            nearer = values < best[some]
            best[some] = torch.where(nearer, values, best[some])
            where[some] = torch.where(nearer, number, where[some])
    for number in where.unique().tolist():  # argmin is slower than amin, so it searches the block of the nearest only
        half_squares = _half_squares(blocks[number] - centre)
        for some in (where == number).nonzero()[:, 0].split(QUERIES):
            found[some] = (lifted[some] @ half_squares).argmin(1) + number * block
    return (queries - vectors[found]).norm(dim=1), found


def _half_squares(vectors: Float[Tensor, "b d"]) -> Float[Tensor, "_k b"]:
    """Make the second factor of the matrix product that gives |b|^2 / 2 - q.b for each vector b."""
    return torch.cat([-vectors, vectors.square().sum(1, keepdim=True) / 2], 1).mT


@torch.no_grad()
def greedy_coreset(
    vectors: Float[Tensor, "m d"], count: int, generator: Generator | None = None, progress: bool = False
) -> Int[Tensor, "{count}"]:
    """Choose a coreset by k-center greedy: each vector is the one farthest from all before it, the first is random.

    No vector then lies farther from a chosen one than twice as far as with the best choice of so many (Gonzalez 1985).
    This is how PatchCore subsamples its memory bank (Roth et al., CVPR 2022).

    Args:
        vectors: Vectors to choose from.
        count: How many to choose; the time grows with count times m.
        generator: Generator of the first choice.
        progress: Show a progress bar.

    Returns:
        Their numbers, in the order in which they were chosen.
    """
    vectors = vectors - vectors.mean(0)
    squares = vectors.square().sum(1)
    chosen = torch.empty(count, dtype=torch.int64)
    chosen[0] = torch.randint(len(vectors), (1,), generator=generator)
    gaps = torch.full_like(squares, torch.inf)
    for i in tqdm(range(1, count), "coreset", disable=not progress, leave=False):
        last = vectors[chosen[i - 1]]
        torch.minimum(gaps, torch.addmv(squares, vectors, last, alpha=-2) + last.square().sum(), out=gaps)
        gaps[chosen[i - 1]] = -torch.inf
        chosen[i] = gaps.argmax()
    return chosen


def to_pixels(scores: Float[Tensor, "n _i _j"], size: Sequence[int], patch: int, stride: int) -> Float[Tensor, "n h w"]:
    """Compute the mean score of the patches that cover each pixel (Section 3.4).

    Rows and columns are independent, so that the mean is a matrix product: M = R S C^T. Where patches at even pixels
    leave the last pixel of an odd side uncovered, it takes the value beside it. Squared or not, scores keep their unit;
    the detector's are distances, not squared.

    >>> to_pixels(torch.tensor([[[1.0, 3.0]]]), (2, 4), patch=2, stride=2)
    tensor([[[1., 1., 3., 3.],
             [1., 1., 3., 3.]]])

    Args:
        scores: Scores of the patches at their places, (n, rows, columns).
        size: (height, width) of the images.
        patch: Side of a patch.
        stride: Pixels from one patch to the next.
    """
    down, across = (_shares(side, patch, stride).to(scores) for side in size)
    return down @ scores @ across.mT


@lru_cache(maxsize=32)
def _shares(side: int, patch: int, stride: int) -> Float[Tensor, "{side} _i"]:
    """Compute the share of each patch in each pixel along a side; the rows sum to 1."""
    with torch.inference_mode(False):
        first, pixels = torch.tensor(starts(side, patch, stride)), torch.arange(side)[:, None]
        covers = (first <= pixels) & (pixels < first + patch)
        covers[:, -1] |= ~covers.any(1)
        return covers.double() / covers.sum(1, keepdim=True)
