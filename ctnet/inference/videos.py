"""Frames of video files and cameras: by OpenCV, or by PyAV where OpenCV lacks the codec."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from ctnet.base.errors import CtnetError
from ctnet.base.files import is_file, read_start
from ctnet.base.numbers import whole_number
from ctnet.base.pyav import EXTRA, pyav
from ctnet.data.images import name_for_opencv, silence_videos

#: Suffixes (lower case) of videos in a folder that is searched; a file named by itself may have any suffix.
# fmt: off
VIDEO_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".wmv", ".asf", ".flv", ".f4v", ".ogv", ".3gp", ".3g2",
    ".mpg", ".mpeg", ".m2v", ".vob", ".ts", ".mts", ".m2ts", ".mxf", ".mjpeg", ".mjpg", ".y4m", ".divx",
    ".h264", ".264", ".h265", ".265", ".hevc",
)
# fmt: on

#: Frames in a row that cannot be read, after which a video is taken to be at its end.
_BROKEN_IN_A_ROW = 100

_LAST_CAMERA = 2**31 - 1
_USUAL_RATE = 25.0
_HIGHEST_RATE = 240.0  # beyond it, what a file gives as its rate is the unit of its clock
_OFF_BEAT = 0.2  # of a frame: as far a time may be from a constant rate
_BINARY = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")


#: A frame's number and the frame, (H, W, 3) uint8 RGB, or a text that says what of the video cannot be read.
Numbered: TypeAlias = "tuple[int, np.ndarray | str]"


@dataclass(frozen=True)
class Video:
    """A video file that plays, or a camera.

    Attributes:
        name: the file, or a camera's number.
        length: frames that the file states; None where it states none.
        rate: frames per second.
        by_pyav: OpenCV opens it, but lacks the codec.
    """

    name: str
    length: int | None
    rate: float
    by_pyav: bool = False

    def __iter__(self) -> Iterator[Numbered]:
        """Frames in order with their numbers from 0; those that cannot be read have one too."""
        return _frames_by_pyav(self.name) if self.by_pyav else _frames(self)


def open_video(name: str) -> Video:
    """Open a video file or a camera and read a frame of it.

    Args:
        name: a file, or a camera's number.

    Raises:
        CtnetError: when it cannot be played.
    """
    if reason := _no_film(name):
        raise CtnetError(f"cannot play {name}: {reason}; name images, videos or folders")
    capture = capture_of(name)
    try:
        plays = capture.isOpened() and bool(capture.read()[0])
        opens, length, rate = capture.isOpened(), *described(capture)
    finally:
        capture.release()
    if plays:
        return Video(name, length, rate)
    if whole_number(name) is not None:
        raise CtnetError(f"cannot play camera {name}; is it a camera that exists?")
    if pyav() is not None:
        return _by_pyav(name)
    if opens:
        raise CtnetError(
            f"cannot play {name}: OpenCV opens it and reads no frame; is it whole? For more codecs: {EXTRA}"
        )
    raise CtnetError(f"cannot play {name}; is it a whole video file, or a camera that exists?")


def _no_film(name: str) -> str:
    """Why a file cannot be a video; empty where it may be one. FFmpeg would play some texts."""
    if not is_file(name):
        return ""
    start = read_start(name, 4096)
    if not start:
        return "it is empty"
    if start.startswith(b"#EXTM3U"):  # a playlist
        return ""
    try:
        start.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.end < len(start):
            return ""
    return "" if _BINARY.search(start) else "it is a text file"


def capture_of(name: str, settings: tuple[int, ...] = ()) -> Any:
    """OpenCV's reader of a file, a camera's number or an address, which says nothing on stderr."""
    import cv2

    silence_videos()
    number = whole_number(name)
    if number is not None:
        return cv2.VideoCapture(min(number, _LAST_CAMERA))
    if settings:
        return cv2.VideoCapture(name, cv2.CAP_FFMPEG, list(settings))
    return cv2.VideoCapture(name_for_opencv(name))


def described(capture: Any) -> tuple[int | None, float]:
    """Frames (None where unknown) and frames per second of an opened video."""
    import cv2

    frames, rate = capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS)
    return int(frames) if frames > 0 else None, rate_or_usual(rate)


def rate_or_usual(rate: float) -> float:
    """A rate that a video can have: files may state 0, or the unit of their clock."""
    return float(rate) if 0 < rate <= _HIGHEST_RATE else _USUAL_RATE


def _frames(video: Video) -> Iterator[Numbered]:
    import cv2

    capture = capture_of(video.name)
    is_camera = whole_number(video.name) is not None
    patience = 1 if is_camera else _BROKEN_IN_A_ROW
    number = broken = 0  # broken: frames in a row that could not be read
    seconds: list[float] = []
    try:
        while broken < patience:
            good, bgr = capture.read()
            if not good:
                broken += 1
                continue
            if broken:
                yield number, _unreadable(video.name, number, broken)
            number += broken
            broken = 0
            seconds.append(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
            yield number, np.ascontiguousarray(bgr[:, :, ::-1])
            number += 1
    finally:
        capture.release()
    if video.length and len(seconds) < video.length and not is_camera:
        for text in _missing(video, number, seconds):
            yield number, text


def _unreadable(name: str, first: int, count: int) -> str:
    which = f"frame {first}" if count == 1 else f"frames {first} to {first + count - 1}"
    return f"{name}: {which} cannot be read"


def _missing(video: Video, read: int, seconds: list[float]) -> Iterator[str]:
    """What became of frames that a file states and that were not read, by the times of the others."""
    assert video.length is not None
    if not seconds or seconds[-1] < (video.length - 1.5) / video.rate:
        yield f"{video.name} ends after {read} of {video.length} frames"
        return
    places = [(moment - seconds[0]) * video.rate for moment in seconds]
    is_steady = all(abs(place - round(place)) < _OFF_BEAT for place in places)
    gaps = sorted(set(range(round(max(places)))) - {round(place) for place in places})
    if is_steady and len(gaps) == video.length - read:  # OpenCV passed over these
        for number in gaps:
            yield _unreadable(video.name, number, 1)


def _by_pyav(name: str) -> Video:
    av = pyav()
    try:
        with av.open(name) as container:
            if not container.streams.video:
                raise CtnetError(f"cannot play {name}: there are no pictures in it")
            stream = container.streams.video[0]
            length, rate = stream.frames, float(stream.average_rate or 0)
    except (OSError, ValueError) as error:
        raise CtnetError(f"cannot play {name}; is it a whole video file, or a camera that exists?") from error
    video = Video(name, length or None, rate_or_usual(rate), by_pyav=True)
    if not any(isinstance(frame, np.ndarray) for _, frame in video):
        raise CtnetError(f"cannot play {name}: no frame of it can be read; copy it again")
    return video


def _frames_by_pyav(name: str) -> Iterator[Numbered]:
    number = 0
    try:
        with pyav().open(name) as container:
            container.streams.video[0].thread_type = "AUTO"
            for packet in container.demux(video=0):
                try:
                    frames = packet.decode()
                except (OSError, ValueError):
                    yield number, _unreadable(name, number, 1)
                    number += 1
                    continue
                for frame in frames:
                    yield number, _upright(frame)
                    number += 1
    except (OSError, ValueError):
        yield number, f"{name} ends after {number} frames"


def _upright(frame: Any) -> np.ndarray:
    """A frame in its right orientation: phones store videos rotated."""
    turns = round(getattr(frame, "rotation", 0) / 90) % 4
    image: np.ndarray = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(image, turns))
