"""Answers, which hold their places until they are read; and refusals."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ctnet.serve.bodies import drop_rest
from ctnet.serve.lines import JSON, json_bytes
from ctnet.serve.refusals import ClientGone, Refusal

#: Bytes that are sent at once: the next ones wait until the client has read most of those before.
_CHUNK = 1 << 16


class Answer(Response):
    """An answer that must be read in time; what it holds in memory is counted until then.

    Args:
        content: its body.
        kind: the media type.
        seconds: for which the client may take to read it.
        release: called when it is sent, or given up.
    """

    def __init__(self, content: bytes, kind: str, seconds: float, release: Callable[[], None]) -> None:
        super().__init__(content, media_type=kind)
        self._seconds, self._release = seconds, release

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await asyncio.wait_for(self._sent(send), self._seconds)
        except asyncio.TimeoutError:
            raise ClientGone from None
        finally:
            self._release()

    async def _sent(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for start in range(0, len(self.body), _CHUNK):
            piece = bytes(self.body[start : start + _CHUNK])
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class _UnreadResponse(Response):
    """An answer to a request whose body was not read: what still comes of it is dropped."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        await drop_rest(receive)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class NoResponse(Response):
    """Sends nothing: the client is gone."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        return


def refused(refusal: Refusal, unread: bool = True) -> Response:
    """The answer to a request that is refused.

    Args:
        refusal: why.
        unread: whether its body was not read to the end; the connection is closed then.
    """
    content = json_bytes({"error": refusal.message})
    if not unread:
        return Response(content, refusal.status, refusal.headers, JSON)
    return _UnreadResponse(content, refusal.status, {**refusal.headers, "connection": "close"}, JSON)
