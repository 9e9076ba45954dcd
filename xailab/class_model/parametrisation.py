"""The coordinates of gradient ascent: pixels or Fourier coefficients, usual colours or decorrelated ones.

Olah, Mordvintsev, Schubert, "Feature Visualization", Distill 2017: a step of the same length in other coordinates is
another step of the image, so that the coordinates are a preference for certain images.
"""

from typing import Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from xailab.images import Preprocess

Parametrisation = Literal["pixels", "fourier"]


class Canvas:
    """Images in the coordinates that gradient ascent changes.

    Attributes:
        values: The coordinates, a leaf that requires a gradient.

    >>> images = torch.rand(1, 3, 4, 6)
    >>> torch.allclose(Canvas(images, "fourier").images(), images, atol=1e-5)
    True
    """

    def __init__(
        self,
        images: Float[Tensor, "k c h w"],
        parametrisation: Parametrisation = "pixels",
        decorrelate: Float[Tensor, "c c"] | None = None,
    ) -> None:
        if parametrisation not in ("pixels", "fourier"):
            raise ValueError(f"parametrisation={parametrisation!r}: expected 'pixels' or 'fourier'")
        self._size, self._scale = images.shape[-2:], None
        self._colours = None if decorrelate is None else decorrelate.to(images)
        if parametrisation == "fourier":
            height, width = self._size
            rows, columns = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)
            frequency = (rows.square() + columns.square()).sqrt().clamp(min=1 / max(height, width))
            self._scale = (1 / frequency).to(images)  # detail of all sizes then grows alike
        self.values = self._coordinates(images).requires_grad_()

    def images(self) -> Float[Tensor, "k c h w"]:
        """Compute the normalised images."""
        images = self.values
        if self._scale is not None:
            images = torch.fft.irfft2(torch.view_as_complex(images) * self._scale, s=self._size, norm="ortho")
        return images if self._colours is None else torch.einsum("ij, njhw -> nihw", self._colours, images)

    @torch.no_grad()
    def replace(self, images: Float[Tensor, "k c h w"]) -> None:
        """Continue with other images."""
        self.values.copy_(self._coordinates(images))

    @torch.no_grad()
    def _coordinates(self, images: Tensor) -> Tensor:
        if self._colours is not None:
            images = torch.einsum("ij, njhw -> nihw", torch.linalg.inv(self._colours), images)
        if self._scale is not None:
            images = torch.view_as_real(torch.fft.rfft2(images, norm="ortho") / self._scale).contiguous()
        return images


def colour_root(pictures: UInt8[Tensor, "n h w 3"], preprocess: Preprocess) -> Float[Tensor, "3 3"]:
    """Compute the symmetric root of the covariance of normalised colours.

    It mixes decorrelated colours into usual ones: the argument ``decorrelate`` of ``class_model``.

    Args:
        pictures: Pictures whose colours are to be common in the class model.
        preprocess: Preprocessing of the network.

    >>> grey = torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 2, 1).expand(1, 1, 2, 3)
    >>> root = colour_root(grey, Preprocess(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)))
    >>> [round(v, 2) for v in (root @ root)[0].tolist()]
    [2.0, 2.0, 2.0]
    """
    mean, std = (torch.tensor(v) for v in (preprocess.mean, preprocess.std))
    pixels = ((pictures.reshape(-1, 3).float() / 255 - mean) / std).double()
    values, vectors = torch.linalg.eigh(torch.cov(pixels.T))
    return (vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T).float()
