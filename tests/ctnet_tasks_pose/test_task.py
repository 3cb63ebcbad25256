from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ctnet.base.errors import CtnetError
from ctnet.core.documents import (
    annotation_errors,
    annotation_warnings,
    annotations_of,
    detections_of,
    results_of,
    truth_of,
)
from ctnet.core.fields import move_record
from ctnet.core.geometry import Affine
from ctnet.core.records import Detections, ImageInfo, Instances
from ctnet.core.targets import Grid
from ctnet.core.task import create_task, example_of
from ctnet.data.dataset import Dataset
from ctnet.evaluation.evaluators import evaluator_of
from ctnet.testing.mirroring import mirror_image
from ctnet_tasks_pose.figures import FIGURES

FIVE = [
    {"id": 2, "name": "bird", "keypoints": ["beak", "left_wing", "right_wing", "left_foot", "right_foot"]}
]
INFO = ImageInfo(1, "a.png", 64, 48)


def birds(points: np.ndarray, visibility: np.ndarray, crowd: object = None) -> Instances:
    """Instances in boxes around their points, at least 4 cells per side."""
    points = np.asarray(points, np.float32)
    boxes = np.concatenate([points.min(1) - 2, points.max(1) + 2], 1)
    return Instances.of(
        boxes, np.zeros(len(points)), crowd, keypoints=points, visibility=np.asarray(visibility, np.int64)
    )


poses = st.integers(0, 2**32 - 1).map(
    lambda seed: birds(
        np.random.default_rng(seed).uniform(0, 60, (3, 5, 2)),
        np.random.default_rng(seed).integers(0, 3, (3, 5)),
    )
)


# --- the mirror


@given(poses)
@settings(max_examples=20, deadline=None)
def test_mirror_of_mirror_is_the_identity_for_every_field(instances):
    task = create_task("pose", FIVE)
    twice = mirror_image(task, mirror_image(task, instances, 64), 64)
    for name, column in instances.fields().items():
        np.testing.assert_allclose(twice.fields()[name], column, atol=1e-4)


def test_a_left_wing_is_never_a_right_wing():
    """What the mirror shows as the left wing is the right wing, with its visibility."""
    task = create_task("pose", FIVE)
    points = np.array([[[10, 1], [20, 2], [30, 3], [40, 4], [50, 5]]])
    mirrored = mirror_image(task, birds(points, [[2, 1, 2, 0, 2]]), 64)
    named = dict(zip(FIVE[0]["keypoints"], mirrored.keypoints[0].tolist(), strict=True))
    assert named == {
        "beak": [53, 1],
        "left_wing": [33, 3],
        "right_wing": [43, 2],
        "left_foot": [13, 5],
        "right_foot": [23, 4],
    }
    assert mirrored.visibility.tolist() == [[2, 2, 1, 2, 0]]


def test_maps_mirror_as_instances_do():
    """Each head's mirrored map is to the mirrored scene what the plain map is to the plain one."""
    task = create_task("pose", FIVE)
    grid = Grid(40, 65)
    instances = birds([[[10, 8], [20, 12], [32, 20], [44, 28], [52, 32]]], [[2, 1, 2, 0, 2]])
    targets, mirrored = (
        task.encode(one, grid) for one in (instances, mirror_image(task, instances, grid.width))
    )
    head = task.heads["joint_heatmap"]
    torch.testing.assert_close(
        head.mirror(head.render(targets["joint_heatmap"], grid)), head.render(mirrored["joint_heatmap"], grid)
    )
    head, samples = task.heads["joints"], mirrored["joints"]
    flipped = head.mirror(head.render(targets["joints"], grid))
    torch.testing.assert_close(samples.gather(flipped), samples.value)
    assert task.heads["joint_offset"].mirror(torch.zeros(1, 2, 4, 4)) is None


