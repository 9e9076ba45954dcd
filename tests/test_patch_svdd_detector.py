"""Patch SVDD as one uses it: maps against a textbook's, batches, files, thresholds, and what cannot be used."""

import dataclasses

import numpy as np
import patch_svdd_textbook as textbook
import pytest
import torch
from torch.utils.data import DataLoader

from xailab.datasets.inspection import Inspection
from xailab.detection import evaluate
from xailab.patch_svdd import COURSE, PAPER, PatchSVDD, Settings
from xailab.patch_svdd.network import initial_encoder

GENERATOR = torch.Generator().manual_seed(0)
NORMAL = (255 * torch.rand(3, 3, 66, 71, generator=GENERATOR)).round() / 255
NEW = torch.rand(2, 3, 66, 71, generator=GENERATOR)


def detector(**options):
    """One with NORMAL in its memory banks, with random encoders whose embeddings fill their range."""
    one = PatchSVDD(8, **options)
    return one.fill_memory_bank(NORMAL, progress=False)


@pytest.fixture(scope="module")
def ready():
    return detector()


def test_maps_are_those_of_a_textbook():
    ready = detector(strides=(16, 16))
    p = textbook.parameters(ready.encoder)
    mean = NORMAL.double().mean(0)
    found, scores = ready.all_maps(NEW), {}
    for size, name in ((32, "fine"), (64, "coarse")):
        rows, columns = (textbook.corners(side, size, 16) for side in (66, 71))
        embedded = [
            [textbook.embed(p, image[:, r : r + size, c : c + size]) for r in rows for c in columns]
            for image in torch.cat([NORMAL, NEW]).double() - mean
        ]
        bank = np.concatenate(embedded[:3])
        for image, queries in enumerate(embedded[3:]):
            distances, number = textbook.nearest(queries, bank)
            grid = (len(rows), len(columns))
            scores[name, image] = textbook.distribute(distances.reshape(grid), (66, 71), size, 16)
            places = [(n, r, c) for n in range(3) for r in rows for c in columns]
            nearest = ready.nearest_patches(NEW)[name].places[image]
            assert [tuple(place) for place in nearest.view(-1, 3).tolist()] == [places[i] for i in number]
    for image in range(2):
        fine, coarse = scores["fine", image], scores["coarse", image]
        wanted = {"fine": fine, "coarse": coarse, "sum": fine + coarse, "product": fine * coarse}
        for kind, map in wanted.items():
            np.testing.assert_allclose(getattr(found, kind)[image].numpy(), map, rtol=1e-4)
    assert found._fields == ("fine", "coarse", "sum", "product")


def test_an_image_in_the_memory_banks_is_its_own_nearest_and_scores_0(ready):
    found = ready.nearest_patches(NORMAL[1:2])
    for name, stride in (("fine", 4), ("coarse", 16)):
        assert (found[name].distances == 0).all() and (found[name].places[..., 0] == 1).all()
        rows = textbook.corners(66, {"fine": 32, "coarse": 64}[name], stride)
        assert found[name].places[0, :, 0, 1].tolist() == rows
    assert (ready.anomaly_maps(NORMAL) == 0).all() and (ready.anomaly_maps(NEW) > 0).all()


def test_an_image_does_not_depend_on_its_batch(ready):
    together = ready.all_maps(NEW)
    for i in range(2):
        for embeddings, alone in zip(ready.embed(NEW), ready.embed(NEW[i : i + 1]), strict=True):
            assert torch.equal(embeddings[i], alone[0])
        for map, alone in zip(together, ready.all_maps(NEW[i : i + 1]), strict=True):
            assert torch.allclose(map[i], alone[0], rtol=1e-5, atol=1e-7)
    assert torch.allclose(ready.scores(NEW), together.product.amax((1, 2)))


def test_images_come_in_tensors_loaders_and_data_sets():
    wanted = detector().memory_banks
    batches = [NORMAL[:2], (NORMAL[2:], "labels")]
    for images in (batches, list(NORMAL), DataLoader(list(NORMAL), batch_size=2)):
        one = PatchSVDD(8)
        banks = one.fill_memory_bank(images, progress=False).memory_banks
        for name in ("fine", "coarse"):
            assert torch.allclose(banks[name].vectors, wanted[name].vectors, atol=1e-6)
            assert torch.equal(banks[name].places, wanted[name].places)


