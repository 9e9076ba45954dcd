"""The exercises: their cases, their wrong answers, and their checks."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xailab.feature_maps import feature_maps
from xailab.lessons import Wrong, exercise
from xailab.lessons.feature_maps.measuring import correlation
from xailab.lessons.judging import judge
from xailab.lessons.traces import watched


def _pool(a: Tensor, size: int, stride: int, how=torch.amax, *, ceil: bool = False) -> Tensor:
    extra = stride - 1 if ceil else 0
    rows, columns = ((side - size + extra) // stride + 1 for side in a.shape)
    windows = [
        a[y * stride : y * stride + size, x * stride : x * stride + size] for y in range(rows) for x in range(columns)
    ]
    return torch.stack([how(window, (0, 1)) for window in windows]).view(rows, columns)


def _pool_mistakes(a: Tensor, size: int, stride: int) -> dict[str, Tensor]:
    return {
        "a maximum that starts at 0 loses negative values.": _pool(a, size, stride).clamp(min=0),
        "that is the mean of each window: take its maximum.": _pool(a, size, stride, torch.mean),
        "that is the smallest value of each window.": _pool(a, size, stride, torch.amin),
        "the largest value is meant, with its sign, not the largest |value|.": _pool(a.abs(), size, stride),
        "the windows lie side by side: they should begin `stride` cells apart.": _pool(a, size, size),
        "the window has the side of the stride: it should have the side `size`.": _pool(a, stride, stride),
        "the window moves one cell at a time: it should move `stride` cells.": _pool(a, size, 1),
        "windows that reach over the edge do not count: only whole ones.": _pool(a, size, stride, ceil=True),
    }


@exercise("06.1")
def _(my_pool) -> str:
    generator = torch.Generator().manual_seed(1)
    cases = [(torch.randn(*shape, generator=generator) - 1, *options)
             for shape, *options in (((6, 8), 2, 2), ((8, 10), 3, 2), ((5, 8), 2, 3))]  # fmt: skip
    for a, size, stride in cases:
        expected = _pool(a, size, stride)
        found = torch.as_tensor(my_pool(a, size, stride))
        case = f"for a map of {a.shape[0]} × {a.shape[1]}, size {size}, stride {stride}"
        mistakes = {f"{case}: {words}": value for words, value in _pool_mistakes(a, size, stride).items()}

        def otherwise(i: int, case=case, expected=expected, found=found) -> str:
            y, x = divmod(i, expected.shape[1])
            place = "the first value" if y == x == 0 else f"the value in row {y}, column {x}"
            return f"{case}, {place} should be {expected[y, x]:.2f}, yours is {found[y, x]:.2f}."

        judge(found, expected, mistakes, f"{case}, {expected.shape[0]} × {expected.shape[1]} windows fit", otherwise)
    if pooling := [name for name in watched(my_pool, *cases[-1]).torch if "pool" in name]:
        raise Wrong(
            f"the values are right, but they are torch's ({pooling[0]}): write the pooling itself, window by window."
        )
    return "whole windows, the right distance apart, negative values kept."


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


def _channel_numbers(given, channels: int) -> list[int]:
    """The list that was handed in for 06.2, sorted."""
    if isinstance(given, (int, float)) or (hasattr(given, "ndim") and given.ndim == 0):
        raise Wrong("that is one number: return the list of the dead channels' numbers.")
    values = given.tolist() if hasattr(given, "tolist") else list(given)
    if any(isinstance(value, (list, tuple)) for value in values):
        raise Wrong("return a flat list of channel numbers (torch.nonzero gives a column: flatten it).")
    if len(values) == channels and all(isinstance(value, bool) for value in values):
        raise Wrong("that is a mask of all channels: return the numbers of those that are dead (.nonzero().flatten()).")
    return sorted(int(value) for value in values)


def _as_row(numbers: list[int]) -> Tensor:
    """A list of numbers as a row of fixed length."""
    return torch.tensor([*numbers, *[-1] * 20])[:20]


@exercise("06.2")
def _(my_dead) -> str:
    cases = dead_cases()

    def numbers(dead) -> list[list[int]]:
        return [dead(z).nonzero().flatten().tolist() for z in cases]

    def rows(numbers: list[list[int]]) -> Tensor:
        return torch.stack([_as_row(each) for each in numbers])

    right, found = numbers(lambda z: z.amax((0, 2, 3)) <= 0), [_channel_numbers(my_dead(z), z.shape[1]) for z in cases]

    def otherwise(_: int) -> str:
        i = next(i for i, given in enumerate(found) if given != right[i])
        return (
            f"expected the channels {right[i]} of {cases[i].shape[1]}, yours are {found[i]}: z has the axes "
            "(picture, channel, row, column)."
        )

    mistakes = {words: rows(numbers(mistaken)) for words, mistaken in DEAD_MISTAKES.items()}
    judge(rows(found), rows(right), mistakes, "a list for each batch", otherwise)
    return "dead means: at no place of no picture above 0."


class Branches(nn.Module):
    """A small network whose layers form no chain: two branches, one inside another layer, and a ReLU in place."""

    def __init__(self) -> None:
        super().__init__()
        self.right = nn.Sequential(nn.Conv2d(4, 5, 3, padding=1), nn.ReLU(inplace=True))  # registered first, runs last
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.left = nn.Conv2d(4, 5, 1)
        self.norm = nn.BatchNorm2d(5)

    def forward(self, x: Tensor) -> Tensor:
        """Score by the mean of each channel."""
        x = self.relu(self.first(x))
        return self.norm(self.left(x) + self.right(x)).mean((2, 3))


def networks_with_maps() -> list[tuple[nn.Module, Tensor]]:
    """Networks in eval mode and a batch for each: one chain, and two branches."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(6)
        line = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3), nn.ReLU())
        return [(line.eval(), torch.randn(1, 3, 12, 12)), (Branches().eval(), torch.randn(2, 3, 8, 8))]


