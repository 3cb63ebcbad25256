"""Two checkouts of ctnet against each other on one machine, in alternating pairs.

    python benchmarks/pairs.py BEFORE AFTER [--what forward train head] [--backbones resfpn18 resdcn18 dla34]
                               [--pairs 15] [--size 256] [--batch 4] [--threads 2] [--json]

One process per checkout stays alive and measures on request; within a pair both do the same work, and every
other pair begins with the other checkout. Prints the median of time after / time before over the pairs,
its 95 % interval (order statistics: it assumes nothing about the distribution), and both medians.

- "forward": the prepared network up to activated maps, as ``Detector`` runs it;
- "train": one step as the trainer takes it: forward, losses, backward, optimizer;
- "head": forward, loss and backward of one regression head of 160 channels, trained at 32 cells per image, on
  8 feature maps of 64x128x128 (whatever --size, --batch and --backbones say).

Both start from the same weights and data: their results (mean of the maps, loss) must agree. BEFORE and AFTER
are folders that hold the package ``ctnet``; run it where any version of ctnet is installed, for its entry
points, and on an idle machine.
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
from collections.abc import Callable
from importlib import import_module
from math import comb
from pathlib import Path
from typing import Any

BACKBONES = ("resfpn18", "resdcn18", "dla34")
HEAD_CHANNELS, HEAD_BATCH, HEAD_SIDE, HEAD_OBJECTS = 160, 8, 128, 32
Job = Callable[[], float]


# --- in a checkout's process: what differs between checkouts belongs here


def either(*names: str) -> Any:
    """The first of these modules that this checkout has."""
    for name in names[:-1]:
        try:
            return import_module(name)
        except ModuleNotFoundError:
            continue
    return import_module(names[-1])


def scatter_offsets(model: Any) -> None:
    """Offsets of deformable convolutions as after some training."""
    import torch

    torch.manual_seed(1)
    for name, module in model.named_modules():
        if name.endswith("conv_offset_mask"):
            torch.nn.init.normal_(module.weight, std=0.01)


def make_trainer(backbone: str, size: int, batch: int, folder: Path) -> Any:
    from ctnet import create_task
    from ctnet.data.shape_scenes import SHAPES
    from ctnet.data.synthetic import write_dataset
    from ctnet.training import request
    from ctnet.training.session import new_session

    data = folder / f"scenes-{size}-{batch}"
    if not data.exists():
        write_dataset(create_task("ctdet", SHAPES), data, {"train": batch}, (size, size))
    fields = {"size": (size, size), "batch_size": batch}
    loop = getattr(request, "Loop", None)  # the precision was beside the recipe, and is a field of it now
    session = new_session(
        "ctdet",
        request.TrainingData(data, val_split=None),
        request.Network(backbone=backbone),
        request.RecipeChoice(fields=fields if loop else {**fields, "amp": "off"}),
        loop(amp="off") if loop else 0,
        request.Machine("cpu", 0),
        output=Path(tempfile.mkdtemp(dir=folder)) / "run",
    )
    scatter_offsets(session.trainer.model)
    return session.trainer


def forward_job(backbone: str, size: int, batch: int, folder: Path) -> Job:
    import torch

    from ctnet import create_model
    from ctnet.inference.detector import Detector

    trainer = make_trainer(backbone, size, batch, folder)
    torch.manual_seed(0)
    model = create_model(trainer.task, backbone).eval()
    scatter_offsets(model)
    detector = Detector(trainer.task, model, trainer.description)
    images = torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(2))

    def run() -> float:
        with torch.inference_mode():
            maps = detector.model.activated(images)
        return float(sum(values.abs().mean() for values in maps.values()))

    return run


def train_job(backbone: str, size: int, images: int, folder: Path) -> Job:
    trainer = make_trainer(backbone, size, images, folder)
    trainer.model.train()
    batch = next(iter(trainer.loader.epoch(0, 0)))
    step = either("ctnet.training.gradients", "ctnet.training.trainer").Step([batch], [len(batch)])

    def run() -> float:
        _, terms = trainer._losses_and_gradients(step)
        trainer._step()
        return float(terms["loss"])

    return run


def head_job(backbone: str, size: int, batch: int, folder: Path) -> Job:
    import numpy as np
    import torch

    from ctnet.backbones import Backbone
    from ctnet.model import CenterNet

    class Features(Backbone):
        """Returns its input."""

        channels, divisor = 64, 1

        def forward(self, images: Any) -> list[Any]:
            return [images]

    heads = either("ctnet.core.heads", "ctnet.heads")
    targets = either("ctnet.core.targets", "ctnet.targets")
    cell_targets = getattr(targets, "CellTargets", None) or targets.Samples
    torch.manual_seed(0)
    model = CenterNet(Features(), {"size": heads.Regression(HEAD_CHANNELS)}).train()
    head = model.heads["size"]
    rng = np.random.default_rng(0)
    samples = [
        cell_targets.of(
            rng.integers(0, HEAD_SIDE, (HEAD_OBJECTS, 2)),
            rng.normal(size=(HEAD_OBJECTS, HEAD_CHANNELS)).astype(np.float32),
        )
        for _ in range(HEAD_BATCH)
    ]
    target = targets.collate_targets(samples)
    features = torch.randn(HEAD_BATCH, 64, HEAD_SIDE, HEAD_SIDE, requires_grad=True)

    def loss() -> Any:
        if hasattr(model, "losses"):
            return model.losses(features, {"size": target})["size"]
        found = head.loss(model(features, {"size": target})[-1]["size"], target)
        return found.total / found.count.clamp(min=1)

    def run() -> float:
        features.grad = None
        model.zero_grad()
        value = loss()
        value.backward()
        return float(value)

    return run


JOBS = {"forward": forward_job, "train": train_job, "head": head_job}


def work(checkout: Path, threads: int) -> None:
    """Answer requests on stdin, one JSON document per line, until it closes."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever ctnet prints is not an answer
    import torch

    import ctnet

    if not Path(ctnet.__file__).resolve().is_relative_to(checkout.resolve()):
        raise SystemExit(f"ctnet comes from {ctnet.__file__}, not from {checkout}")
    torch.set_num_threads(threads)
    job: Job | None = None
    with tempfile.TemporaryDirectory() as folder:
        for line in sys.stdin:
            request = json.loads(line)
            if "prepare" in request:
                job = None  # frees the previous one
                job = JOBS[request["prepare"]](*request["arguments"], Path(folder))
            assert job is not None
            started = time.perf_counter()
            value = job()
            print(json.dumps([time.perf_counter() - started, value]), file=answers, flush=True)


