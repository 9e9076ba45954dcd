"""What lesson 07 says of its numbers and pictures. Names that are not imported are the lesson's."""

import pytest
import torch

from xailab.lessons import protopnet as lesson
from xailab.protopnet import local_analysis, shipped
from xailab.protopnet.shipped import manifest


def test_prototypes():
    healthy, ill = typical
    assert (healthy[5:] < 0.2).all() and (ill[5:] > 3 * healthy[5:]).all()
    assert abs(float(healthy[3] - ill[3])) < 0.3 and healthy[3] > 3 and weight[0, 3] > 0.5


def test_the_stages_by_hand():
    def right(prototypes, last):
        return float((compare(z_test, prototypes, last)[0].argmax(1) == labels).float().mean())

    before, after = right(trained, first_weight), right(projected, first_weight)
    again = right(projected, fitted.last_layer.weight)
    assert 0.05 < before - after < 0.15 and again > before - 0.01
    (before, after, again), (_, last, _) = manifest()["usual"]["results"]["projections"]
    assert 0.08 < before - after < 0.1 and again > before and last > 0.96


def test_negative_reasoning():
    assert 0.4 < from_foreign / (from_own + from_foreign) < 0.5
    assert float(other.last_layer.weight[0, 5:].abs().max()) == 0  # the last fit had the L1 weight 0.01


def test_explanations():
    order = first.contributions[9].abs().argsort(descending=True)[:3].tolist()
    assert order == [9, 8, 3] and first.contributions[9, 3] < 0
    assert (first.prototypes[called, 0] == 3).float().mean() > 0.5
    assert (first.contributions[called].argmax(1) >= 5).all()
    for i, j in enumerate((9, 7)):
        assert float(opening.output.similarities[i, j]) > lesson.LITTLE
    pictured = local_analysis(network, images[9:10], top=10, target=1)
    assert float(pictured.output.logits[0, 1]) > 5


def called_lesion(model, pictures):
    return float((model(pictures).argmax(1) == 1).float().mean())


def test_what_else_looks_like_that():
    assert called_lesion(network, sets["flat grey"]) == called_lesion(network, sets["blurred"]) == 1
    assert called_lesion(network, sets["noise"]) == 0 and called_lesion(network, sets["no lesion"]) < 0.06
    logits = {name: float(network(sets[name])[:, 1].mean()) for name in ("lesion", "flat grey", "blurred")}
    assert logits["lesion"] == pytest.approx(5.3, abs=0.1) and min(logits["flat grey"], logits["blurred"]) > 7
    maps = network.forward_details(sets["flat grey"]).maps[:, 9]
    assert maps.amax((1, 2)).mean() > 4.1 > 2 > maps[:, 2:11, 2:11].amax((1, 2)).mean()
    blurred = network.forward_details(sets["blurred"]).maps[:, 9, 2:11, 2:11]
    assert blurred.amax((1, 2)).mean() > 5
    corner = network.forward_details(sets["flat grey"]).cells[:, 9]
    at_edge = (corner == 0) | (corner == 11)
    assert at_edge.any(1).all() and at_edge.all(1).float().mean() > 0.6


def test_the_cure():
    model = shipped("decoys").requires_grad_(False)
    assert float((model(images).argmax(1) == labels).float().mean()) >= 0.96
    own = model.forward_details(sets["lesion"]).similarities[:, 5:].amax(1).median()
    for name in ("flat grey", "blurred", "noise"):
        assert called_lesion(model, sets[name]) == 0
        assert float(model.forward_details(sets[name]).similarities[:, 5:].max()) < float(own)
    assert called_lesion(model, sets["negative"]) == pytest.approx(0.89, abs=0.02)
    assert called_lesion(model, sets["mosaic"]) == pytest.approx(0.44, abs=0.02)
    assert called_lesion(network, sets["negative"]) > 0.99 and called_lesion(network, sets["mosaic"]) > 0.99
    assert share.min() > 0.6


def test_photographs():
    places = [[(names[[id(s) for s in seen].index(id(picture))], where) for picture, where, _ in row] for row in rows]
    assert [[name for name, _ in row] for row in places] == [
        ["cat", "cat", "cameraman", "motorcycle"],
        ["rocket", "rocket", "cameraman", "cameraman"],
        ["temple"] * 4,
    ]
    assert places[0][1][1][0] > 300 and places[1][1][1][0] > 300  # the other eye, the other mast
    values = torch.tensor([[value for _, _, value in row] for row in rows])
    assert (values[:, 1] > values[:, 2] + 0.09).all()
