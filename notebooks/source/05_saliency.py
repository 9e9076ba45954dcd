# %% [markdown]
# # 05 · Saliency and class models
#
# **About 60 minutes to read, 40 for the exercises · 2 GiB of memory · no GPU, no network needed**
#
# Two of the oldest questions to a vision network come from one paper of 2013. Which pixels of this picture matter for
# the class? And what picture would the network itself draw, if it were asked for a cat? Both are answered by the same
# thing: the derivative of a score for the pixels.
#
# **Afterwards you can**
# - compute a saliency map, say what it promises (a first-order prediction), and measure how far the promise holds,
# - say why the score is differentiated and not the probability, and show what goes wrong otherwise,
# - make class models by gradient ascent, and know what each trick does to the picture and to its meaning,
# - turn saliency into a segment, and measure it against the truth.
#
# **You need** what a gradient is. Lesson 02 helps in the section on segments.

# %% [markdown]
# ## The idea
#
# Let a score be linear in the picture, $S_c(I) = w_c \cdot I + b_c$. Then nobody has to ask which pixels matter: each
# counts as much as its weight. The score of a deep network is not linear, but near any picture $I_0$ it almost is,
# as Taylor's formula says (Simonyan, Vedaldi and Zisserman 2013, equations 3 and 4):
#
# $$S_c(I) \approx w \cdot I + b, \qquad w = \left.\frac{\partial S_c}{\partial I}\right|_{I_0}.$$
#
# A pixel has three channels and so three weights; its **saliency** is the largest of them, without the sign:
#
# $$M_{ij} = \max_{\text{channel } k} \left|w_{ijk}\right| .$$
#
# One forward pass, one backward pass all the way down to the pixels. (The $b$ of the approximation is not the
# network's bias: it is whatever makes both sides equal at $I_0$.)
#
# **Predict before you run:** a pixel whose red channel pushes a class up by 3 and whose blue channel pulls it down by
# 3: how salient is it, compared with one that has a single weight of 3?

# %% [markdown]
# ## From scratch, on numbers you can check by eye
#
# Four pixels, three channels, one linear layer. The gradient without calculus: add 1 to one value and see what the
# score does. (For a linear score that is exact.)

# %%
import torch
from torch import nn

tiny = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
w_red, w_green, w_blue = [[3.0, 0], [0, 1]], [[0.0, 0], [2, 1]], [[-3.0, 3], [-5, 1]]
with torch.no_grad():
    tiny[1].weight[0] = torch.tensor([w_red, w_green, w_blue]).flatten()
    tiny[1].weight[1] = -tiny[1].weight[0]
