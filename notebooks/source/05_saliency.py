# %% [markdown]
# # 05 · Saliency and class models
#
# **About {reading} minutes to read, {exercises} for the exercises · 2 GiB of memory · no GPU, no network needed**
#
# The gradient of a score with respect to the picture answers two questions. Which pixels of *this* picture would
# change the score most? And which picture would the network score highest for a class?
#
# **Afterwards you can**
# - compute a saliency map and SmoothGrad in plain PyTorch, and measure how far their promise holds,
# - say why the score is differentiated and not the probability,
# - choose the noise and the number of samples of SmoothGrad for your own network,
# - write gradient ascent on a picture, and say what in its result comes from the network and what from you.
#
# **You need** what a gradient is, and [Lesson 00](00_welcome.ipynb).
#
# **Contents:** [The idea](#The-idea) · [By hand](#By-hand) · [In plain PyTorch](#In-plain-PyTorch,-on-a-photograph) ·
# [The promise](#How-far-does-the-promise-hold?) · [Grain and lattice](#Grain-and-lattice) ·
# [Several classes](#One-picture,-several-classes) · [Score or probability](#Why-the-score-and-not-the-probability) ·
# [SmoothGrad](#SmoothGrad:-how-much-noise,-how-many-samples?) · [Class models](#Class-models) ·
# [Real classes](#Real-classes) · [Two networks](#Two-networks,-one-protocol) · [Where it fails](#Where-it-fails) ·
# [Explorer](#Explorer) · [Exercises](#Exercises) · [Self-test](#Self-test)
#
# [← 04 · Guided backprop](04_guided_backprop.ipynb) · [06 · Feature maps →](06_feature_maps.ipynb) · [what goes beyond:
# 05 deeper](deeper/05_saliency.ipynb) (Integrated Gradients, segments, tricks)

# %% [markdown]
# ## The idea
#
# Let a score be linear in the picture, $S_c(I) = w \cdot I + b$. Then each value of the picture counts as much as its
# weight. The score of a deep network is not linear. Near any picture $I_0$, Taylor's formula makes it almost linear
# ([Simonyan, Vedaldi and Zisserman 2013](https://arxiv.org/abs/1312.6034), equations 3 and 4):
#
# $$S_c(I) \approx w \cdot I + b, \qquad w = \left.\frac{\partial S_c}{\partial I}\right|_{I_0}.$$
#
# A pixel has three channels and so three weights. Its **saliency** is the largest absolute value of the three,
# $M_{ij} = \max_k |w_{ijk}|$. It takes one forward pass and one backward pass.
#
# The same gradient can be followed. A **class model** is a picture that maximises the score, less a penalty:
#
# $$I^* = \operatorname*{argmax}_I \; S_c(I) - \lambda \lVert I \rVert^2 .$$
#
# Neither idea was new in 2013. [Baehrens et al. 2010](https://jmlr.org/papers/v11/baehrens10a.html) explained single
# decisions by gradients, and Erhan et al. 2009 climbed on pictures to see what a unit prefers; the paper cites and
# extends the second.

# %%
import numpy as np
import torch

from xailab import figures, images
from xailab.datasets import photographs, scenes
from xailab.lessons import saliency as lesson
from xailab.models import zoo

network = zoo.load("efficientnet_lite0")  # trained on ImageNet
robust = zoo.load("scenes_robust")  # small, trained on rendered scenes; see "Two networks"
figures.show(
    lesson.draw_idea(network, robust),
    "Above, a cat's picture goes through a network to a score, and a red arrow leads back to a saliency map. Below, a faint start "
    "goes through a network; the red arrow leads back to the picture, which becomes two mugs.",
)

# %% [markdown]
# **Predict before you run.**
#
# 1. A pixel has the weights 3 (red) and −3 (blue). Another pixel has a single weight of 3. Which is more salient?
# 2. A change of one grey level of 255 in each pixel is invisible. Is it small for a network?
# 3. SmoothGrad averages gradients over noisy copies of a picture. Its authors recommend noise of 10 to 20 % of the
#    picture's range. Does more noise always give a better map?
# 4. Two networks have the same architecture, and both are right about more than 99 % of unseen pictures. Will their
#    class models look alike?
#
# *Your prediction (double-click here and write):* …