@pytest.mark.parametrize("name", ["joints", "joint_heatmap", "size"])
def test_a_map_mirrored_twice_is_as_it_was(name):
    head = create_task("pose", FIGURES).heads[name]
    maps = torch.rand(2, head.channels, 5, 7)
    torch.testing.assert_close(head.mirror(head.mirror(maps)), maps)


# --- encoding


def test_a_person_without_labelled_joints_is_found_but_trains_nothing_else():
    task = create_task("pose", FIVE)
    points = np.random.default_rng(0).uniform(5, 40, (2, 5, 2))
    targets = task.encode(birds(points, [[0] * 5, [2, 0, 0, 0, 1]]), Grid(48, 48))
    assert targets["heatmap"].positive.tolist() == [True, True]
    for name in ("size", "offset", "joints"):
        assert (targets[name].weight > 0).any(1).tolist() == [False, True]
    assert targets["joints"].weight[1].tolist() == [1, 1, 0, 0, 0, 0, 0, 0, 1, 1]
    assert targets["joint_heatmap"].channel.tolist() == [0, 4]
    assert len(targets["joint_offset"]) == 2


def test_crowds_are_persons_or_ignored():
    points = np.random.default_rng(0).uniform(5, 40, (2, 5, 2))
    instances = birds(points, np.full((2, 5), 2), [True, False])
    assert create_task("pose", FIVE).encode(instances, Grid(48, 48))["heatmap"].positive.all()
    ignoring = create_task("pose", FIVE, crowd="ignore").encode(instances, Grid(48, 48))
    assert ignoring["heatmap"].positive.tolist() == [False, True]
    assert len(ignoring["size"]) == len(ignoring["joints"]) == 1
    assert len(ignoring["joint_heatmap"]) == 5


def test_persons_without_labelled_joints_may_be_ignored():
    points = np.random.default_rng(0).uniform(5, 40, (2, 5, 2))
    instances = birds(points, [[0] * 5, [2, 0, 0, 0, 1]])
    targets = create_task("pose", FIVE, unlabelled="ignore").encode(instances, Grid(48, 48))
    assert targets["heatmap"].positive.tolist() == [False, True]
    assert len(targets["size"]) == len(targets["joints"]) == 1


def test_joints_outside_the_grid_count_as_not_labelled():
    task = create_task("pose", FIVE)
    points = np.array([[[-0.5, 5], [5, -0.5], [48, 5], [5, 48], [47.9, 47.9]]])
    targets = task.encode(birds(points, np.full((1, 5), 2)), Grid(48, 48))
    assert targets["joint_heatmap"].channel.tolist() == [4]
    assert targets["joints"].weight.sum() == 2


def test_many_persons_are_all_kept():
    points = np.random.default_rng(0).uniform(0, 120, (300, 5, 2)).astype(np.float32)
    targets = create_task("pose", FIVE).encode(birds(points, np.full((300, 5), 2)), Grid(128, 128))
    assert len(targets["size"]) == 300
    assert len(targets["joint_heatmap"]) == 1500


@given(st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=25, deadline=None)
def test_decode_of_rendered_targets_gives_lone_joints_back_exactly(seed, snap):
    """The round trip, on persons and joints that share no cell and do not touch."""
    rng = np.random.default_rng(seed)
    cells = rng.permutation(
        np.stack(np.meshgrid(np.arange(1, 62, 3), np.arange(1, 46, 3)), -1).reshape(-1, 2)
    )
    points = cells[:15].reshape(3, 5, 2) + rng.uniform(0, 0.99, (3, 5, 2))
    instances = birds(points.astype(np.float32), np.full((3, 5), 2))
    boxes = np.clip(instances.boxes, 0, [63, 47, 63, 47])
    centres = (boxes[:, :2] + boxes[:, 2:]) // 2
    if np.abs(centres[:, None] - centres[None]).max(-1)[np.triu_indices(3, 1)].min() < 2:
        return
    task, grid = create_task("pose", FIVE, snap=snap), Grid(48, 64)
    targets = task.encode(instances, grid)
    found = task.decode({name: head.render(targets[name], grid) for name, head in task.heads.items()}, 40)
    found = found.per_image()[0].above(0.999)
    assert len(found) == 3
    for box, joints in zip(boxes, instances.keypoints, strict=True):
        row = np.abs(found.boxes - box).max(1).argmin()
        np.testing.assert_allclose(found.boxes[row], box, atol=1e-3)
        np.testing.assert_allclose(found.keypoints[row], joints, atol=1e-3)
        assert (found.keypoint_scores[row] > 0.99).all() or not snap


