from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctnet.core.fields import (
    Angle,
    Choice,
    Field,
    Length,
    Points,
    Value,
    differences,
    field_errors,
    mirror_record,
    move_record,
    read_fields,
    write_fields,
)
from ctnet.core.geometry import Affine
from ctnet.core.records import Detections, Instances

FIELDS: dict[str, Field] = {
    "joints": Points(json="keypoints", n=3, visible="visibility", scores="joint_scores", swap=(1, 0, 2)),
    "tip": Points(json="tip", needed="objects"),
    "corners": Points(json="corners", n=4, cyclic=True, digits=3),
    "reach": Length(json="reach"),
    "tilt": Angle(json="tilt", period=math.pi, mirrored_about=0.0, rotates=True),
    "heading": Angle(json="heading"),
    "place": Value(
        json="place", width=3, mirror_sign=(-1.0, 1.0, 1.0), digits=4, unit="m", parts=("x", "y", "z")
    ),
    "ripeness": Value(json="attributes.ripeness", needed="never", limits=(0.0, 1.0)),
    "hidden": Choice(json="attributes.hidden", choices=("false", "true"), needed="never"),
    "kind": Choice(json="attributes.kind", choices=("small", "medium", "large"), needed="never"),
}


def instances(count: int, seed: int = 0) -> Instances:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 50, (count, 2))
    visible = rng.integers(0, 3, (count, 3))
    joints = rng.uniform(0, 90, (count, 3, 2)).round(2) * (visible > 0)[..., None]
    return Instances.of(
        np.concatenate([corner, corner + rng.uniform(1, 40, (count, 2))], axis=1),
        rng.integers(0, 2, count),
        joints=joints.astype(np.float32),
        visibility=visible,
        tip=rng.uniform(0, 90, (count, 2)).astype(np.float32),
        corners=rng.uniform(0, 90, (count, 4, 2)).astype(np.float32),
        reach=rng.uniform(0, 20, count).astype(np.float32),
        tilt=rng.uniform(-1.5, 1.5, count).astype(np.float32),
        heading=rng.uniform(-3, 3, count).astype(np.float32),
        place=rng.uniform(-9, 9, (count, 3)).astype(np.float32),
        ripeness=np.where(rng.random(count) < 0.3, np.nan, rng.random(count)).astype(np.float32),
        hidden=rng.integers(-1, 2, count),
        kind=rng.integers(-1, 3, count),
    )


def entries_of(record: Instances) -> list[dict]:
    entries: list[dict] = [{} for _ in range(len(record))]
    write_fields(FIELDS, entries, record.fields())
    return json.loads(json.dumps(entries, allow_nan=False))


@given(st.integers(0, 6), st.integers(0, 1000))
def test_what_is_written_reads_back(count, seed):
    record = instances(count, seed)
    entries = entries_of(record)
    assert all(field_errors(FIELDS, entry) == [] for entry in entries)
    again = record.replace(**read_fields(FIELDS, entries))
    for name, gap in differences(FIELDS, record, again).items():
        assert (gap <= 0.006).all(), name
    for name in ("visibility", "hidden", "kind"):
        np.testing.assert_array_equal(again.extra[name], record.extra[name])
    np.testing.assert_array_equal(np.isnan(again.ripeness), np.isnan(record.ripeness))


def test_results_keep_every_digit_and_scores():
    found = Detections(
        np.zeros((2, 4)),
        np.ones(2),
        np.zeros(2, int),
        {
            "joints": np.random.default_rng(0).random((2, 3, 2)),
            "joint_scores": np.array([[0.1, 0.2, 0.3]] * 2),
        },
    )
    entries: list[dict] = [{}, {}]
    write_fields(FIELDS, entries, found.fields(), found=True)
    fields = {"joints": FIELDS["joints"]}
    assert field_errors(fields, entries[0], found=True) == []
    again = read_fields(fields, entries, found=True)
    np.testing.assert_array_equal(again["joints"], found.joints)
    np.testing.assert_array_equal(again["joint_scores"], found.joint_scores)


@pytest.mark.parametrize(
    ("key", "value", "phrase"),
    [
        ("keypoints", [1.0] * 8, "keypoints are 8 numbers, not 9 (x, y, visibility of 3 points)"),
        ("keypoints", "left", "keypoints are 'left', not 9"),
        ("keypoints", 7, "keypoints are 7, not 9"),
        ("keypoints", [1, 1, 3] * 3, "keypoints have visibility 3 for point 1, not 0, 1 or 2"),
        ("keypoints", [1, math.inf, 1] * 3, "keypoints have point 1 at (1, inf), which are not finite"),
        ("tip", [1, None], "tip have point 1 at (1, None), which are not finite numbers"),
        ("tip", None, "tip is missing"),
        ("reach", -1, "reach is -1, outside 0 to inf"),
        ("reach", True, "reach is True, not a finite number"),
        ("place", [1, 2], "place is [1, 2], not 3 finite numbers (x, y, z)"),
        ("attributes", {"ripeness": 1.5}, "attributes.ripeness is 1.5, outside 0 to 1"),
        ("attributes", {"hidden": "perhaps"}, "attributes.hidden is 'perhaps', not true or false"),
        ("attributes", {"kind": "huge"}, "attributes.kind is 'huge', not small | medium | large"),
        ("attributes", {"kind": ["small"]}, "attributes.kind is ['small'], not small | medium | large"),
    ],
)
def test_an_error_names_key_value_and_what_is_allowed(key, value, phrase):
    entry = {**entries_of(instances(1))[0], key: value}
    [error] = field_errors(FIELDS, entry)
    assert error.startswith(phrase)


