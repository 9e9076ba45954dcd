# %% [markdown]
# # 04 · Guided backprop
#
# **About 45 minutes to read, 35 for the exercises · 1 GiB of memory · no GPU, no network needed**
#
# The sharpest pictures in all of explainable AI come from a gradient whose negative parts are thrown away at every
# ReLU on its way back. They look as if they showed what the network saw. Do they?
#
# **Afterwards you can**
# - pass a gradient through a ReLU by three rules, by hand and on any network,
# - say why code that swaps modules goes wrong, and see it happen,
# - make the five-picture strip of the Grad-CAM paper, with the right colours and an honest zero,
# - test an explanation: does it depend on the network's weights, and on the class it is asked about?
#
# **You need** backpropagation through one layer. Grad-CAM (Lesson 03) helps from the fourth section on.

# %% [markdown]
# ## The idea
#
# In the forward pass a ReLU takes $z$ and hands on $\max(z, 0)$. On the way back a gradient $R$ arrives from above.
# What is handed down? Three rules (Springenberg et al. 2015, section 3.4):
#
# | rule | handed down | kept are the places where |
# |---|---|---|
# | true gradient | $R \cdot [z > 0]$ | the ReLU was open in the forward pass |
# | deconvnet (Zeiler and Fergus 2014) | $R \cdot [R > 0]$ | the gradient is positive |
# | guided backprop | $R \cdot [z > 0] \cdot [R > 0]$ | both |
#
# Only the first is a derivative. It answers: by how much does the score change if this pixel changes a little? The
# other two keep only what arrives positive, layer by layer; their numbers answer no such question.
#
# **Predict before you run:** which rule ignores what the ReLU itself saw in the forward pass?

# %% [markdown]
# ## From scratch, on nine numbers
#
# The example that nearly every introduction draws: nine inputs of a ReLU, nine gradients from above. What does each
# rule let through?

# %%
import torch
from torch import nn

z = torch.tensor([[1.0, -1, 5], [2, -5, -7], [-3, 2, 4]])  # what the ReLU was given
R = torch.tensor([[-2.0, 3, -1], [6, -3, 1], [2, -1, 3]])  # the gradient that arrives from above


def by_hand(z, R, rule):
    down = torch.zeros_like(R)
    for y in range(R.shape[0]):
        for x in range(R.shape[1]):
            opened, positive = z[y, x] > 0, R[y, x] > 0
            passes = {"gradient": opened, "deconvnet": positive, "guided": opened and positive}[rule]
            down[y, x] = R[y, x] if passes else 0
    return down


for rule in ("gradient", "deconvnet", "guided"):
    print(f"{rule:10s}", by_hand(z, R, rule).int().tolist())

# %%
from xailab import figures, images
from xailab.lessons import guided_backprop as lesson

figure, axes = figures.new(2, 3, width=7.8, height=5.7)
grids = {"input z of the ReLU": z, "its output, max(z, 0)": z.relu(), "gradient R from above": R}
grids |= {"gradient: R · [z > 0]": by_hand(z, R, "gradient"), "deconvnet: R · [R > 0]": by_hand(z, R, "deconvnet")}
grids |= {"guided: R · [z > 0] · [R > 0]": by_hand(z, R, "guided")}
for axis, (title, values) in zip(axes.flat, grids.items(), strict=True):
    lesson.number_grid(axis, values.tolist(), title)
figures.show(
    figure,
    "Six grids of nine numbers. Above: the input, the output and the gradient. Below: the gradient rule keeps −2, −1, 6, −1 "
    "and 3; the deconvnet keeps 3, 6, 1, 2 and 3; the guided rule keeps only 6 and 3.",
)

# %% [markdown]
# Five inputs are positive, and five gradients are; at only two cells both are. So the guided picture is the emptiest
# and has no negative number left. The deconvnet is the rule that ignores $z$: it hands down a 2 through a ReLU that
# was closed (bottom left, $z = -3$).

# %% [markdown]
# ## The same through the library
#
# `input_gradient(network, images, target, rule=...)` applies a rule at every ReLU. Convolution, ReLU, linear layer:
# is the result what the loops give, when the rest is done with the true derivative?

# %%
from xailab.guided_backprop import guided_backprop, input_gradient

