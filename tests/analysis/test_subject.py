"""A detector, its results file and its stored maps: opened and evaluated in the same way."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ctnet import checkpoint
from ctnet.analysis.errors import study_errors
from ctnet.analysis.subject import DetectorSubject, Ground, MapsSubject, ResultsSubject, Subject
from ctnet.base.errors import CtnetError
from ctnet.data.dataset import Dataset
from ctnet.inference import Detector
from ctnet.measuring.reading import Settings

SETTINGS = Settings(topk=20)


@pytest.fixture
def saved(
    scenes: Dataset, untrained: Callable[..., Detector], tiny_backbone: Callable[..., object], tmp_path: Path
) -> Iterator[Path]:
    """A checkpoint, with its results file and its maps next to it."""
    detector = untrained(scenes.task, (64, 64))
    path = tmp_path / "model.pt"
    with tiny_backbone():  # type: ignore[attr-defined]
        checkpoint.save(path, detector.description, dict(detector.model.state_dict()))
        subject = Subject.of(path, ground=ground_of(scenes), device="cpu")
        done = subject.evaluate(SETTINGS, save_maps=tmp_path / "maps.h5")
        (tmp_path / "results.json").write_text(json.dumps(done.results(subject.task)))
        yield path


def ground_of(dataset: Dataset, strict: bool = False) -> Ground:
    return Ground(dataset.coco.path.parents[1], "val", strict)


def opened(saved: Path, ground: Ground) -> dict[str, Subject]:
    return {
        "checkpoint": Subject.of(saved, ground=ground, device="cpu"),
        "results": Subject.of(results=saved.with_name("results.json"), task_name="ctdet", ground=ground),
        "maps": Subject.of(maps=saved.with_name("maps.h5"), ground=ground),
    }


def test_all_three_measure_alike(saved: Path, scenes: Dataset) -> None:
    subjects = opened(saved, ground_of(scenes))
    assert [type(one) for one in subjects.values()] == [DetectorSubject, ResultsSubject, MapsSubject]
    assert {kind: one.kind for kind, one in subjects.items()} == {kind: kind for kind in subjects}
    done = {kind: one.evaluate(SETTINGS) for kind, one in subjects.items()}
    assert done["results"].metrics == pytest.approx(done["checkpoint"].metrics, abs=1e-6)
    assert done["maps"].metrics == pytest.approx(done["checkpoint"].metrics, abs=0.05)
    found = {kind: one.found(SETTINGS) for kind, one in subjects.items()}
    ids = set(scenes.image_ids.tolist())
    assert set(found["checkpoint"]) == set(found["maps"]) == ids
    for image_id, one in found["results"].items():
        assert one.scores == pytest.approx(found["checkpoint"][image_id].scores)


def test_errors_are_studied_of_all_three(saved: Path, scenes: Dataset) -> None:
    subjects = opened(saved, ground_of(scenes))
    studies = {kind: study_errors(one, ["size"], SETTINGS) for kind, one in subjects.items()}
    assert studies["results"].oracle is None
    assert studies["results"].breakdown == studies["checkpoint"].breakdown
    for kind in ("checkpoint", "maps"):
        oracle = studies[kind].oracle
        assert oracle is not None
        assert [row.heads for row in oracle.rows] == [(), ("size",)]
        assert studies[kind].empty_images == 0


def test_only_a_detector_depends_on_the_device(saved: Path, scenes: Dataset) -> None:
    settled = {
        kind: one.on_device(SETTINGS, 3, "bf16") for kind, one in opened(saved, ground_of(scenes)).items()
    }
    assert settled["checkpoint"].workers == 3
    assert settled["checkpoint"].amp is not None
    assert settled["results"] == settled["maps"] == SETTINGS


def test_bad_records_are_refused_of_all_three(saved: Path, scenes: Dataset, tmp_path: Path) -> None:
    content = json.loads(scenes.coco.path.read_text())
    content["annotations"][0]["bbox"][2] = 0
    folder = tmp_path / "data"
    (folder / "annotations").mkdir(parents=True)
    (folder / "annotations" / "instances_val.json").write_text(json.dumps(content))
    assert len(opened(saved, Ground(folder, "val"))) == 3
    files = {"results": saved.with_name("results.json"), "task_name": "ctdet"}
    for source in ({"run": saved, "device": "cpu"}, files, {"maps": saved.with_name("maps.h5")}):
        with pytest.raises(CtnetError, match="has 1 bad records"):
            Subject.of(**source, ground=Ground(folder, "val", strict=True))


def test_mistakes(saved: Path, scenes: Dataset, tmp_path: Path) -> None:
    ground = ground_of(scenes)
    results, maps = saved.with_name("results.json"), saved.with_name("maps.h5")
    with pytest.raises(CtnetError, match=r"name the data set of the results of .*results.json: --data DIR"):
        Subject.of(results=results, task_name="ctdet")
    with pytest.raises(CtnetError, match=r"name the data set of the maps of .*maps.h5: --data DIR"):
        Subject.of(maps=maps)
    with pytest.raises(CtnetError, match="--task is for --results"):
        Subject.of(maps=maps, task_name="ctdet", ground=ground)
    with pytest.raises(CtnetError, match=r"cannot read .*gone\.pt"):
        Subject.of(tmp_path / "gone.pt", ground=ground)
    with pytest.raises(CtnetError, match="is not in a run folder that names its data; give --data DIR"):
        Subject.of(saved, device="cpu")
    content = json.loads(scenes.coco.path.read_text())
    content["categories"][0]["name"] = "banana"
    other = tmp_path / "other"
    (other / "annotations").mkdir(parents=True)
    (other / "annotations" / "instances_val.json").write_text(json.dumps(content))
    for source in ({"run": saved, "device": "cpu"}, {"maps": maps}):
        with pytest.raises(CtnetError, match="different categories than the detector"):
            Subject.of(**source, ground=Ground(other))
