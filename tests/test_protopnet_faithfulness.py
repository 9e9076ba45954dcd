"""Boxes, occlusions and attacks, each against what they are said to do."""

import numpy as np
import pytest
import torch
from protopnet_networks import SIZE, data, network

from xailab.protopnet import (
    KINDS,
    attack,
    candidate_boxes,
    gradient,
    local_analysis,
    masked,
    occlude,
    top_pixels_in_mask,
)
from xailab.protopnet.faithfulness import _measured
from xailab.protopnet.geometry import inside

IMAGES, _ = data(6, seed=9)
PROTOTYPES = torch.tensor([0, 1, 2, 3, 4, 5])


@pytest.fixture(scope="module")
def model():
    return network(projected=True).eval()


def test_the_receptive_field_keeps_the_similarity(model):
    """Whatever the rest is filled with, the cell does not see it; and it sees nothing else."""
    for fill in (None, 0.0, 1.0):
        kept = occlude(
            model, IMAGES, PROTOTYPES, candidate_boxes(model, IMAGES, PROTOTYPES, "receptive field"), fill=fill
        )
        assert (kept.ratio - 1).abs().max() < 1e-5
        assert (kept.anywhere >= kept.at_cell - 1e-6).all()


def test_no_smaller_box_keeps_it(model):
    inner = candidate_boxes(model, IMAGES, PROTOTYPES, "receptive field") + torch.tensor([4, 4, -4, -4])
    assert (occlude(model, IMAGES, PROTOTYPES, inner).ratio - 1).abs().min() > 5e-5


def test_an_occlusion_is_two_forward_passes(model):
    box = candidate_boxes(model, IMAGES, PROTOTYPES, "activation")
    for delete in (False, True):
        found = occlude(model, IMAGES, PROTOTYPES, box, delete=delete, fill=0.25)
        for i, (left, top, right, bottom) in enumerate(box.tolist()):
            image = IMAGES[i].clone() if delete else torch.full_like(IMAGES[i], 0.25)
            part = torch.full_like(IMAGES[i], 0.25) if delete else IMAGES[i]
            image[:, top:bottom, left:right] = part[:, top:bottom, left:right]
            with torch.no_grad():
                before, after = model.forward_details(IMAGES[i : i + 1]), model.forward_details(image[None])
            y, x = before.cells[0, i].tolist()
            assert float(found.before[i]) == pytest.approx(float(before.similarities[0, i]), rel=1e-4)
            assert float(found.at_cell[i]) == pytest.approx(float(after.maps[0, i, y, x]), rel=1e-4)
            assert float(found.anywhere[i]) == pytest.approx(float(after.similarities[0, i]), rel=1e-4)
    mean = masked(IMAGES, box)[0]
    assert float(mean[0, ~inside(box[0], (SIZE, SIZE))].mean()) == pytest.approx(float(IMAGES[0].mean()), abs=1e-6)


def test_the_kinds_of_box(model):
    found = {kind: candidate_boxes(model, IMAGES, PROTOTYPES, kind) for kind in KINDS}
    analysis = local_analysis(model, IMAGES, top=6)
    for i in range(6):
        rank = analysis.prototypes[i].tolist().index(i)
        assert torch.equal(found["activation"][i], analysis.boxes[i, rank])
        assert torch.equal(found["receptive field"][i], analysis.receptive_boxes[i, rank])
        y, x = analysis.cells[i, rank].tolist()
        assert found["cell"][i].tolist() == [8 * x, 8 * y, 8 * x + 8, 8 * y + 8]
    size = (SIZE, SIZE)
    areas = {kind: inside(box, size).flatten(1).sum(1) for kind, box in found.items()}
    assert torch.equal(areas["random"], areas["activation"]) and (areas["cell"] == 64).all()
    assert not torch.equal(found["random"], found["activation"])
    assert torch.equal(found["random"], candidate_boxes(model, IMAGES, PROTOTYPES, "random"))
    # what the gradient reaches lies in the receptive field
    sensitive = gradient(model, IMAGES, PROTOTYPES) > 0
    assert not (sensitive & ~inside(found["receptive field"], size)).any() and sensitive.flatten(1).any(1).all()
    assert (inside(found["gradient"], size) <= inside(found["receptive field"], size)).all()


