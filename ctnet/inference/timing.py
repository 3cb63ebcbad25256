"""Timing of the stages from an image file to detections."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

Stage = Literal["load", "pre", "network", "decode", "post"]
STAGES: tuple[Stage, ...] = get_args(Stage)


@dataclass
class StageTimes:
    """Seconds spent in each stage, and the number of images.

    load: reading and decompressing files. pre: resizing, padding, normalising. network: forward pass,
    activation, averaging with the mirrored input. decode: from maps to detections on the grid, on the host.
    post: back to image pixels, ``Task.lift``, non-maximum suppression. Times of parallel processes are
    summed, so stages may add up to more than the wall time.

    Attributes:
        seconds: by stage.
        images: how many.
        passed: seconds from beginning to end, wall time.
    """

    seconds: dict[Stage, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    images: int = 0
    passed: float = 0.0

    @contextmanager
    def stage(self, name: Stage) -> Iterator[None]:
        """Add the time within the context to a stage."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - begun

    def add(self, other: StageTimes) -> None:
        """Add the times of another process; the wall time is the longer one."""
        for name, seconds in other.seconds.items():
            self.seconds[name] += seconds
        self.images += other.images
        self.passed = max(self.passed, other.passed)

    @property
    def images_per_second(self) -> float:
        """Images per second of wall time; 0 before the first."""
        return self.images / self.passed if self.passed else 0.0

    def milliseconds(self) -> dict[Stage, float]:
        """Time of each stage per image."""
        return {name: 1000 * seconds / max(self.images, 1) for name, seconds in self.seconds.items()}

    def to_json(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        return {
            "images": self.images,
            "seconds": self.passed,
            "images_per_second": self.images_per_second,
            "ms_per_image": self.milliseconds(),
        }

    def __str__(self) -> str:
        split = ", ".join(f"{name} {value:.1f}" for name, value in self.milliseconds().items())
        return f"{self.images_per_second:.1f} images/s; ms per image: {split}"
