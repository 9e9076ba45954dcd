"""The exercises: their cases, their wrong answers, and their checks."""

import numpy as np

from xailab.lessons import Wrong, exercise


@exercise("00.1")
def _(my_mirror) -> str:
    for shape in ((2, 3, 3), (4, 2, 3), (3, 5, 3)):
        picture = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
        mirrored = np.asarray(my_mirror(picture))
        if mirrored.shape != shape:
            raise Wrong(f"a mirrored picture keeps its shape {shape}, yours has {mirrored.shape}.")
        if np.array_equal(mirrored, picture):
            raise Wrong("that is the picture as it was: reverse the columns.")
        if np.array_equal(mirrored, picture[::-1]):
            raise Wrong("that is upside down: rows come first, columns second.")
        if np.array_equal(mirrored, picture[::-1, ::-1]):
            raise Wrong("that is turned by half a turn: reverse the columns alone.")
        if np.array_equal(mirrored, picture[:, :, ::-1]):
            raise Wrong("that exchanges red and blue: the last dimension is colour, the middle one is x.")
        if not np.array_equal(mirrored, picture[:, ::-1]):
            raise Wrong("expected the columns in reverse order, and nothing else changed.")
    return "pictures are (rows, columns, colours), and you know your way around them."
