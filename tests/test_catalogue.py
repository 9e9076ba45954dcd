"""The catalogue: what it says of itself, what it keeps, what it never takes for data."""

import errno
import hashlib
import io
import json
import random
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import safetensors.torch
import torch
from catalogue_server import BRIEF, ONCE, Served, serving

from xailab.datasets import catalogue
from xailab.datasets.catalogue import DownloadError, Entry, File, LicenceError, WrongFile, get, keeping, state, verify
from xailab.models import zoo
from xailab.storage import data_root

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
def web(server, tmp_path):
    """A server with an archive of photographs, and a root for the data."""
    address, site = server
    site.clear()
    site["/photos.zip"] = Served(zipped(PHOTOS))

    def entry(**changes):
        files = (File("photos.zip", (f"{address}/photos.zip",)),)
        usual = {"name": "photos", "files": files, "places": ("photos",)}
        return Entry(**{"title": "", "lessons": ("02",), "licence": "", "page": "", **usual, **changes})

    return SimpleNamespace(address=address, site=site, photos=site["/photos.zip"], root=tmp_path / "data", entry=entry)


def bring(entry, web, patience=BRIEF, **options):
    return get(entry, web.root, patience=patience, quiet=True, **options)


def files_in(folder):
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def left_over(web):
    return {name for name in files_in(web.root / "downloads") if not name.endswith(".lock")}


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
        assert entry.name == name
    for file in files:
        assert file.expected, "without a size nobody knows whether there is room"
        for url in file.urls:  # what comes unencrypted is known by its hash
            assert url.startswith("https://") or file.sha256
        assert file.sha256 is None or re.fullmatch(r"[0-9a-f]{8}|[0-9a-f]{64}", file.sha256)


def test_the_hashes_and_addresses_are_torchvisions():
    from torchvision import datasets
    from torchvision.models import get_model_weights

    names = catalogue.entries()
    (stl10,), (cifar10,) = names["stl10"].files, names["cifar10"].files
    assert (stl10.urls, stl10.md5) == ((datasets.STL10.url,), datasets.STL10.tgz_md5)
    assert (cifar10.urls, cifar10.md5) == ((datasets.CIFAR10.url,), datasets.CIFAR10.tgz_md5)
    pets = [(file.urls[0], file.md5) for file in names["oxford-pets"].files]
    assert pets == list(datasets.OxfordIIITPet._RESOURCES)
    for name in ("resnet18", "resnet50", "wide_resnet50_2", "vgg16", "efficientnet_b5", "squeezenet1_0"):
        (file,) = names[f"weights/{name}"].files
        published = get_model_weights(name)["IMAGENET1K_V1"]
        assert file.urls == (published.url,) and f"-{file.sha256}.pth" in published.url
        precision = 2 if name == "wide_resnet50_2" else 4  # bytes a number: that file is in half precision
        assert file.about == pytest.approx(precision * published.meta["num_params"], rel=0.02)


def test_what_may_not_be_used_for_everything_asks_first(web):
    names = catalogue.entries()
    asking = {name.partition("/")[0] for name, entry in names.items() if entry.terms}
    assert asking == {"mvtec-ad", "cub-200"}
    with pytest.raises(LicenceError, match=r"for birds only.*--accept-licence"):
        bring(web.entry(terms="for birds only"), web)
    assert not web.root.exists()
    assert bring(web.entry(terms="for birds only"), web, accepted=True)


# Here, and verified


def test_it_comes_and_is_recorded_and_verified(web):
    entry = web.entry()
    assert state(entry, web.root).text == "not here"
    assert bring(entry, web)
    assert state(entry, web.root) == (True, "here and verified", 0)
    assert {p.name: p.read_bytes() for p in (web.root / "photos").iterdir()} == {
        name.removeprefix("photos/"): data for name, data in PHOTOS.items()
    }
    assert verify(entry, web.root, quiet=True) == []
    assert not left_over(web)
    record = json.loads((web.root / "records" / "photos.json").read_text())
    assert record["archives"]["photos.zip"] == [len(web.photos.data), hashlib.sha256(web.photos.data).hexdigest()]
    assert record["files"]["3.jpg"] == [36_000, hashlib.sha256(PHOTOS["photos/3.jpg"]).hexdigest()]
    assert not bring(entry, web)
    assert len(web.photos.asked) == 1


