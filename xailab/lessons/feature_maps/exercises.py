"""The exercises: their cases, their wrong answers, and their checks."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from xailab.lessons import Wrong, exercise
from xailab.lessons.feature_maps.drawings import correlation
from xailab.lessons.traces import watched


def _pool(a: Tensor, size: int, stride: int, how=torch.amax, *, ceil: bool = False) -> Tensor:
    extra = stride - 1 if ceil else 0
    rows, columns = ((side - size + extra) // stride + 1 for side in a.shape)
    windows = [
        a[y * stride : y * stride + size, x * stride : x * stride + size] for y in range(rows) for x in range(columns)
    ]
    return torch.stack([how(window, (0, 1)) for window in windows]).view(rows, columns)


@exercise("06.1")
def _(my_pool) -> str:
    generator = torch.Generator().manual_seed(1)
    for (height, width), size, stride in (((6, 8), 2, 2), ((8, 10), 3, 2), ((5, 8), 2, 3)):
        a = torch.randn(height, width, generator=generator) - 1
        expected = _pool(a, size, stride)
        found = torch.as_tensor(my_pool(a, size, stride)).detach().cpu().float()
        case = f"for a map of {height} × {width}, size {size}, stride {stride}"
        mistakes = [
            (_pool(a, size, stride).clamp(min=0), "a maximum that starts at 0 loses negative values."),
            (_pool(a, size, stride, torch.mean), "that is the mean of each window: take its maximum."),
            (_pool(a, size, stride, torch.amin), "that is the smallest value of each window."),
            (_pool(a.abs(), size, stride), "the largest value is meant, with its sign, not the largest |value|."),
            (_pool(a, size, size), "the windows lie side by side: they should begin `stride` cells apart."),
            (_pool(a, stride, stride), "the window has the side of the stride: it should have the side `size`."),
            (_pool(a, size, 1), "the window moves one cell at a time: it should move `stride` cells."),
            (_pool(a, size, stride, ceil=True), "windows that reach over the edge do not count: only whole ones."),
        ]
        if found.shape == expected.shape and torch.allclose(found, expected):
            continue
        for value, hint in mistakes:
            if found.shape == value.shape and torch.allclose(found, value):
                raise Wrong(f"{case}: {hint}")
        if found.shape != expected.shape:
            raise Wrong(
                f"{case}, {expected.shape[0]} × {expected.shape[1]} windows fit; yours is {tuple(found.shape)}."
            )
        y, x = divmod(int((found - expected).abs().nan_to_num(torch.inf).argmax()), expected.shape[1])
        place = "the first value" if y == x == 0 else f"the value in row {y}, column {x}"
        raise Wrong(f"{case}, {place} should be {expected[y, x]:.2f}, yours is {found[y, x]:.2f}.")
    if pooling := [
        name for name in watched(my_pool, torch.randn(5, 8, generator=generator), 2, 3).torch if "pool" in name
    ]:
        raise Wrong(
            f"the values are right, but they are torch's ({pooling[0]}): write the pooling itself, window by window."
        )
    return "whole windows, the right distance apart, negative values kept."


@exercise("06.2")
def _(my_field) -> str:
    stacks = (
        [(3, 1)],
        [(3, 1), (3, 1), (2, 2), (3, 1)],
        [(7, 2), (3, 2), (3, 1), (3, 2), (1, 1), (3, 1)],
        [(5, 3), (2, 2)],
    )
    wrong: dict[str, list[float]] = {}
    found = [float(my_field(stack)) for stack in stacks]
    expected = []
    for stack in stacks:
        kernels, strides = zip(*stack, strict=True)
        jumps = np.cumprod([1, *strides])
        expected.append(float(1 + sum((k - 1) * j for k, j in zip(kernels, jumps, strict=False))))
        guesses = {
            "the strides are missing: behind a stride of 2, a cell's neighbour is 2 pixels away.":
                1 + sum(k - 1 for k in kernels),
            "a layer's own stride counts only for the layers behind it: use the distance in front of it.":
                1 + sum((k - 1) * j for k, j in zip(kernels, jumps[1:], strict=True)),
            "of k cells, k − 1 are new: add (k − 1) · j, not k · j.":
                1 + sum(k * j for k, j in zip(kernels, jumps, strict=False)),
            "start from one pixel: a cell of the picture sees itself.":
                sum((k - 1) * j for k, j in zip(kernels, jumps, strict=False)),
            "sizes do not add up: of k cells, k − 1 are new, and strides stretch what follows.": sum(kernels),
            "sizes do not multiply: windows overlap.": int(np.prod(kernels)),
            "that is the distance of neighbouring cells (the product of strides): the size was asked for.": jumps[-1],
            "only the stride of the layer in front was used: distances multiply along the whole stack.":
                1 + sum((k - 1) * s for k, s in zip(kernels, (1, *strides), strict=False)),
        }  # fmt: skip
        for hint, guess in guesses.items():
            wrong.setdefault(hint, []).append(float(guess))
    if found == expected:
        return "sizes add up, distances multiply."
    for hint, values in wrong.items():
        if found == values:
            raise Wrong(hint)
    i = next(i for i in range(len(stacks)) if found[i] != expected[i])
    raise Wrong(f"{stacks[i]} sees {expected[i]:g} pixels, yours says {found[i]:g}. Go from the picture upwards: "
                "r += (k − 1) · j, then j *= s.")  # fmt: skip


DEAD_MISTAKES = {
    "only the first picture was looked at: dead means 0 in every picture.": lambda z: z[0].amax((1, 2)) <= 0,
    "only the last picture was looked at: dead means 0 in every picture.": lambda z: z[-1].amax((1, 2)) <= 0,
    "a channel that is off in one picture may be on in another: all have to be off.": (
        lambda z: (z.amax((2, 3)) <= 0).any(0)
    ),
    "a mean of z below 0 does not make a channel dead: one positive value keeps it alive.": (
        lambda z: z.mean((0, 2, 3)) <= 0
    ),
    "a mean over the pictures hides what is positive in one of them: take the largest value over the pictures, too.": (
        lambda z: z.mean(0).amax((1, 2)) <= 0
    ),
    "a mean over rows and columns hides a single positive place: take the largest value over places, too.": (
        lambda z: z.mean((2, 3)).amax(0) <= 0
    ),
    "a channel whose largest z is exactly 0 is dead too: the ReLU makes it 0.": lambda z: z.amax((0, 2, 3)) < 0,
    "z comes from before the ReLU: a channel of negative values is dead as well.": lambda z: (
        z.abs().amax((0, 2, 3)) == 0
    ),
    "one value that is not positive does not make a channel dead: look at the largest.": (
        lambda z: z.amin((0, 2, 3)) <= 0
    ),
    "these are the channels that live: the others are dead.": lambda z: z.amax((0, 2, 3)) > 0,
    "axis 1 holds the channels: these are numbers of pictures.": lambda z: z.amax((1, 2, 3)) <= 0,
}


def dead_cases() -> list[Tensor]:
    """Maps before a ReLU on which each of these mistakes names other channels."""
    generator = torch.Generator().manual_seed(3)
    z = torch.randn(4, 9, 5, 6, generator=generator)
    z[:, 1] = -z[:, 1].abs() - 0.1  # dead
    z[:, 4] = -z[:, 4].abs()
    z[2, 4, 1, 1] = 0.0  # dead: the ReLU of 0 is 0
    z[0, 2] = -z[0, 2].abs()  # off in the first picture alone
    z[1:, 7] = -z[1:, 7].abs()  # on in the first picture alone
    z[:, 5] = -z[:, 5].abs() - 4
    z[3, 5, 4, 5] = 2.0  # alive at a single place of a single picture, whatever it is averaged with
    z[:, 6] = -5.0
    z[2, 6] = 1.0  # alive all over one picture
    z[:, 8] = 0.0  # dead
    few = torch.randn(2, 5, 3, 4, generator=generator)
    few[:, [0, 3]] = -1.0
    return [z, few, few.abs()]


@exercise("06.3")
def _(my_dead) -> str:
    cases, found = dead_cases(), []
    for z in cases:
        given = my_dead(z)
        if isinstance(given, (int, float)) or (hasattr(given, "ndim") and given.ndim == 0):
            raise Wrong("that is one number: return the list of the dead channels' numbers.")
        values = given.tolist() if hasattr(given, "tolist") else list(given)
        if any(isinstance(value, (list, tuple)) for value in values):
            raise Wrong("return a flat list of channel numbers (torch.nonzero gives a column: flatten it).")
        if len(values) == z.shape[1] and all(isinstance(value, bool) for value in values):
            raise Wrong(
                "that is a mask of all channels: return the numbers of those that are dead (.nonzero().flatten())."
            )
        found.append(sorted(int(value) for value in values))

    def numbers(dead) -> list[list[int]]:
        return [dead(z).nonzero().flatten().tolist() for z in cases]

    right = numbers(lambda z: z.amax((0, 2, 3)) <= 0)
    if found == right:
        return "dead means: at no place of no picture above 0."
    for words, mistaken in DEAD_MISTAKES.items():
        if found == numbers(mistaken):
            raise Wrong(words)
    i = next(i for i, given in enumerate(found) if given != right[i])
    raise Wrong(
        f"expected the channels {right[i]} of {cases[i].shape[1]}, yours are {found[i]}: z has the axes "
        "(picture, channel, row, column)."
    )


def _answers(image: Tensor, filters: Tensor) -> Tensor:
    return F.conv2d(image[None, None], filters[:, None])[0]


def _likeliest(answers: Tensor, map: Tensor) -> int:
    return int(correlation(answers, map.expand_as(answers)).argmax())


def which_filter_cases(count: int = 12) -> list[tuple[Tensor, Tensor, Tensor, int]]:
    """Pictures (12, 12), filters (6, 3, 3), a map (10, 10) behind a ReLU on an unknown scale, and whose it is.

    The filters come with their negatives and their mirror images, which is what careless answers mix up.
    """
    cases = []
    for seed in range(count):
        generator = torch.Generator().manual_seed(seed)
        image = torch.randn(12, 12, generator=generator).cumsum(1)
        w = torch.randn(2, 3, 3, generator=generator)
        filters = torch.cat([w, -w, w.flip(1, 2)])[torch.randperm(6, generator=generator)]
        truth = int(torch.randint(6, (1,), generator=generator))
        scale = float(torch.rand(1, generator=generator)) * 0.2 + 0.02
        cases.append((image, filters, scale * _answers(image, filters)[truth].relu(), truth))
    return cases


@exercise("06.4")
def _(my_filter) -> str:
    cases = which_filter_cases()
    found = [int(my_filter(*case[:3])) for case in cases]
    truth = [case[3] for case in cases]
    if found == truth:
        return "what the filter answers, behind its ReLU, whatever the scale."

    def nearest(image, filters, map):
        return int((_answers(image, filters).relu() - map).flatten(1).norm(dim=1).argmin())

    def nearest_before(image, filters, map):
        return int((_answers(image, filters) - map).flatten(1).norm(dim=1).argmin())

    def mirrored(image, filters, map):
        return _likeliest(_answers(image, filters.flip(1, 2)).relu(), map)

    def either_sign(image, filters, map):
        answers = _answers(image, filters)
        return int(correlation(answers, map.expand_as(answers)).abs().argmax())

    def no_sign(image, filters, map):
        return _likeliest(_answers(image, filters).abs(), map)

    def strongest(image, filters, map):
        return int(_answers(image, filters).relu().sum((1, 2)).argmax())

    mistakes = [
        (nearest, "the map's scale is unknown: a distance compares brightness. Correlate, or divide by the length."),
        (nearest_before, "the map's scale is unknown, and it comes from behind a ReLU: apply one, then correlate."),
        (mirrored, "your filters are mirrored: networks do not flip them (F.conv2d is a correlation)."),
        (either_sign, "a filter and its negative answer to opposite edges: keep the sign."),
        (no_sign, "|z| is not what a ReLU hands on: clamp at 0."),
        (strongest, "the filter with the largest answer need not be the one: compare with the map."),
    ]
    for mistake, hint in mistakes:
        if found == [mistake(*case[:3]) for case in cases]:
            raise Wrong(hint)
    i = next(i for i, (a, b) in enumerate(zip(found, truth, strict=True)) if a != b)
    raise Wrong(f"in case {i + 1} of {len(cases)} it was filter {truth[i]}, yours says {found[i]}. Compute "
                "what each filter answers, clamp it at 0, and correlate with the map.")  # fmt: skip
