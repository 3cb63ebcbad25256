"""From persons on the grid to targets."""

from __future__ import annotations

from typing import Literal

import numpy as np

from ctnet.plugin import (
    CellTargets,
    Grid,
    Instances,
    Peaks,
    Target,
    box_centres,
    box_radius,
    box_sizes,
    cut_to_grid,
)


def encode_poses(
    instances: Instances, grid: Grid, radius: Literal["official", "corrected"], ignored: np.ndarray
) -> dict[str, Target]:
    """Targets of all heads of pose for one image.

    As in the released code a person without labelled joints (usually a crowd region) is only a positive of
    the heatmap, and a joint outside the grid counts as unlabelled. Such a person has targets of weight 0,
    since its box is still known.

    Args:
        instances: with ``keypoints`` (N, J, 2) on the grid and ``visibility`` (N, J).
        grid: the output grid.
        radius: formula of the Gaussian radius.
        ignored: (N,) bool, instances that only reduce the penalty around them.
    """
    shown = cut_to_grid(instances.replace(positive=~ignored), grid)
    radii = box_radius(box_sizes(shown.boxes), radius)
    return {
        "heatmap": Peaks.of(box_centres(shown.boxes), radii, shown.labels, shown.positive),
        **_person_targets(shown[shown.positive], grid),
        **_joint_targets(shown[shown.positive], radii[shown.positive], grid),
    }


def _person_targets(instances: Instances, grid: Grid) -> dict[str, Target]:
    """Regression targets at the persons' centres."""
    centre = box_centres(instances.boxes)
    cell = centre.astype(np.int64)
    has_joints = (instances.visibility > 0).any(axis=1)
    trained = np.tile(has_joints[:, None], 2)
    labelled = _labelled(instances, grid)
    offsets = np.where(labelled[..., None], instances.keypoints - cell[:, None], 0)
    per_coordinate = labelled.repeat(2, axis=1)
    return {
        "offset": CellTargets.of(cell, centre - cell, trained),
        "size": CellTargets.of(cell, box_sizes(instances.boxes), trained),
        "joints": CellTargets.of(cell, offsets.reshape(per_coordinate.shape), per_coordinate),
    }


def _joint_targets(instances: Instances, radii: np.ndarray, grid: Grid) -> dict[str, Target]:
    """Targets at the joints themselves; a joint's Gaussian has the radius of its person's."""
    person, joint = np.nonzero(_labelled(instances, grid))
    points = instances.keypoints[person, joint]
    cell = points.astype(np.int64)
    return {
        "joint_heatmap": Peaks.of(points, radii[person], joint),
        "joint_offset": CellTargets.of(cell, points - cell),
    }


def _labelled(instances: Instances, grid: Grid) -> np.ndarray:
    """(N, J) bool, the joints that are labelled and on the grid."""
    points = instances.keypoints
    inside = (points >= 0).all(axis=2) & (points < [grid.width, grid.height]).all(axis=2)
    return np.asarray(inside & (instances.visibility > 0))
