"""Unmatched objects against every anchor at every position."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask

from ctnet.analysis import Anchors, UnmatchedAnchors, count_unmatched_anchors
from ctnet.analysis.anchors import anchor_shapes, best_overlaps
from ctnet.analysis.objects import select_objects
from ctnet.base.errors import CtnetError
from ctnet.data.dataset import Dataset

Make = Callable[..., Dataset]
VARIANTS = ("official", "paper")


def places(side: int, stride: int, variant: str) -> list[float]:
    """The grid along one side of the resized image."""
    if variant == "official":
        return [(stride - 1) / 2 + i * stride for i in range(side // stride)]
    return [stride / 2 + i * stride for i in range(math.floor((side - stride / 2) / stride) + 1)]


def resized_sides(width: int, height: int, shorter_side: int) -> tuple[int, int]:
    if width < height:
        return shorter_side, height * shorter_side // width
    return width * shorter_side // height, shorter_side


def shapes_one_by_one(
    sizes: Sequence[float], ratios: Sequence[float], stride: int, variant: str
) -> list[tuple[float, float]]:
    shapes = []
    for ratio in ratios:
        for size in sizes:
            if variant == "paper":
                shapes.append((size / math.sqrt(ratio), size * math.sqrt(ratio)))
            else:
                width = round(math.sqrt(stride * stride / ratio))
                shapes.append((width * size / stride - 1, round(width * ratio) * size / stride - 1))
    return shapes


def every_anchor(
    box: np.ndarray,
    crowd: bool,
    xs: Sequence[float],
    ys: Sequence[float],
    shapes: Sequence[tuple[float, float]],
) -> float:
    """The best IoU of a box (xywh, resized image) with any shape at any position."""
    best = 0.0
    x, y, w, h = box.tolist()
    for width, height in shapes:
        across = [max(min(c + width / 2, x + w) - max(c - width / 2, x), 0) for c in xs]
        down = [max(min(c + height / 2, y + h) - max(c - height / 2, y), 0) for c in ys]
        shared = np.outer(across, down)
        union = width * height if crowd else width * height + w * h - shared
        best = max(best, float((shared / union).max()))
    return best


def by_hand(
    dataset: Dataset,
    sizes: Sequence[float] = (32, 64, 128, 256, 512),
    ratios: Sequence[float] = (0.5, 1, 2),
    stride: int = 16,
    shorter_side: int = 800,
    threshold: float = 0.5,
    variant: str = "official",
    crowd: bool = True,
) -> dict[Any, list[int]]:
    """[objects, unmatched] in total, by size and by category id."""
    coco = dataset.coco
    shapes = shapes_one_by_one(sizes, ratios, stride, variant)
    counts: dict[Any, list[int]] = {}
    for image in dataset.rows:
        width, height = int(coco.widths[image]), int(coco.heights[image])
        sides = resized_sides(width, height, shorter_side)
        xs, ys = (places(side, stride, variant) for side in sides)
        for row in coco.rows(image):
            if coco.crowd[row] and not crowd:
                continue
            box = coco.boxes[row] * (shorter_side / min(width, height))
            missed = every_anchor(box, bool(coco.crowd[row]), xs, ys, shapes) < threshold
            size = int(coco.areas[row] >= 32**2) + int(coco.areas[row] >= 96**2)
            for key in ("all", f"size {size}", int(coco.category_ids[row])):
                count = counts.setdefault(key, [0, 0])
                count[0] += 1
                count[1] += missed
    return counts


def counted(dataset: Dataset, **conventions: Any) -> UnmatchedAnchors:
    """The report under these conventions: those of the count, and those of the anchors."""
    rest = {
        name: conventions.pop(name) for name in ("threshold", "categories", "crowd") if name in conventions
    }
    return count_unmatched_anchors(dataset, Anchors(**conventions), **rest)


def assert_equal(report: UnmatchedAnchors, dataset: Dataset, expected: dict[Any, list[int]]) -> None:
    assert [report.total.objects, report.total.unmatched] == expected["all"]
    for number, count in enumerate(report.by_size):
        assert [count.objects, count.unmatched] == expected.get(f"size {number}", [0, 0])
    for category, count in zip(dataset.categories, report.by_category, strict=True):
        assert count.name == category["name"]
        assert [count.objects, count.unmatched] == expected.get(category["id"], [0, 0])


CONVENTIONS: list[dict[str, Any]] = [
    {},
    {"variant": "paper"},
    {"crowd": False, "threshold": 0.7},
    {"variant": "paper", "sizes": (20, 50.5), "ratios": (3, 0.4), "stride": 25, "shorter_side": 310},
    {"sizes": (48,), "ratios": (1,), "stride": 7, "shorter_side": 100},
]


@pytest.mark.parametrize("conventions", CONVENTIONS, ids=str)
def test_equals_every_anchor_at_every_place(random_data: Dataset, conventions: dict[str, Any]) -> None:
    dataset = random_data.subset(range(8))
    report = counted(dataset, **conventions)
    assert 0 < report.total.unmatched < report.total.objects
    assert_equal(report, dataset, by_hand(dataset, **conventions))


@pytest.mark.real
@pytest.mark.parametrize("variant", VARIANTS)
def test_real_data_equals_every_anchor_at_every_place(real_data: Dataset, variant: str) -> None:
    dataset = real_data.subset(range(0, len(real_data), len(real_data) // 40))
    assert_equal(counted(dataset, variant=variant), dataset, by_hand(dataset, variant=variant))


@settings(max_examples=60, deadline=None)
@given(
    x=st.floats(-300, 1300),
    y=st.floats(-300, 1300),
    width=st.floats(0.5, 1500),
    height=st.floats(0.5, 1500),
    anchor=st.tuples(st.floats(1, 700), st.floats(1, 700)),
    stride=st.integers(1, 200),
    crowd=st.booleans(),
)
def test_the_nearest_place_is_the_best(
    x: float,
    y: float,
    width: float,
    height: float,
    anchor: tuple[float, float],
    stride: int,
    crowd: bool,
) -> None:
    """What the fast path relies on: for any box and shape no other position overlaps more."""
    grid = [stride / 2 + i * stride for i in range(max(1000 // stride, 1))]
    box = np.array([x, y, width, height])
    center = [x + width / 2, y + height / 2]
    nearest = [[min(grid, key=lambda place, c=c: abs(place - c))] for c in center]
    best = every_anchor(box, crowd, grid, grid, [anchor])
    assert every_anchor(box, crowd, *nearest, [anchor]) == pytest.approx(best, rel=1e-9, abs=1e-12)


def test_best_overlaps_equal_those_of_pycocotools(random_data: Dataset) -> None:
    """Two images at the resolution of the anchors, all anchors written down as boxes."""
    for index in (1, 2):
        dataset = random_data.subset([index])
        objects = select_objects(dataset)
        shapes = anchor_shapes(Anchors())
        info = dataset.info(0)
        xs, ys = (places(side, 16, "official") for side in resized_sides(info.width, info.height, 800))
        centers = np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 1, 2)
        anchors = np.concatenate([centers - shapes / 2, np.broadcast_to(shapes, (len(centers), 15, 2))], 2)
        boxes = objects.boxes * (800 / min(info.width, info.height))
        overlaps = mask.iou(anchors.reshape(-1, 4), boxes, objects.crowd.astype(int))
        np.testing.assert_allclose(
            best_overlaps(dataset, objects, shapes, Anchors()), overlaps.max(axis=0), atol=1e-12
        )


def test_the_shapes_of_the_authors_tool() -> None:
    """At stride 16 they are 23x12, 16x16 and 11x22, scaled by 2 to 32 and one pixel shorter."""
    shapes = anchor_shapes(Anchors((32, 512)))
    expected = [(45, 23), (735, 383), (31, 31), (511, 511), (21, 43), (351, 703)]
    assert shapes.tolist() == [list(map(float, shape)) for shape in expected]
    exact = anchor_shapes(Anchors((32,), (0.5, 2), variant="paper"))
    np.testing.assert_allclose(exact, [(45.2548, 22.6274), (22.6274, 45.2548)], atol=1e-4)


def test_a_hand_worked_case(make: Make) -> None:
    """An image at the anchors' resolution; paper anchors of 32 x 32 alone, on 8, 24, 40, ..."""
    boxes = [
        ("cat", 8, 8, 32, 32),  # exactly the anchor on (24, 24)
        ("cat", 16, 16, 32, 32),  # eight pixels away: 576 / 1472 = 0.39
        ("dog", 12, 12, 32, 32),  # four pixels away: 784 / 1264 = 0.62
        ("dog", 8, 8, 32, 16),  # half of it: exactly 0.5 counts as matched
        ("dog", 8, 8, 32, 15),  # less than half
    ]
    dataset = make(boxes, size=(1000, 800))
    report = counted(dataset, sizes=(32,), ratios=(1,), variant="paper")
    assert (report.total.objects, report.total.unmatched) == (5, 2)
    assert [(count.name, count.unmatched) for count in report.by_category] == [("cat", 1), ("dog", 1)]
    assert [(count.objects, count.unmatched) for count in report.by_size] == [(2, 1), (3, 1), (0, 0)]


