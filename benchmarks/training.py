"""A training step on the CPU: ctnet's way against the plain way.

    python benchmarks/training.py [--backbones resfpn18 ...] [--tasks ctdet ...] [--threads 1 2] [--repeats 5]

Forward, losses, backward and AdamW on 16 (dla34: 4) of the task's own scenes, milliseconds (median). The
alternatives, each of which adds to the one before:

- "plain": every whole map, torchvision's deformable convolution, contiguous;
- "operator": ctnet's deformable convolution, channels-last;
- "cells": what is trained at single cells is computed at those alone;
- "ours": wide 3x3 convolutions in the Winograd domain, as the trainer does on a CPU in float32;
- "bfloat16": autocast instead of the latter, where the CPU has such instructions.

All are interleaved within one run, and their first losses must agree.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from collections.abc import Callable, Mapping

import numpy as np
import torch
from timing import alternate, machine
from torch import Tensor

from ctnet.base.device import autocast, has_bf16
from ctnet.core.fields import move_record
from ctnet.core.geometry import Affine
from ctnet.core.targets import CellTargets, Grid, Target, collate_targets
from ctnet.core.task import Task, create_task, example_of, load_task_class, scenes_of
from ctnet.model import CenterNet, create_model
from ctnet.ops.fast import fast_paths
from ctnet.ops.winograd_layers import use_winograd
from ctnet.training.losses import losses_of_stacks, mean_losses, weighted_sum

Stacks = list[dict[str, Tensor]]
Predict = Callable[[CenterNet, Tensor, Mapping[str, Target]], Stacks]


def scenes(task: Task, count: int, side: int, stride: int) -> tuple[Tensor, dict[str, Target]]:
    """Images (B, 3, H, W) and the joined targets of the task's own scenes."""
    images, targets = [], []
    for seed in range(count):
        sample = example_of(task, np.random.default_rng(seed), (side, side))
        on_grid = move_record(sample.instances, Affine.scaling(1 / stride), task.fields)
        targets.append(task.encode(on_grid, Grid(side // stride, side // stride)))
        images.append(torch.from_numpy(sample.image).permute(2, 0, 1).float() / 255 - 0.5)
    joined = {name: collate_targets([target[name] for target in targets]) for name in task.heads}
    return torch.stack(images), joined


def at_cells(model: CenterNet, images: Tensor, targets: Mapping[str, Target]) -> Stacks:
    """As the trainer does: what is trained at single cells is computed at those."""
    return model(images, targets)  # type: ignore[no-any-return]


def whole_maps(model: CenterNet, images: Tensor, targets: Mapping[str, Target]) -> Stacks:
    """The same, from the whole map of every head."""
    return [
        {
            name: target.gather(maps[name]) if isinstance(target, CellTargets) else maps[name]
            for name, target in targets.items()
        }
        for maps in model(images)
    ]


def step_of(
    task: Task,
    model: CenterNet,
    images: Tensor,
    targets: Mapping[str, Target],
    predict: Predict,
    layout: torch.memory_format,
    amp: torch.dtype | None,
) -> Callable[[], float]:
    model = model.to(memory_format=layout)  # type: ignore[call-overload]
    images = images.contiguous(memory_format=layout)
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-5)

    def step() -> float:
        optimizer.zero_grad()
        with autocast(torch.device("cpu"), amp):
            losses = losses_of_stacks(task, predict(model, images, targets), targets)
        terms = mean_losses(losses, {name: loss.count for name, loss in losses.items()})
        total = weighted_sum(terms, task.heads)
        total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return total.item()

    return step


def measure(task: Task, backbone: str, side: int, repeats: int) -> dict[str, float]:
    torch.manual_seed(0)
    model = create_model(task, backbone, small_heads=False).train()
    images, targets = scenes(task, 4 if backbone == "dla34" else 16, side, model.backbone.stride)
    quick = copy.deepcopy(model)
    use_winograd(quick)
    contiguous, last = torch.contiguous_format, torch.channels_last
    steps = {
        "plain": fast_paths(False)(
            step_of(task, copy.deepcopy(model), images, targets, whole_maps, contiguous, None)
        ),
        "operator": step_of(task, copy.deepcopy(model), images, targets, whole_maps, last, None),
        "cells": step_of(task, copy.deepcopy(model), images, targets, at_cells, last, None),
        "ours": step_of(task, quick, images, targets, at_cells, last, None),
    }
    if has_bf16(torch.device("cpu")):
        steps["bfloat16"] = step_of(
            task, copy.deepcopy(model), images, targets, at_cells, last, torch.bfloat16
        )
    first = {kind: step() for kind, step in steps.items() if kind != "bfloat16"}
    assert all(abs(loss / first["plain"] - 1) < 1e-3 for loss in first.values()), f"losses differ: {first}"
    return alternate(steps, repeats)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbones", nargs="+", default=["resfpn18", "resdcn18", "dla34"])
    parser.add_argument("--tasks", nargs="+", default=["ctdet"])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--json", action="store_true", help="one JSON document on stdout, the table on stderr"
    )
    options = parser.parse_args()
    table = sys.stderr if options.json else sys.stdout
    rows = []
    started = time.perf_counter()
    for threads in options.threads:
        torch.set_num_threads(threads)
        print(machine(), file=table)
        for name in options.tasks:
            task = create_task(name, scenes_of(load_task_class(name)).categories)
            for backbone in options.backbones:
                times = measure(task, backbone, options.size, options.repeats)
                text = "".join(
                    f"   {kind} {ms:.0f}" + (f" ({times['plain'] / ms:.2f}x)" if kind != "plain" else "")
                    for kind, ms in times.items()
                )
                print(f"{name} {backbone}, {threads} threads, ms:{text}", file=table, flush=True)
                rows.append({"task": name, "backbone": backbone, "threads": threads, "milliseconds": times})
    print(f"{time.perf_counter() - started:.0f} s in all", file=table)
    if options.json:
        json.dump({"machine": machine(), "unit": "ms, median", "rows": rows}, sys.stdout, indent=2)
        print()


if __name__ == "__main__":
    main()
