# %% [markdown]
# # 01 · What a convolution costs
#
# **About 60 minutes to read, 45 for the exercises · 1 GiB of memory · no GPU, no network needed**
#
# A network spends its day multiplying and adding. This lesson counts how often, and follows one paper, *MobileNets*
# ([Howard et al. 2017](https://arxiv.org/abs/1704.04861)), which made networks small enough for a phone by attacking
# exactly that number.
#
# **You will be able to**
# - write down the cost of any convolution, and say why a depthwise separable one is 8 to 9 times cheaper,
# - count a whole network, operation by operation, without running it,
# - choose among sixteen MobileNets with the two multipliers alpha and rho,
# - find the errors in a published table,
# - say when fewer operations do not make a network faster.
#
# **You need to know** what a convolution with stride and padding does, and how to read a PyTorch module.

# %%
import warnings

import torch
import torchvision
from torch import nn

from xailab import figures
from xailab.flops import UncountedOperation, conv_cost, count, separable_cost
from xailab.lessons import check
from xailab.lessons import flops as lesson
from xailab.models.mobilenet import MobileNetV1

_ = torch.manual_seed(0)

# %% [markdown]
# ## The idea
#
# A standard convolution does two jobs in one step: it *filters* each input channel, and it *combines* the filtered
# channels into new ones. With a kernel of $D_K \times D_K$, $M$ input channels, $N$ output channels and an output of
# $D_G \times D_G$ values it needs
#
# $$D_K \cdot D_K \cdot M \cdot N \cdot D_G \cdot D_G \qquad\text{(paper, eq. 2)}$$
#
# multiplications, each followed by an addition. Kernel size and output channels multiply each other. The paper breaks
# this link with two layers: a **depthwise** convolution filters every channel with a kernel of its own, and a
# **pointwise** ($1 \times 1$) convolution combines the results:
#
# $$\underbrace{D_K \cdot D_K \cdot M \cdot D_G \cdot D_G}_{\text{depthwise}} \;+\;
# \underbrace{M \cdot N \cdot D_G \cdot D_G}_{\text{pointwise}} \qquad\text{(eq. 5)}$$
#
# Divided by the standard cost, almost everything cancels:
#
# $$\frac{\text{separable}}{\text{standard}} = \frac{1}{N} + \frac{1}{D_K^2}$$
#
# Two conventions for the whole lesson. One multiplication with its addition is one **MAC** (multiply-accumulate; the
# paper says *mult-add*), and one MAC is **two FLOPs**: tools and papers mix these up, so this course never prints
# "operations" alone. And $D_G$ is the size of the **output**; the paper writes $D_F$ because its layers keep their
# size.

# %% [markdown]
# ## Predict before you run
#
# An input of $6 \times 6$ values with 5 channels becomes an output of $4 \times 4$ with 7 channels; the kernel is
# $3 \times 3$, stride 1, no padding. How many multiplications does the standard convolution need? How many the
# separable one? Write both numbers down before you go on.

# %% [markdown]
# ## From scratch: count every multiplication
#
# No formula here: six nested loops, and a counter that goes up whenever two numbers are multiplied.


# %%
def convolve(image, kernels, groups=1):
    """A convolution without padding in plain loops; returns the output and how often it multiplied."""
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


image = torch.randn(5, 6, 6)
_, standard = convolve(image, torch.randn(7, 5, 3, 3))
filtered, depthwise = convolve(image, torch.randn(5, 1, 3, 3), groups=5)
_, pointwise = convolve(filtered, torch.randn(7, 5, 1, 1))
print(f"standard   {standard:5,} multiplications")
print(f"separable  {depthwise + pointwise:5,} = {depthwise} depthwise + {pointwise} pointwise")
print(f"ratio      {(depthwise + pointwise) / standard:.5f} = 1/7 + 1/9 = {1 / 7 + 1 / 9:.5f}")

# %% [markdown]
# The loop needs 5,040 multiplications one way and 1,280 the other: a quarter. The picture shows why. Blue is what the
# filter (orange) reads for the one output value being made (red); light blue was made before. Where does the standard
# convolution do work that the other two avoid?

