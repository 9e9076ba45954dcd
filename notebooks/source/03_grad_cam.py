# %% [markdown]
# # 03 · Grad-CAM
#
# **About {reading} minutes to read, {exercises} for the exercises · 2 GiB of memory · no GPU, no network needed**
#
# Class activation maps need a network that ends in an average and one linear layer. Grad-CAM shows the evidence for a
# class at *any* layer of *any* network that can be differentiated, and does not train the network again.
#
# **Afterwards you can**
# - write Grad-CAM with a hook and a gradient in ten lines of PyTorch,
# - prove when Grad-CAM is CAM up to a ReLU and a factor, and show at which layers its average misleads,
# - read a signed map, and ask what speaks *against* a class,
# - compare a map with a baseline and with a control that could have won.
#
# **You need** [Lesson 02](02_cam.ipynb), and an idea of what a gradient is.
#
# **Contents:** [The idea](#The-idea) · [By hand](#By-hand) · [In plain PyTorch](#In-plain-PyTorch-on-a-photograph) ·
# [The library](#The-library) · [Grad-CAM generalises CAM](#Grad-CAM-generalises-CAM) ·
# [Fine and class-discriminative](#Fine-and-class-discriminative) · [The pointing game](#The-pointing-game) ·
# [With ReLU and without](#With-ReLU-and-without) · [What speaks against a class](#What-speaks-against-a-class) ·
# [Where it fails](#Where-it-fails:-one-weight-for-all-cells) · [Explorer](#Explorer) · [Exercises](#Exercises) ·
# [Self-test](#Self-test) · [On real data](#On-real-data) · [Summary](#Summary)
#
# [← 02 · Class activation maps](02_cam.ipynb) · [04 · Guided backprop →](04_guided_backprop.ipynb) ·
# [what goes beyond: 03 deeper](deeper/03_grad_cam.ipynb)

# %% [markdown]
# ## The idea
#
# CAM weights each feature map $f_k$ by the linear weight $w^c_k$ that follows the average. Which weight should a
# feature map get where many layers follow? Grad-CAM asks how strongly the score $S_c$ reacts to this feature map. It
# differentiates the score at each of the $Z$ cells, and averages the gradient over the cells. The paper ([Selvaraju
# et al. 2017](https://arxiv.org/abs/1610.02391), equations 1 and 2) writes $A^k$ for $f_k$, and $y^c$ for $S_c$:
#
# $$\alpha^c_k = \frac{1}{Z} \sum_{x, y} \frac{\partial S_c}{\partial f_k(x, y)}, \qquad
# L_c(x, y) = \operatorname{ReLU}\Bigl(\sum_k \alpha^c_k \, f_k(x, y)\Bigr).$$
#
# $S_c$ is the score *before* the softmax. The method needs one forward pass, and one backward pass from the score to
# the layer. The softmax would mix in the other classes, and shrink the map of a sure
# answer. Any other number can be the target, too, such as the score of a word in a caption.
#
# **Predict before you run.** Equation 1 gives a feature map *one* weight for all its cells. What does this feature map add to the
# sum before the ReLU, in a cell with a strong activation whose own gradient is zero, while other cells have some?

# %% [markdown]
# *Your prediction (double-click here and write):* …

# %% [markdown]
# ## By hand
#
# Take two feature maps of 2 × 2 cells, and a linear layer that scores two classes. No average stands between them. We
# find the gradient without calculus: add 1 to one cell and look at the score. This is exact, as the head is linear.

# %%
import torch
from torch import nn

features = torch.tensor([[[3.0, 0], [0, 4]], [[0, 1], [2, 0]]])  # (k, rows, columns)
head = nn.Sequential(nn.Flatten(), nn.Linear(8, 2, bias=False))
with torch.no_grad():
    head[1].weight.copy_(torch.tensor([[1.0, 2, 2, 3, -4, 0, 0, 0], [0, 0, 0, 0, 1, 1, 1, 1]]))


@torch.no_grad()
def gradient_by_nudging(c):
    gradient = torch.zeros(8)
    for cell in range(8):
        nudged = features.flatten().clone()
        nudged[cell] += 1
        gradient[cell] = (head(nudged.view(1, 2, 2, 2)) - head(features[None]))[0, c]
    return gradient.view(2, 2, 2)


for c in (0, 1):
    alpha = gradient_by_nudging(c).mean((1, 2))  # equation 1
    signed = (alpha.view(-1, 1, 1) * features).sum(0)  # equation 2, before its ReLU
    print(f"class {c}: alpha {alpha.tolist()}, weighted sum {signed.tolist()}")