def test_results_may_lie_outside_the_limits_of_annotations():
    """A barely trained network writes what it finds, and its file is read again."""
    fields = {name: FIELDS[name] for name in ("reach", "ripeness")}
    entry = {"reach": -3.0, "attributes": {"ripeness": 1.5}}
    assert field_errors(fields, entry, found=True) == []
    assert len(field_errors(fields, entry)) == 2


@pytest.mark.parametrize("value", [None, []])
def test_null_and_an_empty_list_are_missing(value):
    fields = {name: FIELDS[name] for name in ("joints", "tip")}
    assert field_errors(fields, {"keypoints": value, "tip": value}) == [
        "keypoints is missing",
        "tip is missing",
    ]
    assert read_fields(fields, [{"keypoints": value}])["visibility"].tolist() == [[0, 0, 0]]


def test_labelled_points_are_counted_as_in_coco():
    record = instances(4)
    counts = [entry["num_keypoints"] for entry in entries_of(record)]
    assert counts == (record.visibility > 0).sum(axis=1).tolist()


def test_what_only_objects_need_may_lack_in_a_crowd():
    entry = {**entries_of(instances(1))[0], "tip": "?", "iscrowd": 1}
    assert field_errors(FIELDS, entry) == []
    assert np.isnan(read_fields(FIELDS, [entry])["tip"]).all()


@pytest.mark.parametrize("value", [True, 1, "true", " True "])
def test_a_flag_is_read_as_tools_write_it(value):
    assert FIELDS["hidden"].error(value) is None
    assert FIELDS["hidden"].read("hidden", [value])["hidden"].tolist() == [1]


def test_the_mirror_twice_is_the_identity():
    record = instances(5)
    mirror = Affine.mirror(100)
    once = mirror_record(move_record(record, mirror, FIELDS), FIELDS)
    twice = mirror_record(move_record(once, mirror, FIELDS), FIELDS)
    assert max(gap.max() for gap in differences(FIELDS, record, twice).values()) < 1e-4
    np.testing.assert_array_equal(once.visibility, record.visibility[:, [1, 0, 2]])
    np.testing.assert_allclose(once.place, record.place * [-1, 1, 1])
    np.testing.assert_allclose(once.tip[:, 0], 99 - record.tip[:, 0], rtol=1e-5)


@given(st.floats(0.3, 3), st.floats(-3, 3), st.booleans())
def test_lengths_and_angles_follow_what_the_map_does_to_points(zoom, turn, mirrored):
    """The slow reference: the two ends of a segment are moved as points."""
    record = instances(4, 1)
    start = record.tip.astype(np.float64)
    along = np.stack([np.cos(record.tilt), np.sin(record.tilt)], axis=1)
    ends = start + record.reach[:, None] * along
    cos, sin = zoom * math.cos(turn), zoom * math.sin(turn)
    affine = Affine(np.array([[cos, -sin, 5], [sin, cos, -7]]))
    if mirrored:
        affine = affine.after(Affine.mirror(100))
    moved = move_record(record, affine, FIELDS)
    if mirrored:
        moved = mirror_record(moved, FIELDS)
    segment = affine.points(ends) - affine.points(start)
    np.testing.assert_allclose(moved.reach, np.hypot(*segment.T), rtol=1e-4, atol=1e-4)
    expected = record.replace(tilt=np.arctan2(segment[:, 1], segment[:, 0]))
    long = np.hypot(*segment.T) > 0.5
    assert (FIELDS["tilt"].distance("tilt", expected.fields(), moved.fields())[long] < 1e-3).all()


def test_distances():
    record = instances(1)
    turned = record.replace(corners=np.roll(record.corners, 1, axis=1)[:, ::-1])
    assert differences(FIELDS, record, turned)["corners"] == pytest.approx(0, abs=1e-6)
    near = record.replace(heading=record.heading + 2 * math.pi - 0.1)
    assert differences(FIELDS, record, near)["heading"] == pytest.approx(0.1, abs=1e-5)
    hidden = record.replace(visibility=np.array([[0, 1, 1]]), joints=record.joints)
    off = hidden.replace(joints=hidden.joints + np.array([[[50, 50], [0, 0], [0, 0]]], np.float32))
    assert differences(FIELDS, hidden, off)["joints"] == 0
    assert differences(FIELDS, off.replace(visibility=np.array([[1, 1, 1]])), hidden)["joints"] == 50


def test_statistics_have_units_and_leave_out_what_is_missing():
    record = instances(40)
    figures = {k: v for n, f in FIELDS.items() for k, v in f.statistics(n, record.fields()).items()}
    assert {"labelled joints", "reach (px)", "tilt (degrees)", "x (m)", "ripeness", "kind = small"} <= set(
        figures
    )
    assert len(figures["ripeness"]) == np.isfinite(record.ripeness).sum() < 40
    assert not np.isnan(np.concatenate([np.ravel(v) for v in figures.values()])).any()
