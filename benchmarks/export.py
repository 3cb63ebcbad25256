"""Exported files against ctnet's own detector: milliseconds per image, interleaved within one run.

    python benchmarks/export.py RUN [--data DIR] [--sizes 256,512] [--threads 1,2] [--turns 15] [--json]

The time measured is that from an image in memory to its detections on the grid: ctnet's prepared network with
its decoding, the same network as plain torch modules, and the graph in each runtime. ``--data`` calibrates
8-bit convolutions on the train split, and adds them to the table. Columns alternate; the medians are
printed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ctnet.analysis.exporting import export_run
from ctnet.analysis.speed import hardware
from ctnet.base.device import normalise
from ctnet.base.errors import CtnetError
from ctnet.checkpoint import load, load_model
from ctnet.export.graph import GraphSettings
from ctnet.inference.detector import checkpoint_of
from ctnet.inference.prepare import prepare_for_inference
from ctnet.inference.runtimes import open_exported

Runner = Callable[[np.ndarray], object]


def torch_runner(run: Path, prepared: bool) -> Runner:
    checkpoint = load(checkpoint_of(run))
    task, model = load_model(checkpoint)
    network = prepare_for_inference(model) if prepared else model.eval()
    described = checkpoint.description

    @torch.inference_mode()
    def detect(images: np.ndarray) -> object:
        inputs = normalise(torch.from_numpy(images), described.mean, described.std)
        if not prepared:
            inputs = inputs.contiguous()
        return task.decode(network.activated(inputs), 100)

    return detect


def export_all(run: Path, data: Path | None, folder: Path) -> dict[str, Path]:
    files = {}
    for name, suffix, int8 in (
        ("ONNX Runtime", ".onnx", None),
        ("OpenVINO", ".xml", None),
        ("ONNX Runtime int8", ".onnx", data),
        ("OpenVINO int8", ".xml", data),
    ):
        if int8 is None and "int8" in name:
            continue
        path = folder / f"{name.replace(' ', '-')}{suffix}"
        try:
            export_run(run, path, GraphSettings(), int8=int8)
        except CtnetError as error:
            print(f"{name}: {error}")
            continue
        files[name] = path
    return files


def measure(runners: dict[str, Runner], size: int, turns: int) -> dict[str, float]:
    images = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), dtype=np.uint8)
    seconds: dict[str, list[float]] = {name: [] for name in runners}
    for turn in range(turns + 2):
        for name, runner in runners.items():
            begun = time.perf_counter()
            runner(images)
            if turn >= 2:
                seconds[name].append(time.perf_counter() - begun)
    return {name: 1000 * statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--sizes", default="256,512")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        files = export_all(chosen.run, chosen.data, Path(folder))
        for threads in map(int, chosen.threads.split(",")):
            torch.set_num_threads(threads)
            runners = {
                "ctnet": torch_runner(chosen.run, True),
                "plain torch": torch_runner(chosen.run, False),
            }
            runners |= {name: open_exported(path, threads).run for name, path in files.items()}
            for size in map(int, chosen.sizes.split(",")):
                figures = measure(runners, size, chosen.turns)
                rows.append({"size": size, "threads": threads, **figures})
    if chosen.json:
        print(json.dumps({"hardware": hardware(torch.device("cpu")), "rows": rows}, indent=2))
        return
    print(f"ms per image, medians of {chosen.turns} turns, {hardware(torch.device('cpu'))}")
    for row in rows:
        print(", ".join(f"{name} {value:.1f}" for name, value in row.items()))


if __name__ == "__main__":
    main()
