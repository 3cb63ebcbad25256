"""How a task sees a video: the frame before, a heatmap of what was found there, and who is who.

A task that declares nothing sees every image alone. One that declares ``Frames(count=2, ...)`` is shown two
images at once, and planes with the objects of the earlier one: in training from annotations, in prediction
from what its tracker follows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctnet.base.schema import shorten
from ctnet.core.boxes import box_radius, clip_boxes
from ctnet.core.fields import Columns, Field, Fields
from ctnet.core.records import Instances
from ctnet.core.targets import Peaks
from ctnet.core.tracking import Tracker
from ctnet.heatmap.gaussian import draw_gaussians
from ctnet.ops.boxes import box_centres, box_sizes

#: What planes are divided by: they are almost empty, and as large as the image's channels only then.
PLANE_STD = 0.1


@dataclass(frozen=True, kw_only=True)
class Identity(Field):
    """Who an object is within its video: a column (N,) int64, a whole number from 0, or -1 where unknown.

    No two objects of a frame have the same. No network predicts it: a tracker assigns it.
    """

    needed: Any = "never"
    measured: bool = False

    def error(self, value: Any, found: bool = False, image: Mapping[str, Any] | None = None) -> str | None:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53:
            return f"is {shorten(value)}, not a whole number from 0"
        return None

    def read(self, name: str, values: Sequence[Any], found: bool = False) -> dict[str, np.ndarray]:
        return {name: np.array([-1 if value is None else value for value in values], np.int64)}

    def write(self, name: str, columns: Columns, found: bool = False) -> list[Any]:
        return [None if value < 0 else int(value) for value in np.asarray(columns[name]).tolist()]

    def distance(self, name: str, truth: Columns, found: Columns) -> np.ndarray:
        known = np.asarray(truth[name]) >= 0
        distance: np.ndarray = (known & (np.asarray(found[name]) != truth[name])).astype(np.float64)
        return distance


@dataclass(frozen=True)
class Frames:
    """What a task is shown of a video, see ``Task.frames``.

    With two frames the network's input has 3 channels of this image, 3 of the earlier one, and ``planes``:
    Gaussians at the centres of the earlier frame's boxes, see ``prior_planes``. The first frame of a stream
    is shown with itself as the earlier one, and empty planes; so is any single image.

    Attributes:
        count: 1, or 2 for this image and the one before.
        planes: channels with the earlier objects: 0 for none, 1 for all in one, or one per class.
        link: (instances, earlier boxes (N, 4) float32 xyxy, NaN where unknown) -> the instances with the
            columns that follow from where they were; all on the output grid.
        tracker: (task, lowest score of a new object) -> what follows the objects of a stream; None: objects
            are followed only where that is asked for, by their overlap.
        reach: frames between the two of a training pair, at most.
        missed, false, jitter: noise on the planes in training: the fraction of objects left out, the number
            of false ones per object, and the standard deviation of centres in sizes of the box.
        shift, zoom: how the earlier view of a still image differs: largest shift as a fraction of the input,
            and largest change of scale.

    Raises:
        ValueError: for a number out of range.

    Source: Zhou, Koltun, Krähenbühl, "Tracking Objects as Points", 2020, sections 4.1, 4.4 and 4.5.
    """

    count: int = 1
    planes: int = 0
    link: Callable[[Instances, np.ndarray], Instances] | None = None
    tracker: Callable[[Any, float], Tracker] | None = None
    reach: int = 3
    missed: float = 0.4
    false: float = 0.1
    jitter: float = 0.05
    shift: float = 0.1
    zoom: float = 0.05

    def __post_init__(self) -> None:
        if self.count not in (1, 2) or self.planes < 0 or (self.planes and self.count == 1):
            raise ValueError(f"frames are 1 or 2, and planes belong to 2; got {self.count}, {self.planes}")
        if self.reach < 1 or not 0 <= self.missed <= 1 or min(self.false, self.jitter, self.shift) < 0:
            raise ValueError(f"reach, noise or shift of {self} is out of range")

    @property
    def inputs(self) -> int:
        """Channels of the network's input."""
        return 3 * self.count + self.planes


def prior_planes(boxes: np.ndarray, labels: np.ndarray, planes: int, size: tuple[int, int]) -> np.ndarray:
    """The planes that show the network where the objects of the earlier frame were.

    Args:
        boxes: (N, 4) xyxy, pixels of the input.
        labels: (N,) int64; chooses the plane where there are several.
        planes: how many.
        size: (width, height) of the input, pixels.

    Returns:
        (H, W, planes) uint8: 255 at the centre of a box, falling off with the Gaussian of its size.
    """
    width, height = size
    shown = clip_boxes(np.asarray(boxes, np.float32).reshape(-1, 4), width, height)
    seen = (shown[:, 2:] > shown[:, :2]).all(axis=1)
    shown, labels = shown[seen], np.asarray(labels, np.int64)[seen]
    channel = labels if planes > 1 else np.zeros_like(labels)
    peaks = Peaks.of(box_centres(shown), box_radius(box_sizes(shown), "official"), channel)
    drawn = draw_gaussians(peaks, (1, planes, height, width))[0]
    made: np.ndarray = (255 * drawn).round().byte().permute(1, 2, 0).contiguous().numpy()
    return made


def noisy_prior(
    rng: np.random.Generator, boxes: np.ndarray, labels: np.ndarray, frames: Frames
) -> tuple[np.ndarray, np.ndarray]:
    """Boxes and labels of the earlier frame as a detector might have found them: missed, false, moved.

    Args:
        rng: the only source of randomness.
        boxes: (N, 4) float32 xyxy.
        labels: (N,) int64.
        frames: the strengths.

    Source: section 4.4.
    """
    sides = boxes[:, 2:] - boxes[:, :2]
    kept = rng.random(len(boxes)) >= frames.missed
    moved = boxes + np.tile(rng.normal(0, frames.jitter, sides.shape) * sides, 2)
    count = rng.binomial(len(boxes), min(frames.false, 1.0))
    rows = rng.integers(0, max(len(boxes), 1), count)
    beside = boxes[rows] + np.tile(rng.uniform(-2, 2, (count, 2)) * sides[rows], 2)
    return (
        np.concatenate([moved[kept], beside]).astype(np.float32),
        np.concatenate([labels[kept], labels[rows]]),
    )


def identity_of(fields: Fields) -> str | None:
    """The name of the field that says who an object is; None for a task without."""
    return next((name for name, field in fields.items() if isinstance(field, Identity)), None)


def earlier_rows(now: np.ndarray, before: np.ndarray) -> np.ndarray:
    """(N,) int64: for each identity the row of the same in the earlier frame, -1 where there is none.

    Args:
        now, before: (N,), (M,) int64 identities; -1 is nobody's.
    """
    place = {value: row for row, value in enumerate(np.asarray(before).tolist()) if value >= 0}
    return np.array([place.get(value, -1) for value in np.asarray(now).tolist()], np.int64)
