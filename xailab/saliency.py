r"""Saliency: which pixels would change the score of a class the most?

Simonyan, Vedaldi, Zisserman, "Deep Inside Convolutional Networks", 2013, arXiv 1312.6034, Section 3. Near an image I_0
the score of class c, before the softmax, is almost linear (equation 3),

    S_c(I) = w . I + b,    w = dS_c / dI at I_0    (equation 4),

and the saliency of a pixel is how much its most influential channel counts (Section 3.1):

    M_ij = max_channel |w_ij|.

SmoothGrad (Smilkov et al. 2017, arXiv 1706.03825) averages w over noisy copies of the image first. Integrated Gradients
(Sundararajan et al. 2017, arXiv 1703.01365) averages it on the way from a baseline to the image.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from xailab.targets import Target, check_images, image_gradients, is_zero, mixes, resolve, score_images, warn_of_zero

Maps = Float[Tensor, "n h w"] | Float[Tensor, "n k h w"]


def saliency(model: nn.Module, images: Float[Tensor, "n c h w"], target: Target = None) -> Maps:
    """Compute M_ij = max over channels of |dS_c / dI_ij| (arXiv 1312.6034, Section 3.1).

    One forward and one backward pass in eval mode (a backward pass for each of k classes); the network is left as it
    was.

    Args:
        model: Any network of images to scores (n, classes), before the softmax.
        images: A batch, normalised for the network; of grey images, the absolute value is taken.
        target: One class, one for each image, several for each (shape (n, k)), or None for each image's top class.

    Returns:
        Maps of the images' size, not negative, (n, h, w), or (n, k, h, w) where k classes were asked for. In units of
        the score for one unit of normalised pixel.

    Raises:
        ValueError: if no gradient reaches the images, a class does not exist, or the scores are not finite.
        TypeError: if images are no floating-point tensor, or a target is no class number.

    Warns:
        ZeroGradient: if a score does not change with its image at all.
        MixedBatch: if the score of an image changes with the images beside it.

    >>> linear = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 2))
    >>> torch.equal(saliency(linear, torch.rand(1, 3, 4, 4), 1)[0], linear[1].weight[1].view(3, 4, 4).abs().amax(0))
    True
    """
    return _largest(*_gradient(model, images, target))


def smooth_grad(
    model: nn.Module,
    images: Float[Tensor, "n c h w"],
    target: Target = None,
    *,
    samples: int = 50,
    sigma: float = 0.15,
    seed: int = 0,
    memory: float = 0.7,
) -> Maps:
    """Average dS_c / dI over noisy copies of each image, then take the saliency (arXiv 1706.03825).

    The gradients themselves are averaged, so that what flickers in sign goes away. One forward and one backward pass
    for each sample, in batches of as many samples as the memory allows; the sum alone is kept. All images get the same
    noise, each in its own range, so that an image's map does not depend on the images beside it.

    Args:
        model, images, target: As for ``saliency``; None is the top class of the image without noise.
        samples: Number of noisy copies.
        sigma: Standard deviation of the noise, as a share of each image's own range, max - min.
        seed: Seed of the noise.
        memory: Gibibytes that the graph of a batch of samples may take; one sample of all images is the least. The
            default is fast on a CPU: the tensors of a ResNet50's larger batches no longer fit what the allocator keeps
            for the next batch, so that the system hands out, and clears, fresh memory for each of them.

    Returns:
        Maps as ``saliency`` gives them.

    Raises, Warns:
        As ``saliency`` does.

    >>> linear = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 2))
    >>> images = torch.rand(2, 3, 4, 4)
    >>> torch.allclose(smooth_grad(linear, images, 1, samples=5), saliency(linear, images, 1), atol=1e-6)
    True
    """
    if samples < 1 or sigma < 0 or memory < 0:
        raise ValueError(f"expected samples from 1, sigma and memory from 0, got {samples}, {sigma} and {memory}")
    check_images(images)
    if target is None:
        target = score_images(model, images)[1].argmax(1)
    generator = torch.Generator().manual_seed(seed)
    spread = sigma * (images.amax((1, 2, 3), keepdim=True) - images.amin((1, 2, 3), keepdim=True))

    def noisy(count: int) -> Float[Tensor, "count n c h w"]:
        noise = torch.stack([torch.randn(images.shape[1:], generator=generator) for _ in range(count)])
        return images + spread * noise.unsqueeze(1).to(images)

    with _measured_graph() as size:
        total, chosen, scores = _gradient(model, noisy(1)[0], target)
    most = 1 if mixes(model, images) else max(1, int(memory * 2**30 / max(sum(size), 1)))
    done = 1
    while done < samples:
        count = min(most, samples - done)
        several = chosen.repeat(count, *[1] * (chosen.ndim - 1))
        gradient, _, _ = _gradient(model, noisy(count).flatten(0, 1), several)
        total += gradient.unflatten(0, (count, len(images))).sum(0)
        done += count
    return _largest(total / samples, chosen, scores)


def integrated_gradients(
    model: nn.Module,
    images: Float[Tensor, "n c h w"],
    target: Target = None,
    *,
    baseline: Float[Tensor, "#n c #h #w"] | None = None,
    steps: int = 50,
) -> Maps:
    """Share a score out among the pixels: the gradient's mean between baseline and image, times their difference.

    (I - I') * mean of dS_c / dI at I' + a (I - I'), with a at the middles of equal parts of the way from 0 to 1
    (arXiv 1703.01365, equations 1 and 3), added up over the channels. *Completeness*: a map adds up to
    S_c(I) - S_c(I'), up to the error of the sum over steps; look at it to see whether the steps are enough.

    Args:
        model, images, target: As for ``saliency``; None is the top class of the image itself.
        baseline: The image I' that stands for "nothing there", normalised; the mean colour, I' = 0, if None. One for
            all images or one for each; a colour (1, c, 1, 1) will do.
        steps: Number of parts of the way. Each takes one forward and one backward pass.

    Returns:
        Signed maps of the images' size, (n, h, w), or (n, k, h, w) where k classes were asked for. In units of the
        score.

    Raises, Warns:
        As ``saliency`` does; ZeroGradient only if the score does not change on the whole way.

    >>> linear = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 2))
    >>> images = torch.rand(1, 3, 4, 4)
    >>> total = integrated_gradients(linear, images, 1, steps=3).sum()
    >>> torch.allclose(total, (linear(images) - linear(0 * images))[0, 1], atol=1e-6)
    True
    """
    if steps < 1:
        raise ValueError(f"expected steps from 1, got {steps}")
    start = torch.zeros_like(check_images(images)) if baseline is None else baseline.to(images)
    way = images - start
    if target is None:
        target = score_images(model, images)[1].argmax(1)
    first, chosen, scores = _gradient(model, start + 0.5 / steps * way, target)
    total = first.to(torch.promote_types(first.dtype, torch.float32))  # a map is a small difference of large sums
    for step in range(1, steps):
        total += _gradient(model, start + (step + 0.5) / steps * way, target)[0]
    warn_of_zero(is_zero(total.flatten(0, 1)).view(total.shape[:2]), chosen, scores)
    maps = (way.unsqueeze(1) * total / steps).sum(2).to(images)
    return maps if chosen.ndim == 2 else maps[:, 0]


@contextmanager
def _measured_graph() -> Iterator[list[int]]:
    """Note how many bytes a graph that is built in the block keeps for its way back, without the weights."""
    sizes: dict[int, int] = {}
    found: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield found
    found.extend(sizes.values())


def _gradient(model: nn.Module, images: Tensor, target: Target) -> tuple[Float[Tensor, "n k c h w"], Tensor, Tensor]:
    """w of equation 4 for each target, the targets' numbers, and the scores."""
    images, scores = score_images(model, images)
    chosen = resolve(target, scores)
    return image_gradients(model, images, scores, chosen), chosen, scores.detach()


def _largest(gradient: Float[Tensor, "n k c h w"], chosen: Tensor, scores: Tensor) -> Maps:
    warn_of_zero(is_zero(gradient.flatten(0, 1)).view(gradient.shape[:2]), chosen, scores)
    maps = gradient.abs().amax(2)
    return maps if chosen.ndim == 2 else maps[:, 0]
