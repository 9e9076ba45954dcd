# %% [markdown]
# # 01 · What a convolution costs, deeper
#
# **About {reading} minutes to read, {exercises} for the exercises · 1 GiB of memory · no GPU, no network needed**
#
# What goes beyond [the lesson](../01_flops.ipynb): all tables of the MobileNet paper, counted again; errors in published
# numbers; six counters compared; and where the time of a network goes. Each section can be read alone, after the first
# cell.
#
# **Afterwards you can**
# - follow each multiplication of the small example,
# - choose among sixteen MobileNets with the two multipliers alpha and rho,
# - explain eight errors in the published record,
# - say why six counters disagree, and what an honest counter does with an operation that it does not know,
# - compare the shares of MACs, bytes and time.
#
# **Contents:** [Step by step](#Step-by-step) · [The whole MobileNet](#The-whole-MobileNet) ·
# [Alpha and rho](#Alpha-and-rho) · [Against the others](#Against-the-others) · [Find the error](#Find-the-error) ·
# [Why tools disagree](#Why-tools-disagree) · [An unknown operation](#An-unknown-operation) ·
# [Where the time goes](#Where-the-time-goes) · [Measured on scenes](#Measured-on-scenes) ·
# [On real data](#On-real-data) · [Summary](#Summary)
#
# [← the lesson](../01_flops.ipynb) · [02 · Class activation maps →](../02_cam.ipynb)

# %%
import numpy as np
import torch
from torch import nn
from torchvision import models

from xailab import figures
from xailab.flops import conv_cost, count, separable_cost
from xailab.lessons import flops as lesson
from xailab.models.mobilenet import MobileNetV1

SHAPE = (1, 3, 224, 224)
table = lesson.mobilenet()  # MobileNet with alpha 1, at 224 pixels

# %% [markdown]
# ## Step by step
#
# The example of the lesson once more, one output value at a time. Blue cells are read for the output value that is
# being made, which is red. The filter is orange.

# %%
figures.show(
    lesson.draw_step("standard", 40),
    "Five input planes with a blue window of 3 by 3 in each, an orange filter of five planes, and seven output planes, "
    "of which the first two are done; one cell of the third is red.",
)

# %% [markdown]
# For each of the 7 output channels the standard layer reads the same windows of *all* channels again. The depthwise
# layer reads the window of one channel, and only once. Walk through the three layers:

# %%
lesson.step_explorer()

# %% [markdown]
# ## The whole MobileNet
#
# The network is one standard convolution, thirteen separable pairs, an average and a linear layer. Each convolution is
# followed by batch norm and ReLU (Figure 3 of the paper). After the first convolution, strided depthwise layers make
# the maps smaller. The next table is the paper's Table 1 with its costs.

# %%
table.table().without("groups", "outputs")

# %% [markdown]
# Every pointwise layer costs 25.7 or 51.4 million MACs. When the map halves in both directions, the channels double, and
# the product stays. The column `params` contains biases and normalisation, as
# `sum(p.numel() for p in network.parameters())` does. The papers count `weights`, without them.

# %%
print(f"{table.macs:,} MACs, {table.flops:,} FLOPs, {table.weights:,} weights, {table.params:,} parameters")

# %% [markdown]
# Table 2 of the paper prints the share of each kind of layer. One of its eight numbers cannot be right. Which one?

# %%
shares = lesson.shares(table)
rows = []
for kind, (of_macs, of_weights) in lesson.TABLE_2.items():
    rows.append((kind, round(shares[kind][0], 2), of_macs, round(shares[kind][1], 2), of_weights))
lesson.beside(("Table 2", "% of MACs", "published", "% of weights", "published"), *rows)

# %% [markdown]
# Seven of eight agree to the last digit. The share of the first convolution is 1.91 %, not 1.19 %: two digits changed
# places. The next figure adds the bytes that each kind of layer must move.

