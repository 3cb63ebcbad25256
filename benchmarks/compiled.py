"""The compiled training step: graph breaks and compilations for every task, and its speed on a CPU.

    python benchmarks/compiled.py [--tasks ctdet ...] [--pairs 15] [--backbone resfpn18] [--size 256]

*Compilations*: ten batches with different numbers of objects, one of a single image and one that is shorter,
forward and losses, captured and run without generating code. "torch.compile" is the eager step given to it as
it is; "ours" is ``StepLosses(..., compile=True)``, what ``-R compile=true`` takes.

*Speed*: forward, losses, backward and AdamW on the task's own scenes, eager as the trainer runs it on a CPU
(with its fast paths) and compiled by inductor. Both run once in each pair, in alternating order; the ratio is
the median over pairs of eager divided by compiled. ``--pairs 0`` leaves it out.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from gpu import batch_of
from timing import machine
from torch._dynamo.utils import counters

from ctnet.base import compiling
from ctnet.base.ranks import Ranks
from ctnet.checkpoint import Description
from ctnet.core.recipe import SMALL
from ctnet.core.task import Task, create_task, list_tasks, load_task_class, scenes_of
from ctnet.data.loader import Batch
from ctnet.model import CenterNet, create_model
from ctnet.ops.winograd_layers import use_winograd
from ctnet.training.gradients import Gradients, Step, StepLosses
from ctnet.training.optimization import make_optimizer

#: Images of each batch of three.
SIZES = (3, 3, 3, 3, 3, 1, 3, 3, 3, 2)


def counted(task: Task, backbone: str, ours: bool) -> tuple[int, int]:
    """Graph breaks and compilations of ten batches."""
    graphs: list[Any] = []

    def backend(graph: Any, inputs: Any) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward  # type: ignore[no-any-return]

    torch._dynamo.reset()
    counters.clear()
    compiling.BACKEND = backend  # type: ignore[assignment]
    model = create_model(task, backbone)
    about = Description.of(task, backbone, (64, 64), model.backbone)
    losses: Any = StepLosses(task, model, about, compile=ours)
    if not ours:
        losses = torch.compile(losses, backend=backend)
    for number, size in enumerate(SIZES):
        batch = batch_of(task, size, 64, model.backbone.stride, first=3 * number)
        losses(batch.images, batch.targets, None)["total"].backward()
    compiling.BACKEND = "inductor"
    return sum(counters["graph_break"].values()), len(graphs)


def step_of(task: Task, model: CenterNet, batches: Sequence[Batch], compiled: bool) -> Callable[[int], float]:
    optimizer = make_optimizer(model, SMALL, 1e-5)
    height, width = batches[0].images.shape[1:3]
    about = Description.of(task, "", (width, height), model.backbone)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    gradients = Gradients(StepLosses(task, model, about, compile=compiled), scaler, None, Ranks())

    def step(number: int) -> float:
        batch = batches[number % len(batches)]
        learnt = gradients.accumulate(Step([batch], [len(batch)]))
        optimizer.step()
        optimizer.zero_grad()
        return learnt.terms["loss"]

    return step


def speed(backbone: str, side: int, images: int, pairs: int) -> None:
    """Print the times of eager and compiled steps."""
    task = create_task("ctdet", scenes_of(load_task_class("ctdet")).categories)
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = create_model(task, backbone, small_heads=False).to(memory_format=torch.channels_last)
    batches = [batch_of(task, images, side, 4, first=images * number) for number in range(4)]
    eager_model, compiled_model = copy.deepcopy(model), copy.deepcopy(model)
    use_winograd(eager_model)
    steps = {
        "eager": step_of(task, eager_model, batches, False),
        "compiled": step_of(task, compiled_model, batches, True),
    }
    started = time.perf_counter()
    losses = {kind: [step(number) for number in range(2)] for kind, step in steps.items()}
    print(
        f"first steps, with compilation: {time.perf_counter() - started:.0f} s; losses {losses}", flush=True
    )
    seconds: dict[str, list[float]] = {kind: [] for kind in steps}
    for number in range(pairs):
        for kind in sorted(steps, reverse=number % 2 == 1):
            begun = time.perf_counter()
            steps[kind](number)
            seconds[kind].append(time.perf_counter() - begun)
    ratios = [one / other for one, other in zip(seconds["eager"], seconds["compiled"], strict=True)]
    medians = {kind: 1e3 * statistics.median(times) for kind, times in seconds.items()}
    print(
        f"{backbone}, {images} images of {side}x{side}, {pairs} pairs: eager {medians['eager']:.0f} ms, "
        f"compiled {medians['compiled']:.0f} ms, ratio {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", nargs="*", default=list_tasks())
    parser.add_argument("--counted", default="resfpn18", help="backbone of the compilations")
    parser.add_argument("--backbone", default="resfpn18")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=15)
    options = parser.parse_args()
    print(machine())
    for name in options.tasks:
        task = create_task(name, scenes_of(load_task_class(name)).categories)
        before, after = (counted(task, options.counted, ours) for ours in (False, True))
        print(
            f"{name:6} torch.compile: {before[0]} breaks, {before[1]} compilations;  "
            f"ours: {after[0]} breaks, {after[1]} compilations",
            flush=True,
        )
    if options.pairs:
        speed(options.backbone, options.size, options.images, options.pairs)


if __name__ == "__main__":
    main()
