"""Lesson 07: its drawings of prototypes, origins, boxes and doubts, its explorer, and its exercises' checks."""

from collections.abc import Mapping, Sequence

import ipywidgets as widgets
import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from xailab import figures
from xailab.images import overlay
from xailab.lessons import exercise
from xailab.lessons.explorer import explorer
from xailab.lessons.judging import judge
from xailab.protopnet import (
    KINDS,
    Epoch,
    Field,
    GlobalAnalysis,
    LocalAnalysis,
    Origin,
    ProtoPNet,
    boxes,
    masked,
    occlude,
    upsampled,
)
from xailab.protopnet.pictures import cropped, picture

CLASS_COLOURS = (figures.SKY, figures.ORANGE)  # no lesion, lesion
KIND_COLOURS = dict(zip(KINDS, (figures.ORANGE, figures.YELLOW, figures.SKY, figures.PINK, "#C8C8C8"), strict=True))
LITTLE = 1.5  # similarity up to which a patch looks like another a little only
Picture = UInt8[np.ndarray, "h w 3"]


def _tight(figure: Figure) -> None:
    """Leave less room between pictures."""
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03, wspace=0.01, hspace=0.01)


def _frame(axes: Axes, box: Int[Tensor, "4"] | tuple, colour: str, **options) -> None:
    """A box drawn along its ends, also where they are those of the picture."""
    left, top, right, bottom = (float(end) for end in box)
    edges = {"fill": False, "edgecolor": colour, "linewidth": 2.4, "clip_on": False} | options
    shadow = [patheffects.withStroke(linewidth=edges["linewidth"] + 1.6, foreground="black")]
    rectangle = Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, **edges)
    rectangle.set_path_effects(shadow)
    axes.add_patch(rectangle)


def _rank(analysis: LocalAnalysis, image: int, prototype: int) -> int:
    """At which place of an image's list a prototype stands."""
    listed = analysis.prototypes[image].tolist()
    if prototype not in listed:
        raise ValueError(
            f"prototype {prototype} is not among the {len(listed)} listed: make the analysis with "
            f"top={analysis.weights.shape[1]}"
        )
    return listed.index(prototype)


def draw_looks_like(analysis: LocalAnalysis, images: Sequence[int], prototypes: Sequence[int]) -> Figure:
    """Draw "this looks like that": part of a slice, and the training patch that a prototype is.

    Args:
        analysis: Of at least these images, with all prototypes listed.
        images, prototypes: Which prototype in which image, one row each.
    """
    shape = {"width": 9.2, "height": 2.3 * len(images) + 0.35, "width_ratios": [1.2, 1, 0.4, 1, 1.2]}
    figure, axes = figures.new(len(images), 5, squeeze=False, **shape)
    _tight(figure)
    for row, i, j in zip(axes, images, prototypes, strict=True):
        _pair(row, analysis, i, j)
    for axis, name in zip(axes[0], ("a new slice", "this", "", "that", "a slice of the training"), strict=True):
        axis.set_title(name)
    return figure


def _pair(row: Sequence[Axes] | np.ndarray, analysis: LocalAnalysis, i: int, j: int) -> None:
    """Five panels: image i, what prototype j's best cell sees of it, "looks like", the prototype, and its own slice."""
    origin, rank = analysis.origin, _rank(analysis, i, j)
    colour = CLASS_COLOURS[int(origin.provenance.labels[j]) % len(CLASS_COLOURS)]
    here, there = picture(analysis.images[i]), picture(origin.provenance.images[j])
    for whole, part, shown, box in (
        (row[0], row[1], here, analysis.receptive_boxes[i, rank]),
        (row[4], row[3], there, origin.receptive_boxes[j]),
    ):
        figures.picture(whole, shown)
        _frame(whole, box, colour)
        crop = cropped(shown, box)
        figures.picture(part, crop)
        _frame(part, (0, 0, crop.shape[1], crop.shape[0]), colour, linewidth=3)
    row[2].set_axis_off()
    words = "looks\nlike" if float(analysis.similarities[i, rank]) > LITTLE else "looks\na little\nlike"
    row[2].text(0.5, 0.5, words, transform=row[2].transAxes, ha="center", va="center", fontsize=12)


