"""Check the images of a detector, and keep normal images as bytes."""

from collections.abc import Iterable, Iterator

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from xailab.detection.seen import Seen
from xailab.patch_svdd.network import check_size
from xailab.targets import check_images

Images = Float[Tensor, "n 3 height width"]
ROUNDING = 0.01  # pixel values may leave [0, 1] by so much


def checked(images: Images) -> Images:
    """Check that the encoders can embed some images.

    Raises:
        ValueError: if they are no colour images from 0 to 1, or too small.
        TypeError: if they are no floating-point tensor.
    """
    check_images(images)
    if images.shape[1] != 3 or not len(images):
        raise ValueError(f"expected images (n, 3, height, width), n from 1, got {tuple(images.shape)}")
    check_size(images.shape[2:])
    low, high = images.aminmax()
    if not (low >= -ROUNDING and high <= 1 + ROUNDING):  # NaN fails both comparisons
        raise ValueError(
            f"pixel values go from {low.item():.3g} to {high.item():.3g}, expected 0 to 1: preprocess pictures with "
            "PatchSVDD.preprocess, without another network's mean and std"
        )
    return images


def noted(batches: Iterable[Images], seen: Seen) -> Iterator[Images]:
    """Pass batches on, and note their images as seen."""
    for batch in batches:
        seen.add(checked(batch))
        yield batch


def to_bytes(batches: Iterable[Images]) -> UInt8[Tensor, "n 3 h w"]:
    """Put all images into one tensor of 8 bits a value, a quarter of their size as floats.

    Raises:
        ValueError: if there are no images, they differ in size, or they are not what ``checked`` asks for.
    """
    parts: list[Tensor] = []
    for batch in batches:
        checked(batch)
        if parts and batch.shape[1:] != parts[0].shape[1:]:
            raise ValueError(
                f"images of {batch.shape[2]} x {batch.shape[3]} and {parts[0].shape[2]} x {parts[0].shape[3]} pixels: "
                "resize or crop all to one size"
            )
        parts.append((batch.detach().cpu() * 255).round().clamp(0, 255).to(torch.uint8))
    if not parts:
        raise ValueError("there are no images to learn from")
    return torch.cat(parts)


def mean_image(images: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "3 h w"]:
    """Compute the mean of images, with values from 0 to 1."""
    total = torch.zeros(images.shape[1:], dtype=torch.int64)
    for part in images.split(64):
        total += part.sum(0, dtype=torch.int64)
    return (total.double() / (255 * len(images))).float()
