# %% [markdown]
# # 04 · Guided backprop
#
# **About {reading} minutes to read, {exercises} for the exercises · 1 GiB of memory · no GPU, no network needed**
#
# Guided backprop is a gradient whose negative parts are thrown away at every ReLU on its way back. Its sharp pictures
# look as if they showed what the network saw. This lesson tests whether they do.
#
# **Afterwards you can**
# - pass a gradient through a ReLU by three rules, by hand and with hooks in plain PyTorch,
# - combine guided backprop with Grad-CAM, and say what each half contributes,
# - run the sanity check of Adebayo et al.: randomise a network and compare the explanations with a yardstick,
# - say why guided backprop is sharp, with numbers and a control.
#
# **You need** backpropagation through one layer, and Grad-CAM ([lesson 03](03_grad_cam.ipynb)).
#
# **Contents:** [The idea](#The-idea) · [By hand](#By-hand) · [In plain PyTorch](#In-plain-PyTorch) ·
# [A cat and a cup](#A-cat-and-a-cup) · [Two classes, measured](#Two-classes,-measured) ·
# [The sanity check](#The-sanity-check) · [Why so sharp?](#Why-so-sharp?) · [Cheat sheet](#Cheat-sheet) ·
# [Exercises](#Exercises) · [Self-test](#Self-test)
#
# [← 03 · Grad-CAM](03_grad_cam.ipynb) · [05 · Saliency →](05_saliency.ipynb) · deeper:
# [random networks, random labels, swapped modules, traps with files](deeper/04_guided_backprop.ipynb)

# %% [markdown]
# ## The idea
#
# In the forward pass a ReLU takes $z$ and hands on $\max(z, 0)$. On the way back a gradient $R$ arrives from above.
# Three rules say what is handed down
# ([Springenberg et al. 2015](https://arxiv.org/abs/1412.6806)):
#
# | rule | handed down |
# |---|---|
# | true gradient | $R \cdot [z > 0]$ |
# | deconvnet ([Zeiler and Fergus 2014](https://arxiv.org/abs/1311.2901)) | $R \cdot [R > 0]$ |
# | guided backprop | $R \cdot [z > 0] \cdot [R > 0]$ |
#
# Only the first rule is a derivative. It tells by how much the score $S_c$ changes if a pixel changes a little. The
# other two rules keep only what arrives positive, layer by layer, and their numbers answer no such question.
#
# The table gives only what the deconvnet does at a ReLU. Zeiler and Fergus start from a chosen activation instead of a
# class score, and they invert each max-pooling with the *switches*, the places of the maxima. Backpropagation through
# a max-pooling uses the same places. [Simonyan et al. 2013](https://arxiv.org/abs/1312.6034) point out that the
# gradient therefore generalises the deconvnet: apart from the ReLU both do the same, and a gradient can start at any
# unit of any layer.

# %%
from xailab import figures, images
from xailab.lessons import guided_backprop as lesson
from xailab.models import zoo

photo_network = zoo.load("efficientnet_lite0")
figures.show(
    lesson.schematic(photo_network, "cat"),
    "A photograph of a cat goes through a convolution and a ReLU, twice, to a score. Below, the gradient goes back to a "
    "grey picture with the cat's eyes and nose. At each ReLU a gate asks two questions: was z positive, is R positive?",
)

# %% [markdown]
# ## Predict
#
# 1. A picture has a cat in its upper half and a cup in its lower half. You ask the gradient, guided backprop and
#    Grad-CAM first about the cat, then about the cup. Which of the three changes least?
# 2. The last layer of a trained network gets random weights, so that its answers are worthless. Which of the three
#    explanations changes least?
# 3. Which share of an explanation lies on the object: for guided backprop, and for an edge detector?
#
# *Your prediction (double-click here and write):* …

# %% [markdown]
# ## By hand
#
# Figure 1 of Springenberg et al. has nine inputs of a ReLU and nine gradients from above.

