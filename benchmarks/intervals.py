"""The time and memory of intervals: 1000 draws of a data set of COCO's size.

python benchmarks/intervals.py [--images 5000 --classes 80 --objects 36000 --detections 100 --draws 1000]

Objects are spread over classes as in COCO (a few have most), and 100 detections of an image are mostly wrong,
as those of a CenterNet without a score threshold are. Also timed: one evaluation, which a slow bootstrap
would repeat for every draw.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np

from ctnet.core.records import Detections
from ctnet.evaluation import CocoBoxEvaluator
from ctnet.evaluation.bootstrap import draw_metrics, intervals


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (
        ("images", 5000), ("classes", 80), ("objects", 36000), ("detections", 100), ("draws", 1000)
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    evaluator = made(options)
    started = time.process_time()
    metrics = evaluator.compute()
    evaluated = time.process_time() - started
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    started = time.process_time()
    tally = evaluator.tally()
    tallied = time.process_time() - started
    between = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    started = time.process_time()
    draws = draw_metrics(tally, options.draws)
    found = intervals(draws)
    drawn = time.process_time() - started
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    low, high = found["AP"].percentile
    print(f"{options.images} images, {options.classes} classes, {options.objects} objects, ", end="")
    print(f"{options.detections} detections per image, {options.draws} draws, one core; CPU seconds:")
    print(f"one evaluation {evaluated:.1f}, the tally {tallied:.1f}, draws and intervals {drawn:.1f}")
    print(f"the same by evaluating every draw: {evaluated * options.draws:.0f}")
    print(
        f"peak memory: {before:.0f} MB after the evaluation, {between:.0f} with the tally, {after:.0f} in all"
    )
    print(f"AP {metrics['AP']:.4f}, by the tally {draws.value['AP']:.4f}, 95 % from {low:.4f} to {high:.4f}")


def made(options: argparse.Namespace) -> CocoBoxEvaluator:
    """An evaluator with random objects, and detections of most of them among many that are wrong."""
    rng = np.random.default_rng(0)
    share = 1 / np.arange(1, options.classes + 1) ** 0.9
    labels = rng.choice(options.classes, options.objects, p=share / share.sum())
    image = np.sort(rng.integers(options.images, size=options.objects))
    sides = np.exp(rng.normal(4, 0.9, (options.objects, 2))).clip(5, 400)
    corners = rng.uniform(0, 240, (options.objects, 2))
    annotations = [
        {
            "id": row, "image_id": int(image[row]), "category_id": int(labels[row]),
            "bbox": [*corners[row].tolist(), *sides[row].tolist()], "area": float(sides[row].prod() * 0.6),
            "iscrowd": int(rng.random() < 0.01),
        }
        for row in range(options.objects)
    ]  # fmt: skip
    names = [f"class {number}" for number in range(options.classes)]
    truth = {"images": [{"id": number} for number in range(options.images)], "annotations": annotations}
    evaluator = CocoBoxEvaluator(truth, range(options.classes), names)
    starts = np.searchsorted(image, np.arange(options.images + 1))
    for number in range(options.images):
        mine = slice(starts[number], starts[number + 1])
        count, wrong = starts[number + 1] - starts[number], options.detections
        shift = rng.normal(0, 0.08, (count, 4)) * np.tile(sides[mine], 2)
        right = np.concatenate([corners[mine], corners[mine] + sides[mine]], axis=1) + shift
        place = rng.uniform(0, 400, (wrong, 2))
        boxes = np.concatenate([right, np.concatenate([place, place + rng.uniform(5, 150, (wrong, 2))], 1)])
        scores = np.concatenate([rng.beta(2, 2, count), rng.beta(1, 12, wrong)])
        kinds = np.concatenate([labels[mine], rng.choice(options.classes, wrong, p=share / share.sum())])
        best = np.argsort(-scores)[: options.detections]
        evaluator.update(number, Detections(boxes[best], scores[best], kinds[best]))
    return evaluator


if __name__ == "__main__":
    main()
