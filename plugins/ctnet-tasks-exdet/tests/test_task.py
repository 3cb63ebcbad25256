"""What exdet promises beyond the contract: annotations, the mirror, options, drawing."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from ctnet_tasks_exdet import ExtremeDetection
from ctnet_tasks_exdet.drawing import octagons
from ctnet_tasks_exdet.edges import EDGES, box_of, side_midpoints

from ctnet.base.errors import CtnetError
from ctnet.core.documents import annotation_warnings, detections_of
from ctnet.core.heads import mirror_maps
from ctnet.core.records import Detections, Instances
from ctnet.core.targets import CellTargets, Grid, Peaks
from ctnet.core.task import create_task
from ctnet.data.dataset import Dataset
from ctnet.testing.mirroring import mirror_image

CATEGORIES = [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]
BOX = [10, 20, 40, 30]  # xywh: to (50, 50)
DIAMOND = [20, 20, 10, 40, 30, 50, 50, 30]
MIDDLES = [[30, 20], [10, 35], [30, 50], [50, 35]]


def task(**options) -> ExtremeDetection:
    return ExtremeDetection(CATEGORIES, **options)


def dataset(tmp_path, *annotations: dict) -> Dataset:
    content = {
        "images": [{"id": 1, "file_name": "1.jpg", "width": 100, "height": 80}],
        "annotations": [
            {"id": number, "image_id": 1, "category_id": 3, "bbox": BOX, **annotation}
            for number, annotation in enumerate(annotations, start=1)
        ],
        "categories": CATEGORIES,
    }
    path = tmp_path / "annotations" / "instances_val.json"
    path.parent.mkdir()
    path.write_text(json.dumps(content))
    return Dataset.open(tmp_path, "val", task())


def square_mask() -> dict:
    """Run lengths of the box's right half: it does not fit the box."""
    mask = np.zeros((80, 100), np.uint8)
    mask[20:50, 30:50] = 1
    changes = np.flatnonzero(np.diff(mask.flatten(order="F"))) + 1
    return {"size": [80, 100], "counts": np.diff([0, *changes, mask.size]).tolist()}


@pytest.mark.parametrize(
    ("annotation", "points"),
    [
        ({}, MIDDLES),
        ({"segmentation": []}, MIDDLES),
        ({"segmentation": [DIAMOND]}, [[20, 20], [10, 40], [30, 50], [50, 30]]),
        ({"segmentation": [[12, 20, 10, 22, 11, 24], DIAMOND]}, None),
        ({"segmentation": square_mask()}, MIDDLES),
        (
            {"segmentation": [DIAMOND], "extreme_points": [[15, 21], [11, 30], [16, 49], [48, 31]]},
            [[15, 21], [11, 30], [16, 49], [48, 31]],
        ),
        ({"extreme_points": [15, 21, 11, 30, 16, 49, 48, 31]}, [[15, 21], [11, 30], [16, 49], [48, 31]]),
    ],
)
def test_where_extreme_points_come_from(tmp_path, annotation, points):
    instances = dataset(tmp_path, annotation).instances(0)
    assert instances.extreme_points.dtype == np.float32
    assert instances.extreme_points.shape == (1, 4, 2)
    if points is not None:
        assert instances.extreme_points[0].tolist() == points
    else:
        np.testing.assert_array_equal(box_of(instances.extreme_points), instances.boxes)


def test_broken_annotations_are_left_out_and_named(tmp_path):
    data = dataset(
        tmp_path,
        {"segmentation": [DIAMOND]},
        {"segmentation": [DIAMOND[:4]]},
        {"extreme_points": [[1, 2], [3, 4]]},
        {"extreme_points": [[1, 2], [3, 4], [5, 6], [7, None]]},
        {"segmentation": {"size": [100, 80], "counts": [8000]}},
    )
    assert len(data.instances(0)) == 1
    texts = [str(problem) for problem in data.problems]
    assert len(texts) == 4
    assert "segmentation has as polygon 1 4 numbers" in texts[0]
    assert "extreme_points are 4 numbers, not 8 (x, y of 4 points)" in texts[1]
    assert "extreme_points have right at (7, None), which are not finite numbers" in texts[2]
    assert "segmentation is a run-length mask of size [100, 80], its image [80, 100]" in texts[3]


def test_masks_that_are_not_of_their_box_are_warned_of(tmp_path):
    data = dataset(
        tmp_path,
        {"segmentation": [DIAMOND]},
        {"segmentation": square_mask()},
        {"segmentation": {"size": [80, 100], "counts": [8000]}},
    )
    record = data.info(0).record
    warnings = [annotation_warnings(data.task, annotation, record) for annotation in data.annotations(0)]
    assert warnings[0] == []
    assert (
        "its mask reaches from (30.5, 20.5) to (49.5, 49.5), its box from (10, 20) to (50, 50)"
        in warnings[1][0]
    )
    assert "its mask is empty" in warnings[2][0]


def test_the_mirror_swaps_left_and_right():
    points = np.array([[[3, 0], [0, 4], [5, 9], [8, 6]]], np.float32)
    mirrored = mirror_image(task(), Instances.of(box_of(points), [0], extreme_points=points), 20)
    assert mirrored.boxes.tolist() == [[11, 0, 19, 9]]
    assert mirrored.extreme_points[0].tolist() == [[16, 0], [11, 6], [14, 9], [19, 4]]
    np.testing.assert_array_equal(box_of(mirrored.extreme_points), mirrored.boxes)


