"""Phantoms: rendered slices of heads, with a lesion or without, and the exact mask of the lesion.

    >>> from xailab.datasets import phantoms
    >>> images, labels, masks = phantoms.batch(range(8))
    >>> tuple(images.shape), int(labels.sum())
    ((8, 1, 96, 96), 4)

They look like T1-weighted magnetic resonance images with a contrast agent, and stand in for images of patients, which
may not be passed on. Nothing medical follows from them. A slice is a pure function of (seed, kind, split, index): the
same in any order, worker and process. A slice with a lesion and the slice of the same index without one differ only
inside the mask.

``kind="shortcut"`` plants a confounder that real collections have: in training, every slice with a lesion, and no
other, bears a letter in its corner, as the films of one hospital might. In testing, half of each class bear it.
"""

from xailab.datasets.phantoms.phantoms import CLASSES, KINDS, SPLITS, Batch, Phantom, batch, phantom

__all__ = ["CLASSES", "KINDS", "SPLITS", "Batch", "Phantom", "batch", "phantom"]
