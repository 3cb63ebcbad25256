from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from ctnet.base.errors import CtnetError
from ctnet.data.dataset import Dataset
from ctnet.inference import Detector
from ctnet.measuring import reading
from ctnet.measuring.reading import Settings
from ctnet.measuring.run import detect_all, evaluate

KEEP = Settings(resize="keep", topk=5, batch_size=2)


def test_a_perfect_detector_has_perfect_metrics(detector: Detector, dataset: Dataset) -> None:
    done = evaluate(detector, dataset, KEEP)
    assert done.main_metric == "AP"
    assert done.metrics["AP"] == pytest.approx(1.0)
    assert done.problems == []


@pytest.mark.parametrize("metric", ["voc07", "voc10"])
def test_the_metric_is_chosen(detector: Detector, dataset: Dataset, metric: str) -> None:
    done = evaluate(detector, dataset, Settings(resize="keep", metric=metric))
    assert done.main_metric == "mAP"
    assert done.metrics["mAP"] == pytest.approx(1.0)


def test_images_of_one_size_share_a_batch(detector: Detector, dataset: Dataset) -> None:
    found = dict(detect_all(detector, dataset, KEEP, []))
    assert sorted(found) == [10, 20, 30, 40, 50]
    assert sorted(detector.model.batches) == [(1, 3, 96, 96), (2, 3, 64, 64), (2, 3, 96, 96)]
    detector.model.batches.clear()
    list(detect_all(detector, dataset, Settings(batch_size=4), []))
    assert detector.model.batches == [(4, 3, 64, 64), (1, 3, 64, 64)]


def test_boxes_come_in_image_pixels(detector: Detector, dataset: Dataset) -> None:
    found = dict(detect_all(detector, dataset, KEEP, []))
    for index in range(len(dataset)):
        detections = found[dataset.info(index).image_id].above(0.9)
        np.testing.assert_allclose(detections.boxes, dataset.instances(index).boxes, atol=1e-4)
        np.testing.assert_array_equal(detections.labels, dataset.instances(index).labels)


def test_an_unreadable_image_is_a_problem_and_a_miss(
    detector: Detector, dataset: Dataset, folder: Path
) -> None:
    (folder / "2.png").write_bytes(b"nothing")
    (folder / "5.png").unlink()
    done = evaluate(detector, dataset, KEEP)
    assert [problem.where for problem in done.problems] == ["2.png", "5.png"]
    assert {problem.kind for problem in done.problems} == {"unreadable image"}
    assert "is missing" in done.problems[1].what
    # One of two balls was found (recall 1/2), of three boxes two: 51 of 101 and 67 of 101 recall points.
    assert done.metrics["AP/ball"] == pytest.approx(51 / 101)
    assert done.metrics["AP/box"] == pytest.approx(67 / 101)


def test_a_whole_batch_may_be_unreadable(detector: Detector, dataset: Dataset, folder: Path) -> None:
    for name in ("2.png", "5.png"):
        (folder / name).unlink()
    problems: list[object] = []
    assert len(list(detect_all(detector, dataset, KEEP, problems))) == 3
    assert len(problems) == 2


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.thorough)])
def test_worker_processes_change_nothing(
    detector: Detector, dataset: Dataset, folder: Path, method: str
) -> None:
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method(method, force=True)
    (folder / "2.png").write_bytes(b"nothing")
    alone = evaluate(detector, dataset, KEEP)
    try:
        together = evaluate(detector, dataset, Settings(resize="keep", topk=5, batch_size=2, workers=1))
    finally:
        multiprocessing.set_start_method(before, force=True)
    assert together == alone


def test_large_images_share_no_batch(detector: Detector, dataset: Dataset, monkeypatch) -> None:
    monkeypatch.setattr(reading, "PIXELS_AT_ONCE", 64 * 64)
    evaluate(detector, dataset, KEEP)
    assert [shape[0] for shape in detector.model.batches] == [1, 1, 1, 1, 1]


def test_a_subset_is_measured_alone(detector: Detector, dataset: Dataset) -> None:
    done = evaluate(detector, dataset.subset([1, 4]), KEEP)
    assert done.metrics["AP"] == pytest.approx(1.0)
    assert "AP/ball" in done.metrics


def test_unknown_metric(detector: Detector, dataset: Dataset) -> None:
    with pytest.raises(CtnetError, match="no metric of task ctdet called 'cocoo'; did you mean coco"):
        evaluate(detector, dataset, Settings(metric="cocoo"))


def test_time_is_split_into_stages(detector: Detector, dataset: Dataset) -> None:
    times = evaluate(detector, dataset, KEEP).times
    assert times.images == 5
    assert all(seconds > 0 for seconds in times.seconds.values())
    assert sum(times.seconds.values()) <= times.passed
    assert times.images_per_second == pytest.approx(5 / times.passed)


def test_augmented_evaluation_looks_at_everything(detector: Detector, dataset: Dataset) -> None:
    found = dict(detect_all(detector, dataset, Settings(flip=True, scales=(1.0, 2.0), nms="hard"), []))
    assert sorted(found) == [10, 20, 30, 40, 50]
    assert detector.model.batches == [(10, 3, 64, 64), (10, 3, 128, 128)]
