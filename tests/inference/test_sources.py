from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from ctnet.base.errors import CtnetError
from ctnet.inference.sources import open_source, open_sources


def write(path: Path, value: int = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((20, 30, 3), value, np.uint8))
    return path


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Six frames of 64x48 at 10 frames per second, each red channel brighter than the one before."""
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for number in range(6):
        writer.write(np.full((48, 64, 3), (0, 0, 40 * number), np.uint8))
    writer.release()
    return path


def test_a_file(tmp_path: Path) -> None:
    source = open_source(str(write(tmp_path / "a.png", 77)))
    (frame,) = source
    assert (frame.name, frame.problem, source.length, source.is_video) == ("a.png", "", 1, False)
    assert frame.image is not None
    assert frame.image.shape == (20, 30, 3)
    assert (frame.image == 77).all()


def test_a_folder_is_searched_deeply_in_order_and_by_suffix(tmp_path: Path) -> None:
    for name in ("b.png", "a/z.JPG", "a/b/c.webp", "d.bmp"):
        write(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    source = open_source(str(tmp_path))
    assert [frame.name for frame in source] == ["a/b/c.webp", "a/z.JPG", "b.png", "d.bmp"]
    assert source.length == 4


def test_an_unreadable_image_is_a_frame_with_a_problem(tmp_path: Path) -> None:
    write(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"no image at all")
    bad, good = open_source(str(tmp_path))
    assert bad.image is None
    assert "bad.png is not an image" in bad.problem
    assert good.image is not None


def test_a_video(video: Path) -> None:
    source = open_source(str(video))
    frames = list(source)
    assert (source.is_video, source.length, source.rate) == (True, 6, 10)
    assert [frame.name for frame in frames] == [f"clip_{number:06d}" for number in range(6)]
    red = [float(frame.image[..., 0].mean()) for frame in frames if frame.image is not None]
    assert np.allclose(red, np.arange(6) * 40, atol=5)
    assert len(list(source)) == 6  # a second pass starts again


def test_a_folder_of_a_number_is_no_camera(tmp_path: Path, monkeypatch) -> None:
    write(tmp_path / "3" / "a.png")
    monkeypatch.chdir(tmp_path)
    assert not open_source("3").is_video


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "nowhere does not exist; name an image, a folder, a video or a camera's number"),
        ("empty", r"empty holds no image \(\.jpg, "),
        ("broken.mp4", r"cannot play .*broken\.mp4; is it a whole video file"),
        ("977", "cannot play camera 977; .*a camera that exists"),
    ],
)
def test_what_cannot_be_opened_says_why(tmp_path: Path, monkeypatch, name, message) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CtnetError, match=message):
        open_source(name)


def test_all_sources_are_checked_first(tmp_path: Path) -> None:
    good = str(write(tmp_path / "a.png"))
    assert [source.name for source in open_sources([good, str(tmp_path)])] == [good, str(tmp_path)]
    with pytest.raises(CtnetError, match="does not exist"):
        open_sources([good, str(tmp_path / "gone.png")])


def test_frames_after_a_broken_one_are_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for number in range(8):
        writer.write(np.full((48, 64, 3), 20 * number, np.uint8))
    writer.release()
    data = bytearray(path.read_bytes())
    chunk = data.index(b"movi")
    for _ in range(4):  # the fourth frame
        chunk = data.index(b"00dc", chunk + 1)
    length = int.from_bytes(data[chunk + 4 : chunk + 8], "little")
    data[chunk + 8 : chunk + 8 + length] = bytes(length)
    path.write_bytes(data)
    frames = list(open_source(str(path)))
    assert [frame.name for frame in frames if frame.image is not None] == [
        f"clip_{number:06d}" for number in (0, 1, 2, 4, 5, 6, 7)
    ]
    assert [frame.problem for frame in frames if frame.image is None] == [f"{path}: frame 3 cannot be read"]
