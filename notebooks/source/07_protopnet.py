# %% [markdown]
# # 07 · ProtoPNet
#
# **About 75 minutes to read, 45 for the exercises · 2 GiB of memory · no GPU, no network needed**
#
# The lessons before this one asked networks that were built to answer, not to explain. ProtoPNet is built the other
# way round: it can only decide by saying "*this* looks like *that*, which I have seen". Its reasons are terms of a
# sum and need not be inferred. What can still be wrong is the picture that is drawn of a reason, and that can be
# tested. We shall: one of its pictures does not show what it says.
#
# **Afterwards you can**
# - compute a prototype layer by hand, and say what a logit is made of,
# - train in stages, and read from the accuracy what each of them does,
# - say what projection does to a prototype, and do it,
# - explain one image in one picture: which prototypes, from where, how much each counted,
# - find out by a global analysis that a network has learnt the wrong thing, and prune,
# - compute what a cell sees, and test whether a box shows what the network saw.
#
# **You need** convolutions and a cross-entropy loss. The earlier lessons are not required.

# %% [markdown]
# ## The idea
#
# How do you know that this is a sparrow? You point: *this* head looks like *that* head in the bird book. Chen et
# al. (2019) make a network do so. Its convolutions turn an image into a grid of cells $z$, of $C$ numbers each.
# Next to them it has *prototypes* $p_j$, of $C$ numbers too, a few for each class. Each prototype is compared with
# every cell,
#
# $$d_j(z) = \lVert z - p_j \rVert^2, \qquad
# g_j = \max_{z}\ \log \frac{d_j(z) + 1}{d_j(z) + \epsilon}, \qquad
# \text{logit}_k = \sum_j w_{kj}\, g_j$$
#
# with $\epsilon = 10^{-4}$ (Section 2.1 of the paper). The similarity $g_j$ of the nearest cell is at most
# $\log 10^4 = 9.21$, when the cell *is* the prototype. The logits have no other source: no bias, no second way. And
# after training, each prototype is *made* a cell of some training image, so that one can look at it.
#
# Here is what comes out, for two slices of heads that the network has not seen. The slices are rendered: no patient's
# data are used, and nothing medical follows.

# %%
import torch

from xailab import figures
from xailab.datasets import phantoms
from xailab.lessons import protopnet as lesson
from xailab.protopnet import accuracy, local_analysis, shipped

train_set = phantoms.batch(range(400))
test_set = phantoms.batch(range(200), split="test")
network = shipped("usual").requires_grad_(False)
opening = local_analysis(network, test_set.images[[50, 16]], top=10, target=1)
figures.show(
    lesson.draw_looks_like(opening, images=[0, 1], prototypes=[9, 7]),
    "Two rows. Left a new slice of a head with a framed square at a ring-shaped lesion, then the square enlarged, the words looks like, "
    "a similar ring, and the training slice that it was taken from.",
)

# %% [markdown]
# Read a row from left to right: *this* part of the new slice looks like *that* part of a slice seen in training: a
# bright ring around a dark core. The frames show all that the cell in question can see. (The authors draw other
# frames. Which are right is the last question of this lesson.)
#
# **Predict before you run:** on a grid of 2 × 2 cells, three cells are far from a prototype and one is equal to it.
# How large is $g$?
#
# ## From scratch 1: the prototype layer
#
# Four cells of two numbers each, one prototype for each of two classes. The first is equal to a cell, the second
# near to one.

# %%
z = torch.tensor([[[0.0, 1.0], [0.0, 0.5]], [[0.0, 0.0], [1.0, 0.5]]])  # (C, h, w)
prototypes = torch.tensor([[1.0, 0.0], [0.4, 1.0]])
weights = torch.tensor([[1.0, -0.5], [-0.5, 1.0]])  # (classes, p): the paper's first weights

best = []
for p in prototypes:
    distances = torch.tensor([[float(((z[:, y, x] - p) ** 2).sum()) for x in range(2)] for y in range(2)])
    similarities = ((distances + 1) / (distances + 1e-4)).log()
    best.append(similarities.max())
    print("squared distances", [f"{d:.2f}" for d in distances.flatten()], end="   ")
    print("similarities", [f"{g:.2f}" for g in similarities.flatten()])
scores = torch.stack(best)
logits = weights @ scores
print("scores", [f"{g:.2f}" for g in scores], "  logits", [f"{v:.2f}" for v in logits])

# %% [markdown]
# The logarithm makes the similarity steep near the prototype and flat far away: 9.21 for the same, 1.98 at a
# squared distance of 0.16, 0.41 at one of 2. Only the best cell counts, so a prototype asks "is there something
# like me *anywhere*?" The library does it for all images, prototypes and cells at once:

# %%
from xailab.protopnet import ProtoPNet, SmallFeatures

