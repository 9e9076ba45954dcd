"""The exercises: their cases, their wrong answers, and their checks."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from scipy.stats import rankdata, spearmanr
from torch import Tensor

from xailab.lessons import Wrong, exercise
from xailab.lessons.guided_backprop.drawings import rank_correlation, strength
from xailab.lessons.judging import judge
from xailab.lessons.traces import watched

TIES = "pixels of the same strength share the mean of their ranks, which scipy.stats.spearmanr does."


@exercise("04.1")
def _(my_guided) -> str:
    z = torch.tensor([[1.0, -1.0, 5.0, 0.0], [2.0, -5.0, -7.0, 0.0], [-3.0, 2.0, 4.0, 3.0]])
    R = torch.tensor([[-2.0, 3.0, -1.0, 5.0], [6.0, -3.0, 1.0, -5.0], [2.0, -1.0, 3.0, 0.5]])
    for z, R in ((z, R), (z.view(2, 1, 3, 2).flip(0), R.view(2, 1, 3, 2) / 4)):  # noqa: B020
        forward, gradient = z > 0, R > 0
        expected = R * forward * gradient
        mistakes = {
            "that is the true gradient: besides z > 0, only a positive R may pass.": R * forward,
            "that is the deconvnet's rule: the ReLU's own mask, z > 0, is missing.": R * gradient,
            "a ReLU at z = 0 is closed: the mask is z > 0, without the equals sign.": R * (z >= 0) * gradient,
            "a negative gradient is stopped, not turned round: clamp it at 0 instead of abs.": (R * forward).abs(),
            "the masks are right, but R has to pass through them, not z.": z * forward * gradient,
            "that is the mask alone: multiply it with R.": (forward & gradient).float(),
            "both conditions have to hold at a cell, and one was enough here.": R * (forward | gradient),
        }
        found = torch.as_tensor(my_guided(z, R))

        def otherwise(i: int, z=z, R=R, expected=expected, found=found) -> str:
            z_there, R_there, right, yours = (float(each.flatten()[i]) for each in (z, R, expected, found))
            return (
                f"with z = {z_there:g} and R = {R_there:g}, {right:g} is handed down, yours is {yours:g}. "
                "Is it R where z > 0 and R > 0, and 0 elsewhere?"
            )

        judge(found, expected, mistakes, "that of R", otherwise)
    few, many = (watched(my_guided, torch.ones(size), torch.ones(size)) for size in ((3, 4), (6, 8)))
    if few.steps != many.steps:
        raise Wrong("the result is right, but made in a loop over the cells: masks work on whole tensors.")
    return "both masks, on the right tensors."


def _two_layers(x: Tensor, weights: Sequence[Tensor], c: int, rule: str = "guided") -> Tensor:
    """The exercise's gradient by matrix products, layer by layer; ``rule`` names what is done at the two ReLUs."""
    first, second, third = weights
    below = first @ x
    above = second @ below.relu()
    R = third[c]
    for z, weight, where in ((above, second, "upper"), (below, first, "lower")):
        clamped = rule in ("guided", "deconvnet", where)
        R = (R.abs() if rule == "abs" else R.clamp(min=0) if clamped else R) * (1 if rule == "deconvnet" else z > 0)
        R = weight.T @ R
    return R


def _two_layer_cases() -> list[tuple[Tensor, list[Tensor], int]]:
    """Inputs, the three weight matrices, and a class."""
    generator, cases = torch.Generator().manual_seed(4), []
    for sizes, c in (((6, 9, 8, 3), 2), ((6, 9, 8, 3), 1), ((5, 7, 10, 4), 3)):
        weights = [torch.randn(b, a, generator=generator) for a, b in pairwise(sizes)]
        cases.append((torch.randn(sizes[0], generator=generator), weights, c))
    return cases


