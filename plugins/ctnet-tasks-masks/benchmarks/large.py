"""Time and memory of 100 masks on a large image: decoding on the grid, and lifting into the image.

python plugins/ctnet-tasks-masks/benchmarks/large.py [WIDTH HEIGHT MASKS]
"""

from __future__ import annotations

import resource
import sys
import time
import tracemalloc

import torch
from ctnet_tasks_masks import InstanceMasks

from ctnet.core.fields import move_record
from ctnet.core.geometry import Affine, View
from ctnet.core.records import ImageInfo


def main() -> None:
    """Print what it takes."""
    width, height, masks = [*map(int, sys.argv[1:]), 4000, 3000, 100][:3]
    task = InstanceMasks(InstanceMasks.scenes.categories)
    generator = torch.Generator().manual_seed(0)
    shape = (height // 4, width // 4)
    maps = {
        name: torch.randn(1, head.channels, *shape, generator=generator) for name, head in task.heads.items()
    }
    maps["heatmap"] = maps["heatmap"].sigmoid()
    maps["size"] = 40 + 160 * torch.rand(1, 2, *shape, generator=generator)
    view = View(ImageInfo(1, "large", width, height), Affine.scaling(4))
    with torch.inference_mode():
        task.decode(maps, masks)
        before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
        found = task.decode(maps, masks).without("cells").per_image()[0]
        decoded = time.perf_counter() - start
    moved = move_record(found, view.affine, task.fields)
    tracemalloc.start()
    lifted = task.lift(moved, view)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    start = time.perf_counter()
    task.lift(moved, view)
    plain = time.perf_counter() - start
    start = time.perf_counter()
    task.overlap(lifted, lifted)
    overlap = time.perf_counter() - start
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sides = (lifted.boxes[:, 2:] - lifted.boxes[:, :2]).mean(axis=0)
    print(f"{masks} masks of {sides[0]:.0f}x{sides[1]:.0f} px on average, image of {width}x{height}")
    print(f"decode  {1000 * decoded:.0f} ms, windows of {found.windows.nbytes / 2**20:.1f} MiB")
    print(f"lift    {1000 * plain:.0f} ms, at most {peak / 2**20:.1f} MiB")
    print(f"kept    {sum(len(mask.counts) for mask in lifted.mask) / 2**20:.2f} MiB of run lengths")
    print(f"overlap {1000 * overlap:.0f} ms, all pairs")
    print(f"the process: {before / 2**10:.0f} MiB before, {largest / 2**10:.0f} MiB at most (maps included)")
    print(f"as full masks: {masks * width * height / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
