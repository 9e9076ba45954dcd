"""Archives, honest and hostile: what may be written is written, and nothing outside the folder ever is."""

import io
import lzma
import random
import stat
import tarfile
import zipfile

import pytest

from xailab.datasets.catalogue import DownloadError, UnsafeArchive, archive, extract

LIMIT = 1_000_000
FILES = {"a/one.txt": b"one", "a/b/two.bin": random.Random(0).randbytes(50_000), "three": b""}
TARS = {"x.tar": "w:", "x.tar.gz": "w:gz", "x.tgz": "w:gz", "x.tar.xz": "w:xz"}
KINDS = [*TARS, "x.zip"]


@pytest.fixture
def folder(tmp_path):
    """An empty folder, in one where nothing may change."""
    (tmp_path / "bystander").write_text("as it was")
    (tmp_path / "in" / "out").mkdir(parents=True)
    yield tmp_path / "in" / "out"
    outside = {p for p in tmp_path.rglob("*") if not p.is_relative_to(tmp_path / "in" / "out")}
    assert {p for p in outside if not p.name.startswith("x.")} == {tmp_path / "bystander", tmp_path / "in"}
    assert (tmp_path / "bystander").read_text() == "as it was"
    assert not any(p.is_symlink() for p in tmp_path.rglob("*"))


