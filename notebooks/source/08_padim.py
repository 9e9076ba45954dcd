# %% [markdown]
# # 08 · PaDiM
#
# **About {reading} minutes to read, {exercises} for the exercises · 2 GiB of memory · no GPU, no network needed**
#
# A camera looks at a conveyor belt. Thousands of good parts pass, and a bad one comes rarely, with a defect that
# nobody has seen before. How do you find the part and its defect from pictures of good parts alone? PaDiM uses a
# network that was trained for something else, a mean and a covariance. Nothing is trained.
#
# **Afterwards you can**
# - write PaDiM for all places of a picture in fifteen lines of PyTorch,
# - set a threshold from normal pictures alone, and name the assumption of its promise,
# - choose layers, channels and a network without a single defect,
# - read AUROC and PRO with their intervals,
# - say what SPADE and PatchCore do differently, and when PaDiM is the wrong tool.
#
# **You need** mean, variance and matrix products. The earlier lessons are not required.
#
# **Contents:** [Idea](#The-idea) · [By hand](#By-hand) · [In plain
# PyTorch](#In-plain-PyTorch-for-all-places-at-once) · [Threshold](#A-threshold-from-normal-pictures-alone) · [Conveyor
# belt](#The-promise-on-a-conveyor-belt) · [Which network?](#What-must-the-network-have-been-trained-for?) ·
# [PRO](#AUROC-and-PRO) · [Choosing](#Choosing-without-defects) · [Where it fails](#Where-it-fails:-turned-products) ·
# [Other methods](#The-other-methods) · [Explorer](#Explorer) · [Exercises](#Exercises) · [Self-test](#Self-test) ·
# [Real data](#On-real-data) · [Summary](#Summary)
#
# [← 07 · ProtoPNet](07_protopnet.ipynb) · [09 · Patch SVDD →](09_patch_svdd.ipynb) · [what goes beyond: 08
# deeper](deeper/08_padim.ipynb)

# %% [markdown]
# ## The idea
#
# A classifier is trained with examples of each class. Inspection has no such examples: defects are rare, and the next
# one is of a new kind. Normal pictures are plenty. So the question becomes: **is this still normal?** This is
# *one-class learning*.
#
# PaDiM ([Defard, Setkov, Loesch and Audigier 2020](https://arxiv.org/abs/2011.08785)) describes what is normal place by
# place. At the place $(i, j)$ the layers of a network give a vector $x_{ij}$. $N$ normal pictures give each place a
# mean and a covariance (equation 1, with $\epsilon = 0.01$):
#
# $$\mu_{ij} = \frac1N \sum_{k=1}^N x_{ij}^k, \qquad
# \Sigma_{ij} = \frac{1}{N-1} \sum_{k=1}^N (x_{ij}^k - \mu_{ij})(x_{ij}^k - \mu_{ij})^\top + \epsilon I$$
#
# A new picture is as anomalous at a place as its vector is far from the mean (equation 2):
#
# $$M(x_{ij}) = \sqrt{(x_{ij} - \mu_{ij})^\top \, \Sigma_{ij}^{-1} \, (x_{ij} - \mu_{ij})}$$
#
# This *Mahalanobis distance* counts in units of what is usual, in each direction. In directions that
# the $N$ pictures do not span, the unit is only $\sqrt{\epsilon}$, so distances can be large.
#
# **Predict before you run.** One vector has the Euclidean distance 4.5 from the mean, another one 2.8. Which of the
# two is more anomalous?

# %% [markdown]
# *Your prediction (double-click here and write):* …

# %% [markdown]
# ## By hand
#
# Five normal pictures, one place, two channels. The inverse of a matrix with the rows $(a, b)$ and $(b, c)$ has the
# rows $(c, -b)$ and $(-b, a)$, divided by $ac - b^2$.

# %%
import numpy as np
import torch
import torch.nn.functional as F

normal = np.array([[7.0, 5], [7, 3], [3, 3], [3, 1], [5, 3]])
mean = normal.sum(0) / 5
covariance = (normal - mean).T @ (normal - mean) / (5 - 1)
print("mean", mean, " covariance", covariance.tolist())

