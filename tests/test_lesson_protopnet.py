"""Lesson 07: its drawings, its explorer when it is moved, and its checks."""

import numpy as np
import pytest
import torch
from protopnet_networks import data, network

from xailab.lessons import protopnet as lesson
from xailab.lessons import verdict
from xailab.protopnet import KINDS, Epoch, candidate_boxes, global_analysis, local_analysis, masked
from xailab.receptive_field import ReceptiveField

IMAGES, LABELS = data(6, seed=9)


@pytest.fixture(scope="module")
def model():
    return network(projected=True).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def analysis(model):
    return local_analysis(model, IMAGES, top=len(model.prototypes), target=1)


def words_of(axes):
    return " ".join(text.get_text() for text in axes.texts)


def framed(axes):
    """Ends of the rectangles on a panel, (left, top, right, bottom)."""
    corners = [(p.get_x() + 0.5, p.get_y() + 0.5, p.get_width(), p.get_height()) for p in axes.patches]
    return [(x, y, x + w, y + h) for x, y, w, h in corners]


def test_this_and_that_are_crops_of_what_the_cells_see(analysis):
    whole, this, _, that, source = lesson.draw_looks_like(analysis, [2], [3]).axes
    rank = analysis.prototypes[2].tolist().index(3)
    left, top, right, bottom = analysis.receptive_boxes[2, rank].tolist()
    shown = np.asarray(whole.images[0].get_array())
    assert np.array_equal(this.images[0].get_array(), shown[top:bottom, left:right])
    assert framed(whole) == [(left, top, right, bottom)]
    left, top, right, bottom = analysis.origin.receptive_boxes[3].tolist()
    assert np.array_equal(that.images[0].get_array(), np.asarray(source.images[0].get_array())[top:bottom, left:right])


def test_words_follow_the_similarity(analysis, monkeypatch):
    drawn = []
    for least in (-1.0, 100.0):
        monkeypatch.setattr(lesson.drawings, "LITTLE", least)
        drawn.append(words_of(lesson.draw_looks_like(analysis, [0], [1]).axes[2]))
    assert drawn == ["looks\nlike", "looks\na little\nlike"]


def test_a_prototype_that_is_not_listed_is_refused(model):
    short = local_analysis(model, IMAGES, top=1)
    absent = next(j for j in range(len(model.prototypes)) if j != int(short.prototypes[0, 0]))
    with pytest.raises(ValueError, match=f"make the analysis with top={len(model.prototypes)}"):
        lesson.draw_looks_like(short, [0], [absent])


def test_a_sentence_adds_up(analysis):
    figure = lesson.draw_sentence(analysis, 1, count=2)
    rows = np.array(figure.axes).reshape(3, 6)
    given = analysis.contributions[1]
    order = given.abs().argsort(descending=True)[:2]
    bars = [float(axes.patches[0].get_width()) for axes in rows[:, 5]]
    assert bars[:2] == pytest.approx(given[order].tolist()) and bars[2] == pytest.approx(
        float(analysis.output.logits[1, 1]), abs=1e-4
    )
    rest = float(given.sum() - given[order].sum())
    assert f"the other {len(given) - 2} prototypes together give {rest:+.2f}" in words_of(rows[2, 0])
    assert f"= {float(given[order[0]]):+.2f}" in words_of(rows[0, 5])
    assert f"{float(analysis.output.logits[1, 0]):+.2f}" in figure.get_suptitle()


def test_origins_stand_in_the_rows_of_their_classes(analysis, model):
    figure = lesson.draw_origins(analysis.origin, model.classes, model.last_layer.weight)
    titles = [axes.get_title() for axes in figure.axes]
    assert [int(title.split(":")[0]) for title in titles if title] == list(range(len(model.prototypes)))
    weight = float(model.last_layer.weight[1, -1])
    assert titles[-1].endswith(f"weight {weight:+.2f}")
    assert framed(figure.axes[0]) == [tuple(analysis.origin.receptive_boxes[0].tolist())]


def test_stages_are_drawn_in_order():
    history = [Epoch(name, *[0.0] * 6, 0.8 + i / 10, 0.85) for i, name in enumerate(("warm-up", "joint"))]
    left, right = lesson.draw_stages(history, [[0.9, 0.8, 0.95], [0.95, 0.94, 0.95]]).axes
    assert left.lines[0].get_ydata() == pytest.approx([0.8, 0.9])
    assert [label.get_text() for label in left.get_xticklabels()] == ["warm-up", "joint"]
    assert [list(line.get_ydata()) for line in right.lines] == [[0.9, 0.8, 0.95], [0.95, 0.94, 0.95]]


