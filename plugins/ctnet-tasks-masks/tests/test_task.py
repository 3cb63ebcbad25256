"""masks keeps ctnet's contract, and does what only it promises."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ctnet_tasks_masks import InstanceMasks
from ctnet_tasks_masks.evaluation import CocoMaskEvaluator
from ctnet_tasks_masks.overlapping import mask_iou
from ctnet_tasks_masks.prototypes import logits_of, reading_one
from ctnet_tasks_masks.targets import FINE, MaskTargets, channels_of, flags_of, windows
from ctnet_tasks_masks.windows import SIDE, in_image
from pycocotools import mask as coco_mask

from ctnet.analysis.oracles import combinations
from ctnet.base.errors import CtnetError
from ctnet.base.files import write_json
from ctnet.core.documents import annotation_errors, annotation_warnings, results_of, truth_of
from ctnet.core.fields import move_record
from ctnet.core.geometry import Affine, View
from ctnet.core.masks import Outline, RunLength
from ctnet.core.records import Detections, ImageInfo, Instances
from ctnet.core.targets import Grid
from ctnet.core.task import create_task, example_of
from ctnet.data.dataset import Dataset
from ctnet.inference.decoding import decode
from ctnet.inference.settings import DetectionSettings
from ctnet.testing import task_checks
from ctnet.testing.redrawn import require_exact

TASK = InstanceMasks(InstanceMasks.scenes.categories)
IMAGE = {"id": 1, "file_name": "1.jpg", "width": 64, "height": 48}


def ring(*points: float) -> np.ndarray:
    return np.array(points, np.float32).reshape(-1, 2)


SQUARE = ring(8, 8, 40, 8, 40, 40, 8, 40)


def instances(*masks: Any) -> Instances:
    boxes = []
    for mask in masks:
        points = np.concatenate(mask.polygons)
        boxes.append([*points.min(axis=0), *points.max(axis=0)])
    return Instances.of(boxes, [0] * len(masks), mask=list(masks))


@task_checks(InstanceMasks)
def test_contract(task, check) -> None:
    check(task)


def test_it_is_installed_under_its_name() -> None:
    assert isinstance(create_task("masks", InstanceMasks.scenes.categories), InstanceMasks)


# --- targets


@pytest.mark.parametrize("seed", range(4))
def test_flags_are_the_mask_at_the_resolution_of_the_parts(seed: int) -> None:
    """Against every part's middle, asked one by one."""
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, 6))
    points = 6 + rng.uniform(2, 5, (6, 1)) * np.stack([np.cos(angles), np.sin(angles)], 1)
    flags = flags_of(Outline((points.astype(np.float32),)), np.array([1, 0]), np.array([11, 12]))
    assert flags.shape == (12, 11, FINE**2)
    wrong = 0
    for y, x, part in np.ndindex(flags.shape):
        down, across = divmod(part, FINE)
        place = np.array([1 + x + (across + 0.5) / FINE, y + (down + 0.5) / FINE])
        following = np.roll(points, -1, axis=0)
        above = (points[:, 1] > place[1]) != (following[:, 1] > place[1])
        at = (
            points[:, 0] + (place[1] - points[:, 1]) * (following - points)[:, 0] / (following - points)[:, 1]
        )
        wrong += bool(flags[y, x, part]) != (np.count_nonzero(above & (place[0] < at)) % 2 == 1)
    assert wrong < 0.01 * flags.size


def test_holes_and_parts_are_kept() -> None:
    mask = Outline(
        (ring(0, 0, 8, 0, 8, 8, 0, 8), ring(10, 0, 12, 0, 12, 8, 10, 8)), (ring(2, 2, 6, 2, 6, 6, 2, 6),)
    )
    cells = flags_of(mask, np.array([0, 0]), np.array([12, 8])).mean(axis=2)
    assert cells[1, 1] == cells[4, 10] == 1
    assert cells[4, 4] == cells[4, 9] == 0
    assert cells.sum() == 64 - 16 + 16


def test_an_object_without_a_mask_teaches_its_box_alone() -> None:
    boxed = Instances.of([[2, 2, 8, 8]], [0], mask=[None])
    targets = TASK.encode(boxed, Grid(12, 16))
    assert targets["shared"].weight.tolist() == [0]
    assert not targets["coefficients"].weight.any()
    assert len(targets["size"]) == 1
    predicted = {
        name: torch.randn(len(targets[name]), head.channels)
        if name in ("offset", "size", "coefficients")
        else torch.randn(1, head.channels, 12, 16)
        for name, head in TASK.heads.items()
    }
    assert TASK.losses(predicted, targets)["mask"].total == 0


