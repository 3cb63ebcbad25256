"""Objects whose points are ambiguous even for a perfect network."""

from __future__ import annotations

import numpy as np

from ctnet.plugin import box_centres
from ctnet_tasks_exdet.edges import BOTTOM, LEFT, RIGHT, TOP, box_of


def share_a_point(points: np.ndarray) -> np.ndarray:
    """(N,) bool: objects with a point in the cell of the same point of an earlier object.

    Points of one edge share an offset map.

    Args:
        points: (N, 4, 2), extreme points on the grid.
    """
    cells = np.floor(points)
    same = np.equal(cells[:, None], cells[None]).all(axis=3).any(axis=2)
    return np.asarray(np.tril(same, -1).any(axis=1))


def make_ghosts(points: np.ndarray, classes: np.ndarray, between_cells: bool) -> np.ndarray:
    """(N,) bool: objects whose points or centre form a valid group with points of earlier objects.

    Such a group is in order, with the cell of an object's centre in its middle. Objects whose own centre is
    looked up in a different cell are included.

    Args:
        points: (N, 4, 2), extreme points on the grid.
        classes: (N,), points of different classes are never grouped.
        between_cells: whether the middle is between the cells of points instead of the points.
    """
    marked = np.zeros(len(points), bool)
    cells = np.floor(points)
    at = cells if between_cells else points
    rows = np.floor((at[:, None, TOP, 1] + at[None, :, BOTTOM, 1]) / 2)
    columns = np.floor((at[:, None, LEFT, 0] + at[None, :, RIGHT, 0]) / 2)
    boxes = box_of(points)
    centres = np.floor(box_centres(boxes))
    for owner, (x, y) in enumerate(centres):
        marked[owner] |= rows[owner, owner] != y or columns[owner, owner] != x
        same = np.flatnonzero(classes == classes[owner])
        top, bottom = (same[index, None] for index in np.nonzero(rows[np.ix_(same, same)] == y))
        left, right = (same[None, index] for index in np.nonzero(columns[np.ix_(same, same)] == x))
        group = np.stack(np.broadcast_arrays(top, left, bottom, right))  # (4, groups, groups)
        mixed = (group != group[:1]).any(axis=0) & _in_order(cells, group)
        marked[np.maximum(group.max(axis=0), owner)[mixed]] = True
    return marked


def _in_order(cells: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Whether no point is above the top one, left of the left one, and so on; group by group."""
    x, y = (np.stack([cells[group[edge], edge, axis] for edge in range(4)]) for axis in (0, 1))
    return np.asarray(((y >= y[TOP]) & (y <= y[BOTTOM]) & (x >= x[LEFT]) & (x <= x[RIGHT])).all(axis=0))
