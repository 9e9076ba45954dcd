import os

import pytest
import torch

from xailab import storage


def test_a_file_gives_back_what_was_written_and_says_what_it_holds(tmp_path):
    path, tensors = tmp_path / "x", {"a": torch.arange(6.0).view(2, 3).mT, "b": torch.tensor(3, dtype=torch.int64)}
    storage.write(path, "bowl of fruit", {"apples": [1, 2], "kind": None}, tensors)
    description, found = storage.read(path, "bowl of fruit")
    assert description == {"apples": [1, 2], "kind": None}
    assert found.keys() == tensors.keys() and all(torch.equal(found[name], x) for name, x in tensors.items())
    for x in found.values():  # lies in memory as what torch makes, so that kernels compute with it alike
        assert x.is_contiguous() and x.data_ptr() % 64 == 0
    with pytest.raises(ValueError, match="holds a bowl of fruit, expected a vase"):
        storage.read(path, "vase")


def test_tensors_that_share_memory_are_written_whole(tmp_path):
    """A layer under two names, a transposed or partial view, a repeated row: no copy by the caller is needed."""
    weight = torch.arange(6.0).view(2, 3)
    tensors = {
        "first": weight,
        "again": weight,
        "turned": weight.mT,
        "row": weight[1],
        "flat": weight.view(-1),
        "bits": weight.view(torch.int32),
        "repeated": weight[:1].expand(4, 3),
        "parameter": torch.nn.Parameter(weight),
        "empty": torch.empty(0),
        "empty too": torch.empty(0),
    }
    storage.write(tmp_path / "x", "bowl", {}, tensors)
    found = storage.read(tmp_path / "x", "bowl")[1]
    assert found.keys() == tensors.keys() and all(torch.equal(found[name], x) for name, x in tensors.items())


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_others_may_read_what_they_may_read_elsewhere(tmp_path):
    (tmp_path / "plain").touch()
    for _ in range(2):  # a new file, and one that replaces another
        storage.write(tmp_path / "x", "bowl", {}, {"a": torch.zeros(1)})
        assert (tmp_path / "x").stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert len(list(tmp_path.iterdir())) == 2
