"""What is learnt of an angle, and how it is read."""

from __future__ import annotations

import numpy as np
import torch
from ctnet_tasks_obb.boxes import Rectangles
from ctnet_tasks_obb.heads import AngleValues, angle_of, angle_values


def boxes(degrees: np.ndarray, ratio: float) -> Rectangles:
    count = len(degrees)
    return Rectangles(
        np.zeros((count, 2)), np.tile([ratio * 10, 10], (count, 1)), np.exp(1j * np.radians(degrees))
    )


def test_all_angles_come_back() -> None:
    degrees = np.arange(-180, 180, 0.5)
    values, _ = angle_values(boxes(degrees, 3))
    found = np.degrees(angle_of(torch.from_numpy(values)).numpy())
    off = (found - degrees + 90) % 180 - 90  # half a turn makes no difference
    assert np.abs(off).max() < 1e-3


def test_targets_are_continuous() -> None:
    """A hair's breadth of a turn changes no target by more than a hair, also where angles start again."""
    degrees = np.linspace(-180, 180, 3601)
    values, _ = angle_values(boxes(degrees, 3))
    assert np.abs(np.diff(values, axis=0)).max() < 4 * np.radians(0.1) + 1e-6
    assert np.allclose(values[0], values[-1], atol=1e-6)


def test_nearly_square_boxes_differ_by_what_does_not_count() -> None:
    """A square that grows a little one way or the other: what counts stays, the first pair hardly counts."""
    degrees = np.array([30.0])
    one, other = angle_values(boxes(degrees, 1.001)), angle_values(boxes(degrees + 90, 1.001))
    np.testing.assert_allclose(one[0][:, 2:], other[0][:, 2:], atol=1e-6)
    assert (one[1][:, :2] < 0.002).all()


def test_a_wrong_first_pair_turns_by_a_right_angle_and_no_other() -> None:
    values = torch.from_numpy(angle_values(boxes(np.array([20.0]), 2))[0])
    right, wrong = (torch.rad2deg(angle_of(values * torch.tensor([s, s, 1, 1]))).item() for s in (1, -1))
    assert abs(abs(right - wrong) - 90) < 1e-3


def test_mirroring_reverses_the_sines_and_the_columns() -> None:
    maps = torch.arange(2 * 4 * 1 * 3, dtype=torch.float32).reshape(2, 4, 1, 3)
    mirrored = AngleValues(4).mirror(maps)
    assert mirrored is not None
    assert torch.equal(mirrored[:, 0], maps[:, 0].flip(-1))
    assert torch.equal(mirrored[:, 1], -maps[:, 1].flip(-1))
    assert torch.equal(mirrored[:, 2], maps[:, 2].flip(-1))
    assert torch.equal(mirrored[:, 3], -maps[:, 3].flip(-1))
