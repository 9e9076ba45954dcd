"""Projection against a loop over all patches; what it must not depend on; what it refuses."""

import warnings

import numpy as np
import pytest
import torch
from protopnet_networks import data, network
from torch.utils.data import DataLoader, Dataset, TensorDataset

from xailab.protopnet import (
    Collapse,
    Settings,
    check_projected,
    fit_last_layer,
    global_analysis,
    losses,
    nearest,
    project,
    train,
)


def by_loops(model, images, labels):
    """For each prototype the nearest own-class patch: (image, row, column, vector)."""
    model.eval()
    with torch.no_grad():
        latent = model.embed(images).double()
    found = []
    for j, owner in enumerate(model.prototype_classes.tolist()):
        best = (float("inf"),)
        for i in range(len(images)):
            for y in range(latent.shape[2]):
                for x in range(latent.shape[3]):
                    distance = float((latent[i, :, y, x] - model.prototypes[j].detach().double()).square().sum())
                    if int(labels[i]) == owner and distance < best[0]:
                        best = (distance, i, y, x)
        found.append(best)
    return found, latent


def test_each_prototype_becomes_its_nearest_own_patch():
    model, (images, labels) = network(3), data(9, 3)
    expected, latent = by_loops(model, images, labels)
    origin = project(model, images, labels)
    for j, (distance, i, y, x) in enumerate(expected):
        assert [int(origin.ids[j]), *origin.cells[j].tolist()] == [i, y, x]
        assert float(origin.moved[j]) == pytest.approx(distance, rel=1e-4)
        assert torch.allclose(model.prototypes[j].double(), latent[i, :, y, x], atol=1e-6)
        assert int(labels[i]) == int(origin.labels[j]) == int(model.prototype_classes[j])
        assert torch.equal(origin.images[j], images[i])


INTEGERS = [torch.int8, torch.uint8, torch.int16, torch.int32, torch.uint16, torch.uint32, torch.int64]


@pytest.mark.parametrize("labels_of", [*INTEGERS, np.array, np.uint8, list])
def test_labels_are_integers_of_any_type(labels_of):
    images, labels = data(9, 3)
    wanted = project(network(3), images, labels)
    other = labels.to(labels_of) if isinstance(labels_of, torch.dtype) else labels_of(labels.tolist())
    found = project(network(3), images, other)
    assert torch.equal(found.ids, wanted.ids) and torch.equal(found.cells, wanted.cells)
    assert found.labels.dtype == torch.int64
    loader = DataLoader([(x, other[i]) for i, x in enumerate(images)], 4)
    assert torch.equal(project(network(3), loader).ids, wanted.ids)
    model = network(3, projected=True)
    assert torch.equal(nearest(model, images, other).labels, labels)
    assert torch.equal(
        global_analysis(model, images, other, k=2).labels, global_analysis(model, images, labels, k=2).labels
    )


def test_labels_that_are_no_class_numbers(unchecked):
    images, labels = data()
    for wrong, error, said in (
        (labels.float(), TypeError, r"integers, 0 to 1\), got torch.float32"),
        (labels.bool(), TypeError, r"got torch.bool"),
        (labels[:3], ValueError, "a label for each of 12 images"),
        (labels - 1, ValueError, "labels go from -1 to 0"),
    ):
        for call in (
            lambda wrong=wrong: project(network(), images, wrong),
            lambda wrong=wrong: nearest(network(), images, wrong),
            lambda wrong=wrong: fit_last_layer(network(), images, wrong),
            lambda wrong=wrong: train(network(), images, wrong, Settings(batch=6), progress=False),
            lambda wrong=wrong: train(network(), *data(), Settings(batch=6), held_out=(images, wrong), progress=False),
            lambda wrong=wrong: losses(network(), images, wrong),
        ):
            with pytest.raises(error, match=said):
                call()


class Sizes(Dataset):
    """Pictures of two sizes in turn."""

    def __len__(self):
        return 6

    def __getitem__(self, i):
        return torch.rand(1, 32 + 8 * (i % 2), 32), i % 2


@pytest.mark.parametrize("batch, said", [(1, "images of 40 x 32 pixels, those before of 32 x 32"), (3, "40, 32")])
def test_pictures_of_several_sizes_are_refused_with_their_sizes(batch, said):
    model, before = network(), network().prototypes.detach().clone()
    with pytest.raises(ValueError, match=f"{said}.*resize or crop all to one size"):
        project(model, DataLoader(Sizes(), batch))
    assert torch.equal(model.prototypes, before) and model.provenance is None


def test_loaders_and_ids_that_do_not_fit(unchecked):
    images, labels = data()
    for loader in (DataLoader(images, 4), DataLoader([{"image": x} for x in images], 4)):
        with pytest.raises(ValueError, match=r"expected \(images, labels\)"):
            project(network(), loader)
    for ids in (torch.arange(11), torch.arange(13)):
        with pytest.raises(ValueError, match=f"{len(ids)} ids for .*12 images|{len(ids)} ids for more than"):
            project(network(), images, labels, ids=ids, batch=6)


def test_a_projected_prototype_is_its_own_patch():
    model, (images, _) = network(projected=True).eval(), data()
    with torch.no_grad():
        output = model.forward_details(images)
    each = torch.arange(len(model.prototypes))
    rows, columns = model.provenance.cells.unbind(1)
    assert output.distances[model.provenance.ids, each, rows, columns].max() <= 1e-6
    assert output.similarities[model.provenance.ids, each].min() > 9.2


