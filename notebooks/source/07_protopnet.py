# %% [markdown]
# # 07 · ProtoPNet
#
# **About {reading} minutes to read, {exercises} for the exercises · 2 GiB of memory · no GPU, no network needed**
#
# The other lessons ask networks that were built to answer, and not to explain. ProtoPNet is built to give reasons:
# "*this* part of the picture looks like *that* part of a training picture". Every score is a sum of such reasons. Are
# the two parts really alike? This lesson puts the sentence to the test.
#
# **Afterwards you can**
# - compute a prototype layer, its loss and its projection in plain PyTorch,
# - say which points of a score come from which prototype, for a class and against the other one,
# - test whether "looks like" is true, with pictures that should not look like anything,
# - say what L1 and ridge do to the last layer, and recognise negative reasoning.
#
# **You need** convolutions and a cross-entropy loss. The earlier lessons are not required.
#
# **Contents:** [The idea](#The-idea) · [By hand](#By-hand) · [In plain PyTorch](#In-plain-PyTorch) ·
# [Training in stages](#Training-in-stages) · [The last layer](#The-last-layer) · [Ten prototypes](#Ten-prototypes) ·
# [One image explained](#One-image-explained) · [What else looks like that?](#What-else-looks-like-that?) ·
# [Is there a cure?](#Is-there-a-cure?) · [On photographs](#On-photographs) · [Explorer](#Explorer) · [Exercises](#Exercises) · [Self-test](#Self-test) ·
# [Summary](#Summary)
#
# [← 06 · Feature maps](06_feature_maps.ipynb) · [08 · PaDiM →](08_padim.ipynb) · [what goes beyond: 07
# deeper](deeper/07_protopnet.ipynb)

# %% [markdown]
# ## The idea
#
# The convolutions of ProtoPNet ([Chen et al. 2019](https://arxiv.org/abs/1806.10574)) turn an image into a grid of
# cells $z$, each with $C$ numbers. The network also has *prototypes* $p_j$, each with $C$ numbers and a class of its
# own. Each prototype is compared with every cell:
#
# $$d_j(z) = \lVert z - p_j \rVert^2, \qquad
# g_j = \max_{z}\ \log \frac{d_j(z) + 1}{d_j(z) + \epsilon}, \qquad
# S_c = \sum_j w^c_j\, g_j$$
#
# with $\epsilon = 10^{-4}$. The score $S_c$ has no other source: no bias, and no second path. The training then
# replaces each prototype by a cell of a training image, so that one can look at the prototype.
#
# Our pictures are rendered slices of heads, with a lesion or without one. No patient's data are used, and nothing
# medical follows.

# %%
import copy

import torch
import torch.nn.functional as F

from xailab import figures
from xailab.datasets import phantoms
from xailab.lessons import protopnet as lesson
from xailab.protopnet import accuracy, local_analysis, shipped

train_set = phantoms.batch(range(400))
test_set = phantoms.batch(range(200), split="test")  # slices that the network has not seen
images, labels = test_set.images, test_set.labels
network = shipped("usual").requires_grad_(False)
figures.show(
    lesson.draw_architecture(network, images[9], [9, 7, 3]),
    "From left to right: a slice, convolutions, a grid of cells, three prototypes as training patches, a map of similarities for "
    "each, and its maximum times a weight; the sum is the logit of lesion.",
)
print(f"right on {accuracy(network, images, labels):.3f} of 200 unseen slices")

# %% [markdown]
# Its reasons for two new slices:

# %%
opening = local_analysis(network, images[[50, 16]], top=10, target=1)
figures.show(
    lesson.draw_looks_like(opening, images=[0, 1], prototypes=[9, 7]),
    "Two rows. Left a new slice of a head with a framed square at a ring-shaped lesion, then the square enlarged, the words looks like, "
    "a similar ring, and the training slice that it was taken from.",
)

