from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from ctnet.base.errors import CtnetError
from ctnet.report import videos
from ctnet.report.videos import VideoFile


def written(path: Path, images: list[np.ndarray], rate: float = 10) -> VideoFile:
    file = VideoFile(path, rate)
    for number, image in enumerate(images):
        file.write(f"{number}", image)
    assert file.close() == [path]
    return file


def read(path: Path) -> tuple[list[np.ndarray], str, float]:
    """Frames (RGB), codec and rate."""
    capture = cv2.VideoCapture(str(path))
    code = int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little").decode()
    rate = capture.get(cv2.CAP_PROP_FPS)
    frames = []
    while (found := capture.read())[0]:
        frames.append(found[1][:, :, ::-1])
    return frames, code, rate


@pytest.fixture(params=["pyav", "opencv"])
def encoder(request, monkeypatch) -> str:
    if request.param == "pyav":
        pytest.importorskip("av")
    else:
        monkeypatch.setitem(sys.modules, "av", None)
    return request.param


@pytest.mark.parametrize("rate", [10, 29.97, 0.5, 23.976])
def test_frames_rate_and_codec(tmp_path: Path, encoder: str, rate: float) -> None:
    images = [np.full((48, 64, 3), (40 * number, 90, 200), np.uint8) for number in range(5)]
    file = written(tmp_path / "deep" / "a b é.mp4", images, rate)
    frames, code, found = read(file.path)
    assert found == pytest.approx(rate, rel=1e-3)
    assert len(frames) == 5
    for image, frame in zip(images, frames, strict=True):
        np.testing.assert_allclose(frame.mean((0, 1)), image.mean((0, 1)), atol=6)
    if encoder == "pyav":
        assert (code, file.note) == ("h264", "")
    elif code != "h264":
        assert "is MPEG-4 Part 2, which browsers do not show" in file.note
        assert "pip install 'ctnet-toolkit[video]'" in file.note


def test_odd_sides_keep_every_pixel(tmp_path: Path, encoder: str) -> None:
    image = np.full((47, 63, 3), 200, np.uint8)
    frames, _, _ = read(written(tmp_path / "a.mp4", [image]).path)
    assert frames[0].shape == (48, 64, 3)
    np.testing.assert_allclose(frames[0][-1, -1], 200, atol=6)


def test_frames_of_other_sizes_are_fitted(tmp_path: Path, encoder: str) -> None:
    """OpenCV's writer would drop them silently."""
    images = [np.full(shape, 200, np.uint8) for shape in ((48, 64, 3), (96, 64, 3), (10, 10, 3), (48, 64, 3))]
    frames, _, _ = read(written(tmp_path / "a.mp4", images).path)
    assert [frame.shape for frame in frames] == [(48, 64, 3)] * 4
    assert frames[1][24, 2].max() < 30  # black next to the tall one
    assert frames[1][24, 32].min() > 170
    assert frames[2][24, 32].min() > 170


def test_nothing_is_written_of_nothing(tmp_path: Path) -> None:
    assert VideoFile(tmp_path / "a.mp4", 10).close() == []
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, encoder: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CtnetError, match=r"cannot write .*a\.mp4"):
        VideoFile(tmp_path / "file" / "a.mp4", 10).write("0", np.zeros((48, 64, 3), np.uint8))


def test_what_does_not_play_back_is_an_error(tmp_path: Path, encoder: str, monkeypatch) -> None:
    file = VideoFile(tmp_path / "a.mp4", 10)
    file.write("0", np.zeros((48, 64, 3), np.uint8))
    monkeypatch.setattr(videos, "_plays", lambda path: False)
    with pytest.raises(CtnetError, match=r"a\.mp4 cannot be played back; is the disk full\?"):
        file.close()


def test_looking_for_an_encoder_prints_nothing(tmp_path: Path) -> None:
    code = """
import sys
sys.modules["av"] = None
from pathlib import Path
import numpy as np
from ctnet.report.videos import VideoFile
file = VideoFile(Path(sys.argv[1]), 10)
file.write("0", np.zeros((48, 64, 3), np.uint8))
file.close()
"""
    target = str(tmp_path / "a.mp4")  # FFmpeg reads its log level once per process
    done = subprocess.run([sys.executable, "-c", code, target], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
