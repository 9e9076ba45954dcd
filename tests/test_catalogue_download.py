"""One file over HTTP from a server that fails: it comes whole and right, or not at all."""

import builtins
import errno
import hashlib
import io
import random
from types import SimpleNamespace

import pytest
from catalogue_server import BRIEF, Served, closed_port, serving

from xailab.datasets.catalogue import DownloadError, File, WrongFile, download, fetch

DATA = random.Random(0).randbytes(300_000)
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(scope="module")
def server():
    with serving() as both:
        yield both


@pytest.fixture
def web(server, tmp_path, monkeypatch):
    """A file `x` on a server, and a folder to fetch it into."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(download, "RETRIES", BRIEF)
    address, site = server
    site.clear()
    site["/x"] = Served(DATA)

    def bring(*paths, **known):
        return fetch(File("x", tuple(f"{address}{path}" for path in paths or ["/x"]), **known), tmp_path)

    return SimpleNamespace(address=address, site=site, x=site["/x"], folder=tmp_path, bring=bring)


def is_whole(web, path):
    assert path == web.folder / "x" and path.read_bytes() == DATA
    assert [each.name for each in web.folder.iterdir()] == ["x"], "something was left behind"
    return True


def interrupted(web, cut=50_000, **known):
    """Break off until it gives up; how many bytes are there."""
    web.x.cuts = [cut] * 3
    with pytest.raises(DownloadError, match=r"broke.*bytes are kept"):
        web.bring(**known)
    web.x.cuts.clear()
    part = (web.folder / "x.part").read_bytes()
    assert 0 < len(part) <= cut and DATA.startswith(part)
    assert not (web.folder / "x").exists()
    web.x.asked.clear()
    return len(part)


@pytest.mark.parametrize("known", [{}, {"sha256": SHA256}, {"sha256": SHA256[:8]}, {"size": 300_000}])
def test_a_file_comes_whole_and_comes_once(web, known):
    assert is_whole(web, web.bring(**known))
    assert is_whole(web, web.bring(**known))
    assert len(web.x.asked) == 1
    assert web.x.asked[0]["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("cut", [50_000, 50_001])
def test_a_download_goes_on_where_it_stopped(web, cut):
    there, before = interrupted(web, cut), web.x.sent
    assert is_whole(web, web.bring())
    assert web.x.asked[0]["Range"] == f"bytes={there}-" and web.x.asked[0]["If-Range"] == '"1"'
    assert web.x.sent - before == len(DATA) - there


def test_it_goes_on_by_itself_as_long_as_something_comes(web):
    web.x.cuts = [100_000, 100_001, 70_000]
    assert is_whole(web, web.bring())
    assert len(web.x.asked) == 4


def test_another_version_is_not_glued_to_the_first(web):
    interrupted(web)
    web.x.data, web.x.headers = DATA[::-1], {"ETag": '"2"'}
    assert web.bring().read_bytes() == DATA[::-1]


def test_without_ranges_it_starts_afresh(web):
    web.x.ranges = False
    interrupted(web)
    assert is_whole(web, web.bring())
    assert "Range" in web.x.asked[0]


def test_it_goes_on_only_where_the_end_can_tell_what_it_is(web):
    web.x.headers = {"ETag": 'W/"weak"'}
    interrupted(web)
    assert is_whole(web, web.bring())
    assert "Range" not in web.x.asked[0], "two versions could be glued together, and nobody would know"
    (web.folder / "x").unlink()
    interrupted(web)
    assert is_whole(web, web.bring(sha256=SHA256))
    assert "Range" in web.x.asked[0] and "If-Range" not in web.x.asked[0]


def test_a_range_that_begins_elsewhere_is_not_taken(web):
    interrupted(web)
    web.x.shift = 7
    assert is_whole(web, web.bring())
    assert ["Range" in asked for asked in web.x.asked] == [True, False]


def test_a_part_that_is_as_long_as_the_file_or_longer(web):
    (web.folder / "x.part").write_bytes(DATA)
    before = web.x.sent
    assert is_whole(web, web.bring(sha256=SHA256)) and web.x.sent == before
    (web.folder / "x").rename(web.folder / "x.part")
    with open(web.folder / "x.part", "ab") as part:
        part.write(b"too much")
    assert is_whole(web, web.bring(sha256=SHA256))


def test_a_damaged_part_or_file_gets_a_fresh_start(web):
    (web.folder / "x.part").write_bytes(b"?" * 1000)
    assert is_whole(web, web.bring(sha256=SHA256))
    (web.folder / "x").write_bytes(DATA[:-1] + b"?")
    assert is_whole(web, web.bring(sha256=SHA256))


@pytest.mark.parametrize("version", [b"", b"http://else/x\n1", b"\xff\xfe", b"{address}/x\n\n\n", b"{address}/x\n\xff"])
def test_a_damaged_note_of_the_version_is_none(web, version):
    (web.folder / "x.part").write_bytes(b"abc")
    (web.folder / "x.part.version").write_bytes(version.replace(b"{address}", web.address.encode()))
    assert is_whole(web, web.bring())
    assert "Range" not in web.x.asked[0]


@pytest.mark.parametrize("known", [{"sha256": "0" * 64}, {"sha256": "0" * 8}])
def test_a_wrong_hash_is_said_and_nothing_is_kept(web, known):
    with pytest.raises(WrongFile, match=rf"{web.address}/x: it is not the file .* {SHA256}, expected .* 00000000"):
        web.bring(**known)
    assert not list(web.folder.iterdir())
    assert len(web.x.asked) == 1, "the same wrong file was fetched twice"


def test_mirrors_are_asked_in_turn(web):
    web.site["/wrong"], web.site["/gone"] = Served(b"?" * len(DATA)), Served(statuses=[404] * 2)
    assert is_whole(web, web.bring("/gone", "/wrong", "/x", sha256=SHA256))
    assert len(web.site["/gone"].asked) == 1, "404 does not pass"
    (web.folder / "x").unlink()
    with pytest.raises(DownloadError, match=r"(?s)/gone: the server answers 404.*/wrong: it is not the file"):
        web.bring("/gone", "/wrong", sha256=SHA256)


def test_a_part_goes_on_at_a_mirror_if_the_hash_is_known(web):
    there = interrupted(web, sha256=SHA256)
    web.x.statuses = [404]
    web.site["/mirror"] = Served(DATA, headers={})
    assert is_whole(web, web.bring("/x", "/mirror", sha256=SHA256))
    assert web.site["/mirror"].asked[0]["Range"] == f"bytes={there}-"


def test_a_busy_server_is_asked_again(web):
    web.x.statuses = [503, 503]
    assert is_whole(web, web.bring())
    (web.folder / "x").unlink()
    web.x.statuses = [503] * 3
    with pytest.raises(DownloadError, match=r"503 .*busy"):
        web.bring()


@pytest.mark.parametrize("status", [206, 401, 403, 404, 416, 418])
def test_what_does_not_pass_is_said_at_once(web, status):
    web.x.statuses = [status] * 9
    with pytest.raises(DownloadError, match=f"{status} .*moved"):
        web.bring()
    assert len(web.x.asked) == 1


def test_a_slow_server_is_left_and_asked_again(web, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", 0.3)
    web.x.cuts, web.x.stall = [200_000], 20.0
    assert is_whole(web, web.bring())
    assert "Range" in web.x.asked[1]


def test_a_wrong_length_is_not_a_file(web):
    web.x.length, web.x.ranges = 400_000, False  # more than comes
    with pytest.raises(DownloadError, match="broke"):
        web.bring()
    web.x.length = 200_000  # the body is longer
    with pytest.raises(WrongFile):
        web.bring(sha256=SHA256)
    with pytest.raises(DownloadError, match="has 200,000 bytes, expected 300000"):
        web.bring(size=300_000)
    web.x.length, web.x.data = -1, b""
    with pytest.raises(DownloadError, match="has 0 bytes"):
        web.bring()
    assert not (web.folder / "x").exists()


def test_without_a_length_only_a_hash_or_chunks_tell_the_end(web):
    web.x.length = None
    with pytest.raises(DownloadError, match="does not say how long"):
        web.bring()
    assert is_whole(web, web.bring(sha256=SHA256))
    (web.folder / "x").unlink()
    web.x.cuts = [100_000]
    assert is_whole(web, web.bring(sha256=SHA256, size=300_000)), "the size tells that it was cut"
    (web.folder / "x").unlink()
    web.x.chunked = True
    assert is_whole(web, web.bring())
    (web.folder / "x").unlink()
    interrupted(web)


def test_a_page_to_log_in_is_no_file_and_costs_nothing(web):
    there = interrupted(web)
    web.x.headers = {"Content-Type": "text/html; charset=utf-8"}
    with pytest.raises(DownloadError, match="a web page"):
        web.bring()
    assert (web.folder / "x.part").stat().st_size == there


def test_redirections_are_followed_but_not_for_ever(web):
    web.site["/from"] = Served(statuses=[302] * 2, headers={"Location": "/x"})
    assert is_whole(web, web.bring("/from"))
    web.site["/round"] = Served(statuses=[302] * 99, headers={"Location": "/round"})
    (web.folder / "x").unlink()
    with pytest.raises(DownloadError, match="redirects"):
        web.bring("/round")
    web.site["/odd"] = Served(statuses=[302], headers={"Location": "http://[bad"})
    with pytest.raises(DownloadError, match="IPv6"):
        web.bring("/odd")


def test_no_file_of_unknown_hash_comes_unencrypted_where_encryption_was_asked_for(web, monkeypatch):
    real = download.requests.Session.get

    def redirected(session, url, **options):
        answer = real(session, url.replace("https:", "http:"), **options)
        answer.history = [SimpleNamespace(url=url)]
        return answer

    monkeypatch.setattr(download.requests.Session, "get", redirected)
    url = web.address.replace("http:", "https:") + "/x"
    with pytest.raises(DownloadError, match="not encrypted"):
        fetch(File("x", (url,)), web.folder)
    assert is_whole(web, fetch(File("x", (url,), sha256=SHA256), web.folder))


def test_no_network_is_said(web):
    for scheme, said in (("http", "refused"), ("https", "refused")):
        with pytest.raises(DownloadError, match=rf"cannot be reached.*\(.*{said}.*\).*check the network"):
            fetch(File("x", (f"{scheme}://127.0.0.1:{closed_port()}/x",)), web.folder)
    with pytest.raises(DownloadError, match=r"cannot be reached.*REQUESTS_CA_BUNDLE"):  # no certificate there
        fetch(File("x", (web.address.replace("http:", "https:") + "/x",)), web.folder)


def test_certificates_that_are_not_there_are_said(web, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(web.folder / "nowhere.pem"))
    with pytest.raises(DownloadError, match=r"nowhere\.pem.*REQUESTS_CA_BUNDLE"):
        fetch(File("x", (web.address.replace("http:", "https:") + "/x",)), web.folder)


def test_a_proxy_is_used_and_its_absence_is_said(web, monkeypatch):
    file = File("x", ("http://data.example/x",))
    web.site["http://data.example/x"] = Served(DATA)
    monkeypatch.setenv("http_proxy", web.address)
    assert is_whole(web, fetch(file, web.folder))
    (web.folder / "x").unlink()
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port()}")
    with pytest.raises(DownloadError, match=r"refused.*https_proxy"):
        fetch(file, web.folder)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_fills_up_keeps_what_has_come(web, monkeypatch, code):
    class Full(io.FileIO):
        def write(self, data):
            if self.tell() > 100_000:
                raise OSError(code, "no room, say")
            return super().write(data)

    def opened(path, mode="r", *arguments, **options):
        return Full(path, mode) if mode == "ab" else builtins.open(path, mode, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(download, "open", opened, raising=False)
        with pytest.raises(DownloadError, match=r"no room, say. What has come is kept: make room"):
            web.bring()
    assert (web.folder / "x.part").stat().st_size > 100_000
    assert is_whole(web, web.bring())
    assert "Range" in web.x.asked[-1]
