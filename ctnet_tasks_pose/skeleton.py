"""The skeleton of a data set's category: names, sides, limbs and evaluation tolerances of joints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

from annotated_types import Interval, Len

from ctnet.plugin import CtnetError, Points, check_json, left_right_pairs, names_a_side, other_side, shorten

Side = Literal["left", "middle", "right"]

#: COCO's tolerances (per-joint standard deviations of repeated annotation, over the root of the area).
COCO_SIGMAS: Mapping[str, float] = {
    "nose": 0.026,
    **dict.fromkeys(("left_eye", "right_eye"), 0.025),
    **dict.fromkeys(("left_ear", "right_ear"), 0.035),
    **dict.fromkeys(("left_shoulder", "right_shoulder"), 0.079),
    **dict.fromkeys(("left_elbow", "right_elbow"), 0.072),
    **dict.fromkeys(("left_wrist", "right_wrist"), 0.062),
    **dict.fromkeys(("left_hip", "right_hip"), 0.107),
    **dict.fromkeys(("left_knee", "right_knee"), 0.087),
    **dict.fromkeys(("left_ankle", "right_ankle"), 0.089),
}

#: For joints without a tolerance in the data set or COCO: about the mean of COCO's.
DEFAULT_SIGMA = 0.067

_LARGEST_SIGMA = 100.0


@dataclass(frozen=True)
class Skeleton:
    """The joints of a detection.

    Attributes:
        joints: their names, in the order of the annotations.
        edges: limbs, pairs of 0-based joint indices.
        pairs: (left, right) joints that a mirror swaps, 0-based.
        sigmas: tolerance of each joint in COCO's object keypoint similarity.
        assumed: the joints whose tolerance is ``DEFAULT_SIGMA`` because none is known.
    """

    joints: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]
    pairs: tuple[tuple[int, int], ...]
    sigmas: tuple[float, ...]
    assumed: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.joints)

    @cached_property
    def mirrored(self) -> list[int]:
        """For each joint, the index of its mirror image; applied twice it is the identity."""
        partners = dict([*self.pairs, *((right, left) for left, right in self.pairs)])
        return [partners.get(joint, joint) for joint in range(len(self))]

    @cached_property
    def sides(self) -> tuple[Side, ...]:
        """The side of each joint; "middle" where it has no counterpart."""
        ends: tuple[Side, Side] = ("left", "right")
        stated = {joint: side for pair in self.pairs for joint, side in zip(pair, ends, strict=True)}
        return tuple(stated.get(joint, "middle") for joint in range(len(self)))

    @cached_property
    def field(self) -> Points:
        """The field of the column ``keypoints``."""
        return Points(
            json="keypoints",
            needed="never",  # some persons only have a box
            n=len(self),
            visible="visibility",
            scores="keypoint_scores",
            swap=tuple(self.mirrored),
            names=self.joints,
            # All joints share one offset map: where two are in one cell, a peak may be off within it.
            tolerance=4.0,
        )

    @classmethod
    def of_categories(cls, categories: Sequence[Mapping[str, Any]]) -> Skeleton:
        """The one skeleton of all categories of a COCO file.

        Args:
            categories: each with ``keypoints`` (names of joints), and optionally ``skeleton`` (limbs as pairs
                of 1-based indices) and ``sigmas``.

        Raises:
            CtnetError: for a category without joints or with broken ones, and for categories that differ.
        """
        skeletons = [cls.of_category(category) for category in categories]
        for category, skeleton in zip(categories, skeletons, strict=True):
            if (skeleton.joints, skeleton.sigmas) != (skeletons[0].joints, skeletons[0].sigmas):
                raise CtnetError(
                    f"{_title(categories[0])} and {_title(category)} differ in their joints or sigmas; pose "
                    "detects one skeleton at a time: make them equal, or train each category separately"
                )
        return skeletons[0]

    @classmethod
    def of_category(cls, category: Mapping[str, Any]) -> Skeleton:
        """The skeleton of one category of a COCO file; see ``of_categories``."""
        joints = _joint_names(category)
        sigmas, assumed = _sigmas(category, joints)
        return cls(joints, _edges(category, len(joints)), _pairs(category, joints), sigmas, assumed)


def _title(category: Mapping[str, Any]) -> str:
    return f"category {shorten(category.get('name'))} (id {category.get('id')})"


def _joint_names(category: Mapping[str, Any]) -> tuple[str, ...]:
    names = category.get("keypoints")
    if not isinstance(names, Sequence) or isinstance(names, str) or not names:
        raise CtnetError(
            f"{_title(category)} names no joints; pose needs 'keypoints', a list of their names, in every "
            "category of the annotation file"
        )
    if not all(isinstance(name, str) and name for name in names) or len(set(names)) < len(names):
        raise CtnetError(f"{_title(category)} needs joint names that are distinct strings, has {list(names)}")
    return tuple(names)


def _edges(category: Mapping[str, Any], joints: int) -> tuple[tuple[int, int], ...]:
    joint = Annotated[int, Interval(ge=1, le=joints)]
    kind: Any = list[tuple[joint, joint]] | None
    fix = f"a limb is two joints counted from 1 to {joints}"
    where = f"'skeleton' of {_title(category)}"
    edges = check_json(kind, category.get("skeleton"), where, fix)
    return tuple((one - 1, other - 1) for one, other in edges or ())


def _pairs(category: Mapping[str, Any], joints: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    pairs = left_right_pairs(joints)
    paired = {joint for pair in pairs for joint in pair}
    for number, name in enumerate(joints):
        if number not in paired and names_a_side(name):
            raise CtnetError(
                f"{_title(category)} has a joint {name!r} but no {other_side(name)!r}, so a mirrored image "
                "would show a joint that has no name; add it, or rename the joint"
            )
    return tuple(pairs)


def _sigmas(
    category: Mapping[str, Any], joints: tuple[str, ...]
) -> tuple[tuple[float, ...], tuple[str, ...]]:
    """The tolerances, and the names of those that are assumed."""
    given = category.get("sigmas")
    if given is not None:
        count = len(joints)
        kind = Annotated[list[Annotated[float, Interval(gt=0, le=_LARGEST_SIGMA)]], Len(count, count)]
        fix = f"it needs {count} numbers above 0, one for each joint"
        return tuple(check_json(kind, given, f"'sigmas' of {_title(category)}", fix)), ()
    assumed = tuple(name for name in joints if name not in COCO_SIGMAS)
    return tuple(COCO_SIGMAS.get(name, DEFAULT_SIGMA) for name in joints), assumed
