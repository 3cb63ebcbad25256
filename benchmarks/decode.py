"""Decoding a batch of maps: one vectorised call against a plain loop over images and classes.

    python benchmarks/decode.py [--batch 16] [--repeats 15]

80 classes, a 128x128 grid, 100 detections per image.
"""

from __future__ import annotations

import argparse

import cv2
import numpy as np
import torch
from timing import alternate, machine, report

from ctnet.core.task import create_task

CLASSES, SIDE, TOP = 80, 128, 100


def plain(maps: dict[str, np.ndarray]) -> np.ndarray:
    """Rows (box, score, label) of every image: classes one after the other, then the best of all."""
    results = []
    window = np.ones((3, 3), np.uint8)
    for heatmap, size, offset in zip(maps["heatmap"], maps["size"], maps["offset"], strict=True):
        rows = []
        for label in range(CLASSES):
            peaks = heatmap[label] == cv2.dilate(heatmap[label], window)
            ys, xs = np.nonzero(peaks)
            best = np.argsort(-heatmap[label][ys, xs], kind="stable")[:TOP]
            for y, x in zip(ys[best], xs[best], strict=True):
                cx, cy = x + offset[0, y, x], y + offset[1, y, x]
                w, h = size[:, y, x]
                score = heatmap[label, y, x]
                rows.append((cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2, score, label))
        results.append(sorted(rows, key=lambda row: -row[4])[:TOP])
    return np.array(results, np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    print(machine())
    task = create_task("ctdet", [{"id": i + 1, "name": str(i)} for i in range(CLASSES)])
    generator = torch.Generator().manual_seed(0)
    shape = (arguments.batch, CLASSES, SIDE, SIDE)
    cells = CLASSES * SIDE * SIDE
    maps = {
        # All values of an image differ, so that both ways give the same order.
        "heatmap": torch.stack(
            [
                torch.randperm(cells, generator=generator).float().div(cells).view(shape[1:])
                for _ in range(shape[0])
            ]
        ),
        "size": 20 * torch.rand((arguments.batch, 2, SIDE, SIDE), generator=generator),
        "offset": torch.rand((arguments.batch, 2, SIDE, SIDE), generator=generator),
    }
    arrays = {name: tensor.numpy() for name, tensor in maps.items()}
    found = task.decode(maps, TOP)
    ours = torch.cat([found.boxes, found.scores[..., None]], dim=2)
    torch.testing.assert_close(ours, torch.from_numpy(plain(arrays))[..., :5])
    functions = {"ctnet": lambda: task.decode(maps, TOP), "plain loop": lambda: plain(arrays)}
    report(
        f"decoding {arguments.batch} images", alternate(functions, arguments.repeats), "ctnet", "plain loop"
    )


if __name__ == "__main__":
    main()
