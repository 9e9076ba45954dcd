"""Gradient ascent on images: the class model of Simonyan et al. 2013 (arXiv 1312.6034, Section 2)."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from tqdm import tqdm

from xailab.class_model.parametrisation import Canvas, Parametrisation
from xailab.class_model.transforms import Projection, Transform
from xailab.hooks import check_differentiable
from xailab.targets import ZeroGradient, check_images, class_numbers, is_zero, opened, resolve, unreached

OPTIMIZERS = {"adam": torch.optim.Adam, "ascent": torch.optim.SGD}


@dataclass(frozen=True)
class ClassModel:
    """Class models of k classes: the result of ``class_model``.

    Attributes:
        images: Normalised images, (k, c, h, w); in single precision for a network in half.
        scores: S_c of the transformed images before each step, (steps, k).
        snapshots: Normalised images by the number of steps taken.
    """

    images: Float[Tensor, "k c h w"]
    scores: Float[Tensor, "steps k"]
    snapshots: dict[int, Float[Tensor, "k c h w"]] = field(default_factory=dict)


def class_model(
    model: nn.Module,
    target: int | Sequence[int],
    *,
    size: int | tuple[int, int],
    steps: int = 200,
    lr: float = 0.05,
    l2: float = 1e-3,
    optimizer: Literal["adam", "ascent"] = "adam",
    start: Float[Tensor, "k c h w"] | None = None,
    transforms: Sequence[Transform] = (),
    projections: Sequence[Projection] = (),
    parametrisation: Parametrisation = "pixels",
    decorrelate: Float[Tensor, "c c"] | None = None,
    snapshot_every: int = 0,
    channels: int = 3,
    seed: int = 0,
    progress: bool = True,
) -> ClassModel:
    """Maximise S_c(I) - l2 |I|^2 by gradient ascent on the image, for several classes in one batch.

    The network runs in eval mode and is left as it was. The method of the paper is ``optimizer="ascent"`` without
    transforms, projections and other coordinates.

    Args:
        model: Any network of images to scores (n, classes).
        target: A class, or several, one image each.
        size: Side of the images in pixels, or (height, width).
        steps: Number of steps.
        lr: Learning rate: the factor of the gradient for "ascent", the largest change of a value for "adam".
        l2: lambda, in units of the score for one squared unit of normalised image.
        optimizer: "adam" (Kingma and Ba 2015), or "ascent", which is I += lr * gradient.
        start: Normalised images to begin with; the mean colour, I = 0, if None. Where a network is flat there,
            faint soft spots of random colour begin better.
        transforms: Transforms before each forward pass, in this order, as ``[Jitter(4), Affine(degrees=8)]``.
        projections: Projections after each step, in this order, as ``[Blur(0.7, every=4), Clip(preprocess)]``.
        parametrisation: "pixels", or "fourier": ascent on Fourier coefficients, scaled by 1 / frequency.
        decorrelate: Matrix that mixes decorrelated colours, on which the ascent works, into the image's (see
            ``colour_root``); None leaves the colours as they are.
        snapshot_every: Number of steps from one snapshot to the next; 0 keeps none.
        channels: Number of channels of the images.
        seed: Seed of the transforms.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: if a class does not exist, an option is out of its range, ``start`` has another shape, no gradient
            reaches the images, or a score became NaN or infinite; the message says at which step.
        TypeError: if a target is no class number.

    Warns:
        ZeroGradient: if a score does not change with the images that the ascent begins with.
        MixedBatch: if the network mixes the images of a batch: compute one class at a time then.

    >>> linear = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 2))
    >>> found = class_model(linear, 1, size=4, steps=60, lr=0.4, l2=0.5, optimizer="ascent", progress=False)
    >>> torch.allclose(found.images.flatten(), linear[1].weight[1], atol=1e-5)  # w / (2 l2)
    True
    """
    height, width = (size, size) if isinstance(size, int) else size
    _check_positive(steps=steps, lr=lr, height=height, width=width)
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"optimizer={optimizer!r}: expected one of {', '.join(map(repr, OPTIMIZERS))}")
    check_differentiable(model)
    classes = class_numbers(target).reshape(-1)
    weight = next((each for each in model.parameters() if each.is_floating_point()), torch.zeros(()))
    wide = torch.promote_types(weight.dtype, torch.float32)  # steps are too small for half precision
    generator = torch.Generator().manual_seed(seed)
    with torch.inference_mode(False), torch.enable_grad():
        first = _first(start, (len(classes), channels, height, width))
        canvas = Canvas(first.to(weight.device, wide), parametrisation, decorrelate)
        climber = OPTIMIZERS[optimizer]([canvas.values], lr=lr, maximize=True)
        scores, snapshots = [], {}
        with opened(model, canvas.images().detach().to(weight.dtype)) as entry:
            if len(classes) > 1:
                entry.scores(canvas.images().detach().to(weight.dtype))  # as they were opened: do they mix?
            for step in tqdm(range(1, steps + 1), "class model", disable=not progress, leave=False):
                images = seen = canvas.images()
                for transform in transforms:
                    seen = transform(seen, generator)
                logits = _finite(entry.scores, seen.to(weight.dtype), step, lr).to(wide)
                score = logits.gather(1, resolve(classes, logits)[:, None])[:, 0]
                if step == 1:
                    _check_reached(model, score, images)
                objective = (score - l2 * images.square().sum((1, 2, 3))).sum()
                (canvas.values.grad,) = torch.autograd.grad(objective, canvas.values)
                climber.step()
                scores.append(score.detach())
                _project(canvas, projections, step)
                if snapshot_every and step % snapshot_every == 0:
                    snapshots[step] = canvas.images().detach().clone()
        return ClassModel(canvas.images().detach(), torch.stack(scores), snapshots)


def _check_positive(**numbers: float) -> None:
    for name, value in numbers.items():
        if value <= 0:
            raise ValueError(f"{name}={value}: expected a number above 0")


def _first(start: Tensor | None, shape: tuple[int, ...]) -> Float[Tensor, "k c h w"]:
    """The images to begin with: the mean colour, or those that were given."""
    if start is None:
        return torch.zeros(shape)
    if tuple(check_images(start).shape) != shape:
        raise ValueError(
            f"start has shape {tuple(start.shape)}, expected (classes, channels, height, width) = {shape}: give size= "
            "and channels= those of start, and one image for each class"
        )
    return start.detach().clone()


def _finite(score: Callable[[Tensor], Tensor], images: Tensor, step: int, lr: float) -> Tensor:
    """Score images that are finite; if the ascent itself made them infinite, the learning rate is too large."""
    if step > 1 and not torch.isfinite(images).all():
        raise ValueError(f"the images became NaN or infinite at step {step - 1}: take a learning rate lr below {lr}")
    try:
        return score(images)
    except ValueError as error:
        if step > 1 and "NaN or infinite" in str(error):
            raise ValueError(
                f"the scores became NaN or infinite at step {step}: take a learning rate lr below {lr}"
            ) from error
        raise


def _check_reached(model: nn.Module, score: Tensor, images: Tensor) -> None:
    """Raise ValueError if no gradient reaches the images, and warn if it is zero where the ascent begins."""
    gradient = None
    if score.requires_grad:
        (gradient,) = torch.autograd.grad(score.sum(), images, retain_graph=True, allow_unused=True)
    if gradient is None:
        raise ValueError(unreached(model))
    if is_zero(gradient).any():
        warnings.warn(
            "the gradient of a score is zero at the images to begin with, so that they will not move: give start="
            "faint random spots instead of the mean colour",
            ZeroGradient,
            stacklevel=3,
        )


@torch.no_grad()
def _project(canvas: Canvas, projections: Sequence[Projection], step: int) -> None:
    for projection in projections:
        images = canvas.images()
        projected = projection(images, step)
        if projected is not images:  # rounding: the way to other coordinates and back is left out where it can be
            canvas.replace(projected)
