"""Networks as files, and the shipped ones: they are what their manifest says."""

import hashlib
import json

import pytest
import torch
from protopnet_networks import data, network
from torch import nn

from xailab import fingerprints, storage
from xailab.datasets import phantoms
from xailab.protopnet import (
    ProtoPNet,
    Settings,
    Trainer,
    accuracy,
    attack,
    candidate_boxes,
    check_projected,
    drop_prototypes,
    features_of,
    fit_last_layer,
    global_analysis,
    gradient,
    load,
    local_analysis,
    losses,
    nearest,
    occlude,
    project,
    prune,
    save,
    shipped,
    top_pixels_in_mask,
    train,
)
from xailab.protopnet.files import KIND
from xailab.protopnet.shipped import WEIGHTS, manifest

NAMES = ("usual", "shortcut", "decoys")


@pytest.mark.parametrize("options", [{}, {"classes": 3}, {"add_on": "bottleneck"}])
def test_a_network_comes_back_as_it_was(tmp_path, options):
    model, path = network(projected=True, **options).eval(), tmp_path / "net"
    save(model, path)
    again = load(path)
    images, _ = data(3)
    with torch.no_grad():
        assert torch.equal(model(images), again(images))
    assert again.classes == model.classes and not again.training
    for name, mine in model.provenance._asdict().items():
        theirs = getattr(again.provenance, name)
        assert torch.equal(mine, theirs) if isinstance(mine, torch.Tensor) else mine == theirs
    local_analysis(again, images)
    first = storage.read(path, KIND)[0]["projected"]["prototypes"][0]
    assert first["image"] == int(model.provenance.ids[0]) and first["cell"] == model.provenance.cells[0].tolist()
    image = model.provenance.images[0].numpy()
    assert first["sha256"] == hashlib.sha256(image.tobytes()).hexdigest() and first["class"] == model.classes[0]


def shared_features(kind):
    """Features that use one layer, or one weight, twice."""
    torch.manual_seed(0)
    layer, other = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
    if kind == "a weight":
        other.weight = layer.weight
    last = {"a layer": layer, "a weight": other, "nothing": other}[kind]
    return nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), layer, nn.BatchNorm2d(8), nn.ReLU(), last)


@pytest.mark.parametrize("kind", ["a layer", "a weight"])
def test_features_that_use_a_layer_twice(tmp_path, kind):
    """Saved, loaded, trained with a checkpoint and gone on with, pruned: the same as ever, and still shared."""
    model, (images, labels) = ProtoPNet(shared_features(kind), 2, 2, dimensions=4), data(8)
    project(model, images, labels)
    save(model, tmp_path / "net")
    again = load(tmp_path / "net", shared_features(kind))
    with torch.no_grad():
        assert torch.equal(model.eval()(images), again(images))
    assert again.features[2].weight is again.features[5].weight
    local_analysis(again, images)
    small = drop_prototypes(again, torch.tensor([0]))
    assert small.features[2].weight is small.features[5].weight
    apart = load(tmp_path / "net", shared_features("nothing"))  # which can hold what the file has
    with torch.no_grad():
        assert torch.equal(apart(images), again(images))
    with torch.no_grad():
        apart.features[5].weight.add_(1)
    save(apart, tmp_path / "apart")
    with pytest.raises(ValueError, match=r"does not fit these features .*shares its values"):
        load(tmp_path / "apart", shared_features(kind))

    settings = Settings(features=1, warm=1, joint=1, again=1, batch=4)
    whole = Trainer(ProtoPNet(shared_features(kind), 2, 2, dimensions=4), images, labels, settings)
    whole.run(progress=False)

    def stop(epoch):
        if epoch.stage == "joint":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped = ProtoPNet(shared_features(kind), 2, 2, dimensions=4)
        train(stopped, images, labels, settings, checkpoint=tmp_path / "state", progress=False, on_epoch=stop)
    rest = ProtoPNet(shared_features(kind), 2, 2, dimensions=4)
    train(rest, images, labels, settings, checkpoint=tmp_path / "state", progress=False)
    assert rest.features[2].weight is rest.features[5].weight
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, rest.state_dict()[name]), name


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda model: torch.compile(model, backend="eager")])
def test_a_wrapped_network_is_the_one_inside(tmp_path, wrap):
    """Every function gives for a wrapped network what it gives for the network, and files know of no wrapper."""
    images, labels = data()
    plain, model = network(), network()
    wrapped = wrap(model)
    settings = Settings(features=1, warm=1, joint=1, again=0, batch=6)
    assert str(train(plain, images, labels, settings, progress=False)) == str(
        train(wrapped, images, labels, settings, progress=False)
    )
    assert accuracy(wrapped, images, labels) == accuracy(plain, images, labels)
    assert torch.equal(project(wrapped, images, labels).ids, project(plain, images, labels).ids)
    assert fit_last_layer(wrapped, images, labels) == fit_last_layer(plain, images, labels)
    assert torch.equal(losses(wrapped, images, labels)[0].cluster, losses(plain, images, labels)[0].cluster)
    assert check_projected(wrapped) is model.provenance
    assert torch.equal(nearest(wrapped, images, labels).cells, nearest(plain, images, labels).cells)
    assert torch.equal(local_analysis(wrapped, images).boxes, local_analysis(plain, images).boxes)
    assert torch.equal(global_analysis(wrapped, images, labels).ids, global_analysis(plain, images, labels).ids)
    assert len(drop_prototypes(wrapped, torch.tensor([0])).prototypes) == len(plain.prototypes) - 1
    assert isinstance(prune(wrapped, images, labels, min_same_class=0).model, ProtoPNet)
    which = torch.zeros(len(images), dtype=torch.long)
    around = candidate_boxes(plain, images, which, "activation")
    assert torch.equal(candidate_boxes(wrapped, images, which, "activation"), around)
    assert torch.equal(gradient(wrapped, images, which), gradient(plain, images, which))
    assert torch.equal(occlude(wrapped, images, which, around).at_cell, occlude(plain, images, which, around).at_cell)
    assert torch.equal(attack(model=wrapped, images=images, prototypes=which, boxes=around, steps=1).pac,
                       attack(plain, images, which, around, steps=1).pac)  # fmt: skip
    save(wrapped, tmp_path / "wrapped")
    save(plain, tmp_path / "plain")
    assert storage.read(tmp_path / "wrapped", KIND)[0] == storage.read(tmp_path / "plain", KIND)[0]
    with torch.no_grad():
        assert torch.equal(load(tmp_path / "wrapped")(images), plain.eval()(images))


