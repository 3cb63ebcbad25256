"""The data that a run trains on and is measured on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ctnet.base.errors import CtnetError
from ctnet.core.task import Task, create_task, example_of, load_task_class, scenes_of
from ctnet.data.dataset import Dataset, MissingSplit
from ctnet.data.problems import refuse
from ctnet.data.splitting import split_command
from ctnet.data.synthetic import write_dataset
from ctnet.inference.detector import Detector
from ctnet.training.config import TrainingConfig
from ctnet.training.run import RUNS, Run


def example_data(
    task_name: str, counts: Mapping[str, int] | None = None, size: tuple[int, int] | None = None
) -> Path:
    """The data directory of a task's synthetic scenes under ``runs``; drawn when it does not exist yet.

    Args:
        task_name: whose scenes they are.
        counts: scenes per split.
        size: (width, height) of a scene, pixels; the scenes' own when None.
    """
    counts = dict(counts or {"train": 480, "val": 80})
    cls = load_task_class(task_name)
    scenes = scenes_of(cls)
    task = create_task(task_name, scenes.categories)
    size = size or scenes.size
    # A task that draws otherwise than it did gets new scenes: one scene's pixels tell.
    drawn = example_of(task, np.random.default_rng(0), size).image
    kind = hashlib.sha256(drawn.tobytes()).hexdigest()[:6]
    number = "-".join(str(count) for count in counts.values())
    folder = RUNS / "data" / f"{task_name}-scenes-{size[0]}x{size[1]}-{number}-{kind}"
    # The annotation files come last, so the folder is whole where they all exist.
    if not all((folder / "annotations" / f"{cls.layout.prefix}_{split}.json").is_file() for split in counts):
        write_dataset(task, folder, counts, size)
    return folder


def evaluation_data(detector: Detector, path: Path, data: Path | None, split: str | None) -> Dataset:
    """The data set that a detector is to be measured on.

    Args:
        detector: its categories must be the data's.
        path: its run folder, or a checkpoint in one, which knows the data; or a checkpoint anywhere.
        data: a data directory instead of the run's.
        split: of it; the run's validation split when None.

    Raises:
        CtnetError: when nothing says which data, or the data has other categories.
    """
    task = detector.task
    folder = path if path.is_dir() else path.parent
    overfit = 0
    if data is None:
        run = Run(folder)
        if not run.config.is_file():
            raise CtnetError(f"{path} is in no run folder that names its data; say --data DIR")
        config = TrainingConfig.from_json(run.read_config(), run.config)
        data = Path(config.data)
        if split is None and config.overfit:
            split, overfit = config.train_split, config.overfit
        split = split or config.val_split
    dataset = Dataset.open(data, split or "val", task)
    check_categories(dataset, task, data)
    return dataset.subset(range(min(overfit, len(dataset)))) if overfit else dataset


def check_categories(dataset: Dataset, task: Task, source: Path) -> None:
    """Refuse data whose category ids or names are not the task's."""
    theirs = {int(category["id"]): str(category["name"]) for category in dataset.categories}
    ours = dict(zip(task.categories.ids.tolist(), task.categories.names, strict=True))
    if theirs != ours:
        different = sorted(theirs.keys() ^ ours.keys()) or [key for key in ours if ours[key] != theirs[key]]
        raise CtnetError(
            f"split {dataset.split!r} of {source} has other categories than the detector (category "
            f"id {different[0]} is {theirs.get(different[0], 'missing')!r} there and "
            f"{ours.get(different[0], 'missing')!r} here); give data with the same categories"
        )


def open_data(
    task_name: str,
    data: Path,
    train_split: str,
    val_split: str | None,
    overfit: int,
    strict: bool,
    options: Mapping[str, Any],
) -> tuple[Dataset, Dataset | None, Task]:
    """Open a run's splits and bind the task to the training split's categories.

    Args:
        task_name, options: the task.
        data: the data directory.
        train_split, val_split: names of its splits; None for no validation.
        overfit: train and validate on the first so many training images; 0 for all.
        strict: refuse bad records.

    Returns:
        Training data, validation data, task.

    Raises:
        CtnetError: for splits that do not exist or do not share their categories, and with ``strict`` for
            bad records.
    """
    cls = load_task_class(task_name)
    train = _open_or_advise(data, train_split, cls, "train on another with --train-split")
    task = create_task(task_name, train.categories, **options)
    train = train.with_task(task)
    if overfit:
        train = train.subset(range(min(overfit, len(train))))
        val: Dataset | None = train
    else:
        without = "train without evaluation with --val-split none"
        val = _open_or_advise(data, val_split, task, without) if val_split else None
    if val is not None:
        check_categories(val, task, data)
    if strict:
        refuse([*train.problems, *(val.problems if val else [])], data)
    return train, val, task


def _open_or_advise(data: Path, split: str, task: Task | type[Task], otherwise: str) -> Dataset:
    """Open a split; where there is none, say how to make it, or what else to do."""
    try:
        return Dataset.open(data, split, task)
    except MissingSplit as error:
        raise CtnetError(f"{error}; make splits with `{split_command(data)}`, or {otherwise}") from error