image = torch.rand(1, 3, 2, 2, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def saliency_by_nudging(network, image, c):
    heat = torch.zeros(image.shape[2:])
    for i in range(image.shape[2]):
        for j in range(image.shape[3]):
            for k in range(image.shape[1]):
                nudged = image.clone()
                nudged[0, k, i, j] += 1
                w = network(nudged)[0, c] - network(image)[0, c]
                heat[i, j] = max(heat[i, j], abs(w))
    return heat


for c in (0, 1):
    print(f"class {c}:", [[round(v, 3) for v in row] for row in saliency_by_nudging(tiny, image, c).tolist()])

# %% [markdown]
# Your prediction: top left has the weights 3 and −3, top right a single 3, and both get 3. Bottom right, 1, 1 and 1
# make 1, not 3. Class 1 has all signs reversed and the *same* map: saliency says where a change would matter, not in
# which direction.
#
# ## The same through the library
#
# `saliency(network, images, target)`. Does it give $|w|$ on the linear layer?

# %%
from xailab.saliency import saliency

exact = torch.tensor([w_red, w_green, w_blue]).abs().amax(0)
for c in (0, 1):
    assert torch.equal(saliency(tiny, image, c)[0], exact)
    assert torch.allclose(saliency_by_nudging(tiny, image, c), exact, atol=1e-5)
print("largest |w| of the linear layer, exactly; gradients left on it:", [p.grad for p in tiny.parameters()])

# %% [markdown]
# ## How far does the promise hold?
#
# A network is only almost linear, and only near the picture. So let us take the formula at its word. We move thirty
# pictures by $d$, predict the change of the score as $w \cdot d$, and look. Two directions: along the gradient itself
# (the best the formula could wish for) and along noise of the same strength. **Predict:** a change by one grey level
# of 255 in each pixel cannot be seen. Is it small for the network, too?

# %%
import numpy as np

from xailab import figures, images
from xailab.datasets import scenes
from xailab.models import zoo

network = zoo.load("scenes_resnet")
GREY = 1 / (255 * network.preprocess.std[0])  # one grey level, in the network's units
unseen = [scenes.scene(i, split="test") for i in range(60)]
labels = [s.labels[0] for s in unseen]
batch = network.preprocess([s.image for s in unseen])
levels = np.array([0.03, 0.1, 0.3, 1, 3])


def gradients(net, x, c, score=lambda s: s):
    """d score / d picture for each picture's class."""
    x = x.clone().requires_grad_()
    return torch.autograd.grad(score(net(x))[range(len(c)), c].sum(), x)[0]


@torch.no_grad()
def prediction(net, x, c, direction, w):
    """True and predicted change of the score, for each strength (rows) and picture (columns)."""
    before, true, predicted = net(x)[range(len(c)), c], [], []
    for level in levels:
        true.append(net(x + level * GREY * direction)[range(len(c)), c] - before)
        predicted.append(level * GREY * (w * direction).sum((1, 2, 3)))
    return torch.stack(true).numpy(), torch.stack(predicted).numpy()


def of_strength_one(d):
    return d / d.square().mean((1, 2, 3), keepdim=True).sqrt()


thirty = batch[:30]
w = gradients(network, thirty, labels[:30])
noise = torch.randn(thirty.shape, generator=torch.Generator().manual_seed(0))
along, along_said = prediction(network, thirty, labels[:30], of_strength_one(w), w)
aside, aside_said = prediction(network, thirty, labels[:30], of_strength_one(noise), w)

figure, axes = figures.new(1, 2, width=9.8, height=3.6)
for axis, true, said, title in ((axes[0], along, along_said, "along the gradient"),
                                (axes[1], aside, aside_said, "along noise")):  # fmt: skip
    middle = np.mean if axis is axes[0] else lambda v, axis: np.sqrt(np.square(v).mean(axis))
    axis.plot(levels, middle(said, 1), "--", color=figures.PALETTE[4], label="predicted, w · d")
    axis.plot(levels, middle(true, 1), "o-", color=figures.PALETTE[0], label="true")
    axis.set(title=title, xlabel="strength of d, grey levels of 255 (root mean square)", xscale="log")
    axis.set_xticks(levels, [f"{v:g}" for v in levels])
    axis.legend(loc="upper left")
axes[0].set(ylabel="change of the score, mean of 30")
axes[1].set(ylabel="size of the change, r.m.s.")
figures.show(
    figure,
    "Left: along the gradient, the predicted change grows in proportion; the true one follows at first, then flattens and "
    "falls back. Right: along noise both are a hundred times smaller, and the true change outgrows the prediction.",
)
error = np.median(np.abs(along - along_said) / along_said, 1)
for level, e, t, p in zip(levels, error, along.mean(1), along_said.mean(1), strict=True):
    print(f"{level:5g} grey levels along the gradient: predicted {p:+.2f}, true {t:+.2f}, median error {e:.0%}")

# %% [markdown]
# Up to a tenth of a grey level the formula is right to within some five per cent. At one grey level, which nobody can
# see, it promises +1.0 and gets half of that; at three it promises +3 and nearly nothing comes: by then the picture
# has left the neighbourhood that the gradient described. So the answer to the prediction is no: one grey level, put
# where it hurts, is *not* small for this network. Put at random it does next to nothing (mind the axis on the right).
#
# A saliency map is exact, then, about changes far too small to see. What it tells about the object is another
# question.

# %% [markdown]
# ## Real pictures
#
# What does it look like? (Black is 0, the brightest colour is the 99 % quantile of each map, so that one pixel in a
# hundred is clipped; each map has its own scale.)

# %%
from xailab.lessons import saliency as lesson

maps = saliency(network, batch, labels)
chosen = [2, 1, 4, 7]
panels = [unseen[i].image for i in chosen] + [lesson.glow(maps[i]) for i in chosen]
figures.show(
    figures.grid(panels, [scenes.CLASSES[labels[i]] for i in chosen] + ["saliency"] * 4, columns=4, panel=1.6),
    "Four scenes and below each its saliency: bright grains that gather on and around the object, and scattered grains "
    "elsewhere.",
)
masks = torch.from_numpy(np.stack([s.masks[0] for s in unseen]))


def share_on(maps, masks):
    """Mean share of the maps' total that lies on the masks."""
    maps = maps.double()
    return float(((maps * masks).sum((1, 2)) / maps.sum((1, 2))).mean())


print(f"on the object: {share_on(maps, masks):.0%} of the saliency, {masks.double().mean():.0%} of the area")

# %% [markdown]
# The grains gather on the object, 41 % of them on 18 % of the area, and more than half lie elsewhere. No outline, no
# part is drawn; this is a cloud, not a segment, whatever name it goes by. Two things about it deserve a measurement.
# Does it matter how the three channels are joined? And is the grain a property of the picture, or noise?

# %%
from scipy.stats import spearmanr


def rank_correlation(a, b):
    """Mean over the first 20 pairs of maps."""
    pairs_of_maps = zip(a[:20], b[:20], strict=True)
    return float(np.mean([spearmanr(x.flatten(), y.flatten()).statistic for x, y in pairs_of_maps]))


w = gradients(network, batch[:20], labels[:20])
assert torch.allclose(w.abs().amax(1), maps[:20], atol=1e-6)
ways = {
    "max |w|, as in the paper": maps[:20],
    "mean |w|": w.abs().mean(1),
    "length of w": w.norm(dim=1),
    "|sum of w|, signs cancel": w.sum(1).abs(),
}
for name, way in ways.items():
    print(f"{name:26s} rank correlation with the first {rank_correlation(way, maps):.2f}, "
          f"on the object {share_on(way, masks[:20]):.0%}")  # fmt: skip

two_grey = 2 * GREY * torch.randn(batch.shape, generator=torch.Generator().manual_seed(1))
shaken = saliency(network, (batch + two_grey)[:20], labels[:20])
neighbours = np.corrcoef(w[..., :-1].flatten(), w[..., 1:].flatten())[0, 1]
with torch.no_grad():
    same = bool((network(batch + two_grey).argmax(1) == torch.tensor(labels)).all())
print(
    f"\nafter noise of 2 grey levels: same answers: {same}, rank correlation of the maps {rank_correlation(shaken, maps):.2f}"
)
print(f"correlation of a weight with its right neighbour's: {neighbours:.2f}")

# %% [markdown]
# Mean, length or maximum: the pixels are ranked nearly alike (0.98 and more). Only where channels may cancel does the
# ranking change, although just as much lies on the object. The maximum is a convention, the absolute value is not.
#
# The grain is noise of the gradient: two grey levels of noise change no answer at all, and yet they reshuffle the
# pixels (0.84). Neighbouring weights have little to do with each other (0.22), so that no single pixel of such a map
# should be read; a region may.
#
# ### One picture, several classes
#
# Saliency can be asked about any class, also one that is not there. A cat and a dog in one picture: **does the map
# for "cat" leave the dog alone?**

# %%
cat, dog, mug = (scenes.CLASSES.index(name) for name in ("cat", "dog", "mug"))
pairs = [scenes.scene(i, kind="pair", label=(cat, dog), split="test", size=128) for i in range(24)]
asked = saliency(network, network.preprocess([s.image for s in pairs]), [[cat, dog, mug]] * 24)  # (24, 3, 128, 128)
on_cat, on_dog = (torch.from_numpy(np.stack([s.masks[k] for s in pairs])) for k in (0, 1))

panels, titles = [], []
for i in (2, 6):
    panels += [pairs[i].image, *(lesson.glow(m) for m in asked[i])]
    titles += ["picture", "“cat”", "“dog”", "“mug”, absent"]
figures.show(
    figures.grid(panels, titles, columns=4, panel=1.5),
    "Two scenes with a cat and a dog and the saliency for cat, for dog and for the absent mug: all three maps glow on "
    "both animals.",
)
for name, k in (("cat", 0), ("dog", 1), ("mug", 2)):
    print(f"“{name}”: {share_on(asked[:, k], on_cat):.0%} on the cat, {share_on(asked[:, k], on_dog):.0%} on the dog")
print(f"rank correlation: cat with dog {rank_correlation(asked[:, 0], asked[:, 1]):.2f}, "
      f"cat with mug {rank_correlation(asked[:, 0], asked[:, 2]):.2f}")  # fmt: skip

# %% [markdown]
# It does not leave the dog alone: the map for "cat" lies on the dog even more than on the cat, and the other way
# round. Asked for a mug, which is nowhere, it shows the same two animals. This is what the definition says: without
# its sign, the gradient marks where a change would move the score up *or down*, and making the dog less of a dog
# makes the picture more of a cat. Saliency finds what matters to the network's decision as a whole. For "where is
# the cat?", take Grad-CAM (Lesson 03).

# %% [markdown]
# ## Why the score and not the softmax
#
# Probabilities are easier to read. Why not differentiate $p_c$? Its derivative follows from the scores':
#
# $$\frac{\partial p_c}{\partial I} = p_c \Bigl(w_c - \sum_k p_k w_k\Bigr).$$
#
# Two things are wrong with it. As $p_c \to 1$ the bracket goes to $w_c - w_c = 0$: the surer the network, the smaller
# the gradient. And the bracket contains every other class: $p_c$ rises if *their* scores fall.
#
# We measure both, and bring in a second network. `scenes_robust` has the same architecture and learnt from the same
# kind of pictures, but each was first *disturbed*, so as to mislead the network as much as possible within a small
# distance. What it learnt had to survive that. **Predict:** for a picture with $p_c = 0.999$, how much of the
# gradient is left?

# %%
robust = zoo.load("scenes_robust")
networks = {"ordinary": network, "robust": robust}
accuracy = {name: zoo.manifest()[name]["results"]["single_top1"] for name in ("scenes_resnet", "scenes_robust")}
print("unseen scenes named right:", ", ".join(f"{name} {share:.1%}" for name, share in accuracy.items()))

seen = {name: net.preprocess([s.image for s in unseen]) for name, net in networks.items()}
doubt, ratio = {}, {}
for name, net in networks.items():
    x, c = seen[name][:30], labels[:30]
    on_score, on_p = (gradients(net, x, c, f) for f in (lambda s: s, lambda s: s.softmax(1)))
    ratio[name] = on_p.flatten(1).norm(dim=1) / on_score.flatten(1).norm(dim=1)
    with torch.no_grad():
        doubt[name] = 1 - net(x).softmax(1)[range(30), c]

figure, axis = figures.new(width=7.6, height=3.5)
for (name, x), colour, marker in zip(doubt.items(), (1, 0), "os", strict=True):
    axis.loglog(x, ratio[name], marker, color=figures.PALETTE[colour], label=name)
ends = np.array([min(float(x.min()) for x in doubt.values()), 1.0])
axis.loglog(ends, ends, ":", color="black", linewidth=1.5, label="1 − p itself")
axis.set(title="What is left of the gradient", xlabel="1 − p of the picture's class",
         ylabel="|∂p / ∂I|  /  |∂S / ∂I|")  # fmt: skip
axis.legend()
figures.show(
    figure,
    "Log-log scatter for thirty pictures and two networks: the length of the probability's gradient over that of the score's "
    "lies close to the line 1 − p, down to its left end.",
)
surest = int(doubt["robust"].argmin())
print(f"surest picture of the robust network: p = {1 - doubt['robust'][surest]:.4f}, "
      f"left of the gradient: {ratio['robust'][surest]:.4f}")  # fmt: skip

# %% [markdown]
# The points of sure pictures lie on the line: at $p = 0.999$ a thousandth of the gradient is left. That would not
# matter for one picture, whose map has its own scale anyway; it makes maps of different pictures incomparable, and
# an ascent on $p$ slow just when it succeeds. (The ordinary network's points are bunched: it was trained with
# softened targets, which keep it from being surer.)
#
# Now the other classes. We take a picture of a dog and climb towards "cat", once on the score and once on the
# probability, 40 steps of the same length along the gradient. **Predict:** what happens to the score of "dog", and
# which of the two pictures is a cat to the network in the end?


# %%
def climb(net, x, c, objective, steps=40, length=1.5):
    """Steps of one length along the gradient of the objective; returns the picture and the scores on the way."""
    trail = []
    for _ in range(steps):
        x = x.detach().requires_grad_()
        scores = net(x)
        (g,) = torch.autograd.grad(objective(scores)[0, c], x)
        x = x.detach() + length * g / g.norm()
        trail.append(scores[0].detach())
    return x, torch.stack(trail)


start = labels.index(dog)
begin = robust.preprocess(unseen[start].image)
figure, axes = figures.new(1, 5, width=11.5, height=2.6, width_ratios=[1, 1, 1.15, 1, 1.15])
figures.picture(axes[0], unseen[start].image, "start: a dog")
climbed = {}
for i, (name, objective) in enumerate((("score", lambda s: s), ("probability", lambda s: s.softmax(1)))):
    x, trail = climb(robust, begin, cat, objective)
    climbed[name] = trail
    figures.picture(axes[1 + 2 * i], robust.preprocess.undo(x)[0], f"up cat's {name}")
    axes[2 + 2 * i].plot(trail[:, cat], color=figures.PALETTE[0], label="cat")
    axes[2 + 2 * i].plot(trail[:, dog], "--", color=figures.PALETTE[4], label="dog")
    axes[2 + 2 * i].set(title="scores on the way", xlabel="step", ylim=(-5, 11))
    axes[2 + 2 * i].legend(fontsize=9, loc="lower right" if name == "score" else "upper right")
figures.show(
    figure,
    "A dog, and the same picture after climbing the score of cat, and the probability of cat. Climbing the score lifts the "
    "cat's curve, and the dog's a little; climbing the probability presses the dog's curve down.",
)
for name, trail in climbed.items():
    for step in (5, 39):
        change = trail[step] - trail[0]
        print(f"up the {name:11s}, after {step:2d} steps: cat {change[cat]:+.1f}, dog {change[dog]:+.1f}, "
              f"p(cat) {trail[step].softmax(0)[cat]:.2f}")  # fmt: skip

# %% [markdown]
# Climbing the score lifts the cat most, and the dog along with it: fur, ears and four legs speak for both, and the
# network still calls the picture a dog. Climbing the probability gains less for the cat and presses the dog down by
# two thirds as much: a good part of what you would see in that picture is *un-dogging*. That is the paper's reason
# (its Section 2): a posterior can be raised by lowering the scores of the other classes, and the picture is to show
# the one class. Yet for another question, "what makes it a cat *rather than* a dog?", the probability is the right
# thing to climb.
#
# ## SmoothGrad
#
# If the gradient flickers from one picture to the next that looks the same, average it over such pictures
# (Smilkov et al. 2017):
#
# $$\hat w = \frac{1}{n} \sum_{i=1}^{n} \left.\frac{\partial S_c}{\partial I}\right|_{I_0 + \varepsilon_i}, \qquad
# \varepsilon_i \sim \mathcal N\bigl(0, (\sigma \cdot (\max I_0 - \min I_0))^2\bigr) .$$
#
# $\sigma$ is a standard deviation, as a share of the picture's range. (Some code takes it for a variance: then 0.15
# means a standard deviation of 0.39 of the range.) The gradients are averaged *with* their signs, so that what
# flickers cancels. The paper recommends 10 % to 20 % and about 50 samples. **Predict:** what else does the noise do,
# besides averaging?

# %%
from xailab.saliency import smooth_grad

sigmas = [0.0, 0.05, 0.1, 0.2]
few = 4
truth_of_few = torch.from_numpy(np.stack([s.masks[0] for s in unseen[:few]]))


def noisy(x, sigma):
    """A copy of each picture with noise of SmoothGrad's strength."""
    spread = sigma * (x.amax((1, 2, 3), keepdim=True) - x.amin((1, 2, 3), keepdim=True))
    return x + spread * torch.randn(x.shape, generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def named_right(net, x, sigma):
    """Share of noisy copies that the network still names right."""
    return float((net(noisy(x, sigma)).argmax(1) == torch.tensor(labels[: len(x)])).float().mean())


strips, mass, alike, right = {}, {}, {}, {}
for name, net in networks.items():
    x = seen[name][:few]
    strips[name], mass[name], alike[name], right[name] = [], [], [], []
    for sigma in sigmas:
        options = {"sigma": sigma, "samples": 4 if sigma else 1}
        first, second = (smooth_grad(net, x, labels[:few], seed=seed, **options) for seed in (0, 1))
        strips[name].append(first[2])
        mass[name].append(share_on(images.upsample(first, 128), truth_of_few))
        alike[name].append(rank_correlation(first, second))
        right[name].append(named_right(net, seen[name][:30], sigma))

figure, axes = figures.new(3, len(sigmas), width=5.8, height=4.1)
for i, sigma in enumerate(sigmas):
    given = network.preprocess.undo(noisy(batch[2:3], sigma))[0]
    figures.picture(axes[0, i], given, f"σ = {sigma:g}" if sigma else "no noise")
    for row, name in enumerate(networks, 1):
        figures.picture(axes[row, i], lesson.glow(strips[name][i]))
for axis, name in zip(axes[:, 0], ("what it is\nshown", "ordinary\nnetwork", "robust\nnetwork"), strict=True):
    axis.text(-0.08, 0.5, name, transform=axis.transAxes, ha="right", va="center")
figures.show(
    figure,
    "An umbrella with more and more noise, and below it SmoothGrad for two networks. For the ordinary one the umbrella's "
    "grains give way to scattered noise from 0.1 on; for the robust one they stay in place for longer.",
    pixels=figures.SCREEN,
)

figure, axes = figures.new(1, 3, width=10.4, height=3.2)
for axis, values, title in zip(
    axes,
    (mass, alike, right),
    ("share on the object", "two seeds agree (rank corr.)", "noisy pictures named right"),
    strict=True,
):
    for (name, line), colour, marker in zip(values.items(), (1, 0), "os", strict=True):
        axis.plot(range(len(sigmas)), line, marker=marker, color=figures.PALETTE[colour], label=name)
    axis.set(title=title, xlabel="σ, share of the range", ylim=(0, 1.05))
    axis.set_xticks(range(len(sigmas)), [f"{s:g}" for s in sigmas])
axes[0].axhline(float(truth_of_few.double().mean()), color="black", linestyle=":", linewidth=1.5, label="object's area")
axes[0].legend(loc="upper right")
figures.show(
    figure,
    "Three panels against sigma. For the ordinary network the share on the object falls, and its accuracy on noisy "
    "pictures collapses; the robust network's curves fall slowly or stay.",
)

# %% [markdown]
# Look at the right panel first. The ordinary network reads pictures with 5 % of noise, but at the recommended 20 %,
# where we see the umbrella as well as before, it names one picture in five right: its SmoothGrad then explains,
# smoothly, a network that does not know what it sees, and less of it lies on the object. The robust network can read
# all of these pictures, and its maps stand more noise. So the noise is not only averaged: it is also *shown to the
# network*, which has to have learnt to live with it.
#
# Two seeds agree less the more noise there is: with four samples, the average is itself noisy. How many are needed?

# %%
counts = [1, 4, 16]
agreement = []
for n in counts:
    one, other = (smooth_grad(network, batch[:2], labels[:2], sigma=0.05, samples=n, seed=seed) for seed in (3, 4))
    agreement.append(rank_correlation(one, other))
print(
    "two seeds, σ = 0.05, rank correlation:",
    ", ".join(f"{n} samples {a:.2f}" for n, a in zip(counts, agreement, strict=True)),
)

# %% [markdown]
# Each fourfold number of samples brings the two seeds closer; the price is a backward pass each. Agreement is a
# reason to trust the average, not what it is an average of.

# %% [markdown]
# ## Class models
#
# The other question: which picture would the network like best? Climb on the *picture*, with the weights frozen
# (Section 2 of the paper):
#
# $$I^* = \operatorname*{argmax}_I \; S_c(I) - \lambda \lVert I \rVert^2 .$$
#
# $I$ is the normalised picture, so $I = 0$ is mid-grey here, and the penalty prefers a calm picture to a loud one.
# Where the score is linear, the best picture can be written down: the derivative $w - 2 \lambda I$ is zero at
#
# $$I^* = \frac{w}{2 \lambda} .$$
#
# The class model of a linear network is its weights, drawn. Does gradient ascent find it?

# %%
from xailab.class_model import class_model

linear = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 2))
for l2 in (0.5, 0.05):
    found = class_model(linear, [0, 1], size=4, steps=60, lr=0.4 / l2, l2=l2, optimizer="ascent", progress=False)
    w_linear = linear[1].weight.detach().view(2, 3, 4, 4)
    assert torch.allclose(found.images, w_linear / (2 * l2), atol=1e-5)
