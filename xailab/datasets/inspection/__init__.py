"""Inspection: rendered pictures of seven products, normal and defective, with pixel-exact masks.

    >>> from xailab.datasets import inspection
    >>> image, mask, defect, name = inspection.sample("gear", 4, split="test")
    >>> image.shape, name
    ((256, 256, 3), 'test/scratch/004')

A picture is a pure function of (seed, category, split, index): the same in any order, worker and process. A picture
with a defect and the normal picture of the same index, which ``sample(..., defect="good")`` gives, differ only inside
the mask. `write` puts the same pictures into the folders of MVTec AD.
"""

from xailab.datasets.inspection.inspection import CATEGORIES, OBJECTS, TEXTURES, Inspection, defects, sample, write

__all__ = ["CATEGORIES", "OBJECTS", "TEXTURES", "Inspection", "defects", "sample", "write"]
