"""The exercises: their cases, their wrong answers, and their checks."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor
from torch.nn.functional import max_pool2d

from xailab.lessons import Wrong, exercise
from xailab.lessons.guided_backprop.drawings import rank_correlation, strength
from xailab.lessons.judging import judge
from xailab.lessons.traces import watched


@exercise("04.1")
def _(my_guided) -> str:
    z = torch.tensor([[1.0, -1.0, 5.0, 0.0], [2.0, -5.0, -7.0, 0.0], [-3.0, 2.0, 4.0, 3.0]])
    R = torch.tensor([[-2.0, 3.0, -1.0, 5.0], [6.0, -3.0, 1.0, -5.0], [2.0, -1.0, 3.0, 0.5]])
    for z, R in ((z, R), (z.view(2, 1, 3, 2).flip(0), R.view(2, 1, 3, 2) / 4)):  # noqa: B020
        forward, gradient = z > 0, R > 0
        mistakes = {
            "that is the true gradient: besides z > 0, only a positive R may pass.": R * forward,
            "that is the deconvnet's rule: the ReLU's own mask, z > 0, is missing.": R * gradient,
            "a ReLU at z = 0 is closed: the mask is z > 0, without the equals sign.": R * (z >= 0) * gradient,
            "a negative gradient is stopped, not turned round: clamp it at 0 instead of abs.": (R * forward).abs(),
            "the masks are right, but R has to pass through them, not z.": z * forward * gradient,
            "that is the mask alone: multiply it with R.": (forward & gradient).float(),
            "both conditions have to hold at a cell, and one was enough here.": R * (forward | gradient),
        }
        otherwise = "what is handed down is R where z > 0 and R > 0, and 0 elsewhere."
        judge(my_guided(z, R), R * forward * gradient, mistakes, "one value for each cell of z", otherwise)
    few, many = (watched(my_guided, torch.ones(size), torch.ones(size)) for size in ((3, 4), (6, 8)))
    if few.steps != many.steps:
        raise Wrong("the result is right, but made in a loop over the cells: masks work on whole tensors.")
    return "both masks, on the right tensors."


def picture_cases() -> list[tuple[Tensor, float]]:
    """Gradients (3, h, w) with their 99 % quantile of |value|.

    The quantile is 127 or a power of two of it, at two values that are alike, so that a grey value is 128 plus a number
    that is far from a half: rounding has one right answer for every value.
    """
    cases = []
    for (h, w), power in (((8, 10), 0), ((9, 8), -7)):
        generator, count = torch.Generator().manual_seed(5), 3 * h * w
        part = torch.tensor([0.0, 0.25, 0.75, -0.25])[torch.randint(4, (count,), generator=generator)]
        spread = torch.tensor([20.0, 60.0, 120.0]).repeat_interleave(h * w)  # a channel's own quantile is another one
        values = ((torch.rand(count, generator=generator) * 1.9 - 1).clamp(max=0.8) * spread).round() + part
        place = 0.99 * (count - 1)
        values[0] = 0.0
        values[1], values[-1] = -127.0, 127.0  # at the quantile
        largest = torch.tensor([300.0, -1000.0, 500.0, 400.0])[: count - 2 - int(place)]
        values[2 * h * w + 3 : 2 * h * w + 3 + len(largest)] = largest  # beyond it
        cases.append((values.view(3, h, w) * 2.0**power, 127 * 2.0**power))
    return cases


@exercise("04.2")
def _(my_picture) -> str:
    for gradient, bound in picture_cases():
        _, h, w = gradient.shape
        found = np.asarray(my_picture(gradient))
        if found.shape == (w, h, 3):
            raise Wrong("width and height are exchanged: permute(1, 2, 0) takes (3, h, w) to (h, w, 3).")
        if found.shape != (h, w, 3):
            raise Wrong(f"expected shape {(h, w, 3)} for a gradient of shape {(3, h, w)}, got {found.shape}.")
        if found.dtype != np.uint8:
            raise Wrong(f"expected uint8, as picture files hold, got {found.dtype}.")
        picture = torch.from_numpy(found.astype(np.float32)).permute(2, 0, 1)
        _judge_picture(picture, gradient, bound)
    return "zero is grey, and both signs share one scale."


def _judge_picture(picture: Tensor, gradient: Tensor, bound: float) -> None:
    """Raise Wrong if a picture is not the gradient's; mistakes are known by it whether they are rounded or cut off."""
    size = gradient.abs().flatten()
    low, high = gradient.min(), gradient.max()
    each = gradient.abs().flatten(1).quantile(0.99, dim=1).view(3, 1, 1)

    def scaled(bound: Tensor | float, values: Tensor = gradient) -> Tensor:
        return 128 + 127 * (values / bound).clamp(-1, 1)

    grey = scaled(bound)
    mistakes = {
        "that is min-max: zero is not 128, and moves with the extremes.": 255 * (gradient - low) / (high - low),
        "that subtracts the mean: what becomes grey is the mean then, and zero is not.": (
            255 * (0.5 + 0.1 * (gradient - gradient.mean()) / gradient.std()).clamp(0, 1)
        ),
        "scaled by the largest |value|: one outlier turns all else grey; clip at a quantile.": scaled(size.max()),
        "values beyond the quantile wrap round in uint8: clip to ±1 first.": (128 + 127 * gradient / bound) % 256,
        "one scale for all three channels, or colours no longer compare.": scaled(each),
        "the sign is lost: negative values go below 128.": scaled(bound, gradient.abs()),
        "negative values are lost, and zero is black: put zero at 128.": 255 * (gradient / bound).clamp(0, 1),
        "red and blue are exchanged: keep the order RGB.": grey.flip(0),
        "that is the quantile of the values: take it of their absolute values, or negative ones do not count.": scaled(
            gradient.flatten().quantile(0.99)
        ),
    }
    for share in (0.995, 0.999, 0.98, 0.95, 0.9):
        mistakes[f"that is the {100 * share:g} % quantile: the bound is the 99 % one."] = scaled(size.quantile(share))
    mistakes["the scale is 127 steps to either side of 128: the bound becomes 255, and minus the bound 1."] = (
        127.5 + 127.5 * (gradient / bound).clamp(-1, 1)
    )
    if (picture - grey).abs().max() >= 1.01:
        mistakes["zero should be 128 exactly, yours is 127: round before you convert to uint8."] = grey - 1
    mistakes = {words: picture if (picture - value).abs().max() < 1.01 else value for words, value in mistakes.items()}
    cut = "values are cut off, not rounded: 128.75 becomes 129, so round before you convert to uint8."
    otherwise = "a value is not 128 + 127 * clip(gradient / bound, -1, 1), rounded."
    judge(picture, grey.round(), {cut: grey.floor()} | mistakes, "a picture", otherwise)


