"""From maps to objects on the grid, and from there to 3D, on numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ctnet.core.records import Detections
from ctnet_tasks_ddd.decode import decode_objects, lift_detections

CAMERA = np.array([[100.0, 0, 50, 0], [0, 100, 20, 0], [0, 0, 1, 0]])


def maps(size_channels: int) -> dict[str, torch.Tensor]:
    """Maps of 8x6 cells: an object in cell (3, 2), a weaker one of another class in (6, 4)."""
    found = {
        name: torch.zeros(1, channels, 6, 8)
        for name, channels in {
            "heatmap": 3, "offset": 2, "size": size_channels, "depth": 1, "dimensions": 3, "rotation": 8
        }.items()
    }  # fmt: skip
    found["heatmap"][0, 1, 2, 3] = 0.9
    found["heatmap"][0, 2, 4, 6] = 0.4
    found["offset"][0, :, 2, 3] = torch.tensor([0.25, 0.75])
    found["size"][0, :, 2, 3] = torch.arange(1.0, size_channels + 1)
    found["depth"][0, 0, 2, 3] = 10
    found["dimensions"][0, :, 2, 3] = torch.tensor([1.5, 1.6, 4.0])
    return found


@pytest.mark.parametrize(("channels", "box"), [(2, [2.75, 1.75, 3.75, 3.75]), (4, [2.25, 0.75, 6.25, 6.75])])
def test_a_peak_becomes_an_object(channels: int, box: list[float]) -> None:
    """Width and height around the centre, or the distances from it to the sides."""
    found = decode_objects(maps(channels), 2)
    assert found.scores[0].tolist() == pytest.approx([0.9, 0.4])
    assert found.labels[0].tolist() == [1, 2]
    assert found.extra["cells"][0].tolist() == [[3, 2], [6, 4]]
    assert found.extra["centre"][0, 0].tolist() == [3.25, 2.75]
    assert found.boxes[0, 0].tolist() == box
    assert found.extra["depth"][0, 0] == 10
    assert found.extra["dimensions"][0, 0].tolist() == pytest.approx([1.5, 1.6, 4.0])


def test_without_an_offset_head_the_centre_is_the_middle_of_the_cell() -> None:
    some = maps(2)
    del some["offset"]
    assert decode_objects(some, 1).extra["centre"].tolist() == [[[3.5, 2.5]]]


def objects(**columns: list) -> Detections:
    """One object on the optical axis, 10 m away, seen from the side."""
    extra = {
        "centre": [[50.0, 20.0]], "alpha": [0.0], "depth": [10.0], "dimensions": [[2.0, 1.0, 4.0]]
    } | columns  # fmt: skip
    arrays = {name: np.array(value, np.float32) for name, value in extra.items()}
    return Detections(np.zeros((1, 4), np.float32), np.ones(1, np.float32), np.zeros(1, np.int64), arrays)


def test_lifting_on_the_optical_axis() -> None:
    found = lift_detections(objects(), CAMERA, stretch=1.0)
    assert found.extra["location"][0].tolist() == pytest.approx([0, 1, 10])  # the floor: half the height down
    assert found.extra["rotation_y"].tolist() == pytest.approx([0])
    x, y = found.extra["corners"][0].T  # 4 m long, 1 m wide, 2 m high; the front is at 9.5 m
    assert x.max() - x.min() == pytest.approx(100 * 4 / 9.5, rel=1e-5)
    assert y.max() - y.min() == pytest.approx(100 * 2 / 9.5, rel=1e-5)
    assert "centre" not in found.extra


def test_another_focal_length_stretches_the_depth() -> None:
    found = lift_detections(objects(), CAMERA, stretch=1.5)
    assert found.extra["depth"].tolist() == [15]
    assert found.extra["location"][0, 2] == 15


def test_the_ray_turns_the_object() -> None:
    """An object 45 degrees to the right that looks like one straight ahead is rotated by that angle."""
    found = lift_detections(objects(centre=[[150.0, 20.0]]), CAMERA, stretch=1.0)
    assert found.extra["location"][0].tolist() == pytest.approx([10, 1, 10])
    assert found.extra["rotation_y"].tolist() == pytest.approx([math.pi / 4])
