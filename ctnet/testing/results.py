"""Checks of outputs: results files and drawings."""

from __future__ import annotations

import json

import numpy as np

from ctnet.core.documents import detections_of, results_of, truth_of
from ctnet.testing.check import require
from ctnet.testing.dataset import truth_of_scenes
from ctnet.testing.evaluators import worse
from ctnet.testing.probe import Probe, task_check


@task_check("Task.fields")
def results_survive_a_file(probe: Probe) -> None:
    """Detections survive writing to and reading from a COCO results file."""
    for image_id, found in truth_of_scenes(probe).found.items():
        before = worse(found, image_id)
        entries = json.loads(json.dumps(results_of(probe.task, image_id, before), allow_nan=False))
        require(len(entries) == len(before), f"{len(before)} detections gave {len(entries)} entries")
        require(all(entry["image_id"] == image_id for entry in entries), "an entry has another image's id")
        after = detections_of(probe.task, entries)
        derived = {name for name, field in probe.task.fields.items() if not field.json}
        for name, column in before.fields().items():
            if name in derived or column.dtype == object:
                continue
            require(name in after.fields(), f"field {name!r} is lost")
            same = np.allclose(after.fields()[name], column, rtol=1e-3, atol=0.02)
            require(same, f"{name} {np.asarray(column).tolist()} became {after.fields()[name].tolist()}")


@task_check("Task.draw")
def drawing_makes_a_new_image(probe: Probe) -> None:
    """draw returns a new image, as high and at least as wide, showing the objects; inputs do not change."""
    for seed, scene in enumerate(probe.scenes(3)):
        truth = truth_of(probe.task, scene.instances)
        image, columns = scene.image.copy(), {k: np.copy(v) for k, v in truth.fields().items()}
        for detections in (truth, worse(truth, 0), truth[:0]):
            drawn = probe.task.draw(image, detections, scene.info)
            require(
                drawn.dtype == np.uint8
                and drawn.shape[::2] == image.shape[::2]
                and drawn.shape[1] >= image.shape[1],
                f"scene {seed}: the picture is {drawn.dtype} {drawn.shape}, the image {image.shape}",
            )
            require(np.array_equal(image, scene.image), f"scene {seed}: the image itself was drawn on")
            require(
                not np.shares_memory(drawn, image), f"scene {seed}: the picture shares the image's memory"
            )
            shown = len(detections) == 0 or not np.array_equal(drawn, image)
            require(shown, f"scene {seed}: {len(detections)} objects leave no trace")
        for name, column in columns.items():
            same = np.array_equal(truth.fields()[name], column)
            require(same, f"scene {seed}: {name} of the detections was changed")