@exercise("04.3")
def _(my_similarity) -> str:
    generator = torch.Generator().manual_seed(3)
    for h, w, power in ((9, 7, 0), (6, 11, -1)):  # the strong pixels of one are strong, or weak, in the other
        a = torch.randn(3, h, w, generator=generator) ** 3
        b = 0.3 * a.flip(0) - torch.randn(3, h, w, generator=generator) ** 3 * torch.rand(h, w, generator=generator)
        b = b * (strength(a) + 0.01) ** (2 * power)
        _judge_similarity(my_similarity, a, b)
    tied = torch.randn(2, 3, 8, 8, generator=generator).round()
    _judge_similarity(my_similarity, tied[0], tied[0] + torch.randn(3, 8, 8, generator=generator).round())
    return "ranks of strengths, one number for each pair of pictures."


def _judge_similarity(my_similarity, a: Tensor, b: Tensor) -> None:
    try:
        answer = my_similarity(a.clone(), b.clone())
    except (ValueError, AttributeError) as error:
        if "1-D or 2-D" in str(error) or "return_types.max" in str(error):
            raise Wrong(
                "take the largest of the three channels by .amax(0), then flatten; .max(0) of a tensor is a pair, the "
                "values and where they were."
            ) from error
        raise
    if hasattr(answer, "statistic"):
        raise Wrong("spearmanr returns two numbers: hand back its .statistic.")
    flat_a, flat_b = strength(a).flatten(), strength(b).flatten()
    expected = rank_correlation(a, b)

    def spearman(x: Tensor, y: Tensor) -> float:
        return float(np.asarray(spearmanr(x.numpy().ravel(), y.numpy().ravel()))[0])

    def pearson(x: Tensor, y: Tensor) -> float:
        return float(np.corrcoef(x, y)[0, 1])

    mistakes = {
        "that correlates the values: a few bright pixels decide it. Rank them.": pearson(flat_a, flat_b),
        "signs were ranked too: take the absolute values first.": spearman(a, b),
        "signs were ranked too: take the absolute values before the largest.": spearman(a.amax(0), b.amax(0)),
        "a pixel is one place: take the largest absolute value of its three channels.": spearman(a.abs(), b.abs()),
        "the mean over the channels was taken: take the largest.": spearman(a.abs().mean(0), b.abs().mean(0)),
        "channels were averaged with their signs, and cancel: abs first.": spearman(a.mean(0).abs(), b.mean(0).abs()),
        "that is the p-value: the correlation is .statistic.": float(np.asarray(spearmanr(flat_a, flat_b))[1]),
        "that compares a picture with itself: rank the strengths of both.": 1.0,
        "the sign of the correlation is lost.": abs(expected),
        "the length over the channels was taken: take the largest |value|.": spearman(a.norm(dim=0), b.norm(dim=0)),
        "equal strengths got different ranks: they share their mean rank, as in scipy.stats.rankdata.": pearson(
            flat_a.argsort().argsort(), flat_b.argsort().argsort()
        ),
        "argsort gives the order, not the ranks: scipy.stats.rankdata.": spearman(flat_a.argsort(), flat_b.argsort()),
    }
    judge(
        answer,
        torch.tensor(expected),
        {words: torch.tensor(value) for words, value in mistakes.items()},
        "one number; flatten both maps before they are ranked",
        "for this pair: largest |value| over the channels, flatten, then scipy.stats.spearmanr.",
    )


