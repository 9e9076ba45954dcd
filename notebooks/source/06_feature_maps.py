# %% [markdown]
# # 06 · Feature maps
#
# **About {reading} minutes to read, {exercises} for the exercises · 2 GiB of memory · no GPU, no network needed**
#
# The oldest way to look into a network is to draw what a layer puts out. It is easy, and it misleads in three ways.
#
# **Afterwards you can**
# - get the maps of any PyTorch network with a hook, and leave no trace on the network,
# - say what convolution, ReLU and pooling contribute,
# - compute what a cell can see, and measure how much of that it uses,
# - draw a contact sheet that does not deceive.
#
# **You need** to know what a convolution is. No other lesson is needed.
#
# **Contents:** [The idea](#The-idea) · [By hand](#By-hand) · [In plain PyTorch](#In-plain-PyTorch,-on-a-photograph) ·
# [The library](#The-library) · [Three ways](#Three-ways-to-take-a-network-apart) · [What a cell
# sees](#What-a-cell-sees,-and-what-it-uses) · [Edges and depth](#Edges-and-depth) · [Where looking
# misleads](#Where-looking-misleads) · [Explorer](#Explorer) · [Exercises](#Exercises) · [Self-test](#Self-test) ·
# [On real data](#On-real-data) · [Summary](#Summary)
#
# [← 05 · Saliency](05_saliency.ipynb) · [07 · ProtoPNet →](07_protopnet.ipynb) ·
# [what goes beyond: 06 deeper](deeper/06_feature_maps.ipynb)

# %% [markdown]
# ## The idea
#
# Channel $k$ of a convolution slides its own small filter over all maps $a_j$ of the layer before it, and adds up. A
# ReLU then cuts off what is negative:
#
# $$z_k(x, y) = b_k + \sum_j \sum_{u, v} w_{kj}(u, v)\; a_j(x + u, y + v), \qquad a'_k = \max(z_k, 0) .$$
#
# Both $z_k$ and $a'_k$ are called **feature maps**; lessons 02 and 03 call the last of them $f_k$. A max pooling keeps
# the largest of each 2 × 2 values. The convolutional part of VGG16 ([Simonyan and Zisserman
# 2014](https://arxiv.org/abs/1409.1556)) is built of these three kinds of layers alone.

# %%
import torch
import torch.nn.functional as F
from torch import nn

from xailab import figures
from xailab.datasets import photographs
from xailab.lessons import feature_maps as lesson

temple = photographs.middle(photographs.photograph("temple").image, 224, 224)
figures.show(
    lesson.draw_idea(temple), "A temple, a filter, its map, after the ReLU, after the pooling; VGG16's layers as bars."
)

# %% [markdown]
# (Photograph: danielbuechele, CC BY 2.0.) A public walk-through of VGG16 (blog "coding art", 2022) dates the network to
# 2013 and counts three poolings. The paper is of 2014, and its network has five.
#
# **Predict before you run.** Take all ReLUs and poolings out. What is left of thirteen convolutions?

# %% [markdown]
# *Your prediction (double-click here and write):* …

# %% [markdown]
# ## By hand
#
# A dark picture with a bright bar, and a filter that subtracts the left neighbours from the right ones.

# %%
a = torch.zeros(6, 6)
a[:4, 2:4] = 1  # the bright bar
w = torch.tensor([[-1.0, 0, 1], [-1, 0, 1], [-1, 0, 1]])


def convolve(a, w):
    z = torch.zeros(a.shape[0] - 2, a.shape[1] - 2)
    for y in range(z.shape[0]):
        for x in range(z.shape[1]):
            z[y, x] = (w * a[y : y + 3, x : x + 3]).sum()
    return z


z = convolve(a, w)
rectified = z.clamp(min=0)
pooled = F.max_pool2d(rectified[None], 2)[0]  # exercise 06.1 writes it by hand
assert torch.equal(z, F.conv2d(a[None, None], w[None, None])[0, 0])
steps = {"picture a": a, "filter w": w, "map z": z, "max(z, 0)": rectified, "max pooling": pooled}
figures.show(
    lesson.draw_steps(steps, [(0, 0, 3, 3), (), (0, 0, 1, 1), (0, 2, 2, 4), (0, 1, 1, 2)]),
    "Numbers: a bar of ones; the filter; its map, + at the left edge and − at the right; without the −; a 2 × 2 summary.",
)

