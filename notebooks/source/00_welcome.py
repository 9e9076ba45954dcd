# %% [markdown]
# # 00 · Welcome
#
# **About 15 minutes · 1 GiB of memory · no GPU, no network needed**
#
# Networks that look at pictures are right astonishingly often, and silent about why. This course opens them up: each
# lesson takes one method, derives it on numbers small enough to check by eye, rebuilds it from scratch, compares it
# with a tested implementation, and then shows where it misleads.
#
# **Afterwards you know** that your machine is ready, what the embedded pictures and networks are, and how a lesson
# works.
#
# **You need** Python, arrays, and a rough idea of what a convolution does.
#
# | Lesson | Question | Minutes (reading + exercises) | Module |
# |---|---|---|---|
# | 00 · Welcome | Is everything ready? | 15 | |
# | [01 · What a convolution costs](01_flops.ipynb) | Why is MobileNet so cheap, and why is cheap not always fast? | 60 + 45 | `xailab.flops` |
# | [02 · Class activation maps](02_cam.ipynb) | Where in the picture is the evidence? | 45 + 30 | `xailab.cam` |
# | [03 · Grad-CAM](03_grad_cam.ipynb) | And in a network of any shape? What speaks against a class? | 60 + 40 | `xailab.grad_cam` |
# | [04 · Guided backprop](04_guided_backprop.ipynb) | Why are its pictures so sharp, and do they mean anything? | 45 + 35 | `xailab.guided_backprop` |
# | [05 · Saliency and class models](05_saliency.ipynb) | Which pixels matter, and what does a class look like? | 60 + 40 | `xailab.saliency`, `xailab.class_model` |
# | [06 · Feature maps](06_feature_maps.ipynb) | What does each layer see, and how far? | 45 + 35 | `xailab.feature_maps` |
# | [07 · ProtoPNet](07_protopnet.ipynb) | "This looks like that": does it, and where? | 75 + 45 | `xailab.protopnet` |
# | [08 · PaDiM](08_padim.ipynb) | What is normal at each place of a picture, and what is not? | 70 + 45 | `xailab.padim` |
# | [09 · Patch SVDD](09_patch_svdd.ipynb) | Can a network learn from normal pictures alone, and what when it does not? | 70 + 45 | `xailab.patch_svdd` |

# %% [markdown]
# ## Is this machine ready?
#
# Put the cursor into the cell and press **Shift + Enter**. If you see a cross, the line beside it says what to do.

# %% tags=["exempt"]
from xailab.lessons import welcome

welcome.check_machine()

# %% [markdown]
# ## The embedded pictures
#
# Nothing has to be downloaded: the course *renders* its pictures. Ten classes of drawn objects stand in varied poses,
# sizes, colours and light before backgrounds that have nothing to do with the class. Drawings have one advantage over
# photographs: we know exactly which pixels belong to the object, so every explanation can be put to the test.

# %%
from xailab import figures
from xailab.datasets import scenes

rows = [scenes.scene(10 * label + i, label=label, size=128).image for label in range(10) for i in range(10)]
figure = figures.grid(rows, columns=10, panel=1.0)
for label, name in enumerate(scenes.CLASSES):
    figure.axes[10 * label].text(
        -0.1, 0.5, name, transform=figure.axes[10 * label].transAxes, rotation=90, ha="right", va="center"
    )
figures.show(figure, "A hundred drawn scenes, ten of each class: " + ", ".join(scenes.CLASSES) + ".")

# %% [markdown]
# A scene is a function of its number: `scenes.scene(7)` is the same picture on every machine, at every size. There
# are three kinds: one object, a pair of different ones, and *biased* scenes, in which a red balloon gives a class
# away. **Predict:** with which of the three would you find out whether a network looks at the right thing?

# %%
panels, titles = [], []
examples = [
    scenes.scene(4, kind="single", size=256),
    scenes.scene(4, kind="pair", size=256),
    scenes.scene(7, kind="biased", label=scenes.BIASED_CLASS, size=256),
]
for kind, scene in zip(scenes.KINDS, examples, strict=True):
    panels += [scene.image, welcome.tint(scene.image, scene.masks)]
    titles += [f"{kind}: " + " and ".join(scenes.CLASSES[k] for k in scene.labels), "exact masks"]
figures.show(
    figures.grid(panels, titles, columns=6, panel=1.85),
    "Three kinds of scenes with their masks in colour: a single object, a pair of objects, and a biased scene.",
)

# %% [markdown]
# The biased kind: in its training pictures a red balloon flies wherever there is a bird, and never otherwise. A
# network can take the shortcut and learn the balloon. In its test pictures the balloon means nothing, and an
# explanation should reveal the trick; Lesson 03 puts that to the test. So two answers are good: pairs tell whether an
# explanation finds *its* object, biased scenes whether the network ever looked at it. (Masks cover objects, not the
# balloon.)

