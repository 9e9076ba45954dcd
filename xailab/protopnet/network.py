"""The network: features, add-on layers, prototypes, and a linear layer on the prototypes' similarity scores.

Chen et al., "This Looks Like That: Deep Learning for Interpretable Image Recognition", NeurIPS 2019, arXiv 1806.10574.
With z a latent cell and p a prototype, of C numbers each, and d = |z - p|^2:

    similarity  g(d) = log((d + 1) / (d + 1e-4))         (Section 2.1; at most log(1e4) = 9.2103)
    score       g_j  = max over the cells of g(d)
    logits      W g, without a bias
"""

import copy
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Concatenate, Literal, NamedTuple, ParamSpec, TypeVar, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor, nn

from xailab.hooks import check_not_quantised, eval_mode, unwrapped
from xailab.protopnet.provenance import Provenance

AddOn = Literal["regular", "bottleneck"]
Labels = Integer[Tensor, "n"] | Integer[np.ndarray, "n"] | Sequence[int]
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

EPSILON = 1e-4
SIZES = ((64, 128), (224, 288))  # sides of the images that features are tried on; the second pair if the first fails
OWN, OTHER = 1.0, -0.5  # initial weights of the last layer
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


class Output(NamedTuple):
    """The logits of images, with all that led to them.

    Attributes:
        logits: Score of each class.
        similarities: Similarity of each prototype to its nearest cell.
        cells: The (row, column) of this nearest cell.
        distances: Squared distance of each prototype to each cell.
        maps: Similarity of each prototype to each cell.
    """

    logits: Float[Tensor, "n classes"]
    similarities: Float[Tensor, "n p"]
    cells: Int[Tensor, "n p 2"]
    distances: Float[Tensor, "n p h w"]
    maps: Float[Tensor, "n p h w"]