# %% [markdown]
# The filter answers to the edge from dark to bright with +, and to the other edge with −. After the ReLU, the channel
# detects *one* kind of edge. The pooling keeps that there was such an edge, and forgets on which side of the box.
#
# Mathematicians write $a(x - u, y - v)$ in a convolution. Networks write $+$, which is a *correlation*. The difference
# shows when the picture is one bright pixel: the filter comes out mirrored.

# %%
pixel = torch.zeros(5, 5)
pixel[2, 2] = 1
print("filter    ", [[1, 2, 3], [4, 5, 6], [7, 8, 9]])
print("its answer", convolve(pixel, torch.arange(1.0, 10).view(3, 3)).int().tolist())

# %% [markdown]
# A trained network does not mind. We do, whenever we read a filter from an answer: `flip` turns it back.

# %% [markdown]
# ## In plain PyTorch, on a photograph
#
# A *forward hook* is a function that PyTorch calls whenever a layer has run. We register one hook for each layer, run
# the network once, and remove the hooks. The network is EfficientNet-Lite0, trained on ImageNet.

# %%
from xailab.models import zoo

network = zoo.load("efficientnet_lite0")
batch = network.preprocess(photographs.photograph("temple").image)


def maps_with_hooks(network, layers, batch):
    kept, handles = {}, []
    for name in layers:

        def keep(module, inputs, output, name=name):  # each hook remembers its own name
            kept[name] = output.clone()  # a layer that works in place would change the original

        handles.append(network.get_submodule(name).register_forward_hook(keep))
    with torch.no_grad():
        network(batch)
    for handle in handles:
        handle.remove()
    return kept


layers = ["relu0", "block3.relu1", "block6.relu1", "block12.relu1", "relu1"]
kept = maps_with_hooks(network, layers, batch)
print("hooks left on the network:", sum(len(layer._forward_hooks) for layer in network.modules()))
figures.show(
    lesson.draw_sheets(network.preprocess.undo(batch)[0], {name: maps[0] for name, maps in kept.items()}),
    "The temple, and five sheets of up to 36 maps: early maps draw it in fine lines, later ones are coarse, the last mostly dark.",
)

# %% [markdown]
# (The first 36 channels after each ReLU, on one scale for each sheet.) The maps become smaller and more numerous: the
# network gives up *where* to find room for *what*.
#
# Two mistakes are common. A hook that nobody removes runs in every later call and keeps the maps in memory. Without
# `name=name`, all hooks read the same variable when they run, and the last name alone is kept.

# %% [markdown]
# ## The library
#
# `feature_maps` does the same for all layers of a kind. It removes its hooks also if the network stops with an error.

# %%
from xailab.feature_maps import chain, feature_maps

recorded = feature_maps(network, batch, nn.ReLU6)
assert all(torch.equal(recorded[name], kept[name]) for name in layers)
print(f"equal to the maps of our hooks, and {len(recorded)} layers in all")

# %% [markdown]
# ## Three ways to take a network apart
#
# A [tutorial](https://androidkt.com/how-to-visualize-feature-maps-in-convolutional-neural-networks-using-pytorch/)
# applies VGG16's convolutions alone, one after another. The walk-through named above tries three selections: (i)
# convolutions alone, (ii) convolutions and ReLUs, (iii) convolutions and poolings.
#
# We do so with `scenes_vgg`: VGG16's layers at an eighth of the width, trained on rendered scenes. The pictures are a
# chart full of edges, and the temple. Each panel is the *mean over all channels*, stretched from black (its smallest
# value) to white (its largest). **Predict:** which way gets darker, and which one smaller?

# %% [markdown]
# *Your prediction:* …

# %%
from dataclasses import replace