def _two_layers(x: Tensor, weights: Sequence[Tensor], c: int, rule: str = "guided") -> Tensor:
    """Compute the exercise's gradient by matrix products; ``rule`` names what is done at the two ReLUs."""
    first, second, third = weights
    below = first @ x
    above = second @ below.relu()
    R = third[c]
    for z, weight, where in ((above, second, "upper"), (below, first, "lower")):
        clamped = rule in ("guided", "deconvnet", where)
        R = (R.abs() if rule == "abs" else R.clamp(min=0) if clamped else R) * (1 if rule == "deconvnet" else z > 0)
        R = weight.T @ R
    return R


def _layers(sizes: Sequence[int], generator: torch.Generator) -> tuple[Tensor, list[Tensor]]:
    """Draw the exercise's network, and an input for it."""
    weights = [torch.randn(b, a, generator=generator) for a, b in pairwise(sizes)]
    return torch.randn(sizes[0], generator=generator), weights


@exercise("04.4")
def _(my_gradient) -> str:
    generator = torch.Generator().manual_seed(4)
    for sizes, c in (((6, 9, 8, 3), 2), ((6, 9, 8, 3), 1), ((5, 7, 10, 4), 3)):
        x, weights = _layers(sizes, generator)
        true, expected = _two_layers(x, weights, c, "true"), _two_layers(x, weights, c)
        mistakes = {
            "that is the true gradient: does your hook return the new gradient, and is it set before backward?": true,
            "the gradient was clamped at the input alone: the rule belongs to each ReLU.": true.clamp(min=0),
            "nothing is clamped at the input: there is no ReLU, so that negative values stay.": expected.clamp(min=0),
            "that is the deconvnet: the ReLU's own derivative is missing.": _two_layers(x, weights, c, "deconvnet"),
            "only the upper ReLU was guided: hook the lower one too.": _two_layers(x, weights, c, "upper"),
            "only the lower ReLU was guided: hook the upper one too.": _two_layers(x, weights, c, "lower"),
            "a negative gradient is stopped, not turned round: clamp(min=0).": _two_layers(x, weights, c, "abs"),
            "that explains class 0: take the score of class c.": _two_layers(x, weights, 0),
            "that is the gradient times x: the gradient alone is asked for.": expected * x,
        }
        otherwise = f"for class {c} the gradient is wrong: is what arrives at each of the two ReLUs clamped at 0?"
        judge(my_gradient(x, *weights, c), expected, mistakes, "one value for each value of x", otherwise)
    x, weights = _layers((5, 7, 10, 4), generator)
    seen = watched(my_gradient, x, *weights, 3)
    if not seen.calls("_engine_run_backward", "grad", "backward"):
        raise Wrong(
            "the numbers are right, but you wrote out the chain rule for this one network: set hooks on the two hidden "
            "tensors, and leave the products to torch.autograd.grad."
        )
    if not seen.calls("register_hook", "register_prehook"):
        return "autograd with your rule at both ReLUs, without a hook. A hook on the tensor is shorter."
    return "a hook on the tensor, and no module was touched."


