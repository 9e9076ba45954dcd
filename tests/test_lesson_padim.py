"""Lesson 08: its drawings, its explorer when it is moved, and its checks."""

import math

import cv2
import numpy as np
import pytest
import scipy.ndimage
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure

from xailab.datasets import inspection
from xailab.lessons import padim as lesson
from xailab.lessons import verdict
from xailab.metrics import aupro, auroc


@pytest.fixture(scope="module")
def recorded():
    """Two layers of random features, with a defect where the test pictures' features differ."""
    generator = torch.Generator().manual_seed(0)

    def features(n):
        return [torch.randn(n, 3, 8, 8, generator=generator), torch.randn(n, 4, 4, 4, generator=generator)]

    test, masks = features(6), np.zeros((6, 32, 32), bool)
    masks[3:, 8:16, 8:16] = True
    for layer, reach in zip(test, (slice(2, 4), slice(1, 2)), strict=True):
        layer[3:, :, reach, reach] += 6
    kinds = ["good"] * 3 + ["spot"] * 3
    pictures = np.full((6, 32, 32, 3), 120, np.uint8)
    return lesson.Recorded(("layer1", "layer2"), features(20), features(19), test, pictures, masks, kinds)


def test_an_outline_is_drawn_where_there_is_one():
    axis = Figure().subplots()
    for mask in (np.zeros((8, 8), bool), np.ones((8, 8), bool)):
        lesson.outline(axis, mask, lesson.TRUTH)
    assert not axis.collections
    mask = np.zeros((8, 8), bool)
    mask[2:5, 3:6] = True
    lesson.outline(axis, mask, lesson.TRUTH)
    corners = np.concatenate([path.vertices for path in axis.collections[0].get_paths()])
    assert corners.min(0).tolist() == [2.5, 1.5] and corners.max(0).tolist() == [5.5, 4.5]


def test_ellipses_pass_through_points_of_their_distance():
    normal = np.array([[7.0, 5], [7, 3], [3, 3], [3, 1], [5, 3]])
    covariance = np.cov(normal.T)
    circles, ellipses = lesson.draw_ellipses(normal, covariance, {"A": np.array([9.0, 5])}).axes
    for axis, matrix in ((circles, np.eye(2)), (ellipses, np.linalg.inv(covariance))):
        for radius, line in zip((1, 2, 3, 4), axis.lines, strict=False):
            d = line.get_xydata() - normal.mean(0)
            assert np.allclose(np.einsum("ni, ij, nj -> n", d, matrix, d), radius**2)


def test_a_cell_is_framed_at_the_same_place_in_every_grid():
    figure = lesson.draw_cells(np.zeros((48, 48, 3), np.uint8), {"fine": 12, "coarse": 3}, (0.5, 0.25))
    framed = [axis.patches[0].get_bbox().bounds for axis in figure.axes]
    assert [axis.get_title() for axis in figure.axes] == ["fine: 12 × 12 cells", "coarse: 3 × 3 cells"]
    assert framed == [(11.5, 23.5, 4, 4), (0.5, 15.5, 15, 16)]  # the line stays inside the frame


def test_curves_have_the_areas_of_the_metrics():
    generator = np.random.default_rng(0)
    masks = np.zeros((4, 24, 24), bool)
    masks[0, 2:12, 3:9] = masks[0, 20, 20] = masks[1, 5:8, 5:20] = True
    maps = torch.from_numpy(scipy.ndimage.gaussian_filter(generator.normal(size=masks.shape), (0, 1, 1)) + 0.3 * masks)
    found = lesson.curves(masks, maps, steps=2000)
    assert found.alarms[0] == found.hits[0] == found.overlap[0] == 0
    assert found.alarms[-1] == 1 and (np.diff(found.thresholds) <= 0).all()
    assert np.trapezoid(found.hits, found.alarms) == pytest.approx(auroc(masks, maps), abs=1e-3)
    inside = found.alarms <= 0.3
    area = np.trapezoid(found.overlap[inside], found.alarms[inside]) / found.alarms[inside][-1]
    assert area == pytest.approx(aupro(masks, maps), abs=2e-3)
    figure = lesson.draw_threshold(found, np.zeros((24, 24, 3), np.uint8), masks[0], maps[0], [0.5, 0.2])
    assert [axis.get_title() for axis in figure.axes] == ["ROC", "PRO", "A: above 0", "B: above 0"]


