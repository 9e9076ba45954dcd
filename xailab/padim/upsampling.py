"""Upsample anomaly maps to the size of the images, and smooth them."""

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from xailab.images import upsample


def upsampled(
    maps: Float[Tensor, "n rows columns"], size: tuple[int, int], blur: float
) -> Float[Tensor, "n height width"]:
    """Upsample maps bilinearly, and smooth them with a Gaussian.

    Both are linear along each axis, so that one matrix for each axis does them together. The Gaussian is that of
    ``scipy.ndimage.gaussian_filter``: cut off at four standard deviations, mirrored at the border with the edge pixel
    repeated.

    >>> upsampled(torch.tensor([[[0.0, 4.0]]]), (1, 4), blur=0)
    tensor([[[0., 1., 3., 4.]]])

    Args:
        maps: Maps at the resolution of a layer.
        size: Height and width of the result in pixels.
        blur: Standard deviation of the Gaussian in pixels; 0 does not smooth.
    """
    down, across = (_matrix(*sizes, blur).to(maps) for sizes in zip(maps.shape[-2:], size, strict=True))
    return down @ maps @ across.mT


@lru_cache(maxsize=32)
def _matrix(cells: int, pixels: int, blur: float) -> Float[Tensor, "pixels cells"]:
    from scipy.ndimage import gaussian_filter1d

    with torch.inference_mode(False):
        matrix = upsample(torch.eye(cells, dtype=torch.float64), (pixels, cells))
        return torch.from_numpy(gaussian_filter1d(matrix.numpy(), blur, axis=0)) if blur else matrix
