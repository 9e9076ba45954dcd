# %% [markdown]
# # 02 · Class activation maps
#
# **About {reading} minutes to read, {exercises} for the exercises · 2 GiB of memory · no GPU, no network needed**
#
# A network says "tiger cat". *Where* in the picture is the evidence? For a large family of networks the answer
# stands, exactly, in the arithmetic of the last two layers.
#
# **Afterwards you can**
# - take the last feature maps out of a network in plain PyTorch, and turn them into the map of a class,
# - prove that the map adds up to the score, and find a wrong layer by this identity,
# - see through an overlay that glows for nothing, and say why one animal speaks against another,
# - measure maps with a baseline and an honest threshold.
#
# **You need** convolutions, matrix products, and a little PyTorch. Lesson 01 is not required.
#
# **Contents:** [The idea](#The-idea) · [By hand](#By-hand) · [In plain PyTorch](#In-plain-PyTorch) ·
# [The library](#The-library) · [On photographs](#On-photographs) · [Two classes in one
# picture](#Two-classes-in-one-picture) · [How good are the maps?](#How-good-are-the-maps?) · [Where it
# fails](#Where-it-fails) · [Explorer](#Explorer) · [Exercises](#Exercises) · [Self-test](#Self-test) · [On real
# data](#On-real-data) · [Summary](#Summary)
#
# [← 01 · What a convolution costs](01_flops.ipynb) · [03 · Grad-CAM →](03_grad_cam.ipynb) ·
# [what goes beyond: 02 deeper](deeper/02_cam.ipynb)

# %% [markdown]
# ## The idea
#
# Many networks end in the same way. The last convolution gives feature maps $f_k(x, y)$. Each feature map is averaged
# over its $Z$ cells, which is called *global average pooling*, or GAP. One linear layer turns the averages into the
# score $S_c$ of each class:
#
# $$S_c = \sum_k w^c_k \, \frac{1}{Z} \sum_{x, y} f_k(x, y) + b_c .$$
#
# Both sums are finite, so they may change places. What then stands inside the average is the **class activation map**
# ([Zhou et al. 2016](https://arxiv.org/abs/1512.04150), equation 2):
#
# $$M_c(x, y) = \sum_k w^c_k \, f_k(x, y), \qquad S_c = \frac{1}{Z} \sum_{x, y} M_c(x, y) + b_c .$$
#
# The paper sums where we average, and leaves out the bias. Each cell of $M_c$ holds the evidence of its place for class $c$, in units of the score. The
# figure shows both ways to the score in EfficientNet-Lite0,
# which was trained on ImageNet, with three of its 1280 feature maps.

# %%
import numpy as np
import torch

from xailab import figures, images
from xailab.datasets import photographs
from xailab.lessons import cam as lesson
from xailab.models import zoo

torch.set_grad_enabled(False)  # nothing is differentiated in this lesson, which saves memory
network = zoo.load("efficientnet_lite0")
batch = network.preprocess(photographs.photograph("cat").image)  # (1, 3, 224, 224)
cat = network.classes.index("tiger cat")
figures.show(
    lesson.draw_idea(network, batch, cat),
    "Convolutions turn a cat's picture into feature maps. One arrow leads through the averages to the score; another one "
    "down to the weighted maps, whose sum glows on the cat's face, and from there up to the same score.",
)

# %% [markdown]
# **Predict before you run.**
#
# 1. The score is the mean of the map plus the bias. Can a single cell be larger than the score? By how much?
# 2. You add one and the same map to the maps of *all* classes. Do the scores change? Do the probabilities?

# %% [markdown]
# *Your predictions (double-click here and write):* …

# %% [markdown]
# ## By hand
#
# Two feature maps of 3 × 3 cells, two classes, and three loops.

# %%
features = torch.tensor([[[0.0, 0, 0], [0, 3, 6], [0, 0, 0]], [[9.0, 0, 0], [0, 0, 0], [0, 0, 0]]])  # (k, h, w)
weight = torch.tensor([[1.0, 0.0], [-1.0, 2.0]])  # (classes, k)
bias = torch.tensor([0.5, -0.5])


