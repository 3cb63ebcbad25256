"""Association by displacement: a detection is the object that was where it came from."""

from __future__ import annotations

import numpy as np

from ctnet.plugin import Detections, Tracker, box_centres, box_sizes


class DisplacementTracker(Tracker):
    """Gives a detection the identity of the nearest object of its class to where it says it came from.

    Detections choose one after the other, the highest score first. One that is further from every object than
    its own size, or the object's, continues none.

    Unlike association by overlap it continues objects by sure detections alone: what the network sees of the
    last frame would otherwise confirm itself.

    Source: Zhou, Koltun, Krähenbühl, "Tracking Objects as Points", 2020, section 4.3.
    """

    LOW = 1.0

    def match(self, objects: Detections, found: Detections) -> tuple[np.ndarray, np.ndarray]:
        """Rows of objects, and rows of detections that continue them; see ``Tracker.match``."""
        centres = box_centres(np.asarray(objects.boxes, np.float64))
        areas, own = (_areas(record) for record in (objects, found))
        olds, news = [], []
        free = np.ones(len(objects), bool)
        for row in range(len(found)):
            distance = ((centres - found.before[row]) ** 2).sum(axis=1)
            near = free & (distance <= np.minimum(areas, own[row])) & (objects.labels == found.labels[row])
            if near.any():
                best = int(np.where(near, distance, np.inf).argmin())
                free[best] = False
                olds.append(best)
                news.append(row)
        return np.array(olds, np.int64), np.array(news, np.int64)


def _areas(record: Detections) -> np.ndarray:
    """(N,) square pixels."""
    areas: np.ndarray = np.maximum(box_sizes(np.asarray(record.boxes, np.float64)), 0).prod(axis=1)
    return areas