@exercise("04.2")
def _(my_gradient) -> str:
    cases = _two_layer_cases()
    for x, weights, c in cases:
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
        found = torch.as_tensor(my_gradient(x, *weights, c)).detach()

        def otherwise(i: int, c=c, expected=expected, found=found) -> str:
            return (
                f"for class {c} value {i + 1} should be {expected[i]:.3f}, yours is {found[i]:.3f}. "
                "Is the gradient that arrives at each of the two ReLUs clamped at 0?"
            )

        judge(found, expected, mistakes, "that of x", otherwise)
    x, weights, c = cases[-1]
    seen = watched(my_gradient, x, *weights, c)
    if not seen.calls("_engine_run_backward", "grad", "backward"):
        raise Wrong(
            "the numbers are right, but you wrote out the chain rule for this one network: set hooks on the two hidden "
            "tensors, and leave the products to torch.autograd.grad."
        )
    if not seen.calls("register_hook"):
        return "autograd with your rule at both ReLUs, and no module was touched. A hook on the tensor is shorter."
    return "a hook on the tensor, and no module was touched."


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


def _picture_mistakes(gradient: Tensor, bound: float) -> dict[str, Tensor]:
    """Wrong grey values of 04.3, before they are rounded."""
    size = gradient.abs().flatten()

    def scaled(bound, values=gradient) -> Tensor:
        return 128 + 127 * (values / bound).clamp(-1, 1)

    low, high = gradient.min(), gradient.max()
    each = gradient.abs().flatten(1).quantile(0.99, dim=1).view(3, 1, 1)
    return {
        "that is min-max: zero is not 128, and moves with the extremes.": 255 * (gradient - low) / (high - low),
        "that subtracts the mean: what becomes grey is the mean then, and zero is not.": (
            255 * (0.5 + 0.1 * (gradient - gradient.mean()) / gradient.std()).clamp(0, 1)
        ),
        "scaled by the largest |value|: one outlier turns all else grey; clip at a quantile.": scaled(size.max()),
        "values beyond the quantile wrap round in uint8: clip to ±1 first.": (128 + 127 * gradient / bound) % 256,
        "one scale for all three channels, or colours no longer compare.": scaled(each),
        "the sign is lost: negative values go below 128.": scaled(bound, gradient.abs()),
        "negative values are lost, and zero is black: put zero at 128.": 255 * (gradient / bound).clamp(0, 1),
        "red and blue are exchanged: keep the order RGB.": scaled(bound).flip(0),
        "that is the quantile of the values: take it of their absolute values, or negative ones do not count.": (
            scaled(gradient.flatten().quantile(0.99))
        ),
        **{
            f"that is the {100 * share:g} % quantile: the bound is the 99 % one.": scaled(size.quantile(share))
            for share in (0.995, 0.999, 0.98, 0.95, 0.9)
        },
        "the scale is 127 steps to either side of 128: the bound becomes 255, and minus the bound 1.": (
            127.5 + 127.5 * (gradient / bound).clamp(-1, 1)
        ),
    }


def _uint8_picture(answer, h: int, w: int) -> Tensor:
    """The answer to 04.3 as a tensor (3, h, w), if it has the form of a picture."""
    found = np.asarray(answer)
    if found.shape == (w, h, 3):
        raise Wrong("width and height are exchanged: permute(1, 2, 0) takes (3, h, w) to (h, w, 3).")
    if found.shape != (h, w, 3):
        raise Wrong(f"expected shape {(h, w, 3)} for a gradient of shape {(3, h, w)}, got {found.shape}.")
    if found.dtype != np.uint8:
        raise Wrong(f"expected uint8, as picture files hold, got {found.dtype}.")
    return torch.from_numpy(found.astype(np.float32)).permute(2, 0, 1)


@exercise("04.3")
def _(my_picture) -> str:
    for gradient, bound in picture_cases():
        picture = _uint8_picture(my_picture(gradient), *gradient.shape[1:])
        grey = 128 + 127 * (gradient / bound).clamp(-1, 1)
        zero = picture[0, 0, 0]

        def near(other: Tensor, picture=picture) -> bool:  # a mistake may be rounded, or not
            return bool((picture - other).abs().max() < 1.01)

        if picture.equal(grey.floor()):
            raise Wrong("values are cut off, not rounded: 128.75 becomes 129, so round before you convert to uint8.")
        if near(grey - 1) and not near(grey):
            raise Wrong(f"zero should be 128 exactly, yours is {zero:g}: round before you convert to uint8.")

        def otherwise(i: int, gradient=gradient, grey=grey, picture=picture, zero=zero) -> str:
            if zero != 128:
                return f"zero should be 128 exactly, yours is {zero:g}."
            value, right, yours = (float(each.flatten()[i]) for each in (gradient, grey.round(), picture))
            return (
                f"the value {value:.4g} should become {right:.0f}, yours is {yours:.0f}. "
                "Is it 128 + 127 * clip(gradient / bound, -1, 1), rounded?"
            )

        mistakes = {words: picture for words, other in _picture_mistakes(gradient, bound).items() if near(other)}
        judge(picture, grey.round(), mistakes, "(h, w, 3)", otherwise)
    return "zero is grey, and both signs share one scale."


