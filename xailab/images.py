"""Read pictures, prepare them for networks, and make maps visible: upsample, normalise, colour, overlay.

Outside networks a picture is a uint8 array (h, w, 3) in RGB order. Methods give raw maps; each function here says
what it does to their values.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

Picture = UInt8[np.ndarray, "h w 3"]
Map = Float[Tensor, "h w"] | Float[np.ndarray, "h w"]
Maps = Float[Tensor, "*n h w"] | Float[np.ndarray, "*n h w"]
TIE = 1e-6  # added before a resized value is rounded, so that halves go up on every processor, whatever its last bit


def load(path: str | Path, *, size: int | None = None) -> Picture:
    """Read a picture of any common kind as RGB.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     Image.new("L", (4, 3), 128).save(f"{folder}/grey.png")
    ...     load(f"{folder}/grey.png").shape
    (3, 4, 3)

    Grey pictures get three equal channels, transparency is laid over white, the camera's orientation (EXIF) is applied,
    16-bit values are divided by 257, and floating-point values are taken as shares of white.

    Args:
        path: PNG, JPEG, or whatever Pillow reads.
        size: If given, the longer side of the result in pixels at most (area-averaged; smaller pictures stay). Large
            JPEGs are then decoded at reduced size, which saves time and memory.

    Returns:
        uint8 array (h, w, 3).

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is empty, truncated, no picture, or larger than Pillow allows (179 megapixels); if its
            values lie outside their range; if size is not positive.
    """
    path = Path(path)
    if size is not None and size < 1:
        raise ValueError(f"size is a number of pixels from 1, got {size}")
    if not path.is_file():
        raise FileNotFoundError(f"no picture at {path}: check the spelling and the folder you started in")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty (0 bytes): download or export it again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                if size is not None:
                    image.draft("RGB", (2 * size, 2 * size))
                array = _rgb(ImageOps.exif_transpose(image))
    except Image.DecompressionBombError:
        raise ValueError(f"{path} has more than 179 megapixels: make it smaller first") from None
    except UnidentifiedImageError:
        raise ValueError(f"{path} is no picture that can be read: expected PNG, JPEG, TIFF, BMP, GIF or WebP") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    except MemoryError:
        raise
    except Exception as error:  # whatever a damaged file brings about
        raise ValueError(f"{path} is damaged or cut off ({error}): download or export it again") from None
    return array if size is None else _shrink(array, size)


def _rgb(image: Image.Image) -> Picture:
    """Convert any of Pillow's modes to 8-bit RGB over white."""
    if image.mode.startswith(("I", "F")):  # 16-bit and floating-point grey: Pillow's own conversion would clip
        grey, white = np.asarray(image), 1.0 if image.mode == "F" else 65535
        if not (grey.min() >= 0 and grey.max() <= white):
            kind = "floating-point values are shares of white" if image.mode == "F" else "these are more than 8 bits"
            raise ValueError(
                f"the picture's values go from {grey.min():.4g} to {grey.max():.4g}, expected 0 to {white:g} ({kind}): "
                "divide them by what is white, or save the picture with 8 bits"
            )
        return np.repeat((grey * (255 / white)).round().astype(np.uint8)[..., None], 3, axis=2)
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image.convert("RGB"))


def _shrink(image: Picture, size: int) -> UInt8[np.ndarray, "H W 3"]:
    scale = size / max(image.shape[:2])
    if scale >= 1:
        return image
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def as_picture(image) -> Picture:
    """Check that ``image`` is a uint8 RGB array (h, w, 3); PIL images are turned upright and converted.

    Raises:
        ValueError: if it is of another type or shape, or empty.
    """
    if isinstance(image, Image.Image):
        return _rgb(ImageOps.exif_transpose(image))
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise ValueError(
            f"expected a picture as uint8 array (h, w, 3) in RGB order, got {array.dtype} {array.shape}; "
            "xailab.images.load reads any file into that form"
        )
    return array