small = zoo.load("scenes_vgg")
at_224 = replace(small.preprocess, resize=224)  # a convolution takes any size
edges = lesson.edges_picture()
ways = {"(i) convolutions": (nn.Conv2d,), "(ii) with ReLU": (nn.Conv2d, nn.ReLU)}
ways |= {"(iii) with pooling": (nn.Conv2d, nn.MaxPool2d), "all layers": (nn.Conv2d, nn.ReLU, nn.MaxPool2d)}


def thirteen(picture, kinds):
    """The mean map after each convolution, or after its ReLU where ReLUs take part."""
    layers = [layer for layer in small.features if isinstance(layer, kinds)]
    last = nn.ReLU if nn.ReLU in kinds else nn.Conv2d
    outputs = chain(small.features, at_224(picture), kinds)  # what each layer puts out
    return [x[0].mean(0) for layer, x in zip(layers, outputs, strict=True) if isinstance(layer, last)]


of_edges = {way: thirteen(edges, kinds) for way, kinds in ways.items()}
figures.show(
    lesson.chain_strips(edges, of_edges, (1, 4, 7, 10, 13)),
    "The chart, and four rows of grey maps: shapes stay visible in rows one and two, dark in two; three and four end in blocks.",
    pixels=figures.SCREEN,
)

# %%
from xailab import images

of_temple = {way: thirteen(temple, kinds) for way, kinds in ways.items()}
figures.show(
    lesson.chain_strips(temple, of_temple, (1, 4, 7, 10, 13)),
    "The temple, and four rows of grey maps: it can be made out to the end in rows one and two; three and four end in blocks.",
    pixels=figures.SCREEN,
)
for way in ways:
    for number, m in ((1, of_edges[way][0]), (13, of_edges[way][12])):
        grey = images.normalise(m).mean()
        print(f"chart, {way:18s} {number:2d}: grey {grey:.2f}, {len(m):3d} px, from {m.min():6.1f} to {m.max():5.1f}")

# %% [markdown]
# The walk-through reads such strips as follows. With ReLU the pictures darken. With pooling they shrink and stay as
# bright. The shapes survive, except near the border. So ReLU and pooling matter little for features.
#
# - *They darken.* This is true of the panels: 0.17 instead of 0.49 at the end. It is not true of the values, since a
#   ReLU passes positive values unchanged. Stretching puts black at the smallest value, and with ReLU this is 0. **The
#   darkness shows where zero is.**
# - *They shrink and stay as bright.* This is true.
# - *The shapes survive.* This is true of rows (i) and (ii), here near the border too. But stretching hides that row (i)
#   has grown from ±3 to ±247.
#
# Do ReLU and pooling matter? Looking at pictures cannot decide that; the classifier's accuracy can. **Predict** how many
# of fifty unseen scenes each way names correctly, if the network's own classifier gets its last maps.

# %% [markdown]
# *Your prediction:* …

# %%
import numpy as np

from xailab.datasets import scenes
from xailab.metrics import interval

unseen = [scenes.scene(i, split="test", size=96) for i in range(200)]
pixels, labels = small.preprocess([scene.image for scene in unseen]), [scene.labels[0] for scene in unseen]
for way, kinds in ways.items():
    named = []
    with torch.no_grad():
        for ten in pixels[:50].split(10):
            x = chain(small.features, ten, kinds)[-1]
            named += small.classifier(small.avgpool(x).flatten(1)).argmax(1).tolist()
    right = np.array(named) == labels[:50]
    low, high = interval(right)
    print(f"{way:18s} {right.mean():.2f} named correctly, 95 % interval {low:.2f} to {high:.2f}")

# %% [markdown]
# The three selections are near the level of guessing, 0.10 for ten classes; all layers name every scene. The two clearest
# rows name hardly one. How recognisable a map is for us says little about its use for the network.
#
# Removing layers from a *trained* network shows only that *this* network needs them. Whether a network could do without
# them is another question, and one has to train it without them. The [deeper notebook](deeper/06_feature_maps.ipynb)
# does. For way (i) the limit is known before: **convolutions in a row are one affine map.** For any two pictures,
# $f(a + b) - f(b) = f(a) - f(0)$.

