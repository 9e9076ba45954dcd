# %% [markdown]
# # 06 · Feature maps, deeper
#
# **About {reading} minutes to read, {exercises} for the exercises · 2 GiB of memory · no GPU, no network needed**
#
# What goes beyond [the lesson](../06_feature_maps.ipynb): filters, zeros, networks that are trained without ReLU or
# pooling, proofs, and channels that prefer a class. Each section can be read alone, after the first cell.
#
# **Afterwards you can**
# - read a filter of the first layer together with its map,
# - say what a network can do that was trained without ReLU or without pooling,
# - prove a receptive field, and compare those of two networks,
# - measure how selective a channel is, and against which yardsticks.
#
# **Contents:** [The first layer](#What-does-the-first-layer-ask-for?) · [What ReLU darkens](#What-ReLU-darkens) · [One filter
# of 27 × 27](#One-filter-of-27-×-27) · [Trained without them](#Trained-without-ReLU,-trained-without-pooling) · [Receptive
# fields](#Receptive-fields,-computed-and-proved) · [A network of photographs](#What-a-network-of-photographs-uses) ·
# [Channels and classes](#Which-channel-answers-to-what?) · [A hand-picked channel](#A-hand-picked-channel) · [On real
# data](#On-real-data) · [Summary](#Summary)
#
# [← the lesson](../06_feature_maps.ipynb) · [07 · ProtoPNet →](../07_protopnet.ipynb)

# %%
import copy
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from xailab import figures, images
from xailab.datasets import photographs, scenes
from xailab.feature_maps import chain, filters
from xailab.hooks import recording
from xailab.lessons import feature_maps as lesson
from xailab.models import zoo
from xailab.receptive_field import receptive_field

network = zoo.load("scenes_vgg")  # VGG16's layers at an eighth of the width
names = lesson.convolutions(network)  # the paper's names, conv1_1 ... conv5_3, and torch's
at_224 = replace(network.preprocess, resize=224)
edges = lesson.edges_picture()
temple = photographs.middle(photographs.photograph("temple").image, 224, 224)
unseen = [scenes.scene(i, split="test", size=96) for i in range(200)]
batch, labels = network.preprocess([scene.image for scene in unseen]), [scene.labels[0] for scene in unseen]

# %% [markdown]
# ## What does the first layer ask for?
#
# Only the filters of the first layer are pictures themselves, because only they look at red, green and blue. `filters`
# draws them with 0 as mid-grey. Beside each is its map of the chart, before the ReLU.
#
# **Predict:** which of the eight answer with nearly 0 to a flat ground, black or white? Are those the ones that draw
# outlines?

# %% [markdown]
# *Your prediction (double-click here and write):* …

# %%
first = network.features[0]
with torch.no_grad():
    z = first(at_224(edges))[0]
    black, white = (first(at_224(np.full_like(edges, grey)))[0, :, 112, 112] for grey in (28, 238))  # the chart's
figures.show(
    lesson.draw_filters(filters(network)[:8], z[:8]),
    "Eight filters of 3 × 3 colour pixels, and beside each its map of the chart: filter 1 draws outlines on a pale ground, filter "
    "3 outlines on a ground that is red where the chart is black, filter 5 is pale but for the coloured ring.",
    pixels=figures.SCREEN,
)
of_chart = lesson.sobel(edges)
for k, weight in enumerate(first.weight.detach()):
    like = float(lesson.correlation(z[k].abs()[None], of_chart[None]))
    print(f"filter {k}: sum of weights {weight.sum():+.2f}, z on black {black[k]:+.2f}, on white {white[k]:+.2f}, "
          f"|z| and the chart's edges correlate by {like:+.2f}")  # fmt: skip

# %% [markdown]
# On a flat grey ground, $z = b + \text{grey} \cdot \sum w$. The *sum of all weights* decides. It is nearly 0 for filters 1
# and 5, and these two are nearly silent on black and white.
#
# But only filter 1 is a detector of edges, with a correlation of 0.72. The weights of filter 5 cancel between the
# colours and not between neighbours: its map wakes up at the coloured ring. Filter 3 also draws strong outlines, and its
# ground is not silent, +2.38 on black and −1.54 on white, because its sum is −1.19. Filters 2 and 4 mostly tell dark
# from bright.
#
# Do not expect the bars and blobs of textbooks. Those are filters of 7 × 7 or 11 × 11 pixels, trained on a million
# photographs. With nine cells, a filter shows what it does better in its map.

# %% [markdown]
# ## What ReLU darkens
#
# A ReLU sets negative values to 0. How many are there, layer by layer, on forty unseen scenes? And has training made
# them? Beside the trained network stand three networks of the same build with random weights.