# %%
import torch
from torch import nn

z = torch.tensor([[1.0, -1, 5], [2, -5, -7], [-3, 2, 4]])  # what the ReLU was given
R = torch.tensor([[-2.0, 3, -1], [6, -3, 1], [2, -1, 3]])  # the gradient that arrives from above
by_hand = {"gradient": R * (z > 0), "deconvnet": R * (R > 0), "guided": R * (z > 0) * (R > 0)}
figures.show(
    lesson.nine_numbers(z, R, by_hand),
    "Grids of nine numbers. The gradient rule keeps −2, −1, 6, −1 and 3; the deconvnet keeps 3, 6, 1, 2 and 3; the "
    "guided rule keeps only 6 and 3.",
)

# %% [markdown]
# Both masks leave five numbers each, and only two cells pass both. The deconvnet ignores $z$: at the bottom left it
# hands down a 2 through a ReLU that was closed.

# %% [markdown]
# ## In plain PyTorch
#
# The network is EfficientNet-Lite0, trained on ImageNet. Its activation is ReLU6, which is $z$ between 0 and 6 and
# constant outside. The open part is therefore $[0 < z < 6]$ instead of $[z > 0]$; the rest of the rule stays.
#
# A function can be registered on a tensor as a *hook*. In the backward pass the hook gets the gradient $R$, and PyTorch
# goes on with what the hook returns. So it is enough to clamp the gradient at each ReLU's *output*: PyTorch multiplies
# with $[0 < z < 6]$ by itself.

# %%
from xailab.datasets.photographs import photograph, stacked


def guided_gradient(network, batch, target):
    handles = []

    def after_relu(module, given, output):
        output.register_hook(lambda R: R.clamp(min=0))  # keep what arrives positive

    for module in network.modules():
        if isinstance(module, (nn.ReLU, nn.ReLU6)):
            handles.append(module.register_forward_hook(after_relu))
    try:
        batch = batch.clone().requires_grad_()
        score = network(batch)[:, target].sum()
        return torch.autograd.grad(score, batch)[0]
    finally:
        for handle in handles:
            handle.remove()


photo = photo_network.preprocess(photograph("cat").image)
tiger_cat = photo_network.classes.index("tiger cat")
own = guided_gradient(photo_network, photo, tiger_cat)

# %%
from xailab.guided_backprop import guided_backprop, input_gradient

library = guided_backprop(photo_network, photo, tiger_cat)
assert torch.allclose(own, library, rtol=1e-4, atol=1e-5)
print(f"largest value {own.max():.2f}, largest difference from the library {(own - library).abs().max():.3f}")

# %% [markdown]
# **One trap.** These hooks sit on modules. A ReLU may also be called as the function `F.relu`. Then there is no module
# to hook, and the same code returns the plain gradient without any error. The library hooks the *calls* of ReLUs, so
# that modules and functions are treated alike. The [deeper notebook](deeper/04_guided_backprop.ipynb) compares four
# ways on nine networks.
#
# Now the three rules on photographs. Mid-grey is exactly 0, and both signs share one scale. The largest 0.5 % of the
# values are clipped, so that a few extreme pixels do not make everything else look grey.

# %%
figures.show(
    lesson.three_rules(photo_network, ["cat", "cup", "rocket"]),
    "Three photographs by three rules. The gradient is noise, thicker around the object; the deconvnet is the same "
    "green weave three times; guided backprop draws eyes and nose, the rim of the cup, the rocket and its towers.",
)
cup_photo = photo_network.preprocess(photograph("cup").image)
espresso = photo_network.classes.index("espresso")
of_cat = input_gradient(photo_network, photo, tiger_cat, rule="deconvnet")[0]
of_cup = input_gradient(photo_network, cup_photo, espresso, rule="deconvnet")[0]
print(f"deconvnet, cat against cup: rank correlation {lesson.rank_correlation(of_cat, of_cup):.2f}")

