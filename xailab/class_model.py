r"""What does a class look like to a network? An image that maximises its score.

Simonyan, Vedaldi, Zisserman, "Deep Inside Convolutional Networks", 2013, arXiv 1312.6034, Section 2:

    I* = argmax_I  S_c(I) - lambda |I|^2,

with the score S_c before the softmax, found by gradient ascent on the image while the network stays as it is. The image
is normalised: I = 0 is the mean colour.

Later work added what the other options switch on: jitter (Mordvintsev et al. 2015, "Inceptionism"), blur (Yosinski et
al. 2015, arXiv 1506.06579), turns, zooms, a Fourier basis and decorrelated colours (Olah et al., "Feature
Visualization", Distill 2017).
"""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from tqdm import tqdm

from xailab.hooks import check_differentiable
from xailab.images import Preprocess
from xailab.targets import ZeroGradient, check_images, class_numbers, is_zero, opened, resolve, unreached

OPTIMISERS = {"adam": torch.optim.Adam, "ascent": torch.optim.SGD}


@dataclass(frozen=True)
class ClassModel:
    """What ``class_model`` found for k classes.

    Attributes:
        images: Normalised for the network, (k, c, h, w); in single precision for a network in half.
        scores: S_c of the images as the network saw them before each step, (steps, k).
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
    rate: float = 0.05,
    l2: float = 1e-3,
    optimiser: Literal["adam", "ascent"] = "adam",
    start: Float[Tensor, "k c h w"] | None = None,
    jitter: int = 0,
    turn: float = 0.0,
    zoom: float = 0.0,
    blur_every: int = 0,
    blur: float = 0.7,
    fourier: bool = False,
    colours: Float[Tensor, "c c"] | None = None,
    clip: Preprocess | None = None,
    snapshot_every: int = 0,
    channels: int = 3,
    seed: int = 0,
    progress: bool = True,
) -> ClassModel:
    """Climb S_c(I) - l2 |I|^2 on the image, for several classes in one batch.

    The network runs in eval mode and is left as it was. The method of the paper is ``optimiser="ascent"`` with all
    options behind it left out.

    Args:
        model: Any network of images to scores (n, classes).
        target: A class, or several, one image each.
        size: Of the images in pixels, a side or (height, width).
        steps: Number of steps.
        rate: Length of a step: what "ascent" multiplies the gradient with; how far "adam" moves a value at most.
        l2: lambda, in units of the score for one squared unit of normalised image.
        optimiser: "adam" (Kingma and Ba 2015), or "ascent", which is I += rate * gradient.
        start: Normalised images to begin with; the mean colour, I = 0, if None. Where a network is flat there,
            faint soft spots of random colour begin better.
        jitter: Before each look, shift the images by up to so many pixels in both directions (edges wrap round).
        turn: Before each look, turn each image by up to so many degrees.
        zoom: Before each look, scale each image by up to this share.
        blur_every: Blur the images after every so many steps; 0 never does.
        blur: Standard deviation of the blur in pixels.
        fourier: Climb on Fourier coefficients, scaled by 1 / frequency, so that detail of all sizes grows alike.
        colours: Climb on decorrelated colours, which this matrix mixes into the image's (see ``colour_root``).
        clip: After each step, keep pixels between black and white for a network of this preprocessing.
        snapshot_every: Keep the images after every so many steps; 0 keeps none.
        channels: Of the images.
        seed: Of shifts, turns and scales.
        progress: Show a progress bar.

    Raises:
        ValueError: if a class does not exist, an option is out of its range, ``start`` has another shape, no gradient
            reaches the images, or a score became NaN or infinite; the message says at which step.
        TypeError: if a target is no class number.

    Warns:
        ZeroGradient: if a score does not change with the images that the climb begins with.
        MixedBatch: if the network mixes the images of a batch: climb for one class at a time then.
    """
    height, width = (size, size) if isinstance(size, int) else size
    _check(steps=steps, rate=rate, height=height, width=width)
    if optimiser not in OPTIMISERS:
        raise ValueError(f"optimiser={optimiser!r}: expected one of {', '.join(map(repr, OPTIMISERS))}")
    check_differentiable(model)
    classes = class_numbers(target).reshape(-1)
    weight = next((each for each in model.parameters() if each.is_floating_point()), torch.zeros(()))
    wide = torch.promote_types(weight.dtype, torch.float32)  # steps are too small for half precision
    generator = torch.Generator().manual_seed(seed)
    with torch.inference_mode(False), torch.enable_grad():
        first = _first(start, (len(classes), channels, height, width))
        canvas = _Canvas(first.to(weight.device, wide), fourier, colours)
        climber = OPTIMISERS[optimiser]([canvas.values], lr=rate, maximize=True)
        scores, snapshots = [], {}
        with opened(model, canvas.images().detach().to(weight.dtype)) as entry:
            if len(classes) > 1:
                entry.scores(canvas.images().detach().to(weight.dtype))  # as they were opened: do they mix?
            for step in tqdm(range(1, steps + 1), "class model", disable=not progress, leave=False):
                images = canvas.images()
                moved = _moved(images, jitter, turn, zoom, generator).to(weight.dtype)
                logits = _finite(entry.scores, moved, step, rate).to(wide)
                score = logits.gather(1, resolve(classes, logits)[:, None])[:, 0]
                if step == 1:
                    _check_reached(model, score, images)
                objective = (score - l2 * images.square().sum((1, 2, 3))).sum()
                (canvas.values.grad,) = torch.autograd.grad(objective, canvas.values)
                climber.step()
                scores.append(score.detach())
                if blur_every and step % blur_every == 0:
                    canvas.replace(_blurred(canvas.images(), blur))
                if clip is not None:
                    canvas.replace(_clipped(canvas.images(), clip))
                if snapshot_every and step % snapshot_every == 0:
                    snapshots[step] = canvas.images().detach().clone()
        return ClassModel(canvas.images().detach(), torch.stack(scores), snapshots)


def colour_root(pictures: UInt8[Tensor, "n h w 3"], preprocess: Preprocess) -> Float[Tensor, "3 3"]:
    """The symmetric root of the covariance of normalised colours: it mixes decorrelated colours into usual ones."""
    mean, std = (torch.tensor(v) for v in (preprocess.mean, preprocess.std))
    pixels = ((pictures.reshape(-1, 3).float() / 255 - mean) / std).double()
    values, vectors = torch.linalg.eigh(torch.cov(pixels.T))
    return (vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T).float()


class _Canvas:
    """Images in the coordinates that are climbed on: pixels or Fourier coefficients, usual colours or decorrelated."""

    def __init__(self, images: Tensor, fourier: bool, colours: Tensor | None) -> None:
        self.size, self.fourier = images.shape[-2:], fourier
        self.colours = None if colours is None else colours.to(images)
        if fourier:
            height, width = self.size
            rows, columns = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)
            frequency = (rows.square() + columns.square()).sqrt().clamp(min=1 / max(height, width))
            self.scale = (1 / frequency).to(images)
        self.values = self._coordinates(images).requires_grad_()

    def images(self) -> Tensor:
        """Normalised images (k, c, h, w)."""
        images = self.values
        if self.fourier:
            images = torch.fft.irfft2(torch.view_as_complex(images) * self.scale, s=self.size, norm="ortho")
        return images if self.colours is None else torch.einsum("ij, njhw -> nihw", self.colours, images)

    @torch.no_grad()
    def replace(self, images: Tensor) -> None:
        """Go on from these images."""
        self.values.copy_(self._coordinates(images))

    @torch.no_grad()
    def _coordinates(self, images: Tensor) -> Tensor:
        if self.colours is not None:
            images = torch.einsum("ij, njhw -> nihw", torch.linalg.inv(self.colours), images)
        return (
            torch.view_as_real(torch.fft.rfft2(images, norm="ortho") / self.scale).contiguous()
            if self.fourier
            else images
        )


def _check(**numbers: float) -> None:
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


def _finite(score: Callable[[Tensor], Tensor], images: Tensor, step: int, rate: float) -> Tensor:
    """Score images that are finite; what the climb itself made infinite is its rate's fault."""
    if step > 1 and not torch.isfinite(images).all():
        raise ValueError(f"the images became NaN or infinite at step {step - 1}: take a rate below {rate}")
    try:
        return score(images)
    except ValueError as error:
        if step > 1 and "NaN or infinite" in str(error):
            raise ValueError(f"the scores became NaN or infinite at step {step}: take a rate below {rate}") from error
        raise


