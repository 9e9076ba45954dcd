"""What a training without ImageNet features begins with; this stage is ours, the paper's features are trained already.

The features are first trained with a linear classifier on the mean of each channel's top-k activations, so that the
evidence stays where it is seen. Then the prototypes are initialised at patches far from every patch of other classes.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from xailab.hooks import eval_mode
from xailab.protopnet.losses import Losses
from xailab.protopnet.network import ProtoPNet

TOP = 8  # cells


class TopKClassifier(nn.Module):
    """Classify by a linear layer on the mean of each latent channel's top-k activations."""

    def __init__(self, model: ProtoPNet) -> None:
        super().__init__()
        self.network = model
        self.head = nn.Linear(model.prototypes.shape[1], len(model.classes)).to(model.prototypes)

    def forward(self, images: Float[Tensor, "n c H W"]) -> Float[Tensor, "n classes"]:
        """Score each class."""
        cells = self.network.embed(images).flatten(2)
        return self.head(cells.topk(min(TOP, cells.shape[2]), dim=2).values.mean(2))


def classifier_loss(
    classifier: TopKClassifier, images: Float[Tensor, "n c H W"], labels: Int[Tensor, "n"]
) -> tuple[Losses, Float[Tensor, ""]]:
    """Compute the cross-entropy (the other terms, which need prototypes, are NaN) and the accuracy on a batch."""
    logits = classifier(images)
    none = logits.new_tensor(math.nan)
    terms = Losses(F.cross_entropy(logits, labels), none, none, none, none, none)
    return terms, (logits.argmax(1) == labels).float().mean()


@torch.no_grad()
def initialise_prototypes(
    model: ProtoPNet,
    images: Float[Tensor, "n c H W"],
    labels: Int[Tensor, "n"],
    generator: Generator,
    *,
    sample: int = 64,
) -> None:
    """Start each prototype at a patch of its own class that is far from every patch of other classes.

    ``sample`` random images of the class give one candidate each: the latent cell that is farthest from its nearest
    cell in as many images of other classes. The first prototype takes the farthest candidate, each further one the
    candidate that is farthest from those and from the candidates taken.

    Raises:
        ValueError: if a class has no image.
    """
    device, model.provenance = model.prototypes.device, None
    owners = model.prototype_classes.unique().tolist()
    missing = [model.classes[owner] for owner in owners if not (labels == owner).any()]
    if missing:
        raise ValueError(f"no training image of class {', '.join(missing)}: give some of each class")
    with eval_mode(model):
        for owner in owners:
            own, others = (
                model.embed(images[_drawn(some, sample, generator)].to(device)).flatten(2).mT
                for some in (labels == owner, labels != owner)
            )
            foreign = torch.stack([torch.cdist(each, others.flatten(0, 1)).amin(1) for each in own])
            far, at = foreign.max(1)
            candidates = own[torch.arange(len(own)), at]
            for j in (model.prototype_classes == owner).nonzero().flatten().tolist():
                best = int(far.argmax())
                model.prototypes[j] = candidates[best]
                far = torch.minimum(far, (candidates - candidates[best]).norm(dim=1))


def _drawn(chosen: Tensor, count: int, generator: Generator) -> Tensor:
    """Draw at most so many of the indices at which a mask is true."""
    which = chosen.nonzero().flatten()
    return which[torch.randperm(len(which), generator=generator)[:count]]