# --- records in and out


def test_annotations_read_back_as_they_were(tmp_path):
    task = create_task("pose", FIVE)
    instances = birds([[[10, 8], [20.25, 12], [32, 20], [44, 28], [52, 32]]], [[2, 1, 2, 0, 2]])
    (annotation,) = annotations_of(task, instances)
    assert annotation["keypoints"] == [10, 8, 2, 20.25, 12, 1, 32, 20, 2, 0, 0, 0, 52, 32, 2]
    assert annotation["num_keypoints"] == 4
    back = opened(tmp_path, task, [annotation]).instances(0)
    assert back.visibility.tolist() == instances.visibility.tolist()
    labelled = instances.visibility > 0
    np.testing.assert_array_equal(back.keypoints[labelled], instances.keypoints[labelled])


def opened(folder, task, annotations, **image: object) -> Dataset:
    """A data set of one image."""
    numbered = [{"id": n, "image_id": 1, **entry} for n, entry in enumerate(annotations, start=1)]
    path = folder / "annotations.json"
    images = [{"id": 1, "file_name": "a.png", "width": 64, "height": 48, **image}]
    content = {"images": images, "annotations": numbered, "categories": list(task.categories)}
    path.write_text(json.dumps(content))
    return Dataset.from_file(path, [folder], task)


def test_a_person_of_whom_only_the_box_is_known(tmp_path):
    task = create_task("pose", FIVE)
    annotation = {"category_id": 2, "bbox": [1, 2, 10, 20]}
    dataset = opened(tmp_path, task, [annotation, {**annotation, "keypoints": []}])
    assert not dataset.problems
    assert dataset.instances(0).visibility.tolist() == [[0] * 5] * 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keypoints": [1.0] * 14}, "keypoints are 14 numbers, not 15 (x, y, visibility of 5 points)"),
        ({"keypoints": 7}, "keypoints are 7, not 15"),
        ({5: 7}, "keypoints have visibility 7 for left_wing, not 0, 1 or 2"),
        ({5: -1}, "keypoints have visibility -1 for left_wing"),
        ({5: "seen"}, "keypoints have visibility 'seen' for left_wing"),
        ({3: float("nan")}, "keypoints have left_wing at (nan, 12), which are not finite numbers"),
        ({4: float("inf")}, "keypoints have left_wing at (20, inf)"),
        ({3: None}, "keypoints have left_wing at (None, 12)"),
    ],
)
def test_bad_keypoints_have_one_clear_line_and_are_left_out(tmp_path, change, message):
    task = create_task("pose", FIVE)
    good = {
        "category_id": 2,
        "bbox": [5, 5, 50, 30],
        "keypoints": [10, 8, 2, 20, 12, 1, 32, 20, 2, 0, 0, 0, 52, 32, 2],
    }
    bad = json.loads(json.dumps(good))
    for key, value in change.items():
        if key == "keypoints":
            bad["keypoints"] = value
        else:
            bad["keypoints"][key] = value
    assert annotation_errors(task, good, {"width": 64, "height": 48}) == []
    (error,) = annotation_errors(task, bad, {"width": 64, "height": 48})
    assert message in error
    dataset = opened(tmp_path, task, [good, bad])
    assert len(dataset.instances(0)) == 1
    (problem,) = dataset.problems
    assert "annotation 2" in problem.where
    assert message in problem.what