def test_shares_that_cells_see_are_counted_in_pixels():
    field = ReceptiveField(27, 8, -13)
    found = lesson.seen_shares(field, 12, 96)
    for cell in ((0, 0), (5, 3), (11, 11)):
        first = [c * 8 - 13 for c in cell]
        pixels = [sum(0 <= x < 96 for x in range(b, b + 27)) for b in first]
        assert found[cell] == pytest.approx(pixels[0] * pixels[1] / 96**2)


def test_geometry_frames_the_cell_and_where_upsampling_puts_it():
    field = ReceptiveField(27, 8, -13)
    left = lesson.draw_geometry({"small": (torch.rand(1, 96, 96), field, 12, (6, 4))}).axes[0]
    sees, upsampled = framed(left)
    assert sees == (19, 35, 46, 62) and upsampled == (32, 48, 40, 56)
    dot = np.ravel(left.lines[0].get_data())
    assert dot + 0.5 == pytest.approx([(sees[0] + sees[2]) / 2, (sees[1] + sees[3]) / 2])
    assert (upsampled[0] + upsampled[2]) / 2 - dot[0] - 0.5 == field.shift == 3.5


def test_nearest_patches_are_framed_in_their_images(model):
    found = global_analysis(model, IMAGES, LABELS, k=2)
    panels = lesson.draw_nearest(found, IMAGES, [4, 0], model.classes).axes
    assert len(panels) == 4 and framed(panels[1]) == [tuple(found.receptive_boxes[4, 1].tolist())]
    own = lesson.picture(IMAGES[found.ids[0, 0]])
    assert np.array_equal(panels[2].images[0].get_array(), own)
    assert panels[2].get_title().startswith(model.classes[int(found.labels[0, 0])])


def test_kinds_of_box_are_drawn_kept_and_deleted(model):
    rows = np.array(lesson.draw_kinds(model, IMAGES[1], 3).axes).reshape(3, len(KINDS))
    assert [axes.get_title() for axes in rows[0]] == list(KINDS)
    box = candidate_boxes(model, IMAGES[1:2], torch.tensor([3]), "receptive field")
    assert framed(rows[0, 2]) == [tuple(box[0].tolist())]
    assert np.array_equal(rows[1, 2].images[0].get_array(), lesson.picture(masked(IMAGES[1:2], box)[0]))
    before, after = rows[1, 2].get_title().split(" → ")
    assert before == after


def test_what_boxes_keep_is_drawn_in_percent():
    areas, kept = np.array([0.05, 0.07, 0.3]), np.array([0.2, 0.7, 1.2])
    axes = lesson.draw_kept({"activation": (areas, kept)}, 0.3).axes[0]
    _, points, middle = axes.lines
    assert np.array(points.get_data()) == pytest.approx(np.array([100 * areas, 100 * kept]))
    assert np.ravel(middle.get_data()) == pytest.approx([7, 70]) and axes.lines[0].get_ydata()[0] == 30


def test_the_schematic_adds_up(model):
    page = lesson.draw_architecture(model, IMAGES[1], [4, 1]).axes[0]
    output, weight = model.forward_details(IMAGES[1:2]), model.last_layer.weight[-1]
    words = words_of(page)
    for j in (4, 1):
        given = float(output.similarities[0, j] * weight[j])
        assert f"= {given:+.1f}" in words
    assert f"{float(output.logits[0, -1]):+.1f}" in words
    shown = [np.asarray(axes.images[0].get_array()) for axes in page.child_axes]
    assert any(np.array_equal(picture, output.maps[0, 4].numpy()) for picture in shown)


def test_look_alikes_are_counted_against_the_first_set(model):
    output = model.forward_details(IMAGES)
    table = lesson.look_alikes(model, {"first": IMAGES, "second": IMAGES[:1]}).splitlines()
    assert len(table) == 3 and [line.split()[0] for line in table[1:]] == ["first", "second"]
    called = float((output.logits.argmax(1) == 1).float().mean())
    assert float(table[1].split()[1]) == pytest.approx(called, abs=0.005)
    best = output.similarities[:, model.prototype_classes == 1].amax(1)
    assert float(table[1].split()[-1]) == pytest.approx(float((best > best.median()).float().mean()), abs=0.005)
    assert float(table[2].split()[-1]) == float(best[0] > best.median())


