"""Two processes of one thread against one process of two threads, and what a step sums over processes.

    python benchmarks/ranks.py [--backbone resfpn18] [--size 128] [--batch-size 8] [--images 64] [--turns 5]

Both train on the task's own scenes; they alternate, and the medians of images per second are printed with
their ratio. ``--bytes`` prints instead the bytes of gradients that a step sums, by backbone, and the
efficiency computed from them for several GPUs; only the number of weights is measured then.
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
from pathlib import Path

#: A link between GPUs, gigabytes per second in one direction, and seconds per training step on one GPU.
LINKS = {"NVLink, 200 GB/s": 200e9, "PCIe 4, 20 GB/s": 20e9, "10 Gbit Ethernet, 1 GB/s": 1e9}
STEP_SECONDS = 0.25
#: The fraction of the backward pass in which gradients are sent while others are still computed.
OVERLAP = 0.5


def worker(chosen: argparse.Namespace) -> None:
    """One process of a job: trains one epoch without counting it, then one that counts."""
    import torch

    from ctnet.base.ranks import launched_ranks
    from ctnet.training.display import Silent
    from ctnet.training.request import Loop, Machine, Network, RecipeChoice, TrainingData
    from ctnet.training.session import new_session

    torch.set_num_threads(chosen.threads)
    with launched_ranks() as ranks:
        fields = {"epochs": 2, "batch_size": chosen.batch_size, "size": (chosen.size, chosen.size)}
        session = new_session(
            "ctdet",
            TrainingData(Path(chosen.data), val_split=None, overfit=chosen.images),
            Network(backbone=chosen.backbone),
            RecipeChoice("small", fields),
            Loop(amp="off"),
            Machine("cpu", 0, Silent(), ranks),
            Path(chosen.output),
        )
        trainer = session.trainer
        trainer._connect()
        seconds = []
        for epoch in range(2):
            begun = time.perf_counter()
            for step in trainer.gradients.steps(trainer.loader.epoch(epoch), 1):
                trainer._losses_and_gradients(step)
                trainer._step()
            seconds.append(time.perf_counter() - begun)
        if ranks.is_first:
            print(json.dumps({"rate": chosen.images / seconds[1]}))
        session.run.release()


def measure(chosen: argparse.Namespace, processes: int, threads: int, folder: Path, turn: int) -> float:
    """Images per second."""
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes)] if processes > 1 else []
    own = [__file__, "--worker", "--threads", threads, "--output", folder / f"{processes}-{turn}"]
    given = ["--data", chosen.data, "--backbone", chosen.backbone, "--size", chosen.size]
    given += ["--batch-size", chosen.batch_size, "--images", chosen.images]
    done = subprocess.run(
        [sys.executable, *launcher, *map(str, [*own, *given])],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": str(threads), "TORCH_CPP_LOG_LEVEL": "ERROR"},
    )
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    return float(json.loads(done.stdout.splitlines()[-1])["rate"])


def print_bytes() -> None:
    """Bytes per step by backbone, and computed efficiencies."""
    from ctnet.core.task import create_task
    from ctnet.data.shape_scenes import SHAPES
    from ctnet.model import create_model

    task = create_task("ctdet", SHAPES)
    counts = (2, 4, 8, 16, 32, 64)
    print(f"computed, not measured: a step of {1000 * STEP_SECONDS:.0f} ms, half of it hides the sums")
    print(f"{'backbone':<14} MB a step  link " + " ".join(f"{count:>5}" for count in counts) + " GPUs")
    for name in ("resfpn18", "resdcn18", "resdcn101", "dla34", "hourglass104"):
        size = 4 * sum(parameter.numel() for parameter in create_model(task, name).parameters())
        for link, speed in LINKS.items():
            # In a ring, every process sends and receives 2 (n - 1) / n of the gradients.
            shares = []
            for count in counts:
                travel = 2 * (count - 1) / count * size / speed
                shares.append(STEP_SECONDS / (STEP_SECONDS + max(0.0, travel - OVERLAP * STEP_SECONDS)))
            row = " ".join(f"{100 * share:4.0f}%" for share in shares)
            print(f"{name:<14} {size / 1e6:9.1f}  {link:<24} {row}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--backbone", default="resfpn18")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--bytes", action="store_true")
    for hidden in ("--data", "--output"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.worker:
        worker(chosen)
        return
    if chosen.bytes:
        print_bytes()
        return
    from ctnet.core.task import create_task
    from ctnet.data.shape_scenes import SHAPES
    from ctnet.data.synthetic import write_dataset

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        chosen.data = str(folder / "data")
        size = (chosen.size, chosen.size)
        write_dataset(create_task("ctdet", SHAPES), chosen.data, {"train": chosen.images}, size)
        one, two = [], []
        for turn in range(chosen.turns):
            one.append(measure(chosen, 1, 2, folder, turn))
            two.append(measure(chosen, 2, 1, folder, turn))
    first, second = statistics.median(one), statistics.median(two)
    print(f"one process of two threads: {first:.2f} images/s; two processes of one thread: {second:.2f}")
    print(f"ratio {second / first:.3f} (medians of {chosen.turns} turns)")


if __name__ == "__main__":
    main()
