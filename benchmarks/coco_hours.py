"""How long a training on COCO takes: computed from a measured step, or from its floating-point operations.

    python benchmarks/coco_hours.py [--backbones dla34 ...] [--size 512] [--epochs 140] [--batch 128]
    python benchmarks/coco_hours.py --step 0.45 --batch 128 --gpus 8

With ``--step``, the seconds of a step measured where it will run (`ctnet train` prints the images per second;
`benchmarks/gpu.py` measures steps), it prints hours. Without, it counts the operations of forward pass and
losses' maps with torch's counter, on tensors without numbers, takes three times as many for a whole step, and
prints hours at a sustained rate of 10, 50 and 100 TFLOP/s: an estimate, not a measurement.
"""

from __future__ import annotations

import argparse
import math
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from ctnet.base.output import print_line, print_table
from ctnet.core.task import create_task
from ctnet.model import create_model

#: Images of COCO's train2017 with annotations of objects or without; the release trains on all.
IMAGES = 118_287
RATES = (10, 50, 100)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbones", nargs="+", default=["resfpn18", "resdcn18", "dla34", "hourglass104"])
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--epochs", type=int, default=140)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--step", type=float, default=0.0)
    parser.add_argument("--gpus", type=int, default=1)
    options = parser.parse_args()
    steps = options.epochs * math.ceil(IMAGES / options.batch)
    if options.step:
        hours = steps * options.step / 3600
        total = f"{hours * options.gpus:.0f} GPU hours"
        print_line(f"{steps} steps of {options.batch} images: {hours:.1f} hours, {total}")
        return
    rows = []
    for name in options.backbones:
        operations = 3 * forward_operations(name, options.size)
        total = operations * IMAGES * options.epochs
        hours = [total / (rate * 1e12) / 3600 for rate in RATES]
        rows.append([name, f"{operations / 1e9:.0f}", *(f"{value:.1f}" for value in hours)])
    print_table(["backbone", "GFLOP per image", *(f"hours at {rate} TFLOP/s" for rate in RATES)], rows)


def forward_operations(backbone: str, side: int) -> float:
    """Floating-point operations of an image's forward pass, heads included."""
    categories = [{"id": number, "name": f"class {number}"} for number in range(1, 81)]
    with torch.device("meta"):
        model = create_model(create_task("ctdet", categories), backbone).eval()
        image = torch.zeros(1, 3, side, side)
    deformable = {torch.ops.torchvision.deform_conv2d: _deformable}
    counter = FlopCounterMode(display=False, custom_mapping=deformable)
    with counter, torch.no_grad():
        model(image)
    return float(counter.get_total_flops())


def _deformable(image: Any, weight: Any, *others: Any, out_shape: Any, **more: Any) -> int:
    """Those of a deformable convolution: those of a plain one, and four products for every sampled value."""
    samples = math.prod(out_shape) // out_shape[1] * math.prod(weight[1:])
    return 2 * samples * int(weight[0]) + 8 * samples


if __name__ == "__main__":
    main()
