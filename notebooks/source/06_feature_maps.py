# %% [markdown]
# # 06 · Feature maps
#
# **About 45 minutes to read, 35 for the exercises · 1 GiB of memory · no GPU, no network needed**
#
# The oldest way to look into a network: stop it at a layer and draw what the layer puts out. It is easy, it is
# beautiful, and it misleads in at least three ways. You will catch each of them in the act.
#
# **Afterwards you can**
# - compute a feature map by hand, and get all feature maps of a network in one line,
# - say what convolution, ReLU and pooling contribute, because you have seen the network without them,
# - compute how much of the picture a cell can see, prove it, and measure how much of that it uses,
# - draw a contact sheet on which a dead channel looks dead.
#
# **You need** to know what a convolution is. No other lesson is needed.

# %% [markdown]
# ## The idea
#
# A layer turns one stack of maps into another. Channel $k$ of a convolution slides its own small filter over all
# channels $a_c$ of the stack in front of it, and the ReLU behind it cuts off what is negative:
#
# $$z_k(y, x) = b_k + \sum_c \sum_{i, j} w_{kc}(i, j)\; a_c(y + i, x + j), \qquad a'_k = \max(z_k, 0) .$$
#
# Both $z_k$ and $a'_k$ are called **feature maps**: large where the picture holds what the filter asks for. (Which
# of the two is meant makes a difference, as you will see.) A max pooling then keeps the largest of each 2 × 2
# values. The convolutional part of VGG16 (Simonyan and Zisserman 2014) is nothing but that: thirteen convolutions
# of 3 × 3, a ReLU behind each, and five poolings.
#
# **Predict before you run:** take all ReLUs and poolings out. What is left of thirteen convolutions?

# %% [markdown]
# ## From scratch, on thirty-six numbers
#
# A dark picture with a bright bar, and a filter that takes what is on the left from what is on the right. What does
# it say at the bar's two edges, and what do ReLU and pooling leave of that?

# %%
import torch
import torch.nn.functional as F
from torch import nn

a = torch.zeros(6, 6)
a[:4, 2:4] = 1  # the bright bar
w = torch.tensor([[-1.0, 0, 1], [-1, 0, 1], [-1, 0, 1]])


def convolve(a, w):
    z = torch.zeros(a.shape[0] - 2, a.shape[1] - 2)
    for y in range(z.shape[0]):
        for x in range(z.shape[1]):
            for i in range(3):
                for j in range(3):
                    z[y, x] += w[i, j] * a[y + i, x + j]
    return z


