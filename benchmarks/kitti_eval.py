"""The KITTI evaluation of results for every frame with labels: seconds and memory, and a slow reference.

    python benchmarks/kitti_eval.py LABELS [--iou shipped] [--per-frame 0] [--check 100] [--json]

LABELS is a folder or zip of KITTI's label files. The results are the labels, shifted, with false ones among
them and some missing; they are random, from a fixed seed. ``--per-frame 100`` adds as many wrong
detections of low score to every frame, as a detector without a score threshold does. The reference, which
applies the rules frame by frame in plain Python, runs on the first ``--check`` frames, and must give the same
counts and curves."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ctnet_tasks_ddd.frame_files import FrameFiles
from ctnet_tasks_ddd.kitti_eval import KittiResult, evaluate

REFERENCE = Path(__file__).parents[1] / "tests" / "ctnet_tasks_ddd" / "slow_kitti_eval.py"
TYPES = ("Car", "Pedestrian", "Cyclist")


def moved(line: str, rng: np.random.Generator) -> str:
    """A label as a detector might see it; empty where it misses it."""
    fields = line.split()
    numbers = np.array(fields[1:], float)
    if fields[0] == "DontCare" or rng.random() < 0.15:
        return ""
    numbers[:2] = -1
    numbers[2] += rng.normal(0, 0.1) + (np.pi if rng.random() < 0.03 else 0)
    sides = np.tile(numbers[5:7] - numbers[3:5], 2)
    numbers[3:7] += rng.normal(0, 0.03, 4) * sides
    numbers[7:10] *= rng.normal(1, 0.04, 3)
    numbers[10:13] += rng.normal(0, 0.02, 3) * abs(numbers[12])
    numbers[13] += rng.normal(0, 0.1)
    return f"{fields[0]} {' '.join(f'{number:.2f}' for number in numbers)} {rng.random():.4f}\n"


def wrong(rng: np.random.Generator, highest: float) -> str:
    left, top = rng.uniform(0, 1100), rng.uniform(120, 250)
    x, z = rng.uniform(-20, 20), rng.uniform(4, 70)
    width, height = rng.uniform(15, 120, 2)
    kind = TYPES[rng.integers(3)]
    return (
        f"{kind} -1 -1 {rng.uniform(-3, 3):.2f} {left:.2f} {top:.2f} {left + width:.2f} {top + height:.2f} "
        f"1.60 1.60 3.90 {x:.2f} 1.65 {z:.2f} {rng.uniform(-3, 3):.2f} {rng.uniform(0, highest):.4f}\n"
    )


def make_results(labels: FrameFiles, folder: Path, per_frame: int) -> int:
    rng = np.random.default_rng(0)
    count = 0
    for name in labels.names:
        lines = [moved(line, rng) for line in labels.read(name).splitlines()]
        lines += [wrong(rng, 0.8) for _ in range(rng.poisson(1.5))]
        lines += [wrong(rng, 0.3) for _ in range(per_frame)]
        (folder / f"{name}.txt").write_text("".join(lines))
        count += sum(map(bool, lines))
    return count


def load_reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("slow_kitti_eval", REFERENCE)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(REFERENCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def compare(labels: Path, results: Path, names: tuple[str, ...], iou: str) -> dict[str, float]:
    """Seconds of both on a few frames, and how far their curves differ; raises if a count differs."""
    started = time.perf_counter()
    fast = evaluate(labels, results, names, iou)
    seconds = time.perf_counter() - started
    files = FrameFiles(labels, ("training/label_2", "label_2")), FrameFiles(results)
    started = time.perf_counter()
    slow = load_reference().evaluate([tuple(side.read(name) for side in files) for name in names], iou)
    slow_seconds = time.perf_counter() - started
    return {
        "frames": len(names),
        "seconds": seconds,
        "reference": slow_seconds,
        "difference": differ(fast, slow),
    }


def differ(fast: KittiResult, slow: dict[str, Any]) -> float:
    most = 0.0
    for name, metrics in slow.items():
        for metric, levels in metrics.items():
            for level, expected in levels.items():
                figure = fast.figures[name][metric][level]
                for key in ("objects", "right", "wrong", "missed"):
                    assert np.array_equal(getattr(figure, key), expected[key]), (name, metric, level, key)
                curves = [(figure.curve, expected["curve"])]
                if metric == "detection":
                    curves.append((fast.figures[name]["orientation"][level].curve, expected["similarity"]))
                most = max(most, *(float(np.abs(ours - np.array(theirs)).max()) for ours, theirs in curves))
    return most


def peak_megabytes() -> float:
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most * (1 if sys.platform == "darwin" else 1024) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("labels", type=Path)
    parser.add_argument("--iou", default="shipped", choices=["strict", "shipped", "half"])
    parser.add_argument("--per-frame", type=int, default=0)
    parser.add_argument("--check", type=int, default=100, help="frames for the reference; 0: leave it out")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    labels = FrameFiles(arguments.labels, ("training/label_2", "label_2"))
    with tempfile.TemporaryDirectory() as folder:
        count = make_results(labels, Path(folder), arguments.per_frame)
        before, seconds = peak_megabytes(), []
        for _ in range(arguments.repeats):
            started = time.perf_counter(), time.process_time()
            result = evaluate(arguments.labels, folder, iou=arguments.iou)
            seconds.append((time.perf_counter() - started[0], time.process_time() - started[1]))
        figures: dict[str, Any] = {
            "frames": result.frames,
            "detections": count,
            "iou": arguments.iou,
            "seconds": statistics.median(wall for wall, _ in seconds),
            "processor_seconds": statistics.median(own for _, own in seconds),
            "peak_megabytes": peak_megabytes(),
            "before_megabytes": before,
            "processor": platform.processor() or platform.machine(),
            "threads": os.environ.get("OMP_NUM_THREADS", "default"),
            "car_3d_moderate_R40": result.figures["car"]["3d"]["moderate"].R40,
        }
        if arguments.check:
            names = labels.names[: arguments.check]
            figures["check"] = compare(arguments.labels, Path(folder), names, arguments.iou)
    if arguments.json:
        print(json.dumps(figures, indent=2))
        return
    print(f"{figures['frames']} frames, {count} detections, thresholds {arguments.iou}")
    print(
        f"{figures['seconds']:.2f} s, of the processor {figures['processor_seconds']:.2f} s "
        f"(medians of {len(seconds)}), files read and parsed included"
    )
    print(
        f"peak memory {figures['peak_megabytes']:.0f} MB, {before:.0f} MB of it before the evaluation began"
    )
    if arguments.check:
        check = figures["check"]
        print(
            f"the first {check['frames']}: {check['seconds']:.2f} s, slowly {check['reference']:.1f} s; "
            f"equal counts, curves differ by {check['difference']:.1e} at most"
        )


if __name__ == "__main__":
    main()