def _judge_names(given: Any, model: nn.Module) -> None:
    """Refuse what is no dict of all convolutions' names."""
    if not isinstance(given, dict):
        raise Wrong(f"return a dict of maps by the name of the layer, not a {type(given).__name__}.")
    parts = dict(model.named_modules())
    names = [name for name, part in parts.items() if isinstance(part, nn.Conv2d)]
    found = [str(name) for name in given]
    if set(found) == set(names):
        return
    if len(found) == 1 < len(names) and found[0] in parts:
        raise Wrong(
            f"only {found[0]!r} was kept: if all hooks read the loop's variable, they all find its last value. Give "
            "each hook its own, `def keep(module, inputs, output, name=name)`."
        )
    if others := [name for name in found if name in parts and name not in names]:
        raise Wrong(f"{others[0]!r} is a {type(parts[others[0]]).__name__}: only convolutions were asked for.")
    if unknown := [name for name in found if name not in parts]:
        raise Wrong(f"{unknown[0]!r} is no name in `model.named_modules()`.")
    missing = [name for name in names if name not in found]
    if all("." in name for name in missing):
        raise Wrong(
            f"{missing[0]!r} is missing: named_children() lists no layers inside of layers, named_modules() does."
        )
    raise Wrong(f"{missing[0]!r} is missing.")


@exercise("06.3")
def _(maps_of) -> str:
    for model, batch in networks_with_maps():
        given, expected = maps_of(model, batch), feature_maps(model, batch)
        _judge_names(given, model)
        for name, right in expected.items():
            layer = f"the map of {name!r}"
            mistakes = {
                f"{layer} has no negative values: a ReLU in place has overwritten it. Keep a clone.": right.relu(),
                f"{layer} lacks its batch axis.": right[0],
                f"{layer} is the mean over its channels: all channels were asked for.": right.mean(1),
            }
            how = "maps (n, k, rows, columns) of the whole network's run, not of its layers one after another"
            judge(given[name], right, mistakes, how, f"{layer} is wrong. It comes out when the whole network runs.")
            if isinstance(given[name], Tensor) and given[name].requires_grad:
                raise Wrong("the maps are right, but a graph hangs on them: use torch.no_grad() or .detach().")
    if watched(maps_of, *networks_with_maps()[0]).uses("xailab"):
        raise Wrong("the maps are right, but they come from xailab: register the hooks yourself.")
    return "the maps of any network, and no trace left on it."