# %%
trained = lesson.activations(network, batch)  # after the ReLUs
active = np.zeros((4, 13))
active[0] = [(maps[:40] > 0).float().mean() for maps in trained.values()]
for seed in range(3):
    guess = lesson.activations(lesson.untrained(network, seed), batch[:40])
    active[1 + seed] = [(maps > 0).float().mean() for maps in guess.values()]
    del guess  # large
figures.show(
    lesson.draw_depth(
        {"trained": active[0], "random weights (three, mean and range)": active[1:]},
        list(names), "How much of a layer is active?", "share of values above 0",
    ),
    "Share of active values against depth: trained and random networks stay near one half; the trained one ends at 0.37.",
)  # fmt: skip
for i in (0, 6, 9, 12):
    print(f"{list(names)[i]}: trained {active[0, i]:.2f}, random {active[1:, i].mean():.2f}")

# %% [markdown]
# About half of the values are positive at nearly every layer, with trained weights and with random ones. So most of the
# zeros that one sees are no achievement of training. Two late layers are clearly sparser than random ones: `conv4_3`
# with 0.41 against 0.49, and the last with 0.37 against 0.52.

# %% [markdown]
# ## One filter of 27 × 27
#
# The lesson showed that convolutions in a row are an affine map. Away from the border this map must be *one*
# convolution. Its filter is 27 × 27, because each 3 × 3 adds 2. A single bright pixel leaves the filter behind,
# mirrored, and `flip` turns the answer back into the filter. We compute in double precision.

# %%
exact = copy.deepcopy(network.features).double()
zero, bright = torch.zeros(1, 3, 79, 79).double(), torch.zeros(3, 3, 79, 79).double()
for colour in range(3):
    bright[colour, colour, 39, 39] = 1  # one bright pixel in red, in green, in blue
offset = chain(exact, zero, nn.Conv2d)[-1]  # what the biases give
answers = chain(exact, bright, nn.Conv2d)[-1] - offset
one_filter = answers[:, :, 26:53, 26:53].flip(2, 3).transpose(0, 1)  # (channels, 3, 27, 27)
offset = offset[:, :, 39:40, 39:40]

small = lesson.edges_picture(144)  # a filter of 27 × 27 in one go takes much memory
chart = replace(network.preprocess, resize=144)(small).double()
in_thirteen = chain(exact, chart, nn.Conv2d)[-1][:, :, 26:-26, 26:-26]  # where no layer touches the border
in_one_go = (F.conv2d(chart, one_filter) + offset)[:, :, 13:-13, 13:-13]
print(
    f"largest difference, as a share of the largest value: {(in_one_go - in_thirteen).abs().max() / in_thirteen.abs().max():.6f}"
)
weights = sum(layer.weight.numel() for layer in exact if isinstance(layer, nn.Conv2d))
print(
    f"{weights} weights in thirteen layers; the one layer has filters of {one_filter.shape[2]} × {one_filter.shape[3]}"
)

# %%
k = int(one_filter.flatten(1).norm(dim=1).argmax())  # the rule: the strongest channel
drawn = (one_filter[k] / one_filter[k].abs().max() + 1) * 127.5
panels = [drawn.round().byte().permute(1, 2, 0).numpy(), small[26:-26, 26:-26]]
panels += [images.heatmap(images.normalise(each[0, k].float()), "gray") for each in (in_one_go, in_thirteen)]
figures.show(
    figures.strip(
        panels, [f"filter of channel {k}", "the chart", "one convolution", "thirteen convolutions"], panel=3.0
    ),
    "A filter of 27 × 27 pixels, ripples in colour around its middle; the middle of the chart; two equal maps that look embossed.",
)

# %% [markdown]
# (In the filter, grey is 0. The channel is the one with the strongest filter.) The ripples subtract one side of a
# neighbourhood from the other, so the maps look embossed at every depth of way (i). One ReLU or one max pooling between
# the layers breaks the identity.

# %% [markdown]
# ## Trained without ReLU, trained without pooling
#
# Taking layers out of a trained network shows that it needs them. Whether a network can do without them shows only when
# it is *trained* without them. So `recipes/feature_maps_without.py` builds five small networks, the same but for what
# stands between their three convolutions, and trains each on the same 2000 scenes of 32 × 32 pixels:
#
# ```python
# for some in torch.randperm(len(pixels)).split(50):
#     optimizer.zero_grad()
#     F.cross_entropy(network(pixels[some]), labels[some]).backward()
#     optimizer.step()
# ```
#
# The accuracies on 500 unseen scenes are **recorded**, since training takes minutes. **Predict:** which of ReLU, max
# pooling and mean pooling can be left out?

