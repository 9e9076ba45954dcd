# %% [markdown]
# # 04 · Guided backprop, deeper
#
# **About {reading} minutes to read, {exercises} for the exercises · 1 GiB of memory · no GPU, no network needed**
#
# What goes beyond the [core of lesson 04](../04_guided_backprop.ipynb): the second sanity check, independent
# randomisation and signs; why code that swaps modules goes wrong; and traps on the way to a file.

# %% [markdown]
# ## One layer at a time, and with signs
#
# Cascading randomisation hides which layer matters. Here each stage alone is random. And the likeness is measured
# twice: by strengths, and by all values with their signs.

# %%
import copy
import warnings

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from torch import nn

from xailab import figures, images
from xailab.datasets import scenes
from xailab.guided_backprop import guided_backprop, input_gradient
from xailab.lessons import guided_backprop as lesson
from xailab.models import zoo

network = zoo.load("scenes_resnet")
ten = [scenes.scene(i, split="test", size=128) for i in range(10)]
labels = [s.labels[0] for s in ten]
ten_batch = network.preprocess([s.image for s in ten])
fresh = lesson.randomised(network, len(lesson.STAGES))
trained = guided_backprop(network, ten_batch, labels)
for stage in lesson.STAGES:
    other = copy.deepcopy(network)
    other.get_submodule(stage).load_state_dict(fresh.get_submodule(stage).state_dict())
    now = guided_backprop(other, ten_batch, labels)
    alike = np.mean([lesson.rank_correlation(a, b) for a, b in zip(trained, now, strict=True)])
    print(f"only {stage:7s} random: guided backprop's rank correlation {alike:.2f}")

# %%
fc_random = lesson.randomised(network, 1)
for name, rule in lesson.RULES.items():
    pairs = list(zip(*(input_gradient(n, ten_batch, labels, rule=rule) for n in (network, fc_random)), strict=True))
    sizes = np.mean([lesson.rank_correlation(a, b) for a, b in pairs])
    signs = np.mean([spearmanr(a.flatten(), b.flatten()).statistic for a, b in pairs])
    print(f"fc random, {name:16s} by strength {sizes:.2f}, with signs {signs:.2f}")

# %% [markdown]
# The upper stages alone change little, the lower ones more. With signs, nothing is left of the gradient as soon as
# `fc` is random; by strength it looks half intact. The verdict on a method thus depends on taking absolute values.
#
# ## Random labels
#
# The second test of Adebayo et al. trains the same network on labels that are shuffled. Such a network can only learn
# its pictures by heart. Two small networks, with one start and 128 scenes, take some seconds each. (Trainings differ
# from processor to processor, so your numbers will differ a little.)

# %% tags=["exempt"]
from xailab.models.small import SmallResNet

