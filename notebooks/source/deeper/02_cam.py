# %% [markdown]
# # 02 · Class activation maps, deeper
#
# **About {reading} minutes to read, {exercises} for the exercises · 2 GiB of memory · no GPU, no network needed**
#
# What goes beyond [the lesson](../02_cam.ipynb): boxes, the way from cells to pixels, finer maps, what the average buys,
# and which networks have a CAM. Each section can be read alone, after the first two cells.
#
# **Afterwards you can**
# - say how much better a threshold looks on the pictures on which it was chosen,
# - enlarge a map without moving it,
# - get finer maps from the same network, and say what they cost,
# - recognise whether a network has a CAM.
#
# **Contents:** [Boxes](#Boxes) · [From cells to pixels](#From-cells-to-pixels) · [Finer maps](#Finer-maps) · [What the
# average buys](#What-the-average-buys) · [A maximum instead of the average](#A-maximum-instead-of-the-average) · [Where
# zero lies](#Where-zero-lies) · [Which networks have a CAM?](#Which-networks-have-a-CAM?) · [What the paper
# measured](#What-the-paper-measured) · [On real data](#On-real-data) · [Summary](#Summary)
#
# [← the lesson](../02_cam.ipynb) · [03 · Grad-CAM →](../03_grad_cam.ipynb)

# %%
import numpy as np
import torch
import torch.nn.functional as F

from xailab import figures, images
from xailab.boxes import iou
from xailab.cam import class_activation_map
from xailab.datasets import photographs, scenes
from xailab.hooks import recording
from xailab.lessons import cam as lesson
from xailab.localization import boxes, ground_truth_box
from xailab.metrics import interval, pointing_game
from xailab.models import zoo

torch.set_grad_enabled(False)
resnet = zoo.load("scenes_resnet")
drawn = {split: [scenes.scene(i, split=split) for i in range(300)] for split in ("train", "test")}
labels = {split: [scene.labels[0] for scene in each] for split, each in drawn.items()}
batches = {split: resnet.preprocess([scene.image for scene in each]) for split, each in drawn.items()}
masks = {split: np.stack([scene.masks[0] for scene in each]) for split, each in drawn.items()}
cams = {split: class_activation_map(resnet, batches[split], labels[split]) for split in drawn}


# %%
def hits_of(large, masks):
    """For each map: does its maximum lie on the object?"""
    return np.array([pointing_game(mask, heat) for mask, heat in zip(masks, large, strict=True)])


def overlaps(large, masks, thresholds):
    """For each map and threshold: the IoU of the largest region's box with the object's."""
    true = [ground_truth_box(mask) for mask in masks]
    return np.array([[iou(boxes(h, t)[0], box) for t in thresholds] for h, box in zip(large, true, strict=True)])


def say(name, cases):
    low, high = interval(cases)
    print(f"{name:34s} {np.mean(cases):.3f} ({low:.3f} to {high:.3f})")


# %% [markdown]
# ## Boxes
#
# First twenty unseen scenes, each with the map of the network's first guess.

# %%
twenty = [scenes.scene(i, split="test", size=256) for i in range(20)]
guesses = resnet(resnet.preprocess([scene.image for scene in twenty])).argmax(1)
heats = class_activation_map(resnet, resnet.preprocess([scene.image for scene in twenty]), guesses)
panels = [images.overlay(images.grey(s.image), heat) for s, heat in zip(twenty, heats, strict=True)]
figures.show(
    figures.grid(panels, [scenes.CLASSES[c] for c in guesses], columns=5, panel=2.2),
    "Twenty grey scenes with their maps; each bright spot lies on the object, often on a part of it.",
    pixels=figures.SCREEN,
)

# %% [markdown]
# The bright spot is often a part of the object: a face, a wheel, a wing. A box around it depends on the threshold. Here are
# four scenes with the paper's threshold for ImageNet, and with the one that the lesson chose on training scenes.

# %%
shown = [3, 4, 5, 6]
figures.show(
    lesson.draw_boxes(
        [twenty[i].image for i in shown],
        images.upsample(heats[shown], 256),
        [ground_truth_box(twenty[i].masks[0]) for i in shown],
        {"0.20, the paper's for ImageNet": 0.2, "0.45, chosen on training scenes": 0.45},
    ),
    "Four scenes with three boxes each: the true one, a box at 0.2 that is too large, and a tighter one at 0.45.",
)