def member(name, data=b"", **fields):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def pack(path, *members):
    """A zip or tar of (name, content), or of what `member` gives."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for name, data in members:
                file.writestr(name, data)
    else:
        with tarfile.open(path, TARS[path.name]) as file:
            for info, data in (member(*each) if isinstance(each[0], str) else each for each in members):
                file.addfile(info, io.BytesIO(data))
    return path


def unpacked(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("name", KINDS)
def test_honest_archives_come_out_as_they_went_in(folder, tmp_path, name):
    first = ("a/", b"") if name == "x.zip" else member("./a", type=tarfile.DIRTYPE)
    kept = FILES.items() if name == "x.zip" else [member(n, data, mode=0o4666) for n, data in FILES.items()]
    extract(pack(tmp_path / name, first, *kept), folder, LIMIT)
    assert unpacked(folder) == FILES
    assert not any((folder / n).stat().st_mode & (stat.S_ISUID | stat.S_IWOTH | stat.S_IXUSR) for n in FILES)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    "evil", ["../evil", "a/../../evil", "/evil", "a/../../../bystander", "..\\evil", "C:evil", "C:/evil", "//host/evil"]
)
def test_names_that_lead_out(folder, tmp_path, name, evil):
    with pytest.raises(UnsafeArchive, match="outside its folder"):
        extract(pack(tmp_path / name, ("good", b"1"), (evil, b"evil")), folder, LIMIT)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
@pytest.mark.parametrize("target", ["../..", "/etc", "a/../../in", ".."])
def test_links_that_lead_out(folder, tmp_path, kind, target):
    through = [member("link", type=kind, linkname=target), member("link/bystander", b"evil")]
    with pytest.raises(UnsafeArchive, match="link"):
        extract(pack(tmp_path / "x.tgz", *through), folder, LIMIT)


def test_links_that_stay_inside_are_left_out(folder, tmp_path):
    links = [member("a/soft", type=tarfile.SYMTYPE, linkname="../three")]
    links.append(member("hard", type=tarfile.LNKTYPE, linkname="three"))
    extract(pack(tmp_path / "x.tgz", member("three", b"3"), *links), folder, LIMIT)
    assert unpacked(folder) == {"three": b"3"}


def test_a_link_in_a_zip(folder, tmp_path):
    info = zipfile.ZipInfo("link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with pytest.raises(UnsafeArchive, match="neither a file nor a folder"):
        extract(pack(tmp_path / "x.zip", (info, b"../..")), folder, LIMIT)


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"Z"])
def test_devices_pipes_and_things_unheard_of(folder, tmp_path, kind):
    with pytest.raises(UnsafeArchive, match="special file"):
        extract(pack(tmp_path / "x.tgz", member("dev", type=kind, devmajor=1, devminor=3)), folder, LIMIT)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("second", ["a", "A", "./a", "a/b"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_that_collide(folder, tmp_path, name, second):
    with pytest.raises(UnsafeArchive, match=r"twice|File exists|Not a directory"):
        extract(pack(tmp_path / name, ("a", b"1"), (second, b"2")), folder, LIMIT)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("sizes", [[20_000_000], [30_000] * 50], ids=["one", "many"])
def test_bombs_of_size(folder, tmp_path, name, sizes):
    path = pack(tmp_path / name, *((f"{i}", bytes(size)) for i, size in enumerate(sizes)))
    with pytest.raises(UnsafeArchive, match="more than 1,000,000 bytes"):
        extract(path, folder, LIMIT)
    assert sum(map(len, unpacked(folder).values())) <= LIMIT


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("end", ["", "/"], ids=["files", "folders"])
def test_bombs_of_count(folder, tmp_path, monkeypatch, name, end):
    monkeypatch.setattr(archive, "MOST_FILES", 100)
    kind = {"type": tarfile.DIRTYPE} if end else {}
    members = [(f"{i}{end}", b"") if name == "x.zip" else member(f"{i}", **kind) for i in range(200)]
    with pytest.raises(UnsafeArchive, match="or 100 files"):
        extract(pack(tmp_path / name, *members), folder, LIMIT)
    assert len(list(folder.iterdir())) <= 100


def test_a_file_of_holes_counts_as_what_it_unpacks_to(folder, tmp_path):
    info = tarfile.TarInfo("holes")
    info.type, info.size = tarfile.GNUTYPE_SPARSE, 512
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[386:410] = b"%011o\0%011o\0" % (0, 512)  # one piece of data, and then a hole
    header[483:495] = b"%011o\0" % (1 << 32)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "x.tar").write_bytes(bytes(header) + bytes(512) + bytes(1024))
    with pytest.raises(UnsafeArchive, match="more than 1,000,000 bytes"):
        extract(tmp_path / "x.tar", folder, LIMIT)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("harm", ["cut", "flipped", "empty", "noise"])
def test_damage_is_found(folder, tmp_path, name, harm):
    path = pack(tmp_path / name, *FILES.items())
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle] ^= 1
    harmed = {"cut": data[:middle], "flipped": data, "empty": b"", "noise": random.Random(1).randbytes(5000)}
    path.write_bytes(harmed[harm])
    if harm == "flipped" and "xz" not in name and "zip" not in name:
        return  # tar has no checksum of contents, and that of gzip is not read: the hash of the archive tells
    with pytest.raises(UnsafeArchive, match="damaged"):
        extract(path, folder, LIMIT)


def test_bytes_after_the_end_of_a_gzip_file_do_no_harm(folder, tmp_path):
    path = pack(tmp_path / "x.tgz", ("good", b"1"))
    path.write_bytes(path.read_bytes() + b"rubbish")
    extract(path, folder, LIMIT)
    assert unpacked(folder) == {"good": b"1"}


def test_a_zip_that_lies_about_a_size(folder, tmp_path):
    path = pack(tmp_path / "x.zip", ("zeros", bytes(20_000_000)))
    path.write_bytes(path.read_bytes().replace((20_000_000).to_bytes(4, "little"), (1000).to_bytes(4, "little")))
    with pytest.raises(UnsafeArchive):
        extract(path, folder, LIMIT)
    assert sum(map(len, unpacked(folder).values())) <= 1000


def test_what_cannot_be_read_is_said(folder, tmp_path):
    path = pack(tmp_path / "x.zip", ("secret", b"1" * 100))
    data = bytearray(path.read_bytes())
    for start in (data.find(b"PK\1\2") + 8, 6):
        data[start] |= 1  # encrypted
    path.write_bytes(bytes(data))
    with pytest.raises(UnsafeArchive, match=r"cannot be read .*encrypted"):
        extract(path, folder, LIMIT)


def test_a_tar_of_headers_about_headers(folder, tmp_path):
    info = tarfile.TarInfo("h")
    info.type, info.size = tarfile.XHDTYPE, 12
    one = info.tobuf(tarfile.USTAR_FORMAT) + b"12 path=abc\n".ljust(512, b"\0")
    with lzma.open(tmp_path / "x.tar.xz", "wb", preset=0) as out:
        out.write(one * 5000)
    with pytest.raises(UnsafeArchive):
        extract(tmp_path / "x.tar.xz", folder, LIMIT)


def test_an_old_python_is_told_so(folder, tmp_path, monkeypatch):
    monkeypatch.delattr(tarfile, "data_filter")
    with pytest.raises(DownloadError, match=r"3\.11\.4") as said:
        extract(pack(tmp_path / "x.tar", ("good", b"1")), folder, LIMIT)
    assert not isinstance(said.value, UnsafeArchive), "the archive is well, and is kept"
