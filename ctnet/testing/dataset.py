"""Example scenes as a data set on disk, and as ground truth for evaluators."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ctnet.base.files import write_json
from ctnet.core.documents import annotations_of, truth_of
from ctnet.core.records import Detections, Instances
from ctnet.data.dataset import Dataset
from ctnet.testing.probe import Probe

_IMAGES = 6
#: Size of a crowd region relative to its object: it is entirely inside the image.
_CROWD = 0.8


@contextmanager
def scenes_as_dataset(probe: Probe, count: int, crowds: bool = False) -> Iterator[Dataset]:
    """The first scenes as a COCO file, without the images, which are not read; ids start at 1.

    Args:
        probe: the task.
        count: how many.
        crowds: the first scene also has a crowd region.
    """
    task = probe.task
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, scene in enumerate(probe.scenes(count), start=1):
        record = {**image_record(scene), "id": number, "file_name": f"{number}.jpg"}
        images.append(record)
        entries = annotations_of(task, scene.instances)
        if crowds and number == 1:
            entries += annotations_of(task, crowd_of(probe, scene.instances))
        for annotation in entries:
            annotations.append({**annotation, "id": len(annotations) + 1, "image_id": number})
    content = {"images": images, "annotations": annotations, "categories": list(task.categories)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "annotations" / f"{task.layout.prefix}_val.json"
        write_json(path, content)
        yield Dataset.from_file(path, [folder], task, "val")


def image_record(scene: Any) -> dict[str, Any]:
    """The entry of a scene's image in a COCO file."""
    height, width = scene.image.shape[:2]
    return {**scene.info.record, "width": width, "height": height}


def crowd_of(probe: Probe, instances: Instances) -> Instances:
    """A crowd region, one row: the first instance, slightly smaller."""
    row = instances[:1]
    centre = (row.boxes[:, :2] + row.boxes[:, 2:]).reshape(-1) / 2
    shrunk = probe.moved(row, _CROWD, (1 - _CROWD) * centre)
    return shrunk.replace(crowd=np.ones(len(row), bool))


@dataclass(frozen=True)
class Truth:
    """Ground truth for evaluators, and its objects as detections.

    Attributes:
        plain, full: content of the COCO file, see ``GroundTruth``.
        found: by image id.
    """

    plain: dict[str, Any]
    full: dict[str, Any]
    found: dict[int, Detections]

    def as_coco(self, full: bool = False) -> dict[str, Any]:
        """See ``GroundTruth``; every evaluator gets its own copy."""
        return copy.deepcopy(self.full if full else self.plain)


@lru_cache(maxsize=8)
def truth_of_scenes(probe: Probe) -> Truth:
    """The first scenes as ground truth, one of them with a crowd region."""
    with scenes_as_dataset(probe, _IMAGES, crowds=True) as dataset:
        found = {
            dataset.info(index).image_id: truth_of(probe.task, dataset.instances(index))
            for index in range(len(dataset))
        }
        return Truth(dataset.as_coco(), dataset.as_coco(full=True), found)


class Entries(Sequence[Any]):
    """Annotations of one image, for ``instances_of``."""

    def __init__(self, entries: Sequence[dict[str, Any]]) -> None:
        self._entries = entries
        boxes = np.array([entry["bbox"] for entry in entries], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        self.boxes = boxes
        self.category_ids = np.array([entry["category_id"] for entry in entries], np.int64)
        self.crowd = np.array([entry["iscrowd"] for entry in entries], bool)

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: Any) -> Any:
        return self._entries[index]