def test_boxes_grow_with_the_image(make: Make) -> None:
    dataset = make([("cat", 4, 4, 16, 16)], size=(400, 500))
    at_400, at_800 = (
        counted(dataset, sizes=(32,), ratios=(1,), shorter_side=side, variant="paper").total.unmatched
        for side in (400, 800)
    )
    assert (at_400, at_800) == (1, 0)


def test_crowd_regions(make: Make) -> None:
    """A large region contains many anchors whole, which is all that COCO requires of a crowd."""
    dataset = make([("cat", 0, 0, 390, 20, {"iscrowd": 1}), ("cat", 0, 0, 390, 20)])
    report = count_unmatched_anchors(dataset)
    assert (report.total.objects, report.total.unmatched, report.crowd_regions) == (2, 1, 1)
    report = count_unmatched_anchors(dataset, crowd=False)
    assert (report.total.objects, report.total.unmatched, report.crowd_regions) == (1, 1, 1)


def test_becomes_json(random_data: Dataset) -> None:
    report = count_unmatched_anchors(random_data)
    assert json.loads(json.dumps(report.as_dict()))["total"]["unmatched"] == report.total.unmatched


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stride": 0}, "the stride is 0; it must be from 1 to the shorter side of the image, 800"),
        ({"stride": 801}, "the stride is 801"),
        ({"shorter_side": 0}, "the stride is 16; it must be from 1 to the shorter side of the image, 0"),
        ({"sizes": ()}, "there is no anchor size; give at least one"),
        ({"sizes": (32, -1)}, "an anchor size is -1; it must be a number above 0"),
        ({"ratios": (math.inf,)}, "an anchor ratio is inf; it must be a number above 0"),
        ({"ratios": (2000,)}, "size 32 and ratio 2000 leave an anchor without area at stride 16"),
        ({"threshold": 0}, "the IoU threshold is 0; it must be above 0 and at most 1"),
        ({"variant": "papr"}, "the variant of the anchors is 'papr'; it must be official or paper"),
        ({"categories": ["cst"]}, "there is no category called 'cst'; did you mean cat?"),
        ({"categories": ["cat", "dog"]}, "no objects of category 'dog'; leave that out"),
    ],
)
def test_bad_input_is_one_clear_line(make: Make, arguments: dict[str, Any], message: str) -> None:
    dataset = make([("cat", 0, 0, 10, 10)])
    with pytest.raises(CtnetError) as error:
        counted(dataset, **arguments)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_no_object_at_all(make: Make) -> None:
    with pytest.raises(CtnetError, match="has no objects; there is nothing to count"):
        count_unmatched_anchors(make([]))
