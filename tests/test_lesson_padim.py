"""Lesson 08: its drawings, its explorer when it is moved, and its checks."""

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
import scipy.ndimage
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from scipy.stats import ks_2samp, ttest_ind

from xailab.datasets import inspection
from xailab.lessons import padim as lesson
from xailab.lessons import verdict
from xailab.metrics import aupro, auroc
from xailab.models import zoo
from xailab.padim import PaDiM


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


def test_synthetic_defects_are_pieces_of_the_picture():
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    changed, mask = lesson.pasted(picture, np.random.default_rng(1))
    assert np.array_equal(changed[~mask], picture[~mask]) and (changed[mask] != picture[mask]).any()
    y, x = np.nonzero(mask)
    piece = changed[y.min() : y.max() + 1, x.min() : x.max() + 1]
    windows = np.lib.stride_tricks.sliding_window_view(picture, piece.shape)
    assert mask.sum() == piece.shape[0] * piece.shape[1] and (windows == piece).all((3, 4, 5)).sum() == 1


def test_what_is_recorded_is_what_the_detector_sees():
    """In half precision, and turned as `rd` turns."""
    network = zoo.load("scenes_resnet")
    layers = ["layer1", "layer2", "layer3"]
    whole, turned = lesson.record(network, layers, "gear"), lesson.record(network, layers, "gear", turned=True)
    view = replace(network.preprocess, resize=192, crop=None)
    fit, _, test = lesson.samples("gear")
    detector = PaDiM(network, layers, dimensions=None).fit(view([s.image for s in fit]).split(8), progress=False)
    expected = detector.anomaly_maps(view([s.image for s in test[:4]]))
    normal_maps, maps, pasted_maps = whole.maps(layers)
    assert torch.allclose(maps[:4], expected, rtol=0.02, atol=0.2)
    assert normal_maps.shape == pasted_maps.shape == (20, 192, 192) and whole.pasted.any((1, 2)).all()
    assert turned.synthetic is None and len(turned.maps(layers)) == 2
    assert np.array_equal(turned.masks.any((1, 2)), whole.masks.any((1, 2)))
    assert not np.array_equal(turned.pictures, whole.pictures)


def test_two_channels_and_the_first_of_each_layer_are_chosen_for_the_schematic():
    normal = torch.randn(30, 6, generator=torch.Generator().manual_seed(0))
    new = normal.mean(0) + torch.tensor([0.0, 9, 0, 0, 5, 0])
    vectors = normal.expand(4, 4, 30, 6)
    heat = torch.zeros(4, 4)
    heat[1, 2] = 3
    pictures = [np.full((8, 8, 3), 100, np.uint8)] * 4
    figure = lesson.draw_idea(pictures, torch.arange(6), vectors, new.expand(4, 4, 1, 6), heat, (2, 2, 2))
    cloud = next(axis for axis in figure.axes[0].child_axes if len(axis.lines) == 5)
    assert np.allclose(cloud.lines[-1].get_xydata(), new[[1, 4]].numpy())


def test_drift_choice_and_growth_are_drawn():
    rates = {"a": [np.array([False] * 9), np.array([True] * 9)], "b": [np.array([False] * 9)] * 2}
    axis = lesson.draw_drift(rates, [0, 0.1], 0.05).axes[0]
    dashed = next(line for line in axis.lines if line.get_linestyle() == "--")
    assert set(dashed.get_ydata()) == {0.05} and axis.lines[0].get_ydata().tolist() == [0, 1]
    left, right = lesson.draw_choice({"x": (1.5, 0.7, 0.9), "y": (1.2, 0.8, 0.95)}).axes
    assert [line.get_xydata().tolist() for line in right.lines] == [[[0.7, 0.9]], [[0.8, 0.95]]]
    assert left.lines[0].get_xydata().tolist() == [[1.5, 0.9]]
    axes = lesson.draw_growth([1, 10], {"a": [2**20, 2**21]}, {"a": [5, 5]}).axes
    assert axes[0].lines[0].get_ydata().tolist() == [1, 2] and axes[1].lines[0].get_ydata().tolist() == [5, 5]


def test_tables_say_means_and_intervals(capsys):
    def judged(image, alarms):
        return lesson.Judged(image, (0.5, 1.0), 0.9, 0.8, np.array(alarms), np.array([True, False]), 0.7)

    table = {("a", p): judged(image, [False]) for p, image in (("x", 0.8), ("y", 0.9))}
    table |= {("b", p): judged(image, [True]) for p, image in (("x", 0.9), ("y", 1.0))}
    lesson.print_products(table)
    said = capsys.readouterr().out
    assert "mean         0.850" in said and "false alarms in all: 1.000" in said and "found in all: 0.500" in said
    lesson.print_gains(table, "a", "b")
    assert "image AUROC +0.100 (+0.100 to +0.100)" in capsys.readouterr().out
    settings = {"one": [[1.0, 0.5, 0.6], [1.0, 0.5, 0.6]], "two": [[2.0, 0.6, 0.9], [2.0, 0.4, 0.8]]}
    settings["three"] = [[3.0, 0.7, 0.9], [3.0, 0.6, 1.0]]
    lesson.print_choice(settings, table)
    said = capsys.readouterr().out
    assert "held-out ratio: correlation with the real PRO -0.97; chooses one, real PRO 0.600 (best 0.950)" in said
    assert "synthetic defects: " in said and "x 0.000, y 0.000" in said


