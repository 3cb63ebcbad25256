"""``ctnet predict``: sources in, drawn pictures and COCO results out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from ctnet.errors import CtnetError
from ctnet.files import write_json
from ctnet.inference.detector import Detector, Resize
from ctnet.inference.sources import Frame, Source
from ctnet.progress import track
from ctnet.records import Detections
from ctnet.report.writing import write_image


@dataclass
class Prediction:
    """What ``predict`` did.

    Attributes:
        folder: where pictures and results lie.
        images: one {"id", "file_name", "width", "height"} per image.
        results: COCO results of all images.
        pictures: the files that were drawn.
        problems: images that could not be read, and why.
    """

    folder: Path
    images: list[dict[str, Any]] = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)
    pictures: list[Path] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def predict(
    detector: Detector,
    sources: Sequence[Source],
    folder: Path,
    *,
    score: float = 0.3,
    topk: int = 100,
    resize: Resize = "fix",
    size: tuple[int, int] | None = None,
    batch_size: int = 8,
    draw: bool = True,
) -> Prediction:
    """Detect in all images of sources; draw those above a score; write ``results.json`` and ``images.json``.

    Args:
        detector: what detects.
        sources: see ``open_source``.
        folder: is made; gets a picture per image (a video per video) and the two JSON files.
        score: lowest score that is drawn and written.
        topk, resize, size, batch_size: see ``Detector.__call__``.
        draw: False writes the JSON files alone.

    Raises:
        CtnetError: when the folder cannot be written.
    """
    done = Prediction(folder)
    for source in sources:
        video = _VideoFile(folder / f"{_stem(source)}.mp4", source.rate) if source.is_video and draw else None
        frames = track(source, f"detecting in {source.name}", total=source.length)
        for frame, detections in _detected(detector, frames, done, batch_size, topk, resize, size):
            kept = detections.above(score)
            image_id = len(done.images) + 1
            height, width = frame.image.shape[:2]  # type: ignore[union-attr]
            done.images.append({"id": image_id, "file_name": frame.name, "width": width, "height": height})
            done.results += detector.task.results(image_id, kept)
            if not draw:
                continue
            drawn = detector.task.draw(frame.image, kept)  # type: ignore[arg-type]
            if video is not None:
                video.write(drawn)
            else:
                done.pictures.append(_free(folder / frame.name, done.pictures))
                write_image(done.pictures[-1], drawn)
        if video is not None:
            video.close()
            done.pictures.append(video.path)
    write_json(folder / "images.json", done.images)
    write_json(folder / "results.json", done.results, indent=None)
    return done


def _detected(
    detector: Detector,
    frames: Iterator[Frame],
    done: Prediction,
    batch_size: int,
    topk: int,
    resize: Resize,
    size: tuple[int, int] | None,
) -> Iterator[tuple[Frame, Detections]]:
    for _, chunk in groupby(enumerate(frames), key=lambda numbered: numbered[0] // batch_size):
        group = [frame for _, frame in chunk]
        done.problems += [frame.problem for frame in group if frame.image is None]
        good = [frame for frame in group if frame.image is not None]
        found = detector([frame.image for frame in good], topk, resize, size, batch_size)  # type: ignore[misc]
        yield from zip(good, found, strict=True)


def _stem(source: Source) -> str:
    return f"camera{source.name}" if source.name.isdigit() else Path(source.name).stem


def _free(path: Path, taken: Sequence[Path]) -> Path:
    """A picture of this name as PNG or JPEG, that no other picture of this call has."""
    suffix = path.suffix.lower() if path.suffix.lower() in (".jpg", ".jpeg", ".png") else ".png"
    candidate, number = path.with_suffix(suffix), 1
    while candidate in taken:
        number += 1
        candidate = path.with_name(f"{path.stem}_{number}{suffix}")
    return candidate


class _VideoFile:
    """Writes frames to an MP4; the first frame sets the size."""

    def __init__(self, path: Path, rate: float) -> None:
        self.path, self.rate = path, rate
        self._writer: Any = None

    def write(self, image: np.ndarray) -> None:
        import cv2

        if self._writer is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            size = (image.shape[1], image.shape[0])
            code = cv2.VideoWriter.fourcc(*"mp4v")
            self._writer = cv2.VideoWriter(str(self.path), code, self.rate, size)
            if not self._writer.isOpened():
                raise CtnetError(f"cannot write {self.path}; is the folder writable?")
        self._writer.write(np.ascontiguousarray(image[:, :, ::-1]))

    def close(self) -> None:
        if self._writer is not None:
            self._writer.release()
