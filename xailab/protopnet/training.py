r"""Training in stages: features, warm-up, joint, projection, last layer, and once more (Section 2.2).

    L = cross-entropy + 0.8 cluster - 0.08 separation + 1e-4 sum |W_other|

cluster: mean over the images of the smallest squared distance to a prototype of their own class; separation: to one of
another class. Both weights are those for 128 dimensions. Warm-up trains add-on layers and prototypes alone. What a
stage does not train stays in eval mode, so that its batch-norm statistics stay too.

Two further terms, off unless asked for, keep the prototypes of a class from all becoming one patch:

    + a anchor + b crowding

anchor: mean over the prototypes of the smallest squared distance to a patch of their class in the batch (R1 of Li et
al., AAAI 2018, arXiv 1710.04806), so that each stays near something to become; crowding: mean over pairs of prototypes
of one class of what their squared distance lacks to 1.

The paper starts from features that ImageNet has taught. Features from scratch need a stage of their own in front, with
the add-on layers: they learn to classify with a linear layer on what the brightest cells of each dimension have in the
mean, so that the evidence stays where it is seen. Then prototypes start at patches that other classes have nothing
like.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn
from tqdm import tqdm

from xailab import fingerprints, storage
from xailab.hooks import evaluating, unwrapped
from xailab.protopnet.files import part, provenance
from xailab.protopnet.last_layer import L1, RIDGE, fit_last_layer
from xailab.protopnet.network import Labels, ProtoPNet, check_images, check_labels, inside, of_a_protopnet
from xailab.protopnet.projection import project

Augment = Callable[[Tensor, Generator], Tensor]
FEATURES, WARM, JOINT, PROJECTION, LAST = "features", "warm-up", "joint", "projection", "last layer"
BRIGHTEST = 8  # cells
TRAINED = (FEATURES, WARM, JOINT)
KIND = "ProtoPNet checkpoint"
MEASURES = ("cross_entropy", "cluster", "separation", "l1", "anchor", "crowding", "accuracy", "held_out")


class Losses(NamedTuple):
    """The terms of the loss, before they are weighed.

    Attributes:
        cross_entropy: Of the logits.
        cluster: Smallest squared distance to a prototype of the own class.
        separation: Smallest squared distance to a prototype of another class.
        l1: Sum of the absolute connections to other classes.
        anchor: Smallest squared distance of a prototype to a patch of its class.
        crowding: What the squared distance of two prototypes of one class lacks to 1.
    """

    cross_entropy: Float[Tensor, ""]
    cluster: Float[Tensor, ""]
    separation: Float[Tensor, ""]
    l1: Float[Tensor, ""]
    anchor: Float[Tensor, ""]
    crowding: Float[Tensor, ""]

    def total(self, settings: "Settings") -> Float[Tensor, ""]:
        """What is minimised."""
        return (
            self.cross_entropy
            + settings.cluster * self.cluster
            - settings.separation * self.separation
            + settings.l1 * self.l1
            + settings.anchor * self.anchor
            + settings.crowding * self.crowding
        )


class Epoch(NamedTuple):
    """What one epoch, projection or fit measured.

    Attributes:
        stage: "features", "warm-up", "joint", "projection" or "last layer".
        cross_entropy, cluster, separation, l1, anchor, crowding: Means over the epoch's batches; NaN where a stage has
            none.
        accuracy: Share of right training images; of batches as they were trained on, or of all after projections and
            fits.
        held_out: Share of right held-out images, NaN where there are none.
    """

    stage: str
    cross_entropy: float
    cluster: float
    separation: float
    l1: float
    anchor: float
    crowding: float
    accuracy: float
    held_out: float


@dataclass(frozen=True)
class Settings:
    """What decides a training's course, next to the images.

    Attributes:
        features: Epochs for features from scratch; 0 for those that are trained already.
        warm, joint, again: Epochs of the warm-up, of the joint training, and of that after the first projection.
        batch: Images a step.
        rate: Of Adam for add-on layers and prototypes; it falls to 0 along a cosine in each stage.
        feature_rate: For the features in joint training (the paper: 1e-4).
        decay: Weight decay of features and add-on layers.
        cluster, separation, l1, anchor, crowding: Weights of the losses.
        ridge: See ``fit_last_layer``.
        seed: Of order, augmentation and first prototypes.

    Raises:
        ValueError: if one is out of its range.
    """

    features: int = 6
    warm: int = 2
    joint: int = 6
    again: int = 4
    batch: int = 64
    rate: float = 3e-3
    feature_rate: float = 1e-3
    decay: float = 1e-3
    cluster: float = 0.8
    separation: float = 0.08
    l1: float = L1
    anchor: float = 0.0
    crowding: float = 0.0
    ridge: float = RIDGE
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.features, self.warm, self.joint, self.again) < 0 or self.batch < 2:
            raise ValueError(
                f"features={self.features}, warm={self.warm}, joint={self.joint}, again={self.again}, "
                f"batch={self.batch}: expected epochs from 0, and a batch from 2"
            )
        for name in ("rate", "feature_rate", "ridge"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name}={getattr(self, name)}: expected a number above 0")
        for name in ("decay", "cluster", "separation", "l1", "anchor", "crowding"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}={getattr(self, name)}: expected a number from 0")

    def plan(self) -> list[tuple[str, int, int]]:
        """Every step of the training in order: (stage, epoch within it, epochs of it)."""
        steps = [(FEATURES, i, self.features) for i in range(self.features)]
        steps += [(WARM, i, self.warm) for i in range(self.warm)]
        steps += [(JOINT, i, self.joint) for i in range(self.joint)]
        steps += [(PROJECTION, 0, 1), (LAST, 0, 1)]
        if self.again:
            steps += [(JOINT, i, self.again) for i in range(self.again)]
            steps += [(PROJECTION, 0, 1), (LAST, 0, 1)]
        return steps


def train(
    model: nn.Module,
    images: Float[Tensor, "n c H W"],
    labels: Labels,
    settings: Settings | None = None,
    *,
    held_out: tuple[Tensor, Tensor | np.ndarray | Sequence[int]] | None = None,
    augment: Augment | None = None,
    checkpoint: str | Path | None = None,
    progress: bool = True,
    on_epoch: Callable[[Epoch], object] | None = None,
) -> list[Epoch]:
    """Train a network through all stages; it ends projected, with its last layer fitted.

    Args:
        model: A ProtoPNet, which is trained in place; in ``DataParallel``, the one inside it.
        images, labels: Training images, pixel values from 0 to 1, and class numbers of any integer type.
        settings: How to train.
        held_out: Images and labels that are only measured on. Choose settings by them, and report on others.
        augment: Makes of a batch what is trained on; projections and fits always see the images as they are.
        checkpoint: A file to go on from, if it is there, and to write after each epoch.
        progress: Show a progress bar.
        on_epoch: Called with what each epoch measured.

    Returns:
        What each epoch, projection and fit measured, in order.

    Raises:
        ValueError: if images or labels are not what the network takes, a loss is not finite, the checkpoint is of
            another training, or several processes are to train one network.
        TypeError: if labels are no integers, or the network is no ProtoPNet.
        FileNotFoundError: if the checkpoint has no folder.
    """
    trainer = Trainer(model, images, labels, settings or Settings(), held_out=held_out, augment=augment)
    trainer.run(checkpoint=checkpoint, progress=progress, on_epoch=on_epoch)
    return trainer.history


class Trainer:
    """A training that can be stopped after any epoch and gone on with; arguments as for ``train``.

    Attributes:
        history: What each epoch measured.
    """

    def __init__(
        self,
        model: nn.Module,
        images: Float[Tensor, "n c H W"],
        labels: Labels,
        settings: Settings,
        *,
        held_out: tuple[Tensor, Tensor | np.ndarray | Sequence[int]] | None = None,
        augment: Augment | None = None,
    ) -> None:
        if isinstance(model, nn.parallel.DistributedDataParallel) and dist.get_world_size() > 1:
            raise ValueError(
                "a training runs in one process, and would not be shared: train model.module in one of them"
            )
        model = inside(model)
        check_images(model, images)
        labels = check_labels(model, images, labels)
        if held_out is not None:
            check_images(model, held_out[0])
            held_out = held_out[0], check_labels(model, *held_out)
        if len(images) < settings.batch:
            raise ValueError(
                f"{len(images)} images are less than one batch of {settings.batch}: give more, or a smaller batch"
            )
        self.model, self.images, self.labels, self.settings = model, images, labels, settings
        self.held_out, self.augment = held_out, augment
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.history: list[Epoch] = []
        self.optimiser: torch.optim.Optimizer | None = None
        self._start = fingerprints.fingerprint(model)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(settings.seed)
            self.plain = Plain(model)
        self._parts = nn.ModuleDict({"network": model, "head": self.plain.head})

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
        plan = self.settings.plan()
        with tqdm(
            total=len(plan), initial=len(self.history), desc="ProtoPNet", disable=not progress, leave=False
        ) as bar:
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
        """The next epoch, projection or fit of the plan."""
        stage, epoch, epochs = self.settings.plan()[len(self.history)]
        if stage in TRAINED:
            if epoch == 0:
                if stage != FEATURES and not set(TRAINED[1:]) & {earlier.stage for earlier in self.history}:
                    initialise_prototypes(self.model, self.images, self.labels, self.generator)
                self.optimiser = self._optimiser(stage)
            measured = self._epoch(stage, epoch, epochs)
        else:
            if stage == PROJECTION:
                project(self.model, self.images, self.labels, batch=self.settings.batch)
            else:
                options = {"l1": self.settings.l1, "ridge": self.settings.ridge, "batch": self.settings.batch}
                fit_last_layer(self.model, self.images, self.labels, **options)
            measured = (math.nan,) * 6 + (accuracy(self.model, self.images, self.labels),)
        held_out = math.nan
        if self.held_out is not None:
            held_out = accuracy(self.plain if stage == FEATURES else self.model, *self.held_out)
        self.history.append(Epoch(stage, *measured, held_out))
        return self.history[-1]

    def save(self, path: str | Path) -> None:
        """Write a checkpoint as a whole or not at all."""
        tensors = {f"model.{name}": value for name, value in fingerprints.state(self._parts).items()}
        names = {id(x): fingerprints.plain_name(self._parts, name) for name, x in self._parts.named_parameters()}
        if self.optimiser is not None:
            for parameter, state in self.optimiser.state.items():
                tensors |= {f"adam.{names[id(parameter)]}.{key}": value for key, value in state.items()}
        if (origin := self.model.provenance) is not None:
            tensors |= {f"origin.{name}": value for name, value in origin.tensors().items()}
        tensors["generator"] = self.generator.get_state()
        tensors["history"] = torch.tensor([epoch[1:] for epoch in self.history], dtype=torch.float64).view(
            -1, len(MEASURES)
        )
        told = None if origin is None else {"field": origin.field, "embedding": origin.embedding}
        state = {"stages": [epoch.stage for epoch in self.history], "projected": told}
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
            fingerprints.load_state(self._parts, part(tensors, "model."))
            self.history = [
                Epoch(stage, *row)
                for stage, row in zip(description["stages"], tensors["history"].tolist(), strict=True)
            ]
            if self.history and self.history[-1].stage in TRAINED:
                self.optimiser = self._optimiser(self.history[-1].stage)
                for name, parameter in self._parts.named_parameters():
                    if moments := part(tensors, f"adam.{fingerprints.plain_name(self._parts, name)}."):
                        self.optimiser.state[parameter] = moments
            origin = part(tensors, "origin.")
            self.model.provenance = provenance(origin, description["projected"]) if origin else None
            self.generator.set_state(tensors["generator"])
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is no whole checkpoint ({error}): remove it and start again") from None

    def _identity(self) -> dict:
        """What a checkpoint must share with this training."""
        return asdict(self.settings) | {"network": self._start, "set of images": self._fingerprint}

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256(self.images.cpu().contiguous().numpy())
        digest.update(self.labels.cpu().contiguous().numpy())
        return f"{tuple(self.images.shape)} {digest.hexdigest()}"

    def _optimiser(self, stage: str) -> torch.optim.Optimizer:
        model, s = self.model, self.settings
        if stage == FEATURES:
            parts = (model.features, model.add_on, self.plain.head)
            groups = [
                {"params": [p for part in parts for p in part.parameters()], "lr": s.rate, "weight_decay": s.decay}
            ]
        else:
            groups = [
                {"params": list(model.add_on.parameters()), "lr": s.rate, "weight_decay": s.decay},
                {"params": [model.prototypes], "lr": s.rate},
            ]
        if stage == JOINT:
            groups.append({"params": list(model.features.parameters()), "lr": s.feature_rate, "weight_decay": s.decay})
        for group in groups:
            group["first"] = group["lr"]
        return torch.optim.Adam(groups)

    def _epoch(self, stage: str, epoch: int, epochs: int) -> tuple[float, ...]:
        model, s, device = self.model, self.settings, self.model.prototypes.device
        order = torch.randperm(len(self.images), generator=self.generator)
        batches = order[: len(order) // s.batch * s.batch].view(-1, s.batch)
        measured = []
        model.provenance = None  # the prototypes leave their patches
        with _training(model, stage):
            for i, index in enumerate(batches):
                self._anneal((epoch + i / len(batches)) / epochs)
                images, labels = self.images[index], self.labels[index].to(device)
                if self.augment is not None:
                    images = self.augment(images, self.generator)
                terms, right = (plain_loss if stage == FEATURES else losses)(
                    self.plain if stage == FEATURES else model, images.to(device), labels
                )
                loss = terms.cross_entropy if stage == FEATURES else terms.total(s)
                if not torch.isfinite(loss):
                    raise ValueError(f"{stage}, epoch {epoch + 1}: the loss is {loss.item()}; try a smaller rate")
                self.optimiser.zero_grad()
                loss.backward()
                self.optimiser.step()
                measured.append(torch.stack([*terms, right]).detach().cpu().double())
        return tuple(torch.stack(measured).mean(0).tolist())

    def _anneal(self, done: float) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = group["first"] * 0.5 * (1 + math.cos(math.pi * done))


@of_a_protopnet
def losses(model: ProtoPNet, images: Float[Tensor, "n c H W"], labels: Labels) -> tuple[Losses, Float[Tensor, ""]]:
    """The terms of the loss on a batch, and the share of right images."""
    labels = check_labels(model, images, labels).to(model.prototypes.device)
    least = model.distances(model.embed(images)).flatten(2).amin(2)
    logits = model.last_layer(model.similar(least))
    foreign = model.prototype_classes != labels[:, None]
    anchored = least.masked_fill(foreign, torch.inf).amin(0)  # infinite for classes that the batch lacks
    terms = Losses(
        F.cross_entropy(logits, labels),
        # infinity, not 0, hides the others: the smallest of d * mask would always be 0
        least.masked_fill(foreign, torch.inf).amin(1).mean(),
        least.masked_fill(~foreign, torch.inf).amin(1).mean(),
        model.last_layer.weight[~model.own].abs().sum(),
        anchored[torch.isfinite(anchored)].mean(),
        crowding(model),
    )
    return terms, (logits.argmax(1) == labels).float().mean()


def crowding(model: ProtoPNet) -> Float[Tensor, ""]:
    """Mean over pairs of prototypes of one class of max(0, 1 - |p - q|^2); 0 where no class has two."""
    p, owners = model.prototypes, model.prototype_classes
    pairs = torch.combinations(torch.arange(len(p), device=p.device))
    one, other = pairs[owners[pairs[:, 0]] == owners[pairs[:, 1]]].unbind(1)
    lacking = (1 - (p[one] - p[other]).square().sum(1)).clamp(min=0)
    return lacking.mean() if len(lacking) else p.new_zeros(())


def plain_loss(
    model: "Plain", images: Float[Tensor, "n c H W"], labels: Int[Tensor, "n"]
) -> tuple[Losses, Float[Tensor, ""]]:
    """The same for the features' own stage, which has no prototypes yet."""
    logits = model(images)
    none = logits.new_tensor(math.nan)
    return Losses(F.cross_entropy(logits, labels), *[none] * 5), (logits.argmax(1) == labels).float().mean()


