from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest

from ctnet.base.errors import CtnetError
from ctnet.inference import streams
from ctnet.inference.sources import Frame, open_sources

Answer = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def serving(answer: Answer) -> Iterator[str]:
    """An HTTP server on this machine, as its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with suppress(BrokenPipeError, ConnectionResetError):  # the reader has left
                answer(self)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def sends(data: bytes, kind: str) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)

    return answer


def jpeg(value: int) -> bytes:
    return cv2.imencode(".jpg", np.full((48, 64, 3), value, np.uint8))[1].tobytes()


def live(counts: list[int]) -> Answer:
    """A camera that sends so many pictures at each connection, the first (a question) aside; then breaks."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        count = counts.pop(0) if counts else None
        if count is None:
            request.send_error(503)
            return
        request.send_response(200)
        request.send_header("Content-Type", "multipart/x-mixed-replace; boundary=cut")
        request.end_headers()
        for number in range(count):
            data = jpeg(40 + number)
            head = f"--cut\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            request.wfile.write(head.encode() + data + b"\r\n")

    return answer


@pytest.fixture
def clip(tmp_path: Path) -> bytes:
    path = tmp_path / "clip.mkv"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    noise = np.random.default_rng(0).integers(0, 256, (6, 48, 64, 3)).astype(np.uint8)
    for image in noise:
        writer.write(image)
    writer.release()
    return path.read_bytes()


def frames(address: str) -> tuple[list[str], list[str]]:
    """Names of the frames that were read, and the problems."""
    (source,) = open_sources([address])
    found: list[Frame] = list(source)
    return [f.name for f in found if f.image is not None], [f.problem for f in found if f.image is None]


def test_a_film_is_read_once(clip: bytes) -> None:
    with serving(sends(clip, "video/x-matroska")) as server:
        (source,) = open_sources([f"{server}/street.mkv"])
        assert (source.is_video, source.length, source.rate, source.stem) == (True, 6, 10, "street")
        assert frames(f"{server}/street.mkv") == ([f"street_{number:06d}" for number in range(6)], [])


def test_a_film_whose_sending_ends_early_is_named(clip: bytes, monkeypatch) -> None:
    monkeypatch.setattr(streams, "TIME_OUT", 1.0)

    def cut(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "video/x-matroska")
        request.send_header("Content-Length", str(len(clip)))
        request.end_headers()
        request.wfile.write(clip[: len(clip) // 2])

    with serving(cut) as server:
        names, problems = frames(f"{server}/street.mkv")
    assert 0 < len(names) < 6
    assert problems == [f"{server}/street.mkv ends after {len(names)} of 6 frames"]


def test_pictures_of_addresses() -> None:
    with serving(sends(jpeg(90), "image/jpeg")) as server:
        (source,) = open_sources([f"{server}/snap.jpg?size=2"])
        (frame,) = source
    assert (source.is_video, frame.name) == (False, "snap.jpg")
    assert frame.image is not None
    assert frame.image.shape == (48, 64, 3)


def test_a_broken_connection_is_opened_again(monkeypatch) -> None:
    monkeypatch.setattr(streams, "WAITS", (0.0, 0.0))
    with serving(live([30, 30, 20])) as server:
        names, problems = frames(f"{server}/camera")
    assert names == [f"camera_{number:06d}" for number in range(len(names))]
    assert 40 <= len(names) <= 50  # the last part may be lost with its connection
    assert len(problems) == 2
    assert "the connection broke after" in problems[0]
    assert "attempts to open it again failed" in problems[1]


def test_reconnecting_is_bounded_also_where_every_attempt_succeeds(monkeypatch) -> None:
    monkeypatch.setattr(streams, "WAITS", (0.0, 0.0))
    with serving(live([20] * 100)) as server:
        _, problems = frames(f"{server}/camera")
    assert len(problems) == 3


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("{page}/watch", r"it is a page or a document \(text/html\); give the video's own address"),
        ("{missing}/x.mp4", "the server answers 404 Not Found"),
        ("{text}/x.mp4", "cannot play .*: no video that can be read came within"),
        ("http://127.0.0.1:{closed}/x.mp4", "cannot connect to .*: Connection refused; check the host"),
        ("rtsp://127.0.0.1:{closed}/x", "cannot connect to .*: Connection refused; check the host"),
        ("rtsp://eve:secret@127.0.0.1:{closed}/x", r"cannot connect to rtsp://eve:\*\*\*@127.0.0.1:"),
        ("http://127.0.0.1:99999/x", "cannot connect to .*99999"),
        ("rtsp://127.0.0.1:nine/x", "cannot connect to .*nine"),
        ("ftp://127.0.0.1/x.mp4", "addresses begin with rtsp, "),
    ],
)
def test_what_cannot_be_played_says_why(address: str, message: str) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))  # bound, and nobody listens
        with (
            serving(sends(b"<html>", "text/html; charset=utf-8")) as page,
            serving(lambda request: request.send_error(404)) as missing,
            serving(sends(b"words " * 99, "text/plain")) as text,
        ):
            closed = listening.getsockname()[1]
            filled = address.format(page=page, missing=missing, text=text, closed=closed)
            with pytest.raises(CtnetError, match=message) as caught:
                open_sources([filled])
            assert "secret" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["http", "rtsp"])
def test_a_server_that_says_nothing_costs_the_time_out(scheme: str, monkeypatch) -> None:
    monkeypatch.setattr(streams, "TIME_OUT", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}/x"
        with pytest.raises(CtnetError, match=r"no answer within|no video that can be read came within"):
            open_sources([address])


def test_a_server_of_another_protocol_is_no_answer() -> None:
    def nonsense(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(b"SSH-2.0-OpenSSH_9.6\r\n")

    with serving(nonsense) as server, pytest.raises(CtnetError, match="cannot connect to"):
        open_sources([f"{server}/x"])


def test_a_name_and_a_password_are_given_to_the_server(clip: bytes) -> None:
    def guarded(request: BaseHTTPRequestHandler) -> None:
        if request.headers.get("Authorization") is None:
            request.send_response(401)
            request.send_header("WWW-Authenticate", 'Basic realm="camera"')
            request.send_header("Content-Length", "0")
            request.end_headers()
        else:
            sends(clip, "video/x-matroska")(request)

    with serving(guarded) as server:
        with pytest.raises(CtnetError, match="401"):
            open_sources([f"{server}/x.mkv"])
        (source,) = open_sources([f"{server}/x.mkv".replace("http://", "http://eve:secret@")])
        assert len(list(source)) == 6
        assert source.name == f"{server}/x.mkv".replace("http://", "http://eve:***@")