def draw_sentence(analysis: LocalAnalysis, image: int, count: int = 3) -> Figure:
    """Draw why an image got its class, as one picture to be read line by line.

    Args:
        analysis: With all prototypes listed.
        image: Which of its images.
        count: Prototypes shown, those with the largest contributions of either sign; the rest is summed.
    """
    given, weights = analysis.contributions[image], analysis.weights[analysis.target[image]]
    order = given.abs().argsort(descending=True)[:count].tolist()
    name, logit = analysis.classes[int(analysis.target[image])], float(given.sum())
    shape = {"width_ratios": [1.15, 1, 0.42, 1, 1.15, 2.1], "height_ratios": [1] * count + [0.25]}
    figure, axes = figures.new(count + 1, 6, width=11.4, height=1.95 * count + 1.3, **shape)
    _tight(figure)
    reach = 1.35 * max(float(given.abs().max()), abs(logit))
    for row, j in zip(axes, order, strict=False):
        _pair(row, analysis, image, j)
        similarity, weight = (float(v[j]) for v in (analysis.output.similarities[image], weights))
        words = f"prototype {j}\n{similarity:.2f} × {weight:+.2f} = {float(given[j]):+.2f}"
        _bar(row[5], float(given[j]), reach, words)
        source = f"training image {int(analysis.origin.provenance.ids[j])}"
        row[4].text(0.03, 0.03, source, transform=row[4].transAxes, color="white", fontsize=9, va="bottom")
    for axis in axes[count, :5]:
        axis.set_axis_off()
    rest, others = float(given.sum() - given[order].sum()), given.numel() - count
    words = f"the other {others} prototypes together give {rest:+.2f}; the sum, which is the logit of “{name}”, is"
    last = axes[count, 0].text(0, 0.5, words, transform=axes[count, 0].transAxes, va="center", fontsize=12)
    last.set_in_layout(False)
    _bar(axes[count, 5], logit, reach, f"{logit:+.2f}", figures.BLACK)
    heads = ("this image", "this part of it", "", "this patch", "of the training", "similarity × weight = points")
    for axis, head in zip(axes[0], heads, strict=True):
        axis.set_title(head)
    other = [k for k in range(len(analysis.classes)) if k != int(analysis.target[image])]
    rival = "; ".join(f"“{analysis.classes[k]}” has {float(analysis.output.logits[image, k]):+.2f}" for k in other)
    figure.suptitle(f"Why “{name}”? It has {logit:+.2f} points ({rival}), since", fontsize=13, x=0.01, ha="left")
    return figure


def _bar(axes: Axes, value: float, reach: float, words: str, colour: str | None = None) -> None:
    """One horizontal bar from 0, with words above it."""
    colour = colour or (figures.BLUE if value >= 0 else figures.VERMILLION)
    axes.barh([0], [value], height=0.34 if "\n" in words else 1.0, color=colour)
    axes.plot([0, 0], [-0.6, 0.25 if "\n" in words else 0.6], color=figures.BLACK, linewidth=1)
    axes.set(xlim=(-reach, reach), ylim=(-0.6, 0.9) if "\n" in words else (-0.6, 0.6), xticks=[], yticks=[])
    axes.grid(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    if "\n" in words:
        axes.text(0, 0.3, words, ha="center", va="bottom", fontsize=11)
    else:
        axes.text(
            value, 0, f" {words} ", ha="left" if value >= 0 else "right", va="center", fontsize=12, fontweight="bold"
        )


def draw_origins(origin: Origin, classes: Sequence[str], weights: Float[Tensor, "classes p"]) -> Figure:
    """Draw each prototype's training slice with what its cell sees; one row a class.

    Args:
        origin: Where the prototypes come from.
        classes: Their names.
        weights: Of the last layer; the title says what one unit of similarity gives to the prototype's own class.
    """
    owners, weights = origin.provenance.labels, weights.detach()
    most = int(owners.bincount().max())
    figure, axes = figures.new(len(classes), most, width=1.9 * most + 0.4, height=2.35 * len(classes), squeeze=False)
    _tight(figure)
    for axis in axes.flat:
        axis.set_axis_off()
    for k, (row, name) in enumerate(zip(axes, classes, strict=True)):
        for axis, j in zip(row, (owners == k).nonzero().flatten().tolist(), strict=False):
            title = f"{j}: slice {int(origin.provenance.ids[j])}\nweight {float(weights[k, j]):+.2f}"
            figures.picture(axis, picture(origin.provenance.images[j]), title)
            axis.title.set_fontsize(10)
            _frame(axis, origin.receptive_boxes[j], CLASS_COLOURS[k % len(CLASS_COLOURS)])
        row[0].text(-0.08, 0.5, name, transform=row[0].transAxes, rotation=90, ha="center", va="center", clip_on=False)
    return figure


def draw_projection(
    cells: Mapping[str, Float[Tensor, "n 2"]], before: Float[Tensor, "p 2"], after: Float[Tensor, "p 2"]
) -> Figure:
    """Draw latent cells of two numbers by class, and how each class's prototype moves to one of them."""
    figure, axes = figures.new(width=8.2, height=4.0)
    for (name, own), colour, marker in zip(cells.items(), (figures.BLUE, figures.VERMILLION), "os", strict=True):
        axes.plot(*own.T, marker, color=colour, markersize=7, label=f"training patch, {name}")
    for start, end, colour in zip(before, after, (figures.BLUE, figures.VERMILLION), strict=True):
        axes.plot(*start, "*", color=colour, markersize=17, markeredgecolor="black")
        axes.plot(*end, "o", color="none", markersize=17, markeredgecolor="black", markeredgewidth=1.6)
        options = {"arrowstyle": "-|>", "color": "black", "linewidth": 1.8, "shrinkA": 8, "shrinkB": 9}
        axes.annotate("", end.tolist(), start.tolist(), arrowprops=options)
    axes.plot([], [], "*", color="none", markeredgecolor="black", markersize=15, label="prototype before")
    axes.plot([], [], "o", color="none", markeredgecolor="black", markersize=13, label="and after")
    axes.set(xlabel="first number of a cell", ylabel="second number", aspect="equal")
    axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), fontsize=10)
    return figure


