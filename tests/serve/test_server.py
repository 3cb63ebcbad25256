"""A server on a socket: time-outs of connections, early refusals, a stop that loses nothing."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from ctnet.base.errors import CtnetError

pytestmark = pytest.mark.serve


def post(address: str, body: bytes, target: str = "/detect") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=30)
    try:
        connection.request("POST", target, body)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def connect(address: str) -> socket.socket:
    parts = urlsplit(address)
    assert parts.hostname is not None
    return socket.create_connection((parts.hostname, parts.port), timeout=30)


def read_all(opened: socket.socket) -> bytes:
    """What comes until the connection is closed."""
    found = b""
    try:
        while data := opened.recv(65536):
            found += data
    except ConnectionResetError:
        pass
    return found


def test_slow_and_broken_connections_are_closed(running, png) -> None:
    address = running(seconds=0.4, body_bytes=100_000)
    silent, slow_head, slow_body, nonsense = (connect(address) for _ in range(4))
    slow_head.sendall(b"POST /detect HTTP/1.1\r\nHost: a\r\n")
    slow_body.sendall(b"POST /detect HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\n123")
    nonsense.sendall(b"\x16\x03\x01 hello\r\n\r\n")
    assert read_all(nonsense).startswith(b"HTTP/1.1 400 ")
    assert read_all(silent) == b""
    assert read_all(slow_head) == b""
    answer = read_all(slow_body)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'{"error": "the body did not arrive within 0.4 s; send it faster"}\n' in answer
    large = connect(address)
    large.sendall(b"POST /detect HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\n\r\n" + b"x" * 500_000)
    assert read_all(large).startswith(b"HTTP/1.1 413 ")  # it arrives, though the client was still writing
    assert post(address, png())[0] == 200


def test_one_connection_serves_many_requests(running, png) -> None:
    connection = http.client.HTTPConnection(urlsplit(running()).netloc, timeout=30)
    own = None
    for body, status in ((png(), 200), (b"hello", 400), (png(), 200)):
        connection.request("POST", "/detect", body)
        response = connection.getresponse()
        assert (response.status, response.read()[-1:]) == (status, b"\n")
        own = own or connection.sock
        assert connection.sock is own
    connection.close()


def test_answers_do_not_wait_for_confirmations(running) -> None:
    """Nagle's algorithm and delayed confirmations together cost 40 ms a request."""
    connection = http.client.HTTPConnection(urlsplit(running()).netloc, timeout=30)
    times = []
    for _ in range(30):
        begun = time.perf_counter()
        connection.request("GET", "/health")
        connection.getresponse().read()
        times.append(time.perf_counter() - begun)
    connection.close()
    assert min(times[1:]) < 0.02


def test_a_port_in_use_and_hosts_that_are_not_here() -> None:
    from ctnet.serve.server import address_of, listen

    with listen("127.0.0.1", 0) as opened:
        port = opened.getsockname()[1]
        assert address_of(opened) == f"http://127.0.0.1:{port}"
        with pytest.raises(CtnetError, match=f"cannot listen on 127.0.0.1 port {port}: another program does"):
            listen("127.0.0.1", port)
    with pytest.raises(
        CtnetError, match=r"cannot listen on 192\.0\.2\.1 port 0: it is not an address of this"
    ):
        listen("192.0.2.1", 0)
    with pytest.raises(CtnetError, match="--host is 'no such host', which is not known here"):
        listen("no such host", 0)


def test_a_stop_answers_what_was_accepted(detector, png, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after SIGTERM: no new connection, and the answers of those that are there."""
    from ctnet.inference import DetectionSettings
    from ctnet.inference.camera import Camera
    from ctnet.serve.app import create_app
    from ctnet.serve.engine import Engine
    from ctnet.serve.limits import Limits
    from ctnet.serve.server import address_of, listen, server_of
    from ctnet.serve.service import Service

    entered, go = threading.Event(), threading.Event()
    found = detector.found

    def slowly(*arguments: object) -> object:
        entered.set()
        assert go.wait(30)
        return found(*arguments)

    monkeypatch.setattr(detector, "found", slowly)
    opened = listen("127.0.0.1", 0)
    address = address_of(opened)
    service = Service(Engine(detector, DetectionSettings(), Camera(), 1), Limits())
    server = server_of(create_app(service), 30)
    thread = threading.Thread(target=server.run, args=([opened],))
    thread.start()
    answers: list[tuple[int, bytes]] = []
    clients = [threading.Thread(target=lambda: answers.append(post(address, png()))) for _ in range(5)]
    for client in clients:
        client.start()
    assert entered.wait(30)
    while service.batcher.taken < 5:
        time.sleep(0.01)
    server.should_exit = True
    while True:  # until it listens no longer
        try:
            connect(address).close()
        except ConnectionRefusedError:
            break
        time.sleep(0.01)
    assert answers == []
    go.set()
    for client in clients:
        client.join(30)
    thread.join(30)
    assert not thread.is_alive()
    assert [status for status, _ in answers] == [200] * 5


@pytest.mark.thorough
def test_the_command_as_a_process(checkpoint_file: Path, png, tmp_path: Path) -> None:
    """It says where it listens, answers, and after SIGTERM finishes and exits with 0."""
    code = (
        "import sys; from tests_backbone import registered, tiny\n"
        "from ctnet.cli import main\n"
        "with registered(tiny): main()\n"
    )
    root = Path(__file__).parents[1]
    (tmp_path / "tests_backbone.py").write_text(
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('shared', {str(root / 'conftest.py')!r})\n"
        "shared = importlib.util.module_from_spec(spec); sys.modules['shared'] = shared\n"
        "spec.loader.exec_module(shared); registered, tiny = shared.registered, shared.tiny\n"
    )
    command = [sys.executable, "-c", code, "serve", str(checkpoint_file), "--port", "0", "--device", "cpu"]
    environment = {**os.environ, "CTNET_TOKEN": "abc", "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*command, "--wait", "1000", "--batch-size", "4"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=tmp_path,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        assert lines[0].startswith("Detector(ctdet with tiny on cpu: ")
        assert lines[1].startswith("threshold: 0.3 for all classes")
        address = lines[2].removeprefix("listening on ").split()[0]
        connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)
        connection.request("POST", "/detect", png(), {"Authorization": "Bearer abc"})
        response = connection.getresponse()
        assert json.loads(response.read())["width"] == 64
        assert post(address, png())[0] == 401
        # A request whose body is half there when the signal comes: it was accepted, so it is answered.
        data = png()
        head = "POST /detect HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer abc\r\n"
        head += f"Content-Length: {len(data)}\r\n\r\n"
        late = connect(address)
        late.sendall(head.encode() + data[:100])
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        late.sendall(data[100:])
        assert read_all(late).startswith(b"HTTP/1.1 200 ")
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, "")
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
