"""Whole networks on a GPU: milliseconds per image, and the share of the deformable layers.

    python benchmarks/gpu.py [--backbones dla34 ...] [--batches 1 16] [--size 512] [--repeats 20] [--compile]

For each network and batch: "plain" is the eager network as trained (contiguous, batch norms not folded,
float32 without TF32), then ``prepare_for_inference`` (folded, channels-last) in float32, in float32 with TF32
products, in bfloat16, and with ``--compile`` that through torch.compile. The share is that of the deformable
layers in the bfloat16 network. Times are device times (events), medians; heads for 80 categories.

Without a CUDA device it says so and exits with 2; ``--device cpu --size 64 --repeats 1`` tries it out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from backbones import NAMES, difference, network
from timing import machine
from torch import Tensor, nn

from ctnet.base.device import has_bf16
from ctnet.inference.prepare import prepare_for_inference
from ctnet.model import CenterNet
from ctnet.ops.deform_conv import DeformConv


class Clock:
    """Milliseconds between two points in a stream of work; on the CPU, wall time."""

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"

    def mark(self) -> Any:
        if not self.cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def between(self, start: Any, end: Any) -> float:
        if not self.cuda:
            return 1e3 * float(end - start)
        end.synchronize()
        return float(start.elapsed_time(end))

    def median(self, function: Callable[[], Any], repeats: int) -> float:
        for _ in range(3 if self.cuda else 1):  # selects kernels and allocates memory
            function()
        times = []
        for _ in range(repeats):
            start = self.mark()
            function()
            times.append(self.between(start, self.mark()))
        return statistics.median(times)


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Turn TF32 for float32 products on or off."""
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [backend.allow_tf32 for backend in backends]
    for backend in backends:
        backend.allow_tf32 = allowed
    try:
        yield
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.allow_tf32 = value


def deformable_share(model: CenterNet, images: Tensor, clock: Clock) -> float:
    """Part of a forward pass that runs inside the deformable layers, their offsets included."""
    spans: list[tuple[Any, Any]] = []
    starts: list[Any] = []

    def enter(module: nn.Module, inputs: Any) -> None:
        starts.append(clock.mark())

    def leave(module: nn.Module, inputs: Any, output: Any) -> None:
        spans.append((starts.pop(), clock.mark()))

    hooks = [
        hook
        for module in model.modules()
        if isinstance(module, DeformConv)
        for hook in (module.register_forward_pre_hook(enter), module.register_forward_hook(leave))
    ]
    model(images)
    spans.clear()
    start = clock.mark()
    model(images)
    total = clock.between(start, clock.mark())
    for hook in hooks:
        hook.remove()
    return sum(clock.between(*span) for span in spans) / total


def measure(
    name: str, size: int, batches: list[int], repeats: int, compiled: bool, device: torch.device
) -> Iterator[dict[str, Any]]:
    """One row per batch size."""
    model = network(name).to(device)
    lowered = prepare_for_inference(model, dtype=torch.bfloat16) if has_bf16(device) else None
    kinds: dict[str, tuple[CenterNet, bool]] = {"plain": (model, False)}
    kinds["float32"] = (prepare_for_inference(model), False)
    if device.type == "cuda":
        kinds["TF32"] = (kinds["float32"][0], True)
    if lowered is not None:
        kinds["bfloat16"] = (lowered, False)
    if compiled:
        dtype = torch.bfloat16 if lowered is not None else None
        kinds["compiled"] = (prepare_for_inference(model, dtype=dtype, compile=True), True)
    clock = Clock(device)
    for batch in batches:
        generator = torch.Generator().manual_seed(1)
        images = torch.randn(batch, 3, size, size, generator=generator).to(device)
        row: dict[str, Any] = {"backbone": name, "batch": batch, "ms_per_image": {}, "difference": {}}
        with torch.inference_mode(), tf32(False):
            expected = model(images)[-1]
            for kind, (net, fast) in kinds.items():
                with tf32(fast):
                    row["difference"][kind] = difference(net(images)[-1], expected)
                    row["ms_per_image"][kind] = clock.median(partial(net, images), repeats) / batch
            row["deformable_share"] = deformable_share(lowered or kinds["float32"][0], images, clock)
        assert row["difference"]["float32"] < 1e-3, f"the networks differ by {row['difference']['float32']}"
        yield row


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbones", nargs="+", default=list(NAMES))
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--compile", action="store_true", help="torch.compile too; takes minutes a network")
    parser.add_argument("--device", default="cuda")
    parser.add_argument(
        "--json", action="store_true", help="one JSON document on stdout, the table on stderr"
    )
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("no CUDA device here: run this on a machine with one", file=sys.stderr)
        sys.exit(2)
    table = sys.stderr if options.json else sys.stdout
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "the CPU"
    print(f"{where}; {machine()}", file=table)
    rows = []
    for name in options.backbones:
        for row in measure(name, options.size, options.batches, options.repeats, options.compile, device):
            times, differences = row["ms_per_image"], row["difference"]
            figures = "  ".join(f"{kind} {times[kind]:.2f} ms (±{differences[kind]:.0e})" for kind in times)
            share = f"deformable {row['deformable_share']:.0%}"
            print(f"{name:<14} batch {row['batch']:>2}  {figures}  {share}", file=table, flush=True)
            rows.append(row)
    if options.json:
        json.dump({"device": where, "size": options.size, "rows": rows}, sys.stdout, indent=2)
        print()


if __name__ == "__main__":
    main()