torch.manual_seed(0)
tiny = nn.Sequential(nn.Conv2d(1, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(18, 3))
image, target = torch.randn(1, 1, 4, 4), 2

for rule in ("gradient", "deconvnet", "guided"):
    z_tiny = tiny[0](image)[0]
    R_tiny = tiny[3].weight[target].view(2, 3, 3)  # the derivative of the score by the ReLU's output
    down = torch.stack([by_hand(z_tiny[k], R_tiny[k], rule) for k in range(2)])
    picture = nn.functional.conv_transpose2d(down[None], tiny[0].weight)  # a convolution's way back
    assert torch.allclose(input_gradient(tiny, image, target, rule=rule), picture, atol=1e-6)
print("loops and library agree for all three rules")

# %% [markdown]
# They agree. Note that a guided picture can well have negative values: the rule acts at ReLUs, and below the last one
# there is still a convolution with weights of either sign.

# %% [markdown]
# ## Real pictures, and how to draw a sign
#
# A gradient has the shape of the picture, three signed numbers for each pixel. To draw it honestly, zero has to be
# one fixed colour and both signs need one scale:
#
# $$\text{grey value} = 128 + 127 \cdot \operatorname{clip}\left(\frac{g}{q}, -1, 1\right), \qquad
# q = \text{99.5 \% quantile of } |g| .$$
#
# So mid-grey is exactly 0, and one value in 200 is clipped, which we say. (Without clipping, the largest value of all
# would decide how the other 49 151 look.) What do the three rules show on three unseen scenes?

# %%
from xailab.datasets import scenes
from xailab.models import zoo

network = zoo.load("scenes_resnet")
numbers = {"dog": 2, "butterfly": 1, "car": 6}
chosen = [scenes.scene(i, label=scenes.CLASSES.index(name), split="test", size=256) for name, i in numbers.items()]
batch = network.preprocess([s.image for s in chosen])
labels = [s.labels[0] for s in chosen]
ways = lesson.explanations(network, batch, labels, list(lesson.RULES))

panels, titles = [], []
for i, s in enumerate(chosen):
    panels += [s.image, *(images.signed(ways[name][i]) for name in ways)]
    titles += [scenes.CLASSES[s.labels[0]], *ways]
figure = figures.grid(panels, titles, columns=4, panel=2.6)
figures.show(
    figure,
    "Three scenes, each with three signed pictures on grey: the gradient is coloured noise around the object; the "
    "deconvnet fills the whole frame with structure; guided backprop is a clean relief of the object's outlines.",
)
for name, way in ways.items():
    g = way[0].abs()
    print(f"{name:16s} largest |value| {g.max():.4f}, drawn up to q = {g.flatten().quantile(0.995):.4f}")

# %% [markdown]
# The true gradient is noise that thickens around the object. The deconvnet covers the whole frame with a weave.
# Guided backprop is a clean relief on empty grey: ears and eyes, the butterfly's body, wheels and windows. It is
# tempting to conclude that it explains better. Keep that temptation; the second half of this lesson measures it.
# (Each panel has its own $q$, printed for the dog: equal contrast does not mean equal numbers.)

# %% [markdown]
# ## Why swapping modules goes wrong
#
# Most public code makes guided backprop by replacing each `nn.ReLU` inside the network by a function with the guided
# rule as its derivative. It is short, and it works on the networks it was written for. Read it, then predict what it
# does to a network that calls `F.relu`.

# %%
import copy

import torch.nn.functional as F


class GuidedReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z):
        ctx.save_for_backward(z)
        return z.clamp(min=0)

    @staticmethod
    def backward(ctx, R):
        (z,) = ctx.saved_tensors
        return R * (z > 0) * (R > 0)


def swap(module):
    for name, child in module._modules.items():
        swap(child)
        if type(child) is nn.ReLU:
            module._modules[name] = GuidedReLU.apply


def plain_gradient(network, images, target):
    images = images.clone().requires_grad_()
    network(images)[:, target].sum().backward()
    return images.grad


class Swapped:
    """Guided backprop as it is often published."""

    def __init__(self, network):
        swap(network)
        self.network = network

    def __call__(self, images, target):
        return plain_gradient(self.network, images, target)


class Tiny(nn.Module):
    """Two convolutions, each with the activation that you hand in; always the same weights."""

    def __init__(self, first, second):
        super().__init__()
        torch.manual_seed(3)
        self.conv1, self.conv2, self.fc = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3), nn.Linear(6, 2)
        self.first, self.second = first, second

    def forward(self, x):
        x = self.second(self.conv2(self.first(self.conv1(x))))
        return self.fc(x.mean((2, 3)))


torch.manual_seed(0)
image = torch.randn(1, 3, 8, 8)
plain = plain_gradient(Tiny(F.relu, F.relu), image, 1)
guided = plain_gradient(Tiny(GuidedReLU.apply, GuidedReLU.apply), image, 1)  # the truth, built in by hand


def verdict(gradient, plain=plain):
    answers = {"right": guided, "plain gradient": plain}
    return next((word for word, answer in answers.items() if torch.allclose(gradient, answer)), "neither")


print("nn.ReLU, swapped:", verdict(Swapped(Tiny(nn.ReLU(), nn.ReLU()))(image, 1)))
print("F.relu,  swapped:", verdict(Swapped(Tiny(F.relu, F.relu))(image, 1)))

# %% [markdown]
# No error, no warning: for `F.relu` you get the plain gradient, and may well publish it as guided backprop. Two
# relatives of the swap are in use too: going through `named_modules()`, and backward hooks on modules. How do they do
# on networks that anybody might write?


# %%
import warnings


def swap_by_name(network):
    for name, child in list(network.named_modules()):  # lists a shared module once, under its first name
        if type(child) is nn.ReLU:
            network._modules[name] = GuidedReLU.apply


def hook_modules(network):
    for module in network.modules():
        if type(module) is nn.ReLU:
            module.register_full_backward_hook(lambda module, down, up: (down[0].clamp(min=0),))


def attempt(prepare, make):
    network, plain = make(), plain_gradient(make(), image, 1)
    try:
        prepare(network)
        return verdict(plain_gradient(network, image, 1), plain)
    except RuntimeError:
        return "RuntimeError"


def ours(network):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            answer = verdict(guided_backprop(network, image, 1))
        except ValueError:
            return "refuses"
    return "warns" if caught else answer


relu = nn.ReLU()
networks = {
    "two nn.ReLU": lambda: Tiny(nn.ReLU(), nn.ReLU()),
    "one nn.ReLU under two names": lambda: Tiny(relu, relu),
    "nn.ReLU(inplace=True)": lambda: Tiny(nn.ReLU(inplace=True), nn.ReLU(inplace=True)),
    "nn.ReLU, then F.relu": lambda: Tiny(nn.ReLU(), F.relu),
    "F.relu, then x.relu()": lambda: Tiny(F.relu, torch.Tensor.relu),
    "nn.ReLU6 (as in MobileNetV2)": lambda: Tiny(nn.ReLU6(), nn.ReLU6()),
    "x.clamp(min=0)": lambda: Tiny(lambda x: x.clamp(min=0), lambda x: x.clamp(min=0)),
    "nn.ReLU, then nn.LeakyReLU": lambda: Tiny(nn.ReLU(), nn.LeakyReLU()),
    "nn.LeakyReLU": lambda: Tiny(nn.LeakyReLU(), nn.LeakyReLU()),
}
common = (swap, swap_by_name, hook_modules)
verdicts = [[*(attempt(prepare, make) for prepare in common), ours(make())] for make in networks.values()]
columns = ["swap, by tree", "swap, by name", "module hooks", "xailab"]
for name, line in zip(networks, verdicts, strict=True):
    print(f"{name:30s}", " | ".join(f"{word:14s}" for word in line))