# %% [markdown]
# How much better does a threshold look on the scenes on which it was chosen? We choose it on a few test scenes, and
# compare the mean IoU on these scenes with that on all the others. The comparison is repeated 500 times.

# %%
thresholds = np.linspace(0.05, 0.95, 19)
large = {split: images.upsample(each, 128) for split, each in cams.items()}
overlap = overlaps(large["test"], masks["test"], thresholds)
rng = np.random.default_rng(0)
optimism = {}
for few in (5, 10, 20, 50):
    gains = []
    for _ in range(500):
        order = rng.permutation(300)
        here, elsewhere = overlap[order[:few]].mean(0), overlap[order[few:]].mean(0)
        gains.append(here.max() - elsewhere[here.argmax()])
    optimism[few] = np.mean(gains)
    print(f"chosen on {few:2d} scenes: looks better by {optimism[few]:.3f} than it is")

# %% [markdown]
# With ten scenes the report is too good by about 0.02, which is more than the half-width of the lesson's interval for 300
# scenes. Where methods differ by a few points, this decides who wins.
#
# Do two objects in one picture get two boxes? Each class has a map of its own, so each object can be asked for.

# %%
pairs = [scenes.scene(i, kind="pair", split="test") for i in range(150)]
both = class_activation_map(resnet, resnet.preprocess([s.image for s in pairs]), [list(s.labels) for s in pairs])
both = images.upsample(both, 128)
fits = {"single object": overlap[:, 8]}
for name, other in (("one of a pair, its own class", 0), ("one of a pair, the other's class", 1)):
    found = [
        overlaps(both[:, (k + other) % 2], np.stack([scene.masks[k] for scene in pairs]), [0.45])[:, 0] for k in (0, 1)
    ]
    fits[name] = np.mean(found, 0)
for name, cases in fits.items():
    say(f"mean IoU, {name}", cases)

# %% [markdown]
# ## From cells to pixels
#
# A map of 8 × 8 cells becomes a map of 128 × 128 pixels. Each cell belongs to a square of 16 × 16 pixels, and its value to
# the *centre* of this square. `align_corners=True` puts the values of the outer cells at the border of the picture instead,
# which moves them outwards by half a cell. **Predict:** can one see this half cell in a measurement?
#
# *Your prediction:* …

# %%
ways = {
    "bilinear, centres stay": {"mode": "bilinear", "align_corners": False},
    "bilinear, corners aligned": {"mode": "bilinear", "align_corners": True},
    "bicubic, centres stay": {"mode": "bicubic", "align_corners": False},
    "nearest cell": {"mode": "nearest"},
}
enlarged, measures = {}, {}
for name, options in ways.items():
    enlarged[name] = F.interpolate(cams["test"][:, None], size=(128, 128), **options)[:, 0]
    measures[name] = hits_of(enlarged[name], masks["test"]), overlaps(enlarged[name], masks["test"], [0.45])[:, 0]
    say(f"hits, {name}", measures[name][0])
    say(f"IoU,  {name}", measures[name][1])
    if name != "bilinear, centres stay":
        say("   minus that of the first", measures[name][1] - measures["bilinear, centres stay"][1])
i = 3
panels = [images.overlay(images.grey(drawn["test"][i].image), each[i]) for each in enlarged.values()]
figures.show(
    figures.strip(panels, list(enlarged), panel=2.9),
    "One scene with its map enlarged in four ways; with aligned corners the spot lies farther from the centre.",
)

# %% [markdown]
# Nearly nothing can be *seen*, and all the same the aligned corners cost hits and overlap: the interval of the difference
# lies below zero. `images.upsample` keeps the centres in place.

# %% [markdown]
# ## Finer maps
#
# A network with a global average takes pictures of any size. A larger picture gives more cells, without any training.
# What does it cost? (The whole composite is resized here, without the crop of the lesson.)

# %%
from dataclasses import replace

