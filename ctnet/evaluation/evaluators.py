"""The evaluator of a task."""

from __future__ import annotations

from ctnet.base.errors import CtnetError, unknown_name
from ctnet.core.attributed import attributes_of
from ctnet.core.evaluator import Evaluator, GroundTruth
from ctnet.core.task import Task
from ctnet.evaluation.attributes import AttributeEvaluator


def evaluator_of(
    task: Task, truth: GroundTruth, metric: str | None = None, max_dets: int | None = None
) -> Evaluator:
    """The evaluator of a task's detections on a data set; attributes add their own metrics.

    Args:
        task: declares its metrics.
        truth: the ground truth, a data set.
        metric: one of ``task.metrics``; the first when None.
        max_dets: see ``Evaluator.max_dets``; the metric's own when None.

    Raises:
        CtnetError: for an unknown metric, for ground truth that cannot be evaluated, and for ``max_dets``
            where the metric counts all detections.
    """
    name = metric or next(iter(task.metrics))
    if name not in task.metrics:
        raise unknown_name(f"metric of task {task.name}", name, task.metrics)
    evaluator = task.metrics[name](truth, task.categories)
    if max_dets is not None:
        if evaluator.max_dets is None:
            raise CtnetError(f"metric {name} counts all detections of an image; leave --max-dets out")
        evaluator.max_dets = max_dets
    attributes = attributes_of(task)
    return AttributeEvaluator(evaluator, truth.as_coco(True), task, attributes) if attributes else evaluator