class Plain(nn.Module):
    """The latent cells of a network, and a linear layer on the mean of the brightest cells of each dimension."""

    def __init__(self, model: ProtoPNet) -> None:
        super().__init__()
        self.network = model
        self.head = nn.Linear(model.prototypes.shape[1], len(model.classes)).to(model.prototypes)

    def forward(self, images: Float[Tensor, "n c H W"]) -> Float[Tensor, "n classes"]:
        """Score each class."""
        cells = self.network.embed(images).flatten(2)
        return self.head(cells.topk(min(BRIGHTEST, cells.shape[2]), dim=2).values.mean(2))


@torch.no_grad()
def accuracy(model: nn.Module, images: Float[Tensor, "n c H W"], labels: Labels, *, batch: int = 256) -> float:
    """Share of images whose highest logit is that of their class, in eval mode."""
    model, labels = unwrapped(model), torch.as_tensor(labels).long()
    device = next(model.parameters()).device
    with evaluating(model):
        pairs = zip(images.split(batch), labels.split(batch), strict=True)
        right = sum(int((model(some.to(device)).argmax(1).cpu() == classes.cpu()).sum()) for some, classes in pairs)
    return right / len(images)


@torch.no_grad()
def initialise_prototypes(
    model: ProtoPNet,
    images: Float[Tensor, "n c H W"],
    labels: Int[Tensor, "n"],
    generator: Generator,
    *,
    sample: int = 64,
) -> None:
    """Start each prototype at a patch of its own class that the other classes have nothing like.

    Of ``sample`` random images of the class, each gives the latent cell that is farthest from its nearest cell in as
    many images of other classes. Of these cells, the first prototype takes the farthest, and each further one that
    farthest from those taken.

    Raises:
        ValueError: if a class has no image.
    """
    device, model.provenance = model.prototypes.device, None
    owners = model.prototype_classes.unique().tolist()
    missing = [model.classes[owner] for owner in owners if not (labels == owner).any()]
    if missing:
        raise ValueError(f"no training image of class {', '.join(missing)}: give some of each class")
    with evaluating(model):
        for owner in owners:
            cells = []
            for some in (labels == owner, labels != owner):
                which = some.nonzero().flatten()
                chosen = which[torch.randperm(len(which), generator=generator)[:sample]]
                cells.append(model.embed(images[chosen].to(device)).flatten(2).mT)
            own, others = cells
            foreign = torch.stack([torch.cdist(each, others.flatten(0, 1)).amin(1) for each in own])
            far, at = foreign.max(1)
            candidates = own[torch.arange(len(own)), at]
            for j in (model.prototype_classes == owner).nonzero().flatten().tolist():
                best = int(far.argmax())
                model.prototypes[j] = candidates[best]
                far = torch.minimum(far, (candidates - candidates[best]).norm(dim=1))


@contextmanager
def _training(model: ProtoPNet, stage: str) -> Iterator[None]:
    """Train mode for what a stage trains, eval mode and no gradient for the rest, then back as it was."""
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
