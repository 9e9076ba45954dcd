"""Networks as safetensors files, whose JSON description says where each prototype comes from."""

import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn

from xailab import fingerprints, storage
from xailab.protopnet.network import ProtoPNet, SmallFeatures, of_a_protopnet
from xailab.protopnet.provenance import Provenance

KIND = "ProtoPNet"
BYTES = 255  # pixel values that are whole numbers of this are kept as bytes


@of_a_protopnet
def save(model: ProtoPNet, path: str | Path) -> None:
    """Write a network as a whole or not at all.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     save(ProtoPNet(SmallFeatures(), dimensions=8), Path(folder) / "network")

    Args:
        model: The network, projected or not.
        path: The file; what was there before is replaced.

    Raises:
        FileNotFoundError: if there is no such folder.
    """
    tensors = {f"network.{name}": value for name, value in fingerprints.state(model).items()}
    description = _architecture(model) | {"projected": None}
    origin = model.provenance
    if origin is not None:
        pixels = origin.images * BYTES
        exact = torch.equal(pixels.round() / BYTES, origin.images)
        tensors["origin.images"] = pixels.round().to(torch.uint8) if exact else origin.images
        rest = {name: each for name, each in origin.tensors().items() if name != "images"}
        tensors |= {f"origin.{name}": each for name, each in rest.items()}
        where = {"field": origin.field, "embedding": origin.embedding, "prototypes": _patches(model, origin)}
        description["projected"] = where
    storage.write(path, KIND, description, tensors)


def load(path: str | Path, features: nn.Module | None = None) -> ProtoPNet:
    """Read a network, in eval mode.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     save(ProtoPNet(SmallFeatures(), classes=("healthy", "ill"), dimensions=8), Path(folder) / "network")
    ...     load(Path(folder) / "network").classes
    ('healthy', 'ill')

    Args:
        path: The file that ``save`` wrote.
        features: Features of the same architecture, if the network's are not ``SmallFeatures``; their weights are
            replaced.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, or something else, or the features are missing or others.
    """
    description, tensors = storage.read(path, KIND)
    small = description["features"]
    if features is None:
        if small is None:
            raise ValueError(f"{path} has features of its own kind: give load(path, features=...) some of that kind")
        features = SmallFeatures(small["channels"], small["widths"])
    if description.get("similarity", "log") != "log":  # files of 0.1
        raise ValueError(f"{path} has similarity={description['similarity']!r}, which xailab no longer computes")
    options = {name: description[name] for name in ("dimensions", "add_on", "mean", "std")}
    model = ProtoPNet(features, 1, description["classes"], **options)
    state = part(tensors, "network.")
    count = len(state["prototypes"])
    model.prototypes = nn.Parameter(torch.empty(count, description["dimensions"]))
    model.prototype_classes = torch.empty(count, dtype=torch.long)
    model.last_layer = nn.Linear(count, len(model.classes), bias=False)
    try:
        fingerprints.load_state(model, state)
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit these features ({str(error).splitlines()[-1].strip()})") from None
    if description["projected"] is not None:
        origin = part(tensors, "origin.")
        if origin["images"].dtype == torch.uint8:
            origin["images"] = origin["images"].float() / BYTES
        model.provenance = provenance(origin, description["projected"])
    return model.eval()


def provenance(tensors: dict[str, Tensor], description: dict) -> Provenance:
    """Rebuild a provenance from a file's tensors and description."""
    field = description["field"]
    return Provenance(**tensors, field=None if field is None else tuple(field), embedding=description["embedding"])


def _architecture(model: ProtoPNet) -> dict:
    """Describe a network without its weights."""
    small = None
    if isinstance(model.features, SmallFeatures):
        small = {"channels": model.features.channels, "widths": list(model.features.widths)}
    return {
        "features": small,
        "classes": list(model.classes),
        "dimensions": model.prototypes.shape[1],
        "add_on": model.add_on_kind,
        "mean": model.mean.flatten().double().tolist(),
        "std": model.std.flatten().double().tolist(),
    }


def _patches(model: ProtoPNet, origin: Provenance) -> list[dict]:
    """Describe each prototype: its class, its training image and that image's hash, its cell, and how far it moved."""
    return [
        {
            "class": model.classes[int(label)],
            "image": int(name),
            "sha256": hashlib.sha256(image.contiguous().cpu().numpy().tobytes()).hexdigest(),
            "cell": cell.tolist(),
            "moved": float(moved),
        }
        for image, name, label, cell, moved in zip(*origin[:5], strict=True)
    ]


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Take the tensors whose names begin with a prefix, and remove it from their names."""
    return {name.removeprefix(prefix): x for name, x in tensors.items() if name.startswith(prefix)}
