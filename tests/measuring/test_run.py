from __future__ import annotations

import json
import multiprocessing
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ctnet.base.errors import CtnetError
from ctnet.checkpoint import MEAN, STD, Description
from ctnet.core.records import Instances
from ctnet.core.targets import Grid
from ctnet.core.task import Task, create_task
from ctnet.data.dataset import Dataset
from ctnet.inference import Detector
from ctnet.inference.maps import MapFile, write_maps
from ctnet.measuring import run
from ctnet.measuring.run import Settings, detect_all, evaluate
from ctnet.measuring.stored import evaluate_maps

SIZES = [(64, 64), (60, 40), (64, 64), (64, 64), (60, 40)]
CATEGORIES = [{"id": 4, "name": "ball"}, {"id": 9, "name": "box"}]


class OneBox(nn.Module):
    """Finds one box of 16x16 input pixels around (32, 32) in every image, of the class its grey tells."""

    backbone = SimpleNamespace(divisor=32, stride=4)

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task
        self.batches: list[tuple[int, ...]] = []

    def activated(self, inputs: Tensor) -> dict[str, Tensor]:
        self.batches.append(tuple(inputs.shape))
        grey = (inputs[:, 0, 20, 20] * STD[0] + MEAN[0]) * 255
        grid = Grid(inputs.shape[2] // 4, inputs.shape[3] // 4)
        maps: dict[str, list[Tensor]] = {name: [] for name in self.task.heads}
        for value in grey.tolist():
            targets = self.task.encode(Instances.of([[6, 6, 10, 10]], [int(value > 128)]), grid)
            for name, head in self.task.heads.items():
                maps[name].append(head.render(targets[name], grid))
        return {name: torch.cat(parts) for name, parts in maps.items()}


@pytest.fixture
def detector() -> Detector:
    task = create_task("ctdet", CATEGORIES)
    return Detector(task, OneBox(task), Description.of(task, "one", (64, 64)))  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five images whose truth is what ``OneBox`` finds with "keep"; even ones are dark."""
    images, annotations = [], []
    for number, (width, height) in enumerate(SIZES, start=1):
        name = f"{number}.png"
        grey = 60 if number % 2 == 0 else 200
        cv2.imwrite(str(tmp_path / name), np.full((height, width, 3), grey, np.uint8))
        images.append({"id": 10 * number, "file_name": name, "width": width, "height": height})
        # "keep" pads to (64, 64) or (96, 96) and centres: the box in the image's own pixels.
        pad_x, pad_y = ((side | 31) + 1 for side in (width, height))
        corner = [24 - (pad_x // 2 - width // 2), 24 - (pad_y // 2 - height // 2)]
        category = 4 if number % 2 == 0 else 9
        bbox = [*corner, 16, 16]
        annotations.append({"id": number, "image_id": 10 * number, "category_id": category, "bbox": bbox})
    content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_val.json").write_text(json.dumps(content))
    return tmp_path


@pytest.fixture
def dataset(folder: Path, detector: Detector, monkeypatch, tmp_path_factory) -> Dataset:
    monkeypatch.setenv("CTNET_CACHE", str(tmp_path_factory.mktemp("cache")))
    return Dataset.open(folder, "val", task=detector.task)


KEEP = Settings(resize="keep", topk=5, batch_size=2)


def test_a_detector_without_error_is_perfect(detector: Detector, dataset: Dataset) -> None:
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
    # Of two balls one was seen (recall 1/2), of three boxes two: 51 of 101 and 67 of 101 recall points.
    assert done.metrics["AP/ball"] == pytest.approx(51 / 101)
    assert done.metrics["AP/box"] == pytest.approx(67 / 101)


def test_a_whole_batch_may_be_unreadable(detector: Detector, dataset: Dataset, folder: Path) -> None:
    for name in ("2.png", "5.png"):
        (folder / name).unlink()
    problems: list[object] = []
    assert len(list(detect_all(detector, dataset, KEEP, problems))) == 3
    assert len(problems) == 2


@pytest.mark.parametrize("method", ["fork", "spawn"])
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
    monkeypatch.setattr(run, "PIXELS_AT_ONCE", 64 * 64)
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


# --- maps of a file


@pytest.mark.parametrize("settings", [KEEP, Settings(flip=True, scales=(0.5, 1.0), nms="hard", topk=5)])
def test_stored_maps_measure_as_the_network_did(
    settings: Settings, detector: Detector, dataset: Dataset, tmp_path: Path
) -> None:
    with write_maps(tmp_path / "maps.h5", detector.description, settings) as keep:
        done = evaluate(detector, dataset, settings, keep_maps=keep)
    with MapFile.open(tmp_path / "maps.h5") as maps:
        again = evaluate_maps(maps, dataset, detector.task, settings.topk, settings.nms)
    assert again.metrics == pytest.approx(done.metrics, abs=2e-3)
    assert again.times.images == 5
    for image_id, before in done.evaluator.state().items():
        after = again.evaluator.state()[image_id]
        good = before.scores > 0.1  # nothing else was rendered
        np.testing.assert_allclose(after.scores[good], before.scores[good], rtol=2e-3)
        np.testing.assert_allclose(after.boxes[good], before.boxes[good], atol=0.1)


def test_maps_of_other_images_are_refused(detector: Detector, dataset: Dataset, tmp_path: Path) -> None:
    with write_maps(tmp_path / "maps.h5", detector.description, KEEP) as keep:
        evaluate(detector, dataset, KEEP, keep_maps=keep)
    fewer = dataset.subset([0, 1, 3])
    with (
        MapFile.open(tmp_path / "maps.h5") as maps,
        pytest.raises(
            CtnetError, match=r"image id [35]0 of .*maps\.h5 is not in the ground truth, which has 3"
        ),
    ):
        evaluate_maps(maps, fewer, detector.task)