# %%
figures.show(
    lesson.draw_shares(table),
    "Three bars. MACs: 95 percent pointwise. Weights: 75 percent pointwise, 24 percent linear. "
    "Bytes moved: 35 percent depthwise, 54 percent pointwise, 7 percent linear.",
)

# %% [markdown]
# ## Alpha and rho
#
# The width multiplier $\alpha$ makes every layer thinner, and the resolution multiplier $\rho$ makes the input and
# every map smaller:
#
# $$D_K \cdot D_K \cdot \alpha M \cdot \rho D_G \cdot \rho D_G + \alpha M \cdot \alpha N \cdot \rho D_G \cdot \rho D_G
# \qquad\text{(eq. 7)}$$
#
# Table 3 follows one layer of $14 \times 14 \times 512$ through the changes:

# %%
costs = [conv_cost(512, 512, 3, 14), separable_cost(512, 512, 3, 14)]
costs += [separable_cost(384, 384, 3, 14), separable_cost(384, 384, 3, 10)]  # alpha 0.75, then rho 0.714 as well
rows = []
for (name, macs, params), cost in zip(lesson.TABLE_3, costs, strict=True):
    rows.append((name, cost.macs / 1e6, macs, cost.params / 1e6, params))
lesson.beside(("Table 3", "M MACs", "published", "M weights", "published"), *rows)

# %% [markdown]
# Alpha shrinks both columns, rho only the MACs.
#
# The accuracies of Tables 4 and 5 are the paper's, on ImageNet. Everything else is counted here. "Shallow" drops the
# five blocks of $14 \times 14 \times 512$, and costs about as much as $\alpha = 0.75$. Which of the two would you bet on?

# %%
full, shallow = lesson.mobilenet(separable=False), lesson.mobilenet(shallow=True)
thin = lesson.mobilenet(0.75)
lesson.beside(
    ("Tables 4 and 5", "top-1 % (published)", "M MACs", "published", "M weights", "published"),
    ("standard convolutions", 71.7, full.macs / 1e6, 4866, full.weights / 1e6, 29.3),
    ("MobileNet", 70.6, table.macs / 1e6, 569, table.weights / 1e6, 4.2),
    ("thin, alpha 0.75", 68.4, thin.macs / 1e6, 325, thin.weights / 1e6, 2.6),
    ("shallow", 65.3, shallow.macs / 1e6, 307, shallow.weights / 1e6, 2.9),
)

# %%
print(f"MobileNet: {full.macs / table.macs:.1f} times fewer MACs for {71.7 - 70.6:.1f} points of accuracy")
print(f"thin against shallow, at nearly the same cost: {68.4 - 65.3:.1f} points")

# %% [markdown]
# At nearly equal cost the thin network wins: here depth is worth more than width. Tables 6 and 7 change one multiplier
# at a time:

# %%
rows = []
for alpha, size, top1, macs, weights in (*lesson.TABLE_6, *lesson.TABLE_7[1:]):
    counted = lesson.mobilenet(alpha, size)
    rows.append((f"alpha {alpha}, {size} px", top1, counted.macs / 1e6, macs, counted.weights / 1e6, weights))
lesson.beside(("Tables 6 and 7", "top-1 % (published)", "M MACs", "published", "M weights", "published"), *rows)

# %% [markdown]
# All agree to a million MACs. (The paper rounds 290.7 down and 568.7 up.) Four widths and four sizes make sixteen
# networks. **Predict:** what will their accuracy look like against the *logarithm* of their cost, and against the
# number of their weights?

# %% [markdown]
# *Your prediction:* …

# %%
figures.show(
    lesson.draw_tradeoff(),
    "Two panels. ImageNet accuracy of sixteen MobileNets against million MACs on a log axis: close to a straight line "
    "from 41 percent at 14 million to 71 percent at 569 million. Against weights: four vertical lines, one an alpha.",
)

