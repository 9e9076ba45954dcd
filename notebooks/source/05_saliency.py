# %% [markdown]
# # 05 · Saliency and class models
#
# **About {reading} minutes to read, {exercises} for the exercises · 2 GiB of memory · no GPU, no network needed**
#
# The gradient of a score answers two questions. Which pixels of *this* picture would change the score most? And which
# picture would the network score highest for a class?
#
# **Afterwards you can**
# - compute a saliency map and SmoothGrad in plain PyTorch, and measure how far their promise holds,
# - say why the score is differentiated and not the probability,
# - choose the noise of SmoothGrad for your own network,
# - write gradient ascent on a picture, and say what in its result comes from the network and what from you.
#
# **You need** what a gradient is.
#
# **Contents:** [Idea](#The-idea) · [By hand](#By-hand) · [PyTorch](#In-plain-PyTorch,-on-a-photograph) ·
# [The promise](#How-far-does-the-promise-hold?) · [Several classes](#One-picture,-several-classes) ·
# [Probability](#Why-the-score-and-not-the-probability) · [SmoothGrad](#SmoothGrad:-how-much-noise?) ·
# [Class models](#Class-models) · [Real classes](#Real-classes) · [Two networks](#Two-networks,-one-protocol) ·
# [Limits](#Where-it-fails) · [Exercises](#Exercises) · [Self-test](#Self-test)
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
# $M_{ij} = \max_k |w_{ijk}|$.
#
# The same gradient can be followed. A **class model** is a picture that maximises the score, less a penalty:
#
# $$I^* = \operatorname*{argmax}_I \; S_c(I) - \lambda \lVert I \rVert^2 .$$
#
# Gradients as explanations are older ([Baehrens et al. 2010](https://jmlr.org/papers/v11/baehrens10a.html)), and so is
# climbing on pictures (Erhan et al. 2009).

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
# what the score does.

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
# The weights 3 and −3 at the top left make the saliency 3, as the single 3 beside them does. At the bottom right, three
# weights of 1 make 1 and not 3. With all signs reversed the map would be the same: saliency says where a change would
# matter, and not in which direction.

# %% [markdown]
# ## In plain PyTorch, on a photograph
#
# EfficientNet-Lite0 looks at a cat. If a gradient flickers between pictures that look the same, we can average it over
# such pictures. This is **SmoothGrad** ([Smilkov et al. 2017](https://arxiv.org/abs/1706.03825)):
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
print(f"mean saliency {plain.mean():.3f}, after smoothing {smooth.mean():.3f}")

# %%
from xailab.saliency import saliency, smooth_grad

panels = [network.preprocess.undo(batch)[0], lesson.glow(plain[0]), lesson.glow(smooth[0])]
figures.show(
    figures.strip(panels, ["picture", "saliency", "SmoothGrad, σ = 0.05, 50 samples"], panel=3.0),
    "A cat; its saliency is a cloud of bright grains; SmoothGrad gathers the grains on the cat's eyes and nose.",
)
three = smooth_gradient_of(network, batch, c, sigma=0.05, samples=3).abs().amax(1)
assert (saliency(network, batch, c) - plain).norm() < 0.02 * plain.norm()  # last bits decide at the kinks of ReLUs
assert (smooth_grad(network, batch, c, sigma=0.05, samples=3) - three).norm() < 0.02 * three.norm()

# %% [markdown]
# Black is zero, and the brightest colour is the 99 % quantile of each map. The map is a cloud of grains, without
# outlines. The averaged gradient is much smaller than the plain one, because much of the plain one changes its sign from
# copy to copy. The library's `saliency` and `smooth_grad` give the same maps, as the two asserts say. (Photographs: cat
# by Stéfan van der Walt, cup below by Rachel Michetti, both CC0.)