def max_pool(a):
    pooled = torch.zeros(a.shape[0] // 2, a.shape[1] // 2)
    for y in range(pooled.shape[0]):
        for x in range(pooled.shape[1]):
            pooled[y, x] = a[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].max()
    return pooled


z = convolve(a, w)
rectified = z.clamp(min=0)
pooled = max_pool(rectified)

assert torch.allclose(z, F.conv2d(a[None, None], w[None, None])[0, 0], atol=1e-5)
assert torch.equal(pooled, F.max_pool2d(rectified[None, None], 2)[0, 0])
print("loops and torch agree")

# %%
from xailab import figures
from xailab.lessons import feature_maps as lesson

figure, axes = figures.new(1, 5, width=11.6, height=3.0, width_ratios=[6, 3.4, 4, 4, 2.6])
lesson.number_grid(axes[0], a, "picture a", mark=(0, 0, 3, 3))
lesson.number_grid(axes[1], w, "filter w")
lesson.number_grid(axes[2], z, "map z", mark=(0, 0, 1, 1))
lesson.number_grid(axes[3], rectified, "max(z, 0)", mark=(0, 2, 2, 4))
lesson.number_grid(axes[4], pooled, "max pooling", mark=(0, 1, 1, 2))
figures.show(
    figure,
    "Five grids of numbers: a bar of ones on zeros; a filter with −1 on the left and 1 on the right; its map, positive "
    "at the bar's left edge and negative at its right edge; the same with the negative half at 0; a 2 × 2 summary.",
)

# %% [markdown]
# (Boxes: nine cells of the picture make one cell of the map; four cells make one of the pooled map.) The filter
# answers to both edges, to the one from dark to bright with +, to the other with −. The ReLU throws the second
# answer away: behind it the channel is a detector of *one* kind of edge, and half of its map is empty. The pooling
# keeps that there was such an edge, and forgets on which side of the box.

# %% [markdown]
# ## The same through the library, and thirteen layers of it
#
# `scenes_vgg` has VGG16's thirteen convolutions at an eighth of the width, trained on rendered scenes of 96 × 96
# pixels. `feature_maps(network, batch)` runs the network once and hands back what each convolution puts out. Are
# these the maps of our loops?

# %%
from xailab.datasets import scenes
from xailab.feature_maps import chain, feature_maps, filters
from xailab.models import zoo
from xailab.receptive_field import receptive_field

network = zoo.load("scenes_vgg")
scene = scenes.scene(4, split="test", size=96)
batch = network.preprocess(scene.image)
maps = feature_maps(network, batch)

first = network.features[0]
weight, bias = first.weight.detach(), first.bias.detach()
corner = F.pad(batch[0], (1, 1, 1, 1))[:, :18, :18]  # VGG16 adds a frame of zeros, so that the size stays
by_loops = bias[5] + sum(convolve(corner[c], weight[5, c]) for c in range(3))
assert torch.allclose(maps["features.0"][0, 5, :16, :16], by_loops, atol=1e-4)
print("channel 5 of the first convolution: loops and library agree")

names = lesson.convolutions(network)  # the paper's names: conv1_1 ... conv5_3
for name, layer in names.items():
    _, channels, rows, columns = maps[layer].shape
    print(f"{name}  {layer:11s}  {channels:2d} channels of {rows:2d} × {columns}")

# %% [markdown]
# Each pooling halves the sides, and the number of channels grows to make up for it: the network gives up *where* to
# find room for *what*.

# %% [markdown]
# ## A picture full of edges
#
# To see which edges survive, one needs a picture that has them all: a star with every orientation, rings and bars
# of many widths, corners, letters, and a ring that differs from its ground more in colour than in brightness.
# Beside it a photograph, which has texture and blur, and one of the scenes that the network was trained on.

# %%
edges, photo = lesson.edges_picture(), lesson.photograph("chelsea")
large_scene = scenes.scene(4, split="test", size=224).image
figure = figures.strip([edges, photo, large_scene], ["edges (drawn)", "a photograph", "a scene"], panel=3.3)
figures.show(
    figure,
    "Three pictures: a black and white chart with a star, rings, bars, a checkerboard, a triangle, letters and a "
    "coloured ring; a photograph of a tabby cat's face; a drawn dog on a meadow.",
)
with torch.no_grad():
    for title, picture in (("edges", edges), ("photograph", photo), ("scene", large_scene)):
        probability, named = network(network.preprocess(picture)).softmax(1).max(1)
        print(f"{title}: {network.classes[named]}, {probability.item():.0%}")

# %% [markdown]
# The network is at home among drawn scenes alone: it calls the cat's photograph a dog, and is all but certain that
# the chart is one. A score says nothing about whether the question made sense. For maps of edges the first two
# pictures will do very well.

# %% [markdown]
# ## What does the first layer ask for?
#
# Only the first layer's filters are pictures themselves, because only they look at red, green and blue. `filters`
# turns them into pictures with 0 as mid-grey. Which edges does each of them answer to?

# %%
from dataclasses import replace

at_224 = replace(network.preprocess, resize=224)  # a convolution takes any size; so the maps are as large as VGG16's
first_maps = chain(network.features, at_224(edges), nn.Conv2d)[0][0]
bound = float(first_maps.abs().flatten()[::7].quantile(0.99))  # the top 1 % is clipped

figure, axes = figures.new(2, 8, width=11.8, height=4.3, width_ratios=[0.42, 1] * 4)
for k, picture in enumerate(filters(network)[:8]):
    left, right = axes[k // 4, 2 * (k % 4)], axes[k // 4, 2 * (k % 4) + 1]
    figures.picture(left, picture, f"filter {k}")
    figures.picture(right, first_maps[k].numpy(), f"its map $z_{k}$", cmap="RdBu_r", vmin=-bound, vmax=bound)
bar = figure.colorbar(axes[0, 1].images[0], ax=list(axes[:, -1]), fraction=0.06, pad=0.03, extend="both")
bar.set_label("z")
bar.outline.set_visible(False)
figures.show(
    figure,
    "Eight filters of 3 × 3 colour pixels, and beside each its map of the edges picture in blue, white and red: "
    "filters 1 and 3 draw outlines, the others mostly tell dark from bright or orange from blue.",
    pixels=figures.SCREEN,
)
for k, weight in enumerate(network.features[0].weight[:8].detach()):
    share = weight.sum().abs() / weight.abs().sum()
    print(f"filter {k}: |sum of weights| / sum of |weights| = {share:.2f}, "
          f"mean |z| on the chart {first_maps[k].abs().mean():.2f}")  # fmt: skip

# %% [markdown]
# (Each map on one scale for all; the strongest 1 % is clipped.) Filters 1 and 3 draw outlines. Their weights nearly
# cancel out (shares 0.00 and 0.08), so that a flat ground, black or white, gives next to nothing. The others keep
# telling dark from bright as well; filter 5, faint on the chart's black and white, wakes up at the blue field.
#
# Do not expect the handsome bars and blobs of the textbooks here. Those are filters of 7 × 7 or 11 × 11 from
# networks that saw a million photographs. These have nine cells, saw a few thousand drawings, and look like nothing
# much: what a filter does shows better in its map.

# %% [markdown]
# ## Three ways to take a network apart
#
# A well-known exercise walks through VGG16 without running it: take some kinds of layers out of the network, and
# apply these alone, one after another. Three selections are usual: (i) the convolutions alone, (ii) convolutions
# and ReLUs, (iii) convolutions and poolings. `chain(network.features, batch, kinds)` does that for any selection.
#
# Each panel is drawn in the customary way: the *mean over all channels*, stretched from black (its own smallest
# value) to white (its own largest). **Predict:** which way gets darker, and which one smaller?

# %%
from xailab import images

ways = {
    "(i) convolutions alone": (nn.Conv2d,),
    "(ii) with ReLU": (nn.Conv2d, nn.ReLU),
    "(iii) with max pooling": (nn.Conv2d, nn.MaxPool2d),
    "all: the network itself": (nn.Conv2d, nn.ReLU, nn.MaxPool2d),
}


def thirteen(batch, kinds, network=network):
    """The mean map behind each convolution, or behind its ReLU where ReLUs take part."""
    layers = [layer for layer in network.features if isinstance(layer, kinds)]
    last = nn.ReLU if nn.ReLU in kinds else nn.Conv2d
    outputs = chain(network.features, batch, kinds)
    return [x[0].mean(0) for layer, x in zip(layers, outputs, strict=True) if isinstance(layer, last)]


shown = (1, 2, 4, 7, 10, 13)
of_edges = {way: thirteen(at_224(edges), kinds) for way, kinds in ways.items()}
figures.show(
    lesson.chain_strips(edges, of_edges, shown),
    "The edges picture, and four rows of grey maps after 1, 2, 4, 7, 10 and 13 convolutions.",
    pixels=figures.SCREEN,
)

# %%
of_photo = {way: thirteen(at_224(photo), kinds) for way, kinds in ways.items()}
figures.show(
    lesson.chain_strips(photo, of_photo, shown),
    "The photograph of the cat, and four rows of grey maps after 1, 2, 4, 7, 10 and 13 convolutions.",
    pixels=figures.SCREEN,
)

with torch.no_grad():  # the last row is no selection at all
    everything = chain(network.features, at_224(photo), ways["all: the network itself"])[-1]
    assert torch.allclose(everything, network.features(at_224(photo)), rtol=1e-4, atol=1e-5)


print("mean grey of the drawn panel (0 black, 1 white), and the values that were stretched, for the edges picture")
for way, mean_maps in of_edges.items():
    for number in (1, 13):
        m = mean_maps[number - 1]
        grey = float(images.normalise(m).mean())
        print(f"{way:24s} {number:2d}: grey {grey:.2f}, {m.shape[-1]:3d} px, from {m.min():5.1f} to {m.max():5.1f}")

# %% [markdown]
# Now compare with the usual reading of such strips: with ReLU the pictures darken, with pooling they shrink and
# stay as bright, the shapes survive; so ReLUs and poolings have little to do with the features and may be left out.
#
# - *It darkens:* true of the panels (mean grey 0.49 against 0.24, and 0.17 at the end), not of the values.
#   Stretching puts black at the smallest value. Without ReLUs the values lie on both sides of 0, so that 0 is a
#   middle grey. With ReLUs nothing is below 0, and 0 is black or nearly so. The darkness shows where zero is.
# - *It shrinks and stays as bright:* true, 224 to 14 pixels, and mean grey 0.50. (There are four poolings in front
#   of the thirteenth convolution, and a fifth behind it.)
# - *The shapes survive:* true in rows (i) and (ii). But what the stretching hides is that the values of row (i)
#   grow about 85-fold, from ±3 to ±247: nothing in training ever asked these layers to work without their ReLUs.
# - *Shapes near the frame are lost:* some find so in their pictures. It is not so in ours.
#
# And *may be left out*? That is no matter of looking. Whatever comes out of the last layer can be handed on to the
# network's own classifier. **Predict** how many of twenty unseen scenes each way names correctly.

# %%
twenty = [scenes.scene(i, split="test", size=96) for i in range(20)]
for way, kinds in ways.items():
    said = []
    with torch.no_grad():
        for s in twenty:
            x = chain(network.features, network.preprocess(s.image), kinds)[-1]
            said.append(int(network.classifier(network.avgpool(x).flatten(1)).argmax()))
    right = sum(c == s.labels[0] for c, s in zip(said, twenty, strict=True))
    print(f"{way:24s} {right:2d} of 20 scenes named correctly, {len(set(said)):2d} different answers")

# %% [markdown]
# Twenty with all layers, one or two without the ReLUs or without the poolings, which with ten classes is guessing.
# The clearest pictures, rows (i) and (ii), come from selections that know nothing; the blurred last row knows
# everything. How recognisable a map is for *us* tells little about its use for the network.

# %% [markdown]
# ## What ReLU darkens, and why
#
# A ReLU does not dim anything: a positive value passes unchanged. What it does is set the negative ones to 0. How
# many are there, layer by layer, on forty unseen scenes? And is that something the network learnt? Beside it stand
# three networks of the same build with random weights.

# %%
import numpy as np

scenes_200 = [scenes.scene(i, split="test", size=96) for i in range(200)]
batch_200 = network.preprocess([s.image for s in scenes_200])
labels = [s.labels[0] for s in scenes_200]
trained = lesson.activations(network, batch_200)  # behind the ReLUs
forty = {name: a[:40] for name, a in trained.items()}
random_ones = [lesson.activations(lesson.untrained(network, seed), batch_200[:40]) for seed in range(3)]


def active(a):
    return float((a > 0).float().mean())


depth = range(1, 14)
figure, axis = figures.new(width=9.0, height=3.9)
curves = np.array([[active(maps[name]) for name in names] for maps in (forty, *random_ones)])
axis.plot(depth, curves[0], "o-", color=figures.BLUE, label="trained")
axis.plot(depth, curves[1:].mean(0), "s--", color=figures.ORANGE, label="random weights (three, mean and range)")
axis.fill_between(depth, curves[1:].min(0), curves[1:].max(0), color=figures.ORANGE, alpha=0.2, linewidth=0)
axis.set_xticks(depth, [name.removeprefix("conv").replace("_", ".") for name in names])
axis.set(ylim=(0, 1), xlabel="convolution", ylabel="share of values above 0", title="How much of a layer is active?")
axis.legend()
figures.show(
    figure,
    "Share of active values against depth: both the trained and the random networks stay near one half; the trained "
    "one ends at 37 per cent.",
)
print("trained", " ".join(f"{value:4.0%}" for value in curves[0]))
print("random ", " ".join(f"{value:4.0%}" for value in curves[1:].mean(0)))

# %% [markdown]
# About half of the values are positive at nearly every layer, with trained weights and with random ones: filters
# are about as often for something as against it. So most of the zeros that one sees are no achievement of training.
# Two late layers are clearly sparser than chance has it: `conv4_3` (41 % against 49 %) and the last (37 % against
# 52 %).

# %% [markdown]
# ## Thirteen layers without a ReLU are one layer
#
# Way (i) draws its thirteen panels as if they were thirteen steps of understanding. Test that. A convolution with
# bias is an affine map, and affine maps in a row are one affine map. If so, for any two pictures $a$ and $b$,
#
# $$f(a + b) - f(b) = f(a) - f(0),$$
#
# and away from the frame the whole chain must be *one* convolution, with a filter of 27 × 27 (each 3 × 3 adds 2).
# Its weights are what a single bright pixel leaves behind. Both are checked in double precision.

# %%
import copy

exact = copy.deepcopy(network.features).double()


def f(x, kinds=(nn.Conv2d,)):
    return chain(exact, x, kinds)[-1]


generator = torch.Generator().manual_seed(0)
a, b = (torch.randn(1, 3, 40, 40, dtype=torch.double, generator=generator) for _ in range(2))
zero = torch.zeros_like(a)
for way, kinds in ways.items():
    left, right = f(a + b, kinds) - f(b, kinds), f(a, kinds) - f(zero, kinds)
    print(f"{way:24s} affine: {torch.allclose(left, right, rtol=1e-9, atol=1e-9 * float(right.abs().max()))}")

pixels = torch.zeros(3, 3, 79, 79, dtype=torch.double)
for c in range(3):
    pixels[c, c, 39, 39] = 1  # one bright pixel in red, in green, in blue
left_behind = f(pixels) - f(torch.zeros_like(pixels))
one_filter = left_behind[:, :, 26:53, 26:53].flip(2, 3).transpose(0, 1)  # (channels, 3, 27, 27)

x = torch.randn(1, 3, 79, 79, dtype=torch.double, generator=generator)
offset = f(torch.zeros_like(x))[:, :, 39:40, 39:40]  # what the biases give
in_one_go = F.conv2d(x, one_filter) + offset
inside = f(x)[:, :, 13:-13, 13:-13]
middle = slice(13, -13)  # where no window of any layer touches the frame
assert torch.allclose(in_one_go[:, :, middle, middle], inside[:, :, middle, middle], rtol=1e-8)
print(f"thirteen convolutions = one convolution with a filter of {one_filter.shape[2]} × {one_filter.shape[3]}")

# %%
import cv2

strongest = one_filter.flatten(1).norm(dim=1).topk(6).indices.tolist()
panels = []
for k in strongest:
    share = one_filter[k] / one_filter[k].abs().max()
    panels.append(((share + 1) * 127.5).round().byte().permute(1, 2, 0).numpy())
figure = figures.strip(panels, [f"channel {k}" for k in strongest], panel=1.9)
figures.show(figure, "Six filters of 27 × 27 pixels: soft coloured waves around the middle on grey.")

# %% [markdown]
# Thirteen layers, and all of their 230 000 weights, do no more here than one layer of 27 × 27 filters, whose six
# strongest are these (grey is 0; each on its own scale). They are ripples in colour: each takes one side of a
# place from the other. So it is no wonder that row (i) looked like embossed edges from beginning to end. One ReLU
# or one pooling between the layers breaks the identity, and depth begins to count.

# %% [markdown]
# ## What pooling shrinks
#
# A pooling halves the map. What that buys is sight: behind it, neighbouring cells lie twice as far apart in the
# picture, so that each further 3 × 3 convolution adds twice as many pixels to what a cell can see. A window of $k$
# cells that lie $j$ pixels apart, moved $s$ cells at a time, turns a **receptive field** of $r$ pixels into
#
# $$r' = r + (k - 1)\, j, \qquad j' = j\, s .$$
#
# (Araujo, Norris, Sim 2019.) How much of the picture does one cell see at each depth, with pooling and without?

# %%
without = nn.Sequential(*(layer for layer in network.features if isinstance(layer, nn.Conv2d)))
with_pooling = {name: receptive_field(network, layer, 96) for name, layer in names.items()}
alone = {name: receptive_field(without, str(i), 32) for i, name in enumerate(names)}

figure, axis = figures.new(width=9.0, height=4.2)
axis.plot(depth, [field.size for field in with_pooling.values()], "o-", color=figures.BLUE, label="VGG16's layers")
axis.plot(depth, [field.size for field in alone.values()], "s--", color=figures.ORANGE, label="convolutions alone")
axis.axhline(96, color=figures.GREY, linestyle=":", label="the whole scene, 96 pixels")
for pool in (2.5, 4.5, 7.5, 10.5):
    axis.axvline(pool, color="#CFCFCF", linewidth=1)
axis.set_xticks(depth, [name.removeprefix("conv").replace("_", ".") for name in names])
axis.set(xlabel="convolution (vertical lines: poolings)", ylabel="pixels", title="Side of what one cell can see")
axis.legend()
figures.show(
    figure,
    "Side of the receptive field against depth: with pooling it bends upwards from 3 to 196 pixels, steeper behind "
    "each pooling; without pooling it is a straight line from 3 to 27.",
)
for name in ("conv1_1", "conv2_2", "conv3_3", "conv4_3", "conv5_3"):
    print(
        f"{name}: a cell sees {with_pooling[name].size:3d} px; neighbours are {with_pooling[name].stride:2d} px apart"
    )
with torch.device("meta"):  # shapes without numbers: no weights are needed for this
    for name, layer in (("vgg16", "features.28"), ("resnet18", "layer4")):
        print(f"torchvision's {name}, {layer}: {receptive_field(zoo.load(name, weights=None), layer).size} px")

# %% [markdown]
# Without pooling each layer adds two pixels, 27 in the end. With it, steps double behind each pooling: 196 pixels,
# as the literature has it for VGG16, since the width of a network does not matter here. From block 5 on, a cell can
# see more than the whole scene of 96 pixels; the rest of its window lies on the frame of zeros. In way (i) the last
# filters, made to look at the whole scene, were given 27 pixels.
#
# ## A proof, and how much of it is used
#
# The formula can be proved: whatever a cell can see has a gradient. On a copy of the network in which nothing
# cancels and nothing is closed (all weights 0.1, poolings that take the mean), is the gradient of the middle cell
# nonzero exactly in the computed square?

# %%
checked = ("conv2_2", "conv3_3", "conv4_3", "conv5_3")
positive = lesson.all_positive(network)
squares = {}
for name in checked:
    start, end = squares[name] = lesson.seen_square(network, names[name], 224)
    gradient = lesson.cell_gradient(positive, torch.ones(1, 3, 224, 224), names[name])[0]
    reached = gradient > 0
    expected = torch.zeros_like(reached)
    expected[start:end, start:end] = True
    assert torch.equal(reached, expected)
    print(f"{name}: gradient on rows and columns {start} to {end - 1}, {end - start} of them, and nowhere else")

# %% [markdown]
# Exactly. But "can see" is not "looks at". For the *trained* network, take the mean absolute gradient of the middle
# cell over sixteen scenes (Luo et al. 2016 call where it lies the **effective receptive field**). How much of the
# square does it fill?

# %%
sixteen = at_224([cv2.resize(s.image, (224, 224), interpolation=cv2.INTER_CUBIC) for s in scenes_200[:16]])
colours = (figures.SKY, figures.PINK, figures.ORANGE, figures.VERMILLION)
figure, axes = figures.new(1, 1 + len(checked), width=12.4, height=2.9)
figures.picture(axes[0], edges, "what a cell can see")
holding = {}
for axis, name, colour in zip(axes[1:], checked, colours, strict=True):
    start, end = squares[name]
    figures.outline(axes[0], (start, start, end, end), colour)
    mass = lesson.cell_gradient(network, sixteen, names[name]).mean(0)
    holding[name] = lesson.side_holding(mass, (start, end))
    figures.picture(axis, mass[start:end, start:end].numpy(), f"{name}: {end - start} px", cmap="inferno", vmin=0)
    margin = (end - start - holding[name]) // 2
    figures.outline(axis, (margin, margin, margin + holding[name], margin + holding[name]), colour)
figures.show(
    figure,
    "The edges picture with four squares around its middle, and four square maps of the mean gradient, bright in the "
    "middle and dark towards the corners, each with a smaller square that holds nine tenths of it.",
)
for name in checked:
    side = squares[name][1] - squares[name][0]
    print(f"{name}: sees {side:3d} px; 90 % of the gradient lies in the middle {holding[name]:3d} px, "
          f"{(holding[name] / side) ** 2:.0%} of the area")  # fmt: skip

# %% [markdown]
# (Each panel is one square on the left, enlarged, on its own scale; the inner box holds 90 % of the gradient.) The
# deeper, the smaller the share that is used: at `conv5_3`, 90 % of the gradient lies in the middle 33 % of the
# area. There are many paths from the middle of the square to the cell, and very few from its corners. Luo et al.
# show that for random weights the mass approaches a Gaussian, whose width grows as the square root of depth, while
# what a cell can see grows linearly. So a receptive field is a limit on what a cell looks at, not a description of
# it.

# %% [markdown]
# ## Edges that live and die with depth
#
# The panels of the three ways suggest a story: early layers find edges, later ones lose them. Measure it. For each
# layer, take mean |activation| over its channels and correlate it, cell by cell, with Sobel's edge picture (which
# knows nothing of networks), averaged down to the layer's cells. Forty scenes. Two yardsticks: three networks with
# random weights, and the edges of *another* scene. **Predict:** by how much will the trained network beat the
# random ones in its first layers?

# %%
sobel = torch.stack([lesson.sobel(s.image) for s in scenes_200[:40]])


def likeness(maps, edges):
    return [float(lesson.edge_likeness(maps[name], edges).mean()) for name in names]


curves = {"trained": likeness(forty, sobel), "another scene's edges": likeness(forty, sobel.roll(1, 0))}
of_random = np.array([likeness(maps, sobel) for maps in random_ones])

figure, axis = figures.new(width=9.0, height=4.2)
axis.plot(depth, curves["trained"], "o-", color=figures.BLUE, label="trained")
axis.plot(depth, of_random.mean(0), "s--", color=figures.ORANGE, label="random weights (three, mean and range)")
axis.fill_between(depth, of_random.min(0), of_random.max(0), color=figures.ORANGE, alpha=0.2, linewidth=0)
axis.plot(depth, curves["another scene's edges"], "^:", color=figures.GREY, label="trained, another scene's edges")
axis.set_xticks(depth, [name.removeprefix("conv").replace("_", ".") for name in names])
axis.set(ylim=(-0.15, 1), xlabel="convolution", ylabel="correlation with Sobel's edges", title="Is it an edge picture?")
axis.legend(loc="upper left")
figures.show(figure, "Correlation of the layers with an edge picture against depth, for trained and random weights.")
print("trained      ", " ".join(f"{v:5.2f}" for v in curves["trained"]))
print("random       ", " ".join(f"{v:5.2f}" for v in of_random.mean(0)))
print("another scene", " ".join(f"{v:5.2f}" for v in curves["another scene's edges"]))

# %% [markdown]
# In the first two blocks training shows: 0.26 to 0.56, where random filters have 0.03 to 0.30. From `conv3_2` on
# the random networks are as good an edge detector, and from `conv4_1` to `conv5_2` a better one. Hardly anything is
# learnt there about edges: with cells of 4 pixels and more, any filters at all answer most where most is going on.
# The trained network has by then something else to tell.
#
# The third curve is why a number alone says little: it compares each scene with the edges of *another* one, and
# rises to 0.38 at the end, because objects stand near the middle and 6 × 6 cells cannot tell more. (The mean over
# channels is only one summary, and activations behind the ReLU only one choice: the order of the curves in block 1
# and 2 is the same before it.)

# %% [markdown]
# ## Which channel answers to what?
#
# One picture says what a channel does *here*. What it answers to in general shows in the pictures that excite it
# most. Of 200 unseen scenes, take the five with the largest activation anywhere, for four channels of `conv5_3`.
# The four are not hand-picked: they are the most selective one, two in the middle of the ranking, and the least
# selective one. **Selectivity** is $(m - r) / (m + r)$, with $m$ a channel's mean activation on its best class and
# $r$ that on all other scenes (Morcos et al. 2018): 0 for no preference, 1 for a channel that answers to nothing
# else.

# %%
last = trained["conv5_3"]
dead = lesson.dead_channels(last)
alive = [k for k in range(last.shape[1]) if k not in dead.tolist()]
index, best = lesson.selectivity(last, labels), lesson.best_class(last, labels)
ranked = sorted(alive, key=lambda k: -float(index[k]))
chosen = [ranked[0], ranked[len(ranked) // 3], ranked[2 * len(ranked) // 3], ranked[-1]]

figure, axes = figures.new(4, 5, width=8.6, height=7.6)
for row, k in zip(axes, chosen, strict=True):
    peak, top = last[:, k].amax((1, 2)).topk(5)
    for axis, value, i in zip(row, peak, top.tolist(), strict=True):
        figures.picture(axis, scenes_200[i].image, f"{scenes.CLASSES[labels[i]]}: {value:.2f}")
        axis.title.set_fontsize(10.5)
    text = f"channel {k}\nselectivity {index[k]:.2f}"
    row[0].text(-0.1, 0.5, text, transform=row[0].transAxes, rotation=90, ha="right", va="center", fontsize=10.5)
figures.show(figure, "Four rows of five scenes that excite four channels most.", pixels=figures.SCREEN)
for k in chosen:
    top = last[:, k].amax((1, 2)).topk(5).indices.tolist()
    same = sum(labels[i] == int(best[k]) for i in top)
    print(f"channel {k:2d}: best class {scenes.CLASSES[best[k]]:9s} ({same} of the five), selectivity {index[k]:.2f}")
print(f"dead channels (0 everywhere, in all 200 scenes): {len(dead)} of {last.shape[1]}")

# %% [markdown]
# Each row holds one class, in many colours and before many grounds, which is what made people speak of *detectors*.
# The last row is a warning: channel 48 has its five highest peaks at birds, but answers most *on
# average* to cars. Five top pictures show the tip of a channel's answers. All the others, with half-strong answers,
# are not in the figure.
#
# Is that preference built up with depth? Two yardsticks again: random weights, and the trained network with the
# labels shuffled, which shows what the index gives where there is nothing to find (with 200 scenes it is never 0).

# %%
shuffled = np.random.default_rng(0).permutation(labels).tolist()
random_200 = lesson.activations(lesson.untrained(network), batch_200)


def median_selectivity(maps, labels):
    return [float(lesson.selectivity(a, labels)[a.amax((0, 2, 3)) > 0].median()) for a in maps.values()]


curves = {"trained": median_selectivity(trained, labels), "random weights": median_selectivity(random_200, labels)}
curves["trained, labels shuffled"] = median_selectivity(trained, shuffled)
figure, axis = figures.new(width=9.0, height=3.9)
for (name, values), colour, marker in zip(curves.items(), (figures.BLUE, figures.ORANGE, figures.GREY),
                                          ("o-", "s--", "^:"), strict=True):  # fmt: skip
    axis.plot(depth, values, marker, color=colour, label=name)
axis.set_xticks(depth, [name.removeprefix("conv").replace("_", ".") for name in names])
axis.set(ylim=(0, 1), xlabel="convolution", ylabel="selectivity (median)", title="When do channels care about classes?")
axis.legend()
figures.show(
    figure, "Median selectivity for classes against depth, for trained and random weights and shuffled labels."
)
for name, values in curves.items():
    print(f"{name:24s}", " ".join(f"{value:.2f}" for value in values))
print("channels that are 0 in all 200 scenes, by layer:", [len(lesson.dead_channels(a)) for a in trained.values()])

# %% [markdown]
# It is built up, and late: for nine layers the median stays between 0.13 and 0.22, where shuffled labels give 0.04
# to 0.13, and then climbs to 0.67. So here is the answer to what the late layers do while the edges die: they sort
# by class. (Morcos et al. found, published, that highly selective channels are *not* those a network needs most;
# selectivity is no measure of importance.) No channel of any layer is dead over all 200 scenes.

# %% [markdown]
# ## Where looking misleads
#
# One layer, one scene, three contact sheets. On the left the customary one: what the convolution puts out, each
# panel stretched by itself. In the middle behind the ReLU, which is what the next layer gets, still stretched. On
# the right the same with one scale for all. **Predict:** how many of the panels on the left are of channels that
# are *switched off* in this scene?

# %%
silent = (last.amax((2, 3)) <= 0).sum(1)  # of the 64 channels, in each scene
quiet = int(silent.argmax())
one = batch_200[quiet : quiet + 1]
before, behind = (lesson.activations(network, one, kind)["conv5_3"][0] for kind in (nn.Conv2d, nn.ReLU))

figure, axes = figures.new(1, 4, width=12.6, height=3.6, width_ratios=[0.85, 1, 1, 1.08])
figures.picture(axes[0], scenes_200[quiet].image, f"a {scenes.CLASSES[labels[quiet]]}")
lesson.contact_sheet(axes[1], before, "before the ReLU, each stretched", shared=False)
lesson.contact_sheet(axes[2], behind, "behind it, each stretched", shared=False)
lesson.contact_sheet(axes[3], behind, "behind it, one scale")
figures.colour_bar(figure, axes[3], "activation")
figures.show(
    figure,
    "A scene and three sheets of the 64 maps of conv5_3: lively everywhere; more than a third of the panels black; a "
    "few bright spots on black.",
)
peaks = behind.amax((1, 2))
print(f"{int((peaks <= 0).sum())} of {len(peaks)} channels are 0 everywhere in this scene; on average over 200 scenes "
      f"{silent.float().mean():.1f}")  # fmt: skip
print(f"of the other {int((peaks > 0).sum())}, {int((peaks < peaks.max() / 4).sum() - (peaks <= 0).sum())} never reach "
      "a quarter of the strongest one's peak")  # fmt: skip

# %% [markdown]
# On the left all 64 panels are full of life, and 24 of them belong to channels that hand on *nothing*: their values
# are below 0 everywhere, and stretching makes a landscape out of any differences. Behind the ReLU they are black.
# Still, the stretched sheet in the middle makes equals of channels that are not: of the 40 that are left, 24 never
# reach a quarter of the strongest one's peak. Only the sheet on the right shows what the next layer gets. So: maps
# from behind the ReLU, one scale, and the colour bar beside them.
#
# The third trap is the choice. From the 32 channels of `conv3_1`, take the one that looks most like Sobel's picture
# of the photograph. How good is the best of 32, in the trained network and in three that have learnt nothing?

# %%
sobel_photo = lesson.sobel(photo)[None]
panels = {"Sobel": sobel_photo[0]}
for name, each in {"trained": network, **{f"random {s}": lesson.untrained(network, s) for s in range(3)}}.items():
    a = lesson.activations(each, at_224(photo))["conv3_1"][0]
    small = F.adaptive_avg_pool2d(sobel_photo, a.shape[-2:])
    likeness_of = lesson.correlation(a, small.expand_as(a))
    k = int(likeness_of.argmax())
    panels[f"{name}: {likeness_of[k]:.2f}"] = a[k]
    print(f"{name}: channel {k} of {len(a)}, correlation {likeness_of[k]:.2f}; "
          f"the median channel {likeness_of.median():.2f}")  # fmt: skip
panels = {title: images.heatmap(images.normalise(each), "gray") for title, each in panels.items()}
panels["Sobel"] = cv2.resize(panels["Sobel"], (56, 56), interpolation=cv2.INTER_AREA)
figures.show(
    figures.strip(
        [cv2.resize(photo, (56, 56), interpolation=cv2.INTER_AREA), *panels.values()],
        ["photograph", *panels],
        panel=2.05,
    ),
    "The cat at 56 × 56 pixels, its Sobel picture, and the best channel of conv3_1 of the trained and of three random "
    "networks: the cat's eyes and whiskers can be made out in all of them.",
)

# %% [markdown]
# A handsome "edge detector" can be found in each of them: 0.62 with training, 0.54 to 0.58 without. The median
# channel says how typical they are: 0.06 to 0.32. A hand-picked channel shows that such a channel exists, and
# nothing about learning. Show the sheet, or say by which rule you chose, and do the same with random weights.
#
# ## Explorer
#
# One picture of the explorer first, then the controls. Follow one picture down the layers; then look at one layer
# with both scales.

# %%
figures.show(
    lesson.draw_layer(network, scene.image, "conv3_3", 3),
    "The explorer's picture: a scene with the square that one cell sees, one channel of conv3_3, and all 32 channels.",
)

# %%
pictures = {scenes.CLASSES[s.labels[0]] + f" {i}": s.image for i, s in enumerate(scenes_200[:10])}
pictures |= {"edges": edges, "photograph": photo, "coffee": lesson.photograph("coffee")}
lesson.layer_explorer(network, pictures)

# %% [markdown]
# ## Exercises
#
# Write into the cell, run it, read what `check` says.

# %% [markdown]
# ### 06.1 Max pooling
# *Difficulty 2 of 5, about 8 minutes.* Given a map `a` (rows, columns), return its max pooling with square windows of
# side `size` that begin `stride` cells apart. Only windows that lie wholly on the map count; `size` and `stride`
# may differ, and values may be negative. No function of torch's for pooling.
#
# <details><summary>Hint</summary>
#
# Along an axis of $n$ cells, `(n - size) // stride + 1` windows fit.
# </details>

# %% tags=["exercise"]
from xailab.lessons import check


def my_pool(a, size, stride):
    return ...


check("06.1", my_pool)

# %% tags=["solution"]
from xailab.lessons import check


def my_pool(a, size, stride):
    rows, columns = ((side - size) // stride + 1 for side in a.shape)
    pooled = torch.zeros(rows, columns)
    for y in range(rows):
        for x in range(columns):
            top, left = y * stride, x * stride
            pooled[y, x] = a[top : top + size, left : left + size].max()
    return pooled


check("06.1", my_pool)

# %% [markdown]
# ### 06.2 How far does it see?
# *Difficulty 2 of 5, about 8 minutes.* `layers` lists (kernel, stride) of a stack, from the picture upwards, such as
# `[(3, 1), (2, 2), (3, 1)]`. Return how many pixels of a row one cell of the last layer can see.
#
# <details><summary>Hint</summary>
#
# Keep two numbers: what a cell sees (1 at first), and how far apart neighbouring cells lie (1 at first).
# </details>


# %% tags=["exercise"]
def my_field(layers):
    return ...


check("06.2", my_field)


# %% tags=["solution"]
def my_field(layers):
    size, distance = 1, 1
    for kernel, stride in layers:
        size += (kernel - 1) * distance
        distance *= stride
    return size


check("06.2", my_field)

# %% [markdown]
# ### 06.3 Dead channels
# *Difficulty 2 of 5, about 7 minutes.* `z` (pictures, channels, rows, columns) comes from *before* a ReLU. Return the
# list of the channels that are dead: behind the ReLU, 0 at every place of every picture.
#
# <details><summary>Hint</summary>
#
# `z.amax((0, 2, 3))` is the largest value of each channel; `.nonzero().flatten().tolist()` turns a mask into
# numbers.
# </details>


# %% tags=["exercise"]
def my_dead(z):
    return ...


check("06.3", my_dead)


# %% tags=["solution"]
def my_dead(z):
    return (z.amax((0, 2, 3)) <= 0).nonzero().flatten().tolist()


check("06.3", my_dead)

# %% [markdown]
# ### 06.4 Which filter made this map?
# *Difficulty 4 of 5, about 12 minutes.* Someone kept a picture (rows, columns), six filters (6, 3, 3) and one map,
# but not which filter it came from. The map is $c \cdot \max(z, 0)$, with $z$ the filter's answer (no bias, no
# padding) and $c$ an unknown positive number. Return the filter's number. Among the six are negatives and mirror
# images of each other.
#
# <details><summary>Hint 1</summary>
#
# `F.conv2d(image[None, None], filters[:, None])[0]` gives all six answers at once.
# </details>
# <details><summary>Hint 2</summary>
#
# Two maps that differ only in $c$ become equal when each is divided by its length, `.norm()`.
# </details>


# %% tags=["exercise"]
def my_filter(image, filters, feature_map):
    return ...


check("06.4", my_filter)


# %% tags=["solution"]
def my_filter(image, filters, feature_map):
    answers = F.conv2d(image[None, None], filters[:, None])[0].relu().flatten(1)
    answers = answers / answers.norm(dim=1, keepdim=True).clamp(min=1e-9)
    return int((answers @ feature_map.flatten()).argmax())


check("06.4", my_filter)

# %% [markdown]
# ## On real data
#
# Now a network that saw a million photographs. What does its first layer ask for, and what becomes of a cat on the
# way up? First all filters of the first layer; then the first 36 channels of five layers, behind their ReLUs, with one
# scale for each sheet (a few seconds). The titles say how much of the picture's 224 pixels one cell sees. Where can you
# still find the cat's eyes, and what are the channels like where you cannot?

# %%
import numpy as np
import torch
from torch import nn

from xailab import figures
from xailab.feature_maps import chain, feature_maps, filters
from xailab.lessons import feature_maps as lesson
from xailab.lessons import real
from xailab.models import zoo
from xailab.receptive_field import receptive_field

if name := real.weights("vgg16", "squeezenet1_0"):
    network = zoo.load(name)
    tiles = filters(network)
    title = f"{name}: {len(tiles)} filters of {tiles.shape[1]} × {tiles.shape[2]} pixels; grey is 0, one scale for all"
    figures.show(
        figures.grid(tiles, columns=16, title=title, panel=0.7),
        "The filters of the first layer as small coloured tiles on grey, in rows of sixteen.",
    )

    cat = network.preprocess(real.photographs()[0])
    maps = feature_maps(network.features, cat, nn.ReLU)
    wide = [(k, layer) for k, layer in enumerate(maps, 1) if maps[layer].shape[1] >= 36]
    figure, axes = figures.new(2, 3, width=12.5, height=8.4)
    figures.picture(axes[0, 0], network.preprocess.undo(cat)[0], "what the network sees")
    for axis, i in zip(axes.flat[1:], np.linspace(0, len(wide) - 1, 5).astype(int), strict=True):
        k, layer = wide[i]
        shown, side = maps[layer][0, :36], maps[layer].shape[-1]
        size = receptive_field(network.features, layer).size
        title = f"ReLU {k} of {len(maps)}: {side} × {side} cells,\neach sees {size} pixels"
        lesson.contact_sheet(axis, shown.clamp(max=float(shown.quantile(0.995))), title, columns=6)
        figures.colour_bar(figure, axis, "activation, strongest 0.5 % clipped")
    figures.show(figure, "A photograph of a cat, and five sheets of 36 maps each, from the first layer to the last.")

# %% [markdown]
# VGG16 itself is what the three ways of taking apart were made for. Without its ReLUs or its poolings, does it still
# know the cat? (At 112 pixels, which takes half a minute; the last line is VGG16's own answer.) Below the strips is
# `conv3_3` at the full 224 pixels.

# %%
from dataclasses import replace

if name := real.weights("vgg16"):
    network = zoo.load(name)
    photo = real.photographs()[0]
    small = replace(network.preprocess, resize=112, crop=112)
    ways = {
        "(i) convolutions alone": (nn.Conv2d,),
        "(ii) with ReLU": (nn.Conv2d, nn.ReLU),
        "(iii) with max pooling": (nn.Conv2d, nn.MaxPool2d),
        "all": (nn.Conv2d, nn.ReLU, nn.MaxPool2d),
    }
    rows = {}
    for way, kinds in ways.items():
        outputs = chain(network.features, small(photo), kinds)
        layers = [layer for layer in network.features if isinstance(layer, kinds)]
        last = nn.ReLU if nn.ReLU in kinds else nn.Conv2d  # a convolution's map is drawn behind its ReLU
        rows[way] = [x[0].mean(0) for layer, x in zip(layers, outputs, strict=True) if isinstance(layer, last)]
        with torch.no_grad():
            scores = network.classifier(network.avgpool(outputs[-1]).flatten(1))[0]
        print(f"{way:24s} {network.classes[scores.argmax()]}")
    figures.show(
        lesson.chain_strips(small.frame(photo), rows, (1, 2, 4, 7, 10, 13)),
        "The photograph of the cat, and four rows of grey maps after 1, 2, 4, 7, 10 and 13 convolutions.",
    )
    figures.show(lesson.draw_layer(network, photo, "conv3_3"), "The cat, one channel of conv3_3, and all 256 channels.")

# %% [markdown]
# ## Summary
#
# - A feature map is a filter's answer at each place; before the ReLU and behind it are two different pictures.
# - Convolutions alone are one affine map: thirteen layers equal one filter of 27 × 27. ReLU and pooling make depth
#   count, and without either this network guesses.
# - ReLU does not darken values: it makes 0 the smallest one. About half of all values are 0, trained or not.
# - Pooling shrinks maps and widens sight: $r' = r + (k - 1) j$. What a cell looks at lies in the middle of what it
#   can see.
# - Early layers learn edges; in the middle a random network has them too; late layers learn classes.
# - Draw from behind the ReLU, with one scale; say how you chose a channel; compare with random weights.
#
# ## References
#
# - M. D. Zeiler, R. Fergus, *Visualizing and Understanding Convolutional Networks*, 2013 (ECCV 2014), arXiv
#   1311.2901 (what excites a channel most).
# - K. Simonyan, A. Zisserman, *Very Deep Convolutional Networks for Large-Scale Image Recognition*, 2014 (ICLR
#   2015), arXiv 1409.1556 (VGG16 is column D of table 1).
# - W. Luo, Y. Li, R. Urtasun, R. Zemel, *Understanding the Effective Receptive Field in Deep Convolutional Neural
#   Networks*, NeurIPS 2016, arXiv 1701.04128.
# - A. Araujo, W. Norris, J. Sim, *Computing Receptive Fields of Convolutional Neural Networks*, Distill 2019.
# - A. Morcos, D. Barrett, N. Rabinowitz, M. Botvinick, *On the importance of single directions for generalization*,
#   ICLR 2018, arXiv 1803.06959 (the selectivity index).
#
# Next: [07 · ProtoPNet](07_protopnet.ipynb)
