"""Receiving a request's body within limits of size and time, and noticing that a client is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from typing import Any, TypeVar

from ctnet.serve.refusals import ClientGone, Refusal

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Value = TypeVar("Value")

#: Seconds for which the rest of a refused body is read and dropped: a client that is still writing would see
#: a broken connection in place of the answer.
LINGER = 1.0


async def read_body(receive: Receive, length: str | None, most: int, seconds: float) -> bytes:
    """The body of a request.

    Args:
        receive: the channel of the request, as ASGI has it.
        length: the header Content-Length, if there is one.
        most: bytes that are accepted.
        seconds: until the whole body must have arrived.

    Raises:
        Refusal: for a body that is too large or late.
        ClientGone: when the connection closes first.
    """
    too_large = Refusal(413, f"the body is larger than the {most} bytes that this service takes; send less")
    if length is not None and length.isdigit() and int(length) > most:
        raise too_large
    chunks: list[bytes] = []
    size = 0

    async def all_of_it() -> None:
        nonlocal size
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            if size > most:
                raise too_large
            more = message.get("more_body", False)

    try:
        await asyncio.wait_for(all_of_it(), seconds)
    except asyncio.TimeoutError:
        raise Refusal(408, f"the body did not arrive within {seconds:g} s; send it faster") from None
    return b"".join(chunks)


async def drop_rest(receive: Receive) -> None:
    """Read and drop what a client still sends, for a moment."""

    async def all_of_it() -> None:
        while (message := await receive())["type"] != "http.disconnect" and message.get("more_body"):
            pass

    try:
        await asyncio.wait_for(all_of_it(), LINGER)
    except asyncio.TimeoutError:
        return


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, Value]) -> Value:
    """Do some work, unless the client closes the connection: then it is cancelled.

    Raises:
        ClientGone: in that case.
    """
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_until_gone(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return task.result()
    finally:
        for one in (task, gone):
            one.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
