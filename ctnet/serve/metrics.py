"""Counts and times of a service, in the text format of Prometheus."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

#: Upper bounds of the buckets of times, seconds, and of batches, images.
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_IMAGES = (1, 2, 4, 8, 16, 32, 64)

#: The media type of the text.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Histogram:
    """How often values up to each bound were seen.

    Args:
        bounds: upper bounds, ascending.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def lines(self, name: str) -> Iterator[str]:
        """The samples of the histogram."""
        total = 0
        for bound, count in zip([*map(_number, self._bounds), "+Inf"], self._counts, strict=True):
            total += count
            yield f'{name}_bucket{{le="{bound}"}} {total}'
        yield f"{name}_sum {_number(self._sum)}"
        yield f"{name}_count {total}"


class Metrics:
    """What a service counts.

    Args:
        gauges: values of the moment: (name, what it is, function that gives it).
    """

    def __init__(self, gauges: Sequence[tuple[str, str, Callable[[], float]]] = ()) -> None:
        self._gauges = (*gauges, ("process_resident_memory_bytes", "Memory of the process.", resident_bytes))
        self._requests: Counter[tuple[str, str]] = Counter()
        self._images: Counter[str] = Counter({"detected": 0, "refused": 0})
        self._detections = 0
        self._request_seconds = Histogram(_SECONDS)
        self._batch_seconds = Histogram(_SECONDS)
        self._batch_images = Histogram(_IMAGES)

    def request(self, path: str, status: str, seconds: float) -> None:
        """Count a request that was answered, or whose client is gone."""
        self._requests[path, status] += 1
        self._request_seconds.add(seconds)

    def batch(self, images: int, seconds: float) -> None:
        """Count a forward pass."""
        self._batch_images.add(images)
        self._batch_seconds.add(seconds)

    def image(self, detections: int | None) -> None:
        """Count an image: its detections, or None if it was refused."""
        self._images["refused" if detections is None else "detected"] += 1
        self._detections += detections or 0

    def text(self) -> str:
        """All of it, with the words that explain it."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        yield from _head("ctnet_requests_total", "Requests by path and status.", "counter")
        for (path, status), count in sorted(self._requests.items()):
            yield f'ctnet_requests_total{{path="{path}",status="{status}"}} {count}'
        yield from _head("ctnet_images_total", "Images by outcome.", "counter")
        for outcome, count in self._images.items():
            yield f'ctnet_images_total{{outcome="{outcome}"}} {count}'
        yield from _head("ctnet_detections_total", "Detections in answers.", "counter")
        yield f"ctnet_detections_total {self._detections}"
        for name, what, histogram in (
            (
                "ctnet_request_seconds",
                "From the head of a request to the end of its answer.",
                self._request_seconds,
            ),
            (
                "ctnet_batch_seconds",
                "Time of a forward pass, with pre- and postprocessing.",
                self._batch_seconds,
            ),
            ("ctnet_batch_images", "Images per forward pass.", self._batch_images),
        ):
            yield from _head(name, what, "histogram")
            yield from histogram.lines(name)
        for name, what, value in self._gauges:
            yield from _head(name, what, "gauge")
            yield f"{name} {_number(value())}"


def _head(name: str, what: str, kind: str) -> Iterator[str]:
    yield f"# HELP {name} {what}"
    yield f"# TYPE {name} {kind}"


def _number(value: float) -> str:
    return repr(int(value)) if value == int(value) else repr(value)


def resident_bytes() -> int:
    """Memory of this process that is in use; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