def draw_stages(history: Sequence[Epoch], projections: Sequence[Sequence[float]]) -> Figure:
    """Draw accuracy over the steps of a training, and around the projections of another.

    Args:
        history: Of a training with held-out images.
        projections: Accuracy before and after each projection, and with the last layer fitted to it.
    """
    figure, (left, right) = figures.new(1, 2, width=9.6, height=3.9, width_ratios=[1.5, 1], sharey=True)
    steps = np.arange(1, len(history) + 1)
    left.plot(steps, [e.accuracy for e in history], "o-", color=figures.BLUE, label="training slices")
    left.plot(steps, [e.held_out for e in history], "s--", color=figures.VERMILLION, label="unseen slices")
    left.set(title="a short training, here", ylabel="accuracy", ylim=(0.78, 1.01))
    left.set_xticks(steps, [e.stage for e in history], rotation=40, ha="right", fontsize=10)
    left.legend(loc="lower right", fontsize=10)
    for values, name, marker in zip(projections, ("first", "last"), "^o", strict=False):
        right.plot(range(3), values, marker + "-", label=f"{name} projection")
    right.set(title="the shipped network", xlim=(-0.3, 2.3))
    right.set_xticks(range(3), ["before", "projected", "last layer\nfitted"])
    right.legend(loc="lower right", fontsize=10)
    return figure


def seen_shares(field: Field, grid: int, size: int) -> Float[np.ndarray, "grid grid"]:
    """Which share of an image of size x size each cell of a grid sees."""
    cells = torch.cartesian_prod(torch.arange(grid), torch.arange(grid))
    left, top, right, bottom = field.boxes(cells, (size, size)).unbind(1)
    return ((right - left) * (bottom - top) / size**2).view(grid, grid).numpy()