# %% [markdown]
# [Nie et al. 2018](https://arxiv.org/abs/1805.07039) explain the difference for networks with random weights:
#
# - **Guided backprop** recovers the input of such a network. A value survives only where it is positive and where $z > 0$, which means
#   that its filter fitted the input. So each filter is drawn with a positive weight at the places that it fits, and
#   their sum looks like the input, whatever the class is.
# - **The gradient** looks like noise. Its values have both signs, and filters with opposite signs cancel.
# - **The deconvnet** never asks where a filter fitted. Only a max-pooling tells it the places, and then it recovers the
#   input in part. EfficientNet-Lite0 has no max-pooling.
#
# The deeper notebook measures all three. (Cat by Stéfan van der Walt, cup by Rachel Michetti, both CC0; rocket by
# SpaceX, public domain.)

# %% [markdown]
# ## A cat and a cup
#
# Guided backprop became famous as one half of **Guided Grad-CAM**
# ([Selvaraju et al. 2017](https://arxiv.org/abs/1610.02391), section 3.2), a product pixel by pixel:
#
# $$\text{Guided Grad-CAM}_c = \text{guided backprop}_c \cdot \text{upsample}(\text{Grad-CAM}_c) .$$
#
# The composite has a cat above and a cup below, so we know which half belongs to which class.

# %%
from xailab.grad_cam import grad_cam, guided_grad_cam

both = photo_network.preprocess(stacked("cat", "cup"))
targets = [tiger_cat, espresso]  # two classes of one picture
cams = grad_cam(photo_network, both, "relu1", [targets])[0]
backs = guided_backprop(photo_network, both, [targets])[0]
fine = guided_grad_cam(photo_network, both, "relu1", [targets])[0]
seen = photo_network.preprocess.undo(both)[0]
figures.show(
    lesson.two_classes(seen, ["tiger cat", "espresso"], cams, backs, fine),
    "Two rows for the classes tiger cat and espresso: the composite, Grad-CAM on the half of the class, guided "
    "backprop with both cat and cup in both rows, and Guided Grad-CAM with the half of the class. Asked about the "
    "espresso, Guided Grad-CAM also keeps the cat's nose, just above the cup.",
)

# %%
for name, maps in (("Grad-CAM", images.upsample(cams, 224)), ("guided", backs), ("Guided Grad-CAM", fine)):
    mass = lesson.strength(maps) if maps.ndim == 4 else maps
    upper = mass[:, :112].sum((1, 2)) / mass.sum((1, 2))
    print(f"{name:16s} share on the cat's half: asked about the cat {upper[0]:.2f}, about the cup {upper[1]:.2f}")
print(f"guided backprop, one class against the other: rank correlation {lesson.rank_correlation(*backs):.2f}")

# %% [markdown]
# Grad-CAM moves to the half that is asked about. Guided backprop draws cat and cup in both rows, and its share moves by
# about a tenth. In Guided Grad-CAM the class comes from Grad-CAM, and the fine lines come from guided backprop. The cat's nose stays beside the cup, because Grad-CAM has only 7 × 7 cells. In the paper, people had to say which of a
# photograph's two classes such a picture was made for. They were right in 44.44 % of 90 pairs with guided backprop, and
# in 61.23 % with Guided Grad-CAM. With the deconvnet instead, it was 53.33 % and 60.37 %.

# %% [markdown]
# ## Two classes, measured
#
# One composite is one case. Forty rendered scenes show a cat and a dog, with exact masks. How alike are the
# explanations for "cat" and for "dog"? Most of each scene is background, so the correlation is also measured on the animals alone.

# %%
import numpy as np

from xailab import metrics
from xailab.datasets import scenes

