# %% [markdown]
# # 04 · Guided backprop, deeper
#
# **About {reading} minutes to read · 1 GiB of memory · no GPU, no network needed**
#
# What goes beyond the [core of lesson 04](../04_guided_backprop.ipynb).
#
# **Contents:** [Why positive values redraw the input](#Why-positive-values-redraw-the-input) ·
# [One layer at a time, and with signs](#One-layer-at-a-time,-and-with-signs) · [Random labels](#Random-labels) ·
# [Why swapping modules goes wrong](#Why-swapping-modules-goes-wrong) · [No way back](#No-way-back) ·
# [How to change nothing](#How-to-change-nothing) · [Traps on the way to a file](#Trap-1:-blue-faces) ·
# [On real data](#On-real-data)

# %% [markdown]
# ## Why positive values redraw the input
#
# [Nie et al. 2018](https://arxiv.org/abs/1805.07039) make their claims for networks with random weights. Here are two
# kinds of such networks, which differ in one thing only: the first halves its maps by max-pooling, the second by
# convolutions with stride 2. We correlate each explanation with the photograph itself, and, as a yardstick, with
# another photograph.

# %%
import copy
import warnings

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from torch import nn

from xailab import figures, images
from xailab.datasets import scenes
from xailab.datasets.photographs import photograph
from xailab.guided_backprop import guided_backprop, input_gradient
from xailab.lessons import guided_backprop as lesson
from xailab.models import zoo


# %%
def random_network(pooling, seed):
    torch.manual_seed(seed)
    layers, channels = [], 3
    for _ in range(4):
        layers += [nn.Conv2d(channels, 32, 3, stride=1 if pooling else 2, padding=1), nn.ReLU()]
        nn.init.kaiming_normal_(layers[-2].weight)
        if pooling:
            layers.append(nn.MaxPool2d(2))
        channels = 32
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * 6 * 6, 10)).eval()


small = [
    cv2.resize(photograph(name).image, (96, 96), interpolation=cv2.INTER_AREA) for name in ("cat", "cup", "rocket")
]
x = torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2) / 255
x = (x - x.mean()) / x.std()


def like_pictures(found, pictures):
    found, pictures = found.mean(1).flatten(1), pictures.mean(1).flatten(1)
    return np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(found, pictures, strict=True)])


# %%
recovered, panels, titles = {}, [], []
for way in ("max-pooling", "stride 2"):
    networks = [random_network(way == "max-pooling", seed) for seed in range(10)]
    panels.append(small[0])
    titles.append(way)
    for name, rule in lesson.RULES.items():
        found = [input_gradient(network, x, 0, rule=rule) for network in networks]
        own = round(np.mean([like_pictures(each, x) for each in found]), 2) + 0.0  # -0.00 becomes 0.00
        other = round(np.mean([like_pictures(each, x.roll(1, 0)) for each in found]), 2) + 0.0
        print(f"{way:12s} {name:16s} correlation with the picture {own:5.2f}, with another {other:5.2f}")
        recovered[way, name] = own, other
        panels.append(images.signed(found[0][0]))
        titles.append(name)
figures.show(
    figures.grid(panels, titles, columns=4, panel=2.6),
    "A cat and its three explanations, by a random network with max-pooling and by one with stride 2. Guided backprop "
    "shows the cat in both rows, the deconvnet with max-pooling only; the gradient is noise in both.",
)

# %% [markdown]
# Guided backprop recovers the picture from networks that know nothing. The gradient does not, and the deconvnet does so
# only in part, and only with max-pooling. This agrees with the paper.

# %% [markdown]
# ## One layer at a time, and with signs
#
# Cascading randomisation hides which layer matters. Here each stage alone is random. And the likeness is measured
# twice: by strengths, and by all values with their signs.

# %%
STAGES = ("fc", "layer4", "layer3", "layer2", "layer1", "conv1")
network = zoo.load("scenes_resnet")
ten = [scenes.scene(i, split="test", size=128) for i in range(10)]
labels = [s.labels[0] for s in ten]
ten_batch = network.preprocess([s.image for s in ten])


def one_stage_random(network, stage, seed=0):
    network = copy.deepcopy(network)
    torch.manual_seed(seed)
    for module in network.get_submodule(stage).modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, (nn.Linear, nn.BatchNorm2d)):
            module.reset_parameters()
    return network