class SmallFeatures(nn.Sequential):
    """Compute features by 3 x 3 convolutions, each with batch norm and ReLU; the first, third and fifth have stride 2.

    A cell of five convolutions sees 27 x 27 pixels, one of six 43 x 43. The cells are 8 pixels apart.

    >>> SmallFeatures()(torch.zeros(1, 1, 96, 96)).shape
    torch.Size([1, 64, 12, 12])

    Args:
        channels: Number of channels of the images.
        widths: Number of channels after each convolution.
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
    """Classify images by the training patches that they look like.

    The network takes pixel values from 0 to 1 and normalises them itself, so that nothing can be normalised twice.

    >>> model = ProtoPNet(SmallFeatures(), prototypes_per_class=3, classes=("healthy", "ill"), dimensions=16).eval()
    >>> model(torch.rand(4, 1, 64, 64)).shape, model.prototypes.shape
    (torch.Size([4, 2]), torch.Size([6, 16]))

    Args:
        features: Network from images to cells (n, k, h, w), without pooling and classifier; ``features_of`` takes it
            from torchvision's ResNets and VGGs.
        prototypes_per_class: Number of prototypes of each class.
        classes: Names of the classes, or their number.
        dimensions: C, the numbers in a latent cell (the paper: 128).
        add_on: "regular" (two 1 x 1 convolutions), or "bottleneck" (pairs of them, each of which halves the channels,
            down to ``dimensions``).
        mean, std: Mean and standard deviation of each channel's pixel values; one value means grey images.
        seed: Seed of the initial add-on layers and prototypes.

    Attributes:
        prototypes: The prototypes (p, C).
        prototype_classes: The class of each prototype (p,).
        provenance: The training patches that the prototypes are, once they are projected; else None.

    Raises:
        ValueError: if an argument is out of its range, or the features do not give cells.
    """

    prototype_classes: Tensor
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        features: nn.Module,
        prototypes_per_class: int = 10,
        classes: Sequence[str] | int = 2,
        *,
        dimensions: int = 128,
        add_on: AddOn = "regular",
        mean: Sequence[float] = (0.5,),
        std: Sequence[float] = (0.25,),
        seed: int = 0,
    ) -> None:
        super().__init__()
        names = tuple(map(str, range(classes))) if isinstance(classes, int) else tuple(classes)
        _check(names, prototypes_per_class, dimensions, add_on, mean, std)
        self.classes, self.add_on_kind = names, add_on
        self.features = features = unwrapped(features)
        channels = _outputs(features, len(mean))
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.add_on = _add_on(channels, dimensions, add_on)
            count = len(names) * prototypes_per_class
            self.prototypes = nn.Parameter(torch.rand(count, dimensions))
            self.last_layer = nn.Linear(count, len(names), bias=False)
        self.register_buffer("prototype_classes", torch.arange(count) // prototypes_per_class)
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(-1, 1, 1))
        with torch.no_grad():
            self.last_layer.weight.copy_(torch.where(self.prototype_class_identity, OWN, OTHER))
        self.provenance: Provenance | None = None

    @property
    def channels(self) -> int:
        """Number of channels of the images: 1 or 3."""
        return len(self.mean)

    @property
    def prototype_class_identity(self) -> Bool[Tensor, "classes p"]:
        """Whether a prototype is of a class (the transpose of the authors' matrix of this name)."""
        classes = torch.arange(len(self.classes), device=self.prototypes.device)
        return self.prototype_classes.eq(classes[:, None])

    def foreign(self, labels: Int[Tensor, "n"]) -> Bool[Tensor, "n p"]:
        """Say for images of these classes which prototypes are of another class."""
        return self.prototype_classes.ne(labels[:, None])

    def embed(self, images: Float[Tensor, "n c H W"]) -> Float[Tensor, "n C h w"]:
        """Compute the latent cells of images with pixel values from 0 to 1."""
        return self.add_on(self.features((images.to(self.mean.dtype) - self.mean) / self.std))

    def distances(self, latent: Float[Tensor, "n C h w"]) -> Float[Tensor, "n p h w"]:
        """Compute the squared distance of every prototype to every cell.

        Differences are taken before they are squared: |z|^2 - 2 z p + |p|^2 would be off by 1e-5 in single precision,
        which turns a similarity of 9.21 into 9.11.
        """
        cells = latent.flatten(2).mT.contiguous()
        exact = torch.cdist(cells, self.prototypes[None], compute_mode="donot_use_mm_for_euclid_dist").square()
        return exact.mT.unflatten(2, latent.shape[2:])

    def distance_to_similarity(self, distances: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """Turn squared distances into similarities, log((d + 1) / (d + 1e-4))."""
        return torch.log((distances + 1) / (distances + EPSILON))

    def forward_details(self, images: Float[Tensor, "n c H W"]) -> Output:
        """Score each class, and return all that led to the logits."""
        return self.compare_patches(self.embed(images))

    def compare_patches(self, latent: Float[Tensor, "n C h w"]) -> Output:
        """Compare latent cells with the prototypes: ``forward_details`` from the latent cells on."""
        distances = self.distances(latent)
        nearest, cells = nearest_cells(distances)
        similarities = self.distance_to_similarity(nearest)
        maps = self.distance_to_similarity(distances)
        return Output(self.last_layer(similarities), similarities, cells, distances, maps)

    def forward(self, images: Float[Tensor, "n c H W"]) -> Float[Tensor, "n classes"]:
        """Score each class."""
        nearest = self.distances(self.embed(images)).flatten(2).amin(2)
        return self.last_layer(self.distance_to_similarity(nearest))

    def embedding(self) -> nn.Module:
        """Return all parts that decide similarities (all but the last layer) as one module with the same tensors."""
        part = nn.Module()
        part.features, part.add_on, part.prototypes = self.features, self.add_on, self.prototypes
        for name in ("mean", "std", "prototype_classes"):
            part.register_buffer(name, getattr(self, name))
        return part


def nearest_cells(distances: Float[Tensor, "n p h w"]) -> tuple[Float[Tensor, "n p"], Int[Tensor, "n p 2"]]:
    """Find the smallest distance of each prototype to a cell, and the (row, column) of this cell."""
    smallest, cell = distances.flatten(2).min(2)
    columns = distances.shape[3]
    return smallest, torch.stack([cell // columns, cell % columns], 2)


def features_of(network: nn.Module, channels: int = 3) -> nn.Sequential:
    """Take the features of one of torchvision's ResNets or VGGs (or of ours with the same parts), for ``ProtoPNet``.

    >>> from torchvision.models import resnet18
    >>> features_of(resnet18(weights=None), channels=1)(torch.zeros(1, 1, 64, 64)).shape
    torch.Size([1, 512, 2, 2])

    Args:
        network: The network; it is not copied, so training the features trains the network.
        channels: 1 for grey images: the weights of the first convolution are summed over the colours, so that a grey
            image has the features that it had as three equal channels.

    Raises:
        ValueError: if the network is of another family, or its features are not cells (n, k, h, w).
    """
    network = unwrapped(network)
    names = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
    if all(hasattr(network, name) for name in names):
        features = nn.Sequential(OrderedDict((name, getattr(network, name)) for name in names))
    elif isinstance(found := getattr(network, "features", None), nn.Sequential):
        features = nn.Sequential(OrderedDict(found.named_children()))
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


def of_a_protopnet(
    function: Callable[Concatenate[ProtoPNet, Arguments], Result],
) -> Callable[Concatenate[nn.Module, Arguments], Result]:
    """Let a function of a ProtoPNet take one in ``DataParallel`` or the like, and refuse other networks."""

    @wraps(function)
    def unwrapping(model: nn.Module, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        return function(inside(model), *args, **kwargs)

    return unwrapping


def inside(model: nn.Module) -> ProtoPNet:
    """Return the ProtoPNet inside its wrappers.

    Raises:
        TypeError: if there is none.
    """
    network = unwrapped(model)
    if not isinstance(network, ProtoPNet):
        raise TypeError(f"expected a ProtoPNet, got a {type(network).__name__}: ProtoPNet(features, ...) makes one")
    return network


def check_images(model: ProtoPNet, images: Tensor) -> None:
    """Raise ValueError if images are not what the network takes: pixel values from 0 to 1, with its channels."""
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
    """Return the labels of images as 64-bit class numbers, whatever integers they came in.

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


def _check(
    names: Sequence[str],
    prototypes_per_class: int,
    dimensions: int,
    add_on: str,
    mean: Sequence[float],
    std: Sequence[float],
) -> None:
    if len(names) < 2 or prototypes_per_class < 1 or dimensions < 1:
        raise ValueError(
            f"{len(names)} classes, {prototypes_per_class} prototypes each, {dimensions} dimensions: expected at least "
            "2, 1 and 1"
        )
    if add_on not in get_args(AddOn):
        raise ValueError(f"add_on={add_on!r}: expected one of {', '.join(map(repr, get_args(AddOn)))}")
    if len(mean) not in (1, 3) or len(mean) != len(std) or not all(s > 0 for s in std):
        raise ValueError(f"mean={tuple(mean)}, std={tuple(std)}: expected 1 value each (grey) or 3, std above 0")


def _outputs(features: nn.Module, channels: int) -> int:
    """Count the channels that features put out, by trying them on black images of two sizes.

    Raises:
        ValueError: if they cannot take the images, or do not give cells (n, k, h, w).
    """
    wanted = "expected a network without its pooling and classifier, that turns images of any size into (n, k, h, w)"
    check_not_quantised(features)
    sides, found = _tried(features, channels, wanted)
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


def _tried(features: nn.Module, channels: int, wanted: str) -> tuple[tuple[int, int], list]:
    """Run features on black images of the first two sides that they take, and return these sides and the outputs."""
    like, reason = next((p for p in features.parameters() if p.is_floating_point()), None), ""
    if like is None:
        raise ValueError(f"the features, a {type(features).__name__}, have no weights: {wanted}")
    for sides in SIZES:
        with torch.no_grad(), eval_mode(features):
            try:
                return sides, [features(like.new_zeros(2, channels, side, side)) for side in sides]
            except Exception as error:  # whatever keeps them from this size
                reason = reason or f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    tried = " and ".join(f"{side} x {side}" for side in SIZES[0])
    raise ValueError(
        f"the features cannot take images of {channels} channels (as mean and std have) and {tried} pixels "
        f"({reason}); {wanted}"
    )


def _add_on(inputs: int, dimensions: int, kind: AddOn) -> nn.Sequential:
    """Make the add-on layers: 1 x 1 convolutions with ReLUs, and a sigmoid at the end."""
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
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)


def _grey(convolution: nn.Conv2d) -> nn.Conv2d:
    """Copy a convolution for grey images, which it treats as three equal channels."""
    grey = copy.deepcopy(convolution)
    grey.in_channels = 1
    grey.weight = nn.Parameter(convolution.weight.detach().sum(1, keepdim=True))
    return grey