def test_joints_outside_the_image_are_worth_a_warning_but_not_an_error():
    task = create_task("pose", FIVE)
    image = {"width": 64, "height": 48}
    annotation = {"keypoints": [64, 8, 2, 20, 48, 1, 63.5, 47.5, 2, -5, -5, 0, 5, -0.5, 2]}
    assert annotation_errors(task, annotation, image) == []
    assert annotation_warnings(task, annotation, image) == [
        "beak is at (64, 8), outside the 64x48 image",
        "left_wing is at (20, 48), outside the 64x48 image",
        "right_foot is at (5, -0.5), outside the 64x48 image",
    ]


def test_results_and_back():
    task = create_task("pose", FIVE)
    points = np.random.default_rng(0).uniform(0, 40, (2, 5, 2)).astype(np.float32)
    extra = {"keypoints": points, "keypoint_scores": np.linspace(0, 1, 10, dtype=np.float32).reshape(2, 5)}
    found = Detections(
        np.array([[1, 2, 30, 40], [3, 4, 5, 6]], np.float32), np.array([0.9, 0.1]), np.array([0, 0]), extra
    )
    entries = json.loads(json.dumps(results_of(task, 7, found)))
    assert entries[0]["keypoints"][:3] == pytest.approx([*points[0, 0], 0])
    assert (entries[1]["image_id"], entries[1]["category_id"]) == (7, 2)
    back = detections_of(task, entries)
    for name, column in found.fields().items():
        np.testing.assert_allclose(back.fields()[name], column, atol=1e-6)
    assert results_of(task, 7, Detections.empty()) == []
    with pytest.raises(ValueError, match=r"keypoints are 3 numbers, not 15 \(x, y, score of 5 points\)"):
        detections_of(task, [{**entries[0], "keypoints": [1, 2, 3]}])


def test_truth_scores_labelled_joints():
    task = create_task("pose", FIVE)
    instances = birds(np.full((2, 5, 2), 9.0), [[2, 1, 0, 0, 2], [2] * 5], [False, True])
    truth = truth_of(task, instances)
    assert truth.keypoint_scores.tolist() == [[1, 1, 0, 0, 1]]


def test_moving_takes_the_joints_along():
    task = create_task("pose", FIVE)
    instances = birds(np.full((1, 5, 2), 9.0), [[2] * 5])
    moved = move_record(instances, Affine.scaling(0.5), task.fields)
    np.testing.assert_allclose(moved.keypoints, 4.5)


# --- its description


def test_recipes_of_the_paper():
    task = create_task("pose", FIVE)
    paper = task.recipes("dla34")["paper"]
    assert (paper.epochs, paper.milestones, paper.batch_size, paper.learning_rate) == (
        320,
        (270, 300),
        128,
        5e-4,
    )
    hourglass = task.recipes("hourglass104")["paper"]
    assert (hourglass.epochs, hourglass.milestones) == (150, (130,))
    assert paper.augmentation.rotate == 0
    assert next(iter(task.recipes("dla34"))) == "paper"


def test_loss_weights_of_the_paper():
    weights = {name: head.weight for name, head in create_task("pose", FIVE).heads.items()}
    assert weights.pop("size") == 0.1
    assert set(weights.values()) == {1.0}


def test_unknown_metric_and_skeletons_without_scenes(tmp_path):
    task = create_task("pose", FIVE)
    dataset = opened(tmp_path, task, [{"category_id": 2, "bbox": [1, 1, 5, 5], "keypoints": [2, 2, 2] * 5}])
    with pytest.raises(CtnetError, match="no metric of task pose called 'keypoint'; did you mean keypoints"):
        evaluator_of(task, dataset, metric="keypoint")
    with pytest.raises(CtnetError, match="give a data set with --data DIR"):
        example_of(task, np.random.default_rng(0), (64, 64))