tiny = ProtoPNet(SmallFeatures(), prototypes_per_class=1, classes=2, dimensions=2).requires_grad_(False)
tiny.prototypes.copy_(prototypes)
output = tiny.compare_patches(z[None])
assert torch.allclose(output.similarities[0], scores) and torch.allclose(output.logits[0], logits, atol=1e-5)
print("the library agrees; nearest cells (row, column):", output.cells[0].tolist())

# %% [markdown]
# ## Slices, and a network
#
# The seed of this lesson is a student's report on brain slices with and without a tumour. Ours are drawn by a
# program, so that the lesion's exact pixels are known, which no collection of real slices offers.

# %%
shown = [0, 3, 9, 1, 2, 5]
figures.show(
    figures.grid(
        [lesson.picture(test_set.images[i]) for i in shown],
        [phantoms.CLASSES[int(test_set.labels[i])] for i in shown],
        columns=6,
    ),
    "Six rendered grey slices of heads, 96 pixels wide: three with a lesion, three without.",
)
parameters = sum(p.numel() for p in network.parameters())
right = accuracy(network, test_set.images, test_set.labels)
print(f"the shipped network: {parameters:,} parameters, {len(network.prototypes)} prototypes of "
      f"{network.prototypes.shape[1]} numbers, {network.forward_details(test_set.images[:1]).maps.shape[2]}² cells")  # fmt: skip
print(f"right on {100 * right:.1f} % of 200 unseen slices")

# %% [markdown]
# ## Training in stages
#
# The loss asks for three things: right answers, a patch of each image near to some prototype of its class
# (*cluster*), and none near to those of other classes (*separation*; equation 1 of the paper):
#
# $$\mathcal L = \text{cross-entropy} + 0.8\ \underbrace{\tfrac1n \sum_i \min_{j:\, \text{own}} \min_z d_j(z)}_\text{cluster}
# - 0.08\ \underbrace{\tfrac1n \sum_i \min_{j:\, \text{other}} \min_z d_j(z)}_\text{separation}$$
#
# - **Warm-up:** prototypes and the two small layers before them learn, the features stay.
# - **Joint:** all of that learns, only the last layer does not.
# - **Projection:** each prototype jumps to the nearest patch of its own class.
# - **Last layer:** everything else is frozen now, and the problem is convex. It has one solution, found in no time.
#
# The paper starts with features that were trained on ImageNet. We start with the features of the shipped network, and
# train everything after them anew. This takes some seconds, on 400 slices. **Predict:** at which stage does the
# accuracy drop?

# %%
import copy

from xailab.protopnet import Settings, train

learner = ProtoPNet(copy.deepcopy(network.features), 5, phantoms.CLASSES, dimensions=32)
learner.requires_grad_(True)
settings = Settings(
    features=0, warm=1, joint=2, again=0, batch=32, separation=0.12, prototype_to_patch=0.2, diversity=0.4
)
history = train(
    learner,
    train_set.images,
    train_set.labels,
    settings,
    held_out=(test_set.images, test_set.labels),
    progress=False,
)
print("stages:", ", ".join(epoch.stage for epoch in history))
print("more than 85 % of the unseen slices are right, at every stage:", all(e.held_out > 0.85 for e in history))

# %% tags=["exempt"]
from xailab.protopnet.shipped import manifest

projections = manifest()["usual"]["results"]["projections"]
figures.show(
    lesson.draw_stages(history, projections),
    "Left, accuracy on training and unseen slices over the stages of a short training. Right, accuracy of the shipped network before "
    "and after its two projections and with the last layer fitted: the first projection costs much, the last next to nothing.",
)

# %%
for name, (before, after, fitted) in zip(("first", "last"), projections, strict=True):
    print(f"shipped network, {name} projection: before {before:.3f}, after {after:.3f}, last layer fitted {fitted:.3f}")

# %% [markdown]
# The features knew the task already, so the short training has little to teach. In the run that is saved here, the
# joint stage went on learning the 400 slices and lost a little on unseen ones; projection and last layer cost next to
# nothing. The course of a whole training is on the right. The shipped network was trained by `recipes/phantoms.py`,
# features and all (the figures are those that it measured on slices set aside). Its first projection moved the
# prototypes away from where the last layer expected them: nearly ten points lost, and won back by fitting the last
# layer alone. Then everything was trained again, now with prototypes that lay among real patches, and the second
# projection cost half a point. That is the way to judge a projection: if it costs much, the prototypes were not near
# anything that exists, and pictures of them say little.
#
# (Two terms are ours. *prototype_to_patch* keeps each prototype near to some patch; it is the term R1 of Li et al. 2018.
# *diversity* keeps the prototypes of a class apart. Without them all five may become one patch. The library warns when
# that happens.)
#
# ## From scratch 2: projection
#
# What does it do to a prototype? Six latent cells of two numbers, of two classes, and a prototype for each:

# %%
healthy = torch.tensor([[0.15, 0.2], [0.3, 0.75], [0.55, 0.35]])
sick = torch.tensor([[0.62, 0.62], [0.85, 0.8], [0.9, 0.3]])
cells, labels = torch.cat([healthy, sick]), torch.tensor([0, 0, 0, 1, 1, 1])
loose, owners = torch.tensor([[0.42, 0.5], [0.6, 0.45]]), torch.tensor([0, 1])

gaps = ((loose[:, None] - cells) ** 2).sum(2)  # (p, cells)
gaps[labels != owners[:, None]] = torch.inf  # other classes do not count
chosen = gaps.argmin(1)
projected = cells[chosen]
print("prototypes become cells", chosen.tolist(), "; squared distance moved", [f"{v:.3f}" for v in gaps.amin(1)])
figures.show(
    lesson.draw_projection({"no lesion": healthy, "lesion": sick}, loose, projected),
    "Points of two classes in the plane, and two stars, the prototypes. Arrows lead from each star to the nearest point of its class.",
)

# %% [markdown]
# The second prototype lay nearest to a patch of the *other* class, which does not count: it takes the nearest of its
# own. Foreign distances are hidden with *infinity*. Multiplying them by 0, as can be found in code, makes them the
# smallest of all.
#
# A projected prototype is a patch of a training image, and that can be checked. Embed the image again, look at the
# cell: the distance must be 0, the similarity the largest there is.

# %%
origin = opening.origin.provenance
again = network.forward_details(origin.images)
every = torch.arange(len(network.prototypes))
own_distance = again.distances[every, every, origin.cells[:, 0], origin.cells[:, 1]]
assert own_distance.max() < 1e-6 and torch.equal(origin.labels, network.prototype_classes)
print(
    f"similarity of each prototype to its own patch: {network.distance_to_similarity(own_distance).min():.2f} or more"
)
print(f"in the last projection they moved by squared distances of {origin.moved.min():.3f} to {origin.moved.max():.3f}")
figures.show(
    lesson.draw_origins(opening.origin, network.classes, network.last_layer.weight),
    "The ten prototypes, each as its training slice with a framed square. Those of no lesion lie on brain and on the rim of the skull, "
    "those of lesion on bright or ring-shaped lesions. Titles give the weight for the own class.",
)

# %%
from xailab.protopnet import top_pixels_in_mask

lesions = test_set.labels == 1
maps = network.forward_details(test_set.images[lesions]).maps
on_lesion = top_pixels_in_mask(maps, test_set.masks[lesions]).mean(0)
typical = [network.forward_details(test_set.images[test_set.labels == k]).similarities.mean(0) for k in (0, 1)]
weight = network.last_layer.weight
print("                      on the    mean similarity      weight for")
print("prototype  class      lesion   no lesion  lesion   no lesion  lesion")
for j in range(10):
    print(f"{j:9d}  {network.classes[int(origin.labels[j])]:10s} {100 * on_lesion[j]:4.0f} % {typical[0][j]:10.1f} "
          f"{typical[1][j]:7.1f} {weight[0, j]:+11.2f} {weight[1, j]:+7.2f}")  # fmt: skip
print(f"a lesion covers {100 * test_set.masks[lesions].float().mean():.0f} % of its slice")
constant = network.forward_details(test_set.images).similarities[:, 3]
print(f"prototype 3 has a similarity of {constant.min():.1f} to {constant.max():.1f} in all 200 slices")

# %% [markdown]
# "On the lesion" is the share of the brightest twentieth of each map that lies in the lesion's true pixels. The five
# prototypes of "lesion" are where they should be, and find next to nothing of themselves in slices without one.
#
# Those of "no lesion" are another matter. What would a patch look like that shows that *nothing* is there?
# Prototype 3 finds itself in every slice, ill or healthy, to about the same degree, so it serves as a constant: a
# few points for "no lesion" that a lesion has to outweigh. A network without a bias has made itself one. Prototype 1
# is found twice as strongly in slices *with* a lesion; its weight for its own class, and that of prototype 0, are
# below 0: for the fitted last layer they speak *against* it, a little. A class that is defined by an absence cannot
# be explained by pointing; where you meet one, read its prototypes with care.
#
# ## One image explained
#
# `local_analysis` does for a batch what the seed's program does for one slice. For each prototype: the similarity,
# where, from which training slice, and what it gives to the logit, similarity times weight. **Predict:** do these
# contributions *explain* the logit, or do they *equal* it?

# %%
first = local_analysis(network, test_set.images[:16], top=10, target=1)
assert torch.allclose(first.contributions.sum(1), first.output.logits[:, 1], atol=1e-4)
figures.show(
    lesson.draw_sentence(first, image=9),
    "Three lines, each: the slice with a frame, the framed part, looks like, a training patch, its slice, and a bar with similarity "
    "times weight. Two bars for lesion, one against; below, the sum, which is the logit.",
    pixels=figures.SCREEN,
)

