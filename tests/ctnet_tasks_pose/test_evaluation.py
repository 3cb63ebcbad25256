from __future__ import annotations

import json
import logging

import numpy as np
import pytest

from ctnet.base import output
from ctnet.base.errors import CtnetError
from ctnet.core.documents import truth_of
from ctnet.core.records import Detections
from ctnet.core.task import create_task
from ctnet.data.dataset import Dataset
from ctnet.data.synthetic import write_dataset
from ctnet.evaluation.coco import ENGINES
from ctnet.evaluation.evaluators import evaluator_of
from ctnet.testing.redrawn import evaluated, require_exact
from ctnet_tasks_pose.evaluation import CocoKeypointEvaluator
from ctnet_tasks_pose.figures import FIGURES


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Dataset:
    """Twelve scenes of figures of many sizes."""
    folder = tmp_path_factory.mktemp("figures")
    task = create_task("pose", FIGURES)
    write_dataset(task, folder, {"val": 12}, size=(192, 144))
    return Dataset.open(folder, "val", task)


def guesses(dataset: Dataset, noise: float, seed: int = 0) -> dict[int, Detections]:
    """The annotated poses with noise (pixels), some twice and some not at all."""
    rng = np.random.default_rng(seed)
    found = {}
    for index in range(len(dataset)):
        info = dataset.info(index)
        truth = truth_of(dataset.task, dataset.instances(index))
        truth = truth[np.repeat(np.arange(len(truth)), rng.integers(0, 3, len(truth)))]
        found[info.image_id] = truth.replace(
            scores=rng.random(len(truth)).astype(np.float32),
            keypoints=truth.keypoints + rng.normal(0, noise, truth.keypoints.shape).astype(np.float32),
            boxes=truth.boxes + rng.normal(0, noise, truth.boxes.shape).astype(np.float32),
        )
    return found


def figures(evaluator, found: dict[int, Detections]) -> dict[str, float]:
    for image_id, detections in found.items():
        evaluator.update(image_id, detections)
    return evaluator.compute()


@pytest.mark.parametrize("noise", [0.0, 2.0, 6.0])
def test_the_reference_gives_the_same_figures(scenes, noise):
    found = guesses(scenes, noise)
    evaluators = [
        evaluator_of(scenes.task, scenes, metric) for metric in ("keypoints", "keypoints-reference")
    ]
    assert tuple(evaluator.engine for evaluator in evaluators) == ENGINES
    one, other = (figures(evaluator, found) for evaluator in evaluators)
    assert set(one) == {"AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL"}
    assert one == pytest.approx(other, abs=1e-9)
    assert 0.05 < one["AP"] < 0.95


def test_truth_is_perfect_and_nothing_is_zero(scenes):
    task = scenes.task
    truth = {
        info.image_id: truth_of(task, scenes.instances(index))
        for index, info in ((i, scenes.info(i)) for i in range(len(scenes)))
    }
    for metric in task.metrics:
        assert figures(evaluator_of(task, scenes, metric=metric), truth)["AP"] == pytest.approx(1)
        assert figures(evaluator_of(task, scenes, metric=metric), {})["AP"] == 0


@pytest.mark.parametrize("engine", ENGINES)
def test_the_skeletons_own_tolerances_count(engine):
    """One joint, off by d: it is right at the thresholds up to exp(-d^2 / (8 sigma^2 area))."""
    area, distance = 10_000.0, 12.0
    truth = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "categories": [{"id": 1, "name": "dot", "keypoints": ["tip"]}],
        "annotations": [
            {
                "image_id": 1,
                "category_id": 1,
                "bbox": [0, 0, 100, 100],
                "area": area,
                "keypoints": [50, 50, 2],
            }
        ],
    }
    found = Detections(
        np.array([[0.0, 0, 100, 100]]),
        np.array([1.0]),
        np.array([0]),
        {"keypoints": np.array([[[50 + distance, 50.0]]]), "keypoint_scores": np.ones((1, 1))},
    )
    for sigma in (0.03, 0.05, 0.1, 0.3):
        category = {**truth["categories"][0], "sigmas": [sigma]}
        evaluator = CocoKeypointEvaluator({**truth, "categories": [category]}, [1], ["dot"], engine=engine)
        similarity = np.exp(-(distance**2) / (2 * (2 * sigma) ** 2 * area))
        expected = (similarity >= np.arange(50, 100, 5) / 100).mean()
        assert figures(evaluator, {1: found})["AP"] == pytest.approx(expected), sigma


def with_keypoints(dataset: Dataset, change) -> dict:
    content = dataset.as_coco(full=True)
    for annotation in content["annotations"]:
        change(annotation)
    return content


