"""Training one recipe with several seeds: what a single training gives is partly luck."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctnet.base.errors import CtnetError
from ctnet.training.best import best_of, is_over
from ctnet.training.config import TrainingConfig
from ctnet.training.run import Run

if TYPE_CHECKING:
    from ctnet.training.session import Session

_FOLDER = "seed-{}"


@dataclass(frozen=True)
class SeedRun:
    """A finished training of a series.

    Attributes:
        seed, path: its seed and run folder.
        epoch: the epoch of its best.pt, counted from 1; the last one without evaluation.
        metrics: the metrics of that epoch by name, without those of single classes.
    """

    seed: int
    path: Path
    epoch: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class Series:
    """Trainings that differ only in their seed.

    Attributes:
        main_metric: the one that models are compared by; empty without evaluation.
        runs: by seed.
    """

    main_metric: str
    runs: tuple[SeedRun, ...]

    def summary(self) -> dict[str, tuple[float, float | None]]:
        """Mean and standard deviation (None of one run) over the runs, of every metric that all have."""
        found: dict[str, tuple[float, float | None]] = {}
        for name in self.runs[0].metrics:
            values = [run.metrics.get(name, math.nan) for run in self.runs]
            if all(map(math.isfinite, values)):
                spread = statistics.stdev(values) if len(values) > 1 else None
                found[name] = statistics.fmean(values), spread
        return found

    def to_json(self) -> dict[str, Any]:
        runs = [
            {"seed": run.seed, "run": str(run.path), "epoch": run.epoch, "metrics": run.metrics}
            for run in self.runs
        ]
        summary = {
            name: {"mean": mean, "standard_deviation": spread}
            for name, (mean, spread) in self.summary().items()
        }
        return {"main_metric": self.main_metric, "runs": runs, "summary": summary}


def train_seeds(start: Callable[[int, Path], Session], seeds: Sequence[int], folder: Path) -> Series | None:
    """Train one run after the other, each in a folder of its own.

    Args:
        start: makes the session of a seed, which trains in the given run folder.
        seeds: which to train.
        folder: gets ``seed-N`` for each.

    Returns:
        All finished runs in the folder, those of earlier calls too; None when a training was interrupted.

    Raises:
        CtnetError: when the folder has a run of one of the seeds, before anything is trained.
    """
    paths = {seed: folder / _FOLDER.format(seed) for seed in seeds}
    for path in paths.values():
        if (path / "config.json").exists():
            raise CtnetError(
                f"{path} already holds a run; continue it with --resume {path}, train other seeds with "
                "--seed, or choose another --output"
            )
    metric = ""
    for place, (seed, path) in enumerate(paths.items(), 1):
        session = start(seed, path)
        session.display.say(f"seed {seed}, run {place} of {len(paths)}")
        if not session.fit():
            rest = [left for left in seeds if left > seed]
            if rest:
                more = f"--seed {rest[0]} --seeds {len(rest)} --output {folder}"
                session.display.say(f"then train the others with the same command and {more}")
            return None
        session.display.say(session.summary)
        metric = session.trainer.main_metric
    return read_series(folder, metric)


def read_series(folder: Path, main_metric: str) -> Series:
    """The finished runs of a folder of seeds.

    Raises:
        CtnetError: when the runs differ in more than their seed.
    """
    runs = dict(sorted(_finished(folder, main_metric)))
    configs = [config.to_json() | {"seed": 0} for config, _ in runs.values()]
    if any(config != configs[0] for config in configs):
        raise CtnetError(
            f"the runs in {folder} differ in more than their seed, so they have no common figures; train "
            "them again with another --output"
        )
    return Series(main_metric, tuple(_run_of(config, path, main_metric) for config, path in runs.values()))


def _finished(folder: Path, main_metric: str) -> Iterator[tuple[int, tuple[TrainingConfig, Path]]]:
    """The runs whose training is over, by seed."""
    for path in folder.glob(_FOLDER.format("*")):
        run = Run(path)
        if run.metrics.is_file():
            config = TrainingConfig.from_json(run.read_config(), run.config)
            if is_over(run.read_metrics(), main_metric, config.recipe):
                yield config.seed, (config, path)


def _run_of(config: TrainingConfig, path: Path, main_metric: str) -> SeedRun:
    rows = Run(path).read_metrics()
    best = best_of(rows, main_metric, config.recipe.smooth)
    row = rows[-1] if best is None else rows[best.epoch - 1]
    return SeedRun(config.seed, path, int(row["epoch"]), {k: v for k, v in row.items() if k != "epoch"})