def cam_by_loops(features, weight, c):
    channels, rows, columns = features.shape
    cam = torch.zeros(rows, columns)
    for y in range(rows):
        for x in range(columns):
            for k in range(channels):
                cam[y, x] += weight[c, k] * features[k, y, x]
    return cam


for c in (0, 1):
    cam = cam_by_loops(features, weight, c)
    score = weight[c] @ features.mean((1, 2)) + bias[c]
    print(f"class {c}: map {cam.int().tolist()}, mean + bias {cam.mean() + bias[c]:.2f}, score {score:.2f}")

# %% [markdown]
# The mean of each map plus the bias is the score. A cell can be far larger than the score: 18 where the score is 0.50.
# Class 1 has negative cells exactly where class 0 has its evidence.

# %% [markdown]
# ## In plain PyTorch
#
# The weights of the last layer are `network.fc.weight`. For the feature maps we need a *forward hook*, a function that
# PyTorch calls whenever a layer has run. Ours keeps the output of `relu1`, the last layer before the average. In the
# ResNets of torchvision this layer is `layer4`.


# %%
def cam_with_a_hook(network, layer, batch, c):
    kept = []
    hook = layer.register_forward_hook(lambda module, inputs, output: kept.append(output))
    scores = network(batch)
    hook.remove()
    cam = torch.einsum("k,nkhw->nhw", network.fc.weight[c], kept[0])  # equation 2
    return cam, scores[:, c]


cam, score = cam_with_a_hook(network, network.relu1, batch, cat)
print(f"map of {cam.shape[1]} × {cam.shape[2]} cells from {cam.min():.2f} to {cam.max():.2f}")
print(f"mean of the map + bias = {cam.mean() + network.fc.bias[cat]:.4f}")
print(f"score of the network   = {score[0]:.4f}")

# %% [markdown]
# The map is the score, spread over the picture. The line `hook.remove()` matters. Code without it registers a hook in each
# call and leaves it there. **Predict:** how many maps are stored after six calls?

# %%
stored = []
for call in range(1, 7):
    network.relu1.register_forward_hook(lambda module, inputs, output: stored.append(output))
    network(batch)
    hooks, megabytes = len(network.relu1._forward_hooks), sum(each.nbytes for each in stored) / 1e6
    print(f"after call {call}: {hooks} hooks, {len(stored):2d} stored maps, {megabytes:.2f} MB")
network.relu1._forward_hooks.clear()

# %% [markdown]
# Every old hook runs again in every new call, so the memory grows with the square of the calls. The maps stay right, and
# therefore nobody notices. A hook belongs to the network, not to the function that registered it.

# %% [markdown]
# ## The library
#
# `class_activation_map(model, images, target)` finds what is averaged and which linear layer follows, and removes its
# hooks. A target is one class, or a list with one class for each picture. `[[cat, espresso]]` asks for two classes of
# one picture, from one forward pass.

# %%
from xailab.cam import class_activation_map

assert torch.allclose(class_activation_map(network, batch, cat), cam, atol=1e-4)
espresso = network.classes.index("espresso")
pair = network.preprocess(photographs.stacked("cat", "cup"))
heats = class_activation_map(network, pair, [[cat, espresso]])
print("equal to the map of our hook; two classes:", tuple(heats.shape), "= (pictures, classes, rows, columns)")

# %% [markdown]
# ## On photographs
#
# The last picture is a composite, a cat above a cup, so we know where each class belongs. **Predict:** which share of
# the positive evidence for "tiger cat", and for "espresso", lies in the upper half?
#
# *Your prediction:* …

# %%
seen, probability = network.preprocess.undo(pair)[0], network(pair).softmax(1)[0]
scale = float(heats.max())  # one for both classes
overlays = [images.overlay(images.grey(seen), heat, scale=scale) for heat in heats[0]]
figures.show(
    figures.strip([seen, *overlays], ["what the network saw", "“tiger cat”", "“espresso”"], panel=4.0),
    "A cat above a cup. On the grey photograph the map for tiger cat covers the cat's face and fades at the cup; the map "
    "for espresso covers the coffee.",
)
for c, heat in zip((cat, espresso), images.upsample(heats[0].relu(), 224), strict=True):
    print(f"{network.classes[c]}: probability {probability[c]:.2f}, upper half {heat[:112].sum() / heat.sum():.2f}")

