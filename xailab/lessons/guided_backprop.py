"""Lesson 04: randomised networks, honest pictures of gradients, the explorer, and the checks of the exercises."""

import copy
from collections.abc import Sequence
from itertools import pairwise

import ipywidgets as widgets
import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from scipy.stats import rankdata, spearmanr
from torch import Tensor, nn

from xailab import figures, images
from xailab.grad_cam import grad_cam
from xailab.guided_backprop import input_gradient
from xailab.lessons import Wrong, exercise
from xailab.lessons.explorer import explorer
from xailab.lessons.traces import watched

STAGES = ("fc", "layer4", "layer3", "layer2", "layer1", "conv1")  # of a ResNet, from the score down
RULES = {"gradient": "true", "deconvnet": "deconvnet", "guided backprop": "guided"}
METHODS = (*RULES, "Grad-CAM", "Guided Grad-CAM")


def randomised(network: nn.Module, depth: int, seed: int = 0) -> nn.Module:
    """Copy a ResNet with its topmost stages as they are before any training (Adebayo et al. 2018, Section 3).

    Convolutions are drawn anew from He et al.'s normal distribution, the linear layer from torch's uniform one. Batch
    norms forget their scale and shift and their running statistics too, which belonged to the trained weights.

    Args:
        network: With stages named as in ``STAGES``; it is left as it is.
        depth: How many stages, from the top: 0 (none) to 6 (all).
        seed: Of the new weights.
    """
    network = copy.deepcopy(network)
    parts = [network.get_submodule(stage) for stage in STAGES[:depth]]
    if depth == len(STAGES):
        parts.append(network.bn1)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for module in (module for part in parts for module in part.modules()):
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, (nn.Linear, nn.BatchNorm2d)):
                module.reset_parameters()
    return network


def explanations(
    network: nn.Module,
    batch: Float[Tensor, "n c h w"],
    target: int | Sequence[int],
    methods: Sequence[str] = METHODS,
    layer: str = "layer4",
) -> dict[str, Tensor]:
    """Explain a batch in several ways: signed pictures (n, c, h, w), and Grad-CAM before its ReLU (n, rows, columns).

    Args:
        network: One with ReLUs.
        batch: Pictures, normalised for it.
        target: Class to explain, one for all or one for each.
        methods: Of ``METHODS``.
        layer: Of Grad-CAM.
    """
    wanted = {*methods, *(("guided backprop", "Grad-CAM") if "Guided Grad-CAM" in methods else ())}
    found = {name: input_gradient(network, batch, target, relu=RULES[name]) for name in RULES if name in wanted}
    if "Grad-CAM" in wanted:
        found["Grad-CAM"] = grad_cam(network, batch, layer, target, relu=False)
    if "Guided Grad-CAM" in wanted:  # an empty map is a result here, not worth the library's warning
        mask = images.upsample(found["Grad-CAM"].relu(), batch.shape[-2:])
        found["Guided Grad-CAM"] = found["guided backprop"] * mask.unsqueeze(1)
    return {name: found[name] for name in methods}


def strength(picture: Float[Tensor, "*n c h w"]) -> Float[Tensor, "*n h w"]:
    """The largest absolute value over the colour channels, at each pixel."""
    return picture.abs().amax(-3)


