"""What narrow overlaps of tiles cost: AP and detections against the whole image, by overlap.

python benchmarks/tiles.py RUN [RUN ...] [--images 10] [--side 512] [--overlaps 0,64,128,256] [--json]

Large images are mosaics of the ctdet task's own scenes, whose objects lie on the borders of tiles as anywhere
else. Each run is evaluated with `--resize keep` and then in tiles of each overlap. Printed are AP, its change
with a 95 % interval (images drawn again, the same for both), how many of the whole image's detections above
0.3 have a partner in the tiles (same class, IoU above 0.9), the median and the largest difference of their
scores, and the seconds as a ratio to the whole image's.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ctnet.analysis.subject import DetectorSubject, Ground
from ctnet.base.files import write_json
from ctnet.base.output import print_json, print_line, print_note, print_table
from ctnet.core.documents import annotations_of
from ctnet.core.fields import move_record
from ctnet.core.geometry import Affine
from ctnet.core.records import Detections
from ctnet.core.task import Task, create_task, example_of, load_task_class, scenes_of
from ctnet.evaluation.bootstrap import draw_metrics
from ctnet.evaluation.comparison import compare_models
from ctnet.inference.settings import SCORE
from ctnet.measuring.reading import Settings
from ctnet.measuring.run import Evaluation
from ctnet.ops.boxes import box_iou

COLUMNS, ROWS, SCENE = 8, 6, 128
PARTNERS = 0.9
#: Detections per image: mosaics have hundreds of objects.
MOST = 1000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--images", type=int, default=10)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--overlaps", default="0,64,128,256")
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    overlaps = [int(text) if text.isdecimal() else text for text in options.overlaps.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        write_mosaics(Path(folder), options.images)
        rows = [row for run in options.runs for row in study(run, Path(folder), overlaps, options)]
    if options.json:
        print_json(rows)
        return
    print_line(f"{options.images} images of {COLUMNS * SCENE}x{ROWS * SCENE}, tiles of {options.side}")
    columns = [*rows[-1]]
    print_table(columns, [[str(row.get(name, "")) for name in columns] for row in rows])


def write_mosaics(folder: Path, count: int) -> None:
    """A data directory whose split ``val`` are mosaics of scenes."""
    task = create_task("ctdet", scenes_of(load_task_class("ctdet")).categories)
    (folder / "val").mkdir()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(1, count + 1):
        mosaic = np.zeros((ROWS * SCENE, COLUMNS * SCENE, 3), np.uint8)
        for place in range(ROWS * COLUMNS):
            x, y = place % COLUMNS * SCENE, place // COLUMNS * SCENE
            scene = example_of(task, np.random.default_rng([number, place]), (SCENE, SCENE))
            mosaic[y : y + SCENE, x : x + SCENE] = scene.image
            shift = Affine(np.array([[1.0, 0, x], [0, 1.0, y]]))
            for entry in annotations_of(task, move_record(scene.instances, shift, task.fields)):
                annotations.append({**entry, "id": len(annotations) + 1, "image_id": number})
        cv2.imwrite(str(folder / "val" / f"{number}.png"), mosaic[:, :, ::-1])
        size = {"width": mosaic.shape[1], "height": mosaic.shape[0]}
        images.append({"id": number, "file_name": f"{number}.png", **size})
    categories = [dict(category) for category in task.categories]
    content = {"images": images, "annotations": annotations, "categories": categories}
    write_json(folder / "annotations" / "instances_val.json", content)


def study(
    run: Path, folder: Path, overlaps: Sequence[Any], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """A row for the whole images, and one for each overlap."""
    subject = DetectorSubject.open(run, Ground(folder, "val"), "cpu")
    whole, seconds = timed(subject, Settings(resize="keep", topk=MOST, max_dets=MOST))
    tally = whole.evaluator.tally()
    drawn = draw_metrics(tally, options.draws, 0, "drawing images")
    name = run.name
    rows: list[dict[str, Any]] = [
        {"run": name, "overlap": "whole image", "AP": f"{whole.metrics[whole.main_metric]:.4f}"}
    ]
    for overlap in overlaps:
        settings = Settings(tiles=options.side, overlap=overlap, topk=MOST, max_dets=MOST)
        done, taken = timed(subject, settings)
        other = draw_metrics(done.evaluator.tally(), options.draws, 0, "drawing images")
        change = compare_models(drawn, other, whole.evaluator.lower_is_better)[whole.main_metric]
        found, gaps = partners(subject.task, whole, done)
        rows.append(
            {
                "run": name,
                "overlap": overlap,
                "AP": f"{done.metrics[done.main_metric]:.4f}",
                "change": f"{change.difference:+.4f}",
                "95 %": "{:+.4f} to {:+.4f}".format(*change.percentile),
                "found again": f"{len(gaps)} of {found}",
                "score, median": f"{np.median(gaps):.1e}",
                "score, most": f"{gaps.max():.1e}",
                "time": f"{taken / seconds:.2f}",
            }
        )
        print_note(str(rows[-1]))
    return rows


def timed(subject: DetectorSubject, settings: Settings) -> tuple[Evaluation, float]:
    """An evaluation, and its wall seconds."""
    begun = time.perf_counter()
    done = subject.evaluate(settings)
    return done, time.perf_counter() - begun


def partners(task: Task, whole: Evaluation, tiled: Evaluation) -> tuple[int, np.ndarray]:
    """How many detections of the whole images are above 0.3; differences of score of those found again."""
    number, gaps = 0, [np.zeros(0)]
    before, after = by_image(task, whole), by_image(task, tiled)
    for image_id, found in before.items():
        sure, others = found[found.scores > SCORE], after.get(image_id, Detections.empty())
        number += len(sure)
        if not len(others):
            continue
        overlap = box_iou(sure.boxes, others.boxes) * (sure.labels[:, None] == others.labels[None])
        best = overlap.argmax(axis=1)
        same = overlap[np.arange(len(sure)), best] > PARTNERS
        gaps.append(np.abs(sure.scores - others.scores[best])[same])
    return number, np.concatenate(gaps)


def by_image(task: Task, done: Evaluation) -> dict[int, Detections]:
    """The detections of an evaluation."""
    entries: dict[int, list[dict[str, Any]]] = {}
    for entry in done.results(task):
        entries.setdefault(entry["image_id"], []).append(entry)
    return {image: Detections.from_coco(of_image, task.categories.ids) for image, of_image in entries.items()}


if __name__ == "__main__":
    main()
