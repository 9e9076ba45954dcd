"""Lesson 09: its drawings, its explorer when it is moved, and its checks."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.spatial.distance import cdist as scipy_cdist

from xailab.lessons import patch_svdd as lesson
from xailab.lessons import verdict
from xailab.patch_svdd import PatchSVDD, Step, close_pairs, position_pairs

ABLATION = ("untrained", "centre", "neighbours", "neighbours and position")


@pytest.fixture(scope="module")
def searched():
    """Noise to learn from; in the test pictures a bright square."""
    generator = torch.Generator().manual_seed(0)
    normal, test = (0.4 + 0.1 * torch.rand(n, 3, 64, 96, generator=generator) for n in (5, 3))
    masks = np.zeros((3, 64, 96), bool)
    masks[1:, 8:20, 60:72] = True
    test[1:, :, 8:20, 60:72] = 0.9
    detector = PatchSVDD(8, strides=(8, 16)).fill_memory_bank(normal, progress=False)
    pictures = (lesson.as_pictures(each) for each in (normal, test))
    kinds = ["good", "square", "square"]
    return lesson.Searched(detector, *pictures, masks, kinds, detector.embed(test), detector.all_maps(test))


def test_pictures_keep_their_bytes():
    values = torch.arange(256).view(1, 1, 16, 16).expand(1, 3, 16, 16) / 255
    assert np.array_equal(lesson.as_pictures(values)[0, ..., 1].ravel(), np.arange(256))


def test_one_circle_and_the_nearest_point_hold_the_same_share():
    normal = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
    circle, islands = lesson.draw_centre(normal, torch.tensor([[3.0, 0]])).axes
    line = circle.collections[1].get_paths()[0].vertices
    radii = np.hypot(*(line - normal.mean(0).numpy()).T)
    assert np.ptp(radii) < 0.05
    assert ((normal - normal.mean(0)).norm(dim=1).numpy() < radii.mean()).mean() == pytest.approx(0.95, abs=0.01)
    assert len(islands.collections) == 2


def test_pairs_are_framed_where_they_lie():
    generator, picture = torch.Generator().manual_seed(1), np.full((48, 64, 3), 90, np.uint8)
    apart, near = (draw(1, 1, (48, 64), 16, generator) for draw in (position_pairs, close_pairs))
    above, below = lesson.draw_pairs([picture], [apart], [near], 16).axes
    corners = [tuple(p.get_xy()) for p in below.patches]
    assert corners == [(c[1] - 0.5, c[0] - 0.5) for c in (*near.main.tolist(), *near.neighbour.tolist())]
    assert len(above.patches) == 4 and above.texts[0].arrow_patch is not None
    assert np.ptp(below.get_xlim()) == np.ptp(below.get_ylim()) == 32


def test_a_large_patch_has_its_quarters_sixteen_cells_apart():
    _, grid = lesson.draw_hierarchy(np.zeros((128, 128, 3), np.uint8), (24, 40)).axes
    assert [tuple(float(v[0]) for v in line.get_data()) for line in grid.lines[-4:]] == [
        (20, 12), (36, 12), (20, 28), (36, 28)]  # fmt: skip
    assert "16 apart" in [text.get_text() for text in grid.texts]


def test_losses_are_averaged_when_there_are_many():
    history = [Step(2.0 + (i % 2), 2.5, 1.0, 0.5, 10.0 ** -(i // 50), 0.1) for i in range(200)]
    axes = lesson.draw_losses({"short": history[:30], "long": history}).axes
    short, long = axes[:2]
    assert len(short.lines[0].get_ydata()) == 30 and len(long.lines[0].get_ydata()) == 200 - lesson.WINDOW + 1
    assert np.ptp(short.lines[0].get_ydata()) == 1 and np.ptp(long.lines[0].get_ydata()) < 1e-9
    assert short.lines[2].get_ydata()[0] == pytest.approx(np.log(8))


def test_a_training_is_drawn_while_it_runs():
    live = lesson.LiveLosses(every=2)
    images, seen = torch.rand(3, 3, 80, 80, generator=torch.Generator().manual_seed(0)), []

    def watch(number, measured):
        live(number, measured)
        seen.append(live.picture.value)

    detector = PatchSVDD(8).fit(images, steps=5, batch=2, progress=False, on_step=watch)
    assert live.history == detector.history and seen[0] == b""
    assert seen[1] == seen[2] and seen[3] == seen[4] and seen[1] != seen[3]
    assert bytes(seen[1]).startswith(b"\x89PNG")


def test_colours_of_places_differ_in_both_directions():
    places = np.stack(np.meshgrid([0.2, 0.5, 0.8], [0.2, 0.5, 0.8], indexing="ij"), -1)
    colours = lesson.position_colours(places)
    assert colours.shape == (3, 3, 3) and colours.min() >= 0 and colours.max() <= 1
    assert (colours[0] > colours[2]).any(1).all() and (colours[:, 0, 2] > colours[:, 2, 2]).all()
    gaps = np.abs(colours.reshape(9, 1, 3) - colours.reshape(1, 9, 3)).max(2) + np.eye(9)
    assert gaps.min() > 0.08
    picture = np.full((8, 8, 3), 200, np.uint8)
    figure = lesson.draw_embeddings(
        {"one": (picture, np.random.default_rng(0).normal(size=(9, 2)), places.reshape(9, 2))}
    )
    assert np.allclose(figure.axes[1].collections[0].get_facecolors()[:, :3], colours.reshape(9, 3))


def test_a_place_is_the_patch_around_it(searched):
    assert searched.place("fine", (16, 48)) == ((0, 4), (0, 32))
    assert searched.place("coarse", (32, 32)) == ((0, 0), (0, 0))
    assert searched.place("fine", (64, 96)) == ((4, 8), (32, 64))


def test_matches_are_the_nearest_of_different_pictures(searched):
    at = searched.place("fine", (16, 64))[0]
    matches = searched.matches("fine", 1, at, 3)
    found = searched.detector.nearest_patches(torch.from_numpy(searched.pictures[1:2]).permute(0, 3, 1, 2) / 255)[
        "fine"
    ]
    assert matches[0].distance == pytest.approx(float(found.distances[0, *at]), rel=0.05)
    assert len({m.picture for m in matches}) == 3 and matches[0].distance < matches[1].distance < matches[2].distance
    bank, query = searched.detector.memory_banks["fine"], searched.embeddings.fine[1, :, *at]
    for match in matches:
        place = torch.tensor([match.picture, *match.corner])
        row = (bank.places == place).all(1).nonzero().item()
        assert float((bank.vectors[row] - query).norm()) == pytest.approx(match.distance)
    mine = bank.places[:, 0] == matches[0].picture
    assert float((bank.vectors[mine] - query).norm(dim=1).min()) == pytest.approx(matches[0].distance)


def test_maps_matches_and_search_are_drawn(searched):
    figure = lesson.draw_four_maps([("noise", searched, 1)])
    assert [axis.get_title() for axis in figure.axes] == ["noise: square", "fine", "coarse", "sum", "product"]
    assert figure.axes[4].images[0].get_clim() == pytest.approx((0, 1.25 * float(searched.maps.product[0].max())))
    figure = lesson.draw_matches({"noise": searched}, [("noise", 1, (14, 66)), ("noise", 0, (32, 32))], count=2)
    assert len(figure.axes) == 8 and np.array_equal(
        figure.axes[1].images[0].get_array(), searched.pictures[1][0:32, 48:80]
    )
    title = lesson.draw_search(searched, 1, 14, 66, "coarse", "fine").axes[1].get_title()
    assert title == "fine map"


def test_explorer_follows_every_control(searched):
    box = lesson.search_explorer({"one": searched, "other": searched})
    seen = {box.picture.value}
    changes = [("picture", 3), ("row", 16), ("column", 68), ("size", "coarse"), ("kind", "fine")]
    for name, value in changes:
        box.controls[name].value = value
        assert box.message.value == ""
        seen.add(box.picture.value)
    assert len(seen) == len(changes) + 1
    before = box.picture.value
    box.controls["category"].value = "other"
    assert box.message.value == "" and box.picture.value == before


def test_lambda_is_drawn_in_order():
    def row(objective, lambda_, value, spread):
        auroc = {"product": value}
        return {
            "category": "a",
            "objective": objective,
            "lambda": lambda_,
            "image": auroc,
            "pixel": auroc,
            "spread": spread,
        }

    rows = [
        row("untrained", None, 0.8, None),
        row(ABLATION[3], 1.0, 0.7, [0.1, 0.01]),
        row(ABLATION[3], 0.1, 0.9, [1, 0.5]),
    ]
    above, below = lesson.draw_lambda(rows).axes
    assert above.lines[0].get_xydata().tolist() == [[0.1, 0.9], [1.0, 0.7]]
    assert above.lines[1].get_ydata()[0] == 0.8 and above.lines[1].get_linestyle() == "--"
    assert below.lines[0].get_ydata() == pytest.approx([0.5, 0.1])


def test_the_ablation_is_whole():
    found = lesson.ablation()
    assert "recipes/patch_svdd_ablation.py" in found["recipe"] and found["size"] == 128
    for category in ("capsule", "fabric"):
        own = [r for r in found["rows"] if r["category"] == category]
        assert [r["objective"] for r in own] == [*ABLATION[:3], *ABLATION[3:] * 4]
        assert [r["lambda"] for r in own] == [None] * 3 + [0.01, 0.1, 0.3, 1.0]
        for r in own:
            assert set(r["image"]) == set(r["pixel"]) == {"fine", "coarse", "sum", "product"}
            assert all(0 <= v <= 1 for v in (*r["image"].values(), *r["pixel"].values()))


def test_what_the_lesson_says_of_the_ablation():
    rows = {(r["category"], r["objective"], r["lambda"]): r for r in lesson.ablation()["rows"]}
    untrained = {c: rows[c, "untrained", None] for c in ("capsule", "fabric")}
    assert [round(r["pixel"]["product"], 2) for r in untrained.values()] == [0.95, 0.94]
    for (category, objective, lambda_), r in rows.items():
        if objective == "untrained":
            continue
        gain, left = r["pixel"]["product"] - untrained[category]["pixel"]["product"], r["spread"][1] / r["spread"][0]
        ranked = r["image"]["product"] - untrained[category]["image"]["product"]
        if category == "fabric":
            if lambda_ in (0.01, 0.1, 0.3):
                assert min(r["position"]) > 1.8 and gain < -0.05
            else:
                assert ranked > 0.05 and abs(gain) < 0.02
        elif lambda_ in (0.01, 0.1, 0.3):
            assert left > 1 and 0 < gain < 0.011 and ranked < 0.01 and r["position"][0] < 0.5
        else:
            assert left < 1 / 60 and gain < -0.015 and ranked < 0
            assert r["position"] is None or abs(r["position"][0] - np.log(8)) < 0.02
    pull, edge = rows["capsule", "neighbours", None], rows["capsule", "neighbours and position", 1.0]
    assert abs(pull["pixel"]["product"] - edge["pixel"]["product"]) < 0.005


def neighbours(below=True, above=lambda size, patch: torch.tensor(size) - patch, turn=lambda d: d, sign=1):
    def my_neighbours(main, directions, away, size, patch):
        corners = main + sign * turn(directions) * away
        corners = corners.clamp(min=0) if below else corners
        return corners if above is None else torch.minimum(corners, above(size, patch))

    return my_neighbours


def head(*options):
    return lambda small, weight, gap: F.conv2d(small, weight, **dict.fromkeys(options, gap))


def neighbours_in_a_loop(main, directions, away, size, patch):
    found = []
    for corner, direction, far in zip(main.tolist(), directions.tolist(), away.tolist(), strict=True):
        moved = [c + d * f for c, d, f in zip(corner, direction, far, strict=True)]
        found.append([min(max(c, 0), side - patch) for c, side in zip(moved, size, strict=True)])
    return torch.tensor(found)


def nearest_in_a_while_loop(queries, bank):
    found, i = torch.zeros(len(queries)), 0
    while i < len(queries):
        found[i] = (bank - queries[i]).norm(dim=1).min()
        i += 1
    return found


def nearest_over_the_bank(queries, bank):
    least = torch.full((len(queries),), torch.inf)
    for row in bank:
        least = torch.minimum(least, (queries - row).norm(dim=1))
    return least


def nearest_by_numpy_in_a_loop(queries, bank):
    queries, bank = queries.numpy(), bank.numpy()
    return np.array([np.sqrt(((bank - query) ** 2).sum(1).min()) for query in queries])


def nearest_by_numpy(queries, bank):
    queries, bank = queries.numpy(), bank.numpy()
    found = ((bank**2).sum(1) / 2 - queries @ bank.T).argmin(1)
    return np.linalg.norm(queries - bank[found], axis=1)


def nearest_by_squares(queries, bank):
    squares = queries.square().sum(1, keepdim=True) + bank.square().sum(1) - 2 * queries @ bank.T
    return squares.amin(1).clamp(min=0).sqrt()


def nearest_in_double(queries, bank):
    return nearest_by_squares(queries.double(), bank.double())


def nearest_around_the_mean(queries, bank):
    return nearest_by_squares(queries - bank.mean(0), bank - bank.mean(0))


def nearest_in_chunks(queries, bank):
    """A matrix product for every 1,000 queries, as one does it for a large picture."""
    half = bank.square().sum(1) / 2
    return torch.cat([(part - bank[(half - part @ bank.T).argmin(1)]).norm(dim=1) for part in queries.split(1000)])


def nearest_by(choose):
    return lambda queries, bank: choose(torch.cdist(queries, bank), queries, bank)


def folded(end=lambda total, covering, patch, count: total / covering, put=lambda here, s: here + s):
    def my_pixels(scores, patch, stride):
        rows, columns = scores.shape
        total = torch.zeros((rows - 1) * stride + patch, (columns - 1) * stride + patch)
        covering = torch.zeros_like(total)
        for i in range(rows):
            for j in range(columns):
                here = slice(i * stride, i * stride + patch), slice(j * stride, j * stride + patch)
                total[here] = put(total[here], scores[i, j])
                covering[here] += 1
        return end(total, covering, patch, scores.numel())

    return my_pixels


def by_fold(scores, patch, stride):
    size = [(k - 1) * stride + patch for k in scores.shape]
    columns = scores.reshape(1, 1, -1).expand(1, patch * patch, -1)
    total, covering = (F.fold(c, size, patch, stride=stride)[0, 0] for c in (columns, torch.ones_like(columns)))
    return total / covering


def four_products(small, weight, gap):
    h, w = small.shape[2] - gap, small.shape[3] - gap
    parts = ((i, j, small[:, :, i * gap : i * gap + h, j * gap : j * gap + w]) for i in (0, 1) for j in (0, 1))
    return sum(torch.einsum("nchw, oc -> nohw", part, weight[:, :, i, j]) for i, j, part in parts)


@pytest.mark.parametrize(
    ("number", "answer", "part"),
    [
        ("09.1", neighbours(), None),
        ("09.1", neighbours(below=False, above=None), "some neighbours leave"),
        ("09.1", neighbours(above=lambda size, patch: torch.tensor(size)), "size - patch at most"),
        ("09.1", neighbours(above=lambda size, patch: torch.tensor(size) - patch - 1), "stops one pixel before"),
        ("09.1", neighbours(above=lambda size, patch: torch.tensor(size[::-1]) - patch), "sides are swapped"),
        ("09.1", neighbours(turn=lambda d: d.flip(1)), "directions and away are all"),
        ("09.1", neighbours(sign=-1), "other side"),
        ("09.1", lambda m, d, a, s, p: neighbours()(m, d, 1, s, p), "one pixel away"),
        ("09.1", lambda m, d, a, s, p: neighbours()(m, 1, a, s, p), "direction is left out"),
        ("09.1", neighbours(below=False), "no more than the upper end"),
        ("09.1", neighbours(above=None), "size - patch at most"),
        ("09.1", lambda m, d, a, s, p: neighbours()(m, d, a, s, p) + 1, "patches of 16"),
        ("09.1", lambda m, d, a, s, p: neighbours()(m, d, a, s, p)[0], "expected shape"),
        ("09.1", lambda *arguments: ..., "not written yet"),
        ("09.2", head("dilation"), None),
        ("09.2", four_products, None),
        ("09.2", head(), "not side by side"),
        ("09.2", lambda s, w, gap: F.conv2d(s, w)[:, :, : s.shape[2] - gap, : s.shape[3] - gap], "is not the head"),
        ("09.2", head("stride"), "stride leaves out"),
        ("09.2", head("dilation", "padding"), "padding invents"),
        ("09.2", lambda s, w, gap: F.conv2d(s, w.flip(2, 3), dilation=gap), "flipped"),
        ("09.2", lambda s, w, gap: F.conv2d(s, w.mT, dilation=gap), "rows and columns of the weights"),
        ("09.2", lambda s, w, gap: F.conv2d(s, w, dilation=gap).squeeze(0), "batch of one"),
        ("09.2", lambda s, w, gap: F.conv2d(s, w, dilation=gap) + 1, "quarters 3 cells apart"),
        ("09.1", neighbours_in_a_loop, None),
        ("09.1", lambda m, d, a, s, p: neighbours()(m, d, a, s, p).double().numpy(), None),
        ("09.1", lambda m, d, a, s, p: neighbours()(m.add_(d * a), 0, a, s, p), "it changed `m`"),
        ("09.1", lambda m, d, a, s, p: neighbours()(m, d, a, (40, 56), 16), "patches of 32"),
        ("09.2", lambda s, w, gap: F.conv2d(s, w, dilation=3) if gap == 3 else F.conv2d(s, w), None),
        ("09.2", lambda s, w, gap: four_products(s, w, gap).double(), None),
        ("09.2", lambda s, w, gap: F.conv2d(s, w.mul_(2), dilation=gap) / 2, "it changed `w`"),
        ("09.3", nearest_by(lambda every, q, b: every.amin(1)), "cdist made them"),
        (
            "09.3",
            lambda q, b: torch.cdist(q, b, compute_mode="donot_use_mm_for_euclid_dist").amin(1),
            "cdist made them",
        ),
        ("09.3", lambda q, b: scipy_cdist(q, b).min(1), "cdist made them"),
        ("09.3", lambda q, b: torch.stack([(b - each).norm(dim=1).min() for each in q]), "made in a loop"),
        (
            "09.3",
            lambda q, b: torch.tensor([((b - q[i]) ** 2).sum(1).min() for i in range(len(q))]).sqrt(),
            "made in a loop",
        ),
        ("09.3", nearest_in_a_while_loop, "made in a loop"),
        ("09.3", nearest_over_the_bank, "made in a loop"),
        ("09.3", nearest_by_numpy_in_a_loop, "made in a loop"),
        ("09.3", lambda q, b: list(map(lambda each: (b - each).norm(dim=1).min(), q)), "made in a loop"),
        ("09.3", lambda q, b: torch.stack([(b @ each - b.square().sum(1) / 2).max() for each in q]), "is no distance"),
        ("09.3", lambda q, b: (q[:, None] - b).norm(dim=2).amin(1), "all differences at once"),
        ("09.3", lambda q, b: F.pairwise_distance(q[:, None], b).amin(1), "pairwise_distance made them"),
        (
            "09.3",
            lambda q, b: (q - b[(torch.einsum("nd,md->nm", q, b) - b.square().sum(1) / 2).argmax(1)]).norm(dim=1),
            None,
        ),
        ("09.3", lambda q, b: (q - b[(torch.mm(q, b.T) - b.square().sum(1) / 2).argmax(1)]).norm(dim=1), None),
        ("09.3", lambda q, b: (q - b[(F.linear(q, b) - b.square().sum(1) / 2).argmax(1)]).norm(dim=1).double(), None),
        ("09.3", nearest_by_numpy, None),
        ("09.3", lambda q, b: np.linalg.norm(q.numpy()[:, None] - b.numpy(), axis=2).min(1), "all differences at once"),
        ("09.3", nearest_by_squares, "far from 0"),
        ("09.3", nearest_in_double, None),
        ("09.3", nearest_around_the_mean, None),
        ("09.3", nearest_in_chunks, None),
        ("09.3", lambda q, b: (q - b[0]).norm(dim=1), "is no distance to the nearest"),
        ("09.3", lambda q, b: (q - b[(b.square().sum(1) / 2 - q @ b.T).argmin(1)]).norm(dim=1), None),
        ("09.3", nearest_by(lambda every, q, b: every.amin(1) ** 2), "take the root"),
        ("09.3", nearest_by(lambda every, q, b: every.amax(1)), "largest distance"),
        ("09.3", nearest_by(lambda every, q, b: every.mean(1)), "mean distance"),
        ("09.3", nearest_by(lambda every, q, b: (q - b.mean(0)).norm(dim=1)), "one centre"),
        ("09.3", nearest_by(lambda every, q, b: every.argmin(1)), "are the numbers"),
        ("09.3", nearest_by(lambda every, q, b: every.amin(0)), "take it for each query"),
        ("09.3", nearest_by(lambda every, q, b: (q - b[(q @ b.T).argmax(1)]).norm(dim=1)), "largest inner product"),
        ("09.3", nearest_by(lambda every, q, b: (1 - F.cosine_similarity(q[:, None], b, dim=2)).amin(1)), "cosine"),
        ("09.3", lambda q, b: torch.cdist(q, b, p=1).amin(1), "absolute differences"),
        (
            "09.3",
            lambda q, b: (q - b[(b.square().sum(1) / 2 + q @ b.T).argmin(1)]).norm(dim=1),
            "the inner product's sign",
        ),
        (
            "09.3",
            nearest_by(lambda every, q, b: (every**2 - q.square().sum(1, keepdim=True)).amin(1).clamp(min=0).sqrt()),
            "|q|^2 is missing",
        ),
        ("09.3", nearest_by(lambda every, q, b: every.amin(1) + 1), "with 6 queries"),
        ("09.4", by_fold, None),
        ("09.4", lambda s, p, d: folded()(s.double(), p, d).numpy(), None),
        ("09.4", lambda s, p, d: folded()(s, 4, 2), "expected shape"),
        ("09.4", lambda s, p, d: folded()(s.mul_(2), p, d) / 2, "it changed `s`"),
        ("09.4", folded(), None),
        ("09.4", folded(lambda total, covering, patch, count: total), "are summed"),
        ("09.4", folded(lambda total, covering, patch, count: total, torch.maximum), "highest"),
        ("09.4", folded(lambda total, covering, patch, count: total, lambda here, s: s), "overwrites"),
        ("09.4", folded(lambda total, covering, patch, count: total / covering.max()), "largest number of patches"),
        ("09.4", folded(lambda total, covering, patch, count: total / patch**2), "patch's area"),
        ("09.4", folded(lambda total, covering, patch, count: total / count), "number of all patches"),
        (
            "09.4",
            lambda s, p, d: F.interpolate(s[None, None], [(k - 1) * d + p for k in s.shape], mode="bilinear")[0, 0],
            "enlarging is something else",
        ),
        ("09.4", lambda s, p, d: F.interpolate(s[None, None], [(k - 1) * d + p for k in s.shape])[0, 0], "one patch"),
        ("09.4", lambda s, p, d: s, "and so for the columns"),
        ("09.4", folded(lambda total, covering, patch, count: total / covering + 1), "patches of 4, 2 pixels"),
    ],
)
def test_checks(number, answer, part):
    found = verdict(number, answer)
    assert found.passed == (part is None), found.message
    assert part is None or part in found.message, found.message