# %% [markdown]
# *Your prediction:* …

# %%
recorded = lesson.trained_without()  # accuracies by what stands between the convolutions, one for each seed
for between, seeds in recorded.items():
    print(f"{between:26s} mean {np.mean(seeds):.2f}, three seeds from {min(seeds):.2f} to {max(seeds):.2f}")

# %% [markdown]
# Convolutions alone reach a quarter, more than the 0.10 of guessing, and stay there: with a linear classifier after them
# they are *one* linear classifier of the pixels. Mean pooling adds nothing, because it is linear, too. ReLU alone more
# than doubles the accuracy. Max pooling alone does even better, because a maximum is not linear either. Both together
# are best.
#
# So the trained network of the lesson needs its ReLUs, and a network that never had them can do without. Only something
# that is not linear is needed between the layers. (One small network, one size of pictures, three seeds: the order is
# clear here, and may be another one elsewhere.)

# %% [markdown]
# ## Receptive fields, computed and proved
#
# How much of the picture does a cell see at each depth, with poolings and without? And is the formula right? Whatever a
# cell can see has a gradient. So we take a copy of the network in which nothing cancels and nothing is closed: all
# weights are 0.1, and the poolings take the mean. The gradient of its middle cell must be nonzero exactly in the
# computed square.

# %%
without = nn.Sequential(*(layer for layer in network.features if isinstance(layer, nn.Conv2d)))
positive = lesson.all_positive(network)
for i, (name, layer) in enumerate(names.items()):
    if name not in ("conv1_2", "conv2_2", "conv3_3", "conv4_3", "conv5_3"):
        continue
    field = receptive_field(network, layer, 96)
    start, end = lesson.seen_square(network, layer, 224)
    reached = lesson.cell_gradient(positive, torch.ones(1, 3, 224, 224), layer)[0] > 0
    expected = torch.zeros_like(reached)
    expected[start:end, start:end] = True
    assert torch.equal(reached, expected)
    print(f"{name}: a cell sees {field.size:3d} px, neighbours are {field.stride:2d} px apart; without poolings "
          f"{receptive_field(without, str(i), 32).size:2d} px; gradient in {int(reached.sum(1).max()):3d} columns")  # fmt: skip

# %% [markdown]
# The gradient fills the computed square and nothing else. With poolings the field grows to 196 pixels, which is the
# literature's figure for VGG16, since the width of a network does not matter here. Without poolings it is 27. In way
# (i), filters that were trained to look at the whole scene were given 27 pixels.
#
# The walk-through named in the lesson finds the resolution of VGG16's maps better than that of AlexNet. What a cell sees,
# and how far apart cells are, can be computed without weights:

# %%
with torch.device("meta"):  # shapes without numbers
    for name in ("alexnet", "vgg16"):
        layers = zoo.load(name, weights=None).features
        convolutions = [str(i) for i, layer in enumerate(layers) if isinstance(layer, nn.Conv2d)]
        for which, layer in (("first", convolutions[0]), ("last", convolutions[-1])):
            field = receptive_field(layers, layer)
            print(
                f"{name}: a cell of the {which:5s} convolution sees {field.size:3d} px, neighbours are {field.stride:2d} px apart"
            )

# %% [markdown]
# In the first maps, cells of VGG16 lie four times closer than those of AlexNet, whose first filters move four pixels at a
# time. In the last maps of both, cells lie 16 pixels apart. So the finer look is true of early layers.

# %% [markdown]
# ## What a network of photographs uses
#
# The lesson's effective receptive fields come from a small network and drawn scenes. Does a network of photographs look
# at the middle, too? EfficientNet-Lite0 and the course's seven photographs:

# %%
lite = zoo.load("efficientnet_lite0")
seven = lite.preprocess([photographs.photograph(name).image for name in photographs.names()])
for layer in ("block3", "block5", "block7", "block9"):
    mass = torch.zeros(224, 224)
    for one in seven.split(1):
        one.requires_grad_()
        with recording(lite, layer) as outputs:
            lite(one)
        middle = outputs[layer].shape[-1] // 2
        (gradient,) = torch.autograd.grad(outputs[layer][:, :, middle, middle].sum(), one)
        mass += gradient.abs().sum((0, 1))
    field = receptive_field(lite, layer)
    start = field.start + middle * field.stride
    side = lesson.side_holding(mass, (start, start + field.size))
    print(f"{layer}: sees {field.size:3d} px; 90 % of the gradient in the middle {side:3d} px, "
          f"{(side / field.size) ** 2:.2f} of the area")  # fmt: skip

