"""Time and memory of grouping, against all groups at once.

python benchmarks/grouping.py [--classes 80] [--batch 1] [--points 40] [--k 1000] [--threads 1]

Each way runs in a process of its own, so that its largest memory is its own.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import time
from collections.abc import Callable

import torch
from ctnet_tasks_exdet.edges import EDGES
from ctnet_tasks_exdet.grouping import group_points
from ctnet_tasks_exdet.options import Options
from torch import Tensor

from ctnet.heatmap import find_peaks, gather

Maps = dict[str, Tensor]
THRESHOLD = 0.1


def all_at_once(maps: Maps, k: int, points: int) -> tuple[Tensor, Tensor]:
    """Scores and boxes of class-specific groups, with every number of all points^4 groups kept in memory."""
    peaks = [find_peaks(maps[edge], points) for edge in EDGES]
    shapes = [[-1, *(points if axis == number else 1 for axis in range(4))] for number in range(4)]

    def spread(columns: list[Tensor]) -> list[Tensor]:
        return [column.view(shape) for column, shape in zip(columns, shapes, strict=True)]

    scores = spread([found.score for found in peaks])
    xs, ys = spread([found.x for found in peaks]), spread([found.y for found in peaks])
    labels = spread([found.channel for found in peaks])
    at = [
        torch.stack([found.x, found.y], dim=2) + gather(maps[f"{edge}_offset"], found)
        for edge, found in zip(EDGES, peaks, strict=True)
    ]
    left, top, right, bottom = (
        spread([point[..., axis] for point in at])[edge] for edge, axis in ((1, 0), (0, 1), (3, 0), (2, 1))
    )
    height, width = maps["centre"].shape[2:]
    row = ((top + bottom) / 2).long().clamp(0, height - 1)
    column = ((left + right) / 2).long().clamp(0, width - 1)
    cell = (labels[0] * height + row) * width + column
    centre = maps["centre"].flatten(1).gather(1, cell.flatten(1)).view_as(cell)
    score = (scores[0] + scores[1] + scores[2] + scores[3] + 2 * centre) / 6
    for number in range(4):
        wrong = (ys[0] > ys[number]) | (ys[2] < ys[number]) | (xs[1] > xs[number]) | (xs[3] < xs[number])
        wrong = wrong | (labels[0] != labels[number]) | (scores[number] < THRESHOLD) | (centre < THRESHOLD)
        score = torch.where(wrong, 0.0, score)
    best, index = score.flatten(1).topk(k)
    boxes = torch.stack([part.expand_as(score).flatten(1) for part in (left, top, right, bottom)], dim=2)
    return best, boxes.gather(1, index.unsqueeze(2).expand(-1, -1, 4))


def grouped(maps: Maps, k: int, points: int) -> tuple[Tensor, Tensor]:
    found = group_points(maps, k, Options(points=points))
    return found.scores, found.boxes


WAYS: dict[str, Callable[[Maps, int, int], tuple[Tensor, Tensor]]] = {
    "all groups at once": all_at_once,
    "group_points": grouped,
}


def random_maps(batch: int, classes: int, size: int) -> Maps:
    """Many high peaks of few classes, the worst case: most fours are of one class."""
    generator = torch.Generator().manual_seed(0)
    maps = {
        name: torch.rand(batch, classes, size, size, generator=generator) ** 8 for name in (*EDGES, "centre")
    }
    for name in (*EDGES, "centre"):
        maps[name][:, 1:] *= 0.5
        maps[f"{name}_offset"] = torch.rand(batch, 2, size, size, generator=generator)
    return maps


def measure(way: str, arguments: argparse.Namespace, queue: multiprocessing.Queue[str]) -> None:
    """One way in a fresh process."""
    torch.set_num_threads(arguments.threads)
    maps = random_maps(arguments.batch, arguments.classes, arguments.size)
    small = {name: values[:1, :, :8, :8].contiguous() for name, values in maps.items()}
    with torch.inference_mode():
        WAYS[way](small, 5, 3)  # whatever is loaded on first use
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        seconds = []
        for _ in range(arguments.repeats):
            started = time.perf_counter()
            scores, boxes = WAYS[way](maps, arguments.k, arguments.points)
            seconds.append(time.perf_counter() - started)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.perf_counter()
        for edge in EDGES:
            find_peaks(maps[edge], arguments.points)
        peaks = time.perf_counter() - started
    queue.put(
        json.dumps(
            {
                "seconds": min(seconds),
                "peaks": peaks,
                "memory": (after - before) / 1024,
                "scores": scores[0, :20].tolist(),
                "boxes": boxes[0, :5].tolist(),
            }
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    defaults = {"classes": 80, "batch": 1, "size": 128, "points": 40, "k": 1000, "threads": 1, "repeats": 3}
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    results = {}
    for way in WAYS:
        queue = context.Queue()
        process = context.Process(target=measure, args=(way, arguments, queue))
        process.start()
        results[way] = json.loads(queue.get())
        process.join()
    one, other = (torch.tensor(results[way]["scores"]) for way in WAYS)
    torch.testing.assert_close(one, other, atol=1e-5, rtol=0)
    print(
        f"{arguments.points} points per edge, best {arguments.k}, batch {arguments.batch}, "
        f"{arguments.classes} classes of {arguments.size}x{arguments.size}, {arguments.threads} thread(s), "
        f"torch {torch.__version__}"
    )
    for way, result in results.items():
        print(
            f"{way:<20} {1000 * result['seconds']:7.0f} ms, of which peaks {1000 * result['peaks']:.0f} ms; "
            f"{result['memory']:7.0f} MiB above what it began with"
        )


if __name__ == "__main__":
    main()