def test_the_gradient_by_differences(model):
    double = network(projected=True).double().eval()
    images, epsilon = IMAGES.double(), 1e-6
    slope = gradient(double, images, PROTOTYPES)
    for i in range(3):
        y, x = divmod(int(slope[i].argmax()), SIZE)
        moved = images[i : i + 1].repeat(2, 1, 1, 1)
        moved[0, 0, y, x] += epsilon
        moved[1, 0, y, x] -= epsilon
        with torch.no_grad():
            high, low = double.forward_details(moved).similarities[:, i]
        assert float(slope[i, y, x]) == pytest.approx(abs(float(high - low)) / (2 * epsilon), rel=1e-3)


def test_an_attack_stays_outside_and_within_its_budget(model):
    box = candidate_boxes(model, IMAGES, PROTOTYPES, "cell")
    found = attack(model, IMAGES, PROTOTYPES, box, budget=0.1, steps=8)
    change = (found.images - IMAGES).abs()[:, 0]
    assert not change[inside(box, (SIZE, SIZE))].any() and 0 < change.max() <= 0.1 + 1e-6
    assert found.images.min() >= 0 and found.images.max() <= 1
    assert (found.after < found.before).all() and (found.pac > 0).all()
    stronger = attack(model, IMAGES, PROTOTYPES, box, budget=0.1, steps=20)
    assert stronger.after.mean() <= found.after.mean()
    again = attack(model, IMAGES, PROTOTYPES, box, budget=0.1, steps=8)
    assert torch.equal(again.images, found.images)


def test_what_sees_all_cannot_be_attacked_and_the_network_stays(model):
    everything = torch.tensor([[0, 0, SIZE, SIZE]]).expand(6, -1)
    before = {name: x.clone() for name, x in model.state_dict().items()}
    found = attack(model, IMAGES, PROTOTYPES, everything, steps=2)
    assert torch.equal(found.images, IMAGES)
    assert not found.pac.any() and not found.prc.any() and not found.plc.any()
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


def test_outside_the_receptive_field_only_others_can_be_raised(model):
    """The nearest cell is out of reach there, so the similarity cannot fall."""
    box = candidate_boxes(model, IMAGES, PROTOTYPES, "receptive field")
    found = attack(model, IMAGES, PROTOTYPES, box, budget=0.5, steps=10)
    assert (found.after >= found.before - 1e-4).all()


def test_the_three_numbers(model):
    attacked = IMAGES.flip(0)
    found = _measured(model, IMAGES, attacked, PROTOTYPES)
    with torch.no_grad():
        first, second = model.forward_details(IMAGES), model.forward_details(attacked)
    for i in range(6):
        before, after = float(first.similarities[i, i]), float(second.similarities[i, i])
        assert float(found.pac[i]) == pytest.approx(100 * (1 - after / before), rel=1e-4, abs=1e-3)
        others = range(3, 6) if i < 3 else range(3)
        above = [
            sum(float(o.similarities[i, j]) > float(o.similarities[i, i]) for j in others) for o in (first, second)
        ]
        assert int(found.prc[i]) == above[1] - above[0]
        bright = []
        for output in (first, second):
            large = torch.nn.functional.interpolate(output.maps[i : i + 1, i : i + 1], (SIZE, SIZE), mode="bicubic")
            bright.append(set(np.argsort(-large.flatten().numpy(), kind="stable")[: round(0.1 * SIZE * SIZE)].tolist()))
        expected = 100 * (1 - len(bright[0] & bright[1]) / len(bright[0] | bright[1]))
        assert float(found.plc[i]) == pytest.approx(expected, abs=2)


def test_the_share_on_a_mask():
    maps = torch.zeros(1, 2, 8, 8)
    maps[0, 0, 1:3, 1:3] = maps[0, 1, 5:7, 5:7] = 1.0
    masks = torch.zeros(1, 64, 64, dtype=torch.bool)
    masks[0, 4:28, 4:28] = True
    assert top_pixels_in_mask(maps, masks).tolist() == [[1.0, 0.0]]
    half = masks.clone()
    half[:, :, 16:] = False
    assert top_pixels_in_mask(maps, half)[0, 0] == pytest.approx(0.5, abs=0.05)


def test_what_is_asked_wrongly(model, unchecked):
    with pytest.raises(ValueError, match="kind='box': expected one of 'activation', 'cell'"):
        candidate_boxes(model, IMAGES, PROTOTYPES, "box")
    box = candidate_boxes(model, IMAGES, PROTOTYPES, "cell")
    with pytest.raises(ValueError, match=r"budget=0\.0"):
        attack(model, IMAGES, PROTOTYPES, box, budget=0.0)