# %%
torch.manual_seed(0)
a, b = torch.randn(2, 1, 3, 40, 40)
for way, kinds in ways.items():
    of_sum, of_a, of_b, of_zero = (chain(small.features, x, kinds)[-1] for x in (a + b, a, b, 0 * a))
    deviation = ((of_sum - of_b) - (of_a - of_zero)).abs().max() / (of_a - of_zero).abs().max()
    print(f"{way:18s} deviation from an affine map: {deviation:.2f}")

# %% [markdown]
# So the thirteen panels of row (i) are no thirteen steps of understanding. Away from the border they are one convolution
# with a filter of 27 × 27, which the deeper notebook draws. ReLU or *max* pooling breaks the identity, and depth begins
# to count. A mean pooling is linear and would not.

# %% [markdown]
# ## What a cell sees, and what it uses
#
# After a pooling, neighbouring cells lie twice as far apart in the picture. Start with a **receptive field** of $r = 1$ pixel and cells that lie
# $j = 1$ pixel apart. A layer with a window of $k$ cells and stride $s$ makes ([Araujo et al.
# 2019](https://distill.pub/2019/computing-receptive-fields/))
#
# $$r' = r + (k - 1)\, j, \qquad j' = j\, s .$$
#
# But "can see" is not "looks at". What a cell uses shows in its absolute gradient with respect to each pixel. Where it
# lies is the **effective receptive field** ([Luo et al. 2016](https://arxiv.org/abs/1701.04128)). It takes six lines.

# %%
import cv2

from xailab.hooks import recording


def effective_field(network, layer, batch):
    batch = batch.clone().requires_grad_()
    with recording(network, layer) as outputs:  # a hook, as above
        network(batch)
    middle = outputs[layer].shape[-1] // 2
    (gradient,) = torch.autograd.grad(outputs[layer][:, :, middle, middle].sum(), batch)
    return gradient.abs().sum(1).mean(0)  # over colours and pictures


sixteen = at_224([cv2.resize(s.image, (224, 224), interpolation=cv2.INTER_CUBIC) for s in unseen[:16]])
names = lesson.convolutions(small)  # the paper's names, conv1_1 ... conv5_3, and torch's
fields, masses, holding = {}, {}, {}
for name in ("conv2_2", "conv3_3", "conv4_3", "conv5_3"):
    start, end = fields[name] = lesson.seen_square(small, names[name], 224)  # by the formula
    masses[name] = effective_field(small, names[name], sixteen)
    side = holding[name] = lesson.side_holding(masses[name], (start, end))
    print(f"{name}: sees {end - start:3d} px; 90 % of the gradient lies in the middle {side:3d} px, "
          f"{(side / (end - start)) ** 2:.2f} of the area")  # fmt: skip
figures.show(
    lesson.draw_fields(edges, masses, fields, holding),
    "The chart with four squares around its middle, and four maps of the gradient, bright in the middle, each with an inner box.",
)

# %% [markdown]
# (Each map is one square of the chart, enlarged; the inner box holds 90 %.) A uniform field would hold 90 % in 0.90 of
# the area. At `conv5_3` it is 0.33: many paths lead from the middle of the square to the cell, and few from its corners.
# A receptive field is a limit on what a cell looks at, not a description of it.

# %% [markdown]
# ## Edges and depth
#
# Textbooks say that early layers find edges. Measure it. For each layer, take the mean |activation| over the channels,
# and correlate it, cell by cell, with *Sobel's* picture of edges. There are 200 scenes and two yardsticks: three
# networks with random weights, and the edges of *another* scene.
#
# **Predict:** at which layer is the trained network most like a picture of edges, and at which least?

# %% [markdown]
# *Your prediction:* …

# %%
across = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]).view(1, 1, 3, 3)
grey = torch.from_numpy(np.stack([images.grey(s.image)[None, ..., 0] for s in unseen])).float()
grey = F.pad(grey, (1, 1, 1, 1), mode="reflect")
sobel = (F.conv2d(grey, across) ** 2 + F.conv2d(grey, across.mT) ** 2).sqrt()  # (200, 1, 96, 96)


