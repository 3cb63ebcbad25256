from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from ctnet.base.errors import CtnetError
from ctnet.data.dataset import Dataset
from ctnet.data.problems import Problem
from ctnet.inference import Detector, Prepared
from ctnet.measuring.reading import Read, Reader, Settings
from ctnet.measuring.run import reader_of

#: With two scales, and images of two sizes.
KEEP = {"resize": "keep", "batch_size": 2, "scales": (0.5, 1.0)}


def views(reader: Reader) -> Iterator[list[tuple[Prepared, ...] | Problem]]:
    for items in reader:
        yield [item.views if isinstance(item, Read) else item for item in items]


def assert_same(one: Reader, other: Reader) -> None:
    for first, second in zip(views(one), views(other), strict=True):
        assert len(first) == len(second)
        for own, theirs in zip(first, second, strict=True):
            if isinstance(own, Problem):
                assert own == theirs
                continue
            for a, b in zip(own, theirs, strict=True):
                assert (a.info.image_id, a.input.dtype) == (b.info.image_id, b.input.dtype)
                np.testing.assert_array_equal(a.affine.matrix, b.affine.matrix)
                np.testing.assert_array_equal(a.input, b.input)


def test_worker_processes_hand_over_the_same_images_and_stay(
    detector: Detector, dataset: Dataset, folder: Path
) -> None:
    (folder / "2.png").write_bytes(b"nothing")
    (folder / "5.png").unlink()  # the other one of its batch
    alone = reader_of(detector, dataset, Settings(**KEEP))
    together = reader_of(detector, dataset, Settings(**KEEP, workers=1), stay=True)
    before = multiprocessing.active_children()
    assert_same(alone, together)
    (worker,) = [child for child in multiprocessing.active_children() if child not in before]
    assert_same(alone, together)
    assert [child for child in multiprocessing.active_children() if child not in before] == [worker]


def test_a_pass_that_was_given_up_leaves_nothing_for_the_next(detector: Detector, dataset: Dataset) -> None:
    alone = reader_of(detector, dataset, Settings(**KEEP))
    together = reader_of(detector, dataset, Settings(**KEEP, workers=1), stay=True)
    next(iter(together))
    assert_same(alone, together)


def test_inputs_of_different_sizes_are_handed_over(detector: Detector, dataset: Dataset) -> None:
    """As needed by an exported file that resizes by itself."""

    class AsTheyAre:
        def views(self, image, info, scales):
            return tuple(Prepared(None, info, image[: 10 + number]) for number in range(len(scales)))

    settings = Settings(scales=(1.0, 2.0), workers=1)
    (items,) = Reader(dataset, AsTheyAre(), settings)
    shapes = [[view.input.shape[:2] for view in item.views] for item in items]
    assert shapes == [[(10, image.info.width), (11, image.info.width)] for image in dataset]


def test_a_mistake_in_a_worker_ends_the_pass(
    detector: Detector, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ctnet.inference.preprocessing.LARGEST_INPUT", 50)
    with pytest.raises(CtnetError, match="has a side above 50 pixels"):
        list(reader_of(detector, dataset, Settings(**KEEP, workers=1)))


@pytest.mark.parametrize("workers", [0, 1])
def test_reading_does_not_touch_the_global_random_stream(
    detector: Detector, dataset: Dataset, workers: int
) -> None:
    before = torch.get_rng_state()
    list(reader_of(detector, dataset, Settings(**KEEP, workers=workers)))
    assert torch.equal(torch.get_rng_state(), before)