# %% [markdown]
# Each row reads: this part of the new slice looks like that part of a slice seen in training. We see a bright ring
# around a dark core, twice. A frame shows all pixels that the cell can see.
#
# **Predict before you run.** We will give the network an empty grey picture. Which class will it name? How similar
# will prototype 9 find the grey picture, if a real lesion gives 4.1 on average, and 9.2 is the most?

# %% [markdown]
# *Your prediction (double-click here and write):* …

# %% [markdown]
# ## By hand
#
# Four cells with two numbers each, and one prototype for each of two classes. The first prototype is equal to a cell.

# %%
z = torch.tensor([[[0.0, 1.0], [0.0, 0.5]], [[0.0, 0.0], [1.0, 0.5]]])  # (C, rows, columns)
prototypes = torch.tensor([[1.0, 0.0], [0.4, 1.0]])
weight = torch.tensor([[1.0, -0.5], [-0.5, 1.0]])  # (classes, prototypes): the paper's first weights

best = []
for p in prototypes:
    d = ((z - p[:, None, None]) ** 2).sum(0)  # (rows, columns)
    g = ((d + 1) / (d + 1e-4)).log()
    best.append(g.max())
    print("squared distances", [f"{v:.2f}" for v in d.flatten()], "  similarities", [f"{v:.2f}" for v in g.flatten()])
print("best cells", [f"{v:.2f}" for v in best], "  scores", [f"{v:.2f}" for v in weight @ torch.stack(best)])

# %% [markdown]
# **Why this logarithm, and not $-d$?** Both fall with the distance, so both choose the same cell. They differ in what
# they hand to the sum.

# %%
for d in (0.0, 0.01, 0.1, 1.0, 10.0, 12.0):
    print(f"d = {d:5.2f}   -d = {0 - d:6.2f}   logarithm = {torch.tensor((d + 1) / (d + 1e-4)).log():.2f}")

# %% [markdown]
# Far away the logarithm is close to 0 and flat: an absent prototype adds next to nothing, however absent it is. With
# $-d$ the absent prototypes would dominate the sum, since their distances are the largest. Near the prototype the
# logarithm is steep, and it never exceeds $\log 10^4 = 9.21$. So the score counts *presence*.

# %% [markdown]
# ## In plain PyTorch
#
# The same for all images, prototypes and cells at once, on the shipped network. `features` are five convolutions, and
# `add_on` are two 1 × 1 convolutions that end in a sigmoid.


# %%
def embed(network, images):
    return network.add_on(network.features((images - network.mean) / network.std))  # (n, C, rows, columns)


def compare(z, prototypes, weight):
    gap = z[:, None] - prototypes[None, :, :, None, None]  # (n, p, C, rows, columns)
    d = gap.square().sum(2)
    g = ((d + 1) / (d + 1e-4)).log().amax((2, 3))  # the best cell: (n, p)
    return g @ weight.T, g, d


def loss_of(z, labels, prototypes, weight, owners):  # owners: the class of each prototype
    scores, _, d = compare(z, prototypes, weight)
    nearest = d.amin((2, 3))
    own = owners == labels[:, None]
    cluster = nearest.masked_fill(~own, torch.inf).amin(1).mean()
    separation = nearest.masked_fill(own, torch.inf).amin(1).mean()
    foreign = weight[owners != torch.arange(len(weight))[:, None]].abs().sum()
    return F.cross_entropy(scores, labels) + 0.8 * cluster - 0.08 * separation + 1e-4 * foreign


# %%
from xailab.protopnet import Settings, losses

owners, weight, some, of = network.prototype_classes, network.last_layer.weight, images[:32], labels[:32]
scores, g, d = compare(embed(network, some), network.prototypes, weight)
loss = loss_of(embed(network, some), of, network.prototypes, weight, owners)
assert torch.allclose(scores, network(some), atol=1e-4)
assert torch.allclose(loss, losses(network, some, of)[0].total(Settings()), atol=1e-4)
print(f"cells {tuple(d.shape[2:])}, prototypes {tuple(network.prototypes.shape)}, loss {loss:.2f}, as in the library")

