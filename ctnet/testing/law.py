"""The law of a task: decode(render(encode(x))) = x."""

from __future__ import annotations

import numpy as np

from ctnet.core.documents import truth_of
from ctnet.core.fields import differences
from ctnet.core.geometry import Affine, View
from ctnet.core.records import Detections
from ctnet.inference.decoding import decode
from ctnet.inference.settings import DetectionSettings
from ctnet.testing.check import require
from ctnet.testing.probe import STRIDE, Probe, task_check

#: How far a box may be off, pixels.
_TOLERANCE = 0.01
_TOPK = 100


@task_check("Task.encode, Task.decode, Head.render")
def the_law_holds(probe: Probe) -> None:
    """decode(render(encode(x))) is x: every object that does not collide comes back, best of all."""
    task, kept_of_all, of_all = probe.task, 0, 0
    for seed, scene in enumerate(probe.scenes()):
        instances = scene.instances[~scene.instances.crowd]
        collides = task.collides(probe.on_grid(instances), probe.grid)
        of_all += len(instances)
        instances = instances[~collides]
        kept_of_all += len(instances)
        truth = truth_of(task, instances)
        maps = probe.render(task.encode(probe.on_grid(instances), probe.grid), probe.grid)
        view = View(scene.info, Affine.scaling(STRIDE))
        (found,) = decode(task, maps, [view], DetectionSettings(topk=_TOPK))
        _compare(probe, truth, found, f"in scene {seed} ")
    require(
        2 * kept_of_all >= of_all,
        f"{of_all - kept_of_all} of {of_all} objects of the example scenes are said to collide",
    )


def _compare(probe: Probe, truth: Detections, found: Detections, where: str) -> None:
    count = len(truth)
    first = found[:count]
    require(len(first) == count, f"{where}{count} objects gave {len(first)} detections")
    if len(found) > count and count:
        extra, lowest = float(found.scores[count]), float(first.scores.min())
        require(
            extra < lowest,
            f"{where}{count} objects gave more than {count} detections of score {lowest:.3g}",
        )
    left = np.ones(count, bool)
    for row in range(count):
        candidates = np.flatnonzero(left & (first.labels == truth.labels[row]))
        object_text = f"{where}object {row}, box {truth.boxes[row].round(2).tolist()},"
        require(len(candidates), f"{object_text} has no detection of its label {truth.labels[row]}")
        fields = probe.task.fields
        gaps = differences(fields, truth[np.full(len(candidates), row)], first[candidates])
        allowed = {name: fields[name].tolerance if name in fields else _TOLERANCE for name in gaps}
        excess = np.max([values / allowed[name] for name, values in gaps.items()], axis=0)
        best = int(excess.argmin())
        for name, values in gaps.items():
            require(
                values[best] <= allowed[name],
                f"{object_text} comes back with {name} off by {values[best]:.4g}, "
                f"more than {allowed[name]:g}: {_text(truth, row, name)} became "
                f"{_text(first, candidates[best], name)}",
            )
        left[candidates[best]] = False


def _text(record: Detections, row: int, name: str) -> str:
    column = record.fields().get(name)
    return "it" if column is None else str(np.round(column[row], 3).tolist())