# %%
figures.show(
    lesson.draw_steps(),
    "Three panels of channel planes. Standard: a 3 by 3 window on all 5 input planes makes one of 7 x 16 outputs. "
    "Depthwise: a window on one plane makes one of 5 x 16. Pointwise: one value of all 5 planes makes one of 7 x 16.",
)

# %% [markdown]
# The standard layer reads a $3 \times 3$ window of *all* channels again for each of the 7 outputs. The pair reads
# windows once for each input channel, and then only single values for each output. Walk through it:

# %%
lesson.step_explorer()

# %% [markdown]
# ## The same through the library
#
# Do formula, counter and loop agree? `conv_cost` is the formula. `count` runs a network on torch's *meta* device,
# where tensors have a shape and no content, and writes down every operation that arrives: exact, without computing
# anything.

# %%
layer = nn.Conv2d(5, 7, 3)
pair = nn.Sequential(nn.Conv2d(5, 5, 3, groups=5), nn.Conv2d(5, 7, 1))

assert standard == conv_cost(5, 7, 3, 4).macs == count(layer, (1, 5, 6, 6)).macs == 5040
assert depthwise + pointwise == separable_cost(5, 7, 3, 4).macs == count(pair, (1, 5, 6, 6)).macs == 1280
wrong = conv_cost(5, 7, 3, 6), separable_cost(5, 7, 3, 6)
print(f"with the input's size in place of the output's: {wrong[0].macs:,} and {wrong[1].macs:,}")

# %% [markdown]
# Three ways, one number. The last line is the commonest mistake: with the input's 6 in place of the output's 4 both
# counts come out 2.25 times too large, while their ratio stays right and hides it.
#
# ## Why the gain is capped
#
# If more output channels make the separable layer look better and better, how much can be won in the end? Cover the
# dotted lines in your mind, and guess the gain for a $3 \times 3$ kernel and 1024 channels.

# %%
figures.show(
    lesson.draw_gain(),
    "Times fewer MACs against the number of output channels, for kernels of 3, 5 and 7: each curve rises and levels "
    "off just below its dotted line at 9, 25 and 49.",
)

# %% [markdown]
# The term $1/D_K^2$ does not shrink with $N$, so the gain stays below $D_K^2 = 9$ (8.92 at 1024 channels), and real
# layers get 8 to 9. Large kernels gain far more; small layers, such as our example with $N = 7$, gain far less.
#
# Now all of it at once. The static picture is a layer of MobileNet, $14 \times 14 \times 512$; below it is the
# explorer. Try a $1 \times 1$ kernel, a single output channel, and groups. When is the "cheap" pair the dearer one?

# %%
figures.show(
    lesson.draw_cost(),
    "The formula with its numbers for a 14 by 14 layer of 512 channels; bars of 462 million MACs against 52 million; "
    "the share that is left, on the curve 1/N + 1/9.",
)

# %%
lesson.cost_explorer()

# %% [markdown]
# The pair is dearer when $1/N + 1/D_K^2 > 1$: with a $1 \times 1$ kernel, or with a single output channel. Groups
# make the standard layer cheaper as well, so that it can come out below the pair.
#
# ## A whole network: MobileNet
#
# The network is one standard convolution, thirteen separable pairs, a global average pooling and a linear layer. Each
# convolution, depthwise ones too, is followed by batch norm and ReLU (the paper's Figure 3). After the first
# convolution, strided depthwise layers do all the shrinking.

# %%
network = MobileNetV1()
print(network.block1)

# %% [markdown]
# Which of the 28 layers cost most: the ones on large maps, or the ones with many channels? And where are the weights?

# %%
table = count(network, (1, 3, 224, 224))
table.table().without("groups", "outputs")

# %% [markdown]
# That is the paper's Table 1 with its costs. Every pointwise layer costs 25.7 or 51.4 million MACs: when the map
# halves in both directions the channels double, and the product stays. The weights, on the contrary, pile up at the
# end.
#
# Batch norm, ReLU and pooling are not counted: they do a few operations for each value, about a hundredth of the
# whole, and the paper's tables leave them out. Their parameters are counted, and `params` is what
# `sum(p.numel() for p in network.parameters())` says, while `weights` leaves out biases and normalisation, as the
# paper does.