print("60 steps of ascent end at w / (2 λ), for both λ: True")

# %% [markdown]
# ### What λ does
#
# Now a network, the robust one first: a mug, with four values of λ. **Predict:** what does λ → 0 do?

# %%
side = 72  # pixels
spots = lesson.soft_spots(1, side, 2)  # where the climb begins: faint, soft spots of colour
lambdas = [1e-2, 3e-3, 1e-3, 0.0]
rows, loud, height = [], [], []
for l2 in lambdas:
    found = class_model(robust, mug, size=side, steps=30, lr=0.08, l2=l2, start=spots, progress=False)
    rows.append(robust.preprocess.undo(found.images)[0])
    loud.append(float(found.images.square().mean().sqrt() * robust.preprocess.std[0] * 255))
    with torch.no_grad():
        height.append(float(robust(found.images)[0, mug]))
figures.show(
    figures.strip(rows, [f"λ = {l2:g}: score {s:.0f}" for l2, s in zip(lambdas, height, strict=True)], panel=1.8),
    "Four class models of the mug with lambda falling from left to right: from pale on grey to loud and garish.",
)
print("contrast, grey levels (r.m.s., to the nearest 5):", [5 * round(v / 5) for v in loud])

# %% [markdown]
# The score pulls outwards, the penalty back. The larger λ, the paler the picture: only what raises the score most
# is worth its price. With λ → 0 nothing holds the picture, and its contrast grows as long as you climb: louder,
# with a higher score, and no clearer. λ has to be found anew for each network and size, because score and penalty
# are in different units (score, and squared pixel values added up over the picture).