def test_windows_that_meet_have_channels_of_their_own() -> None:
    boxes = np.array([[1, 1, 5, 5], [3, 3, 8, 8], [20, 20, 25, 25], [4, 4, 9, 9]], np.float32)
    grid = Grid(40, 40)
    assert channels_of(boxes, grid, 8).tolist() == [0, 1, 0, 2]
    assert channels_of(boxes, grid, 2).tolist() == [0, 1, 0, -1]
    few = InstanceMasks(TASK.categories, channels=2)
    crowded = Instances.of(boxes, [0, 0, 0, 1], mask=[None] * 4)
    assert few.collides(crowded, grid).tolist() == [False, False, False, True]


def test_packed_masks_are_small_on_their_way() -> None:
    mask = Outline((ring(2, 2, 34, 2, 34, 34, 2, 34),))
    targets = MaskTargets.of_masks(
        [mask], np.array([[2, 2, 34, 34]], np.float32), np.zeros(1, np.int64), Grid(64, 64)
    )
    assert targets.value.dtype == torch.uint8
    assert targets.value.numel() == -(-(34 * 34) // 8) * FINE**2
    assert windows(np.array([[2, 2, 34, 34.0]]), Grid(64, 64)).tolist() == [[1, 1, 35, 35]]


# --- making masks


def test_coefficients_can_read_a_channel() -> None:
    values = torch.randn(3, 5, 7)
    logits = logits_of(reading_one(torch.tensor([4, 0, 2]), 5), values)
    torch.testing.assert_close(logits, torch.stack([values[0, 4], values[1, 0], values[2, 2]]))


def test_windows_do_not_depend_on_the_grid_and_end_with_their_box() -> None:
    maps = {name: torch.randn(1, head.channels, 40, 60) for name, head in TASK.heads.items()}
    found = TASK.decode({**maps, "heatmap": maps["heatmap"].sigmoid()}, 7)
    assert found.windows.shape == (1, 7, SIDE, SIDE)
    single = Detections(
        np.array([[10.0, 4, 20, 14]]), np.ones(1), np.zeros(1, int), {"windows": np.ones((1, SIDE, SIDE))}
    )
    mask = in_image(single, ImageInfo(1, "", 64, 48)).mask[0]
    assert mask.pixels.sum() == 100
    assert mask.box.tolist() == [10, 4, 20, 14]
    beyond = single.replace(boxes=np.array([[-5.0, -5, 8, 4]]))
    assert in_image(beyond, ImageInfo(1, "", 64, 48)).mask[0].box.tolist() == [0, 0, 8, 4]
    outside = single.replace(boxes=np.array([[70.0, 0, 80, 4]]))
    assert in_image(outside, ImageInfo(1, "", 64, 48)).mask[0].area == 0


def test_concave_holed_and_hidden_shapes_come_back() -> None:
    task = InstanceMasks(TASK.categories, channels=16)
    overlaps = []
    for seed in range(6):
        scene = example_of(task, np.random.default_rng(seed), (128, 96))
        grid = Grid(26, 34)
        on_grid = move_record(scene.instances, Affine.scaling(1 / 4), task.fields)
        kept = ~task.collides(on_grid, grid)
        targets = task.encode(on_grid[kept], grid)
        maps = {name: head.render(targets[name], grid) for name, head in task.heads.items()}
        view = View(scene.info, Affine.scaling(4))
        (found,) = decode(task, maps, [view], DetectionSettings(score=0.5))
        truth = truth_of(task, scene.instances[kept])
        overlaps += task.overlap(truth, found).max(axis=1).tolist()
    assert np.mean(overlaps) > 0.88
    assert min(overlaps) > 0.7


# --- overlap


def test_overlap_counts_pixels() -> None:
    left, right = Outline((ring(0, 0, 10, 0, 10, 10, 0, 10),)), Outline((ring(5, 0, 15, 0, 15, 10, 5, 10),))
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10]], float)
    table = mask_iou([left, right], [left, right, None], (boxes, np.array([*boxes, [5, 0, 15, 10]])))
    np.testing.assert_allclose(table, [[1, 1 / 3, 1 / 3], [1 / 3, 1, 1]])
    as_runs = [each.runs(20, 12) for each in (left, right)]
    np.testing.assert_allclose(mask_iou(as_runs, [left, right], (boxes, boxes)), [[1, 1 / 3], [1 / 3, 1]])
    assert mask_iou([], [left], (boxes[:0], boxes[:1])).shape == (0, 1)


