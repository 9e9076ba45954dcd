# %% [markdown]
# # 02 · Class activation maps
#
# **About 45 minutes to read, 30 for the exercises · 1 GiB of memory · no GPU, no network needed**
#
# A network says "dog". *Where* in the picture did it see the dog? For a large family of networks the answer needs no
# approximation at all: it is already in the arithmetic of the last two layers.
#
# **Afterwards you can**
# - compute a class activation map by hand and prove that it adds up to the score,
# - tell the evidence for two classes apart in one picture, and turn a map into a box,
# - recognise two ways in which published code and pretty overlays mislead,
# - measure how well a map finds the object.
#
# **You need** convolution and matrix products. Lesson 01 is not required.

# %% [markdown]
# ## The idea
#
# Many networks end like this: the last convolution gives feature maps $f_k(x, y)$, each is averaged over its $Z$
# cells (*global average pooling*, GAP), and one linear layer turns the averages into scores:
#
# $$S_c = \sum_k w^c_k \, \frac{1}{Z} \sum_{x, y} f_k(x, y) + b_c .$$
#
# Both sums are finite, so they may change places. What then stands inside the average is the **class activation map**
# (Zhou et al. 2016, equation 2):
#
# $$M_c(x, y) = \sum_k w^c_k \, f_k(x, y), \qquad S_c = \operatorname{mean}_{x, y} M_c(x, y) + b_c .$$
#
# (The paper sums where we average, and leaves out the bias; we keep both, as networks do.) Each cell of $M_c$ is the
# evidence that this place contributes to class $c$, in units of the score. Negative cells speak against the class.
#
# **Predict before you run:** if you double the feature maps in one corner only, what happens to the map elsewhere?

# %% [markdown]
# ## From scratch, on numbers you can check by eye
#
# Two feature maps of 3 × 3 cells, two classes. What does the double loop of the equation give?

# %%
import numpy as np
import torch
from torch import nn

features = torch.tensor([[[0.0, 0, 0], [0, 3, 6], [0, 0, 0]], [[9.0, 0, 0], [0, 0, 0], [0, 0, 0]]])  # (k, h, w)
weight = torch.tensor([[1.0, 0.0], [-1.0, 2.0]])  # (classes, k)
bias = torch.tensor([0.5, -0.5])


def cam_by_loop(features, weight, c):
    k, h, w = features.shape
    cam = torch.zeros(h, w)
    for y in range(h):
        for x in range(w):
            for i in range(k):
                cam[y, x] += weight[c, i] * features[i, y, x]
    return cam


for c in (0, 1):
    cam = cam_by_loop(features, weight, c)
    score = weight[c] @ features.mean((1, 2)) + bias[c]
    print(f"class {c}: map {cam.int().tolist()}")
    print(f"         mean(map) + bias = {cam.mean() + bias[c]:.3f}    score = {score:.3f}")
    assert torch.allclose(cam.mean() + bias[c], score)

# %% [markdown]
# The mean of the map plus the bias *is* the score, and class 1 has negative cells exactly where class 0 has its
# evidence. (Your prediction: nothing changes elsewhere. A cell of the map depends on the features of that cell
# alone.)

# %% [markdown]
# ## The same through the library
#
# `class_activation_map` watches one forward pass, finds what is averaged and which linear layer follows, and returns
# the raw map. Does it agree with the loop on a whole little network?

# %%
from xailab.cam import class_activation_map

torch.manual_seed(0)
tiny = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
image = torch.randn(1, 3, 7, 9)

cam = class_activation_map(tiny, image, target=1)
loop = cam_by_loop(tiny[:2](image)[0], tiny[4].weight, 1)
assert torch.allclose(cam[0], loop, atol=1e-6)
assert torch.allclose(cam.mean() + tiny[4].bias[1], tiny(image)[0, 1], atol=1e-6)
print("shape of the map:", tuple(cam.shape), "· agrees with the loop · adds up to the score")