def likeness(maps, sobel):  # one correlation for each scene
    cells = F.adaptive_avg_pool2d(sobel, maps.shape[-2:])[:, 0]
    return lesson.correlation(maps.abs().mean(1), cells).numpy()


trained = lesson.activations(small, pixels)  # after the ReLUs, by the paper's names
own = np.stack([likeness(maps, sobel) for maps in trained.values()])  # (13, 200)
other = np.stack([likeness(maps, sobel.roll(1, 0)) for maps in trained.values()])
random, above = np.zeros((2, 3, 13))
for seed in range(3):
    guess = lesson.activations(lesson.untrained(small, seed), pixels).values()
    random[seed] = [likeness(maps, sobel).mean() for maps in guess]
    above[seed] = random[seed] - [likeness(maps, sobel.roll(1, 0)).mean() for maps in guess]
    del guess  # 250 MB
curves = {"trained": own.mean(1), "trained: own minus another scene's edges": (own - other).mean(1)}
curves |= {"random weights (three)": random, "random: own minus another scene's edges": above}
figures.show(
    lesson.draw_depth(curves, list(names), "Is it a picture of edges?", "correlation with Sobel", (-0.1, 1)),
    "Four curves against depth. Trained: 0.26 at the first layer, 0.61 at the last; the difference 0.28 at the last, random 0.1.",
)

# %%
for i in (0, 3, 6, 9, 12):
    low, high = interval(own[i] - other[i])
    print(f"{list(names)[i]}: trained {own[i].mean():.2f}, random {random[:, i].mean():.2f}; own minus another scene's "
          f"trained {(own[i] - other[i]).mean():.2f} ({low:.2f} to {high:.2f}), random {above[:, i].mean():.2f}")  # fmt: skip

# %% [markdown]
# Do the edges die with depth? No: the trained curve is highest at the *last* layer. But more than half of this height
# fits another scene as well, probably because objects stand near the middle. What belongs to the scene itself falls from 0.46 in `conv2_2` to 0.28 in
# the last layer, which is a decline and no death.
#
# Does training make the edge detectors? In the first two blocks the trained curve is higher. Deeper, the random networks have as high a curve:
# any filter answers most where most is going on. But without training, what belongs to the scene falls to 0.10 in the last layer.
#
# Why is the **first layer** the worst of all? Most of its filters do not sum to 0, so they answer to flat ground. We
# take this answer out, and nothing else: from each filter its mean in every colour, and the bias.

# %%
import copy

for name, each in {"trained": small, "random": lesson.untrained(small)}.items():
    changed = copy.deepcopy(each)
    with torch.no_grad():
        changed.features[0].weight -= changed.features[0].weight.mean((2, 3), keepdim=True)
        changed.features[0].bias.zero_()
    before, after = (likeness(lesson.activations(x, pixels)["conv1_1"], sobel).mean() for x in (each, changed))
    print(f"conv1_1, {name:7s}: {before:.2f}, without answers to flat ground {after:.2f}")

# %% [markdown]
# Now the first layer reaches 0.64, with trained *and* with random weights. A picture of edges needs filters that sum
# to 0, and no training. The trained filters pass on brightness and colour as well.

# %% [markdown]
# ## Where looking misleads
#
# One layer, one scene, three contact sheets: what the convolution puts out, each panel stretched by itself; the same
# after the ReLU; the same with one scale for all. A rule chooses the scene, so that we do not: the first one whose
# number of switched-off channels is the median of the 200 scenes.
#
# **Predict:** how many of the 64 panels on the left belong to channels that are switched off?

# %% [markdown]
# *Your prediction:* …

