"""What ``check_dataset`` finds, one kind after the other."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from ctnet.core.task import AnnotationWarning, Task
from ctnet.data import check
from ctnet.data.check import check_dataset
from ctnet.data.dataset import UNFIT
from ctnet.tasks.ctdet import CenterDetection

Make = Callable[..., Path]


class Choosy(CenterDetection):
    """Refuses annotation 9."""

    name = "choosy"

    def errors(self, annotation: Mapping[str, Any], image: Mapping[str, Any]) -> list[str]:
        return ["dull"] * (annotation["id"] == 9)


class Cautious(CenterDetection):
    """Refuses annotation 17, and warns of every one."""

    name = "cautious"

    def errors(self, annotation: Mapping[str, Any], image: Mapping[str, Any]) -> list[str]:
        return ["no"] * (annotation["id"] == 17) + [AnnotationWarning(f"of {image['file_name']}")]


def found(directory: Path, kind: str, **options: Any) -> list[str]:
    """The locations of all findings of a kind."""
    assert kind in check.PROBLEMS or kind in check.WARNINGS
    report = check_dataset(directory, **options)
    return [p.where for split in report.splits for p in (*split.problems, *split.warnings) if p.kind == kind]


def test_every_kind_has_a_place_in_the_table(
    make_data: Make, document: dict[str, Any], register_task: Callable[[type[Task]], str]
) -> None:
    document["annotations"] += [
        {"id": 100, "image_id": 12, "category_id": 7, "bbox": [0, 0, 0, 5]},
        {"id": 101, "image_id": 12, "category_id": 9, "bbox": [0, 0, 5, 5]},
        {"id": 102, "image_id": 12, "category_id": 7, "bbox": [0, 0, 5, 5], "iscrowd": "0"},
        {"id": 103, "image_id": 1, "category_id": 7, "bbox": [0, 0, 5, 5]},
        {"id": 104, "image_id": 12, "category_id": 7, "bbox": [0, 0, 5]},
        {"id": 105, "image_id": 12, "category_id": 7, "bbox": [60, 0, 5, 5]},
        {"id": 106, "image_id": 12, "category_id": 7, "bbox": [0, 0, 1e200, 1e200]},
        {"id": 107, "image_id": 12, "category_id": 7, "bbox": [0, 0, 5, 5]},
    ]
    document["images"].append({"id": 5, "file_name": "d.jpg", "width": 60, "height": 40})
    task = register_task(Choosy)
    directory = make_data()
    for file in (directory / "annotations").iterdir():
        file.write_text(file.read_text().replace('"id": 107, ', '"id": 107, "id": 107, '))
    report = check_dataset(directory, task=task)
    kinds = [problem.kind for problem in report.splits[0].problems]
    assert set(kinds) == set(check.PROBLEMS[:10])
    assert report.bad == len(kinds) == 10
    assert found(make_data(), UNFIT, task=task) == ["annotation 9 of image 40"]
    assert found(make_data(), UNFIT) == []
    assert (report.splits[0].images, report.splits[0].annotations) == (3, 11)
    assert {warning.kind for warning in report.splits[0].warnings} <= set(check.WARNINGS)


def test_a_sound_data_set_has_no_problem(make_data: Make) -> None:
    report = check_dataset(make_data())
    assert report.bad == 0
    assert report.images_read
    assert json.loads(json.dumps(report.as_dict()))["bad_records"] == 0


def test_images_missing_broken_and_of_another_size(make_data: Make, document: dict[str, Any]) -> None:
    document["images"][2]["width"] = 61
    directory = make_data()
    (directory / "val" / "a.jpg").unlink()
    (directory / "val" / "b.jpg").write_bytes((directory / "val" / "b.jpg").read_bytes()[:-200])
    assert found(directory, check.BAD_IMAGE) == ["image 12", "image 5", "image 40"]
    assert found(directory, check.BAD_IMAGE, images=False) == []


def test_equal_boxes_are_bad_and_similar_ones_a_warning(make_data: Make, document: dict[str, Any]) -> None:
    boxes = {20: [10, 10, 10, 10], 21: [10, 10, 10, 10], 22: [10, 10, 10, 11], 23: [15, 10, 10, 10]}
    document["annotations"] = [
        {"id": number, "image_id": 5, "category_id": 7, "bbox": box} for number, box in boxes.items()
    ]
    document["annotations"] += [
        {"id": 30, "image_id": 5, "category_id": 3, "bbox": boxes[20]},  # another category
        {"id": 31, "image_id": 12, "category_id": 7, "bbox": boxes[20]},  # another image
        {"id": 32, "image_id": 5, "category_id": 7, "bbox": boxes[20], "iscrowd": 1},
    ]
    directory = make_data()
    assert found(directory, check.REPEATED_BOX) == ["annotations 20 and 21 of image 5"]
    assert found(directory, check.OVERLAPPING) == [
        "annotations 20 and 22 of image 5",
        "annotations 21 and 22 of image 5",
    ]


@pytest.mark.thorough
def test_thousands_of_copies_of_a_box_are_listed_in_little_memory(
    make_data: Make, document: dict[str, Any]
) -> None:
    document["annotations"] = [
        {"id": number, "image_id": 5, "category_id": 7, "bbox": [10, 10, 10, 10]} for number in range(3000)
    ]
    directory = make_data()
    tracemalloc.start()
    places = found(directory, check.REPEATED_BOX, images=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert places[0] == "annotations 0 and 1 of image 5"
    assert len(places) < 10 * 3000
    assert peak < 150e6  # all pairs at once take 72 MB per matrix, and their list a gigabyte


def test_areas_and_ids_worth_a_look(make_data: Make, document: dict[str, Any]) -> None:
    document["annotations"] = [
        {"id": 1, "image_id": 5, "category_id": 7, "bbox": [1, 1, 20, 10], "area": 0},
        {"id": 1, "image_id": 5, "category_id": 7, "bbox": [30, 1, 20, 10], "area": 120},
        {"id": 1, "image_id": 12, "category_id": 7, "bbox": [30, 1, 20, 10], "area": 1},
    ]
    directory = make_data()
    assert check_dataset(directory).bad == 0
    assert found(directory, check.ODD_AREA) == ["annotation 1 of image 12", "annotation 1 of image 5"]
    assert len(found(directory, check.REPEATED_ID)) == 2


def test_small_objects_depend_on_the_input_size(make_data: Make, document: dict[str, Any]) -> None:
    document["annotations"] = [
        {"id": 1, "image_id": 5, "category_id": 7, "bbox": [1, 1, 3.9, 3.9]},
        {"id": 2, "image_id": 5, "category_id": 7, "bbox": [1, 1, 4, 4]},
        {"id": 3, "image_id": 5, "category_id": 7, "bbox": [1, 1, 2, 30]},
    ]
    directory = make_data()
    assert found(directory, check.SMALL) == ["annotation 1 of image 5"]
    assert len(found(directory, check.SMALL, size=59)) == 2  # the image is 60 pixels wide
    assert found(directory, check.SMALL, size=120) == []


def test_warnings_about_outside_crowd_and_empty(make_data: Make, document: dict[str, Any]) -> None:
    document["annotations"].append({"id": 50, "image_id": 12, "category_id": 3, "bbox": [-0.9, 0, 9, 9]})
    document["categories"].append({"id": 99, "name": "unused"})
    directory = make_data()
    assert found(directory, check.PARTLY_OUTSIDE) == ["annotation 9 of image 40"]
    assert found(directory, check.CROWD) == ["annotation 17 of image 40"]
    assert found(directory, check.NO_OBJECT) == ["image 5"]
    assert found(directory, check.UNUSED) == ["category 99"]


def test_file_names_twice_in_a_split_and_in_two_splits(make_data: Make, document: dict[str, Any]) -> None:
    document["images"][1]["file_name"] = "a.jpg"
    directory = make_data("instances_val.json", "instances_train.json", folder=".")
    assert found(directory, check.REPEATED_FILE, split="val") == ["image 5"]
    assert found(directory, check.SHARED, split="val") == []
    assert len(found(directory, check.SHARED)) == 6


@pytest.mark.real
def test_coco_mini_is_as_described(shared_data: Path) -> None:
    report = check_dataset(shared_data / "coco-mini", images=False)
    crowds = {split.split: sum(r.kind == check.CROWD for r in split.warnings) for split in report.splits}
    assert (report.bad, crowds) == (0, {"train2017": 8, "val2017": 5})


def test_a_task_warns_of_what_it_can_use_in_part(
    make_data: Make, register_task: Callable[[type[Task]], str]
) -> None:
    task = register_task(Cautious)
    assert found(make_data(), UNFIT, task=task) == ["annotation 17 of image 40"]
    assert found(make_data(), check.OF_TASK, task=task) == [
        "annotation 0 of image 12",
        "annotation 9 of image 40",
    ]
    assert found(make_data(), check.OF_TASK) == []


def test_every_kind_has_an_identifier_of_its_own() -> None:
    assert set(check.IDENTIFIERS) == {*check.PROBLEMS, *check.WARNINGS}
    assert len({*check.IDENTIFIERS.values()}) == len(check.IDENTIFIERS)
    assert all(name.replace("-", "").isalpha() and name.islower() for name in check.IDENTIFIERS.values())
