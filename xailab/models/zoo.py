"""One door to every network: ``load("scenes_resnet")``, ``load("resnet18")``.

Shipped networks lie beside this file as safetensors with a manifest that names their architecture, classes,
preprocessing, SHA-256 and the command that made them. Networks of torchvision's get their ImageNet weights from the
disk; nothing is downloaded here.
"""

import hashlib
import json
import re
import warnings
from collections.abc import Mapping
from enum import Enum
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load as read_safetensors
from torch import Tensor, nn

from xailab.images import Preprocess
from xailab.storage import data_root

WEIGHTS = Path(__file__).parent / "weights"
RANDOM = "-random"
KEEP_WEIGHTS = "save the weights alone where it was made, by torch.save(network.state_dict(), path)"


def load(name: str, *, weights: str | Path | None = None, seed: int = 0) -> nn.Module:
    """Load a network, ready to be explained.

    Args:
        name: A shipped network (``available()`` lists them), a classification network of torchvision's, or the latter
            with ``-random`` behind it (``"resnet18-random"``) for random weights.
        weights: A file of ImageNet weights for a network of torchvision's: safetensors, or a state dict of torch's,
            alone or in a checkpoint ({"state_dict": ...}), with or without the names' ``module.`` of ``DataParallel``.
            If None, ``$XAILAB_DATA/weights/<name>.safetensors`` and torch's own download folder are looked at.
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
    expected = network.state_dict()
    try:
        found = _named_alike(_state_dict(_read(path), expected), expected)
        problems = _differences(found, expected)
        if problems:
            raise ValueError(f"{'; '.join(problems)}: name the network that it is of, or get another file")
    except ValueError as error:
        raise ValueError(f"{path} holds no weights of {name}: {error}") from None
    network.load_state_dict(found)


def _read(path: Path) -> object:
    """What a file of safetensors or of ``torch.save`` holds, whatever its name ends in.

    Raises:
        ValueError: if it cannot be read, or only by executing what is in it.
    """
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of scripted networks, which are refused below
            if file.read(9)[8:] == b"{":  # what follows the header's length in safetensors
                return read_safetensors(path.read_bytes())
            file.seek(0)
            return torch.load(file, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # whatever a foreign file brings about
        reason = str(error)
    if "TorchScript" in reason:
        raise ValueError(f"it is a scripted network; {KEEP_WEIGHTS}")
    if needed := re.search(r"GLOBAL ([\w.]+)", reason):
        what = f"it holds pickled objects besides tensors ({needed[1]}), which could do anything when they are read"
        raise ValueError(f"{what}; {KEEP_WEIGHTS}")
    raise ValueError("it cannot be read, damaged or of another kind than safetensors and torch.save: get it again")


def _state_dict(held: object, expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors by name that a file holds, alone or as one entry of a checkpoint ({"state_dict": ..., "epoch": 1}).

    Raises:
        ValueError: if there are none, or several entries could be meant.
    """
    if not isinstance(held, Mapping):
        raise ValueError(f"it holds a {type(held).__name__}, expected tensors by name; {KEEP_WEIGHTS}")
    if _are_tensors(held):
        return dict(held)
    inside = {key: dict(value) for key, value in held.items() if isinstance(value, Mapping) and _are_tensors(value)}
    fitting = {k: v for k, v in inside.items() if not _differences(_named_alike(v, expected), expected)} or inside
    usual = [key for key in ("state_dict", "model_state_dict", "model") if key in fitting]
    if not usual and len(fitting) != 1:
        among = ", ".join(map(repr, fitting or held)) or "nothing"
        wanted = "several entries could be meant" if fitting else "expected tensors by name"
        raise ValueError(f"it holds {among}: {wanted}; save the state dict alone")
    return fitting[usual[0] if usual else next(iter(fitting))]


def _are_tensors(values: Mapping) -> bool:
    return bool(values) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in values.items())


def _named_alike(found: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors without what wrappers add to names: ``module.``, ``_orig_mod.``, a name before all of them.

    DenseNets' published files have "norm.1" for "norm1", as torchvision's own loading knows.
    """
    parts = {part for name in expected for part in name.split(".")}
    added = {"module", "_orig_mod"} - parts
    named = {".".join(part for part in name.split(".") if part not in added): x for name, x in found.items()}
    starts = {name.split(".")[0] for name in named}
    if len(starts) == 1 and not starts & {name.split(".")[0] for name in expected}:
        named = {name.partition(".")[2] or name: x for name, x in named.items()}
    named = {re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2", name): x for name, x in named.items()}
    return named if len(named) == len(found) else found


def _differences(found: dict[str, Tensor], expected: dict[str, Tensor]) -> list[str]:
    """Say which tensors are missing, foreign or of another shape: of each kind the first, and how many there are."""
    # files of old versions do not count batches, and nothing that is explained depends on that
    missing = [name for name in expected if name not in found and not name.endswith("num_batches_tracked")]
    foreign = [name for name in found if name not in expected]
    shapes = [(x, *map(tuple, (found[x].shape, y.shape))) for x, y in expected.items() if x in found]
    shapes = [(name, there, wanted) for name, there, wanted in shapes if there != wanted]
    problems = []
    if missing:
        problems.append(f"it lacks {len(missing)} of {len(expected)} tensors, the first is {missing[0]}")
    if foreign:
        problems.append(f"it has {len(foreign)} that the network has not, the first is {foreign[0]}")
    if shapes:
        name, there, wanted = shapes[0]
        problems.append(f"{len(shapes)} have another shape, the first is {name}, {there} instead of {wanted}")
    return problems