figures.show(
    lesson.verdict_table(verdicts, list(networks), columns),
    "A table of nine networks and four ways to guide them. Swapping and hooks are right for two separate modules, and "
    "silently wrong in at least six other rows; the last column is right in seven rows, warns in one and refuses in one.",
)

# %% [markdown]
# Orange cells are wrong answers that *say nothing*; every column but the last has at least six. A ReLU with two
# names is guided at one of its two calls if you go by names; a network with both kinds of ReLU comes out half guided,
# which is no method at all. (The first seven networks compute the same scores from the same weights: nothing here
# reaches ReLU6's 6.) A leaky ReLU has no closed half, so the rule has no meaning for it. Where a network has nothing
# else, xailab refuses; where it has ReLUs besides, those are guided, the others keep their derivative, and a warning
# names them.
#
# ## No way back
#
# Now the network that was swapped. It is the same object as before, and usually goes on to be used for something
# else: an accuracy, another explanation, a saved file. What is left of it?

# %%
batch = batch[:1]
dog = scenes.CLASSES.index("dog")
before = plain_gradient(network, batch, dog)
used = copy.deepcopy(network)  # so that the course's own network stays whole
Swapped(used)(batch, dog)

after = plain_gradient(used, batch, dog)
print(f"its plain gradient changed by {(after - before).norm() / before.norm():.1f} times the gradient's own length")
for what in ("used.eval()", "used.state_dict()", "Swapped(used)"):
    try:
        eval(what)
    except AttributeError as error:
        print(f"{what:18s} AttributeError: {error}")


def guided_for_a_moment(network, images, target):  # puts everything back, if it gets so far
    kept = dict(network._modules)
    swap(network)
    result = plain_gradient(network, images, target)
    network._modules.update(kept)
    return result


one = Tiny(nn.ReLU(), nn.ReLU())
try:
    guided_for_a_moment(one, image, target=99)
except IndexError:
    still_plain = torch.allclose(plain_gradient(one, image, 1), plain)
    print("swapped for one call, which failed; its plain gradient is still plain:", still_plain)

ours_after = Tiny(nn.ReLU(), nn.ReLU())
try:
    guided_backprop(ours_after, image, 99)
except ValueError as error:
    print("xailab, asked the same:", error)
assert torch.equal(plain_gradient(ours_after, image, 1), plain)

# %% [markdown]
# Every gradient taken from that object afterwards is silently a guided one, and the network can no longer be put in
# eval mode, saved, or swapped a second time. Putting things back at the end of the call does not help when the call
# fails on the way: that takes `try ... finally`, or a method that changes nothing.

# %% [markdown]
# ## How to change nothing
#
# A ReLU's derivative does not belong to a module. It belongs to a *call*: each call leaves a node in the backward
# graph, and a node takes hooks. So: watch the calls go by, and hook their nodes. Both the graph and the hooks are
# gone after the backward pass, and the network has never been touched. Here is the heart of the library in a dozen
# lines.

# %%
from torch.overrides import TorchFunctionMode


class Watch(TorchFunctionMode):
    def __init__(self):
        super().__init__()
        self.nodes = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        if func in (F.relu, torch.relu, torch.Tensor.relu):
            self.nodes.append(output.grad_fn)  # this call's node of the backward graph
        return output


def guided_in_a_dozen_lines(network, images, target):
    images = images.clone().requires_grad_()
    with Watch() as watch:
        score = network(images)[:, target].sum()
    for node in watch.nodes:  # down: what the true derivative hands down, R · [z > 0]
        node.register_hook(lambda down, up: (down[0].clamp(min=0),))
    return torch.autograd.grad(score, images)[0]


for activation in (nn.ReLU(), F.relu, torch.Tensor.relu):
    assert torch.allclose(guided_in_a_dozen_lines(Tiny(activation, F.relu), image, 1), guided)
print("module, function and method: all guided, nothing replaced")

# The library also knows ReLU6 and clamp(min=0), and names the activations that are none.
for name in ("efficientnet_b0", "mobilenet_v3_small"):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            guided_backprop(zoo.load(name, weights=None), torch.randn(1, 3, 64, 64), 0)
            print(f"\n{name}, warning: {caught[0].message}")
        except ValueError as error:
            print(f"\n{name}, error: {error}")

# %% [markdown]
# Clamping the true derivative at zero gives the guided rule, since $\max(R\,[z>0],\,0) = R\,[z>0]\,[R>0]$. A network
# that has no ReLU gets an error, not a picture; one that mixes ReLUs with others gets a picture and a warning, since
# what it shows is guided in part only. (A ReLU written in some other way, as `torch.where(z > 0, z, 0)` say, is seen
# by nobody: know your network.)

# %% [markdown]
# ## The five-picture strip
#
# Guided backprop became famous as one half of **Guided Grad-CAM** (Selvaraju et al. 2017, section 3.2):
#
# $$\text{Guided Grad-CAM}_c = \text{guided backprop}_c \cdot \text{upsample}(\text{Grad-CAM}_c) .$$
#
# One factor is sharp, the other knows the class. Figure 1 of that paper shows all parts for a cat and a dog in one
# photograph. What does it look like on a scene with both?

# %%
from xailab.grad_cam import grad_cam, guided_grad_cam