# %% [markdown]
# The loss wants right answers, in each image one patch near some prototype of its class (*cluster*), and no patch
# near a prototype of another class (*separation*). The last term concerns the last layer, below. Distances that do
# not count are hidden by *infinity*. The product `d * mask` would make them 0, the smallest distance of all.

# %% [markdown]
# ## Training in stages
#
# - **Warm-up:** prototypes and add-on layers are trained; the features are frozen.
# - **Joint:** the features are trained as well; only the last layer is fixed.
# - **Projection:** each prototype is replaced by the nearest cell of a training image of its own class.
# - **Last layer:** only the weights $w^c_j$ are fitted.
#
# We keep the shipped features and add-on layers, and train ten random prototypes: a small warm-up. One training step
# is what stands inside the loop.
#
# **Predict:** after which stage is the accuracy lowest: training, projection, or last layer?

# %% [markdown]
# *Your prediction:* …

# %%
from xailab.protopnet import fit_last_layer

with torch.no_grad():
    z, z_test = embed(network, train_set.images), embed(network, images)
generator = torch.Generator().manual_seed(0)
prototypes = torch.rand(10, 32, generator=generator).requires_grad_()
first_weight = torch.where(network.prototype_class_identity, 1.0, -0.5)
optimizer = torch.optim.Adam([prototypes], lr=3e-3)
for _ in range(200):
    index = torch.randint(len(z), (32,), generator=generator)
    loss = loss_of(z[index], train_set.labels[index], prototypes, first_weight, owners)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

# %% [markdown]
# Projection, and the fit of the last layer (next section):

# %%
trained = prototypes.detach()
cells = z.permute(0, 2, 3, 1).flatten(0, 2)  # every cell of every training slice
cell_labels = train_set.labels.repeat_interleave(z.shape[2] * z.shape[3])
gaps = torch.cdist(trained, cells).masked_fill(cell_labels != owners[:, None], torch.inf)
projected = cells[gaps.argmin(1)]
fitted = copy.deepcopy(network)
fitted.prototypes.copy_(projected)
fit_last_layer(fitted, train_set.images, train_set.labels)
for parts in (trained, first_weight), (projected, first_weight), (projected, fitted.last_layer.weight):
    print(f"right on {(compare(z_test, *parts)[0].argmax(1) == labels).float().mean():.2f}")

# %% [markdown]
# The three lines are: trained, projected, last layer fitted. Projection costs about ten points, because no training
# patch lies where the trained prototypes were. Fitting the last layer wins them back. The shipped network went the
# same way, and then once more:

# %%
from xailab.protopnet.shipped import manifest

for before, after, again in manifest()["usual"]["results"]["projections"]:
    print(f"shipped network, projection: before {before:.3f}, after {after:.3f}, last layer fitted {again:.3f}")

# %% [markdown]
# Between the two projections all parts were trained again, now with prototypes among real patches. *A projection that
# costs much says that the prototypes were not near anything that exists.* (The shipped training has two further loss
# terms; their formulas stand in the [deeper notebook](deeper/07_protopnet.ipynb).)

# %% [markdown]
# ## The last layer
#
# With frozen prototypes, the similarities $g$ are fixed numbers, and the paper minimises a convex function of $w$:
#
# $$\text{cross-entropy}(w\, g) + 10^{-4} \sum_{j\ \text{of another class}} |w^c_j|.$$
#
# The L1 term has a purpose. The paper wants no *negative reasoning*: "this is **no** lesion, **because
# it does not look like one**". It pushes the weights from a prototype to foreign classes to 0. Does it reach that here?

# %%
lesions = images[labels == 1]
g = network.forward_details(lesions).similarities
from_own = (g[:, 5:] * weight[1, 5:]).sum(1).mean()
from_foreign = -(g[:, 5:] * weight[0, 5:]).sum(1).mean()
print(f"prototypes of lesion: {from_own:.1f} points for “lesion”, and {from_foreign:.1f} off “no lesion”")
for l1 in (1e-4, 1e-2):
    other = copy.deepcopy(network)
    fit_last_layer(other, train_set.images, train_set.labels, l1=l1)
    row = [f"{v:+.2f}" for v in other.last_layer.weight[0, 5:]]
    print(f"L1 {l1}: from lesion's prototypes to “no lesion” {row}, right {accuracy(other, images, labels):.3f}")