# --- the process that asks


class Worker:
    """A checkout's process."""

    def __init__(self, checkout: Path, threads: int) -> None:
        if not (checkout / "ctnet").is_dir():
            raise SystemExit(f"{checkout} holds no package ctnet")
        command = [sys.executable, __file__, str(checkout), "--worker", "--threads", str(threads)]
        paths = {"PYTHONPATH": str(checkout.resolve()), "OMP_NUM_THREADS": str(threads)}
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115  (closed with the process)
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env={**os.environ, **paths},
        )

    def ask(self, request: dict[str, Any]) -> tuple[float, float]:
        """(seconds, result) of one measurement."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{json.dumps(request)}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            self.log.seek(0)
            raise SystemExit(f"{self.log.read()}\na measurement failed; above is what its process said")
        seconds, value = json.loads(answer)
        return seconds, value

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
        self.log.close()


def compare(workers: list[Worker], what: str, arguments: list[Any], pairs: int) -> dict[str, Any]:
    """Times of both checkouts, pair by pair, after one preparation and one uncounted run."""
    first = [worker.ask({"prepare": what, "arguments": arguments})[1] for worker in workers]
    for worker in workers:
        worker.ask({})
    seconds: list[list[float]] = [[], []]
    for pair in range(pairs):
        for index in (0, 1) if pair % 2 == 0 else (1, 0):
            seconds[index].append(workers[index].ask({})[0])
    ratios = sorted(after / before for before, after in zip(*seconds, strict=True))
    low, high, coverage = interval(ratios)
    return {
        "ratio": statistics.median(ratios),
        "interval": [low, high],
        "coverage": coverage,
        "milliseconds": [1e3 * statistics.median(times) for times in seconds],
        "results": first,
    }


def interval(ratios: list[float], wanted: float = 0.95) -> tuple[float, float, float]:
    """The narrowest pair of order statistics that holds the median with the wanted probability, and its own.

    For few values it is the whole range, which holds the median less often than wanted.
    """
    count = len(ratios)
    cut, coverage = 0, 1 - 2 * 0.5**count
    while cut + 1 < count / 2:
        inner = 1 - 2 * sum(comb(count, below) for below in range(cut + 2)) * 0.5**count
        if inner < wanted:
            break
        cut, coverage = cut + 1, inner
    return ratios[cut], ratios[count - 1 - cut], coverage


def show(title: str, found: dict[str, Any]) -> None:
    low, high = found["interval"]
    before, after = found["milliseconds"]
    line = f"{title:<20}{found['ratio']:>7.3f}   {low:.3f} to {high:.3f} ({found['coverage']:.1%})"
    print(f"{line}   {before:9.1f} ms -> {after:9.1f} ms", file=sys.stderr, flush=True)
    one, other = found["results"]
    if abs(one - other) > 1e-3 * max(abs(one), abs(other)):
        print(f"  the results differ: {one:.6g} before, {other:.6g} after", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path, nargs="?")
    parser.add_argument("--what", nargs="+", choices=list(JOBS), default=list(JOBS))
    parser.add_argument("--backbones", nargs="+", default=list(BACKBONES))
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return work(options.before, options.threads)
    if options.after is None:
        parser.error("name two checkouts")
    workers = [Worker(checkout, options.threads) for checkout in (options.before, options.after)]
    print(f"{'':<20}{'ratio':>7}   95 % interval (coverage)", file=sys.stderr)
    results = {}
    for what in options.what:
        for backbone in ["160 channels"] if what == "head" else options.backbones:
            arguments = [backbone, options.size, options.batch]
            results[f"{what} {backbone}"] = found = compare(workers, what, arguments, options.pairs)
            show(f"{what} {backbone}", found)
    for worker in workers:
        worker.close()
    if options.json:
        print(json.dumps(results, indent=2))
    return None


if __name__ == "__main__":
    main()