# %%
trained = lesson.ranks(guided_backprop(network, ten_batch, labels))
independent = {}
for stage in STAGES:
    others = [one_stage_random(network, stage, seed) for seed in range(5)]
    now = [lesson.ranks(guided_backprop(other, ten_batch, labels)) for other in others]
    alike = [float((trained * each).sum(1).mean()) for each in now]
    independent[stage] = np.mean(alike)
    print(f"only {stage:7s} random: {np.mean(alike):.2f}, five seeds from {min(alike):.2f} to {max(alike):.2f}")

# %%
fc_random = one_stage_random(network, "fc")
with_signs = {}
for name, rule in lesson.RULES.items():
    a, b = (input_gradient(each, ten_batch, labels, rule=rule) for each in (network, fc_random))
    sizes = float((lesson.ranks(a) * lesson.ranks(b)).sum(1).mean())
    signs = np.mean([spearmanr(u.flatten(), v.flatten()).statistic for u, v in zip(a, b, strict=True)])
    with_signs[name] = sizes, signs
    print(f"fc random, {name:16s} by strength {sizes:.2f}, with signs {signs:.2f}")

# %% [markdown]
# Guided backprop hardly changes when only an upper stage is random. The lower the stage, the more guided backprop
# changes, and for `layer1` and `conv1` the amount depends on the seed. With signs, nothing is left of the gradient as
# soon as `fc` is random; by strength, most of the gradient's order is kept. The verdict on a method thus depends on
# taking absolute values.
#
# ## Random labels
#
# The second test of [Adebayo et al. 2018](https://arxiv.org/abs/1810.03292) trains the same network on labels that are
# shuffled. Such a network can only learn its pictures by heart. We train three networks on 128 scenes: with true
# labels, with shuffled labels from the same random start, and with true labels from another random start. (Trainings
# differ from processor to processor, so that your numbers will differ a little.)

# %% tags=["exempt"]
from xailab.models.small import SmallResNet