network = zoo.load("scenes_resnet")
cat, dog = (scenes.CLASSES.index(name) for name in ("cat", "dog"))
pairs = [scenes.scene(i, kind="pair", label=(cat, dog), split="test", size=128) for i in range(40)]
pair_batch = network.preprocess([s.image for s in pairs])
animals = torch.from_numpy(np.stack([s.masks.any(0) for s in pairs]))
print("rank correlation of the explanations for cat and for dog")
for name, rule in lesson.RULES.items():
    a, b = (lesson.strength(input_gradient(network, pair_batch, [c] * 40, rule=rule)) for c in (cat, dog))
    whole = [lesson.rank_correlation(x, y) for x, y in zip(a, b, strict=True)]
    inside = [lesson.rank_correlation(x[m][None], y[m][None]) for x, y, m in zip(a, b, animals, strict=True)]
    low, high = metrics.interval(inside)
    print(
        f"{name:16s} whole picture {np.mean(whole):.2f}   on the animals {np.mean(inside):.2f} [{low:.2f}, {high:.2f}]"
    )

# %% [markdown]
# The gradient's correlation is 0.76 over the whole picture, and only 0.39 on the animals. There, guided backprop and the deconvnet order the pixels nearly alike for both classes, and the gradient does not.

# %% [markdown]
# ## The sanity check
#
# An explanation of a network should change if the network loses its training.
# [Adebayo et al. 2018](https://arxiv.org/abs/1810.03292) randomise the weights from the top: first `fc`, then also
# `layer4`, and so on (*cascading*). This is the whole randomisation. Batch norms forget their running statistics too,
# which described the old weights' outputs.

# %%
import copy

STAGES = ("fc", "layer4", "layer3", "layer2", "layer1", "conv1")  # from the score down
STEPS = ["trained", "fc random"] + [f"… {stage}" for stage in STAGES[1:]]


def randomised(network, stages, seed):
    network = copy.deepcopy(network)
    parts = [network.get_submodule(stage) for stage in stages]
    if "conv1" in stages:
        parts.append(network.bn1)
    torch.manual_seed(seed)
    for part in parts:
        for module in part.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, (nn.Linear, nn.BatchNorm2d)):
                module.reset_parameters()
    return network


# %% [markdown]
# The comparison is Spearman's rank correlation over the pixels: of the largest $|g|$ of the three channels, or of
# Grad-CAM before its ReLU. Ten scenes, three seeds. The yardstick, at the right of the figure, is the correlation with
# the explanation of *another* scene by the trained network.

# %%
ten = [scenes.scene(i, split="test", size=128) for i in range(10)]
batch, labels = network.preprocess([s.image for s in ten]), [s.labels[0] for s in ten]
methods = ["gradient", "guided backprop", "Grad-CAM", "Guided Grad-CAM"]
trained = lesson.explanations(network, batch, labels, methods)
order = {name: lesson.ranks(found) for name, found in trained.items()}  # their dot products are rank correlations
rho = {name: np.ones((3, 7)) for name in methods}
by_step = {"trained": trained}  # of the first seed, to be drawn
for seed in range(3):
    for depth in range(1, 7):
        other = randomised(network, STAGES[:depth], seed)
        now = lesson.explanations(other, batch, labels, methods)
        for name in methods:
            rho[name][seed, depth] = (order[name] * lesson.ranks(now[name])).sum(1).mean()
        if seed == 0:
            by_step[STEPS[depth]] = now
yardstick = {name: float((ranks * ranks.roll(-1, 0)).sum(1).mean()) for name, ranks in order.items()}
figures.show(
    lesson.sanity_curves(rho, yardstick, STEPS),
    "Guided backprop stays near 1 until layer3; the gradient falls to 0.7 at fc; Grad-CAM drops to about 0.",
)

