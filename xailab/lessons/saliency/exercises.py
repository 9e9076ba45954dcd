"""The exercises: their cases, their wrong answers, and their checks."""

import copy

import torch
from torch import Tensor, nn

from xailab.lessons import Wrong, exercise
from xailab.lessons.judging import judge
from xailab.lessons.traces import watched


def _tiny_network(seed: int) -> nn.Module:
    """In eval mode, with a batch norm whose running statistics are not those of any batch."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        layers = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 12, 4)
    layers[1].load_state_dict(
        {"running_mean": torch.linspace(-0.4, 0.4, 6), "running_var": torch.linspace(0.2, 0.9, 6)}, strict=False
    )
    return nn.Sequential(*layers).eval()


def _score_gradient(network: nn.Module, images: Tensor, c, score) -> Tensor:
    """d score(scores)[i, c] / d image i."""
    leaf = images.clone().requires_grad_()
    return torch.autograd.grad(score(network(leaf))[range(len(leaf)), c].sum(), leaf)[0]


def _saliency_mistakes(network: nn.Module, images: Tensor, c: int) -> dict[str, Tensor]:
    def of_scores(c, score, network=network) -> Tensor:
        return _score_gradient(network, images, c, score)

    g = of_scores(c, lambda s: s)
    expected = g.abs().amax(1)
    return {
        "the mean over the channels is taken: a pixel counts as much as its most influential channel.": (
            g.abs().mean(1)
        ),
        "the sum over the channels is taken: a pixel counts as much as its most influential channel.": g.abs().sum(1),
        "the absolute value is missing: a channel that lowers the score counts as much as one that raises it.": (
            g.amax(1)
        ),
        "the absolute value comes before the maximum: after it, the strongest negative channel is already lost.": (
            g.amax(1).abs()
        ),
        "channels with opposite signs cancel here: take absolute values before the channels are joined.": (
            g.mean(1).abs()
        ),
        "channels with opposite signs cancel here, summed: take absolute values before the channels are joined.": (
            g.sum(1).abs()
        ),
        "the Euclidean length over the channels is taken; the paper takes the largest absolute value.": g.norm(dim=1),
        "the probability is differentiated: take the score before the softmax.": (
            of_scores(c, lambda s: s.softmax(1)).abs().amax(1)
        ),
        "the logarithm of the probability is differentiated: take the score before the softmax.": (
            of_scores(c, lambda s: s.log_softmax(1)).abs().amax(1)
        ),
        "return the raw map: stretched by its maximum, maps of different pictures can no longer be compared.": (
            expected / expected.amax((1, 2), keepdim=True)
        ),
        "the gradient is multiplied with the image: saliency is the gradient alone.": (g * images).abs().amax(1),
        "the mean over the batch is differentiated: the pictures share a factor. Take the sum.": expected / len(images),
        "the class with the largest score is explained: take the class that was asked for.": (
            of_scores(network(images).argmax(1), lambda s: s).abs().amax(1)
        ),
        "the sum of all scores is differentiated: take that of the class that was asked for.": (
            of_scores(c, lambda s: s.sum(1, keepdim=True).expand_as(s)).abs().amax(1)
        ),
        "the network is in training mode: its batch norm mixes the pictures of the batch. Leave it in eval mode.": (
            of_scores(c, lambda s: s, copy.deepcopy(network).train()).abs().amax(1)
        ),
    }


@exercise("05.1")
def _(my_saliency) -> str:
    for n, c in ((2, 2), (3, 0), (1, 3)):
        network = _tiny_network(54 + n)
        given = torch.randn(n, 3, 5, 6, generator=torch.Generator().manual_seed(n))
        expected = _score_gradient(network, given, c, lambda s: s).abs().amax(1)
        mistakes = _saliency_mistakes(network, given, c)
        hint = "one map (h, w) for each picture; the channels are joined by a maximum"
        found = my_saliency(network, given, c)
        judge(found, expected, mistakes, hint, f"the map of class {c} is not equation M = max |w|.")
    if watched(my_saliency, network, given, c).uses("xailab", "captum"):
        raise Wrong("the map is right, but it is the library's: write the gradient yourself, with torch.autograd.grad.")
    return "one backward pass, absolute values, the largest channel."


def _average(gradient_of, image: Tensor, noise: Tensor, spread, join=lambda g: g.mean(0).abs().amax(0)) -> Tensor:
    return join(torch.stack([gradient_of(image + spread * each) for each in noise]))


def _smooth_grad_mistakes(gradient_of, image: Tensor, noise: Tensor, sigma: float) -> dict[str, Tensor]:
    def average(spread, *join) -> Tensor:
        return _average(gradient_of, image, noise, spread, *join)

    span = image.max() - image.min()
    expected = average(sigma * span)
    return {
        "the absolute value comes before the average: what flickers in sign then adds up.": average(
            sigma * span, lambda g: g.abs().mean(0).amax(0)
        ),
        "the saliency maps are averaged: average the gradients, and take |.| and the maximum at the end.": average(
            sigma * span, lambda g: g.abs().amax(1).mean(0)
        ),
        "sigma is taken for a variance: it is the standard deviation, so no square root belongs here.": average(
            sigma**0.5 * span
        ),
        "sigma is squared: it is the standard deviation, and its noise is sigma times a standard normal.": average(
            sigma**2 * span
        ),
        "the range's square root is taken: the standard deviation is sigma * (max - min).": average(
            (sigma * span) ** 0.5
        ),
        "sigma is used as it is: it is a share of the image's range, max - min.": average(sigma),
        "sigma is a share of the maximum here: its measure is the range, max - min.": average(sigma * image.max()),
        "sigma is a share of the pixels' standard deviation here: its measure is the range, max - min.": average(
            sigma * image.std()
        ),
        "each channel has a range of its own here: one range for the whole image, max - min.": average(
            sigma * (image.amax((1, 2), keepdim=True) - image.amin((1, 2), keepdim=True))
        ),
        "the noisy gradients are added up: divide by their number.": len(noise) * expected,
        "the mean over the channels is taken: saliency takes the largest.": average(
            sigma * span, lambda g: g.mean(0).abs().mean(0)
        ),
        "the absolute value is missing after the average.": average(sigma * span, lambda g: g.mean(0).amax(0)),
        "the *pictures* are averaged: the noise is gone before the network sees it. Average the gradients.": (
            gradient_of(image + sigma * span * noise.mean(0)).abs().amax(0)
        ),
        "no noise was added: this is the plain saliency.": gradient_of(image).abs().amax(0),
        "the sigma that was given is not used: this is 0.2, whatever is asked for.": average(0.2 * span),
        "the sigma that was given is not used: this is 0.15, whatever is asked for.": average(0.15 * span),
        "only the first noisy picture counts here: average over all of them.": (
            gradient_of(image + sigma * span * noise[0]).abs().amax(0)
        ),
    }


@exercise("05.4")
def _(my_smooth_grad) -> str:
    generator = torch.Generator().manual_seed(52)
    for count, size, sigma in ((6, (4, 5), 0.2), (4, (3, 7), 0.05), (9, (2, 3), 0.6)):
        image = 4 * torch.rand(3, *size, generator=generator) - 1.5
        image[0] *= 0.4
        noise = torch.randn(count, 3, *size, generator=generator)
        weight = torch.randn(3, *size, generator=generator)

        def gradient_of(x: Tensor, weight=weight) -> Tensor:
            return weight * torch.cos(3 * x)

        expected = _average(gradient_of, image, noise, sigma * (image.max() - image.min()))
        mistakes = _smooth_grad_mistakes(gradient_of, image, noise, sigma)
        found = my_smooth_grad(gradient_of, image, noise, sigma)
        if not torch.equal(torch.as_tensor(found), torch.as_tensor(my_smooth_grad(gradient_of, image, noise, sigma))):
            raise Wrong("two calls give two maps: take the noise that you are given, and draw none of your own.")
        judge(found, expected, mistakes, "one map (h, w)", "this is not SmoothGrad's average.")
    return "the gradients are averaged first, and sigma is a share of the range."


@exercise("05.2")
def _(my_step) -> str:
    generator = torch.Generator().manual_seed(53)
    for size, l2, rate in (((3, 4, 5), 0.3, 0.2), ((3, 2, 6), 0.05, 0.75)):
        image, w = torch.randn(size, generator=generator), torch.randn(size, generator=generator)
        expected = image + rate * (w - 2 * l2 * image)
        mistakes = {
            "this goes downhill: ascent adds the gradient, since the score is to grow.": image
            - rate * (w - 2 * l2 * image),
            "the penalty has the wrong sign: -l2 |I|^2 pulls the image towards 0, and yours pushes it away.": (
                image + rate * (w + 2 * l2 * image)
            ),
            "a factor of 2 is missing: the derivative of l2 |I|^2 is 2 l2 I.": image + rate * (w - l2 * image),
            "the penalty is missing: take its derivative, -2 l2 I, along.": image + rate * w,
            "the decay is not multiplied by the rate: both terms belong to the one gradient that the rate scales.": (
                image + rate * w - 2 * l2 * image
            ),
            "the rate multiplies the decay alone: both terms belong to the one gradient that it scales.": (
                image + w - 2 * rate * l2 * image
            ),
            "the length |I| is punished here: the penalty is its square, with the derivative 2 I.": (
                image + rate * (w - l2 * image / image.norm())
            ),
            "|I| with its absolute values is punished here (L1): the derivative of |I|^2 is 2 I.": (
                image + rate * (w - l2 * image.sign())
            ),
            "the penalty and the rate that were given are not used: these are 0.3 and 0.2, whatever is asked for.": (
                image + 0.2 * (w - 2 * 0.3 * image)
            ),
            "the penalty that was given is not used: this is 0.3, whatever is asked for.": (
                image + rate * (w - 2 * 0.3 * image)
            ),
            "the rate that was given is not used: this is 0.2, whatever is asked for.": image
            + 0.2 * (w - 2 * l2 * image),
            "l2 and rate have changed places.": image + l2 * (w - 2 * rate * image),
            "only the step is returned: return the image after it.": rate * (w - 2 * l2 * image),
            "the penalty's value is subtracted, a number: what a step needs is its derivative, 2 l2 I.": (
                image + rate * (w - l2 * image.square().sum())
            ),
        }
        found = my_step(image, w, l2, rate)
        otherwise = "this is not one step of gradient ascent on S - l2 |I|^2."
        judge(found, expected, mistakes, "the image after the step", otherwise)
        x = torch.zeros_like(image)
        for _ in range(200):
            x = torch.as_tensor(my_step(x, w, l2, rate)).float()
        if not torch.allclose(x, w / (2 * l2), atol=1e-4):
            raise Wrong("one step is right, but 200 do not end at w / (2 l2): is something kept from call to call?")
    return "and 200 of your steps on a linear score end at w / (2 lambda)."


@exercise("05.3")
def _(my_seeds) -> str:
    generator = torch.Generator().manual_seed(54)
    for size, foreground, background in (((12, 15), 0.95, 0.30), ((10, 22), 0.8, 0.5), ((9, 14), 0.9, 0.1)):
        heat = torch.rand(size, generator=generator).square()
        low, high = heat.flatten().quantile(background), heat.flatten().quantile(foreground)
        right = heat >= high, heat <= low
        answer = my_seeds(heat, foreground, background)
        if not isinstance(answer, (tuple, list)) or len(answer) != 2:
            raise Wrong("return two masks: what is surely the object, and what is surely not.")
        answer = tuple(torch.as_tensor(each) for each in answer)
        for each in answer:
            if each.shape != heat.shape or each.dtype != torch.bool:
                raise Wrong(f"a mask is boolean and of the map's shape {size}; got {each.dtype} {tuple(each.shape)}.")
        sides = {
            "object and background have changed places: the most salient pixels are the object.": right[::-1],
            "the quantiles' sides are exchanged: 0.95 keeps the top 5 %, 0.30 the lowest 30 %.": (
                heat <= high,
                heat >= low,
            ),
            "shares of the *maximum* are used: a quantile counts pixels, at 0.95 the top 5 % of them.": (
                heat >= foreground * heat.max(),
                heat <= background * heat.max(),
            ),
            "the quantile of the wrong side, 1 - foreground: nearly every pixel becomes a seed of the object.": (
                heat >= heat.flatten().quantile(1 - foreground),
                right[1],
            ),
            "the object's seeds are the *least* salient pixels: it needs the top 1 - foreground of them.": (
                heat <= heat.flatten().quantile(1 - foreground),
                right[1],
            ),
            "the background's seeds reach up to the quantile 1 - background: take the lowest `background` share.": (
                right[0],
                heat <= heat.flatten().quantile(1 - background),
            ),
            "the background is all that is no object: between the two quantiles the cut has to decide.": (
                right[0],
                ~right[0],
            ),
            "the given quantiles are not used: 0.95 and 0.30 are only the paper's.": (
                heat >= heat.flatten().quantile(0.95),
                heat <= heat.flatten().quantile(0.30),
            ),
        }
        if all(bool((a != b).sum() <= 2) for a, b in zip(answer, right, strict=True)):  # < or <= is a matter of taste
            continue
        for words, mistaken in sides.items():
            if all(bool((a != b).sum() <= 2) for a, b in zip(answer, mistaken, strict=True)):
                raise Wrong(words)
        counts, wanted = ([int(each.sum()) for each in masks] for masks in (answer, right))
        raise Wrong(f"expected about {wanted[0]} seeds of the object and {wanted[1]} of the background in these "
                    f"{heat.numel()} pixels, got {counts[0]} and {counts[1]}.")  # fmt: skip
    return "a few sure pixels on both sides; the cut decides on the rest."


def _integrated_mistakes(gradient_of, image: Tensor, baseline: Tensor, steps: int) -> dict[str, Tensor]:
    way = image - baseline
    middles = (torch.arange(steps) + 0.5) / steps

    def mean(places: Tensor, start: Tensor = baseline, way: Tensor = way) -> Tensor:
        return torch.stack([gradient_of(start + a * way) for a in places]).mean(0)

    expected = way * mean(middles)
    elsewhere = "the gradients are taken {}: take them at the middles of the parts, (i + 0.5) / steps."
    return {
        "the gradient is taken at the image alone: take its mean on the way from the baseline.": way
        * gradient_of(image),
        "the gradient is taken once, half way: take its mean over all steps.": way * gradient_of(baseline + way / 2),
        "the mean gradient is right; multiply it with the way, image - baseline, and it adds up to the score.": (
            mean(middles)
        ),
        "the mean gradient is multiplied with the image: multiply it with image - baseline.": image * mean(middles),
        "the way begins at 0: it begins at the baseline that was given.": image * mean(middles, 0 * image, image),
        "the way begins at 0, though it is multiplied with image - baseline: begin at the baseline.": (
            way * mean(middles, 0 * image, image)
        ),
        "the gradients are added up: divide by their number.": steps * expected,
        "absolute values are taken: without its signs the map does not add up to the score.": expected.abs(),
        "the way is walked from image to baseline and has that sign: multiply with image - baseline.": -expected,
        elsewhere.format("at the beginnings of the parts"): way * mean(torch.arange(steps) / steps),
        elsewhere.format("at the ends of the parts"): way * mean(torch.arange(1, steps + 1) / steps),
        elsewhere.format("at steps + 1 places, ends included"): way * mean(torch.linspace(0, 1, steps + 1)),
        elsewhere.format("at places from 0 to 1, ends included"): way * mean(torch.linspace(0, 1, steps)),
    }


@exercise("05.5")
def _(my_integrated) -> str:
    generator = torch.Generator().manual_seed(55)
    for steps, size in ((5, (3, 4, 5)), (8, (3, 2, 6))):
        image, baseline, weight = (torch.randn(size, generator=generator) for _ in range(3))

        def gradient_of(x: Tensor, weight=weight) -> Tensor:
            return weight * torch.cos(2 * x)

        middles = (torch.arange(steps) + 0.5) / steps
        mean = torch.stack([gradient_of(baseline + a * (image - baseline)) for a in middles]).mean(0)
        mistakes = _integrated_mistakes(gradient_of, image, baseline, steps)
        found = my_integrated(gradient_of, image, baseline, steps)
        hint = "one value for each value of the image"
        judge(found, (image - baseline) * mean, mistakes, hint, "this is not the mean gradient times the way.")
    two = torch.full((1, 1, 1), 2.0)
    found = float(torch.as_tensor(my_integrated(lambda x: (x < 1).float(), two, 0 * two, 10)))
    if abs(found - 1) > 1e-4:
        raise Wrong(f"for 1 - ReLU(1 - x) at x = 2 it should give 1, the whole score; yours gives {found:.3g}.")
    return "and for the flat score at x = 2 it gives 1, where the gradient gives 0."


NAMES = ("saliency", "signs cancel", "gradient times image", "probability", "another network")


def _five_maps(network: nn.Module, other: nn.Module, image: Tensor, c: int) -> dict[str, Tensor]:
    """The maps of the exercise by their names, each divided by its maximum."""
    w = _score_gradient(network, image, c, lambda s: s)[0]
    maps = {
        "saliency": w.abs().amax(0),
        "signs cancel": w.sum(0).abs(),
        "gradient times image": (w * image[0]).sum(0).abs(),
        "probability": _score_gradient(network, image, c, lambda s: s.softmax(1))[0].abs().amax(0),
        "another network": _score_gradient(other, image, c, lambda s: s)[0].abs().amax(0),
    }
    return {name: heat / heat.max() for name, heat in maps.items()}


@exercise("05.6")
def _(my_names) -> str:
    for seed, c in ((61, 0), (62, 3), (63, 1)):
        network, other = _tiny_network(seed), _tiny_network(seed + 100)
        generator = torch.Generator().manual_seed(seed)
        image = torch.randn(1, 3, 5, 6, generator=generator)
        maps = _five_maps(network, other, image, c)
        right = [NAMES[i] for i in torch.randperm(5, generator=generator).tolist()]
        answer = my_names(network, image, c, [maps[name] for name in right])
        if (
            not isinstance(answer, (list, tuple))
            or len(answer) != 5
            or not all(isinstance(each, str) for each in answer)
        ):
            raise Wrong("return a list of five names, one for each map, in the order of the maps.")
        if unknown := [each for each in answer if each not in NAMES]:
            raise Wrong(f"{unknown[0]!r} is none of the names: {', '.join(NAMES)}.")
        wrong = [(said, true) for said, true in zip(answer, right, strict=True) if said != true]
        if {each for pair in wrong for each in pair} == {"saliency", "probability"}:
            raise Wrong(
                "saliency and probability are exchanged: the map of the probability contains the other classes."
            )
        if wrong:
            raise Wrong(
                f"{5 - len(wrong)} of the five names are right. Compute the four maps that you can, and compare."
            )
    return "four maps are this network's; what is left over is the liar."
