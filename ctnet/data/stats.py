"""Statistics of a data set: images, objects by class and size, box sizes and counts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ctnet.base.progress import track
from ctnet.data.dataset import Dataset, open_splits

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
SIZE_LIMITS = (32**2, 96**2)
"""COCO's limits of small, medium and large, square pixels of the annotation's ``area``."""


@dataclass(frozen=True)
class SplitStats:
    """Statistics of one split. All but the number of crowd regions are about single objects.

    Attributes:
        split: its name.
        images: number of images.
        images_without_object: number of images without objects.
        objects: number of usable annotations that are not crowd regions.
        crowd: number of crowd regions.
        by_category: objects of each category name, in the order of the file.
        by_size: objects that are small, medium and large in COCO's sense.
        objects_per_image, width, height, aspect: values at ``QUANTILES``; box sides in image pixels, aspect
            is width / height; empty without objects.
        fields: values at ``QUANTILES`` of the task's declared fields, by title with unit.
        mean_objects_per_image: objects / images.
    """

    split: str
    images: int
    images_without_object: int
    objects: int
    crowd: int
    by_category: dict[str, int]
    by_size: dict[str, int]
    mean_objects_per_image: float
    objects_per_image: tuple[float, ...]
    width: tuple[float, ...]
    height: tuple[float, ...]
    aspect: tuple[float, ...]
    fields: dict[str, tuple[float, ...]]


@dataclass(frozen=True)
class DatasetStats:
    """Statistics of a data directory.

    Attributes:
        directory: the data directory.
        splits: the statistics of each split.
        skipped: number of bad records, which are not counted elsewhere.
    """

    directory: Path
    splits: tuple[SplitStats, ...]
    skipped: int

    def as_dict(self) -> dict[str, Any]:
        """The statistics as JSON values."""
        return {
            "directory": str(self.directory),
            "skipped_records": self.skipped,
            "quantiles": list(QUANTILES),
            "splits": [dataclasses.asdict(split) for split in self.splits],
        }


def dataset_stats(directory: str | Path, split: str | None = None, task: str | None = None) -> DatasetStats:
    """Count and measure the objects of a data directory. Images are not read.

    Args:
        directory: the data directory.
        split: its name; by default all splits.
        task: read that task's annotations, and add the statistics of its declared fields.

    Raises:
        CtnetError: when the directory or an annotation file cannot be read.
    """
    datasets = open_splits(directory, split, task)
    skipped = sum(len(dataset.problems) for dataset in datasets)
    return DatasetStats(Path(directory), tuple(map(split_stats, datasets)), skipped)


def split_stats(dataset: Dataset) -> SplitStats:
    """The statistics of one data set."""
    coco = dataset.coco
    usable = dataset.usable
    single = usable & ~coco.crowd
    per_image = np.bincount(coco.image_index[single], minlength=len(coco))[dataset.rows]
    width, height = coco.boxes[single, 2:].T
    category_ids = coco.category_ids[single]
    bins = np.searchsorted(SIZE_LIMITS, coco.areas[single], side="right")
    return SplitStats(
        split=dataset.split,
        images=len(dataset),
        images_without_object=int((per_image == 0).sum()),
        objects=int(single.sum()),
        crowd=int((usable & coco.crowd).sum()),
        by_category={c["name"]: int((category_ids == int(c["id"])).sum()) for c in dataset.categories},
        by_size=dict(zip(("small", "medium", "large"), np.bincount(bins, minlength=3).tolist(), strict=True)),
        mean_objects_per_image=float(per_image.mean()),
        objects_per_image=_quantiles(per_image),
        width=_quantiles(width),
        height=_quantiles(height),
        aspect=_quantiles(width / height),
        fields=_field_statistics(dataset),
    )


def _field_statistics(dataset: Dataset) -> dict[str, tuple[float, ...]]:
    """The distribution of each statistic of the task's declared fields."""
    task = dataset.task
    if task is None or not task.fields:
        return {}
    values: dict[str, list[np.ndarray]] = {}
    for index in track(range(len(dataset)), f"reading {dataset.split}"):
        instances = dataset.instances(index)
        columns = instances[~instances.crowd].fields()
        for name, field in task.fields.items():
            for title, column in field.statistics(name, columns).items():
                values.setdefault(title, []).append(column)
    return {title: _quantiles(np.concatenate(columns)) for title, columns in values.items()}


def _quantiles(values: Sequence[float] | np.ndarray) -> tuple[float, ...]:
    return tuple(np.quantile(values, QUANTILES).tolist()) if len(values) else ()
