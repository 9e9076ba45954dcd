"""Losses against loops, what each stage may touch, the last layer against a general solver, stops and resumptions."""

import math

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from protopnet_networks import data, network
from scipy import optimize

from xailab import fingerprints
from xailab.protopnet import Settings, Trainer, accuracy, check_projected, fit_last_layer, losses, train
from xailab.protopnet.initialisation import initialise_prototypes
from xailab.protopnet.last_layer import minimise, objective
from xailab.protopnet.settings import JOINT, LAST, PROJECTION, WARM

SHORT = {"features": 1, "warm": 1, "joint": 1, "again": 1, "batch": 6}


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def changed(before, model):
    return {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}


def test_the_losses_by_loops():
    model, (images, labels) = network(3).eval(), data(6, 3)
    terms, right = losses(model, images, labels)
    with torch.no_grad():
        distances = model.forward_details(images).distances.double().numpy()
        logits = model(images)
    cluster, separation = [], []
    for i, label in enumerate(labels.tolist()):
        nearest = distances[i].min((1, 2))
        own = [nearest[j] for j in range(9) if j // 3 == label]
        other = [nearest[j] for j in range(9) if j // 3 != label]
        cluster.append(min(own)), separation.append(min(other))
    terms = type(terms)(*(term.detach() for term in terms))
    assert float(terms.cluster) == pytest.approx(np.mean(cluster), rel=1e-5) and np.mean(cluster) > 0
    assert float(terms.separation) == pytest.approx(np.mean(separation), rel=1e-5)
    assert float(terms.cross_entropy) == pytest.approx(float(F.cross_entropy(logits, labels)), rel=1e-5)
    assert float(terms.l1.detach()) == pytest.approx(9.0) and float(right) == pytest.approx(
        accuracy(model, images, labels)
    )
    to_patch = [min(distances[i, j].min() for i, k in enumerate(labels) if k == j // 3) for j in range(9)]
    assert float(terms.prototype_to_patch) == pytest.approx(np.mean(to_patch), rel=1e-5) and np.mean(to_patch) > 0
    p = model.prototypes.detach().double().numpy()
    pairs = [(a, b) for a in range(9) for b in range(a) if a // 3 == b // 3]
    lacking = [max(0, 1 - ((p[a] - p[b]) ** 2).sum()) for a, b in pairs]
    assert float(terms.diversity) == pytest.approx(np.mean(lacking), rel=1e-5) and np.mean(lacking) > 0
    total = float(terms.total(Settings(cluster=2.0, separation=0.5, l1=0.1, prototype_to_patch=0.3, diversity=0.7)))
    expected = terms.cross_entropy + 2 * terms.cluster - 0.5 * terms.separation + 0.1 * terms.l1
    assert total == pytest.approx(float(expected + 0.3 * terms.prototype_to_patch + 0.7 * terms.diversity), rel=1e-6)


def test_the_loss_is_the_papers_unless_asked_otherwise():
    s = Settings()
    assert (s.cluster, s.separation, s.l1, s.prototype_to_patch, s.diversity) == (0.8, 0.08, 1e-4, 0.0, 0.0)


def test_a_batch_without_a_class_has_finite_terms():
    model, (images, labels) = network(3).eval(), data(6, 3)
    terms, _ = losses(model, images[labels < 2], labels[labels < 2])
    assert all(torch.isfinite(term) for term in terms)
    assert float(losses(network(3, 1).eval(), images, labels)[0].diversity) == 0.0


def test_the_plan_and_what_each_stage_touches():
    model, (images, labels) = network(), data()
    trainer = Trainer(model, images, labels, Settings(**SHORT))
    stages = ["features", "warm-up", "joint", "projection", "last layer", "joint", "projection", "last layer"]
    assert [stage for stage, *_ in trainer.settings.plan()] == stages
    for stage in stages:
        before = state(model)
        epoch = trainer.step()
        assert epoch.stage == stage
        touched = {name.split(".")[0] for name in changed(before, model)}
        expected = {
            "features": {"features", "add_on"},
            WARM: {"add_on", "prototypes"},
            JOINT: {"features", "add_on", "prototypes"},
            PROJECTION: {"prototypes"},
            LAST: {"last_layer"},
        }[stage]
        assert touched <= expected and touched >= expected - {"prototypes"}
        assert math.isnan(epoch.cluster) == (stage not in (WARM, JOINT))
        if stage in (WARM, JOINT, "features"):
            assert model.provenance is None
    assert check_projected(model) is model.provenance
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("stage", [WARM, PROJECTION, LAST])
def test_statistics_do_not_drift_in_frozen_stages(stage):
    """The pitfall: in train mode, the last layer's stage moves the batch norms, and prototypes leave their patches."""
    model, (images, labels) = network(), data()
    trainer = Trainer(model, images, labels, Settings(**{**SHORT, "features": 0}))
    model.train()
    while True:
        before = {name: x.clone() for name, x in model.features.state_dict().items()}
        if trainer.step().stage == stage:
            break
    assert all(torch.equal(x, before[name]) for name, x in model.features.state_dict().items())
    assert all(module.training for module in model.modules())


def test_the_last_layer_leaves_the_embedding_alone():
    model = network(projected=True).train()
    before = fingerprints.fingerprint(model.embedding())
    fit_last_layer(model, *data())
    assert fingerprints.fingerprint(model.embedding()) == before
    check_projected(model)


def problem(classes=3, per_class=2, n=60, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    own = torch.arange(classes * per_class) // per_class == torch.arange(classes)[:, None]
    noise = torch.rand(n, classes * per_class, generator=generator, dtype=torch.float64)
    return noise * 2 + own[labels], labels, own


def test_the_last_layer_is_at_the_minimum():
    """Against L-BFGS-B on positive and negative parts of the weights; and every small step away from it climbs."""
    similarities, labels, own = problem()
    l1, ridge = 2e-2, 1e-2
    weight, fit = minimise(similarities, labels, own, l1, ridge)

    def split(values):
        parts = torch.tensor(values, dtype=torch.float64, requires_grad=True)
        positive, negative = parts.view(2, *own.shape)
        w = positive - negative
        smooth = F.cross_entropy(similarities @ w.mT, labels) + ridge / 2 * w.square().sum()
        loss = smooth + l1 * ((positive + negative) * ~own).sum()
        (slope,) = torch.autograd.grad(loss, parts)
        return float(loss.detach()), slope.numpy()

    found = optimize.minimize(
        split, np.zeros(2 * own.numel()), jac=True, method="L-BFGS-B", bounds=[(0, None)] * 2 * own.numel(),
        options={"ftol": 1e-15, "gtol": 1e-9, "maxiter": 5000},
    )  # fmt: skip
    assert fit.loss == pytest.approx(found.fun, abs=1e-7) and fit.change <= 1e-7
    positive, negative = found.x.reshape(2, *own.shape)
    np.testing.assert_allclose(weight.numpy(), positive - negative, atol=1e-3)
    assert (weight[~own] == 0).any() and not (weight[own] == 0).any()
    generator = torch.Generator().manual_seed(1)
    for _ in range(20):
        step = 1e-2 * torch.randn(weight.shape, generator=generator, dtype=torch.float64)
        assert float(objective(weight + step, similarities, labels, own, l1, ridge)) > fit.loss


def test_the_order_of_the_images_is_no_matter():
    similarities, labels, own = problem()
    weight, _ = minimise(similarities, labels, own)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    again, _ = minimise(similarities[order], labels[order], own)
    assert torch.allclose(weight, again, atol=1e-5)
    for l1, ridge in ((-1.0, 1.0), (0.0, 0.0)):
        with pytest.raises(ValueError, match="expected from 0, and above 0"):
            fit_last_layer(network(), *data(), l1=l1, ridge=ridge)


def test_training_learns_and_projection_is_measured():
    """Bright and dark squares on grey noise are told apart, by prototypes that look at them."""
    generator = torch.Generator().manual_seed(0)
    images = 0.5 + 0.05 * torch.randn(48, 1, 32, 32, generator=generator)
    labels = torch.arange(48) % 2
    for i, image in enumerate(images):
        y, x = torch.randint(2, 22, (2,), generator=generator).tolist()
        image[:, y : y + 9, x : x + 9] += 0.4 if labels[i] else -0.4
    images = images.clamp(0, 1)
    model = network(spread=1)
    settings = Settings(features=6, warm=1, joint=4, again=2, batch=8, lr=1e-2, feature_lr=3e-3)
    seen = []
    history = train(
        model, images[:32], labels[:32], settings, held_out=(images[32:], labels[32:]), progress=False,
        on_epoch=seen.append,
    )  # fmt: skip
    assert seen == history and len(history) == len(settings.plan())
    assert history[-1].accuracy == history[-1].held_out == 1.0
    assert not any(math.isnan(epoch.held_out) for epoch in history)
    assert not any(module.training for module in model.modules())
    check_projected(model)


def test_first_prototypes_are_patches_of_their_class_that_others_lack():
    model, (images, labels) = network().eval(), data(10)
    images = 0.5 + 0.02 * images
    images[3, :, 8:24, 8:24] = 1.0  # nothing like it anywhere else
    initialise_prototypes(model, images, labels, torch.Generator().manual_seed(0))
    with torch.no_grad():
        output = model.forward_details(images)
    own = model.prototype_classes == 1
    nearest = output.distances.flatten(2).amin(2)
    assert all(float(nearest[labels == k][:, model.prototype_classes == k].amin(0).max()) < 1e-9 for k in (0, 1))
    assert int(nearest[:, own.nonzero()[0, 0]].argmin()) == 3
    with pytest.raises(ValueError, match="no training image of class 1"):
        initialise_prototypes(model, images, torch.zeros_like(labels), torch.Generator())


def test_a_seed_decides_and_torch_is_left_alone():
    before = torch.get_rng_state()
    runs = []
    for seed in (1, 1, 2):
        model = network()
        trainer = Trainer(model, *data(), Settings(**SHORT, seed=seed))
        for _ in range(3):
            trainer.step()
        runs.append((trainer.history[-1], state(model)))
    assert runs[0][0] == runs[1][0] != runs[2][0]
    assert all(torch.equal(x, runs[1][1][name]) for name, x in runs[0][1].items())
    assert torch.equal(before, torch.get_rng_state())


def same(a, b) -> bool:
    return a.stage == b.stage and np.array_equal(a[1:], b[1:], equal_nan=True)


def test_a_training_that_was_stopped_goes_on_exactly(tmp_path):
    images, labels = data()
    settings = Settings(**{**SHORT, "joint": 2, "again": 2})

    def noisy(batch, generator):
        return (batch + 0.01 * torch.rand(batch.shape, generator=generator)).clamp(0, 1)

    whole = Trainer(network(), images, labels, settings, augment=noisy)
    whole.run(progress=False)
    path = tmp_path / "checkpoint.safetensors"

    def stopped(after):
        trainer = Trainer(network(), images, labels, settings, augment=noisy)

        def stop(epoch):
            if len(trainer.history) == after:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            trainer.run(checkpoint=path, progress=False, on_epoch=stop)

    for after in (1, 3, 5, 7):  # within features, joint, after a projection, within the second joint
        stopped(after)
    rest = Trainer(network(), images, labels, settings, augment=noisy)
    rest.run(checkpoint=path, progress=False)
    assert all(same(a, b) for a, b in zip(whole.history, rest.history, strict=True))
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, rest.model.state_dict()[name]), name
    assert torch.equal(whole.model.provenance.ids, rest.model.provenance.ids)
    check_projected(rest.model)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    path, (images, labels) = tmp_path / "checkpoint", data()
    trainer = Trainer(network(), images, labels, Settings(**SHORT))
    trainer.step(), trainer.save(path)
    for other, said in (
        (Trainer(network(), images, labels, Settings(**SHORT, cluster=0.5)), r"cluster=0\.8, not 0\.5"),
        (Trainer(network(seed=1), images, labels, Settings(**SHORT)), "another network"),
        (Trainer(network(), 1 - images, labels, Settings(**SHORT)), "another set of images"),
    ):
        with pytest.raises(ValueError, match=f"is of a training with {said}"):
            other.run(checkpoint=path, progress=False)
    with pytest.raises(FileNotFoundError, match="no folder"):
        trainer.run(checkpoint=tmp_path / "missing" / "file", progress=False)


def test_what_cannot_be_trained_is_refused():
    images, labels = data()
    with pytest.raises(ValueError, match="expected 0 to 1"):
        train(network(), images * 255, labels)
    with pytest.raises(ValueError, match="12 images are less than one batch of 64"):
        train(network(), images, labels, Settings(batch=64))
    for options, said in (
        ({"warm": -1}, "warm=-1"),
        ({"batch": 1}, "batch=1"),
        ({"lr": 0.0}, "lr=0.0: expected a number above 0"),
        ({"cluster": -1.0}, r"cluster=-1\.0"),
        ({"diversity": -1.0}, r"diversity=-1\.0"),
        ({"separation": math.nan}, "separation=nan"),
    ):
        with pytest.raises(ValueError, match=said):
            Settings(**options)
    model = network()
    with torch.no_grad():
        model.features.conv1.weight.fill_(math.nan)
    with pytest.raises(ValueError, match="features, epoch 1: the loss is nan; try a smaller lr"):
        train(model, images, labels, Settings(**SHORT), progress=False)


def test_a_network_in_distributed_data_parallel(tmp_path, monkeypatch):
    """Of one process it is the network inside; of several, which would each train their own, it is refused."""
    images, labels = data()
    settings = Settings(**SHORT)
    expected = train(network(), images, labels, settings, progress=False)
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    try:
        wrapped = torch.nn.parallel.DistributedDataParallel(network())
        found = train(wrapped, images, labels, settings, progress=False)
        assert all(same(a, b) for a, b in zip(found, expected, strict=True))
        monkeypatch.setattr(dist, "get_world_size", lambda *_: 2)
        with pytest.raises(ValueError, match=r"a training runs in one process.*train model\.module"):
            train(wrapped, images, labels, settings, progress=False)
    finally:
        dist.destroy_process_group()


def test_prototypes_become_patches_of_the_sources_alone():
    model, (images, labels) = network(2), data(12, 2)
    sources = torch.arange(12) % 3 != 0
    settings = Settings(**SHORT)
    train(model, images, labels, settings, sources=sources, progress=False)
    origin = check_projected(model)
    assert sources[origin.ids].all() and torch.equal(origin.images, images[origin.ids])
    assert torch.equal(labels[origin.ids], model.prototype_classes)


def test_sources_are_one_truth_value_for_each_image(unchecked):
    images, labels = torch.rand(12, 1, 64, 64), torch.arange(12) % 2
    for sources, error in ((torch.ones(11, dtype=torch.bool), ValueError), (torch.arange(12), TypeError)):
        with pytest.raises(error, match="sources"):
            train(network(2), images, labels, Settings(batch=4), sources=sources, progress=False)


def test_a_checkpoint_of_other_sources_is_refused(tmp_path):
    (images, labels), settings = data(12, 2), Settings(features=0, warm=1, joint=0, again=0, batch=6)
    train(network(2), images, labels, settings, checkpoint=tmp_path / "c", progress=False)
    with pytest.raises(ValueError, match="set of images"):
        some = torch.arange(12) < 8
        train(network(2), images, labels, settings, sources=some, checkpoint=tmp_path / "c", progress=False)