def test_what_is_changed_later_is_found_and_brought_again(web):
    entry = web.entry()
    bring(entry, web)
    with pytest.raises(FileNotFoundError, match="not downloaded"):
        verify(web.entry(places=("other",)), web.root)
    photo = web.root / "photos" / "3.jpg"
    photo.write_bytes(bytes(36_000))
    assert state(entry, web.root).here, "the list compares sizes only"
    assert verify(entry, web.root, quiet=True) == [f"{photo}: changed"]
    assert state(entry, web.root).text == "damaged (1 of 10 files of photos missing or changed)"
    photo.write_bytes(PHOTOS["photos/3.jpg"])
    assert verify(entry, web.root, quiet=True) == [] and state(entry, web.root).here
    photo.unlink()
    assert verify(entry, web.root, quiet=True) == [f"{photo}: missing"]
    assert state(entry, web.root).text == "damaged (1 of 10 files of photos missing or changed)"
    assert bring(entry, web)
    assert verify(entry, web.root, quiet=True) == []
    shutil.rmtree(web.root / "photos")
    assert state(entry, web.root).text == "not here"
    assert verify(entry, web.root, quiet=True) == ["photos: not here"]
    assert bring(entry, web) and not left_over(web)


def test_somebody_elses_data_is_never_touched(web):
    mine = web.root / "photos" / "mine.jpg"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    assert state(web.entry(), web.root).text == "photos is here, but not from this program: not verified"
    with pytest.raises(DownloadError, match=r"holds what was not downloaded here \(mine\.jpg\): move it away"):
        bring(web.entry(), web)
    mine.unlink()
    bring(web.entry(), web)
    mine.write_bytes(b"mine")
    assert state(web.entry(), web.root).here, "more files than were downloaded do no harm"
    (web.root / "photos" / "3.jpg").unlink()
    with pytest.raises(DownloadError, match=r"mine\.jpg"):
        bring(web.entry(), web)
    assert files_in(web.root / "photos") == {name.removeprefix("photos/") for name in PHOTOS} - {"3.jpg"} | {"mine.jpg"}
    assert len(web.photos.asked) == 1, "it was downloaded only to be refused"


def test_a_link_in_the_place_is_not_followed(web, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "0.jpg").write_bytes(b"mine")
    web.root.mkdir()
    (web.root / "photos").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DownloadError, match="move it away"):
        bring(web.entry(), web)
    assert files_in(tmp_path / "elsewhere") == {"0.jpg"}


@pytest.mark.parametrize("name", ["photos", "photos/link", "photos/3.jpg"])
def test_links_are_the_users_even_those_that_lead_nowhere(web, tmp_path, name):
    if name != "photos":
        bring(web.entry(), web)
        (web.root / "photos" / "3.jpg").unlink()
    link, target = web.root / name, tmp_path / "elsewhere"
    if name == "photos/link":
        target.mkdir()
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(target)
    assert not state(web.entry(), web.root).here and "not here" not in state(web.entry(), web.root).text
    with pytest.raises(DownloadError, match="move it away"):
        bring(web.entry(), web)
    assert link.is_symlink()


def test_the_first_download_is_trusted_and_no_other(web):
    bring(web.entry(), web)
    shutil.rmtree(web.root / "photos")
    web.photos.data = zipped({**PHOTOS, "photos/3.jpg": b"another"})
    with pytest.raises(WrongFile, match="the source has changed it, or somebody else has"):
        bring(web.entry(), web)
    assert not (web.root / "photos").exists() and not left_over(web)
    (web.root / "records" / "photos.json").unlink()
    assert bring(web.entry(), web)