def test_pictures_bear_what_the_network_says_of_them():
    figure = lesson.draw_else({"a": IMAGES[0], "b": IMAGES[1]}, [1.25, 3.0], [-2.0, 4.0])
    assert [words_of(axes) for axes in figure.axes] == ["similarity 1.2\nlogit -2.0", "similarity 3.0\nlogit +4.0"]


def test_the_highest_cells_lie_apart():
    cosine = torch.zeros(2, 4, 4)
    cosine[0, 1, 1], cosine[0, 1, 2], cosine[1, 3, 0] = 1.0, 0.9, 0.5
    first, second = np.zeros((8, 8, 3), np.uint8), np.ones((8, 8, 3), np.uint8)
    found = lesson.highest(cosine, [first, second], apart=3, count=2)
    assert [(place, value) for _, place, value in found] == [((3.0, 3.0), 1.0), ((1.0, 7.0), 0.5)]
    assert found[1][0] is second
    drawn = lesson.draw_neighbours([found], side=2, around=2)
    assert [axes.get_title() for axes in drawn.axes] == ["", "this", "", "that, 0.50"]
    assert framed(drawn.axes[2]) == [(0.0, 6.0, 2.0, 8.0)]


def test_explorer_follows_every_control(model, analysis):
    box = lesson.box_explorer(model, analysis)
    seen = {box.picture.value}
    for name, value in (("image", 3), ("rank", 4), ("kind", "receptive field"), ("kind", "random")):
        box.controls[name].value = value
        assert box.message.value == ""
        seen.add(box.picture.value)
    assert len(seen) == 5
    j = int(analysis.prototypes[2, 3])
    assert lesson.draw_box(model, analysis, 2, 3).axes[0].get_title().startswith(f"prototype {j} ")


def squared(latent, prototypes):
    return (latent[:, None] - prototypes[None, :, :, None, None]).square().sum(2)


def scored(over=lambda g: g.flatten(2).amax(2), similar=lambda d: ((d + 1) / (d + 1e-4)).log(), distance=squared):
    return lambda latent, prototypes, weight: over(similar(distance(latent, prototypes))) @ weight.T


def projecting(
    hide=lambda d, own: d.masked_fill(~own, torch.inf),
    choose=torch.argmin,
    flat=lambda z: z.permute(0, 2, 3, 1).flatten(0, 2),
    lay=torch.repeat_interleave,
):
    def my_projection(latent, labels, prototypes, owners):
        cells = flat(latent)
        own = lay(labels, latent.shape[2] * latent.shape[3]) == owners[:, None]
        return cells[choose(hide(torch.cdist(prototypes, cells), own), 1)]

    return my_projection


def by_expansion(latent, prototypes):
    """|a|^2 - 2 a.b + |b|^2, as the paper's code has it."""
    cells = latent.permute(0, 2, 3, 1).flatten(0, 2)
    d = cells.square().sum(1, keepdim=True) - 2 * cells @ prototypes.T + prototypes.square().sum(1)
    return d.view(len(latent), *latent.shape[2:], -1).permute(0, 3, 1, 2)


def by_convolution(latent, prototypes):
    weight = prototypes[:, :, None, None]
    squares = torch.nn.functional.conv2d(latent.square(), torch.ones_like(weight))
    return squares - 2 * torch.nn.functional.conv2d(latent, weight) + weight.square().sum((1, 2, 3)).view(1, -1, 1, 1)


def projecting_in_loops(latent, labels, prototypes, owners):
    found = []
    for prototype, owner in zip(prototypes, owners, strict=True):
        cells = [image[:, y, x] for image, label in zip(latent, labels, strict=True) if label == owner
                 for y in range(latent.shape[2]) for x in range(latent.shape[3])]  # fmt: skip
        found.append(min(cells, key=lambda cell: float((cell - prototype).norm())))
    return torch.stack(found)


def clustered_in_loops(distances, labels, owners):
    least = []
    for image, label in zip(distances, labels, strict=True):
        least.append(min(float(each.min()) for each, owner in zip(image, owners, strict=True) if owner == label))
    return sum(least) / len(least)


