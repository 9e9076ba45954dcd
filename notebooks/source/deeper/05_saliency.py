# %% [markdown]
# # 05 · Saliency and class models, deeper
#
# **About {reading} minutes to read, {exercises} for the exercises · 2 GiB of memory · no GPU, no network needed**
#
# What goes beyond [the lesson](../05_saliency.ipynb). Each section can be read alone, after the first cell.
#
# **Afterwards you can**
# - derive Integrated Gradients, check its completeness, and say what its baseline decides,
# - tell how much of a map's grain is noise and how much is the lattice of the strides,
# - say what rounding does to an ascent, and what each trick does to a class model,
# - turn saliency into a segment, and say what GrabCut minimises.
#
# **Contents:** [Integrated Gradients](#Integrated-Gradients) · [Grain and lattice](#Grain-and-lattice) ·
# [How many samples](#How-many-samples?) · [Two classes](#Two-classes,-measured) ·
# [Up the score, up the probability](#Up-the-score,-up-the-probability) · [Rounding](#The-way-of-the-tutorials) ·
# [The tricks](#The-tricks,-one-by-one) · [One of many](#One-of-many) · [Segments](#From-saliency-to-a-segment) ·
# [On real data](#On-real-data) · [Summary](#Summary)
#
# [← the lesson](../05_saliency.ipynb) · [06 · Feature maps →](../06_feature_maps.ipynb)

# %%
import numpy as np
import torch
from scipy.stats import spearmanr

from xailab import figures, images
from xailab.datasets import photographs, scenes
from xailab.lessons import saliency as lesson
from xailab.metrics import interval
from xailab.models import zoo
from xailab.saliency import integrated_gradients, saliency, smooth_grad

ordinary, robust = zoo.load("scenes_resnet"), zoo.load("scenes_robust")
networks = {"ordinary": ordinary, "robust": robust}
unseen = [scenes.scene(i, split="test") for i in range(30)]
labels = [scene.labels[0] for scene in unseen]
masks = torch.from_numpy(np.stack([scene.masks[0] for scene in unseen]))
seen = {name: net.preprocess([scene.image for scene in unseen]) for name, net in networks.items()}
cat, dog, mug = (scenes.CLASSES.index(name) for name in ("cat", "dog", "mug"))


def gradient_of(net, batch, c):
    batch = batch.clone().requires_grad_()
    return torch.autograd.grad(net(batch)[range(len(batch)), c].sum(), batch)[0]


def rank_correlation(a, b):
    """Mean over pairs of maps."""
    return np.mean([spearmanr(x.flatten(), y.flatten()).statistic for x, y in zip(a, b, strict=True)])


# %% [markdown]
# ## Integrated Gradients
#
# A score $1 - \operatorname{ReLU}(1 - x)$ is flat at $x = 2$, and its gradient is zero there. On the way from an empty
# picture $I'$ (the *baseline*) to the picture $I$, however, the gradient was not always zero. Add it up on a straight
# line, and the fundamental theorem of calculus says what comes out. With $\gamma(a) = I' + a (I - I')$,
#
# $$S_c(I) - S_c(I') = \int_0^1 \frac{d}{da} S_c(\gamma(a)) \, da
# = \sum_i \underbrace{(I_i - I'_i) \int_0^1 \frac{\partial S_c}{\partial I_i}(\gamma(a)) \, da}_{\text{the share of value } i} .$$
#
# These shares are **Integrated Gradients** ([Sundararajan, Taly and Yan 2017](https://arxiv.org/abs/1703.01365),
# equation 1). They are signed, in units of the score, and they add up to what the score gains (*completeness*). In
# practice the integral is a mean over steps. By hand, for the flat score:


# %%
class Saturating(torch.nn.Module):
    def forward(self, x):
        return (1 - torch.relu(1 - x)).flatten(1)


two = torch.full((1, 1, 1, 1), 2.0)
middles = (torch.arange(10) + 0.5) / 10  # the middles of ten parts of the way from 0 to 2
on_the_way = torch.cat([gradient_of(Saturating(), a * two, 0) for a in middles]).flatten().abs()
print("gradients on the way:", on_the_way.tolist())
print(f"mean {on_the_way.mean():.1f} times the way 2 = {2 * on_the_way.mean():.1f}; the gradient at x = 2 is "
      f"{gradient_of(Saturating(), two, 0).abs().item():.0f}; library {integrated_gradients(Saturating(), two, 0, steps=10).item():.1f}")  # fmt: skip

# %% [markdown]
# And on a photograph. **Predict:** the baseline is mid-grey, or black. Which pixels can never get a share with the
# black one?

# %%
network = zoo.load("efficientnet_lite0")
photo, c = network.preprocess(photographs.photograph("cup").image), network.classes.index("espresso")
mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (network.preprocess.mean, network.preprocess.std))
baselines = {"grey": 0 * mean, "black": -mean / std, "white": (1 - mean) / std}