inverse = np.array([[2.0, -2], [-2, 4]]) / (4 * 2 - 2 * 2)
points = {"A": np.array([9.0, 5]), "B": np.array([7.0, 1])}
for name, x in points.items():
    d = x - mean
    print(f"{name}: x - mean = {d}, Euclidean {np.sqrt(d @ d):.2f}, Mahalanobis {np.sqrt(d @ inverse @ d):.2f}")

# %%
from xailab import figures
from xailab.lessons import padim as lesson

figures.show(
    lesson.draw_ellipses(normal, covariance, points),
    "Five normal points along a rising direction. Circles around the mean hold B and not A; ellipses along the line hold A and not B.",
)

# %% [markdown]
# B is nearer to the mean and more anomalous. Where channel 1 is above its mean, channel 2 was never below its mean in
# the normal pictures, and B breaks this rule. A is far away, but in a direction in which normal pictures differ as
# well. No channel alone can tell; the *correlation* tells.
#
# **Without an inverse.** Let $\Sigma = L L^\top$ with a lower triangular $L$, the *Cholesky factor*. Solve
# $L y = x - \mu$ line by line from the top. Then $M(x) = \lVert y \rVert$. This is less work than an inverse, and
# rounding harms it less.

# %%
factor = np.linalg.cholesky(covariance)  # rows (2, 0) and (1, 1)
for name, x in points.items():
    y = np.linalg.solve(factor, x - mean)  # 2 y1 = d1, then y1 + y2 = d2
    print(f"{name}: y = ({y[0]:.0f}, {y[1]:.0f}), |y| = {np.hypot(*y):.2f}")

# %% [markdown]
# ## In plain PyTorch, for all places at once
#
# The course renders seven products, so that each defect is known to the pixel. We take 40 normal biscuits for the
# Gaussians, hold out 20 for a threshold, and test on 24. EfficientNet-Lite0 was trained on the photographs of ImageNet.
# Three of its blocks see the biscuit in cells of 4, 8 and 16 pixels; `F.interpolate` repeats the vector of a coarse
# cell in each fine cell below it. As in the paper, 100 channels are drawn at random, here from 24 + 40 + 112.

# %%
from dataclasses import replace

from xailab.models import zoo

network, LAYERS = zoo.load("efficientnet_lite0"), ["block3", "block5", "block11"]
preprocess = replace(network.preprocess, resize=192, crop=None)  # the whole picture, 192 pixels a side
normal_ones, held_out, tested = lesson.samples("biscuit")
few = torch.randperm(176, generator=torch.Generator().manual_seed(0))[:100].sort().values


def batch_of(samples):
    return preprocess([sample.image for sample in samples])


@torch.no_grad()
def vectors_of(samples):
    kept = []
    layers = [network.get_submodule(name) for name in LAYERS]
    hooks = [layer.register_forward_hook(lambda module, inputs, output: kept.append(output)) for layer in layers]
    network(batch_of(samples))
    for hook in hooks:
        hook.remove()
    stacked = torch.cat([F.interpolate(x, kept[0].shape[2:]) for x in kept], 1)  # "nearest": cells are repeated
    return stacked[:, few].permute(2, 3, 0, 1)  # (rows, columns, pictures, channels)


# %% [markdown]
# This is the detector, for all places at once:


# %%
def fit(x, epsilon=0.01):  # equation 1
    mean = x.mean(2, keepdim=True)
    centred = x - mean
    covariance = torch.einsum("hwnc,hwnd->hwcd", centred, centred) / (x.shape[2] - 1)
    return mean, torch.linalg.cholesky(covariance + epsilon * torch.eye(x.shape[3]))


def distances(x, mean, factor):  # equation 2: the length of y, where L y = x - mean
    y = torch.linalg.solve_triangular(factor, (x - mean).mT, upper=False)
    return y.norm(dim=2).permute(2, 0, 1)  # (pictures, rows, columns)


x = torch.cat([vectors_of(normal_ones[i : i + 10]) for i in range(0, 40, 10)], 2)
mean, factor = fit(x)
cracked = next(sample for sample in tested if sample.defect == "crack")
new = vectors_of([cracked])
by_hand = distances(new, mean, factor)
print("vectors", tuple(x.shape), " distances", tuple(by_hand.shape))

# %%
pictures = [preprocess.frame(sample.image) for sample in [*normal_ones[:3], cracked]]
figures.show(
    lesson.draw_idea(pictures, few, x, new, by_hand[0]),
    "From biscuits through three layers to one vector for each place, the cloud of the normal vectors, and a map of distances.",
)

