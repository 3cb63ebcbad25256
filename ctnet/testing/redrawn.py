"""The slow way to the metrics of a draw: repeat the images under new ids, and evaluate that data set."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ctnet.core.evaluator import Evaluator
from ctnet.core.records import Detections
from ctnet.testing.check import require

Json = dict[str, Any]
Make = Callable[[Json], Evaluator]


def redrawn(
    truth: Json, found: Mapping[int, Detections], weights: np.ndarray
) -> tuple[Json, dict[int, Detections]]:
    """A data set in which each image, in the order of the ids, is repeated as often as its weight says.

    Args:
        truth: the content of a COCO annotation file.
        found: detections by image id.
        weights: (I,) int, in the order of the image ids.

    Returns:
        The same for the repeated images, whose ids are 1, 2 ...
    """
    images = sorted(truth["images"], key=lambda image: int(image["id"]))
    new: Json = {**truth, "images": [], "annotations": []}
    detections = {}
    for image, weight in zip(images, weights.tolist(), strict=True):
        for _ in range(weight):
            number = len(new["images"]) + 1
            new["images"].append({**image, "id": number, "file_name": f"{number:06d}.png"})
            for annotation in truth["annotations"]:
                if annotation["image_id"] == image["id"]:
                    copied = copy.deepcopy(annotation)
                    new["annotations"].append(
                        {**copied, "image_id": number, "id": len(new["annotations"]) + 1}
                    )
            if image["id"] in found:
                detections[number] = found[image["id"]]
    return new, detections


def evaluated(make: Make, truth: Json, found: Mapping[int, Detections]) -> Evaluator:
    """An evaluator of a data set that was given all detections."""
    evaluator = make(truth)
    for image_id, detections in found.items():
        evaluator.update(image_id, detections)
    return evaluator


def require_exact(
    make: Make,
    truth: Json,
    found: Mapping[int, Detections],
    weights: np.ndarray,
    complete: bool = True,
) -> None:
    """Compare a tally with the evaluator, for the data set as it is and for each draw.

    Args:
        make: gives the evaluator of a data set.
        truth, found: see ``redrawn``.
        weights: (D, I) int; a draw must have objects.
        complete: the tally must have every metric of ``compute``; otherwise those that it has are compared.

    Raises:
        ContractViolation: naming the metric that differs by 1e-9 or more, or is missing.
    """
    tally = evaluated(make, truth, found).tally()
    ids = sorted(int(image["id"]) for image in truth["images"])
    require(tally.image_ids.tolist() == ids, "the tally has other images than the ground truth")
    weights = np.concatenate([np.ones((1, len(ids)), np.int32), weights.astype(np.int32)])
    drawn = tally.metrics(weights)
    for row, one in enumerate(weights):
        expected = evaluated(make, *redrawn(truth, found, one)).compute()
        given = {name: float(values[row]) for name, values in drawn.items() if np.isfinite(values[row])}
        different = sorted({*given} ^ {*expected} if complete else {*given} - {*expected})
        require(not different, f"the tally and compute() differ in having {', '.join(different[:3])}")
        for name, value in given.items():
            require(
                abs(value - expected[name]) < 1e-9,
                f"{name} is {expected[name]:.9g} for images drawn again, by the tally {value:.9g}",
            )