# %% [markdown]
# ## By hand
#
# Four pixels, three channels, and a linear score. We find the gradient without calculus: add 1 to one value, and see
# what the score does. This is exact, as the score is linear.

# %%
weights = torch.tensor([[[3.0, 0], [0, 1]], [[0, 0], [2, 1]], [[-3, 3], [-5, 1]]])  # red, green, blue: 2 x 2 each
picture = torch.rand(3, 2, 2, generator=torch.Generator().manual_seed(0))
gradient = torch.zeros(3, 2, 2)
for k, y, x in np.ndindex(3, 2, 2):
    nudged = picture.clone()
    nudged[k, y, x] += 1
    gradient[k, y, x] = (weights * nudged).sum() - (weights * picture).sum()
print("saliency:", gradient.abs().amax(0).round(decimals=2).tolist())

# %% [markdown]
# The pixel at the top left has the weights 3 and −3, the pixel at the top right a single 3. Both have the saliency 3.
# At the bottom right, three weights of 1 make 1 and not 3. If all signs were reversed, the map would be the same:
# saliency says where a change would matter, and not in which direction.

# %% [markdown]
# ## In plain PyTorch, on a photograph
#
# EfficientNet-Lite0 looks at a cat. If a gradient flickers between pictures that look the same, we can
# average it over such pictures. This is **SmoothGrad** ([Smilkov et al. 2017](https://arxiv.org/abs/1706.03825)):
#
# $$\hat w = \frac{1}{n} \sum_{i=1}^{n} \left.\frac{\partial S_c}{\partial I}\right|_{I_0 + \varepsilon_i}, \qquad
# \varepsilon_i \sim \mathcal N\bigl(0, \; \sigma^2 (\max I_0 - \min I_0)^2\bigr) .$$
#
# $\sigma$ is a standard deviation, as a share of the picture's range. The gradients keep their signs in the average,
# so that what flickers cancels.


# %%
def gradient_of(network, batch, c):  # c: a class for all pictures, or a list with one for each
    batch = batch.clone().requires_grad_()  # a copy: the caller's tensor stays as it is
    (w,) = torch.autograd.grad(network(batch)[range(len(batch)), c].sum(), batch)
    return w


def smooth_gradient_of(network, batch, c, sigma, samples, seed=0):
    generator = torch.Generator().manual_seed(seed)
    spread = sigma * (batch.max() - batch.min())
    total = torch.zeros_like(batch)
    for _ in range(samples):
        noise = torch.randn(batch.shape, generator=generator)
        total += gradient_of(network, batch + spread * noise, c)
    return total / samples


batch, c = network.preprocess(photographs.photograph("cat").image), network.classes.index("tiger cat")
plain = gradient_of(network, batch, c).abs().amax(1)
smooth = smooth_gradient_of(network, batch, c, sigma=0.05, samples=50).abs().amax(1)
print(f"largest saliency {plain.max():.2f}, after smoothing {smooth.max():.2f}")

# %%
from xailab.saliency import saliency, smooth_grad

panels = [network.preprocess.undo(batch)[0], lesson.glow(plain[0]), lesson.glow(smooth[0])]
figures.show(
    figures.strip(panels, ["picture", "saliency", "SmoothGrad, σ = 0.05, 50 samples"], panel=3.6),
    "A cat; its saliency is a cloud of bright grains; SmoothGrad gathers the grains on the cat's eyes and nose.",
)
three = smooth_gradient_of(network, batch, c, sigma=0.05, samples=3).abs().amax(1)
assert torch.allclose(saliency(network, batch, c), plain, rtol=1e-3, atol=1e-4)
assert torch.allclose(smooth_grad(network, batch, c, sigma=0.05, samples=3), three, rtol=1e-3, atol=1e-4)

# %% [markdown]
# Black is zero, and the brightest colour is the 99 % quantile of each map. No outline is drawn and no part is filled:
# the map is a cloud of grains. The averaged gradient is much smaller than the plain one, because much of the plain one
# changes its sign from one noisy copy to the next. The library's `saliency` and `smooth_grad` give the same maps, as
# the two asserts say; they work in batches. (Photographs: cat by Stéfan van der Walt, cup below by Rachel Michetti,
# both CC0.)

