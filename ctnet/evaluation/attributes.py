"""Metrics of attributes, in addition to those of boxes: errors of numbers, accuracy of choices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from ctnet.core.documents import truth_of
from ctnet.core.evaluator import Evaluator, State
from ctnet.core.fields import Choice, Value, read_fields
from ctnet.core.records import Detections, Instances
from ctnet.core.tally import JoinedTally, MeanTally, Tally
from ctnet.core.task import Task
from ctnet.evaluation.matching import average_precision, match_best_first
from ctnet.evaluation.ranking import RankedTally, Ranking
from ctnet.ops.boxes import box_coverage

#: Smallest overlap at which a detection matches an object.
_SAME = 0.5


class AttributeEvaluator(Evaluator):
    """Wraps an evaluator; ``compute`` also returns the metrics of attributes.

    A detection is matched to the object of its label that it overlaps most, with a ``Task.overlap`` of 0.5 or
    more; the highest score chooses first, and an object is matched once. Matched objects give
    ``<name>/error``, the mean absolute error of a number; ``<name>/accuracy``, the fraction of objects whose
    most probable value is the true one; and ``<name>/confusion/<true>/<found>``, the fractions of values
    predicted for each true one. ``<name>/AP/<value>`` is the average precision (area under the monotone
    curve) of the objects that have a value: scores are multiplied by its probability, and detections of crowd
    regions or of objects whose value is not known count neither as right nor as wrong. Metrics without
    objects are left out.
    """

    def __init__(
        self,
        inner: Evaluator,
        ground_truth: Mapping[str, Any],
        task: Task,
        attributes: Mapping[str, Value | Choice],
    ) -> None:
        """Evaluate attributes in addition to a metric.

        Args:
            inner: the evaluator of the metric.
            ground_truth: the content of a COCO annotation file.
            task: the task of the detections.
            attributes: by column.
        """
        super().__init__(ground_truth, task.categories.ids, task.categories.names)
        self.main_metric = inner.main_metric  # type: ignore[misc]  # that of the one that is extended
        self.max_dets = inner.max_dets
        numbers = {name: kind.unit for name, kind in attributes.items() if isinstance(kind, Value)}
        self.units = {**inner.units, **{f"{name}/error": unit for name, unit in numbers.items() if unit}}
        self._inner, self._ground_truth = inner, ground_truth
        self._task, self._attributes = task, attributes

    def update(self, image_id: int, detections: Detections) -> None:
        self._inner.update(image_id, detections)

    def state(self) -> State:
        return self._inner.state()

    def merge(self, states: Iterable[State]) -> None:
        self._inner.merge(states)

    def curves(self) -> dict[str, Any]:
        return self._inner.curves()

    def compute(self) -> dict[str, float]:
        figures = self._inner.compute()
        images = self._images()
        for name, attribute in self._attributes.items():
            mine = {}
            for metric, (values, _) in _means(name, attribute, images).items():
                if len(values):
                    mine[metric] = float(values.mean())
            for metric, ranked in _rankings(name, attribute, images).items():
                order = np.argsort(-ranked.scores, kind="stable")
                if count := len(ranked.objects):
                    mine[metric] = average_precision(ranked.right[order], count, "voc10")
            figures |= dict(sorted(mine.items(), key=lambda entry: f"{name}/confusion/" in entry[0]))
        return figures

    def tally(self) -> Tally:
        inner, images = self._inner.tally(), self._images()
        about = (inner.image_ids.tolist(), inner.objects, inner.detections)
        sums, counts, rankings = {}, {}, {}
        for name, attribute in self._attributes.items():
            for metric, (values, image) in _means(name, attribute, images).items():
                sums[metric] = np.bincount(image, values, minlength=len(images))
                counts[metric] = np.bincount(image, minlength=len(images))
            for metric, ranked in _rankings(name, attribute, images).items():
                right = ranked.right[None]
                ranking = Ranking(ranked.image, ranked.scores, right, np.ones_like(right))
                rankings[metric] = ranking, np.bincount(ranked.objects, minlength=len(images))
        return JoinedTally(inner, MeanTally(*about, sums, counts), RankedTally(*about, rankings))

    def lower_is_better(self, name: str) -> bool:
        attribute, _, rest = name.partition("/")
        kind, *values = rest.split("/")
        if attribute not in self._attributes or kind not in ("error", "confusion"):
            return self._inner.lower_is_better(name)
        return kind == "error" or values[0] != values[-1]

    def _images(self) -> list[_Image]:
        """All images, ordered by id."""
        found = self._inner.state()
        return [
            _compare(self._task, truth, crowds, found.get(image_id))
            for image_id, (truth, crowds) in self._truth.items()
        ]

    @cached_property
    def _truth(self) -> dict[int, tuple[Detections, Instances]]:
        """The objects of each image as detections, and its crowd regions."""
        task, rows = self._task, {image_id: [] for image_id in self._image_names}  # type: ignore[var-annotated]
        for annotation in self.annotations:
            rows[annotation["image_id"]].append(annotation)
        truth = {}
        for image in sorted(self._ground_truth["images"], key=lambda entry: int(entry["id"])):
            entries = rows[image["id"]]
            boxes = np.array([entry["bbox"] for entry in entries], np.float32).reshape(-1, 4)
            boxes[:, 2:] += boxes[:, :2]
            labels = task.categories.labels(np.array([entry["category_id"] for entry in entries], np.int64))
            read = Instances.of(boxes, labels, [entry["iscrowd"] for entry in entries])
            whole = task.complete(read.replace(**read_fields(task.fields, entries)), image)
            truth[int(image["id"])] = truth_of(task, whole), whole[whole.crowd]
        return truth


class _Image(NamedTuple):
    """The detections of an image compared with its objects.

    Attributes:
        truth: M objects.
        found: N detections.
        overlap: (N, M), 0 for those of different labels.
        in_crowd: (N,) bool, detections mostly covered by a crowd region of their label.
    """

    truth: Detections
    found: Detections
    overlap: np.ndarray
    in_crowd: np.ndarray


def _compare(task: Task, truth: Detections, crowds: Instances, found: Detections | None) -> _Image:
    if found is None or not len(found):
        blank = Detections.empty() if found is None else found
        return _Image(truth, blank, np.zeros((0, len(truth))), np.zeros(0, bool))
    # Other programs' results may have no attributes.
    unknown = read_fields(task.fields, [{}] * len(found), found=True)
    found = found.replace(**{**unknown, **found.fields()})
    labels = np.asarray(found.labels)[:, None]
    overlap = np.zeros((len(found), len(truth)))
    if len(truth):
        overlap = np.where(labels == truth.labels, task.overlap(found, truth), 0)
    covered = box_coverage(np.asarray(found.boxes, np.float64), crowds.boxes.astype(np.float64))
    in_crowd = ((covered >= _SAME) & (labels == crowds.labels)).any(axis=1)
    return _Image(truth, found, overlap, in_crowd)


def _pairs(name: str, images: list[_Image]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The true and the predicted values of a column, of all matched objects, and the index of their image."""
    true, found, place = [np.zeros(0)], [np.zeros(0)], [np.zeros(0, np.int64)]
    for index, image in enumerate(images):
        match = match_best_first(image.overlap, np.asarray(image.found.scores), _SAME)
        if (match >= 0).any():
            true.append(np.asarray(image.truth.fields()[name], np.float64)[match[match >= 0]])
            found.append(_column(image.found, name)[match >= 0])
            place.append(np.full(len(true[-1]), index))
    return np.concatenate(true), np.concatenate(found), np.concatenate(place)


