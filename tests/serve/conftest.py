"""Services in this process: an application called without sockets, and a server in a thread."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from ctnet import checkpoint
from ctnet.checkpoint import Description
from ctnet.core.task import create_task
from ctnet.data.shape_scenes import SHAPES
from ctnet.inference import DetectionSettings, Detector
from ctnet.inference.camera import Camera
from ctnet.model import create_model

MODULES = ("starlette", "uvicorn", "python_multipart")


@pytest.fixture(autouse=True)
def _needs_the_extra(request: pytest.FixtureRequest) -> None:
    """Skips tests marked ``serve`` without the extra; fails where all extras are declared to be installed."""
    missing = [name for name in MODULES if find_spec(name) is None]
    if not missing or not any(map(request.node.get_closest_marker, ("serve", "browser"))):
        return
    if "CTNET_ALL_EXTRAS" in os.environ:
        pytest.fail(f"{', '.join(missing)} not installed, and CTNET_ALL_EXTRAS is set")
    pytest.skip(f"needs {', '.join(missing)} (extra serve)")


@pytest.fixture(scope="package")
def checkpoint_file(tiny_backbone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A detector with random weights, which finds many things everywhere."""
    path = tmp_path_factory.mktemp("served") / "best.pt"
    with tiny_backbone() as backbone:
        torch.manual_seed(0)
        task = create_task("ctdet", SHAPES)
        model = create_model(task, backbone)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(std=0.15)
            model.branches[0]["size"][-1].bias.fill_(3.0)  # boxes with an area
        checkpoint.save(path, Description.of(task, backbone, (64, 64)), model.state_dict())
        yield path


@pytest.fixture(scope="package")
def detector(checkpoint_file: Path) -> Detector:
    return Detector.load(checkpoint_file, "cpu")


@dataclass(frozen=True)
class Answer:
    """A response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The one line of a refusal."""
        assert self.headers["content-type"] == "application/json"
        assert self.body.count(b"\n") == 1
        assert self.body.endswith(b"\n")
        assert list(self.json) == ["error"]
        return str(self.json["error"])


class Caller:
    """Calls an ASGI application: ``await caller("POST", "/detect?score=0", body)``."""

    def __init__(self, app: Any, service: Any) -> None:
        self.app, self.service = app, service

    async def __call__(
        self,
        method: str,
        target: str,
        body: bytes | list[bytes] = b"",
        headers: Mapping[str, str] | None = None,
        arriving: bool = True,
        gone: asyncio.Event | None = None,
        reads: bool = True,
    ) -> Answer:
        """A request.

        Args:
            method, target: its first line.
            body: all of it, or pieces.
            headers: further headers.
            arriving: whether the last piece arrives.
            gone: set when the client closes the connection.
            reads: whether the client reads more than the head of the answer.
        """
        path, _, query = target.partition("?")
        given = {name.lower().encode(): value.encode() for name, value in (headers or {}).items()}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": list(given.items()),
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        pieces = [body] if isinstance(body, bytes) else list(body)
        sent: list[Any] = []
        closed = gone or asyncio.Event()

        async def receive() -> Any:
            if pieces:
                piece = pieces.pop(0)
                return {"type": "http.request", "body": piece, "more_body": bool(pieces) or not arriving}
            await closed.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if not reads and message["type"] == "http.response.body":
                await closed.wait()
            sent.append(message)

        await self.app(scope, receive, send)
        if not sent:
            return Answer(0, {}, b"")
        fields = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return Answer(sent[0]["status"], fields, b"".join(message["body"] for message in sent[1:]))


Calling = Callable[..., AbstractAsyncContextManager[Caller]]


@pytest.fixture
def calling(detector: Detector) -> Calling:
    """``async with calling(**limits) as call``: a running service."""

    @asynccontextmanager
    async def start(
        token: str | None = None,
        settings: DetectionSettings | None = None,
        served: Detector | None = None,
        batch_size: int = 8,
        **limits: Any,
    ) -> AsyncIterator[Caller]:
        from ctnet.serve.app import create_app
        from ctnet.serve.engine import Engine
        from ctnet.serve.limits import Limits
        from ctnet.serve.service import Service

        engine = Engine(served or detector, settings or DetectionSettings(), Camera(), batch_size)
        service = Service(engine, replace(Limits(), **limits))
        app = create_app(service, token)
        async with service:
            yield Caller(app, service)

    return start


@pytest.fixture
def running(detector: Detector) -> Iterator[Callable[..., str]]:
    """``running(**limits)``: the address of a server in a thread."""
    started: list[tuple[Any, threading.Thread]] = []

    def start(token: str | None = None, served: Detector | None = None, **limits: Any) -> str:
        from ctnet.serve.app import create_app
        from ctnet.serve.engine import Engine
        from ctnet.serve.limits import Limits
        from ctnet.serve.server import address_of, listen, server_of
        from ctnet.serve.service import Service

        service = Service(
            Engine(served or detector, DetectionSettings(), Camera()), replace(Limits(), **limits)
        )
        opened = listen("127.0.0.1", 0)
        server = server_of(create_app(service, token), service.limits.seconds)
        thread = threading.Thread(target=server.run, args=([opened],))
        started.append((server, thread))
        thread.start()
        address = address_of(opened)
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        return address

    yield start
    for server, thread in started:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


def picture(width: int = 64, height: int = 48, seed: int = 0) -> np.ndarray:
    """Noise, (H, W, 3) uint8 RGB."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def image() -> Callable[..., np.ndarray]:
    return picture


@pytest.fixture
def png() -> Callable[..., bytes]:
    """``png(width, height, seed, suffix)``: a file of noise."""

    def make(width: int = 64, height: int = 48, seed: int = 0, suffix: str = ".png") -> bytes:
        return cv2.imencode(suffix, picture(width, height, seed)[:, :, ::-1])[1].tobytes()

    return make


@pytest.fixture
def multipart() -> Callable[..., tuple[bytes, dict[str, str]]]:
    """``multipart({name: data})``: a body, and the header that goes with it."""

    def make(files: Mapping[str, bytes], end: bytes = b"--BOUND--\r\n") -> tuple[bytes, dict[str, str]]:
        parts = [
            b'--BOUND\r\nContent-Disposition: form-data; name="image"; filename="'
            + name.encode()
            + b'"\r\nContent-Type: image/png\r\n\r\n'
            + data
            + b"\r\n"
            for name, data in files.items()
        ]
        return b"".join(parts) + end, {"content-type": "multipart/form-data; boundary=BOUND"}

    return make
