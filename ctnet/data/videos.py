"""Videos in a data set: which image comes before which, and pairs of views for tasks that see two frames."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ctnet.base.errors import CtnetError
from ctnet.base.schema import shorten
from ctnet.core.frames import Frames, earlier_rows, identity_of, noisy_prior, prior_planes
from ctnet.core.geometry import Affine
from ctnet.core.records import Instances, Sample
from ctnet.core.task import Task
from ctnet.data.augment import Crop, crop_instances

#: Keys of an image's entry: the video that it is a frame of, and its place there.
VIDEO, FRAME = "video_id", "frame_id"


@dataclass(frozen=True)
class Videos:
    """Which images of a data set are frames of videos, and in which order.

    Attributes:
        frames: the images' indices in the order of their frames, by video.
        numbers: index of an image -> number of the frame, for images of a video.
        stills: images that belong to no video.
    """

    frames: Mapping[int | str, Sequence[int]]
    numbers: Mapping[int, int]
    stills: Sequence[int]

    @classmethod
    def of(cls, entries: Iterable[Mapping[str, Any]], source: object) -> Videos:
        """Read them off the images' entries in a COCO file.

        Args:
            entries: in the order of the data set.
            source: the file, for messages.

        Raises:
            CtnetError: for a frame without a video or the reverse, a number that is not one, and two images
                of a video with the same number.
        """
        videos: dict[int | str, dict[int, int]] = {}
        numbers: dict[int, int] = {}
        stills = []
        for index, entry in enumerate(entries):
            video, frame = entry.get(VIDEO), entry.get(FRAME)
            if video is None and frame is None:
                stills.append(index)
                continue
            where = f"image {entry.get('id')} of {source} ({entry.get('file_name')})"
            if video is None or frame is None:
                has, lacks = (FRAME, VIDEO) if video is None else (VIDEO, FRAME)
                raise CtnetError(f"{where} has a {has} but no {lacks}; a frame of a video needs both")
            if isinstance(frame, bool) or not isinstance(frame, int):
                raise CtnetError(f"{where} has {FRAME} {shorten(frame)}; it must be a whole number")
            if isinstance(video, bool) or not isinstance(video, (int, str)):
                raise CtnetError(f"{where} has {VIDEO} {shorten(video)}; it must be a whole number or a name")
            if frame in videos.setdefault(video, {}):
                raise CtnetError(
                    f"{where} is frame {frame} of video {video}, as an earlier image is; renumber it"
                )
            videos[video][frame] = index
            numbers[index] = frame
        ordered = {video: [by[frame] for frame in sorted(by)] for video, by in videos.items()}
        return cls(ordered, numbers, stills)

    @cached_property
    def places(self) -> Mapping[int, tuple[int | str, int]]:
        """Index of an image -> its video, and its position there."""
        return {
            index: (video, position)
            for video, frames in self.frames.items()
            for position, index in enumerate(frames)
        }

    def earlier(self, index: int, reach: int) -> list[int]:
        """The images at most ``reach`` frame numbers before this one, the nearest first."""
        if index not in self.places:
            return []
        video, position = self.places[index]
        frames = self.frames[video]
        near = []
        for other in reversed(frames[:position]):
            if self.numbers[index] - self.numbers[other] > reach:
                break
            near.append(other)
        return near

    def warnings(self) -> list[str]:
        """What a user should know of them, one line each: frames out of order in the file, and gaps."""
        lines = []
        for video, frames in self.frames.items():
            if [*frames] != sorted(frames):
                lines.append(f"the frames of video {video} are not in order in the file; {FRAME} orders them")
            numbers = [self.numbers[index] for index in frames]
            step = int(np.min(np.diff(numbers))) if len(numbers) > 1 else 1
            missing = sum((gap - step) // step for gap in np.diff(numbers).tolist())
            if missing:
                lines.append(f"video {video} lacks {missing} frames between {numbers[0]} and {numbers[-1]}")
        return lines


def repeated_identities(identities: np.ndarray) -> list[int]:
    """The identities that occur more than once among the objects of an image; -1 is nobody's."""
    known, counts = np.unique(identities[identities >= 0], return_counts=True)
    repeated: list[int] = known[counts > 1].tolist()
    return repeated


@dataclass(frozen=True)
class Earlier:
    """The earlier view of a training pair, in the frame of the network's input.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        crop: how it shows its image.
        instances: its objects, in pixels of its image.
        rows: (N,) int64, the row of each of this frame's objects in ``instances``, -1 where unknown.
    """

    image: np.ndarray
    crop: Crop
    instances: Instances
    rows: np.ndarray


def earlier_view(
    rng: np.random.Generator, sample: Sample, crop: Crop, size: tuple[int, int], task: Task
) -> Earlier:
    """What the network is shown as the frame before: that of the video, or a second view of the same image.

    Args:
        rng: the only source of randomness.
        sample: with the frame before, if there is one.
        crop: how this frame is shown.
        size: (width, height) of the input, pixels.
        task: declares how much views of a still image differ, and who is who.

    Source: Zhou et al. 2020, section 4.5: training on static image data.
    """
    name, before = identity_of(task.fields), sample.previous
    if before is not None:
        rows = np.full(len(sample.instances), -1)
        if name is not None:
            now, then = (one.instances.fields()[name] for one in (sample, before))
            rows = earlier_rows(now, then)
        return Earlier(crop.affine.warp(before.image, size), crop, before.instances, rows)
    affine = _wobble(rng, size, task.frames).after(crop.affine)
    shown = Crop(affine, crop.mirrored, crop.change)
    instances = sample.instances
    return Earlier(affine.warp(sample.image, size), shown, instances, np.arange(len(instances)))


def _wobble(rng: np.random.Generator, size: tuple[int, int], frames: Frames) -> Affine:
    """A small random shift and zoom of the input about its centre."""
    zoom = 1 + rng.uniform(-frames.zoom, frames.zoom)
    shift = rng.uniform(-frames.shift, frames.shift, 2) * size
    x, y = shift + (1 - zoom) * np.array(size) / 2
    return Affine(np.array([[zoom, 0.0, x], [0.0, zoom, y]]))


def linked(task: Task, instances: Instances, earlier: Earlier, stride: int) -> Instances:
    """Instances on the grid with what follows from where they were in the earlier frame.

    Args:
        task: links them.
        instances: the objects of this frame, on the output grid.
        earlier: the other.
        stride: input pixels per output cell.
    """
    if task.frames.link is None:
        return instances
    there = crop_instances(earlier.instances, earlier.crop, task, stride).boxes
    boxes = np.full((len(instances), 4), np.nan, np.float32)
    known = earlier.rows >= 0
    boxes[known] = there[earlier.rows[known]]
    return task.frames.link(instances, boxes)


def stacked(
    rng: np.random.Generator, images: Sequence[np.ndarray], earlier: Earlier, task: Task
) -> np.ndarray:
    """The network's input of a training pair: (H, W, inputs) uint8, with a noisy heatmap of earlier objects.

    Args:
        rng: the only source of randomness.
        images: this frame's and the earlier one's input, (H, W, 3) uint8.
        earlier: its objects.
        task: declares planes and noise.
    """
    height, width = images[0].shape[:2]
    objects = earlier.instances[~earlier.instances.crowd]
    shown = earlier.crop.affine.boxes(objects.boxes)
    boxes, labels = noisy_prior(rng, shown, objects.labels, task.frames)
    planes = prior_planes(boxes, labels, task.frames.planes, (width, height))
    return np.concatenate([*images, planes], axis=2)
