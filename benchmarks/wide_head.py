"""A wide head trained at single cells: its values alone against whole maps.

    python benchmarks/wide_head.py [--channels 160] [--batch 8] [--side 128] [--objects 10] [--device cpu]

Forward, L1 loss and backward of one branch (3x3 convolution, ReLU, 1x1 convolution) over given features, as
class-specific sizes of 80 categories need it. The alternatives, interleaved within one run:

- "values": the branch at the cells alone, and its loss on those values (ctnet's way);
- "scattered": the branch at the cells alone, scattered into a map of zeros, which the loss gathers from;
- "whole": the branch everywhere, gathered at the cells.

Losses and gradients of all three must agree. Peak memory is that of the device on CUDA, and on the CPU that
of one process for each alternative (its growth during a first step).
"""

from __future__ import annotations

import argparse
import copy
import json
import multiprocessing
import resource
import sys
from collections.abc import Callable

import torch
from timing import alternate, machine
from torch import Tensor, nn

from ctnet.backbones import Backbone
from ctnet.core.heads import Regression
from ctnet.core.targets import CellTargets
from ctnet.model import CenterNet

Predict = Callable[[CenterNet, Tensor, CellTargets], Tensor]


class Features(Backbone):
    """Returns its input, in the place of a real backbone's features."""

    channels, divisor, hidden, stride = 64, 1, 64, 1

    def forward(self, images: Tensor) -> list[Tensor]:
        return [images]


def values(model: CenterNet, features: Tensor, target: CellTargets) -> Tensor:
    return model(features, {"size": target})[0]["size"]


def scattered(model: CenterNet, features: Tensor, target: CellTargets) -> Tensor:
    found = values(model, features, target)
    batch, _, height, width = features.shape
    cell = (target.batch * height + target.y) * width + target.x
    # Of the rows that share a cell, only one fills it.
    order = torch.arange(len(cell), device=cell.device)
    filler = torch.full((batch * height * width,), len(cell), device=cell.device)
    first = filler.scatter_reduce(0, cell, order, "amin")[cell] == order
    flat = found.new_zeros(batch * height * width, found.shape[1]).index_add(0, cell, found * first[:, None])
    return target.gather(flat.view(batch, height, width, -1).permute(0, 3, 1, 2))


def whole(model: CenterNet, features: Tensor, target: CellTargets) -> Tensor:
    return target.gather(model(features)[0]["size"])


WAYS: dict[str, Predict] = {"values": values, "scattered": scattered, "whole": whole}


def setting(options: argparse.Namespace) -> tuple[CenterNet, Tensor, CellTargets]:
    """The branch, its features, and targets of this many objects per image."""
    torch.manual_seed(0)
    device = torch.device(options.device)
    heads = {"size": Regression(options.channels)}
    model = CenterNet(Features(), heads, small_heads=False).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    features = torch.randn(options.batch, Features.channels, options.side, options.side, device=device)
    features = features.contiguous(memory_format=torch.channels_last).requires_grad_()
    count = options.batch * options.objects
    image = torch.arange(options.batch).repeat_interleave(options.objects)
    x, y = (torch.randint(options.side, (count,)) for _ in range(2))
    value, weight = torch.randn(count, options.channels), torch.zeros(count, options.channels)
    weight.view(count, -1, 2)[torch.arange(count), torch.randint(options.channels // 2, (count,))] = 1
    return model, features, CellTargets(image, x, y, value, weight, options.batch).to(device)


def step_of(way: Predict, model: CenterNet, features: Tensor, target: CellTargets) -> Callable[[], float]:
    def step() -> float:
        model.zero_grad()
        features.grad = None
        loss = model.heads["size"].loss(way(model, features, target), target)
        mean = loss.total / loss.count.clamp(min=1)
        mean.backward()  # type: ignore[no-untyped-call]
        return mean.item()

    return step


def check_agreement(model: nn.Module, features: Tensor, target: CellTargets) -> None:
    """Refuse to compare different results."""
    seen = {}
    for name, way in WAYS.items():
        loss = step_of(way, model, features, target)()  # type: ignore[arg-type]
        assert features.grad is not None
        seen[name] = (loss, features.grad.clone(), [w.grad.clone() for w in model.parameters()])  # type: ignore[union-attr]
    for name, (loss, gradient, weights) in seen.items():
        torch.testing.assert_close(loss, seen["whole"][0], msg=name)
        torch.testing.assert_close(gradient, seen["whole"][1], msg=name)
        torch.testing.assert_close(weights, seen["whole"][2], msg=name, rtol=1e-4, atol=1e-6)


def peak_memory(name: str, options: argparse.Namespace) -> float:
    """MB that a first step takes beyond its inputs."""
    model, features, target = setting(options)
    step = step_of(WAYS[name], model, features, target)
    if features.is_cuda:
        step()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--channels", type=int, default=160)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--objects", type=int, default=10, help="an image")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--json", action="store_true", help="one JSON document on stdout, the table on stderr"
    )
    options = parser.parse_args()
    table = sys.stderr if options.json else sys.stdout
    context = multiprocessing.get_context("spawn")
    memory = {}
    for name in WAYS:  # a process each: memory freed by one would hide what the next allocates
        with context.Pool(1) as pool:
            memory[name] = pool.apply(peak_memory, (name, options))
    torch.set_num_threads(options.threads)
    model, features, target = setting(options)
    check_agreement(copy.deepcopy(model), features, target)
    times = alternate(
        {name: step_of(way, model, features, target) for name, way in WAYS.items()}, options.repeats
    )
    print(machine(), file=table)
    print(
        f"{options.channels} channels, batch {options.batch}, grid {options.side}x{options.side}, "
        f"{options.objects} objects per image, {options.device}",
        file=table,
    )
    for name, ms in times.items():
        ratio = times[name] / times["values"]
        print(f"  {name:10s} {ms:9.1f} ms   {ratio:5.1f} times values   {memory[name]:7.0f} MB", file=table)
    if options.json:
        rows = {name: {"milliseconds": times[name], "peak_mb": memory[name]} for name in WAYS}
        json.dump({"machine": machine(), "settings": vars(options), "ways": rows}, sys.stdout, indent=2)
        print()


if __name__ == "__main__":
    main()
