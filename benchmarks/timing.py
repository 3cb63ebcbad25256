"""Shared by the benchmarks: interleaved timing of alternatives, and a description of the machine."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch


def alternate(
    functions: dict[str, Callable[[], Any]],
    repeats: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Median milliseconds of each function, interleaved so that all see the same machine.

    Args:
        functions: by name.
        repeats: rounds that count.
        clock: seconds; ``time.process_time`` for one thread on a busy machine.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(repeats + 1):
        for name, function in functions.items():
            started = clock()
            function()
            if turn:  # the first round warms up
                seconds[name].append(clock() - started)
    return {name: 1e3 * statistics.median(values) for name, values in seconds.items()}


def machine() -> str:
    """Processor, threads and versions in one line."""
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as lines:
            name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    python = platform.python_version()
    return f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}, Python {python}"


def report(title: str, milliseconds: dict[str, float], ours: str, other: str) -> dict[str, Any]:
    """Print one comparison; the ratio says how many times faster ``ours`` is."""
    ratio = milliseconds[other] / milliseconds[ours]
    figures = "   ".join(f"{name} {value:8.2f} ms" for name, value in milliseconds.items())
    print(f"{title:44s} {figures}   ratio {ratio:5.1f}")
    return {"what": title, "milliseconds": milliseconds, "ratio": ratio}