network = zoo.load("efficientnet_lite0")
named = [network.classes.index(name) for name in ("tiger cat", "espresso")]
panels, titles, shares = [], [], {}
for side in (224, 448, 672):
    batch = replace(network.preprocess, resize=side, crop=side)(photographs.stacked("cat", "cup"))
    heats = class_activation_map(network, batch, [named])[0]
    p = network(batch).softmax(1)[0, named]
    positive = images.upsample(heats.relu(), 224)
    shares[side] = [float(each[:112].sum() / each.sum()) for each in positive]
    cells = heats.shape[-1]
    print(f"{side} pixels, {cells} × {cells} cells: probabilities {p[0]:.3f}, {p[1]:.3f};", end=" ")
    print(f"in the upper half {shares[side][0]:.2f}, {shares[side][1]:.2f}")
    seen = images.grey(network.preprocess.undo(batch)[0])
    panels += [images.overlay(seen, heat, scale=float(heats.max())) for heat in heats]
    titles += [f"“tiger cat”, {cells} × {cells}", f"“espresso”, {cells} × {cells}"]
order = [0, 2, 4, 1, 3, 5]
figures.show(
    figures.grid([panels[i] for i in order], [titles[i] for i in order], columns=3, panel=3.3),
    "The maps for tiger cat and espresso at three sizes of the picture: the more cells, the finer they follow the cat's "
    "eyes and the coffee.",
)

# %% [markdown]
# The maps become finer and separate the two halves better. The price: the network was trained at 224 pixels, and the cat's
# face is now larger than any in its training set, so the probabilities fall to about a tenth. The maps explain these
# weaker answers.

# %% [markdown]
# ## What the average buys
#
# The alternative to the average is flattening the last maps into one long vector.

# %%
from xailab.flops import conv_cost

flat, gap = conv_cost(128, 10, 8, 1), conv_cost(128, 10, 1, 1)
print(f"last layer on flattened 8 × 8 × 128 maps: {flat.params:,} weights; after the average: {gap.params:,}")
vgg = conv_cost(512, 4096, 7, 1)
print(f"VGG16's first fully connected layer: {vgg.params:,} weights; average and 1000 classes: {512 * 1000:,}")

a, b = (scenes.scene(i, split="test", size=256) for i in (2, 5))
wide = np.concatenate([a.image, b.image], axis=1)
heats = class_activation_map(resnet, resnet.preprocess(wide), [[a.labels[0], b.labels[0]]])[0]
print("a picture twice as wide gives maps of", " × ".join(str(n) for n in heats.shape[1:]), "cells")
names = [f"“{scenes.CLASSES[each.labels[0]]}”" for each in (a, b)]
overlays = [images.overlay(images.grey(wide), heat, scale=float(heats.max())) for heat in heats]
figures.show(
    figures.grid([wide, *overlays], ["a wide picture", *names], columns=3, panel=4.2),
    "A picture twice as wide as the training pictures, with two objects; each class lights up its own object.",
)

# %% [markdown]
# The flattened head has exact maps too (exercise 02.7). With the average, the last layer needs 64 times fewer weights, the
# network takes pictures of any size, and a channel has the same weight wherever its evidence lies.

# %% [markdown]
# ## A maximum instead of the average
#
# Zhou et al. argue that the average asks for all parts of an object, and that a global *maximum* would be content with
# one. We fit a new last layer to the course's ResNet, once on averages and once on maxima, and box the maps of either. The
# thresholds are chosen on the training scenes.

# %%
from sklearn.linear_model import LogisticRegression

features = {}
for split, batch in batches.items():
    with recording(resnet, "layer4") as recorded:
        resnet(batch)
    features[split] = recorded["layer4"]
result = {}
for name, pool in (("average", lambda f: f.mean((2, 3))), ("maximum", lambda f: f.amax((2, 3)))):
    head = LogisticRegression(max_iter=2000).fit(pool(features["train"]), labels["train"])
    weight = torch.tensor(head.coef_, dtype=torch.float32)
    maps = {
        split: images.upsample(torch.einsum("nk,nkhw->nhw", weight[labels[split]], features[split]), 128)
        for split in features
    }
    chosen = thresholds[overlaps(maps["train"], masks["train"], thresholds).mean(0).argmax()]
    result[name] = overlaps(maps["test"], masks["test"], [chosen])[:, 0]
    print(f"{name}: accuracy {head.score(pool(features['test']), labels['test']):.2f}, threshold {chosen:.2f}")
    say("   hits", hits_of(maps["test"], masks["test"]))
    say("   mean IoU", result[name])
