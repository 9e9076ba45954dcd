"""The losses against numpy, stops and resumptions, the warning of collapse, the objectives."""

import json
import warnings

import numpy as np
import patch_svdd_textbook as textbook
import pytest
import torch

from xailab.patch_svdd import Collapse, Settings, Trainer, training
from xailab.patch_svdd.network import initial_encoder

IMAGES = (255 * torch.rand(3, 3, 72, 80, generator=torch.Generator().manual_seed(0))).to(torch.uint8)
MEAN = IMAGES.double().mean(0).div(255).float()


def trainer(images=IMAGES, **options):
    return Trainer(Settings(**{"dimensions": 8, "batch": 2, "lr": 1e-3, **options}), images, MEAN)


def recorded(monkeypatch):
    """The pairs that a training draws, by task and size; its patches are not jittered."""
    drawn = {}

    def recording(name, draw):
        def record(*arguments):
            drawn[name, arguments[3]] = draw(*arguments)
            return drawn[name, arguments[3]]

        return record

    for name in ("close_pairs", "position_pairs"):
        monkeypatch.setattr(training, name, recording(name, getattr(training, name)))
    monkeypatch.setattr(training, "jittered", lambda patches, generator: patches)
    return drawn


def embeddings(p, pairs, which, size):
    """Of the main patches or the neighbours, with the mean image subtracted, as a textbook computes them."""
    standard = IMAGES.double().numpy() / 255 - MEAN.double().numpy()
    places = zip(pairs.images.tolist(), getattr(pairs, which).tolist(), strict=True)
    return np.array([textbook.embed(p, standard[n][:, r : r + size, c : c + size]) for n, (r, c) in places])


@pytest.mark.parametrize("objective", ["neighbours and position", "neighbours", "centre"])
def test_the_losses_are_those_of_the_paper(monkeypatch, objective):
    training_ = trainer(objective=objective, batch=3)
    p = textbook.parameters(training_.encoder)
    heads = {size: textbook.parameters(training_.modules[f"position_{size}"]) for size in (64, 32)}
    drawn = recorded(monkeypatch)
    step = training_.step()
    for size in (64, 32):
        main = embeddings(p, drawn["close_pairs", size], "main", size)
        if objective == "centre":
            goal = training_.centres[size].double().numpy()
        else:
            goal = embeddings(p, drawn["close_pairs", size], "neighbour", size)
        svdd = np.sqrt(((main - goal) ** 2).sum(1)).mean()
        assert getattr(step, f"svdd_{size}") == pytest.approx(svdd, rel=1e-4)
        spread = np.sqrt(((main - main.mean(0)) ** 2).sum(1).mean())
        assert getattr(step, f"spread_{size}") == pytest.approx(spread, rel=1e-4)
        position = 0.0
        if objective == "neighbours and position":
            pairs = drawn["position_pairs", size]
            apart = embeddings(p, pairs, "main", size) - embeddings(p, pairs, "neighbour", size)
            position = -np.mean(
                [textbook.classify(heads[size], d)[y] for d, y in zip(apart, pairs.directions, strict=True)]
            )
        assert getattr(step, f"position_{size}") == pytest.approx(position, rel=1e-4)


def test_the_centre_is_the_mean_at_the_start(monkeypatch):
    monkeypatch.setattr(training, "CENTRE_OF", 3)
    drawn = recorded(monkeypatch)
    centres = trainer(objective="centre").centres
    p = textbook.parameters(initial_encoder(8, 0))
    for size in (64, 32):
        mean = embeddings(p, drawn["close_pairs", size], "main", size).mean(0)
        np.testing.assert_allclose(centres[size].numpy(), mean, atol=1e-6)


def test_lambda_weighs_the_pull_of_neighbours():
    """A step of plain gradient descent is linear in lambda: that of L_SSL, and lambda times that of L_SVDD'."""
    moved = []
    for lambda_ in (0.0, 1.0, 3.0):
        one = trainer(lambda_=lambda_)
        one.optimizer = torch.optim.SGD(one.encoder.parameters(), lr=1.0)
        before = one.encoder.enc.conv3.weight.detach().double().clone()
        one.step()
        moved.append(one.encoder.enc.conv3.weight.detach() - before)
    pull = moved[1] - moved[0]
    assert pull.abs().max() > 0
    assert torch.allclose(moved[2] - moved[0], 3 * pull, rtol=1e-2, atol=1e-5 * float(pull.abs().max()) + 1e-6)


