"""Which class is explained: the one meaning of ``target`` for every method, and the gradient of its score."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor, nn

from xailab.hooks import check_differentiable, evaluating, unwrapped

Classes = Integer[Tensor, "n"] | Integer[Tensor, "n k"] | Integer[np.ndarray, "n"] | Integer[np.ndarray, "n k"]
Target = int | np.integer | Sequence[int] | Sequence[Sequence[int]] | Classes | None


def resolve(target: Target, logits: Float[Tensor, "n classes"]) -> Int[Tensor, "n"] | Int[Tensor, "n k"]:
    """Turn a target into class numbers for each image of a batch.

    Args:
        target: One class for all images; one for each image; several for each image, shape (n, k); or None for each
            image's own top class.
        logits: What the network says, (n, classes).

    Returns:
        Class numbers of shape (n,), or (n, k) where several were asked for.

    Raises:
        TypeError: if a target is no whole number.
        ValueError: if there is no such class, or the number of targets is not the number of images.
    """
    n, classes = logits.shape
    if target is None:
        return logits.argmax(1)
    try:
        chosen = torch.as_tensor(target, device=logits.device)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"a target is a class number (int) or several, got {target!r}") from None
    if chosen.numel() and (chosen.is_floating_point() or chosen.is_complex() or chosen.dtype == torch.bool):
        raise TypeError(f"a target is a class number (int), got {chosen.dtype}")
    chosen = chosen.long()
    if chosen.ndim == 0:
        chosen = chosen.expand(n)
    if chosen.ndim > 2 or chosen.shape[0] != n or chosen.shape[-1] == 0 < n:
        raise ValueError(
            f"expected one class, {n} classes (one for each image) or shape ({n}, k); got shape {tuple(chosen.shape)}"
        )
    if chosen.numel() and (chosen.min() < 0 or chosen.max() >= classes):
        raise ValueError(f"class numbers go from 0 to {classes - 1}, got {sorted(set(chosen.flatten().tolist()))}")
    return chosen


def check_images(images) -> Tensor:
    """Return a batch of images, if it is one.

    Raises:
        TypeError: if it is no tensor of floating-point numbers.
        ValueError: if it has not four dimensions.
    """
    if not isinstance(images, Tensor) or not images.is_floating_point():
        kind = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(
            f"images are a floating-point tensor (n, channels, h, w), got {kind}: network.preprocess(picture) makes one"
        )
    if images.ndim != 4:
        raise ValueError(
            f"expected a batch of images (n, channels, h, w), got {tuple(images.shape)}: one is image[None]"
        )
    return images


def check_scores(model: nn.Module, scores) -> Float[Tensor, "n classes"]:
    """Return what a network put out, if it is finite scores (n, classes).

    Raises:
        TypeError: if it is no tensor.
        ValueError: if it has another shape, or a value that is NaN or infinite.
    """
    name = type(model).__name__
    if not isinstance(scores, Tensor):
        raise TypeError(
            f"{name} returns {type(scores).__name__}: wrap it in a module whose forward returns the scores (n, classes)"
        )
    if scores.ndim != 2:
        raise ValueError(f"expected scores of shape (n, classes) from {name}, got {tuple(scores.shape)}")
    if not torch.isfinite(scores).all():
        raise ValueError("the network's scores are NaN or infinite: look at its weights and its input first")
    return scores


def score_images(
    model: nn.Module, images: Float[Tensor, "n c h w"]
) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "n classes"]]:
    """Run a network in eval mode on copies of images, which its scores can then be differentiated for.

    Returns:
        The copies, which are leaves, and the scores, whatever grad mode surrounds the call.
    """
    check_differentiable(model)
    check_images(images)
    with torch.inference_mode(False), torch.enable_grad(), evaluating(model):
        images = images.detach().clone().requires_grad_()
        scores = unwrapped(model)(images.clone())  # a copy, since a network may work in place
    return images, check_scores(model, scores)


def class_gradients(
    scores: Float[Tensor, "n classes"],
    chosen: Int[Tensor, "n"] | Int[Tensor, "n k"],
    inputs: Sequence[Tensor],
    *,
    keep_graph: bool = False,
) -> Iterator[tuple[Tensor | None, ...]]:
    """Differentiate the chosen scores for tensors on their way: d scores[i, chosen[i]] / d input[i].

    Nothing is computed below the inputs, and no ``.grad`` is touched. The graph is freed with the last class, unless
    ``keep_graph`` asks for it.

    Yields:
        For each of the k chosen classes (one, if ``chosen`` has shape (n,)), a gradient for each input; None for one
        that the scores do not depend on.
    """
    if not scores.requires_grad:  # a network that is frozen, and depends on none of the inputs
        yield from [(None,) * len(inputs)] * (chosen.shape[1] if chosen.ndim == 2 else 1)
        return
    with torch.inference_mode(False), torch.enable_grad():
        columns = chosen.clone() if chosen.ndim == 2 else chosen[:, None].clone()
        totals = scores.gather(1, columns).sum(0).unbind()  # images do not mix, so their sum will do
    for i, total in enumerate(totals):
        keep = keep_graph or i < len(totals) - 1
        yield torch.autograd.grad(total, inputs, retain_graph=keep, allow_unused=True)
