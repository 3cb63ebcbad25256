"""Decoding poses: one sweep of tensor operations against a plain loop over persons and joints.

    python benchmarks/pose_decode.py [--batch 16] [--side 128] [--persons 100] [--repeats 7]

Random maps in which every joint has many peaks, so that every person looks among as many as it may. The loop
starts from the same peaks as the sweep; what finding them takes is in the second line alone, on both sides.
"""

from __future__ import annotations

import argparse
import math

import torch
from timing import alternate, machine, report
from torch import Tensor

from ctnet.records import Detections
from ctnet.task import create_task
from ctnet_tasks_pose.decode import PEAK_THRESHOLD, REACH, JointPeaks, find_joint_peaks, snap_joints
from ctnet_tasks_pose.figures import FIGURES


def snap_one_by_one(joints: Tensor, boxes: Tensor, peaks: JointPeaks) -> list[list[list[list[float]]]]:
    """Every joint of every person looks through the peaks of its heatmap."""
    moved = []
    for image in range(len(joints)):
        table = list(zip(*(column[image].tolist() for column in peaks), strict=True))
        candidates = [
            [peak for peak in zip(*columns, strict=True) if peak[0] > PEAK_THRESHOLD] for columns in table
        ]
        persons = []
        for person, box in zip(joints[image].tolist(), boxes[image].tolist(), strict=True):
            persons.append(
                [_nearest(point, box, found) for point, found in zip(person, candidates, strict=True)]
            )
        moved.append(persons)
    return moved


def _nearest(point: list[float], box: list[float], peaks: list[tuple[float, float, float]]) -> list[float]:
    left, top, right, bottom = box
    best, at = math.inf, point
    for _, x, y in peaks:
        distance = math.hypot(point[0] - x, point[1] - y)
        if distance < best:
            best, at = distance, [x, y]
    inside = left <= at[0] <= right and top <= at[1] <= bottom
    return at if inside and best <= REACH * max(right - left, bottom - top) else point


def random_maps(task, batch: int, side: int) -> dict[str, Tensor]:  # type: ignore[no-untyped-def]
    generator = torch.Generator().manual_seed(0)
    maps = {
        name: torch.rand((batch, head.channels, side, side), generator=generator)
        for name, head in task.heads.items()
    }
    return maps | {"size": 10 + 60 * maps["size"], "joints": 60 * (maps["joints"] - 0.5)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--persons", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    print(machine())
    task = create_task("pose", FIGURES)
    regressing = create_task("pose", FIGURES, snap=False)
    maps = random_maps(task, arguments.batch, arguments.side)
    top = arguments.persons

    def peaks() -> JointPeaks:
        return find_joint_peaks(maps["joint_heatmap"], maps["joint_offset"], top)

    def plain() -> tuple[Detections, list[list[list[list[float]]]]]:
        found = regressing.decode(maps, top)
        return found, snap_one_by_one(found.keypoints, found.boxes, peaks())

    ours, (regressed, theirs) = task.decode(maps, top), plain()
    torch.testing.assert_close(ours.keypoints, torch.tensor(theirs), atol=1e-3, rtol=0)
    moved = float((ours.keypoints != regressed.keypoints).any(dim=3).float().mean())
    print(f"{arguments.batch} images, {top} persons, {len(task.skeleton)} joints; {moved:.0%} of them snap")
    found = peaks()
    columns = (regressed.keypoints, regressed.keypoint_scores, regressed.boxes, found)
    report(
        "snapping",
        alternate(
            {
                "ctnet": lambda: snap_joints(*columns),
                "plain loop": lambda: snap_one_by_one(regressed.keypoints, regressed.boxes, found),
            },
            arguments.repeats,
        ),
        "ctnet",
        "plain loop",
    )
    report(
        "decoding, peaks and all",
        alternate({"ctnet": lambda: task.decode(maps, top), "plain loop": plain}, arguments.repeats),
        "ctnet",
        "plain loop",
    )


if __name__ == "__main__":
    main()