# %% [markdown]
# The left panel is nearly a straight line (the paper's Figure 4). The right panel (its Figure 5) has one vertical line
# for each alpha, because the resolution changes no weight. The paper names few of the sixteen accuracies, so the lines
# are networks that TensorFlow trained again; the crosses are the paper's.
#
# For training, the paper used RMSprop with *less* regularisation and augmentation than for large networks, since small
# ones hardly overfit. The depthwise filters got little or no weight decay, because they have so few weights.
#
# Which network would you take for a budget of 100 million MACs?

# %%
figures.show(
    lesson.draw_dashboard(0.5, 160),
    "A 4 by 4 board of million MACs for alpha and input size, from 569 to 14, with alpha 0.5 at 160 pixels framed; "
    "beside it accuracy against MACs with the same network ringed at 77 million and 59.1 percent.",
)

# %%
lesson.dashboard()

# %% [markdown]
# ## Against the others
#
# `count` takes any network. Torchvision's versions differ a little from the originals: its AlexNet is the later one,
# with one tower. Where do the published numbers of Tables 8 and 9 not fit?

# %%
with torch.device("meta"):  # shapes without content
    googlenet = models.googlenet(weights=None, aux_logits=False, init_weights=False)
    others = {"GoogLeNet": googlenet, "VGG 16": models.vgg16()}
    others |= {"SqueezeNet": models.squeezenet1_0(), "AlexNet": models.alexnet()}
counted = {name: count(network, SHAPE) for name, network in others.items()}
counted |= {"MobileNet 1.0-224": table, "MobileNet 0.50-160": lesson.mobilenet(0.5, 160)}
rows = []
for name, top1, macs, params in (*lesson.TABLE_8, *lesson.TABLE_9):
    rows.append((name, top1, counted[name].macs / 1e6, macs, counted[name].params / 1e6, params))
lesson.beside(("Tables 8 and 9", "top-1 % (published)", "M MACs", "published", "M parameters", "published"), *rows)

# %%
for name in ("VGG 16", "GoogLeNet"):
    less, smaller = counted[name].macs / table.macs, counted[name].params / table.params
    print(f"MobileNet needs {less:.1f} times fewer MACs than {name}, and {smaller:.1f} times fewer parameters")

# %% [markdown]
# The paper says 27 times fewer mult-adds and 32 times fewer parameters than VGG 16, and 2.5 times fewer mult-adds than
# GoogLeNet. Torchvision's networks give nearly the same. SqueezeNet's 1700 is the odd one out: twice our count.

# %% [markdown]
# ## Find the error
#
# Eight places in the published record do not fit what we counted. Numbers 7 and 8 are in the lesson: "4 % better" for
# 3.0 and 2.7 points, and 22 times for 11. Before you run the next cell, say for each of the other six what was counted
# instead:
#
# 1. Table 1 prints stride 2 for the last depthwise layer.
# 2. Table 2 prints 1.19 % for the first convolution.
# 3. Table 4 prints 4866 million for the network of standard convolutions; we count 4867.3.
# 4. TensorFlow's table prints 317, 233, 162 and 104 million for alpha 0.75; we count 325, 239, 166 and 107.
# 5. Table 9 prints 1700 million for SqueezeNet.
# 6. Table 8 prints 15300 million for VGG 16.

# %% [markdown]
# *Your answers:* …

# %%
with torch.device("meta"):
    strided = MobileNetV1()
    strided.block13.depthwise.stride = (2, 2)
column = sum(of_macs for of_macs, _ in lesson.TABLE_2.values())
vgg, squeezenet = counted["VGG 16"], counted["SqueezeNet"]
convolutions = sum(row.macs for row in vgg.rows if row.kind != "linear")

print(
    f"1. With stride 2: {count(strided, SHAPE).macs / 1e6:.1f} M MACs, not 569; input and output of the layer are 7 × 7."
)
print(f"2. The published column sums to {column:.2f} %; with 1.91 % it gives {column + 0.72:.2f}.")
print(f"3. Without the linear layer: {(full.macs - full.rows[-1].macs) / 1e6:.2f} M MACs, while 569 includes it.")
print("4. This one is yours: exercise 01.5.")
print(f"5. {squeezenet.macs / 1e6:.0f} M MACs = {squeezenet.flops / 1e6:.0f} M FLOPs: the wrong unit, it seems.")
print(f"6. {vgg.macs / 1e6:.0f} M MACs, {convolutions / 1e6:.0f} M in convolutions: linear ones left out, it seems.")

