"""A data directory against the same data in one file: opening it, and loading training batches from it.

    python benchmarks/packs.py [--images 20000] [--side 128] [--loaded 6000] [--turns 3] [--json]

Every measurement runs in a process of its own, the two kinds alternating; medians are printed. The files are
in the system's page cache. "memory" is the proportional share (PSS) of the process and its workers together,
"files" the number of regular files that they hold open while loading.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

from timing import machine

WORKERS = (1, 4)
BATCH = 32


def worker(chosen: argparse.Namespace) -> None:
    """Open the data, load batches, and print the figures as JSON."""
    import psutil

    from ctnet.core.recipe import Augmentation
    from ctnet.core.task import create_task
    from ctnet.data.dataset import Dataset
    from ctnet.data.loader import Loader, TrainingSet

    begun = time.perf_counter()
    dataset = Dataset.open(chosen.data, "train")
    figures: dict[str, Any] = {"open": time.perf_counter() - begun}
    if chosen.workers:
        task = create_task("ctdet", dataset.categories)
        samples = TrainingSet(dataset.with_task(task), task, (chosen.side, chosen.side), Augmentation())
        batches = Loader(samples, BATCH, chosen.workers).epoch(0)
        for _ in islice(batches, 2 * chosen.workers):  # what the workers load while they start
            pass
        begun, images = time.perf_counter(), 0
        for batch in islice(batches, chosen.loaded // BATCH):
            images += len(batch)
        figures["rate"] = images / (time.perf_counter() - begun)
        processes = [psutil.Process(), *psutil.Process().children()]
        figures["memory"] = sum(process.memory_full_info().pss for process in processes) / 1e6
        figures["files"] = sum(len(process.open_files()) for process in processes)
    print(json.dumps(figures))


def measure(data: Path, workers: int, chosen: argparse.Namespace, cache: Path) -> dict[str, float]:
    """The figures of one process."""
    own = ["--worker", "--data", data, "--workers", workers, "--side", chosen.side, "--loaded", chosen.loaded]
    done = subprocess.run(
        [sys.executable, __file__, *map(str, own)],
        capture_output=True,
        text=True,
        env={**os.environ, "CTNET_CACHE": str(cache), "OMP_NUM_THREADS": "1"},
    )
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def compare(folder: Path, chosen: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Draw the scenes, pack them, and measure both kinds, alternating."""
    from ctnet.core.task import create_task
    from ctnet.data.pack import pack_directory
    from ctnet.data.shape_scenes import SHAPES
    from ctnet.data.synthetic import write_dataset

    kinds = {"loose files": folder / "data", "pack": folder / "data.h5"}
    size = (chosen.side, chosen.side)
    write_dataset(create_task("ctdet", SHAPES), kinds["loose files"], {"train": chosen.images}, size)
    begun = time.perf_counter()
    pack_directory(kinds["loose files"], kinds["pack"])
    print(f"packing took {time.perf_counter() - begun:.1f} s", flush=True)
    found: dict[str, dict[str, list[float]]] = {kind: {} for kind in kinds}
    for turn in range(chosen.turns):
        for workers in (0, *WORKERS):
            for kind, data in kinds.items():
                # Without workers only opening is measured: the first time, then with the cache of the first.
                caches = ["first", "again"] if workers == 0 else ["loading"]
                for name in caches:
                    own = folder / f"cache-{kind}-{turn if workers == 0 else 'loading'}"
                    for key, value in measure(data, workers, chosen, own).items():
                        if (key == "open") == (workers == 0):
                            label = f"open, {name}" if key == "open" else f"{key}, {workers} workers"
                            found[kind].setdefault(label, []).append(value)
    medians = {
        kind: {name: statistics.median(values) for name, values in columns.items()}
        for kind, columns in found.items()
    }
    paths = [path for path in kinds["loose files"].rglob("*") if path.is_file()]
    medians["loose files"] |= {"MB on disk": sum(path.stat().st_size for path in paths) / 1e6}
    medians["loose files"]["files on disk"] = len(paths)
    medians["pack"] |= {"MB on disk": kinds["pack"].stat().st_size / 1e6, "files on disk": 1}
    return medians


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--side", type=int, default=128, help="of images and input, pixels")
    parser.add_argument("--loaded", type=int, default=6000, help="images that are timed in each turn")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--workers", type=int, default=0, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.worker:
        worker(chosen)
        return
    print(machine())
    with tempfile.TemporaryDirectory() as name:
        medians = compare(Path(name), chosen)
    if chosen.json:
        print(json.dumps(medians))
        return
    loose, pack = medians["loose files"], medians["pack"]
    print(f"{chosen.images} images, medians of {chosen.turns} turns")
    print(f"{'':24} {'loose files':>12} {'pack':>12} {'ratio':>7}")
    for key, value in loose.items():
        ratio = pack[key] / value if value else float("nan")
        print(f"{key:24} {value:12.3f} {pack[key]:12.3f} {ratio:7.3f}")


if __name__ == "__main__":
    main()
