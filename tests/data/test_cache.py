from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ctnet.base.errors import CtnetError
from ctnet.core.task import create_task
from ctnet.data import cache
from ctnet.data.dataset import Dataset
from ctnet.data.images import ImageError
from ctnet.data.shape_scenes import SHAPES
from ctnet.data.synthetic import write_dataset


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    write_dataset(create_task("ctdet", SHAPES), tmp_path, {"train": 5}, (96, 80))
    return Dataset.open(tmp_path, "train")


def test_images_in_memory_are_those_of_the_files(dataset: Dataset) -> None:
    before = [sample.image for sample in dataset]
    kept = dataset.cached()
    for index in range(len(dataset)):
        dataset.image_path(index).unlink()
    for image, sample in zip(before, kept, strict=True):
        np.testing.assert_array_equal(image, sample.image)
        with pytest.raises(ValueError, match="read-only"):
            sample.image[0] = 0
    few = kept.subset([3, 1])
    np.testing.assert_array_equal(few[0].image, before[3])
    np.testing.assert_array_equal(few[1].image, before[1])


def test_an_unreadable_image_is_not_kept(dataset: Dataset) -> None:
    dataset.image_path(2).write_bytes(b"nothing")
    before = dataset[4].image
    kept = dataset.cached()
    with pytest.raises(ImageError, match="is not an image"):
        kept[2]
    np.testing.assert_array_equal(kept[4].image, before)


def test_more_than_the_free_memory_is_refused(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 5 * 3 * 96 * 80
    monkeypatch.setattr(cache, "available_memory", lambda: 2 * size)
    dataset.cached(copies=2)
    with pytest.raises(
        CtnetError, match=r"in each of 3 processes, but .* are free; train without --cache ram"
    ):
        dataset.cached(copies=3)
    monkeypatch.setattr(cache, "available_memory", lambda: None)  # where it is not known
    dataset.cached(copies=3)
