"""Is one peak one object? What suppression changes on dense scenes, and how many duplicates there are.

    python benchmarks/recipes/duplicates.py RUN [RUN ...] [--data STUDY/data/dense]

Each run, trained on the bench's dense scenes, is judged where the boxes of a pair overlap by at most 0.4
(apart) and by 0.6 to 0.8 (close), without suppression and with `--nms hard`. A duplicate is a further
detection above the operating point whose IoU with an object that has one already is above 0.7, and larger
than with any other object. The operating point is the score with the highest F1 on the split "held".
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from dense import write_dense

from ctnet.base.files import read_json
from ctnet.base.output import print_table
from ctnet.ops.boxes import box_iou

SAME = 0.7
RIGHT = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, default=Path("dense"))
    options = parser.parse_args()
    if not (options.data / "annotations" / "instances_held.json").is_file():
        write_dense(options.data)
    titles = ["run", "pairs", "AP", "AP with NMS", "change", "95 %", "above", "duplicates", "%"]
    print_table(titles, [row for run in options.runs for row in study(run, options.data)])


def study(run: Path, data: Path) -> list[list[str]]:
    """The lines of one run."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        point = operating_point(data, detections(run, data, "held", "none", folder))
        for split in ("apart", "close"):
            plain = detections(run, data, split, "none", folder)
            suppressed = detections(run, data, split, "hard", folder)
            verdict = _ctnet("compare", str(plain), str(suppressed), "--data", str(data), "--split", split)
            found, twice = count(data, split, plain, point)
            change = verdict["metrics"]["AP"]
            low, high = change["bca"] or change["percentile"]
            rows.append(
                [
                    run.parent.name,
                    split,
                    *(f"{change[key]:.3f}" for key in ("a", "b")),
                    f"{change['difference']:+.4f}",
                    f"{low:+.4f} to {high:+.4f}",
                    f"{point:.2f}",
                    f"{twice} of {found}",
                    f"{100 * twice / max(found, 1):.2f}",
                ]
            )
    return rows


def detections(run: Path, data: Path, split: str, nms: str, folder: Path) -> Path:
    """The results file of a run on a split."""
    file = folder / f"{split}-{nms}.json"
    arguments = ["eval", str(run), "--data", str(data), "--split", split, "--nms", nms, "--workers", "0"]
    _ctnet(*arguments, "--save", str(file))
    return file


def operating_point(data: Path, results: Path) -> float:
    """The score with the highest F1 over all classes, on the split "held"."""
    scores: list[float] = []
    right: list[bool] = []
    objects = 0
    for boxes, labels, found in _images(data, "held", results):
        objects += len(boxes)
        order = np.argsort([-entry["score"] for entry in found], kind="stable")
        taken: set[int] = set()
        for entry in (found[row] for row in order):
            overlap = box_iou(_box(entry)[None], boxes)[0] * (labels == entry["category_id"])
            best = int(overlap.argmax()) if len(boxes) else -1
            hit = best >= 0 and overlap[best] >= RIGHT and best not in taken
            taken |= {best} if hit else set()
            scores.append(entry["score"])
            right.append(bool(hit))
    order = np.argsort(-np.array(scores), kind="stable")
    hits = np.cumsum(np.array(right)[order])
    f1 = 2 * hits / (np.arange(1, len(hits) + 1) + objects)
    return float(np.array(scores)[order][int(f1.argmax())])


def count(data: Path, split: str, results: Path, point: float) -> tuple[int, int]:
    """Detections above the operating point, and how many of them are duplicates."""
    above = twice = 0
    for boxes, labels, found in _images(data, split, results):
        owners: set[int] = set()
        for entry in sorted(found, key=lambda one: -one["score"]):
            if entry["score"] < point:
                break
            above += 1
            overlap = box_iou(_box(entry)[None], boxes)[0] * (labels == entry["category_id"])
            best = int(overlap.argmax())
            if overlap[best] > SAME:
                twice += best in owners
                owners.add(best)
    return above, twice


def _images(
    data: Path, split: str, results: Path
) -> Iterator[tuple[np.ndarray, np.ndarray, list[dict[str, Any]]]]:
    """True boxes (N, 4) xyxy, their category ids, and the entries found, image by image."""
    truth = read_json(data / "annotations" / f"instances_{split}.json")
    found: dict[int, list[dict[str, Any]]] = {}
    for entry in read_json(results):
        found.setdefault(entry["image_id"], []).append(entry)
    for image in truth["images"]:
        own = [one for one in truth["annotations"] if one["image_id"] == image["id"]]
        boxes = np.array([_box(one) for one in own]).reshape(-1, 4)
        yield boxes, np.array([one["category_id"] for one in own]), found.get(image["id"], [])


def _box(entry: dict[str, Any]) -> np.ndarray:
    left, top, width, height = entry["bbox"]
    return np.array([left, top, left + width, top + height], np.float64)


def _ctnet(*arguments: str) -> Any:
    command = [sys.executable, "-m", "ctnet", *arguments, "--json"]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


if __name__ == "__main__":
    main()