# %% [markdown]
# With the paper's $10^{-4}$ it does not: nearly half of the lesion prototypes' effect is negative reasoning about "no
# lesion". A hundred times the L1 weight removes all of it, at no cost in accuracy.
#
# **Does a solution exist?** A convex function need not have a minimum. If the classes can be separated with weights
# to the own class alone, doubling these weights makes the cross-entropy smaller, again and again, and the L1 term
# does not see them. In the library a *ridge* term $\tfrac{\rho}{2} \sum w^2$ ends this. The function then grows in
# every direction and is strictly convex: exactly one solution exists. The [deeper notebook](deeper/07_protopnet.ipynb)
# shows both with numbers.

# %% [markdown]
# ## Ten prototypes

# %%
origin = opening.origin
figures.show(
    lesson.draw_origins(origin, network.classes, weight),
    "The ten prototypes, each as its training slice with a framed square. Those of no lesion lie on brain and on the rim of the skull, "
    "those of lesion on bright or ring-shaped lesions. Titles give the weight for the own class.",
)

# %%
typical = [network.forward_details(images[labels == k]).similarities.mean(0) for k in (0, 1)]
print("prototype, class: similarity in slices without a lesion and with one; weight for “no lesion” and “lesion”")
for j in range(10):
    similar, (no, yes) = f"{typical[0][j]:.1f} {typical[1][j]:.1f}", weight[:, j]
    print(f"{j}, {network.classes[owners[j]]:9s}: {similar}; {no:+.2f} {yes:+.2f}")

# %% [markdown]
# The prototypes of "lesion" are more similar to slices with a lesion than to *these* slices without one, prototype 9
# clearly, 5 and 7 by little. Those of "no lesion" are another matter. Prototype 3 finds itself equally in both: its
# points act like a bias, which a lesion has to outweigh. How would one point at an absence?

# %% [markdown]
# ## One image explained
#
# `local_analysis` lists, for each image and prototype, the similarity, the place, the training slice, and the
# *contribution*: similarity times weight. **Predict:** do the contributions approximate the score, or equal it?

# %%
first = local_analysis(network, images[:16], top=10, target=1)
figures.show(
    lesson.draw_sentence(first, image=9),
    "Three lines, each: the slice with a frame, the framed part, looks like, a training patch, its slice, and a bar with similarity "
    "times weight. Two bars for lesion, one against; below, the sum, which is the logit.",
    pixels=figures.SCREEN,
)
print(f"sum of the contributions {first.contributions[9].sum():.3f}, score {first.output.logits[9, 1]:.3f}")
called = first.predicted == 1
print("slices called lesion: the most similar prototype is", first.prototypes[called, 0].tolist())
print("                      the largest contribution has  ", first.contributions[called].argmax(1).tolist())

# %% [markdown]
# They equal it. Nothing is estimated: the picture *is* the computation. But similar is not the same as important. The
# most similar prototype is often number 3 of "no lesion", even in slices that are called "lesion". Read the
# contributions.

# %% [markdown]
# ## What else looks like that?
#
# "This looks like that" is a claim about pictures, but the network compares *cells*. [Hoffmann et al.
# 2021](https://arxiv.org/abs/2105.02968) show that two patches can be equal to a network and unlike to us; [Nauta et
# al. 2021](https://arxiv.org/abs/2011.02863) ask *in what* two patches look alike: colour, shape or texture? The test
# is simple. Show the network pictures that look like no lesion:

# %%
healthy = images[labels == 0]
generator = torch.Generator().manual_seed(0)
grey = healthy.mean((2, 3), keepdim=True).expand_as(healthy)  # each slice's own mean
sets = {
    "lesion": lesions,
    "no lesion": healthy,
    "flat grey": grey,
    "blurred": F.avg_pool2d(F.pad(healthy, (4, 4, 4, 4), mode="reflect"), 9, 1),  # a mean over 9 x 9 pixels
    "noise": (grey + 0.2 * torch.randn(healthy.shape, generator=generator)).clamp(0, 1),
}
nearest_healthy = int(network.forward_details(healthy).similarities[:, 9].argmax())  # nearest to prototype 9
shown = {"prototype 9, its slice": origin.provenance.images[9], "a lesion": images[50]}
shown |= {"nearest of\n100 without lesion": healthy[nearest_healthy]}
shown |= {name: sets[name][0] for name in ("flat grey", "blurred", "noise")}
row = network.forward_details(torch.stack(list(shown.values())))
figures.show(
    lesson.draw_else(shown, row.similarities[:, 9].tolist(), row.logits[:, 1].tolist()),
    "Six pictures with the similarity of prototype 9 and the logit of lesion: its own slice, a lesion, the nearest slice without "
    "lesion, a flat grey, a blurred slice, and noise. Flat and blurred get more than the lesion, noise gets nothing.",
)


# %%
print(lesson.look_alikes(network, sets))
for name in ("lesion", "flat grey", "blurred"):
    maps = network.forward_details(sets[name]).maps[:, 9]
    inner = maps[:, 2:11, 2:11].amax((1, 2)).mean()  # cells that see no pixel beyond the picture
    print(f"prototype 9 in {name}: similarity {maps.amax((1, 2)).mean():.1f}, away from the picture's edge {inner:.1f}")

# %% [markdown]
# (The last column: in which share of the pictures a prototype of "lesion" finds more of itself than in the median
# lesion.)
#
# **"This looks like that" does not hold.** An empty grey picture is called "lesion" every time, with a higher score
# than real lesions. Every blurred slice without a lesion is one, too. Prototype 9 shows us a ring around a dark core,
# but the network must see something else in it. Flat and blurred pictures lack the fine texture of tissue, and noise
# has too much of it: perhaps "lesion" means *smooth* to this network. This is a guess, and the negatives below speak against it.
#
# A part of the effect has another cause. In flat grey, prototype 9 is most similar to a cell at the *edge* of the
# picture, where the zero padding of the convolutions makes a contrast. Away from the edge its
# similarity falls to 1.4, while blurred slices keep theirs.
#
# Another falling activation in place of the logarithm would not help: it keeps the order of the cells of each prototype.
#
# What does hold is weaker. The score is the sum of its contributions, and the training patch is where it was found.
# The two patches are alike *to the network*. Whether they are alike to you, and in what, has to be tested.

# %% [markdown]
# ## Is there a cure?
#
# We have tried one. The network `"decoys"` was trained by the same recipe with 600 additional pictures of the class
# "no lesion": flat greys, blurred slices, and noise. No prototype may become a part of them. Half of all slices were
# blurred a little, so that blur does not tell the classes apart.
#
# **Predict:** will it pass the test? Will it also pass with kinds of pictures that it has never seen, such as
# negatives of slices without a lesion, or their mosaics of 8 × 8 pixels?

# %% [markdown]
# *Your prediction:* …

# %%
from xailab.protopnet import top_pixels_in_mask

cured = shipped("decoys").requires_grad_(False)
sets["negative"] = 1 - healthy
sets["mosaic"] = F.interpolate(F.avg_pool2d(healthy, 8), scale_factor=8, mode="nearest")
print(f"right on {accuracy(cured, images, labels):.3f} of 200 unseen slices")
print(lesson.look_alikes(cured, sets))
for name in ("negative", "mosaic"):
    print(f"usual network, {name}: called lesion {(network(sets[name]).argmax(1) == 1).float().mean():.2f}")
share = top_pixels_in_mask(cured.forward_details(lesions).maps, test_set.masks[labels == 1])[:, 5:].mean(0)
print("lesion's prototypes: share of their brightest pixels on the lesion", [f"{v:.2f}" for v in share.tolist()])

