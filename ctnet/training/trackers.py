"""The observers that come with ctnet: metrics.csv, TensorBoard, Weights & Biases, MLflow."""

from __future__ import annotations

import os
import re
import secrets
from abc import abstractmethod
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ctnet.base.errors import CtnetError
from ctnet.base.files import atomic_write, read_text
from ctnet.training.config import flat
from ctnet.training.observers import EpochEnd, EvaluationEnd, Observer, RunEnd, RunStart, StepEnd
from ctnet.training.run import Run

#: Figures of steps are kept of every so many.
_EVERY = 20

#: The project of Weights & Biases and the experiment of MLflow, unless their variables name another.
_PROJECT = "ctnet"

#: How the services call the ways in which a training ends.
_STATUS = {"finished": "FINISHED", "patience": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}


class MetricsFile(Observer):
    """Writes metrics.csv, the whole file after every epoch: resuming neither loses nor doubles rows."""

    def start(self, report: RunStart) -> None:
        self._run, self._rows = Run(report.folder), report.rows
        if self._rows:
            self._run.write_metrics(self._rows)

    def epoch(self, report: EpochEnd) -> None:
        self._rows.append(report.figures)
        self._run.write_metrics(self._rows)


class _Tracker(Observer):
    """An observer that hands figures to a service.

    Figures of epochs keep their names and lie over the number of the epoch, as do the metrics of single
    classes, "class/METRIC/CLASS". Those of steps, "step/NAME", lie over the number of the step.
    """

    @abstractmethod
    def log(self, figures: Mapping[str, float], axis: str, at: int) -> None:
        """Keep figures.

        Args:
            figures: by name.
            axis: "epoch" or "step".
            at: its number.
        """

    def step(self, report: StepEnd) -> None:
        if report.step % _EVERY == 0:
            figures = {**report.losses, "learning_rate": report.learning_rate}
            self.log({f"step/{name}": value for name, value in figures.items()}, "step", report.step)

    def epoch(self, report: EpochEnd) -> None:
        figures = {name: value for name, value in report.figures.items() if name != "epoch"}
        self.log(figures, "epoch", report.epoch)

    def evaluation(self, report: EvaluationEnd) -> None:
        """The metrics of the classes; the others are among the figures of the epoch."""
        classes = {f"class/{name}": value for name, value in report.metrics.items() if "/" in name}
        if classes:
            self.log(classes, "epoch", report.epoch)


class TensorBoard(_Tracker):
    """Writes TensorBoard events into the run folder."""

    def __init__(self) -> None:
        _require("tensorboard", "tensorboard")

    def start(self, report: RunStart) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # Steps after the last checkpoint are repeated; TensorBoard leaves out those of before.
        again = report.step + 1 if report.step else None
        try:
            self._writer: Any = SummaryWriter(str(report.folder), purge_step=again)
        except UnicodeEncodeError as error:
            raise CtnetError("TensorBoard cannot write to a folder whose name is not UTF-8") from error

    def log(self, figures: Mapping[str, float], axis: str, at: int) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, at)

    def end(self, report: RunEnd) -> None:
        self._writer.close()


class WeightsAndBiases(_Tracker):
    """Logs to Weights & Biases, to the place that its environment variables name (WANDB_PROJECT, ...)."""

    def __init__(self) -> None:
        _require("wandb", "wandb")

    def start(self, report: RunStart) -> None:
        import wandb

        self._run = wandb.init(
            id=_remembered(report.folder / "wandb.id") or _remember(report.folder / "wandb.id", _random_id()),
            resume="allow",
            name=report.folder.name,
            project=os.environ.get("WANDB_PROJECT") or _PROJECT,
            dir=str(report.folder),
            config=report.config,
            settings=wandb.Settings(console="off"),  # the terminal stays the training's
        )
        self._known: set[str] = set()

    def log(self, figures: Mapping[str, float], axis: str, at: int) -> None:
        for name in figures.keys() - self._known:
            self._run.define_metric(name, step_metric=axis)
        self._known |= figures.keys()
        self._run.log({**figures, axis: at})

    def end(self, report: RunEnd) -> None:
        self._run.finish(exit_code=0 if _STATUS[report.reason] == "FINISHED" else 1)


class MLflow(_Tracker):
    """Logs to MLflow, to the place that its environment variables name (MLFLOW_TRACKING_URI, ...)."""

    def __init__(self) -> None:
        _require("mlflow", "mlflow")

    def start(self, report: RunStart) -> None:
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient()
        self._id = self._continued(report) if report.step else self._new(report)
        kept = self._client.get_metric_history(self._id, "step/learning_rate")
        #: The last step that it knows: after a kill, those since the last checkpoint are repeated.
        self._last = max((metric.step for metric in kept), default=0)

    def _new(self, report: RunStart) -> str:
        from mlflow.entities import Param, RunTag

        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or _PROJECT
        experiment = self._client.get_experiment_by_name(name)
        number = self._client.create_experiment(name) if experiment is None else experiment.experiment_id
        run = self._client.create_run(number, run_name=report.folder.name)
        params = [Param(_allowed(key), str(value)) for key, value in flat(report.config).items()]
        folder = RunTag("ctnet.folder", str(report.folder.absolute()))
        self._client.log_batch(run.info.run_id, params=params, tags=[folder])
        return _remember(report.folder / "mlflow.id", run.info.run_id)

    def _continued(self, report: RunStart) -> str:
        from mlflow.exceptions import MlflowException

        known = _remembered(report.folder / "mlflow.id")
        try:
            if known:
                self._client.update_run(known, status="RUNNING")
                return known
        except MlflowException:  # of another server
            pass
        return self._new(report)

    def log(self, figures: Mapping[str, float], axis: str, at: int) -> None:
        import time

        from mlflow.entities import Metric

        if axis == "step" and at <= self._last:
            return
        now = int(1000 * time.time())
        metrics = [Metric(_allowed(name), value, now, at) for name, value in figures.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def end(self, report: RunEnd) -> None:
        self._client.set_terminated(self._id, _STATUS[report.reason])


def _allowed(name: str) -> str:
    """A name that MLflow accepts, different for different names."""
    return re.sub(r"[^A-Za-z0-9_\-. :/]", lambda found: f"_{ord(found[0]):x}_", name)


def _require(module: str, extra: str) -> None:
    if find_spec(module) is None:
        raise CtnetError(
            f"the observer {module} needs {module}, which is not installed: "
            f"pip install 'ctnet-toolkit[{extra}]'"
        )


def _random_id() -> str:
    return secrets.token_hex(4)


def _remembered(file: Path) -> str | None:
    """The id under which a service knows the run, kept in the run folder."""
    return read_text(file).strip() if file.is_file() else None


def _remember(file: Path, name: str) -> str:
    with atomic_write(file, "w") as stream:
        stream.write(f"{name}\n")
    return name
