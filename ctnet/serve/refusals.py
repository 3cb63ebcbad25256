"""Why a request is not answered as asked: an HTTP status and one line."""

from __future__ import annotations

from collections.abc import Mapping

from ctnet.base.output import printable


class Refusal(Exception):
    """A request that is refused.

    Attributes:
        status: HTTP status.
        message: what is wrong and how to fix it, one line.
        headers: further headers of the response.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = printable(message)
        self.headers = dict(headers or {})


class ClientGone(Exception):
    """The client closed the connection: there is nobody to answer."""