def test_prototypes_that_all_become_one_patch_are_told_of():
    model = network()
    with torch.no_grad():
        model.prototypes[3:] = model.prototypes[3]
    with pytest.warns(Collapse, match=r"all 3 prototypes of class 1 became one patch, image \d+ at cell \(\d, \d\)"):
        project(model, *data())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        project(network(), *data()), project(network(2, 1), *data())


def test_projecting_twice_changes_nothing():
    model = network(projected=True)
    first, prototypes = model.provenance, model.prototypes.detach().clone()
    second = project(model, *data())
    assert torch.equal(prototypes, model.prototypes) and second.moved.max() <= 1e-6
    assert torch.equal(first.ids, second.ids) and torch.equal(first.cells, second.cells)
    assert first.embedding == second.embedding


def test_neither_batch_size_nor_order_matter():
    images, labels = data(30)
    images = torch.cat([images, images[:6]])  # equal patches: the lower identity wins
    labels = torch.cat([labels, labels[:6]])
    models = [network() for _ in range(4)]
    order = torch.randperm(36, generator=torch.Generator().manual_seed(3))
    project(models[0], images, labels)
    project(models[1], images, labels, batch=1)
    project(models[2], images, labels, batch=7)
    project(models[3], images[order], labels[order], ids=order, batch=5)
    for model in models[1:]:
        for mine, theirs in zip(models[0].provenance[:4], model.provenance[:4], strict=True):
            assert torch.equal(mine, theirs)
        assert torch.equal(models[0].prototypes, model.prototypes)


def test_train_mode_makes_no_difference_and_stays():
    images, labels = data()
    training, in_eval = network().train(), network().eval()
    before = {name: x.clone() for name, x in training.named_buffers()}
    project(training, images, labels), project(in_eval, images, labels)
    assert torch.equal(training.prototypes, in_eval.prototypes)
    assert all(module.training for module in training.modules())
    assert all(torch.equal(x, before[name]) for name, x in training.named_buffers())


def test_a_loader_does_as_well():
    images, labels = data()
    one, two = network(), network()
    project(one, images, labels)
    project(two, DataLoader(TensorDataset(images, labels), batch_size=5))
    assert torch.equal(one.prototypes, two.prototypes) and torch.equal(one.provenance.ids, two.provenance.ids)


class Flickering(Dataset):
    """Images that are augmented: another one at each reading."""

    def __init__(self):
        self.images, self.labels = data()
        self.generator = torch.Generator().manual_seed(0)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        shift = int(torch.randint(1, 9, (1,), generator=self.generator))
        return self.images[i].roll(shift, 1), self.labels[i]


def test_shuffled_and_augmented_data_are_refused():
    images, labels = data()
    model = network()
    before = model.prototypes.detach().clone()
    with pytest.raises(ValueError, match=r"RandomSampler: .*shuffle=False"):
        project(model, DataLoader(TensorDataset(images, labels), shuffle=True))
    with pytest.raises(ValueError, match="differs from one reading to the next"):
        project(model, DataLoader(Flickering(), batch_size=4))
    assert torch.equal(before, model.prototypes) and model.provenance is None


def test_data_that_is_none_of_the_networks_is_refused(unchecked):
    images, labels = data()
    model = network()
    with pytest.raises(ValueError, match=r"from -2\.\d\d to 2\.\d\d, expected 0 to 1: the network normalises"):
        project(model, (images - 0.5) / 0.25, labels)
    with pytest.raises(ValueError, match="expected grey images"):
        project(model, images.expand(-1, 3, -1, -1), labels)
    with pytest.raises(ValueError, match="no training image of class 1"):
        project(model, images, torch.zeros_like(labels))
    with pytest.raises(ValueError, match="the network has 2 classes"):
        project(model, images, labels + 1)
    with pytest.raises(ValueError, match="a label for each of 12"):
        project(model, images, labels[:3])
    with pytest.raises(ValueError, match="needs labels="):
        project(model, images)


def test_nearest_looks_at_all_classes():
    model, (images, labels) = network().eval(), data(5)
    found = nearest(model, images, labels, batch=2)
    with torch.no_grad():
        output = model.forward_details(images)
    assert torch.allclose(found.distances, output.distances.flatten(2).amin(2), rtol=1e-4, atol=1e-7)
    assert torch.equal(found.cells, output.cells) and torch.equal(found.labels, labels)


def test_a_network_that_changed_is_refused_with_the_reason():
    with pytest.raises(ValueError, match="not projected, so that there is no training patch to show"):
        check_projected(network())
    model = network(projected=True)
    assert check_projected(model) is model.provenance
    with torch.no_grad():
        model.last_layer.weight.add_(1)  # decides no similarity
    check_projected(model)
    model.train()(data()[0])  # one batch in train mode: the statistics drift
    with pytest.raises(ValueError, match=r"no longer their training patches.*features\.bn1\.num_batches_tracked"):
        check_projected(model)
    model = network(projected=True)
    with torch.no_grad():
        model.prototypes[1, 2] += 1e-3
    with pytest.raises(ValueError, match="the first is prototypes"):
        check_projected(model)