def _column(found: Detections, name: str) -> np.ndarray:
    """(N,) float64: the detections' values of an attribute; NaN where missing."""
    column = found.fields().get(name)
    return np.full(len(found), np.nan) if column is None else np.asarray(column, np.float64)


#: What a metric is the mean of, and the index of the image of each of these values, ascending.
_Parts = tuple[np.ndarray, np.ndarray]


def _means(name: str, attribute: Value | Choice, images: list[_Image]) -> dict[str, _Parts]:
    """The metrics that are means over matched objects."""
    true, found, place = _pairs(name, images)
    if isinstance(attribute, Value):
        error = np.abs(found - true)
        known = ~np.isnan(error)
        return {f"{name}/error": (error[known], place[known])}
    known = np.nan_to_num(true, nan=-1) >= 0
    true, found, place = true[known], np.nan_to_num(found[known], nan=-1), place[known]
    parts = {f"{name}/accuracy": ((true == found).astype(float), place)}
    for value, word in enumerate(attribute.choices):
        mine = true == value
        for other, found_word in enumerate(attribute.choices):
            hits = (found[mine] == other).astype(float)
            parts[f"{name}/confusion/{word}/{found_word}"] = hits, place[mine]
    return parts


class _Ranked(NamedTuple):
    """The detections that count for one value of a choice, image by image, and the image of each object."""

    image: np.ndarray
    scores: np.ndarray
    right: np.ndarray
    objects: np.ndarray


def _rankings(name: str, attribute: Value | Choice, images: list[_Image]) -> dict[str, _Ranked]:
    """The metrics that are the average precision of the objects that have a value."""
    if isinstance(attribute, Value):
        return {}
    return {
        f"{name}/AP/{word}": _ranked(name, attribute, value, images)
        for value, word in enumerate(attribute.choices)
    }


def _ranked(name: str, choice: Choice, value: int, images: list[_Image]) -> _Ranked:
    parts = [_Ranked(*(np.zeros(0, kind) for kind in (np.int64, float, bool, np.int64)))]
    for index, image in enumerate(images):
        true = np.asarray(image.truth.fields()[name])
        objects = np.full(int((true == value).sum()), index)
        if not len(image.found):
            parts.append(parts[0]._replace(objects=objects))
            continue
        certain = _column(image.found, name) == value
        scores_of = image.found.fields().get(choice.scores)
        probability = certain if scores_of is None else np.asarray(scores_of, np.float64)[:, value]
        score = np.asarray(image.found.scores) * np.where(np.isnan(probability), certain, probability)
        match = match_best_first(image.overlap * (true == value), score, _SAME)
        open_question = image.in_crowd | ((image.overlap >= _SAME) & (true < 0)).any(axis=1)
        counts = ((match >= 0) | ~open_question) & (score > 0)
        place = np.full(int(counts.sum()), index)
        parts.append(_Ranked(place, score[counts], match[counts] >= 0, objects))
    return _Ranked(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