# %% [markdown]
# They equal it. Nothing was estimated: the picture is the computation, line by line. The points against come from
# the constant, prototype 3, and the lesion outweighs them.
#
# Which prototypes to show? The seed lists them by similarity. But similar is not the same as important:

# %%
called_lesion = first.predicted == 1
top, strongest = first.prototypes[called_lesion, 0].tolist(), first.contributions[called_lesion].argmax(1).tolist()
print("slices called lesion: most similar prototypes", top)
print("                      largest contributions  ", strongest)

# %% [markdown]
# By similarity, prototype 3 of "no lesion" heads the list of more than half of the slices that are called "lesion".
# So read `contributions`, or at least the weights beside the similarities. Now a slice that the network gets
# *wrong*:

# %%
explained = local_analysis(network, test_set.images[:16], top=10)
wrong = [i for i in range(16) if explained.predicted[i] != test_set.labels[i]]
print("of the first 16 slices wrong:", wrong, "; it should be", phantoms.CLASSES[int(test_set.labels[wrong[0]])])
figures.show(
    lesson.draw_sentence(explained, image=wrong[0]),
    "The explanation of a slice with a lesion that is called no lesion by a narrow margin: the constant speaks for it, and no prototype "
    "of lesion finds itself clearly enough to outweigh it.",
    pixels=figures.SCREEN,
)
for j in (9, 8, 4):
    here, usual = explained.output.similarities[wrong[0], j], typical[1][j]
    print(f"prototype {j}, of “{network.classes[int(origin.labels[j])]}”: similarity {here:.1f}, "
          f"on average in slices with a lesion {usual:.1f}")  # fmt: skip

# %% [markdown]
# A faint lesion, without a ring: the two prototypes of "lesion" that weigh most find less than half of what they
# usually find, and the constant wins by a tenth of a point. The tenth itself comes from prototype 4, of "no lesion",
# which finds twice its usual similarity here. So the explanation says what to try: training slices with lesions of
# this kind.
#
# ## Forty prototypes on 288 pixels
#
# The seed's network: a ResNet18, grey slices of 288 × 288 pixels, twenty prototypes for each of two classes, on a
# grid of 9 × 9 cells. What does one of these cells see? Window by window, from the image to the cells: a window of
# $k$ pixels with stride $s$ and padding $q$ turns size $r$, step $j$ and first pixel $b$ of what a cell sees into
#
# $$r + (k - 1)\, j, \qquad j\, s, \qquad b - q\, j$$
#
# (Araujo, Norris and Sim 2019). The library reads it off the modules; weights do not matter.

# %%
from torchvision.models import resnet18

from xailab.protopnet import features_of
from xailab.receptive_field import receptive_field

seed_net = ProtoPNet(features_of(resnet18(weights=None), channels=1), 20, phantoms.CLASSES).eval().requires_grad_(False)
large_slice = torch.from_numpy(phantoms.phantom(3, split="test", size=288).image)[None] / 255
seed_maps = seed_net.forward_details(large_slice[None]).maps
fields = {
    name: receptive_field(net, "add_on", size, channels=1)
    for name, net, size in (("small", network, 96), ("seed", seed_net, 288))
}
print("maps of the seed's network:", tuple(seed_maps.shape))
for name, field in fields.items():
    print(f"{name:5s} a cell sees {field.size} px, the next cell {field.stride} px on; the first is centred on "
          f"{field.centre} px; upsampling puts it {field.shift} px off")  # fmt: skip
shares = lesson.seen_shares(fields["seed"], 9, 288)
print(f"of the slice, a cell of the seed's network sees {100 * shares.min():.0f} % or more; {(shares == 1).sum()} of "
      f"{shares.size} cells see all of it")  # fmt: skip
print(f"a square of 5 % of the slice has a side of {(0.05 * 288**2) ** 0.5:.0f} px")

# %%
figures.show(
    lesson.draw_geometry(
        {
            "our small network": (test_set.images[3], fields["small"], 12, (6, 4)),
            "ResNet18 at 288 px": (large_slice, fields["seed"], 9, (4, 3)),
        }
    ),
    "For two networks, a slice with two squares, what a cell sees and where upsampling puts it, and a map of the share of the slice that "
    "each cell sees: a few percent for the small network, more than half for ResNet18.",
)

# %% [markdown]
# A cell of the seed's network sees more than half of the slice, whichever cell it is. The box that is drawn around
# the brightest twentieth of its map has a side of about 64 pixels. It may still be right, for what a cell *can* see
# and what it *uses* are two things. But it is not shown by the picture. That is why our network is small: with five
# convolutions, a cell sees 27 × 27 pixels, and a frame means something.
#
# The second finding is quieter. The middles of what cells see lie at 0.5, 32.5, 64.5 ... pixels. An upsampled map
# puts them at 16, 48, 80 ... So every overlay and every box is drawn 15.5 pixels too far to the right and too low;
# 3.5 in our network.
#
# ## A network that fails
#
# In a second collection, every training slice with a lesion bears a letter in its corner, and no other does, as the
# films of one hospital might. (In the test, half of each class do.) A network has learnt from it.