# %% [markdown]
# Each class lights up its own half, although the network was trained on names only. The photograph below is grey, so that
# all colours belong to the map. Zero evidence is transparent, and both classes share one scale.
#
# Six photographs, each with the map of the network's first guess, on its own scale:

# %%
names = ["cat", "cup", "motorcycle", "temple", "flower", "rocket"]
batch = network.preprocess([photographs.photograph(name).image for name in names])
guesses = network(batch).argmax(1)
seen, heats = network.preprocess.undo(batch), class_activation_map(network, batch, guesses)
panels = [images.overlay(images.grey(picture), heat) for picture, heat in zip(seen, heats, strict=True)]
figures.show(
    figures.grid(panels, [f"“{network.classes[c]}”" for c in guesses], columns=3, panel=3.4),
    "Six grey photographs with their maps: on the cat's cheek and nose, the coffee, the motorcycle's engine, the temple, "
    "the centre of the flower, and two spots left and right of the rocket.",
)

# %% [markdown]
# A map often covers only a part of the thing.  The rocket's map
# is brightest left and right of the rocket: perhaps these cells look far beyond their own place
# ([lesson 06](06_feature_maps.ipynb) measures this).
#
# (Temple by danielbuechele, flower by vultilion, both CC BY 2.0; [lesson 00](00_welcome.ipynb) names the others.)

# %% [markdown]
# ## Two classes in one picture
#
# For exact masks we turn to rendered scenes, and to the small ResNet that was trained on them. The scenes are drawn at 128
# or 256 pixels. `resnet.preprocess` resizes each to 128 × 128, and the network makes 8 × 8 cells of that, so a cell
# stands for 16 × 16 pixels of the network's input.
#
# **Predict:** a picture shows a cat and a dog. Is the map for "cat" positive, zero, or negative on the dog?
#
# *Your prediction:* …

# %%
from xailab.datasets import scenes
from xailab.metrics import interval

resnet = zoo.load("scenes_resnet")
of_cat, of_dog = scenes.CLASSES.index("cat"), scenes.CLASSES.index("dog")
pairs = [scenes.scene(i, kind="pair", label=(of_cat, of_dog), split="test", size=256) for i in range(60)]
batch = resnet.preprocess([scene.image for scene in pairs])
cams = class_activation_map(resnet, batch, [list(range(10))] * 60)  # (60, 10, 8, 8): all ten classes
figures.show(
    lesson.draw_signed(pairs[1:3], cams[1:3, [of_cat, of_dog]], ["cat", "dog"]),
    "Two scenes with a cat and a dog. The map for cat is red on the cat and blue on the dog; that for dog the other way round.",
)

# %% [markdown]
# Sixty scenes, with 95 % intervals:


# %%
def mean_on(heats, masks):  # the mean of each map on the object in its picture
    large = images.upsample(heats, 256)
    return ((large * masks).sum((1, 2)) / masks.sum((1, 2))).numpy()


on_cat, on_dog = (torch.from_numpy(np.stack([scene.masks[k] for scene in pairs])) for k in (0, 1))
relative = cams - cams.mean(1, keepdim=True)  # evidence compared with the mean of all ten classes
for name, c, other in (("map for cat, on the dog", of_cat, on_dog), ("map for dog, on the cat", of_dog, on_cat)):
    for kind, heats in (("as it is", cams), ("minus the mean class", relative)):
        value = mean_on(heats[:, c], other)
        share, (low, high) = np.mean(value < 0), interval(value < 0)
        print(f"{name}, {kind:20s}: mean {value.mean():5.2f}, negative in {share:.2f} ({low:.2f} to {high:.2f})")

# %% [markdown]
# Each animal is evidence *against* the other. **The reason** is the cross-entropy of the softmax, which training lowers. Its
# derivatives by a score and by a weight are
#
# $$\frac{\partial L}{\partial S_c} = p_c - y_c, \qquad \frac{\partial L}{\partial w^c_k} = (p_c - y_c) \, F_k ,$$
#
# with the probability $p_c$, the label $y_c$ (1 for the right class, else 0), and the average $F_k$ of $f_k$. In a
# picture of a dog $y_{cat} = 0$, so each step of gradient descent takes a little of $p_{cat} F_k$ away from $w^{cat}_k$. After a ReLU, $F_k$ is never
# negative, so channels that are active on dogs lose weight for "cat". Now your second prediction, with a random map that is added to all ten classes:

