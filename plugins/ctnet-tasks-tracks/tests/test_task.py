"""The task: its contract for every base, its targets and association, and bad options."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from ctnet_tasks_tracks.association import DisplacementTracker
from ctnet_tasks_tracks.evaluation import TrackEvaluator
from ctnet_tasks_tracks.scenes import film
from ctnet_tasks_tracks.task import Tracks

from ctnet.plugin import SHAPES, CtnetError, Detections, Grid, Instances, create_task, scenes_of
from ctnet.testing import TASK_CHECKS

#: Checks that depend on the base; all of them run for ctdet.
OF_A_BASE = (
    "the_round_trip_holds",
    "annotations_survive_a_file",
    "encode_commutes_with_mirroring",
    "objects_are_linked_to_where_they_were",
    "a_tracker_keeps_identities",
    "documentation_is_complete",
    "names_are_declared",
)


TASK = create_task("tracks", SHAPES)


@pytest.mark.parametrize(
    "check", [one for one in TASK_CHECKS if one.name != "decode_exports"], ids=lambda one: one.name
)
def test_the_contract_holds(check) -> None:
    """All checks but that of the export, which takes as long as the others: ``ctnet tasks check tracks``."""
    check(TASK)


def of_base(base: str) -> Tracks:
    scenes = scenes_of(Tracks).chosen({"base": base})
    return Tracks(scenes.categories, base=base)


@pytest.mark.parametrize("base", ["pose", "ddd", "obb"])
def test_the_contract_holds_for_every_base(base) -> None:
    pytest.importorskip(f"ctnet_tasks_{base}")
    task = of_base(base)
    assert {*task.base.heads, "displacement"} == {*task.heads}
    for check in TASK_CHECKS:
        if check.name in OF_A_BASE:
            check(task)


def test_a_base_that_does_not_exist_is_named() -> None:
    with pytest.raises(CtnetError, match="there is no task called 'ctdett'; did you mean ctdet"):
        create_task("tracks", SHAPES, base="ctdett")


def test_a_base_without_boxes_is_refused() -> None:
    pytest.importorskip("ctnet_tasks_exdet")
    with pytest.raises(CtnetError, match="task exdet has no head heatmap and size, so its objects are not"):
        create_task("tracks", SHAPES, base="exdet")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base": "tracks"}, "base of task tracks is tracks itself"),
        ({"base_options": "size_weight"}, "write name=value, separated by commas"),
        ({"base_options": "no_such=1"}, "there is no option of task ctdet called 'no_such'"),
        ({"association": "luck"}, "association"),
        ({"missed": "2"}, "missed"),
    ],
)
def test_bad_options_get_one_line(options, message) -> None:
    with pytest.raises(CtnetError, match=message):
        create_task("tracks", SHAPES, **options)


def test_options_reach_the_base() -> None:
    task = create_task("tracks", SHAPES, base_options="size_weight=0.3, radius=corrected")
    assert task.heads["size"].weight == 0.3
    assert task.base.options.crowd == "ignore"
    assert create_task("tracks", SHAPES, base_options="crowd=positive").base.options.crowd == "positive"


def test_displacement_is_taught_where_the_earlier_place_is_known() -> None:
    task = create_task("tracks", SHAPES)
    boxes = [[10, 10, 20, 20], [30, 10, 36, 18], [5, 30, 15, 36]]
    before = np.array([[13.5, 16], [np.nan, np.nan], [9, 33]], np.float32)
    instances = Instances.of(boxes, [0, 1, 2], [False, False, True], track_id=np.arange(3), before=before)
    target = task.encode(instances, Grid(48, 48))["displacement"]
    assert (target.x.tolist(), target.y.tolist()) == ([15], [15])
    assert target.value.tolist() == [[-1.5, 1.0]]


def test_the_network_moves_no_object_at_the_start() -> None:
    task = create_task("tracks", SHAPES)
    maps = {name: torch.zeros(1, head.channels, 8, 8) for name, head in task.heads.items()}
    found = task.decode(maps, 3)
    assert torch.equal(found.before, found.cells.float())


def objects(*rows, before=None, labels=None) -> Detections:
    boxes = np.array([[x, y, x + side, y + side] for x, y, side in rows], np.float32)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    where = centres if before is None else np.array(before, np.float64)
    kinds = np.zeros(len(rows), np.int64) if labels is None else np.array(labels)
    scores = np.linspace(0.9, 0.8, len(rows)).astype(np.float32)
    return Detections(boxes, scores, kinds, {"before": where})


@pytest.fixture
def tracker() -> DisplacementTracker:
    return DisplacementTracker(create_task("tracks", SHAPES), 0.3)


def test_objects_that_leap_keep_their_identities(tracker) -> None:
    tracker.update(objects((0, 0, 10), (60, 0, 10)))
    leapt = objects((58, 2, 10), (2, 1, 10), before=[[5, 5], [65, 5]])  # they changed places
    assert tracker.update(leapt).track_id.tolist() == [1, 2]


def test_one_that_came_from_nowhere_is_new(tracker) -> None:
    tracker.update(objects((0, 0, 10)))
    assert tracker.update(objects((0, 0, 10), before=[[30, 30]])).track_id.tolist() == [2]


def test_the_best_detection_chooses_first_and_classes_do_not_mix(tracker) -> None:
    tracker.update(objects((0, 0, 10), labels=[0]))
    two = objects((3, 0, 10), (0, 0, 10), before=[[8, 5], [5, 5]])
    assert tracker.update(two).track_id.tolist() == [1, 2]
    assert tracker.update(objects((3, 0, 10), labels=[1])).track_id.tolist() == [3]


def test_one_far_larger_than_what_it_came_from_is_new(tracker) -> None:
    tracker.update(objects((0, 0, 10)))
    assert tracker.update(objects((0, 0, 60), before=[[25, 5]])).track_id.tolist() == [2]


# --- scenes


def test_a_film_has_objects_that_move_enter_leave_and_hide() -> None:
    entered = left = hidden = 0
    for seed in range(6):
        frames = film(np.random.default_rng(seed), (96, 96), 20)
        seen = [{*sample.instances.track_id.tolist()} for sample in frames]
        everyone = set().union(*seen)
        entered += sum(one not in seen[0] for one in everyone)
        left += sum(one not in seen[-1] for one in everyone)
        for one in everyone:
            there = [number for number, ids in enumerate(seen) if one in ids]
            hidden += there[-1] - there[0] + 1 > len(there)
        for earlier, sample in itertools.pairwise(frames):
            ids = sample.instances.track_id.tolist()
            assert len(ids) == len(set(ids))
            before = dict(zip(earlier.instances.track_id.tolist(), earlier.instances.boxes, strict=True))
            for identity, place in zip(ids, sample.instances.before, strict=True):
                if identity in before:
                    box = before[identity]
                    assert place == pytest.approx((box[:2] + box[2:]) / 2)
                else:
                    assert np.isnan(place).all()
    assert min(entered, left, hidden) >= 3


# --- the evaluator


def ground_truth() -> dict:
    images = [
        {
            "id": number,
            "file_name": f"{number}.jpg",
            "width": 64,
            "height": 64,
            "video_id": "a",
            "frame_id": number,
        }
        for number in (1, 2, 3)
    ]
    row = {"category_id": 1, "area": 100, "iscrowd": 0}
    annotations = [
        {**row, "id": number, "image_id": number, "bbox": [5 * number, 5, 10, 10], "track_id": 4}
        for number in (1, 2, 3)
    ]
    crowd = {**row, "id": 9, "image_id": 1, "bbox": [40, 40, 20, 20], "iscrowd": 1}
    unknown = {**row, "id": 10, "image_id": 2, "bbox": [40, 5, 10, 10]}
    return {"images": images, "annotations": [*annotations, crowd, unknown], "categories": [dict(SHAPES[0])]}


def figures(*frames) -> dict[str, float]:
    """Of frames of rows (x, y, side, identity, score)."""
    evaluator = TrackEvaluator(ground_truth(), [1], ["ball"])
    for image_id, rows in enumerate(frames, start=1):
        table = np.array(rows, np.float64).reshape(-1, 5)
        boxes = np.concatenate([table[:, :2], table[:, :2] + table[:, 2:3]], axis=1)
        labels, identity = np.zeros(len(table), np.int64), table[:, 3].astype(np.int64)
        evaluator.update(image_id, Detections(boxes, table[:, 4], labels, {"track_id": identity}))
    return evaluator.compute()


def test_perfect_tracks_score_one_whatever_covers_a_crowd() -> None:
    track = [[(5 * number, 5, 10, 8, 0.9)] for number in (1, 2, 3)]
    assert figures(*track)["HOTA"] == 1
    track[0].append((42, 42, 10, 9, 0.9))  # in the crowd
    track[1].append((40, 5, 10, 9, 0.9))  # its identity is not annotated
    track[2].append((50, 50, 10, -1, 0.9))  # nobody follows it
    track[2].append((50, 50, 10, 11, 0.05))  # not sure enough
    done = figures(*track)
    assert (done["HOTA"], done["MOTA"], done["IDF1"], done["switches"]) == (1, 1, 1, 0)


def test_switches_and_false_tracks_cost() -> None:
    done = figures([(5, 5, 10, 8, 0.9)], [(10, 5, 10, 8, 0.9)], [(15, 5, 10, 3, 0.9)])
    assert done["switches"] == 1
    assert done["IDF1"] == pytest.approx(2 / 3)
    twice = figures(*[[(5 * n, 5, 10, 8, 0.9), (5 * n, 5, 10, 8, 0.9)] for n in (1, 2, 3)])
    assert twice["MOTA"] == 0  # of two with one identity the second is a false one


def test_detections_that_nobody_followed_are_tracks_of_their_own(caplog) -> None:
    evaluator = TrackEvaluator(ground_truth(), [1], ["ball"])
    for number in (1, 2, 3):
        evaluator.update(number, dataclasses.replace(objects((5 * number, 5, 10)), extra={}))
    done = evaluator.compute()
    assert "these detections have no track_id" in caplog.text
    assert (done["DetA"], done["switches"]) == (1, 2)
    assert done["IDF1"] == pytest.approx(1 / 3)
