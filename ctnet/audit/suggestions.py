"""Likely label errors: where annotations and what detectors see in the images do not agree, ranked.

Every suggestion has a rank in [0, 1]: how sure the evidence is, times how far the annotation is from it.

========== ===================================================== ==========================================
kind       what does not agree                                   rank
========== ===================================================== ==========================================
unmarked   a detection of score s, whose largest overlap with    s x (1 - v / 0.5)
           any annotation is v < 0.5
class      an annotation, and a detection of another class and   s - o
           score s that overlaps it by 0.5 or more; o is the
           highest value of its own class there
box        an annotation and a detection of its class and score  s x (1 - v / 0.6)
           s that overlap by v, 0.1 <= v < 0.6, with nothing
           better for either
duplicate  two annotations of one class that overlap by v > 0.8  (v - 0.8) / 0.2
value      an annotation and a detection of its class and score  s x (1 - limit / d), for a choice s x p, p
           s that overlap by 0.5 or more; a declared value of    the probability of the other
           theirs differs by d, beyond the limit that 95 % of
           such pairs keep (twice that, at least)
unseen     an annotation at which the highest value of any class (1 - e) x q / (q + m), m the fraction of
           is e < 0.3                                            its class's annotations of which as little is
                                                                 seen, q = 0.005 that of those of nothing
========== ===================================================== ==========================================

An annotation or detection is in one suggestion, that of the highest rank; a rank below 0.05 gives none.
Annotations with ``iscrowd``, ``ignore`` or ``difficult`` are in none, and detections that are mostly inside
them are not unmarked objects.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from ctnet.audit.evidence import Evidence
from ctnet.core.fields import Choice, Field
from ctnet.core.records import Detections

Kind = Literal["unmarked", "class", "box", "duplicate", "value", "unseen"]
KINDS: tuple[Kind, ...] = get_args(Kind)

#: Overlap of a detection and an annotation that are of one object.
SAME = 0.5
#: Overlaps between which a box of the right class is badly placed.
PLACED = (0.1, 0.6)
#: Overlap above which two annotations of a class may be of one object.
DOUBLE = 0.8
#: Highest value of any class at an annotation that no detector sees.
UNSEEN = 0.3
#: Suggestions of a lower rank are left out.
LOWEST_RANK = 0.05
#: Values of heatmaps below this are all the same: nothing is seen.
_NOTHING = 0.1
#: Fraction of annotations that are taken to be of nothing, before anything was seen: people forget objects
#: far more often than they make some up, and the hardest objects are as little seen as nothing is.
_OF_NOTHING = 0.005
#: Pairs of annotation and detection from which on their distances are known well enough.
_ENOUGH_PAIRS = 20


@dataclass(frozen=True)
class Suggestion:
    """One likely label error.

    Attributes:
        kind: see the module.
        rank: in [0, 1]; see the module.
        evidence: the image, its annotations and detections.
        annotation: row of the annotation in ``evidence.annotated``; None for an unmarked object.
        detection: row of the detection in ``evidence.found``; None where there is none.
        other: row of the other annotation of a duplicate.
        fields: names of the values that differ.
        figures: what the rank was computed from, by name.
    """

    kind: Kind
    rank: float
    evidence: Evidence
    annotation: int | None = None
    detection: int | None = None
    other: int | None = None
    fields: tuple[str, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)


def suggestions(evidence: Sequence[Evidence], fields: Mapping[str, Field]) -> list[Suggestion]:
    """All likely label errors, the surest first.

    Args:
        evidence: what is annotated and seen in every image.
        fields: what the task declares besides boxes.
    """
    highest = _by_class(evidence)
    limits = _limits(evidence, fields)
    found: list[Suggestion] = []
    for one in evidence:
        pairs = _pairs(one)
        candidates = [
            *_unmarked(one),
            *_other_class(one),
            *_badly_placed(one, pairs),
            *_duplicates(one),
            *_values(one, pairs, fields, limits),
            *_unseen(one, highest),
        ]
        found += _one_each([each for each in candidates if each.rank >= LOWEST_RANK])
    return sorted(found, key=lambda each: -each.rank)


def _one_each(candidates: list[Suggestion]) -> Iterator[Suggestion]:
    """The candidates of an image, without those of an annotation or detection that has a better one."""
    annotations, detections = set(), set()
    for each in sorted(candidates, key=lambda each: -each.rank):
        if each.annotation in annotations or each.detection in detections:
            continue
        yield each
        annotations |= {each.annotation} - {None}
        detections |= {each.detection} - {None}


def _columns(found: Detections) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(found.scores, np.float64), np.asarray(found.labels, np.int64)


def _pairs(one: Evidence) -> dict[int, int]:
    """Detection -> annotation of the same object: greedily, the highest scores first, classes aside."""
    free = one.overlap.copy()
    pairs = {}
    for row in np.flatnonzero((free >= SAME).any(axis=1)).tolist():
        column = int(free[row].argmax())
        if free[row, column] >= SAME:
            pairs[row] = column
            free[:, column] = -1
    return pairs


def _unmarked(one: Evidence) -> Iterator[Suggestion]:
    scores, _ = _columns(one.found)
    largest = one.overlap.max(axis=1, initial=0.0)
    taken: list[int] = []
    for row in np.flatnonzero((largest < SAME) & ~one.excused).tolist():
        if not (one.repeated[row, taken] >= SAME).any():  # of several detections of one object the best
            taken.append(row)
            figures = {"score": scores[row], "overlap": largest[row]}
            rank = scores[row] * (1 - largest[row] / SAME)
            yield Suggestion("unmarked", rank, one, detection=row, figures=figures)


def _other_class(one: Evidence) -> Iterator[Suggestion]:
    scores, labels = _columns(one.found)
    for column in np.flatnonzero(~one.ignored).tolist():
        label = int(one.annotated.labels[column])
        near = one.overlap[:, column] >= SAME
        others, own = near & (labels != label), near & (labels == label)
        if not others.any():
            continue
        row = int(np.where(others, scores, -1).argmax())
        of_own = max(float(one.seen[column, label]), float(scores[own].max(initial=0.0)))
        figures = {"score": scores[row], "own": of_own, "overlap": one.overlap[row, column]}
        yield Suggestion("class", scores[row] - of_own, one, column, row, figures=figures)


def _badly_placed(one: Evidence, pairs: Mapping[int, int]) -> Iterator[Suggestion]:
    scores, labels = _columns(one.found)
    low, high = PLACED
    same = labels[:, None] == np.asarray(one.annotated.labels)[None, :]
    overlap = np.where(same, one.overlap, 0.0)
    for column in np.flatnonzero(~one.ignored).tolist():
        row = int(overlap[:, column].argmax()) if len(overlap) else -1
        if row < 0 or not low <= (value := overlap[row, column]) < high:
            continue
        if overlap[row].argmax() != column or pairs.get(row, column) != column:
            continue
        figures = {"score": scores[row], "overlap": value}
        yield Suggestion("box", scores[row] * (1 - value / high), one, column, row, figures=figures)


def _duplicates(one: Evidence) -> Iterator[Suggestion]:
    labels = np.asarray(one.annotated.labels)
    double = (one.together > DOUBLE) & (labels[:, None] == labels[None, :])
    double[one.ignored] = double[:, one.ignored] = False
    for first, second in np.argwhere(np.triu(double, 1)).tolist():
        value = one.together[first, second]
        rank = (value - DOUBLE) / (1 - DOUBLE)
        yield Suggestion("duplicate", rank, one, second, other=first, figures={"overlap": value})


def _unseen(one: Evidence, highest: Mapping[int, np.ndarray]) -> Iterator[Suggestion]:
    for column in np.flatnonzero(~one.ignored).tolist():
        value = _highest(one, column)
        if value < UNSEEN:
            values = highest[int(one.annotated.labels[column])]
            rate = float((values <= max(value, _NOTHING)).mean())
            rank = (1 - value) * _OF_NOTHING / (_OF_NOTHING + rate)
            yield Suggestion("unseen", rank, one, column, figures={"highest": value, "missed": rate})


def _highest(one: Evidence, column: int) -> float:
    """The highest value of any class at an annotation, of heatmaps and of detections that overlap it."""
    scores, _ = _columns(one.found)
    near = scores[one.overlap[:, column] >= PLACED[0]]
    return max(float(one.seen[column].max(initial=0.0)), float(near.max(initial=0.0)))


def _by_class(evidence: Sequence[Evidence]) -> dict[int, np.ndarray]:
    """Class -> the highest value of any class at each of its annotations."""
    values = defaultdict(list)
    for one in evidence:
        for column in np.flatnonzero(~one.ignored).tolist():
            values[int(one.annotated.labels[column])].append(_highest(one, column))
    return {label: np.array(of_class) for label, of_class in values.items()}


# --- declared values


def _values(
    one: Evidence, pairs: Mapping[int, int], fields: Mapping[str, Field], limits: Mapping[str, float]
) -> Iterator[Suggestion]:
    scores, _ = _columns(one.found)
    for row, column in _of_one_class(one, pairs):
        ranks = {}
        for name, distance in _distances(one, row, column, fields).items():
            declared = fields[name]
            if isinstance(declared, Choice):
                ranks[name] = _probability(one.found[row], name, declared) if distance else 0.0
            elif name in limits and distance > 2 * limits[name]:
                ranks[name] = 1 - limits[name] / distance
        ranks = {name: rank for name, rank in ranks.items() if rank > 0}
        if ranks:
            figures = {"score": scores[row], **ranks}
            rank = scores[row] * max(ranks.values())
            yield Suggestion("value", rank, one, column, row, fields=tuple(ranks), figures=figures)


def _of_one_class(one: Evidence, pairs: Mapping[int, int]) -> Iterator[tuple[int, int]]:
    for row, column in pairs.items():
        if one.found.labels[row] == one.annotated.labels[column] and not one.ignored[column]:
            yield row, column


def _distances(one: Evidence, row: int, column: int, fields: Mapping[str, Field]) -> dict[str, float]:
    """How far the declared values of an annotation and a detection are apart; pixels as parts of the box."""
    truth, found = one.annotated[column].fields(), one.found[row].fields()
    side = float(np.sqrt(np.prod(np.maximum(truth["boxes"][0, 2:] - truth["boxes"][0, :2], 1.0))))
    distances = {}
    for name, declared in fields.items():
        if declared.json and declared.annotated and name in truth and name in found:
            distance = float(declared.distance(name, truth, found)[0])
            distances[name] = distance / side if declared.unit == "px" else distance
    return distances


def _limits(evidence: Sequence[Evidence], fields: Mapping[str, Field]) -> dict[str, float]:
    """Field -> the distance that 95 % of the pairs of annotation and detection keep."""
    if not fields:
        return {}
    known = defaultdict(list)
    for one in evidence:
        for row, column in _of_one_class(one, _pairs(one)):
            for name, distance in _distances(one, row, column, fields).items():
                known[name].append(distance)
    return {
        name: max(float(np.quantile(values, 0.95)), fields[name].tolerance)
        for name, values in known.items()
        if len(values) >= _ENOUGH_PAIRS
    }


def _probability(found: Detections, name: str, declared: Choice) -> float:
    """The probability of the choice that was found; 1 where the task gives none."""
    if not declared.scores or declared.scores not in found.extra:
        return 1.0
    return float(found.extra[declared.scores][0][int(found.extra[name][0])])
