"""What a service accepts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What a service accepts.

    Attributes:
        wait: seconds that an image waits for others of its batch, while the network is idle.
        places: images that are accepted and not yet answered.
        body_bytes: bytes of a request.
        pixels: pixels of an image.
        seconds: for which the body of a request may take to arrive, and its answer to be read.
    """

    wait: float = 0.005
    places: int = 64
    body_bytes: int = 20_000_000
    pixels: int = 50_000_000
    seconds: float = 30.0
