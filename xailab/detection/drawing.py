"""Draw anomaly maps over pictures as they are in their files."""

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from xailab.images import Preprocess, heatmap, upsample


def window(size: tuple[int, int], preprocess: Preprocess) -> tuple[int, int, int, int]:
    """Return the part of a picture that a network sees: (top, left, height, width) in the picture's own pixels.

    >>> window((100, 140), Preprocess(resize=50, crop=40))
    (10, 30, 80, 80)

    Args:
        size: Height and width of the picture.
        preprocess: Preprocessing of the picture.
    """
    if preprocess.crop is None:
        return 0, 0, *size
    scale = 1.0 if preprocess.resize is None else preprocess.resize / min(size)
    seen = [min(side, round(preprocess.crop / scale)) for side in size]
    return (size[0] - seen[0]) // 2, (size[1] - seen[1]) // 2, seen[0], seen[1]


def drawn(
    picture: UInt8[np.ndarray, "h w 3"],
    anomaly_map: Float[Tensor, "_ _"],
    preprocess: Preprocess,
    scale: tuple[float, float],
    threshold: float | None = None,
    opacity: float = 0.75,
) -> UInt8[np.ndarray, "h w 3"]:
    """Draw an anomaly map over its picture at the picture's own size, in colours that mean the same in every picture.

    The part outside the crop is paled, and areas above the threshold get a white outline.

    Args:
        picture: Picture as in its file.
        anomaly_map: Anomaly map, in the frame of ``preprocess``.
        preprocess: Preprocessing of the picture for the detector.
        scale: Score without colour, and score with full colour.
        threshold: Score above which a pixel counts as anomalous.
        opacity: Share of the colour at the upper end of the scale.
    """
    top, left, height, width = window(picture.shape[:2], preprocess)
    inside = np.s_[top : top + height, left : left + width]
    large = upsample(anomaly_map.float()[None], (height, width))[0]
    values = ((large - scale[0]) / max(scale[1] - scale[0], 1e-12)).clamp(0, 1)
    share = opacity * values.numpy()[..., None]
    painted = (0.5 * picture + 0.5 * 255).astype(np.uint8)
    painted[inside] = (share * heatmap(values) + (1 - share) * picture[inside]).round().astype(np.uint8)
    if threshold is not None:
        above = np.zeros(picture.shape[:2], np.uint8)
        above[inside] = (large > threshold).numpy()
        outlines = cv2.findContours(above, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)[0]
        cv2.drawContours(painted, outlines, -1, (255, 255, 255), max(1, min(picture.shape[:2]) // 256))
    return painted
