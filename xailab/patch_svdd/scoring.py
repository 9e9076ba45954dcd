r"""From embeddings to anomaly maps: the nearest normal patch, and the mean over the patches that cover a pixel.

The anomaly score of a patch is its distance to the nearest normal one, in the space of embeddings (equation 7 of Yi and
Yoon 2020, arXiv 2006.16067). Exact search is a matrix product: |q - b|^2 = |q|^2 + |b|^2 - 2 q.b, of which |q|^2 does
not matter for which b is nearest. It runs in blocks, so that its memory does not grow with the bank.

Precision. The sum cancels: in single precision, an error of about 1e-7 |q|^2 remains in the square of a small distance.
So both sides are first moved by the bank's mean, which makes |q| small where embeddings lie in a cluster far from 0,
and the distance to the winner is computed anew, from the differences. What can still happen is that one of two patches
that are equally near, up to that error, is taken for the other.
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
    """Anomaly maps at the images' size, higher for more anomalous; the paper's answer is the product."""

    fine: Float[Tensor, "n h w"]
    coarse: Float[Tensor, "n h w"]
    sum: Float[Tensor, "n h w"]
    product: Float[Tensor, "n h w"]


class Nearest(NamedTuple):
    """The nearest normal patch of each patch.

    Attributes:
        distances: In the space of embeddings.
        places: The normal patch's image, in the order in which they went into the bank, and its top left pixel (row,
            column).
    """

    distances: Float[Tensor, "*n"]
    places: Int[Tensor, "*n 3"]


@dataclass
class MemoryBank:
    """Embeddings of normal patches of one size, and where they come from.

    Attributes:
        vectors: The embeddings.
        places: Image, row and column of each patch's top left pixel.
        index: An approximate index of the vectors, None for exact search.
    """

    vectors: Float[Tensor, "m d"]
    places: Int[Tensor, "m 3"]
    index: Any = None

    def nearest(self, queries: Float[Tensor, "n d"]) -> Nearest:
        """Find the nearest normal patch of each query."""
        if self.index is None:
            distances, found = nearest(queries, self.vectors)
        else:
            found = torch.from_numpy(self.index.search(queries.cpu().numpy(), 1)[1][:, 0]).to(self.vectors.device)
            distances = (queries - self.vectors[found]).norm(dim=1)
        return Nearest(distances, self.places[found])

    def subsample(self, share: float, subset: Subset, generator: Generator, progress: bool = False) -> "MemoryBank":
        """Keep a part of the bank.

        Args:
            share: Of the vectors, above 0 and at most 1.
            subset: "random", or "coreset": see ``greedy_coreset``.
            generator: Of the random numbers.
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
        """The same bank with an approximate index: an inverted file (Jégou et al., PAMI 2011) of faiss's.

        k-means parts the vectors into about 4 sqrt(m) cells; a query looks through the nearest tenth of them.

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
        """The bank on another device."""
        return replace(self, vectors=self.vectors.to(device), places=self.places.to(device))


@torch.no_grad()
def nearest(
    queries: Float[Tensor, "n d"], vectors: Float[Tensor, "m d"], *, block: int = BLOCK
) -> tuple[Float[Tensor, "n"], Int[Tensor, "n"]]:
    """Find the nearest of m vectors to each query, exactly (see the precision above).

    Args:
        queries: In the precision in which to compute.
        vectors: In the same one.
        block: How many vectors go into one matrix product; memory is 1024 times that many numbers.

    Returns:
        Euclidean distances, and the numbers of the nearest vectors; of equally near ones, the first.
    """
    centre = vectors.mean(0)
    lifted = torch.cat([queries - centre, queries.new_ones(len(queries), 1)], 1)  # so that |b|^2 / 2 is a product too
    best = queries.new_full((len(queries),), torch.inf)
    where = torch.zeros(len(queries), dtype=torch.int64, device=queries.device)  # the block of the nearest
    found = torch.zeros_like(where)

    def half_squares(number: int) -> Float[Tensor, "_k _b"]:
        """For the product that gives |b|^2 / 2 - q.b of each vector in a block."""
        part = vectors[number * block : (number + 1) * block] - centre
        return torch.cat([-part, part.square().sum(1, keepdim=True) / 2], 1).mT

    for number in range(-(-len(vectors) // block)):
        part = half_squares(number)
        for start in range(0, len(queries), QUERIES):
            rows = slice(start, start + QUERIES)
            values = (lifted[rows] @ part).amin(1)
            nearer = values < best[rows]
            best[rows] = torch.where(nearer, values, best[rows])
            where[rows] = torch.where(nearer, number, where[rows])
    for number in where.unique().tolist():  # to find which one takes longer than to find how near, and is done once
        part = half_squares(number)
        for rows in (where == number).nonzero()[:, 0].split(QUERIES):
            found[rows] = (lifted[rows] @ part).argmin(1) + number * block
    return (queries - vectors[found]).norm(dim=1), found


@torch.no_grad()
def greedy_coreset(
    vectors: Float[Tensor, "m d"], count: int, generator: Generator | None = None, progress: bool = False
) -> Int[Tensor, "{count}"]:
    """Choose vectors that leave none far off: each is the one farthest from all before it, the first is random.

    A greedy coreset: no vector then lies farther from a chosen one than twice as far as the best choice of so many
    would leave it (k-centre; Gonzalez 1985). This is how PatchCore subsamples its memory bank (Roth et al., CVPR 2022).

    Args:
        vectors: To choose from.
        count: How many; the time is theirs times m.
        generator: Of the first.
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
    """Give each pixel the mean score of the patches that cover it (Section 3.4).

    Which patches cover a pixel is decided for rows and columns apart, so that the mean over them is a matrix for each:
    M = R S C^T. Where an odd side leaves its last pixel over, that takes the value beside it.

    Args:
        scores: Of the patches, at their places.
        size: Of the images, (height, width).
        patch: Side of a patch.
        stride: From one patch to the next.
    """
    rows, columns = (_shares(side, patch, stride).to(scores) for side in size)
    return rows @ scores @ columns.mT


@lru_cache(maxsize=32)
def _shares(side: int, patch: int, stride: int) -> Float[Tensor, "{side} _i"]:
    """For each pixel along a side, the patches that cover it; each row sums to 1."""
    with torch.inference_mode(False):
        first, pixels = torch.tensor(starts(side, patch, stride)), torch.arange(side)[:, None]
        covers = (first <= pixels) & (pixels < first + patch)
        covers[:, -1] |= ~covers.any(1)
        return covers.double() / covers.sum(1, keepdim=True)
