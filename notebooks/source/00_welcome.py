# %% [markdown]
# # 00 · Welcome
#
# **About {reading} minutes to read, {exercises} for the exercises · 1 GiB of memory · no GPU, no network needed**
#
# Networks that look at pictures are often right, and they never say why. This course looks inside them. Each lesson
# takes one method, works it out on numbers that are small enough to check by eye, writes the method in plain PyTorch,
# compares the result with a tested implementation, and then shows where the method misleads.
#
# **Afterwards you can**
# - say which kinds of explanations there are, and which lesson answers which question;
# - name the pictures and the two networks of this course, and what each of them is good for;
# - run a lesson, write a prediction, use an explorer, and check an exercise.
#
# **You need** Python, arrays, and a rough idea of what a convolution does.
#
# **Contents:** [What an explanation is](#What-an-explanation-is) · [The lessons](#The-lessons) ·
# [Is this machine ready?](#Is-this-machine-ready?) · [Rendered scenes](#Rendered-scenes) ·
# [Photographs](#On-photographs) · [Your own picture](#Your-own-picture) · [Explorers](#How-explorers-work) ·
# [Exercises](#Exercises) · [Notation](#Notation) · [Glossary](#Glossary) · [Test yourself](#Test-yourself)
#
# [next: 01 · What a convolution costs →](01_flops.ipynb)

# %% [markdown]
# ## What an explanation is
#
# A linear regression explains itself: every input has one weight, and the output is the sum of the products. A deep
# network has millions of weights, and no single one of them means anything to a person. *Explainable AI* is the search
# for statements about such a network that a person can understand and that are true of the network.
#
# Three kinds of people need these statements. A developer wants to find out why a network fails. A user wants to know
# when to trust a network's answer. A learner wants to find out what the network has seen that people have not. The
# authors of Grad-CAM order the three by how strong the machine is: weaker than people, as good, or better.
#
# A good explanation has two sides. The explanation must be *understandable*, and a picture usually is. The explanation
# must also be *faithful*: when the explanation names a place, the network must really have used that place. A picture
# can look convincing and be unfaithful. Therefore every lesson ends with a test that the method could have failed.

# %% [markdown]
# ## The lessons
#
# | Your question | What answers it | Lesson |
# |---|---|---|
# | Where in the picture is the evidence for a class? | the last maps of the network, weighted | [02](02_cam.ipynb), [03](03_grad_cam.ipynb) |
# | What speaks against a class? What would change the answer? | negative evidence, counterfactuals | [03](03_grad_cam.ipynb) |
# | Which pixels would change the score most? | gradients of the score | [04](04_guided_backprop.ipynb), [05](05_saliency.ipynb) |
# | What does a class look like to the network? | a picture that is optimised for the class | [05](05_saliency.ipynb) |
# | What does each layer respond to? | feature maps | [06](06_feature_maps.ipynb) |
# | Which training picture does this part resemble? | prototypes | [07](07_protopnet.ipynb) |
# | Which part is unlike everything normal? | anomaly maps | [08](08_padim.ipynb), [09](09_patch_svdd.ipynb) |
# | What does the network spend its work on? | counting multiplications | [01](01_flops.ipynb) |
#
# Counting comes first because it opens the network layer by layer. The cheap convolution of lesson 01, which weights
# and adds channels at every place, is exactly the sum that lesson 02 turns into a map. A reader who came for the maps
# can begin with lesson 02.
#
# | Lesson | Question | Minutes (reading + exercises) | Module |
# |---|---|---|---|
# | 00 · Welcome | Is everything ready? | {minutes 00_welcome} | |
# | [01 · What a convolution costs](01_flops.ipynb) | Why is MobileNet so cheap, and why is cheap not always fast? | {minutes 01_flops} | `xailab.flops` |
# | [02 · Class activation maps](02_cam.ipynb) | Where in the picture is the evidence? | {minutes 02_cam} | `xailab.cam` |
# | [03 · Grad-CAM](03_grad_cam.ipynb) | And in a network of any shape? What speaks against a class? | {minutes 03_grad_cam} | `xailab.grad_cam` |
# | [04 · Guided backprop](04_guided_backprop.ipynb) | Why are its pictures so sharp, and do they mean anything? | {minutes 04_guided_backprop} | `xailab.guided_backprop` |
# | [05 · Saliency and class models](05_saliency.ipynb) | Which pixels matter, and what does a class look like? | {minutes 05_saliency} | `xailab.saliency`, `xailab.class_model` |
# | [06 · Feature maps](06_feature_maps.ipynb) | What does each layer see, and how far? | {minutes 06_feature_maps} | `xailab.feature_maps` |
# | [07 · ProtoPNet](07_protopnet.ipynb) | "This looks like that": does it, and where? | {minutes 07_protopnet} | `xailab.protopnet` |
# | [08 · PaDiM](08_padim.ipynb) | What is normal at each place of a picture, and what is not? | {minutes 08_padim} | `xailab.padim` |
# | [09 · Patch SVDD](09_patch_svdd.ipynb) | Can a network learn from normal pictures alone, and what when it does not? | 70 + 45 | `xailab.patch_svdd` |
#
# The notebooks listed here are the core of each lesson. Some lessons have a second notebook in the folder
# `deeper`, with what goes beyond the core.

