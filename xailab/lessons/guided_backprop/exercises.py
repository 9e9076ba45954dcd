"""The exercises: their cases, their wrong answers, and their checks."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from xailab.lessons import Wrong, exercise
from xailab.lessons.guided_backprop.drawings import rank_correlation, strength
from xailab.lessons.traces import watched


def _close(a: Tensor, b: Tensor) -> bool:
    return bool(torch.allclose(a, b, atol=1e-5))


def _tensor(value, shape: tuple[int, ...]) -> Tensor:
    value = torch.as_tensor(value).detach().cpu().float()
    if tuple(value.shape) != shape:
        raise Wrong(f"expected a result of shape {shape}, got {tuple(value.shape)}.")
    return value


def _refuse(found: Tensor, mistakes: Sequence[tuple[Tensor, str]]) -> None:
    """Raise Wrong with the hint of the first mistake that gives this result."""
    for value, hint in mistakes:
        if value.shape == found.shape and _close(found, value):
            raise Wrong(hint)


@exercise("04.1")
def _(my_guided) -> str:
    z = torch.tensor([[1.0, -1.0, 5.0, 0.0], [2.0, -5.0, -7.0, 0.0], [-3.0, 2.0, 4.0, 3.0]])
    R = torch.tensor([[-2.0, 3.0, -1.0, 5.0], [6.0, -3.0, 1.0, -5.0], [2.0, -1.0, 3.0, 0.5]])
    for z, R in ((z, R), (z.view(2, 1, 3, 2).flip(0), R.view(2, 1, 3, 2) / 4)):  # noqa: B020
        forward, gradient = z > 0, R > 0
        expected = R * forward * gradient
        found = _tensor(my_guided(z, R), tuple(z.shape))
        _refuse(found, [
            (R * forward, "that is the true gradient: besides z > 0, only a positive R may pass."),
            (R * gradient, "that is the deconvnet's rule: the ReLU's own mask, z > 0, is missing."),
            (R * (z >= 0) * gradient, "a ReLU at z = 0 is closed: the mask is z > 0, without the equals sign."),
            ((R * forward).abs(), "a negative gradient is stopped, not turned round: clamp it at 0 instead of abs."),
            (z * forward * gradient, "the masks are right, but R has to pass through them, not z."),
            ((forward & gradient).float(), "that is the mask alone: multiply it with R."),
            (R * (forward | gradient), "both conditions have to hold at a cell, and one was enough here."),
        ])  # fmt: skip
        if not _close(found, expected):
            i = int((found - expected).abs().flatten().nan_to_num(torch.inf).argmax())
            z_there, R_there, right, yours = (float(each.flatten()[i]) for each in (z, R, expected, found))
            raise Wrong(f"with z = {z_there:g} and R = {R_there:g}, {right:g} is handed down, yours is {yours:g}. "
                        "Is it R where z > 0 and R > 0, and 0 elsewhere?")  # fmt: skip
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


@exercise("04.2")
def _(my_gradient) -> str:
    generator = torch.Generator().manual_seed(4)
    cases = []
    for sizes, c in (((6, 9, 8, 3), 2), ((6, 9, 8, 3), 1), ((5, 7, 10, 4), 3)):
        weights = [torch.randn(b, a, generator=generator) for a, b in pairwise(sizes)]
        cases.append((torch.randn(sizes[0], generator=generator), weights, c))
    for x, weights, c in cases:
        true, expected = _two_layers(x, weights, c, "true"), _two_layers(x, weights, c)
        found = _tensor(my_gradient(x, *weights, c), tuple(x.shape))
        if _close(found, expected):
            continue
        _refuse(found, [
            (true, "that is the true gradient: does your hook return the new gradient, and is it set before backward?"),
            (true.clamp(min=0), "the gradient was clamped at the input alone: the rule belongs to each ReLU."),
            (expected.clamp(min=0), "nothing is clamped at the input: there is no ReLU, so that negative values stay."),
            (_two_layers(x, weights, c, "deconvnet"), "that is the deconvnet: the ReLU's own derivative is missing."),
            (_two_layers(x, weights, c, "upper"), "only the upper ReLU was guided: hook the lower one too."),
            (_two_layers(x, weights, c, "lower"), "only the lower ReLU was guided: hook the upper one too."),
            (_two_layers(x, weights, c, "abs"), "a negative gradient is stopped, not turned round: clamp(min=0)."),
            (_two_layers(x, weights, 0), "that explains class 0: take the score of class c."),
            (expected * x, "that is the gradient times x: the gradient alone is asked for."),
        ])  # fmt: skip
        i = int((~((found - expected).abs() <= 1e-5)).nonzero()[0])
        place = "the first value" if i == 0 else f"value {i + 1}"
        raise Wrong(f"for class {c} {place} should be {expected[i]:.3f}, yours is {found[i]:.3f}. "
                    "Is the gradient that arrives at each of the two ReLUs clamped at 0?")  # fmt: skip
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


@exercise("04.3")
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
        size = gradient.abs().flatten()
        grey = 128 + 127 * (gradient / bound).clamp(-1, 1)
        expected = grey.round()

        def scaled(bound, values=gradient) -> Tensor:
            return 128 + 127 * (values / bound).clamp(-1, 1)

        def near(other: Tensor, picture=picture) -> bool:  # a mistake may be rounded, or not
            return bool((picture - other).abs().max() < 1.01)

        low, high = gradient.min(), gradient.max()
        each = gradient.abs().flatten(1).quantile(0.99, dim=1).view(3, 1, 1)
        mistakes = [
            (255 * (gradient - low) / (high - low), "that is min-max: zero is not 128, and moves with the extremes."),
            (255 * (0.5 + 0.1 * (gradient - gradient.mean()) / gradient.std()).clamp(0, 1),
             "that subtracts the mean: what becomes grey is the mean then, and zero is not."),
            (scaled(size.max()), "scaled by the largest |value|: one outlier turns all else grey; clip at a quantile."),
            ((128 + 127 * gradient / bound) % 256, "values beyond the quantile wrap round in uint8: clip to ±1 first."),
            (scaled(each), "one scale for all three channels, or colours no longer compare."),
            (scaled(bound, gradient.abs()), "the sign is lost: negative values go below 128."),
            (255 * (gradient / bound).clamp(0, 1), "negative values are lost, and zero is black: put zero at 128."),
            (grey.flip(0), "red and blue are exchanged: keep the order RGB."),
            (scaled(gradient.flatten().quantile(0.99)),
             "that is the quantile of the values: take it of their absolute values, or negative ones do not count."),
            *((scaled(size.quantile(share)), f"that is the {100 * share:g} % quantile: the bound is the 99 % one.")
              for share in (0.995, 0.999, 0.98, 0.95, 0.9)),
        ]  # fmt: skip
        if not picture.equal(expected):
            if picture.equal(grey.floor()):
                raise Wrong(
                    "values are cut off, not rounded: 128.75 becomes 129, so round before you convert to uint8."
                )
            if near(grey - 1) and not near(grey):
                raise Wrong(
                    f"zero should be 128 exactly, yours is {found[0, 0, 0]}: round before you convert to uint8."
                )
            for value, hint in mistakes:
                if near(value):
                    raise Wrong(hint)
            if near(127.5 + 127.5 * (gradient / bound).clamp(-1, 1)):
                raise Wrong(
                    "the scale is 127 steps to either side of 128: the bound becomes 255, and minus the bound 1."
                )
            if found[0, 0, 0] != 128:
                raise Wrong(f"zero should be 128 exactly, yours is {found[0, 0, 0]}.")
            i = int((picture - expected).abs().argmax())
            value, right, yours = (float(each.flatten()[i]) for each in (gradient, expected, picture))
            raise Wrong(f"the value {value:.4g} should become {right:.0f}, yours is {yours:.0f}. "
                        "Is it 128 + 127 * clip(gradient / bound, -1, 1), rounded?")  # fmt: skip
    return "zero is grey, and both signs share one scale."


@exercise("04.4")
def _(my_similarity) -> str:
    generator = torch.Generator().manual_seed(3)
    for h, w, power in ((9, 7, 0), (6, 11, -1)):  # the strong pixels of one are strong, or weak, in the other
        a = torch.randn(3, h, w, generator=generator) ** 3
        b = 0.3 * a.flip(0) - torch.randn(3, h, w, generator=generator) ** 3 * torch.rand(h, w, generator=generator)
        b = b * (strength(a) + 0.01) ** (2 * power)
        _judge_similarity(my_similarity, a, b)
    return "ranks of strengths, one number for each pair of pictures."


def _judge_similarity(my_similarity, a: Tensor, b: Tensor) -> None:
    expected = rank_correlation(a, b)
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
    if np.ndim(answer):
        raise Wrong(f"expected one number, got shape {np.shape(answer)}: flatten both maps before they are ranked.")
    found = float(answer)
    flat_a, flat_b = strength(a).flatten(), strength(b).flatten()

    def spearman(x: Tensor, y: Tensor, part: int = 0) -> float:
        return float(np.asarray(spearmanr(x.numpy().ravel(), y.numpy().ravel()))[part])  # (statistic, p-value)

    mistakes = [
        (float(np.corrcoef(flat_a, flat_b)[0, 1]),
         "that correlates the values: a few bright pixels decide it. Rank them."),
        (spearman(a, b), "signs were ranked too: take the absolute values first."),
        (spearman(a.amax(0), b.amax(0)), "signs were ranked too: take the absolute values first."),
        (spearman(a.abs(), b.abs()), "a pixel is one place: take the largest absolute value of its three channels."),
        (spearman(a.abs().mean(0), b.abs().mean(0)), "the mean over the channels was taken: take the largest."),
        (spearman(a.mean(0).abs(), b.mean(0).abs()), "channels were averaged with their signs, and cancel: abs first."),
        (spearman(flat_a, flat_b, 1), "that is the p-value: the correlation is .statistic."),
        (1.0, "that compares a picture with itself: rank the strengths of both."),
        (abs(expected), "the sign of the correlation is lost."),
        (spearman(a.norm(dim=0), b.norm(dim=0)), "the length over the channels was taken: take the largest |value|."),
        (spearman(flat_a.argsort(), flat_b.argsort()), "argsort gives the order, not the ranks: scipy.stats.rankdata."),
    ]  # fmt: skip
    if abs(found - expected) < 1e-4:
        return
    for value, hint in mistakes:
        if abs(found - value) < 1e-4:
            raise Wrong(hint)
    raise Wrong(f"expected {expected:.3f} for this pair, yours is {found:.3f}: largest |value| over the channels, "
                "flatten, then scipy.stats.spearmanr.")  # fmt: skip