def similarity_cases() -> list[tuple[Tensor, Tensor]]:
    """Pairs of pictures (3, h, w): strong pixels of one are strong, or weak, in the other, or many are alike."""
    generator, cases = torch.Generator().manual_seed(3), []
    for h, w, power in ((9, 7, 0), (6, 11, -1)):
        a = torch.randn(3, h, w, generator=generator) ** 3
        b = 0.3 * a.flip(0) - torch.randn(3, h, w, generator=generator) ** 3 * torch.rand(h, w, generator=generator)
        cases.append((a, b * (strength(a) + 0.01) ** (2 * power)))
    a, b = cases[0]
    return [*cases, (a.round(), (2 * b).round())]


def _similarity_mistakes(a: Tensor, b: Tensor) -> dict[str, float]:
    x, y = (strength(each).flatten().numpy() for each in (a, b))

    def spearman(a, b) -> float:
        return float(np.corrcoef(*(rankdata(np.asarray(each).ravel()) for each in (a, b)))[0, 1])

    def with_ties(method) -> float:
        return float(np.corrcoef(rankdata(x, method), rankdata(y, method))[0, 1])

    return {
        "that correlates the values: a few bright pixels decide it. Rank them.": float(np.corrcoef(x, y)[0, 1]),
        "signs were ranked too: take the absolute values first.": spearman(a, b),
        "signs were ranked too, after the largest was taken: take the absolute values first.": (
            spearman(a.amax(0), b.amax(0))
        ),
        "a pixel is one place: take the largest absolute value of its three channels.": spearman(a.abs(), b.abs()),
        "the mean over the channels was taken: take the largest.": spearman(a.abs().mean(0), b.abs().mean(0)),
        "channels were averaged with their signs, and cancel: abs first.": spearman(a.mean(0).abs(), b.mean(0).abs()),
        "that is the p-value: the correlation is .statistic.": float(np.asarray(spearmanr(x, y))[1]),
        "that compares a picture with itself: rank the strengths of both.": 1.0,
        "the sign of the correlation is lost.": abs(rank_correlation(a, b)),
        "the length over the channels was taken: take the largest |value|.": spearman(a.norm(dim=0), b.norm(dim=0)),
        "argsort gives the order, not the ranks: scipy.stats.rankdata.": spearman(x.argsort(), y.argsort()),
        **{f"{TIES} These are the {method} ranks.": with_ties(method) for method in ("ordinal", "min", "max", "dense")},
    }


@exercise("04.4")
def _(my_similarity) -> str:
    for a, b in similarity_cases():
        try:
            answer = my_similarity(a.clone(), b.clone())
        except (ValueError, AttributeError) as error:
            if "1-D or 2-D" in str(error) or "return_types.max" in str(error):
                raise Wrong(
                    "take the largest of the three channels by .amax(0), then flatten; .max(0) of a tensor is a pair, "
                    "the values and where they were."
                ) from error
            raise
        if hasattr(answer, "statistic"):
            raise Wrong("spearmanr returns two numbers: hand back its .statistic.")
        if np.ndim(answer):
            raise Wrong(f"expected one number, got shape {np.shape(answer)}: flatten both maps before they are ranked.")
        expected, tied = rank_correlation(a, b), len(strength(a).unique()) < a[0].numel()
        mistakes = {words: torch.tensor(value) for words, value in _similarity_mistakes(a, b).items()}
        words = f"expected {expected:.3f} for this pair, yours is {float(answer):.3f}: "
        words += TIES if tied else "largest |value| over the channels, flatten, then scipy.stats.spearmanr."
        judge(float(answer), torch.tensor(expected), mistakes, "one number", lambda i, words=words: words)
    return "ranks of strengths, one number for each pair of pictures."
