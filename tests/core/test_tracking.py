"""Trackers: identities, births and deaths, and association by overlap."""

import numpy as np
import pytest

from ctnet.core.frames import Frames, Identity, earlier_rows, noisy_prior, prior_planes
from ctnet.core.records import Detections
from ctnet.core.task import create_task
from ctnet.core.tracking import OverlapTracker, best_pairs
from ctnet.data.shape_scenes import SHAPES


def found(*rows: tuple[float, float, float], size: float = 10, label: int = 0) -> Detections:
    """Boxes at (x, y) with a score, best first."""
    rows = sorted(rows, key=lambda row: -row[2])
    boxes = np.array([[x, y, x + size, y + size] for x, y, _ in rows], np.float32).reshape(-1, 4)
    scores = np.array([score for *_, score in rows], np.float32)
    return Detections(boxes, scores, np.full(len(rows), label, np.int64))


@pytest.fixture
def tracker() -> OverlapTracker:
    return OverlapTracker(create_task("ctdet", SHAPES), 0.3, patience=3)


def ids(detections: Detections) -> list[int]:
    return detections.track_id.tolist()


def test_a_moving_object_keeps_its_identity(tracker) -> None:
    seen = [ids(tracker.update(found((4 * frame, 0, 0.9), (50, 40 - 3 * frame, 0.8)))) for frame in range(8)]
    assert seen == [[1, 2]] * 8


def test_objects_are_born_above_the_score_alone(tracker) -> None:
    assert ids(tracker.update(found((0, 0, 0.9), (30, 0, 0.29), (60, 0, 0.3)))) == [1, 2, -1]


def test_a_doubtful_detection_continues_an_object_and_begins_none(tracker) -> None:
    tracker.update(found((0, 0, 0.9)))
    assert ids(tracker.update(found((1, 0, 0.2), (60, 0, 0.2)))) == [1, -1]
    assert ids(tracker.update(found((1, 0, 0.1)))) == [-1]  # less than half of what a new one needs


def test_an_object_is_found_again_where_its_velocity_takes_it(tracker) -> None:
    for frame in range(4):
        tracker.update(found((6 * frame, 0, 0.9)))
    for _ in range(2):
        tracker.update(found())  # hidden
    assert ids(tracker.update(found((36, 0, 0.9)))) == [1]


def test_it_is_forgotten_after_its_patience(tracker) -> None:
    tracker.update(found((0, 0, 0.9)))
    for _ in range(4):
        tracker.update(found())
    assert ids(tracker.update(found((0, 0, 0.9)))) == [2]


def test_frames_that_are_lost_count_as_hidden_ones(tracker) -> None:
    for frame in range(4):
        tracker.update(found((6 * frame, 0, 0.9)))
    tracker.skip(2)
    assert len(tracker.prior) == 1  # what the last frame showed
    assert ids(tracker.update(found((36, 0, 0.9)))) == [1]
    tracker.skip(4)
    assert ids(tracker.update(found((42, 0, 0.9)))) == [2]


def test_after_a_reset_everybody_is_new(tracker) -> None:
    tracker.update(found((0, 0, 0.9)))
    tracker.reset()
    assert tracker.prior is None
    assert ids(tracker.update(found((0, 0, 0.9)))) == [2]


def test_classes_are_not_mixed(tracker) -> None:
    tracker.update(found((0, 0, 0.9)))
    assert ids(tracker.update(found((0, 0, 0.9), label=1))) == [2]


def test_the_best_pairs_go_first() -> None:
    worth = np.array([[0.9, 0.8], [0.85, -1.0]])
    rows, columns = best_pairs(worth)
    assert [*zip(rows.tolist(), columns.tolist(), strict=True)] == [(0, 0)]
    assert best_pairs(np.zeros((0, 3)))[0].shape == (0,)


def test_columns_of_a_task_move_with_an_object() -> None:
    pytest.importorskip("ctnet_tasks_obb")
    task = create_task("obb", [{"id": 1, "name": "ship"}])
    tracker = OverlapTracker(task, 0.3)
    for frame in range(5):
        x = 6.0 * frame
        corners = np.array([[[x, 0], [x + 12, 0], [x + 12, 6], [x, 6]]], np.float32)
        boxes = np.array([[x, 0, x + 12, 6]], np.float32)
        one = Detections(boxes, np.array([0.9], np.float32), np.zeros(1, np.int64), {"corners": corners})
        assert ids(tracker.update(one)) == [1]


# --- planes and identities


def test_planes_show_the_centres_of_boxes() -> None:
    boxes = np.array([[10, 10, 30, 30], [40, 8, 60, 20], [200, 200, 220, 220]])
    planes = prior_planes(boxes, np.array([0, 1, 1]), 2, (64, 32))
    assert planes.shape == (32, 64, 2)
    assert planes.dtype == np.uint8
    assert (planes[20, 20].tolist(), planes[14, 50].tolist()) == ([255, 0], [0, 255])
    one = prior_planes(boxes, np.array([0, 1, 1]), 1, (64, 32))
    assert np.array_equal(one[..., 0], planes.max(axis=2))
    assert not prior_planes(np.zeros((0, 4)), np.zeros(0), 1, (64, 32)).any()


def test_noise_misses_invents_and_moves() -> None:
    boxes, labels = np.tile([[10, 10, 30, 30]], (4000, 1)).astype(np.float32), np.arange(4000) % 3
    frames = Frames(count=2, planes=1, missed=0.4, false=0.1, jitter=0.05)
    seen, kinds = noisy_prior(np.random.default_rng(0), boxes, labels, frames)
    assert len(seen) == len(kinds)
    assert len(seen) / 4000 == pytest.approx(0.7, abs=0.03)
    true = seen[:2300]
    assert (true[:, 0] - 10).std() == pytest.approx(1, abs=0.1)  # 0.05 of 20
    none = Frames(count=2, planes=1, missed=0, false=0, jitter=0)
    assert np.array_equal(noisy_prior(np.random.default_rng(0), boxes, labels, none)[0], boxes)


def test_an_identity_is_a_whole_number_from_0() -> None:
    field = Identity(json="track_id")
    assert [field.error(value) is None for value in (0, 7, -1, 1.5, True, "1")] == [True, True, *[False] * 4]
    assert field.read("who", [3, None])["who"].tolist() == [3, -1]
    assert field.write("who", {"who": np.array([3, -1])}) == [3, None]
    assert earlier_rows(np.array([5, 9, -1]), np.array([-1, 9, 5])).tolist() == [2, 1, -1]


@pytest.mark.parametrize("wrong", [{"count": 3}, {"planes": 1}, {"count": 2, "reach": 0}, {"missed": 2.0}])
def test_frames_out_of_range_are_refused(wrong) -> None:
    with pytest.raises(ValueError, match=r"frames are 1 or 2|out of range"):
        Frames(**wrong)