def test_the_data_sets_of_the_course():
    preprocess = dataclasses.replace(PatchSVDD.preprocess, resize=None)
    normal, test = (
        Inspection("gear", split, n=n, size=72, preprocess=preprocess) for split, n in (("train", 2), ("test", 2))
    )
    one = PatchSVDD(8).fit(normal, steps=1, batch=2, objective="neighbours", progress=False)
    one.fill_memory_bank(normal, progress=False)
    images = torch.stack([sample.image for sample in test])
    for kind, maps in one.all_maps(images)._asdict().items():
        one.kind = kind
        assert torch.equal(one.anomaly_maps(images), maps)
        results = evaluate(one, test)
        assert results.scores == pytest.approx(maps.amax((1, 2)).tolist())
        assert results.scores == pytest.approx(one.scores(images).tolist())
    with pytest.raises(ValueError, match="expected one of 'fine', 'coarse', 'sum', 'product'"):
        one.kind = "both"
    assert one.kind == "product"


def test_a_threshold_belongs_to_one_kind_of_map():
    one = detector()
    one.threshold = 0.5
    one.kind = "product"
    assert one.threshold == 0.5
    one.kind = "fine"
    assert one.threshold is None


def test_fit_trains_from_the_start_and_forgets():
    one = detector(seed=3)
    options = {"steps": 2, "batch": 2, "lr": 1e-3, "progress": False}
    assert one.fit(NORMAL, **options) is one and one.memory_banks is None
    other = PatchSVDD(8, seed=3).fit([NORMAL[:2], NORMAL[2:]], **options)
    assert one.history == other.history and len(one.history) == 2
    initial = initial_encoder(8, 3).state_dict()
    for name, value in one.encoder.state_dict().items():
        assert torch.equal(value, other.encoder.state_dict()[name]) and not torch.equal(value, initial[name])
    assert torch.allclose(one.mean, NORMAL.mean(0), atol=1e-6)
    assert not one.encoder.training and all(p.grad is None and not p.requires_grad for p in one.encoder.parameters())


def test_an_interrupted_fit_leaves_what_was_learned(tmp_path):
    def stop(step, measured):
        if step == 2:
            raise KeyboardInterrupt

    one, path = PatchSVDD(8), tmp_path / "checkpoint.safetensors"
    with pytest.raises(KeyboardInterrupt):
        one.fit(NORMAL, steps=9, batch=2, checkpoint=path, every=1, progress=False, on_step=stop)
    assert len(one.history) == 2 and one.fill_memory_bank(NORMAL, progress=False).scores(NEW).isfinite().all()
    with pytest.raises(ValueError, match="holds a Patch SVDD checkpoint, expected a Patch SVDD detector"):
        PatchSVDD.load(path)


@pytest.mark.parametrize("options", [{}, {"keep": 0.2}, {"keep": 0.2, "subset": "coreset"}])
def test_a_file_gives_the_same_maps(tmp_path, options):
    one, path = detector(strides=(8, 16), seed=2), tmp_path / "detector.safetensors"
    one.fill_memory_bank(NORMAL, progress=False, **options)
    one.history, one.threshold = PatchSVDD(8).fit(NORMAL, steps=1, batch=2, progress=False).history, 0.25
    one.save(path)
    other = PatchSVDD.load(path)
    assert all(torch.equal(a, b) for a, b in zip(one.all_maps(NEW), other.all_maps(NEW), strict=True))
    for name in ("dimensions", "strides", "seed", "threshold", "history", "search"):
        assert getattr(other, name) == getattr(one, name)
    assert len(other.memory_banks["fine"].vectors) == (22 if options else 108)  # 3 images of 6 x 6

    one.save(path, memory_banks=False, half=True)
    light = PatchSVDD.load(path)
    weights = one.encoder.state_dict()
    assert all(torch.equal(x, weights[name].half().float()) for name, x in light.encoder.state_dict().items())
    assert torch.equal(light.mean, one.mean.half().float()) and path.stat().st_size < 1_000_000
    with pytest.raises(ValueError, match="half=True writes no memory banks"):
        one.save(path, half=True)

    one.save(path, memory_banks=False)
    light = PatchSVDD.load(path)
    assert light.memory_banks is None and light.threshold is None
    light.fill_memory_bank(NORMAL, progress=False, **options)
    assert torch.equal(light.anomaly_maps(NEW), one.anomaly_maps(NEW))


