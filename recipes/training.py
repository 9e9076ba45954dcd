"""What the recipes share: render a training set, train a classifier on it, measure it, ship it."""

import hashlib
import json
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor, nn
from tqdm import tqdm

from xailab.datasets import scenes
from xailab.images import Preprocess
from xailab.models import zoo


def render(n: int, *, kind: str, split: str, seed: int = 0, size: int = 128) -> tuple[np.ndarray, Tensor]:
    """Render n scenes with all processors.

    Returns:
        Pictures (n, size, size, 3) uint8, and which classes they show, (n, 10) with rows that sum to 1.
    """
    draw = partial(scenes.scene, kind=kind, split=split, seed=seed, size=size)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        drawn = list(tqdm(pool.map(draw, range(n), chunksize=64), total=n, desc=f"{split} {kind}", mininterval=5))
    targets = torch.zeros(n, len(scenes.CLASSES))
    for target, scene in zip(targets, drawn, strict=True):
        target[list(scene.labels)] = 1 / len(scene.labels)
    return np.stack([scene.image for scene in drawn]), targets


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror half of a batch, and move all of it by up to 6 % of its size (edges repeat)."""
    flip = torch.rand(len(images), generator=generator) < 0.5
    images = torch.where(flip.view(-1, 1, 1, 1), images.flip(3), images)
    height, width = images.shape[2:]
    pad = max(1, round(0.06 * width))
    dy, dx = torch.randint(0, 2 * pad + 1, (2,), generator=generator).tolist()
    return F.pad(images, (pad, pad, pad, pad), mode="replicate")[:, :, dy : dy + height, dx : dx + width]


def disturbed(
    network: nn.Module,
    images: Tensor,
    targets: Tensor,
    length: float,
    preprocess: Preprocess,
    generator: torch.Generator,
) -> Tensor:
    """Move each picture so that the network errs more: one step along the loss's gradient, from a random start.

    The step stays within ``length`` (Euclidean, pixel values from 0 to 1) and between black and white. Training on such
    pictures makes a network's gradients look like the objects (Engstrom et al. 2019, arXiv 1906.00945; single steps:
    Wong et al. 2020, arXiv 2001.03994).
    """
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (preprocess.mean, preprocess.std))
    length = length / float(std.mean())

    def of_length_one(x: Tensor) -> Tensor:
        return x / x.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)

    step = 0.3 * length * of_length_one(torch.randn(images.shape, generator=generator))
    start = (images + step).requires_grad_()
    loss = F.cross_entropy(network(start).float(), targets)
    step = step + 1.5 * length * of_length_one(torch.autograd.grad(loss, start)[0])
    step = step * (length / step.flatten(1).norm(dim=1).clamp(min=1e-12)).clamp(max=1).view(-1, 1, 1, 1)
    return torch.minimum(torch.maximum(images + step, -mean / std), (1 - mean) / std).detach()


def train(
    network: nn.Module,
    pictures: np.ndarray,
    targets: Tensor,
    preprocess: Preprocess,
    *,
    epochs: int,
    batch: int = 64,
    rate: float = 3e-3,
    decay: float = 0.05,
    seed: int = 0,
    budget: float = 0.0,
    smoothing: float = 0.05,
    bfloat16: bool = True,
    title: str = "training",
) -> nn.Module:
    """Train a classifier with AdamW and a one-cycle learning rate; targets may be shared between classes.

    With a ``budget`` it is trained on disturbed pictures (see ``disturbed``), the budget growing from 0 to its full
    length over the first two thirds. The convolutions compute in ``bfloat16``, which halves the time on processors that
    have it, and costs time on others.
    """
    network = network.to(memory_format=torch.channels_last)
    if len(pictures) < batch:
        raise ValueError(f"{len(pictures)} pictures are less than one batch of {batch}: render more")
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=decay)
    steps = epochs * (len(pictures) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps, pct_start=0.2)
    network.train()
    with tqdm(total=steps, desc=title, mininterval=10) as progress:
        for _ in range(epochs):
            order = torch.randperm(len(pictures), generator=generator)
            for index in order[: len(pictures) // batch * batch].view(-1, batch):
                images = augment(preprocess(pictures[index.numpy()]), generator)
                images = images.contiguous(memory_format=torch.channels_last)
                with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                    if budget:
                        length = budget * min(1.0, 1.5 * progress.n / steps)
                        images = disturbed(network, images, targets[index], length, preprocess, generator)
                    logits = network(images)
                loss = F.cross_entropy(logits.float(), targets[index], label_smoothing=smoothing)
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                optimiser.step()
                schedule.step()
                progress.update()
                progress.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    return network.eval().to(memory_format=torch.contiguous_format)


@torch.inference_mode()
def scores(network: nn.Module, pictures: np.ndarray, preprocess: Preprocess, batch: int = 100) -> Tensor:
    """Logits (n, classes) of all pictures, in eval mode."""
    network.eval()
    return torch.cat([network(preprocess(pictures[i : i + batch])) for i in range(0, len(pictures), batch)])


def all_in_top(logits: Tensor, targets: Tensor, k: int) -> float:
    """Share of the pictures of which every class is among the k highest scores."""
    hits = targets.gather(1, logits.topk(k).indices).gt(0).sum(1)
    return (hits == targets.gt(0).sum(1)).double().mean().item()


def ship(name: str, network: nn.Module, entry: dict, preprocess: Preprocess) -> Path:
    """Write the weights in half precision as safetensors, and what is known of them into the manifest."""
    state = {key: value.half() if value.is_floating_point() else value for key, value in network.state_dict().items()}
    data = save({key: value.contiguous() for key, value in state.items()})
    path = zoo.WEIGHTS / f"{name}.safetensors"
    path.write_bytes(data)
    record(path, entry | {"classes": list(scenes.CLASSES), "preprocess": asdict(preprocess)})
    return path


def record(path: Path, entry: dict) -> None:
    """Write what is known of a shipped file, with its SHA-256 and size, into the manifest beside it."""
    data, manifest_path = path.read_bytes(), path.with_name("manifest.json")
    manifest = json.loads(manifest_path.read_text(encoding="utf-8")) if manifest_path.exists() else {}
    manifest[path.stem] = entry | {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    manifest_path.write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")
