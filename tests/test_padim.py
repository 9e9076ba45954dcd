"""PaDiM: a textbook in float64 on every path, scipy, scikit-learn, torchvision, files, two processes, real weights."""

import math
import warnings
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import assert_unchanged, snapshot, trained_looking
from safetensors.torch import save_file
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import mahalanobis
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, Dataset
from torchvision import models

from xailab import storage
from xailab.models import zoo
from xailab.models.small import SmallResNet, SmallVGG
from xailab.padim import Gaussians, PaDiM, statistics, textbook
from xailab.padim.reduction import random_channels
from xailab.padim.upsampling import upsampled

RESNET = ("layer1", "layer2", "layer3")
GRIDS = {  # (channels, rows, columns) of the layers, and on how many grids they end up
    "nested": ([(6, 8, 8), (5, 4, 4), (7, 2, 2)], 3),
    "in any order": ([(5, 4, 4), (7, 2, 2), (6, 8, 8)], 3),
    "not square": ([(5, 6, 12), (3, 6, 6), (4, 2, 3)], 3),
    "one grid twice": ([(4, 6, 4), (5, 3, 2), (3, 6, 4)], 2),
    "one does not nest": ([(5, 8, 8), (6, 3, 3), (4, 4, 4)], 2),
    "none nests": ([(5, 7, 7), (6, 4, 5)], 1),
    "a single layer": ([(9, 3, 5)], 1),
    "a layer of which nothing is left": ([(0, 4, 4), (6, 2, 2)], 2),
}


def features(shapes, n, seed=0, scale=1.0):
    """Layers whose channels follow four hidden ones, up to some noise."""
    generator = torch.Generator().manual_seed(seed)
    mixes = [0.4 * torch.randn(shape[0], 4, generator=torch.Generator().manual_seed(9)) for shape in shapes]
    layers = []
    for mix, shape in zip(mixes, shapes, strict=True):
        hidden = torch.randn(n, 4, *shape[1:], generator=generator)
        noise = 0.1 * torch.randn(n, *shape, generator=generator)
        layers.append(scale * (torch.einsum("nkhw, ck -> nchw", hidden, mix) + 1) + noise)
    return layers


def cut(layers, start, stop):
    return [layer[start:stop] for layer in layers]


def fitted(shapes, layers, batch=5, **options):
    state = Gaussians(shapes, **options)
    for start in range(0, len(layers[0]), batch):
        state.update(cut(layers, start, start + batch))
    return state


def embedded(layers) -> np.ndarray:
    """All layers at the finest grid, as the textbook repeats them."""
    return textbook.embed([torch.as_tensor(layer) for layer in layers]).numpy()


def by_textbook(normal, new, epsilon: float = 0.01) -> np.ndarray:
    """Distances of new images to normal ones in float64; both are given as layers of features."""
    normal, new = (torch.as_tensor(embedded(layers)) for layers in (normal, new))
    return textbook.distances(new, *textbook.fit(normal, epsilon)).numpy()


def error(found, expected) -> float:
    """Largest difference relative to the distances."""
    return float(np.abs(np.asarray(found, dtype=np.float64) / expected - 1).max())


# --- the statistics


