"""Which class is explained: the one meaning of ``target`` for every method, and the gradient of its score."""

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from weakref import WeakSet

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor, nn

from xailab.hooks import check_differentiable, check_not_quantised, eval_mode, running_eagerly, unwrapped

Classes = Integer[Tensor, "n"] | Integer[Tensor, "n k"] | Integer[np.ndarray, "n"] | Integer[np.ndarray, "n k"]
Target = int | np.integer | Sequence[int] | Sequence[Sequence[int]] | Classes | None


def resolve(target: Target, logits: Float[Tensor, "n classes"]) -> Int[Tensor, "n"] | Int[Tensor, "n k"]:
    """Turn a target into class numbers for each image of a batch.

    Args:
        target: One class for all images; one for each image; several for each image, shape (n, k); or None for each
            image's own top class.
        logits: Scores of the network, (n, classes).

    Returns:
        Class numbers of shape (n,), or (n, k) where several were asked for.

    Raises:
        TypeError: if a target is no whole number.
        ValueError: if there is no such class, or the number of targets is not the number of images.
    """
    n, classes = logits.shape
    if target is None:
        return logits.argmax(1)
    chosen = class_numbers(target).to(logits.device)
    if chosen.ndim == 0:
        chosen = chosen.expand(n)
    if chosen.ndim > 2 or chosen.shape[0] != n or chosen.shape[-1] == 0 < n:
        raise ValueError(
            f"expected one class, {n} classes (one for each image) or shape ({n}, k); got shape {tuple(chosen.shape)}"
        )
    if chosen.numel() and (chosen.min() < 0 or chosen.max() >= classes):
        raise ValueError(f"class numbers go from 0 to {classes - 1}, got {sorted(set(chosen.flatten().tolist()))}")
    return chosen


def class_numbers(target) -> Int[Tensor, "..."]:
    """Turn one class number or several into a tensor.

    Raises:
        TypeError: if a target is no whole number.
    """
    try:
        chosen = torch.as_tensor(target).clone()  # also what was made under inference_mode
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"a target is a class number (int) or several, got {target!r}") from None
    if chosen.numel() and (chosen.is_floating_point() or chosen.is_complex() or chosen.dtype == torch.bool):
        raise TypeError(f"a target is a class number (int), got {chosen.dtype}")
    return chosen.long()


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
    """Return the output of a network, if it is finite scores (n, classes).

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


class MixedBatch(UserWarning):
    """The score of an image changes with the images beside it, so that no image has an explanation of its own."""


class ZeroGradient(UserWarning):
    """A score does not change with its image at all; the message says for which class, and why."""


_SEPARATE: WeakSet[nn.Module] = WeakSet()  # networks that were seen to score an image alone as they do in a batch


class Opened:
    """A network that is ready to be explained: what ``opened`` yields.

    Attributes:
        network: The network inside all wrappers, in eval mode.
    """

    def __init__(self, network: nn.Module, images: Float[Tensor, "n c h w"]) -> None:
        self.network = network
        self._alone = None  # the first image's scores without the others; an error that speaks of the batch
        if len(images) > 1 and network not in _SEPARATE:
            self._alone = self._score_alone(images[:1])

    def scores(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Run the network on the images that it was opened with, or on copies of them; the scores are checked.

        Raises:
            ValueError: if there is not one finite score of each class for each image, or the network's weights are of
                another type or on another device.
            TypeError: if the network takes more than images.

        Warns:
            MixedBatch: if the first image has other scores alone.
        """
        scores = check_scores(self.network, self._run(images))
        if len(scores) != len(images):
            raise ValueError(
                f"{type(self.network).__name__} gives {len(scores)} rows of scores for {len(images)} images: "
                "expected one for each image"
            )
        if self._alone is not None:
            self._compare(np.array(scores[0].tolist()), torch.finfo(scores.dtype if scores.is_cpu else torch.half).eps)
        return scores

    def _run(self, images: Tensor):
        try:
            return self.network(images)
        except TypeError as error:
            if re.search(r"missing \d+ required", str(error)):
                raise TypeError(_one_input(self.network, str(error))) from error
            raise
        except RuntimeError as error:
            weight = next((each for each in self.network.parameters() if each.is_floating_point()), images)
            if (weight.dtype, weight.device) == (images.dtype, images.device) or torch.is_autocast_enabled():
                raise
            raise ValueError(
                f"the images are {images.dtype} on {images.device}, the network's weights {weight.dtype} on "
                f"{weight.device}: images.to(weight) makes them alike. ({str(error).splitlines()[0]})"
            ) from error

    @torch.no_grad()
    def _score_alone(self, image: Float[Tensor, "1 c h w"]) -> Tensor | Exception | None:
        try:
            alone = self._run(image)
        except Exception as error:  # a network that runs on batches only is none of our business, unless it says why
            return error if "more than 1 value per channel" in str(error) else None
        return alone if isinstance(alone, Tensor) and alone.ndim == 2 else None

    def _compare(self, beside: Float[np.ndarray, "classes"], precision: float) -> None:
        """Warn if the first image has other scores alone; on a GPU, TF32 has no more precision than half."""
        alone, self._alone = self._alone, None
        if isinstance(alone, Tensor):
            difference = np.abs(np.array(alone[0].tolist()) - beside).max()
            if difference <= precision**0.5 * np.abs(beside).max():
                _SEPARATE.add(self.network)
                return
        warnings.warn(
            f"this {type(self.network).__name__} mixes the images of a batch: the first image has other scores alone "
            "than beside the others (a batch norm without running statistics does so), so that an explanation is not "
            "one of its image only. Explain one image at a time",
            MixedBatch,
            stacklevel=4,
        )