# %% [markdown]
# The first two are misprints. The others are questions of convention: what was counted, and in which unit. One number
# stays unexplained: TensorFlow's 34 million for alpha 0.25 at 192 pixels, where we count 30.2. None of the errors
# changes the main result of the paper. But a table of your own that mixes the conventions would be wrong by up to a factor of two.

# %% [markdown]
# ## Why tools disagree
#
# The next figure shows what six ways of counting said about the same five networks, in percent of the exact number.
# What could make a counter miss more than half of a network?

# %%
figures.show(
    lesson.draw_tools(),
    "A table of percents for six counters and five networks. For resnet18 and mobilenet_v2 all lie between 100 and 109. "
    "For vit_b_16 and swin_t some report 60 to 70 percent; torchinfo reports 7 and 1 for the last three.",
)

# %% [markdown]
# Numbers above 100 come from tools that also count batch norm and activations. Most numbers below come from hooks: they see
# `nn.Conv2d` and `nn.Linear`, and not what a network calls as a *function*. Torch's own counter misses the products of
# attention when it runs on the CPU with real tensors (second row), since there they arrive as one fused operation. Some
# tools also leave hooks and buffers on your network.
#
# Torchinfo prints 0.173 billion MACs for vit_b_16. Which two mistakes together give this number?

# %%
with torch.device("meta"):
    vit = models.vit_b_16()
vit_table, modules = count(vit, SHAPE), dict(vit.named_modules())
seen = [row for row in vit_table.rows if isinstance(modules[row.module], (nn.Conv2d, nn.Linear))]
once = sum(row.weights if row.kind == "linear" else row.macs for row in seen)  # not once for each of 197 tokens
print(f"the whole network       {vit_table.macs / 1e9:6.3f} billion MACs")
print(f"in modules with hooks   {sum(row.macs for row in seen) / 1e9:6.3f}")
print(f"and linear layers once  {once / 1e9:6.3f}")
print(f"torchvision publishes   {models.ViT_B_16_Weights.IMAGENET1K_V1.meta['_ops']:6.3f}")

# %% [markdown]
# A counter that sees modules only, and counts a linear layer once instead of once for each token, prints 0.173.
# Torchvision's own number agrees with ours to three decimals. The tests of this course check that for every
# classification network of torchvision.

# %% [markdown]
# ## An unknown operation
#
# No counter knows every operation. An honest counter says so, and never takes an unknown cost for 0.

# %%
import warnings


