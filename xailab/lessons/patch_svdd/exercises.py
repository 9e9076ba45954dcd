"""The exercises: their cases, their wrong answers, and their checks."""

import tracemalloc

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor

from xailab.lessons import Wrong, exercise
from xailab.lessons.judging import judge
from xailab.lessons.traces import watched

STEPS = torch.tensor([(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)])


@exercise("09.1")
def _(my_neighbours) -> str:
    generator = torch.Generator().manual_seed(91)
    for size, patch in (((40, 56), 16), ((64, 40), 32)):
        n = 48
        main = torch.stack([torch.randint(side - patch + 1, (n,), generator=generator) for side in size], 1)
        steps = STEPS[torch.randint(8, (n,), generator=generator)]
        away = torch.randint(3 * patch // 4, patch, (n, 2), generator=generator)

        def inside(corners: Tensor, limit=torch.tensor(size) - patch) -> Int[Tensor, "n 2"]:  # noqa: B008
            return torch.minimum(corners.clamp(min=0), limit)

        free = main + steps * away
        expected = inside(free)
        mistakes = {
            "some neighbours leave the picture: move them to its edge.": free,
            "a patch's top left pixel may lie at size - patch at most, or its other end leaves the picture.": inside(
                free, torch.tensor(size)
            ),
            "a patch may lie flush with the edge, at size - patch: this stops one pixel before.": inside(
                free, torch.tensor(size) - patch - 1
            ),
            "the sides are swapped: rows end at the height, columns at the width.": inside(
                free, torch.tensor(size[::-1]) - patch
            ),
            "rows and columns of the direction are swapped: main, directions and away are all (row, column).": inside(
                main + steps.flip(1) * away
            ),
            "the neighbours lie on the other side: add what the direction says.": inside(main - steps * away),
            "each neighbour lies only one pixel away: multiply the direction by away.": inside(main + steps),
            "the direction is left out: each row of `directions` says along which sides to move.": inside(main + away),
            "no more than the upper end is limited: a corner below 0 leaves the picture, too.": torch.minimum(
                free, torch.tensor(size) - patch
            ),
        }
        found = my_neighbours(main, steps, away, size, patch)
        otherwise = f"with pictures of {size[0]} × {size[1]} and patches of {patch}, this is another place."
        judge(found, expected, mistakes, "a (row, column) for each patch", otherwise)
    return "all inside, and in the direction asked for unless the edge was in the way."


@exercise("09.2")
def _(my_dense_head) -> str:
    generator = torch.Generator().manual_seed(92)
    for gap, shape in ((3, (2, 2, 7, 9)), (1, (1, 3, 4, 3))):
        small = torch.randn(*shape, generator=generator)
        weight = torch.randn(4, shape[1], 2, 2, generator=generator)

        def head(small=small, weight=weight, **options) -> Tensor:
            return F.conv2d(small, weight, **options)

        expected = head(dilation=gap)
        mistakes = {
            "the four quarters lie `gap` cells apart, not side by side: that is what dilation is for.": head(),
            "stride leaves out places: it moves the patch; what lies apart are its four inputs (dilation).": (
                head(stride=gap)
            ),
            "padding invents quarters outside the picture.": head(dilation=gap, padding=gap),
            "the weights are flipped: the first of the weights belongs to the top left.": head(
                weight=weight.flip(2, 3), dilation=gap
            ),
            "rows and columns of the weights are swapped.": head(weight=weight.mT.contiguous(), dilation=gap),
            "this is the mean of the four: the weights say what each counts.": F.avg_pool2d(small, 2, 1),
        }
        found = my_dense_head(small, weight, gap)
        form = "one for each place where all four quarters are inside; a batch of one keeps its first axis"
        judge(found, expected, mistakes, form, f"this is not the head of quarters {gap} cells apart.")
    return "every large patch of a picture at once, and for a gap of 1 the ordinary convolution."


def _nearest_cases() -> list[tuple[Tensor, Tensor]]:
    """Queries and banks; those of the last lie far from 0, each query near one row and far from the others."""
    generator = torch.Generator().manual_seed(93)
    cases = [
        (torch.randn(n, d, generator=generator) * 2 + 1, torch.randn(m, d, generator=generator) * 2 + 1)
        for n, m, d in ((6, 9, 4), (1, 5, 7))
    ]
    bank = torch.randn(8, 6, generator=generator) * 5 + 1000
    return [*cases, (bank[[5, 0, 3, 3]] + torch.randn(4, 6, generator=generator) / 2, bank)]


def _nearest_mistakes(queries: Tensor, bank: Tensor) -> dict[str, Tensor]:
    every = torch.cdist(queries, bank, compute_mode="donot_use_mm_for_euclid_dist")
    expected = every.amin(1)
    lengths = bank.norm(dim=1)
    cosine = 1 - F.cosine_similarity(queries[:, None], bank, dim=2)
    return {
        "these are the squares of the distances: take the root.": expected**2,
        "this is the largest distance: a normal patch is near *one* normal patch, not all.": every.amax(1),
        "this is the mean distance: a normal patch is near *one* normal patch, not all.": every.mean(1),
        "this is the distance to the bank's mean: one centre, Deep SVDD's way.": (queries - bank.mean(0)).norm(dim=1),
        "these are the numbers of the nearest patches: the distance to them is asked for.": every.argmin(1).double(),
        "the smallest of each normal patch's distances: take it for each query.": every.amin(0),
        "the inner product's sign: the nearest has the *smallest* |b|^2 - 2 q.b.": (
            (queries[:, None] - bank[(lengths**2 + 2 * queries @ bank.T).argmin(1)][:, None]).norm(dim=2)[:, 0]
        ),
        "the largest inner product need not be the nearest: |b|^2 belongs to it.": (
            queries - bank[(queries @ bank.T).argmax(1)]
        ).norm(dim=1),
        "this is the cosine distance: here lengths count.": cosine.amin(1),
        "the absolute differences are summed: square, sum, take the root.": torch.cdist(queries, bank, p=1).amin(1),
        "|q|^2 is missing: it does not matter for who is nearest, but for how near.": (
            (every**2 - (queries**2).sum(1, keepdim=True)).amin(1).clamp(min=0).sqrt()
        ),
    }


@exercise("09.3")
def _(my_nearest) -> str:
    for queries, bank in _nearest_cases():
        (n, d), m = queries.shape, len(bank)
        exact = queries.double(), bank.double()
        expected = (exact[0][:, None] - exact[1]).norm(dim=2).amin(1)
        otherwise = f"with {n} queries and {m} normal patches of {d} numbers, this is no distance to the nearest."
        if bank.mean() > 100:
            otherwise = (
                "far from 0, |q|^2 - 2 q.b + |b|^2 is a small difference of large numbers, and rounding leaves nothing "
                "of it: find the nearest row by the matrix product, and take the distance from the difference q - b."
            )
        mistakes = _nearest_mistakes(*exact)
        judge(my_nearest(queries, bank), expected, mistakes, "one distance for each query", otherwise)
    _by_a_matrix_product(my_nearest)
    return "the nearest of each, for a single query, too, and near or far from 0."


PRODUCTS = (
    "matmul",
    "__matmul__",
    "__rmatmul__",
    "mm",
    "bmm",
    "addmm",
    "baddbmm",
    "einsum",
    "inner",
    "tensordot",
    "linear",
)
READY_MADE = (
    "cdist",
    "_cdist",
    "pairwise_distance",
    "pairwise_distances",
    "euclidean_distances",
    "kneighbors",
    "query",
)


def _needs_all_differences(my_nearest, n: int = 60, m: int = 70, d: int = 40) -> bool:
    """Whether NumPy, whose operators cannot be watched, is asked for as much memory as all differences fill."""
    tracing = tracemalloc.is_tracing()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    my_nearest(torch.ones(n, d), torch.ones(m, d))
    needed = tracemalloc.get_traced_memory()[1] - before
    if not tracing:
        tracemalloc.stop()
    return needed >= 4 * n * m * d


def _by_a_matrix_product(my_nearest) -> None:
    """Refuse a loop, a ready-made distance, and all differences at once, which tensors of two sizes tell apart."""
    sizes = ((12, 18), (24, 36))
    few, many = (watched(my_nearest, *(torch.ones(k, 5) for k in size)) for size in sizes)
    if made := few.calls(*READY_MADE):
        raise Wrong(f"the distances are right, but {sorted(made)[0]} made them: write the matrix product yourself.")
    if few.steps != many.steps:
        raise Wrong(
            "the distances are right, but made in a loop: one matrix product holds all the inner products at once."
        )
    if not few.calls(*PRODUCTS) if not few.calls("numpy", "__array__") else _needs_all_differences(my_nearest):
        raise Wrong(
            "the distances are right, but all differences at once take n · m · d numbers, too many for a bank: a "
            "matrix product takes n · m."
        )


def _folded(scores: Tensor, patch: int, stride: int) -> tuple[Tensor, Tensor]:
    """Sum, and count, of the scores of the patches over each pixel."""
    size = tuple((k - 1) * stride + patch for k in scores.shape)

    def fold(x: Tensor) -> Tensor:
        columns = x.reshape(1, 1, -1).expand(1, patch * patch, -1)
        return F.fold(columns, size, patch, stride=stride)[0, 0]

    return fold(scores), fold(torch.ones_like(scores))


@exercise("09.4")
def _(my_pixels) -> str:
    generator = torch.Generator().manual_seed(94)
    for (rows, columns), patch, stride in (((3, 4), 4, 2), ((2, 3), 6, 3), ((3, 1), 5, 2)):
        scores = torch.rand(rows, columns, generator=generator) + 0.5
        total, count = _folded(scores, patch, stride)
        expected = total / count
        size = tuple(expected.shape)
        highest = torch.stack([_folded(torch.where(scores == s, s, 0.0), patch, stride)[0] for s in scores.flatten()])
        last = torch.zeros(size)
        for i in range(rows):
            for j in range(columns):
                last[i * stride : i * stride + patch, j * stride : j * stride + patch] = scores[i, j]
        mistakes = {
            "the patches' scores are summed: divide by how many cover the pixel.": total,
            "this is the highest of the patches that cover a pixel: their mean is asked for.": highest.amax(0),
            "the last patch overwrites those before it: take the mean of all that cover a pixel.": last,
            "divided by the largest number of patches over a pixel: at the edges there are fewer.": total / count.max(),
            "divided by the patch's area: divide by how many patches cover the pixel.": total / patch**2,
            "divided by the number of all patches: only those count that cover the pixel.": total / scores.numel(),
            "enlarging is something else: a patch's score counts for all of its pixels.": F.interpolate(
                scores[None, None], size, mode="bilinear"
            )[0, 0],
            "nearest enlargement gives each pixel one patch: take the mean of all that cover it.": F.interpolate(
                scores[None, None], size
            )[0, 0],
        }
        found = my_pixels(scores, patch, stride)
        form = "(rows - 1) * stride + patch pixels high, and so for the columns"
        judge(found, expected, mistakes, form, f"with patches of {patch}, {stride} pixels apart, this is not the mean.")
    return "every pixel has the mean of its patches, at the edges, too."