# %%
print(f"{table.macs:,} MACs = {table.flops:,} FLOPs; {table.weights:,} weights; {table.params:,} parameters")
assert table.macs == 568_740_352
assert table.params == sum(p.numel() for p in network.parameters())
table.table(depth=1)

# %% [markdown]
# ### Table 2: where the cost is
#
# The paper prints the share of each kind of layer. One of its eight numbers cannot be right. Which one?

# %%
shares = lesson.shares(table)
lesson.beside(
    ("kind", "% of MACs", "published", "% of weights", "published"),
    *(
        (kind, round(shares[kind][0], 2), macs, round(shares[kind][1], 2), weights)
        for kind, (macs, weights) in lesson.TABLE_2.items()
    ),
)

# %% [markdown]
# Seven of eight agree to the last digit; the first convolution's share is 1.91 %, not 1.19 %: two digits changed
# places, and the printed column sums to 99.29. Remember the other thing the table says: 95 % of the work is in
# $1 \times 1$ convolutions, which are plain products of matrices. Keep an eye on the bytes in the next picture; they
# come back later.

# %%
figures.show(
    lesson.draw_shares(table),
    "Three bars. MACs: 95 percent pointwise. Weights: 75 percent pointwise, 24 percent linear. "
    "Bytes moved: 35 percent depthwise, 54 percent pointwise, 7 percent linear.",
)

# %% [markdown]
# ## Two knobs: alpha and rho
#
# A network for a smaller phone needs no new design. The **width multiplier** $\alpha$ makes every layer thinner,
# $M \to \alpha M$ and $N \to \alpha N$; the **resolution multiplier** $\rho$ makes the input, and with it every map,
# smaller:
#
# $$D_K \cdot D_K \cdot \alpha M \cdot \rho D_G \cdot \rho D_G + \alpha M \cdot \alpha N \cdot \rho D_G \cdot \rho D_G
# \qquad\text{(eq. 7)}$$
#
# The cost falls with about $\alpha^2$ and with $\rho^2$. Which of the two also shrinks the file on the phone? Table 3
# follows one layer of $14 \times 14 \times 512$ through the changes:

# %%
full, separable = conv_cost(512, 512, 3, 14), separable_cost(512, 512, 3, 14)
thin, small = separable_cost(384, 384, 3, 14), separable_cost(384, 384, 3, 10)  # 14 x 0.714 = 10
lesson.beside(
    ("Table 3", "M MACs", "published", "M weights", "published"),
    *(
        (name, cost.macs / 1e6, macs, cost.params / 1e6, params)
        for (name, macs, params), cost in zip(lesson.TABLE_3, (full, separable, thin, small), strict=True)
    ),
)

# %% [markdown]
# Alpha shrinks both columns, rho only the MACs: a convolution has the same weights on a map of any size.
#
# ### Tables 4 and 5: is it worth it, and is thin better than shallow?
#
# Accuracies are the paper's, on ImageNet; everything else is counted here. "Shallow" drops the five
# $14 \times 14 \times 512$ blocks. It costs about as much as $\alpha = 0.75$: which would you bet on?

# %%
twin, shallow = lesson.mobilenet(separable=False), lesson.mobilenet(shallow=True)
lesson.beside(
    ("Tables 4 and 5", "top-1 % (published)", "M MACs", "published", "M weights", "published"),
    ("standard convolutions", 71.7, twin.macs / 1e6, 4866, twin.weights / 1e6, 29.3),
    ("MobileNet", 70.6, table.macs / 1e6, 569, table.weights / 1e6, 4.2),
    ("thin, alpha 0.75", 68.4, lesson.mobilenet(0.75).macs / 1e6, 325, lesson.mobilenet(0.75).weights / 1e6, 2.6),
    ("shallow", 65.3, shallow.macs / 1e6, 307, shallow.weights / 1e6, 2.9),
)