# %% [markdown]
# ### The way of the tutorials, and what rounding does
#
# Much code for class models follows one recipe: start from random pixels, take 149 steps of plain gradient ascent
# with the learning rate 20, and after *each* step turn the image into an 8-bit picture and back. (The penalty of
# the formula is not in that code at all.) Here are its first 60 steps. **Predict:** what is lost when a picture is
# rounded to whole grey levels after each step?


# %%
def tutorial(net, c, rate, rounding, steps=60, size=64):
    """Ascent on pictures of grey levels 0 to 255, one for each rate and whether to round (lists of length n).

    Returns the pictures, their scores (steps, n) and the share of values that rounding held back (steps, n).
    """
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (net.preprocess.mean, net.preprocess.std))
    rate, rounding = torch.tensor(rate).view(-1, 1, 1, 1), torch.tensor(rounding).view(-1, 1, 1, 1)
    begin = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (3, size, size))).float()
    pixels, scores, held = begin.repeat(len(rate), 1, 1, 1), [], []
    for _ in range(steps):
        x = ((pixels / 255 - mean) / std).requires_grad_()
        score = net(x)[:, c]
        (w,) = torch.autograd.grad(score.sum(), x)
        exact = (255 * ((x.detach() + rate * w) * std + mean)).clamp(0, 255)
        new = torch.where(rounding, exact.round(), exact)
        scores.append(score.detach())
        held.append(((new == pixels) & (exact != pixels)).float().mean((1, 2, 3)))
        pixels = new
    return pixels.round().byte().permute(0, 2, 3, 1).numpy(), torch.stack(scores).numpy(), torch.stack(held).numpy()