say("average minus maximum, IoU", result["average"] - result["maximum"])

# %% [markdown]
# Here the difference is half a point, and its interval lies above zero by little. This is no test of the paper's argument: the features were trained *with* the
# average, and only the last layer is new. A fair test would train two networks from the beginning.

# %% [markdown]
# ## Where zero lies
#
# The lesson showed that a map which is added to all classes changes no probability. What fixes zero, then? The derivatives
# $p_c - y_c$ of the cross-entropy add up to zero over the classes. Plain gradient descent therefore leaves the mean over
# the classes of each weight where it began, and weight decay pulls it towards zero.

# %%
for name, each in (("scenes_resnet", resnet), ("efficientnet_lite0", network)):
    w = each.fc.weight.detach()
    print(f"{name}: mean size of a weight {w.abs().mean():.3f}, of the mean over classes {w.mean(0).abs().mean():.4f}")

# %% [markdown]
# In EfficientNet-Lite0 the mean over the thousand classes is practically zero, so a cell of zero speaks for a class as much
# as for the average class. In the small ResNet this holds only roughly. Subtract the mean map over the classes where it
# matters.

# %% [markdown]
# ## Which networks have a CAM?
#
# `class_activation_map` finds the average by its numbers. Random weights are enough to see which architectures end so.

# %%
picture = photographs.photograph("cat").image
for name in ("resnet18", "densenet121", "googlenet", "mobilenet_v2", "squeezenet1_1", "swin_t", "alexnet"):
    each = zoo.load(name, weights=None)
    batch = each.preprocess(picture)
    try:
        heat = class_activation_map(each, batch, 0)[0]
        print(f"{name:14s} a map of {heat.shape[0]} × {heat.shape[1]} cells")
    except ValueError as error:
        print(f"{name:14s} {str(error).split(' (')[0]}")

# %% [markdown]
# In SqueezeNet the average comes *last*: a 1 × 1 convolution scores every cell, and the scores are averaged. The scored
# cells are the map. AlexNet and VGG16 have several fully connected layers after their last maps, and for
# these there is [Grad-CAM](../03_grad_cam.ipynb).
#
# Code that you find may name the wrong layer; the library refuses it:

# %%
try:
    class_activation_map(resnet, batches["test"][:1], 0, layer="layer4.1.bn2")
except ValueError as error:
    print(error)

# %% [markdown]
# ## What the paper measured
#
# Published figures, nothing of it was repeated here. The paper replaces the fully connected layers of AlexNet, VGG16 and
# GoogLeNet by an average and one linear layer, trains them again, and boxes the maps at a threshold of 20 %. No network
# ever sees a box in training.
#
# | Network, ImageNet | Localisation error, top-1 | top-5 |
# |---|---|---|
# | AlexNet-GAP | 67.19 % | 52.16 % |
# | VGG-GAP | 57.20 % | 45.14 % |
#
# On the test set the paper's best network has a top-5 error of 37.1 %, against 34.2 % of a network that was trained *with*
# boxes. A map costs something, too: with the new last layers the networks name classes somewhat worse. (The last
# sentence is from memory of the paper, and was not verified for this course.)
#
# **Since then.** Grad-CAM ([Lesson 03](../03_grad_cam.ipynb)) needs no new training. Grad-CAM++ weights the gradients so
# that several objects of one class count. LayerCAM takes earlier, finer layers. HiResCAM keeps the weight of each cell.

# %% [markdown]
# ## On real data
#
# Oxford-IIIT Pet has the outlines of cats and dogs. A hundred of its test photographs, each with the evidence for what the
# network names first (about half a minute). The centre of the picture is the baseline. The cells can be run alone.

# %%
import numpy as np
import torch

from xailab import figures, images
from xailab.boxes import iou
from xailab.cam import class_activation_map
from xailab.lessons import real
from xailab.localization import boxes, ground_truth_box
from xailab.metrics import interval, pointing_game
from xailab.models import zoo