def mixes(model: nn.Module, images: Float[Tensor, "n c h w"]) -> bool:
    """Say whether the score of an image changes with the images beside it, as far as the first image shows."""
    with warnings.catch_warnings(), torch.no_grad(), opened(model, images[[0, 0]] if len(images) else images) as entry:
        warnings.simplefilter("ignore", MixedBatch)
        if unwrapped(model) not in _SEPARATE and len(images):
            entry.scores(torch.cat([images[:1], torch.randn_like(images[:1])]))
    return len(images) > 0 and unwrapped(model) not in _SEPARATE


def _one_input(network: nn.Module, said: str) -> str:
    return (
        f"explanations hand a network its images alone, and this {type(network).__name__} wants more ({said}): wrap it "
        "in a module that keeps the other inputs, as\n"
        "    class OfImages(nn.Module):\n"
        "        def __init__(self, network, other): super().__init__(); self.network, self.other = network, other\n"
        "        def forward(self, images): return self.network(images, self.other.expand(len(images), -1))"
    )


@contextmanager
def opened(model: nn.Module, images: Float[Tensor, "n c h w"]) -> Iterator[Opened]:
    """Open a network for an explanation, as all methods do: checked, unwrapped, in eval mode, not compiled.

    The first time that a network meets a batch, it also runs on the first image alone, to see whether it mixes images.

    Args:
        model: Any network of images to scores (n, classes), also inside ``DataParallel`` or ``torch.compile``.
        images: A batch, normalised for the network.

    Raises:
        TypeError: if images are no floating-point tensor, or the network wants other inputs besides.
        ValueError: if images are no batch, or the network is quantised.
    """
    check_images(images)
    check_not_quantised(model)
    network = unwrapped(model)
    with eval_mode(network), running_eagerly(network):
        yield Opened(network, images)


def score_images(
    model: nn.Module, images: Float[Tensor, "n c h w"]
) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "n classes"]]:
    """Score a copy of the images that requires gradients, so that the scores can be differentiated with respect to it.

    Returns:
        The copy, which is a leaf, and the scores of the network in eval mode, whatever grad mode surrounds the call.
    """
    check_differentiable(model)
    with torch.inference_mode(False), torch.enable_grad():
        copies = check_images(images).detach().clone().requires_grad_()
        with opened(model, copies) as entry:
            return copies, entry.scores(copies.clone())  # a copy, since a network may work in place


def image_gradients(
    model: nn.Module,
    images: Float[Tensor, "n c h w"],
    scores: Float[Tensor, "n classes"],
    chosen: Int[Tensor, "n"] | Int[Tensor, "n k"],
) -> Float[Tensor, "n k c h w"]:
    """Differentiate the chosen scores with respect to the images that ``score_images`` returned.

    Raises:
        ValueError: if no gradient reaches the images.
    """
    gradients = [gradient for (gradient,) in class_gradients(scores, chosen, [images]) if gradient is not None]
    if not gradients:
        raise ValueError(unreached(model))
    return torch.stack(gradients, 1)


def unreached(model: nn.Module) -> str:
    """Compose the message for images that no gradient reaches."""
    return (
        f"the scores of this {type(unwrapped(model)).__name__} do not depend on its images, or no gradient reaches "
        "them: look for torch.no_grad, detach or numpy inside its forward"
    )


def is_zero(gradient: Float[Tensor, "n ..."]) -> Bool[Tensor, "n"]:
    """Say of each image whether its gradient is zero everywhere."""
    return gradient.flatten(1).count_nonzero(1) == 0


def warn_of_zero(
    zero: Bool[Tensor, "n k"], chosen: Int[Tensor, "n"] | Int[Tensor, "n k"], scores: Float[Tensor, "n classes"]
) -> None:
    """Warn ``ZeroGradient`` of the classes whose gradient is zero everywhere, and say what makes it so."""
    if zero.any():
        named = classes_of(chosen.view(len(chosen), -1)[zero])
        why = saturation(scores) or "nothing passes the ReLUs, clamps or rounding steps on the way: try another image"
        warnings.warn(f"the gradient of {named} is zero everywhere: {why}", ZeroGradient, stacklevel=3)


def saturation(scores: Float[Tensor, "n classes"]) -> str | None:
    """Compose the message for saturated probabilities, whose gradient is zero; None for other scores."""
    scores = scores.detach().float()
    if not ((scores >= 0) & (scores <= 1)).all() or not scores.any():
        return None
    kind = "softmax" if scores.shape[1] > 1 and (scores.sum(1) - 1).abs().max() < 0.01 else "sigmoid"
    return f"the scores look like a saturated {kind}: give a network that returns the scores before it"


def classes_of(chosen: Int[Tensor, "_"]) -> str:
    """Name classes in a message: "class 3", "classes 1, 4"."""
    classes = sorted(set(chosen.tolist()))
    return f"class{'es' if len(classes) > 1 else ''} {', '.join(map(str, classes))}"


def class_gradients(
    scores: Float[Tensor, "n classes"],
    chosen: Int[Tensor, "n"] | Int[Tensor, "n k"],
    inputs: Sequence[Tensor],
    *,
    keep_graph: bool = False,
) -> Iterator[tuple[Tensor | None, ...]]:
    """Differentiate the chosen scores with respect to tensors of the forward pass: d scores[i, chosen[i]] / d input[i].

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
