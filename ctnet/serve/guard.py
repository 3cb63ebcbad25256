"""What holds for every request: the token, other sites, safe headers, counting."""

from __future__ import annotations

import hmac
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from ctnet.base.errors import CtnetError
from ctnet.serve.bodies import Message, Receive, Send
from ctnet.serve.metrics import Metrics
from ctnet.serve.refusals import ClientGone, Refusal
from ctnet.serve.responses import refused

App = Callable[[Any, Receive, Send], Awaitable[None]]

#: Headers of every response; a page may add a policy of its own.
HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}

#: Paths that need no token: whether the service runs, and the page, which asks for the token.
OPEN = ("/", "/health")


class Guard:
    """An ASGI application around another one.

    Args:
        app: answers the requests that are let through.
        paths: those that the application knows; others are counted together.
        metrics: counts.
        token: what clients must send, if anything.

    Raises:
        CtnetError: for a token that no header can hold.
    """

    def __init__(self, app: App, paths: frozenset[str], metrics: Metrics, token: str | None) -> None:
        if token is not None and (
            not token or not token.isascii() or not token.isprintable() or " " in token
        ):
            what = (
                "is empty" if not token else "has spaces or other characters than letters, digits and signs"
            )
            raise CtnetError(f"the token {what}; make one with `openssl rand -hex 32`")
        self._app, self._paths, self._metrics = app, paths, metrics
        self._expected = None if token is None else f"Bearer {token}".encode("ascii")

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # the start and the end of the service
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        status = "gone"

        async def safely(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
                message["headers"] = _with_safe_headers(message["headers"])
            await send(message)

        try:
            if refusal := self._refusal(scope):
                await refused(refusal)(scope, receive, safely)
            else:
                await self._app(scope, receive, safely)
        except ClientGone:
            status = "gone"
        except Exception:  # a bug: answered with 500 already, unless the answer had begun
            logging.getLogger("ctnet").exception("a request to %s failed", scope["path"])
        finally:
            path = scope["path"] if scope["path"] in self._paths else "other"
            self._metrics.request(path, status, time.monotonic() - started)

    def _refusal(self, scope: Mapping[str, Any]) -> Refusal | None:
        headers = dict(scope["headers"])
        if headers.get(b"sec-fetch-site") == b"cross-site" and scope["method"] not in ("GET", "HEAD"):
            return Refusal(403, "another web site sent this request; open the page of the service itself")
        if self._expected is None or scope["path"] in OPEN:
            return None
        if hmac.compare_digest(headers.get(b"authorization", b""), self._expected):
            return None
        return Refusal(
            401,
            "the token is missing or wrong; send it as the header `Authorization: Bearer TOKEN`",
            {"www-authenticate": "Bearer"},
        )


def _with_safe_headers(given: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    named = {name.lower() for name, _ in given}
    added = [(name.encode(), value.encode()) for name, value in HEADERS.items() if name.encode() not in named]
    return [*given, *added]
