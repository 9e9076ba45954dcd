"""Load networks by name: ``load("scenes_resnet")``, ``load("resnet18")``.

The networks of the course are shipped as safetensors files with a manifest that names their architecture, classes,
preprocessing, SHA-256 and the command that made them. Networks of torchvision read their ImageNet weights from the
disk; nothing is downloaded here.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from torchvision import models as torchvision_models
from torchvision.models import WeightsEnum

from xailab.images import Preprocess
from xailab.models import efficientnet_lite
from xailab.models import manifest as manifests
from xailab.models.classifier import Classifier, labelled
from xailab.models.mobilenet import MobileNetV1
from xailab.models.small import SmallResNet, SmallVGG
from xailab.models.state_dicts import fill
from xailab.storage import data_root

WEIGHTS = Path(__file__).parent / "weights"
TRAINED = "trained"
INSTALLED = "efficientnet_lite0"  # a package of the course brings its weights
ARCHITECTURES = {each.__name__: each for each in (SmallResNet, SmallVGG, MobileNetV1)}

# GoogLeNet's and Inception's published weights come with auxiliary heads and another scaling of the input.
WITH_AUXILIARIES = ("googlenet", "inception_v3")
AUXILIARIES = {"aux_logits": True, "transform_input": True, "init_weights": False}


def load(name: str, *, weights: str | Path | None = TRAINED, seed: int = 0) -> Classifier:
    """Load a network, ready to be explained.

    >>> network = load("scenes_resnet")
    >>> network.classes[:3], network.preprocess.resize
    (('cat', 'dog', 'bird'), 128)

    Args:
        name: A shipped network, "efficientnet_lite0", or a classification network of torchvision; ``available()`` lists
            them.
        weights: "trained" for the shipped weights, for the ImageNet weights of efficientnet_lite0, which are installed
            with the course, or for a network of torchvision the ImageNet weights on this disk,
            in ``$XAILAB_DATA/weights/<name>.safetensors`` or in torch's own download folder. None for random weights.
            Or a file of weights for a network of torchvision: safetensors, or a state dict of torch, alone or in a
            checkpoint ({"state_dict": ...}), with or without the ``module.`` of ``DataParallel`` in its names.
        seed: Seed of random weights.

    Returns:
        The network in eval mode, with ``.preprocess`` (an ``images.Preprocess``) and ``.classes`` (a tuple of names).

    Raises:
        ValueError: if there is no such network, a file is damaged or not of this network, or a file is given for a
            network that has weights of its own.
        FileNotFoundError: if the ImageNet weights are not on this disk; the message says how to get them.
    """
    ours = {INSTALLED: _efficientnet_lite} | {shipped: partial(_shipped, shipped) for shipped in manifest()}
    if name in ours and weights not in (TRAINED, None):
        raise ValueError(f"{name!r} has weights of its own: leave out weights=, or name a network of torchvision")
    with _seeded(seed) if weights is None else nullcontext():
        network = ours[name](trained=weights is not None) if name in ours else _torchvision(name, weights)
    network.eval()
    return network


def available() -> list[str]:
    """List the names of the shipped networks, the installed one, then torchvision's classification networks.

    >>> "scenes_resnet" in available(), "vgg16" in available()
    (True, True)
    """
    return [*manifest(), INSTALLED, *torchvision_models.list_models(module=torchvision_models)]


def manifest() -> dict[str, dict]:
    """Read what is known of each shipped network: architecture, classes, preprocessing, SHA-256, recipe, results.

    >>> manifest()["scenes_resnet"]["architecture"]
    'SmallResNet'
    """
    return manifests.read(WEIGHTS)


def build(architecture: str, **options) -> nn.Module:
    """Build one of the course's own architectures with untrained weights.

    >>> build("SmallResNet", num_classes=10).fc
    Linear(in_features=128, out_features=10, bias=True)

    Args:
        architecture: "SmallResNet", "SmallVGG" or "MobileNetV1".
        **options: Arguments of that class.

    Raises:
        ValueError: if there is no such architecture.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"no architecture {architecture!r}: there are {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[architecture](**options)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Draw random numbers from a seed; those that follow stay as they were."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def _shipped(name: str, *, trained: bool) -> Classifier:
    entry = manifest()[name]
    network = build(entry["architecture"], **entry["options"])
    if trained:  # half precision on disk becomes single precision here
        network.load_state_dict(load_file(manifests.file(WEIGHTS, name)))
    preprocess = entry["preprocess"] | {key: tuple(entry["preprocess"][key]) for key in ("mean", "std")}
    return labelled(network, Preprocess(**preprocess), tuple(entry["classes"]))


def _efficientnet_lite(*, trained: bool) -> Classifier:
    network = efficientnet_lite.EfficientNetLite0()
    if trained:
        network.load_state_dict(efficientnet_lite.imagenet_weights())
    classes = torchvision_models.ResNet18_Weights.DEFAULT.meta["categories"]
    return labelled(network, Preprocess(256, 224, (0.498, 0.498, 0.498), (0.502, 0.502, 0.502)), tuple(classes))


def _torchvision(name: str, weights: str | Path | None) -> Classifier:
    if name not in torchvision_models.list_models(module=torchvision_models):
        raise ValueError(
            f"no network {name!r}: shipped are {', '.join(manifest())}; besides, every classification network of "
            "torchvision.models can be named (resnet18, vgg16, ...), with weights=None for random weights"
        )
    published = _published(name)
    path = _find(name, published) if weights == TRAINED else weights
    network = torchvision_models.get_model(name, weights=None, **(AUXILIARIES if name in WITH_AUXILIARIES else {}))
    if path is not None:
        fill(network, Path(path), name)
    usual = published.transforms()
    preprocess = Preprocess(
        usual.resize_size[0], usual.crop_size[0], tuple(usual.mean), tuple(usual.std), usual.interpolation.value
    )
    return labelled(network, preprocess, tuple(published.meta["categories"]))


def weights_file(name: str) -> Path | None:
    """Find the ImageNet weights of a network of torchvision on this disk; None if they are not there.

    >>> weights_file("resnet18")  # doctest: +SKIP
    PosixPath('data/weights/resnet18.safetensors')
    """
    file = _published(name).url.rsplit("/", 1)[-1]
    return next((path for path in weights_paths(name, file, data_root()) if path.is_file()), None)


def weights_paths(name: str, file: str, root: Path) -> tuple[Path, ...]:
    """List where ImageNet weights may lie: below the root of the data, or where torch puts a downloaded file."""
    ours = (root / "weights" / f"{name}{end}.safetensors" for end in ("", "_imagenet"))
    return (*ours, Path(torch.hub.get_dir()) / "checkpoints" / file)


def _published(name: str) -> WeightsEnum:
    """The papers' weights, of those that torchvision has."""
    known = torchvision_models.get_model_weights(name)
    return known["IMAGENET1K_V1" if "IMAGENET1K_V1" in known.__members__ else "DEFAULT"]


def _find(name: str, published: WeightsEnum) -> Path:
    """Find ImageNet weights on this disk, or say how to get them."""
    path, ours = weights_file(name), data_root() / "weights" / f"{name}.safetensors"
    if path is None:
        get = f"torchvision.models.get_model('{name}', weights='{published.name}')"
        raise FileNotFoundError(
            f"the ImageNet weights of {name} are not on this disk. With a network connection, get them once by\n"
            f"    python data_download.py weights/{name}\nor, for networks that it does not list, by\n"
            f'    python -c "import torchvision; {get}"\n'
            f"or put them at {ours}. For random weights, give weights=None."
        )
    return path