# %% [markdown]
# The cured network passes the test at about the same accuracy: no flat, blurred or noisy picture is called "lesion",
# and in none of them does a prototype find more than in the median lesion. Its prototypes of "lesion" mostly lie on it.
# But it passes what it was trained for. Negatives of slices without a lesion are called "lesion" in 89 of 100 cases,
# and mosaics in 44; the usual network calls all of them "lesion". A test with named pictures can show that "looks like" is
# false. It cannot show that it is true. Other trainings, and what they cost, stand in the [deeper
# notebook](deeper/07_protopnet.ipynb).

# %% [markdown]
# ## On photographs
#
# The comparison of cells needs no training of its own. EfficientNet-Lite0 was trained on ImageNet, and has 28 × 28
# cells after `block11` for a picture of 448 pixels. We point at three places (orange), and ask for the most similar
# cells in all seven photographs, at least 70 pixels apart.
#
# **Predict:** we point at an eye of the cat. What will be second and third among the photographs of a cup, a
# motorcycle, a rocket, a man with a camera, a temple, and a flower?

# %% [markdown]
# *Your prediction:* …

# %%
from dataclasses import replace

from xailab.datasets import photographs
from xailab.models import zoo

lite = zoo.load("efficientnet_lite0")
names = photographs.names()
large = replace(lite.preprocess, resize=448, crop=448)
batch = torch.cat([large(photographs.photograph(name).image) for name in names])
kept = []
hook = lite.block11.register_forward_hook(lambda module, inputs, output: kept.append(output))
with torch.no_grad():
    lite(batch)