# %% [markdown]
# The frame marks one place. There the 40 normal vectors form the blue cloud, and the vector of the crack is the
# triangle far outside.
#
# ## The library
#
# `PaDiM` draws the same 100 channels, computes what coarse cells share only once, and adds pictures up as they come.

# %%
from xailab.padim import PaDiM

detector = PaDiM(network, LAYERS, dimensions=100).fit(batch_of(normal_ones).split(10), progress=False)
found = detector.distances(batch_of([cracked]))
assert torch.allclose(found, by_hand, rtol=1e-3)
print(f"largest distance by hand {by_hand.max():.1f}, by the library {found.max():.1f}")

# %% [markdown]
# The distances are enlarged to the size of the picture, and smoothed with a Gaussian of $\sigma = 4$ pixels. The paper
# enlarges with *bicubic* interpolation; the library, like most code for PaDiM, is bilinear. (The paper also crops 224 of
# 256 pixels; we keep the whole picture.) The maximum of the map is the *score* of the picture.

# %%
from scipy.ndimage import gaussian_filter

large = F.interpolate(found[None], (192, 192), mode="bilinear")[0, 0]
heat = detector.anomaly_maps(batch_of([cracked]))[0]
assert np.allclose(gaussian_filter(large.numpy(), sigma=4), heat.numpy(), atol=1e-3)
print(f"enlarged {large.max():.1f}, smoothed: the score {heat.max():.1f}")

# %% [markdown]
# ## A threshold, from normal pictures alone
#
# There are no defects to try, but 20 normal biscuits that the detector has not seen. If nothing has changed, the
# score of the next normal biscuit takes each of the 21 places among theirs equally often. So it lies above the largest of the 20 with a probability of 1/21, less than 5 %. This is *conformal
# prediction*, and `calibrate` does it.
#
# **Predict:** could we save the 20 pictures, and use the scores of the 40 pictures of the fit?

# %% [markdown]
# *Your prediction:* …

# %%
detector.calibrate(batch_of(held_out).split(4), false_alarm_rate=0.05, progress=False)
good, defective = ([s for s in tested if (s.defect == "good") == wanted] for wanted in (True, False))
groups = {"used for the fit": normal_ones, "held out": held_out, "test, good": good, "test, defective": defective}
scores = {name: lesson.scores_of(detector, batch_of(samples)) for name, samples in groups.items()}
figures.show(
    lesson.draw_scores(scores, detector.threshold),
    "Scores in four groups: those used for the fit all near 6, held-out and good ones far higher, defective ones the highest.",
)
for name, each in scores.items():
    print(
        f"{name:17s} {each.min():5.1f} to {each.max():5.1f}, above the threshold {np.mean(each > detector.threshold):.2f}"
    )
print(f"threshold {detector.threshold:.1f}; bound (N - 1) / sqrt(N) = {39 / np.sqrt(40):.2f}")

# %% [markdown]
# No. The pictures of the fit all score close to 6, whatever they show. Each is part of its own mean and covariance.
# With more channels than pictures, this drives every distance to the bound $(N - 1) / \sqrt N$, which exercise 08.2
# proves. A threshold of 6 would call every new biscuit anomalous.

# %% [markdown]
# ## The promise on a conveyor belt
#
# The promise "at most 5 % false alarms" holds whatever the distribution of the scores. It needs one assumption: the
# held-out pictures and the next picture are **exchangeable**, which means that shuffling them changes nothing. A
# conveyor belt breaks exactly this: a lamp ages, the camera is pushed, a supplier changes. We let the light of
# good *test* pictures become warmer, up to 10 % more red and 10 % less blue.
#
# **Predict:** at 10 %, which share of the good biscuits is called anomalous, and which share of the good circuit boards?

# %% [markdown]
# *Your prediction:* …

# %%
from xailab.datasets import inspection
from xailab.metrics import auroc, auroc_interval, interval