# %% [markdown]
# Check class 0. The mean of 1, 2, 2, 3 is 2, and the mean of −4, 0, 0, 0 is −1, so the first cell gets 2 · 3 − 1 · 0
# = 6. Now your prediction: the two active cells of the second map get −1 and −2, although class 0 does not react to
# these cells at all. **The average gives each cell the mean gradient of its channel, even where its own gradient
# is zero.** “Where it fails” measures how much this matters.

# %% [markdown]
# ## In plain PyTorch, on a photograph
#
# We now explain EfficientNet-Lite0, trained on ImageNet, on a composite of two photographs: a cat above, a cup of
# espresso below. A *forward hook* is a function that PyTorch calls whenever a layer has run. Ours keeps the layer's
# output. `torch.autograd.grad` differentiates the score by this output, and leaves nothing on the weights.

# %%
from xailab.datasets import photographs
from xailab.models import zoo

network = zoo.load("efficientnet_lite0")
batch = network.preprocess(photographs.stacked("cat", "cup"))  # (1, 3, 224, 224)
cat, espresso = network.classes.index("tiger cat"), network.classes.index("espresso")


def grad_cam_with_a_hook(network, layer, batch, c):
    kept = []
    hook = layer.register_forward_hook(lambda module, inputs, output: kept.append(output))
    scores = network(batch)
    hook.remove()
    features = kept[0]  # (n, k, rows, columns)
    (gradient,) = torch.autograd.grad(scores[:, c].sum(), features)  # of the score, at every cell
    alpha = gradient.mean((2, 3))  # equation 1: (n, k)
    heat = torch.einsum("nk,nkhw->nhw", alpha, features).relu()  # equation 2
    return heat.detach(), alpha, features.detach(), scores.detach()


heat_cat, alpha, features, scores = grad_cam_with_a_hook(network, network.relu1, batch, cat)
heat_espresso = grad_cam_with_a_hook(network, network.relu1, batch, espresso)[0]
for c in (cat, espresso):
    print(f"{network.classes[c]}: score {scores[0, c]:.2f}, probability {scores.softmax(1)[0, c]:.3f}")
print("feature maps", tuple(features.shape), "  weights", tuple(alpha.shape), "  map", tuple(heat_cat.shape))

# %% [markdown]
# The steps for "tiger cat", with the two feature maps that add most to its score, and the one that takes most away:

# %%
from xailab import figures, images
from xailab.lessons import grad_cam as lesson

seen = network.preprocess.undo(batch)[0]
figures.show(
    lesson.draw_idea(seen, features[0], alpha[0], "tiger cat", float(scores[0, cat])),
    "Convolutions turn a picture into feature maps, the rest of the network into a score. An orange arrow leads from the score back "
    "to a weight for each map; the weighted maps are added, and after a ReLU the result glows on the cat's face.",
)

# %% [markdown]
# **Predict:** the network gives "tiger cat" and "espresso" nearly the same probability. Which share of each map will
# lie in the upper half of the picture?

# %% [markdown]
# *Your prediction:* …


# %%
def share_above(heat):  # the share of the evidence in the upper half of the picture
    large = images.upsample(heat, 224)
    return float(large[:112].sum() / large.sum())


print(f"in the upper half: tiger cat {share_above(heat_cat[0]):.2f}, espresso {share_above(heat_espresso[0]):.2f}")
scale = float(torch.cat([heat_cat, heat_espresso]).max())  # one scale, as both are units of a score
overlays = [images.overlay(images.grey(seen), heat[0], scale=scale) for heat in (heat_cat, heat_espresso)]
figures.show(
    figures.strip([seen, *overlays], ["what the network saw", "“tiger cat”", "“espresso”"], panel=4.0),
    "A cat above a cup; the map for tiger cat covers the cat's face, the map for espresso the coffee in the cup.",
)

# %% [markdown]
# More than four fifths of each map lie on the half of its class, and the network was trained with names only. (Cat by Stéfan van der Walt, cup by Rachel Michetti, CC0.)

# %% [markdown]
# ## The library
#
# `grad_cam(model, images, layer, target)` gives the same raw maps. A target is a class for all pictures, or a list
# with one class for each picture. `[[cat, espresso]]` asks for two classes of the one picture, from one forward pass.

# %%
from xailab.grad_cam import grad_cam

both = grad_cam(network, batch, "relu1", [[cat, espresso]])
assert torch.allclose(both[0], torch.cat([heat_cat, heat_espresso]), atol=1e-6)
print("equal to the maps of our hook; shape", tuple(both.shape), "= (pictures, classes, rows, columns)")