# %% [markdown]
# ## How far does the promise hold?
#
# We take Taylor's formula at its word, change thirty pictures by $d$, predict the change of the score as $w \cdot d$,
# and compare. One direction is that of the gradient, where the formula promises most; the other is noise of the same
# strength. The pictures are rendered scenes. Of the two small networks, one was trained in the ordinary way, the other
# as described in [Two networks](#Two-networks,-one-protocol).

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
    "up to a tenth of a grey level, then stays below; the robust network follows for longer. Noise changes both scores far less.",
)
for name in networks:
    true, said = found[f"{name}, along the gradient"]
    for i in (1, 3, 4):
        print(f"{name}, {levels[i]:g} grey levels: predicted {said[i].mean():+.2f}, true {true[i].mean():+.2f}")

# %% [markdown]
# Up to a tenth of a grey level the formula is right for both networks. At one grey level it promises +1.0 for the
# ordinary network and gets half of that, and at three the changes have both signs, so
# their mean is almost nothing. An invisible change is *not* small for this network if it follows the gradient. In a random direction the same strength changes the score by
# about a hundredth of that. A saliency map is exact about changes far too small to see.
#
# The fine mesh in the cat's map is no property of the picture: the strides of the layers make a *lattice*, which the
# [deeper notebook](deeper/05_saliency.ipynb) measures. Read regions of such a map, and no single pixels.

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
panels = [images.heatmap((heat / shared).clamp(max=1)) for heat in several]
figures.show(
    figures.strip([network.preprocess.undo(batch)[0], *panels], ["picture", *asked], panel=2.4),
    "A cat above a cup; the saliency maps for tiger cat, espresso and daisy on one scale all have grains on both halves.",
)
for name, heat in zip(asked, several, strict=True):
    print(f"{name}: {heat[:112].sum() / heat.sum():.2f} of the saliency in the cat's half")

# %% [markdown]
# The maps look alike, and the class that is not there has one as well. This follows from the definition. The absolute
# value marks where a change would move the score up *or down*, and the classes share most of the network's features.
# The deeper notebook measures it on pairs of a cat and a dog with exact masks. For the question "where is the cat?" take
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
#
# The first point makes maps of different pictures incomparable, and an ascent on $p_c$ slow just when it succeeds. The
# second is the paper's reason (its Section 2): a class model should show one class, and not the absence of others. The
# deeper notebook measures the first, and climbs both ways from a picture of a dog. For the question "what makes it a cat
# *rather than* a dog?" the probability is the right thing to climb.

# %% [markdown]
# ## SmoothGrad: how much noise?
#
# The noise is averaged, and it is also *shown to the network*. Can the network still read such pictures? We take 50
# samples, as the authors do, and several $\sigma$.

# %%
sigmas = [0.0, 0.02, 0.05, 0.15]
few = 8  # pictures
masks = torch.from_numpy(np.stack([scene.masks[0] for scene in unseen]))
shares, right = {name: [] for name in networks}, {name: [] for name in networks}
for name, net in networks.items():
    spread = seen[name].amax((1, 2, 3), keepdim=True) - seen[name].amin((1, 2, 3), keepdim=True)
    for sigma in sigmas:
        smooth = smooth_grad(net, seen[name][:few], labels[:few], sigma=sigma, samples=50 if sigma else 1, memory=0.3)
        shares[name].append(lesson.share_on(smooth, masks[:few]))
        noise = torch.randn(seen[name].shape, generator=torch.Generator().manual_seed(2))
        with torch.no_grad():
            said = net(seen[name] + sigma * spread * noise).argmax(1)
        right[name].append((said == torch.tensor(labels)).numpy())
figures.show(
    lesson.draw_smooth(sigmas, shares, right, float(masks[:few].double().mean())),
    "Two panels against sigma. The share on the object rises a little up to 0.02 or 0.05 and then falls, further for the ordinary "
    "network, which reads few pictures with noise of 0.15; the robust network reads all.",
)
for name in networks:
    gains = [f"{np.mean(share - shares[name][0]):+.2f}" for share in shares[name]]
    print(f"{name}: share on the object {np.mean(shares[name][0]):.2f}; changes for {sigmas}: {' '.join(gains)}")

# %% [markdown]
# A little noise helps the ordinary network; the recommended 10 to 20 % harms it. It reads only a part of such pictures,
# and SmoothGrad then explains, smoothly, a network that does not know what it sees. The robust network reads them all,
# and loses less. So **first measure up to which $\sigma$ your network still names noisy pictures
# correctly, and stay well below.** For the number of samples, compare two seeds: in the deeper notebook their maps still agree better from 16 to 50.