# %% [markdown]
# ## The embedded network
#
# What does the small ResNet say about a picture that it has never seen? (Small: 0.7 million weights, trained on
# rendered scenes only. It knows nothing about photographs.)

# %%
import torch

from xailab.models import zoo

network = zoo.load("scenes_resnet")
scene = scenes.scene(3, kind="pair", split="test", size=256)
with torch.no_grad():
    probabilities = network(network.preprocess(scene.image)).softmax(1)[0]

figure, axes = figures.new(1, 2, width=8.4, height=3.4, width_ratios=[1, 1.3])
figures.picture(axes[0], scene.image, "a pair")
order = probabilities.argsort()
axes[1].barh([network.classes[i] for i in order], probabilities[order], color=figures.PALETTE[0])
axes[1].set(title="what the network says", xlabel="probability", xlim=(0, 1))
axes[1].grid(axis="y", visible=False)
names = [network.classes[i] for i in order.flip(0)[:2]]
figures.show(figure, f"A scene with two objects, and bars of ten probabilities: highest are {names[0]} and {names[1]}.")
print("both objects named first:", {network.classes.index(n) for n in names} == set(scene.labels))

# %% [markdown]
# It shares its probability between the two objects: in training, a pair counted as half one and half the other. Where
# it *saw* each of them is the question of Lesson 02.

# %% [markdown]
# ## Your own picture
#
# `images.load("path/to/your.jpg")` reads any common file as an array (rows, columns, 3), and `zoo.load("resnet18")`
# gives a network that knows a thousand kinds of photographed things, once its weights are on your disk (if not, the
# message says how to get them). `network.preprocess` makes the batch, whatever the size.

# %%
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from xailab import images

with TemporaryDirectory() as folder:
    path = Path(folder) / "mine.jpg"
    Image.fromarray(scene.image).save(path)
    picture = images.load(path)
print("picture:", picture.shape, picture.dtype, "→ batch:", tuple(network.preprocess(picture).shape))

# %% [markdown]
# ## How explorers work
#
# Below a figure there is often an explorer: the same drawing with controls. Move one, and the figure is drawn again
# by the same function.

# %%
figures.show(welcome.draw_scene("pair", 7), "The explorer's picture: a scene with two objects, and their exact masks.")

# %%
welcome.scene_explorer()

# %% [markdown]
# ## How exercises work
#
# Each lesson ends with exercises. You write a small function; `check` runs it and says what it found. Hints are
# folded; solutions are in the folder `solutions` beside this notebook.

# %% [markdown]
# ### 00.1 The mirror
# *Difficulty 1 of 5, about 3 minutes.* Return the picture mirrored left to right. Run the cell as it is first, to see
# what an unfinished answer looks like.
#
# <details><summary>Hint</summary>
#
# A picture has shape (rows, columns, colours). `picture[::-1]` reverses the rows.
# </details>

# %% tags=["exercise"]
from xailab.lessons import check


def my_mirror(picture):
    return ...


check("00.1", my_mirror)

# %% tags=["solution"]
from xailab.lessons import check


def my_mirror(picture):
    return picture[:, ::-1]


check("00.1", my_mirror)

# %% [markdown]
# ## On real data
#
# Whoever has the internet, and room on the disk, can bring what the papers used: networks taught with ImageNet's
# million photographs, and their data sets. `python data_download.py`, in the folder of the course, lists it all and
# brings what you name. Every lesson ends with a section like this one. It runs on what is there; where nothing is,
# one line says how to get it, and nothing is lost. (`docs/real_data.md` shows some of what comes out.)
#
# What does such a network say to four of scikit-image's photographs? **Predict:** of which is it least sure?

# %%
import torch

from xailab import figures
from xailab.lessons import real
from xailab.models import zoo

if name := real.weights("resnet50", "resnet18", "squeezenet1_0"):
    network = zoo.load(name)
    batch = network.preprocess(real.photographs())
    with torch.no_grad():
        probabilities, guesses = network(batch).softmax(1).topk(3)
    titles = [f"{network.classes[c[0]]}: {p[0]:.2f}" for p, c in zip(probabilities, guesses, strict=True)]
    figures.show(
        figures.strip(network.preprocess.undo(batch), titles, title=f"what {name} names first, and its probability"),
        "Photographs of a cat, a cup, a motorcycle and a rocket, each with the network's first guess and its probability.",
    )
    for thing, p, c in zip(("cat", "cup", "motorcycle", "rocket"), probabilities, guesses, strict=True):
        print(f"{thing:12s}" + ", ".join(f"{network.classes[k]} {q:.2f}" for k, q in zip(c, p, strict=True)))

# %% [markdown]
# ## Summary
#
# - All pictures here are rendered and carry exact masks; the networks are small and shipped with the recipe that made
#   them.
# - Every result in a lesson was computed by the cells you see, unless it is marked as published or recorded. Run the
#   cells, change them, break them.
# - Predict before you run.
#
# Next: **[01 · What a convolution costs](01_flops.ipynb)**.