# %% [markdown]
# ## How far does the promise hold?
#
# Taylor's formula makes a promise, so let us take it at its word. We change thirty pictures by $d$, predict the change
# of the score as $w \cdot d$, and compare. One direction is that of the gradient, where the formula promises most;
# the other is noise of the same strength. The pictures are rendered scenes, and the networks two small ResNets of the
# course. One was trained in the ordinary way, the other as described in [Two networks](#Two-networks,-one-protocol).

# %%
ordinary = zoo.load("scenes_resnet")
networks = {"ordinary": ordinary, "robust": robust}
unseen = [scenes.scene(i, split="test") for i in range(30)]
labels = [scene.labels[0] for scene in unseen]
seen = {name: net.preprocess([scene.image for scene in unseen]) for name, net in networks.items()}
levels = np.array([0.03, 0.1, 0.3, 1, 3])


@torch.no_grad()
def changes(net, x, c, w, direction):
    d = direction / direction.square().mean((1, 2, 3), keepdim=True).sqrt() / (255 * net.preprocess.std[0])
    true = [net(x + level * d)[range(len(c)), c] - net(x)[range(len(c)), c] for level in levels]
    return torch.stack(true), torch.stack([level * (w * d).sum((1, 2, 3)) for level in levels])


found = {}
for name, net in networks.items():
    w = gradient_of(net, seen[name], labels)
    noise = torch.randn(w.shape, generator=torch.Generator().manual_seed(0))
    found[f"{name}, along the gradient"] = changes(net, seen[name], labels, w, w)
    found[f"{name}, along noise"] = changes(net, seen[name], labels, w, noise)

# %%
figures.show(
    lesson.draw_taylor(levels, found),
    "Four panels of predicted and true change against strength. Along the gradient of the ordinary network the true change follows "
    "up to a third of a grey level, then falls behind; the robust network follows for longer. Noise changes both scores far less.",
)
for title, (true, said) in found.items():
    if "gradient" in title:
        error = ((true - said).abs() / said).median(1).values
        for i in (1, 3, 4):
            print(f"{title}, {levels[i]:g} grey levels: predicted {said[i].mean():+.2f}, true {true[i].mean():+.2f}, "
                  f"median error {error[i]:.2f}")  # fmt: skip

# %% [markdown]
# For the ordinary network the formula is right to within some five per cent up to a tenth of a grey level. At one grey
# level it promises +1 and gets half of that, and at three it gets almost nothing. So a change that nobody can see is
# *not* small for this network if it follows the gradient. In a random direction the same strength changes the score by
# less than 0.02. A saliency map is exact about changes far too small to see. What it says about the object is another
# question, to which the rest of this lesson turns.

# %% [markdown]
# ## Grain and lattice
#
# Is the grain a property of the picture, or noise? And why do the maps show little squares?

# %%
from scipy.stats import spearmanr

maps = {name: saliency(net, seen[name], labels) for name, net in networks.items()}
two_levels = 2 / (255 * 0.25) * torch.randn(maps["ordinary"].unsqueeze(1).shape, generator=torch.Generator().manual_seed(1))
shaken = seen["ordinary"] + two_levels
again = saliency(ordinary, shaken, labels)
alike = [spearmanr(a.flatten(), b.flatten()).statistic for a, b in zip(maps["ordinary"], again, strict=True)]
with torch.no_grad():
    same = (ordinary(shaken).argmax(1) == torch.tensor(labels)).double().mean()
print(f"noise of 2 grey levels: same answer {same:.2f}, rank correlation of the two maps {np.mean(alike):.2f}")

means = {name: lesson.by_position(heat) for name, heat in maps.items()}
figures.show(
    lesson.draw_lattice(unseen[2].image, maps["ordinary"][2], (48, 48), means),
    "An umbrella, its saliency, and 32 by 32 pixels of the map with lines every four pixels; two tables of means by position. The "
    "ordinary network's values range from 0.79 to 1.16, the robust network's from 0.97 to 1.02.",
)