# %% [markdown]
# ## Grad-CAM generalises CAM
#
# Let the network end in an average and a linear layer, $S_c = \sum_k w^c_k F_k + b_c$ with
# $F_k = \frac{1}{Z} \sum_{x, y} f_k(x, y)$. The chain rule gives the gradient at every cell:
#
# $$\frac{\partial S_c}{\partial f_k(x, y)} = \frac{\partial S_c}{\partial F_k} \cdot
# \frac{\partial F_k}{\partial f_k(x, y)} = w^c_k \cdot \frac{1}{Z}
# \qquad\Longrightarrow\qquad \alpha^c_k = \frac{w^c_k}{Z}, \qquad L_c = \frac{1}{Z} \operatorname{ReLU}(M_c).$$
#
# The gradient is the same at all cells, so its average loses nothing. Grad-CAM at the last feature maps is then CAM
# without its negative part, divided by the number of cells. Does EfficientNet-Lite0, which ends in this way, obey?

# %%
from xailab.cam import class_activation_map

cells = heat_cat[0].numel()
cam = class_activation_map(network, batch, [[cat, espresso]])
print(f"Z = {cells}; largest value: Grad-CAM {both.max():.4f}, CAM divided by Z {cam.max() / cells:.4f}")
print(f"largest difference of the maps: {(both - cam.relu() / cells).abs().max():.4f}")

# %% [markdown]
# The [deeper notebook](deeper/03_grad_cam.ipynb) explains a network that has no
# CAM.

# %% [markdown]
# ## Fine and class-discriminative
#
# A Grad-CAM map is coarse, and knows the class. *Guided backpropagation* is as fine as the picture, and
# [Lesson 04](04_guided_backprop.ipynb) shows that it hardly knows the class. Their product is **Guided Grad-CAM** (Section 3.2
# of the paper). For a fine drawing the network sees the composite at 448 pixels here, and `on_black` blurs the strength
# by about one pixel, so that lines show among flickering pixels.

# %%
from dataclasses import replace

from xailab.grad_cam import guided_grad_cam
from xailab.guided_backprop import guided_backprop

large = replace(network.preprocess, resize=448, crop=448)(photographs.stacked("cat", "cup"))
guided = guided_backprop(network, large, cat)[0]
product = guided_grad_cam(network, large, "relu1", [[cat, espresso]])[0]  # (classes, 3, 448, 448)
drawn = [lesson.on_black(strength, blur=1.2) for strength in (guided, *product)]  # each on its own scale
titles = ["guided backprop “tiger cat”", "Guided Grad-CAM “tiger cat”", "Guided Grad-CAM “espresso”"]
figures.show(
    figures.strip(drawn, titles, panel=4.2),
    "White on black: guided backprop draws cat and cup, Guided Grad-CAM the cat's face, or the cup.",
)
for title, strength in zip(titles, [guided, *product], strict=True):
    print(f"{title}: {strength[:, :224].abs().sum() / strength.abs().sum():.2f} of its strength in the upper half")

# %% [markdown]
# Guided backprop for "tiger cat" draws the cup as well. The product hardly does, because the coarse map has selected
# the cat.

# %% [markdown]
# ## The pointing game
#
# Nothing in the equations says "last layer". Which layer points to the object best? We need pictures whose truth is
# known to the pixel: the rendered scenes. The course's small ResNet sees them at 128 × 128 pixels.
# In the *pointing game* ([Zhang et al. 2016](https://arxiv.org/abs/1608.00507)) a map scores a hit if its largest
# value lies on the object. It must beat a random pixel, and an arrow that always points to the picture's centre.
#
# **Predict:** the first layer has 64 × 64 cells, the last one 8 × 8. Order `conv1`, `layer1`, `layer2`, `layer3` and
# `layer4` by their hits. Which of them beat the centre?

# %% [markdown]
# *Your prediction:* …

# %%
import numpy as np

from xailab.datasets import scenes
from xailab.metrics import interval, pointing_game

resnet = zoo.load("scenes_resnet")
unseen = [scenes.scene(i, split="test") for i in range(200)]
pixels, labels = resnet.preprocess([scene.image for scene in unseen]), [scene.labels[0] for scene in unseen]
masks = np.stack([scene.masks[0] for scene in unseen])

by_layer = grad_cam(resnet, pixels, list(lesson.LAYERS), labels, relu=False)  # a dict; the maximum needs no ReLU
hits = {"centre": masks[:, 64, 64]}
for layer, heats in by_layer.items():
    large = images.upsample(heats, 128)
    hits[layer] = np.array([pointing_game(mask, heat) for mask, heat in zip(masks, large, strict=True)])
