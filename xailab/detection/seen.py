"""Which pictures a detector has learned from, so that no threshold is set by them."""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

SIDE = 16  # cells along a side of a picture
ROUNDING = 2**-7  # as a share of the largest value: rounding to bfloat16 or 8 bits changes up to half of it


class Seen:
    """Knows pictures again, whatever their order, batches, device and precision.

    Of each picture it keeps, for each channel, the mean and one pixel of 16 x 16 cells, in half precision: 3 KB in
    colour. A picture is one of those seen if none of these numbers differs by more than rounding makes of it; the means
    tell pictures apart that differ in a small part, the pixels those that differ in their noise alone.

    Attributes:
        prints: Those numbers, one row a picture.
    """

    def __init__(self, prints: Float[Tensor, "n _k"] | None = None) -> None:
        self.prints = torch.empty(0, 0) if prints is None else prints

    def __len__(self) -> int:
        return len(self.prints)

    def add(self, images: Float[Tensor, "n _c _h _w"]) -> None:
        """Remember pictures of one size."""
        self.prints = torch.cat([self.prints, _prints(images)]) if len(self) else _prints(images)

    def among(self, images: Float[Tensor, "n _c _h _w"]) -> Bool[Tensor, "n"]:
        """Which of these pictures were seen before."""
        new = _prints(images).float()
        if self.prints.shape[1] != new.shape[1]:
            return torch.zeros(len(new), dtype=torch.bool)
        differences = torch.cdist(new, self.prints.float(), p=torch.inf)
        return (differences <= ROUNDING * new.abs().amax(1, keepdim=True)).any(1)

    def all_gather(self, device: torch.device | str) -> None:
        """Put together what all processes of ``torch.distributed`` have seen, through tensors on a device."""
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
        size = [min(SIDE, side) for side in images.shape[2:]]
        means, pixels = F.adaptive_avg_pool2d(images, size), F.interpolate(images, size, mode="nearest-exact")
        largest = torch.finfo(torch.float16).max
        return torch.cat([means, pixels], 1).flatten(1).clamp(-largest, largest).half()