def test_the_textbook_is_numpys_and_scipys():
    """Position by position: cells by floor(i * cells / n), np.cov, the inverse, SciPy's distance."""
    shapes = [(3, 6, 4), (2, 3, 4), (4, 4, 3)]  # the second nests, the third does not
    normal, new = features(shapes, 7), features(shapes, 2, seed=1)
    mean, factor = textbook.fit(textbook.embed(normal), epsilon=0.5)
    found = textbook.distances(textbook.embed(new), mean, factor)
    assert found.shape == (2, 6, 4) and found.dtype == torch.float64
    for i, j in np.ndindex(6, 4):
        here, there = (
            np.concatenate([x.double().numpy()[:, :, i * x.shape[2] // 6, j * x.shape[3] // 4] for x in layers], 1)
            for layers in (normal, new)
        )
        precision = np.linalg.inv(np.cov(here, rowvar=False) + 0.5 * np.eye(9))
        for vector, distance in zip(there, found[:, i, j].tolist(), strict=True):
            assert distance == pytest.approx(mahalanobis(vector, here.mean(0), precision), rel=1e-9)
    with pytest.raises(ValueError, match="at least 2 normal images, and there are 1"):
        textbook.fit(textbook.embed(normal)[:1])


def test_two_numbers_by_hand():
    """Mean 1 and variance 2 (divided by n - 1) of 0 and 2; 4 is 3 away."""
    state = Gaussians([(1, 1, 1)], epsilon=0.5)
    state.update([torch.tensor([0.0, 2.0]).view(2, 1, 1, 1)])
    assert state.distances([torch.full((1, 1, 1, 1), 4.0)]).item() == pytest.approx(3 / math.sqrt(2.5))


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("n", [2, 4, 15, 60])
def test_textbook(name, n):
    shapes, levels = GRIDS[name]
    normal, new = features(shapes, n), features(shapes, 3, seed=1)
    expected = by_textbook(normal, new)
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.float64, 1e-9)):
        normal, new = ([x.to(dtype) for x in layers] for layers in (normal, new))
        exact = by_textbook(normal, new) if dtype == torch.float64 else expected
        state = fitted(shapes, normal, dtype=dtype)
        found = state.distances(new)
        assert state.n == n and len(state.levels) == levels and found.dtype == dtype
        assert error(found, exact) < tolerance
        assert torch.allclose(state.distances(cut(new, 1, 2)), found[1:2], rtol=1e-5)  # a batch of one


def test_both_ways_of_few_images():
    """Just below and above where Woodbury ends, and where S begins."""
    shapes = [(12, 4, 4), (20, 2, 2)]
    new = features(shapes, 2, seed=1)
    seen = set()
    for n in range(2, 40, 3):
        normal = features(shapes, n)
        state = fitted(shapes, normal)
        assert error(state.distances(new), by_textbook(normal, new)) < 1e-4
        seen.add((type(state._solver).__name__, state._statistics is not None))
    assert seen == {("Woodbury", False), ("BlockCholesky", False), ("BlockCholesky", True)}


def test_epsilon():
    shapes, normal = GRIDS["nested"][0], features(GRIDS["nested"][0], 30)
    new = features(shapes, 2, seed=1)
    for epsilon in (1e-3, 0.01, 10.0):
        found = fitted(shapes, normal, epsilon=epsilon).distances(new)
        assert error(found, by_textbook(normal, new, epsilon)) < 1e-4


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_order_batches_and_merging_do_not_matter(data):
    shapes, _ = GRIDS[data.draw(st.sampled_from(["nested", "none nests", "one does not nest"]))]
    n = data.draw(st.integers(2, 40))
    normal = [x.double() for x in features(shapes, n)]
    order = data.draw(st.permutations(range(n)))
    cuts = sorted(data.draw(st.lists(st.integers(0, n), max_size=4)))
    states = []
    for start, stop in zip([0, *cuts], [*cuts, n], strict=True):
        batch = data.draw(st.integers(1, 9))
        part = [layer[order[start:stop]] for layer in normal]
        states.append(fitted(shapes, part, batch, dtype=torch.float64))
    while len(states) > 1:
        other = states.pop(data.draw(st.integers(1, len(states) - 1)))
        states[0] = states[0].merge(other)
    assert states[0].n == n
    new = [x.double() for x in features(shapes, 2, seed=1)]
    assert error(states[0].distances(new), by_textbook(normal, new)) < 1e-9


def test_merging_leaves_both_as_they_were():
    shapes = GRIDS["nested"][0]
    a, b = fitted(shapes, features(shapes, 30)), fitted(shapes, features(shapes, 25, seed=2))
    before = {name: x.clone() for name, x in a.state().items()}, {name: x.clone() for name, x in b.state().items()}
    a.merge(b)
    for state, kept in zip((a, b), before, strict=True):
        assert all(torch.equal(x, kept[name]) for name, x in state.state().items())


def test_features_of_large_variance():
    """Networks without batch norm: in single precision, rounding would be larger than epsilon."""
    shapes = GRIDS["nested"][0]
    normal, new = features(shapes, 60, scale=300), features(shapes, 4, seed=1, scale=300)
    expected = by_textbook(normal, new)
    assert error(fitted(shapes, normal).distances(new), expected) < 1e-5
    few = cut(normal, 0, 4)
    assert error(fitted(shapes, few).distances(new), by_textbook(few, new)) < 1e-5
    narrow = fitted(shapes, features(shapes, 30, seed=5))  # in single precision
    merged = [torch.cat(pair) for pair in zip(features(shapes, 30, seed=5), normal, strict=True)]
    expected = by_textbook(merged, new)
    wide = fitted(shapes, normal)
    for state in (narrow.merge(wide), wide.merge(narrow)):
        assert error(state.distances(new), expected) < 1e-5
    narrow.update(normal)
    assert error(narrow.distances(new), expected) < 1e-5


def test_single_precision_would_not_do(monkeypatch):
    """It is far off, or finds that there is no Cholesky factor: which of the two, rounding decides."""
    monkeypatch.setattr(statistics, "SINGLE", math.inf)
    shapes = GRIDS["nested"][0]
    for scale in (300, 1e3):
        normal, new = features(shapes, 60, scale=scale), features(shapes, 4, seed=1, scale=scale)
        try:
            found = fitted(shapes, normal).distances(new)
        except ValueError as refused:
            assert "larger epsilon" in str(refused)
        else:
            assert error(found, by_textbook(normal, new)) > 0.1


def test_a_covariance_without_a_cholesky_factor_is_refused():
    state = Gaussians([(2, 1, 1)])
    state.load_state(9, {"mean.0": torch.zeros(1, 2), "scatter.0.0": torch.tensor([[[1.0, 2], [2, 1]]])})
    with pytest.raises(ValueError, match="larger epsilon"):
        state.distances([torch.ones(1, 2, 1, 1)])


def test_just_single_precision():
    """As much variance as single precision may have, on four dimensions of 40, the others held up by epsilon alone."""
    shapes = [(15, 4, 4), (25, 2, 2)]
    normal, new = features(shapes, 150), features(shapes, 4, seed=1)
    widest = max(float(x.double().var(0).max()) for x in normal)
    state = fitted(shapes, normal, 150, epsilon=1.05 * widest / statistics.SINGLE)
    assert error(state.distances(new), by_textbook(normal, new, state.epsilon)) < 1e-4
    assert state.nbytes < 1.1 * 4 * (16 * 15 * 40 + 4 * 25 * 25)  # S and the mean
    wider = fitted(shapes, normal, 150, epsilon=0.9 * widest / statistics.SINGLE)
    assert wider.nbytes == 2 * state.nbytes
    assert error(wider.distances(new), by_textbook(normal, new, wider.epsilon)) < 1e-6


def test_the_state_is_small_and_does_not_grow():
    """ResNet18, 100 of 448 channels at 224 pixels: at most a quarter of one full covariance a position."""
    kept = [len(each) for each in random_channels([64, 128, 256], 100, seed=0)]
    shapes = [(d, side, side) for d, side in zip(kept, (56, 28, 14), strict=True)]
    generator = torch.Generator().manual_seed(0)
    state, sizes = Gaussians(shapes), []
    for _ in range(5):
        state.update([torch.randn(40, *shape, generator=generator) for shape in shapes])
        sizes.append(state.nbytes)
    dense = 56 * 56 * 100 * 100 * 4
    assert sizes[0] < 0.25 * dense  # the images themselves
    assert sizes[2] == sizes[3] == sizes[4] < 0.25 * dense


def test_the_share_of_the_state_over_seeds():
    def share(seed):
        fine, middle, coarse = (len(each) for each in random_channels([64, 128, 256], 100, seed))
        return (fine * 100 + middle * (middle + coarse) / 4 + coarse**2 / 16) / 100**2

    shares = [share(seed) for seed in range(200)]
    assert np.mean(shares) < 0.23 and np.mean(np.array(shares) < 0.25) > 0.75


@pytest.mark.parametrize("shapes", [[(1, 1, 1)], [(1, 4, 4)], GRIDS["nested"][0], GRIDS["none nests"][0]])
def test_the_callers_features_stay_theirs(shapes):
    normal, new = features(shapes, 8), features(shapes, 1, seed=1)
    kept = [x.clone() for x in (*normal, *new)]
    expected = fitted(shapes, normal).distances(new)
    assert all(torch.equal(a, b) for a, b in zip((*normal, *new), kept, strict=True))
    state, buffer = Gaussians(shapes), cut([torch.empty_like(x) for x in normal], 0, 1)
    for i in range(8):  # one buffer for all images, as a camera has
        for mine, x in zip(buffer, normal, strict=True):
            mine.copy_(x[i : i + 1])
        state.update(buffer)
    assert torch.allclose(state.distances(new), expected, rtol=1e-5)


def test_what_surrounds_the_calls_does_not_matter():
    shapes = GRIDS["nested"][0]
    normal, new = features(shapes, 30), features(shapes, 2, seed=1)
    expected = fitted(shapes, normal).distances(new)
    with torch.inference_mode():
        state = fitted(shapes, cut(normal, 0, 20))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        state.update(cut(normal, 20, 30))
        found = state.distances([x.requires_grad_() for x in new])
    assert not found.requires_grad and torch.allclose(found, expected, rtol=1e-5)


def test_states_that_cannot_be():
    shapes = GRIDS["nested"][0]
    state, new = Gaussians(shapes), features(shapes, 2)
    with pytest.raises(ValueError, match="at least 2 normal images, and there are 0"):
        state.distances(new)
    state.update(cut(new, 0, 1))
    with pytest.raises(ValueError, match="there are 1"):
        state.distances(new)
    with pytest.raises(ValueError, match="expected features of"):
        state.update(new[:2])
    new[0][0, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        state.update(new)
    assert state.n == 1
    state.update(features(shapes, 4, seed=2))
    with pytest.raises(ValueError, match="NaN"):
        state.distances(new)
    with pytest.raises(ValueError, match="different layers"):
        state.merge(Gaussians(shapes, epsilon=1.0))


# --- maps


@pytest.mark.parametrize("grid, size", [((14, 14), (56, 56)), ((5, 9), (37, 64)), ((3, 4), (12, 9)), ((1, 2), (5, 7))])
@pytest.mark.parametrize("sigma", [0.0, 0.6, 4.0])
def test_enlarging_and_blurring_are_those_of_torch_and_scipy(grid, size, sigma):
    maps = torch.rand(3, *grid, generator=torch.Generator().manual_seed(0))
    large = F.interpolate(maps[:, None].double(), size, mode="bilinear", align_corners=False)[:, 0].numpy()
    expected = np.stack([gaussian_filter(each, sigma) if sigma else each for each in large])
    assert np.abs(upsampled(maps, size, sigma).numpy() - expected).max() < 1e-5


EFFICIENTNET = ["features.2", "features.3", "features.5"]
SQUEEZENET = ["features.5", "features.10", "features.12"]  # do not nest
NETWORKS = {
    "resnet18-random": (lambda: zoo.load("resnet18", weights=None), RESNET, (64, 96)),
    "efficientnet_b0-random": (lambda: zoo.load("efficientnet_b0", weights=None), EFFICIENTNET, (64, 64)),
    "squeezenet1_0-random": (lambda: zoo.load("squeezenet1_0", weights=None), SQUEEZENET, (96, 96)),
    "scenes_resnet": (lambda: zoo.load("scenes_resnet"), RESNET[::-1], (64, 64)),
    "SmallVGG": (lambda: SmallVGG(4).eval(), ["features.9", "features.16"], (48, 32)),
}


def outputs_of(network, layers, images):
    """What hooks of torch's see."""
    modules, seen, hooks = dict(network.named_modules()), {}, []
    for name in layers:
        hooks.append(modules[name].register_forward_hook(lambda *a, name=name: seen.update({name: a[2].clone()})))
    with torch.no_grad():
        network(images)
    for hook in hooks:
        hook.remove()
    return [seen[name].numpy() for name in layers]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("n, dimensions", [(6, 40), (30, 12)])
def test_from_pictures_to_maps(name, n, dimensions):
    """All channels of all layers repeated and put together, some of them chosen, the textbook, torch, scipy."""
    make, layers, size = NETWORKS[name]
    torch.manual_seed(0)
    network = trained_looking(make())
    normal, new = torch.rand(n, 3, *size), torch.rand(2, 3, *size)
    outputs = [outputs_of(network, layers, images) for images in (normal, new)]
    normal_all, new_all = (embedded(each) for each in outputs)
    chosen = torch.randperm(normal_all.shape[1], generator=torch.Generator().manual_seed(3))[:dimensions].numpy()
    distances = by_textbook([normal_all[:, chosen]], [new_all[:, chosen]])
    large = F.interpolate(torch.from_numpy(distances)[None], size, mode="bilinear", align_corners=False)[0]
    expected = np.stack([gaussian_filter(each, 4) for each in large.numpy()])

    before = snapshot(network)
    detector = PaDiM(network, layers, dimensions, seed=3).fit([normal[:4], (normal[4:], "labels")], progress=False)
    maps = detector.anomaly_maps(new)
    assert_unchanged(network, before)
    assert maps.shape == (2, *size) and error(maps, expected) < 1e-4
    assert torch.equal(detector.scores(new), maps.amax((1, 2))) and torch.equal(
        detector.scores_of_maps(maps), maps.amax((1, 2))
    )
    assert torch.allclose(detector.anomaly_maps(new[1:]), maps[1:], rtol=1e-4)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return trained_looking(SmallResNet(4, width=6)).eval()


def pictures(n, seed=0, channels=3, size=(32, 48)):
    return torch.rand(n, channels, *size, generator=torch.Generator().manual_seed(seed))


def test_all_dimensions_and_single_layers(network):
    normal, new = pictures(50), pictures(2, seed=1)
    for layers in (RESNET, ["layer2"], network.layer3):
        detector = PaDiM(network, layers, None, blur=None).fit([normal], progress=False)
        both = [[x.numpy() for x in detector.embed(images)] for images in (normal, new)]
        assert error(detector.distances(new), by_textbook(*both)) < 1e-4
    assert detector.layers == ("layer3",) and detector.embed(new)[0].shape == (2, 24, 2, 3)
    assert PaDiM(network, "layer1", 4).layers == ("layer1",)


@pytest.mark.filterwarnings("ignore:.* cells for pictures of 32 x 48 pixels")  # nests=False has odd strides
@pytest.mark.parametrize("nests", [True, False])
def test_principal_components_are_scikit_learns(network, nests):
    from sklearn.decomposition import PCA

    layers, normal, new = RESNET, pictures(40), pictures(2, seed=1)
    if not nests:
        torch.manual_seed(0)
        layers = ["0", "1", "2"]
        network = nn.Sequential(nn.Conv2d(3, 9, 3, 2), nn.Conv2d(9, 8, 3, (2, 3)), nn.Conv2d(8, 7, 2)).eval()
    normal_all, new_all = (embedded(outputs_of(network, layers, images)) for images in (normal, new))
    pca = PCA(7).fit(normal_all.transpose(0, 2, 3, 1).reshape(-1, normal_all.shape[1]))
    projected = [np.einsum("nchw, dc -> ndhw", each, pca.components_) for each in (normal_all, new_all)]
    detector = PaDiM(network, layers, 7, reduction="pca").fit(DataLoader(normal, batch_size=16), progress=False)
    basis = torch.cat(detector._embedding.kept).numpy()
    assert np.abs(np.abs((pca.components_ @ basis).diagonal()) - 1).max() < 1e-4
    assert error(detector.distances(new), by_textbook([projected[0]], [projected[1]])) < 1e-4


def test_principal_components_come_from_fit(network):
    detector = PaDiM(network, RESNET, 7, reduction="pca")
    with pytest.raises(ValueError, match="two passes"):
        detector.fit(iter([pictures(3)]))
    with pytest.raises(ValueError, match="found by fit"):
        detector.update(pictures(3))


def test_random_channels():
    chosen = random_channels([64, 128, 256], 100, seed=1)
    assert sum(map(len, chosen)) == 100
    for each, channels in zip(chosen, (64, 128, 256), strict=True):
        assert len(set(each.tolist())) == len(each) and set(each.tolist()) <= set(range(channels))
    again, other = random_channels([64, 128, 256], 100, seed=1), random_channels([64, 128, 256], 100, seed=2)
    assert all(torch.equal(a, b) for a, b in zip(chosen, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(chosen, other, strict=True))
    assert [each.tolist() for each in random_channels([2, 3], None, seed=0)] == [[0, 1], [0, 1, 2]]


# --- the network


def test_nothing_runs_behind_the_last_layer(network):
    calls = []
    network.layer3.register_forward_hook(lambda *_: calls.append("layer3"))
    network.layer4.register_forward_hook(lambda *_: calls.append("layer4"))
    detector = PaDiM(network, ["layer3", "layer1"], 8)
    first = detector.embed(pictures(2))
    # once as a whole, to learn in which order the layers run, and once on a picture of another size
    assert calls == ["layer3", "layer4", "layer3"]
    assert all(torch.equal(a, b) for a, b in zip(detector.embed(pictures(2)), first, strict=True))
    assert calls == ["layer3", "layer4", "layer3", "layer3"]


def test_a_layer_that_runs_twice_counts_with_its_last_output():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.behind = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 1)

        def forward(self, x):
            return self.behind(self.conv(self.conv(x)))

    torch.manual_seed(0)
    network, images = Twice(), pictures(2)
    detector = PaDiM(network, "conv", None)
    for _ in range(2):
        assert torch.allclose(detector.embed(images)[0], network.conv(network.conv(images)), atol=1e-6)


@pytest.mark.parametrize("dtype, tolerance", [(torch.bfloat16, 0.2), (torch.float64, 1e-3)])
def test_networks_in_other_precision(network, dtype, tolerance):
    normal, new = pictures(30), pictures(2, seed=1)
    expected = PaDiM(network, RESNET, 8).fit([normal], progress=False).anomaly_maps(new)
    detector = PaDiM(network.to(dtype), RESNET, 8).fit([normal], progress=False)
    maps = detector.anomaly_maps(new)
    assert maps.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert error(maps, expected.double().numpy()) < tolerance


def test_grey_networks_and_training_mode():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True))
    images = pictures(9, channels=1)
    maps = PaDiM(network, "1", None).fit([images], progress=False).anomaly_maps(images)
    assert network.training and maps.shape == (9, 32, 48)
    with torch.inference_mode():
        again = PaDiM(network, "1", None).fit([images], progress=False).anomaly_maps(images)
    assert torch.equal(again, maps)