def test_a_turned_and_cropped_picture_keeps_its_mask():
    whole = inspection.sample("capsule", 1, split="test", defect="leak", size=64)
    painted = whole._replace(image=np.repeat(np.where(whole.mask, 255, 0).astype(np.uint8)[..., None], 3, 2))
    moved = [lesson.rd(painted, np.random.default_rng(seed), crop=48) for seed in range(4)]
    assert len({each.image.tobytes() for each in moved}) == 4
    for each in moved:
        assert each.image.shape == (48, 48, 3) and each.mask.shape == (48, 48)
        assert ((each.image[..., 0] > 127) != each.mask).mean() < 0.02
    again = lesson.rd(painted, np.random.default_rng(0), crop=48)
    assert np.array_equal(again.image, moved[0].image)


def test_recorded_distances_are_those_of_the_chosen_layers(recorded):
    held_out, test = recorded.distances(["layer2"])
    assert held_out.shape == (19, 4, 4) and test.shape == (6, 4, 4)
    fit = recorded.fit[1][:, :, 1, 2].double().numpy()
    inverse = np.linalg.inv(np.cov(fit.T) + 0.01 * np.eye(4))
    d = recorded.test[1][4, :, 1, 2].double().numpy() - fit.mean(0)
    assert float(test[4, 1, 2]) == pytest.approx(np.sqrt(d @ inverse @ d), rel=1e-4)
    assert recorded.distances(["layer1", "layer2"], 5)[1].shape == (6, 8, 8)
    assert torch.equal(recorded.distances(["layer1"], 50)[1], recorded.distances(["layer1"])[1])


def test_an_inspection_says_its_verdict(recorded):
    good, bad = (lesson.draw_inspection(recorded, i) for i in (0, 4))
    assert good.axes[2].get_title() == "called normal" and bad.axes[2].get_title() == "called anomalous"
    assert bad.axes[0].get_title() == "spot, and the truth"
    assert lesson.draw_inspection(recorded, 4, threshold=50.0).axes[2].get_title() == "called normal"


def test_explorer_follows_every_control(recorded):
    box = lesson.inspection_explorer({"one": recorded, "other": recorded})
    seen = {box.picture.value}
    changes = [("picture", 5), ("threshold", 0.5), ("sigma", 1.0), ("d", 5), ("layers", ("layer2",))]
    for name, value in changes:
        box.controls[name].value = value
        assert box.message.value == ""
        seen.add(box.picture.value)
    assert len(seen) == len(changes) + 1
    before = box.picture.value
    box.controls["category"].value = "other"
    assert box.message.value == "" and box.picture.value == before  # the same recording


def test_gallery_and_maps_are_drawn(recorded):
    picture, mask, map = recorded.pictures[4], recorded.masks[4], torch.rand(32, 32)
    figure = lesson.draw_gallery([lesson.Shown("a", picture, picture, mask, map, 0.4)] * 2)
    assert len(figure.axes) == 8 and figure.axes[4].images[0].get_clim() == (0, 0.8)
    figure = lesson.draw_maps([("a", picture, mask, map, 2.0)] * 4, rows=2)
    assert len(figure.axes) == 8 and all(axis.images for axis in figure.axes)
    groups = {"a": np.arange(5.0), "b": np.arange(7.0)}
    assert [t.get_text() for t in lesson.draw_scores(groups, 3.0).axes[0].get_yticklabels()] == ["a", "b"]


def embedding(enlarge=lambda x, grid: F.interpolate(x, grid), order=lambda layers: layers):
    return lambda layers: torch.cat([enlarge(x, layers[0].shape[2:]) for x in order(layers)], 1)


def bilinear(**options):
    return lambda x, grid: x if x.shape[2:] == grid else F.interpolate(x, grid, mode="bilinear", **options)


