"""Nearest neighbours against brute force and a KD-tree, subsets of the bank, and scores to pixels."""

import sys

import numpy as np
import patch_svdd_textbook as textbook
import pytest
import torch
from sklearn.neighbors import KDTree
from torch.utils._python_dispatch import TorchDispatchMode

from xailab.patch_svdd import MemoryBank, greedy_coreset, nearest_neighbours, to_pixels
from xailab.patch_svdd.scoring import BLOCK, QUERIES


def vectors(n, d=64, seed=0, spread=0.3, centre=0.0):
    generator = torch.Generator().manual_seed(seed)
    return torch.tanh(spread * torch.randn(n, d, generator=generator) + centre)


@pytest.mark.parametrize("m, block", [(1, 4096), (700, 4096), (700, 100), (700, 699)])
def test_it_is_brute_force(m, block):
    queries, bank = vectors(QUERIES + 30, 16, seed=1), vectors(m, 16, seed=2)
    distances, found = nearest_neighbours(queries, bank, block=block)
    wanted, number = textbook.nearest(queries, bank)
    np.testing.assert_allclose(distances.numpy(), wanted, rtol=1e-6)
    assert (found.numpy() == number).all()


@pytest.mark.parametrize("spread, centre", [(1.0, 0.0), (0.01, 1.0), (1e-4, 1.0)])
def test_distances_survive_cancellation(spread, centre):
    """Embeddings far from 0 and close together, where |a|^2 + |b|^2 - 2ab alone would leave rounding errors."""
    queries, bank = vectors(300, seed=1, spread=spread, centre=centre), vectors(5000, spread=spread, centre=centre)
    wanted = KDTree(bank.double().numpy()).query(queries.double().numpy())[0][:, 0]
    distances, _ = nearest_neighbours(queries, bank)
    np.testing.assert_allclose(distances.numpy(), wanted, rtol=2e-6)
    naive = (queries.square().sum(1)[:, None] + bank.square().sum(1) - 2 * queries @ bank.T).clamp(min=0).amin(1).sqrt()
    if spread == 1e-4:
        assert abs(naive.numpy() / wanted - 1).max() > 0.05


def test_what_is_in_the_bank_is_at_distance_0():
    bank = vectors(3000)
    bank[2000] = bank[7]
    distances, found = nearest_neighbours(bank[:100], bank)
    assert (distances == 0).all() and found.tolist() == list(range(100))
    assert nearest_neighbours(bank[2000:2001], bank)[1].item() == 7


class Largest(TorchDispatchMode):
    """The most numbers that any operation puts out."""

    numbers = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        if isinstance(result, torch.Tensor):
            self.numbers = max(self.numbers, result.numel())
        return result


def test_memory_is_bounded():
    for n, m in ((QUERIES, BLOCK), (3 * QUERIES, 4 * BLOCK)):
        queries, bank = vectors(n, 4), vectors(m, 4)
        with Largest() as largest:
            nearest_neighbours(queries, bank)
        assert largest.numbers == QUERIES * BLOCK


def test_greedy_coreset_by_hand_and_its_guarantee():
    line = torch.tensor([[0.0], [1.0], [4.0], [9.0], [10.0]])
    chosen = greedy_coreset(line, 4, torch.Generator().manual_seed(0)).tolist()
    by_hand = chosen[:1]
    while len(by_hand) < 4:
        gaps = [min(abs(float(line[i] - line[j])) for j in by_hand) for i in range(5)]
        by_hand.append(int(np.argmax(gaps)))
    assert chosen == by_hand

    points = vectors(40, 2, seed=3)
    chosen = greedy_coreset(points, 3, torch.Generator().manual_seed(1))
    assert len(set(chosen.tolist())) == 3
    apart = torch.cdist(points.double(), points.double())
    best = min(
        apart[:, [i, j, k]].amin(1).amax().item() for i in range(40) for j in range(i + 1, 40) for k in range(j + 1, 40)
    )
    assert apart[:, chosen].amin(1).amax() <= 2 * best


def test_greedy_coreset_chooses_each_vector_once():
    twice = torch.cat([vectors(5, 3), vectors(5, 3)])
    assert sorted(greedy_coreset(twice, 10).tolist()) == list(range(10))


@pytest.mark.parametrize("subset", ["random", "coreset"])
def test_a_part_of_the_bank(subset):
    bank = MemoryBank(vectors(200, 8), torch.arange(600, dtype=torch.int32).view(200, 3))
    part = bank.subsample(0.1, subset, torch.Generator().manual_seed(0))
    again = bank.subsample(0.1, subset, torch.Generator().manual_seed(0))
    assert len(part.vectors) == 20 and torch.equal(part.places, again.places)
    rows = part.places[:, 0] // 3
    assert len(set(rows.tolist())) == 20
    assert torch.equal(part.vectors, bank.vectors[rows]) and torch.equal(part.places, bank.places[rows])
    assert (
        part.nearest_patches(vectors(50, 8, 1)).distances >= bank.nearest_patches(vectors(50, 8, 1)).distances
    ).all()
    assert bank.subsample(1.0, subset, torch.Generator()) is bank


def test_a_coreset_leaves_less_far_off_than_random():
    bank = MemoryBank(vectors(2000, 3), torch.zeros(2000, 3, dtype=torch.int32))
    gaps = {
        subset: bank.subsample(0.05, subset, torch.Generator().manual_seed(0))
        .nearest_patches(bank.vectors)
        .distances.amax()
        for subset in ("random", "coreset")
    }
    assert gaps["coreset"] < 0.7 * gaps["random"]


def test_faiss_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match="pip install faiss-cpu"):
        MemoryBank(vectors(100), torch.zeros(100, 3, dtype=torch.int32)).indexed()


def test_faiss_finds_almost_the_nearest():
    pytest.importorskip("faiss", reason="needs faiss-cpu")
    bank = MemoryBank(vectors(4000, 8), torch.arange(12_000, dtype=torch.int32).view(4000, 3))
    queries = vectors(300, 8, seed=1)
    found, wanted = bank.indexed().nearest_patches(queries), bank.nearest_patches(queries)
    assert (found.distances >= wanted.distances - 1e-6).all()
    assert (found.places == wanted.places).all(1).float().mean() > 0.7
    assert found.distances.mean() < 1.1 * wanted.distances.mean()
    assert torch.equal(bank.indexed().nearest_patches(queries).distances, found.distances)


@pytest.mark.parametrize("size", [(256, 256), (64, 64), (79, 130), (100, 65)])
@pytest.mark.parametrize("patch, stride", [(32, 4), (64, 16), (32, 32)])
def test_pixels_are_the_mean_over_their_patches(size, patch, stride):
    grid = [len(textbook.corners(side, patch, stride)) for side in size]
    scores = torch.rand(2, *grid, generator=torch.Generator().manual_seed(0))
    found = to_pixels(scores, size, patch, stride)
    assert found.shape == (2, *size)
    for map, score in zip(found, scores, strict=True):
        np.testing.assert_allclose(map.numpy(), textbook.distribute(score.numpy(), size, patch, stride), rtol=1e-5)
    assert torch.allclose(to_pixels(torch.ones(1, *grid), size, patch, stride), torch.ones(1, *size))