class Called(nn.Module):
    """A function as a layer."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class OneSize(nn.Module):
    """A layer that refuses pictures of any other size."""

    def __init__(self, size):
        super().__init__()
        self.size = size

    def forward(self, x):
        assert x.shape[2:] == self.size, "wrong size"
        return x


def moved(channels_last=True):
    return Called(lambda x: x.permute(0, 2, 3, 1)) if channels_last else nn.Identity()


LAYOUTS = {  # a network, its layer, the sizes of pictures, and whether its channels are last
    "Swin": (lambda: models.swin_t(weights=None), "features.1", (64, 96), True),
    "Swin's patches, which hold a convolution": (lambda: models.swin_t(weights=None), "features.0", (64, 64), True),
    "Swin V2": (lambda: models.swin_v2_t(weights=None), "features.3.0", (64, 64), True),
    "inside ConvNeXt's block": (lambda: models.convnext_tiny(weights=None), "features.1.0.block.2", (64, 64), True),
    "ConvNeXt": (lambda: models.convnext_tiny(weights=None), "features.1", (64, 64), False),
    "VGG's pooling to a fixed grid": (lambda: models.vgg11(weights=None), "avgpool", (64, 64), False),
    "a stage that ends in such a pooling": (
        lambda: nn.Sequential(nn.Sequential(nn.Conv2d(3, 16, 3), nn.AdaptiveAvgPool2d(7))), "0", (64, 64), False,
    ),
    "as many channels as rows": (lambda: nn.Sequential(nn.Conv2d(3, 32, 2, 2), moved()), "1", (64, 64), True),
    "as many channels as rows, first": (lambda: nn.Sequential(nn.Conv2d(3, 32, 2, 2), nn.ReLU()), "1", (64, 64), False),
    "large pictures": (lambda: nn.Sequential(nn.Conv2d(3, 24, 4, 4), moved()), "1", (160, 200), True),
    "one size only": (lambda: nn.Sequential(OneSize((64, 96)), nn.Conv2d(3, 8, 4, 4), moved()), "2", (64, 96), True),
    "one size only, channels first": (
        lambda: nn.Sequential(OneSize((64, 96)), nn.Conv2d(3, 8, 4, 4), nn.ReLU()), "2", (64, 96), False,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_channels_are_found_wherever_they_are(name):
    """As with the channels moved by hand: the same statistics, and the same maps."""
    make, layer, size, last = LAYOUTS[name]
    torch.manual_seed(0)
    network = make().eval()
    normal, new = pictures(6, size=size), pictures(2, seed=1, size=size)
    before = snapshot(network)
    detector = PaDiM(network, layer, 8).fit([normal], progress=False)
    assert_unchanged(network, before)
    (raw,) = outputs_of(network, [layer], new)
    raw = np.moveaxis(raw, -1, 1) if last else raw
    assert detector._embedding.shapes == [raw.shape[1:]]
    assert np.array_equal(detector.embed(new)[0], raw[:, detector._embedding.kept[0]])
    assert detector.distances(new).shape == (2, *raw.shape[2:])


def test_a_defect_is_found_at_its_place_by_channels_that_are_last():
    torch.manual_seed(0)
    network = models.swin_t(weights=None).eval()
    first = nn.Sequential(network.features[:2], Called(lambda x: x.permute(0, 3, 1, 2))).eval()
    normal, new = 0.3 * pictures(8, size=(64, 64)), 0.3 * pictures(1, seed=1, size=(64, 64))
    new[..., 40:48, 12:20] += 6
    maps = [
        PaDiM(net, layer, 16).fit([normal], progress=False).anomaly_maps(new)[0]
        for net, layer in ((network, "features.1"), (first, "1"))
    ]
    assert torch.equal(*maps)
    row, column = divmod(int(maps[0].argmax()), 64)
    assert 36 <= row < 52 and 8 <= column < 24


@pytest.mark.parametrize(
    "layer, message",
    [
        (Called(lambda x: x.permute(0, 2, 1, 3)), "channels cannot be told"),  # channels between rows and columns
        (Called(lambda x: x.mean(2, keepdim=True)), "channels cannot be told"),  # columns only
        (nn.Sequential(nn.AdaptiveAvgPool2d(7), moved()), "channels cannot be told"),  # 7 x 7 channels last: no witness
        (nn.AdaptiveAvgPool2d(1), r"shape \(3, 7, 1, 1\) .* no rows and columns"),
        (Called(lambda x: x.amax((2, 3), keepdim=True)), "channels cannot be told|no rows and columns"),
        (nn.Sequential(nn.AdaptiveMaxPool2d(1), moved()), "channels cannot be told|no rows and columns"),
        (Called(lambda x: x.mean((2, 3))), r"shape \(3, 7\): choose one whose output is"),
        (Called(lambda x: x.flatten(2).mT), r"shape \(3, 384, 7\): choose one"),
        (Called(lambda x: x.permute(2, 3, 0, 1)[:3]), "for one picture of another size"),  # the pictures come third
    ],
)
def test_layers_without_rows_and_columns(layer, message):
    network = nn.Sequential(nn.Conv2d(3, 7, 2, 2), layer)
    with pytest.raises(ValueError, match=message):
        PaDiM(network, "1", 4).fit([pictures(3)], progress=False)


def in_a_part(network):
    """The network with two of its layers in wrappers."""
    network.layer1 = nn.DataParallel(network.layer1)
    network.layer2 = torch.compile(network.layer2, backend="eager")
    return network


WRAPPERS = {
    "data parallel": nn.DataParallel,
    "compiled": lambda network: torch.compile(network, backend="eager"),
    "averaged": AveragedModel,
    "two of them": lambda network: nn.DataParallel(torch.compile(network, backend="eager")),
    "its parts": in_a_part,
}


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
@pytest.mark.parametrize("name", WRAPPERS)
def test_a_network_in_a_wrapper_is_the_one_inside(tmp_path, name, prefix):
    """The same maps; and a file of the one is a file of the other."""
    normal, new = pictures(9), pictures(2, seed=1)
    plain = PaDiM(backbone(), RESNET, 8).fit([normal], progress=False)
    wrapped = PaDiM(WRAPPERS[name](backbone()), [prefix + layer for layer in RESNET], 8).fit([normal], progress=False)
    assert wrapped.layers == RESNET
    assert torch.equal(wrapped.anomaly_maps(new), plain.anomaly_maps(new))
    plain.save(tmp_path / "plain"), wrapped.save(tmp_path / "wrapped")
    for file in ("plain", "wrapped"):
        for network in (WRAPPERS[name](backbone()), backbone()):
            loaded = PaDiM.load(tmp_path / file, network)
            assert torch.equal(loaded.anomaly_maps(new), plain.anomaly_maps(new))


def test_a_layer_with_two_names_is_one_layer(network):
    network.again = network.layer1
    expected = PaDiM(network, "layer1", 4).fit([pictures(5)], progress=False).anomaly_maps(pictures(2, seed=1))
    found = PaDiM(network, "again", 4).fit([pictures(5)], progress=False)
    assert torch.equal(found.anomaly_maps(pictures(2, seed=1)), expected)
    with pytest.raises(ValueError, match="several different ones"):
        PaDiM(network, ["layer1", "again"], 4)


@pytest.mark.filterwarnings("ignore")  # quantisation is about to be moved out of torch
def test_a_quantised_network_is_refused():
    network = models.quantization.resnet18(weights=None, quantize=True).eval()
    with pytest.raises(ValueError, match="quantised"):
        PaDiM(network, "layer1", 8).fit([pictures(3)], progress=False)
    network = models.quantization.resnet18(weights=None, quantize=False).eval()
    assert PaDiM(network, "layer1", 8).fit([pictures(3, size=(64, 64))], progress=False).n == 3


def test_a_grid_of_another_ratio_than_the_picture_is_said():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 32, 3, stride=(2, 8), padding=1)).eval()
    with pytest.warns(UserWarning, match=r"'0' has 32 x 8 cells for pictures of 64 x 64 pixels"):
        detector = PaDiM(network, "0", 4).fit([pictures(3, size=(64, 64))], progress=False)
    assert detector._embedding.shapes == [(32, 32, 8)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for sides in ((32, 128), (97, 33)):  # 97 rows are 49 cells, 33 columns 17
            network = nn.Sequential(nn.Conv2d(3, 32, 3, stride=2, padding=1)).eval()
            PaDiM(network, "0", 4).fit([pictures(3, size=sides)], progress=False)


# --- loaders and mistakes


class Item(NamedTuple):
    image: torch.Tensor
    name: str


class Items(Dataset):
    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return Item(self.images[i], f"picture {i}")


def test_loaders(network, capsys):
    images, new = pictures(20), pictures(2, seed=1)
    expected = PaDiM(network, RESNET, 8).fit([images], progress=False).anomaly_maps(new)
    for loader in (DataLoader(Items(images), 6, shuffle=True), ([x, 1] for x in images.split(7)), [(images,)]):
        found = PaDiM(network, RESNET, 8).fit(loader, progress=False).anomaly_maps(new)
        assert torch.allclose(found, expected, rtol=1e-4)
    assert capsys.readouterr().err == ""
    PaDiM(network, RESNET, 8).fit([images], progress=True)
    assert "PaDiM" in capsys.readouterr().err


@pytest.mark.parametrize("reduction", ["random", "pca"])
def test_loaders_that_cannot_be_used(network, reduction, unchecked):
    detector = PaDiM(network, RESNET, 8, reduction=reduction)

    def raises(loader, message, kind=ValueError):
        with pytest.raises(kind, match=message):
            detector.fit(loader, progress=False)
        assert detector.n == 0 and detector.gaussians is None

    raises([], "no images|at least 2 normal images, and there are 0")
    raises([pictures(1)], "at least 2 normal images, and there are 1")
    raises([pictures(3), pictures(3, size=(32, 40))], "batch 1: the images have 32 x 40 pixels, those before 32 x 48")
    raises([list(pictures(3))], "a list of 3 images as a batch: torch.stack")
    raises([pictures(3).numpy()], "floating-point tensor", TypeError)
    raises([(pictures(3) * 255).byte()], "floating-point tensor", TypeError)
    raises([pictures(3), pictures(3) * torch.nan], "NaN")


def test_options_that_cannot_be_used(network, unchecked):
    for options, message in (
        ({"dimensions": 0}, "dimensions=0"),
        ({"epsilon": 0}, "epsilon=0"),
        ({"epsilon": math.nan}, "epsilon=nan"),
        ({"blur": -1}, "blur=-1"),
        ({"reduction": "ica"}, "reduction='ica'"),
        ({"layers": []}, "one layer or several"),
        ({"layers": ["layer1", network.layer1]}, "one layer or several"),
        ({"layers": "layer7"}, "did you mean"),
    ):
        with pytest.raises(ValueError, match=message):
            PaDiM(network, **{"layers": RESNET} | options)
    with pytest.raises(ValueError, match="dimensions=100, but the layers have 42 channels"):
        PaDiM(network, RESNET).fit([pictures(3)], progress=False)
    with pytest.raises(ValueError, match="choose one whose output is"):
        PaDiM(network, ["layer1", "fc"], 4).fit([pictures(3)], progress=False)
    network.unused = nn.Conv2d(3, 3, 1)
    with pytest.raises(ValueError, match="does not call layer 'unused'"):
        PaDiM(network, ["layer1", "unused"], 4).fit([pictures(3)], progress=False)


def test_scoring_that_cannot_be(network, unchecked):
    detector = PaDiM(network, RESNET, 8)
    with pytest.raises(ValueError, match="learned nothing yet"):
        detector.anomaly_maps(pictures(1))
    detector.fit([pictures(5)], progress=False)
    with pytest.raises(ValueError, match="32 x 40 pixels"):
        detector.anomaly_maps(pictures(1, size=(32, 40)))
    with pytest.raises(ValueError, match="NaN"):
        detector.anomaly_maps(pictures(1) * torch.inf)
    with pytest.raises(ValueError, match="no threshold yet"):
        detector.predict(pictures(1))
    with pytest.raises(ValueError, match=r"image\[None\]"):
        detector.scores(pictures(1)[0] - 0.5)


# --- merging, threshold, files


def test_update_and_merge(network):
    images, new = pictures(60), pictures(2, seed=1)
    whole = PaDiM(network, RESNET, 12).fit([images], progress=False)
    whole.calibrate([pictures(20, seed=2)], progress=False)
    parts = [PaDiM(network, RESNET, 12).fit([part], progress=False) for part in images.split(20)]
    merged = parts[0].merge(parts[1]).merge(parts[2])
    assert merged.n == 60 and parts[0].n == 20 and merged.threshold is None
    assert torch.allclose(merged.anomaly_maps(new), whole.anomaly_maps(new), rtol=1e-4)
    parts[0].update(images[20:]).update(images[:0])
    assert torch.allclose(parts[0].anomaly_maps(new), whole.anomaly_maps(new), rtol=1e-4)
    whole.update(images[:1])
    assert whole.threshold is None and whole.n == 61
    with pytest.raises(ValueError, match="differ in seed: 0 and 1"):
        whole.merge(PaDiM(network, RESNET, 12, seed=1).fit([images], progress=False))
    with pytest.raises(ValueError, match="learned nothing"):
        whole.merge(PaDiM(network, RESNET, 12))
    first, second = (PaDiM(network, RESNET, 5, reduction="pca").fit([p], progress=False) for p in images.split(30))
    with pytest.raises(ValueError, match="different principal components"):
        first.merge(second)
    assert first.merge(first).n == 60


def test_threshold(network):
    detector = PaDiM(network, RESNET, 8).fit([pictures(30)], progress=False)
    normal = pictures(39, seed=2)
    scores = detector.scores(normal).sort(descending=True).values
    detector.calibrate(DataLoader(normal, 10), 0.1, progress=False)
    assert detector.threshold == scores[3]  # the 4th of 39: a new one lies above with probability 4 / 40
    assert detector.predict(normal).sum() == 3
    assert detector.calibrate([normal], progress=False).threshold == scores[1]
    assert detector.calibrate([normal[:9]], 0.1, progress=False).threshold == detector.scores(normal[:9]).max()
    with pytest.raises(ValueError, match=r"0\.1 false alarms takes at least 9 normal images, and there are 8"):
        detector.calibrate([normal[:8]], 0.1, progress=False)
    with pytest.raises(ValueError, match="at least 19 normal images, and there are 0"):
        detector.calibrate([], progress=False)
    with pytest.raises(ValueError, match="false_alarm_rate=1"):
        detector.calibrate([normal], 1.0)


@pytest.mark.parametrize("change", ["none", "order", "double", "half", "bfloat16", "rounded"])
def test_no_threshold_from_what_it_was_fitted_to(network, tmp_path, change):
    """Known again whatever the order, the batches and the precision; after updates, merging and loading, too."""
    images, others = pictures(60) * 4 - 2, pictures(20, seed=2) * 4 - 2
    first, second = (PaDiM(network, RESNET, 8).fit([part], progress=False) for part in images.split(30))
    merged = first.merge(second)
    merged.save(tmp_path / "x")
    second.update(others[:3])
    pixels = (images + 2) / 4
    again = {
        "none": images,
        "order": images.flip(0),
        "double": images.double(),
        "half": images.half(),
        "bfloat16": images.bfloat16(),
        "rounded": (pixels * 255).round() / 255 * 4 - 2,
    }[change]
    for detector, loader in (
        (first, again[20:40].split(7)),
        (second, [others[:3]]),
        (merged, DataLoader(again, 16, shuffle=True)),
        (PaDiM.load(tmp_path / "x", network), [torch.cat([others.to(again), again[:1]])]),
    ):
        with pytest.raises(ValueError, match=r"batch \d: \d+ of \d+ images are among those .* calibrate with others"):
            detector.calibrate(loader, 0.3, progress=False)
        assert detector.threshold is None
    assert merged.calibrate([others], 0.3, progress=False).threshold > 0
    assert first.calibrate([images[30:]], 0.3, progress=False).threshold > 0
    assert first.fit([others], progress=False).calibrate([images], 0.3, progress=False).threshold > 0


def test_the_share_of_false_alarms_is_kept():
    """Over many draws, 1 of 10 new normal scores lies above the threshold; on images fitted to, scores are lower."""
    detector = PaDiM(nn.Sequential(nn.Conv2d(3, 8, 1)), "0", None, blur=0)
    alarms, low = [], []
    for seed in range(24):
        normal = torch.randn(60, 3, 2, 2, generator=torch.Generator().manual_seed(seed))
        detector.fit([normal[:20]], progress=False).calibrate([normal[20:39]], 0.1, progress=False)
        alarms.append(detector.predict(normal[39:]).float().mean())
        low.append(detector.scores(normal[:20]).mean() / detector.scores(normal[20:]).mean())
    assert 0.06 < np.mean(alarms) < 0.14 and np.mean(low) < 0.9


@pytest.mark.parametrize("n, d, reduction", [(4, 12, "random"), (60, 12, "random"), (30, 9, "pca"), (9, None, "pca")])
def test_saved_and_loaded(network, tmp_path, n, d, reduction):
    images, new = pictures(n), pictures(2, seed=1)
    detector = PaDiM(network, RESNET, d, reduction=reduction, epsilon=0.02, blur=2.0, seed=5)
    detector.fit([images], progress=False).calibrate([pictures(20, seed=2)], progress=False)
    path = tmp_path / "detector.safetensors"
    detector.save(path)
    assert [each.name for each in tmp_path.iterdir()] == ["detector.safetensors"]
    loaded = PaDiM.load(path, network)
    for mine, theirs in zip(detector._embedding.kept, loaded._embedding.kept, strict=True):
        assert torch.equal(mine, theirs) and mine.stride() == theirs.stride()
    mine, theirs = detector.gaussians.state(), loaded.gaussians.state()
    assert mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert torch.equal(loaded.anomaly_maps(new), detector.anomaly_maps(new))
    assert loaded.threshold == detector.threshold and loaded.n == n and loaded.layers == RESNET
    assert torch.allclose(
        loaded.merge(detector).update(images).anomaly_maps(new),
        detector.update(images).update(images).anomaly_maps(new),
        rtol=1e-4,
    )


def test_another_backbone_is_named(network, tmp_path):
    detector = PaDiM(network, RESNET, 12).fit([pictures(5)], progress=False)
    path = tmp_path / "detector.safetensors"
    detector.save(path)
    with torch.no_grad():
        network.layer2[0].conv1.weight[0, 0, 0, 0] += 1
    with pytest.raises(ValueError, match=r"another backbone: 1 of .* is layer2\.0\.conv1\.weight \(other"):
        PaDiM.load(path, network)
    wider = SmallResNet(4, width=8)
    with pytest.raises(ValueError, match=r"bn1.bias \(float32 \(6,\) then, float32 \(8,\) now"):
        PaDiM.load(path, wider)
    with pytest.raises(ValueError, match=r"\(float32 \(6,\) then, nothing - now"):
        PaDiM.load(path, SmallVGG(4))
    with torch.no_grad():
        network.layer2[0].conv1.weight[0, 0, 0, 0] -= 1
    stem = network.maxpool.stride
    network.maxpool.stride = 1  # the same parameters, other grids
    try:
        with pytest.raises(ValueError, match=r"another backbone|not the network"):
            PaDiM.load(path, network).anomaly_maps(pictures(1))
    finally:
        network.maxpool.stride = stem


def test_files_that_cannot_be_read(network, tmp_path):
    PaDiM(network, RESNET, 12).fit([pictures(40)], progress=False).save(tmp_path / "whole")
    data = (tmp_path / "whole").read_bytes()
    with pytest.raises(FileNotFoundError, match="no PaDiM detector at"):
        PaDiM.load(tmp_path / "missing", network)
    broken = tmp_path / "broken"
    parts = (data[:5], data[:1000], data[: len(data) // 2], data[:-1], data + b"0", data[::-1])
    turned = bytearray(data)
    turned[-100] ^= 1  # one bit of the statistics
    for content in (b"", b"not a file of ours", bytes(turned), data.replace(b"epsilon", b"epsilom"), *parts):
        broken.write_bytes(content)
        with pytest.raises(ValueError, match=r"damaged, cut off"):
            PaDiM.load(broken, network)
    save_file({"x": torch.zeros(3)}, broken)
    with pytest.raises(ValueError, match="no PaDiM detector of xailab's"):
        PaDiM.load(broken, network)


def test_files_whose_parts_do_not_fit(network, tmp_path):
    PaDiM(network, RESNET, 12).fit([pictures(40)], progress=False).save(tmp_path / "whole")
    description, tensors = storage.read(tmp_path / "whole", "PaDiM detector")
    broken = tmp_path / "broken"
    nan = torch.full_like(tensors["mean.0"], torch.nan)
    for change, other in (
        ({"n": 0}, {}), ({"n": 2}, {}), ({"n": "40"}, {}), ({"n": True}, {}), ({"shapes": [[6, 8, 12]]}, {}),
        ({"shapes": [[6, 8, 13], [12, 4, 6], [24, 2, 3]]}, {}), ({"shapes": 7}, {}), ({"size": [32]}, {}),
        ({"dtype": "float16"}, {}), ({"dtype": "float64", "n": 3}, {}), ({"layers": ["layer1", "layer2"]}, {}),
        ({"layers": ["layer1", "layer2", "nothing"]}, {}), ({"epsilon": -1}, {}), ({"epsilon": "x"}, {}),
        ({"reduction": "pca"}, {}), ({"dimensions": 1000}, {}), ({"threshold": "high"}, {}), ({"backbone": 3}, {}),
        ({}, {"mean.0": nan}), ({}, {"mean.0": tensors["mean.0"][1:].clone()}), ({}, {"kept.0": nan}),
        ({}, {"kept.0": tensors["kept.0"] + 100}), ({}, {"kept.0": tensors["kept.0"][:0]}),
        ({}, {"scatter.0.0": tensors["scatter.0.0"].half()}),
    ):  # fmt: skip
        storage.write(broken, "PaDiM detector", description | change, tensors | other)
        with pytest.raises(ValueError, match="broken"):
            PaDiM.load(broken, network)
    for missing in ("mean.0", "kept.1", "scatter.2.1"):
        rest = {name: x for name, x in tensors.items() if name != missing}
        storage.write(broken, "PaDiM detector", description, rest)
        with pytest.raises(ValueError, match="broken"):
            PaDiM.load(broken, network)


def test_a_file_is_written_as_a_whole_or_not_at_all(network, tmp_path, monkeypatch):
    detector = PaDiM(network, RESNET, 12)
    with pytest.raises(ValueError, match="nothing to save"):
        detector.save(tmp_path / "x")
    detector.fit([pictures(5)], progress=False).save(tmp_path / "x")
    before = (tmp_path / "x").read_bytes()

    def interrupted(tensors, path, metadata):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(storage, "save_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        detector.save(tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == before and len(list(tmp_path.iterdir())) == 1
    with pytest.raises(FileNotFoundError, match="no folder"):
        detector.save(tmp_path / "nowhere" / "x")


# --- several processes

SCENARIOS = {  # images of the first process and of the second, and the options
    "unequal": (25, 35, {}),
    "few": (3, 2, {}),
    "few here, many there": (2, 50, {}),
    "none": (0, 40, {}),
    "few and none": (4, 0, {}),
    "components": (30, 12, {"reduction": "pca", "dimensions": 5}),
    "components and none": (0, 20, {"reduction": "pca", "dimensions": 5}),
}


def backbone(width=6):
    torch.manual_seed(0)
    return trained_looking(SmallResNet(4, width=width)).eval()


def one_process(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    torch.set_num_threads(1)
    network = backbone()
    for name, (mine, theirs, options) in SCENARIOS.items():
        images = pictures(mine + theirs)
        part = images[:mine] if rank == 0 else images[mine:]
        loader = list(part.split(8)) if len(part) else []
        detector = PaDiM(network, RESNET, **{"dimensions": 12} | options).fit(loader, progress=False)
        torch.save((detector.n, detector.anomaly_maps(pictures(2, seed=1))), f"{folder}/{name} {rank}")
        with pytest.raises(ValueError, match=f"{len(images)} of {len(images)} images are among those"):
            detector.calibrate([images], 0.3, progress=False)
    for loader, message in (
        ([], "no process got any images"),
        ([pictures(3, size=(32, 32 + 16 * rank))], "different sizes"),
    ):
        with pytest.raises(ValueError, match=message):
            PaDiM(network, RESNET, 12).fit(loader, progress=False)
    dist.destroy_process_group()


def test_two_processes_learn_what_one_does(tmp_path):
    mp.spawn(one_process, args=(str(tmp_path),), nprocs=2)
    network = backbone()
    for name, (mine, theirs, options) in SCENARIOS.items():
        alone = PaDiM(network, RESNET, **{"dimensions": 12} | options).fit([pictures(mine + theirs)], progress=False)
        maps = alone.anomaly_maps(pictures(2, seed=1))
        for rank in range(2):
            n, found = torch.load(tmp_path / f"{name} {rank}", weights_only=True)
            assert n == mine + theirs, name
            assert torch.allclose(found, maps, rtol=1e-4), (name, rank)


# --- real data


@pytest.mark.real
@pytest.mark.parametrize("padded", [False, True])
def test_hazelnuts(real_data, padded):
    """ImageNet's SqueezeNet at 256 pixels: 62, 31 and 15 cells, or, padded, 64, 32 and 16, which nest."""
    from sklearn.metrics import roc_auc_score

    from xailab.datasets.folders import MVTecAD

    network = zoo.load("squeezenet1_0", weights=real_data / "weights" / "squeezenet1_0_imagenet.safetensors")
    preprocess = replace(network.preprocess, resize=256, crop=None)
    train, test = (
        MVTecAD(real_data / "mvtec_ad", "hazelnut", split, preprocess=preprocess) for split in ("train", "test")
    )
    if padded:
        network.features[0].padding = (3, 3)
        for module in network.features:
            if isinstance(module, nn.MaxPool2d):
                module.padding, module.ceil_mode = 1, False
    detector = PaDiM(network, SQUEEZENET, 100).fit(DataLoader(train, 10), progress=False)
    assert detector.n == 50 and len(detector.gaussians.levels) == (3 if padded else 2)
    samples = next(iter(DataLoader(test, 10)))
    maps = detector.anomaly_maps(samples.image)
    assert roc_auc_score(samples.mask.numpy().ravel(), maps.numpy().ravel()) > 0.98
    assert roc_auc_score([each != "good" for each in samples.defect], detector.scores_of_maps(maps)) > 0.9