# %% [markdown]
# ## Is this machine ready?
#
# Put the cursor into the cell and press **Shift + Enter**. If you see a cross, the line beside the cross says what to
# do.

# %% tags=["exempt"]
from xailab.lessons import welcome

welcome.check_machine()

# %% [markdown]
# ## Rendered scenes
#
# The course uses two kinds of pictures, and nothing has to be downloaded for either. The first kind is *rendered*: a
# program draws objects of ten classes in varied poses, sizes, colours and light, before backgrounds that have nothing
# to do with the class. Rendered scenes have one advantage over photographs: we know exactly which pixels belong to the
# object, so an explanation can be measured.

# %%
from xailab import figures
from xailab.datasets import scenes

rows = [scenes.scene(10 * label + i, label=label, size=128).image for label in range(10) for i in range(10)]
figures.show(
    welcome.draw_classes(rows),
    "A hundred drawn scenes, ten of each class: " + ", ".join(scenes.CLASSES) + ".",
)

# %% [markdown]
# A scene is a function of its number and its kind: `scenes.scene(7)` is the same picture on every machine, at every size.
# There are three kinds. A *single* scene has one object, and networks are trained on them. A *pair* has two objects of
# different classes. In the *biased* training set, every bird has a red balloon, and nothing else has one.
#
# **Predict.** With which kind would you test whether a map finds the object that was asked for? With which kind would
# you test whether the network looks at the object at all?
#
# *Your prediction (double-click here and write):* …

# %%
examples = [
    scenes.scene(4, kind="single", size=256),
    scenes.scene(4, kind="pair", size=256),
    scenes.scene(7, kind="biased", label=scenes.BIASED_CLASS, size=256),
]
figures.show(
    welcome.draw_kinds(examples),
    "Three kinds of scenes with their masks in colour: a single object, a pair of objects, and a biased scene.",
)

# %% [markdown]
# Pairs test whether a map finds the object that was asked for: a map for “cat” must not lie on the dog. Biased scenes
# test whether the network looks at the object at all: a network can take a shortcut, and call everything with a balloon
# a bird. Lesson 03 shows how an explanation reveals this shortcut. The masks cover the objects and not the balloon.
#
# The small network `scenes_resnet` has 0.7 million weights and was trained on rendered scenes only. What does the
# network say about a pair that was not in its training set?

# %%
import torch

from xailab.models import zoo

network = zoo.load("scenes_resnet")
scene = scenes.scene(3, kind="pair", split="test", size=256)
batch = network.preprocess(scene.image)
with torch.no_grad():
    probabilities = network(batch).softmax(1)[0]