cat = scenes.CLASSES.index("cat")
pair = scenes.scene(1, kind="pair", label=(cat, dog), split="test", size=256)
batch = network.preprocess(pair.image)
cams = grad_cam(network, batch, "layer4", [[cat, dog]])[0]
backs = guided_backprop(network, batch, [[cat, dog]])[0]
both = guided_grad_cam(network, batch, "layer4", [[cat, dog]])[0]

strips, titles = [], []
for i, name in enumerate(("cat", "dog")):
    heat = images.heatmap(images.normalise(images.upsample(cams[i], 256)))
    fine = [images.signed(signed, quantile=0.999) for signed in (backs[i], both[i])]
    strips += [pair.image, heat, images.overlay(pair.image, cams[i]), *fine]
    titles += [f"explained: “{name}”", "Grad-CAM", "Grad-CAM, overlay", "guided backprop", "Guided Grad-CAM"]
figure = figures.grid(strips, titles, columns=5, panel=2.5)
figures.show(
    figure,
    "Two rows of five pictures, above for cat, below for dog: the scene, the Grad-CAM heat map, its overlay, guided "
    "backprop, Guided Grad-CAM. The fourth picture shows both animals in both rows; the others light up the named one.",
)
assert torch.allclose(both, backs * images.upsample(cams, 128)[:, None], atol=1e-6)

# %% [markdown]
# Read the columns from top to bottom. Grad-CAM moves from one animal to the other, and Guided Grad-CAM with it.
# Guided backprop draws both animals in both rows: the named one is stronger, and the other one is there all the same.
# (Most of the frame is empty here, so $q$ is the 99.9 % quantile: at 99.5 % too much of the face would be clipped.)

# %% [markdown]
# ## Traps on the way to a file, 1: blue faces
#
# OpenCV takes every array for BGR: blue first. Much published code computes in RGB, writes with `cv2.imwrite`, and
# reads the file again with `imread` and a swap to RGB for the final figure. Does that second swap repair it?

# %%
import io

import cv2
import numpy as np
from PIL import Image


def opened(file):  # what an image viewer, a browser or a PDF shows
    return np.asarray(Image.open(io.BytesIO(file.tobytes())))


row = np.concatenate([cv2.resize(p, (256, 256)) for p in strips[5:]], axis=1)  # the lower strip, RGB
wrong = cv2.imencode(".png", row)[1]  # what cv2.imwrite puts into a file
right = cv2.imencode(".png", cv2.cvtColor(row, cv2.COLOR_RGB2BGR))[1]

