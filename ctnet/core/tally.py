"""What each image contributed to the metrics of an evaluation: images can be drawn again without matching.

A bootstrap draws the images of a data set with replacement. What a draw needs of an image does not change
with the draw: its matches, scores and counts. A tally keeps these, and computes the metrics of a draw from
how often each image was drawn.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ctnet.base.errors import CtnetError

#: Metrics of several draws by name: (D,) float64 each, NaN where a draw does not define the metric.
Drawn = dict[str, np.ndarray]


@dataclass(frozen=True)
class Matched:
    """The detections of one class, matched to its objects, best score first: what a score threshold changes.

    Attributes:
        image: (N,) int64, the place of each detection's image in ``Tally.image_ids``.
        score: (N,) float64, descending.
        right, wrong: (N,) int64, by how many the right and the wrong detections become more where the
            threshold falls below this score. One of them is 1 and the other 0 for a detection that counts,
            and both are 0 for one that does not (it covers a crowd region).
        objects: (I,) int64, the number of objects of each image.
    """

    image: np.ndarray
    score: np.ndarray
    right: np.ndarray
    wrong: np.ndarray
    objects: np.ndarray

    @classmethod
    def of(
        cls, image: np.ndarray, score: np.ndarray, right: np.ndarray, wrong: np.ndarray, objects: np.ndarray
    ) -> Matched:
        """Sort by score, then by image; see the class."""
        score = np.asarray(score, np.float64)
        order = np.lexsort((image, -score))
        columns = (np.asarray(column)[order].astype(np.int64) for column in (image, right, wrong))
        place, hits, misses = columns
        return cls(place, score[order], hits, misses, np.asarray(objects, np.int64))


@dataclass(frozen=True)
class Matches:
    """The matched detections of an evaluation.

    Attributes:
        how: when a detection is right, in words: "IoU 0.5".
        classes: by the name of the class, all of them.
    """

    how: str
    classes: dict[str, Matched]


class Tally(ABC):
    """What each image of an evaluation contributed.

    Attributes:
        image_ids: (I,) int64, ascending: all images of the ground truth.
        objects: class name -> (I,) int64, the number of objects of each image that count.
        detections: (I,) int64, the number of detections of each image.
        rows: the largest number of values that ``metrics`` holds at once for one draw.
    """

    def __init__(
        self, image_ids: Sequence[int], objects: Mapping[str, np.ndarray], detections: np.ndarray
    ) -> None:
        self.image_ids = np.asarray(image_ids, np.int64)
        self.objects = dict(objects)
        self.detections = np.asarray(detections, np.int64)
        self.rows = len(self.image_ids)

    @abstractmethod
    def metrics(self, weights: np.ndarray) -> Drawn:
        """The metrics that ``Evaluator.compute`` would give for data sets of repeated images.

        Where scores are equal, the copies of an image follow each other in the order of ``image_ids``.

        Args:
            weights: (D, I) int32, how often each image occurs in each of D data sets.
        """

    def matches(self) -> Matches:
        """The detections of each class, and which are right: what operating points are made of.

        Where the metrics are means over several overlaps, the loosest decides: COCO's are matched at 0.5.

        Raises:
            CtnetError: where the tally has no matched detections.
        """
        raise CtnetError(
            f"{type(self).__name__} keeps no matched detections, which operating points are made of"
        )


class MeanTally(Tally):
    """Metrics that are means over things found in the images: errors, rates.

    Args:
        image_ids, objects, detections: see ``Tally``.
        sums: metric -> (I,) float64, the sum over the things of each image.
        counts: metric -> (I,) int64, their number.
    """

    def __init__(
        self,
        image_ids: Sequence[int],
        objects: Mapping[str, np.ndarray],
        detections: np.ndarray,
        sums: Mapping[str, np.ndarray],
        counts: Mapping[str, np.ndarray],
    ) -> None:
        super().__init__(image_ids, objects, detections)
        self._names = list(sums)
        if self._names:
            self._sums = np.stack([np.asarray(sums[name], np.float64) for name in self._names], axis=1)
            self._counts = np.stack([np.asarray(counts[name], np.float64) for name in self._names], axis=1)

    def metrics(self, weights: np.ndarray) -> Drawn:
        if not self._names:
            return {}
        drawn = weights.astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            means = (drawn @ self._sums) / (drawn @ self._counts)
        return {name: means[:, column] for column, name in enumerate(self._names)}


class JoinedTally(Tally):
    """The metrics of several tallies of the same images, in their order; the first has counts and matches."""

    def __init__(self, *parts: Tally) -> None:
        first = parts[0]
        super().__init__(first.image_ids.tolist(), first.objects, first.detections)
        self._parts = parts
        self.rows = max(part.rows for part in parts)

    def matches(self) -> Matches:
        return self._parts[0].matches()

    def metrics(self, weights: np.ndarray) -> Drawn:
        return {name: values for part in self._parts for name, values in part.metrics(weights).items()}
