"""Which detections a detector returns: its operating points, a score that is given, calibrated scores."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ctnet import checkpoint
from ctnet.base.errors import CtnetError
from ctnet.core.operating import Calibration, CalibrationCurve, OperatingPoint, OperatingPoints
from ctnet.core.records import Detections
from ctnet.inference import DetectionSettings, Detector
from ctnet.inference.prediction import predict
from ctnet.inference.sources import open_sources
from ctnet.inference.thresholds import Thresholds, other_settings
from ctnet.report.writing import write_image


def points(ball: float, box: float) -> OperatingPoints:
    classes = {
        name: OperatingPoint(score, 0.9, 0.8, 0.85, 50) for name, score in (("ball", ball), ("box", box))
    }
    return OperatingPoints(
        "f1", None, "IoU 0.5", "val", 60, classes, OperatingPoint(0.4, 0.9, 0.8, 0.85, 100)
    )


def calibrated(ball: float, box: float) -> OperatingPoints:
    """Balls are always right, boxes in a tenth of the cases."""
    curves = {"ball": CalibrationCurve((0.0, 1.0), (0.9, 1.0)), "box": CalibrationCurve((0.5,), (0.1,))}
    return replace(points(ball, box), calibration=Calibration(curves, curves["box"], 0.1, 0.0, 5))


@pytest.fixture
def picture(random_image) -> np.ndarray:
    return random_image(96, 64)


@pytest.fixture
def everything(detector: Detector, picture: np.ndarray) -> np.ndarray:
    """Scores by label, of all detections."""
    (found,) = detector(picture, score=0)
    assert {*found.labels.tolist()} == {0, 1}
    return found


def test_every_class_has_its_own_threshold(detector: Detector, picture: np.ndarray, everything) -> None:
    balls, boxes = (np.sort(everything.scores[everything.labels == label]) for label in (0, 1))
    detector.operating_points = points(float(balls[-4:-2].mean()), float(boxes[-8:-6].mean()))
    (found,) = detector(picture)
    assert [int((found.labels == label).sum()) for label in (0, 1)] == [3, 7]
    assert (np.diff(found.scores) <= 0).all()
    (given,) = detector(picture, score=float(balls[-2:].mean()))
    assert int((given.labels == 0).sum()) == 1
    (set_before,) = detector(picture, DetectionSettings(score=0.0))
    assert len(set_before) == len(everything)


def test_a_threshold_next_to_a_score_is_exact() -> None:
    """Thresholds are doubles, scores are floats: what is kept does not depend on the rounding."""
    score = np.float32(0.412)  # a little more than the double
    thresholds = Thresholds.of(None, points(0.412, 0.5), ["ball", "box"])
    assert thresholds.lowest < score
    found = Detections(np.zeros((1, 4), np.float32), np.array([score]), np.array([0]))
    assert len(thresholds.kept(found)) == 1


def test_without_operating_points_it_is_a_number_for_all(detector: Detector) -> None:
    assert detector.thresholds().scores.tolist() == [0.3, 0.3]
    assert detector.thresholds().said.endswith(
        "0.3 for all classes, since the detector has no operating points"
    )
    assert detector.thresholds(0.25).said == "threshold: 0.25 for all classes"
    detector.operating_points = points(0.41, 0.3)
    assert detector.thresholds().said.endswith("best F1 on val, ball 0.41, box 0.30")
    assert detector.thresholds(0.25).scores.tolist() == [0.25, 0.25]


def test_calibrated_scores_after_raw_thresholds(detector: Detector, picture: np.ndarray, everything) -> None:
    lowest = float(np.sort(everything.scores)[-10:-8].mean())
    detector.operating_points = calibrated(lowest, lowest)
    (raw,), (found,) = detector(picture), detector(picture, DetectionSettings(calibrated=True))
    assert len(raw) == len(found) == 9
    assert found.labels.tolist() == sorted(raw.labels.tolist()), "balls first, however they scored"
    assert found.scores[found.labels == 1] == pytest.approx(0.1)
    balls = raw.scores[raw.labels == 0]
    assert found.scores[found.labels == 0] == pytest.approx(0.9 + balls / 10, abs=1e-6)


def test_no_calibration_is_one_line(detector: Detector, picture: np.ndarray) -> None:
    for operating_points in (None, points(0.4, 0.4)):
        detector.operating_points = operating_points
        with pytest.raises(CtnetError, match="has no calibration; fit one with `ctnet analyze thresholds"):
            detector(picture, DetectionSettings(calibrated=True))


def test_predict_keeps_and_calibrates_the_same(
    detector: Detector, picture: np.ndarray, everything, tmp_path: Path
) -> None:
    lowest = float(np.sort(everything.scores)[-6:-4].mean())
    detector.operating_points = calibrated(lowest, lowest)
    write_image(tmp_path / "one.png", picture)
    sources = open_sources([str(tmp_path / "one.png")])
    for settings in (DetectionSettings(), DetectionSettings(calibrated=True)):
        done = predict(detector, sources, tmp_path / "out", settings, draw=False)
        (found,) = detector(picture, settings)
        assert [entry["score"] for entry in done.results] == pytest.approx(found.scores.tolist(), abs=1e-3)
        assert len(done.results) == 5
        assert done.best_score == pytest.approx(everything.scores.max())


def test_they_travel_with_the_checkpoint(detector: Detector, run_folder: Path) -> None:
    assert Detector.load(run_folder, "cpu").operating_points is None
    checkpoint.file.save_operating_points(run_folder / "best.pt", calibrated(0.41, 0.3))
    opened = Detector.load(run_folder, "cpu")
    assert opened.operating_points == calibrated(0.41, 0.3)
    assert opened.thresholds().scores.tolist() == [0.41, 0.3]
    weights = checkpoint.load(run_folder / "best.pt").weights
    assert all((weights[name] == tensor).all() for name, tensor in detector.model.state_dict().items())


def test_other_test_time_settings_are_said() -> None:
    assert other_settings(points(0.4, 0.4), "") == ""
    assert other_settings(None, "flip") == ""
    flipped = DetectionSettings(flip=True, scales=(0.5, 1.0), size=(64, 96), nms="hard", resize="fix")
    assert flipped.in_words == "flip, scales 0.5 and 1, nms hard, size 64x96"
    line = other_settings(points(0.4, 0.4), flipped.in_words)
    assert line.startswith(
        "the thresholds were chosen for the usual settings, not for flip, scales 0.5 and 1"
    )
    kept = replace(points(0.4, 0.4), test_time="resize keep")
    assert "chosen for resize keep, not for the usual settings" in other_settings(kept, "")
