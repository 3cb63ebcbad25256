"""Masks of an exported file against those of its run, one to one.

python plugins/ctnet-tasks-masks/benchmarks/exported.py RUN FILE DATA [SPLIT]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from ctnet.data.dataset import open_splits
from ctnet.inference.detector import Detector
from ctnet.inference.settings import DetectionSettings


def main() -> None:
    """Print how many detections of both agree, and the least overlap of their masks."""
    run, file, data, split = [*sys.argv[1:], "val"][:4]
    detector, exported = Detector.load(run), Detector.load(file)
    dataset = open_splits(Path(data), split, detector.task.name)[0]
    overlaps: list[float] = []
    counts = [0, 0]
    for index in range(len(dataset)):
        image = dataset[index].image
        one, other = (each(image, DetectionSettings(topk=20), score=0.3)[0] for each in (detector, exported))
        counts[0] += len(one)
        counts[1] += len(other)
        if len(one) and len(other):
            table = detector.task.overlap(one, other)
            table[one.labels[:, None] != other.labels[None]] = 0
            overlaps += table.max(axis=1).tolist()
    print(f"{counts[0]} detections of the run, {counts[1]} of the file, in {len(dataset)} images")
    print(f"least IoU of masks {min(overlaps):.5f}, mean {np.mean(overlaps):.6f}")


if __name__ == "__main__":
    main()