ways_up = [(20.0, True), (20.0, False), (0.3, True), (0.3, False)]
names = [f"rate {rate:g}, {'rounded' if rounding else 'exact'}" for rate, rounding in ways_up]
ends, climbs, held = tutorial(robust, mug, *(list(v) for v in zip(*ways_up, strict=True)))
figures.show(
    figures.strip([*ends, rows[2]], [*names, "soft start, with λ"], panel=1.5),
    "Five class models of a mug. Four from random pixels remain covered with coloured noise; the last, from a soft start with "
    "the penalty, is calm.",
)
figure, axes = figures.new(1, 2, width=10.4, height=3.2)
for k, (rate, rounding) in enumerate(ways_up):
    colour, line = figures.PALETTE[0 if rate == 20 else 1], "-" if rounding else "--"
    axes[0].plot(climbs[:, k], line, color=colour, label=names[k])
    if rounding:
        axes[1].plot(100 * held[:, k], line, color=colour)
axes[0].set(title="The score as it is climbed", xlabel="step", ylabel="score of “mug”")
axes[1].set(title="Lost in rounding", xlabel="step", ylabel="values put back, %", ylim=(0, 103))
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
figures.show(
    figure,
    "Left: score against step; rounding hardly matters at rate 20, but at rate 0.3 the rounded run stays near where it "
    "began while the exact one climbs. Right: share of values that rounding puts back, nearly all at rate 0.3.",
)
for k in (0, 2):
    print(f"rate {ways_up[k][0]:4g}: rounding undoes {held[:, k].mean():.0%} of all updates; score after 60 steps "
          f"{climbs[-1, k]:.1f}, exact {climbs[-1, k + 1]:.1f}")  # fmt: skip

# %% [markdown]
# What is lost are all steps smaller than half a grey level: the value is put back to where it was, and the next
# step starts from nothing. At the rate 20 that still undoes about a third of the updates, but the large ones get
# through, and the score hardly suffers. At 0.3 almost all is lost, and the score stays well below the exact one. So
# the rounding does no harm *only because* the rate is so high, and whoever lowers the rate to get a calmer picture
# finds that hardly anything moves any more. The random pixels of the start never go away either: no penalty pulls
# them to grey. Keep the image in floating point and round once, for the file.

# %% [markdown]
# ### The tricks, one by one
#
# Ten years of work have gone into making class models pretty. Each row below adds *one* trick to the plain ascent
# (Adam, λ = 0.001, 20 steps): pixels kept between black and white; random shifts before each look; random turns and
# scales; a slight blur every fourth step; ascent on Fourier coefficients, which move the whole picture at once;
# decorrelated colours, which make the changes of colour likelier that are common in pictures. **Predict:** which of
# them change the picture most?

# %%
from xailab.class_model import Affine, Blur, Clip, Jitter, colour_root

pictures = torch.from_numpy(np.stack([scenes.scene(i, split="train", size=64).image for i in range(24)]))
root = colour_root(pictures, robust.preprocess)
table = {
    "plain": {},
    "clip": {"projections": [Clip(robust.preprocess)]},
    "jitter": {"transforms": [Jitter(4)]},
    "turn, zoom": {"transforms": [Affine(degrees=8, scale=0.1)]},
    "blur": {"projections": [Blur(sigma=0.7, every=4)]},
    "Fourier": {"parametrisation": "fourier", "lr": 0.03},
    "colours": {"decorrelate": root},
}
shown = [scenes.CLASSES.index(name) for name in ("mug", "butterfly")]
cells = {}
for name, options in table.items():
    options = {"lr": 0.08, **options}
    found = class_model(
        robust, shown, size=side, steps=20, l2=1e-3, start=spots.expand(2, -1, -1, -1), progress=False, **options
    )
    cells[name] = robust.preprocess.undo(found.images)

# %% tags=["exempt"]
figure, axes = figures.new(len(shown), len(table), width=9.4, height=3.0)
for row, c in enumerate(shown):
    for column, name in enumerate(table):
        figures.picture(axes[row, column], cells[name][row], name if row == 0 else None)
    axes[row, 0].text(
        -0.06, 0.5, scenes.CLASSES[c], transform=axes[row, 0].transAxes, rotation=90, ha="right", va="center"
    )
figures.show(
    figure,
    "A table of class models: two classes by seven ways. Plain ascent has fine-grained texture; turns, blur and Fourier "
    "give calmer pictures with larger forms.",
)

# %% [markdown]
# Clipping changes little here: the penalty keeps most pixels inside. Shifts, turns and scales ask for a picture
# whose score survives them, so that its forms get larger and rounder. Blur takes the fine grain away. Fourier
# coefficients move the whole picture at once and bring stronger contrast; decorrelated colours change the tints.
# None of them knows anything about mugs or butterflies. But each is a preference of *ours* for certain pictures,
# laid upon the network's: the more of them, the prettier, and the less it is the network's own.

# %% [markdown]
# ### All ten, twice
#
# Now everything together, for all ten classes, and for both networks with the same options. A climb may end on a low
# hill, so each class starts three times, and we keep the picture of which the network is surest. The ten classes are
# bird, butterfly, car, cat, dog, fish, mug, rocket, sailboat and umbrella. Before you read on:
# **cover the text below the picture and say which is which.**

# %%
together = dict(size=60, l2=3e-4, transforms=[Jitter(5), Affine(degrees=6, scale=0.2)], progress=False)


def poster_of(net, starts, steps):
    """Class models of all ten classes: of several starts each, the one of which the network is surest."""
    spots = lesson.soft_spots(10 * starts, 60, 2)
    options = {"steps": steps, "start": spots, "projections": [Clip(net.preprocess)], **together}
    images = class_model(net, [*range(10)] * starts, **options).images
    with torch.no_grad():
        sure = net(images).softmax(1)[range(10 * starts), [*range(10)] * starts].view(starts, 10)
    return images.view(starts, 10, *images.shape[1:])[sure.argmax(0), range(10)]


poster = {"robust": poster_of(robust, 3, 80), "ordinary": poster_of(network, 1, 80)}
shuffled = np.random.default_rng(77).permutation(10)
figures.show(
    figures.grid(
        list(robust.preprocess.undo(poster["robust"][shuffled])),
        [f"{i + 1}" for i in range(10)],
        columns=5,
        title="what the robust network draws",
        panel=1.8,
    ),
    "Ten class models of the robust network, in mixed order, numbered and not named.",
    pixels=figures.SCREEN,
)

# %%
print("in order:", ", ".join(f"{i + 1} {scenes.CLASSES[c]}" for i, c in enumerate(shuffled)))

# %% tags=["exempt"]
figures.show(
    figures.grid(
        list(network.preprocess.undo(poster["ordinary"][shuffled])),
        [scenes.CLASSES[c] for c in shuffled],
        columns=5,
        title="what the ordinary network draws, same options, same order",
        panel=1.2,
    ),
    "Ten class models of the ordinary network, with their names: dense coloured texture in which no object can be made out.",
    pixels=figures.SCREEN,
)

# %%
for name, net in networks.items():
    with torch.no_grad():
        scores = net(poster[name])
        real = net(seen[name])
    own = scores.diagonal()
    print(f"{name:9s} median score of its ten class models {own.median():.0f}, of real pictures "
          f"{real[range(60), labels].median():.0f}; median probability of a class model "
          f"{scores.softmax(1).diagonal().median():.2f}")  # fmt: skip

at_one = int(np.flatnonzero(levels == 1)[0])
x, truth_30 = seen["robust"][:30], labels[:30]
w_robust = gradients(robust, x, truth_30)
true, said = prediction(robust, x, truth_30, of_strength_one(w_robust), w_robust)
error_robust = np.median(np.abs(true - said) / said, 1)
print(
    f"Taylor's prediction at one grey level, median error: ordinary {error[at_one]:.0%}, robust {error_robust[at_one]:.0%}"
)

