"""Recognise the images that a detector was fitted to, so that no threshold is set by them."""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

SIDE = 16  # cells along a side of a picture
ROUNDING = 2**-7  # as a share of the largest value: rounding to bfloat16 or 8 bits changes up to half of it


class Seen:
    """Recognise images, whatever their order, batches, device and precision.

    Of each image it keeps, for each channel, the mean and one pixel of 16 x 16 cells, in half precision: 3 KB in
    colour. An image was seen before if none of these numbers differs by more than rounding changes it. The means
    tell images apart that differ in a small part, and the pixels those that differ in their noise alone.

    >>> seen = Seen()
    >>> seen.add(torch.zeros(1, 3, 8, 8))
    >>> seen.among(torch.stack([torch.zeros(3, 8, 8), torch.ones(3, 8, 8)]))
    tensor([ True, False])

    Attributes:
        prints: These numbers, one row for each image.
    """

    def __init__(self, prints: Float[Tensor, "n _k"] | None = None) -> None:
        self.prints = torch.empty(0, 0) if prints is None else prints

    def __len__(self) -> int:
        return len(self.prints)

    def add(self, images: Float[Tensor, "n _c _h _w"]) -> None:
        """Remember images of one size."""
        self.prints = torch.cat([self.prints, _prints(images)]) if len(self) else _prints(images)

    def among(self, images: Float[Tensor, "n _c _h _w"]) -> Bool[Tensor, "n"]:
        """Return which of these images were seen before."""
        new = _prints(images).float()
        if self.prints.shape[1] != new.shape[1]:
            return torch.zeros(len(new), dtype=torch.bool)
        differences = torch.cdist(new, self.prints.float(), p=torch.inf)
        return (differences <= ROUNDING * new.abs().amax(1, keepdim=True)).any(1)

    def all_gather(self, device: torch.device | str) -> None:
        """Gather the images of all processes of ``torch.distributed``, through tensors on a device."""
        shapes = [torch.zeros(2, dtype=torch.int64, device=device) for _ in range(dist.get_world_size())]
        dist.all_gather(shapes, torch.tensor(self.prints.shape, device=device))
        rows, columns = torch.stack(shapes).amax(0).tolist()
        padded = torch.zeros(rows, columns, device=device)
        padded[: len(self), : self.prints.shape[1]] = self.prints
        parts = [torch.empty_like(padded) for _ in shapes]
        dist.all_gather(parts, padded)
        counts = [int(shape[0]) for shape in shapes]
        self.prints = torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)]).half().cpu()


def _prints(images: Float[Tensor, "n _c _h _w"]) -> Float[Tensor, "n _k"]:
    with torch.inference_mode(False), torch.no_grad():
        images = images.detach().to("cpu", torch.float32, copy=True)
        size = min(SIDE, images.shape[2]), min(SIDE, images.shape[3])
        means, pixels = F.adaptive_avg_pool2d(images, size), F.interpolate(images, size, mode="nearest-exact")
        largest = torch.finfo(torch.float16).max
        return torch.cat([means, pixels], 1).flatten(1).clamp(-largest, largest).half()