# %% [markdown]
# ## Class models
#
# Now the gradient is followed. The weights stay as they are, and the *picture* climbs. $I$ is the normalised picture,
# so $I = 0$ is mid-grey, and the penalty prefers a calm picture to a loud one. If the score is linear, the derivative
# $w - 2 \lambda I$ is zero at $I^* = w / 2\lambda$: the class model of a linear network is its weights, drawn.
#
# These lines are the paper's ascent with one addition, the random shift (*jitter*, [Mordvintsev et al.
# 2015](https://research.google/blog/inceptionism-going-deeper-into-neural-networks/)): no pattern pays that holds at one
# place of the lattice only.


# %% tags=["exempt"]
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
drawn = robust.preprocess.undo(torch.cat([spots, *mugs]))
titles = [f"λ = {l2:g}: score {s:.0f}" for l2, s in zip(lambdas, scores, strict=True)]
figures.show(
    figures.strip(drawn, ["start", *titles], panel=2.1),
    "Soft spots of colour, and five class models of the mug with lambda falling from left to right: pale outlines on "
    "grey, two plain mugs with coffee, and at last two loud, garish ones.",
)

# %%
from xailab.class_model import Jitter, class_model

options = {"steps": 60, "lr": 30, "l2": 1e-3, "optimizer": "ascent", "transforms": [Jitter(8)], "progress": False}
theirs = class_model(robust, mug, size=96, start=spots, **options).images
assert torch.allclose(theirs, mugs[2], atol=1e-3)

# %% [markdown]
# The library's `class_model` climbs to the same picture. With a large $\lambda$ only what raises the score most is worth
# its price. With $\lambda = 0$ nothing holds the picture, and its contrast grows as long as you climb. Score and squared
# pixels have different units, so $\lambda$ and the rate must be found anew for each network and size.
#
# **Much code on the web** starts from random pixels, has no penalty at all, and rounds the picture to 8 bits after each
# step. The widely copied [pytorch-cnn-visualizations](https://github.com/utkuozbulak/pytorch-cnn-visualizations) takes
# the rate 6, a tutorial on CIFAR-10 the rate 20. The deeper notebook runs both, and measures what the rounding does.

# %% [markdown]
# ## Real classes
#
# What does a network that knows photographs want a class to look like? This poster is **recorded**, because the ascent
# takes four minutes: `python recipes/class_models.py`. It shows ten ImageNet classes of EfficientNet-Lite0, which was
# trained in the ordinary way. The ascent works on Fourier coefficients with decorrelated colours ([Olah et al.
# 2017](https://distill.pub/2017/feature-visualization/)); the picture is shifted, turned, zoomed and blurred on the way. **Cover the text below, and name what you see.**
#
# ![Recorded: ten numbered class models on grey, coloured grain. Some show a single clear form, others several parts of
# one.](../docs/class_models.jpg)
#
# *Your names (double-click here and write):* …
#
# <details><summary>The ten classes</summary>
#
# 1 ladybug, 2 monarch, 3 goldfish, 4 flamingo, 5 daisy, 6 pineapple, 7 strawberry, 8 jellyfish, 9 zebra, 10 umbrella.
# </details>
#
# The network gives all ten a probability of 1.00, also those that you could not name. An ordinarily trained network can
# thus draw recognisable forms, if we allow only certain pictures. Each trick is a preference of *ours*: the more
# of them are used, the prettier the picture, and the less it is the network's own.

# %% [markdown]
# ## Two networks, one protocol
#
# The small networks `ordinary` and `robust` have the same architecture. The robust one was trained on pictures that
# had first been changed, within a small distance $\varepsilon$, so that the network errs most (*adversarial training*,
# [Madry et al. 2018](https://arxiv.org/abs/1706.06083)):
#
# $$\min_\theta \; \mathbb E_{(I, c)} \; \max_{\lVert \delta \rVert_2 \le \varepsilon} \; \text{loss}\bigl(f_\theta(I + \delta), c\bigr).$$
#
# In practice the inner maximum is one step along the gradient of the loss, with $\varepsilon = 6$ for pixel values from 0
# to 1. A pattern that a small $\delta$ can reverse is worth nothing in this training. Both networks now climb with the
# lines above: the same starts, size, rate, $\lambda$ and jitter. Of two starts for each class we keep the picture of which
# the network is surer.
#
# The classes are bird, butterfly, car, cat, dog, fish, mug, rocket, sailboat and umbrella. **First name what the robust
# network draws**, before you go on to the next cell.

