from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from ctnet.core.records import Detections, Instances


@pytest.fixture
def instances() -> Instances:
    return Instances.of(
        [[0, 0, 4, 4], [1, 1, 2, 3], [5, 5, 9, 8]],
        [0, 1, 0],
        [False, True, False],
        keypoints=np.arange(12.0).reshape(3, 2, 2),
    )


def test_of_converts_to_the_right_types(instances: Instances) -> None:
    assert [c.dtype for c in (instances.boxes, instances.labels, instances.crowd)] == [
        np.float32,
        np.int64,
        bool,
    ]
    assert len(Instances.of([], [])) == 0
    assert Instances.of([], []).boxes.shape == (0, 4)
    assert Instances.of([[1, 2, 3, 4]], [0]).crowd.tolist() == [False]


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"Instances needs columns of equal length, .*'boxes': 2, 'labels': 1"
    ):
        Instances.of([[0, 0, 1, 1]] * 2, [0])
    with pytest.raises(ValueError, match="'keypoints': 2"):
        Instances.of([[0, 0, 1, 1]], [0], keypoints=np.zeros((2, 3)))
    with pytest.raises(ValueError, match="Detections needs columns of equal length"):
        Detections(np.zeros((2, 4)), np.zeros(1), np.zeros(2))


def test_boxes_have_four_columns() -> None:
    with pytest.raises(ValueError, match=r"Instances.boxes must be \(N, 4\), got \(2, 3\)"):
        Instances(np.zeros((2, 3)), np.zeros(2), np.zeros(2, bool))


@pytest.mark.parametrize(
    ("rows", "kept"),
    [
        (slice(1, None), [1, 2]),
        (np.array([2, 0]), [2, 0]),
        (np.array([True, False, True]), [0, 2]),
        ([1], [1]),
        (np.zeros(3, bool), []),
        (1, [1]),
        (np.int64(2), [2]),
    ],
)
def test_rows_are_selected_in_all_columns(instances: Instances, rows, kept) -> None:
    part = instances[rows]
    assert len(part) == len(kept)
    for name, column in instances.fields().items():
        np.testing.assert_array_equal(part.fields()[name], column[kept])


def test_extra_columns_are_attributes(instances: Instances) -> None:
    assert instances.keypoints.shape == (3, 2, 2)
    with pytest.raises(
        AttributeError, match="Instances has no field 'keypoint'; it has boxes, labels, crowd, keypo"
    ):
        _ = instances.keypoint


def test_replace_exchanges_and_adds(instances: Instances) -> None:
    changed = instances.replace(labels=instances.labels + 1, depth=np.ones(3))
    assert changed.labels.tolist() == [1, 2, 1]
    assert changed.depth.tolist() == [1, 1, 1]
    assert changed.keypoints is instances.keypoints
    assert instances.labels.tolist() == [0, 1, 0]
    assert "depth" not in instances.fields()


def test_records_do_not_change(instances: Instances) -> None:
    with pytest.raises(AttributeError):
        instances.labels = np.zeros(3)  # type: ignore[misc]


def test_records_travel_between_processes(instances: Instances) -> None:
    again = pickle.loads(pickle.dumps(instances))
    np.testing.assert_array_equal(again.keypoints, instances.keypoints)


def test_a_batch_is_split_into_numpy_records() -> None:
    boxes, scores = torch.rand(2, 5, 4, requires_grad=True), torch.rand(2, 5).to(torch.bfloat16)
    batch = Detections(boxes, scores, torch.randint(0, 3, (2, 5)), {"depth": torch.rand(2, 5)})
    first, second = batch.per_image()
    assert len(first) == len(second) == 5
    for image, record in enumerate((first, second)):
        np.testing.assert_array_equal(record.boxes, boxes[image].detach().numpy())
        assert record.scores.dtype == np.float32
        assert record.labels.dtype == np.int64
        np.testing.assert_array_equal(record.depth, batch.depth[image].numpy())


def test_above_keeps_the_score_itself() -> None:
    found = Detections(np.zeros((3, 4)), np.array([0.9, 0.5, 0.1]), np.arange(3), {"depth": np.arange(3)})
    assert found.above(0.5).labels.tolist() == [0, 1]
    assert found.above(0.5).depth.tolist() == [0, 1]
    assert len(found.above(1.0)) == 0


def test_empty() -> None:
    empty = Detections.empty()
    assert len(empty) == 0
    assert empty.boxes.shape == (0, 4)
    assert len(empty.above(0.0)) == 0


def test_detections_as_entries_of_a_results_file() -> None:
    found = Detections(
        np.array([[1, 2, 4, 8], [0.5, 0, 1, 1]], np.float32),
        np.array([0.75, 0.5], np.float32),
        np.array([1, 0]),
    )
    assert found.to_coco(7, [3, 9]) == [
        {"image_id": 7, "category_id": 9, "bbox": [1, 2, 3, 6], "score": 0.75},
        {"image_id": 7, "category_id": 3, "bbox": [0.5, 0, 0.5, 1], "score": 0.5},
    ]
    assert Detections.empty().to_coco(7, [3]) == []


def test_records_are_sequences(instances: Instances) -> None:
    found = Detections(np.zeros((3, 4)), np.array([0.9, 0.5, 0.1]), np.arange(3), {"depth": np.arange(3)})
    for record in (instances, found):
        assert len(record[-1]) == len(record[0]) == 1
        assert record[-1].labels[0] == record.labels[2]
        assert record[-3].labels[0] == record.labels[0]
        rows = list(record)
        assert [row.labels.tolist() for row in rows] == [[label] for label in record.labels]
        assert all(type(row) is type(record) for row in rows)
        assert [row.labels[0] for row in reversed(record)] == record.labels[::-1].tolist()
        for beyond in (3, 99, -4, np.int64(3)):
            with pytest.raises(
                IndexError, match=rf"^{type(record).__name__} with \d+ rows has no row {beyond}$"
            ):
                record[beyond]
    assert list(Detections.empty()) == []
    with pytest.raises(IndexError, match="has no row 0"):
        Detections.empty()[0]


def test_a_batch_is_a_sequence_of_images() -> None:
    batch = Detections(torch.rand(2, 5, 4), torch.rand(2, 5), torch.zeros(2, 5))
    assert [len(image.scores[0]) for image in batch] == [5, 5]
    assert torch.equal(batch[-1].boxes[0], batch.boxes[1])


def test_repr_says_what_columns_there_are(instances: Instances) -> None:
    assert repr(instances) == "Instances(boxes 3x4, labels 3, crowd 3, keypoints 3x2x2)"
    assert repr(Detections.empty()) == "Detections(boxes 0x4, scores 0, labels 0)"


def test_records_can_be_compared_and_kept_in_sets(instances: Instances) -> None:
    """By identity: arrays have no truth value."""
    assert instances == instances
    assert instances != instances[:]
    assert instances in [instances[0], instances]
    assert len({instances, instances}) == 1