def class_means(latent, labels, prototypes, owners):
    return torch.stack([latent[labels == o].mean((0, 2, 3)) for o in owners])


def image_means(latent, labels, prototypes, owners):
    means = latent.mean((2, 3))
    return means[torch.cdist(prototypes, means).masked_fill(labels != owners[:, None], torch.inf).argmin(1)]


def clustered(
    hide=lambda d, own: d.masked_fill(~own, torch.inf),
    end=lambda d: d.amin(1).mean(),
    cells=lambda d: d.flatten(2).amin(2),
):
    return lambda distances, labels, owners: end(hide(cells(distances), owners == labels[:, None]))


def reasons(of=lambda w, g, a, b: (w[a] - w[b]) * g, count=3, every=False, turn=False):
    def my_reasons(similarities, weight):
        first, second = (weight @ similarities).argsort(descending=True)[:2]
        given = of(weight, similarities, first, second)
        order = given.argsort(descending=True).tolist()
        up = [j for j in order if every or given[j] > 0][:count]
        down = [j for j in order[::-1] if every or given[j] < 0][:count]
        return (down, up) if turn else (up, down)

    return my_reasons


def suspects(
    empty=lambda g: g.amax(0), usual=lambda g: g.median(0).values, own=True, more=lambda a, b: a >= b, levels=21
):
    def my_suspects(model, slices):
        flat = torch.linspace(0, 1, levels).view(-1, 1, 1, 1).expand(-1, 1, 96, 96).contiguous()
        with torch.no_grad():
            found = more(
                empty(model.forward_details(flat).similarities), usual(model.forward_details(slices).similarities)
            )
        return (found & (model.prototype_classes == 1) if own else found).nonzero().flatten()

    return my_suspects


