"""Drawings of prototypes, their training patches, boxes, and tests of these boxes."""

from collections.abc import Mapping, Sequence

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
from xailab.lessons.drawings import tight
from xailab.metrics import interval
from xailab.protopnet import (
    KINDS,
    Epoch,
    GlobalAnalysis,
    Kind,
    LocalAnalysis,
    Origin,
    ProtoPNet,
    candidate_boxes,
    check_projected,
    masked,
    occlude,
    receptive_boxes,
    size_of,
    upsampled,
)
from xailab.protopnet.pictures import cropped, picture
from xailab.receptive_field import ReceptiveField

CLASS_COLOURS = (figures.SKY, figures.ORANGE)  # no lesion, lesion
KIND_COLOURS = dict(zip(KINDS, (figures.ORANGE, figures.YELLOW, figures.SKY, figures.PINK, "#C8C8C8"), strict=True))
BOX = {"boxstyle": "round,pad=0.5", "facecolor": "#EEEEEE"}
LITTLE = 1.5  # up to this similarity, the words are "looks a little like"
Picture = UInt8[np.ndarray, "h w 3"]


def _frame(axes: Axes, box: Int[Tensor, "4"] | tuple, colour: str, **options) -> None:
    """Draw a box along its ends, also where they are those of the picture."""
    left, top, right, bottom = (float(end) for end in box)
    edges = {"fill": False, "edgecolor": colour, "linewidth": 2.4, "clip_on": False} | options
    shadow = patheffects.withStroke(linewidth=edges["linewidth"] + 1.6, foreground="black")
    rectangle = Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, **edges)
    rectangle.set_path_effects([shadow])
    axes.add_patch(rectangle)


def _rank(analysis: LocalAnalysis, image: int, prototype: int) -> int:
    """Find the place of a prototype in an image's list."""
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
        analysis: Analysis of at least these images, with all prototypes listed.
        images: Number of an image for each row.
        prototypes: Number of a prototype for each row.
    """
    shape = {"width": 9.2, "height": 2.3 * len(images) + 0.35, "width_ratios": [1.2, 1, 0.4, 1, 1.2]}
    figure, axes = figures.new(len(images), 5, squeeze=False, **shape)
    tight(figure, 0.03)
    for row, i, j in zip(axes, images, prototypes, strict=True):
        _pair(row, analysis, i, j)
    for axis, name in zip(axes[0], ("a new slice", "this", "", "that", "a slice of the training"), strict=True):
        axis.set_title(name)
    return figure


def _pair(row: Sequence[Axes] | np.ndarray, analysis: LocalAnalysis, i: int, j: int) -> None:
    """Draw five panels: image i, its part most similar to prototype j, "looks like", the prototype, and its slice."""
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
        analysis: Analysis with all prototypes listed.
        image: Number of one of its images.
        count: Number of prototypes shown: those with the largest contributions of either sign. The rest is summed.
    """
    given, weights = analysis.contributions[image], analysis.weights[analysis.target[image]]
    order = given.abs().argsort(descending=True)[:count].tolist()
    name, logit = analysis.classes[int(analysis.target[image])], float(given.sum())
    shape = {"width_ratios": [1.15, 1, 0.42, 1, 1.15, 2.1], "height_ratios": [1] * count + [0.25]}
    figure, axes = figures.new(count + 1, 6, width=11.4, height=1.95 * count + 1.3, **shape)
    tight(figure, 0.03)
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
    """Draw a horizontal bar from 0, with words above it."""
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
    """Draw each prototype's training slice with its cell's receptive field; one row for each class.

    Args:
        origin: The training patches that the prototypes are.
        classes: Names of the classes.
        weights: Weights of the last layer; the title has that from the prototype to its own class.
    """
    owners, weights = origin.provenance.labels, weights.detach()
    most = int(owners.bincount().max())
    figure, axes = figures.new(len(classes), most, width=1.9 * most + 0.4, height=2.35 * len(classes), squeeze=False)
    tight(figure, 0.03)
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