def integrated_by_hand(net, picture, c, baseline, steps):
    way = picture - baseline
    total = torch.zeros_like(picture)
    for i in range(steps):
        total += gradient_of(net, baseline + (i + 0.5) / steps * way, c)
    return (way * total / steps).sum(1)  # over the channels


own = integrated_by_hand(network, photo, c, baselines["grey"], 4)
theirs = integrated_gradients(network, photo, c, baseline=baselines["grey"], steps=4)
assert (own - theirs).norm() < 0.02 * own.norm()  # last bits decide at the kinks of the ReLUs
maps_from = {name: integrated_gradients(network, photo, c, baseline=each, steps=25) for name, each in baselines.items()}
with torch.no_grad():
    score = network(photo)[0, c]
    gains = {name: float(score - network(each.expand_as(photo))[0, c]) for name, each in baselines.items()}
for name, heat in maps_from.items():
    print(f"{name}: the score gains {gains[name]:.1f}, the map adds up to {heat.sum():.1f}")

# %%
plain = saliency(network, photo, c)
picture = network.preprocess.undo(photo)[0]
panels = [picture, lesson.glow(plain[0]), *(lesson.glow(heat[0].abs()) for heat in maps_from.values())]
figures.show(
    figures.strip(panels, ["picture", "saliency", *(f"from {name}" for name in maps_from)], panel=2.3),
    "A cup of espresso; its saliency; and the absolute values of Integrated Gradients from grey, black and white, which light up "
    "different parts: from black the white porcelain, from white the dark coffee and the saucer.",
)
bright = torch.from_numpy(picture.astype(float).mean(2))
for name, heat in maps_from.items():
    strength = heat[0].abs()
    dark, light = (float(strength[part].mean() / strength.mean()) for part in (bright < 60, bright > 200))
    print(f"from {name}: strength on dark pixels {dark:.2f}, on light ones {light:.2f} (mean of all = 1)")

# %% [markdown]
# The factor $I_i - I'_i$ is the answer to the prediction: a pixel of the baseline's own colour gets no share, whatever
# the network thinks of it. From black, dark coffee cannot count; from white, porcelain cannot. The baseline is part of
# the question ("compared with what?"), and there is no neutral one. The sums agree with the gains only nearly, since
# 25 steps are few. How many are enough? Look at completeness:

# %%
with torch.no_grad():
    gain = (
        ordinary(seen["ordinary"][:8])[range(8), labels[:8]] - ordinary(0 * seen["ordinary"][:8])[range(8), labels[:8]]
    )
errors = []
for steps in (5, 20, 80):
    heats = integrated_gradients(ordinary, seen["ordinary"][:8], labels[:8], steps=steps)
    errors.append(float((heats.sum((1, 2)) - gain).abs().mean() / gain.abs().mean()))
    print(f"{steps:3d} steps: error of the sum {errors[-1]:.3f} of the gain; on the object "
          f"{lesson.share_on(heats.abs(), masks[:8]).mean():.2f} of the strength")  # fmt: skip

whole = seen["ordinary"][:8]
for name, heat in {"saliency": saliency(ordinary, whole, labels[:8]), "|I − I'| alone": whole.abs().sum(1)}.items():
    print(f"{name}: {lesson.share_on(heat, masks[:8]).mean():.2f} on the object, area {masks[:8].double().mean():.2f}")

# %% [markdown]
# Completeness is a test of the sum. It says nothing about whether the shares lie where a person would put them. Here
# two thirds of the strength lie on the object, more than of a saliency map. Is that the factor $I - I'$ alone, which
# knows nothing of the network? This control could have won: objects may be more colourful than grounds. It has hardly
# more than the area, so the gain comes from the gradients.

# %% [markdown]
# ## Grain and lattice
#
# Is the grain a property of the picture, or noise? And why do the maps show little squares?

# %%
maps = {name: saliency(net, seen[name], labels) for name, net in networks.items()}
noise = torch.randn(seen["ordinary"].shape, generator=torch.Generator().manual_seed(1))
shaken = seen["ordinary"] + 2 / (255 * 0.25) * noise  # two grey levels
again = saliency(ordinary, shaken, labels)


def fine(heats):
    """Maps without their soft part, the mean over squares of 9 x 9 pixels."""
    return heats - torch.nn.functional.avg_pool2d(heats[:, None], 9, stride=1, padding=4, count_include_pad=False)[:, 0]


with torch.no_grad():
    same = (ordinary(shaken).argmax(1) == torch.tensor(labels)).double().mean()
print(f"noise of 2 grey levels: same answer {same:.2f}, rank correlation of the two maps "
      f"{rank_correlation(maps['ordinary'], again):.2f}, of their fine grain {rank_correlation(fine(maps['ordinary']), fine(again)):.2f}")  # fmt: skip
