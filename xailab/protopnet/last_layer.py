r"""Fit the last layer alone by FISTA, as scikit-learn cannot: its L1 penalty spares the connections to the own class.

This is a convex problem on similarities that are computed once (Section 2.2, stage 3):

    mean cross-entropy(W g, y)  +  l1 sum |W_other|  +  ridge / 2 sum W^2

with g the similarities of frozen prototypes and W_other the connections to other classes. scikit-learn's
LogisticRegression penalises all weights alike. The last term is ours: where the classes can be separated, the weights
would grow for ever without it. FISTA takes proximal gradient steps with momentum (Beck, Teboulle, "A Fast Iterative
Shrinkage-Thresholding Algorithm", SIAM 2009). The momentum starts anew where the objective would rise (O'Donoghue,
Candes, arXiv 1204.3982). All is computed in double precision.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from xailab.hooks import eval_mode
from xailab.protopnet.network import Labels, ProtoPNet, of_a_protopnet
from xailab.protopnet.projection import nearest

L1, RIDGE = 1e-4, 1e-3


class Fit(NamedTuple):
    """The end of a fit of the last layer.

    Attributes:
        loss: Value of the objective.
        steps: Number of steps taken.
        change: Largest change of a weight in the last step, as a share of the largest weight.
    """

    loss: float
    steps: int
    change: float


@of_a_protopnet
def fit_last_layer(
    model: ProtoPNet,
    images: Float[Tensor, "n c H W"],
    labels: Labels,
    *,
    l1: float = L1,
    ridge: float = RIDGE,
    steps: int = 5000,
    batch: int = 64,
) -> Fit:
    """Fit the last layer; features, prototypes and batch-norm statistics stay as they are.

    >>> from xailab.protopnet import SmallFeatures
    >>> model = ProtoPNet(SmallFeatures(), 2, dimensions=8)
    >>> fit_last_layer(model, torch.rand(8, 1, 64, 64), torch.arange(8) % 2).change <= 1e-7
    True

    Args:
        model: The network; its similarities are computed in eval mode.
        images: Training images, pixel values from 0 to 1.
        labels: Their classes.
        l1: Weight of the absolute connections to other classes.
        ridge: Weight of all squared connections, above 0.
        steps: Largest number of steps.
        batch: Number of images in a forward pass.

    Raises:
        ValueError: if a weight is out of its range, or images or labels are not what the network takes.
    """
    if not l1 >= 0 or not ridge > 0:
        raise ValueError(f"l1={l1}, ridge={ridge}: expected from 0, and above 0")
    with eval_mode(model), torch.no_grad():
        found = nearest(model, images, labels, batch=batch)
        similarities = model.distance_to_similarity(found.distances)
    weight, fit = minimise(similarities.double(), found.labels, model.prototype_class_identity, l1, ridge, steps)
    with torch.no_grad():
        model.last_layer.weight.copy_(weight)
    return fit


def objective(
    weight: Float[Tensor, "classes p"],
    similarities: Float[Tensor, "n p"],
    labels: Int[Tensor, "n"],
    own: Bool[Tensor, "classes p"],
    l1: float,
    ridge: float,
) -> Float[Tensor, ""]:
    """Compute the function that is minimised."""
    smooth = F.cross_entropy(similarities @ weight.mT, labels) + ridge / 2 * weight.square().sum()
    return smooth + l1 * weight[~own].abs().sum()


@torch.no_grad()
def minimise(
    similarities: Float[Tensor, "n p"],
    labels: Int[Tensor, "n"],
    own: Bool[Tensor, "classes p"],
    l1: float = L1,
    ridge: float = RIDGE,
    steps: int = 5000,
    tolerance: float = 1e-7,
) -> tuple[Float[Tensor, "classes p"], Fit]:
    """Find the weights with the smallest objective, which are unique."""
    truth = F.one_hot(labels, len(own)).to(similarities)
    # the curvature of the softmax is at most 1/2
    bound = 0.5 * float(torch.linalg.matrix_norm(similarities, 2)) ** 2 / len(similarities) + ridge
    shrink = (l1 / bound) * (~own).to(similarities)
    weight = ahead = torch.zeros_like(shrink)
    momentum, change, step = 1.0, torch.inf, 0
    while step < steps and change > tolerance:
        step += 1
        error = (similarities @ ahead.mT).softmax(1) - truth
        moved = ahead - (error.mT @ similarities / len(similarities) + ridge * ahead) / bound
        new = moved.sign() * (moved.abs() - shrink).clamp(min=0)
        if float(((ahead - new) * (new - weight)).sum()) > 0:
            momentum = 1.0
        following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead = new + (momentum - 1) / following * (new - weight)
        change = float((new - weight).abs().max() / new.abs().max().clamp(min=1e-12))
        weight, momentum = new, following
    loss = float(objective(weight, similarities, labels, own, l1, ridge))
    return weight, Fit(loss, step, change)
