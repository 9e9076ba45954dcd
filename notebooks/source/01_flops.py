# %% [markdown]
# # 01 · What a convolution costs
#
# **About {reading} minutes to read, {exercises} for the exercises · 2 GiB of memory · no GPU, no network needed**
#
# Why does a course on seeing inside networks begin by counting multiplications? Counting opens a network layer by
# layer, and leads to the key of the next lesson: a $1 \times 1$ convolution adds up feature maps with weights, at every
# place of the picture. A *class activation map* is exactly this sum.
#
# **Afterwards you can**
# - write down the cost of a convolution, and say what a depthwise separable one saves,
# - write a counter for whole networks in twenty lines, and say what counters miss,
# - show that a $1 \times 1$ convolution of the last feature maps is a class activation map,
# - find errors in published counts, and say when fewer operations are not faster.
#
# **You need** to know what a convolution does, and how to read a PyTorch module.
#
# **Contents:** [The idea](#The-idea) · [By hand](#By-hand) · [How much can be saved?](#How-much-can-be-saved?) ·
# [A counter](#A-counter-in-twenty-lines) · [Where the work is](#Where-the-work-is) ·
# [A 1 × 1 convolution is a map](#A-1-×-1-convolution-is-a-map) · [Counting with hooks](#Counting-with-hooks) ·
# [The size of the picture](#The-size-of-the-picture) · [What a MAC buys](#What-a-MAC-buys) ·
# [Published numbers](#Published-numbers) · [Where it fails](#Where-it-fails:-seconds) ·
# [Explorer](#Explorer) · [Exercises](#Exercises) · [Self-test](#Self-test) ·
# [Summary](#Summary)
#
# [← 00 · Welcome](00_welcome.ipynb) · [02 · Class activation maps →](02_cam.ipynb) ·
# [what goes beyond: 01 deeper](deeper/01_flops.ipynb)

# %% [markdown]
# ## The idea
#
# A standard convolution *filters* its input channels and *combines* them in one step. With kernels of $D_K \times D_K$
# weights, $M$ input channels, $N$ output channels and an output of $D_G \times D_G$ values, it needs
#
# $$D_K \cdot D_K \cdot M \cdot N \cdot D_G \cdot D_G$$
#
# multiplications (equation 2 of *MobileNets*, [Howard et al. 2017](https://arxiv.org/abs/1704.04861)). The paper does
# the two jobs in two layers. A **depthwise** convolution filters every channel with one kernel of its own. A
# **pointwise** ($1 \times 1$) convolution combines the results:
#
# $$\underbrace{D_K \cdot D_K \cdot M \cdot D_G \cdot D_G}_{\text{depthwise}} \;+\;
# \underbrace{M \cdot N \cdot D_G \cdot D_G}_{\text{pointwise}}, \qquad
# \frac{\text{separable}}{\text{standard}} = \frac{1}{N} + \frac{1}{D_K^2}.$$
#
# One multiplication with its addition is one **MAC**, for multiply-accumulate, and counts as *two* FLOPs. (The paper
# on ShuffleNet V2 uses the letters MAC for *memory access cost*.) The size $D_G$ is that of the **output**; the paper
# writes $D_F$, because its layers keep their size.
#
# The figure shows four of the 32 input maps of the first block of EfficientNet-Lite0, a network built from such pairs.

# %%
import torch
from torch import nn

from xailab import figures
from xailab.datasets import photographs
from xailab.lessons import flops as lesson
from xailab.models import zoo

network = zoo.load("efficientnet_lite0")
cat_picture = network.preprocess(photographs.photograph("cat").image)  # (1, 3, 224, 224)
with torch.no_grad():
    inputs = network.relu0(network.norm0(network.stem(cat_picture)))  # 32 maps
    filtered = network.block1.depthwise(inputs)  # 32 maps, each from one input map
    outputs = network.block1.project(filtered)  # 16 maps, each from all filtered maps
figures.show(
    lesson.draw_idea(inputs[0, [2, 6, 10, 19]], filtered[0, [2, 6, 10, 19]], outputs[0, [5, 7, 12]]),
    "Standard: twelve 3 by 3 kernels join four maps to three. Separable: four 3 by 3 kernels, then twelve of 1 by 1.",
)

# %% [markdown]
# **Predict.** A $3 \times 3$ kernel without padding turns $6 \times 6$ values with 5 channels into $4 \times 4$ values
# with 7 channels. How many multiplications does each way need?

