"""Targets of a training batch: ragged and rendered in one call, against dense maps drawn object by object.

    python benchmarks/targets.py [--batch 16] [--objects 20] [--repeats 15]

16 images, 80 classes, a 128x128 grid. "dense" is the usual way: every worker draws Gaussians into an
(80, 128, 128) array in a Python loop, and the batch is stacked. Also printed: the bytes sent from a worker to
the training process.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from timing import alternate, machine, report

from ctnet.core.records import Instances
from ctnet.core.targets import Grid, Peaks, collate_targets
from ctnet.core.task import create_task
from ctnet.heatmap import draw_gaussians

CLASSES, SIDE = 80, 128


def draw_dense(peaks: Peaks) -> np.ndarray:
    """One image's heatmap, object by object."""
    canvas = np.zeros((CLASSES, SIDE, SIDE), np.float32)
    columns = (peaks.x.tolist(), peaks.y.tolist(), peaks.radius.tolist(), peaks.channel.tolist())
    for x, y, radius, channel in zip(*columns, strict=True):
        across = np.arange(-radius, radius + 1)
        sigma = (2 * radius + 1) / 6
        blob = np.exp(-(across[None] ** 2 + across[:, None] ** 2) / (2 * sigma**2))
        column, row = int(x), int(y)
        left, right = min(column, radius), min(SIDE - column, radius + 1)
        top, bottom = min(row, radius), min(SIDE - row, radius + 1)
        window = canvas[channel, row - top : row + bottom, column - left : column + right]
        np.maximum(window, blob[radius - top : radius + bottom, radius - left : radius + right], out=window)
    return canvas


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--objects", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    print(machine())
    task = create_task("ctdet", [{"id": i + 1, "name": str(i)} for i in range(CLASSES)])
    rng = np.random.default_rng(0)
    images = []
    for _ in range(arguments.batch):
        corner = rng.uniform(0, 110, (arguments.objects, 2))
        size = np.exp(rng.uniform(np.log(2), np.log(60), (arguments.objects, 2)))
        boxes = np.concatenate([corner, corner + size], 1)
        images.append(Instances.of(boxes, rng.integers(0, CLASSES, arguments.objects)))
    grid = Grid(SIDE, SIDE)
    encoded = [task.encode(instances, grid) for instances in images]
    shape = (len(images), CLASSES, SIDE, SIDE)

    def ragged() -> torch.Tensor:
        joined = collate_targets([target["heatmap"] for target in encoded])
        assert isinstance(joined, Peaks)
        return draw_gaussians(joined, shape)

    def dense() -> torch.Tensor:
        maps = [draw_dense(target["heatmap"]) for target in encoded]  # type: ignore[arg-type]
        return torch.from_numpy(np.stack(maps))

    torch.testing.assert_close(ragged(), dense())
    report(
        "rendering a batch",
        alternate({"ragged": ragged, "dense": dense}, arguments.repeats),
        "ragged",
        "dense",
    )
    times = alternate({"encode": lambda: [task.encode(i, grid) for i in images]}, arguments.repeats)
    print(f"encoding {len(images)} images of {arguments.objects} objects: {times['encode']:.2f} ms")
    joined = collate_targets([target["heatmap"] for target in encoded])
    light = sum(v.numel() * v.element_size() for v in vars(joined).values() if isinstance(v, torch.Tensor))
    heavy = 4 * int(np.prod(shape))
    print(f"bytes from worker to trainer: {light:,} ragged, {heavy:,} dense, ratio {heavy / light:,.0f}")


if __name__ == "__main__":
    main()
