"""Archives, honest and hostile: what may be written is written, and nothing outside the folder ever is."""

import gzip
import hashlib
import io
import lzma
import random
import stat
import tarfile
import tracemalloc
import zipfile

import pytest

from xailab.datasets.catalogue import Bounds, DownloadError, UnsafeArchive, extract

BOUNDS = Bounds(size=1_000_000, count=100)
FILES = {"a/one.txt": b"one", "a/b/two.bin": random.Random(0).randbytes(50_000), "three": b""}
TARS = {"x.tar": "w:", "x.tar.gz": "w:gz", "x.tgz": "w:gz", "x.tar.xz": "w:xz"}


@pytest.fixture
def folder(tmp_path):
    """An empty folder, in one where nothing may change."""
    (tmp_path / "bystander").write_text("as it was")
    (tmp_path / "in" / "out").mkdir(parents=True)
    yield tmp_path / "in" / "out"
    outside = {p for p in tmp_path.rglob("*") if not p.is_relative_to(tmp_path / "in" / "out")}
    archives = {p for p in outside if p.name.startswith("x.")}
    assert outside - archives == {tmp_path / "bystander", tmp_path / "in"}
    assert (tmp_path / "bystander").read_text() == "as it was"
    assert not any(p.is_symlink() for p in tmp_path.rglob("*"))


def member(name, data=b"", **fields):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def tar(path, *members, mode="w:gz"):
    with tarfile.open(path, mode) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return path


def zipped(path, *members, **options):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


def unpack(path, folder, bounds=BOUNDS):
    return extract(path, folder, bounds, quiet=True)


@pytest.mark.parametrize("name", [*TARS, "x.zip"])
def test_honest_archives_come_out_as_they_went_in(folder, tmp_path, name):
    if name == "x.zip":
        archive = zipped(tmp_path / name, ("a/", b""), *FILES.items())
    else:
        kept = [member(n, data, mode=0o4777) for n, data in FILES.items()]
        archive = tar(tmp_path / name, member("./a", type=tarfile.DIRTYPE), *kept, mode=TARS[name])
    written = unpack(archive, folder)
    assert written == {n: (len(data), hashlib.sha256(data).hexdigest()) for n, data in FILES.items()}
    for n, data in FILES.items():
        assert (folder / n).read_bytes() == data
        assert not (folder / n).stat().st_mode & (stat.S_ISUID | stat.S_IXUSR), "nothing is made executable"


OUTSIDE = ["../evil", "a/../../evil", "/evil", "a/../../../bystander", "..\\evil", "C:evil", "C:/evil", "a\nb"]
OUTSIDE += ["x" * 2000, "/".join("a" * 100)]


@pytest.mark.parametrize("name", OUTSIDE)
def test_names_that_lead_out(folder, tmp_path, name):
    with pytest.raises(UnsafeArchive, match="outside its folder"):
        unpack(tar(tmp_path / "x.tgz", member("good", b"1"), member(name, b"evil")), folder)
    with pytest.raises(UnsafeArchive, match="outside its folder"):
        unpack(zipped(tmp_path / "x.zip", ("good2", b"1"), (name, b"evil")), folder)


LINKS = {"up": "../..", "absolute": "/etc", "sideways": "a/../../in", "dot": ".."}


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
@pytest.mark.parametrize("target", LINKS.values(), ids=LINKS)
def test_links_that_lead_out(folder, tmp_path, kind, target):
    through = [member("link", type=kind, linkname=target), member("link/bystander", b"evil")]
    with pytest.raises(UnsafeArchive, match="a link that leads out"):
        unpack(tar(tmp_path / "x.tgz", *through), folder)


def test_links_that_stay_inside_are_left_out(folder, tmp_path):
    links = [member("a/soft", type=tarfile.SYMTYPE, linkname="../three"), member("hard", type=tarfile.LNKTYPE)]
    links[1][0].linkname = "three"
    assert list(unpack(tar(tmp_path / "x.tgz", member("three", b"3"), *links), folder)) == ["three"]
    assert [p.name for p in folder.iterdir()] == ["three"]


def test_a_link_in_a_zip(folder, tmp_path):
    info = zipfile.ZipInfo("link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with pytest.raises(UnsafeArchive, match="neither a file nor a folder"):
        unpack(zipped(tmp_path / "x.zip", (info, b"../..")), folder)


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"Z"])
def test_devices_pipes_and_things_unheard_of(folder, tmp_path, kind):
    archive = tar(tmp_path / "x.tgz", member("dev", type=kind, devmajor=1, devminor=3))
    with pytest.raises(UnsafeArchive, match="neither a file nor a folder"):
        unpack(archive, folder)


def test_rubbish_behind_the_checksum_does_no_harm(folder, tmp_path):
    archive = tar(tmp_path / "x.tgz", member("good", b"1"))
    archive.write_bytes(archive.read_bytes() + b"rubbish")
    assert list(unpack(archive, folder)) == ["good"]


@pytest.mark.parametrize("second", ["a", "A", "./a", "a/b"])
def test_names_that_collide(folder, tmp_path, second):
    with pytest.raises(UnsafeArchive, match=r"twice|of one name"):
        unpack(tar(tmp_path / "x.tgz", member("a", b"1"), member(second, b"2")), folder)


