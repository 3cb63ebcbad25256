"""Deformable convolution on the CPU: ours against torchvision's, layer by layer and in a whole network.

    python benchmarks/deform_conv.py [--json] [--threads 1 2] [--repeats 9] [--cpu-time]

Prints median milliseconds and the ratio (torchvision / ours). Layers: the shapes of resdcn18 and DLA-34 at an
input of 512 x 512, batch 1, float32. "product" is the matrix product of the forward pass alone, which no
sampling method can avoid: torchvision's time divided by it bounds the ratio. The network: the resdcn18
backbone in evaluation mode, channels-last, where only the operator differs, in float32 and under
bfloat16 autocast (where torchvision computes in float32). benchmarks/backbones.py compares networks
prepared for inference.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from timing import alternate

from ctnet.backbones import create_backbone
from ctnet.ops.deform_conv import DeformConv, deform_conv2d
from ctnet.ops.fast import fast_paths

# (network, input channels, side of the map, output channels)
LAYERS = [
    ("resdcn18", 512, 16, 256),
    ("resdcn18", 256, 32, 128),
    ("resdcn18", 128, 64, 64),
    ("dla34", 512, 16, 256),
    ("dla34", 256, 32, 256),
    ("dla34", 256, 32, 128),
    ("dla34", 128, 64, 128),
    ("dla34", 128, 64, 64),
    ("dla34", 64, 128, 64),
]
PATHS = ("torchvision", "gather")
LAST = torch.channels_last
Clock = Callable[[], float]


def layer_inputs(channels: int, side: int, outputs: int) -> list[torch.Tensor]:
    """x, offset, weight, bias and mask as the layer sees them in a channels-last network."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(1, channels, side, side), (1, 18, side, side), (outputs, channels, 3, 3), (1, 9, side, side)]
    x, offset, weight, mask = (
        torch.randn(shape, generator=generator).contiguous(memory_format=torch.channels_last)
        for shape in shapes
    )
    return [x, 2 * offset, weight / (9 * channels) ** 0.5, torch.zeros(outputs), mask.sigmoid()]


def measure_layer(
    channels: int, side: int, outputs: int, repeats: int, clock: Clock
) -> dict[str, dict[str, float]]:
    inputs = layer_inputs(channels, side, outputs)
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    stock = [tensor.contiguous() for tensor in inputs]
    stock_leaves = [tensor.clone().requires_grad_() for tensor in stock]

    def forward(path: Any) -> Callable[[], Any]:
        tensors = inputs if path == "gather" else stock
        run = torch.no_grad()(lambda: deform_conv2d(*tensors, padding=1))
        return fast_paths(path == "gather")(run)

    def both(path: Any) -> Callable[[], Any]:
        tensors = leaves if path == "gather" else stock_leaves

        def run() -> None:
            out = deform_conv2d(*tensors, padding=1)
            torch.autograd.grad(out, tensors, torch.ones_like(out))

        return fast_paths(path == "gather")(run)

    error = (forward("gather")() - forward("torchvision")()).abs().max().item()
    assert error < 1e-3, f"the paths differ by {error}"
    columns = torch.randn(side * side, 9 * channels)
    product = torch.no_grad()(partial(F.linear, columns, inputs[2].flatten(1), inputs[3]))
    passes = {path: forward(path) for path in PATHS}
    return {
        "forward": alternate({**passes, "product": product}, repeats, clock),
        "forward + backward": alternate({path: both(path) for path in PATHS}, repeats, clock),
    }


def measure_network(dtype: torch.dtype, repeats: int, clock: Clock) -> dict[str, float]:
    network = _network()
    images = torch.randn(1, 3, 512, 512, generator=torch.Generator().manual_seed(1))
    batch = images.contiguous(memory_format=LAST)

    @torch.inference_mode()
    def forward(path: str) -> torch.Tensor:
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32), fast_paths(path == "gather"):
            return network(batch)[-1]  # type: ignore[no-any-return]

    stock = forward("torchvision").float()
    error = (forward("gather").float() - stock).std() / stock.std()
    assert error < (1e-4 if dtype == torch.float32 else 0.1), f"the networks differ by {error}"
    return alternate({path: partial(forward, path) for path in PATHS}, repeats, clock)


def _network() -> torch.nn.Module:
    torch.manual_seed(0)
    network = create_backbone("resdcn18").eval()
    for module in network.modules():
        if isinstance(module, DeformConv):
            torch.nn.init.normal_(module.conv_offset_mask.weight, std=0.01)
    return network.to(memory_format=LAST)  # type: ignore[call-overload,no-any-return]


def measure(repeats: int, clock: Clock) -> Iterator[tuple[str, dict[str, dict[str, float]]]]:
    """What is measured -> pass -> milliseconds by path."""
    for network, channels, side, outputs in LAYERS:
        what = f"{network} {channels} x {side} x {side} -> {outputs}"
        yield what, measure_layer(channels, side, outputs, repeats, clock)
    for dtype in (torch.float32, torch.bfloat16):
        name = f"forward, {str(dtype).removeprefix('torch.')}"
        yield "resdcn18, 512 x 512", {name: measure_network(dtype, repeats, clock)}


def _figures(times: dict[str, float]) -> str:
    stock, ours = times["torchvision"], times["gather"]
    text = f"{stock:>12.2f}{ours:>9.2f}{stock / ours:>7.1f}"
    return text + (f"{times['product']:>9.2f}{stock / times['product']:>7.1f}" if "product" in times else "")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument(
        "--json", action="store_true", help="one JSON document on stdout, the table on stderr"
    )
    parser.add_argument(
        "--cpu-time", action="store_true", help="of the process, for a busy machine; one thread"
    )
    options = parser.parse_args()
    clock = time.process_time if options.cpu_time else time.perf_counter
    table = sys.stderr if options.json else sys.stdout
    print(
        f"torch {torch.__version__}, {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
        file=table,
    )
    titles = f"{'torchvision':>12}{'ours':>9}{'ratio':>7}{'product':>9}{'bound':>7}"
    print(f"{'threads':>7}  {'what':<34}{'pass':<22}{titles}", file=table)
    rows = []
    for threads in [1] if options.cpu_time else options.threads:
        torch.set_num_threads(threads)
        for what, passes in measure(options.repeats, clock):
            for name, times in passes.items():
                print(f"{threads:>7}  {what:<34}{name:<22}{_figures(times)}", file=table, flush=True)
                rows.append({"threads": threads, "what": what, "pass": name, "milliseconds": times})
    if options.json:
        json.dump({"torch": torch.__version__, "unit": "ms, median", "rows": rows}, sys.stdout, indent=2)
        print()


if __name__ == "__main__":
    main()
