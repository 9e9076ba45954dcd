"""A network as a file: safetensors with a JSON description, that says of each prototype where it comes from."""

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
def save(model: ProtoPNet, path: str | Path, *, note: dict | None = None) -> None:
    """Write a network, whole or not at all.

    Args:
        model: Projected or not.
        path: The file; what was there before is replaced.
        note: What else to remember, as JSON can hold it: a recipe, the hash of the training data.

    Raises:
        FileNotFoundError: if there is no such folder.
    """
    tensors = {f"network.{name}": value for name, value in fingerprints.state(model).items()}
    description = _architecture(model) | {"note": note or {}, "projected": None}
    origin = model.provenance
    if origin is not None:
        pixels = origin.images * BYTES
        exact = torch.equal(pixels.round() / BYTES, origin.images)
        tensors["origin.images"] = pixels.round().to(torch.uint8) if exact else origin.images
        rest = {name: each for name, each in origin.tensors().items() if name != "images"}
        tensors |= {f"origin.{name}": each for name, each in rest.items()}
        told = {"field": origin.field, "embedding": origin.embedding, "prototypes": _told(model, origin)}
        description["projected"] = told
    storage.write(path, KIND, description, tensors)


def load(path: str | Path, features: nn.Module | None = None) -> ProtoPNet:
    """Read a network, in eval mode.

    Args:
        path: What ``save`` wrote.
        features: Of the same architecture, for networks whose features are not our ``SmallFeatures``; their weights are
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
    options = {name: description[name] for name in ("dimensions", "add_on", "similarity", "mean", "std")}
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


def describe(path: str | Path) -> dict:
    """What a file says of its network, without building it: architecture, note, and each prototype's origin."""
    return storage.read(path, KIND)[0]


def provenance(tensors: dict[str, Tensor], told: dict) -> Provenance:
    """From what a file has of it."""
    field = told["field"]
    return Provenance(**tensors, field=None if field is None else tuple(field), embedding=told["embedding"])


def _architecture(model: ProtoPNet) -> dict:
    small = None
    if isinstance(model.features, SmallFeatures):
        small = {"channels": model.features.channels, "widths": list(model.features.widths)}
    return {
        "features": small,
        "classes": list(model.classes),
        "dimensions": model.prototypes.shape[1],
        "add_on": model.add_on_kind,
        "similarity": model.similarity,
        "mean": model.mean.flatten().double().tolist(),
        "std": model.std.flatten().double().tolist(),
    }


def _told(model: ProtoPNet, origin: Provenance) -> list[dict]:
    """For each prototype its class, training image and that image's hash, cell, and the distance it moved."""
    return [
        {
            "class": model.classes[int(label)],
            "image": int(name),
            "sha256": hashlib.sha256(image.contiguous().cpu().numpy()).hexdigest(),
            "cell": cell.tolist(),
            "moved": float(moved),
        }
        for image, name, label, cell, moved in zip(*origin[:5], strict=True)
    ]


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): x for name, x in tensors.items() if name.startswith(prefix)}
