"""One file over HTTP from a server that fails: it comes whole and right, or not at all."""

import builtins
import errno
import hashlib
import io
import random
import shutil
from types import SimpleNamespace

import pytest
from catalogue_server import BRIEF, ONCE, Served, closed_port, serving

from xailab.datasets.catalogue import DownloadError, File, Patience, WrongFile, fetch, fetching

DATA = random.Random(0).randbytes(300_000)
SHA256, MD5 = hashlib.sha256(DATA).hexdigest(), hashlib.md5(DATA).hexdigest()


@pytest.fixture(scope="module")
def server():
    with serving() as both:
        yield both


@pytest.fixture
def web(server, tmp_path, monkeypatch):
    """A file `x` on a server, and a folder to fetch it into."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    address, site = server
    site.clear()
    site["/x"] = Served(DATA)

    def bring(*paths, patience=BRIEF, first=None, **known):
        file = File("x", tuple(f"{address}{path}" for path in paths or ["/x"]), **known)
        return fetch(file, tmp_path, patience=patience, first=first, quiet=True)

    return SimpleNamespace(address=address, site=site, x=site["/x"], folder=tmp_path, bring=bring)


def is_whole(web, fetched):
    assert fetched.path.read_bytes() == DATA
    assert fetched[1:] == (SHA256, len(DATA))
    assert [each.name for each in web.folder.iterdir()] == ["x"], "something was left behind"
    return True


def interrupted(web, cut=200_000, **known):
    """Break off once; how many bytes are there."""
    web.x.cuts = [cut]
    with pytest.raises(DownloadError, match=r"broke.*bytes are kept"):
        web.bring(patience=ONCE, **known)
    part = (web.folder / "x.part").read_bytes()
    assert 0 < len(part) <= cut and DATA.startswith(part)
    assert not (web.folder / "x").exists()
    return len(part)


@pytest.mark.parametrize("known", [{}, {"sha256": SHA256}, {"sha256": SHA256[:8]}, {"md5": MD5}, {"size": 300_000}])
def test_a_file_comes_whole_and_comes_once(web, known):
    assert is_whole(web, web.bring(**known))
    assert is_whole(web, web.bring(**known))
    assert len(web.x.asked) == 1
    assert web.x.asked[0]["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("cut", [200_000, 200_001])
def test_a_download_goes_on_where_it_stopped(web, cut):
    there = interrupted(web, cut)
    before = web.x.sent
    assert is_whole(web, web.bring())
    assert web.x.asked[1]["Range"] == f"bytes={there}-" and web.x.asked[1]["If-Range"] == '"1"'
    assert web.x.sent - before == len(DATA) - there
    assert "Range" not in web.x.asked[0]


def test_it_goes_on_by_itself_within_one_call(web):
    web.x.cuts = [100_000, 100_001, 50_000]
    assert is_whole(web, web.bring())
    assert len(web.x.asked) == 4


def test_another_version_is_not_glued_to_the_first(web):
    interrupted(web)
    web.x.data, web.x.headers = DATA[::-1], {"ETag": '"2"'}
    assert web.bring().path.read_bytes() == DATA[::-1]


def test_a_server_that_ignores_if_range_is_found_out_by_the_length(web):
    interrupted(web)
    web.x.data, web.x.headers = DATA[::-1] + b"more", {"ETag": '"1"'}
    assert web.bring().path.read_bytes() == DATA[::-1] + b"more"


def test_without_ranges_it_starts_afresh(web):
    web.x.ranges = False
    interrupted(web)
    assert is_whole(web, web.bring())
    assert "Range" in web.x.asked[1]


def test_it_goes_on_only_where_the_end_can_tell_what_it_is(web):
    web.x.headers = {"ETag": 'W/"weak"'}
    interrupted(web)
    assert is_whole(web, web.bring())
    assert "Range" not in web.x.asked[1], "two versions could be glued together, and nobody would know"
    (web.folder / "x").unlink()
    interrupted(web)
    assert is_whole(web, web.bring(sha256=SHA256))
    assert "Range" in web.x.asked[3] and "If-Range" not in web.x.asked[3]


def test_a_range_that_begins_elsewhere_is_not_taken(web):
    interrupted(web)
    web.x.shift = 7
    with pytest.raises(DownloadError, match="something else than the rest"):
        web.bring(patience=ONCE)
    assert is_whole(web, web.bring())


def test_a_part_that_is_complete_needs_no_request(web):
    (web.folder / "x.part").write_bytes(DATA)
    assert is_whole(web, web.bring(size=len(DATA), sha256=SHA256))
    assert not web.x.asked


def test_a_part_as_long_as_the_file_of_unknown_length_ends_with_a_416(web):
    (web.folder / "x.part").write_bytes(DATA)
    assert is_whole(web, web.bring(sha256=SHA256))
    (web.folder / "x").rename(web.folder / "x.part")
    with open(web.folder / "x.part", "ab") as part:
        part.write(b"too much")
    assert is_whole(web, web.bring(sha256=SHA256))


def test_a_damaged_part_gets_a_fresh_start(web):
    (web.folder / "x.part").write_bytes(b"?" * 1000)
    assert is_whole(web, web.bring(sha256=SHA256))


def test_what_changes_under_way_gets_a_fresh_start(web, monkeypatch):
    web.x.data, web.x.headers, web.x.cuts = DATA[::-1], {}, [100_000]
    monkeypatch.setattr(fetching.time, "sleep", lambda seconds: setattr(web.x, "data", DATA))
    assert is_whole(web, web.bring(sha256=SHA256))
    assert [served.get("Range") is None for served in web.x.asked] == [True, False, True]


def test_a_damaged_file_is_brought_again(web):
    (web.folder / "x").write_bytes(DATA[:-1] + b"?")
    assert is_whole(web, web.bring(sha256=SHA256))


@pytest.mark.parametrize("known", [{"sha256": "0" * 64}, {"sha256": "0" * 8}, {"md5": "0" * 32}, {"first": "0" * 64}])
def test_a_wrong_hash_is_said_and_nothing_is_kept(web, known):
    with pytest.raises(WrongFile, match=r"x from 127\.0\.0\.1 is not the file that was expected"):
        web.bring(**known)
    assert not list(web.folder.iterdir())
    assert len(web.x.asked) == 1, "the same wrong file was fetched twice"


def test_mirrors_are_asked_in_turn(web):
    web.site["/wrong"], web.site["/gone"] = Served(b"?" * len(DATA)), Served(statuses=[404])
    assert is_whole(web, web.bring("/gone", "/wrong", "/x", sha256=SHA256))
    assert len(web.site["/gone"].asked) == 1, "404 does not pass"
    with pytest.raises(DownloadError, match=r"(?s)/gone answers 404.*not the file"):
        web.site["/gone"].statuses = [404]
        (web.folder / "x").unlink()
        web.bring("/gone", "/wrong", sha256=SHA256)


def test_a_part_goes_on_at_a_mirror_if_the_hash_is_known(web):
    there = interrupted(web, sha256=SHA256)
    web.x.statuses = [404]
    web.site["/mirror"] = Served(DATA, headers={})
    assert is_whole(web, web.bring("/x", "/mirror", sha256=SHA256))
    assert web.site["/mirror"].asked[0]["Range"] == f"bytes={there}-"


def test_busy_servers_are_asked_again_as_they_wish(web, monkeypatch):
    waits = []
    monkeypatch.setattr(fetching.time, "sleep", waits.append)
    web.x.statuses, web.x.headers = [503, 429, None], {"Retry-After": "7", "ETag": '"1"'}
    assert is_whole(web, web.bring(patience=Patience(4, 1.0, 5.0)))
    assert waits == [7.0, 7.0]
    (web.folder / "x").unlink()
    web.x.statuses, web.x.headers = [503] * 9, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}
    with pytest.raises(DownloadError, match="busy"):
        web.bring(patience=Patience(4, 1.0, 5.0))
    assert waits[2:] == [1.0, 2.0, 4.0]


@pytest.mark.parametrize("status, said", [(403, "refused"), (401, "refused"), (404, "moved"), (418, "unexpected")])
def test_what_does_not_pass_is_said_at_once(web, status, said):
    web.x.statuses = [status] * 9
    with pytest.raises(DownloadError, match=said):
        web.bring()
    assert len(web.x.asked) == 1


def test_a_slow_server_is_left_and_asked_again(web):
    web.x.cuts, web.x.stall = [200_000], 20.0
    assert is_whole(web, web.bring(patience=Patience(2, 0.0, 0.3)))
    assert "Range" in web.x.asked[1]


@pytest.mark.parametrize("length", [400_000, 200_000])
def test_a_wrong_length_is_not_a_file(web, length):
    web.x.length = length
    with pytest.raises(DownloadError):
        web.bring(patience=ONCE, sha256=SHA256)
    (web.folder / "x.part").unlink(missing_ok=True)
    with pytest.raises(WrongFile, match=rf"has {length:,} bytes, expected 300,000"):
        web.bring(patience=ONCE, size=300_000)
    assert not (web.folder / "x").exists()


def test_without_a_length_only_a_hash_or_chunks_tell_the_end(web):
    web.x.length = None
    with pytest.raises(DownloadError, match="does not say how long"):
        web.bring()
    assert is_whole(web, web.bring(sha256=SHA256))
    (web.folder / "x").unlink()
    web.x.chunked = True
    assert is_whole(web, web.bring())
    (web.folder / "x").unlink()
    web.x.cuts = [100_000]
    with pytest.raises(DownloadError, match="broke"):
        web.bring(patience=ONCE)


def test_more_than_the_file_can_have_is_not_written(web):
    web.x.chunked = True
    with pytest.raises(WrongFile, match="more than 200,000 bytes"):
        web.bring(about=100_000)
    assert not list(web.folder.iterdir())


def test_an_empty_file_is_no_file(web):
    web.x.data = b""
    with pytest.raises(WrongFile, match="empty"):
        web.bring()


def test_a_page_to_sign_in_is_no_file(web):
    web.x.headers = {"Content-Type": "text/html; charset=utf-8"}
    with pytest.raises(WrongFile, match="a web page"):
        web.bring()


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
    get = fetching.requests.get

    def redirected(url, **options):
        answer = get(url.replace("https:", "http:"), **options)
        answer.history = [SimpleNamespace(url=url)]
        return answer

    monkeypatch.setattr(fetching.requests, "get", redirected)
    url = web.address.replace("http:", "https:") + "/x"
    with pytest.raises(DownloadError, match="not encrypted"):
        fetch(File("x", (url,)), web.folder, patience=ONCE, quiet=True)
    assert is_whole(web, fetch(File("x", (url,), sha256=SHA256), web.folder, patience=ONCE, quiet=True))


def test_no_network_is_said(web):
    file = File("x", (f"http://127.0.0.1:{closed_port()}/x",))
    with pytest.raises(DownloadError, match=r"cannot be reached \(.*refused.*\): check the network"):
        fetch(file, web.folder, patience=BRIEF, quiet=True)


def test_a_name_that_nobody_knows_is_said(web, monkeypatch):
    def unknown(*arguments, **options):
        raise fetching.urllib3.exceptions.NameResolutionError("nowhere.example", None, OSError(-2, "Name unknown"))

    monkeypatch.setattr(fetching.urllib3.connection.HTTPConnection, "connect", unknown)
    with pytest.raises(DownloadError, match="cannot be reached"):
        web.bring()


def test_a_certificate_that_cannot_be_checked_is_said(web):
    with pytest.raises(DownloadError, match=r"certificate cannot be checked|cannot be reached"):
        fetch(File("x", (web.address.replace("http:", "https:") + "/x",)), web.folder, patience=ONCE, quiet=True)


def test_certificates_that_are_not_there_are_said(web, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(web.folder / "nowhere.pem"))
    with pytest.raises(DownloadError, match=r"nowhere\.pem; see the variables REQUESTS_CA_BUNDLE"):
        fetch(File("x", (web.address.replace("http:", "https:") + "/x",)), web.folder, patience=ONCE, quiet=True)


@pytest.mark.parametrize("journal", ['{"total": "x"}', '{"total": []}', '{"url": 3, "validator": 5}', "[" * 100_000])
def test_a_damaged_journal_is_none(web, journal):
    (web.folder / "x.part").write_bytes(b"abc")
    (web.folder / "x.part.json").write_text(journal)
    assert fetching.arrived(File("x", ()), web.folder) == (3, None)
    assert is_whole(web, web.bring())


def test_a_proxy_is_used_and_its_absence_is_said(web, monkeypatch):
    file = File("x", ("http://data.example/x",))
    web.site["http://data.example/x"] = Served(DATA)
    monkeypatch.setenv("http_proxy", web.address)
    assert is_whole(web, fetch(file, web.folder, patience=ONCE, quiet=True))
    (web.folder / "x").unlink()
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port()}")
    with pytest.raises(DownloadError, match="proxy cannot be used"):
        fetch(file, web.folder, patience=ONCE, quiet=True)


def test_a_disk_without_room_is_seen_before(web, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(DownloadError, match="make room"):
        web.bring()
    assert web.x.sent < len(DATA) or not (web.folder / "x").exists()


@pytest.mark.parametrize("code, said", [(errno.ENOSPC, "disk of .* is full"), (errno.EROFS, "may not be written")])
def test_a_disk_that_fills_up_keeps_what_has_come(web, monkeypatch, code, said):
    def opened(path, mode="r", *arguments, **options):
        return _Full(path, code) if mode == "ab" else builtins.open(path, mode, *arguments, **options)

    monkeypatch.setattr(fetching, "open", opened, raising=False)
    with pytest.raises(DownloadError, match=said):
        web.bring()
    monkeypatch.delattr(fetching, "open")
    assert (web.folder / "x.part").stat().st_size > 100_000
    assert is_whole(web, web.bring())
    assert "Range" in web.x.asked[-1]


class _Full(io.FileIO):
    """A file that cannot grow for ever."""

    def __init__(self, path, code):
        super().__init__(path, "ab")
        self.code = code

    def write(self, data):
        if self.tell() > 100_000:
            raise OSError(self.code, "no")
        return super().write(data)