def test_several_archives_make_one_place(web):
    web.site["/notes.tar.xz"] = Served(tarred({"notes/1.txt": b"one", "more/2.txt": b"two"}))
    files = (*web.entry().files, File("notes.tar.xz", (f"{web.address}/notes.tar.xz",)))
    entry = web.entry(files=files, places=("all",), into="all")
    web.site["/notes.tar.xz"].statuses = [404]
    with pytest.raises(DownloadError):
        bring(entry, web)
    assert not (web.root / "all").exists() and left_over(web) == {"photos.zip"}
    assert state(entry, web.root).text.startswith("part (0.4 MB")
    bring(entry, web)
    assert len(web.photos.asked) == 1
    assert files_in(web.root / "all") == {*PHOTOS, "notes/1.txt", "more/2.txt"}


def test_parts_and_the_whole_share_their_places(web):
    products = {name: {f"{name}/train/good/{i}.png": NOISE.randbytes(500) for i in range(3)} for name in "abc"}
    web.site["/all.tar.xz"] = Served(tarred({"readme.txt": b"!", **products["a"], **products["b"], **products["c"]}))
    web.site["/a.tar.xz"] = Served(tarred(products["a"]))
    shared = {"into": "mv"}
    part = web.entry(name="mv/a", files=(File("a.tar.xz", (f"{web.address}/a.tar.xz",)),), places=("mv/a",), **shared)
    places = ("mv/a", "mv/b", "mv/c")
    whole = web.entry(name="mv", files=(File("all.tar.xz", (f"{web.address}/all.tar.xz",)),), places=places, **shared)
    bring(part, web)
    assert state(part, web.root).here and state(whole, web.root).text == "part (1 of 3)"
    before = (web.root / "mv" / "a").stat().st_ino
    bring(whole, web)
    assert state(whole, web.root).here and (web.root / "mv" / "a").stat().st_ino == before
    assert files_in(web.root / "mv") == {name for files in products.values() for name in files}
    shutil.rmtree(web.root / "mv" / "a")
    assert state(part, web.root).text == "not here" and state(whole, web.root).text == "part (2 of 3)"
    bring(whole, web)
    assert state(part, web.root).here
    (web.root / "mv" / "a" / "train" / "good" / "0.png").unlink()
    shutil.rmtree(web.root / "mv" / "b")
    (web.root / "records" / "mv" / "b.json").unlink()
    assert [entry.places for entry in keeping.present([whole, part], web.root)] == [("mv/a",), ("mv/c",)]


def test_what_comes_with_the_whole_does_not_make_its_parts_forget(web):
    files = {f"a/{i}.png": NOISE.randbytes(500) for i in range(3)}
    web.site["/all.zip"] = Served(zipped({**files, "b/0.png": b"b"}))
    web.site["/a.zip"] = Served(zipped(files))
    fetched = [(File(f"{name}.zip", (f"{web.address}/{name}.zip",)),) for name in ("a", "all")]
    part = web.entry(name="mv/a", files=fetched[0], places=("mv/a",), into="mv")
    whole = web.entry(name="mv", files=fetched[1], places=("mv/a", "mv/b"), into="mv")
    bring(part, web)
    (web.root / "mv" / "a" / "0.png").unlink()
    bring(whole, web)
    shutil.rmtree(web.root / "mv" / "a")
    web.site["/a.zip"].data = zipped({"a/0.png": b"another"})
    with pytest.raises(WrongFile, match="the source has changed it"):
        bring(part, web)


def test_an_archive_without_what_was_expected_is_refused(web):
    with pytest.raises(DownloadError, match="holds no birds"):
        bring(web.entry(places=("photos", "birds")), web)
    assert files_in(web.root) == {"downloads/photos.lock"}, "the next run would find the same again"


