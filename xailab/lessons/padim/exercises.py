"""Check the exercises: their cases and their wrong answers."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from xailab.lessons import Wrong, exercise
from xailab.lessons.judging import judge
from xailab.lessons.padim.measuring import fitted
from xailab.lessons.padim.regions import components
from xailab.metrics import aupro


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
def _(my_distances) -> str:
    generator = torch.Generator().manual_seed(82)
    for n, d in ((9, 3), (12, 7), (5, 9), (8, 300)):
        normal = torch.randn(n, d, generator=generator) @ torch.randn(d, d, generator=generator) + 3
        x = normal.double()

        def distances(a: Tensor, n=n, x=x, epsilon=0.0, weigh=torch.linalg.pinv) -> Tensor:
            c = a.T @ a / (n - 1) + epsilon * torch.eye(a.shape[1])
            return ((a @ weigh(c) * a).sum(1)).clamp(min=0).sqrt()

        a = x - x.mean(0)
        expected = distances(a)
        h = expected.square() / (n - 1)
        full = torch.linalg.svd(a, full_matrices=False)[0].square().sum(1)  # with the singular value that is zero
        mistakes = {
            "this is the square of the distance: take the root.": expected.square(),
            "this is the diagonal of H: the squared distance is N - 1 times that.": h,
            "the root of h is not yet the distance: h is multiplied by N - 1 before.": h.sqrt(),
            "a direction whose singular value is zero up to rounding was kept: N centred vectors span at most N - 1.": (
                ((n - 1) * full).sqrt()
            ),
            "h is multiplied by N: the covariance is divided by N - 1.": (n * h).sqrt(),
            "the vectors are not centred: subtract their mean first.": distances(x),
            "this is the bound, (N - 1) / sqrt(N): with fewer channels than pictures, distances lie below it.": (
                torch.full_like(expected, (n - 1) / n**0.5)
            ),
            "this is the Euclidean distance to the mean.": a.norm(dim=1),
            "epsilon = 0.01 was added: here it is 0, with the pseudo-inverse.": distances(a, epsilon=0.01),
        }
        mistakes = {words: value for words, value in mistakes.items() if not torch.allclose(value, expected, rtol=1e-3)}
        found = my_distances(normal)
        otherwise = f"these are not the distances of {n} vectors with {d} channels to their own Gaussian."
        judge(found, expected, mistakes, "one distance for each row", otherwise)
        bound = (n - 1) / n**0.5
    return f"none exceeds (N - 1) / sqrt(N), and with 300 channels all 8 lie at it: {bound:.3f}."


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


def _factories() -> list[tuple[str, np.ndarray, np.ndarray, bool]]:
    """Name factories, with the scores of their calibration and of later, and whether nothing has changed."""
    rng = np.random.default_rng(85)
    usual = rng.gamma(9, 10, 700)
    same, middle = usual[:300], float(usual.mean())
    spike = np.append(usual[450:550], 20 * usual.max())  # one part that was dirty: its score says nothing of the others
    few = np.sort(rng.gamma(9, 10, 4000).reshape(200, 20), axis=1)
    by_chance = max(few, key=lambda scores: abs(np.median(scores) - np.median(same)) < 6 and scores.mean())
    two_humps = middle + usual.std() * rng.choice([-1.0, 1.0], 300) * rng.normal(1, 0.1, 300)
    wide = middle + 2.2 * (usual[400:] - middle)
    return [
        ("nothing changed", same, usual[400:600], True),
        ("one huge score", same, spike, True),
        ("few later scores", same, by_chance, True),
        ("warmer light", same, usual[400:600] * 1.5, False),
        ("another camera: the scores spread more, around the same mean", same, wide, False),
        ("two machines: mean and spread are the same, but not the scores between them", same, two_humps, False),
        (
            "calibrated on pictures of the fit, all close to the bound",
            rng.normal(6.1, 0.02, 300),
            usual[400:600],
            False,
        ),
        ("later scores stretched to [0, 1]", same, (usual[400:600] - usual.min()) / np.ptp(usual), False),
    ]


@exercise("08.5")
def _(my_promise) -> str:
    for name, calibration, later, holds in _factories():
        said = bool(np.asarray(my_promise(calibration, later)).item())
        if said and not holds:
            raise Wrong(f"“{name}”: this is called exchangeable, and the threshold's promise is broken.")
        if holds and not said:
            raise Wrong(f"“{name}”: both come from one distribution here, and a calibration would be thrown away.")
    return "and no mean, no single huge score deceived it. Exchangeable is still more than equally distributed."


def _world(
    seed: int, contrast: tuple[float, ...], heavy: tuple[int, ...] = (), late: bool = False
) -> tuple[dict[str, list[Tensor]], dict[str, np.ndarray]]:
    """Draw features of three layers whose places differ by a contrast; the pasted and the real defects break it.

    Args:
        seed: Seed of the numbers.
        contrast: How much the places differ, for each layer; 0 for a layer that sees no defect.
        heavy: Layers with single huge values in normal pictures.
        late: Whether only the later half of the channels carries the contrast.
    """
    rng = np.random.default_rng(seed)
    counts, sides = {"fit": 24, "held_out": 8, "pasted": 8, "real": 8}, ((6, 12), (8, 6), (10, 3))
    masks = {name: np.zeros((8, 12, 12), bool) for name in ("pasted", "real")}
    blocks = {name: rng.integers(0, 3, (8, 2)) for name in masks}  # of 4 x 4 fine cells
    for name, mask in masks.items():
        for each, (y, x) in zip(mask, blocks[name], strict=True):
            each[4 * y : 4 * y + 4, 4 * x : 4 * x + 4] = True
    splits: dict[str, list[Tensor]] = {name: [] for name in counts}
    for layer, (channels, side) in enumerate(sides):
        places = contrast[layer] * rng.normal(size=(channels, side, side))
        if late:
            places[: channels // 2] = 0
        for name, n in counts.items():
            values = places + rng.normal(size=(n, channels, side, side))
            if layer in heavy:
                values *= np.where(rng.random((n, 1, side, side)) < 0.1, 8, 1)
            if name in masks:
                size = side // 3
                for each, (y, x) in zip(values, blocks[name], strict=True):
                    here = slice(size * y, size * y + size), slice(size * x, size * x + size)
                    other = rng.permutation(places.reshape(channels, -1).T).T.reshape(places.shape)
                    each[:, *here] += (other - places)[:, *here]
            splits[name].append(torch.from_numpy(values).float())
    return splits, masks


SETTINGS = [((0,), 6), ((1,), 8), ((2,), 10), ((0, 1, 2), 10), ((0, 1, 2), 2), ((0, 1), 10)]
WORLDS = (
    {"seed": 1, "contrast": (2.0, 0.0, 0.0)},
    {"seed": 2, "contrast": (0.0, 2.0, 0.0), "heavy": (0, 2)},
    {"seed": 3, "contrast": (0.0, 1.0, 2.0), "late": True},
)
CLOSE = 0.03  # of PRO, to the best setting


def _pro(splits: dict[str, list[Tensor]], masks: dict[str, np.ndarray], name: str) -> list[float]:
    """Compute PRO of each setting on the pasted or on the real defects."""
    found = []
    for layers, kept in SETTINGS:
        gaussians = fitted([splits["fit"][i][:, :kept] for i in layers])
        distances = gaussians.distances([splits[name][i][:, :kept] for i in layers])
        found.append(aupro(masks[name], F.interpolate(distances[None], (12, 12))[0]))
    return found


@exercise("08.6")
def _(my_choice) -> str:
    for world in WORLDS:
        splits, masks = _world(**world)
        given = (splits["fit"], splits["held_out"], splits["pasted"], masks["pasted"], SETTINGS)
        choice = int(my_choice(*given))
        if not 0 <= choice < len(SETTINGS):
            raise Wrong(f"{choice} is no index of the {len(SETTINGS)} settings.")
        pro = _pro(splits, masks, "real")
        if pro[choice] < max(pro) - CLOSE:
            layers, kept = SETTINGS[choice]
            raise Wrong(
                f"you chose layers {layers} with {kept} channels: PRO on the real defects is {pro[choice]:.2f}, and "
                f"another reaches {max(pro):.2f}. Did you measure what is found, or only how quiet normal pictures are?"
            )
    return "three factories, and each time a setting close to the best, without one real defect."