# %%
scores = cams[0].mean((1, 2)) + resnet.fc.bias
same = 5 * torch.rand(8, 8, generator=torch.Generator().manual_seed(0))
moved = (cams[0] + same).mean((1, 2)) + resnet.fc.bias
change = (moved.softmax(0) - scores.softmax(0)).abs().max()
print(f"scores rise by {(moved - scores).mean():.2f}; largest change of a probability: {change:.4f}")

# %% [markdown]
# All scores rise, and no probability changes. Only *differences* between classes are fixed by the data: where zero
# lies was left to the training, and an overlay with a transparent zero takes this zero as it is. The rows "minus the mean
# class" do not depend on it, and the other animal is negative there in most scenes, too.

# %% [markdown]
# ## How good are the maps?
#
# Two measures, each a single line. In the *pointing game* ([Zhang et al. 2016](https://arxiv.org/abs/1608.00507)) a map
# scores a hit if its largest value lies on the object. A *box* surrounds the largest connected region in which the enlarged
# map reaches a share of its maximum, the *threshold*. Its *IoU* with the object's box is the area that both share, divided
# by the area that they cover together.
#
# **Predict:** how often does the largest value lie on the object, and how often does the *centre of the picture*? Will the
# best threshold be nearer to 0.2, which the paper takes for ImageNet, or to 0.6?
#
# *Your prediction:* …

# %%
from xailab.localization import boxes, ground_truth_box


def pointing(heat, mask):
    return bool(mask.flat[heat.argmax()])


def iou(a, b):  # of two masks
    return (a & b).sum() / (a | b).sum()


def measured(split, thresholds):
    drawn = [scenes.scene(i, split=split) for i in range(300)]
    batch, labels = resnet.preprocess([scene.image for scene in drawn]), [scene.labels[0] for scene in drawn]
    heats, masks = images.upsample(class_activation_map(resnet, batch, labels), 128), [s.masks[0] for s in drawn]
    overlap = np.zeros((300, len(thresholds)))
    for i, heat in enumerate(heats):
        true = ground_truth_box(masks[i]).mask(128, 128)
        overlap[i] = [iou(boxes(heat, threshold)[0].mask(128, 128), true) for threshold in thresholds]
    return np.array([pointing(heat, mask) for heat, mask in zip(heats, masks, strict=True)]), np.stack(masks), overlap


# %% [markdown]
# The threshold is **chosen on training scenes and measured on test scenes**, or the result would look better than it is.

# %%
thresholds = np.linspace(0.05, 0.95, 19)
_, _, training = measured("train", thresholds)
hits, masks, test = measured("test", thresholds)
chosen, best = training.mean(0).argmax(), test.mean(0).argmax()
cases = {
    "CAM hits": hits,
    "the centre hits": masks[:, 64, 64],
    "mean IoU": test[:, chosen],
    "mean IoU at 0.20": test[:, 3],
}
for name, values in cases.items():
    low, high = interval(values)
    print(f"{name:16s} {values.mean():.3f} ({low:.3f} to {high:.3f})")
loss = test[:, best].mean() - test[:, chosen].mean()
print(f"chosen threshold {thresholds[chosen]:.2f}; loss against a threshold chosen on the test scenes {loss:.3f}")
figures.show(
    lesson.draw_measures(hits, masks, thresholds, {"training": training, "test": test}, chosen),
    "Left: bars with intervals; CAM hits the object nearly always, the centre in seven of ten scenes. Right: the mean overlap of "
    "the boxes rises to its peak at a threshold of 0.45 and then falls; training and test scenes agree.",
)

# %% [markdown]
# Always pointing at the centre would hit in 70 % of the scenes, as objects tend to stand there, so 97 % is a real gain. A lower
# threshold gives a larger box. The best one here is 0.45, nearer to 0.6 than to 0.2: boxes depend on the threshold, 0.63
# at 0.45 but 0.52 at 0.20. With 300 training scenes to choose on, nothing is lost; the
# [deeper notebook](deeper/02_cam.ipynb) shows boxes, and what is lost with ten.

