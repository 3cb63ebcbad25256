"""The data for training and evaluating a run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ctnet.base.errors import CtnetError
from ctnet.core.task import Task, create_task, example_of, load_task_class, scenes_of
from ctnet.data.dataset import Dataset
from ctnet.data.directory import MissingSplit
from ctnet.data.problems import refuse
from ctnet.data.splitting import split_command
from ctnet.data.synthetic import write_dataset
from ctnet.inference.detector import Detector
from ctnet.training.config import TrainingConfig
from ctnet.training.request import TrainingData
from ctnet.training.run import RUNS, Run


def example_data(
    task_name: str, counts: Mapping[str, int] | None = None, size: tuple[int, int] | None = None
) -> Path:
    """The data directory of a task's synthetic scenes under ``runs``; created if it does not exist yet.

    Args:
        task_name: the task of the scenes.
        counts: scenes per split.
        size: (width, height) of a scene, pixels; the scenes' default when None.
    """
    counts = dict(counts or {"train": 480, "val": 80})
    cls = load_task_class(task_name)
    scenes = scenes_of(cls)
    task = create_task(task_name, scenes.categories)
    size = size or scenes.size
    # A hash of one scene's pixels: when a task's drawing changes, it gets new scenes.
    drawn = example_of(task, np.random.default_rng(0), size).image
    kind = hashlib.sha256(drawn.tobytes()).hexdigest()[:6]
    number = "-".join(str(count) for count in counts.values())
    folder = RUNS / "data" / f"{task_name}-scenes-{size[0]}x{size[1]}-{number}-{kind}"
    # The annotation files come last, so the folder is complete if they all exist.
    if not all((folder / "annotations" / f"{cls.layout.prefix}_{split}.json").is_file() for split in counts):
        write_dataset(task, folder, counts, size)
    return folder


def evaluation_data(detector: Detector, path: Path, data: Path | None, split: str | None) -> Dataset:
    """The data set for evaluating a detector.

    Args:
        detector: its categories must be those of the data.
        path: its run folder or a checkpoint in one, whose config names the data; or any checkpoint.
        data: a data directory instead of the run's.
        split: split of the data; the run's validation split when None.

    Raises:
        CtnetError: when no data is named, or the data has other categories.
    """
    task = detector.task
    folder = path if path.is_dir() else path.parent
    overfit = 0
    if data is None:
        run = Run(folder)
        if not run.config.is_file():
            raise CtnetError(f"{path} is not in a run folder that names its data; give --data DIR")
        config = TrainingConfig.from_json(run.read_config(), run.config)
        data = Path(config.data)
        if split is None and config.overfit:
            split, overfit = config.train_split, config.overfit
        split = split or config.val_split
    try:
        dataset = Dataset.open(data, split or "val", task)
    except MissingSplit as error:
        raise MissingSplit(f"{error}; name one with --split") from error
    check_categories(dataset, task, data)
    return dataset.subset(range(min(overfit, len(dataset)))) if overfit else dataset


def check_categories(dataset: Dataset, task: Task, source: Path) -> None:
    """Refuse data whose category ids or names are not the task's."""
    theirs = {int(category["id"]): str(category["name"]) for category in dataset.categories}
    ours = dict(zip(task.categories.ids.tolist(), task.categories.names, strict=True))
    if theirs != ours:
        different = sorted(theirs.keys() ^ ours.keys()) or [key for key in ours if ours[key] != theirs[key]]
        raise CtnetError(
            f"split {dataset.split!r} of {source} has different categories than the detector (category id "
            f"{different[0]} is {theirs.get(different[0], 'missing')!r} there and "
            f"{ours.get(different[0], 'missing')!r} here); give data with the same categories"
        )


@dataclass(frozen=True)
class Splits:
    """A run's data, opened.

    Attributes:
        directory: the data directory.
        train, val: the data; without ``val`` there is no evaluation.
        task: bound to the training split's categories.
    """

    directory: Path
    train: Dataset
    val: Dataset | None
    task: Task

    def fingerprint(self) -> str:
        """A hash that changes with the image files, see ``Dataset.fingerprint``."""
        parts = [self.train] if self.val is None else [self.train, self.val]
        return " ".join(part.fingerprint() for part in parts)

    def cached(self, copies: int) -> Splits:
        """The same splits with all images in memory, see ``Dataset.cached``."""
        train, val = self.train.cached(copies), self.val
        if val is not None and val.coco is train.coco and np.array_equal(val.rows, train.rows):  # overfitting
            val = replace(val, cache=train.cache)
        elif val is not None:
            val = val.cached(copies)
        return replace(self, train=train, val=val)

    def with_task(self, task: Task) -> Splits:
        """The same images for another task."""
        val = None if self.val is None else self.val.with_task(task)
        return replace(self, train=self.train.with_task(task), val=val, task=task)


def open_data(task_name: str, data: TrainingData, options: Mapping[str, Any]) -> Splits:
    """Open a run's splits and bind the task to the training split's categories.

    Args:
        task_name, options: the task.
        data: its location, and the splits to use.

    Raises:
        CtnetError: for splits that do not exist or do not share their categories, and with ``strict`` for
            bad records.
    """
    directory = data.directory or example_data(task_name)
    cls = load_task_class(task_name)
    train = _open_or_advise(directory, data.train_split, cls, "train on another with --train-split")
    task = create_task(task_name, train.categories, **options)
    train = train.with_task(task)
    if data.fold is not None:
        train = train.subset(data.fold.divide(train)[0])
    val: Dataset | None
    if data.overfit:
        train = train.subset(range(min(data.overfit, len(train))))
        val = train if data.val_split else None
    else:
        without = "train without evaluation with --val-split none"
        val = _open_or_advise(directory, data.val_split, task, without) if data.val_split else None
    if val is not None:
        check_categories(val, task, directory)
    if data.strict:
        refuse([*train.problems, *(val.problems if val else [])], directory)
    return Splits(directory, train, val, task)


def _open_or_advise(directory: Path, split: str, task: Task | type[Task], otherwise: str) -> Dataset:
    """Open a split; if it does not exist, the error says how to make it, or the alternative."""
    try:
        return Dataset.open(directory, split, task)
    except MissingSplit as error:
        raise CtnetError(f"{error}; make splits with `{split_command(directory)}`, or {otherwise}") from error
