"""Local and global analysis against loops and the authors' steps; pruning; the files; what is refused."""

import cv2
import numpy as np
import pytest
import torch
from protopnet_networks import SIZE, data, network
from torch import nn

from xailab.protopnet import ProtoPNet, drop_prototypes, fit_last_layer, global_analysis, local_analysis, project, prune
from xailab.protopnet.pictures import activated, bounding_boxes, text, write


@pytest.fixture(scope="module")
def model():
    made = network(projected=True)
    fit_last_layer(made, *data(12))
    return made.eval()


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}, [m.training for m in model.modules()]


def test_a_local_analysis_step_by_step():
    """As the authors' program goes: one image, sort, resize, 95th percentile, box."""
    model, (images, _) = network(projected=True), data(3, seed=7)
    found = local_analysis(model, images, top=4)
    model.eval()
    for i, image in enumerate(images):
        with torch.no_grad():
            output = model.forward_details(image[None])
        order = np.argsort(-output.similarities[0].numpy(), kind="stable")[:4]
        assert found.prototypes[i].tolist() == order.tolist()
        assert int(found.predicted[i]) == int(output.logits.argmax())
        for rank, j in enumerate(order):
            assert float(found.similarities[i, rank]) == pytest.approx(float(output.similarities[0, j]), rel=1e-5)
            large = cv2.resize(output.maps[0, j].numpy(), (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
            np.testing.assert_allclose(found.large[i, rank].numpy(), large, atol=1e-4)
            rows, columns = np.nonzero(large >= np.percentile(large, 95))
            box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert np.abs(np.array(found.boxes[i, rank].tolist()) - box).max() <= 1
            y, x = found.cells[i, rank].tolist()
            assert output.maps[0, j, y, x] == output.maps[0, j].max()
            span = [max(8 * x - 13, 0), max(8 * y - 13, 0), min(8 * x + 14, SIZE), min(8 * y + 14, SIZE)]
            assert found.receptive_boxes[i, rank].tolist() == span


def test_contributions_sum_to_the_logit(model):
    images, _ = data(5, seed=3)
    for target in (None, 0, [1, 0, 0, 1, 0]):
        found = local_analysis(model, images, target=target)
        logits = found.output.logits.gather(1, found.target[:, None])[:, 0]
        assert torch.allclose(found.contributions.sum(1), logits, atol=1e-5)
    assert found.target.tolist() == [1, 0, 0, 1, 0] and len(found) == 5


def test_a_batch_is_image_by_image(model):
    images, _ = data(4, seed=5)
    whole = local_analysis(model, images)
    for i in range(4):
        one = local_analysis(model, images[i : i + 1])
        assert one.prototypes[0].tolist() == whole.prototypes[i].tolist()
        assert torch.allclose(one.maps[0], whole.maps[i], rtol=1e-3, atol=1e-5)
        assert torch.allclose(one.contributions[0], whole.contributions[i], atol=1e-4)


def test_a_prototype_explains_its_own_image(model):
    """On its training image, a prototype's nearest cell is the patch it is, at similarity 9.21."""
    origin = model.provenance
    found = local_analysis(model, origin.images, top=len(model.prototypes))
    for j in range(len(model.prototypes)):
        rank = found.prototypes[j].tolist().index(j)
        assert float(found.similarities[j, rank]) == pytest.approx(9.2103, abs=0.02)
        assert found.cells[j, rank].tolist() == origin.cells[j].tolist()
        assert torch.equal(found.boxes[j, rank], found.origin.boxes[j])
        assert torch.equal(found.receptive_boxes[j, rank], found.origin.receptive_boxes[j])


def test_the_network_is_left_as_it_was(model):
    model.train()
    model.features.bn2.eval()
    before, modes = state(model)
    images, labels = data()
    evaluated = network(projected=True)
    local_analysis(model, images), global_analysis(model, images, labels)
    prune(model, images, labels, min_same_class=0)
    after, modes_after = state(model)
    assert modes == modes_after and all(torch.equal(x, before[name]) for name, x in after.items())
    model.eval()
    a, b = (local_analysis(m, images).output.similarities for m in (evaluated.train(), evaluated.eval()))
    assert torch.equal(a, b)  # a network in train mode is analysed in eval mode


def test_what_cannot_be_analysed_is_refused(model):
    images, _ = data(2)
    with pytest.raises(ValueError, match="not projected"):
        local_analysis(network(), images)
    changed = network(projected=True)
    with torch.no_grad():
        changed.add_on[0].bias[0] += 1
    with pytest.raises(ValueError, match=r"no longer their training patches, for the network changed.*add_on\.0\.bias"):
        local_analysis(changed, images)
    with pytest.raises(ValueError, match="top=50: the network has 6 prototypes"):
        local_analysis(model, images, top=50)
    with pytest.raises(ValueError, match="leave out any normalisation"):
        local_analysis(model, images * 4 - 2)
    with pytest.raises(ValueError, match="expected grey images"):
        local_analysis(model, images.expand(-1, 3, -1, -1))
    with pytest.raises(ValueError, match="class numbers go from 0 to 1"):
        local_analysis(model, images, target=2)
    assert local_analysis(network(2, 1, projected=True), images).prototypes.shape == (2, 2)  # fewer than the usual five


def test_cells_that_see_everything_get_the_whole_image():
    images, labels = data(6)
    model = ProtoPNet(nn.Sequential(nn.Conv2d(1, 4, 8, 8), nn.GroupNorm(2, 4)), 2, dimensions=5)
    assert project(model, images, labels).field is None
    found = local_analysis(model, images[:2], top=1)
    assert found.receptive_boxes.tolist() == [[[0, 0, SIZE, SIZE]]] * 2
    assert found.origin.receptive_boxes.tolist() == [[0, 0, SIZE, SIZE]] * 4


def test_global_analysis_by_loops(model):
    images, labels = data(20, seed=4)
    found = global_analysis(model, images, labels, k=4, batch=7)
    with torch.no_grad():
        output = model.forward_details(images)
    for j in range(len(model.prototypes)):
        order = np.argsort(-output.similarities[:, j].numpy(), kind="stable")[:4]
        assert found.ids[j].tolist() == order.tolist() and len(set(order)) == 4  # one patch an image
        np.testing.assert_allclose(found.similarities[j].numpy(), output.similarities[order, j].numpy(), rtol=1e-4)
        assert torch.equal(found.cells[j], output.cells[order, j]) and torch.equal(found.labels[j], labels[order])
        assert found.of_own_class[j].tolist() == [int(labels[i]) == int(model.prototype_classes[j]) for i in order]
    one = local_analysis(model, images[found.ids[2, 0]][None], top=6)
    rank = one.prototypes[0].tolist().index(2)
    assert torch.equal(found.receptive_boxes[2, 0], one.receptive_boxes[0, rank])
    assert (found.boxes[2, 0] - one.boxes[0, rank]).abs().max() <= 1
    with pytest.raises(ValueError, match="k=21 nearest of 20"):
        global_analysis(model, images, labels, k=21)


def test_the_nearest_training_patch_is_the_prototypes_own(model):
    images, labels = data(12)
    found = global_analysis(model, images, labels, k=2)
    assert torch.equal(found.ids[:, 0], model.provenance.ids) and torch.equal(found.cells[:, 0], model.provenance.cells)


def test_a_pruned_network_is_the_whole_one_with_those_columns_at_zero(model):
    images, labels = data(12)
    smaller = drop_prototypes(model, torch.tensor([1, 4]))
    zeroed = network(projected=True).eval()
    zeroed.load_state_dict(model.state_dict())
    with torch.no_grad():
        zeroed.last_layer.weight[:, [1, 4]] = 0
        assert torch.allclose(smaller(images), zeroed(images), atol=1e-5)
    assert smaller.prototype_classes.tolist() == [0, 0, 1, 1] and len(model.prototypes) == 6
    assert smaller.provenance.ids.tolist() == model.provenance.ids[[0, 2, 3, 5]].tolist()
    local_analysis(smaller, images)
    fit_last_layer(smaller, images, labels)
    local_analysis(smaller, images)


def test_pruning_by_the_classes_of_the_nearest_patches(model):
    images, labels = data(20, seed=4)
    own = global_analysis(model, images, labels, k=5).of_own_class.sum(1)
    least = min(int(own[:3].max()), int(own[3:].max()))  # so that each class keeps one
    pruned = prune(model, images, labels, k=5, min_same_class=least)
    assert torch.equal(pruned.of_own_class, own)
    assert pruned.kept.tolist() == [j for j in range(6) if own[j] >= least]
    assert sorted([*pruned.kept.tolist(), *pruned.dropped.tolist()]) == list(range(6))
    assert len(pruned.model.prototypes) == len(pruned.kept)
    with pytest.raises(ValueError, match="class 0, 1 would lose all its prototypes: of the 5 nearest patches of each"):
        prune(model, images, labels, k=5, min_same_class=6)
    with pytest.raises(ValueError, match="no prototype would be left"):
        drop_prototypes(model, torch.arange(6))


def test_the_files(model, tmp_path):
    images, _ = data(2, seed=7)
    found = local_analysis(model, images, top=2)
    folder = write(found, tmp_path / "out", epoch=25)
    names = sorted(path.name for path in (folder / "img" / "epoch-25").iterdir())
    stems = ("prototype-img{}.png", "prototype-img-original{}.png", "prototype-img-original_with_self_act{}.png")
    expected = [stem.format(j) for stem in (*stems, "prototype-self-act{}.npy") for j in range(6)]
    assert names == sorted([*expected, "bb25.npy"])
    prototypes = folder / "img" / "epoch-25"

    rows = np.load(prototypes / "bb25.npy", allow_pickle=False)
    assert rows.shape == (6, 6) and np.array_equal(rows, bounding_boxes(found))
    for j, (index, y1, y2, x1, x2, label) in enumerate(rows.tolist()):
        assert [index, label] == [int(model.provenance.ids[j]), int(model.prototype_classes[j])]
        whole = cv2.imread(str(prototypes / f"prototype-img-original{j}.png"))
        crop = cv2.imread(str(prototypes / f"prototype-img{j}.png"))
        pixels = (model.provenance.images[j, 0] * 255).round().numpy()
        assert np.array_equal(whole[..., 0], pixels) and np.array_equal(crop, whole[y1:y2, x1:x2])
        act = np.load(prototypes / f"prototype-self-act{j}.npy", allow_pickle=False)
        assert act.shape == (4, 4) and act.max() == pytest.approx(9.2103, abs=0.02)

    for i in range(2):
        files = {path.name for path in (folder / str(i)).iterdir()}
        assert {f"top-{k}_activated_prototype.txt" for k in (1, 2)} <= files and len(files) == 1 + 2 * 7
        lines = (folder / str(i) / "top-1_activated_prototype.txt").read_text().splitlines()
        j = int(found.prototypes[i, 0])
        weights = model.last_layer.weight[:, j].tolist()
        assert lines == [
            f"similarity: {float(found.similarities[i, 0]):.3f}",
            f"last layer connection with predicted class: {weights[int(found.predicted[i])]:.3f}",
            f"proto index:{j}",
            f"proto connection to class 0:{weights[0]:.4f}",
            f"proto connection to class 1:{weights[1]:.4f}",
        ]
        assert text(found, i, 0).splitlines() == lines
        crop = cv2.imread(str(folder / str(i) / "top-1_activated_prototype.png"))
        assert np.array_equal(crop, cv2.imread(str(prototypes / f"prototype-img{j}.png")))
        left, top, right, bottom = found.boxes[i, 0].tolist()
        patch = cv2.imread(str(folder / str(i) / "most_highly_activated_patch_by_top-1_prototype.png"))
        assert patch.shape[:2] == (bottom - top, right - left)
    assert not list(folder.rglob("*.part"))
    with pytest.raises(FileNotFoundError, match="no folder"):
        write(found, tmp_path / "missing" / "out")


def test_overlays_are_half_the_picture_and_a_share_of_jet(model):
    import matplotlib

    image = torch.full((1, 8, 8), 0.6)
    large = torch.zeros(8, 8)
    large[2, 3] = 1
    drawn = activated(image, large)
    for place, value in (((0, 0), 0.0), ((2, 3), 1.0)):
        colour = np.array(matplotlib.colormaps["jet"](value)[:3]) * 255
        np.testing.assert_allclose(drawn[place], 0.5 * 153 + 0.3 * colour, atol=1)


def test_colour_images_are_written_as_they_are(tmp_path):
    images, labels = data(6, channels=3)
    model = network(channels=3)
    project(model, images, labels)
    folder = write(local_analysis(model, images[:1], top=1), tmp_path / "out")
    found = cv2.imread(str(folder / "0" / "original_img.png"))[..., ::-1]
    assert np.array_equal(found, (images[0] * 255).round().permute(1, 2, 0).numpy().astype(np.uint8))