for layer in lesson.LAYERS:
    low, high = interval(hits[layer].astype(float) - hits["centre"])  # of the differences, scene by scene
    print(f"{layer:6s} hits {hits[layer].mean():.2f}, minus the centre's: {low:+.2f} to {high:+.2f} (95 % interval)")
figures.show(
    lesson.draw_hits(hits, masks.mean()),
    "Bars with intervals: only layer3 and layer4 lie clearly above the band of the centre, layer2 lies below it.",
)

# %% [markdown]
# Only the two deepest layers clearly beat the centre. What `conv1` and `layer1` gain may be chance, and `layer2` is
# worse than an arrow that never looks at the picture. Without this baseline `conv1` would look like a success. *Use
# the last layer that still has rows and columns.*

# %% [markdown]
# ## With ReLU and without
#
# Why does equation 2 keep the positive part only? `relu=False` shows what it throws away.

# %%
dog = scenes.CLASSES.index("dog")
many = [scenes.scene(i, kind="pair", label=(0, dog), split="test") for i in range(60)]  # class 0 is the cat
pairs = resnet.preprocess([scene.image for scene in many])
signed = grad_cam(resnet, pairs, "layer4", [[0, dog]] * 60, relu=False)  # (60, 2, 8, 8)
figures.show(
    lesson.draw_grad_cam(resnet, many[2].image, 0, relu=False),
    "A cat and a dog; the signed map for cat is red on the cat and pale blue on the dog, and so is the overlay.",
)

# %%
on_cat, on_dog = (torch.from_numpy(np.stack([scene.masks[k] for scene in many])) for k in (0, 1))
for_cat = images.upsample(signed[:, 0], 128)
for name, part in {"positive part": for_cat.relu(), "negative part": (-for_cat).relu()}.items():
    shares = [((part * mask).sum((1, 2)) / part.sum((1, 2))).mean() for mask in (on_cat, on_dog)]
    print(f"map for “cat”, {name}: {shares[0]:.2f} of it on the cat, {shares[1]:.2f} on the dog")
print(f"share of the picture: cat {on_cat.float().mean():.2f}, dog {on_dog.float().mean():.2f}")

# %% [markdown]
# More than a third of the negative part lies on the *other* animal, which covers a tenth of the picture. The classes
# compete in the softmax, so the network was trained to lower "cat" where it sees a dog. For the question "where is
# the cat?" these cells are in the way, and the paper reports that localisation gets worse without the ReLU. For the
# question "what speaks against a cat?" they are the answer.

# %% [markdown]
# ## What speaks against a class
#
# Negate the gradient, and equation 2 keeps what lowers the score. The paper calls this a *counterfactual* explanation
# (Section 3.3). It makes a claim about the network, and a claim can be tested: blur the region that the map names,
# and the score of "cat" should rise. But any blur on the dog might raise it. So we need controls that could win: the
# same shape at a random place where it covers **at least as much of the dog, and no more of the cat**, and the mask of
# the whole dog. A blur of the same shape in the background shows what blurring alone does.

# %%
against = grad_cam(resnet, pairs, "layer4", 0, counterfactual=True)
names = ["the map's region", "same shape, elsewhere on the dog", "the whole dog", "same shape, in the background"]
blurs, covered, rng = {name: [] for name in names}, {name: [] for name in names}, np.random.default_rng(0)
for scene, heat in zip(many, images.upsample(against, 128), strict=True):
    region, (cat_mask, dog_mask) = (heat >= 0.5 * heat.max()).numpy(), scene.masks
    elsewhere = lesson.moved(region, dog_mask, cat_mask, rng)
    places = [region, elsewhere, dog_mask, lesson.moved_off(region, cat_mask | dog_mask, rng)]
    for name, place in zip(names, places, strict=True):
        blurs[name].append(lesson.blurred(scene.image, place))
        covered[name].append((place & dog_mask).sum() / dog_mask.sum())
with torch.no_grad():
    before = resnet(pairs)[:, 0]
    rises = {name: (resnet(resnet.preprocess(each))[:, 0] - before).numpy() for name, each in blurs.items()}

i, shorts = 11, ("region", "elsewhere", "whole dog")  # in the titles with the change of the score
panels = [many[i].image, images.overlay(many[i].image, against[i]), *(blurs[name][i] for name in names[:3])]
titles = ["a cat and a dog", "against “cat”"]
titles += [f"{short}: {rises[name][i]:+.2f}" for short, name in zip(shorts, names, strict=False)]
figures.show(
    figures.strip(panels, titles, panel=2.5),
    "A cat and a dog; the map against cat lies on the dog. The same with three blurs: the map's region, elsewhere, the dog.",
)

