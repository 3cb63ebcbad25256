"""The ceiling of data sets whose losses are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ctnet.base.errors import CtnetError
from ctnet.core.task import create_task
from ctnet.data.dataset import Dataset
from ctnet.measuring.ceiling import ceilings

CATEGORIES = [{"id": 1, "name": "ant"}, {"id": 2, "name": "bee"}]


def dataset(folder: Path, *objects: tuple[int, list[float]], **options: Any) -> Dataset:
    """One image of 256x256 pixels with these objects (category, bbox)."""
    content = {
        "images": [{"id": 5, "file_name": "a.png", "width": 256, "height": 256}],
        "categories": CATEGORIES,
        "annotations": [
            {"id": number, "image_id": 5, "category_id": category, "bbox": bbox}
            for number, (category, bbox) in enumerate(objects, start=1)
        ],
    }
    (folder / "annotations").mkdir()
    (folder / "annotations/instances_val.json").write_text(json.dumps(content))
    opened = Dataset.open(folder, "val")
    return opened.with_task(create_task("ctdet", opened.categories, **options))


def test_objects_that_share_a_cell_collide_at_small_sizes_alone(tmp_path: Path) -> None:
    data = dataset(tmp_path, (1, [40, 40, 60, 60]), (1, [36, 36, 72, 72]), (1, [150, 150, 40, 40]))
    small, large = ceilings(data, data.task, [(64, 64), (256, 256)])
    assert (small.name, large.name) == ("64x64", "256x256")
    assert small.objects == large.objects == 3
    assert small.metrics["AP"] < 0.9
    (missed,) = {each.cause for each in small.missed}
    assert missed.startswith("collision: another object of its class")
    assert (small.missed[0].file_name, small.missed[0].category) == ("a.png", "ant")
    assert small.missed[0].bbox in [(40, 40, 60, 60), (36, 36, 72, 72)]
    assert small.causes() == {missed: len(small.missed)}


def test_objects_apart_lose_nothing(tmp_path: Path) -> None:
    data = dataset(tmp_path, (1, [20, 20, 60, 60]), (2, [120, 120, 90, 50]))
    for each in ceilings(data, data.task, [(128, 128), (256, 256), None]):
        assert each.metrics[each.main_metric] == pytest.approx(1)
        assert (each.missed, each.under_a_cell) == ((), ())


def test_objects_under_a_cell_are_named(tmp_path: Path) -> None:
    data = dataset(tmp_path, (1, [20, 20, 60, 60]), (2, [120, 120, 3, 30]))
    (keep,) = ceilings(data, data.task, [None])
    assert [each.category for each in keep.under_a_cell] == ["bee"]
    assert keep.to_json()["under_a_cell"][0]["bbox"] == (120, 120, 3, 30)
    (large,) = ceilings(data, data.task, [(512, 512)])
    assert large.under_a_cell == ()


def test_more_objects_than_detections(tmp_path: Path) -> None:
    data = dataset(tmp_path, *((1, [10 + 60 * n, 10 + 60 * m, 30, 30]) for n in range(4) for m in range(4)))
    (few,) = ceilings(data, data.task, [(256, 256)], topk=10)
    assert few.causes() == {"more objects in the image than the 10 detections that are kept": 6}


def test_a_size_that_does_not_fit(tmp_path: Path) -> None:
    data = dataset(tmp_path, (1, [20, 20, 60, 60]))
    with pytest.raises(
        CtnetError, match=r"size 100x64 does not fit the network: .* multiples of 32; .* 128x64"
    ):
        ceilings(data, data.task, [(64, 64), (100, 64)])


def test_a_data_set_without_objects(tmp_path: Path) -> None:
    data = dataset(tmp_path)
    with pytest.raises(CtnetError, match="no objects of the model's classes"):
        ceilings(data, data.task, [(64, 64)])
