"""Downloads from a server in this process, which cuts short, changes files, and ignores ranges."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ctnet.base.download import Download, is_address
from ctnet.base.errors import CtnetError

CONTENT = bytes(range(256)) * 9000  # 2.3 MB


@dataclass
class Server:
    """What the server has and does.

    Attributes:
        content, tag: the file and its ETag; without one there is no header.
        cut: bytes after which an answer ends early.
        ranges: whether it answers requests for a part.
        shift: added to the first byte that it claims to send.
        leads_to: an address that it sends others to.
        asked: the Range header of each request.
    """

    content: bytes = CONTENT
    tag: str | None = '"one"'
    cut: int | None = None
    ranges: bool = True
    shift: int = 0
    leads_to: str | None = None
    address: str = ""
    asked: list[str | None] = field(default_factory=list)

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("CTNET_CACHE", str(tmp_path / "cache"))
    served = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            served.asked.append(wanted)
            if served.leads_to:
                self.send_response(302)
                self.send_header("Location", served.leads_to)
                self.end_headers()
                return
            if not self.path.startswith("/models/"):
                self.send_error(404)
                return
            start = 0
            if wanted and served.ranges and self.headers.get("If-Range") == served.tag:
                start = int(wanted.removeprefix("bytes=").removesuffix("-"))
                if start >= len(served.content):
                    self.send_error(416)
                    return
            rest = served.content[start:]
            self.send_response(206 if start else 200)
            if start:
                first = start + served.shift
                self.send_header("Content-Range", f"bytes {first}-{len(served.content) - 1}/{len(rest)}")
            if served.tag:
                self.send_header("ETag", served.tag)
            self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            self.wfile.write(rest if served.cut is None else rest[: served.cut])

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        served.address = f"http://127.0.0.1:{http.server_address[1]}/models/best%20one.pt"
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield served
        http.shutdown()
        thread.join()


def cut_short(server: Server, bytes_: int) -> None:
    """A download that ends after so many bytes."""
    server.cut = bytes_
    with pytest.raises(CtnetError, match=r"run it again to go on$"):
        Download.of(server.address).get()
    server.cut = None


def test_a_file_is_downloaded_once(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    path = Download.of(server.address).get()
    assert path.name == "best one.pt"
    assert path.read_bytes() == CONTENT
    assert f"add #sha256={server.digest} to the address of best one.pt" in capsys.readouterr().err
    assert Download.of(f"{server.address}#sha256={server.digest.upper()}").get() == path
    assert server.asked == [None]
    assert {each.name for each in path.parent.iterdir()} == {"best one.pt", ".lock"}


@pytest.mark.parametrize("bytes_", [1, 1_000_000, len(CONTENT) - 1])
def test_a_download_goes_on_where_it_was_cut_short(server: Server, bytes_: int) -> None:
    cut_short(server, bytes_)
    path = Download.of(f"{server.address}#sha256={server.digest}").get()
    assert path.read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={bytes_}-"]


def test_another_version_starts_from_its_beginning(server: Server) -> None:
    cut_short(server, 1_000_000)
    server.content, server.tag = CONTENT[::-1], '"two"'
    assert Download.of(server.address).get().read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize("change", [{"ranges": False}, {"tag": None}, {"tag": 'W/"weak"'}])
def test_where_the_server_cannot_go_on_it_starts_again(server: Server, change: dict[str, object]) -> None:
    vars(server).update(change)
    cut_short(server, 1_000_000)
    assert Download.of(server.address).get().read_bytes() == CONTENT


def test_a_part_as_long_as_the_file_is_not_trusted(server: Server) -> None:
    cut_short(server, 1_000_000)
    (part,) = Path(Download.of(server.address).folder).glob("*.part")
    part.write_bytes(b"x" * len(CONTENT))
    assert Download.of(server.address).get().read_bytes() == CONTENT


def test_a_server_that_continues_elsewhere_is_refused(server: Server) -> None:
    cut_short(server, 1_000_000)
    server.shift = 7
    with pytest.raises(CtnetError, match="the server does not continue at byte 1000000; try again"):
        Download.of(server.address).get()
    assert Download.of(server.address).get().read_bytes() == CONTENT


def test_another_digest_is_refused_and_nothing_kept(server: Server) -> None:
    wanted = Download.of(f"{server.address}#sha256={'0' * 64}")
    for _ in range(2):
        with pytest.raises(CtnetError, match=f"has the SHA-256 {server.digest}, not 0{{64}}; it was changed"):
            wanted.get()
        assert not wanted.path.exists()
    assert len(server.asked) == 2


def test_a_file_that_was_damaged_in_the_cache(server: Server) -> None:
    address = f"{server.address}#sha256={server.digest}"
    path = Download.of(address).get()
    path.write_bytes(b"damaged")
    with pytest.raises(CtnetError, match="changed or damaged"):
        Download.of(address).get()
    assert Download.of(address).get().read_bytes() == CONTENT


def test_several_ask_at_once(server: Server) -> None:
    with ThreadPoolExecutor(4) as pool:
        paths = set(pool.map(lambda _: Download.of(server.address).get(), range(4)))
    assert len(paths) == len(server.asked) == 1


def test_what_is_not_there(server: Server) -> None:
    with pytest.raises(CtnetError, match="the server says 404 Not Found"):
        Download.of(server.address.replace("models", "gone")).get()


def test_nobody_answers(server: Server) -> None:
    closed = "http://127.0.0.1:1/model.pt"
    with pytest.raises(CtnetError, match=f"cannot download {closed}: .*refused"):
        Download.of(closed).get()


def test_a_full_disk(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ctnet.base.download.os.fsync", full)
    with pytest.raises(CtnetError, match=r"cannot write .*: No space left on device"):
        Download.of(server.address).get()
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("https://host/a.pt#sha256=12", "what follows # must be sha256= and 64 hexadecimal digits"),
        ("https://", "is not an address of the web"),
        ("file:///etc/passwd", "is not an address of the web"),
        ("http://host/a.pt", "can be changed on its way; use https, or add #sha256="),
    ],
)
def test_addresses_that_are_refused(text: str, message: str) -> None:
    with pytest.raises(CtnetError, match=message):
        Download.of(text)


def test_addresses_and_paths() -> None:
    assert is_address("https://host/a.pt")
    assert is_address("HTTP://host")
    assert not any(map(is_address, ("runs/a", "C:\\a.pt", "https", "ftp://host/a.pt", "a/https://b")))


def test_it_is_not_led_to_where_files_can_be_changed(server: Server) -> None:
    server.leads_to = "http://models.invalid/best.pt"
    with pytest.raises(CtnetError, match=r"leads to http://models\.invalid/best\.pt, which can be changed"):
        Download.of(server.address).get()
    with pytest.raises(CtnetError, match="cannot download"):  # with a digest it is asked, and is not there
        Download.of(f"{server.address}#sha256={server.digest}").get()


def test_a_full_place_is_one_line(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.replace

    def fail(source: Path, target: Path) -> None:
        if target.name == "best one.pt":
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr("ctnet.base.download.os.replace", fail)
    with pytest.raises(CtnetError, match=r"cannot write .*best one\.pt: No space left on device"):
        Download.of(server.address).get()
