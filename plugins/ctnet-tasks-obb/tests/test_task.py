"""obb keeps ctnet's contract, and does what only it promises."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from ctnet_tasks_obb import Obb
from ctnet_tasks_obb.boxes import Rectangles, corners_iou, rectangles

from ctnet.analysis.breakdown import break_down, compare
from ctnet.base.files import write_json
from ctnet.core.documents import annotation_errors, annotations_of, detections_of, results_of, truth_of
from ctnet.core.fields import differences, move_record
from ctnet.core.geometry import Affine
from ctnet.core.recipe import Augmentation
from ctnet.core.records import Detections, Instances
from ctnet.core.targets import CellTargets, Grid, Peaks
from ctnet.core.task import create_task, example_of
from ctnet.data.augment import crop_instances, random_crop
from ctnet.data.dataset import Dataset
from ctnet.inference.decoding import merge
from ctnet.inference.settings import DetectionSettings
from ctnet.ops.boxes import box_iou, boxes_around
from ctnet.testing import check_task, task_checks
from ctnet.testing.mirroring import mirror_image

TASK = Obb(Obb.scenes.categories)
IMAGE = {"id": 1, "file_name": "1.jpg", "width": 128, "height": 96}


def box(x: float, y: float, length: float, breadth: float, degrees: float) -> np.ndarray:
    """Corners (1, 4, 2)."""
    axis = np.exp(1j * np.radians([degrees]))
    return Rectangles(np.array([[x, y]]), np.array([[length, breadth]]), axis).corners.astype(np.float32)


def instances(*corners: np.ndarray, crowd: list[bool] | None = None) -> Instances:
    joined = np.concatenate(corners)
    return TASK.complete(Instances.of(boxes_around(joined), [0] * len(joined), crowd, corners=joined), IMAGE)


@task_checks(Obb)
def test_contract(task, check) -> None:
    check(task)


def test_the_contract_holds_with_attributes() -> None:
    done = check_task(Obb, attributes="laden:bool,age:float[0..40],state:new|worn|wreck")
    assert {outcome.check for outcome in done if outcome.result == "failed"} == set()


def test_it_is_installed_under_its_name() -> None:
    assert isinstance(create_task("obb", Obb.scenes.categories), Obb)


def test_targets_of_one_box() -> None:
    targets = TASK.encode(instances(box(10.25, 7.5, 8, 2, 30)), Grid(32, 32))
    heatmap, offset, size, angle = (targets[name] for name in ("heatmap", "offset", "size", "angle"))
    assert isinstance(heatmap, Peaks)
    assert (heatmap.x.item(), heatmap.y.item()) == pytest.approx((10.25, 7.5))
    for target in (offset, size, angle):
        assert isinstance(target, CellTargets)
        assert (target.x.item(), target.y.item()) == (10, 7)
    assert offset.value.tolist() == [pytest.approx([0.25, 0.5], abs=1e-5)]
    assert size.value.tolist() == [pytest.approx([8, 2], abs=1e-5)]
    half, quarter = math.radians(60), math.radians(120)
    expected = [math.cos(half), math.sin(half), math.cos(quarter), math.sin(quarter)]
    assert angle.value.tolist() == [pytest.approx(expected, abs=1e-5)]
    assert angle.weight.tolist() == [pytest.approx([0.75, 0.75, 1, 1])]


def test_a_square_does_not_say_which_of_its_sides_is_the_long_one() -> None:
    angle = TASK.encode(instances(box(10, 10, 4, 4, 20)), Grid(32, 32))["angle"]
    assert isinstance(angle, CellTargets)
    assert angle.weight[0].tolist() == pytest.approx([0, 0, 1, 1], abs=1e-6)


@pytest.mark.parametrize("degrees", [-90, -45, 0, 45, 89.9, 90, 135, 180])
@pytest.mark.parametrize("breadth", [2, 7.99, 8])
def test_the_law_where_angles_start_again(degrees: float, breadth: float) -> None:
    grid = Grid(32, 32)
    before = instances(box(16.3, 15.8, 8, breadth, degrees))
    maps = {name: TASK.heads[name].render(target, grid) for name, target in TASK.encode(before, grid).items()}
    found = TASK.decode(maps, 5).per_image()[0][:1]
    gaps = differences(TASK.fields, truth_of(TASK, before), found)
    assert set(gaps) == {"boxes", "corners"}
    assert max(values.max() for values in gaps.values()) < 1e-3


def test_what_a_crop_cuts_at_the_centre_is_not_an_object() -> None:
    places = ((-1, 10, 20), (1, 10, 20), (31.9, 31.9, 9), (10, 32.1, 9))
    cut = instances(*(box(x, y, length, 2, 45) for x, y, length in places))
    targets = TASK.encode(cut, Grid(32, 32))
    assert targets["size"].x.tolist() == [1, 31]
    assert targets["size"].value[:, 0].tolist() == pytest.approx([20, 9], abs=1e-4)  # and the whole is learnt


def test_crowds_soften_the_penalty_and_teach_nothing() -> None:
    two = instances(box(5, 5, 8, 4, 10), box(20, 20, 8, 4, 10), crowd=[True, False])
    targets = TASK.encode(two, Grid(32, 32))
    assert targets["heatmap"].positive.tolist() == [False, True]
    assert targets["angle"].x.tolist() == [20]


@pytest.mark.parametrize(
    ("corners", "complaint"),
    [
        (None, "corners is missing"),
        ([1, 2, 3, 4], "corners are 4 numbers, not 8 (x, y of 4 points)"),
        ("12345678", "corners are '12345678', not 8 (x, y of 4 points)"),
        (
            [1, 2, 3, 4, 5, 6, 7, float("nan")],
            "corners have point 4 at (7, nan), which are not finite numbers",
        ),
        ([1, 1, 5, 5, 9, 9, 5, 5], "have no area"),
        ([0, 0, 40, 0, 40, 10, 12, 10], "are 5.8 px from being a rectangle's"),
    ],
)
def test_errors(corners: object, complaint: str) -> None:
    (error,) = annotation_errors(TASK, {"corners": corners}, IMAGE)
    assert complaint in error


@pytest.mark.parametrize(
    "corners",
    [
        [0, 0, 40, 0, 40, 10, 0, 10],
        [40, 0, 0, 0, 0, 10, 40, 10],  # the other turn
        [3, 1, 37, 11, 34, 21, 0, 11],  # rounded to whole pixels
    ],
)
def test_rectangles_have_no_error(corners: list[float]) -> None:
    assert annotation_errors(TASK, {"corners": corners}, IMAGE) == []


def test_augmentation_turns_boxes_with_the_image() -> None:
    before = instances(box(60, 50, 30, 10, 20))
    crop = random_crop(
        np.random.default_rng(3),
        (128, 96),
        (128, 96),
        Augmentation(flip=0.0, scale=(1.0, 1.0), shift=0.0, rotate=90.0),
    )
    after = crop_instances(before, crop, TASK, 1)
    linear = crop.affine.matrix[:, :2]
    turn = math.degrees(math.atan2(linear[1, 0], linear[0, 0]))
    assert abs(turn) > 5
    seen = rectangles(after.corners)
    assert seen.size[0] == pytest.approx([30, 10], abs=1e-3)
    assert (np.degrees(seen.angle[0]) - 20 - turn) % 180 == pytest.approx(0, abs=0.01) or (
        np.degrees(seen.angle[0]) - 20 - turn
    ) % 180 == pytest.approx(180, abs=0.01)


def test_mirrored_boxes_lean_the_other_way() -> None:
    mirrored = mirror_image(TASK, instances(box(60, 50, 30, 10, 20)), 128)
    assert np.degrees(rectangles(mirrored.corners).angle) == pytest.approx([-20], abs=1e-3)
    assert rectangles(mirrored.corners).centre[0] == pytest.approx([67, 50], abs=1e-3)


def test_statistics_are_of_the_sides_and_the_angle() -> None:
    columns = instances(box(60, 50, 30, 10, 20), box(60, 50, 12, 12, 0)).fields()
    figures = {}
    for name, field in TASK.fields.items():
        figures |= field.statistics(name, columns)
    assert figures["length (px)"] == pytest.approx([30, 12], abs=1e-3)
    assert figures["breadth (px)"] == pytest.approx([10, 12], abs=1e-3)
    assert figures["angle (degrees)"][0] == pytest.approx(20, abs=1e-3)


@pytest.mark.parametrize(
    "change", [Affine.scaling(0.25), Affine.centred((60, 50), 100, (200, 200), degrees=30)]
)
def test_sides_and_angle_follow_the_corners(change: Affine) -> None:
    before = instances(box(60, 50, 30, 10, 20))
    moved = move_record(before, change, TASK.fields)
    for record in (moved, mirror_image(TASK, moved, 128)):
        seen = rectangles(record.corners)
        assert record.sides == pytest.approx(seen.size, abs=1e-3)
        off = np.degrees(record.angle - seen.angle)
        assert (off + 90) % 180 - 90 == pytest.approx(np.zeros(1), abs=1e-3)


def test_corners_move_between_frames_and_into_results() -> None:
    found = truth_of(TASK, instances(box(10, 8, 6, 2, 45)))
    moved = move_record(found, Affine.scaling(4), TASK.fields)
    (entry,) = results_of(TASK, 7, moved)
    assert entry["corners"] == pytest.approx((box(10, 8, 6, 2, 45) * 4).flatten().tolist(), abs=1e-3)
    assert detections_of(TASK, [entry]).corners == pytest.approx(moved.corners)
    assert results_of(TASK, 7, moved[:0]) == []


def test_other_categories_have_no_example_scenes() -> None:
    from ctnet.base.errors import CtnetError

    with pytest.raises(CtnetError, match="has scenes of ship, container, raft, not plane"):
        example_of(Obb([{"id": 1, "name": "plane"}]), np.random.default_rng(0), (64, 64))


def test_the_demo_is_a_recipe_of_its_own() -> None:
    assert (Obb.scenes.recipe.epochs, Obb.scenes.recipe.size) == (6, (128, 128))
    assert TASK.recipes("resfpn18")["small"].augmentation.rotate == 180


# --- overlaps


def side_by_side(angle: float = 45) -> Detections:
    """Two ships moored at an angle, one of them found twice."""
    axis = np.radians(angle + 90)
    across = 12 * np.array([np.cos(axis), np.sin(axis)])
    places = [(60, 50, 60), (60 + across[0], 50 + across[1], 60), (61, 50, 58)]
    boxes = [box(x, y, length, 10, angle) for x, y, length in places]
    corners = np.concatenate(boxes)
    return Detections(
        boxes_around(corners), np.array([0.9, 0.8, 0.7]), np.zeros(3, int), {"corners": corners}
    )


def test_ships_side_by_side_do_not_suppress_each_other() -> None:
    found = side_by_side()
    assert box_iou(found.boxes[:1], found.boxes[1:2])[0, 0] > 0.5
    assert TASK.overlap(found, found)[0].round(2).tolist()[:2] == [1, 0]
    merged = merge(TASK, [found], DetectionSettings(nms="hard"))
    assert merged.scores.tolist() == [0.9, 0.8]
    two_scales = merge(TASK, [found[:2], found[2:]], DetectionSettings(scales=(0.5, 1.0)))
    assert two_scales.scores[:2].tolist() == [0.9, 0.8]
    assert two_scales.scores[2] < 0.2


def test_errors_are_sorted_by_rotated_overlap(tmp_path) -> None:
    found = side_by_side()
    annotations = annotations_of(TASK, Instances.of(found.boxes[:1], [0], corners=found.corners[:1]))
    entries = [{**entry, "id": 1, "image_id": 1} for entry in annotations]
    path = tmp_path / "instances_val.json"
    write_json(path, {"images": [IMAGE], "annotations": entries, "categories": list(Obb.scenes.categories)})
    dataset = Dataset.from_file(path, [tmp_path], TASK, "val")
    errors = break_down(compare(dataset, {1: found})).errors
    counts = {name: error.count for name, error in errors.items() if error.count}
    assert counts == {"background": 1, "duplicate": 1}  # by upright boxes it would be two duplicates


def test_suppression_of_a_thousand_candidates_is_quick() -> None:
    rng = np.random.default_rng(0)
    corners = np.concatenate([box(*rng.uniform(0, 400, 2), 30, 8, rng.uniform(0, 180)) for _ in range(1000)])
    scores = np.sort(rng.random(1000))[::-1]
    found = Detections(boxes_around(corners), scores, np.zeros(1000, int), {"corners": corners})
    begun = time.process_time()
    left = merge(TASK, [found], DetectionSettings(nms="hard", topk=1000))
    assert time.process_time() - begun < 10  # 0.4 s when idle
    overlap = corners_iou(left.corners, left.corners) - np.eye(len(left))
    assert overlap.max() < 0.5
    assert len(left) < 1000
