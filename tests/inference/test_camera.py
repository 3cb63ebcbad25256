from __future__ import annotations

import pytest

from ctnet.base.errors import CtnetError
from ctnet.inference.camera import Camera, read_projection

MATRIX = [[700.0, 0, 320, 45], [0, 700, 240, -0.3], [0, 0, 1, 0.005]]
NUMBERS = " ".join(str(value) for row in MATRIX for value in row)


@pytest.mark.parametrize("text", [f"P0: {NUMBERS}1\nP2: {NUMBERS}\nR0_rect: 1\n", NUMBERS, f"{NUMBERS}\n"])
def test_a_matrix_is_read_with_its_translation(tmp_path, text):
    (tmp_path / "camera.txt").write_text(text)
    assert read_projection(tmp_path / "camera.txt") == MATRIX
    assert Camera(calib=tmp_path / "camera.txt").record("a.png", 640, 480) == {"calib": MATRIX}


def test_a_folder_has_a_file_for_every_image(tmp_path):
    (tmp_path / "000007.txt").write_text(NUMBERS)
    camera = Camera(calib=tmp_path)
    assert camera.record("deep/000007.png", 640, 480) == {"calib": MATRIX}
    with pytest.raises(CtnetError, match=r"000008\.txt"):
        camera.record("000008.png", 640, 480)


def test_a_focal_length_looks_through_the_middle():
    record = Camera(focal=500).record("a.png", 640, 480)
    assert record == {"calib": [[500, 0, 320, 0], [0, 500, 240, 0], [0, 0, 1, 0]]}
    assert Camera().record("a.png", 640, 480) == {}


@pytest.mark.parametrize("text", ["", "P2: 1 2 3", f"{NUMBERS} 13", NUMBERS.replace("700.0", "nan"), "P2: a"])
def test_what_is_no_matrix_is_named(tmp_path, text):
    (tmp_path / "camera.txt").write_text(text)
    with pytest.raises(CtnetError, match=r"camera\.txt holds no projection matrix; it needs a line 'P2:'"):
        read_projection(tmp_path / "camera.txt")


def test_mistakes(tmp_path):
    with pytest.raises(CtnetError, match="give one of them"):
        Camera(calib=tmp_path, focal=3)
    for focal in (0, -1, float("nan")):
        with pytest.raises(CtnetError, match="must be a positive number"):
            Camera(focal=focal)


def test_a_calibration_may_lie_in_the_images_subfolder(tmp_path):
    rows = [" ".join(map(str, [focal, 0, 0, 0, 0, focal, 0, 0, 0, 0, 1, 0])) for focal in (1, 2, 3)]
    for text, name in zip(rows, ("a/0001.txt", "b/0001.txt", "0002.txt"), strict=True):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    camera = Camera(tmp_path)
    names = ("a/0001.png", "b/0001.png", "c/0002.png")
    assert [camera.record(name, 8, 8)["calib"][0][0] for name in names] == [1, 2, 3]