def test_a_hostile_archive_leaves_nothing(web, tmp_path):
    web.photos.data = zipped({"photos/1.jpg": b"1", "../../evil": b"2"})
    with pytest.raises(DownloadError, match="outside its folder"):
        bring(web.entry(), web)
    assert files_in(tmp_path) == {"data/downloads/photos.lock"}
    web.photos.data = zipped({"photos/1.jpg": b"1"})[:-30]
    with pytest.raises(DownloadError, match="damaged"):
        bring(web.entry(), web)
    assert files_in(tmp_path) == {"data/downloads/photos.lock"}


def test_a_bomb_is_bounded_by_the_size_of_its_archive(web):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("photos/zeros", bytes(20_000_000))
    web.photos.data = out.getvalue()
    with pytest.raises(catalogue.UnsafeArchive, match="more than it may"):
        bring(web.entry(), web)


# Interrupted


def test_a_hundred_interrupted_downloads(web, monkeypatch):
    """Each leaves the whole, verified, or a part to go on from, and the list says which."""
    monkeypatch.setattr(keeping, "_check_room", lambda entry, root: None)
    entry, rng, broken, finished = web.entry(), random.Random(1), 0, 0
    archive = web.photos.data
    while broken < 100:
        web.photos.cuts = [rng.randrange(len(archive))]
        web.photos.ranges = rng.random() < 0.9
        try:
            bring(entry, web, patience=ONCE)
        except DownloadError:
            broken += 1
            assert not (web.root / "photos").exists()
            assert left_over(web) <= {"photos.zip.part", "photos.zip.part.json"}
            part = web.root / "downloads" / "photos.zip.part"
            there = part.read_bytes() if part.exists() else b""
            assert archive.startswith(there)
            assert len(there) < len(archive)
            size = f"{len(there) / 1e6:.1f} MB of {len(archive) / 1e6:.1f} MB"
            assert state(entry, web.root).text == (f"part ({size})" if there else "not here")
        else:
            finished += 1
            assert state(entry, web.root).here and verify(entry, web.root, quiet=True) == []
            shutil.rmtree(web.root / "photos")
    assert finished > 10