def ranks(maps: Tensor) -> Float[Tensor, "n pixels"]:
    """Rank the pixels of each map, centre the ranks and give them length 1; all 0 for a constant map.

    The dot product of two of these is Spearman's rank correlation: each map is sorted once, whatever it is compared to.

    Args:
        maps: Maps (n, h, w), ranked with their sign, or signed pictures (n, c, h, w), ranked by ``strength``.
    """
    maps = strength(maps) if maps.ndim == 4 else maps
    order = torch.from_numpy(rankdata(maps.flatten(1).numpy(), axis=1))
    return nn.functional.normalize(order - order.mean(1, keepdim=True), dim=1)


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Spearman's rank correlation of two explanations of one picture.

    Args:
        a, b: Maps (h, w), compared with their sign, or signed pictures (c, h, w), compared by ``strength``.

    Returns:
        -1 to 1; 0 if one of them is constant, since it orders nothing.
    """
    return float(ranks(a[None])[0] @ ranks(b[None])[0])


def number_grid(axes: Axes, values: Sequence[Sequence[float]], title: str) -> None:
    """Draw a small matrix as numbers, orange where positive, blue where negative, pale where zero."""
    rows, columns = len(values), len(values[0])
    for y, row in enumerate(values):
        for x, value in enumerate(row):
            colour = figures.PALETTE[4] if value > 0 else figures.PALETTE[5] if value < 0 else "#F2F2F2"
            axes.add_patch(Rectangle((x, y), 1, 1, facecolor=colour, edgecolor="white", linewidth=3))
            ink = "black" if value else "#8A8A8A"
            text = f"{value:g}".replace("-", "−")
            axes.text(x + 0.5, y + 0.52, text, ha="center", va="center", fontsize=19, color=ink)
    axes.set(xlim=(0, columns), ylim=(rows, 0), aspect="equal")
    axes.set_axis_off()
    axes.set_title(title)


def verdict_table(verdicts: Sequence[Sequence[str]], rows: Sequence[str], columns: Sequence[str]) -> Figure:
    """Draw a table of words: blue for "right", grey for an answer that speaks up, orange for a silent wrong one."""
    figure, axes = figures.new(width=1.9 + 1.95 * len(columns), height=0.55 + 0.5 * len(rows))
    for y, line in enumerate(verdicts):
        axes.text(-0.06, y + 0.5, rows[y], ha="right", va="center", fontsize=11.5)
        for x, word in enumerate(line):
            loud = word in ("refuses", "warns") or word.endswith("Error")
            colour = figures.PALETTE[5] if word == "right" else "#DDDDDD" if loud else figures.PALETTE[4]
            axes.add_patch(Rectangle((x, y), 1, 1, facecolor=colour, edgecolor="white", linewidth=3))
            axes.text(x + 0.5, y + 0.5, word, ha="center", va="center", fontsize=11.5)
    for x, name in enumerate(columns):
        axes.text(x + 0.5, -0.14, name, ha="center", va="bottom", fontsize=11.5, fontweight="bold")
    axes.set(xlim=(-1.0, len(columns)), ylim=(len(rows), -0.55))
    axes.set_axis_off()
    return figure


def draw_rule(
    network: nn.Module, picture: np.ndarray, label: int, method: str = "guided backprop", depth: int = 0
) -> Figure:
    """Draw a picture, its explanation, and that of the network with its topmost stages randomised.

    Args:
        network: A ResNet with ``.preprocess`` and ``.classes``, and stages named as in ``STAGES``.
        picture: uint8 RGB.
        label: Class to explain.
        method: Of ``METHODS``.
        depth: Stages to randomise, from the top, 0 to 6.
    """
    batch = network.preprocess(picture)
    with torch.no_grad():
        probability = network(batch).softmax(1)[0, label].item()
    trained, other = (
        explanations(each, batch, label, [method])[method][0] for each in (network, randomised(network, depth))
    )
    figure, axes = figures.new(1, 3, width=10.4, height=3.9)
    figures.picture(axes[0], picture, f"{network.classes[label]}: probability {probability:.2f}")
    quantile = 0.999 if "uided" in method else 0.995  # most of their frame is empty
    draw_explanation(axes[1], trained, f"{method}, trained", quantile)
    done = "nothing" if depth == 0 else STAGES[0] if depth == 1 else f"{STAGES[0]} to {STAGES[depth - 1]}"
    draw_explanation(axes[2], other, f"{done} random: ρ = {rank_correlation(trained, other):.2f}", quantile)
    return figure


def draw_explanation(axes: Axes, explanation: Tensor, title: str | None = None, quantile: float = 0.995) -> None:
    """Draw a signed picture (3, h, w) on grey, clipped at a quantile, or a map (h, w) in blue, white (0) and red."""
    if explanation.ndim == 3:
        figures.picture(axes, images.signed(explanation, quantile), title)
    else:
        bound = float(explanation.abs().max()) or 1.0
        figures.picture(axes, explanation.numpy(), title, cmap="RdBu_r", vmin=-bound, vmax=bound)


def rule_explorer(network: nn.Module, pictures: Sequence[np.ndarray]) -> widgets.VBox:
    """Choose picture, class, method and randomised depth; see ``draw_rule``."""

    def draw(picture: int = 1, label: int = 0, method: str = "guided backprop", depth: int = 2) -> Figure:
        return draw_rule(network, pictures[picture - 1], label, method, depth)

    return explorer(
        draw,
        picture=(1, len(pictures)),
        label=widgets.Dropdown(options=[(name, i) for i, name in enumerate(network.classes)], description="class"),
        method=list(METHODS),
        depth=widgets.IntSlider(2, min=0, max=len(STAGES), description="randomised stages"),
    )


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
    for sizes, c in (((6, 9, 8, 3), 2), ((6, 9, 8, 3), 1), ((5, 7, 10, 4), 3)):
        weights = [torch.randn(b, a, generator=generator) for a, b in pairwise(sizes)]
        x = torch.randn(sizes[0], generator=generator)
        true, expected = _two_layers(x, weights, c, "true"), _two_layers(x, weights, c)
        found = _tensor(my_gradient(x, *weights, c), (sizes[0],))
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

    def spearman(x: Tensor, y: Tensor) -> float:
        return float(spearmanr(x.numpy().ravel(), y.numpy().ravel()).statistic)

    mistakes = [
        (float(np.corrcoef(flat_a, flat_b)[0, 1]),
         "that correlates the values: a few bright pixels decide it. Rank them."),
        (spearman(a, b), "signs were ranked too: take the absolute values first."),
        (spearman(a.amax(0), b.amax(0)), "signs were ranked too: take the absolute values first."),
        (spearman(a.abs(), b.abs()), "a pixel is one place: take the largest absolute value of its three channels."),
        (spearman(a.abs().mean(0), b.abs().mean(0)), "the mean over the channels was taken: take the largest."),
        (spearman(a.mean(0).abs(), b.mean(0).abs()), "channels were averaged with their signs, and cancel: abs first."),
        (float(spearmanr(flat_a, flat_b).pvalue), "that is the p-value: the correlation is .statistic."),
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