figures.show(
    welcome.draw_probabilities(scene.image, probabilities, network.classes),
    "A scene with two objects, and bars of ten probabilities: the two objects have the highest.",
)
print("the network sees", tuple(batch.shape[-2:]), "pixels")
for label in scene.labels:
    print(f"{network.classes[label]:10s} {probabilities[label]:.2f}")

# %% [markdown]
# The network divides its probability between the two objects, because each pair of the training set counted as half one
# class and half the other. *Where* the network saw each of the two objects is the question of lesson 02.

# %% [markdown]
# ## On photographs
#
# The second kind of pictures are photographs, which the packages scikit-image and scikit-learn bring with them. A
# network that knows photographs comes with the installation, too: **EfficientNet-Lite0**, trained on the 1.3 million
# photographs and 1000 classes of ImageNet. Google publishes an accuracy of 75.1 % for its weights.
#
# **Predict.** You will see a cat, a cup, a motorcycle, a rocket and a temple. For which one will the network be most
# certain, and for which one least?
#
# *Your prediction (double-click here and write):* …

# %%
from xailab.datasets import photographs

network = zoo.load("efficientnet_lite0")
chosen = [photographs.photograph(name) for name in ("cat", "cup", "motorcycle", "rocket", "temple")]
batch = network.preprocess([photograph.image for photograph in chosen])
with torch.no_grad():
    probabilities = network(batch).softmax(1)

figures.show(
    figures.strip(network.preprocess.undo(batch), ["cat", "cup", "motorcycle", "rocket", "temple"]),
    "Five photographs, cut to the square that the network sees: a cat's face, a cup of coffee, a motorcycle, a rocket, "
    "and a Chinese temple by a lake.",
)
for photograph, p in zip(chosen, probabilities, strict=True):
    named = [f"{network.classes[k]} {p[k]:.2f}" for k in p.argsort(descending=True) if p[k] > 0.05]
    print(f"{', '.join(named):52s} photograph: {photograph.author}, {photograph.licence}")

# %% [markdown]
# The network is most certain of the cup, which the network calls an espresso. Only classes with more than 0.05 are
# printed. It is almost equally uncertain about the cat, the rocket and the temple. For the cat, ImageNet has several
# classes that fit: three kinds of cats share the probability. ImageNet has no class for a rocket on its launch pad, and
# the network chooses the class missile. A probability says how the network divides its answer among the 1000 classes. A
# probability does not say what in the picture led to the answer.

# %% [markdown]
# ## Your own picture
#
# `images.load("path/to/your.jpg")` reads any common file as an array of shape (rows, columns, 3).
# `network.preprocess` makes the batch that the network wants, whatever the size of the picture.

# %%
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from xailab import images

with TemporaryDirectory() as folder:
    path = Path(folder) / "mine.jpg"
    Image.fromarray(chosen[0].image).save(path)
    picture = images.load(path)
print("picture:", picture.shape, picture.dtype, "→ batch:", tuple(network.preprocess(picture).shape))

# %% [markdown]
# ## How explorers work
#
# Below a figure there is often an explorer: the same drawing with controls. Move a control, and the same function draws
# the figure again.

# %%
figures.show(welcome.draw_scene("pair", 7), "The explorer's picture: a scene with two objects, and their exact masks.")

# %%
welcome.scene_explorer()

