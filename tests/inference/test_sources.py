from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from ctnet.base.errors import CtnetError
from ctnet.inference.sources import Source, open_sources


def write(path: Path, value: int = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((20, 30, 3), value, np.uint8))
    return path


def open_source(text: str) -> Source:
    """The only source of a text."""
    (source,) = open_sources([text])
    return source


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


def test_a_folder_is_searched_recursively_in_order_and_by_suffix(tmp_path: Path) -> None:
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


def test_a_folder_of_a_number_is_not_a_camera(tmp_path: Path, monkeypatch) -> None:
    write(tmp_path / "3" / "a.png")
    monkeypatch.chdir(tmp_path)
    assert not open_source("3").is_video


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "nowhere does not exist; give an image, a folder, a video or a camera number"),
        ("empty", r"empty contains no images \(\.jpg, "),
        ("broken.mp4", r"cannot play .*broken\.mp4; is it a whole video file"),
        ("977", "cannot play camera 977; .*a camera that exists"),
    ],
)
def test_what_cannot_be_opened_says_why(tmp_path: Path, monkeypatch, name, message) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.mp4").write_bytes(b"\0no video")
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


# --- what files are, whatever they are called


def animation(path: Path, count: int = 3) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = [Image.new("RGB", (32, 24), (70 * number, 0, 99)) for number in range(count)]
    pictures[0].save(
        path, save_all=True, append_images=pictures[1:], **({} if "tif" in path.name else {"duration": 50})
    )
    return path


def test_a_folder_of_everything(tmp_path: Path, video: Path) -> None:
    folder = tmp_path / "in"
    write(folder / "b.png")
    write(folder / "sub" / "Ä ö.JPG")
    animation(folder / "sub" / "moving.GIF")
    animation(folder / "scan.tiff")
    (folder / "clip.AVI").write_bytes(video.read_bytes())
    (folder / "half.mp4").write_bytes(b"\0" * 99)
    (folder / "phone.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    (folder / "notes.txt").write_text("no image")
    sources = open_sources([str(folder)])
    assert [Path(source.name).name for source in sources] == [
        "in", "clip.AVI", "half.mp4", "scan.tiff", "moving.GIF"
    ]  # fmt: skip
    assert [source.is_video for source in sources] == [False, True, True, False, True]
    assert [source.stem for source in sources[1:]] == ["clip", "half", "scan", "sub/moving"]
    frames = [frame for source in sources for frame in source]
    assert [frame.name for frame in frames if frame.image is not None] == [
        "b.png",
        "sub/Ä ö.JPG",
        *(f"clip_{number:06d}" for number in range(6)),
        *(f"scan_{number:06d}" for number in range(3)),
        *(f"sub/moving_{number:06d}" for number in range(3)),
    ]
    heic, half = [frame.problem for frame in frames if frame.image is None]
    assert (
        "phone.HEIC is not an image that can be read (HEIC is not supported; save it as PNG or JPEG)" in heic
    )
    assert "cannot play" in half


def test_a_folder_of_videos_alone(tmp_path: Path, video: Path) -> None:
    (source,) = open_sources([str(tmp_path)])
    assert (source.is_video, source.name) == (True, str(video))


@pytest.mark.parametrize("name", ["picture", "picture.dat", "picture.mp4"])
def test_an_image_is_known_by_its_content(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "a.png").rename(tmp_path / name)
    (frame,) = open_source(str(path))
    assert frame.image is not None
    assert not open_source(str(path)).is_video


@pytest.mark.parametrize("name", ["clip", "clip.dat", "CLIP.AVI"])
def test_a_video_may_have_any_suffix(video: Path, name: str) -> None:
    source = open_source(str(video.rename(video.with_name(name))))
    assert (source.is_video, len(list(source))) == (True, 6)


@pytest.mark.parametrize("name", ["notes.txt", "labels.json"])
def test_a_text_file_is_named_and_skipped(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("some words\n" * 9)
    good, text = open_sources([str(write(tmp_path / "a.png")), str(tmp_path / name)])
    assert [frame.problem for frame in good] == [""]
    (frame,) = text
    assert frame.image is None
    assert f"{name} is a text file, not an image or a video" in frame.problem


def test_an_empty_file_is_named_and_skipped(tmp_path: Path) -> None:
    (tmp_path / "empty.dat").touch()
    good, empty = open_sources([str(write(tmp_path / "a.png")), str(tmp_path / "empty.dat")])
    assert [frame.problem for frame in good] == [""]
    (frame,) = empty
    assert (frame.image, frame.problem) == (None, f"{tmp_path / 'empty.dat'} is empty")


def test_a_file_that_matches_and_does_not_play_keeps_none_from_being_read(tmp_path: Path) -> None:
    write(tmp_path / "a.png")
    write(tmp_path / "z.png")
    (tmp_path / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0" + bytes(600))
    frames = [frame for source in open_sources([str(tmp_path / "*")]) for frame in source]
    assert [frame.name for frame in frames] == ["Thumbs.db", "a.png", "z.png"]
    assert [frame.image is None for frame in frames] == [True, False, False]
    assert f"cannot play {tmp_path / 'Thumbs.db'}" in frames[0].problem
    with pytest.raises(CtnetError, match="cannot play"):  # a file named explicitly must play
        open_sources([str(tmp_path / "Thumbs.db")])


def test_an_animation_has_its_rate(tmp_path: Path) -> None:
    source = open_source(str(animation(tmp_path / "a.webp")))
    assert (source.is_video, source.length, source.rate, source.stem) == (True, 3, 20, "a")
    assert [frame.name for frame in source] == ["a_000000", "a_000001", "a_000002"]
    pages = open_source(str(animation(tmp_path / "a.tif")))
    assert (pages.is_video, pages.length) == (False, 3)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_a_picture_of_12_bits_in_16_is_reported_as_black(tmp_path: Path, suffix: str) -> None:
    ramp = np.linspace(0, 4095, 600).reshape(20, 30).astype(np.uint16)
    cv2.imwrite(str(tmp_path / f"dark{suffix}"), ramp)
    cv2.imwrite(str(tmp_path / f"light{suffix}"), ramp * 16)
    cv2.imwrite(str(tmp_path / f"night{suffix}"), np.zeros((20, 30), np.uint8))
    dark, light, night = open_source(str(tmp_path))
    assert "is almost black: the upper byte of 16-bit samples is read" in dark.note
    assert (light.note, night.note) == ("", "")