@dataclass(frozen=True)
class Preprocess:
    """The preprocessing of a network: resize, centre crop, normalise.

    >>> preprocess = Preprocess(resize=8, crop=4)
    >>> preprocess(np.zeros((10, 20, 3), np.uint8)).shape
    torch.Size([1, 3, 4, 4])

    Attributes:
        resize: Length of the shorter side after resizing, in pixels; None keeps the size.
        crop: Side of the centre crop, in pixels; None keeps all.
        mean, std: Per channel, of pixel values in [0, 1].
        interpolation: "bilinear" or "bicubic", always antialiased.
    """

    resize: int | None = None
    crop: int | None = None
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    interpolation: str = "bilinear"

    def frame(self, image) -> Picture:
        """Return the part of a picture that the network sees, resized and cropped, still uint8.

        Raises:
            ValueError: if it is no picture, or smaller than the crop.
        """
        from torchvision.transforms import InterpolationMode
        from torchvision.transforms import functional as transforms

        image = torch.from_numpy(as_picture(image).copy()).permute(2, 0, 1)
        if self.resize is not None:
            mode = InterpolationMode(self.interpolation)
            image = transforms.resize(image.double(), [self.resize], interpolation=mode, antialias=True)
            image = (image + TIE).clamp(0, 255).round().to(torch.uint8)
        if self.crop is not None:
            if min(image.shape[1:]) < self.crop:
                raise ValueError(
                    f"a picture of {image.shape[1]} x {image.shape[2]} pixels is smaller than the crop of {self.crop}: "
                    "give Preprocess a resize of at least that"
                )
            image = transforms.center_crop(image, [self.crop])
        return image.permute(1, 2, 0).contiguous().numpy()

    def __call__(self, images) -> Float[Tensor, "n 3 h w"]:
        """Turn one picture or several into a batch for the network.

        Args:
            images: One uint8 picture (h, w, 3), a PIL image, a uint8 array (n, h, w, 3), or a sequence of pictures.

        Raises:
            ValueError: if there is no picture, or the pictures differ in size after resizing and cropping.
        """
        several = images.ndim == 4 if isinstance(images, np.ndarray) else isinstance(images, Sequence)
        frames = [self.frame(image) for image in (images if several else [images])]
        if not frames:
            raise ValueError("there are no pictures to preprocess: the sequence is empty")
        if len({frame.shape for frame in frames}) != 1:
            raise ValueError(
                "the pictures differ in size: preprocess them one at a time, or use a Preprocess with resize and crop"
            )
        batch = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float() / 255
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (self.mean, self.std))
        return (batch - mean) / std

    def undo(self, batch: Float[Tensor, "n 3 h w"]) -> UInt8[np.ndarray, "n h w 3"]:
        """Turn a normalised batch back into pictures; values outside [0, 1] are clipped."""
        mean, std = (torch.tensor(v, device=batch.device).view(1, 3, 1, 1) for v in (self.mean, self.std))
        pixels = ((batch.detach().float() * std + mean).clamp(0, 1) * 255).round()
        return pixels.permute(0, 2, 3, 1).to("cpu", torch.uint8).numpy()


def as_tensor(values: Float[Tensor, "..."] | Float[np.ndarray, "..."]) -> Float[Tensor, "..."]:
    """Turn the values of a map, a tensor or an array, into a tensor without a graph."""
    return torch.as_tensor(values).detach()


def as_array(values) -> np.ndarray:
    """Turn the values of a map into an array, from a tensor on any device and of any precision."""
    if not isinstance(values, Tensor):
        return np.asarray(values)
    values = values.detach().cpu()
    return (values.float() if values.dtype in (torch.bfloat16, torch.float16) else values).numpy()


def upsample(maps: Maps, size: int | tuple[int, int]) -> Float[Tensor, "*n H W"]:
    """Enlarge maps bilinearly; the centres of their cells stay in place.

    >>> upsample(torch.tensor([[0.0, 1.0]]), (1, 4))
    tensor([[0.0000, 0.2500, 0.7500, 1.0000]])

    Args:
        maps: Maps at any resolution.
        size: Side, or (height, width), in pixels.
    """
    maps, (tall, wide) = torch.as_tensor(maps), (size, size) if isinstance(size, int) else size
    *batch, height, width = maps.shape
    large = F.interpolate(maps.reshape(-1, 1, height, width), size=(tall, wide), mode="bilinear", align_corners=False)
    return large.reshape(*batch, tall, wide)