# %% [markdown]
# *Your prediction (double-click here and write):* …

# %% [markdown]
# ## By hand
#
# Six nested loops, and a counter that goes up whenever two numbers are multiplied:


# %%
def convolve(image, kernels, groups=1):
    height, width = image.shape[1:]
    filters, seen, k, _ = kernels.shape  # each filter sees channels / groups of the channels
    output, counter = torch.zeros(filters, height - k + 1, width - k + 1), 0
    for n in range(filters):
        first = n // (filters // groups) * seen
        for i in range(height - k + 1):
            for j in range(width - k + 1):
                for m in range(seen):
                    for a in range(k):
                        for b in range(k):
                            output[n, i, j] += image[first + m, i + a, j + b] * kernels[n, m, a, b]
                            counter += 1
    return output, counter


image = torch.ones(5, 6, 6)
_, standard = convolve(image, torch.ones(7, 5, 3, 3))
between, depthwise = convolve(image, torch.ones(5, 1, 3, 3), groups=5)
_, pointwise = convolve(between, torch.ones(7, 5, 1, 1))
print(f"standard   {standard} multiplications")
print(f"separable  {depthwise + pointwise} = {depthwise} depthwise + {pointwise} pointwise")
print(f"ratio      {(depthwise + pointwise) / standard:.3f}, and 1/7 + 1/9 = {1 / 7 + 1 / 9:.3f}")

# %% [markdown]
# ## How much can be saved?
#
# `conv_cost` and `separable_cost` are the formulas; they take the size of the *output*. **Predict.** How many times
# cheaper is the separable layer for a $3 \times 3$ kernel and 1024 output channels? Does a larger picture raise this
# number, lower it, or leave it as it is?

# %% [markdown]
# *Your prediction:* …

# %%
from xailab.flops import conv_cost, separable_cost

assert standard == conv_cost(5, 7, 3, 4).macs and depthwise + pointwise == separable_cost(5, 7, 3, 4).macs
for channels in (7, 64, 128, 1024):
    full, pair = conv_cost(512, channels, 3, 14).macs, separable_cost(512, channels, 3, 14).macs
    print(f"{channels:4d} output channels, output 14 × 14: {full / pair:.2f} times cheaper")
for size in (7, 14, 56):
    full, pair = conv_cost(512, 512, 3, size).macs, separable_cost(512, 512, 3, size).macs
    print(f" 512 output channels, output {size} × {size}: {full:,} against {pair:,}, {full / pair:.2f} times cheaper")
figures.show(
    lesson.draw_gain(),
    "Three curves, for kernels of 3, 5 and 7, rise with the output channels and level off below 9, 25 and 49.",
)

# %% [markdown]
# More channels shrink the term $1/N$, and $1/D_K^2$ stays. The gain is capped at $D_K^2 = 9$, and is 8 to 9 from 128
# channels on. A larger picture does not raise it: both costs grow with the area, and in their ratio $D_G$ cancels.

# %% [markdown]
# ## A counter in twenty lines
#
# Every layer asks torch for operations, such as `convolution`. An active *dispatch mode* receives each of them. Ours
# runs the operation and looks at the shapes. Each output value costs one MAC for each weight of its filter, or for
# each column of the first matrix.

# %%
from collections import Counter

from torch.utils._python_dispatch import TorchDispatchMode


