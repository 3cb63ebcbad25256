"""A GPU in one run of less than ten minutes: networks, training steps, the detector, and the tests for GPUs.

    python benchmarks/gpu.py [-o gpu.json] [--limit 540] [--backbones dla34 ...] [--batches 1 16] [--size 512]
                             [--repeats 20] [--compiled resfpn18 ...] [--no-tests]

- *forward*: device milliseconds per image (events, medians), heads for 80 categories. "plain" is the eager
  network as trained (contiguous, batch norms not folded, float32 without TF32); the others are made by
  ``prepare_for_inference`` (folded, channels-last): in float32, with TF32, in bfloat16, and for the networks
  of ``--compiled`` in bfloat16 through torch.compile. The difference is the largest in any map, relative to
  the map's largest value; the share is that of deformable layers in bfloat16.
- *training*: a step of ctdet, 16 images of 512x512: "plain" computes whole maps with torchvision's operators,
  contiguous, AdamW with a call for each parameter; "ours" is the trainer's step, in float32 with and without
  TF32, in bfloat16, and compiled.
- *detector*: images per second from JPEG files to detections, wall time.
- *tests*: ``pytest -m gpu``.

What is measured appears at once in the JSON document, so that a run that is cut short loses nothing; after
``--limit`` seconds it ends by itself and says what it left out. Without a CUDA device it says so and exits
with 2; ``--device cpu --tiny`` tries it out.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import cv2
import numpy as np
import torch
from backbones import NAMES, difference, network
from timing import machine
from torch import Tensor, nn
from training import whole_maps

from ctnet.base.device import has_bf16, normalise, tf32
from ctnet.base.files import write_json
from ctnet.base.ranks import Ranks
from ctnet.checkpoint import MEAN, STD, Description
from ctnet.core.fields import move_record
from ctnet.core.geometry import Affine
from ctnet.core.recipe import SMALL
from ctnet.core.targets import Grid
from ctnet.core.task import Task, create_task, example_of, load_task_class, scenes_of
from ctnet.data.loader import Batch, EncodedSample, collate
from ctnet.inference import Detector
from ctnet.inference.prepare import prepare_for_inference
from ctnet.model import CenterNet, create_model
from ctnet.ops.deform_conv import DeformConv
from ctnet.ops.fast import fast_paths
from ctnet.training.gradients import Gradients, Step, StepLosses
from ctnet.training.losses import losses_of_stacks, mean_losses, weighted_sum
from ctnet.training.optimization import make_optimizer

Row = dict[str, Any]
Job = Callable[[], Row]


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


# --- forward


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


def forward(name: str, batch: int, compiled: bool, options: argparse.Namespace) -> Row:
    """Milliseconds per image of a network, in every form; with ``compiled`` in that form alone."""
    device = torch.device(options.device)
    model = network(name).to(device)
    lower = torch.bfloat16 if has_bf16(device) else None
    kinds: dict[str, tuple[CenterNet, bool]] = {}
    if compiled:
        kinds["compiled"] = (prepare_for_inference(model, dtype=lower, compile=True), True)
    else:
        kinds = {"plain": (model, False), "float32": (prepare_for_inference(model), False)}
        if device.type == "cuda":
            kinds["TF32"] = (kinds["float32"][0], True)
        if lower is not None:
            kinds["bfloat16"] = (prepare_for_inference(model, dtype=lower), False)
    clock = Clock(device)
    images = torch.randn(batch, 3, options.size, options.size, generator=torch.Generator().manual_seed(1))
    images = images.to(device)
    row: Row = {"backbone": name, "batch": batch, "ms_per_image": {}, "difference": {}}
    with torch.inference_mode():
        with tf32(False):
            expected = model(images)[-1]
        for kind, (net, fast) in kinds.items():
            with tf32(fast):
                row["difference"][kind] = difference(net(images)[-1], expected)
                row["ms_per_image"][kind] = clock.median(partial(net, images), options.repeats) / batch
        if not compiled:
            row["deformable_share"] = deformable_share([*kinds.values()][-1][0], images, clock)
    return row


# --- training


def task_of_scenes() -> Task:
    return create_task("ctdet", scenes_of(load_task_class("ctdet")).categories)


def batch_of(task: Task, count: int, side: int, stride: int, first: int = 0) -> Batch:
    """A training batch of the task's own scenes, from the one with this seed on."""
    made = []
    for seed in range(first, first + count):
        sample = example_of(task, np.random.default_rng(seed), (side, side))
        on_grid = move_record(sample.instances, Affine.scaling(1 / stride), task.fields)
        made.append(
            EncodedSample(sample.image, task.encode(on_grid, Grid(side // stride, side // stride)), seed)
        )
    batch = collate(made)
    assert isinstance(batch, Batch)
    return batch


def plain_step(task: Task, model: CenterNet, batch: Batch, device: torch.device) -> Callable[[], float]:
    """Whole maps, torchvision's operators, contiguous, an optimizer that goes from parameter to parameter."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, foreach=False)

    def step() -> float:
        there = batch.to(device)
        images = normalise(there.images, MEAN, STD).contiguous()
        losses = losses_of_stacks(task, whole_maps(model, images, there.targets), there.targets)
        terms = mean_losses(losses, {name: loss.count for name, loss in losses.items()})
        total = weighted_sum(terms, task.heads)
        optimizer.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return total.item()

    return fast_paths(False)(step)


def our_step(
    task: Task, model: CenterNet, batch: Batch, device: torch.device, amp: torch.dtype | None, compiled: bool
) -> Callable[[], float]:
    """A step as the trainer makes it."""
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = make_optimizer(model, SMALL, 1e-5)
    about = Description.of(task, "", (batch.images.shape[2], batch.images.shape[1]), model.backbone)
    scaler = torch.amp.GradScaler(device.type, enabled=False)
    gradients = Gradients(StepLosses(task, model, about, compile=compiled), scaler, amp, Ranks())

    def step() -> float:
        learnt = gradients.accumulate(Step([batch], [len(batch)]))
        optimizer.step()
        optimizer.zero_grad()
        return learnt.terms["loss"]

    return step


def training(name: str, kind: str, options: argparse.Namespace) -> Row:
    """Milliseconds of a training step in one form, and its first loss."""
    device, task = torch.device(options.device), task_of_scenes()
    torch.manual_seed(0)
    model = create_model(task, name, small_heads=False).to(device).train()
    batch = batch_of(task, options.images, options.size, model.backbone.stride)
    if device.type == "cuda":
        batch = batch.pin_memory()
    if kind == "plain":
        step = plain_step(task, model, batch, device)
    else:
        amp = torch.bfloat16 if "bfloat16" in kind else None
        step = our_step(task, model, batch, device, amp, "compiled" in kind)
    with tf32(kind not in ("plain", "float32")):
        first = step()
        milliseconds = Clock(device).median(step, options.repeats)
    return {
        "backbone": name,
        "kind": kind,
        "images": options.images,
        "ms_per_step": milliseconds,
        "loss": first,
        "peak_GB": torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else None,
    }


# --- from files to detections


def detector(name: str, kind: str, options: argparse.Namespace) -> Row:
    """Images per second of a detector that reads JPEG files."""
    device, task = torch.device(options.device), task_of_scenes()
    torch.manual_seed(0)
    about = Description.of(task, name, (options.size, options.size))
    dtype = torch.bfloat16 if kind == "bfloat16" else None
    made = Detector(task, create_model(task, name), about, device, dtype)
    with tempfile.TemporaryDirectory() as folder, tf32(True):
        files = [Path(folder) / f"{number}.jpg" for number in range(options.files)]
        for number, file in enumerate(files):
            image = example_of(task, np.random.default_rng(number), (options.size, options.size)).image
            cv2.imwrite(str(file), image)
        made(files[: options.images], batch_size=options.images)
        started = time.perf_counter()
        found = made(files, batch_size=options.images)
        passed = time.perf_counter() - started
    assert len(found) == len(files)
    return {"backbone": name, "kind": kind, "images_per_second": len(files) / passed}


def tests() -> Row:
    """The outcome of the tests that need a GPU, in pytest's last line."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-n", "0", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True)
    lines = done.stdout.strip().splitlines() or [""]
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return {"exit_code": done.returncode, "summary": lines[-1], "failed": failed}


# --- the run


class TimeIsUp(BaseException):
    """The limit is reached, in whatever is being done."""


def jobs(options: argparse.Namespace) -> Iterator[tuple[str, str, Job]]:
    """Section, title and work, the most wanted first."""
    device = torch.device(options.device)
    kinds = ["plain", "float32"]
    kinds += ["TF32"] if device.type == "cuda" else []
    kinds += ["bfloat16"] if has_bf16(device) else []
    for name in options.backbones:
        for batch in options.batches:
            yield "forward", f"{name} batch {batch}", partial(forward, name, batch, False, options)
    for name in options.trained:
        for kind in kinds:
            yield "training", f"{name} {kind}", partial(training, name, kind, options)
    for name in options.trained:
        for kind in kinds[1:2] + [kind for kind in kinds if kind == "bfloat16"]:
            yield "detector", f"{name} {kind}", partial(detector, name, kind, options)
    if options.tests:
        yield "tests", "pytest -m gpu", tests
    for name in options.compiled:
        kind = f"compiled {kinds[-1] if kinds[-1] == 'bfloat16' else 'TF32'}"
        for batch in options.batches:
            yield "forward", f"{name} batch {batch} compiled", partial(forward, name, batch, True, options)
        yield "training", f"{name} {kind}", partial(training, name, kind, options)


def said(row: Row) -> str:
    """A row as a line."""
    parts = []
    for name, value in row.items():
        if isinstance(value, dict):
            parts += [f"{key} {number:.3g}" for key, number in value.items()]
        elif isinstance(value, float):
            parts.append(f"{name} {value:.3f}")
        elif value is not None:
            parts.append(f"{name} {value}")
    return "  ".join(parts)


def measure_all(options: argparse.Namespace, document: dict[str, Any]) -> None:
    """Do one job after the other; each appears in the document, and in its file."""
    waiting = list(jobs(options))
    document["left_out"] = [title for _, title, _ in waiting]
    try:
        for section, title, job in waiting:
            try:
                row = job()
            except Exception as error:
                row = {"what": title, "error": f"{type(error).__name__}: {str(error).splitlines()[0][:300]}"}
            document.setdefault(section, []).append(row)
            document["left_out"].remove(title)
            document["seconds"] = round(time.perf_counter() - options.started)
            print(f"{document['seconds']:>4} s  {section:<9} {said(row)}", flush=True)
            write_json(options.output, document)
    except TimeIsUp:
        print(f"{options.limit} s are over; left out: {', '.join(document['left_out'])}", flush=True)
    write_json(options.output, document)


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, default=Path("gpu.json"))
    parser.add_argument("--limit", type=float, default=540, help="seconds for all")
    parser.add_argument("--backbones", nargs="+", default=["resfpn18", *(n for n in NAMES if "101" not in n)])
    parser.add_argument("--trained", nargs="+", default=["resfpn18", "dla34"])
    parser.add_argument("--compiled", nargs="*", default=["resfpn18", "dla34"])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--images", type=int, default=16, help="in a training step, and a detector's batch")
    parser.add_argument("--files", type=int, default=256, help="for the detector")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tests", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--tiny", action="store_true", help="one small network, to try the script out")
    options = parser.parse_args(arguments)
    if options.tiny:
        options.backbones = options.trained = ["resfpn18"]
        options.compiled, options.batches, options.tests = [], [1], False
        options.size, options.repeats, options.images, options.files = 64, 1, 2, 4
    return options


def main(arguments: list[str] | None = None) -> None:
    options = parsed(arguments)
    options.started = time.perf_counter()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("no CUDA device here: run this on a machine with one", file=sys.stderr)
        sys.exit(2)

    def stop(number: int, frame: FrameType | None) -> None:
        while frame is not None:
            if frame.f_code.co_name == "__del__":  # what is raised there is lost
                signal.setitimer(signal.ITIMER_REAL, 0.05)
                return
            frame = frame.f_back
        raise TimeIsUp

    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "the CPU"
    document: dict[str, Any] = {"device": where, "machine": machine(), "size": options.size}
    print(f"{where}; {document['machine']}")
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, options.limit)
    try:
        measure_all(options, document)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


if __name__ == "__main__":
    main()
