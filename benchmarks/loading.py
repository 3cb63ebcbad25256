"""Loading training samples: ctnet's bytes and ragged targets against the usual floats and dense heatmaps.

    python benchmarks/loading.py [--data DIR] [--images 64] [--size 512] [--repeats 5]

One process, one thread. Without --data, synthetic scenes of 640x480 are drawn first. The usual way normalises
in the worker, jitters on floats and draws an (80, 128, 128) heatmap object by object.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import cv2
import numpy as np
import torch
from targets import draw_dense
from timing import alternate, machine, report

from ctnet.checkpoint import MEAN, STD
from ctnet.core.recipe import Augmentation
from ctnet.core.targets import Grid
from ctnet.core.task import create_task
from ctnet.data.augment import crop_instances, random_crop
from ctnet.data.dataset import Dataset
from ctnet.data.loader import TrainingSet
from ctnet.data.shape_scenes import SHAPES
from ctnet.data.synthetic import write_dataset

GREY = np.array([0.299, 0.587, 0.114], np.float32)


def usual(dataset: Dataset, size: int, index: int) -> tuple[np.ndarray, np.ndarray]:
    """One sample the usual way: (3, H, W) float32 and a dense heatmap."""
    task = dataset.task
    assert task is not None
    rng = np.random.default_rng([0, 0, index])
    sample = dataset[index]
    height, width = sample.image.shape[:2]
    crop = random_crop(rng, (width, height), (size, size), Augmentation())
    image = crop.affine.warp(sample.image, (size, size)).astype(np.float32) / 255
    grey = image @ GREY
    image = image * (1 + rng.uniform(-0.4, 0.4))
    image = image * (factor := 1 + rng.uniform(-0.4, 0.4)) + grey.mean() * (1 - factor)
    image = image * (factor := 1 + rng.uniform(-0.4, 0.4)) + grey[:, :, None] * (1 - factor)
    image = ((image - np.float32(MEAN)) / np.float32(STD)).transpose(2, 0, 1)
    on_grid = crop_instances(sample.instances, crop, task, 4)
    peaks = task.encode(on_grid, Grid(128, 128))["heatmap"]
    return np.ascontiguousarray(image, np.float32), draw_dense(peaks)  # type: ignore[arg-type]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    print(machine())
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.data
        if folder is None:
            folder = Path(scratch)
            write_dataset(create_task("ctdet", SHAPES), folder, {"train": arguments.images}, (640, 480))
        dataset = Dataset.open(folder, "train")
        dataset = dataset.with_task(create_task("ctdet", dataset.categories))
        count = min(arguments.images, len(dataset))
        samples = TrainingSet(dataset, dataset.task, (arguments.size,) * 2, Augmentation())  # type: ignore[arg-type]
        functions = {
            "ctnet": lambda: [samples[0, index] for index in range(count)],
            "usual": lambda: [usual(dataset, arguments.size, index) for index in range(count)],
            "only reading": lambda: [dataset[index] for index in range(count)],
        }
        times = alternate(functions, arguments.repeats)
        report(f"loading {count} samples", times, "ctnet", "usual")
        print(f"ctnet loads {1000 * count / times['ctnet']:.0f} images/s in one process")


if __name__ == "__main__":
    main()