@pytest.mark.parametrize("name", ["x.tgz", "x.tar.xz", "x.zip"])
def test_bombs_of_size(folder, tmp_path, name):
    zeros = bytes(20_000_000)
    make = zipped if name == "x.zip" else tar
    options = {} if name == "x.zip" else {"mode": TARS[name]}
    entry = ("zeros", zeros) if name == "x.zip" else member("zeros", zeros)
    archive = make(tmp_path / name, entry, **options)
    assert archive.stat().st_size < 100_000
    with pytest.raises(UnsafeArchive, match="more than"):
        unpack(archive, folder)
    assert sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) <= BOUNDS.size


def test_many_small_files_fill_the_bounds_too(folder, tmp_path):
    members = [(f"{i}", bytes(30_000)) for i in range(50)]
    with pytest.raises(UnsafeArchive, match="more than"):
        unpack(tar(tmp_path / "x.tgz", *(member(*m) for m in members)), folder)
    with pytest.raises(UnsafeArchive, match="more than"):
        unpack(zipped(tmp_path / "x.zip", *members), folder)


@pytest.mark.parametrize("empty", [True, False], ids=["folders", "files"])
def test_bombs_of_count(folder, tmp_path, empty):
    kind = tarfile.DIRTYPE if empty else tarfile.REGTYPE
    with pytest.raises(UnsafeArchive, match="more than 100 files"):
        unpack(tar(tmp_path / "x.tgz", *(member(f"{i}", type=kind) for i in range(200))), folder)
    with pytest.raises(UnsafeArchive, match="more than 100 files"):
        unpack(zipped(tmp_path / "x.zip", *((f"{i}{'/' * empty}_", b"") for i in range(200))), folder)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE])
def test_headers_that_would_fill_the_memory(folder, tmp_path, kind):
    info = tarfile.TarInfo("header")
    info.type, info.size = kind, 8 << 30
    archive = tmp_path / "x.tgz"
    with gzip.open(archive, "wb", compresslevel=1) as out:
        out.write(info.tobuf(tarfile.GNU_FORMAT))
        out.write(bytes(40_000_000))
    tracemalloc.start()
    with pytest.raises(UnsafeArchive):
        unpack(archive, folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000


def test_a_file_of_holes_counts_as_what_it_unpacks_to(folder, tmp_path):
    archive = tmp_path / "x.tar"
    info = tarfile.TarInfo("holes")
    info.type, info.size = tarfile.GNUTYPE_SPARSE, 512
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[386:410] = b"%011o\0%011o\0" % (0, 512)  # one piece of data, and then a hole
    header[483:495] = b"%011o\0" % (1 << 32)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    archive.write_bytes(bytes(header) + bytes(512) + bytes(1024))
    with pytest.raises(UnsafeArchive, match="more than it may"):
        unpack(archive, folder)


@pytest.mark.parametrize("name", [*TARS, "x.zip"])
@pytest.mark.parametrize("harm", ["cut", "flipped", "empty", "noise"])
def test_damage_is_found(folder, tmp_path, name, harm):
    archive = tmp_path / name
    if name == "x.zip":
        zipped(archive, *FILES.items())
    else:
        tar(archive, *(member(n, data) for n, data in FILES.items()), mode=TARS[name])
    data = bytearray(archive.read_bytes())
    middle = len(data) // 2
    if harm == "flipped":
        data[middle] ^= 1
    harmed = {"cut": data[:middle], "flipped": data, "empty": b"", "noise": random.Random(1).randbytes(5000)}
    archive.write_bytes(harmed[harm])
    if (name, harm) == ("x.tar", "flipped"):  # tar has no checksum of contents: the hash of the archive tells
        assert unpack(archive, folder)["a/b/two.bin"][1] != hashlib.sha256(FILES["a/b/two.bin"]).hexdigest()
    else:
        with pytest.raises(DownloadError, match=r"damaged|header"):
            unpack(archive, folder)


def test_a_zip_that_lies_about_a_size(folder, tmp_path):
    archive = zipped(tmp_path / "x.zip", ("zeros", bytes(20_000_000)))
    data = archive.read_bytes().replace((20_000_000).to_bytes(4, "little"), (1000).to_bytes(4, "little"))
    archive.write_bytes(data)
    with pytest.raises(DownloadError):
        unpack(archive, folder)
    assert sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) <= 1000


def test_what_cannot_be_read_is_said(folder, tmp_path):
    archive = zipped(tmp_path / "x.zip", ("secret", b"1" * 100))
    data = bytearray(archive.read_bytes())
    for start in (data.find(b"PK\1\2") + 8, 6):
        data[start] |= 1  # encrypted
    archive.write_bytes(bytes(data))
    with pytest.raises(DownloadError, match="cannot be read"):
        unpack(archive, folder)
    (tmp_path / "x.rar").write_bytes(b"?")
    with pytest.raises(DownloadError, match=r"x\.rar: expected zip, tar, "):
        unpack(tmp_path / "x.rar", folder)


def test_a_tar_of_headers_about_headers(folder, tmp_path):
    info = tarfile.TarInfo("h")
    info.type, info.size = tarfile.XHDTYPE, 12
    one = info.tobuf(tarfile.USTAR_FORMAT) + b"12 path=abc\n".ljust(512, b"\0")
    with lzma.open(tmp_path / "x.tar.xz", "wb", preset=0) as out:
        out.write(one * 5000)
    with pytest.raises(DownloadError):
        unpack(tmp_path / "x.tar.xz", folder)