def mahalanobis(
    divide=lambda n: n - 1, plus=None, c=None, centre=True, weigh=torch.linalg.pinv, end=torch.sqrt, about=None
):
    def my_mahalanobis(normal, x, epsilon):
        normal, x = normal.double(), x.double()
        mean = normal.mean(0)
        a = normal - mean if centre else normal
        s = a.T @ a / divide(len(normal))
        s = (s if c is None else c(s)) + (epsilon * torch.eye(len(s)) if plus is None else plus(epsilon))
        d = x - (mean if about is None else about(x))
        return end((d @ weigh(s) * d).sum(1))

    return my_mahalanobis


def threshold(choose):
    return lambda scores, share: choose(np.sort(scores)[::-1], int(share * (len(scores) + 1) + 1e-9), share)


EIGHT = np.ones((3, 3))


def overlap(
    structure=EIGHT,
    join=lambda pictures: np.mean([s for shares in pictures for s in shares]),
    reach=np.greater_equal,
    first=1,
):
    def my_overlap(masks, maps, threshold):
        pictures = []
        for mask, map in zip(masks, maps, strict=True):
            labels, count = scipy.ndimage.label(mask, structure)
            pictures.append([reach(map[labels == k], threshold).mean() for k in range(first, count + 1)])
        return join(pictures)

    return my_overlap


def overlap_by_torch(masks, maps, threshold):
    regions = []
    for mask, map in zip(masks, torch.from_numpy(maps), strict=True):
        labels, count = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[::-1]
        regions += [(map[torch.from_numpy(labels == k)] >= threshold).double().mean() for k in range(1, count)]
    return torch.stack(regions).mean()


def overlap_in_place(masks, maps, threshold):
    maps -= threshold
    return overlap()(masks, maps, 0)


def sorted_in_place(scores, share):
    scores.sort()
    return scores[-int(share * (len(scores) + 1) + 1e-9)]


def by_counting(scores, share):
    """The largest k for which k / (n + 1) is no more than the share, as it is asked for."""
    k = max(k for k in range(1, len(scores) + 1) if k / (len(scores) + 1) <= share)
    return np.sort(scores)[-k]