# %% [markdown]
# For one point of accuracy you get a network with 8.6 times fewer MACs. And at equal cost the thin network wins by
# three points: depth is worth more than width here.
#
# ### Tables 6 and 7: the two multipliers alone

# %%
lesson.beside(
    ("Tables 6 and 7", "top-1 % (published)", "M MACs", "published", "M weights", "published"),
    *(
        (f"{alpha} MobileNet-{size}", top1, counted.macs / 1e6, macs, counted.weights / 1e6, weights)
        for alpha, size, top1, macs, weights in (*lesson.TABLE_6, *lesson.TABLE_7[1:])
        for counted in [lesson.mobilenet(alpha, size)]
    ),
)

# %% [markdown]
# All agree to a million MACs (the paper rounds 290.7 down and 568.7 up). Accuracy falls gently until alpha 0.25, then
# by 13 points. Crossing four widths with four resolutions gives sixteen networks. If you plot their accuracy against
# the *logarithm* of their cost, what will the curve look like?

# %%
figures.show(
    lesson.draw_tradeoff(),
    "Two panels. ImageNet accuracy of sixteen MobileNets against million MACs on a log axis: close to a straight line "
    "from 41 percent at 14 million to 71 percent at 569 million. Against weights: four vertical lines, one an alpha.",
)

# %% [markdown]
# Nearly a straight line (the paper's Figure 4): halving the MACs takes about three points at the top and four to six
# at the bottom, with a jump down to alpha 0.25. The right panel (its Figure 5) shows that resolution is free of
# weights. The paper names few of the sixteen accuracies, so the lines are TensorFlow's retrained networks: a series
# of their own, never mixed with the crosses. As for training, the paper used RMSprop with *less* regularisation and
# augmentation than for large networks, since small ones hardly overfit, and little or no weight decay on the
# depthwise filters, which hold so few weights.
#
# Turn both knobs. Which network would you take for a budget of 100 million MACs? (Framed: the best of those below
# it.)

# %%
figures.show(
    lesson.draw_dashboard(0.5, 160),
    "A 4 by 4 board of million MACs for alpha and input size, from 569 to 14, with alpha 0.5 at 160 pixels framed; "
    "beside it accuracy against MACs with the same network ringed at 77 million and 59.1 percent.",
)

# %%
lesson.dashboard()

# %% [markdown]
# ### Tables 8 and 9: against the others
#
# `count` takes any network. Torchvision's versions differ a little from the originals (its AlexNet is the later,
# one-tower one), but not by a factor of two. Where do the published numbers not fit?


# %%
def counted_beside(row, name, **options):
    """A row of the paper with the M MACs and M parameters of torchvision's network of this name."""
    with torch.device("meta"):
        counted = count(torchvision.models.get_model(name, weights=None, **options), (1, 3, 224, 224))
    title, top1, macs, params = row
    return title, top1, counted.macs / 1e6, macs, counted.params / 1e6, params


half = lesson.mobilenet(0.5, 160)
lesson.beside(
    ("Tables 8 and 9", "top-1 % (published)", "M MACs", "published", "M parameters", "published"),
    ("MobileNet 1.0-224", 70.6, table.macs / 1e6, 569, table.params / 1e6, 4.2),
    counted_beside(lesson.TABLE_8[1], "googlenet", aux_logits=False, init_weights=False),
    counted_beside(lesson.TABLE_8[2], "vgg16"),
    ("MobileNet 0.50-160", 60.2, half.macs / 1e6, 76, half.params / 1e6, 1.32),
    counted_beside(lesson.TABLE_9[1], "squeezenet1_0"),
    counted_beside(lesson.TABLE_9[2], "alexnet"),
)