boards, changes, alarms = lesson.samples("circuit"), [0, 0.05, 0.1], {}
board_detector = PaDiM(network, LAYERS, dimensions=100).fit(batch_of(boards[0]).split(4), progress=False)
board_detector.calibrate(batch_of(boards[1]).split(4), false_alarm_rate=0.05, progress=False)
for product, fitted in {"biscuit": detector, "circuit": board_detector}.items():
    good_ones = [inspection.sample(product, i, split="test", defect="good").image for i in range(24)]
    in_light = [preprocess([lesson.warmer(image, share) for image in good_ones]) for share in changes]
    alarms[product] = [lesson.scores_of(fitted, batch) > fitted.threshold for batch in in_light]
    low, high = interval(alarms[product][-1])
    print(
        f"{product}, 10 % warmer: false alarms {alarms[product][-1].mean():.2f} (95 % interval {low:.2f} to {high:.2f})"
    )
figures.show(
    lesson.draw_drift(alarms, changes, 0.05),
    "False alarms against the change of the light: zero for the biscuit, and rising to one for the circuit.",
)

# %% [markdown]
# No good biscuit is an alarm; every good circuit board is. So hold out *recent* normal pictures,
# watch the scores of the parts that pass, and calibrate again when they move; the [deeper
# notebook](deeper/08_padim.ipynb) measures what this repairs. Two more limits: the promise is an average over all
# possible sets of 20, and 1 % false alarms need at least 99 held-out pictures.

# %% [markdown]
# ## What must the network have been trained for?
#
# EfficientNet-Lite0 knows photographs, and our products are rendered. The small ResNet of the course knows drawings: it
# was trained to tell rendered cats, cars and umbrellas apart. As a control that could win, there is the same small
# ResNet with random weights. No setting changes from product to product.
#
# **Predict:** order the three networks. By how much does training help at all?

# %% [markdown]
# *Your prediction:* …

# %%
from xailab.metrics import aupro, conformal_threshold

RESNET = ["layer1", "layer2", "layer3"]  # 16 + 32 + 64 = 112 channels, all kept
backbones = {"random weights": (zoo.load("scenes_resnet", weights=None), RESNET, None)}
backbones |= {"drawings": (zoo.load("scenes_resnet"), RESNET, None), "photographs": (network, LAYERS, 100)}
table = {}
for name, (net, layers, d) in backbones.items():
    recorded, maps, limits = {}, {}, {}  # what remains after the loop is of the last network
    for product in inspection.CATEGORIES:
        r = recorded[product] = lesson.record(net, layers, product)  # runs the network once
        normal_maps, maps[product], pasted_maps = r.maps(layers, d)
        limits[product] = conformal_threshold(normal_maps.amax((1, 2)), 0.05)
        scores, bad = maps[product].amax((1, 2)).numpy(), r.masks.any((1, 2))
        table[name, product] = lesson.Judged(
            auroc(bad, scores), auroc_interval(bad, scores), auroc(r.masks, maps[product]), aupro(r.masks, maps[product]),
            scores[~bad] > limits[product], scores[bad] > limits[product], aupro(r.pasted, pasted_maps),
        )  # fmt: skip
lesson.print_products(table)

# %%
lesson.print_gains(table, "random weights", "drawings")
lesson.print_gains(table, "drawings", "photographs")

# %%
figures.show(
    lesson.draw_gallery([lesson.median_defect(p, recorded[p], maps[p], limits[p]) for p in recorded]),
    "Seven products: a normal picture, a defective one with its outline, its map, and what lies above the threshold.",
)

# %% [markdown]
# Each column shows the defect with the *median* score, not the best. What lies above the threshold is the core of the
# defect or its halo, never its outline.
#
# Random weights already find many defects. Training on drawings adds a clear
# gain, whose intervals exclude zero. From drawings to photographs all three means rise, but each interval contains
# zero: this gain is not certain. Ten real hazelnuts (`docs/real_data.md`) are ambiguous, too: PRO 0.973 with the network of photographs and 0.818 with that of drawings, but image AUROC 0.875 and 1.000.
# The network need not know the product.  **Measure it on yours.**
#
# With 8 good and 16 defective pictures, the interval of a perfect AUROC begins at 0.81.

# %% [markdown]
# ## AUROC and PRO
#
# **AUROC**: of all pairs of a defective and a normal picture, the share in which the defective one scores higher. With
# pixels in place of pictures it is the pixel AUROC, in which a large defect counts more than ten small ones. **PRO**,
# the *per-region overlap* ([Bergmann et al. 2020](https://arxiv.org/abs/1911.02357)), takes the share of each region that
# is found at a threshold, and averages over regions. The area below this curve is taken up to 30 % false alarms, and
# divided by 0.3.
#
# **Predict:** a picture of 100 pixels has two defects, of 9 pixels and of 1. A detector finds the large one, and does
# not react to the small one at all. What do pixel AUROC and PRO say?

