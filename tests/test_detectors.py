"""What all detectors share: the images that they take, scores, a threshold, devices, files."""

import itertools
from collections import namedtuple
from functools import cache

import pytest
import torch
from networks import trained_looking
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from xailab import storage
from xailab.detection import Detector, ThresholdedDetector, batches
from xailab.models.small import SmallResNet
from xailab.padim import PaDiM
from xailab.patch_svdd import PatchSVDD

NORMAL, NEW = (torch.rand(n, 3, 64, 72, generator=torch.Generator().manual_seed(n)) for n in (20, 9))
Item = namedtuple("Item", "image name")


def network():
    torch.manual_seed(0)
    return trained_looking(SmallResNet(4, width=6)).eval()


class Items(Dataset):
    """A data set that never ends by itself, as those whose pictures are computed."""

    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return Item(self.images[i % len(self)], f"picture {i}")


class Stream(IterableDataset):
    def __init__(self, images):
        self.images = images

    def __iter__(self):
        return iter(self.images)


SOURCES = {
    "a tensor": lambda x: x,
    "a data set": Items,
    "a part of one": lambda x: Subset(Items(torch.cat([x, 1 - x])), range(len(x))),
    "tuples of one": TensorDataset,
    "a stream": Stream,
    "a loader": lambda x: DataLoader(Items(x), 6),
    "a loader without batches": lambda x: DataLoader(Items(x), None),
    "a loader of a stream": lambda x: DataLoader(Stream(x), 7),
    "images": list,
    "batches with labels": lambda x: [[part, torch.arange(len(part))] for part in x.split(3)],
    "batches and images": lambda x: [x[:5], *x[5:8], x[8:]],
}


def learned(name, images):
    if name == "PaDiM":
        return PaDiM(network(), ["layer1", "layer2"], 8).fit(images, progress=False)
    detector = PatchSVDD(8, strides=(16, 32)).fit(images, steps=1, batch=2, progress=False)
    return detector.fill_memory_bank(images, progress=False)


@cache
def of_one_batch(name):
    """A detector to compare with."""
    return learned(name, [NORMAL])


def again(detector, path):
    return PaDiM.load(path, network()) if isinstance(detector, PaDiM) else PatchSVDD.load(path)


BOTH = pytest.mark.parametrize("name", ["PaDiM", "Patch SVDD"])


@BOTH
@pytest.mark.parametrize("source", SOURCES)
def test_it_learns_the_same_from_whatever_images_come_in(name, source):
    detector, expected = learned(name, SOURCES[source](NORMAL)), of_one_batch(name)
    assert torch.allclose(detector.anomaly_maps(NEW), expected.anomaly_maps(NEW), rtol=1e-3, atol=1e-6)
    detector.calibrate(SOURCES[source](NEW), 0.1, progress=False)
    assert detector.threshold == pytest.approx(float(expected.scores(NEW).max()), rel=1e-3)
    with pytest.raises(ValueError, match=r"batch 0: \d+ of \d+ images are .*: calibrate with others"):
        detector.calibrate(SOURCES[source](NORMAL), 0.1, progress=False)


@BOTH
def test_one_shape(name):
    detector = learned(name, NORMAL)
    assert isinstance(detector, ThresholdedDetector) and isinstance(detector, Detector)
    maps = detector.anomaly_maps(NEW)
    assert maps.shape == (9, 64, 72)
    assert torch.equal(detector.scores(NEW), maps.amax((1, 2)))
    assert torch.equal(detector.scores_of_maps(maps - 10), maps.amax((1, 2)) - 10)  # of any sign
    with pytest.raises(ValueError, match="no threshold yet"):
        detector.predict(NEW)
    ordered = detector.scores(NEW).sort(descending=True).values
    assert detector.calibrate(NEW, 0.2, progress=False) is detector
    assert detector.threshold == ordered[1] and int(detector.predict(NEW).sum()) == 1  # 2nd of 9: floor(0.2 * 10)
    before = detector.threshold
    for images, rate, message in ((NEW, 0.0, "false_alarm_rate=0"), (NEW[:8], 0.1, "at least 9 normal images")):
        with pytest.raises(ValueError, match=message):
            detector.calibrate(images, rate, progress=False)
    assert detector.threshold == before


@BOTH
def test_scores_of_maps_are_of_maps_alone(name, unchecked):
    detector = learned(name, NORMAL)
    for wrong in (NEW, NEW[0, 0]):
        with pytest.raises(ValueError, match=r"expected anomaly maps \(n, height, width\)"):
            detector.scores_of_maps(wrong)
    with pytest.raises(ValueError, match=r"image\[None\]"):
        detector.scores(NEW[:, 0])


