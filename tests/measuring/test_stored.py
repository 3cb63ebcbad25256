"""Maps from a file, evaluated without the network that made them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ctnet.base.errors import CtnetError
from ctnet.core.task import create_task
from ctnet.data.dataset import Dataset
from ctnet.inference import Detector
from ctnet.inference.maps import MapFile, write_maps
from ctnet.measuring.reading import Settings
from ctnet.measuring.run import evaluate
from ctnet.measuring.stored import evaluate_maps

CATEGORIES = [{"id": 4, "name": "ball"}, {"id": 9, "name": "box"}]
KEEP = Settings(resize="keep", topk=5, batch_size=2)


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


def test_an_image_without_maps_has_no_detections(
    detector: Detector, dataset: Dataset, tmp_path: Path
) -> None:
    with write_maps(tmp_path / "maps.h5", detector.description, KEEP) as keep:
        evaluate(detector, dataset.subset([0, 1, 3]), KEEP, keep_maps=keep)
    with MapFile.open(tmp_path / "maps.h5") as maps:
        done = evaluate_maps(maps, dataset, detector.task)
    assert sorted(done.evaluator.state()) == [10, 20, 40]
    assert done.metrics["AR100"] < 0.7  # two of the five objects are missed


def test_metric_and_limits_are_those_asked_for(detector: Detector, dataset: Dataset, tmp_path: Path) -> None:
    with write_maps(tmp_path / "maps.h5", detector.description, KEEP) as keep:
        evaluate(detector, dataset, KEEP, keep_maps=keep)
    with MapFile.open(tmp_path / "maps.h5") as maps:
        assert "mAP" in evaluate_maps(maps, dataset, detector.task, metric="voc07").metrics
        one = evaluate_maps(maps, dataset, detector.task, topk=1, max_dets=1)
    assert one.evaluator.max_dets == 1
    assert {len(found) for found in one.evaluator.state().values()} == {1}


def test_maps_of_other_heads_are_refused(detector: Detector, dataset: Dataset, tmp_path: Path) -> None:
    with write_maps(tmp_path / "maps.h5", detector.description, KEEP) as keep:
        evaluate(detector, dataset, KEEP, keep_maps=keep)
    other = create_task("ctdet", [*CATEGORIES, {"id": 10, "name": "cone"}])
    with MapFile.open(tmp_path / "maps.h5") as maps, pytest.raises(CtnetError, match="heatmap"):
        evaluate_maps(maps, dataset, other)