# %% [markdown]
# MobileNet stands near VGG 16 with 27 times fewer MACs and 33 times fewer parameters, above GoogLeNet with 2.6 times
# fewer MACs, and at half width and 160 pixels it beats AlexNet with a ninth. SqueezeNet's 1700 is the odd one out:
# twice what we count. (The rest of the paper puts MobileNets to work: object detection, fine-grained classes, faces,
# geolocation.)
#
# ## Find the error
#
# Six places in the published record do not fit what we counted. Numbers 2 and 5 were named above. Before you run the
# next cell, try to say for each of them what was counted instead:
#
# 1. Table 1 prints stride 2 for the last depthwise layer.
# 2. Table 2 prints 1.19 % for the first convolution.
# 3. Table 4 prints 4866 million for the network of standard convolutions; we count 4867.3.
# 4. TensorFlow's table prints 317, 233, 162 and 104 million for alpha 0.75; we count 325, 239, 166 and 107.
# 5. Table 9 prints 1700 million for SqueezeNet.
# 6. Table 8 prints 15300 million for VGG 16.

# %%
with torch.device("meta"):
    strided = MobileNetV1()
    strided.block13.depthwise.stride = (2, 2)
    vgg, squeezenet = torchvision.models.vgg16(), torchvision.models.squeezenet1_0()
vgg, squeezenet = count(vgg, (1, 3, 224, 224)), count(squeezenet, (1, 3, 224, 224))
convolutions = sum(row.macs for row in vgg.rows if row.kind != "linear")

strided = count(strided, (1, 3, 224, 224))
column = sum(macs for macs, _ in lesson.TABLE_2.values())

print(f"1. With stride 2: {strided.macs / 1e6:.1f} M MACs, not 569; input and output of the layer are 7 x 7.")
print(f"2. The published column sums to {column:.2f} %; with 1.91 % it gives {column + 0.72:.2f}.")
print(f"3. Without the linear layer: {(twin.macs - twin.rows[-1].macs) / 1e6:.2f} M MACs, while 569 includes it.")
print("4. This one is yours: exercise 01.3.")
print(f"5. {squeezenet.macs / 1e6:.0f} M MACs = {squeezenet.flops / 1e6:,.0f} M FLOPs: the wrong unit, it seems.")
print(f"6. {vgg.macs / 1e6:,.0f} M MACs, {convolutions / 1e6:,.0f} M in convolutions: linear ones left out, it seems.")

# %% [markdown]
# The first two are misprints, the others questions of convention: what was counted, and in which unit. One number
# stays unexplained: TensorFlow's 34 million for alpha 0.25 at 192 pixels, where we count 30.2. None changes the
# paper's point. But a table of your own that mixes them would be wrong by up to a factor of two.
#
# ## Why tools disagree
#
# The next picture shows what six ways of counting said about the same five networks. (It draws recorded numbers; this
# cell does not run the tools.) What could make a counter miss more than half of a network?

# %%
figures.show(
    lesson.draw_tools(),
    "Percent of the exact MACs that six counters report for five networks. For resnet18 and mobilenet_v2 all lie between "
    "100 and 109. For the vision transformer and swin some report 60 to 70 percent, and torchinfo below 10 for the last "
    "three.",
)

# %% [markdown]
# A counter that hangs hooks on known modules sees `nn.Conv2d` and `nn.Linear`, and nothing that a network calls as a
# *function*: in a transformer the projections and products of attention. (Torch's own counter misses the products
# alone, 4 % of vit_b_16, when it runs on the CPU with real tensors: the second row of the legend.) Some tools add
# batch norm and activations (above 100 %), and some leave hooks and buffers on your network. `count` looks one level
# deeper, at each operation that torch itself is asked for. How much of a vision transformer is outside its modules?
# And what if a linear layer is counted once, not once for each of its 197 tokens?

# %%
with torch.device("meta"):
    vit = torchvision.models.vit_b_16()
vit_table = count(vit, (1, 3, 224, 224))
modules = dict(vit.named_modules())
seen = sum(row.macs for row in vit_table.rows if isinstance(modules[row.module], (nn.Conv2d, nn.Linear)))
print(f"the whole network {vit_table.macs / 1e9:6.3f} G MACs")
print(f"in such modules   {seen / 1e9:6.3f} G MACs, {100 * seen / vit_table.macs:.0f} %")
once = sum(
    row.weights if row.kind == "linear" else row.macs
    for row in vit_table.rows
    if isinstance(modules[row.module], (nn.Conv2d, nn.Linear))
)
print(f"linear ones once  {once / 1e9:6.3f} G MACs, {100 * once / vit_table.macs:.0f} %")
assert round(vit_table.macs / 1e9, 3) == torchvision.models.ViT_B_16_Weights.IMAGENET1K_V1.meta["_ops"]

