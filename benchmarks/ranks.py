"""Two processes of one thread against one process of two threads, and what a step sums over processes.

    python benchmarks/ranks.py [--backbone resfpn18] [--size 128] [--batch-size 8] [--images 64] [--turns 5]

Both train the task's own scenes, alternating; the medians of images per second are printed with their ratio.
``--against CHECKOUT`` compares instead ``ctnet train`` in one process with that of another checkout (an older
commit, say), by the seconds that it prints for every epoch but the first. ``--bytes`` prints the bytes
of gradients that a step adds up, by backbone, and the efficiency computed from them for several GPUs; nothing
is measured then but the number of weights.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

#: A link between GPUs, gigabytes per second in one direction, and seconds per training step on one GPU.
LINKS = {"NVLink, 200 GB/s": 200e9, "PCIe 4, 20 GB/s": 20e9, "10 Gbit Ethernet, 1 GB/s": 1e9}
STEP_SECONDS = 0.25
#: Where the time of a step goes: reading the batch; forward and backward pass and sums over the processes;
#: optimizer and moving average, in every process for all weights; and, after the training, the sum of all
#: gradients with nothing else to do.
PARTS = ("load", "gradients", "weights", "sum alone")
#: The fraction of the backward pass in which gradients are sent while others are still computed.
OVERLAP = 0.5


def worker(chosen: argparse.Namespace) -> None:
    """One process of a job: trains one epoch without counting it, then one that counts."""
    import torch

    from ctnet.base.ranks import launched_ranks
    from ctnet.training.display import Silent
    from ctnet.training.request import Machine, Network, RecipeChoice, TrainingData
    from ctnet.training.session import new_session

    torch.set_num_threads(chosen.threads)
    with launched_ranks() as ranks:
        fields = {
            "epochs": 2,
            "batch_size": chosen.batch_size,
            "size": (chosen.size, chosen.size),
            "amp": "off",
        }
        session = new_session(
            "ctdet",
            TrainingData(Path(chosen.data), val_split=None, overfit=chosen.images),
            Network(backbone=chosen.backbone),
            RecipeChoice("small", fields),
            0,
            Machine("cpu", 0, Silent(), ranks),
            Path(chosen.output),
        )
        trainer = session.trainer
        trainer._connect()
        for epoch in range(2):
            parts = dict.fromkeys(PARTS, 0.0)
            begun = last = time.perf_counter()
            for step in trainer.gradients.steps(trainer.loader.epoch(epoch), 1):
                last = _add(parts, "load", last)
                trainer._losses_and_gradients(step)
                last = _add(parts, "gradients", last)
                trainer._step()
                last = _add(parts, "weights", last)
            seconds = last - begun
        steps = len(trainer.loader)
        gradients = torch.zeros(sum(parameter.numel() for parameter in trainer.model.parameters()))
        last = time.perf_counter()
        for _ in range(steps):
            ranks.add(gradients)
        _add(parts, "sum alone", last)
        if ranks.is_first:
            figures = {name: 1000 * part / steps for name, part in parts.items()}
            print(json.dumps({"rate": chosen.images / seconds, **figures}))
        session.run.release()


def _add(parts: dict[str, float], name: str, since: float) -> float:
    """Count the seconds since then for a part; returns the time."""
    now = time.perf_counter()
    parts[name] += now - since
    return now


def measure(
    chosen: argparse.Namespace, processes: int, threads: int, folder: Path, turn: int
) -> dict[str, float]:
    """Images per second ("rate"), and the milliseconds of a step by part."""
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
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def seconds_of_epochs(checkout: Path, chosen: argparse.Namespace, folder: Path, turn: int) -> float:
    """The median seconds of an epoch of ``ctnet train`` as a checkout has it."""
    output = folder / f"{checkout.name}-{turn}"
    given = {"data": chosen.data, "backbone": chosen.backbone, "size": chosen.size, "epochs": 4, "seed": 0}
    given |= {"batch-size": chosen.batch_size, "workers": 0, "device": "cpu", "amp": "off", "output": output}
    options = [str(part) for name, value in given.items() for part in (f"--{name}", value)]
    done = subprocess.run(
        [sys.executable, "-m", "ctnet", "train", "ctdet", *options, "--val-split", "none"],
        capture_output=True,
        text=True,
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout), "CTNET_CACHE": str(folder / "cache")},
    )
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    seconds = [float(text) for text in re.findall(r"^epoch .* ([\d.]+) s\b", done.stderr, re.MULTILINE)]
    return statistics.median(seconds[1:])


def compare_checkouts(chosen: argparse.Namespace, folder: Path) -> None:
    """Two checkouts, alternating."""
    other, own = chosen.against.absolute(), Path(__file__).absolute().parents[1]
    before, now = [], []
    for turn in range(chosen.turns):
        before.append(seconds_of_epochs(other, chosen, folder / "before", turn))
        now.append(seconds_of_epochs(own, chosen, folder / "now", turn))
    first, second = statistics.median(before), statistics.median(now)
    print(f"an epoch of {chosen.images} images: {first:.2f} s in {other.name}, {second:.2f} s here")
    print(f"ratio {second / first:.3f} (medians of {chosen.turns} turns)")


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
    parser.add_argument("--against", type=Path)
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
        if chosen.against is not None:
            compare_checkouts(chosen, folder)
            return
        one, two = [], []
        for turn in range(chosen.turns):
            one.append(measure(chosen, 1, 2, folder, turn))
            two.append(measure(chosen, 2, 1, folder, turn))
    kinds = {"one process of two threads": one, "two processes of one thread": two}
    medians = {
        kind: {name: statistics.median(turn[name] for turn in turns) for name in ("rate", *PARTS)}
        for kind, turns in kinds.items()
    }
    for kind, figures in medians.items():
        parts = ", ".join(f"{name} {figures[name]:.1f} ms" for name in PARTS)
        print(f"{kind}: {figures['rate']:.2f} images/s; a step: {parts}")
    first, second = (figures["rate"] for figures in medians.values())
    print(f"ratio {second / first:.3f} (medians of {chosen.turns} turns)")


if __name__ == "__main__":
    main()
