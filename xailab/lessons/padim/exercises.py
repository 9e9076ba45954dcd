"""Check the exercises: their cases and their wrong answers."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from xailab.lessons import exercise
from xailab.lessons.judging import judge
from xailab.lessons.padim.regions import components


@exercise("08.1")
def _(my_embedding) -> str:
    generator = torch.Generator().manual_seed(81)
    for n, shapes in (
        (2, ((2, 4, 8), (3, 2, 4), (1, 1, 2))),
        (1, ((2, 4, 8), (3, 2, 4), (1, 1, 2))),
        (3, ((1, 6, 9), (4, 2, 9), (2, 3, 3), (2, 1, 1))),
    ):
        layers = [torch.randn(n, *shape, generator=generator) for shape in shapes]
        grid = shapes[0][1:]

        def joined(enlarge, layers=layers, grid=grid) -> Tensor:
            return torch.cat([x if x.shape[2:] == grid else enlarge(x) for x in layers], 1)

        expected = joined(lambda x, grid=grid: F.interpolate(x, grid))
        mistakes = {
            "the coarse maps are interpolated: each fine cell takes the vector of the coarse cell over it.": joined(
                lambda x, grid=grid: F.interpolate(x, grid, mode="bilinear")
            ),
            "the coarse maps are interpolated, with align_corners: each fine cell takes one coarse cell's vector.": (
                joined(lambda x, grid=grid: F.interpolate(x, grid, mode="bilinear", align_corners=True))
            ),
            "the coarse maps are laid side by side like tiles: each of their *cells* is to be repeated.": joined(
                lambda x, grid=grid: x.repeat(1, 1, grid[0] // x.shape[2], grid[1] // x.shape[3])
            ),
            "the layers are in another order: keep the order in which they are given.": torch.cat(
                [F.interpolate(x, grid) for x in reversed(layers)], 1
            ),
            "a coarse cell's vector is shared out over the fine cells: it is repeated, not divided.": joined(
                lambda x, grid=grid: F.interpolate(x, grid) * x[0, 0].numel() / (grid[0] * grid[1])
            ),
        }
        hint = "all channels at each cell of the first layer's grid; a batch of one keeps its first axis"
        found = my_embedding(layers)
        judge(found, expected, mistakes, hint, "this is not the vector at each place.")
    return "every place has its vector, for grids that are not square and a batch of one, too."


@exercise("08.2")
def _(my_mahalanobis) -> str:
    generator = torch.Generator().manual_seed(82)
    mix = torch.tensor([[2.0, 0, 0, 0], [1, 0.5, 0, 0], [0, 1, 1, 0], [1, 0, 1, 1]])
    for n, m, channels, epsilon in ((7, 4, 3, 0.3), (3, 4, 3, 0.05), (9, 2, 4, 0.5), (6, 5, 2, 0.01)):
        middle = torch.tensor([4.0, -1, 2, 1])[:channels]
        normal = torch.randn(n, channels, generator=generator) @ mix[:channels, :channels].T + middle
        x = 2 * torch.randn(m, channels, generator=generator) + middle

        def distance(
            c=None, centred=True, root=True, plus=None, n=n, normal=normal, x=x, epsilon=epsilon, invert=True
        ) -> Tensor:
            a, mean = normal.double(), normal.double().mean(0)
            c = (a - mean).T @ (a - mean) / (n - 1) if c is None else c
            c = c + (epsilon * torch.eye(len(c)) if plus is None else plus)
            d = x.double() - (mean if centred else 0)
            squares = (d @ (torch.linalg.pinv(c) if invert else c) * d).sum(1)
            return squares.sqrt() if root else squares

        a = (normal - normal.mean(0)).double()
        c = a.T @ a / (n - 1)
        expected = distance()
        mistakes = {
            "this is the square of the distance: take the root.": distance(root=False),
            "the covariance is divided by n: the sample covariance has n - 1.": distance(a.T @ a / n),
            "epsilon is missing: add it to the diagonal of the covariance before you invert.": distance(plus=0 * c),
            "epsilon is added to all entries: only the diagonal gets it (epsilon times the identity).": distance(
                plus=epsilon
            ),
            "only the channels' own variances are used: the correlations are what Mahalanobis adds.": distance(
                torch.diag(c.diag())
            ),
            "this is the Euclidean distance to the mean: weigh it with the inverse covariance.": (
                (x - normal.mean(0)).double().norm(dim=1)
            ),
            "the covariance itself stands in the middle: it has to be its inverse.": distance(invert=False),
            "the mean is not subtracted from x.": distance(centred=False),
            "the products are taken around 0: centre the normal vectors on their mean first.": distance(
                normal.double().T @ normal.double() / (n - 1)
            ),
            "the mean of x is subtracted: what counts is the mean of the *normal* vectors.": distance(
                x=x - x.mean(0) + normal.mean(0)
            ),
        }
        for used in (0.01, 0.05, 0.3):
            mistakes[f"the epsilon that was given is not used: this is {used:g}, whatever is asked for."] = distance(
                plus=used * torch.eye(channels)
            )
        mistakes = {words: value for words, value in mistakes.items() if not torch.allclose(value.double(), expected)}
        found = my_mahalanobis(normal, x, epsilon)
        otherwise = f"this is not equation 2, with {n} normal vectors of {channels} channels."
        judge(found, expected, mistakes, "one distance for each row of x", otherwise)
    return "also with as many vectors as channels, where the covariance alone has no inverse."


@exercise("08.3")
def _(my_threshold) -> str:
    generator = np.random.default_rng(83)
    for n, share in ((39, 0.1), (19, 0.05), (52, 0.2), (99, 0.29)):
        scores = generator.gamma(4, 3, n)
        falling = np.sort(scores)[::-1]
        k = int(share * (n + 1) + 1e-9)  # for 0.29 of 100, int alone gives 28

        def at_share(share: float, falling=falling, n=n) -> float:
            return falling[int(share * (n + 1) + 1e-9) - 1]

        span = scores.max() - scores.min()
        mistakes = {
            "this is numpy's quantile: it counts among n, but the next picture's score has n + 1 places to take.": (
                np.quantile(scores, 1 - share)
            ),
            "the place is counted from the smallest score: the largest are to give the alarms.": falling[::-1][k - 1],
            "the share that was given is not used: this is 0.1, whatever is asked for.": at_share(0.1),
            "the share that was given is not used: this is 0.05, whatever is asked for.": at_share(0.05),
            "one place too far down: there are k + 1 of the n + 1 places above it.": falling[k],
            "one place too high up: 0.29 * 100 is 28.999999999999996 here, and int cuts it to 28. Add 1e-9 before.": (
                falling[max(int(share * (n + 1)), 1) - 1]
            ),
            "the place is counted among n, but with the next picture there are n + 1 places to take.": (
                falling[max(int(share * n + 1e-9), 1) - 1]
            ),
            "this is the k that was asked for: return the score in that place.": k,
            "mean and standard deviation assume a normal distribution, which scores (they are maxima) do not have.": (
                scores.mean() + 2 * scores.std()
            ),
            "three standard deviations assume a normal distribution, which scores (they are maxima) do not have.": (
                scores.mean() + 3 * scores.std()
            ),
            "the scores are stretched to [0, 1] first: then no new picture can be compared with the threshold.": (
                (falling[k - 1] - scores.min()) / span
            ),
            "this is the largest score whatever share is asked for.": falling[0],
            "this is the share itself of the largest score: count pictures.": (1 - share) * scores.max(),
        }  # fmt: skip
        tensors = {words: torch.tensor(value) for words, value in mistakes.items() if value != falling[k - 1]}
        otherwise = f"with {n} scores and a share of {share:g}, k is {k}."
        judge(my_threshold(scores, share), torch.tensor(falling[k - 1]), tensors, "one number", otherwise)
    return "at most this share of normal pictures will lie above it, whatever their distribution is."


@exercise("08.4")
def _(my_overlap) -> str:
    generator = np.random.default_rng(84)
    masks = np.zeros((3, 8, 9), bool)
    masks[0, 1:4, 1:5] = masks[0, 6, 6] = masks[0, 7, 7] = True  # a block, and two pixels that touch at a corner
    masks[1, 2:4, 2:4] = masks[1, 6, 1:8] = True  # overlaps the first picture's regions
    maps = generator.gamma(2, 2, masks.shape)
    maps[1, 2:4, 2:4] += 4
    maps[0, 1, 1:4], maps[0, 6, 6], maps[1, 6, 1:3] = (3.0, 5.0, 3.0), 5.0, 5.0  # reach a threshold exactly
    wide, other = np.zeros((2, 5, 12), bool), generator.gamma(2, 2, (2, 5, 12))
    wide[0, 0:2, 0:3] = wide[0, 4, 5:12] = wide[1, 2, 2] = wide[1, 2, 8] = wide[1, 4, 0] = True
    other[0, 4, 5:8], other[1, 2, 2] = 4.0, 4.0
    for masks, maps, threshold in ((masks, maps, 3.0), (masks, maps, 5.0), (wide, other, 4.0)):  # noqa: B020
        above = maps >= threshold

        def shares(structure, stack=False, above=above, masks=masks) -> float:
            labels = [components(masks, np.ones((3, 3, 3)))] if stack else [components(m, structure) for m in masks]
            found = [above] if stack else above
            return float(
                np.mean([f[r == k].mean() for r, f in zip(labels, found, strict=True) for k in range(1, r.max() + 1)])
            )

        expected = shares(np.ones((3, 3)))
        bad = [(m, a) for m, a in zip(masks, above, strict=True) if m.any()]
        mistakes = {
            "all defective pixels are pooled, so that large regions count more: average over the regions.": (
                above[masks].mean()
            ),
            "the average is over pictures: a picture's regions count one by one.": np.mean(
                [a[m].mean() for m, a in bad]
            ),
            "pixels that touch at a corner belong to one region (8-connected): give label a structure of ones.": shares(
                None
            ),
            "the regions of different pictures are joined: label each picture by itself.": shares(None, stack=True),
            "this is the IoU: the overlap asks only how much of the region is found.": (
                (above & masks).sum() / (above | masks).sum()
            ),
            "this is the precision: the overlap asks how much of the region is found.": masks[above].mean(),
            "what lies *below* the threshold is counted.": 1 - expected,
            "pictures without a defect have no region, and do not count as 0.": (
                sum(a[m].mean() for m, a in bad) / len(masks)
            ),
            "a pixel with a value of exactly the threshold is found, too: at least, >=.": shares(
                np.ones((3, 3)), above=maps > threshold
            ),
            "the background, label 0, is counted as a region: begin with label 1.": np.mean(
                [a[r == k].mean() for r, a in zip(map(components, masks), above, strict=True)
                 for k in range(r.max() + 1)]
            ),
        }  # fmt: skip
        found = my_overlap(masks, maps, threshold)
        tensors = {words: torch.tensor(float(value)) for words, value in mistakes.items() if value != expected}
        count = sum(components(mask).max() for mask in masks)
        otherwise = f"this is not the mean share over the {count} regions."
        judge(found, torch.tensor(expected), tensors, "one number", otherwise)
    return "small regions count as much as large ones."