def test_masks_that_share_a_box_do_not_suppress_each_other() -> None:
    upper = Outline((ring(0, 0, 10, 0, 0, 10),))
    lower = Outline((ring(10, 0, 10, 10, 0, 10),))
    boxes = np.array([[0, 0, 10, 10]] * 2, float)
    pair = Detections(boxes, np.array([0.9, 0.8]), np.zeros(2, int), {"mask": [upper, lower]})
    assert TASK.overlap(pair, pair)[0, 1] < 0.2


def test_the_oracles_replace_mask_and_box_as_wholes() -> None:
    rows = combinations(TASK.heads, TASK.oracles)
    assert ("coefficients", "shared") in rows
    assert ("offset", "size") in rows
    assert ("coefficients",) not in rows
    assert rows[-1] == tuple(TASK.heads)


# --- metrics


def scene_truth(count: int = 4) -> tuple[dict[str, Any], dict[int, Detections]]:
    """Scenes as a COCO file, and detections with masks that are shifted and cut."""
    images, annotations, found = [], [], {}
    rng = np.random.default_rng(0)
    for number in range(1, count + 1):
        scene = example_of(TASK, np.random.default_rng(number), (96, 96))
        images.append({"id": number, "file_name": f"{number}.png", "width": 96, "height": 96})
        masks = []
        for mask, label in zip(scene.instances.mask, scene.instances.labels, strict=True):
            x, y, right, bottom = mask.box.tolist()
            entry = {
                "id": len(annotations) + 1,
                "image_id": number,
                "category_id": int(label) + 1,
                "iscrowd": 0,
            }
            entry |= {
                "bbox": [x, y, right - x, bottom - y],
                "area": mask.area,
                "segmentation": mask.to_coco(),
            }
            annotations.append(entry)
            shifted = np.roll(mask.pixels, int(rng.integers(0, 5)), axis=1)
            masks.append(RunLength.of_window(shifted, (0, 0), (96, 96)))
        boxes = [mask.box for mask in masks]
        scores = rng.uniform(0.3, 1, len(masks))
        found[number] = Detections(np.array(boxes), scores, scene.instances.labels, {"mask": masks})
    annotations[0]["iscrowd"] = 1
    return {"images": images, "annotations": annotations}, found


def measured(truth: dict[str, Any], engine: str = "faster-coco-eval") -> CocoMaskEvaluator:
    return CocoMaskEvaluator(truth, [1, 2, 3], ["star", "ring", "crescent"], engine)


def test_both_engines_measure_the_same_over_masks() -> None:
    truth, found = scene_truth()
    figures = []
    for engine in ("faster-coco-eval", "pycocotools"):
        evaluator = measured(truth, engine)
        for image_id, detections in found.items():
            evaluator.update(image_id, detections)
        figures.append(evaluator.compute())
    assert figures[0] == pytest.approx(figures[1], abs=1e-9)
    assert 0.2 < figures[0]["AP"] < 0.95
    require_exact(measured, truth, found, np.array([[2, 0, 1, 1], [0, 3, 1, 0]]))


def test_results_without_masks_are_refused() -> None:
    truth, found = scene_truth()
    evaluator = measured(truth)
    evaluator.update(1, found[1].without("mask"))
    with pytest.raises(CtnetError, match=r"image 1 have no masks .* choose --metric coco"):
        evaluator.compute()


def test_results_hold_encodings_of_the_image() -> None:
    _, found = scene_truth()
    entries = json.loads(json.dumps(results_of(TASK, 1, found[1])))
    for entry, mask in zip(entries, found[1].mask, strict=True):
        assert entry["segmentation"]["size"] == [96, 96]
        np.testing.assert_array_equal(coco_mask.decode(entry["segmentation"]), mask.pixels)


# --- bad input


def annotation(segmentation: Any, bbox: Any = (8, 8, 32, 32), **more: Any) -> dict[str, Any]:
    return {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "bbox": list(bbox),
        "segmentation": segmentation,
        **more,
    }


