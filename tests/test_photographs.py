"""The photographs of scikit-image and scikit-learn, and what EfficientNet-Lite0 sees in them."""

import sys

import numpy as np
import pytest
import torch

from xailab.datasets import photographs
from xailab.models import zoo


@pytest.fixture(scope="module")
def network():
    return zoo.load("efficientnet_lite0")


@pytest.mark.parametrize("name", photographs.names())
def test_the_network_names_each_photograph(name, network):
    photograph = photographs.photograph(name)
    assert photograph.image.dtype == np.uint8 and photograph.image.shape[2] == 3
    with torch.no_grad():
        best = network(network.preprocess([photograph.image]))[0].argmax()
    assert network.classes[best] == photograph.label


def test_both_classes_of_a_composite_are_among_the_first_three(network):
    with torch.no_grad():
        best = network(network.preprocess([photographs.stacked("cat", "cup")]))[0].topk(3).indices
    assert {"tiger cat", "espresso"} <= {network.classes[i] for i in best}


def test_a_composite_holds_the_middle_of_each():
    composite = photographs.stacked("cat", "cup")
    cat = photographs.photograph("cat").image
    rows = round(256 * 451 / 512)
    top = (300 - rows) // 2
    expected = np.median(cat[top : top + rows], axis=(0, 1))
    assert np.median(composite[:256], axis=(0, 1)) == pytest.approx(expected, abs=2)


def test_an_unknown_name_and_a_missing_package_say_what_to_do(monkeypatch):
    with pytest.raises(ValueError, match="no photograph 'dog': there are cat"):
        photographs.photograph("dog")
    monkeypatch.setitem(sys.modules, "skimage.data", None)
    with pytest.raises(ModuleNotFoundError, match=r"this photograph needs skimage: pip install .xailab\[course\]"):
        photographs.photograph("cat")