w = gradient_of(ordinary, seen["ordinary"], labels)
for way, heat in {"mean |w|": w.abs().mean(1), "length of w": w.norm(dim=1), "|sum of w|": w.sum(1).abs()}.items():
    print(
        f"channels joined by {way}: rank correlation with the largest |w| {rank_correlation(heat, maps['ordinary']):.2f}"
    )

# %%

means = {name: lesson.by_position(heat) for name, heat in maps.items()}
figures.show(
    lesson.draw_lattice(unseen[2].image, maps["ordinary"][2], (48, 48), means),
    "An umbrella, its saliency, and 32 by 32 pixels of the map with lines every four pixels; two tables of means by position. The "
    "ordinary network's values range from 0.79 to 1.16, the robust network's from 0.97 to 1.02.",
)

# %% [markdown]
# Both. Two grey levels of noise change no answer. A rank correlation of 0.83 means that most of the pixels' order
# stays, and even of the fine grain more than half is reproducible. A part of this grain belongs to no picture at all.
# The network halves its maps several times, with strides of 2. A pixel takes part in more or fewer products, depending
# on where it lies between the strides. Averaged over thirty pictures, the ordinary network's saliency depends on the
# position in a **lattice** of 4 × 4 pixels, by −21 to +16 %; the robust network's hardly does. The larger squares come from
# the deeper strides.
#
# How the channels are joined matters little, as long as they cannot cancel: the maximum is a convention, the absolute
# value is not.

# %% [markdown]
# ## How many samples?
#
# SmoothGrad's average is itself noisy. How well do two seeds agree, with $\sigma = 0.05$, which the ordinary network
# can read?

# %%
counts = [1, 4, 16, 50]
agreement = []
for samples in counts:
    options = {"sigma": 0.05, "samples": samples}
    one, other = (smooth_grad(ordinary, seen["ordinary"][:2], labels[:2], seed=seed, **options) for seed in (3, 4))
    agreement.append(rank_correlation(one, other))
print("two seeds agree:", ", ".join(f"{n} samples {a:.2f}" for n, a in zip(counts, agreement, strict=True)))

# %% [markdown]
# Each fourfold number of samples brings the two seeds closer, and costs a backward pass for each sample. Agreement is a
# reason to trust the average. What it is an average of is another question.

# %% [markdown]
# ## Two classes, measured
#
# A cat and a dog in one scene, with exact masks. The mug is in none of the scenes. **Predict:** which share of the map
# for "cat" lies on the cat, and which on the dog?

# %%
pairs = [scenes.scene(i, kind="pair", label=(cat, dog), split="test", size=128) for i in range(24)]
asked = saliency(ordinary, ordinary.preprocess([scene.image for scene in pairs]), [[cat, dog, mug]] * 24)
panels = [pairs[i].image if k is None else lesson.glow(asked[i, k]) for i in (2, 6) for k in (None, 0, 1, 2)]
figures.show(
    figures.grid(panels, ["picture", "“cat”", "“dog”", "“mug”, absent"] * 2, columns=4, panel=2.0),
    "Two scenes with a cat and a dog and the saliency for cat, for dog and for the absent mug: all maps glow on both animals.",
    pixels=figures.SCREEN,
)
animals = [torch.from_numpy(np.stack([scene.masks[k] for scene in pairs])) for k in (0, 1)]
print(f"area: cat {animals[0].double().mean():.3f}, dog {animals[1].double().mean():.3f}")
for name, k in (("cat", 0), ("dog", 1), ("mug, absent", 2)):
    on = [lesson.share_on(asked[:, k], mask) for mask in animals]
    low, high = interval(on[0] - on[1])
    print(f"“{name}”: {on[0].mean():.2f} of the map on the cat, {on[1].mean():.2f} on the dog; "
          f"difference {low:.2f} to {high:.2f}")  # fmt: skip

# %% [markdown]
# The map for "cat" does not leave the dog alone, and the map for "dog" clearly lies on the cat more than on the dog. The
# absent mug lies on the same two animals. A map without signs shows where the *decision* is sensitive. It hardly shows
# for which class.

# %% [markdown]
# ## Up the score, up the probability
#
# The lesson derives $\partial p_c / \partial I = p_c (1 - p_c) (w_c - \bar w_{\text{others}})$. How much of the gradient
# is left for sure pictures? And what does an ascent do that starts at a dog, and climbs the score or the probability of
# "cat"?

# %%
x = seen["robust"]
with torch.no_grad():
    p = robust(x).softmax(1)[range(30), labels]