# %% [markdown]
# ## Where it fails
#
# **1. One layer too early.** Some code records the last batch norm of a ResNet. After it come the residual sum and a
# ReLU, and only then the average. **Predict:** will the picture give the mistake away?

# %%
from xailab.hooks import recording

dog_scene = scenes.scene(2, label=of_dog, split="test", size=256)
batch = resnet.preprocess(dog_scene.image)
with recording(resnet, "layer4.1.bn2", "layer4") as recorded:  # a hook that removes itself
    score = resnet(batch)[0, of_dog]
weight, bias = resnet.fc.weight[of_dog], resnet.fc.bias[of_dog]
early, right = (torch.einsum("k,khw->hw", weight, recorded[name][0]) for name in ("layer4.1.bn2", "layer4"))
print(f"score {score:.2f}; mean + bias: layer4 {right.mean() + bias:.2f}, layer4.1.bn2 {early.mean() + bias:.2f}")
print(f"largest error of a cell: {(early - right).abs().max() / right.max():.3f} of the peak")
figures.show(
    lesson.draw_raw(dog_scene.image, [right, early, early - right], ["layer4", "layer4.1.bn2", "their difference"]),
    "A dog and three maps on one scale: both layers are red on the dog; their difference is blue on the dog's head.",
)

# %% [markdown]
# Both maps look plausible, and even the totals are near each other, because errors of single cells happen to cancel.
# Single cells are wrong by more than a third of the peak. The identity decides: 4.13 is the score, 4.24 is not.
# `class_activation_map` tests it: with `layer="layer4.1.bn2"` it raises an error.
#
# **2. A class that is not there.** The network gives the cat's photograph nearly no probability for "gibbon", an ape.
# **Predict:** will an overlay that is stretched from the map's minimum to its maximum stay empty?

# %%
batch = network.preprocess(photographs.photograph("cat").image)
two = class_activation_map(network, batch, [[cat, network.classes.index("gibbon")]])[0]
figures.show(
    lesson.draw_trap(network.preprocess.undo(batch)[0], two, ["tiger cat", "gibbon"]),
    "Above, tiger cat: both overlays glow on the face. Below, gibbon: the stretched overlay glows nearly everywhere, the "
    "overlay with a transparent zero is the plain photograph, and the raw map is blue everywhere.",
)
umbrella = class_activation_map(resnet, resnet.preprocess(dog_scene.image), scenes.CLASSES.index("umbrella"))[0]
for name, heat in (("tiger cat", two[0]), ("gibbon", two[1]), ("umbrella in the dog's scene", umbrella)):
    zero = -heat.min() / (heat.max() - heat.min())
    print(f"{name}: from {heat.min():.1f} to {heat.max():.1f}; stretched, zero lies at {zero:.3f}")

# %% [markdown]
# There is no gibbon, and still the picture glows. The reason is the stretching. Every cell speaks against the gibbon, and the
# cells that speak against it least are drawn brightest. Zero would lie at 1.17, beyond the brightest colour. The umbrella's map has a few weakly positive cells, and stretching draws its zero at 0.807; only a scale that classes share
# keeps them faint. A stretched overlay shows where a map is
# largest, and never whether that is much.
#
# **3. An accuracy on training pictures.** A tutorial reports "95 % accuracy on the train images". We fit a new last layer for
# the ten classes of the scenes to 60 scenes, and another one to *shuffled* labels.

# %%
from sklearn.linear_model import LogisticRegression


def averages(split):
    drawn, pooled = [scenes.scene(i, split=split) for i in range(60)], []
    for part in network.preprocess([scene.image for scene in drawn]).split(20):  # 20 at a time save memory
        with recording(network, "relu1") as recorded:
            network(part)
        pooled.append(recorded["relu1"].mean((2, 3)))
    return torch.cat(pooled).numpy(), np.array([scene.labels[0] for scene in drawn])