EDGE_CHANNELS = (  # correlations with the edges of the trained layer's channels, and of those of three random layers
    ((0.7, 0.1, 0.2), ((0.5, 0.0, 0.1), (0.55, 0.2, 0.1), (0.6, 0.1, 0.0))),
    ((0.6, 0.3, 0.2), ((0.5, 0.1, 0.0), (0.4, 0.1, 0.2), (0.65, 0.1, 0.1))),
    ((0.45, 0.1, 0.0), ((0.2, 0.1, 0.0), (0.3, 0.2, 0.1), (0.1, 0.1, 0.0))),
    ((0.8, 0.6, 0.5), ((0.85, 0.1, 0.0), (0.3, 0.1, 0.2), (0.2, 0.1, 0.0))),
    ((0.3, -0.9, 0.1), ((0.4, 0.0, 0.1), (0.35, 0.2, 0.0), (0.2, 0.1, 0.0))),
    ((0.7, 0.0, 0.0), ((0.3, 0.3, 0.3), (0.4, 0.35, 0.3), (0.3, 0.2, 0.3))),
    ((0.5, 0.5, 0.5), ((0.1, 0.1, 0.1), (0.6, 0.0, 0.0), (0.2, 0.2, 0.2))),
    ((0.1, 0.2, 0.75), ((0.1, 0.5, 0.3), (0.2, 0.7, 0.1), (0.6, 0.1, 0.2))),
    ((0.5, 0.1, 0.0), ((0.6, 0.6, 0.55), (0.2, 0.1, 0.0), (0.3, 0.1, 0.0))),
)


def edge_detector_cases() -> list[tuple[Tensor, list[Tensor], Tensor, bool]]:
    """Make maps (3, 8, 8) of a trained and of three random layers, Sobel's edges (8, 8), and whether training shows."""
    generator = torch.Generator().manual_seed(4)
    edges = torch.rand(8, 8, generator=generator).double()
    along = (edges - edges.mean()) / (edges - edges.mean()).norm()

    def layer(shares: Sequence[float]) -> Tensor:
        maps = []
        for share in shares:
            noise = torch.randn(8, 8, generator=generator).double()
            noise = noise - noise.mean()
            noise = noise - (noise * along).sum() * along
            size, height = torch.rand(2, generator=generator).double() * 5 + 0.2
            maps.append(size * (share * along + (1 - share**2) ** 0.5 * noise / noise.norm()) + height)
        return torch.stack(maps).float()

    return [
        (layer(trained), [layer(each) for each in untrained], edges.float(), max(trained) > max(map(max, untrained)))
        for trained, untrained in EDGE_CHANNELS
    ]


def _best(maps: Tensor, edges: Tensor) -> Tensor:
    return correlation(maps, edges.expand_as(maps)).max()


DETECTOR_MISTAKES: dict[str, Callable[[Tensor, list[Tensor], Tensor], Any]] = {
    "a high correlation alone shows nothing: random layers may reach as much. Compare with them.": (
        lambda trained, random, edges: _best(trained, edges) > 0.5
    ),
    "the mean of the random layers is easy to beat: the best of *each* of them has to be beaten.": (
        lambda trained, random, edges: _best(trained, edges) > torch.stack([_best(a, edges) for a in random]).mean()
    ),
    "only one random layer was looked at: there are several.": (
        lambda trained, random, edges: _best(trained, edges) > _best(random[0], edges)
    ),
    "the last random layer alone was looked at: there are several.": (
        lambda trained, random, edges: _best(trained, edges) > _best(random[-1], edges)
    ),
    "the claim is about the best channel: compare it with the best random ones, not with their median or mean.": (
        lambda trained, random, edges: (
            _best(trained, edges) > max(correlation(a, edges.expand_as(a)).median() for a in random)
        )
    ),
    "medians say how typical edge detectors are; the claim is about the best channel.": (
        lambda trained, random, edges: (
            correlation(trained, edges.expand_as(trained)).median()
            > max(correlation(a, edges.expand_as(a)).median() for a in random)
        )
    ),
    "a map that is dark at the edges is no picture of edges: keep the sign of the correlation.": (
        lambda trained, random, edges: (
            correlation(trained, edges.expand_as(trained)).abs().max()
            > max(correlation(a, edges.expand_as(a)).abs().max() for a in random)
        )
    ),
    "products grow with the size of the map: use a correlation.": (
        lambda trained, random, edges: (
            (trained * edges).sum((1, 2)).max() > max((a * edges).sum((1, 2)).max() for a in random)
        )
    ),
}


@exercise("06.4")
def _(my_verdict) -> str:
    cases = edge_detector_cases()
    found = [float(bool(my_verdict(*case[:3]))) for case in cases]
    truth = torch.tensor([float(case[3]) for case in cases])
    mistakes = {
        words: torch.tensor([float(mistake(*case[:3])) for case in cases])
        for words, mistake in DETECTOR_MISTAKES.items()
    }

    def otherwise(i: int) -> str:
        trained, random = EDGE_CHANNELS[i]
        return (
            f"in case {i + 1} of {len(cases)} the best channel has {max(trained):.2f}, the best of the random layers "
            f"have {', '.join(f'{max(each):.2f}' for each in random)}: the answer is {bool(truth[i])}."
        )

    judge(found, truth, mistakes, "one answer for each case", otherwise)
    return "the best of many is compared with the best of as many that know nothing."


