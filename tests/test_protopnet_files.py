"""Networks as files, and the shipped ones: they are what their manifest says."""

import hashlib
import json

import pytest
import torch
from protopnet_networks import data, network

from xailab.datasets import phantoms
from xailab.protopnet import (
    ProtoPNet,
    accuracy,
    boxes,
    check_projected,
    describe,
    features_of,
    load,
    local_analysis,
    occlude,
    on_mask,
    project,
    save,
    shipped,
    without,
)
from xailab.protopnet.shipped import WEIGHTS, manifest

NAMES = ("usual", "shortcut")


@pytest.mark.parametrize("options", [{}, {"similarity": "cosine", "classes": 3}, {"add_on": "bottleneck"}])
def test_a_network_comes_back_as_it_was(tmp_path, options):
    model, path = network(projected=True, **options).eval(), tmp_path / "net"
    save(model, path, note={"recipe": "by hand"})
    again = load(path)
    images, _ = data(3)
    with torch.no_grad():
        assert torch.equal(model(images), again(images))
    assert again.classes == model.classes and not again.training
    for name, mine in model.provenance._asdict().items():
        theirs = getattr(again.provenance, name)
        assert torch.equal(mine, theirs) if isinstance(mine, torch.Tensor) else mine == theirs
    local_analysis(again, images)
    told = describe(path)
    assert told["note"] == {"recipe": "by hand"} and told["similarity"] == model.similarity
    first = told["projected"]["prototypes"][0]
    assert first["image"] == int(model.provenance.ids[0]) and first["cell"] == model.provenance.cells[0].tolist()
    image = model.provenance.images[0].numpy()
    assert first["sha256"] == hashlib.sha256(image.tobytes()).hexdigest() and first["class"] == model.classes[0]


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
    pruned = without(network(projected=True), torch.tensor([0, 1]))
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
            drawn = phantoms.phantom(index, kind=name, size=manifest()[name]["size"])
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
        output = model.look(data.images[lesion])
    assert on_mask(output.maps, data.masks[lesion])[:, model.prototype_classes == 1].mean() >= 0.65
    nearest = output.similarities.argmax(1)
    box = boxes(model, data.images[lesion], nearest, "receptive field")
    assert (occlude(model, data.images[lesion], nearest, box).ratio - 1).abs().max() < 1e-3


def test_the_network_of_the_shortcut_fell_for_it():
    model = shipped("shortcut")
    options = {"kind": "shortcut", "split": "test", "seed": 5}
    with_letter, without_letter = (phantoms.batch(range(24), mark=mark, **options) for mark in (True, False))
    ill = with_letter.labels == 1
    says = [float((model(b.images).argmax(1) == 1).float().mean()) for b in (with_letter, without_letter)]
    assert says[0] > says[1] + 0.3
    with torch.no_grad():
        output = model.look(with_letter.images[~ill])
    cells = output.cells[:, model.prototype_classes == 1]
    assert (
        (cells <= 3).all(2)
    ).float().mean() > 0.3  # healthy slices, and the prototypes of the lesion look at the corner


def test_names_that_are_not_there():
    with pytest.raises(ValueError, match="no trained network 'brain': there are"):
        shipped("brain")