# %% [markdown]
# ## Exercises
#
# Each lesson has exercises. You write a small function, and `check` runs the function and says what it found. Hints are
# folded. Solutions are in the folder `solutions`.

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
# ## Notation
#
# All lessons use the same letters. Where a paper uses other letters, the lesson says so once.
#
# | Letter | Meaning | Shape | The papers' letters |
# |---|---|---|---|
# | $I$ | the image, after preprocessing | 3 × height × width | $x$ |
# | $f_k(x, y)$ | the last maps: channel $k$ at place $(x, y)$ | K × h × w | $A^k_{ij}$ in Grad-CAM |
# | $w^c_k$ | the weight of channel $k$ in the last layer for class $c$ | classes × K | |
# | $S_c$ | the score of class $c$ before the softmax, also called logit | one number | $y^c$ in Grad-CAM |
# | $M_c(x, y)$ | the class activation map of class $c$ | h × w | $L^c$ in Grad-CAM |
# | $\alpha^c_k$ | Grad-CAM's weight of channel $k$ for class $c$ | K | |
# | $Z$ | the number of places, h · w | one number | |
#
# In formulas, $x$ counts columns and $y$ counts rows. In code, an array is indexed `[y, x]`. Lesson 01 counts
# multiplications and needs letters of its own, which lesson 01 explains.

# %% [markdown]
# ## Glossary
#
# | Word | Meaning |
# |---|---|
# | score, logit | what the last layer gives for a class, before the softmax |
# | evidence | a part of the score that a place contributes; the evidence of all places adds up to the score |
# | attribution | a number for every pixel or place, which says how much the place has to do with the score |
# | gradient | how fast the score changes when a value changes a little |
# | saliency | the size of the gradient of the score with respect to each pixel |
# | map | an attribution drawn as a picture |
# | channel, feature map | one of the pictures that a layer computes |
# | GAP | global average pooling: the mean of each channel over all places |
# | MAC | one multiplication and one addition; the unit of a network's cost |
# | mask | the pixels that belong to an object |
# | IoU | intersection over union: the share that two regions have in common |
# | pointing game | does the brightest place of a map lie on the object? |
# | counterfactual | what would have to be different for another answer |
# | prototype | a part of a training picture that a network compares new pictures with |
# | anomaly map | how unlike the normal training pictures each place is |
# | faithful | true of the network, and not only convincing for a person |

# %% [markdown]
# ## Test yourself
#
# <details><summary>1. Why does the course render pictures, when there are photographs?</summary>
#
# Rendered scenes have exact masks. With masks, the quality of a map can be measured.
# </details>
# <details><summary>2. A map is pleasant to look at and lies on the object. Is the map faithful?</summary>
#
# Not necessarily. A map that always shows the object, whatever the network does, looks the same. A test is needed that
# an unfaithful map fails, for instance a network with random weights.
# </details>
# <details><summary>3. Which lesson answers what a class looks like to the network?</summary>
#
# Lesson 05, with a picture that is optimised for the class.
# </details>
# <details><summary>4. At what size do the two networks see a picture?</summary>
#
# `scenes_resnet` sees 128 × 128 pixels, EfficientNet-Lite0 sees 224 × 224. `network.preprocess` resizes and crops.
# </details>
# <details><summary>5. The network says “tiger cat 0.39”. What does this number not tell you?</summary>
#
# The number does not tell which part of the picture led to the answer.
# </details>

# %% [markdown]
# ## Summary
#
# > **Key idea.** An explanation has to be understandable and faithful. Looking at the picture tests the first property.
# > The second property has to be measured.
#
# - Rendered scenes carry exact masks; photographs show what a network does with real pictures.
# - Every result in a lesson was computed by the cells that you see, unless the result is marked as published or as
#   recorded. Run the cells, change them, break them.
# - Write your prediction before you run a cell.
#
# Data sets that the papers used can be downloaded: `python data_download.py` lists them. Every lesson has a short
# section on them, and `docs/real_data.md` shows what comes out.
#
# **Read more.** [Molnar, *Interpretable Machine Learning*](https://christophm.github.io/interpretable-ml-book/): a free
# book, for the whole field. [Rudin 2019](https://arxiv.org/abs/1811.10154): why one may prefer networks that need no
# explanation afterwards; lesson 07 builds one. [Adebayo et al. 2018](https://arxiv.org/abs/1810.03292): the test that
# several popular maps fail; lesson 04 repeats it.
#
# Next: **[01 · What a convolution costs](01_flops.ipynb)**.