(fitted, labels), (unseen, truth) = averages("train"), averages("test")
for name, y in (("right", labels), ("shuffled", np.random.default_rng(0).permutation(labels))):
    head = LogisticRegression(max_iter=1000).fit(fitted, y)
    held_out = head.predict(unseen) == truth
    low, high = interval(held_out)
    print(
        f"{name} labels: training {head.score(fitted, y):.2f}, held out {held_out.mean():.2f} ({low:.2f} to {high:.2f})"
    )

# %% [markdown]
# Both layers are perfect on their training pictures, so such a number proves nothing. Only held-out pictures tell the two
# layers apart.
#
# **4. Other heads.** CAM *in this form* needs an average and one linear layer. A linear layer on the *flattened* maps has
# exact maps too: the cells $\sum_k w^c_k(x, y) f_k(x, y)$ sum up to the score without its bias. Exercise 02.7 derives
# them. For several layers on top, [Lesson 03](03_grad_cam.ipynb) takes over.
#
# **5. Coarse cells.** The identity says how the score is composed of 7 × 7 cells. It does not say what each cell has looked
# at.

# %% [markdown]
# ## Explorer
#
# Try a class that is *not* in the picture, and watch the colour bar.

# %%
lesson.cam_explorer(resnet, [scene.image for scene in (*pairs[1:3], dog_scene)])

# %% [markdown]
# ## Exercises
#
# Write into the cell, run it, and read what `check` says. Solve 02.1, 02.4 and 02.5, and then choose.

# %% [markdown]
# ### 02.1 The map itself
# *Difficulty 1 of 5, about 5 minutes.* Write $M_c = \sum_k w^c_k f_k$ for features (k, h, w) and weights (classes,
# k), without a loop over cells.
#
# <details><summary>Hint</summary>
#
# `weight[c]` has shape (k,). Give it two more dimensions, multiply, and sum over the channels.
# </details>

# %% tags=["exercise"]
from xailab.lessons import check


def my_cam(features, weight, c):
    return ...


check("02.1", my_cam)

# %% tags=["solution"]
from xailab.lessons import check


def my_cam(features, weight, c):
    return torch.einsum("k,khw->hw", weight[c], features)


check("02.1", my_cam)

# %% [markdown]
# ### 02.2 Half a picture
# *Difficulty 2 of 5, about 10 minutes.* From features (k, h, w) and weights (classes, k), return the number of the
# class that has the most evidence in the **left half** of the picture, its first w // 2 columns. Raw maps add up over
# any region.
#
# <details><summary>Hint</summary>
#
# The maps of all classes at once: `torch.einsum("ck,khw->chw", weight, features)`.
# </details>


# %% tags=["exercise"]
def my_half(features, weight):
    return ...


check("02.2", my_half)