def _answers(image: Tensor, filters: Tensor) -> Tensor:
    return F.conv2d(image[None, None], filters[:, None])[0]


def _likeliest(answers: Tensor, feature_map: Tensor) -> int:
    return int(correlation(answers, feature_map.expand_as(answers)).argmax())


FILTER_MISTAKES = {
    "the map's scale is unknown: a distance compares brightness. Correlate, or divide by the length.": (
        lambda image, filters, m: (_answers(image, filters).relu() - m).flatten(1).norm(dim=1).argmin()
    ),
    "the map's scale is unknown, and it comes from after a ReLU: apply one, then correlate.": (
        lambda image, filters, m: (_answers(image, filters) - m).flatten(1).norm(dim=1).argmin()
    ),
    "the map comes from after a ReLU, and what you correlate with it does not: apply one first.": (
        lambda image, filters, m: _likeliest(_answers(image, filters), m)
    ),
    "your filters are mirrored: networks do not flip them (F.conv2d is a correlation).": (
        lambda image, filters, m: _likeliest(_answers(image, filters.flip(1, 2)).relu(), m)
    ),
    "a filter and its negative answer to opposite edges: keep the sign.": (
        lambda image, filters, m: correlation(z := _answers(image, filters), m.expand_as(z)).abs().argmax()
    ),
    "|z| is not what a ReLU hands on: clamp at 0.": (
        lambda image, filters, m: _likeliest(_answers(image, filters).abs(), m)
    ),
    "the filter with the largest answer need not be the one: compare with the map.": (
        lambda image, filters, m: _answers(image, filters).relu().sum((1, 2)).argmax()
    ),
}


def _which_filter(image: Tensor, filters: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, int]:
    """A case of 06.5: the filters are completed by their negatives and mirror images and shuffled, one makes the map.

    Negatives and mirror images are what careless answers mix up.
    """
    filters = torch.cat([filters, -filters, filters.flip(1, 2)])[torch.randperm(6, generator=generator)]
    truth = int(torch.randint(6, (1,), generator=generator))
    scale = float(torch.rand(1, generator=generator)) * 0.2 + 0.02
    return image, filters, scale * _answers(image, filters)[truth].relu(), truth


def which_filter_cases(count: int = 12, unlike: int = 6) -> list[tuple[Tensor, Tensor, Tensor, int]]:
    """Pictures (12, 12), filters (6, 3, 3), a map (10, 10) after a ReLU on an unknown scale, and whose it is.

    Args:
        count: Number of pictures with two unlike filters.
        unlike: Number of further pictures, with two filters that are nearly alike: without its ReLU, another filter's
            answer correlates more with the map.
    """
    cases = []
    for seed in range(count):
        generator = torch.Generator().manual_seed(seed)
        image = torch.randn(12, 12, generator=generator).cumsum(1)
        cases.append(_which_filter(image, torch.randn(2, 3, 3, generator=generator), generator))
    generator = torch.Generator().manual_seed(64)
    while len(cases) < count + unlike:
        image = -torch.randn(12, 12, generator=generator).square()
        w, change = torch.randn(2, 3, 3, generator=generator)
        case = _which_filter(image, torch.stack([w, w + 0.3 * change]), generator)
        found = correlation(z := _answers(*case[:2]), case[2].expand_as(z))
        if found.max() > found[case[3]] + 0.02:
            cases.append(case)
    return cases


@exercise("06.5")
def _(my_filter) -> str:
    cases = which_filter_cases()
    found, truth = [int(my_filter(*case[:3])) for case in cases], [case[3] for case in cases]
    mistakes = {
        words: torch.tensor([int(mistake(*case[:3])) for case in cases]) for words, mistake in FILTER_MISTAKES.items()
    }

    def otherwise(_: int) -> str:
        i = next(i for i, (a, b) in enumerate(zip(found, truth, strict=True)) if a != b)
        return (
            f"in case {i + 1} of {len(cases)} it was filter {truth[i]}, yours says {found[i]}. Compute what each "
            "filter answers, clamp it at 0, and correlate with the map."
        )

    judge(found, torch.tensor(truth), mistakes, "one number for each case", otherwise)
    return "what the filter answers, after its ReLU, whatever the scale."