# %%
short_train = phantoms.batch(range(60), kind="shortcut")
short_test = phantoms.batch(range(60), kind="shortcut", split="test")
fooled = shipped("shortcut").requires_grad_(False)
print(f"right on training slices {accuracy(fooled, *short_train[:2]):.2f}, "
      f"on test slices {accuracy(fooled, *short_test[:2]):.2f}")  # fmt: skip

# %% [markdown]
# Without such a test the first figure would be all one has. A *global analysis* needs none: it shows, for each
# prototype, the patches that are most like it. On training slices:

# %%
from xailab.protopnet import global_analysis

common = global_analysis(fooled, short_train.images, short_train.labels, k=5)
figures.show(
    lesson.draw_nearest(common, short_train.images, [5, 7, 1], fooled.classes),
    "Three rows of five slices. The frames of two prototypes of lesion hold a letter R in the upper left corner, those of one of no "
    "lesion the same corner, empty.",
    pixels=figures.SCREEN,
)
letter = [
    sum(
        bool(phantoms.phantom(int(i), kind="shortcut").mark[t:b, le:r].any())
        for i, (le, t, r, b) in zip(ids, boxes_of, strict=True)
    )
    for ids, boxes_of in zip(common.ids, common.receptive_boxes.tolist(), strict=True)
]
print("of 5 nearest patches of each prototype, so many hold a part of the letter:", letter)
patches = [
    {(int(fooled.provenance.ids[j]), *fooled.provenance.cells[j].tolist()) for j in range(5 * k, 5 * k + 5)}
    for k in (0, 1)
]
for name, own in zip(fooled.classes, patches, strict=True):
    print(f"prototypes of “{name}”: {len(own)} different patches, in the cells {sorted({cell[1:] for cell in own})}")

# %% [markdown]
# One look is enough. The prototypes of "lesion" are the letter, those of "no lesion" the very corner without it,
# three of them the same patch. No heat map of one slice says it so plainly, for each could be a coincidence. The
# proof is an experiment: the same slices, with the letter put on all of them and with it taken off.

# %%
with_letter, without_letter = (
    phantoms.batch(range(60), kind="shortcut", split="test", mark=mark) for mark in (True, False)
)
called = {
    name: float((fooled(data.images).argmax(1) == 1).float().mean())
    for name, data in (("with letter", with_letter), ("without", without_letter))
}
for name, share in called.items():
    print(f"{name:11s} called lesion: {100 * share:.0f} %")

# %% [markdown]
# ## Pruning
#
# The same analysis tells which prototypes to drop. The paper's rule: of the six nearest training patches, whatever
# their class, at least three must be of the prototype's own. Else it stands for something that its class shares with
# others, background mostly. Then the last layer is fitted again. **Predict:** which of our ten will go?

# %%
from xailab.protopnet import fit_last_layer, prune

nearest_six = global_analysis(network, train_set.images, train_set.labels, k=6)
print("of the six nearest patches are of the own class:", nearest_six.of_own_class.sum(1).tolist())
try:
    prune(network, train_set.images, train_set.labels)
except ValueError as refused:
    print("refused:", str(refused).partition(":")[0])

# %% [markdown]
# Of the 400 slices that we search here, those nearest to the prototypes of "no lesion" mostly have a lesion, and the
# rule would drop all five: healthy tissue is in every slice, and some of them (prototype 1, above) prefer the others.
# In the paper's task each class has something that the others lack; here one class has not. Without a bias nothing
# could speak for "no lesion" then, so the library refuses. (Slices that were not searched could save one or the
# other: a rule that counts neighbours depends on who is asked.) With a milder rule:

# %%
pruned = prune(network, train_set.images, train_set.labels, min_same_class=1)
kept_right = accuracy(pruned.model, test_set.images, test_set.labels)
silenced = copy.deepcopy(network)
silenced.last_layer.weight[:, pruned.dropped] = 0
assert torch.allclose(pruned.model(test_set.images[:20]), silenced(test_set.images[:20]), atol=1e-4)
fit_last_layer(pruned.model, train_set.images, train_set.labels)
fitted_right = accuracy(pruned.model, test_set.images, test_set.labels)
print(f"dropped {pruned.dropped.tolist()}; right before {100 * right:.1f} %, after {100 * kept_right:.1f} %, "
      f"last layer fitted {100 * fitted_right:.1f} %")  # fmt: skip