# %%
silent = (trained["conv5_3"].amax((2, 3)) <= 0).sum(1)  # of the 64 channels, in each scene
chosen = int((silent == silent.median()).nonzero()[0])
one = pixels[chosen : chosen + 1]
before, after = (lesson.activations(small, one, kind)["conv5_3"][0] for kind in (nn.Conv2d, nn.ReLU))
figures.show(
    lesson.draw_traps(unseen[chosen].image, f"a {scenes.CLASSES[labels[chosen]]}", before, after),
    "A car and three sheets of the 64 maps of conv5_3: lively everywhere; some panels black; a few bright spots on black.",
)
print(
    f"switched off: {silent[chosen]} of 64 here; in the 200 scenes {silent.min()} to {silent.max()}, mean {silent.float().mean():.1f}"
)

# %% [markdown]
# On the left all panels are full of life, and six of them belong to channels that hand on *nothing*: their values are
# below 0 everywhere, and stretching makes a landscape of any difference. The middle sheet still makes equals of channels
# that are not. Only the right sheet shows what the next layer gets. The scene with 24 switched-off channels would make
# a stronger picture, and a false impression.
#
# So there are three traps: values before the ReLU, a scale for each panel, and the choice.

# %% [markdown]
# ## Explorer
#
# Follow one picture down the layers. The square is what one cell sees.

# %%
pictures = {scenes.CLASSES[s.labels[0]] + f" {i}": s.image for i, s in enumerate(unseen[:10])}
lesson.layer_explorer(small, pictures | {"chart": edges, "temple": temple})

# %% [markdown]
# ## Exercises
#
# Write into the cell, run it, and read what `check` says.

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
# ### 06.2 Dead channels
# *Difficulty 2 of 5, about 7 minutes.* `z` (pictures, channels, rows, columns) comes from *before* a ReLU. Return the
# list of the channels that are dead: after the ReLU, 0 at every place of every picture.
#
# <details><summary>Hint</summary>
#
# `z.amax((0, 2, 3))` is the largest value of each channel; `.nonzero().flatten().tolist()` turns a mask into
# numbers.
# </details>


# %% tags=["exercise"]
def my_dead(z):
    return ...


check("06.2", my_dead)


# %% tags=["solution"]
def my_dead(z):
    return (z.amax((0, 2, 3)) <= 0).nonzero().flatten().tolist()


check("06.2", my_dead)

# %% [markdown]
# ### 06.3 The maps of any network
# *Difficulty 3 of 5, about 12 minutes.* `model` is any PyTorch network in eval mode, and `image` a batch for it. Return
# a dict with the output of every `nn.Conv2d`, by its name in `model.named_modules()`, and without a graph. The layers
# need not form one chain, and ReLUs may work in place. Leave no hook on the network, and do not use `xailab`.
#
# <details><summary>Hint 1</summary>
#
# `maps_with_hooks` above gets the names of the layers. Here, find them with
# `isinstance(layer, nn.Conv2d)`.
# </details>
# <details><summary>Hint 2</summary>
#
# `nn.ReLU(inplace=True)` writes into the tensor that the convolution has put out. Keep a copy of it.
# </details>


# %% tags=["exercise"]
def maps_of(model, image):
    return ...


check("06.3", maps_of)


# %% tags=["solution"]
def maps_of(model, image):
    kept, handles = {}, []
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d):

            def keep(module, inputs, output, name=name):
                kept[name] = output.clone()

            handles.append(layer.register_forward_hook(keep))
    with torch.no_grad():
        model(image)
    for handle in handles:
        handle.remove()
    return kept


check("06.3", maps_of)

# %% [markdown]
# ### 06.4 Has training made this edge detector?
# *Difficulty 3 of 5, about 10 minutes.* "Look at this channel", says a colleague, "our network has been trained to detect
# edges!" The colleague chose the channel of the layer that looks most like the edges. Judge the claim. You get the maps
# of the trained layer (channels, rows, columns), a list of the maps of the same layer in networks with random weights,
# and the picture of edges (rows, columns). Return True if the maps support the claim, False if they do not.
#
# <details><summary>Hint 1</summary>
#
# The channel is the best of many. What is a fair opponent for it?
# </details>
# <details><summary>Hint 2</summary>
#
# `lesson.correlation(maps, edges.expand_as(maps))` gives one number for each channel. If even *one* random network has
# as good a channel, training need not have made it.
# </details>