def embedding(enlarge=lambda x, grid: F.interpolate(x, grid), order=lambda layers: layers):
    return lambda layers: torch.cat([enlarge(x, layers[0].shape[2:]) for x in order(layers)], 1)


def bilinear(**options):
    return lambda x, grid: x if x.shape[2:] == grid else F.interpolate(x, grid, mode="bilinear", **options)


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


def own_distances(root=True, divide=None, centre=True, keep=1e-5, end=lambda d: d):
    def my_distances(normal):
        n = len(normal)
        x = normal.double()
        a = x - x.mean(0) if centre else x
        u, s, _ = torch.linalg.svd(a, full_matrices=False)
        h = u[:, s > keep * s[0]].square().sum(1)
        squares = (n - 1 if divide is None else divide(n)) * h
        return end(squares.sqrt() if root else squares)

    return my_distances


def own_by_inverse(normal):
    a = (normal - normal.mean(0)).double()
    c = torch.linalg.pinv(a.T @ a / (len(a) - 1))
    return ((a @ c) * a).sum(1).sqrt()


def own_by_gram(normal):
    """The projection from the n x n products, in NumPy."""
    a = (normal - normal.mean(0)).double().numpy()
    gram = a @ a.T
    return np.sqrt((len(a) - 1) * np.diag(gram @ np.linalg.pinv(gram, rcond=1e-9, hermitian=True)))


def by_pasted_pro(figure):
    def my_choice(fit, held_out, pasted, masks, settings):
        found = []
        for layers, kept in settings:
            gaussians = lesson.fitted([fit[i][:, :kept] for i in layers])
            distances = gaussians.distances([pasted[i][:, :kept] for i in layers])
            found.append(figure(masks, F.interpolate(distances[None], masks.shape[1:])[0]))
        return int(np.argmax(found))

    return my_choice


def by_quiet_scores(fit, held_out, pasted, masks, settings):
    found = []
    for layers, kept in settings:
        gaussians = lesson.fitted([fit[i][:, :kept] for i in layers])
        scores = gaussians.distances([held_out[i][:, :kept] for i in layers]).amax((1, 2))
        found.append(float(scores.max() / scores.median()))
    return int(np.argmin(found))


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
        ("08.2", own_distances(), None),
        ("08.2", own_by_inverse, None),
        ("08.2", own_by_gram, None),
        ("08.2", own_distances(root=False), "square of the distance"),
        ("08.2", own_distances(root=False, divide=lambda n: 1), "diagonal of H"),
        ("08.2", own_distances(divide=lambda n: 1), "multiplied by N - 1"),
        ("08.2", own_distances(divide=lambda n: n), "multiplied by N:"),
        ("08.2", own_distances(centre=False), "not centred"),
        ("08.2", own_distances(keep=0), "singular value is zero"),
        (
            "08.2",
            lambda normal: torch.full((len(normal),), (len(normal) - 1) / len(normal) ** 0.5),
            "this is the bound",
        ),
        ("08.2", lambda normal: (normal - normal.mean(0)).norm(dim=1), "Euclidean"),
        ("08.2", own_distances(end=lambda d: d + 1), "their own Gaussian"),
        ("08.2", own_distances(end=lambda d: d.max()), "one distance for each row"),
        ("08.2", lambda normal: own_by_inverse(normal.sub_(1)), "it changed `normal`"),
        ("08.2", lambda normal: ..., "not written yet"),
        ("08.5", lambda a, b: ks_2samp(a, b).pvalue > 0.01, None),
        ("08.5", lambda a, b: ks_2samp(a, b).pvalue > 0.05, None),
        ("08.5", lambda a, b: True, "“warmer light”: this is called exchangeable"),
        ("08.5", lambda a, b: False, "“nothing changed”: both come from one"),
        ("08.5", lambda a, b: ttest_ind(a, b).pvalue > 0.001, "around the same mean"),
        ("08.5", lambda a, b: abs(b.mean() - a.mean()) < 0.1 * a.mean(), "both come from one"),
        ("08.5", lambda a, b: b.max() <= a.max(), "both come from one"),
        ("08.5", lambda a, b: 0.5 < b.std() / a.std() < 2 and ttest_ind(a, b).pvalue > 0.001, "“one huge score”"),
        ("08.6", by_pasted_pro(aupro), None),
        ("08.6", by_pasted_pro(auroc), None),
        ("08.6", by_quiet_scores, "how quiet normal pictures are"),
        ("08.6", lambda *given: 3, "you chose layers (0, 1, 2) with 10 channels"),
        ("08.6", lambda *given: 1, "you chose layers (1,)"),
        ("08.6", lambda *given: 17, "no index"),
        ("08.6", lambda *given: None, "not written yet"),
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