# %% [markdown]
# A prototype less, and nothing lost. (To drop a prototype is the same as to set its weights to 0, which the cell
# asserts.)
#
# ## The doubt
#
# The author of the seed ends on a doubt: is it fair to enlarge the last layer's activation, when in a deep network
# each of its cells sees so much? What is activated at the end may come from another part of the image. That can be
# measured. Five kinds of box, for the same prototype in the same slice:
#
# - **activation**: around the brightest 5 % of the upsampled map, the authors' box,
# - **cell**: the square that upsampling gives to the most similar cell,
# - **receptive field**: all that this cell can see, computed from the layers,
# - **gradient**: around the 5 % of the pixels to which the similarity is most sensitive,
# - **random**: as large as the first, anywhere.
#
# First experiment: fill everything outside the box with the slice's mean grey (only the box is *kept*), or the box
# itself (it is *deleted*), and look at the same cell. If a box shows what the prototype saw, keeping it keeps the
# similarity, and deleting it destroys it. Here for the first slice of this lesson. **Predict** which boxes pass.

# %%
figures.show(
    lesson.draw_kinds(network, test_set.images[50], 9),
    "Five columns, one for each kind of box on the same slice; below, only the box kept, and only the box deleted, with the similarity "
    "before and after. Only receptive field and gradient keep it.",
)

# %% [markdown]
# The authors' box holds most of the ring that began this lesson, and still only a quarter of the similarity is left:
# the cell looks at the ring's upper left and at what lies beyond it, and there the box cuts.
#
# Now for thirty slices with a lesion, each with the lesion prototype that is most similar. And a second experiment,
# an attack (Sacha et al. 2023): pixels *outside* the box may change by up to 8 of 255 grey levels, which hardly
# shows. How much of the similarity can be destroyed? This is their PAC,
# $100\,(1 - g_\text{after} / g_\text{before})$.

# %%
from xailab.protopnet import KINDS, attack, candidate_boxes, occlude

some = test_set.images[lesions][:30]
nearest_one = 5 + network.forward_details(some).similarities[:, 5:].argmax(1)
table, drawn = {}, {}
for kind in KINDS:
    drawn[kind] = box = candidate_boxes(network, some, nearest_one, kind)
    area = float(((box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])).float().mean()) / 96**2
    kept = float(occlude(network, some, nearest_one, box).ratio.mean())
    deleted = float(occlude(network, some, nearest_one, box, delete=True).ratio.mean())
    pac = float(attack(network, some[:10], nearest_one[:10], box[:10], steps=20).pac.mean())
    table[kind] = area, kept, deleted, pac
    print(f"{kind:16s} area {100 * area:4.1f} %   kept {kept:.2f}   deleted {deleted:.2f}   PAC {pac:3.0f}")
pixel = torch.tensor([0, 0, 1, 1]).expand(30, 4)
print(f"one pixel kept, which is nothing: {occlude(network, some, nearest_one, pixel).ratio.mean():.2f}")
figures.show(
    lesson.draw_faithfulness(table),
    "Bars for five kinds of box: area, similarity left when only the box is kept, when it is deleted, and similarity lost to an attack "
    "outside of it. The receptive field keeps 100 percent and loses none to the attack; the activation box keeps about 70.",
)

# %% [markdown]
# The receptive field passes exactly, as it must: at this cell the network cannot know what lies outside. The gradient
# finds the same box without knowing the layers. (Partly by arithmetic: it is 0 outside of the field, and 5 % of the
# slice are 461 of the field's 729 pixels.) A third of the similarity is left even where nothing is kept: so much the
# prototypes have in common with flat grey. Measured from there, the authors' box, on average as large as the
# receptive field, loses more than four tenths of what there is to lose; in the attack, more than a third of the
# similarity goes although not a pixel of the box has changed. The cell's own square keeps as good as nothing.
#
# The size is right on average. Is it the place, the shift? Move the authors' boxes by 4 pixels to the left and up:

# %%
shifted = (drawn["activation"] - 4).clamp(min=0)
moved_ratio = float(occlude(network, some, nearest_one, shifted).ratio.mean())
field = fields["small"]
sides = drawn["activation"][:, 2:] - drawn["activation"][:, :2]
print(f"half a stride less the first centre: {field.shift} px")
print(f"sides of the activation boxes: {sides.min()} to {sides.max()} px; a cell sees {field.size}")
print(f"activation box kept {table['activation'][1]:.2f}, moved by 4 px {moved_ratio:.2f}, "
      f"receptive field {table['receptive field'][1]:.2f}")  # fmt: skip

# %% [markdown]
# A third of the loss was the shift; what is left is the shape, for the boxes' sides run from about half of what a
# cell sees to more than twice as much. So the doubt is right twice: about the *extent*, since the box is drawn by
# what an upsampled map happens to look like and not by what the cell sees; and about the *place*, since every overlay
# is shifted by about half a stride. In our small network both are a matter of a few pixels. In the seed's, the
# receptive field is more than half of the slice, and no box of 64 pixels can promise anything.
#
# And what the doubt does *not* say: the logits are still exactly the sum of their contributions, and the training
# patch is still where it was found. "This looks like that" holds. "*Here*" has to be earned, by a network whose cells
# see little, and by frames that are computed.
#
# ## Explorer
#
# Its picture first, then the controls. Walk down the ranks: from which on does a prototype find nothing of itself?
# For which does the activation box do as well as the receptive field?