# %%
figures.show(
    lesson.sanity_strips(ten[4].image, by_step, 4),
    "Rows of explanations of one dog, from the trained network to the fully random one. Guided backprop draws the "
    "dog's head until layer2 is random; with layer1 random the clouds and hills appear too. Grad-CAM changes at once.",
    pixels=figures.SCREEN,
)
for name in methods:
    values = " ".join(f"{value:5.2f}" for value in rho[name].mean(0))
    print(f"{name:16s} {values} | another scene {yardstick[name]:.2f}")
positive = trained["Grad-CAM"] > 0
kept = [float((by_step[step]["Grad-CAM"][positive] > 0).float().mean()) for step in STEPS[1:5]]
print("cells of Grad-CAM that stay positive, fc to layer2:", np.round(kept, 2))

# %% [markdown]
# Guided backprop hardly notices that classifier and `layer4` are random. The gradient falls to 0.73 with the classifier,
# still far above its yardstick. Grad-CAM loses all likeness at the first step. Guided Grad-CAM reacts here, and the last line says why. Only a third
# to two thirds of the cells that were positive in Grad-CAM stay positive, and where Grad-CAM is negative, the product
# is exactly 0.
#
# Published, on Inception v3 and ImageNet: gradient and Grad-CAM react; guided backprop and Guided Grad-CAM hardly do
# while only upper layers are random. On our small network, Guided Grad-CAM is the exception.
#
# The deeper notebook measures three cautions. *Cascading* hides which layer matters; the paper also randomises one layer
# at a time (*independently*). The result depends on taking *absolute values*. The paper has a **second test**: train
# the network on *random labels*, and compare.

# %% [markdown]
# ## Why so sharp?
#
# Does guided backprop simply find edges? We measure the share of its strength that lies on the object or within 3
# pixels of it, on 60 unseen scenes. The controls are the object's share of the area, and an edge detector, which has
# never seen a class. An edge detector *could* win, because objects often have the strongest contrast. So we also take its third power, which stresses the strongest contrasts.

# %%
import cv2
from torch.nn import functional as F

sixty = [scenes.scene(i, split="test", size=128) for i in range(60)]
batch, labels = network.preprocess([s.image for s in sixty]), [s.labels[0] for s in sixty]
masks = torch.from_numpy(np.stack([s.masks[0] for s in sixty])).float()
near = F.max_pool2d(masks[:, None], kernel_size=7, stride=1, padding=3)[:, 0] > 0  # on the object or 3 pixels off
smooth = [cv2.GaussianBlur(s.image.astype(np.float32), (0, 0), 1) for s in sixty]
slopes = [np.hypot(cv2.Sobel(p, cv2.CV_32F, 1, 0), cv2.Sobel(p, cv2.CV_32F, 0, 1)).max(2) for p in smooth]
edges = torch.from_numpy(np.stack(slopes))


def share(strength):
    return ((strength * near).sum((1, 2)) / strength.sum((1, 2))).double().numpy()


networks = {step: randomised(network, STAGES[:depth], seed=0) for depth, step in enumerate(STEPS)}
maps = {step: lesson.strength(guided_backprop(each, batch, labels)) for step, each in networks.items()}
maps |= {"edges": edges, "edges, cubed": edges**3, "area": torch.ones_like(edges)}
shares = {name: share(strength) for name, strength in maps.items()}
for name, values in shares.items():
    low, high = metrics.interval(values)
    print(f"{name:13s} {values.mean():.2f} [{low:.2f}, {high:.2f}]")

# %%
strong = torch.stack([e >= e[~n].quantile(0.9) for e, n in zip(edges, near, strict=True)])  # the scene's strong edges
strong &= torch.stack([e <= e[~n].max() for e, n in zip(edges, near, strict=True)])  # none stronger than beside it
edge_ranks, logs, likeness = lesson.ranks(edges), {}, {}
for name in (*STEPS, "edges"):
    on = (maps[name] * (strong & near)).sum((1, 2)) / (strong & near).sum((1, 2))
    off = (maps[name] * (strong & ~near)).sum((1, 2)) / (strong & ~near).sum((1, 2))
    logs[name] = (on / off).log().double().numpy()
    likeness[name] = float((lesson.ranks(maps[name]) * edge_ranks).sum(1).mean())
    print(f"{name:10s} on the object / elsewhere {np.exp(logs[name].mean()):4.1f}   like edges {likeness[name]:.2f}")