many = [scenes.scene(i, split="train", size=64) for i in range(128)]
x = (torch.from_numpy(np.stack([s.image for s in many])).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.25
true = torch.tensor([s.labels[0] for s in many])
shuffled = true[torch.randperm(128, generator=torch.Generator().manual_seed(1))]


def fitted(labels, seed=0):
    torch.manual_seed(seed)
    small = SmallResNet(10, width=8).train()
    optimiser = torch.optim.Adam(small.parameters(), lr=0.003)
    for _ in range(40):
        for chosen in torch.randperm(128).split(32):
            loss = nn.functional.cross_entropy(small(x[chosen]), labels[chosen])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return small.eval()


# %% tags=["exempt"]
cases = {"true labels": (true, 0), "shuffled labels": (shuffled, 0), "true labels, another start": (true, 5)}
found = {}
for name, (labels_of, seed) in cases.items():
    small = fitted(labels_of, seed)
    with torch.no_grad():
        right = (small(x).argmax(1) == labels_of).float().mean()
    found[name] = lesson.ranks(guided_backprop(small, x, labels_of.tolist()))
    likeness = (found["true labels"] * found[name]).sum(1).mean()
    print(f"{name:27s} fitted {right:.2f}   guided backprop like the first network's {likeness:.2f}")
first = found["true labels"]
print(f"another picture {(first * first.roll(1, 0)).sum(1).mean():.2f}")

# %% [markdown]
# The network with shuffled labels knows nothing of the classes. Its guided backprop is at least as much like the first
# network's as that of a network which was trained rightly from another start. So guided backprop does not notice.

# %% [markdown]
# ## Why swapping modules goes wrong
#
# A common way makes guided backprop by replacing each `nn.ReLU` inside the network by a function with the guided
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


# %%
class Swapped:
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


# %%
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
batch, dog = ten_batch[:1], scenes.CLASSES.index("dog")
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

# %%
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
# gone after the backward pass, and the network has never been touched. Here is the heart of the library in sixteen
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


def guided_in_sixteen_lines(network, images, target):
    images = images.clone().requires_grad_()
    with Watch() as watch:
        score = network(images)[:, target].sum()
    for node in watch.nodes:  # down: what the true derivative hands down, R · [z > 0]
        node.register_hook(lambda down, up: (down[0].clamp(min=0),))
    return torch.autograd.grad(score, images)[0]


for activation in (nn.ReLU(), F.relu, torch.Tensor.relu):
    assert torch.allclose(guided_in_sixteen_lines(Tiny(activation, F.relu), image, 1), guided)
print("module, function and method: all guided, nothing replaced")

# %%
# The library also knows ReLU6 and clamp(min=0), and names the activations that are none.
for name in ("efficientnet_b0-random", "mobilenet_v3_small-random"):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            guided_backprop(zoo.load(name), torch.randn(1, 3, 64, 64), 0)
            print(f"\n{name}, warning: {caught[0].message}")
        except ValueError as error:
            print(f"\n{name}, error: {error}")

# %% [markdown]
# Clamping the true derivative at zero gives the guided rule, since $\max(R\,[z>0],\,0) = R\,[z>0]\,[R>0]$. A network
# that has no ReLU gets an error, not a picture; one that mixes ReLUs with others gets a picture and a warning, since
# what it shows is guided in part only. (A ReLU written in some other way, as `torch.where(z > 0, z, 0)` say, is seen
# by nobody: know your network.)

# %%
from xailab.grad_cam import grad_cam, guided_grad_cam

cat, dog = (scenes.CLASSES.index(name) for name in ("cat", "dog"))
pair = scenes.scene(1, kind="pair", label=(cat, dog), split="test", size=256)
one_batch = network.preprocess(pair.image)
cams = grad_cam(network, one_batch, "layer4", [[cat, dog]])[0]
fine = guided_grad_cam(network, one_batch, "layer4", dog)[0]
heat = images.heatmap(images.normalise(images.upsample(cams[1], 256)))
strips = [pair.image, heat, images.signed(guided_backprop(network, one_batch, dog)[0]), images.signed(fine)]

# %% [markdown]
# ## Traps on the way to a file, 1: blue faces
#
# OpenCV takes every array for BGR: blue first. A common way computes in RGB, writes with `cv2.imwrite`, and
# reads the file again with `imread` and a swap to RGB for the final figure. Does that second swap repair it?

# %%
import io

import cv2
import numpy as np
from PIL import Image


def opened(file):  # what an image viewer, a browser or a PDF shows
    return np.asarray(Image.open(io.BytesIO(file.tobytes())))


row = np.concatenate([cv2.resize(p, (256, 256)) for p in strips], axis=1)  # the lower strip, RGB
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

# %%
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
# Two more habits. The heat map in "jet" colours is *added* to the picture and the sum divided by its maximum. And one
# way to this very strip, Grad-CAM gets the normalised picture, but guided backprop the raw pixels. What
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
# Back to the [core of lesson 04](../04_guided_backprop.ipynb).