# %% [markdown]
# Both. Noise that changes no answer reorders the pixels a little: a rank correlation of 0.84 means that most of the
# order stays. Another part of the grain stands still. The network halves its maps several times, with strides of 2,
# and a pixel takes part in more or fewer products depending on where it lies between the strides. Averaged over
# thirty pictures, the ordinary network's saliency depends on the position in a **lattice** of 4 × 4 pixels. These are
# the little squares. They belong to the architecture and its weights, and not to any picture. So read regions of such a
# map, and no single pixels.

# %% [markdown]
# ## One picture, several classes
#
# Saliency can be asked about any class, also about one that is not there. The composite shows a cat above a cup.
# **Predict:** does the map for "tiger cat" leave the cup alone?

# %%
batch = network.preprocess(photographs.stacked("cat", "cup"))
asked = {name: network.classes.index(name) for name in ("tiger cat", "espresso", "daisy")}
several = saliency(network, batch, [list(asked.values())])[0]  # (3, 224, 224)
shared = float(several[0].flatten().quantile(0.99))  # one scale for all three
figures.show(
    figures.strip([network.preprocess.undo(batch)[0], *(images.heatmap((m / shared).clamp(max=1)) for m in several)],
                  ["picture", *(f"“{name}”" for name in asked)], panel=3.0),  # fmt: skip
    "A cat above a cup; the saliency maps for tiger cat, espresso and daisy on one scale all have grains on both halves.",
)
for name, heat in zip(asked, several, strict=True):
    print(f"{name}: {heat[:112].sum() / heat.sum():.2f} of the saliency in the cat's half")

pairs = [scenes.scene(i, kind="pair", label=(0, 1), split="test", size=128) for i in range(24)]  # a cat and a dog
asked = saliency(ordinary, ordinary.preprocess([scene.image for scene in pairs]), [[0, 1, 9]] * 24)
animals = [torch.from_numpy(np.stack([scene.masks[k] for scene in pairs])) for k in (0, 1)]
print(f"area: cat {animals[0].double().mean():.3f}, dog {animals[1].double().mean():.3f}")
for name, k in (("cat", 0), ("dog", 1), ("mug, absent", 2)):
    on = [lesson.share_on(asked[:, k], mask).mean() for mask in animals]
    print(f"“{name}”: {on[0]:.2f} of the map on the cat, {on[1]:.2f} on the dog")

# %% [markdown]
# The maps of the three classes differ little, and the class that is not there has a map as well. On the scenes, which
# have exact masks, the map for "cat" lies on the dog even more than on the cat. This follows from the definition. The
# absolute value marks where a change would move the score up *or down*, and the classes share most of the network's
# features: what makes the dog less of a dog changes the score of "cat" too. For the question "where is the cat?" take
# Grad-CAM ([Lesson 03](03_grad_cam.ipynb)).

# %% [markdown]
# ## Why the score and not the probability
#
# The scores of two classes are thus already coupled, by the features that they share. The softmax adds a second
# coupling, and an explicit one. From the derivative of the softmax follows
#
# $$\frac{\partial p_c}{\partial I} = p_c \Bigl(w_c - \sum_k p_k w_k\Bigr) = p_c \, (1 - p_c) \, (w_c - \bar w_{\text{others}}),$$
#
# where $\bar w_{\text{others}}$ is the mean gradient of the other classes, weighted by their probabilities. Two things
# follow. The surer the network, the smaller the gradient. And $p_c$ also rises where the scores of *others* fall.

# %%
x = seen["robust"]
with torch.no_grad():
    p = robust(x).softmax(1)[range(30), labels]
w = gradient_of(robust, x, labels).flatten(1).norm(dim=1)
w_p = gradient_of(lambda pictures: robust(pictures).softmax(1), x, labels).flatten(1).norm(dim=1)
sure = p > 0.99
ratio = (w_p / w / (p * (1 - p)))[sure]
print(f"{int(sure.sum())} sure pictures: |gradient of p| / |gradient of S| / (p (1 − p)) = {ratio.median():.1f} in the median")
print(f"the surest: p = {p.max():.4f}, left of its gradient {(w_p / w)[p.argmax()]:.4f}")


