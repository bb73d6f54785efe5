"""The download of an export: resumed, bounded, whole or not there."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sealrun.advisories import download
from sealrun.errors import InputMissing, SealrunError, ToolFailed, UsageError

CONTENT = bytes(range(256)) * 4096


class Server(ThreadingHTTPServer):
    """Serves CONTENT; `breaks` ends each of the next answers after so many bytes of it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.tag, self.ranges = CONTENT, '"one"', True
        self.breaks: list[int] = []
        self.statuses: list[int] = []
        self.asked: list[str] = []
        self.moved = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/all.zip"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range", "")
        self.server.asked.append(asked)
        if self.server.moved:
            self.send_response(302)
            self.send_header("Location", self.server.moved)
            self.end_headers()
            return
        if self.server.statuses:
            self.send_error(self.server.statuses.pop(0))
            return
        data, start = self.server.content, 0
        if asked and self.server.ranges and self.headers.get("If-Range") == self.server.tag:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        self.send_header("ETag", self.server.tag)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        self.wfile.write(data[start:][: self.server.breaks.pop(0) if self.server.breaks else None])

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server on the loopback, the network opted in."""
    monkeypatch.setenv("INVARLOCK_ALLOW_NETWORK", "1")
    monkeypatch.setenv("no_proxy", "*")
    with Server() as made:
        threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
        yield made
        made.shutdown()


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_what_was_broken_off_is_continued(server: Server, tmp_path: Path) -> None:
    """Two breaks, three requests, each from where the last one ended; nothing but the file stays."""
    server.breaks = [1000, 5000]
    download.download(server.url, tmp_path / "all.zip")
    assert (tmp_path / "all.zip").read_bytes() == CONTENT and left(tmp_path) == {"all.zip"}
    assert server.asked == ["", "bytes=1000-", "bytes=6000-"]


def test_the_next_command_goes_on_where_the_last_one_gave_up(server: Server, tmp_path: Path) -> None:
    """After too many breaks it ends as a failure, says how far it came, and keeps that."""
    server.breaks = [1000] * 4
    with pytest.raises(ToolFailed, match="goes on from 4000 bytes"):
        download.download(server.url, tmp_path / "all.zip")
    assert not (tmp_path / "all.zip").exists()
    download.download(server.url, tmp_path / "all.zip")
    assert (tmp_path / "all.zip").read_bytes() == CONTENT and server.asked[-1] == "bytes=4000-"


def test_another_file_at_the_same_address_begins_anew(server: Server, tmp_path: Path) -> None:
    """Two halves of different exports are never joined."""
    server.breaks = [1000] * 4
    with pytest.raises(ToolFailed):
        download.download(server.url, tmp_path / "all.zip")
    server.content, server.tag = CONTENT[::-1], '"two"'
    download.download(server.url, tmp_path / "all.zip")
    assert (tmp_path / "all.zip").read_bytes() == CONTENT[::-1]


def test_a_server_without_ranges_is_asked_for_all_again(server: Server, tmp_path: Path) -> None:
    """Whoever does not continue sends everything."""
    server.ranges, server.breaks = False, [1000]
    download.download(server.url, tmp_path / "all.zip")
    assert (tmp_path / "all.zip").read_bytes() == CONTENT


def test_a_busy_server_is_asked_again_and_a_missing_file_is_not(server: Server, tmp_path: Path) -> None:
    """503 is for now, 404 is an answer."""
    server.statuses = [503]
    download.download(server.url, tmp_path / "all.zip")
    assert len(server.asked) == 2
    server.statuses = [404]
    with pytest.raises(ToolFailed, match="404"):
        download.download(server.url, tmp_path / "other.zip")
    assert len(server.asked) == 3


def test_more_than_allowed_is_refused_and_the_earlier_file_stays(server: Server, tmp_path: Path) -> None:
    """The bound holds before a byte is written."""
    (tmp_path / "all.zip").write_bytes(b"earlier")
    with pytest.raises(ToolFailed, match="expected at most"):
        download.download(server.url, tmp_path / "all.zip", limit=len(CONTENT) - 1)
    assert (tmp_path / "all.zip").read_bytes() == b"earlier"


@pytest.mark.parametrize("url", ["http://example.invalid/all.zip", "ftp://127.0.0.1/a", "file:///etc/passwd"])
def test_only_https_is_fetched(server: Server, tmp_path: Path, url: str) -> None:
    """Neither by its address nor by a redirect."""
    with pytest.raises(UsageError, match="https"):
        download.download(url, tmp_path / "all.zip")
    server.moved = url
    with pytest.raises(SealrunError):
        download.download(server.url, tmp_path / "all.zip")
    assert not (tmp_path / "all.zip").exists()


def test_without_the_network_opted_in_nothing_is_asked(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address needs INVARLOCK_ALLOW_NETWORK, and the message says so."""
    monkeypatch.delenv("INVARLOCK_ALLOW_NETWORK")
    with pytest.raises(InputMissing, match="INVARLOCK_ALLOW_NETWORK=1"):
        download.download(server.url, tmp_path / "all.zip")
    assert server.asked == []