# %% [markdown]
# How many did you name? In a small trial (not part of this run) two viewers who had only such a picture and the ten
# names got eight of ten, and took the cat for the dog and the dog for the cat. Another viewer, who had no list, named
# sailboat, umbrella, butterfly and cup at the first guess, and a car at the second. The list helps: you see what you
# look for, and that is a trap of its own. From the ordinary network, with the same architecture and options, comes
# texture, although it is the more accurate of the two.
#
# Both networks are small, and both are right on nearly every scene. They differ in what they were *taught*: one may
# use any pattern that goes with a class, however faint; the other was punished for each pattern that a small
# disturbance can reverse, and what is left for it are the large forms that we use too (Engstrom et al. 2019 found the
# same on photographs). Taylor's prediction holds better for it as well. An unrecognisable class model is then no
# failure of the ascent: it is an answer, and it says what the network listens to.

# %% [markdown]
# ## From saliency to a segment
#
# Saliency lights up what tells the class apart, an edge here, an eye there; the object is more than that. The paper
# (Section 3.2) lets *colour* fill the rest. Pixels above the 95 % quantile of the map are surely the object, those
# below the 30 % quantile surely not; both give colour models; a graph cut decides on what lies between, preferring
# borders along edges; the largest connected component is the segment. How good is it?

# %%
from xailab.boxes import iou
from xailab.cam import class_activation_map
from xailab.localization import boxes, grabcut, ground_truth_box

small = [scenes.scene(i, split="test", size=96) for i in range(24)]  # the same, smaller: a cut takes time
truth, named = [s.masks[0] for s in small], labels[:24]
sources = {
    "saliency, ordinary": maps,
    "SmoothGrad, ordinary": smooth_grad(network, batch[:24], named, sigma=0.15, samples=4),
    "saliency, robust": saliency(robust, seen["robust"][:24], named),
    "CAM, ordinary": class_activation_map(network, batch[:24], named),
}
sources = {name: images.upsample(m[:24], 96) for name, m in sources.items()}
segments = {
    name: [grabcut(s.image, m, rounds=2) for s, m in zip(small, maps_96, strict=True)]
    for name, maps_96 in sources.items()
}
cut = {
    name: np.array([lesson.overlap(a, b) for a, b in zip(found, truth, strict=True)])
    for name, found in segments.items()
}


def threshold_iou(maps, quantile):
    """Plain thresholding: all pixels above a quantile of their map."""
    return np.array([iou((m >= m.flatten().quantile(quantile)).numpy(), t) for m, t in zip(maps, truth, strict=True)])


def box_hits(found):
    """Share of boxes with an IoU of at least 0.5 with the true box."""
    return float(np.mean([iou(a, ground_truth_box(t)) >= 0.5 for a, t in zip(found, truth, strict=True)]))


def box_of(masks):
    return [ground_truth_box(m) if m.any() else ground_truth_box(np.ones_like(m)) for m in masks]


top = {name: [(m >= m.flatten().quantile(0.95)).numpy() for m in maps_96] for name, maps_96 in sources.items()}
plain = {name: max(threshold_iou(m, q).mean() for q in (0.7, 0.75, 0.8, 0.85, 0.9)) for name, m in sources.items()}
print(f"{'24 unseen scenes, mean IoU':28s}  top 5 %  best threshold  GrabCut   box hits: top 5 %  GrabCut")
for name, m in sources.items():
    print(f"{name:28s}  {threshold_iou(m, 0.95).mean():7.2f}  {plain[name]:14.2f}  {cut[name].mean():7.2f}  "
          f"{box_hits(box_of(top[name])):17.2f}  {box_hits(box_of(segments[name])):7.2f}")  # fmt: skip
cam_boxes = [boxes(m, 0.45)[0] for m in sources["CAM, ordinary"]]
print(f"box of the CAM at 45 % of its maximum (Lesson 03's choice), hits: {box_hits(cam_boxes):.2f}")
print("published: 46.4 % top-5 localisation error on ILSVRC-2013 photographs (Simonyan et al. 2013; not ours)")

# %%
order = np.argsort(cut["saliency, robust"])
panels, titles = [], []
for i in order[[-1, 0, -4, 3]]:
    panels += [small[i].image, lesson.draw_seeds(small[i].image, sources["saliency, robust"][i])]
    panels += [lesson.cut_out(small[i].image, segments["saliency, robust"][i])]
    titles += [scenes.CLASSES[labels[i]], "seeds", f"segment, IoU {cut['saliency, robust'][i]:.2f}"]
figures.show(
    figures.grid(
        panels,
        titles,
        columns=6,
        title="seeds: orange is surely the object, blue surely not, grey is for the cut to decide",
        panel=1.6,
    ),
    "Four scenes, each with its seeds and its segment. The two segments on the left fit the object closely; the two on the "
    "right leave parts of it out or include background.",
    pixels=figures.SCREEN,
)

# %%
figure, axis = figures.new(width=8.6, height=3.7)
axis.boxplot(
    list(cut.values()),
    orientation="horizontal",
    tick_labels=list(cut),
    widths=0.55,
    medianprops={"color": figures.PALETTE[1], "linewidth": 2.5},
)
axis.plot(
    list(plain.values()), range(1, 5), "D", color=figures.PALETTE[0], markersize=9, label="best plain threshold, mean"
)
axis.invert_yaxis()
axis.set(title="GrabCut against the true mask, 24 scenes", xlabel="IoU", xlim=(0, 1))
figure.legend(loc="outside lower right")
figures.show(
    figure,
    "Box plots of the IoU of GrabCut segments from four maps, with the best plain threshold as a diamond: the cut is "
    "clearly better for all but SmoothGrad.",
)

# %% [markdown]
# Thresholding alone reaches about 0.4 with either saliency: a cloud of grains is no object, wherever it is cut.
# With colour to fill in, the same maps give 0.6 to 0.7 and come close to the cut from a CAM, and their boxes hit
# more often than the CAM's own. SmoothGrad at the usual 15 % is the one that does harm, for the reason that we saw.
# And the robust network's grains make the better seeds.
#
# The failures on the right begin in the seeds: orange pixels *beside* the object teach the cut that what lies there
# is object, too, and where no blue seed says otherwise it takes a piece along, or leaves a piece out. The
# successes owe as much to colour: few colours, and others than around them. A good segment therefore says little
# about what the network saw; it adds to the map what is true of *pictures*.

# %% [markdown]
# ## Where it fails
#
# **A flat score.** Let a score be $1 - \operatorname{ReLU}(1 - x)$: it rises up to $x = 1$ and stays. What is the
# saliency of $x = 2$, which is all the evidence there is?


# %%
import warnings

from xailab.targets import ZeroGradient


class Saturating(nn.Module):
    def forward(self, x):
        return (1 - torch.relu(1 - x)).flatten(1)


warnings.simplefilter("ignore", ZeroGradient)  # the library warns of a gradient that is zero everywhere
for x in (0.5, 2.0):
    at = torch.full((1, 1, 1, 1), x)
    print(f"x = {x}: score {Saturating()(at).item():.1f}, saliency {saliency(Saturating(), at, 0).item():.0f}; "
          f"without it the score would be {Saturating()(0 * at).item():.1f}")  # fmt: skip