# %%
shuffled = np.random.default_rng(77).permutation(10)


def poster_of(net, starts=2):
    classes = [*range(10)] * starts
    pictures = ascend(net, classes, lesson.soft_spots(len(classes), 96, 2), steps=60, l2=5e-4)
    with torch.no_grad():
        sure = net(pictures).softmax(1)[range(len(classes)), classes].view(starts, 10).argmax(0)
    return pictures.view(starts, 10, *pictures.shape[1:])[sure, range(10)]


posters = {name: poster_of(net) for name, net in networks.items()}
drawn = {name: net.preprocess.undo(posters[name])[shuffled] for name, net in networks.items()}
figures.show(
    figures.grid(list(drawn["robust"]), [str(i + 1) for i in range(10)], columns=5, panel=2.2),
    "Ten class models of the robust network, in mixed order, numbered and not named.",
)

# %% tags=["exempt"]
names = [scenes.CLASSES[c] for c in shuffled]
figures.show(
    lesson.draw_posters({"ordinary": drawn["ordinary"], "robust": drawn["robust"]}, names),
    "The class models of both networks with their names. The robust network draws cars, boats, mugs, birds; the ordinary one coloured "
    "texture, with hulls, rims and wheels here and there.",
    pixels=figures.SCREEN,
)
for name, net in networks.items():
    with torch.no_grad():
        scores, real = net(posters[name]), net(seen[name])[range(30), labels]
    medians = f"median score of its class models {scores.diagonal().median():.0f}, of real pictures {real.median():.0f}"
    print(f"{name}: {medians}; probability of a class model at least {scores.softmax(1).diagonal().min():.1f}")

# %% [markdown]
# Both ascents succeed: each network gives all ten 0.8 or more, with scores far above those of real ones. The
# robust network draws whole forms; its cat, dog, rocket and fish are hard to name. From the ordinary network, the more accurate of
# the two (100.0 % of 2000 unseen scenes, against 99.1 % of 1000), comes texture, in which
# you find fragments if you know the name: a hull, the rim of a mug. [Engstrom et al.
# 2019](https://arxiv.org/abs/1906.00945) report the same of photographs.
#
# **How far does this go?** The two recipes differ in more than the disturbance. The robust network saw 12 000 single
# scenes at 96 pixels for 20 epochs; the ordinary one 6000 single scenes and 6000 pairs at 128 pixels for 8 epochs, with
# softened targets. So the comparison shows that these two networks differ, and that a high score alone gives no form.
# It does not show that the disturbance is the only reason. What a class model looks like depends on how the network was
# trained **and** on which pictures we allow.

# %% [markdown]
# ## Where it fails
#
# **A flat score.** A score $1 - \operatorname{ReLU}(1 - x)$ rises up to $x = 1$ and stays. At
# $x = 2$ the score is 1 and the saliency 0, although nothing else holds the score up. A derivative answers "what if it changed a little?"
# and never "what is it made of?". *Integrated Gradients* averages the gradient on the way from an empty picture, and
# gives 1 here; the deeper notebook and Exercise 05.5 are about it.
#
# **One of many.** A class model is *a* maximum and not *the* maximum: another start gives other mugs in other places.

# %% [markdown]
# ## Explorer
#
# Try the ordinary network, switch all tricks off, set λ to 0.

# %%
lesson.class_model_explorer({"robust": robust, "ordinary": ordinary})

# %% [markdown]
# ## Exercises
#
# Write into the cell, run it, and read what `check` says. Solve 05.1 and 05.2, and then choose.