# %% [markdown]
# For sure pictures the factor after $p (1 - p)$ is near 1 but not 1, since other classes have gradients too. At
# $p = 0.9996$ less than a thousandth of the gradient is left. That makes maps of different pictures incomparable, and
# an ascent on $p$ slow just when it succeeds. The second point is the paper's reason (its Section 2): a probability can
# be raised by lowering the scores of the other classes, and a class model should show one class. The [deeper
# notebook](deeper/05_saliency.ipynb) climbs both ways from a picture of a dog. For the question "what makes it a cat
# *rather than* a dog?" the probability is the right thing to climb.

# %% [markdown]
# ## SmoothGrad: how much noise, how many samples?
#
# The noise is averaged, and it is also *shown to the network*. Can the network still read such pictures? We take 50
# samples, as the authors do, and several $\sigma$. Beside the share of the map on the object stands the share of noisy
# pictures that the network names correctly.

# %%
sigmas = [0.0, 0.02, 0.05, 0.1, 0.2]
few = 8  # pictures
masks = torch.from_numpy(np.stack([scene.masks[0] for scene in unseen]))
shares, right = {name: [] for name in networks}, {name: [] for name in networks}
for name, net in networks.items():
    spread = seen[name].amax((1, 2, 3), keepdim=True) - seen[name].amin((1, 2, 3), keepdim=True)
    for sigma in sigmas:
        smooth = smooth_grad(net, seen[name][:few], labels[:few], sigma=sigma, samples=50 if sigma else 1)
        shares[name].append(lesson.share_on(smooth, masks[:few]))
        noise = torch.randn(seen[name].shape, generator=torch.Generator().manual_seed(2))
        with torch.no_grad():
            said = net(seen[name] + sigma * spread * noise).argmax(1)
        right[name].append((said == torch.tensor(labels)).numpy())
figures.show(
    lesson.draw_smooth(sigmas, shares, right, float(masks[:few].double().mean())),
    "Two panels against sigma. The share on the object rises a little up to 0.02 or 0.05 and then falls, further for the ordinary "
    "network, which reads few pictures with noise of 0.2; the robust network reads all.",
)
for name in networks:
    gain = [np.mean(each - shares[name][0]) for each in shares[name]]
    print(f"{name}: " + ", ".join(f"σ {s:g}: {np.mean(v):.2f} ({g:+.2f})" for s, v, g in zip(sigmas, shares[name], gain)))

# %% [markdown]
# A little noise helps both networks, and the recommended 10 to 20 % harms the ordinary one: it reads only a part of
# such pictures, and SmoothGrad then explains, smoothly, a network that does not know what it sees. The robust network
# reads them all and loses less. So **first measure up to which $\sigma$ your network still names noisy pictures
# correctly, and stay well below.** For the number of samples, compare two seeds: with enough samples their maps agree.

# %%
counts = [1, 4, 16, 50]
agreement = []
for samples in counts:
    one, two = (smooth_grad(ordinary, seen["ordinary"][:2], labels[:2], sigma=0.05, samples=samples, seed=seed) for seed in (3, 4))
    agreement.append(np.mean([spearmanr(a.flatten(), b.flatten()).statistic for a, b in zip(one, two, strict=True)]))
print("two seeds agree:", ", ".join(f"{n} samples {a:.2f}" for n, a in zip(counts, agreement, strict=True)))

# %% [markdown]
# ## Class models
#
# Now the gradient is followed. The weights stay as they are, and the *picture* climbs. $I$ is the normalised picture,
# so $I = 0$ is mid-grey, and the penalty prefers a calm picture to a loud one. If the score is linear, the derivative
# $w - 2 \lambda I$ is zero at $I^* = w / 2\lambda$: the class model of a linear network is its weights, drawn.
#
# These lines are the paper's ascent. One thing is added, the shift (*jitter*, [Mordvintsev et al.
# 2015](https://research.google/blog/inceptionism-going-deeper-into-neural-networks/)): before each look the picture is
# moved by a few pixels, so that no pattern pays that holds at one place of the lattice only.


