"""The photographs that scikit-image and scikit-learn bring with them, and composites of two.

They are on the disk of whoever installed the course, so every lesson can show them. Each has one thing that ImageNet
has a class for; where that thing lies is not recorded.
"""

from dataclasses import dataclass
from importlib import import_module

import cv2
import numpy as np
from jaxtyping import UInt8

from xailab.extras import needed_for

SIDE = 512  # of a composite, in pixels
PANEL = (SIDE // 2, SIDE)  # height and width of each half
SCIKIT_IMAGE, SCIKIT_LEARN = "scikit-image", "scikit-learn"


@dataclass(frozen=True)
class Photograph:
    """A photograph with its origin.

    Attributes:
        image: RGB.
        label: The name of its class in ImageNet, as torchvision spells it.
        author: Who took it.
        licence: Under what terms it may be shown.
        source: The package that carries it.
    """

    image: UInt8[np.ndarray, "h w 3"]
    label: str
    author: str
    licence: str
    source: str


# name: (the package's name for it, label, author, licence, package)
KNOWN = {
    "cat": ("chelsea", "tiger cat", "Stéfan van der Walt", "CC0", SCIKIT_IMAGE),
    "cup": ("coffee", "espresso", "Rachel Michetti", "CC0", SCIKIT_IMAGE),
    "motorcycle": ("stereo_motorcycle", "moped", "Scharstein and others", "Middlebury stereo data 2014", SCIKIT_IMAGE),
    "rocket": ("rocket", "missile", "SpaceX", "public domain", SCIKIT_IMAGE),
    "cameraman": ("camera", "tripod", "Lav Varshney", "CC0", SCIKIT_IMAGE),
    "temple": ("china.jpg", "palace", "danielbuechele", "CC BY 2.0", SCIKIT_LEARN),
    "flower": ("flower.jpg", "daisy", "vultilion", "CC BY 2.0", SCIKIT_LEARN),
}


def names() -> tuple[str, ...]:
    """List the photographs.

    Example:
        >>> names()
        ('cat', 'cup', 'motorcycle', 'rocket', 'cameraman', 'temple', 'flower')
    """
    return tuple(KNOWN)


def photograph(name: str) -> Photograph:
    """Read one photograph.

    Args:
        name: One of `names()`.

    Raises:
        ValueError: if there is no such photograph.
        ModuleNotFoundError: if the package that carries the photograph is not installed.

    Example:
        >>> cat = photograph("cat")
        >>> cat.image.shape, cat.label, cat.licence
        ((300, 451, 3), 'tiger cat', 'CC0')
    """
    if name not in KNOWN:
        raise ValueError(f"no photograph {name!r}: there are {', '.join(KNOWN)}")
    inside, label, author, licence, source = KNOWN[name]
    return Photograph(_read(inside, source), label, author, licence, source)


def stacked(upper: str, lower: str) -> UInt8[np.ndarray, "512 512 3"]:
    """Put two photographs on top of each other, each cut to its middle and resized to half of a square.

    Both classes are then in one picture, and where each of them lies is known: in its half.

    Args:
        upper, lower: Two of `names()`.

    Raises:
        ValueError: if there is no such photograph.
        ModuleNotFoundError: if the package that carries one of them is not installed.

    Example:
        >>> stacked("cat", "cup").shape
        (512, 512, 3)
    """
    return np.concatenate([middle(photograph(name).image, *PANEL) for name in (upper, lower)])


def middle(image: UInt8[np.ndarray, "h w 3"], height: int, width: int) -> UInt8[np.ndarray, "H W 3"]:
    """Cut the largest middle part of the wanted proportions, and resize it.

    Args:
        image: RGB.
        height, width: Size of the result in pixels.

    Example:
        >>> middle(np.zeros((300, 451, 3), np.uint8), 256, 512).shape
        (256, 512, 3)
    """
    scale = min(image.shape[0] / height, image.shape[1] / width)
    rows, columns = round(height * scale), round(width * scale)
    top, left = (image.shape[0] - rows) // 2, (image.shape[1] - columns) // 2
    method = cv2.INTER_AREA if scale > 1 else cv2.INTER_CUBIC
    return cv2.resize(image[top : top + rows, left : left + columns], (width, height), interpolation=method)


def _read(inside: str, source: str) -> UInt8[np.ndarray, "h w 3"]:
    with needed_for("this photograph", extra="course"):
        if source == SCIKIT_LEARN:
            return np.array(import_module("sklearn.datasets").load_sample_image(inside))
        loaded = getattr(import_module("skimage.data"), inside)()
    image = loaded[0] if isinstance(loaded, tuple) else loaded  # the left one of a stereo pair
    return np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image