def test_the_mirror_of_the_left_map_is_the_right_one():
    maps = {
        name: torch.rand(1, head.channels, 3, 4, generator=torch.Generator().manual_seed(number))
        for number, (name, head) in enumerate(task().heads.items())
    }
    mirrored = mirror_maps(task().heads, maps)
    for name, other in (
        ("left", "right"),
        ("right", "left"),
        ("top", "top"),
        ("bottom", "bottom"),
        ("centre", "centre"),
    ):
        assert torch.equal(mirrored[name], maps[other].flip(-1))
    assert all(mirrored[f"{edge}_offset"] is None for edge in EDGES)


def test_points_beyond_the_crop_move_to_its_border_and_what_lies_outside_is_gone():
    points = side_midpoints(np.array([[-4, 2, 6, 9], [30, 2, 40, 9], [2, 3, 8, 9]], np.float32))
    instances = Instances.of(box_of(points), [0, 0, 1], [False, False, True], extreme_points=points)
    targets = task(crowd="ignore").encode(instances, Grid(16, 20))
    left, offset = targets["left"], targets["left_offset"]
    assert isinstance(left, Peaks)
    assert isinstance(offset, CellTargets)
    assert (left.x.tolist(), left.y.tolist(), left.channel.tolist()) == ([0, 2], [5.5, 6], [0, 1])
    assert left.positive.tolist() == [True, False]
    assert (offset.x.tolist(), offset.y.tolist(), offset.value.tolist()) == ([0], [5], [[0, 0.5]])
    assert targets["centre"].x.tolist() == [3, 5]
    agnostic = task(agnostic=True).encode(instances, Grid(16, 20))
    assert agnostic["left"].channel.tolist() == [0, 0]
    assert agnostic["centre"].channel.tolist() == [0, 1]


def test_images_are_not_turned():
    assert not task().layout.rotatable


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"points": 0}, "points of task exdet is 0; it must lie between 1 and 100"),
        ({"points": 101}, "it must lie between 1 and 100"),
        ({"aggregation": -0.1}, "aggregation of task exdet is -0.1; it must be at least 0"),
        ({"middle": "edges"}, "it must be points|cells"),
    ],
)
def test_options_that_make_no_sense(options, said):
    with pytest.raises(CtnetError) as error:
        task(**options)
    assert said in str(error.value)


def test_options_change_heads():
    assert [head.channels for head in task().heads.values()] == [2, 2, 2, 2, 2, 2, 2, 2, 2]
    agnostic = task(agnostic=True, offset_weight=0.5).heads
    assert [agnostic[edge].channels for edge in ("centre", *EDGES)] == [2, 1, 1, 1, 1]
    assert agnostic["top_offset"].weight == 0.5


def test_recipes_are_those_of_the_release():
    for backbone, batch in (("hourglass104", 24), ("dla34", 64)):
        paper = task().recipes(backbone)["paper"]
        assert (paper.batch_size, paper.learning_rate, paper.epochs) == (batch, 2.5e-4, 140)
        assert paper.milestones == (90, 120)
        assert paper.size == (512, 512)


def test_results_of_anybody_are_drawn_with_the_middles_of_their_sides():
    entries = [
        {"image_id": 1, "category_id": 7, "bbox": BOX, "score": 0.5},
        {"image_id": 1, "category_id": 3, "bbox": BOX, "score": 0.4, "extreme_points": [[9, 9]] * 4},
    ]
    found = detections_of(task(), entries)
    assert found.extreme_points[1].tolist() == [[9, 9]] * 4
    assert np.isnan(found.extreme_points[0]).all()
    assert found.labels.tolist() == [1, 0]
    image = np.zeros((80, 100, 3), np.uint8)
    known = found.replace(extreme_points=np.array([MIDDLES, [[9, 9]] * 4]))
    np.testing.assert_array_equal(task().draw(image, found), task().draw(image, known))


def test_octagons_touch_the_sides_around_the_points_and_end_at_corners():
    boxes = np.array([[0, 0, 80, 40]], np.float32)
    points = np.array([[[40, 0], [0, 2], [80, 40], [80, 20]]], np.float32)
    (octagon,) = octagons(boxes, points)
    assert octagon.tolist() == [
        [50, 0], [30, 0],  # the top: a quarter of 80
        [0, 0], [0, 7],  # cut at the corner
        [70, 40], [80, 40],
        [80, 25], [80, 15],
    ]  # fmt: skip
    assert octagons(boxes[:0], points[:0]).shape == (0, 8, 2)


def test_a_picture_shows_octagons_and_leaves_the_corners():
    image = np.full((60, 100, 3), 128, np.uint8)
    points = np.array([[[50, 10], [10, 30], [50, 50], [90, 30]]], np.float32)
    found = Detections(box_of(points), np.array([0.9]), np.array([0]), {"extreme_points": points})
    drawn = task().draw(image, found)
    assert (drawn[30, 50] != 128).any()  # tinted within
    assert (drawn[47, 13] == 128).all()  # outside the octagon, inside the box
    assert (task().draw(image, found[:0]) == image).all()
    wild = found.replace(boxes=found.boxes * 1e12, extreme_points=points * 1e12)
    assert task().draw(image, wild).shape == image.shape


def test_by_name_with_text_options():
    made = create_task("exdet", CATEGORIES, points="12", agnostic="true", aggregation="0.1")
    assert (made.options.points, made.options.agnostic, made.options.aggregation) == (12, True, 0.1)