def test_files_that_are_no_detectors(tmp_path, ready):
    path = tmp_path / "detector.safetensors"
    ready.save(path)
    data = path.read_bytes()
    for damaged in (
        data[:-4],
        b"",
        b"{}",
        data.replace(b"fine.places", b"fine.spaces"),
        data.replace(b'\\"seed', b'\\"said'),
    ):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="damaged"):
            PatchSVDD.load(path)
    with pytest.raises(FileNotFoundError, match="no Patch SVDD detector at"):
        PatchSVDD.load(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="no folder"):
        ready.save(tmp_path / "none" / "detector.safetensors")


def test_a_threshold_from_normal_images():
    one = detector()
    images = torch.rand(9, 3, 66, 71, generator=torch.Generator().manual_seed(5))
    scores = sorted(one.scores(images).tolist(), reverse=True)
    assert one.calibrate(images, 0.3, progress=False).threshold == pytest.approx(scores[2])  # floor(0.3 * 10) = 3rd
    assert int(one.predict(images).sum()) == 2
    with pytest.raises(ValueError, match=r"0\.05 false alarms takes at least 19 normal images, and there are 9"):
        one.calibrate(images, progress=False)
    assert one.fill_memory_bank(NORMAL, progress=False).threshold is None
    with pytest.raises(ValueError, match="call calibrate"):
        one.predict(NEW)


SHADES = torch.rand(20, 3, 66, 71, generator=GENERATOR)  # on no grid of 8 bits
AGAIN = {  # the same pictures in other clothes
    "as they were": lambda x: x,
    "in another order": lambda x: x.flip(0),
    "one by one": lambda x: list(x),
    "in double precision": torch.Tensor.double,
    "in half precision": torch.Tensor.half,
    "in bfloat16": torch.Tensor.bfloat16,
    "rounded to 8 bits": lambda x: (x * 255).round() / 255,
    "one of them among new ones": lambda x: torch.cat([x.flip(1)[:14], x[3:4]]),
    "in a loader": lambda x: DataLoader(list(x), batch_size=3, shuffle=True),
}


@pytest.mark.parametrize("again", AGAIN)
@pytest.mark.parametrize("options", [{}, {"keep": 0.1}])
def test_no_threshold_from_what_is_in_the_memory_banks(again, options):
    one = PatchSVDD(8, strides=(32, 64)).fill_memory_bank(SHADES[:15], progress=False, **options)
    with pytest.raises(ValueError, match=r"are in the memory banks, .*: calibrate with others"):
        one.calibrate(AGAIN[again](SHADES[:15]), 0.3, progress=False)
    assert one.threshold is None


def test_what_is_in_the_memory_banks_is_known_after_loading_and_forgotten_with_the_banks(tmp_path):
    one = PatchSVDD(8, strides=(32, 64)).fit(SHADES, steps=1, batch=2, progress=False)
    one.fill_memory_bank(SHADES[:5].bfloat16(), progress=False).save(tmp_path / "detector")
    loaded = PatchSVDD.load(tmp_path / "detector")
    with pytest.raises(ValueError, match="1 of 4 images are in the memory banks"):
        loaded.calibrate(SHADES[4:8], 0.3, progress=False)
    assert loaded.calibrate(SHADES[5:], 0.3, progress=False).threshold > 0
    loaded.fill_memory_bank(SHADES[5:], progress=False).calibrate(SHADES[:5], 0.3, progress=False)
    almost = SHADES[5:].clone()
    almost[:, :, 30:40, 30:40] += 0.1  # a small change makes another picture
    loaded.calibrate(almost.clamp(0, 1), 0.3, progress=False)