# %% tags=["exercise"]
def my_verdict(trained, random, edges):
    return ...


check("06.4", my_verdict)


# %% tags=["solution"]
def my_verdict(trained, random, edges):
    best = lesson.correlation(trained, edges.expand_as(trained)).max()
    others = [lesson.correlation(maps, edges.expand_as(maps)).max() for maps in random]
    return bool(best > max(others))


check("06.4", my_verdict)

# %% [markdown]
# ### 06.5 Which filter made this map?
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


check("06.5", my_filter)


# %% tags=["solution"]
def my_filter(image, filters, feature_map):
    answers = F.conv2d(image[None, None], filters[:, None])[0].relu().flatten(1)
    answers = answers / answers.norm(dim=1, keepdim=True).clamp(min=1e-9)
    return int((answers @ feature_map.flatten()).argmax())


check("06.5", my_filter)

# %% [markdown]
# ## Self-test
#
# Answer from memory, then unfold.
#
# <details><summary>1. What are thirteen convolutions without a ReLU, and does one pooling change that?</summary>
#
# One convolution, with a filter of 27 × 27, away from the border. A max pooling between them changes this.
# </details>
#
# <details><summary>2. Two 3 × 3 convolutions, a 2 × 2 pooling with stride 2, one more 3 × 3 convolution: how much does a cell
# see?</summary>
#
# 5 pixels after two convolutions, 6 after the pooling. Neighbours are then 2 apart, so 4 more: 10 pixels.
# </details>
#
# <details><summary>3. All panels of a contact sheet look lively. Name two reasons why this may mean nothing.</summary>
#
# The maps come from before the ReLU, where switched-off channels still vary below 0. Each panel is stretched by itself.
# </details>
#
# <details><summary>4. How do you get the maps of a layer of any PyTorch network, without `xailab`?</summary>
#
# `handle = model.get_submodule(name).register_forward_hook(keep)`, where `keep(module, inputs, output)` stores a copy;
# run the network under `torch.no_grad()`; then `handle.remove()`.
# </details>
#
# <details><summary>5. How do you compute an effective receptive field?</summary>
#
# Let the picture require a gradient, sum the channels of one cell, call `torch.autograd.grad`, and average the absolute
# value over pictures.
# </details>

# %% [markdown]
# ## On real data
#
# The first filters of a network that saw a million photographs.

# %%
from xailab import figures
from xailab.feature_maps import filters
from xailab.lessons import real
from xailab.models import zoo

if name := real.weights("vgg16", "squeezenet1_0"):
    tiles = filters(zoo.load(name))
    figures.show(figures.grid(tiles, columns=16, title=name, panel=0.7), "The first layer's filters as coloured tiles.")

# %% [markdown]
# ## Summary
#
# > **Key idea.** A feature map is a filter's answer at each place. The map before the ReLU and the map after it are two
# > different pictures. Draw the second, with one scale, and say by which rule you chose.
#
# > **Key idea.** Convolutions alone are one affine map. ReLU and max pooling make depth count. How recognisable a map is
# > for us says little about its use for the network.
#
# > **Key idea.** A picture of edges is no proof of training, and a receptive field is a limit, not a description.
#
# **Reading, and why**
#
# - M. D. Zeiler, R. Fergus, [Visualizing and Understanding Convolutional Networks](https://arxiv.org/abs/1311.2901), ECCV
#   2014. What excites a channel most.
# - A. Araujo, W. Norris, J. Sim, [Computing Receptive Fields of Convolutional Neural
#   Networks](https://distill.pub/2019/computing-receptive-fields/), 2019. All formulas, with an applet.
# - W. Luo et al., [Understanding the Effective Receptive Field in Deep Convolutional Neural
#   Networks](https://arxiv.org/abs/1701.04128), NeurIPS 2016. Why the gradient lies in the middle.
#
# Next: [07 · ProtoPNet](07_protopnet.ipynb), a network whose channels are compared with parts of training pictures.