if real.here("oxford-pets") and (name := real.weights("resnet50", "resnet18", "squeezenet1_0")):
    network = zoo.load(name)
    batch, pictures, pets = real.pets(network.preprocess)
    heats = torch.cat([class_activation_map(network, part) for part in batch.split(20)])
    panels = [images.overlay(images.grey(pictures[i]), heats[i]) for i in range(min(10, len(pets)))]
    figures.show(
        figures.grid(panels, panel=2.2),
        "Photographs of cats and dogs, with the evidence for the network's first guess laid over.",
    )
    large = images.upsample(heats, pets.shape[1:])
    hits = np.array([pointing_game(mask, heat) for heat, mask in zip(large, pets, strict=True)])
    centre = pets[:, pets.shape[1] // 2, pets.shape[2] // 2]
    print(f"hits {hits.mean():.2f} {interval(hits)}, centre {centre.mean():.2f} {interval(centre)}")
    for t in (0.2, 0.4, 0.6):
        fit = [sum(iou(box, ground_truth_box(m)) for box in boxes(h, t)[:1]) for h, m in zip(large, pets, strict=True)]
        print(f"boxes at {t} of the maximum: median IoU {np.median(fit):.2f}")

# %% [markdown]
# ResNet18 on STL-10 is the classroom's usual pair. Its features need no training: a new linear layer on their averages is
# fitted to 500 photographs, and its maps are exact as before (about a minute).

# %%
from sklearn.linear_model import LogisticRegression

from xailab.datasets import downloaded
from xailab.hooks import recording

if real.here("stl10", "weights/resnet18"):
    network = zoo.load("resnet18")
    train, test = (downloaded.stl10(split, preprocess=network.preprocess) for split in ("train", "test"))

    def averages(data, rows):
        with torch.no_grad(), recording(network, "avgpool") as recorded:
            network(torch.stack([data[i][0] for i in rows]))
        return recorded["avgpool"].flatten(1)

    rows = np.random.default_rng(0).permutation(len(train))[:500]
    pooled = torch.cat([averages(train, part) for part in np.array_split(rows, -(-len(rows) // 50))])
    linear = LogisticRegression(max_iter=1000).fit(pooled, train.labels[rows])
    network.fc = torch.nn.Linear(512, len(linear.classes_))
    network.fc.load_state_dict({"weight": torch.tensor(linear.coef_), "bias": torch.tensor(linear.intercept_)})
    batch = torch.stack([test[i][0] for i in range(min(20, len(test)))])
    scores, heats = network(batch).detach(), class_activation_map(network, batch)
    panels = [images.overlay(p, heat) for p, heat in zip(network.preprocess.undo(batch), heats, strict=True)]
    figure = figures.grid(panels, [test.classes[c] for c in scores.argmax(1)], columns=5, panel=1.9)
    figures.show(figure, "Unseen STL-10 photographs, each with the class named by the network and its evidence.")
    right = (scores.argmax(1).numpy() == test.labels[: len(batch)]).mean()
    print(f"training {linear.score(pooled, train.labels[rows]):.2f}, held out {right:.2f} of {len(batch)} photographs")

# %% [markdown]
# ## Summary
#
# > **Key idea.** A threshold looks better on the pictures on which it was chosen. The fewer pictures, the more.
#
# > **Key idea.** A value belongs to the centre of its cell. Enlarge a map so that the centres stay in place.
#
# > **Key idea.** Larger pictures give finer maps, of answers that the network was not trained to give.
#
# **Reading, and why**
#
# - B. Zhou et al., [Learning Deep Features for Discriminative Localization](https://arxiv.org/abs/1512.04150), CVPR 2016.
#   Its experiments, which are quoted here.
# - M. Lin, Q. Chen, S. Yan, [Network in Network](https://arxiv.org/abs/1312.4400), ICLR 2014. The average in place of fully
#   connected layers.
# - J. Choe et al., [Evaluating Weakly Supervised Object Localization Methods Right](https://arxiv.org/abs/2001.07437), CVPR
#   2020. What remains of the progress since CAM when thresholds are chosen honestly.
#
# [Back to the lesson](../02_cam.ipynb) · Next: [03 · Grad-CAM](../03_grad_cam.ipynb)