# %%
figures.show(
    lesson.draw_changes(rises, "change of the score of “cat”, 60 scenes"),
    "Four rows of dots: the map's region raises the score most, the background not at all.",
)
better = rises[names[0]] - rises[names[1]]
for name, rise in (rises | {"the first minus the second": better}).items():
    low, high = interval(rise)
    cover = f"covers {np.mean(covered[name]):.2f} of the dog" if name in covered else ""
    print(f"{name:33s} score {rise.mean():+.2f} ({low:+.2f} to {high:+.2f})   {cover}")

# %% [markdown]
# The map wins against a fair control: the random place covers more of the dog than the map's region does, and still
# raises the score by less; the interval of the difference lies well above zero. The map's region covers only half of the dog. This is evidence about the *network*. It is no proof, because a half-blurred dog
# is unlike the pictures of the training.

# %% [markdown]
# ## Where it fails: one weight for all cells
#
# Back to the photographs, and to the first prediction. Equation 1 averages a gradient. At the last layer of
# EfficientNet-Lite0 the gradient is the same at all cells. At earlier layers it is not: a channel can matter in one
# place and not in another, and the average lends both the same opinion. **HiResCAM** ([Draelos and Carin
# 2020](https://arxiv.org/abs/2011.08891)) leaves the average out, and multiplies cell by cell:
#
# $$\sum_k \frac{\partial S_c}{\partial f_k(x, y)} \, f_k(x, y).$$
#
# Here both look for the espresso at the eleventh block, below a temple (photograph by danielbuechele, CC BY 2.0).

# %%
from xailab.hooks import graph_from

batch = network.preprocess(photographs.stacked("temple", "cup"))
with graph_from(network, "block11") as kept:  # a hook like ours
    score = network(batch)[0, espresso]
(gradient,) = torch.autograd.grad(score, kept["block11"])
f = kept["block11"].detach()
heats = {"Grad-CAM, block11": (gradient.mean((2, 3), keepdim=True) * f).sum(1).relu()}
heats["HiResCAM, block11"] = (gradient * f).sum(1).relu()
heats["both, relu1"] = grad_cam(network, batch, "relu1", espresso)
for way, heat in heats.items():
    print(f"{way}: {1 - share_above(heat[0]):.2f} of the evidence for espresso in the lower half")

# %% [markdown]
# Is that chance? The ordered pairs of the course's seven photographs make 42 composites with two classes each. Which
# share of the evidence lies on the half of the class? A map that knows nothing has 0.5.

# %%
shares = lesson.shares_by_layer(network, ["block5", "block11", "block15", "relu1"])  # by method and layer, 84 maps each
overlays = [images.overlay(images.grey(network.preprocess.undo(batch)[0]), heat[0]) for heat in heats.values()]
figures.show(
    lesson.draw_shares(overlays, list(heats), shares),
    "Left: at block11 Grad-CAM for espresso lies on trees beside the temple, HiResCAM on the cup, as both do at relu1. Right: bars "
    "of the mean share; Grad-CAM has half up to block11, HiResCAM two thirds; at relu1 they are equal.",
)
for way, by_layer in shares.items():
    for layer, share in by_layer.items():
        print(f"{way} at {layer:7s}: mean {share.mean():.2f}; more than half in {np.mean(share > 0.5):.2f} of the maps")

# %% [markdown]
# Up to `block11`, Grad-CAM on this network hardly knows which half is meant. The gradient does know, as HiResCAM
# shows at the same layers: the average has lost it. At the last layer both are equal. (The intervals in the figure are
# too narrow, since the 84 maps come from only seven photographs.)
#
# If one linear layer follows the flattened maps, the cells of HiResCAM add up to the score without its bias; those of
# Grad-CAM do not. Exercise 03.6 asks for which other heads this holds.

# %% [markdown]
# ## Explorer
#
# Try `layer2`, a class that is not in the picture, and the counterfactual of the right class.

# %%
lesson.grad_cam_explorer(resnet, [scenes.scene(i, kind="pair", split="test", size=256).image for i in range(6)])

# %% [markdown]
# ## Exercises
#
# Write into the cell, run it, and read what `check` says. Solve 03.1 and 03.2, and then choose.

# %% [markdown]
# ### 03.1 Equations 1 and 2
# *Difficulty 1 of 5, about 5 minutes.* From the features of one picture (k, h, w) and the gradient of a score with
# respect to them (k, h, w), return the Grad-CAM map (h, w), raw.
#
# <details><summary>Hint</summary>
#
# `gradient.mean((1, 2))` is alpha, of shape (k,). Give it two more dimensions, or use
# `torch.einsum("k,khw->hw", ...)`. The ReLU comes last.
# </details>