# %% [markdown]
# ## A real picture, a trained network
#
# The course carries a small ResNet that names ten kinds of drawn objects (rendered scenes, so every object has an
# exact mask). Small means 0.7 million weights. Where does it see the dog?

# %%
from xailab import figures, images
from xailab.datasets import scenes
from xailab.models import zoo

network = zoo.load("scenes_resnet")
dog, cat = scenes.CLASSES.index("dog"), scenes.CLASSES.index("cat")
scene = scenes.scene(2, label=dog, split="test", size=256)
batch = network.preprocess(scene.image)
cam = class_activation_map(network, batch, dog)[0]

with torch.no_grad():
    score = network(batch)[0, dog]
assert torch.allclose(cam.mean() + network.fc.bias[dog], score, atol=1e-5)

figure, axes = figures.new(1, 3, width=10.2, height=3.7)
figures.picture(axes[0], scene.image, "what the network sees")
figures.picture(axes[1], cam.numpy(), "its map for “dog”, 8 × 8 cells", **figures.map_scale(cam.numpy()))
figures.colour_bar(figure, axes[1], "evidence of a cell (units of the score)")
figures.picture(axes[2], images.overlay(scene.image, cam), "enlarged and laid over")
figures.show(
    figure,
    "Three panels: a drawn dog; a map of 8 by 8 cells, red where the evidence for dog is, almost white elsewhere; the "
    "picture with the enlarged map laid over it, brightest on the dog.",
)

# %% [markdown]
# The red cells lie on the dog, and their mean is the score: nothing has been tuned to look good. The overlay on the
# right is the same map *after* smoothing and stretching, so read numbers from the middle panel, never from the
# overlay.

# %% [markdown]
# Is that a lucky picture? Here are twenty, the first twenty of the unseen ones, each with the map of the network's
# own top class.

# %%
test = [scenes.scene(i, split="test", size=160) for i in range(20)]
batch = network.preprocess([s.image for s in test])
maps_of_20 = class_activation_map(network, batch)
with torch.no_grad():
    top = network(batch).argmax(1)

overlays = [images.overlay(s.image, cam) for s, cam in zip(test, maps_of_20, strict=True)]
figure = figures.grid(overlays, [scenes.CLASSES[c] for c in top], columns=5, panel=1.9)
figures.show(
    figure, "Twenty drawn scenes with their class activation maps laid over; the bright spot lies on the object."
)

# %% [markdown]
# The bright spot sits on the object in every one of them, and often on a part of it: a face, a wheel, a wing. The
# network needs to tell ten classes apart; it does not need to see all of a cat to do that.

# %% [markdown]
# ## Two animals, two maps
#
# One forward pass gives the map of *every* class, since only $w^c$ differs. **Predict:** in a picture with a cat and
# a dog, will the map for "cat" be near zero on the dog, or negative?

# %%
both = [scenes.scene(i, kind="pair", label=(cat, dog), split="test", size=256) for i in (1, 2)]
panels, titles = [], []
for s in both:
    maps = class_activation_map(network, network.preprocess(s.image), [[cat, dog]])[0]
    panels += [s.image, images.overlay(s.image, maps[0]), images.overlay(s.image, maps[1])]
    titles += ["picture", "evidence for “cat”", "evidence for “dog”"]
figure = figures.grid(panels, titles, columns=3, panel=2.9)
figures.show(figure, "Two scenes with a cat and a dog, each with two overlays: one bright on the cat, one on the dog.")

# %%
values = maps.numpy()
figure = figures.maps(
    values, ["cat", "dog"], label="evidence (units of the score)", title="The lower pair, raw: 0 is white"
)
figures.show(figure, "Two maps of 8 by 8 cells on one colour scale: red on the named animal, blue on the other one.")

# %% [markdown]
# Negative: each animal is evidence *against* the other. An overlay hides that: where its map is smallest it leaves
# the picture as it is, whether that value is 0 or −6. Keep the sign in mind; Lesson 03 turns it into
# counterfactual explanations.