# %% [markdown]
# Zero, although nothing else holds the score up. A derivative answers "what if it changed a little", never "what is
# it made of".
#
# **One of many.** A class model is *a* maximum, not the maximum. Where the climb begins decides where it ends.

# %%
inside = [Clip(robust.preprocess)]
begun = class_model(robust, [mug] * 4, steps=60, start=lesson.soft_spots(4, 60, 0), projections=inside, **together)
figures.show(
    figures.strip(
        list(robust.preprocess.undo(begun.images)),
        [f"start {i + 1}: score {s:.0f}" for i, s in enumerate(begun.scores[-1].tolist())],
        panel=1.7,
    ),
    "Four class models of the mug from four random starts: mugs of different places, sizes and tilts.",
)
flat_again = begun.images.flatten(1)
print(f"scores {begun.scores[-1].min():.0f} to {begun.scores[-1].max():.0f}; correlation of the four pictures' pixels: "
      f"{np.corrcoef(flat_again)[np.triu_indices(4, 1)].mean():.1f} on average")  # fmt: skip

# %% [markdown]
# Other starts, other mugs, all with a high score, and pixel by pixel they have little in common. To say "this is how
# the network imagines a mug" takes several of them. And mind their scores: they are far above those of real pictures.
# What maximises a score is a caricature, not a typical member of the class.

# %% [markdown]
# ## Explorer 1: class models
#
# Its picture first, then the controls. Try the ordinary network; switch all tricks off; λ = 0.

# %%
figures.show(
    lesson.draw_class_model(robust, mug, names=("clip", "jitter", "turn and zoom")),
    "The explorer's picture: two snapshots and the final class model of the mug, and the rising curve of its score.",
)

# %%
lesson.class_model_explorer({"robust": robust, "ordinary": network})

# %% [markdown]
# ## Explorer 2: the seeds of the cut
#
# How sure must a pixel be to count as the object? Move both quantiles towards each other and away.

# %%
figures.show(
    lesson.draw_segment(robust, unseen[1].image, unseen[1].masks[0], labels[1]),
    "The explorer's picture: a scene, its saliency, the seeds in orange and blue, and the segment.",
)

# %%
lesson.segment_explorer({"robust": robust, "ordinary": network}, unseen[:12])

# %% [markdown]
# ## Exercises
#
# Write into the cell, run it, read what `check` says.

# %% [markdown]
# ### 05.1 Saliency
# *Difficulty 2 of 5, about 10 minutes.* Return the saliency maps of a batch (n, 3, h, w) for class `c`, shape
# (n, h, w), with `torch.autograd.grad` and without the library.
#
# <details><summary>Hint 1</summary>
#
# `images = images.clone().requires_grad_()` first: the caller's tensor stays as it was. Pictures of a batch do not mix,
# so the gradient of the *sum* of their scores is the gradient of each.
# </details>
# <details><summary>Hint 2</summary>
#
# `torch.autograd.grad(network(images)[:, c].sum(), images)[0]`, then `.abs()`, then `.amax(1)`.
# </details>

# %% tags=["exercise"]
from xailab.lessons import check


def my_saliency(network, images, c):
    return ...


check("05.1", my_saliency)

# %% tags=["solution"]
from xailab.lessons import check


def my_saliency(network, images, c):
    images = images.clone().requires_grad_()
    (w,) = torch.autograd.grad(network(images)[:, c].sum(), images)
    return w.abs().amax(1)


check("05.1", my_saliency)

# %% [markdown]
# ### 05.2 SmoothGrad
# *Difficulty 3 of 5, about 12 minutes.* `gradient_of(image)` returns the gradient (3, h, w) at a picture (3, h, w);
# `noise` holds n samples (n, 3, h, w) of a standard normal distribution. Return the SmoothGrad map (h, w) with
# `sigma` as a share of the picture's range.
#
# <details><summary>Hint</summary>
#
# The standard deviation is `sigma * (image.max() - image.min())`. Average the gradients; absolute value and maximum
# over the channels come last.
# </details>


# %% tags=["exercise"]
def my_smooth_grad(gradient_of, image, noise, sigma):
    return ...


check("05.2", my_smooth_grad)


# %% tags=["solution"]
def my_smooth_grad(gradient_of, image, noise, sigma):
    spread = sigma * (image.max() - image.min())
    w = sum(gradient_of(image + spread * each) for each in noise) / len(noise)
    return w.abs().amax(0)


check("05.2", my_smooth_grad)

# %% [markdown]
# ### 05.3 One step uphill
# *Difficulty 2 of 5, about 8 minutes.* `w` is the gradient of the score at `image`. Return the image after one step
# of gradient ascent on $S_c(I) - \lambda \lVert I \rVert^2$ with learning rate `rate`; `l2` is λ.
#
# <details><summary>Hint</summary>
#
# Differentiate the penalty by one pixel value: $\lambda x^2$ gives $2 \lambda x$.
# </details>


# %% tags=["exercise"]
def my_step(image, w, l2, rate):
    return ...


check("05.3", my_step)


# %% tags=["solution"]
def my_step(image, w, l2, rate):
    return image + rate * (w - 2 * l2 * image)


check("05.3", my_step)

# %% [markdown]
# ### 05.4 Seeds
# *Difficulty 2 of 5, about 8 minutes.* From a saliency map (a tensor) and two quantiles, return two boolean masks of
# its shape: what is surely the object, and what is surely not.
#
# <details><summary>Hint</summary>
#
# `heat.flatten().quantile(0.95)` is the value that 5 % of the pixels exceed.
# </details>


# %% tags=["exercise"]
def my_seeds(heat, foreground, background):
    return ...


check("05.4", my_seeds)


# %% tags=["solution"]
def my_seeds(heat, foreground, background):
    return heat >= heat.flatten().quantile(foreground), heat <= heat.flatten().quantile(background)


check("05.4", my_seeds)

# %% [markdown]
# ## On real data
#
# The same four photographs as in Lesson 02, with a network that learnt from a million. For each: the saliency of the
# network's first guess, SmoothGrad with 5 % of noise, and the cut. Its seeds come from SmoothGrad averaged over squares
# of 17 pixels: a region of such a map may be read, a pixel may not (some ten seconds, half a minute with VGG16). Look
# at the printed line as well: what does that little noise do to the network's answer? (A smoothed map is an average
# over such answers. Where they are no longer the network's own, it explains something else, and the cut with it.)

# %%
import torch
from torch.nn import functional as F

from xailab import figures
from xailab.lessons import real
from xailab.lessons import saliency as lesson
from xailab.localization import grabcut
from xailab.models import zoo
from xailab.saliency import saliency, smooth_grad


def averaged(maps):
    """The mean over squares of 17 x 17 pixels, in which single grains no longer count."""
    return F.avg_pool2d(maps[:, None], 17, stride=1, padding=8, count_include_pad=False)[:, 0]