def draw_stages(history: Sequence[Epoch], projections: Sequence[Sequence[float]]) -> Figure:
    """Draw accuracy over the steps of a training, and around the projections of another.

    Args:
        history: The epochs of a training with held-out images.
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


def seen_shares(field: ReceptiveField, grid: int, size: int) -> Float[np.ndarray, "grid grid"]:
    """Compute the share of an image of size x size that each cell of a grid sees."""
    cells = torch.cartesian_prod(torch.arange(grid), torch.arange(grid))
    left, top, right, bottom = receptive_boxes(field, cells, (size, size)).unbind(1)
    return ((right - left) * (bottom - top) / size**2).view(grid, grid).numpy()


def draw_geometry(
    networks: Mapping[str, tuple[Float[Tensor, "c h w"], ReceptiveField, int, tuple[int, int]]],
) -> Figure:
    """Draw, for each network, what one cell sees, where upsampling puts it, and an arrow from the one to the other.

    Args:
        networks: For each name an image, the receptive field of the cells, the grid's side, and a cell (row, column).
    """
    figure, axes = figures.new(1, len(networks), width=5.6 * len(networks), height=5.9, squeeze=False)
    for axis, (name, (image, field, grid, cell)) in zip(axes[0], networks.items(), strict=True):
        size, step = image.shape[-1], image.shape[-1] / grid
        shares = 100 * seen_shares(field, grid, size)
        title = f"{name}: a cell sees {shares.min():.0f} to {shares.max():.0f} % of the slice,"
        figures.picture(axis, picture(image), f"{title}\nand is drawn {field.shift} px too far right and down")
        axis.title.set_fontsize(11)
        _frame(axis, receptive_boxes(field, torch.tensor(cell), (size, size)), figures.SKY, label="what it sees")
        box = (cell[1] * step, cell[0] * step, (cell[1] + 1) * step, (cell[0] + 1) * step)
        _frame(axis, box, figures.YELLOW, label="where upsampling puts it")
        centre = [field.centre + c * field.stride - 0.5 for c in reversed(cell)]
        dot = {"color": figures.SKY, "markeredgecolor": "black", "markersize": 9}
        axis.plot(*centre, "o", label="middle of what it sees", **dot)
        drawn = [(c + 0.5) * step - 0.5 for c in reversed(cell)]
        axis.annotate(
            "", drawn, centre, arrowprops={"arrowstyle": "-|>", "color": figures.VERMILLION, "linewidth": 2.5}
        )
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.01), fontsize=9, ncols=1)
    return figure


def draw_nearest(
    found: GlobalAnalysis, images: Float[Tensor, "n c h w"], prototypes: Sequence[int], classes: Sequence[str]
) -> Figure:
    """Draw the images with the patches nearest to prototypes, one row for each prototype.

    Args:
        found: Global analysis of the images.
        images: All images of the analysis.
        prototypes: Numbers of the prototypes.
        classes: Names of the classes; the title has that of an image.
    """
    count = found.ids.shape[1]
    figure, axes = figures.new(
        len(prototypes), count, width=1.75 * count + 0.5, height=2.1 * len(prototypes), squeeze=False
    )
    tight(figure, 0.03)
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
    tight(figure, 0.03)
    one, which = image[None], torch.tensor([prototype])
    for column, kind in zip(axes.T, KINDS, strict=True):
        box = candidate_boxes(model, one, which, kind)
        figures.picture(column[0], picture(image), kind)
        _frame(column[0], box[0], KIND_COLOURS[kind])
        for axis, delete in zip(column[1:], (False, True), strict=True):
            found = occlude(model, one, which, box, delete=delete)
            title = f"{float(found.before[0]):.2f} → {float(found.at_cell[0]):.2f}"
            figures.picture(axis, picture(masked(one, box, delete=delete)[0]), title)
    for axis, name in zip(axes[:, 0], ("the box", "only the box kept", "only the box deleted"), strict=True):
        axis.text(-0.1, 0.5, name, transform=axis.transAxes, rotation=90, ha="center", va="center", clip_on=False)
    return figure


def draw_kept(cases: Mapping[str, tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n"]]], nothing: float) -> Figure:
    """Draw for each box how much of the similarity it keeps, against its area; a large mark has each kind's medians.

    Args:
        cases: For each kind of box the areas and the similarities kept, as shares from 0 to 1 (more where it grew).
        nothing: Share of the similarity that is left when all of the slice is grey.
    """
    figure, axes = figures.new(width=9.6, height=4.6)
    axes.axhline(100 * nothing, linestyle="--", color=figures.BLACK, linewidth=1.2, label="all of the slice grey")
    colours = [figures.ORANGE, figures.YELLOW, figures.SKY, figures.PINK, "#C8C8C8", figures.GREEN, figures.BLUE]
    for (name, (areas, kept)), colour, marker in zip(cases.items(), colours, "osD^vPX", strict=False):
        axes.plot(100 * areas, 100 * kept, marker, color=colour, markersize=5, alpha=0.55, markeredgecolor="none")
        middle = 100 * float(np.median(areas)), 100 * float(np.median(kept))
        axes.plot(*middle, marker, color=colour, markersize=12, markeredgecolor="black", label=name, zorder=3)
    axes.set(xlabel="area of the box, % of the slice", ylabel="similarity kept, %", xlim=(0, 30), ylim=(0, 140))
    axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), fontsize=10)
    return figure


def draw_architecture(model: ProtoPNet, image: Float[Tensor, "c h w"], prototypes: Sequence[int]) -> Figure:
    """Draw the network as a schematic, from a slice to the logit of the last class, with real maps of three prototypes.

    Args:
        model: A projected network.
        image: A slice.
        prototypes: Numbers of the prototypes to draw.
    """
    with torch.no_grad():
        output = model.forward_details(image[None])
    origin = Origin(check_projected(model))
    figure, page = figures.new(width=12, height=6.2)
    page.set(xlim=(0, 12), ylim=(0, 6.2))
    page.set_axis_off()

    def put(shown: np.ndarray, x: float, y: float, side: float, title: str = "", **options) -> Axes:
        axes = page.inset_axes((x, y, side, side), transform=page.transData)
        figures.picture(axes, shown, title or None, **options)
        return axes

    def arrow(start: tuple[float, float], end: tuple[float, float]) -> None:
        page.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": "black", "linewidth": 1.6})

    rows = [4.1 - 1.75 * i for i in range(len(prototypes))]
    middle = rows[len(rows) // 2] + 0.65
    put(picture(image), 0.05, middle - 0.8, 1.6, "a slice")
    arrow((1.7, middle), (2.05, middle))
    page.text(2.72, middle, "5 convo-\nlutions,\ntwo of 1 × 1", ha="center", va="center", bbox=BOX)
    arrow((3.35, middle), (3.7, middle))
    cells = output.maps[0].mean(0) * 0 + 0.85
    grid = put(cells.numpy(), 3.75, middle - 0.65, 1.3, "cells $z$", cmap="gray", vmin=0, vmax=1)
    ticks = np.arange(cells.shape[0] + 1) - 0.5
    grid.hlines(ticks, -0.5, cells.shape[1] - 0.5, color="#666666", linewidth=0.5)
    grid.vlines(ticks, -0.5, cells.shape[0] - 0.5, color="#666666", linewidth=0.5)
    weight = model.last_layer.weight[-1].detach()
    for j, y in zip(prototypes, rows, strict=True):
        owner = int(model.prototype_classes[j])
        crop = cropped(picture(origin.provenance.images[j]), origin.receptive_boxes[j])
        part = put(crop, 5.6, y, 1.3, f"prototype $p_{j}$")
        _frame(part, (0, 0, crop.shape[1], crop.shape[0]), CLASS_COLOURS[owner % len(CLASS_COLOURS)], linewidth=3)
        arrow((5.1, middle), (5.55, y + 0.65))
        arrow((6.95, y + 0.65), (7.3, y + 0.65))
        top = float(output.similarities[0, j])
        title = "similarity of each cell" if y == rows[0] else ""
        put(output.maps[0, j].numpy(), 7.35, y, 1.3, title, cmap="viridis", vmin=0, vmax=9.21)
        words = f"max {top:.1f}  × {float(weight[j]):+.2f} = {top * float(weight[j]):+.1f}"
        page.text(8.75, y + 0.65, words, va="center", fontsize=12)
        arrow((11.15, y + 0.65), (11.45, middle + 0.3 * np.sign(y + 0.65 - middle)))
    page.text(11.7, middle, "$\\Sigma$", ha="center", va="center", fontsize=22)
    others = float(output.logits[0, -1] - (output.similarities[0] * weight)[list(prototypes)].sum())
    logit = float(output.logits[0, -1])
    words = f"with {others:+.1f} from the other prototypes: logit of “{model.classes[-1]}” {logit:+.1f}"
    page.text(11.95, 0.12, words, ha="right", fontsize=12)
    return figure


def draw_else(
    pictures: Mapping[str, Float[Tensor, "c h w"]], similarities: Sequence[float], logits: Sequence[float]
) -> Figure:
    """Draw pictures with a prototype's similarity and the logit that they get.

    Args:
        pictures: For each name a picture.
        similarities: Similarity of the prototype to each.
        logits: Logit of the prototype's class.
    """
    figure, axes = figures.new(1, len(pictures), width=2.3 * len(pictures), height=3.1)
    tight(figure, 0.04)
    for axis, (name, image), similarity, logit in zip(axes, pictures.items(), similarities, logits, strict=True):
        figures.picture(axis, picture(image), name)
        axis.text(
            0.5,
            -0.06,
            f"similarity {similarity:.1f}\nlogit {logit:+.1f}",
            transform=axis.transAxes,
            ha="center",
            va="top",
        )
    return figure


Place = tuple[Picture, tuple[float, float], float]  # a photograph, a cell's centre (x, y), and its similarity


def highest(
    cosine: Float[Tensor, "n rows columns"], pictures: Sequence[Picture], *, apart: float, count: int
) -> list[Place]:
    """Find the cells with the highest values, none nearer than ``apart`` pixels to one found before in its picture."""
    left, found = cosine.clone(), []
    step = len(pictures[0]) / cosine.shape[1]
    centres = step * (torch.arange(cosine.shape[1]) + 0.5)
    for _ in range(count):
        n, row, column = (int(i) for i in np.unravel_index(int(left.argmax()), left.shape))
        found.append((pictures[n], (float(centres[column]), float(centres[row])), float(left[n, row, column])))
        near = ((centres - centres[column]).abs() < apart) & ((centres - centres[row]).abs() < apart)[:, None]
        left[n] = left[n].masked_fill(near, -torch.inf)
    return found


def look_alikes(model: ProtoPNet, sets: Mapping[str, Float[Tensor, "n c h w"]]) -> str:
    """Tabulate how sets of pictures are classified, with 95 % intervals: called the last class, its logit, look-alikes.

    The last column has the share of pictures in which the best prototype of the class finds more of itself than in the
    median picture of the first set.
    """
    own = model.prototype_classes == len(model.classes) - 1
    rows, usual = [f"{'':12s}{'called lesion':21s}{'mean logit of lesion':24s}above the median lesion"], None
    for name, pictures in sets.items():
        with torch.no_grad():
            output = model.forward_details(pictures)
        best = output.similarities[:, own].amax(1)
        usual = float(best.median()) if usual is None else usual
        called, logit = (output.logits.argmax(1) == len(model.classes) - 1).numpy(), output.logits[:, -1].numpy()
        (low, high), (least, most) = interval(called), interval(logit)
        words = f"{name:12s}{called.mean():.2f} ({low:.2f} to {high:.2f})  {logit.mean():+5.1f}"
        words += f" ({least:+5.1f} to {most:+5.1f})"
        rows.append(f"{words}{float((best > usual).float().mean()):12.2f}")
    return "\n".join(rows)


def draw_neighbours(rows: Sequence[Sequence[Place]], side: float, around: float = 36) -> Figure:
    """Draw places of photographs and their nearest cells, one row for each place.

    Args:
        rows: For each place, and then for each cell found, the photograph, the cell's centre (x, y) and the similarity.
        side: Side of the square that a cell stands for, in pixels.
        around: Pixels shown on each side of the centre.
    """
    figure, axes = figures.new(len(rows), 2 * len(rows[0]), width=13, height=1.85 * len(rows) + 0.5, squeeze=False)
    tight(figure, 0.02)
    for line, cells in zip(axes, rows, strict=True):
        for k, (shown, (x, y), similarity) in enumerate(cells):
            colour = figures.ORANGE if k == 0 else figures.SKY
            figures.picture(line[2 * k], shown)
            _frame(line[2 * k], (x - side / 2, y - side / 2, x + side / 2, y + side / 2), colour)
            left, top = (int(np.clip(v - around, 0, len(shown) - 2 * around)) for v in (x, y))
            part = shown[top : top + int(2 * around), left : left + int(2 * around)]
            title = "this" if k == 0 else f"that, {similarity:.2f}"
            figures.picture(line[2 * k + 1], part, title)
            _frame(line[2 * k + 1], (0, 0, part.shape[1], part.shape[0]), colour, linewidth=3)
    return figure


def draw_box(
    model: ProtoPNet, analysis: LocalAnalysis, image: int = 0, rank: int = 0, kind: Kind = "activation"
) -> Figure:
    """Draw one prototype in one image: its origin, its map with a kind of box, and the slice with and without the box.

    Args:
        model: The network analysed.
        analysis: Its analysis of images.
        image: Number of one of these images.
        rank: Rank of the prototype by similarity, from 0.
        kind: Kind of the box.
    """
    j = int(analysis.prototypes[image, rank])
    one, which = analysis.images[image : image + 1], torch.tensor([j])
    box = candidate_boxes(model, one, which, kind)
    kept, deleted = (occlude(model, one, which, box, delete=delete) for delete in (False, True))
    origin, shown = analysis.origin, picture(one[0])
    owner = int(origin.provenance.labels[j])
    large = upsampled(analysis.output.maps[image : image + 1, j : j + 1], size_of(one))[0, 0]
    figure, axes = figures.new(1, 5, width=12.4, height=3.15)
    tight(figure, 0.03)
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