def draw_geometry(networks: Mapping[str, tuple[Float[Tensor, "c h w"], Field, int, tuple[int, int]]]) -> Figure:
    """Draw, for each network, what one cell sees, where upsampling puts it, and the share that every cell sees.

    Args:
        networks: By name: an image, the field of its cells, the grid's side, and a cell (row, column).
    """
    figure, axes = figures.new(len(networks), 2, width=8.6, height=3.9 * len(networks), squeeze=False)
    for row, (name, (image, field, grid, cell)) in zip(axes, networks.items(), strict=True):
        size = image.shape[-1]
        at = torch.tensor(cell)
        figures.picture(row[0], picture(image), f"{name}: cell {cell}")
        _frame(row[0], field.boxes(at, (size, size)), figures.SKY, label="what it sees")
        step = size / grid
        box = (cell[1] * step, cell[0] * step, (cell[1] + 1) * step, (cell[0] + 1) * step)
        _frame(row[0], box, figures.YELLOW, label="where upsampling puts it")
        centre = [field.centre + c * field.stride - 0.5 for c in reversed(cell)]
        row[0].plot(
            *centre, "o", color=figures.SKY, markeredgecolor="black", markersize=9, label="middle of what it sees"
        )
        row[0].legend(loc="upper center", bbox_to_anchor=(0.5, -0.01), fontsize=9, ncols=1)
        shares = 100 * seen_shares(field, grid, size)
        figures.picture(row[1], shares, "share of the slice that each cell sees", cmap="viridis", vmin=0, vmax=100)
        figures.colour_bar(figure, row[1], "percent")
    return figure


def draw_nearest(
    found: GlobalAnalysis, images: Float[Tensor, "n c h w"], prototypes: Sequence[int], classes: Sequence[str]
) -> Figure:
    """Draw the images with the patches nearest to prototypes, one row each.

    Args:
        found: Of a global analysis of ``images``.
        images: Which it analysed.
        prototypes: Which rows.
        classes: Names; the title says an image's own.
    """
    count = found.ids.shape[1]
    figure, axes = figures.new(
        len(prototypes), count, width=1.75 * count + 0.5, height=2.1 * len(prototypes), squeeze=False
    )
    _tight(figure)
    for row, j in zip(axes, prototypes, strict=True):
        for axis, i, label, box, similarity in zip(
            row, found.ids[j], found.labels[j], found.receptive_boxes[j], found.similarities[j], strict=True
        ):
            figures.picture(axis, picture(images[i]), f"{classes[int(label)]}: {float(similarity):.1f}")
            axis.title.set_fontsize(10)
            _frame(axis, box, CLASS_COLOURS[int(label) % len(CLASS_COLOURS)])
        row[0].text(
            -0.1,
            0.5,
            f"prototype {j}",
            transform=row[0].transAxes,
            rotation=90,
            ha="center",
            va="center",
            clip_on=False,
        )
    return figure


def draw_kinds(model: ProtoPNet, image: Float[Tensor, "c h w"], prototype: int) -> Figure:
    """Draw the kinds of box for a prototype in an image, with only the box kept, and with only the box deleted."""
    figure, axes = figures.new(3, len(KINDS), width=2.05 * len(KINDS) + 0.5, height=6.5)
    _tight(figure)
    one, which = image[None], torch.tensor([prototype])
    for column, kind in zip(axes.T, KINDS, strict=True):
        box = boxes(model, one, which, kind)
        figures.picture(column[0], picture(image), kind)
        _frame(column[0], box[0], KIND_COLOURS[kind])
        for axis, delete in zip(column[1:], (False, True), strict=True):
            found = occlude(model, one, which, box, delete=delete)
            title = f"{float(found.before[0]):.2f} → {float(found.at_cell[0]):.2f}"
            figures.picture(axis, picture(masked(one, box, delete=delete)[0]), title)
    for axis, name in zip(axes[:, 0], ("the box", "only the box kept", "only the box deleted"), strict=True):
        axis.text(-0.1, 0.5, name, transform=axis.transAxes, rotation=90, ha="center", va="center", clip_on=False)
    return figure


def draw_doubt(table: Mapping[str, tuple[float, float, float, float]]) -> Figure:
    """Draw for each kind of box: its area, similarity kept and left as percent of the whole, and the attack's gain.

    Args:
        table: By kind: area, kept, deleted (shares from 0 to 1) and PAC (percent).
    """
    figure, axes = figures.new(1, 4, width=11.4, height=3.3, sharey=True)
    heads = (
        "area of the box,\n% of the slice",
        "only the box kept:\n% of the similarity left",
        "box deleted:\n% of the similarity left",
        "attacked outside the box:\n% of the similarity lost",
    )
    rows = np.arange(len(table))[::-1]
    for column, (axis, head) in enumerate(zip(axes, heads, strict=True)):
        values = [100 * row[column] if column < 3 else row[column] for row in table.values()]
        axis.barh(
            rows, values, color=[KIND_COLOURS[kind] for kind in table], edgecolor="black", linewidth=0.8, height=0.65
        )
        for y, value in zip(rows, values, strict=True):
            axis.text(max(value, 0) + 2, y, f"{abs(value) if abs(value) < 0.5 else value:.0f}", va="center")
        axis.set(xlim=(0, 128), xticks=[0, 50, 100])
        axis.set_title(head, fontsize=11)
        axis.grid(axis="y", visible=False)
    axes[0].set_yticks(rows, list(table))
    return figure


