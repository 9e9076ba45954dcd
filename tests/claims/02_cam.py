"""What lesson 02 says of its numbers and pictures. Names that are not imported are the lesson's."""

import numpy as np
import pytest
import torch

from xailab import images
from xailab.cam import class_activation_map
from xailab.datasets import photographs, scenes
from xailab.metrics import interval


def test_the_identity_and_the_hooks():
    assert len(network.relu1._forward_hooks) == 0 and len(stored) == 1 + 2 + 3 + 4 + 5 + 6
    c = network.classes.index("tiger cat")
    cam, score = cam_with_a_hook(network, network.relu1, network.preprocess(photographs.photograph("cat").image), c)
    assert torch.allclose(cam.mean() + network.fc.bias[c], score[0], atol=1e-4)
    assert cam.max() > 2 * score[0]  # a cell can be far larger than the score
    assert [cam_by_loops(features, torch.tensor([[1.0, 0.0], [-1.0, 2.0]]), c).max() for c in (0, 1)] == [6, 18]


def test_the_composite():
    heats = class_activation_map(network, pair, [[cat, espresso]])[0]
    above = [float(each[:112].sum() / each.sum()) for each in images.upsample(heats.relu(), 224)]
    assert above[0] > 0.8 and above[1] < 0.2
    assert ((probability[[cat, espresso]] > 0.1) & (probability[[cat, espresso]] < 0.14)).all()


def test_the_rocket_is_brightest_beside_itself():
    batch = network.preprocess(photographs.photograph("rocket").image)
    columns = class_activation_map(network, batch)[0].amax(0)  # of seven columns, the rocket stands in the middle one
    assert set(columns.topk(2).indices.tolist()) == {2, 4} and columns[3] < columns[[2, 4]].min()


def test_each_animal_speaks_against_the_other():
    for c, other in ((of_cat, on_dog), (of_dog, on_cat)):
        assert interval(mean_on(cams[:, c], other) < 0)[0] > 0.9
        assert interval(mean_on(relative[:, c], other) < 0)[0] > 0.7
        assert interval(mean_on(relative[:, c], other))[1] < 0
    assert float(change) < 1e-5 and float((moved - scores).min()) > 2


def test_the_measures():
    centre = masks[:, 64, 64]
    assert interval(hits)[0] > interval(centre)[1] + 0.15
    assert hits.mean() == pytest.approx(0.97, abs=0.01) and centre.mean() == pytest.approx(0.70, abs=0.01)
    assert thresholds[chosen] == pytest.approx(0.45) and 0 <= loss < 0.005  # "nothing is lost"
    assert thresholds[3] == pytest.approx(0.2) and test[:, chosen].mean() - test[:, 3].mean() > 0.1
    assert interval(test[:, chosen], np.mean)[0] < test[:, chosen].mean() < interval(test[:, chosen])[1]


def test_a_layer_too_early():
    batch = resnet.preprocess(dog_scene.image)
    with pytest.raises(ValueError, match="is not what this network averages"):
        class_activation_map(resnet, batch, of_dog, layer="layer4.1.bn2")
    error = (early - right).abs().max() / right.max()
    assert float(error) == pytest.approx(0.370, abs=0.002)
    assert abs(early.mean() - right.mean()) < 0.15  # the totals are near each other
    assert right.argmax() in early.flatten().topk(2).indices  # and both look plausible


def test_a_confident_map_of_nothing():
    gibbon = two[1]
    assert gibbon.max() < -1  # every cell speaks against it
    zeros = [float(-heat.min() / (heat.max() - heat.min())) for heat in (gibbon, umbrella)]
    assert zeros == pytest.approx([1.166, 0.807], abs=0.003)
    with torch.no_grad():
        batch = network.preprocess(photographs.photograph("cat").image)
        assert network(batch).softmax(1)[0, network.classes.index("gibbon")] < 1e-4
    dog = class_activation_map(resnet, resnet.preprocess(dog_scene.image), of_dog)[0]
    assert umbrella.max() < 0.1 * dog.max()


def test_training_pictures_prove_nothing():
    fresh = [(head.score(fitted, y), head.score(unseen, truth))]  # of the last one, whose labels were shuffled
    assert fresh[0][0] == 1 and interval(head.predict(unseen) == truth)[0] < 0.1 and fresh[0][1] < 0.25
    assert resnet.preprocess.resize == 128 and scenes.scene(0, size=256).image.shape == (256, 256, 3)


def test_a_box_depends_on_its_threshold():
    assert thresholds[chosen] == pytest.approx(0.45) and thresholds[3] == pytest.approx(0.2)
    assert test[:, [chosen, 3]].mean(0) == pytest.approx([0.63, 0.52], abs=0.006)
    assert (hits.mean(), masks[:, 64, 64].mean()) == pytest.approx((0.97, 0.70), abs=0.006)
