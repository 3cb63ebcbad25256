"""From maps to poses: all joints of all persons in one batch of tensor operations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from ctnet.plugin import Detections, FoundPeaks, find_peaks, gather, locate

#: Minimum value of a joint's peak.
PEAK_THRESHOLD = 0.1
#: Maximum distance from a regressed joint to its peak, as a fraction of the box's longer side.
REACH = 0.3
#: Position of peaks that are ignored: too far from any joint to be its nearest.
_FAR_AWAY = -1e4


def decode_poses(maps: Mapping[str, Tensor], k: int, snap: bool) -> Detections:
    """Activated maps -> k persons per image on the output grid, best first.

    Args:
        maps: ``heatmap`` (B, C, H, W), ``size`` (B, 2, H, W), ``joints`` (B, 2 J, H, W); optionally
            ``offset`` (else the middle of the cell is used), ``joint_heatmap`` (B, J, H, W; else joints are
            not snapped) and ``joint_offset`` (else peaks are in the middle of their cells).
        k: persons per image, and peaks per joint that are considered.
        snap: move joints to the nearest peak of their heatmap.

    Returns:
        Detections with ``keypoints`` (B, k, J, 2) and ``keypoint_scores`` (B, k, J): the peak's value where
        a joint snapped to it, else the heatmap's value at the joint; without joint heatmaps the person's
        score.

    Source: section 4.2 of the paper; the thresholds are the released code's.
    """
    persons = find_peaks(maps["heatmap"], k)
    centre = locate(persons, maps.get("offset"))
    size = gather(maps["size"], persons)
    boxes = torch.cat([centre - size / 2, centre + size / 2], dim=2)
    # From the centre's cell, not from the centre, as the offsets are trained.
    offsets = gather(maps["joints"], persons)
    joints = offsets.reshape(*offsets.shape[:2], -1, 2) + persons.cells.unsqueeze(2)
    scores = _joint_scores(maps.get("joint_heatmap"), joints, persons)
    if snap and "joint_heatmap" in maps:
        peaks = find_joint_peaks(maps["joint_heatmap"], maps.get("joint_offset"), k)
        joints, scores = snap_joints(joints, scores, boxes, peaks)
    extra = {"keypoints": joints, "keypoint_scores": scores, "cells": persons.cells}
    return Detections(boxes, persons.score, persons.channel, extra)


class JointPeaks(NamedTuple):
    """The highest peaks of each joint's heatmap; all tensors (B, J, P)."""

    score: Tensor  #: float
    x: Tensor  #: float, grid
    y: Tensor  #: float, grid


def find_joint_peaks(heatmap: Tensor, offset: Tensor | None, k: int) -> JointPeaks:
    """The k highest 3x3 peaks of each joint's heatmap.

    Args:
        heatmap: (B, J, H, W), probabilities.
        offset: (B, 2, H, W), of a joint within its cell, one map for all joints; None: the middle of the
            cell.
        k: peaks per joint; all cells, if fewer.
    """
    batch, joints = heatmap.shape[:2]
    by_joint = find_peaks(heatmap.flatten(0, 1).unsqueeze(1), k)
    peaks = FoundPeaks(*(column.reshape(batch, -1) for column in by_joint))
    at = locate(peaks, offset).reshape(batch, joints, -1, 2)
    return JointPeaks(by_joint.score.reshape(batch, joints, -1), at[..., 0], at[..., 1])


def snap_joints(joints: Tensor, scores: Tensor, boxes: Tensor, peaks: JointPeaks) -> tuple[Tensor, Tensor]:
    """Move each joint to the nearest peak of its heatmap, if that is close and inside the person's box.

    Args:
        joints: (B, K, J, 2), regressed, grid.
        scores: (B, K, J), of the regressed joints.
        boxes: (B, K, 4) xyxy, of the persons, grid.
        peaks: the peaks of each joint.

    Returns:
        Joints and scores; joints without a peak are unchanged.
    """
    counts = peaks.score > PEAK_THRESHOLD
    peak_x = torch.where(counts, peaks.x, _FAR_AWAY)
    peak_y = torch.where(counts, peaks.y, _FAR_AWAY)
    at = joints.transpose(1, 2)  # (B, J, K, 2)
    # (B, J, K, P): P peaks for each of K persons.
    across = at[..., 0].unsqueeze(3) - peak_x.unsqueeze(2)
    down = at[..., 1].unsqueeze(3) - peak_y.unsqueeze(2)
    # In place: these are by far the largest tensors here.
    squared, nearest = across.square_().add_(down.square_()).min(dim=3)
    x, y, score = (column.gather(2, nearest).transpose(1, 2) for column in (peak_x, peak_y, peaks.score))
    left, top, right, bottom = boxes.unsqueeze(2).unbind(3)  # (B, K, 1) each
    reach = REACH * torch.maximum(right - left, bottom - top)
    inside = (x >= left) & (x <= right) & (y >= top) & (y <= bottom)
    snaps = inside & (score > PEAK_THRESHOLD) & (squared.sqrt().transpose(1, 2) <= reach)
    moved = torch.where(snaps.unsqueeze(3), torch.stack([x, y], dim=3), joints)
    return moved, torch.where(snaps, score, scores)


def _joint_scores(heatmap: Tensor | None, joints: Tensor, persons: FoundPeaks) -> Tensor:
    """(B, K, J): the joint heatmaps' values at the joints, 0 off the grid; the persons' without heatmaps."""
    if heatmap is None:
        return persons.score.unsqueeze(2).expand(-1, -1, joints.shape[2])
    height, width = heatmap.shape[2:]
    x, y = joints.floor().unbind(3)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    cell = y.clamp(0, height - 1).long() * width + x.clamp(0, width - 1).long()
    value = heatmap.flatten(2).gather(2, cell.transpose(1, 2)).transpose(1, 2)
    return torch.where(inside, value, 0.0)