def draw_box(
    model: ProtoPNet, analysis: LocalAnalysis, image: int = 0, rank: int = 0, kind: str = "activation"
) -> Figure:
    """Draw one prototype in one image: its origin, its map with a kind of box, and the slice with and without the box.

    Args:
        model: The network analysed.
        analysis: Of its images.
        image: Which of them.
        rank: From 0: by similarity.
        kind: Of the box.
    """
    j = int(analysis.prototypes[image, rank])
    one, which = analysis.images[image : image + 1], torch.tensor([j])
    box = boxes(model, one, which, kind)
    kept, deleted = (occlude(model, one, which, box, delete=delete) for delete in (False, True))
    origin, shown = analysis.origin, picture(one[0])
    owner = int(origin.provenance.labels[j])
    large = upsampled(analysis.output.maps[image : image + 1, j : j + 1], tuple(one.shape[2:]))[0, 0]
    figure, axes = figures.new(1, 5, width=12.4, height=3.15)
    _tight(figure)
    figures.picture(
        axes[0], picture(origin.provenance.images[j]), f"prototype {j} (“{analysis.classes[owner]}”),\nits own slice"
    )
    _frame(axes[0], origin.receptive_boxes[j], CLASS_COLOURS[owner % len(CLASS_COLOURS)])
    gain = float(analysis.contributions[image, j])
    target = analysis.classes[int(analysis.target[image])]
    figures.picture(axes[1], shown, f"box: {kind}\n{gain:+.2f} to “{target}”")
    figures.picture(axes[2], overlay(shown, large), f"the upsampled map\nsimilarity {float(kept.before[0]):.2f}")
    for axis in axes[1:3]:
        _frame(axis, box[0], KIND_COLOURS[kind])
    for axis, delete, found, name in ((axes[3], False, kept, "kept"), (axes[4], True, deleted, "deleted")):
        title = f"only the box {name}:\n{float(found.at_cell[0]):.2f}, ratio {float(found.ratio[0]):.2f}"
        figures.picture(axis, picture(masked(one, box, delete=delete)[0]), title)
    return figure


def box_explorer(model: ProtoPNet, analysis: LocalAnalysis) -> widgets.VBox:
    """Choose an image, a prototype by its rank, and a kind of box; see ``draw_box``."""

    def draw(image=1, rank=1, kind="activation") -> Figure:
        return draw_box(model, analysis, image - 1, rank - 1, kind)

    return explorer(
        draw,
        image=(1, len(analysis)),
        rank=widgets.IntSlider(1, 1, analysis.prototypes.shape[1], 1, description="prototype, by rank"),
        kind=widgets.Dropdown(options=list(KINDS), value="activation", description="box"),
    )


def _squared(latent: Float[Tensor, "n C h w"], prototypes: Float[Tensor, "p C"]) -> Float[Tensor, "n p h w"]:
    return (latent[:, None] - prototypes[None, :, :, None, None]).square().sum(2)


def _similar(distances: Tensor) -> Tensor:
    return ((distances + 1) / (distances + 1e-4)).log()


