"""Errors of depth and orientation of matched detections."""

from __future__ import annotations

import numpy as np
import pytest

from ctnet.core.records import Detections
from ctnet_tasks_ddd.deviations import deviations

NAMES = ("Pedestrian", "Car")


def entry(category: int, left: float, z: float = 20.0, alpha: float = 0.0, **more) -> dict:
    return {
        "category_id": category,
        "bbox": [left, 0.0, 10.0, 10.0],
        "location": [0.0, 1.0, z],
        "alpha": alpha,
        **more,
    }


def found(rows: list[tuple[int, float, float, float, float]]) -> Detections:
    """Label, left, score, z and alpha of boxes of 10x10."""
    table = np.array(rows, np.float64)
    left = table[:, 1]
    zero = np.zeros(len(rows))
    return Detections(
        np.stack([left, zero, left + 10, zero + 10], axis=1),
        table[:, 2],
        table[:, 0].astype(np.int64),
        {"location": np.stack([zero, zero, table[:, 3]], axis=1), "depth": table[:, 3], "alpha": table[:, 4]},
    )


def test_errors_are_means_over_what_was_found() -> None:
    frames = [
        (
            [entry(2, 0), entry(2, 100, z=40, alpha=3.1)],
            found([(1, 0, 0.9, 22, 0.1), (1, 100, 0.8, 38, -3.1)]),
        ),
        ([entry(2, 50), entry(1, 0, z=10)], found([(0, 1, 0.5, 11, 0.0)])),
    ]
    figures = deviations(frames, [1, 2], NAMES)
    turned = np.degrees([0.1, 2 * np.pi - 6.2])  # the short way round
    assert figures["found/Car"] == pytest.approx(2 / 3)
    assert figures["found/Pedestrian"] == 1
    assert figures["found"] == pytest.approx(3 / 4)
    assert figures["depth_error/Car"] == pytest.approx((0.1 + 0.05) / 2)
    assert figures["depth_error"] == pytest.approx((0.1 + 0.05 + 0.1) / 3)
    assert figures["orientation_error/Car"] == pytest.approx(turned.mean())
    assert figures["orientation_error/Pedestrian"] == 0


def test_the_best_detection_takes_the_object_and_others_go_empty() -> None:
    both = found([(1, 0, 0.3, 20, 0.0), (1, 1, 0.9, 30, 0.0)])
    figures = deviations([([entry(2, 0)], both)], [1, 2], NAMES)
    assert figures == pytest.approx(
        {
            "found": 1, "depth_error": 0.5, "orientation_error": 0,
            "found/Car": 1, "depth_error/Car": 0.5, "orientation_error/Car": 0,
        }
    )  # fmt: skip


def test_a_detection_takes_the_next_object_when_its_own_is_gone() -> None:
    objects = [entry(1, 0, z=10), entry(1, 3, z=20)]
    twice = found([(0, 0, 0.9, 10, 0.0), (0, 0, 0.8, 20, 0.0)])
    figures = deviations([(objects, twice)], [1, 2], NAMES)
    assert figures["found/Pedestrian"] == 1
    assert figures["depth_error/Pedestrian"] == 0


@pytest.mark.parametrize(("label", "shift", "hit"), [(0, 3, 1), (0, 3.4, 0), (1, 1.7, 1), (1, 1.8, 0)])
def test_boxes_must_overlap_as_the_benchmark_demands(label: int, shift: float, hit: int) -> None:
    # A shift of 10/3 gives an IoU of 0.5, one of 30/17 gives 0.7.
    figures = deviations([([entry(label + 1, 0)], found([(label, shift, 0.5, 20, 0)]))], [1, 2], NAMES)
    assert figures["found"] == hit
    assert ("depth_error" in figures) == bool(hit)


def test_ignore_regions_and_other_classes_are_no_objects() -> None:
    frames = [([entry(2, 0, iscrowd=1), entry(2, 30, ignore=1)], found([(1, 0, 0.5, 20, 0)]))]
    assert deviations(frames, [1, 2], NAMES) == {}
    assert deviations([([entry(2, 0)], found([(0, 0, 0.5, 20, 0)]))], [1, 2], NAMES) == {
        "found": 0,
        "found/Car": 0,
    }


def test_an_image_without_detections_misses_its_objects() -> None:
    assert deviations([([entry(2, 0)], None)], [1, 2], NAMES)["found"] == 0


def test_what_a_detection_does_not_know_has_no_error() -> None:
    plain = Detections(np.array([[0.0, 0, 10, 10]]), np.array([0.5]), np.array([1]))
    figures = deviations([([entry(2, 0)], plain)], [1, 2], NAMES)
    assert figures == {"found": 1, "found/Car": 1}
