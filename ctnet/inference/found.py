"""What a detector found in one image, with what makes it easy to use: names, a picture, tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ctnet.base.errors import CtnetError
from ctnet.base.output import counted
from ctnet.core.fields import write_fields
from ctnet.core.records import Detections, ImageInfo
from ctnet.core.task import Task
from ctnet.inference.adapters import data_frame, supervision_detections
from ctnet.inference.pictures import Picture, as_rgb

if TYPE_CHECKING:
    import pandas
    import supervision

#: Rows that ``repr`` shows.
_SHOWN = 10


@dataclass(frozen=True, eq=False, repr=False)
class ImageDetections(Detections):
    """What a detector found in one image, best first, in pixels of that image.

    It is a sequence: ``found[0]`` is the best detection alone, ``found[found.labels == 2]`` those of a class,
    ``found.above(0.5)`` those with a score.

    Attributes:
        task: what was detected, with its categories.
        info: what is known of the image.
    """

    task: Task = field(kw_only=True)
    info: ImageInfo = field(kw_only=True)

    @classmethod
    def of(cls, detections: Detections, task: Task, info: ImageInfo) -> ImageDetections:
        """Detections with what is known of them; columns as they are."""
        own = (detections.boxes, detections.scores, detections.labels, detections.extra)
        return cls(*own, task=task, info=info)

    @property
    def names(self) -> list[str]:
        """The class name of each row."""
        return [self.task.categories.names[label] for label in self.labels]

    def clipped(self) -> ImageDetections:
        """The rows with boxes at least partly in the image, cut to it: x from 0 to its width, y likewise."""
        limits = np.array([self.info.width, self.info.height], self.boxes.dtype)
        inside = ((self.boxes[:, :2] < limits) & (self.boxes[:, 2:] > 0)).all(axis=1)
        return self.replace(boxes=np.clip(self.boxes, 0, np.tile(limits, 2)))[inside]

    def draw(self, image: Picture, bgr: bool = False) -> np.ndarray:
        """The image with the detections drawn in.

        Args:
            image: that they are of, as ``Detector`` takes it.
            bgr: an array has its channels in the order of OpenCV.

        Returns:
            A new (H, W, 3) uint8 RGB image; wider where the task shows another view beside it.

        Raises:
            CtnetError: for an image that cannot be read, or has another size.
        """
        canvas = as_rgb(image, "the image", bgr)
        height, width = canvas.shape[:2]
        if (width, height) != (self.info.width, self.info.height):
            raise CtnetError(
                f"the image is {width}x{height} pixels, but these detections are of one of "
                f"{self.info.width}x{self.info.height}; draw them on that"
            )
        return self.task.draw(canvas, self, self.info)

    def to_dicts(self) -> list[dict[str, Any]]:
        """A dictionary of plain values per row, ready for JSON.

        ``label``, ``name``, ``score``, ``box`` (x1, y1, x2, y2 in image pixels), and what the task adds under
        the keys that it has in results files (``keypoints``, say).
        """
        columns = zip(
            self.labels.tolist(), self.names, self.scores.tolist(), self.boxes.tolist(), strict=True
        )
        rows = [
            {"label": label, "name": name, "score": score, "box": box} for label, name, score, box in columns
        ]
        write_fields(self.task.fields, rows, self.fields(), found=True)
        return rows

    def to_pandas(self) -> pandas.DataFrame:
        """A table with a line per row: x1, y1, x2, y2 (pixels), score, label, name, and what the task adds.

        Raises:
            CtnetError: when pandas is not installed.
        """
        keys = [field.json.partition(".")[0] for field in self.task.fields.values() if field.json]
        return data_frame(self.to_dicts(), dict.fromkeys(keys))

    def to_supervision(self) -> supervision.Detections:
        """For the tools of supervision (tracking, zones, annotators): boxes, scores, labels, masks.

        ``data`` holds ``class_name``, the task's own columns, and four corners as oriented boxes.

        Raises:
            CtnetError: when supervision is not installed.
        """
        return supervision_detections(self, self.names, self.task.fields, (self.info.width, self.info.height))

    def __repr__(self) -> str:
        size = f"{self.info.width}x{self.info.height}"
        where = f"{self.info.file_name}, {size}" if self.info.file_name else size
        lines = [f"{counted(len(self), 'detection')} ({where})"]
        rows = zip(self.names, self.scores, self.boxes, strict=True)
        for number, (name, score, box) in enumerate(rows):
            if number == _SHOWN:
                lines.append(f"  and {len(self) - _SHOWN} more")
                break
            lines.append(f"  {name} {score:.2f} at {', '.join(f'{side:.1f}' for side in box)}")
        return "\n".join(lines)
