"""Running a service: its socket, the connections' time-outs, and a stop that finishes what was accepted."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import math
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ctnet.base.errors import CtnetError
from ctnet.base.signals import on_termination

#: Connections that wait to be accepted by the operating system.
_BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """A socket on which clients can connect at once, and are answered later.

    Args:
        host: a name or an address of this machine.
        port: 0 for a free one.

    Raises:
        CtnetError: when the host is not known, or the port cannot be used.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
        )[0]
    except (OSError, UnicodeError) as error:
        raise CtnetError(f"--host is {host!r}, which is not known here; use 127.0.0.1 or 0.0.0.0") from error
    # With its protocol, or asyncio does not know that it is TCP, leaves Nagle's algorithm on, and the second
    # packet of an answer waits 40 ms for the client to confirm the first.
    opened = socket.socket(family, kind, protocol)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
        opened.listen(_BACKLOG)
    except OSError as error:
        opened.close()
        raise CtnetError(f"cannot listen on {host} port {port}: {_reason(error)}") from error
    return opened


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another program does; choose another --port"
    if error.errno == errno.EACCES:
        return "ports below 1024 are for the system; choose another --port"
    if error.errno == errno.EADDRNOTAVAIL:
        return "it is not an address of this machine; use 127.0.0.1 or 0.0.0.0"
    return error.strerror or str(error)


def address_of(opened: socket.socket) -> str:
    """The address of a socket as an URL."""
    host, port = opened.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_loopback(opened: socket.socket) -> bool:
    """Whether only programs of this machine can reach a socket."""
    return ipaddress.ip_address(opened.getsockname()[0].partition("%")[0]).is_loopback


def run(app: Any, opened: socket.socket, seconds: float) -> None:
    """Serve until SIGTERM or Ctrl-C: no new connection then, and every accepted request is answered.

    A second signal ends it at once.

    Args:
        app: the ASGI application.
        opened: where it listens.
        seconds: time-out of a connection: for the head of a request to arrive, and for a closed connection to
            vanish.
    """
    server_of(app, seconds).run([opened])


def server_of(app: Any, seconds: float) -> uvicorn.Server:
    """A server that does not run yet; see ``run``."""
    protocol = type("Protocol", (_TimedProtocol,), {"seconds": seconds})
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="error",  # clients that send nonsense get status 400, and no line here
        access_log=False,
        server_header=False,
        timeout_keep_alive=math.ceil(seconds),
        backlog=_BACKLOG,
    )
    return _Server(config)


class _Server(uvicorn.Server):
    """Ends with exit code 0 after a signal, where uvicorn's own raises the signal again."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        def stop(*_: object) -> None:
            self.force_exit = self.should_exit
            self.should_exit = True

        with on_termination(stop):
            yield


class _TimedProtocol(H11Protocol):
    """A connection that is dropped when no head of a request arrives in time, or when it does not end.

    uvicorn itself times only the pause between an answer and the first byte of the next request.
    """

    seconds = 30.0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._timer is not None:
            self._timer.cancel()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def _watch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(self.seconds, self._late)

    def _late(self) -> None:
        busy = self.cycle is not None and not self.cycle.response_complete
        if self.transport.is_closing() or not busy:
            self.transport.abort()
        else:
            self._watch()