many = [scenes.scene(i, split="train", size=64) for i in range(128)]
x = (torch.from_numpy(np.stack([s.image for s in many])).permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
true = torch.tensor([s.labels[0] for s in many])
shuffled = true[torch.randperm(128, generator=torch.Generator().manual_seed(1))]


def fitted(labels, seed=0):
    torch.manual_seed(seed)
    student = SmallResNet(10, width=8).train()
    optimiser = torch.optim.Adam(student.parameters(), lr=0.003)
    for _ in range(40):
        for chosen in torch.randperm(128).split(32):
            loss = nn.functional.cross_entropy(student(x[chosen]), labels[chosen])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return student.eval()


# %% tags=["exempt"]
cases = {"true labels": (true, 0), "shuffled labels": (shuffled, 0), "true labels, another start": (true, 5)}
found, like_first = {}, {}
for name, (its_labels, seed) in cases.items():
    student = fitted(its_labels, seed)
    with torch.no_grad():
        right = (student(x).argmax(1) == its_labels).float().mean()
    for method, rule in (("gradient", "gradient"), ("guided", "guided")):
        now = lesson.ranks(input_gradient(student, x, its_labels.tolist(), rule=rule))
        first = found.setdefault(method, now)
        like_first[method, name] = float((first * now).sum(1).mean())
    likeness = "   ".join(f"{method} {like_first[method, name]:.2f}" for method in found)
    print(f"{name:27s} fitted {right:.2f}   like the first network's: {likeness}")
for method, first in found.items():
    like_first[method, "another picture"] = float((first * first.roll(1, 0)).sum(1).mean())
    print(f"another picture, {method}: {like_first[method, 'another picture']:.2f}")

# %% [markdown]
# The network with shuffled labels knows nothing of the classes. Its gradient is hardly more like the first network's
# than the gradient of another picture is. Its guided backprop is clearly more like the first network's, and even more
# so than that of a network with true labels and another random start. So the gradient reacts to random labels, and
# guided backprop reacts little. Note that the gradient reacts about as much to another random start. (Each network was
# trained once.)
#
# ## Why swapping modules goes wrong
#
# A common way makes guided backprop by replacing each `nn.ReLU` inside the network by a function with the guided
# rule as its derivative. It is short, and it works on the networks it was written for. Read it, then predict what it
# does to a network that calls `F.relu`.


# %%
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
# There is no error and no warning: for `F.relu` the code returns the plain gradient, and nobody notices. Two relatives
# of the swap are also in use. One goes through `named_modules()`, and the other sets backward hooks on modules. How do
# they work on networks that anybody might write?


# %%
def swap_by_name(network):
    for name, child in list(network.named_modules()):  # lists a shared module once, under its first name
        if type(child) is nn.ReLU:
            network._modules[name] = GuidedReLU.apply


def hook_modules(network):
    for module in network.modules():
        if type(module) is nn.ReLU:
            # The older register_backward_hook is deprecated.
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
# Orange cells are wrong answers that *say nothing*, and every column but the last has at least six of them. If one ReLU
# module is registered under two names, replacing it by name changes only one of its two uses. If a network mixes
# `nn.ReLU` and `F.relu`, only some of its ReLUs are guided, and the result is neither the gradient nor guided backprop.
# (The first seven networks compute the same scores from the same weights, since no value here reaches the 6 of ReLU6.)
#
# A leaky ReLU is never closed, so the rule has no meaning for it. xailab refuses a network that has nothing else. Where
# a network has ReLUs as well, xailab guides those, leaves the derivative of the others as it is, and names them in a
# warning.
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
attempts = {"used.eval()": used.eval, "used.state_dict()": used.state_dict, "Swapped(used)": lambda: Swapped(used)}
for words, call in attempts.items():
    try:
        call()
    except AttributeError as error:
        print(f"{words:18s} AttributeError: {error}")


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
    change = (plain_gradient(one, image, 1) - plain).norm() / plain.norm()
    print(f"swapped for one call, which failed: its plain gradient changed by {change:.1f} times its length")

# %%
ours_after = Tiny(nn.ReLU(), nn.ReLU())
try:
    guided_backprop(ours_after, image, 99)
except ValueError as error:
    print("xailab, asked the same:", error)
assert torch.equal(plain_gradient(ours_after, image, 1), plain)

# %% [markdown]
# Every gradient that is taken from this object afterwards is silently a guided one. The network can no longer be put in
# eval mode, saved, or swapped a second time. Putting the modules back at the end of the call does not help when the
# call fails before. This needs `try ... finally`, or a method that changes nothing.

# %% [markdown]
# ## How to change nothing
#
# A ReLU's derivative does not belong to a module. It belongs to a *call*: each call leaves a node in the backward
# graph, and a node takes hooks. So we watch the calls, and hook their nodes. The graph and the hooks are gone after the
# backward pass, and the network itself was never changed. This is the core of the library in sixteen lines.

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
# that has no ReLU gets an error instead of a picture. A network that mixes ReLUs with other activations gets a picture
# and a warning, since only a part of the picture's way back was guided. (A ReLU that is written in some other way, such
# as `torch.where(z > 0, z, 0)`, is not recognised. Know your network.)

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
# ## Trap 1: blue faces
#
# Three traps lie on the way from an explanation to a file. The first is the order of the colours. OpenCV takes every
# array for BGR, with blue first. A common way computes in RGB, writes with `cv2.imwrite`, and reads the file again with
# `imread` and a swap to RGB for the final figure. Does this second swap repair the colours?

# %%
import io

from PIL import Image


def opened(file):  # what an image viewer, a browser or a PDF shows
    return np.asarray(Image.open(io.BytesIO(file.tobytes())))


row = np.concatenate([cv2.resize(p, (256, 256)) for p in strips], axis=1)  # RGB
wrong = cv2.imencode(".png", row)[1]  # what cv2.imwrite puts into a file
right = cv2.imencode(".png", cv2.cvtColor(row, cv2.COLOR_RGB2BGR))[1]

swapped_back = cv2.cvtColor(cv2.imdecode(wrong, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
not_swapped = cv2.imdecode(wrong, cv2.IMREAD_COLOR)


def error(shown):
    return np.abs(shown.astype(float) - row).mean()


print("mean error of a colour, of 255")
print(f"right file, opened elsewhere         {error(opened(right)):4.1f}")
print(f"wrong file, opened elsewhere         {error(opened(wrong)):4.1f}")
print(f"wrong file, imread and a swap to RGB {error(swapped_back):4.1f}")
print(f"wrong file, imread without a swap    {error(not_swapped):4.1f}")

titles = ["RGB handed to imwrite", "swapped to BGR first"]
figures.show(
    figures.grid([opened(wrong), opened(right)], titles, columns=1, panel=10.0),
    "A strip of four pictures, twice: a scene with a dog and a cat, Grad-CAM for the dog, guided backprop and Guided "
    "Grad-CAM. Above, red and blue are exchanged: the cat is blue. Below, the colours are right.",
)

# %% [markdown]
# No. A correct reading shows what the file holds, and the file holds the wrong colours. Only a *second* mistake,
# reading without a swap, cancels the first one on the screen, and leaves the file wrong for everybody else. A signed
# picture does not even look odd with red and blue exchanged, but it is wrong all the same. Swap once, at the call of
# `imwrite`, or write with Pillow, which takes RGB. (A relative of this trap is the black picture: values from 0 to 1
# that are written without the factor 255.)

# %% [markdown]
# ## Trap 2: where is zero?
#
# Two scalings are common: min–max to 0 … 255, and "subtract the mean, divide by the standard deviation, times 0.1,
# plus 0.5". Which grey value does a gradient of exactly zero get?

# %%
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
# With min–max the two most extreme pixels decide where zero lies. Zero then has another grey in each picture, and here
# the empty sky becomes light grey. Mean and standard deviation do no harm to values whose mean is nearly zero, as it is
# for guided backprop here. But they move the zero of one-sided values, such as the strength. The symmetric scale keeps
# zero at 128 by construction. It also stretches each picture by itself, so write the bound beside each picture when
# strengths are compared.
#
# ## Trap 3: a tint, and the wrong input
#
# Two more habits are common. In the first, the heat map in "jet" colours is *added* to the picture, and the sum is
# divided by its maximum. In the second, Grad-CAM gets the normalised picture, but guided backprop gets the raw pixels.
# What do the two habits change?

# %%
heat = images.normalise(images.upsample(cams[1], 256)).numpy()
jet = cv2.applyColorMap(np.uint8(255 * heat), cv2.COLORMAP_JET)[..., ::-1] / 255
added = jet + pair.image / 255
added = np.uint8(255 * added / added.max())  # the common overlay: add, divide by the maximum
ours_overlay = images.overlay(pair.image, cams[1])
nothing = heat == 0
for name, p in (("the scene", pair.image), ("jet added, divided", added), ("images.overlay", ours_overlay)):
    print(f"{name:19s} mean RGB where the map is 0: {[round(float(v)) for v in p[nothing].mean(0)]}")

raw = torch.from_numpy(np.stack([s.image for s in ten])).permute(0, 3, 1, 2) / 255  # forgot to normalise
with torch.no_grad():
    shares = [float((network(each).argmax(1) == torch.tensor(labels)).float().mean()) for each in (ten_batch, raw)]
wrong_input = guided_backprop(network, raw, labels)
agreement = np.mean([lesson.rank_correlation(a, b) for a, b in zip(wrong_input, ten_guided, strict=True)])
print(f"\nshare of ten scenes named correctly: normalised {shares[0]:.1f}, as raw pixels in [0, 1] {shares[1]:.1f}")
print(f"rank correlation of guided backprop on raw and on normalised pixels: {agreement:.2f}")

# %% [markdown]
# The added heat map makes places without evidence blue, which is jet's colour for 0, and the division darkens them.
# Where a map says nothing, an overlay should leave the picture as it is. (Another common blend is 0.7 · heat + 0.5 ·
# picture. Its weights sum to 1.2, so that bright places are cut off at white.) The second habit is worse, because
# nobody can see it. On raw pixels this network names only two scenes of ten, and the explanation orders the pixels
# differently. If an explanation looks convincing although the network does not recognise its picture, be suspicious of
# the explanation.

# %% [markdown]
# ## On real data
#
# The same on a classic network with max-pooling, VGG16 or the smaller SqueezeNet, on the cat and the cup side by side
# (up to 25 seconds). If the class did not matter, a row's two pictures would have a rank correlation of 1.

# %%
from xailab import figures
from xailab.lessons import guided_backprop as lesson
from xailab.lessons import real
from xailab.models import zoo

last = {"vgg16": "features.29", "squeezenet1_0": "features.12"}
if name := real.weights(*last):
    figures.show(
        lesson.side_by_side(zoo.load(name), name, last[name]),
        "A cat and a cup side by side by three rules, gradient, deconvnet and guided backprop, one in each row: on the "
        "left for the cat's class, on the right for the cup's.",
    )

# %% [markdown]
# ## Summary
#
# Back to the [core of lesson 04](../04_guided_backprop.ipynb).