def factors(x, grid):
    return [side // own for side, own in zip(grid, x.shape[2:], strict=True)]


def by_cholesky(normal, x, epsilon):
    mean = normal.mean(0)
    c = torch.cov(normal.T) + epsilon * torch.eye(normal.shape[1])
    y = torch.linalg.solve_triangular(torch.linalg.cholesky(c), (x - mean).T, upper=False)
    return y.norm(dim=0)


def by_whitening(normal, x, epsilon):
    c = torch.cov(normal.T.double()) + epsilon * torch.eye(normal.shape[1]).double()
    values, vectors = torch.linalg.eigh(c)
    return ((x - normal.mean(0)).double() @ vectors / values.sqrt()).norm(dim=1)


def by_numpy(normal, x, epsilon):
    normal, x = normal.numpy(), x.numpy()
    c = np.cov(normal, rowvar=False) + epsilon * np.eye(normal.shape[1])
    d = x - normal.mean(0)
    return np.sqrt(np.einsum("md,de,me->m", d, np.linalg.inv(c), d))


def joined_regions(masks, maps, threshold):
    labels, count = scipy.ndimage.label(masks, np.ones((3, 3, 3)))
    return np.mean([(maps[labels == k] >= threshold).mean() for k in range(1, count + 1)])


def pooled(ratio):
    return lambda masks, maps, threshold: ratio(masks, maps >= threshold)


@pytest.mark.parametrize(
    ("number", "answer", "part"),
    [
        ("08.1", embedding(), None),
        (
            "08.1",
            embedding(lambda x, g: x.repeat_interleave(g[0] // x.shape[2], 2).repeat_interleave(g[1] // x.shape[3], 3)),
            None,
        ),
        ("08.1", embedding(bilinear()), "coarse maps are interpolated"),
        ("08.1", embedding(bilinear(align_corners=True)), "align_corners"),
        ("08.1", embedding(lambda x, g: x.repeat(1, 1, g[0] // x.shape[2], g[1] // x.shape[3])), "like tiles"),
        ("08.1", lambda layers: embedding()(layers).flip(1), "is not the vector"),
        ("08.1", lambda layers: torch.cat([F.interpolate(x, (4, 8)) for x in layers[::-1]], 1), "another order"),
        ("08.1", lambda layers: embedding()(layers).squeeze(0), "a batch of one keeps"),
        ("08.1", lambda layers: torch.cat([F.adaptive_avg_pool2d(x, (1, 2)) for x in layers], 1), "expected shape"),
        ("08.1", embedding(lambda x, g: F.interpolate(x, g) * x[0, 0].numel() / 32), "shared out"),
        ("08.1", lambda layers: torch.cat(layers, 1), "your function stopped"),
        ("08.1", lambda layers: ..., "not written yet"),
        (
            "08.1",
            embedding(lambda x, g: x if x.shape[2:] == g else torch.kron(x, torch.ones(1, 1, *factors(x, g)))),
            None,
        ),
        (
            "08.1",
            lambda layers: np.concatenate([F.interpolate(x, layers[0].shape[2:]).numpy() for x in layers], 1),
            None,
        ),
        ("08.1", lambda layers: embedding()([x.double() for x in layers]), None),
        ("08.1", lambda layers: torch.cat([F.interpolate(x, (4, 8)) for x in layers], 1), "expected shape"),
        ("08.1", lambda layers: embedding()(layers[:3]), "expected shape"),
        (
            "08.1",
            lambda layers: torch.cat(
                [x.repeat_interleave(8 // x.shape[3], 3).repeat_interleave(8 // x.shape[3], 2) for x in layers], 1
            ),
            "your function stopped",
        ),
        ("08.1", lambda layers: embedding()([layers.pop(0) for _ in range(len(layers))]), "it changed `layers`"),
        ("08.2", by_cholesky, None),
        ("08.2", by_whitening, None),
        ("08.2", by_numpy, None),
        ("08.2", lambda n, x, e: torch.stack([mahalanobis()(n, row[None], e)[0] for row in x]), None),
        ("08.2", lambda n, x, e: mahalanobis()(n, x, 0.3), "epsilon that was given is not used"),
        ("08.2", lambda n, x, e: mahalanobis()(n, x, 0.01), "epsilon that was given is not used"),
        ("08.2", lambda n, x, e: mahalanobis()(n.sub_(1), x.sub_(1), e), "it changed `n`"),
        ("08.2", mahalanobis(plus=lambda e: e * torch.eye(3)), "your function stopped"),
        ("08.2", mahalanobis(), None),
        ("08.2", mahalanobis(end=lambda m: m), "square of the distance"),
        ("08.2", mahalanobis(divide=lambda n: n), "has n - 1"),
        ("08.2", mahalanobis(plus=lambda e: 0), "epsilon is missing"),
        ("08.2", mahalanobis(plus=lambda e: e), "only the diagonal"),
        ("08.2", mahalanobis(c=lambda s: torch.diag(s.diag())), "own variances"),
        ("08.2", mahalanobis(weigh=lambda s: torch.eye(len(s)).double()), "Euclidean"),
        ("08.2", mahalanobis(weigh=lambda s: s), "has to be its inverse"),
        ("08.2", mahalanobis(about=lambda x: 0), "mean is not subtracted"),
        ("08.2", mahalanobis(about=lambda x: x.mean(0)), "*normal* vectors"),
        ("08.2", mahalanobis(centre=False), "around 0"),
        ("08.2", mahalanobis(end=lambda m: m.sqrt() + 1), "not equation 2"),
        ("08.2", mahalanobis(end=lambda m: m.sqrt().max()), "one distance for each row"),
        ("08.3", threshold(lambda falling, k, share: falling[k - 1]), None),
        ("08.3", threshold(lambda falling, k, share: torch.tensor(falling[k - 1])), None),
        ("08.3", threshold(lambda falling, k, share: np.quantile(falling, 1 - share)), "numpy's quantile"),
        ("08.3", threshold(lambda falling, k, share: falling[-k]), "from the smallest"),
        ("08.3", threshold(lambda falling, k, share: falling[k]), "too far down"),
        ("08.3", threshold(lambda falling, k, share: falling.mean() + 2 * falling.std()), "standard deviation"),
        ("08.3", threshold(lambda falling, k, share: falling.mean() + 3 * falling.std()), "three standard"),
        ("08.3", threshold(lambda falling, k, share: falling[0]), "whatever share"),
        ("08.3", threshold(lambda falling, k, share: (1 - share) * falling[0]), "count pictures"),
        (
            "08.3",
            threshold(lambda falling, k, share: (falling[k - 1] - falling[-1]) / (falling[0] - falling[-1])),
            "stretched",
        ),
        ("08.3", threshold(lambda falling, k, share: falling[k - 1] + 1), "k is 4"),
        ("08.3", threshold(lambda falling, k, share: falling[:k]), "one number"),
        ("08.3", lambda scores, share: np.sort(scores)[-int(share * (len(scores) + 1))], "Add 1e-9"),
        ("08.3", lambda scores, share: np.sort(scores)[-math.floor(share * (len(scores) + 1))], "Add 1e-9"),
        ("08.3", by_counting, None),
        ("08.3", lambda scores, share: float(np.sort(scores)[-round(share * (len(scores) + 1) - 0.4999)]), None),
        ("08.3", lambda scores, share: sorted(scores, reverse=True)[int(share * (len(scores) + 1) + 1e-6) - 1], None),
        ("08.3", lambda scores, share: threshold(lambda falling, k, _: falling[k - 1])(scores, 0.1), "is not used"),
        ("08.3", lambda scores, share: np.sort(scores)[-int(share * len(scores) + 1e-9)], "there are n + 1"),
        ("08.3", threshold(lambda falling, k, share: k), "return the score"),
        ("08.3", sorted_in_place, "it changed `scores`"),
        ("08.4", overlap(reach=np.greater), "exactly the threshold"),
        ("08.4", lambda masks, maps, t: overlap()(masks, maps, t + 1e-9), "exactly the threshold"),
        ("08.4", overlap(first=0), "label 0"),
        ("08.4", overlap_by_torch, None),
        ("08.4", lambda masks, maps, t: float(overlap()(list(masks), list(maps), t)), None),
        ("08.4", lambda masks, maps, t: overlap()(masks.astype(np.uint8), maps.astype(np.float32), t), None),
        ("08.4", lambda masks, maps, t: overlap()(masks, maps, 3.0), "mean share over"),
        ("08.4", lambda masks, maps, t: overlap()(masks, np.where(masks, maps, 0), t), None),
        ("08.4", overlap_in_place, "it changed `maps`"),
        ("08.4", overlap(), None),
        ("08.4", overlap(None), "8-connected"),
        ("08.4", overlap(join=lambda pictures: np.mean([np.mean(s) for s in pictures if s]) * 1.01), "4 regions"),
        ("08.4", joined_regions, "each picture by itself"),
        ("08.4", pooled(lambda masks, above: above[masks].mean()), "pooled"),
        (
            "08.4",
            pooled(lambda masks, above: np.mean([a[m].mean() for m, a in zip(masks, above, strict=True) if m.any()])),
            "over pictures",
        ),
        (
            "08.4",
            pooled(lambda m, above: sum(a[k].mean() for k, a in zip(m, above, strict=True) if k.any()) / len(m)),
            "do not count as 0",
        ),
        ("08.4", pooled(lambda masks, above: (above & masks).sum() / (above | masks).sum()), "IoU"),
        ("08.4", pooled(lambda masks, above: masks[above].mean()), "precision"),
        ("08.4", overlap(join=lambda pictures: 1 - np.mean([s for shares in pictures for s in shares])), "*below*"),
        ("08.4", overlap(join=lambda pictures: [s for shares in pictures for s in shares]), "one number"),
    ],
)
def test_checks(number, answer, part):
    found = verdict(number, answer)
    assert found.passed == (part is None), found.message
    assert part is None or part in found.message, found.message