def _check_reached(model: nn.Module, score: Tensor, images: Tensor) -> None:
    """Raise ValueError if no gradient reaches the images, and warn if it is zero where the climb begins."""
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


def _moved(images: Tensor, jitter: int, turn: float, zoom: float, generator: torch.Generator) -> Tensor:
    """Shift all images alike (wrapping round), and turn and scale each by itself (mirrored at the edges)."""
    if jitter:
        shift = torch.randint(-jitter, jitter + 1, (2,), generator=generator).tolist()
        images = torch.roll(images, shift, dims=(2, 3))
    if turn or zoom:
        uniform = 2 * torch.rand(2, len(images), generator=generator) - 1
        angle, scale = math.radians(turn) * uniform[0], 1 + zoom * uniform[1]
        across, down = scale * angle.cos(), scale * angle.sin()
        zero = torch.zeros_like(angle)
        turned = torch.stack([across, -down, zero, down, across, zero], 1).view(-1, 2, 3).to(images)
        grid = F.affine_grid(turned, images.shape, align_corners=False)
        images = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    return images


def _blurred(images: Tensor, sigma: float) -> Tensor:
    from torchvision.transforms.functional import gaussian_blur

    return gaussian_blur(images, 2 * math.ceil(3 * sigma) + 1, sigma)


def _clipped(images: Tensor, preprocess: Preprocess) -> Tensor:
    mean, std = (torch.tensor(v).to(images).view(1, -1, 1, 1) for v in (preprocess.mean, preprocess.std))
    return torch.minimum(torch.maximum(images, -mean / std), (1 - mean) / std)
