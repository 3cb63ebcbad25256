"""JSON, and answers to requests that are refused."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ctnet.base.files import to_json
from ctnet.base.output import finite
from ctnet.serve.bodies import drop_rest
from ctnet.serve.refusals import Refusal

#: The media type of ``json_bytes``.
JSON = "application/json"


def json_bytes(value: Any) -> bytes:
    """A value as one line of JSON; NaN and infinities become null."""
    return f"{to_json(finite(value))}\n".encode()


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