@pytest.mark.parametrize(
    ("number", "answer", "part"),
    [
        ("07.1", scored(), None),
        ("07.1", lambda z, p, w: scored()(z, p, torch.eye(len(p))), "last layer, `weight`, is missing"),
        ("07.1", scored(distance=lambda z, p: squared(z, p).sqrt()), "not squared"),
        ("07.1", scored(lambda g: g.mean((2, 3))), "mean over the cells"),
        ("07.1", scored(lambda g: g.sum((2, 3))), "summed over the cells"),
        ("07.1", scored(lambda g: g.flatten(2).amin(2)), "*least* like"),
        ("07.1", scored(lambda g: g.flatten(2).amin(2), lambda d: d), "into similarities first"),
        ("07.1", scored(similar=lambda d: (d + 1) / (d + 1e-4)), "logarithm is missing"),
        ("07.1", scored(lambda g: g.flatten(2).amin(2), lambda d: ((d + 1e-4) / (d + 1)).log()), "on its head"),
        ("07.1", scored(distance=lambda z, p: squared(z, p) / p.shape[1]), "they are summed"),
        ("07.1", scored(similar=lambda d: (1 / (d + 1e-4)).log()), "the 1 above the fraction"),
        ("07.1", lambda z, p, w: scored()(z, p, w)[0], "expected shape"),
        ("07.1", lambda z, p, w: scored()(z, p, w) + 1, "with 6 prototypes"),
        ("07.1", lambda *arguments: ..., "not written yet"),
        ("07.1", lambda z, p, w: scored(distance=by_expansion)(z, p, w), None),
        ("07.1", lambda z, p, w: scored(distance=by_convolution)(z, p, w), None),
        ("07.1", lambda z, p, w: scored()(z.double(), p.double(), w.double()), None),
        ("07.1", lambda z, p, w: scored()(z, p, w).numpy(), None),
        ("07.1", lambda z, p, w: scored(lambda g: g[..., 0, 0])(z, p, w), "with 6 prototypes"),
        ("07.1", lambda z, p, w: scored()(z.sub_(1), p.sub_(1), w), "it changed `z`"),
        ("07.1", lambda z, p, w: scored()(z[:1], p, w).expand(len(z), len(w)), "with 6 prototypes"),
        ("07.2", projecting_in_loops, None),
        ("07.2", lambda z, y, p, o: projecting()(z, y, p, torch.arange(len(p)) % 2), "this is not the nearest patch"),
        ("07.2", lambda z, y, p, o: p.copy_(projecting()(z, y, p, o)), "it changed `p`"),
        ("07.2", projecting(), None),
        ("07.2", lambda z, y, p, o: p, "nothing moved"),
        ("07.2", projecting(lambda d, own: d), "another class"),
        ("07.2", projecting(lambda d, own: d.masked_fill(own, torch.inf)), "*other* class"),
        ("07.2", projecting(lambda d, own: d * own), "hide them with infinity"),
        ("07.2", projecting(lambda d, own: d.masked_fill(~own, -torch.inf), torch.argmax), "farthest"),
        ("07.2", projecting(flat=lambda z: z.reshape(-1, z.shape[1])), "permute"),
        ("07.2", projecting(lay=lambda y, cells: y.repeat(cells)), "repeat_interleave"),
        ("07.2", class_means, "must become one that exists"),
        ("07.2", image_means, "means over images"),
        ("07.2", lambda z, y, p, o: projecting()(z, y, p, o) + 1, "with 6 images"),
        ("07.2", lambda z, y, p, o: projecting()(z, y, p, o)[0], "one patch for each"),
        ("07.3", clustered_in_loops, None),
        ("07.3", lambda d, y, o: np.mean([d[i, o == k].min() for i, k in enumerate(y)]), None),
        ("07.3", lambda d, y, o: float(clustered()(d.float(), y, o)), None),
        (
            "07.3",
            lambda d, y, o: clustered()(d, y, torch.arange(len(o)) // (len(o) // 2)),
            "this is not the cluster cost",
        ),
        ("07.3", lambda d, y, o: clustered()(d.mul_(1 + (o != y[:, None])[..., None, None]), y, o), "it changed `d`"),
        ("07.3", clustered(), None),
        ("07.3", clustered(lambda d, own: d * own), "0 for every network"),
        ("07.3", clustered(lambda d, own: d), "prototypes of all classes"),
        ("07.3", clustered(lambda d, own: d.masked_fill(own, torch.inf)), "separation"),
        ("07.3", clustered(end=lambda d: d.amin(1)), "take their mean"),
        ("07.3", clustered(end=lambda d: d.amin(1).sum()), "are summed"),
        ("07.3", clustered(end=lambda d: d.amin()), "whole batch"),
        (
            "07.3",
            lambda d, y, o: torch.stack([d[i, o == k].flatten(1).amin(1).mean() for i, k in enumerate(y)]).mean(),
            "one near prototype is enough",
        ),
        ("07.3", clustered(cells=lambda d: d.mean((2, 3))), "one near cell is enough"),
        ("07.3", lambda d, y, o: d.mean((2, 3))[o == y[:, None]].mean(), "all own-class distances"),
        ("07.3", lambda *a: clustered()(*a) + 1, "with 6 images"),
        ("07.4", reasons(), None),
        ("07.4", lambda g, w: [torch.tensor(part) for part in reasons()(g, w)], None),
        ("07.4", reasons(lambda w, g, a, b: w[a] * g), "for the class alone"),
        ("07.4", reasons(lambda w, g, a, b: w[a] - w[b]), "differences of weights"),
        ("07.4", reasons(turn=True), "wrong way round"),
        ("07.4", reasons(every=True), "is no reason"),
        ("07.4", reasons(count=9), "at most three"),
        ("07.4", lambda g, w: (reasons()(g, w)[0], reasons()(g, w)[1][::-1]), "strongest come first"),
        ("07.4", lambda g, w: ([0], []), "expected ("),
        ("07.4", lambda g, w: 3, "expected two lists"),
        ("07.4", lambda g, w: ..., "not written yet"),
        ("07.5", suspects(), None),
        ("07.5", lambda m, x: suspects()(m, x).tolist(), None),
        ("07.5", suspects(own=False), "only those of “lesion”"),
        ("07.5", suspects(lambda g: g.mean(0)), "one grey level is enough"),
        ("07.5", suspects(more=lambda a, b: a < b), "do *not* reach"),
        ("07.5", suspects(usual=lambda g: g.amin(0)), "not with the weakest"),
        ("07.5", lambda m, x: [], "expected ["),
        ("07.5", lambda m, x: ..., "not written yet"),
    ],
)
def test_checks(number, answer, part):
    found = verdict(number, answer)
    assert found.passed == (part is None), found.message
    assert part is None or part in found.message, found.message