# %% [markdown]
# ## From a map to a box
#
# The recipe: enlarge the map, keep what reaches a share of its maximum (0.6 here; the paper takes 0.2 for ImageNet),
# group connected pixels, box the largest group. How well does the found box (orange) fit the true one (blue)? The
# usual number is the IoU, intersection over union: the area that both share, divided by the area that they cover
# together.

# %%
from xailab.boxes import iou
from xailab.localization import boxes, ground_truth_box
from xailab.metrics import pointing_game

figure, axes = figures.new(1, 4, width=10.4, height=3.0)
for axis, s, cam in zip(axes, test[3:7], maps_of_20[3:7], strict=True):
    found, true = boxes(images.upsample(cam, 160), 0.6)[0], ground_truth_box(s.masks[0])
    figures.picture(axis, s.image, f"{scenes.CLASSES[s.labels[0]]}: IoU {iou(found, true):.2f}")
    figures.outline(axis, true, figures.PALETTE[5])
    figures.outline(axis, found)
figures.show(
    figure, "Four scenes, each with the true box of the object in blue and the box found from the map in orange."
)

# %% [markdown]
# The boxes are roughly in the right place, off by up to a cell (20 pixels), and mostly too small: at 0.6 of the
# maximum only the strongest part is left. Two of the four stay below an IoU of 0.5. The next section measures how
# that depends on the threshold.

# %% [markdown]
# ## How good is it? Two measures against the masks
#
# - **Pointing game:** does the map's maximum lie on the object? (chance: the object's share of the picture)
# - **IoU:** overlap of found and true box, for every threshold.

# %%
unseen = [scenes.scene(i, split="test") for i in range(300)]
batch = network.preprocess([s.image for s in unseen])
large = images.upsample(class_activation_map(network, batch, [s.labels[0] for s in unseen]), 128)
hits = np.mean([pointing_game(s.masks[0], cam) for cam, s in zip(large, unseen, strict=True)])
chance = np.mean([s.masks[0].mean() for s in unseen])
centre = np.mean([s.masks[0][64, 64] for s in unseen])

thresholds = np.linspace(0.05, 0.95, 19)
truth = [ground_truth_box(s.masks[0]) for s in unseen]
overlap = np.array([[iou(boxes(cam, t)[0], true) for t in thresholds] for cam, true in zip(large, truth, strict=True)])

figure, axes = figures.new(1, 2, width=10, height=3.8)
axes[0].bar(
    ["chance", "picture's\ncentre", "CAM"], [chance, centre, hits], color=["#BBBBBB", "#BBBBBB", figures.PALETTE[0]]
)
axes[0].set(title="Pointing game, 300 unseen scenes", ylabel="share of hits", ylim=(0, 1.05))
axes[0].bar_label(axes[0].containers[0], fmt="%.2f")
low, mid, high = np.quantile(overlap, [0.25, 0.5, 0.75], axis=0)
axes[1].fill_between(thresholds, low, high, color=figures.PALETTE[0], alpha=0.2, label="middle half of the scenes")
axes[1].plot(thresholds, mid, color=figures.PALETTE[0], label="median")
axes[1].axhline(0.5, color="black", linestyle=":", linewidth=1.5, label="usual limit for a hit (0.5)")
axes[1].set(title="Overlap of the boxes", xlabel="threshold, share of the map's maximum", ylabel="IoU", ylim=(0, 1))
axes[1].legend(loc="lower left")
figures.show(
    figure,
    "Left: bars of the pointing game; CAM hits the object far more often than chance or the picture's centre. Right: box "
    "overlap against the threshold: the median rises to above 0.6 at a threshold of 0.45 and falls to zero at 0.95.",
)
best = thresholds[mid.argmax()]
print(f"pointing game {hits:.2f}; best threshold {best:.2f} with a median IoU of {mid.max():.2f}")

