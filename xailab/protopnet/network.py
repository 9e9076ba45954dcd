"""The network: features, add-on layers, prototypes, and a linear layer on how much each prototype finds itself.

Chen et al., "This Looks Like That: Deep Learning for Interpretable Image Recognition", NeurIPS 2019, arXiv 1806.10574.
With z a latent cell and p a prototype, of C numbers each, and d = |z - p|^2:

    similarity  g(d) = log((d + 1) / (d + 1e-4))         (Section 2.1; at most log(1e4) = 9.2103)
    score       g_j  = max over the cells of g(d)
    logits      W g, without a bias

The cosine kind has g = cos(z, p) instead, with d = 2 - 2 cos, the squared distance of both at length one.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor, nn

from xailab.hooks import check_not_quantised, eval_mode, unwrapped
from xailab.protopnet.provenance import Provenance

Similarity = Literal["log", "cosine"]
AddOn = Literal["regular", "bottleneck"]
Labels = Integer[Tensor, "n"] | Integer[np.ndarray, "n"] | Sequence[int]

EPSILON = 1e-4
SIZES = ((64, 128), (224, 288))  # sides of images that only ask for shapes; the larger for what takes no smaller
OWN, OTHER = 1.0, -0.5  # first weights of the last layer
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


class Output(NamedTuple):
    """What the network makes of images.

    Attributes:
        logits: Score of each class.
        similarities: Of each prototype to its nearest cell.
        cells: Where that is, (row, column).
        distances: Squared, of each prototype to each cell.
        maps: Similarity of each prototype to each cell.
    """

    logits: Float[Tensor, "n classes"]
    similarities: Float[Tensor, "n p"]
    cells: Int[Tensor, "n p 2"]
    distances: Float[Tensor, "n p h w"]
    maps: Float[Tensor, "n p h w"]


class SmallFeatures(nn.Sequential):
    """Convolutions of 3 x 3, batch norm and ReLU behind each, every second one with a stride of 2.

    Five of them see 27 x 27 pixels, six 43 x 43, and have one cell for 8 x 8 pixels.

    Args:
        channels: Of the images.
        widths: Channels behind each convolution.
    """

    def __init__(self, channels: int = 1, widths: Sequence[int] = (16, 16, 32, 32, 64)) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        inputs = channels
        for i, width in enumerate(widths):
            stride = 2 if i in (0, 2, 4) else 1
            layers[f"conv{i + 1}"] = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
            layers[f"bn{i + 1}"] = nn.BatchNorm2d(width)
            layers[f"relu{i + 1}"] = nn.ReLU()
            inputs = width
        super().__init__(layers)
        self.channels, self.widths = channels, tuple(widths)


class ProtoPNet(nn.Module):
    """A classifier that says which training patches an image looks like, and where.

    It takes pixel values from 0 to 1 and normalises them itself, so that nothing can be normalised twice.

    Args:
        features: From images to cells (n, k, h, w), without pooling and classifier; ``features_of`` takes them from
            torchvision's ResNets and VGGs.
        prototypes_per_class: How many prototypes each class has.
        classes: Their names, or how many there are.
        dimensions: C, numbers in a latent cell (the paper: 128).
        add_on: "regular" (two 1 x 1 convolutions), or "bottleneck" (as many pairs as it takes to halve the channels
            down to ``dimensions``).
        similarity: "log" or "cosine".
        mean, std: Of each channel's pixel values; one value means grey images.
        seed: Of the first weights of add-on layers and prototypes.

    Attributes:
        prototypes: (p, C).
        prototype_classes: The class that each prototype belongs to.
        provenance: The training patches that the prototypes are, once they are projected; else None.

    Raises:
        ValueError: if an argument is out of its range, or the features are of no use.
    """

    def __init__(
        self,
        features: nn.Module,
        prototypes_per_class: int = 10,
        classes: Sequence[str] | int = 2,
        *,
        dimensions: int = 128,
        add_on: AddOn = "regular",
        similarity: Similarity = "log",
        mean: Sequence[float] = (0.5,),
        std: Sequence[float] = (0.25,),
        seed: int = 0,
    ) -> None:
        super().__init__()
        names = tuple(map(str, range(classes))) if isinstance(classes, int) else tuple(classes)
        _check(names, prototypes_per_class, dimensions, add_on, similarity, mean, std)
        self.classes, self.add_on_kind, self.similarity = names, add_on, similarity
        self.features = features = unwrapped(features)
        channels = _outputs(features, len(mean))
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.add_on = _add_on(channels, dimensions, add_on)
            count = len(names) * prototypes_per_class
            self.prototypes = nn.Parameter(torch.rand(count, dimensions))
            self.last_layer = nn.Linear(count, len(names), bias=False)
        owners = torch.arange(count) // prototypes_per_class
        self.register_buffer("prototype_classes", owners)
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(-1, 1, 1))
        with torch.no_grad():
            self.last_layer.weight.copy_(torch.where(self.own, OWN, OTHER))
        self.provenance: Provenance | None = None

    @property
    def channels(self) -> int:
        """Of the images: 1 or 3."""
        return len(self.mean)

    @property
    def own(self) -> Bool[Tensor, "classes p"]:
        """Which connections of the last layer join a prototype with its own class."""
        return self.prototype_classes == torch.arange(len(self.classes), device=self.prototypes.device)[:, None]

    def embed(self, images: Float[Tensor, "n c H W"]) -> Float[Tensor, "n C h w"]:
        """The latent cells of images with pixel values from 0 to 1."""
        return self.add_on(self.features((images.to(self.mean.dtype) - self.mean) / self.std))

    def distances(self, latent: Float[Tensor, "n C h w"]) -> Float[Tensor, "n p h w"]:
        """Squared distance of every prototype to every cell.

        Differences are taken before they are squared: |z|^2 - 2 z p + |p|^2 would be off by 1e-5 in single precision,
        which turns a similarity of 9.21 into 9.11.
        """
        cells, prototypes = latent.flatten(2).mT.contiguous(), self.prototypes
        if self.similarity == "cosine":
            cells, prototypes = nn.functional.normalize(cells, dim=2), nn.functional.normalize(prototypes, dim=1)
        exact = torch.cdist(cells, prototypes[None], compute_mode="donot_use_mm_for_euclid_dist").square()
        return exact.mT.unflatten(2, latent.shape[2:])

    def similar(self, distances: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """From squared distance to similarity."""
        if self.similarity == "cosine":
            return 1 - distances / 2
        return torch.log((distances + 1) / (distances + EPSILON))

    def look(self, images: Float[Tensor, "n c H W"]) -> Output:
        """The logits, with all that led to them."""
        return self.compare(self.embed(images))

    def compare(self, latent: Float[Tensor, "n C h w"]) -> Output:
        """As ``look``, from the latent cells on."""
        distances = self.distances(latent)
        nearest, cell = distances.flatten(2).min(2)
        similarities = self.similar(nearest)
        cells = torch.stack([cell // latent.shape[3], cell % latent.shape[3]], 2)
        return Output(self.last_layer(similarities), similarities, cells, distances, self.similar(distances))

    def forward(self, images: Float[Tensor, "n c H W"]) -> Float[Tensor, "n classes"]:
        """Score each class."""
        return self.last_layer(self.similar(self.distances(self.embed(images)).flatten(2).amin(2)))

    def embedding(self) -> nn.Module:
        """All that decides similarities, which is all but the last layer, as one module that shares its tensors."""
        part = nn.Module()
        part.features, part.add_on, part.prototypes = self.features, self.add_on, self.prototypes
        for name in ("mean", "std", "prototype_classes"):
            part.register_buffer(name, getattr(self, name))
        return part


def features_of(network: nn.Module, channels: int = 3) -> nn.Sequential:
    """The features of one of torchvision's ResNets or VGGs (or of ours with the same parts), for ``ProtoPNet``.

    Args:
        network: It is not copied: what trains the features trains the network.
        channels: 1 for grey images; the first convolution then gets one channel, whose weights are the sums over the
            colours, so that a grey image gives what it gave as three equal channels.

    Raises:
        ValueError: if the network is of another family, or its features are no cells (n, k, h, w).
    """
    network = unwrapped(network)
    names = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
    if all(hasattr(network, name) for name in names):
        features = nn.Sequential(OrderedDict((name, getattr(network, name)) for name in names))
    elif isinstance(getattr(network, "features", None), nn.Sequential):
        features = nn.Sequential(OrderedDict(network.features.named_children()))
    else:
        raise ValueError(
            f"{type(network).__name__} is no ResNet and no VGG: give ProtoPNet a module that turns images into cells"
        )
    if channels == 1:
        name, first = next(iter(features.named_children()))
        if not isinstance(first, nn.Conv2d) or first.in_channels != 3:
            raise ValueError(
                f"the features begin with a {type(first).__name__}, and only a convolution on 3 channels can be made "
                "one on grey images: give grey images as three equal channels"
            )
        setattr(features, name, _grey(first))
    elif channels != 3:
        raise ValueError(f"channels={channels}: expected 1 or 3")
    _outputs(features, channels)
    return features


def of_a_protopnet(function: Callable) -> Callable:
    """Let a function whose first argument is a ProtoPNet take one in ``DataParallel`` or the like, and nothing else."""

    @wraps(function)
    def unwrapping(model: nn.Module, *args, **kwargs):
        return function(inside(model), *args, **kwargs)

    return unwrapping


def inside(model: nn.Module) -> ProtoPNet:
    """The ProtoPNet in whatever wraps it.

    Raises:
        TypeError: if there is none.
    """
    network = unwrapped(model)
    if not isinstance(network, ProtoPNet):
        raise TypeError(f"expected a ProtoPNet, got a {type(network).__name__}: ProtoPNet(features, ...) makes one")
    return network


def check_images(model: ProtoPNet, images: Tensor) -> None:
    """Raise ValueError if images cannot be what the network takes: pixel values from 0 to 1, of its channels."""
    if images.ndim != 4 or images.shape[1] != model.channels or not images.is_floating_point() or not len(images):
        kind = "grey" if model.channels == 1 else "colour"
        raise ValueError(
            f"expected {kind} images as floats (n, {model.channels}, h, w), got {images.dtype} {tuple(images.shape)}"
        )
    low, high = float(images.amin()), float(images.amax())
    if not (low >= -1e-6 and high <= 1 + 1e-6):
        raise ValueError(
            f"pixel values go from {low:.2f} to {high:.2f}, expected 0 to 1: the network normalises images itself, so "
            "leave out any normalisation before it"
        )


def check_labels(model: ProtoPNet, images: Tensor, labels: Labels) -> Int[Tensor, "n"]:
    """The labels of images as 64-bit class numbers, whatever integers they came in.

    Raises:
        TypeError: if they are no integers.
        ValueError: if they do not belong to these images, or name classes that the network does not have.
    """
    labels = torch.as_tensor(labels)
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise TypeError(f"labels are class numbers (integers, 0 to {len(model.classes) - 1}), got {labels.dtype}")
    labels = labels.long()
    if labels.shape != images.shape[:1]:
        raise ValueError(f"expected a label for each of {len(images)} images, got shape {tuple(labels.shape)}")
    if not 0 <= int(labels.min()) <= int(labels.max()) < len(model.classes):
        raise ValueError(
            f"labels go from {int(labels.min())} to {int(labels.max())}: the network has {len(model.classes)} classes"
        )
    return labels


def _check(names, prototypes_per_class, dimensions, add_on, similarity, mean, std) -> None:
    if len(names) < 2 or prototypes_per_class < 1 or dimensions < 1:
        raise ValueError(
            f"{len(names)} classes, {prototypes_per_class} prototypes each, {dimensions} dimensions: expected at least "
            "2, 1 and 1"
        )
    for what, value, valid in (("add_on", add_on, AddOn), ("similarity", similarity, Similarity)):
        if value not in get_args(valid):
            raise ValueError(f"{what}={value!r}: expected one of {', '.join(map(repr, get_args(valid)))}")
    if len(mean) not in (1, 3) or len(mean) != len(std) or not all(s > 0 for s in std):
        raise ValueError(f"mean={tuple(mean)}, std={tuple(std)}: expected 1 value each (grey) or 3, std above 0")


def _outputs(features: nn.Module, channels: int) -> int:
    """How many channels features put out, seen on black images of two sizes.

    Raises:
        ValueError: if they cannot see the images, or what they put out is no cells (n, k, h, w).
    """
    wanted = "expected a network without its pooling and classifier, that turns images of any size into (n, k, h, w)"
    check_not_quantised(features)
    like, reason = next((p for p in features.parameters() if p.is_floating_point()), None), ""
    if like is None:
        raise ValueError(f"the features, a {type(features).__name__}, have no weights: {wanted}")
    for sides in SIZES:
        with torch.no_grad(), eval_mode(features):
            try:
                found = [features(like.new_zeros(2, channels, side, side)) for side in sides]
            except Exception as error:  # whatever keeps them from this size
                reason = reason or f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
                continue
        break
    else:
        tried = " and ".join(f"{side} x {side}" for side in SIZES[0])
        raise ValueError(
            f"the features cannot take images of {channels} channels (as mean and std have) and {tried} pixels "
            f"({reason}); {wanted}"
        )
    if not all(isinstance(each, Tensor) for each in found):
        raise ValueError(f"the features put out a {type(found[0]).__name__}: {wanted}")
    small, large = (tuple(each.shape) for each in found)
    cells = all(len(shape) == 4 and shape[0] == 2 for shape in (small, large)) and small[1] == large[1]
    if not cells or large[2] * large[3] <= 1 or not found[0].is_floating_point():
        last = len(small) == len(large) == 4 and small[3] == large[3] and small[1] != large[1]
        wanted = "their channels come last: put torchvision.ops.Permute((0, 3, 1, 2)) after them" if last else wanted
        raise ValueError(
            f"of 2 images of {sides[0]} x {sides[0]} pixels the features make {found[0].dtype} {small}, of {sides[1]} "
            f"x {sides[1]} pixels {large}: {wanted}"
        )
    return small[1]


def _add_on(inputs: int, dimensions: int, kind: AddOn) -> nn.Sequential:
    layers: list[nn.Module] = []
    outputs = inputs
    while kind == "bottleneck" and outputs > dimensions:
        outputs = max(dimensions, inputs // 2)
        layers += [nn.Conv2d(inputs, outputs, 1), nn.ReLU(), nn.Conv2d(outputs, outputs, 1), nn.ReLU()]
        inputs = outputs
    if layers and outputs == dimensions:
        layers[-1] = nn.Sigmoid()
    else:
        layers += [nn.Conv2d(inputs, dimensions, 1), nn.ReLU(), nn.Conv2d(dimensions, dimensions, 1), nn.Sigmoid()]
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)


def _grey(convolution: nn.Conv2d) -> nn.Conv2d:
    """A convolution on grey pictures that does what one on three equal channels did."""
    c = convolution
    options = {"bias": c.bias is not None, "padding_mode": c.padding_mode}
    grey = nn.Conv2d(1, c.out_channels, c.kernel_size, c.stride, c.padding, c.dilation, **options)
    with torch.no_grad():
        grey.weight.copy_(c.weight.sum(1, keepdim=True))
        if c.bias is not None:
            grey.bias.copy_(c.bias)
    return grey.to(c.weight)
