"""The encoders of Patch SVDD, against a textbook's patch by patch; the position classifier."""

from itertools import pairwise

import numpy as np
import patch_svdd_textbook as textbook
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from xailab.patch_svdd import Encoder, PositionClassifier
from xailab.patch_svdd.network import initial_encoder, starts

IMAGES = torch.rand(2, 3, 71, 98, generator=torch.Generator().manual_seed(0)) - 0.5


@pytest.fixture(scope="module")
def encoder():
    return initial_encoder(64, 0).requires_grad_(False)


def test_it_has_the_parameters_of_the_authors_files(encoder):
    assert sum(p.numel() for p in encoder.parameters()) == 401_984
    convolutions = [*(f"enc.conv{i}" for i in range(1, 9)), "conv1", "conv2"]
    assert set(encoder.state_dict()) == {f"{name}.{kind}" for name in convolutions for kind in ("weight", "bias")}
    assert tuple(encoder.enc.conv1.weight.shape) == (32, 3, 3, 3)
    assert tuple(encoder.conv1.weight.shape) == (128, 64, 2, 2)


@pytest.mark.parametrize("name, k, size", [("fine", 0, 32), ("coarse", 1, 64)])
def test_dense_is_patch_by_patch(encoder, name, k, size):
    strides = (16, 8)
    found = getattr(encoder.dense(IMAGES, strides), name)
    rows, columns = (textbook.corners(side, size, strides[k]) for side in IMAGES.shape[2:])
    assert found.shape == (2, 64, len(rows), len(columns))
    assert found.std((0, 2, 3)).mean() > 0.1  # it would be no feat if all embeddings were alike
    p = textbook.parameters(encoder)
    for n, i, j in [(0, 0, 0), (1, len(rows) - 1, len(columns) - 1), (1, 0, len(columns) // 2), (0, 1, 0)]:
        patch = IMAGES[n, :, rows[i] : rows[i] + size, columns[j] : columns[j] + size].numpy()
        np.testing.assert_allclose(found[n, :, i, j].numpy(), textbook.embed(p, patch), rtol=0, atol=1e-5)


def test_dense_and_patches_agree_everywhere(encoder):
    fine, coarse = encoder.dense(IMAGES)
    for every, size, stride in ((fine, 32, 4), (coarse, 64, 16)):
        rows, columns = (textbook.corners(side, size, stride) for side in IMAGES.shape[2:])
        cut = torch.stack([image[:, r : r + size, c : c + size] for image in IMAGES for r in rows for c in columns])
        none = torch.empty(0, 3, 96 - size, 96 - size)
        single = encoder.patches(cut, none)[0] if size == 32 else encoder.patches(none, cut)[1]
        assert torch.allclose(single, every.permute(0, 2, 3, 1).flatten(0, 2), rtol=0, atol=1e-5)


def test_the_geometry_of_the_paper():
    """At 256 x 256: 57 x 57 patches of 32 at a stride of 4, 13 x 13 of 64 at 16, and no others."""
    assert starts(256, 32, 4) == list(range(0, 225, 4)) and len(starts(256, 32, 4)) == 57
    assert starts(256, 64, 16) == list(range(0, 193, 16)) and len(starts(256, 64, 16)) == 13
    every = Encoder(8).enc(torch.zeros(1, 3, 256, 256))
    assert every.shape[2:] == (113, 113) and len(every[0, 0, ::2, ::2]) == 57
    assert Encoder(8).head(every, dilation=16).shape[2:] == (97, 97) and len(range(0, 97, 8)) == 13


@given(st.sampled_from([32, 64]), st.integers(0, 300), st.integers(1, 20))
@settings(max_examples=200, deadline=None)
def test_patches_leave_no_gaps(patch, more, half_stride):
    side, stride = patch + more, 2 * half_stride
    first = starts(side, patch, stride)
    assert first == textbook.corners(side, patch, stride)
    assert first[0] == 0 and side - 1 <= first[-1] + patch <= side
    assert all(0 < b - a <= stride for a, b in pairwise(first))


@pytest.mark.parametrize("size", [(64, 64), (64, 65), (65, 200)])
def test_the_smallest_images(encoder, size):
    fine, coarse = encoder.dense(torch.zeros(1, 3, *size))
    assert fine.shape[2:] == tuple(len(starts(side, 32, 4)) for side in size)
    assert coarse.shape[2:] == tuple(len(starts(side, 64, 16)) for side in size)


def test_what_cannot_be_embedded(encoder):
    with pytest.raises(ValueError, match="63 x 100 pixels are smaller than a patch of 64"):
        encoder.dense(torch.zeros(1, 3, 63, 100))
    for strides in [(3, 16), (0, 16), (4,), (34, 16), (4, 66)]:
        with pytest.raises(ValueError, match="two even numbers"):
            encoder.dense(IMAGES, strides)


def test_gradients_of_dense_are_those_of_patches():
    encoder = initial_encoder(8, 1)
    image = IMAGES[:1, :, :64, :64]
    dense = encoder.dense(image).coarse.square().sum()
    single = encoder.patches(torch.empty(0, 3, 32, 32), image)[1].square().sum()
    for a, b in zip(*(torch.autograd.grad(x, list(encoder.parameters())) for x in (dense, single)), strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-5 * float(b.abs().max()))


def test_a_seed_gives_the_same_weights_and_leaves_torch_alone():
    before = torch.get_rng_state()
    a, b, c = (initial_encoder(8, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not any(torch.equal(a[name], c[name]) for name in a if name.endswith("weight"))
    assert torch.equal(before, torch.get_rng_state())


def test_at_the_start_patches_differ_and_embeddings_do_not_saturate():
    """As He et al. draw weights, what distinguishes patches keeps its size; as PyTorch does, it shrinks."""
    he, torchs = (make.dense(IMAGES).fine for make in (initial_encoder(64, 0), Encoder(64)))
    assert he.std((0, 2, 3)).mean() > 30 * torchs.std((0, 2, 3)).mean()
    assert he.abs().max() < 1


def test_the_classifier_sees_differences():
    classifier = PositionClassifier(16)
    p = textbook.parameters(classifier)
    h = torch.randn(5, 2, 16, generator=torch.Generator().manual_seed(0))
    scores = classifier(h[:, 0], h[:, 1])
    wanted = np.array([textbook.classify(p, (a - b).double().numpy()) for a, b in h])
    np.testing.assert_allclose(F.log_softmax(scores, 1).detach().numpy(), wanted, atol=1e-5)


@pytest.mark.parametrize("frozen", [True, False])
def test_a_frozen_classifier_keeps_its_last_weights_and_learns_the_rest(frozen):
    classifier = PositionClassifier(16, frozen=frozen)
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    optimizer = torch.optim.Adam([p for p in classifier.parameters() if p.requires_grad], lr=0.1)
    h = torch.randn(8, 2, 16, generator=torch.Generator().manual_seed(0))
    F.cross_entropy(classifier(h[:, 0], h[:, 1]), torch.arange(8)).backward()
    optimizer.step()
    same = {name for name, value in classifier.state_dict().items() if torch.equal(value, before[name])}
    assert same == ({"fc3.weight"} if frozen else set())
