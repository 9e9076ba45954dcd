"""One door to every network: ``load("scenes_resnet")``, ``load("resnet18")``.

Shipped networks lie beside this file as safetensors with a manifest that names their architecture, classes,
preprocessing, SHA-256 and the command that made them. Networks of torchvision's get their ImageNet weights from the
disk; nothing is downloaded here.
"""

import hashlib
import json
from enum import Enum
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load as read_safetensors
from torch import nn

from xailab.images import Preprocess
from xailab.storage import data_root

WEIGHTS = Path(__file__).parent / "weights"
RANDOM = "-random"


def load(name: str, *, weights: str | Path | None = None, seed: int = 0) -> nn.Module:
    """Load a network, ready to be explained.

    Args:
        name: A shipped network (``available()`` lists them), a classification network of torchvision's, or the latter
            with ``-random`` behind it (``"resnet18-random"``) for random weights.
        weights: A file of ImageNet weights for a network of torchvision's (safetensors, or a state dict of torch's). If
            None, ``$XAILAB_DATA/weights/<name>.safetensors`` and torch's own download folder are looked at.
        seed: Of random weights.

    Returns:
        The network in eval mode, with ``.preprocess`` (an ``images.Preprocess``) and ``.classes`` (a tuple of names).

    Raises:
        ValueError: if there is no such network, a file is damaged or not of this network, or weights are given for a
            network that has its own.
        FileNotFoundError: if the ImageNet weights are not on this disk; the message says how to get them.
    """
    if weights is not None and (name in manifest() or name.endswith(RANDOM)):
        raise ValueError(f"{name!r} has weights of its own: leave out weights=, or name the network without them")
    if name in manifest():
        return _shipped(name).eval()
    return _torchvision(name, weights, seed).eval()


def available() -> list[str]:
    """Names of the shipped networks, then torchvision's classification networks."""
    import torchvision

    return [*manifest(), *torchvision.models.list_models(module=torchvision.models)]


@cache
def manifest() -> dict[str, dict]:
    """What is known of each shipped network: architecture, classes, preprocessing, SHA-256, recipe, results."""
    return json.loads((WEIGHTS / "manifest.json").read_text(encoding="utf-8"))


def build(architecture: str, **options) -> nn.Module:
    """Build one of our own architectures with untrained weights, as the recipes and ``load`` do."""
    from xailab.models import mobilenet, small

    classes = (small.SmallResNet, small.SmallVGG, mobilenet.MobileNetV1)
    architectures = {each.__name__: each for each in classes}
    if architecture not in architectures:
        raise ValueError(f"no architecture {architecture!r}: there are {', '.join(architectures)}")
    return architectures[architecture](**options)


def _shipped(name: str) -> nn.Module:
    entry = manifest()[name]
    data = (WEIGHTS / f"{name}.safetensors").read_bytes()
    if hashlib.sha256(data).hexdigest() != entry["sha256"]:
        raise ValueError(
            f"{name}.safetensors is not the file that was shipped (its SHA-256 differs): restore it from git"
        )
    network = build(entry["architecture"], **entry["options"])
    network.load_state_dict(read_safetensors(data))  # half precision on disk becomes single precision here
    preprocess = entry["preprocess"] | {key: tuple(entry["preprocess"][key]) for key in ("mean", "std")}
    network.preprocess = Preprocess(**preprocess)
    network.classes = tuple(entry["classes"])
    return network


# GoogLeNet's and Inception's published weights come with auxiliary heads and another scaling of the input.
WITH_AUXILIARIES = ("googlenet", "inception_v3")
AUXILIARIES = {"aux_logits": True, "transform_input": True, "init_weights": False}


def _torchvision(name: str, weights: str | Path | None, seed: int) -> nn.Module:
    from torchvision import models

    base = name.removesuffix(RANDOM)
    if base not in models.list_models(module=models):
        raise ValueError(
            f"no network {name!r}: shipped are {', '.join(manifest())}; besides, every classification network of "
            "torchvision.models can be named (resnet18, vgg16, ...), with -random behind it for random weights"
        )
    published = _published(models.get_model_weights(base))
    options = AUXILIARIES if base in WITH_AUXILIARIES else {}
    if name.endswith(RANDOM):
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            network = models.get_model(base, weights=None, **options)
    else:
        path = Path(weights) if weights else _find(base, published)
        network = models.get_model(base, weights=None, **options)
        _fill(network, path, base)
    usual = published.transforms()
    network.preprocess = Preprocess(
        usual.resize_size[0], usual.crop_size[0], tuple(usual.mean), tuple(usual.std), usual.interpolation.value
    )
    network.classes = tuple(published.meta["categories"])
    return network


def weights_file(name: str) -> Path | None:
    """Where the ImageNet weights of one of torchvision's networks lie on this disk; None if they do not."""
    from torchvision import models

    file = _published(models.get_model_weights(name)).url.rsplit("/", 1)[-1]
    return next((path for path in weights_paths(name, file, data_root()) if path.is_file()), None)


def weights_paths(name: str, file: str, root: Path) -> tuple[Path, ...]:
    """Where ImageNet weights may lie: below the root of the data, or where torch puts the ``file`` it fetches."""
    ours = (root / "weights" / f"{name}{end}.safetensors" for end in ("", "_imagenet"))
    return (*ours, Path(torch.hub.get_dir()) / "checkpoints" / file)


def _published(all_of_them: type[Enum]) -> Enum:
    """The papers' weights, of those that torchvision has."""
    return all_of_them["IMAGENET1K_V1"] if "IMAGENET1K_V1" in all_of_them.__members__ else all_of_them.DEFAULT


def _find(name: str, published: Enum) -> Path:
    """Find ImageNet weights on this disk, or say how to get them."""
    path, ours = weights_file(name), data_root() / "weights" / f"{name}.safetensors"
    if path is None:
        get = f"torchvision.models.get_model('{name}', weights='{published.name}')"
        raise FileNotFoundError(
            f"the ImageNet weights of {name} are not on this disk. With a network connection, get them once by\n"
            f"    python data_download.py weights/{name}\nor, for networks that it does not list, by\n"
            f'    python -c "import torchvision; {get}"\n'
            f"or put them at {ours}. For random weights, ask for {name + RANDOM!r}."
        )
    return path


def _fill(network: nn.Module, path: Path, name: str) -> None:
    """Read weights from a file into a network; nothing in the file is ever executed."""
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}: check the spelling and the folder you started in")
    try:
        if path.suffix == ".safetensors":
            state = read_safetensors(path.read_bytes())
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict(state)
    except Exception as error:  # whatever a foreign file brings about
        reason = str(error).splitlines()[0] if isinstance(error, RuntimeError) else "it cannot be read"
        raise ValueError(
            f"{path} holds no weights of {name} ({reason}): get it again, from a source you trust"
        ) from None