hook.remove()
cells = F.normalize(kept[0] - kept[0].mean((0, 2, 3), keepdim=True), dim=1)  # 7 x 112 x 28 x 28, of length 1
seen = [large.undo(one[None])[0] for one in batch]
rows = []
for name, x, y in (("cat", 140, 175), ("rocket", 92, 200), ("temple", 155, 190)):
    this = cells[names.index(name), :, y // 16, x // 16]
    cosine = torch.einsum("c,nchw->nhw", this, cells)  # of this cell with every cell of every photograph
    rows.append(lesson.highest(cosine, seen, apart=70, count=4))  # the first is the place itself
figures.show(
    lesson.draw_neighbours(rows, side=64),
    "Three rows. The cat's eye finds its other eye, then the ear of a man and an engine; the mast beside a rocket finds the other "
    "mast, then a tripod; the roof of a temple finds its other roofs.",
)

# %% [markdown]
# The first neighbours convince: the other eye, the other mast, another roof. After them the similarity falls, and an
# ear and an engine are "like" an eye. *There is always a nearest cell*, so its similarity must be read beside it.
# (The cosine of centred cells stands in for $-d$. A square of 64 pixels marks the place; a cell after `block11` sees
# more.)

# %% [markdown]
# ## Explorer
#
# Walk down the ranks. From which rank on does a prototype find nothing of itself? The kinds of box are explained in
# the [deeper notebook](deeper/07_protopnet.ipynb).

# %%
lesson.box_explorer(network, local_analysis(network, images[[50, 9, 0, 3, 4, 1, 2, 5]], top=10, target=1))

# %% [markdown]
# ## Exercises
#
# Write into the cell, run it, and read what `check` says. Solve 07.1 and 07.2, and then choose.

# %% [markdown]
# ### 07.1 The prototype layer
# *Difficulty 2 of 5, about 10 minutes.* `latent` (n, C, h, w) holds the cells of n images, `prototypes` is (p, C),
# `weight` (classes, p). Return the logits (n, classes).
#
# <details><summary>Hint</summary>
#
# `latent[:, None] - prototypes[None, :, :, None, None]` is (n, p, C, h, w). Square, sum over C, and take the
# similarity. Then the largest over the cells: `.flatten(2).amax(2)`.
# </details>

# %% tags=["exercise"]
from xailab.lessons import check


def my_logits(latent, prototypes, weight):
    return ...


check("07.1", my_logits)

# %% tags=["solution"]
from xailab.lessons import check


def my_logits(latent, prototypes, weight):
    d = (latent[:, None] - prototypes[None, :, :, None, None]).square().sum(2)
    similarities = ((d + 1) / (d + 1e-4)).log().flatten(2).amax(2)
    return similarities @ weight.T


check("07.1", my_logits)

# %% [markdown]
# ### 07.2 Projection
# *Difficulty 3 of 5, about 12 minutes.* `latent` (n, C, h, w) are the cells of n training images with `labels` (n,).
# Prototype j of `prototypes` (p, C) belongs to class `owners[j]`. Return the projected prototypes (p, C).
#
# <details><summary>Hint</summary>
#
# `cells = latent.permute(0, 2, 3, 1).flatten(0, 2)` puts all cells into rows, image by image, and
# `labels.repeat_interleave(h * w)` says whose each is. `torch.cdist` gives all distances; hide those of other
# classes.
# </details>


# %% tags=["exercise"]
def my_projection(latent, labels, prototypes, owners):
    return ...


check("07.2", my_projection)


# %% tags=["solution"]
def my_projection(latent, labels, prototypes, owners):
    cells = latent.permute(0, 2, 3, 1).flatten(0, 2)
    of = labels.repeat_interleave(latent.shape[2] * latent.shape[3])
    distances = torch.cdist(prototypes, cells).masked_fill(of != owners[:, None], torch.inf)
    return cells[distances.argmin(1)]


check("07.2", my_projection)

# %% [markdown]
# ### 07.3 The cluster cost
# *Difficulty 3 of 5, about 10 minutes.* `distances` (n, p, h, w) are squared distances of n images' cells to p
# prototypes. For each image take the smallest distance to a prototype of its own class; return the mean over the
# images. Beware of `d * mask`.
#
# <details><summary>Hint</summary>
#
# `.flatten(2).amin(2)` leaves (n, p). `masked_fill(owners != labels[:, None], torch.inf)` hides the others.
# </details>


# %% tags=["exercise"]
def my_cluster(distances, labels, owners):
    return ...


check("07.3", my_cluster)


# %% tags=["solution"]
def my_cluster(distances, labels, owners):
    least = distances.flatten(2).amin(2).masked_fill(owners != labels[:, None], torch.inf)
    return least.amin(1).mean()


check("07.3", my_cluster)

# %% [markdown]
# ### 07.4 Reasons for and against
# *Difficulty 2 of 5, about 8 minutes.* `similarities` (p,) are those of one image, `weight` (classes, p) the last
# layer without a bias. The network has chosen the class with the highest score. Return two lists of prototype
# numbers: the at most three that speak *most strongly for* this class **against the second-best class**, strongest
# first, and the at most three that speak most strongly against it. A prototype that changes nothing is in neither.
#
# <details><summary>Hint 1</summary>
#
# What decides between two classes is the difference of their scores. Each prototype gives
# `(weight[first] - weight[second]) * similarities` to it: negative reasoning counts as well.
# </details>
# <details><summary>Hint 2</summary>
#
# `scores.argsort(descending=True)[:2]` has both classes. Keep positive numbers only for the first list, negative ones
# only for the second.
# </details>


# %% tags=["exercise"]
def my_reasons(similarities, weight):
    return ...


check("07.4", my_reasons)


# %% tags=["solution"]
def my_reasons(similarities, weight):
    first, second = (weight @ similarities).argsort(descending=True)[:2]
    given = (weight[first] - weight[second]) * similarities
    order = given.argsort(descending=True).tolist()
    speak_for = [j for j in order if given[j] > 0][:3]
    against = [j for j in order[::-1] if given[j] < 0][:3]
    return speak_for, against


check("07.4", my_reasons)

# %% [markdown]
# ### 07.5 Which prototypes would you not trust?
# *Difficulty 4 of 5, about 15 minutes.* `model` is a ProtoPNet of two classes, "no lesion" (0) and "lesion" (1), and
# `slices` (n, 1, 96, 96) are slices **with a lesion**. Return the sorted numbers of those prototypes of "lesion" that
# are found in an empty picture at least as strongly as in the median slice with a lesion. Try all grey levels 0,
# 0.05, ..., 1 (21 empty pictures), and count a prototype if *one* of them is enough. Before you run the check, write
# down which prototypes of the usual network you expect.
#
# <details><summary>Hint 1</summary>
#
# `model.forward_details(pictures).similarities` is (n, p), and `model.prototype_classes` (p,).
# </details>
# <details><summary>Hint 2</summary>
#
# The largest over the 21 empty pictures, `amax(0)`, is compared with the *median* over the slices,
# `.median(0).values`.
# </details>


# %% tags=["exercise"]
def my_suspects(model, slices):
    return ...


check("07.5", my_suspects)


# %% tags=["solution"]
def my_suspects(model, slices):
    levels = torch.linspace(0, 1, 21).view(-1, 1, 1, 1)
    with torch.no_grad():
        empty = model.forward_details(levels.expand(-1, 1, 96, 96).contiguous()).similarities.amax(0)
        usual = model.forward_details(slices).similarities.median(0).values
    return ((empty >= usual) & (model.prototype_classes == 1)).nonzero().flatten().tolist()


check("07.5", my_suspects)

# %% [markdown]
# ## Self-test
#
# Answer from memory, then unfold.
#
# <details><summary>1. What is a score of a ProtoPNet made of, and what is missing from it?</summary>
#
# It is the sum over all prototypes of weight times similarity of the best cell. There is no bias and no other path.
# </details>
#
# <details><summary>2. What does projection do, and what does its cost tell?</summary>
#
# It replaces each prototype by the nearest cell of a training image of its class. If the accuracy falls much, the
# prototypes were far from everything that exists.
# </details>
#
# <details><summary>3. Why is the similarity a logarithm and not −d?</summary>
#
# Both choose the same cell. Far away the logarithm is flat and near 0, so that an absent prototype adds nothing; it
# is bounded by 9.21 and steep near the prototype. With −d the absent prototypes would dominate the sum.
# </details>
#
# <details><summary>4. What do the L1 term and the ridge term of the last layer do?</summary>
#
# L1 pushes weights to foreign classes to 0, against negative reasoning. On separable data the function may have no
# minimum, because larger own weights always help; the ridge term makes exactly one solution exist.
# </details>
#
# <details><summary>5. Prototype 9 has a high similarity. Do the two patches look alike?</summary>
#
# Their cells are near each other, which is all that is known. In this network blurred slices without a lesion are
# nearer to prototype 9 than most lesions are. Test it with pictures that should not look like the prototype.
# </details>

# %% [markdown]
# ## Summary
#
# > **Key idea.** A ProtoPNet scores a class by the similarity of its best cells to training patches. The
# > contributions, similarity times weight, *are* the score. Similar does not mean important: read the contributions.
#
# > **Key idea.** Projection makes each prototype a patch that exists, and its cost in accuracy tells how far the
# > prototypes were from such patches.
#
# > **Key idea.** Near in the space of cells is not alike to the eye. Test "looks like" with pictures that should not:
# > flat, blurred, noise, the nearest of the other class. Training with such pictures helps against these, and not
# > against all others.
#
# **Reading, and why**
#
# - C. Chen et al., [This Looks Like That: Deep Learning for Interpretable Image
#   Recognition](https://arxiv.org/abs/1806.10574), NeurIPS 2019. The method; the figures alone are worth it.
# - A. Hoffmann et al., [This Looks Like That... Does it? Shortcomings of Latent Space Prototype Interpretability in
#   Deep Networks](https://arxiv.org/abs/2105.02968), 2021. Noise and JPEG compression that break "looks like".
# - M. Nauta et al., [This Looks Like That, Because ... Explaining Prototypes for Interpretable Image
#   Recognition](https://arxiv.org/abs/2011.02863), 2021. Says in what two patches are alike.
#
# Next: [08 · PaDiM](08_padim.ipynb), or [deeper](deeper/07_protopnet.ipynb): a network that relies on a letter,
# what the frames show, and real slices and birds (which need a download).
