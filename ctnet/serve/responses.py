"""Answers to requests that are refused."""

from __future__ import annotations

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ctnet.serve.bodies import drop_rest
from ctnet.serve.lines import JSON, json_bytes
from ctnet.serve.refusals import Refusal


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
