"""Label the regions of a mask."""

import numpy as np
import scipy.ndimage
from jaxtyping import Bool, Int

EIGHT = np.ones((3, 3))  # pixels that touch at a corner belong to one region


def components(mask: Bool[np.ndarray, "*shape"], structure: np.ndarray | None = EIGHT) -> Int[np.ndarray, "*shape"]:
    """Number the regions of a mask from 1; 0 is the background.

    >>> components(np.array([[True, False], [False, True]])).max().item()
    1
    """
    labels = np.empty(mask.shape, np.int32)
    scipy.ndimage.label(mask, structure, labels)
    return labels