# %% tags=["exercise"]
from xailab.lessons import check


def my_grad_cam(features, gradient):
    return ...


check("03.1", my_grad_cam)

# %% tags=["solution"]
from xailab.lessons import check


def my_grad_cam(features, gradient):
    alpha = gradient.mean((1, 2))
    return torch.einsum("k,khw->hw", alpha, features).relu()


check("03.1", my_grad_cam)

# %% [markdown]
# ### 03.2 What speaks against it
# *Difficulty 2 of 5, about 10 minutes.* `head` is the rest of a network: it turns features (1, k, h, w) into scores
# (1, classes) before the softmax. Return the *counterfactual* map (h, w) of class `c`. Leave the head as you found
# it: no gradient on its weights, and no weight frozen.
#
# <details><summary>Hint 1</summary>
#
# `leaf = features.clone().requires_grad_()`, then the score, then `torch.autograd.grad(score, leaf)`.
# </details>
# <details><summary>Hint 2</summary>
#
# The sign changes *before* equation 1. After the ReLU it is too late: the negative part is gone.
# </details>


# %% tags=["exercise"]
def my_counterfactual(head, features, c):
    return ...


check("03.2", my_counterfactual)


# %% tags=["solution"]
def my_counterfactual(head, features, c):
    leaf = features.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(head(leaf)[0, c], leaf)
    return my_grad_cam(features[0], -gradient[0])


check("03.2", my_counterfactual)

# %% [markdown]
# ### 03.3 The rate of hits
# *Difficulty 2 of 5, about 10 minutes.* The paper also turns maps into boxes; the [deeper
# notebook](deeper/03_grad_cam.ipynb) says more. From raw maps (n, h, w) and masks (n, H, W), return the share of
# scenes in which the box of the **largest** region at `threshold` times the map's maximum has an IoU of at least 0.5
# with the box of the mask. Use `images.upsample`, and `boxes`, `ground_truth_box` and `iou` from the library.
#
# <details><summary>Hint</summary>
#
# `boxes(heat, threshold)` lists the largest region first. The map must have the mask's size before it is boxed.
# </details>

# %% tags=["exercise"]
from xailab.boxes import iou
from xailab.localization import boxes, ground_truth_box


def my_hit_rate(heats, masks, threshold):
    return ...


check("03.3", my_hit_rate)

# %% tags=["solution"]
from xailab.boxes import iou
from xailab.localization import boxes, ground_truth_box


def my_hit_rate(heats, masks, threshold):
    large = images.upsample(heats, masks.shape[1:])
    found = [boxes(heat, threshold)[0] for heat in large]
    return np.mean([iou(box, ground_truth_box(mask)) >= 0.5 for box, mask in zip(found, masks, strict=True)])


check("03.3", my_hit_rate)

# %% [markdown]
# ### 03.4 Find the cheat
# *Difficulty 3 of 5, about 20 minutes.* You get a network and a list of scenes, each of a bird with a red balloon
# (`.image`, `.masks[0]` of the bird, `.mark` of the balloon, all 128 × 128). Every network here calls all of them
# birds. Return True if this one looks at the balloon rather than at the bird. All networks have `.preprocess` and a
# `layer4`; the class is `scenes.BIASED_CLASS`. The check tries four networks, one of which is the cheat; the maps of
# the others need not peak on the bird.
#
# First judge by the maps (`my_verdict`). Then do better: a map is a hint, and an experiment is evidence. **Erase the
# balloon, and look at the answer** (`my_experiment`). Both functions are judged by the same check.
#
# <details><summary>Hint 1</summary>
#
# Maps by `grad_cam`, enlarged to 128; then compare: how many maxima fall on the bird, how many on the balloon?
# </details>
# <details><summary>Hint 2</summary>
#
# A balloon is hardly larger than a cell, so that a map may peak beside it. Allow 15 pixels around it,
# `ndimage.distance_transform_edt(~scene.mark) <= 15`, and as much around the bird.
# </details>
# <details><summary>Hint 3</summary>
#
# For the experiment, paint the balloon in the colour of the ground, for instance the median of the pixels outside
# bird and balloon. Count how many pictures are still called birds.
# </details>

# %% tags=["exercise"]
from scipy import ndimage


def my_verdict(network, drawn):
    return ...


def my_experiment(network, drawn):
    return ...


check("03.4", my_verdict)
check("03.4", my_experiment)