def test_a_part_in_a_wrapper_changes_no_name(tmp_path):
    """Files of networks of which a part is in ``DataParallel``, and fingerprints, are those of the plain network."""
    images, labels = data(8)

    def features(wrap):
        torch.manual_seed(0)
        first, second = (nn.Sequential(nn.Conv2d(i, 6, 3, 2, 1), nn.BatchNorm2d(6)) for i in (1, 6))
        return nn.Sequential(wrap(first), nn.ReLU(), second)

    model = ProtoPNet(features(nn.DataParallel), 2, 2, dimensions=4)
    plain = ProtoPNet(features(lambda x: x), 2, 2, dimensions=4)
    assert (
        fingerprints.fingerprint(model)
        == fingerprints.fingerprint(plain)
        == fingerprints.fingerprint(nn.DataParallel(model))
    )
    project(model, images, labels)
    for saved, wrap in ((model, lambda x: x), (plain, nn.DataParallel)):
        save(saved, tmp_path / "net")
        again = load(tmp_path / "net", features(wrap))
        with torch.no_grad():
            assert torch.equal(again(images), saved.eval()(images))
    settings = Settings(features=2, warm=0, joint=0, again=0, batch=4)
    trainer, other = (
        Trainer(ProtoPNet(features(wrap), 2, 2, dimensions=4), images, labels, settings)
        for wrap in (nn.DataParallel, lambda x: x)
    )
    other.step(), other.save(tmp_path / "state"), trainer.resume(tmp_path / "state")
    assert len(trainer.history) == 1 and trainer.step().cross_entropy == other.step().cross_entropy
    for moments, others in zip(trainer.optimizer.state.values(), other.optimizer.state.values(), strict=True):
        assert all(torch.equal(moments[key], others[key]) for key in others)


def test_images_of_whole_bytes_are_kept_as_bytes(tmp_path):
    images, labels = data()
    model = network()
    project(model, (images * 255).round() / 255, labels)
    save(model, tmp_path / "bytes")
    assert torch.equal(load(tmp_path / "bytes").provenance.images, model.provenance.images)
    other = network(projected=True)
    save(other, tmp_path / "floats")
    assert (tmp_path / "bytes").stat().st_size < (tmp_path / "floats").stat().st_size


def test_networks_without_projection_pruned_and_foreign(tmp_path):
    path, (images, _) = tmp_path / "net", data(2)
    save(network(), path)
    with pytest.raises(ValueError, match="not projected"):
        local_analysis(load(path), images)
    pruned = drop_prototypes(network(projected=True), torch.tensor([0, 1]))
    save(pruned, path)
    assert load(path).prototype_classes.tolist() == [0, 1, 1, 1]
    local_analysis(load(path), images)

    import torchvision

    def features():
        return features_of(torchvision.models.resnet18(), channels=1)

    model = ProtoPNet(features(), dimensions=8).eval()
    save(model, path)
    with pytest.raises(ValueError, match="features of its own kind"):
        load(path)
    with torch.no_grad():
        assert torch.equal(load(path, features())(images), model(images))
    with pytest.raises(ValueError, match="does not fit these features"):
        load(path, network().features)