# %% [markdown]
# The maximum is an excellent pointer: it beats even the centre of the picture, a strong guess since objects stand
# there. The box is another matter. Its overlap rises and falls with the threshold, so two papers can only be compared
# if both say which one they took, and on which pictures they chose it. (Published for comparison, on ImageNet
# photographs: CAM on VGG-GAP has a top-1 localisation error of 57.20 %, where a wrong class counts as an error as
# well as an IoU below 0.5; Zhou et al. 2016.)

# %% [markdown]
# ## Where it goes wrong, 1: one layer too early
#
# A well-meant shortcut in much public code records the *last batch norm* of a ResNet. But behind it come the residual
# sum and a ReLU, and only then the average. Does the map still add up?

# %%
from xailab.hooks import recording

batch = network.preprocess(scene.image)
with torch.no_grad(), recording(network, "layer4.1.bn2", "layer4") as recorded:
    score = network(batch)[0, dog].item()

early, right = (
    torch.einsum("k,khw->hw", network.fc.weight[dog], recorded[name][0]).detach() for name in ("layer4.1.bn2", "layer4")
)
for name, cam in (("layer4.1.bn2", early), ("layer4", right)):
    total = (cam.mean() + network.fc.bias[dog]).item()
    verdict = "equal" if abs(total - score) < 1e-3 else "NOT equal"
    print(f"{name:13s} mean + bias = {total:5.2f}   score = {score:.2f}   {verdict}")

panels = [right.numpy(), early.numpy(), (early - right).numpy()]
figure = figures.maps(panels, ["layer4: the CAM", "layer4.1.bn2: no CAM", "the second − the first"], label="“evidence”")
figures.show(
    figure,
    "Three maps on one colour scale: the CAM, the map recorded too early, and their difference of several units on the dog.",
)
assert abs(right.mean() + network.fc.bias[dog] - score) < 1e-3 < abs(early.mean() + network.fc.bias[dog] - score)

# %% [markdown]
# Both look plausible, and both would look plausible as an overlay. The totals differ by little here, as errors of
# single cells, as large as 37 % of the peak, happen to cancel; only the left map accounts for this score, cell by
# cell. The identity tells them apart, and the library checks it for you: name the wrong layer and it says so.

# %%
try:
    class_activation_map(network, batch, dog, layer="layer4.1.bn2")
except ValueError as error:
    print(error)

# %% [markdown]
# ## Where it goes wrong, 2: a confident map of nothing
#
# Ask for the class "umbrella" in the dog's picture. **Predict:** will the overlay stay empty?

# %%
absent = scenes.CLASSES.index("umbrella")
maps = class_activation_map(network, batch, [[dog, absent]])[0]
figure, axes = figures.new(2, 2, width=7.2, height=6.4)
for row, (name, cam) in enumerate(zip(("dog", "umbrella"), maps, strict=True)):
    figures.picture(axes[row, 0], images.overlay(scene.image, cam), f"“{name}”, stretched to [0, 1]")
    figures.picture(axes[row, 1], cam.numpy(), f"“{name}”, raw, one scale", **figures.map_scale(maps.numpy()))
    figures.colour_bar(figure, axes[row, 1], "evidence")
figures.show(
    figure,
    "Top: the dog's overlay and raw map, both strong on the dog. Bottom: the overlay for umbrella glows just as brightly, over the whole background, "
    "but its raw map on the same scale is pale or blue everywhere.",
)
print("evidence for dog:     ", f"{maps[0].min():.1f} to {maps[0].max():.1f}")
print("evidence for umbrella:", f"{maps[1].min():.1f} to {maps[1].max():.1f}")
assert maps[1].max() < 0.5 * maps[0].max()

# %% [markdown]
# The overlay glows for a class that is not there, even on the bare wall: stretching the map from its own minimum to
# its own maximum moves its *zero* to 0.8. An overlay shows *where this map is largest* and never *whether that is
# much*. Compare classes on raw maps with one scale.
#
# Two more limits. The map has the resolution of the last layer (8 × 8 here, 7 × 7 for most ImageNet networks), and it
# only exists where one average and one linear layer end the network; for all others there is Grad-CAM in Lesson 03.