# %%
def ascend(net, classes, pictures, steps=60, rate=30.0, l2=1e-3, jitter=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        shift = torch.randint(-jitter, jitter + 1, (2,), generator=generator).tolist()
        pictures = pictures.detach().requires_grad_()
        scores = net(pictures.roll(shift, (2, 3)))[range(len(classes)), classes]
        objective = scores - l2 * pictures.square().sum((1, 2, 3))
        (gradient,) = torch.autograd.grad(objective.sum(), pictures)
        pictures = pictures + rate * gradient
    return pictures.detach()


mug = scenes.CLASSES.index("mug")
spots = lesson.soft_spots(1, 96, 2)  # faint, soft spots of colour: at I = 0 this network is flat
lambdas = [1e-2, 3e-3, 1e-3, 3e-4, 0.0]
mugs = [ascend(robust, [mug], spots, l2=l2) for l2 in lambdas]
with torch.no_grad():
    scores = [float(robust(each)[0, mug]) for each in mugs]
figures.show(
    figures.strip([robust.preprocess.undo(each)[0] for each in [spots, *mugs]],
                  ["start", *(f"λ = {l2:g}: score {s:.0f}" for l2, s in zip(lambdas, scores, strict=True))], panel=2.1),  # fmt: skip
    "Soft spots of colour, and five class models of the mug with lambda falling from left to right: nothing or pale outlines on "
    "grey, two plain mugs with coffee, and at last two loud, garish ones.",
)

# %%
from xailab.class_model import Jitter, class_model

theirs = class_model(
    robust, mug, size=96, steps=60, lr=30, l2=1e-3, optimizer="ascent", start=spots, transforms=[Jitter(8)], progress=False
).images
assert torch.allclose(theirs, mugs[2], atol=1e-3)
print(f"largest difference from the library's ascent: {(theirs - mugs[2]).abs().max():.4f}")

# %% [markdown]
# The score pulls outwards, the penalty back. With a large $\lambda$ only what raises the score most is worth its price.
# With $\lambda = 0$ nothing holds the picture: its contrast grows as long as you climb. Score and squared pixels have
# different units, so $\lambda$ and the rate must be found anew for each network and size.
#
# **In other people's code** you will meet this recipe: random pixels to start, 149 steps, no penalty at all, and the
# picture rounded to 8 bits after each step. The widely copied [pytorch-cnn-visualizations](
# https://github.com/utkuozbulak/pytorch-cnn-visualizations) uses the rate 6, a tutorial on CIFAR-10 the rate 20. The
# [deeper notebook](deeper/05_saliency.ipynb) runs both, and measures what the rounding does.

# %% [markdown]
# ## Real classes
#
# What does a network that knows photographs want a class to look like? This poster is **recorded**, because the ascent
# takes four minutes: `python recipes/class_models.py`. It shows ten ImageNet classes of EfficientNet-Lite0, which was
# trained in the ordinary way. The ascent works on Fourier coefficients with decorrelated colours ([Olah et al.
# 2017](https://distill.pub/2017/feature-visualization/)), and the picture is shifted, turned, zoomed and blurred on the
# way; the deeper notebook takes these tricks one by one. **Cover the text below, and name what you see.**
#
# ![Recorded: ten numbered class models on grey, coloured grain. Some show a single clear form, others several parts of
# one.](../docs/class_models.jpg)
#
# *Your names (double-click here and write):* …
#
# <details><summary>The ten classes</summary>
#
# RECORDED
# </details>
#
# The network is practically certain of all ten, those that you could not name among them. Recognisable forms thus come
# from an ordinarily trained network, if we allow only certain pictures. Each trick is a preference of *ours*. None of
# them knows about fish or flowers, but the more of them are used, the prettier the picture and the less it is the
# network's own.

# %% [markdown]
# ## Two networks, one protocol
#
# The small networks `ordinary` and `robust` have the same architecture. The robust one was trained on pictures that
# had first been changed, within a small distance $\varepsilon$, so that the network errs most (*adversarial training*,
# [Madry et al. 2018](https://arxiv.org/abs/1706.06083)):
#
# $$\min_\theta \; \mathbb E_{(I, c)} \; \max_{\lVert \delta \rVert_2 \le \varepsilon} \; \text{loss}\bigl(f_\theta(I + \delta), c\bigr).$$
#
# In practice the inner maximum is one step along the gradient of the loss, $\delta \propto \nabla_I \text{loss}$, with
# $\varepsilon = 6$ for pixel values from 0 to 1. A pattern that a small $\delta$ can reverse is worth nothing in this
# training. Both networks now climb with the ten lines above: the same starts, size, rate, $\lambda$ and jitter; of two
# starts for each class we keep the picture of which the network is surer.
#
# The classes are bird, butterfly, car, cat, dog, fish, mug, rocket, sailboat and umbrella. **First name what the robust
# network draws**, before you go on to the next cell.

# %%
shuffled = np.random.default_rng(77).permutation(10)


def poster_of(net, starts=2):
    classes = [*range(10)] * starts
    pictures = ascend(net, classes, lesson.soft_spots(len(classes), 96, 2), steps=80, l2=5e-4)
    with torch.no_grad():
        sure = net(pictures).softmax(1)[range(len(classes)), classes].view(starts, 10).argmax(0)
    return pictures.view(starts, 10, *pictures.shape[1:])[sure, range(10)]


posters = {name: poster_of(net) for name, net in networks.items()}
drawn = {name: net.preprocess.undo(posters[name])[shuffled] for name, net in networks.items()}
figures.show(
    figures.grid(list(drawn["robust"]), [str(i + 1) for i in range(10)], columns=5, panel=2.2),
    "Ten class models of the robust network, in mixed order, numbered and not named.",
)

# %%
names = [scenes.CLASSES[c] for c in shuffled]
figures.show(
    lesson.draw_posters({"ordinary": drawn["ordinary"], "robust": drawn["robust"]}, names),
    "The class models of both networks with their names. The robust network draws cars, boats, mugs, birds; the ordinary one coloured "
    "texture, with hulls, rims and wheels here and there.",
)
results = zoo.manifest()
for name, key in (("ordinary", "scenes_resnet"), ("robust", "scenes_robust")):
    with torch.no_grad():
        scores = networks[name](posters[name])
        real = networks[name](seen[name])[range(30), labels]
    print(f"{name}: unseen scenes named correctly {results[key]['results']['single_top1']:.3f}; score of class models "
          f"{scores.diagonal().median():.0f}, of real pictures {real.median():.0f} (medians); "
          f"smallest probability of a class model {scores.softmax(1).diagonal().min():.1f}")  # fmt: skip

# %% [markdown]
# Both ascents succeed: each network is sure of all its ten pictures, with scores far above those of real ones. The
# robust network draws whole forms. From the ordinary network, the more accurate of the two, comes texture, in which
# you find fragments if you know the name: a hull, the rim of a mug. [Engstrom et al.
# 2019](https://arxiv.org/abs/1906.00945) found the same difference on photographs.
#
# **How far does this go?** The two recipes differ in more than the disturbance. The robust network saw 12 000 single
# scenes at 96 pixels for 20 epochs; the ordinary one 6000 single scenes and 6000 pairs at 128 pixels for 8 epochs, with
# softened targets. So the comparison shows that these two networks differ, and that a high score is not enough for a
# picture that we recognise. It does not show that the disturbance alone is the reason. And the poster of the ImageNet
# network shows that an ordinary training can suffice, with enough preferences of ours. What a class model looks like
# depends on how the network was trained **and** on which pictures we allow.

# %% [markdown]
# ## Where it fails
#
# **A flat score.** A score $1 - \operatorname{ReLU}(1 - x)$ rises up to $x = 1$ and stays. At
# $x = 2$ the score is 1 and the saliency 0, although nothing else holds the score up. A derivative answers "what if it changed a little?"
# and never "what is it made of?". *Integrated Gradients* follows the gradient on the whole way from an empty picture,
# and gives 1 here; the [deeper notebook](deeper/05_saliency.ipynb) derives it, and Exercise 05.5 asks for it.
#
# **One of many.** A class model is *a* maximum and not *the* maximum. Another start gives other mugs, in other places.
# To say "this is how the network imagines a mug" takes several, and all of them are caricatures.

# %% [markdown]
# ## Explorer
#
# Class models with the library's tricks. Try the ordinary network, switch all tricks off, set λ to 0.

# %%
lesson.class_model_explorer({"robust": robust, "ordinary": ordinary})
