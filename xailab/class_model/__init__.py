r"""What does a class look like to a network? An image that maximises its score.

Simonyan, Vedaldi, Zisserman, "Deep Inside Convolutional Networks", 2013, arXiv 1312.6034, Section 2:

    I* = argmax_I  S_c(I) - lambda |I|^2,

with the score S_c before the softmax, found by gradient ascent on the image while the network stays as it is. The image
is normalised: I = 0 is the mean colour.

Later work added three kinds of preferences for certain images, which are composed freely: transforms of the images
before each forward pass (``Jitter``, ``Affine``), projections of the images after each step (``Blur``, ``Clip``), and
other coordinates for the ascent (``parametrisation="fourier"``, ``decorrelate=``).

Rooms: ``ascent`` (the gradient ascent), ``transforms`` (transforms and projections), ``parametrisation`` (pixels,
Fourier coefficients, decorrelated colours).
"""

from xailab.class_model.ascent import ClassModel, class_model
from xailab.class_model.parametrisation import colour_root
from xailab.class_model.transforms import Affine, Blur, Clip, Jitter

__all__ = ["Affine", "Blur", "ClassModel", "Clip", "Jitter", "class_model", "colour_root"]