@pytest.mark.parametrize("step", ["fetch", "extract", "write_json", "replace"])
def test_stopped_at_any_step(web, monkeypatch, step):
    """What is on the way is not taken for data, and the next run ends well."""

    def stop(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(keeping.os if step == "replace" else keeping, step, stop)
        if step == "replace":  # the one that makes the place visible
            patch.setattr(keeping, "write_json", lambda path, what: path.write_text(json.dumps(what)))
            patch.setattr(keeping, "fetch", lambda file, *a, **k: fetched(web))
        with pytest.raises(KeyboardInterrupt):
            bring(web.entry(), web)
    assert not (web.root / "photos").exists()
    assert not state(web.entry(), web.root).here
    bring(web.entry(), web)
    assert verify(web.entry(), web.root, quiet=True) == [] and not left_over(web)


def fetched(web):
    path = web.root / "downloads" / "photos.zip"
    path.write_bytes(web.photos.data)
    return catalogue.Fetched(path, hashlib.sha256(web.photos.data).hexdigest(), len(web.photos.data))


def test_a_repair_that_is_stopped_can_be_repeated(web, monkeypatch):
    bring(web.entry(), web)
    (web.root / "photos" / "3.jpg").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(keeping, "write_json", lambda path, what: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            bring(web.entry(), web)
    assert "damaged" in state(web.entry(), web.root).text
    bring(web.entry(), web)
    assert verify(web.entry(), web.root, quiet=True) == []


def test_a_repair_that_is_stopped_in_the_middle_leaves_nothing_that_passes(web, monkeypatch):
    bring(web.entry(), web)
    (web.root / "photos" / "3.jpg").write_bytes(bytes(36_000))
    assert verify(web.entry(), web.root, quiet=True)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            bring(web.entry(), web)
    assert state(web.entry(), web.root).text == "damaged (10 of 10 files of photos missing or changed)"
    assert bring(web.entry(), web)
    assert verify(web.entry(), web.root, quiet=True) == [] and state(web.entry(), web.root).here


@pytest.mark.parametrize("place", ["photos", "weights/squeezenet1_1.safetensors"])
def test_what_somebody_puts_there_during_the_download_is_kept(web, monkeypatch, place):
    entry = web.entry() if place == "photos" else weights(web, {"a": torch.zeros(1)})
    mine = web.root / place / "mine.jpg" if place == "photos" else web.root / place
    real = keeping.fetch

    def slow(*arguments, **options):
        found = real(*arguments, **options)
        mine.parent.mkdir()
        mine.write_bytes(b"mine")
        return found

    monkeypatch.setattr(keeping, "fetch", slow)
    with pytest.raises(DownloadError, match="move it away"):
        bring(entry, web)
    assert mine.read_bytes() == b"mine"


def test_a_check_beside_a_repair_does_not_undo_its_record(web, monkeypatch):
    bring(web.entry(), web)
    (web.root / "photos" / "0.jpg").unlink()
    real, repairs = keeping.digests, []

    def meanwhile(path):
        digest = real(path)
        if not repairs:
            repairs.append(bring(web.entry(), web))
        return digest

    monkeypatch.setattr(keeping, "digests", meanwhile)
    verify(web.entry(), web.root, quiet=True)
    assert repairs == [True] and state(web.entry(), web.root).here


TWO = """
import sys
from pathlib import Path
from xailab.datasets.catalogue import Entry, File, get
entry = Entry("photos", "", (), "", "", (File("photos.zip", (sys.argv[1],)),), ("photos",))
print("ready", flush=True)
sys.stdin.readline()
print(get(entry, Path(sys.argv[2]), quiet=True))
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
    assert sum(served.get("Range") is None for served in web.photos.asked) == 1, "both have downloaded it"
    assert verify(web.entry(), web.root, quiet=True) == [] and not left_over(web)


# The disk


def test_room_is_looked_for_before(web, monkeypatch):
    entry = web.entry(files=(File("photos.zip", (f"{web.address}/photos.zip",), about=2_000_000_000),))
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=3_000_000_000))
    with pytest.raises(DownloadError, match=r"photos needs about 4\.50 GB .*3\.00 GB are free"):
        bring(entry, web)
    assert not web.photos.asked


def test_a_folder_that_may_not_be_written(web, monkeypatch):
    def refuse(path, *arguments, **options):  # by hand, since root may write everywhere
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(DownloadError, match="may not be written: choose another folder"):
        bring(web.entry(), web)


def test_a_file_where_the_folder_should_be(web):
    web.root.write_text("I am a file")
    with pytest.raises(DownloadError, match=r"data.*(exists|directory)"):
        bring(web.entry(), web)


def test_a_disk_that_fills_up_while_unpacking_keeps_the_archive(web, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(keeping, "extract", full)
        with pytest.raises(DownloadError, match="full: make room"):
            bring(web.entry(), web)
    assert left_over(web) == {"photos.zip"}
    assert state(web.entry(), web.root).text == "part (downloaded, not unpacked)"
    bring(web.entry(), web)
    assert len(web.photos.asked) == 1


@pytest.mark.parametrize(
    "content",
    [
        "", "[]", "{}", "\0", "[" * 100_000, '{"files": 3}', '{"files": {}, "archives": {}}',
        '{"files": {"0.jpg": 3}, "archives": {}}', '{"files": {"0.jpg": ["x", "y"]}, "archives": {}}',
        '{"files": {"0.jpg": [3, "y"]}, "archives": {"photos.zip": []}}',
        '{"files": {"0.jpg": [3, "y"]}, "archives": {}, "wrong": 3}',
    ],
)  # fmt: skip
def test_a_damaged_record_is_no_record(web, content):
    bring(web.entry(), web)
    (web.root / "records" / "photos.json").write_text(content)
    assert "not from this program" in state(web.entry(), web.root).text


def test_the_root_is_told_by_the_environment(monkeypatch):
    monkeypatch.setenv("XAILAB_DATA", "/somewhere")
    assert data_root() == Path("/somewhere")
    monkeypatch.setenv("XAILAB_DATA", "")
    assert data_root() == Path("data")


def test_who_is_nobody_has_no_home(monkeypatch):
    monkeypatch.setenv("XAILAB_DATA", "~nobody-at-all/data")
    with pytest.raises(ValueError, match="XAILAB_DATA is ~nobody-at-all"):
        data_root()


# Weights


def weights(web, state_dict, **known):
    out = io.BytesIO()
    torch.save(state_dict, out)
    web.site["/net.pth"] = Served(out.getvalue())
    sha256 = hashlib.sha256(out.getvalue()).hexdigest()[:8]
    files = (File("net.pth", (f"{web.address}/net.pth",), **{"sha256": sha256, **known}),)
    return web.entry(name="weights/squeezenet1_1", files=files, places=("weights/squeezenet1_1.safetensors",))


def test_the_zoo_finds_the_weights(web, monkeypatch):
    made = zoo.load("squeezenet1_1-random", seed=3)
    entry = weights(web, made.state_dict())
    monkeypatch.setenv("XAILAB_DATA", str(web.root))
    bring(entry, web)
    loaded = zoo.load("squeezenet1_1").state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in made.state_dict().items())
    assert state(entry, web.root).here and verify(entry, web.root, quiet=True) == [] and not left_over(web)
    file = web.root / entry.places[0]
    assert file.stat().st_mode == (web.root / "records" / f"{entry.places[0]}.json").stat().st_mode
    file.write_bytes(file.read_bytes()[:-1])
    assert "damaged (1 of 1" in state(entry, web.root).text
    bring(entry, web)
    assert verify(entry, web.root, quiet=True) == []


def test_the_beginning_of_the_hash_is_compared(web):
    with pytest.raises(WrongFile, match=r"expected 00000000\.\.\."):
        bring(weights(web, {"a": torch.zeros(1)}, sha256="00000000"), web)


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), MemoryError()])
def test_what_is_not_the_files_fault_does_not_cost_the_download(web, monkeypatch, error):
    entry = weights(web, {"a": torch.zeros(1)})
    with monkeypatch.context() as patch:
        patch.setattr(torch, "load", lambda *arguments, **options: (_ for _ in ()).throw(error))
        with pytest.raises(DownloadError, match=r"Input/output error|memory"):
            bring(entry, web)
    assert left_over(web) == {"net.pth"}
    assert bring(entry, web)


def test_a_disk_that_fills_up_while_weights_are_written(web, monkeypatch):
    said = "Error while serializing: I/O error: No space left on device (os error 28)"

    def full(*arguments):
        raise safetensors.SafetensorError(said)

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(DownloadError, match="full: make room"):
        bring(weights(web, {"a": torch.zeros(1)}), web)
    assert left_over(web) == {"net.pth"}


@pytest.mark.parametrize("place", ["data/weights/squeezenet1_1_imagenet.safetensors", "hub/checkpoints/net.pth"])
def test_weights_that_the_zoo_finds_elsewhere_are_listed(web, monkeypatch, tmp_path, place):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    entry = weights(web, {"a": torch.zeros(1)})
    assert state(entry, web.root).text == "not here"
    (tmp_path / place).parent.mkdir(parents=True)
    (tmp_path / place).touch()
    assert state(entry, web.root) == (False, "here, not verified", 0)


def test_code_in_weights_is_never_run(web, tmp_path):
    class Attack:
        def __reduce__(self):
            return (open, (str(tmp_path / "attacked"), "w"))

    with pytest.raises(DownloadError, match=r"net\.pth holds no weights"):
        bring(weights(web, {"a": Attack()}), web)
    assert not (tmp_path / "attacked").exists() and not left_over(web)
    assert not (web.root / "weights").exists()