def test_the_defaults_of_training_are_one_place_with_two_presets():
    """What ``fit`` takes when nothing is said is ``COURSE``, in the detector, in ``Settings`` and in the command."""
    assert Settings() == COURSE
    assert (COURSE.batch, COURSE.lr, COURSE.lambda_) == (16, 1e-3, 0.3)
    assert (PAPER.batch, PAPER.lr, PAPER.lambda_) == (64, 1e-4, 1.0)
    seen = []

    class Watched(Exception):
        pass

    def trainer(settings, *_):
        seen.append(settings)
        raise Watched

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("xailab.patch_svdd.detector.Trainer", trainer)
        for arguments, changes in (((), {}), ((PAPER,), {}), ((PAPER,), {"batch": 2, "frozen": True})):
            with pytest.raises(Watched):
                PatchSVDD(8, seed=3).fit(NORMAL, *arguments, progress=False, **changes)
    mine = {"dimensions": 8, "seed": 3}
    wanted = [(COURSE, {}), (PAPER, {}), (PAPER, {"batch": 2, "frozen": True})]
    assert seen == [dataclasses.replace(preset, **mine, **changes) for preset, changes in wanted]
    with pytest.raises(TypeError, match="learning"):
        PatchSVDD(8).fit(NORMAL, learning=1.0, progress=False)


def test_encoders_in_a_wrapper_are_the_ones_inside(tmp_path):
    one = detector()
    wanted = one.anomaly_maps(NEW)
    one.encoder = torch.nn.DataParallel(one.encoder)
    assert torch.equal(one.anomaly_maps(NEW), wanted)
    one.save(tmp_path / "detector")
    assert torch.equal(PatchSVDD.load(tmp_path / "detector").anomaly_maps(NEW), wanted)


def test_modes_around_it_change_nothing(ready):
    wanted = ready.anomaly_maps(NEW)
    with torch.inference_mode():
        found = ready.anomaly_maps(NEW.clone())
    assert torch.equal(found, wanted) and not found.is_inference()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ready.anomaly_maps(NEW), wanted)
    assert not ready.anomaly_maps(NEW.clone().requires_grad_()).requires_grad
    assert torch.allclose(ready.anomaly_maps(NEW.double()), wanted, rtol=1e-5)


def test_what_cannot_be_used(ready, unchecked):
    for images, error, said in [
        (NEW[:, :, :60], ValueError, "60 x 71 pixels are smaller than a patch of 64"),
        (NEW[:, :, :, :70], ValueError, "have 66 x 70 pixels, those it learned from 66 x 71"),
        (NEW[:, :1], ValueError, r"expected images \(n, 3, height, width\)"),
        (NEW[:0], ValueError, "n from 1"),
        (NEW[0], ValueError, r"image\[None\]"),
        (4 * NEW - 2, ValueError, "expected 0 to 1: preprocess pictures with PatchSVDD.preprocess"),
        (NEW * torch.nan, ValueError, "pixel values go from nan"),
        ((255 * NEW).to(torch.uint8), TypeError, "floating-point tensor"),
    ]:
        with pytest.raises(error, match=said):
            ready.anomaly_maps(images)
    for images, said in [
        ([], "no images"),
        ([NEW, NEW[:, :, :, :70]], "resize or crop all to one size"),
    ]:
        with pytest.raises(ValueError, match=said):
            PatchSVDD(8).fit(images, steps=1, progress=False)
        with pytest.raises(ValueError, match=said):
            PatchSVDD(8).fill_memory_bank(images, progress=False)
    with pytest.raises(ValueError, match="memory banks are empty"):
        PatchSVDD(8).anomaly_maps(NEW)
    with pytest.raises(ValueError, match="has seen no normal images"):
        PatchSVDD(8).embed(NEW)
    with pytest.raises(ValueError, match="two even numbers"):
        PatchSVDD(strides=(3, 16))
    for options, said in [
        ({"keep": 0.0}, "keep=0.0"),
        ({"subset": "all"}, "expected one of 'random', 'coreset'"),
        ({"search": "fast"}, "expected one of 'exact', 'faiss'"),
    ]:
        with pytest.raises(ValueError, match=said):
            ready.fill_memory_bank(NORMAL, progress=False, **options)
    for options, said in [({"steps": -1}, "steps=-1"), ({"every": 0}, "every=0"), ({"batch": 0}, "batch=0")]:
        with pytest.raises(ValueError, match=said):
            PatchSVDD(8).fit(NORMAL, **options)
