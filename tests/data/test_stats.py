"""Statistics of a data set."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ctnet.core.fields import Choice, Field, Value
from ctnet.core.records import Instances
from ctnet.core.task import Task
from ctnet.data.dataset import Dataset
from ctnet.data.stats import QUANTILES, dataset_stats, split_stats
from ctnet.tasks.ctdet import CenterDetection

Make = Callable[..., Path]


class Edges(CenterDetection):
    """With two derived fields."""

    name = "edges"
    fields: ClassVar[Mapping[str, Field]] = {
        "left_edge": Value(json="", unit="px"),
        "side": Choice(json="", choices=("near", "far")),
    }

    def complete(self, instances: Instances, image: Any) -> Instances:
        left = instances.boxes[:, 0]
        return instances.replace(left_edge=left, side=(left > 30).astype(np.int64))


def test_counts_and_measures(make_data: Make, document: dict[str, Any]) -> None:
    document["annotations"] += [
        {"id": 60, "image_id": 12, "category_id": 3, "bbox": [0, 0, 4, 8], "area": 32**2},
        {"id": 61, "image_id": 12, "category_id": 3, "bbox": [0, 0, 40, 8], "area": 96**2},
        {"id": 62, "image_id": 12, "category_id": 3, "bbox": [0, 0, 0, 8]},
    ]
    figures = dataset_stats(make_data())
    (split,) = figures.splits
    assert (split.images, split.images_without_object, split.objects, split.crowd) == (3, 1, 4, 1)
    assert figures.skipped == 1
    assert split.by_category == {"ball": 2, "box": 2}
    assert split.by_size == {"small": 2, "medium": 1, "large": 1}
    assert split.objects_per_image[0] == 0
    assert split.objects_per_image[-1] == 3
    assert split.mean_objects_per_image == 4 / 3
    widths, heights = np.array([30, 20, 4, 40]), np.array([20, 20, 8, 8])
    np.testing.assert_allclose(split.width, np.quantile(widths, QUANTILES))
    np.testing.assert_allclose(split.aspect, np.quantile(widths / heights, QUANTILES))
    assert json.loads(json.dumps(figures.as_dict()))["splits"][0]["by_category"]["ball"] == 2


def test_without_any_object(make_data: Make, document: dict[str, Any]) -> None:
    document["annotations"] = []
    (split,) = dataset_stats(make_data(), "val").splits
    assert (split.objects, split.width, split.by_category) == (0, (), {"ball": 0, "box": 0})


def test_a_subset_counts_its_own_images_alone(make_data: Make) -> None:
    dataset = Dataset.open(make_data(), "val")
    assert split_stats(dataset.subset([1])).objects == 0
    assert split_stats(dataset.subset([2])).by_category == {"ball": 1, "box": 0}


def test_a_task_s_fields_have_figures_too(
    make_data: Make, register_task: Callable[[type[Task]], str]
) -> None:
    assert dataset_stats(make_data(), task="ctdet").splits[0].fields == {}
    (split,) = dataset_stats(make_data(), task=register_task(Edges)).splits
    np.testing.assert_allclose(split.fields["left edge (px)"], np.quantile([1.5, 50], QUANTILES))
    np.testing.assert_allclose(split.fields["side = far"], np.quantile([0, 1], QUANTILES))
    assert split_stats(Dataset.open(make_data(), "val")).fields == {}
