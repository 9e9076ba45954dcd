"""From a map to a place: boxes around what is bright, and segments grown from it."""

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from xailab.boxes import Box
from xailab.images import as_array, as_picture, is_constant


def components(mask: Bool[np.ndarray, "h w"]) -> Int[np.ndarray, "h w"]:
    """Number the 8-connected components of a mask from 1; the background is 0.

    >>> components(np.array([[True, False, False, True], [False, True, False, True]])).tolist()
    [[1, 0, 0, 2], [0, 1, 0, 2]]
    """
    from scipy import ndimage

    numbers = np.empty(mask.shape, np.int32)
    ndimage.label(mask, structure=np.ones((3, 3)), output=numbers)
    return numbers


def boxes(heatmap: Float[Tensor, "h w"] | Float[np.ndarray, "h w"], threshold: float) -> list[Box]:
    """Box each connected region in which a map reaches a share of its maximum.

    Pixels that reach threshold * max(heatmap) form 8-connected components (CAM paper, Section 3.1.1, with
    20 %; Grad-CAM uses 15 %). A map without a positive value has no evidence and gives no box.

    Args:
        heatmap: One map (h, w), raw or upsampled; only the positive part counts.
        threshold: Share of the maximum, above 0 and at most 1.

    Returns:
        Boxes, the one of the largest component first.

    Raises:
        ValueError: if the threshold is no such share, or the map is not one map of finite values.

    >>> boxes(np.array([[0.0, 2, 2, 0], [9, 0, 0, 0], [0, 0, 8, 8]]), threshold=0.5)
    [Box(left=2, top=2, right=4, bottom=3), Box(left=0, top=1, right=1, bottom=2)]
    """
    from scipy import ndimage

    if not 0 < threshold <= 1:
        raise ValueError(f"threshold is a share of the map's maximum, above 0 and at most 1; got {threshold}")
    values = _values(heatmap)
    if values.size == 0 or values.max() <= 0:
        return []
    labels = components(values >= threshold * values.max())
    sizes = np.bincount(labels.ravel())[1:]
    slices = ndimage.find_objects(labels)
    order = np.argsort(-sizes, kind="stable")
    return [Box(x.start, y.start, x.stop, y.stop) for y, x in (slices[i] for i in order)]


def grabcut(
    image: UInt8[np.ndarray, "h w 3"],
    heatmap: Float[Tensor, "h w"] | Float[np.ndarray, "h w"],
    foreground: float = 0.95,
    background: float = 0.30,
    *,
    rounds: int = 5,
    seed: int = 0,
) -> Bool[np.ndarray, "h w"]:
    """Segment the object that a map points at, by its colours (Simonyan et al. 2013, arXiv 1312.6034, Section 3.2).

    Pixels from the ``foreground`` quantile of the map upwards are taken to be the object, those up to the
    ``background`` quantile not; both give colour models, and a graph cut decides on the rest. The largest 8-connected
    component of the outcome is kept. (OpenCV's GrabCut: Rother, Kolmogorov, Blake, SIGGRAPH 2004; mixtures of five
    Gaussians for each side.)

    Args:
        image: The picture.
        heatmap: A map of the picture's size (see ``images.upsample``), a saliency map, say.
        foreground: Quantile of the map from which a pixel is the object for sure.
        background: Quantile of the map up to which it is the background for sure.
        rounds: Number of times that colour models and cut are renewed.
        seed: Seed of the colour models' first clusters.

    Returns:
        A mask of the object; empty where the cut leaves nothing.

    Raises:
        ValueError: if the map is constant, so that there are no seeds; if the quantiles are not in order, the shapes
            differ, or a value is not finite.

    >>> picture = np.full((40, 40, 3), 40, np.uint8)
    >>> picture[10:30, 10:30] = 220
    >>> grabcut(picture, np.pad(np.ones((10, 10)), 15), background=0.2)[[0, 20], [0, 20]].tolist()
    [False, True]
    """
    import cv2

    image, values = as_picture(image), _values(heatmap)
    if values.shape != image.shape[:2]:
        raise ValueError(f"map {values.shape} and picture {image.shape[:2]} differ in size: upsample the map first")
    if not 0 < background < foreground < 1:
        raise ValueError(f"expected 0 < background < foreground < 1, got {background} and {foreground}")
    if is_constant(values):
        raise ValueError(
            f"the map is constant ({values[0, 0]:.3g} everywhere): there is nothing to grow an object from"
        )
    low, high = np.quantile(values, [background, foreground])
    sure = (values >= high) & (values > low)
    if not sure.any():
        raise ValueError(
            f"no pixel is a seed of the foreground: so many share one value that the map's {background:.0%} and "
            f"{foreground:.0%} quantiles are both {low:.3g}; lower background=, or give a map with more contrast"
        )
    labels = np.full(values.shape, cv2.GC_PR_BGD, np.uint8)
    labels[sure], labels[values <= low] = cv2.GC_FGD, cv2.GC_BGD
    cv2.setRNGSeed(seed)
    models = np.zeros((2, 1, 65))
    cv2.grabCut(
        cv2.cvtColor(image, cv2.COLOR_RGB2BGR),
        labels,
        (0, 0, 0, 0),
        models[0],
        models[1],
        rounds,
        cv2.GC_INIT_WITH_MASK,
    )
    found = (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)
    regions = components(found)
    return found if regions.max() < 2 else regions == 1 + np.bincount(regions.ravel())[1:].argmax()


def _values(heatmap: Tensor | np.ndarray) -> np.ndarray:
    """One finite map as an array."""
    values = as_array(heatmap)
    if values.ndim != 2:
        raise ValueError(f"expected one map (h, w), got shape {values.shape}: take one map at a time")
    if not np.isfinite(values).all():
        raise ValueError("the map has values that are NaN or infinite: look at the network's output first")
    return values


def ground_truth_box(mask: Bool[np.ndarray, "h w"]) -> Box:
    """Find the smallest box around a mask.

    Raises:
        ValueError: if the mask is empty.

    >>> ground_truth_box(np.array([[False, False, False], [False, True, True]]))
    Box(left=1, top=1, right=3, bottom=2)
    """
    if not mask.any():
        raise ValueError("the mask is empty: there is nothing to put a box around")
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
