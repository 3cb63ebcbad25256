"""The evaluator of tracks: HOTA, IDF1, MOTA and identity switches of the videos of a data set."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ctnet.plugin import Detections, Evaluator, box_coverage, box_iou, warn_once
from ctnet_tasks_tracks.metrics import Counts, Frame, counts_of

#: Detections that score less belong to no track.
_LEAST = 0.12
#: Numbers from here on are those of detections that belong to no track.
_ALONE = 2**50
#: Fraction of a detection in a crowd region from which it is not counted.
_IN_CROWD = 0.5


class TrackEvaluator(Evaluator):
    """HOTA (the main figure), DetA, AssA, MOTA, IDF1: means over the classes; switches: their sum.

    Boxes are compared by IoU, videos of a class are added up, an image without a video is one of one frame.
    Objects without ``track_id`` and crowd regions need not be found, and detections on them do not count.
    Detections that nobody follows (``track_id`` -1) do not count either, and of two
    with the same in a frame the second counts as another.
    """

    main_metric = "HOTA"
    needs_all = True

    def __init__(self, ground_truth: Mapping[str, Any], *rest: Any) -> None:
        super().__init__(ground_truth, *rest)
        videos: dict[Any, list[tuple[int, int]]] = defaultdict(list)
        for image in ground_truth["images"]:
            video = image.get("video_id", ("still", image["id"]))
            videos[video].append((int(image.get("frame_id", 0)), int(image["id"])))
        self._videos = [[image for _, image in sorted(frames)] for frames in videos.values()]
        self._truth: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for annotation in self.annotations:
            self._truth[annotation["image_id"]].append(annotation)

    def compute(self) -> dict[str, float]:
        """See the class."""
        by_class = {}
        absent = self.classes_without_objects()
        for label, name in enumerate(self.class_names):
            counts = Counts.none()
            for video in self._videos:
                counts = counts + counts_of([self._frame(image, label) for image in video])
            if name not in absent or counts.detections:
                by_class[name] = counts.figures()
        figures = {
            name: float(np.mean([figures[name] for figures in by_class.values()]))
            for name in ("HOTA", "DetA", "AssA", "MOTA", "IDF1")
        }
        figures["switches"] = sum(figures["switches"] for figures in by_class.values())
        return {**figures, **{f"HOTA/{name}": one["HOTA"] for name, one in by_class.items()}}

    def lower_is_better(self, name: str) -> bool:
        return name == "switches"

    def _frame(self, image_id: int, label: int) -> Frame:
        """The objects and detections of a class in an image."""
        objects: list[dict[str, Any]] = []
        ignored: list[dict[str, Any]] = []
        for one in self._truth[image_id]:
            if one["category_id"] == self.category_ids[label]:
                known = one.get("track_id") is not None and not one["iscrowd"]
                (objects if known else ignored).append(one)
        truth = np.array([one["track_id"] for one in objects], np.int64)
        boxes = _boxes(objects)
        found = self._detections.get(image_id)
        if found is None:
            return Frame(truth, np.zeros(0, np.int64), np.zeros((len(truth), 0)))
        mine = found[(np.asarray(found.labels) == label) & (np.asarray(found.scores) >= _LEAST)]
        identity = _identities(mine, image_id)
        mine, identity = mine[identity != -1], identity[identity != -1]
        overlap = box_iou(boxes, np.asarray(mine.boxes, np.float64).reshape(-1, 4))
        if ignored and len(mine):
            inside = (
                box_coverage(np.asarray(mine.boxes, np.float64), _boxes(ignored)).max(axis=1) >= _IN_CROWD
            )
            counts = ~inside | (overlap >= _IN_CROWD).any(axis=0)
            identity, overlap = identity[counts], overlap[:, counts]
        return Frame(truth, identity, overlap)


def _boxes(annotations: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """(N, 4) float64 xyxy."""
    boxes = np.array([one["bbox"] for one in annotations], np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def _identities(found: Detections, image_id: int) -> np.ndarray:
    """(N,) int64, -1 for nobody; of two equal ones, and where there are none, each a number of its own."""
    alone = _ALONE + image_id * 2**16 + np.arange(len(found))
    column = found.extra.get("track_id")
    if column is None:
        warn_once(
            "these detections have no track_id, so each counts as a track of its own, and HOTA and IDF1 are "
            "of no use; follow them: with a detector of tracks, or with `ctnet predict --track`"
        )
        return alone
    identity = np.array(column, np.int64)
    seen: set[int] = set()
    for row, value in enumerate(identity.tolist()):
        if value in seen:
            identity[row] = alone[row]
        elif value >= 0:
            seen.add(value)
    return identity