# %% [markdown]
# ## What the average buys
#
# The alternative to GAP is flattening the last feature maps into one long vector. What does that cost, and what is
# lost?

# %%
from xailab.flops import conv_cost

flat, gap = conv_cost(128, 10, 8, 1), conv_cost(128, 10, 1, 1)
print(f"last layer on flattened 8 × 8 × 128 maps: {flat.params:,} weights; after GAP: {gap.params:,}")
vgg = conv_cost(512, 4096, 7, 1)
print(f"VGG16's first fully connected layer: {vgg.params:,} weights; GAP and 1000 classes: {512 * 1000:,}")

a, b = (scenes.scene(i, split="test", size=256) for i in (2, 5))
wide = np.concatenate([a.image, b.image], axis=1)
maps = class_activation_map(network, network.preprocess(wide), [[a.labels[0], b.labels[0]]])[0]
print("a picture twice as wide gives maps of", " × ".join(str(n) for n in maps.shape[1:]), "cells")
names = [f"evidence for “{scenes.CLASSES[s.labels[0]]}”" for s in (a, b)]
figure = figures.grid(
    [wide, *(images.overlay(wide, cam) for cam in maps)], ["a wide picture", *names], columns=3, panel=3.4
)
figures.show(
    figure, "A picture twice as wide as the training pictures, with two objects; each class lights up its own object."
)

# %% [markdown]
# One linear layer on flattened maps would have exact maps too. What the average buys: 64 times fewer weights (less to
# overfit), pictures of any size, and one weight for a channel wherever its evidence lies.

# %% [markdown]
# ## Explorer
#
# One picture of the explorer first, then the controls. Try a class that is *not* in the picture and watch the colour
# bar.

# %%
from xailab.lessons import cam as lesson

pictures = [s.image for s in (*both, *(scenes.scene(i, kind="pair", split="test", size=256) for i in range(6)))]
figures.show(
    lesson.draw_cam(network, pictures[0], dog),
    "The explorer's picture: a scene with boxes, the raw map for dog with its colour bar, and the overlay with boxes.",
)

# %%
lesson.cam_explorer(network, pictures)

# %% [markdown]
# ## Exercises
#
# Write into the cell, run it, read what `check` says.

# %% [markdown]
# ### 02.1 The map itself
# *Difficulty 1 of 5, about 5 minutes.* Write $M_c = \sum_k w^c_k f_k$ for features (k, h, w) and weights (classes,
# k), without a loop over cells.
#
# <details><summary>Hint</summary>
#
# `weight[c]` has shape (k,). Give it two more dimensions and sum over the first, or use
# `torch.einsum("k,khw->hw", ...)`.
# </details>

# %% tags=["exercise"]
from xailab.lessons import check


def my_cam(features, weight, c):
    return ...


check("02.1", my_cam)

# %% tags=["solution"]
from xailab.lessons import check


def my_cam(features, weight, c):
    return torch.einsum("k,khw->hw", weight[c], features)


check("02.1", my_cam)

# %% [markdown]
# ### 02.2 The box
# *Difficulty 3 of 5, about 15 minutes.* Return `(left, top, right, bottom)` of the largest connected region (most
# pixels; diagonal neighbours are connected) in which a map reaches `threshold` times its maximum; right and bottom
# are one past the last pixel.
#
# <details><summary>Hint 1</summary>
#
# `scipy.ndimage.label(bright, structure=np.ones((3, 3)))` numbers the regions; `np.bincount` counts their pixels.
# </details>
# <details><summary>Hint 2</summary>
#
# `np.nonzero(region)` gives rows (y) first, then columns (x).
# </details>


# %% tags=["exercise"]
def my_box(cam, threshold):
    return ...