@exercise("07.1")
def _(my_logits) -> str:
    generator = torch.Generator().manual_seed(71)
    for n, c, h, w, p, classes in ((3, 4, 2, 5, 6, 2), (1, 2, 3, 1, 3, 3)):
        latent, prototypes = (  # whole eighths, whose squares are exact however the distances are computed
            torch.randint(9, shape, generator=generator).double() / 8 for shape in ((n, c, h, w), (p, c))
        )
        prototypes[0] = latent[0, :, 1, 0]  # one that finds itself
        weight = torch.randn(classes, p, generator=generator).double()
        d = _squared(latent, prototypes).flatten(2)
        g = _similar(d)
        expected = g.amax(2) @ weight.T
        mistakes = {
            "these are the similarities: the last layer, `weight`, is missing.": g.amax(2),
            "the distances are not squared: the paper's d is the sum of squared differences.": (
                _similar(d.sqrt()).amax(2) @ weight.T
            ),
            "this is the mean over the cells: a prototype scores by the cell that is most like it.": (
                g.mean(2) @ weight.T
            ),
            "the similarities are summed over the cells: a prototype scores by its most similar cell alone.": (
                g.sum(2) @ weight.T
            ),
            "this takes the cell that is *least* like the prototype: similarity falls as the distance grows.": (
                g.amin(2) @ weight.T
            ),
            "distances went into the last layer: turn them into similarities first.": d.amin(2) @ weight.T,
            "the logarithm is missing.": g.exp().amax(2) @ weight.T,
            "the fraction stands on its head: d + 1 above, d + 1e-4 below.": -g.amax(2) @ weight.T,
            "the 1 above the fraction is missing: log((d + 1) / (d + 1e-4)).": (-(d + 1e-4).log().amin(2) @ weight.T),
            "the squared differences are averaged over the C numbers: they are summed.": (
                _similar(d / c).amax(2) @ weight.T
            ),
        }
        judge(
            my_logits(latent.float(), prototypes.float(), weight.float()),
            expected,
            mistakes,
            "a score for each image and class",
            f"with {p} prototypes on {h} × {w} cells, these are not the logits.",
        )
    return "the whole of ProtoPNet behind its convolutions."


@exercise("07.2")
def _(my_projection) -> str:
    generator = torch.Generator().manual_seed(72)
    for n, c, h, w, owners in ((6, 3, 2, 3, (0, 0, 1, 1)), (4, 2, 1, 2, (1, 0, 0)), (7, 4, 2, 2, (2, 0, 1, 2))):
        latent = torch.rand(n, c, h, w, generator=generator)
        labels = torch.arange(n) % (1 + max(owners))
        owners = torch.tensor(owners)
        # some beside patches of the other class, lest the labels make no difference
        beside = [int(((labels == o) == bool(j % 2)).nonzero()[0]) for j, o in enumerate(owners)]
        prototypes = latent[beside, :, 0, -1] + 0.01
        cells = latent.permute(0, 2, 3, 1).flatten(0, 2)
        of = labels.repeat_interleave(h * w)
        every = torch.cdist(prototypes, cells)
        own = of == owners[:, None]
        expected = cells[every.masked_fill(~own, torch.inf).argmin(1)]
        means, mixed = latent.mean((2, 3)), latent.reshape(-1, c)
        mistakes = {
            "nothing moved: return the patches that the prototypes become.": prototypes,
            "reshape alone mixes channels and cells: move the channels to the end first (permute).": mixed[
                torch.cdist(prototypes, mixed).masked_fill(~own, torch.inf).argmin(1)
            ],
            "the labels lie in another order than the cells: repeat each for its own cells (repeat_interleave).": (
                cells[every.masked_fill(labels.repeat(h * w) != owners[:, None], torch.inf).argmin(1)]
            ),
            "some became patches of another class: look at images of their own class only.": cells[every.argmin(1)],
            "these are patches of the *other* class.": cells[every.masked_fill(own, torch.inf).argmin(1)],
            "d * mask makes foreign distances 0, which is the smallest: hide them with infinity.": (
                cells[(every * own).argmin(1)]
            ),
            "these are the farthest patches of the class: the nearest are asked for.": (
                cells[every.masked_fill(~own, -torch.inf).argmax(1)]
            ),
            "this is a mean of patches: a prototype must become one that exists.": torch.stack(
                [cells[row].mean(0) for row in own]
            ),
            "these are means over images: a prototype becomes one cell of one image.": means[
                torch.cdist(prototypes, means).masked_fill(labels != owners[:, None], torch.inf).argmin(1)
            ],
        }
        judge(
            my_projection(latent, labels, prototypes, owners),
            expected,
            mistakes,
            "one patch for each prototype",
            f"with {n} images of {h} × {w} cells, this is not the nearest patch of the class.",
        )
    return "each prototype is a patch that exists, of its own class."