@pytest.mark.parametrize("options", [{}, {"objective": "centre"}, {"frozen": True}])
def test_a_training_that_was_stopped_goes_on_exactly(tmp_path, monkeypatch, options):
    monkeypatch.setattr(training, "CENTRE_OF", 2)
    whole = trainer(**options)
    whole.run(5, progress=False)
    path = tmp_path / "checkpoint.safetensors"

    def stop(step, measured):
        if step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer(**options).run(5, checkpoint=path, every=3, progress=False, on_step=stop)
    seen = []
    rest = trainer(**options)
    rest.run(5, checkpoint=path, every=3, progress=False, on_step=lambda step, measured: seen.append(step))
    assert seen == [4, 5] and rest.history == whole.history
    for name, value in whole.modules.state_dict().items():
        assert torch.equal(value, rest.modules.state_dict()[name]), name
    more, again = trainer(**options), trainer(**options)
    more.run(6, checkpoint=path, progress=False)  # from the checkpoint at the end
    again.run(6, progress=False)
    assert more.history == again.history and [path.name] == [each.name for each in tmp_path.iterdir()]


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    trainer().run(1, checkpoint=path, progress=False)
    with pytest.raises(ValueError, match=r"a training with lambda_=0\.3, not 0\.5"):
        trainer(lambda_=0.5).run(2, checkpoint=path, progress=False)
    with pytest.raises(ValueError, match="a training with other images"):
        trainer(images=255 - IMAGES).run(2, checkpoint=path, progress=False)
    with pytest.raises(ValueError, match="at step 1, past steps=0"):
        trainer().run(0, checkpoint=path, progress=False)
    with pytest.raises(FileNotFoundError, match="no folder"):
        trainer().run(1, checkpoint=tmp_path / "missing" / "file", progress=False)
    data = path.read_bytes()
    for damaged in (data[:-10], b"", data[:100], json.dumps({}).encode()):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="damaged"):
            trainer().run(2, checkpoint=path, progress=False)


def test_a_checkpoint_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.safetensors"
    one = trainer()
    one.run(1, checkpoint=path, progress=False)
    before = path.read_bytes()

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="no space"):
        one.save(path)
    assert path.read_bytes() == before and [path.name] == [each.name for each in tmp_path.iterdir()]


def test_a_seed_decides_and_torch_is_left_alone():
    state = torch.get_rng_state()
    histories = []
    for seed in (1, 1, 2):
        one = trainer(seed=seed)
        one.run(2, progress=False)
        histories.append(one.history)
    assert histories[0] == histories[1] != histories[2]
    assert torch.equal(state, torch.get_rng_state())


def test_ablations_leave_the_position_task_out():
    for objective in ("neighbours", "centre"):
        one = trainer(objective=objective)
        before = {name: value.clone() for name, value in one.modules.state_dict().items()}
        step = one.step()
        assert step.position_64 == step.position_32 == 0
        changed = {name for name, value in one.modules.state_dict().items() if not torch.equal(value, before[name])}
        assert changed == {name for name in before if name.startswith("encoder")}


def test_a_large_lambda_collapses_and_warns_once(monkeypatch):
    monkeypatch.setattr(training, "WINDOW", 3)
    one = trainer(lambda_=1000.0, lr=1e-2, dimensions=4)
    with pytest.warns(Collapse, match=r"lambda_=1000 pulls harder .* try a tenth") as caught:
        one.run(25, progress=False)
    assert len(caught) == 1
    assert one.history[-1].spread_32 < 0.02 * one.history[0].spread_32 or (
        one.history[-1].spread_64 < 0.02 * one.history[0].spread_64
    )


def test_no_warning_without_collapse(monkeypatch):
    monkeypatch.setattr(training, "WINDOW", 3)
    one = trainer(lr=1e-5, dimensions=4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one.run(12, progress=False)


def test_numbers_that_are_not_finite_stop_it():
    one = trainer()
    with torch.no_grad():
        one.encoder.conv1.weight.fill_(torch.nan)
    with pytest.raises(ValueError, match=r"step 1: .* is not finite; try a smaller lr"):
        one.run(3, progress=False)
    assert one.history == []


@pytest.mark.parametrize(
    "options, said",
    [
        ({"batch": 1}, "batch=1"),
        ({"dimensions": 0}, "dimensions=0"),
        ({"lr": 0.0}, "lr=0.0: expected a number above 0"),
        ({"lambda_": -1.0}, "lambda_=-1.0: expected a number from 0"),
        ({"lambda_": float("nan")}, "lambda_=nan"),
    ],
)
def test_settings_out_of_range(options, said):
    with pytest.raises(ValueError, match=said):
        Settings(**options)


def test_objectives_that_are_not_there(unchecked):
    with pytest.raises(ValueError, match="expected one of 'neighbours and position', 'neighbours', 'centre'"):
        Settings(objective="center")
