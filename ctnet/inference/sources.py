"""Sources of images: files, folders, videos, animations, cameras, addresses."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from ctnet.base.errors import CtnetError
from ctnet.base.files import is_file, read_start, require_regular
from ctnet.base.numbers import whole_number
from ctnet.data.animations import Animation, open_animation
from ctnet.data.image_formats import format_of, stated_depth
from ctnet.data.images import IMAGE_SUFFIXES, ImageError, decode_image, read_image_bytes
from ctnet.inference.pictures import Picture, as_rgb
from ctnet.inference.streams import is_address, open_stream, shown
from ctnet.inference.videos import VIDEO_SUFFIXES, Numbered, open_video

#: Image formats that are not supported; each such file is reported rather than silently left out.
_UNREAD_SUFFIXES = (".heic", ".heif", ".jxl", ".exr", ".hdr", ".psd")

#: 16-bit images whose largest upper byte is below this are almost black.
_DARK = 16


@dataclass(frozen=True)
class Frame:
    """One image of a source.

    Attributes:
        image: (H, W, 3) uint8, RGB; None when it could not be read (``problem`` says why), or when there is
            only a ``note``.
        name: the file's name, relative to the folder that was given; for videos, stem and frame number.
        problem: why the image or frame was skipped.
        note: anything else the user should know about the image, or about its source if there is no image.
    """

    image: np.ndarray | None
    name: str
    problem: str = ""
    note: str = ""


@dataclass(frozen=True)
class Source:
    """A sequence of frames.

    Attributes:
        name: the text that the user gave, without the password of an address.
        is_video: whether its pictures become a video.
        length: number of frames; None when unknown.
        read: yields the frames.
        stem: name of the output video without suffix, relative to the output folder.
        rate: frames per second of a video.
        files: the files that it reads.
    """

    name: str
    is_video: bool
    length: int | None
    read: Callable[[], Iterator[Frame]]
    stem: str = ""
    rate: float = 25.0
    files: tuple[Path, ...] = ()

    def __iter__(self) -> Iterator[Frame]:
        return self.read()


def open_sources(texts: Sequence[str]) -> list[Source]:
    """Open the sources that a user gave; all are checked before any is read.

    Args:
        texts: images, folders (searched recursively for images and videos), videos, animations, camera
            numbers, addresses (``rtsp://``, ``http://``).

    Returns:
        One source for the images of each text, and one for each video and animation.

    Raises:
        CtnetError: when a source does not exist, contains neither images nor videos, or cannot be played.
    """
    return [source for text in texts for source in _opened(text)]


def stream_frames(source: str | Path | Iterable[Picture], bgr: bool = False) -> Iterator[Frame]:
    """The frames of one video, as ``Detector.stream`` takes it.

    Args:
        source: a source's text, or frames in memory.
        bgr: whether arrays have their channels in OpenCV's order.

    Raises:
        CtnetError: for a source that cannot be read, a text that names several videos, and a frame that
            is not an image.
    """
    if not isinstance(source, (str, Path)):
        for number, picture in enumerate(source):
            yield Frame(as_rgb(picture, f"frame {number}", bgr), f"frame_{number:06d}")
        return
    opened = open_sources([str(source)])
    if len(opened) > 1:
        names = ", ".join(one.name for one in opened[:3])
        raise CtnetError(f"{source} holds several videos ({names}); a stream is one of them: name it")
    yield from opened[0]


def _opened(text: str) -> list[Source]:
    path = Path(text)
    if is_address(text):
        return [_address(text)]
    if whole_number(text) is not None and not path.exists():
        return [_video(text, f"camera{text}")]
    if path.is_dir():
        return _folder(path, text)
    if not path.exists() and glob.has_magic(text):
        return _matching(text)
    if not path.exists():
        raise CtnetError(f"{path} does not exist; give an image, a folder, a video or a camera number")
    require_regular(path)
    if animation := open_animation(path):
        return [_animation(text, animation, path.stem)]
    start = read_start(path, 1024)
    is_image = format_of(start[:32]) != "" or path.suffix.lower() in IMAGE_SUFFIXES
    if is_image:
        return [_images(text, [(path, path.name)])]
    if path.suffix.lower() not in VIDEO_SUFFIXES and (not start or _is_text(start)):
        said = "a text file, not an image or a video" if start else "empty"
        return [_skipped(path, f"{path} is {said}")]
    return [_video(text, path.stem)]


def _skipped(path: Path, problem: str) -> Source:
    """A source of nothing, which names a file."""
    frame = Frame(None, path.name, problem)
    return Source(str(path), False, 1, lambda: iter([frame]), files=(path,))


def _matching(pattern: str) -> list[Source]:
    """The sources that match a pattern which no shell expanded, sorted: files, else folders.

    As in a folder, a file that cannot be played does not prevent the others from being read.
    """
    paths = [Path(name) for name in sorted(glob.glob(pattern, recursive=True))]
    paths = [path for path in paths if is_file(path)] or paths
    if not paths:
        raise CtnetError(f"no file matches {pattern}")
    sources = []
    for path in paths:
        try:
            sources += _opened(str(path))
        except CtnetError as error:
            sources.append(_skipped(path, str(error)))
    return sources


def _is_text(start: bytes) -> bool:
    try:
        start.decode()
    except UnicodeDecodeError as error:
        return error.end == len(start) and b"\0" not in start  # cut within a character
    return bool(start) and b"\0" not in start


def _folder(folder: Path, text: str) -> list[Source]:
    """One source for the images of a folder, and one for every video and animation in it."""
    images: list[tuple[Path, str]] = []
    moving: list[Source] = []
    for path in sorted(folder.rglob("*")):
        suffix, name = path.suffix.lower(), str(path.relative_to(folder))
        stem = name.removesuffix(path.suffix)
        if suffix in VIDEO_SUFFIXES and is_file(path):
            moving.append(_video_or_problem(path, stem, name))
        elif suffix in IMAGE_SUFFIXES or suffix in _UNREAD_SUFFIXES:
            animation = open_animation(path)
            if animation is None:
                images.append((path, name))
            else:
                moving.append(_animation(str(path), animation, stem))
    if not images and not moving:
        raise CtnetError(
            f"{folder} contains no images ({', '.join(IMAGE_SUFFIXES)}) and no videos "
            f"({', '.join(VIDEO_SUFFIXES)})"
        )
    return [*([_images(text, images)] if images else []), *moving]


def _images(text: str, files: Sequence[tuple[Path, str]]) -> Source:
    def read() -> Iterator[Frame]:
        for path, name in files:
            try:
                data = read_image_bytes(path)
                image = decode_image(path, data)
                yield Frame(image, name, note=_note(path, data, image))
            except ImageError as error:
                yield Frame(None, name, str(error))

    return Source(text, False, len(files), read, files=tuple(path for path, _ in files))


def _note(path: Path | str, data: bytes, image: np.ndarray) -> str:
    """A warning about images with 12 bits in 16, whose upper byte is almost empty."""
    if stated_depth(data) != 16 or not image.size or image.max() >= _DARK:
        return ""
    return (
        f"{path} is almost black: the upper byte of 16-bit samples is read, and its samples use only the "
        "lower bits (such as 12 of 16); scale them to 16 bits first"
    )


def _animation(text: str, animation: Animation, stem: str) -> Source:
    def read() -> Iterator[Frame]:
        try:
            for number, found in enumerate(animation):
                name = f"{stem}_{number:06d}"
                if isinstance(found, ImageError):
                    yield Frame(None, text, str(found))
                else:
                    yield Frame(found, name)
        except ImageError as error:
            yield Frame(None, text, str(error))

    is_film = animation.rate > 0
    return Source(
        text, is_film, animation.length, read, stem, animation.rate if is_film else 25.0, (animation.path,)
    )


def _video(text: str, stem: str) -> Source:
    video = open_video(text)
    files = () if whole_number(text) is not None and not Path(text).exists() else (Path(text),)
    return Source(text, True, video.length, lambda: _named(video, text, stem), stem, video.rate, files)


def _video_or_problem(path: Path, stem: str, name: str) -> Source:
    """A video in a folder; if it cannot be played it becomes a problem, and the others are still read."""
    try:
        return _video(str(path), stem)
    except CtnetError as error:
        problem = Frame(None, name, str(error))
        return Source(str(path), True, 0, lambda: iter([problem]), stem, files=(path,))


def _address(text: str) -> Source:
    opened, name = open_stream(text), shown(text)
    parts = urlsplit(text)
    stem = Path(parts.path).stem.strip(".") or parts.hostname or "stream"
    if isinstance(opened, bytes):
        return Source(
            name, False, 1, lambda: _downloaded(name, Path(parts.path).name.strip(".") or stem, opened)
        )

    def read() -> Iterator[Frame]:
        for number, found in opened:
            if isinstance(found, str):
                yield Frame(None, name, note=found)
            else:
                yield Frame(found, f"{stem}_{number:06d}")

    return Source(name, True, opened.length, read, stem, opened.rate)


def _downloaded(name: str, file_name: str, data: bytes) -> Iterator[Frame]:
    try:
        image = decode_image(name, data)
        yield Frame(image, file_name, note=_note(name, data, image))
    except ImageError as error:
        yield Frame(None, file_name, str(error))


def _named(frames: Iterable[Numbered], source: str, stem: str) -> Iterator[Frame]:
    for number, found in frames:
        if isinstance(found, str):
            yield Frame(None, source, found)
        else:
            yield Frame(found, f"{stem}_{number:06d}")