# %% [markdown]
# *Your prediction:* …

# %%
two = np.zeros((1, 10, 10), bool)
two[0, 1:4, 1:4] = two[0, 7, 7] = True
only_large = np.zeros((1, 10, 10))
only_large[0, 1:4, 1:4] = 1
print(f"pixel AUROC {auroc(two, only_large):.3f}, PRO {aupro(two, only_large):.3f}")

# %% [markdown]
# Pixel AUROC sounds like a success. PRO is far lower, because one of two defects is missed. (It is above 0.5, since a
# threshold so low that *everything* is an alarm finds the small defect too, and the straight line to this point
# counts.) The [deeper notebook](deeper/08_padim.ipynb) shows both curves on gears, how PRO depends on its limit, and why
# a score that is stretched over a test set belongs to no picture.

# %% [markdown]
# ## Choosing without defects
#
# Which layers, how many channels $d$, which network? Two ways need normal pictures only:
#
# 1. **Held-out scores.** The highest one sets the threshold. If it is far above the median, a defect must be very
#    anomalous to be found. A small ratio looks good.
# 2. **Synthetic defects.** Cut a piece out of a held-out picture and paste it elsewhere (*CutPaste*,
#    [Li et al. 2021](https://arxiv.org/abs/2104.04015)). Now the truth is known, and PRO can be measured.
#
# We judge both by the real defects. **Predict:** which of them orders the settings as the real defects do?

# %% [markdown]
# *Your prediction:* …

# %%
settings = {"block3": (LAYERS[:1], None), "block5": (LAYERS[1:2], None), "block11": (LAYERS[2:], None)}
settings |= {"all, d = 176": (LAYERS, None), "all, d = 100": (LAYERS, 100)}
settings |= {"all, d = 20": (LAYERS, 20), "all, d = 10": (LAYERS, 10)}
judged = {name: [] for name in settings}
for name, (layers, d) in settings.items():
    for r in recorded.values():
        normal_maps, test_maps, pasted_maps = r.maps(layers, d)
        scores = normal_maps.amax((1, 2))
        judged[name].append([scores.max() / scores.median(), aupro(r.pasted, pasted_maps), aupro(r.masks, test_maps)])
means = {name: np.mean(each, 0) for name, each in judged.items()}
figures.show(
    lesson.draw_choice(means),
    "Real PRO of settings: without order against the held-out ratio, rising against PRO on synthetic defects.",
)

# %%
lesson.print_choice(judged, table)

# %% [markdown]
# PRO on synthetic defects rises with the real PRO, chooses a setting that is almost the best, and orders the three
# networks rightly. The ratio of held-out scores measures false alarms only: its favourite misses details. But this
# holds on *average over products*. For the gravel alone, synthetic defects choose a setting that loses 0.14 of PRO,
# because gravel pasted on gravel is gravel. A synthetic defect has to look wrong on your product: look at a few.

# %% [markdown]
# ## Where it fails: turned products
#
# One Gaussian for each place assumes that the same part of the product lies at the same place. For its Rd-MVTec AD the
# paper turns all pictures by up to 10 degrees and crops them at random, for the fit and for the test. We do the same.
# **Predict:** which suffers less, the circuit board or the fabric?

# %% [markdown]
# *Your prediction:* …

# %%
pairs = []
for product in ("circuit", "fabric"):
    r, turned = recorded[product], lesson.record(network, LAYERS, product, turned=True)
    normal_maps, turned_maps = turned.maps(LAYERS, 100)
    print(f"{product}, aligned: {lesson.described(r.masks, maps[product])}")
    print(f"{product}, turned:  {lesson.described(turned.masks, turned_maps)}")
    i = int(np.flatnonzero(r.masks.any((1, 2)))[5])
    heats = maps[product][i] / limits[product], turned_maps[i] / normal_maps.max()
    pairs.append((i, (r, turned), heats))
figures.show(
    lesson.draw_pairs(pairs),
    "Two defects, each aligned and turned. On the turned board the defect hardly stands out; on the fabric it stands out both times, less when turned.",
)

