"""KITTI's figures through ``ctnet eval``, and detections in results files."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ctnet.base.errors import CtnetError
from ctnet.base.files import read_json
from ctnet.core.documents import detections_of, results_of, truth_of
from ctnet.core.records import Detections
from ctnet.core.task import scenes_of
from ctnet.data.dataset import Dataset
from ctnet.evaluation.evaluators import evaluator_of
from ctnet.measuring.results import read_results
from ctnet_tasks_ddd.camera import box_corners, project
from ctnet_tasks_ddd.evaluation import KittiEvaluator
from ctnet_tasks_ddd.kitti import convert_kitti
from ctnet_tasks_ddd.kitti_eval import evaluate
from ctnet_tasks_ddd.kitti_export import write_results
from ctnet_tasks_ddd.task import Boxes3d

CATEGORIES = scenes_of(Boxes3d).categories


#: As in the calibration of ``make_kitti``.
CAMERA = np.array([[721.5, 0, 609.6, 44.9], [0, 721.5, 172.9, 0.2], [0, 0, 1, 0.003]])


def label(kind: str, x: float, z: float) -> str:
    """A label line whose numbers agree."""
    corners = box_corners(np.array([[1.5, 1.6, 2.0]]), np.array([[x, 1.7, z]]), np.array([0.4]))
    points = project(corners, CAMERA)[0]
    box = " ".join(f"{side:.2f}" for side in (*points.min(axis=0), *points.max(axis=0)))
    return f"{kind} 0.00 0 {0.4 - np.arctan2(x, z):.2f} {box} 1.50 1.60 2.00 {x:.2f} 1.70 {z:.2f} 0.40"


@pytest.fixture
def data(make_kitti, tmp_path) -> Dataset:
    """Three frames: many cars, pedestrians, and objects that count as neither right nor wrong."""
    frames = {
        f"{number:06d}": [
            *(label("Car", x, 20 + 3 * number) for x in np.arange(-12, 13, 4.0)),
            label("Pedestrian", 5.5, 12 + number),
            label("Van", 16, 30),
            "DontCare -1 -1 -10 20.00 10.00 60.00 50.00 -1 -1 -1 -1000 -1000 -1000 -10",
        ]
        for number in range(3)
    }
    convert_kitti(make_kitti(frames), tmp_path / "coco", images="none")
    return Dataset.open(tmp_path / "coco", "train").with_task(Boxes3d(CATEGORIES))


def shaken(dataset: Dataset) -> dict[int, Detections]:
    """What a decent detector would find, with distinct scores."""
    task = dataset.task
    rng = np.random.default_rng(0)
    found = {}
    for index in range(len(dataset)):
        info = dataset.info(index)
        truth = truth_of(task, dataset.instances(index))
        moved = truth.location + rng.normal(0, 0.15, truth.location.shape)
        found[info.image_id] = truth.replace(
            location=moved, depth=moved[:, 2], scores=rng.random(len(truth)), alpha=truth.alpha + 0.2
        )
    return found


def test_figures_are_those_of_the_same_detections_in_files(data, make_kitti, tmp_path) -> None:
    entries = []
    evaluator = evaluator_of(data.task, data, "kitti-half")
    for image_id, found in shaken(data).items():
        evaluator.update(image_id, found)
        entries += results_of(data.task, image_id, found)
    figures = evaluator.compute()
    (tmp_path / "results.json").write_text(json.dumps(entries))
    write_results(tmp_path / "coco", "train", tmp_path / "results.json", tmp_path / "out")
    expected = evaluate(tmp_path / "kitti" / "training" / "label_2", tmp_path / "out", iou="half")
    compared = 0
    for name, key in (("Car", "car"), ("Pedestrian", "pedestrian")):
        for prefix, metric in (
            ("AP2D", "detection"),
            ("AOS", "orientation"),
            ("APBEV", "ground"),
            ("AP3D", "3d"),
        ):
            for difficulty, figure in expected.figures[key][metric].items():
                start = f"{prefix}/{name}/{difficulty}"
                assert figures[f"{start}/R40"] == pytest.approx(figure.R40 / 100, abs=1e-4)
                assert figures[f"{start}/R11"] == pytest.approx(figure.R11 / 100, abs=1e-4)
                compared += 1
    assert compared == 24
    assert not any("Cyclist" in name for name in figures)
    assert 0 < figures["AP3D"] < figures["AP2D"]
    assert figures["AP3D"] == pytest.approx((figures["AP3D/Car"] + figures["AP3D/Pedestrian"]) / 2)
    assert figures["found"] == 1
    assert 0 < figures["depth_error/Car"] < 0.02
    assert figures["orientation_error"] == pytest.approx(np.degrees(0.2), rel=1e-3)
    assert figures["AP"] == pytest.approx(np.mean([figures[n] for n in ("AP2D", "AOS", "APBEV", "AP3D")]))
    assert evaluator.curves()["car"]["3d"]["easy"]["curve"]


def test_truth_reaches_one_on_a_small_split_where_the_benchmark_cannot(data) -> None:
    evaluator = evaluator_of(data.task, data)
    for index in range(len(data)):
        info = data.info(index)
        truth = truth_of(data.task, data.instances(index))
        scores = np.linspace(1, 0.5, len(truth)) - 0.01 * index  # all different
        evaluator.update(info.image_id, truth.replace(scores=scores))
    figures = evaluator.compute()
    assert figures["AP"] == figures["AP3D/Car"] == pytest.approx(1)
    assert figures["depth_error"] == pytest.approx(0, abs=1e-6)
    assert figures["AP3D/Car/moderate/R40"] < 0.6  # 21 cars


def test_summaries_of_many_objects_are_the_benchmark_s(golden) -> None:
    """On the reference's labels and results the summary's average is R40."""
    from ctnet_tasks_ddd.evaluation import _average

    shared = golden.parent / "data" / "kitti-labels" / "label_2.zip"
    if not shared.is_file():
        pytest.skip("the labels of the reference are not here")
    frames = read_json(golden / "kitti_eval" / "frames.json")
    names = [f"{number:06d}" for number in (frames if isinstance(frames, list) else frames["A"])]
    result = evaluate(shared, golden / "kitti_eval" / "A_jitter.zip", names, "shipped")
    compared = 0
    for metrics in result.figures.values():
        for difficulties in metrics.values():
            for figure in difficulties.values():
                if figure.objects >= 80:
                    assert 100 * _average(figure) == pytest.approx(figure.R40, abs=1e-6)
                    compared += 1
    assert compared


def test_without_detections_every_figure_is_zero(data) -> None:
    figures = evaluator_of(data.task, data).compute()
    assert {figures[name] for name in ("AP", "AP2D", "AOS", "APBEV", "AP3D", "found")} == {0.0}
    assert "depth_error" not in figures


def test_boxes_without_a_place_in_space_are_measured_as_boxes(data) -> None:
    evaluator = evaluator_of(data.task, data)
    for image_id, found in shaken(data).items():
        evaluator.update(image_id, Detections(found.boxes, found.scores, found.labels))
    figures = evaluator.compute()
    assert figures["AP2D"] > 0.9
    assert figures["AP3D"] == figures["APBEV"] == figures["AOS"] == 0


def test_crowds_of_other_data_are_neither_right_nor_wrong(data) -> None:
    content = data.as_coco(full=True)
    bare = [{k: v for k, v in a.items() if k not in ("type", "line")} for a in content["annotations"]]
    evaluator = KittiEvaluator({**content, "annotations": bare}, [1, 2, 3], [c["name"] for c in CATEGORIES])
    for image_id, found in shaken(data).items():
        one = found[:1]
        region = one.replace(boxes=np.array([[21.0, 11, 59, 49]]), scores=np.array([2.0]))
        columns = {k: np.concatenate([v, region.fields()[k]]) for k, v in found.fields().items()}
        boxes, scores, labels = (columns.pop(k) for k in ("boxes", "scores", "labels"))
        evaluator.update(image_id, Detections(boxes, scores, labels, columns))
    assert evaluator.compute()["AP2D"] == pytest.approx(1)


def test_classes_unknown_to_the_benchmark_are_refused(data) -> None:
    content = data.as_coco(full=True)
    with pytest.raises(CtnetError, match="evaluates Car, Pedestrian and Cyclist, not bus"):
        KittiEvaluator(content, [2], ["bus"])


def test_unknown_metrics_offer_names(data) -> None:
    with pytest.raises(CtnetError, match="kitti-shipped"):
        evaluator_of(data.task, data, "kitti-shippd")
    assert evaluator_of(data.task, data, "coco").main_metric == "AP"


@pytest.mark.parametrize("lifted", [True, False])
def test_results_come_back(data, lifted: bool) -> None:
    found = next(iter(shaken(data).values()))
    if not lifted:
        found = Detections(found.boxes, found.scores, found.labels, {"alpha": found.alpha})
    entries = json.loads(json.dumps(results_of(data.task, 1, found)))
    back = detections_of(data.task, entries)
    kept = {name: column for name, column in found.fields().items() if name != "centre"}  # in no file
    assert set(back.fields()) == set(kept)
    for name, column in kept.items():
        np.testing.assert_allclose(back.fields()[name], column, atol=1e-4)


def test_an_entry_that_lacks_what_others_have_is_refused() -> None:
    entries = [{"category_id": 1, "bbox": [0, 0, 1, 1], "score": 1, "alpha": 0.1}] * 2
    entries[1] = {k: v for k, v in entries[1].items() if k != "alpha"}
    with pytest.raises(ValueError, match="alpha is missing"):
        detections_of(Boxes3d(CATEGORIES), entries)


@pytest.mark.parametrize("key", ["dim", "location", "alpha", "rotation_y"])
def test_results_of_which_one_lacks_a_field_are_named(data: Dataset, key: str) -> None:
    task = data.task
    entries = [entry for image, found in shaken(data).items() for entry in results_of(task, image, found)]
    image = entries[0]["image_id"]
    del entries[0][key]
    with pytest.raises(
        CtnetError, match=rf"the entries of image {image} in .* \({key} is missing\); write the"
    ):
        read_results(entries, task, data.image_ids.tolist())
