"""The terms of the loss in joint training and warm-up, and the accuracy.

    L = cross-entropy + 0.8 cluster - 0.08 separation + 1e-4 sum |W_other|            (Section 2.2, equation 1)

cluster: mean over the images of the smallest squared distance to a prototype of their own class; separation: to one of
another class. Both weights are those for 128 dimensions. Two further terms, of weight 0 unless asked for, keep the
prototypes of a class from all becoming one patch:

    + a prototype_to_patch + b diversity

prototype_to_patch: mean over the prototypes of the smallest squared distance to a patch of their class in the batch (R1
of Li et al., AAAI 2018, arXiv 1710.04806). It keeps each prototype near a patch that it can become. diversity: mean
over pairs of prototypes p, q of one class of max(0, 1 - |p - q|^2).
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from xailab.hooks import eval_mode, unwrapped
from xailab.protopnet.network import Labels, ProtoPNet, check_labels, of_a_protopnet
from xailab.protopnet.settings import Settings


class Losses(NamedTuple):
    """The terms of the loss, before they are weighted.

    Attributes:
        cross_entropy: Cross-entropy of the logits.
        cluster: Smallest squared distance to a prototype of the own class.
        separation: Smallest squared distance to a prototype of another class.
        l1: Sum of the absolute connections to other classes.
        prototype_to_patch: Smallest squared distance of a prototype to a patch of its class.
        diversity: Part of 1 that the squared distance of two prototypes of one class falls short of.
    """

    cross_entropy: Float[Tensor, ""]
    cluster: Float[Tensor, ""]
    separation: Float[Tensor, ""]
    l1: Float[Tensor, ""]
    prototype_to_patch: Float[Tensor, ""]
    diversity: Float[Tensor, ""]

    def total(self, settings: Settings) -> Float[Tensor, ""]:
        """Compute the weighted sum, which is minimised."""
        return (
            self.cross_entropy
            + settings.cluster * self.cluster
            - settings.separation * self.separation
            + settings.l1 * self.l1
            + settings.prototype_to_patch * self.prototype_to_patch
            + settings.diversity * self.diversity
        )


@of_a_protopnet
def losses(model: ProtoPNet, images: Float[Tensor, "n c H W"], labels: Labels) -> tuple[Losses, Float[Tensor, ""]]:
    """Compute the terms of the loss on a batch, and the share of images that are classified correctly."""
    labels = check_labels(model, images, labels).to(model.prototypes.device)
    nearest = model.distances(model.embed(images)).flatten(2).amin(2)
    logits = model.last_layer(model.distance_to_similarity(nearest))
    foreign = model.foreign(labels)
    # infinity, not 0, hides the others: the smallest of d * mask would always be 0
    own = nearest.masked_fill(foreign, torch.inf)
    other = nearest.masked_fill(~foreign, torch.inf)
    to_patch = own.amin(0)  # infinite for classes that the batch lacks
    terms = Losses(
        cross_entropy=F.cross_entropy(logits, labels),
        cluster=own.amin(1).mean(),
        separation=other.amin(1).mean(),
        l1=model.last_layer.weight[~model.prototype_class_identity].abs().sum(),
        prototype_to_patch=to_patch[torch.isfinite(to_patch)].mean(),
        diversity=diversity(model),
    )
    return terms, (logits.argmax(1) == labels).float().mean()


def diversity(model: ProtoPNet) -> Float[Tensor, ""]:
    """Compute the mean over pairs of prototypes of one class of max(0, 1 - |p - q|^2); 0 where no class has two."""
    p, owners = model.prototypes, model.prototype_classes
    pairs = torch.combinations(torch.arange(len(p), device=p.device))
    one, other = pairs[owners[pairs[:, 0]] == owners[pairs[:, 1]]].unbind(1)
    lacking = (1 - (p[one] - p[other]).square().sum(1)).clamp(min=0)
    return lacking.mean() if len(lacking) else p.new_zeros(())


@torch.no_grad()
def accuracy(model: nn.Module, images: Float[Tensor, "n c H W"], labels: Labels, *, batch: int = 256) -> float:
    """Compute the share of images whose highest logit is that of their class, in eval mode.

    >>> always_first = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> _ = always_first[1].weight.data.zero_(), always_first[1].bias.data.copy_(torch.tensor([1.0, 0.0]))
    >>> accuracy(always_first, torch.zeros(4, 1, 2, 2), [0, 0, 0, 1])
    0.75
    """
    model, labels = unwrapped(model), torch.as_tensor(labels).long()
    device = next(model.parameters()).device
    with eval_mode(model):
        pairs = zip(images.split(batch), labels.split(batch), strict=True)
        right = sum(int((model(some.to(device)).argmax(1).cpu() == classes.cpu()).sum()) for some, classes in pairs)
    return right / len(images)
