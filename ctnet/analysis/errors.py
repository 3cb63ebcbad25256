"""The cost of a detector's errors: by head, where there are maps, and by type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ctnet.analysis.breakdown import Breakdown, break_down, check_thresholds, compare
from ctnet.analysis.oracles import Heads, Oracle
from ctnet.analysis.subject import Subject
from ctnet.core.records import Detections
from ctnet.data.dataset import Dataset
from ctnet.data.problems import Problem
from ctnet.measuring.reading import Settings


@dataclass(frozen=True)
class ErrorStudy:
    """Both tables, and facts that explain them.

    Attributes:
        oracle: heads replaced by ground truth; None where there are no maps.
        breakdown: errors by type.
        problems: records that are left out, and images that could not be read.
        empty_images: number of images without detections.
        absent_classes: names of the classes without objects.
    """

    oracle: Oracle | None
    breakdown: Breakdown
    problems: tuple[Problem, ...]
    empty_images: int
    absent_classes: tuple[str, ...]


def study_errors(
    subject: Subject, heads: Heads | None = None, settings: Settings | None = None, iou: float = 0.5
) -> ErrorStudy:
    """Replace heads by ground truth, where there are maps, and classify the errors by type.

    Args:
        subject: the detections to study.
        heads: combinations to replace, see ``ctnet.analysis.oracles``.
        settings: test-time settings.
        iou: smallest overlap of a correct box in the breakdown.

    Raises:
        CtnetError: for a threshold or head that does not exist, and for anything that evaluation refuses.
    """
    check_thresholds(iou)  # before the network runs for minutes
    settings = settings or Settings()
    table = subject.oracle(heads, settings)
    found = subject.found(settings) if table is None else table.detections
    dataset = subject.dataset
    return ErrorStudy(
        table,
        break_down(compare(dataset, found), iou),
        (*dataset.problems, *(table.problems if table else ())),
        _empty_images(dataset, found),
        _absent_classes(dataset),
    )


def _empty_images(dataset: Dataset, found: Mapping[int, Detections]) -> int:
    return sum(not len(found.get(image_id, ())) for image_id in dataset.image_ids.tolist())


def _absent_classes(dataset: Dataset) -> tuple[str, ...]:
    coco = dataset.coco
    present = set(coco.category_ids[dataset.usable & ~coco.crowd].tolist())
    return tuple(str(entry["name"]) for entry in dataset.categories if int(entry["id"]) not in present)
