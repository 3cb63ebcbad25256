"""Writing videos: H.264, which browsers show, where an encoder is at hand; MPEG-4 Part 2 elsewhere."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Protocol

import numpy as np

from ctnet.base.errors import CtnetError, os_error
from ctnet.base.pyav import EXTRA, pyav
from ctnet.data.images import name_for_opencv, silence_videos

_ENCODERS = ("libx264", "libopenh264")


class VideoFile:
    """An MP4 of frames; the first one sets the size, later ones of another size are fitted into it.

    Attributes:
        note: what the user should know of the file that was written; empty for H.264.
    """

    def __init__(self, path: Path, rate: float) -> None:
        self.path, self.rate = path, rate
        self.note = ""
        self._encoder: _Encoder | None = None
        self._size = (0, 0)  # width, height: both even

    def write(self, name: str, image: np.ndarray) -> Path:
        """Append a frame; the path of the file.

        Args:
            name: the name of the frame; not stored.
            image: (H, W, 3) uint8, RGB.

        Raises:
            CtnetError: when the file cannot be written.
        """
        try:
            if self._encoder is None:
                self._size = image.shape[1] + image.shape[1] % 2, image.shape[0] + image.shape[0] % 2
                self._encoder = self._opened()
            self._encoder.write(_fitted(image, *self._size))
        except OSError as error:
            raise os_error(error, "write", self.path) from error
        return self.path

    def close(self) -> list[Path]:
        """Finish the file.

        Returns:
            Its path; nothing where no frame was written.

        Raises:
            CtnetError: when what was written does not play.
        """
        if self._encoder is None:
            return []
        try:
            self._encoder.close()
        except OSError as error:
            raise os_error(error, "write", self.path) from error
        if not _plays(self.path):
            raise CtnetError(f"{self.path} cannot be played back; is the disk full?")
        return [self.path]

    def _opened(self) -> _Encoder:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        codec = _h264_encoder()
        if codec:
            return _ByPyav(self.path, codec, self.rate, *self._size)
        encoder = _ByOpencv(self.path, "avc1", self.rate, *self._size)
        if not encoder.opened:
            encoder = _ByOpencv(self.path, "mp4v", self.rate, *self._size)
            self.note = (
                f"{self.path} is MPEG-4 Part 2, which browsers do not show: no H.264 encoder was found; "
                f"{EXTRA} brings one"
            )
        if not encoder.opened:
            raise CtnetError(f"cannot write {self.path}; is the folder writable?")
        return encoder


class _Encoder(Protocol):
    def write(self, image: np.ndarray) -> None: ...
    def close(self) -> None: ...


class _ByPyav:
    """H.264 by PyAV's FFmpeg."""

    def __init__(self, path: Path, codec: str, rate: float, width: int, height: int) -> None:
        self._av = pyav()
        self._container = self._av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"})
        self._stream = self._container.add_stream(codec, rate=Fraction(rate).limit_denominator(1001))
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"

    def write(self, image: np.ndarray) -> None:
        self._container.mux(self._stream.encode(self._av.VideoFrame.from_ndarray(image, format="rgb24")))

    def close(self) -> None:
        try:
            self._container.mux(self._stream.encode(None))
        finally:
            self._container.close()


class _ByOpencv:
    """What OpenCV finds on this machine: macOS and Windows have H.264, its Linux wheels have not."""

    def __init__(self, path: Path, code: str, rate: float, width: int, height: int) -> None:
        import cv2

        silence_videos()
        name = name_for_opencv(path)
        self._writer = cv2.VideoWriter(name, cv2.VideoWriter.fourcc(*code), rate, (width, height))
        self.opened: bool = self._writer.isOpened()

    def write(self, image: np.ndarray) -> None:
        self._writer.write(np.ascontiguousarray(image[:, :, ::-1]))

    def close(self) -> None:
        self._writer.release()


def _h264_encoder() -> str | None:
    """The name of an encoder that PyAV has; None without PyAV."""
    av = pyav()
    return None if av is None else next((name for name in _ENCODERS if name in av.codecs_available), None)


def _fitted(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """A frame of exactly this size: an odd side gets its last line twice, other sizes are scaled to fit."""
    import cv2

    down, right = height - image.shape[0], width - image.shape[1]
    if 0 <= down <= 1 and 0 <= right <= 1:
        return np.ascontiguousarray(np.pad(image, ((0, down), (0, right), (0, 0)), mode="edge"))
    scale = min(width / image.shape[1], height / image.shape[0])
    inner = max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1)
    canvas = np.zeros((height, width, 3), np.uint8)
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    canvas[top : top + inner[1], left : left + inner[0]] = cv2.resize(
        image, inner, interpolation=cv2.INTER_AREA
    )
    return canvas


def _plays(path: Path) -> bool:
    """Whether a video file can be opened and has a first frame (OpenCV's writer reports no full disk)."""
    import cv2

    capture = cv2.VideoCapture(name_for_opencv(path))
    good = bool(capture.read()[0])
    capture.release()
    return good