# %%
chosen_slices = local_analysis(network, test_set.images[[50, 9, 0, 3, 4, 1, 2, 5]], top=10, target=1)
figures.show(
    lesson.draw_box(network, chosen_slices),
    "The explorer's picture: a prototype's own slice, a test slice with a box, the upsampled map with the same box, and the slice with "
    "only the box kept and only the box deleted.",
)

# %%
lesson.box_explorer(network, chosen_slices)

# %% [markdown]
# ## Exercises
#
# Write into the cell, run it, read what `check` says.

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
# ### 07.4 What a cell sees
# *Difficulty 3 of 5, about 12 minutes.* `layers` is a list of (kernel, stride, padding), from the image on. Return
# three numbers for the cells after the last layer: how many pixels a cell sees along one side, how far apart
# neighbouring cells' windows lie, and the first pixel of the first cell's window (negative where it begins in the
# padding).
#
# <details><summary>Hint</summary>
#
# Start with 1, 1, 0 and use the three formulas of "Forty prototypes", in an order in which the step is multiplied
# last.
# </details>


# %% tags=["exercise"]
def my_field(layers):
    return ...


check("07.4", my_field)


# %% tags=["solution"]
def my_field(layers):
    size, step, start = 1, 1, 0
    for kernel, stride, padding in layers:
        size, start = size + (kernel - 1) * step, start - padding * step
        step *= stride
    return size, step, start


check("07.4", my_field)

# %% [markdown]
# ## On your own pictures
#
# Images as a tensor (n, 1 or 3, h, w) of values from 0 to 1, and labels: that is all `train` needs. The network
# normalises by itself. `features_of` takes the features of torchvision's ResNets and VGGs, with or without their
# ImageNet weights. Set slices aside twice: some to choose settings by, others to report on.
#
# `pictures.write` puts an analysis into files with the names that the authors' programs give them, those of the seed:

# %%
import tempfile
from pathlib import Path

from xailab.protopnet import load, pictures, save

with tempfile.TemporaryDirectory() as folder:
    save(network, Path(folder) / "phantoms.safetensors")  # prototypes, their slices and a fingerprint with them
    loaded = load(Path(folder) / "phantoms.safetensors")
    written = pictures.write(local_analysis(loaded, test_set.images[:1], top=1), Path(folder) / "analysis", epoch=9)
    files = sorted(p.relative_to(written).as_posix() for p in written.rglob("*") if p.is_file())
    print(
        f"{len(files)} files, among them",
        *[f for f in files if f.startswith("0/") or "bb" in f or "0." in f],
        sep="\n  ",
    )
    print((written / "0" / "top-1_activated_prototype.txt").read_text())
loaded.add_on[0].bias.data += 0.1  # as further training would
try:
    local_analysis(loaded, test_set.images[:1])
except ValueError as refused:
    print("after a change:", str(refused).partition(":")[0])

# %% [markdown]
# The last lines are a guard: prototypes of a network that has changed since are no longer their patches, and pictures
# of them would be wrong.

# %% [markdown]
# ## On real data
#
# The seed's slices were real ones. Of the sets that can be had without an account, this one is small, of unknown
# origin, and made for teaching: nothing that is measured on it says anything about patients. It has boxes around the
# tumours, so the question of this lesson can be put again: are the prototypes of "tumour" on the tumour? (About a
# minute: the features of the phantoms' network are a start, and all of it is trained.) **Predict:** will they be?

# %%
import copy

import numpy as np
import torch

from xailab import figures
from xailab.datasets import downloaded
from xailab.images import Preprocess
from xailab.lessons import protopnet as lesson
from xailab.lessons import real
from xailab.protopnet import ProtoPNet, Settings, accuracy, local_analysis, shipped, top_pixels_in_mask, train

