"""Operating points in exported files: taken from the run, used, and replaced without any other change."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ctnet.base.errors import CtnetError
from ctnet.checkpoint.exported import Exported
from ctnet.checkpoint.file import save_operating_points
from ctnet.core.operating import OperatingPoint, OperatingPoints
from ctnet.export.detector import Trials, export_detector
from ctnet.export.operating import write_operating_points
from ctnet.inference import Detector


def points(names: tuple[str, ...], score: float) -> OperatingPoints:
    classes = {name: OperatingPoint(score, 0.9, 0.8, 0.85, 50) for name in names}
    return OperatingPoints("f1", None, "IoU 0.5", "val", 60, classes, classes[names[0]])


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)


@pytest.mark.export
@pytest.mark.parametrize("suffix", [".onnx", ".xml", ".pt2"])
def test_they_are_replaced_and_nothing_else(exported, picture, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"m{suffix}"
    for source in exported("ctdet", suffix).path.parent.glob(f"{exported('ctdet', suffix).path.stem}.*"):
        if source.suffix in (suffix, ".bin"):
            shutil.copy(source, path.with_suffix(source.suffix))
    before = Detector.load(path)
    (found,) = before(picture, score=0)
    middle = float(np.sort(found.scores)[-5:-3].mean())
    write_operating_points(path, points(before.class_names, middle))
    after = Detector.load(path)
    assert after.thresholds().scores.tolist() == [middle] * len(before.class_names)
    (kept,) = after(picture)
    assert kept.scores.tolist() == found.scores[:4].tolist()
    (again,) = after(picture, score=0)
    assert again.boxes.tolist() == found.boxes.tolist()
    assert before.exported is not None
    assert after.exported is not None
    assert replace(after.exported.about, operating_points=None) == before.exported.about
    with pytest.raises(
        CtnetError, match=rf"m\{suffix} are of other classes: 'ball' is missing; choose thresholds"
    ):
        write_operating_points(path, points(("cup",), 0.4))


def test_an_export_takes_those_of_the_run(run_of, tmp_path: Path) -> None:
    shutil.copy(run_of("ctdet"), tmp_path / "best.pt")
    names = Detector.load(tmp_path / "best.pt", "cpu").class_names
    save_operating_points(tmp_path / "best.pt", points(names, 0.41))
    done = export_detector(tmp_path / "best.pt", tmp_path / "m.pt2", trials=Trials(images=2))
    assert done.exported.operating_points == points(names, 0.41)
    assert Detector.load(done.path).thresholds().scores.tolist() == [0.41] * len(names)
    document = json.loads(done.exported.to_json())
    document["operating_points"]["classes"]["ball"]["score"] = "high"
    with pytest.raises(
        CtnetError, match=r"at operating_points\.classes\.ball\.score: 'high', expected a number"
    ):
        Exported.from_json(json.dumps(document), "m.pt2")
    del document["operating_points"]["classes"]["ball"]
    with pytest.raises(
        CtnetError, match=r"the operating points in m\.pt2 are of other classes: 'ball' is missing"
    ):
        Exported.from_json(json.dumps(document), "m.pt2")