if name := real.weights("vgg16", "squeezenet1_0"):
    network = zoo.load(name)
    batch = network.preprocess(real.photographs())
    probability, top = network(batch).detach().softmax(1).max(1)
    plain, smooth = saliency(network, batch, top), smooth_grad(network, batch, top, samples=4, sigma=0.05)
    panels, titles = [], []
    for i, photograph in enumerate(network.preprocess.undo(batch)):
        soft = averaged(smooth)[i]
        panels += [photograph, lesson.glow(plain[i]), lesson.glow(smooth[i])]
        panels += [lesson.draw_seeds(photograph, soft), lesson.cut_out(photograph, grabcut(photograph, soft))]
        titles += [f"{network.classes[top[i]]}: {probability[i]:.2f}", "saliency", "SmoothGrad", "seeds", "segment"]
    title = f"{name}; each map on its own scale; orange is surely the object, blue surely not"
    figures.show(
        figures.grid(panels, titles, columns=5, title=title, panel=2),
        "Photographs of a cat, a cup, a motorcycle and a rocket, each with saliency, SmoothGrad, seeds and segment.",
    )
    spread = 0.05 * (batch.amax((1, 2, 3), keepdim=True) - batch.amin((1, 2, 3), keepdim=True))
    noise = torch.randn(batch.shape, generator=torch.Generator().manual_seed(0))
    shaken = network(batch + spread * noise).detach().softmax(1)[range(4), top]
    print("probability of the first guess with noise:", ", ".join(f"{p:.2f}" for p in shaken))

# %% [markdown]
# And measured? Twenty cats and dogs of Oxford-IIIT Pet, cut out by the saliency of whatever the network names first
# (about half a minute with VGG16). The yardstick is the lazy answer: everything is the object.

# %%
import numpy as np

from xailab.boxes import iou
from xailab.localization import ground_truth_box

if real.here("oxford-pets") and (name := real.weights("vgg16", "squeezenet1_0")):
    network = zoo.load(name)
    batch, pictures, masks = real.pets(network.preprocess, 20)
    maps = averaged(torch.cat([saliency(network, part) for part in batch.split(4)]))
    whole = np.ones_like(masks[0])
    found = [grabcut(*pair, rounds=2) for pair in zip(pictures, maps, strict=True)]
    answers = {"the cut": [cut if cut.any() else whole for cut in found], "the whole picture": [whole] * len(masks)}
    for answer, cuts in answers.items():
        pairs = list(zip(cuts, masks, strict=True))
        of_segments = np.mean([iou(a, b) for a, b in pairs])
        of_boxes = np.mean([iou(ground_truth_box(a), ground_truth_box(b)) for a, b in pairs])
        print(f"{answer:17s}  mean IoU of the segment {of_segments:.2f}, of its box {of_boxes:.2f}")
    seen = pictures[:5]
    panels = [*seen, *(lesson.cut_out(*pair) for pair in zip(seen, answers["the cut"], strict=False))]
    figures.show(
        figures.grid(panels, columns=len(seen), title=f"{name}: cut out by saliency and colour"),
        "Photographs of cats and dogs, and below each the segment that was cut out of it.",
    )

# %% [markdown]
# What does a network that knows photographs want an espresso to look like? Fourier coefficients, shifts, turns and
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
# The tutorials' pair is CIFAR-10 and its class "dog". A network learns from four thousand of the photographs (about a
# minute); the printed accuracy says how much (chance is 0.10). What of a dog is in the pictures, and what of it is in
# the probabilities?

# %%
from torch.utils.data import DataLoader

from xailab.datasets import downloaded
from xailab.images import Preprocess

if real.here("cifar10"):
    preprocess = Preprocess(resize=64, mean=(0.49, 0.48, 0.45), std=(0.25, 0.24, 0.26))
    train, test = (downloaded.cifar10(split, preprocess=preprocess) for split in ("train", "test"))
    torch.manual_seed(0)
    loader = DataLoader([train[i] for i in range(min(4000, len(train)))], 64, shuffle=True)
    network = zoo.build("SmallResNet", num_classes=10)
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=4 * len(loader))
    for _ in range(4):
        for batch, labels in loader:
            loss = F.cross_entropy(network(batch), labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    network.eval().requires_grad_(False)
    unseen, labels = next(iter(DataLoader(test, 500)))
    right = (network(unseen).argmax(1) == labels).float().mean()
    print(f"named right: {right:.2f} of {len(labels)} unseen photographs")

    dog, shown = test.classes.index("dog"), (10, 50, 100, 150)
    found = class_model(
        network, dog, size=64, steps=150, transforms=[Jitter(4), Affine(degrees=8, scale=0.1)], snapshot_every=10,
        projections=[Clip(preprocess)], decorrelate=colour_root(torch.from_numpy(preprocess.undo(unseen)), preprocess),
        progress=False,
    )  # fmt: skip
    snapshots = torch.cat([found.snapshots[step] for step in shown])
    titles = [f"{n} steps: p = {p:.2f}" for n, p in zip(shown, network(snapshots).softmax(1)[:, dog], strict=True)]
    figures.show(
        figures.strip(list(preprocess.undo(snapshots)), titles, title="CIFAR-10's dog, by a small network"),
        "The class model of CIFAR-10's dog after 10, 50, 100 and 150 steps of ascent.",
    )

# %% [markdown]
# ## Summary
#
# - Saliency is the gradient of a class's score for the pixels, its largest absolute value over the channels: a
#   first-order prediction, right for changes far too small to see, and without a direction.
# - Differentiate the score, not the probability: the latter's gradient dies with certainty and mixes in all classes.
# - SmoothGrad averages over noisy pictures. Look first whether the network can read those.
# - A class model climbs the score, less a penalty, on the picture. On a linear score it is $w / 2 \lambda$. Do not
#   round while you climb.
# - What a class model looks like says how the network was taught: the more accurate of our two draws nothing that we
#   recognise.
# - A saliency map ranks pixels, hardly knows the class, and is no segment; a graph cut with seeds from its quantiles
#   makes one of it, by colour.
#
# ## References
#
# - K. Simonyan, A. Vedaldi, A. Zisserman, *Deep Inside Convolutional Networks: Visualising Image Classification
#   Models and Saliency Maps*, 2013, arXiv 1312.6034.
# - D. Smilkov, N. Thorat, B. Kim, F. Viégas, M. Wattenberg, *SmoothGrad: removing noise by adding noise*, 2017, arXiv
#   1706.03825.
# - Y. Boykov, M.-P. Jolly, *Interactive Graph Cuts for Optimal Boundary and Region Segmentation of Objects in N-D
#   Images*, ICCV 2001; C. Rother, V. Kolmogorov, A. Blake, *GrabCut*, SIGGRAPH 2004.
# - J. Yosinski, J. Clune, A. Nguyen, T. Fuchs, H. Lipson, *Understanding Neural Networks Through Deep Visualization*,
#   2015, arXiv 1506.06579 (blur).
# - A. Mordvintsev, C. Olah, M. Tyka, *Inceptionism*, 2015 (jitter); C. Olah, A. Mordvintsev, L. Schubert, *Feature
#   Visualization*, Distill 2017 (Fourier, decorrelated colours, turns and scales).
# - L. Engstrom, A. Ilyas, S. Santurkar, D. Tsipras, B. Tran, A. Madry, *Adversarial Robustness as a Prior for Learned
#   Representations*, 2019, arXiv 1906.00945.
#
# Next: [06 · Feature maps](06_feature_maps.ipynb), what every filter on the way sees.
