"""Average precision of detections matched to objects: boxes, or any other shape."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import numpy as np

from ctnet.base.errors import CtnetError, unknown_name
from ctnet.core.evaluator import Evaluator
from ctnet.core.records import Detections
from ctnet.core.tally import Drawn, Matched, Matches, Tally
from ctnet.evaluation.ranking import Ranking

#: Pascal VOC's average precision: at eleven recalls (2007), or the area under the curve (from 2010).
Metric = Literal["voc07", "voc10"]

#: The overlap thresholds that COCO's AP is averaged over.
IOUS = tuple(hundredths / 100 for hundredths in range(50, 100, 5))


class _Matches(NamedTuple):
    """All detections, highest score first; ``number`` is that of the object overlapped most, 0 if none."""

    image: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    number: np.ndarray
    overlap: np.ndarray


class _Objects(NamedTuple):
    """The annotated objects of one image; ``number`` is unique in the data set, -1 for ignored objects."""

    values: np.ndarray
    labels: np.ndarray
    number: np.ndarray


class MatchedEvaluator(Evaluator):
    """Mean average precision by the rules of Pascal VOC, of objects of any shape.

    A subclass defines the column that is compared, and the overlap. ``compute`` gives ``mAP`` (the mean over
    overlaps of 0.5, 0.55 ... 0.95), ``mAP50``, ``mAP75`` and ``AP50/<class>``, all in [0, 1]. The metric
    "voc10" takes the area under the precision made monotone, "voc07" the mean of the best precision at the
    recalls 0, 0.1 ... 1. A class without objects is left out.

    The rules: every detection, highest score first, is matched to the object of its class that it overlaps
    most. With an overlap of at least the threshold, the first detection of an object is right and every
    further one wrong; with less it is wrong. Where the object is to be ignored (annotation field
    ``difficult``,
    ``ignore`` or ``iscrowd``), neither the detection nor the object counts.

    Attributes:
        column: column of detections, and key of annotations; "boxes" are the annotations' ``bbox``.
        shape: the shape of one object's value in that column.
        overlaps: one overlap threshold or several; operating points are those of the first.
    """

    main_metric = "mAP50"
    needs_all = True  # only whole records have the flags difficult and ignore
    column: ClassVar[str] = "boxes"
    shape: ClassVar[tuple[int, ...]] = (4,)
    overlaps: ClassVar[tuple[float, ...]] = IOUS

    def __init__(
        self,
        ground_truth: Mapping[str, Any],
        category_ids: Sequence[int] | np.ndarray,
        class_names: Sequence[str],
        metric: Metric = "voc10",
    ) -> None:
        """See ``Evaluator``.

        Args:
            ground_truth: the content of a COCO annotation file.
            category_ids: category id of each label.
            class_names: name of each label.
            metric: "voc07" (11 points) or "voc10" (area).
        """
        super().__init__(ground_truth, category_ids, class_names)
        if metric not in get_args(Metric):
            raise unknown_name("average precision", metric, get_args(Metric))
        self.metric = metric
        self._labels = np.array(
            [self.category_ids.index(entry["category_id"]) for entry in self.annotations], np.int64
        )
        self._ignored = np.array([_is_ignored(entry) for entry in self.annotations], bool)
        self._objects = self._objects_by_image()

    @abstractmethod
    def overlap(self, found: np.ndarray, objects: np.ndarray) -> np.ndarray:
        """Pairwise overlap of N detections and M objects of one image: (N, M) in [0, 1].

        Args:
            found, objects: their values in the column, (N, ...) and (M, ...) float64.
        """

    def update(self, image_id: int, detections: Detections) -> None:
        """See ``Evaluator.update``; the values of the column must be finite as well."""
        super().update(image_id, detections)
        check_column(image_id, detections, self.column, self.shape)

    def compute(self) -> dict[str, float]:
        """The figures; see the class."""
        matches = self._matches()
        table = {}
        for label, name in enumerate(self.class_names):
            count = int(((self._labels == label) & ~self._ignored).sum())
            if count:
                numbers = self._numbers(matches, label)
                table[name] = [average_precision(_first_times(each), count, self.metric) for each in numbers]
        return {name: float(value) for name, value in self.figures(table).items()}

    def tally(self) -> Tally:
        images = np.array(sorted(self._image_names), np.int64)
        matches = self._matches()
        place = np.searchsorted(images, matches.image)
        of_object = np.searchsorted(images, [int(entry["image_id"]) for entry in self.annotations])
        objects, rankings, matched = {}, {}, {}
        for label, name in enumerate(self.class_names):
            counted = (self._labels == label) & ~self._ignored
            objects[name] = np.bincount(of_object[counted], minlength=len(images))
            numbers = np.stack(self._numbers(matches, label))
            right = np.zeros(numbers.shape, bool)
            for row, each in enumerate(numbers):
                right[row, each >= 0] = _first_times(each)
            mine = matches.labels == label
            counts = numbers >= 0
            wrong = counts[0] & ~right[0]
            matched[name] = Matched.of(place[mine], matches.scores[mine], right[0], wrong, objects[name])
            if counted.any():
                rankings[name] = Ranking(place[mine], matches.scores[mine], right, counts)
        found = np.bincount(place, minlength=len(images))
        return _MatchedTally(images.tolist(), objects, found, rankings, matched, self)

    def _numbers(self, matches: _Matches, label: int) -> list[np.ndarray]:
        """By threshold, the number of the object that each detection of a class matches, 0 if none."""
        mine = matches.labels == label
        overlap, number = matches.overlap[mine], matches.number[mine]
        return [np.where(overlap >= least, number, 0) for least in self.overlaps]

    def figures(self, table: Mapping[str, Sequence[float]]) -> dict[str, float]:
        """The metrics by name, from the average precision of each class at each of ``overlaps``."""
        means = np.mean(list(table.values()), axis=0) if table else np.zeros(len(self.overlaps))
        figures = {"mAP": means.mean(), "mAP50": means[0], "mAP75": means[self.overlaps.index(0.75)]}
        return figures | {f"AP50/{name}": row[0] for name, row in table.items()}

    def _objects_by_image(self) -> dict[int, _Objects]:
        rows: dict[int, list[int]] = {}
        for row, annotation in enumerate(self.annotations):
            rows.setdefault(annotation["image_id"], []).append(row)
        key = "bbox" if self.column == "boxes" else self.column
        values = np.array([entry[key] for entry in self.annotations], np.float64).reshape(-1, *self.shape)
        if self.column == "boxes":
            values[:, 2:] += values[:, :2]
        number = np.where(self._ignored, -1, np.arange(1, len(self.annotations) + 1))
        return {
            image_id: _Objects(values[mine], self._labels[mine], number[mine])
            for image_id, mine in rows.items()
        }

    def _matches(self) -> _Matches:
        """Sorted by score, then by image id, so that the distribution over processes does not matter."""
        columns = [_Matches(*(np.zeros(0, kind) for kind in (int, float, int, int, float)))]
        for image_id, found in sorted(self.state().items()):
            labels = np.asarray(found.labels, int)
            number, best = np.zeros(len(found), int), np.zeros(len(found))
            objects = self._objects.get(image_id)
            if objects is not None and len(found):
                overlap = self.overlap(np.asarray(found.fields()[self.column], np.float64), objects.values)
                overlap[labels[:, None] != objects.labels] = 0
                number, best = objects.number[overlap.argmax(axis=1)], overlap.max(axis=1)
            scores = np.asarray(found.scores, np.float64)
            columns.append(_Matches(np.full(len(found), image_id), scores, labels, number, best))
        order = np.argsort(-np.concatenate([column.scores for column in columns]), kind="stable")
        return _Matches(*(np.concatenate(column)[order] for column in zip(*columns, strict=True)))


class _MatchedTally(Tally):
    """Rankings by class, and the evaluator that takes the means of their average precision."""

    def __init__(
        self,
        image_ids: Sequence[int],
        objects: Mapping[str, np.ndarray],
        detections: np.ndarray,
        rankings: Mapping[str, Ranking],
        matched: Mapping[str, Matched],
        evaluator: MatchedEvaluator,
    ) -> None:
        super().__init__(image_ids, objects, detections)
        self._rankings, self._matched, self._evaluator = rankings, dict(matched), evaluator
        self.rows = max([self.rows, *map(len, rankings.values())])

    def matches(self) -> Matches:
        return Matches(f"overlap {self._evaluator.overlaps[0]:g}", self._matched)

    def metrics(self, weights: np.ndarray) -> Drawn:
        tables = {}
        for name, ranking in self._rankings.items():
            objects = weights @ self.objects[name]
            tables[name] = ranking.averages(weights, objects, self._evaluator.metric).precision
        drawn: Drawn = {}
        for draw in range(len(weights)):
            columns = {name: rows[:, draw].tolist() for name, rows in tables.items()}
            present = {name: row for name, row in columns.items() if not np.isnan(row[0])}
            for name, value in self._evaluator.figures(present).items() if present else ():
                drawn.setdefault(name, np.full(len(weights), np.nan))[draw] = value
        return drawn


def average_precision(right: np.ndarray, count: int, metric: Metric) -> float:
    """Average precision of one class.

    Args:
        right: (N,) bool, whether each detection is right; best score first.
        count: number of objects, at least 1.
        metric: "voc07" or "voc10".
    """
    found = np.cumsum(right)
    precision = found / np.arange(1, len(found) + 1)
    # The best precision at this recall or a higher one.
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    if metric == "voc10":
        return float(envelope[right].sum() / count)
    total = 0.0
    for tenth in range(11):
        first = np.searchsorted(found * 10, tenth * count)  # integers: 3 of 10 is a recall of 0.3 exactly
        total += envelope[first] if first < len(found) else 0.0
    return float(total / 11)


def match_best_first(overlap: np.ndarray, scores: np.ndarray, least: float) -> np.ndarray:
    """Greedy matching: each detection gets the free object that it overlaps most.

    Args:
        overlap: (N, M), of detections with objects; 0 where the two must not match.
        scores: (N,); the highest one chooses first.
        least: the smallest overlap that matches, above 0.

    Returns:
        (N,) int64, the object's row; -1 for an unmatched detection.
    """
    match = np.full(len(scores), -1)
    free = overlap.copy()
    for row in np.argsort(-scores, kind="stable") if free.size else ():
        best = int(free[row].argmax())
        if free[row, best] >= least:
            match[row] = best
            free[:, best] = 0
    return match


def check_column(image_id: int, detections: Detections, name: str, shape: tuple[int, ...]) -> None:
    """Refuse detections of an image with a missing or invalid column.

    Args:
        image_id: id of the image.
        detections: found there.
        name: the name of the column.
        shape: the shape of one detection's value in it.

    Raises:
        CtnetError: where the column is missing, of another shape, or NaN or infinite somewhere.
    """
    column = np.asarray(detections.fields().get(name, np.zeros((0, *shape))))
    wanted = (len(detections), *shape)
    if len(detections) and (column.shape != wanted or not np.isfinite(column).all()):
        raise CtnetError(
            f"the detections of image {image_id} have {name} of shape {column.shape} or with NaN or "
            f"infinity; finite values of shape {wanted} are needed: are they of another task, or of other "
            "categories?"
        )


def _first_times(objects: np.ndarray) -> np.ndarray:
    """Whether each detection is the first match of its object; matches of ignored objects are removed."""
    objects = objects[objects >= 0]
    right = np.zeros(len(objects), bool)
    right[np.unique(objects, return_index=True)[1]] = True
    return right & (objects > 0)


def _is_ignored(annotation: Mapping[str, Any]) -> bool:
    return any(annotation.get(field, 0) for field in ("difficult", "ignore", "iscrowd"))
