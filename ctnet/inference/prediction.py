"""Prediction: detect in sources, draw the detections, write COCO results."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ctnet.base.ahead import ahead
from ctnet.base.errors import CtnetError
from ctnet.base.files import write_json
from ctnet.base.progress import track
from ctnet.core.documents import results_of
from ctnet.core.records import Detections, ImageInfo
from ctnet.core.tracking import TRACK
from ctnet.data.images import IMAGE_SUFFIXES
from ctnet.inference.camera import Camera
from ctnet.inference.detector import Detector
from ctnet.inference.following import Following
from ctnet.inference.preprocessing import PIXELS_AT_ONCE, Views
from ctnet.inference.settings import DetectionSettings
from ctnet.inference.sources import Frame, Source
from ctnet.inference.thresholds import calibrated
from ctnet.inference.tracks import TrackWriter
from ctnet.report.videos import VideoFile
from ctnet.report.writing import write_image

#: Files that an error names at most: one line is to stay readable.
_NAMED = 3


@dataclass
class Prediction:
    """The outcome of ``predict``.

    Attributes:
        folder: folder of the pictures and JSON files.
        images: one {"id", "file_name", "source", "width", "height", "picture"} per image; the picture is the
            path of the drawn picture or video, relative to the folder, or None.
        results: COCO results of all images, each with its "category_name", and its "track_id" where objects
            are followed.
        pictures: the drawn files.
        frames: number of frames of each video.
        tracks: files with the tracks of each video, where objects are followed.
        best_score: highest score of any detection, also of those below the threshold.
        problems: images that could not be read, and why.
        notes: anything else the user should know: images that look black, videos that browsers cannot play.
        interrupted: whether Ctrl-C ended it (a camera has no other end); everything until then is kept.
    """

    folder: Path
    images: list[dict[str, Any]] = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)
    pictures: list[Path] = field(default_factory=list)
    frames: list[int] = field(default_factory=list)
    tracks: list[Path] = field(default_factory=list)
    best_score: float = 0.0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    interrupted: bool = False


def predict(
    detector: Detector,
    sources: Sequence[Source],
    folder: Path,
    settings: DetectionSettings | None = None,
    batch_size: int = 8,
    draw: bool = True,
    camera: Camera | None = None,
    track_objects: bool = False,
) -> Prediction:
    """Detect in all images of the sources, draw them, and write ``results.json`` and ``images.json``.

    Where objects are followed, every video also gets a text file in MOTChallenge's format, and the pictures
    show numbers and trails.

    Args:
        detector: the detector.
        sources: see ``open_sources``.
        folder: created if missing; gets a picture per image (a video per video) and the two JSON files.
        settings: test-time settings; by default with the thresholds of ``detector.thresholds()``.
        batch_size: images per forward pass.
        draw: False writes only the JSON files.
        camera: the camera of all images, for tasks that need one.
        track_objects: follow objects by their overlap; a task with a tracker of its own always follows them.

    Raises:
        CtnetError: when the folder is not writable, a picture would overwrite an input image, or no image
            could be read.
    """
    done, names = Prediction(folder), _Names(sources)
    settings = settings or DetectionSettings()
    thresholds = detector.thresholds(settings.score)
    calibration = detector.calibration if settings.calibrated else None
    # Thresholds are applied below, so that the best score is known when nothing reaches it.
    own = detector.task.frames.tracker is not None
    look = _Look(
        detector,
        replace(settings, score=0.0, calibrated=False),
        1 if detector.task.frames.count > 1 else batch_size,
        camera or Camera(),
        partial(Following, detector.task, thresholds.lowest, track_objects) if own or track_objects else None,
    )

    def kept(found: Detections, followed: bool) -> Detections:
        return calibrated(found if followed else thresholds.kept(found), calibration, detector.class_names)

    try:
        for source in sources:
            _predict_source(source, look, done, names, draw, kept)
    except KeyboardInterrupt:
        done.interrupted = True
    if not done.images and not done.interrupted:
        raise _nothing_read([*done.problems, *done.notes])
    write_json(folder / "images.json", done.images)
    write_json(folder / "results.json", done.results, indent=None)
    return done


def _predict_source(
    source: Source,
    look: _Look,
    done: Prediction,
    names: _Names,
    draw: bool,
    kept: Callable[[Detections, bool], Detections],
) -> None:
    """Detect in a source; what was found is added to ``done``, also when it is interrupted.

    Args:
        source, look, done, names: see ``predict``.
        draw: whether pictures are drawn.
        kept: (detections, whether they are followed) -> those that are written.
    """
    detector, folder, before = look.detector, done.folder, len(done.images)
    writer = _writer(folder, source, names) if draw else None
    followed = TrackWriter(folder, source, names.free) if look.follow is not None else None
    try:
        frames = track(source, f"detecting in {source.name}", total=source.length)
        for image, name, record, detections in look.detected(frames, done, followed):
            info = ImageInfo(len(done.images) + 1, name, image.shape[1], image.shape[0], record)
            done.best_score = max(done.best_score, *detections.scores.tolist(), 0.0)
            detections = kept(detections, followed is not None)
            _record(done, detector, source, info, detections)
            if writer is not None:
                drawn = detector.task.draw(image, detections, info)
                drawn = drawn if followed is None else followed.draw(drawn, detections)
                done.images[-1]["picture"] = writer.write(name, drawn).relative_to(folder).as_posix()
    finally:
        if source.is_video and len(done.images) > before:
            done.frames.append(len(done.images) - before)
        done.tracks += followed.close() if followed is not None else []
        if writer is not None:
            done.pictures += writer.close()
            done.notes += [writer.note] if writer.note else []


def _nothing_read(problems: Sequence[str]) -> CtnetError:
    named = f": {'; '.join(problems[:_NAMED])}" if problems else ""
    more = f" (and {len(problems) - _NAMED} more)" if len(problems) > _NAMED else ""
    return CtnetError(f"no image could be read{named}{more}")


def _record(
    done: Prediction, detector: Detector, source: Source, info: ImageInfo, detections: Detections
) -> None:
    names = {"file_name": info.file_name, "source": source.name}
    size = {"width": info.width, "height": info.height}
    done.images.append({"id": info.image_id, **names, **size, "picture": None})
    entries = results_of(detector.task, info.image_id, detections)
    for entry, label in zip(entries, detections.labels, strict=True):
        entry["category_name"] = detector.class_names[label]
    for entry, identity in zip(entries, detections.extra.get(TRACK, ()), strict=False):
        entry[TRACK] = int(identity)
    done.results += entries


@dataclass(frozen=True)
class _Group:
    """Frames for one batch, the records of those that could be read, and these prepared for the network."""

    frames: list[Frame]
    records: list[dict[str, Any]]
    views: list[Views]


@dataclass(frozen=True)
class _Look:
    """Detects in frames: a group is read and resized while the network has the one before it."""

    detector: Detector
    settings: DetectionSettings
    batch_size: int
    camera: Camera
    follow: Callable[[], Following] | None = None

    def detected(
        self, frames: Iterator[Frame], done: Prediction, followed: TrackWriter | None = None
    ) -> Iterator[tuple[np.ndarray, str, dict[str, Any], Detections]]:
        """Each image with its name, record and detections; problems and notes are added to ``done``.

        Where objects are followed, only the detections that are: their tracks are added to ``followed``.
        """
        streams = None if self.follow is None else _Streams(self.follow, followed)
        with closing(ahead(self._groups(frames), self.detector.reads_ahead)) as groups:
            for group in groups:
                done.problems += [frame.problem for frame in group.frames if frame.problem]
                done.notes += [frame.note for frame in group.frames if frame.note]
                if streams is not None:
                    yield from self._followed(group, streams)
                    continue
                good = [(frame.image, frame.name) for frame in group.frames if frame.image is not None]
                found = self.detector.found(group.views, self.settings, self.batch_size)
                for (image, name), record, detections in zip(good, group.records, found, strict=True):
                    yield image, name, record, detections

    def _followed(
        self, group: _Group, streams: _Streams
    ) -> Iterator[tuple[np.ndarray, str, dict[str, Any], Detections]]:
        """A group's frames, one after the other, with the objects that are followed.

        What the network is shown may depend on the frame before: then every frame is a group of its own.
        """
        alone = self.detector.task.frames.count > 1
        readable = [frame for frame in group.frames if frame.image is not None]
        if alone:
            views = [streams.of(frame).views(one) for frame, one in zip(readable, group.views, strict=True)]
            found = self.detector.found(views, self.settings, 1)
        else:
            found = self.detector.found(group.views, self.settings, self.batch_size)
        taken = iter(zip(group.records, found, group.views, strict=True))
        for frame in group.frames:
            if frame.image is None:
                streams.lost(frame)
                continue
            record, detections, one = next(taken)
            if not alone:
                streams.of(frame).views(one)  # where it notices cuts and changes of size
            yield frame.image, frame.name, record, streams.update(frame, detections)

    def _groups(self, frames: Iterator[Frame]) -> Iterator[_Group]:
        preprocess = self.detector.prepares(self.settings)
        for group in _groups(frames, self.batch_size):
            records: list[dict[str, Any]] = []
            views: list[Views] = []
            for frame in group:
                if frame.image is not None:
                    height, width = frame.image.shape[:2]
                    records.append(self.camera.record(frame.name, width, height))
                    info = ImageInfo(len(views), "", width, height, records[-1])
                    views.append(preprocess.views(frame.image, info, self.settings.scales))
            yield _Group(group, records, views)


def _groups(frames: Iterator[Frame], batch_size: int) -> Iterator[list[Frame]]:
    """Frames for one batch: ``batch_size``, or fewer if they are large."""
    group: list[Frame] = []
    pixels = 0
    for frame in frames:
        group.append(frame)
        pixels += 0 if frame.image is None else frame.image.shape[0] * frame.image.shape[1]
        if len(group) == batch_size or pixels >= PIXELS_AT_ONCE:
            yield group
            group, pixels = [], 0
    if group:
        yield group


class _Streams:
    """The videos of one source, one after the other: images of a folder are the frames of a video.

    Args:
        follow: begins to follow a video.
        writer: is told what was followed.
    """

    def __init__(self, follow: Callable[[], Following], writer: TrackWriter | None) -> None:
        self._follow, self._writer = follow, writer
        self._folder: str | None = None
        self._stream: Following | None = None
        self._number = 0

    def of(self, frame: Frame) -> Following:
        """The video that a frame belongs to; another folder is another video."""
        folder = Path(frame.name).parent.as_posix()
        if self._stream is None or folder != self._folder:
            self._stream, self._folder, self._number = self._follow(), folder, 0
        return self._stream

    def lost(self, frame: Frame) -> None:
        """A frame could not be read, or the stream was interrupted."""
        if self._stream is not None and frame.problem:
            self._stream.skip()
            self._number += 1
        elif self._stream is not None:
            self._stream.reset()

    def update(self, frame: Frame, detections: Detections) -> Detections:
        """The objects that are followed in a frame."""
        found = self.of(frame).update(detections)
        found = found[found.extra[TRACK] >= 0]
        self._number += 1
        if self._writer is not None:
            self._writer.add(self._folder or "", self._number, found)
        return found


class _Names:
    """Unique names for pictures, on case-insensitive file systems too; never the name of an input image."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._inputs = {os.path.realpath(path) for source in sources for path in source.files}
        self._taken: set[str] = set()

    def free(self, path: Path) -> Path:
        """This path, with a number appended if an earlier picture uses it."""
        candidate, number = path, 1
        while str(candidate).casefold() in self._taken:
            number += 1
            candidate = path.with_name(f"{path.stem}_{number}{path.suffix}")
        if os.path.realpath(candidate) in self._inputs:
            raise CtnetError(
                f"{candidate} is an input image, which its picture would overwrite; choose another --output"
            )
        self._taken.add(str(candidate).casefold())
        return candidate


class _Writer(Protocol):
    """Stores the pictures drawn for one source."""

    note: str

    def write(self, name: str, image: np.ndarray) -> Path: ...
    def close(self) -> list[Path]: ...


def _writer(folder: Path, source: Source, names: _Names) -> _Writer:
    if not source.is_video:
        return _PictureFiles(folder, names)
    return VideoFile(names.free(folder / f"{source.stem}.mp4"), source.rate)


class _PictureFiles:
    """A PNG or JPEG for every image."""

    note = ""

    def __init__(self, folder: Path, names: _Names) -> None:
        self.folder, self.names = folder, names
        self.paths: list[Path] = []

    def write(self, name: str, image: np.ndarray) -> Path:
        path = self.folder / name
        if path.suffix.lower() not in (".jpg", ".jpeg", ".png"):
            # The name of a page or frame may contain a dot that does not start a suffix.
            ends = path.suffix.lower() in IMAGE_SUFFIXES
            path = path.with_suffix(".png") if ends else path.with_name(f"{path.name}.png")
        path = self.names.free(path)
        write_image(path, image)
        self.paths.append(path)
        return path

    def close(self) -> list[Path]:
        return self.paths