@exercise("07.3")
def _(my_cluster) -> str:
    generator = torch.Generator().manual_seed(73)
    for n, p, h, w, classes in ((6, 4, 2, 3, 2), (3, 6, 3, 1, 2), (5, 6, 2, 2, 3)):
        distances = torch.rand(n, p, h, w, generator=generator).double() + 0.2
        labels, owners = torch.arange(n) % classes, torch.arange(p) * classes // p
        if classes == 3:
            labels, owners = labels.flip(0), owners.roll(1)
        own = owners == labels[:, None]
        least = distances.flatten(2).amin(2)
        hidden = least.masked_fill(~own, torch.inf)
        average = distances.flatten(2).mean(2).masked_fill(~own, torch.inf)
        expected = hidden.amin(1).mean()
        mistakes = {
            "0 for every network: d * mask makes all foreign distances 0. Hide them with infinity.": 0 * expected,
            "this looks at the prototypes of all classes: the image's own are asked for.": least.amin(1).mean(),
            "these are the *other* classes' prototypes: this is the separation cost.": (
                least.masked_fill(own, torch.inf).amin(1).mean()
            ),
            "one for each image: take their mean.": hidden.amin(1),
            "the images are summed: take their mean.": hidden.amin(1).sum(),
            "the smallest of the whole batch: each image counts, so take the mean over images.": hidden.amin(),
            "the mean over the image's own prototypes: one near prototype is enough, so take the smallest.": (
                (least * own).sum(1) / own.sum(1)
            ).mean(),
            "the mean over the cells: one near cell is enough, so take the smallest.": average.amin(1).mean(),
            "a mean over all own-class distances: the smallest of each image counts.": (
                distances.flatten(2).mean(2)[own].mean()
            ),
        }
        judge(
            my_cluster(distances, labels, owners),
            expected,
            mistakes,
            "a single number",
            f"with {n} images and {p} prototypes, this is not the cluster cost.",
        )
    return "what pulls a patch of every image to a prototype of its class."


def _fields(layers: Sequence[tuple[int, int, int]]) -> tuple[int, int, int]:
    size, stride, start = 1, 1, 0
    for kernel, step, padding in layers:
        size, start, stride = size + (kernel - 1) * stride, start - padding * stride, stride * step
    return size, stride, start


@exercise("07.4")
def _(my_field) -> str:
    for layers in (
        [(7, 2, 3), (3, 2, 1), (3, 1, 1)],
        [(3, 1, 1), (2, 2, 0), (5, 3, 1), (3, 1, 0)],
        [(1, 1, 0)],
    ):
        expected = torch.tensor(_fields(layers))
        size, stride, start = expected.tolist()
        late, ends = [1, 1, 0], [1, 1, 0]
        for kernel, step, padding in layers:  # the stride is multiplied too early
            late[1] *= step
            late[0] += (kernel - 1) * late[1]
            late[2] -= padding * late[1]
            ends[0] += kernel * ends[1]
            ends[1] *= step
        plain = 1 + sum(kernel - 1 for kernel, _, _ in layers)
        margin = sum(padding for _, _, padding in layers)
        backwards = _fields([layer for layer in reversed(layers)])
        mistakes = {
            "the stride is multiplied too early: a window's pixels lie as far apart as the strides *before* it say.": (
                torch.tensor(late)
            ),
            "a window of k adds k - 1 steps, not k.": torch.tensor([ends[0], stride, start]),
            "the strides are left out of the size: k - 1 steps are of `stride` pixels each.": torch.tensor(
                [plain, stride, start]
            ),
            "the strides are left out of size and start: steps are of `stride` pixels each.": torch.tensor(
                [plain, stride, -margin]
            ),
            "the paddings count in steps of `stride` pixels, too.": torch.tensor([size, stride, -margin]),
            "padding lies outside, so the first pixel is negative: subtract it.": torch.tensor([size, stride, -start]),
            "0 is the first window's middle, or the padding is left out: it moves the window to the left.": (
                torch.tensor([size, stride, 0])
            ),
            "the stride is multiplied too early for the padding: it counts in the steps *before* the window.": (
                torch.tensor([size, stride, late[2]])
            ),
            "the layers go from the image to the cells: begin with the first.": torch.tensor(backwards),
        }
        judge(
            my_field(layers),
            expected,
            mistakes,
            "size, stride and first pixel, three numbers",
            f"for the layers {layers}, size, stride and first pixel should be {size}, {stride} and {start}.",
        )
    return "and that is how ResNet18's 435 pixels come about."