# %% [markdown]
# The fabric looks the same everywhere, so there is nothing to align. On the turned board, one place has seen chip,
# copper and background, and all of them have become normal there. Align your pictures first.
#
# The paper calls PaDiM robust to this, and means a comparison: on Rd-MVTec AD the pixel AUROC of PaDiM
# (Wide-ResNet50-2) falls by 5.3 points, from 0.975 to 0.922, that of SPADE by 8.8 and that of the VAE by 12.2. But its
# PRO falls from 0.921 to 0.731. Losing least is not the same as being robust.

# %% [markdown]
# ## The other methods
#
# - **SPADE** ([Cohen and Hoshen 2020](https://arxiv.org/abs/2005.02357)) keeps the vectors of all normal pictures, and
#   asks how far the nearest ones are. PaDiM avoids this search: 0.95 seconds a picture against 7.10.
# - **PatchCore** ([Roth et al. 2022](https://arxiv.org/abs/2106.08265)) searches at *any* place, in a small, well chosen
#   subset of the vectors, a *coreset*. It needs no alignment. Its image AUROC is 0.990, that of PaDiM 0.953: the method
#   to compare with today.
# - A **VAE** is trained to reconstruct normal pictures; its error is the map. It fails where it reconstructs defects.
#
# These figures are published ones. The [deeper notebook](deeper/08_padim.ipynb) has the whole table with its sources,
# and PatchCore on our data.

# %% [markdown]
# ## Explorer
#
# What does `block11` see on its own? What does a large $\sigma$ do?

# %%
lesson.inspection_explorer({product: recorded[product] for product in ("circuit", "fabric", "gear")})

# %% [markdown]
# ## Exercises
#
# Write into the cell, run it, and read what `check` says. Solve 08.1 and 08.2, and then choose.

# %% [markdown]
# ### 08.1 The vector at each place
# *Difficulty 1 of 5, about 8 minutes.* `layers` is a list of tensors (n, channels, rows, columns), the finest first; the
# coarser grids are whole fractions of it. Return all channels at each cell of the finest grid, (n, all channels, rows,
# columns), in the order of the list. Do not use `F.interpolate`: that line you have seen. `repeat_interleave` or an
# index does it as well.
#
# <details><summary>Hint</summary>
#
# `x.repeat_interleave(2, dim=2)` repeats each row twice, next to itself. `x.repeat(1, 1, 2, 2)` would lay tiles.
# </details>

# %% tags=["exercise"]
from xailab.lessons import check


def my_embedding(layers):
    return ...


check("08.1", my_embedding)

# %% tags=["solution"]
from xailab.lessons import check


