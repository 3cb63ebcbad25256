"""Opening a COCO file as large as the real one: ctnet's first reading and its index, against pycocotools.

    python benchmarks/open_dataset.py [--images 118287] [--json]

Makes a file with as many images, boxes and polygons as COCO's train2017 (about 450 MB) in a temporary folder.
Every measurement runs in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import psutil

IMAGES = 118_287
BOXES_PER_IMAGE = 860_001 / IMAGES
VISITS = 5_000


def write_coco(path: Path, images: int, boxes: int) -> None:
    """A COCO file with random boxes and polygons; annotations not ordered by image."""
    rng = np.random.default_rng(0)
    categories = [{"supercategory": "thing", "id": i, "name": f"thing {i}"} for i in range(1, 91) if i % 9]
    numbers = [f"{number:.2f}" for number in rng.uniform(0, 600, 50_000)]
    with open(path, "w", encoding="utf-8") as stream:
        stream.write('{"info": {"year": 2017}, "licenses": [], "images": [')
        for image in range(1, images + 1):
            name = f"{image:012d}.jpg"
            entry = {
                "license": 3,
                "file_name": name,
                "coco_url": f"http://images.example.org/train2017/{name}",
                "height": 640,
                "width": 640,
                "date_captured": "2013-11-14 11:18:45",
                "flickr_url": f"http://farm9.example.com/8186/{rng.integers(10**9)}_z.jpg",
                "id": image,
            }
            stream.write(json.dumps(entry) + (", " if image < images else "], "))
        stream.write('"annotations": [')
        image_ids = rng.integers(1, images + 1, boxes).tolist()
        corners = rng.uniform(0, 320, (boxes, 4)).round(2).tolist()
        lengths = 6 + 2 * rng.geometric(1 / 20, boxes).clip(max=500)
        starts = rng.integers(0, len(numbers) - 1006, boxes)
        for row, (image_id, box) in enumerate(zip(image_ids, corners, strict=True)):
            polygon = ", ".join(numbers[starts[row] : starts[row] + lengths[row]])
            stream.write(
                f'{{"segmentation": [[{polygon}]], "area": {box[2] * box[3] / 2:.4f}, "iscrowd": 0, '
                f'"image_id": {image_id}, "bbox": {[box[0], box[1], box[2] + 1, box[3] + 1]}, '
                f'"category_id": {categories[row % 80]["id"]}, "id": {row + 1}}}'
            )
            stream.write(", " if row < boxes - 1 else "], ")
        stream.write(f'"categories": {json.dumps(categories)}}}')


def open_ctnet(path: Path) -> tuple[Any, dict[str, float]]:
    from ctnet.data.dataset import Dataset

    return timed(lambda: Dataset.from_file(path, [path.parent]))


def open_pycocotools(path: Path) -> tuple[Any, dict[str, float]]:
    from pycocotools.coco import COCO

    with redirect_stdout(sys.stderr):
        return timed(lambda: COCO(str(path)))


def visit_ctnet(path: Path) -> tuple[Any, dict[str, float]]:
    """What training does: open the data set, fork a worker, and look at images there in random order."""
    dataset, figures = open_ctnet(path)
    with multiprocessing.get_context("fork").Pool(1, _share, (dataset,)) as pool:
        return dataset, figures | pool.apply(visit)


def _share(dataset: Any) -> None:
    global shared
    shared = dataset


def visit() -> dict[str, float]:
    """Microseconds for the arrays of an image and for all fields of its annotations; memory afterwards."""
    order = np.random.default_rng(1).integers(0, len(shared), VISITS).tolist()
    _, arrays = timed(lambda: [shared.annotations(index).boxes for index in order])
    _, entries = timed(lambda: [len(list(shared.annotations(index))) for index in order])
    return {
        "arrays_us": arrays["seconds"] / VISITS * 1e6,
        "entries_us": entries["seconds"] / VISITS * 1e6,
        "worker_resident_mb": resident(),
        "worker_own_mb": psutil.Process().memory_full_info().uss / 1e6,
    }


def timed(function: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    before = resident()
    started = time.perf_counter()
    result = function()
    return result, {"seconds": time.perf_counter() - started, "before_mb": before}


def resident() -> float:
    return psutil.Process().memory_info().rss / 1e6


def peak() -> float:
    import resource

    return (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
    )


MEASUREMENTS = {
    "pycocotools": open_pycocotools,
    "first": open_ctnet,
    "index": open_ctnet,
    "worker": visit_ctnet,
}


def measure(name: str, path: Path) -> dict[str, float]:
    """Run one measurement in a fresh process."""
    command = [sys.executable, __file__, "--measure", name, "--file", str(path)]
    environment = {**os.environ, "CTNET_CACHE": str(path.parent / "cache")}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout))


def report(figures: dict[str, Any]) -> None:
    print(f"{figures['images']} images, {figures['boxes']} boxes, {figures['file_mb']:.0f} MB of JSON")
    print(f"{'':24}{'seconds':>10}{'memory MB':>12}{'peak MB':>12}   (besides what the imports take)")
    titles = {
        "pycocotools": "pycocotools COCO()",
        "first": "ctnet, first time",
        "index": "ctnet, from the index",
    }
    for name, title in titles.items():
        row = figures[name]
        memory, most = row["resident_mb"] - row["before_mb"], row["peak_mb"] - row["before_mb"]
        print(f"{title:24}{row['seconds']:10.2f}{memory:12.0f}{most:12.0f}   ({row['before_mb']:.0f})")
    baseline = figures["pycocotools"]
    for name in ("first", "index"):
        row = figures[name]
        speed = baseline["seconds"] / row["seconds"]
        memory = (baseline["resident_mb"] - baseline["before_mb"]) / (row["resident_mb"] - row["before_mb"])
        print(f"{titles[name]}: {speed:.1f}x as fast as pycocotools, 1/{memory:.1f} of its memory")
    worker = figures["worker"]
    print(
        f"a forked worker after {VISITS} random images: {worker['worker_resident_mb']:.0f} MB resident, "
        f"{worker['worker_own_mb']:.0f} MB its own; an image's arrays {worker['arrays_us']:.0f} us, "
        f"all fields of its annotations {worker['entries_us']:.0f} us"
    )
    print(f"index file {figures['index_mb']:.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--measure", choices=MEASUREMENTS, help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        kept, figures = MEASUREMENTS[arguments.measure](arguments.file)
        print(json.dumps({**figures, "resident_mb": resident(), "peak_mb": peak()}))
        del kept
        return
    boxes = round(arguments.images * BOXES_PER_IMAGE)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "instances_train.json"
        write_coco(path, arguments.images, boxes)
        results: dict[str, Any] = {
            "processor": platform.processor() or platform.machine(),
            "python": platform.python_version(),
            "images": arguments.images,
            "boxes": boxes,
            "file_mb": path.stat().st_size / 1e6,
        }
        results |= {name: measure(name, path) for name in MEASUREMENTS}
        results["index_mb"] = sum(file.stat().st_size for file in (path.parent / "cache").glob("*")) / 1e6
    if arguments.json:
        print(json.dumps(results, indent=2))
    else:
        report(results)


if __name__ == "__main__":
    main()