def test_what_cannot_be_measured_is_refused(scenes):
    task = scenes.task

    def evaluator(content: dict) -> CocoKeypointEvaluator:
        return CocoKeypointEvaluator(content, task.categories.ids, task.categories.names)

    with pytest.raises(CtnetError, match="no person of the ground truth has a labelled joint"):
        evaluator(with_keypoints(scenes, lambda entry: entry.pop("keypoints")))
    with pytest.raises(CtnetError, match=f"has 50 keypoint numbers, not {3 * len(task.skeleton)}"):
        evaluator(with_keypoints(scenes, lambda entry: entry.update(keypoints=entry["keypoints"][:50])))
    image_id = int(scenes.image_ids[0])
    found = guesses(scenes, 0.0)
    good = next(detections for detections in found.values() if len(detections))
    fresh = evaluator_of(task, scenes)
    with pytest.raises(CtnetError, match="NaN or infinity"):
        fresh.update(image_id, good.replace(keypoints=good.keypoints * np.nan))
    with pytest.raises(CtnetError, match=r"keypoints of shape \(\d+, 5, 2\)"):
        fresh.update(image_id, good.replace(keypoints=good.keypoints[:, :5]))


def test_persons_without_labelled_joints_absorb_detections(scenes):
    """As in COCO: a detection of an unlabelled person is not an error, one on the background is."""
    content = scenes.as_coco(full=True)
    found = {}
    for index in range(len(scenes)):
        info = scenes.info(index)
        found[info.image_id] = truth_of(scenes.task, scenes.instances(index))
    lonely = next(image_id for image_id, detections in found.items() if len(detections) == 1)
    for annotation in content["annotations"]:
        if annotation["image_id"] == lonely:
            annotation["keypoints"] = [0] * len(annotation["keypoints"])
    task = scenes.task
    evaluator = CocoKeypointEvaluator(content, task.categories.ids, task.categories.names)
    assert figures(evaluator, found)["AP"] == pytest.approx(1)
    far = found[lonely].replace(keypoints=found[lonely].keypoints + 5000, scores=np.array([2.0]))
    assert figures(evaluator, {lonely: far})["AP"] < 0.99


def test_assumed_tolerances_are_reported_once(scenes, caplog):
    output._WARNED.clear()
    category = {"id": 1, "name": "bird", "keypoints": ["nose", "beak", "tail"]}
    truth = {
        "images": [{"id": 1}],
        "categories": [category],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "keypoints": [1, 1, 2] * 3}],
    }
    with caplog.at_level(logging.WARNING, "ctnet"):
        for _ in range(2):
            CocoKeypointEvaluator(truth, [1], ["bird"])
    (message,) = caplog.messages
    assert message.startswith("no OKS sigma is known for beak, tail: 0.067 is used")
    assert scenes.task.skeleton.assumed == ()


def test_several_classes_have_figures_of_their_own(tmp_path):
    categories = [
        {"id": number, "name": name, "keypoints": ["a", "b"]} for number, name in ((1, "x"), (2, "y"))
    ]
    annotations = [
        {"id": n, "image_id": 1, "category_id": n, "bbox": [0, 0, 50, 50], "keypoints": [9, 9, 2, 30, 30, 2]}
        for n in (1, 2)
    ]
    image = {"id": 1, "file_name": "a.png", "width": 64, "height": 64}
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"images": [image], "annotations": annotations, "categories": categories}))
    task = create_task("pose", categories)
    dataset = Dataset.from_file(path, [tmp_path], task)
    truth = truth_of(task, dataset.instances(0))
    result = figures(evaluator_of(task, dataset), {1: truth[truth.labels == 0]})
    assert (result["AP/x"], result["AP/y"], result["AP"]) == pytest.approx((1, 0, 0.5))


def test_draws_of_images_are_exact(scenes):
    """Against the slow way: the evaluator on the images drawn."""
    truth = scenes.as_coco(full=True)
    for entry in truth["annotations"][::5]:
        entry.update(keypoints=[0] * 51, num_keypoints=0)
    found = guesses(scenes, 3.0)
    weights = np.random.default_rng(1).multinomial(12, [1 / 12] * 12, 5)

    def make(content):
        return CocoKeypointEvaluator(content, [1], ["person"])

    require_exact(make, truth, found, weights)
    matches = evaluated(make, truth, found).tally().matches()
    assert matches.how == "OKS 0.5"
    matched = matches.classes["person"]
    counted = sum(entry["num_keypoints"] > 0 and not entry["iscrowd"] for entry in truth["annotations"])
    assert matched.objects.sum() == counted
    recall = evaluated(make, truth, found).compute()["AR50"]
    assert matched.right.sum() == pytest.approx(recall * counted)
