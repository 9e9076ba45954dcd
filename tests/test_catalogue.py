"""The catalogue: what it says of itself, what it keeps, what it never takes for data."""

import errno
import hashlib
import io
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from catalogue_server import BRIEF, Served, serving

from xailab import storage
from xailab.datasets import catalogue
from xailab.datasets.catalogue import (
    DownloadError,
    Entry,
    File,
    LicenceError,
    UnsafeArchive,
    WrongFile,
    download,
    get,
    registry,
    state,
    store,
    verify,
)  # fmt: skip
from xailab.datasets.catalogue.store import HERE
from xailab.models import zoo

NOISE = random.Random(0)
PHOTOS = {f"photos/{i}.jpg": NOISE.randbytes(36_000) for i in range(10)}


def zipped(files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def tarred(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:xz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


@pytest.fixture(scope="module")
def server():
    with serving() as both:
        yield both


@pytest.fixture
def web(server, tmp_path, monkeypatch):
    """A server with an archive of photographs, and a root for the data."""
    monkeypatch.setattr(download, "RETRIES", BRIEF)
    address, site = server
    site.clear()
    site["/photos.zip"] = Served(zipped(PHOTOS))

    def file(name, **known):
        return File(name, (f"{address}/{name}",), **known)

    def entry(**changes):
        usual = {"name": "photos", "files": (file("photos.zip"),), "places": ("photos",)}
        return Entry(**{"title": "", "lessons": ("02",), "licence": "", "page": "", **usual, **changes})

    names = {"address": address, "site": site, "photos": site["/photos.zip"], "root": tmp_path / "data"}
    return SimpleNamespace(**names, file=file, entry=entry)


def files_in(folder):
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def left_over(web):
    return {name for name in files_in(web.root / "downloads") if not name.endswith(".lock")}


def is_well(entry, web):
    assert state(entry, web.root) == HERE and verify(entry, web.root) == [] and not left_over(web)
    assert {p.name: p.read_bytes() for p in (web.root / "photos").iterdir()} == {
        name.removeprefix("photos/"): data for name, data in PHOTOS.items()
    }
    return True


# What it says of itself


def test_the_catalogue_is_in_order():
    names = catalogue.entries()
    assert {"stl10", "oxford-pets", "cifar10", "mvtec-ad", "cub-200", "brain-mri"} <= set(names)
    assert {f"mvtec-ad/{Path(place).name}" for place in names["mvtec-ad"].places} <= set(names)
    files = [file for entry in names.values() for file in entry.files]
    assert len({file.name for file in files}) == len(files), "two would be written to one place"
    assert len({url for file in files for url in file.urls}) == sum(len(file.urls) for file in files)
    for name, entry in names.items():
        assert entry.title and entry.licence and entry.page.startswith("https://") and entry.places
        assert all(re.fullmatch(r"0\d|10", lesson) for lesson in entry.lessons)
        assert entry.name == name and "{" not in repr((*entry.__dict__.values(),)), "a word is not filled in"
    for file in files:
        assert file.size or file.about, "without a size nobody knows whether there is room"
        for url in file.urls:  # what comes unencrypted is known by its hash
            assert url.startswith("https://") or file.sha256
        assert file.sha256 is None or re.fullmatch(r"[0-9a-f]{8}|[0-9a-f]{64}", file.sha256)


def test_no_field_is_misspelt():
    tables = tomllib.loads(Path(registry.__file__).with_name("registry.toml").read_text(encoding="utf-8"))
    known = {*Entry.__dataclass_fields__, *File.__dataclass_fields__, "file"}
    for name, table in tables.items():
        members = table.pop("each", {})
        words = set(re.findall(r"{(\w+)}", repr((name, table))))
        assert set(table) <= known and all(set(own) <= known | words for own in members.values()), name
        for file in [field for own in members.values() or [{}] for field in (table | own).get("files", [table | own])]:
            assert "sha256" in file, f"{name}: say 'unknown' where no hash is published"


def test_the_hashes_and_addresses_are_torchvisions():
    from torchvision import datasets
    from torchvision.models import get_model_weights

    names = catalogue.entries()
    assert names["stl10"].files[0].urls == (datasets.STL10.url,)
    assert names["cifar10"].files[0].urls == (datasets.CIFAR10.url,)
    assert names["stl10"].places + names["cifar10"].places == (datasets.STL10.base_folder, datasets.CIFAR10.base_folder)
    assert [each.urls[0] for each in names["oxford-pets"].files] == [
        url for url, _ in datasets.OxfordIIITPet._RESOURCES
    ]
    for name in ("resnet18", "resnet50", "wide_resnet50_2", "vgg16", "efficientnet_b5", "squeezenet1_0"):
        (file,) = names[f"weights/{name}"].files
        published = get_model_weights(name)["IMAGENET1K_V1"]
        assert file.urls == (published.url,) and f"-{file.sha256[:8]}.pth" in published.url
        assert (file.size or file.about) == pytest.approx(published.meta["_file_size"] * 2**20, rel=2e-5)


def test_what_may_not_be_used_for_everything_asks_first(web):
    asking = {name.partition("/")[0] for name, entry in catalogue.entries().items() if entry.terms}
    assert asking == {"mvtec-ad", "cub-200"}
    with pytest.raises(LicenceError, match=r"for birds only.*--accept-licence"):
        get(web.entry(terms="for birds only"), web.root)
    assert not web.root.exists()
    assert get(web.entry(terms="for birds only"), web.root, accepted=True)


# Here, and verified


def test_it_comes_and_is_recorded_and_verified(web):
    entry = web.entry()
    assert state(entry, web.root) == "not here"
    assert get(entry, web.root) and is_well(entry, web)
    record = json.loads((web.root / "records" / "photos.json").read_text())
    assert record["files"]["3.jpg"] == [36_000, hashlib.sha256(PHOTOS["photos/3.jpg"]).hexdigest()]
    assert not get(entry, web.root)
    assert len(web.photos.asked) == 1


@pytest.mark.parametrize("harm", ["changed", "shortened", "missing", "no place"])
def test_what_is_damaged_later_is_found_and_downloaded_again(web, harm):
    entry, photo = web.entry(), web.root / "photos" / "3.jpg"
    get(entry, web.root)
    if harm == "no place":
        shutil.rmtree(photo.parent)
        assert state(entry, web.root) == "not here" and "nothing to compare" in verify(entry, web.root)[0]
    elif harm == "missing":
        photo.unlink()
    else:
        photo.write_bytes(bytes(36_000 if harm == "changed" else 3))
    if harm != "no place":
        damaged = "damaged (1 of 10 files of photos missing or changed)"
        assert state(entry, web.root) == (HERE if harm == "changed" else damaged), "the list compares sizes only"
        assert verify(entry, web.root) == [f"{photo}: missing or changed"]
        assert state(entry, web.root) == damaged
    assert get(entry, web.root) and is_well(entry, web)


def test_what_is_put_right_by_hand_is_well_again(web):
    get(web.entry(), web.root)
    photo = web.root / "photos" / "3.jpg"
    right = photo.read_bytes()
    photo.write_bytes(bytes(36_000))
    assert verify(web.entry(), web.root) and state(web.entry(), web.root) != HERE
    photo.write_bytes(right)
    assert verify(web.entry(), web.root) == [] and state(web.entry(), web.root) == HERE


def test_a_disk_that_may_only_be_read_is_verified_too(web, monkeypatch):
    get(web.entry(), web.root)
    (web.root / "photos" / "3.jpg").write_bytes(bytes(36_000))

    def refuse(path):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(storage, "atomic", refuse)
    assert len(verify(web.entry(), web.root)) == 1


def test_somebody_elses_data_is_never_touched(web):
    mine = web.root / "photos" / "mine.jpg"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    assert state(web.entry(), web.root) == "photos is here, but not from this program: not verified"
    with pytest.raises(DownloadError, match=r"holds what was not downloaded here \(mine\.jpg\): move it away"):
        get(web.entry(), web.root)
    mine.unlink()
    get(web.entry(), web.root)
    mine.write_bytes(b"mine")
    assert state(web.entry(), web.root) == HERE, "more files than were downloaded do no harm"
    (web.root / "photos" / "3.jpg").unlink()
    with pytest.raises(DownloadError, match=r"mine\.jpg"):
        get(web.entry(), web.root)
    assert files_in(web.root / "photos") == {name.removeprefix("photos/") for name in PHOTOS} - {"3.jpg"} | {"mine.jpg"}
    assert len(web.photos.asked) == 1, "it was downloaded only to be refused"


@pytest.mark.parametrize("target", ["nowhere", "elsewhere"])
@pytest.mark.parametrize("name", ["photos", "photos/link", "photos/3.jpg"])
def test_links_are_the_users_even_those_that_lead_nowhere(web, tmp_path, name, target):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "0.jpg").write_bytes(b"mine")
    if name != "photos":
        get(web.entry(), web.root)
        (web.root / "photos" / "3.jpg").unlink()
    (web.root / name).parent.mkdir(exist_ok=True, parents=True)
    (web.root / name).symlink_to(tmp_path / target)
    assert state(web.entry(), web.root) not in (HERE, "not here")
    with pytest.raises(DownloadError, match="move it away"):
        get(web.entry(), web.root)
    assert (web.root / name).is_symlink() and files_in(tmp_path / "elsewhere") == {"0.jpg"}


@pytest.mark.parametrize("place", ["photos", "weights/squeezenet1_1.safetensors"])
def test_what_somebody_puts_there_during_the_download_is_kept(web, monkeypatch, place):
    entry = web.entry() if place == "photos" else weights(web, {"a": torch.zeros(1)})
    mine = web.root / place / "mine.jpg" if place == "photos" else web.root / place
    real = store.fetch

    def slow(*arguments):
        found = real(*arguments)
        mine.parent.mkdir()
        mine.write_bytes(b"mine")
        return found

    monkeypatch.setattr(store, "fetch", slow)
    with pytest.raises(DownloadError, match="move it away"):
        get(entry, web.root)
    assert mine.read_bytes() == b"mine"


def test_the_first_download_is_trusted_and_no_other(web):
    get(web.entry(), web.root)
    shutil.rmtree(web.root / "photos")
    web.photos.data = zipped({**PHOTOS, "photos/3.jpg": b"another"})
    with pytest.raises(
        WrongFile, match=r"at the first download here \(to take the new one, delete .*photos\.zip\.sha256\)"
    ):
        get(web.entry(), web.root)
    assert not (web.root / "photos").exists() and not left_over(web)
    (web.root / "records" / "photos.zip.sha256").unlink()
    assert get(web.entry(), web.root)


def test_several_archives_make_one_place(web):
    web.site["/notes.tar.xz"] = Served(tarred({"notes/1.txt": b"one", "more/2.txt": b"two"}))
    entry = web.entry(files=(web.file("photos.zip"), web.file("notes.tar.xz")), places=("all",), into="all")
    web.site["/notes.tar.xz"].statuses = [404]
    with pytest.raises(DownloadError):
        get(entry, web.root)
    assert not (web.root / "all").exists() and left_over(web) == {"photos.zip"}
    assert state(entry, web.root).startswith("part (0.4 MB")
    get(entry, web.root)
    assert len(web.photos.asked) == 1
    assert files_in(web.root / "all") == {*PHOTOS, "notes/1.txt", "more/2.txt"}


def test_parts_and_the_whole_share_their_places(web):
    products = {name: {f"{name}/train/good/{i}.png": NOISE.randbytes(500) for i in range(3)} for name in "abc"}
    web.site["/all.tar.xz"] = Served(tarred({"readme.txt": b"!", **products["a"], **products["b"], **products["c"]}))
    web.site["/a.tar.xz"] = Served(tarred(products["a"]))
    part = web.entry(name="mv/a", files=(web.file("a.tar.xz"),), places=("mv/a",), into="mv")
    places = ("mv/a", "mv/b", "mv/c")
    whole = web.entry(name="mv", files=(web.file("all.tar.xz"),), places=places, into="mv")
    get(part, web.root)
    assert state(part, web.root) == HERE and state(whole, web.root) == "part (1 of 3)"
    assert registry.without_parts([whole, part]) == [whole] and registry.without_parts([part]) == [part]
    before = (web.root / "mv" / "a").stat().st_ino
    get(whole, web.root)
    assert state(whole, web.root) == HERE and (web.root / "mv" / "a").stat().st_ino == before
    assert files_in(web.root / "mv") == {name for files in products.values() for name in files}
    shutil.rmtree(web.root / "mv" / "a")
    assert state(part, web.root) == "not here" and state(whole, web.root) == "part (2 of 3)"
    get(whole, web.root)
    assert state(part, web.root) == HERE
    shutil.rmtree(web.root / "mv" / "a")
    web.site["/a.tar.xz"].data = tarred({"a/0.png": b"another"})
    with pytest.raises(WrongFile, match="at the first download"):
        get(part, web.root)


@pytest.mark.parametrize(
    "archive, said",
    [
        (zipped({"photos/1.jpg": b"1", "../../evil": b"2"}), "outside its folder"),
        (zipped({"photos/1.jpg": b"1"})[:-30], "damaged"),
        (zipped({"birds/1.jpg": b"1"}), "holds no photos"),
    ],
    ids=["hostile", "damaged", "another"],
)
def test_a_bad_archive_leaves_nothing_and_does_not_stand_in_a_good_ones_way(web, tmp_path, archive, said):
    good, web.photos.data = web.photos.data, archive
    with pytest.raises(UnsafeArchive, match=said):
        get(web.entry(), web.root)
    assert files_in(tmp_path) == {"data/downloads/photos.lock"}
    web.photos.data = good
    assert get(web.entry(), web.root) and is_well(web.entry(), web)


def test_a_bomb_is_bounded_by_the_size_of_its_archive(web):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("photos/zeros", bytes(20_000_000))
    web.photos.data = out.getvalue()
    with pytest.raises(UnsafeArchive, match="unpacks to more than"):
        get(web.entry(), web.root)


@pytest.mark.parametrize(
    "content",
    [
        "", "[]", "{}", "\0", "[" * 100_000, '{"files": 3}', '{"files": {}}', '{"files": {"0.jpg": 3}}',
        '{"files": {"0.jpg": ["x", "y"]}}', '{"files": {"0.jpg": [3]}}', '{"files": [["0.jpg", 3]]}',
    ],
)  # fmt: skip
def test_a_damaged_record_is_no_record(web, content):
    get(web.entry(), web.root)
    (web.root / "records" / "photos.json").write_text(content)
    assert "not from this program" in state(web.entry(), web.root)
    assert "nothing to compare" in verify(web.entry(), web.root)[0]


# Interrupted


def test_a_hundred_interrupted_downloads(web, monkeypatch):
    """Each leaves the whole, verified, or a part to go on from, and the list says which."""
    monkeypatch.setattr(download, "PROGRESS", 1 << 30)  # one request each time
    entry, rng, broken, finished = web.entry(), random.Random(1), 0, 0
    archive = web.photos.data
    while broken < 100:
        web.photos.cuts = [rng.randrange(len(archive)) for _ in range(3)]
        web.photos.ranges = rng.random() < 0.9
        try:
            get(entry, web.root)
        except DownloadError:
            broken += 1
            assert not (web.root / "photos").exists()
            assert left_over(web) <= {"photos.zip.part", "photos.zip.part.version"}
            part = web.root / "downloads" / "photos.zip.part"
            there = part.read_bytes() if part.exists() else b""
            assert archive.startswith(there) and len(there) < len(archive)
            assert state(entry, web.root) == (f"part ({len(there) / 1e6:.1f} MB of 0.0 MB)" if there else "not here")
        else:
            finished += 1
            assert is_well(entry, web)
            shutil.rmtree(web.root / "photos")
    assert finished > 10


STEPS = [(store, "extract"), (store.os, "replace"), (shutil, "rmtree"), (storage, "atomic"), (storage, "sha256")]
STEPS += [(Path, name) for name in ("mkdir", "unlink", "write_text")]


def interrupt(*arguments, **options):
    raise KeyboardInterrupt


@pytest.mark.skipif(sys.platform != "linux", reason="forks beside threads")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of that
@pytest.mark.parametrize("stop", [interrupt, lambda *arguments, **options: os._exit(9)], ids=["interrupted", "killed"])
@pytest.mark.parametrize("damaged", [False, True], ids=["first", "again"])
def test_stopped_at_any_step(web, stop, damaged):
    """Wherever it is stopped, a first download or one in a damaged place's stead: nothing passes that is not whole."""
    web.photos.data = zipped({name: PHOTOS[name] for name in ("photos/1.jpg", "photos/3.jpg")})
    stops = 0
    for owner, name in STEPS:
        for last in range(1, 40):
            shutil.rmtree(web.root, ignore_errors=True)
            if damaged:
                get(web.entry(), web.root)
                (web.root / "photos" / "3.jpg").unlink()
            if not stopped(web, owner, name, stop, last):
                break
            stops += 1
            assert state(web.entry(), web.root) != HERE or verify(web.entry(), web.root) == [], (name, last)
            get(web.entry(), web.root)
            assert state(web.entry(), web.root) == HERE and verify(web.entry(), web.root) == [], (name, last)
    assert stops > 15


def stopped(web, owner, name, stop, last):
    """Get the photographs in a process that is stopped at a call of a function; whether there are so many calls."""
    if (child := os.fork()) == 0:
        calls, real = iter(range(1, 10_000)), getattr(owner, name)
        setattr(owner, name, lambda *a, **k: stop() if next(calls) == last else real(*a, **k))
        try:
            get(web.entry(), web.root)
        except KeyboardInterrupt:
            os._exit(9)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


TWO = """
import sys
from pathlib import Path
from xailab.datasets.catalogue import Entry, File, get
entry = Entry("photos", "", (), "", "", (File("photos.zip", (sys.argv[1],)),), ("photos",))
print("ready", flush=True)
sys.stdin.readline()
print(get(entry, Path(sys.argv[2])))
"""


def test_two_processes_at_once(web):
    web.photos.stall, web.photos.cuts = 0.3, [200_000]  # so that the second one finds the first at work
    arguments = [sys.executable, "-c", TWO, f"{web.address}/photos.zip", str(web.root)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(arguments, **pipes) for _ in range(2)]
    for process in both:
        assert process.stdout.readline() == "ready\n"
    for process in both:
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sorted(out for out, _ in said) == ["False\n", "True\n"]
    assert sum(err.count("another process is at it") for _, err in said) <= 1
    assert sum(served.get("Range") is None for served in web.photos.asked) == 1, "both have downloaded it"
    assert is_well(web.entry(), web)


# The disk


def test_a_folder_that_may_not_be_written(web, monkeypatch):
    def refuse(path, *arguments, **options):  # by hand, since root may write everywhere
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(DownloadError, match=r"Permission denied.*choose another folder"):
        get(web.entry(), web.root)


def test_a_disk_that_fills_up_while_unpacking_keeps_the_archive(web, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(store, "extract", full)
        with pytest.raises(DownloadError, match=r"No space left.*make room"):
            get(web.entry(), web.root)
    assert left_over(web) == {"photos.zip"}
    assert state(web.entry(), web.root).startswith("part (0.4 MB")
    get(web.entry(), web.root)
    assert len(web.photos.asked) == 1


# Weights


def weights(web, state_dict, **known):
    out = io.BytesIO()
    torch.save(state_dict, out)
    web.site["/net.pth"] = Served(out.getvalue())
    known = {"sha256": hashlib.sha256(out.getvalue()).hexdigest()[:8], **known}
    places = ("weights/squeezenet1_1.safetensors",)
    return web.entry(name="weights/squeezenet1_1", files=(web.file("net.pth", **known),), places=places)


def test_the_zoo_finds_the_weights(web, monkeypatch):
    made = zoo.load("squeezenet1_1", weights=None, seed=3)
    entry = weights(web, made.state_dict())
    monkeypatch.setenv("XAILAB_DATA", str(web.root))
    get(entry, web.root)
    loaded = zoo.load("squeezenet1_1").state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in made.state_dict().items())
    assert state(entry, web.root) == HERE and verify(entry, web.root) == [] and not left_over(web)
    file = web.root / entry.places[0]
    assert file.stat().st_mode == (web.root / "records" / f"{entry.places[0]}.json").stat().st_mode
    file.write_bytes(file.read_bytes()[:-1])
    assert "damaged (1 of 1" in state(entry, web.root)
    get(entry, web.root)
    assert verify(entry, web.root) == []


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), MemoryError()])
def test_what_is_not_the_files_fault_does_not_cost_the_download(web, monkeypatch, error):
    entry = weights(web, {"a": torch.zeros(1)})
    with monkeypatch.context() as patch:
        patch.setattr(torch, "load", lambda *arguments, **options: (_ for _ in ()).throw(error))
        with pytest.raises(DownloadError, match=r"Input/output error|MemoryError"):
            get(entry, web.root)
    assert left_over(web) == {"net.pth"}
    assert get(entry, web.root)


def test_code_in_weights_is_never_run(web, tmp_path):
    class Attack:
        def __reduce__(self):
            return (open, (str(tmp_path / "attacked"), "w"))

    with pytest.raises(DownloadError, match=r"net\.pth holds no weights"):
        get(weights(web, {"a": Attack()}), web.root)
    assert not (tmp_path / "attacked").exists() and not left_over(web)
    assert not (web.root / "weights").exists()
