"""The encoders that come with the course: whole, small, and as good as their recipe says."""

import hashlib

import pytest
import torch

from xailab.datasets.inspection import Inspection
from xailab.detection import evaluate
from xailab.images import Preprocess
from xailab.patch_svdd import shipped
from xailab.patch_svdd.network import starts
from xailab.patch_svdd.shipped import WEIGHTS, manifest

CATEGORIES = ("biscuit", "capsule", "fabric")


def test_files_are_those_of_the_manifest():
    assert sorted(manifest()) == sorted(CATEGORIES) == sorted(path.stem for path in WEIGHTS.glob("*.safetensors"))
    for category, entry in manifest().items():
        data = (WEIGHTS / f"{category}.safetensors").read_bytes()
        assert entry["bytes"] == len(data) < 1e6 and entry["sha256"] == hashlib.sha256(data).hexdigest()
        assert entry["recipe"].startswith(f"python recipes/patch_svdd.py {category} ")
    with pytest.raises(ValueError, match="no trained encoders for 'bolt': there are biscuit, capsule, fabric"):
        shipped("bolt")


@pytest.mark.parametrize("category", CATEGORIES)
def test_the_product_map_finds_the_defects(category):
    size = manifest()[category]["size"]
    preprocess = Preprocess(resize=size, mean=(0.0,) * 3, std=(1.0,) * 3)
    normal, test = (Inspection(category, split, n=40, preprocess=preprocess) for split in ("train", "test"))
    detector = shipped(category).fill_memory_bank(normal, progress=False)
    assert len(detector.history) > 0
    found = evaluate(detector, test).pixel_auroc
    assert found >= 0.9 and abs(found - manifest()[category]["auroc"]["product"][1]) < 0.03


@pytest.mark.parametrize("category", CATEGORIES)
def test_dense_and_patches_agree_with_trained_weights(category):
    encoder = shipped(category).encoder
    image = torch.rand(1, 3, 80, 98, generator=torch.Generator().manual_seed(0)) - 0.5
    strides = (16, 16)
    for every, size in zip(encoder.dense(image, strides), (32, 64), strict=True):
        rows, columns = (starts(side, size, 16) for side in image.shape[2:])
        patches = torch.cat([image[:, :, r : r + size, c : c + size] for r in rows for c in columns])
        none = torch.empty(0, 3, 96 - size, 96 - size)
        single = encoder.patches(patches, none)[0] if size == 32 else encoder.patches(none, patches)[1]
        assert torch.allclose(single, every.permute(0, 2, 3, 1).flatten(0, 2), rtol=0, atol=1e-5)