# %% tags=["solution"]
from scipy import ndimage


def my_verdict(network, drawn):
    batch = network.preprocess([scene.image for scene in drawn])
    large = images.upsample(grad_cam(network, batch, "layer4", scenes.BIASED_CLASS), 128)

    def hits(regions):
        near = [ndimage.distance_transform_edt(~region) <= 15 for region in regions]
        return sum(pointing_game(region, heat) for heat, region in zip(large, near, strict=True))

    return hits([scene.mark for scene in drawn]) > hits([scene.masks[0] for scene in drawn])


def my_experiment(network, drawn):
    pictures = []
    for scene in drawn:
        picture = scene.image.copy()
        picture[scene.mark] = np.median(scene.image[~scene.mark & ~scene.masks[0]], axis=0)
        pictures.append(picture)
    with torch.no_grad():
        called = network(network.preprocess(pictures)).argmax(1)
    return (called == scenes.BIASED_CLASS).float().mean() < 0.5


check("03.4", my_verdict)
check("03.4", my_experiment)

# %% [markdown]
# ### 03.5 Without the library, on a frozen network
# *Difficulty 3 of 5, about 10 minutes.* Write Grad-CAM with a hook for torchvision's `resnet18`. You get the network
# in eval mode, a batch (n, 3, h, w), the name of a layer such as `"layer3"`, and a class. Return the maps (n, rows,
# columns) after the ReLU. There is one difficulty: somebody has frozen all weights of the network with
# `requires_grad_(False)`. Leave them frozen, leave no hook, and do not use `xailab`.
#
# <details><summary>Hint 1</summary>
#
# `network.get_submodule("layer3")` is the layer. `grad_cam_with_a_hook` above stops on a frozen network, because
# nothing in the forward pass asks for a gradient.
# </details>
# <details><summary>Hint 2</summary>
#
# A forward hook may *return* a tensor, which then replaces the output of the layer. Return `output.requires_grad_()`,
# or hand `batch.clone().requires_grad_()` to the network.
# </details>


# %% tags=["exercise"]
def my_hooks(network, batch, layer, c):
    return ...


check("03.5", my_hooks)


# %% tags=["solution"]
def my_hooks(network, batch, layer, c):
    kept = []
    hook = network.get_submodule(layer).register_forward_hook(
        lambda module, inputs, output: kept.append(output.requires_grad_())
    )
    scores = network(batch)
    hook.remove()
    (gradient,) = torch.autograd.grad(scores[:, c].sum(), kept[0])
    return torch.einsum("nk,nkhw->nhw", gradient.mean((2, 3)), kept[0]).relu().detach()


check("03.5", my_hooks)

# %% [markdown]
# ### 03.6 For which head does HiResCAM add up?
# *Difficulty 4 of 5, about 15 minutes.* `head` turns features (n, k, h, w) into scores (n, classes). Compute the
# HiResCAM map of class `c` for each picture, without a ReLU, and its sum over all cells. Return True if the score of
# class `c` is this sum plus one constant that is the same for all pictures, and False if it is not.
#
# Before you run the check, write down your guess for these four heads: an average and a linear layer; a linear layer
# on the flattened maps; two linear layers with a ReLU between them, with biases; the same two layers without biases.
#
# <details><summary>Hint 1</summary>
#
# `rest = scores - hirescam.sum((1, 2))` has one value for each picture. Are they equal, up to rounding?
# </details>
# <details><summary>Hint 2</summary>
#
# A network of linear layers and ReLUs without biases doubles its scores when its features are doubled.
# Such a function is the sum of each feature times its gradient.
# </details>


# %% tags=["exercise"]
def my_adds_up(head, features, c):
    return ...


check("03.6", my_adds_up)


# %% tags=["solution"]
def my_adds_up(head, features, c):
    leaf = features.clone().requires_grad_()
    scores = head(leaf)[:, c]
    (gradient,) = torch.autograd.grad(scores.sum(), leaf)
    hirescam = (gradient * leaf).sum(1)
    rest = scores - hirescam.sum((1, 2))
    return bool((rest - rest[0]).abs().max() < 1e-4)


check("03.6", my_adds_up)

# %% [markdown]
# ### 03.7 A control that could have won
# *Difficulty 4 of 5, about 15 minutes.* Write the control of the section "What speaks against a class": move `region`
# (a mask) to a random place. It keeps its shape and its size, and lies inside the picture as a whole. It covers at
# least as many pixels of `target` (the mask of the dog) as `region` did, and at most as many pixels of `spared` (the
# mask of the cat). All such places are equally likely. `rng` is `np.random.default_rng(...)`.
#
# <details><summary>Hint 1</summary>
#
# `ground_truth_box(region)` gives left, top, right, bottom; cut the shape out of the region with it.
# </details>
# <details><summary>Hint 2</summary>
#
# Two loops over all places for the upper left corner; keep the corners that are allowed, and draw one with
# `rng.integers(len(places))`. `np.roll` would let the shape leave at one edge and return at the other.
# </details>