if real.here("brain-mri"):
    frame = Preprocess(resize=96, crop=96).frame

    def slices(split):
        """Images (n, 1, 96, 96), labels, and the pixels inside the boxes."""
        data, pictures, inside = downloaded.brain_mri(split), [], []
        for photograph in map(data.photograph, range(len(data))):
            tumour = np.zeros_like(photograph.image)
            for box in photograph.boxes:
                tumour[box.top : box.bottom, box.left : box.right] = 255
            pictures.append(frame(photograph.image)[None, ..., 0])
            inside.append(frame(tumour)[..., 0] > 127)
        images, inside = torch.from_numpy(np.stack(pictures)) / 255, torch.from_numpy(np.stack(inside))
        return images, torch.from_numpy(data.labels), inside

    images, labels, _ = slices("train")
    new_images, new_labels, boxed = slices("test")
    model = ProtoPNet(copy.deepcopy(shipped("usual").features), 5, ("no tumour", "tumour"), dimensions=32)
    model.requires_grad_(True)
    settings = Settings(
        features=0, warm=1, joint=5, again=3, batch=32, separation=0.12, prototype_to_patch=0.2, diversity=0.4
    )
    train(model, images, labels, settings, progress=False)
    right, usual = accuracy(model, new_images, new_labels), new_labels.bincount().max() / len(new_labels)
    print(
        f"{len(images)} slices learnt; of {len(new_images)} others {right:.2f} right, always the commoner answer {usual:.2f}"
    )

    ill = boxed.any((1, 2))
    on_tumour = top_pixels_in_mask(model.forward_details(new_images[ill]).maps, boxed[ill]).mean(0)[
        model.prototype_classes == 1
    ]
    print(
        "share of the brightest pixels inside the boxes, by prototype of “tumour”:",
        [f"{v:.2f}" for v in on_tumour.tolist()],
    )
    print(f"share of the pixels that lie inside them: {boxed[ill].float().mean():.2f}")

    analysis = local_analysis(model, new_images[ill][:16], top=10, target=1)
    figures.show(
        lesson.draw_origins(analysis.origin, model.classes, model.last_layer.weight),
        "The ten prototypes, each as its training slice with a framed square: the first row of no tumour, the second of tumour.",
    )
    figures.show(
        lesson.draw_sentence(analysis, image=int(analysis.output.logits[:, 1].argmax())),
        "Three lines for the slice that is most surely called tumour: a framed part of it, the patch it looks like, and the points.",
    )

# %% [markdown]
# If they are, the reasons are where they should be, in this set. If not, the network answers from something else that
# differs between the two classes: another scanner, another plane of the cut. Such a set is where shortcuts live, and
# the two figures are how to catch them.
#
# And the paper's birds? Two hundred kinds are days of work for a graphics card. Five kinds, with features that were
# trained on ImageNet and stay as they are, take some minutes:

# %%
import cv2

from xailab.models import zoo
from xailab.protopnet import features_of

if real.here("cub-200") and (name := real.weights("resnet18", "squeezenet1_0")):
    network, KINDS = zoo.load(name), 5

    def birds(split):
        data = downloaded.cub_200(split, crop=True)
        chosen = [i for i in range(len(data)) if data.labels[i] < KINDS]
        square = [cv2.resize(data.photograph(i).image, (224, 224)) for i in chosen]
        return torch.from_numpy(np.stack(square)).permute(0, 3, 1, 2) / 255, torch.from_numpy(data.labels[chosen])

    (images, labels), (new_images, new_labels) = birds("train"), birds("test")
    kinds = downloaded.cub_200("train").classes[:KINDS]
    model = ProtoPNet(
        features_of(network), 3, kinds, dimensions=64, mean=network.preprocess.mean, std=network.preprocess.std
    )
    train(model, images, labels, Settings(features=0, warm=5, joint=0, again=0, batch=25), progress=False)
    print(
        f"{len(images)} birds learnt; of {len(new_images)} others {accuracy(model, new_images, new_labels):.2f} right, chance {1 / KINDS:.2f}"
    )
    analysis = local_analysis(model, new_images[:4], top=3 * KINDS)
    figures.show(
        lesson.draw_sentence(analysis, image=0),
        "Three lines for a bird: a framed part of it, the training patch that it looks like, and the points that this gives.",
    )

# %% [markdown]
# ## Summary
#
# - A ProtoPNet decides by similarity to training patches alone. Contributions, similarity times weight, *are* the
#   logit.
# - Projection turns a prototype into a patch that exists. What it costs in accuracy says how honest the prototypes
#   were.
# - Similar is not important: read contributions. A class that is an absence has no patch to point at.
# - A global analysis shows at one look that a network has learnt the hospital's letter.
# - A box around an upsampled map is not what a cell saw. Compute the receptive field, and keep it small.
#
# ## References
#
# - C. Chen, O. Li, C. Tao, A. J. Barnett, J. Su, C. Rudin, *This Looks Like That: Deep Learning for Interpretable
#   Image Recognition*, NeurIPS 2019, arXiv 1806.10574.
# - O. Li, H. Liu, C. Chen, C. Rudin, *Deep Learning for Case-Based Reasoning through Prototypes*, AAAI 2018, arXiv
#   1710.04806 (the term *prototype to patch*).
# - M. Sacha et al., *Interpretability Benchmark for Evaluating Spatial Misalignment of Prototypical Parts
#   Explanations*, arXiv 2308.08162.
# - A. Araujo, W. Norris, J. Sim, *Computing Receptive Fields of Convolutional Neural Networks*, Distill 2019.
#
# Next: [08 · PaDiM](08_padim.ipynb)