@exercise("04.5")
def _(my_share) -> str:
    generator = torch.Generator().manual_seed(6)
    for n, size, margin in ((2, 9, 1), (3, 12, 2)):
        g = torch.randn(n, 3, size, size, generator=generator) * torch.arange(1.0, n + 1).view(-1, 1, 1, 1)
        masks = torch.zeros(n, size, size, dtype=torch.bool)
        for i in range(n):
            masks[i, 3 + i : 5 + i, 4 : 6 + i] = True
        grown = max_pool2d(masks[:, None].float(), 2 * margin + 1, 1, margin)[:, 0]

        def shares(mass: Tensor, where: Tensor = grown) -> Tensor:
            return (mass * where).sum((1, 2)) / mass.sum((1, 2))

        mass = strength(g)
        mistakes = {
            "that is the share on the object alone: grow the mask by the margin.": shares(mass, masks.float()),
            "signs cancel: take absolute values first.": shares(g.sum(1)),
            "signs cancel: take absolute values before the largest.": shares(g.amax(1)),
            "take the largest of the three channels, not their sum or mean.": shares(g.abs().sum(1)),
            "that is the share of the squares: the strength itself is asked for.": shares(mass**2),
            "that is the share off the object.": 1 - shares(mass),
            "divide by each picture's own sum, not by the sum of all.": (mass * grown).sum((1, 2)) / mass.sum(),
            "that is the share of the area.": grown.mean((1, 2)),
        }
        judge(my_share(g, masks, margin), shares(mass), mistakes, "one share for each picture", "a share is wrong.")
    return "one share for each picture, with its surroundings."


@exercise("04.6")
def _(notices) -> str:
    generator = torch.Generator().manual_seed(5)
    noise, other = (torch.rand(6, 12, 12, generator=generator) for _ in range(2))
    middle = torch.zeros(12, 12)
    middle[3:9, 3:9] = 2.0
    mixed = 0.85 * noise + 0.15 * other
    cases = [
        (noise, noise.clone(), False, "an edge detector's explanations, which stay the same, notice nothing"),
        (noise, other, True, "explanations that share nothing with the trained ones do notice"),
        (noise + middle, other + middle, True,
         "these explanations are alike only because objects stand in the middle: another picture's are as much alike"),
        (noise, mixed, False, "these are far more like the trained ones than another picture's are"),
        (noise + middle, mixed + middle, False, "these keep the picture's own part, not only the common middle"),
    ]  # fmt: skip
    for trained, random, expected, why in cases:
        found = notices(trained, random)
        if np.ndim(found) or found not in (True, False):
            raise Wrong("return True or False, for all pictures together.")
        if bool(found) != expected:
            raise Wrong(f"expected {expected}, yours is {bool(found)}: {why}.")
    return "a yardstick, not a fixed threshold."
