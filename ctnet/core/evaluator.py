"""The base class of evaluators: collects detections per image, and merges those of several processes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Protocol

import numpy as np

from ctnet.base.errors import CtnetError
from ctnet.core.categories import Categories
from ctnet.core.records import Detections
from ctnet.core.tally import Tally

#: The detections of one process by image id, as plain values that can be sent to another process.
State = dict[int, Detections]


class GroundTruth(Protocol):
    """What evaluators need from a data set: a ``Dataset``, or any object with this method."""

    def as_coco(self, full: bool = False) -> dict[str, Any]:
        """Images, usable annotations and categories in the form of a COCO file.

        Args:
            full: with all keys of the entries (keypoints, polygons), which are then parsed from the file.
        """
        ...


class Evaluator(ABC):
    """Computes metrics from the detections of a data set's images.

    An image that was never passed to ``update`` counts as an image without detections. Neither the order of
    the images nor their distribution over processes affects the metrics; an image passed twice (by a sampler
    that pads its last batch) counts once.

    Attributes:
        main_metric: the metric in ``compute`` by which models are compared; higher is better.
        class_names: name of each label.
        annotations: the annotations of the ground truth, those of the classes: dictionaries as in the file,
            with ``id`` from 1 on, ``area`` and ``iscrowd`` filled in.
        needs_all: whether it reads more of the annotations than box, area and crowd.
        max_dets: only this many detections per class and image count, those with the highest scores; None:
            all.
        units: the units of figures that are shown with one, by the figure's name; ``%`` is for a fraction,
            shown times 100. Any other figure is a fraction or a count.
    """

    main_metric: ClassVar[str]
    needs_all: ClassVar[bool] = False
    max_dets: int | None = None
    units: Mapping[str, str] = MappingProxyType({})

    def __init__(
        self,
        ground_truth: Mapping[str, Any],
        category_ids: Sequence[int] | np.ndarray,
        class_names: Sequence[str],
    ) -> None:
        """Prepare for the images of a COCO annotation file.

        Args:
            ground_truth: the content of the file; it is not changed.
            category_ids: category id of each label; annotations of other categories are ignored.
            class_names: name of each label.

        Raises:
            CtnetError: for an annotation that cannot be evaluated, and when there are no objects.
        """
        self.category_ids = [int(category_id) for category_id in category_ids]
        self.class_names = [str(name) for name in class_names]
        self._image_names = {int(image["id"]): image.get("file_name", "") for image in ground_truth["images"]}
        self.annotations = self._checked_annotations(ground_truth)
        self._detections: State = {}

    def update(self, image_id: int, detections: Detections) -> None:
        """Add the detections of one image.

        Args:
            image_id: as in the ground truth.
            detections: numpy columns, boxes in image pixels.

        Raises:
            CtnetError: for an image that the ground truth does not have, and for scores or boxes that are
                NaN or infinite.
        """
        if image_id not in self._image_names:
            raise CtnetError(
                f"image id {image_id} is not in the ground truth, which has {len(self._image_names)} images; "
                "are these results of another data set or split?"
            )
        for name in ("scores", "boxes"):
            if not np.isfinite(getattr(detections, name)).all():
                raise CtnetError(
                    f"a detection in image {image_id} ({self._image_names[image_id]}) has NaN or infinite "
                    f"{name}; the model has diverged or its weights are damaged"
                )
        self._detections[int(image_id)] = detections

    def state(self) -> State:
        """The detections added so far, to be merged elsewhere."""
        return dict(self._detections)

    def merge(self, states: Iterable[State]) -> None:
        """Add the detections of other processes."""
        for state in states:
            self._detections.update(state)

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """The metrics by name, without those that are undefined because there are no such objects."""

    def curves(self) -> dict[str, Any]:
        """Precision-recall curves, as plain values for a JSON file.

        Raises:
            CtnetError: when the evaluator has none.
        """
        raise CtnetError(f"{type(self).__name__} has no curves; use the metric coco")

    def tally(self) -> Tally:
        """What each image contributed, for intervals and comparisons; the matching is done here, once.

        Its metrics for every image once are those of ``compute``. A metric that a subclass adds to
        ``compute`` alone has no interval.

        Raises:
            CtnetError: when the evaluator has none.
        """
        raise CtnetError(f"{type(self).__name__} keeps no tally of its images, which intervals are made of")

    def lower_is_better(self, name: str) -> bool:
        """Whether a metric is an error: of two models, the one with less of it is better."""
        return False

    def classes_without_objects(self) -> list[str]:
        """Names of the classes without objects in the ground truth (crowd regions do not count)."""
        present = {annotation["category_id"] for annotation in self.annotations if not annotation["iscrowd"]}
        columns = zip(self.category_ids, self.class_names, strict=True)
        return [name for category_id, name in columns if category_id not in present]

    def beyond_limit(self) -> str:
        """A message about images with more objects of a class than ``max_dets``; empty if there are none."""
        if self.max_dets is None:
            return ""
        counts = Counter(
            (annotation["image_id"], annotation["category_id"])
            for annotation in self.annotations
            if not annotation["iscrowd"] and annotation.get("num_keypoints") != 0
        )
        images = {image_id for (image_id, _), count in counts.items() if count > self.max_dets}
        if not images:
            return ""
        return (
            f"{len(images)} images have more than {self.max_dets} objects of a class, but at most "
            f"{self.max_dets} detections per class and image count, which limits the metrics; "
            f"--max-dets {max(counts.values())} removes the limit"
        )

    def _checked_annotations(self, ground_truth: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Copies of the annotations that count, with optional COCO keys filled in."""
        known = set(self.category_ids)
        annotations: list[dict[str, Any]] = []
        for annotation in ground_truth["annotations"]:
            if annotation["category_id"] not in known:
                continue
            bbox = annotation.get("bbox")
            if annotation["image_id"] not in self._image_names or bbox is None or len(bbox) != 4:
                raise CtnetError(
                    f"annotation id {annotation.get('id')} of the ground truth has no bbox of four numbers "
                    "or belongs to no image; see `ctnet data check`"
                )
            crowd = int(annotation.get("iscrowd", 0))
            area = annotation.get("area", bbox[2] * bbox[3])
            annotations.append({**annotation, "id": len(annotations) + 1, "iscrowd": crowd, "area": area})
        if all(annotation["iscrowd"] for annotation in annotations):
            raise CtnetError(
                "the ground truth has no objects of the model's classes, so there is nothing to evaluate; "
                "choose a split that has annotations"
            )
        return annotations


#: Creates a metric's evaluator from the ground truth and a task's categories.
MetricFactory = Callable[[GroundTruth, Categories], Evaluator]


def metric(kind: type[Evaluator], **settings: Any) -> MetricFactory:
    """A metric for ``Task.metrics``.

    Args:
        kind: the evaluator's class.
        settings: arguments of its constructor besides ground truth and categories.
    """

    def make(truth: GroundTruth, categories: Categories) -> Evaluator:
        return kind(truth.as_coco(kind.needs_all), categories.ids, categories.names, **settings)

    return make
