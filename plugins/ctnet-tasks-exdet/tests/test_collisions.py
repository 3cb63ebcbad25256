"""Which objects cannot come back: those that share cells, and those that make a group with others."""

from __future__ import annotations

import itertools

import numpy as np
from ctnet_tasks_exdet import ExtremeDetection
from ctnet_tasks_exdet.collisions import make_ghosts, share_a_point
from ctnet_tasks_exdet.edges import box_of, side_midpoints
from hypothesis import given, settings
from hypothesis import strategies as st

from ctnet.core.records import Instances
from ctnet.core.targets import Grid


def points_of(*boxes) -> np.ndarray:
    return side_midpoints(np.array(boxes, np.float32).reshape(-1, 4))


ROW = points_of((0, 0, 9, 9), (10, 0, 19, 9), (20, 0, 29, 9))


def test_three_in_a_row_are_a_group_around_the_middle_one():
    assert make_ghosts(ROW, np.zeros(3), False).tolist() == [False, False, True]
    assert not make_ghosts(ROW[:2], np.zeros(2), False).any()
    assert not make_ghosts(ROW, np.array([0, 0, 1]), False).any()


def test_points_of_one_edge_share_a_cell():
    two = points_of((0, 0, 9, 9), (0.5, 1, 9, 9))
    assert share_a_point(two).tolist() == [False, True]
    assert not share_a_point(ROW).any()


def test_the_task_asks_for_its_options():
    categories = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
    instances = Instances.of(box_of(ROW), [0, 1, 0], extreme_points=ROW)
    for agnostic in (False, True):
        collides = ExtremeDetection(categories, agnostic=agnostic).collides(instances, Grid(16, 32))
        assert collides.tolist() == [False, False, agnostic]
    beside = points_of((0.6, 0, 9.6, 9))  # its middle is at 5.1, that of its cells at 4.5
    one = Instances.of(box_of(beside), [0], extreme_points=beside)
    assert ExtremeDetection(categories, middle="cells").collides(one, Grid(16, 32)).tolist() == [True]
    assert ExtremeDetection(categories).collides(one, Grid(16, 32)).tolist() == [False]


@given(st.integers(0, 10_000), st.booleans())
@settings(max_examples=30, deadline=None)
def test_ghosts_equal_a_plain_loop(seed, between_cells):
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 12, (5, 2))
    boxes = np.concatenate([low, low + rng.uniform(1, 8, (5, 2))], axis=1).astype(np.float32)
    points, classes = side_midpoints(boxes), rng.integers(0, 2, 5)
    expected = np.zeros(5, bool)
    cells = np.floor(points)
    at = cells if between_cells else points
    for owner in range(5):
        centre = tuple(np.floor((boxes[owner, :2] + boxes[owner, 2:]) / 2))
        for four in itertools.product(range(5), repeat=4):
            top, left, bottom, right = four
            middle = (
                np.floor((at[left, 1, 0] + at[right, 3, 0]) / 2),
                np.floor((at[top, 0, 1] + at[bottom, 2, 1]) / 2),
            )
            if four == (owner,) * 4 and middle != centre:
                expected[owner] = True
            if len(set(four)) == 1 or any(classes[number] != classes[owner] for number in four):
                continue
            x, y = zip(*(cells[number, edge] for edge, number in enumerate(four)), strict=True)
            in_order = min(y) == y[0] and max(y) == y[2] and min(x) == x[1] and max(x) == x[3]
            if in_order and middle == centre:
                expected[max(*four, owner)] = True
    assert make_ghosts(points, classes, between_cells).tolist() == expected.tolist()