w = gradient_of(robust, x, labels).flatten(1).norm(dim=1)
w_p = gradient_of(lambda pictures: robust(pictures).softmax(1), x, labels).flatten(1).norm(dim=1)
sure = p > 0.99
ratio = (w_p / w / (p * (1 - p)))[sure]
print(
    f"{sure.double().mean():.2f} of the pictures are sure: |gradient of p| / |gradient of S| / (p (1 − p)) = {ratio.median():.1f} in the median"
)
print(f"the surest: p = {p.max():.4f}, left of its gradient {(w_p / w)[p.argmax()]:.4f}")


def climb(objective, picture, c, steps=40, length=1.5):
    on_the_way = []
    for _ in range(steps):
        picture = picture.detach().requires_grad_()
        scores = robust(picture)
        (g,) = torch.autograd.grad(objective(scores)[0, c], picture)
        picture = picture + length * g / g.norm()  # steps of one length
        on_the_way.append(scores[0].detach())
    return picture.detach(), torch.stack(on_the_way)


# %%
start = labels.index(dog)
objectives = {"score": lambda scores: scores, "probability": lambda scores: scores.softmax(1)}
climbed = {name: climb(objective, x[start : start + 1], cat) for name, objective in objectives.items()}
ends = {name: robust.preprocess.undo(picture)[0] for name, (picture, _) in climbed.items()}
trails = {name: trail for name, (_, trail) in climbed.items()}
figures.show(
    lesson.draw_climb(robust.preprocess.undo(x)[start], ends, trails, {"cat": cat, "dog": dog}),
    "A dog, and the same picture after climbing the score of cat and the probability of cat. Climbing the score lifts the cat's "
    "curve most and the dog's a little; climbing the probability presses the dog's curve down.",
)
for name, trail in trails.items():
    change = trail[-1] - trail[0]
    print(f"up the {name}: cat {change[cat]:+.1f}, dog {change[dog]:+.1f}, p(cat) {trail[-1].softmax(0)[cat]:.2f}")

# %% [markdown]
# For sure pictures the left-over is $p (1 - p)$ times 1.6 in the median, and not times 1. The factor is
# $|w_c - \bar w_{\text{others}}| / |w_c|$: the gradients of the other classes point elsewhere, so the difference is
# longer.
#
# Climbing the score lifts the cat most, and the dog's score rises as well: the classes share features, and the network
# still calls the picture a dog. Climbing the probability gains less for the cat and presses the dog down. A good part
# of what you see in that picture is *un-dogging*.

# %% [markdown]
# ## The way of the tutorials
#
# Much code for class models follows one recipe: start from random pixels, take 149 steps of plain gradient ascent on
# the score, and after *each* step turn the image into an 8-bit picture and back. The penalty of the paper's formula is
# missing in that code. The rate is 6 in the widely copied
# [pytorch-cnn-visualizations](https://github.com/utkuozbulak/pytorch-cnn-visualizations), and 20 in a tutorial on
# CIFAR-10 that starts at 224 × 224 pixels for a network of 32 × 32. Here are the first 60 steps, at 64 pixels, and a
# smaller rate beside them. **Predict:** what is lost when a picture is rounded after each step?