# %% [markdown]
# A third of the work would be invisible (32 % projections, 4 % products), which is what thop shows; with linear
# layers counted once only 1 % is left, which is torchinfo's 0.173 to the digit. Torchvision's own number, which the
# `assert` compares, agrees with ours to three decimals; the tests of this course check that for every classification
# network that it has.
#
# ### Where counting fails, and how you would notice
#
# No counter knows every operation. The honest thing is to say so: an operation of unknown cost is never taken for 0.


# %%
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
assert caught[-1].category is UncountedOperation
assert unknown.unknown

# %% [markdown]
# ## MACs are not seconds
#
# The separable layer has 8 times fewer MACs. Is it 8 times faster? A processor must also *fetch* its numbers, and
# `count` knows the least traffic: read the input and the weights once, write the output once. MACs and bytes together
# give the **arithmetic intensity**, FLOP per byte:


# %%
def layers(m, n, kernel=3):
    """A standard convolution, and its depthwise and pointwise replacement."""
    return (
        nn.Conv2d(m, n, kernel, padding=kernel // 2, bias=False),
        nn.Conv2d(m, m, kernel, padding=kernel // 2, groups=m, bias=False),
        nn.Conv2d(m, n, 1, bias=False),
    )


for layer in layers(512, 512):
    row = count(layer, (1, 512, 14, 14)).rows[0]
    print(f"{row.kind:12s} {row.macs / 1e6:7.2f} M MACs  {row.bytes / 1e6:6.2f} MB  {row.intensity:6.2f} FLOP per byte")

# %% [markdown]
# The depthwise layer does 2.2 FLOPs for each byte, 40 times fewer than the standard one. Whether that hurts depends
# on your machine: it can compute so many FLOP/s and fetch so many bytes/s, and whichever runs out first is the limit.
# This is the **roofline** ([Williams et al. 2009](https://doi.org/10.1145/1498765.1498785)). The next cell measures
# yours, about 5 seconds on one thread. Guess first: which share of a MobileNet's *time* goes into its depthwise
# layers, with 3 % of the MACs and 35 % of the bytes?

# %% tags=["exempt"]
threads = torch.get_num_threads()
torch.set_num_threads(1)
machine, measured = lesson.peaks(), []
for m, n, size in ((32, 64, 112), (512, 512, 14)):
    times = []
    for name, layer in zip(("standard", "depthwise", "pointwise"), layers(m, n), strict=True):
        row = count(layer, (1, m, size, size)).rows[0]
        times.append(lesson.layer_time(layer, 1, m, size, size, seconds=0.3))
        measured.append((f"{name} {size}", row, times[-1]))
    fewer = conv_cost(m, n, 3, size).macs / separable_cost(m, n, 3, size).macs
    faster = times[0] / sum(times[1:])
    print(f"{m} -> {n} channels at {size} pixels: {fewer:.1f} times fewer MACs, {faster:.1f} times faster")
peak = max(machine.flops, *(row.flops / seconds for _, row, seconds in measured))
for name, row, seconds in measured:
    roof, speed = min(peak, machine.bytes * row.intensity), row.flops / seconds
    print(f"{name} pixels: {speed / peak:.0%} of the peak, {speed / roof:.0%} of its roof")
by_kind = lesson.time_by_kind(network.eval(), 224)
torch.set_num_threads(threads)
figures.show(
    lesson.draw_roofline(machine, measured, by_kind, table),
    "Measured speed of six layers under the roofline of this machine: standard and pointwise convolutions to the right "
    "and high, depthwise ones far to the left and far below. Below: shares of MACs, bytes and time by kind of layer.",
)

# %% [markdown]
# Your numbers will differ from ours; the order of the layers hardly will. Standard and pointwise layers reach a large
# share of the peak. Depthwise layers reach a small share of the peak, so that they take several times more of the time
# than of the MACs. Their roof is low, because they do 2.2 FLOPs for each byte. The second printed number says how much
# of this roof they reach. Where the number is well below 100 %, memory is not the only limit: the program that computes
# the layer is another. (A point may also lie above the slanted line: the line stands for main memory, and a small layer
# lives in the cache.) The gain in seconds is real, and smaller than the gain in MACs on the layer of 112 pixels. This
# is why later designs, such as ShuffleNet V2, judge by time and traffic beside FLOPs.
#
# ## What do you get for a MAC? Measured on `scenes`
#
# Published accuracies are one thing; here are small MobileNets trained on the course's own rendered pictures, each
# from nothing, by one recipe. In the paper, separable convolutions save a factor of 8.6 and cost one point of
# accuracy. What would you expect of thin networks, and of 5,000 small pictures?

# %%
data = lesson.measured_mobilenets()
rows = data["rows"]
print("made by:", data["command"])
figures.show(
    lesson.draw_measured(rows),
    "Accuracy on held-out scenes against million MACs on a log axis. Separable networks climb from 76 percent at 0.8 "
    "million to 98 percent at 12 million; full ones go from 99 percent at 6 million to nearly 100 at 25 million.",
)

# %% [markdown]
# The grey band joins the networks that are best for their cost. Each was trained once, so differences of one or two
# points mean nothing. What does the same network pay for its separable layers, at the same alpha and size?

# %%
for full in (row for row in rows if row["architecture"] == "full"):
    same = ("alpha", "resolution")
    pair = next(r for r in rows if r["architecture"] == "separable" and all(r[k] == full[k] for k in same))
    print(
        f"alpha {full['alpha']} at {full['resolution']} pixels: {full['macs'] / pair['macs']:.1f} times fewer MACs, "
        f"{100 * full['accuracy']:.2f} % -> {100 * pair['accuracy']:.2f} %"
    )

# %% [markdown]
# The saving is the formula's, the price is not the paper's: 4 points at 64 pixels, 23 at 32. These networks are thin
# (8 channels at the start), and each of their depthwise filters has 9 weights. Now the band: below 4 million MACs
# only separable networks are small enough, and 64 pixels through a thin one beat 32 pixels through one twice as wide,
# at about the same cost, by ten points. Above, the full network at 32 pixels is the better buy. Where to save, on
# kernels, channels or pixels, is a question for your own data. (This is one recipe, 40 epochs and nine networks:
# other training may rank them differently.)
#
# ## Exercises
#
# ### 01.1 · The cost of any convolution
# *Difficulty 1 of 5, about 8 minutes.* Write the MACs of a square convolution from its *input* size, with stride,
# padding and groups.
#
# <details><summary>Hint 1</summary>First the output size: (size + 2 · padding - kernel) // stride + 1.</details>
# <details><summary>Hint 2</summary>With g groups, each filter sees only M / g of the channels.</details>


# %% tags=["exercise"]
def macs(kernel, in_channels, out_channels, size, stride, padding, groups):
    """MACs of a square convolution, from the size of its input."""
    ...


check("01.1", macs)


# %% tags=["solution"]
def macs(kernel, in_channels, out_channels, size, stride, padding, groups):
    output = (size + 2 * padding - kernel) // stride + 1
    return kernel * kernel * (in_channels // groups) * out_channels * output * output


check("01.1", macs)

# %% [markdown]
# ### 01.2 · How many channels does a gain need?
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
# ### 01.3 · Find the error
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


check("01.3", as_counted)


# %% tags=["solution"]
def as_counted(table):
    return sum(row.macs for row in table.rows if row.module != "conv1.conv")


check("01.3", as_counted)

# %% [markdown]
# ### 01.4 · Make a layer separable
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


check("01.4", make_separable)


# %% tags=["solution"]
def make_separable(conv):
    channels = conv.in_channels
    return nn.Sequential(
        nn.Conv2d(channels, channels, conv.kernel_size, conv.stride, conv.padding, groups=channels, bias=False),
        nn.Conv2d(channels, conv.out_channels, 1),
    )


check("01.4", make_separable)

# %% [markdown]
# ## On real data
#
# What does a MAC buy on ImageNet? The counts are ours, and take no weights. The accuracies are published, by
# torchvision, which publishes counts as well. Networks whose weights you have brought are filled, and say what they
# see in the photograph of a cat. **Predict:** is the dearest of them the best?

# %%
import torch
from torchvision import models

from xailab import figures
from xailab.flops import count
from xailab.lessons import real
from xailab.models import zoo

NETWORKS = ("efficientnet_b5", "wide_resnet50_2", "vgg16", "resnet50", "resnet18", "squeezenet1_0")
if real.weights(*NETWORKS):
    figure, axes = figures.new(width=7.6, height=4.2)
    for name in NETWORKS:
        published = models.get_model_weights(name)["IMAGENET1K_V1"]
        side = published.transforms().crop_size[0]
        with torch.device("meta"):  # its shapes alone
            macs = count(models.get_model(name, weights=None), (1, 3, side, side)).macs / 1e9
        accuracy = published.meta["_metrics"]["ImageNet-1K"]["acc@1"]
        said = "not here"
        if zoo.weights_file(name):
            network = zoo.load(name)
            with torch.no_grad():
                p, c = network(network.preprocess(real.photographs()[0])).softmax(1)[0].max(0)
            said = f"{network.classes[c]}, {p:.2f}"
        axes.scatter(
            macs, accuracy, 60, edgecolors=figures.BLUE, facecolors="none" if said == "not here" else figures.BLUE
        )
        axes.annotate(name, (macs, accuracy), (6, -4), textcoords="offset points", fontsize=11)
        print(
            f"{name:16s} at {side} px: {macs:6.2f} billion MACs (torchvision: {published.meta['_ops']:6.2f}); the cat: {said}"
        )
    axes.set(xscale="log", xlim=(0.6, 40), ylim=(55, 87), xlabel="billion MACs for a picture (counted here)")
    axes.set_xticks([1, 2, 5, 10, 20], labels=[1, 2, 5, 10, 20])
    axes.minorticks_off()
    axes.set(title="Accuracy on ImageNet against cost", ylabel="top-1 accuracy in % (published)")
    figures.show(
        figure,
        "Published top-1 accuracy of six networks against billions of MACs on a log axis; VGG16 costs most and is not best.",
    )

# %% [markdown]
# It is VGG16, and it is not. Cost buys accuracy within a family; between families, design does. (VGG16's channels are
# wide where its maps are large; EfficientNet's shape was searched for with this very picture in mind.)

# %% [markdown]
# ## Summary
#
# - A standard convolution costs $D_K^2 M N D_G^2$ MACs, a separable one $1/N + 1/D_K^2$ of that: never less than a
#   $D_K^2$-th. One MAC is two FLOPs; say which you mean.
# - Alpha acts on MACs and weights with about its square; rho acts on the MACs only.
# - Accuracy falls about linearly with the logarithm of the MACs.
# - Published counts differ by what is left out and by a factor of two. Count again before you compare.
# - Eight times fewer MACs are not eight times fewer seconds: depthwise layers do little with each byte they fetch, and
#   often reach only a part of what the memory would allow.
#
# The module of this lesson is `xailab/flops/`, its tests are in `tests/test_flops.py`.
#
# ## References
#
# - A. Howard et al., *MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications*,
#   [arXiv 1704.04861](https://arxiv.org/abs/1704.04861), 2017
# - TensorFlow, *MobileNet V1* in `models/research/slim`: the table of sixteen retrained networks
# - S. Williams, A. Waterman, D. Patterson, *Roofline*, [CACM 52(4)](https://doi.org/10.1145/1498765.1498785), 2009
# - N. Ma et al., *ShuffleNet V2*, [arXiv 1807.11164](https://arxiv.org/abs/1807.11164), 2018
# - J. Chen et al., *Run, Don't Walk: Chasing Higher FLOPS for Faster Neural Networks* (FasterNet),
#   [arXiv 2303.03667](https://arxiv.org/abs/2303.03667), 2023
#
# Next: **[02 · Class activation maps](02_cam.ipynb)**, where the evidence is.
