from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

from ctnet.base.errors import CtnetError
from ctnet.data.images import OPENCV_LOG, SILENT
from ctnet.inference import videos
from ctnet.inference.videos import open_video


def noise(count: int, width: int = 64, height: int = 48) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3)).astype(np.uint8)


@contextmanager
def usual_priority() -> Iterator[None]:
    """SVT-AV1 gives root's process real-time priority, which would starve all others from then on."""
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


def test_encoding_leaves_the_priority_as_it_was(tmp_path: Path) -> None:
    if not hasattr(os, "sched_getscheduler"):
        pytest.skip("this system has no scheduling policies")
    before = os.sched_getscheduler(0)
    write(tmp_path / "a.mp4", "av1")
    assert os.sched_getscheduler(0) == before


def write(path: Path, codec: str, count: int = 12, pixels: str = "yuv420p") -> Path:
    """A video of noise, 10 frames per second."""
    av = pytest.importorskip("av")
    os.environ.setdefault("SVT_LOG", "0")
    if codec == "av1":
        codec = "libsvtav1" if "libsvtav1" in av.codecs_available else "libaom-av1"
    with usual_priority(), av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10, options={"g": "1"} if codec == "libx264" else {})
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixels
        for image in noise(count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def read(video: videos.Video) -> tuple[list[int], list[str]]:
    """Numbers of the frames that were read, and the texts."""
    found = list(video)
    assert all(one.shape == (48, 64, 3) for _, one in found if isinstance(one, np.ndarray))
    return (
        [number for number, one in found if isinstance(one, np.ndarray)],
        [one for _, one in found if isinstance(one, str)],
    )


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", "libx264"),
        ("A.MOV", "libx264"),
        ("a.mkv", "libx264"),
        ("a.webm", "libvpx-vp9"),
        ("a.mpg", "mpeg2video"),
        ("a.ts", "libx264"),
        ("a.wmv", "wmv2"),
        ("a.flv", "flv1"),
        ("a.3gp", "mpeg4"),
        ("a.h264", "libx264"),
        ("Über uns 1.avi", "mpeg4"),
    ],
)
def test_containers_and_codecs(tmp_path: Path, name: str, codec: str) -> None:
    video = open_video(str(write(tmp_path / name, codec)))
    assert not video.by_pyav
    assert read(video) == (list(range(12)), [])


def test_what_opencv_lacks_is_read_by_pyav(tmp_path: Path) -> None:
    """OpenCV's wheels open AV1 and decode none of it."""
    path = write(tmp_path / "a.mp4", "av1")
    video = open_video(str(path))
    assert (video.length, video.rate) == (12, 10)
    assert read(video) == (list(range(12)), [])


def test_without_pyav_the_extra_is_named(tmp_path: Path, monkeypatch) -> None:
    path = write(tmp_path / "a.mp4", "av1")
    if not open_video(str(path)).by_pyav:
        pytest.skip("this OpenCV decodes AV1")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(CtnetError, match=r"reads no frame; .*pip install 'ctnet-toolkit\[video\]'"):
        open_video(str(path))


def breaks(path: Path, which: int) -> Path:
    """Fill the data of a frame with zeros."""
    av = pytest.importorskip("av")
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][which]
        at, size = packet.pos, packet.size
    data = bytearray(path.read_bytes())
    data[at + 8 : at + size] = bytes(size - 8)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "libx264"), ("a.avi", "mpeg4"), ("a.webm", "libvpx-vp9")]
)
@pytest.mark.parametrize("by_pyav", [False, True])
def test_a_broken_frame_is_named_and_the_rest_is_read(
    tmp_path: Path, name: str, codec: str, by_pyav: bool
) -> None:
    path = breaks(write(tmp_path / name, codec), 5)
    video = videos._by_pyav(str(path)) if by_pyav else open_video(str(path))
    numbers, texts = read(video)
    assert len(numbers) == 11
    assert len(texts) == 1
    assert texts[0].startswith(f"{path}: frame ")
    assert numbers == [number for number in range(12) if f"frame {number} cannot" not in texts[0]]


