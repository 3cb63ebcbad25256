"""Pictures of a data set's annotations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from ctnet.base.errors import CtnetError
from ctnet.base.files import atomic_write
from ctnet.base.numbers import check_seed
from ctnet.core.documents import truth_of
from ctnet.core.records import Detections, Sample
from ctnet.data.dataset import Dataset
from ctnet.data.images import ImageError
from ctnet.data.problems import Problem
from ctnet.report.draw import draw_detections


def draw_samples(
    dataset: Dataset, output: str | Path, number: int = 8, seed: int = 0, image_ids: Sequence[int] = ()
) -> tuple[list[Path], list[Problem]]:
    """Draw the annotations of some images to JPEG files.

    Args:
        dataset: the data set.
        output: the folder for the files; each is called ``<split>_<image id>.jpg``.
        number: how many images, drawn at random.
        seed: seed of the random choice.
        image_ids: these images instead.

    Returns:
        The files, and the images that cannot be read.

    Raises:
        CtnetError: for an unknown image id, or when a file cannot be written.
    """
    check_seed(seed)
    files, problems = [], []
    for index in _chosen(dataset, number, seed, image_ids):
        image_id = int(dataset.image_ids[index])
        try:
            sample = dataset[index]
        except ImageError as error:
            problems.append(Problem("image that cannot be read", f"image {image_id}", str(error)))
            continue
        files.append(Path(output) / f"{dataset.split}_{image_id}.jpg")
        _write(files[-1], _drawn(sample, dataset))
    return files, problems


def _chosen(dataset: Dataset, number: int, seed: int, image_ids: Sequence[int]) -> list[int]:
    if not image_ids:
        lot = np.random.default_rng(seed).permutation(len(dataset))[:number]
        return [int(index) for index in np.sort(lot)]
    positions = {int(image_id): index for index, image_id in enumerate(dataset.image_ids)}
    for image_id in image_ids:
        if image_id not in positions:
            raise CtnetError(
                f"split {dataset.split!r} has no image with the id {image_id}; its ids are between "
                f"{min(positions)} and {max(positions)}"
            )
    return [positions[image_id] for image_id in image_ids]


def _drawn(sample: Sample, dataset: Dataset) -> np.ndarray:
    """Boxes, crowd regions included, and over them the objects as the data set's task draws them."""
    if dataset.task is not None:
        return dataset.task.draw(sample.image, truth_of(dataset.task, sample.instances), sample.info)
    names = [str(c["name"]) for c in sorted(dataset.categories, key=lambda c: int(c["id"]))]
    instances = sample.instances
    labels = instances.labels + len(names) * instances.crowd
    objects = Detections(instances.boxes, np.ones(len(instances)), labels)
    return draw_detections(sample.image, objects, names + [f"crowd of {name}" for name in names])


def _write(path: Path, image: np.ndarray) -> None:
    _, content = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 92])
    with atomic_write(path) as stream:
        stream.write(content.tobytes())
