"""Downloads against a local server: with and without Range, cut off, failing, of the wrong content."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from layouts import make_cub, pack_tar

from wsol.data.datasets.cub import CUB
from wsol.data.prepare.download import download
from wsol.data.prepare.preparation import prepare
from wsol.errors import InputError

CONTENT = bytes(range(256)) * 40_000  # 10 MB
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves one file, as badly as it is told to."""

    daemon_threads = True
    content = CONTENT
    ranges = True
    length = True
    cut_after: tuple[int, ...] = ()
    """Bytes after which the first, second, ... answer is cut off."""
    errors: tuple[int, ...] = ()
    """Status codes of the first answers."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/file"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        turn = len(self.server.asked)
        self.server.asked.append(self.headers.get("Range"))
        if turn < len(self.server.errors):
            self.send_error(self.server.errors[turn])
            return
        content, start = self.server.content, 0
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if found and self.server.ranges:
            start = int(found[1])
            if start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        if self.server.length:
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        cuts = self.server.cut_after
        end = start + cuts[turn] if turn < len(cuts) else len(content)
        self.wfile.write(content[start:end])

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_a_file_is_fetched_once(server: Server, tmp_path: Path) -> None:
    steps: list[tuple[int, int | None]] = []
    path = download(server.url, tmp_path / "new/file", md5=MD5, progress=lambda *step: steps.append(step))
    assert path.read_bytes() == CONTENT
    assert steps[-1] == (len(CONTENT), len(CONTENT))
    assert [p.name for p in path.parent.iterdir()] == ["file"]
    download(server.url, path, md5=MD5.upper(), sha256=hashlib.sha256(CONTENT).hexdigest())
    assert server.asked == [None]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_connection_cut_off_is_gone_on_with(server: Server, tmp_path: Path, ranges: bool) -> None:
    server.ranges, server.cut_after = ranges, (3_000_000, 2_000_000)
    path = download(server.url, tmp_path / "file", md5=MD5, wait=0.01)
    assert path.read_bytes() == CONTENT
    second, third = server.asked[1:]
    assert second == "bytes=3000000-"
    assert third == ("bytes=5000000-" if ranges else "bytes=2000000-")


def test_a_later_run_goes_on_where_an_earlier_one_stopped(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT[:4_000_000])
    assert download(server.url, tmp_path / "file", md5=MD5).read_bytes() == CONTENT
    assert server.asked == ["bytes=4000000-"]


def test_a_whole_part_needs_no_bytes(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT)
    assert download(server.url, tmp_path / "file", md5=MD5).read_bytes() == CONTENT


@pytest.mark.parametrize("stale", [b"other" * 100, CONTENT + b"more"])
def test_a_part_of_another_file_is_dropped(server: Server, tmp_path: Path, stale: bytes) -> None:
    (tmp_path / "file.part").write_bytes(stale)
    assert download(server.url, tmp_path / "file", md5=MD5).read_bytes() == CONTENT


def test_a_wrong_checksum_leaves_nothing(server: Server, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"wrong checksum .*, expected .*; the download was removed"):
        download(server.url, tmp_path / "file", md5="0" * 32)
    assert list(tmp_path.iterdir()) == []


def test_a_server_in_trouble_is_tried_again(server: Server, tmp_path: Path) -> None:
    server.errors = (503, 500)
    assert download(server.url, tmp_path / "file", md5=MD5, wait=0.01).read_bytes() == CONTENT
    assert len(server.asked) == 3


def test_a_missing_file_is_not_tried_again(server: Server, tmp_path: Path) -> None:
    server.errors = (404, 404)
    with pytest.raises(InputError, match="the server answers 404 Not Found; check the address"):
        download(server.url, tmp_path / "file")
    assert len(server.asked) == 1


def test_giving_up_keeps_what_came(server: Server, tmp_path: Path) -> None:
    server.cut_after = (1_000_000, 0, 0, 0)
    with pytest.raises(InputError, match=r"gave up after 2 tries; run again to resume at 1000000 bytes"):
        download(server.url, tmp_path / "file", md5=MD5, tries=2, wait=0.01)
    assert (tmp_path / "file.part").stat().st_size == 1_000_000
    server.cut_after = ()
    assert download(server.url, tmp_path / "file", md5=MD5).read_bytes() == CONTENT


def test_unreachable_and_unsupported_addresses_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gave up after 2 tries"):
        download("http://127.0.0.1:9/file", tmp_path / "file", tries=2, wait=0.01)
    with pytest.raises(InputError, match="expected an address that starts with http"):
        download("file:///etc/passwd", tmp_path / "file")


def test_a_server_that_says_no_length(server: Server, tmp_path: Path) -> None:
    server.length = False
    assert download(server.url, tmp_path / "file", md5=MD5).read_bytes() == CONTENT


def test_prepare_fetches_and_verifies(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = pack_tar(make_cub(tmp_path / "made"), tmp_path / "made.tgz", prefix="CUB_200_2011/")
    server.content = archive.read_bytes()
    server.cut_after = (1000,)
    published = CUB.archives[0]
    urls = {published.name: server.url}
    with pytest.raises(InputError, match="wrong checksum"):
        prepare(CUB, [], tmp_path / "data/CUB_200_2011", download=True, urls=urls)
    md5 = hashlib.md5(server.content).hexdigest()
    monkeypatch.setattr(CUB, "archives", (type(published)(published.name, md5=md5, prefix=published.prefix),))
    report = prepare(CUB, [], tmp_path / "data/CUB_200_2011", download=True, urls=urls)
    assert report.ok, str(report)
    assert not report.notes
    assert (tmp_path / "data/CUB_200_2011.tgz").is_file()