swapped_back = cv2.cvtColor(cv2.imdecode(wrong, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
not_swapped = cv2.imdecode(wrong, cv2.IMREAD_COLOR)
print("right file, opened elsewhere, has the right colours:   ", np.array_equal(opened(right), row))
print("wrong file, opened elsewhere, has the right colours:   ", np.array_equal(opened(wrong), row))
print("wrong file, imread + swap to RGB, has the right colours:", np.array_equal(swapped_back, row))
print("wrong file, imread without a swap, looks right on screen:", np.array_equal(not_swapped, row))

titles = ["RGB handed to imwrite", "swapped to BGR first"]
figure = figures.grid([opened(wrong), opened(right)], titles, columns=1, panel=10.0)
figures.show(
    figure,
    "The lower strip twice. Above, as written wrongly: red and blue are exchanged in the scene, the heat map and both "
    "signed pictures. Below, written rightly.",
)

# %% [markdown]
# No: a correct reading shows what the file holds, and it holds the wrong colours. Only a *second* mistake, reading
# without a swap, cancels the first one on the screen, and leaves the file wrong for everybody else. A signed picture
# does not even look odd with red and blue exchanged; it is wrong all the same. Swap once, right at the call of
# `imwrite`, or write with Pillow, which takes RGB.

# %% [markdown]
# ## Traps on the way to a file, 2: where is zero?
#
# Two scalings are customary: min–max to 0 … 255, and "subtract the mean, divide by the standard deviation, times 0.1,
# plus 0.5". Which grey value does a gradient of exactly zero get?

# %%
ten = [scenes.scene(i, split="test", size=128) for i in range(10)]
labels = [s.labels[0] for s in ten]
ten_batch = network.preprocess([s.image for s in ten])
ten_guided = guided_backprop(network, ten_batch, labels)


def min_max(g):
    return (g - g.min()) / (g.max() - g.min())


def mean_std(g):
    return (0.5 + 0.1 * (g - g.mean()) / g.std()).clamp(0, 1)


def zero_of(scaling, g):
    """The grey value of 0: that of one more pixel with this value."""
    return 255 * float(scaling(torch.cat([g.flatten(), torch.zeros(1)]))[-1])


for name, signed_or_not in (("guided backprop", ten_guided), ("its strength, max |g|", lesson.strength(ten_guided))):
    for scaling in (min_max, mean_std):
        zeros = [zero_of(scaling, g) for g in signed_or_not]
        print(f"{name:22s} {scaling.__name__:9s} zero becomes {min(zeros):5.1f} to {max(zeros):5.1f}")

worst = max(range(10), key=lambda i: abs(zero_of(min_max, ten_guided[i]) - 128))
g = ten_guided[worst]
panels = [(255 * f(g)).byte().permute(1, 2, 0).numpy() for f in (min_max, mean_std)]
zeros = (zero_of(min_max, g), zero_of(mean_std, g), 128)
titles = [f"{n}: zero is {zero:.0f}" for n, zero in zip(("min–max", "mean / std", "symmetric"), zeros, strict=True)]
figure = figures.strip([ten[worst].image, *panels, images.signed(g)], ["scene", *titles], panel=2.7)
figures.show(
    figure,
    "A rocket and its guided backprop in three scalings. With min–max the empty background is a lighter grey and the "
    "rocket is pale; with the other two the background is mid-grey.",
)

# %% [markdown]
# Min–max lets the two most extreme pixels decide where zero lies, elsewhere in each picture, and here makes an empty
# sky light grey. Mean and standard deviation do no harm to values that average out at zero, as guided backprop's do
# here, but they move the zero of anything one-sided, such as its strength. The symmetric scale keeps zero at 128 by
# construction. It too stretches each picture by itself, so write $q$ beside it when strengths are compared.
#
# ## Traps on the way to a file, 3: a tint, and the wrong input
#
# Two more habits. The heat map in "jet" colours is *added* to the picture and the sum divided by its maximum. And in
# published code for this very strip, Grad-CAM gets the normalised picture, but guided backprop the raw pixels. What
# do they do?

# %%
heat = images.normalise(images.upsample(cams[1], 256)).numpy()
jet = cv2.applyColorMap(np.uint8(255 * heat), cv2.COLORMAP_JET)[..., ::-1] / 255
added = jet + pair.image / 255
added = np.uint8(255 * added / added.max())  # the customary overlay: add, divide by the maximum
ours_overlay = images.overlay(pair.image, cams[1])
nothing = heat == 0
for name, p in (("the scene", pair.image), ("jet added, divided", added), ("images.overlay", ours_overlay)):
    print(f"{name:19s} mean RGB where the map is 0: {[round(float(v)) for v in p[nothing].mean(0)]}")

raw = torch.from_numpy(np.stack([s.image for s in ten])).permute(0, 3, 1, 2) / 255  # forgot to normalise
with torch.no_grad():
    shares = [float((network(x).argmax(1) == torch.tensor(labels)).float().mean()) for x in (ten_batch, raw)]
wrong_input = guided_backprop(network, raw, labels)
agreement = np.mean([lesson.rank_correlation(a, b) for a, b in zip(wrong_input, ten_guided, strict=True)])
print(f"\nnamed correctly: {shares[0]:.0%} of ten scenes normalised, {shares[1]:.0%} as raw pixels in [0, 1]")
print(f"rank correlation of guided backprop on raw and on normalised pixels: {agreement:.2f}")

# %% [markdown]
# The added heat map turns places without evidence blue (jet's colour for 0), and the division darkens them; where a
# map says nothing, an overlay should leave the picture alone. The second slip is worse, and cannot be seen: on raw
# pixels this network names two scenes of ten, and the explanation ranks the pixels otherwise, but it is a relief all
# the same. A picture that comes out so well for a network that does not know what it sees should make you suspicious.

# %% [markdown]
# ## The sanity check: does the picture depend on the network?
#
# An explanation of a network should change if the network forgets all it has learnt. Adebayo et al. (2018) randomise
# the weights stage by stage from the top (`fc`, then also `layer4`, then also `layer3`, ...) and compare each
# explanation with that of the trained network. **Predict:** with the classifier and `layer4` random, the network's
# answers are worthless. Which of the explanations notice?
#
# What exactly is random: convolutions and the linear layer get fresh initial weights, batch norms lose scale, shift
# *and* running statistics (they described the old weights' outputs). The comparison is Spearman's rank correlation:
# of max |g| over the channels for the signed pictures, of the map before its ReLU for Grad-CAM. Ten scenes, three
# seeds. As a yardstick, at the far right: the correlation with explanations of *other pictures* by the trained
# network.

# %%
import itertools

methods = ["gradient", "guided backprop", "Grad-CAM", "Guided Grad-CAM"]
trained = lesson.explanations(network, ten_batch, labels, methods)
depths, seeds = range(len(lesson.STAGES) + 1), range(3)
rho = {name: np.ones((len(seeds), len(depths))) for name in methods}
order_of = {name: lesson.ranks(maps) for name, maps in trained.items()}  # whose dot products are rank correlations
by_depth = [trained]  # of the first seed, to be drawn below
for seed in seeds:
    for depth in depths[1:]:
        now = lesson.explanations(lesson.randomised(network, depth, seed), ten_batch, labels, methods)
        for name in methods:
            rho[name][seed, depth] = (order_of[name] * lesson.ranks(now[name])).sum(1).mean()
        if seed == 0:
            by_depth.append(now)
yardstick = {name: float((order * order.roll(-1, 0)).sum(1).mean()) for name, order in order_of.items()}

figure, axis = figures.new(width=9.4, height=4.9)
for name, colour, marker in zip(methods, (0, 1, 2, 3), "osD^", strict=True):
    colour = figures.PALETTE[colour]
    axis.fill_between(depths, rho[name].min(0), rho[name].max(0), color=colour, alpha=0.15, linewidth=0)
    axis.plot(depths, rho[name].mean(0), color=colour, marker=marker, label=name)
    axis.plot(
        [7.05 + 0.1 * methods.index(name)],
        [yardstick[name]],
        color=colour,
        marker=marker,
        markersize=9,
        linestyle="none",
    )
axis.axvline(6.6, color="#8A8A8A", linewidth=1, linestyle=":")
axis.set_xticks([*depths, 7.2], ["trained", "fc", *(f"… {s}" for s in lesson.STAGES[1:]), "another\npicture"])
axis.set(ylim=(-0.35, 1.05), xlabel="randomised, from the top down to", ylabel="rank correlation with the original")
axis.fill_between([], [], color="#8A8A8A", alpha=0.3, linewidth=0, label="range of three seeds")
axis.set_title("Who notices that the network is forgetting?")
axis.legend(loc="upper right", bbox_to_anchor=(0.855, 1.0))
figures.show(
    figure,
    "Four curves of rank correlation against the randomised depth. Guided backprop stays near 1 until layer3; the "
    "gradient falls to about 0.7 with the classifier alone; Guided Grad-CAM lies below it; Grad-CAM drops to zero at once.",
)
for name in methods:
    values = " ".join(f"{value:5.2f}" for value in rho[name].mean(0))
    print(f"{name:16s} {values} | another picture {yardstick[name]:.2f}")
upper = {name: rho[name][:, 1:5].mean(0) for name in methods}  # fc down to layer2
order = ["guided backprop", "gradient", "Guided Grad-CAM", "Grad-CAM"]
assert all((upper[a] > upper[b]).all() for a, b in itertools.pairwise(order))

# %%
steps = ["trained", "fc random", *(f"… {stage}" for stage in lesson.STAGES[1:])]
figure, axes = figures.new(len(methods), 1 + len(depths), width=11.8, height=6.3)
for row, name in enumerate(methods):
    figures.picture(axes[row, 0], ten[4].image, None if row else "the scene")
    axes[row, 0].text(-0.06, 0.5, name, transform=axes[row, 0].transAxes, rotation=90, ha="right", va="center")
    for depth in depths:
        lesson.draw_explanation(axes[row, 1 + depth], by_depth[depth][name][4], None if row else steps[depth])
figures.show(
    figure,
    "Four rows of explanations of one dog, from the trained network on the left to the fully randomised one on the "
    "right. Guided backprop draws the dog's head in every panel; Grad-CAM, red on the dog at first, changes at once.",
)

# %% [markdown]
# (Each panel has its own scale; grey and white are 0.) Guided backprop has hardly noticed. With classifier and
# `layer4` random its pictures still correlate at 0.95 with the original, at 0.90 with `layer3` random too. Even the
# network in which *nothing* was ever trained draws a dog, though its ranks agree by then (0.46) little better than
# those of another picture (0.42). The gradient reacts to the classifier alone (0.73) and ends where another picture's
# gradient would be. Grad-CAM loses all likeness at the first step: on average nothing is left, and single seeds
# scatter on both sides of zero. Guided Grad-CAM inherits that from its Grad-CAM half and drops below the gradient.
#
# Published, on Inception v3 and ImageNet: gradient and Grad-CAM react, guided backprop and Guided Grad-CAM hardly
# do, as long as only upper layers are random (Adebayo et al. 2018). Our small network agrees on three of the four;
# Guided Grad-CAM reacts here. One caution on reading such curves: of the pixel-fine explanations none falls to 0 on
# average, although the network is worthless in the end. Objects stand near the middle and edges stay edges, which
# is what the yardstick on the right is for.
#
# ## Sharp, and about what?
#
# Ask the same network about two classes in one picture: forty scenes with a cat and a dog. Two measurements.
# How alike are the explanations for "cat" and for "dog"? And of all that an explanation shows (the sum of max |g|, or
# of Grad-CAM's positive part), which share lies on the named animal, and which on the other one?

# %%
forty = [scenes.scene(i, kind="pair", label=(cat, dog), split="test", size=128) for i in range(40)]
forty_batch = network.preprocess([s.image for s in forty])
on = {c: torch.from_numpy(np.stack([s.masks[i] for s in forty])) for i, c in enumerate((cat, dog))}
answers = {c: lesson.explanations(network, forty_batch, [c] * 40) for c in (cat, dog)}

alike, named, other = {}, {}, {}
for name in lesson.METHODS:
    a, b = answers[cat][name], answers[dog][name]
    alike[name] = float((lesson.ranks(a) * lesson.ranks(b)).sum(1).mean())
    a, b = ((lesson.strength(m) if m.ndim == 4 else images.upsample(m.relu(), 128)) for m in (a, b))

    def share(mass, mask):
        return float(((mass * mask).sum((1, 2)) / mass.sum((1, 2))).mean())

    named[name] = (share(a, on[cat]) + share(b, on[dog])) / 2
    other[name] = (share(a, on[dog]) + share(b, on[cat])) / 2

area = float((on[cat].float().mean() + on[dog].float().mean()) / 2)
figure, axes = figures.new(1, 2, width=10.8, height=4.0, width_ratios=[1, 1.25], sharey=True)
y = np.arange(len(alike))
axes[0].barh(y, list(alike.values()), color=figures.PALETTE[0])
axes[0].bar_label(axes[0].containers[0], fmt="%.2f", padding=3)
axes[0].set(title="“cat” against “dog”", xlabel="rank correlation of the two explanations", xlim=(-1.25, 1.3))
axes[0].set_yticks(y, list(alike))
axes[0].invert_yaxis()
axes[0].axvline(0, color="black", linewidth=1)
axes[1].barh(y - 0.2, list(named.values()), 0.38, color=figures.PALETTE[0], label="on the named animal")
axes[1].barh(y + 0.2, list(other.values()), 0.38, color=figures.PALETTE[4], label="on the other animal")
for bars in axes[1].containers:
    axes[1].bar_label(bars, fmt="%.2f", padding=3)
axes[1].axvline(area, color="black", linestyle=":", linewidth=1.5, label="an animal's share of the area")
axes[1].set(title="Where it lies", xlabel="share of the explanation", xlim=(0, 1))
axes[1].legend(loc="upper right", fontsize=9.5)
figures.show(
    figure,
    "Left: the explanations for cat and for dog correlate at 0.97 for deconvnet and guided backprop, at 0.76 for the "
    "gradient, and negatively for Grad-CAM and Guided Grad-CAM. Right: guided backprop puts 0.48 on the named animal and "
    "0.27 on the other one; Guided Grad-CAM 0.80 and nothing.",
)

grey = [cv2.GaussianBlur(cv2.cvtColor(s.image, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), 1) for s in ten]
edges = [torch.from_numpy(np.hypot(cv2.Sobel(p, cv2.CV_32F, 1, 0), cv2.Sobel(p, cv2.CV_32F, 0, 1))) for p in grey]
for name in ("gradient", "guided backprop"):
    found = float((order_of[name] * lesson.ranks(torch.stack(edges))).sum(1).mean())
    print(f"rank correlation of {name:15s} with an edge detector that has never seen a class: {found:.2f}")

# %% [markdown]
# Whichever animal you ask guided backprop about, it ranks the pixels the same way (0.97). Grad-CAM orders its cells
# almost the other way round (−0.90). The shares are kinder to guided backprop: it does lean to the named animal,
# 0.48 against 0.27. But more than a quarter lies on the animal that speaks *against* the class, almost three times
# what that animal's area would explain, and nothing in the picture says which part that is. In Guided Grad-CAM
# nothing is left on the other animal: the class is Grad-CAM's contribution, the fine lines are guided backprop's.
#
# (The gradient lies on the other animal even more than on the named one. That is no error: its strength asks where a
# change would move the score, up *or* down, and hiding the dog would help the cat.)
#
# Published, in a study with people who were shown explanations of photographs with two objects: they named the
# explained class rightly in 44.44 % of cases from guided backprop and in 61.23 % from Guided Grad-CAM (Selvaraju et
# al. 2017).
#
# **Why so sharp, then?** Nie, Zhang and Patel (2018) prove for random convolutional networks that the negative parts
# thrown away on the way back, together with the small reach of a convolution, make guided backprop and the deconvnet
# *partially recover the input*, whatever class was asked about; the true gradient of such a network looks like noise.
# The two measurements fit: a network that has learnt nothing draws the dog too, and guided backprop agrees better
# than the gradient with an edge detector that has never seen a class. The sharpness comes largely from the picture
# that went in.
#
# ## Explorer
#
# One picture of the explorer first, then the controls. Ask for a class that is *not* in the picture; randomise one
# stage after another.

# %%
pictures = [pair.image, *(s.image for s in chosen)]
pictures += [scenes.scene(i, kind="pair", split="test", size=256).image for i in range(4)]
figures.show(
    lesson.draw_rule(network, pictures[0], cat, depth=2),
    "The explorer's picture: a cat and a dog; guided backprop of the trained network; nearly the same relief from a "
    "network whose fc and layer4 are random.",
)

# %%
lesson.rule_explorer(network, pictures)

# %% [markdown]
# ## Exercises
#
# Write into the cell, run it, read what `check` says.

# %% [markdown]
# ### 04.1 The guided rule
# *Difficulty 1 of 5, about 5 minutes.* Given a ReLU's input `z` and the gradient `R` from above, tensors of one
# shape, return what guided backprop hands down, without a loop.
#
# <details><summary>Hint</summary>
#
# A comparison such as `z > 0` is a tensor of True and False, and may be multiplied with.
# </details>

# %% tags=["exercise"]
from xailab.lessons import check


def my_guided(z, R):
    return ...


check("04.1", my_guided)

# %% tags=["solution"]
from xailab.lessons import check


def my_guided(z, R):
    return R * (z > 0) * (R > 0)


check("04.1", my_guided)

# %% [markdown]
# ### 04.2 A hook on a tensor
# *Difficulty 3 of 5, about 12 minutes.* The network is `scores = third @ relu(second @ relu(first @ x))`, with three
# weight matrices and no module at all. Return guided backprop's gradient of `scores[c]` at `x`, by hooks on tensors.
#
# A tensor has `register_hook(f)`: when its gradient $R$ arrives, `f(R)` takes its place, and what lies below it in
# the graph gets that.
#
# <details><summary>Hint 1</summary>
#
# Start from `x = x.clone().requires_grad_()`, keep both hidden tensors in variables, and end with
# `torch.autograd.grad(scores[c], x)[0]`.
# </details>
# <details><summary>Hint 2</summary>
#
# Let `a = (first @ x).relu()`. What arrives at `a` is $R$, and the ReLU's own derivative multiplies it with $[z > 0]$
# afterwards. So `a.register_hook(lambda R: R.clamp(min=0))` is all that is missing.
# </details>


# %% tags=["exercise"]
def my_gradient(x, first, second, third, c):
    return ...


check("04.2", my_gradient)


# %% tags=["solution"]
def my_gradient(x, first, second, third, c):
    x = x.clone().requires_grad_()
    lower = (first @ x).relu()
    upper = (second @ lower).relu()
    for activation in (lower, upper):
        activation.register_hook(lambda R: R.clamp(min=0))
    return torch.autograd.grad((third @ upper)[c], x)[0]


check("04.2", my_gradient)

# %% [markdown]
# ### 04.3 An honest picture
# *Difficulty 2 of 5, about 10 minutes.* Turn a gradient (3, h, w) into a uint8 picture (h, w, 3), RGB: 0 becomes 128,
# the bound is the **99 %** quantile of the absolute values of all channels together, and becomes 128 + 127 = 255 (minus
# the bound 1); values are clipped there and rounded. A NumPy array or a tensor will do.
#
# <details><summary>Hint</summary>
#
# `g.abs().flatten().quantile(0.99)`, `.clamp(-1, 1)`, `.round().to(torch.uint8)`, `.permute(1, 2, 0)`.
# </details>


# %% tags=["exercise"]
def my_picture(gradient):
    return ...


check("04.3", my_picture)


# %% tags=["solution"]
def my_picture(gradient):
    bound = gradient.abs().flatten().quantile(0.99)
    grey = 128 + 127 * (gradient / bound).clamp(-1, 1)
    return grey.round().to(torch.uint8).permute(1, 2, 0)


check("04.3", my_picture)

# %% [markdown]
# ### 04.4 How alike are two explanations?
# *Difficulty 2 of 5, about 8 minutes.* Two signed pictures (3, h, w) explain two classes. Return Spearman's rank
# correlation of their strengths (the largest absolute value over the channels), one number for all pixels. Then try
# it on `answers[cat]["guided backprop"][0]` and `answers[dog]["guided backprop"][0]`.
#
# <details><summary>Hint</summary>
#
# `scipy.stats.spearmanr(x, y).statistic` for two vectors.
# </details>


# %% tags=["exercise"]
def my_similarity(a, b):
    return ...


check("04.4", my_similarity)

# %% tags=["solution"]
from scipy.stats import spearmanr


def my_similarity(a, b):
    a, b = (each.abs().amax(0).flatten() for each in (a, b))
    return spearmanr(a, b).statistic


check("04.4", my_similarity)

# %% [markdown]
# ## On real data
#
# The strip on photographs, with a network that learnt from a million of them (VGG16, or the smaller SqueezeNet; up
# to 20 seconds). Each row explains the network's first guess. Which columns would you believe if you saw nothing else?

# %%
import torch

from xailab import figures, images
from xailab.lessons import guided_backprop as lesson
from xailab.lessons import real
from xailab.models import zoo

last = {"vgg16": "features.29", "squeezenet1_0": "features.12"}
if name := real.weights(*last):
    network = zoo.load(name)
    batch = network.preprocess(real.photographs()[:3])
    with torch.no_grad():
        probabilities, top = network(batch).softmax(1).max(1)
    methods = ["Grad-CAM", "guided backprop", "Guided Grad-CAM"]
    maps, *fine = lesson.explanations(network, batch, top.tolist(), methods, last[name]).values()
    panels, titles = [], []
    for i, picture in enumerate(network.preprocess.undo(batch)):
        cam = maps[i].relu()
        heat = images.heatmap(images.normalise(images.upsample(cam, picture.shape[:2])))
        panels += [picture, heat, images.overlay(picture, cam)]
        panels += [images.signed(each[i], quantile=0.999) for each in fine]
        titles += [f"{network.classes[top[i]]}: {probabilities[i]:.2f}", "Grad-CAM", "Grad-CAM, overlay", *methods[1:]]
    figures.show(
        figures.grid(panels, titles, columns=5, title=f"{name}: its first guess, explained", panel=2.5),
        "A cat, a cup and a motorcycle, each as a strip of five: the photograph, the Grad-CAM heat map, its overlay, "
        "guided backprop and Guided Grad-CAM for the network's first guess.",
    )

# %% [markdown]
# Now the lesson's finding: does guided backprop hardly depend on the class here too? The cat and the cup side by side,
# three rules, each asked about both classes (up to 25 seconds). If the class did not matter at all, a row's two
# pictures would have a rank correlation of 1, and equal shares on the cat's half. Grad-CAM, which is not drawn, is
# there to compare.
#
# A deconvnet may stay grey nearly everywhere. That is no error: what is not positive is dropped at every ReLU, and
# below a layer of few channels nothing may be left. Pixels that are zero in both pictures agree, and mean nothing.

# %%
if name := real.weights(*last):
    two = torch.cat([*batch[:2]], dim=2)[None]  # 224 rows, 448 columns
    ways = [lesson.explanations(network, two, [c], [*lesson.RULES, "Grad-CAM"], last[name]) for c in top[:2].tolist()]
    figures.show(
        figures.grid(
            [images.signed(way[rule][0]) for rule in lesson.RULES for way in ways],
            [f"{rule} “{network.classes[c]}”" for rule in lesson.RULES for c in top[:2]],
            columns=2,
            title=name,
            panel=4.8,
        ),
        "A cat and a cup side by side by three rules, gradient, deconvnet and guided backprop, one in each row: on the "
        "left for the cat's class, on the right for the cup's.",
    )
    print("rank correlation of both; share on the cat's half, for the cat's class and the cup's; pixels not zero")
    for method in ways[0]:
        both = torch.cat([way[method] for way in ways])
        mass = lesson.strength(both) if both.ndim == 4 else images.upsample(both.relu(), two.shape[-2:])
        cat, cup = mass[..., : mass.shape[-1] // 2].sum((1, 2)) / mass.sum((1, 2))
        alike, drawn = lesson.rank_correlation(*both), (mass > 0).float().mean()
        print(f"{method:16s} correlation {alike:5.2f}   cat's half {cat:.2f} and {cup:.2f}   not zero {drawn:4.0%}")

# %% [markdown]
# ## Summary
#
# - Guided backprop is the gradient with $R\,[z > 0]\,[R > 0]$ at every ReLU. It is not the derivative of the score.
# - The rule belongs to the *call* of a ReLU. Code that swaps or hooks modules is silently wrong on functional, doubly
#   named and mixed ReLUs, and swapping leaves a network that is no longer yours. Hooks on the nodes of the backward
#   graph need no swap.
# - Draw a signed picture with zero at mid-grey and one scale for both signs; write RGB with a library that expects
#   RGB.
# - Two tests for any explanation: randomise the weights from the top, and ask about another class. Guided backprop
#   hardly reacts while only upper stages are random, and little to the class. Use it for fine lines inside a Grad-CAM
#   map, not as evidence for a class.
#
# ## References
#
# - J. T. Springenberg, A. Dosovitskiy, T. Brox, M. Riedmiller, *Striving for Simplicity: The All Convolutional Net*,
#   ICLR 2015 workshop, arXiv 1412.6806 (guided backprop: section 3.4).
# - M. D. Zeiler, R. Fergus, *Visualizing and Understanding Convolutional Networks*, ECCV 2014, arXiv 1311.2901 (the
#   deconvnet).
# - R. R. Selvaraju et al., *Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization*, ICCV
#   2017, arXiv 1610.02391 (Guided Grad-CAM, the strip in figure 1, the study with people).
# - J. Adebayo, J. Gilmer, M. Muelly, I. Goodfellow, M. Hardt, B. Kim, *Sanity Checks for Saliency Maps*, NeurIPS
#   2018, arXiv 1810.03292.
# - W. Nie, Y. Zhang, A. Patel, *A Theoretical Explanation for Perplexing Behaviors of Backpropagation-based
#   Visualizations*, ICML 2018, arXiv 1805.07039.
#
# Next: **[05 · Saliency and class models](05_saliency.ipynb)**.