# %% [markdown]
# ### 05.1 Saliency
# *Difficulty 2 of 5, about 10 minutes.* Return the saliency maps of a batch (n, 3, h, w) for class `c`, shape
# (n, h, w), with `torch.autograd.grad` and without the library.
#
# <details><summary>Hint</summary>
#
# `images = images.clone().requires_grad_()` first: the caller's tensor stays as it was. Pictures of a batch do not mix,
# so the gradient of the *sum* of their scores is the gradient of each. What comes first, the maximum or the absolute
# value?
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
# ### 05.2 One step uphill
# *Difficulty 2 of 5, about 8 minutes.* `w` is the gradient of the score at `image`. Return the image after one step
# of gradient ascent on $S_c(I) - \lambda \lVert I \rVert^2$ with learning rate `rate`; `l2` is λ. Do not use autograd:
# which term does the penalty add?
#
# <details><summary>Hint</summary>
#
# Differentiate the penalty by one pixel value.
# </details>


# %% tags=["exercise"]
def my_step(image, w, l2, rate):
    return ...


check("05.2", my_step)


# %% tags=["solution"]
def my_step(image, w, l2, rate):
    return image + rate * (w - 2 * l2 * image)


check("05.2", my_step)

# %% [markdown]
# ### 05.3 Seeds
# *Difficulty 2 of 5, about 8 minutes.* The [deeper notebook](deeper/05_saliency.ipynb) turns a saliency map into a
# segment. It needs seeds: pixels that are surely the object (the most salient ones), and pixels that are surely not.
# From a map (a tensor) and two quantiles, return the two boolean masks.
#
# <details><summary>Hint</summary>
#
# `heat.flatten().quantile(0.95)` is the value that 5 % of the pixels exceed.
# </details>


# %% tags=["exercise"]
def my_seeds(heat, foreground, background):
    return ...


check("05.3", my_seeds)


# %% tags=["solution"]
def my_seeds(heat, foreground, background):
    return heat >= heat.flatten().quantile(foreground), heat <= heat.flatten().quantile(background)


check("05.3", my_seeds)

# %% [markdown]
# ### 05.4 SmoothGrad
# *Difficulty 3 of 5, about 12 minutes.* `gradient_of(image)` returns the gradient (3, h, w) at a picture (3, h, w);
# `noise` holds n samples (n, 3, h, w) of a standard normal distribution. Return the SmoothGrad map (h, w) with
# `sigma` as a share of the picture's range.
#
# <details><summary>Hint</summary>
#
# Average the gradients; absolute value and maximum over the channels come last.
# </details>


# %% tags=["exercise"]
def my_smooth_grad(gradient_of, image, noise, sigma):
    return ...


check("05.4", my_smooth_grad)


# %% tags=["solution"]
def my_smooth_grad(gradient_of, image, noise, sigma):
    spread = sigma * (image.max() - image.min())
    w = sum(gradient_of(image + spread * each) for each in noise) / len(noise)
    return w.abs().amax(0)


check("05.4", my_smooth_grad)

# %% [markdown]
# ### 05.5 Integrated Gradients
# *Difficulty 3 of 5, about 12 minutes.* Walk from `baseline` to `image` in a straight line, in `steps` equal parts.
# Take the gradient at the *middle* of each part, average the gradients, and multiply the average with the whole way,
# value by value. Return the result, of the image's shape. For the flat score of "Where it fails", the answer at $x = 2$
# must be 1.
#
# <details><summary>Hint</summary>
#
# The middle of part $i$ is at the share `(i + 0.5) / steps` of the way. At the share 0 you stand at the baseline.
# </details>


# %% tags=["exercise"]
def my_integrated(gradient_of, image, baseline, steps):
    return ...


check("05.5", my_integrated)


# %% tags=["solution"]
def my_integrated(gradient_of, image, baseline, steps):
    way = image - baseline
    gradients = [gradient_of(baseline + (i + 0.5) / steps * way) for i in range(steps)]
    return way * sum(gradients) / steps


check("05.5", my_integrated)

