"""The effect of non-maximum suppression on a detector that works without it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from ctnet.analysis.breakdown import ErrorCost, break_down, compare
from ctnet.base.choices import Nms, check_choice
from ctnet.base.errors import CtnetError
from ctnet.core.evaluator import State
from ctnet.data.dataset import Dataset
from ctnet.data.problems import Problem
from ctnet.evaluation.evaluators import evaluator_of
from ctnet.inference.decoding import merge
from ctnet.inference.detector import Detector
from ctnet.measuring.reading import Settings
from ctnet.measuring.run import evaluate

METHODS: tuple[Nms, ...] = get_args(Nms)


@dataclass(frozen=True)
class NmsRow:
    """The results of one method.

    Attributes:
        method: "none", "hard", "soft" or "soft-linear".
        metrics: the evaluator's metrics.
        gain: the gain of the main metric over no suppression.
        detections: number of remaining detections.
        duplicates: number of remaining duplicates of a matched object, see ``ctnet.analysis.breakdown``; soft
            suppression keeps them with lower scores.
        removed: number of duplicates removed.
        duplicate_cost: AP50 lost to the duplicates.
    """

    method: Nms
    metrics: Mapping[str, float]
    gain: float
    detections: int
    duplicates: int
    removed: int
    duplicate_cost: float


@dataclass(frozen=True)
class NmsComparison:
    """Section 4 of the paper: the gain from suppression.

    Attributes:
        main_metric: the metric that gains refer to.
        rows: the first is without suppression.
        problems: images that could not be read; they have no detections.
    """

    main_metric: str
    rows: tuple[NmsRow, ...]
    problems: tuple[Problem, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"main_metric": self.main_metric, "rows": [dataclasses.asdict(row) for row in self.rows]}


def compare_nms(
    detector: Detector,
    dataset: Dataset,
    settings: Settings | None = None,
    methods: Sequence[Nms] = METHODS,
) -> NmsComparison:
    """Evaluate a detector without suppression and with each method; the network runs once per image.

    Args:
        detector: what is measured.
        dataset: images and ground truth.
        settings: test-time settings, at one scale; its ``nms`` is ignored.
        methods: see ``ctnet.ops.nms.suppress_by``; "none" is always included first.

    Raises:
        CtnetError: for an unknown method or several scales, and for anything that ``evaluate`` refuses.
    """
    settings = settings or Settings()
    if len(settings.scales) > 1:
        raise CtnetError("several scales are always merged by suppression; compare methods at one scale")
    for method in methods:
        check_choice("nms", method, Nms)
    methods = ["none", *(method for method in dict.fromkeys(methods) if method != "none")]
    dataset = dataset.with_task(detector.task)
    candidates = max(settings.topk, detector.task.suppression.candidates)
    plain = evaluate(detector, dataset, dataclasses.replace(settings, nms="none", topk=candidates))
    assert plain.evaluator is not None
    found = plain.evaluator.state()
    rows: list[NmsRow] = []
    for method in methods:
        chosen = dataclasses.replace(settings, nms=method)
        left = {image_id: merge(detector.task, [one], chosen) for image_id, one in found.items()}
        same = method == "none" and candidates == settings.topk
        metrics = plain.metrics if same else _measured(detector, dataset, settings, left)
        duplicates = break_down(compare(dataset, left)).errors["duplicate"]
        rows.append(_row(method, metrics, plain.main_metric, left, duplicates, rows[0] if rows else None))
    return NmsComparison(plain.main_metric, tuple(rows), tuple(plain.problems))


def _measured(detector: Detector, dataset: Dataset, settings: Settings, left: State) -> dict[str, float]:
    evaluator = evaluator_of(detector.task, dataset, settings.metric)
    for image_id, detections in left.items():
        evaluator.update(image_id, detections)
    return evaluator.compute()


def _row(
    method: Nms,
    metrics: Mapping[str, float],
    main: str,
    left: State,
    duplicates: ErrorCost,
    first: NmsRow | None,
) -> NmsRow:
    return NmsRow(
        method,
        metrics,
        metrics.get(main, 0.0) - first.metrics.get(main, 0.0) if first else 0.0,
        sum(map(len, left.values())),
        duplicates.count,
        first.duplicates - duplicates.count if first else 0,
        duplicates.cost,
    )