print(f"edges of another scene: like edges {float((edge_ranks * edge_ranks.roll(1, 0)).sum(1).mean()):.2f}")
figures.show(
    lesson.share_chart(shares, logs),
    "Two bar charts with the same order: shares and ratios stay with fc and layer4 random, and fall from layer3 to "
    "layer1. Edges have a share of 0.6 and a ratio near 1; the cubed edges have the same share as guided backprop.",
)

# %% [markdown]
# Guided backprop of the trained network lies on the object far more than edges do. Its share stays when `fc` and
# `layer4` are random, the layers next to the score. The share falls with `layer3` and `layer2`, and
# with `layer1` random it lies below that of the edge detector.
#
# The cubed edges warn against a quick conclusion: contrast alone reaches the same share as guided backprop. The right
# panel takes contrast out, because it compares pixels on strong edges only. There the edge detector is nearly even, and
# trained guided backprop is many times stronger on the object. So the low layers do more than find edges. In
# `scenes_resnet`, guided backprop is a **detector of objects that is nearly blind to the class**, and the detector sits in `layer1` to `layer3`: the ratio falls step by step when they become random. The likeness to
# edges falls only at `layer1`.
#
# This qualifies Nie et al. for a trained network: guided backprop does not recover the whole input, but those parts to
# which the trained low layers respond. The clouds and hills behind the dog are not drawn until `layer1` is random. All of this holds for one network, with one draw of random weights, on scenes
# of one style.

# %% [markdown]
# ## Cheat sheet
#
# | method | needs | cost | resolution | class-specific? | random weights | other class |
# |---|---|---|---|---|---|---|
# | CAM (02) | pooling, then one linear layer | forward | last maps | yes | reacts | reacts |
# | Grad-CAM (03) | any layer of maps | forward, part of a backward | that layer's | yes | reacts | reacts |
# | gradient | any network | forward, backward | pixels | partly | reacts | reacts |
# | deconvnet | ReLUs, max-pooling | forward, backward | pixels | hardly | hardly reacts (`fc` only) | hardly reacts |
# | guided backprop | ReLUs | forward, backward | pixels | hardly | hardly reacts | hardly reacts |
# | Guided Grad-CAM | ReLUs, a layer of maps | forward, two backwards | pixels | yes | reacts; hardly in the paper | reacts |
#
# The last two columns are measured above, and the deconvnet's random `fc` in the deeper notebook. On these networks CAM
# equals Grad-CAM.

# %% [markdown]
# ## Explorer
#
# Ask for a class that is *not* in the picture. Choose networks that are more and more random.

# %%
lesson.rule_explorer(networks, [s.image for s in (pairs[1], *ten)])

# %% [markdown]
# ## Exercises
#
# Write into the cell, run it, read what `check` says.

# %% [markdown]
# ### 04.1 The guided rule
# *Difficulty 1 of 5, about 5 minutes.* Given a ReLU's input `z` and the gradient `R` from above, tensors of one
# shape, return what guided backprop hands down, without a loop.
#
# <details><summary>Hint</summary>
#
# A comparison such as `z > 0` is a tensor of True and False, and may be multiplied with.
# </details>

# %% tags=["exercise"]
from xailab.lessons import check


def my_guided(z, R):
    return ...


check("04.1", my_guided)

# %% tags=["solution"]
from xailab.lessons import check


def my_guided(z, R):
    return R * (z > 0) * (R > 0)


check("04.1", my_guided)