class MacCounter(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.macs = Counter()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        output = operation(*args, **(kwargs or {}))
        name = operation.overloadpacket.__name__
        if name == "convolution":  # (input, weight, ...)
            self.macs[name] += output.numel() * args[1][0].numel()
        elif name in ("mm", "bmm"):  # (first, second)
            self.macs[name] += output.numel() * args[0].shape[-1]
        elif name == "addmm":  # (bias, first, second): a linear layer
            self.macs[name] += output.numel() * args[1].shape[-1]
        return output


with torch.no_grad(), MacCounter() as mine:
    network(cat_picture)
print(dict(mine.macs), f"together {mine.macs.total() / 1e6:.2f} million MACs")

# %% [markdown]
# The library's `count` works in the same way, and warns of operations that it does not know. It uses torch's *meta*
# device, where tensors have a shape and no content, so that nothing is computed.

# %%
from xailab.flops import count

table = count(network, (1, 3, 224, 224))
assert table.macs == mine.macs.total()
print(f"{table.macs:,} MACs, {table.flops:,} FLOPs, {table.weights:,} weights")

# %% [markdown]
# Batch norm, ReLU and averages are not counted, as in the paper's tables. (Google publishes 407 million for this network. We
# do not know what was counted in addition.)

# %% [markdown]
# ## Where the work is
#
# **Predict.** Which parts cost most: those on large maps, or those with many channels? Where are the weights?

# %% [markdown]
# *Your prediction:* …

# %%
from xailab.hooks import recording

names = {"stem": "relu0", "block3": "block3", "block5": "block5", "block11": "block11", "head": "relu1"}
with torch.no_grad(), recording(network, *names.values()) as kept:
    network(cat_picture)
views = {part: kept[layer][0].abs().mean(0) for part, layer in names.items()}  # the mean strength of all channels
figures.show(
    lesson.draw_blocks(table, views),
    "Maps of a cat, from 112 to 7 pixels. Bars below: MACs in all blocks, mostly pointwise; weights at the end.",
)
for kind, cost in table.by_kind().items():
    print(f"{kind:11s} {cost.macs / table.macs:.3f} of the MACs, {cost.params / table.weights:.3f} of the weights")

# %% [markdown]
# The MACs are spread over the depth, because the channels grow while the maps shrink. The weights pile up at the end.
# Most MACs are pointwise: this network spends its work on adding up channels.

# %% [markdown]
# ## A 1 × 1 convolution is a map
#
# EfficientNet-Lite0 ends as MobileNet does: the last feature maps $f_k(x, y)$ are averaged, and one linear layer with
# weights $w^c_k$ gives the score $S_c$ of each class. **Predict:** we use the same weights as a $1 \times 1$ convolution
# *before* the average. What does it cost, and what is the average of one of its 1000 output maps?

# %% [markdown]
# *Your prediction:* …

# %%
from xailab import images
from xailab.cam import class_activation_map

both = network.preprocess(photographs.stacked("cat", "cup"))
with torch.no_grad(), recording(network, "relu1") as kept:
    scores = network(both)
features, weights = kept["relu1"], network.fc.weight.detach()  # (1, 1280, 7, 7) and (1000, 1280)
maps = nn.functional.conv2d(features, weights[:, :, None, None])  # a 1 × 1 convolution: (1, 1000, 7, 7)
print(f"before the average {conv_cost(1280, 1000, 1, 7).macs:,} MACs, after it {table.rows[-1].macs:,}")
cat, espresso = network.classes.index("tiger cat"), network.classes.index("espresso")
cam = class_activation_map(network, both, [[cat, espresso]])
print(f"largest value of a map {cam.max():.2f}, difference from CAM {(maps[:, [cat, espresso]] - cam).abs().max():.4f}")
print(f"difference of average + bias from the score {(maps.mean((2, 3)) + network.fc.bias - scores).abs().max():.4f}")
seen, scale = network.preprocess.undo(both)[0], float(cam.max())
overlays = [images.overlay(images.grey(seen), maps[0, c], scale=scale) for c in (cat, espresso)]
figures.show(
    figures.strip(
        [seen, *overlays], ["the network saw", f"map {cat}, “tiger cat”", f"map {espresso}, “espresso”"], panel=4
    ),
    "A cat above a cup; one map of the convolution glows on the cat's face, another one on the coffee.",
)

# %% [markdown]
# Average and weighted sum can be exchanged, since both are linear. So the score is the average of a map plus a
# bias, and the map says which place contributes what: the **class activation map** of the next lesson. Averaging first
# is 49 times cheaper. (Cat: Stéfan van der Walt, cup: Rachel Michetti, both CC0.)

# %% [markdown]
# ## Counting with hooks
#
# Some tools hang a forward hook on every module that they know. **Predict:** does this give our number for
# EfficientNet-Lite0? And for a vision transformer?

# %% [markdown]
# *Your prediction:* …


# %%
def macs_by_hooks(network, picture):
    seen = []

    def note(module, inputs, output):
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            seen.append(output.numel() * module.weight[0].numel())

    hooks = [module.register_forward_hook(note) for module in network.modules()]
    with torch.no_grad():
        network(picture)
    for hook in hooks:
        hook.remove()
    return sum(seen)


# %%
from torchvision import models

with torch.device("meta"):  # shapes without content
    vit, empty = models.vit_b_16().eval(), torch.empty(1, 3, 224, 224)
for name, model, picture in (("EfficientNet-Lite0", network, cat_picture), ("ViT-B/16", vit, empty)):
    with torch.no_grad(), MacCounter() as counter:
        model(picture)
    hooks, ours = macs_by_hooks(model, picture), counter.macs.total()
    print(f"{name:18s} {ours / 1e6:9.2f} million MACs, hooks see {hooks / 1e6:9.2f}: {hooks / ours:.2f} of them")
assert ours == count(vit, (1, 3, 224, 224)).macs

# %% [markdown]
# A hook sees modules. Attention calls its projections and its matrix products as *functions*, so these
# hooks miss 36 % of the transformer's work, without an error. Our counter has gaps too: an operation that it does not
# know counts as 0. The [deeper notebook](deeper/01_flops.ipynb) compares six published counters.

# %% [markdown]
# ## The size of the picture
#
# The paper has two multipliers for a smaller budget: $\alpha$ for the number of channels, and $\rho$ for the size of
# the picture. Which of them makes the file of weights smaller?

# %%
for alpha, size in ((1.0, 224), (0.5, 224), (1.0, 160)):
    mobile = lesson.mobilenet(alpha, size)  # a table as above, of a MobileNet
    print(
        f"alpha {alpha}, {size} pixels: {mobile.macs / 1e6:.2f} million MACs, {mobile.weights / 1e6:.2f} million weights"
    )

# %% [markdown]
# Alpha lowers both, the MACs by about $\alpha^2$. Rho lowers the MACs by about $\rho^2$ and leaves the weights: a
# kernel fits a map of any size. **Predict:** EfficientNet-Lite0 sees the course's seven photographs at five sizes. How
# do its MACs grow, and its probability of the right class?

# %% [markdown]
# *Your prediction:* …

# %%
from dataclasses import replace

import numpy as np

chosen = [photographs.photograph(name) for name in photographs.names()]
right = [network.classes.index(each.label) for each in chosen]
sizes, millions, trust, views = (96, 160, 224, 320, 448), [], [], []
for size in sizes:
    preprocess = replace(network.preprocess, resize=size * 8 // 7, crop=size)  # 256 and 224, scaled
    batch = preprocess([each.image for each in chosen])
    with torch.no_grad():
        probabilities = network(batch).softmax(1)
    trust.append([float(p[c]) for p, c in zip(probabilities, right, strict=True)])
    millions.append(count(network, (1, 3, size, size)).macs / 1e6)
    views.append(preprocess.undo(batch)[0])
    print(f"{size} pixels: {millions[-1]:.1f} million MACs, mean probability {np.mean(trust[-1]):.2f}")
figures.show(
    lesson.draw_sizes(sizes, millions, views, np.array(trust)),
    "A cat at five sizes; below, the mean probability of the right class is highest at 160 pixels, lowest at 448.",
)

# %% [markdown]
# The cost grows with the area, the probability does not. At 448 pixels the network, which was trained at 224, costs four
# times as much and gives the right class next to nothing. At 160 pixels it costs half, and the mean is higher here. Seven
# photographs are no measure of accuracy, but they show that more MACs can also harm. (Temple: danielbuechele, flower:
# vultilion, CC BY 2.0.)

# %% [markdown]
# ## What a MAC buys
#
# Torchvision publishes the accuracies of its networks on ImageNet. We count their MACs, at the size of picture that
# each wants. **Predict:** is the most expensive of torchvision's six the best?

# %% [markdown]
# *Your prediction:* …

# %%
networks = {"efficientnet_lite0": (table.macs / 1e6, 75.1)}  # Google's accuracy, for the weights before conversion
for name in ("efficientnet_b5", "wide_resnet50_2", "resnet50", "vgg16", "resnet18", "squeezenet1_0"):
    published = models.get_model_weights(name)["IMAGENET1K_V1"]
    side = published.transforms().crop_size[0]
    with torch.device("meta"):
        macs = count(models.get_model(name, weights=None), (1, 3, side, side)).macs
    networks[name] = (macs / 1e6, published.meta["_metrics"]["ImageNet-1K"]["acc@1"])
for name, (million, accuracy) in networks.items():
    print(f"{name:18s} {million:8.1f} million MACs, {accuracy:.1f} % (published)")
figures.show(
    lesson.draw_networks(networks),
    "Accuracy against MACs, log axis: MobileNets climb along a line, Lite0 lies above it, VGG16 is far to the right.",
)

# %% [markdown]
# VGG16 is the most expensive of the six, and only fourth in accuracy (71.6 %): cost alone does not buy accuracy. Within
# the family of MobileNets accuracy grows with the logarithm of the cost; between families the design decides. The shape
# of EfficientNet-B0 was found by a search for accuracy at few operations. B5 is B0 made larger.

# %% [markdown]
# ## Published numbers
#
# The text of the paper says of its Table 9: a small MobileNet is 4 % better than AlexNet, 45 times smaller, with 9.4
# times fewer mult-adds. It is 4 % better than SqueezeNet, with 22 times fewer mult-adds. Which of the five numbers hold?

# %% [markdown]
# *Your verdict, before you run the cell:* …

# %%
with torch.device("meta"):
    others = {"SqueezeNet": models.squeezenet1_0(), "AlexNet": models.alexnet()}
_, our_top1, our_macs, our_params = lesson.TABLE_9[0]  # MobileNet 0.50-160, as published
for name, top1, macs, params in lesson.TABLE_9[1:]:
    counted = count(others[name], (1, 3, 224, 224)).macs / 1e6
    print(f"{name}: {macs} million mult-adds published, {counted:.0f} million MACs counted")
    print(f"    {top1 - our_top1:+.1f} points of accuracy, {params / our_params:.1f} times MobileNet's parameters")
    print(f"    {macs / our_macs:.1f} times its mult-adds as published, {counted / our_macs:.1f} as counted")

# %% [markdown]
# 45 and 9.4 hold up to rounding. The "4 %" are 3.0 and 2.7 points in the paper's own table. The 22 compares two units:
# SqueezeNet's 1700 million are twice our count, so they seem to be FLOPs. With MACs on both sides the factor is 11.
# These are errors 7 and 8; the deeper notebook shows six more.

# %% [markdown]
# ## Where it fails: seconds
#
# A processor must also *fetch* numbers from memory. The **arithmetic intensity** of a layer is its FLOPs per byte. A
# machine does only so many FLOPs a second, and fetches only so many bytes a second. The *roof* of a layer is the smaller of the peak and intensity times bytes a second ([Williams et al. 2009](https://doi.org/10.1145/1498765.1498785)). **Predict:** a pair with 8.8 times fewer
# MACs is how many times faster? Does every layer reach its roof?

# %% [markdown]
# *Your prediction:* …

# %% tags=["exempt"]
threads = torch.get_num_threads()
torch.set_num_threads(1)  # this cell takes about 5 seconds
machine, measured = lesson.peaks(), []  # the fastest matrix product, the fastest copy
for m, n, size in ((32, 64, 112), (512, 512, 14)):
    layers = {
        "standard": nn.Conv2d(m, n, 3, padding=1, bias=False),
        "depthwise": nn.Conv2d(m, m, 3, padding=1, groups=m, bias=False),
        "pointwise": nn.Conv2d(m, n, 1, bias=False),
    }
    times = lesson.layer_times(layers.values(), 1, m, size, size)  # the shortest of several runs
    rows = [count(layer, (1, m, size, size)).rows[0] for layer in layers.values()]
    measured += [(f"{name} {size}", row, time) for name, row, time in zip(layers, rows, times, strict=True)]
    fewer, faster = rows[0].macs / (rows[1].macs + rows[2].macs), times[0] / (times[1] + times[2])
    print(f"{m} to {n} channels: {fewer:.1f} times fewer MACs, {faster:.1f} times faster")
    print(f"    depthwise {rows[1].intensity:.1f} FLOP per byte, standard {rows[0].intensity:.1f}")
torch.set_num_threads(threads)
figures.show(
    lesson.draw_roofline(machine, measured),
    "Speed of six layers under the roof of this machine; depthwise layers lie at the left, where the roof is low.",
)

# %% [markdown]
# Your times will differ from ours, the intensities will not. A depthwise layer does about 2 FLOPs for a byte, so the
# memory caps its speed far below the peak. Now read the legend. Where a depthwise layer reaches only a part of even this low
# roof, as on our machine, the program that computes it is a second limit. (The slanted line stands for main memory;
# caches are faster, and a layer may lie above it.)

# %% [markdown]
# ## Explorer
#
# Try a $1 \times 1$ kernel, a single output channel, and groups. When does the pair cost more than the layer?

# %%
figures.show(
    lesson.draw_cost(),
    "Bars for 512 channels of 14 by 14: 462 million MACs against 52 million; beside them the share that is left.",
)

# %%
lesson.cost_explorer()

# %% [markdown]
# ## Exercises
#
# Write into the cell, run it, and read what `check` says.

# %% [markdown]
# ### 01.1 The cost of any convolution
# *Difficulty 1 of 5, about 8 minutes.* Write the MACs of a square convolution from its *input* size, with stride,
# padding and groups.
#
# <details><summary>Hint 1</summary>First the output size: (size + 2 · padding - kernel) // stride + 1.</details>
# <details><summary>Hint 2</summary>With g groups, each filter sees only M / g of the channels.</details>


# %% tags=["exercise"]
from xailab.lessons import check


def macs(kernel, in_channels, out_channels, size, stride, padding, groups):
    """MACs of a square convolution, from the size of its input."""
    ...


check("01.1", macs)


# %% tags=["solution"]
from xailab.lessons import check


def macs(kernel, in_channels, out_channels, size, stride, padding, groups):
    output = (size + 2 * padding - kernel) // stride + 1
    return kernel * kernel * (in_channels // groups) * out_channels * output * output


check("01.1", macs)

# %% [markdown]
# ### 01.2 How many channels does a gain need?
# *Difficulty 2 of 5, about 10 minutes.* Return the smallest number of output channels $N$ for which the separable
# layer is at least `gain` times cheaper. If no number is enough, return `math.inf`.
#
# <details><summary>Hint 1</summary>Solve 1 / (1/N + 1/K²) = gain for N. When has this no positive solution?</details>
# <details><summary>Hint 2</summary>Channels are whole numbers: math.ceil. Take off 1e-9 first, so that a gain that is
# met exactly is not rounded up.</details>

# %% tags=["exercise"]
import math


def channels_for(gain, kernel):
    """The smallest N for which the separable layer is `gain` times cheaper, or math.inf."""
    ...


check("01.2", channels_for)

# %% tags=["solution"]
import math


def channels_for(gain, kernel):
    left = 1 / gain - 1 / kernel**2
    return math.ceil(1 / left - 1e-9) if left > 1e-12 else math.inf


check("01.2", channels_for)

# %% [markdown]
# ### 01.3 For which layers does it pay?
# *Difficulty 2 of 5, about 8 minutes.* `layers` is a list of `nn.Conv2d` with square kernels. Return the places in
# this list of those layers for which a depthwise and a pointwise layer would need at most *half* of the MACs.
#
# <details><summary>Hint 1</summary>
#
# The sizes of the pictures are not given. Why are they not needed?
# </details>
# <details><summary>Hint 2</summary>
#
# With g groups the layer itself is g times cheaper, and the pair is not. The attributes are `out_channels`,
# `kernel_size` and `groups`.
# </details>


# %% tags=["exercise"]
def my_choice(layers):
    return ...


check("01.3", my_choice)


# %% tags=["solution"]
def my_choice(layers):
    chosen = []
    for place, conv in enumerate(layers):
        share = conv.groups * (1 / conv.out_channels + 1 / conv.kernel_size[0] ** 2)
        if share <= 0.5:
            chosen.append(place)
    return chosen


check("01.3", my_choice)

# %% [markdown]
# ### 01.4 A blind spot
# *Difficulty 3 of 5, about 10 minutes.* Build a network in which `macs_by_hooks` sees nothing at all, and which still
# needs at least 10,000 MACs by `count`. Its input has the shape (1, 8, 16, 16). Return the network.
#
# <details><summary>Hint 1</summary>
#
# What does `macs_by_hooks` ask of a module before it counts it? What else can multiply?
# </details>
# <details><summary>Hint 2</summary>
#
# `nn.functional.conv2d(x, self.weight)` with an `nn.Parameter`, or `x @ x.transpose(-1, -2)`.
# </details>


# %% tags=["exercise"]
def my_network():
    return ...


check("01.4", my_network)


# %% tags=["solution"]
class Unseen(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(16, 8, 1, 1))

    def forward(self, x):
        return nn.functional.conv2d(x, self.weight)


def my_network():
    return Unseen()


check("01.4", my_network)

# %% [markdown]
# ### 01.5 Find the error
# *Difficulty 3 of 5, about 12 minutes.* TensorFlow's table prints 317, 233, 162 and 104 million MACs for alpha 0.75
# at 224, 192, 160 and 128 pixels. Something was left out. Find it, and return the MACs *as they were counted there*,
# given our table of the whole network (`table.macs`, and `table.rows` with `.module`, `.kind` and `.macs`).
#
# <details><summary>Hint 1</summary>Print lesson.mobilenet(0.75, size).macs beside the published number for each size.
# Does the gap depend on the size?</details>
# <details><summary>Hint 2</summary>The gaps are 8.4, 6.3, 4.4 and 2.8 million, up to 0.5 of rounding in the printed
# numbers. Which row shrinks like that?</details>


# %% tags=["exercise"]
def as_counted(table):
    """The MACs that TensorFlow's table would print for the network of this table."""
    ...


check("01.5", as_counted)


# %% tags=["solution"]
def as_counted(table):
    return sum(row.macs for row in table.rows if row.module != "conv1.conv")


check("01.5", as_counted)

# %% [markdown]
# ### 01.6 Make a layer separable
# *Difficulty 3 of 5, about 15 minutes.* Given an `nn.Conv2d` (square, one group), return an `nn.Sequential` of a
# depthwise and a pointwise convolution with the same input and output shapes.
#
# <details><summary>Hint 1</summary>conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride,
# conv.padding.</details>
# <details><summary>Hint 2</summary>Stride and padding go to the depthwise layer; it keeps the number of
# channels.</details>


# %% tags=["exercise"]
def make_separable(conv):
    """A depthwise and a pointwise convolution in place of one standard convolution."""
    ...


check("01.6", make_separable)


# %% tags=["solution"]
def make_separable(conv):
    channels = conv.in_channels
    return nn.Sequential(
        nn.Conv2d(channels, channels, conv.kernel_size, conv.stride, conv.padding, groups=channels, bias=False),
        nn.Conv2d(channels, conv.out_channels, 1),
    )


check("01.6", make_separable)

# %% [markdown]
# ## Self-test
#
# Answer from memory, then unfold.
#
# <details><summary>1. What does a standard convolution cost, and what its separable pair?</summary>
#
# $D_K^2 M N D_G^2$ MACs, and $D_K^2 M D_G^2 + M N D_G^2$; $D_G$ is the size of the output.
# </details>
#
# <details><summary>2. Why is the gain capped, and what does the size of the picture change?</summary>
#
# The ratio is $1/N + 1/D_K^2$. More channels shrink the first term only. The size of the picture cancels.
# </details>
#
# <details><summary>3. What do alpha and rho act on?</summary>
#
# Alpha acts on the channels, so on MACs and weights. Rho acts on the size of all maps, so on the MACs only.
# </details>
#
# <details><summary>4. How does `count` see operations, and why do counters with hooks miss a third of a ViT?</summary>
#
# A dispatch mode receives every operation. Hooks are called for modules, and attention calls functions.
# </details>
#
# <details><summary>5. What limits a depthwise layer on a processor?</summary>
#
# At 2 FLOPs for a byte the memory caps it far below the peak. If it stays well below this cap, the program is a limit, too.
# </details>

# %% [markdown]
# ## Summary
#
# > **Key idea.** A standard convolution costs $D_K^2 M N D_G^2$ MACs, a separable pair $1/N + 1/D_K^2$ of that,
# > whatever the size of the picture. The gain is capped at $D_K^2$.
#
# > **Key idea.** A $1 \times 1$ convolution is a weighted sum of maps at every place. With the weights of the last
# > layer it is the class activation map, and its average plus the bias is the score.
#
# > **Key idea.** A count is a claim. Ask what was counted, in which unit, and what the counter could not see. And
# > measure seconds where seconds matter.
#
# **Reading, and why**
#
# - A. Howard et al., [MobileNets](https://arxiv.org/abs/1704.04861), 2017. The method; Section 3 takes ten minutes.
# - M. Tan, Q. Le, [EfficientNet](https://arxiv.org/abs/1905.11946), 2019. Width, depth and resolution scaled together.
# - S. Williams et al., [Roofline](https://doi.org/10.1145/1498765.1498785), 2009. How to see what limits a program.
# - N. Ma et al., [ShuffleNet V2](https://arxiv.org/abs/1807.11164), 2018. Why networks should be judged by their speed.
#
# Next: [02 · Class activation maps](02_cam.ipynb), which asks where the evidence is.