def test_cosine_networks_of_the_first_version_are_refused(tmp_path):
    save(network(), tmp_path / "net")
    description, tensors = storage.read(tmp_path / "net", KIND)
    for similarity in ("log", "cosine"):
        storage.write(tmp_path / similarity, KIND, description | {"similarity": similarity, "note": {}}, tensors)
    assert torch.equal(load(tmp_path / "log").prototypes, network().prototypes)
    with pytest.raises(ValueError, match="has similarity='cosine', which xailab no longer computes"):
        load(tmp_path / "cosine")


def test_a_network_that_changed_since_its_projection_is_refused_after_loading_too(tmp_path):
    model = network(projected=True)
    with torch.no_grad():
        model.add_on[0].weight[0, 0] += 1
    save(model, tmp_path / "net")
    with pytest.raises(ValueError, match="the network changed since"):
        check_projected(load(tmp_path / "net"))


def test_damaged_files_are_refused(tmp_path):
    path = tmp_path / "net"
    save(network(projected=True), path)
    whole = path.read_bytes()
    for damaged in (whole[:-10], b"", whole[:200], whole[:-4] + b"\0\1\2\3"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="damaged"):
            load(path)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "missing")
    with pytest.raises(FileNotFoundError, match="no folder"):
        save(network(), tmp_path / "missing" / "net")


@pytest.mark.parametrize("name", NAMES)
def test_the_shipped_files_are_those_of_the_manifest(name):
    entry, path = manifest()[name], WEIGHTS / f"{name}.safetensors"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"]
    assert path.stat().st_size == entry["bytes"] < 500_000
    assert entry["recipe"].startswith(f"python recipes/phantoms.py {name} ")
    assert set(manifest()) == set(NAMES) and json.loads((WEIGHTS / "manifest.json").read_text()) == manifest()


def test_prototypes_of_the_shipped_networks_are_slices_that_can_be_drawn_again():
    for name in NAMES:
        model = shipped(name)
        origin = check_projected(model)
        for image, index, label in list(zip(origin.images, origin.ids.tolist(), origin.labels.tolist(), strict=True))[
            ::4
        ]:
            kind = "usual" if name == "decoys" else name
            drawn = phantoms.phantom(index, kind=kind, size=manifest()[name]["size"])
            assert drawn.label == label and torch.equal(torch.from_numpy(drawn.image) / 255, image[0])


def test_the_shipped_network_is_as_good_as_it_says():
    model, entry = shipped(), manifest()["usual"]
    results = entry["results"]
    shares = results["on_lesion"]
    assert results["accuracy"] >= 0.95 and sum(shares) / len(shares) >= 0.7
    assert abs(results["receptive_field_ratio"][0] - 1) < 1e-3 > abs(results["receptive_field_ratio"][1] - 1)
    before, projected, _ = results["projections"][-1]
    assert before - projected <= 0.01

    data = phantoms.batch(range(60), split="test", seed=5)
    assert accuracy(model, data.images, data.labels) >= 0.9
    lesion = data.labels == 1
    with torch.no_grad():
        output = model.forward_details(data.images[lesion])
    assert top_pixels_in_mask(output.maps, data.masks[lesion])[:, model.prototype_classes == 1].mean() >= 0.65
    nearest = output.similarities.argmax(1)
    box = candidate_boxes(model, data.images[lesion], nearest, "receptive field")
    assert (occlude(model, data.images[lesion], nearest, box).ratio - 1).abs().max() < 1e-3


def test_the_network_of_the_shortcut_fell_for_it():
    model = shipped("shortcut")
    options = {"kind": "shortcut", "split": "test", "seed": 5}
    with_letter, without_letter = (phantoms.batch(range(24), mark=mark, **options) for mark in (True, False))
    ill = with_letter.labels == 1
    says = [float((model(b.images).argmax(1) == 1).float().mean()) for b in (with_letter, without_letter)]
    assert says[0] > says[1] + 0.3
    with torch.no_grad():
        output = model.forward_details(with_letter.images[~ill])
    cells = output.cells[:, model.prototype_classes == 1]
    assert (
        (cells <= 3).all(2)
    ).float().mean() > 0.3  # healthy slices, and the prototypes of the lesion look at the corner


def test_the_network_of_the_decoys_does_not_take_nothing_for_a_lesion():
    usual, model = shipped("usual"), shipped("decoys")
    assert manifest()["decoys"]["results"]["accuracy"] >= manifest()["usual"]["results"]["accuracy"] - 0.02
    levels = torch.linspace(0, 1, 21).view(-1, 1, 1, 1).expand(-1, 1, 96, 96).contiguous()
    with torch.no_grad():
        assert not model(levels).argmax(1).any() and usual(levels).argmax(1).float().mean() > 0.5


def test_names_that_are_not_there():
    with pytest.raises(ValueError, match="no trained network 'brain': there are"):
        shipped("brain")
