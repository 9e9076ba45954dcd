"""The type of the networks that the zoo loads: they know how to prepare their images and what their classes are."""

from typing import TYPE_CHECKING, cast

from torch import nn

from xailab.images import Preprocess

if TYPE_CHECKING:

    class Classifier(nn.Module):
        """A network with its preprocessing and the names of its classes.

        Attributes:
            preprocess: Turns pictures into a batch for the network.
            classes: The name of each class, in the order of the scores.
        """

        preprocess: Preprocess
        classes: tuple[str, ...]
else:
    Classifier = nn.Module  # any network can be one: it keeps its own class, and the names of its layers


def labelled(network: nn.Module, preprocess: Preprocess, classes: tuple[str, ...]) -> Classifier:
    """Give a network its preprocessing and the names of its classes, in place.

    >>> from torch import nn
    >>> network = labelled(nn.Linear(3, 2), Preprocess(resize=32), ("cat", "dog"))
    >>> network.classes
    ('cat', 'dog')
    """
    classifier = cast("Classifier", network)
    classifier.preprocess, classifier.classes = preprocess, classes
    return classifier
