"""Decoding against a slow obvious reference."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ctnet_tasks_pose.decode import JointPeaks, decode_poses, find_joint_peaks, snap_joints

CLASSES, JOINTS, HEIGHT, WIDTH = 2, 3, 12, 16


def random_maps(seed: int, batch: int = 2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def rand(channels: int) -> Tensor:
        return torch.rand((batch, channels, HEIGHT, WIDTH), generator=generator)

    return {
        "heatmap": rand(CLASSES),
        "offset": rand(2),
        "size": 2 + 10 * rand(2),
        "joints": 8 * (rand(2 * JOINTS) - 0.5),
        "joint_heatmap": rand(JOINTS) ** 6,
        "joint_offset": rand(2),
    }


def is_peak(heat: Tensor, x: int, y: int) -> bool:
    around = heat[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
    return bool(heat[y, x] >= around.max())


def slow_decode(maps: dict[str, Tensor], k: int, snap: bool) -> list[list[dict]]:
    """Persons, joints and peaks one after the other."""
    images = []
    for image in range(len(maps["heatmap"])):
        grid = {name: values[image] for name, values in maps.items()}
        found = [
            (float(grid["heatmap"][label, y, x]), label, x, y)
            for label in range(CLASSES)
            for y in range(HEIGHT)
            for x in range(WIDTH)
            if is_peak(grid["heatmap"][label], x, y)
        ]
        images.append([slow_person(grid, *row, k, snap) for row in sorted(found, reverse=True)[:k]])
    return images


def slow_person(
    grid: dict[str, Tensor], score: float, label: int, x: int, y: int, k: int, snap: bool
) -> dict:
    cx, cy = x + float(grid["offset"][0, y, x]), y + float(grid["offset"][1, y, x])
    w, h = float(grid["size"][0, y, x]), float(grid["size"][1, y, x])
    box = (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
    joints, scores = [], []
    for joint in range(JOINTS):
        at = (x + float(grid["joints"][2 * joint, y, x]), y + float(grid["joints"][2 * joint + 1, y, x]))
        heat = grid["joint_heatmap"][joint]
        column, row = math.floor(at[0]), math.floor(at[1])
        on_grid = 0 <= column < WIDTH and 0 <= row < HEIGHT
        value = float(heat[row, column]) if on_grid else 0.0
        peaks = sorted(
            (
                (
                    float(heat[v, u]),
                    u + float(grid["joint_offset"][0, v, u]),
                    v + float(grid["joint_offset"][1, v, u]),
                )
                for v in range(HEIGHT)
                for u in range(WIDTH)
                if is_peak(heat, u, v)
            ),
            reverse=True,
        )[:k]
        near = [(math.dist(at, peak[1:]), peak) for peak in peaks if peak[0] > 0.1]
        if snap and near:
            distance, (height, u, v) = min(near)
            if box[0] <= u <= box[2] and box[1] <= v <= box[3] and distance <= 0.3 * max(w, h):
                at, value = (u, v), height
        joints.append(at)
        scores.append(value)
    return {"box": box, "score": score, "label": label, "joints": joints, "scores": scores}


@given(st.integers(0, 10_000), st.booleans(), st.integers(1, 12))
@settings(max_examples=15, deadline=None)
def test_decoding_equals_a_plain_loop(seed, snap, k):
    maps = random_maps(seed)
    found = decode_poses(maps, k, snap)
    expected = slow_decode(maps, k, snap)
    for name, key in (
        ("boxes", "box"),
        ("scores", "score"),
        ("labels", "label"),
        ("keypoints", "joints"),
        ("keypoint_scores", "scores"),
    ):
        wanted = torch.tensor([[person[key] for person in image] for image in expected])
        torch.testing.assert_close(
            getattr(found, name), wanted.to(getattr(found, name).dtype), atol=1e-4, rtol=0
        )


def test_snapping_moves_some_joints_and_leaves_others():
    """Or the test above could not tell the two apart."""
    maps = random_maps(0)
    moved = (decode_poses(maps, 12, True).keypoints != decode_poses(maps, 12, False).keypoints).any(3)
    assert moved.any()
    assert not moved.all()


BOX = torch.tensor([[[10.0, 10.0, 30.0, 20.0]]])  # reach: 0.3 x 20 = 6


@pytest.mark.parametrize(
    ("peak", "score", "snaps"),
    [
        ((17.0, 15.0), 0.5, True),
        ((17.0, 15.0), 0.1, False),  # not above the threshold
        ((21.5, 15.0), 0.5, False),  # farther than the reach
        ((15.0, 9.5), 0.5, False),  # outside the box
        ((15.0, 10.0), 0.5, True),  # on its edge
    ],
)
def test_a_joint_snaps_to_a_strong_near_peak_inside_the_box(peak, score, snaps):
    joints = torch.tensor([[[[15.0, 14.0]]]])
    peaks = JointPeaks(*(torch.tensor([[[value]]]) for value in (score, *peak)))
    moved, scores = snap_joints(joints, torch.tensor([[[0.3]]]), BOX, peaks)
    assert moved.flatten().tolist() == (list(peak) if snaps else [15.0, 14.0])
    assert scores.item() == pytest.approx(score if snaps else 0.3)


def test_the_nearest_peak_decides_even_if_it_is_refused():
    """As released: a farther peak inside the box is not a substitute for a nearer one outside."""
    joints = torch.tensor([[[[15.0, 10.5]]]])
    peaks = JointPeaks(
        torch.tensor([[[0.9, 0.9]]]), torch.tensor([[[15.0, 15.0]]]), torch.tensor([[[9.5, 12.5]]])
    )
    moved, _ = snap_joints(joints, torch.zeros(1, 1, 1), BOX, peaks)
    assert moved.flatten().tolist() == [15.0, 10.5]


def test_more_peaks_than_cells_are_all_cells():
    peaks = find_joint_peaks(torch.rand(1, 2, 3, 4), None, 50)
    assert peaks.score.shape == (1, 2, 12)
    found = decode_poses({name: values[..., :3, :4] for name, values in random_maps(1).items()}, 50, True)
    assert found.keypoints.shape == (2, 24, JOINTS, 2)