FULL = coco_mask.encode(np.asfortranarray(np.ones((48, 64), np.uint8)))["counts"].decode()
ROWS = coco_mask.encode(np.asfortranarray((np.arange(48 * 64) % 3 > 0).reshape(48, 64).astype(np.uint8)))[
    "counts"
].decode()


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([[1, 1, 5, 5]], "has as polygon 1 4 numbers, not x and y of three or more points"),
        ([SQUARE.ravel().tolist(), [3, 4]], "has as polygon 2 2 numbers"),
        ([SQUARE.ravel().tolist(), {"size": [48, 64], "counts": FULL}], "has as polygon 2"),
        ({"size": [40, 64], "counts": FULL}, r"of size \[40, 64\], its image \[48, 64\]"),
        ({"size": [48, 64], "counts": ROWS[: len(ROWS) // 2]}, "counts cover .* of 3072 pixels; is it cut"),
        ({"size": [48, 64], "counts": [3072]}, "its mask is empty"),
        ([[5, 5, 9, 9, 13, 13]], r"its mask has no area: 3 points from \(5, 5\) to \(13, 13\)"),
        ([[100, 100, 120, 100, 120, 120]], "lies outside the image of 64x48"),
        ([[float("nan"), 1, 5, 5, 6, 8]], "not finite numbers"),
    ],
)
def test_an_unusable_mask_is_refused(segmentation: Any, message: str) -> None:
    (text,) = annotation_errors(TASK, annotation(segmentation), IMAGE)
    assert re.search(message, text), text


@pytest.mark.parametrize(
    ("segmentation", "bbox", "message"),
    [
        ([[8, 8, 40, 40, 40, 8, 8, 40]], (8, 8, 32, 32), "polygon 1 of its mask crosses itself"),
        ([SQUARE.ravel().tolist()], (8, 8, 20, 32), "its mask reaches from .* the part outside the box"),
        (None, (8, 8, 32, 32), "it has no mask"),
    ],
)
def test_a_doubtful_mask_is_used_and_named(segmentation: Any, bbox: Any, message: str) -> None:
    entry = annotation(segmentation, bbox)
    assert annotation_errors(TASK, entry, IMAGE) == []
    (text,) = annotation_warnings(TASK, entry, IMAGE)
    assert re.search(message, text), text


def test_a_mask_beyond_the_border_is_cut_without_a_word() -> None:
    entry = annotation([[-8, 8, 40, 8, 40, 40, -8, 40]], (0, 8, 40, 32))
    assert annotation_errors(TASK, entry, IMAGE) == annotation_warnings(TASK, entry, IMAGE) == []


def test_ten_thousand_points_are_a_mask() -> None:
    angles = np.linspace(0, 2 * np.pi, 10_000, endpoint=False)
    points = np.stack([24 + 16 * np.cos(angles), 24 + 16 * np.sin(angles)], axis=1)
    entry = annotation([points.ravel().tolist()])
    assert annotation_errors(TASK, entry, IMAGE) == annotation_warnings(TASK, entry, IMAGE) == []
    on_grid = Outline((points.astype(np.float32) / 4,))
    share = flags_of(on_grid, np.array([0, 0]), np.array([16, 12])).mean()
    assert share * 16 * 12 == pytest.approx(np.pi * 16, rel=0.03)


def test_bad_records_are_listed_and_the_rest_is_used(tmp_path: Path) -> None:
    entries = [
        annotation([SQUARE.ravel().tolist()]),
        annotation([[1, 1, 5, 5]]),
        annotation({"size": [9, 9], "counts": [81]}),
        annotation({"size": [48, 64], "counts": FULL}, (0, 0, 64, 48), iscrowd=1),
    ]
    content = {
        "images": [IMAGE],
        "annotations": [{**entry, "id": number} for number, entry in enumerate(entries, 1)],
        "categories": [{"id": 1, "name": "thing"}],
    }
    write_json(tmp_path / "annotations" / "instances_val.json", content)
    dataset = Dataset.open(tmp_path, "val", InstanceMasks)
    dataset = dataset.with_task(create_task("masks", dataset.categories))
    assert [problem.where for problem in dataset.problems] != []
    assert len(dataset.problems) == 2
    kept = dataset.instances(0)
    assert kept.crowd.tolist() == [False, True]
    targets = dataset.task.encode(move_record(kept, Affine.scaling(1 / 4), dataset.task.fields), Grid(12, 16))
    assert len(targets["shared"]) == 1
    assert len(targets["heatmap"]) == 2