class Fourier(nn.Module):
    """A network with a Fourier transform in the middle, as in FNet or global filter networks."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, x):
        return torch.fft.rfft2(self.conv(x)).real


with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    unknown = count(Fourier(), (1, 3, 32, 32))
print(caught[-1].category.__name__, "|", caught[-1].message)

# %% [markdown]
# ## Where the time goes
#
# How much intensity do the layers of MobileNet have? The least traffic is counted: read the input and the weights
# once, write the output once.

# %%
for kind in table.by_kind():
    intensity = [row.intensity for row in table.rows if row.kind == kind]
    print(f"{kind:11s} {min(intensity):5.2f} to {max(intensity):5.2f} FLOP per byte")

# %% [markdown]
# **Predict:** which share of the network's *time* goes into its depthwise layers, with 3 % of the MACs and 35 % of the
# bytes?

# %% [markdown]
# *Your prediction:* …

# %% tags=["exempt"]
threads = torch.get_num_threads()
torch.set_num_threads(1)
by_kind = lesson.time_by_kind(MobileNetV1().eval(), 224)  # every layer timed alone
torch.set_num_threads(threads)
for kind, seconds in by_kind.items():
    print(f"{kind:11s} {seconds / sum(by_kind.values()):.2f} of the time")
figures.show(
    lesson.draw_times(table, by_kind),
    "Shares of MACs, bytes and time by kind of layer: the depthwise share of the time lies far above that of the MACs.",
)

# %% [markdown]
# The times are those of the machine that built this page. The depthwise layers take several times more of the time than
# of the MACs. This is why later designs, such as ShuffleNet V2 and FasterNet, judge by time and memory traffic beside
# FLOPs. Remember that ShuffleNet V2 writes MAC for *memory access cost*.

# %% [markdown]
# ## Measured on scenes
#
# In the paper, separable convolutions cost one point of accuracy. Here are small MobileNets, trained on 5,000 of the
# course's rendered pictures, each from nothing, by one recipe. What would you expect of thin networks?

# %%
data = lesson.measured_mobilenets()
print("made by:", data["command"])
figures.show(
    lesson.draw_measured(data["rows"]),
    "Accuracy on held-out scenes against million MACs on a log axis. Separable networks climb from 76 percent at 0.8 "
    "million to 98 percent at 12 million; full ones go from 99 percent at 6 million to nearly 100 at 25 million.",
)

# %%
from xailab.metrics import interval

accuracy = {(row["architecture"], row["alpha"], row["resolution"]): row["accuracy"] for row in data["rows"]}
for size in (64, 48, 32):
    for architecture in ("full", "separable"):
        share = accuracy[architecture, 0.25, size]
        low, high = interval(np.arange(2000) < round(2000 * share))  # of 2,000 held-out scenes
        print(f"alpha 0.25, {size} pixels, {architecture:9s}: {share:.3f} (95 % interval {low:.3f} to {high:.3f})")

# %% [markdown]
# The saving is the formula's, but the price is not the paper's: 4 points at 64 pixels, and 23 at 32. These networks are
# thin, with 8 channels at the start, and each of their depthwise filters has 9 weights. The intervals say how far 2,000
# test pictures can be trusted. They say nothing about another training: each network was trained once.
#
# The grey band joins the networks that are best for their cost. Below 4 million MACs only separable networks are small
# enough. Above, the full network at 32 pixels is the better buy. Where to save, on kernels, channels or pixels, is a
# question for your own data.

# %% [markdown]
# ## On real data
#
# If the weights of another network are on your disk, this cell asks it for its answers.

# %%
from xailab import figures
from xailab.lessons import real
from xailab.models import zoo

if found := real.weights("vgg16", "resnet50", "resnet18", "squeezenet1_0"):
    other = zoo.load(found)
    batch = other.preprocess(real.photographs())
    answers = other(batch).argmax(1)
    figures.show(
        figures.strip(other.preprocess.undo(batch), [f"“{other.classes[c]}”" for c in answers]),
        "Photographs, and above each of them the class that the network names.",
    )
    print(found, "says:", ", ".join(other.classes[c] for c in answers))

# %% [markdown]
# ## Summary
#
# > **Key idea.** Alpha acts on MACs and weights, rho on the MACs only. Accuracy falls about linearly with the logarithm
# > of the MACs.
#
# > **Key idea.** Published counts differ by what is left out and by a factor of two. Count again before you compare.
#
# > **Key idea.** What saves MACs can cost accuracy and need not save time. Measure both on your own data and machine.
#
# **Reading, and why**
#
# - A. Howard et al., [MobileNets](https://arxiv.org/abs/1704.04861), 2017. All tables of this page.
# - TensorFlow, [MobileNet v1](https://github.com/tensorflow/models/blob/master/research/slim/nets/mobilenet_v1.md). The
#   table of sixteen networks that were trained again.
# - N. Ma et al., [ShuffleNet V2](https://arxiv.org/abs/1807.11164), 2018. Four rules for networks that are fast, and not
#   only cheap.
# - J. Chen et al., [FasterNet](https://arxiv.org/abs/2303.03667), 2023. Why depthwise layers reach few FLOPs a second.
#
# [← the lesson](../01_flops.ipynb) · Next: [02 · Class activation maps](../02_cam.ipynb)