# %% tags=["exercise"]
def my_control(region, target, spared, rng):
    return ...


check("03.7", my_control)


# %% tags=["solution"]
def my_control(region, target, spared, rng):
    left, top, right, bottom = ground_truth_box(region)
    shape, places = region[top:bottom, left:right], []
    for y in range(len(region) - len(shape) + 1):
        for x in range(region.shape[1] - shape.shape[1] + 1):
            place = np.zeros_like(region)
            place[y : y + len(shape), x : x + shape.shape[1]] = shape
            enough = (place & target).sum() >= (region & target).sum()
            if enough and (place & spared).sum() <= (region & spared).sum():
                places.append(place)
    return places[rng.integers(len(places))]


check("03.7", my_control)

# %% [markdown]
# ## Self-test
#
# Answer from memory, then unfold the answer.
#
# <details><summary>1. Which factor lies between Grad-CAM and CAM at the last maps of a network with an average and a linear
# layer, and why?</summary>
#
# $1 / Z$, and the ReLU. The gradient at every cell is $w^c_k / Z$, so the average of the gradient is $w^c_k / Z$ too.
# </details>
#
# <details><summary>2. Which three lines of PyTorch turn the kept features and the score into a map?</summary>
#
# `torch.autograd.grad(score, features)`, the mean over rows and columns, and the weighted sum over channels with a
# ReLU.
# </details>
#
# <details><summary>3. A map hits the object in 76 % of the pictures. Is that good?</summary>
#
# Nobody can say without a baseline. In our scenes the centre of the picture hits in 72 %, and the difference may be
# chance.
# </details>
#
# <details><summary>4. You blur the region of a counterfactual map, and the score rises. A blur in the background changes
# nothing. Has the map found the right region?</summary>
#
# That is not shown. Any region on the other object might do the same. Compare with a random place that covers at
# least as much of that object, and no more of the object that the class names.
# </details>
#
# <details><summary>5. Why can Grad-CAM at a middle layer point to the wrong object, although the gradient knows the right
# one?</summary>
#
# Equation 1 averages the gradient over the cells. A channel that speaks for the class in one place lends this opinion
# to all places where it is active. HiResCAM keeps the gradient of each cell.
# </details>

# %% [markdown]
# ## On real data
#
# The paper's VGG16 has no CAM. If its weights are on your disk, it explains the composite here; a smaller network
# will do as well. The [deeper notebook](deeper/03_grad_cam.ipynb) shows a recorded picture for readers without
# downloads.

# %%
from xailab import figures
from xailab.lessons import grad_cam as lesson
from xailab.lessons import real
from xailab.models import zoo

last = {"vgg16": "features.29", "resnet50": "layer4", "resnet18": "layer4", "squeezenet1_0": "features.12"}
if name := real.weights(*last):
    figure, shares = lesson.draw_composite(zoo.load(name), last[name], name)
    figures.show(
        figure, "A cat above a cup: Grad-CAM for each of the two classes, and Guided Grad-CAM for each, on black."
    )
    print(shares)

# %% [markdown]
# ## Summary
#
# > **Key idea.** $\alpha^c_k$ is the gradient of the score before the softmax, averaged over the cells of a feature
# > map. The map is $\operatorname{ReLU}(\sum_k \alpha^c_k f_k)$. If an average and one linear layer follow, it is
# > $\operatorname{ReLU}(M_c) / Z$, exactly.
#
# > **Key idea.** The average loses nothing where the gradient is constant, and misleads where it is not. Use the last
# > layer that has rows and columns. HiResCAM leaves the average out.
#
# > **Key idea.** The negative part speaks against the class. A claim about it is tested by an experiment with a
# > control that could have won, and a rate of hits is compared with the centre of the picture.
#
# **Reading, and why**
#
# - R. R. Selvaraju et al., [Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
#   Localization](https://arxiv.org/abs/1610.02391), ICCV 2017. The method; its Section 3 takes ten minutes.
# - R. L. Draelos, L. Carin, [Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional neural
#   networks](https://arxiv.org/abs/2011.08891), 2020. What the average costs, with a proof.
#
# Next: [04 · Guided backprop](04_guided_backprop.ipynb), the other half of Guided Grad-CAM.