# %% [markdown]
# The same holds here, and more strongly: from `block3` to `block9` the share falls from 0.47 to 0.20 of the area. A cell
# of `block9` can see nearly the whole picture of 224 pixels, and uses the middle 95.
#
# Luo et al. prove for random weights that the gradient approaches a Gaussian. Its width grows as the square root of the
# depth, and what a cell can see grows in proportion to the depth, so the share that is used becomes smaller and smaller.

# %% [markdown]
# ## Which channel answers to what?
#
# One picture says what a channel does *here*. What it answers to in general shows in the pictures that excite it most
# ([Zeiler and Fergus 2013](https://arxiv.org/abs/1311.2901)). **Selectivity** is $(m - r) / (m + r)$, with $m$ a
# channel's mean activation on its best class and $r$ that on all other scenes ([Morcos et al.
# 2018](https://arxiv.org/abs/1803.06959)): 0 for no preference, 1 for a channel that answers to nothing else.
#
# A rule chooses four channels of `conv5_3`: the most selective, two in the middle of the ranking, and the least. Each
# row has the five of 200 unseen scenes with the largest activation anywhere.


# %%
def selectivity(maps, labels):
    answers, of_class = maps.mean((2, 3)), torch.tensor(labels)  # (scenes, channels)
    means = torch.stack([answers[of_class == c].mean(0) for c in range(10)])  # of each class
    others = torch.stack([answers[of_class != c].mean(0) for c in range(10)])
    m, best = means.max(0)
    r = others.gather(0, best[None])[0]
    return (m - r) / (m + r).clamp(min=1e-12), best


last = trained["conv5_3"]
index, best = selectivity(last, labels)
assert torch.allclose(index, lesson.selectivity(last, labels), atol=1e-6)
ranked = index.argsort(descending=True).tolist()
chosen = [ranked[0], ranked[21], ranked[42], ranked[-1]]
tops = {k: last[:, k].amax((1, 2)).topk(5).indices.tolist() for k in chosen}
rows = {f"channel {k}\nselectivity {index[k]:.2f}": [unseen[i].image for i in tops[k]] for k in chosen}
titles = [[scenes.CLASSES[labels[i]] for i in tops[k]] for k in chosen]
figures.show(
    lesson.draw_best(rows, titles), "Four rows of five scenes that excite four channels most.", pixels=figures.SCREEN
)
for k in chosen:
    print(
        f"channel {k:2d}: selectivity {index[k]:.2f}, highest mean on {scenes.CLASSES[best[k]]}, highest peaks on {scenes.CLASSES[labels[tops[k][0]]]}"
    )

# %% [markdown]
# Each row holds one class, in many colours and before many grounds, which made people speak of *detectors*. The last
# row is a warning: channel 48 has its five highest peaks on birds, but answers most *on average* to cars. The five top
# pictures show the tip of a channel's answers. All half-strong answers are missing.
#
# Is the preference built up with depth? There are two yardsticks: random weights, and the trained network with the
# labels shuffled, which shows what the index gives where nothing is to be found.

# %%
shuffled = np.random.default_rng(0).permutation(labels).tolist()
random = lesson.activations(lesson.untrained(network), batch)
medians = {
    words: np.array([lesson.selectivity(a, of)[a.amax((0, 2, 3)) > 0].median() for a in maps.values()])
    for words, maps, of in (
        ("trained", trained, labels), ("random weights", random, labels), ("trained, labels shuffled", trained, shuffled)
    )
}  # fmt: skip
figures.show(
    lesson.draw_depth(medians, list(names), "When do channels care about classes?", "selectivity (median)"),
    "Median selectivity against depth: the trained network rises to 0.67 in the last layers, the two yardsticks stay low.",
)
for words, values in medians.items():
    print(f"{words:25s} first nine layers {values[:9].min():.2f} to {values[:9].max():.2f}, last {values[-1]:.2f}")

# %% [markdown]
# The preference comes late: for nine layers the median stays between 0.13 and 0.22, where shuffled labels give 0.04 to
# 0.13, and then it climbs to 0.67. The late layers sort by class. Morcos et al. report that a network does *not* need
# highly selective channels more than others, so selectivity is no measure of importance.

# %% [markdown]
# ## A hand-picked channel
#
# The lesson names three traps; the third is the choice. From the 32 channels of `conv3_1`, take the one that looks most
# like Sobel's picture of the temple. How good is the best of 32, in the trained network and in three with random
# weights? **Predict** the order.

