from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctnet.base.errors import CtnetError
from ctnet.core.task import create_task
from ctnet.data.joints import other_side
from ctnet_tasks_pose.figures import FIGURES
from ctnet_tasks_pose.skeleton import COCO_SIGMAS, DEFAULT_SIGMA, Skeleton


def category(*joints: str, **more: object) -> dict:
    return {"id": 1, "name": "thing", "keypoints": list(joints), **more}


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("left_wrist", "right_wrist"),
        ("wrist left", "wrist right"),
        ("LeftWrist", "RightWrist"),
        ("wristLeft", "wristRight"),
        ("LEFT-WRIST", "RIGHT-WRIST"),
        ("l_wrist", "r_wrist"),
        ("wrist.L", "wrist.R"),
        ("LWrist", "RWrist"),
    ],
)
def test_left_and_right_are_found_in_many_spellings(left, right):
    assert (other_side(left), other_side(right)) == (right, left)
    skeleton = Skeleton.of_category(category("top", right, left))
    assert skeleton.pairs == ((2, 1),)
    assert skeleton.sides == ("middle", "right", "left")
    assert skeleton.mirrored == [0, 2, 1]


@pytest.mark.parametrize("name", ["nose", "ball", "collar", "tail_base", "upright", "curl", "L5"])
def test_names_without_a_side_have_no_counterpart(name):
    assert Skeleton.of_category(category(name, "other")).pairs == ()


def test_the_skeleton_of_coco_comes_from_the_file():
    skeleton = Skeleton.of_categories(FIGURES)
    names = FIGURES[0]["keypoints"]
    assert {(skeleton.joints[a], skeleton.joints[b]) for a, b in skeleton.pairs} == {
        (name, name.replace("left", "right")) for name in names if name.startswith("left")
    }
    assert skeleton.sigmas == tuple(COCO_SIGMAS[name] for name in names)
    assert skeleton.assumed == ()
    assert ("left_ankle", "left_knee") in [
        (skeleton.joints[a], skeleton.joints[b]) for a, b in skeleton.edges
    ]


@given(st.permutations(FIGURES[0]["keypoints"]))
@settings(max_examples=20, deadline=None)
def test_mirrored_twice_is_the_identity_in_any_order(names):
    skeleton = Skeleton.of_category(category(*names))
    assert [skeleton.mirrored[joint] for joint in skeleton.mirrored] == list(range(len(names)))
    for joint, other in enumerate(skeleton.mirrored):
        assert skeleton.joints[other] == other_side(skeleton.joints[joint])


def test_sigmas_come_from_the_file_then_from_coco_then_from_a_constant():
    joints = ("nose", "beak")
    assert Skeleton.of_category(category(*joints, sigmas=[0.1, 0.2])).sigmas == (0.1, 0.2)
    skeleton = Skeleton.of_category(category(*joints))
    assert skeleton.sigmas == (COCO_SIGMAS["nose"], DEFAULT_SIGMA)
    assert skeleton.assumed == ("beak",)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"id": 3, "name": "car"}, "category 'car' (id 3) names no joints; pose needs 'keypoints'"),
        (category(), "names no joints"),
        (category("a", "a"), "needs joint names that are distinct strings"),
        (category("a", 2), "needs joint names that are distinct strings"),
        (category("a", "b", skeleton=[[0, 1]]), "'skeleton' of category 'thing' (id 1): at 0.0: 0, expected"),
        (category("a", "b", skeleton=[[1, 3]]), "counted from 1 to 2"),
        (category("a", "b", skeleton=[7]), "at 0: 7, expected a list; a limb is two joints"),
        (category("a", "b", skeleton=5), "'skeleton' of category 'thing' (id 1): 5, expected a list"),
        (category("a", "b", skeleton=[[True, 2]]), "at 0.0: True, expected a whole number"),
        (category("a", "b", skeleton=[[1, 2, 1]]), "at 0: [1, 2, 1], expected at most 2 entries"),
        (category("a", "b", sigmas=[0.1, 10**400]), "'sigmas' of category 'thing' (id 1): at 1: 1000000000"),
        (category("a", "b", sigmas=0.1), "'sigmas' of category 'thing' (id 1): 0.1, expected a list"),
        (category("a", "b", sigmas=[0.1]), "it needs 2 numbers above 0"),
        (category("a", "b", sigmas=[0.1, 0]), "it needs 2 numbers above 0"),
        (category("left_a", "b"), "has a joint 'left_a' but no 'right_a'"),
    ],
)
def test_broken_categories_are_refused_in_one_line(broken, message):
    with pytest.raises(CtnetError, match=re.escape(message)) as caught:
        create_task("pose", [broken])
    assert "\n" not in str(caught.value)


def test_several_categories_share_one_skeleton_or_are_refused():
    one, two = category("a", "b"), {**category("a", "b"), "id": 2, "name": "other"}
    task = create_task("pose", [one, two])
    assert task.heads["heatmap"].channels == 2
    assert task.heads["joints"].channels == 4
    with pytest.raises(CtnetError, match=r"'thing' \(id 1\) and category 'other' \(id 2\) differ"):
        create_task("pose", [one, {**two, "keypoints": ["b", "a"]}])