# %%
def tutorial(net, c, rate, rounding, steps=60, size=64):
    """Climb on grey levels 0 to 255, one picture for each rate; return pictures, scores, and what rounding held back."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (net.preprocess.mean, net.preprocess.std))
    rate, rounding = torch.tensor(rate).view(-1, 1, 1, 1), torch.tensor(rounding).view(-1, 1, 1, 1)
    begin = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (3, size, size))).float()
    pixels, scores, held, kept = begin.repeat(len(rate), 1, 1, 1), [], [], []
    for _ in range(steps):
        x = ((pixels / 255 - mean) / std).requires_grad_()
        score = net(x)[:, c]
        (w,) = torch.autograd.grad(score.sum(), x)
        exact = (255 * ((x.detach() + rate * w) * std + mean)).clamp(0, 255)
        new = torch.where(rounding, exact.round(), exact)
        scores.append(score.detach())
        held.append(((new == pixels) & (exact != pixels)).float().mean((1, 2, 3)))  # values that rounding put back
        step = exact - pixels  # the gain that the gradient promises is in proportion to step · step
        kept.append(((new - pixels) * step).sum((1, 2, 3)) / step.square().sum((1, 2, 3)))
        pixels = new
    return pixels.round().byte().permute(0, 2, 3, 1).numpy(), *(torch.stack(v).numpy() for v in (scores, held, kept))


# %%
ways = [(rate, rounding) for rate in (20.0, 6.0, 0.3) for rounding in (True, False)]
names = [f"rate {rate:g}, {'rounded' if rounding else 'exact'}" for rate, rounding in ways]
ends, climbs, held, kept = tutorial(robust, mug, *(list(v) for v in zip(*ways, strict=True)))

# %%
figures.show(
    lesson.draw_rounding([ends[0], ends[2], ends[4]], climbs, [names[i] for i in (0, 2, 4)], names),
    "Three class models of a mug from random pixels, covered with coloured noise; and the score against the step: rounding changes "
    "little at the rates 20 and 6, and costs a third of the gain at 0.3.",
)
for k in (0, 2, 4):
    gain = (climbs[-1, k] - climbs[0, k]) / (climbs[-1, k + 1] - climbs[0, k + 1])
    print(f"rate {ways[k][0]:4g}: rounding puts {held[:, k].mean():.2f} of the values back; of the gain that the gradient "
          f"promises {kept[:20, k].mean():.2f} are left in the first 20 steps; of the true gain {gain:.2f}")  # fmt: skip

# %% [markdown]
# Every step smaller than half a grey level is lost. At the rate 20 that is a third of the values, at 6 nearly two
# thirds, and the score hardly suffers. At 0.3 the values stay where they are in 98 of 100 cases, and yet more than half
# of the gain is made. The middle column solves the puzzle. The few values that move are those with the largest
# gradients, and they carry half of what the gradient promises, in the first steps, in which most of the gain is made.
# The random pixels of the start never go away, as no penalty pulls them to grey. Keep the image in floating point, and
# round once, for the file.

# %% [markdown]
# ## The tricks, one by one
#
# Each column adds *one* trick to the plain ascent (Adam, λ = 0.001, 60 steps). **Predict:** which of them changes the
# picture most, and which takes most of the fine grain away? The number is the share of the picture's variance in the
# upper half of the frequencies.

# %%
from xailab.class_model import Affine, Blur, Clip, Jitter, class_model, colour_root

pictures = torch.from_numpy(np.stack([scenes.scene(i, split="train", size=64).image for i in range(24)]))
table = {
    "plain": {},
    "clip": {"projections": [Clip(robust.preprocess)]},
    "jitter": {"transforms": [Jitter(8)]},
    "turn, zoom": {"transforms": [Affine(degrees=10, scale=0.2)]},
    "blur": {"projections": [Blur(sigma=0.7, every=4)]},
    "Fourier": {"parametrisation": "fourier", "lr": 0.02},
    "colours": {"decorrelate": colour_root(pictures, robust.preprocess)},
}
shown = [mug, scenes.CLASSES.index("car")]
cells = {}
for name, options in table.items():
    options = {
        "lr": 0.05,
        "size": 96,
        "steps": 60,
        "start": lesson.soft_spots(1, 96, 2).expand(2, -1, -1, -1),
    } | options
    cells[name] = class_model(robust, shown, progress=False, **options).images

# %%
grain = {name: lesson.fine_share(found) for name, found in cells.items()}
panels = [robust.preprocess.undo(found)[row] for row in (0, 1) for found in cells.values()]
titles = [f"{name}: {grain[name]:.2f}" for name in cells]
figures.show(
    figures.grid(panels, titles + [""] * len(table), columns=len(table), panel=1.7),
    "A table of class models, mug and car by seven ways: plain ascent has fine grain; blur removes it, jitter and turns draw "
    "clear forms, decorrelated colours tint the ground.",
)
for name in list(table)[1:]:
    difference = (cells[name] - cells["plain"]).square().mean() / cells["plain"].square().mean()
    print(f"{name:10s} difference from plain {difference:.1f} of its variance, fine grain {grain[name]:.2f}")

# %% [markdown]
# Clipping changes nothing here, since the penalty keeps the pixels inside. Blur takes the fine grain away and leaves the
# forms where they are. Jitter and turns leave less grain too, and make the forms whole: a picture must keep its score
# when it is moved. Fourier coefficients move the whole picture at once, and have the most grain; decorrelated colours
# change the tints. The last four all lead to another picture, as different from the plain one as two pictures of its
# contrast can be that have nothing in common but a few places. None of the tricks knows about mugs or cars. Each is a
# preference of *ours*, laid upon the network's.

# %% [markdown]
# ## One of many
#
# A class model is *a* maximum. Where the climb begins decides where it ends.

# %%
options = {"size": 96, "steps": 60, "lr": 30.0, "optimizer": "ascent", "transforms": [Jitter(8)], "progress": False}
begun = class_model(robust, [mug] * 4, start=lesson.soft_spots(4, 96, 0), **options)
titles = [f"start {i + 1}: score {s:.0f}" for i, s in enumerate(begun.scores[-1].tolist())]
figures.show(
    figures.strip(list(robust.preprocess.undo(begun.images)), titles, panel=2.4),
    "Four class models of the mug from four random starts: mugs of different places, sizes and tilts.",
)
flat = np.corrcoef(begun.images.flatten(1))[np.triu_indices(4, 1)]
with torch.no_grad():
    real = robust(seen["robust"])[range(30), labels]
print(f"largest correlation of two pictures {flat.max():.1f}; score of real pictures {real.median():.0f} in the median")

# %% [markdown]
# Other starts, other mugs, all with scores above those of real pictures, and value by value they have little in common.
# What maximises a score is a caricature, and no typical member of the class.

# %% [markdown]
# ## From saliency to a segment
#
# Saliency lights up what tells the class apart; the object is more than that. The paper (Section 3.2) lets *colour*
# fill the rest. Pixels above the 95 % quantile of the map are surely the object, those below the 30 % quantile surely
# not. Both give colour models, and a graph cut decides on what lies between. The labels $\alpha_i$ (object or not) of
# the pixels $z_i$ minimise
#
# $$E(\alpha) = \sum_i -\log p\,(z_i \mid \text{colours of side } \alpha_i) \;+\; \gamma \sum_{i, j \text{ neighbours}}
# [\alpha_i \ne \alpha_j] \, \frac{e^{-\beta \lVert z_i - z_j \rVert^2}}{\operatorname{dist}(i, j)} .$$
#
# The first sum wants each pixel on the side that has its colour. The second wants a short border, which is cheap where
# neighbours differ, that is along edges. For given colours the minimum is found exactly, as the cheapest cut through a
# graph of pixels (*GraphCut*, Boykov and Jolly 2001, which the paper used). We use OpenCV's *GrabCut* (Rother,
# Kolmogorov and Blake 2004), which **repeats**: it fits a mixture of five Gaussians to each side, cuts, fits again, and
# cuts again. Each cut is exact, the whole a local minimum. The seeds stay what they are; the largest connected piece is
# the segment. How good is it?

# %%
from xailab.boxes import iou
from xailab.cam import class_activation_map
from xailab.localization import boxes, grabcut, ground_truth_box

few = 24
small = [scenes.scene(i, split="test", size=96) for i in range(few)]  # the same, smaller: a cut takes time
truth, named = [scene.masks[0] for scene in small], labels[:few]
x = {name: batch[:few] for name, batch in seen.items()}
sources = {"saliency, ordinary": saliency(ordinary, x["ordinary"], named)}
for sigma in (0.02, 0.15):
    sources[f"SmoothGrad σ = {sigma:g}, ordinary"] = smooth_grad(
        ordinary, x["ordinary"], named, sigma=sigma, memory=0.3
    )
sources["saliency, robust"] = saliency(robust, x["robust"], named)
sources["CAM, ordinary"] = class_activation_map(ordinary, x["ordinary"], named)
sources = {name: images.upsample(heats, 96) for name, heats in sources.items()}

# %%
segments = {
    name: [grabcut(scene.image, heat, rounds=2) for scene, heat in zip(small, heats, strict=True)]
    for name, heats in sources.items()
}
top = {name: [(h >= h.flatten().quantile(0.95)).numpy() for h in heats] for name, heats in sources.items()}


# %%
def overlaps(found):
    return np.array([lesson.overlap(a, b) for a, b in zip(found, truth, strict=True)])


def box_hits(found):
    """For each scene: has the box of the found pixels an IoU of at least 0.5 with the true box?"""
    pairs = [(ground_truth_box(a) if a.any() else None, ground_truth_box(b)) for a, b in zip(found, truth, strict=True)]
    return np.array([a is not None and iou(a, b) >= 0.5 for a, b in pairs])


cut = {name: overlaps(found) for name, found in segments.items()}
figures.show(
    lesson.draw_overlaps(cut, {name: overlaps(found) for name, found in top.items()}),
    "Rows of dots, the IoU of 24 segments by the map they grew from, with mean and interval; below each in grey the top 5 % of the "
    "map alone. SmoothGrad with little noise is the best of the ordinary network's gradients, with 0.15 the worst.",
)
for name in sources:
    low, high = interval(cut[name] - cut["saliency, ordinary"])
    print(f"{name:27s} IoU {cut[name].mean():.2f} (against saliency {low:+.2f} to {high:+.2f}); "
          f"boxes that hit: top 5 % {box_hits(top[name]).mean():.2f}, segment {box_hits(segments[name]).mean():.2f}")  # fmt: skip
cam_boxes = [boxes(heat, 0.45)[0] for heat in sources["CAM, ordinary"]]
hits = [iou(box, ground_truth_box(mask)) >= 0.5 for box, mask in zip(cam_boxes, truth, strict=True)]
print(f"box of the CAM at 45 % of its maximum: {np.mean(hits):.2f}")

# %% [markdown]
# The most salient pixels alone cover little of the object, and with colour to fill in the same maps reach 0.6 to 0.7.
# SmoothGrad shows what the lesson found: with $\sigma = 0.02$, which the network can read, it is clearly better than
# plain saliency and as good as the robust network or the CAM; with the recommended 0.15 it is clearly worse.
#
# For *boxes*, the paper's purpose, the cut is not always needed. The grains of the robust network are scattered over
# the whole object, so that the box of its top 5 % hits in every scene, and the cut spoils one of them. The top 5 % of a
# CAM are one compact spot, which cannot reach an IoU of 0.5 with an object of a fifth of the picture; its usual
# threshold serves better. The paper publishes a top-5 localisation error of 46.4 % on ILSVRC-2013, for its own network and
# photographs; our scenes are far easier.

# %%
order = np.argsort(cut["saliency, robust"])
panels, titles = [], []
for i in order[[-1, 0, -4, 3]]:
    panels += [small[i].image, lesson.draw_seeds(small[i].image, sources["saliency, robust"][i])]
    panels += [lesson.cut_out(small[i].image, segments["saliency, robust"][i])]
    titles += [scenes.CLASSES[labels[i]], "seeds", f"segment, IoU {cut['saliency, robust'][i]:.2f}"]
figures.show(
    figures.grid(panels, titles, columns=6, panel=1.9),
    "The best, the worst, the fourth best and the fourth worst scene, each with its seeds, orange for the object and blue for the "
    "rest, and its segment.",
    pixels=figures.SCREEN,
)

# %% [markdown]
# Shown are the best scene, the worst, the fourth best and the fourth worst. The failures begin in the seeds: orange
# pixels *beside* the object tell the cut that what lies there is object too. The successes owe as much to colour: few
# colours, and others than around them. A good segment therefore says little about what the network saw. It adds to the
# map what is true of *pictures*.

# %% [markdown]
# And on photographs, where no mask tells the truth? The seeds come from SmoothGrad averaged over squares of 17 pixels: a
# region of such a map may be read, a pixel may not. **Predict:** which of the four objects comes out whole?

# %%
chosen = ["cat", "cup", "motorcycle", "flower"]
photos = network.preprocess([photographs.photograph(name).image for name in chosen])
with torch.no_grad():
    top_class = network(photos).argmax(1)
soft = lesson.averaged(smooth_grad(network, photos, top_class, sigma=0.05, samples=16, memory=0.3))
panels, titles = [], []
for picture, heat, c in zip(network.preprocess.undo(photos), soft, top_class.tolist(), strict=True):
    panels += [lesson.draw_seeds(picture, heat), lesson.cut_out(picture, grabcut(picture, heat))]
    titles += [f"seeds of “{network.classes[c]}”", "segment"]
figures.show(
    figures.grid(panels, titles, columns=4, panel=2.8),
    "A cat, a cup, a motorcycle and a flower, each with the seeds of its class, and the segment that was cut out.",
    pixels=figures.SCREEN,
)

# %% [markdown]
# The flower comes out whole, as one colour before another. Of the motorcycle the network's seeds give tank and engine,
# of the cat the nose. And for "espresso" the cut returns the spoon: the network has seeds on it, and its colours are not
# those of the saucer around it. All four classes are the network's first guess. Where there is no mask, a segment can
# look convincing and be wrong, and nothing in the method says so.

# %%
lesson.segment_explorer(networks, unseen[:12])

# %% [markdown]
# ## On real data
#
# **Recorded**, for readers without downloads: SqueezeNet 1.0, an ordinarily trained network, climbs to "espresso" with
# Fourier coefficients, shifts, turns and zooms, in the cell after the next one.
#
# ![Recorded: swirls that become five cups seen from the side, brown inside; beside them the photograph of a
# cup](../../docs/real_05.jpg)
#
# First the cut, measured. Twenty cats and dogs of Oxford-IIIT Pet, cut out by the saliency of whatever the network names first
# (about half a minute with VGG16). The yardstick is the lazy answer: everything is the object.

# %%
import numpy as np
import torch

from xailab import figures
from xailab.boxes import iou
from xailab.lessons import real
from xailab.lessons import saliency as lesson
from xailab.localization import grabcut, ground_truth_box
from xailab.models import zoo
from xailab.saliency import saliency

if real.here("oxford-pets") and (name := real.weights("vgg16", "squeezenet1_0")):
    network = zoo.load(name)
    batch, pictures, masks = real.pets(network.preprocess, 20)
    maps = lesson.averaged(torch.cat([saliency(network, part) for part in batch.split(4)]))
    whole, found = np.ones_like(masks[0]), [grabcut(*pair, rounds=2) for pair in zip(pictures, maps, strict=True)]
    answers = {"the cut": [cut if cut.any() else whole for cut in found], "the whole picture": [whole] * len(masks)}
    for answer, cuts in answers.items():
        pairs = list(zip(cuts, masks, strict=True))
        of_segments = np.mean([iou(a, b) for a, b in pairs])
        of_boxes = np.mean([iou(ground_truth_box(a), ground_truth_box(b)) for a, b in pairs])
        print(f"{answer:17s}  mean IoU of the segment {of_segments:.2f}, of its box {of_boxes:.2f}")
    panels = [*pictures[:5], *map(lesson.cut_out, pictures[:5], answers["the cut"][:5])]
    figures.show(
        figures.grid(panels, columns=len(pictures[:5]), title=f"{name}: cut out by saliency and colour"),
        "Photographs of cats and dogs, and below each the segment that was cut out of it.",
    )

# %% [markdown]
# What does SqueezeNet want an espresso to look like? Fourier coefficients, shifts, turns and
# zooms together, in 60 steps (some ten seconds). The range of colours is that of the four photographs, and so not the
# network's idea; the forms are. How many cups do you count? Compare the scores with the photograph's: this is a
# caricature. Other names are in `network.classes`.

# %%
from dataclasses import replace

from xailab.class_model import Affine, Clip, Jitter, class_model, colour_root

if name := real.weights("squeezenet1_0"):
    network = zoo.load(name)
    label, shown = network.classes.index("espresso"), (5, 15, 60)
    photographs = network.preprocess.undo(network.preprocess(real.photographs()))
    found = class_model(
        network, label, size=224, steps=60, lr=0.03, transforms=[Jitter(8), Affine(degrees=8, scale=0.1)],
        projections=[Clip(network.preprocess)], parametrisation="fourier", snapshot_every=5, progress=False,
        decorrelate=colour_root(torch.from_numpy(photographs), network.preprocess),
    )  # fmt: skip
    pictures = [network.preprocess.undo(found.snapshots[step])[0] for step in shown] + [photographs[1]]  # of 8 bits
    with torch.no_grad():
        scores = network(replace(network.preprocess, resize=None, crop=None)(pictures))
    names = [*(f"{step} steps" for step in shown), "photograph"]
    titles = [f"{n}: score {s:.0f}" for n, s in zip(names, scores[:, label], strict=True)]
    figures.show(
        figures.strip(pictures, titles, title=f"{name}: “espresso”", panel=2.6),
        "The class model of espresso after 5, 15 and 60 steps, and a photograph of a cup.",
    )
    print("probability of espresso:", ", ".join(f"{p:.3f}" for p in scores.softmax(1)[:, label]))

# %% [markdown]
# The tutorials' pair is CIFAR-10 and its class "dog". A network is trained on four thousand of the photographs (about a
# minute); the printed accuracy says how much (chance is 0.10). What of a dog is in the pictures, and what of it is in
# the probabilities?

# %%
from xailab import figures
from xailab.class_model import Affine, Clip, Jitter, class_model, colour_root
from xailab.lessons import real
from xailab.lessons import saliency as lesson

if real.here("cifar10"):
    network, unseen, labels = lesson.trained_on_cifar10()
    with torch.no_grad():
        right = (network(unseen).argmax(1) == labels).float().mean()
    print(f"named correctly: {right:.2f} of {len(labels)} unseen photographs")
    dog, shown, undo = network.classes.index("dog"), (10, 50, 100, 150), network.preprocess.undo
    found = class_model(
        network, dog, size=64, steps=150, transforms=[Jitter(4), Affine(degrees=8, scale=0.1)],
        projections=[Clip(network.preprocess)], snapshot_every=10, progress=False,
        decorrelate=colour_root(torch.from_numpy(undo(unseen)), network.preprocess),
    )  # fmt: skip
    snapshots = torch.cat([found.snapshots[step] for step in shown])
    titles = [f"{n} steps: p = {p:.2f}" for n, p in zip(shown, network(snapshots).softmax(1)[:, dog], strict=True)]
    figures.show(
        figures.strip(list(undo(snapshots)), titles, title="CIFAR-10's dog, by a small network"),
        "The class model of CIFAR-10's dog after 10, 50, 100 and 150 steps of ascent.",
    )

# %% [markdown]
# ## Summary
#
# > **Key idea.** Integrated Gradients adds up to what the score gains. The baseline decides which pixels can have a share.
#
# > **Key idea.** A part of a map's grain is the lattice of the strides, and belongs to no picture.
#
# > **Key idea.** A segment grown from saliency owes much to colour. It says little about what the network saw.
#
# **Reading, and why**
#
# - M. Sundararajan, A. Taly, Q. Yan, [Axiomatic Attribution for Deep Networks](https://arxiv.org/abs/1703.01365), 2017.
#   Why completeness, and which other axioms.
# - Y. Boykov, M.-P. Jolly, *Interactive Graph Cuts*, ICCV 2001; C. Rother, V. Kolmogorov, A. Blake, *GrabCut*, SIGGRAPH
#   2004. What is minimised, and how exactly.
# - J. Yosinski et al., [Understanding Neural Networks Through Deep Visualization](https://arxiv.org/abs/1506.06579),
#   2015. Where the blur comes from.
#
# [Back to the lesson](../05_saliency.ipynb) · Next: [06 · Feature maps](../06_feature_maps.ipynb)