def is_constant(maps: Maps) -> Bool[Tensor, "*n"]:
    """Test whether a map is constant to rounding: its span is at most a few units in the last place of its values."""
    maps = as_tensor(maps)
    low, high = maps.amin((-2, -1)), maps.amax((-2, -1))
    rounding = 8 * max(torch.finfo(maps.dtype).eps, torch.finfo(torch.float32).eps)
    return high / 2 - low / 2 <= rounding * torch.maximum(low.abs(), high.abs()) / 2


def normalise(maps: Maps) -> Float[Tensor, "*n h w"]:
    """Stretch each map by itself to [0, 1]: (map - min) / (max - min).

    >>> normalise(torch.tensor([[1.0, 2.0], [3.0, 5.0]])).tolist()
    [[0.0, 0.25], [0.5, 1.0]]

    A map that is constant to rounding carries no contrast and becomes 0 everywhere. Normalise a map before you enlarge
    it, or rounding adds to it. The values of different maps cannot be compared after this; where that matters, show
    the raw maps.

    Raises:
        ValueError: if a map has a value that is not finite.
    """
    maps = torch.as_tensor(maps)
    if not torch.isfinite(maps).all():
        raise ValueError("a map has values that are NaN or infinite: look at the network's output first")
    halves = maps.double() / 2  # so that the span of the largest values is finite too
    low, high = halves.amin((-2, -1), keepdim=True), halves.amax((-2, -1), keepdim=True)
    constant = is_constant(maps)[..., None, None]
    stretched = (halves - low) / (high - low).masked_fill(constant, 1)
    return stretched.masked_fill(constant, 0).to(maps.dtype)


def heatmap(values: Maps, cmap: str = "inferno") -> UInt8[np.ndarray, "*n h w 3"]:
    """Colour maps with values in [0, 1]: dark for 0, bright for 1.

    >>> heatmap(torch.tensor([[0.0, 1.0]])).tolist()
    [[[0, 0, 4], [252, 255, 164]]]

    Args:
        values: Normalised maps; values outside [0, 1] are clipped.
        cmap: Name of a colour map of matplotlib. The lightness of the default rises evenly, so that it reads the same
            with every kind of colour vision and in print.
    """
    import matplotlib

    table = (matplotlib.colormaps[cmap](np.linspace(0, 1, 256))[:, :3] * 255).round().astype(np.uint8)
    index = (as_tensor(values).float().clamp(0, 1) * 255).round().to("cpu", torch.uint8).numpy()
    return table[index]


def grey(image: UInt8[np.ndarray, "h w 3"] | Image.Image) -> UInt8[np.ndarray, "h w 3"]:
    """Take the colours out of a picture, so that the colours of an overlay are the only ones.

    Example:
        >>> grey(np.array([[[255, 0, 0], [10, 10, 10]]], np.uint8)).tolist()
        [[[76, 76, 76], [10, 10, 10]]]
    """
    return np.array(Image.fromarray(as_picture(image)).convert("L").convert("RGB"))


def overlay(
    image: UInt8[np.ndarray, "H W 3"] | Image.Image,
    heat: Map,
    *,
    scale: float | None = None,
    opacity: float = 0.75,
    cmap: str = "inferno",
) -> UInt8[np.ndarray, "H W 3"]:
    """Lay the positive part of a map over its picture; where the map is zero or negative, the picture stays as it is.

    The blend follows the map: a value of ``scale`` covers the picture with ``opacity``, half of it with half.

    Args:
        image: The picture (H, W, 3) that the network saw, at any size.
        heat: One raw map at any resolution.
        scale: The value that is drawn brightest; by default the map's own maximum. Give maps that are compared, those
            of two classes for instance, the same scale.
        opacity: Share of the colour at ``scale``, 0 to 1.
        cmap: A colour map of matplotlib's.

    Raises:
        ValueError: if the map has a value that is not finite, or the opacity or the scale cannot be used.

    Example:
        >>> grey = np.full((1, 2, 3), 100, np.uint8)
        >>> overlay(grey, torch.tensor([[-1.0, 2.0]]), opacity=1.0).tolist()
        [[[100, 100, 100], [252, 255, 164]]]
    """
    image, heat = _to_lay_over(image, heat, opacity)
    return _blend(image, upsample(heat, image.shape[:2]) / _scale(scale, heat), opacity, cmap)


