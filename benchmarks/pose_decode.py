"""Decoding poses: one sweep of tensor operations against a plain loop over persons and joints.

    python benchmarks/pose_decode.py [--batch 16] [--side 128] [--persons 100] [--repeats 7]

Random maps in which every joint has many peaks, so that every person searches as many as allowed. Three
comparisons: snapping alone, both from the same peaks; the whole decoding, where the loop gets its peaks from
ctnet; the whole decoding, where it searches every cell for its peaks as well. The persons themselves and
their regressed joints are ctnet's on both sides: they take a few milliseconds.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

import torch
from timing import alternate, machine, report
from torch import Tensor

from ctnet.core.records import Detections
from ctnet.core.task import create_task
from ctnet_tasks_pose.decode import PEAK_THRESHOLD, REACH, JointPeaks, find_joint_peaks, snap_joints
from ctnet_tasks_pose.figures import FIGURES


def snap_one_by_one(joints: Tensor, boxes: Tensor, peaks: JointPeaks) -> list[list[list[list[float]]]]:
    """Every joint of every person searches the peaks of its heatmap."""
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


def peaks_one_by_one(heatmap: Tensor, offset: Tensor, k: int) -> JointPeaks:
    """As ``find_joint_peaks``, one cell after the other."""
    height, width = heatmap.shape[2:]
    rows = []
    for maps, (across, down) in zip(heatmap.tolist(), offset.tolist(), strict=True):
        for cells in maps:
            found = [
                (cells[y][x], x, y)
                for y in range(height)
                for x in range(width)
                if cells[y][x] > PEAK_THRESHOLD and _is_highest(cells, x, y)
            ]
            best = sorted(found, key=lambda peak: -peak[0])[:k]
            best += [(0.0, 0, 0)] * (k - len(best))
            rows.append([(score, x + across[y][x], y + down[y][x]) for score, x, y in best])
    table = torch.tensor(rows).view(*heatmap.shape[:2], k, 3)
    return JointPeaks(*table.unbind(3))


def _is_highest(cells: list[list[float]], x: int, y: int) -> bool:
    value = cells[y][x]
    return all(value >= max(row[max(x - 1, 0) : x + 2]) for row in cells[max(y - 1, 0) : y + 2])


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

    joint_maps = (maps["joint_heatmap"], maps["joint_offset"], top)

    def plain(search: Callable[[Tensor, Tensor, int], JointPeaks]) -> list[list[list[list[float]]]]:
        found = regressing.decode(maps, top)
        return snap_one_by_one(found.keypoints, found.boxes, search(*joint_maps))

    def ours() -> Detections:
        return task.decode(maps, top)

    for search in (find_joint_peaks, peaks_one_by_one):
        torch.testing.assert_close(ours().keypoints, torch.tensor(plain(search)), atol=1e-3, rtol=0)
    regressed = regressing.decode(maps, top)
    moved = float((ours().keypoints != regressed.keypoints).any(dim=3).float().mean())
    print(f"{arguments.batch} images, {top} persons, {len(task.skeleton)} joints; {moved:.0%} of them snap")
    peaks = find_joint_peaks(*joint_maps)
    columns = (regressed.keypoints, regressed.keypoint_scores, regressed.boxes, peaks)

    def compare(title: str, sweep: Callable[[], object], loop: Callable[[], object], repeats: int) -> None:
        report(title, alternate({"ctnet": sweep, "plain loop": loop}, repeats), "ctnet", "plain loop")

    compare(
        "snapping, peaks given",
        lambda: snap_joints(*columns),
        lambda: snap_one_by_one(regressed.keypoints, regressed.boxes, peaks),
        arguments.repeats,
    )
    compare("decoding, ctnet's peaks in both", ours, lambda: plain(find_joint_peaks), arguments.repeats)
    # The loop over cells takes seconds.
    compare("decoding, each with its own peaks", ours, lambda: plain(peaks_one_by_one), 1)


if __name__ == "__main__":
    main()