@BOTH
def test_saved_and_loaded_it_calls_the_same_images_anomalous(name, tmp_path):
    detector = learned(name, NORMAL).calibrate(NEW, 0.2, progress=False)
    detector.save(tmp_path / "detector")
    loaded = again(detector, tmp_path / "detector")
    assert loaded.threshold == detector.threshold and torch.equal(loaded.predict(NEW), detector.predict(NEW))
    with pytest.raises(ValueError, match="calibrate with others"):
        loaded.calibrate(NORMAL, 0.1, progress=False)
    loaded.fit(NEW, progress=False, **({} if name == "PaDiM" else {"steps": 0}))
    assert loaded.threshold is None  # what is learned anew has none


@BOTH
def test_it_moves_to_a_device_with_all_that_it_learned(name):
    """To "meta", where tensors have no values, as there is no other device everywhere."""
    detector = learned(name, NORMAL)
    maps = detector.anomaly_maps(NEW)
    with torch.inference_mode():
        assert detector.to("cpu") is detector
    assert torch.equal(detector.anomaly_maps(NEW), maps)
    assert detector.to("meta") is detector
    if name == "PaDiM":
        state = detector.gaussians
        held = [*detector.backbone.parameters(), *state.tensors]
    else:
        held = [*detector.encoder.parameters(), detector.mean]
        held += itertools.chain(*((bank.vectors, bank.places) for bank in detector.memory_banks.values()))
    assert {tensor.device.type for tensor in held} == {"meta"}


class FarFromTheMean(ThresholdedDetector):
    """The least that a detector has to bring along, as CONTRIBUTING.md says."""

    _KIND, _OPTIONS = "detector of a test", ("power",)

    def __init__(self, power=1.0):
        self.power = power
        self._forget()

    def fit(self, images, *, progress=True):
        self._forget()
        parts = []
        for batch in batches(images, "mean", progress=progress):
            self._seen.add(batch)
            parts.append(batch)
        self.mean = torch.cat(parts).mean(0)
        return self

    def anomaly_maps(self, images):
        return (images - self.mean).abs().amax(1) ** self.power

    def to(self, device):
        self.mean = self.mean.to(device)
        return self

    def save(self, path):
        self._write(path, {}, {"mean": self.mean, "seen": self._seen.prints})

    @classmethod
    def load(cls, path):
        return cls._restored(path, *storage.read(path, cls._KIND))

    def _restore(self, description, tensors):
        self.mean = tensors["mean"]


def test_a_detector_of_ones_own(tmp_path):
    detector = FarFromTheMean(2.0).fit(Items(NORMAL), progress=False).calibrate(list(NEW), 0.2, progress=False)
    assert int(detector.predict(NEW).sum()) == 1
    detector.save(tmp_path / "detector")
    loaded = FarFromTheMean.load(tmp_path / "detector")
    assert (loaded.power, loaded.threshold) == (2.0, detector.threshold)
    with pytest.raises(ValueError, match="16 of 16 images are among those that the detector was fitted to"):
        loaded.calibrate(NORMAL, 0.2, progress=False)
    storage.write(tmp_path / "broken", FarFromTheMean._KIND, {"power": 2.0, "threshold": None}, {"other": NEW})
    with pytest.raises(ValueError, match=r"no whole detector .*: fit and save it again"):
        FarFromTheMean.load(tmp_path / "broken")


def test_batches_of_images_that_differ():
    """Single images are put together as long as they are alike, in their order."""
    small, large = torch.rand(5, 3, 4, 4), torch.rand(2, 3, 6, 4)
    found = list(batches([*small[:4], *large, small[4], small[:2].double(), small[0].double()], size=3))
    assert [tuple(each.shape) for each in found] == [
        *((3, 3, 4, 4), (1, 3, 4, 4), (2, 3, 6, 4), (1, 3, 4, 4), (2, 3, 4, 4), (1, 3, 4, 4))
    ]
    assert torch.equal(torch.cat([found[0], found[1], found[3]]), small) and torch.equal(found[2], large)
    assert [len(each) for each in batches(small, size=2)] == [2, 2, 1]
    assert list(batches([])) == list(batches(small[:0])) == list(batches(Items(small[:0]))) == []


def test_batches_show_their_progress(capsys):
    list(batches(Items(NEW), "reading"))
    assert capsys.readouterr().err == ""
    list(batches(Items(NEW), "reading", progress=True))
    assert "reading" in capsys.readouterr().err


@pytest.mark.parametrize(
    "images, error, message",
    [
        (7, TypeError, "expected a tensor of images, a data set or a loader, got int"),
        (None, TypeError, "got NoneType"),
        ("folder", TypeError, "floating-point tensor"),
        ({"image": NEW}, TypeError, "floating-point tensor"),
        (NEW.numpy(), TypeError, "floating-point tensor"),
        ((NEW * 255).byte(), TypeError, "floating-point tensor"),
        (list((NEW * 255).byte()), TypeError, "floating-point tensor"),
        (NEW[0], ValueError, r"image\[None\]"),
        (list(NEW[0]), ValueError, "expected a batch of images"),
        ([list(NEW)], ValueError, "a list of 9 images as a batch: torch.stack"),
    ],
)
def test_what_gives_no_images(images, error, message, unchecked):
    with pytest.raises(error, match=message):
        list(batches(images))