def my_embedding(layers):
    rows, columns = layers[0].shape[2:]
    repeated = [x.repeat_interleave(rows // x.shape[2], 2).repeat_interleave(columns // x.shape[3], 3) for x in layers]
    return torch.cat(repeated, 1)


check("08.1", my_embedding)

# %% [markdown]
# ### 08.2 Prove the bound
# *Difficulty 3 of 5, about 20 minutes.* A picture of the fit can never be far from its own Gaussian. Let the rows of
# $A$ be the $N$ centred vectors, and $\epsilon = 0$, with the pseudo-inverse in place of the inverse. Then
# $M(x_k)^2 = (N - 1)\, h_{kk}$, where $h_{kk}$ is the $k$-th entry on the diagonal of $H = A (A^\top A)^+ A^\top$. $H$
# is a projection, and it sends the vector of ones to zero, because the columns of $A$ sum to zero.
#
# First finish the proof on paper: why is $h_{kk} \le 1 - 1/N$, and what follows for $M$? Then write the function that
# checks it: from `normal` (n, d) return the n distances of these vectors to their own Gaussian ($\epsilon = 0$),
# **without** a matrix of d × d. Here d can be 10 000.
#
# <details><summary>Hint 1, for the proof</summary>
#
# $H + \frac1N \mathbf 1 \mathbf 1^\top$ is a projection as well. What are the largest entries that the diagonal of a
# projection can have?
# </details>
# <details><summary>Hint 2, the proof</summary>
#
# The diagonal of a projection is at most 1, since $p_{kk} = \sum_j p_{kj}^2 \ge p_{kk}^2$. So $h_{kk} + 1/N \le 1$, and
# $M(x_k)^2 \le (N - 1)(1 - 1/N) = (N - 1)^2 / N$.
# </details>
# <details><summary>Hint 3, for the function</summary>
#
# `U, S, V = torch.linalg.svd(A, full_matrices=False)`: the columns of U whose singular value is not zero span what $H$
# projects on, so that $h_{kk}$ is the sum of their squares in row k. One singular value is always zero up to rounding.
# </details>


# %% tags=["exercise"]
def my_distances(normal):
    return ...


check("08.2", my_distances)


# %% tags=["solution"]
def my_distances(normal):
    centred = normal - normal.mean(0)
    U, S, _ = torch.linalg.svd(centred, full_matrices=False)
    U = U[:, 1e-5 * S[0] < S]
    return ((len(normal) - 1) * U.square().sum(1)).sqrt()


check("08.2", my_distances)

# %% [markdown]
# ### 08.3 A threshold without defects
# *Difficulty 3 of 5, about 12 minutes.* `scores` are those of n normal pictures that the detector has not seen. Return
# the threshold that the next normal picture exceeds with a probability of at most `share`: the k-th largest score, with
# the largest k for which k / (n + 1) is no more than `share`.
#
# <details><summary>Hint</summary>
#
# `k = int(share * (n + 1) + 1e-9)`: without the small number, 0.29 · 100 ends up below 29, for 0.29 is no binary
# fraction. The k-th largest is `np.sort(scores)[-k]`.
# </details>


# %% tags=["exercise"]
def my_threshold(scores, share):
    return ...


check("08.3", my_threshold)


# %% tags=["solution"]
def my_threshold(scores, share):
    k = int(share * (len(scores) + 1) + 1e-9)
    return np.sort(scores)[-k]


check("08.3", my_threshold)

# %% [markdown]
# ### 08.4 The per-region overlap
# *Difficulty 3 of 5, about 12 minutes.* `masks` and `maps` are arrays (n, h, w). Return the height of the PRO curve at
# one threshold: for each region (8-connected, picture by picture), the share of its pixels with a value of at least
# `threshold`; of these, the mean over all regions.
#
# <details><summary>Hint</summary>
#
# `labels, count = scipy.ndimage.label(mask, np.ones((3, 3)))` numbers the regions of one picture from 1 to `count`.
# </details>


# %% tags=["exercise"]
def my_overlap(masks, maps, threshold):
    return ...


check("08.4", my_overlap)

# %% tags=["solution"]
import scipy.ndimage


def my_overlap(masks, maps, threshold):
    shares = []
    for mask, heat in zip(masks, maps, strict=True):
        labels, count = scipy.ndimage.label(mask, np.ones((3, 3)))
        shares += [(heat[labels == k] >= threshold).mean() for k in range(1, count + 1)]
    return np.mean(shares)


check("08.4", my_overlap)

# %% [markdown]
# ### 08.5 Does the promise still hold?
# *Difficulty 3 of 5, about 15 minutes.* A question of judgement. `calibration` holds the scores of normal pictures from
# the day on which the threshold was set, `later` those of normal pictures of today. Return True if they can be
# exchangeable, and False if something has changed: the light, the camera, or the way in which the scores were made. The
# check gives you several factories. In some nothing has changed, although the means differ by chance or single scores
# are huge. In others the *mean* is the same, and something has changed all the same.
#
# <details><summary>Hint 1</summary>
#
# Comparing means is not enough: scores may spread more while their mean stays. Compare the whole distributions.
# </details>
# <details><summary>Hint 2</summary>
#
# `scipy.stats.ks_2samp(calibration, later).pvalue` is small where two samples hardly come from one distribution. It
# uses ranks only, so a single huge score does no harm. Under 0.01 is a usual limit.
# </details>


# %% tags=["exercise"]
def my_promise(calibration, later):
    return ...


check("08.5", my_promise)

# %% tags=["solution"]
from scipy.stats import ks_2samp


def my_promise(calibration, later):
    return ks_2samp(calibration, later).pvalue > 0.01


check("08.5", my_promise)

# %% [markdown]
# ### 08.6 Choose layers and d from normal pictures
# *Difficulty 4 of 5, about 20 minutes.* `fit`, `held_out` and `pasted` are lists of three layers, (n, channels, rows,
# columns) each: the features of normal pictures, of other normal pictures, and of the same others with a piece pasted
# in. `masks` (n, rows, columns) says where, on the finest grid. `settings` is a list of pairs: the numbers of the
# layers, and how many channels of each are kept, the first ones. Return the index of the setting that you would
# install. The check measures your choice on real defects that you do not get.
#
# <details><summary>Hint 1</summary>
#
# `lesson.fitted(layers)` fits the library's Gaussians to a list of layers, and `.distances(others)` gives distances on
# the finest grid *of the layers that you handed over*: enlarge them to the size of the masks.
# </details>
# <details><summary>Hint 2</summary>
#
# `held_out` tempts you to take the setting with the quietest normal scores. Measure `aupro(masks, distances)` on the
# pasted pictures instead.
# </details>


# %% tags=["exercise"]
def my_choice(fit, held_out, pasted, masks, settings):
    return ...


check("08.6", my_choice)


# %% tags=["solution"]
def my_choice(fit, held_out, pasted, masks, settings):
    figures_of = []
    for layers, kept in settings:
        gaussians = lesson.fitted([fit[i][:, :kept] for i in layers])
        found = gaussians.distances([pasted[i][:, :kept] for i in layers])
        figures_of.append(aupro(masks, F.interpolate(found[None], masks.shape[1:])[0]))
    return int(np.argmax(figures_of))


check("08.6", my_choice)

# %% [markdown]
# ## Self-test
#
# <details><summary>1. Why is a vector at the distance 2.8 more anomalous than one at 4.5?</summary>
#
# It breaks a correlation of the normal vectors. The other one lies in a direction in which normal vectors vary.
# </details>
#
# <details><summary>2. Why are the scores of the pictures of the fit useless for a threshold?</summary>
#
# Each is part of its own mean and covariance, so that its distance cannot exceed $(N - 1) / \sqrt N$.
# </details>
#
# <details><summary>3. A detector finds one large defect and misses one small one. Which figure tells you?</summary>
#
# PRO, because it averages over regions. In pixel AUROC the large defect outweighs the small one.
# </details>
#
# <details><summary>4. Which assumption does the threshold need, and what breaks it on a conveyor belt?</summary>
#
# Exchangeability: the next normal picture comes from where the held-out ones came from. Light, camera or product change.
# </details>
#
# <details><summary>5. How do you choose layers and d without a single defect?</summary>
#
# Paste pieces into held-out normal pictures, and measure PRO on them, over several products. Quiet held-out scores say
# nothing about what is found.
# </details>

# %% [markdown]
# ## On real data
#
# MVTec AD is what the paper measured on: fifteen products, photographed. `python -m xailab.padim data/mvtec_ad --backbone
# resnet18 --output results` evaluates them all, and takes a folder of your own pictures as well. Here is one product.
# The [deeper notebook](deeper/08_padim.ipynb) shows a recorded picture for readers without downloads.

# %%
from xailab import figures
from xailab.lessons import padim as lesson
from xailab.lessons import real

PRODUCT = "hazelnut"  # or another that you have brought
names = "resnet18", "wide_resnet50_2", "efficientnet_b5", "squeezenet1_0"
if real.here(f"mvtec-ad/{PRODUCT}") and (name := real.weights(*names)):
    figure, said = lesson.photographed(PRODUCT, name)
    figures.show(figure, "A normal one, one of each kind of defect, its map, and what lies above the threshold.")
    print(said)

# %% [markdown]
# ## Summary
#
# > **Key idea.** Describe what is normal place by place, with a mean and a covariance of a network's features.
# > Correlations find what no single channel shows.
#
# > **Key idea.** Set the threshold from held-out normal pictures. Its promise needs exchangeable pictures; a change of
# > light breaks it.
#
# > **Key idea.** Choose layers, channels and network by synthetic defects on several products, and print intervals.
#
# **Reading, and why**
#
# - T. Defard et al., [PaDiM](https://arxiv.org/abs/2011.08785), 2020. The method in eight pages.
# - K. Roth et al., [PatchCore](https://arxiv.org/abs/2106.08265), CVPR 2022. What to use where products are not aligned.
# - P. Bergmann et al., [Uninformed Students](https://arxiv.org/abs/1911.02357), CVPR 2020. PRO, and how the field
#   measures.
# - A. N. Angelopoulos, S. Bates, [A Gentle Introduction to Conformal Prediction](https://arxiv.org/abs/2107.07511), 2021.
#   The promise of the threshold.
#
# Next: [09 · Patch SVDD](09_patch_svdd.ipynb)