# %% [markdown]
# ### 05.6 Who is lying?
# *Difficulty 4 of 5, about 20 minutes.* Somebody hands you five maps (h, w) that are said to explain class `c` of one
# picture `image` (1, 3, h, w), in an unknown order, each divided by its maximum. Four of them do. One is the saliency
# of *another* network with the same layers. The names:
#
# - `"saliency"`: the largest absolute value of the gradient's channels,
# - `"signs cancel"`: the absolute value of the channels' sum,
# - `"gradient times image"`: the gradient times the image, summed over the channels, absolute value,
# - `"probability"`: the saliency of $p_c$ in place of $S_c$,
# - `"another network"`.
#
# Return the list of five names in the order of the maps. Looking at the maps will not do; you have the network.
#
# <details><summary>Hint 1</summary>
#
# You cannot compute the liar's map, and you need not: it is the one that is left over.
# </details>
# <details><summary>Hint 2</summary>
#
# `torch.allclose(a, b, atol=1e-4)` compares two maps. Divide yours by their maximum first.
# </details>


# %% tags=["exercise"]
def my_names(network, image, c, maps):
    return ...


check("05.6", my_names)


# %% tags=["solution"]
def my_names(network, image, c, maps):
    w = gradient_of(network, image, c)[0]
    w_p = gradient_of(lambda x: network(x).softmax(1), image, c)[0]
    own = {"saliency": w.abs().amax(0), "signs cancel": w.sum(0).abs()}
    own |= {"gradient times image": (w * image[0]).sum(0).abs(), "probability": w_p.abs().amax(0)}
    answer = []
    for given in maps:
        found = [name for name, heat in own.items() if torch.allclose(heat / heat.max(), given, atol=1e-4)]
        answer.append(found[0] if found else "another network")
    return answer


check("05.6", my_names)
# %% [markdown]
# ## Self-test
#
# Answer from memory, then unfold.
#
# <details><summary>1. What does $M_{ij}$ promise, and how far does the promise hold?</summary>
#
# How fast the score changes if the pixel changes a little. For our ordinary network the promise held up to a tenth of a
# grey level along the gradient, and no longer at one.
# </details>
#
# <details><summary>2. Why is the score differentiated, and not the probability?</summary>
#
# The probability's gradient has the factor $1 - p$ and vanishes with certainty, and it contains all other classes.
# </details>
#
# <details><summary>3. How was the robust network trained, and what follows from its class models?</summary>
#
# On pictures that were changed within a small distance so that the loss is largest. Under one protocol its class models
# show forms, those of the ordinary network do not. The recipes differ in more points, so the cause is not shown.
# </details>
#
# <details><summary>4. Which lines make one step of the ascent with jitter and penalty?</summary>
#
# Shift at random, differentiate the score minus $\lambda \lVert I \rVert^2$, add the rate times the gradient.
# </details>
#
# <details><summary>5. Which $\sigma$ and how many samples do you take for SmoothGrad on your network?</summary>
#
# Noise that the network can still read, and samples until two seeds agree, about 50.
# </details>

# %% [markdown]
# ## Summary
#
# > **Key idea.** Saliency is a first-order prediction: right for changes too small to see, without a direction, and
# > hardly different from class to class.
#
# > **Key idea.** A class model shows what the network listens to **and** which pictures we allowed. A high score alone
# > gives no form.
#
# **Reading, and why**
#
# - K. Simonyan et al., [Deep Inside Convolutional Networks](https://arxiv.org/abs/1312.6034), 2013. Both ideas, briefly.
# - D. Erhan et al., *Visualizing Higher-Layer Features of a Deep Network*, 2009. The first ascent.
# - D. Smilkov et al., [SmoothGrad](https://arxiv.org/abs/1706.03825), 2017. How $\sigma$ and $n$ were chosen.
# - C. Olah et al., [Feature Visualization](https://distill.pub/2017/feature-visualization/), 2017. All tricks, with
#   their pictures.
# - L. Engstrom et al., [Adversarial Robustness as a Prior](https://arxiv.org/abs/1906.00945), 2019. Class models of
#   robust networks on photographs.
#
# Next: [06 · Feature maps](06_feature_maps.ipynb), what every filter on the way sees. Or [deeper into
# 05](deeper/05_saliency.ipynb).
