"""Exporting a run: with the data to compare the file on, and metrics before and after."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from ctnet.base.errors import CtnetError
from ctnet.checkpoint import load
from ctnet.core.task import Task, example_of
from ctnet.data.dataset import Dataset
from ctnet.export.detector import ExportReport, Trials, export_detector
from ctnet.export.graph import GraphSettings
from ctnet.inference.detector import Detector, checkpoint_of
from ctnet.measuring.reading import Settings
from ctnet.measuring.run import evaluate
from ctnet.training.data import check_categories, evaluation_data
from ctnet.training.run import latest_run


def export_run(
    run: Path | None,
    output: Path,
    settings: GraphSettings,
    opset: int | None = None,
    int8: Path | None = None,
    verify: Path | None = None,
    split: str | None = None,
    score: float = 0.1,
) -> ExportReport:
    """Export a run, and compare the file with it on a data set or on the task's own scenes.

    Args:
        run: run folder or checkpoint; the latest run when None.
        output, settings, opset: see ``export_detector``.
        int8: data directory; 8-bit convolutions are calibrated on its train split.
        verify: data directory to compare on and to compute metrics on. When None, the comparison uses the
            task's own scenes, or the run's validation split if the scenes have other categories.
        split: split of ``verify``; "val" when None.
        score: detections above this score are matched one to one.

    Raises:
        CtnetError: see ``export_detector``; and for data that does not match the run.
    """
    path = run or latest_run()
    checkpoint = load(checkpoint_of(path))
    task = checkpoint.description.create_task(checkpoint.path)
    data = _data(task, verify, split or "val") if verify is not None else _own_data(task, path)
    calibration = None if int8 is None else _data(task, int8, "train")
    chosen = Settings(flip=settings.flip, topk=settings.topk, size=settings.fixed)
    measure = None if verify is None or data is None else partial(_figures, data, chosen)
    trials = Trials(data, score=score, calibration=calibration, measure=measure)
    return export_detector(path, output, settings, opset, trials)


def _data(task: Task, directory: Path, split: str) -> Dataset:
    dataset = Dataset.open(directory, split, task)
    check_categories(dataset, task, directory)
    return dataset


def _own_data(task: Task, path: Path) -> Dataset | None:
    """The run's validation split, if the task cannot draw scenes with the run's categories."""
    try:
        example_of(task, np.random.default_rng(0))
    except CtnetError:
        try:
            return evaluation_data(Detector.load(path, "cpu"), path, None, None)
        except CtnetError as error:
            raise CtnetError(
                f"there is nothing to compare the file on ({error}); name a data directory with --verify"
            ) from error
    return None


def _figures(dataset: Dataset, settings: Settings, detector: Detector) -> dict[str, float]:
    """A detector's metrics over all classes."""
    metrics = evaluate(detector, dataset, settings, "measuring").metrics
    return {name: value for name, value in metrics.items() if "/" not in name}
