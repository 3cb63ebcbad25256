"""Where images come from: files, folders, videos, cameras."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ctnet.base.errors import CtnetError
from ctnet.base.files import require_regular
from ctnet.base.numbers import whole_number
from ctnet.data.images import IMAGE_SUFFIXES, ImageError, name_for_opencv, read_image

#: Frames that cannot be read after which a video is taken to be at its end.
_BROKEN_IN_A_ROW = 100

_LAST_CAMERA = 2**31 - 1

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")


@dataclass(frozen=True)
class Frame:
    """One image of a source.

    Attributes:
        image: (H, W, 3) uint8, RGB; None when it could not be read (``problem`` says why).
        name: of the file, relative to the folder that was named; of a video, with the frame's number.
        problem: what went wrong.
    """

    image: np.ndarray | None
    name: str
    problem: str = ""


@dataclass(frozen=True)
class Source:
    """Frames in order.

    Attributes:
        name: what the user wrote.
        is_video: True for a video file or a camera.
        length: number of frames, where that is known.
        rate: frames per second of a video.
        paths: the files of a source of images.
    """

    name: str
    is_video: bool
    length: int | None
    rate: float = 25.0
    paths: tuple[tuple[Path, str], ...] = ()

    def __iter__(self) -> Iterator[Frame]:
        return self._video_frames() if self.is_video else self._image_frames()

    def _image_frames(self) -> Iterator[Frame]:
        for path, name in self.paths:
            try:
                yield Frame(read_image(path), name)
            except ImageError as error:
                yield Frame(None, name, str(error))

    def _video_frames(self) -> Iterator[Frame]:
        capture = _capture(self.name)
        stem = Path(self.name).stem if whole_number(self.name) is None else f"camera{self.name}"
        number = broken = 0  # broken: frames in a row that could not be read
        try:
            while True:
                good, bgr = capture.read()
                if good:
                    if broken:
                        which = f"{number - broken} to {number - 1}" if broken > 1 else f"{number - 1}"
                        yield Frame(None, self.name, f"{self.name}: frame {which} cannot be read")
                    yield Frame(np.ascontiguousarray(bgr[:, :, ::-1]), f"{stem}_{number:06d}")
                    broken = 0
                elif self.length and number < self.length and broken < _BROKEN_IN_A_ROW:
                    broken += 1
                else:
                    break
                number += 1
            if self.length and number - broken < self.length:
                ending = f"{self.name} ends after {number - broken} of {self.length} frames"
                yield Frame(None, self.name, ending)
        finally:
            capture.release()


def open_source(text: str) -> Source:
    """Open what a user named: an image, a folder of images (searched deeply), a video, a camera's number.

    Raises:
        CtnetError: when it does not exist, holds no image, or cannot be played.
    """
    path = Path(text)
    if whole_number(text) is not None and not path.exists():
        return _video(text)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
        if not files:
            raise CtnetError(f"{path} holds no image ({', '.join(IMAGE_SUFFIXES)})")
        return Source(text, False, len(files), paths=tuple((f, str(f.relative_to(path))) for f in files))
    if path.exists():
        require_regular(path)
    else:
        raise CtnetError(f"{path} does not exist; name an image, a folder, a video or a camera's number")
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return _video(text)
    return Source(text, False, 1, paths=((path, path.name),))


def open_sources(texts: Sequence[str]) -> list[Source]:
    """Open several sources; all are checked before any is read."""
    return [open_source(text) for text in texts]


def _video(text: str) -> Source:
    import cv2

    capture = _capture(text)
    frames = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    rate = float(capture.get(cv2.CAP_PROP_FPS)) or 25.0
    capture.release()
    return Source(text, True, frames if frames > 0 else None, rate)


def _capture(text: str):  # type: ignore[no-untyped-def]
    import cv2

    number = whole_number(text)
    capture = cv2.VideoCapture(name_for_opencv(text) if number is None else min(number, _LAST_CAMERA))
    if not capture.isOpened():
        what = text if number is None else f"camera {text}"
        raise CtnetError(f"cannot play {what}; is it a whole video file, or a camera that exists?")
    return capture