check("02.2", my_box)

# %% tags=["solution"]
from scipy import ndimage


def my_box(cam, threshold):
    bright = np.asarray(cam) >= threshold * float(cam.max())
    regions, _ = ndimage.label(bright, structure=np.ones((3, 3)))
    largest = np.bincount(regions.ravel())[1:].argmax() + 1
    y, x = np.nonzero(regions == largest)
    return x.min(), y.min(), x.max() + 1, y.max() + 1


check("02.2", my_box)

# %% [markdown]
# ### 02.3 Half a picture
# *Difficulty 2 of 5, about 10 minutes.* From features (k, h, w) and weights (classes, k), return the number of the
# class that has the most evidence in the **left half** of the picture, its first w // 2 columns. (Raw maps add up
# over any region: that is what they are good for.)
#
# <details><summary>Hint</summary>
#
# The maps of all classes at once: `torch.einsum("ck,khw->chw", weight, features)`.
# </details>


# %% tags=["exercise"]
def my_half(features, weight):
    return ...


check("02.3", my_half)


# %% tags=["solution"]
def my_half(features, weight):
    maps = torch.einsum("ck,khw->chw", weight, features)
    return maps[..., : maps.shape[-1] // 2].sum((1, 2)).argmax()


check("02.3", my_half)

# %% [markdown]
# ## On real data
#
# Does all this hold for a network that learnt from a million photographs? Its weights have to be brought once (5 MB;
# Lesson 00 says how), the photographs come with scikit-image. The last panels are two of them side by side, with the
# evidence for the class of either half.

# %%
import numpy as np
import torch

from xailab import figures, images
from xailab.cam import class_activation_map
from xailab.lessons import real
from xailab.models import zoo

if name := real.weights("resnet50", "resnet18", "squeezenet1_0"):
    network = zoo.load(name)
    batch = network.preprocess(real.photographs())
    photographs = network.preprocess.undo(batch)  # what it sees: the middle square
    with torch.no_grad():
        probabilities, top = network(batch).softmax(1).max(1)
    maps = class_activation_map(network, batch, top)
    titles = [f"{network.classes[c]}: {p:.2f}" for c, p in zip(top, probabilities, strict=True)]
    overlays = [images.overlay(picture, cam) for picture, cam in zip(photographs, maps, strict=True)]
    figures.show(
        figures.strip(overlays, titles, title=f"{name}: evidence for its first guess"),
        "Photographs of a cat, a cup, a motorcycle and a rocket, each with the evidence for the network's first guess.",
    )

    maps = class_activation_map(network, torch.cat([batch[0], batch[1]], dim=2)[None], [top[:2].tolist()])[0]
    pair = np.concatenate(photographs[:2], axis=1)
    names = [f"evidence for “{network.classes[c]}”" for c in top[:2]]
    figures.show(
        figures.strip([images.overlay(pair, cam) for cam in maps], names, panel=4.8),
        "The cat and the cup side by side, twice: the evidence for each class lies mostly on its own half.",
    )
    left = maps[:, :, : maps.shape[2] // 2].sum((1, 2)) / maps.sum((1, 2))
    print(f"share of the evidence in the left half: {left[0]:.2f} for the cat, {left[1]:.2f} for the cup")

# %% [markdown]
# Look at the rocket: what is it called, and is all of the evidence for that on it? And measured? Oxford-IIIT Pet
# has the outlines of cats and dogs. A hundred of its test photographs, each with the evidence for what the network
# names first (about half a minute):

# %%
from xailab.boxes import iou
from xailab.localization import boxes, ground_truth_box
from xailab.metrics import pointing_game

if real.here("oxford-pets") and (name := real.weights("resnet50", "resnet18", "squeezenet1_0")):
    network = zoo.load(name)
    batch, pictures, masks = real.pets(network.preprocess)
    maps = torch.cat([class_activation_map(network, part) for part in batch.split(20)])
    figures.show(
        figures.grid([images.overlay(*pair) for pair in zip(pictures[:10], maps[:10], strict=True)]),
        "Ten photographs of cats and dogs, with the evidence for the network's first guess laid over.",
    )
    large = images.upsample(maps, masks.shape[1:])
    hits = np.mean([pointing_game(mask, cam) for cam, mask in zip(large, masks, strict=True)])
    print(f"pointing game {hits:.2f}, chance {masks.mean():.2f}")
    for t in (0.2, 0.4, 0.6):
        overlap = [
            sum(iou(box, ground_truth_box(mask)) for box in boxes(cam, t)[:1])  # 0 without a box
            for cam, mask in zip(large, masks, strict=True)
        ]
        print(f"boxes at {t} of the maximum: median IoU {np.median(overlap):.2f}")

# %% [markdown]
# ResNet18 on STL-10 is the classroom's usual pair. Its features need no training: a new linear layer on their averages
# is fitted to 500 photographs, and its maps are exact as before (about a minute).

# %%
from sklearn.linear_model import LogisticRegression

from xailab.datasets import downloaded
from xailab.hooks import recording

if real.here("stl10", "weights/resnet18"):
    network = zoo.load("resnet18")
    train, test = (downloaded.stl10(split, preprocess=network.preprocess) for split in ("train", "test"))

    def features(data, rows):
        with torch.no_grad(), recording(network, "avgpool") as recorded:
            network(torch.stack([data[i][0] for i in rows]))
        return recorded["avgpool"].flatten(1)

    rows = np.random.default_rng(0).permutation(len(train))[:500]
    pooled = torch.cat([features(train, part) for part in np.array_split(rows, -(-len(rows) // 50))])
    linear = LogisticRegression(max_iter=1000).fit(pooled, train.labels[rows])
    network.fc = torch.nn.Linear(512, len(linear.classes_))
    network.fc.load_state_dict({"weight": torch.tensor(linear.coef_), "bias": torch.tensor(linear.intercept_)})
    network.requires_grad_(False)

    shown = range(min(20, len(test)))
    batch = torch.stack([test[i][0] for i in shown])
    scores, maps = network(batch), class_activation_map(network, batch)
    assert torch.allclose(maps.mean((1, 2)) + network.fc.bias[scores.argmax(1)], scores.max(1).values, atol=1e-4)
    overlays = [images.overlay(p, cam) for p, cam in zip(network.preprocess.undo(batch), maps, strict=True)]
    figure = figures.grid(overlays, [test.classes[c] for c in scores.argmax(1)], columns=5, panel=1.9)
    figures.show(figure, "Twenty unseen STL-10 photographs, each with the class named by the network and its evidence.")
    right = int((scores.argmax(1).numpy() == test.labels[: len(shown)]).sum())
    print(f"right: {right} of {len(shown)}; the mean of each map and the bias are the score")

# %% [markdown]
# ## Summary
#
# - Behind global average pooling and one linear layer, $M_c = \sum_k w^c_k f_k$ is an exact account of the score:
#   mean plus bias. If it does not add up, the wrong layer was recorded.
# - Maps are signed. Evidence against a class is information; an overlay hides it.
# - Stretching each map to [0, 1] makes every class look present. Compare raw values on one scale.
# - The maximum finds the object; the box is mostly a matter of the threshold.
#
# ## References
#
# - B. Zhou, A. Khosla, A. Lapedriza, A. Oliva, A. Torralba, *Learning Deep Features for Discriminative Localization*,
#   CVPR 2016, arXiv 1512.04150.
# - M. Lin, Q. Chen, S. Yan, *Network in Network*, ICLR 2014, arXiv 1312.4400 (global average pooling).
# - J. Zhang et al., *Top-down Neural Attention by Excitation Backprop*, ECCV 2016, arXiv 1608.00507 (pointing game).
#
# Next: **[03 · Grad-CAM](03_grad_cam.ipynb)**, the same question for networks that do not end in an average.
