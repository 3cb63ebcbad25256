"""How much average precision learning attributes costs a detector, and how well it learns them.

    python benchmarks/attributes.py [--seeds 0 1 2] [--epochs 12] [--images 300] [--backbone resfpn18]

Synthetic scenes of ctdet get three attributes that follow from their pixels and boxes: the brightness of an
object's middle (a number), whether another box covers a part of it (a flag), and a size class. ctdet is
trained with and without them, seed by seed, on the same scenes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from ctnet.core.task import create_task
from ctnet.data.dataset import Dataset
from ctnet.data.images import read_image
from ctnet.data.shape_scenes import SHAPES
from ctnet.data.synthetic import write_dataset
from ctnet.inference.detector import Detector
from ctnet.measuring.reading import Settings
from ctnet.measuring.run import evaluate
from ctnet.ops.boxes import box_areas, box_coverage
from ctnet.training.request import Machine, Network, RecipeChoice, TrainingData
from ctnet.training.session import new_session

ATTRIBUTES = "brightness:float[0..1],covered:bool,kind:small|medium|large"
#: Upper limits of the size classes, as fractions of the image's side.
SIZE_LIMITS = (0.18, 0.3)
#: Fraction of a box that other boxes must cover for it to count as covered.
COVERED = 0.1


def write_scenes(folder: Path, counts: dict[str, int], size: tuple[int, int]) -> None:
    """Scenes of ctdet whose annotations have the attributes, as CVAT writes them."""
    write_dataset(create_task("ctdet", SHAPES), folder, counts, size)
    for split in counts:
        dataset = Dataset.open(folder, split)
        path = folder / "annotations" / f"instances_{split}.json"
        content = json.loads(path.read_text())
        for index, image in enumerate(content["images"]):
            pixels = read_image(dataset.image_path(index), (image["width"], image["height"]))
            entries = [entry for entry in content["annotations"] if entry["image_id"] == image["id"]]
            boxes = np.array([entry["bbox"] for entry in entries], np.float64).reshape(-1, 4)
            boxes[:, 2:] += boxes[:, :2]
            for entry, values in zip(entries, attributes_of(pixels, boxes), strict=True):
                entry["attributes"] = values
        path.write_text(json.dumps(content))


def attributes_of(pixels: np.ndarray, boxes: np.ndarray) -> list[dict[str, Any]]:
    """The attributes of each box (xyxy) of an image, read off it."""
    others = box_coverage(boxes, boxes)
    np.fill_diagonal(others, 0)
    side = np.sqrt(box_areas(boxes)) / min(pixels.shape[:2])
    kinds = np.searchsorted(SIZE_LIMITS, side)
    values = []
    for box, covered, kind in zip(boxes, others.max(axis=1, initial=0) > COVERED, kinds, strict=True):
        x, y = ((box[:2] + box[2:]) / 2).astype(int)
        middle = pixels[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3]
        values.append(
            {
                "brightness": round(float(middle.mean() / 255), 4),
                "covered": str(bool(covered)).lower(),
                "kind": ("small", "medium", "large")[kind],
            }
        )
    return values


def train(
    data: Path, output: Path, attributes: str | None, seed: int, args: argparse.Namespace
) -> dict[str, float]:
    """Metrics on the validation split after training."""
    session = new_session(
        "ctdet",
        TrainingData(data),
        Network({"attributes": attributes} if attributes else {}, args.backbone),
        RecipeChoice(
            fields={
                "epochs": args.epochs,
                "batch_size": 16,
                "size": (args.size, args.size),
                "evaluate_every": args.epochs,
            }
        ),
        seed,
        Machine(workers=0),
        output,
    )
    session.fit()
    detector = Detector.load(output)
    return evaluate(detector, Dataset.open(data, "val", detector.task), Settings()).metrics


def _is_shown(name: str) -> bool:
    head = name.partition("/")[0]
    return name in ("AP", "AP50") or (head in ("brightness", "covered", "kind") and "confusion" not in name)


def main() -> None:
    """Train and evaluate; print one line per run, and the means."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--backbone", default="resfpn18")
    parser.add_argument("--kinds", nargs="+", default=["without", "with"], help="without, with")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        write_scenes(data, {"train": args.images, "val": 100}, (args.size, args.size))
        reached: dict[str, list[float]] = {kind: [] for kind in args.kinds}
        for seed in args.seeds:
            for kind in args.kinds:
                attributes = {"without": None, "with": ATTRIBUTES}[kind]
                figures = train(data, Path(folder) / f"{kind}{seed}", attributes, seed, args)
                reached[kind].append(figures["AP"])
                shown = {name: round(value, 4) for name, value in figures.items() if _is_shown(name)}
                print(f"seed {seed}, {kind} attributes: {shown}", flush=True)
        for kind, values in reached.items():
            low, high = min(values), max(values)
            print(f"AP {kind} attributes: mean {np.mean(values):.4f}, from {low:.4f} to {high:.4f}")


if __name__ == "__main__":
    main()