# %%
of_temple = lesson.sobel(temple)[None]
networks = {"trained": network} | {f"random {seed}": lesson.untrained(network, seed) for seed in range(3)}
panels = {"the temple": temple, "Sobel": images.heatmap(images.normalise(of_temple[0]), "gray")}
for name, each in networks.items():
    maps = lesson.activations(each, at_224(temple))["conv3_1"][0]
    cells = F.adaptive_avg_pool2d(of_temple, maps.shape[-2:])
    like = lesson.correlation(maps, cells.expand_as(maps))
    panels[f"{name}: {like.max():.2f}"] = images.heatmap(images.normalise(maps[like.argmax()]), "gray")
    print(
        f"{name}: best channel {like.max():.2f}, share of the 32 channels above 0.3: {(like > 0.3).float().mean():.2f}"
    )
figures.show(
    figures.strip(list(panels.values()), list(panels), panel=2.05),
    "The temple, its Sobel picture, and the best channel of conv3_1 of the trained and of three random networks: all draw it.",
)

# %% [markdown]
# A handsome "edge detector" can be found in each of them: 0.69 with training, 0.52 to 0.63 without. How typical it is,
# the share of channels above 0.3 says: about half in the trained network, and far less in the others. So the trained
# network does have more edge detectors, but the hand-picked channel is not what shows it. Show the whole sheet, or say by
# which rule you chose, and do the same with random weights.

# %% [markdown]
# ## On real data
#
# VGG16 itself is what the three ways were made for. Without its ReLUs or its poolings, does it still know the cat? (At
# 112 pixels, which takes half a minute. The last line is VGG16's own answer.) The cell can be run alone.

# %%
from dataclasses import replace

import torch
from torch import nn

from xailab import figures
from xailab.datasets import photographs
from xailab.feature_maps import chain
from xailab.lessons import feature_maps as lesson
from xailab.lessons import real
from xailab.models import zoo

if name := real.weights("vgg16"):
    vgg16 = zoo.load(name)
    cat = photographs.photograph("cat").image
    at_112, rows = replace(vgg16.preprocess, resize=112, crop=112), {}
    for way, kinds in {"(i)": (nn.Conv2d,), "(ii)": (nn.Conv2d, nn.ReLU), "(iii)": (nn.Conv2d, nn.MaxPool2d),
                       "all": (nn.Conv2d, nn.ReLU, nn.MaxPool2d)}.items():  # fmt: skip
        outputs = chain(vgg16.features, at_112(cat), kinds)
        layers = [layer for layer in vgg16.features if isinstance(layer, kinds)]
        last = nn.ReLU if nn.ReLU in kinds else nn.Conv2d
        rows[way] = [x[0].mean(0) for layer, x in zip(layers, outputs, strict=True) if isinstance(layer, last)]
        with torch.no_grad():
            scores = vgg16.classifier(vgg16.avgpool(outputs[-1]).flatten(1))[0]
        print(f"{way:5s} {vgg16.classes[scores.argmax()]}")
    strips = lesson.chain_strips(at_112.frame(cat), rows, (1, 4, 7, 10, 13))
    figures.show(strips, "The photograph of the cat, and four rows of grey maps.")
    figures.show(lesson.draw_layer(vgg16, cat, "conv3_3"), "The cat, one channel of conv3_3, and all 256 channels.")

# %% [markdown]
# ## Summary
#
# > **Key idea.** A filter whose weights sum to 0 is silent on flat ground. It detects edges only if the weights cancel
# > between neighbours.
#
# > **Key idea.** Removing layers from a trained network and training without them are two experiments with two answers.
#
# > **Key idea.** The best of many channels shows that such a channel exists. Take the best of as many random ones as a
# > yardstick.
#
# **Reading, and why**
#
# - M. D. Zeiler, R. Fergus, [Visualizing and Understanding Convolutional Networks](https://arxiv.org/abs/1311.2901), ECCV
#   2014. The pictures that excite a channel most, at every layer.
# - A. Morcos et al., [On the importance of single directions for generalization](https://arxiv.org/abs/1803.06959), ICLR
#   2018. The index of selectivity, and why it is no measure of importance.
# - W. Luo et al., [Understanding the Effective Receptive Field in Deep Convolutional Neural
#   Networks](https://arxiv.org/abs/1701.04128), NeurIPS 2016. Why the gradient lies in the middle, with a proof for
#   random weights.
#
# [Back to the lesson](../06_feature_maps.ipynb) · Next: [07 · ProtoPNet](../07_protopnet.ipynb)
