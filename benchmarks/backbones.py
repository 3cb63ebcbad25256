"""Whole networks on the CPU: as ctnet prepares them against plain ones, and where the remaining time goes.

    python benchmarks/backbones.py [--backbones resdcn18 ...] [--threads 1 2] [--repeats 7] [--cpu-time]

Forward: one image, detection heads for 80 categories, milliseconds (median). "plain" is the same network with
torchvision's deformable convolution, eager, contiguous, its batch norms not folded; "ours" is
``prepare_for_inference``, in float32 and in bfloat16 where the CPU has it. All are interleaved within one
run. The difference is the largest in any raw map, relative to that map's largest value. Training:
benchmarks/training.py.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from timing import alternate, machine
from torch import Tensor, nn

from ctnet.base.device import has_bf16
from ctnet.core.heads import Heatmap, Regression
from ctnet.inference.prepare import prepare_for_inference
from ctnet.model import CenterNet, create_model
from ctnet.ops.deform_conv import DeformConv
from ctnet.ops.fast import fast_paths
from ctnet.ops.winograd_layers import InferenceWinograd

NAMES = ("resdcn18", "resdcn101", "dla34", "hourglass104")
HEADS = {"heatmap": Heatmap(80), "size": Regression(2), "offset": Regression(2)}
KINDS = {
    DeformConv: "deformable: sampling, product",
    InferenceWinograd: "Winograd",
    nn.Conv2d: "convolutions, direct",
    nn.ConvTranspose2d: "up-convolutions, direct",
    nn.BatchNorm2d: "batch norms",
    nn.MaxPool2d: "pooling",
}


def network(name: str) -> CenterNet:
    """Random weights, but statistics and offsets as after some training."""
    torch.manual_seed(0)
    model = create_model(HEADS, name).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
        if isinstance(module, DeformConv):
            nn.init.normal_(module.conv_offset_mask.weight, std=0.01)
    return model


def measure_forward(name: str, size: int, repeats: int, clock: Callable[[], float]) -> dict[str, Any]:
    model = network(name)
    networks = {"plain": fast_paths(False)(model), "ours": prepare_for_inference(model)}
    if has_bf16(torch.device("cpu")):
        networks["ours, bfloat16"] = prepare_for_inference(model, dtype=torch.bfloat16)
    images = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        maps = {kind: net(images)[-1] for kind, net in networks.items()}
        differences = {kind: difference(found, maps["plain"]) for kind, found in maps.items()}
        assert differences["ours"] < 1e-4, f"the networks differ by {differences['ours']}"
        functions = {kind: lambda net=net: net(images) for kind, net in networks.items()}
        milliseconds = alternate(functions, repeats, clock)
        where = shares(networks["ours"], images, max(1, repeats // 2), clock)
    return {"milliseconds": milliseconds, "difference": differences, "share": where}


def difference(maps: dict[str, Tensor], others: dict[str, Tensor]) -> float:
    """Largest difference in any map, relative to the map's largest value."""
    return max(
        ((maps[name].float() - other).abs().max() / other.abs().max()).item()
        for name, other in others.items()
    )


def shares(model: CenterNet, images: Tensor, repeats: int, clock: Callable[[], float]) -> dict[str, float]:
    """Share of the time by kind of layer; a layer's time excludes that of the layers inside it."""
    seconds: Counter[str] = Counter()
    inside: list[float] = [0.0]

    def enter(module: nn.Module, inputs: Any) -> None:
        module.started = clock()  # type: ignore[assignment]
        inside.append(0.0)

    def leave(kind: str) -> Callable[..., None]:
        def note(module: nn.Module, inputs: Any, output: Any) -> None:
            passed = clock() - module.started  # type: ignore[operator]
            seconds[kind] += passed - inside.pop()
            inside[-1] += passed

        return note

    offsets = {m.conv_offset_mask for m in model.modules() if isinstance(m, DeformConv)}
    hooks = []
    for module in model.modules():
        kind = "deformable: offsets, mask" if module in offsets else KINDS.get(type(module))
        if module is model:
            kind = "the rest"
        if kind is not None:
            hooks += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave(kind))]
    for _ in range(repeats):
        model(images)
    for hook in hooks:
        hook.remove()
    return {kind: value / seconds.total() for kind, value in seconds.most_common()}


def print_row(threads: int, what: str, measured: dict[str, Any], file: Any) -> None:
    times = measured["milliseconds"]
    text = f"{threads:>7}  {what:<34}{times['plain']:>9.0f}"
    for kind in ("ours", "ours, bfloat16"):
        if kind in times:
            text += f"{times[kind]:>9.0f}{times['plain'] / times[kind]:>6.2f}x"
    if "difference" in measured:
        text += f"   {measured['difference']['ours']:.0e}"
    print(text, file=file, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbones", nargs="+", default=list(NAMES))
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument(
        "--json", action="store_true", help="one JSON document on stdout, the table on stderr"
    )
    parser.add_argument(
        "--cpu-time", action="store_true", help="of the process, for a busy machine; one thread"
    )
    options = parser.parse_args()
    clock = time.process_time if options.cpu_time else time.perf_counter
    threads_to_try = [1] if options.cpu_time else options.threads
    table = sys.stderr if options.json else sys.stdout
    rows = []
    for threads in threads_to_try:
        torch.set_num_threads(threads)
        print(machine(), file=table)
        print(
            f"{'threads':>7}  {'what':<34}{'plain':>9}{'ours':>15}{'bfloat16':>16}   difference", file=table
        )
        for name in options.backbones:
            measured = measure_forward(name, options.size, options.repeats, clock)
            what = f"{name}, 1x3x{options.size}x{options.size}"
            print_row(threads, what, measured, table)
            where = ", ".join(f"{kind} {share:.0%}" for kind, share in measured["share"].items())
            print(f"         ours is spent on: {where}", file=table, flush=True)
            rows.append({"threads": threads, "what": what, **measured})
    if options.json:
        json.dump({"machine": machine(), "unit": "ms, median", "rows": rows}, sys.stdout, indent=2)
        print()


if __name__ == "__main__":
    main()
