"""Training in stages: features, warm-up, joint, projection, last layer, and joint once more (Section 2.2).

Warm-up trains add-on layers and prototypes, the joint stage the features too. Projection makes prototypes of training
patches, and then the last layer alone is fitted. What a stage does not train stays in eval mode, so that its batch-norm
statistics stay too. The loss is in losses.py; the stage of features from scratch, which is ours, in initialisation.py.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Bool, Float
from torch import Generator, Tensor, nn
from tqdm import tqdm

from xailab import fingerprints, storage
from xailab.protopnet.files import part, provenance
from xailab.protopnet.initialisation import TopKClassifier, classifier_loss, initialise_prototypes
from xailab.protopnet.last_layer import fit_last_layer
from xailab.protopnet.losses import Losses, accuracy, losses
from xailab.protopnet.network import Labels, ProtoPNet, check_images, check_labels, inside
from xailab.protopnet.projection import project
from xailab.protopnet.settings import FEATURES, JOINT, PROJECTION, TRAINED, WARM, Settings

Augment = Callable[[Tensor, Generator], Tensor]
KIND = "ProtoPNet checkpoint"


class Epoch(NamedTuple):
    """The measurements of one epoch, projection or fit.

    Attributes:
        stage: "features", "warm-up", "joint", "projection" or "last layer".
        cross_entropy, cluster, separation, l1, prototype_to_patch, diversity: Means over the epoch's batches (see
            ``Losses``); NaN where a stage has none.
        accuracy: Share of training images classified correctly: during an epoch, or after a projection or fit.
        held_out: Share of held-out images classified correctly, NaN where there are none.
    """

    stage: str
    cross_entropy: float = math.nan
    cluster: float = math.nan
    separation: float = math.nan
    l1: float = math.nan
    prototype_to_patch: float = math.nan
    diversity: float = math.nan
    accuracy: float = math.nan
    held_out: float = math.nan


def train(
    model: nn.Module,
    images: Float[Tensor, "n c H W"],
    labels: Labels,
    settings: Settings | None = None,
    *,
    held_out: tuple[Tensor, Tensor | np.ndarray | Sequence[int]] | None = None,
    sources: Bool[Tensor, "n"] | None = None,
    augment: Augment | None = None,
    checkpoint: str | Path | None = None,
    progress: bool = True,
    on_epoch: Callable[[Epoch], object] | None = None,
) -> list[Epoch]:
    """Train a network through all stages; it ends projected, with its last layer fitted.

    >>> from xailab.protopnet import SmallFeatures
    >>> model, images = ProtoPNet(SmallFeatures(), 1, dimensions=8), torch.rand(8, 1, 64, 64)
    >>> settings = Settings(features=0, warm=1, joint=0, again=0, batch=4)
    >>> [epoch.stage for epoch in train(model, images, torch.arange(8) % 2, settings, progress=False)]
    ['warm-up', 'projection', 'last layer']

    Args:
        model: A ProtoPNet, which is trained in place; in ``DataParallel``, the one inside it.
        images: Training images, pixel values from 0 to 1.
        labels: Their class numbers, of any integer type.
        settings: Epochs, losses and learning rates; the defaults if None.
        held_out: Images and labels that are only measured on. Choose settings by them, and report on others.
        sources: Mask of the images whose patches prototypes may become; all if None. The others are trained on only.
        augment: Function that augments a batch before a step, given a generator; projections and fits see the images
            as they are.
        checkpoint: File to resume from, if it is there, and to write after each epoch.
        progress: Whether to show a progress bar.
        on_epoch: Function that is called with the measurements of each epoch.

    Returns:
        The measurements of each epoch, projection and fit, in order.

    Raises:
        ValueError: if images, labels or sources are not what is expected, a loss is not finite, the checkpoint is of
            another training, or several processes are to train one network.
        TypeError: if labels are not integers, ``sources`` is not a mask, or the network is not a ProtoPNet.
        FileNotFoundError: if the checkpoint has no folder.
    """
    trainer = Trainer(
        model, images, labels, settings or Settings(), held_out=held_out, sources=sources, augment=augment
    )
    trainer.run(checkpoint=checkpoint, progress=progress, on_epoch=on_epoch)
    return trainer.history


def _numbers(sources: Bool[Tensor, "n"] | None, images: int) -> Tensor:
    """Return the numbers of the images that a mask names; all of them without a mask."""
    if sources is None:
        return torch.arange(images)
    if sources.dtype != torch.bool:
        raise TypeError(f"sources is a mask of the images, of type torch.bool; got {sources.dtype}")
    if sources.shape != (images,):
        raise ValueError(
            f"sources names {tuple(sources.shape)} images, but there are {images}: give one value for each"
        )
    return sources.cpu().nonzero().flatten()


class Trainer:
    """Train a network step by step, so that the training can be stopped and resumed; arguments as for ``train``.

    Attributes:
        history: The measurements of each epoch.
    """

    def __init__(
        self,
        model: nn.Module,
        images: Float[Tensor, "n c H W"],
        labels: Labels,
        settings: Settings,
        *,
        held_out: tuple[Tensor, Tensor | np.ndarray | Sequence[int]] | None = None,
        sources: Bool[Tensor, "n"] | None = None,
        augment: Augment | None = None,
    ) -> None:
        if isinstance(model, nn.parallel.DistributedDataParallel) and dist.get_world_size() > 1:
            raise ValueError(
                "a training runs in one process, and would not be shared: train model.module in one of them"
            )
        model = inside(model)
        check_images(model, images)
        if held_out is not None:
            check_images(model, held_out[0])
            held_out = held_out[0], check_labels(model, *held_out)
        self.model, self.images, self.labels = model, images, check_labels(model, images, labels)
        self.settings, self.held_out, self.augment = settings, held_out, augment
        self.sources = _numbers(sources, len(images))
        if len(images) < settings.batch:
            raise ValueError(
                f"{len(images)} images are less than one batch of {settings.batch}: give more, or a smaller batch"
            )
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.history: list[Epoch] = []
        self.optimizer: torch.optim.Adam | None = None
        self._start = fingerprints.fingerprint(model)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(settings.seed)
            self.classifier = TopKClassifier(model)
        self._parts = nn.ModuleDict({"network": model, "head": self.classifier.head})

    def run(
        self,
        *,
        checkpoint: str | Path | None = None,
        progress: bool = True,
        on_epoch: Callable[[Epoch], object] | None = None,
    ) -> None:
        """Go through the plan, from where the checkpoint stands; arguments as for ``train``."""
        if checkpoint is not None:
            storage.check_folder(checkpoint)
            if Path(checkpoint).exists():
                self.resume(checkpoint)
        plan, done = self.settings.plan(), len(self.history)
        with tqdm(total=len(plan), initial=done, desc="ProtoPNet", disable=not progress, leave=False) as bar:
            while len(self.history) < len(plan):
                bar.set_postfix_str(plan[len(self.history)][0])
                epoch = self.step()
                bar.update()
                if checkpoint is not None:
                    self.save(checkpoint)
                if on_epoch is not None:
                    on_epoch(epoch)
        self.model.eval()

    def step(self) -> Epoch:
        """Do the next epoch, projection or fit of the plan."""
        stage, epoch, epochs = self.settings.plan()[len(self.history)]
        if stage in TRAINED:
            if epoch == 0 or self.optimizer is None:
                self.optimizer = self._begin(stage)
            measured = self._epoch(self.optimizer, stage, epoch, epochs)
        else:
            self._project_or_fit(stage)
            measured = Epoch(stage, accuracy=accuracy(self.model, self.images, self.labels))
        if self.held_out is not None:
            classifier = self.classifier if stage == FEATURES else self.model
            measured = measured._replace(held_out=accuracy(classifier, *self.held_out))
        self.history.append(measured)
        return measured

    def save(self, path: str | Path) -> None:
        """Write a checkpoint as a whole or not at all."""
        tensors = {f"model.{name}": value for name, value in fingerprints.state(self._parts).items()}
        if self.optimizer is not None:
            names = {id(x): fingerprints.plain_name(self._parts, name) for name, x in self._parts.named_parameters()}
            for parameter, state in self.optimizer.state.items():
                tensors |= {f"adam.{names[id(parameter)]}.{key}": value for key, value in state.items()}
        projected = None
        if (origin := self.model.provenance) is not None:
            tensors |= {f"origin.{name}": value for name, value in origin.tensors().items()}
            projected = {"field": origin.field, "embedding": origin.embedding}
        tensors["generator"] = self.generator.get_state()
        tensors["history"] = torch.tensor([epoch[1:] for epoch in self.history], dtype=torch.float64)
        state = {"stages": [epoch.stage for epoch in self.history], "projected": projected}
        storage.write(path, KIND, self._identity() | state, tensors)

    def resume(self, path: str | Path) -> None:
        """Go back to the state of a checkpoint.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is damaged, or of a training with another network, other settings or images.
        """
        description, tensors = storage.read(path, KIND)
        for name, value in self._identity().items():
            if description.get(name) != value:
                there = description.get(name)
                what = f"{name}={there}, not {value}" if name in asdict(self.settings) else f"another {name}"
                raise ValueError(f"{path} is of a training with {what}: name another checkpoint, or remove this one")
        try:
            self._restore(description, tensors)
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is no whole checkpoint ({error}): remove it and start again") from None

    def _restore(self, description: dict, tensors: dict[str, Tensor]) -> None:
        """Take over weights, history, Adam's moments, provenance and random state from a checkpoint."""
        fingerprints.load_state(self._parts, part(tensors, "model."))
        rows = zip(description["stages"], tensors["history"].tolist(), strict=True)
        self.history = [Epoch(stage, *row) for stage, row in rows]
        if self.history and self.history[-1].stage in TRAINED:
            self.optimizer = self._optimizer(self.history[-1].stage)
            for name, parameter in self._parts.named_parameters():
                if moments := part(tensors, f"adam.{fingerprints.plain_name(self._parts, name)}."):
                    self.optimizer.state[parameter] = moments
        origin = part(tensors, "origin.")
        self.model.provenance = provenance(origin, description["projected"]) if origin else None
        self.generator.set_state(tensors["generator"])

    def _identity(self) -> dict:
        """Return what a checkpoint must share with this training."""
        return asdict(self.settings) | {"network": self._start, "set of images": self._fingerprint}

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256(self.images.cpu().contiguous().numpy().data)
        digest.update(self.labels.cpu().contiguous().numpy().data)
        digest.update(self.sources.numpy().data)
        return f"{tuple(self.images.shape)} {digest.hexdigest()}"

    def _project_or_fit(self, stage: str) -> None:
        s = self.settings
        if stage == PROJECTION:
            images, labels = self._possible_patches()
            project(self.model, images, labels, ids=self.sources, batch=s.batch)
        else:
            fit_last_layer(self.model, self.images, self.labels, l1=s.l1, ridge=s.ridge, batch=s.batch)

    def _begin(self, stage: str) -> torch.optim.Adam:
        """Initialise the prototypes, if they have not been trained, and make the optimizer of a stage."""
        if stage != FEATURES and not {WARM, JOINT} & {earlier.stage for earlier in self.history}:
            initialise_prototypes(self.model, *self._possible_patches(), self.generator)
        return self._optimizer(stage)

    def _possible_patches(self) -> tuple[Tensor, Tensor]:
        """Return the images whose patches prototypes may become, and their labels."""
        if len(self.sources) == len(self.images):
            return self.images, self.labels
        return self.images[self.sources], self.labels[self.sources]

    def _optimizer(self, stage: str) -> torch.optim.Adam:
        model, s = self.model, self.settings
        if stage == FEATURES:
            parts = (model.features, model.add_on, self.classifier.head)
            groups = [{"params": [p for part in parts for p in part.parameters()], "lr": s.lr, "weight_decay": s.decay}]
        else:
            groups = [
                {"params": list(model.add_on.parameters()), "lr": s.lr, "weight_decay": s.decay},
                {"params": [model.prototypes], "lr": s.lr},
            ]
        if stage == JOINT:
            groups.append({"params": list(model.features.parameters()), "lr": s.feature_lr, "weight_decay": s.decay})
        for group in groups:
            group["first"] = group["lr"]
        return torch.optim.Adam(groups)

    def _epoch(self, optimizer: torch.optim.Adam, stage: str, epoch: int, epochs: int) -> Epoch:
        """Train on all images once, and return the means over the batches."""
        model, batch, device = self.model, self.settings.batch, self.model.prototypes.device
        order = torch.randperm(len(self.images), generator=self.generator)
        batches = order[: len(order) // batch * batch].view(-1, batch)
        measured = []
        model.provenance = None  # the prototypes leave their patches
        with _training(model, stage):
            for i, index in enumerate(batches):
                _anneal(optimizer, (epoch + i / len(batches)) / epochs)
                images, labels = self.images[index], self.labels[index].to(device)
                if self.augment is not None:
                    images = self.augment(images, self.generator)
                loss, terms, right = self._loss(stage, images.to(device), labels)
                if not torch.isfinite(loss):
                    raise ValueError(f"{stage}, epoch {epoch + 1}: the loss is {loss.item()}; try a smaller lr")
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                measured.append(torch.stack([*terms, right]).detach().cpu().double())
        return Epoch(stage, *torch.stack(measured).mean(0).tolist())

    def _loss(self, stage: str, images: Tensor, labels: Tensor) -> tuple[Tensor, Losses, Tensor]:
        """Compute what a stage minimises, the terms of it, and the accuracy."""
        if stage == FEATURES:
            terms, right = classifier_loss(self.classifier, images, labels)
            return terms.cross_entropy, terms, right
        terms, right = losses(self.model, images, labels)
        return terms.total(self.settings), terms, right


def _anneal(optimizer: torch.optim.Adam, done: float) -> None:
    """Set the learning rates for a share of the stage that is done: a cosine from the first value to 0."""
    for group in optimizer.param_groups:
        group["lr"] = group["first"] * 0.5 * (1 + math.cos(math.pi * done))


@contextmanager
def _training(model: ProtoPNet, stage: str) -> Iterator[None]:
    """Put what a stage trains into train mode, the rest into eval mode without gradients, and all back at the end."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    model.add_on.train()
    model.features.train(stage != WARM)
    idle = [model.last_layer, *([model.features] if stage == WARM else [])]
    frozen = [parameter for part in idle for parameter in part.parameters() if parameter.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        for parameter in frozen:
            parameter.requires_grad_(True)