# %% [markdown]
# ### 04.2 An honest picture
# *Difficulty 2 of 5, about 10 minutes.* Turn a gradient (3, h, w) into a uint8 picture (h, w, 3), RGB: 0 becomes 128,
# the bound is the **99 %** quantile of the absolute values of all channels together, and becomes 128 + 127 = 255 (minus
# the bound 1); values are clipped there and rounded. A NumPy array or a tensor will do.
#
# <details><summary>Hint</summary>
#
# `g.abs().flatten().quantile(0.99)`, `.clamp(-1, 1)`, `.round().to(torch.uint8)`, `.permute(1, 2, 0)`.
# </details>


# %% tags=["exercise"]
def my_picture(gradient):
    return ...


check("04.2", my_picture)


# %% tags=["solution"]
def my_picture(gradient):
    bound = gradient.abs().flatten().quantile(0.99)
    grey = 128 + 127 * (gradient / bound).clamp(-1, 1)
    return grey.round().to(torch.uint8).permute(1, 2, 0)


check("04.2", my_picture)

# %% [markdown]
# ### 04.3 How alike are two explanations?
# *Difficulty 2 of 5, about 8 minutes.* Two signed pictures (3, h, w) explain two classes. Return Spearman's rank
# correlation of their strengths (the largest absolute value over the channels), one number for all pixels. Then try
# it on the two rows of `backs`.
#
# <details><summary>Hint</summary>
#
# `scipy.stats.spearmanr(x, y).statistic` for two vectors.
# </details>


# %% tags=["exercise"]
def my_similarity(a, b):
    return ...


check("04.3", my_similarity)

# %% tags=["solution"]
from scipy.stats import spearmanr


def my_similarity(a, b):
    a, b = (each.abs().amax(0).flatten() for each in (a, b))
    return spearmanr(a, b).statistic


check("04.3", my_similarity)

# %% [markdown]
# ### 04.4 A hook on a tensor
# *Difficulty 3 of 5, about 12 minutes.* The network is `scores = third @ relu(second @ relu(first @ x))`, with three
# weight matrices and no module at all. Return guided backprop's gradient of `scores[c]` at `x`, by hooks on tensors.
# The check refuses a chain rule that is written out by hand.
#
# A tensor has `register_hook(f)`: when its gradient $R$ arrives, `f(R)` takes its place, and what lies below it in
# the graph gets that.
#
# <details><summary>Hint 1</summary>
#
# Start from `x = x.clone().requires_grad_()`, keep both hidden tensors in variables, and end with
# `torch.autograd.grad(scores[c], x)[0]`.
# </details>
# <details><summary>Hint 2</summary>
#
# Let `a = (first @ x).relu()`. What arrives at `a` is $R$, and the ReLU's own derivative multiplies it with $[z > 0]$
# afterwards. So `a.register_hook(lambda R: R.clamp(min=0))` is all that is missing.
# </details>


# %% tags=["exercise"]
def my_gradient(x, first, second, third, c):
    return ...


check("04.4", my_gradient)


# %% tags=["solution"]
def my_gradient(x, first, second, third, c):
    x = x.clone().requires_grad_()
    lower = (first @ x).relu()
    upper = (second @ lower).relu()
    for activation in (lower, upper):
        activation.register_hook(lambda R: R.clamp(min=0))
    return torch.autograd.grad((third @ upper)[c], x)[0]


check("04.4", my_gradient)

# %% [markdown]
# ### 04.5 The share on the object
# *Difficulty 3 of 5, about 15 minutes.* Given gradients (n, 3, h, w), masks (n, h, w) of booleans and a margin in
# pixels, return for each picture the share of the strength (largest $|g|$ of the channels) on the object or within a
# square of that margin around one of its pixels. Then repeat the lesson's curve for the gradient, by depth.
#
# <details><summary>Hint</summary>
#
# `F.max_pool2d` with `kernel_size=2 * margin + 1`, `stride=1`, `padding=margin` grows a mask of zeros and ones.
# </details>


