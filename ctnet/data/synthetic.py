"""Data directories of synthetic scenes, written from any task's examples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ctnet.base.errors import os_error
from ctnet.base.files import write_json
from ctnet.base.progress import track
from ctnet.core.documents import annotations_of
from ctnet.core.records import Sample
from ctnet.core.task import Task, example_of
from ctnet.data.videos import FRAME, VIDEO


def write_dataset(
    task: Task,
    directory: str | Path,
    counts: Mapping[str, int],
    size: tuple[int, int] = (256, 256),
    seed: int = 0,
) -> None:
    """Write a data directory of a task's example scenes.

    A split's images are written first and its annotation file last, so a directory with that file is
    complete. Scene i of a split depends only on the seed, the split's name and i.

    Args:
        task: draws the scenes and declares their fields.
        directory: where ``annotations/<the task's prefix>_<split>.json`` and ``<split>/<number>.jpg`` are
            written; frames of a video are ``<split>/<video>/<number>.jpg``.
        counts: number of scenes by split name.
        size: (width, height) of every scene, pixels.
        seed: seed of all randomness.

    Raises:
        CtnetError: when the directory cannot be written.
    """
    directory = Path(directory)
    for split, count in counts.items():
        content = _write_split(task, directory / split, count, size, [seed, *split.encode()])
        write_json(directory / "annotations" / f"{task.layout.prefix}_{split}.json", content, indent=None)


def _write_split(
    task: Task, folder: Path, count: int, size: tuple[int, int], seed: Sequence[int]
) -> dict[str, Any]:
    """Write one split's images and return the content of its annotation file."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, sample in track(_samples(task, count, size, seed), f"drawing {folder.name}", total=count):
        height, width = sample.image.shape[:2]
        file_name = f"{image_id:06d}.jpg"
        if VIDEO in sample.info.record:
            file_name = f"{sample.info.record[VIDEO]}/{sample.info.record[FRAME]:06d}.jpg"
        _write_jpeg(folder / file_name, sample.image)
        record = {**sample.info.record, "id": image_id, "file_name": file_name}
        images.append({**record, "width": width, "height": height})
        for annotation in annotations_of(task, sample.instances):
            annotations.append({**annotation, "id": len(annotations) + 1, "image_id": image_id})
    return {"images": images, "annotations": annotations, "categories": [dict(c) for c in task.categories]}


def _samples(
    task: Task, count: int, size: tuple[int, int], seed: Sequence[int]
) -> Iterator[tuple[int, Sample]]:
    """The scenes of a split with their ids, of videos frame by frame."""
    scenes = task.scenes
    if scenes is None or scenes.video is None:
        for image_id in range(1, count + 1):
            yield image_id, example_of(task, np.random.default_rng([*seed, image_id]), size)
        return
    for first in range(0, count, scenes.length):
        length = min(scenes.length, count - first)
        frames = scenes.video(np.random.default_rng([*seed, first]), size, length)
        for number, sample in enumerate(frames, start=1):
            image = {**sample.info.record, "width": size[0], "height": size[1]}
            record = {**image, VIDEO: f"video{first // scenes.length + 1:03d}", FRAME: number}
            info = replace(sample.info, record=record)
            instances = task.complete(sample.instances, image)
            yield first + number, replace(sample, instances=instances, info=info)


def _write_jpeg(path: Path, image: np.ndarray) -> None:
    encoded = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded.tobytes())
    except OSError as error:
        raise os_error(error, "write", path) from error
