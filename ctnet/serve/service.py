"""A service: images in, detections out, within limits of memory; knows nothing of HTTP but its statuses."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from ctnet.base.errors import CtnetError
from ctnet.base.memory import is_out_of_memory
from ctnet.base.output import counted
from ctnet.inference import ImageDetections
from ctnet.inference.preprocessing import PIXELS_AT_ONCE
from ctnet.inference.thresholds import Thresholds
from ctnet.report.writing import encoded
from ctnet.serve.batching import Batcher, Places
from ctnet.serve.budget import Budget
from ctnet.serve.engine import Engine, Work
from ctnet.serve.images import Sent, check_header, decoded, sent_images
from ctnet.serve.limits import Limits
from ctnet.serve.lines import json_bytes
from ctnet.serve.metrics import Metrics
from ctnet.serve.refusals import Refusal

Value = TypeVar("Value")

#: Threads that decode images and write answers, at most.
_MOST_THREADS = 4


@dataclass(frozen=True)
class Wanted:
    """How a request wants to be answered.

    Attributes:
        score: the threshold for all classes; None for the service's own.
        picture: "" for JSON, or the suffix of a picture: ".png" or ".jpg".
    """

    score: float | None = None
    picture: str = ""


class Service:
    """Answers requests with one engine; an asynchronous context.

    Decoding, resizing, drawing and JSON are the work of a few threads, the network that of a single one: the
    event loop does neither.

    Args:
        engine: detects.
        limits: what is accepted.
    """

    def __init__(self, engine: Engine, limits: Limits) -> None:
        self.engine, self.limits = engine, limits
        self.metrics = Metrics(
            [
                (
                    "ctnet_queue_images",
                    "Images that are accepted and not yet answered.",
                    lambda: self.batcher.taken,
                ),
                ("ctnet_queue_limit", "Images that may be.", lambda: limits.places),
            ]
        )
        self.batcher: Batcher[Work, ImageDetections] = Batcher(
            engine.detect, engine.batch_size, limits.wait, limits.places, self.metrics.batch
        )
        self._budget = Budget(PIXELS_AT_ONCE)
        self._threads = ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1), "ctnet-images")
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Service:
        await self._stack.enter_async_context(self.batcher)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()
        self._threads.shutdown()

    async def answer(
        self, places: Places[Work, ImageDetections], body: bytes, kind: str, wanted: Wanted
    ) -> bytes:
        """The content of the answer to a request: a picture, or JSON.

        Args:
            places: the places that the request holds: one, to which those for further images are added.
            body: its body.
            kind: its content type.
            wanted: what is asked for.

        Raises:
            Refusal: for a request that cannot be answered.
            Full: when there are not enough places for its images.
        """
        sent = await self._off_loop(sent_images, body, kind, self.limits.places)
        several = kind.lower().startswith("multipart/")
        if wanted.picture and len(sent) > 1:
            raise Refusal(400, f"a picture is drawn of one image, not of {len(sent)}; send them one by one")
        places.add(len(sent) - 1)
        thresholds = self.engine.chosen(wanted.score)
        parts = await asyncio.gather(
            *(self._one(places, one, thresholds, wanted.picture) for one in sent), return_exceptions=True
        )
        errors = [part for part in parts if isinstance(part, BaseException)]
        if unexpected := [error for error in errors if not isinstance(error, Refusal)]:
            raise unexpected[0]
        if not several or wanted.picture:
            if errors:
                raise errors[0]
            [content] = parts
            assert isinstance(content, bytes)
            return content
        if len(errors) == len(sent):
            raise _nothing_read([error for error in errors if isinstance(error, Refusal)])
        return _joined(sent, parts)

    async def _one(
        self, places: Places[Work, ImageDetections], sent: Sent, thresholds: Thresholds, picture: str
    ) -> bytes:
        """The content of the answer for one image.

        Raises:
            Refusal: when it cannot be read, or not be detected in.
        """
        try:
            pixels = await self._off_loop(check_header, sent, self.limits.pixels)
            async with self._budget.hold(pixels) as held:
                image, work = await self._off_loop(self._prepared, sent, thresholds)
                held.keep(work.pixels + (pixels if picture else 0))
                if not picture:
                    image = None
                found = await places.result(work)
                content = await self._off_loop(self._written, found, image, picture)
        except Exception as error:
            self.metrics.image(None)
            if (refusal := _refusal_of(error)) is None:
                raise
            raise refusal from error
        self.metrics.image(len(found))
        return content

    def _prepared(self, sent: Sent, thresholds: Thresholds) -> tuple[np.ndarray | None, Work]:
        image = decoded(sent)
        try:
            return image, self.engine.prepare(image, sent.name, thresholds)
        except CtnetError as error:
            raise Refusal(422, str(error)) from error

    def _written(self, found: ImageDetections, image: np.ndarray | None, picture: str) -> bytes:
        if image is not None:
            return encoded(found.draw(image), picture)
        size = {"width": found.info.width, "height": found.info.height}
        return json_bytes({**size, "detections": found.to_dicts()})

    async def _off_loop(self, function: Callable[..., Value], *arguments: Any) -> Value:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)


def _refusal_of(error: Exception) -> Refusal | None:
    """What an error of one image is for its client; None for a bug."""
    if isinstance(error, Refusal):
        return error
    if is_out_of_memory(error):
        return Refusal(503, "there is not enough memory for this image now; try again, or make it smaller")
    return Refusal(500, str(error)) if isinstance(error, CtnetError) else None


def _nothing_read(errors: Sequence[Refusal]) -> Refusal:
    statuses = {error.status for error in errors}
    status = statuses.pop() if len(statuses) == 1 else 400
    said = errors[0].message + (f" (and {len(errors) - 1} more)" if len(errors) > 1 else "")
    return Refusal(status, f"none of {counted(len(errors), 'image')} could be read: {said}")


def _joined(sent: Sequence[Sent], parts: Sequence[bytes | BaseException]) -> bytes:
    """The answers for several images as one line of JSON, each with the name of its image."""
    entries = []
    for one, part in zip(sent, parts, strict=True):
        name = json_bytes({"name": one.name})[:-2]
        rest = json_bytes({"error": part.message}) if isinstance(part, Refusal) else part
        assert isinstance(rest, bytes)
        entries.append(name + b", " + rest.strip()[1:])
    return b'{"images": [' + b", ".join(entries) + b"]}\n"
