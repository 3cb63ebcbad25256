"""Example scenes as a data set on the disk, for what reads annotations."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ctnet.base.files import write_json
from ctnet.core.documents import annotations_of
from ctnet.data.dataset import Dataset
from ctnet.testing.probe import Probe


@contextmanager
def scenes_as_dataset(probe: Probe, count: int) -> Iterator[Dataset]:
    """The first scenes as a COCO file, without its images, which nothing here reads; ids count from 1."""
    task = probe.task
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, scene in enumerate(probe.scenes(count), start=1):
        height, width = scene.image.shape[:2]
        record = {**scene.info.record, "id": number, "file_name": f"{number}.jpg"}
        images.append({**record, "width": width, "height": height})
        for annotation in annotations_of(task, scene.instances):
            annotations.append({**annotation, "id": len(annotations) + 1, "image_id": number})
    content = {"images": images, "annotations": annotations, "categories": list(task.categories)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "annotations" / f"{task.layout.prefix}_val.json"
        write_json(path, content)
        yield Dataset.from_file(path, [folder], task, "val")
