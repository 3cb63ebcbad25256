"""Deformable convolution on the CPU: ours against torchvision's, layer by layer and as a whole network.

    python benchmarks/deform_conv.py [--json] [--threads 1 2] [--repeats 9]

Prints median milliseconds and the ratio (torchvision / ours). Layers: the shapes of resdcn18 and DLA-34 at an
input of 512 x 512, batch 1, float32. The network: the resdcn18 backbone in evaluation mode. "operator only"
changes nothing but the operator; "as used" compares ctnet's way (channels-last) with torchvision's operator
in the default memory layout. Both also under bfloat16 autocast, where torchvision computes in float32.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable
from typing import Any

import torch
from timing import alternate

from ctnet.backbones import create_backbone
from ctnet.backbones.deform_conv import DeformConv, deform_conv2d

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


def layer_inputs(channels: int, side: int, outputs: int) -> list[torch.Tensor]:
    """x, offset, weight, bias and mask as the layer sees them in a channels-last network."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(1, channels, side, side), (1, 18, side, side), (outputs, channels, 3, 3), (1, 9, side, side)]
    x, offset, weight, mask = (
        torch.randn(shape, generator=generator).contiguous(memory_format=torch.channels_last)
        for shape in shapes
    )
    return [x, 2 * offset, weight / (9 * channels) ** 0.5, torch.zeros(outputs), mask.sigmoid()]


def measure_layer(channels: int, side: int, outputs: int, repeats: int) -> dict[str, dict[str, float]]:
    inputs = layer_inputs(channels, side, outputs)
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    stock = [tensor.contiguous() for tensor in inputs]
    stock_leaves = [tensor.clone().requires_grad_() for tensor in stock]

    def forward(path: Any) -> Callable[[], Any]:
        tensors = inputs if path == "gather" else stock
        return torch.no_grad()(lambda: deform_conv2d(*tensors, padding=1, path=path))

    def both(path: Any) -> Callable[[], Any]:
        tensors = leaves if path == "gather" else stock_leaves

        def run() -> None:
            out = deform_conv2d(*tensors, padding=1, path=path)
            torch.autograd.grad(out, tensors, torch.ones_like(out))

        return run

    error = (forward("gather")() - forward("torchvision")()).abs().max().item()
    assert error < 1e-3, f"the paths differ by {error}"
    return {
        "forward": alternate({path: forward(path) for path in PATHS}, repeats),
        "forward + backward": alternate({path: both(path) for path in PATHS}, repeats),
    }


def measure_network(dtype: torch.dtype, stock_layout: torch.memory_format, repeats: int) -> dict[str, float]:
    networks = {"torchvision": _network("torchvision", stock_layout), "gather": _network("gather", LAST)}
    images = torch.randn(1, 3, 512, 512, generator=torch.Generator().manual_seed(1))

    def forward(path: str, layout: torch.memory_format) -> Callable[[], torch.Tensor]:
        network, batch = networks[path], images.contiguous(memory_format=layout)

        @torch.inference_mode()
        def run() -> torch.Tensor:
            with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                return network(batch)[-1]

        return run

    functions = {"torchvision": forward("torchvision", stock_layout), "gather": forward("gather", LAST)}
    stock = functions["torchvision"]().float()
    error = (functions["gather"]().float() - stock).std() / stock.std()
    assert error < (1e-4 if dtype == torch.float32 else 0.1), f"the networks differ by {error}"
    return alternate(functions, repeats)


def _network(path: Any, layout: torch.memory_format) -> torch.nn.Module:
    torch.manual_seed(0)
    network = create_backbone("resdcn18").eval()
    for module in network.modules():
        if isinstance(module, DeformConv):
            module.path = path
            torch.nn.init.normal_(module.conv_offset_mask.weight, std=0.01)
    return network.to(memory_format=layout)  # type: ignore[call-overload,no-any-return]


def measure_networks(repeats: int) -> dict[str, dict[str, float]]:
    measured = {}
    for dtype in (torch.float32, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        measured[f"{name}, operator only"] = measure_network(dtype, LAST, repeats)
        measured[f"{name}, as used"] = measure_network(dtype, torch.contiguous_format, repeats)
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument(
        "--json", action="store_true", help="one JSON document on stdout, the table on stderr"
    )
    options = parser.parse_args()
    table = sys.stderr if options.json else sys.stdout
    print(
        f"torch {torch.__version__}, {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
        file=table,
    )
    print(f"{'threads':>7}  {'what':<34}{'pass':<26}{'torchvision':>12}{'ours':>9}{'ratio':>7}", file=table)
    rows = []
    for threads in options.threads:
        torch.set_num_threads(threads)
        measured = {
            f"{network} {channels} x {side} x {side} -> {outputs}": measure_layer(
                channels, side, outputs, options.repeats
            )
            for network, channels, side, outputs in LAYERS
        }
        measured["resdcn18, 512 x 512"] = measure_networks(options.repeats)
        for what, passes in measured.items():
            for name, times in passes.items():
                stock, ours = times["torchvision"], times["gather"]
                row = {
                    "threads": threads,
                    "what": what,
                    "pass": name,
                    "torchvision_ms": stock,
                    "ours_ms": ours,
                }
                rows.append({**row, "ratio": stock / ours})
                print(
                    f"{threads:>7}  {what:<34}{name:<26}{stock:>12.2f}{ours:>9.2f}{stock / ours:>7.1f}",
                    file=table,
                )
    if options.json:
        json.dump({"torch": torch.__version__, "unit": "ms, median", "rows": rows}, sys.stdout, indent=2)
        print()


if __name__ == "__main__":
    main()