def signed_overlay(
    image: UInt8[np.ndarray, "H W 3"] | Image.Image, heat: Map, *, scale: float | None = None, opacity: float = 0.75
) -> UInt8[np.ndarray, "H W 3"]:
    """Lay a signed map over its picture: red for positive values, blue for negative ones, nothing for zero.

    Arguments are those of ``overlay``; the default scale is the largest absolute value.

    Example:
        >>> grey = np.full((1, 2, 3), 100, np.uint8)
        >>> signed_overlay(grey, torch.tensor([[-2.0, 2.0]]), opacity=1.0).tolist()
        [[[5, 48, 97], [103, 0, 31]]]
    """
    image, heat = _to_lay_over(image, heat, opacity)
    values = (upsample(heat, image.shape[:2]) / _scale(scale, heat.abs())).clamp(-1, 1)
    share = opacity * values.abs().numpy()[..., None]
    return (share * heatmap(0.5 + 0.5 * values, "RdBu_r") + (1 - share) * image).round().astype(np.uint8)


def stretched_overlay(
    image: UInt8[np.ndarray, "H W 3"] | Image.Image, heat: Map, *, opacity: float = 0.75, cmap: str = "inferno"
) -> UInt8[np.ndarray, "H W 3"]:
    """Lay a map over its picture as much public code does: stretched from its own minimum to its own maximum.

    Such an overlay moves zero: a map without any positive value glows as brightly as one full of them (lesson 02).
    A map that is constant to rounding leaves the picture as it is.
    """
    image, heat = _to_lay_over(image, heat, opacity)
    return _blend(image, upsample(normalise(heat), image.shape[:2]), opacity, cmap)


def _blend(
    image: UInt8[np.ndarray, "H W 3"], values: Float[Tensor, "H W"], opacity: float, cmap: str
) -> UInt8[np.ndarray, "H W 3"]:
    """Cover a picture with colour, more where the value is larger; values outside 0 to 1 are cut."""
    values = values.clamp(0, 1)
    share = opacity * values.numpy()[..., None]
    return (share * heatmap(values, cmap) + (1 - share) * image).round().astype(np.uint8)


def _scale(scale: float | None, heat: Map) -> float:
    """Return the value that is drawn brightest, positive in any case."""
    if scale is not None and not 0 < scale < float("inf"):
        raise ValueError(f"scale is the value that is drawn brightest, a positive number, got {scale}")
    largest = float(heat.max()) if scale is None else scale
    return largest if largest > 0 else 1.0


def _to_lay_over(image, heat: Map, opacity: float) -> tuple[UInt8[np.ndarray, "H W 3"], Float[Tensor, "h w"]]:
    """A picture and a map, if they and the opacity can be used."""
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity is a share from 0 to 1, got {opacity}")
    if heat.ndim != 2:
        raise ValueError(f"expected one map (h, w), got shape {tuple(heat.shape)}: lay over one map at a time")
    heat = as_tensor(heat).float().cpu()
    if not torch.isfinite(heat).all():
        raise ValueError("a map has values that are NaN or infinite: look at the network's output first")
    return as_picture(image), heat


def signed(
    values: Float[Tensor, "3 h w"] | Float[np.ndarray, "3 h w"], quantile: float = 0.995
) -> UInt8[np.ndarray, "h w 3"]:
    """Draw signed values of three channels, such as a gradient, on grey.

    >>> signed(torch.tensor([[[-1.0]], [[0.0]], [[1.0]]])).tolist()
    [[[1, 128, 255]]]

    Zero becomes exactly 128. Both signs and all channels share one scale. It is clipped at a quantile of the absolute
    values, since the largest of them would decide how everything else looks.

    Raises:
        ValueError: if there are not three channels of one picture, or a value is not finite.
    """
    values = as_tensor(values).float()
    if values.ndim != 3 or not torch.isfinite(values).all():
        raise ValueError(f"expected finite values of shape (3, h, w), got {tuple(values.shape)}: draw one at a time")
    sizes = values.abs().flatten()
    bound = float(sizes.quantile(quantile)) or float(sizes.max()) or 1.0
    grey = 128 + 127 * (values / bound).clamp(-1, 1)
    return grey.round().permute(1, 2, 0).to("cpu", torch.uint8).numpy()
