"""Accuracy and time at several sizes of the network input."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ctnet.data.dataset import Dataset
from ctnet.data.problems import Problem
from ctnet.inference.detector import Detector
from ctnet.inference.timing import StageTimes
from ctnet.measuring.reading import Settings
from ctnet.measuring.run import detect_all, evaluate

#: The paper's: the image's own resolution (None), 512x512, 384x384.
SIZES: tuple[tuple[int, int] | None, ...] = (None, (512, 512), (384, 384))


@dataclass(frozen=True)
class ResolutionRow:
    """The results at one input size.

    Attributes:
        size: (width, height), pixels; None: the image's own resolution, padded.
        metrics: the evaluator's figures.
        times: how long it took, by stage.
    """

    size: tuple[int, int] | None
    metrics: Mapping[str, float]
    times: StageTimes

    @property
    def name(self) -> str:
        """ "original" or "512x512"."""
        return f"{self.size[0]}x{self.size[1]}" if self.size else "original"


@dataclass(frozen=True)
class ResolutionComparison:
    """The paper's table 3a.

    Attributes:
        main_metric: the metric that sizes are compared by.
        rows: one per size, in the given order.
        problems: images that could not be read; nothing was found in them.
    """

    main_metric: str
    rows: tuple[ResolutionRow, ...]
    problems: tuple[Problem, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        rows = [
            {"resolution": row.name, "metrics": dict(row.metrics), "timing": row.times.to_json()}
            for row in self.rows
        ]
        return {"main_metric": self.main_metric, "rows": rows}


def compare_resolutions(
    detector: Detector,
    dataset: Dataset,
    settings: Settings | None = None,
    sizes: Sequence[tuple[int, int] | None] = SIZES,
) -> ResolutionComparison:
    """Evaluate a detector at several input sizes.

    Before every measurement one image is processed as a warm-up.

    Args:
        detector: what is measured.
        dataset: images and ground truth.
        settings: test-time settings; its ``resize`` and ``size`` are ignored. Times are best compared with
            a ``batch_size`` of 1, since images of different resolutions cannot share a batch.
        sizes: (width, height) each, or None for the image's own resolution.

    Raises:
        CtnetError: for a size that the network does not accept, and all that ``evaluate`` refuses.

    Source: section 5.1, table 3a.
    """
    settings = settings or Settings(batch_size=1)
    dataset = dataset.with_task(detector.task)
    chosen = [
        dataclasses.replace(settings, resize="fix" if size else "keep", size=size)
        for size in dict.fromkeys(sizes)
    ]
    for one in chosen:  # before minutes are spent on the first of them
        detector.preprocessor(one.resize, one.size)
    done = []
    for one in chosen:
        for _ in detect_all(detector, dataset.subset([0]), dataclasses.replace(one, workers=0), []):
            pass
        size = f"{one.size[0]}x{one.size[1]}" if one.size else "the original resolution"
        done.append(evaluate(detector, dataset, one, f"evaluating at {size}"))
    rows = [
        ResolutionRow(one.size, evaluation.metrics, evaluation.times)
        for one, evaluation in zip(chosen, done, strict=True)
    ]
    problems = tuple(done[0].problems) if done else ()
    return ResolutionComparison(done[0].main_metric if done else "", tuple(rows), problems)
