from __future__ import annotations

import shutil
import socket
import socketserver
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

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
    """A camera that sends this many pictures per connection, except the first (a probe); then disconnects."""

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
    """Names of the frames that were read, and the notes."""
    (source,) = open_sources([address])
    found: list[Frame] = list(source)
    return [f.name for f in found if f.image is not None], [f.note for f in found if f.image is None]


def test_a_video_is_read_once(clip: bytes) -> None:
    with serving(sends(clip, "video/x-matroska")) as server:
        (source,) = open_sources([f"{server}/street.mkv"])
        assert (source.is_video, source.length, source.rate, source.stem) == (True, 6, 10, "street")
        assert frames(f"{server}/street.mkv") == ([f"street_{number:06d}" for number in range(6)], [])


def test_a_video_is_read_once_also_where_the_server_states_no_length(clip: bytes) -> None:
    def without_length(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "video/x-matroska")
        request.end_headers()
        request.wfile.write(clip)

    with serving(without_length) as server:
        assert frames(f"{server}/street.mkv") == ([f"street_{number:06d}" for number in range(6)], [])


def test_a_video_whose_sending_ends_early_is_named(clip: bytes, monkeypatch) -> None:
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


@pytest.fixture
def film(tmp_path: Path) -> bytes:
    """An MP4 with its index at its end, as cameras, phones and OpenCV write them."""
    path = tmp_path / "film.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (320, 240))
    for image in np.random.default_rng(0).integers(0, 256, (20, 240, 320, 3)).astype(np.uint8):
        writer.write(image)
    writer.release()
    content = path.read_bytes()
    assert content.index(b"mdat") < content.index(b"moov")
    assert len(content) > 1 << 19  # more than FFmpeg keeps, so that it cannot go back
    return content


def test_a_video_with_its_index_at_the_end_is_read_from_a_server_that_cannot_seek(
    film: bytes, tmp_path: Path, monkeypatch
) -> None:
    (tmp_path / "copies").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "copies"))
    with serving(sends(film, "video/mp4")) as server:
        names, problems = frames(f"{server}/film.mp4")
    assert names == [f"film_{number:06d}" for number in range(20)]
    assert not problems
    assert not list((tmp_path / "copies").iterdir())


def test_a_video_that_needs_a_copy_and_has_no_room_says_so(film: bytes, monkeypatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=len(film)))
    with serving(sends(film, "video/mp4")) as server:
        names, problems = frames(f"{server}/film.mp4")
    assert not names
    assert "is too small for a copy; set TMPDIR" in problems[0]
    assert problems[1:] == [f"{server}/film.mp4 ends after 0 of 20 frames"]


def test_an_endless_video_of_which_nothing_can_be_read_is_not_copied(film: bytes) -> None:
    def without_length(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "video/mp4")
        request.end_headers()
        request.wfile.write(film)

    with serving(without_length) as server:
        names, problems = frames(f"{server}/film.mp4")
    assert not names
    assert problems[0] == f"cannot play {server}/film.mp4: no frame of it can be read"


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_video_that_is_cut_before_its_index_says_so(share: float, film: bytes) -> None:
    def cut(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "video/mp4")
        request.send_header("Content-Length", str(len(film)))
        request.end_headers()
        request.wfile.write(film[: int(len(film) * share)])

    with serving(cut) as server, pytest.raises(CtnetError, match="ends before it can be read") as caught:
        open_sources([f"{server}/clip.mp4"])
    assert "seconds" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "kind"), [("street.mjpeg", "video/x-motion-jpeg"), ("a.MJPG", "text/plain")]
)
def test_a_video_in_pieces_is_read_once(name: str, kind: str) -> None:
    asked = []

    def in_pieces(request: BaseHTTPRequestHandler) -> None:
        asked.append(request.path)
        request.send_response(200)
        request.send_header("Content-Type", kind)
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        for number in range(8):
            data = jpeg(40 + number)
            request.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        request.wfile.write(b"0\r\n\r\n")

    with serving(in_pieces) as server:
        names, problems = frames(f"{server}/{name}")
    assert len(names) == 8
    assert not problems
    assert len(asked) == 2  # what it is, and the video


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
        ("{text}/x.mp4", "cannot play .*: what the server sends is not a video, or ends before it can be"),
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
        listening.bind(("127.0.0.1", 0))  # bound, but not listening
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


def test_a_server_of_another_protocol_is_not_an_answer() -> None:
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


# --- RTSP


class Camera(socketserver.StreamRequestHandler):
    """RTSP over TCP as cameras speak it; the pictures are packets of an MPEG transport stream."""

    film = b""
    connections = 0

    def handle(self) -> None:
        type(self).connections += 1
        with suppress(BrokenPipeError, ConnectionResetError):
            while method := self._request():
                if method == "PLAY":
                    self._send_film()
                    return  # and the connection breaks

    def _request(self) -> str:
        first = self.rfile.readline().decode().split()
        headers = {}
        while line := self.rfile.readline().decode().strip():
            name, value = line.split(":", 1)
            headers[name.lower()] = value.strip()
        if not first:
            return ""
        body = (
            "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 33\r\na=control:track\r\n"
        )
        more = {
            "OPTIONS": "Public: OPTIONS, DESCRIBE, SETUP, PLAY\r\n",
            "DESCRIBE": f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n",
            "SETUP": "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n",
        }.get(first[0], "")
        answer = f"RTSP/1.0 200 OK\r\nCSeq: {headers.get('cseq')}\r\nSession: 1\r\n{more}\r\n"
        self.wfile.write((answer + (body if first[0] == "DESCRIBE" else "")).encode())
        return first[0]

    def _send_film(self) -> None:
        step = 7 * 188
        for number, at in enumerate(range(0, len(self.film), step)):
            rtp = struct.pack(">BBHII", 0x80, 33, number & 0xFFFF, 9000 * number, 1)
            packet = rtp + self.film[at : at + step]
            self.wfile.write(b"$\0" + struct.pack(">H", len(packet)) + packet)


def test_a_camera_that_speaks_rtsp(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(streams, "WAITS", (0.0,))
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "film.ts"), "w") as container:
        stream = container.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for image in np.random.default_rng(0).integers(0, 256, (60, 48, 64, 3)).astype(np.uint8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    monkeypatch.setattr(Camera, "film", (tmp_path / "film.ts").read_bytes())
    monkeypatch.setattr(Camera, "connections", 0)
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Camera) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            names, problems = frames(f"rtsp://eve:secret@127.0.0.1:{server.server_address[1]}/gate")
        finally:
            server.shutdown()
            thread.join()
    assert names[0] == "gate_000000"
    assert 100 <= len(names) <= 120
    assert len(problems) == 2
    assert "the connection broke after" in problems[0]
    assert "secret" not in problems[0]
