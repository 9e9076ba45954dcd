import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

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


def test_a_file_is_whole_or_as_it_was(tmp_path):
    path = tmp_path / "notes.txt"
    for text in ("first", "second"):
        with storage.atomic(path) as part:
            part.write_text(text[:3])
            assert not path.exists() or path.read_text() == "first"
            part.write_text(text)
        assert path.read_text() == text
    with pytest.raises(KeyboardInterrupt), storage.atomic(path) as part:
        part.write_text("thi")
        raise KeyboardInterrupt
    assert path.read_text() == "second" and list(tmp_path.iterdir()) == [path]
    with pytest.raises(FileNotFoundError, match="there is no folder"), storage.atomic(tmp_path / "nowhere" / "x"):
        pass


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    path = tmp_path / "x"
    with storage.atomic(path) as one, storage.atomic(path) as other:
        one.write_text("one")
        other.write_text("other")
    assert path.read_text() == "one", "the one that ended last"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_stopped_writer_left_is_known(tmp_path):
    with storage.atomic(tmp_path / "a.b.png") as part:
        assert storage.whole_of(part) == tmp_path / "a.b.png"
    for other in ("a.b.png", "a.part", ".part", ".a.png"):
        assert storage.whole_of(tmp_path / other) is None


def test_a_home_that_nobody_has(monkeypatch):
    monkeypatch.setenv("XAILAB_DATA", "/somewhere")
    assert storage.data_root() == Path("/somewhere") and storage.data_root("other") == Path("other")
    with pytest.raises(ValueError, match="the folder of the data is ~nobody-at-all"):
        storage.data_root("~nobody-at-all/data")
    monkeypatch.setenv("XAILAB_DATA", "~nobody-at-all/data")
    with pytest.raises(ValueError, match="XAILAB_DATA is ~nobody-at-all"):
        storage.data_root()
    monkeypatch.setenv("XAILAB_DATA", "")
    assert storage.data_root() == Path("data")


def test_a_state_dict_becomes_safetensors(tmp_path):
    tied = torch.arange(6.0).view(2, 3)
    torch.save({"a": tied, "b": tied.mT}, tmp_path / "x.pth")
    storage.convert(tmp_path / "x.pth", tmp_path / "x.safetensors")
    found = load_file(tmp_path / "x.safetensors")
    assert torch.equal(found["a"], tied) and torch.equal(found["b"], tied.mT)
    for content in (b"", b"rubbish", [1, 2], {"a": 3}, None):
        if isinstance(content, bytes):
            (tmp_path / "y.pth").write_bytes(content)
        else:
            torch.save(content, tmp_path / "y.pth")
        with pytest.raises(ValueError, match=r"y\.pth holds no weights"):
            storage.convert(tmp_path / "y.pth", tmp_path / "y.safetensors")
    assert not (tmp_path / "y.safetensors").exists()