def test_a_frame_that_opencv_passes_over_is_named_by_its_time(tmp_path: Path) -> None:
    video = videos.Video("a.ts", 6, 10.0)
    assert list(videos._missing(video, 5, [0.0, 0.1, 0.3, 0.4, 0.5])) == ["a.ts: frame 2 cannot be read"]
    assert list(videos._missing(video, 3, [0.0, 0.1, 0.2])) == ["a.ts ends after 3 of 6 frames"]
    assert list(videos._missing(video, 0, [])) == ["a.ts ends after 0 of 6 frames"]
    # the rate varies, and what the file states is an estimate
    assert list(videos._missing(video, 5, [0.0, 0.11, 0.16, 0.31, 0.49])) == []


def test_a_video_that_is_cut_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", "libx264")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    numbers, texts = read(open_video(str(path)))
    assert 3 <= len(numbers) < 9
    assert texts == [f"{path} ends after {len(numbers)} of 12 frames"] or "cannot be read" in texts[0]


def test_a_codec_that_nobody_knows_is_one_line(tmp_path: Path) -> None:
    """FFmpeg has no decoder for it, for which PyAV has an error of its own."""
    path = tmp_path / "a.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (48, 32))
    for _ in range(3):
        writer.write(np.zeros((32, 48, 3), np.uint8))
    writer.release()
    path.write_bytes(path.read_bytes().replace(b"MJPG", b"ZZZZ"))
    with pytest.raises(CtnetError, match=r"cannot play .*a\.avi"):
        open_video(str(path))


@pytest.mark.parametrize("without", [False, True])
@pytest.mark.parametrize("name", ["empty.mp4", "text.mp4", "noise.avi", "sound.mp4", "ansi.txt"])
def test_what_does_not_play_is_one_line(tmp_path: Path, monkeypatch, name: str, without: bool) -> None:
    path = tmp_path / name
    contents = {
        "empty": b"",
        "text": b"hello " * 99,
        "noise": noise(2).tobytes(),
        "ansi": b"\x1b[1mhello\n" * 99,
    }
    if name == "sound.mp4":
        av = pytest.importorskip("av")
        with av.open(str(path), "w") as container:
            stream = container.add_stream("aac", rate=44100)
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 2048), np.float32), format="flt", layout="mono")
            frame.sample_rate = 44100
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    else:
        path.write_bytes(contents[path.stem])
    if without:
        monkeypatch.setitem(sys.modules, "av", None)
    said = {"empty": ": it is empty", "text": ": it is a text file", "ansi": ": it is a text file"}
    with pytest.raises(CtnetError, match=f"cannot play .*{name}{said.get(path.stem, '')}") as caught:
        open_video(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), 90000.0, 1000.0])
def test_a_rate_that_no_video_has_is_the_usual_one(rate: float) -> None:
    assert videos.rate_or_usual(rate) == 25
    assert videos.rate_or_usual(29.97) == 29.97


def test_frames_of_another_size_are_frames(tmp_path: Path) -> None:
    """OpenCV scales them to the first one's size."""
    av = pytest.importorskip("av")
    parts = []
    for width, height in ((64, 48), (96, 80)):
        path = tmp_path / f"{width}.h264"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=10)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for image in noise(3, width, height):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode(None))
        parts.append(path.read_bytes())
    (tmp_path / "a.h264").write_bytes(b"".join(parts))
    assert len([one for _, one in open_video(str(tmp_path / "a.h264")) if isinstance(one, np.ndarray)]) == 6


def test_a_video_that_is_stored_turned_is_seen_upright() -> None:
    class Turned:
        rotation = 90

        def to_ndarray(self, format: str) -> np.ndarray:
            return noise(1)[0]

    assert videos._upright(Turned()).shape == (64, 48, 3)
    np.testing.assert_array_equal(videos._upright(Turned()), np.rot90(noise(1)[0]))


def test_opencv_is_silent(tmp_path: Path) -> None:
    videos.capture_of(str(tmp_path / "gone.mp4"))
    assert OPENCV_LOG.getLogLevel() == SILENT