# %% tags=["solution"]
def my_half(features, weight):
    maps = torch.einsum("ck,khw->chw", weight, features)
    return maps[..., : maps.shape[-1] // 2].sum((1, 2)).argmax()


check("02.2", my_half)

# %% [markdown]
# ### 02.3 A trap of your own
# *Difficulty 2 of 5, about 10 minutes.* Find another confident map of nothing, like the gibbon: a photograph of `photographs.names()`
# and a class of EfficientNet-Lite0 whose stretched overlay draws zero at 0.9 or more of its scale, while the class has
# a probability below 0.001. Return both names. Then look at your find with `lesson.draw_trap`.
#
# <details><summary>Hint 1</summary>
#
# All thousand maps of a picture: `class_activation_map(network, batch, [list(range(1000))])[0]`.
# </details>
# <details><summary>Hint 2</summary>
#
# Zero lies at `-low / (high - low)`, with the smallest and the largest cell of each map. If all cells are negative, it
# lies beyond 1, which is fine.
# </details>


# %% tags=["exercise"]
def my_trap():
    return ...


check("02.3", my_trap)


# %% tags=["solution"]
def my_trap():
    batch = network.preprocess(photographs.photograph("motorcycle").image)
    maps = class_activation_map(network, batch, [list(range(1000))])[0]
    low, high = maps.amin((1, 2)), maps.amax((1, 2))
    return "motorcycle", network.classes[int((-low / (high - low)).argmax())]


check("02.3", my_trap)

# %% [markdown]
# ### 02.4 Overlays that can be compared
# *Difficulty 2 of 5, about 10 minutes.* From the raw maps of several classes of one picture (classes, h, w), return the
# opacity of each cell of each overlay (classes, h, w): from 0, where the photograph stays as it is, to 1. Evidence of
# zero and evidence against the class are transparent. Equal evidence gets equal opacity, whatever the class, and the
# largest evidence of all gets 1. If no class has any evidence, everything is transparent.
#
# <details><summary>Hint</summary>
#
# `maps.clamp(min=0)`; then one division for all maps. What happens if the largest value is 0?
# </details>


# %% tags=["exercise"]
def my_opacity(maps):
    return ...


check("02.4", my_opacity)


# %% tags=["solution"]
def my_opacity(maps):
    positive = maps.clamp(min=0)
    return positive / positive.max().clamp(min=1e-12)


check("02.4", my_opacity)

# %% [markdown]
# ### 02.5 Which layer is it?
# *Difficulty 3 of 5, about 15 minutes.* You get a network that ends in an average and `network.fc`, a batch, and the
# names of three layers whose outputs have the shape (n, k, rows, columns). Return the name of the layer whose weighted
# maps are the class activation maps. Do not judge by names, by their order, or by how a map looks: let the identity
# decide, for all pictures and all classes. Leave no hook on the network, and do not use `xailab`.
#
# <details><summary>Hint 1</summary>
#
# `network.get_submodule(name)` is the layer. Register a hook for each, run the network once, and remove the hooks.
# </details>
# <details><summary>Hint 2</summary>
#
# `features.mean((2, 3)) @ network.fc.weight.T + network.fc.bias` should be the scores of the network.
# </details>


# %% tags=["exercise"]
def my_layer(network, batch, names):
    return ...


check("02.5", my_layer)


# %% tags=["solution"]
def my_layer(network, batch, names):
    kept, errors = {}, {}
    hooks = []
    for name in names:

        def keep(module, inputs, output, name=name):
            kept[name] = output

        hooks.append(network.get_submodule(name).register_forward_hook(keep))
    with torch.no_grad():
        scores = network(batch)
        for hook in hooks:
            hook.remove()
        for name in names:
            found = kept[name].mean((2, 3)) @ network.fc.weight.T + network.fc.bias
            errors[name] = float((found - scores).abs().max())
    return min(errors, key=errors.get)


check("02.5", my_layer)

# %% [markdown]
# ### 02.6 The box
# *Difficulty 3 of 5, about 15 minutes.* Return `(left, top, right, bottom)` of the largest connected region (most
# pixels; diagonal neighbours are connected) in which a raw map reaches `threshold` times its maximum. Right and bottom
# are one past the last pixel.
#
# <details><summary>Hint 1</summary>
#
# `scipy.ndimage.label(bright, structure=np.ones((3, 3)))` numbers the regions; `np.bincount` counts their pixels.
# </details>
# <details><summary>Hint 2</summary>
#
# `np.nonzero(region)` gives rows (y) first, then columns (x).
# </details>


# %% tags=["exercise"]
def my_box(cam, threshold):
    return ...


check("02.6", my_box)

# %% tags=["solution"]
from scipy import ndimage


def my_box(cam, threshold):
    bright = np.asarray(cam) >= threshold * float(cam.max())
    regions, _ = ndimage.label(bright, structure=np.ones((3, 3)))
    largest = np.bincount(regions.ravel())[1:].argmax() + 1
    y, x = np.nonzero(regions == largest)
    return x.min(), y.min(), x.max() + 1, y.max() + 1


check("02.6", my_box)

# %% [markdown]
# ### 02.7 A flattened head
# *Difficulty 4 of 5, about 15 minutes.* No average: `nn.Flatten` turns features (k, h, w) into one vector, and one
# linear layer with `weight` (classes, k · h · w) and `bias` follows. Write the score of class `c` as a sum over the
# cells, and return the map (h, w) whose **sum** plus the bias is this score.
#
# <details><summary>Hint 1</summary>
#
# The score is $\sum_k \sum_{x, y} w^c_k(x, y) f_k(x, y) + b_c$. Which of the two sums is the map?
# </details>
# <details><summary>Hint 2</summary>
#
# `Flatten` counts the columns fastest, then the rows, then the channels, so `weight[c].reshape(features.shape)` has the
# weight of each channel and cell.
# </details>


# %% tags=["exercise"]
def my_flat_map(features, weight, c):
    return ...


check("02.7", my_flat_map)


# %% tags=["solution"]
def my_flat_map(features, weight, c):
    return (weight[c].reshape(features.shape) * features).sum(0)


check("02.7", my_flat_map)

# %% [markdown]
# The gradient of this score by $f_k(x, y)$ is $w^c_k(x, y)$, so the map is gradient times feature, cell by cell. This is
# HiResCAM, whose guarantee [Lesson 03](03_grad_cam.ipynb) uses. Grad-CAM would average the weights first.

# %% [markdown]
# ## Self-test
#
# Answer from memory, then unfold.
#
# <details><summary>1. What does CAM need of a network, and which other head has exact maps?</summary>
#
# An average and one linear layer. One linear layer on the flattened maps has exact maps as well; their *sum* plus the
# bias is the score.
# </details>
#
# <details><summary>2. How do you get $f_k$ out of a network in plain PyTorch?</summary>
#
# `hook = layer.register_forward_hook(lambda module, inputs, output: kept.append(output))`, one forward pass, and then
# `hook.remove()`, or n calls store n (n + 1) / 2 maps.
# </details>
#
# <details><summary>3. Why is the other animal negative rather than zero?</summary>
#
# Classes compete in the softmax. In pictures of dogs, training lowers the weights for "cat" of the channels that are
# active. Only differences between classes count; zero is a convention.
# </details>
#
# <details><summary>4. An overlay glows for a class that is not there. How can that be?</summary>
#
# Stretching has moved zero, and the least negative cells glow. Draw zero as transparent, and give all classes one scale.
# </details>
#
# <details><summary>5. A map looks good. How do you find out whether it comes from the right layer?</summary>
#
# By the identity: mean plus bias must be the score, for several classes and pictures.
# </details>

# %% [markdown]
# ## On real data
#
# If the weights of a ResNet or of SqueezeNet are on your disk, this cell shows how they see the composite. The
# [deeper notebook](deeper/02_cam.ipynb) measures maps on Oxford-IIIT Pet and on STL-10.

# %%
from xailab import figures
from xailab.lessons import cam as lesson
from xailab.lessons import real
from xailab.models import zoo

if name := real.weights("resnet50", "resnet18", "squeezenet1_0"):
    figure, shares = lesson.draw_composite(zoo.load(name), name)
    figures.show(figure, "A cat above a cup, twice: the evidence for the class of the cat, and for that of the cup.")
    print(shares)

# %% [markdown]
# ## Summary
#
# > **Key idea.** If an average and one linear layer end the network, $M_c = \sum_k w^c_k f_k$ is an exact account of the
# > score: mean plus bias. If it does not add up, the wrong layer was recorded.
#
# > **Key idea.** Maps have signs. Classes compete, so evidence against a class is information. Draw zero as transparent,
# > and compare classes on one scale.
#
# > **Key idea.** Hits need a baseline. Thresholds are chosen on some pictures, and results are measured on others.
#
# **Reading, and why**
#
# - B. Zhou et al., [Learning Deep Features for Discriminative Localization](https://arxiv.org/abs/1512.04150), CVPR 2016.
#   The method, in two equations.
# - M. Lin, Q. Chen, S. Yan, [Network in Network](https://arxiv.org/abs/1312.4400), ICLR 2014. Where GAP comes from.
# - R. L. Draelos, L. Carin, [Use HiResCAM instead of Grad-CAM](https://arxiv.org/abs/2011.08891), 2020. Exact maps beyond
#   the average.
# - [Grad-CAM++](https://arxiv.org/abs/1710.11063), 2018, and [LayerCAM](https://doi.org/10.1109/TIP.2021.3089943), 2021.
#   Other weights, for several objects of one class, and for finer maps.
# - C. Rudin, [Stop explaining black box machine learning models](https://arxiv.org/abs/1811.10154), Nature Machine
#   Intelligence 2019. Why a network that explains itself is worth wanting.
#
# Next: [03 · Grad-CAM](03_grad_cam.ipynb), the same question for networks that end in another way.
