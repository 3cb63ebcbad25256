"""One video through a detector, frame by frame: what the network is shown of the past, and who is who."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ctnet.base.errors import CtnetError
from ctnet.core.frames import prior_planes
from ctnet.core.records import Detections
from ctnet.core.task import Task
from ctnet.core.tracking import OverlapTracker, Tracker
from ctnet.inference.preprocessing import Prepared, Views
from ctnet.inference.settings import SCORE

if TYPE_CHECKING:
    from ctnet.inference.found import ImageDetections

#: Mean absolute difference of two frames' thumbnails, 0 to 255, above which there is a cut between them.
CUT = 40.0
_THUMBNAIL = (16, 16)


class Following:
    """What is known of one stream: the last frame, and the objects in it.

    Following starts over, with new identities, where the frame shows another scene than the last one (a cut:
    thumbnails of 16x16 pixels differ by more than ``CUT`` on average), where its size changes, and after
    ``reset`` (a live stream was interrupted). Over frames that are missing (``skip``) objects are followed as
    over frames in which they are hidden.

    Args:
        task: whose detections are followed.
        birth: lowest score of a new object; 0.3 when None.
        by_overlap: associate by overlap, even where the task declares a tracker of its own.
    """

    def __init__(self, task: Task, birth: float | None = None, by_overlap: bool = False) -> None:
        own = None if by_overlap else task.frames.tracker
        score = SCORE if birth is None else birth
        self._task = task
        self.tracker: Tracker = OverlapTracker(task, score) if own is None else own(task, score)
        self._last: tuple[np.ndarray, ...] | None = None
        self._size = (0, 0)
        self._thumbnail: np.ndarray | None = None

    def views(self, views: Views) -> Views:
        """The views of the next frame as the network takes them, with the last frame and its objects.

        Args:
            views: those of the frame alone, from ``Detector.prepares``.
        """
        size = (views[0].info.width, views[0].info.height)
        thumbnail = _thumbnail_of(views[0].input)
        if size != self._size or (self._thumbnail is not None and is_cut(self._thumbnail, thumbnail)):
            self.reset()
        self._size, self._thumbnail = size, thumbnail
        frames = self._task.frames
        if frames.count == 1:
            return views
        shown = [view for view in views if isinstance(view, Prepared)]
        images = tuple(view.input[:, :, :3] for view in shown)
        last, self._last = self._last, images
        if last is None:
            return views
        prior = self.tracker.prior
        filled = []
        for view, image, before in zip(shown, images, last, strict=True):
            height, width = image.shape[:2]
            boxes = np.zeros((0, 4)) if prior is None else view.affine.boxes(np.asarray(prior.boxes))
            labels = np.zeros(0, np.int64) if prior is None else prior.labels
            planes = prior_planes(boxes, labels, frames.planes, (width, height))
            filled.append(replace(view, input=np.concatenate([image, before, planes], axis=2)))
        return tuple(filled)

    def update(self, found: Detections) -> Detections:
        """The detections of the frame with the column ``track_id`` (N,) int64, -1 for none.

        Args:
            found: best first, in image pixels.
        """
        return self.tracker.update(found)

    def skip(self, frames: int = 1) -> None:
        """So many frames of the stream were lost."""
        self.tracker.skip(frames)

    def reset(self) -> None:
        """What comes next shows nothing of what was there before."""
        self.tracker.reset()
        self._last = self._thumbnail = None


def is_cut(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether two thumbnails (H, W, 3) float32 are of different scenes."""
    return float(np.abs(before - after).mean()) > CUT


def _thumbnail_of(image: np.ndarray) -> np.ndarray:
    import cv2

    shown = np.ascontiguousarray(image[:, :, :3])
    return np.asarray(cv2.resize(shown, _THUMBNAIL, interpolation=cv2.INTER_AREA), np.float32)


@dataclass(frozen=True)
class StreamFrame:
    """A frame of a stream and what was found in it.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        name: the frame's name, as in ``images.json``.
        detections: the objects that are followed, best first, with the column ``track_id``.
    """

    image: np.ndarray
    name: str
    detections: ImageDetections


def require_stream(task: Task, tiles: int | None) -> None:
    """Refuse tiles for a task that sees two frames.

    Raises:
        CtnetError: for tiles.
    """
    if task.frames.count > 1 and tiles is not None:
        raise CtnetError(
            f"task {task.name} sees two frames at once, which are not cut into tiles; leave out --tiles"
        )