# %% tags=["exercise"]
def my_share(gradients, masks, margin):
    return ...


check("04.5", my_share)


# %% tags=["solution"]
def my_share(gradients, masks, margin):
    strength = gradients.abs().amax(1)
    grown = F.max_pool2d(masks[:, None].float(), 2 * margin + 1, stride=1, padding=margin)[:, 0]
    return (strength * grown).sum((1, 2)) / strength.sum((1, 2))


check("04.5", my_share)

# %% [markdown]
# ### 04.6 Does the explanation notice?
# *Difficulty 4 of 5, about 15 minutes.* You get the strengths of one method's explanations of several pictures, as
# tensors (n, h, w): `trained` of the trained network and `random` of a randomised one. Return True if the method
# notices the randomisation. The measure of likeness is yours. The yardstick matters more: how alike are explanations
# of *different* pictures?
#
# <details><summary>Hint</summary>
#
# `trained.roll(1, 0)` puts another picture's explanation beside each one. A method notices if `random` is hardly more
# like `trained` than that.
# </details>


# %% tags=["exercise"]
def notices(trained, random):
    return ...


check("04.6", notices)


# %% tags=["solution"]
def notices(trained, random):
    def alike(a, b):
        return np.mean([lesson.rank_correlation(x, y) for x, y in zip(a, b, strict=True)])

    other_picture = alike(trained, trained.roll(1, 0))
    return bool(alike(trained, random) < (1 + other_picture) / 2)


check("04.6", notices)

# %% [markdown]
# ## Self-test
#
# <details><summary>1. Which of the three rules is a derivative, and what does it tell?</summary>
#
# The gradient rule. It tells how the score changes if a pixel changes a little.
# </details>
# <details><summary>2. Why do hooks on modules fail silently on some networks?</summary>
#
# A ReLU that is called as a function belongs to no module, so no hook is set and the plain gradient comes out.
# </details>
# <details><summary>3. A rank correlation of 0.4 after full randomisation: is this much?</summary>
#
# Only a yardstick can tell. If another picture's explanation has 0.4 too, nothing of this picture is left.
# </details>
# <details><summary>4. Why does Guided Grad-CAM separate two classes?</summary>
#
# Its factor Grad-CAM is small or zero off the class's region. Guided backprop alone hardly depends on the class.
# </details>
# <details><summary>5. Why do positive values alone redraw the input, and why are the clouds not drawn?</summary>
#
# Each filter is added with a positive weight where it fitted the input, so the sum looks like the input. But trained
# low layers respond to objects far more than to background edges of the same contrast. With `layer3` to
# `layer1` random this preference fades, and the clouds appear.
# </details>
#
# > **Key idea.** Guided backprop is the gradient with $R\,[z > 0]\,[R > 0]$ at every ReLU. It is not a derivative.
# >
# > **Key idea.** A sharp picture is no evidence. Guided backprop hardly depends on the upper layers or on the class:
# > it shows what the low layers find, and these find objects of any class.
# >
# > **Key idea.** Test an explanation by randomised weights, random labels and another class, always with a yardstick.
#
# **Why read it**
# - [Springenberg et al. 2015](https://arxiv.org/abs/1412.6806): the rule, in one figure.
# - [Zeiler and Fergus 2014](https://arxiv.org/abs/1311.2901): what the deconvnet was made for.
# - [Selvaraju et al. 2017](https://arxiv.org/abs/1610.02391): Guided Grad-CAM and the study with people.
# - [Adebayo et al. 2018](https://arxiv.org/abs/1810.03292): both sanity checks.
# - [Nie et al. 2018](https://arxiv.org/abs/1805.07039): why the negative parts matter, and the role of max-pooling.
# - [Sixt et al. 2020](https://arxiv.org/abs/1912.09818): which methods ignore later layers, and why.

# %% [markdown]
# ## Summary
#
# Next: **[05 · Saliency and class models](05_saliency.ipynb)**.
