"""Collisions against a double loop over the objects of every image."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ctnet.analysis import Collisions, PairCount, count_collisions
from ctnet.base.errors import CtnetError
from ctnet.data.dataset import Dataset

Make = Callable[..., Dataset]
Entry = dict[str, Any]


def iou(a: Entry, b: Entry, extra: int) -> float:
    (ax, ay, aw, ah), (bx, by, bw, bh) = a["box"], b["box"]
    across = max(min(ax + aw, bx + bw) - max(ax, bx) + extra, 0)
    down = max(min(ay + ah, by + bh) - max(ay, by) + extra, 0)
    shared = across * down
    return shared / ((aw + extra) * (ah + extra) + (bw + extra) * (bh + extra) - shared)


def cell(entry: Entry, stride: float, rounding: str) -> tuple[int, int]:
    x, y, width, height = entry["box"]
    half = 0.5 if rounding == "nearest" else 0
    return math.floor((x + width / 2) / stride + half), math.floor((y + height / 2) / stride + half)


def entries(dataset: Dataset, index: int) -> list[Entry]:
    coco = dataset.coco
    return [
        {
            "row": int(row),
            "box": coco.boxes[row].tolist(),
            "category": int(coco.category_ids[row]),
            "size": int(coco.areas[row] >= 32**2) + int(coco.areas[row] >= 96**2),
            "crowd": bool(coco.crowd[row]),
        }
        for row in coco.rows(dataset.rows[index])
    ]


def double_loop(
    dataset: Dataset,
    stride: float = 4,
    thresholds: tuple[float, ...] = (0.7, 0.5),
    rounding: str = "floor",
    inclusive: bool = True,
    crowd: bool = False,
) -> Entry:
    """What ``count_collisions`` counts, pair by pair."""
    tests: dict[str, Callable[[Entry, Entry], bool]] = {
        "center": lambda a, b: cell(a, stride, rounding) == cell(b, stride, rounding)
    }
    for t in thresholds:
        tests[f"iou>{t:g}"] = lambda a, b, t=t: iou(a, b, int(inclusive)) > t
    pairs, members, lost = ({kind: Counter() for kind in tests} for _ in range(3))
    listed: dict[int, dict[str, list[tuple[int, int]]]] = {}
    for index in range(len(dataset)):
        found = [entry for entry in entries(dataset, index) if crowd or not entry["crowd"]]
        for kind, collide in tests.items():
            touched, dropped = {}, set()
            for a, b in itertools.combinations(found, 2):
                if a["category"] != b["category"] or not collide(a, b):
                    continue
                pairs[kind].update(["all", f"size {min(a['size'], b['size'])}", a["category"]])
                touched |= {a["row"]: a, b["row"]: b}
                ids = tuple(int(dataset.coco.annotation_ids[e["row"]]) for e in (a, b))
                image_id = int(dataset.image_ids[index])
                listed.setdefault(image_id, {name: [] for name in tests})[kind].append(ids)
            for second in found:  # in order: dropped if it collides with an earlier one that stays
                for first in itertools.takewhile(lambda e, second=second: e is not second, found):
                    same = first["category"] == second["category"]
                    if same and first["row"] not in dropped and collide(first, second):
                        dropped.add(second["row"])
            for row, entry in touched.items():
                keys = ["all", f"size {entry['size']}", entry["category"]]
                members[kind].update(keys)
                if row in dropped:
                    lost[kind].update(keys)
    return {"pairs": pairs, "members": members, "lost": lost, "images": listed}


def assert_equal(report: Collisions, dataset: Dataset, expected: Entry) -> None:
    def counts(key: Any) -> dict[str, PairCount]:
        return {
            kind: PairCount(*(int(expected[what][kind][key]) for what in ("pairs", "members", "lost")))
            for kind in report.kinds
        }

    assert report.total.collisions == counts("all")
    for number, group in enumerate(report.by_size):
        assert group.collisions == counts(f"size {number}")
    for category, group in zip(dataset.categories, report.by_category, strict=True):
        assert group.name == category["name"]
        assert group.collisions == counts(category["id"])
    assert {image.image_id: image.pairs for image in report.images} == {
        image: {kind: tuple(sorted(these)) for kind, these in kinds.items()}
        for image, kinds in expected["images"].items()
    }


CONVENTIONS: list[Entry] = [
    {},
    {"stride": 1},
    {"stride": 32.5, "rounding": "nearest"},
    {"inclusive": False},
    {"crowd": True, "thresholds": (0.0, 0.95)},
]


@pytest.mark.parametrize("conventions", CONVENTIONS, ids=str)
def test_equals_a_double_loop(random_data: Dataset, conventions: Entry) -> None:
    report = count_collisions(random_data, **conventions)
    assert any(count.pairs for count in report.total.collisions.values())
    assert_equal(report, random_data, double_loop(random_data, **conventions))


@pytest.mark.real
def test_real_data_equals_a_double_loop(real_data: Dataset) -> None:
    assert_equal(count_collisions(real_data), real_data, double_loop(real_data))


def test_objects_are_counted_with_crowd_regions(random_data: Dataset) -> None:
    report = count_collisions(random_data)
    coco = random_data.coco
    assert report.total.objects == int(coco.usable.sum())
    assert report.crowd_regions == int(coco.crowd[coco.usable].sum()) > 0
    assert sum(group.objects for group in report.by_size) == report.total.objects
    assert sum(group.objects for group in report.by_category) == report.total.objects


def test_a_hand_worked_case(make: Make) -> None:
    """Three cats and a dog with centres in the cell from 8 to 12, a fourth cat just outside it."""
    dataset = make(
        [
            ("cat", 0, 0, 20, 20),  # centre 10
            ("cat", 0, 0, 22, 22),  # 11
            ("cat", 7, 7, 2, 2),  # 8
            ("dog", 0, 0, 20, 20),
            ("cat", 2, 2, 20, 20),  # 12: the next cell
        ]
    )
    report = count_collisions(dataset, inclusive=False)
    assert report.total.collisions["center"] == PairCount(pairs=3, objects=3, lost=2)
    # 400/484 = 0.83 for the first two; 324/476 = 0.68 for first and fourth; 400/484 for second and fourth.
    assert report.total.collisions["iou>0.7"] == PairCount(pairs=2, objects=3, lost=1)
    assert report.total.collisions["iou>0.5"] == PairCount(pairs=3, objects=3, lost=2)
    assert [group.objects for group in report.by_category] == [4, 1]
    (image,) = report.images
    assert image.pairs["center"] == ((100, 101), (100, 102), (101, 102))
    assert image.pairs["iou>0.7"] == ((100, 101), (101, 104))


def test_the_conventions_tell_cases_apart(make: Make) -> None:
    dataset = make(
        [
            ("cat", 0, 0, 4, 4),  # centre 2: cell 0, to the nearest 1
            ("cat", 1, 1, 4, 4),  # centre 3: the same; IoU 9/23, with the last pixel 16/34
            ("dog", 100, 100, 2, 2),  # centre 101: cell 25, to the nearest 25
            ("dog", 102, 102, 2, 2),  # centre 103: cell 25, to the nearest 26; they touch
            ("dog", 100, 100, 2, 2, {"iscrowd": 1}),
        ]
    )

    def pairs(**conventions: Any) -> list[int]:
        report = count_collisions(dataset, thresholds=(0.4,), **conventions)
        return [count.pairs for count in report.total.collisions.values()]

    assert pairs() == [2, 1]
    assert pairs(rounding="nearest") == [1, 1]
    assert pairs(inclusive=False) == [2, 0]
    assert pairs(crowd=True) == [4, 2]
    assert pairs(stride=1) == [0, 1]
    assert pairs(categories=["dog"]) == [1, 0]


def test_a_pair_of_two_sizes_counts_for_the_smaller(make: Make) -> None:
    dataset = make([("cat", 0, 0, 40, 40, {"area": 100}), ("cat", 0, 0, 40, 40, {"area": 1024})])
    small, medium, large = (group.collisions["center"] for group in count_collisions(dataset).by_size)
    assert (small, medium, large) == (PairCount(1, 1, 0), PairCount(0, 1, 1), PairCount(0, 0, 0))


def test_a_subset_counts_its_own_images_alone(random_data: Dataset) -> None:
    subset = random_data.subset(range(5, 12))
    assert_equal(count_collisions(subset), subset, double_loop(subset))
    assert {image.image_id for image in count_collisions(subset).images} <= set(subset.image_ids.tolist())


def test_a_category_alone_counts_as_among_all(random_data: Dataset) -> None:
    alone = count_collisions(random_data, categories=["dog"])
    among = {group.name: group for group in count_collisions(random_data).by_category}
    assert alone.by_category == (among["dog"],)
    assert alone.total.collisions == among["dog"].collisions


def test_bad_records_are_no_objects(make: Make) -> None:
    dataset = make([("cat", 0, 0, 10, 10), ("cat", 0, 0, 10, 0), ("cat", 0, 0, 10, 10)])
    report = count_collisions(dataset)
    assert report.total.objects == 2
    assert report.images[0].pairs["center"] == ((100, 102),)


def test_many_in_one_place(make: Make) -> None:
    number = 300
    report = count_collisions(make([("cat", 5, 5, 10, 10)] * number))
    every = PairCount(number * (number - 1) // 2, number, number - 1)
    assert list(report.total.collisions.values()) == [every] * 3


def test_becomes_json(random_data: Dataset) -> None:
    report = count_collisions(random_data)
    content = json.loads(json.dumps(report.as_dict()))
    assert content["total"]["collisions"]["center"]["pairs"] == report.total.collisions["center"].pairs
    assert len(content["images"]) == len(report.images)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stride": 0}, "the stride is 0; it must be a number above 0, 4 in the paper"),
        ({"stride": math.nan}, "the stride is nan"),
        ({"thresholds": (0.5, 1.0)}, "an IoU threshold is 1; it must be at least 0 and below 1"),
        ({"rounding": "ceil"}, "there is no rounding called 'ceil'; known: floor, nearest"),
        ({"categories": ["cst"]}, "there is no category called 'cst'; did you mean cat?"),
        ({"categories": ["dog"]}, "no objects of category 'dog'; leave that out"),
    ],
)
def test_bad_input_is_one_clear_line(make: Make, arguments: Entry, message: str) -> None:
    dataset = make([("cat", 0, 0, 10, 10)])
    with pytest.raises(CtnetError) as error:
        count_collisions(dataset, **arguments)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_no_object_at_all(make: Make) -> None:
    with pytest.raises(CtnetError, match="has no objects; there is nothing to count"):
        count_collisions(make([]))


def test_no_threshold_counts_centres_alone(random_data: Dataset) -> None:
    report = count_collisions(random_data, thresholds=())
    assert report.kinds == ("center",)
    assert report.total.collisions["center"] == count_collisions(random_data).total.collisions["center"]


def test_crowd_regions_alone_do_not_collide(make: Make) -> None:
    report = count_collisions(make([("cat", 0, 0, 10, 10, {"iscrowd": 1})] * 2))
    assert report.total.objects == 2
    assert np.all([count == PairCount(0, 0, 0) for count in report.total.collisions.values()])
